"""The two CSV files: written, checked, scored, graded, sent. Built in notebook 08."""

import math
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from facekit.errors import DataError, FacekitError
from facekit.layout import IDENTITY, NO_MATCH, CourseData, is_image
from facekit.tables import read_table, write_table

COLUMNS = ["id", "label"]


@dataclass(frozen=True)
class Cutoffs:
    """The accuracies that earn each grade."""

    high: float
    medium: float
    low: float

    def grade(self, accuracy: float) -> str:
        for name in ("high", "medium", "low"):
            if accuracy >= getattr(self, name):
                return name.upper()
        return "below LOW"

    def __str__(self) -> str:
        return f"LOW {self.low:.0%}, MEDIUM {self.medium:.0%}, HIGH {self.high:.0%}"


CUTOFFS = {  # the homework's own
    "classification": Cutoffs(high=0.90, medium=0.84, low=0.82),
    "verification": Cutoffs(high=0.55, medium=0.49, low=0.30),
}
MADE = {  # of rendered courses with fewer people, by profile; the README says how they were found
    "smoke": {
        "classification": Cutoffs(high=0.89, medium=0.85, low=0.80),
        "verification": Cutoffs(high=0.45, medium=0.35, low=0.25),
    },
    "laptop": {
        "classification": Cutoffs(high=0.70, medium=0.63, low=0.55),
        "verification": Cutoffs(high=0.31, medium=0.25, low=0.19),
    },
}


def cutoffs_of(task: str, profile: str | None = None) -> tuple[Cutoffs, str]:
    """The cut-offs of a task, and whose they are: a rendered profile's, or the homework's."""
    if profile in MADE:
        return MADE[profile][task], f"profile {profile}'s"
    return CUTOFFS[task], "the homework's"


def write_classification(path: str | Path, names: Sequence[str], labels: Sequence[int]) -> None:
    """Write `id,label` with the file name and class index of each test image.

    Raises DataError when the lists differ in length, a name comes twice or a label is no index.
    """
    _same_length(names, labels)
    _check_all(names, is_image, "the file name of an image")
    _check_all(labels, lambda label: int(label) == label >= 0, "a class index")
    write_table(path, COLUMNS, [(n, int(y)) for n, y in zip(names, labels, strict=True)])


def write_verification(path: str | Path, identities: Sequence[str]) -> None:
    """Write `id,label`: row i is the answer for the i-th file of unknown_test in sorted order."""
    _same_length(identities, identities)
    _check_all(identities, IDENTITY.fullmatch, "an identity (n and six digits)")
    write_table(path, COLUMNS, list(enumerate(identities)))


def _same_length(ids: Sequence, labels: Sequence) -> None:
    if not len(ids) or len(ids) != len(labels):
        raise DataError(f"{len(ids)} ids and {len(labels)} labels; need as many of both, and some")
    if ids is not labels and len(set(ids)) != len(ids):
        raise DataError("an id comes twice in this submission")


def _check_all(values: Sequence, test, what: str) -> None:
    for row, value in enumerate(values):
        try:
            good = bool(test(value))
        except (TypeError, ValueError):
            good = False
        if not good:
            raise DataError(f"row {row} of this submission: {value!r} is not {what}")


def task_of(path: str | Path) -> str:
    """Whether a submission is for classification or verification, by its ids."""
    return _task(read_table(path, COLUMNS))


def _task(table: pd.DataFrame) -> str:
    named = sum(is_image(value) for value in table["id"])
    return "classification" if 2 * named > len(table) else "verification"


def check(path: str | Path, data: CourseData) -> list[str]:
    """What Kaggle, or the truth about the rows, would hold against a submission; [] if nothing.

    Ids are compared with the test files on disk and with their order, labels with the classes or
    known identities.
    """
    try:
        table = read_table(path, COLUMNS)
    except DataError as error:
        return [str(error)]
    task = _task(table)
    expected, valid = _expected(task, data)
    problems = []
    if list(table.columns) != COLUMNS:
        problems.append(f"the header is {','.join(map(str, table.columns))}, not id,label")
    problems += _id_problems(table["id"].tolist(), expected)
    bad = [label for label in table["label"] if label not in valid]
    if bad:
        what = "class index" if task == "classification" else "known identity or n000000"
        problems.append(f"{len(bad)} labels are no {what}, such as {bad[0]!r}")
    return [f"{path}: {problem}" for problem in problems]


