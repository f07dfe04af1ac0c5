"""A run's states on disk: written whole or not at all, at least two, read without running code.

Built in notebook 04.
"""

import errno
import hashlib
import os
import re
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch

from facekit.errors import RecipeError, RunError
from facekit.tables import write_whole

FORMAT = 3  # of a run's state
PLAIN = (str, int, float, bool, type(None))  # of bytes, torch refuses empty ones
TENSORS = (torch.Tensor, torch.nn.Parameter)
BEST = "best.pt"
FAILURES = 3  # failed saves in a row that end a run: by then something is really wrong


def check_plain(state: Any, where: str = "state") -> None:
    """Raise TypeError, naming the place, for what `load` would refuse to read, hours later.

    Types are exact: a NumPy number, a Path or torch's version looks plain and is not.
    """
    if type(state) in (dict, OrderedDict):
        for key, value in state.items():
            if type(key) not in PLAIN:
                raise TypeError(f"{where}: the key {key!r} is a {type(key).__name__}")
            check_plain(value, f"{where}[{key!r}]")
    elif type(state) in (list, tuple):
        for place, value in enumerate(state):
            check_plain(value, f"{where}[{place}]")
    elif type(state) not in PLAIN + TENSORS:
        raise TypeError(f"{where} is a {type(state).__name__}; save tensors and plain types only")


def digest(value: Any) -> str:
    """SHA-256 over plain values and tensors, bit for bit, however they are nested."""
    total = hashlib.sha256()
    for piece in _pieces(value):
        total.update(piece)
    return total.hexdigest()


def _pieces(value: Any) -> Iterator[Any]:
    """A value as bytes; lengths go before contents, so that no two values look alike."""
    if isinstance(value, torch.Tensor):
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    elif isinstance(value, dict | list | tuple):
        is_dict = isinstance(value, dict)
        yield f"{'dict' if is_dict else 'list'}{len(value)}:".encode()
        for part in value.items() if is_dict else value:
            yield from _pieces(part)
    else:
        text = repr(value).encode()
        yield f"{type(value).__name__}{len(text)}:".encode() + text


def save(path: Path, state: dict) -> None:
    """Write `state` (tensors and plain types) beside `path`, verify it, then rename it.

    A kill or a full disk at any moment leaves the former file as it was. Raises OSError, and
    TypeError for a state that could not be read again.
    """
    check_plain(state)
    with _whole(Path(path)) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # what torch makes of a fault of the file
            fault = error.__context__
            raise fault if isinstance(fault, OSError | KeyboardInterrupt) else error from None


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write an archive to that becomes `path` once all of it is safe and verified."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # a rename may reach the disk before the bytes do
        try:
            _check_sums(part)
        except (ValueError, zipfile.BadZipFile) as error:
            raise OSError(errno.EIO, "what was written is not what was read back") from error
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not everywhere can folders be synced; the file itself is safe
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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
    return _of_this_version(path, load(path))


def _of_this_version(path: Path, state: Any) -> dict:
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise RunError(f"{path}: no run of this version of the kit; train into another folder")
    return state


