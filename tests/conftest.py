"""What tests share: a tiny course, a run trained on it, and the command line in-process."""

import hashlib
import importlib.util
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import settings

from facekit import cli, training
from facekit.common.lock import only_one
from facekit.data.layout import CourseData
from facekit.data.pairs import PairData
from facekit.sources import set_up
from facekit.sources.profiles import Profile
from facekit.training import recipe

# Of every property test: the same examples each time, and no limit on the time of one.
settings.register_profile("kit")
settings.load_profile("kit")

TINY = Profile("tiny", 6, 6, 2, 2, known=9, unknown_dev=9, unknown_test=18, pixels=32)
PAIRS = Profile("pairs", 4, 6, 2, 1, 8, 12, 20, pixels=24, difficulty="easy")


class Outcome(NamedTuple):
    """How a command ended and what it said."""

    status: int
    stdout: str
    stderr: str


def snapshot(*folders: Path) -> dict[Path, tuple[str, int]]:
    """Every file below the folders with the hash of its content and the time it was written."""
    files = [p for folder in folders for p in sorted(folder.rglob("*")) if p.is_file()]
    return {p: (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in files}


@pytest.fixture(scope="session", autouse=True)
def few_threads() -> Iterator[None]:
    """Tiny tensors are quicker on one thread, and the sums keep their order.

    Sub-processes too: two of two threads each on two cores wait for each other most of the time.
    Where one takes more threads, those that wait sleep.
    """
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        # Else each of a hundred sub-processes would compile the whole kit anew.
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """A test draws the same random numbers alone and beside others, today and tomorrow.

    Not those of a small seed, which tests give to generators of their own.
    """
    torch.manual_seed(20_231_001)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder of decoded pictures for all tests, their sub-processes included."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEKIT_CACHE", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(folder / "home"))  # files that the user has named
        yield folder


@pytest.fixture(scope="session")
def tiny_profile() -> Profile:
    return TINY


@pytest.fixture(scope="session")
def course(tmp_path_factory: pytest.TempPathFactory) -> CourseData:
    """A course of rendered faces that every test may read and none may change."""
    return set_up("synthetic", TINY, tmp_path_factory.mktemp("course"), progress=False)


@pytest.fixture(scope="session")
def pair_course(tmp_path_factory: pytest.TempPathFactory) -> PairData:
    """As `course`, of a term with pairs."""
    root = tmp_path_factory.mktemp("pair_course") / "data"
    return set_up("synthetic", PAIRS, root, term="S26", progress=False)


@pytest.fixture(scope="session")
def trained_recipe() -> recipe.Recipe:
    """That of `trained`."""
    return recipe.load("smoke", ["epochs=3", "image_size=32", "precision=float32"])


@pytest.fixture(scope="session")
def trained(
    course: CourseData, trained_recipe: recipe.Recipe, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a short training on `course`, for reading only."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    training.fit(trained_recipe, course, folder, device="cpu", progress=False)
    return folder


@pytest.fixture
def copy_of_course(course: CourseData, tmp_path: Path) -> Path:
    """The root of a copy of `course` that a test may damage."""
    return shutil.copytree(course.root, tmp_path / "copy_of_course")


@pytest.fixture
def copy_of_run(trained: Path, tmp_path: Path) -> Path:
    """A copy of `trained` that a test may damage or write into."""
    return shutil.copytree(trained, tmp_path / "copy_of_run")


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Outcome]:
    """Run `facekit ARGUMENTS` in this process, in a workspace of its own: tmp_path/home."""
    monkeypatch.setenv("FACEKIT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FACEKIT_PROFILE", raising=False)

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["facekit", *map(str, arguments)])
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as stop:
            cli.main()
        return Outcome(int(stop.value.code or 0), out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def refused(run_cli: Callable[..., Outcome]) -> Callable[..., str]:
    """Run a command that must be refused: status 2, exactly one line on standard error."""

    def run(*arguments: object) -> str:
        outcome = run_cli(*arguments)
        lines = outcome.stderr.splitlines()
        assert outcome.status == 2, outcome
        assert len(lines) == 1, outcome.stderr
        assert lines[0].startswith("facekit: ")
        return lines[0]

    return run


@pytest.fixture
def in_turn(capsys: pytest.CaptureFixture) -> Callable:
    """Call while another holds the folder, who leaves once that is told; give what was returned."""

    def call(folder: Path, work: Callable, *arguments: object) -> object:
        with ThreadPoolExecutor(1) as pool:
            with only_one(folder):
                called = pool.submit(work, *arguments)
                said = ""
                while "; waiting for it\n" not in said and not called.done():
                    time.sleep(0.01)
                    said += capsys.readouterr().out
                assert not called.done(), "it did not wait"
            return called.result()

    return call


@pytest.fixture
def unchanged() -> Callable:
    """A context in which no file below the given folders may be made, changed or removed."""

    @contextmanager
    def guard(*folders: Path) -> Iterator[None]:
        before = snapshot(*folders)
        yield
        assert snapshot(*folders) == before

    return guard


@pytest.fixture(scope="session")
def load_build() -> Callable:
    """notebooks/build.py as a module, though its folder is no package."""

    def load():
        path = Path(__file__).parents[1] / "notebooks" / "build.py"
        spec = importlib.util.spec_from_file_location("notebooks_build", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
