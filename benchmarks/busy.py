"""The training loop on a busy processor: what is left of its images a second beside other programs.

    python benchmarks/busy.py [--programs 1] [--size 64] [--batch 64] [--out FILE]

Epochs as `facekit train` goes through them, on all cores, alone and beside programs that compute
without end, in turns; beside them with half the threads, too, as the kit advises then.
OMP_WAIT_POLICY=PASSIVE before it shows what threads do that sleep as soon as they wait.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import facekit  # noqa: F401  before torch: it chooses how torch's threads wait

# isort: split
import torch
import typer
from gpu_speed import loop_epoch
from loop import prepare, rendered_course
from machine import AGAIN, ROUNDS, Report, compare, progress, time_rounds, verdict

from facekit.data.background import count_cores

ALONE = "alone"
BAR = 0.4  # of the images a second alone, beside one program a core


@contextmanager
def busy(programs: int) -> Iterator[None]:
    """Inside, so many other programs compute."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main(
    network: str = "small",
    size: int = 64,
    batch: int = 64,
    people: int = 20,
    each: int = 32,
    pixels: int = 96,
    programs: int = 1,
    rounds: int = ROUNDS,
    workers: int | None = None,
    folder: Path | None = None,
    out: Path | None = None,
) -> None:
    """Images a second alone and beside so many programs a core."""
    others = programs * count_cores()
    arguments = {"network": network, "size": size, "batch": batch, "images": people * each}
    chosen = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    policy = ", ".join(f"{name} {os.environ[name]}" for name in chosen if name in os.environ)
    report = Report("busy", out, **arguments, programs=others, waiting=policy)
    with tempfile.TemporaryDirectory() as scratch:
        data = rendered_course(folder or Path(scratch), people, each, pixels)
        changes = [f"network={network}", f"image_size={size}", f"batch_size={batch}"]
        run = prepare(data, Path(scratch), *changes, workers=workers)

        threads = torch.get_num_threads()

        def crowded(threads_then: int) -> None:
            torch.set_num_threads(threads_then)
            with busy(others):
                loop_epoch(run)
            torch.set_num_threads(threads)

        beside = f"beside {others} programs"
        variants = {ALONE: lambda: loop_epoch(run), ALONE + AGAIN: lambda: loop_epoch(run)}
        variants[beside] = lambda: crowded(threads)
        half = max(1, threads // 2)
        variants[f"{beside}, OMP_NUM_THREADS={half}"] = lambda: crowded(half)
        progress(f"{others} programs, {policy}")
        taken = time_rounds(variants, rounds)
        rows = compare(taken, ALONE, len(run.data.train))
        rows[-1] |= verdict(rows[-1]["ratio"], BAR)
        report.table("busy", rows)


if __name__ == "__main__":
    typer.run(main)
