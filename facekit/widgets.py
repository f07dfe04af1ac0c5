"""Sliders for the notebooks: each is a pure function of its values, with a slider over it."""

from collections.abc import Sequence
from inspect import signature
from pathlib import Path

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps

from facekit import ablations, anatomy, augment_gpu, blocks, heads, optim, plots
from facekit.augment import NOTHING, Augment, Preprocess
from facekit.changes import draw
from facekit.panel import describe_threshold as describe_threshold
from facekit.panel import threshold as threshold
from facekit.recipes import CHOICES, Recipe


def _slider(
    name: str, value: float, low: float, high: float, step: float
) -> ipywidgets.IntSlider | ipywidgets.FloatSlider:
    """A slider of whole numbers or of others, as `step` is; it answers when it is let go."""
    kind = ipywidgets.IntSlider if isinstance(step, int) else ipywidgets.FloatSlider
    return kind(
        value=value, min=low, max=high, step=step, description=name, continuous_update=False
    )


STRENGTHS = {  # setting: least, most, step
    "crop_scale": (0.2, 1.0, 0.04),
    "rotation": (0.0, 45.0, 2.5),
    "shift": (0.0, 0.3, 0.02),
    "shear": (0.0, 30.0, 2.0),
    "jitter": (0.0, 1.0, 0.05),
    "grey": (0.0, 1.0, 0.05),
    "blur": (0.0, 1.0, 0.05),
    "erasing": (0.0, 1.0, 0.05),
    "random_steps": (0, 4, 1),
    "random_strength": (0.0, 1.0, 0.05),
}


def changed(
    picture: Image.Image, preprocess: Preprocess, augment: Augment, epochs: int = 8
) -> torch.Tensor:
    """What training sees of one picture, an epoch each: (epochs, 3, size, size) in 0 ... 1.

    The draw of an epoch stays the same: a stronger setting is the same change, only more of it.
    """
    size = preprocess.size
    stored = torch.from_numpy(np.array(ImageOps.fit(picture, (size, size))))
    keys = [(epoch, 0) for epoch in range(epochs)]
    changes = draw(augment, preprocess, size, 0, keys)
    return preprocess.invert(
        augment_gpu.apply(stored.expand(epochs, size, size, 3), changes, preprocess)
    )


def augmentation(picture: Image.Image, preprocess: Preprocess) -> ipywidgets.VBox:
    """A slider for each change, and eight previews of what training would see."""
    sliders = {
        name: _slider(name, getattr(NOTHING, name), *limits) for name, limits in STRENGTHS.items()
    }

    def show(**strengths: float) -> None:
        plots.montage(changed(picture, preprocess, Augment(flip=0.5, **strengths)), columns=8)
        plt.show()

    return ipywidgets.VBox([*sliders.values(), ipywidgets.interactive_output(show, sliders)])


