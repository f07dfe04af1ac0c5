"""The exercises of notebook 01: labels, floors, statistics, neighbours. Built in notebook 01."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from facekit import floors
from facekit.check import asked
from facekit.layout import NO_MATCH


def _files(rng: np.random.Generator) -> Iterator[tuple[list[Path]]]:
    """Pictures in folders whose names are n and a number, without leading zeros."""
    yield ([Path("train/n2/0.jpg"), Path("train/n10/0.jpg")],)
    people = rng.choice(np.arange(1, 200), size=6, replace=False)
    yield ([Path(f"train/n{who}/{i}.jpg") for who in people for i in range(rng.integers(1, 4))],)


def _names(paths):
    return [path.parent.name for path in paths]


def _as_numbers(paths):
    """Names are sorted as text, sign by sign. Which of n2 and n10 comes first then?"""
    ordered = sorted(set(_names(paths)), key=lambda name: int(name[1:]))
    return [ordered.index(name) for name in _names(paths)]


def _as_met(paths):
    """The files may come in any order; the label of a class must not depend on it."""
    met = list(dict.fromkeys(_names(paths)))
    return [met.index(name) for name in _names(paths)]


def _read_off(paths):
    """A label is a place among the classes: with six of them, none is over 5."""
    return [int(name[1:]) for name in _names(paths)]


def _from_one(paths):
    """The first class is number 0."""
    return [label + 1 for label in class_indices(paths)]


@asked(_files, as_numbers=_as_numbers, as_met=_as_met, read_off=_read_off, from_one=_from_one)
def class_indices(paths: Sequence[Path]) -> list[int]:
    """The label of each picture: the place of its folder's name among all, sorted as text."""
    classes = sorted(set(_names(paths)))
    return [classes.index(name) for name in _names(paths)]


def _truths(rng: np.random.Generator) -> Iterator[tuple[list[str]]]:
    """Who some unknown faces are."""
    yield (["n000007", NO_MATCH, "n000007", "n000009"],)
    people = [f"n{who:06}" for who in rng.integers(1, 9, size=rng.integers(6, 30))]
    yield (list(rng.permutation([*people, *[NO_MATCH] * int(rng.integers(2, 9))]).tolist()),)


def _over_names(truth):
    """How often is each name true? A share is one of faces, not of different names."""
    share = 1 / len(set(truth))
    return share, 1 - share


def _counted(truth):
    """An accuracy is a share of all the faces, between 0 and 1."""
    return truth.count(NO_MATCH), len(truth) - truth.count(NO_MATCH)


def _without_strangers(truth):
    """The strangers count too: what does a program that never says n000000 make of them?"""
    return truth.count(NO_MATCH) / len(truth), 1.0


@asked(_truths, names=_over_names, counted=_counted, no_strangers=_without_strangers)
def bounds(truth: Sequence[str]) -> tuple[float, float]:
    """What always saying n000000 scores, and the most that never saying it can."""
    share = truth.count(NO_MATCH) / len(truth)
    return share, 1 - share


def _pictures(rng: np.random.Generator) -> Iterator[tuple[np.ndarray]]:
    """uint8 (N, H, W, 3): dark and bright pictures, flat and rich ones."""
    count, height, width = rng.integers(4, 9, size=3)
    middle = rng.uniform(60, 190, size=(count, 1, 1, 3))
    spread = rng.uniform(5, 40, size=(count, 1, 1, 1))
    levels = middle + spread * rng.normal(size=(count, height, width, 3))
    yield (levels.clip(0, 255).astype(np.uint8),)


def _own_spreads(pictures):
    """The mean is right. The spread leaves out that some pictures are dark and others bright."""
    return pictures.mean((0, 1, 2)) / 255, pictures.std((1, 2)).mean(0) / 255


def _of_the_means(pictures):
    """The mean is right. The spread leaves out how pixels differ within a picture."""
    return pictures.mean((0, 1, 2)) / 255, pictures.mean((1, 2)).std(0) / 255


def _grey_levels(pictures):
    """Your numbers are grey levels from 0 to 255; asked are those of pixels from 0 to 1."""
    return pictures.mean((0, 1, 2)), pictures.std((0, 1, 2))


def _channels_first(pictures):
    """The axes are picture, row, column, channel: over which of them do you average?"""
    return pictures.mean((0, 2, 3)) / 255, pictures.std((0, 2, 3)) / 255


def _in_one(pictures):
    """Red, green and blue have a mean and a spread each."""
    return pictures.mean() / 255, pictures.std() / 255


@asked(
    _pictures,
    own_spreads=_own_spreads,
    of_the_means=_of_the_means,
    grey_levels=_grey_levels,
    channels_first=_channels_first,
    in_one=_in_one,
)
def channel_moments(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread (3,) of all pixels of (N, H, W, 3), as parts of 255."""
    return pictures.mean((0, 1, 2)) / 255, pictures.std((0, 1, 2)) / 255


def _vectors(rng: np.random.Generator) -> Iterator[tuple[np.ndarray]]:
    """(N, D): vectors of very different lengths."""
    yield (np.array([[1.0, 0.0], [0.1, 0.02], [5.0, 5.0], [0.0, 0.4]]),)
    count, dim = rng.integers(5, 20), rng.integers(2, 9)
    yield (rng.normal(size=(count, dim)) * rng.uniform(0.1, 5, size=(count, 1)),)


def _of_others(scores):
    return np.where(np.eye(len(scores), dtype=bool), -np.inf, scores).argmax(1)


def _itself(vectors):
    """Nothing is more like a vector than that vector, but that is not what was asked."""
    return np.arange(len(vectors))


def _not_normalised(vectors):
    """Long vectors have large products with everybody: the cosine is that of the angle alone."""
    return _of_others(vectors @ vectors.T)


def _by_distance(vectors):
    """Two vectors may point the same way and lie far apart, one short and one long."""
    return _of_others(-np.linalg.norm(vectors[:, None] - vectors[None], axis=2))


@asked(
    _vectors,
    itself=_itself,
    not_normalised=_not_normalised,
    by_distance=_by_distance,
)
def nearest_other(vectors: np.ndarray) -> np.ndarray:
    """For each vector of (N, D), the place of the other at the smallest angle."""
    return floors.nearest_other(vectors)
