"""What happens to an image before the network sees it. Built in notebook 02.

One `Preprocess` serves training, evaluation, classification and verification, and is stored with
the trained network: nobody types a mean twice.
"""

from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import torch
from PIL import Image
from torchvision.transforms import v2

from facekit.common.errors import RecipeError
from facekit.common.keyed_random import random_numbers

MOST_PIXELS = 1024  # of a side: more are no faces, and fill the memory
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
GREY_LEVEL = 128  # of the corners that a rotation uncovers
RATIO = (0.85, 1.18)  # width to height of the random crop
ERASED = (0.02, 0.2)  # share of the image
BLUR = (0.1, 2.0)  # sigma, pixels
BLUR_WIDTH = 13  # pixels of the kernel: three of the widest sigma to either side


@lru_cache(maxsize=32)  # copied there once: at each copy a GPU would be waited for
@torch.inference_mode(False)  # whoever asks first, others may want gradients
def _constant(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, device=device)


@dataclass(frozen=True)
class Preprocess:
    """How an RGB image becomes a tensor: resized, centre-cropped, scaled to about -2 ... 2."""

    size: int
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    def __post_init__(self) -> None:
        if not 1 <= self.size <= MOST_PIXELS:
            raise RecipeError(f"images become 1 to {MOST_PIXELS} pixels wide, not {self.size}")

    def transform(self) -> v2.Transform:
        """PIL image -> float32 (3, size, size), the same every time."""
        return v2.Compose([*self._to_size(), *self._to_tensor()])

    def resize(self) -> v2.Transform:
        """PIL image -> uint8 (3, size, size): `transform` without the scaling of the values."""
        return v2.Compose([*self._to_size(), v2.ToImage()])

    def training(self, augment: "Augment") -> v2.Transform:
        """PIL image -> float32 (3, size, size), changed at random."""
        steps = [*augment.image_transforms(self.size), *self._to_tensor()]
        return v2.Compose([*steps, *augment.tensor_transforms()])

    def _to_size(self) -> list[v2.Transform]:
        return [v2.Resize(self.size), v2.CenterCrop(self.size)]

    def _to_tensor(self) -> list[v2.Transform]:
        scale = v2.ToDtype(torch.float32, scale=True)
        return [v2.ToImage(), scale, v2.Normalize(self.mean, self.std)]

    def invert(self, batch: torch.Tensor) -> torch.Tensor:
        """Undo the scaling of (..., 3, H, W), so that a preview shows true colours in 0 ... 1."""
        mean, std = self.scale(batch.device)
        return (batch * std.view(3, 1, 1) + mean.view(3, 1, 1)).clamp(0, 1)

    def scale(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of the colours on the device, float32 (3,) each; not to be changed."""
        return _constant(tuple(self.mean), device), _constant(tuple(self.std), device)

    def as_dict(self) -> dict:
        """Plain types, for a checkpoint."""
        return asdict(self)


@dataclass(frozen=True)
class Augment:
    """How strongly training images are changed. 0 (crop_scale: 1) switches a change off.

    There is no vertical flip: nobody stands on their head in the test set.
    """

    crop_scale: float = 0.6  # least area of the random crop, as a share of the image
    flip: float = 0.5  # probability
    rotation: float = 10.0  # degrees to either side
    jitter: float = 0.3  # brightness, contrast and saturation, as factors 1 +- jitter
    grey: float = 0.1  # probability
    erasing: float = 0.25  # probability
    shift: float = 0.0  # to either side, as a share of the image's side
    shear: float = 0.0  # degrees to either side
    random_steps: int = 0  # of RandAugment: so many changes drawn from its list
    random_strength: float = 0.3  # of those changes, from 0 to 1
    blur: float = 0.0  # probability
    mixup: float = 0.0  # alpha of MixUp's Beta distribution: two images shine through each other
    cutmix: float = 0.0  # alpha of CutMix's: a window of one image in another

    def image_transforms(self, size: int) -> list[v2.Transform]:
        """The changes made to the PIL image, beginning with the crop to size x size."""
        uncovered = {"interpolation": v2.InterpolationMode.BILINEAR, "fill": GREY_LEVEL}
        steps: list[v2.Transform] = [v2.RandomResizedCrop(size, (self.crop_scale, 1.0), RATIO)]
        if self.rotation or self.shift or self.shear:  # after the crop: fewer pixels are turned
            shift = (self.shift, self.shift)
            steps.append(v2.RandomAffine(self.rotation, shift, None, self.shear, **uncovered))
        if self.flip:
            steps.append(v2.RandomHorizontalFlip(self.flip))
        if self.random_steps:
            level = round(30 * self.random_strength)
            steps.append(v2.RandAugment(self.random_steps, level, **uncovered))
        if self.jitter:
            steps.append(v2.ColorJitter(self.jitter, self.jitter, self.jitter))
        if self.grey:
            steps.append(v2.RandomGrayscale(self.grey))
        if self.blur:
            steps.append(v2.RandomApply([v2.GaussianBlur(BLUR_WIDTH, BLUR)], self.blur))
        return steps

    def tensor_transforms(self) -> list[v2.Transform]:
        """The change made to the normalised tensor."""
        return [v2.RandomErasing(self.erasing, ERASED)] if self.erasing else []


# Every change switched off: what is left is the plain resize.
NOTHING = Augment(crop_scale=1.0, flip=0, rotation=0, jitter=0, grey=0, erasing=0)


def only(**settings: float) -> Augment:
    """These changes and no other."""
    return replace(NOTHING, **settings)


def preview(
    image: Image.Image, preprocess: Preprocess, augment: Augment, count: int, seed: int = 0
) -> torch.Tensor:
    """What training may see of one image, in true colours: (count, 3, size, size) in 0 ... 1."""
    transform = preprocess.training(augment)
    with random_numbers(seed):
        batch = torch.stack([transform(image) for _ in range(count)])
    return preprocess.invert(batch)
