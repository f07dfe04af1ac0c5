"""What a change costs is a time of every change by every way, and the ways do their work."""

import numpy as np
import torch
from PIL import Image

from facekit.course import costs
from facekit.data.transforms import NOTHING, Preprocess, only

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 32, 3), dtype=np.uint8))


def test_there_is_a_time_for_each_change_and_way():
    changes = {"none": NOTHING, "blur": only(blur=1.0)}
    table = costs.cost_table(IMAGE, Preprocess(16), 20, changes, count=4)
    assert list(table.index) == list(changes)
    assert list(table.columns) == ["v2, one by one", "OpenCV", "tensors"]
    assert (table > 0).all(axis=None)


def test_every_way_changes_as_many_images_in_the_same_colours():
    ways = costs.ways(IMAGE, Preprocess(16), 16, 5)
    made = {name: way(NOTHING) for name, way in ways.items()}
    assert all(batch.shape == (5, 3, 16, 16) for batch in made.values())
    torch.testing.assert_close(made["OpenCV"], made["tensors"], atol=0.03, rtol=0)


def test_work_is_counted_and_the_quickest_time_told(monkeypatch):
    clock = iter([0.0, 0.5, 1.0, 1.2, 2.0, 2.3])
    monkeypatch.setattr(costs.time, "process_time", lambda: next(clock))
    done = []
    assert round(costs.milliseconds(lambda: done.append(1))) == 200
    assert len(done) == costs.ROUNDS
