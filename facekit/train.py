"""The training loop: kill it anywhere, call it again, get the same run. Built in notebook 04."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from facekit import checkpoint, losses, networks, recipes, runtime
from facekit.augment import Preprocess
from facekit.errors import DataError, RunError
from facekit.images import (
    ClassSampler,
    EpochSampler,
    FaceFolder,
    TrainingFolder,
    check_readable,
    random_numbers,
)
from facekit.layout import CourseData
from facekit.optim import build_optimizer, learning_rate, set_learning_rate
from facekit.recipes import Recipe
from facekit.tables import write_table, write_whole

HISTORY = ["epoch", "learning_rate", "train_loss", "train_accuracy", "dev_loss", "dev_accuracy"]


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop, did so between two steps, and saved its state first."""


@dataclass
class History:
    """What each epoch gave, one row an epoch with the columns of HISTORY."""

    rows: list[dict] = field(default_factory=list)

    @property
    def best(self) -> dict:
        """The first epoch with the highest dev accuracy."""
        return max(self.rows, key=lambda row: row["dev_accuracy"])

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows, columns=HISTORY)


@dataclass
class Progress:
    """How far a run is: all that a resumed run needs beside the network and the optimiser."""

    epoch: int = 0  # whole epochs done
    step: int = 0  # steps done in the running epoch
    totals: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # of the running epoch
    rows: list[dict] = field(default_factory=list)
    best_accuracy: float = -1.0
    best_epoch: int = 0
    done: bool = False


