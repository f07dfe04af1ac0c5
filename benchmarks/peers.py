"""The kit's recipe beside others for the same time, on made people and on photographs, in one run.

    python benchmarks/peers.py [--data laptop] [--data FOLDER] [--seeds 3] [--rows ours]

`--data`: a profile, which is rendered, or a course tree with answers, and with pairs/pairs.csv if
it has them. Contestants (contestants.py) take turns, seed after seed, each run in a process of its
own. Each has as many CPU seconds of its process as version 0.5's recipe takes there for its 45
epochs, or `--seconds`, from the first image that is read to the last epoch that is judged: two
epochs are timed before, and the number of epochs, with which the schedule ends, is fitted to them.
Or all have `--epochs`.

A contestant that may be trained in several ways is tried in each with the first seed; the way with
the best dev accuracy on the course stands in its row, and is the one the other seeds take. All are
judged alike (real_faces.py), by the image and its mirror image. Intervals of 95 % are Student's
over the seeds; of the agreement of two orders, see table.py. The same call goes on where an earlier
one stopped; more courses, rows and seeds may be added.
"""

import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from contestants import CONTESTANTS, LAPTOP_05, OURS, PACE, Clock
from machine import Report, Row, memory, one_line_for_errors, progress
from real_faces import FPIR, named_right, scores
from speedrun import interval, number
from table import agreement, open_course

from facekit.common.errors import DataError, RunError
from facekit.data.layout import CourseData
from facekit.sources.profiles import PROFILES
from facekit.training import recipe as recipes

COSTS = ("epochs", "CPU seconds", "wall seconds", "images/s", "MiB at most")
SCORES = ("classification", "verification", f"DIR at FPIR {FPIR:.0%}", "pairs AUC", "pairs EER")
SCORES += ("ten-fold accuracy",)
ORDERS = ("classification", "verification", "pairs AUC")
NEEDED = {"timm": "timm", "metric-learning": "pytorch_metric_learning"}  # by a name's first word


class Entry(NamedTuple):
    """One way to train one contestant on one course."""

    course: str
    contestant: str
    variant: str

    def row(self) -> Row:
        return self._asdict()

    def among(self, rows: Sequence[Row]) -> list[Row]:
        """Its own rows."""
        return [row for row in rows if row | self.row() == row]


# --- training


def alone(function: Callable, *arguments: Any) -> Any:
    """What a function gives in a process of its own, which has its own memory and CPU time."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def timing(entry: Entry, root: Path, threads: int) -> Row:
    """CPU seconds of an epoch, the second of two, and of what is done once."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        train(entry, root, 2, 0, threads, Path(scratch), clock)
    first, second = clock.ends
    each = second - first
    return entry.row() | {"seconds once": max(0.0, first - each), "seconds an epoch": each}


def train(
    entry: Entry, root: Path, epochs: int, seed: int, threads: int, scratch: Path, clock: Clock
) -> Any:
    torch.set_num_threads(threads)
    os.environ["FACEKIT_CACHE"] = str(scratch / "cache")  # every run decodes for itself
    trainer = CONTESTANTS[entry.contestant][entry.variant]
    return trainer(CourseData(root), epochs, seed, scratch / "run", clock)


def one_run(entry: Entry, root: Path, epochs: int, seed: int, threads: int) -> Row:
    """Train and score; a run whose loss is no number any more has no scores."""
    row, clock, wall = entry.row() | {"seed": seed, "epochs": epochs}, Clock(), time.perf_counter()
    data = CourseData(root)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            trained = train(entry, root, epochs, seed, threads, Path(scratch), clock)
        except RunError as error:
            return row | {"ended": str(error)}
        row |= {"CPU seconds": clock.ends[-1], "wall seconds": time.perf_counter() - wall}
        row |= {"images/s": epochs * len(data.train) / clock.ends[-1]}
        row |= {"MiB at most": memory("VmHWM"), "dev": trained.dev}
        row["classification"] = named_right(data, trained.classify(data.test.paths))
        return row | scores(data, trained.embed)


