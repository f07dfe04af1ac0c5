"""A folder belongs to one process, as long as that lives and no longer."""

import errno
import fcntl
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import facekit
from facekit.common.errors import RunError
from facekit.common.lock import only_one

ROOT = Path(facekit.__file__).parents[1]
PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
HOLD = """
import sys
from facekit.common.lock import only_one
with only_one(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen:
    """A process that holds the folder until its standard input is closed."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], cwd=ROOT, **PIPES)
    assert process.stdout.readline() == "held\n"
    return process


def is_free(folder: Path) -> bool:
    try:
        with only_one(folder):
            return True
    except RunError:
        return False


def test_a_second_process_is_refused_and_told_by_whom(tmp_path):
    process = hold(tmp_path / "runs" / "cnn1")
    try:
        for _ in range(2):  # a refusal leaves the lock and the name as they are
            with pytest.raises(RunError) as stop, only_one(tmp_path / "runs" / "cnn1"):
                pytest.fail("two hold it")
            assert str(stop.value) == (
                f"{tmp_path}/runs/cnn1 is in use by process {process.pid} on host "
                f"{platform.node()}; wait for it or stop it"
            )
    finally:
        process.communicate()
    assert process.returncode == 0
    assert is_free(tmp_path / "runs" / "cnn1")


def test_who_waits_is_told_for_whom_and_holds_it_after_them(tmp_path):
    first = hold(tmp_path)
    command = [sys.executable, "-u", "-c", HOLD.replace("argv[1]", "argv[1], wait=True")]
    second = subprocess.Popen([*command, str(tmp_path)], cwd=ROOT, **PIPES)
    told = f"{tmp_path} is in use by process {first.pid} on host {platform.node()}"
    assert second.stdout.readline() == f"{told}; waiting for it\n"
    first.kill()
    first.communicate()
    assert second.stdout.readline() == "held\n"
    with pytest.raises(RunError, match=f"in use by process {second.pid} "):
        only_one(tmp_path).__enter__()
    second.communicate()


def test_a_link_where_the_holder_is_noted_is_not_followed(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".lock-holder").symlink_to(tmp_path / "mine.txt")
    assert is_free(folder)
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_dies_with_its_process(tmp_path, number):
    process = hold(tmp_path)
    assert not is_free(tmp_path)
    process.send_signal(number)
    assert process.wait() == -number
    process.communicate()
    assert is_free(tmp_path)


def test_the_same_process_is_refused_too_and_an_error_inside_frees_the_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), only_one(tmp_path):
        assert not is_free(tmp_path)
        assert is_free(tmp_path / "other")
        raise ZeroDivisionError
    assert is_free(tmp_path)


def refuse(number: int):
    def call(*arguments):
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_where_a_file_system_cannot_lock_one_goes_on(tmp_path, monkeypatch, number):
    monkeypatch.setattr(fcntl, "flock", refuse(number))
    with only_one(tmp_path), only_one(tmp_path):
        pass


def test_a_finished_run_on_a_read_only_disk_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "open", refuse(errno.EROFS))
    with only_one(tmp_path):
        pass


def test_a_full_disk_hides_the_holder_and_nothing_else(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse(errno.ENOSPC))
        holder = only_one(tmp_path)
        holder.__enter__()
    with pytest.raises(RunError, match="in use by another process"):
        only_one(tmp_path).__enter__()
    holder.__exit__(None, None, None)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file/run: cannot be made \(Not a directory\); choose"):
        only_one(tmp_path / "file" / "run").__enter__()
