"""How large every network is, and how long a training step takes beside ResNet-18's.

    python benchmarks/networks.py [--size 112] [--batch 8] [--rounds 5] [--classes 7001]

Parameters with a head for the classes, multiply-adds of an image at 224 pixels, and the median
of some rounds, in each of which every network takes one step on one thread, so that whatever else
the machine does hits all alike.
"""

import time
from statistics import median

import pandas as pd
import torch
import typer
from torch import nn

from facekit import models
from facekit.models import summary, zoo

NAMES = ["row01", "row02", "row03", "row04", "row12", *zoo.OURS, *zoo.REFERENCES]
STANDARD = "resnet18"


def step(net: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor) -> float:
    """Seconds of one training step."""
    labels = torch.zeros(len(images), dtype=torch.int64)
    began = time.perf_counter()
    loss = nn.functional.cross_entropy(net(images, labels), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return time.perf_counter() - began


def main(size: int = 112, batch: int = 8, rounds: int = 5, classes: int = 7001) -> None:
    torch.set_num_threads(1)
    images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    nets = {name: models.build(name, classes) for name in NAMES}
    nets = {name: net.to(memory_format=torch.channels_last) for name, net in nets.items()}
    optimizers = {name: torch.optim.SGD(net.parameters(), 0.01) for name, net in nets.items()}
    times: dict[str, list[float]] = {name: [] for name in nets}
    for _ in range(rounds + 1):
        for name, net in nets.items():
            times[name].append(step(net, optimizers[name], images))
    middle = {name: median(seconds[1:]) for name, seconds in times.items()}
    table = pd.DataFrame({
        "parameters": {name: f"{models.count_parameters(net):,}" for name, net in nets.items()},
        "G multiply-adds at 224": {
            name: summary.count_multiply_adds(net, 224) / 1e9 for name, net in nets.items()
        },
        "ms an image": {name: 1e3 * middle[name] / batch for name in nets},
        "of ResNet-18": {name: middle[name] / middle[STANDARD] for name in nets},
    })  # fmt: skip
    print(f"{size} px, batches of {batch}, {rounds} rounds, torch {torch.__version__}")
    print(table.round(2).to_string())


if __name__ == "__main__":
    typer.run(main)
