"""The training loop: kill it anywhere, call it again, get the same run. Built in notebook 04."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from facekit import distributed, recipes, runtime, stopping
from facekit.checkpoint import Checkpoints
from facekit.errors import BatchError, RunError
from facekit.feed import Batch
from facekit.fold import fold_batch_norm
from facekit.keyed_random import random_numbers, stream
from facekit.layout import CourseData
from facekit.lock import only_one
from facekit.optim import set_learning_rate
from facekit.recipes import Recipe
from facekit.run import HISTORY, Run
from facekit.stopping import Interrupted, Stop
from facekit.tracking import Tracker
from facekit.watch import Watch, check_loss

LOOK_EVERY = 50  # steps between two looks at the loss: to look, the GPU must be waited for


@dataclass
class History:
    """What each epoch gave, one row an epoch with the columns of HISTORY."""

    rows: list[dict] = field(default_factory=list)
    stopped: str = ""  # why the run is not done yet; "" where it is

    @property
    def best(self) -> dict:
        """The first epoch with the highest dev accuracy."""
        return max(self.rows, key=lambda row: row["dev_accuracy"])

    def until(self, patience: int) -> "History":
        """What a run would have been that waits so many epochs for a better one; 0: for ever."""
        starts = (History(self.rows[:end]) for end in range(1, len(self.rows) + 1))
        return next((run for run in starts if 0 < patience <= run.waited), History(self.rows))

    @property
    def waited(self) -> int:
        """How many epochs ago the best one was."""
        return self.rows[-1]["epoch"] - self.best["epoch"]

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows, columns=HISTORY)


def fit(
    recipe: str | Path | Recipe,
    data: CourseData | str | Path,
    out: str | Path,
    device: str | None = None,
    progress: bool = True,
    *,
    max_hours: float | None = None,
    mirror: str | Path | None = None,
    track: Sequence[str] = (),
    workers: int | None = None,
    save_minutes: float = 5.0,
    on_epoch: Callable[[History], None] | None = None,
) -> History:
    """Train a recipe on `data.train`, judge each epoch on `data.dev`, keep the run in `out`.

    `out` gets the two newest states (step-00000412.pt), best.pt (the network with the best dev
    accuracy), history.csv, recipe.json and environment.json. Where `out`, or else its copy in the
    `mirror` folder [FACEKIT_MIRROR], holds a run already, it goes on from there; a finished run is
    only read. A state is saved after each epoch and every `save_minutes`. After `max_hours` it
    saves, says so in `stopped`, and returns. `track`: "tensorboard", "wandb". `workers`: threads
    that prepare batches. `on_epoch` is called with the history so far.

    Raises FacekitError on bad input, and Interrupted after Ctrl-C, SIGTERM or SIGUSR1, once the
    state is saved.
    """
    data = data if isinstance(data, CourseData) else CourseData(data)
    with distributed.together() as world:
        gpu = f"cuda:{world.local_rank}" if world.size > 1 and torch.cuda.is_available() else None
        where = runtime.device(device or gpu).value
        run = Run(recipes.load(recipe), data, Path(out), where, world, workers)
        checkpoints = Checkpoints(run.out, mirror=_copies(run.out, mirror))
        if _is_done(run, checkpoints):
            return History(run.progress.rows)
        shown = progress and world.first
        run.prepare(shown)
        with _own_folder(run), stopping.watching(max_hours, not world.first) as stop:
            _begin(run, checkpoints, shown)
            with _named(run), _hooks(run, track, shown, on_epoch) as hooks:
                return _train(run, stop, checkpoints, save_minutes, hooks)


def _copies(out: Path, mirror: str | Path | None) -> Path | None:
    """Where copies of the run go: into the folder asked for, else where FACEKIT_MIRROR says."""
    return Path(mirror, out.name) if mirror else runtime.copy_of(out)


def _is_done(run: Run, checkpoints: Checkpoints) -> bool:
    """Whether the folder holds the finished run already; RunError when it is another."""
    if (run.out / "last.pt").exists():
        raise RunError(f"{run.out}: no run of this version of the kit; train into another folder")
    if not run.world.first:
        run.world.wait()
    saved = checkpoints.load_latest()  # the first process puts damaged ones aside before
    if run.world.first:
        run.world.wait()
    if saved:
        run.resume(saved)
    return run.progress.done


@contextmanager
def _own_folder(run: Run) -> Iterator[None]:
    """Inside, the run's folder is this process's, or its first sister's, alone."""
    if run.world.first:
        run.out.mkdir(parents=True, exist_ok=True)  # an error now, not after the first epoch
    with only_one(run.out) if run.world.first else nullcontext():
        yield


