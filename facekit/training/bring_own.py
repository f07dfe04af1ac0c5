"""The reader's own network, head, loss, transform and images on their way into a run.

Built in notebook 04.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader

from facekit.common import own
from facekit.common.errors import RecipeError
from facekit.data.layout import CourseData
from facekit.data.own_loader import OwnLoader
from facekit.models.specs import NetworkSpec, spec_as_dict
from facekit.training.callbacks import Callback
from facekit.training.recipe import Recipe


def into_recipe(
    recipe: Recipe, network: Any, head: Any, auxiliary_loss: Any, loader: DataLoader | None
) -> Recipe:
    """The recipe with what stands in for parts of it, the reader's own by the names of own.py."""
    if isinstance(network, NetworkSpec):
        network = spec_as_dict(network)
    given = {"network": network, "head": head, "auxiliary_loss": auxiliary_loss}
    for key in given:
        if given[key] is None:
            given[key] = getattr(recipe, key)
    given["margin_head"] = recipe.margin_head
    changes = {key: own.settle(value, key.replace("_", " ")) for key, value in given.items()}
    if getattr(loader, "batch_size", None):
        changes["batch_size"] = loader.batch_size
    return replace(recipe, **changes)


def images_of(
    recipe: Recipe,
    data: CourseData,
    device: torch.device,
    transform: Callable | str | None,
    loader: DataLoader | None,
    workers: int | None,
) -> OwnLoader | None:
    """The reader's own training images, or own way to change the course's."""
    preprocess = recipe.preprocess()
    if loader is not None:
        if transform is not None:
            raise RecipeError("give a transform or a loader; a loader's data set has its own")
        return OwnLoader.from_dataloader(loader, preprocess, device, recipe.seed)
    if transform is None:
        return None
    if isinstance(transform, str):
        transform = own.get(transform)
    return OwnLoader.from_transform(data.train, transform, preprocess, device, recipe.seed, workers)


def check_callbacks(callbacks: Sequence[Any]) -> None:
    """Raise RecipeError for one that is not of a class of Callback."""
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise RecipeError(
                f"the callback {callback!r} is no object of a class of facekit.training.Callback"
            )
