"""The published table of twelve rows, trained at a smaller scale and held against what it claims.

    python benchmarks/table.py [--epochs 20] [--narrowed 4] [--size 64] [--rows row06] [--seeds 2]

Row after row, seed after seed, on one course (of `--profile`, rendered unless `--data` has it).
`--epochs` are those of the rows that were published with 500; the other rows and all restarts are
scaled alike. `--narrowed` divides the channels of the published networks; 0 takes lesson 07's small
ones, of which rows 1 to 3 share one. After `--minutes` no other run is begun. The report is written
after every run; the same call later trains what it lacks, and with `--work FOLDER` it goes on
inside a run that was cut off. `--out facekit/course/table.json` is what lesson 07 may read.

The order is compared by Kendall's tau-b (1: the same, -1: reversed, 0: unrelated) of best dev
accuracies, the mean of the seeds. Its interval of 95 % is what 2,000 tables give whose rows are
drawn from these with replacement: the luck of which networks were tried. How far two seeds of ours
agree says how much of a difference training alone makes.
"""

import math
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from machine import Report, Row, one_line_for_errors, progress
from scipy.stats import kendalltau

from facekit import training
from facekit.common.errors import RunError
from facekit.course import ablations
from facekit.course.ablations import PUBLISHED, Colours, Scale
from facekit.data.layout import CourseData
from facekit.sources import set_up
from facekit.sources.profiles import get_profile
from facekit.training.history import History
from facekit.training.recipe import Recipe

LONGEST = 500  # epochs of a published row
COLLAPSED = 0.5  # of the least of the other rows; row 6 was published with 0.29 of it
DRAWS = 2000
# Rows 9 to 11 have longer restarts than row 5 and are shorter, too. This is row 11 with those of
# row 5, which the table lacks: the two differ in nothing else.
CONTROL = "row11-as-row05"
NAMES = (*PUBLISHED, CONTROL)


# --- training


def made(name: str, scale: Scale, colours: Colours, seed: int = 0) -> Recipe:
    """The recipe of a row, or of the control."""
    row = "row11" if name == CONTROL else name
    recipe = ablations.recipe(row, scale, [f"seed={seed}"], colours)
    if name != CONTROL:
        return recipe
    share = PUBLISHED["row05"].restart_epochs / PUBLISHED["row11"].restart_epochs
    return replace(recipe, name=name, restart_epochs=recipe.restart_epochs * share)


def one_run(recipe: Recipe, course: CourseData, folder: Path) -> Row:
    """Train to the end. A run whose loss is no number any more ends there, worth a guess."""
    chance = 1 / len(course.classes)
    history, ended = History(), ""

    def keep(so_far: History) -> None:
        nonlocal history
        history = so_far

    began = time.perf_counter()
    try:
        history = training.fit(recipe, course, folder, progress=False, on_epoch=keep)
    except RunError as error:
        if "the loss is" not in str(error):
            raise
        ended = str(error).partition(";")[0]
    best = history.best if history.rows else {"train_accuracy": chance, "dev_accuracy": chance}
    return {
        "row": recipe.name,
        "seed": recipe.seed,
        "epochs": len(history.rows),
        "restart_epochs": recipe.restart_epochs,
        "train_accuracy": best["train_accuracy"],
        "dev_accuracy": best["dev_accuracy"],
        "last_dev_accuracy": chance if ended else history.rows[-1]["dev_accuracy"],
        "seconds": time.perf_counter() - began,
        "ended": ended or None,
    }


# --- what the runs say


def accuracies(runs: Sequence[Row], seed: int | None = None) -> dict[str, float]:
    """Best dev accuracy of each row, of this seed or the mean of all, in the table's order."""
    found = {}
    for name in NAMES:
        mine = [
            run["dev_accuracy"]
            for run in runs
            if run["row"] == name and seed in (None, run["seed"])
        ]
        if mine:
            found[name] = float(np.mean(mine))
    return found


def seeds_of(runs: Sequence[Row]) -> list[int]:
    return sorted({run["seed"] for run in runs})


def order(runs: Sequence[Row]) -> list[Row]:
    """Each row's place among those trained, the best first, as published and here."""
    here = accuracies(runs)
    names = [name for name in here if name != CONTROL]
    published = {name: PUBLISHED[name].dev_accuracy for name in names}
    rows = []
    for name in names:
        row = {"row": name, "published": published[name], "here": here[name]}
        for seed in seeds_of(runs):
            row[f"seed {seed}"] = accuracies(runs, seed).get(name)
        row["published place"] = 1 + sum(value > published[name] for value in published.values())
        row["place"] = 1 + sum(here[other] > here[name] for other in names)
        rows.append(row)
    return rows


def agreement(first: Sequence[float], second: Sequence[float]) -> Row:
    """Kendall's tau-b of the same rows' accuracies in two tables, with its interval of 95 %."""
    one, two = np.array(first), np.array(second)
    draws = np.random.default_rng(0).integers(len(one), size=(DRAWS, len(one)))
    drawn = [kendalltau(one[rows], two[rows]).statistic for rows in draws]
    told = [tau for tau in drawn if np.isfinite(tau)] or [math.nan]  # not of one row, or all alike
    low, high = np.quantile(told, [0.025, 0.975]).tolist()
    found = kendalltau(one, two)
    row = {"rows": len(one), "tau-b": float(found.statistic), "from": low, "to": high}
    return row | {"p": float(found.pvalue)}


