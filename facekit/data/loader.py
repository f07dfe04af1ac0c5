"""Batches of images for training and evaluation, from wherever the images fit.

    loader = Loader(paths, labels, preprocess, device, augment=augment)
    for batch in loader.batches(EpochSampler(len(paths), 128, seed=0, epoch=1)):
        logits = net(batch.images)

A batch is made in two steps. Background threads sample its random numbers and gather its pixels;
then the pixels are transformed, by OpenCV in the same threads or by tensor operations on a GPU.
"""

import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from facekit.common.machine import Choice
from facekit.data import mixing, transforms_gpu
from facekit.data.background import count_cores, run_ahead
from facekit.data.mixing import Batch
from facekit.data.pixels import CacheSettings, OnGpu, open_pixels, stored_side
from facekit.data.transform_params import TransformParams, sample_params
from facekit.data.transforms import Augment, Preprocess

try:
    from facekit.data import transforms_cpu
except ImportError:  # a bare GPU machine has no OpenCV: there tensor operations do it all
    transforms_cpu = None

Keys = Sequence[tuple[int, int]]  # (epoch, index) of each image of a batch
# uint8 (B, side, side, 3); B times uint8 (side, side, 3); int64 (B,): indices of images on the GPU
Stored = torch.Tensor | list[np.ndarray]


class _Prepared(NamedTuple):
    """A batch as far as a background thread brings it for a GPU."""

    stored: Stored
    labels: torch.Tensor
    params: TransformParams | None


