"""What a network is made of: shapes, parameters, arithmetic, receptive field. Built in notebook 03.

FLOPs are counted as multiply-adds: one for each product that is summed up in a convolution or a
linear layer, half of what torch.utils.flop_counter counts.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping

import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from facekit.common.errors import RecipeError
from facekit.models.blocks import DropPath, SqueezeExcite
from facekit.models.net import build


def count_parameters(net: nn.Module) -> int:
    """How many numbers the network learns."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def count_multiply_adds(net: nn.Module, size: int) -> int:
    """The multiply-adds of one image of size x size on its way to the logits."""
    return int(describe(net, size).loc["all", "multiply_adds"])


def describe(net: nn.Module, size: int) -> pd.DataFrame:
    """Each part of a FaceNet: what it gives for an image of size x size, learns and computes.

    `stride`: pixels between two places of the map; `sees`: the side of the window of pixels that
    one place depends on (squeeze-excite, which sees everything, left out); `multiply_adds`: of
    one image.
    """
    net = copy.deepcopy(net).eval()  # leave the caller's as it is
    x = torch.zeros(1, 3, size, size, device="meta")  # no numbers are computed, only shapes
    net.check_images(x)
    rows = []
    stride, sees = 1, 1
    for name, part in [("stem", net.stem), *_numbered(net.stages)]:
        x, work = _run(part.to("meta"), x)
        stride, sees = _window(part, stride, sees)
        rows.append((name, _shape(x), stride, sees, count_parameters(part), work))
    x, work = _run(net.neck.to("meta"), x.mean((2, 3)))
    rows.append(("embedding", _shape(x), "", "", count_parameters(net.neck), work))
    x, work = _run(net.head.cpu(), torch.zeros(1, net.dim))
    rows.append(("head", _shape(x), "", "", count_parameters(net.head), work))
    work = sum(row[-1] for row in rows)
    rows.append(("all", "", stride, sees, count_parameters(net), work))
    columns = ["part", "output", "stride", "sees", "parameters", "multiply_adds"]
    return pd.DataFrame(rows, columns=columns).set_index("part")


def compare(names: Iterable[str], num_classes: int, size: int) -> pd.DataFrame:
    """Stride, what a place sees, parameters and multiply-adds of networks of the zoo, a row each.

    Of one image of size x size, with a head for `num_classes`.
    """
    rows = {name: describe(build(name, num_classes), size).loc["all"] for name in names}
    return pd.DataFrame(rows).T.drop(columns="output").astype(int)


def describe_block(block: nn.Module, channels: int, size: int) -> pd.DataFrame:
    """Each layer of a block, in the order of their work on a map of (channels, size, size)."""
    block = copy.deepcopy(block).eval().to("meta")
    names = {layer: name for name, layer in block.named_modules()}
    rows = []

    def note(layer: nn.Module, _, output: torch.Tensor) -> None:
        # Each number of a convolution's output sums up one product for each of its weights.
        products = layer.weight[0].numel() if isinstance(layer, nn.Conv2d) else 0
        work = products * output[0].numel()
        name = f"{names[layer]} ({type(layer).__name__})"
        rows.append((name, _shape(output), count_parameters(layer), work))

    for layer in block.modules():
        idle = isinstance(layer, nn.Identity | nn.Sequential | DropPath)
        if not idle and not list(layer.children()):
            layer.register_forward_hook(note)
    with torch.no_grad():
        output = _shape(block(torch.zeros(1, channels, size, size, device="meta")))
    columns = ["layer", "output", "parameters", "multiply_adds"]
    table = pd.DataFrame(rows, columns=columns).set_index("layer")
    parameters, work = count_parameters(block), table["multiply_adds"].sum()
    own = parameters - table["parameters"].sum()
    if own:  # numbers that are in no layer, such as the factors of ConvNeXt's layer scale
        table.loc["the block's own"] = [output, own, 0]
    table.loc["all"] = [output, parameters, work]
    return table


def compare_blocks(made: Mapping[str, nn.Module], channels: int, size: int) -> pd.DataFrame:
    """Parameters and multiply-adds of blocks on a map of (channels, size, size), a row each."""
    rows = {name: describe_block(block, channels, size).loc["all"] for name, block in made.items()}
    return pd.DataFrame(rows).T[["parameters", "multiply_adds"]].astype(int)


def _shape(x: torch.Tensor) -> str:
    """Without the batch: "64x56x56"."""
    return "x".join(str(side) for side in x.shape[1:])


def _run(part: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, int]:
    """What the part makes of x, and with how many multiply-adds."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        y = part(x)
    return y, counter.get_total_flops() // 2


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


def _numbered(stages: nn.Sequential) -> list[tuple[str, nn.Module]]:
    return [(f"stage {number}", stage) for number, stage in enumerate(stages, start=1)]


def check_limit(net: nn.Module, limit: int | None) -> None:
    """Raise RecipeError when the network is over the homework's limit: by how much, and where."""
    count = count_parameters(net)
    if limit is None or count <= limit:
        return
    parts = {name: count_parameters(part) for name, part in _parts(net)}
    largest = sorted(parts, key=parts.get, reverse=True)[:3]
    raise RecipeError(
        f"{count:,} parameters are {count - limit:,} over the limit of {limit:,}; most are in "
        + ", ".join(f"{name} ({parts[name]:,})" for name in largest if parts[name])
    )


def _parts(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """The top-level parts of any module, a FaceNet's stages one by one."""
    parts = [(f"the {name}", part) for name, part in net.named_children() if name != "stages"]
    if hasattr(net, "stages"):
        parts += _numbered(net.stages)
    return parts
