"""Kaggle's own program, called: a course's zips fetched, a submission sent. Built in notebook 08.

The program says some failures on standard output, others on standard error, and ends with status
1 for all of them; so what it says is matched, and told with what to do about it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from tqdm.auto import tqdm

from facekit import archives, credentials, runtime
from facekit.credentials import Credentials
from facekit.errors import DataError, FacekitError
from facekit.layout import Term, is_stray
from facekit.lock import only_one
from facekit.redaction import redact

PARTS = {  # what a task's folder holds, however a zip wraps it
    "classification": ("train", "dev", "test"),
    "verification": ("known", "unknown_dev", "unknown_test"),
}
WEB = "https://www.kaggle.com/competitions"
MARKER = ".kaggle-partial"  # the program's note beside a half file: whose half it is
OURS = ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_V1_TOKEN")
NOISY = ("VERBOSE", "VERBOSE_OUTPUT")  # make the program print every header, the secret one too
PROGRESS = re.compile(r"\d+%\||\d+(\.\d+)?[kMG]?B? \[\d|^(Downloading|Connection error|Retry)")
HELP = re.compile(r"(Authentication required[^.]*\.).*")  # then how to log in, two pages of it
FAILURES = (  # what is said, whatever the case of its letters, and what to do; the first counts
    (r"no module named '?(\w+)", "Kaggle's program is not whole: pip install {found}"),
    (r"no space left|not enough space on the disk|disk quota", "the disk is full: make room, "),
    (r"authentication required|\b401\b|unauthori[sz]ed|unauthenticated", "{who}"),
    (
        r"allowance|submission limit|daily limit|too many submissions",
        "today's submissions are used up: send it tomorrow",
    ),
    (r"\b429\b|rate limit|quota", "Kaggle has had enough requests for now: wait an hour, "),
    (
        r"\b403\b|forbidden|accept .{0,40}rules",
        "the account may not do this (403): join the competition by the class's invitation, accept "
        "its rules at {web}/{slug}/rules, ",
    ),
    (
        r"\b404\b|not found|could not find",
        "there is no such competition, or it is over, or closed to this account (404): look at "
        "{web}/{slug}, ask the course for its address, or choose another --term",
    ),
    (r"\b5\d\d server error|kaggle's side", "Kaggle has a fault of its own: wait a while, "),
    (
        r"failed to resolve|name resolution|getaddrinfo|max retries|connection (refused|error|"
        r"aborted|reset)|connectionerror|unreachable|timed out|timeout|incompleteread|"
        r"connection broken|response ended|does not match expected size",
        "Kaggle cannot be reached, or hung up half-way: look after the network, ",
    ),
)
AGAIN = "then run the same command again"
DONE_AND_YET = re.compile("could not (submit|find)|cancelled|authentication required", re.I)


def fetch(term: Term, tasks: Sequence[str], progress: bool = False) -> dict[str, Path]:
    """The zips of these tasks' competitions, in the cache; what is whole there is not fetched.

    A zip has its real name only when its last byte and every checksum are there. Until then it
    lies in a folder that ends in .part, where the next call goes on. Raises FacekitError that says
    what to do when it cannot be had, DataError when it is no zip or must not be unpacked.
    """
    folder = runtime.cache().value / "kaggle"
    with only_one(folder):
        return {task: _fetch(slug_of(term, task), folder, progress) for task in tasks}


def slug_of(term: Term, task: str) -> str:
    return getattr(term, f"{task}_slug")


def _fetch(slug: str, folder: Path, progress: bool) -> Path:
    whole, part = folder / f"{slug}.zip", folder / f"{slug}.part"
    if whole.exists() and _stands(whole):
        return whole
    command = ["competitions", "download", slug, "-p", str(part)]
    said = call(command, slug, part if progress else None)
    archive = _the_zip(part, slug, said)
    try:
        archives.check(archive)
    except DataError as error:
        shutil.rmtree(part)  # or the program would take it for finished
        raise DataError(f"{error}; it was put away, and the same command fetches it anew") from None
    os.replace(archive, whole)
    shutil.rmtree(part)
    return whole


def _stands(whole: Path) -> bool:
    """Whether a zip from before is still whole; a damaged one is put aside, and that is said."""
    try:
        archives.check(whole)
    except DataError as error:
        os.replace(whole, whole.with_name(f"{whole.name}.damaged"))
        print(f"facekit: {error}; fetching it anew", file=sys.stderr)
        return False
    return True


def _the_zip(part: Path, slug: str, said: str) -> Path:
    """What was fetched. Raises DataError, leaving nothing, when it is a web page or not there."""
    files = [p for p in part.rglob("*") if p.is_file() and p.suffix != MARKER]
    if not files:
        raise DataError(f"Kaggle's program ended well and brought no file of {slug}: {said[:200]}")
    archive = max(files, key=lambda path: path.stat().st_size)
    with archive.open("rb") as file:
        head = file.read(1000).lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        shutil.rmtree(part)
        raise DataError(
            f"Kaggle sent a web page in place of {slug}.zip, as it does over a quota or without a "
            f"log-in: try again in an hour, or download it at {WEB}/{slug}/data in a browser and "
            "use facekit unpack"
        )
    return archive


def place(archive: Path, task: str, term: Term, out: Path, progress: bool = False) -> None:
    """Unpack a competition's zip to the folder that the layout wants, whether it has one or not.

    The folder is there whole or not at all. Raises DataError as `archives.unpack` does, and when
    nothing in the zip looks like this task.
    """
    stage = out / f".{archive.name}.part"
    shutil.rmtree(stage, ignore_errors=True)  # of a call that was interrupted
    try:
        archives.unpack(archive, stage, progress)
        root = _root(stage, PARTS[task])
        if root is None:
            there = ", ".join(sorted(p.name for p in stage.iterdir())[:6])
            raise DataError(
                f"{archive}: holds no {', '.join(PARTS[task])} but {there}; look whether it is "
                f"{term.name}'s, and delete it to have it fetched anew"
            )
        for path in stage.iterdir():  # a list that lies beside the folder belongs into it
            if path.is_file() and root != stage and not (root / path.name).exists():
                path.rename(root / path.name)
        root.rename(out / getattr(term, task))
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _root(stage: Path, parts: Sequence[str]) -> Path | None:
    """The folder that holds all of `parts`, at most two below `stage`."""
    below = (path for pattern in ("*", "*/*") for path in sorted(stage.glob(pattern)))
    for path in chain([stage], below):
        stray = path != stage and is_stray(path.name)
        if not stray and all((path / part).is_dir() for part in parts):
            return path
    return None


def send(slug: str, path: Path, message: str) -> str:
    """Send a file to a competition; what Kaggle answered. Raises FacekitError if it refuses."""
    command = ["competitions", "submit", slug, "-f", str(path), f"--message={message}"]
    return call(command, slug)


def call(arguments: Sequence[str], slug: str, watched: Path | None = None) -> str:
    """Run Kaggle's program; what it said, in one line and without secrets.

    `watched`: a folder whose growth is shown as a bar meanwhile. Raises FacekitError that says
    what to do, then what the program said, when it failed.
    """
    found = credentials.find()
    command = [_program(), *arguments]
    status, said = _run(command, _environment(found), slug, watched)
    said = redact(_gist(said), found.secrets() if found else ())
    if status or DONE_AND_YET.search(said):
        words = f"it said: {said[:300]}" if said else "it gave no reason"
        raise FacekitError(f"{slug}: {_advice(said, slug, found)} ({words})")
    return said


def _program() -> str:
    """Kaggle's program: the first on PATH, else the one beside this Python."""
    found = shutil.which("kaggle") or shutil.which("kaggle", path=str(Path(sys.executable).parent))
    if found is None:
        raise FacekitError("Kaggle's program is not installed: pip install 'facekit[kaggle]'")
    return found


