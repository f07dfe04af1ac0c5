"""What the notebooks share: runs, recipes, the reader's own network. Built in notebook 04."""

import os
import shutil
from pathlib import Path
from typing import Any

from facekit import models
from facekit.common import machine, own, source
from facekit.common.errors import RecipeError
from facekit.common.files import write_whole
from facekit.common.lock import only_one
from facekit.course import starting_file
from facekit.data.layout import CourseData
from facekit.evaluation.embed import TrainedRun, load_run
from facekit.sources import profiles
from facekit.sources.manifest import made_for
from facekit.training.recipe import Recipe, for_profile
from facekit.training.recipe import load as load_recipe
from facekit.training.session import fit

NET = "Net"  # what the reader's class is called
ABOUT = '"""A network of my own, kept in notebook 03."""\n\n'


def course_run() -> Path:
    """The folder of the run that the notebooks share."""
    return machine.runs().value / "course"


def trained_run(data: CourseData) -> TrainedRun:
    """The network of that run, trained now where it is not yet."""
    fit(course_recipe(data), data, course_run())
    return load_run(course_run())


def fresh_run(name: str) -> Path:
    """An empty place beside it, for a run of a demonstration: what was there is removed.

    Raises RunError where another process trains there.
    """
    folder = machine.runs().value / name
    with only_one(folder):
        shutil.rmtree(folder, ignore_errors=True)
    return folder


def course_recipe(data: CourseData) -> str:
    """The recipe for this data: that of the profile it was made for, else of this machine."""
    return for_profile(made_for(data.root) or profiles.profile().value.name)


# ------------------------------------------------------------------ the reader's own network


def network_file() -> Path:
    """Where the reader's own network is kept between notebooks: mine.py in the workspace."""
    return machine.workspace().value.resolve() / "mine.py"


def keep_network(network: Any, data: CourseData) -> None:
    """Write a class Net of a notebook's cells, with what it needs, to `network_file`.

    The file is tried first with images of the course. Another text that was there before is kept
    as mine_1.py, mine_2.py and so on. Raises RecipeError for a class of another name, one without
    source, and one that does not work by itself; its text is then in mine_new.py.
    """
    if own.label(network) != NET:
        raise RecipeError(
            f"the network is called {own.label(network)}; call it {NET}, as notebooks 04 and 08 do"
        )
    text = source.source_of(network)
    if not text:
        raise RecipeError(
            f"the source of {NET} is not to be found; give the class, and define it in a cell that "
            "does not begin with %%"
        )
    file = network_file()
    new = file.with_name("mine_new.py")
    write_whole(new, f"{ABOUT}{text}\n".encode())
    size = load_recipe(course_recipe(data)).image_size
    models.build(f"{new}:{NET}", len(data.classes), size=size)
    _put_aside(file, new)
    os.replace(new, file)
    print(f"{NET} is kept in {file}")


def _put_aside(file: Path, new: Path) -> None:
    """Give a file that has another text than the new one the first name that is free."""
    if not file.exists() or file.read_bytes() == new.read_bytes():
        return
    number = 1
    while file.with_name(f"mine_{number}.py").exists():
        number += 1
    aside = file.with_name(f"mine_{number}.py")
    file.rename(aside)
    print(f"what was there before is now {aside}")


def own_network() -> str:
    """The network that is kept there, as `fit` takes it: FILE.py:NAME.

    Where nothing is kept, the network of `facekit new` is written there first.
    """
    file = network_file()
    if not file.exists():
        starting_file.write(file)
        print(f"{file}: a network to begin with, since none is kept by notebook 03 yet")
    return f"{file}:{NET}"


def own_run() -> Path:
    """The folder of that network's run: another source has another folder."""
    network = own.get(own_network())
    return machine.runs().value / f"mine-{source.digest_of(network)[:6]}"


def few_epochs(data: CourseData) -> Recipe:
    """The course's recipe in four epochs: enough to see whether a network learns."""
    return load_recipe(course_recipe(data), ["epochs=4", "warmup_epochs=1"])


def trained_own_run(data: CourseData) -> TrainedRun:
    """The reader's own network after these epochs, trained now where it is not yet."""
    fit(few_epochs(data), data, own_run(), network=own_network())
    return load_run(own_run())
