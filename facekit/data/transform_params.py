"""What is changed in each image, drawn before any pixel is touched. Built in notebook 02.

The numbers of an image are a hash of (seed, epoch, index): they are the same however a batch is
cut and on whatever device it is made. `transforms_cpu` and `transforms_gpu` carry them out.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from facekit.common.keyed_random import Draws
from facekit.data.transforms import BLUR, ERASED, RATIO, Augment, Preprocess

ERASED_RATIO = (0.3, 3.3)  # height to width
GREY = (0.2989, 0.587, 0.114)  # how bright red, green and blue look: torchvision's weights
# RandAugment's changes that compose with the others; its strength 1 is the number beside each.
STEPS = {
    "identity": 0.0,
    "shear x": 0.3,  # tangent
    "shear y": 0.3,
    "shift x": 0.45,  # of the side
    "shift y": 0.45,
    "rotate": 30.0,  # degrees
    "brightness": 0.9,  # factor 1 +- 0.9
    "contrast": 0.9,
    "saturation": 0.9,
    "solarize": 256.0,  # grey levels from the top that are inverted
    "posterize": 4.0,  # bits that are dropped
}
CHANCES = (  # numbers from 0 to 1, by name
    "left",
    "top",
    "flip",
    "grey",
    "blur",
    "erase",
    "erase_left",
    "erase_top",
    "mix",
    "beta_1",
    "beta_2",
    "cut_x",
    "cut_y",
)
Numbers = dict[str, Tensor]  # float64 (B,) each


class TransformParams(NamedTuple):
    """What happens to each of B images, in this order; float32 on the CPU.

    out = clamp(colour @ pixel + of_mean @ mean), where `mean` is that of the warped image.
    Boxes are left, top, right, bottom in whole output pixels, the last two outside; all 0: none.
    """

    matrix: Tensor  # (B, 2, 3) from an output pixel (x, y, 1) to a stored one, centres at 0, 1, ...
    solarize: Tensor  # (B,) grey level from which on pixels are inverted; 256: none
    posterize: Tensor  # (B,) bits kept; 8: all
    blur: Tensor  # (B,) sigma of the Gaussian, in output pixels; 0: none
    colour: Tensor  # (B, 3, 3)
    of_mean: Tensor  # (B, 3, 3)
    erase: Tensor  # (B, 4) box that becomes the mean colour
    lam: Tensor  # (B,) weight of the image's own label; 1: it is not mixed
    window: Tensor  # (B, 4) box that shows the other image (CutMix)

    def to(self, device: torch.device | str) -> "TransformParams":
        """The same on a device."""
        if torch.device(device).type != "cuda":
            return TransformParams(*(values.to(device) for values in self))
        # One copy, from pinned memory: any other would wait for the GPU's work.
        packed = torch.cat([values.flatten() for values in self]).pin_memory()
        parts = packed.to(device, non_blocking=True).split([values.numel() for values in self])
        shaped = [part.view_as(values) for part, values in zip(parts, self, strict=True)]
        return TransformParams(*shaped)


def sample_params(
    augment: Augment,
    preprocess: Preprocess,
    side: int,
    seed: int,
    keys: Sequence[tuple[int, int]],
) -> TransformParams:
    """The transforms of the images with these (epoch, index) keys, stored with `side` pixels.

    Distributions as torchvision's, but for three: the crop is drawn once, and a ratio that does not
    fit is brought to the nearest that does, at the same area; brightness, contrast and saturation
    come in this order; a rotation uncovers what lies beside the crop, and grey only where the
    image ends. RandAugment (Cubuk et al. 2020) draws from `STEPS`, each with a strength from 0
    to `random_strength`; its solarize and posterize come before all colours, its colours before
    the jitter.
    """
    epochs, indices = torch.as_tensor(keys).unbind(1)
    draws = Draws(seed, epochs, indices)
    numbers = draws.uniforms(_ranges(augment))
    steps = [_step(draws, number, augment) for number in range(augment.random_steps)]
    matrix = _matrix(numbers, steps, augment, preprocess.size, side)
    solarize, posterize = _levels(numbers, steps)
    colour, of_mean = _colour(numbers, steps, augment)
    lam, window = _mixing(numbers, augment, preprocess.size)
    return TransformParams(
        matrix=matrix.float(),
        solarize=solarize.float(),
        posterize=posterize.float(),
        blur=torch.where(numbers["blur"] < augment.blur, numbers["sigma"], 0.0).float(),
        colour=colour.float(),
        of_mean=of_mean.float(),
        erase=_erase(numbers, augment.erasing, preprocess.size).float(),
        lam=lam.float(),
        window=window.float(),
    )


def _ranges(augment: Augment) -> dict[str, tuple[float, float]]:
    """Between which two values each number of an image is drawn."""
    ranges = dict.fromkeys(CHANCES, (0.0, 1.0))
    jitter = (max(0.0, 1 - augment.jitter), 1 + augment.jitter)
    shift = (-augment.shift, augment.shift)
    return ranges | {
        "area": (augment.crop_scale, 1.0),
        "ratio": _logs(RATIO),
        "angle": (-augment.rotation, augment.rotation),
        "shear": (-augment.shear, augment.shear),
        "shift_x": shift,
        "shift_y": shift,
        "brightness": jitter,
        "contrast": jitter,
        "saturation": jitter,
        "sigma": BLUR,
        "erase_area": ERASED,
        "erase_ratio": _logs(ERASED_RATIO),
    }


def _logs(pair: tuple[float, float]) -> tuple[float, float]:
    return math.log(pair[0]), math.log(pair[1])


def _step(draws: Draws, number: int, augment: Augment) -> Numbers:
    """One step of RandAugment: how far each of `STEPS` is carried out, 0 for all but one."""
    strength = augment.random_strength
    ranges = {f"which {number}": (0.0, len(STEPS)), f"strength {number}": (-strength, strength)}
    which, amount = draws.uniforms(ranges).values()
    most = torch.tensor(list(STEPS.values()), dtype=torch.float64)
    chosen = torch.arange(len(STEPS)) == which.floor()[:, None]  # (B, STEPS)
    amounts = chosen * amount[:, None] * most
    return dict(zip(STEPS, amounts.unbind(1), strict=True))


def _matrix(
    numbers: Numbers, steps: list[Numbers], augment: Augment, size: int, side: int
) -> Tensor:
    """(B, 2, 3): the way back from an output pixel through every change to a stored one."""
    result = _crop(numbers, size, side)
    if augment.rotation or augment.shear or augment.shift:
        shear_x = torch.tan(torch.deg2rad(numbers["shear"]))
        x = size * numbers["shift_x"]
        y = size * numbers["shift_y"]
        result = result @ _undo(numbers["angle"], shear_x, torch.zeros_like(shear_x), x, y)
    mirror = torch.where(numbers["flip"] < augment.flip, -1.0, 1.0)
    result = torch.cat([result[..., :1] * mirror[:, None, None], result[..., 1:]], 2)
    for step in steps:
        x = size * step["shift x"]
        y = size * step["shift y"]
        result = result @ _undo(step["rotate"], step["shear x"], step["shear y"], x, y)
    centre = torch.eye(3, dtype=torch.float64)
    centre[:2, 2] = 0.5 - size / 2
    return (result @ centre)[:, :2]


def _crop(numbers: Numbers, size: int, side: int) -> Tensor:
    """(B, 3, 3): from output pixels, counted from the middle, into the random crop."""
    area = numbers["area"]
    ratio = numbers["ratio"].exp().clamp(area, 1 / area)  # the box fits, and keeps its area
    width = (side * (area * ratio).sqrt()).round().clamp(1, side)
    height = (side * (area / ratio).sqrt()).round().clamp(1, side)
    left = (numbers["left"] * (side - width + 1)).floor()
    top = (numbers["top"] * (side - height + 1)).floor()
    x = left + width / 2 - 0.5
    y = top + height / 2 - 0.5
    zero = torch.zeros_like(x)
    return _rows((width / size, zero, x), (zero, height / size, y))


def _undo(angle: Tensor, shear_x: Tensor, shear_y: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(B, 3, 3): back over a shift, a turn (degrees, to the left) and a shear about the middle."""
    cos = torch.cos(torch.deg2rad(angle))
    sin = torch.sin(torch.deg2rad(angle))
    a = cos + shear_x * sin
    b = shear_x * cos - sin
    c = shear_y * cos + sin
    d = cos - shear_y * sin
    return _rows((a, b, -a * x - b * y), (c, d, -c * x - d * y))


