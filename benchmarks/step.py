"""The bare training step: what number format, memory format and compiling are worth.

    python benchmarks/step.py [--network row12 --network medium] [--compiled] [--out FILE]

Forward, backward, optimiser on random pictures, for the homework's 7,001 classes, on one thread:
float32 and the usual order in memory against what the kit chooses on this machine. Compiling takes
minutes a network. What a processor that knows AVX2 alone would do, tried on another:

    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 \\
    python benchmarks/step.py --precision float32
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from machine import AGAIN, ROUNDS, Report, Row, compare, progress, time_rounds, verdict

from facekit.common import machine
from facekit.training import recipe as recipes
from facekit.training.optim import build_optimizer
from facekit.training.run import build_objective

BASE = "float32, channels first"
KIT, COMPILED = "the kit's choice", "the kit's choice, compiled"
BARS = {KIT: 1.9, COMPILED: 2.3}  # where the processor multiplies bfloat16
LEAST = 0.97  # "never slower" elsewhere: within the noise


def take_step(
    forward: Callable, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """One training step; the loss."""
    optimizer.zero_grad(set_to_none=True)
    loss, _ = forward(images, labels)
    loss.backward()
    optimizer.step()
    return loss.detach()


def stepper(
    recipe: recipes.Recipe,
    classes: int,
    precision: torch.dtype,
    last: bool,
    compiled: bool = False,
) -> Callable[[], object]:
    """A network of its own on a random batch; each call takes one step. `last`: channels_last."""
    order = torch.channels_last if last else torch.contiguous_format
    torch.manual_seed(0)
    objective = build_objective(recipe, classes, precision).to(memory_format=order)
    optimizer = build_optimizer(objective, recipe)
    size, count = recipe.image_size, recipe.batch_size
    images = torch.randn(count, 3, size, size).to(memory_format=order)
    labels = torch.randint(classes, (count,))
    forward = torch.compile(objective) if compiled else objective
    return lambda: take_step(forward, optimizer, images, labels)


def variants(recipe: recipes.Recipe, classes: int, compiled: bool) -> dict[str, Callable]:
    plain, chosen = torch.float32, machine.precision(torch.device("cpu"), recipe.precision).value
    found = {
        BASE: stepper(recipe, classes, plain, last=False),
        BASE + AGAIN: stepper(recipe, classes, plain, last=False),
        "float32, channels_last": stepper(recipe, classes, plain, last=True),
        KIT: stepper(recipe, classes, chosen, last=True),
    }
    if compiled:
        found[COMPILED] = stepper(recipe, classes, chosen, last=True, compiled=True)
        progress("compiling")
    return found


def judge(row: Row, native: bool) -> Row:
    """The row with its bar: that of bfloat16, or "never slower" without it."""
    name = row["variant"]
    if name not in BARS:
        return row
    return row | verdict(row["ratio"], BARS[name] if native else LEAST)


def measure(recipe: recipes.Recipe, classes: int, compiled: bool, rounds: int) -> list[Row]:
    steps = variants(recipe, classes, compiled)
    first: dict[str, float] = {}
    for name, step in steps.items():
        began = time.perf_counter()
        step()
        first[name] = time.perf_counter() - began
    taken = time_rounds(steps, rounds, warm_up=2)
    rows = compare(taken, BASE, recipe.batch_size, "cpu")
    wall = compare(taken, BASE, recipe.batch_size, "wall")
    native = machine.precision(torch.device("cpu"), recipe.precision).value == torch.bfloat16
    return [
        judge(row, native) | {"ratio of wall time": other["ratio"], "first step, s": first[name]}
        for row, other, name in zip(rows, wall, steps, strict=True)
    ]


def main(
    network: Annotated[list[str], typer.Option()] = ["row12", "medium"],  # noqa: B006
    size: int = 112,
    batch: int = 16,
    classes: int = 7001,
    rounds: int = ROUNDS,
    threads: int = 1,
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    compiled: Annotated[bool, typer.Option(help="Compile, too: minutes a network.")] = False,
    out: Path | None = None,
) -> None:
    """Images a second of a training step, and how many times those of plain float32."""
    torch.set_num_threads(threads)
    arguments = {"size": size, "batch": batch, "classes": classes, "precision": precision}
    report = Report("step", out, network=network, **arguments)
    value, reason = machine.precision(torch.device("cpu"), precision)
    report.note(f"The kit chooses {value} ({reason}) and channels_last. Ratios of CPU time.")
    changes = [f"image_size={size}", f"batch_size={batch}", f"precision={precision}"]
    for name in network:
        progress(name)
        recipe = recipes.load("high", [f"network={name}", *changes])
        report.table(name, measure(recipe, classes, compiled, rounds))


if __name__ == "__main__":
    typer.run(main)
