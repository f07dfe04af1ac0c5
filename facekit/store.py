"""Pictures decoded once and kept on disk as plain pixels, ready to be gathered."""

import errno
import hashlib
import os
import shutil
import time
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Event, Semaphore, Thread
from typing import BinaryIO, NamedTuple, TypeVar

import numpy as np
import PIL
from torchvision.transforms import v2
from tqdm.auto import tqdm

from facekit.errors import DataError
from facekit.images import fault_of, find_unreadable, read_rgb, refuse_faults
from facekit.tables import write_whole

FORMAT = f"1-pillow-{PIL.__version__}"  # another Pillow may make other pixels of the same file
BLOCK = 16  # pictures a thread decodes at a time
CHECKED = 64  # pictures whose checksum is compared whenever a map is opened
FRESH = 2_000_000_000  # ns; a file may change once more without its time telling
RECORD = np.dtype([("digest", "u1", 16), ("checksum", "<u4")])  # of a picture in a map
SEEN = np.dtype([("size", "<i8"), ("time", "<i8"), ("digest", "u1", 16)])  # of a file


T, R = TypeVar("T"), TypeVar("R")


class NoRoom(DataError):
    """The folder of the maps is too full or cannot be written."""


class Files(NamedTuple):
    """Image files and what is in them."""

    paths: list[Path]
    digests: np.ndarray  # uint8 (N, 16), of the bytes of each file
    content: str  # of all names and bytes, in this order

    def without(self, rows: Collection[int]) -> "Files":
        """The same files but some."""
        if not rows:
            return self
        kept = [row for row in range(len(self.paths)) if row not in rows]
        paths, digests = [self.paths[row] for row in kept], self.digests[kept]
        return Files(paths, digests, _content(paths, digests))


class Store(NamedTuple):
    """Decoded pictures in a read-only memory map."""

    images: np.ndarray  # uint8 (N, side, side, 3); black where a file cannot be read
    content: str  # of the files that can be read
    path: Path
    bad: dict[int, str]  # which files cannot be read, and why


def open_store(
    paths: Sequence[Path], side: int, folder: Path, progress: bool = True, spare: float = 0
) -> Store:
    """The pictures as uint8 (N, side, side, 3), decoded if they have not been.

    A picture is what v2.Resize(side) and v2.CenterCrop(side) make of `read_rgb`. The map lies in
    `folder`; its name holds a hash of the files' names (below their common folder) and bytes. So
    it is found again when the files are elsewhere, and other files never get it. A killed or
    interrupted making goes on where it was; pictures that another map of this side in `folder`
    holds are taken from there. Maps of files that are no more stay, and may be deleted.

    After the pixels the map holds, for each picture, the hash of its file and a CRC-32 of its
    pixels. On opening, the length, all the hashes, and the CRC of 64 pictures spread over the map
    are compared; a map that fails is made again. A half-made one is compared throughout.
    Raises DataError where more than the share `spare` of the images, or all, cannot be read, after
    all others were decoded, and NoRoom where the map cannot be written.
    """
    files, most = read_files(paths, folder, progress), most_bad(len(paths), spare)
    path = Path(folder, f"{files.content}-{len(paths)}x{side}-{FORMAT}.pictures")
    for _ in range(3):  # more than once only where other processes work in the same folder
        found = _open_whole(path, files, side)
        if found is not None:
            images, bad = found
            refuse_faults(list(bad.values()), most)
            return Store(images, files.without(bad).content, path, bad)
        try:
            _make(path, files, side, most, progress)
        except FileNotFoundError:  # another process was the first to put it in its place
            continue
        except OSError as error:
            if error.errno == errno.ENOSPC:  # leave room for the checkpoints
                path.with_suffix(".part").unlink(missing_ok=True)
            raise NoRoom(_no_room(path.parent, error.strerror or str(error))) from error
    raise DataError(f"{path}: damaged as soon as it is written; put the cache on another disk")


def most_bad(count: int, spare: float) -> float:
    """How many of `count` images may be unreadable: a share of them, and never all."""
    return min(spare * count, count - 1)


