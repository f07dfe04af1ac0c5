"""A batch, and two images in one with both labels: MixUp and CutMix. Built in notebook 02."""

from typing import NamedTuple

import torch
from torch import Tensor

from facekit.data.transform_params import TransformParams
from facekit.data.transforms_gpu import inside


class Batch(NamedTuple):
    """What a network is trained or evaluated on, all on its device.

    The loss of a mixed batch is lam * loss(labels) + (1 - lam) * loss(targets_b).
    """

    images: Tensor  # float32 (B, 3, size, size), channels_last, normalised
    labels: Tensor  # int64 (B,)
    targets_b: Tensor | None = None  # int64 (B,): the second labels of mixed images
    lam: Tensor | None = None  # float32 (B,): how much of an image its first label stands for

    def rows(self, rows: slice) -> "Batch":
        """Some of the images, with all that belongs to them."""
        parts = [None if part is None else part[rows] for part in self]
        return Batch(*parts)


def mix(images: Tensor, labels: Tensor, params: TransformParams) -> Batch:
    """Each image with the next of its batch, the last with the first: (B, 3, H, W).

    MixUp (Zhang et al. 2018) lets the other image shine through, CutMix (Yun et al. 2019) shows a
    window of it; an image takes one or the other. `params`: of `sample_params`, on the CPU.
    """
    if bool((params.lam == 1).all()):
        return Batch(images, labels)
    params = params.to(images.device)
    cut = (params.window[:, 2] > params.window[:, 0]).view(-1, 1, 1, 1)
    windows = inside(params.window, images.shape[-1])  # (B, 1, H, W)
    through = 1 - params.lam.view(-1, 1, 1, 1)
    weight = torch.where(cut, windows.float(), through)  # of the other image
    mixed = torch.lerp(images, images.roll(-1, 0), weight)
    return Batch(mixed, labels, labels.roll(-1), params.lam)
