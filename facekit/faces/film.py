"""What lies behind the person, and what lens, film and processing do to the image."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from facekit.common.keyed_random import cells, shift_right
from facekit.faces import textures
from facekit.faces.surface import Facts, mix, triple

LUMA = (0.299, 0.587, 0.114)
MARGIN = 8  # pixels added round an image before it is blurred


def background(f: Facts, size: int) -> Tensor:
    """A wall, a window's edge, shelves or foliage, out of focus: light (N, 3, size, size)."""
    axis = torch.linspace(-1, 1, size, device=f.tone.device)
    x = axis[None, None, :]
    y = axis[None, :, None]
    along = x * torch.cos(f.back_angle) + y * torch.sin(f.back_angle)
    sharp = 2 + 20 * f.back_sharp**3
    scale = 0.10 * f.back_scale
    clouds = textures.smooth(textures.CLOUDS, x * scale + f.back_x, y * scale + f.back_y)
    spots = textures.smooth(textures.CURLS, x * scale + f.back_y, y * scale + f.back_x)
    kind = f.back_kind
    wall = 0.5 + 0.35 * along + 0.06 * clouds
    window = torch.sigmoid((1.5 * along + f.back_x) * sharp)
    shelves = torch.sin(7 * f.back_scale * along + 6 * f.back_x) + 0.5 * torch.sin(9 * y + 5 * x)
    leaves = torch.sigmoid(2.5 * clouds)
    first = torch.where(kind < 0.35, wall, torch.where(kind < 0.6, window, leaves))
    first = torch.where((kind > 0.6) & (kind < 0.75), torch.sigmoid(shelves * 0.5 * sharp), first)
    second = torch.where(kind > 0.75, torch.sigmoid((spots - 1.0) * 3), 0.25 * leaves)
    behind = mix(f.back_1.expand(-1, -1, size, size), f.back_2, first.clamp(0, 1))
    behind = mix(behind, f.back_3, 0.7 * second)
    return behind * (0.4 + 0.6 * (f.sky + 0.5 * f.key).clamp(0.2, 1.4))[:, None]


def automatic_exposure(f: Facts) -> Tensor:
    """A camera opens up in little light and, half-heartedly, for a dark face: (N, 1, 1)."""
    lit = (0.82 / (0.85 * f.sky + 0.55 * f.key + 0.1)) ** 0.65
    skin = f.skin.mean(1)
    return lit * (skin / 0.42).clamp(0.05, 1.2) ** -0.4


def tone(light: Tensor, f: Facts) -> Tensor:
    """From light to grey levels 0..1: exposure, white balance, shoulder, gamma, contrast."""
    grow = (f.exposure * automatic_exposure(f))[:, None]
    light = (light * f.cast * 0.84 * grow).clamp(min=0)
    light = light * (1 + 0.1 * light) / (1 + 0.62 * light)
    value = (1.36 * light).clamp(0, 1.2) ** (1 / 2.2)
    value = (value - 0.5) * f.contrast[:, None] + 0.5 + 0.6 * f.haze[:, None]
    grey = (value * triple(*LUMA, value)).sum(1, keepdim=True)
    return grey + (value - grey) * (f.saturation * (1 - f.mono))[:, None]


def vignette(f: Facts, size: int) -> Tensor:
    """What the lens lets through, less towards the corners: (N, 1, size, size)."""
    axis = torch.linspace(-1, 1, size, device=f.tone.device) ** 2
    return 1 - f.vignette[:, None] * 0.5 * (axis[None, None, None, :] + axis[None, None, :, None])


def blur(images: Tensor, f: Facts) -> Tensor:
    """Out of focus and shaken: one Gaussian, longer along the shake, applied to frequencies.

    `images` (N, 3, size, size), as what is returned. Blur is given in pixels of an image of 224.
    """
    some = torch.nonzero(((f.blur > 0) | (f.shake > 0)).flatten())[:, 0]
    if len(some) == 0:
        return images
    size = images.shape[-1]
    wide = size + 2 * MARGIN
    around = functional.pad(images[some], (MARGIN, MARGIN, MARGIN, MARGIN), mode="reflect")
    down = torch.fft.fftfreq(wide, device=images.device)[None, :, None]
    across = torch.fft.rfftfreq(wide, device=images.device)[None, None, :]
    scale = 2 * math.pi * size / 224
    focus = f.blur[some] * scale
    shake = f.shake[some] * scale
    turn = f.shake_angle[some]
    along = across * torch.cos(turn) + down * torch.sin(turn)
    keep = torch.exp(-0.5 * (focus**2 * (across**2 + down**2) + (shake * along) ** 2))
    soft = torch.fft.irfft2(torch.fft.rfft2(around) * keep[:, None], s=(wide, wide))
    inner = soft[:, :, MARGIN : MARGIN + size, MARGIN : MARGIN + size]
    return images.index_copy(0, some, inner)


def grain(bits: Tensor, size: int) -> Tensor:
    """Film grain (N, 3, size, size), mean 0, deviation 1, partly shared by neighbouring channels.

    `bits`: 64 random ones for each image, (N, 1, 1). One hash of them a pixel is enough: it makes
    four small numbers, two for each channel.
    """
    bits = cells(bits, size, size)
    parts = [(shift_right(bits, shift) & 0xFFFF).float() for shift in (0, 16, 32, 48)]
    pairs = torch.cat([parts[i] + parts[i + 1] for i in range(3)], dim=1)
    return (pairs - 65535.0) * (6.0**0.5 / 65536.0)


def expose(f: Facts, light: Tensor) -> Tensor:
    """Turn light, float (N, 3, size, size), into a photograph, uint8."""
    size = light.shape[-1]
    images = blur(tone(light * vignette(f, size), f).clamp(0, 1), f)
    images = images + f.grain[:, None] * grain(f.grain_bits, size)
    return images.mul_(255.0).round_().clamp_(0.0, 255.0).to(torch.uint8)
