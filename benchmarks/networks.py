"""How large every network is, and how long a training step takes beside ResNet-18's.

    python benchmarks/networks.py [--size 112] [--batch 4] [--rounds 7] [--classes 7001]

Parameters with a head for the classes, and multiply-adds of an image at 224 pixels. In every round
each network takes one step, in float32 on one thread, so that whatever else the machine does hits
all alike; the ratio is the median of the rounds' ratios.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import typer
from machine import ROUNDS, Report, Row, compare, one_line_for_errors, time_rounds
from step import take_step
from torch import nn

from facekit import models
from facekit.models import summary, zoo

NAMES = ["row01", "row02", "row03", "row04", "row12", *zoo.OURS, *zoo.REFERENCES]
STANDARD = "resnet18"
PIXELS = 224  # the homework's


def make_step(net: nn.Module, images: torch.Tensor) -> Callable[[], object]:
    """A training step on images (B, C, H, W)."""
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    labels = torch.zeros(len(images), dtype=torch.int64)

    def forward(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, None]:
        return nn.functional.cross_entropy(net(images, labels), labels), None

    return partial(take_step, forward, optimizer, images, labels)


def main(
    size: int = 112,
    batch: int = 4,
    rounds: int = ROUNDS,
    classes: int = 7001,
    out: Path | None = None,
) -> None:
    """A row for each network."""
    torch.set_num_threads(1)
    report = Report("networks", out, size=size, batch=batch, rounds=rounds, classes=classes)
    images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    nets = {name: models.build(name, classes) for name in NAMES}
    nets = {name: net.to(memory_format=torch.channels_last) for name, net in nets.items()}
    steps = {name: make_step(net, images) for name, net in nets.items()}
    rows: list[Row] = []
    for speed in compare(time_rounds(steps, rounds), STANDARD, batch):
        name = speed.pop("variant")
        net = nets[name]
        row = {"network": name, "parameters": models.count_parameters(net)}
        row["multiply-adds"] = summary.count_multiply_adds(net, PIXELS)
        rows.append(row | speed)
    report.table("networks", rows)


if __name__ == "__main__":
    with one_line_for_errors():
        typer.run(main)
