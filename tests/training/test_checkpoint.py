"""The states of a run in a folder and its mirror, whatever breaks."""

import contextlib
import errno
import os
import pickle
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from failing_disk import half_a_file, no_space, silent_damage

from facekit.common.errors import RecipeError, RunError
from facekit.models import weights
from facekit.models.weights import digest
from facekit.training import claim
from facekit.training.checkpoint import Checkpoints

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import faults

# ------------------------------------------------------------------ the folder of a run


@pytest.fixture
def said() -> list[str]:
    """The warnings."""
    return []


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def step_of(run: Checkpoints) -> int | None:
    """The step of the state that a new start would take up."""
    loaded = Checkpoints(run.folder, run.keep, run.mirror, run.warn).load_latest()
    return loaded and loaded["step"]


def saved_run(folder: Path, said: list[str], *steps: int, **options) -> Checkpoints:
    run = Checkpoints(folder, warn=said.append, **options)
    for step in steps:
        run.save(step, faults.state(step))
    return run


@pytest.mark.parametrize("keep", [2, 3, 5])
def test_the_newest_are_kept(tmp_path, said, keep):
    run = saved_run(tmp_path / "run", said, *range(7), keep=keep)
    assert [path.name for path in run.paths()] == [f"step-{6 - k:08}.pt" for k in range(keep)]
    assert run.newest() == run.paths()[0]
    assert names(run.folder) == sorted(path.name for path in run.paths())
    assert digest(run.load_latest()) == digest(faults.state(6))
    assert said == []


@pytest.mark.parametrize("keep", [-1, 0, 1])
def test_fewer_than_two_are_refused(tmp_path, keep):
    with pytest.raises(RecipeError, match=rf"keep = {keep}: .*keep 2 or more"):
        Checkpoints(tmp_path, keep)


@pytest.mark.parametrize("mirror", [None, "mirror"])
def test_a_new_run_has_no_state(tmp_path, said, mirror):
    run = Checkpoints(tmp_path / "run", mirror=mirror and tmp_path / mirror, warn=said.append)
    assert run.load_latest() is None
    assert run.newest() is None
    assert run.paths() == said == []
    assert names(tmp_path) == []


@pytest.mark.parametrize("times", [(5, 5, 5), (9, 7, 5), (5, 9, 7)], ids=["equal", "back", "mixed"])
def test_the_newest_is_the_one_of_the_highest_step_whatever_the_clock_says(tmp_path, said, times):
    run = saved_run(tmp_path / "run", said, 99_999_999, 100_000_000, 9, keep=3)
    for path, time in zip(run.paths(), times, strict=True):
        os.utime(path, (time, time))
    assert step_of(run) == 100_000_000
    run.save(100_000_001, faults.state(100_000_001))
    assert [int(path.stem[5:]) for path in run.paths()] == [100_000_001, 100_000_000, 99_999_999]


def test_a_step_saved_twice_is_there_once(tmp_path, said):
    run = saved_run(tmp_path / "run", said, 100, 200, 200)
    assert names(run.folder) == ["step-00000100.pt", "step-00000200.pt"]


def test_other_files_of_the_folder_are_neither_taken_nor_removed(tmp_path, said):
    run = saved_run(tmp_path / "run", said, 100, 200)
    others = ["best.pt", "step-00000900.pt.txt", "step-x.pt", "my step-00000901.pt", ".lock"]
    for name in others:
        (run.folder / name).write_text("mine")
    run.save(300, faults.state(300))
    assert step_of(run) == 300
    assert names(run.folder) == sorted([*others, "step-00000200.pt", "step-00000300.pt"])


def test_half_files_of_dead_processes_are_swept_and_those_of_living_ones_are_not(tmp_path, said):
    run = saved_run(tmp_path / "run", said, 100)
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    dead = [f".step-00000200.pt.{child}.part", f".best.pt.{os.getpid()}.part", ".a.pt.9999999.part"]
    alive = [f".step-00000200.pt.{os.getppid()}.part", ".hidden.part"]
    for name in dead + alive:
        (run.folder / name).touch()
    assert step_of(run) == 100
    assert set(dead) < set(names(run.folder)), "who only reads, sweeps nothing"
    run.claim()
    assert names(run.folder) == sorted([*alive, claim.MARK, "step-00000100.pt"])


