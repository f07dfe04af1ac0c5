"""Patterns for skin, hair, cloth and walls: filtered noise that repeats without a seam.

White noise is shaped in the frequency domain (Lewis 1989, "Algorithms for solid noise synthesis"):
which frequencies are kept decides whether the pattern looks like pores, clouds, spots or strands.
"""

from functools import cache

import torch
from torch import Tensor

from facekit.common.keyed_random import scramble, to_unit

SIDE = 256
PORES, CLOUDS, SPOTS, STRANDS, CURLS = range(5)  # the rows of the bank


@cache
def bank(device: str) -> Tensor:
    """Five patterns of mean 0 and deviation 1 (SPOTS: 0..1), float32 (5, SIDE, SIDE)."""
    numbers = scramble(torch.arange(5 * SIDE * SIDE)).view(5, SIDE, SIDE)
    white = torch.fft.fft2(to_unit(numbers) - 0.5)
    across = torch.fft.fftfreq(SIDE).double()[None, :]
    down = torch.fft.fftfreq(SIDE).double()[:, None]
    rate = (across**2 + down**2).sqrt()
    rate[0, 0] = 1.0
    keep = torch.stack([
        torch.exp(-((rate / 0.22) ** 2)),
        rate**-1.4 * (rate < 0.3),
        torch.exp(-(((rate - 0.085) / 0.05) ** 2)),
        torch.exp(-((down / 0.012) ** 2)) * torch.exp(-(((across.abs() - 0.12) / 0.13) ** 2)),
        torch.exp(-(((rate - 0.05) / 0.022) ** 2)),
    ])  # fmt: skip
    patterns = torch.fft.ifft2(white * keep).real
    patterns = patterns - patterns.mean((1, 2), keepdim=True)
    patterns = patterns / patterns.std((1, 2), keepdim=True)
    patterns[SPOTS] = ((patterns[SPOTS] - 1.1) / 1.2).clamp(0, 1)
    return patterns.float().to(device)


def take(pattern: Tensor, place: Tensor) -> Tensor:
    """The elements of a flat pattern at integer places of any shape."""
    return pattern.index_select(0, place.flatten()).view(place.shape)


def texture(row: int | Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Read the nearest point of a pattern at (u across, v down), one unit a repetition."""
    place = torch.add(wrapped(u * SIDE), wrapped(v * SIDE), alpha=SIDE)
    return take(bank(str(u.device)).flatten(), place + row * SIDE**2)


def smooth(row: int, u: Tensor, v: Tensor) -> Tensor:
    """The same, but between the points: for patterns that are enlarged."""
    pattern = bank(str(u.device))[row].flatten()
    x = u * SIDE
    y = v * SIDE
    left = wrapped(x.floor())
    right = wrapped(x.floor() + 1)
    top = wrapped(y.floor()) * SIDE
    under = wrapped(y.floor() + 1) * SIDE
    upper = torch.lerp(take(pattern, top + left), take(pattern, top + right), x - x.floor())
    lower = torch.lerp(take(pattern, under + left), take(pattern, under + right), x - x.floor())
    return torch.lerp(upper, lower, y - y.floor())


def wrapped(place: Tensor) -> Tensor:
    """Places as integers 0..SIDE - 1: patterns repeat."""
    return place.int().bitwise_and_(SIDE - 1)
