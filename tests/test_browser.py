"""Every notebook in JupyterLab, as a reader meets it: run, and each control moved by keyboard.

Where there is no browser these tests are skipped, unless FACEKIT_BROWSER=required. Pictures of
the notebooks go to the folder that FACEKIT_SCREENSHOTS names, if it does.
"""

import os
import shutil
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import browser
import nbformat
import pytest

REPOSITORY = Path(__file__).parents[1]
NOTEBOOKS = sorted((REPOSITORY / "notebooks/solutions").glob("[0-9]*.ipynb"))
WITHOUT_CONTROLS = ("08", "09")
# A notebook shows these pictures where there is a network, and does without where there is none.
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["facekit"]
BADGES = [host["badge"] for host in PROJECT["badges"].values()]


def browser_here() -> str:
    """The browser to use; without one, or in a page without sliders, the test ends here."""
    if version("ipywidgets").startswith("7."):
        pytest.skip("JupyterLab 4 shows no widget of ipywidgets 7; Colab has a page of its own")
    return browser.here()


@pytest.fixture(scope="module")
def context() -> Iterator[browser.BrowserContext]:
    with browser.open_browser(browser_here()) as opened:
        yield opened


@pytest.fixture(scope="module")
def lab(context, tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Lab]:
    """JupyterLab on a copy of the notebooks; they share a workspace, and so its trained runs."""
    place = tmp_path_factory.mktemp("lab")
    folder = place / "my course kit"
    folder.mkdir()
    for path in NOTEBOOKS:
        shutil.copy(path, folder)
    shutil.copytree(REPOSITORY / "facekit", place / "facekit")  # above them, as in a clone
    (place / "state").mkdir()
    settings = {"FACEKIT_PROFILE": "smoke", "FACEKIT_HOME": str(place / "work space")}
    with browser.serve(folder, place / "state", **settings) as served:
        yield served


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return Path(os.environ.get("FACEKIT_SCREENSHOTS") or tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_jupyterlab_and_each_control_answers(context, lab, pictures, path):
    seen = browser.visit(context, lab, path.name, pictures / f"{path.stem}.jpg", known=BADGES)
    print(f"{path.stem}: {', '.join(seen.answered)}")
    assert seen == browser.Visit(answered=seen.answered)
    assert seen.answered or path.name.startswith(WITHOUT_CONTROLS)
    assert (pictures / f"{path.stem}.jpg").stat().st_size > 10_000


OUTSIDE = "http://elsewhere.example/picture.png"
FAULTS = [
    # The error is nowhere on the page: what is raised has no Output to go to.
    """import ipywidgets as widgets
slider = widgets.IntSlider(description="raises")
def refuse(change):
    raise ValueError("learned nothing")
slider.observe(refuse, "value")
slider""",
    """@widgets.interact(x=widgets.IntSlider(description="deaf"))
def show(x):
    print("always the same")""",
    # Counts for the last choice only; its text comes a little after the slider was moved.
    """import time
def show(far, how):
    time.sleep(0.2)
    print(far if how == "by the slider" else 0)
how = widgets.Dropdown(options=["not at all", "nor so", "by the slider"], description="how")
widgets.interact(show, far=widgets.FloatSlider(description="seldom"), how=how);""",
    f"""from IPython.display import HTML
HTML("<img src='{OUTSIDE}'><img src=x onerror='console.error(`lost`)'>")""",
    """from urllib.request import urlopen
try:
    urlopen("http://elsewhere.example")
except OSError as error:
    assert "refused" in str(error), error  # by the proxy that leads nowhere
1 / 0""",
    "raise KeyError('cells after an error are not run')",
]


def write_notebook(path: Path, *cells: str) -> None:
    """One that JupyterLab opens without asking for a kernel."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    book = nbformat.v4.new_notebook(metadata=kernel)
    book.cells = [nbformat.v4.new_code_cell(code) for code in cells]
    nbformat.write(book, path)


@pytest.mark.long
def test_what_is_wrong_with_a_notebook_is_seen(context, lab, tmp_path):
    write_notebook(lab.folder / "faults.ipynb", *FAULTS)
    seen = browser.visit(context, lab, "faults.ipynb", tmp_path / "faults.jpg")
    assert {error.split(":")[0] for error in seen.errors} == {"ValueError", "ZeroDivisionError"}
    assert seen.silent == ["slider raises", "slider deaf"]
    assert seen.answered == ["slider seldom", "selector how"]
    assert set(seen.outside) == {OUTSIDE}
    assert any(said.startswith("lost") for said in seen.console)
    assert any(OUTSIDE in said for said in seen.console)


@pytest.mark.long
def test_a_known_address_outside_may_be_asked_for(context, lab, tmp_path):
    code = f"""from IPython.display import HTML\nHTML("<img src='{OUTSIDE}'>")"""
    write_notebook(lab.folder / "badge.ipynb", code)
    seen = browser.visit(context, lab, "badge.ipynb", tmp_path / "badge.jpg", known=[OUTSIDE])
    assert seen == browser.Visit()


def test_with_widgets_that_jupyterlab_cannot_show_the_tests_are_skipped(monkeypatch):
    monkeypatch.setitem(globals(), "version", lambda _: "7.7.1")
    with pytest.raises(pytest.skip.Exception, match="ipywidgets 7"):
        browser_here()


def test_without_a_browser_the_tests_are_skipped_unless_it_is_required(monkeypatch):
    monkeypatch.setitem(globals(), "version", lambda _: "8.1")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("FACEKIT_BROWSER", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no browser here"):
        browser_here()
    monkeypatch.setenv("FACEKIT_BROWSER", "required")
    with pytest.raises(AssertionError, match="FACEKIT_BROWSER=required"):
        browser_here()
