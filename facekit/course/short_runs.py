"""Short runs of a tiny network on few people: what is augmentation worth? Built in notebook 02."""

from functools import partial

import pandas as pd
import torch
from torch import nn

from facekit import models
from facekit.common import machine
from facekit.data import Augment, CourseData, Loader, Preprocess
from facekit.data.layout import ImageSet

SIDE = 48
BATCH = 32


def short_run(
    course: CourseData, augment: Augment, people: int = 40, epochs: int = 30
) -> pd.DataFrame:
    """Train on the first people of the course, anew; the accuracies after every epoch.

    Columns: train and dev, both of unchanged images, and upside down: dev images turned on their
    heads. First weights, order of images and rates are the same whatever `augment` is.
    """
    people = min(people, len(course.classes))
    make = partial(_loader, people)
    loader, seen, dev = make(course.train, augment), make(course.train), make(course.dev)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = models.build("tiny", people).to(loader.device)
    optimizer = torch.optim.AdamW(net.parameters())
    steps = epochs * -(-len(loader.paths) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    rows = []
    for epoch in range(epochs):
        _train_epoch(net, loader, optimizer, schedule, epoch)
        rows.append(
            {
                "train": _accuracy(net, seen),
                "dev": _accuracy(net, dev),
                "upside down": _accuracy(net, dev, turned=True),
            }
        )
    return pd.DataFrame(rows, index=pd.RangeIndex(1, epochs + 1, name="epoch"))


def _loader(people: int, images: ImageSet, augment: Augment | None = None) -> Loader:
    """Images of the first people alone."""
    rows = [row for row, label in enumerate(images.labels) if label < people]
    paths, labels = ([part[row] for row in rows] for part in (images.paths, images.labels))
    return Loader(paths, labels, Preprocess(SIDE), machine.device().value, augment=augment)


def _train_epoch(net, loader, optimizer, schedule, epoch: int) -> None:
    """One step for each batch, in an order that depends on the epoch alone."""
    order = torch.randperm(len(loader.paths), generator=torch.Generator().manual_seed(epoch))
    net.train()
    for batch in loader.batches([(epoch, row) for row in part] for part in _parts(order)):
        loss = nn.functional.cross_entropy(net(batch.images), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _parts(order: torch.Tensor) -> list[list[int]]:
    return [part.tolist() for part in order.split(BATCH)]


@torch.no_grad()
def _accuracy(net: nn.Module, loader: Loader, turned: bool = False) -> float:
    net.eval()
    right = 0
    for images, labels, *_ in loader.in_order(4 * BATCH):  # (B, 3, H, W), (B,)
        images = images.flip(2) if turned else images
        right += int((net(images).argmax(1) == labels).sum())
    return right / len(loader.paths)
