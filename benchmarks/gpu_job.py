"""What all parts of `gpu.py` are given: device, sizes, time."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from machine import Report, Row
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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


class Traffic(TorchDispatchMode):
    """Inside, `bytes` grows by what each operation reads and writes."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if func.is_view or "empty" in name:
            return result
        picks = name in ("index", "index_select", "gather")  # which read no more than they write
        sides = [result, result] if picks else [args, kwargs, result]
        tensors = [leaf for leaf in tree_leaves(sides) if isinstance(leaf, torch.Tensor)]
        # An expanded tensor has more numbers than memory.
        self.bytes += sum(min(t.nbytes, t.untyped_storage().nbytes()) for t in tensors)
        return result


def bytes_moved(work: Callable[[], object], images: int) -> float:
    """Of an image, to and from memory, where no two operations share a pass over it."""
    with Traffic() as traffic:
        work()
    return traffic.bytes / images


def of_bandwidth(job: Job, moved: float, rate: float) -> Row:
    """A rate in images a second, as a share of what the memory's bandwidth allows."""
    row: Row = {"MB an image": moved / 1e6}
    if "bandwidth" in job.facts:
        row["% of bandwidth"] = 100 * moved * rate / job.facts["bandwidth"]
    return row
