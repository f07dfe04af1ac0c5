"""The exercises of notebook 07: what can be compared, and how far. Built in notebook 07."""

import math
from collections.abc import Callable, Mapping
from itertools import combinations, pairwise

import numpy as np
from numpy.random import Generator

from facekit.course.ablations import one_change, restarts_seen
from facekit.course.exercises import Cases, add_exercise
from facekit.evaluation.statistics import difference_error, standard_error

Rows = Mapping[str, Mapping]  # settings of runs by their names


def _tables(rng: Generator) -> Cases:
    """Settings of some rows by their names; at least one pair differs in one setting alone."""
    yield ({"a": {"lr": 0.1, "restarts": 20}, "b": {"lr": 0.1, "restarts": 50}},)
    rows = {}
    for letter in "abcdef"[: rng.integers(4, 7)]:
        lr, restarts, epochs = rng.integers(2, size=3).tolist()
        rows[letter] = {
            "lr": (0.1, 0.01)[lr],
            "restarts": (20, 50)[restarts],
            "epochs": (95, 150)[epochs],
        }
    again = rows["b"] | {"epochs": 500}  # the same but for this
    yield (rows | {"x": again, "y": dict(again)},)


def _pairs(rows: Rows, wanted: Callable[[int], bool]) -> list[tuple[str, str]]:
    """The pairs of rows whose number of different settings is `wanted`."""
    return [
        (one, two)
        for one, two in combinations(rows, 2)
        if wanted(sum(rows[one][key] != rows[two][key] for key in rows[one]))
    ]


add_exercise(
    one_change,
    _tables,
    "Each pair is there twice, and once is enough: the earlier row first.",
    lambda rows: sorted(one_change(rows) + [(two, one) for one, two in one_change(rows)]),
    "Two rows that differ in nothing compare nothing but luck.",
    lambda rows: _pairs(rows, lambda different: different <= 1),
    "Compare every row with all the later ones, not with the next alone.",
    lambda rows: [pair for pair in one_change(rows) if pair in pairwise(rows)],
    "Count the settings that differ: with two of them you cannot tell which one it was.",
    lambda rows: _pairs(rows, lambda different: different >= 1),
)


def _runs(rng: Generator) -> Cases:
    """Epochs of a run, and between two restarts."""
    yield 60, 20
    yield 95, 100
    between = int(rng.integers(1, 60))
    yield int(rng.integers(1, 300)), between
    yield int(rng.integers(2, 6)) * between, between


add_exercise(
    restarts_seen,
    _runs,
    "A run of 60 epochs that restarts every 20 is over when the third restart would come.",
    lambda epochs, restart_epochs: epochs // restart_epochs,
    "You count the cosines. The first of them begins the run, and restarts nothing.",
    lambda epochs, restart_epochs: math.ceil(epochs / restart_epochs),
    "After 95 of 100 epochs the rate has not jumped yet: nearly does not count.",
    lambda epochs, restart_epochs: round(epochs / restart_epochs),
)


def _accuracies(rng: Generator) -> Cases:
    """An accuracy, and the images that it was found on."""
    yield 0.5, 100
    yield round(float(rng.uniform(0.1, 0.9)), 2), int(rng.integers(20, 500))


add_exercise(
    standard_error,
    _accuracies,
    "That is the variance, the square of the error: it has the wrong unit.",
    lambda accuracy, images: accuracy * (1 - accuracy) / images,
    "An accuracy is a share here, from 0 to 1, and so is its error: no per cent.",
    lambda accuracy, images: 100 * standard_error(accuracy, images),
    "A network that is always right has no luck: with an accuracy of 1 the error is 0.",
    lambda accuracy, images: math.sqrt(accuracy / images),
    "Four times the images should halve the error; yours is a quarter.",
    lambda accuracy, images: math.sqrt(accuracy * (1 - accuracy)) / images,
)


def _judged(rng: Generator) -> Cases:
    """Two runs on the same N images: 1.0 where it is right, 0.0 where it is wrong (N,)."""
    first = (rng.random(int(rng.integers(40, 200))) < 0.6).astype(float)
    flipped = rng.random(len(first)) < 0.2
    yield first, np.where(flipped, 1 - first, first)


def _error(right: np.ndarray) -> float:
    """The standard error of one run's accuracy."""
    return standard_error(right.mean(), len(right))


add_exercise(
    difference_error,
    _judged,
    "So it would be on different images. Both were judged on the same: what is hard for one is "
    "hard for the other. Look at the difference image by image.",
    lambda first, second: math.hypot(_error(first), _error(second)),
    "Errors do not add up: now and then the luck of one takes away that of the other.",
    lambda first, second: _error(first) + _error(second),
    "That is how much one image's difference varies; yours is the mean of many of them.",
    lambda first, second: (first - second).std(),
    "That is the square of the error: it has the wrong unit.",
    lambda first, second: (first - second).var() / len(first),
    "Nearly. Divide by all images everywhere, as p (1 - p) / n does, and not by one less.",
    lambda first, second: (first - second).std(ddof=1) / math.sqrt(len(first)),
)