class Run:
    """A network on its way through a recipe, with its folder."""

    def __init__(self, recipe: Recipe, data: CourseData, out: Path, device: torch.device) -> None:
        self.recipe, self.data, self.out, self.device = recipe, data, out, device
        self.preprocess = Preprocess(recipe.image_size)
        with random_numbers(recipe.seed, 0):
            objective = build_objective(recipe, len(data.classes), device)
        networks.check_limit(objective.network, data.term.max_parameters)
        self.objective = objective.to(device, memory_format=torch.channels_last)
        self.net = self.objective.network
        self.optimizer = build_optimizer(self.objective, recipe)
        self.steps = len(epoch_sampler(recipe, data, 0))
        if not self.steps:
            raise DataError(f"{data.train.folder}: {len(data.train)} images are too few to train")
        self.progress = Progress()

    def learning_rate(self, step: int) -> float:
        """The rate of a step, counted over the whole run."""
        recipe = self.recipe
        warmup = round(recipe.warmup_epochs * self.steps)
        return learning_rate(step, recipe.epochs * self.steps, warmup, recipe.learning_rate)

    def state(self) -> dict:
        return {
            "format": checkpoint.FORMAT,
            "recipe": self.recipe.as_dict(),
            "spec": networks.spec_as_dict(self.net.spec),
            "preprocess": self.preprocess.as_dict(),
            "classes": self.data.classes,
            "data": str(self.data.root.resolve()),
            "term": self.data.term.name,
            "net": self.net.state_dict(),
            "extra": self.extra_state(),
            "optimizer": self.optimizer.state_dict(),
            "progress": dataclasses.asdict(self.progress),
        }

    def extra_state(self) -> dict:
        """What the extra loss remembers, such as class centres; nothing, where there is none."""
        return self.objective.extra.state_dict() if self.objective.extra else {}

    def save(self, *names: str) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        rows = [[row[key] for key in HISTORY] for row in self.progress.rows]
        write_table(self.out / "history.csv", HISTORY, rows)
        write_whole(self.out / "recipe.json", json.dumps(self.recipe.as_dict(), indent=1).encode())
        for name in names:  # last: a run that is done is never written again
            checkpoint.save(self.out / name, self.state())

    def resume(self) -> None:
        """Take up the run where its folder left it; RunError when it was made for another."""
        saved = checkpoint.load_run(self.out / "last.pt")
        for what, mine in (("recipe", self.recipe.as_dict()), ("classes", self.data.classes)):
            if saved[what] != mine:
                raise RunError(
                    f"{self.out}: this run has {_difference(what, saved[what], mine)}; "
                    "choose another folder for the new one"
                )
        self.net.load_state_dict(saved["net"])
        if self.objective.extra:
            self.objective.extra.load_state_dict(saved["extra"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.progress = Progress(**saved["progress"])


def _difference(what: str, saved: dict | list, mine: dict | list) -> str:
    if isinstance(saved, list):
        return f"{len(saved)} classes, and the data has {len(mine)} of other names"
    # Another version of the kit may know other settings.
    key = next(key for key in mine | saved if saved.get(key) != mine.get(key))
    return f"{key} = {saved.get(key)}, and the recipe says {mine.get(key)}"


def build_objective(recipe: Recipe, classes: int, device: torch.device) -> losses.Objective:
    """The recipe's network, with its head, and what it is trained on."""
    spec = networks.as_spec(recipe.network)
    if recipe.head:
        spec = dataclasses.replace(spec, head=recipe.head)
    net, extra = networks.build(spec, classes), None
    if recipe.extra_loss:
        extra = losses.build(recipe.extra_loss, net.dim, classes)
    precision = runtime.dtype(device).value
    return losses.Objective(net, extra, recipe.extra_weight, recipe.label_smoothing, precision)


def fit(
    recipe: str | Path | Recipe,
    data: CourseData | str | Path,
    out: str | Path,
    device: str | None = None,
    progress: bool = True,
) -> History:
    """Train a recipe on `data.train`, judge each epoch on `data.dev`, keep the run in `out`.

    `out` gets last.pt (the newest state), best.pt (the best dev accuracy), history.csv and
    recipe.json. Where `out` holds a run already, it goes on from there; a finished run is only
    read. Raises FacekitError on bad input, and Interrupted after Ctrl-C or SIGTERM, once the
    state is saved.
    """
    data = data if isinstance(data, CourseData) else CourseData(data)
    run = Run(recipes.load(recipe), data, Path(out), runtime.device(device).value)
    if (run.out / "last.pt").exists():
        run.resume()
    else:
        check_readable([*data.train, *data.dev], progress)
        run.out.mkdir(parents=True, exist_ok=True)  # an error now, not after the first epoch
    if not run.progress.done:
        with stop_signals() as stop:
            _train(run, stop, progress)
    return History(run.progress.rows)


def start_process(
    recipe: str, data: CourseData, out: Path, changes: Sequence[str] = ()
) -> subprocess.Popen:
    """`facekit train` in a process of its own, so that one can watch it or kill it."""
    command = [sys.executable, "-m", "facekit", "train", recipe]
    command += ["--data", str(data.root), "--term", data.term.name, "--out", str(out)]
    command += [f"--set={change}" for change in changes]
    # Found like this module, and with as many threads: sums would be added in another order.
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    settings = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    settings["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | settings)


def _train(run: Run, stop: threading.Event, progress: bool) -> None:
    recipe, state = run.recipe, run.progress
    bar = tqdm(total=recipe.epochs, initial=state.epoch, unit="epoch", disable=not progress)
    with bar:
        while not state.done:
            rate = run.learning_rate(state.epoch * run.steps)
            train_loss, train_accuracy = train_epoch(run, stop)
            if not math.isfinite(train_loss):
                raise RunError(
                    f"{run.out}: the loss is {train_loss} in epoch {state.epoch + 1}; lower "
                    f"learning_rate ({recipe.learning_rate}) and train into another folder"
                )
            dev_loss, dev_accuracy = evaluate(run.net, dev_loader(run), run.device)
            state.epoch, state.step, state.totals = state.epoch + 1, 0, [0.0, 0.0, 0.0]
            row = state.epoch, rate, train_loss, train_accuracy, dev_loss, dev_accuracy
            state.rows.append(dict(zip(HISTORY, row, strict=True)))
            better = dev_accuracy > state.best_accuracy
            if better:
                state.best_accuracy, state.best_epoch = dev_accuracy, state.epoch
            waited = state.epoch - state.best_epoch
            state.done = state.epoch == recipe.epochs or 0 < recipe.patience <= waited
            run.save(*(("best.pt", "last.pt") if better else ("last.pt",)))
            bar.update()
            bar.set_postfix_str(
                f"loss {train_loss:.2f}, train {train_accuracy:.1%}, "
                f"dev {dev_accuracy:.1%}, best {state.best_accuracy:.1%}"
            )


def train_epoch(run: Run, stop: threading.Event) -> tuple[float, float]:
    """One epoch, or what is left of it: mean loss and accuracy over its images."""
    recipe, state = run.recipe, run.progress
    totals = torch.tensor(state.totals, dtype=torch.float64)  # loss, correct, images
    loader = train_loader(run, skip=state.step)
    run.net.train()
    for images, labels in loader:
        step = state.epoch * run.steps + state.step
        set_learning_rate(run.optimizer, run.learning_rate(step))
        with random_numbers(recipe.seed, step, -1):  # dropout
            loss, correct = train_step(run, images, labels)
        count = torch.full_like(correct, len(labels))  # on the same device
        totals += torch.stack([loss * len(labels), correct, count]).cpu()
        state.step += 1
        if stop.is_set():
            state.totals = totals.tolist()
            run.save("last.pt")
            raise Interrupted(
                f"stopped after step {step + 1} of {recipe.epochs * run.steps}; "
                f"saved in {run.out}; the same call goes on from there"
            )
    loss_sum, correct, images = totals.tolist()
    return loss_sum / images, correct / images


def train_step(run: Run, images: torch.Tensor, labels: torch.Tensor):
    """Forward, backward, update on a batch (B, 3, H, W): mean loss and count of right answers.

    Right against the margin, where the head has one: such a count climbs later than dev's.
    """
    images = images.to(run.device, memory_format=torch.channels_last, non_blocking=True)
    labels = labels.to(run.device, non_blocking=True)
    loss, logits = run.objective(images, labels)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    run.optimizer.step()
    return loss.detach(), (logits.detach().argmax(1) == labels).sum()


@torch.inference_mode()
def evaluate(net: nn.Module, loader: DataLoader, device: torch.device) -> tuple[float, float]:
    """Mean cross-entropy and accuracy over every image of the loader, each counted once."""
    net.eval()
    loss_sum, correct, count = 0.0, 0, 0
    for images, labels in loader:
        with forward_precision(device):
            logits = net(images.to(device, memory_format=torch.channels_last)).float()
        labels = labels.to(device)
        loss_sum += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        correct += (logits.argmax(1) == labels).sum().item()
        count += len(labels)
    return loss_sum / count, correct / count


def forward_precision(device: torch.device):
    """The context of a forward pass: bfloat16 products where the device has them."""
    dtype = runtime.dtype(device).value
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def train_loader(run: Run, skip: int = 0) -> DataLoader:
    """Augmented batches of the running epoch, without the first `skip`."""
    recipe = run.recipe
    transform = run.preprocess.training(recipe.augment)
    folder = TrainingFolder(run.data.train.folder, transform, recipe.seed)
    sampler = epoch_sampler(recipe, run.data, run.progress.epoch, skip)
    return DataLoader(folder, batch_sampler=sampler, **loading(run.device))


def epoch_sampler(
    recipe: Recipe, data: CourseData, epoch: int, skip: int = 0
) -> EpochSampler | ClassSampler:
    """The batches of an epoch after the first `skip`, shuffled or by classes."""
    order = recipe.seed, epoch, skip
    each = recipe.images_per_class
    if each:
        return ClassSampler(data.train.labels, recipe.batch_size // each, each, *order)
    return EpochSampler(len(data.train), recipe.batch_size, *order)


def dev_loader(run: Run) -> DataLoader:
    folder = FaceFolder(run.data.dev.folder, run.preprocess.transform())
    return DataLoader(folder, batch_size=2 * run.recipe.batch_size, **loading(run.device))


def loading(device: torch.device) -> dict:
    """How a DataLoader feeds the device; its own generator keeps torch's numbers untouched."""
    return {
        "num_workers": runtime.workers(device).value,
        "pin_memory": device.type == "cuda",
        "generator": torch.Generator(),
        "worker_init_fn": _ignore_interrupts,
    }


def _ignore_interrupts(worker: int) -> None:
    # Ctrl-C reaches the whole process group; the parent decides when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Inside, Ctrl-C and SIGTERM set the event that is yielded; a second Ctrl-C stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may catch signals
        return

    def ask(number: int, frame) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        print("\nstopping after this step ...", flush=True)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
