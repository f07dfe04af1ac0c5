"""How much data: four sizes of the same course, in one table. Built in notebook 01."""

import os
from dataclasses import dataclass

import torch

from facekit.common.errors import RecipeError
from facekit.common.machine import Choice


@dataclass(frozen=True)
class Profile:
    """The size of a course. One ninth of the unknown faces match nobody, as in the homework."""

    name: str
    classes: int  # identities to classify
    train: int  # images of each class
    dev: int
    test: int
    known: int  # identities with one gallery image
    unknown_dev: int  # probe images with truth
    unknown_test: int  # probe images without
    pixels: int  # side of a square image
    difficulty: str = "homework"  # how far rendered shots of one person differ


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("smoke", 16, 12, 3, 3, 24, 18, 36, pixels=48, difficulty="easy"),
        Profile("laptop", 300, 8, 2, 2, 96, 360, 360, pixels=96, difficulty="easy"),
        Profile("gpu", 1000, 20, 5, 5, 960, 360, 720, pixels=112),
        Profile("homework", 7001, 20, 5, 5, 960, 360, 720, pixels=224),
    )
}


def get_profile(name: str) -> Profile:
    """The profile of this name. Raises RecipeError that lists the names there are."""
    if name not in PROFILES:
        raise RecipeError(f"no profile {name!r}; choose one of: {', '.join(PROFILES)}")
    return PROFILES[name]


def profile() -> Choice:
    """The profile to work with: FACEKIT_PROFILE where it is set, else by the machine."""
    wanted = os.environ.get("FACEKIT_PROFILE")
    if wanted:
        return Choice(get_profile(wanted), "FACEKIT_PROFILE")
    if torch.cuda.is_available():
        return Choice(get_profile("gpu"), "there is a GPU")
    return Choice(get_profile("laptop"), "there is no GPU")
