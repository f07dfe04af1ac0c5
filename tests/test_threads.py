"""Threads that wait spin for a moment and then sleep, where nobody has chosen otherwise."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import facekit

CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
SHOW = f"""
import os, sys
print(*[os.environ.get(name) for name in {CHOICES}], 'torch' in sys.modules)
"""
OURS = "None 10000 1"


def run(code: str, *arguments: object, **chosen: str) -> subprocess.CompletedProcess:
    """Python code in a process where only `chosen` is chosen about threads that wait."""
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment | chosen, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_it_is_chosen_before_torch_is_loaded():
    assert run(f"import facekit{SHOW}").stdout == f"{OURS} False\n"


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_of_ones_own_is_kept(name):
    expected = " ".join("7" if choice == name else "None" for choice in CHOICES)
    assert run(f"import facekit{SHOW}", **{name: "7"}).stdout == f"{expected} False\n"


def test_after_torch_it_would_be_too_late():
    said = run(f"import sys; sys.modules['torch'] = None; import facekit{SHOW}").stdout
    assert said == "None None None True\n"


CHILDREN = """
import sys
from pathlib import Path
from facekit.course import run_all as course
from facekit.training import process
from facekit.data.layout import CourseData

folder = Path(sys.argv[1])
course.run_notebook(folder / "01.ipynb", folder / "copy.ipynb")
process.start_process("no such recipe", CourseData(sys.argv[2]), folder / "run").wait()
"""
NOTE = """
import atexit, os, sys
if "facekit" in sys.orig_argv:
    atexit.register(lambda: open(os.environ["NOTES"], "w").write(os.environ["GOMP_SPINCOUNT"]))
"""


def test_torch_heeds_it_and_kernels_and_trainings_get_it_too(course, tmp_path):
    """The kernel shows what it began with; the training, what it ended with."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SHOW)])
    nbformat.write(notebook, tmp_path / "01.ipynb")
    (tmp_path / "sitecustomize.py").write_text(NOTE)
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    settings = {"PYTHONPATH": paths, "NOTES": str(tmp_path / "noted"), "OMP_DISPLAY_ENV": "verbose"}
    said = run(CHILDREN, tmp_path, course.root, **settings).stderr
    if sys.platform == "linux":  # GNU's OpenMP
        assert "GOMP_SPINCOUNT = '10000'" in said
    (cell,) = nbformat.read(tmp_path / "copy.ipynb", as_version=4).cells
    assert cell.outputs[0].text == f"{OURS} False\n"
    assert (tmp_path / "noted").read_text() == "10000"


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
def test_whatever_make_starts_gets_it_too():
    """Such as a kernel of `make lab` whose first line loads torch."""
    told = " ".join(f"$${name}" for name in CHOICES)
    show = ["make", "--eval", f"show: ; @echo waits {told}", "show"]
    root = Path(facekit.__file__).parents[1]
    for chosen, expected in ({}, "10000 1"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"):
        plain = {name: value for name, value in os.environ.items() if name not in CHOICES}
        said = subprocess.run(show, cwd=root, env=plain | chosen, capture_output=True, text=True)
        assert f"waits {expected}\n" in said.stdout, said.stderr


def test_a_process_of_torchrun_chooses_it_before_torch():
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
    plain = {name: value for name, value in os.environ.items() if name not in CHOICES}
    command = [*torchrun, "-m", "facekit", "doctor"]
    settings = {"OMP_DISPLAY_ENV": "verbose", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=plain | settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if sys.platform == "linux":
        assert "GOMP_SPINCOUNT = '10000'" in done.stderr
