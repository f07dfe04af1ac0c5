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
