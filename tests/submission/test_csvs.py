"""Submissions: written, found fault with, scored like by hand, graded, sent with clear words."""

import gzip
import io
import os
import random
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekit.common.errors import DataError, FacekitError
from facekit.common.files import MOST_ROWS, read_table, write_table
from facekit.common.kit import install_command
from facekit.data.layout import NO_MATCH, CourseData, read_identities
from facekit.submission import csvs
from facekit.submission.cutoffs import CUTOFFS

Rows = list[list[str]]


def truth_of(course: CourseData, task: str) -> Rows:
    """Header and rows of the answers, read without the package."""
    lines = getattr(course.answers, task).read_text().splitlines()
    return [line.split(",") for line in lines]


def save(path: Path, rows: Rows) -> Path:
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    return path


@pytest.fixture
def perfect(course: CourseData, tmp_path: Path) -> dict[str, Path]:
    """Both submissions with every answer right, written by the package."""
    paths = {task: tmp_path / f"{task}.csv" for task in CUTOFFS}
    labels = [int(row[1]) for row in truth_of(course, "classification")[1:]]
    csvs.write_classification(paths["classification"], course.test.names, labels)
    identities = read_identities(course.answers.verification)
    csvs.write_verification(paths["verification"], identities)
    return paths


# --- written, checked, scored


@pytest.mark.parametrize("task", CUTOFFS)
def test_right_answers_survive_the_round_trip(
    task: str, perfect: dict[str, Path], course: CourseData
) -> None:
    answers = getattr(course.answers, task)
    assert csvs.check(perfect[task], course) == []
    assert csvs.score(perfect[task], answers) == 1.0
    assert csvs.task_of(perfect[task]) == task
    assert perfect[task].read_bytes() == answers.read_bytes()


def test_the_bytes_are_those_of_the_homework(tmp_path: Path) -> None:
    csvs.write_classification(tmp_path / "a.csv", ["000000.jpg", "000001.jpg"], [4, 7000])
    csvs.write_verification(tmp_path / "b.csv", ["n000012", "n000000"])
    assert (tmp_path / "a.csv").read_bytes() == b"id,label\n000000.jpg,4\n000001.jpg,7000\n"
    assert (tmp_path / "b.csv").read_bytes() == b"id,label\n0,n000012\n1,n000000\n"


def test_720_rows_have_the_published_size(tmp_path: Path) -> None:
    csvs.write_verification(tmp_path / "v.csv", ["n000012"] * 720)
    assert round((tmp_path / "v.csv").stat().st_size / 1024, 2) == 8.34


@pytest.mark.parametrize(
    ("names", "labels", "reason"),
    [
        (["0.jpg"], [1, 2], "1 ids and 2 labels"),
        ([], [], "a submission has 0 rows"),
        (["a.jpg"], [float("inf")], "not a class index"),
        (["0.jpg", "0.jpg"], [1, 2], "twice"),
        (["0.jpg", "1.jpg"], [1, -1], "row 1 .*not a class index"),
        (["0.jpg", "1.jpg"], [1.5, 1], "row 0 .*not a class index"),
        (["0.jpg", "1.jpg"], [1, float("nan")], "row 1 .*not a class index"),
        (["0.jpg", "1.jpg"], [1, "n000012"], "row 1 .*not a class index"),
        (["0.jpg", "1"], [1, 1], "row 1 .*not the file name"),
        (["0.jpg", 1], [1, 1], "row 1 .*not the file name"),
    ],
)
def test_no_impossible_classification_is_written(
    names: list, labels: list, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=reason):
        csvs.write_classification(tmp_path / "c.csv", names, labels)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("label", ["n12", "n0000012", "000012", "", None, 12, "n000012 "])
