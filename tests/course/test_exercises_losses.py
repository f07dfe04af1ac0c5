"""The references of notebook 05: against the kit's heads and losses, sklearn, sums by hand."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from facekit.course import exercises as check
from facekit.course.exercises import losses as exercises
from facekit.models import heads
from facekit.models.losses import CenterLoss, TripletLoss

KNOWN = check.exercises()


def test_the_cosines_are_sklearns():
    for ones, others in KNOWN["cosines"].cases(seed=1):
        expected = cosine_similarity(ones.numpy(), others.numpy())
        np.testing.assert_allclose(exercises.cosines(ones, others), expected, atol=1e-6)


def test_the_logits_are_those_of_the_kits_arcface():
    for embedding, vectors, labels, scale, margin in KNOWN["arcface_logits"].cases(seed=1):
        head = heads.ArcFace(vectors.shape[1], len(vectors), scale, margin)
        head.weight.data.copy_(vectors)
        found = exercises.arcface_logits(embedding, vectors, labels, scale, margin)
        torch.testing.assert_close(found, head(embedding, labels), atol=1e-4, rtol=1e-5)


def test_the_textbooks_arc_cosine_is_exact_on_what_is_drawn():
    """So that nobody is told to be wrong who writes the formula of the paper in float32."""
    for embedding, vectors, labels, scale, margin in KNOWN["arcface_logits"].cases(seed=1):
        rounded = exercises.arcface_logits(embedding, vectors, labels, scale, margin)
        exact = exercises.arcface_logits(
            embedding.double(), vectors.double(), labels, scale, margin
        )
        assert (rounded - exact).abs().max() < 1e-4 / 2
        own = exercises.cosines(embedding, vectors).gather(1, labels[:, None]).acos()
        assert own.max() + margin < math.pi


def test_the_center_loss_is_that_of_the_kit():
    for embedding, centers, labels in KNOWN["center_loss"].cases(seed=1):
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


def test_batch_hard_is_the_worst_of_all_triplets():
    for distance, labels, margin in KNOWN["batch_hard"].cases(seed=1):
        found = exercises.batch_hard(distance, labels, margin)
        assert float(found) == pytest.approx(brute(distance, labels, margin), rel=1e-5)


def test_batch_hard_is_that_of_the_kit():
    torch.manual_seed(0)
    points = torch.nn.functional.normalize(torch.randn(9, 3))
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3])
    found = exercises.batch_hard(torch.cdist(points, points), labels, 0.5)
    torch.testing.assert_close(found, TripletLoss(0.5)(points, labels))


def test_a_drawn_batch_has_somebody_who_is_alone():
    for distance, labels, _ in KNOWN["batch_hard"].cases(seed=1):
        assert torch.bincount(labels).min() == 1
        assert torch.equal(distance, distance.T)
