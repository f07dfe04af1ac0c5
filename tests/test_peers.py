"""The race of benchmarks/peers.py: its turns, its arithmetic, and a few steps of each kind."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from facekit.common.errors import DataError
from facekit.course import baselines

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import contestants
import peers
from contestants import OURS, Trained

KEPT = {"course", "contestant", "variant", "seed"}


def a_run(contestant: str, right: float, seed: int = 0, course: str = "made", **more) -> dict:
    row = {"course": course, "contestant": contestant, "variant": "one", "seed": seed}
    return row | {"dev": right, "classification": right, "verification": right} | more


# --- arithmetic


def test_epochs_are_those_that_fit_into_the_seconds():
    ours = {"seconds once": 10.0, "seconds an epoch": 4.0}
    theirs = {"seconds once": 2.0, "seconds an epoch": 20.0}
    assert peers.epochs_within(None, ours, ours) == 45, "as the recipe has"
    assert peers.epochs_within(None, theirs, ours) == round((10 + 45 * 4 - 2) / 20)
    assert peers.epochs_within(100.0, ours, ours) == round(90 / 4)
    assert peers.epochs_within(5.0, theirs, ours) == 1


def test_of_two_ways_that_of_the_better_dev_accuracy_counts():
    """By the first seed, on each course by itself, whatever they get on test or by other seeds."""
    runs = [a_run("peer", 0.6), a_run("peer", 0.7, 1)]
    runs += [a_run("peer", 0.9, variant="two", dev=0.55), a_run("peer", 0.9, 1, variant="two")]
    runs += [a_run("peer", 0.1, course="real"), a_run("peer", 0.2, course="real", variant="two")]
    rows = peers.summary(runs)
    assert [(row["course"], row["variant"], row["seeds"]) for row in rows] == [
        ("made", "one", 2),
        ("real", "two", 1),
    ]
    assert rows[0]["classification"] == pytest.approx(0.65)


def test_a_mean_has_students_interval():
    """Of 0.1, 0.2 and 0.3 with two degrees of freedom, whose factor is 4.3027."""
    runs = [a_run(OURS, right, seed) for seed, right in enumerate((0.1, 0.2, 0.3))]
    (row,) = peers.summary(runs)
    assert row["classification"] == pytest.approx(0.2)
    assert row["classification ±"] == pytest.approx(4.302653 * 0.1 / 3**0.5)
    assert np.isnan(peers.summary(runs[:1])[0]["classification ±"])


def test_ours_is_compared_on_the_same_seeds():
    runs = [a_run(OURS, 0.5), a_run(OURS, 0.1, 1), a_run("peer", 0.75), a_run("peer", 0.45, 1)]
    runs += [a_run("peer", 0.99, 2), a_run("peer", 0.99, course="real")]
    (row,) = peers.against_ours(runs)
    assert (row["course"], row["contestant"]) == ("made", "peer")
    assert row["classification"] == pytest.approx(0.3)
    assert row["classification ±"] == pytest.approx(12.7062 * 0.05, rel=1e-4)


def test_a_run_without_scores_leaves_the_others_of_its_row():
    ended = {key: value for key, value in a_run("peer", 0, 1).items() if key in KEPT}
    runs = [a_run("peer", 0.5), ended | {"ended": "the loss is NaN"}]
    (row,) = peers.summary(runs)
    assert (row["classification"], row["seeds"]) == (0.5, 2)
    (row,) = peers.summary([runs[1] | {"seed": 0}, a_run("peer", 0.1, variant="two")])
    assert row["variant"] == "two"


def test_orders_agree_where_they_are_the_same():
    names = dict(zip("abcd", (0.1, 0.2, 0.3, 0.4), strict=True))
    runs = [a_run(name, right) for name, right in names.items()]
    runs += [a_run(name, 1 - right, course="real") for name, right in names.items() if name != "d"]
    for run in runs:
        run["verification"] = run["classification"] if run["course"] == "made" else run["dev"] ** -1
    rows = {(row["of"], row["orders"]): row for row in peers.orders(runs)}
    assert rows["classification", "made, real"]["tau-b"] == pytest.approx(-1)
    assert rows["classification", "made, real"]["rows"] == 3
    assert rows["verification", "made, real"]["tau-b"] == pytest.approx(1)
    runs += [a_run(name, right / 2, 1) for name, right in names.items()]
    rows = {(row["of"], row["orders"]): row for row in peers.orders(runs)}
    assert rows["classification", "made seed 0, made seed 1"]["tau-b"] == pytest.approx(1)


# --- the command


def by_pixels(data, epochs, seed, folder, clock) -> Trained:
    """Trains nothing."""
    for _ in range(epochs):
        clock.began -= 1.0
        clock.tick()

    def classify(paths):
        return baselines.nearest_class(data, paths)

    return Trained(0.5, classify, baselines.grey_vectors)


@pytest.fixture
def in_race(course, tmp_path, monkeypatch, capsys):
    """The script with contestants that are quick: the turns it took, and its report."""
    monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path / "cache"))
    named = {OURS: {"laptop": by_pixels}, "peer": {"slow": by_pixels, "fast": by_pixels}}
    monkeypatch.setattr(peers, "CONTESTANTS", named)
    monkeypatch.setattr(peers, "PACE", OURS)
    monkeypatch.setattr(peers, "alone", lambda function, *arguments: function(*arguments))
    out = tmp_path / "peers.json"

    def call(**changes) -> tuple[list[str], dict]:
        given = {"data": [str(course.root)], "seeds": 1, "rows": list(named), "out": out}
        peers.main(**given | changes)
        lines = capsys.readouterr().err.splitlines()
        name = course.root.name
        return [line.removeprefix(f"... {name}, ") for line in lines], json.loads(out.read_text())

    return call


def test_contestants_take_turns_and_a_later_call_goes_on(in_race):
    turns, first = in_race(epochs=1, rows=[OURS])
    assert turns == ["ours, laptop, seed 0: 1 epochs"]
    turns, second = in_race(epochs=1, seeds=2)
    names = ["peer, slow, seed 0", "peer, fast, seed 0", "ours, laptop, seed 1"]
    names += ["peer, slow, seed 1"]  # of two ways that are as good, the first
    assert turns == [f"{name}: 1 epochs" for name in names]
    assert second["tables"]["runs"][:1] == first["tables"]["runs"]
    assert [row["contestant"] for row in second["tables"]["against ours"]] == ["peer"]


def test_each_is_timed_once_and_gets_the_epochs_that_fit(in_race):
    turns, report = in_race(seconds=7.0)
    assert turns[:2] == ["ours, laptop: timing", "ours, laptop, seed 0: 7 epochs"]
    assert [row["seconds an epoch"] for row in report["tables"]["timing"]] == [
        pytest.approx(1, abs=0.1)
    ] * 3
    turns, _ = in_race(seconds=7.0, seeds=2)
    assert len(turns) == 2, "timed already, and one way of two is known to be the better"


def test_a_report_of_other_settings_is_left_alone(in_race, tmp_path, capsys):
    in_race(epochs=1)
    kept = (tmp_path / "peers.json").read_bytes()
    with pytest.raises(SystemExit):
        in_race(epochs=2)
    assert "is of other settings or images; choose another --out" in capsys.readouterr().err
    assert (tmp_path / "peers.json").read_bytes() == kept


def test_a_course_may_be_added_and_none_may_change(in_race, copy_of_course, tmp_path, capsys):
    in_race(epochs=1, rows=[OURS])
    _, report = in_race(epochs=1, rows=[OURS], data=[str(copy_of_course)])
    assert len({row["course"] for row in report["tables"]["summary"]}) == 2
    person = next(path for path in copy_of_course.glob("*classification/train/*"))
    next(person.glob("*.jpg")).unlink()
    with pytest.raises(SystemExit):
        in_race(epochs=1, rows=[OURS], data=[str(copy_of_course)])
    assert "is of another course copy_of_course; choose another --out" in capsys.readouterr().err


def test_who_is_not_there_is_named(monkeypatch):
    known = r"no contestant 'nobody'; there are: ours, ours of 0\.5, timm"
    with pytest.raises(DataError, match=known):
        peers.check_names(["nobody"])
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="timm ResNet-18: pip install timm"):
        peers.check_names([OURS, "timm ResNet-18"])


def test_a_run_has_a_process_of_its_own():
    assert peers.alone(os.getpid) not in (os.getpid(), peers.alone(os.getpid))


# --- a few steps of each kind


@pytest.mark.parametrize(
    ("contestant", "variant"),
    [
        (OURS, "laptop"),
        ("starter", "as given"),
        ("timm MobileNetV3", "lr 0.001, crops from 0.6"),
        ("metric-learning ArcFace", "scale 64, margin 28.6"),
        ("row 12", "as published"),
    ],
)
def test_a_contestant_is_trained_and_scored(contestant, variant, course, tmp_path, monkeypatch):
    pytest.importorskip(peers.NEEDED.get(contestant.split()[0], "torch"))
    monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    entry = peers.Entry("tiny", contestant, variant)
    row = peers.one_run(entry, course.root, 2, 0, threads)
    assert row["epochs"] == 2
    assert row["CPU seconds"] > 0
    for key in ("dev", "classification", "verification", "pairs AUC", "pairs EER"):
        assert 0 <= row[key] <= 1


def test_metric_learnings_head_has_its_loss():
    """The cross-entropy of the head's logits is what the library's own loss gives."""
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    torch.manual_seed(0)
    head = contestants.arcface_head(28.6, 64)(8, 5)
    theirs = losses.ArcFaceLoss(5, 8)
    theirs.W.data = head.loss.W.data
    x, labels = torch.randn(6, 8), torch.tensor([0, 1, 2, 3, 4, 0])
    mine = torch.nn.functional.cross_entropy(head(x, labels), labels)
    assert mine.item() == pytest.approx(theirs(x, labels).item(), rel=1e-5)
    assert torch.equal(head(x), theirs.get_logits(x))


def test_timms_answers_do_not_change_with_the_mirror(course):
    """Both of a picture and its mirror image go into the answer."""
    timm = pytest.importorskip("timm")
    from timm.data import create_transform

    torch.manual_seed(0)
    net = timm.create_model("mobilenetv3_small_050", num_classes=4)
    look = create_transform(48, is_training=False, crop_pct=1.0)
    paths = course.dev.paths[:3]
    logits, pooled = contestants.outputs(net, look, paths)
    turned = contestants.outputs(net, lambda image: look(image).flip(-1), paths)
    np.testing.assert_allclose(logits, turned[0], atol=1e-5)
    np.testing.assert_allclose(pooled, turned[1], atol=1e-4)
    assert (logits.shape, len(pooled)) == ((3, 4), 3)
