"""What the notebooks share: a run, its recipe, places to try things. Built in notebook 04."""

import shutil
from pathlib import Path

from facekit.common import machine
from facekit.data.layout import CourseData
from facekit.evaluation.embed import TrainedRun, load_run
from facekit.sources import profiles
from facekit.submission.pipeline import made_for
from facekit.training.session import fit


def course_run() -> Path:
    """The folder of the run that the notebooks share."""
    return machine.runs().value / "course"


def trained_run(data: CourseData) -> TrainedRun:
    """The network of that run, trained now where it is not yet."""
    fit(course_recipe(data), data, course_run())
    return load_run(course_run())


def fresh_run(name: str) -> Path:
    """An empty place beside it, for a run of a demonstration: what was there is removed."""
    folder = machine.runs().value / name
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def course_recipe(data: CourseData) -> str:
    """The recipe for this data: that of the profile it was made for, else of this machine."""
    return made_for(data.root) or profiles.profile().value.name
