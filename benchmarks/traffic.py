"""The memory traffic of torch's operations, counted without a GPU."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FREE = {"detach", "alias", "lift_fresh", "_unsafe_view", "_local_scalar_dense"}  # and empty...


def held(tensor: torch.Tensor) -> int:
    """Bytes of memory behind a tensor; an axis that is only repeated counts once."""
    total = tensor.element_size()
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        total *= length if stride or not length else 1
    return total


def tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


class Traffic(TorchDispatchMode):
    """Counts operations, but views, and the bytes that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not func.is_view and name not in FREE and "empty" not in name:
            self.operations += 1
            self.bytes += moved(name, args, kwargs, result)
        return result


def moved(name: str, args: tuple, kwargs: dict | None, result: Any) -> int:
    """Bytes that an operation reads and writes."""
    if name in ("index_select", "index", "gather"):  # of the source only what is picked
        return sum(map(held, tensors(args[1:]))) + 2 * held(result)
    if name in ("index_put_", "scatter_reduce_"):  # of the target only what is met
        return sum(map(held, tensors(args[1:]))) + 2 * held(tensors(args)[-1])
    return sum(map(held, tensors((args, kwargs)))) + sum(map(held, tensors(result)))


def bytes_moved(work: Callable[[], object], images: int) -> float:
    """Of an image, to and from memory, where no two operations share a pass over it."""
    with Traffic() as traffic:
        work()
    return traffic.bytes / images
