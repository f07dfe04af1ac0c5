"""Who takes part in peers.py, and how each is trained: the kit's recipes, timm's parts, and others.

Each trainer gives a `Trained`: the network of the epoch with the best dev accuracy, which answers
for images and their mirror images, whoever trained it.
"""

import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from table import PUBLISHED
from torch import nn

from facekit import training
from facekit.common import machine
from facekit.course import ablations
from facekit.data.images import read_rgb
from facekit.data.layout import CourseData
from facekit.evaluation import embed as predict
from facekit.models.numerics import without_autocast
from facekit.training import recipe as recipes
from facekit.training.callbacks import Callback
from facekit.training.recipe import Recipe
from facekit.training.run import Run

CPU = torch.device("cpu")
BATCH = 128  # images that are judged at a time
PLAIN = "augment.crop_scale=1 augment.flip=0 augment.rotation=0 augment.jitter=0 augment.grey=0"
PLAIN += " augment.erasing=0"
# What the homework's starter gives: no schedule, and pixels from 0 to 1 as they are.
# Its strides multiply to 64, so its images have 64 pixels.
STARTER = "laptop network=starter image_size=64 batch_size=64 images_per_class=0 auxiliary_loss="
STARTER += " optimizer=sgd lr=0.1 weight_decay=1e-4 schedule=constant warmup_epochs=0"
STARTER += f" label_smoothing=0 pixel_mean=[0,0,0] pixel_std=[1,1,1] {PLAIN}"
# The recipe of version 0.5, whose time all have, and whose changes take part.
LAPTOP_05 = Path(__file__).parent / "recipes/laptop-0.5.toml"
BEFORE = shlex.quote(str(LAPTOP_05))
ARCFACE = f"{BEFORE} images_per_class=0 auxiliary_loss= label_smoothing=0"
OURS = "ours"
PACE = "ours of 0.5"
ROW12 = "row 12"


class Trained(NamedTuple):
    """A network after training, for images by their paths."""

    dev: float  # the best dev accuracy
    classify: Callable[[Sequence[Path]], np.ndarray]  # -> (N,)
    embed: Callable[[Sequence[Path]], np.ndarray]  # -> (N, D)


class Clock(Callback):
    """CPU seconds of this process at the end of each epoch, dev images judged."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.start()

    def start(self) -> None:
        """Again, once a trainer has imported what it needs."""
        self.began = time.process_time()

    def tick(self) -> None:
        self.ends.append(time.process_time() - self.began)

    def after_epoch(self, run: Run, row: dict) -> None:
        self.tick()


Trainer = Callable[[CourseData, int, int, Path, Clock], Trained]  # data, epochs, seed, folder


# --- by the kit's loop


def train_recipe(
    recipe: Recipe, head: type | None, data: CourseData, folder: Path, clock: Clock
) -> Trained:
    """A recipe of the kit, with another head if one is given."""
    history = training.fit(
        recipe, data, folder, "cpu", progress=False, head=head, callbacks=[clock]
    )
    run = predict.load_run(folder, "cpu", [head] if head else [])
    dev = history.best["dev_accuracy"]
    return Trained(dev, partial(predict.classify, run), partial(predict.embed, run))


def kit(text: str, head: Callable[[], type] | None = None) -> Trainer:
    """A recipe's name and changes to it. Every run lasts to its end, whatever it learns."""

    def train(data: CourseData, epochs: int, seed: int, folder: Path, clock: Clock) -> Trained:
        name, *changes = shlex.split(text)
        changes += [f"epochs={epochs}", f"seed={seed}", "watch=false", "patience=0"]
        own = head() if head else None
        clock.start()
        return train_recipe(recipes.load(name, changes), own, data, folder, clock)

    return train


def row12(data: CourseData, epochs: int, seed: int, folder: Path, clock: Clock) -> Trained:
    """The published table's last row as it is, its restarts scaled with the epochs."""
    share = epochs / PUBLISHED["row12"].epochs
    scale = ablations.Scale(share, 1, 64, 32, ("row12",))  # its strides multiply to 64
    changes = [f"seed={seed}", "patience=0"]
    recipe = ablations.recipe("row12", scale, changes, ablations.colours_of(data))
    return train_recipe(recipe, None, data, folder, clock)


def arcface_head(margin: float, scale: float) -> type:
    """pytorch-metric-learning's ArcFace loss, up to its cross-entropy, as a head of the kit."""
    from pytorch_metric_learning.losses import ArcFaceLoss

    class MetricLearningArcFace(nn.Module):
        def __init__(self, dim: int, num_classes: int) -> None:
            super().__init__()
            self.loss = ArcFaceLoss(num_classes, dim, margin=margin, scale=scale)

        def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
            """Embeddings (B, D), labels (B,) -> logits (B, C); without labels no margin."""
            loss, of = self.loss, self.loss.distance
            with without_autocast(x):  # in float32, as the kit's own heads
                # What get_cosine does; that calls a module with a parameter, which torch cannot
                # count the multiply-adds of.
                cosine = of.compute_mat(of.normalize(x.float()), of.normalize(loss.W.t()))
                if labels is not None:
                    rows = torch.arange(len(labels))
                    own = loss.modify_cosine_of_target_classes(cosine[rows, labels])
                    cosine = cosine.index_put((rows, labels), own)
                return loss.scale_logits(cosine)

    return MetricLearningArcFace


# --- by timm's parts


