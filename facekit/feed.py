"""Batches of pictures for training and judging, from wherever the pictures fit."""

import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from facekit import augment_gpu, mixing, runtime
from facekit.augment import Augment, Preprocess
from facekit.changes import Changes, draw
from facekit.errors import RecipeError
from facekit.runtime import Choice
from facekit.store import (
    NoRoom,
    count_cores,
    fit_picture,
    open_store,
    read_sound_files,
    run_ahead,
    source_side,
)

try:
    from facekit import augment_cpu
except ImportError:  # OpenCV is not installed
    augment_cpu = None

SHARE = 0.4  # of a GPU's free memory that pictures may take: the network needs the rest
TIERS = ("device", "map", "files")
Keys = Sequence[tuple[int, int]]  # (epoch, index) of each picture of a batch
# uint8 (B, side, side, 3); B times uint8 (side, side, 3); int64 (B,): rows of those on the device
Pictures = torch.Tensor | list[np.ndarray]


class Batch(NamedTuple):
    """What a network is trained or judged on, all on its device."""

    images: torch.Tensor  # float32 (B, 3, size, size), channels_last, normalised
    labels: torch.Tensor  # int64 (B,)
    others: torch.Tensor | None  # int64 (B,): the second labels of mixed pictures
    share: torch.Tensor | None  # float32 (B,): how much of a picture its first label stands for

    def rows(self, rows: slice) -> "Batch":
        """Some of the images, with all that belongs to them."""
        return Batch(*[None if part is None else part[rows] for part in self])


class _Prepared(NamedTuple):
    """A batch as far as a background thread brings it."""

    pictures: Pictures
    labels: torch.Tensor
    changes: Changes | None


def choose_tier(count: int, side: int, device: torch.device) -> Choice:
    """Where `count` pictures of side x side are kept: on the device or in a map on disk.

    The third, "files", which decodes them again every time, is for want of a disk: `Feed` sees
    whether the map fits.
    """
    size = count * side * side * 3
    if device.type != "cuda":
        return Choice("map", f"{size / 1e6:.0f} MB on disk, which {device.type} reads as it needs")
    free = torch.cuda.mem_get_info(device)[0]
    sizes = f"{size / 1e9:.1f} GB of pictures, {free / 1e9:.1f} GB free on the GPU"
    if size <= SHARE * free:
        return Choice("device", f"{sizes}: at most {SHARE} of it")
    return Choice("map", f"{sizes}: over {SHARE} of it")


def choose_workers(tier: str, device: torch.device) -> Choice:
    """How many threads prepare batches in the background."""
    cores = count_cores()
    if device.type == "cuda" and tier == "files":
        return Choice(min(cores, 16), f"{cores} cores decode images")
    if device.type == "cpu" and cores == 1:
        return Choice(0, "one core, which trains")
    return Choice(1, "one prepares batches while the network works")


def stored_side(paths: Sequence[Path], size: int, augment: Augment | None) -> int:
    """The side at which pictures are stored that the network sees with `size` pixels.

    Pictures that are judged are seen whole: `size`. Those to be cropped at random are stored an
    eighth larger where the files are, or the crops would be blurred; more would be read in vain.
    """
    return size if augment is None else min(source_side(paths), round(size * 8 / 7))


