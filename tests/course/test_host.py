"""Where a notebook runs and what follows from it, on faked hosts; a real kill, a fresh machine."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import types
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest
from conftest import snapshot

from facekit import training
from facekit.common import machine as runtime
from facekit.common.errors import FacekitError
from facekit.common.lock import only_one
from facekit.common.machine import Choice
from facekit.course import host, lesson
from facekit.data import layout
from facekit.data.layout import CourseData
from facekit.models.weights import digest
from facekit.sources import copies, course_data, manifest, open_course, profiles
from facekit.submission import pipeline
from facekit.training.checkpoint import Checkpoints

REPOSITORY = Path(__file__).parents[2]
VARIABLES = (
    "FACEKIT_PROFILE FACEKIT_HOME FACEKIT_RUNS FACEKIT_MIRROR FACEKIT_DRIVE "
    "KAGGLE_KERNEL_RUN_TYPE VSCODE_PID"
).split()
SHORT = ["epochs=3", "image_size=32", "precision=float32"]


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A folder to work in, an environment that the test may change, no host's signs."""
    (tmp_path / "machine").mkdir()
    monkeypatch.chdir(tmp_path / "machine")
    with mock.patch.dict(os.environ):
        for name in VARIABLES:
            os.environ.pop(name, None)
        monkeypatch.setitem(sys.modules, "IPython", None)
        del sys.modules["IPython"]
        yield tmp_path / "machine"


def started(capsys) -> list[str]:
    """The three lines that say where we are, after those that ask for a Drive."""
    return all_lines(capsys)[:3]


def all_lines(capsys) -> list[str]:
    capsys.readouterr()
    host.start()
    return capsys.readouterr().out.removeprefix(f"{host.ASK}\n").splitlines()


# --- where are we?


@pytest.fixture
def kernel(monkeypatch) -> types.SimpleNamespace:
    """IPython with a notebook's kernel."""
    shell = types.SimpleNamespace(kernel=object(), user_ns={})
    fake = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", fake)
    return shell


def test_plain_python_is_told_from_a_notebook(kernel, monkeypatch):
    assert host.find().value == "JupyterLab"
    del kernel.kernel  # a terminal's IPython
    assert host.find().value == "plain Python"
    monkeypatch.delitem(sys.modules, "IPython")
    assert host.find().value == "plain Python"


def test_vs_code_is_known_by_its_kernel(kernel):
    os.environ["VSCODE_PID"] = "7"
    assert host.find().value == "VS Code"
    del os.environ["VSCODE_PID"]
    kernel.user_ns["__vsc_ipynb_file__"] = "/some/where.ipynb"
    assert host.find().value == "VS Code"


def test_kaggle_is_no_colab_though_its_image_is_made_from_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    assert host.find().value == "Colab"
    os.environ["KAGGLE_KERNEL_RUN_TYPE"] = "Interactive"
    assert host.find().value == "Kaggle"


def test_three_lines_say_what_follows_each_with_its_reason(capsys, machine):
    os.environ["FACEKIT_PROFILE"] = "smoke"
    os.environ["FACEKIT_RUNS"] = str(machine.parent / "elsewhere")
    first, data, runs = started(capsys)
    device, why = runtime.device()
    assert first == (
        "plain Python (no notebook's kernel): profile smoke (FACEKIT_PROFILE), "
        f"device {device} ({why})"
    )
    assert data == "data in data (the current folder)"
    assert runs == "runs in ../elsewhere (FACEKIT_RUNS)"


@pytest.mark.parametrize("form", ["", "solutions"])
def test_every_form_of_a_notebook_works_in_one_workspace(capsys, machine, monkeypatch, form):
    folder = machine / "notebooks" / form
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert runtime.workspace().value == machine
    up = "../.." if form else ".."
    assert started(capsys)[1:] == [
        f"data in {up}/data (the folder above notebooks/)",
        f"runs in {up}/runs (the folder above notebooks/)",
    ]


def test_a_folder_of_that_name_elsewhere_is_a_workspace_itself(machine, monkeypatch):
    (machine / "solutions").mkdir()
    monkeypatch.chdir(machine / "solutions")
    assert runtime.workspace().value == machine / "solutions"


