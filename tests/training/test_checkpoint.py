"""A checkpoint is the old one or the new one, never something else, and runs no code."""

import contextlib
import errno
import os
import pickle
import re
import shutil
import sys
import tempfile
import traceback
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facekit.common.errors import RecipeError, RunError
from facekit.models import weights
from facekit.models.weights import check_plain, digest
from facekit.training.checkpoint import Checkpoints

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import faults

STATE = {
    "format": weights.FORMAT,
    "net": OrderedDict(weight=torch.arange(400.0).view(20, 20), steps=torch.tensor(7)),
    "half": torch.arange(8, dtype=torch.bfloat16),
    "classes": ["n000001", "n000002"],
    "progress": {"epoch": 3, "rows": [{"dev_accuracy": 0.1 + 0.2}], "done": False, "of": None},
}


def equal(first, second) -> bool:
    """Deep equality with tensors to the bit."""
    if isinstance(first, torch.Tensor):
        same_kind = isinstance(second, torch.Tensor) and first.dtype == second.dtype
        return same_kind and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    return type(first) is type(second) and first == second


@pytest.fixture
def saved(tmp_path) -> Path:
    weights.save(tmp_path / "last.pt", STATE)
    return tmp_path / "last.pt"


@pytest.fixture(scope="module")
def intact(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("checkpoint") / "last.pt"
    weights.save(path, STATE)
    return path.read_bytes()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "last.pt"


def test_what_is_saved_is_loaded(saved):
    assert equal(weights.load(saved), STATE)
    assert [path.name for path in saved.parent.iterdir()] == ["last.pt"]


def test_tensors_are_put_on_the_processor_wherever_they_were(saved, monkeypatch):
    asked, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda *path, **how: asked.append(how) or load(*path, **how))
    weights.load(saved)
    assert asked == [{"map_location": "cpu", "weights_only": True}]
    assert weights.load(saved)["net"]["weight"].device.type == "cpu"


def test_a_second_save_replaces_the_first(saved):
    weights.save(saved, STATE | {"format": 2})
    assert weights.load(saved)["format"] == 2
    assert [path.name for path in saved.parent.iterdir()] == ["last.pt"]


def test_a_missing_checkpoint_says_what_to_do(tmp_path):
    with pytest.raises(RunError, match=r"last\.pt: no such checkpoint; train the run first"):
        weights.load(tmp_path / "last.pt")


def refused_or_unchanged(place: Path, content: bytes) -> bool:
    """Whether the file is refused; what is not refused must be the whole, true state."""
    place.write_bytes(content)
    try:
        found = weights.load(place)
    except RunError as error:
        assert str(place) in str(error)
        assert "weights_only" not in "".join(traceback.format_exception(error))
        return True
    assert equal(found, STATE)
    return False


def payload(content: bytes, place: Path) -> list[range]:
    """Where in the file the bytes of its records lie; the rest is the archive's book-keeping."""
    place.write_bytes(content)
    spans = []
    with zipfile.ZipFile(place) as archive:
        for record in archive.infolist():
            at = record.header_offset
            start = (
                at
                + 30
                + sum(int.from_bytes(content[at + k : at + k + 2], "little") for k in (26, 28))
            )
            spans.append(range(start, start + record.file_size))
    return spans


@given(data=st.data())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_flipped_bit_is_never_loaded(intact, place, data):
    at, bit = data.draw(st.integers(0, len(intact) - 1)), data.draw(st.integers(0, 7))
    damaged = bytearray(intact)
    damaged[at] ^= 1 << bit
    refused_or_unchanged(place, bytes(damaged))


@given(data=st.data())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_changed_byte_of_the_content_is_refused(intact, place, data):
    span = data.draw(st.sampled_from([span for span in payload(intact, place) if span]))
    at, change = data.draw(st.sampled_from(span)), data.draw(st.integers(1, 255))
    damaged = bytearray(intact)
    damaged[at] ^= change
    assert refused_or_unchanged(place, bytes(damaged))


@given(data=st.data())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_truncated_file_is_refused(intact, place, data):
    assert refused_or_unchanged(place, intact[: data.draw(st.integers(0, len(intact) - 1))])


@pytest.mark.parametrize("page", [256, 512])
def test_a_zeroed_page_is_refused(intact, place, page):
    for at in range(0, len(intact), page):
        content = intact[:at] + bytes(page) + intact[at + page :]
        content = content[: len(intact)]
        refused = refused_or_unchanged(place, content)
        assert (
            refused
            or content == intact
            or not any(
                set(span) & set(range(at, at + page))
                and intact[span.start : span.stop].strip(b"\0")
                for span in payload(intact, place)
            )
        )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 4096,
        b"<html>404</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
        b"PK\x05\x06" + b"\0" * 18,  # an archive of nothing
    ],
    ids=["empty", "zeros", "web page", "pointer", "empty archive"],
)
def test_what_is_no_checkpoint_is_refused(place, content):
    assert refused_or_unchanged(place, content)


