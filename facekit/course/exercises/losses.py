"""The exercises of notebook 05: cosines, a margin, centres, triplets. Built in notebook 05."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F

from facekit.course.exercises import Cases, add_exercise, but, tensor


def _vectors(rng: Generator, count: int, dim: int) -> Tensor:
    """Vectors (count, dim) of all lengths."""
    lengths = rng.uniform(0.5, 4, size=(count, 1))
    return tensor(rng.normal(size=(count, dim)) * lengths)


def _two_sets(rng: Generator) -> Cases:
    """Embeddings (N, D) and (M, D)."""
    yield torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    dim = int(rng.integers(2, 9))
    first, second = rng.integers(2, 7, size=2).tolist()
    yield _vectors(rng, first, dim), _vectors(rng, second, dim)


def cosines(ones: Tensor, others: Tensor) -> Tensor:
    """The cosine of each of (N, D) with each of (M, D): (N, M)."""
    return F.normalize(ones) @ F.normalize(others).T


add_exercise(
    cosines,
    _two_sets,
    "A cosine is never above 1. What does a long embedding do to yours?",
    lambda ones, others: ones @ others.T,
    "The first embeddings have length 1. And the second?",
    lambda ones, others: F.normalize(ones) @ others.T,
    "The second embeddings have length 1. And the first?",
    lambda ones, others: ones @ F.normalize(others).T,
    "It is each embedding, a row, that has to have length 1: look at the axis.",
    lambda ones, others: F.normalize(ones, dim=0) @ F.normalize(others, dim=0).T,
    "A norm without an axis is that of the whole table: each row has a length of its own.",
    lambda ones, others: (ones / ones.norm()) @ (others / others.norm()).T,
    "A row for each of the first embeddings, a column for each of the second.",
    lambda ones, others: F.normalize(others) @ F.normalize(ones).T,
)


def _labelled(rng: Generator) -> Cases:
    """Embeddings (B, D), class vectors (C, D), labels (B,), scale, margin in radians.

    No own angle is within a margin of 180 degrees, where a cosine would rise again, or close to
    0, where the arc cosine of float32 is not exact.
    """
    while True:
        batch, classes, dim = rng.integers(3, 7, size=3).tolist()
        embedding, vectors = _vectors(rng, batch, dim), _vectors(rng, classes, dim)
        labels = torch.from_numpy(rng.integers(classes, size=batch))
        margin = float(rng.uniform(0.2, 0.6))
        own = cosines(embedding, vectors).gather(1, labels[:, None]).acos()
        if own.min() > 0.1 and own.max() < math.pi - margin - 0.1:
            break
    yield embedding, vectors, labels, float(rng.uniform(4, 32)), margin


def arcface_logits(
    embedding: Tensor, vectors: Tensor, labels: Tensor, scale: float, margin: float
) -> Tensor:
    """Scaled cosines (B, C), each face's angle to its own class's vector larger by the margin."""
    plain = cosines(embedding, vectors)
    return scale * _with_own(plain, _turned(plain, margin), labels)


def _turned(cosine: Tensor, margin: float) -> Tensor:
    """The cosines of angles that are larger by the margin."""
    return (cosine.acos() + margin).cos()


def _with_own(others: Tensor, own: Tensor, labels: Tensor) -> Tensor:
    """`others` (B, C), but in each row the own class's value is that of `own` (B, C)."""
    return torch.where(F.one_hot(labels, others.shape[1]).bool(), own, others)


def _margin_on_the_others(embedding, vectors, labels, scale, margin):
    plain = cosines(embedding, vectors)
    return scale * _with_own(_turned(plain, margin), plain, labels)


def _margin_on_the_cosine(embedding, vectors, labels, scale, margin):
    plain = cosines(embedding, vectors)
    return scale * _with_own(plain, plain - margin, labels)


def _own_unscaled(embedding, vectors, labels, scale, margin):
    plain = cosines(embedding, vectors)
    return _with_own(scale * plain, _turned(plain, margin), labels)


add_exercise(
    arcface_logits,
    _labelled,
    "These are the logits to judge by. In training, what happens to the own class's angle?",
    lambda embedding, vectors, labels, scale, margin: scale * cosines(embedding, vectors),
    "All classes are made harder alike, so nobody has to be better than before.",
    lambda embedding, vectors, labels, scale, margin: (
        scale * _turned(cosines(embedding, vectors), margin)
    ),
    "The margin is on the wrong classes: it is the own one that has to become harder.",
    _margin_on_the_others,
    "Taken off the cosine, the margin is CosFace's. ArcFace adds it to the angle.",
    _margin_on_the_cosine,
    "Your own class got easier: is the angle larger or smaller than before?",
    but(arcface_logits, margin=lambda margin: -margin),
    "Between -1 and 1 even the best logits leave the cross-entropy unsure: what is `scale` for?",
    but(arcface_logits, scale=lambda scale: 1.0),
    "The own class lost its scale: all logits have the same.",
    _own_unscaled,
    "A class with a long vector has an advantage. What has no length in ArcFace?",
    lambda faces, vectors, *rest: arcface_logits(faces, vectors, *rest) * vectors.norm(dim=1),
    "A face with a long embedding has louder logits. What has no length in ArcFace?",
    lambda faces, *rest: arcface_logits(faces, *rest) * faces.norm(dim=1, keepdim=True),
)


