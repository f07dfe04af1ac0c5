"""What a network is trained on: cross-entropy and losses on the embedding. Built in notebook 05.

The losses compare embeddings with each other or with class centres: `loss(embedding, labels)` is
a scalar for embeddings (B, D) and labels int64 (B,). Distances are in float32 whatever autocast
does (float64 stays float64), gradients are exact, and two equal embeddings, between which a
distance has no slope, pull nowhere. Bad batches raise errors.BatchError.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn import functional as F

from facekit.common.errors import BatchError
from facekit.models.checks import check_choice, check_labels, check_number, may_look
from facekit.models.make import build_named
from facekit.models.numerics import at_least_float32, direction, without_autocast


class CenterLoss(nn.Module):
    """The mean of |x - centre of its class|^2 / 2 (Wen et al. 2016, ECCV).

    The centres (C, D) are not learned by the optimiser: as in the paper, each training call moves
    those of the batch's classes by `rate` times the sum of (x - centre) over (1 + images of the
    class). So they neither decay nor slow down with the loss's weight, and they are a buffer, kept
    in the state dict. They start at 0. The paper's weight is 0.003, its rate 0.5.
    """

    def __init__(self, num_classes: int, dim: int, rate: float = 0.5) -> None:
        super().__init__()
        check_number("rate", rate, 0, 1)
        self.rate = rate
        self.register_buffer("centers", torch.zeros(num_classes, dim))

    def forward(self, embedding: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B, D), (B,) -> scalar; the centres move after the loss is taken."""
        check_labels(labels, embedding, len(self.centers))
        with without_autocast(embedding):
            x = at_least_float32(embedding)
            away = x - self.centers[labels].to(x.dtype)  # (B, D): no distances to other classes
            if self.training:
                self._move(away.detach().to(self.centers.dtype), labels)
            return away.square().sum(1).mean() / 2

    @torch.no_grad()
    def _move(self, away: torch.Tensor, labels: torch.Tensor) -> None:
        ones = torch.ones_like(labels, dtype=away.dtype)
        counts = torch.zeros_like(self.centers[:, 0]).index_add(0, labels, ones)  # (C,)
        step = self.rate * away / (1 + counts[labels])[:, None]
        # Not in place: a compiled backward pass would read the centres after the change.
        self.centers = self.centers.index_add(0, labels, step)


class _PairLoss(nn.Module):
    """A loss on the Euclidean distances within a batch, of embeddings brought to length 1.

    So it compares directions, as verification by cosine does; distances are 0 ... 2.
    """

    def __init__(self, margin: float) -> None:
        super().__init__()
        check_number("margin", margin)
        self.margin = margin

    def forward(self, embedding: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B, D), (B,) -> scalar."""
        check_labels(labels, embedding)
        if may_look(labels) and len(labels.unique()) == len(labels):
            raise BatchError(
                f"no two of the {len(labels)} images of this batch are of one class, so there "
                "is no pair to bring together; draw batches by class (images_per_class), or do "
                'without this loss (auxiliary_loss = "")'
            )
        with without_autocast(embedding):
            x = direction(at_least_float32(embedding))
            # From differences: products lose the digits of a small distance.
            distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
            same = labels[:, None] == labels  # (B, B)
            return self.reduce(distance, same)

    def reduce(self, distance: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
        """Distances (B, B), and which are of one class, diagonal included -> scalar."""
        raise NotImplementedError


class TripletLoss(_PairLoss):
    """An image nearer to its own class than to others by a margin: max(0, d(a,p) - d(a,n) + m).

    mining "batch_hard" (Hermans et al. 2017, arXiv 1703.07737): for each image its furthest
    positive and its nearest negative; the mean over the images that have both. "semi_hard"
    (Schroff et al. 2015, arXiv 1503.03832): for each pair of a class the nearest negative that is
    further than the positive, but by less than the margin; the mean over the pairs that have one,
    and 0 where none has. Distances are not squared.
    """

    def __init__(self, margin: float = 0.2, mining: str = "batch_hard") -> None:
        super().__init__(margin)
        check_choice("mining", mining, ("batch_hard", "semi_hard"))
        self.mining = mining

    def reduce(self, distance: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
        positive = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
        if self.mining == "batch_hard":
            near, far, counted = batch_hard(distance, positive, ~same)
        else:
            near, far, counted = semi_hard(distance, positive, ~same, self.margin)
        hinge = torch.where(counted, near - far + self.margin, 0).relu()
        return _mean(hinge, counted)


def batch_hard(
    distance: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Distances (B,) to each image's furthest positive and nearest negative; which have both."""
    counted = positive.any(1) & negative.any(1)
    furthest = distance.masked_fill(~positive, 0).amax(1)
    nearest = distance.masked_fill(~negative, torch.inf).amin(1)
    return furthest, torch.where(counted, nearest, 0), counted


