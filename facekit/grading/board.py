"""A class's leaderboard, kept on a folder of submissions: a public part, a private one, a limit.

    <folder>/<student>/*.csv        submissions; handed in when the file was last written
    <folder>/<student>/chosen.txt   names those to be judged by in the end, one a line

What was accepted stays in a log with both scores, which can be made again from the folder.
"""

import hashlib
import hmac
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facekit.common.errors import DataError, FacekitError, printable
from facekit.common.files import LARGEST, read_table, refuse_link, write_table
from facekit.data.layout import TermData, is_stray
from facekit.grading.hand_ins import Entry, Mark, Task, mark, tasks_of, with_file
from facekit.grading.pages import no_formula
from facekit.submission import csvs

PUBLIC = 0.4  # share of the rows: one report of the homework speaks of a hidden 60 %
DAILY = 10  # submissions of a student and task, as in S24
CHOSEN = "chosen.txt"
MOST_CHOSEN = 20  # lines of it that are read
NOT_HANDED_IN = "history.csv"  # lies beside the submissions where the folder is one of runs


class Submission(NamedTuple):
    """An accepted one: a row of the log."""

    time: str  # UTC
    student: str
    task: str
    file: str
    sha256: str
    public: float
    private: float
    judged_by: str  # a hash of the answers and the share


class Refused(NamedTuple):
    """A file that is not scored, and why."""

    student: str
    file: str
    reason: str


class Standing(NamedTuple):
    """A student's place in one part of one task."""

    student: str
    submission: Submission
    mark: Mark
    count: int  # submissions
    chosen: bool  # by the student; else it is the best public one


Key = tuple[str, str]  # student, hash of the file


@dataclass
class Board:
    """The folder as it is now, beside what the log knows."""

    data: TermData
    tasks: dict[str, dict[str, Task]]  # by part, public or private, and by name
    share: float
    daily: int
    judged_by: str
    accepted: dict[Key, Submission]
    paths: dict[Key, Path] = field(default_factory=dict)  # of those that are there
    chosen: dict[str, list[str]] = field(default_factory=dict)  # names of files, by student
    refused: list[Refused] = field(default_factory=list)


def keep(
    folder: str | Path, data: TermData, log: Path, share: float = PUBLIC, daily: int = DAILY
) -> Board:
    """Score what is new in the folder, and write the log, which is private.

    `share`: of the rows that are public; `daily`: how many submissions of a student and task are
    accepted on one day (UTC). Raises DataError where the answers are not known, a part would be
    too small, the folder holds no student, or the log was made with other answers or shares.
    """
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; put a folder for each student there")
    students = sorted(p for p in folder.iterdir() if p.is_dir() and not is_stray(p.name))
    if not students:
        raise DataError(f"{folder}: holds no folder; put one with the CSVs of each student there")
    tasks = {
        part: {task.name: task for task in tasks_of(data, partial(rows_of, part, share))}
        for part in ("public", "private")
    }
    judged_by = _judged_by(data, share)
    board = Board(data, tasks, share, daily, judged_by, _read_log(log, judged_by))
    counts = Counter(map(_day, board.accepted.values()))
    for student in students:
        _take_all(board, student, counts)
    scored = {(key[0], board.accepted[key].file) for key in board.paths}
    for student, names in board.chosen.items():
        for name in names:
            if (student, name) not in scored:
                board.refused.append(Refused(student, CHOSEN, f"{name}: no scored file"))
    rows = sorted(board.accepted.values())
    write_table(log, Submission._fields, rows, private=True)
    return board


# ------------------------------------------------------------------ the two parts


def rows_of(part: str, share: float, ids: Sequence[str], answers: np.ndarray) -> np.ndarray:
    """Which rows belong to a part, public or private: true or false, (N,).

    A row's part follows from its id and a key that is made of all answers: the same in whatever
    order the rows are, and to be guessed by nobody who does not have the answers. Raises
    DataError where all answers of a part would be the same.
    """
    lines = sorted(f"{i},{answer}" for i, answer in zip(ids, answers, strict=True))
    key = hashlib.sha256("\n".join(lines).encode()).digest()
    drawn = [hmac.digest(key, i.encode(), "sha256") for i in ids]
    order = sorted(range(len(ids)), key=drawn.__getitem__)
    rows = np.zeros(len(ids), bool)
    if 0 < share < 1:
        rows[order[: round(share * len(ids))]] = True
    if min(len(set(answers[rows])), len(set(answers[~rows]))) < 2:
        raise DataError(
            f"--public {share:g}: of {len(ids)} answers one part would have too few to judge by; "
            f"choose another share between 0 and 1, such as {PUBLIC}"
        )
    return rows if part == "public" else ~rows


def _judged_by(data: TermData, share: float) -> str:
    """A hash of the answers and the share: scores of another one cannot be compared."""
    total = hashlib.sha256(repr(share).encode())
    for path in filter(None, (data.answers.classification, data.answers.verification)):
        total.update(path.read_bytes())
    return total.hexdigest()[:16]


# ------------------------------------------------------------------ the log


def _read_log(path: Path, judged_by: str) -> dict[Key, Submission]:
    if not path.is_file():
        return {}
    table = read_table(path, Submission._fields)[list(Submission._fields)]
    rows = [Submission(*row) for row in table.itertuples(index=False)]
    if any(row.judged_by != judged_by for row in rows):
        raise DataError(
            f"{path}: the log was made with other answers or another --public; give those, or "
            "move it away, and everything is scored anew"
        )
    try:
        rows = [row._replace(public=float(row.public), private=float(row.private)) for row in rows]
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}); move it away, and it is made anew") from error
    return {(row.student, row.sha256): row for row in rows}


