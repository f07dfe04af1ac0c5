"""The exercises of notebook 03: shapes, parameters, a block of one's own. Built in notebook 03."""

import math
from collections.abc import Callable, Iterable
from itertools import accumulate
from operator import mul

import torch
from numpy.random import Generator
from torch import Tensor

from facekit.course.exercises import Cases, add_exercise, tensor


def _convolutions(rng: Generator) -> Cases:
    """Side of the map, side of the window, stride, padding."""
    yield 8, 3, 1, 1
    window = int(rng.integers(1, 8))
    yield int(rng.integers(window, 60)), window, int(rng.integers(1, 4)), int(rng.integers(0, 4))


def output_side(size: int, window: int, stride: int, padding: int) -> int:
    """The side of the map that a convolution makes of one of side `size`."""
    return (size + 2 * padding - window) // stride + 1


add_exercise(
    output_side,
    _convolutions,
    "How many places has a window of 3 on a side of 3? Your count is one less.",
    lambda size, window, stride, padding: (size + 2 * padding - window) // stride,
    "Padding is added on both sides of the image.",
    lambda size, window, stride, padding: (size + padding - window) // stride + 1,
    "A window that would stick out at the end is left out, so the division rounds down.",
    lambda size, window, stride, padding: math.ceil((size + 2 * padding - window) / stride) + 1,
)


def _gates(rng: Generator) -> Cases:
    """Features (B, C, H, W) and one score for each channel (B, C)."""
    batch, channels, height, width = rng.integers(2, 6, size=4)
    features = tensor(rng.normal(size=(batch, channels, height, width)))
    yield features, tensor(rng.normal(size=(batch, channels)))


def excite(features: Tensor, scores: Tensor) -> Tensor:
    """Each channel of (B, C, H, W) weighed by the sigmoid of its score, of (B, C)."""
    return features * torch.sigmoid(scores)[:, :, None, None]


add_exercise(
    excite,
    _gates,
    "A score may be any number; what weighs a channel lies between 0 and 1.",
    lambda features, scores: features * scores[:, :, None, None],
    "Every image has channel weights of its own: look at the axes.",
    lambda features, scores: features * torch.sigmoid(scores).mean(0)[None, :, None, None],
    "A gate multiplies: with a weight of 0 nothing of the channel is left.",
    lambda features, scores: features + torch.sigmoid(scores)[:, :, None, None],
)


def _grouped(rng: Generator) -> Cases:
    """Channels in and out, side of the window, groups that divide both, with a bias or without."""
    yield 3, 16, 3, 1, False
    groups = int(rng.integers(2, 6))
    channels, out = groups * int(rng.integers(1, 9)), groups * int(rng.integers(1, 9))
    yield channels, out, int(rng.choice([1, 3, 5, 7])), groups, bool(rng.integers(2))
    yield 64, 64, 7, 64, True


def conv_parameters(channels: int, out: int, window: int, groups: int, bias: bool) -> int:
    """How many numbers a convolution learns."""
    return channels // groups * out * window**2 + bias * out


add_exercise(
    conv_parameters,
    _grouped,
    "With groups a filter does not look at all channels: at how many does it look?",
    lambda channels, out, window, groups, bias: channels * out * window**2 + bias * out,
    "That is one group's share. How many groups are there?",
    lambda channels, out, window, groups, bias: (
        (channels // groups) * (out // groups) * window**2 + bias * out
    ),
    "A window of 3 has a height and a width.",
    lambda channels, out, window, groups, bias: channels // groups * out * window + bias * out,
    "Where a batch norm follows, there is no bias to count.",
    lambda channels, out, window, groups, bias: channels // groups * out * window**2 + out,
    "The weights are right. What else does a convolution with a bias learn?",
    lambda channels, out, window, groups, bias: channels // groups * out * window**2,
    "A bias is added to what comes out: one for each map there.",
    lambda channels, out, window, groups, bias: (
        channels // groups * out * window**2 + bias * channels
    ),
)


def _branches(rng: Generator) -> Cases:
    """Features (B, C, H, W), a branch and a shortcut that both make (B, D, H, W) of them."""
    batch, channels, side = rng.integers(2, 5, size=3).tolist()
    features = tensor(rng.normal(size=(batch, channels, side, side)))
    # As many channels as before, so that a shortcut left out is a wrong answer and no error.
    weights = tensor(rng.normal(size=(2, channels, channels)))

    def branch(x: Tensor) -> Tensor:
        return torch.einsum("oc,bchw->bohw", weights[0], x).tanh() - 0.2

    def shortcut(x: Tensor) -> Tensor:
        return torch.einsum("oc,bchw->bohw", weights[1], x) + 0.1

    yield features, branch, shortcut


def residual(features: Tensor, branch: Callable, shortcut: Callable) -> Tensor:
    """The ReLU of what the branch and the shortcut make of the features, added."""
    return (branch(features) + shortcut(features)).relu()


add_exercise(
    residual,
    _branches,
    "With a branch that gives zero, a residual block passes on its input. Does yours?",
    lambda features, branch, shortcut: branch(features).relu(),
    "Cut off before the sum, the branch can only add, never take away.",
    lambda features, branch, shortcut: branch(features).relu() + shortcut(features),
    "The sum is right. What comes after it in the block of 2016?",
    lambda features, branch, shortcut: branch(features) + shortcut(features),
    "What is added is what the shortcut makes of the input: it may change the channels.",
    lambda features, branch, shortcut: (branch(features) + features).relu(),
    "Branch and shortcut stand side by side: both begin at the input.",
    lambda features, branch, shortcut: (branch(features) + shortcut(branch(features))).relu(),
)


def _stacks(rng: Generator) -> Cases:
    """Window and stride of each layer of a stack, the one next to the image first."""
    yield ([(3, 1)],)
    yield ([(3, 2), (3, 1)],)
    depth = int(rng.integers(2, 6))
    yield ([(int(rng.choice([1, 3, 5, 7])), int(rng.integers(1, 4))) for _ in range(depth)],)


def receptive_field(layers: list[tuple[int, int]]) -> int:
    """The side of the window of pixels that one place after the last layer depends on."""
    sees, step = 1, 1
    for window, stride in layers:
        sees += (window - 1) * step
        step *= stride
    return sees


def _sees(layers: list[tuple[int, int]], steps: Iterable[int]) -> int:
    """The same, but with these distances in pixels from place to place of each layer's input."""
    return 1 + sum((window - 1) * step for (window, _), step in zip(layers, steps, strict=False))


add_exercise(
    receptive_field,
    _stacks,
    "Two windows of 3 see 5 pixels, not 6: they share one.",
    lambda layers: sum(window for window, _ in layers),
    "After a stride of 2, the next window's places are two pixels apart.",
    lambda layers: _sees(layers, [1] * len(layers)),
    "A layer's stride moves the windows of the layers after it, not its own.",
    lambda layers: _sees(layers, accumulate((stride for _, stride in layers), mul)),
    "Two strides of 2, one after the other, put places four pixels apart.",
    lambda layers: _sees(layers, [1, *(stride for _, stride in layers)]),
    "The first layer of the list is the one next to the image.",
    lambda layers: receptive_field(layers[::-1]),
)