def timm_net(model: str, rate: float, crop: float = 0.08) -> Trainer:
    """As timm's train.py does by its flags for training from scratch on the processor.

    --opt adamw --weight-decay 0.05 --sched cosine --warmup-epochs 5 (a tenth, of few) --aa
    rand-m7-mstd0.5-inc1 --reprob 0.25 --smoothing 0.1 --model-ema --model-ema-warmup
    --channels-last, and --amp --amp-dtype bfloat16 where the kit computes in bfloat16, too.
    `crop`: of --scale, the least share of an image's area that is seen; timm's own is 0.08.
    """

    def train(data: CourseData, epochs: int, seed: int, folder: Path, clock: Clock) -> Trained:
        import timm
        from timm.data import create_transform, resolve_data_config
        from timm.utils import ModelEmaV3, random_seed

        clock.start()
        random_seed(seed)
        net = timm.create_model(model, num_classes=len(data.classes))
        net.to(memory_format=torch.channels_last)
        size = recipes.load("laptop").image_size
        config = resolve_data_config({"input_size": (3, size, size), "crop_pct": 1.0}, model=net)
        average = ModelEmaV3(net, decay=0.9998, use_warmup=True)
        judged = create_transform(**config, is_training=False)
        answers = partial(outputs, average.module, judged)
        steps = timm_epochs(net, average, data, config, epochs, rate, crop)
        best, kept = -1.0, {}
        for _ in steps:
            labels = answers(data.dev.paths)[0].argmax(1)
            dev = float((labels == np.array(data.dev.labels)).mean())
            if dev > best:
                best = dev
                kept = {key: value.clone() for key, value in average.module.state_dict().items()}
            clock.tick()
        average.module.load_state_dict(kept)
        return Trained(best, lambda paths: answers(paths)[0].argmax(1), lambda p: answers(p)[1])

    return train


def timm_epochs(
    net, average, data: CourseData, config: dict, epochs: int, rate: float, crop: float
) -> Iterable:
    """Trains; comes back after each epoch."""
    from timm.data import create_loader
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2

    size, batch = config["input_size"], recipes.load("laptop").batch_size
    loader = create_loader(
        data.train.dataset(),
        size,
        min(batch, len(data.train)),  # it leaves out a short last batch
        is_training=True,
        scale=(crop, 1.0),
        re_prob=0.25,
        re_mode="pixel",
        auto_augment="rand-m7-mstd0.5-inc1",
        interpolation="random",
        mean=config["mean"],
        std=config["std"],
        num_workers=0,
        use_prefetcher=False,
        persistent_workers=False,
        device=CPU,
    )
    optimizer = create_optimizer_v2(net, opt="adamw", lr=rate, weight_decay=0.05)
    warmup = min(5, epochs // 10)
    scheduler, _ = create_scheduler_v2(
        optimizer, "cosine", epochs, warmup_epochs=warmup, updates_per_epoch=len(loader),
        step_on_epochs=False,
    )  # fmt: skip
    loss_of = LabelSmoothingCrossEntropy(0.1)
    step = 0
    for _ in range(epochs):
        net.train()
        for images, labels in loader:
            scheduler.step_update(step)
            with precision():
                loss = loss_of(net(images.contiguous(memory_format=torch.channels_last)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            average.update(net, step=step)
        yield


def precision():
    """The autocast that the kit would choose here."""
    dtype = machine.precision(CPU).value
    return nullcontext() if dtype == torch.float32 else torch.autocast("cpu", dtype)


@torch.inference_mode()
def outputs(net: nn.Module, transform, paths: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, C) and what the classifier gets (N, D), means over images and mirror images."""
    net.eval()
    found = []
    for start in range(0, len(paths), BATCH):
        images = torch.stack([transform(read_rgb(p)) for p in paths[start : start + BATCH]])
        images = images.contiguous(memory_format=torch.channels_last)  # (B, 3, H, W)
        with precision():
            maps = [net.forward_features(x) for x in (images, images.flip(-1))]
            pooled = [net.forward_head(x, pre_logits=True) for x in maps]  # (B, D) each
            logits = [net.get_classifier()(x) for x in pooled]  # (B, C) each
        found.append([sum(x.float() for x in two) / 2 for two in (logits, pooled)])
    logits, pooled = (torch.cat(part).numpy() for part in zip(*found, strict=True))
    return logits, pooled


# --- all of them: each has one way to be trained, or some of which the better on dev is taken

TIMM = {"ResNet-18": "resnet18", "MobileNetV3": "mobilenetv3_small_100"}
TIMM |= {"ConvNeXt-Atto": "convnext_atto"}
TIMM_WAYS = {f"lr {rate:g}, crops from 0.6": (rate, 0.6) for rate in (1e-3, 3e-3)}
TIMM_WAYS |= {"lr 0.003, crops from 0.08": (3e-3, 0.08)}  # the second is for larger images
CONTESTANTS: dict[str, dict[str, Trainer]] = {
    OURS: {"laptop": kit("laptop")},
    PACE: {"laptop": kit(BEFORE)},
    **{
        f"timm {name}": {way: timm_net(model, *settings) for way, settings in TIMM_WAYS.items()}
        for name, model in TIMM.items()
    },
    "metric-learning ArcFace": {
        "scale 64, margin 28.6": kit(ARCFACE, partial(arcface_head, 28.6, 64)),
        "scale 32, margin 17.2": kit(ARCFACE, partial(arcface_head, 17.2, 32)),
    },
    "starter": {"as given": kit(STARTER)},
    ROW12: {"as published": row12},
    "without triplets": {"laptop": kit(f"{BEFORE} auxiliary_loss= images_per_class=0")},
    "without changes": {"laptop": kit(f"{BEFORE} {PLAIN}")},
    "tiny network": {"laptop": kit(f"{BEFORE} network=tiny")},
    "SGD": {"laptop": kit(f"{BEFORE} optimizer=sgd lr=0.05 weight_decay=5e-4")},
    "lr far too low": {"laptop": kit(f"{BEFORE} lr=2e-5")},
}
