"""How long the training stands still for a save, beside how long a save takes.

    python benchmarks/saving.py [--network large] [--size 32] [--rounds 7] [--out FILE]

The loop copies the run and goes on; a thread writes the copy, reads it back and copies it to a
mirror. A loop that waited for the disk would stand still for the whole of it. Steps are slower as
long as the thread is at work: that is measured, too.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import typer
from loop import prepare, rendered_course
from machine import ROUNDS, Report, Row, progress

from facekit.data.loader import Batch
from facekit.training import loop, state
from facekit.training.checkpoint import Checkpoints
from facekit.training.run import Run
from facekit.training.writer import Writer


def ms(work: Callable, *arguments: object) -> float:
    began = time.perf_counter()
    work(*arguments)
    return 1000 * (time.perf_counter() - began)


def give_away(run: Run, writer: Writer, is_best: bool) -> None:
    """All that the training stands still for."""
    saved = state.snapshot(run)
    writer.write(run.step, saved, state.best_of(run, saved) if is_best else None)


def measure(run: Run, writer: Writer, batch: Batch, is_best: bool, rounds: int) -> Row:
    """Medians over saves of the run, a step apart, and the least: others may be at work here."""
    still, whole, alone, meanwhile = [], [], [], []
    for _ in range(rounds):
        run.progress.step += 1
        alone.append(ms(loop.train_step, run, batch, len(batch.labels)))
        began = time.perf_counter()
        still.append(ms(give_away, run, writer, is_best))
        writer.wait()
        whole.append(1000 * (time.perf_counter() - began))
        give_away(run, writer, is_best)
        while not writer.writing.done():
            meanwhile.append(ms(loop.train_step, run, batch, len(batch.labels)))
        writer.wait()
    row = {"saved": "state and best.pt" if is_best else "state"}
    found = {"stands still": still, "until it is on the disk": whole}
    found |= {"a step alone": alone, "a step meanwhile": meanwhile}
    for name, taken in found.items():
        row |= {f"{name}, ms": median(taken), f"{name}, least": min(taken)}
    return row


def main(
    network: str = "large",
    size: int = 32,
    batch: int = 8,
    rounds: int = ROUNDS,
    threads: int = 1,
    out: Path | None = None,
) -> None:
    """Milliseconds of saves of a run with AdamW and a running average."""
    torch.set_num_threads(threads)
    report = Report("saving", out, network=network, size=size, batch=batch, threads=threads)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        data = rendered_course(place, 6, 6, size)
        changes = [f"network={network}", f"image_size={size}", f"batch_size={batch}"]
        run = prepare(data, place, *changes, "ema_decay=0.99")
        images, _ = next(run.batches())
        writer = Writer(Checkpoints(run.out, mirror=place / "mirror"))
        progress("a save to begin with")
        loop.train_step(run, images, batch)
        give_away(run, writer, True)
        writer.close()
        many = sum(parameter.numel() for parameter in run.net.parameters())
        size_of = next(run.out.glob("step-*.pt")).stat().st_size / 1e6
        report.note(f"{many:,} parameters, {size_of:.0f} MB a state")
        rows = [measure(run, writer, images, is_best, rounds) for is_best in (False, True)]
        report.table("saving", rows)


if __name__ == "__main__":
    typer.run(main)
