"""A file is the old or the new whole, lies where it was asked for, and leaves nothing beside it."""

import errno
import os
import stat
from pathlib import Path

import pytest

from facekit.common import files
from facekit.common.files import write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["a.jpg", "Büşra.csv", "long" * 63])
def test_a_file_is_written_and_written_again(tmp_path, name):
    for content in (b"old", b"new"):
        write_whole(tmp_path / name, content)
        assert (tmp_path / name).read_bytes() == content
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "; make room, or choose another folder"),
        (errno.EROFS, "; choose a folder that can be written"),
        (errno.EIO, ""),
    ],
)
def test_a_failing_disk_is_named_with_advice_and_leaves_the_old_file(
    tmp_path, monkeypatch, call, number, advice
):
    path = tmp_path / "a.csv"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError) as stop:
        write_whole(path, b"new")
    assert stop.value.errno == number
    assert stop.value.strerror == os.strerror(number) + advice
    assert stop.value.filename == str(path)
    assert names(tmp_path) == ["a.csv"]
    assert path.read_bytes() == b"old"


def test_no_link_is_followed(tmp_path, monkeypatch):
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    (tmp_path / "a.csv").symlink_to(precious)
    write_whole(tmp_path / "a.csv", b"new")
    assert not (tmp_path / "a.csv").is_symlink()
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "guessed")
    part = tmp_path / f".b.csv.guessed.{os.getpid()}.part"
    part.symlink_to(precious)
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "b.csv", b"new")
    assert precious.read_bytes() == b"mine"


def test_the_bytes_and_then_the_name_reach_the_disk(tmp_path, monkeypatch):
    done, sync, replace = [], os.fsync, os.replace

    def noted_sync(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        sync(handle)

    def noted_replace(*arguments) -> None:
        done.append("rename")
        replace(*arguments)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_whole(tmp_path / "a.csv", b"new")
    assert done == ["file", "rename", "folder"]
