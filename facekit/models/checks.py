"""Bad input of blocks, specs, heads and losses, each refused in one sentence."""

import math
from collections.abc import Collection

import torch

from facekit.common.errors import BatchError, RecipeError

MOST_DROPPED = 0.99  # to drop everything would leave nothing to learn from


def check_whole(name: str, value: object, least: int) -> None:
    """Raise RecipeError unless the value is a whole number, at least `least`."""
    if type(value) is not int or value < least:
        raise RecipeError(f"{name} must be a whole number at least {least}, not {value!r}")


def check_number(name: str, value: object, low: float = 0, high: float = math.inf) -> None:
    """Raise RecipeError unless the value is a finite number in low ... high."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and low <= value <= high and value != math.inf:
        return
    bounds = f"at least {low}" if high == math.inf else f"in {low} ... {high:.4g}"
    raise RecipeError(f"{name} must be a number {bounds}, not {value!r}")


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


def check_labels(
    labels: torch.Tensor | None, embedding: torch.Tensor, num_classes: int | None = None
) -> None:
    """Raise BatchError unless labels, where there are any, are int64 (B,) and 0 ... C - 1.

    Their values are looked at where that is free. On a GPU it would make every step wait; there
    CUDA itself stops at a label out of range.
    """
    if labels is None:
        return
    if labels.dtype != torch.int64 or labels.shape != embedding.shape[:1]:
        found = f"{str(labels.dtype).removeprefix('torch.')} {tuple(labels.shape)}"
        raise BatchError(f"labels must be int64 ({len(embedding)},), not {found}")
    if num_classes is not None and may_look(labels):
        wrong = labels[(labels < 0) | (labels >= num_classes)]
        if len(wrong):
            raise BatchError(f"label {wrong[0].item()} is not one of 0 ... {num_classes - 1}")


def may_look(tensor: torch.Tensor) -> bool:
    """Whether Python may branch on the tensor's values at no cost."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()