def _rows(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> Tensor:
    result = torch.zeros(len(first[0]), 3, 3, dtype=torch.float64)
    result[:, 0] = torch.stack(first, 1)
    result[:, 1] = torch.stack(second, 1)
    result[:, 2, 2] = 1
    return result


def _levels(numbers: Numbers, steps: list[Numbers]) -> tuple[Tensor, Tensor]:
    """The strongest solarize and posterize of all steps."""
    solarize = torch.full_like(numbers["area"], 256.0)
    posterize = torch.full_like(numbers["area"], 8.0)
    for step in steps:
        solarize = torch.minimum(solarize, 256 - step["solarize"].abs())
        posterize = torch.minimum(posterize, 8 - step["posterize"].abs().round())
    return solarize, posterize


def _colour(numbers: Numbers, steps: list[Numbers], augment: Augment) -> tuple[Tensor, Tensor]:
    """(B, 3, 3) twice: what is made of a pixel and of the mean. All steps are linear in both."""
    count = len(numbers["area"])
    both = torch.eye(3, 6, dtype=torch.float64).expand(count, 3, 6)  # colour and of_mean, abreast
    for step in steps:
        both = _blend(both, 1 + step["brightness"], 1 + step["contrast"], 1 + step["saturation"])
    if augment.jitter or augment.grey:
        coloured = (numbers["grey"] >= augment.grey).double()
        saturation = numbers["saturation"] * coloured
        both = _blend(both, numbers["brightness"], numbers["contrast"], saturation)
    return both[..., :3], both[..., 3:]


def _blend(both: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Towards black, towards the image's mean grey, and towards each pixel's own grey."""
    b = brightness.view(-1, 1, 1)
    c = contrast.view(-1, 1, 1)
    s = saturation.view(-1, 1, 1)
    to_grey = torch.tensor(GREY, dtype=torch.float64).expand(3, 3)
    both = b * both
    mean_grey = to_grey @ (both[..., :3] + both[..., 3:])  # of an image changed so far
    both = c * both + torch.cat([torch.zeros_like(mean_grey), (1 - c) * mean_grey], 2)
    return s * both + (1 - s) * (to_grey @ both)


def _erase(numbers: Numbers, probability: float, size: int) -> Tensor:
    area = numbers["erase_area"] * size**2
    ratio = numbers["erase_ratio"].exp()
    height = (area * ratio).sqrt().round().clamp(max=size)
    width = (area / ratio).sqrt().round().clamp(max=size)
    left = (numbers["erase_left"] * (size - width + 1)).floor()
    top = (numbers["erase_top"] * (size - height + 1)).floor()
    box = torch.stack([left, top, left + width, top + height], 1)
    return box * (numbers["erase"] < probability)[:, None]


def _mixing(numbers: Numbers, augment: Augment, size: int) -> tuple[Tensor, Tensor]:
    """MixUp's and CutMix's share of the image itself, and the window of the other one."""
    lam = torch.ones_like(numbers["area"])
    window = torch.zeros(len(lam), 4, dtype=torch.float64)
    if not (augment.mixup or augment.cutmix):
        return lam, window
    chance = 0.5 if augment.mixup and augment.cutmix else float(augment.cutmix > 0)
    cut = numbers["mix"] < chance
    alpha = torch.where(cut, augment.cutmix, augment.mixup).double()
    lam = symmetric_beta(alpha, numbers["beta_1"], numbers["beta_2"])
    half = size * (1 - lam).sqrt() / 2
    x = size * numbers["cut_x"]
    y = size * numbers["cut_y"]
    window = torch.stack([x - half, y - half, x + half, y + half], 1).round().clamp(0, size)
    window = window * cut[:, None]
    left, top, right, bottom = window.unbind(1)
    seen = 1 - (right - left) * (bottom - top) / size**2  # of the clipped window
    return torch.where(cut, seen, lam), window


def symmetric_beta(alpha: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Beta(alpha, alpha) from two uniform numbers in [0, 1), by Bailey's polar method (1994)."""
    p = (1 - first) ** (1 / alpha)
    cos = torch.cos(2 * math.pi * second)
    squared = (1 - p) * cos**2
    return (1 + cos.sign() * (squared / (p + squared)).sqrt()) / 2
