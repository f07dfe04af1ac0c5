"""What is installed in addition comes from the kit's own folder, not from PyPI's `facekit`."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import facekit
from facekit.common import kit

PROJECT = tomllib.loads((kit.KIT / "pyproject.toml").read_text())["project"]
STRANGER = re.compile(r"pip install (-\S+ )*['\"]?facekit\b(?![/-])")
NEEDS = re.compile(r"install_command\(['\"](\w+)['\"]\)")


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """Another folder of the kit, whose name a shell would take apart."""
    folder = tmp_path / "Ann's face kit"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(f'[project]\nname = "{facekit.DISTRIBUTION}"\n')
    monkeypatch.setattr(kit, "KIT", folder)
    return folder


def test_pip_knows_the_kit_by_a_name_of_its_own():
    assert PROJECT["name"] == facekit.DISTRIBUTION != "facekit"


def test_every_extra_that_the_package_advises_is_there():
    texts = [path.read_text() for path in (kit.KIT / "facekit").rglob("*.py")]
    advised = {extra for text in texts for extra in NEEDS.findall(text)}
    assert {"kaggle", "tracking"} < advised <= set(PROJECT["optional-dependencies"])


def test_the_command_is_of_this_python_and_of_the_kits_own_folder(clone):
    words = shlex.split(kit.install_command("kaggle"))
    assert words == [*pip(), "install", "--editable", f"{clone}[kaggle]"]


def pip() -> list[str]:
    return [sys.executable, "-m", "pip"]


def test_an_environment_without_pip_is_filled_by_uv(clone, monkeypatch):
    monkeypatch.setattr(kit.importlib.metadata, "distributions", lambda name: [])
    words = shlex.split(kit.install_command("kaggle"))
    python = ["--python", sys.executable]
    assert words == ["uv", "pip", "install", *python, "--editable", f"{clone}[kaggle]"]


def test_asking_for_the_command_leaves_torchs_compiler_alone():
    program = "from facekit.common import kit; kit.installer(); import setuptools"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_powershell_gets_its_own_quotation_marks(clone, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    command = kit.install_command("kaggle")
    assert command == f'python -m pip install --editable "{clone}[kaggle]"'


@pytest.mark.parametrize("settings", [None, '[project]\nname = "facekit"\n', "not TOML", "a = 1"])
def test_outside_a_clone_one_is_sent_to_the_kits_folder(clone, settings):
    (clone / "pyproject.toml").unlink()
    if settings is not None:
        (clone / "pyproject.toml").write_text(settings)
    told, command = kit.install_command("kaggle").split(": ", 1)
    assert told == "in the folder of the kit"
    assert shlex.split(command) == [*pip(), "install", ".[kaggle]"]


@pytest.mark.parametrize("place", ["README.md", "notebooks", "facekit", "docs", "benchmarks"])
def test_nobody_is_sent_to_the_stranger_of_that_name(place):
    path = kit.KIT / place
    pages = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    for page in pages:
        wrong = STRANGER.search(page.read_text(errors="ignore"))
        assert not wrong, f"{page}: {wrong[0]}"
