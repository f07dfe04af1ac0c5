"""A run: what is trained, on what, and how far it is. Built in notebook 04.

`loop` moves a run on, step by step; `state` writes it down and takes it up again.
"""

import math
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from facekit.common import machine, own
from facekit.common.errors import DataError, RecipeError
from facekit.common.keyed_random import random_numbers, seed_gpu, stream
from facekit.common.machine import Choice
from facekit.data import samplers
from facekit.data.layout import CourseData
from facekit.data.loader import Batch, Loader
from facekit.data.own_loader import OwnLoader
from facekit.data.pairs import PairData, Pairs
from facekit.data.pixels import CacheSettings
from facekit.evaluation import embed, verification
from facekit.evaluation.inference import sum_dtype
from facekit.models import losses
from facekit.models.build import build, settings_of
from facekit.models.fold import fold_batch_norm
from facekit.models.net import FaceNet
from facekit.models.own_net import OwnNet, looks_trained
from facekit.models.registered import own_parts
from facekit.models.summary import (
    MOST_PARAMETERS,
    check_limit,
    check_size,
    count_multiply_adds,
)
from facekit.training.distributed import ALONE, World
from facekit.training.history import HISTORY, ON_PAIRS, History, accuracy_of
from facekit.training.optim import EMA, build_optimizer
from facekit.training.recipe import Recipe
from facekit.training.schedules import lr_at

MAX_BAD_FRACTION = 0.01  # of the training images may be unreadable; more are no accident


@dataclass
class Progress:
    """How far a run is: all that a resumed run needs beside weights and optimiser."""

    epoch: int = 0  # whole epochs done
    step: int = 0  # steps done in the running epoch
    totals: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # of the running epoch
    rows: list[dict] = field(default_factory=list)
    best_accuracy: float = -1.0  # of the epochs, as `accuracy_of` has it
    best_epoch: int = 0
    untrained_loss: float = math.inf  # of the first batch: the level of chance
    margin_stage: bool = False
    micro_batches: int = 1  # of each batch, to fit into memory
    changes: list[str] = field(default_factory=list)  # of settings, on the way
    done: bool = False