def read_sound_files(
    paths: Sequence[Path], folder: Path, progress: bool = True, spare: float = 0
) -> tuple[str, dict[int, str]]:
    """What `open_store` says of content and bad files, without a map.

    Images are decoded only where some may be bad.
    """
    files = read_files(paths, folder, progress)
    bad = find_unreadable(files.paths, progress) if spare else {}
    refuse_faults(list(bad.values()), most_bad(len(paths), spare))
    return files.without(bad).content, bad


def source_side(paths: Sequence[Path]) -> int:
    """The shorter side of the first picture that can be read, in pixels."""
    path = next((path for path in paths if not fault_of(path)), paths[0])
    return min(read_rgb(path).size)


def fit_picture(path: str | Path, side: int, content: bytes | None = None) -> np.ndarray:
    """The picture as uint8 (side, side, 3), as a store holds it. Raises DataError."""
    image = read_rgb(path, content)
    return np.asarray(v2.functional.center_crop(v2.functional.resize(image, [side]), [side]))


def run_ahead(work: Callable[[T], R], items: Iterable[T], threads: int, ahead: int) -> Iterator[R]:
    """The results of `work`, in order, with `ahead` items under way in so many threads.

    An error in `work` is raised here. A thread lives for one item: whoever stops asking, and
    however, leaves none behind.
    """
    gate, stop = Semaphore(threads), Event()

    def run(item: T, future: Future) -> None:
        with gate:
            try:
                future.set_result(None if stop.is_set() else work(item))
            except BaseException as error:
                future.set_exception(error)

    def start(item: T) -> tuple[Thread, Future]:
        future: Future = Future()
        thread = Thread(target=run, args=(item, future), name="facekit")
        thread.start()
        return thread, future

    items, waiting = iter(items), deque()
    try:
        waiting.extend(map(start, islice(items, ahead)))
        while waiting:
            result = waiting[0][1].result()
            waiting.popleft()[0].join()
            waiting.extend(map(start, islice(items, 1)))
            yield result
            del result  # or it would live until the next is there
    finally:
        stop.set()
        for thread, _ in waiting:
            thread.join()


def count_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_blocks(work: Callable, rows: Sequence[int], name: str, progress: bool) -> Iterator:
    """What `work` makes of blocks of rows, over all cores, with a progress bar."""
    threads = count_cores()
    blocks = (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))
    with tqdm(total=len(rows), desc=name, disable=not (progress and len(rows))) as bar:
        for result in run_ahead(work, blocks, threads, 2 * threads):
            yield result
            bar.update(min(BLOCK, len(rows) - bar.n))


# --- the files


def read_files(paths: Sequence[Path], folder: Path, progress: bool = True) -> Files:
    """The hashes of the files. Those not changed since the last time are not read again.

    What was seen (size and time of change) is remembered in `folder`, if that can be written.
    Raises DataError for files that cannot be read, or where there are none.
    """
    if not paths:
        raise DataError("there is no picture to read; name at least one image file")
    paths = [Path(path).absolute() for path in paths]
    index = Path(folder, f"{_digest(*map(os.fsencode, paths)).hex()}.index")
    old, new = _load_index(index, len(paths)), np.zeros(len(paths), SEEN)
    started = time.time_ns()
    new["size"], new["time"] = zip(*map(_size_and_time, paths), strict=True)
    changed = (old["size"] != new["size"]) | (old["time"] != new["time"])
    new["digest"] = old["digest"]
    faults: list[str] = []
    read = partial(_read_digests, paths, new["digest"])
    for found in _in_blocks(read, np.flatnonzero(changed).tolist(), "reading images", progress):
        faults += found
    refuse_faults(faults)
    new["time"][new["time"] > started - FRESH] = -1
    if changed.any():
        _save_index(index, new)
    return Files(paths, new["digest"], _content(paths, new["digest"]))


def _digest(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).digest()


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return -1, -1  # reading it will say why
    return found.st_size, found.st_mtime_ns