def epochs_within(seconds: float | None, of: Row, pace: Row) -> int:
    """How many epochs fit into these CPU seconds, or else into those of version 0.5's recipe."""
    if seconds is None:
        whole = recipes.load(LAPTOP_05).epochs
        seconds = pace["seconds once"] + whole * pace["seconds an epoch"]
    return max(1, round((seconds - of["seconds once"]) / of["seconds an epoch"]))


def plan(report: Report, entry: Entry, root: Path, threads: int, seconds: float | None) -> int:
    """An entry's number of epochs, once it is timed and the timing is in the report."""
    timed = report.rows("timing")
    pace = Entry(entry.course, PACE, next(iter(CONTESTANTS[PACE])))
    for each in (pace, entry):
        if not each.among(timed):
            progress(f"{', '.join(each)}: timing")
            timed.append(alone(timing, each, root, threads))
            report.table("timing", timed)
    return epochs_within(seconds, entry.among(timed)[0], pace.among(timed)[0])


# --- what the runs say


def finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if np.isfinite(value)]


def values_of(runs: Sequence[Row], key: str) -> list[float]:
    """A score, or whatever it is, of each run that has it."""
    return finite(number(run.get(key)) for run in runs)


def mean_of(runs: Sequence[Row], key: str) -> float:
    """NaN where no run has it."""
    found = values_of(runs, key)
    return float(np.mean(found)) if found else float("nan")


def way(runs: Sequence[Row], entry: Entry) -> str:
    """The variant of this contestant that was best on this course's dev images, by seed 0."""
    same = (entry.course, entry.contestant, 0)
    mine = [run for run in runs if (run["course"], run["contestant"], run["seed"]) == same]
    return max(mine, key=lambda run: np.nan_to_num(number(run.get("dev"))))["variant"]


