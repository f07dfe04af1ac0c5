"""The exercises of notebook 03: shapes, parameters, a block of one's own. Built in notebook 03."""

import math
from collections.abc import Iterable
from itertools import accumulate
from operator import mul

from numpy.random import Generator
from torch import Tensor, nn

from facekit.course.exercises import Cases, add_exercise, tensor
from facekit.course.exercises.modules import ModuleExercise, acting
from facekit.models.blocks import InvertedBottleneck, ResidualBlock, SqueezeExcite


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


def _shapes(rng: Generator) -> Cases:
    """Channels in and out, stride, features (B, C, H, W): the same shape, and changed ones."""
    channels = int(rng.integers(2, 5))
    for out, stride in ((channels, 1), (2 * channels, 2), (2 * channels, 1), (channels, 2)):
        yield channels, out, stride, tensor(3 * rng.normal(size=(2, channels, 5, 5)))


def _with_biases(channels: int, out: int, stride: int) -> nn.Module:
    block = ResidualBlock(channels, out, stride)
    block.residual[0][0] = nn.Conv2d(channels, out, 3, stride, 1)
    block.residual[1] = nn.Conv2d(out, out, 3, 1, 1)
    return block


def _strided_late(channels: int, out: int, stride: int) -> nn.Module:
    block = ResidualBlock(channels, out, stride)
    block.residual[0][0].stride, block.residual[1].stride = (1, 1), (stride, stride)
    return block


def _one_relu(channels: int, out: int, stride: int) -> nn.Module:
    block = ResidualBlock(channels, out, stride)
    block.residual[0][2] = nn.Identity()
    return block


add_exercise(
    ResidualBlock,
    _shapes,
    "With a branch that gives zero, a residual block passes on its input. Does yours?",
    acting(ResidualBlock, lambda block, x: block.residual(x).relu()),
    "Cut off before the sum, the branch can only add, never take away.",
    acting(ResidualBlock, lambda block, x: block.residual(x).relu() + block.shortcut(x)),
    "The sum is right. What comes after it in the block of 2016?",
    acting(ResidualBlock, lambda block, x: block.residual(x) + block.shortcut(x)),
    "Between the two convolutions there is a ReLU; without it they are a single linear step.",
    _one_relu,
    "Where a batch norm follows, a bias does nothing: leave it out.",
    _with_biases,
    "The first of the two convolutions has the stride.",
    _strided_late,
    kind=ModuleExercise,
)


def _reductions(rng: Generator) -> Cases:
    """Channels, reduction, features (B, C, H, W)."""
    for reduction in (2, 4):
        channels = reduction * int(rng.integers(1, 4))
        yield channels, reduction, tensor(3 * rng.normal(size=(3, channels, 4, 3)))


def _squeezed(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)


def _no_relu(channels: int, reduction: int) -> nn.Module:
    gate = SqueezeExcite(channels, reduction)
    gate.weigh[1] = nn.Identity()
    return gate


def _unreduced(channels: int, reduction: int) -> nn.Module:
    return SqueezeExcite(channels, 1)


add_exercise(
    SqueezeExcite,
    _reductions,
    "A score may be any number; what weighs a channel lies between 0 and 1.",
    acting(SqueezeExcite, lambda gate, x: x * gate.weigh[:-1](_squeezed(x))),
    "A sigmoid is a gate, too, and was the paper's; here nn.Hardsigmoid is asked for.",
    acting(SqueezeExcite, lambda gate, x: x * gate.weigh[:-1](_squeezed(x)).sigmoid()),
    "A hard swish has no upper end. Which function takes any number to 0 ... 1?",
    acting(SqueezeExcite, lambda gate, x: x * nn.Hardswish()(gate.weigh[:-1](_squeezed(x)))),
    "A gate multiplies: with a weight of 0 nothing of the channel is left.",
    acting(SqueezeExcite, lambda gate, x: x + gate.weigh(_squeezed(x))),
    "Every image has channel weights of its own: over which axes do you take the mean?",
    acting(SqueezeExcite, lambda gate, x: x * gate.weigh(_squeezed(x).mean(0, keepdim=True))),
    "Between the two layers there is a ReLU.",
    _no_relu,
    "In the middle there are channels / reduction numbers: that is the squeeze.",
    _unreduced,
    kind=ModuleExercise,
)


def _dense(channels: int, out: int, stride: int) -> nn.Module:
    block = InvertedBottleneck(channels, out, stride)
    block.residual[1][0] = nn.Conv2d(4 * channels, 4 * channels, 3, stride, 1, bias=False)
    return block


def _early_stride(channels: int, out: int, stride: int) -> nn.Module:
    block = InvertedBottleneck(channels, out, stride)
    block.residual[0][0].stride, block.residual[1][0].stride = (stride, stride), (1, 1)
    return block


def _unbounded(channels: int, out: int, stride: int) -> nn.Module:
    block = InvertedBottleneck(channels, out, stride)
    block.residual[0][2], block.residual[1][2] = nn.ReLU(), nn.ReLU()
    return block


add_exercise(
    InvertedBottleneck,
    _shapes,
    "Where the shape stays, the input is added.",
    acting(InvertedBottleneck, lambda block, x: block.residual(x)),
    "The narrow end carries all there is: no activation after the last 1x1, nor after the sum.",
    acting(InvertedBottleneck, lambda block, x: InvertedBottleneck.forward(block, x).relu()),
    "The 3x3 is depthwise: how many groups has it?",
    _dense,
    "The 3x3 has the stride; the 1x1 before it keeps the whole map.",
    _early_stride,
    "This block's activation has an upper end: ReLU6.",
    _unbounded,
    kind=ModuleExercise,
)