def _day(row: Submission) -> tuple[str, str, str]:
    return row.student, row.task, row.time[:10]


# ------------------------------------------------------------------ one student


def _name(path: Path) -> str:
    """A name as it is kept and shown: nothing in it steers a terminal or a spreadsheet."""
    return str(no_formula(printable(path.name, keep="")))


def _take_all(board: Board, folder: Path, counts: Counter) -> None:
    """Accept or refuse each CSV of a student, the earliest first."""
    student = _name(folder)
    if folder.is_symlink():
        board.refused.append(Refused(student, "", "a link, where a folder is wanted"))
        return
    try:
        files = [path for path in folder.iterdir() if _is_submission(path)]
        files.sort(key=lambda path: (path.lstat().st_mtime_ns, path.name))
    except OSError as error:
        board.refused.append(Refused(student, "", error.strerror))
        return
    for path in files:
        try:
            _take(board, student, path, counts)
        except (FacekitError, OSError, ValueError, ArithmeticError) as error:
            _refuse(board, student, path, error)
    try:
        board.chosen[student] = _choice(folder / CHOSEN)
    except (FacekitError, OSError, ValueError) as error:
        _refuse(board, student, folder / CHOSEN, error)


def _is_submission(path: Path) -> bool:
    named = path.suffix.lower() == ".csv" and path.name != NOT_HANDED_IN
    return named and not is_stray(path.name)


def _refuse(board: Board, student: str, path: Path, error: Exception) -> None:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    for name in (printable(str(path)), _name(path)):  # no place of this machine on a page
        reason = printable(reason or "cannot be read", keep="").replace(f"{name}: ", "")
    board.refused.append(Refused(student, _name(path), reason))


def _take(board: Board, student: str, path: Path, counts: Counter) -> None:
    """Accept a file, or raise DataError that says why it is not."""
    content = _content(path)
    key = student, hashlib.sha256(content).hexdigest()
    if key in board.paths:
        raise DataError(f"the same as {_name(board.paths[key])}")
    if key not in board.accepted:
        row = _score(board, key, path, content, counts)
        board.accepted[key] = row
        counts[_day(row)] += 1
    board.accepted[key] = board.accepted[key]._replace(file=_name(path))
    board.paths[key] = path


def _score(board: Board, key: Key, path: Path, content: bytes, counts: Counter) -> Submission:
    """The row of a new submission. Raises DataError over the limit, and where it cannot be read."""
    name, task = _name(path), "verification"
    if not board.data.has_pairs:
        task = with_file(csvs.task_of, name, content)
    written = datetime.fromtimestamp(path.lstat().st_mtime, UTC)
    if written > datetime.now(UTC) + timedelta(hours=1):  # clocks may differ by so much
        raise DataError(f"{name}: its time, {written:%Y-%m-%d %H:%M} UTC, lies ahead")
    time = written.isoformat(timespec="seconds").replace("+00:00", "Z")
    student, digest = key
    row = Submission(time, student, task, name, digest, 0.0, 0.0, board.judged_by)
    if counts[_day(row)] >= board.daily:
        raise DataError(
            f"over the limit of {board.daily} a day ({task}, {time[:10]} UTC); hand it in again "
            "on another day"
        )
    judges = {part: tasks[task].judge for part, tasks in board.tasks.items()}
    return row._replace(
        **{part: with_file(judge, name, content).figure for part, judge in judges.items()}
    )


def _content(path: Path) -> bytes:
    """The bytes of a file that was handed in, no more of them than show that they are too many."""
    refuse_link(path)
    if not path.is_file():
        raise DataError(f"{path}: no file")
    with path.open("rb") as file:
        return file.read(LARGEST + 1)


def _choice(path: Path) -> list[str]:
    """The names in a student's list of chosen files; [] where there is none."""
    if not path.is_symlink() and not path.exists():
        return []
    lines = _content(path)[:10_000].decode("utf-8-sig").splitlines()
    return [_name(Path(line.strip())) for line in lines[:MOST_CHOSEN] if line.strip()]


# ------------------------------------------------------------------ all of them


def standings(board: Board, task: str, part: str) -> list[Standing]:
    """The places of one task, the best first; equal figures share one, the earlier above.

    public: of each student the submission that is best there. private: the first one in their
    chosen.txt that was accepted, else the best public one.
    """
    sign = board.tasks[part][task].cutoffs.sign
    by_student: dict[str, list[Key]] = {}
    for key in board.paths:
        if board.accepted[key].task == task:
            by_student.setdefault(key[0], []).append(key)
    found = []
    for student, keys in by_student.items():
        ranked = sorted(keys, key=lambda k: (-sign * board.accepted[k].public, board.accepted[k]))
        names = board.chosen.get(student, []) if part == "private" else []
        chosen = [k for name in names for k in keys if board.accepted[k].file == name]
        key = (chosen or ranked)[0]
        entry, row, judge = Entry(student), board.accepted[key], board.tasks[part][task].judge
        try:  # once more, for what the log does not have: the interval, and who is as good
            entry.outcomes[task] = with_file(judge, row.file, _content(board.paths[key]))
        except (FacekitError, OSError) as error:  # changed since
            _refuse(board, student, board.paths[key], error)
            continue
        found.append((entry, row, len(keys), bool(chosen)))
    mark([entry for entry, *_ in found], board.tasks[part][task])
    places = [Standing(e.name, row, e.marks[task], n, c) for e, row, n, c in found]
    return sorted(places, key=lambda place: (place.mark.place, place.submission))
