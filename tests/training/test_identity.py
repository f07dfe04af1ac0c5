"""Whose a run's files are: no copy of another run is lost, and no two sessions spoil each other."""

import json
import shutil
import threading
from pathlib import Path

import pytest
import torch

from facekit import training
from facekit.common.errors import RecipeError, RunError
from facekit.data.layout import CourseData
from facekit.evaluation import embed
from facekit.models import weights, zoo
from facekit.models.weights import digest
from facekit.training import claim, loop
from facekit.training import recipe as recipes
from facekit.training.checkpoint import Checkpoints, identity
from facekit.training.recipe import Recipe

BEST = "best.pt"


def small(*changes: str) -> Recipe:
    """Three epochs of five steps."""
    settings = ["epochs=3", "batch_size=8", "image_size=32", "warmup_epochs=1"]
    return recipes.load("smoke", [*settings, "precision=float32", *changes])


class Enough(Exception):
    """The session ends here."""


def fit(course: CourseData, out: Path, *changes: str, epochs: int = 0, **keys) -> training.History:
    """A session, which is lost after so many epochs of the run where that is said."""

    def watch(history: training.History) -> None:
        if len(history.rows) == epochs:
            raise Enough

    keys = {"on_epoch": watch} | keys
    return training.fit(small(*changes), course, out, "cpu", progress=False, **keys)


def lost_after(epochs: int, course: CourseData, out: Path, *changes: str, **keys) -> None:
    with pytest.raises(Enough):
        fit(course, out, *changes, epochs=epochs, **keys)


def let_it_write() -> None:
    """Until the thread that saves is done: a run goes on meanwhile."""
    for thread in threading.enumerate():
        if thread.name.startswith("facekit-writer"):
            thread.join()


@pytest.fixture(scope="module")
def reference(course, tmp_path_factory) -> Path:
    """The finished run, undisturbed."""
    out = tmp_path_factory.mktemp("reference") / "course"
    fit(course, out)
    return out


@pytest.fixture
def drive(tmp_path) -> Path:
    folder = tmp_path / "drive"
    folder.mkdir()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def networks(out: Path) -> str:
    """The best network and the last one."""
    best = weights.load(out / BEST)
    return digest([best["net"], best["progress"], Checkpoints(out).load_latest()["net"]])


def test_all_files_of_a_run_have_one_identity_and_another_run_has_another(course, tmp_path, drive):
    lost_after(1, course, tmp_path / "a" / "course", mirror=drive)
    fit(course, tmp_path / "a" / "course", mirror=drive)
    fit(course, tmp_path / "b")
    files = [*(tmp_path / "a" / "course").glob("*.pt"), *(drive / "course").glob("*.pt")]
    assert len({identity(weights.load(file)) for file in files}) == 1
    assert identity(weights.load(files[0])) != identity(weights.load(tmp_path / "b" / BEST))


# ------------------------------------------------------------------ a Drive


def test_a_finished_run_on_the_drive_can_be_used_from_a_fresh_disk(course, tmp_path, drive):
    fit(course, tmp_path / "old" / "runs" / "course", mirror=drive)
    shutil.rmtree(tmp_path / "old")
    out = tmp_path / "new" / "runs" / "course"
    history = fit(course, out, mirror=drive)
    assert len(history.rows) == 3
    assert (out / BEST).read_bytes() == (drive / "course" / BEST).read_bytes()
    embed.load_run(out, "cpu")


def test_sessions_that_take_turns_on_one_drive_are_one_run(course, tmp_path, drive, reference):
    first = tmp_path / "first" / "course"
    second = tmp_path / "second" / "course"
    lost_after(1, course, first, mirror=drive)
    lost_after(2, course, second, mirror=drive)
    fit(course, first, mirror=drive)  # goes on from the second's, which got further
    fit(course, second, mirror=drive)
    for folder in (first, second, drive / "course"):
        assert networks(folder) == networks(reference)


def test_of_two_sessions_at_once_the_first_leaves_the_drive_to_the_second(
    course, tmp_path, drive, reference, capsys
):
    second = tmp_path / "second" / "course"
    at_second: list[dict] = []

    def begin_second(history: training.History) -> None:
        if len(history.rows) == 1:
            let_it_write()
            fit(course, second, mirror=drive)
            at_second.append(contents(drive / "course"))

    first = tmp_path / "first" / "course"
    fit(course, first, mirror=drive, on_epoch=begin_second)
    assert "another session (process" in capsys.readouterr().out
    assert contents(drive / "course") == at_second[0]
    for folder in (first, second, drive / "course"):
        assert networks(folder) == networks(reference)


