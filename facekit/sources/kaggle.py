"""Kaggle: a competition's files fetched with kagglehub, a submission sent with Kaggle's program.

Built in notebook 08.
"""

import io
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from facekit.common import machine
from facekit.common.errors import DataError, FacekitError
from facekit.common.kit import install_command
from facekit.common.lock import only_one
from facekit.common.redaction import redact
from facekit.data.layout import Term, is_stray
from facekit.sources import credentials
from facekit.sources.credentials import Credentials

PARTS = {  # what a task's folder holds, however a competition wraps it
    "classification": ("train", "dev", "test"),
    "verification": ("known", "unknown_dev", "unknown_test"),
}
WEB = "https://www.kaggle.com/competitions"
AGAIN = "then run the same command again"
OTHERS = ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_V1_TOKEN")
NOISY = ("VERBOSE", "VERBOSE_OUTPUT")  # make the program print every header, the secret one too
DONE_AND_YET = re.compile("could not (submit|find)|cancelled|authentication required", re.I)


def slug_of(term: Term, task: str) -> str:
    return getattr(term, f"{task}_slug")


def fetch(term: Term, task: str, progress: bool = False) -> dict[str, Path]:
    """The files of a task's competition, by their paths below the task's folder.

    kagglehub fetches and unpacks them into the cache, goes on with the bytes of an interrupted
    call, and fetches nothing that is there and up to date. On Kaggle they are its own input.
    Raises FacekitError that says what to do when they cannot be had, DataError when what came is
    damaged or is not this task; then nothing of it is kept.
    """
    slug = slug_of(term, task)
    cache = machine.cache().value / "kaggle"
    with only_one(cache, wait=True):
        folder = _download(slug, cache / slug, progress)
        root = _root(folder, PARTS[task])
        if root is None:
            there = ", ".join(sorted(path.name for path in folder.iterdir())[:6]) or "nothing"
            shutil.rmtree(cache / slug, ignore_errors=True)
            raise DataError(
                f"{slug}: holds no {', '.join(PARTS[task])} but {there}; look whether it is "
                f"{term.name}'s, {AGAIN}, which fetches it anew"
            )
    beside = [] if root == folder else folder.iterdir()  # a list there belongs into the folder
    files = {path.name: path for path in beside if path.is_file() and not is_stray(path.name)}
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        if path.is_file() and not any(is_stray(name) for name in inside.parts):
            files[inside.as_posix()] = path
    return files


def _download(slug: str, cache: Path, progress: bool) -> Path:
    """The unpacked competition. Raises as `fetch` does."""
    try:
        import kagglehub
    except ImportError as error:
        raise FacekitError(
            f"kagglehub is not installed ({error}): {install_command('kaggle')}"
        ) from error
    logging.getLogger("kagglehub").setLevel(logging.ERROR)  # it tells every step on stdout
    found = credentials.find()
    settings = {"KAGGLEHUB_CACHE": str(cache)} | (found.environment() if found else {})
    shown = sys.stderr if progress else io.StringIO()
    try:
        with _environment(settings), redirect_stdout(shown), redirect_stderr(shown):
            return Path(kagglehub.competition_download(slug))
    except Exception as error:  # on damaged bytes zipfile raises almost anything
        # Not chained: what lies below may tell a signed address.
        raise _explained(error, slug, cache, found) from None


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set variables for a while: kagglehub reads its settings from there."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _explained(error: Exception, slug: str, cache: Path, found: Credentials | None) -> FacekitError:
    """What went wrong in a download, and what to do about it; a damaged one is put away."""
    import requests
    from kagglehub.exceptions import UnauthenticatedError

    told = str(error.__cause__ or error).partition("\n")[0] or type(error).__name__
    told = redact(told, found.secrets() if found else ())
    if isinstance(error, UnauthenticatedError):
        return FacekitError(f"{slug}: {_login(found)}")
    if isinstance(error, requests.HTTPError):
        return FacekitError(f"{slug}: {_advice(error.response.status_code, slug, found)} ({told})")
    if isinstance(error, requests.RequestException):
        return FacekitError(
            f"{slug}: Kaggle cannot be reached, or hung up half-way: look after the network, "
            f"{AGAIN} ({told})"
        )
    if isinstance(error, OSError):
        return FacekitError(f"{slug}: {cache} cannot be written: make room, {AGAIN} ({told})")
    shutil.rmtree(cache, ignore_errors=True)  # or the next call would take it for finished
    return DataError(
        f"{slug}: what came is damaged or no zip but a web page, which Kaggle sends over a quota: "
        f"it was put away, and the same command fetches it anew; or download it at "
        f"{WEB}/{slug}/data in a browser and use facekit unpack ({told})"
    )


