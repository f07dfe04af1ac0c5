"""The exercises of notebook 05: cosines, a margin, centres, triplets. Built in notebook 05."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional as F

from facekit.check import asked


def _vectors(rng: np.random.Generator, count: int, dim: int) -> torch.Tensor:
    """Vectors (count, dim) of all lengths."""
    lengths = rng.uniform(0.5, 4, size=(count, 1))
    return torch.from_numpy(rng.normal(size=(count, dim)) * lengths).float()


def _two_sets(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Embeddings (N, D) and (M, D)."""
    yield torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    dim = int(rng.integers(2, 9))
    yield tuple(_vectors(rng, int(count), dim) for count in rng.integers(2, 7, size=2))


def _lengths_left_in(ones, others):
    """A cosine is never above 1. What does a long embedding do to yours?"""
    return ones @ others.T


def _one_side_alone(ones, others):
    """The first embeddings have length 1. And the second?"""
    return F.normalize(ones) @ others.T


def _the_other_side_alone(ones, others):
    """The second embeddings have length 1. And the first?"""
    return ones @ F.normalize(others).T


def _columns_of_length_one(ones, others):
    """It is each embedding, a row, that has to have length 1: look at the axis."""
    return F.normalize(ones, dim=0) @ F.normalize(others, dim=0).T


def _one_length_for_all(ones, others):
    """A norm without an axis is that of the whole table: each row has a length of its own."""
    return (ones / ones.norm()) @ (others / others.norm()).T


def _wrong_way_round(ones, others):
    """A row for each of the first embeddings, a column for each of the second."""
    return F.normalize(others) @ F.normalize(ones).T


@asked(
    _two_sets,
    lengths_left_in=_lengths_left_in,
    one_side_alone=_one_side_alone,
    the_other_side_alone=_the_other_side_alone,
    columns_of_length_one=_columns_of_length_one,
    one_length_for_all=_one_length_for_all,
    wrong_way_round=_wrong_way_round,
)
def cosines(ones: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """The cosine of each of (N, D) with each of (M, D): (N, M)."""
    return F.normalize(ones) @ F.normalize(others).T


def _labelled(
    rng: np.random.Generator,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, float, float]]:
    """Embeddings (B, D), class vectors (C, D), labels (B,), scale, margin in radians.

    No own angle is within a margin of 180 degrees, where a cosine would rise again, or close to
    0, where the arc cosine of float32 is not exact.
    """
    while True:
        batch, classes, dim = (int(n) for n in rng.integers(3, 7, size=3))
        embedding, vectors = _vectors(rng, batch, dim), _vectors(rng, classes, dim)
        labels = torch.from_numpy(rng.integers(classes, size=batch))
        margin = float(rng.uniform(0.2, 0.6))
        own = cosines(embedding, vectors).gather(1, labels[:, None]).acos()
        if own.min() > 0.1 and own.max() < math.pi - margin - 0.1:
            break
    yield embedding, vectors, labels, float(rng.uniform(4, 32)), margin


def _own(labels, vectors):
    return F.one_hot(labels, len(vectors)).bool()


def _no_margin(embedding, vectors, labels, scale, margin):
    """These are the logits to judge by. In training, what happens to the own class's angle?"""
    return scale * cosines(embedding, vectors)


def _margin_on_all(embedding, vectors, labels, scale, margin):
    """All classes are made harder alike, so nobody has to be better than before."""
    return scale * (cosines(embedding, vectors).acos() + margin).cos()


def _margin_on_the_others(embedding, vectors, labels, scale, margin):
    """The margin is on the wrong classes: it is the own one that has to become harder."""
    plain = cosines(embedding, vectors)
    return scale * torch.where(_own(labels, vectors), plain, (plain.acos() + margin).cos())


def _margin_on_the_cosine(embedding, vectors, labels, scale, margin):
    """Taken off the cosine, the margin is CosFace's. ArcFace adds it to the angle."""
    return scale * (cosines(embedding, vectors) - margin * _own(labels, vectors))