def _environment(found: Credentials | None) -> dict[str, str]:
    """This process's variables, with these credentials in the place of any others."""
    drop = (*NOISY, *OURS) if found else NOISY
    kept = {name: value for name, value in os.environ.items() if name not in drop}
    return kept | {"PYTHONIOENCODING": "utf-8"} | (found.environment() if found else {})


def _run(
    command: Sequence[str], environment: dict[str, str], slug: str, watched: Path | None
) -> tuple[int, str]:
    """Exit status and both streams. The program does not outlive an interruption of this call."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    settings = {"env": environment, "text": True, "encoding": "utf-8", "errors": "replace"}
    bar = tqdm(desc=slug, unit="B", unit_scale=True, disable=watched is None)
    with bar, subprocess.Popen(command, **streams, **settings) as process:
        while True:
            try:
                out, err = process.communicate(timeout=0.5)
                return process.returncode, f"{out}\n{err}"
            except subprocess.TimeoutExpired:
                _show(bar, watched)
            except BaseException:
                process.kill()
                raise


def _show(bar: tqdm, part: Path | None) -> None:
    """Move the bar to where the download is: how large the file has become, and is to become."""
    if part is None:
        return
    for path in part.glob("*"):
        try:
            if path.suffix == MARKER:
                bar.total = json.loads(path.read_text()).get("size")
            else:
                bar.update(path.stat().st_size - bar.n)
        except (OSError, ValueError):  # just being written, or gone
            continue


def _gist(said: str) -> str:
    """One line of what was said: without bars, and of a traceback only its last line."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", said)]
    lines = [line for line in lines if line and not PROGRESS.search(line)]
    if any(line.startswith("Traceback") for line in lines):
        lines = lines[-1:]
    return HELP.sub(r"\1", " ".join(" ".join(lines).split()))


def _advice(said: str, slug: str, found: Credentials | None) -> str:
    for pattern, advice in FAILURES:
        match = re.search(pattern, said, re.I)
        if match:
            advice += AGAIN * advice.endswith(" ")
            first = match[1] if match.re.groups else ""
            return advice.format(found=first, who=_who(found), web=WEB, slug=slug)
    return "Kaggle did not do it"


def _who(found: Credentials | None) -> str:
    if found is None:
        return (
            f"no credentials for Kaggle here: make a token at {credentials.PAGE} and put it into "
            "the variable KAGGLE_API_TOKEN, the notebook's secret of that name, or "
            "~/.kaggle/access_token"
        )
    return (
        f"Kaggle does not know this {found.kind} ({found.place}) (401): make a new one at "
        f"{credentials.PAGE} and put it there"
    )
