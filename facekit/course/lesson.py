"""What the notebooks share: a run, its recipe, places to try things. Built in notebook 04."""

import shutil
from pathlib import Path

from facekit.common import machine
from facekit.data.layout import CourseData
from facekit.sources import profiles
from facekit.submission.pipeline import made_for


def course_run() -> Path:
    """The folder of the run that the notebooks share."""
    return machine.runs().value / "course"


def fresh_run(name: str) -> Path:
    """An empty place beside it, for a run of a demonstration: what was there is removed."""
    folder = machine.runs().value / name
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def course_recipe(data: CourseData) -> str:
    """The recipe for this data: that of the profile it was made for, else of this machine."""
    return made_for(data.root) or profiles.profile().value.name