def test_no_impossible_identity_is_written(label: object, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1 .*not an identity"):
        csvs.write_verification(tmp_path / "v.csv", ["n000012", label])
    assert not list(tmp_path.iterdir())


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_the_score_is_the_share_of_right_rows(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("score")
    names = [f"{row:06d}.jpg" for row in range(len(pairs))]
    guesses, truth = zip(*pairs, strict=True)
    csvs.write_classification(folder / "mine.csv", names, guesses)
    csvs.write_classification(folder / "truth.csv", names, truth)
    right = 0
    for guess, answer in pairs:
        right += guess == answer
    expected = right / len(pairs)
    assert csvs.score(folder / "mine.csv", folder / "truth.csv") == pytest.approx(expected)


@given(st.randoms(use_true_random=False))
def test_rows_are_matched_by_id(
    tmp_path_factory: pytest.TempPathFactory, course: CourseData, rng: random.Random
) -> None:
    header, *rows = truth_of(course, "classification")
    for row in rows[:4]:
        row[1] = str((int(row[1]) + 1) % len(course.classes))
    rng.shuffle(rows)
    path = save(tmp_path_factory.mktemp("shuffled") / "mine.csv", [header, *rows])
    assert csvs.score(path, course.answers.classification) == pytest.approx(1 - 4 / len(rows))


def test_ids_are_strings_not_numbers(tmp_path: Path) -> None:
    mine = save(tmp_path / "mine.csv", [["id", "label"], ["01", "n000001"]])
    truth = save(tmp_path / "truth.csv", [["id", "label"], ["1", "n000001"]])
    with pytest.raises(DataError, match="is in only one"):
        csvs.score(mine, truth)


def test_files_of_different_rows_are_not_scored(
    perfect: dict[str, Path], course: CourseData
) -> None:
    truth = course.answers.verification
    rows = truth_of(course, "verification")
    short = save(perfect["verification"].with_name("short.csv"), rows[:-1])
    with pytest.raises(DataError, match=r"17 rows for 18 answers; '17' is in only one"):
        csvs.score(short, truth)
    double = save(perfect["verification"].with_name("double.csv"), [*rows, rows[3]])
    with pytest.raises(DataError, match="id 2 comes more than once"):
        csvs.score(double, truth)
    with pytest.raises(DataError, match="is in only one"):
        csvs.score(perfect["classification"], truth)
    empty = save(perfect["verification"].with_name("empty.csv"), rows[:1])
    with pytest.raises(DataError, match="0 rows"):
        csvs.score(empty, truth)
    with pytest.raises(DataError, match="holds no rows"):
        csvs.score(empty, empty)


# --- what check() finds


def replaced(rows: Rows, row: int, column: int, value: str) -> Rows:
    changed = [list(line) for line in rows]
    changed[row][column] = value
    return changed


# Each takes the right rows, header first, and does what students do to them.
FAULTS: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "header in capitals": (lambda r: [["Id", "Label"], *r[1:]], "no column id, label"),
    "another header": (lambda r: [["id", "category"], *r[1:]], "no column label"),
    "columns the other way round": (lambda r: [row[::-1] for row in r], "the header is label,id"),
    "no header": (lambda r: r[1:], "no column id, label"),
    "a row missing": (lambda r: r[:-1], "1 of N rows missing"),
    "two rows missing": (lambda r: r[:3] + r[5:], "2 of N rows missing"),
    "no rows": (lambda r: r[:1], "rows missing"),
    "a row doubled": (lambda r: [*r, r[1]], "1 ids come more than once"),
    "a row instead of another": (lambda r: [*r[:-1], r[1]], "1 of N rows missing"),
    "shuffled": (lambda r: [r[0], *r[2:], r[1]], "the rows are shuffled: row 0 is"),
    "a row too many": (lambda r: [*r, ["999999.jpg", r[1][1]]], "1 ids of no test image"),
    "an index column": (
        lambda r: [["", *r[0]], *([str(i), *row] for i, row in enumerate(r[1:]))],
        "the header is Unnamed: 0,id,label, not id,label: that is pandas' index; write with index",
    ),
    "a column left empty by a spreadsheet": (
        lambda r: [[*row, ""] for row in r],
        "not id,label: a column without a name; delete it in the spreadsheet",
    ),
    "a column twice": (lambda r: [[*row, row[1]] for row in r], "a column comes twice; it has id"),
    "columns parted as a spreadsheet does": (
        lambda r: [[";".join(row)] for row in r],
        "its columns are not separated by commas: save it as CSV with commas",
    ),
    "an index column without a header": (
        lambda r: [r[0], *([str(i), *row] for i, row in enumerate(r[1:]))],
        "more values than its header has columns",
    ),
    "a label empty": (lambda r: replaced(r, 2, 1, ""), "'' in row 1: nothing (empty"),
    "a row cut short": (lambda r: [*r[:2], [r[2][0]], *r[3:]], "1 labels are no"),
    "a label a score": (lambda r: replaced(r, 2, 1, "0.87"), "'0.87' in row 1: a score, where"),
    "labels nearly sure": (lambda r: replaced(r, 2, 1, "9.9e-01"), "a score, where"),
    "an id missing": (lambda r: [r[0][::-1], ["3"], *(row[::-1] for row in r[2:])], "rows missing"),
    "a label NaN": (lambda r: replaced(r, 2, 1, "nan"), "'nan' in row 1: nothing (empty"),
    "a label infinite": (lambda r: replaced(r, 2, 1, "inf"), "1 labels are no"),
    "a space in a label": (lambda r: replaced(r, 2, 1, " " + r[2][1]), "with spaces around it"),
}
TASK_FAULTS: dict[str, tuple[str, Callable[[Rows], Rows], str]] = {
    "label out of range": (
        "classification",
        lambda r: replaced(r, 2, 1, "6"),
        "1 labels are no class index, such as '6'",
    ),
    "label negative": ("classification", lambda r: replaced(r, 2, 1, "-1"), "such as '-1'"),
    "label float": ("classification", lambda r: replaced(r, 2, 1, "3.0"), "such as '3.0'"),
    "all labels float": (
        "classification",
        lambda r: [r[0], *([name, label + ".0"] for name, label in r[1:])],
        "in row 0: a whole number written as a decimal",
    ),
    "label an identity": (
        "classification",
        lambda r: replaced(r, 2, 1, NO_MATCH),
        "'n000000' in row 1: an identity, where class indices, as 0 or 17, are wanted",
    ),
    "five digits in the ids": (
        "classification",
        lambda r: [r[0], *([name[1:], label] for name, label in r[1:])],
        "the ids have another form, '00000.jpg' for '000000.jpg'",
    ),
    "ids without an ending": (
        "classification",
        lambda r: [r[0], *([name[:-4], label] for name, label in r[1:])],
        "rows missing",
    ),
    "unknown identity": (
        "verification",
        lambda r: replaced(r, 2, 1, "n099999"),
        "1 labels are no known identity or n000000, such as 'n099999'",
    ),
    "gallery index for a label": (
        "verification",
        lambda r: replaced(r, 2, 1, "3"),
        "'3' in row 1: a number, where identities, as n000012 or n000000, are wanted",
    ),
    "id a file name": (
        "verification",
        lambda r: replaced(r, 2, 0, "000001.jpg"),
        "1 ids of no test image, such as '000001.jpg'",
    ),
    "id a float": ("verification", lambda r: replaced(r, 2, 0, "1.0"), "such as '1.0'"),
    "ids from one": (
        "verification",
        lambda r: [r[0], *([str(int(i) + 1), label] for i, label in r[1:])],
        "1 of 18 rows missing, such as 0",
    ),
}


@pytest.mark.parametrize("task", CUTOFFS)
@pytest.mark.parametrize("fault", FAULTS)
def test_check_finds(fault: str, task: str, course: CourseData, tmp_path: Path) -> None:
    damage, named = FAULTS[fault]
    rows = truth_of(course, task)
    path = save(tmp_path / "mine.csv", damage(rows))
    problems = csvs.check(path, course)
    assert problems
    assert all(problem.startswith(f"{path}: ") for problem in problems)
    assert named.replace("N", str(len(rows) - 1)) in " ".join(problems)


@pytest.mark.parametrize("fault", TASK_FAULTS)
def test_check_finds_in_its_task(fault: str, course: CourseData, tmp_path: Path) -> None:
    task, damage, named = TASK_FAULTS[fault]
    path = save(tmp_path / "mine.csv", damage(truth_of(course, task)))
    assert named in " ".join(csvs.check(path, course))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (b"\xff\xfe\x00\x01" * 20, "not a CSV file"),
        (b'id,label\n"000000.jpg,1\n', "not a CSV file"),
        ("id,label\n0,n000001\n".encode("utf-16"), "not a CSV file"),
        (b"id,label\n0,n00\x000001\n", "not a CSV file (it holds zero bytes)"),
        (b"id,label\n0,n000001,5\n", "its rows have more values than its header has columns"),
        (b"id,label\n\n  \n0,n000001,5\n", "(line 4)"),
        (b"id;label\n0;n000001\n", "no column id, label; it has id;label"),
        (b"id,label\n0,n000001\n1,n000001,5\n", "not a CSV file"),
    ],
)
def test_check_names_what_is_no_table(
    content: bytes, named: str, course: CourseData, tmp_path: Path
) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    (problem,) = csvs.check(path, course)
    assert problem.startswith(f"{path}: ")
    assert named in problem