class Touch:
    """A pickle that makes a file when it is loaded without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "write",
    [torch.save, lambda bad, path: path.write_bytes(pickle.dumps(bad))],
    ids=["archive", "bare pickle"],
)
def test_a_malicious_checkpoint_is_refused_and_runs_nothing(tmp_path, write):
    target, path = tmp_path / "touched", tmp_path / "last.pt"
    write({"net": Touch(target)}, path)
    with pytest.raises(RunError, match=r"last\.pt"):
        weights.load(path)
    assert not target.exists()


def test_the_malicious_checkpoint_would_run_where_nobody_takes_care(tmp_path):
    target = tmp_path / "touched"
    pickle.loads(pickle.dumps(Touch(target)))
    assert target.exists()


def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def half_a_file(state, file):
    file.write(b"PK half of it")
    no_space()


def silent_damage(state, file, save=torch.save):
    save(state, file)
    file.seek(-600, os.SEEK_END)
    file.write(b"\xff" * 32)


@pytest.mark.parametrize(
    ("where", "name", "fault"),
    [
        (torch, "save", half_a_file),
        (torch, "save", silent_damage),
        (os, "fsync", no_space),
        (os, "replace", no_space),
    ],
    ids=["write", "bytes lost on the way", "fsync", "rename"],
)
def test_a_failing_save_leaves_the_old_checkpoint(saved, monkeypatch, where, name, fault):
    with monkeypatch.context() as patch:
        patch.setattr(where, name, fault)
        with pytest.raises((OSError, ValueError, zipfile.BadZipFile)):
            weights.save(saved, STATE | {"format": 2})
    assert equal(weights.load(saved), STATE)
    assert [path.name for path in saved.parent.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_an_interrupt_while_saving_leaves_the_old_checkpoint(saved, monkeypatch, name):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, name, interrupt)
    with contextlib.suppress(KeyboardInterrupt):
        weights.save(saved, STATE | {"format": 2})
        pytest.fail("the fault was not reached")
    assert equal(weights.load(saved), STATE)
    assert [path.name for path in saved.parent.iterdir()] == ["last.pt"]


def test_the_bytes_reach_the_disk_before_the_name_and_the_name_before_the_end(saved, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    weights.save(saved, STATE)
    assert calls == ["fsync", "replace", "fsync"]  # the file, its name, the folder


# ------------------------------------------------------------------ what a state may hold


class Named(str):
    """Looks like a text and is none."""


@pytest.mark.parametrize(
    "odd",
    [
        np.float64(0.5),
        np.int64(3),
        np.zeros(2),
        np.str_("x"),
        Path("data"),
        torch.__version__,
        Named("x"),
        {1, 2},
        b"",
        torch.nn.Linear(1, 1),
        contextlib.nullcontext(),
    ],
    ids=lambda odd: type(odd).__name__,
)
def test_what_could_not_be_read_again_is_not_written(saved, odd):
    with pytest.raises(
        TypeError, match=rf"state\['rows'\]\[1\]\['best'\] is a {type(odd).__name__}"
    ):
        weights.save(saved, {"rows": [{}, {"best": odd}]})
    assert equal(weights.load(saved), STATE)
    assert [path.name for path in saved.parent.iterdir()] == ["last.pt"]


def test_a_key_that_could_not_be_read_again_is_named():
    with pytest.raises(TypeError, match=r"state\['a'\]: the key .* is a int64"):
        check_plain({"a": {np.int64(1): 0}})


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=12,
)


@given(value=plain)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_plain_state_is_loaded_as_it_was(place, value):
    weights.save(place, {"value": value})
    assert digest(weights.load(place)) == digest({"value": value})


@given(first=plain, second=plain)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_digests_differ_where_values_differ(first, second):
    same = repr(first).replace("(", "[") == repr(second).replace("(", "[")
    assert (digest(first) == digest(second)) >= same
    if not same and "(" not in repr((first, second))[1:-1]:
        assert digest(first) != digest(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([1, [2]], [[1], 2]),
        ([[], []], [[[]]]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),  # an optimiser goes by the order
        ("12", 12),
        (0.0, -0.0),
        (1, True),
        (torch.zeros(2), torch.zeros(2, 1)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
        (torch.zeros(2), -torch.zeros(2)),
        (torch.tensor(1.0), torch.tensor(1.0).bfloat16()),
    ],
    ids=str,
)
def test_a_digest_tells_apart_what_looks_alike(first, second):
    assert digest(first) != digest(second)


def test_a_digest_looks_at_values_and_not_at_how_they_lie_in_memory():
    images = torch.rand(2, 3, 4, 5)
    assert digest(images) == digest(images.contiguous(memory_format=torch.channels_last))
    assert digest(images) == digest(torch.nn.Parameter(images))
    assert digest(OrderedDict(a=torch.tensor(1))) == digest({"a": torch.tensor(1)})


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
    assert names(run.folder) == sorted([*alive, "step-00000100.pt"])


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
        torch.save(STATE, file)
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
