"""Image files, read safely and served one by one. Built in notebook 01."""

import hashlib
import heapq
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import Dataset, Sampler
from torchvision.datasets import ImageFolder
from tqdm.auto import tqdm

from facekit import layout
from facekit.errors import DataError, RecipeError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")  # decoders that may run; the name does not decide
MAX_PIXELS = 50_000_000
# Pillow warns of large images from 90 million pixels on; here they are an error before that.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_rgb(path: str | Path) -> Image.Image:
    """The image as upright 8-bit RGB, whatever it was: grey, CMYK, alpha, 16 bit, turned by EXIF.

    Transparent places become white. Raises DataError that names the file when it is empty,
    truncated, no image, or larger than 50 million pixels (judged before it is decoded).
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} is too large")
            return _as_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except Exception as error:  # Pillow's decoders raise almost anything on damaged bytes
        raise DataError(f"{path}: cannot read this image ({_reason(path, error)})") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow would clip 16-bit grey to white
        levels = np.asarray(image).astype(np.float64) / 257
        image = Image.fromarray(np.clip(levels.round(), 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _reason(path: str | Path, error: Exception) -> str:
    if Path(path).is_file() and Path(path).stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image, or not of a kind this kit opens"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def find_unreadable(paths: Sequence[Path], progress: bool = False) -> list[str]:
    """Decode every image once, on several threads; the error of each that cannot be read."""

    def fault(path: Path) -> str | None:
        try:
            read_rgb(path)
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:
        bar = tqdm(pool.map(fault, paths), "checking images", len(paths), disable=not progress)
        return [found for found in bar if found]


def check_readable(paths: Sequence[Path], progress: bool = False) -> None:
    """Raise DataError, with the first bad file and the count, unless every image can be read."""
    faults = find_unreadable(paths, progress)
    if faults:
        more = f"; {len(faults)} such images in all" if len(faults) > 1 else ""
        raise DataError(f"{faults[0]}; replace or remove it{more}")


def channel_statistics(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """Mean and spread of red, green and blue in 0 ... 1 over images of any size.

    "std" is that of all pixels, which normalisation wants; "std within" is the mean over images
    of each one's own, which is smaller and often mistaken for it.
    """
    rows = []
    for path in paths:
        pixels = np.asarray(read_rgb(path), np.float64).reshape(-1, 3) / 255
        rows.append((len(pixels), pixels.mean(0), (pixels**2).mean(0), pixels.std(0)))
    counts, means, squares, stds = (np.array(column) for column in zip(*rows, strict=True))
    mean, square = (np.average(part, axis=0, weights=counts) for part in (means, squares))
    return {"mean": mean, "std": np.sqrt(square - mean**2), "std within": stds.mean(0)}


class FaceFolder(ImageFolder):
    """torchvision's ImageFolder, deaf to stray files and particular about broken images.

    `.ipynb_checkpoints` or `__MACOSX` would otherwise become class 0 and shift every label.
    Items are (transformed image, class index).
    """

    def __init__(self, root: Path, transform=None) -> None:
        super().__init__(str(root), transform, loader=read_rgb)

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        names = layout.class_names(Path(directory))
        return names, {name: label for label, name in enumerate(names)}

    @staticmethod
    def make_dataset(directory: str, class_to_idx: dict[str, int], *_, **__) -> list:
        # torchvision's own would also look into sub-folders of a class.
        return [
            (str(path), label)
            for name, label in class_to_idx.items()
            for path in layout.image_files(Path(directory, name))
        ]


class TrainingFolder(FaceFolder):
    """A FaceFolder whose items are asked for by (epoch, index).

    The random numbers of the transform depend on (seed, epoch, index) alone, so that neither
    the number of workers nor an interruption changes what the network sees.
    """

    def __init__(self, root: Path, transform, seed: int) -> None:
        super().__init__(root, transform)
        self.seed = seed

    def __getitem__(self, key: tuple[int, int]):
        epoch, index = key
        with random_numbers(self.seed, epoch, index):
            return super().__getitem__(index)


class FaceFiles(Dataset):
    """Images from a list of paths, in that order, without labels."""

    def __init__(self, paths: Sequence[Path], transform) -> None:
        self.paths, self.transform = list(paths), transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(read_rgb(self.paths[index]))


class EpochSampler(Sampler):
    """Batches of (epoch, index) in an order that depends on (seed, epoch) alone.

    A last batch of one image is dropped: batch norm cannot train on it.
    """

    def __init__(self, size: int, batch_size: int, seed: int, epoch: int, skip: int = 0) -> None:
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.epoch, self.skip = epoch, skip  # skip: batches already done

    def __len__(self) -> int:
        return steps_per_epoch(self.size, self.batch_size) - self.skip

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        generator = torch.Generator().manual_seed(stream(self.seed, self.epoch))
        order = torch.randperm(self.size, generator=generator).tolist()
        for step in range(self.skip, self.skip + len(self)):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield [(self.epoch, index) for index in batch]


class ClassSampler(Sampler):
    """Batches of `classes` different classes with `each` images of each, as losses on pairs need.

    Every image comes exactly once in an epoch. Where counts do not come out even, groups and
    batches are a little smaller, all about alike, rather than images repeated or left over: 5
    images by fours are 3 and 2. None is alone in its group unless it is in its class, and no group
    is alone in its batch (so 3 by twos stay together, of either). Only where one class has more
    groups than there are full batches do all batches have fewer classes. Batches are lists of
    (epoch, index), in an order that depends on (seed, epoch) alone; `labels` holds the class of
    each image, `skip` is how many batches are done already. Raises RecipeError for `classes` or
    `each` under 2.
    """

    def __init__(
        self,
        labels: Sequence[int],
        classes: int,
        each: int,
        seed: int,
        epoch: int,
        skip: int = 0,
    ) -> None:
        for name, value in (("classes", classes), ("images of each class", each)):
            if type(value) is not int or value < 2:
                raise RecipeError(f"a batch for pairs needs 2 {name} or more, not {value!r}")
        self.labels, self.classes, self.each = list(labels), classes, each
        self.seed, self.epoch, self.skip = seed, epoch, skip
        groups = [_parts(count, each) for count in Counter(self.labels).values()]
        self.groups = sum(groups)
        self.steps = max(_parts(self.groups, classes), *groups, 0)  # no class twice in a batch

    def __len__(self) -> int:
        return self.steps - self.skip

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        generator = torch.Generator().manual_seed(stream(self.seed, self.epoch))
        for batch in islice(self._batches(generator), self.skip, None):
            yield [(self.epoch, index) for index in batch]

    def _batches(self, generator: torch.Generator) -> Iterator[list[int]]:
        groups = self._shuffled(generator)
        chance = iter(torch.rand(self.groups + len(groups), generator=generator).tolist())
        # Classes with the most groups left come first, or they would be left over at the end.
        waiting = [(-len(left), next(chance), label) for label, left in groups.items()]
        heapq.heapify(waiting)
        for step in range(self.steps):
            size = self.groups // self.steps + (step < self.groups % self.steps)
            chosen = [heapq.heappop(waiting)[2] for _ in range(size)]
            yield [index for label in chosen for index in groups[label].pop()]
            for label in chosen:
                if groups[label]:
                    heapq.heappush(waiting, (-len(groups[label]), next(chance), label))

    def _shuffled(self, generator: torch.Generator) -> dict[int, list[list[int]]]:
        """The images of each class, dealt out to groups."""
        members: dict[int, list[int]] = {}
        for index in torch.randperm(len(self.labels), generator=generator).tolist():
            members.setdefault(self.labels[index], []).append(index)
        return {label: _deal(images, self.each) for label, images in members.items()}


def _deal(images: list[int], size: int) -> list[list[int]]:
    parts = _parts(len(images), size)
    return [images[part::parts] for part in range(parts)]


def _parts(count: int, size: int) -> int:
    """Into how many even parts of at most `size` to divide things, none of them of one thing."""
    return min(math.ceil(count / size), max(1, count // 2))


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Batches in an epoch; a single left-over image is none."""
    whole, rest = divmod(images, batch_size)
    return whole + (rest > 1)


def stream(*key: int) -> int:
    """A seed for the random numbers of one thing, such as (run seed, epoch, image)."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1  # torch takes 63 bits


@contextmanager
def random_numbers(*key: int) -> Iterator[None]:
    """Inside, torch's random numbers on the CPU follow from `key`; outside, nothing changes."""
    # Not torch.manual_seed: it visits every kind of device, and took as long as the picture itself.
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(stream(*key))
    try:
        yield
    finally:
        generator.set_state(before)
