"""The exercises of notebook 02: colours, flips, mixing. Built in notebook 02."""

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from facekit.course.exercises import Cases, add_exercise, tensor


def _normalised(rng: Generator) -> Cases:
    """A normalised batch (B, 3, H, W), and the mean and the spread (3,) that made it so."""
    batch, height, width = rng.integers(1, 7, size=3)
    colours = tensor(rng.uniform(size=(batch, 3, height, width)))
    mean = tensor(rng.uniform(0.3, 0.6, size=3))
    std = tensor(rng.uniform(0.1, 0.4, size=3))
    yield (colours - _each(mean)) / _each(std), mean, std


def _each(channels: Tensor) -> Tensor:
    return channels.view(3, 1, 1)


def true_colours(batch: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """A normalised batch (B, 3, H, W) as it was before, in 0 ... 1."""
    return batch * _each(std) + _each(mean)


add_exercise(
    true_colours,
    _normalised,
    "That normalises a second time, what was normalised already.",
    lambda batch, mean, std: (batch - _each(mean)) / _each(std),
    "What was done last must be undone first.",
    lambda batch, mean, std: (batch + _each(mean)) * _each(std),
    "The way there divides by the spread; what is the way back?",
    lambda batch, mean, std: batch / _each(std) + _each(mean),
    "Each channel has its own mean and its own spread.",
    lambda batch, mean, std: batch * std.mean() + mean.mean(),
)


def _batches(rng: Generator) -> Cases:
    """Images (B, C, H, W), and which of them are to be flipped (B,)."""
    batch, channels, height, width = rng.integers(2, 6, size=4)
    chosen = rng.permutation(np.arange(batch) < rng.integers(1, batch))
    yield tensor(rng.uniform(size=(batch, channels, height, width))), torch.from_numpy(chosen)


def flip_some(images: Tensor, chosen: Tensor) -> Tensor:
    """The chosen images of (B, C, H, W) as in a mirror, the others as they are."""
    return _flip(images, chosen, [3])


def _flip(images: Tensor, chosen: Tensor, axes: list[int]) -> Tensor:
    return torch.where(chosen[:, None, None, None], images.flip(axes), images)


add_exercise(
    flip_some,
    _batches,
    "Now they stand on their heads: which axis runs from left to right?",
    lambda images, chosen: _flip(images, chosen, [2]),
    "That is half a turn; a mirror leaves above what is above.",
    lambda images, chosen: _flip(images, chosen, [2, 3]),
    "The first axis is the batch: that gives one image the pixels of another.",
    lambda images, chosen: _flip(images, chosen, [0]),
    "Those that were not chosen stay as they are.",
    lambda images, chosen: images.flip(3),
    "You have flipped just those that were not chosen.",
    lambda images, chosen: _flip(images, ~chosen, [3]),
)


def _pairs(rng: Generator) -> Cases:
    """Images (B, C, H, W), their answers (B, K) and each image's own share (B,)."""
    batch, channels, height, width = rng.integers(3, 6, size=4)
    images = tensor(rng.uniform(size=(batch, channels, height, width)))
    answers = torch.eye(7)[rng.permutation(7)[:batch]]
    yield images, answers, tensor(rng.uniform(0.05, 0.45, size=batch))


def mix_up(images: Tensor, answers: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Each image and its answer mixed with the next of the batch, the last with the first."""
    return _mix(images, share), _mix(answers, share)


def _mix(values: Tensor, share: Tensor, shift: int = -1) -> Tensor:
    """Each row of (B, ...) mixed with that `shift` places before it."""
    share = share.view(-1, *[1] * (values.dim() - 1))
    return share * values + (1 - share) * values.roll(shift, 0)


add_exercise(
    mix_up,
    _pairs,
    "The images are mixed, their answers are not: the network is told half the truth.",
    lambda images, answers, share: (_mix(images, share), answers),
    "The answers come from another image than the pixels: see who is mixed with whom.",
    lambda images, answers, share: (_mix(images, share), _mix(answers, share, 1)),
    "Images and answers agree, but each is to be mixed with the next, not the one before.",
    lambda images, answers, share: (_mix(images, share, 1), _mix(answers, share, 1)),
    "`share` is that of the image itself, not of the other one.",
    lambda images, answers, share: mix_up(images, answers, 1 - share),
    "Each image has a share of its own.",
    lambda images, answers, share: mix_up(images, answers, share[:1].expand(len(share))),
)
