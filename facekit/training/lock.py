"""One process at a time on a run's folder, or on any other. Built in notebook 04."""

import errno
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from facekit.common.errors import RunError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

BUSY = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
FAR = 1 << 30  # Windows locks bytes, and nobody else may read them: one beyond the text
_held: set[int] = set()  # open lock files of this process


@contextmanager
def only_one(folder: str | Path) -> Iterator[None]:
    """Hold the run folder, which is made where there is none; RunError if somebody else does.

    The lock is the open file, so it dies with its process, however that ends; `.lock` stays. A
    process that was forked off closes the file, or a worker that outlives a killed run would keep
    the run locked; one that was spawned never has it. Where a file system cannot lock, or the
    folder cannot be written, nothing is held.
    """
    folder = Path(folder)
    handle = _open(folder)
    if handle is None:
        yield
        return
    _held.add(handle)
    try:
        _take(handle, folder)
        yield
    finally:
        if handle in _held:  # not in a process that was forked off in between
            _held.remove(handle)
            os.close(handle)


def _open(folder: Path) -> int | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{folder}: cannot be made ({error.strerror}); choose another folder"
        ) from error
    try:
        return os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)  # not kept over an exec
    except OSError:
        return None


def _take(handle: int, folder: Path) -> None:
    try:
        _lock(handle)
    except OSError as error:
        if error.errno not in BUSY:
            return  # this file system cannot lock
        holder = os.read(handle, 200).decode(errors="replace").strip() or "another process"
        raise RunError(f"{folder} is in use by {holder}; wait for it or stop it") from None
    with suppress(OSError):  # a full disk: nobody learns who holds it
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on host {platform.node()}\n".encode())


def _lock(handle: int) -> None:
    if fcntl:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt

    os.lseek(handle, FAR, os.SEEK_SET)
    try:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    finally:
        os.lseek(handle, 0, os.SEEK_SET)


def _forget() -> None:
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
