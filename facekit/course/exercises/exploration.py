"""The exercises of notebook 01: labels, baselines, statistics, neighbours. Built in notebook 01."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.random import Generator

from facekit.course.baselines import nearest_other
from facekit.course.exercises import Cases, add_exercise
from facekit.data.layout import NO_MATCH


def _files(rng: Generator) -> Cases:
    """Images in folders whose names are n and a number, without leading zeros."""
    yield ([Path("train/n2/0.jpg"), Path("train/n10/0.jpg")],)
    people = rng.choice(np.arange(1, 200), size=6, replace=False)
    yield ([Path(f"train/n{who}/{i}.jpg") for who in people for i in range(rng.integers(1, 4))],)


def _names(paths: Sequence[Path]) -> list[str]:
    return [path.parent.name for path in paths]


def _labels(paths: Sequence[Path], classes: Sequence[str]) -> list[int]:
    """The place of each file's folder among the classes."""
    return [classes.index(name) for name in _names(paths)]


def class_indices(paths: Sequence[Path]) -> list[int]:
    """The label of each image: the place of its folder's name among all, sorted as text."""
    return _labels(paths, sorted(set(_names(paths))))


add_exercise(
    class_indices,
    _files,
    "Names are sorted as text, sign by sign. Which of n2 and n10 comes first then?",
    lambda paths: _labels(paths, sorted(set(_names(paths)), key=lambda name: int(name[1:]))),
    "The files may come in any order; the label of a class must not depend on it.",
    lambda paths: _labels(paths, list(dict.fromkeys(_names(paths)))),
    "A label is a place among the classes: with six of them, none is over 5.",
    lambda paths: [int(name[1:]) for name in _names(paths)],
    "The first class is number 0.",
    lambda paths: [label + 1 for label in class_indices(paths)],
)


def _truths(rng: Generator) -> Cases:
    """Who some unknown faces are."""
    yield (["n000007", NO_MATCH, "n000007", "n000009"],)
    people = [f"n{who:06}" for who in rng.integers(1, 9, size=rng.integers(6, 30))]
    strangers = [NO_MATCH] * int(rng.integers(2, 9))
    yield (rng.permutation(people + strangers).tolist(),)


def bounds(truth: Sequence[str]) -> tuple[float, float]:
    """What always saying n000000 scores, and the most that never saying it can."""
    share = truth.count(NO_MATCH) / len(truth)
    return share, 1 - share


add_exercise(
    bounds,
    _truths,
    "How often is each name true? A share is one of faces, not of different names.",
    lambda truth: (1 / len(set(truth)), 1 - 1 / len(set(truth))),
    "An accuracy is a share of all the faces, between 0 and 1.",
    lambda truth: (truth.count(NO_MATCH), len(truth) - truth.count(NO_MATCH)),
    "The strangers count too: what does a program that never says n000000 make of them?",
    lambda truth: (truth.count(NO_MATCH) / len(truth), 1.0),
)


def _images(rng: Generator) -> Cases:
    """uint8 (N, H, W, 3): dark and bright images, flat and rich ones."""
    count, height, width = rng.integers(4, 9, size=3)
    middle = rng.uniform(60, 190, size=(count, 1, 1, 3))
    spread = rng.uniform(5, 40, size=(count, 1, 1, 1))
    levels = middle + spread * rng.normal(size=(count, height, width, 3))
    yield (levels.clip(0, 255).astype(np.uint8),)


def channel_moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread (3,) of all pixels of (N, H, W, 3), as parts of 255."""
    return images.mean((0, 1, 2)) / 255, images.std((0, 1, 2)) / 255


add_exercise(
    channel_moments,
    _images,
    "The mean is right. The spread leaves out that some images are dark and others bright.",
    lambda images: (images.mean((0, 1, 2)) / 255, images.std((1, 2)).mean(0) / 255),
    "The mean is right. The spread leaves out how pixels differ within an image.",
    lambda images: (images.mean((0, 1, 2)) / 255, images.mean((1, 2)).std(0) / 255),
    "Your numbers are grey levels from 0 to 255; asked are those of pixels from 0 to 1.",
    lambda images: (images.mean((0, 1, 2)), images.std((0, 1, 2))),
    "The axes are image, row, column, channel: over which of them do you average?",
    lambda images: (images.mean((0, 2, 3)) / 255, images.std((0, 2, 3)) / 255),
    "Red, green and blue have a mean and a spread each.",
    lambda images: (images.mean() / 255, images.std() / 255),
)


def _vectors(rng: Generator) -> Cases:
    """(N, D): vectors of very different lengths."""
    yield (np.array([[1.0, 0.0], [0.1, 0.02], [5.0, 5.0], [0.0, 0.4]]),)
    count, dim = rng.integers(5, 20), rng.integers(2, 9)
    yield (rng.normal(size=(count, dim)) * rng.uniform(0.1, 5, size=(count, 1)),)


def _of_others(scores: np.ndarray) -> np.ndarray:
    """The column with the highest score of each row, but never the row's own."""
    return np.where(np.eye(len(scores), dtype=bool), -np.inf, scores).argmax(1)


add_exercise(
    nearest_other,
    _vectors,
    "Nothing is more like a vector than that vector, but that is not what was asked.",
    lambda vectors: np.arange(len(vectors)),
    "Long vectors have large products with everybody: the cosine is that of the angle alone.",
    lambda vectors: _of_others(vectors @ vectors.T),
    "Two vectors may point the same way and lie far apart, one short and one long.",
    lambda vectors: _of_others(-np.linalg.norm(vectors[:, None] - vectors[None], axis=2)),
)
