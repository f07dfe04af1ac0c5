"""What a GPU's speed in making faces is bounded by, counted here: `faces.py model`.

A GPU works beside the processor, which hands it one operation after another. So there are two
bounds: how fast operations are handed over, and how fast memory is read and written for them.
Expect half of the lower one.
"""

from typing import Any

import torch
from machine import Report
from people import DIFFICULTY, numbers
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from facekit import faces
from facekit.faces import rendering

COUNT = 24  # images counted: enough that every kind of hat and every fineness is there
LAUNCH = 5e-6  # seconds an operation takes the processor, a fast one
GPUS = {  # bytes of memory, bytes a second, images a second aimed at with 224 pixels
    "H100": (80e9, 3.0e12, 2000),
    "T4": (15.8e9, 270e9, 400),
}
FREE = {"detach", "alias", "lift_fresh", "_unsafe_view", "empty", "_local_scalar_dense"}


def held(tensor: torch.Tensor) -> int:
    """Bytes of memory behind a tensor; an axis that is only repeated counts once."""
    total = tensor.element_size()
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        total *= length if stride or not length else 1
    return total


def tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


class Traffic(TorchDispatchMode):
    """Counts operations, but views, and the bytes that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not func.is_view and name not in FREE:
            self.operations += 1
            self.bytes += moved(name, args, kwargs, result)
        return result


def moved(name: str, args: tuple, kwargs: dict | None, result: Any) -> int:
    """Bytes that an operation reads and writes."""
    if name in ("index_select", "index"):  # of the source only what is picked
        return sum(map(held, tensors(args[1:]))) + 2 * held(result)
    if name in ("index_put_", "scatter_reduce_"):  # of the target only what is met
        return sum(map(held, tensors(args[1:]))) + 2 * held(tensors(args)[-1])
    return sum(map(held, tensors((args, kwargs)))) + sum(map(held, tensors(result)))


def count(size: int) -> tuple[int, float]:
    """Operations of a batch, the processor's own among them, and a GPU's bytes an image."""
    person = numbers(COUNT)
    shot = numbers(COUNT)
    faces.render(person, shot, size, difficulty=DIFFICULTY)  # constants are there
    at_once = rendering.PIXELS_AT_ONCE["cpu"]
    rendering.PIXELS_AT_ONCE["cpu"] = COUNT * max(size, 112) ** 2  # one batch
    try:
        drawn = Traffic()
        with drawn:  # by the processor, whatever renders
            who, how = rendering.draw(person, shot, 0, DIFFICULTY, None)
            list(rendering.batches(who | how, size, "cpu"))
        whole = Traffic()
        with whole:
            faces.render(person, shot, size, difficulty=DIFFICULTY)
    finally:
        rendering.PIXELS_AT_ONCE["cpu"] = at_once
    return whole.operations, (whole.bytes - drawn.bytes) / COUNT


def rows(size: int) -> list[dict]:
    operations, traffic = count(size)
    found = []
    for name, (memory, speed, aim) in GPUS.items():
        pixels = rendering.pixels_at_once("cuda", int(memory))
        images = max(pixels // max(size, 112) ** 2, 1)
        handed_over = images / (operations * LAUNCH)
        read = speed / traffic
        row = {
            "pixels": size,
            "GPU": name,
            "images at once": images,
            "operations": operations,
            "MB an image": traffic / 1e6,
            "images/s by operations": round(handed_over),
            "by memory": round(read),
        }
        if size == 224:
            met = min(handed_over, read) >= aim
            row |= {"bar": f">= {aim}", "verdict": "PASS" if met else "missed"}
        found.append(row)
    return found


def measure(report: Report, sizes: list[int]) -> None:
    report.table("bounds of a GPU", [row for size in sizes for row in rows(size)])
