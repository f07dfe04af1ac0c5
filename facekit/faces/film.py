"""What lens, film and processing do to a finished painting."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from facekit.faces.draws import Draws, shift_right
from facekit.faces.person import Facts


def defocus(image: Tensor, amount: Tensor) -> Tensor:
    """Mix in a copy that has lost its detail; `amount` 0..1, (N, 1, 1, 1)."""
    size = image.shape[-1]
    small = functional.adaptive_avg_pool2d(image, max(size * 2 // 7, 4))
    coarse = functional.interpolate(small, size=(size, size), mode="bilinear")
    return torch.lerp(image, coarse, amount)


def develop(image: Tensor, how: Facts) -> Tensor:
    """Exposure, contrast, colour cast and saturation."""
    grey = image.mean(dim=1, keepdim=True)  # (N, 1, size, size)
    saturation = how.saturation * (1.0 - how.mono)
    image = grey + (image - grey) * saturation
    colour = (1.0 - how.mono) * torch.cat([how.cast_warm, how.cast_green, -how.cast_warm], dim=1)
    gain = torch.exp2(how.exposure) * how.contrast
    return image * gain + (0.5 - 0.5 * how.contrast + colour)


def vignette(size: int, strength: Tensor) -> Tensor:
    """A factor (N, 1, size, size) that darkens the corners by up to `strength`."""
    axis = torch.linspace(-1.0, 1.0, size, device=strength.device)
    radius2 = axis[:, None] ** 2 + axis[None, :] ** 2
    return 1.0 - strength * (0.5 * radius2) ** 2


def grain(draws: Draws, size: int) -> Tensor:
    """Film grain (N, 3, size, size), mean 0, deviation 1, partly shared by neighbouring channels.

    One hash a pixel is enough: its 64 bits make four small numbers, two for each channel.
    """
    bits = draws.cells("grain", size, size)
    parts = [(shift_right(bits, shift) & 0xFFFF).float() for shift in (0, 16, 32, 48)]
    pairs = torch.cat([parts[i] + parts[i + 1] for i in range(3)], dim=1)
    return (pairs - 65535.0) * (6.0**0.5 / 65536.0)


def expose(image: Tensor, how: Facts, draws: Draws) -> Tensor:
    """Turn a painting, float (N, 3, size, size) about 0..1, into a photograph, uint8."""
    size = image.shape[-1]
    image = develop(defocus(image, how.blur), how) * vignette(size, how.vignette)
    image = image + how.grain_level * grain(draws, size)
    return image.mul_(255.0).round_().clamp_(0.0, 255.0).to(torch.uint8)
