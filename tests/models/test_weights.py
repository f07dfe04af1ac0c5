"""A file of tensors is the old one or the new one, never something else, and runs no code."""

import contextlib
import os
import pickle
import traceback
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from failing_disk import half_a_file, no_space, silent_damage
from hypothesis import given, settings
from hypothesis import strategies as st

from facekit.common.errors import RunError
from facekit.models import weights
from facekit.models.weights import digest

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
@settings(max_examples=100)
def test_a_flipped_bit_is_never_loaded(intact, place, data):
    at, bit = data.draw(st.integers(0, len(intact) - 1)), data.draw(st.integers(0, 7))
    damaged = bytearray(intact)
    damaged[at] ^= 1 << bit
    refused_or_unchanged(place, bytes(damaged))


@given(data=st.data())
@settings(max_examples=100)
def test_a_changed_byte_of_the_content_is_refused(intact, place, data):
    span = data.draw(st.sampled_from([span for span in payload(intact, place) if span]))
    at, change = data.draw(st.sampled_from(span)), data.draw(st.integers(1, 255))
    damaged = bytearray(intact)
    damaged[at] ^= change
    assert refused_or_unchanged(place, bytes(damaged))


@given(data=st.data())
@settings(max_examples=100)
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
        np.zeros(2),
        np.str_("x"),
        Path("data"),
        torch.__version__,
        Named("x"),
        b"",
        torch.nn.Linear(1, 1),
        contextlib.nullcontext(),
        {np.int64(1): 0},
    ],
    ids=lambda odd: type(odd).__name__,
)
def test_what_could_not_be_read_again_is_not_written(saved, odd):
    with pytest.raises(RunError, match=r"last\.pt: cannot be saved.*plain Python types, not \w"):
        weights.save(saved, {"rows": [{}, {"best": odd}]})
    assert equal(weights.load(saved), STATE)
    assert [path.name for path in saved.parent.iterdir()] == ["last.pt"]


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
@settings(max_examples=60)
def test_every_plain_state_is_loaded_as_it_was(place, value):
    weights.save(place, {"value": value})
    assert digest(weights.load(place)) == digest({"value": value})


@given(first=plain, second=plain)
@settings(max_examples=200)
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
