"""The files around the package agree with each other and with what the README promises."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from facekit import cli
from facekit.sources.profiles import PROFILES
from facekit.training import recipe

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
MODULES = sorted((REPOSITORY / "facekit").rglob("*.py"))
README = (REPOSITORY / "README.md").read_text()
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
    for requirement in requirements():
        name = re.match(r"[\w-]+", requirement)[0]
        wanted.add(requirement.replace(name, CONDA_NAMES.get(name, name), 1))
    assert conda == wanted
    assert {"pip": ["--editable ."]} in entries


def test_every_requirement_has_a_lower_bound_and_a_reason():
    text = (REPOSITORY / "pyproject.toml").read_text()
    for requirement in requirements():
        assert ">=" in requirement
        assert re.search(rf'"{re.escape(requirement)}",\s+# \w', text), requirement


@pytest.mark.parametrize("target", ["course", "lab", "test", "bench"])
def test_make_has_the_targets_of_the_readme(target):
    command = ["make", "--dry-run", target]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"make {target}" in README


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


def test_the_readme_names_every_command():
    for command in cli.app.registered_commands:
        name = command.name or command.callback.__name__
        assert f"facekit {name}" in README, name


def test_there_is_a_recipe_for_every_profile():
    assert set(recipe.names()) >= set(PROFILES)


def functions(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_functions_fit_on_a_screen_and_modules_say_what_they_are_for(path):
    assert ast.get_docstring(ast.parse(path.read_text()))
    for function in functions(path):
        assert function.end_lineno - function.lineno < 40, function.name


def test_the_package_imports_without_the_notebooks_packages():
    code = (
        "import sys\n"
        "for name in ('ipywidgets', 'nbclient', 'nbformat', 'IPython'):\n"
        "    sys.modules[name] = None\n"
        "import facekit.cli\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)