def _check_sums(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        packed = [record.filename for record in archive.infolist() if record.compress_type]
        if packed:  # torch never packs; what unpacks to more than the file could fill the memory
            raise ValueError(f"{packed[0]} is compressed")
        damaged = archive.testzip()
    if damaged:
        raise ValueError(f"bad checksum in {damaged}")


class Checkpoints:
    """The newest states of a run in a folder, step-00000412.pt, and copies in a mirror folder.

    The mirror also gets the small files beside them. "Newest" is the highest step in a name: clocks
    jump, and copying changes times. Nothing is deleted before its successor is verified. The best
    network, best.pt, lies beside them. Whoever saves must hold the folder (lock.only_one).
    """

    def __init__(
        self,
        folder: str | Path,
        keep: int = 2,
        mirror: str | Path | None = None,
        warn: Callable[[str], object] = print,
    ) -> None:
        if keep < 2:
            raise RecipeError(
                f"keep = {keep}: the newest checkpoint may be damaged; keep 2 or more"
            )
        self.folder, self.keep, self.warn = Path(folder), keep, warn
        self.mirror = Path(mirror) if mirror else None
        self.failures = 0  # saves that failed in a row
        self.mirror_failed = self.best_mirrored = False

    def paths(self) -> list[Path]:
        """The checkpoints in the folder, newest first. Raises RunError where it cannot be read."""
        try:
            return _numbered(self.folder)
        except OSError as error:
            raise RunError(
                f"{self.folder}: cannot be read ({error.strerror}); choose another folder"
            ) from error

    def newest(self) -> Path | None:
        """The newest checkpoint in the folder."""
        return next(iter(self.paths()), None)

    def save(self, step: int, state: dict, best: dict | None = None) -> None:
        """Write the state after `step` steps, and `best` to best.pt before, where there is one.

        A failure is a warning, the third in a row a RunError; training can go on from the states
        that there are. Raises TypeError for a state that could not be read again.
        """
        path = self.folder / f"step-{step:08}.pt"
        try:
            self.folder.mkdir(exist_ok=True)  # its parent is missing where no Drive is mounted
            if best is not None:
                self.best_mirrored = False
                save(self.folder / BEST, best)
            save(path, state)
        except OSError as error:
            self._save_failed(step, state, error)
            return
        self.failures = 0
        try:
            self._prune(self.folder, step)
        except OSError as error:
            self.warn(f"{self.folder}: old checkpoints cannot be removed ({error.strerror})")
        if self.mirror:
            self._copy_to_mirror(path, step)

    def load_latest(self) -> dict | None:
        """The newest intact state, from the folder or else from its mirror; None for a new run.

        A damaged one is put aside and named. Raises RunError when there are only damaged ones,
        and when a state is of another version of the kit.
        """
        self.paths()  # an unreadable folder is no empty one
        for folder in self._folders():
            _sweep(folder)
            found = self._take(folder)
            if found:
                path, state = found
                if folder == self.mirror:
                    self._copy_back(path)
                return state
        self._refuse_to_start_anew()
        return None

    def _folders(self) -> list[Path]:
        """The folder, and the mirror where it can be read."""
        if not self.mirror:
            return [self.folder]
        try:
            self.mirror.parent.stat()
            _numbered(self.mirror)
        except OSError as error:
            self._mirror_failed(error)
            return [self.folder]
        return [self.folder, self.mirror]

    def _take(self, folder: Path) -> tuple[Path, dict] | None:
        """The newest intact state of a folder; damaged ones stay as they are if there is none."""
        damaged = []
        for path in _numbered(folder):
            try:
                state = load(path)
            except RunError:
                damaged.append(path)
                continue
            _of_this_version(path, state)
            for bad in damaged:
                self.warn(f"{bad} is damaged; using {path.name}")
                with suppress(OSError):
                    os.replace(bad, bad.with_name(f"{bad.name}.damaged"))
            return path, state
        return None

    def _copy_back(self, path: Path) -> None:
        self.warn(f"{self.folder} has no intact checkpoint; using {path}")
        try:
            self.folder.mkdir(exist_ok=True)
            for name in (BEST, path.name):
                if (self.mirror / name).is_file():
                    _copy(self.mirror / name, self.folder / name)
            for notes in _notes(self.mirror):
                if not (self.folder / notes.name).exists():
                    write_whole(self.folder / notes.name, notes.read_bytes())
        except OSError as error:
            self.warn(f"{self.folder}: cannot copy {path} here ({error.strerror})")

    def _refuse_to_start_anew(self) -> None:
        """Raise RunError where a folder holds checkpoints after all: hours of work, perhaps."""
        for folder in self._folders():
            count = len(_numbered(folder, r"step-\d+\.pt(\.damaged)?"))
            if count:
                raise RunError(
                    f"all {count} checkpoints in {folder} are damaged; nothing was deleted; "
                    "copy an intact one here or choose another folder"
                )

    def _save_failed(self, step: int, state: dict, error: OSError) -> None:
        self.failures += 1
        problem = f"could not save step {step} in {self.folder} ({error.strerror or error})"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            problem = f"no room to save step {step}: {_room(self.folder, state)}"
        safe = self._safe()
        if self.failures >= FAILURES:
            raise RunError(
                f"{problem}; that was the {FAILURES}rd time in a row; {safe}; "
                "mend that, and the same call goes on from there"
            ) from error
        self.warn(f"{problem}; training goes on, {safe}")

    def _safe(self) -> str:
        try:
            newest = self.newest()
        except RunError:
            return "the folder cannot be read"
        return f"step {_step(newest)} is safe" if newest else "nothing is saved yet"

    def _prune(self, folder: Path, step: int) -> None:
        """Remove all but the newest up to `step`; those after it are somebody else's."""
        for path in [path for path in _numbered(folder) if _step(path) <= step][self.keep :]:
            path.unlink()

    def _copy_to_mirror(self, path: Path, step: int) -> None:
        try:
            self.mirror.mkdir(exist_ok=True)
            best = self.folder / BEST
            if not self.best_mirrored and best.is_file():
                _copy(best, self.mirror / BEST)
            self.best_mirrored = True
            for notes in _notes(self.folder):
                write_whole(self.mirror / notes.name, notes.read_bytes())
            _copy(path, self.mirror / path.name)
            self._prune(self.mirror, step)
        except OSError as error:
            self._mirror_failed(error)

    def _mirror_failed(self, error: OSError) -> None:
        if not self.mirror_failed:
            why = error.strerror or error
            self.warn(f"mirror {self.mirror} cannot be used ({why}); going on without it")
        self.mirror_failed = True


def _sweep(folder: Path) -> None:
    """Remove what killed processes left half written."""
    with suppress(OSError):
        for part in folder.glob(".*.part"):
            number = re.fullmatch(r"\..+\.(\d+)\.part", part.name)
            if number and not _alive(int(number[1])):
                part.unlink()


def _numbered(folder: Path, name: str = r"step-\d+\.pt") -> list[Path]:
    """The checkpoints in a folder, newest first; none where there is no folder."""
    try:
        files = list(folder.iterdir())  # unlike a glob it raises OSError for an unreadable folder
    except FileNotFoundError:
        return []
    return sorted((f for f in files if re.fullmatch(name, f.name)), key=_step, reverse=True)


def _notes(folder: Path) -> list[Path]:
    """What lies beside the states, for people and tables: recipe.json, history.csv and the like."""
    return [path for path in folder.iterdir() if path.suffix in (".json", ".csv")]


def _step(path: Path) -> int:
    return int(re.findall(r"\d+", path.name)[0])


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as content, _whole(target) as file:
        shutil.copyfileobj(content, file)


def _room(folder: Path, state: dict) -> str:
    needed = sum(len(piece) for piece in _pieces(state)) / 1e6
    try:
        free = f"{shutil.disk_usage(folder).free / 1e6:.0f} MB"
    except OSError:
        free = "nothing"
    return f"{free} free, {needed:.0f} MB needed in {folder}"


def _alive(process: int) -> bool:
    """Whether it is another process that runs here; on Windows one cannot ask harmlessly."""
    if process == os.getpid() or os.name == "nt":
        return False  # this process saves nothing while it loads, and holds the folder
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # not ours to signal
        return True
    return True
