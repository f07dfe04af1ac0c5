"""The photographs of Labelled Faces in the Wild. Built in notebook 01."""

from pathlib import Path

from facekit.common import machine
from facekit.common.errors import DataError
from facekit.common.lock import only_one

IMAGES = 13_233
EDGE = 0.2  # of each side, cut off: the face is in the middle of the photograph


def fetch() -> Path:
    """The folder of the photographs, a folder for each person, in the cache.

    Fetched by scikit-learn's loader where they are not there yet (about 200 MB). They are
    published for research. Raises DataError that says what to do when they cannot be had.
    """
    from sklearn.datasets import fetch_lfw_people  # which a bare GPU machine lacks

    home = machine.cache().value / "lfw"
    folder = home / "lfw_home" / "lfw_funneled"
    try:
        with only_one(home, wait=True):
            fetch_lfw_people(data_home=str(home), resize=0.04)
    except OSError as error:  # URLError is one
        raise DataError(
            f"{home}: cannot fetch Labelled Faces in the Wild ({str(error).splitlines()[0]}); look "
            f"after the network, or put lfw-funneled.tgz and its three lists into {folder.parent}"
        ) from error
    found = sum(1 for _ in folder.glob("*/*.jpg"))
    if found != IMAGES:
        raise DataError(
            f"{folder}: {found:,} photographs of {IMAGES:,}; delete {home} to fetch them anew"
        )
    return folder
