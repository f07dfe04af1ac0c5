"""Exercises that ask for a torch module, or for a loop that trains one. Built in 03 and 04.

Your module is given the reference's weights, in the order in which the layers are made; then both
must give the same output, and the same gradients of the input and of every weight.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from facekit.course.exercises import Exercise, difference


class Behaviour(NamedTuple):
    """What a module did, filled with the weights that all modules of its shapes are given."""

    shapes: list[tuple]  # of weights and buffers
    output: Tensor
    input_gradient: Tensor
    weight_gradients: list[Tensor]


class ModuleExercise(Exercise):
    """A module class: arguments are what it is made with, and last the features it is given."""

    def run(self, answer: Callable, arguments: tuple) -> Behaviour | None:
        *sizes, features = arguments
        with torch.random.fork_rng(devices=[]):
            module = answer(*sizes).eval()
        features = features.requires_grad_()
        output = module(features * 1)  # not the leaf itself, which no layer may change in place
        if output is None:
            return None
        shapes = [_shape(weight) for weight in _weights(module)]
        _fill(module)
        output = module(features * 1)
        _odd_numbers(output).mul(output).sum().backward()
        gradients = [
            torch.zeros_like(weight) if weight.grad is None else weight.grad
            for weight in module.parameters()
        ]
        flat = [gradient.flatten() for gradient in gradients]
        return Behaviour(shapes, output.detach(), features.grad, flat)

    def compare(self, found: tuple, wanted: Behaviour) -> str:
        found = Behaviour(*found)
        if found.shapes != wanted.shapes:
            return _other_weights(found.shapes, wanted.shapes)
        for part in ("output", "input_gradient", "weight_gradients"):
            told = difference(getattr(found, part), getattr(wanted, part))
            if told:
                right = "" if part == "output" else "the output is right; "
                return f"{right}{part.replace('_', ' ')}: {told}"
        return ""


class Trained(NamedTuple):
    """What a training loop returned, and the network that it left behind."""

    loss_and_accuracy: Any
    weights: list[Tensor]


class LoopExercise(Exercise):
    """A training loop over batches: what it returns, and the network that it leaves behind."""

    def run(self, answer: Callable, arguments: tuple) -> Trained | None:
        features, labels = arguments
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)
        network = nn.Sequential(*layers).eval()  # as a network is left after it was judged
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        found = answer(network, list(zip(features, labels, strict=True)), optimizer)
        if found is None:
            return None
        return Trained(found, [weight.flatten() for weight in network.state_dict().values()])

    def compare(self, found: tuple, wanted: Trained) -> str:
        if told := difference(found[0], wanted[0]):
            return f"loss and accuracy: {told}"
        told = difference(found[1], wanted[1])
        return f"loss and accuracy are right; the weights that are left: {told}" if told else ""


def _weights(module: nn.Module) -> list[Tensor]:
    """Weights and buffers in the order in which the layers were made, without batch counters."""
    return [value for value in module.state_dict().values() if value.ndim]


def _shape(weight: Tensor) -> tuple:
    """Without axes of one: a 1x1 convolution is a linear layer at each place."""
    return tuple(side for side in weight.shape if side != 1)


def _odd_numbers(like: Tensor) -> Tensor:
    """The same numbers between -1 and 1 for every tensor of this shape."""
    return torch.arange(like.numel(), dtype=torch.float32).mul(1.7).sin().reshape(like.shape)


def _fill(module: nn.Module) -> None:
    """Give the module the weights that every module of these shapes is given here."""
    for weight in _weights(module):
        values = _odd_numbers(weight)
        # Scales, shifts, means and variances of a norm: positive. The others: a sum keeps its size.
        inputs = max(1, weight[0].numel())
        weight.copy_(1 + values / 2 if len(_shape(weight)) < 2 else values * (3 / inputs) ** 0.5)


def _other_weights(found: list[tuple], wanted: list[tuple]) -> str:
    if len(found) != len(wanted):
        return f"it has {len(found)} weights and buffers, wanted are {len(wanted)}"
    pairs = zip(found, wanted, strict=True)
    number, (one, other) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
    return (
        f"weight or buffer number {number + 1} has the shape {one}, wanted is {other}, axes of 1 "
        "left out; make the layers in the order in which the features meet them"
    )


def acting(make: Callable[..., nn.Module], forward: Callable) -> Callable[..., nn.Module]:
    """A wrong answer: what `make` makes, but with another forward(module, features)."""

    def wrong(*sizes):
        module = make(*sizes)
        module.forward = partial(forward, module)
        return module

    return wrong
