"""The exercises of notebook 04: rates, steps, and what to count. Built in notebook 04."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from facekit.check import asked
from facekit.optim import learning_rate
from facekit.training import History

# ------------------------------------------------------------------ the schedule


def _places(rng: np.random.Generator) -> Iterator[tuple[int, int, int, float]]:
    """Step, steps, steps of warm-up, peak."""
    yield 0, 10, 2, 1.0
    steps, peak = int(rng.integers(20, 200)), round(float(rng.uniform(0.5, 2)), 2)
    warmup = int(rng.integers(2, steps // 3))
    for step in (0, warmup - 1, warmup, int(rng.integers(warmup, steps)), steps - 1):
        yield step, steps, warmup, peak
    yield int(rng.integers(steps)), steps, 0, peak


def _from_nothing(step, steps, warmup, peak):
    """Your first step has a rate of 0, so it changes nothing; and which step has the peak?"""
    if step < warmup:
        return peak * step / warmup
    return scheduled_rate(step, steps, warmup, peak)


def _not_at_the_peak(step, steps, warmup, peak):
    """Step `warmup` has the peak. How much of the way down is done at that step?"""
    if step < warmup:
        return scheduled_rate(step, steps, warmup, peak)
    return peak * 0.5 * (1 + math.cos(math.pi * step / steps))


def _above_zero(step, steps, warmup, peak):
    """Your last rate is too far above zero: over how many steps does the rate fall?"""
    if step < warmup:
        return scheduled_rate(step, steps, warmup, peak)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / steps))


def _up_again(step, steps, warmup, peak):
    """Your rate falls and rises again. From its top to its bottom a cosine takes half a turn."""
    if step < warmup:
        return scheduled_rate(step, steps, warmup, peak)
    done = (step - warmup) / (steps - warmup)
    return peak * 0.5 * (1 + math.cos(2 * math.pi * done))


@asked(
    _places,
    from_nothing=_from_nothing,
    not_at_the_peak=_not_at_the_peak,
    above_zero=_above_zero,
    up_again=_up_again,
)
def scheduled_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """The rate of step 0 ... steps - 1: a straight climb to the peak, then half a cosine to 0."""
    return learning_rate(step, steps, warmup, peak)


# ------------------------------------------------------------------ one step


def _weights(rng: np.random.Generator) -> Iterator[tuple]:
    """Weights, gradient, velocity (N,), rate, momentum, decay; a first step, and a later one."""
    size = int(rng.integers(2, 6))
    weight, gradient, velocity = torch.from_numpy(rng.normal(size=(3, size))).float()
    settings = [round(float(rng.uniform(*of)), 2) for of in ((0.1, 1), (0.5, 0.95), (0.1, 0.5))]
    yield weight, gradient, torch.zeros_like(weight), *settings
    yield weight, gradient, velocity, *settings


def _no_look_ahead(weight, gradient, velocity, rate, momentum, decay):
    """That is plain momentum. Nesterov's goes on from where the momentum will have led."""
    velocity = momentum * velocity + gradient + decay * weight
    return weight - rate * velocity, velocity


def _no_decay(weight, gradient, velocity, rate, momentum, decay):
    """Without a gradient, too, the weights should shrink a little: where is `decay`?"""
    velocity = momentum * velocity + gradient
    return weight - rate * (gradient + momentum * velocity), velocity


def _decay_apart(weight, gradient, velocity, rate, momentum, decay):
    """You shrink the weights beside the step, as AdamW does; here decay is part of the gradient,
    and momentum remembers it."""
    velocity = momentum * velocity + gradient
    return (1 - rate * decay) * weight - rate * (gradient + momentum * velocity), velocity


def _uphill(weight, gradient, velocity, rate, momentum, decay):
    """The gradient points to where the loss grows."""
    gradient = gradient + decay * weight
    velocity = momentum * velocity + gradient
    return weight + rate * (gradient + momentum * velocity), velocity


