"""Two pictures in one, with both labels: MixUp and CutMix. Built in notebook 02."""

import torch
from torch import Tensor

from facekit.augment_gpu import inside
from facekit.changes import Changes


def mix(
    images: Tensor, labels: Tensor, changes: Changes
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Each picture with the next of its batch, the last with the first: (B, 3, H, W).

    Returns images, labels, the other pictures' labels and the share of each picture's own label;
    the last two are None where nothing is mixed. The loss is share * loss(labels) +
    (1 - share) * loss(others). MixUp (Zhang et al. 2018) lets the other picture shine through,
    CutMix (Yun et al. 2019) shows a window of it; a picture takes one or the other.
    `changes`: of `changes.draw`, on the CPU.
    """
    if bool((changes.share == 1).all()):
        return images, labels, None, None
    changes = changes.to(images.device)
    cut = (changes.window[:, 2] > changes.window[:, 0]).view(-1, 1, 1, 1)
    windows = inside(changes.window, images.shape[-1])  # (B, 1, H, W)
    through = 1 - changes.share.view(-1, 1, 1, 1)
    weight = torch.where(cut, windows.float(), through)  # of the other picture
    mixed = torch.lerp(images, images.roll(-1, 0), weight)
    return mixed, labels, labels.roll(-1), changes.share
