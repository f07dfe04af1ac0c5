"""The two CSV files: written, checked, scored, sent. Built in notebook 08."""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from facekit.common.errors import DataError
from facekit.common.files import read_table, refuse_link, write_table
from facekit.data.layout import IDENTITY, NO_MATCH, CourseData, is_image
from facekit.sources import kaggle

COLUMNS = ["id", "label"]
WANTED = {  # as a label of each task
    "classification": ("class index", "class indices, as 0 or 17"),
    "verification": ("known identity or n000000", "identities, as n000012 or n000000"),
}
FORM = {"classification": re.compile(r"0|[1-9][0-9]*"), "verification": IDENTITY}
NOTHING = {"", "nan", "none", "null", "na", "n/a", "<na>", "nat"}


def write_classification(path: str | Path, names: Sequence[str], labels: Sequence[int]) -> None:
    """Write `id,label` with the file name and class index of each test image.

    Raises DataError when the lists differ in length, a name comes twice or a label is no index.
    """
    if len(names) != len(labels):
        raise DataError(f"{len(names)} ids and {len(labels)} labels; need as many of both")
    if len(set(names)) != len(names):
        raise DataError("an id comes twice in this submission")
    _check_all(names, is_image, "the file name of an image")
    _check_all(labels, _is_index, "a class index")
    write_table(path, COLUMNS, zip(names, map(int, labels), strict=True))


def write_verification(path: str | Path, identities: Sequence[str]) -> None:
    """Write `id,label`: row i is the answer for the i-th file of unknown_test in sorted order."""
    _check_all(identities, IDENTITY.fullmatch, "an identity (n and six digits)")
    write_table(path, COLUMNS, list(enumerate(identities)))


def _is_index(label: int) -> bool:
    return label >= 0 and int(label) == label


def _check_all(values: Sequence, test: Callable, what: str) -> None:
    if not len(values):
        raise DataError("a submission has 0 rows; it needs an answer for each test image")
    for row, value in enumerate(values):
        try:
            good = bool(test(value))
        except (TypeError, ValueError, OverflowError):
            good = False
        if not good:
            raise DataError(f"row {row} of this submission: {value!r} is not {what}")


def task_of(path: str | Path) -> str:
    """Whether a submission is for classification or verification, by its ids."""
    return _task(read_table(path, COLUMNS))


def _task(table: pd.DataFrame) -> str:
    ids = table["id"][:100]  # enough, and to look at 35,000 takes longer than all the rest
    named = sum(is_image(value) for value in ids)
    return "classification" if 2 * named > len(ids) else "verification"


def check(path: str | Path, data: CourseData) -> list[str]:
    """What Kaggle, or the truth about the rows, would hold against a submission; [] if nothing.

    Ids are compared with the test files on disk and with their order, labels with the classes or
    known identities, both with the competition's own sample where the data has one.
    """
    try:
        table = read_table(path, COLUMNS)
    except DataError as error:
        return [str(error)]
    task = _task(table)
    expected, valid = _expected(task, data)
    sample = getattr(data, task) / f"{task}_sample_submission.csv"
    problems = _form_problems(table, Path(path))
    problems += _id_problems(table["id"].tolist(), expected)
    problems += _label_problems(table["label"].tolist(), valid, task)
    if sample.is_file():
        problems += _sample_problems(sample, expected, valid, task)
    return [f"{path}: {problem}" for problem in problems]


def _form_problems(table: pd.DataFrame, path: Path) -> list[str]:
    """Header and line ends."""
    problems = []
    columns = list(table.columns)
    if columns != COLUMNS:
        problem = f"the header is {','.join(columns)}, not id,label"
        if columns[0].startswith("Unnamed"):
            problem += ": that is pandas' index; write with index=False"
        elif any(name.startswith("Unnamed") for name in columns):
            problem += ": a column without a name; delete it in the spreadsheet (a comma too many)"
        problems.append(problem)
    if re.search(rb"\r(?!\n)", path.read_bytes()):  # CRLF, as on Windows, is taken
        problems.append("its lines end in CR alone; write with lineterminator='\\n'")
    return problems


def _label_problems(labels: list[str], valid: set[str], task: str) -> list[str]:
    """What is wrong with the labels, each way of being wrong once."""
    ways: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        if label not in valid:
            ways.setdefault(_label_fault(label, task), []).append(row)
    name = WANTED[task][0]
    return [
        f"{len(rows)} labels are no {name}, such as {labels[rows[0]]!r} in row {rows[0]}{why}"
        for why, rows in ways.items()
    ]


def _label_fault(label: str, task: str) -> str:
    """Why a label is none of those there are, and what to do."""
    _, wanted = WANTED[task]
    if label.strip().lower() in NOTHING:
        return ": nothing (empty or NaN); every test image needs an answer"
    if label != label.strip():
        return ": with spaces around it"
    if task == "classification" and IDENTITY.fullmatch(label):
        return f": an identity, where {wanted}, are wanted: the folder's place among train's"
    try:
        number = float(label)
    except ValueError:
        return ""
    if math.isfinite(number) and not re.fullmatch(r"-?[0-9]+", label):
        if number == int(number) and task == "classification":
            return ": a whole number written as a decimal; write labels as int"
        return f": a score, where {wanted}, are wanted; choose the best one's"
    if task == "verification":
        return f": a number, where {wanted}, are wanted: the name of the known face's folder"
    return ""


