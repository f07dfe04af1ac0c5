"""The references of notebook 05: against the kit's heads and losses, sklearn, sums by hand."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from facekit.check import losses as exercises
from facekit.models import heads
from facekit.models.losses import CenterLoss, TripletLoss

SEEDS = range(12)


def drawn(draw, seed: int) -> list[tuple]:
    return list(draw(np.random.default_rng(seed)))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_cosines_are_sklearns(seed):
    for ones, others in drawn(exercises._two_sets, seed):
        expected = cosine_similarity(ones.numpy(), others.numpy())
        np.testing.assert_allclose(exercises.cosines(ones, others), expected, atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_logits_are_those_of_the_kits_arcface(seed):
    for embedding, vectors, labels, scale, margin in drawn(exercises._labelled, seed):
        head = heads.ArcFace(vectors.shape[1], len(vectors), scale, margin)
        head.weight.data.copy_(vectors)
        found = exercises.arcface_logits(embedding, vectors, labels, scale, margin)
        torch.testing.assert_close(found, head(embedding, labels), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_textbooks_arc_cosine_is_exact_on_what_is_drawn(seed):
    """So that nobody is told to be wrong who writes the formula of the paper in float32."""
    for embedding, vectors, labels, scale, margin in drawn(exercises._labelled, seed):
        rounded = exercises.arcface_logits(embedding, vectors, labels, scale, margin)
        exact = exercises.arcface_logits(
            embedding.double(), vectors.double(), labels, scale, margin
        )
        assert (rounded - exact).abs().max() < 1e-4 / 2
        own = exercises.cosines(embedding, vectors).gather(1, labels[:, None]).acos()
        assert own.max() + margin < math.pi


@pytest.mark.parametrize("seed", SEEDS)
def test_the_center_loss_is_that_of_the_kit(seed):
    for embedding, centers, labels in drawn(exercises._centred, seed):
        loss = CenterLoss(*centers.shape)
        loss.centers.copy_(centers)
        found = exercises.center_loss(embedding, centers, labels)
        torch.testing.assert_close(found, loss(embedding, labels))


def test_the_center_loss_of_one_face_by_hand():
    loss = exercises.center_loss(torch.tensor([[3.0, 4.0]]), torch.zeros(2, 2), torch.tensor([1]))
    assert loss == 12.5


def brute(distance: torch.Tensor, labels: torch.Tensor, margin: float) -> float:
    """Every triplet of a face, and the worst of them; the mean over the faces that have any."""
    worst = []
    for a in range(len(labels)):
        costs = [
            max(0.0, float(distance[a, p] - distance[a, n]) + margin)
            for p in range(len(labels))
            for n in range(len(labels))
            if p != a and labels[p] == labels[a] and labels[n] != labels[a]
        ]
        worst += [max(costs)] if costs else []
    return sum(worst) / len(worst)


@pytest.mark.parametrize("seed", SEEDS)
def test_batch_hard_is_the_worst_of_all_triplets(seed):
    for distance, labels, margin in drawn(exercises._batches, seed):
        found = exercises.batch_hard(distance, labels, margin)
        assert float(found) == pytest.approx(brute(distance, labels, margin), rel=1e-5)


def test_batch_hard_is_that_of_the_kit():
    torch.manual_seed(0)
    points, labels = torch.randn(9, 3), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3])
    found = exercises.batch_hard(torch.cdist(points, points), labels, 0.5)
    torch.testing.assert_close(found, TripletLoss(0.5, unit_length=False)(points, labels))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_drawn_batch_has_somebody_who_is_alone(seed):
    for distance, labels, _ in drawn(exercises._batches, seed):
        assert torch.bincount(labels).min() == 1
        assert torch.equal(distance, distance.T)