def _advice(status: int, slug: str, found: Credentials | None) -> str:
    """What to do about an answer of Kaggle's, by its HTTP status."""
    if status == 401:
        return _login(found)
    if status == 403:
        return (
            "the account may not do this: join the competition by the class's invitation, accept "
            f"its rules at {WEB}/{slug}/rules, {AGAIN}"
        )
    if status == 404:
        return (
            "there is no such competition, or it is over, or closed to this account: look at "
            f"{WEB}/{slug}, ask the course for its address, or choose another --term"
        )
    if status == 429:
        return f"Kaggle has had enough requests for now: wait an hour, {AGAIN}"
    return f"Kaggle has a fault of its own: wait a while, {AGAIN}"


def _login(found: Credentials | None) -> str:
    if found is None:
        return (
            f"no credentials for Kaggle here: make a token at {credentials.PAGE} and put it into "
            "the variable KAGGLE_API_TOKEN, the notebook's secret of that name, or "
            "~/.kaggle/access_token"
        )
    return (
        f"Kaggle does not know this {found.kind} ({found.place}): make a new one at "
        f"{credentials.PAGE} and put it there"
    )


def _root(folder: Path, parts: Sequence[str]) -> Path | None:
    """The folder that holds all of `parts`, at most two below `folder`."""
    below = [*sorted(folder.glob("*")), *sorted(folder.glob("*/*"))]
    for path in [folder, *(path for path in below if not is_stray(path.name))]:
        if all((path / part).is_dir() for part in parts):
            return path
    return None


def send(slug: str, path: Path, message: str) -> str:
    """Send a file to a competition; what Kaggle answered, in one line and without secrets.

    Raises FacekitError that says what to look at, then what Kaggle's program said, when it fails.
    """
    found = credentials.find()
    command = [_program(), "competitions", "submit", slug, "-f", str(path), f"--message={message}"]
    done = subprocess.run(
        command,
        env=_variables(found),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    said = redact(_last_words(f"{done.stdout}\n{done.stderr}"), found.secrets() if found else ())
    if done.returncode or DONE_AND_YET.search(said):
        words = f"it said: {said[:300]}" if said else "it gave no reason"
        raise FacekitError(f"{slug}: {_not_sent(slug, found)} ({words})")
    return said


def _not_sent(slug: str, found: Credentials | None) -> str:
    """What to look at after a refusal: the program has one exit status for all reasons."""
    if found is None:
        return _login(found)
    return (
        f"Kaggle did not take it: look whether the competition at {WEB}/{slug} is open, its rules "
        f"are accepted and a submission is left for today, whether the network is there and the "
        f"{found.kind} good ({found.place}), {AGAIN}"
    )


def _program() -> str:
    """Kaggle's program: the first on PATH, else the one beside this Python."""
    found = shutil.which("kaggle") or shutil.which("kaggle", path=str(Path(sys.executable).parent))
    if found is None:
        raise FacekitError(f"Kaggle's program is not installed: {install_command('kaggle')}")
    return found


def _variables(found: Credentials | None) -> dict[str, str]:
    """This process's variables for the program, with these credentials in the place of others."""
    dropped = (*NOISY, *OTHERS) if found else NOISY
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    kept["PYTHONIOENCODING"] = "utf-8"
    if found:
        kept |= found.environment()
    return kept


def _last_words(said: str) -> str:
    """What was said, in one line: without progress bars, and of a traceback only its end."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", said)]
    lines = [line for line in lines if line and "%|" not in line]
    if any(line.startswith("Traceback") for line in lines):
        lines = lines[-1:]
    return " ".join(lines)
