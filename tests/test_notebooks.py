"""The notebooks run top to bottom, prove what they teach, and are fit to be handed out."""

import os
import random
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from facekit.common.errors import FacekitError
from facekit.common.lock import only_one
from facekit.course import run_all

REPOSITORY = Path(__file__).parents[1]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
ALL_FORMS = [*NOTEBOOKS, *sorted((REPOSITORY / "notebooks").glob("*/*.ipynb"))]


def code_cells(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


@pytest.mark.long
def test_lessons_pass_in_any_order_in_a_path_with_spaces_and_without_a_network(tmp_path):
    copy, home = tmp_path / "my course kit", tmp_path / "work space"
    for folder in ("facekit", "notebooks"):
        shutil.copytree(REPOSITORY / folder, copy / folder)
    settings = {"FACEKIT_PROFILE": "smoke", "FACEKIT_HOME": str(home), "PYTHONWARNINGS": "default"}
    paths = [str(offline(tmp_path)), os.environ.get("PYTHONPATH")]
    settings["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    order = [str(copy / "notebooks" / path.name) for path in NOTEBOOKS]
    random.SystemRandom().shuffle(
        order
    )  # another one in every run: no lesson needs another's files
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-cell-timeout=900"]
    command += ["--nbval-current-env", "-p", "no:cacheprovider", "--rootdir", str(copy)]
    done = subprocess.run(
        [*command, *order], env=os.environ | settings, cwd=copy, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{order}\n{done.stdout[-6000:]}"
    assert f"{sum(len(code_cells(path)) for path in NOTEBOOKS)} passed" in done.stdout
    for name in ("classification.csv", "verification.csv"):
        assert (home / "runs" / "course" / name).is_file()


OFFLINE = """
import socket

def only_here(connect):
    def checked(self, address):
        inside = self.family == getattr(socket, "AF_UNIX", None) or address[0] in HERE
        if not inside:
            raise OSError(101, "the network is off in this test")
        return connect(self, address)
    return checked

HERE = ("127.0.0.1", "::1", "localhost")
socket.socket.connect = only_here(socket.socket.connect)
socket.socket.connect_ex = only_here(socket.socket.connect_ex)
"""


def offline(folder: Path) -> Path:
    """A folder that keeps every Python process that finds it from leaving this machine."""
    (folder / "offline").mkdir()
    (folder / "offline/sitecustomize.py").write_text(OFFLINE)
    return folder / "offline"


def test_offline_is_offline(tmp_path):
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=60)"
    settings = {"PYTHONPATH": str(offline(tmp_path))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | settings, capture_output=True, text=True
    )
    assert "the network is off in this test" in done.stderr


def test_the_course_has_nine_notebooks_and_each_leads_to_the_next():
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{number:02}" for number in range(1, 10)]
    for path, following in pairwise(NOTEBOOKS):
        last = nbformat.read(path, as_version=4).cells[-1]
        assert f"({following.name})" in last.source, path.stem


def identity(path: Path) -> str:
    return path.relative_to(REPOSITORY / "notebooks").with_suffix("").as_posix()


@pytest.mark.parametrize("path", ALL_FORMS, ids=identity)
class TestEachNotebook:
    def test_is_valid_and_names_the_kernel_that_everybody_has(self, path):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert notebook.metadata.kernelspec.name == "python3"
        assert "widgets" not in notebook.metadata

    def test_is_short_enough_to_read(self, path):
        cells = code_cells(path)
        lines = [cell.count("\n") + 1 for cell in cells]
        # Without the first cell, which is the same everywhere. What is only read stays shorter.
        assert sum(lines[1:]) <= 240
        read = [cell for cell in cells[1:] if "exercises.exercise(" not in cell]
        assert sum(cell.count("\n") + 1 for cell in read) <= 150
        assert lines[0] <= 20
        assert max(lines) <= 25
        assert max(len(line) for cell in cells for line in cell.splitlines()) <= 79
        assert path.stat().st_size < 1_000_000

    def test_ends_with_asserts_about_what_it_teaches_and_its_time(self, path):
        last = code_cells(path)[-1]
        assert last.count("assert ") >= 6
        assert "host.took()" in last

    def test_begins_with_the_same_cell_as_the_others(self, path):
        assert code_cells(path)[0] == code_cells(NOTEBOOKS[0])[0]

    def test_links_only_to_files_that_exist(self, path):
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (path.parent / target).is_file(), target


@pytest.mark.parametrize("path", NOTEBOOKS, ids=identity)
class TestEachLesson:
    def test_was_run_from_top_to_bottom_and_shows_what_it_said(self, path):
        code = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
        for output in (output for cell in code for output in cell.outputs):
            assert output.output_type in ("stream", "display_data", "execute_result")
            assert output.get("name", "stdout") == "stdout"
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})

    def test_every_picture_is_described_to_those_who_do_not_see_it(self, path):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                for kind in output.get("data", {}):
                    if kind.startswith("image/"):
                        assert output.metadata[kind]["alt"], cell.source

    def test_tells_what_goes_wrong_in_practice_and_what_changes_elsewhere(self, path):
        text = path.read_text()
        assert "> **In practice.**" in text
        assert "**On Colab, Kaggle, a laptop.**" in text

    def test_has_cells_whose_words_are_compared(self, path):
        checked = [c for c in code_cells(path) if c.startswith("# NBVAL_CHECK_OUTPUT")]
        assert len(checked) >= 2


