"""Zips from elsewhere, unpacked so that they cannot hurt. Built in notebook 01.

An archive says itself where its members belong and how large they are, and need not tell the
truth. So every name is judged before anything is written, what is written is counted, and all of
it goes into a folder of its own that gets its real name when the archive is whole.
"""

import errno
import shutil
import stat
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tqdm.auto import tqdm

from facekit.common.errors import DataError

MOST_MEMBERS = 1_000_000
MOST_BYTES = 64 << 30  # unpacked
MOST_RATIO = 100  # unpacked to packed, of what is large
LARGE = 100 << 20  # bytes from which on a ratio is suspicious
ROOM = 1 << 28  # bytes that stay free on the disk


def unpack(archive: str | Path, out: str | Path, progress: bool = False) -> list[Path]:
    """Unpack a zip into the folder `out`; its top-level files and folders, which are new there.

    Raises DataError, leaving `out` as it was, when the file is damaged or no zip, when a member
    would lie outside, is a link, comes twice (also by case alone) or is there already, and when it
    would be too many, too large, or more than the disk has room for. Interrupted, it leaves
    nothing under a real name; the same call begins anew.
    """
    archive, out = Path(archive), Path(out)
    with _opened(archive) as content:
        members = _judge(archive, content.infolist())
        out.mkdir(parents=True, exist_ok=True)
        _check_room(archive, out, members)
        return _unpack(archive, content, members, out, progress)


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    """The zip, open; whatever its bytes make zipfile raise becomes a DataError."""
    try:
        with zipfile.ZipFile(archive) as content:
            yield content
    except FileNotFoundError as error:
        raise DataError(f"{archive}: no such file") from error
    except DataError:
        raise
    except Exception as error:  # on damaged bytes zipfile raises almost anything
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # no room, not allowed: not the archive's fault
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{archive}: damaged, encrypted or no zip ({told}); download it once more"
        ) from error


def _judge(archive: Path, infos: Sequence[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The members that are files. Raises DataError for any that must not be written."""
    if len(infos) > MOST_MEMBERS:
        raise DataError(f"{archive}: {len(infos):,} members; at most {MOST_MEMBERS:,} are unpacked")
    seen: dict[str, str] = {}
    for info in infos:
        reason = _fault(info)
        if reason:
            raise DataError(f"{archive}: refused, for {info.filename!r} {reason}")
        key = info.filename.rstrip("/").casefold()
        if key in seen and not info.is_dir():
            raise DataError(
                f"{archive}: refused, for {info.filename!r} comes twice, or differs from "
                f"{seen[key]!r} by case alone"
            )
        seen[key] = info.filename
    files = [info for info in infos if not info.is_dir()]
    _check_sizes(archive, files)
    return files


def _fault(info: zipfile.ZipInfo) -> str:
    """Why a member must not be written; "" when it may."""
    name = info.filename
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or ":" in name or "\\" in name:
        return "would lie outside of the folder"
    if any(ord(letter) < 32 for letter in name):
        return "has a control character in its name"
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    return ""


def _check_sizes(archive: Path, files: Sequence[zipfile.ZipInfo]) -> None:
    whole = sum(info.file_size for info in files)
    packed = max(1, archive.stat().st_size)
    if whole > MOST_BYTES or (whole > LARGE and whole > MOST_RATIO * packed):
        raise DataError(
            f"{archive}: refused, for {packed:,} bytes would become {whole:,}: that is no course"
        )


def _check_room(archive: Path, out: Path, files: Sequence[zipfile.ZipInfo]) -> None:
    whole, free = sum(info.file_size for info in files), shutil.disk_usage(out).free
    if whole + ROOM > free:
        raise DataError(
            f"{archive}: needs {whole / 1e9:.1f} GB, and {out} has {free / 1e9:.1f} GB free; make "
            "room or choose another --out"
        )


def _unpack(
    archive: Path,
    content: zipfile.ZipFile,
    files: Sequence[zipfile.ZipInfo],
    out: Path,
    progress: bool,
) -> list[Path]:
    tops = sorted({PurePosixPath(info.filename).parts[0] for info in files})
    there = [name for name in tops if (out / name).exists()]
    if there:
        raise DataError(f"{out / there[0]}: is there already; nothing of {archive} was unpacked")
    part = out / f".{archive.name}.part"
    shutil.rmtree(part, ignore_errors=True)  # of a call that was interrupted
    try:
        for info in tqdm(files, archive.name, unit="file", disable=not progress):
            _write(content, info, part / info.filename)
        for name in tops:
            (part / name).rename(out / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return [out / name for name in tops]


def _write(content: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """One member: zipfile reads no byte more than it announces, and checks its CRC at the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with content.open(info) as source, target.open("xb") as sink:
        shutil.copyfileobj(source, sink)
