"""What is in the image files of a set: a hash of each, remembered for files that did not change."""

import hashlib
import io
import os
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from facekit.common.errors import DataError
from facekit.common.files import write_whole
from facekit.data.background import on_all_cores
from facekit.data.images import missing_file, refuse_faults

FRESH = 2_000_000_000  # ns; a file may change once more without its time telling
# Of a file. A program may set the time of its last change, as copying does, but nobody sets the
# time at which the system changed what it keeps of the file; and another file has another number.
SEEN = np.dtype(
    [("size", "<i8"), ("time", "<i8"), ("system", "<i8"), ("number", "<u8"), ("digest", "u1", 16)]
)
STATE = ["size", "time", "system", "number"]  # what is asked of the system, without reading
MISSING, UNKNOWN = -1, -2  # sizes that no file has


@dataclass(frozen=True)
class Files:
    """Image files and what is in them."""

    paths: list[Path]
    digests: np.ndarray  # uint8 (N, 16), of the bytes of each file
    content: str  # a hash of all names and bytes, in this order

    def without(self, rows: Collection[int]) -> "Files":
        """The same files but these."""
        if not rows:
            return self
        kept = [row for row in range(len(self.paths)) if row not in rows]
        paths = [self.paths[row] for row in kept]
        digests = self.digests[kept]
        return Files(paths, digests, _content(paths, digests))


def read_files(paths: Sequence[Path], folder: Path, progress: bool = True) -> Files:
    """The hashes of the files. Those not changed since the last time are not read again.

    What was seen (size, times of change and the system's number of the file) is remembered in
    `folder`, if that can be written. A file changed in the last two seconds is read once more.
    Raises DataError for files that cannot be read, or where there are none.
    """
    if not paths:
        raise DataError("there is no image to read; name at least one image file")
    paths = [Path(path).absolute() for path in paths]
    index = Path(folder, f"{digest_of(*map(os.fsencode, paths)).hex()}.index.npz")
    old = _load_index(index, len(paths))
    new = np.zeros(len(paths), SEEN)
    started = time.time_ns()
    new["size"] = MISSING
    for row, path in enumerate(paths):
        with suppress(OSError):  # reading it will say why
            found = path.stat()
            state = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
            new[STATE][row] = state
    changed = old[STATE] != new[STATE]
    new["digest"] = old["digest"]

    def read(row: int) -> str:
        """Fill in the hash of a file; why it cannot be read, or an empty text."""
        try:
            new["digest"][row] = np.frombuffer(_digest_of_file(paths[row]), np.uint8)
        except FileNotFoundError:
            return f"{paths[row]}: {missing_file(paths[row])}"
        except OSError as error:
            return f"{paths[row]}: {error.strerror}"
        return ""

    rows = np.flatnonzero(changed).tolist()
    refuse_faults(list(filter(None, on_all_cores(read, rows, "reading images", progress))))
    latest = np.maximum(new["time"], new["system"])
    new["time"][latest > started - FRESH] = -1
    if changed.any():
        _save_index(index, new)
    return Files(paths, new["digest"], _content(paths, new["digest"]))


def digest_of(*parts: bytes) -> bytes:
    """A hash of 16 bytes."""
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).digest()


def _digest_of_file(path: Path) -> bytes:
    """`digest_of` the file's bytes; however large it is, it is never in memory as a whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=16)).digest()


def _content(paths: list[Path], digests: np.ndarray) -> str:
    start = len(os.path.commonpath([path.parent for path in paths]))
    below = (os.fsencode(path.as_posix()[start:].lstrip("/")) for path in paths)
    return digest_of(*below, digests.tobytes()).hex()


def _load_index(index: Path, count: int) -> np.ndarray:
    """What was seen the last time; of size UNKNOWN where that is not known."""
    with suppress(Exception), np.load(index) as file:  # damage may raise almost anything
        seen = file["seen"]  # .npz holds checksums
        if seen.dtype == SEEN and seen.shape == (count,):
            return seen
    nothing = np.zeros(count, SEEN)
    nothing["size"] = UNKNOWN
    return nothing


def _save_index(index: Path, seen: np.ndarray) -> None:
    content = io.BytesIO()
    np.savez(content, seen=seen)
    with suppress(OSError):  # without it, the next opening takes longer
        index.parent.mkdir(parents=True, exist_ok=True)
        write_whole(index, content.getvalue())