def semi_hard(
    distance: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, margin: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Distances (B, B) of each pair and to its semi-hard negative; which have one."""
    # Sorted rows instead of all triplets: those of 512 images are 134 million.
    others, order = distance.detach().masked_fill(~negative, torch.inf).sort(1)
    place = torch.searchsorted(others, distance.detach().contiguous(), right=True)
    chosen = order.gather(1, place.clamp_max(len(order) - 1))  # (B, B): which image
    far = distance.gather(1, chosen)
    gap = (far - distance).detach()
    counted = positive & negative.gather(1, chosen) & (gap > 0) & (gap <= margin)
    return distance, far, counted


class ContrastiveLoss(_PairLoss):
    """Pairs of one class cost d^2 / 2, of two max(0, m - d)^2 / 2 (Hadsell et al. 2006, CVPR).

    The mean over the pairs of one class plus the mean over the pairs of two classes that are
    nearer than the margin. The two kinds are averaged apart, and pairs far enough are not
    counted, because a batch has many times more of those. A margin of 1 is an angle of 60 degrees.
    """

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__(margin)

    def reduce(self, distance: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
        once = torch.ones_like(same).triu(1)  # each pair once, and no image with itself
        pull = torch.where(once & same, distance, 0).square()
        push = torch.where(once & ~same, self.margin - distance, 0).relu().square()
        return (_mean(pull, once & same) + _mean(push, push > 0)) / 2


def _mean(values: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    return values.sum() / counted.sum().clamp_min(1)


LOSSES: dict[str, type[nn.Module]] = {
    "center": CenterLoss,
    "triplet": TripletLoss,
    "contrastive": ContrastiveLoss,
}


def build(loss: str | Mapping, dim: int, num_classes: int) -> nn.Module:
    """A fresh loss from its name in LOSSES, or a mapping: {"name": "triplet", "margin": 0.3}.

    Raises RecipeError when there is no such loss or option, or its value makes no sense.
    """
    return build_named("loss", LOSSES, loss, dim, num_classes)


class Objective(nn.Module):
    """All that a training step minimises, with all that it changes.

    Holds the network, whose head has the class vectors, and the auxiliary loss; so an optimiser
    over `objective.parameters()` cannot forget one. The loss is the cross-entropy of the head's
    logits (their margin included), plus the head's own penalty, plus `weight` times the auxiliary
    loss. The last two see the embedding before dropout, as verification does.

    `precision` (torch.bfloat16, say) is that of the network's products; None leaves it to the
    caller's autocast. Here rather than round the call, because torch.compile would apply the
    caller's autocast to the backward pass of the float32 parts too.
    """

    def __init__(
        self,
        network: nn.Module,
        auxiliary_loss: nn.Module | None = None,
        weight: float = 1.0,
        label_smoothing: float = 0.0,
        precision: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.auxiliary_loss = auxiliary_loss
        self.weight = weight
        self.label_smoothing = label_smoothing
        self.precision = precision

    def forward(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        targets_b: torch.Tensor | None = None,
        lam: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (B, 3, H, W), labels int64 (B,) -> loss, a scalar, and logits (B, C).

        Of images mixed by MixUp or CutMix, a share `lam` (B,) belongs to `labels` and the rest to
        `targets_b` (B,).
        """
        with self._autocast(images.device):
            embedding, features = self.network.features(images)  # (B, D), what the head gets
            logits, losses = self._classify(features, labels)
            if targets_b is not None:
                _, losses_b = self._classify(features, targets_b)
                losses = losses * lam + losses_b * (1 - lam)
            loss = losses.mean() + self.network.head.penalty(embedding, labels)
            if self.auxiliary_loss is not None:
                if embedding is None:  # of a network of the reader's own
                    embedding = self.network.embed(images)
                loss = loss + self.weight * self.auxiliary_loss(embedding, labels)
        return loss, logits

    def _classify(
        self, features: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, C) with the labels' margin, and the cross-entropy of each image (B,)."""
        logits = at_least_float32(self.network.head(features, labels))
        losses = F.cross_entropy(
            logits, labels, reduction="none", label_smoothing=self.label_smoothing
        )
        return logits, losses

    def _autocast(self, device: torch.device) -> AbstractContextManager:
        if self.precision is None:
            return nullcontext()
        if self.precision == torch.float32:
            return torch.autocast(device.type, enabled=False)
        # Without autocast's cache of rounded weights: of mixed images the head's are used twice,
        # and any thread that leaves an autocast, as the loader's do, empties the cache in between.
        return torch.autocast(device.type, self.precision, cache_enabled=False)
