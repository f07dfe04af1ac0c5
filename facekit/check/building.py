"""The exercises of notebook 03: shapes, parameters, a block of one's own. Built in notebook 03."""

from collections.abc import Iterator

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
