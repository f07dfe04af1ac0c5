"""One process at a time in a folder: a run's, or the cache of what Kaggle sent."""

import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from facekit.common.errors import RunError, say
from facekit.common.files import write_whole

LOCK, HOLDER = ".lock", ".lock-holder"


@contextmanager
def only_one(folder: str | Path, wait: bool = False) -> Iterator[None]:
    """`hold` the folder, which is made where there is none; RunError if somebody else holds it.

    Where a file system cannot lock, or the folder cannot be written, nothing is held.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{folder}: cannot be made ({error.strerror}); choose another folder"
        ) from error
    with ExitStack() as stack:
        with suppress(OSError, NotImplementedError):
            stack.enter_context(hold(folder, wait))
        yield


@contextmanager
def hold(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold a folder that is there; RunError if somebody else holds it.

    `wait`: say who holds it, and hold it after them. The lock dies with its process, however that
    ends; `.lock` and `.lock-holder` stay. Raises OSError or NotImplementedError where nothing can
    be locked.
    """
    holder = folder / HOLDER  # beside the lock, which a second attempt empties
    lock = _file_lock(folder / LOCK)
    try:
        lock.acquire()
    except Timeout:
        in_use = f"{folder} is in use by {_read(holder)}"
        if not wait:
            raise RunError(f"{in_use}; wait for it or stop it") from None
        say(f"{in_use}; waiting for it")
        lock.acquire(timeout=-1)
    try:
        with suppress(OSError):  # a full disk: nobody learns who holds it
            write_whole(holder, f"process {os.getpid()} on host {platform.node()}\n".encode())
        yield
    finally:
        lock.release()


def _file_lock(path: Path) -> FileLock:
    """Without a soft lock to fall back to: that is a file which would outlive a killed process."""
    try:
        return FileLock(path, timeout=0, fallback_to_soft=False)
    except TypeError:  # an older one, which never falls back
        return FileLock(path, timeout=0)


def _read(holder: Path) -> str:
    try:
        return holder.read_text(errors="replace").strip() or "another process"
    except OSError:
        return "another process"