@asked(
    _weights,
    no_look_ahead=_no_look_ahead,
    no_decay=_no_decay,
    decay_apart=_decay_apart,
    uphill=_uphill,
)
def sgd_step(
    weight: torch.Tensor,
    gradient: torch.Tensor,
    velocity: torch.Tensor,
    rate: float,
    momentum: float,
    decay: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and velocity after a step of SGD with Nesterov momentum and weight decay."""
    gradient = gradient + decay * weight
    velocity = momentum * velocity + gradient
    return weight - rate * (gradient + momentum * velocity), velocity


# ------------------------------------------------------------------ what is counted


def _judged(rng: np.random.Generator) -> Iterator[tuple[list[int], list[int]]]:
    """Right answers in each batch, and pictures in each; the last has what is left."""
    yield [3, 1], [4, 1]
    size, count = int(rng.integers(8, 65)), int(rng.integers(2, 6))
    sizes = [size] * count + [int(rng.integers(1, size // 2))]
    yield [int(rng.integers(number + 1)) for number in sizes], sizes


def _mean_of_means(right, sizes):
    """One picture of the small last batch counts as much as several of the others."""
    return sum(r / size for r, size in zip(right, sizes, strict=True)) / len(sizes)


def _as_if_full(right, sizes):
    """You divide by more pictures than there are: the last batch is not full."""
    return sum(right) / (sizes[0] * len(sizes))


def _without_the_last(right, sizes):
    """Training may leave out a batch that is not full; here every picture counts."""
    return sum(right[:-1]) / sum(sizes[:-1])


@asked(
    _judged,
    mean_of_means=_mean_of_means,
    as_if_full=_as_if_full,
    without_the_last=_without_the_last,
)
def accuracy(right: Sequence[int], sizes: Sequence[int]) -> float:
    """The share of right answers over all pictures of all batches."""
    return sum(right) / sum(sizes)


# ------------------------------------------------------------------ when to stop


def _curves(rng: np.random.Generator) -> Iterator[tuple[list[float], int]]:
    """Dev accuracies and patience: a run that is stopped, one that is not, any."""
    yield [0.2, 0.5, 0.4, 0.5, 0.6], 2
    yield [0.1, 0.2, 0.2, 0.4], 3
    length = int(rng.integers(4, 12))
    rising = np.linspace(0.2, 0.6, length) + rng.normal(0, 0.15, length)
    yield rising.clip(0, 1).round(1).tolist(), int(rng.integers(1, 4))


def _follow(accuracies, patience, better=lambda new, best: new > best):
    """Epochs trained and best epoch, as `better` decides."""
    best = 0
    for epoch, value in enumerate(accuracies):
        if better(value, accuracies[best]):
            best = epoch
        if epoch - best >= patience:
            break
    return epoch + 1, best + 1


def _last_for_best(accuracies, patience):
    """The network to keep is not the one that the run ended with."""
    end, _ = _follow(accuracies, patience)
    return end, end


def _from_zero(accuracies, patience):
    """Your epochs begin with 0; the first one is epoch 1."""
    return tuple(epoch - 1 for epoch in _follow(accuracies, patience))


def _one_too_many(accuracies, patience):
    """Your run waits an epoch too long: with a patience of 1 a single worse epoch ends it."""
    return _follow(accuracies, patience + 1)


def _as_good_is_better(accuracies, patience):
    """An epoch that is only as good as the best is not better: patience runs on."""
    return _follow(accuracies, patience, lambda new, best: new >= best)


def _than_the_last(accuracies, patience):
    """You compare with the epoch before; an epoch is better if it beats all before it."""
    waited, seen = 0, list(accuracies[:1])
    while len(seen) < len(accuracies) and waited < patience:
        seen.append(accuracies[len(seen)])
        waited = 0 if seen[-1] > seen[-2] else waited + 1
    return len(seen), seen.index(max(seen)) + 1


@asked(
    _curves,
    last_for_best=_last_for_best,
    from_zero=_from_zero,
    one_too_many=_one_too_many,
    as_good_is_better=_as_good_is_better,
    than_the_last=_than_the_last,
)
def when_to_stop(accuracies: Sequence[float], patience: int) -> tuple[int, int]:
    """The epochs that a run takes with this patience, and its best; the first epoch is 1."""
    rows = [{"epoch": 1 + i, "dev_accuracy": value} for i, value in enumerate(accuracies)]
    history = History(rows).until(patience)
    return len(history.rows), history.best["epoch"]