def _read_digests(paths: list[Path], digests: np.ndarray, rows: Sequence[int]) -> list[str]:
    """Fill in the hashes of some files; the errors of those that cannot be read."""
    faults = []
    for row in rows:
        try:
            digests[row] = np.frombuffer(_digest(paths[row].read_bytes()), np.uint8)
        except OSError as error:
            reason = "no such file" if error.errno == errno.ENOENT else error.strerror
            faults.append(f"{paths[row]}: {reason}")
    return faults


def _content(paths: list[Path], digests: np.ndarray) -> str:
    start = len(os.path.commonpath([path.parent for path in paths]))
    below = (os.fsencode(path.as_posix()[start:].lstrip("/")) for path in paths)
    return _digest(*below, digests.tobytes()).hex()


def _load_index(index: Path, count: int) -> np.ndarray:
    """What was seen the last time; rows like no file's where that is not known."""
    if index.is_file():
        content = index.read_bytes()
        if content[:16] == _digest(content[16:]) and len(content) == 16 + count * SEEN.itemsize:
            return np.frombuffer(content, SEEN, offset=16)
    nothing = np.zeros(count, SEEN)
    nothing["size"] = -2
    return nothing


def _save_index(index: Path, seen: np.ndarray) -> None:
    with suppress(OSError):  # without it, the next opening takes longer
        index.parent.mkdir(parents=True, exist_ok=True)
        write_whole(index, _digest(seen.tobytes()) + seen.tobytes())


# --- the map: all pixels, then a record for each picture


class _Map(NamedTuple):
    images: np.ndarray  # uint8 (N, side, side, 3)
    records: np.ndarray  # (N,) of RECORD

    def holds(self, row: int, digest: np.ndarray) -> bool:
        """Whether the picture of that file is there, undamaged."""
        record = self.records[row]
        same = np.array_equal(record["digest"], digest)
        return same and zlib.crc32(self.images[row]) == record["checksum"]

    def marked(self) -> np.ndarray:
        """Whether each row is of a file that could not be decoded: (N,) of bool."""
        return self.records["checksum"] == _mark(self.images.shape[1])

    def pictures(self) -> list[int]:
        """The rows that hold a picture, if they are undamaged."""
        return np.flatnonzero(self.records["digest"].any(1) & ~self.marked()).tolist()


def _open_map(path: Path, side: int) -> _Map | None:
    """A map, whole or not; None where there is none of that side."""
    try:
        with path.open("rb") as file:
            return _map(file, side)
    except OSError:
        return None


def _map(file: BinaryIO, side: int) -> _Map | None:
    """The map in an open file; None where its length is not one of that side."""
    picture = side * side * 3
    count, rest = divmod(os.fstat(file.fileno()).st_size, picture + RECORD.itemsize)
    if rest or not count:
        return None
    images = np.memmap(file, np.uint8, "r", shape=(count, side, side, 3))
    records = np.memmap(file, RECORD, "r", offset=count * picture, shape=(count,))
    return _Map(images, records)


def _mark(side: int) -> int:
    """The checksum that stands for "cannot be decoded": not the one of the black pixels there."""
    return zlib.crc32(bytes(side * side * 3)) ^ 0xFFFFFFFF


def _open_whole(path: Path, files: Files, side: int) -> tuple[np.ndarray, dict[int, str]] | None:
    """The pictures of a whole map, and which files are bad: still so, or it is made again."""
    found, digests = _open_map(path, side), files.digests
    if found is None or not np.array_equal(found.records["digest"], digests):
        return None
    bad = {row: fault_of(files.paths[row]) for row in np.flatnonzero(found.marked()).tolist()}
    rows = np.linspace(0, len(digests) - 1, min(CHECKED, len(digests))).astype(int)
    sound = all(found.holds(row, digests[row]) for row in rows.tolist() if row not in bad)
    return (found.images, bad) if sound and all(bad.values()) else None


