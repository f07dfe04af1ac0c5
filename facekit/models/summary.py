"""What a network is made of: shapes, parameters, arithmetic, receptive field. Built in notebook 03.

Any network that takes images can be described. One of the kit's own has a table with receptive
fields; parts.py counts.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import pandas as pd
import torch
from torch import nn

from facekit.common import own
from facekit.common.errors import RecipeError
from facekit.models.blocks import DropPath, SqueezeExcite
from facekit.models.build import build
from facekit.models.net import FaceNet
from facekit.models.parts import (
    OWN,
    can_open,
    count_parameters,
    find_parts,
    measure,
    parameters_by_part,
    part_table,
)
from facekit.models.specs import NetworkSpec
from facekit.models.zoo import as_spec

MOST_PARAMETERS = 300_000_000  # where the course has no limit of its own


def count_multiply_adds(net: nn.Module, size: int) -> int:
    """The multiply-adds of one image of size x size on its way to the logits.

    Raises RecipeError when the network fails on such an image.
    """
    work, _ = measure(net, {}, (1, 3, size, size))
    return work[OWN]


def describe(net: nn.Module, size: int) -> pd.DataFrame:
    """Each part of a network: what it gives for an image of size x size, learns and computes.

    `net` is any module that takes images (B, 3, size, size). Of a FaceNet there are two columns
    more. `stride`: pixels between two places of the map; `sees`: the side of the window of pixels
    that one place depends on (squeeze-excite, which sees everything, left out). `multiply_adds`
    are of one image. Raises RecipeError when the network fails on such an image.
    """
    table = part_table(net, _parts(net), (1, 3, size, size))
    if isinstance(net, FaceNet):
        _add_windows(table, net)
    return table


def compare(names: Iterable[str], num_classes: int, size: int) -> pd.DataFrame:
    """Stride, what a place sees, parameters and multiply-adds of networks of the zoo, a row each.

    Of one image of size x size, with a head for `num_classes`.
    """
    rows = {name: describe(build(name, num_classes), size).loc["all"] for name in names}
    return pd.DataFrame(rows).T.drop(columns="output").astype(int)


def describe_block(block: nn.Module, channels: int, size: int) -> pd.DataFrame:
    """Each layer of a block, in the order of their work on a map of (channels, size, size).

    Raises RecipeError when the block fails on such a map.
    """
    paths = {}
    for path, layer in _layers(block):
        paths.setdefault(layer, path)  # one that is there twice has one row
    layers = {f"{path} ({type(layer).__name__})": path for layer, path in paths.items()}
    table = part_table(block, layers, (1, channels, size, size), own="the block's own")
    return table.rename_axis("layer")


def compare_blocks(made: Mapping[str, nn.Module], channels: int, size: int) -> pd.DataFrame:
    """Parameters and multiply-adds of blocks on a map of (channels, size, size), a row each."""
    rows = {name: describe_block(block, channels, size).loc["all"] for name, block in made.items()}
    return pd.DataFrame(rows).T[["parameters", "multiply_adds"]].astype(int)


def _layers(block: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Path and layer of all that a block is made of, but for what leaves a map as it is."""
    for name, child in block.named_children():
        if can_open(child):
            for path, layer in _layers(child):
                yield f"{name}.{path}", layer
        elif not isinstance(child, nn.Identity | nn.Sequential | DropPath):
            yield name, child


def _parts(net: nn.Module) -> dict[str, str]:
    """Name and path of each part, by which it is shown."""
    if not isinstance(net, FaceNet):
        return find_parts(net)
    parts = {"stem": "stem"}
    for number in range(len(net.stages)):
        parts[f"stage {number + 1}"] = f"stages.{number}"
    return parts | {"embedding": "neck", "head": "head"}


def _add_windows(table: pd.DataFrame, net: FaceNet) -> None:
    """Fill in `stride` and `sees` of the stem and the stages, and of the last map for all."""
    table.insert(1, "stride", pd.Series("", table.index, dtype=object))
    table.insert(2, "sees", pd.Series("", table.index, dtype=object))
    table.loc["all", "output"] = ""
    stride, sees = 1, 1
    for name, path in _parts(net).items():
        if path not in ("neck", "head"):
            stride, sees = _window(net.get_submodule(path), stride, sees)
            table.loc[name, ["stride", "sees"]] = [stride, sees]
    table.loc["all", ["stride", "sees"]] = [stride, sees]


def _window(part: nn.Module, stride: int, sees: int) -> tuple[int, int]:
    """Stride and receptive field after the part: each window of k adds k - 1 of its steps."""
    for layer in _way(part):
        if isinstance(layer, nn.Conv2d):
            kernel, step = layer.kernel_size[0], layer.stride[0]
        else:
            kernel, step = layer.kernel_size, layer.stride
        sees += (kernel - 1) * stride
        stride *= step
    return stride, sees


def _way(part: nn.Module) -> Iterator[nn.Module]:
    """The layers with windows on the longest way through; a shortcut is never longer."""
    for name, child in part.named_children():
        if isinstance(child, nn.Conv2d | nn.MaxPool2d):
            yield child
        elif name != "shortcut" and not isinstance(child, SqueezeExcite):
            yield from _way(child)


def check_size(
    network: str | Mapping | NetworkSpec, head: str | Mapping, num_classes: int, limit: int
) -> None:
    """Raise RecipeError for a network over the limit before any memory is taken for it.

    Of the reader's own networks and heads nothing is known before they are built.
    """
    if own.is_known(network) or (isinstance(network, Mapping) and "own" in network):
        return
    spec = as_spec(network)
    spec = replace(spec, head=head or spec.head)
    name = spec.head.get("name") if isinstance(spec.head, Mapping) else spec.head
    if own.is_known(name):
        spec = replace(spec, head="linear")  # of the same size, or near it
    try:
        with torch.device("meta"):  # where tensors have a shape and no content
            net = build(spec, num_classes)
    except (RuntimeError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise RecipeError(f"the network is too large to build ({reason})") from error
    check_limit(net, limit)


def check_limit(net: nn.Module, limit: int | None) -> None:
    """Raise RecipeError when the network is over the homework's limit: by how much, and where."""
    count = count_parameters(net)
    if limit is None or count <= limit:
        return
    parts = parameters_by_part(net, _parts(net))
    largest = sorted(parts, key=parts.get, reverse=True)[:3]
    raise RecipeError(
        f"{count:,} parameters are {count - limit:,} over the limit of {limit:,}; most are in "
        + ", ".join(f"{name} ({parts[name]:,})" for name in largest if parts[name])
    )
