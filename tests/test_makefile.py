"""What `make` installs, from where, and what it says first: with programs that only write down."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[1]
EDITABLE = "--editable .[notebooks,test]"
CPU = "--torch-backend cpu --python .venv/bin/python"
SAYS = """#!/bin/sh
[ "$1" != -c ] || exit 0  # asked which version it is
echo "$(basename "$0") $*" >>calls
case "$*" in
  "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  "venv "*) mkdir -p .venv/bin ;;
esac
"""
TOOLS = "make sh cat basename mkdir cp touch".split()
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the programs are shell scripts")


class Made(NamedTuple):
    """How a call of make ended, and the programs that it called."""

    status: int
    stdout: str
    stderr: str
    calls: list[str]


class Place:
    """A folder with the kit's Makefile, where `python` and perhaps `uv` only write down calls."""

    def __init__(self, folder: Path, uv: bool) -> None:
        self.folder, self.programs = folder / "face kit", folder / "programs"
        self.programs.mkdir()
        self.folder.mkdir()
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(REPOSITORY / name, self.folder)
        for name in TOOLS:
            (self.programs / name).symlink_to(shutil.which(name))
        for name in ["python", *(["uv"] if uv else [])]:
            (self.programs / name).write_text(SAYS)
            (self.programs / name).chmod(0o755)

    def make(self, *settings: str) -> Made:
        """Make the environment alone."""
        calls = self.folder / "calls"
        calls.write_text("")
        unset = ("TORCH", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
        environment = {name: text for name, text in os.environ.items() if name not in unset}
        done = subprocess.run(
            ["make", "PYTHON=python", ".venv/ready", *settings],
            cwd=self.folder,
            env=environment | {"PATH": str(self.programs)},
            capture_output=True,
            text=True,
        )
        return Made(done.returncode, done.stdout, done.stderr, calls.read_text().splitlines())

    def ask_for_another_package(self) -> None:
        """Let pyproject.toml be newer than the environment."""
        later = (self.folder / ".venv" / "ready").stat().st_mtime + 10
        os.utime(self.folder / "pyproject.toml", (later, later))


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path, uv=False)


def test_pip_installs_everything_in_one_call(place):
    made = place.make()
    assert made.status == 0, made
    assert made.calls == ["python -m venv .venv", f"python -m pip install {EDITABLE}"]


def test_without_cuda_pip_fetches_uv_which_knows_where_that_torch_is(place):
    made = place.make("TORCH=cpu")
    assert made.status == 0, made
    assert made.calls == [
        "python -m venv .venv",
        "python -m pip install uv>=0.7",
        f"python -m uv pip install {CPU} {EDITABLE}",
    ]


@pytest.mark.parametrize("torch", ["default", "cpu"])
def test_uv_is_told_which_torch(tmp_path, torch):
    made = Place(tmp_path, uv=True).make(f"TORCH={torch}")
    assert made.status == 0, made
    asked = "--torch-backend cpu " if torch == "cpu" else ""
    assert made.calls == [
        "uv venv --allow-existing --python python .venv",
        f"uv pip install {asked}--python .venv/bin/python {EDITABLE}",
    ]


def test_what_comes_how_large_it_is_and_how_to_get_less_are_said_first(place):
    (place.programs / "python").write_text("#!/bin/sh\n[ $1 = -c ] || exit 7\n")
    made = place.make()
    assert made.status != 0, "nothing could be installed"
    where, what, less = made.stdout.splitlines()
    assert str(place.folder / ".venv") in where
    assert re.search(r"about \d+ packages.* \d GB on disk on Linux, most of it CUDA", what)
    assert re.search(r"\d GB .*: make \.venv/ready TORCH=cpu$", less), "the same command"
    *_, what = place.make("TORCH=cpu").stdout.splitlines()
    assert re.search(r"about \d+ packages.* without CUDA .*: \d GB on disk", what)


@pytest.mark.parametrize("torch", ["cuda", "CPU", ""])
def test_an_unknown_torch_is_refused_with_those_there_are(place, torch):
    made = place.make(f"TORCH={torch}")
    assert made.status == 2 and made.calls == []
    assert "choose TORCH=cpu (without CUDA) or TORCH=default" in made.stderr


def test_the_environment_keeps_its_torch_when_it_is_made_anew(place):
    place.make("TORCH=cpu")
    assert place.make().calls == [], "all is there"
    place.ask_for_another_package()
    assert CPU in place.make().calls[-1]


@pytest.mark.parametrize("old", ["cpu", "default"])
def test_one_torch_does_not_silently_stand_for_the_other(place, old):
    new = {"cpu": "default", "default": "cpu"}[old]
    place.make(f"TORCH={old}")
    made = place.make(f"TORCH={new}")
    assert made.status == 2 and made.calls == []
    assert f".venv has TORCH={old}; for TORCH={new}, remove it first: rm -r .venv" in made.stderr
    shutil.rmtree(place.folder / ".venv")
    assert place.make(f"TORCH={new}").status == 0


def test_an_interrupted_installation_goes_on_with_its_own_torch(place):
    place.make("TORCH=cpu")
    (place.folder / ".venv" / "ready").unlink()
    assert place.make("TORCH=default").status == 2
    assert CPU in place.make().calls[-1]


def test_an_environment_from_before_there_was_a_choice_is_the_default(place):
    place.make()
    (place.folder / ".venv" / "torch").unlink()
    assert place.make("TORCH=cpu").status == 2
    assert place.make("TORCH=default").status == 0
