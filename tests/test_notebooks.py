"""The notebooks run top to bottom, prove what they teach, and are fit to be handed out."""

import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from facekit import course
from facekit.errors import FacekitError

REPOSITORY = Path(__file__).parents[1]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


def code_cells(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def test_all_notebooks_pass_in_a_copy_whose_path_has_spaces(tmp_path):
    copy = tmp_path / "my course kit"
    shutil.copytree(REPOSITORY / "notebooks", copy / "notebooks")
    home = tmp_path / "work space"
    settings = {"FACEKIT_PROFILE": "smoke", "FACEKIT_HOME": str(home), "PYTHONWARNINGS": "default"}
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-cell-timeout=900"]
    command += ["--nbval-current-env", "-p", "no:cacheprovider", "--rootdir", str(copy)]
    done = subprocess.run(
        [*command, str(copy / "notebooks")],
        env=os.environ | settings,
        cwd=copy,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert f"{sum(len(code_cells(path)) for path in NOTEBOOKS)} passed" in done.stdout
    for name in ("classification.csv", "verification.csv"):
        assert (home / "runs" / "course" / name).is_file()


def test_the_course_has_eight_notebooks_and_each_leads_to_the_next():
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{number:02}" for number in range(1, 9)]
    for path, following in pairwise(NOTEBOOKS):
        last = nbformat.read(path, as_version=4).cells[-1]
        assert f"({following.name})" in last.source, path.stem


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestEachNotebook:
    def test_is_valid_and_names_the_kernel_that_everybody_has(self, path):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert notebook.metadata.kernelspec.name == "python3"
        assert "widgets" not in notebook.metadata

    def test_holds_no_error_and_no_foreign_output(self, path):
        for cell in nbformat.read(path, as_version=4).cells:
            assert not cell.get("outputs"), "notebooks are kept without outputs"
            assert cell.get("execution_count") is None

    def test_is_short_enough_to_read(self, path):
        cells = code_cells(path)
        assert sum(cell.count("\n") + 1 for cell in cells) <= 150
        assert max(cell.count("\n") + 1 for cell in cells) <= 25
        assert max(len(line) for cell in cells for line in cell.splitlines()) <= 79
        assert path.stat().st_size < 1_000_000

    def test_ends_with_asserts_about_what_it_teaches(self, path):
        assert code_cells(path)[-1].count("assert ") >= 6

    def test_begins_with_the_same_cell_as_the_others(self, path):
        assert code_cells(path)[0] == code_cells(NOTEBOOKS[0])[0]

    def test_links_only_to_notebooks_that_exist(self, path):
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (path.parent / target).is_file(), target


def write_notebook(path: Path, *cells: str) -> Path:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbformat.write(notebook, path)
    return path


def test_the_runner_keeps_an_executed_copy(tmp_path):
    path = write_notebook(tmp_path / "01.ipynb", "print(6 * 7)")
    course.run_notebook(path, tmp_path / "copy.ipynb")
    cell = nbformat.read(tmp_path / "copy.ipynb", as_version=4).cells[0]
    assert cell.outputs[0].text.strip() == "42"
    assert nbformat.read(path, as_version=4).cells[0].outputs == []


@pytest.mark.parametrize(
    "cell",
    [
        "assert 1 == 2, 'learned nothing'",
        # A widget swallows what its callback raises; most runners never see it.
        "from ipywidgets import interact\n\n"
        "@interact(x=(0, 1))\ndef show(x):\n    raise ValueError('learned nothing')",
    ],
    ids=["in a cell", "in a callback"],
)
def test_the_runner_reports_an_error_and_where_to_look(tmp_path, cell):
    path = write_notebook(tmp_path / "01.ipynb", cell)
    with pytest.raises(FacekitError, match=r"01\.ipynb.*learned nothing.*copy\.ipynb"):
        course.run_notebook(path, tmp_path / "copy.ipynb")
    assert (tmp_path / "copy.ipynb").is_file()


def test_the_runner_asks_for_notebooks_where_there_are_none(tmp_path):
    with pytest.raises(FacekitError, match="no notebook here"):
        course.run_all(tmp_path)