def test_check_names_a_missing_file(course: CourseData, tmp_path: Path) -> None:
    assert csvs.check(tmp_path / "no.csv", course) == [f"{tmp_path / 'no.csv'}: no such file"]


def test_check_tells_all_problems_at_once(course: CourseData, tmp_path: Path) -> None:
    rows = replaced(truth_of(course, "classification"), 3, 1, "99")[:-2]
    problems = csvs.check(save(tmp_path / "mine.csv", rows), course)
    assert len(problems) == 2
    assert "2 of 12 rows missing" in problems[0]
    assert "'99'" in problems[1]


@pytest.mark.parametrize("task", CUTOFFS)
def test_a_byte_order_mark_and_windows_line_ends_are_accepted(
    task: str, perfect: dict[str, Path], course: CourseData
) -> None:
    path, answers = perfect[task], getattr(course.answers, task)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert csvs.check(path, course) == []
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert csvs.check(path, course) == []
    assert csvs.score(path, answers) == 1.0
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\r"))
    (problem,) = csvs.check(path, course)
    assert "its lines end in CR alone" in problem
    assert csvs.score(path, answers) == 1.0


def test_check_counts_the_files_on_disk(copy_of_course: Path, perfect: dict[str, Path]) -> None:
    data = CourseData(copy_of_course)
    data.test.paths[-1].unlink()
    data.unknown_test.paths[-1].unlink()
    fresh = CourseData(copy_of_course)
    assert "'000011.jpg'" in " ".join(csvs.check(perfect["classification"], fresh))
    assert "'17'" in " ".join(csvs.check(perfect["verification"], fresh))


