"""A run written down, and taken up again. Used by the callback that saves, and by `fit`."""

import copy
import dataclasses
import json
from contextlib import suppress
from typing import Any

import torch

from facekit.common import own
from facekit.common.errors import RunError
from facekit.common.files import write_table, write_whole
from facekit.models import weights
from facekit.models.build import settings_of
from facekit.models.registered import own_parts
from facekit.training.checkpoint import BEST, Checkpoints, identity
from facekit.training.environment import environment
from facekit.training.guards import check_loss
from facekit.training.history import History
from facekit.training.recipe import Recipe
from facekit.training.run import Progress, Run

CHANGEABLE = ("lr", "grad_clip", "patience", "micro_batches", "watch")  # while a run goes on


# ------------------------------------------------------------------ to disk


def snapshot(run: Run) -> dict:
    """All of the run in the processor's memory, to be written while the run trains on.

    RunError for NaN in the weights: such a network must not replace one that is good.
    """
    total = sum(p.detach().abs().max() for p in run.net.parameters())
    saved, zero = on_processor((state_of(run), total * 0))
    if run.device.type == "cuda":
        torch.cuda.synchronize(run.device)  # once for all copies
    check_loss(float(zero), run.step, run.lr_at(run.step), run.precision_name)
    return saved


def on_processor(value: Any) -> Any:
    """A copy with all tensors on the processor; those of a GPU are there once it was waited for."""
    if isinstance(value, torch.Tensor):
        # Beside the GPU's other work, and into pinned memory, which torch keeps for the next time.
        return value.detach().to("cpu", non_blocking=value.is_cuda, copy=True)
    if isinstance(value, dict):
        copied = copy.copy(value)  # what modules note about their dict (_metadata) included
        for key, part in value.items():
            copied[key] = on_processor(part)
        return copied
    if type(value) in (list, tuple):
        return type(value)(on_processor(part) for part in value)
    return copy.deepcopy(value)


def save(checkpoints: Checkpoints, step: int, saved: dict, best: dict | None = None) -> None:
    """Write the state after `step` steps, the curves, and `best`, where there is one."""
    checkpoints.check_mine()
    history = History(saved["progress"]["rows"])
    rows = history.frame().itertuples(index=False)
    with suppress(OSError):  # no room; the rows are in the state, too, which says so
        write_table(checkpoints.folder / "history.csv", history.columns, rows)
    checkpoints.save(step, saved, best)  # last: a run that is done is not touched


def best_of(run: Run, saved: dict) -> dict:
    """The network that is judged, of a state, with what whoever uses it has to know."""
    return outline(run) | {"net": saved["ema"].get("module", saved["net"])}


def state_of(run: Run) -> dict:
    """All of the run in tensors and plain types."""
    state = outline(run)
    state["net"] = run.net.state_dict()
    auxiliary_loss = run.objective.auxiliary_loss
    state["auxiliary_loss"] = auxiliary_loss.state_dict() if auxiliary_loss else {}
    state["ema"] = run.ema.state_dict() if run.ema else {}
    state["optimizer"] = run.optimizer.state_dict()
    state["scaler"] = run.scaler.state_dict()
    state["content"] = content_of(run)
    state["machine"] = machine_of(run)
    return state


def outline(run: Run) -> dict:
    """What whoever uses the network has to know about it."""
    return {
        "format": weights.FORMAT,
        "run": run.identity,
        "recipe": run.recipe.as_dict(),
        "spec": settings_of(run.net),
        "own": run.own_objects,
        "preprocess": run.preprocess.as_dict(),
        "classes": list(run.data.classes),
        "data": str(run.data.root.resolve()),
        "term": run.data.term.name,
        "progress": dataclasses.asdict(run.progress),
    }


def content_of(run: Run) -> dict[str, str]:
    """Hashes of the images."""
    return {"train": run.loader.content, "dev": run.dev_loader.content}


def machine_of(run: Run) -> dict[str, str | int]:
    """What the last digits of every number depend on."""
    return {
        "torch": str(torch.__version__),
        "device": run.device.type,
        "threads": torch.get_num_threads(),
        "processes": run.world.size,
        "precision": str(run.precision.value),
        "compiled": run.compiling.value,
    }


def describe(run: Run) -> None:
    """Write down what was asked for and what was found: the run can be repeated from it."""
    if not run.world.is_main:
        return
    run.out.mkdir(parents=True, exist_ok=True)
    recipe = json.dumps(run.recipe.as_dict(), indent=1)
    write_whole(run.out / "recipe.json", recipe.encode())
    source = own.source_of(run.own_objects, own_parts())
    if source:
        write_whole(run.out / "own.py", source.encode())
    found = environment(run.device, run.choices)
    found["data"] = content_of(run)
    found["left out"] = list(run.loader.bad.values())
    found["changes"] = run.progress.changes
    write_whole(run.out / "environment.json", json.dumps(found, indent=1).encode())


