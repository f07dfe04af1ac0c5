"""The references of notebook 01's exercises against other people's code."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score
from sklearn.neighbors import NearestNeighbors
from torchvision.datasets import ImageFolder

from facekit.course import exercises
from facekit.course.exercises import exploration
from facekit.data import images
from facekit.data.layout import NO_MATCH

KNOWN = exercises.exercises()


@pytest.mark.parametrize("case", range(8))
def test_labels_are_those_of_torchvision(case, tmp_path):
    (paths,) = KNOWN["class_indices"].cases()[case]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(tmp_path / path)
    folder = dict(ImageFolder(str(tmp_path / "train")).samples)
    wanted = [folder[str(tmp_path / path)] for path in paths]
    assert exploration.class_indices(paths) == wanted


@pytest.mark.parametrize("case", range(8))
def test_the_bounds_are_reached_and_not_passed(case):
    (truth,) = KNOWN["bounds"].cases()[case]
    always, never = exploration.bounds(truth)
    assert always == pytest.approx(accuracy_score(truth, [NO_MATCH] * len(truth)))
    best = ["n999999" if name == NO_MATCH else name for name in truth]
    assert never == pytest.approx(accuracy_score(truth, best))


@pytest.mark.parametrize("case", range(4))
def test_moments_are_those_of_the_files(case, tmp_path):
    (batch,) = KNOWN["channel_moments"].cases()[case]
    paths = [tmp_path / f"{number}.png" for number in range(len(batch))]
    for path, pixels in zip(paths, batch, strict=True):
        Image.fromarray(pixels).save(path)
    statistics = images.channel_statistics(paths)
    mean, std = exploration.channel_moments(batch)
    np.testing.assert_allclose(mean, statistics["mean"], rtol=1e-6)
    np.testing.assert_allclose(std, statistics["std"], rtol=1e-6)


@pytest.mark.parametrize("case", range(8))
def test_neighbours_are_those_of_scikit_learn(case):
    (vectors,) = KNOWN["nearest_other"].cases()[case]
    search = NearestNeighbors(n_neighbors=1, metric="cosine").fit(vectors)
    wanted = search.kneighbors(return_distance=False)[:, 0]  # without the queries themselves
    assert np.array_equal(exploration.nearest_other(vectors), wanted)


def test_folders_are_drawn_that_text_and_numbers_sort_differently():
    for (paths,) in KNOWN["class_indices"].cases():
        names = {Path(path).parent.name for path in paths}
        assert sorted(names) != sorted(names, key=lambda name: int(name[1:]))
