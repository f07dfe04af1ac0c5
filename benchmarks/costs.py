"""What a recipe for the homework costs on two cards: worked out from byte counts, not measured.

    python benchmarks/costs.py [--out FILE]

Three things bound the images a second of training. Memory: 28 bytes for each number that a
convolution puts out (gpu_speed.py says why). Products: six floating-point operations for each
multiply-add of the way forward. The processor: so many operations in a step, each handed over in
LAUNCH seconds. The least of the three is the bound, and half of it is expected: timm's published
figures of an RTX 3090 are 0.37 to 0.54 of such bounds. Hours are those of all training images in
all epochs; judging, saving and decoding come on top.
"""

from pathlib import Path
from typing import NamedTuple

import torch
import typer
from faces_model import GPUS, LAUNCH
from gpu_speed import BYTES, conv_outputs
from machine import Report, Row
from torch import nn
from torch.nn import functional as F
from traffic import Traffic

from facekit.data.layout import TERMS
from facekit.models import build, count_parameters, zoo
from facekit.sources.profiles import PROFILES
from facekit.training import load_recipe

PRODUCTS = {"H100": 700e12, "T4": 40e12}  # half precision, a second; vendor's 989 and 65 at best
EXPECTED = 0.5  # of the bound
RECIPES = {"high": "F23", "high-18m": "S24", "lean-convnext": "F23"}  # and whose limit they obey
NETWORKS = [*zoo.OURS, "resnet18", "resnet34", "convnext", "lean-convnext", "row12"]
BATCH = 256
CLASSES = TERMS["F23"].classes
IMAGES = CLASSES * PROFILES["homework"].train
META = torch.device("meta")  # where tensors have a shape and no numbers


class Cost(NamedTuple):
    """What a network asks of a card; outputs of convolutions and multiply-adds of an image."""

    parameters: int
    outputs: int
    multiply_adds: int
    operations: int  # of a step forward and back


def cost(network: str | dict, size: int, classes: int) -> Cost:
    with META:
        net = build(network, classes)
    outputs, multiply_adds = conv_outputs(net, size, META)
    return Cost(count_parameters(net), outputs, multiply_adds, operations(net, size))


def operations(net: nn.Module, size: int) -> int:
    """How many a step hands over, forward and back; the optimiser's few are left out."""
    images = torch.zeros(BATCH, 3, size, size, device=META)
    labels = torch.zeros(BATCH, dtype=torch.int64, device=META)
    with Traffic() as counted:
        F.cross_entropy(net.train()(images), labels).backward()
    return counted.operations


def bounds(of: Cost, card: str, batch: int) -> dict[str, float]:
    """Images a second that memory, products and the processor allow."""
    _, bandwidth, _ = GPUS[card]
    return {
        "memory": bandwidth / (BYTES * of.outputs),
        "products": PRODUCTS[card] / (6 * of.multiply_adds),
        "processor": batch / (LAUNCH * of.operations),
    }


def speeds(of: Cost, batch: int) -> Row:
    """On each card the images a second to expect, and what bounds them."""
    row: Row = {}
    for card in GPUS:
        allowed = bounds(of, card, batch)
        least = min(allowed, key=allowed.get)
        row[f"{card}, images/s"] = EXPECTED * allowed[least]
        row[f"{card}, bound by"] = least
    return row


def size_of(of: Cost) -> Row:
    row: Row = {"parameters": of.parameters, "G multiply-adds": of.multiply_adds / 1e9}
    return row | {"MB an image": BYTES * of.outputs / 1e6, "operations": of.operations}


def recipe_row(name: str, term: str) -> Row:
    """A recipe for the homework: its network, its speed, and hours for all of its epochs."""
    recipe = load_recipe(name)
    of = cost(recipe.network, recipe.image_size, CLASSES)
    row: Row = {"recipe": name, "limit": TERMS[term].max_parameters, "epochs": recipe.epochs}
    row |= size_of(of) | speeds(of, recipe.batch_size)
    for card in GPUS:
        row[f"{card}, hours"] = recipe.epochs * IMAGES / row[f"{card}, images/s"] / 3600
    return row


def network_row(name: str, size: int, classes: int) -> Row:
    of = cost(name, size, classes)
    return {"network": name} | size_of(of) | speeds(of, BATCH)


def main(out: Path | None = None) -> None:
    """Parameters, work, images a second and hours of the homework's recipes, on paper."""
    report = Report("costs", out)
    report.note("Modelled, not measured: half of what memory, products or the processor allow.")
    rows = [recipe_row(name, term) for name, term in RECIPES.items()]
    report.table(f"recipes, {IMAGES:,} images an epoch", rows)
    for profile in ("gpu", "homework"):
        pixels, classes = PROFILES[profile].pixels, PROFILES[profile].classes
        rows = [network_row(name, pixels, classes) for name in NETWORKS]
        report.table(f"networks at {pixels} pixels, {classes:,} classes", rows)


if __name__ == "__main__":
    typer.run(main)
