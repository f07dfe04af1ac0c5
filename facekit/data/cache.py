"""Images decoded once and kept on disk as pixels, in a .npy file that `np.load` opens.

Beside `<name>.npy`, uint8 (N, side, side, 3), lies `<name>.digests.npy` with a row for each image:
the hash of its file, the CRC-32 of its pixels, and whether the file could be read. It has that name
only when all images are there; until then it is `<name>.unfinished.npy`.
"""

import errno
import os
import shutil
import zlib
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from filelock import FileLock
from numpy.lib.format import open_memmap
from torchvision.transforms import v2

from facekit.common.errors import DataError
from facekit.data.background import in_blocks
from facekit.data.fingerprint import Files, digest_of, read_files
from facekit.data.images import fault_of, find_unreadable, read_rgb, refuse_faults

FORMAT = f"2-pillow-{PIL.__version__}"  # another Pillow may make other pixels of the same file
CHECKED = 64  # images whose CRC is compared whenever a cache is opened
ROW = np.dtype([("digest", "u1", 16), ("crc", "<u4"), ("readable", "?")])  # digest 0: not made yet


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
    interrupted making goes on where it was; images that another cache of this side in `folder`
    holds are taken from there. Caches of files that are no more stay, and may be deleted.

    On opening, all digests and the CRC of 64 images spread over the cache are compared; damaged
    images are made again. Of an unfinished cache every CRC is compared.
    Raises DataError where more than `max_bad_fraction` of the images, or all, cannot be read, after
    all others were decoded, and CacheError where the cache cannot be written.
    """
    folder = Path(folder)
    files = read_files(paths, folder, progress)
    most = most_bad(len(paths), max_bad_fraction)
    path = folder / f"{files.content}-{len(paths)}x{side}-{FORMAT}.npy"
    found = _open_finished(path, files, side)
    if found is None:
        found = _make_alone(path, files, side, most, progress)
    refuse_faults(list(found.bad.values()), most)
    return found


def most_bad(count: int, max_bad_fraction: float) -> float:
    """How many of `count` images may be unreadable: a fraction of them, and never all."""
    return min(max_bad_fraction * count, count - 1)


class SoundFiles(NamedTuple):
    """What a cache would say of files, where there is none."""

    content: str
    bad: dict[int, str]


def read_sound_files(
    paths: Sequence[Path], folder: Path, progress: bool = True, max_bad_fraction: float = 0
) -> SoundFiles:
    """What `open_cache` says of content and bad files, without a cache.

    Images are decoded only where some may be bad.
    """
    files = read_files(paths, folder, progress)
    bad: dict[int, str] = {}
    if max_bad_fraction:
        bad = find_unreadable(files.paths, progress)
    refuse_faults(list(bad.values()), most_bad(len(paths), max_bad_fraction))
    return SoundFiles(files.without(bad).content, bad)


def source_side(paths: Sequence[Path]) -> int:
    """The shorter side of the first image that can be read, in pixels."""
    path = next((path for path in paths if not fault_of(path)), paths[0])
    return min(read_rgb(path).size)


def read_square(path: str | Path, side: int, content: bytes | None = None) -> np.ndarray:
    """The image as uint8 (side, side, 3), as a cache holds it. Raises DataError."""
    image = read_rgb(path, content)
    return np.asarray(v2.functional.center_crop(v2.functional.resize(image, [side]), [side]))


# --- what is there


class _Arrays(NamedTuple):
    """The two files of a cache, finished or not."""

    images: np.ndarray  # uint8 (N, side, side, 3)
    rows: np.ndarray  # (N,) of ROW

    def holds(self, row: int, digest: np.ndarray) -> bool:
        """Whether the image of that file is there, undamaged."""
        found = self.rows[row]
        same_file = found["readable"] and np.array_equal(found["digest"], digest)
        return bool(same_file) and zlib.crc32(self.images[row]) == found["crc"]

    def held(self) -> list[int]:
        """The rows that hold an image, if they are undamaged."""
        return np.flatnonzero(self.rows["readable"]).tolist()


def _open_arrays(path: Path, digests: Path, side: int) -> _Arrays | None:
    """The two files of a cache as read-only memory maps; None where they are none of this side."""
    images = _load(path)
    rows = _load(digests)
    if images is None or rows is None or rows.dtype != ROW or rows.ndim != 1:
        return None
    if images.dtype != np.uint8 or images.shape != (len(rows), side, side, 3):
        return None
    return _Arrays(np.asarray(images), np.asarray(rows))


def _load(path: Path) -> np.memmap | None:
    try:
        return np.load(path, mmap_mode="r")
    except Exception:  # there is none, or its bytes are damaged, which may raise almost anything
        return None


def _finished(path: Path) -> Path:
    return path.with_name(f"{path.stem}.digests.npy")


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.stem}.unfinished.npy")


def _images_of(digests: Path) -> Path:
    return digests.with_name(f"{Path(digests.stem).stem}.npy")


def _open_finished(path: Path, files: Files, side: int) -> PixelCache | None:
    """A finished, undamaged cache; None where it has to be made or mended.

    Files marked as bad have to be so still.
    """
    digests = files.digests
    found = _open_arrays(path, _finished(path), side)
    if found is None or not np.array_equal(found.rows["digest"], digests):
        return None
    bad = {}
    for row in np.flatnonzero(~found.rows["readable"]).tolist():
        bad[row] = fault_of(files.paths[row])
        if not bad[row]:
            return None
    for row in np.linspace(0, len(digests) - 1, min(CHECKED, len(digests))).astype(int).tolist():
        if row not in bad and not found.holds(row, digests[row]):
            return None
    return PixelCache(found.images, files.without(bad).content, path, bad)


# --- making it


def _make_alone(path: Path, files: Files, side: int, most: float, progress: bool) -> PixelCache:
    """Make the cache, one process at a time in a folder; the others wait and find it made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / "cache.lock"):
            if _open_finished(path, files, side) is None:
                _make(path, files, side, most, progress)
            found = _open_finished(path, files, side)
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        if getattr(error, "errno", None) == errno.ENOSPC:  # leave room for the checkpoints
            path.unlink(missing_ok=True)
            _unfinished(path).unlink(missing_ok=True)
        raise _cannot_write(path.parent, getattr(error, "strerror", "") or str(error)) from error
    if found is None:
        raise DataError(f"{path}: damaged as soon as it is written; put the cache on another disk")
    return found