def test_a_state_of_another_version_is_refused_and_left_alone(tmp_path, said, unchanged):
    run = saved_run(tmp_path / "run", said, 100)
    run.save(200, faults.state(200) | {"format": weights.FORMAT - 1})
    with unchanged(run.folder), pytest.raises(RunError, match=r"00200\.pt: no run of this version"):
        run.load_latest()


def test_a_folder_that_cannot_be_read_is_no_empty_one(tmp_path, said, monkeypatch):
    run = saved_run(tmp_path / "run", said, 100)

    def unreadable(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "iterdir", unreadable)
    with pytest.raises(RunError, match=r"run: cannot be read \(Input/output error\)"):
        run.load_latest()


# ------------------------------------------------------------------ damage


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """Two checkpoints and their mirror; in memory where that can be, as there are many cases."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield faults.prepare(Path(folder))


@pytest.mark.parametrize("name", faults.DAMAGES)
def test_a_damaged_newest_is_put_aside_and_named_and_damage_to_all_is_refused(template, name):
    row = faults.damage(template, name)
    assert faults.survived(row), row
    assert "step-00000300.pt is damaged; using step-00000200.pt" in row["said"]
    assert "nothing was deleted; copy an intact one here or choose" in row["both"]
    assert "weights_only" not in str(row)


def test_the_trap_of_the_malicious_checkpoints_works(tmp_path):
    path = tmp_path / "step-00000100.pt"
    faults.DAMAGES["a malicious pickle"](path)
    pickle.loads(path.read_bytes())
    assert faults.trap(path).exists()


def test_damage_to_all_changes_no_file(tmp_path, said, unchanged):
    run = saved_run(tmp_path / "run", said, 100, 200, 300, keep=3)
    for path in run.paths():
        faults.flip(path)
    with unchanged(run.folder), pytest.raises(RunError, match=r"all 3 checkpoints in .*run are"):
        run.load_latest()
    assert said == []


def test_a_run_whose_damaged_files_alone_are_left_does_not_start_anew(tmp_path, said):
    run = saved_run(tmp_path / "run", said, 100, 200)
    faults.flip(run.newest())
    assert step_of(run) == 100
    run.newest().unlink()
    with pytest.raises(RunError, match="all 1 checkpoints"):
        run.load_latest()


# ------------------------------------------------------------------ faults of the disk


@pytest.mark.parametrize("kind", faults.KINDS)
def test_a_fault_at_any_call_leaves_the_old_state_or_the_new(template, kind):
    calls = faults.count_calls(template)
    assert calls >= 51
    for at in range(1, calls + 1):
        row = faults.inject(template, kind, at)
        assert faults.sound(row), f"call {at}: {row}"
        expected = {"crash": {"crashed"}, "Ctrl-C": {"KeyboardInterrupt"}}
        assert row["save"] in expected.get(kind, {"warned", "saved"}), f"call {at}: {row}"


def test_the_faults_find_a_save_without_care(template, monkeypatch):
    @contextlib.contextmanager
    def in_place(path):
        for old in path.parent.glob("step-*.pt"):  # to make room
            old.unlink()
        with path.open("wb") as file:
            yield file

    monkeypatch.setattr(weights, "whole_archive", in_place)
    rows = [faults.inject(template, "crash", at) for at in range(1, 12)]
    assert {faults.sound(row) for row in rows} == {True, False}
    assert rows[-1]["run"].startswith("RunError: all 1 checkpoints")


def test_no_room_is_a_warning_twice_and_the_third_time_an_end(tmp_path, said, monkeypatch):
    run = saved_run(tmp_path / "run", said, 400)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half_a_file)
        run.save(500, faults.state(500))
        run.save(600, faults.state(600))
        with pytest.raises(
            RunError, match=r"no room to save step 700: .*3rd time.*step 400 is safe"
        ):
            run.save(700, faults.state(700))
    free = r"no room to save step 500: \d+ MB free, 0 MB needed in .*run; "
    assert len(said) == 2
    assert re.fullmatch(free + "training goes on, step 400 is safe", said[0])
    assert names(run.folder) == ["step-00000400.pt"]


def test_failures_are_counted_in_a_row(tmp_path, said, monkeypatch):
    run = saved_run(tmp_path / "run", said)
    for step in range(9):
        with monkeypatch.context() as patch:
            if step % 3 < 2:
                patch.setattr(os, "fsync", no_space)
            run.save(step, faults.state(step))
    assert len(said) == 6
    assert said[0].endswith("training goes on, nothing is saved yet")
    assert said[2].endswith("training goes on, step 2 is safe")
    assert step_of(run) == 8


def test_a_real_full_disk_is_no_room():
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("there is no /dev/full here")
    with pytest.raises(OSError) as stop, Path("/dev/full").open("wb") as file:
        torch.save(faults.state(100), file)
        file.flush()
    assert stop.value.errno == errno.ENOSPC


def test_what_is_lost_on_the_way_to_the_disk_counts_as_not_saved(tmp_path, said, monkeypatch):
    run = saved_run(tmp_path / "run", said, 100)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", silent_damage)
        run.save(200, faults.state(200))
    assert "could not save step 200" in said[0]
    assert "not what was read back" in said[0]
    assert names(run.folder) == ["step-00000100.pt"]


def test_an_old_one_that_cannot_be_removed_is_a_warning(tmp_path, said, monkeypatch):
    run = saved_run(tmp_path / "run", said, 100, 200)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", no_space)
        run.save(300, faults.state(300))
    assert "old checkpoints cannot be removed" in said[0]
    assert step_of(run) == 300
    run.save(400, faults.state(400))
    assert len(run.paths()) == 2


def test_nothing_is_removed_before_its_successor_is_there(tmp_path, said, monkeypatch):
    run = saved_run(tmp_path / "run", said, 100, 200)
    seen = []
    unlink = Path.unlink

    def watched(path, **options):
        seen.append((path.name, names(run.folder)))
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", watched)
    run.save(300, faults.state(300))
    assert seen == [("step-00000100.pt", [f"step-00000{k}00.pt" for k in (1, 2, 3)])]


# ------------------------------------------------------------------ the mirror


def test_the_mirror_holds_the_same_and_two_at_least(tmp_path, said):
    run = saved_run(tmp_path / "run", said, 100, 200, 300, mirror=tmp_path / "mirror")
    assert names(run.mirror) == names(run.folder) == ["step-00000200.pt", "step-00000300.pt"]
    for path in run.paths():
        assert path.read_bytes() == (run.mirror / path.name).read_bytes()
    assert said == []


def test_a_lost_folder_is_taken_from_the_mirror_and_filled_again(tmp_path, said):
    run = saved_run(tmp_path / "run", said, 100, 200, mirror=tmp_path / "mirror")
    shutil.rmtree(run.folder)
    assert step_of(run) == 200
    assert names(run.folder) == ["step-00000200.pt"]
    assert len(said) == 1
    assert "run has no intact checkpoint; using" in said[0]


def test_a_damaged_folder_is_taken_from_the_mirror_and_the_mirrors_damaged_ones_are_named(
    tmp_path, said
):
    run = saved_run(tmp_path / "run", said, 100, 200, mirror=tmp_path / "mirror")
    for path in [*run.paths(), run.mirror / "step-00000200.pt"]:
        faults.flip(path)
    assert step_of(run) == 100
    assert "mirror/step-00000200.pt is damaged; using step-00000100.pt" in said[0]
    said.clear()
    assert step_of(run) == 100  # the folder's own 200 is still damaged, its 100 is mended
    assert "run/step-00000200.pt is damaged; using step-00000100.pt" in said[0]


def test_a_mirror_of_damaged_ones_alone_is_refused(tmp_path, said):
    run = saved_run(tmp_path / "run", said, 100, 200, mirror=tmp_path / "mirror")
    shutil.rmtree(run.folder)
    for path in run.mirror.iterdir():
        faults.flip(path)
    with pytest.raises(RunError, match=r"all 2 checkpoints in .*mirror are damaged"):
        run.load_latest()


@pytest.fixture
def break_mirror(monkeypatch):
    """Have the mirror fail in some manner from here on."""

    def failing(number: int, name: str, where):
        original = getattr(where, name)

        def call(path, *arguments, **options):
            if "drive" in str(path):
                raise OSError(number, os.strerror(number))
            return original(path, *arguments, **options)

        monkeypatch.setattr(where, name, call)

    return {
        "read-only": lambda mirror: failing(errno.EROFS, "open", Path),
        "full": lambda mirror: failing(errno.ENOSPC, "replace", os),
        "vanished": lambda mirror: shutil.rmtree(mirror.parent),
        "a file": lambda mirror: (shutil.rmtree(mirror), mirror.touch()),
        "gone away": lambda mirror: failing(errno.ENOTCONN, "mkdir", Path),
    }


@pytest.mark.parametrize("how", ["read-only", "full", "vanished", "a file", "gone away"])
def test_a_mirror_that_fails_is_named_once_and_hinders_nothing(tmp_path, said, break_mirror, how):
    mirror = tmp_path / "drive" / "mirror"
    mirror.parent.mkdir()
    run = saved_run(tmp_path / "run", said, 100, mirror=mirror)
    break_mirror[how](mirror)
    for step in range(200, 1000, 100):
        run.save(step, faults.state(step))
    assert len(said) == 1
    assert said[0].startswith(f"mirror {mirror} cannot be used (")
    assert step_of(run) == 900
    if how == "vanished":
        assert not mirror.parent.exists()  # nothing is made where no Drive is mounted
    elif mirror.is_dir():
        assert names(mirror) == ["step-00000100.pt"]


def test_a_mirror_that_is_back_is_used_again(tmp_path, said):
    mirror = tmp_path / "drive" / "mirror"
    run = saved_run(tmp_path / "run", said, 100, mirror=mirror)
    mirror.parent.mkdir()
    run.save(200, faults.state(200))
    assert names(mirror) == ["step-00000200.pt"]
    assert len(said) == 1


def test_a_missing_mirror_of_a_new_run_is_named(tmp_path, said):
    run = Checkpoints(tmp_path / "run", mirror=tmp_path / "drive" / "mirror", warn=said.append)
    assert run.load_latest() is None
    assert "drive/mirror cannot be used (No such file or directory)" in said[0]
    assert names(tmp_path) == []


def test_newer_states_of_another_run_in_the_mirror_are_not_removed(tmp_path, said):
    saved_run(tmp_path / "mirror", said, 8000, 9000)
    saved_run(tmp_path / "run", said, 100, 200, 300, mirror=tmp_path / "mirror")
    assert [int(name[5:13]) for name in names(tmp_path / "mirror")] == [200, 300, 8000, 9000]


def best_of(folder: Path) -> int:
    return weights.load(folder / "best.pt")["step"]


def test_the_best_network_is_kept_mirrored_and_brought_back(tmp_path, said):
    run = saved_run(tmp_path / "run", said, mirror=tmp_path / "mirror")
    for step, best in ((100, True), (200, True), (300, False)):
        run.save(step, faults.state(step), faults.state(step) if best else None)
    assert best_of(run.folder) == best_of(run.mirror) == 200
    shutil.rmtree(run.folder)
    assert step_of(run) == 300
    assert best_of(run.folder) == 200


def test_a_best_network_that_the_mirror_missed_is_copied_later(tmp_path, said):
    mirror = tmp_path / "drive" / "mirror"
    run = saved_run(tmp_path / "run", said, mirror=mirror)
    run.save(100, faults.state(100), faults.state(100))
    mirror.parent.mkdir()
    run.save(200, faults.state(200))
    assert best_of(mirror) == 100
    run.save(300, faults.state(300), faults.state(300))
    mirror.joinpath("best.pt").unlink()
    again = saved_run(run.folder, said, 400, mirror=mirror)  # a new process does not know
    assert best_of(again.mirror) == 300


def test_no_room_for_the_best_network_counts_as_one_failed_save(tmp_path, said, monkeypatch):
    run = saved_run(tmp_path / "run", said, 100)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half_a_file)
        run.save(200, faults.state(200), faults.state(200))
    assert len(said) == 1
    assert names(run.folder) == ["step-00000100.pt"]
