"""How fast a GPU trains, and how near to its limits: the parts of `gpu.py` with figures.

The byte model of a training step, for convolution, batch norm and activation: each output of a
convolution is written or read 14 times (forward: the convolution writes; the norm's statistics
read; the norm reads and writes; the next convolution reads; backward: 9), in 2 bytes each. So
measured bandwidth / (28 bytes x outputs) bounds the images a second; fusing may go beyond.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import torch
from gpu_job import CLASSES, DEV_IMAGES, IMAGES, Job, give_back, of_bandwidth
from machine import AGAIN, Row, Taken, compare, progress, time_rounds, wait
from PIL import Image
from torch import nn
from torch.nn import functional as F
from traffic import bytes_moved

from facekit.common import machine
from facekit.common.machine import Choice
from facekit.data import transforms_gpu
from facekit.data.layout import ImageSet
from facekit.data.loader import Batch, Loader
from facekit.data.pixels import OnGpu, Pixels
from facekit.data.transform_params import sample_params
from facekit.data.transforms import Augment, Preprocess
from facekit.evaluation import inference, search
from facekit.training import loop
from facekit.training import recipe as recipes
from facekit.training.callbacks import Callbacks, Guards
from facekit.training.optim import build_optimizer
from facekit.training.run import Run, build_objective

BYTES = 14 * 2  # that a training step moves for each output of a convolution
OURS = ("row12", "medium", "large", "resnet18")
TIMMS = ("resnet18", "mobilenetv2_100")
BASE = "resnet18"
ROUNDS = 7
TURN = 0.25  # seconds that a variant takes in a round, about


# --- ceilings


def ceilings(job: Job) -> list[Row]:
    """Copying and matrix products: what the other figures are measured against."""
    rows = [copying(job), uploading(job)]
    side = job.size(8192, 128)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        left, right = (torch.randn(side, side, device=job.device, dtype=dtype) for _ in range(2))
        seconds = least(job, partial(torch.matmul, left, right))
        rows.append({"ceiling": f"products of {dtype}", "TFLOP/s": 2 * side**3 / seconds / 1e12})
        job.facts[dtype] = rows[-1]["TFLOP/s"] * 1e12
    return rows


def copying(job: Job) -> Row:
    size = job.size(1 << 30, 1 << 22)
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=job.device)
    target = torch.empty_like(source)
    job.facts["bandwidth"] = 2 * size / least(job, lambda: target.copy_(source))
    return {"ceiling": "copy on the device, read and write", "GB/s": job.facts["bandwidth"] / 1e9}


def uploading(job: Job) -> Row:
    size = job.size(1 << 28, 1 << 22)
    source = torch.ones(size, dtype=torch.uint8)
    source = source.pin_memory() if job.device.type == "cuda" else source
    target = torch.empty(size, dtype=torch.uint8, device=job.device)
    seconds = least(job, lambda: target.copy_(source, non_blocking=True))
    return {"ceiling": "copy from pinned memory", "GB/s": size / seconds / 1e9}


def least(job: Job, work: Callable[[], object], tries: int = 20) -> float:
    """Seconds of the fastest try."""
    taken = time_rounds({"": work}, tries, job.device, warm_up=3)[""]
    return min(taken.wall)


# --- training steps


def conv_outputs(net: nn.Module, size: int, device: torch.device) -> tuple[int, int]:
    """Of one picture: numbers that convolutions put out, and their multiply-adds."""
    outputs = multiply_adds = 0

    def count(conv: nn.Conv2d, _, out: torch.Tensor) -> None:
        nonlocal outputs, multiply_adds
        outputs += out.numel()
        multiply_adds += out.numel() * conv.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, nn.Conv2d)]
    training = net.training
    with torch.no_grad():
        net.eval()(torch.zeros(1, 3, size, size, device=device))
    net.train(training)
    for hook in hooks:
        hook.remove()
    return outputs, multiply_adds


class Step:
    """A network on a random batch; a call takes so many steps that they last about TURN."""

    def __init__(self, job: Job, net: nn.Module, size: int, batch: int) -> None:
        self.device, self.net, self.batch, self.turns = job.device, net, batch, 1
        self.outputs, self.multiply_adds = conv_outputs(net, size, job.device)
        images = torch.randn(batch, 3, size, size, device=job.device)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(CLASSES, (batch,), device=job.device)
        self.precision = machine.precision(job.device).value
        self.scaler = torch.amp.GradScaler(job.device.type, enabled=self.precision == torch.float16)

    def loss(self) -> torch.Tensor:
        raise NotImplementedError

    def once(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(self.loss()).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def settle(self, tiny: bool) -> None:
        """Warm up, and find out how many steps fill a turn."""
        for _ in range(1 if tiny else 3):
            self.once()
        wait(self.device)
        began = time.perf_counter()
        self.once()
        wait(self.device)
        self.turns = 1 if tiny else max(1, round(TURN / (time.perf_counter() - began)))

    def __call__(self) -> None:
        for _ in range(self.turns):
            self.once()


class KitStep(Step):
    """As the kit trains."""

    def __init__(self, job: Job, name: str, size: int, batch: int, compiled=False) -> None:
        recipe = recipes.load("high", [f"network={name}"])
        precision = machine.precision(job.device).value
        objective = build_objective(recipe, CLASSES, precision)
        objective.to(job.device, memory_format=torch.channels_last)
        super().__init__(job, objective.network, size, batch)
        self.optimizer = build_optimizer(objective, recipe)
        backend = "eager" if job.tiny else "inductor"
        self.forward = torch.compile(objective, backend=backend) if compiled else objective

    def loss(self) -> torch.Tensor:
        return self.forward(self.images, self.labels)[0]


class TimmStep(Step):
    """As timm's training script does it: its network and optimiser, AMP, channels_last."""

    def __init__(self, job: Job, name: str, size: int, batch: int) -> None:
        import timm
        from timm.optim import create_optimizer_v2

        net = timm.create_model(name, num_classes=CLASSES)
        net.to(job.device, memory_format=torch.channels_last)
        super().__init__(job, net, size, batch)
        self.optimizer = create_optimizer_v2(net, opt="adamw", lr=2e-3, weight_decay=0.05)

    def loss(self) -> torch.Tensor:
        lower = self.precision != torch.float32
        with torch.autocast(self.device.type, self.precision if lower else None, enabled=lower):
            return F.cross_entropy(self.net(self.images), self.labels, label_smoothing=0.1)


