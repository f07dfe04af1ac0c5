"""Sums that need all their digits in mixed precision, and a convolution that torch cannot train."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn import functional as F

SMALLEST = 1e-12  # a length below this counts as none
FEW_CHANNELS = 16  # floats in the widest register of a processor; seen to fail under 8


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


class SlicedConv(nn.Conv2d):
    """A 1x1 convolution with a stride that leaves out the pixels itself, and gives the same.

    On a CPU the gradient of torch's own, for fewer input channels than a processor's register
    holds and channels_last, is written past the end of its memory (oneDNN issue 6035): the
    process dies, or learns from wrong numbers.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        down, right = self.stride
        x = x[:, :, ::down, ::right]
        return F.conv2d(x, self.weight, self.bias, groups=self.groups)


def make_safe(net: nn.Module) -> nn.Module:
    """The same network without the convolutions that torch cannot train on a CPU."""
    for layer in net.modules():
        if type(layer) is not nn.Conv2d or layer.kernel_size != (1, 1):
            continue
        few = layer.in_channels // layer.groups < FEW_CHANNELS
        if few and layer.stride != (1, 1) and layer.padding in ((0, 0), "valid"):
            layer.__class__ = SlicedConv  # it keeps its name, weights and hooks
    return net