def test_the_copies_of_another_run_are_never_overwritten(course, tmp_path, drive):
    fit(course, tmp_path / "theirs" / "course", "seed=1", mirror=drive)
    shutil.rmtree(tmp_path / "theirs")
    before = contents(drive / "course")
    mine = tmp_path / "mine" / "course"
    lost_after(1, course, mine)
    with pytest.raises(RunError, match="holds the copies of another run"):
        fit(course, mine, mirror=drive)
    fresh = tmp_path / "fresh" / "course"
    with pytest.raises(RunError, match="this run has seed = 1"):
        fit(course, fresh, mirror=drive)
    assert not fresh.exists(), "nothing of theirs is taken over by a refused run"
    assert contents(drive / "course") == before


def test_a_drive_that_comes_back_with_another_run_is_left_alone(course, tmp_path, drive, capsys):
    fit(course, tmp_path / "theirs" / "course", "seed=1", mirror=drive)
    before = contents(drive / "course")
    away = drive.rename(tmp_path / "away")

    def bring_back(history: training.History) -> None:
        if len(history.rows) == 1:
            let_it_write()
            away.rename(drive)

    fit(course, tmp_path / "mine" / "course", mirror=drive, on_epoch=bring_back)
    assert "it holds the copies of another run" in capsys.readouterr().out
    assert contents(drive / "course") == before


def test_the_source_of_ones_own_objects_is_copied_too(tmp_path):
    run = Checkpoints(tmp_path / "run", mirror=tmp_path / "mirror")
    run.folder.mkdir()
    (run.folder / "own.py").write_text("class Net: ...")
    run.save(1, {"format": weights.FORMAT})
    assert (run.mirror / "own.py").read_text() == "class Net: ..."


# ------------------------------------------------------------------ the folder


def test_a_run_of_a_network_that_has_changed_since_is_refused(course, tmp_path, monkeypatch):
    """Names stay from one version of the kit to the next; what they stand for may not."""
    run = tmp_path / "run"
    lost_after(1, course, run)
    monkeypatch.setitem(zoo.NETWORKS, "tiny", zoo.NETWORKS["small"])
    with pytest.raises(RunError, match="this run has the network 'tiny' of another version"):
        fit(course, run)


def test_a_session_whose_folder_was_given_to_another_run_writes_nothing_there(course, tmp_path):
    out = tmp_path / "run"
    theirs: list[dict] = []

    def exchange(history: training.History) -> None:
        if len(history.rows) == 1:
            let_it_write()
            out.rename(tmp_path / "kept")
            fit(course, out, "seed=1")
            theirs.append(contents(out))

    with pytest.raises(RunError, match=r"run: another session \(process"):
        fit(course, out, on_epoch=exchange)
    assert contents(out) == theirs[0]
    fit(course, tmp_path / "kept")  # goes on under its new name


def test_a_folder_that_is_gone_is_told_and_nothing_more_is_lost(
    course, tmp_path, reference, capsys
):
    out = tmp_path / "run"

    def rename(history: training.History) -> None:
        if len(history.rows) == 1:
            let_it_write()
            out.rename(tmp_path / "kept")

    fit(course, out, on_epoch=rename)
    assert "was moved or emptied while the run trained" in capsys.readouterr().out
    nets = [Checkpoints(folder).load_latest()["net"] for folder in (out, reference)]
    assert digest(nets[0]) == digest(nets[1])
    assert list((tmp_path / "kept").glob("step-*.pt"))


def test_a_mark_says_whose_it_is(tmp_path):
    mark = claim.new_mark()
    claim.leave(tmp_path, mark)
    assert claim.find(tmp_path) == mark != claim.new_mark()
    assert claim.find(tmp_path / "nowhere") == ""
    assert "on host" in claim.who(mark)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / claim.MARK).symlink_to(tmp_path / claim.MARK)
    claim.leave(tmp_path / "run", claim.new_mark())
    assert claim.find(tmp_path) == mark, "no link is followed"


def test_a_best_network_whose_states_are_gone_is_not_overwritten(course, copy_of_run, unchanged):
    for state in copy_of_run.glob("step-*.pt"):
        state.unlink()
    with unchanged(copy_of_run), pytest.raises(RunError, match="whose states are gone"):
        fit(course, copy_of_run)


# ------------------------------------------------------------------ the best network


