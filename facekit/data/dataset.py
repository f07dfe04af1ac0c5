"""The course's images as a torchvision ImageFolder, and what any such data set says of itself.

folder = course.train.dataset(transform)  # a ClassFolders
for images, labels in DataLoader(folder, batch_size=32, shuffle=True): ...
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder

from facekit.common import machine
from facekit.common.errors import DataError
from facekit.common.source import ADDRESS
from facekit.data.fingerprint import digest_of, read_files
from facekit.data.images import read_rgb


class ClassFolders(ImageFolder):
    """torchvision's ImageFolder with the kit's list of images and the kit's reader.

    `classes`, `class_to_idx`, `samples`, `targets` and `data_set[index]` are as ImageFolder has
    them. Hidden files and folders are left out, and a file that is no image, or a damaged one,
    raises DataError with its name when it is read.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        paths: Sequence[Path],
        labels: Sequence[int],
        transform: Callable | None = None,
    ) -> None:
        # ImageFolder asks for both while it is being made.
        self._known_classes = list(classes)
        self._known_samples = [
            (str(path), label) for path, label in zip(paths, labels, strict=True)
        ]
        super().__init__(folder, transform=transform, loader=read_rgb)

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        """The classes, and the index of each; ImageFolder calls it."""
        return self._known_classes, {name: i for i, name in enumerate(self._known_classes)}

    def make_dataset(self, *_, **__) -> list[tuple[str, int]]:
        """The files, each with its class index; ImageFolder calls it."""
        return self._known_samples


# ------------------------------------------------------------------ of any map-style data set


def labels_of(data_set: Dataset) -> torch.Tensor:
    """The class index of each item, without reading an image: int64 (N,).

    Looks for `targets` or `labels`, in a Subset and a ConcatDataset, too. Raises DataError where
    there are none, or not one whole number for each item.
    """
    found = _listed_labels(data_set)
    name = type(data_set).__name__
    if found is None:
        raise DataError(
            f"{name} has no list of its labels; set self.targets = [...] in its __init__, the "
            "class index of each item"
        )
    try:
        labels = torch.as_tensor(found)
    except (TypeError, ValueError, RuntimeError):  # texts, say
        labels = torch.empty(0, 0)
    whole = not labels.is_floating_point() and labels.dtype != torch.bool
    if labels.ndim != 1 or len(labels) != len(data_set) or not whole:
        raise DataError(
            f"{name}: its labels must be one class index (a whole number) for each of "
            f"its {len(data_set)} items"
        )
    return labels.long()


def _listed_labels(data_set: Dataset) -> Sequence | None:
    if isinstance(data_set, Subset):  # what random_split gives
        inner = _listed_labels(data_set.dataset)
        return None if inner is None else [int(inner[index]) for index in data_set.indices]
    if isinstance(data_set, ConcatDataset):
        parts = [_listed_labels(part) for part in data_set.datasets]
        if any(part is None for part in parts):
            return None
        return [int(label) for part in parts for label in part]
    for name in ("targets", "labels"):
        if isinstance(getattr(data_set, name, None), list | tuple | np.ndarray | torch.Tensor):
            return getattr(data_set, name)
    if isinstance(data_set, TensorDataset) and len(data_set.tensors) == 2:
        return data_set.tensors[1]
    return None


def paths_of(data_set: Dataset) -> list[Path]:
    """The file of each item, where the data set has `samples` as ImageFolder does; else []."""
    if isinstance(data_set, Subset):
        inner = paths_of(data_set.dataset)
        return [inner[index] for index in data_set.indices] if inner else []
    if isinstance(data_set, ConcatDataset):
        parts = [paths_of(part) for part in data_set.datasets]
        return [path for part in parts for path in part] if all(parts) else []
    samples = getattr(data_set, "samples", None)
    if not isinstance(samples, list) or len(samples) != len(data_set):
        return []
    files = [sample[0] if isinstance(sample, tuple) else sample for sample in samples]
    if not all(isinstance(file, str | Path) for file in files):
        return []
    return [Path(file) for file in files]


def content_of(data_set: Dataset, labels: torch.Tensor) -> str:
    """A hash of what tells one data set from another, without decoding an image.

    Of the labels, of the name and the bytes of each file where the files are known, and of what
    the data set's `transform` prints. Raises DataError for a file that cannot be read.
    """
    parts = [np.asarray(labels, "<i8").tobytes(), _transform_text(data_set).encode()]
    paths = paths_of(data_set)
    if paths:
        files = read_files(paths, machine.cache().value, progress=False)
        parts.append(files.content.encode())
    return digest_of(*parts).hex()


def _transform_text(data_set: Dataset) -> str:
    """What the transforms print, without their places in memory."""
    if isinstance(data_set, Subset):
        return _transform_text(data_set.dataset)
    if isinstance(data_set, ConcatDataset):
        return "\n".join(map(_transform_text, data_set.datasets))
    return ADDRESS.sub("", repr(getattr(data_set, "transform", None)))
