"""A copy of a network for evaluation alone, with batch norm folded into its convolutions."""

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from facekit.models.blocks import StridedDepthwise


def fold_batch_norm(net: nn.Module) -> nn.Module:
    """A copy in evaluation mode that gives the same outputs but for rounding, and is quicker.

    In evaluation batch norm is a fixed scale and shift of each channel, which the convolution
    right before it can do with its own weights. That is done wherever the two follow each other in
    an nn.Sequential; a module that takes the Sequential's layers one by one gets them as they
    were. Other norms stay. The copy cannot be trained on or moved to another device.
    """
    folded = evaluation_copy(net)
    for layers in folded.modules():
        if _runs_in_a_row(layers):
            quick = _fold(list(layers))
            if quick:
                layers.forward = InARow(quick)  # beside the class's own, which is left alone
    return folded.requires_grad_(False)


def evaluation_copy(net: nn.Module) -> nn.Module:
    """A copy in evaluation mode, of whatever device.

    A network may keep tensors of its last training step, such as features for a loss. They belong
    to a graph and cannot be copied; the copy has their numbers alone.
    """
    kept = {}
    for module in net.modules():
        for value in vars(module).values():
            _detach(value, kept)
    return copy.deepcopy(net, kept).eval()


class InARow:
    """Calls layers one after the other. No module, so that the network's layers stay as listed."""

    def __init__(self, layers: list[nn.Module]) -> None:
        self.layers = layers

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def _runs_in_a_row(module: nn.Module) -> bool:
    """Whether it is an nn.Sequential that does what one does: its class may have another way."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _fold(layers: list[nn.Module]) -> list[nn.Module]:
    """The layers with each foldable pair as one convolution; none where there is no such pair."""
    quick = list(layers)
    for place, (conv, norm) in enumerate(pairwise(layers)):
        if _can_fold(conv, norm):
            quick[place] = fuse_conv_bn_eval(conv, norm).requires_grad_(False)
            quick[place + 1] = None
    if None not in quick:
        return []
    return [layer for layer in quick if layer is not None]


def _can_fold(conv: nn.Module, norm: nn.Module) -> bool:
    """Whether one convolution does the same as both, and nobody listens to what is between."""
    # A class made of these, such as one that standardises its weights, may compute otherwise.
    if type(conv) not in (nn.Conv2d, StridedDepthwise) or type(norm) is not nn.BatchNorm2d:
        return False
    if norm.running_mean is None or norm.training:
        return False
    hooks = [conv._forward_pre_hooks, conv._forward_hooks]
    hooks += [norm._forward_pre_hooks, norm._forward_hooks]
    own_ways = ["forward" in vars(conv), "forward" in vars(norm)]
    return not any(hooks) and not any(own_ways)


def _detach(value: object, kept: dict[int, torch.Tensor]) -> None:
    """Note, by id as copy.deepcopy wants it, the numbers of tensors that belong to a graph."""
    if isinstance(value, torch.Tensor):
        if not value.is_leaf:
            kept[id(value)] = value.detach()
    elif isinstance(value, dict):
        for inner in value.values():
            _detach(inner, kept)
    elif isinstance(value, list | tuple):
        for inner in value:
            _detach(inner, kept)
