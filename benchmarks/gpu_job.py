"""What all parts of `gpu.py` are given: device, sizes, time."""

import gc
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from machine import Report, Row

from facekit.data.layout import CourseData
from facekit.sources import set_up
from facekit.sources.profiles import Profile

CLASSES = 7001  # of the homework
IMAGES = 20 * CLASSES
DEV_IMAGES = 5 * CLASSES
COURSE = Profile("check", 6, 6, 2, 2, known=9, unknown_dev=9, unknown_test=18, pixels=32)


@dataclass
class Job:
    """One run of `gpu.py`."""

    device: torch.device
    report: Report
    tiny: bool  # toy sizes
    ends: float  # of time.monotonic()
    folder: Path  # for whatever is written, removed at the end
    facts: dict[str, Any] = field(default_factory=dict)  # what one part tells a later one

    @property
    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()

    def size(self, whole: int, toy: int) -> int:
        return toy if self.tiny else whole

    def course(self) -> CourseData:
        """36 rendered pictures to train on, of six people."""
        return set_up("synthetic", COURSE, self.folder / "course", progress=False)


def give_back(job: Job) -> None:
    """Memory of the last run, which torch keeps for the next, counts as taken."""
    gc.collect()
    if job.device.type == "cuda":
        torch.cuda.empty_cache()


def of_bandwidth(job: Job, moved: float, rate: float) -> Row:
    """A rate in images a second, as a share of what the memory's bandwidth allows."""
    row: Row = {"MB an image": moved / 1e6}
    if "bandwidth" in job.facts:
        row["% of bandwidth"] = 100 * moved * rate / job.facts["bandwidth"]
    return row