NO_NUMBERS = ["\u00b2", "\u2460", "\u0661", "9" * 5000]  # that isdigit() takes, or int() refuses


@pytest.mark.parametrize("number", NO_NUMBERS)
@pytest.mark.parametrize("task", CUTOFFS)
def test_digits_that_make_no_number_are_told(
    number: str, task: str, course: CourseData, tmp_path: Path
) -> None:
    header, first, *rest = truth_of(course, task)
    odd_id = number + Path(first[0]).suffix
    problems = csvs.check(save(tmp_path / "a.csv", [header, [odd_id, first[1]], *rest]), course)
    assert "rows missing" in problems[0] or "more than 1,000 characters" in problems[0]
    for label in (number, "n" + number * 6):
        problems = csvs.check(save(tmp_path / "b.csv", [header, [first[0], label], *rest]), course)
        assert "1 labels are no" in problems[0] or "more than 1,000 characters" in problems[0]


# --- what cannot be compared is not scored


BAD_LABELS = {
    "classification": ["12.0", "n000012", "", "07", "-1", "3 ", "\u0661", "nan"],
    "verification": [
        "12",
        "12.0",
        "",
        "n000012 ",
        "N000012",
        "n\u0661\u0661\u0661\u0661\u0661\u0661",
    ],
}