def test_the_drive_is_colabs_alone(capsys):
    assert started(capsys)[2] == "runs in runs (the current folder)"
    assert "FACEKIT_MIRROR" not in os.environ


def test_what_takes_long_is_said_before_it_is_begun_and_once_it_is_there_no_more(capsys, machine):
    os.environ["FACEKIT_PROFILE"] = "laptop"
    faces, training = all_lines(capsys)[3:]
    assert "made first" in faces and faces.endswith(": two minutes")
    assert "05, 06, 08 or 09" in training and training.endswith(": three minutes on two cores")
    (machine / "data" / "anything").mkdir(parents=True)
    assert all_lines(capsys)[3:] == [training]
    (machine / "runs" / "course" / "anything").mkdir(parents=True)
    assert all_lines(capsys)[3:] == []


def test_a_time_is_known_for_every_profile():
    assert host.TIMES.keys() == profiles.PROFILES.keys()


def test_where_a_gpu_is_lent_for_a_short_time_the_small_course_is_proposed(
    capsys, colab, monkeypatch
):
    chosen = Choice(profiles.get_profile("gpu"), "there is a GPU")
    monkeypatch.setattr(profiles, "profile", lambda: chosen)
    assert host.SHORT in "\n".join(all_lines(capsys))
    monkeypatch.setattr(profiles, "profile", lambda: chosen._replace(reason="FACEKIT_PROFILE"))
    assert host.SHORT not in "\n".join(all_lines(capsys)), "who chose need not be told"


# --- Colab

COLAB = """
import sys, types
from pathlib import Path
from facekit.course import host

drive = types.SimpleNamespace(mount=lambda place: Path(place, "MyDrive").mkdir(exist_ok=True))
sys.modules["google.colab"] = types.SimpleNamespace(drive=drive)
sys.modules.setdefault("google", types.SimpleNamespace()).colab = sys.modules["google.colab"]
host.DRIVE = Path({drive!r})
"""


@pytest.fixture
def colab(monkeypatch, tmp_path) -> types.SimpleNamespace:
    """A machine with google.colab, whose Drive is a folder; what was mounted is in `mounted`."""
    drive = tmp_path / "drive"
    monkeypatch.setattr(host, "DRIVE", drive)
    fake = types.SimpleNamespace(mounted=[], mount=lambda place: None)

    def mount(place: str) -> None:
        fake.mounted.append(place)
        Path(place, "MyDrive").mkdir(parents=True, exist_ok=True)

    fake.mount = mount
    module = types.SimpleNamespace(drive=fake)
    monkeypatch.setitem(sys.modules, "google", types.SimpleNamespace(colab=module))
    monkeypatch.setitem(sys.modules, "google.colab", module)
    return fake


def test_the_drive_is_asked_for_once_with_the_reason(capsys, colab):
    host.start()
    told = capsys.readouterr().out
    assert told.startswith(f"{host.ASK}\nColab (google.colab is loaded): profile ")
    host.start()
    assert host.ASK not in capsys.readouterr().out
    assert len(colab.mounted) == 1


def test_the_drive_gets_the_copies_and_the_local_disk_the_runs(capsys, colab, machine, tmp_path):
    os.environ["FACEKIT_PROFILE"] = "smoke"
    told = started(capsys)
    copies = tmp_path / "drive" / "MyDrive" / "facekit-runs" / "smoke"
    assert copies.is_dir() and str(copies) in told[2]
    assert runtime.runs().value == machine / "runs"
    assert runtime.copy_of(lesson.course_run()) == copies / "course"
    os.environ["FACEKIT_PROFILE"] = "laptop"  # as is proposed, in the same session
    started(capsys)
    assert runtime.mirror().value == copies.with_name("laptop")


def test_trials_below_a_folder_of_runs_are_not_copied(machine):
    os.environ["FACEKIT_MIRROR"] = str(machine / "drive")
    assert runtime.copy_of(machine / "runs" / "killed" / "a") is None
    assert runtime.copy_of(machine / "elsewhere" / "course") is None
    assert runtime.copy_of("runs/course") == machine / "drive" / "course"


