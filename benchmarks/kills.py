"""Runs that are killed at random moments, started again, and compared with one that was not.

    python benchmarks/kills.py [--runs 200] [--workers 0 --workers 2] [--seed 0] [--out FILE]

Each run trains a tiny network on a tiny rendered course and saves its state after every step. Its
process gets SIGKILL after a random part of the time that an undisturbed run takes, starting and
saving included, and is started again until the run is done. Processes are forked from one that has
imported everything, so that hundreds take minutes.
"""

import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Annotated

import torch
import typer
from machine import Report, steps

from facekit import training
from facekit.common.errors import RunError
from facekit.data.layout import CourseData
from facekit.models import weights
from facekit.models.weights import digest
from facekit.sources import set_up
from facekit.sources.profiles import Profile
from facekit.training import recipe as recipes
from facekit.training.checkpoint import Checkpoints

COURSE = Profile("kills", 6, 6, 2, 2, known=9, unknown_dev=9, unknown_test=18, pixels=32)
SETTINGS = ["epochs=2", "batch_size=8", "image_size=32", "warmup_epochs=1", "ema_decay=0.9"]
STARTS = 200  # of one run; more means that it does not get on


def start(data: CourseData, out: Path, workers: int, log: Path) -> int:
    """Train in a process of its own, saying what it says into a file: its id."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        torch.set_num_threads(1)  # makes the pool that the fork lost, before threads race for it
        recipe = recipes.load("smoke", SETTINGS)
        options = {"device": "cpu", "progress": False, "workers": workers, "save_minutes": 0}
        training.fit(recipe, data, out, **options)
        status = 0
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(status)


def wait(process: int, seconds: float | None = None) -> int | None:
    """The exit status of a process, negative for a signal; None if it is still running then."""
    end = time.monotonic() + (seconds or 1e9)
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def final(out: Path) -> str:
    """The digest of all that a run ended with: the newest state, the best network, the curves."""
    state = Checkpoints(out, warn=lambda text: None).load_latest()
    if not (state and state["progress"]["done"]):
        return "not done"
    best = weights.load(out / "best.pt")
    for each in (state, best):
        del each["run"]  # the identity, which each run draws for itself
    return digest([state, best, (out / "history.csv").read_text()])


def damaged(out: Path) -> int:
    """How many of a run's files, as a kill left them, cannot be loaded."""
    count = 0
    for path in [*out.glob("step-*.pt"), *out.glob("best.pt")]:
        try:
            weights.load(path)
        except RunError:
            count += 1
    return count


def disturbed(
    data: CourseData, out: Path, workers: int, seconds: float, random: Random, log: Path
) -> Counter:
    """Kill a run and start it again until it is done: what happened."""
    counts = Counter()
    for _ in range(STARTS):
        process = start(data, out, workers, log)
        status = wait(process, random.uniform(0, seconds))
        if status is None:
            os.kill(process, signal.SIGKILL)
            status = wait(process)
        if status == 0:
            return counts
        if status != -signal.SIGKILL:
            raise RuntimeError(f"a start ended with status {status}: {log.read_text()[-2000:]}")
        counts["kills"] += 1
        counts["before the first state"] += not Checkpoints(out).paths()
        counts["half files"] += len(list(out.glob(".*.part")))
        counts["bad files"] += damaged(out)
    return counts


def reference(data: CourseData, work: Path, workers: int) -> tuple[str, float]:
    """The digest of an undisturbed run and the seconds that it takes."""
    out, log = work / f"reference-{workers}", work / "log.txt"
    began = time.monotonic()
    if wait(start(data, out, workers, log)):
        raise RuntimeError(f"the undisturbed run failed: {log.read_text()[-2000:]}")
    return final(out), time.monotonic() - began


def measure(
    data: CourseData, work: Path, runs: int, workers: int, seed: int, whole: tuple[str, float]
) -> dict:
    """All runs with so many workers, beside the whole run and the seconds that it took."""
    random, counts = Random(1000 * seed + workers), Counter()
    for number in steps(range(runs), f"{workers} workers"):
        out, log = work / f"{workers}-{number}", work / f"{workers}-{number}.txt"
        counts += disturbed(data, out, workers, whole[1], random, log)
        counts["equal"] += final(out) == whole[0]
        shutil.rmtree(out)
    row = {"workers": workers, "s undisturbed": whole[1], "runs": runs, "kills": counts["kills"]}
    for name in ("before the first state", "half files", "bad files"):
        row[name] = counts[name]
    good = counts["equal"] == runs and not counts["bad files"]
    return row | {"equal to the bit": counts["equal"], "verdict": "PASS" if good else "missed"}


def main(
    runs: Annotated[int, typer.Option(help="For each number of workers.")] = 200,
    workers: Annotated[list[int], typer.Option()] = [0, 2],  # noqa: B006
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Kill, start again, compare."""
    torch.set_num_threads(1)
    report = Report("kills", out, runs=runs, workers=workers, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ["FACEKIT_CACHE"] = str(work / "cache")  # filled by the first run
        data = set_up("synthetic", COURSE, work / "data", progress=False)
        wholes = {each: reference(data, work, each) for each in dict.fromkeys((0, *workers))}
        report.note(
            f"undisturbed runs that differ: {len({first for first, _ in wholes.values()}) - 1}"
        )
        rows = [measure(data, work, runs, each, seed, wholes[each]) for each in workers]
    report.table("kills", rows)


if __name__ == "__main__":
    typer.run(main)