class _Decoded(NamedTuple):
    row: int
    pixels: np.ndarray  # uint8 (side, side, 3)
    fault: str  # "" where the file could be read


class _RowFile:
    """A .npy file that is written row by row.

    Not through its memory map: on a full disk that would kill the process, and writing to a file
    is an OSError.
    """

    def __init__(self, path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self.array = _load(path)
        if self.array is None or (self.array.dtype, self.array.shape) != (dtype, shape):
            path.unlink(missing_ok=True)  # whoever has the old one open keeps it
            open_memmap(path, "w+", dtype, shape)  # zeros, which take up no room yet
            self.array = np.load(path, mmap_mode="r")
        self.file = path.open("r+b")

    def write(self, row: int, values: np.ndarray) -> None:
        """Flushed, so that a killed process leaves no digest without its pixels."""
        self.file.seek(self.array.offset + row * self.array.strides[0])
        self.file.write(values.tobytes())
        self.file.flush()

    def close(self) -> None:
        """Close it once it is on the disk, whatever happens to the power then."""
        os.fsync(self.file.fileno())
        self.file.close()


def _make(path: Path, files: Files, side: int, most: float, progress: bool) -> None:
    """Make the cache or what it lacks. DataError where more than `most` files are bad."""
    count = len(files.paths)
    _check_room(path, count * (side * side * 3 + ROW.itemsize))
    if _finished(path).exists():  # but damaged
        os.replace(_finished(path), _unfinished(path))
    faults = []
    with (
        closing(_RowFile(path, np.dtype(np.uint8), (count, side, side, 3))) as images,
        closing(_RowFile(_unfinished(path), ROW, (count,))) as rows,
    ):
        made = _Arrays(np.asarray(images.array), np.asarray(rows.array))
        decode = partial(_decode_missing, files, side, made, _find_others(path, side))
        for block in in_blocks(decode, count, "decoding images", progress):
            for row, pixels, fault in block:
                images.write(row, pixels)
                state = (files.digests[row], zlib.crc32(pixels), not fault)
                rows.write(row, np.array(state, ROW))
                if fault:
                    faults.append(fault)
    refuse_faults(faults, most)
    os.replace(_unfinished(path), _finished(path))
    _delete_needless(path, files, side)


def _decode_missing(
    files: Files, side: int, made: _Arrays, others: dict, block: range
) -> list[_Decoded]:
    """The images of a block that the cache lacks, from another cache or decoded."""
    found = []
    for row in block:
        digest = files.digests[row]
        if made.holds(row, digest):
            continue
        other, place = others.get(digest.tobytes(), (None, 0))
        if other is not None and other.holds(place, digest):
            found.append(_Decoded(row, other.images[place], ""))
            continue
        content = _read_again(files.paths[row], digest)
        try:
            found.append(_Decoded(row, read_square(files.paths[row], side, content), ""))
        except DataError as error:
            found.append(_Decoded(row, np.zeros((side, side, 3), np.uint8), str(error)))
    return found


def _read_again(path: Path, digest: np.ndarray) -> bytes:
    """The bytes that the file had before. Raises DataError: such a file is not a bad image."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    if digest_of(content) != digest.tobytes():
        raise DataError(f"{path}: changed while the images were being read; start again")
    return content


def _other_caches(path: Path, side: int) -> dict[Path, _Arrays]:
    """The other caches of this side in the folder, by the file with their digests."""
    found = {}
    for digests in sorted(path.parent.glob(f"*x{side}-{FORMAT}.*.npy")):
        arrays = _open_arrays(_images_of(digests), digests, side)
        if arrays is not None and _images_of(digests) != path:
            found[digests] = arrays
    return found


def _find_others(path: Path, side: int) -> dict[bytes, tuple[_Arrays, int]]:
    """Where the other caches of this side hold which file's image, the unfinished included."""
    found: dict[bytes, tuple[_Arrays, int]] = {}
    for other in _other_caches(path, side).values():
        for row in other.held():
            found.setdefault(other.rows["digest"][row].tobytes(), (other, row))
    return found


def _delete_needless(path: Path, files: Files, side: int) -> None:
    """Delete unfinished caches (of files since replaced, say) that hold only what is here."""
    here = {digest.tobytes() for digest in files.digests}
    for digests, other in _other_caches(path, side).items():
        held = [other.rows["digest"][row].tobytes() for row in other.held()]
        if ".unfinished" in digests.name and held and here.issuperset(held):
            with suppress(OSError):
                digests.unlink()
                _images_of(digests).unlink()


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
