"""Zips from elsewhere, unpacked so that they cannot hurt. Built in notebook 01.

An archive says itself where its members belong and how large they are, and need not tell the
truth. So every name is judged before anything is written, what is written is counted, and all of
it goes into a folder of its own that gets its real name when the archive is whole.
"""

import errno
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tqdm.auto import tqdm

from facekit.common.errors import DataError, FacekitError
from facekit.common.lock import only_one
from facekit.data.layout import spelling
from facekit.sources.manifest import MANIFEST, STARTED

MOST_MEMBERS = 1_000_000
MOST_BYTES = 64 << 30  # unpacked
MOST_RATIO = 100  # unpacked to packed, of what is large
LARGE = 100 << 20  # bytes from which on a ratio is suspicious
ROOM = 1 << 28  # bytes that stay free on the disk
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
PORTS = [f"{name}{number}" for name in ("com", "lpt") for number in range(1, 10)]
DEVICES = {"con", "prn", "aux", "nul", *PORTS}  # no names of files on Windows, whatever the ending
Members = dict[str, zipfile.ZipInfo]  # by where each belongs


def unpack(archive: str | Path, out: str | Path, progress: bool = False) -> list[Path]:
    """Unpack a zip into the folder `out`; its top-level files and folders there.

    What is there already must have the same content: several zips may share a folder. What macOS
    and Windows add (__MACOSX, Zone.Identifier) is left out. Raises DataError, leaving `out` as it
    was, when the file is damaged or no zip, when a member would lie outside, is a link, differs
    from what is there, when two names are one on some system, and when it would be too many, too
    large, or more than the disk has room for. Interrupted, it leaves nothing under a real name or
    whole files; the same call goes on. While another process fills the folder, it waits.
    """
    archive, out = Path(archive), Path(out)
    with opened(archive) as content:
        members = judge(archive, content.infolist())
        with only_one(out, wait=True):
            new = {
                name: info
                for name, info in members.items()
                if not _is_there(archive, out, name, info)
            }
            _check_room(archive, out, new.values())
            _unpack(archive, content, new, out, progress)
    return sorted({out / PurePosixPath(name).parts[0] for name in members})


@contextmanager
def opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    """The zip, open; whatever its bytes make zipfile raise becomes a DataError."""
    if not archive.is_file():  # a pipe or a device, too: to open it could wait for ever
        raise DataError(f"{archive}: no such file")
    try:
        with zipfile.ZipFile(archive) as content:
            yield content
    except FacekitError:
        raise
    except Exception as error:  # on damaged bytes zipfile raises almost anything
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # no room, not allowed: not the archive's fault
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{archive}: damaged, encrypted or no zip ({told}); download it once more"
        ) from error


def judge(archive: Path, infos: Sequence[zipfile.ZipInfo]) -> Members:
    """The members that are files, by path. Raises DataError for any that must not be written."""
    if len(infos) > MOST_MEMBERS:
        raise DataError(f"{archive}: {len(infos):,} members; at most {MOST_MEMBERS:,} are unpacked")
    files: Members = {}
    spelt: dict[str, str] = {}  # a path as every system sees it: as it is written
    for info in infos:
        path = PurePosixPath(info.filename.replace("\\", "/"))  # as older PowerShells write it
        if "__MACOSX" in path.parts or path.name.endswith(":Zone.Identifier"):
            continue
        reason = _fault(info, path) or _merged(path, spelt)
        if str(path) in files and not info.is_dir():
            reason = "comes twice"
        if reason:
            raise DataError(f"{archive}: refused, for {info.filename!r} {reason}")
        if path.parts and not info.filename.endswith(("/", "\\")):
            files[str(path)] = info
    folders = {str(folder) for name in files for folder in PurePosixPath(name).parents}
    both = sorted(folders & set(files))
    if both:
        raise DataError(f"{archive}: refused, for {both[0]!r} is a file and a folder in it")
    _check_sizes(archive, list(files.values()))
    return files