def _sample_problems(sample: Path, expected: list[str], valid: set[str], task: str) -> list[str]:
    """What the competition's own sample says otherwise than the kit and the files on disk."""
    try:
        table = read_table(sample, [])
    except DataError as error:
        return [f"cannot be compared with the sample: {error}"]
    problems = []
    if list(table.columns) != COLUMNS:
        problems.append(
            f"the header is id,label, and that of {sample} is {','.join(map(str, table.columns))}"
        )
    ids = table.iloc[:, 0].tolist()
    apart = sorted(set(ids) ^ set(expected))
    if apart:
        only = "the sample" if apart[0] in ids else "the folder"
        problems.append(
            f"{sample} is stale or another term's: it has {len(ids)} rows for {len(expected)} "
            f"test images on disk, and {apart[0]!r} is only in {only}; set the data up anew, or "
            "delete the sample if the course says that it is out of date"
        )
    labels = table.iloc[:, -1].tolist()
    if len(table.columns) > 1 and len(set(labels)) > 1:  # one value throughout stands for any
        odd = [label for label in labels if label not in valid]
        if odd:
            problems.append(
                f"the labels of {sample} are such as {odd[0]!r}, where {WANTED[task][1]}, are "
                "wanted; is it another term's?"
            )
    return problems


def _expected(task: str, data: CourseData) -> tuple[list[str], set[str]]:
    """The ids in order, and the labels there are."""
    if task == "classification":
        return data.test.names, {str(label) for label in range(len(data.classes))}
    ids = [str(row) for row in range(len(data.unknown_test))]
    return ids, {*data.known.labels, NO_MATCH}


def _id_problems(ids: list[str], expected: list[str]) -> list[str]:
    missing = set(expected) - set(ids)
    extra = set(ids) - set(expected)
    if extra and missing and sorted(map(_digits, ids)) == sorted(map(_digits, expected)):
        return [
            f"the ids have another form, {ids[0]!r} for {expected[0]!r} (another term's count of "
            "digits?); take the names of the files in test"
        ]
    doubled = [value for value, count in Counter(ids).items() if count > 1]
    problems = []
    if missing:
        problems.append(f"{len(missing)} of {len(expected)} rows missing, such as {min(missing)}")
    if extra:
        problems.append(f"{len(extra)} ids of no test image, such as {min(extra)!r}")
    if doubled:
        problems.append(f"{len(doubled)} ids come more than once, such as {doubled[0]}")
    if not problems and ids != expected:
        row = next(row for row, wanted in enumerate(expected) if ids[row] != wanted)
        problems.append(f"the rows are shuffled: row {row} is {ids[row]}, not {expected[row]}")
    return problems


def _digits(value: str) -> str:
    """A file name without the zeros before its number: the same of 00012.jpg and 000012.jpg."""
    stem = value.rpartition(".")[0]
    return value.lstrip("0") if stem.isascii() and stem.isdigit() else value


def score(path: str | Path, answers: str | Path) -> float:
    """The share of the answers' rows that the submission has right; see `count_right`."""
    right, count = count_right(path, answers)
    return right / count


def count_right(path: str | Path, answers: str | Path) -> tuple[int, int]:
    """How many rows of the answers the submission has right, of how many; see `beside_answers`.

    Raises DataError, too, for a submission that is a link, or the file of the answers itself.
    """
    refuse_link(Path(path))
    truth = read_answers(answers)
    right = beside_answers(path, truth) == truth
    if Path(path).samefile(answers):
        raise DataError(f"{path}: the file of the answers itself, not one that was handed in")
    return int(right.sum()), len(right)


def read_answers(path: str | Path) -> pd.Series:
    """The right label of each id. Raises DataError where there is none, or one of another form."""
    truth = _labels_by_id(path)
    if truth.empty:
        raise DataError(f"{path}: holds no rows")
    return truth


def beside_answers(path: str | Path, truth: pd.Series) -> pd.Series:
    """The labels of a submission in the order of the answers; rows are matched by id.

    Raises DataError unless both have the same ids, each once, and labels of the task's form.
    """
    mine = _labels_by_id(path)
    if set(mine.index) != set(truth.index):
        apart = sorted(set(mine.index) ^ set(truth.index))
        raise DataError(
            f"{path}: {len(mine)} rows for {len(truth)} answers; {apart[0]!r} is in only one"
        )
    return mine.loc[truth.index]


def _labels_by_id(path: str | Path) -> pd.Series:
    table = read_table(path, COLUMNS)
    repeated = table["id"][table["id"].duplicated()]
    if len(repeated):
        raise DataError(f"{path}: id {repeated.iloc[0]} comes more than once")
    task = _task(table)
    labels = table["label"].tolist()
    in_form = {label for label in labels if FORM[task].fullmatch(label)}
    problems = _label_problems(labels, in_form, task)
    if problems:
        raise DataError(f"{path}: {'; '.join(problems)}")
    return table.set_index("id")["label"]


def send(path: str | Path, task: str, data: CourseData, message: str) -> str:
    """Check a submission, and send it with Kaggle's own program; what Kaggle answered.

    Raises DataError, sending nothing, when something would be held against the file or it is the
    other task's; FacekitError that says what to do when Kaggle refuses.
    """
    slug = kaggle.slug_of(data.term, task)
    if not slug:
        raise DataError(f"{path}: not sent: no competition of {data.term.name} is known; upload it")
    problems = check(path, data)
    if not problems and task_of(path) != task:
        problems = [f"{path}: a {task_of(path)} submission, not one for {task}"]
    if problems:
        raise DataError(f"not sent: {'; '.join(problems)}")
    return kaggle.send(slug, Path(path), message)
