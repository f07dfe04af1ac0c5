"""Which image comes when: shuffled, or P classes with K images each. Built in notebook 01.

The order follows from (seed, epoch) alone, so that neither the number of workers nor an
interruption changes what the network sees.
"""

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch.utils.data import Sampler

from facekit.common.errors import RecipeError
from facekit.common.keyed_random import stream


class EpochSampler(Sampler):
    """Batches of (epoch, index) in an order that depends on (seed, epoch) alone.

    A last batch of less than `fewest` images is dropped: batch norm cannot train on one.
    """

    def __init__(
        self, size: int, batch_size: int, seed: int, epoch: int, skip: int = 0, fewest: int = 2
    ) -> None:
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self.skip = skip  # batches already done
        self.fewest = fewest

    def __len__(self) -> int:
        return steps_per_epoch(self.size, self.batch_size, self.fewest) - self.skip

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        generator = torch.Generator().manual_seed(stream(self.seed, self.epoch))
        order = torch.randperm(self.size, generator=generator).tolist()
        for step in range(self.skip, self.skip + len(self)):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield [(self.epoch, index) for index in batch]


class PKSampler(Sampler):
    """Batches of P classes with K images of each, as losses on pairs need (P `classes`, K `each`).

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
        self.labels = list(labels)
        self.classes = classes
        self.each = each
        self.seed = seed
        self.epoch = epoch
        self.skip = skip
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


def steps_per_epoch(images: int, batch_size: int, fewest: int = 2) -> int:
    """Batches in an epoch; less than `fewest` left-over images are none."""
    whole, rest = divmod(images, batch_size)
    return whole + (rest >= fewest)
