"""From an embedding to class scores, with and without a margin. Built in notebook 05.

Every head has one vector per class and is called alike: `head(embedding, labels)` gives logits
(B, C) for the cross-entropy. With labels, a margin head makes the own class harder, so that
classes are pushed further apart than a right answer needs; without labels there is no margin,
and the logits are those to judge a network by. Sums that a margin depends on are in float32
whatever autocast does (float64 stays float64), and every gradient is the exact derivative of the
value that is returned: nothing is computed under `no_grad` and added afterwards.
"""

import math
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

from facekit.common.errors import BatchError
from facekit.models.checks import check_labels, check_number, check_whole
from facekit.models.make import build_named
from facekit.models.numerics import SMALLEST, at_least_float32, direction, without_autocast


class Head(nn.Module):
    """What all heads share. A head gives `logits`; the class vectors are its `weight` (C, D).

    `similarity` says which comparison suits embeddings trained with the head: "cosine", or
    "euclidean" where the logits are (halved, negative, squared) distances.
    """

    similarity = "cosine"
    weight: nn.Parameter

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, dim))
        nn.init.xavier_normal_(self.weight)  # unit normal would be 20 times too long at 512

    def forward(self, embedding: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Embedding (B, D), labels int64 (B,) -> logits (B, C); BatchError for bad labels."""
        check_labels(labels, embedding, len(self.weight))
        with without_autocast(embedding):
            x = at_least_float32(embedding)
            return self.logits(x, self.weight.to(x.dtype), labels)

    def logits(
        self, x: torch.Tensor, vectors: torch.Tensor, labels: torch.Tensor | None
    ) -> torch.Tensor:
        """Embedding (B, D), class vectors (C, D), labels (B,) -> (B, C): what a head defines."""
        raise NotImplementedError

    def penalty(self, embedding: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What the head adds to the cross-entropy, a scalar: nothing, for most."""
        return torch.zeros((), device=embedding.device)

    @torch.no_grad()
    def start_from_means(self, means: torch.Tensor) -> None:
        """Start as the classifier by the nearest of the class means (C, D) of some embeddings.

        Where only directions count, vectors get length 1.
        """
        self.weight.copy_(F.normalize(means))

    def extra_repr(self) -> str:
        """The sizes, for print."""
        num_classes, dim = self.weight.shape
        return f"{dim} -> {num_classes}"


class Linear(Head, nn.Linear):
    """The plain classifier, with a bias: (B, dim) -> logits (B, num_classes). No margin."""

    def __init__(self, dim: int, num_classes: int) -> None:
        nn.Linear.__init__(self, dim, num_classes)  # its weight and bias, begun as torch does

    def forward(self, embedding: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """As every head, in the precision of autocast: a product alone stands it."""
        check_labels(labels, embedding, len(self.weight))
        return nn.Linear.forward(self, embedding)

    @torch.no_grad()
    def start_from_means(self, means: torch.Tensor) -> None:
        # -|x - mean|^2 / 2 = x . mean - |mean|^2 / 2 - |x|^2 / 2, the last alike for all classes.
        self.weight.copy_(means)
        self.bias.copy_(-means.square().sum(1) / 2)


class CosineHead(Head):
    """Logits scale * cos(angle to each class vector), the own class through `with_margin`.

    An embedding of length 0 has no direction: its cosines are 0, and so is its gradient.
    """

    most_margin = math.inf

    def __init__(self, dim: int, num_classes: int, scale: float, margin: float) -> None:
        super().__init__(dim, num_classes)
        check_number("scale", scale, 1)
        check_number("margin", margin, 0, self.most_margin)
        self.scale = scale
        self.margin = margin

    def logits(
        self, x: torch.Tensor, vectors: torch.Tensor, labels: torch.Tensor | None
    ) -> torch.Tensor:
        cosine = F.linear(direction(x), direction(vectors))  # (B, C)
        if labels is not None:
            own = cosine.gather(1, labels[:, None])  # (B, 1)
            cosine = cosine.scatter(1, labels[:, None], self.with_margin(own))
        return self.scale * cosine

    def with_margin(self, cosine: torch.Tensor) -> torch.Tensor:
        """The own class's cosine (B, 1), made harder."""
        raise NotImplementedError


class ArcFace(CosineHead):
    """An angle added to the own class (Deng et al. 2019, arXiv 1801.07698): s cos(theta + m).

    `margin` in radians, 0 ... pi / 2. cos(theta + m) = cos(theta) cos(m) - sin(theta) sin(m) with
    sin(theta) = sqrt(1 - cos^2), so the derivative by cos(theta) is sin(theta + m) / sin(theta),
    as it should be. No arc cosine: at cosine +-1 its slope is infinite. There the slope of the
    sine is taken as 0, which loses nothing, since the cosine itself does not move there.
    Beyond theta = pi - m the cosine would rise again; there cos(theta) - m sin(m) takes over, as
    in the authors' code. It lies lower, so that a larger angle always scores less.

    Defaults for hundreds to thousands of classes trained with augmentation; the paper's 64 and
    0.5 are for 85,000 and more. scale 16 is about the least for 7,000 classes.
    """

    most_margin = math.pi / 2

    def __init__(self, dim: int, num_classes: int, scale: float = 32.0, margin: float = 0.3):
        super().__init__(dim, num_classes, scale, margin)

    def with_margin(self, cosine: torch.Tensor) -> torch.Tensor:
        sine = ((1 - cosine) * (1 + cosine)).clamp_min(1e-8).sqrt()
        turned = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        low = cosine - self.margin * math.sin(self.margin)
        return torch.where(cosine >= -math.cos(self.margin), turned, low)


class CosFace(CosineHead):
    """A cosine taken off the own class (Wang et al. 2018, arXiv 1801.09414): s (cos(theta) - m).

    `margin` 0 ... 1. Defaults as for ArcFace; the paper has 64 and 0.35.
    """

    most_margin = 1

    def __init__(self, dim: int, num_classes: int, scale: float = 32.0, margin: float = 0.2):
        super().__init__(dim, num_classes, scale, margin)

    def with_margin(self, cosine: torch.Tensor) -> torch.Tensor:
        return cosine - self.margin


class LargeMarginSoftmax(Head):
    """The own class's angle multiplied by a whole number m (Liu et al. 2016, arXiv 1612.02295).

    Logits |w| |x| cos(theta), without a bias; the own class gets |w| |x| psi(theta), where
    psi(theta) = (-1)^k cos(m theta) - 2k on the k-th of m equal parts of 0 ... pi: cos(m theta)
    at first, and falling all the way. m = 1 is the plain product.

    From the start this would not learn, so the own logit is (lambda cos + psi) / (1 + lambda)
    with lambda = max(lambda_floor, lambda_start / (1 + lambda_decay * steps)); the steps are the
    training calls with labels, counted in a buffer that the state dict keeps. Defaults as in the
    authors' face recognition (SphereFace, arXiv 1704.08063): 1000 falling to 5 in 2,000 steps.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        margin: int = 4,
        lambda_start: float = 1000.0,
        lambda_decay: float = 0.1,
        lambda_floor: float = 5.0,
    ) -> None:
        super().__init__(dim, num_classes)
        check_whole("margin", margin, 1)
        check_number("lambda_start", lambda_start)
        check_number("lambda_decay", lambda_decay)
        check_number("lambda_floor", lambda_floor)
        self.margin = margin
        self.lambda_start = lambda_start
        self.lambda_decay = lambda_decay
        self.lambda_floor = lambda_floor
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def annealing(self) -> torch.Tensor:
        """The weight of the plain cosine, lambda, after the steps so far: a scalar."""
        falling = self.lambda_start / (1 + self.lambda_decay * self.steps)
        return falling.clamp_min(self.lambda_floor)

    def logits(
        self, x: torch.Tensor, vectors: torch.Tensor, labels: torch.Tensor | None
    ) -> torch.Tensor:
        products = F.linear(x, vectors)  # (B, C)
        if labels is None:
            return products
        own = products.gather(1, labels[:, None]).squeeze(1)  # (B,)
        lengths = x.norm(dim=1) * vectors.norm(dim=1)[labels]
        hard = lengths * self.psi(own / lengths.clamp_min(SMALLEST))
        mix = self.annealing().to(x.dtype)
        own = (mix * own + hard) / (1 + mix)
        if self.training:
            # Not in place: a compiled backward pass would read the count after the change.
            self.steps = self.steps + 1
        return products.scatter(1, labels[:, None], own[:, None])

    def psi(self, cosine: torch.Tensor) -> torch.Tensor:
        # cos(m theta) is a polynomial in the cosine, with a finite slope even at +-1:
        # cos((n + 1) theta) = 2 cos(theta) cos(n theta) - cos((n - 1) theta).
        before = torch.ones_like(cosine)  # cos(0 theta)
        multiple = cosine  # cos(n theta), n = 1 to begin with
        for _ in range(self.margin - 1):
            after = 2 * cosine * multiple - before
            before = multiple
            multiple = after
        part = torch.zeros_like(cosine)  # k
        for cut in range(1, self.margin):
            part += cosine < math.cos(cut * math.pi / self.margin)
        sign = 1 - 2 * (part % 2)  # (-1)^k
        return sign * multiple - 2 * part


class LargeMarginGaussianMixture(Head):
    """A Gaussian around each class mean (L-GM, Wan et al. 2018, arXiv 1803.02988).

    Logits are log-likelihoods but for a constant, -d^2 / 2, so the similarity for verification is
    a distance. The own class's d^2 is enlarged by 1 + `margin` (their alpha). `penalty` is
    `likelihood` times the mean of d^2 / 2 to the own class: it keeps embeddings near their means,
    which a classifier alone does not ask for. All variances are 1.
    """

    similarity = "euclidean"

    def __init__(
        self, dim: int, num_classes: int, margin: float = 0.1, likelihood: float = 0.01
    ) -> None:
        super().__init__(dim, num_classes)
        check_number("margin", margin)
        check_number("likelihood", likelihood)
        self.margin = margin
        self.likelihood = likelihood

    def logits(
        self, x: torch.Tensor, vectors: torch.Tensor, labels: torch.Tensor | None
    ) -> torch.Tensor:
        # One product instead of differences (B, C, D), which would be gigabytes.
        squares = x.square().sum(1, keepdim=True) + vectors.square().sum(1)
        distance = squares / 2 - F.linear(x, vectors)  # d^2 / 2, (B, C)
        if labels is not None:
            # From the difference, because the product loses the digits of a small distance.
            own = self.own_distance(x, vectors, labels) * (1 + self.margin)
            distance = distance.scatter(1, labels[:, None], own[:, None])
        return -distance

    def penalty(self, embedding: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """`likelihood` times the mean of -log p(x | own class), but for a constant."""
        check_labels(labels, embedding, len(self.weight))
        with without_autocast(embedding):
            x = at_least_float32(embedding)
            own = self.own_distance(x, self.weight.to(x.dtype), labels)
            return self.likelihood * own.mean()

    def own_distance(
        self, x: torch.Tensor, vectors: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """d^2 / 2 of each embedding to its own class (B,)."""
        return (x - vectors[labels]).square().sum(1) / 2

    @torch.no_grad()
    def start_from_means(self, means: torch.Tensor) -> None:
        self.weight.copy_(means)


HEADS: dict[str, type[Head]] = {
    "linear": Linear,
    "arcface": ArcFace,
    "cosface": CosFace,
    "lsoftmax": LargeMarginSoftmax,
    "lgm": LargeMarginGaussianMixture,
}


def build(head: str | Mapping, dim: int, num_classes: int) -> Head:
    """A fresh head from its name in HEADS, or a mapping: {"name": "arcface", "margin": 0.3}.

    Raises RecipeError when there is no such head or option, or its value makes no sense.
    """
    return build_named("head", HEADS, head, dim, num_classes)


def class_means(embeddings: torch.Tensor, labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """The mean embedding of each class: (N, D), (N,) -> (C, D), for `start_from_means`.

    For a cosine head give embeddings of length 1, so that each image counts alike. Raises
    BatchError for bad labels, and when a class has no image.
    """
    check_labels(labels, embeddings, num_classes)
    counts = torch.bincount(labels, minlength=num_classes)
    if not counts.all():
        raise BatchError(f"class {counts.argmin().item()} has no image to take a mean of")
    x = at_least_float32(embeddings)
    sums = x.new_zeros(num_classes, x.shape[1]).index_add(0, labels, x)
    return sums / counts[:, None]
