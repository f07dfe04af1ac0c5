"""A checkpoint is the old one or the new one, never something else, and runs no code."""

import contextlib
import errno
import os
import pickle
import traceback
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facekit import checkpoint
from facekit.errors import RunError

STATE = {
    "format": checkpoint.FORMAT,
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
    checkpoint.save(tmp_path / "last.pt", STATE)
    return tmp_path / "last.pt"


@pytest.fixture(scope="module")
def intact(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("checkpoint") / "last.pt"
    checkpoint.save(path, STATE)
    return path.read_bytes()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "last.pt"


def test_what_is_saved_is_loaded(saved):
    assert equal(checkpoint.load(saved), STATE)
    assert [path.name for path in saved.parent.iterdir()] == ["last.pt"]


def test_a_second_save_replaces_the_first(saved):
    checkpoint.save(saved, STATE | {"format": 2})
    assert checkpoint.load(saved)["format"] == 2
    assert [path.name for path in saved.parent.iterdir()] == ["last.pt"]


def test_a_missing_checkpoint_says_what_to_do(tmp_path):
    with pytest.raises(RunError, match=r"last\.pt: no such checkpoint; train the run first"):
        checkpoint.load(tmp_path / "last.pt")


def refused_or_unchanged(place: Path, content: bytes) -> bool:
    """Whether the file is refused; what is not refused must be the whole, true state."""
    place.write_bytes(content)
    try:
        found = checkpoint.load(place)
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
        checkpoint.load(path)
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
            checkpoint.save(saved, STATE | {"format": 2})
    assert equal(checkpoint.load(saved), STATE)
    assert [path.name for path in saved.parent.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_an_interrupt_while_saving_leaves_the_old_checkpoint(saved, monkeypatch, name):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, name, interrupt)
    with contextlib.suppress(KeyboardInterrupt):
        checkpoint.save(saved, STATE | {"format": 2})
        pytest.fail("the fault was not reached")
    assert equal(checkpoint.load(saved), STATE)
    assert [path.name for path in saved.parent.iterdir()] == ["last.pt"]


def test_the_bytes_reach_the_disk_before_the_name(saved, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    checkpoint.save(saved, STATE)
    assert calls == ["fsync", "replace"]
