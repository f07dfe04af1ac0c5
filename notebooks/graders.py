"""The exercises for other graders: python notebooks/graders.py nbgrader | otter FOLDER [03 ...].

Of each lesson a notebook with its exercises alone, which need neither data nor the cells between
them: for nbgrader the folder of a course, for `otter assign` a master notebook. After each
exercise comes a hidden test with arguments that were drawn for it. Students get what these
programs make of that. Whoever grades needs the kit with its references.
"""

import argparse
import os
import secrets
from pathlib import Path

import build
import jupytext
import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell

from facekit.common.files import write_whole
from facekit.course.exercises import exercises
from facekit.grading.exercise_sheets import ASKED

TEST = """from facekit.course import exercises
assert exercises.exercises()["{name}"].judge({name}, {seed}).state == "right"
"""
TITLE = """# {lesson}: exercises

Write your code where the cell asks for it. The line below the cell tells you how it stands."""
CONFIG = """c = get_config()
c.ExecutePreprocessor.timeout = 600  # seconds of a cell; to import torch takes a while
"""


def exercise_cells(source: Path) -> list[tuple[str, str, str]]:
    """Of each exercise of a lesson its name, its heading cell, and its code with the solution."""
    lesson = build.build(source, "lesson").cells
    headings = [cell.source for cell in lesson if cell.source.startswith("### Exercise ")]
    cells = jupytext.read(source, fmt="py:percent").cells
    code = [cell.source for cell in cells if "### BEGIN SOLUTION" in cell.source]
    names = [ASKED.findall(text)[-1] for text in code]
    return list(zip(names, headings, code, strict=True))


def test_of(name: str) -> str:
    """A test that tells every known mistake from what is right."""
    return TEST.format(name=name, seed=exercises()[name].telling_seed(secrets.randbits(32)))


def nbgrader(source: Path) -> NotebookNode:
    """A lesson's exercises as nbgrader's source notebook: one point each."""
    cells = [new_markdown_cell(TITLE.format(lesson=source.stem))]
    for name, heading, code in exercise_cells(source):
        test = f"### BEGIN HIDDEN TESTS\n{test_of(name)}### END HIDDEN TESTS"
        solution, graded = new_code_cell(code), new_code_cell(test)
        solution.metadata["nbgrader"] = _about(name, solution=True)
        graded.metadata["nbgrader"] = _about(f"{name}-test", grade=True, locked=True, points=1)
        cells += [new_markdown_cell(heading), solution, graded]
    return _book(cells)


def _about(name: str, **said: bool | int) -> dict[str, object]:
    """What nbgrader wants to know of a cell."""
    common = {"grade": False, "solution": False, "locked": False, "task": False}
    return common | {"grade_id": name, "schema_version": 3, "cell_type": "code"} | said


def otter(source: Path) -> NotebookNode:
    """A lesson's exercises as a master notebook of `otter assign`: one point each."""
    cells = [
        new_raw_cell("# ASSIGNMENT CONFIG\nexport_cell:\n  pdf: false\n"),
        new_markdown_cell(TITLE.format(lesson=source.stem)),
    ]
    for name, heading, code in exercise_cells(source):
        cells += [
            new_raw_cell(f"# BEGIN QUESTION\nname: {name}\npoints: 1\ncheck_cell: false"),
            new_markdown_cell(heading),
            new_raw_cell("# BEGIN SOLUTION"),
            new_code_cell(code.replace("### BEGIN", "# BEGIN").replace("### END", "# END")),
            new_raw_cell("# END SOLUTION"),
            new_raw_cell("# BEGIN TESTS"),
            new_code_cell(f"# HIDDEN\n{test_of(name)}"),
            new_raw_cell("# END TESTS"),
            new_raw_cell("# END QUESTION"),
        ]
    return _book(cells)


def _book(cells: list[NotebookNode]) -> NotebookNode:
    book = new_notebook(cells=cells, metadata=NotebookNode(build.METADATA))
    build.name_cells(book)
    return book


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grader", choices=["nbgrader", "otter"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="numbers of lessons, such as 03 [all]")
    asked = parser.parse_args()
    for source in build.sources():
        if asked.names and not source.stem.startswith(tuple(asked.names)):
            continue
        if asked.grader == "nbgrader":
            path, book = Path("source", source.stem, f"{source.stem}.ipynb"), nbgrader(source)
        else:
            path, book = Path(f"{source.stem}.ipynb"), otter(source)
        path = asked.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, nbformat.writes(book).encode(), private=True)
        print(os.path.relpath(path))
    if asked.grader == "nbgrader":
        write_whole(asked.folder / "nbgrader_config.py", CONFIG.encode())


if __name__ == "__main__":
    main()