def test_a_folder_of_ones_own_for_the_copies_stays(capsys, colab, tmp_path):
    os.environ["FACEKIT_MIRROR"] = str(tmp_path / "mine")
    assert str(tmp_path / "mine") in started(capsys)[2]
    assert runtime.mirror().value == tmp_path / "mine"
    assert colab.mounted == []


def test_without_the_drive_the_lesson_goes_on_and_is_asked_no_more(capsys, colab):
    def refuse(place: str) -> None:
        colab.mounted.append(place)
        raise ValueError("mount failed")

    colab.mount = refuse
    assert "the Drive was not mounted: mount failed" in all_lines(capsys)
    assert "lost with the session" in started(capsys)[2]
    assert len(colab.mounted) == 1 and runtime.mirror().value is None


def test_a_drive_that_does_not_come_is_no_drive(capsys, colab):
    colab.mount = lambda place: None
    assert "lost with the session" in started(capsys)[2]
    assert runtime.mirror().value is None


def test_the_data_comes_back_from_the_drive_on_a_fresh_machine(capsys, colab, machine, monkeypatch):
    os.environ["FACEKIT_PROFILE"] = "smoke"
    host.start()
    made = snapshot(open_course(progress=False).root)
    shutil.rmtree(machine / "data")
    assert not any("made first" in line for line in all_lines(capsys))
    monkeypatch.setattr(course_data, "set_up", mock.Mock(side_effect=AssertionError))
    assert open_course().answers
    assert "the data is back from" in capsys.readouterr().out
    before, after = (
        {path: content for path, (content, _) in files.items() if path.name[0] != "."}
        for files in (made, snapshot(machine / "data"))
    )
    assert len(after) > 300 and before == after
    assert (machine / "data" / "manifest.json").stat().st_mode & 0o077 == 0, "still private"


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + bytes(2000)])
def test_a_damaged_copy_of_the_data_is_said_and_not_used(capsys, machine, content):
    (machine / "data.zip").write_bytes(content)
    assert copies.bring_back(machine / "data.zip", machine / "data") is False
    assert "the data is made anew" in capsys.readouterr().out
    assert [path.name for path in machine.iterdir()] == ["data.zip"]


def test_a_copy_does_not_replace_data_that_is_there(machine):
    (machine / "data").mkdir()
    (machine / "data" / "mine.txt").write_text("mine")
    copies.keep_copy(machine / "data", machine / "data.zip")
    (machine / "data" / "mine.txt").write_text("changed")
    assert copies.bring_back(machine / "data.zip", machine / "data") is False
    assert (machine / "data" / "mine.txt").read_text() == "changed"


def test_a_drive_that_is_full_does_not_stop_a_lesson(capsys, machine):
    (machine / "data").mkdir()
    copies.keep_copy(machine / "data", machine / "no folder" / "data.zip")
    assert "has no copy there (No such file" in capsys.readouterr().out