def _centred(rng: Generator) -> Cases:
    """Embeddings (B, D), centres (C, D) of no fewer classes than faces, labels (B,)."""
    yield torch.tensor([[3.0, 4.0]]), torch.zeros(2, 2), torch.tensor([1])
    batch, more, dim = rng.integers(2, 6, size=3).tolist()
    labels = torch.from_numpy(rng.integers(batch + more, size=batch))
    yield _vectors(rng, batch, dim), _vectors(rng, batch + more, dim), labels


def center_loss(embedding: Tensor, centers: Tensor, labels: Tensor) -> Tensor:
    """Half the squared distance of a face to the centre of its person: the batch's mean."""
    return (embedding - centers[labels]).square().sum(1).mean() / 2


add_exercise(
    center_loss,
    _centred,
    "For a face, its squares are added up. A mean over them depends on the embedding's length.",
    lambda embedding, centers, labels: (embedding - centers[labels]).square().mean() / 2,
    "Twice the batch should not be twice the loss.",
    lambda embedding, centers, labels: (embedding - centers[labels]).square().sum() / 2,
    "Half of it, so that the slope is the way to the centre itself.",
    lambda embedding, centers, labels: (embedding - centers[labels]).square().sum(1).mean(),
    "That is the distance; its square was asked for.",
    lambda embedding, centers, labels: (embedding - centers[labels]).norm(dim=1).mean() / 2,
    "The first face is not of the first person: whose centre does each face belong to?",
    lambda embedding, centers, labels: (
        (embedding - centers[: len(embedding)]).square().sum(1).mean() / 2
    ),
    "A face is drawn to its own person's centre alone.",
    lambda embedding, centers, labels: torch.cdist(embedding, centers).square().mean() / 2,
)


def _batches(rng: Generator) -> Cases:
    """Distances (B, B), labels (B,), margin. One person has a single face, which has no triplet."""
    people = int(rng.integers(3, 5))
    labels = torch.from_numpy(rng.permutation(np.repeat(range(people), [1] + [3] * (people - 1))))
    # Loose enough for some faces to be on the wrong side, tight enough for some to cost nothing.
    points = 2 * _vectors(rng, people, 3)[labels] + _vectors(rng, len(labels), 3)
    yield torch.cdist(points, points), labels, float(rng.uniform(0.3, 1))


def _of_one_person(labels: Tensor) -> Tensor:
    """Which two faces are of the same person, each with itself, too: (B, B)."""
    return labels[:, None] == labels


def _positive(labels: Tensor) -> Tensor:
    """Which other faces are of the same person: (B, B)."""
    return _of_one_person(labels) & ~torch.eye(len(labels), dtype=torch.bool)


def _furthest(distance: Tensor, chosen: Tensor) -> Tensor:
    return distance.masked_fill(~chosen, 0).amax(1)


def _nearest(distance: Tensor, chosen: Tensor) -> Tensor:
    return distance.masked_fill(~chosen, torch.inf).amin(1)


def _hardest(distance: Tensor, labels: Tensor) -> Tensor:
    """How much further the furthest own face is than the nearest stranger: one for each pair."""
    positive = _positive(labels)
    gap = _furthest(distance, positive) - _nearest(distance, ~_of_one_person(labels))
    return gap[positive.any(1)]


def batch_hard(distance: Tensor, labels: Tensor, margin: float) -> Tensor:
    """The mean triplet loss, each face with its furthest own face and its nearest stranger."""
    return (_hardest(distance, labels) + margin).relu().mean()


def _itself_positive(distance, labels, margin):
    same = _of_one_person(labels)
    return (_furthest(distance, same) - _nearest(distance, ~same) + margin).relu().mean()


def _triplets(own: Callable, strangers: Callable, itself: bool = False) -> Callable:
    """A wrong answer that takes other faces; `itself`: each face may be its own stranger."""

    def loss(distance, labels, margin):
        positive = _positive(labels)
        negative = ~positive if itself else ~_of_one_person(labels)
        gap = own(distance, positive) - strangers(distance, negative)
        return (gap + margin).relu()[positive.any(1)].mean()

    return loss


def _only_those_that_hurt(distance, labels, margin):
    hinge = (_hardest(distance, labels) + margin).relu()
    return hinge.sum() / (hinge > 0).sum().clamp_min(1)


add_exercise(
    batch_hard,
    _batches,
    "Those are the easiest triplets. Which of the own faces, which stranger is hardest?",
    _triplets(_nearest, _furthest),
    "The stranger is the hardest one. And the own face: the nearest or the furthest?",
    _triplets(_nearest, _nearest),
    "A face that is alone is no pair with itself, and no part of the mean.",
    _itself_positive,
    "Nobody is nearer than oneself: who may be a stranger, and who may not?",
    _triplets(_furthest, _nearest, itself=True),
    "Nearer by a hair is not enough: by how much should the own face be nearer?",
    but(batch_hard, margin=lambda margin: 0.0),
    "A larger margin should ask for more. What does it do to your loss?",
    but(batch_hard, margin=lambda margin: -margin),
    "A triplet that is right with room to spare should not make up for one that is wrong.",
    lambda distance, labels, margin: (_hardest(distance, labels) + margin).mean(),
    "The mean is over all faces that have a pair, those too that cost nothing.",
    _only_those_that_hurt,
)