def schedule_rates(
    schedule: str, epochs: int = 60, steps_per_epoch: int = 10, **settings: float
) -> list[float]:
    """The learning rate of each step of a run by a schedule of recipes.CHOICES.

    `settings` of the recipe: learning_rate, warmup_epochs, restart_epochs, plateau_epochs. For
    "plateau", the dev accuracy of the imagined run rises for a third of the epochs, no longer.
    """
    recipe = Recipe(name="imagined", epochs=epochs, schedule=schedule, **settings)
    judged = [min(epoch, epochs // 3) for epoch in range(epochs)]
    return [
        optim.rate(recipe, step, steps_per_epoch, judged[: step // steps_per_epoch])
        for step in range(epochs * steps_per_epoch)
    ]


def schedule(epochs: int = 60) -> ipywidgets.VBox:
    """A choice of schedule and sliders for its settings; the learning rate as they move."""
    controls = {
        "schedule": ipywidgets.Dropdown(options=CHOICES["schedule"], value="restarts"),
        "warmup_epochs": _slider("warmup", 3, 0, 15, 1),
        "restart_epochs": _slider("restart", 20, 1, epochs, 1),
        "plateau_epochs": _slider("plateau", 5, 1, 20, 1),
    }

    def show(**settings) -> None:
        name = settings["schedule"]
        plots.schedules({name: schedule_rates(epochs=epochs, **settings)}, 10)
        plt.show()

    return ipywidgets.VBox([*controls.values(), ipywidgets.interactive_output(show, controls)])


def describe_runs(folder: Path, names: Sequence[str]) -> str:
    """The chosen rows of the table of runs, as text."""
    table = ablations.runs(folder)
    return table.loc[list(names)].T.to_string() if names else f"{len(table)} runs; choose some"


def runs(folder: Path) -> ipywidgets.VBox:
    """A choice of the runs below a folder (with Ctrl or Shift several); their table and curves."""
    known = list(ablations.runs(folder).index)
    controls = {
        "names": ipywidgets.SelectMultiple(options=known, value=known[:3], description="runs"),
        "column": ipywidgets.Dropdown(
            options=ablations.CURVES, value="dev_accuracy", description="curve"
        ),
    }

    def show(names: Sequence[str], column: str) -> None:
        print(describe_runs(folder, names))
        plots.lines(ablations.curves(folder, names, column), "Runs", column.replace("_", " "))
        plt.show()

    return ipywidgets.VBox([*controls.values(), ipywidgets.interactive_output(show, controls)])


def block_table(
    name: str, channels: int, out: int, stride: int, se: int, size: int
) -> pd.DataFrame:
    """The layers of a block of blocks.BLOCKS on a map of (channels, size, size).

    `se`: the reduction of a squeeze-excite, left out where the block has none.
    """
    make = blocks.BLOCKS[name]
    options = {"se": se} if "se" in signature(make).parameters else {}
    return anatomy.describe_block(make(channels, out, stride, **options), channels, size)


def block(size: int = 28) -> ipywidgets.VBox:
    """A choice of block and sliders for its shape; its layers, parameters and work as they move."""
    controls = {
        "name": ipywidgets.Dropdown(options=list(blocks.BLOCKS), value="residual"),
        "channels": _slider("channels", 64, 16, 256, 16),
        "out": _slider("out", 64, 16, 256, 16),
        "stride": _slider("stride", 1, 1, 2, 1),
        "se": _slider("se", 0, 0, 16, 4),
    }

    def show(**values) -> None:
        table = block_table(size=size, **values)
        print(table.to_string())
        layers = table["parameters"].drop("all")
        plots.bars(layers[layers > 0].to_dict(), "Where the parameters are", "count")
        plt.show()

    return ipywidgets.VBox([*controls.values(), ipywidgets.interactive_output(show, controls)])


DEGREES = np.arange(0, 181, 2)
MARGINS = {  # head: its margin for a place of the slider in 0 ... 1, and how that reads
    "arcface": (lambda share: share * np.pi / 2, "angle + {:.2f}"),
    "cosface": (lambda share: share, "cosine - {:.2f}"),
    "lsoftmax": (lambda share: 1 + round(3 * share), "angle x {}"),
}


def own_logits(share: float, scale: float) -> dict[str, np.ndarray]:
    """The logit of the own class at DEGREES, without a margin and with each head's.

    `share`, 0 ... 1: of the largest margin; `scale`: of the cosine heads, and the length of the
    embedding for L-Softmax.
    """
    angle = torch.deg2rad(torch.from_numpy(DEGREES).double())
    embedding = torch.stack([angle.cos(), angle.sin()], 1)
    labels, curves = torch.zeros(len(angle), dtype=torch.int64), {"no margin": scale * angle.cos()}
    for name, (margin, text) in MARGINS.items():
        options = {"name": name, "margin": margin(share)}
        hard = {"lambda_start": 0, "lambda_floor": 0}
        options |= hard if name == "lsoftmax" else {"scale": scale}
        head = heads.build(options, 2, 1).double()
        with torch.no_grad():
            head.class_vectors.copy_(torch.tensor([[1.0, 0.0]]))
            length = scale if name == "lsoftmax" else 1.0
            logits = head(length * embedding, labels)[:, 0]
        curves[f"{type(head).__name__}: {text.format(options['margin'])}"] = logits
    return {name: logits.numpy() for name, logits in curves.items()}


def margin() -> ipywidgets.VBox:
    """Sliders over margin and scale, and what each head makes of the angle to the own class."""
    controls = {
        "share": _slider("margin", 0.2, 0.0, 1.0, 0.05),
        "scale": _slider("scale", 16.0, 1.0, 64.0, 1.0),
    }

    def show(share: float, scale: float) -> None:
        plots.own_logits(own_logits(share, scale), DEGREES)
        plt.show()

    return ipywidgets.VBox([*controls.values(), ipywidgets.interactive_output(show, controls)])
