"""The sampled transforms carried out on whole batches, on any device. Built in notebook 02.

Tensor operations only: what a GPU runs, and what the lesson holds beside OpenCV's results.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from facekit.data.transform_params import TransformParams
from facekit.data.transforms import BLUR_WIDTH, GREY_LEVEL, Preprocess


def apply(stored: Tensor, params: TransformParams, preprocess: Preprocess) -> Tensor:
    """uint8 (B, side, side, 3) on a device -> float32 (B, 3, size, size), channels_last.

    `params`: of `sample_params`, on the CPU. Normalised by `preprocess`. Call it outside autocast,
    which would round the colours to half precision.
    """
    size = preprocess.size
    here = params  # which steps are needed is decided on the CPU: the device never waits
    params = params.to(stored.device)
    images = stored.permute(0, 3, 1, 2).float()  # (B, 3, side, side), 0 ... 255
    if images.shape[-1] != size or (here.matrix != torch.eye(2, 3)).any():
        images = _warp(images, params.matrix, size)
    if (here.solarize < 256).any() or (here.posterize < 8).any():
        images = _levels(images, params)
    if (here.blur > 0).any():
        images = _blur(images, params.blur)
    if (here.colour != torch.eye(3)).any() or here.of_mean.any():
        images = _colour(images, params)
    mean, std = preprocess.scale(images.device)
    images = (images - mean.view(3, 1, 1) * 255) / (std.view(3, 1, 1) * 255)
    if here.erase.any():  # 0 after normalisation is the mean colour
        images = images.masked_fill(inside(params.erase, size), 0.0)
    return images.contiguous(memory_format=torch.channels_last)


def normalise(stored: Tensor, preprocess: Preprocess, out: Tensor) -> Tensor:
    """uint8 (B, size, size, 3) -> float32 (B, 3, size, size), the bits that torchvision makes.

    `out`: float32 (B, size, size, 3) to write to; the result is a view of it.
    """
    # For a row of pixels at once: loops over three numbers are slow.
    mean, std = (part.repeat(preprocess.size) for part in preprocess.scale(out.device))
    step = 1 if out.device.type == "cpu" else len(out)  # one image stays in the cache
    for part, target in zip(stored.split(step), out.split(step), strict=True):
        target.copy_(part).mul_(1 / 255)
        target.flatten(2).sub_(mean).div_(std)
    return out.permute(0, 3, 1, 2)


def inside(boxes: Tensor, size: int) -> Tensor:
    """Which pixels lie in each box (left, top, right, bottom): bool (B, 1, size, size)."""
    left, top, right, bottom = boxes[:, :, None].unbind(1)  # (B, 1) each
    at = torch.arange(size, device=boxes.device)
    across = (at >= left) & (at < right)  # (B, size)
    down = (at >= top) & (at < bottom)
    return (down[:, :, None] & across[:, None, :])[:, None]


def _warp(images: Tensor, matrix: Tensor, size: int) -> Tensor:
    """Bilinear at matrix @ (x, y, 1), grey outside. (B, 3, side, side) -> (B, 3, size, size)"""
    at = torch.arange(size, dtype=torch.float32, device=images.device)
    x, y = at.view(1, 1, size, 1), at.view(1, size, 1, 1)
    # Not a matrix product: TF32 would round the places to an eighth of a pixel.
    across, down, start = (part[:, None, None] for part in matrix.unbind(2))  # (B, 1, 1, 2)
    places = across * x + down * y + start  # (B, size, size, 2) in stored pixels
    grid = (2 * places + 1) / images.shape[-1] - 1
    # Padded with zeros, which stand for grey while it is taken away.
    return F.grid_sample(images - GREY_LEVEL, grid, align_corners=False) + GREY_LEVEL


def _levels(images: Tensor, params: TransformParams) -> Tensor:
    """Invert what is bright, and drop the lower bits, of pixels rounded to whole levels."""
    limit = params.solarize.view(-1, 1, 1, 1)
    step = torch.exp2(8 - params.posterize).view(-1, 1, 1, 1)
    whole = images.round()
    whole = torch.where(whole >= limit, 255 - whole, whole)
    return torch.where((limit < 256) | (step > 1), (whole / step).floor() * step, images)


def _blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Each image with its own Gaussian, along one axis after the other; sigma 0 keeps it."""
    batch, channels, height, width = images.shape
    reach = BLUR_WIDTH // 2
    at = torch.arange(-reach, reach + 1, device=images.device)
    kernel = torch.exp(-0.5 * (at / sigma.clamp(min=1e-2)[:, None]) ** 2)  # (B, BLUR_WIDTH)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None]
    planes = images.reshape(1, batch * channels, height, width)
    planes = F.pad(planes, (reach, reach, reach, reach), mode="reflect")
    planes = F.conv2d(planes, kernel[:, :, None, :], groups=batch * channels)
    planes = F.conv2d(planes, kernel[:, :, :, None], groups=batch * channels)
    return torch.where(sigma.view(-1, 1, 1, 1) > 0, planes.view(images.shape), images)


def _colour(images: Tensor, params: TransformParams) -> Tensor:
    """One 3x3 matrix a pixel, one sum an image; clamped once, where torchvision clamps often."""
    of_mean = (params.of_mean * images.mean((2, 3))[:, None]).sum(2, keepdim=True)  # (B, 3, 1)
    mixed = torch.baddbmm(of_mean, params.colour, images.flatten(2))
    return mixed.clamp(0, 255).view(images.shape)
