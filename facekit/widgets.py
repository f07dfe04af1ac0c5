"""Sliders for the notebooks: each is a pure function of its values, with a slider over it."""

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import NamedTuple

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps

from facekit import ablations, anatomy, augment_gpu, blocks, heads, layout, optim, plots
from facekit.augment import NOTHING, Augment, Preprocess, only
from facekit.changes import sample_params
from facekit.layout import CourseData
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


EACH = 20  # pictures of a page


def montage_pages(course: CourseData, split: str, by: str) -> list[np.ndarray]:
    """The pages of a montage of a split, each the places of EACH of its pictures at most.

    `by` "page": the files in sorted order. `by` "person": a page for each person; where nobody
    says who is on the pictures, in sorted order again.
    """
    who = _who(course, split)
    if by == "page" or who is None:
        places = np.arange(len(getattr(course, split)))
        return np.split(places, range(EACH, len(places), EACH))
    order = np.argsort(who, kind="stable")
    starts = np.flatnonzero(np.diff(np.unique(who, return_inverse=True)[1][order])) + 1
    return [places[:EACH] for places in np.split(order, starts)]


def _who(course: CourseData, split: str) -> np.ndarray | None:
    """The name of whoever is on each picture, where that is handed out."""
    labels = getattr(course, split).labels
    if labels is None or isinstance(labels[0], str):
        return labels and np.array(labels)
    return np.array(course.classes)[list(labels)]


def montage_page(
    course: CourseData, split: str, by: str, number: int
) -> tuple[list[Path], list[str], str]:
    """One of `montage_pages`: its files, who each is (or its name) and a title.

    A number beyond the last stands for the last.
    """
    pages, pictures = montage_pages(course, split, by), getattr(course, split)
    number, who = min(number, len(pages) - 1), _who(course, split)
    names, kind = (pictures.names, "page") if who is None else (who, by)
    places = pages[number]
    title = f"{split}: {kind} {number} of 0 ... {len(pages) - 1}"
    return [pictures.paths[i] for i in places], [str(names[i]) for i in places], title


def montages(course: CourseData) -> ipywidgets.VBox:
    """Every picture of the course: a choice of split, and a slider over its people or pages."""
    controls = {
        "split": ipywidgets.Dropdown(options=layout.SPLITS, description="split"),
        "by": ipywidgets.Dropdown(options=["person", "page"], description="by"),
        "number": _slider("number", 0, 0, 0, 1),
    }

    def adapt(_: object = None) -> None:
        pages = montage_pages(course, controls["split"].value, controls["by"].value)
        controls["number"].max = len(pages) - 1

    def show(**chosen) -> None:
        paths, names, title = montage_page(course, **chosen)
        plots.montage(paths, names, title=title)
        plt.show()

    adapt()
    for name in ("split", "by"):
        controls[name].observe(adapt, "value")
    return ipywidgets.VBox([*controls.values(), ipywidgets.interactive_output(show, controls)])


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
    params = sample_params(augment, preprocess, size, 0, keys)
    return preprocess.invert(
        augment_gpu.apply(stored.expand(epochs, size, size, 3), params, preprocess)
    )


def strengths(picture: Image.Image, preprocess: Preprocess, name: str) -> dict[str, torch.Tensor]:
    """`changed` with a slider of STRENGTHS at its least, in the middle and at its most."""
    low, high, _ = STRENGTHS[name]
    places = {f"{name} {value:g}": value for value in (low, (low + high) / 2, high)}
    return {
        label: changed(picture, preprocess, only(**{name: value}))
        for label, value in places.items()
    }


def augmentation(picture: Image.Image, preprocess: Preprocess) -> ipywidgets.VBox:
    """A slider for each change, and eight previews of what training would see."""
    sliders = {
        name: _slider(name, getattr(NOTHING, name), *limits) for name, limits in STRENGTHS.items()
    }

    def show(**strengths: float) -> None:
        pictures = changed(picture, preprocess, Augment(flip=0.5, **strengths))
        plots.montage(pictures, columns=8, title="One picture in eight epochs")
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
        counts = ("parameters", "multiply_adds")
        print(table.to_string(formatters=dict.fromkeys(counts, "{:,}".format)))
        plots.layers(table, f"A block {values['name']!r}")
        plt.show()

    return ipywidgets.VBox([*controls.values(), ipywidgets.interactive_output(show, controls)])


