"""Sums that need all their digits, whatever mixed precision does around them."""

from contextlib import AbstractContextManager, nullcontext

import torch

SMALLEST = 1e-12  # a length below this counts as none


def direction(x: torch.Tensor) -> torch.Tensor:
    """Each row brought to length 1; a row of length 0 stays 0 and has gradient 0."""
    length = x.norm(dim=1, keepdim=True)
    return x / torch.where(length > SMALLEST, length, torch.inf)


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """float32, or float64 where it is that already."""
    return x if x.dtype == torch.float64 else x.float()


def without_autocast(x: torch.Tensor) -> AbstractContextManager:
    """Inside, autocast leaves the arithmetic on x's device alone."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()  # and torch.export has one construct less to carry
