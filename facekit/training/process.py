"""Training in a process of its own, so that one can watch it or kill it. Used in notebook 04."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import facekit
from facekit.data.layout import CourseData
from facekit.training.checkpoint import Checkpoints


def start_process(
    recipe: str, data: CourseData, out: Path, changes: Sequence[str] = ()
) -> subprocess.Popen:
    """`facekit train`, with `changes` as its `--set key=value`."""
    command = [sys.executable, "-m", "facekit", "train", recipe]
    command += ["--data", str(data.root), "--term", data.term.name, "--out", str(out)]
    command += [f"--set={change}" for change in changes]
    # Found like this package, and with as many threads: sums would be added in another order.
    paths = [str(Path(facekit.__file__).parents[1])]
    if os.environ.get("PYTHONPATH"):
        paths.append(os.environ["PYTHONPATH"])
    settings = {"PYTHONPATH": os.pathsep.join(paths)}
    settings["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | settings)


def wait_for_state(process: subprocess.Popen, out: Path) -> None:
    """Wait until the process has saved a state of its run, or has ended."""
    while process.poll() is None and not Checkpoints(out).paths():
        time.sleep(0.02)
