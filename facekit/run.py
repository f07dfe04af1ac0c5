"""A run: what is trained, on what, how far it is, and the folder it lives in.

Built in notebook 04. `train` moves a run on, step by step; this file knows how to begin one, how
to write it down, and how to take it up again.
"""

import dataclasses
import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm.auto import tqdm

from facekit import checkpoint, distributed, heads, losses, networks, order, runtime
from facekit.anatomy import check_limit, count_multiply_adds
from facekit.augment import NOTHING, Preprocess
from facekit.checkpoint import Checkpoints
from facekit.distributed import ALONE, World
from facekit.errors import DataError, RunError
from facekit.feed import Batch, Loader
from facekit.keyed_random import random_numbers
from facekit.layout import CourseData
from facekit.optim import Average, build_optimizer, rate
from facekit.pixels import CacheSettings
from facekit.recipes import Recipe
from facekit.runtime import Choice
from facekit.tables import write_table, write_whole
from facekit.tracking import environment
from facekit.watch import check_loss

HISTORY = ["epoch", "learning_rate", "train_loss", "train_accuracy", "dev_loss", "dev_accuracy"]
SPARED = 0.01  # of the training images may be unreadable; more are no accident
CHANGEABLE = ("learning_rate", "clip_norm", "patience", "parts", "watch")  # while a run goes on


@dataclass
class Progress:
    """How far a run is: all that a resumed run needs beside weights and optimiser."""

    epoch: int = 0  # whole epochs done
    step: int = 0  # steps done in the running epoch
    totals: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # of the running epoch
    rows: list[dict] = field(default_factory=list)
    best_accuracy: float = -1.0
    best_epoch: int = 0
    untrained_loss: float = math.inf  # of the first batch: the level of chance
    margin_stage: bool = False
    parts: int = 1  # of each batch, to fit into memory
    changes: list[str] = field(default_factory=list)  # of settings, on the way
    done: bool = False