def spoil(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_a_lost_best_network_comes_back_from_the_mirror(course, tmp_path, drive, how, capsys):
    out = tmp_path / "course"
    fit(course, out, mirror=drive)
    spoil(out / BEST, how)
    fit(course, out, mirror=drive)
    assert "best.pt is missing or damaged; using" in capsys.readouterr().out
    assert (out / BEST).read_bytes() == (drive / "course" / BEST).read_bytes()


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_a_lost_best_network_of_the_newest_epoch_is_written_again(course, tmp_path, how, capsys):
    lost_after(1, course, tmp_path / "run")  # the first epoch is the best so far
    before = weights.load(tmp_path / "run" / BEST)
    spoil(tmp_path / "run" / BEST, how)
    fit(course, tmp_path / "run", max_hours=0)  # looks, and leaves after a step
    assert "it is written again" in capsys.readouterr().out
    assert digest(weights.load(tmp_path / "run" / BEST)) == digest(before)


def test_a_best_network_that_is_lost_for_good_is_said_to_be(course, tmp_path, capsys):
    out = tmp_path / "run"
    lost_after(1, course, out)
    fit(course, out, max_hours=0)  # a step further: the newest state is no longer the best
    (out / BEST).unlink()
    history = fit(course, out)
    assert (
        "of epoch 1, is missing or damaged, and lost: the next is kept" in capsys.readouterr().out
    )
    assert len(history.rows) == 3
    assert weights.load(out / BEST)["progress"]["epoch"] > 1


def test_the_best_network_of_another_run_is_not_believed(course, tmp_path, capsys):
    fit(course, tmp_path / "run")
    fit(course, tmp_path / "other", "seed=1")
    shutil.copy(tmp_path / "other" / BEST, tmp_path / "run" / BEST)
    fit(course, tmp_path / "run")
    assert "is missing or damaged" in capsys.readouterr().out


# ------------------------------------------------------------------ one line each


def test_what_changed_on_the_way_is_said_in_a_log_and_written_down(course, tmp_path, capsys):
    fit(course, tmp_path / "run", max_hours=0)
    fit(course, tmp_path / "run", "lr=0.001")
    change = "from step 1 on: lr 0.001, before 0.004"
    assert change in capsys.readouterr().out
    assert change in json.loads((tmp_path / "run" / "environment.json").read_text())["changes"]


def test_a_state_without_its_parts_is_refused_in_one_sentence(course, copy_of_run, unchanged):
    newest = Checkpoints(copy_of_run).newest()
    weights.save(newest, {"format": weights.FORMAT})
    with unchanged(copy_of_run), pytest.raises(RunError, match="cannot be taken up"):
        fit(course, copy_of_run)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_too_little_memory_beside_a_step_is_an_error_with_advice(
    course, tmp_path, monkeypatch, error
):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(loop, "evaluate", fail)
    with pytest.raises(RunError, match=r"out of memory after step 5; .*lower batch_size"):
        fit(course, tmp_path / "run")


def test_compiling_that_fails_is_said_before_the_images_are_read(course, tmp_path, monkeypatch):
    def no_compiler(function):
        raise RuntimeError("backend='inductor' raised:\nNo working C++ compiler")

    monkeypatch.setattr(torch, "compile", no_compiler)
    monkeypatch.setattr(training.run, "Loader", None)
    with pytest.raises(RecipeError, match="compile=yes cannot be done here: No working C"):
        fit(course, tmp_path / "run", "compile=yes")
    assert not (tmp_path / "run").exists()


def test_where_nobody_asked_for_it_compiling_that_fails_is_left_out(monkeypatch):
    def no_compiler(function):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", no_compiler)
    wanted = training.run.Choice(True, "about 900 s to gain")
    found = training.run.try_compiling(torch.device("cpu"), wanted)
    assert found == (False, "about 900 s to gain, but no compiler")


@pytest.mark.parametrize("option", [{"workers": -1}, {"workers": 100_000}])
def test_an_impossible_number_of_workers_is_refused(course, tmp_path, option):
    with pytest.raises(RecipeError, match="workers must be from 0 to"):
        fit(course, tmp_path / "run", **option)


def test_a_device_that_computes_no_numbers_is_refused(course, tmp_path):
    with pytest.raises(RecipeError, match="device 'meta'"):
        training.fit(small(), course, tmp_path / "run", "meta", progress=False)


NETWORKS = [
    "{base='tiny', embedding=1000000000000}",
    "{base='tiny', embedding=4000000000000000000}",
    "{base='tiny', stages=[{block='conv', channels=99999}, {block='conv', channels=99999}]}",
    "{base='tiny', stem={channels=8, kernel=1000001}}",
    "{base='tiny', stages=[{block='conv', channels=8, depth=1000000000}]}",
]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_too_large_for_any_memory_is_refused_before_it_is_built(
    course, tmp_path, network
):
    with pytest.raises(RecipeError, match=r"over the limit|too large to build|1000 blocks"):
        fit(course, tmp_path / "run", f"network={network}")


@pytest.mark.parametrize("head", ["'nope'", "5", "{name='arcface', margin=99}"])
def test_a_margin_head_that_cannot_be_is_refused_before_the_first_epoch(course, tmp_path, head):
    with pytest.raises(RecipeError, match=r"no head|a head is|margin must be"):
        fit(course, tmp_path / "run", f"margin_head={head}", "margin_epochs=1")
    assert not (tmp_path / "run").exists()
