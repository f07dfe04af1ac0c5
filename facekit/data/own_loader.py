"""Batches from a reader's own transform, or own DataLoader, in place of the kit's Loader.

    loader = OwnLoader.from_transform(course.train, my_transform, preprocess, device, seed=0)
    loader = OwnLoader.from_dataloader(my_dataloader, preprocess, device, seed=0)
    for batch in loader.batches(EpochSampler(len(loader.labels), 128, seed=0, epoch=1)): ...

An image is what the transform (or the data set) gives BEFORE normalisation: uint8, or float in
0 ... 1. The kit normalises, with the Preprocess that dev and test images go through later.
"""

import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
)
from torchvision.transforms.v2 import functional

from facekit.common.errors import DataError, FacekitError, RecipeError, RunError
from facekit.common.keyed_random import all_random_numbers
from facekit.common.machine import Choice
from facekit.common.source import digest_of
from facekit.data.background import count_cores
from facekit.data.dataset import content_of, labels_of, paths_of
from facekit.data.layout import ImageSet
from facekit.data.mixing import Batch
from facekit.data.own_images import (
    as_image,
    check_images,
    check_labels,
    guarded,
    split_item,
    stack,
)
from facekit.data.transforms import Augment, Preprocess

Keys = Sequence[tuple[int, int]]  # (epoch, index) of each image of a batch


