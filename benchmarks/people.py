"""The people whom the measurements render: they are in no course."""

import torch

DIFFICULTY = "homework"
FRESH = 1_000_000  # people from this number on are in no course


def numbers(count: int, first: int = FRESH) -> torch.Tensor:
    """People or shots, one after another: int64 (count,)."""
    return first + torch.arange(count)
