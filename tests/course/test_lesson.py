"""The places that the notebooks share, and the reader's own network on its way between them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from facekit.common import own, refusal
from facekit.common.lock import only_one
from facekit.course import lesson
from facekit.data.layout import CourseData
from facekit.submission import pipeline

CONV = """
from torch import nn

def conv(channels, out):
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride=4), nn.BatchNorm2d(out), nn.ReLU())
"""
NET = """
class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.blocks = nn.Sequential(conv(3, 8), conv(8, WIDTH))
        self.classifier = nn.Linear(WIDTH, num_classes)

    def embed(self, x):
        return self.blocks(x).mean((2, 3))

    def forward(self, x):
        return self.classifier(self.embed(x))
"""
KEEP = "lesson.keep_network(Net, course)"

# A notebook's kernel: it runs the cells in turn, and an error ends it.
KERNEL = """
import json, sys
from IPython.terminal.interactiveshell import TerminalInteractiveShell

shell = TerminalInteractiveShell.instance()
for cell in json.loads(sys.stdin.read()):
    shell.run_cell(cell).raise_error()
"""


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A workspace of its own."""
    folder = tmp_path / "my course"
    folder.mkdir()
    monkeypatch.setenv("FACEKIT_HOME", str(folder))
    monkeypatch.setenv("FACEKIT_PROFILE", "smoke")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setattr(own, "OBJECTS", {})
    return folder


@pytest.fixture
def run_cells(home: Path, course: CourseData) -> Callable:
    """Run notebook cells, which have `course` and `lesson`; the finished process."""
    first = f"""
from facekit.course import lesson
from facekit.data.layout import CourseData
course = CourseData({str(course.root)!r})
"""

    def run(*cells: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", KERNEL],
            input=json.dumps([first, *cells]),
            cwd=home,
            env=dict(os.environ),
            capture_output=True,
            text=True,
        )

    return run


def test_the_place_of_a_demonstration_is_empty_and_nothing_else_is_touched(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEKIT_RUNS", str(tmp_path))
    for name in ("killed", "course"):
        (tmp_path / name / "a").mkdir(parents=True)
    place = lesson.fresh_run("killed")
    assert place.parent == lesson.course_run().parent
    assert [path.name for path in tmp_path.iterdir()] == ["course"]
    assert (tmp_path / "course" / "a").is_dir()
    assert lesson.fresh_run("killed") == place, "there is nothing to remove"
    with only_one(place):  # a training
        assert "is in use by" in refusal(lesson.fresh_run, "killed")
        assert place.is_dir()


def test_a_network_of_several_cells_is_kept_trained_and_handed_in(home, run_cells, course):
    done = run_cells(CONV, "WIDTH = 16", f"{NET}\n%pwd", KEEP)
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(lesson.network_file()) in done.stdout
    assert lesson.network_file().parent == home.resolve()
    assert [path.name for path in home.glob("*.py")] == ["mine.py"]
    # Another notebook, that is, another process: here.
    run = lesson.trained_own_run(course)
    assert run.folder == lesson.own_run()
    assert run.net.dim == 16
    assert run.net.embeds_by == "embed"
    paths = pipeline.write_submissions(run, course)
    assert [path.parent for path in paths.values()] == [run.folder] * 2
    assert set(pipeline.scores(paths, course)) == set(paths)


def test_a_text_that_was_there_before_is_moved_and_none_is_lost(home, run_cells):
    file = lesson.network_file()
    file.write_text("# changed by hand\n")
    wider = NET.replace("WIDTH", "32")
    done = run_cells(CONV, NET.replace("WIDTH", "16"), KEEP, KEEP, wider, KEEP)
    assert done.returncode == 0, done.stdout + done.stderr
    names = sorted(path.name for path in home.glob("*.py"))
    assert names == ["mine.py", "mine_1.py", "mine_2.py"], "the same text again changes nothing"
    assert (home / "mine_1.py").read_text() == "# changed by hand\n"
    assert "conv(8, 16)" in (home / "mine_2.py").read_text()
    assert "conv(8, 32)" in file.read_text()
    assert str(home / "mine_1.py") in done.stdout


# What cannot be kept: the cells before the call, and what it says.
REFUSED = {
    "call it Net": ["class Other(nn.Module): pass\nNet = Other"],
    "does not begin with %%": ["%%time\n" + NET],
    "name 'WIDTHS' is not defined": [
        "WIDTHS = {'last': WIDTH}.values()",  # a file cannot hold such a value
        NET.replace("WIDTH", "max(WIDTHS)"),
    ],
    "they must be (2, 6)": [NET.replace("WIDTH, num_classes)", "WIDTH, 3)")],
}


def test_what_cannot_be_kept_is_refused_and_the_file_stays(home, run_cells):
    file = lesson.network_file()
    file.write_text("# changed by hand\n")
    cells = [CONV, "WIDTH = 16", "from facekit.common import refusal"]
    for before in REFUSED.values():
        cells += [*before, "print(refusal(lesson.keep_network, Net, course))"]
    done = run_cells(*cells)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in REFUSED:
        assert words in done.stdout
    assert file.read_text() == "# changed by hand\n"
    assert not (home / "mine_1.py").exists()


def test_without_a_network_of_ones_own_there_is_one_to_begin_with(home, course, capsys):
    assert lesson.own_network() == f"{lesson.network_file()}:Net"
    assert "to begin with" in capsys.readouterr().out
    lesson.own_network()
    assert capsys.readouterr().out == "", "the second time it is there"
    own.from_file(lesson.network_file(), "Net")


def test_another_source_has_another_run_and_another_layout_has_not(home):
    lesson.own_network()
    file, first = lesson.network_file(), lesson.own_run()
    text = file.read_text()
    file.write_text(text.replace("class Net", "# a comment\n\n\nclass Net"))
    assert lesson.own_run() == first
    file.write_text(text.replace("Dropout(0.2)", "Dropout(0.3)"))
    assert lesson.own_run() != first
    file.write_text(text)
    assert lesson.own_run() == first


def test_a_file_without_the_class_is_refused_by_name(home):
    lesson.network_file().write_text("class Other: pass\n")
    assert "defines no 'Net'; it has: Other" in refusal(lesson.own_run)


def test_four_epochs_of_the_courses_recipe(course):
    few, whole = lesson.few_epochs(course), lesson.load_recipe(lesson.course_recipe(course))
    assert few.epochs == 4 < whole.epochs
    assert (few.network, few.image_size, few.lr) == (whole.network, whole.image_size, whole.lr)
