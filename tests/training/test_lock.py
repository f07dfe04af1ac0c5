"""A run's folder belongs to one process, as long as that lives and no longer."""

import errno
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from facekit.common.errors import RunError
from facekit.training import lock
from facekit.training.lock import only_one

HOLD = """
import multiprocessing, os, subprocess, sys, time
from facekit.training.lock import only_one
os.setpgid(0, 0)
with only_one(sys.argv[1]):
    {first}
    print("held", flush=True)
    sys.stdin.read()
"""
CHILDREN = {
    "forked": "os.fork() or (time.sleep(600), os._exit(0))",
    "spawned": "subprocess.Popen(['sleep', '600'], close_fds=False)",
    "worker": "multiprocessing.get_context('fork').Process("
    "target=time.sleep, args=(600,), daemon=True).start()",
}


def hold(folder: Path, first: str = "") -> subprocess.Popen:
    """A process that holds the folder until its standard input is closed."""
    command = [sys.executable, "-c", HOLD.format(first=first), str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=Path(lock.__file__).parents[2], **pipes)
    assert process.stdout.readline() == "held\n"
    return process


def is_free(folder: Path) -> bool:
    try:
        with only_one(folder):
            return True
    except RunError:
        return False


def soon_free(folder: Path) -> bool:
    end = time.monotonic() + 60
    while not is_free(folder):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def in_child(action) -> int:
    """What a forked process answers with, as a small number."""
    child = os.fork()
    if not child:
        os._exit(int(action()))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_second_process_is_refused_and_told_by_whom(tmp_path):
    process = hold(tmp_path / "runs" / "cnn1")
    try:
        with pytest.raises(RunError) as stop, only_one(tmp_path / "runs" / "cnn1"):
            pytest.fail("two hold it")
        assert str(stop.value) == (
            f"{tmp_path}/runs/cnn1 is in use by process {process.pid} on host {platform.node()}; "
            "wait for it or stop it"
        )
    finally:
        process.communicate()
    assert process.returncode == 0
    assert is_free(tmp_path / "runs" / "cnn1")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_dies_with_its_process(tmp_path, number):
    process = hold(tmp_path)
    assert not is_free(tmp_path)
    process.send_signal(number)
    assert process.wait() == -number
    process.communicate()
    assert is_free(tmp_path)


@pytest.mark.parametrize("kind", CHILDREN)
def test_a_child_that_outlives_a_killed_run_does_not_keep_the_lock(tmp_path, kind):
    process = hold(tmp_path, CHILDREN[kind])
    assert not is_free(tmp_path)
    process.kill()
    process.wait()
    freed = soon_free(tmp_path)  # the child may not have run at all yet, and have all to close
    os.killpg(process.pid, signal.SIGKILL)  # fails if there was no child that outlived it
    assert freed
    process.communicate()


def test_the_same_process_is_refused_too_and_so_is_another_thread(tmp_path):
    seen = []
    with only_one(tmp_path):
        assert not is_free(tmp_path)
        thread = threading.Thread(target=lambda: seen.append(is_free(tmp_path)))
        thread.start()
        thread.join()
        assert seen == [False]
        with pytest.raises(RunError, match=f"in use by process {os.getpid()} on host"):
            only_one(tmp_path).__enter__()
    assert is_free(tmp_path)


def test_a_refusal_and_a_forked_child_leave_the_lock_as_it_is(tmp_path):
    def leave() -> bool:  # as a worker does that ends by an exception
        holder.__exit__(None, None, None)
        return is_free(tmp_path)

    holder = only_one(tmp_path)
    holder.__enter__()
    assert not is_free(tmp_path)
    assert in_child(leave) == 0
    assert not is_free(tmp_path)
    holder.__exit__(None, None, None)
    assert in_child(lambda: is_free(tmp_path)) == 1


def test_an_error_inside_frees_the_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), only_one(tmp_path):
        raise ZeroDivisionError
    assert is_free(tmp_path)
    assert not lock._held


def test_other_folders_are_free(tmp_path):
    with only_one(tmp_path / "a"), only_one(tmp_path / "b"):
        assert not is_free(tmp_path / "a")
        assert is_free(tmp_path / "c")


def test_what_an_earlier_holder_left_is_overwritten(tmp_path):
    (tmp_path / ".lock").write_text("process 99999999 on host elsewhere, and a longer text\n")
    with only_one(tmp_path):
        text = (tmp_path / ".lock").read_text()
    assert text == f"process {os.getpid()} on host {platform.node()}\n"


def refuse(number: int):
    def call(*arguments):
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_where_a_file_system_cannot_lock_one_goes_on(tmp_path, monkeypatch, number):
    monkeypatch.setattr(lock.fcntl, "flock", refuse(number))
    with only_one(tmp_path):
        pass


@pytest.mark.parametrize("name", ["write", "ftruncate"])
def test_a_full_disk_hides_the_holder_and_nothing_else(tmp_path, monkeypatch, name):
    with monkeypatch.context() as patch:
        patch.setattr(os, name, refuse(errno.ENOSPC))
        holder = only_one(tmp_path)
        holder.__enter__()
    with pytest.raises(RunError, match="in use by another process"):
        only_one(tmp_path).__enter__()
    holder.__exit__(None, None, None)


def test_a_finished_run_on_a_read_only_disk_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "open", refuse(errno.EROFS))
    with only_one(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file/run: cannot be made \(Not a directory\); choose"):
        only_one(tmp_path / "file" / "run").__enter__()


class Windows:
    """The locking of bytes as Windows does it: others' bytes cannot be locked, or even read."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        self.taken: set[tuple[int, int]] = set()

    def locking(self, handle: int, mode: int, count: int) -> None:
        place = os.fstat(handle).st_ino, os.lseek(handle, 0, os.SEEK_CUR)
        if (mode, count) != (self.LK_NBLCK, 1) or place[1] < 1000:
            raise AssertionError("the text must stay readable")
        if place in self.taken:
            raise PermissionError(errno.EACCES, "Permission denied")
        self.taken.add(place)


def test_on_windows_a_byte_beyond_the_text_is_locked(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", Windows())
    with only_one(tmp_path):
        with pytest.raises(RunError, match=f"in use by process {os.getpid()} on host"):
            only_one(tmp_path).__enter__()
        with only_one(tmp_path / "other"):
            pass
