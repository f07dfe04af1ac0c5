"""Short runs without a folder: what is augmentation worth, another loss, more images?

Built in notebooks 02, 05 and 09.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from facekit import models
from facekit.common import machine
from facekit.data import Augment, CourseData, Loader, Preprocess
from facekit.data.layout import ImageSet
from facekit.evaluation.embed import TrainedRun, class_means
from facekit.models import heads, losses

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
    rows = []
    steps = epochs * _steps_of(loader.paths)
    for _ in _epochs(losses.Objective(net), loader, steps, max_lr=4e-3):
        rows.append(
            {
                "train": _accuracy(net, seen),
                "dev": _accuracy(net, dev),
                "upside down": _accuracy(net, dev, turned=True),
            }
        )
    return pd.DataFrame(rows, index=pd.RangeIndex(1, epochs + 1, name="epoch"))


def continued(
    run: TrainedRun,
    course: CourseData,
    head: str,
    augment: Augment,
    epochs: int = 4,
    more: ImageSet | None = None,
) -> TrainedRun:
    """The network of a run, trained on for a few epochs on all people; the run stays as it is.

    `head` "linear" goes on with the run's own class vectors; any other head begins with the mean
    embeddings of the people. The images come in the same order whatever the head. `more` images of
    the same people stand among the course's; the steps are as many as without.
    """
    net = copy.deepcopy(run.net)
    if head != "linear":
        means = torch.from_numpy(class_means(run, course))  # (C, D)
        net.head = heads.build(head, means.shape[1], len(means))
        net.head.start_from_means(means)
    paths, labels = course.train.paths, course.train.labels
    steps = epochs * _steps_of(paths)
    if more is not None:
        paths, labels = paths + more.paths, labels + more.labels
    loader = Loader(paths, labels, run.preprocess, run.device, augment=augment)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of dropout
        for _ in _epochs(losses.Objective(net.to(run.device)), loader, steps, max_lr=5e-4):
            pass
    return replace(run, net=net.eval())


def _loader(people: int, images: ImageSet, augment: Augment | None = None) -> Loader:
    """Images of the first people alone."""
    rows = [row for row, label in enumerate(images.labels) if label < people]
    paths, labels = ([part[row] for row in rows] for part in (images.paths, images.labels))
    return Loader(paths, labels, Preprocess(SIDE), machine.device().value, augment=augment)


def _steps_of(paths: Sequence[Path]) -> int:
    """Batches of an epoch; the last one may be smaller."""
    return math.ceil(len(paths) / BATCH)


def _epochs(
    objective: losses.Objective, loader: Loader, steps: int, max_lr: float
) -> Iterator[None]:
    """Train, one step for each batch; stops after each epoch, to be judged, and after the last."""
    optimizer = torch.optim.AdamW(objective.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr, total_steps=steps)
    each = _steps_of(loader.paths)
    for epoch in range(math.ceil(steps / each)):
        order = torch.randperm(len(loader.paths), generator=torch.Generator().manual_seed(epoch))
        parts = [[(epoch, row) for row in part.tolist()] for part in order.split(BATCH)]
        objective.train()
        for batch in loader.batches(parts[: steps - epoch * each]):
            loss, _ = objective(batch.images, batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        yield


@torch.no_grad()
def _accuracy(net: nn.Module, loader: Loader, turned: bool = False) -> float:
    net.eval()
    right = 0
    for images, labels, *_ in loader.in_order(4 * BATCH):  # (B, 3, H, W), (B,)
        images = images.flip(2) if turned else images
        right += int((net(images).argmax(1) == labels).sum())
    return right / len(loader.paths)
