"""Images decoded once and kept on disk as pixels, in a .npy file that `np.load` opens.

Beside `<name>.npy`, uint8 (N, side, side, 3), lies `<name>.checksums.npy` with a row for each
image: the CRC-32 of its pixels and whether the file could be read. It has that name only when all
images are there; until then it is `<name>.unfinished.npy`.
"""

import errno
import os
import shutil
import zlib
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from numpy.lib.format import open_memmap
from torchvision.transforms import v2

from facekit.common.errors import DataError
from facekit.common.lock import hold
from facekit.data.background import on_all_cores
from facekit.data.fingerprint import Files, digest_of, read_files
from facekit.data.images import MAX_BYTES, fault_of, read_rgb, refuse_faults

FORMAT = f"3-pillow-{PIL.__version__}"  # another Pillow may make other pixels of the same file
CHECKED = 64  # images whose CRC is compared whenever a cache is opened
ROW = np.dtype([("crc", "<u4"), ("readable", "?")])


class CacheError(DataError):
    """The cache folder is too full or cannot be written."""


class PixelCache(NamedTuple):
    """Decoded images in a read-only memory map."""

    images: np.ndarray  # uint8 (N, side, side, 3); black where a file cannot be read
    content: str  # of the files that can be read
    path: Path
    bad: dict[int, str]  # which files cannot be read, and why


def open_cache(
    paths: Sequence[Path],
    side: int,
    folder: Path,
    progress: bool = True,
    max_bad_fraction: float = 0,
) -> PixelCache:
    """The images as uint8 (N, side, side, 3), decoded if they have not been.

    An image is what v2.Resize(side) and v2.CenterCrop(side) make of `read_rgb`. The cache lies in
    `folder`; its name holds a hash of the files' names (below their common folder) and bytes. So
    it is found again when the files are elsewhere, and other files never get it. A killed or
    interrupted making goes on where it was. Caches of files that are no more stay, and may be
    deleted.

    On opening, the CRC of 64 images spread over the cache is compared; damaged images are made
    again. Of an unfinished cache every CRC is compared.
    Raises DataError where more than `max_bad_fraction` of the images, or all, cannot be read, after
    all others were decoded, and CacheError where the cache cannot be written.
    """
    files = read_files(paths, folder, progress)
    most = most_bad(len(paths), max_bad_fraction)
    path = Path(folder, f"{files.content}-{len(paths)}x{side}-{FORMAT}.npy")
    found = _open_finished(path, files, side)
    if found is None:
        found = _make_alone(path, files, side, most, progress)
    refuse_faults(list(found.bad.values()), most)
    return found


def most_bad(count: int, max_bad_fraction: float) -> float:
    """How many of `count` images may be unreadable: a fraction of them, and never all."""
    return min(max_bad_fraction * count, count - 1)


def read_square(path: str | Path, side: int, content: bytes | None = None) -> np.ndarray:
    """The image as uint8 (side, side, 3), as a cache holds it. Raises DataError."""
    image = read_rgb(path, content)
    return np.asarray(v2.functional.center_crop(v2.functional.resize(image, [side]), [side]))


# --- what is there