def _make(path: Path, files: Files, side: int, most: float, progress: bool) -> None:
    """Make the map, or the rest of it, and put it in its place; so many files may be bad.

    Two processes may be at it at once: both write the same bytes to the same places, and the
    second finds the file moved away (FileNotFoundError).
    """
    part, picture = path.with_suffix(".part"), side * side * 3
    path.parent.mkdir(parents=True, exist_ok=True)
    _check_room(part, len(files.paths) * (picture + RECORD.itemsize))
    part.touch()
    bad: dict[int, str] = {}
    with part.open("r+b") as file:
        file.truncate(len(files.paths) * (picture + RECORD.itemsize))
        # Mapped by the open file: another process may give its name away at any moment.
        made = partial(_make_pictures, files, side, _map(file, side), _others(part, side))
        rows = range(len(files.paths))
        black = np.zeros((side, side, 3), np.uint8)
        for pictures, faults in _in_blocks(made, rows, "decoding images", progress):
            bad |= faults
            marked = [(row, black, _mark(side)) for row in faults]
            for row, pixels, checksum in pictures + marked:
                _write(file, row * picture, pixels)
                place = len(rows) * picture + row * RECORD.itemsize
                _write(file, place, np.array((files.digests[row], checksum), RECORD))
        os.fsync(file.fileno())
        refuse_faults(list(bad.values()), most)
        if not os.path.samestat(os.fstat(file.fileno()), part.stat()):
            raise FileNotFoundError(part)  # a third process begins anew under this name
    os.replace(part, path)
    _clear(path, files.digests, side)


def _write(file: BinaryIO, place: int, values: np.ndarray) -> None:
    """Flushed, so that a killed process leaves no record without its pixels."""
    file.seek(place)
    file.write(values.tobytes())
    file.flush()


def _make_pictures(
    files: Files, side: int, part: _Map, others: dict, rows: Sequence[int]
) -> tuple[list[tuple[int, np.ndarray, int]], dict[int, str]]:
    """Row, pixels and checksum of pictures that the half-made map lacks; which files are bad."""
    pictures, faults = [], {}
    for row in rows:
        digest = files.digests[row]
        other, place = others.get(digest.tobytes(), (None, 0))
        if part.holds(row, digest):
            continue
        if other and other.holds(place, digest):
            pictures.append((row, other.images[place], other.records["checksum"][place]))
            continue
        content = _read_again(files.paths[row], digest)
        try:
            pixels = fit_picture(files.paths[row], side, content)
        except DataError as error:
            faults[row] = str(error)
        else:
            pictures.append((row, pixels, zlib.crc32(pixels)))
    return pictures, faults


def _read_again(path: Path, digest: np.ndarray) -> bytes:
    """The bytes that the file had before. Raises DataError: such a file is not a bad image."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    if _digest(content) != digest.tobytes():
        raise DataError(f"{path}: changed while the images were being read; start again")
    return content


def _others(part: Path, side: int) -> dict[bytes, tuple[_Map, int]]:
    """Where the other maps of this side hold which file's picture, those half-made included."""
    found: dict[bytes, tuple[_Map, int]] = {}
    for path in sorted(part.parent.glob(f"*x{side}-{FORMAT}.*")):
        other = _open_map(path, side) if path != part else None
        for row in other.pictures() if other else ():
            found.setdefault(other.records["digest"][row].tobytes(), (other, row))
    return found


def _clear(path: Path, digests: np.ndarray, side: int) -> None:
    """Delete half-made maps, of files since replaced, say, that hold nothing but what is here."""
    here = {digest.tobytes() for digest in digests}
    for part in path.parent.glob(f"*x{side}-{FORMAT}.part"):
        found = _open_map(part, side)
        held = found.records["digest"][found.pictures()] if found else ()
        if len(held) and here.issuperset(digest.tobytes() for digest in held):
            with suppress(OSError):
                part.unlink()


def _check_room(part: Path, needed: int) -> None:
    """Raise NoRoom unless the map will fit beside a tenth of its size for other things."""
    there = getattr(part.stat(), "st_blocks", 0) * 512 if part.exists() else 0
    free = shutil.disk_usage(part.parent).free
    if free < 1.1 * needed - there:
        raise NoRoom(_no_room(part.parent, f"{free / 1e6:.0f} MB free, {needed / 1e6:.0f} needed"))


def _no_room(folder: Path, reason: str) -> str:
    return f"{folder}: no room for decoded images ({reason}); set FACEKIT_CACHE to another folder"