@pytest.mark.parametrize(
    ("task", "label"), [(task, label) for task in CUTOFFS for label in BAD_LABELS[task]]
)
def test_labels_of_another_form_are_refused_not_counted_as_wrong(
    task: str, label: str, perfect: dict[str, Path], course: CourseData, tmp_path: Path
) -> None:
    odd = save(tmp_path / "odd.csv", replaced(truth_of(course, task), 1, 1, label))
    for mine, answers in ((odd, getattr(course.answers, task)), (perfect[task], odd)):
        with pytest.raises(DataError, match=r"odd\.csv: 1 labels are no"):
            csvs.score(mine, answers)


def test_a_link_or_the_answers_themselves_are_not_scored(
    perfect: dict[str, Path], copy_of_course: Path, tmp_path: Path, refused: Callable
) -> None:
    answers = CourseData(copy_of_course).answers.verification
    (tmp_path / "hand-ins").mkdir()
    (tmp_path / "hand-ins" / "a.csv").symlink_to(answers)
    (tmp_path / "hand-ins" / "b").symlink_to(perfect["verification"].parent)
    (tmp_path / "hand-ins" / "c.csv").hardlink_to(answers)
    faults = {
        "a.csv": "a.csv: a link",
        "b/verification.csv": "b: a link",
        "c.csv": "the answers it",
    }
    for name, words in faults.items():
        said = refused("score", tmp_path / "hand-ins" / name, "--answers", answers)
        assert words in said


# --- the competition's own sample


@pytest.fixture
def sample(copy_of_course: Path) -> Callable[..., list[str]]:
    """Change the sample of a task, and check a submission with every answer right beside it."""

    def check(task: str, change: Callable[[Rows], Rows], perfect: dict[str, Path]) -> list[str]:
        data = CourseData(copy_of_course)
        path = getattr(data, task) / f"{task}_sample_submission.csv"
        rows = [line.split(",") for line in path.read_text().splitlines()]
        save(path, change(rows))
        problems = csvs.check(perfect[task], data)
        assert all(str(path) in problem for problem in problems)
        return problems

    return check


@pytest.mark.parametrize("task", CUTOFFS)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: [["id", "category"], *r[1:]], "the header is id,label, and that of"),
        (lambda r: r[:-2], "is stale or another term's: it has {less} rows for {all} test images"),
        (lambda r: [*r, ["77", r[1][1]]], "and '77' is only in the sample"),
        (lambda r: [r[0], *([name, f"0.{row}"] for row, (name, _) in enumerate(r[1:]))],
         "are such as '0.0', where"),
        (lambda r: [], "cannot be compared with the sample"),
    ],
)  # fmt: skip
def test_a_sample_that_says_otherwise_is_told(
    task: str, change: Callable, words: str, sample: Callable, perfect: dict[str, Path]
) -> None:
    count = len(read_table(perfect[task], ["id"]))
    (problem,) = sample(task, change, perfect)
    assert words.format(less=count - 2, all=count) in problem


@pytest.mark.parametrize("task", CUTOFFS)
@pytest.mark.parametrize(
    "change",
    [
        lambda r: [r[0], *r[:0:-1]],  # Kaggle goes by the ids
        lambda r: [r[0], *([name, "x"] for name, _ in r[1:])],  # one value stands for any
    ],
)
def test_a_sample_in_another_order_or_without_answers_is_none_the_worse(
    task: str, change: Callable, sample: Callable, perfect: dict[str, Path]
) -> None:
    assert sample(task, change, perfect) == []


