"""A few bad training images are left out as if they were not there; a test image keeps its row."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from facekit import training
from facekit.common.errors import DataError, RunError
from facekit.data import cache as pixel_cache
from facekit.data.cache import most_bad, open_cache
from facekit.data.layout import NO_MATCH, CourseData
from facekit.data.loader import Loader
from facekit.data.pixels import STORAGES, CacheSettings
from facekit.data.transforms import Augment, Preprocess
from facekit.evaluation import embed
from facekit.models.weights import digest
from facekit.sources import set_up
from facekit.sources.profiles import Profile
from facekit.submission import csvs, pipeline
from facekit.training import loop, recipe
from facekit.training.checkpoint import Checkpoints

PROFILE = Profile("hundred", 6, 20, 2, 2, known=9, unknown_dev=9, unknown_test=18, pixels=32)
LONG = ["epochs=6", "batch_size=4", "image_size=32", "precision=float32", "watch=false"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> CourseData:
    """120 training images, so that one bad one is less than a hundredth."""
    return set_up("synthetic", PROFILE, tmp_path_factory.mktemp("whole"), progress=False)


@pytest.fixture
def root(whole: CourseData, tmp_path: Path) -> Path:
    return shutil.copytree(whole.root, tmp_path / "data")


def spoil(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:300])
    return path


@pytest.fixture
def bad(root: Path) -> Path:
    """A training image in the middle that is cut short."""
    return spoil(CourseData(root).train.paths[70])


def small(*changes: str) -> recipe.Recipe:
    settings = ["epochs=2", "batch_size=16", "image_size=32", "precision=float32"]
    return recipe.load("smoke", [*settings, *changes])


def fit(root: Path, out: Path, *changes: str, **keys) -> training.History:
    data = CourseData(root)
    return training.fit(small(*changes), data, out, device="cpu", progress=False, **keys)


def state(out: Path) -> dict[str, str]:
    """Everything a run has learned and noted."""
    found = Checkpoints(out).load_latest()
    return {key: digest(found[key]) for key in ("net", "optimizer", "progress", "content")}


# --- training


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("images_per_class=4",),
        ("margin_head=arcface", "margin_epochs=1"),
        ("augment.mixup=1", "ema_decay=0.9"),
    ],
    ids=["shuffled", "by class", "two stages", "mixed"],
)
def test_a_run_with_a_bad_image_is_the_run_without_the_file(root, bad, tmp_path, changes):
    fit(root, tmp_path / "bad", *changes)
    bad.unlink()
    fit(root, tmp_path / "removed", *changes)
    assert state(tmp_path / "bad") == state(tmp_path / "removed")


def test_what_is_left_out_is_said_once_and_written_down(root, bad, tmp_path, capsys):
    other = tmp_path / "run"
    fit(root, other)
    said = capsys.readouterr().out
    assert said.count(f"{bad}: cannot read this image (") == 1
    assert "1 of 120 training images cannot be read and are left out" in said
    (noted,) = json.loads((other / "environment.json").read_text())["left out"]
    assert noted.startswith(f"{bad}: cannot read this image (")
    fit(root, other)  # is done, and only read
    assert capsys.readouterr().out == ""


def test_of_sound_images_none_is_left_out(whole, tmp_path, capsys):
    fit(whole.root, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["left out"] == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("number", [1, 7, 14])
def test_stopped_and_resumed_with_a_bad_image_it_ends_with_the_same_bits(
    root, bad, tmp_path, number, monkeypatch
):
    fit(root, tmp_path / "whole")
    step, left = loop.train_step, number

    def counting(*arguments):
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    monkeypatch.setattr(loop, "train_step", counting)
    with pytest.raises(training.Interrupted):
        fit(root, tmp_path / "run")
    monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path / "cache"))  # decided anew, in the same way
    fit(root, tmp_path / "run")
    assert state(tmp_path / "run") == state(tmp_path / "whole")


def start(root: Path, out: Path, launcher: tuple = (), *changes: str) -> subprocess.Popen:
    words = [word for change in (*LONG, *changes) for word in ("--set", change)]
    command = [*launcher, "-m", "facekit", "train", "smoke", "--data", root, "--out", out]
    return subprocess.Popen(
        [sys.executable, *map(str, command), "--device=cpu", "--save-minutes=0", *words],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.long
def test_killed_with_a_bad_image_it_ends_with_the_same_bits(root, bad, tmp_path):
    training.fit(recipe.load("smoke", LONG), CourseData(root), tmp_path / "whole", "cpu", False)
    process = start(root, tmp_path / "run")
    deadline = time.monotonic() + 240
    while not Checkpoints(tmp_path / "run").paths():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not Checkpoints(tmp_path / "run").load_latest()["progress"]["done"]  # it landed in time
    again = start(root, tmp_path / "run")
    said, complaints = again.communicate(timeout=240)
    assert again.returncode == 0, complaints
    assert said.count(str(bad)) == 1
    assert state(tmp_path / "run") == state(tmp_path / "whole")


@pytest.mark.long
def test_of_two_processes_one_tells_and_both_leave_it_out(root, bad, tmp_path):
    launcher = "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"
    # 119 by fours: the last batch is one process's alone
    process = start(root, tmp_path / "run", launcher, "epochs=2")
    said, complaints = process.communicate(timeout=300)
    assert process.returncode == 0, complaints
    assert said.count("1 of 120 training images cannot be read") == 1
    progress = Checkpoints(tmp_path / "run").load_latest()["progress"]
    assert (progress["done"], len(progress["rows"])) == (True, 2)


def test_a_repaired_image_is_a_change_of_the_data(root, bad, whole, tmp_path):
    fit(root, tmp_path / "run", max_hours=0)
    before = state(tmp_path / "run")
    shutil.copy(whole.train.paths[70], bad)
    with pytest.raises(RunError, match="the train images have changed since this run began"):
        fit(root, tmp_path / "run")
    assert state(tmp_path / "run") == before


def test_the_bad_file_may_be_removed_and_the_run_goes_on(root, bad, tmp_path):
    fit(root, tmp_path / "whole")
    fit(root, tmp_path / "run", max_hours=0)
    bad.unlink()
    fit(root, tmp_path / "run")
    assert state(tmp_path / "run") == state(tmp_path / "whole")


def test_an_image_that_breaks_on_the_way_is_named(root, tmp_path):
    fit(root, tmp_path / "run", max_hours=0)
    before = state(tmp_path / "run")
    path = spoil(CourseData(root).train.paths[3])
    with pytest.raises(RunError, match=rf"train images have changed .*{path}: cannot read"):
        fit(root, tmp_path / "run")
    assert state(tmp_path / "run") == before


def test_more_than_a_hundredth_stops_before_the_first_step(root, bad, tmp_path):
    spoil(CourseData(root).train.paths[2])
    with pytest.raises(DataError, match="replace or remove it; 2 such images in all"):
        fit(root, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_class_that_would_lose_all_its_images_is_named(root, tmp_path):
    data = CourseData(root)
    last, *others = [p for p, y in zip(data.train.paths, data.train.labels, strict=True) if y == 4]
    for path in others:
        path.unlink()
    spoil(last)  # one of 101
    with pytest.raises(DataError, match=f"{last.parent}: none of its images can be read"):
        fit(root, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_dev_image_is_never_left_out(root, tmp_path):
    path = spoil(CourseData(root).dev.paths[3])
    with pytest.raises(DataError, match=f"{path}: cannot read this image"):
        fit(root, tmp_path / "run")


# --- the loader and the cache


def load(root: Path, folder: Path, storage: str) -> Loader:
    data = CourseData(root).train
    cache = CacheSettings(folder, storage, max_bad_fraction=0.01, progress=False)
    return Loader(
        data.paths, data.labels, Preprocess(32), CPU, augment=Augment(), seed=3, cache=cache
    )


@pytest.mark.parametrize("storage", STORAGES)
def test_every_storage_serves_what_it_would_without_the_file(root, bad, tmp_path, storage):
    found = load(root, tmp_path / "cache", storage)
    assert list(found.bad) == [70]
    bad.unlink()
    expected = load(root, tmp_path / "other", "memmap")
    assert (found.paths, found.content) == (expected.paths, expected.content)
    for mine, other in zip(found.in_order(16), expected.in_order(16), strict=True):
        assert torch.equal(mine.images, other.images)
        assert torch.equal(mine.labels, other.labels)


def test_the_first_image_may_be_bad(root, tmp_path):
    spoil(CourseData(root).train.paths[0])
    assert list(load(root, tmp_path / "cache", "memmap").bad) == [0]


@pytest.mark.parametrize(
    ("count", "fraction", "most"),
    [(100, 0.01, 1), (199, 0.01, 1), (200, 0.01, 2), (99, 0.01, 0), (5, 0, 0), (5, 1, 4)],
)
def test_how_many_may_be_bad(count, fraction, most):
    assert int(most_bad(count, fraction)) == most


def test_a_cache_with_bad_images_is_made_once(root, bad, tmp_path, monkeypatch):
    paths = CourseData(root).train.paths
    first = open_cache(paths, 20, tmp_path / "cache", False, max_bad_fraction=0.01)
    assert not first.images[70].any()
    monkeypatch.setattr(pixel_cache, "read_square", None)
    again = open_cache(paths, 20, tmp_path / "cache", False, max_bad_fraction=0.01)
    assert (again.path, again.bad, again.content) == (first.path, first.bad, first.content)
    with pytest.raises(DataError, match=f"{bad}: cannot read this image"):
        open_cache(paths, 20, tmp_path / "cache", False)  # whoever wants all is told


def test_an_image_that_could_be_read_after_all_is_not_left_out_for_good(
    root, tmp_path, monkeypatch
):
    paths, make = CourseData(root).train.paths, pixel_cache.read_square

    def short_of_memory(path, *arguments):
        if path == paths[5]:
            raise DataError(f"{path}: cannot read this image (MemoryError)")
        return make(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pixel_cache, "read_square", short_of_memory)
        patch.setattr(pixel_cache, "fault_of", lambda path: path == paths[5] and "no memory")
        assert list(
            open_cache(paths, 20, tmp_path / "cache", False, max_bad_fraction=0.01).bad
        ) == [5]
    again = open_cache(paths, 20, tmp_path / "cache", False, max_bad_fraction=0.01)
    assert again.bad == {}
    assert np.array_equal(again.images[5], make(paths[5], 20))


# --- predictions


@pytest.fixture(scope="module")
def answered(whole, tmp_path_factory) -> tuple[embed.TrainedRun, dict[str, list[str]]]:
    """A run, and the rows of its submissions while all images are sound."""
    folder = tmp_path_factory.mktemp("answered") / "run"
    fit(whole.root, folder)
    run = embed.load_run(folder, "cpu")
    paths = pipeline.write_submissions(run, whole, threshold=-2.0)
    return run, {task: path.read_text().splitlines() for task, path in paths.items()}


def test_a_bad_test_image_keeps_its_row_with_the_commonest_answer(
    root, answered, tmp_path, run_cli
):
    run, before = answered
    data = CourseData(root)
    extra = data.train.paths[-1]
    shutil.copy(extra, extra.with_name("another.jpg"))  # the last class is the commonest
    bad = [spoil(data.test.paths[row]) for row in (0, 7)] + [spoil(data.unknown_test.paths[4])]
    folder = shutil.copytree(run.folder, tmp_path / "run")
    outcome = run_cli("submit", folder, "--data", root, "--threshold=-2")
    assert outcome.status == 0, outcome.stderr
    expected = {task: list(lines) for task, lines in before.items()}
    for row in (0, 7):
        expected["classification"][row + 1] = f"{data.test.names[row]},5"
    expected["verification"][4 + 1] = f"4,{NO_MATCH}"
    for task, lines in expected.items():
        assert (folder / f"{task}.csv").read_text().splitlines() == lines
        assert csvs.check(folder / f"{task}.csv", data) == []
    for path in bad:
        assert f"{path}: cannot read this image" in outcome.stderr
    assert "2 of 12 test images cannot be read: their rows are guesses" in outcome.stderr
    assert "1 of 18 test images cannot be read" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_of_very_many_bad_test_images_ten_are_named(root, answered, capsys):
    data = CourseData(root)
    for path in data.unknown_test.paths[:-1]:
        spoil(path)
    dev = pipeline.verify_dev(answered[0], data)
    answers = pipeline.identify_test(answered[0], data, dev, threshold=-2.0)
    said = capsys.readouterr().err
    assert said.count("its row says n000000") == pipeline.NAMED == 10
    assert "17 of 18 test images cannot be read" in said
    assert answers[:-1] == [NO_MATCH] * 17
    assert answers[-1] != NO_MATCH


def test_where_no_test_image_can_be_read_there_is_no_submission(root, answered):
    data = CourseData(root)
    for path in data.test.paths:
        spoil(path)
    with pytest.raises(DataError, match="12 such images in all"):
        pipeline.classify_test(answered[0], data)


def test_class_means_leave_bad_images_out(root, answered, whole):
    run, _ = answered
    means = embed.class_means(run, whole)
    data = CourseData(root)
    spoil(data.train.paths[20])  # the first of the second class
    found = embed.class_means(run, CourseData(root))
    rest = embed.embed(run, data.train.paths[21:25]).mean(0)
    np.testing.assert_allclose(found[1], rest, atol=1e-5)
    np.testing.assert_allclose(np.delete(found, 1, 0), np.delete(means, 1, 0), atol=1e-5)
    for path in data.train.paths[20:25]:
        spoil(path)
    with pytest.raises(DataError, match="none of its first 5 images can be read"):
        embed.class_means(run, CourseData(root))