class Run:
    """A network on its way through a recipe.

    Made in two steps: the constructor checks all that can be checked in a moment, `prepare`
    decodes the images.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: CourseData | PairData,
        out: Path,
        device: torch.device,
        world: World = ALONE,
        workers: int | None = None,
        images: OwnLoader | None = None,
    ) -> None:
        self.recipe = recipe
        self.data = data
        self._check_best_by()
        self.out = Path(out)
        self.identity = secrets.token_hex(8)  # its states and its best network bear it
        self.device = device
        self.world = world
        self.workers = workers  # threads that prepare batches; None: by the machine
        self.own_images = images  # the reader's own DataLoader or transform, in place of the kit's
        self.preprocess = recipe.preprocess()
        self.precision = machine.precision(device, recipe.precision)
        self.labels = list(data.train.labels)  # of the images that are trained on
        if images is not None:
            self.labels = images.labels.tolist()
            self._check_labels()
        self.steps = len(self.sampler(0))  # of an epoch
        if self.steps == 0:
            raise DataError(f"{data.train.folder}: {len(data.train)} images are too few to train")
        self.progress = Progress(micro_batches=recipe.micro_batches)
        self.totals = self._on_device(self.progress.totals)
        limit = data.term.max_parameters or MOST_PARAMETERS
        for head in (recipe.head, recipe.margin_head or recipe.head):
            check_size(recipe.network, head, len(data.classes), limit)
        self.build(recipe.head)
        check_limit(self.net, limit)
        # Once: a file that is edited while the run trains is not what the run was made of.
        self.own_objects = own.origins([recipe.as_dict(), settings_of(self.net)], own_parts())
        multiply_adds = count_multiply_adds(self.net, recipe.image_size)
        images_seen = len(data.train) * recipe.epochs
        self.compiling = machine.compiling(device, multiply_adds, images_seen, recipe.compile)

    def build(self, head: str | dict) -> None:
        """A fresh network with this head, its losses, and an optimiser over all of them."""
        recipe = self.recipe
        with random_numbers(recipe.seed, 0):
            objective = build_objective(recipe, len(self.data.classes), self.precision.value, head)
        self.objective = objective.to(self.device, memory_format=torch.channels_last)
        self.net: FaceNet | OwnNet = self.objective.network
        self._warn_of_pretrained()
        self.optimizer = build_optimizer(self.objective, recipe)
        self.ema = EMA(self.net, recipe.ema_decay) if recipe.ema_decay else None
        needs_scaling = self.precision.value == torch.float16  # its smallest numbers become 0
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=needs_scaling)
        self.forward = self.objective  # images, labels -> loss, logits; compiled by `compile`
        self.data_parallel: nn.Module | None = None  # `forward` of several processes
        self.fitting: set[tuple[int, int]] = set()  # batches, micro-batches that fit into memory
        self.compiled_eval: nn.Module | None = None

    def _warn_of_pretrained(self) -> None:
        if isinstance(self.net, OwnNet) and looks_trained(self.net.module):
            warnings.warn(
                f"the network {self.net.label} comes with trained weights, which the homework "
                "forbids: make it without (weights=None in torchvision, pretrained=False in timm)",
                stacklevel=2,
            )

    def compile(self) -> None:
        """From here on `forward` is compiled, where that pays.

        For each shape by itself: the short last batch of an epoch would make torch compile for
        all shapes at once, and that code is slower.
        """
        if self.compiling.value:
            self.forward = torch.compile(self.objective, dynamic=False)
            self.compiled_eval = torch.compile(self.eval_model, dynamic=False)

    # ------------------------------------------------------------------ the images

    def prepare(self, progress: bool = False) -> None:
        """Have the images decoded, by the first process for all, and the network compiled."""
        self.compiling = try_compiling(self.device, self.compiling)
        with self.world.main_first("decoding"):
            self._decode(progress)
        self.depthwise = machine.depthwise(self.device)
        self.others = machine.other_programs()
        torch.backends.cudnn.benchmark = True  # batches have few shapes: each is timed once
        if not self.depthwise.value:
            torch.backends.cudnn.enabled = False
        self.compile()

    def _decode(self, progress: bool) -> None:
        train = self.data.train
        dev = self.data.dev
        cache = machine.cache().value
        self.loader: Loader | OwnLoader = self.own_images or Loader(
            train.paths,
            train.labels,
            self.preprocess,
            self.device,
            augment=self.recipe.augment,
            seed=self.recipe.seed,
            workers=self.workers,
            cache=CacheSettings(cache, max_bad_fraction=MAX_BAD_FRACTION, progress=progress),
        )
        self._leave_out_bad_images()
        self.dev_loader = Loader(
            dev.paths,
            dev.labels,
            self.preprocess,
            self.device,
            workers=self.workers,
            cache=CacheSettings(cache, progress=progress),
        )
        if self.data.has_pairs:  # now: a bad image is told before the first epoch
            kept = CacheSettings(cache, progress=progress)
            Loader(self.data.pairs_dev.images, None, self.preprocess, self.device, cache=kept)

    def _check_best_by(self) -> None:
        if self.recipe.best_by == "eer" and not self.data.has_pairs:
            raise RecipeError(f"best_by = eer needs pairs of faces, and {self.data.root} has none")

    def _check_labels(self) -> None:
        """Raise DataError for a label of the reader's own images that is no class of the data."""
        wrong = sorted(set(self.labels) - set(range(len(self.data.classes))))
        if wrong:
            raise DataError(
                f"the loader's images have the label {wrong[0]}, and {self.data.train.folder} has "
                f"{len(self.data.classes)} classes: labels are 0 ... {len(self.data.classes) - 1}, "
                "in the order of the folders' names"
            )

    def _leave_out_bad_images(self) -> None:
        """Train on the images that can be read, and say which cannot: decided here, for good.

        Raises DataError for a class that would have none.
        """
        faults = list(self.loader.bad.values())
        if not faults:
            return
        self.labels = self.loader.labels.tolist()
        self.steps = len(self.sampler(0))
        lost = set(range(len(self.data.classes))).difference(self.labels)
        if lost:
            folder = self.data.train.folder / self.data.classes[min(lost)]
            raise DataError(
                f"{folder}: none of its images can be read; replace them, or remove the class from "
                "every split"
            )
        if self.world.is_main:
            tqdm.write(
                f"{faults[0]}; {len(faults)} of {len(self.data.train)} training images cannot be "
                "read and are left out; environment.json names them"
            )

    def sampler(self, epoch: int, skip: int = 0) -> samplers.EpochSampler | samplers.PKSampler:
        """The batches of an epoch after the first `skip`, shuffled or by classes."""
        recipe = self.recipe
        each = recipe.images_per_class
        if each:
            classes = recipe.batch_size // each
            return samplers.PKSampler(self.labels, classes, each, recipe.seed, epoch, skip)
        fewest = 2 * self.world.size
        return samplers.EpochSampler(
            len(self.labels), recipe.batch_size, recipe.seed, epoch, skip, fewest
        )

    def batches(self) -> Iterator[tuple[Batch, int]]:
        """This process's part of the rest of the epoch's batches, and the size of the whole."""
        begun = [0.0, 0.0, 0.0]
        if self.world.is_main:  # the sums of all processes from before an interruption
            begun = self.progress.totals
        self.totals = self._on_device(begun)
        whole = list(self.sampler(self.progress.epoch, self.progress.step))
        mine = [self.world.part_of(keys) for keys in whole]
        self.loader.augment = self.recipe.augment
        for batch, keys in zip(self.loader.batches(mine), whole, strict=True):
            yield batch, len(keys)

    def dev_batches(self) -> Iterator[Batch]:
        """This process's part of the dev images, each image once among all processes."""
        mine = self.world.share(range(len(self.data.dev)))
        size = 2 * self.recipe.batch_size
        return self.dev_loader.batches(
            [(0, index) for index in mine[start : start + size]]
            for start in range(0, len(mine), size)
        )

    # ------------------------------------------------------------------ how far it is

    @property
    def step(self) -> int:
        """Steps done, over the whole run."""
        return self.progress.epoch * self.steps + self.progress.step

    def lr_at(self, step: int) -> float:
        """The learning rate of a step of the running epoch, counted over the whole run."""
        dev_accuracies = [row["dev_accuracy"] for row in self.progress.rows]
        return lr_at(self.recipe, step, self.steps, dev_accuracies)

    def judge_pairs(self) -> dict[str, float]:
        """EER and AUC of the dev pairs, the same in all processes; nothing where there are none."""
        if not self.data.has_pairs:
            return {}
        return self.world.from_main(lambda: dev_figures(self, self.data.pairs_dev))

    def history(self, stopped: str = "") -> History:
        """What the epochs gave so far."""
        return History(self.progress.rows, stopped, self.recipe.best_by)

    def end_epoch(self, dev_loss: float, dev_accuracy: float, **on_pairs: float) -> dict:
        """Count the epoch as done, and note whether it was the best and the last; its row."""
        progress = self.progress
        lr = self.lr_at(progress.epoch * self.steps)  # of the epoch's first step
        loss_sum, correct, count = progress.totals
        progress.epoch += 1
        progress.step = 0
        progress.totals = [0.0, 0.0, 0.0]
        values = (progress.epoch, lr, loss_sum / count, correct / count, dev_loss, dev_accuracy)
        row = dict(zip(HISTORY, values, strict=True)) | on_pairs
        progress.rows.append(row)
        accuracy = accuracy_of(row, self.recipe.best_by)
        if accuracy > progress.best_accuracy:
            progress.best_accuracy = accuracy
            progress.best_epoch = progress.epoch
        waited = progress.epoch - progress.best_epoch
        patience = self.recipe.patience
        progress.done = progress.epoch == self.recipe.epochs or 0 < patience <= waited
        return row

    def _on_device(self, totals: list[float]) -> torch.Tensor:
        """Sum of losses, right answers, images (3,) of the running epoch."""
        return torch.tensor(totals, dtype=sum_dtype(self.device), device=self.device)

    # ------------------------------------------------------------------ what was chosen

    @property
    def eval_model(self) -> FaceNet | OwnNet:
        """The network that is evaluated and kept: the running average, where there is one."""
        return self.ema.module if self.ema else self.net

    def eval_forward(self) -> nn.Module:
        """That network in evaluation mode, compiled, or else with batch norm folded away."""
        if self.compiled_eval is None:
            return fold_batch_norm(self.eval_model)
        self.eval_model.eval()
        return self.compiled_eval

    @property
    def choices(self) -> dict[str, Choice]:
        """What was chosen for this machine, each with its reason."""
        found = {"device": machine.device(str(self.device)), "precision": self.precision}
        found["compile"] = self.compiling
        if hasattr(self, "loader"):
            found["images"] = self.loader.storage
            if self.device.type == "cuda":
                found["depthwise by cuDNN"] = self.depthwise
            if self.others.reason:
                found["other programs"] = self.others
        if self.world.size > 1:
            found["processes"] = Choice(self.world.size, "started by torchrun")
        return found

    @property
    def precision_name(self) -> str:
        """Such as "bfloat16"."""
        return str(self.precision.value).removeprefix("torch.")


