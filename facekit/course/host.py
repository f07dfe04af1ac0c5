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

DRIVE = Path("/content/drive")  # where Colab mounts it
KAGGLE = Path("/kaggle")
SCRATCH = Path("/tmp/facekit-cache")  # not saved with a Kaggle notebook's version
# Ours to add where a host lacks them, by the module that one imports. All else a host has, or has
# not: another torch or NumPy would break what it ships.
SMALL = {
    "opencv-python-headless": "cv2",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "tqdm": "tqdm",
    "typer": "typer",
}
_began = time.monotonic()


def start(drive: bool = False) -> None:
    """Begin a notebook: the first cell of each calls this. Says where we are, in three lines.

    `drive`: on Colab, mount your Drive and copy every state of a run there, so that a new session
    goes on from it. On Kaggle, runs and competition data that are attached as input are taken up.

    Raises FacekitError when the Drive, or a package that the host lacks, cannot be had.
    """
    global _began
    _began = time.monotonic()
    where = find()
    more = Choice("", "")
    share_kit()
    if where.value in ("Colab", "Kaggle"):
        fetch(missing())
    if where.value == "Colab":
        more = on_colab(drive)
    elif where.value == "Kaggle":
        more = on_kaggle()
    print("\n".join(lines(where, more)))


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


def on_colab(drive: bool) -> Choice:
    """Keep copies of the runs on the Drive, if that is asked for; words on data and on runs."""
    if not drive:
        lost = "lost with the session; host.start(drive=True) keeps copies on your Drive"
        return Choice("", lost if machine.mirror().value is None else "copied to FACEKIT_MIRROR")
    mount()
    # A session without a GPU has other data and another recipe: it must not meet the same run.
    copies = DRIVE / "MyDrive" / "facekit-runs" / profiles.profile().value.name
    try:
        copies.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FacekitError(f"{copies}: cannot be made ({error.strerror})") from error
    os.environ.setdefault("FACEKIT_MIRROR", str(copies))
    told = f"copied to {machine.mirror().value}: a new session goes on from there"
    return Choice("", told)


def mount() -> None:
    """Mount the student's Drive. Raises FacekitError where it is refused or does not come."""
    from google.colab import drive

    try:
        drive.mount(str(DRIVE))
    except Exception as error:  # its own kinds of error, which have changed
        raise FacekitError(
            f"the Drive was not mounted ({error}); run this cell again and allow it, or call "
            "host.start() without it: runs are then lost with the session"
        ) from error
    if not (DRIVE / "MyDrive").is_dir():
        raise FacekitError(f"{DRIVE}: the Drive is mounted and holds no MyDrive; mount it again")


# --- Kaggle


def on_kaggle() -> Choice:
    """Work in /kaggle/working with what is attached as input; words on data and on runs."""
    os.environ.setdefault("FACEKIT_HOME", str(KAGGLE / "working"))
    os.environ.setdefault("FACEKIT_CACHE", str(SCRATCH))
    data = link_data(KAGGLE / "input", machine.data().value)
    copied = copy_runs(KAGGLE / "input", machine.runs().value)
    again = "kept by Save Version; attach that output to a later version to go on"
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
