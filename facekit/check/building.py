"""The exercises of notebook 03: shapes, parameters, a block of one's own. Built in notebook 03."""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from facekit.check import asked


def _convolutions(rng: np.random.Generator) -> Iterator[tuple[int, int, int, int]]:
    """Side of the map, side of the window, stride, padding."""
    yield 8, 3, 1, 1
    window = int(rng.integers(1, 8))
    yield int(rng.integers(window, 60)), window, int(rng.integers(1, 4)), int(rng.integers(0, 4))


def _one_too_few(size, window, stride, padding):
    """How many places has a window of 3 on a side of 3? Your count is one less."""
    return (size + 2 * padding - window) // stride


def _padded_once(size, window, stride, padding):
    """Padding is added on both sides of the picture."""
    return (size + padding - window) // stride + 1


def _rounded_up(size, window, stride, padding):
    """A window that would stick out at the end is left out, so the division rounds down."""
    return -((size + 2 * padding - window) // -stride) + 1


@asked(_convolutions, one_too_few=_one_too_few, padded_once=_padded_once, rounded_up=_rounded_up)
def output_side(size: int, window: int, stride: int, padding: int) -> int:
    """The side of the map that a convolution makes of one of side `size`."""
    return (size + 2 * padding - window) // stride + 1


def _gates(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Features (B, C, H, W) and one score for each channel (B, C)."""
    batch, channels, height, width = rng.integers(2, 6, size=4)
    features = torch.from_numpy(rng.normal(size=(batch, channels, height, width))).float()
    yield features, torch.from_numpy(rng.normal(size=(batch, channels))).float()


def _no_gate(features, scores):
    """A score may be any number; what weighs a channel lies between 0 and 1."""
    return features * scores[:, :, None, None]


def _over_the_batch(features, scores):
    """Every picture has channel weights of its own: look at the axes."""
    return features * torch.sigmoid(scores).mean(0)[None, :, None, None]


def _added(features, scores):
    """A gate multiplies: with a weight of 0 nothing of the channel is left."""
    return features + torch.sigmoid(scores)[:, :, None, None]


@asked(_gates, no_gate=_no_gate, over_the_batch=_over_the_batch, added=_added)
def excite(features: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Each channel of (B, C, H, W) weighed by the sigmoid of its score, of (B, C)."""
    return features * torch.sigmoid(scores)[:, :, None, None]


def _grouped(rng: np.random.Generator) -> Iterator[tuple[int, int, int, int, bool]]:
    """Channels in and out, side of the window, groups that divide both, with a bias or without."""
    yield 3, 16, 3, 1, False
    groups = int(rng.integers(2, 6))
    channels, out = (groups * int(rng.integers(1, 9)) for _ in range(2))
    yield channels, out, int(rng.choice([1, 3, 5, 7])), groups, bool(rng.integers(2))
    yield 64, 64, 7, 64, True


def _groups_forgotten(channels, out, window, groups, bias):
    """With groups a filter does not look at all channels: at how many does it look?"""
    return channels * out * window**2 + bias * out


def _one_group_alone(channels, out, window, groups, bias):
    """That is one group's share. How many groups are there?"""
    return (channels // groups) * (out // groups) * window**2 + bias * out


def _a_line_for_a_window(channels, out, window, groups, bias):
    """A window of 3 has a height and a width."""
    return channels // groups * out * window + bias * out


def _bias_in_any_case(channels, out, window, groups, bias):
    """Where a batch norm follows, there is no bias to count."""
    return channels // groups * out * window**2 + out


def _no_bias(channels, out, window, groups, bias):
    """The weights are right. What else does a convolution with a bias learn?"""
    return channels // groups * out * window**2


def _a_bias_each_way_in(channels, out, window, groups, bias):
    """A bias is added to what comes out: one for each map there."""
    return channels // groups * out * window**2 + bias * channels


@asked(
    _grouped,
    groups_forgotten=_groups_forgotten,
    one_group_alone=_one_group_alone,
    a_line_for_a_window=_a_line_for_a_window,
    bias_in_any_case=_bias_in_any_case,
    no_bias=_no_bias,
    a_bias_each_way_in=_a_bias_each_way_in,
)
def conv_parameters(channels: int, out: int, window: int, groups: int, bias: bool) -> int:
    """How many numbers a convolution learns."""
    return channels // groups * out * window**2 + bias * out


def _branches(
    rng: np.random.Generator,
) -> Iterator[tuple[torch.Tensor, Callable, Callable]]:
    """Features (B, C, H, W), a branch and a shortcut that both make (B, D, H, W) of them."""
    batch, channels, side = (int(n) for n in rng.integers(2, 5, size=3))
    features = torch.from_numpy(rng.normal(size=(batch, channels, side, side))).float()
    # As many channels as before, so that a shortcut left out is a wrong answer and no error.
    weights = torch.from_numpy(rng.normal(size=(2, channels, channels))).float()

    def branch(x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("oc,bchw->bohw", weights[0], x).tanh() - 0.2

    def shortcut(x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("oc,bchw->bohw", weights[1], x) + 0.1

    yield features, branch, shortcut


def _without_shortcut(features, branch, shortcut):
    """With a branch that gives zero, a residual block passes on its input. Does yours?"""
    return branch(features).relu()


def _activation_first(features, branch, shortcut):
    """Cut off before the sum, the branch can only add, never take away."""
    return branch(features).relu() + shortcut(features)


def _no_activation(features, branch, shortcut):
    """The sum is right. What comes after it in the block of 2016?"""
    return branch(features) + shortcut(features)


def _input_added(features, branch, shortcut):
    """What is added is what the shortcut makes of the input: it may change the channels."""
    return (branch(features) + features).relu()


def _one_after_the_other(features, branch, shortcut):
    """Branch and shortcut stand side by side: both begin at the input."""
    return (branch(features) + shortcut(branch(features))).relu()


@asked(
    _branches,
    without_shortcut=_without_shortcut,
    activation_first=_activation_first,
    no_activation=_no_activation,
    input_added=_input_added,
    one_after_the_other=_one_after_the_other,
)
def residual(features: torch.Tensor, branch: Callable, shortcut: Callable) -> torch.Tensor:
    """The ReLU of what the branch and the shortcut make of the features, added."""
    return (branch(features) + shortcut(features)).relu()


def _stacks(rng: np.random.Generator) -> Iterator[tuple[list[tuple[int, int]]]]:
    """Window and stride of each layer of a stack, the one next to the picture first."""
    yield ([(3, 1)],)
    yield ([(3, 2), (3, 1)],)
    depth = int(rng.integers(2, 6))
    yield ([(int(rng.choice([1, 3, 5, 7])), int(rng.integers(1, 4))) for _ in range(depth)],)


def _windows_added(layers):
    """Two windows of 3 see 5 pixels, not 6: they share one."""
    return sum(window for window, _ in layers)


def _without_strides(layers):
    """After a stride of 2, the next window's places are two pixels apart."""
    return 1 + sum(window - 1 for window, _ in layers)


def _own_stride_counts(layers):
    """A layer's stride moves the windows of the layers after it, not its own."""
    sees, step = 1, 1
    for window, stride in layers:
        step *= stride
        sees += (window - 1) * step
    return sees


def _last_stride_alone(layers):
    """Two strides of 2, one after the other, put places four pixels apart."""
    sees, step = 1, 1
    for window, stride in layers:
        sees += (window - 1) * step
        step = stride
    return sees


def _answer_first(layers):
    """The first layer of the list is the one next to the picture."""
    return receptive_field(layers[::-1])


@asked(
    _stacks,
    windows_added=_windows_added,
    without_strides=_without_strides,
    own_stride_counts=_own_stride_counts,
    last_stride_alone=_last_stride_alone,
    answer_first=_answer_first,
)
def receptive_field(layers: list[tuple[int, int]]) -> int:
    """The side of the window of pixels that one place after the last layer depends on."""
    sees, step = 1, 1
    for window, stride in layers:
        sees += (window - 1) * step
        step *= stride
    return sees