def groups(runs: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Of each course and contestant the runs in the way that is best on dev."""
    found: dict[tuple[str, str], list[Row]] = {}
    for run in runs:
        entry = Entry(run["course"], run["contestant"], run["variant"])
        if entry.variant == way(runs, entry):
            found[entry[:2]] = entry.among(runs)
    return found


def with_half(name: str, values: Sequence[float]) -> Row:
    """A mean, and half of its interval."""
    told = interval(values)
    return {name: told["mean"], f"{name} ±": (told["to"] - told["from"]) / 2}


def summary(runs: Sequence[Row]) -> list[Row]:
    """A row for each course and contestant: means over the seeds."""
    rows = []
    for (course, contestant), mine in groups(runs).items():
        row = {"course": course, "contestant": contestant, "variant": mine[0]["variant"]}
        row |= {"seeds": len(mine)} | {key: mean_of(mine, key) for key in (*COSTS, "dev")}
        for key in SCORES:
            values = values_of(mine, key)
            row |= with_half(key, values) if values else {}
        rows.append(row)
    return rows


def against_ours(runs: Sequence[Row]) -> list[Row]:
    """What each contestant is better by than ours, over the seeds that both have."""
    found = groups(runs)
    rows = []
    for (course, contestant), mine in found.items():
        ours = {run["seed"]: run for run in found.get((course, OURS), [])}
        row = {"course": course, "contestant": contestant}
        for key in SCORES:
            pairs = [(run.get(key), ours.get(run["seed"], {}).get(key)) for run in mine]
            each = finite(number(theirs) - number(own) for theirs, own in pairs)
            row |= with_half(key, each) if each else {}
        if contestant != OURS and len(row) > 2:
            rows.append(row)
    return rows


def orders(runs: Sequence[Row]) -> list[Row]:
    """How far the contestants' orders agree: of two courses, and of two seeds on one."""
    found = groups(runs)
    courses = list(dict.fromkeys(run["course"] for run in runs))
    seeds = sorted({run["seed"] for run in runs})
    whole = [(course, course, seeds) for course in courses]  # what it is called, and which runs
    pairs = list(combinations(whole, 2))
    for course in courses:
        pairs += combinations([(f"{course} seed {seed}", course, [seed]) for seed in seeds], 2)
    names = list(dict.fromkeys(run["contestant"] for run in runs))
    rows = []
    for key in ORDERS:
        for pair in pairs:
            table = np.array([standing(found, names, *of, key) for _, *of in pair])
            both = table[:, np.isfinite(table).all(0)]
            if both.shape[1] >= 3:
                told = ", ".join(title for title, *_ in pair)
                rows.append({"of": key, "orders": told} | agreement(*both))
    return rows


def standing(found: dict, names: list[str], course: str, seeds: list[int], key: str) -> list:
    """A score of each contestant, the mean over these seeds."""
    runs = [found.get((course, name), []) for name in names]
    return [mean_of([run for run in mine if run["seed"] in seeds], key) for mine in runs]


# --- the command


def open_all(data: Sequence[str], place: Path) -> dict[str, CourseData]:
    """The courses by name. DataError for two of one name, or one without answers."""
    courses = {}
    for text in data:
        name = text if text in PROFILES else Path(text).resolve().name
        if name in courses:
            raise DataError(f"{name}: two courses of one name; rename a folder")
        rendered = text in PROFILES
        courses[name] = open_course(None if rendered else Path(text), text, place / name)
        if courses[name].answers is None:
            raise DataError(f"{text}: has no answers, by which runs are scored")
    return courses


def note_courses(report: Report, courses: dict[str, CourseData]) -> None:
    """Put them into the report. DataError for one that is another there."""
    rows = {row["course"]: row for row in report.rows("courses")}
    for name, of in courses.items():
        row = {"course": name, "classes": len(of.classes)}
        row |= {"train": len(of.train), "dev": len(of.dev)}
        if rows.setdefault(name, row) != row:
            raise DataError(f"{report.path} is of another course {name}; choose another --out")
    report.table("courses", list(rows.values()))


def check_names(rows: Sequence[str]) -> None:
    """Raise DataError for a contestant that there is not, or that lacks its library."""
    for name in rows:
        if name not in CONTESTANTS:
            raise DataError(f"no contestant {name!r}; there are: {', '.join(CONTESTANTS)}")
        library = NEEDED.get(name.split()[0])
        if library and importlib.util.find_spec(library) is None:
            package = library.replace("_", "-")
            raise DataError(f"{name}: pip install {package}, or name others by --rows")


def main(
    data: Annotated[list[str], typer.Option()] = ["laptop"],  # noqa: B006
    seeds: int = 3,
    seconds: float | None = None,
    epochs: int | None = None,
    rows: Annotated[list[str], typer.Option()] = list(CONTESTANTS),  # noqa: B006
    threads: int = 1,
    work: Path | None = None,
    out: Path | None = None,
) -> None:
    """Train the runs that the report lacks, and say what they tell."""
    report = Report("peers", out, seconds=seconds, epochs=epochs, threads=threads)
    with tempfile.TemporaryDirectory() as scratch, one_line_for_errors():
        check_names(rows)
        courses = open_all(data, work or Path(scratch))
        report.go_on()
        note_courses(report, courses)
        runs = report.rows("runs")
        turns = [
            (seed, Entry(course, name, variant))
            for seed in range(seeds)
            for course in courses
            for name in rows
            for variant in CONTESTANTS[name]
        ]
        for seed, entry in turns:
            done = any(row["seed"] == seed for row in entry.among(runs))
            if done or (seed > 0 and entry.variant != way(runs, entry)):
                continue
            root = courses[entry.course].root
            many = epochs or plan(report, entry, root, threads, seconds)
            progress(f"{', '.join(entry)}, seed {seed}: {many} epochs")
            runs.append(alone(one_run, entry, root, many, seed, threads))
            report.table("runs", runs)
        tables = {"summary": summary(runs), "against ours": against_ours(runs)}
        for title, found in (tables | {"agreement of orders": orders(runs)}).items():
            report.table(title, found)


if __name__ == "__main__":
    typer.run(main)
