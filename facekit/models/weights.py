"""Tensors in files: written whole or not at all, verified, read without running code.

Built in notebook 04.
"""

import errno
import hashlib
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from facekit.common.errors import RunError
from facekit.common.files import sync, whole_file

FORMAT = 4  # of a run's state


def digest(value: Any) -> str:
    """SHA-256 over plain values and tensors, bit for bit, however they are nested."""
    total = hashlib.sha256()
    for piece in pieces(value):
        total.update(piece)
    return total.hexdigest()


def pieces(value: Any) -> Iterator[Any]:
    """A value as bytes; lengths go before contents, so that no two values look alike."""
    if isinstance(value, torch.Tensor):
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    elif isinstance(value, dict | list | tuple):
        kind = "dict" if isinstance(value, dict) else "list"
        yield f"{kind}{len(value)}:".encode()
        parts = value.items() if isinstance(value, dict) else value
        for part in parts:
            yield from pieces(part)
    else:
        text = repr(value).encode()
        yield f"{type(value).__name__}{len(text)}:".encode() + text


def save(path: Path, state: dict) -> None:
    """Write `state` (tensors and plain types) beside `path`, verify it, then rename it.

    A kill or a full disk at any moment leaves the former file as it was. Raises OSError, and
    RunError for a state that could not be read again.
    """
    with whole_archive(Path(path)) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # what torch makes of a fault of the file
            if isinstance(error.__context__, OSError | KeyboardInterrupt):
                raise error.__context__ from None
            raise


@contextmanager
def whole_archive(path: Path) -> Iterator[BinaryIO]:
    """A file to write an archive to that becomes `path` once all of it is safe and verified."""
    with whole_file(path) as file:
        yield file
        file.flush()
        part = Path(file.name)
        try:
            _check_sums(part)
        except (ValueError, zipfile.BadZipFile) as error:
            raise OSError(errno.EIO, "what was written is not what was read back") from error
        _check_readable(path, part)
    sync(path.parent)


def _check_readable(path: Path, part: Path) -> None:
    """Raise RunError for what `load` would refuse, hours later: a NumPy number, a Path."""
    try:
        torch.load(part, map_location="meta", weights_only=True)  # reads types, no numbers
    except pickle.UnpicklingError as error:
        kind = str(error).rpartition("GLOBAL ")[2].split()[0]
        raise RunError(
            f"{path}: cannot be saved, as it could not be read again; a state may hold tensors "
            f"and plain Python types, not {kind}"
        ) from None


def load(path: Path) -> dict:
    """The state at `path`, tensors on the CPU. Raises RunError that names a damaged file.

    torch does not check the sums of the archive that it reads: one flipped bit would load.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(f"{path}: no such checkpoint; train the run first")
    try:
        _check_sums(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception:  # damaged files raise some ten kinds of exception
        raise RunError(
            f"{path}: the checkpoint is damaged; move it away, and copy an intact one here "
            "or train into another folder"
        ) from None  # torch's text advises to load it unsafely


def load_run(path: Path) -> dict:
    """The state of a run at `path`. Raises RunError, too, when it is the state of anything else."""
    return check_version(path, load(path))


def check_version(path: Path, state: Any) -> dict:
    """The state itself. Raises RunError where it is none of this version of the kit."""
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise RunError(
            f"{path}: no run of this version of the kit, whose recipes have other words since 0.4; "
            "train into another folder"
        )
    return state


def _check_sums(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        packed = [record.filename for record in archive.infolist() if record.compress_type]
        if packed:  # torch never packs; what unpacks to more than the file could fill the memory
            raise ValueError(f"{packed[0]} is compressed")
        damaged = archive.testzip()
    if damaged:
        raise ValueError(f"bad checksum in {damaged}")