class Loader:
    """Images with their labels, in batches of any order, the same wherever the images are kept.

    With `augment`, each image is changed as (seed, epoch, index) say; without, it is what
    `preprocess.transform()` makes of the file. `labels` may be None where nobody knows them; they
    are -1 then. `workers`: how many threads prepare batches, 0: the caller's own; None: by the
    machine. Neither `workers` nor `cache.storage` changes a pixel. `.storage` is the choice and its
    reason, `.content` a hash of all names and bytes. `.augment` may be changed to other strengths
    between calls of `batches`.

    Up to `cache.max_bad_fraction` of the images may be unreadable. They are left out as if they
    were not there, once and for all batches: `.bad` says which of `paths`, and why; `.paths`,
    `.labels` and every index are of the others. Raises DataError for more of them.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Sequence[int] | None,
        preprocess: Preprocess,
        device: torch.device,
        *,
        augment: Augment | None = None,
        seed: int = 0,
        workers: int | None = None,
        cache: CacheSettings | None = None,
    ) -> None:
        self.preprocess = preprocess
        self.device = torch.empty(0, device=device).device  # with its number
        self.augment = augment
        self.seed = seed
        self.side = stored_side(paths, preprocess.size, augment)
        self.pixels = open_pixels(paths, self.side, self.device, cache or CacheSettings())
        self.storage = self.pixels.storage
        self.content = self.pixels.content
        self.bad = self.pixels.bad
        labels = [-1] * len(paths) if labels is None else labels
        kept = [index for index in range(len(paths)) if index not in self.bad]
        self.paths = [paths[index] for index in kept]
        self.labels = torch.tensor(labels)[kept]
        if workers is None:
            workers = choose_workers(self.storage.value, self.device).value
        self.workers = workers
        self._memory = _Memory()

    def batches(self, keys: Iterable[Keys]) -> Iterator[Batch]:
        """A batch for each list of (epoch, index), in order, such as a sampler gives.

        Two batches or more are prepared ahead. An error in the background is raised here; whoever
        stops asking leaves no thread behind.
        """
        augment = self.augment  # of all these batches, though it may be changed meanwhile

        def prepare(batch: Keys) -> _Prepared:
            return self._prepare(batch, augment)

        def make(batch: Keys) -> Batch:
            return self._finish(prepare(batch))

        ahead = self.workers + 1
        if not self.workers:
            yield from map(make, keys)
        elif self.device.type == "cpu":  # background threads do it all
            yield from run_ahead(make, keys, self.workers, ahead)
        else:
            with closing(run_ahead(prepare, keys, self.workers, ahead)) as prepared:
                for batch in prepared:
                    yield self._finish(batch)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All images, first to last; the last batch may be smaller."""
        keys = [(0, index) for index in range(len(self.paths))]
        return self.batches(
            keys[start : start + batch_size] for start in range(0, len(keys), batch_size)
        )

    # --- first step: what a background thread can do

    def _prepare(self, keys: Keys, augment: Augment | None) -> _Prepared:
        indices = [index for _, index in keys]
        labels = self.labels[indices]
        params = None
        if augment is not None:
            params = sample_params(augment, self.preprocess, self.side, self.seed, keys)
        if self.device.type != "cuda":
            return _Prepared(self._gather(indices, params), labels, params)
        with torch.cuda.device(self.device):  # pinning opens a thread's GPU: the first unless told
            return _Prepared(self._gather(indices, params), labels.pin_memory(), params)

    def _gather(self, indices: list[int], params: TransformParams | None) -> Stored:
        source = self.pixels.source
        # CUDA copies from pinned memory by itself, and torch reuses it only after the copy.
        pinned = self.device.type == "cuda"
        if isinstance(source, OnGpu):
            places = torch.tensor(indices)
            return places.pin_memory() if pinned else places
        images = source.rows(indices)
        if params is not None and self._uses_opencv():
            return images  # OpenCV reads them where they lie
        shape = (len(indices), self.side, self.side, 3)
        gathered = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        np.stack(images, out=gathered.numpy())
        return gathered

    def _uses_opencv(self) -> bool:
        return self.device.type == "cpu" and transforms_cpu is not None

    # --- second step: pixels become the network's input

    def _finish(self, prepared: _Prepared) -> Batch:
        stored, params = prepared.stored, prepared.params
        labels = self._to_device(prepared.labels)
        if isinstance(stored, torch.Tensor):
            stored = self._to_device(stored)
        if isinstance(self.pixels.source, OnGpu):
            stored = self.pixels.source.rows(stored)
        if params is None:
            out = self._room(len(stored))
            return Batch(transforms_gpu.normalise(stored, self.preprocess, out), labels)
        with torch.autocast(self.device.type, enabled=False):  # it would round the colours
            if self._uses_opencv():
                out = self._room(len(stored))
                images = transforms_cpu.apply(stored, params, self.preprocess, out)
            else:
                images = transforms_gpu.apply(stored, params, self.preprocess)
            return mixing.mix(images, labels, params)

    def _to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        # Only CUDA: on Apple's GPUs non-blocking copies have brought NaN.
        return tensor.to(self.device, non_blocking=self.device.type == "cuda")

    def _room(self, count: int) -> torch.Tensor:
        """Float32 (count, size, size, 3) of any content, to write a batch to."""
        shape = (count, self.preprocess.size, self.preprocess.size, 3)
        if self.device.type == "cpu":
            return self._memory.take(shape)
        return torch.empty(shape, device=self.device)


class _Memory:
    """Memory of batches that nobody holds any more, to be used again.

    To be given new memory by the system, page by page, would take as long as all the transforms.
    """

    def __init__(self) -> None:
        self.free: deque[np.ndarray] = deque()  # safe in threads

    def take(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Float32 of this shape; what is free may be of more images, never of larger ones."""
        whole = np.empty(shape, np.float32)  # takes up no memory until it is written to
        with suppress(IndexError):  # none is free
            whole = max(self.free.pop(), whole, key=len)
        used = whole[: shape[0]]  # lives as long as any tensor on this memory does
        weakref.finalize(used, self.free.append, whole).atexit = False
        return torch.from_numpy(used)


def choose_workers(storage: str, device: torch.device) -> Choice:
    """How many threads prepare batches in the background."""
    cores = count_cores()
    if device.type == "cuda" and storage == "files":
        return Choice(min(cores, 16), f"{cores} cores decode images")
    if device.type == "cpu" and cores == 1:
        return Choice(0, "one core, which trains")
    return Choice(1, "one prepares batches while the network works")
