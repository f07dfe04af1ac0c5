"""Baselines: the scores a network must beat, had without learning. Built in notebook 01."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import ImageOps

from facekit.data.images import read_rgb
from facekit.data.layout import CourseData
from facekit.data.pairs import Pairs
from facekit.evaluation import identification


def grey_vectors(paths: Sequence[Path], size: int = 32) -> np.ndarray:
    """Each image as its grey pixels, brightness and contrast taken out: float32 (N, size^2)."""
    images = [ImageOps.fit(read_rgb(path).convert("L"), (size, size)) for path in paths]
    return _plain(np.stack([np.asarray(image, np.float32).ravel() for image in images]))


def _plain(vectors: np.ndarray) -> np.ndarray:
    """Vectors (N, D) less their means, of length 1."""
    vectors = vectors - vectors.mean(1, keepdims=True)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-6)


def grey_similarity(probes: Sequence[Path], gallery: Sequence[Path]) -> np.ndarray:
    """How alike probes and gallery are pixel by pixel: the cosine of their grey vectors, (P, G)."""
    return identification.similarity(grey_vectors(probes), grey_vectors(gallery))


def grey_pairs(pairs: Pairs) -> np.ndarray:
    """How alike the two images of each pair are pixel by pixel: float32 (N,)."""
    return (grey_vectors(pairs.first) * grey_vectors(pairs.second)).sum(1)


def nearest_class(data: CourseData, paths: Sequence[Path]) -> np.ndarray:
    """The class of the training image that looks most alike, pixel by pixel: int64 (N,)."""
    nearest = grey_similarity(paths, data.train.paths).argmax(1)
    return np.array(data.train.labels)[nearest]


def nearest_other(vectors: np.ndarray) -> np.ndarray:
    """For each of the vectors (N, D) the place of the one most like it, itself apart: int64 (N,).

    Alike by the cosine of the angle between them.
    """
    alike = identification.similarity(vectors, vectors)
    np.fill_diagonal(alike, -np.inf)
    return alike.argmax(1)


def rank_1(images: torch.Tensor, person: Sequence[int]) -> float:
    """How often the image (N, 3, H, W) that is most alike, itself apart, is of the same person.

    Compared as in `grey_vectors`, pixel by pixel.
    """
    person = np.asarray(person)
    nearest = nearest_other(_plain(images.float().mean(1).flatten(1).numpy()))
    return float((person[nearest] == person).mean())


def nearest_known(data: CourseData) -> np.ndarray:
    """Whether the most similar gallery image is right, for each dev probe with a match: (M,)."""
    alike = grey_similarity(data.unknown_dev.paths, data.known.paths)
    truth = identification.truth_indices(data.unknown_dev.labels, data.known.labels)
    return (alike.argmax(1) == truth)[truth >= 0]
