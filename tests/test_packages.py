"""Installed on top of what Colab and Kaggle ship, the kit leaves every package there as it is."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import facekit
from facekit.course import host

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
DEPENDENCIES = [Requirement(text) for text in PROJECT["dependencies"]]
PYTHONS = {"Colab": "3.13.15", "Kaggle": "3.12", "the oldest": "3.11"}


def shipped(name: str) -> dict[str, str]:
    """Package -> version of one of the lists beside this file."""
    text = (Path(__file__).parent / f"{name}_packages.txt").read_text()
    pinned = [line.split("==") for line in text.splitlines() if not line.startswith("#")]
    return {canonicalize_name(package): version for package, version in pinned}


COLAB = shipped("colab")
GPU = COLAB | {"torch": "2.11.0+cu128", "torchvision": "0.26.0+cu128"}


def write_stub(folder: Path, name: str, version: str) -> None:
    """An empty wheel of this name and version that asks for nothing."""
    stem = f"{name.replace('-', '_')}-{version}"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    kind = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{stem}.dist-info/METADATA", about)
        wheel.writestr(f"{stem}.dist-info/WHEEL", kind)
        wheel.writestr(f"{stem}.dist-info/RECORD", "")


class Machine:
    """A fresh environment that believes it has these packages."""

    def __init__(self, folder: Path, packages: dict[str, str]) -> None:
        venv.create(folder / "env", with_pip=True)
        self.python = folder / "env" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        (folder / "stubs").mkdir()
        for name, version in packages.items():
            write_stub(folder / "stubs", name, version)
        stubs = map(str, (folder / "stubs").glob("*.whl"))
        self.run(str(self.python), "-m", "pip", "install", "-q", "--no-index", *stubs)

    def run(self, *command: str) -> str:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def would_install(self, command: Iterable[str]) -> dict[str, str]:
        """What a pip command would bring, by its own report."""
        report = "--dry-run", "--report", "-", "--quiet"
        found = json.loads(self.run(str(self.python), *command, *report))["install"]
        names = [entry["metadata"] for entry in found]
        return {canonicalize_name(each["name"]): each["version"] for each in names}

    def packages(self) -> dict[str, str]:
        listed = json.loads(self.run(str(self.python), "-m", "pip", "list", "--format", "json"))
        return {canonicalize_name(each["name"]): each["version"] for each in listed}


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> str:
    """A copy of the kit to build from: a build leaves files in its folder."""
    folder = tmp_path_factory.mktemp("kit")
    shutil.copytree(REPOSITORY / "facekit", folder / "facekit")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)
    return str(folder)


@pytest.fixture(scope="module", params=[COLAB, GPU], ids=["CPU", "GPU"])
def colab(request, tmp_path_factory) -> Machine:
    return Machine(tmp_path_factory.mktemp("colab"), request.param)


@pytest.mark.long
def test_installing_the_kit_would_change_nothing_that_colab_ships(colab, kit):
    fetched = colab.would_install(["-m", "pip", "install", kit])
    assert facekit.DISTRIBUTION in fetched
    assert {"opencv-python-headless", "scikit-learn", "typer"} < set(fetched), "what is missing"
    assert not set(fetched) & set(COLAB)


@pytest.mark.long
def test_the_first_cell_would_bring_only_what_is_missing(colab):
    every = [str(each) for each in DEPENDENCIES if each.name in host.SMALL]
    fetched = colab.would_install(host.pip_command(every)[1:])
    assert set(fetched) == set(host.SMALL)


@pytest.mark.long
def test_installed_for_real_it_adds_itself_alone(tmp_path, kit):
    least = {each.name: next(iter(each.specifier)).version for each in DEPENDENCIES}
    machine = Machine(tmp_path, least | COLAB)
    before = machine.packages()
    machine.run(str(machine.python), "-m", "pip", "install", "--quiet", kit)
    after = machine.packages()
    assert after.pop(facekit.DISTRIBUTION) == facekit.__version__
    assert after == before


@pytest.mark.long
def test_an_editable_install_puts_the_kits_folder_on_the_path(tmp_path, kit):
    """A notebook's first cell looks there, because a stranger's `facekit` may come before it."""
    machine = Machine(tmp_path, {"facekit": "1.1.0"})
    machine.run(str(machine.python), "-m", "pip", "install", "-q", "--no-deps", "--editable", kit)
    paths = machine.run(str(machine.python), "-c", "import sys; print(*sys.path, sep='\\n')")
    assert kit in paths.splitlines()


@pytest.mark.long
def test_a_bound_above_what_is_shipped_would_be_noticed(tmp_path):
    machine = Machine(tmp_path, {"tqdm": "4.1"})
    bound = next(str(each) for each in DEPENDENCIES if each.name == "tqdm")
    assert set(machine.would_install(["-m", "pip", "install", bound])) == {"tqdm"}


@pytest.mark.parametrize("name", ["colab", "kaggle"])
def test_every_lower_bound_admits_what_is_shipped(name):
    extras = PROJECT["optional-dependencies"]
    asked = DEPENDENCIES + [Requirement(text) for group in extras.values() for text in group]
    packages, met = shipped(name), 0
    for requirement in asked:
        if requirement.name == "kaggle":
            continue  # who sends from there takes the extra's newer client; nothing imports it
        version = packages.get(canonicalize_name(requirement.name))
        met += version is not None
        assert version is None or version in requirement.specifier, requirement
    assert met == {"colab": 12, "kaggle": 1}[name]


@pytest.mark.parametrize("where", PYTHONS)
def test_the_pythons_of_the_hosts_are_admitted_named_and_tested(where):
    version = Version(PYTHONS[where])
    minor = f"{version.major}.{version.minor}"
    assert version in SpecifierSet(PROJECT["requires-python"])
    assert f"Programming Language :: Python :: {minor}" in PROJECT["classifiers"]
    jobs = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yml").read_text())["jobs"]
    assert minor in jobs["test"]["strategy"]["matrix"]["python"]


def test_every_module_is_written_in_the_oldest_pythons_grammar():
    oldest = tuple(map(int, re.findall(r"\d+", PROJECT["requires-python"])))
    for path in (REPOSITORY / "facekit").rglob("*.py"):
        ast.parse(path.read_text(), feature_version=oldest)