# ------------------------------------------------------------------ and back


def resume(run: Run, saved: dict) -> None:
    """Take up the run where it was saved; RunError when it was another, or is none."""
    try:
        check_same(run, saved)
        _take_up(run, saved)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise RunError(
            f"{run.out}: its newest state cannot be taken up ({type(error).__name__}: {reason}); "
            "move it away to go on from the one before, or choose another folder"
        ) from error


def mend_best(run: Run, saved: dict, checkpoints: Checkpoints) -> None:
    """Where best.pt is lost and the mirror has none: write it again, or let another be the best."""
    progress = run.progress
    if progress.best_epoch == 0 or run.world.from_main(lambda: checkpoints.has_best(saved)):
        return
    path = run.out / BEST
    lost = f"{path}: the best network, of epoch {progress.best_epoch}, is missing or damaged"
    if progress.best_epoch == progress.epoch and progress.step == 0:
        if run.world.is_main:
            checkpoints.warn(f"{lost}; it is written again from the newest state")
            weights.save(path, best_of(run, saved))
        return
    if run.world.is_main:
        then = "the run is done; train into another folder" if progress.done else "the next is kept"
        checkpoints.warn(f"{lost}, and lost: {then}")
    progress.best_accuracy = -1.0


def _take_up(run: Run, saved: dict) -> None:
    run.identity = identity(saved)
    run.progress = Progress(**saved["progress"])
    _note_changes(run, saved)
    if run.progress.margin_stage:
        run.build(run.recipe.margin_head)
        run.compile()
    run.net.load_state_dict(saved["net"])
    if run.objective.auxiliary_loss:
        run.objective.auxiliary_loss.load_state_dict(saved["auxiliary_loss"])
    if run.ema:
        run.ema.load_state_dict(saved["ema"])
    run.optimizer.load_state_dict(saved["optimizer"])
    run.scaler.load_state_dict(saved["scaler"])


def check_content(run: Run, saved: dict) -> None:
    """Raise RunError when the images are not those of the run's first part."""
    for split, mine in content_of(run).items():
        then = saved["content"][split]
        if then == mine:
            continue
        what = "images or their transform" if run.own_images and split == "train" else "images"
        advice = f"{run.out}: the {split} {what} have changed since this run began (they were "
        advice += f"{then[:12]}, now {mine[:12]}); choose another folder, or bring the old images "
        advice += "back"
        if split == "train" and run.loader.bad:
            advice += f" ({next(iter(run.loader.bad.values()))})"
        raise RunError(advice)


def check_same(run: Run, saved: dict) -> None:
    """Raise RunError, with both values, when network, settings, classes or data differ."""
    free = () if saved["progress"]["done"] else CHANGEABLE
    now = {key: value for key, value in run.recipe.as_dict().items() if key not in free}
    usual = Recipe("recipe").as_dict()  # what a setting was that the kit did not have yet
    then = {key: value for key, value in (usual | saved["recipe"]).items() if key not in free}
    difference = ""
    if then != now:
        # Another version of the kit may know other settings.
        key = next(key for key in now | then if then.get(key) != now.get(key))
        difference = f"{key} = {then.get(key)}, and the recipe says {now.get(key)}"
    elif saved["classes"] != list(run.data.classes):
        difference = (
            f"{len(saved['classes'])} classes, and the data has {len(run.data.classes)} of other "
            "names"
        )
    elif _shape(saved["spec"]) != _shape(settings_of(run.net)):
        difference = f"the network {run.recipe.network!r} of another version of the kit"
    if difference:
        raise RunError(
            f"{run.out}: this run has {difference}; choose another folder for the new one"
        )
    own.check_unchanged(run.out, saved.get("own", {}), run.own_objects)


def _shape(spec: dict) -> dict:
    """A network's settings but for its head, which a margin stage replaces."""
    return {key: value for key, value in spec.items() if key != "head"}


def _note_changes(run: Run, saved: dict) -> None:
    """Keep in mind which settings and which parts of the machine are new from here on."""
    pairs = [(key, saved["recipe"][key], getattr(run.recipe, key)) for key in CHANGEABLE]
    for key, value in machine_of(run).items():
        pairs.append((key, saved["machine"].get(key), value))
    for key, before, now in pairs:
        if before != now:
            run.progress.changes.append(f"from step {run.step} on: {key} {now}, before {before}")
    if run.recipe.micro_batches != saved["recipe"]["micro_batches"]:
        run.progress.micro_batches = run.recipe.micro_batches
