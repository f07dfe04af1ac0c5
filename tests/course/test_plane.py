"""Embeddings of two numbers: whose faces they are, and how tight people lie."""

import matplotlib as mpl

mpl.use("Agg")  # before pyplot

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from facekit.course import plane, plots
from facekit.evaluation import embed
from facekit.models import losses
from facekit.models.heads import HEADS


@pytest.fixture
def two_splits(trained, course):
    run = embed.load_run(trained)
    return run, plane.faces(run, [course.train, course.dev], people=3)


def test_the_faces_are_those_of_the_first_people(two_splits, course):
    run, splits = two_splits
    first = [path for path, label in zip(course.train.paths, course.train.labels, strict=True)
             if label < 3]  # fmt: skip
    for found, images in zip(splits, (course.train, course.dev), strict=True):
        few = [i for i, label in enumerate(images.labels) if label < 3]
        assert found.labels.tolist() == [images.labels[i] for i in few]
        expected = embed.embed(run, [images.paths[i] for i in few])
        spread = embed.embed(run, first).std(ddof=1)
        np.testing.assert_allclose(found.features * spread, expected, rtol=1e-4, atol=1e-4)
    assert splits[0].features.std() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_a_plane_learns_with_every_head(head):
    torch.manual_seed(0)
    people = plane.Faces(
        torch.randn(3, 5).repeat_interleave(6, 0), torch.arange(3).repeat_interleave(6)
    )
    people = people._replace(features=people.features + 0.05 * torch.randn(18, 5))
    net = plane.Plane(5, head, 3)
    objective = losses.Objective(net)
    optimizer = torch.optim.Adam(objective.parameters(), 0.01)
    before = plane.looseness(net, people)
    for _ in range(60):
        loss, _ = objective(*people)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert net.embed(people.features).shape == (18, 2)
    assert plane.looseness(net, people) < before


def test_looseness_by_hand():
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 4.0]])
    net = plane.Plane(2, "linear", 2)
    net.embed = torch.nn.Identity()
    # Within: 0, 0, 0, 1, 1; between: 16, 16, 17, 17.
    loose = plane.looseness(net, plane.Faces(points, torch.tensor([0, 0, 1])))
    assert loose == pytest.approx((2 / 5) / (66 / 4))


def test_looseness_by_angle_by_hand_whatever_the_lengths():
    net = plane.Plane(2, "linear", 2)
    net.embed = torch.nn.Identity()
    for length in (1.0, 50.0):
        points = torch.tensor([[1.0, 0.0], [length, length], [0.0, 3.0]])  # 0, 45, 90 degrees
        people = plane.Faces(points, torch.tensor([0, 0, 1]))
        # Within: 0, 0, 0, 45, 45; between: 90, 90, 45, 45.
        loose = plane.looseness(net, people, "angle")
        assert loose == pytest.approx((90 / 5) / (270 / 4), rel=1e-4)


def test_people_who_are_not_told_apart_are_about_as_loose_as_everybody():
    torch.manual_seed(0)
    net = plane.Plane(2, "linear", 2)
    net.embed = torch.nn.Identity()
    people = plane.Faces(torch.randn(400, 2), torch.arange(400) % 2)
    assert plane.looseness(net, people) == pytest.approx(1, abs=0.02)


def test_embeddings_are_dots_for_the_seen_and_crosses_for_the_new():
    net = plane.Plane(2, "linear", 2)
    net.embed = torch.nn.Identity()
    seen = plane.Faces(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([0, 1]))
    new = plane.Faces(torch.tensor([[5.0, 6.0]]), torch.tensor([1]))
    fig = plots.embeddings({"one": net, "other": net}, seen, new)
    places = fig.axes
    assert [place.get_title() for place in places] == ["one", "other"]
    for place in places:
        found = {sign: [line.get_xydata().tolist() for line in place.lines
                        if line.get_marker() == sign and len(line.get_xydata())]
                 for sign in ".x"}  # fmt: skip
        assert found == {".": [[[1.0, 2.0]], [[3.0, 4.0]]], "x": [[[5.0, 6.0]]]}
        assert sorted(text.get_text() for text in place.texts) == ["0", "1"]
    plt.close(fig)
