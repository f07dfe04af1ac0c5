"""What only a real GPU shows of training: waits, memory, compiled code, two processes, a curve.

Parts of `gpu.py`. By itself it is one of the two processes, started by torchrun:

    gpu_training.py COURSE OUT DEVICE
"""

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from gpu_checks import SETTINGS, exact_floats, passed, prepared
from gpu_job import Job, give_back
from gpu_page import CURVE
from machine import Row, verdict

from facekit import training
from facekit.data.background import count_cores
from facekit.data.layout import CourseData
from facekit.sources import set_up
from facekit.sources.profiles import Profile
from facekit.training import loop
from facekit.training import recipe as recipes
from facekit.training.callbacks import Callback, Callbacks
from facekit.training.run import Run

STEPS = 20  # without a wait
LARGE = ["network=resnet18", "image_size=224", "batch_size=32"]  # 36 images are there
PAIR = [*SETTINGS, "precision=float32", "watch=false", "lr=0.0005"]
PAIR_SECONDS = 100
PEOPLE_A_CORE = 40  # of 26 images: half a minute of rendering on a processor
MOST_PEOPLE = 1000  # as in the profile `gpu`
RUN_SECONDS = 100  # of the real run, rendering not counted
CHANCE = 10  # times that of guessing, for a network that has learned


# --- waits


class NoWaits(Callback):
    """From the first step of an epoch to the last but one: to wait for the GPU is an error.

    At an epoch's beginning its sums are copied there, and at its end they are looked at.
    """

    steps = 0

    def after_step(self, run: Run) -> None:
        is_last = run.progress.step == run.steps
        on_a_wait(run.device, "default" if is_last else "error")
        self.steps += not is_last


def on_a_wait(device: torch.device, mode: str) -> None:
    """What torch does when the GPU is waited for: nothing by "default", or an "error"."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode(mode)


def no_waits(job: Job) -> list[Row]:
    """Twenty steps, and what fetches their batches, that never wait for the GPU."""
    run = prepared(job)
    callback = NoWaits()
    found = "none"
    _epoch(run, Callback())  # cuDNN chooses its ways, constants are copied
    try:
        while callback.steps < STEPS:
            _epoch(run, callback)
    except RuntimeError as error:
        found = f"{str(error).splitlines()[0]} in {_place(error)}"
    finally:
        on_a_wait(job.device, "default")
    row = {"check": f"{callback.steps} steps", "waits": found}
    if job.device.type != "cuda":
        row["note"] = f"{job.device.type} waits for nothing: this shows only that it runs"
    return [passed(row, found == "none")]


def _epoch(run: Run, callback: Callback) -> float:
    """An epoch from its beginning; the mean loss."""
    run.progress.step = 0
    loop.train_epoch(run, Callbacks([callback]))
    return float(run.totals[0] / run.totals[2])


def _place(error: BaseException) -> str:
    """The innermost line of the kit that an error came through."""
    place, trace = "", error.__traceback__
    while trace:
        path = Path(trace.tb_frame.f_code.co_filename)
        if "facekit" in path.parts[-3:-1]:
            place = f"{path.name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


# --- memory


def out_of_memory(job: Job) -> list[Row]:
    """A step that does not fit goes on in micro-batches, and learns what these would have."""
    settings = ["precision=float32", *(LARGE if job.device.type == "cuda" else [])]
    limit = too_little(job, settings)
    run = prepared(job, *settings)
    said = io.StringIO()
    with limited_memory(run, limit), redirect_stdout(said):
        halved = _first_gradient(run)
    parts = run.progress.micro_batches
    del run
    give_back(job)
    asked = _first_gradient(prepared(job, *settings, f"micro_batches={parts}"))
    away = float((halved - asked).norm() / asked.norm())
    row = {"check": "out of memory", "micro-batches": parts, "said": said.getvalue().strip()}
    row |= {"gradient differs from theirs by": away, "at most": 0.01}
    return [passed(row, parts > 1 and away <= 0.01 and "out of memory" in row["said"])]


def too_little(job: Job, settings: list[str]) -> float:
    """The share of the GPU's memory in which a whole batch does not fit and a half should."""
    if job.device.type != "cuda":
        return 1.0
    run = prepared(job, *settings)
    _first_gradient(run)  # in which cuDNN tries ways that take more
    torch.cuda.reset_peak_memory_stats()
    _first_gradient(run)
    most, least = torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated()
    del run
    give_back(job)
    return (least + 0.75 * (most - least)) / torch.cuda.get_device_properties(0).total_memory


def _first_gradient(run: Run) -> torch.Tensor:
    """After the first step, in one row."""
    run.objective.train()
    batch, whole = next(run.batches())
    loop.train_step(run, batch, whole)
    return torch.cat([p.grad.flatten().float().cpu() for p in run.objective.parameters()])


@contextmanager
def limited_memory(run: Run, share: float) -> Iterator[None]:
    """Inside, torch gets this share of the GPU's memory; on a processor one step pretends."""
    if run.device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(share)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return
    forward = run.forward

    def fail(*_: object) -> None:
        run.forward = forward
        raise torch.OutOfMemoryError("out of memory (pretended)")

    run.forward = fail
    yield


# --- compiled epochs