def test_a_sample_of_another_term_is_told_from_a_submission_of_another_term(
    copy_of_course: Path, perfect: dict[str, Path]
) -> None:
    data = CourseData(copy_of_course)
    path = data.classification / "classification_sample_submission.csv"
    rows = [line.split(",") for line in path.read_text().splitlines()]
    old = [rows[0], *([name[1:], label] for name, label in rows[1:])]
    save(path, old)
    (stale,) = csvs.check(perfect["classification"], data)
    assert "stale or another term's" in stale
    both = csvs.check(save(perfect["classification"], old), data)
    assert ["another form" in problem for problem in both] == [True, False]


def test_without_a_sample_nothing_is_compared(
    copy_of_course: Path, perfect: dict[str, Path]
) -> None:
    data = CourseData(copy_of_course)
    for task, path in perfect.items():
        (getattr(data, task) / f"{task}_sample_submission.csv").unlink()
        assert csvs.check(path, data) == []


# --- tables


def test_a_table_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.csv"
    write_table(path, ["a", "b"], [(1, "x,y"), (2, 'say "b"')])
    before = path.read_bytes()
    assert read_table(path, ["b", "a"]).values.tolist() == [["1", "x,y"], ["2", 'say "b"']]

    def crash(*arguments: object) -> None:
        raise OSError("no")

    monkeypatch.setattr("os.replace", crash)
    with pytest.raises(OSError, match="no"):
        write_table(path, ["a", "b"], [(3, "z")])
    assert path.read_bytes() == before


PLAIN = b"id,label\n0,n000001\n"


def packed_tables() -> dict[str, bytes]:
    """The same table in archives whole and cut, and under their names without being one."""
    archive, tape = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.csv", PLAIN)
    with tarfile.open(fileobj=tape, mode="w") as file:
        member = tarfile.TarInfo("a.csv")
        member.size = len(PLAIN)
        file.addfile(member, io.BytesIO(PLAIN))
    return {
        "whole.zip": archive.getvalue(),
        "whole.tar": tape.getvalue(),
        "whole.csv.gz": gzip.compress(PLAIN),
        "cut.csv.gz": gzip.compress(PLAIN)[:-9],
        "renamed-zip.csv": archive.getvalue(),
        "renamed-tar.csv": tape.getvalue(),
        "text.zip": PLAIN,
        "text.XZ": PLAIN,
        "text.csv.zst": PLAIN,
        "text.bz2": PLAIN,
    }


