"""Short runs learn, differ by their augmentation alone, and judge unchanged images."""

from functools import partial

import pandas as pd
import pytest

from facekit.course import short_runs
from facekit.course.short_runs import continued, short_run
from facekit.data import NOTHING, Loader, only
from facekit.evaluation.embed import embed, load_run
from facekit.models.weights import digest


def test_a_short_run_learns_its_images_and_is_the_same_again(course):
    run = short_run(course, NOTHING, epochs=8)
    assert list(run.columns) == ["train", "dev", "upside down"]
    assert list(run.index) == list(range(1, 9))
    assert run["train"].iloc[-1] > 2 / len(course.classes)
    assert run.stack().between(0, 1).all()
    pd.testing.assert_frame_equal(run, short_run(course, NOTHING, epochs=8))


def test_another_augmentation_is_another_run(course):
    plain, flipped = (short_run(course, change, epochs=3) for change in (NOTHING, only(flip=1.0)))
    assert not plain.equals(flipped)


def test_few_people_are_a_smaller_task(course):
    two = short_run(course, NOTHING, people=2, epochs=1)
    shares = two["dev"] * sum(label < 2 for label in course.dev.labels)
    assert (shares.round() - shares).abs().max() < 1e-9


@pytest.mark.parametrize("head", ["linear", "arcface"])
def test_a_run_goes_on_from_where_it_was_and_stays_as_it_is(course, trained, head):
    run = load_run(trained, "cpu")
    before = digest(run.net.state_dict())
    later, again = (continued(run, course, head, NOTHING, epochs=1) for _ in range(2))
    assert digest(later.net.state_dict()) == digest(again.net.state_dict())
    alike = (embed(later, course.dev.paths) * embed(run, course.dev.paths)).sum(1)
    assert 0.9 < alike.min() < alike.max() < 0.999999, "from where it was, and all of it"
    assert ("head.bias" in later.net.state_dict()) is (head == "linear")
    assert digest(run.net.state_dict()) == before


def test_more_images_are_learnt_from_in_as_many_steps(course, trained, monkeypatch):
    seen = []

    class Counting(Loader):
        def batches(self, keys):
            for batch in super().batches(keys):
                seen.append((len(self.paths), batch.images.shape[0]))
                yield batch

    monkeypatch.setattr(short_runs, "Loader", Counting)
    run = load_run(trained, "cpu")
    go_on = partial(continued, run, course, "linear", NOTHING, epochs=3)
    control = go_on()
    steps, few = len(seen), len(course.train.paths)
    assert sum(size for _, size in seen) == 3 * few
    cured = go_on(more=course.dev)
    both = few + len(course.dev.paths)
    assert len(seen) == 2 * steps and {count for count, _ in seen[steps:]} == {both}
    assert digest(control.net.state_dict()) != digest(cured.net.state_dict())
