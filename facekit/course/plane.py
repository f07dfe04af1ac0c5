"""Embeddings of two numbers, which a page can show. Built in notebook 05."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from facekit.data.layout import ImageSet
from facekit.evaluation.embed import TrainedRun, embed
from facekit.models import heads


class Faces(NamedTuple):
    """Faces as a trained network describes them, and who they are."""

    features: torch.Tensor  # (N, D)
    labels: torch.Tensor  # int64 (N,)


def faces(run: TrainedRun, splits: Sequence[ImageSet], people: int) -> list[Faces]:
    """The faces of the first `people` classes in each split, by the run's embedding.

    All are divided by the spread of the first split, so that a network begins with numbers of
    about 1 whatever the run was trained with.
    """
    found = []
    for images in splits:
        few = [i for i, label in enumerate(images.labels) if label < people]
        vectors = embed(run, [images.paths[i] for i in few])
        labels = torch.tensor([images.labels[i] for i in few])
        found.append(Faces(torch.from_numpy(vectors).float(), labels))
    spread = found[0].features.std()
    return [Faces(features / spread, labels) for features, labels in found]


class Plane(nn.Module):
    """From the embedding of a trained network (B, dim) to two numbers (B, 2), and a head on them.

    It has the parts of a FaceNet that `losses.Objective` asks for.
    """

    def __init__(self, dim: int, head: str | Mapping, people: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(dim, 64), nn.ReLU(), nn.Linear(64, 2))
        self.head = heads.build(head, 2, people)

    def features(self, faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The embedding (B, 2), and what the head gets: the same."""
        embedding = self.embed(faces)
        return embedding, embedding


@torch.no_grad()
def looseness(net: Plane, people: Faces, by: str = "distance") -> float:
    """How far faces of one person lie apart, in the mean, over how far those of two people do.

    `by` "distance": of squared distances. "angle": of angles, as seen from the origin. Each face
    is compared with itself, too.
    """
    points = net.embed(people.features)
    if by == "angle":
        unit = F.normalize(points)
        chord = torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist")
        apart = 2 * (chord / 2).clamp(max=1).asin()  # radians, exact for small angles, too
    else:
        apart = torch.cdist(points, points).square()
    same = people.labels[:, None] == people.labels  # (N, N)
    return (apart[same].mean() / apart[~same].mean()).item()