def agreements(runs: Sequence[Row]) -> list[Row]:
    """Of the published order with ours, and of each two of our seeds; of three rows or more."""
    published = {name: of.dev_accuracy for name, of in PUBLISHED.items()}
    tables = {"published": published, "here": accuracies(runs)}
    pairs = [("published", "here")]
    seeds = [f"seed {seed}" for seed in seeds_of(runs)]
    tables |= {f"seed {seed}": accuracies(runs, seed) for seed in seeds_of(runs)}
    pairs += [(one, two) for at, one in enumerate(seeds) for two in seeds[at + 1 :]]
    rows = []
    for one, two in pairs:
        both = [name for name in PUBLISHED if name in tables[one] and name in tables[two]]
        if len(both) >= 3:
            found = agreement(*([tables[key][name] for name in both] for key in (one, two)))
            rows.append({"orders": f"{one}, {two}"} | found)
    return rows


def collapse(runs: Sequence[Row], chance: float) -> list[Row]:
    """Row 6, of lr 0.1, beside the least of the other rows, as published and of each seed."""
    published = {name: of.dev_accuracy for name, of in PUBLISHED.items()}
    tables = {"published": published}
    tables |= {f"seed {seed}": accuracies(runs, seed) for seed in seeds_of(runs)}
    rows = []
    for title, table in tables.items():
        others = [table[name] for name in table if name not in ("row06", CONTROL)]
        if "row06" in table and others:
            share = table["row06"] / min(others)
            row = {"of": title, "row06": table["row06"], "least of the others": min(others)}
            row |= {"share": share, "chance": 1 / 7001 if title == "published" else chance}
            rows.append(row | {"collapsed": "yes" if share < COLLAPSED else "no"})
    return rows


def restarts(runs: Sequence[Row], scale: Scale, colours: Colours) -> list[Row]:
    """What a longer time between restarts gains: rows that differ in it alone, longer - shorter."""
    recipes = {name: made(name, scale, colours) for name in accuracies(runs)}
    settings = {name: recipe.as_dict() | {"name": ""} for name, recipe in recipes.items()}
    rows = []
    for pair in ablations.one_change(settings):
        if set(ablations.differences(*(recipes[name] for name in pair))) != {"restart_epochs"}:
            continue
        short, long = sorted(pair, key=lambda name: recipes[name].restart_epochs)
        row = {"shorter": short, "longer": long}
        row["restarts"] = f"{recipes[short].restart_epochs:.3g}, {recipes[long].restart_epochs:.3g}"
        of = [PUBLISHED.get(name) for name in (long, short)]
        row["published gain"] = of[0].dev_accuracy - of[1].dev_accuracy if all(of) else None
        for seed in seeds_of(runs):
            table = accuracies(runs, seed)
            if short in table and long in table:
                row[f"gain, seed {seed}"] = table[long] - table[short]
        rows.append(row)
    return rows


def judge(
    report: Report, runs: Sequence[Row], scale: Scale, colours: Colours, chance: float
) -> None:
    """The tables of all that the runs can tell so far."""
    tables = {
        "order": order(runs),
        "agreement": agreements(runs),
        "row 6": collapse(runs, chance),
        "time between restarts": restarts(runs, scale, colours),
    }
    for title, rows in tables.items():
        if rows:
            report.table(title, rows)


# --- the command


def open_course(data: Path | None, profile: str, place: Path) -> CourseData:
    """The one of `--data`, or a rendered one."""
    os.environ.setdefault("FACEKIT_CACHE", str(place / "cache"))
    if data:
        return CourseData(data)
    return set_up("synthetic", get_profile(profile), place / "course")


def about(course: CourseData, colours: Colours) -> list[Row]:
    """On what the rows are trained; a report goes on only with the same."""
    row = {"classes": len(course.classes), "train": len(course.train), "dev": len(course.dev)}
    return [row | {"mean": list(colours.mean), "std": list(colours.std)}]


def train(
    report: Report, plan: Sequence[Recipe], course: CourseData, place: Path, until: float
) -> None:
    """Those of the plan that the report's runs lack; none is begun after `until`."""
    runs = report.rows("runs")
    done = {(run["row"], run["seed"]) for run in runs}
    for recipe in plan:
        if (recipe.name, recipe.seed) in done:
            continue
        if time.monotonic() >= until:
            report.note(f"{recipe.name}, seed {recipe.seed}, and what follows is left for later")
            return
        progress(f"{recipe.name}, seed {recipe.seed}")
        folder = place / "runs" / f"{recipe.name}-{recipe.seed}"
        runs.append(one_run(recipe, course, folder))
        report.table("runs", runs)


def main(
    epochs: int = 20,
    narrowed: int = 4,
    size: int = 64,
    batch: int = 32,
    seeds: int = 2,
    rows: Annotated[list[str], typer.Option()] = list(NAMES),  # noqa: B006
    minutes: float | None = None,
    threads: int = 1,
    profile: str = "laptop",
    data: Path | None = None,
    work: Path | None = None,
    out: Path | None = None,
) -> None:
    """Train the rows that the report lacks, and say what they tell."""
    torch.set_num_threads(threads)
    until = math.inf if minutes is None else time.monotonic() + 60 * minutes
    settings = {"epochs": epochs, "narrowed": narrowed, "size": size, "batch": batch}
    report = Report("table", out, **settings, profile="" if data else profile)
    scale = Scale(epochs / LONGEST, narrowed, size, batch, tuple(dict.fromkeys(rows)))
    with tempfile.TemporaryDirectory() as scratch, one_line_for_errors():
        place = work or Path(scratch)
        course = open_course(data, profile, place)
        colours = ablations.colours_of(course)
        images = about(course, colours)
        plan = [made(name, scale, colours, seed) for seed in range(seeds) for name in scale.rows]
        report.go_on(course=images)
        report.table("course", images)
        train(report, plan, course, place, until)
        judge(report, report.rows("runs"), scale, colours, 1 / len(course.classes))


if __name__ == "__main__":
    typer.run(main)
