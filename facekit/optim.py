"""The optimiser and its learning rate. Built in notebook 04."""

import math

import torch
from torch import nn

from facekit.recipes import Recipe


def build_optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) or SGD with nesterov momentum over every parameter.

    Biases and batch norm's scales are not decayed: pulling them to zero only moves the output.
    """
    decayed = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": decayed}, {"params": rest, "weight_decay": 0.0}]
    settings = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, **settings)
    return torch.optim.SGD(groups, momentum=0.9, nesterov=True, **settings)


def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """The rate of step 0 ... steps - 1: a straight climb to `peak`, then half a cosine to zero."""
    if step < warmup:
        return peak * ((step + 1) / warmup)  # exactly the peak at the end of the climb
    done = (step - warmup) / max(1, steps - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
