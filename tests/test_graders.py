"""Exercises written for nbgrader and Otter: the real programs give the right points."""

import csv
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from facekit.course.exercises import exercises

REPOSITORY = Path(__file__).parents[1]
LESSON = "07_ablations"
ASKED = re.compile(r'exercises\.exercise\("(\w+)"')
BODY = re.compile(r"^( *)#+ BEGIN SOLUTION\n(.*?)^ *#+ END SOLUTION\n", re.M | re.S)
MISTAKES = {
    "restarts_seen": "return epochs // restart_epochs",
    "standard_error": "return accuracy * (1 - accuracy) / images",
}


def command(folder: Path, *words: str) -> str:
    """Run a Python program as from a shell with the environment active."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"PATH": path, "PYTHONPATH": str(REPOSITORY), "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=os.environ | own, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def written(grader: str, folder: Path) -> dict[str, str]:
    """Write one lesson for a grader; the code of its exercises, solutions marked."""
    said = command(folder, str(REPOSITORY / "notebooks/graders.py"), grader, ".", "07")
    [path] = said.split()
    cells = nbformat.read(folder / path, as_version=4).cells
    return {ASKED.search(c.source)[1]: c.source for c in cells if ASKED.search(c.source)}


def hand_in(students: Path, code: dict[str, str], mistakes: dict[str, str], path: Path) -> None:
    """Fill in the notebook that students get, with mistakes in some exercises."""
    book = nbformat.read(students, as_version=4)
    asked = [cell for cell in book.cells if ASKED.search(cell.source)]
    assert len(asked) == len(code)
    for cell in asked:
        assert "SOLUTION" not in cell.source
        name = ASKED.search(cell.source)[1]
        wrong = mistakes.get(name)
        cell.source = BODY.sub(lambda m, w=wrong: f"{m[1]}{w}\n" if w else m[2], code[name])
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)


def test_an_exercise_has_a_heading_a_solution_and_a_test_that_holds(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "notebooks"))
    graders = importlib.import_module("graders")
    found = [cell for path in graders.build.sources() for cell in graders.exercise_cells(path)]
    assert [name for name, _, _ in found] and {name for name, _, _ in found} == set(exercises())
    for name, heading, code in found:
        assert heading.startswith("### Exercise ") and f'exercise("{name}", {name})' in code
    for text, state in ((None, True), (MISTAKES["standard_error"], False)):
        code = next(code for name, _, code in found if name == "standard_error")
        space = {}
        exec(BODY.sub(lambda m, t=text: f"{m[1]}{t}\n" if t else m[2], code), space)
        test = graders.test_of("standard_error")
        if state:
            exec(test, space)
        else:
            with pytest.raises(AssertionError):
                exec(test, space)


@pytest.mark.long
def test_nbgrader_gives_a_good_student_all_points_and_two_mistakes_cost_two(tmp_path):
    code = written("nbgrader", tmp_path)
    command(tmp_path, "-m", "nbgrader", "generate_assignment", LESSON)
    students = tmp_path / "release" / LESSON / f"{LESSON}.ipynb"
    assert "judge(" not in students.read_text()
    for name, mistakes in (("ada", {}), ("bob", MISTAKES)):
        hand_in(students, code, mistakes, tmp_path / "submitted" / name / LESSON / students.name)
    command(tmp_path, "-m", "nbgrader", "autograde", LESSON)
    command(tmp_path, "-m", "nbgrader", "export")
    rows = csv.DictReader((tmp_path / "grades.csv").open())
    points = {row["student_id"]: (float(row["score"]), float(row["max_score"])) for row in rows}
    assert points == {"ada": (4, 4), "bob": (2, 4)}


@pytest.mark.long
def test_otter_gives_a_good_student_all_points_and_two_mistakes_cost_two(tmp_path):
    code = written("otter", tmp_path)
    command(tmp_path, "-m", "otter", "assign", f"{LESSON}.ipynb", "dist")
    students = tmp_path / "dist" / "student" / f"{LESSON}.ipynb"
    assert "judge(" not in students.read_text()
    [autograder] = (tmp_path / "dist" / "autograder").glob("*.zip")
    for name, mistakes in (("ada", {}), ("bob", MISTAKES)):
        hand_in(students, code, mistakes, tmp_path / name / students.name)
        book = str(tmp_path / name / students.name)
        command(tmp_path, "-m", "otter", "run", book, "-a", str(autograder), "-o", name)
        tests = json.loads((tmp_path / name / "results.json").read_text())["tests"]
        points = {test["name"]: test["score"] for test in tests if "score" in test}
        assert points == {each: float(each not in mistakes) for each in code}
