"""What the kit finds on this machine and what it makes of it."""

import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import torch

import facekit
from facekit.common import machine
from facekit.common.errors import DataError, FacekitError
from facekit.common.machine import Choice
from facekit.data.loader import choose_workers
from facekit.data.pairs import open_data
from facekit.data.pixels import choose_storage, side_to_crop
from facekit.sources import credentials, profiles
from facekit.sources.profiles import PROFILES, Profile
from facekit.training.recipe import for_profile
from facekit.training.recipe import load as load_recipe

PACKAGES = ("torch", "torchvision", "numpy", "pandas", "matplotlib", "pillow", "scikit-learn")
NOTEBOOK_PACKAGES = ("jupyterlab", "ipywidgets", "ipykernel", "nbval", "kaggle")


def examine(data: Path | None = None) -> dict[str, Choice]:
    """Everything worth knowing before asking for help, each as a value and a reason."""
    device = machine.device().value
    profile, why = profiles.profile()
    return {
        "facekit": Choice(facekit.__version__, str(Path(facekit.__file__).parent)),
        "python": Choice(".".join(map(str, sys.version_info[:3])), sys.executable),
        **{name: _installed(name) for name in PACKAGES},
        **{name: _installed(name) for name in NOTEBOOK_PACKAGES},
        "device": machine.device(),
        "precision": machine.precision(device),
        "threads": Choice(torch.get_num_threads(), "torch's own choice or OMP_NUM_THREADS"),
        "workers": choose_workers("memmap", device),
        **{f"images-{p.name}": _images(p, device) for p in (profile, PROFILES["homework"])},
        "cache": machine.cache(),
        "workspace": machine.workspace(),
        "runs": machine.runs(),
        "kaggle-login": _login(),
        "profile": Choice(profile.name, why),
        "data": _data(data or machine.data().value),
    }


def _images(profile: Profile, device: torch.device) -> Choice:
    """Where a profile's decoded images would be kept at its recipe's size, and why."""
    size = load_recipe(for_profile(profile.name)).image_size
    side = side_to_crop(profile.pixels, size)
    train, dev = profile.classes * profile.train, profile.classes * profile.dev
    kept = choose_storage(train, side, device)
    also = choose_storage(dev, size, device)
    told = f"{train:,} to train on, {side} px: {kept.reason}; {dev:,} dev, {size} px: {also.value}"
    return Choice(kept.value, f"{told}, {also.reason}")


def _installed(name: str) -> Choice:
    try:
        found = version(name)
    except PackageNotFoundError:
        return Choice("none", "not installed")
    least = _asked_for().get(name, "0")
    if _numbers(found) < _numbers(least):
        install = "pip install -U"
        if found.endswith("+cpu"):  # pip would bring CUDA, and 4 GB
            install = "uv pip install -U --torch-backend cpu"
        return Choice(found, f"too old: facekit asks for {least} or later; {install} {name}")
    return Choice(found, "installed")


def _asked_for() -> dict[str, str]:
    """The least version of each package; none where facekit itself is not installed."""
    try:
        asked = requires(facekit.DISTRIBUTION) or []
    except PackageNotFoundError:
        return {}
    pattern = re.compile(r"([\w.-]+).*?>=([\d.]+)")
    return dict(found.groups() for found in map(pattern.match, asked) if found)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def _login() -> Choice:
    """Which kind of credentials there is for Kaggle, and where; never what they are."""
    try:
        found = credentials.find()
    except (FacekitError, OSError) as error:
        return Choice("not usable", str(error))
    if found is None:
        return Choice("none", "submit --kaggle and data --source kaggle need KAGGLE_API_TOKEN")
    return Choice(found.kind, found.place)


def _data(root: Path) -> Choice:
    """A word on the data; every split is read, so half a data folder is noticed here."""
    try:
        data = open_data(root)
        counts = ", ".join(f"{part} {len(getattr(data, part))}" for part in data.PARTS[1:])
    except DataError as error:
        return Choice("not usable", str(error))
    return Choice(f"{len(data.classes)} classes", f"{root}: {counts}")
