"""Exercises of many students graded: right ones earn points, no notebook ends or fools the rest."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

from facekit.common.errors import DataError, FacekitError
from facekit.course import exercises as course
from facekit.grading import exercise_sheets
from facekit.grading.exercise_sheets import Limits
from facekit.submission import zips

REPOSITORY = Path(__file__).parents[2]
KNOWN = course.exercises()
ASK = '\nfrom facekit.course import exercises\nexercises.exercise("{0}", {0})\n'
RIGHT = {
    "output_side": "def output_side(size, window, stride, padding):\n"
    "    return (size + 2 * padding - window) // stride + 1\n",
    "accuracy": "def accuracy(right, sizes):\n    return sum(right) / sum(sizes)\n",
}


def notebook(path: Path, *cells: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [{"cell_type": "code", "source": cell} for cell in cells]
    path.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": "# x"}, *made]}))
    return path


def right(name: str) -> str:
    return RIGHT[name] + ASK.format(name)


def judged(folder: Path, seconds: int = 60, worth=None) -> dict[str, dict[str, tuple]]:
    sheets, _ = exercise_sheets.grade(folder, 5, worth, Limits(seconds))
    return {sheet.name: sheet.verdicts for sheet in sheets}


# --- points


def test_right_answers_earn_points_and_known_mistakes_their_hints(tmp_path, run_cli):
    solved = json.loads((REPOSITORY / "notebooks/solutions/03_model_building.ipynb").read_text())
    (tmp_path / "in" / "ada").mkdir(parents=True)
    (tmp_path / "in/ada/03.ipynb").write_text(json.dumps(solved))
    text = json.dumps(solved)
    changed = text.replace(" // stride + 1", " // stride").replace(" + bias * out", "")
    assert text.count(" // stride + 1") == text.count(" + bias * out") == 1
    (tmp_path / "in/bob.ipynb").write_text(changed)
    points = tmp_path / "points.toml"
    points.write_text("output_side = 3\nconv_parameters = 1.5\nResidualBlock = 4\naccuracy = 1\n")
    table = tmp_path / "table.csv"
    done = run_cli(
        "grade-exercises", tmp_path / "in", "--points", points, "--out", table, "--seed", 11
    )
    assert done.stdout.splitlines() == [
        "ada: 8.5 of 9.5",
        "bob: 4 of 9.5",
        f"{table}: 2 students, seed 11",
    ], done
    ada, bob = csv.DictReader(table.open())
    assert (ada["points"], ada["output_side"], ada["accuracy"]) == ("8.5", "right", "")
    for name in ("output_side", "conv_parameters"):
        state, _, hint = bob[name].partition(": ")
        assert state == "not yet" and hint in KNOWN[name].mistakes
    assert bob["ResidualBlock"] == "right"
    assert table.stat().st_mode & 0o077 == 0


@pytest.mark.long
def test_all_solutions_earn_all_points_and_stubs_none(tmp_path):
    for folder, name in (("solutions", "good"), (".", "none")):
        for path in (REPOSITORY / "notebooks" / folder).glob("0*.ipynb"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    sheets, worth = exercise_sheets.grade(tmp_path, 5)
    assert list(worth) == list(KNOWN)
    assert [sheet.points(worth) for sheet in sheets] == [len(KNOWN), 0]
    assert {verdict.state for verdict in sheets[1].verdicts.values()} == {"not begun"}


def test_arguments_that_do_not_tell_a_mistake_are_drawn_anew():
    exercise = KNOWN["conv_parameters"]
    missed = [w for w in exercise.mistakes.values() if exercise.judge(w, 1).state == "right"]
    assert missed, "by chance this seed gives no bias to layers whose channels change"
    assert exercise.telling_seed(0) == 0
    seed = exercise.telling_seed(1)
    assert seed > 1 and exercise.judge(exercise.reference, seed).state == "right"
    for hint, wrong in exercise.mistakes.items():
        assert exercise.judge(wrong, seed) == ("not yet", hint)


@pytest.mark.parametrize("name", KNOWN)
def test_with_another_seed_a_reference_is_right(name):
    assert KNOWN[name].judge(KNOWN[name].reference, 2**32 - 1).state == "right"


# --- what is run


def test_imports_and_definitions_of_other_cells_are_there_and_nothing_else_is_run(tmp_path):
    told = tmp_path / "told"
    notebook(
        tmp_path / "in" / "ada.ipynb",
        f"%matplotlib inline\n!ls\nimport numpy as np\nopen({str(told)!r}, 'w')",
        "def add(values):\n    return np.sum(values)",
        "import no_such_package\n",
        "%%time\ndef accuracy(right, sizes):\n    return add(right) / add(sizes)\n"
        + ASK.format("accuracy"),
        "def output_side(size, window, stride, padding):\n    return 'old'",
        right("output_side") + "1 / 0",
    )
    states = judged(tmp_path / "in")["ada"]
    assert {name: verdict.state for name, verdict in states.items()} == {
        "accuracy": "right",
        "output_side": "right",
    }
    assert not told.exists()


HOSTILE = {
    "output_side": "def output_side(*a):\n    while True: pass",
    "conv_parameters": "def conv_parameters(*a):\n    return len(bytearray(20 * 2**30))",
    "receptive_field": "import os\ndef receptive_field(layers):\n    os._exit(0)",
    "restarts_seen": "def restarts_seen(*a):\n    from facekit.course.exercises import building",
    "standard_error": "raise SystemExit",
    "difference_error": "def difference_error(first, second):\n    return eval('1' + '+1' * 10**6)",
    "when_to_stop": "this is no Python",
    "score_by_id": "def score_by_id(mine, truth):\n    x = []\n    x.append(x)\n    return x",
    "accuracy": "def accuracy(right, sizes):\n"
    "    import os, facekit.course.exercises as e\n"
    "    e.Exercise.verdict = e.difference = lambda *a: e.Verdict('right')\n"
    "    return os.environ.get('SECRET_KEY', 0.5)",
}


def test_code_that_ends_or_fools_its_process_is_a_wrong_answer_and_not_an_end(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("SECRET_KEY", "xyzzy")
    cells = [code + ASK.format(name) for name, code in HOSTILE.items()]
    last = "import os\nassert 'SECRET_KEY' not in os.environ\nassert not os.listdir()\n"
    kept = "def grade(right, count, cutoffs):\n    return os.environ['HOME'], os.getcwd(), ''\n"
    notebook(tmp_path / "eve.ipynb", *cells, last + kept + ASK.format("grade"))
    found = judged(tmp_path, seconds=5)["eve"]
    assert {verdict.state for verdict in found.values()} == {"not yet"}
    words = {name: verdict.words for name, verdict in found.items()}
    assert "takes more than 5 seconds" in words["output_side"]
    assert "MemoryError" in words["conv_parameters"]
    assert "ends its process (status 0)" in words["receptive_field"]
    assert "halted" in words["restarts_seen"] or "ModuleNotFound" in words["restarts_seen"]
    assert "SyntaxError" in words["when_to_stop"]
    assert "RecursionError" in words["score_by_id"]
    assert "your result is a str, wanted are numbers" in words["grade"]


def test_what_a_process_writes_itself_is_no_verdict(monkeypatch):
    lines = ['[["", 1]]', "[]", "null", '[["", {"array": [1], "dtype": "O", "shape": [7]}]]', "x"]
    monkeypatch.setattr(exercise_sheets, "_run", lambda work: (lines[: len(work["tasks"])], "why"))
    names = list(KNOWN)[: len(lines)]
    sheet = exercise_sheets.Sheet("eve", cells=dict.fromkeys(names, ""))
    cases = {name: KNOWN[name].cases(1) for name in names}
    found = exercise_sheets.judge(sheet, {name: KNOWN[name] for name in names}, cases)
    assert {verdict.state for verdict in found.values()} == {"not yet"}
    assert all("its result cannot be read" in verdict.words for verdict in found.values())


@pytest.mark.parametrize("found", [5, (1, 2), (None, 1, 2, 3), "x"])
def test_a_module_that_comes_back_as_something_else_is_wrong(found):
    exercise, cases = KNOWN["SqueezeExcite"], KNOWN["SqueezeExcite"].cases(1)
    verdict = exercise_sheets._verdict(exercise, cases, [course.Attempt(found)] * len(cases))
    assert verdict.state == "not yet"


# --- what is handed in


def test_what_cannot_be_read_is_a_row_with_a_note(tmp_path):
    for name, content in {
        "cut": b'{"cells": [',
        "empty": b"",
        "list": b"[1]",
        "old": b'{"worksheets": []}',
        "odd": b'{"cells": [{"cell_type": "code"}]}',
        "deep": b"[" * 100_000,
        "bytes": b"\xff\xfe",
    }.items():
        (tmp_path / f"{name}.ipynb").write_bytes(content)
    (tmp_path / "link.ipynb").symlink_to("/etc/passwd")
    (tmp_path / "broken.zip").write_bytes(b"PK no zip")
    notebook(tmp_path / ".ipynb_checkpoints" / "x.ipynb", right("accuracy"))
    notebook(tmp_path / "=1+1\x1b[31m" / "x.ipynb", right("accuracy"))
    mine = notebook(tmp_path / "mine.ipynb", right("accuracy")).read_bytes()
    (tmp_path / "mine.ipynb").unlink()
    zips.pack(tmp_path / "zed.zip", {"README.md": b"", "notebooks/mine.ipynb": mine}, "zed")
    (tmp_path / "ada").mkdir()
    shutil.copy(tmp_path / "zed.zip", tmp_path / "ada" / "hand-in.zip")
    sheets, worth = exercise_sheets.grade(tmp_path, 5)
    noted = {sheet.name: "; ".join(sheet.notes) for sheet in sheets}
    for name in ("cut", "empty", "list", "old", "odd", "deep", "bytes"):
        assert noted[name].startswith(f"{name}.ipynb: not a notebook"), noted[name]
    assert "a link" in noted["link"] and noted["broken"].startswith("broken.zip: ")
    good = {sheet.name for sheet in sheets if sheet.points(worth) == 1}
    assert good == {"=1+1\\x1b[31m", "ada", "zed"}
    exercise_sheets.write(tmp_path / "table.csv", sheets, worth)
    names = [row["name"] for row in csv.DictReader((tmp_path / "table.csv").open())]
    assert "'=1+1\\x1b[31m" in names and len(names) == 12


def test_a_folder_without_notebooks_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no notebook"):
        exercise_sheets.grade(tmp_path / "gone", 5)


@pytest.mark.parametrize(
    "text, words",
    [
        ("x = 1", "no exercise x; there are: class_indices"),
        ("accuracy = -1", "points are a number, 0 or more"),
        ("accuracy = nan", "points are a number, 0 or more"),
        ("accuracy = true", "points are a number"),
        ("accuracy = 'x'", "points are a number"),
        ("accuracy", "cannot be read"),
    ],
)
def test_bad_points_are_told(tmp_path, text, words):
    path = tmp_path / "points.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        exercise_sheets.read_worth(path)


def test_a_students_copy_cannot_grade(tmp_path, monkeypatch):
    notebook(tmp_path / "ada.ipynb", right("accuracy"))
    (tmp_path / "hidden.json").write_text("{}")
    monkeypatch.setattr(course, "HIDDEN", tmp_path / "hidden.json")
    with pytest.raises(FacekitError, match="students' copy"):
        exercise_sheets.grade(tmp_path, 5)


def test_where_no_process_starts_it_is_said(tmp_path, monkeypatch):
    notebook(tmp_path / "ada.ipynb", right("accuracy"))
    (tmp_path / "facekit").mkdir()
    (tmp_path / "facekit/__init__.py").touch()
    own = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    monkeypatch.setattr(exercise_sheets, "_environment", lambda home: own)
    with pytest.raises(FacekitError, match=r"can be started here: .*No module named"):
        exercise_sheets.grade(tmp_path, 5)
