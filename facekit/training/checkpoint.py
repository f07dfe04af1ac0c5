"""A run's states in a folder: the newest two, a mirror, and what to do where one is damaged.

Built in notebook 04.
"""

import errno
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from facekit.common.errors import RecipeError, RunError
from facekit.common.files import write_whole
from facekit.models import weights
from facekit.training import claim

BEST = "best.pt"
FAILURES = 3  # failed saves in a row that end a run: by then something is really wrong


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
        self.folder = Path(folder)
        self.keep = keep
        self.warn = warn
        self.mirror = Path(mirror) if mirror else None
        if self.mirror and self.mirror.absolute() == self.folder.absolute():
            self.mirror = None  # the copies would be the states themselves
        self.failures = 0  # saves that failed in a row
        self.mirror_failed = False
        self.best_mirrored = False
        self.mark = ""  # of this session, once it has claimed the folder
        self.mirror_claimed = False

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
        that there are. Raises RunError for a state that could not be read again, too.
        """
        path = self.folder / f"step-{step:08}.pt"
        try:
            self.folder.mkdir(exist_ok=True)  # its parent is missing where no Drive is mounted
            if best is not None:
                self.best_mirrored = False
                weights.save(self.folder / BEST, best)
            weights.save(path, state)
        except OSError as error:
            self._save_failed(step, state, error)
            return
        self.failures = 0
        try:
            self._prune(self.folder, step)
        except OSError as error:
            self.warn(f"{self.folder}: old checkpoints cannot be removed ({error.strerror})")
        if self.mirror:
            self._copy_to_mirror(path, step, state)

    def load_latest(self, check: Callable[[dict], object] | None = None) -> dict | None:
        """The newest intact state, of the folder or of its mirror; None for a new run.

        A damaged one is put aside and named. Raises RunError when there are only damaged ones,
        when folder and mirror hold different runs, and when a state is of another version of the
        kit. `check` may refuse a state of the mirror before it is copied into the folder.
        """
        self.paths()  # an unreadable folder is no empty one
        found = []
        for folder in self._folders():
            newest = self._take(folder)
            if newest:
                found.append(newest)
        if not found:
            self._refuse_to_start_anew()
            return None
        if identity(found[0][1]) != identity(found[-1][1]):
            raise RunError(
                f"{self.mirror}: holds the copies of another run than {self.folder}; nothing was "
                "changed; choose another mirror, or another folder for this run"
            )
        path, state = max(found, key=lambda pair: _step(pair[0]))  # the folder's, if they are equal
        if path.parent == self.mirror:
            if check:
                check(state)
            self._copy_back(path)
        return state

    def has_best(self, state: dict) -> bool:
        """Whether best.pt is there, intact and of the run's best epoch; else the mirror's is taken.

        Of a later epoch it may be: a kill between it and the state leaves it so.
        """
        fits = [folder for folder in self._folders() if _is_best(folder / BEST, state)]
        if not fits:
            return False
        if self.folder not in fits:
            self.warn(f"{self.folder / BEST} is missing or damaged; using {fits[0] / BEST}")
            try:
                _copy(fits[0] / BEST, self.folder / BEST)
            except OSError as error:
                self.warn(f"{self.folder}: cannot copy {BEST} here ({error.strerror})")
        return True

    # ------------------------------------------------------------------ whose they are

    def claim(self) -> None:
        """From here on folder and mirror are this session's; an earlier one will notice."""
        self.mark = claim.new_mark()
        for folder in self._folders():  # not before: another session may be writing there
            _sweep(folder)
        try:
            claim.leave(self.folder, self.mark)
        except OSError:
            self.mark = ""  # no room: the first save will say so
        if self.mirror and self.mark:
            try:
                self._claim_mirror()
            except OSError as error:
                self._mirror_failed(error)

    def check_mine(self) -> None:
        """Raise RunError where another session has the folder by now; say so where it is gone."""
        try:
            there = claim.find(self.folder)
        except OSError:
            return  # away for now; the save itself will say so
        if not self.mark or there == self.mark:
            return
        if there:
            raise RunError(
                f"{self.folder}: another session ({claim.who(there)}) trains in this folder now, "
                "or it was moved and another run put in its place; nothing was written there; the "
                "run is as last saved, wherever its folder is"
            )
        with suppress(OSError):
            claim.leave(self.folder, self.mark)
            self.warn(
                f"{self.folder} was moved or emptied while the run trained; from here on it is "
                "saved in a new folder of that name"
            )

    def _claim_mirror(self) -> None:
        claim.leave(self.mirror, self.mark)
        self.mirror_claimed = True

    def _mirror_is_mine(self, state: dict) -> bool:
        """Whether copies may go to the mirror: not over another run, nor between two sessions."""
        there = claim.find(self.mirror)
        if not self.mark or there == self.mark:
            return True
        if self.mirror_claimed and there:
            self._leave_mirror(f"another session ({claim.who(there)}) keeps its copies there")
            return False
        try:
            found = self._take(self.mirror)  # it was away when this session began
        except RunError as error:
            self._leave_mirror(str(error))
            return False
        if found and identity(found[1]) != identity(state):
            self._leave_mirror("it holds the copies of another run")
            return False
        self._claim_mirror()
        return True

    def _leave_mirror(self, why: str) -> None:
        self.warn(f"mirror {self.mirror} is not used any more: {why}; going on without it")
        self.mirror = None

    # ------------------------------------------------------------------ parts of the above

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
                state = weights.load(path)
            except RunError:
                damaged.append(path)
                continue
            weights.check_version(path, state)
            for bad in damaged:
                self.warn(f"{bad} is damaged; using {path.name}")
                with suppress(OSError):
                    os.replace(bad, bad.with_name(f"{bad.name}.damaged"))
            return path, state
        return None

    def _copy_back(self, path: Path) -> None:
        mine = self.newest()
        why = f"is at step {_step(mine)} only" if mine else "has no intact checkpoint"
        self.warn(f"{self.folder} {why}; using {path}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)  # a fresh disk has no runs/ yet
            for name in (path.name, BEST):
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
            best = folder / BEST
            if best.is_file() and _epoch_of(weights.load(best)) != 1:
                # A kill in the first epoch leaves one, too; that is no loss.
                raise RunError(
                    f"{best}: the best network of a run whose states are gone; it can still be "
                    "evaluated, and is not overwritten: choose another folder"
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

    def _copy_to_mirror(self, path: Path, step: int, state: dict) -> None:
        try:
            if not self._mirror_is_mine(state):
                return
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


def identity(state: dict) -> str:
    """Which run a state or best network is of; what an older kit wrote is told by its recipe."""
    return state.get("run") or weights.digest([state.get("recipe"), state.get("classes")])


def _epoch_of(best: dict) -> int:
    """The epoch that a best network is of; -1 for what is none."""
    try:
        return best["progress"]["epoch"]
    except (LookupError, TypeError):
        return -1


def _is_best(path: Path, state: dict) -> bool:
    """Whether the file is the intact best network of the run that the state is of."""
    try:
        best = weights.load(path)
    except RunError:
        return False
    epoch = _epoch_of(best)
    progress = state["progress"]
    in_time = epoch == progress["best_epoch"] or epoch > progress["epoch"]
    return in_time and identity(best) == identity(state)


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
    """What lies beside the states: recipe.json, history.csv, the reader's own.py and the like."""
    kinds = (".json", ".csv", ".py")
    return [path for path in folder.iterdir() if path.suffix in kinds and path.is_file()]


def _step(path: Path) -> int:
    return int(re.findall(r"\d+", path.name)[0])


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as content, weights.whole_archive(target) as file:
        shutil.copyfileobj(content, file)


def _room(folder: Path, state: dict) -> str:
    needed = sum(len(piece) for piece in weights.pieces(state)) / 1e6
    try:
        free = f"{shutil.disk_usage(folder).free / 1e6:.0f} MB"
    except OSError:
        free = "nothing"
    return f"{free} free, {needed:.0f} MB needed in {folder}"


def _alive(process: int) -> bool:
    """Whether it is another process that runs here; on Windows one cannot ask harmlessly."""
    if process == os.getpid() or os.name == "nt":
        return False  # its earlier session is over, and this one has saved nothing yet
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # not ours to signal
        return True
    return True