@contextmanager
def _named(run: Run) -> Iterator[None]:
    """Errors of a batch inside say of which run and step: a head looks where that is free."""
    try:
        yield
    except BatchError as error:
        raise RunError(f"{run.out}: after step {run.step}: {error}") from error


def _begin(run: Run, checkpoints: Checkpoints, progress: bool) -> None:
    """Stand where the run was, all processes alike, and say what was chosen."""
    saved = checkpoints.load_latest()
    if saved:
        run.resume(saved)
        run.check_content(saved)
    run.world.same_start(run.objective)
    run.describe()
    for name, (value, reason) in run.choices.items() if progress else ():
        tqdm.write(f"{name}: {value} ({reason})")
    for change in run.progress.changes if progress else ():
        tqdm.write(change)


def _train(run: Run, stop: Stop, checkpoints: Checkpoints, save_minutes: float, hooks) -> History:
    """Epoch after epoch until the recipe, its patience or somebody else ends it."""
    recipe, state = run.recipe, run.progress
    watch = Watch(recipe, len(run.data.classes), len(run.data.dev))
    while not state.done:
        watch.check(state.rows, state.untrained_loss)
        if run.margin_is_due:
            run.begin_margin_stage()
        rate = run.rate_at(state.epoch * run.steps)
        stopped = train_epoch(run, stop, checkpoints, save_minutes, hooks)
        if stopped:
            return History(state.rows, stopped)
        loss, accuracy = (value / state.totals[2] for value in state.totals[:2])
        dev = evaluate(run.judged, run.dev_batches(), run.precision.value, run.world)
        state.epoch, state.step, state.totals = state.epoch + 1, 0, [0.0, 0.0, 0.0]
        row = dict(zip(HISTORY, (state.epoch, rate, loss, accuracy, *dev), strict=True))
        state.rows.append(row)
        better = row["dev_accuracy"] > state.best_accuracy
        if better:
            state.best_accuracy, state.best_epoch = row["dev_accuracy"], state.epoch
        waited = state.epoch - state.best_epoch
        state.done = state.epoch == recipe.epochs or 0 < recipe.patience <= waited
        run.save(checkpoints, best=better)
        for hook in hooks:
            hook.epoch(row)
    return History(state.rows)


def train_epoch(
    run: Run, stop: Stop, checkpoints: Checkpoints, save_minutes: float, hooks=()
) -> str:
    """One epoch, or what is left of it; why it was left early, if it was."""
    state, last_save = run.progress, time.monotonic()
    begun = state.totals if run.world.first else [0.0] * 3  # of all processes, before a stop
    totals = torch.tensor(begun, dtype=_sums(run.device), device=run.device)
    run.objective.train()
    for batch, whole in run.batches():
        set_learning_rate(run.optimizer, run.rate_at(run.step))
        totals += train_step(run, batch, whole)
        state.step += 1
        due = time.monotonic() - last_save >= 60 * save_minutes
        stopping, due = run.world.highest(stop.wanted, due and state.step < run.steps)
        if stopping or due or state.step in (1, run.steps) or not state.step % LOOK_EVERY:
            _look(run, totals)
        if stopping or due:
            run.save(checkpoints)
            last_save = time.monotonic()
        if stopping:
            return _leave(run, stop)
        for hook in hooks:
            hook.step()
    return ""


