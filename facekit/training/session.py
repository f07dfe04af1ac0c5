"""`fit`: a recipe, data and a folder; kill it anywhere, call it again, get the same run."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from facekit.common import machine
from facekit.common.errors import BatchError, RecipeError, RunError
from facekit.common.lock import only_one
from facekit.data.layout import CourseData
from facekit.data.pairs import PairData, open_data
from facekit.evaluation.inference import is_out_of_memory
from facekit.training import bring_own, distributed, loop, state, stopping
from facekit.training.callbacks import (
    Callback,
    Callbacks,
    Guards,
    OnEpoch,
    ProgressBar,
    Saving,
)
from facekit.training.checkpoint import Checkpoints
from facekit.training.history import History
from facekit.training.margin_stage import MarginStage
from facekit.training.recipe import Recipe
from facekit.training.recipe import load as load_recipe
from facekit.training.run import Run
from facekit.training.tracking import Tracker

MOST_WORKERS = 256  # threads


def fit(
    recipe: str | Path | Recipe,
    data: CourseData | PairData | str | Path,
    out: str | Path,
    device: str | None = None,
    progress: bool = True,
    *,
    network: Any = None,
    head: Any = None,
    auxiliary_loss: Any = None,
    transform: Callable | str | None = None,
    loader: DataLoader | None = None,
    callbacks: Sequence[Callback] = (),
    max_hours: float | None = None,
    mirror: str | Path | None = None,
    track: Sequence[str] = (),
    workers: int | None = None,
    save_minutes: float = 2.0,
    on_epoch: Callable[[History], None] | None = None,
) -> History:
    """Train a recipe on `data.train`, judge each epoch on `data.dev`, keep the run in `out`.

    `out` gets the two newest states (step-00000412.pt), best.pt (the network with the best dev
    accuracy, or EER: `best_by`), history.csv, recipe.json and environment.json. Where `out`, or
    else its copy in the `mirror` folder [FACEKIT_MIRROR], holds a run already, it goes on from
    there; a finished run is only read. A state is saved while training goes on: after each epoch
    that is the best so far, every `save_minutes` (0: after each step), and in the end. After
    `max_hours` it saves, says so in `stopped`, and returns. `track`: "tensorboard", "wandb".
    `workers`: threads that prepare batches. `on_epoch` is called with the history so far.

    `network`, `head` and `auxiliary_loss` stand in for the recipe's: a name, a table, FILE.py:NAME,
    or an object of your own. A network is a module, or what makes one of the number of classes; a
    head a class of (dim, num_classes); a loss a class or a function of (embedding, labels).
    `transform` changes the training images in place of the recipe's `augment`: a torchvision v2
    transform, or any function of a uint8 image (3, image_size, image_size), before normalisation.
    `loader`, a DataLoader such as one of `data.train.dataset(transform)`, brings images and batch
    size of its own; both are slower than the kit's own way, and resume as exactly.
    `callbacks` hear of each step and epoch, after the kit's own.

    Raises FacekitError on bad input, and Interrupted after Ctrl-C, SIGTERM or SIGUSR1, once the
    state is saved.
    """
    _check_workers(workers)
    data = data if isinstance(data, CourseData | PairData) else open_data(data)
    with distributed.together() as world:
        bring_own.check_callbacks(callbacks)
        where = _device(device, world)
        chosen = bring_own.into_recipe(load_recipe(recipe), network, head, auxiliary_loss, loader)
        images = bring_own.images_of(chosen, data, where, transform, loader, workers)
        run = Run(chosen, data, Path(out), where, world, workers, images)
        checkpoints = Checkpoints(run.out, mirror=_copies(run.out, mirror))
        if _is_done(run, checkpoints):
            return run.history()
        shown = progress and world.is_main
        run.prepare(shown)
        own_folder = only_one(run.out) if world.is_main else nullcontext()  # for its sisters, too
        with own_folder, stopping.watching(max_hours, not world.is_main) as stop:
            _begin(run, checkpoints, shown)
            saving = Saving(checkpoints, stop, save_minutes)
            shows = _who_shows(run, shown, track, on_epoch)
            return _train(run, [Guards(run), MarginStage(), saving, *callbacks, *shows])


def _check_workers(workers: int | None) -> None:
    if workers is not None and not 0 <= workers <= MOST_WORKERS:
        raise RecipeError(f"workers must be from 0 to {MOST_WORKERS}, not {workers}")


def _device(device: str | None, world: distributed.World) -> torch.device:
    """The one asked for; of several processes on GPUs, each has its own."""
    if device is None and world.size > 1 and torch.cuda.is_available():
        device = f"cuda:{distributed.gpu(world.local_rank)}"
    where = machine.device(device).value
    if where.type == "meta":
        raise RecipeError("device 'meta' computes shapes alone; choose cuda, mps or cpu")
    return where


def _who_shows(
    run: Run, bar: bool, track: Sequence[str], on_epoch: Callable[[History], None] | None
) -> list[Callback]:
    """The callbacks that tell how it goes; in the first process alone."""
    callbacks: list[Callback] = []
    if bar:
        callbacks.append(ProgressBar(run))
    if run.world.is_main and track:
        callbacks.append(Tracker(run.out, run.out.name, track, run.recipe.as_dict()))
    if run.world.is_main and on_epoch:
        callbacks.append(OnEpoch(on_epoch))
    return callbacks


def _train(run: Run, in_order: list[Callback]) -> History:
    """The loop with its callbacks, to the end or to where it stopped."""
    callbacks = Callbacks(in_order)
    stopped = ""
    try:
        loop.train(run, callbacks)
    except stopping.HoursAreUp as error:
        stopped = str(error)
    except BatchError as error:
        raise RunError(f"{run.out}: after step {run.step}: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error):
            raise
        raise RunError(
            f"{run.out}: out of memory after step {run.step}; the run is as last saved; lower "
            "batch_size or image_size"
        ) from error
    finally:
        callbacks.close()
    return run.history(stopped)


def _copies(out: Path, mirror: str | Path | None) -> Path | None:
    """Where copies of the run go: into the folder asked for, else where FACEKIT_MIRROR says."""
    return Path(mirror, out.name) if mirror else machine.copy_of(out)


def _is_done(run: Run, checkpoints: Checkpoints) -> bool:
    """Whether the folder holds the finished run already; RunError when it is another."""
    if (run.out / "last.pt").exists():
        raise RunError(f"{run.out}: no run of this version of the kit; train into another folder")
    facts = run.recipe.as_dict() | {"classes": run.data.classes, "torch": torch.__version__}
    run.world.check_alike(facts)
    saved = _take_up(run, checkpoints)
    if run.progress.done:
        state.mend_best(run, saved, checkpoints)
    return run.progress.done


def _take_up(run: Run, checkpoints: Checkpoints) -> dict | None:
    """Go on from the newest state that the first process finds: others may have no such folder."""
    saved = run.world.from_main(
        lambda: checkpoints.load_latest(lambda found: state.check_same(run, found))
    )
    if saved:
        state.resume(run, saved)
    return saved


def _begin(run: Run, checkpoints: Checkpoints, show: bool) -> None:
    """Stand where the run was, all processes alike, and say what was chosen."""
    saved = _take_up(run, checkpoints)
    run.world.check_alike(state.content_of(run))
    if saved:
        state.check_content(run, saved)
        state.mend_best(run, saved, checkpoints)
    if run.world.is_main:
        checkpoints.claim()
    state.describe(run)
    if show:
        for name, (value, reason) in run.choices.items():
            tqdm.write(f"{name}: {value} ({reason})")
    if run.world.is_main:  # in a log, too: these numbers are not those of an undisturbed run
        for change in run.progress.changes:
            tqdm.write(change)
