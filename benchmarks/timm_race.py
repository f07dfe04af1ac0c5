"""The kit against timm's training script: the same ResNet-18, files, changes, batch and size.

    pip install timm
    python benchmarks/timm_race.py [--size 112] [--batch 32] [--rounds 7] [--out FILE]

timm: its loader (ImageFolder, PIL, RandomResizedCrop, flip, colour jitter), one process that reads
ahead, its ResNet-18 and AdamW, in the loop of its train.py without a GPU; as it stands, and at its
best: bfloat16 by --amp --amp-dtype bfloat16, and --channels-last. The kit: its epoch, one thread
that reads ahead. Whole epochs by the clock; the kit's decoded pictures are made before, and the
time that took is given.
"""

import importlib.util
import sys
import tempfile
import time
from pathlib import Path

import torch
import typer
from gpu_speed import loop_epoch
from gpu_timm import CHANGES, timm_epoch
from loop import prepare, rendered_course
from machine import AGAIN, ROUNDS, Report, compare, progress, time_rounds

from facekit.data.layout import CourseData

PLAIN, BEST = "timm, float32", "timm, bfloat16, channels_last"


def race(data: CourseData, scratch: Path, size: int, batch: int) -> tuple[dict, float]:
    """All who take part, and how long the kit took to decode the pictures."""
    changes = [*CHANGES, f"image_size={size}", f"batch_size={batch}"]
    began = time.perf_counter()
    run = prepare(data, scratch, *changes)
    decoding = time.perf_counter() - began
    runners = {
        PLAIN: timm_epoch(data, size, batch, torch.float32, last=False),
        BEST: timm_epoch(data, size, batch, torch.bfloat16, last=True),
        "the kit": lambda: loop_epoch(run),
        "the kit" + AGAIN: lambda: loop_epoch(run),
    }
    return runners, decoding


def main(
    size: int = 112,
    batch: int = 32,
    people: int = 16,
    each: int = 16,
    pixels: int = 112,
    rounds: int = ROUNDS,
    threads: int = 1,
    folder: Path | None = None,
    out: Path | None = None,
) -> None:
    """Images a second of whole epochs, and how many times timm's they are."""
    if importlib.util.find_spec("timm") is None:
        print("timm is not installed: pip install timm", file=sys.stderr)
        raise typer.Exit(2)
    import timm

    torch.set_num_threads(threads)
    report = Report(
        "timm_race", out, size=size, batch=batch, images=people * each, timm=timm.__version__
    )
    with tempfile.TemporaryDirectory() as scratch:
        data = rendered_course(folder or Path(scratch), people, each, pixels)
        runners, decoding = race(data, Path(scratch), size, batch)
        report.note(f"The kit decoded all pictures before the first epoch, in {decoding:.2f} s.")
        progress("rounds")
        taken = time_rounds(runners, rounds)
        images = len(data.train) // batch * batch  # timm leaves out the last few
        report.table("beside timm as it stands", compare(taken, PLAIN, images))
        report.table("beside timm at its best", compare(taken, BEST, images))


if __name__ == "__main__":
    typer.run(main)