class OwnLoader:
    """The interface of `Loader` on torch's DataLoader, for images that readers change themselves.

    Made by `from_transform` or `from_dataloader`. The random numbers of torch, numpy.random and
    Python's random that a transform draws follow from (seed, epoch, index) alone, whatever the
    number of workers, the order, or an interruption; numpy.random.default_rng() without a seed
    does not. `.labels` int64 (N,), `.paths` where the data set tells them (else empty), `.content`
    a hash of names, bytes, labels and the transform's text, `.storage` says how many processes
    read, and why.

    Nothing is decoded beforehand, so `.bad` is always empty: an unreadable image raises DataError
    with its name when its turn comes. `.augment` may be set as in Loader, and is not used: the own
    transform takes its place.
    """

    def __init__(
        self,
        data_set: Dataset,
        preprocess: Preprocess,
        device: torch.device,
        seed: int = 0,
        *,
        workers: int | None = None,
        collate: Callable = default_collate,
        start_worker: Callable | None = None,
    ) -> None:
        if isinstance(data_set, IterableDataset) or not hasattr(data_set, "__getitem__"):
            raise RecipeError(
                f"{type(data_set).__name__} has no data_set[index], which is wanted to shuffle "
                "and to resume; give a Dataset with __len__ and __getitem__"
            )
        if not hasattr(data_set, "__len__") or len(data_set) == 0:
            raise DataError(f"{type(data_set).__name__} has no item (its __len__ is missing or 0)")
        self.preprocess = preprocess
        self.device = torch.empty(0, device=device).device  # with its number
        self.augment: Augment | None = None
        self.batch_size: int | None = None  # of the reader's DataLoader
        self.labels = labels_of(data_set)
        self.paths = paths_of(data_set)
        self.content = content_of(data_set, self.labels)
        self.bad: dict[int, str] = {}
        self._source = _KeyedBatches(data_set, self.labels, seed, collate)
        self._start_worker = start_worker
        chosen = choose_processes(workers, self.device)
        self.workers = chosen.value
        told = f"read anew each time; worker processes: {chosen.value} ({chosen.reason})"
        self.storage = Choice("own data set", told)

    @classmethod
    def from_transform(
        cls,
        images: ImageSet,
        transform: Callable,
        preprocess: Preprocess,
        device: torch.device,
        seed: int = 0,
        workers: int | None = None,
    ) -> "OwnLoader":
        """The images of a split, each changed by `transform`.

        An image is read, resized and cropped to preprocess.size, and given to `transform` as uint8
        (3, size, size), a tv_tensors.Image: a v2.Compose or any function. `workers`: processes; 0:
        this one; None: by the machine. Raises DataError for a split without classes.
        """
        if not callable(transform):
            raise RecipeError(f"transform is {transform!r}; give a function or a v2.Compose")
        folder = images.dataset(_ResizedFirst(preprocess, transform))
        return cls(folder, preprocess, device, seed, workers=workers)

    @classmethod
    def from_dataloader(
        cls, dataloader: DataLoader, preprocess: Preprocess, device: torch.device, seed: int = 0
    ) -> "OwnLoader":
        """The data set, batch_size, num_workers, worker_init_fn and collate_fn of a DataLoader.

        Its order is not used: the kit's sampler says which image comes when, so that a run that
        was interrupted goes on as if it had not been. The items are (image, label); the data set
        lists all labels as `targets`. Raises RecipeError for what cannot be taken apart (an
        IterableDataset, an own batch_sampler or sampler, batch_size=None), DataError for a data
        set without items or labels.
        """
        _check_dataloader(dataloader)
        loader = cls(
            dataloader.dataset,
            preprocess,
            device,
            seed,
            workers=dataloader.num_workers,
            collate=dataloader.collate_fn,
            start_worker=dataloader.worker_init_fn,
        )
        loader.batch_size = dataloader.batch_size
        return loader

    def batches(self, keys: Iterable[Keys]) -> Iterator[Batch]:
        """A batch for each list of (epoch, index), in order, such as a sampler gives.

        Each worker prepares two batches ahead. Raises DataError for an image that cannot be read,
        BatchError for a transform that fails or gives no image, RunError where a worker dies.
        Whoever stops asking leaves no process behind.
        """
        waiting = iter(self._dataloader(keys))
        try:
            while True:
                found = self._next(waiting)
                if isinstance(found, FacekitError):
                    raise found
                if found is None:
                    return
                yield self._finish(*found)
        finally:
            del waiting  # ends the workers, though an error may be kept and this frame with it

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All images, first to last; the last batch may be smaller."""
        keys = [(0, index) for index in range(len(self.labels))]
        return self.batches(
            keys[start : start + batch_size] for start in range(0, len(keys), batch_size)
        )

    def _dataloader(self, keys: Iterable[Keys]) -> DataLoader:
        """One whose "index" is the list of keys of a batch, and whose "item" is the batch."""
        return DataLoader(
            self._source,
            batch_size=None,
            sampler=keys,
            num_workers=self.workers,
            collate_fn=_unchanged,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=self._start_worker,
            multiprocessing_context="fork" if self.workers else None,
            generator=torch.Generator(),  # else it would draw from the caller's random numbers
        )

    def _next(self, waiting: Iterator) -> tuple[torch.Tensor, torch.Tensor] | FacekitError | None:
        """The next images and labels, or what went wrong with them; None after the last."""
        try:
            return next(waiting, None)
        except RuntimeError as error:  # of DataLoader itself: all others come as values
            if not self.workers:
                raise
            reason = str(error).splitlines()[0]
            return RunError(
                f"a process that prepares images has died ({reason}); its memory may not be "
                f"enough: use fewer than {self.workers} workers, or 0 to see what happens"
            )
        except KeyboardInterrupt as error:  # a notebook keeps it, and would keep the workers
            traceback.clear_frames(error.__traceback__)
            del waiting
            raise

    def _finish(self, images: torch.Tensor, labels: torch.Tensor) -> Batch:
        """On the device, normalised: float32 (B, 3, height, width), channels_last."""
        # Only CUDA: on Apple's GPUs non-blocking copies have brought NaN.
        quick = self.device.type == "cuda"
        images = images.to(self.device, non_blocking=quick)
        labels = labels.to(self.device, non_blocking=quick)
        mean, std = (part.view(3, 1, 1) for part in self.preprocess.scale(self.device))
        with torch.autocast(self.device.type, enabled=False):  # it would round the colours
            images = functional.to_dtype(images, torch.float32, scale=True)
            images = (images - mean) / std
        return Batch(images.contiguous(memory_format=torch.channels_last), labels)


class _ResizedFirst:
    """PIL image -> uint8 (3, size, size) -> whatever the reader's transform makes of it."""

    def __init__(self, preprocess: Preprocess, transform: Callable) -> None:
        self.resize = preprocess.resize()
        self.transform = transform

    def __call__(self, image: Any) -> Any:
        return self.transform(self.resize(image))

    def __repr__(self) -> str:
        return f"{self.resize!r} {self.transform!r} {digest_of(self.transform)}"


