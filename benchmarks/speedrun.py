"""How long a recipe takes to an accuracy, and what the finished run scores.

    python benchmarks/speedrun.py [--recipe laptop] [--recipe "laptop lr=1e-3"] [--target 0.7]

Recipes take turns, seed after seed, on one course (of `--profile`, rendered unless `--data` has
it); a recipe is a name or a TOML file, and changes to it may follow. Seconds count from the first
step to the end of the epoch whose dev accuracy first reaches the target, judging and saving
included. A finished run is scored as a student's is: both submissions against the answers, and how
much the threshold gains over refusing nobody. Runs that stand in the file of an earlier call are
not made again, so a call that was stopped goes on, and rivals can be added.
"""

import json
import os
import re
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer
from machine import RESULTS, Report, Row, one_line_for_errors, processor, progress
from real_faces import FPIR, REFUSE_NOBODY
from scipy import stats
from table import open_course

from facekit import training
from facekit.common import files
from facekit.common.errors import DataError
from facekit.data.layout import CourseData
from facekit.evaluation import identification, verification
from facekit.evaluation.embed import embed, load_run
from facekit.submission import pipeline
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
    """Accuracy of both submissions; what the threshold gains; errors over all people."""
    run = load_run(out)
    found = pipeline.scores(pipeline.write_submissions(run, data), data)
    dev = pipeline.verify_dev(run, data)
    answers = files.read_table(data.answers.verification, ["label"])["label"]
    of_test = identification.truth_indices(answers, dev.identities)
    evidence = dev.evidence.with_probes(embed(run, data.unknown_test.paths))
    test_scores = dev.judge(evidence)
    accepted = identification.accuracy(test_scores, of_test, REFUSE_NOBODY)
    # Over the probes of dev and test together: dev alone has too few strangers.
    similar = np.concatenate([dev.scores, test_scores])
    truth = np.concatenate([dev.truth, of_test])
    rate = float("nan")
    with suppress(DataError):  # too few strangers
        rate = identification.dir_at_fpir(similar, truth, FPIR).dir
    return found | {
        "gain of the threshold": found["verification"] - accepted,
        f"DIR at FPIR {FPIR:.0%}": rate,
        "EER": verification.eer(*verification.all_pairs(similar, truth))[0],
    }


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
            low, high = (
                stats.ttest_1samp(each, 0.0).confidence_interval() if each[1:] else (None,) * 2
            )
            told = {"mean": float(np.mean(each)), "from": low, "to": high, "seeds": len(each)}
            found.append({"recipe": recipe, "of": key} | told)
    return found


def earlier(path: Path, arguments: Row) -> list[Row]:
    """The runs in the file of an earlier call with the same arguments."""
    if not path.exists():
        return []
    content = json.loads(path.read_text(encoding="utf-8"))
    told = {key: content["arguments"].get(key) for key in arguments}
    return content["tables"].get("runs", []) if told == arguments else []


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
    rows = earlier(out or RESULTS / "speedrun.json", same)
    report = Report("speedrun", out, **same, seeds=seeds)
    report.table("runs", rows)  # a new file takes the place of the earlier one
    with tempfile.TemporaryDirectory() as scratch, one_line_for_errors():
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
