"""A reader's own objects against the same things as the kit has them: images a second of training.

    python benchmarks/bring_own.py [--network small] [--size 64] [--rounds 9] [--out FILE]

The own network is the very network of the spec inside a class of its own, so that whatever differs
is what the kit does around it.
"""

import tempfile
from pathlib import Path

import torch
import typer
from gpu_speed import loop_epoch
from loop import rendered_course
from machine import AGAIN, ROUNDS, Report, Row, compare, progress, time_rounds, verdict
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from facekit import models
from facekit.data.layout import CourseData
from facekit.training import bring_own, load_recipe
from facekit.training.run import Run

WITHIN = 0.97  # of the same network's images a second


class Whole(nn.Module):
    """A network of the kit as a reader would have it: forward and embed."""

    network = "small"  # main sets it

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.net = models.build(self.network, num_classes)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return self.net.embed(images)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net.head(self.net.dropout(self.embed(images)))


class Bare(Whole):
    """Without embed: the kit takes what the last linear layer gets."""

    embed = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images)


class Named(Whole):
    """A dictionary."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        feats = self.embed(images)
        return {"out": self.net.head(self.net.dropout(feats)), "feats": feats}


class Head(models.ArcFace):
    """The kit's ArcFace by another name."""


class Center(models.CenterLoss):
    """The kit's centre loss by another name."""


TRANSFORM = v2.Compose([v2.RandomHorizontalFlip(), v2.ColorJitter(0.3, 0.3, 0.3)])
# What is measured: the kit's own way, then the reader's, as arguments of `fit`.
PAIRS = {
    "a class": ({}, {"network": Whole}),
    "a class without embed": ({}, {"network": Bare}),
    "a dictionary": ({}, {"network": Named}),
    "a head": ({"head": "arcface"}, {"head": Head}),
    "a class and a head": ({"head": "arcface"}, {"network": Whole, "head": Head}),
    "a loss": ({"auxiliary_loss": "center"}, {"auxiliary_loss": Center}),
    "a class and a loss": (
        {"auxiliary_loss": "center"},
        {"network": Whole, "auxiliary_loss": Center},
    ),
}
SLOWER = ("a transform", "a DataLoader")  # by their nature: images are read anew


def prepare(data: CourseData, out: Path, changes: list[str], **given: object) -> Run:
    """A run as `fit` makes it."""
    recipe = load_recipe("laptop", ["compile=no", "epochs=1000", "watch=false", *changes])
    parts = [given.get(key) for key in ("network", "head", "auxiliary_loss", "loader")]
    recipe = bring_own.into_recipe(recipe, *parts)
    device = torch.device("cpu")
    images = bring_own.images_of(
        recipe, data, device, given.get("transform"), given.get("loader"), None
    )
    run = Run(recipe, data, out, device, images=images)
    run.prepare()
    return run


def measure(first: Run, second: Run, name: str, rounds: int) -> list[Row]:
    """Whole epochs of both in turns."""
    progress(name)
    variants = {
        "the kit's": lambda: loop_epoch(first),
        "the kit's" + AGAIN: lambda: loop_epoch(first),
        name: lambda: loop_epoch(second),
    }
    taken = time_rounds(variants, rounds)
    rows = compare(taken, "the kit's", len(first.data.train))
    on_processor = compare(taken, "the kit's", len(first.data.train), "cpu")
    for row, cpu in zip(rows, on_processor, strict=True):
        row["ratio of CPU time"] = cpu["ratio"]
    return rows


def slower(data: CourseData, changes: list[str], size: int) -> dict[str, dict]:
    """A transform and a DataLoader, as arguments of `fit`."""
    change = v2.Compose([v2.Resize(size), TRANSFORM, v2.ToImage()])
    batch = load_recipe("laptop", changes).batch_size
    loader = DataLoader(data.train.dataset(change), batch_size=batch, num_workers=1)
    return dict(zip(SLOWER, ({"transform": TRANSFORM}, {"loader": loader}), strict=True))


def main(
    network: str = "small",
    size: int = 64,
    batch: int = 32,
    people: int = 8,
    each: int = 20,
    rounds: int = ROUNDS + 2,
    out: Path | None = None,
) -> None:
    """Images a second of training with a reader's own objects by those of the kit's."""
    torch.set_num_threads(1)
    Whole.network = network
    report = Report("bring_own", out, network=network, size=size, batch=batch)
    changes = [f"network={network}", f"image_size={size}", f"batch_size={batch}"]
    with tempfile.TemporaryDirectory() as scratch:
        data = rendered_course(Path(scratch), people, each, 96)
        rows = []
        for name, (kits, own) in PAIRS.items():
            first = prepare(data, Path(scratch) / "kit", changes, **kits)
            second = prepare(data, Path(scratch) / "own", changes, **own)
            _, again, row = measure(first, second, name, rounds)
            row["A/A ratio"] = again["ratio"]
            rows.append(row | verdict(row["ratio"], WITHIN))
        report.table("own objects", rows)
        first = prepare(data, Path(scratch) / "kit", changes)
        rows = []
        for name, own in slower(data, changes, size).items():
            second = prepare(data, Path(scratch) / "own", changes, **own)
            rows.append(measure(first, second, name, rounds)[-1])
        report.table("images read anew", rows)


if __name__ == "__main__":
    typer.run(main)