def _easier(embedding, vectors, labels, scale, margin):
    """Your own class got easier: is the angle larger or smaller than before?"""
    plain = cosines(embedding, vectors)
    return scale * torch.where(_own(labels, vectors), (plain.acos() - margin).cos(), plain)


def _no_scale(embedding, vectors, labels, scale, margin):
    """Between -1 and 1 even the best logits leave the cross-entropy unsure: what is `scale` for?"""
    return arcface_logits(embedding, vectors, labels, 1.0, margin)


def _margin_left_unscaled(embedding, vectors, labels, scale, margin):
    """The own class lost its scale: all logits have the same."""
    plain = cosines(embedding, vectors)
    return torch.where(_own(labels, vectors), (plain.acos() + margin).cos(), scale * plain)


def _class_vectors_as_long_as_they_are(embedding, vectors, labels, scale, margin):
    """A class with a long vector has an advantage. What has no length in ArcFace?"""
    lengths = vectors.norm(dim=1)
    return arcface_logits(embedding, vectors, labels, scale, margin) * lengths


def _embeddings_as_long_as_they_are(embedding, vectors, labels, scale, margin):
    """A face with a long embedding has louder logits. What has no length in ArcFace?"""
    lengths = embedding.norm(dim=1, keepdim=True)
    return arcface_logits(embedding, vectors, labels, scale, margin) * lengths


@asked(
    _labelled,
    no_margin=_no_margin,
    margin_on_all=_margin_on_all,
    margin_on_the_others=_margin_on_the_others,
    margin_on_the_cosine=_margin_on_the_cosine,
    easier=_easier,
    no_scale=_no_scale,
    margin_left_unscaled=_margin_left_unscaled,
    class_vectors_as_long_as_they_are=_class_vectors_as_long_as_they_are,
    embeddings_as_long_as_they_are=_embeddings_as_long_as_they_are,
)
def arcface_logits(
    embedding: torch.Tensor,
    vectors: torch.Tensor,
    labels: torch.Tensor,
    scale: float,
    margin: float,
) -> torch.Tensor:
    """Scaled cosines (B, C), each face's angle to its own class's vector larger by the margin."""
    plain = cosines(embedding, vectors)
    return scale * torch.where(_own(labels, vectors), (plain.acos() + margin).cos(), plain)