class Feed:
    """Pictures with their labels, served in batches of any order, the same wherever they lie.

    With `augment`, each picture is changed as (seed, epoch, index) say; without, it is what
    `preprocess.transform()` makes of the file. `labels` may be None where nobody knows them; they
    are -1 then. `cache`: the folder of the maps, None: `runtime.cache()`. `workers`: how many
    threads prepare batches, 0: the caller's own; None: by the machine. `tier`: one of `TIERS`,
    None: what `choose_tier` says. Neither changes a pixel. `.tier` is the choice and its reason,
    `.content` a hash of all names and bytes. `.augment` may be changed to other strengths between
    calls of `batches`.

    `spare`: the share of images that may be unreadable. They are left out as if they were not
    there, once and for all batches: `.bad` says which of `paths`, and why; `.paths`, `.labels` and
    every index are of the others. Raises DataError for more of them.
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
        cache: Path | None = None,
        workers: int | None = None,
        progress: bool = True,
        tier: str | None = None,
        spare: float = 0,
    ) -> None:
        if tier not in (None, *TIERS):
            raise RecipeError(f"no tier {tier!r}; choose one of: {', '.join(TIERS)}")
        self.paths, self.preprocess, self.augment, self.seed = paths, preprocess, augment, seed
        self.device = torch.empty(0, device=device).device  # with its number
        self.labels = torch.tensor([-1] * len(paths) if labels is None else labels)
        self.side = stored_side(paths, preprocess.size, augment)
        wanted = Choice(tier, "asked for") if tier else None
        self.tier = wanted or choose_tier(len(paths), self.side, self.device)
        self.spare, self.bad, self._rows = spare, {}, range(len(paths))  # rows of the map
        self._open(Path(cache or runtime.cache().value), progress)
        self._free: deque[np.ndarray] = deque()  # of `_memory`
        chosen = choose_workers(self.tier.value, self.device).value
        self.workers = chosen if workers is None else workers

    def __len__(self) -> int:
        return len(self.paths)

    def _open(self, cache: Path, progress: bool) -> None:
        self._images: np.ndarray | None = None  # the map
        if self.tier.value != "files":
            try:
                store = open_store(self.paths, self.side, cache, progress, self.spare)
                self._images, self.content = np.asarray(store.images), store.content
                self.bad = store.bad
            except NoRoom as error:
                self.tier = Choice("files", str(error))
        if self._images is None:
            self.content, self.bad = read_sound_files(self.paths, cache, progress, self.spare)
        if self.bad:
            self._rows = [row for row in range(len(self.paths)) if row not in self.bad]
            self.paths = [self.paths[row] for row in self._rows]
            self.labels = self.labels[self._rows]
        self._resident = self._upload() if self.tier.value == "device" else None

    def _upload(self) -> torch.Tensor:
        """The pictures on the device: uint8 (N, side, side, 3)."""
        shape = len(self._rows), *self._images.shape[1:]
        whole = torch.empty(shape, dtype=torch.uint8, device=self.device)
        for start in range(0, len(whole), 1024):
            part = slice(start, start + 1024)
            whole[part] = torch.from_numpy(self._images[list(self._rows[part])])
        return whole

    def batches(self, keys: Iterable[Keys]) -> Iterator[Batch]:
        """A batch for each list of (epoch, index), in order.

        Two batches or more are prepared ahead. An error in the background is raised here; whoever
        stops asking leaves no thread behind.
        """
        prepare, finish = partial(self._prepare, self.augment), self._finish
        if self.device.type == "cpu":  # background threads do it all
            prepare, finish = partial(self._make, self.augment), _as_it_is
        ahead = run_ahead(prepare, keys, self.workers, self.workers + 1)
        with closing(ahead if self.workers else (prepare(batch) for batch in keys)) as prepared:
            for one in prepared:
                yield finish(one)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All pictures, first to last; the last batch may be smaller."""
        starts = range(0, len(self), batch_size)
        return self.batches(
            [(0, index) for index in range(start, min(start + batch_size, len(self)))]
            for start in starts
        )

    def _make(self, augment: Augment | None, keys: Keys) -> Batch:
        return self._finish(self._prepare(augment, keys))

    def _prepare(self, augment: Augment | None, keys: Keys) -> _Prepared:
        if not keys:  # of several processes, this one has no part of a short batch
            return _Prepared([], torch.empty(0, dtype=torch.int64), None)
        rows = [index for _, index in keys]
        changes = augment and draw(augment, self.preprocess, self.side, self.seed, keys)
        with self._context():
            labels = self._pinned((len(rows),), torch.int64)
            torch.index_select(self.labels, 0, torch.tensor(rows), out=labels)
            return _Prepared(self._gather(rows, changes), labels, changes)

    def _gather(self, rows: list[int], changes: Changes | None) -> Pictures:
        if self._resident is not None:
            return torch.tensor(rows)
        pictures = [self._picture(row) for row in rows]
        if changes and self.device.type == "cpu" and augment_cpu:
            return pictures  # OpenCV reads them where they lie
        gathered = self._pinned((len(rows), self.side, self.side, 3), torch.uint8)
        np.stack(pictures, out=gathered.numpy())
        return gathered

    def _picture(self, row: int) -> np.ndarray:
        if self._images is not None:
            return self._images[self._rows[row]]
        return fit_picture(self.paths[row], self.side)

    def _context(self) -> AbstractContextManager:
        """Pinning opens the thread's current GPU, which is the first unless told."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def _pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Memory that CUDA copies from by itself, and that torch reuses only after the copy."""
        return torch.empty(shape, dtype=dtype, pin_memory=self.device.type == "cuda")

    def _finish(self, prepared: _Prepared) -> Batch:
        pictures, changes = prepared.pictures, prepared.changes
        labels = self._moved(prepared.labels)
        if not len(labels):
            nothing = torch.empty(0, 3, *[self.preprocess.size] * 2, device=self.device)
            return Batch(nothing, labels, None, None)
        if isinstance(pictures, torch.Tensor):
            pictures = self._moved(pictures)
        if self._resident is not None:
            pictures = self._resident.index_select(0, pictures)
        if changes is None:
            images = _normalised(pictures, self.preprocess, self._memory(len(pictures)))
            return Batch(images, labels, None, None)
        with torch.autocast(self.device.type, enabled=False):  # it would round the colours
            images = self._changed(pictures, changes)
            return Batch(*mixing.mix(images, labels, changes))

    def _changed(self, pictures: Pictures, changes: Changes) -> torch.Tensor:
        if self.device.type == "cpu" and augment_cpu:
            out = self._memory(len(pictures))
            return augment_cpu.apply(pictures, changes, self.preprocess, out)
        return augment_gpu.apply(pictures, changes, self.preprocess)

    def _memory(self, count: int) -> torch.Tensor:
        """Float32 (count, size, size, 3) to write a batch to.

        On the CPU, that of a batch which nobody holds any more: to be given new memory by the
        system, page by page, would take as long as all the changes.
        """
        shape = count, self.preprocess.size, self.preprocess.size, 3
        if self.device.type != "cpu":
            return torch.empty(shape, device=self.device)
        whole = np.empty(shape, np.float32)  # takes up no memory until it is written to
        with suppress(IndexError):  # no other is free
            whole = max(self._free.pop(), whole, key=len)
        used = whole[:count]  # lives as long as any tensor on this memory does
        weakref.finalize(used, self._free.append, whole).atexit = False
        return torch.from_numpy(used)

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        # Only CUDA: on Apple's GPUs non-blocking copies have brought NaN.
        return tensor.to(self.device, non_blocking=self.device.type == "cuda")


def _normalised(pictures: torch.Tensor, preprocess: Preprocess, out: torch.Tensor) -> torch.Tensor:
    """uint8 (B, size, size, 3) -> float32 (B, 3, size, size), the bits that torchvision makes."""
    mean, std = (  # of a row of pixels: loops over three numbers are slow
        torch.tensor(values, device=out.device).repeat(preprocess.size)
        for values in (preprocess.mean, preprocess.std)
    )
    step = 1 if out.device.type == "cpu" else len(out)  # one picture stays in the cache
    for part, target in zip(pictures.split(step), out.split(step), strict=True):
        target.copy_(part).mul_(1 / 255)
        target.flatten(2).sub_(mean).div_(std)
    return out.permute(0, 3, 1, 2)


def _as_it_is(batch: Batch) -> Batch:
    return batch