def _expected(task: str, data: CourseData) -> tuple[list[str], set[str]]:
    """The ids in order, and the labels there are."""
    if task == "classification":
        return data.test.names, {str(label) for label in range(len(data.classes))}
    ids = [str(row) for row in range(len(data.unknown_test))]
    return ids, {*data.known.labels, NO_MATCH}


def _id_problems(ids: list[str], expected: list[str]) -> list[str]:
    missing, extra = set(expected) - set(ids), set(ids) - set(expected)
    doubled = [value for value, count in Counter(ids).items() if count > 1]
    problems = []
    if missing:
        problems.append(f"{len(missing)} of {len(expected)} rows missing, such as {min(missing)}")
    if extra:
        problems.append(f"{len(extra)} ids of no test image, such as {min(extra)!r}")
    if doubled:
        problems.append(f"{len(doubled)} ids come more than once, such as {doubled[0]}")
    if not problems and ids != expected:
        row = next(i for i, pair in enumerate(zip(ids, expected, strict=True)) if len({*pair}) > 1)
        problems.append(f"the rows are shuffled: row {row} is {ids[row]}, not {expected[row]}")
    return problems


def score(path: str | Path, answers: str | Path) -> float:
    """The share of the answers' rows that the submission has right; rows are matched by id.

    Raises DataError unless both files have the same ids, each once.
    """
    tables = [read_table(file, COLUMNS) for file in (path, answers)]
    for file, table in zip((path, answers), tables, strict=True):
        if table["id"].duplicated().any():
            twice = table["id"][table["id"].duplicated()].iloc[0]
            raise DataError(f"{file}: id {twice} comes more than once")
    mine, truth = (table.set_index("id")["label"] for table in tables)
    if truth.empty:
        raise DataError(f"{answers}: holds no rows")
    if set(mine.index) != set(truth.index):
        apart = sorted(set(mine.index) ^ set(truth.index))
        raise DataError(
            f"{path}: {len(mine)} rows for {len(truth)} answers; {apart[0]!r} is in only one"
        )
    return float((mine.loc[truth.index] == truth).mean())


def report(
    task: str,
    accuracy: float,
    chance: float | None = None,
    profile: str | None = None,
    count: int | None = None,
) -> str:
    """A score in one line, beside the cut-offs of the profile that the data was rendered for.

    `count`: on how many pictures it was measured, for the standard error.
    """
    cutoffs, whose = cutoffs_of(task, profile)
    beside = "" if chance is None else f", chance {chance:.1%}"
    if count:
        beside += f", standard error {standard_error(accuracy, count):.1%} on {count}"
    return f"{task} {accuracy:.2%} -> {cutoffs.grade(accuracy)} ({whose} {cutoffs}{beside})"


def standard_error(accuracy: float, count: int) -> float:
    """By how much an accuracy on `count` pictures would vary over others like them."""
    return math.sqrt(accuracy * (1 - accuracy) / count)


def send(path: str | Path, task: str, data: CourseData, message: str) -> str:
    """Send a submission with Kaggle's own program; what it answered.

    Credentials are left to that program, which reads them from the environment or its own file.
    Raises FacekitError with its words when it refuses.
    """
    program = shutil.which("kaggle")
    if program is None:
        raise FacekitError("Kaggle's program is not installed: pip install 'facekit[kaggle]'")
    slug = getattr(data.term, f"{task}_slug")
    command = [program, "competitions", "submit", slug, "-f", str(path), "-m", message]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    # It says some failures on standard output and exits with 1 for all of them.
    said = " ".join((done.stdout + " " + done.stderr).split())
    if done.returncode:
        raise FacekitError(f"Kaggle did not take {path} for {slug}: {said[:300] or 'no reason'}")
    return said
