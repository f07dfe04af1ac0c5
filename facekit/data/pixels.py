"""The decoded images of a loader, kept where they fit: on the GPU, in a file on disk, or nowhere.

Three classes with one method, `rows(indices)`, and the same pixels.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low

import numpy as np
import torch

from facekit.common import machine
from facekit.common.errors import DataError, RecipeError
from facekit.common.machine import Choice
from facekit.data.cache import CacheError, most_bad, open_cache, read_square
from facekit.data.fingerprint import read_files
from facekit.data.images import find_unreadable, read_rgb, refuse_faults
from facekit.data.transforms import Augment

STORAGES = ("gpu", "memmap", "files")
# Of a GPU's free memory that images may take: the network needs the rest. So a T4 still holds the
# homework's 140,020 at the 128 pixels at which a run of 112 has them.
GPU_MEMORY = 1 / 2
LOOKED_AT = 20  # of the files, for their size


@dataclass(frozen=True)
class CacheSettings:
    """Where decoded images are kept, and how many files may be bad."""

    folder: Path | None = None  # None: `machine.cache()`
    storage: str | None = None  # one of STORAGES; None: what `choose_storage` says
    max_bad_fraction: float = 0.0  # of the files may be unreadable: they are left out
    progress: bool = True  # show bars while images are read


class OnGpu:
    """All images in the memory of the device."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images  # uint8 (N, side, side, 3)

    def rows(self, indices: torch.Tensor) -> torch.Tensor:
        """uint8 (B, side, side, 3) on the device, as the indices are: int64 (B,)."""
        return self.images.index_select(0, indices)


class Memmap:
    """All images in a .npy file, which the system reads as they are needed."""

    def __init__(self, images: np.ndarray, kept: Sequence[int]) -> None:
        self.images = images  # uint8 (M, side, side, 3)
        self.kept = kept  # (N,): the rows of those that could be read

    def rows(self, indices: Sequence[int]) -> list[np.ndarray]:
        """B times uint8 (side, side, 3), where they lie: nothing is copied."""
        return [self.images[self.kept[index]] for index in indices]


class FromFiles:
    """Images that are decoded every time, for want of a disk."""

    def __init__(self, paths: Sequence[Path], side: int) -> None:
        self.paths = paths
        self.side = side

    def rows(self, indices: Sequence[int]) -> list[np.ndarray]:
        """B times uint8 (side, side, 3)."""
        return [read_square(self.paths[index], self.side) for index in indices]


@dataclass(frozen=True)
class Pixels:
    """Images of side x side and what is known about them."""

    source: OnGpu | Memmap | FromFiles
    storage: Choice  # one of STORAGES, and why
    content: str  # a hash of all names and bytes
    bad: dict[int, str]  # which of the paths cannot be read, and why; they are left out


def open_pixels(
    paths: Sequence[Path], side: int, device: torch.device, settings: CacheSettings
) -> Pixels:
    """The images of these files, resized to `side` and cropped to a square.

    Where the cache cannot be written they are decoded every time. Raises DataError where too many
    cannot be read, RecipeError for an unknown storage.
    """
    if settings.storage not in (None, *STORAGES):
        raise RecipeError(f"no storage {settings.storage!r}; choose one of: {', '.join(STORAGES)}")
    storage = choose_storage(len(paths), side, device)
    if settings.storage:
        storage = Choice(settings.storage, "asked for")
    folder = Path(settings.folder or machine.cache().value)
    if storage.value == "files":
        return _without_a_cache(paths, side, storage, folder, settings)
    try:
        cache = open_cache(paths, side, folder, settings.progress, settings.max_bad_fraction)
    except CacheError as error:
        return _without_a_cache(paths, side, Choice("files", str(error)), folder, settings)
    kept = [row for row in range(len(paths)) if row not in cache.bad]
    source = Memmap(cache.images, kept)
    if storage.value == "gpu":
        source = OnGpu(_upload(cache.images, kept, device))
    return Pixels(source, storage, cache.content, cache.bad)


def _without_a_cache(
    paths: Sequence[Path], side: int, storage: Choice, folder: Path, settings: CacheSettings
) -> Pixels:
    """What a cache would hold and say; files are checked only where some may be bad."""
    files = read_files(paths, folder, settings.progress)
    bad: dict[int, str] = {}
    if settings.max_bad_fraction:
        bad = find_unreadable(files.paths, settings.progress)
    refuse_faults(list(bad.values()), most_bad(len(paths), settings.max_bad_fraction))
    sound = files.without(bad)
    return Pixels(FromFiles(sound.paths, side), storage, sound.content, bad)


def _upload(images: np.ndarray, kept: list[int], device: torch.device) -> torch.Tensor:
    """The images that could be read, on the device: uint8 (M, side, side, 3)."""
    whole = torch.empty((len(kept), *images.shape[1:]), dtype=torch.uint8, device=device)
    for start in range(0, len(kept), 1024):
        rows = kept[start : start + 1024]
        whole[start : start + 1024] = torch.from_numpy(images[rows])
    return whole


def choose_storage(count: int, side: int, device: torch.device) -> Choice:
    """Where `count` images of side x side are kept: on the GPU, in a file on disk, or nowhere.

    A file that is larger than the memory would be read from the disk again in every epoch, here
    and there: "files", decoding every time, is not slower. That is also for want of a disk:
    `open_pixels` sees whether the file fits.
    """
    size = count * side * side * 3
    told = f"{size / 1e9:.1f} GB of images"
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        if size <= GPU_MEMORY * free:
            return Choice("gpu", f"{told}, at most half of the {free / 1e9:.1f} GB free on the GPU")
    memory = machine.free_memory()
    if size > memory:
        return Choice("files", f"{told}, {memory / 1e9:.1f} GB of memory free: decoded every time")
    return Choice("memmap", f"{size / 1e6:.0f} MB on disk, which {device.type} reads as it needs")


def stored_side(paths: Sequence[Path], size: int, augment: Augment | None) -> int:
    """The side at which images are stored that the network sees with `size` pixels.

    Images that are evaluated are seen whole: `size`. Those to be cropped at random are stored an
    eighth larger where most files are, or the crops would be blurred; more would be read in vain.
    """
    if augment is None:
        return size
    sides = []
    for path in paths[:: 1 + len(paths) // LOOKED_AT]:
        with suppress(DataError):  # of a bad one others will tell
            sides.append(min(read_rgb(path).size))
    sides = sides or [min(read_rgb(paths[0]).size)]
    return side_to_crop(median_low(sides), size)


def side_to_crop(pixels: int, size: int) -> int:
    """The stored side of images whose files have `pixels`, cropped at random to `size`."""
    return min(pixels, round(size * 8 / 7))