def _look(run: Run, totals: torch.Tensor) -> None:
    """Bring the sums of all processes to this one; RunError when they are no numbers."""
    state = run.progress
    state.totals = run.world.total(totals.clone()).tolist()
    check_loss(state.totals[0], run.step, run.rate_at(run.step), run.precision_name)
    if state.untrained_loss == math.inf:
        state.untrained_loss = state.totals[0] / state.totals[2]


def _leave(run: Run, stop: Stop) -> str:
    steps = run.recipe.epochs * run.steps
    text = f"after step {run.step} of {steps}; saved in {run.out}; the same call goes on from there"
    if stop.max_hours is not None and not stop.reason:
        return f"the {stop.max_hours:g} hours are up {text}"
    raise Interrupted(f"stopped {text}")


def train_step(run: Run, batch: Batch, whole: int) -> torch.Tensor:
    """Forward, backward, update: the sum of the losses, right answers, pictures (3,).

    `batch` is this process's part of one of `whole` pictures, sent through in so many parts that
    it fits into memory: where it does not, all processes halve their parts and take the step
    again. Batch norm then sees fewer pictures at once. Right answers count against the margin,
    where the head has one: they climb later than dev's.
    """
    while True:
        run.optimizer.zero_grad(set_to_none=True)
        try:
            totals, too_large = _gradients(run, batch, whole), False
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            totals, too_large = None, True
        if not run.world.highest(too_large)[0]:
            break
        _halve(run, len(batch.labels))
    run.world.add_gradients(run.objective)
    run.scaler.unscale_(run.optimizer)
    if run.recipe.clip_norm:
        nn.utils.clip_grad_norm_(run.objective.parameters(), run.recipe.clip_norm)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    if run.average:
        run.average.update(run.net)
    return totals


def _gradients(run: Run, batch: Batch, whole: int) -> torch.Tensor:
    """Add up the parts' gradients of the mean loss over all `whole` pictures."""
    totals = torch.zeros(3, dtype=_sums(run.device), device=run.device)
    count = run.progress.parts
    for number, part in enumerate(distributed.parts(len(batch.labels), count)):
        images, labels, others, share = (None if each is None else each[part] for each in batch)
        if not len(labels):
            continue
        if run.size_now < images.shape[-1]:
            images = _shrink(images, run.size_now)
        with _dropout_numbers(run, run.world.rank * count + number):
            loss, logits = run.forward(images, labels, others, share)
        run.scaler.scale(loss * (len(labels) / whole)).backward()
        right = (logits.detach().argmax(1) == labels).sum()
        pictures = torch.full_like(right, len(labels))
        totals += torch.stack([loss.detach().to(totals) * len(labels), right, pictures])
    return totals


def _shrink(images: torch.Tensor, size: int) -> torch.Tensor:
    smaller = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return smaller.contiguous(memory_format=torch.channels_last)


