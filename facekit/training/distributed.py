"""Several processes, one for each GPU, that train one network. Built in notebook 04.

`torchrun --nproc-per-node 2 -m facekit train ...` starts them. Every process holds the whole
network and sees its own part of each batch. torch's DistributedDataParallel adds up their
gradients while the backward pass still runs, and all take the same step. What else they have to
agree on is here.
"""

import inspect
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count, pairwise
from threading import Thread
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from facekit.common.errors import FacekitError, RunError
from facekit.common.keyed_random import stream

TIMEOUT = timedelta(minutes=10)  # until the others give up on a process that is gone
RUNS = count()  # of this process
DECODING = timedelta(days=1)  # as long as the first process may need for what it does for all


@dataclass(frozen=True)
class World:
    """The processes of this training: which one this is, and how many there are."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # on this machine: the number of its GPU
    store: dist.Store | None = None  # what all of them can read and write

    @property
    def is_main(self) -> bool:
        """Whether this process prints and saves."""
        return self.rank == 0

    def share(self, items: Sequence) -> Sequence:
        """This process's part of a sequence, every item in exactly one process's."""
        return items[self.rank :: self.size]

    def part_of(self, batch: Sequence) -> Sequence:
        """This process's run of a batch. RunError where it is too small for all to have one."""
        if len(batch) < 2 * self.size:
            raise RunError(
                f"a batch of {len(batch)} images is too small for {self.size} processes, which "
                "need two each: raise batch_size, or start fewer"
            )
        return batch[slices(len(batch), self.size)[self.rank]]

    @contextmanager
    def main_first(self, what: str) -> Iterator[None]:
        """Inside, the first process is alone; the others follow, however long that takes."""
        if self.size > 1 and not self.is_main:
            self.store.wait([what], DECODING)
        yield
        if self.size > 1 and self.is_main:
            self.store.set(what, "done")

    def from_main(self, function: Callable[[], Any]) -> Any:
        """What `function` returns or raises in the first process, in every process."""
        if self.size == 1:
            return function()
        told: list[Any] = [None, None]
        if self.is_main:
            try:
                told[0] = function()
            except FacekitError as error:
                told[1] = error
        dist.broadcast_object_list(told, 0)
        if told[1]:
            raise told[1]
        return told[0]

    def all_reduce_max(self, *values: int) -> list[int]:
        """The greatest of each value over all processes."""
        if self.size == 1:
            return list(values)
        held = torch.tensor(values)
        dist.all_reduce(held, dist.ReduceOp.MAX)
        return held.tolist()

    def check_alike(self, facts: Mapping[str, object]) -> None:
        """Raise RunError, in every process, where one has other facts than the first has."""
        if self.size == 1:
            return
        mine = torch.tensor([stream(value) for value in facts.values()])
        found = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(found, mine)
        for rank, theirs in enumerate(found):
            differ = (theirs != found[0]).tolist()
            if any(differ):
                name = list(facts)[differ.index(True)]
                raise RunError(
                    f"process {rank} has another {name} than process 0 (here it is "
                    f"{str(facts[name])[:60]}); start all with one recipe, on the same images"
                )

    def all_reduce(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of `values` over all processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def average_buffers(self, module: nn.Module) -> None:
        """Replace each buffer by its mean over the processes, in one message for each type.

        A buffer is a running average (batch norm's, the class centres'), so its mean is what one
        process would have found, or near it; and all go on from the same numbers.
        """
        if self.size == 1:
            return
        buffers = [b for b in module.buffers() if b.is_floating_point()]
        for kind in {buffer.dtype for buffer in buffers}:
            mine = [buffer for buffer in buffers if buffer.dtype == kind]
            flat = torch.cat([buffer.reshape(-1) for buffer in mine])
            dist.all_reduce(flat)
            parts = (flat / self.size).split([buffer.numel() for buffer in mine])
            means = [part.view_as(buffer) for part, buffer in zip(parts, mine, strict=True)]
            torch._foreach_copy_(mine, means)


ALONE = World()


@contextmanager
def together() -> Iterator[World]:
    """The world that torchrun started this process in; alone without it."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    # What lies on the processor goes through gloo, and a step need not wait for the GPU.
    backend = f"cpu:gloo,cuda:{_between_gpus()}" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(gpu(int(os.environ["LOCAL_RANK"])))
    Thread(target=_stop_without, args=(os.getppid(),), daemon=True).start()
    store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
    # The store still has the addresses of an earlier run of this script, or of those who are gone.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(f"attempt {attempt}, run {next(RUNS)}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    try:
        yield World(rank, size, int(os.environ["LOCAL_RANK"]), store)
    finally:
        dist.destroy_process_group()


def gpu(local_rank: int) -> int:
    """The number of a process's GPU; where there are fewer than processes, they share."""
    return local_rank % torch.cuda.device_count()


def _between_gpus() -> str:
    """What carries gradients from GPU to GPU; nccl refuses two processes on one."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return "nccl" if here <= torch.cuda.device_count() else "gloo"


def _stop_without(parent: int) -> None:
    """Stop, as one does when asked to, once torchrun is gone: nobody else would end this process.

    It is killed by whoever runs out of memory, say; the processes would train on, unseen.
    """
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


class Agreement:
    """Whether any process wants something, asked about once a second: who asks must wait."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.steps = 0  # since all were asked
        self.wait = 1  # steps from one time to the next, the same in all processes
        self.asked = time.monotonic()

    def after_step(self, *wishes: bool) -> list[int]:
        """For each wish whether any process has it; 0 while nobody is asked. Alone: at once."""
        self.steps += 1
        if self.world.size > 1 and self.steps < self.wait:
            return [0] * len(wishes)
        milliseconds = 1000 * (time.monotonic() - self.asked) / self.steps
        *wanted, slowest = self.world.all_reduce_max(*wishes, int(milliseconds))
        self.wait = max(1, 1000 // max(1, slowest))
        self.steps = 0
        self.asked = time.monotonic()
        return wanted


def data_parallel(forward: nn.Module, some_unused: bool) -> nn.Module:
    """`forward`, whose backward pass leaves the mean of all processes' gradients.

    Makes their weights and buffers those of the first. `some_unused`: there are weights without a
    gradient, for which the others must not wait.
    """
    known = inspect.signature(DistributedDataParallel).parameters
    of_buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    return DistributedDataParallel(
        forward,
        gradient_as_bucket_view=True,  # no second copy of the gradients
        find_unused_parameters=some_unused,
        **{of_buffers: False},  # average_buffers does it
    )


def slices(images: int, wanted: int) -> list[slice]:
    """So many images in at most `wanted` even runs, none of a single image unless that is all:
    batch norm cannot train on one."""
    runs = max(1, min(wanted, images // 2))
    edges = [images * run // runs for run in range(runs + 1)]
    return [slice(low, high) for low, high in pairwise(edges)]
