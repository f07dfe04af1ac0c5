"""How long a recipe takes to an accuracy, and what the finished run scores.

    python benchmarks/speedrun.py [--recipe laptop] [--recipe "laptop lr=1e-3"] [--target 0.7]

Recipes take turns, seed after seed, on one course (of `--profile`, rendered unless `--data` has
it); a recipe is a name or a TOML file, and changes to it may follow. Seconds count from the first
step to the end of the epoch whose dev accuracy first reaches the target, judging and saving
included. A finished run is scored against the answers as in real_faces.py: by the threshold that
is chosen on the dev probes, which should gain over refusing nobody. Runs that stand in the file of
an earlier call are not made again, so a call that was stopped goes on, and rivals can be added.
"""

import math
import os
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import real_faces
import torch
import typer
from machine import Report, Row, one_line_for_errors, processor, progress
from real_faces import named_right
from scipy import stats
from table import open_course

from facekit import training
from facekit.data.layout import CourseData
from facekit.evaluation.embed import classify, embed, load_run
from facekit.training import recipe as recipes
from facekit.training.callbacks import Callback
from facekit.training.run import Run

NOT_OF_ALL = ("recipe", "seed", "seconds", "CPU seconds", "epochs", "machine")  # no median


class Clock(Callback):
    """Seconds from the first step to the end of each epoch."""

    def __init__(self, target: float) -> None:
        self.target = target
        self.began: tuple[float, float] | None = None
        self.reached: Row = {"seconds": None, "CPU seconds": None, "epochs": None}

    def before_epoch(self, run: Run) -> None:
        self.began = self.began or (time.perf_counter(), time.process_time())

    def after_epoch(self, run: Run, row: dict) -> None:
        wall, cpu = time.perf_counter() - self.began[0], time.process_time() - self.began[1]
        if row["dev_accuracy"] >= self.target and self.reached["seconds"] is None:
            self.reached = {"seconds": wall, "CPU seconds": cpu, "epochs": row["epoch"]}
        self.whole: Row = {"seconds in all": wall, "epochs in all": row["epoch"]}


def one_run(recipe: str, seed: int, data: CourseData, target: float, out: Path) -> Row:
    """Train to the end, and score."""
    clock = Clock(target)
    name, *changes = recipe.split()
    settings = recipes.load(name, [*changes, f"seed={seed}"])
    history = training.fit(settings, data, out, "cpu", progress=False, callbacks=[clock])
    best = max(row["dev_accuracy"] for row in history.rows)
    row = {"recipe": recipe, "seed": seed} | clock.reached | clock.whole | {"dev": best}
    return row | scores(out, data) | {"machine": machine()}


def machine() -> str:
    """What seconds depend on."""
    return f"{processor()}, {os.cpu_count()} cores, threads {torch.get_num_threads()}"


def scores(out: Path, data: CourseData) -> Row:
    """What the finished run says of the test images and of both sets of probes."""
    run = load_run(out)
    row = {"classification": named_right(data, classify(run, data.test.paths))}
    return row | real_faces.scores(data, lambda paths: embed(run, paths))


def number(value: float | None) -> float:
    """A figure of a row; a file has nothing for NaN."""
    return float("nan") if value is None else value


def summary(rows: list[Row]) -> list[Row]:
    """Of each recipe: medians over the seeds, and the least and most of the seconds."""
    found = []
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        mine = [row for row in rows if row["recipe"] == recipe]
        seconds = [row["seconds"] for row in mine if row["seconds"] is not None]
        told: Row = {"recipe": recipe, "seeds": len(mine), "reached": len(seconds)}
        if seconds:
            told |= {"seconds": median(seconds), "from": min(seconds), "to": max(seconds)}
            told["CPU seconds"] = median(row["CPU seconds"] for row in mine if row["seconds"])
        for key in mine[0]:
            if key not in NOT_OF_ALL:
                told[key] = median(number(row[key]) for row in mine)
        found.append(told)
    return found


def differences(rows: list[Row]) -> list[Row]:
    """Of each recipe but the first: what it is better by on the same seeds, with its interval.

    A mean over the seeds and Student's interval of 95 %, which supposes that seeds draw
    differences from one normal distribution.
    """
    first, *others = dict.fromkeys(row["recipe"] for row in rows)
    base = {row["seed"]: row for row in rows if row["recipe"] == first}
    found = []
    for recipe in others:
        mine = [row for row in rows if row["recipe"] == recipe and row["seed"] in base]
        for key in (key for key in rows[0] if key not in (*NOT_OF_ALL, "epochs in all")):
            each = [number(row[key]) - number(base[row["seed"]][key]) for row in mine]
            told = {"recipe": recipe, "of": key, **interval(each)}
            found.append(told | {"seeds": len(each)})
    return found


def interval(values: Sequence[float]) -> Row:
    """The mean, and Student's interval of 95 % where there are two values or more."""
    mean, half = float(np.mean(values)), math.nan
    if len(values) > 1:
        half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return {"mean": mean, "from": mean - half, "to": mean + half}


def main(
    recipe: Annotated[list[str], typer.Option()] = ["laptop"],  # noqa: B006
    profile: str = "laptop",
    target: float = 0.7,
    seeds: int = 5,
    threads: int = 1,
    data: Path | None = None,
    work: Path | None = None,
    out: Path | None = None,
) -> None:
    """Seconds to a dev accuracy, and scores, of recipes side by side."""
    torch.set_num_threads(threads)
    same = {"profile": str(data or profile), "target": target, "threads": threads}
    report = Report("speedrun", out, **same)
    with tempfile.TemporaryDirectory() as scratch, one_line_for_errors():
        report.go_on()
        rows = report.rows("runs")
        place = work or Path(scratch)
        course = open_course(data, profile, place)
        for seed in range(seeds):
            for name in recipe:
                if any((row["recipe"], row["seed"]) == (name, seed) for row in rows):
                    continue
                progress(f"{name}, seed {seed}")
                folder = place / "runs" / f"{re.sub(r'[^a-z0-9]+', '-', name)}-{seed}"
                rows.append(one_run(name, seed, course, target, folder))
                report.table("runs", rows)
        report.table("summary", summary(rows))
        report.table("against the first", differences(rows))


if __name__ == "__main__":
    typer.run(main)