def _fault(info: zipfile.ZipInfo, path: PurePosixPath) -> str:
    """Why a member must not be written; "" when it may."""
    if path.is_absolute() or ".." in path.parts or ":" in str(path):
        return "would lie outside of the folder"
    if any(ord(letter) < 32 for letter in str(path)):
        return "has a control character in its name"
    if any(part.partition(".")[0].rstrip(" ").casefold() in DEVICES for part in path.parts):
        return "is the name of a device on Windows; rename it"
    if str(path).casefold() in (MANIFEST, STARTED):
        return "is the kit's own note on a folder that it made; zip the two task folders alone"
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if info.flag_bits & 1:
        return "is encrypted; ask for a zip without a password"
    if info.compress_type not in PACKINGS:
        return (
            f"is packed by method {info.compress_type} (9 is Deflate64, Windows' own for more than "
            "2 GB), which Python cannot read: unpack it with the system's own program or 7-Zip"
        )
    return ""


def _merged(path: PurePosixPath, spelt: dict[str, str]) -> str:
    """What speaks against a path that some system takes for another of the archive's; or ""."""
    for part in [path, *path.parents]:
        plain = spelling(str(part))
        key = "/".join(name.rstrip(". ") or name for name in plain.split("/"))
        other = spelt.setdefault(key, str(part))
        if other != str(part):
            return (
                f"comes twice, or differs from {other!r} by case, by how an accent is written, or "
                "by a dot at its end alone"
            )
    return ""


def _check_sizes(archive: Path, files: Sequence[zipfile.ZipInfo]) -> None:
    whole = sum(info.file_size for info in files)
    packed = max(1, archive.stat().st_size)
    if whole > MOST_BYTES or (whole > LARGE and whole > MOST_RATIO * packed):
        raise DataError(
            f"{archive}: refused, for {packed:,} bytes would become {whole:,}: that is no course"
        )


def _check_room(archive: Path, out: Path, files: Iterable[zipfile.ZipInfo]) -> None:
    whole, free = sum(info.file_size for info in files), shutil.disk_usage(out).free
    if whole + ROOM > free:
        raise DataError(
            f"{archive}: needs {whole / 1e9:.1f} GB, and {out} has {free / 1e9:.1f} GB free; make "
            "room or choose another --out"
        )


def _is_there(archive: Path, out: Path, name: str, info: zipfile.ZipInfo) -> bool:
    """Whether a member was unpacked already. Raises DataError where something else is there."""
    inside = PurePosixPath(name)
    for part in [*inside.parents][:-1]:
        if (out / part).is_symlink() or (os.path.lexists(out / part) and not (out / part).is_dir()):
            raise DataError(
                f"{out / part}: is there already, and no folder; nothing of {archive} was unpacked"
            )
    target = out / inside
    if not os.path.lexists(target):
        return False
    same_size = target.is_file() and target.stat().st_size == info.file_size
    if same_size and not target.is_symlink() and zlib.crc32(target.read_bytes()) == info.CRC:
        return True
    raise DataError(f"{target}: is there already, and differs; nothing of {archive} was unpacked")


def _unpack(
    archive: Path, content: zipfile.ZipFile, members: Members, out: Path, progress: bool
) -> None:
    for left_over in out.glob(".facekit-unpack-*.part"):  # of a call that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    part = Path(tempfile.mkdtemp(".part", ".facekit-unpack-", out))
    try:
        for name, info in tqdm(members.items(), archive.name, unit="file", disable=not progress):
            _write(content, info, part / name)
        if hasattr(os, "sync"):
            os.sync()  # once for all: a rename may reach the disk before the bytes do
        _move(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _move(source: Path, target: Path) -> None:
    """Move a folder's content into another; what is new there moves as a whole."""
    if not target.is_dir():
        source.rename(target)
        return
    for path in sorted(source.iterdir()):
        _move(path, target / path.name)


def _write(content: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """One member: zipfile reads no byte more than it announces, and checks its CRC at the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with content.open(info) as source, target.open("xb") as sink:
        shutil.copyfileobj(source, sink)