def _centred(
    rng: np.random.Generator,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Embeddings (B, D), centres (C, D) of no fewer classes than faces, labels (B,)."""
    yield torch.tensor([[3.0, 4.0]]), torch.zeros(2, 2), torch.tensor([1])
    batch, more, dim = (int(n) for n in rng.integers(2, 6, size=3))
    labels = torch.from_numpy(rng.integers(batch + more, size=batch))
    yield _vectors(rng, batch, dim), _vectors(rng, batch + more, dim), labels


def _mean_of_all_numbers(embedding, centers, labels):
    """For a face, its squares are added up. A mean over them depends on the embedding's length."""
    return (embedding - centers[labels]).square().mean() / 2


def _sum_over_the_batch(embedding, centers, labels):
    """Twice the batch should not be twice the loss."""
    return (embedding - centers[labels]).square().sum() / 2


def _half_missing(embedding, centers, labels):
    """Half of it, so that the slope is the way to the centre itself."""
    return (embedding - centers[labels]).square().sum(1).mean()


def _not_squared(embedding, centers, labels):
    """That is the distance; its square was asked for."""
    return (embedding - centers[labels]).norm(dim=1).mean() / 2


def _centers_in_the_order_of_the_batch(embedding, centers, labels):
    """The first face is not of the first person: whose centre does each face belong to?"""
    return (embedding - centers[: len(embedding)]).square().sum(1).mean() / 2


def _to_every_center(embedding, centers, labels):
    """A face is drawn to its own person's centre alone."""
    return torch.cdist(embedding, centers).square().mean() / 2


@asked(
    _centred,
    mean_of_all_numbers=_mean_of_all_numbers,
    sum_over_the_batch=_sum_over_the_batch,
    half_missing=_half_missing,
    not_squared=_not_squared,
    centers_in_the_order_of_the_batch=_centers_in_the_order_of_the_batch,
    to_every_center=_to_every_center,
)
def center_loss(
    embedding: torch.Tensor, centers: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Half the squared distance of a face to the centre of its person: the batch's mean."""
    return (embedding - centers[labels]).square().sum(1).mean() / 2


def _batches(
    rng: np.random.Generator,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, float]]:
    """Distances (B, B), labels (B,), margin. One person has a single face, which has no triplet."""
    people = int(rng.integers(3, 5))
    labels = torch.from_numpy(rng.permutation(np.repeat(range(people), [1] + [3] * (people - 1))))
    # Loose enough for some faces to be on the wrong side, tight enough for some to cost nothing.
    points = 2 * _vectors(rng, people, 3)[labels] + _vectors(rng, len(labels), 3)
    yield torch.cdist(points, points), labels, float(rng.uniform(0.3, 1))


def _pairs(labels):
    """Who is another face of the same person, and who is somebody else: (B, B) each."""
    same = labels[:, None] == labels
    return same & ~torch.eye(len(labels), dtype=torch.bool), ~same


def _hardest(distance, positive, negative):
    furthest = distance.masked_fill(~positive, 0).amax(1)
    return furthest - distance.masked_fill(~negative, torch.inf).amin(1)


def _easiest(distance, labels, margin):
    """Those are the easiest triplets. Which of the own faces, which stranger is hardest?"""
    positive, negative = _pairs(labels)
    near = distance.masked_fill(~positive, torch.inf).amin(1)
    far = distance.masked_fill(~negative, 0).amax(1)
    return (near - far + margin).relu()[positive.any(1)].mean()


def _any_positive(distance, labels, margin):
    """The stranger is the hardest one. And the own face: the nearest or the furthest?"""
    positive, negative = _pairs(labels)
    near = distance.masked_fill(~positive, torch.inf).amin(1)
    far = distance.masked_fill(~negative, torch.inf).amin(1)
    return (near - far + margin).relu()[positive.any(1)].mean()


def _itself_a_positive(distance, labels, margin):
    """A face that is alone is no pair with itself, and no part of the mean."""
    hardest = _hardest(distance, labels[:, None] == labels, labels[:, None] != labels)
    return (hardest + margin).relu().mean()


def _itself_a_stranger(distance, labels, margin):
    """Nobody is nearer than oneself: who may be a stranger, and who may not?"""
    positive, _ = _pairs(labels)
    return (_hardest(distance, positive, ~positive) + margin).relu()[positive.any(1)].mean()


def _without_margin(distance, labels, margin):
    """Nearer by a hair is not enough: by how much should the own face be nearer?"""
    return batch_hard(distance, labels, 0.0)


def _margin_taken_off(distance, labels, margin):
    """A larger margin should ask for more. What does it do to your loss?"""
    return batch_hard(distance, labels, -margin)


def _no_hinge(distance, labels, margin):
    """A triplet that is right with room to spare should not make up for one that is wrong."""
    positive, negative = _pairs(labels)
    return (_hardest(distance, positive, negative) + margin)[positive.any(1)].mean()


def _only_those_that_hurt(distance, labels, margin):
    """The mean is over all faces that have a pair, those too that cost nothing."""
    positive, negative = _pairs(labels)
    hinge = (_hardest(distance, positive, negative) + margin).relu()[positive.any(1)]
    return hinge.sum() / (hinge > 0).sum().clamp_min(1)


@asked(
    _batches,
    easiest=_easiest,
    any_positive=_any_positive,
    itself_a_positive=_itself_a_positive,
    itself_a_stranger=_itself_a_stranger,
    without_margin=_without_margin,
    margin_taken_off=_margin_taken_off,
    no_hinge=_no_hinge,
    only_those_that_hurt=_only_those_that_hurt,
)
def batch_hard(distance: torch.Tensor, labels: torch.Tensor, margin: float) -> torch.Tensor:
    """The mean triplet loss, each face with its furthest own face and its nearest stranger."""
    positive, negative = _pairs(labels)
    return (_hardest(distance, positive, negative) + margin).relu()[positive.any(1)].mean()
