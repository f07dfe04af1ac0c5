"""Whether a GPU computes what the processor does: the checks of `gpu.py`, a row each."""

import copy
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from gpu_job import Job
from machine import Row
from people import DIFFICULTY, numbers

from facekit import faces, training
from facekit.common import machine
from facekit.data import transforms_gpu
from facekit.data.loader import Batch, Loader
from facekit.data.pixels import STORAGES, CacheSettings
from facekit.data.transform_params import sample_params
from facekit.data.transforms import Augment, Preprocess
from facekit.evaluation import inference, search
from facekit.models.weights import digest
from facekit.training import loop
from facekit.training import recipe as recipes
from facekit.training.checkpoint import Checkpoints
from facekit.training.run import Run
from facekit.training.stopping import Interrupted

ALL = Augment(shift=0.1, shear=5, random_steps=2, blur=0.3, mixup=0.2, cutmix=0.2)
CPU = torch.device("cpu")
STEPS = 8
SETTINGS = ["epochs=3", "batch_size=8", "image_size=32", "warmup_epochs=1", "compile=no"]


def passed(row: Row, good: bool) -> Row:
    return row | {"verdict": "PASS" if good else "FAIL"}


@contextmanager
def exact_floats() -> Iterator[None]:
    """Inside, float32 is float32: no TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


# --- pictures


def pictures(job: Job) -> list[Row]:
    """Augmented pictures from the device, from its code on the processor, and from OpenCV."""
    count, side, size = job.size(256, 8), 128, 112
    who = numbers(count)
    stored = faces.render(
        who, numbers(count, 0), side, difficulty=DIFFICULTY, device=job.device.type
    )
    stored = stored.permute(0, 2, 3, 1).contiguous()  # (B, side, side, 3)
    rows = []
    for name, augment in (("default", Augment()), ("everything", ALL)):
        preprocess = Preprocess(size)
        params = sample_params(augment, preprocess, side, 0, [(1, i) for i in range(count)])
        seen = transforms_gpu.apply(stored, params, preprocess).cpu()
        whole = (params.solarize == 256) & (params.posterize == 8)  # the others jump by levels
        for end, apply in back_ends():
            levels = (apply(stored.cpu(), params, preprocess) - seen).abs()[whole] * 0.25 * 255
            rows.append(levels_row(f"{name}: {end}", levels, 0.2 if "tensors" in end else 0.5))
    return rows


def back_ends() -> list[tuple]:
    """What transforms batches on the processor; OpenCV where it is installed."""
    found = [("tensors on the processor", transforms_gpu.apply)]
    try:
        from facekit.data import transforms_cpu
    except ImportError:
        return found
    return [*found, ("OpenCV", transforms_cpu.apply)]


def levels_row(name: str, levels: torch.Tensor, bar: float) -> Row:
    """Of absolute differences in grey levels."""
    row = {"check": name, "mean levels": float(levels.mean()), "most": float(levels.max())}
    return passed(row | {"mean at most": bar}, float(levels.mean()) <= bar)


def storages(job: Job) -> list[Row]:
    """The same batch wherever the pictures lie, and what cuDNN can do with depthwise ones."""
    train_set, preprocess = job.course().train, Preprocess(32)
    keys = [[(1, index) for index in range(8)], [(2, index) for index in range(8, 16)]]
    made = {}
    for storage in STORAGES:
        cache = CacheSettings(storage=storage, progress=False)
        loader = Loader(train_set.paths, train_set.labels, preprocess, job.device, augment=ALL,
                        cache=cache)  # fmt: skip
        made[storage] = torch.cat([batch.images.cpu() for batch in loader.batches(keys)])
    first = made[STORAGES[0]]
    rows = [
        passed({"check": f"pixels from {storage}"}, torch.equal(found, first))
        for storage, found in made.items()
    ]
    works, reason = machine.depthwise(job.device)
    return [*rows, {"check": "depthwise convolutions", "found": f"{works}: {reason}"}]


def rendered(job: Job) -> list[Row]:
    """The same faces from both devices."""
    count, rows = job.size(64, 2), []
    keys = numbers(count), numbers(count, 0)
    for size in (112, job.size(224, 64)):
        there, here = (faces.render(*keys, size, difficulty=DIFFICULTY, device=device).cpu().int()
                       for device in (job.device.type, "cpu"))  # fmt: skip
        away = (there - here).abs()
        near = float((away <= 1).double().mean())
        row = {"check": f"faces at {size} px", "within one level": near, "most": int(away.max())}
        rows.append(passed(row, near >= 0.999))
    return [*rows, drawn_numbers(job, keys)]


def drawn_numbers(job: Job, keys: tuple) -> Row:
    pairs = [faces.parameters(*keys, difficulty=DIFFICULTY, device=device)
             for device in ("cpu", job.device.type)]  # fmt: skip
    here, there = ({**who, **how} for who, how in pairs)
    differing = [name for name in here if not torch.equal(here[name], there[name].cpu())]
    row = {"check": f"{len(here)} drawn numbers", "differing": ", ".join(differing) or "none"}
    return passed(row, not differing)


# --- training


def prepared(job: Job, *changes: str) -> Run:
    """A run at its beginning, with its pictures."""
    recipe = recipes.load("smoke", [*SETTINGS, *changes])
    run = Run(recipe, job.course(), job.folder / "nowhere", job.device)
    run.prepare()
    return run


def precisions(job: Job) -> list[Row]:
    """Some steps in each precision: finite, and near those of float32.

    float16 may leave out up to three steps, until its scale is small enough.
    """
    rows: list[Row] = []
    reference: list[float] = []
    for precision in ("float32", "bfloat16", "float16"):
        run = prepared(job, f"precision={precision}", "lr=0.0005")
        losses = some_losses(run)
        reference = reference or losses
        weights = sum(float(p.detach().abs().sum()) for p in run.objective.parameters())
        row = {"check": f"{STEPS} steps in {precision}", "first loss": losses[0]}
        row |= {"last loss": losses[-1], "scale": run.scaler.get_scale()}
        near = abs(losses[0] / reference[0] - 1) < 0.01
        fell = losses[-1] < 1.1 * reference[-4]
        rows.append(passed(row, near and fell and weights < float("inf")))
    return rows


def some_losses(run: Run) -> list[float]:
    """Of steps on one and the same batch."""
    run.objective.train()
    batch, whole = next(run.batches())
    found = []
    for _ in range(STEPS):
        totals = loop.train_step(run, batch, whole)
        found.append(float(totals[0] / totals[2]))
    return found


def evaluation(job: Job) -> list[Row]:
    """Loss and accuracy on the device and on the processor."""
    run = prepared(job, "precision=float32")
    batches = [batch for _ in range(2) for batch in run.dev_batches()]
    here = [Batch(*(None if part is None else part.cpu() for part in batch)) for batch in batches]
    with exact_floats():
        there = inference.evaluate(run.net, batches)
        expected = inference.evaluate(copy.deepcopy(run.net).to(CPU), here)
    row = {"check": "evaluation", "loss": there[0], "on the processor": expected[0]}
    row |= {"accuracy": there[1]}
    near = abs(there[0] / expected[0] - 1) < 1e-4 and there[1] == expected[1]
    return [passed(row, near)]


# --- resuming


def resumed(job: Job) -> list[Row]:
    """A run stopped in the middle of an epoch and taken up again against one left alone."""
    rows = []
    for exact in (True, False):
        before = torch.backends.cudnn.deterministic
        torch.use_deterministic_algorithms(exact, warn_only=True)
        torch.backends.cudnn.deterministic = exact
        try:
            rows += resumed_rows(job, "deterministic" if exact else "as the kit trains", exact)
        finally:
            torch.use_deterministic_algorithms(False)
            torch.backends.cudnn.deterministic = before
    return rows


def resumed_rows(job: Job, how: str, exact: bool) -> list[Row]:
    folder = job.folder / how.replace(" ", "-")
    whole, again, stopped = (folder / name for name in ("whole", "again", "stopped"))
    for out in (whole, again):
        fit(job, out)
    try:
        fit(job, stopped, on_epoch=lambda history: os.kill(os.getpid(), signal.SIGTERM))
    except Interrupted as stop:
        told = str(stop)
    fit(job, stopped)
    state = learned(whole)
    rows = []
    for name, out in (("the same run twice", again), ("stopped and resumed", stopped)):
        other = learned(out)
        away = max(float((state[key] - other[key]).abs().max()) for key in state)
        same = digest(state) == digest(other)
        row = {"check": f"{name}, {how}", "bit for bit": str(same), "largest difference": away}
        rows.append(passed(row, same if exact else away < 0.1))
    return [*rows[:-1], rows[-1] | {"told": told.split(";")[0].split(" in ")[0]}]


def fit(job: Job, out: Path, on_epoch=None) -> None:
    """The smallest of trainings; what it prints is not wanted."""
    recipe = recipes.load("smoke", [*SETTINGS, "lr=0.0005"])
    training.fit(recipe, job.course(), out, str(job.device), progress=False, on_epoch=on_epoch)


def learned(out: Path) -> dict[str, torch.Tensor]:
    """The weights in a run's newest state."""
    net = Checkpoints(out).load_latest()["net"]
    return {key: value for key, value in net.items() if value.is_floating_point()}


def searched(job: Job) -> list[Row]:
    """The ten most alike of a gallery, by the device and by the processor."""
    numbers_ = torch.Generator().manual_seed(0)
    y = torch.randn(job.size(50_000, 300), job.size(512, 16), generator=numbers_)
    x = torch.randn(job.size(500, 20), y.shape[1], generator=numbers_)
    there = search.nearest(x, y, 10, job.device.type)
    here = search.nearest(x, y, 10, "cpu")
    same = float((there.places == here.places).mean())
    return [passed({"check": "search", "same places": same}, same >= 0.999)]
