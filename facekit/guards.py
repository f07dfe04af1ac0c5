"""What heads and losses share: bad input said in one sentence, sums in full precision.

Built in notebook 05.
"""

import inspect
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch

from facekit.errors import BatchError, RecipeError

SMALLEST = 1e-12  # a length below this counts as none


def build_named(kind: str, known: Mapping[str, type], wanted: str | Mapping, **sizes: int):
    """An object from a registry; `sizes` go to the constructors that ask for them."""
    options = {"name": wanted} if isinstance(wanted, str) else wanted
    if not isinstance(options, Mapping):
        raise RecipeError(f"a {kind} is a name or a table with a name, not {wanted!r}")
    options = dict(options)
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in known:
        raise RecipeError(f"no {kind} {name!r}; choose one of: {', '.join(known)}")
    accepted = inspect.signature(known[name]).parameters
    free = [key for key in accepted if key not in sizes]
    for key in options:
        if key not in free:
            listed = f"it has: {', '.join(free)}" if free else "it has none"
            raise RecipeError(f"the {kind} {name!r} has no option {key!r}; {listed}")
    return known[name](**{key: sizes[key] for key in sizes if key in accepted}, **options)


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
        raise BatchError(f"embeddings must be floating point (B, D), not {_kind(embedding)}")
    if dim is not None and embedding.shape[1] != dim:
        raise BatchError(f"embeddings must have length {dim}, not {embedding.shape[1]}")
    if labels is not None and (labels.dtype != torch.int64 or labels.shape != embedding.shape[:1]):
        raise BatchError(f"labels must be int64 ({len(embedding)},), not {_kind(labels)}")
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
    if not rows.isfinite().all():
        row, column = (~rows.isfinite()).nonzero()[0].tolist()
        raise BatchError(
            f"{what} {row} holds {rows[row, column].item()}: the network has diverged, or its "
            "images or weights are not finite; lower learning_rate"
        )


def _kind(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def check_option(
    name: str,
    value: object,
    low: float = 0,
    high: float = math.inf,
    above: bool = False,
    whole: bool = False,
) -> None:
    """Raise RecipeError unless the option is a (whole) number in low ... high, or above low."""
    kinds = int if whole else int | float
    number = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
    if number and low <= value <= high and not (above and value == low):
        return
    bound = f"over {low}" if above else f"at least {low}"
    bound = bound if high == math.inf else f"in {low} ... {high:.4g}"
    raise RecipeError(f"{name} must be a{' whole' * whole} number {bound}, not {value!r}")


def check_sizes(dim: int, num_classes: int) -> None:
    """Raise RecipeError unless both are whole and over 0."""
    check_option("dim", dim, 1, whole=True)
    check_option("num_classes", num_classes, 1, whole=True)


def direction(x: torch.Tensor) -> torch.Tensor:
    """Each row brought to length 1; a row of length 0 stays 0 and has gradient 0."""
    length = x.norm(dim=1, keepdim=True)
    return x / torch.where(length > SMALLEST, length, torch.inf)


def full(x: torch.Tensor) -> torch.Tensor:
    """float32, or float64 where it is that already."""
    return x if x.dtype == torch.float64 else x.float()


def full_precision(x: torch.Tensor) -> AbstractContextManager:
    """Inside, autocast leaves the arithmetic on x's device alone."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()  # and torch.export has one construct less to carry