def session(folder: Path, drive: Path, course: CourseData) -> subprocess.Popen:
    """A Colab session in a process of its own that trains the course's run."""
    folder.mkdir()
    code = (
        COLAB.format(drive=str(drive))
        + f"""
from facekit import training
from facekit.course import lesson
from facekit.training import recipe as recipes
from facekit.common.errors import FacekitError
host.start()
recipe = recipes.load("smoke", {SHORT!r})
training.fit(recipe, {str(course.root)!r}, lesson.course_run(), device="cpu", progress=False)
"""
    )
    settings = {"FACEKIT_PROFILE": "smoke", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_lost_session_goes_on_from_the_drive_on_a_fresh_machine(tmp_path, course, trained):
    drive = tmp_path / "drive"
    drive.mkdir()
    copies = drive / "MyDrive" / "facekit-runs" / "smoke" / "course"
    first = session(tmp_path / "first", drive, course)
    while first.poll() is None and not list(copies.glob("step-*.pt")):
        time.sleep(0.002)
    first.kill()
    first.communicate()
    assert first.returncode == -signal.SIGKILL, "it was over before it could be killed"
    shutil.rmtree(tmp_path / "first")  # and its disk with it
    reached = Checkpoints(copies).load_latest()["progress"]
    assert 0 < reached["epoch"] < 3

    second = session(tmp_path / "second", drive, course)
    said, errors = second.communicate()
    assert second.returncode == 0, errors
    assert re.search(rf"has no intact checkpoint; using {re.escape(str(copies))}", said)
    folder = tmp_path / "second" / "runs" / "course"
    ends = [Checkpoints(each).load_latest()["net"] for each in (folder, copies, trained)]
    assert len({digest(net) for net in ends}) == 1, "the run that an undisturbed one gives"
    for name in ("history.csv", "recipe.json", "best.pt"):
        assert (copies / name).read_bytes() == (folder / name).read_bytes()


def test_what_was_decided_about_a_run_comes_back_with_it(
    capsys, colab, machine, course, trained_recipe
):
    os.environ["FACEKIT_PROFILE"] = "smoke"
    host.start()
    fit = lambda: training.fit(  # noqa: E731
        trained_recipe, course, lesson.course_run(), device="cpu", progress=False
    )
    fit()
    folder = lesson.course_run()
    pipeline.keep_decision(folder, "threshold", 0.25)
    shutil.rmtree(machine / "runs")
    (machine / "runs").mkdir()
    fit()
    assert pipeline.kept_decision(folder) == pipeline.Decision("threshold", 0.25)


# --- Kaggle


@pytest.fixture
def kaggle(monkeypatch, tmp_path) -> Path:
    """A machine with Kaggle's folders; /kaggle of the test."""
    os.environ["KAGGLE_KERNEL_RUN_TYPE"] = "Batch"
    monkeypatch.setattr(host, "KAGGLE", tmp_path / "kaggle")
    for name in ("input", "working"):
        (tmp_path / "kaggle" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "kaggle" / "working")
    return tmp_path / "kaggle"


def test_on_kaggle_one_works_in_its_folder(capsys, kaggle):
    told = started(capsys)
    assert told[0].startswith("Kaggle (KAGGLE_KERNEL_RUN_TYPE is set)")
    assert runtime.data().value == kaggle / "working" / "data"
    assert runtime.runs().value == kaggle / "working" / "runs"
    assert "Save Version" in told[2]


def interrupted(folder: Path, course: CourseData, recipe) -> Path:
    """A run that stopped after an epoch."""

    def stop(history: training.History) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.fit(recipe, course, folder, device="cpu", progress=False, on_epoch=stop)
    return folder


def test_two_that_start_at_once_copy_a_run_once(tmp_path, trained):
    runs = tmp_path / "runs"
    shutil.copytree(trained, tmp_path / "input" / "before" / "runs" / "course")
    with ThreadPoolExecutor() as pool, only_one(runs):
        second = pool.submit(host.copy_runs, tmp_path / "input", runs)
        time.sleep(0.2)
        shutil.copytree(trained, runs / "course")
    assert second.result() == []


@pytest.mark.parametrize("above", ["facekit-course", "notebooks/me/facekit-course"])
def test_an_earlier_versions_run_goes_on(capsys, kaggle, course, trained, trained_recipe, above):
    earlier = kaggle / "input" / above / "runs"
    interrupted(earlier / "course", course, trained_recipe)
    for path in [*earlier.rglob("*"), earlier]:
        path.chmod(0o555 if path.is_dir() else 0o444)  # as inputs are
    assert "copied from input: course" in started(capsys)[2]
    before = Checkpoints(lesson.course_run()).newest().name
    out = lesson.course_run()
    history = training.fit(trained_recipe, course, out, device="cpu", progress=False)
    assert before == Checkpoints(earlier / "course").newest().name
    assert len(history.rows) == 3
    nets = [Checkpoints(f).load_latest()["net"] for f in (lesson.course_run(), trained)]
    assert digest(nets[0]) == digest(nets[1])
    newest = Checkpoints(lesson.course_run()).newest()
    assert "course" not in started(capsys)[2], "copied once"
    assert Checkpoints(lesson.course_run()).newest() == newest


def test_of_two_earlier_versions_the_one_that_got_further_counts(capsys, kaggle):
    for version, step in {"a": 300, "b": 1000, "c": 20}.items():
        run = kaggle / "input" / version / "runs" / "course"
        run.mkdir(parents=True)
        (run / f"step-{step:08}.pt").write_text(version)
    host.start()
    assert (kaggle / "working/runs/course/step-00001000.pt").read_text() == "b"
    assert len(list((kaggle / "working/runs/course").iterdir())) == 1


def test_an_interrupted_copy_is_no_run(kaggle, monkeypatch):
    run = kaggle / "input" / "one" / "runs" / "course"
    run.mkdir(parents=True)
    for step in (1, 2):
        (run / f"step-{step:08}.pt").write_text(str(step))
    copyfile, copied = shutil.copyfile, []

    def once(source, target):
        if copied:
            raise KeyboardInterrupt
        copied.append(copyfile(source, target))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "copyfile", once)
        host.start()
    assert copied and not (kaggle / "working" / "runs" / "course").exists()
    host.start()
    assert [p.name for p in (kaggle / "working" / "runs").glob("[!.]*")] == ["course"]
    assert len(list((kaggle / "working" / "runs" / "course").iterdir())) == 2


