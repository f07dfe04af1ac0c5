"""Where a notebook runs, and what follows from it. Built in all notebooks."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from facekit.common import machine
from facekit.common.errors import FacekitError
from facekit.common.kit import KIT, is_kit_folder
from facekit.common.lock import only_one
from facekit.common.machine import Choice
from facekit.data.layout import TERMS, Term
from facekit.sources import profiles
from facekit.sources.manifest import MANIFEST

DRIVE = Path("/content/drive")  # where Colab mounts it
KAGGLE = Path("/kaggle")
SCRATCH = Path("/tmp/facekit-cache")  # not saved with a Kaggle notebook's version
ASK = """\
Colab clears this machine's disk when the session ends, and each notebook has a machine of its own.
With your Google Drive, faces and runs are copied to MyDrive/facekit-runs, and the next notebook or
session takes them from there. Without it, each makes the faces and trains anew. Now Colab asks."""
SHORT = """\
is your session short? Write %env FACEKIT_PROFILE=laptop into a cell above this one, and run that
and this again, before you go on: 300 people in place of 1,000, minutes in place of an hour"""
TIMES = {  # of the faces on two cores, and of the run of notebook 04, by profile
    "smoke": ("seconds", "a minute"),
    "laptop": ("two minutes", "three minutes on two cores"),
    "gpu": ("six minutes", "up to an hour on a T4"),
    "homework": ("hours", "days on a T4"),
}
# Ours to add where a host lacks them, by the module that one imports. All else a host has, or has
# not: another torch or NumPy would break what it ships.
SMALL = {
    "opencv-python-headless": "cv2",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "typer": "typer",
}
_began = time.monotonic()


def start() -> None:
    """Begin a notebook: the first cell of each calls this. Says where we are, and what takes long.

    On Colab it asks once for your Drive, where data and every state of a run are copied, so that a
    new session goes on from them. On Kaggle, runs and data that are attached as input are taken up.

    Raises FacekitError when a package that the host lacks cannot be had.
    """
    global _began
    _began = time.monotonic()
    where = find()
    more = Choice("", "")
    share_kit()
    if where.value in ("Colab", "Kaggle"):
        fetch(missing())
    if where.value == "Colab":
        more = on_colab()
    elif where.value == "Kaggle":
        more = on_kaggle()
    print("\n".join([*lines(where, more), *ahead(where.value)]))


def took() -> None:
    """Print how long this notebook took, from its first cell to here."""
    print(f"this notebook took {time.monotonic() - _began:.0f} s")


def find() -> Choice:
    """Which of Colab, Kaggle, VS Code, JupyterLab or plain Python this is, and by what sign."""
    if os.environ.get("KAGGLE_KERNEL_RUN_TYPE"):  # asked first: its image is made from Colab's
        return Choice("Kaggle", "KAGGLE_KERNEL_RUN_TYPE is set")
    if "google.colab" in sys.modules:
        return Choice("Colab", "google.colab is loaded")
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if not hasattr(shell, "kernel"):
        return Choice("plain Python", "no notebook's kernel")
    if "__vsc_ipynb_file__" in shell.user_ns or "VSCODE_PID" in os.environ:
        return Choice("VS Code", "its kernel")
    return Choice("JupyterLab", "a Jupyter kernel")


def lines(where: Choice, more: Choice) -> list[str]:
    """What follows from where we are. `more`: what the host adds about data and about runs."""
    profile, why_profile = profiles.profile()
    device, why_device = machine.device()
    here = machine.workspace()
    runs, why = machine.runs()
    if why == "in the workspace":
        why = here.reason
    return [
        f"{where.value} ({where.reason}): profile {profile.name} ({why_profile}), "
        f"device {device} ({why_device})",
        f"data in {short(machine.data().value)} ({more.value or here.reason})",
        f"runs in {short(runs)} ({more.reason or why})",
    ]


def ahead(where: str) -> list[str]:
    """What the notebooks have to make first, and how long that takes, before it is begun."""
    profile, why = profiles.profile()
    faces, training = TIMES[profile.name]
    run = machine.runs().value / "course"
    told = []
    if not is_there(machine.data().value, machine.data_copy()):
        told.append(f"the faces are made first, once: {faces}")
    if not is_there(run, machine.copy_of(run)):
        told.append(
            f"notebook 04 trains the network, or 05, 06, 08 or 09 if they come first: {training}"
        )
    if told and where in ("Colab", "Kaggle") and why != "FACEKIT_PROFILE" and profile.name == "gpu":
        told.append(SHORT)
    return told


def is_there(place: Path, copy: Path | None) -> bool:
    """Whether a folder holds anything, or has a copy to come back from."""
    return (place.is_dir() and any(place.iterdir())) or bool(copy and copy.exists())


def short(path: Path) -> str:
    """A path as seen from here, where that is shorter."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive of Windows
        return str(path)
    return min(str(path), relative, key=len)


def share_kit() -> None:
    """Let the commands that a cell starts (!torchrun -m facekit ...) find this kit, too.

    Not where it was installed for good: its folder is then that of all packages.
    """
    if not is_kit_folder(KIT):
        return
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    others = [path for path in paths if path not in ("", str(KIT))]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(KIT), *others])


# --- what a host lacks