Builders = Mapping[str, Callable[[int], Step]]


def built(job: Job, builders: Builders, batch: int) -> Iterator[tuple[str, Step]]:
    """Each step, warm, with half of the batch where it does not fit; notes those that fail."""
    for name, build in builders.items():
        for count in (batch, batch // 2, batch // 4):
            try:
                step = build(count)
                step.settle(job.tiny)
                yield name, step
                break
            except Exception as error:  # the other networks are wanted all the same
                first = str(error).splitlines()[0]
                job.report.note(f"{name}, {count} pictures: {type(error).__name__}: {first}")
                if "out of memory" not in first:
                    break
            step = None


def steps(job: Job, size: int) -> list[Row]:
    """The kit's step of each network, timm's, and per cent of what the memory allows."""
    batch = job.size(512 if size <= 112 else 256, 2)
    pixels = size if not job.tiny else 64
    builders: dict[str, Callable] = {
        name: partial(KitStep, job, name, pixels) for name in OURS[: job.size(9, 2)]
    }
    builders |= {BASE: partial(KitStep, job, BASE, pixels)}
    builders[BASE + AGAIN] = builders[BASE]
    for name in TIMMS:
        builders[f"timm's {name}"] = partial(TimmStep, job, name, pixels)
    return timed(job, dict(built(job, builders, batch)), BASE)


def compiled(job: Job, size: int) -> list[Row]:
    """The same network as it is and compiled, as far as the time goes."""
    batch = job.size(512 if size <= 112 else 256, 2)
    pixels, rows = (size if not job.tiny else 64), []
    for name in ("row12", "medium", "resnet18") if not job.tiny else ("tiny",):
        if job.left < job.size(35, 1):
            job.report.note(f"{name} at {size}: not compiled, {job.left:.0f} s left")
            continue
        progress(f"compiling {name}, {job.left:.0f} s left")
        builders = {
            name: partial(KitStep, job, name, pixels),
            name + AGAIN: partial(KitStep, job, name, pixels),
            f"{name}, compiled": partial(KitStep, job, name, pixels, compiled=True),
        }
        began = time.monotonic()
        made = dict(built(job, builders, batch))
        job.report.note(
            f"{name} at {size}: {time.monotonic() - began:.0f} s to compile and warm up"
        )
        rows += timed(job, made, name)
    return rows


def timed(job: Job, made: Mapping[str, Step], base: str) -> list[Row]:
    """Rounds over the steps; a row for each with its share of the two ceilings."""
    taken = time_rounds(made, job.size(ROUNDS, 1), job.device, warm_up=job.size(1, 0))
    images = {name: step.batch * step.turns for name, step in made.items()}
    rows = []
    for row in compare(taken, base, images):
        step = made[row["variant"]]
        row |= {"batch": step.batch, "G multiply-adds": step.multiply_adds / 1e9}
        row |= of_bandwidth(job, BYTES * step.outputs, row["images/s"])
        if step.precision in job.facts:
            work = 6 * step.multiply_adds * row["images/s"]
            row["% of products"] = 100 * work / job.facts[step.precision]
        rows.append(row)
    return rows


# --- pictures that lie on the device


class RandomLoader(Loader):
    """Random images that lie on the device: loaded as fast as real ones, and soon made."""

    def __init__(self, job: Job, count: int, size: int, augment: Augment | None) -> None:
        path = job.folder / "picture.png"
        Image.new("RGB", (224, 224)).save(path)
        labels = [index % CLASSES for index in range(count)]
        with patch("facekit.data.loader.open_pixels", random_pixels):
            super().__init__([path] * count, labels, Preprocess(size), job.device,
                             augment=augment)  # fmt: skip


def random_pixels(paths: list[Path], side: int, device: torch.device, _) -> Pixels:
    images = torch.empty((len(paths), side, side, 3), dtype=torch.uint8, device=device)
    for part in images.split(1024):
        part.random_(0, 256)
    return Pixels(OnGpu(images), Choice("gpu", "asked for"), "random", {})


def augmentation(job: Job) -> list[Row]:
    """Batches of augmented pictures alone: as the loader makes them, and its two halves."""
    rows = augmentation_rows(job, "default", Augment())
    return rows + augmentation_rows(job, "everything", EVERYTHING)


def augmentation_rows(job: Job, title: str, augment: Augment) -> list[Row]:
    size, batch, turns = job.size(112, 32), job.size(256, 4), job.size(10, 2)
    loader = RandomLoader(job, job.size(20_000, 16), size, augment)
    count = len(loader.paths)
    keys = [[(1, (turn * batch + i) % count) for i in range(batch)] for turn in range(turns)]
    look = loader.preprocess
    params = sample_params(augment, look, loader.side, 0, keys[0])
    stored = torch.randint(256, (batch, loader.side, loader.side, 3), device=job.device).byte()
    whole = f"{title}: from the loader"
    variants = {
        whole: lambda: consume(loader.batches(keys)),
        whole + AGAIN: lambda: consume(loader.batches(keys)),
        f"{title}: changes drawn": lambda: consume(
            sample_params(augment, look, loader.side, 0, some) for some in keys
        ),
        f"{title}: carried out": lambda: consume(
            transforms_gpu.apply(stored, params, look) for _ in keys
        ),
    }
    taken = time_rounds(variants, job.size(ROUNDS, 1), job.device)
    rows = compare(taken, whole, batch * turns)
    moved = bytes_moved(lambda: transforms_gpu.apply(stored, params, look), batch)
    return [row | of_bandwidth(job, moved, row["images/s"]) for row in rows]


EVERYTHING = Augment(shift=0.1, shear=5, random_steps=2, blur=0.3, mixup=0.2, cutmix=0.2)


def consume(things: Iterator) -> None:
    for _ in things:
        pass


# --- epochs


class ShortRun(Run):
    """A run of the homework's size that ends its epochs after a few steps."""

    length = 0

    def sampler(self, epoch: int, skip: int = 0) -> list:
        return list(itertools.islice(super().sampler(epoch), skip, self.length))


def epochs(job: Job) -> list[Row]:
    """The epoch of 140,020 pictures, from some steps of it, and the judging of 35,005."""
    rows: list[Row] = []
    whole = [("medium", 112), ("large", 224)]
    for name, size in whole if not job.tiny else [("small", 32)]:
        if job.left < job.size(15, 1):
            job.report.note(f"epoch of {name} at {size}: skipped, {job.left:.0f} s left")
            continue
        progress(f"epoch of {name} at {size}")
        rows += epoch_rows(job, name, size)
    return rows


def epoch_rows(job: Job, name: str, size: int) -> list[Row]:
    batch, length = job.size(256, 4), job.size(120 if size <= 112 else 40, 3)
    run = short_run(job, name, size, batch, length)
    batches = [batch for batch, _ in itertools.islice(run.batches(), job.size(8, 2))]
    variants = {
        "loop": lambda: loop_epoch(run),
        "bare": lambda: bare_epoch(run, batches, length),
        "bare" + AGAIN: lambda: bare_epoch(run, batches, length),
    }
    taken = time_rounds(variants, job.size(ROUNDS, 1), job.device)
    rows = compare(taken, "bare", batch * length)
    judged = judge_speed(job, run)
    outputs, _ = conv_outputs(run.net, run.recipe.image_size, job.device)
    for row in rows:
        row["variant"] = f"{name} at {size}: {row['variant']}"
        row |= of_bandwidth(job, BYTES * outputs, row["images/s"])
    rows[0]["epoch of 140,020, s (extrapolated)"] = IMAGES / rows[0]["images/s"]
    rows[0] |= {"batch": batch, "judged/s": judged, "judging 35,005, s": DEV_IMAGES / judged}
    rows[0]["pictures on the device"] = len(run.loader.paths)
    return rows


def short_run(job: Job, name: str, size: int, batch: int, length: int) -> ShortRun:
    """As many random pictures on the device as 0.4 of the free memory holds."""
    side = round(size * 8 / 7)
    give_back(job)
    free = torch.cuda.mem_get_info()[0] if job.device.type == "cuda" else 1 << 24
    count = min(job.size(IMAGES, 64), int(0.4 * free / (3 * side**2)))
    pictures = ImageSet(job.folder, (job.folder / "picture.png",) * count, (0,) * count)
    data = SimpleNamespace(train=pictures, dev=pictures, classes=list(map(str, range(CLASSES))))
    data.root, data.term = job.folder, SimpleNamespace(max_parameters=None, name="F23")
    changes = [f"network={name}", f"image_size={size}", f"batch_size={batch}", "compile=no"]
    ShortRun.length = length
    run = ShortRun(recipes.load("high", changes), data, job.folder / "short", job.device)
    run.loader = RandomLoader(job, count, size, run.recipe.augment)
    return run


def loop_epoch(run: Run) -> None:
    """An epoch as `fit` goes through it."""
    run.progress.step, run.progress.totals = 0, [0.0, 0.0, 0.0]
    loop.train_epoch(run, Callbacks([Guards(run)]))
    run.progress.epoch += 1
    run.progress.step = 0


def bare_epoch(run: Run, batches: list[Batch], length: int) -> None:
    """As many steps on batches that are there already: forward, backward, optimiser."""
    run.objective.train()
    for batch in itertools.islice(itertools.cycle(batches), length):
        run.optimizer.zero_grad(set_to_none=True)
        loss, _ = run.forward(*batch)
        run.scaler.scale(loss).backward()
        run.scaler.step(run.optimizer)
        run.scaler.update()


def judge_speed(job: Job, run: Run) -> float:
    """Images a second of the evaluation, seen from both sides."""
    dev = RandomLoader(job, job.size(8192, 8), run.recipe.image_size, None)
    size = 2 * run.recipe.batch_size
    judge = partial(inference.evaluate, run.eval_model)
    work = {"": lambda: judge(dev.in_order(size), run.precision.value)}
    taken: dict[str, Taken] = time_rounds(work, job.size(3, 1), job.device)
    return len(dev.paths) / min(taken[""].wall)


# --- a gallery of a million


def gallery(job: Job) -> list[Row]:
    """The ten most alike of a million vectors, beside the bare products of the same blocks."""
    rows, dim, probes = job.size(1_000_000, 3000), job.size(512, 16), job.size(10_000, 50)
    y = F.normalize(torch.randn(rows, dim, device=job.device))
    x = F.normalize(torch.randn(probes, dim, device=job.device))
    ways = {
        "products alone": lambda: products(x, y),
        "nearest, gallery on the device": lambda: search.nearest(x, y, 10, job.device.type),
    }
    taken = time_rounds(ways, job.size(ROUNDS, 1), job.device)
    found = compare(taken, "products alone", probes)
    for row in found:
        row["TFLOP/s"] = row["images/s"] * 2 * rows * dim / 1e12
        if torch.float32 in job.facts:
            row["% of products"] = 1e14 * row["TFLOP/s"] / job.facts[torch.float32]
        row["probes/s"] = row.pop("images/s")
    return found


def products(x: torch.Tensor, y: torch.Tensor) -> None:
    for block in y.split(search.BLOCK):
        for part in x.split(search.PROBES):
            part @ block.T
