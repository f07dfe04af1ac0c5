"""What this machine is and what follows from it: each answer is a value and a reason."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch

from facekit.errors import RecipeError
from facekit.profiles import get_profile


class Choice(NamedTuple):
    """A setting the kit chose by itself, and why."""

    value: Any
    reason: str


def device(wanted: str | None = None) -> Choice:
    """The device to compute on: `wanted`, else the first of CUDA, Apple's MPS, the processor."""
    if wanted:
        try:
            torch.empty(0, device=wanted)
        except (RuntimeError, AssertionError) as error:  # no such device, no driver, no CUDA build
            reason = str(error).splitlines()[0]
            raise RecipeError(f"device {wanted!r} cannot be used here: {reason}") from error
        return Choice(torch.device(wanted), "asked for")
    if torch.cuda.is_available():
        return Choice(torch.device("cuda"), torch.cuda.get_device_name(0))
    if torch.backends.mps.is_available():
        return Choice(torch.device("mps"), "Apple GPU")
    return Choice(torch.device("cpu"), f"no GPU here; {torch.get_num_threads()} threads")


def dtype(where: torch.device) -> Choice:
    """The number format of the forward pass on that device."""
    if where.type != "cuda":
        return Choice(torch.float32, f"plain arithmetic on {where.type}")
    if torch.cuda.get_device_capability(where) >= (8, 0):
        return Choice(torch.bfloat16, "this GPU multiplies bfloat16 natively")
    return Choice(torch.float32, "this GPU has no native bfloat16")


def workers(where: torch.device) -> Choice:
    """How many processes read images for the device."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if where.type != "cuda":
        return Choice(0, "training itself needs the processor")
    return Choice(min(cores or 1, 8), f"{cores} cores may read images")


def profile() -> Choice:
    """The profile: FACEKIT_PROFILE where it is set, else by the machine."""
    wanted = os.environ.get("FACEKIT_PROFILE")
    if wanted:
        return Choice(get_profile(wanted), "FACEKIT_PROFILE")
    if torch.cuda.is_available():
        return Choice(get_profile("gpu"), "there is a GPU")
    return Choice(get_profile("laptop"), "there is no GPU")


def workspace() -> Choice:
    """The folder that holds data/ and runs/: FACEKIT_HOME, else the checkout one works in."""
    wanted = os.environ.get("FACEKIT_HOME")
    if wanted:
        return Choice(Path(wanted), "FACEKIT_HOME")
    here = Path.cwd()
    if here.name == "notebooks":
        return Choice(here.parent, "the folder above notebooks/")
    return Choice(here, "the current folder")


def data() -> Choice:
    """The folder of the course's data, where no other is named."""
    return Choice(workspace().value / "data", "in the workspace")


def runs() -> Choice:
    """The folder of the runs: FACEKIT_RUNS (a mounted Drive, say), else runs/ in the workspace."""
    wanted = os.environ.get("FACEKIT_RUNS")
    if wanted:
        return Choice(Path(wanted), "FACEKIT_RUNS")
    return Choice(workspace().value / "runs", "in the workspace")
