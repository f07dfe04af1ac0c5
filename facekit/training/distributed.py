"""Several processes, one for each GPU, that train one network. Built in notebook 04.

`torchrun --nproc-per-node 2 -m facekit train ...` starts them. Every process holds the whole
network and sees its own part of each batch; then they add up their gradients and take the same
step. That is all that data-parallel training is, so it is spelled out here instead of being
wrapped round the network: a process that ran out of memory can then say so before anybody waits.
"""

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from threading import Thread

import torch
from torch import distributed as dist
from torch import nn

from facekit.common.errors import RunError
from facekit.common.keyed_random import stream

TIMEOUT = timedelta(minutes=10)  # until the others give up on a process that is gone


@dataclass(frozen=True)
class World:
    """The processes of this training: which one this is, and how many there are."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # on this machine: the number of its GPU

    @property
    def is_main(self) -> bool:
        """Whether this process prints and saves."""
        return self.rank == 0

    def share(self, items: Sequence) -> Sequence:
        """This process's part of a sequence, every item in exactly one process's."""
        return items[self.rank :: self.size]

    def barrier(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.barrier()

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
                    f"{str(facts[name])[:60]}); start all with one recipe, on the same images, in "
                    "a folder that all machines share"
                )

    def all_reduce(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of `values` over all processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def broadcast_state(self, module: nn.Module) -> None:
        """Give every process the first one's weights and buffers."""
        if self.size == 1:
            return
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)

    def all_reduce_gradients(self, module: nn.Module) -> None:
        """Replace each gradient by its sum over the processes, each buffer by its mean.

        A buffer is a running average (batch norm's, the class centres'), so its mean is what one
        process would have found, or near it; and all go on from the same numbers.
        """
        if self.size == 1:
            return
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        for parameter in trained:
            if parameter.grad is None:  # this process had no image
                parameter.grad = torch.zeros_like(parameter)
        _sum_all([parameter.grad for parameter in trained])
        buffers = [b for b in module.buffers() if b.is_floating_point()]
        _sum_all(buffers)
        if buffers:
            torch._foreach_div_(buffers, self.size)


def _sum_all(tensors: list[torch.Tensor]) -> None:
    """Sum each tensor over the processes, in one message for all of one type."""
    for kind in {tensor.dtype for tensor in tensors}:
        mine = [tensor for tensor in tensors if tensor.dtype == kind]
        flat = torch.cat([tensor.reshape(-1) for tensor in mine])
        dist.all_reduce(flat)
        for tensor, summed in zip(mine, flat.split([t.numel() for t in mine]), strict=True):
            tensor.copy_(summed.view(tensor.shape))


ALONE = World()


@contextmanager
def together() -> Iterator[World]:
    """The world that torchrun started this process in; alone without it."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    # gloo beside nccl: flags stay on the processor, and a step need not wait for the GPU.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    Thread(target=_stop_without, args=(os.getppid(),), daemon=True).start()
    dist.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield World(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))
    finally:
        dist.destroy_process_group()


def _stop_without(parent: int) -> None:
    """Stop, as one does when asked to, once torchrun is gone: nobody else would end this process.

    It is killed by whoever runs out of memory, say; the processes would train on, unseen.
    """
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def slices(count: int, wanted: int) -> list[slice]:
    """`count` images in `wanted` even runs; those past the last hold none.

    No run has a single image unless there is only one in all: batch norm cannot train on it.
    """
    filled = max(1, min(wanted, count // 2))
    edges = [count * part // filled for part in range(filled + 1)] + [count] * (wanted - filled)
    return [slice(low, high) for low, high in pairwise(edges)]