def missing() -> list[str]:
    """The small packages that are not installed here, as pyproject.toml asks for them."""
    absent = [name for name, module in SMALL.items() if importlib.util.find_spec(module) is None]
    if not absent:
        return []
    project = tomllib.loads((KIT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [r for r in project["dependencies"] if re.match(r"[\w-]+", r)[0] in absent]


def fetch(requirements: list[str]) -> None:
    """Install these and nothing that they ask for: what the host ships stays as it is."""
    if not requirements:
        return
    done = subprocess.run(pip_command(requirements), capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason"])[-1]
        raise FacekitError(
            f"cannot install {', '.join(requirements)} ({said}); is there a network here? "
            "On Kaggle, switch Internet on in the notebook's settings"
        )
    importlib.invalidate_caches()


def pip_command(requirements: list[str]) -> list[str]:
    return [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *requirements]


# --- Colab


def on_colab() -> Choice:
    """Keep copies of data and runs on the Drive, if one lets us; words on data and on runs."""
    ours, mirror = DRIVE / "MyDrive" / "facekit-runs", machine.mirror().value
    if mirror is None or ours in mirror.parents:
        if not mount():
            again = "for there is no Drive; restart the session to be asked again"
            return Choice("", f"lost with the session, {again}")
        # A session without a GPU has other data and another recipe: it must not meet the same run.
        mirror = ours / profiles.profile().value.name
        try:
            mirror.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FacekitError(f"{mirror}: cannot be made ({error.strerror})") from error
        os.environ["FACEKIT_MIRROR"] = str(mirror)
    return Choice("", f"copied to {mirror}: a new session goes on from there")


def mount() -> bool:
    """Mount the student's Drive, asking once in a session; whether it is there."""
    if (DRIVE / "MyDrive").is_dir():
        return True
    if os.environ.get("FACEKIT_DRIVE") == "no":
        return False
    print(ASK, flush=True)
    try:
        from google.colab import drive

        drive.mount(str(DRIVE))
    except Exception as error:  # its own kinds of error, which have changed
        print(f"the Drive was not mounted: {error}")
    if (DRIVE / "MyDrive").is_dir():
        return True
    os.environ["FACEKIT_DRIVE"] = "no"
    return False


# --- Kaggle


def on_kaggle() -> Choice:
    """Work in /kaggle/working with what is attached as input; words on data and on runs."""
    os.environ.setdefault("FACEKIT_HOME", str(KAGGLE / "working"))
    os.environ.setdefault("FACEKIT_CACHE", str(SCRATCH))
    data = link_data(KAGGLE / "input", machine.data().value)
    copied = copy_runs(KAGGLE / "input", machine.runs().value)
    again = "kept by Save Version, as data is; attach that output to a later version to go on"
    return Choice(data, f"copied from input: {', '.join(copied)}" if copied else again)


def places(inputs: Path, name: str) -> list[Path]:
    """Files or folders of a name in what is attached: <slug>/, competitions/<slug>/, and below."""
    return sorted(p for above in ("", "*/", "*/*/", "*/*/*/") for p in inputs.glob(above + name))


def copy_runs(inputs: Path, runs: Path) -> list[str]:
    """Copy the runs of earlier versions that are not here yet; their names.

    Of several copies of one run the one with the most steps counts.
    """
    newest: dict[str, Path] = {}
    for folder in places(inputs, "runs"):
        for state in folder.rglob("step-*.pt"):
            name = state.parent.relative_to(folder).as_posix()
            newest[name] = max(newest.get(name, state), state, key=lambda path: path.name)
    if not newest:
        return []
    with only_one(runs, wait=True):
        fresh = [name for name in sorted(newest) if not (runs / name).exists()]
        for name in fresh:
            copy_run(newest[name].parent, runs / name)
    return fresh


def copy_run(source: Path, target: Path) -> None:
    """Copy a run's files; an interrupted copy is no run."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for file in source.iterdir():
        if file.is_file() and not file.name.startswith("."):
            shutil.copyfile(file, part / file.name)  # not its mode: inputs are read-only
    part.rename(target)


def link_data(inputs: Path, root: Path) -> str:
    """Let `root` point at attached competition data, without a copy; what was found, in words."""
    for left in [path for path in root.glob("*") if path.is_symlink() and not path.exists()]:
        left.unlink()  # to an input that is no longer attached
    for term in TERMS.values():
        found = attached(inputs, term)
        if not found:
            continue
        if len(found) == 1:
            return f"only {next(iter(found))} is attached; attach the other competition, too"
        if any(root.glob("*")):
            linked = all((root / name).is_symlink() for name in found)
            return "the attached data" if linked else "made before; delete it to use the attached"
        root.mkdir(parents=True, exist_ok=True)
        for name, folder in found.items():
            (root / name).symlink_to(folder, target_is_directory=True)
        for note in (MANIFEST, "answers"):  # of data that an earlier version made
            if (folder.parent / note).exists():
                (root / note).symlink_to(folder.parent / note)
        return "the attached data"
    return ""


def attached(inputs: Path, term: Term) -> dict[str, Path]:
    """Which of a term's two folders are attached, and where."""
    found = {}
    for name, slug, inside in (
        (term.classification, term.classification_slug, "train"),
        (term.verification, term.verification_slug, "known"),
    ):
        folders = [p for p in places(inputs, name) + places(inputs, slug) if (p / inside).is_dir()]
        if folders:
            found[name] = folders[0]
    return found
