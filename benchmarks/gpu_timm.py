"""timm's training loop beside the kit's: the same ResNet-18, files, changes, batch and size.

timm as its train.py runs: its loader (ImageFolder, PIL, RandomResizedCrop, flip, colour jitter) in
processes that read ahead, its ResNet-18 and AdamW, AMP and --channels-last.
"""

from collections.abc import Callable

import torch
from gpu_job import Job
from gpu_speed import loop_epoch
from gpu_training import faces_course
from machine import AGAIN, Row, compare, time_rounds

from facekit.common import machine
from facekit.data.background import count_cores
from facekit.data.layout import CourseData
from facekit.data.transforms import MEAN, STD
from facekit.training import recipe as recipes
from facekit.training.run import Run

CHANGES = ["rotation=0", "grey=0", "erasing=0", "crop_scale=0.6", "jitter=0.3", "flip=0.5"]
CHANGES = [f"augment.{change}" for change in CHANGES]
CHANGES += ["network=resnet18", "optimizer=adamw", "lr=0.001", "label_smoothing=0.1"]
CPU = torch.device("cpu")
TIMM, KIT = "timm's loop", "the kit's loop"


def timm_loader(data: CourseData, size: int, batch: int, device: torch.device, workers: int):
    """The loader of timm's script for the same changes."""
    from timm.data import create_dataset, create_loader

    return create_loader(
        create_dataset("", str(data.train.folder), split=""),
        input_size=(3, size, size),
        batch_size=batch,
        is_training=True,
        use_prefetcher=device.type == "cuda",  # it copies and normalises beside the steps
        device=device,
        scale=(0.6, 1.0),
        ratio=(0.85, 1.18),
        hflip=0.5,
        color_jitter=0.3,
        interpolation="bilinear",
        mean=MEAN,
        std=STD,
        num_workers=workers,
        persistent_workers=True,
    )


def timm_epoch(
    data: CourseData,
    size: int,
    batch: int,
    precision: torch.dtype,
    last: bool,
    device: torch.device = CPU,
    workers: int = 1,
) -> Callable[[], None]:
    """An epoch as timm's train.py goes through it; the function takes one when called."""
    import timm
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2

    order = torch.channels_last if last else torch.contiguous_format
    net = timm.create_model("resnet18", num_classes=len(data.classes))
    net.to(device, memory_format=order)
    optimizer = create_optimizer_v2(net, opt="adamw", lr=1e-3, weight_decay=0.05)
    loader = timm_loader(data, size, batch, device, workers)
    loss_of = LabelSmoothingCrossEntropy(0.1)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    lower = precision != torch.float32

    def epoch() -> None:
        net.train()
        for images, labels in loader:
            images = images.contiguous(memory_format=order)
            with torch.autocast(device.type, precision if lower else None, enabled=lower):
                loss = loss_of(net(images), labels)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

    return epoch


def loops(job: Job) -> list[Row]:
    """Whole epochs over the rendered people of the real run; decoding them is not counted."""
    course = faces_course(job)
    size, batch = job.size(112, 32), job.size(256, 4)
    changes = [*CHANGES, f"image_size={size}", f"batch_size={batch}", "compile=no"]
    recipe = recipes.load("gpu", [*changes, "epochs=1000", "watch=false"])
    run = Run(recipe, course, job.folder / "race", job.device)
    run.prepare()
    variants = {KIT: lambda: loop_epoch(run), KIT + AGAIN: lambda: loop_epoch(run)}
    base = KIT
    try:
        precision = machine.precision(job.device).value
        workers = job.size(count_cores(), 1)
        timms = timm_epoch(course, size, batch, precision, True, job.device, workers)
        variants, base = {TIMM: timms, **variants}, TIMM
    except ImportError as error:
        job.report.note(f"{TIMM}: {type(error).__name__}: {error}")
    taken = time_rounds(variants, job.size(3, 1), job.device)
    return compare(taken, base, len(course.train) // batch * batch)  # timm leaves out the last few
