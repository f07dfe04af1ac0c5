"""The exercises of notebook 02: colours, flips, mixing. Built in notebook 02."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from facekit.check import asked


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).float()


def _normalised(rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """A normalised batch (B, 3, H, W), and the mean and the spread (3,) that made it so."""
    batch, height, width = rng.integers(1, 7, size=3)
    colours = _tensor(rng.uniform(size=(batch, 3, height, width)))
    mean, std = _tensor(rng.uniform(0.3, 0.6, size=3)), _tensor(rng.uniform(0.1, 0.4, size=3))
    yield (colours - _each(mean)) / _each(std), mean, std


def _each(channels: Tensor) -> Tensor:
    return channels.view(3, 1, 1)


def _again(batch, mean, std):
    """That normalises a second time, what was normalised already."""
    return (batch - _each(mean)) / _each(std)


def _mean_first(batch, mean, std):
    """What was done last must be undone first."""
    return (batch + _each(mean)) * _each(std)


def _divided(batch, mean, std):
    """The way there divides by the spread; what is the way back?"""
    return batch / _each(std) + _each(mean)


def _all_channels(batch, mean, std):
    """Each channel has its own mean and its own spread."""
    return batch * std.mean() + mean.mean()


@asked(_normalised, again=_again, mean_first=_mean_first, divided=_divided, channels=_all_channels)
def true_colours(batch: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """A normalised batch (B, 3, H, W) as it was before, in 0 ... 1."""
    return batch * _each(std) + _each(mean)


def _batches(rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Pictures (B, C, H, W), and which of them are to be flipped (B,)."""
    batch, channels, height, width = rng.integers(2, 6, size=4)
    chosen = rng.permutation(np.arange(batch) < rng.integers(1, batch))
    yield _tensor(rng.uniform(size=(batch, channels, height, width))), torch.from_numpy(chosen)


def _chosen_get(pictures, chosen, dims):
    return torch.where(chosen[:, None, None, None], pictures.flip(dims), pictures)


def _upside_down(pictures, chosen):
    """Now they stand on their heads: which axis runs from left to right?"""
    return _chosen_get(pictures, chosen, 2)


def _half_a_turn(pictures, chosen):
    """That is half a turn; a mirror leaves above what is above."""
    return _chosen_get(pictures, chosen, (2, 3))


def _order_turned(pictures, chosen):
    """The first axis is the batch: that gives one picture the pixels of another."""
    return _chosen_get(pictures, chosen, 0)


def _everybody(pictures, chosen):
    """Those that were not chosen stay as they are."""
    return pictures.flip(3)


def _the_others(pictures, chosen):
    """You have flipped just those that were not chosen."""
    return _chosen_get(pictures, ~chosen, 3)


@asked(
    _batches,
    upside_down=_upside_down,
    half_a_turn=_half_a_turn,
    order_turned=_order_turned,
    everybody=_everybody,
    the_others=_the_others,
)
def flip_some(pictures: Tensor, chosen: Tensor) -> Tensor:
    """The chosen pictures of (B, C, H, W) as in a mirror, the others as they are."""
    return _chosen_get(pictures, chosen, 3)


def _pairs(rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Pictures (B, C, H, W), their answers (B, K) and each picture's own share (B,)."""
    batch, channels, height, width = rng.integers(3, 6, size=4)
    pictures = _tensor(rng.uniform(size=(batch, channels, height, width)))
    answers = torch.eye(7)[rng.permutation(7)[:batch]]
    yield pictures, answers, _tensor(rng.uniform(0.05, 0.45, size=batch))


def _blend(values, others, share):
    share = share.view(-1, *[1] * (values.dim() - 1))
    return share * values + (1 - share) * others


def _answers_alone(pictures, answers, share):
    """The pictures are mixed, their answers are not: the network is told half the truth."""
    return _blend(pictures, pictures.roll(-1, 0), share), answers


def _others_apart(pictures, answers, share):
    """The answers come from another picture than the pixels: see who is mixed with whom."""
    return _blend(pictures, pictures.roll(-1, 0), share), _blend(answers, answers.roll(1, 0), share)


def _previous(pictures, answers, share):
    """Pictures and answers agree, but each is to be mixed with the next, not the one before."""
    return tuple(_blend(part, part.roll(1, 0), share) for part in (pictures, answers))


def _swapped(pictures, answers, share):
    """`share` is that of the picture itself, not of the other one."""
    return tuple(_blend(part, part.roll(-1, 0), 1 - share) for part in (pictures, answers))


def _one_for_all(pictures, answers, share):
    """Each picture has a share of its own."""
    first = share[:1].expand(len(share))
    return tuple(_blend(part, part.roll(-1, 0), first) for part in (pictures, answers))


@asked(
    _pairs,
    answers_alone=_answers_alone,
    others_apart=_others_apart,
    previous=_previous,
    swapped=_swapped,
    one_for_all=_one_for_all,
)
def mix_up(pictures: Tensor, answers: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Each picture and its answer mixed with the next of the batch, the last with the first."""
    return tuple(_blend(part, part.roll(-1, 0), share) for part in (pictures, answers))