class _KeyedBatches(Dataset):
    """Whole batches by their keys: (images, labels), or the error that there was.

    An error is given, not raised: DataLoader would wrap it into the text of a traceback.
    """

    def __init__(
        self, data_set: Dataset, labels: torch.Tensor, seed: int, collate: Callable
    ) -> None:
        self.data_set = data_set
        self.labels = labels
        self.seed = seed
        self.collate = collate
        self.paths = paths_of(data_set)

    def __getitem__(self, keys: Keys) -> tuple[torch.Tensor, torch.Tensor] | FacekitError:
        labels = self.labels[[index for _, index in keys]]
        try:
            names = [self._name(index) for _, index in keys]
            images = self._images(keys, labels, names)
        except FacekitError as error:
            return error
        return images, labels

    def _images(self, keys: Keys, labels: torch.Tensor, names: list[str]) -> torch.Tensor:
        items = [self._item(*key) for key in keys]
        if self.collate is default_collate:  # done here, with words for what may be wrong
            images = []
            found = []
            for item, name in zip(items, names, strict=True):
                image, label = split_item(item, name)
                images.append(as_image(image, name))
                found.append(label)
            together = stack(images, names)
        else:
            with all_random_numbers(self.seed, *keys[0], len(keys)):
                batch = guarded(self.collate, items, f"batch of {names[0]}", "collate_fn")
            together, found = split_item(batch, f"batch of {names[0]}")
        check_labels(found, labels, names)
        return check_images(together, len(keys))

    def _item(self, epoch: int, index: int) -> Any:
        with all_random_numbers(self.seed, epoch, index):
            return guarded(
                self.data_set.__getitem__, index, self._name(index), "reading or changing it"
            )

    def _name(self, index: int) -> str:
        return str(self.paths[index]) if self.paths else f"item {index}"


def _unchanged(batch: Any) -> Any:
    return batch


def _check_dataloader(dataloader: DataLoader) -> None:
    """Raise RecipeError for a DataLoader whose order or batches could not be kept."""
    if not isinstance(dataloader, DataLoader):
        raise RecipeError(
            f"a torch.utils.data.DataLoader is wanted, not a {type(dataloader).__name__}"
        )
    if isinstance(dataloader.dataset, IterableDataset):
        return  # whoever takes the data set says so
    if dataloader.batch_size is None:
        raise RecipeError(
            "the DataLoader has no batch_size (batch_size=None, or a batch_sampler of its own); "
            "give it one: the kit makes the batches, so that a run can be resumed"
        )
    if not isinstance(dataloader.sampler, SequentialSampler | RandomSampler):
        raise RecipeError(
            f"the DataLoader's {type(dataloader.sampler).__name__} would not be used: the kit says "
            "which image comes when, so that a run can be resumed; leave the sampler out"
        )


# ------------------------------------------------------------------ worker processes


def choose_processes(wanted: int | None, device: torch.device) -> Choice:
    """How many processes prepare batches, and why; `wanted`: None leaves it to the machine.

    They begin as copies of this one, which knows the classes of a notebook's cells. Where there
    are no such processes (Windows, macOS), this one prepares the batches.
    """
    cores = count_cores()
    if wanted is not None and (type(wanted) is not int or wanted < 0):
        raise RecipeError(f"workers must be a whole number from 0 on, not {wanted!r}")
    if not sys.platform.startswith("linux"):
        return Choice(0, f"a new process on {sys.platform} would not know what a notebook defines")
    if wanted is not None:
        return Choice(wanted, "asked for")
    if cores == 1:
        return Choice(0, "one core, which trains")
    if device.type == "cuda":
        return Choice(min(cores, 16), f"{cores} cores decode images")
    return Choice(max(1, cores // 2), f"{cores} cores, of which half train")