@pytest.fixture(params=["", "competitions/"], ids=["by slug", "by competition"])
def competition(request, kaggle, course) -> dict[str, Path]:
    """Both competitions' data, attached; name of the folder -> where it is."""
    found = {}
    for folder in (course.classification, course.verification):
        place = kaggle / "input" / f"{request.param}{folder.name}" / folder.name
        place.parent.mkdir(parents=True)
        found[folder.name] = shutil.copytree(folder, place)
    return found


def test_attached_competitions_are_the_data_without_a_copy(capsys, kaggle, competition, course):
    assert "the attached data" in started(capsys)[1]
    data = open_course()
    assert data.root == kaggle / "working" / "data"
    assert data.classes == course.classes and data.unknown_dev.labels == course.unknown_dev.labels
    assert data.answers is None
    for name, place in competition.items():
        assert (data.root / name).resolve() == place.resolve()
    assert "the attached data" in started(capsys)[1], "and again"


def test_the_data_of_an_earlier_version_comes_back_with_its_answers(kaggle, course):
    shutil.copytree(course.root, kaggle / "input" / "facekit-course" / "data")
    host.start()
    data = open_course()
    assert data.root == kaggle / "working" / "data"
    assert data.answers and manifest.read_manifest(data.root)["source"] == "synthetic"


def test_one_competition_alone_is_named_and_nothing_is_linked(capsys, kaggle, competition, course):
    shutil.rmtree(competition[course.verification.name])
    assert f"only {course.classification.name} is attached" in started(capsys)[1]
    assert not (kaggle / "working" / "data").exists()


def test_data_that_is_there_is_not_replaced(capsys, kaggle, competition):
    (kaggle / "working" / "data" / "mine").mkdir(parents=True)
    assert "made before" in started(capsys)[1]
    assert [p.name for p in (kaggle / "working" / "data").iterdir()] == ["mine"]


def test_an_input_that_is_no_longer_attached_is_forgotten(capsys, kaggle, competition):
    host.start()
    shutil.rmtree(kaggle / "input")
    host.start()
    assert list((kaggle / "working" / "data").iterdir()) == []


def test_a_term_whose_slugs_are_not_its_folders_is_found(capsys, kaggle, course):
    term = layout.TERMS["S24"]
    slugs = {term.classification_slug: course.classification}
    slugs |= {term.verification_slug: course.verification}
    for slug, folder in slugs.items():
        shutil.copytree(folder, kaggle / "input" / slug)
    host.start()
    assert open_course().term is term


# --- what a host lacks


def test_nothing_is_installed_where_nothing_is_missing(colab, monkeypatch):
    assert host.missing() == []
    monkeypatch.setattr(subprocess, "run", mock.Mock(side_effect=AssertionError))
    host.start()