class Run:
    """A network on its way through a recipe, with its folder."""

    def __init__(
        self,
        recipe: Recipe,
        data: CourseData,
        out: Path,
        device: torch.device,
        world: World = ALONE,
        workers: int | None = None,
    ) -> None:
        self.recipe, self.data, self.out, self.device = recipe, data, Path(out), device
        self.world, self.workers = world, workers
        self.preprocess = Preprocess(recipe.image_size)
        self.precision = runtime.precision(device, recipe.precision)
        self.labels = list(data.train.labels)  # of the images that are trained on
        self.steps = len(self.order(0))
        if not self.steps:
            raise DataError(f"{data.train.folder}: {len(data.train)} images are too few to train")
        self.progress = Progress(parts=recipe.parts)
        self.build(recipe.head)
        check_limit(self.net, data.term.max_parameters)
        self.compiling = self._compiling()

    def build(self, head: str | dict) -> None:
        """A fresh network with this head, its losses, and an optimiser over all of them."""
        recipe = self.recipe
        with random_numbers(recipe.seed, 0):
            objective = build_objective(recipe, len(self.data.classes), self.precision.value, head)
        self.objective = objective.to(self.device, memory_format=torch.channels_last)
        self.net = self.objective.network
        if recipe.sync_batch_norm and self.world.size > 1 and self.device.type == "cuda":
            torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.net)
        self.optimizer = build_optimizer(self.objective, recipe)
        self.average = Average(self.net, recipe.average) if recipe.average else None
        scaled = self.precision.value == torch.float16  # its smallest numbers would become 0
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        self.forward = self.objective

    def _compiling(self) -> Choice:
        recipe = self.recipe
        pictures = len(self.data.train) * recipe.epochs
        work = count_multiply_adds(self.net, recipe.image_size)
        return runtime.compiling(self.device, work, pictures, recipe.compile)

    def prepare(self, progress: bool = False) -> None:
        """Have the pictures at hand, decoded; the first process does it for all."""
        if not self.world.first:
            self.world.wait()
        recipe, keys = self.recipe, {"workers": self.workers}
        train, dev = self.data.train, self.data.dev
        cache = CacheSettings(runtime.cache().value, progress=progress)
        at = self.preprocess, self.device
        own = {"augment": recipe.augment, "seed": recipe.seed}
        own["cache"] = dataclasses.replace(cache, max_bad_fraction=SPARED)
        self.feed = Loader(train.paths, train.labels, *at, **own, **keys)
        self._leave_out_bad()
        self.dev_feed = Loader(dev.paths, dev.labels, *at, cache=cache, **keys)
        if self.world.first:
            self.world.wait()
        self.depthwise = runtime.depthwise(self.device)
        if not self.depthwise.value:
            torch.backends.cudnn.enabled = False
        if self.compiling.value:
            self.forward = torch.compile(self.objective)

    def _leave_out_bad(self) -> None:
        """Train on the images that can be read, and say which cannot: decided here, for good.

        Raises DataError for a class that would have none.
        """
        faults = list(self.feed.bad.values())
        if not faults:
            return
        self.labels = self.feed.labels.tolist()
        self.steps = len(self.order(0))
        lost = set(range(len(self.data.classes))).difference(self.labels)
        if lost:
            folder = self.data.train.folder / self.data.classes[min(lost)]
            raise DataError(
                f"{folder}: none of its images can be read; replace them, or remove the class from "
                "every split"
            )
        if self.world.first:
            tqdm.write(
                f"{faults[0]}; {len(faults)} of {len(self.data.train)} training images cannot be "
                "read and are left out; environment.json names them"
            )

    @property
    def judged(self) -> networks.FaceNet:
        """The network that is evaluated and kept: the running average, where there is one."""
        return self.average.module if self.average else self.net

    @property
    def choices(self) -> dict[str, Choice]:
        """What was chosen for this machine, each with its reason."""
        found = {"device": runtime.device(str(self.device)), "precision": self.precision}
        found["compile"] = self.compiling
        if hasattr(self, "feed"):
            found["pictures"] = self.feed.storage
            if self.device.type == "cuda":
                found["depthwise by cuDNN"] = self.depthwise
        if self.world.size > 1:
            found["processes"] = Choice(self.world.size, "started by torchrun")
        return found

    # ------------------------------------------------------------------ the pictures

    def order(self, epoch: int, skip: int = 0) -> order.EpochSampler | order.PKSampler:
        """The batches of an epoch after the first `skip`, shuffled or by classes."""
        recipe, key = self.recipe, (self.recipe.seed, epoch, skip)
        each = recipe.images_per_class
        if each:
            return order.PKSampler(self.labels, recipe.batch_size // each, each, *key)
        return order.EpochSampler(len(self.labels), recipe.batch_size, *key)

    def batches(self) -> Iterator[tuple[Batch, int]]:
        """This process's part of the rest of the epoch's batches, and the size of the whole."""
        whole = list(self.order(self.progress.epoch, self.progress.step))
        mine = [keys[distributed.parts(len(keys), self.world.size)[self.world.rank]]
                for keys in whole]  # fmt: skip
        self.feed.augment = self.augment_now
        for batch, keys in zip(self.feed.batches(mine), whole, strict=True):
            yield batch, len(keys)

    def dev_batches(self) -> Iterator[Batch]:
        """This process's part of the dev images, each image once among all processes."""
        mine, size = self.world.share(range(len(self.data.dev))), 2 * self.recipe.batch_size
        cuts = range(0, len(mine), size)
        return self.dev_feed.batches([(0, index) for index in mine[cut : cut + size]]
                                     for cut in cuts)  # fmt: skip

    @property
    def augment_now(self):
        """The augmentation of this epoch: in the last `clean_epochs` the flip alone."""
        augment = self.recipe.augment
        if self.progress.epoch < self.recipe.epochs - self.recipe.clean_epochs:
            return augment
        return dataclasses.replace(NOTHING, flip=augment.flip)

    @property
    def size_now(self) -> int:
        """The pictures' side in this epoch: small ones first, where the recipe says so."""
        recipe = self.recipe
        return recipe.small_size if self.progress.epoch < recipe.small_epochs else recipe.image_size

    @property
    def step(self) -> int:
        """Steps done, over the whole run."""
        return self.progress.epoch * self.steps + self.progress.step

    def rate_at(self, step: int) -> float:
        """The learning rate of a step of the running epoch, counted over the whole run."""
        judged = [row["dev_accuracy"] for row in self.progress.rows]
        return rate(self.recipe, step, self.steps, judged)

    # ------------------------------------------------------------------ the two stages

    @property
    def margin_is_due(self) -> bool:
        """Whether the recipe's last epochs, with another head, begin now."""
        recipe, state = self.recipe, self.progress
        due = state.epoch >= recipe.epochs - recipe.margin_epochs
        return bool(recipe.margin_head) and due and not state.margin_stage

    def begin_margin_stage(self) -> None:
        """Put the margin head on the trained network, its class vectors at the class means.

        From there it needs no long climb, on which margins so often get lost. The optimiser
        starts afresh, and so does the search for the best epoch: the heads are not to be compared.
        """
        means, trained = self._class_means(), self.net.state_dict()
        self.build(self.recipe.margin_head)
        kept = {key: value for key, value in trained.items() if not key.startswith("head.")}
        self.net.load_state_dict(kept, strict=False)
        self.net.head.start_from_means(means)
        if self.average:
            self.average = Average(self.net, self.recipe.average)
        self.progress.margin_stage = True
        self.progress.best_accuracy, self.progress.untrained_loss = -1.0, math.inf
        if self.compiling.value:
            self.forward = torch.compile(self.objective)

    @torch.inference_mode()
    def _class_means(self) -> torch.Tensor:
        """The mean embedding, of length 1, of each class: (C, D)."""
        self.net.eval()
        self.feed.augment = NOTHING
        size, count = 2 * self.recipe.batch_size, len(self.labels)
        keys = ([(0, i) for i in range(cut, min(cut + size, count))]
                for cut in range(0, count, size))  # fmt: skip
        found = [(self.net.embed(b.images).float(), b.labels) for b in self.feed.batches(keys)]
        embeddings, labels = (torch.cat(part) for part in zip(*found, strict=True))
        unit = torch.nn.functional.normalize(embeddings)
        return heads.class_means(unit, labels, len(self.data.classes))

    # ------------------------------------------------------------------ the folder

    def state(self) -> dict:
        """All of the run in tensors and plain types."""
        return self.outline() | {
            "net": self.net.state_dict(),
            "extra": self.objective.extra.state_dict() if self.objective.extra else {},
            "average": self.average.state_dict() if self.average else {},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "content": self.content,
            "machine": self.machine,
        }

    def outline(self) -> dict:
        """What whoever uses the network has to know about it."""
        return {
            "format": checkpoint.FORMAT,
            "recipe": self.recipe.as_dict(),
            "spec": networks.spec_as_dict(self.net.spec),
            "preprocess": self.preprocess.as_dict(),
            "classes": list(self.data.classes),
            "data": str(self.data.root.resolve()),
            "term": self.data.term.name,
            "progress": dataclasses.asdict(self.progress),
        }

    @property
    def content(self) -> dict[str, str]:
        """Hashes of the pictures."""
        return {"train": self.feed.content, "dev": self.dev_feed.content}

    @property
    def machine(self) -> dict[str, str | int]:
        """What the last digits of every number depend on."""
        return {
            "torch": str(torch.__version__),
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "processes": self.world.size,
            "precision": str(self.precision.value),
            "compiled": self.compiling.value,
        }

    def save(self, checkpoints: Checkpoints, best: bool = False) -> None:
        """Write the run down; the first process does it for all. RunError for NaN in it."""
        if not self.world.first:
            return
        self._check_weights()
        rows = [[row[key] for key in HISTORY] for row in self.progress.rows]
        with suppress(OSError):  # no room; the rows are in the state, too, which says so
            write_table(self.out / "history.csv", HISTORY, rows)
        kept = self.outline() | {"net": self.judged.state_dict()} if best else None
        checkpoints.save(self.step, self.state(), kept)  # last: a run that is done is not touched

    def _check_weights(self) -> None:
        """A network that holds NaN must not replace one that does not."""
        total = sum(p.detach().abs().max() for p in self.net.parameters())
        check_loss(float(total * 0), self.step, self.rate_at(self.step), self.precision_name)

    @property
    def precision_name(self) -> str:
        return str(self.precision.value).removeprefix("torch.")

    def describe(self) -> None:
        """Write down what was asked for and what was found: the run can be repeated from it."""
        if not self.world.first:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        recipe = json.dumps(self.recipe.as_dict(), indent=1)
        write_whole(self.out / "recipe.json", recipe.encode())
        found = environment(self.device, self.choices) | {"data": self.content}
        found["left out"] = list(self.feed.bad.values())
        write_whole(self.out / "environment.json", json.dumps(found, indent=1).encode())

    def resume(self, saved: dict) -> None:
        """Take up the run where it was saved; RunError when it was another."""
        self._check_same(saved)
        self.progress = Progress(**saved["progress"])
        self._note_changes(saved)
        if self.progress.margin_stage:
            self.build(self.recipe.margin_head)
        self.net.load_state_dict(saved["net"])
        if self.objective.extra:
            self.objective.extra.load_state_dict(saved["extra"])
        if self.average:
            self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])

    def _check_same(self, saved: dict) -> None:
        """Raise RunError, with both values, when network, settings, classes or data differ."""
        mine, free = self.recipe.as_dict(), CHANGEABLE
        if saved["progress"]["done"]:
            free = ()
        now = {key: value for key, value in mine.items() if key not in free}
        then = {key: value for key, value in saved["recipe"].items() if key not in free}
        for was, is_ in ((then, now), (saved["classes"], list(self.data.classes))):
            if was != is_:
                raise RunError(
                    f"{self.out}: this run has {_difference(was, is_)}; "
                    "choose another folder for the new one"
                )

    def check_content(self, saved: dict) -> None:
        """Raise RunError when the pictures are not those of the run's first part."""
        for split, mine in self.content.items():
            if saved["content"][split] != mine:
                bad = next(iter(self.feed.bad.values()), "") if split == "train" else ""
                raise RunError(
                    f"{self.out}: the {split} images have changed since this run began (they were "
                    f"{saved['content'][split][:12]}, now {mine[:12]}); choose another folder, or "
                    f"bring the old images back{bad and f' ({bad})'}"
                )

    def _note_changes(self, saved: dict) -> None:
        """Keep in mind which settings and which parts of the machine are new from here on."""
        pairs = [(k, saved["recipe"][k], getattr(self.recipe, k)) for k in CHANGEABLE]
        pairs += [(k, saved["machine"].get(k), v) for k, v in self.machine.items()]
        for key, was, is_ in pairs:
            if was != is_:
                self.progress.changes.append(f"from step {self.step} on: {key} {is_}, before {was}")
        if self.recipe.parts != saved["recipe"]["parts"]:
            self.progress.parts = self.recipe.parts


def _difference(saved: dict | list, mine: dict | list) -> str:
    if isinstance(saved, list):
        return f"{len(saved)} classes, and the data has {len(mine)} of other names"
    # Another version of the kit may know other settings.
    key = next(key for key in mine | saved if saved.get(key) != mine.get(key))
    return f"{key} = {saved.get(key)}, and the recipe says {mine.get(key)}"


def build_objective(
    recipe: Recipe, classes: int, precision: torch.dtype, head: str | dict | None = None
) -> losses.Objective:
    """The recipe's network, with this head or the recipe's, and what it is trained on."""
    spec = networks.as_spec(recipe.network)
    head = recipe.head if head is None else head
    if head:
        spec = dataclasses.replace(spec, head=head)
    net, extra = networks.build(spec, classes), None
    if recipe.extra_loss:
        extra = losses.build(recipe.extra_loss, net.dim, classes)
    return losses.Objective(net, extra, recipe.extra_weight, recipe.label_smoothing, precision)
