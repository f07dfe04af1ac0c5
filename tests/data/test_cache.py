"""Cached pixels are the teaching path's, whatever is killed, damaged, changed or done at once."""

import errno
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from time import sleep, time_ns
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from facekit.common import lock
from facekit.common.errors import DataError
from facekit.common.lock import only_one
from facekit.data import cache as pixel_cache
from facekit.data import fingerprint
from facekit.data.background import run_ahead
from facekit.data.cache import CacheError, open_cache
from facekit.data.fingerprint import read_files
from facekit.data.images import MAX_BYTES, read_rgb
from facekit.data.layout import CourseData

SIDE_FILES = [[".checksums"], [".unfinished"]]
LONG_AGO = 1_600_000_000 * 10**9  # ns


def squares(paths, side: int) -> np.ndarray:
    """As torchvision makes them: (N, side, side, 3)."""
    fit = v2.Compose([v2.Resize(side), v2.CenterCrop(side)])
    return np.stack([np.asarray(fit(read_rgb(path))) for path in paths])


@pytest.fixture
def paths(course: CourseData, tmp_path: Path) -> list[Path]:
    """Files that a test may change, and that were last changed long ago."""
    folder = shutil.copytree(course.train.folder, tmp_path / "train")
    found = sorted(folder.rglob("*.jpg"))
    for path in found:
        os.utime(path, ns=(LONG_AGO, LONG_AGO))
    return found


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded from now on."""
    names: list[str] = []

    def counted(path: Path, side: int, content: bytes | None = None) -> np.ndarray:
        names.append(path.name)
        return read_square(path, side, content)

    read_square = pixel_cache.read_square
    monkeypatch.setattr(pixel_cache, "read_square", counted)
    return names


def threads() -> list[str]:
    """Those of the kit."""
    return [t.name for t in threading.enumerate() if t.name.startswith("facekit")]


def is_right(paths: list[Path], side: int, cache: Path) -> bool:
    return np.array_equal(open_cache(paths, side, cache, False).images, squares(paths, side))


def images_in(cache: Path) -> list[Path]:
    """The files of pixels in a cache folder, finished or not."""
    return [path for path in cache.glob("*.npy") if path.suffixes[-2:-1] not in SIDE_FILES]


# --- what a cache holds


@pytest.mark.parametrize("side", [20, 32, 45])
def test_a_cached_image_is_resized_and_cropped_as_by_torchvision(
    course: CourseData, cache: Path, side: int
) -> None:
    found = open_cache(course.train.paths, side, cache, progress=False)
    assert found.images.shape == (36, side, side, 3)
    assert found.images.dtype == np.uint8
    assert np.array_equal(found.images, squares(course.train.paths, side))


def test_images_of_every_kind_and_form_are_stored(cache: Path, tmp_path: Path) -> None:
    rng, exif = np.random.default_rng(0), Image.Exif()
    exif[0x0112] = 6
    files = {
        "wide.png": Image.fromarray(rng.integers(0, 256, (30, 71, 3), np.uint8)),
        "tall.jpg": Image.fromarray(rng.integers(0, 256, (90, 41, 3), np.uint8)),
        "small.png": Image.fromarray(rng.integers(0, 256, (9, 7), np.uint8)),
        "veil.png": Image.fromarray(rng.integers(0, 256, (40, 50, 4), np.uint8)),
    }
    for name, image in files.items():
        image.save(tmp_path / name, exif=exif if name == "tall.jpg" else None)
    assert is_right([tmp_path / name for name in files], 24, cache)


def test_nobody_can_write_into_a_cache(paths: list[Path], cache: Path) -> None:
    images = open_cache(paths, 20, cache, progress=False).images
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_progress_is_shown_only_when_asked_for(paths, cache, capfd) -> None:
    open_cache(paths, 20, cache, progress=False)
    assert capfd.readouterr() == ("", "")
    open_cache(paths, 21, cache, progress=True)
    assert "decoding images: 100%" in capfd.readouterr().err


# --- found again by what the files hold


def test_a_cache_is_made_once_and_unchanged_files_are_not_read_again(
    paths: list[Path], cache: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "FRESH", 0)
    first = open_cache(paths, 20, cache, progress=False)
    assert sorted(decoded) == sorted(path.name for path in paths)
    decoded.clear()
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "_digest_of_file", None)
        again = open_cache(paths, 20, cache, progress=False)
    assert (again.path, again.content, decoded) == (first.path, first.content, [])
    assert np.array_equal(again.images, first.images)


def overwrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def replace(path: Path, content: bytes) -> None:
    path.with_name("new").write_bytes(content)
    os.replace(path.with_name("new"), path)


def exchange(path: Path, content: bytes) -> None:
    """The new file lay there long before, under another name."""
    path.with_name("old").write_bytes(content)
    os.utime(path.with_name("old"), ns=(LONG_AGO, LONG_AGO))
    os.replace(path.with_name("old"), path)


@pytest.mark.parametrize("change", [overwrite, replace, exchange])
@pytest.mark.parametrize("fresh", [0, fingerprint.FRESH])
def test_another_image_of_the_same_size_and_time_is_seen(
    paths: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch, change: Callable, fresh: int
) -> None:
    monkeypatch.setattr(fingerprint, "FRESH", fresh)
    for path, colour in zip(paths[:2], ("red", "blue"), strict=True):
        Image.new("RGB", (40, 40), colour).save(path, "BMP")
        os.utime(path, ns=(LONG_AGO, LONG_AGO))
    first = open_cache(paths, 20, cache, progress=False)
    other = paths[1].read_bytes()
    assert len(other) == paths[0].stat().st_size
    sleep(0.05)  # longer than the grain of the system's clock
    change(paths[0], other)
    os.utime(paths[0], ns=(LONG_AGO, LONG_AGO))
    again = open_cache(paths, 20, cache, progress=False)
    assert again.content != first.content
    assert np.array_equal(again.images[0], again.images[1])
    assert not np.array_equal(again.images[0], first.images[0])


def test_a_file_too_large_is_a_bad_image_and_never_read_whole(
    paths: list[Path], cache: Path
) -> None:
    with paths[5].open("r+b") as file:
        file.truncate(MAX_BYTES + 1)
    found = open_cache(paths, 20, cache, progress=False, max_bad_fraction=0.1)
    assert list(found.bad) == [5]
    assert "is too large" in found.bad[5]


def test_a_file_just_written_is_read_again_though_its_time_is_the_same(
    paths: list[Path], cache: Path
) -> None:
    now = time_ns()  # within the grain of some file systems
    os.utime(paths[3], ns=(now, now))
    before = read_files(paths, cache, progress=False)
    content = paths[3].read_bytes()
    paths[3].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(paths[3], ns=(now, now))
    assert read_files(paths, cache, progress=False).content != before.content


def test_the_content_is_names_bytes_and_order_and_not_the_place(
    paths: list[Path], cache: Path, tmp_path: Path, decoded: list[str]
) -> None:
    first = open_cache(paths, 20, cache, progress=False)
    decoded.clear()
    shutil.copytree(tmp_path / "train", tmp_path / "elsewhere")
    moved = [tmp_path / "elsewhere" / path.relative_to(tmp_path / "train") for path in paths]
    assert open_cache(moved, 20, cache, progress=False).path == first.path
    assert decoded == []
    seen = {first.content, read_files(moved[::-1], cache, False).content}
    seen.add(read_files(moved[:-1], cache, False).content)
    renamed = [*moved[:-1], moved[-1].rename(moved[-1].with_name("zzz.jpg"))]
    seen.add(read_files(renamed, cache, False).content)
    assert len(seen) == 4


def test_another_pillow_makes_its_own_pixels(
    paths: list[Path], cache: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_cache(paths, 20, cache, progress=False)
    decoded.clear()
    monkeypatch.setattr(pixel_cache, "FORMAT", "3-pillow-0.0.0")
    assert is_right(paths, 20, cache)
    assert len(decoded) == len(paths)


# --- what cannot be read


def test_unreadable_files_are_counted_and_nothing_else_is_lost(
    paths: list[Path], cache: Path, decoded: list[str]
) -> None:
    good = paths[7].read_bytes()
    paths[7].write_bytes(good[: len(good) // 2])
    paths[20].write_bytes(b"")
    with pytest.raises(DataError) as error:
        open_cache(paths, 20, cache, progress=False)
    assert str(error.value).startswith(f"{paths[7]}: cannot read this image (")
    assert str(error.value).endswith("; replace or remove it; 2 such images in all")
    assert list(cache.glob("*.checksums.npy")) == []
    decoded.clear()
    with pytest.raises(DataError, match="2 such images in all"):
        open_cache(paths, 20, cache, progress=False)
    assert sorted(decoded) == [paths[7].name, paths[20].name]
    paths[7].write_bytes(good)
    left = [path for path in paths if path != paths[20]]  # one replaced, one removed
    assert is_right(left, 20, cache)


def test_missing_files_are_named_and_counted(paths: list[Path], cache: Path) -> None:
    for path in paths[4:7]:
        path.unlink()
    with pytest.raises(DataError, match=rf"{paths[4].name}: no such file; .*; 3 such images"):
        open_cache(paths, 20, cache, progress=False)


def test_no_files_are_refused(cache: Path) -> None:
    with pytest.raises(DataError, match="there is no image to read"):
        open_cache([], 20, cache, progress=False)


def test_a_file_that_changes_under_way_is_not_stored(
    paths: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change_then_make(*arguments):
        Image.new("RGB", (9, 9)).save(paths[2])
        return make(*arguments)

    make = pixel_cache._make
    monkeypatch.setattr(pixel_cache, "_make", change_then_make)
    with pytest.raises(DataError, match=rf"{paths[2].name}: changed while"):
        open_cache(paths, 20, cache, progress=False)
    assert is_right(paths, 20, cache)


# --- killed, interrupted, damaged

KILLED = """
    import os, random, signal, sys, time
    from pathlib import Path
    import numpy as np
    from facekit.data import cache as pixel_cache

    paths, cache = sorted(Path(sys.argv[1]).rglob("*.jpg")), Path(sys.argv[2])
    wanted, rng = np.load(sys.argv[3]), random.Random(7)

    def die_at(count):
        # Count every call that touches the disk; a write is cut in half by the kill.
        left = [count]
        def counted(call):
            def run(*arguments):
                left[0] -= 1
                if not left[0]:
                    if call is write:
                        file, row, values = arguments
                        values = np.atleast_1d(values).view(np.uint8).ravel()
                        write(file, row, values[: rng.randrange(len(values))])
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments)
            return run
        write = pixel_cache._RowFile.write
        pixel_cache._RowFile.write = counted(write)
        os.fsync, os.replace = map(counted, (os.fsync, os.replace))

    def child(prepare):
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what it says is not asked about here
            prepare()
            right = np.array_equal(pixel_cache.open_cache(paths, 20, cache, False).images, wanted)
            os._exit(0 if right else 1)
        return pid

    def end_of(pid):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    killed, status = 0, None
    while status != 0:
        if rng.random() < 0.7:
            status = end_of(child(lambda: die_at(rng.randrange(1, 15))))
        else:
            pid = child(lambda: None)
            time.sleep(rng.random() * 0.006)
            os.kill(pid, signal.SIGKILL)
            status = end_of(pid)
        assert status in (0, -signal.SIGKILL), status
        killed += status != 0
    print("killed", killed, flush=True)  # else a child has the line to write, too

    for _ in range(6):  # two at once
        for path in cache.glob("*.npy"):
            path.unlink()
        pids = [child(lambda: time.sleep(rng.random() * 0.01)) for _ in range(3)]
        assert [end_of(pid) for pid in pids] == [0, 0, 0]
        assert len(list(cache.glob("*.npy"))) == 2
    print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_and_rivals_never_lead_to_a_wrong_image(
    paths: list[Path], cache: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "wanted.npy", squares(paths, 20))
    script = [sys.executable, "-c", textwrap.dedent(KILLED)]
    places = [tmp_path / "train", cache, tmp_path / "wanted.npy"]
    done = subprocess.run([*script, *map(str, places)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    killed, end = done.stdout.splitlines()
    assert int(killed.split()[1]) >= 5
    assert end == "done"


def test_of_two_processes_the_second_waits_and_decodes_nothing(
    paths: list[Path], cache: Path, decoded: list[str], capsys
) -> None:
    with ThreadPoolExecutor() as pool, only_one(cache):
        waiting = pool.submit(open_cache, paths, 20, cache, False)
        sleep(0.2)
        assert decoded == []
        assert not waiting.done()
        decoded_here = squares(paths, 20)
        files = read_files(paths, cache, progress=False)
        path = cache / f"{files.content}-{len(paths)}x20-{pixel_cache.FORMAT}.npy"
        pixel_cache._make(path, files, 20, 0, False)
        decoded.clear()
    assert np.array_equal(waiting.result().images, decoded_here)
    assert decoded == []
    assert f"{cache} is in use by process {os.getpid()}" in capsys.readouterr().out


def test_a_file_system_without_locks_is_told(paths, cache, monkeypatch) -> None:
    def no_lock(path: Path, **settings: object):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(lock, "FileLock", no_lock)
    with pytest.raises(CacheError, match=r"cache: no room .* does not appear to support flock"):
        open_cache(paths, 20, cache, progress=False)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_making_goes_on_where_it_was(
    paths: list[Path],
    cache: Path,
    decoded: list[str],
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    def stop_after_21_images(*arguments) -> None:
        calls.append(0)
        if len(calls) > 42:  # pixels and record of each
            raise error
        write(*arguments)

    calls: list[int] = []
    write = pixel_cache._RowFile.write
    with monkeypatch.context() as patch:
        patch.setattr(pixel_cache._RowFile, "write", stop_after_21_images)
        with pytest.raises(error):
            open_cache(paths, 20, cache, progress=False)
    decoded.clear()
    assert is_right(paths, 20, cache)
    assert sorted(decoded) == sorted(path.name for path in paths[21:])
    assert threads() == []


DAMAGES: dict[str, Callable[[bytearray], bytes]] = {
    "empty": lambda file: b"",
    "cut off": lambda file: file[:-1],
    "cut in half": lambda file: file[: len(file) // 2],
    "zeros": lambda file: bytes(len(file)),
    "longer": lambda file: file + b"\0",
    "a bit of the shape": lambda file: flip(file, file.index(b"(36,") + 1),
    "an image of zeros": lambda file: file[:128] + bytes(1200) + file[1328:],
    "a bit of the last image": lambda file: flip(file, len(file) - 1),
    "images swapped": lambda file: file[:128] + file[1328:2528] + file[128:1328] + file[2528:],
}
ROW_DAMAGES = DAMAGES | {
    "a bit of a checksum": lambda file: flip(file, len(file) - 36 * pixel_cache.ROW.itemsize),
    "an image said to be bad": lambda file: file[:-1] + b"\0",
}
del ROW_DAMAGES["an image of zeros"], ROW_DAMAGES["images swapped"]
del ROW_DAMAGES["a bit of the last image"]


def flip(file: bytearray, place: int) -> bytearray:
    file[place] ^= 4
    return file


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_pixels_are_made_again(paths: list[Path], cache: Path, damage: str) -> None:
    path = open_cache(paths, 20, cache, progress=False).path
    whole = path.read_bytes()
    path.write_bytes(DAMAGES[damage](bytearray(whole)))
    assert is_right(paths, 20, cache)
    assert path.read_bytes()[: len(whole)] == whole


@pytest.mark.parametrize("damage", ROW_DAMAGES)
def test_damaged_checksums_are_made_again(paths: list[Path], cache: Path, damage: str) -> None:
    path = pixel_cache._checksums(open_cache(paths, 20, cache, progress=False).path)
    whole = path.read_bytes()
    path.write_bytes(ROW_DAMAGES[damage](bytearray(whole)))
    assert is_right(paths, 20, cache)
    assert path.read_bytes()[: len(whole)] == whole


def test_without_its_checksums_a_cache_is_made_again(paths: list[Path], cache: Path) -> None:
    path = open_cache(paths, 20, cache, progress=False).path
    pixel_cache._checksums(path).unlink()
    assert is_right(paths, 20, cache)


def test_a_student_can_open_the_pixels(paths: list[Path], cache: Path) -> None:
    path = open_cache(paths, 20, cache, progress=False).path
    assert np.array_equal(np.load(path), squares(paths, 20))
    assert np.load(pixel_cache._checksums(path))["readable"].all()


@pytest.mark.parametrize("damage", ["empty", "cut in half", "zeros"])
def test_a_damaged_index_is_not_believed(paths: list[Path], cache: Path, damage: str) -> None:
    first = open_cache(paths, 20, cache, progress=False)
    (index,) = cache.glob("*.index.npz")
    index.write_bytes(DAMAGES[damage](bytearray(index.read_bytes())))
    assert open_cache(paths, 20, cache, progress=False).content == first.content


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
@settings(max_examples=40)
def test_no_flipped_bit_of_an_index_is_believed(tmp_path_factory, place: int, bit: int) -> None:
    index = tmp_path_factory.mktemp("index") / "some.index.npz"
    seen = np.zeros(5, fingerprint.SEEN)
    seen["size"] = 7
    fingerprint._save_index(index, seen)
    assert np.array_equal(fingerprint._load_index(index, 5), seen)
    content = bytearray(index.read_bytes())
    content[place % len(content)] ^= 1 << bit
    index.write_bytes(content)
    found = fingerprint._load_index(index, 5)
    # A bit that says nothing, such as one of a date in the zip's directory, may flip.
    assert np.array_equal(found, seen) or (found["size"] == fingerprint.UNKNOWN).all()


# --- no room


def test_too_full_a_disk_is_named_before_anything_is_written(
    paths: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=40_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(
        CacheError, match=r"cache: no room .*\(0 MB free, 0 needed\); set FACEKIT_CACHE"
    ):
        open_cache(paths, 20, cache, progress=False)
    assert images_in(cache) == []
    monkeypatch.undo()
    assert is_right(paths, 20, cache)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    assert is_right(paths, 20, cache)  # what is there needs no more room


def test_a_disk_that_fills_up_is_left_with_room(
    paths: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pixel_cache._RowFile, "write", full)
    with pytest.raises(CacheError, match="No space left on device"):
        open_cache(paths, 20, cache, progress=False)
    assert images_in(cache) == []


def test_a_cache_that_cannot_be_written_is_named(paths: list[Path], cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(CacheError, match="cache: no room for decoded images"):
        open_cache(paths, 20, cache, progress=False)


# --- work done ahead


@given(count=st.integers(0, 12), threads=st.integers(1, 4), ahead=st.integers(1, 6))
@settings(max_examples=40)
def test_results_come_in_order_from_at_most_so_many_threads(
    count: int, threads: int, ahead: int
) -> None:
    running, most, lock = [0], [0], threading.Lock()

    def work(item: int) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        sleep(0.0003 * (item % 3))
        with lock:
            running[0] -= 1
        return item * item

    assert list(run_ahead(work, range(count), threads, ahead)) == [i * i for i in range(count)]
    assert most[0] <= min(threads, ahead)


def test_work_is_begun_only_so_far_ahead_and_ends_with_the_asking() -> None:
    begun: list[int] = []
    with closing(run_ahead(begun.append, iter(range(1000)), 2, 3)) as results:
        next(results)
        next(results)
    assert max(begun) <= 5
    assert threads() == []


def test_an_error_in_a_thread_is_raised_in_its_turn() -> None:
    results = run_ahead(lambda item: 6 // item, [3, 2, 0, 1], 2, 3)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert threads() == []