def test_only_what_is_missing_is_installed_and_without_what_it_asks_for(colab, monkeypatch):
    asked = []
    monkeypatch.setattr(host, "SMALL", host.SMALL | {"typer": "no_such_module"})
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: asked.append(command) or mock.Mock(returncode=0)
    )
    host.start()
    (bound,) = [r for r in project()["dependencies"] if r.startswith("typer")]
    assert asked == [[sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", bound]]


def test_without_a_network_it_is_said_what_to_do(monkeypatch, tmp_path):
    os.environ |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": ""}
    os.environ["PIP_CONFIG_FILE"] = os.devnull
    with pytest.raises(FacekitError, match=r"cannot install no-such-package .*Internet on"):
        host.fetch(["no-such-package"])


def test_nothing_is_installed_on_ones_own_machine(monkeypatch):
    monkeypatch.setattr(host, "missing", mock.Mock(side_effect=AssertionError))
    host.start()


def test_what_is_added_are_dependencies_that_hosts_do_not_build_on():
    names = {re.match(r"[\w-]+", r)[0] for r in project()["dependencies"]}
    assert set(host.SMALL) < names
    assert names - set(host.SMALL) == {
        *("torch", "torchvision", "numpy", "pandas", "matplotlib", "pillow"),
        "filelock",  # torch asks for it
        "tqdm",  # without it not even this module can be imported
    }


def project() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


# --- what a command finds that a cell starts


def test_a_command_of_a_cell_finds_this_kit_before_others(capsys, machine):
    os.environ["PYTHONPATH"] = str(machine)
    for _ in range(2):
        started(capsys)
        assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(REPOSITORY), str(machine)]


def test_the_folder_of_all_packages_is_not_handed_on(capsys, machine, monkeypatch):
    monkeypatch.setattr(host, "KIT", machine)
    os.environ["PYTHONPATH"] = "before"
    started(capsys)
    assert os.environ["PYTHONPATH"] == "before"


# --- the first cell, in real processes, with and without a stranger's `facekit`

ADDRESS = "https://git.example.org/ann/faces"


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """A repository that holds the kit and has a past."""
    kit = tmp_path_factory.mktemp("published")
    shutil.copytree(REPOSITORY / "facekit", kit / "facekit")
    shutil.copy(REPOSITORY / "pyproject.toml", kit)
    git = ["git", "-C", str(kit), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    past = ["commit", "-qm", "past", "--allow-empty"]
    for words in (["init", "-q", "-b", "main"], past, ["add", "."], ["commit", "-qm", "kit"]):
        subprocess.run([*git, *words], check=True)
    return kit


def first_cell(build: types.ModuleType, address: str) -> str:
    """The first cell of a course that lives at an address."""
    settings = {"repository": address, "branch": "main"}
    with mock.patch.object(build, "settings", lambda: settings):
        return build.first_cell()


@pytest.fixture
def cell(load_build: Callable) -> str:
    return first_cell(load_build(), ADDRESS)


@pytest.fixture
def cell_without_address(load_build: Callable) -> str:
    build = load_build()
    return first_cell(build, f"https://github.com/{build.NOBODY}/facekit")


# A notebook's kernel on a machine where facekit was never installed. It runs the cells in turn,
# and says which facekit it has in the end, and which a command has that a cell starts.
KERNEL = """
import json, os, shlex, sys
from pathlib import Path
from IPython.terminal.interactiveshell import TerminalInteractiveShell

sys.path[:] = [p for p in sys.path if p and not Path(p, "facekit", "course").is_dir()]
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f)]
sys.path[:0] = json.loads(os.environ["IN_FRONT"])
shell = TerminalInteractiveShell.instance()
for cell in json.loads(sys.stdin.read()):
    shell.run_cell(cell).raise_error()
import facekit
print("kit", facekit.__file__)
command = shlex.quote(sys.executable) + " -c 'import facekit; print(facekit.__file__)'"
print("child", shell.getoutput("cd / && " + command))
"""


def run_cells(
    folder: Path, *cells: str, in_front: Sequence[Path] = (), **variables: str
) -> subprocess.CompletedProcess:
    """Run cells in a kernel of `folder`. `in_front`: of sys.path, as packages installed there."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | variables
    environment["IN_FRONT"] = json.dumps([str(path) for path in in_front])
    return subprocess.run(
        [sys.executable, "-c", KERNEL],
        input=json.dumps(cells),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


def assert_kit(done: subprocess.CompletedProcess, folder: Path) -> None:
    """The kernel and the commands that its cells start have the kit of this folder."""
    assert done.returncode == 0, done.stdout + done.stderr
    place = folder / "facekit" / "__init__.py"
    assert f"kit {place}" in done.stdout
    assert f"child ['{place}']" in done.stdout


def colab_variables(published: Path, home: Path) -> dict[str, str]:
    """Those of a machine that fetches ADDRESS from a folder, and has Kaggle's sign."""
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{published}.insteadOf",
        "GIT_CONFIG_VALUE_0": ADDRESS,
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        "FACEKIT_HOME": str(home),
    }


@pytest.fixture
def stranger(tmp_path) -> Path:
    """A folder of packages that holds another `facekit`, which says when it is loaded."""
    package = tmp_path / "site-packages" / "facekit"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("print('the stranger is loaded')\n")
    return package.parent


def clone(folder: Path) -> Path:
    """A clone of the kit, as far as the first cell goes."""
    folder.mkdir()
    shutil.copytree(REPOSITORY / "facekit", folder / "facekit")
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    return folder


def test_the_first_cell_fetches_the_kit_where_there_is_none(tmp_path, published, cell):
    content = tmp_path / "content"
    done = run_cells(content, cell, cell, **colab_variables(published, tmp_path))
    assert_kit(done, content / "facekit-kit")
    assert done.stdout.count("Kaggle (") == 2, "it may run again"
    shallow = ["git", "-C", content / "facekit-kit", "rev-parse", "--is-shallow-repository"]
    assert subprocess.run(shallow, capture_output=True, text=True).stdout == "true\n"


def test_the_first_cell_fetches_the_kit_though_a_stranger_is_installed(
    tmp_path, published, cell, stranger
):
    content = tmp_path / "content"
    variables = colab_variables(published, tmp_path)
    done = run_cells(content, cell, cell, in_front=[stranger], **variables)
    assert_kit(done, content / "facekit-kit")
    assert "the stranger is loaded" not in done.stdout


@pytest.mark.parametrize("form", ["", "solutions"])
def test_in_a_clone_the_first_cell_takes_the_kit_that_lies_above(
    tmp_path, cell_without_address, stranger, form
):
    kit = clone(tmp_path / "face kit")
    cell = cell_without_address  # nothing is fetched
    done = run_cells(kit / "notebooks" / form, cell, cell, in_front=[stranger])
    assert_kit(done, kit)
    assert "the stranger is loaded" not in done.stdout


def test_a_kit_that_is_installed_is_taken_before_a_stranger(tmp_path, cell, stranger):
    kit = clone(tmp_path / "kit")
    done = run_cells(tmp_path / "elsewhere", cell, in_front=[stranger, kit])
    assert_kit(done, kit)
    assert not (tmp_path / "elsewhere" / "facekit-kit").exists(), "nothing was fetched"


@pytest.mark.parametrize("what", ["facekit/__init__.py", "facekit.py", "facekit/data.csv"])
def test_a_stranger_that_is_loaded_already_is_named_with_what_to_do(tmp_path, cell, what):
    """A package, a module, and a plain folder, which Python takes for a package, too."""
    kit, file = clone(tmp_path / "kit"), tmp_path / "packages" / what
    file.parent.mkdir(parents=True)
    file.touch()
    done = run_cells(kit / "notebooks", "import facekit", cell, in_front=[tmp_path / "packages"])
    assert done.returncode == 1
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("ImportError: <module 'facekit' ")
    assert what.endswith(".csv") or str(file) in said
    assert said.endswith("of that name: restart the kernel and run this cell first")


def test_a_course_without_an_address_says_so_and_fetches_nothing(
    tmp_path, cell_without_address, stranger
):
    git = tmp_path / "programs" / "git"
    git.parent.mkdir()
    git.write_text("#!/bin/sh\necho git was called\n")
    git.chmod(0o755)
    path = os.pathsep.join([str(git.parent), os.environ["PATH"]])
    content = tmp_path / "content"
    done = run_cells(content, cell_without_address, in_front=[stranger], PATH=path)
    assert done.returncode == 1
    said = done.stderr.strip().splitlines()[-1]
    assert said == (
        "ImportError: this copy does not say yet where it lives: "
        "put it into pyproject.toml, [tool.facekit]; run notebooks/build.py"
    )
    assert "git was called" not in done.stdout + done.stderr
    assert list(content.iterdir()) == []
