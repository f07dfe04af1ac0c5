"""Every notebook in JupyterLab, as a reader meets it: run, and each control moved by keyboard.

Where there is no browser these tests are skipped, unless FACEKIT_BROWSER=required. Pictures of
the notebooks go to the folder that FACEKIT_SCREENSHOTS names, if it does.
"""

import os
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import browser
import nbformat
import pytest

REPOSITORY = Path(__file__).parents[1]
NOTEBOOKS = sorted((REPOSITORY / "notebooks/solutions").glob("[0-9]*.ipynb"))
WITHOUT_CONTROLS = ("08",)
# A notebook shows these pictures where there is a network, and does without where there is none.
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["facekit"]
BADGES = [host["badge"] for host in PROJECT["badges"].values()]


@pytest.fixture(scope="module")
def context() -> Iterator[browser.BrowserContext]:
    path = browser.find()
    if path is None and os.environ.get("FACEKIT_BROWSER") != "required":
        pytest.skip("no browser here; with Chromium or Chrome on the PATH the notebooks are tried")
    assert path, f"FACEKIT_BROWSER=required, and on the PATH is none of {browser.NAMES}"
    with browser.open_browser(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def lab(context, tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Lab]:
    """JupyterLab on a copy of the notebooks; they share a workspace, and so its trained runs."""
    place = tmp_path_factory.mktemp("lab")
    folder = place / "my course kit"
    folder.mkdir()
    for path in NOTEBOOKS:
        shutil.copy(path, folder)
    (place / "state").mkdir()
    settings = {"FACEKIT_PROFILE": "smoke", "FACEKIT_HOME": str(place / "work space")}
    with browser.serve(folder, place / "state", **settings) as served:
        yield served


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return Path(os.environ.get("FACEKIT_SCREENSHOTS") or tmp_path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_jupyterlab_and_each_control_answers(context, lab, pictures, path):
    seen = browser.visit(context, lab, path.name, pictures / f"{path.stem}.jpg", known=BADGES)
    print(f"{path.stem}: {', '.join(seen.answered)}")
    assert seen == browser.Visit(answered=seen.answered)
    assert seen.answered or path.name.startswith(WITHOUT_CONTROLS)
    assert (pictures / f"{path.stem}.jpg").stat().st_size > 10_000
