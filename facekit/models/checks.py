"""Bad input of blocks, specs, heads and losses, each refused in one sentence."""

import inspect
import math
from collections.abc import Callable, Collection, Mapping

import torch
from torch import nn

from facekit.common.errors import BatchError, RecipeError

MOST_DROPPED = 0.99  # to drop everything would leave nothing to learn from


def check_whole(name: str, value: object, least: int) -> None:
    """Raise RecipeError unless the value is a whole number, at least `least`."""
    if type(value) is not int or value < least:
        raise RecipeError(f"{name} must be a whole number at least {least}, not {value!r}")


def check_number(name: str, value: object, low: float = 0, high: float = math.inf) -> None:
    """Raise RecipeError unless the value is a finite number in low ... high."""
    if _is_finite(value) and low <= value <= high:
        return
    bounds = f"at least {low}" if high == math.inf else f"in {low} ... {high:.4g}"
    raise RecipeError(f"{name} must be a number {bounds}, not {value!r}")


def check_positive(name: str, value: object) -> None:
    """Raise RecipeError unless the value is a finite number over 0."""
    if not (_is_finite(value) and value > 0):
        raise RecipeError(f"{name} must be a number over 0, not {value!r}")


def check_drop_rate(name: str, value: object) -> None:
    """Raise RecipeError unless the value is a probability of dropping something."""
    check_number(name, value, 0, MOST_DROPPED)


def check_flag(name: str, value: object) -> None:
    """Raise RecipeError unless the value is true or false."""
    if not isinstance(value, bool):
        raise RecipeError(f"{name} must be true or false, not {value!r}")


def check_choice(kind: str, name: object, known: Collection[str]) -> None:
    """Raise RecipeError unless the name is one of those known."""
    if not isinstance(name, str) or name not in known:
        raise RecipeError(f"no {kind} {name!r}; choose one of: {', '.join(known)}")


def check_sizes(dim: int, num_classes: int) -> None:
    """Raise RecipeError unless both are whole and over 0."""
    check_whole("dim", dim, 1)
    check_whole("num_classes", num_classes, 1)


def _is_finite(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and -math.inf < value < math.inf


def option_names(make: Callable, sizes: Collection[str]) -> list[str]:
    """What a class or function may be told beside its sizes, which the network decides."""
    return [name for name in inspect.signature(make).parameters if name not in sizes]


def build_named(
    kind: str, known: Mapping[str, type], wanted: str | Mapping, dim: int, num_classes: int
) -> nn.Module:
    """A fresh head or loss: `wanted` is a name in `known`, or a table with a name and options.

    Raises RecipeError when there is no such name or option.
    """
    if isinstance(wanted, str):
        wanted = {"name": wanted}
    if not isinstance(wanted, Mapping):
        raise RecipeError(f"a {kind} is a name or a table with a name, not {wanted!r}")
    options = dict(wanted)
    name = options.pop("name", None)
    check_choice(kind, name, known)
    make = known[name]
    sizes = {"dim": dim, "num_classes": num_classes}
    free = option_names(make, sizes)
    for key in options:
        if key not in free:
            listed = f"it has: {', '.join(free)}" if free else "it has none"
            raise RecipeError(f"the {kind} {name!r} has no option {key!r}; {listed}")
    for key in sizes:
        if key in inspect.signature(make).parameters:  # a triplet loss needs neither
            options[key] = sizes[key]
    return make(**options)


def check_batch(
    embedding: torch.Tensor,
    labels: torch.Tensor | None,
    num_classes: int | None = None,
    dim: int | None = None,
) -> None:
    """Raise BatchError unless embedding (B, dim) is finite and labels (B,) are 0 ... C - 1.

    Shapes and types are always checked. Values are where looking is free: on the CPU, outside
    torch.compile and torch.export. On a GPU it would make every step wait; there CUDA itself
    stops at a label out of range, and a NaN reaches the loss, which training watches.
    """
    if embedding.ndim != 2 or not embedding.is_floating_point():
        raise BatchError(f"embeddings must be floating point (B, D), not {_describe(embedding)}")
    if dim is not None and embedding.shape[1] != dim:
        raise BatchError(f"embeddings must have length {dim}, not {embedding.shape[1]}")
    if labels is not None and (labels.dtype != torch.int64 or labels.shape != embedding.shape[:1]):
        raise BatchError(f"labels must be int64 ({len(embedding)},), not {_describe(labels)}")
    if not may_look(embedding):
        return
    check_finite("embedding", embedding)
    if labels is not None and labels.device == embedding.device and num_classes is not None:
        wrong = labels[(labels < 0) | (labels >= num_classes)]
        if len(wrong):
            raise BatchError(f"label {wrong[0].item()} is not one of 0 ... {num_classes - 1}")


def may_look(tensor: torch.Tensor) -> bool:
    """Whether Python may branch on the tensor's values at no cost."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def check_finite(what: str, rows: torch.Tensor) -> None:
    """Raise BatchError that names the first of the rows (N, D) with a NaN or an infinity."""
    if not rows.isfinite().all():
        row, column = (~rows.isfinite()).nonzero()[0].tolist()
        raise BatchError(
            f"{what} {row} holds {rows[row, column].item()}: the network has diverged, or its "
            "images or weights are not finite; lower lr"
        )


def _describe(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
