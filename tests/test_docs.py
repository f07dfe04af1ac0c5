"""What the pages for people promise: links lead somewhere, commands run, the release is whole."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
import yaml

from facekit.course import exercises
from facekit.data import layout
from facekit.data.layout import CourseData, Term
from facekit.sources import set_up
from facekit.sources.profiles import Profile

REPOSITORY = Path(__file__).parents[1]
PAGE = (REPOSITORY / "docs" / "instructors.md").read_text()
ABOUT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["facekit"]
TRAINING = re.compile(r"^facekit train .*", re.M)
SHORT = "--set epochs=1"  # to see that it starts and ends
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
ANCHOR = re.compile(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)")
CODE = re.compile(r"^```\w*\n(.*?)^```|`([^`\n]+)`", re.M | re.S)
# In a line of code: facekit, a command, and what follows up to the next one or a comment.
FACEKIT = re.compile(r"(?:^|&& |-m |; )facekit ([a-z-]+)([^\n#&]*)", re.M)
PAGES = ("data", "instructors", "networks", "recipes", "recognition", "reliability", "results")
PAGES += ("training",)


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)


def tracked() -> list[str]:
    """Every file of the repository that git knows or would take."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    names = filter(None, listed.stdout.split("\0"))
    return sorted(name for name in names if (REPOSITORY / name).is_file())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the repository, as somebody has cloned it."""
    folder = tmp_path_factory.mktemp("clone") / "facekit"
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    for words in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def shell(script: str, folder: Path) -> str:
    """Run a script as its reader would, with the environment active."""
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(folder),
        "FACEKIT_PROFILE": "smoke",
    }
    command = ["sh", "-euc", script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def hand_in(answers: Path, folder: Path) -> None:
    """Two submissions of a student who has every fourth row wrong."""
    folder.mkdir(parents=True)
    for task, wrong in {"classification": "0", "verification": "n000000"}.items():
        header, *rows = (answers / f"{task}_test.csv").read_text().split()
        rows = [f"{r.split(',')[0]},{wrong}" if n % 4 == 0 else r for n, r in enumerate(rows)]
        (folder / f"{task}.csv").write_text("\n".join([header, *rows]) + "\n")


# --- the page for instructors


@pytest.mark.long
def test_every_command_for_instructors_runs_in_the_order_of_the_page(checkout, trained):
    shutil.copytree(trained, checkout / "runs" / "mine")
    said = {}
    for script in fenced("sh"):
        if "handed-in/" in script:
            hand_in(checkout / "term" / "answers", checkout / "handed-in" / "ann")
        said[script] = shell(TRAINING.sub(rf"\g<0> {SHORT}", script), checkout)
    graded = next(text for script, text in said.items() if "handed-in/" in script).splitlines()
    assert [line.split(":")[0] for line in graded] == [
        f"handed-in/ann/{task}.csv" for task in ("classification", "verification")
    ]
    right = re.compile(r" [78]\d\.\d\d% -> .* \(.*; profile smoke's ")  # three quarters and by luck
    assert all(right.search(line) for line in graded), graded
    assert "mine" in next(text for script, text in said.items() if "--all" in script)
    assert "1 hand-ins" in next(text for script, text in said.items() if "facekit grade " in script)
    assert "2 submissions, 0 not" in next(t for s, t in said.items() if "facekit board" in s)
    data = CourseData(checkout / "data")
    assert data.answers is None and len(data.classes) == 16
    assert not (checkout / "data" / "manifest.json").exists()
    assert data.train.paths[0].read_bytes() == (
        CourseData(checkout / "term").train.paths[0].read_bytes()
    )


def code_of(page: str) -> str:
    """All code of a page, in its blocks and in its sentences."""
    text = (REPOSITORY / "docs" / f"{page}.md").read_text()
    return "\n".join(block or words for block, words in CODE.findall(text))


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_exist_and_have_the_options_that_are_named(page, run_cli):
    for command, rest in FACEKIT.findall(code_of(page)):
        outcome = run_cli(*("faces", "sheet") if command == "faces" else [command], "--help")
        assert outcome.status == 0, command
        for option in re.findall(r"--[\w-]+", rest):
            assert option in outcome.stdout, f"facekit {command}{rest}"


@pytest.mark.parametrize("page", PAGES)
def test_scripts_of_a_page_exist_and_know_the_options_that_are_named(page):
    for script, rest in re.findall(
        r"python ((?:benchmarks|notebooks)/\w+\.py)([^#\n]*)", code_of(page)
    ):
        code = (REPOSITORY / script).read_text()
        if script == "benchmarks/faces.py":  # its commands are in the files beside it
            parts = sorted((REPOSITORY / "benchmarks").glob("faces_*.py"))
            code += "".join(path.read_text() for path in parts)
        for option in re.findall(r"--([\w-]+)", rest):
            assert option.replace("-", "_") in code or option in code, f"{script}{rest}"


def test_the_settings_that_are_shown_are_those_of_pyproject():
    (shown,) = fenced("toml")
    assert shown in (REPOSITORY / "pyproject.toml").read_text()


def test_the_term_that_is_shown_can_be_made_and_read(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "TERMS", terms := dict(layout.TERMS))
    (example,) = [code for code in fenced("python") if "TERMS" in code]
    exec(example, {"TERMS": terms, "Term": Term})
    profile = Profile("dot", 2, 2, 1, 1, known=2, unknown_dev=9, unknown_test=9, pixels=16)
    data = set_up("synthetic", profile, tmp_path / "data", term="X25", progress=False)
    assert data.classification.name == "x25-faces" and data.classification.is_dir()
    assert data.test.names[0] == "00000.jpg"
    assert layout.find_term(tmp_path / "data") == "X25"
    keywords = {keyword.arg for keyword in ast.parse(example).body[0].value.keywords}
    assert keywords == set(Term.__dataclass_fields__)


def test_the_exercise_that_is_shown_checks_itself(tmp_path, monkeypatch, load_build):
    source, reference = [code for code in fenced("python") if "same_padding" in code]
    monkeypatch.setattr(exercises, "_known", dict(exercises._known))
    exec(reference, {"add_exercise": exercises.add_exercise})
    exercise = exercises._known["same_padding"]
    assert exercise.judge(lambda window: window // 2).state == "right"
    assert "both sides" in exercise.judge(lambda window: window - 1).words
    assert all(len(case) == 1 for case in exercise.cases())

    build = load_build()
    path = tmp_path / "03_model_building.py"
    path.write_text("# %% [markdown]\n# # 03\n\n" + source)
    texts = {form: build.text_of(build.build(path, form)) for form in build.FORMS}
    assert "window // 2" in texts["solutions"]
    assert "window // 2" not in texts["lesson"]
    assert "# your code" in texts["lesson"] and "### Exercise 3.1: padding" in texts["lesson"]
    notebook = json.loads(texts["lesson"])
    (cell,) = ["".join(c["source"]) for c in notebook["cells"] if "same_padding(" in str(c)]
    stub = {"check": exercises}
    exec(cell.replace("exercises.exercise", "known = lambda *_: None; known"), stub)
    assert exercise.judge(stub["same_padding"]).state == "not begun"


# --- links, here and in the release


@pytest.fixture(scope="module")
def release(checkout, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("release") / "students"
    shell(f"python notebooks/build.py --release '{folder}'", checkout)
    return folder


def text_of(path: Path) -> str:
    if path.suffix != ".ipynb":
        return path.read_text()
    cells = nbformat.read(path, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def test_links_lead_to_files_that_exist(release):
    pages = [REPOSITORY / name for name in tracked() if name.endswith((".md", ".ipynb"))]
    pages += [p for p in release.rglob("*") if p.suffix in (".md", ".ipynb")]
    followed = 0
    for page in pages:
        for target in LINK.findall(text_of(page)):
            assert (page.parent / target).exists(), f"{page}: {target}"
            followed += 1
    assert followed > 100


def slugs(page: Path) -> set[str]:
    """The anchors that a page's headings have on GitHub."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S), re.M
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_into_a_page_lead_to_a_heading_of_it(release):
    pages = [REPOSITORY / name for name in tracked() if name.endswith(".md")]
    pages += release.rglob("*.md")
    followed = 0
    for page in pages:
        for target, anchor in ANCHOR.findall(text_of(page)):
            assert anchor in slugs(page.parent / target if target else page), f"{page}: {anchor}"
            followed += 1
    assert followed > 10


