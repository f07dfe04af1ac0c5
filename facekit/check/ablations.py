"""The exercises of notebook 07: what can be compared, and how far. Built in notebook 07."""

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np

from facekit import ablations, certainty
from facekit.check import asked

# ------------------------------------------------------------------ what can be compared

Rows = dict[str, dict[str, float]]


def _tables(rng: np.random.Generator) -> Iterator[tuple[Rows]]:
    """Settings of some rows by their names; at least one pair differs in one setting alone."""
    yield ({"a": {"rate": 0.1, "restarts": 20}, "b": {"rate": 0.1, "restarts": 50}},)
    rows: Rows = {}
    for letter in "abcdef"[: rng.integers(4, 7)]:
        rate, restarts, epochs = (int(number) for number in rng.integers(2, size=3))
        settings = {"rate": (0.1, 0.01)[rate], "restarts": (20, 50)[restarts]}
        rows[letter] = settings | {"epochs": (95, 150)[epochs]}
    again = rows["b"] | {"epochs": 500}  # the same but for this
    yield (rows | {"x": again, "y": dict(again)},)


def _both_ways(rows):
    """Each pair is there twice, and once is enough: the earlier row first."""
    one_way = one_change(rows)
    return sorted(one_way + [(two, one) for one, two in one_way])


def _at_most_one(rows):
    """Two rows that differ in nothing compare nothing but luck."""
    alike = [(one, two) for one in rows for two in rows if one < two and rows[one] == rows[two]]
    return sorted(one_change(rows) + alike)


def _neighbours(rows):
    """Compare every row with all the later ones, not with the next alone."""
    return [pair for pair in one_change(rows) if pair in pairwise(rows)]


def _any_change(rows):
    """Count the settings that differ: with two of them you cannot tell which one it was."""
    return [(one, two) for one in rows for two in rows if one < two and rows[one] != rows[two]]


@asked(
    _tables,
    both_ways=_both_ways,
    at_most_one=_at_most_one,
    neighbours=_neighbours,
    any_change=_any_change,
)
def one_change(rows: Mapping[str, Mapping]) -> list[tuple[str, str]]:
    """The pairs of rows that differ in exactly one setting, the earlier row first."""
    return ablations.one_change(rows)


# ------------------------------------------------------------------ restarts


def _runs(rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Epochs of a run, and between two restarts."""
    yield 60, 20
    yield 95, 100
    between = int(rng.integers(1, 60))
    yield int(rng.integers(1, 300)), between
    yield int(rng.integers(2, 6)) * between, between


def _at_the_end(epochs, restart_epochs):
    """A run of 60 epochs that restarts every 20 is over when the third restart would come."""
    return epochs // restart_epochs


def _cosines(epochs, restart_epochs):
    """You count the cosines. The first of them begins the run, and restarts nothing."""
    return -(-epochs // restart_epochs)


def _rounded(epochs, restart_epochs):
    """After 95 of 100 epochs the rate has not jumped yet: nearly does not count."""
    return round(epochs / restart_epochs)


@asked(_runs, at_the_end=_at_the_end, cosines=_cosines, rounded=_rounded)
def restarts_seen(epochs: int, restart_epochs: int) -> int:
    """How often the rate jumps up again before an epoch of the run."""
    return ablations.restarts_seen(epochs, restart_epochs)


# ------------------------------------------------------------------ luck


def _accuracies(rng: np.random.Generator) -> Iterator[tuple[float, int]]:
    """An accuracy, and the pictures that it was found on."""
    yield 0.5, 100
    yield round(float(rng.uniform(0.1, 0.9)), 2), int(rng.integers(20, 500))


def _variance(accuracy, pictures):
    """That is the variance, the square of the error: it has the wrong unit."""
    return accuracy * (1 - accuracy) / pictures


def _per_cent(accuracy, pictures):
    """An accuracy is a share here, from 0 to 1, and so is its error: no per cent."""
    return 100 * standard_error(accuracy, pictures)


def _only_right(accuracy, pictures):
    """A network that is always right has no luck: with an accuracy of 1 the error is 0."""
    return math.sqrt(accuracy / pictures)


def _outside_the_root(accuracy, pictures):
    """Four times the pictures should halve the error; yours is a quarter."""
    return math.sqrt(accuracy * (1 - accuracy)) / pictures


@asked(
    _accuracies,
    variance=_variance,
    per_cent=_per_cent,
    only_right=_only_right,
    outside_the_root=_outside_the_root,
)
def standard_error(accuracy: float, pictures: int) -> float:
    """How far an accuracy on so many pictures lies from the true one, usually."""
    return certainty.standard_error(accuracy, pictures)


def _judged(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Two runs on the same N pictures: 1.0 where it is right, 0.0 where it is wrong (N,)."""
    first = (rng.random(int(rng.integers(40, 200))) < 0.6).astype(float)
    flipped = rng.random(len(first)) < 0.2
    yield first, np.where(flipped, 1 - first, first)


def _own_errors(first, second):
    return (standard_error(one.mean(), len(one)) for one in (first, second))


def _other_pictures(first, second):
    """So it would be on different pictures. Both were judged on the same: what is hard for one
    is hard for the other. Look at the difference picture by picture."""
    return math.hypot(*_own_errors(first, second))


def _sum_of_errors(first, second):
    """Errors do not add up: now and then the luck of one takes away that of the other."""
    return sum(_own_errors(first, second))


def _of_one_picture(first, second):
    """That is how much one picture's difference varies; yours is the mean of many of them."""
    return (first - second).std()


def _squared(first, second):
    """That is the square of the error: it has the wrong unit."""
    return (first - second).var() / len(first)


def _one_less(first, second):
    """Nearly. Divide by all pictures everywhere, as p (1 - p) / n does, and not by one less."""
    return (first - second).std(ddof=1) / math.sqrt(len(first))


@asked(
    _judged,
    other_pictures=_other_pictures,
    sum_of_errors=_sum_of_errors,
    of_one_picture=_of_one_picture,
    squared=_squared,
    one_less=_one_less,
)
def difference_error(first: np.ndarray, second: np.ndarray) -> float:
    """The standard error of the difference of two runs' accuracies on the same pictures."""
    return certainty.difference_error(first, second)