def try_compiling(device: torch.device, wanted: Choice) -> Choice:
    """`wanted`, or that it cannot be done: no compiler, or one that fails, shows here in seconds.

    Raises RecipeError where the recipe asks for it.
    """
    if not wanted.value:
        return wanted
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:  # torch's own kinds, which have changed
        lines = [line for line in str(error).splitlines() if line and "raised:" not in line]
        reason = (lines or [type(error).__name__])[0]
        if wanted.reason == "asked for":
            raise RecipeError(
                f"compile=yes cannot be done here: {reason}; set compile=no, or install a compiler"
            ) from error
        return Choice(False, f"{wanted.reason}, but {reason}")
    return wanted


def dev_figures(run: Run, pairs: Pairs) -> dict[str, float]:
    """The figures of ON_PAIRS: the pairs as the network that is evaluated and kept sees them."""
    trained = embed.TrainedRun(
        folder=run.out,
        net=run.eval_model,
        preprocess=run.preprocess,
        classes=run.data.classes,
        data=run.data.root,
        term=run.data.term.name,
        device=run.device,
        precision=run.precision.value,
    )
    scores, same = embed.pair_scores(trained, pairs), np.array(pairs.same)
    figures = verification.eer(scores, same)[0], verification.auc(scores, same)
    return dict(zip(ON_PAIRS, figures, strict=True))


def build_objective(
    recipe: Recipe, classes: int, precision: torch.dtype, head: str | dict | None = None
) -> losses.Objective:
    """The recipe's network, with this head or the recipe's, and what it is trained on."""
    head = recipe.head if head is None else head
    network = build(recipe.network, classes, head, recipe.image_size)
    auxiliary_loss = None
    if recipe.auxiliary_loss:
        auxiliary_loss = losses.build(recipe.auxiliary_loss, network.dim, classes)
    return losses.Objective(
        network, auxiliary_loss, recipe.auxiliary_weight, recipe.label_smoothing, precision
    )


@contextmanager
def keyed_dropout(run: Run, part: int) -> Iterator[None]:
    """Inside, dropout depends on the run's seed, the step and the part of the batch alone."""
    number = run.world.rank * run.progress.micro_batches + part
    key = (run.recipe.seed, run.step, -1 - number)
    seed_gpu(run.device, stream(*key))
    with random_numbers(*key):
        yield