@pytest.mark.parametrize("name", packed_tables())
def test_nothing_is_unpacked_on_the_way_to_a_table(
    name: str, tmp_path: Path, course: CourseData, refused: Callable
) -> None:
    path = tmp_path / name
    path.write_bytes(packed_tables()[name])
    with pytest.raises(DataError, match=re.escape(str(path))):
        read_table(path, ["id"])
    assert str(path) in refused("check", path, "--data", course.root)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"id,label" + b",x" * 100_000 + b"\n", "100,002 columns"),
        (b"id,label" + b',"\n"' * 100_000 + b"\n", "100,002 columns"),
        (b"id,label\n0,n000001" + b",x" * 100_000 + b"\n", "more values than its header"),
        (b"id,label\n0," + b"x" * 100_000 + b"\n", "a value of more than 1,000 characters"),
        (b"id,label\n" + b"1,\n" * (MOST_ROWS + 1), "rows at most"),
    ],
)
def test_a_table_has_bounds(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as error:
        read_table(path, ["id"])
    assert len(str(error.value)) < 300


def test_a_file_larger_than_any_table_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.csv"
    with path.open("wb") as file:
        file.write(PLAIN)
        file.truncate(1 << 40)
    with pytest.raises(DataError, match="bytes; a table has"):
        read_table(path, ["id"])


# --- grades


# --- sending


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a `kaggle` first on PATH that notes its arguments and then runs the given shell lines."""

    def install(lines: str) -> Path:
        folder, noted = tmp_path / "bin", tmp_path / "arguments"
        folder.mkdir()
        program = folder / "kaggle"
        program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > '{noted}'\n{lines}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return noted

    return install


@pytest.mark.parametrize(
    ("term", "task", "slug"),
    [
        ("F23", "classification", "11-785-f23-hw2p2-classification"),
        ("F23", "verification", "11-785-f23-hw2p2-verification"),
        ("S24", "verification", "11785-hw2p2-face-verification"),
    ],
)
def test_sending_goes_to_the_competition_of_the_term(
    term: str,
    task: str,
    slug: str,
    kaggle: Callable,
    copy_of_course: Path,
    perfect: dict[str, Path],
) -> None:
    noted = kaggle("echo 100%; echo 'Successfully submitted to it'")
    for folder in ("classification", "verification"):
        there = copy_of_course / f"11-785-f23-hw2p2-{folder}"
        there.rename(copy_of_course / f"11-785-{term.lower()}-hw2p2-{folder}")
    said = csvs.send(perfect[task], task, CourseData(copy_of_course, term), "it's $HOME")
    assert said == "100% Successfully submitted to it"
    assert noted.read_text().splitlines() == [
        "competitions", "submit", slug, "-f", str(perfect[task]), "--message=it's $HOME",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "task", "words"),
    [
        ("verification", "classification", "a verification submission, not one for classification"),
        ("classification", "verification", "a classification submission, not one for verification"),
        ("damaged", "classification", "1 of 12 rows missing"),
        ("gone", "classification", "no such file"),
    ],
)
def test_what_is_refused_here_is_never_sent(
    file: str,
    task: str,
    words: str,
    kaggle: Callable,
    course: CourseData,
    perfect: dict[str, Path],
    tmp_path: Path,
) -> None:
    noted = kaggle("echo sent")
    lines = perfect["classification"].read_text().splitlines(keepends=True)
    (tmp_path / "damaged.csv").write_text("".join(lines[:-1]))
    with pytest.raises(DataError, match=f"not sent: .*{words}"):
        csvs.send(tmp_path / f"{file}.csv", task, course, "m")
    assert not noted.exists()


@pytest.mark.parametrize("redirection", ["", ">&2"])
def test_a_refusal_is_told_in_kaggles_words(
    redirection: str, kaggle: Callable, course: CourseData, perfect: dict[str, Path]
) -> None:
    kaggle(f"echo '403 Client Error: Forbidden' {redirection}\nexit 1")
    with pytest.raises(FacekitError, match="403 Client Error: Forbidden") as error:
        csvs.send(perfect["classification"], "classification", course, "m")
    assert "11-785-f23-hw2p2-classification" in str(error.value)


def test_a_silent_refusal_is_a_refusal(
    kaggle: Callable, course: CourseData, perfect: dict[str, Path]
) -> None:
    kaggle("exit 1")
    with pytest.raises(FacekitError, match="no reason"):
        csvs.send(perfect["verification"], "verification", course, "m")


def test_kaggle_is_never_left_waiting_for_an_answer(
    kaggle: Callable, course: CourseData, perfect: dict[str, Path]
) -> None:
    kaggle('read -r answer && echo "got $answer" || echo "nobody there"')
    reader, writer = os.pipe()
    os.write(writer, b"yes\n")
    before = os.dup(0)
    os.dup2(reader, 0)  # somebody is at the keyboard
    try:
        said = csvs.send(perfect["verification"], "verification", course, "m")
    finally:
        os.dup2(before, 0)
        for number in (reader, writer, before):
            os.close(number)
    assert said == "nobody there"


def test_without_kaggles_program_it_is_said_how_to_get_it(
    course: CourseData,
    perfect: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))  # it looks beside Python, too
    with pytest.raises(FacekitError, match=re.escape(install_command("kaggle"))):
        csvs.send(perfect["verification"], "verification", course, "m")
