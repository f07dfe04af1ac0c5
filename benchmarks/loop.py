"""The training loop end to end against its bare steps, and its memory over epochs.

    python benchmarks/loop.py [--network small] [--size 64] [--batch 32] [--out FILE]

An epoch as `facekit train` goes through it, with pictures augmented in the background, beside as
many forward and backward passes and updates on batches that lie in memory already.
"""

import tempfile
from pathlib import Path

import torch
import typer
from gpu_speed import bare_epoch, loop_epoch
from machine import (
    AGAIN,
    ROUNDS,
    Report,
    Row,
    compare,
    memory,
    progress,
    slope,
    time_rounds,
    verdict,
)

from facekit.data.layout import CourseData
from facekit.evaluation.inference import evaluate
from facekit.sources import set_up
from facekit.sources.profiles import Profile
from facekit.training import recipe as recipes
from facekit.training.run import Run

WITHIN = 0.97  # of the bare step's images a second
SETTLED = 2  # epochs after which memory should be flat
FLAT = 1.0  # MiB an epoch


def rendered_course(folder: Path, people: int, each: int, pixels: int) -> CourseData:
    """A course of rendered faces, made once in `folder`."""
    profile = Profile("measured", people, each, 2, 1, 9, 9, 18, pixels)
    return set_up("synthetic", profile, folder / f"{people}x{each}x{pixels}")


def prepare(data: CourseData, folder: Path, *changes: str, workers: int | None = None) -> Run:
    recipe = recipes.load("laptop", ["compile=no", "epochs=1000", "watch=false", *changes])
    run = Run(recipe, data, folder / "run", torch.device("cpu"), workers=workers)
    run.prepare()
    return run


def speed(run: Run, rounds: int) -> list[Row]:
    """Images a second of whole epochs by the clock on the wall."""
    batches = [batch for batch, _ in run.batches()]
    progress(f"epochs of {run.steps} steps, {run.loader.workers} threads prepare batches")
    variants = {
        "bare steps": lambda: bare_epoch(run, batches, run.steps),
        "bare steps" + AGAIN: lambda: bare_epoch(run, batches, run.steps),
        "the loop": lambda: loop_epoch(run),
    }
    taken = time_rounds(variants, rounds)
    rows = compare(taken, "bare steps", len(run.data.train))
    on_processor = compare(taken, "bare steps", len(run.data.train), "cpu")
    for row, cpu in zip(rows, on_processor, strict=True):
        row["ratio of CPU time"] = cpu["ratio"]
    rows[-1] |= verdict(rows[-1]["ratio"], WITHIN)
    return rows


def memory_rows(run: Run, epochs: int) -> list[Row]:
    """MiB held after each epoch and its judging, and the growth once it has settled."""
    held = []
    for number in range(epochs):
        loop_epoch(run)
        evaluate(run.eval_model, run.dev_batches(), run.precision.value)
        held.append(memory())
        progress(f"epoch {number + 1}: {held[-1]:.0f} MiB")
    grown = slope(held[SETTLED:])
    row = {"epochs": epochs, "first, MiB": held[0], "last, MiB": held[-1]}
    row |= {f"MiB an epoch after {SETTLED}": grown, "bar": f"<= {FLAT:g}"}
    return [row | {"verdict": "PASS" if grown <= FLAT else "missed"}]


def main(
    network: str = "small",
    size: int = 64,
    batch: int = 32,
    people: int = 20,
    each: int = 32,
    pixels: int = 96,
    rounds: int = ROUNDS,
    epochs: int = 12,
    threads: int = 1,
    workers: int | None = None,
    folder: Path | None = None,
    out: Path | None = None,
) -> None:
    """Images a second of the loop by those of its bare steps; MiB by epochs."""
    torch.set_num_threads(threads)
    arguments = {"network": network, "size": size, "batch": batch, "images": people * each}
    report = Report("loop", out, **arguments, threads=threads)
    with tempfile.TemporaryDirectory() as scratch:
        place = folder or Path(scratch)
        data = rendered_course(place, people, each, pixels)
        changes = [f"network={network}", f"image_size={size}", f"batch_size={batch}"]
        run = prepare(data, Path(scratch), *changes, workers=workers)
        report.note(", ".join(f"{key}: {value}" for key, (value, _) in run.choices.items()))
        report.table("speed", speed(run, rounds))
        report.table("memory", memory_rows(run, epochs))


if __name__ == "__main__":
    typer.run(main)
