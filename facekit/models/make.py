"""A block, head, loss or network from its name, or from a class of the reader's own."""

import copy
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import nn

from facekit.common import own
from facekit.common.errors import FacekitError, RecipeError
from facekit.common.keyed_random import random_numbers
from facekit.models.checks import check_choice


class FunctionLoss(nn.Module):
    """A function of embeddings (B, D) and labels (B,) as a loss without weights of its own."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function = function

    def forward(self, embedding: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.function(embedding, labels)


class OwnHead(nn.Module):
    """The reader's head with all that the kit asks of one.

    The module is called with the embedding and the labels, or with the embedding alone where it
    takes no labels, as nn.Linear does. Raises RecipeError unless it gives (B, num_classes).
    """

    def __init__(self, module: nn.Module, name: str, dim: int, num_classes: int) -> None:
        super().__init__()
        self.module = module
        self.name = name
        self.similarity = getattr(module, "similarity", "cosine")
        self.takes_labels = len(_parameters(module.forward)) > 1
        for labels in (torch.tensor([0, 0]), None):  # in evaluation there are none
            shape = self._try(_some_embeddings(dim), labels)
            if shape != (2, num_classes):
                raise RecipeError(
                    f"the head {name} gives logits {shape} for 2 embeddings of {num_classes} "
                    f"classes; they must be {(2, num_classes)}"
                )

    def _try(self, embedding: torch.Tensor, labels: torch.Tensor | None) -> tuple[int, ...]:
        """The shape of the logits."""
        trial = copy.deepcopy(self).train(labels is not None)
        with random_numbers(0), torch.no_grad():
            try:
                return tuple(trial(embedding, labels).shape)
            except Exception as error:
                raise RecipeError(
                    f"the head {self.name} fails for embeddings {tuple(embedding.shape)}"
                    f"{'' if labels is not None else ' without labels, as in evaluation'}: "
                    f"{type(error).__name__}: {error}"
                ) from error

    def forward(self, embedding: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Embedding (B, D), labels (B,) or None -> logits (B, C)."""
        if self.takes_labels:
            return self.module(embedding, labels)
        return self.module(embedding)

    def penalty(self, embedding: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What the head adds to the cross-entropy, a scalar: nothing, unless it says so."""
        if hasattr(self.module, "penalty"):
            return self.module.penalty(embedding, labels)
        return torch.zeros((), device=embedding.device)

    def start_from_means(self, means: torch.Tensor) -> None:
        """As heads.Head has it."""
        if not hasattr(self.module, "start_from_means"):
            raise RecipeError(
                f"the head {self.name} cannot start from class means: give it a method "
                "start_from_means(means), or train with it from the beginning, as head"
            )
        self.module.start_from_means(means)


def check_loss(loss: nn.Module, name: str, dim: int) -> None:
    """Raise RecipeError unless the reader's loss gives one number for embeddings and labels."""
    with random_numbers(0), torch.no_grad():
        try:
            value = copy.deepcopy(loss)(_some_embeddings(dim), torch.tensor([0, 0]))
        except Exception as error:
            raise RecipeError(
                f"the loss {name} fails for embeddings (2, {dim}) and labels (2,): "
                f"{type(error).__name__}: {error}"
            ) from error
    if not isinstance(value, torch.Tensor) or value.ndim:
        raise RecipeError(f"the loss {name} must give one number, a tensor of no dimension")


def _some_embeddings(dim: int) -> torch.Tensor:
    return torch.linspace(-1, 1, 2 * dim).view(2, dim)


def find_named(kind: str, name: object, known: Mapping[str, Callable]) -> Any:
    """What has the name among those known, or is the reader's own (common.own).

    Raises RecipeError when there is no such thing.
    """
    if own.is_known(name) and name not in known:
        return own.get(name)
    check_choice(kind, name, known)
    return known[name]


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
    make = find_named(kind, name, known)
    if name not in known:
        made = make_own(kind, make, options, dim=dim, num_classes=num_classes)
        if kind == "head":
            return OwnHead(made, own.label(make), dim, num_classes)
        check_loss(made, own.label(make), dim)
        return made
    sizes = {"dim": dim, "num_classes": num_classes}
    free = option_names(make, sizes)
    for key in options:
        if key not in free:
            listed = ", ".join(free) or "none"
            raise RecipeError(f"the {kind} {name!r} has no option {key!r}; it has: {listed}")
    for key in inspect.signature(make).parameters:  # a triplet loss needs no sizes
        if key in sizes:
            options[key] = sizes[key]
    return make(**options)


def make_own(kind: str, thing: Any, options: Mapping, **sizes: int) -> nn.Module:
    """A module from the reader's class or function; a copy of what is a module already.

    It is told the sizes (`num_classes`; of a head or loss `dim`, too) that it has parameters for;
    one that names none of them gets all in the order dim, num_classes, unless it is a loss, which
    needs none. A loss may be a plain function of embeddings and labels. Raises RecipeError when it
    fails, or makes no module.
    """
    if isinstance(thing, nn.Module):
        return copy.deepcopy(thing)
    name = own.label(thing)
    if not callable(thing):
        raise RecipeError(f"the {kind} {name} is no class, function or torch module")
    told = {key: size for key, size in sizes.items() if _takes(thing, key)}
    if kind == "loss" and inspect.isfunction(thing) and not told and not options:
        return FunctionLoss(thing)
    in_order = [] if told or kind == "loss" else list(sizes.values())
    try:
        made = thing(*in_order, **told, **options)
    except FacekitError:
        raise
    except Exception as error:
        asked = ", ".join([str(size) for size in in_order] + [f"{k}={v}" for k, v in told.items()])
        raise RecipeError(
            f"the {kind} {name} cannot be made by {name}({asked}): {type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, nn.Module):
        raise RecipeError(f"the {kind} {name} gives a {type(made).__name__}, not a torch module")
    return made


def _takes(thing: Callable, key: str) -> bool:
    """Whether a call may say key=...: torchvision's and timm's networks pass on what they are told.

    Not where a parameter without a name of ours has to be filled: Net(classes, **options).
    """
    parameters = _parameters(thing)
    if key in parameters:
        return True
    kinds = [p.kind for p in parameters.values()]
    must = [p for p in parameters.values() if p.default is p.empty and p.kind <= p.KEYWORD_ONLY]
    must = [p for p in must if p.kind != p.VAR_POSITIONAL]
    return key == "num_classes" and inspect.Parameter.VAR_KEYWORD in kinds and not must


def _parameters(thing: Callable) -> Mapping[str, inspect.Parameter]:
    """The parameters that a call of it has; none where that cannot be told."""
    try:
        return inspect.signature(thing).parameters
    except (TypeError, ValueError):
        return {}
