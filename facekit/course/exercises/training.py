"""The exercises of notebook 04: rates, steps, and what to count. Built in notebook 04."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from facekit.course.exercises import Cases, add_exercise, but, tensor
from facekit.course.exercises.modules import LoopExercise
from facekit.training import History
from facekit.training.schedules import warmup_cosine


def _places(rng: Generator) -> Cases:
    """Step, steps, steps of warm-up, peak."""
    yield 0, 10, 2, 1.0
    steps, peak = int(rng.integers(20, 200)), round(float(rng.uniform(0.5, 2)), 2)
    warmup = int(rng.integers(2, steps // 3))
    for step in (0, warmup - 1, warmup, int(rng.integers(warmup, steps)), steps - 1):
        yield step, steps, warmup, peak
    yield int(rng.integers(steps)), steps, 0, peak


def scheduled_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """The rate of step 0 ... steps - 1: a straight climb to the peak, then half a cosine to 0."""
    return warmup_cosine(step, steps, warmup, peak)


def _from_nothing(step, steps, warmup, peak):
    if step < warmup:
        return peak * step / warmup
    return scheduled_rate(step, steps, warmup, peak)


def _falls(done: Callable[[int, int, int], float]) -> Callable[[int, int, int, float], float]:
    """A schedule that climbs as it should and then falls by another share of the way."""

    def schedule(step, steps, warmup, peak):
        if step < warmup:
            return scheduled_rate(step, steps, warmup, peak)
        return peak * 0.5 * (1 + math.cos(math.pi * done(step, steps, warmup)))

    return schedule


add_exercise(
    scheduled_rate,
    _places,
    "Your first step has a rate of 0, so it changes nothing; and which step has the peak?",
    _from_nothing,
    "Step `warmup` has the peak. How much of the way down is done at that step?",
    _falls(lambda step, steps, warmup: step / steps),
    "Your last rate is too far above zero: over how many steps does the rate fall?",
    _falls(lambda step, steps, warmup: (step - warmup) / steps),
    "Your rate falls and rises again. From its top to its bottom a cosine takes half a turn.",
    _falls(lambda step, steps, warmup: 2 * (step - warmup) / (steps - warmup)),
)


def _weights(rng: Generator) -> Cases:
    """Weights, gradient, velocity (N,), rate, momentum, decay; a first step, and a later one."""
    size = int(rng.integers(2, 6))
    weight, gradient, velocity = tensor(rng.normal(size=(3, size)))
    lr = round(float(rng.uniform(0.1, 1)), 2)
    momentum = round(float(rng.uniform(0.5, 0.95)), 2)
    decay = round(float(rng.uniform(0.1, 0.5)), 2)
    yield weight, gradient, torch.zeros_like(weight), lr, momentum, decay
    yield weight, gradient, velocity, lr, momentum, decay


def sgd_step(
    weight: Tensor, gradient: Tensor, velocity: Tensor, lr: float, momentum: float, decay: float
) -> tuple[Tensor, Tensor]:
    """Weights and velocity after a step of SGD with Nesterov momentum and weight decay."""
    gradient = gradient + decay * weight
    velocity = momentum * velocity + gradient
    return weight - lr * (gradient + momentum * velocity), velocity


def _no_look_ahead(weight, gradient, velocity, lr, momentum, decay):
    velocity = momentum * velocity + gradient + decay * weight
    return weight - lr * velocity, velocity


def _decay_apart(weight, gradient, velocity, lr, momentum, decay):
    stepped, velocity = sgd_step(weight, gradient, velocity, lr, momentum, 0.0)
    return stepped - lr * decay * weight, velocity


add_exercise(
    sgd_step,
    _weights,
    "That is plain momentum. Nesterov's goes on from where the momentum will have led.",
    _no_look_ahead,
    "Without a gradient, too, the weights should shrink a little: where is `decay`?",
    but(sgd_step, decay=lambda decay: 0.0),
    "You shrink the weights beside the step, as AdamW does; here decay is part of the gradient, "
    "and momentum remembers it.",
    _decay_apart,
    "The gradient points to where the loss grows.",
    but(sgd_step, lr=lambda lr: -lr),
)


def _judged(rng: Generator) -> Cases:
    """Right answers in each batch, and images in each; the last has what is left."""
    yield [3, 1], [4, 1]
    size, count = int(rng.integers(8, 65)), int(rng.integers(2, 6))
    sizes = [size] * count + [int(rng.integers(1, size // 2))]
    yield [int(rng.integers(number + 1)) for number in sizes], sizes


def accuracy(right: Sequence[int], sizes: Sequence[int]) -> float:
    """The share of right answers over all images of all batches."""
    return sum(right) / sum(sizes)


add_exercise(
    accuracy,
    _judged,
    "One image of the small last batch counts as much as several of the others.",
    lambda right, sizes: float(np.mean(np.array(right) / np.array(sizes))),
    "You divide by more images than there are: the last batch is not full.",
    lambda right, sizes: sum(right) / (sizes[0] * len(sizes)),
    "Training may leave out a batch that is not full; here every image counts.",
    lambda right, sizes: sum(right[:-1]) / sum(sizes[:-1]),
)


def _curves(rng: Generator) -> Cases:
    """Dev accuracies and patience: a run that is stopped, one that is not, any."""
    yield [0.2, 0.5, 0.4, 0.5, 0.6], 2
    yield [0.1, 0.2, 0.2, 0.4], 3
    length = int(rng.integers(4, 12))
    rising = np.linspace(0.2, 0.6, length) + rng.normal(0, 0.15, length)
    yield rising.clip(0, 1).round(1).tolist(), int(rng.integers(1, 4))


def when_to_stop(accuracies: Sequence[float], patience: int) -> tuple[int, int]:
    """The epochs that a run takes with this patience, and its best; the first epoch is 1."""
    rows = [{"epoch": 1 + i, "dev_accuracy": value} for i, value in enumerate(accuracies)]
    history = History(rows).until(patience)
    return len(history.rows), history.best["epoch"]


def _as_good_is_better(accuracies, patience):
    best = 0
    for epoch, value in enumerate(accuracies):
        if value >= accuracies[best]:
            best = epoch
        if epoch - best >= patience:
            break
    return epoch + 1, best + 1


def _than_the_last(accuracies, patience):
    waited, seen = 0, list(accuracies[:1])
    while len(seen) < len(accuracies) and waited < patience:
        seen.append(accuracies[len(seen)])
        waited = 0 if seen[-1] > seen[-2] else waited + 1
    return len(seen), seen.index(max(seen)) + 1


add_exercise(
    when_to_stop,
    _curves,
    "The network to keep is not the one that the run ended with.",
    lambda accuracies, patience: (when_to_stop(accuracies, patience)[0],) * 2,
    "Your epochs begin with 0; the first one is epoch 1.",
    lambda accuracies, patience: [end - 1 for end in when_to_stop(accuracies, patience)],
    "Your run waits an epoch too long: with a patience of 1 a single worse epoch ends it.",
    but(when_to_stop, patience=lambda patience: patience + 1),
    "An epoch that is only as good as the best is not better: patience runs on.",
    _as_good_is_better,
    "You compare with the epoch before; an epoch is better if it beats all before it.",
    _than_the_last,
)


def _batches(rng: Generator) -> Cases:
    """Features (b, 3) and labels (b,) of each batch: one batch, and several of unequal size."""
    for sizes in ([4], [6, 6, 3]):
        features = [tensor(rng.normal(size=(size, 3))) for size in sizes]
        yield features, [torch.from_numpy(rng.integers(0, 4, size)) for size in sizes]


def train_epoch(network, loader, optimizer):
    """One step for each batch of the loader: the mean loss and the accuracy over all images."""
    network.train()
    total, right, count = 0.0, 0, 0
    for images, labels in loader:
        logits = network(images)
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
        right += (logits.argmax(1) == labels).sum().item()
        count += len(labels)
    return total / count, right / count


def _loop(
    mode: bool = True, clear: bool = True, step: bool = True, weighed: bool = True
) -> Callable:
    """A loop that leaves something out: training mode, clearing gradients, the step, weights."""

    def train_epoch(network, loader, optimizer):
        network.train(mode)
        losses, rights, sizes = [], [], []
        for images, labels in loader:
            logits = network(images)
            loss = nn.functional.cross_entropy(logits, labels)
            if clear:
                optimizer.zero_grad()
            loss.backward()
            if step:
                optimizer.step()
            losses.append(loss.item())
            rights.append((logits.argmax(1) == labels).float().mean().item())
            sizes.append(len(labels))
        weights = sizes if weighed else None
        return np.average(losses, weights=weights), np.average(rights, weights=weights)

    return train_epoch


add_exercise(
    train_epoch,
    _batches,
    "Gradients add up from step to step unless somebody sets them to nothing.",
    _loop(clear=False),
    "The weights stay as they were: who takes the step, and are there gradients at that time?",
    _loop(step=False),
    "The network may come in evaluation mode: batch norm then uses old means.",
    _loop(mode=False),
    "One image of the small last batch counts as much as several of the others.",
    _loop(weighed=False),
    kind=LoopExercise,
)