def test_the_release_holds_what_students_need_and_no_more(release):
    names = {p.relative_to(release).as_posix() for p in release.rglob("*") if p.is_file()}
    for stem in (path.stem for path in (REPOSITORY / "notebooks" / "source").glob("[0-9]*.py")):
        assert f"notebooks/{stem}.ipynb" in names
    assert {"data_setup.sh", "README.md", "LICENSE", "pyproject.toml", "Makefile"} <= names
    assert "CONTRIBUTING.md" not in names
    package = {name for name in tracked() if name.startswith("facekit/")}
    assert package <= names
    theirs = ("facekit/", "notebooks/", "benchmarks/", "pictures/", "docs/")
    assert not [name for name in names if "/" in name and not name.startswith(theirs)]
    folders = {Path(name).parent.as_posix() for name in names if name.startswith("notebooks/")}
    assert folders == {"notebooks"}
    assert os.access(release / "data_setup.sh", os.X_OK)


def test_the_release_holds_no_solution(release, load_build):
    build, solutions = load_build(), []
    for path in build.sources():
        solutions += [found[1] for found in build.SOLUTION.findall(path.read_text())]
    assert solutions
    for path in release.rglob("*.ipynb"):
        text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        assert "BEGIN SOLUTION" not in text
        for solution in solutions:
            assert solution.strip() not in text, path
    readme = (release / "README.md").read_text()
    assert "instructors" not in readme and "CONTRIBUTING" not in readme
    assert not re.search(r"^(make test|pytest|tests/)", readme, re.M)
    assert "## Homework rules" in readme and "make course" in readme