class Graphs:
    """A backend of torch.compile that counts what another one compiles."""

    def __init__(self, backend: str) -> None:
        self.compile = torch._dynamo.lookup_backend(backend)
        self.all = 0
        self.dynamic = 0  # for batches of any size, which is slower code

    def __call__(self, graph: torch.fx.GraphModule, inputs: list) -> Callable:
        self.all += 1
        self.dynamic += any(isinstance(value, torch.SymInt) for value in inputs)
        return self.compile(graph, inputs)


def compiled_epochs(job: Job) -> list[Row]:
    """Two epochs with a short last batch: one graph for each size, none anew, and eager losses."""
    settings = ["precision=float32", "lr=0.0005"]
    graphs = Graphs("eager" if job.tiny else "inductor")
    torch._dynamo.reset()
    rows: list[Row] = []
    with exact_floats():
        plain = prepared(job, *settings)
        with patch.object(torch, "compile", partial(torch.compile, backend=graphs)):
            run = prepared(job, *settings, "compile=yes")
        graphs.all = 0  # without the kit's trial, whether it can compile
        for number in (1, 2):
            expected = _epoch(plain, Callback())
            began = time.perf_counter()
            loss = _epoch(run, Callback())
            row = {"check": f"compiled, epoch {number}", "seconds": time.perf_counter() - began}
            row |= {"graphs": graphs.all, "sizes of a batch": 2, "dynamic": graphs.dynamic}
            row |= {"loss": loss, "of the plain one": expected, "within": 1e-3}
            near = abs(loss / expected - 1) <= 1e-3
            rows.append(passed(row, near and (graphs.all, graphs.dynamic) == (2, 0)))
    return rows


# --- two processes on one GPU


def two_processes(job: Job) -> list[Row]:
    """A training by two processes that share the first GPU against one with the same batches."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    try:
        pair = losses_of(job, "pair", torchrun)
        one = losses_of(job, "one", [], "micro_batches=2")
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "rror:" in line]
        ended = (lines or error.stderr.splitlines() or ["without a word"])[0][:300]
        return [passed({"check": "two processes", "ended": ended}, False)]
    rows = []
    for mine, theirs in zip(one, pair, strict=True):
        row = {"check": "two processes", "loss": theirs, "of one process": mine, "within": 1e-3}
        rows.append(passed(row, abs(theirs / mine - 1) <= 1e-3))
    return rows


def losses_of(job: Job, name: str, launcher: list[str], *changes: str) -> list[float]:
    """Of each epoch of a training in processes of its own."""
    out = job.folder / name
    words = [__file__, str(job.course().root), str(out), job.device.type, *changes]
    path = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    there = {
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0],
    }
    subprocess.run(
        [sys.executable, *launcher, *words], env=os.environ | there,
        check=True, capture_output=True, text=True, timeout=PAIR_SECONDS,
    )  # fmt: skip
    rows = training.Checkpoints(out).load_latest()["progress"]["rows"]
    return [row["train_loss"] for row in rows]


def train(course: str, out: str, device: str, *changes: str) -> None:
    """What one of the processes does."""
    recipe = recipes.load("smoke", [*PAIR, *changes])
    # On GPUs the kit gives each process its own, or the first one to all.
    training.fit(recipe, course, out, None if device == "cuda" else device, progress=False)


# --- a real run


def real_run(job: Job) -> list[Row]:
    """Rendered people learned from nothing, in as many epochs as the minutes leave."""
    began = time.monotonic()
    course = faces_course(job)
    images = sum(len(getattr(course, part)) for part in ("train", "dev", "test"))
    row: Row = {
        "people": len(course.classes),
        "images/s rendered": images / (time.monotonic() - began),
    }
    seconds = [row["seconds"] for row in learn(job, course, 2)]
    each = seconds[1] - seconds[0]
    left = min(RUN_SECONDS, job.left - 10) - seconds[1]
    curve = learn(job, course, job.size(max(2, min(40, int(0.8 * left / each))), 2))
    job.report.table(CURVE, curve)
    best = max(row["dev accuracy"] for row in curve)
    row |= {"epochs": len(curve), "seconds": curve[-1]["seconds"], "best dev accuracy": best}
    row |= {"images/s": len(course.train) * len(curve) / curve[-1]["seconds"]}
    if not job.tiny:
        row |= verdict(best * len(course.classes), CHANCE)
    return [row]


def faces_course(job: Job) -> CourseData:
    """As many rendered people as this machine's cores make in half a minute."""
    people = job.size(min(MOST_PEOPLE, PEOPLE_A_CORE * count_cores()), 3)
    profile = Profile("curve", people, 20, 5, 1, 9, 9, 18, pixels=job.size(112, 32))
    return set_up("synthetic", profile, job.folder / "faces", progress=False)


def learn(job: Job, course: CourseData, epochs: int) -> list[Row]:
    """Train the recipe `gpu` (a smaller one for toy sizes): a row for each epoch."""
    settings = [f"epochs={epochs}", f"warmup_epochs={min(3, epochs / 4)}", "patience=0"]
    settings += ["watch=false"]
    recipe = recipes.load("smoke" if job.tiny else "gpu", settings)
    rows: list[Row] = []
    began = time.monotonic()

    def note(history: training.History) -> None:
        accuracy = history.rows[-1]["dev_accuracy"]
        rows.append({"seconds": time.monotonic() - began, "dev accuracy": accuracy})

    out = job.folder / f"{epochs} epochs {time.monotonic()}"
    training.fit(recipe, course, out, str(job.device), progress=False, on_epoch=note)
    return rows


if __name__ == "__main__":
    train(*sys.argv[1:])
