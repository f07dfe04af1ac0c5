"""A run's state on disk: written whole or not at all, read without running any code.

Built in notebook 04.
"""

import os
import zipfile
from pathlib import Path

import torch

from facekit.errors import RunError

FORMAT = 2  # of a run's state


def save(path: Path, state: dict) -> None:
    """Write `state` (tensors and plain types) beside `path`, verify it, then rename it.

    A kill or a full disk at any moment leaves the former file as it was.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())  # a rename may reach the disk before the bytes do
        _check_sums(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


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
    except Exception:  # damaged files raise some ten kinds of exception
        raise RunError(
            f"{path}: the checkpoint is damaged; move it away, and copy an intact one here "
            "or train into another folder"
        ) from None  # torch's text advises to load it unsafely


def load_run(path: Path) -> dict:
    """The state of a run at `path`. Raises RunError, too, when it is the state of anything else."""
    state = load(path)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise RunError(f"{path}: no run of this version of the kit; train into another folder")
    return state


def _check_sums(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged:
        raise ValueError(f"bad checksum in {damaged}")