def _load(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap | None:
    """A read-only memory map; None where there is no such array."""
    try:
        found = np.load(path, mmap_mode="r")
    except Exception:  # there is none, or its bytes are damaged, which may raise almost anything
        return None
    return found if (found.dtype, found.shape) == (dtype, shape) else None


def _checksums(path: Path) -> Path:
    return path.with_suffix(".checksums.npy")


def _unfinished(path: Path) -> Path:
    return path.with_suffix(".unfinished.npy")


def _is_sound(images: np.ndarray, rows: np.ndarray, row: int) -> bool:
    """Whether an image is there, undamaged."""
    return bool(rows["readable"][row]) and zlib.crc32(images[row]) == rows["crc"][row]


def _open_finished(path: Path, files: Files, side: int) -> PixelCache | None:
    """A finished, undamaged cache; None where it has to be made or mended.

    Files marked as bad have to be so still.
    """
    count = len(files.paths)
    images = _load(path, np.dtype(np.uint8), (count, side, side, 3))
    rows = _load(_checksums(path), ROW, (count,))
    if images is None or rows is None:
        return None
    images = np.asarray(images)  # a row of a plain array is found quicker
    bad = {}
    for row in np.flatnonzero(~rows["readable"]).tolist():
        bad[row] = fault_of(files.paths[row])
        if not bad[row]:
            return None
    for row in np.linspace(0, count - 1, min(CHECKED, count)).astype(int).tolist():
        if row not in bad and not _is_sound(images, rows, row):
            return None
    return PixelCache(images, files.without(bad).content, path, bad)


# --- making it


def _make_alone(path: Path, files: Files, side: int, most: float, progress: bool) -> PixelCache:
    """Make the cache, one process at a time in a folder; the others wait and find it made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with hold(path.parent, wait=True):
            found = _open_finished(path, files, side)  # made by another process meanwhile?
            return found or _make(path, files, side, most, progress)
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        if getattr(error, "errno", None) == errno.ENOSPC:  # leave room for the checkpoints
            path.unlink(missing_ok=True)
            _unfinished(path).unlink(missing_ok=True)
        raise _cannot_write(path.parent, getattr(error, "strerror", "") or str(error)) from error


class _RowFile:
    """A .npy file that is written row by row.

    Not through its memory map: on a full disk that would kill the process, and writing to a file
    is an OSError.
    """

    def __init__(self, path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self.array = _load(path, dtype, shape)
        if self.array is None:
            path.unlink(missing_ok=True)  # whoever has the old one open keeps it
            open_memmap(path, "w+", dtype, shape)  # zeros, which take up no room yet
            self.array = np.load(path, mmap_mode="r")
        self.file = path.open("r+b")

    def write(self, row: int, values: np.ndarray) -> None:
        """Flushed, so that a killed process leaves no checksum without its pixels."""
        self.file.seek(self.array.offset + row * self.array.strides[0])
        self.file.write(values.tobytes())
        self.file.flush()

    def close(self) -> None:
        """Close it once it is on the disk, whatever happens to the power then."""
        os.fsync(self.file.fileno())
        self.file.close()


def _make(path: Path, files: Files, side: int, most: float, progress: bool) -> PixelCache:
    """Make the cache or what it lacks. DataError where more than `most` files are bad."""
    count = len(files.paths)
    _check_room(path, count * side * side * 3)
    if _checksums(path).exists():  # but an image is damaged
        os.replace(_checksums(path), _unfinished(path))
    bad = {}
    with (
        closing(_RowFile(path, np.dtype(np.uint8), (count, side, side, 3))) as images,
        closing(_RowFile(_unfinished(path), ROW, (count,))) as rows,
    ):
        missing = [row for row in range(count) if not _is_sound(images.array, rows.array, row)]
        decode = partial(_decode, files, side)
        for row, pixels, fault in on_all_cores(decode, missing, "decoding images", progress):
            images.write(row, pixels)
            rows.write(row, np.array((zlib.crc32(pixels), not fault), ROW))
            if fault:
                bad[row] = fault
    refuse_faults(list(bad.values()), most)
    os.replace(_unfinished(path), _checksums(path))
    return PixelCache(np.asarray(images.array), files.without(bad).content, path, bad)


class _Decoded(NamedTuple):
    row: int
    pixels: np.ndarray  # uint8 (side, side, 3)
    fault: str  # "" where the file could be read


def _decode(files: Files, side: int, row: int) -> _Decoded:
    """An image; black where the file cannot be read."""
    path = files.paths[row]
    black = np.zeros((side, side, 3), np.uint8)
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        return _Decoded(row, black, fault_of(path))
    content = _read_again(path, files.digests[row])
    try:
        return _Decoded(row, read_square(path, side, content), "")
    except DataError as error:
        return _Decoded(row, black, str(error))


def _read_again(path: Path, digest: np.ndarray) -> bytes:
    """The bytes that the file had before. Raises DataError: such a file is not a bad image."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    if digest_of(content) != digest.tobytes():
        raise DataError(f"{path}: changed while the images were being read; start again")
    return content


def _check_room(path: Path, needed: int) -> None:
    """Raise CacheError unless the cache will fit beside a tenth of its size for other things."""
    there = 0
    if path.exists():
        there = getattr(path.stat(), "st_blocks", 0) * 512
    free = shutil.disk_usage(path.parent).free
    if free < 1.1 * needed - there:
        reason = f"{free / 1e6:.0f} MB free, {needed / 1e6:.0f} needed"
        raise _cannot_write(path.parent, reason)


def _cannot_write(folder: Path, reason: str) -> CacheError:
    return CacheError(
        f"{folder}: no room for decoded images ({reason}); set FACEKIT_CACHE to another folder"
    )