DEGREES = np.arange(0, 181, 2)
MARGINS = {  # head: its margin for a place of the slider in 0 ... 1, and how that reads
    "arcface": (lambda share: share * np.pi / 2, "angle + {:.2f}"),
    "cosface": (lambda share: share, "cosine - {:.2f}"),
    "lsoftmax": (lambda share: 1 + round(3 * share), "angle x {}"),
}
CORNERS = np.deg2rad([20, 80, 175, 275])  # where four people's class vectors point
REACH, SIDE = 1.3, 140  # of the map of a plane: half its side, and its pixels


class _AngularHead(NamedTuple):
    name: str
    head: heads.Head
    length: float  # of an embedding that is drawn with length 1


def _angular_heads(share: float, scale: float, vectors: torch.Tensor) -> list[_AngularHead]:
    """A head without a margin and one of each of MARGINS, with these class vectors (C, 2).

    `share`, 0 ... 1: of the largest margin; `scale`: of the cosine heads, and the length of the
    embedding for L-Softmax.
    """
    plain = heads.build({"name": "cosface", "scale": scale, "margin": 0.0}, 2, len(vectors))
    found = [_AngularHead("no margin", plain, 1.0)]
    for name, (margin, text) in MARGINS.items():
        options = {"name": name, "margin": margin(share)}
        hard = {"lambda_start": 0, "lambda_floor": 0}
        options |= hard if name == "lsoftmax" else {"scale": scale}
        head = heads.build(options, 2, len(vectors))
        label = f"{type(head).__name__}: {text.format(options['margin'])}"
        found.append(_AngularHead(label, head, scale if name == "lsoftmax" else 1.0))
    for _, head, _ in found:
        head.double().weight.data.copy_(vectors)
    return found


def own_logits(share: float, scale: float) -> dict[str, np.ndarray]:
    """The logit of the own class at DEGREES, without a margin and with each head's.

    `share` and `scale` as in `margin_regions`.
    """
    angle = torch.deg2rad(torch.from_numpy(DEGREES).double())
    embedding = torch.stack([angle.cos(), angle.sin()], 1)
    labels, curves = torch.zeros(len(angle), dtype=torch.int64), {}
    for name, head, length in _angular_heads(share, scale, torch.tensor([[1.0, 0.0]])):
        with torch.no_grad():
            curves[name] = head(length * embedding, labels)[:, 0].numpy()
    return curves


def class_vectors() -> np.ndarray:
    """Where the people of `margin_regions` are: four vectors of length 1, (4, 2)."""
    return np.stack([np.cos(CORNERS), np.sin(CORNERS)], 1)


def margin_regions(share: float, scale: float) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Where on a plane a face is right in spite of its margin, and how sure: for each head.

    For `plots.regions`: the class (SIDE, SIDE) for which a face there is right, or -1, and its
    probability with the margin. `share`, 0 ... 1: of the largest margin; `scale`: of the cosine
    heads, and the length that an embedding drawn with length 1 has for L-Softmax.
    """
    vectors = torch.from_numpy(class_vectors())
    ticks = torch.linspace(-REACH, REACH, SIDE, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), -1).reshape(-1, 2)
    found = {}
    for name, head, length in _angular_heads(share, scale, vectors):
        owner, sure = torch.full((len(points),), -1), torch.zeros(len(points)).double()
        for label in range(len(vectors)):
            with torch.no_grad():
                logits = head(length * points, torch.full((len(points),), label))
            right = logits.argmax(1) == label
            owner[right], sure[right] = label, logits.softmax(1)[right, label]
        found[name] = owner.view(SIDE, SIDE).numpy(), sure.view(SIDE, SIDE).numpy()
    return found


def margin() -> ipywidgets.VBox:
    """Sliders over margin and scale: the own logit over the angle, and a plane's regions."""
    controls = {
        "share": _slider("margin", 0.4, 0.0, 1.0, 0.05),
        "scale": _slider("scale", 16.0, 1.0, 64.0, 1.0),
    }

    def show(share: float, scale: float) -> None:
        plots.own_logits(own_logits(share, scale), DEGREES)
        plots.regions(margin_regions(share, scale), class_vectors(), REACH)
        plt.show()

    return ipywidgets.VBox([*controls.values(), ipywidgets.interactive_output(show, controls)])