def test_the_release_sets_its_data_up_by_itself(release):
    assert "16 classes" in shell("./data_setup.sh --profile smoke --out data", release)
    assert CourseData(release / "data").answers


@pytest.mark.parametrize("content", [b"", b'{"cells": [', b"\xff\xfe", b"[]", b"{}"])
def test_a_lesson_that_is_damaged_is_built_anew(content, load_build, tmp_path, monkeypatch):
    build = load_build()
    source, path = build.sources()[0], tmp_path / "lesson.ipynb"
    path.write_bytes(content)
    monkeypatch.setattr(build, "place", lambda source, form: path)
    assert build.wanted(source, "lesson") == build.build(source, "lesson")


def test_a_release_into_a_full_folder_is_refused(checkout, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    command = [sys.executable, "notebooks/build.py", "--release", str(tmp_path)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert done.returncode and "is not empty" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


# --- addresses and badges

ADDRESSES = {
    "Colab": "https://colab.research.google.com/github/{slug}/blob/{branch}/{place}",
    "Kaggle": "https://kaggle.com/kernels/welcome"
    "?src=https://github.com/{slug}/blob/{branch}/{place}",
    "Binder": "https://mybinder.org/v2/gh/{slug}/{branch}?urlpath=lab/tree/{place}",
}


@pytest.mark.parametrize("form", ["lesson", "solutions"])
def test_every_badge_opens_its_own_notebook(form: str, load_build: Callable, monkeypatch):
    build = load_build()
    about = ABOUT | {"slug": "ann/our-faces"}
    monkeypatch.setattr(build, "settings", lambda: about)
    for source in build.sources():
        notebook = build.place(source, form)
        place = notebook.relative_to(REPOSITORY).as_posix()
        cell = build.build(source, form).cells[1].source
        badges = re.findall(r"\[!\[(\w+)\]\((\S+?)\)\]\((\S+?)\)", cell)
        assert {host: address for host, _, address in badges} == {
            host: address.format(slug=about["slug"], branch=ABOUT["branch"], place=place)
            for host, address in ADDRESSES.items()
        }
        assert notebook.is_file() and place in tracked()
        assert all(re.fullmatch(r"https://\S+\.svg", picture) for _, picture, _ in badges)


@pytest.mark.parametrize("form", ["lesson", "solutions"])
def test_without_an_address_there_are_words_and_no_badges(form: str, load_build, monkeypatch):
    build = load_build()
    about = ABOUT | {"slug": f"{build.NOBODY}/facekit"}
    monkeypatch.setattr(build, "settings", lambda: about)
    words = build.badges("01_data_exploration", form).splitlines()[0]
    assert "https://" not in words and build.NOBODY not in words
    assert words.startswith("Colab, Kaggle, Binder: this copy does not say yet where it lives")
    assert "`python notebooks/build.py`" in words


def test_nobody_can_register_the_address_that_is_not_filled_in(load_build):
    """GitHub's names: letters and digits, single hyphens between them, 39 at most."""
    account = re.compile(r"[a-z\d](?:-?[a-z\d]){0,38}", re.I)
    assert account.fullmatch("ann-1")
    assert not account.fullmatch(load_build().NOBODY)


def test_the_repository_and_its_slug_are_one_address():
    assert ABOUT["repository"] == f"https://github.com/{ABOUT['slug']}"


def test_nothing_else_names_the_address():
    made = re.compile(r"notebooks/(solutions/)?\d\d_\w+\.ipynb|pyproject.toml")
    shown = {"README.md": 1, "docs/instructors.md": 2}  # which builds and tests keep in step
    for name in tracked():
        if made.fullmatch(name) or Path(name).suffix in (".jpg", ".png"):
            continue
        text = (REPOSITORY / name).read_text(errors="ignore")
        assert text.count(ABOUT["slug"]) == shown.get(name, 0), name


def test_another_address_reaches_badges_first_cells_and_readme(checkout, tmp_path):
    folder = shutil.copytree(checkout, tmp_path / "mine", ignore=shutil.ignore_patterns(".git"))
    settings = folder / "pyproject.toml"
    settings.write_text(settings.read_text().replace(ABOUT["slug"], "ann/our-faces"))
    shell("python notebooks/build.py", folder)
    assert (
        "git clone https://github.com/ann/our-faces facekit" in (folder / "README.md").read_text()
    )
    for path in (folder / "notebooks").rglob("*.ipynb"):
        text = path.read_text()
        assert ABOUT["slug"] not in text and text.count("ann/our-faces") == 4, path
        assert "does not say yet" not in text
    done = subprocess.run(
        [sys.executable, "notebooks/build.py", "--check"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert "another address" not in done.stderr
    settings.write_text(settings.read_text().replace("ann/our-faces", "bob/faces"))
    done = subprocess.run(done.args, cwd=folder, capture_output=True, text=True)
    assert "README.md: has another address than pyproject.toml" in done.stderr


def test_binder_finds_an_environment_that_installs_the_kit():
    assert not (REPOSITORY / "binder").exists() and not (REPOSITORY / ".binder").exists()
    found = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    assert found["name"] == "facekit" and found["channels"] == ["conda-forge"]
    assert {"pip": ["--editable .[align]"]} in found["dependencies"]
    names = {
        re.match(r"[\w-]+", entry)[0]
        for entry in found["dependencies"]
        if entry != found["dependencies"][-1]
    }
    assert {"python", "pip", "jupyterlab", "ipywidgets"} <= names, "urlpath=lab/ needs JupyterLab"