@pytest.mark.parametrize("path", ALL_FORMS[len(NOTEBOOKS) :], ids=identity)
def test_exercises_and_solutions_are_handed_out_without_outputs(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def write_notebook(path: Path, *cells: str) -> Path:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbformat.write(notebook, path)
    return path


def test_the_runner_keeps_an_executed_copy(tmp_path):
    path = write_notebook(tmp_path / "01.ipynb", "print(6 * 7)")
    run_all.run_notebook(path, tmp_path / "copy.ipynb")
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
        run_all.run_notebook(path, tmp_path / "copy.ipynb")
    assert (tmp_path / "copy.ipynb").is_file()


def test_a_kernel_that_dies_is_an_error_that_names_the_notebook(tmp_path):
    path = write_notebook(tmp_path / "01.ipynb", "import os; os._exit(9)")
    with pytest.raises(FacekitError, match=r"01\.ipynb: its kernel died"):
        run_all.run_notebook(path, tmp_path / "copy.ipynb")


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "<<<<<<< HEAD\n{}", "[" * 100_000])
def test_a_file_that_is_no_notebook_is_an_error_that_names_it(tmp_path, text):
    path = tmp_path / "01.ipynb"
    path.write_text(text)
    with pytest.raises(FacekitError, match=r"01\.ipynb: not a notebook"):
        run_all.run_notebook(path, tmp_path / "copy.ipynb")


def test_ctrl_c_reaches_the_cell_and_ends_the_runner(tmp_path):
    cell = (
        "import os, signal, time\ntry:\n    os.kill(os.getppid(), signal.SIGINT)\n"
        "    time.sleep(60)\nexcept KeyboardInterrupt:\n    open('saved', 'w').close()\n    raise"
    )
    path = write_notebook(tmp_path / "01.ipynb", cell)
    with pytest.raises(KeyboardInterrupt):
        run_all.run_notebook(path, tmp_path / "copy.ipynb")
    assert (tmp_path / "saved").is_file()


def test_two_do_not_run_the_notebooks_at_once(tmp_path):
    write_notebook(tmp_path / "01.ipynb", "pass")
    out = tmp_path / "out"
    with only_one(out), pytest.raises(FacekitError, match="in use by"):
        run_all.run_all(tmp_path, out)
    assert not list(out.glob("*.ipynb"))


def test_the_runner_asks_for_notebooks_where_there_are_none(tmp_path):
    with pytest.raises(FacekitError, match="no notebook here"):
        run_all.run_all(tmp_path)


# --- the form of a lesson: what it asks, answers folded away, what stands on top and below

FOLDED = re.compile(
    r"^<details><summary>Answer</summary>\n\n(.+?)\n\n</details>$", re.MULTILINE | re.DOTALL
)
NOT_PROSE = re.compile(r"```.*?```|\$\$.*?\$\$|`[^`]*`|\*\*.*?\*\*", re.DOTALL)
ASKED = re.compile(r"\*[^*\n][^*]*\?\*")
MARKDOWN_LINK = re.compile(r"\[[^\]]+\]\(https://[^)\s]+\)")


def words(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "markdown"]


def items(text: str) -> list[str]:
    """The entries of a Markdown list, each on one line."""
    return [" ".join(item.split()) for item in re.split(r"^- ", text, flags=re.MULTILINE)[1:]]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=identity)
class TestTheForm:
    def test_on_top_stands_what_it_teaches_needs_takes_and_earns(self, path):
        top = words(path)[0]
        parts = ["**You will be able to**", "**Before this:** ", "**Minutes:** ", "**Points:** "]
        places = [top.index(part) for part in parts]
        assert places == sorted(places)
        assert 3 <= len(items(top[: places[1]])) <= 5
        assert re.search(r"^\*\*Minutes:\*\* \d+ without a GPU.*\d+ with one", top, re.MULTILINE)
        exercises = sum(text.startswith("### Exercise ") for text in words(path))
        assert re.search(r"^\*\*Points:\*\* (\d+)", top, re.MULTILINE)[1] == str(exercises)

    def test_below_stand_five_lines_the_terms_and_three_things_to_read(self, path):
        summary, _, rest = words(path)[-1].partition("\n## Terms\n")
        terms, _, reading = rest.partition("\n## To read\n")
        assert summary.startswith("## Summary\n")
        assert len(items(summary)) == 5
        assert 4 <= len(items(terms)) <= 8
        assert all(item.startswith("**") for item in items(terms))
        assert len(items(reading)) == 3
        for item in items(reading):
            assert re.search(r"\((19|20)\d\d\), ", item), item
            assert MARKDOWN_LINK.search(item), item

    def test_every_question_has_a_folded_answer(self, path):
        sections = [part for text in words(path) for part in re.split(r"\n(?=## )", text)]
        asking = [
            part for part in sections if ASKED.search(NOT_PROSE.sub("", FOLDED.sub("", part)))
        ]
        assert len(asking) >= 15
        for text in asking:
            assert len(FOLDED.findall(text)) == 1, text

    def test_no_fold_is_left_open_or_empty(self, path):
        for text in words(path):
            folded = FOLDED.findall(text)
            assert text.count("<details>") == text.count("</details>") == len(folded), text
            assert all(answer.strip() and "<" not in answer[:1] for answer in folded)
