"""A network of the reader's own in the place of the kit's. Built in notebook 03.

Any module that gives logits (B, C) for images (B, 3, H, W) will do, also by a dictionary with "out"
and, if it likes, "feats". The embedding for verification is what its method `embed` gives, else
"feats", else what its last linear layer gets, else the logits.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from facekit.common.errors import FacekitError, RecipeError
from facekit.common.keyed_random import random_numbers
from facekit.models import heads

TRIAL = 2  # images that a new network is tried with


class Logits(nn.Module):
    """In the place of a head for a network that classifies by itself: logits as they are."""

    similarity = "cosine"

    def forward(self, logits: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        return logits

    def penalty(self, embedding: torch.Tensor | None, labels: torch.Tensor) -> torch.Tensor:
        return torch.zeros((), device=labels.device)


class OwnNet(nn.Module):
    """The reader's module, with a head of the kit or of the reader's own on it where one is asked.

    It is tried with a few images as soon as it is made. Raises RecipeError when that fails, when
    it gives something else than (B, num_classes), or an embedding that is not (B, D).
    """

    def __init__(
        self, module: nn.Module, name: str, num_classes: int, size: int, head: str | Mapping = ""
    ) -> None:
        super().__init__()
        self.module = module.cpu()  # until the run knows where it is trained
        self.name = name  # in a recipe, such as mine.py:Net
        self.num_classes = num_classes
        self.last_linear = ""  # its name in the module, where there is one
        self.caught: torch.Tensor | None = None  # what it got in the running call
        self.embeds_by = "logits"  # or "embed", "feats", "last linear layer"
        self.dim = self._try(size).shape[1]  # the embedding's length, D
        self.head_settings = head
        self.head: nn.Module = Logits()
        if head:
            self._drop_classifier()
            self.head = heads.build(head, self.dim, num_classes)

    @property
    def label(self) -> str:
        """What the reader calls it."""
        return self.name.rpartition(":")[2]

    def features(self, images: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        """The embedding (B, D), and what the head makes logits of: the same, or the logits.

        The embedding is None where it would take a second pass; `embed` gives it then.
        """
        if isinstance(self.head, Logits):
            output = self.module(images)
            return self._caught(output), logits_of(output)
        embedding = self.embed(images)
        return embedding, embedding

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) -> embeddings (B, D)."""
        if self.embeds_by == "embed":
            return self.module.embed(images)
        return self._caught(self.module(images))

    def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Images (B, 3, H, W) -> logits (B, num_classes), with the labels' margin if given."""
        return self.head(self.features(images)[1], labels)

    # ------------------------------------------------------------------ the first try

    def _try(self, size: int) -> torch.Tensor:
        """Find out what the module gives for images of size x size: the embedding."""
        trial = copy.deepcopy(self.module)  # batch norm's statistics stay as they are
        with random_numbers(0), torch.no_grad():
            images = torch.rand(TRIAL, 3, size, size)
            self._check_logits(self._call(trial.train(), images))
            called: list[tuple[str, torch.Tensor]] = []  # linear layers, and what each got
            for name, layer in trial.named_modules():
                if isinstance(layer, nn.Linear):
                    layer.register_forward_pre_hook(
                        lambda _, got, name=name: called.append((name, got[0]))
                    )
            output = self._call(trial.eval(), images)
            self._check_logits(output)
            self.last_linear, got = called[-1] if called else ("", None)
            embedding = self._find_embedding(trial, images, output, got)
        comes_by = self.embeds_by in ("embed", "last linear layer")
        if comes_by and got is not None and torch.equal(got, embedding):
            self.module.get_submodule(self.last_linear).register_forward_pre_hook(self._note)
        return embedding

    def _call(self, module: nn.Module, images: torch.Tensor) -> Any:
        try:
            return module(images)
        except FacekitError:
            raise
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0]
            raise RecipeError(
                f"the network {self.label} fails for images {tuple(images.shape)}: "
                f"{type(error).__name__}: {reason}"
            ) from error

    def _check_logits(self, output: Any) -> None:
        logits = logits_of(output)
        if not isinstance(logits, torch.Tensor):
            raise RecipeError(
                f"the network {self.label} gives a {type(output).__name__}; give logits (B, C), or "
                'a dictionary with "out" and, for verification, "feats"'
            )
        wanted = (TRIAL, self.num_classes)
        if tuple(logits.shape) != wanted:
            raise RecipeError(
                f"the network {self.label} gives logits {tuple(logits.shape)} for {TRIAL} images "
                f"of {self.num_classes} classes; they must be {wanted}"
            )
        if not torch.isfinite(logits).all():
            raise RecipeError(f"the network {self.label} gives NaN or infinite logits, untrained")

    def _find_embedding(
        self, trial: nn.Module, images: torch.Tensor, output: Any, got: torch.Tensor | None
    ) -> torch.Tensor:
        """The embedding (B, D) of the images; `embeds_by` says where it comes from."""
        if callable(getattr(trial, "embed", None)):
            self.embeds_by = "embed"
            embedding = trial.embed(images)
        elif isinstance(output, Mapping) and "feats" in output:
            self.embeds_by = "feats"
            embedding = output["feats"]
        elif got is not None:
            self.embeds_by = "last linear layer"
            embedding = got
        else:
            embedding = logits_of(output)
        shape = tuple(getattr(embedding, "shape", ()))
        if len(shape) != 2 or shape[0] != len(images):
            raise RecipeError(
                f"the network {self.label} gives embeddings {shape} ({self.embeds_by}) for "
                f"{len(images)} images; they must be (B, D), one row for each image"
            )
        return embedding

    # ------------------------------------------------------------------ what passes by

    def _note(self, layer: nn.Module, arguments: tuple) -> None:
        """Keep what the last linear layer gets."""
        self.caught = arguments[0]

    def _caught(self, output: Any) -> torch.Tensor | None:
        """The embedding that came by with the module's output; None where it takes a pass."""
        if self.embeds_by == "feats":
            return output["feats"]
        if self.embeds_by == "logits":
            return logits_of(output)
        caught = self.caught
        self.caught = None  # nobody else's, and a copy of this network could not hold it
        return caught

    def _drop_classifier(self) -> None:
        """Leave out the module's own last layer, which another head stands in for."""
        layer = self.module.get_submodule(self.last_linear) if self.last_linear else None
        if not isinstance(layer, nn.Linear) or layer.out_features != self.num_classes:
            return
        parent, _, child = self.last_linear.rpartition(".")
        empty = nn.Identity()
        if self.embeds_by == "last linear layer":
            empty.register_forward_pre_hook(self._note)
        setattr(self.module.get_submodule(parent), child, empty)


def logits_of(output: Any) -> Any:
    """The logits in what a network gives: all of it, or a dictionary's "out"."""
    return output["out"] if isinstance(output, Mapping) and "out" in output else output


def looks_trained(module: nn.Module) -> bool:
    """Whether a network has learned before: a fresh norm scales all channels alike."""
    for layer in module.modules():
        weight = getattr(layer, "weight", None)
        is_norm = isinstance(weight, nn.Parameter) and weight.ndim == 1
        if is_norm and len(weight) > 1 and bool((weight != weight[0]).any()):
            return True
    return False