def _halve(run: Run, pictures: int) -> None:
    """Half as many pictures at once from here on; RunError when there is nothing to halve."""
    if run.progress.parts * 2 > max(1, pictures // 2):
        fewest = -(-pictures // run.progress.parts)
        raise RunError(
            f"{run.out}: even {fewest} pictures do not fit into memory; lower image_size or choose "
            "a smaller network"
        )
    run.progress.parts *= 2
    if run.device.type == "cuda":
        torch.cuda.empty_cache()
    if run.world.first:
        tqdm.write(f"out of memory: batches now go through in {run.progress.parts} parts")


@contextmanager
def _dropout_numbers(run: Run, part: int) -> Iterator[None]:
    """Inside, dropout depends on the run's seed, the step and the part of the batch alone."""
    key = run.recipe.seed, run.step, -1 - part
    if run.device.type == "cuda":
        torch.cuda.manual_seed(stream(*key))
    with random_numbers(*key):
        yield


def _sums(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # which Apple's GPUs lack


@torch.inference_mode()
def evaluate(
    net: nn.Module,
    batches: Iterable[Batch],
    precision: torch.dtype = torch.float32,
    world: distributed.World = distributed.ALONE,
) -> tuple[float, float]:
    """Mean cross-entropy and accuracy over all images, each counted once, seen from both sides.

    The logits are the mean of an image's and its mirror image's, as in predictions.
    """
    net = fold_batch_norm(net)
    totals = torch.zeros(3, dtype=torch.float64)

    def judge(images: torch.Tensor) -> torch.Tensor:
        with forward_precision(images.device, precision):
            return (net(images).float() + net(images.flip(-1)).float()) / 2

    for images, labels, *_ in batches:
        logits = in_parts(judge, images)
        loss = F.cross_entropy(logits, labels, reduction="sum")
        right = (logits.argmax(1) == labels).sum()
        totals += torch.tensor([loss.item(), right.item(), len(labels)])
    loss_sum, correct, count = world.total(totals).tolist()
    return loss_sum / count, correct / count


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or the processor's memory, is full."""
    return "out of memory" in str(error) or "can't allocate" in str(error)


def in_parts(function: Callable, images: torch.Tensor) -> torch.Tensor:
    """`function` of the images (B, ...), which looks at each alone, in parts that fit into memory.

    Raises RunError where not even one does.
    """
    parts = 1
    while parts < 2 * len(images):
        try:
            return torch.cat([function(part) for part in images.chunk(parts)])
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        parts *= 2
        if images.device.type == "cuda":
            torch.cuda.empty_cache()
    raise RunError("not one picture fits into memory; free some, or train a smaller network")


def forward_precision(device: torch.device, precision: torch.dtype):
    """The context of a forward pass whose products are of that type."""
    lower = precision != torch.float32
    return torch.autocast(device.type, precision if lower else None, enabled=lower)


class Bar:
    """The progress bar: a step at a time, the last epoch's figures behind it."""

    def __init__(self, run: Run) -> None:
        steps = run.recipe.epochs * run.steps
        self.bar = tqdm(total=steps, initial=run.step, unit="step", mininterval=0.5)
        self.run = run

    def step(self) -> None:
        self.bar.update()

    def epoch(self, row: dict) -> None:
        self.bar.set_postfix_str(
            f"epoch {row['epoch']}: loss {row['train_loss']:.2f}, "
            f"train {row['train_accuracy']:.1%}, dev {row['dev_accuracy']:.1%}, "
            f"best {self.run.progress.best_accuracy:.1%}"
        )

    def close(self) -> None:
        self.bar.close()


class Call:
    """The caller's function, called with the history after each epoch."""

    def __init__(self, run: Run, function: Callable[[History], None]) -> None:
        self.run, self.function = run, function

    def step(self) -> None:
        pass

    def epoch(self, row: dict) -> None:
        self.function(History(self.run.progress.rows))

    def close(self) -> None:
        pass


@contextmanager
def _hooks(run: Run, track: Sequence[str], progress: bool, on_epoch) -> Iterator[list]:
    """Whoever wants to know how it goes; in the first process alone."""
    hooks: list = [Bar(run)] if progress else []
    if run.world.first and track:
        hooks.append(Tracker(run.out, run.out.name, track, run.recipe.as_dict()))
    if run.world.first and on_epoch:
        hooks.append(Call(run, on_epoch))
    try:
        yield hooks
    finally:
        for hook in hooks:
            hook.close()


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


def wait_for_state(process: subprocess.Popen, out: Path) -> None:
    """Wait until the process has saved a state of its run, or has ended."""
    while process.poll() is None and not Checkpoints(out).paths():
        time.sleep(0.02)
