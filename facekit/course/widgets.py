"""Sliders for the notebooks: each is a pure function of its values, with a slider over it."""

import math
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import NamedTuple

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from ipywidgets import Widget
from PIL import Image, ImageOps

from facekit.common.errors import FacekitError, say
from facekit.course import ablations, plots
from facekit.course.threshold_panel import describe_threshold as describe_threshold
from facekit.course.threshold_panel import threshold as threshold
from facekit.data import layout, transforms_gpu
from facekit.data.layout import CourseData
from facekit.data.transform_params import sample_params
from facekit.data.transforms import NOTHING, Augment, Preprocess, only
from facekit.deploy.recognise import Recogniser
from facekit.models import blocks, heads, summary
from facekit.training import schedules
from facekit.training.recipe import CHOICES, Recipe


def _slider(
    name: str, value: float, low: float, high: float, step: float
) -> ipywidgets.IntSlider | ipywidgets.FloatSlider:
    """A slider of whole numbers or of others, as `step` is; it answers when it is let go."""
    kind = ipywidgets.IntSlider if isinstance(step, int) else ipywidgets.FloatSlider
    return kind(
        value=value, min=low, max=high, step=step, description=name, continuous_update=False
    )


def _over(draw: Callable[..., object], **controls: Widget) -> ipywidgets.VBox:
    """The controls, and below them what `draw` prints and plots of their values, by their names."""

    def show(**values) -> None:
        draw(**values)
        plt.show()

    return ipywidgets.VBox([*controls.values(), ipywidgets.interactive_output(show, controls)])


EACH = 20  # images of a page


def montage_pages(course: CourseData, split: str, by: str) -> list[np.ndarray]:
    """The pages of a montage of a split, each the places of EACH of its images at most.

    `by` "page": the files in sorted order. `by` "person": a page for each person; where nobody
    says who is on the images, in sorted order again.
    """
    who = _who(course, split)
    if by == "page" or who is None:
        places = np.arange(len(getattr(course, split)))
        return np.split(places, range(EACH, len(places), EACH))
    return [np.flatnonzero(who == name)[:EACH] for name in np.unique(who)]


def _who(course: CourseData, split: str) -> np.ndarray | None:
    """The name of whoever is on each image, where that is handed out."""
    labels = getattr(course, split).labels
    if labels is None:
        return None
    names = [label if isinstance(label, str) else course.classes[label] for label in labels]
    return np.array(names)


def montage_page(
    course: CourseData, split: str, by: str, number: int
) -> tuple[list[Path], list[str], str]:
    """One of `montage_pages`: its files, who each is (or its name) and a title.

    A number beyond the last stands for the last.
    """
    pages = montage_pages(course, split, by)
    number = min(number, len(pages) - 1)
    images, names = getattr(course, split), _who(course, split)
    if names is None:
        names, by = images.names, "page"
    title = f"{split}: {by} {number} of 0 ... {len(pages) - 1}"
    return (
        [images.paths[place] for place in pages[number]],
        [str(names[place]) for place in pages[number]],
        title,
    )


def montages(course: CourseData) -> ipywidgets.VBox:
    """Every image of the course: a choice of split, and a slider over its people or pages."""
    split = ipywidgets.Dropdown(options=layout.SPLITS, description="split")
    by = ipywidgets.Dropdown(options=["person", "page"], description="by")
    number = _slider("number", 0, 0, 0, 1)

    def adapt(_: object = None) -> None:
        number.max = len(montage_pages(course, split.value, by.value)) - 1

    def draw(split: str, by: str, number: int) -> None:
        paths, names, title = montage_page(course, split, by, number)
        plots.montage(paths, names, title=title)

    adapt()
    split.observe(adapt, "value")
    by.observe(adapt, "value")
    return _over(draw, split=split, by=by, number=number)


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
    image: Image.Image, preprocess: Preprocess, augment: Augment, epochs: int = 8
) -> torch.Tensor:
    """What training sees of one image, an epoch each: (epochs, 3, size, size) in 0 ... 1.

    The draw of an epoch stays the same: a stronger setting is the same change, only more of it.
    """
    size = preprocess.size
    pixels = torch.from_numpy(np.array(ImageOps.fit(image, (size, size))))
    keys = [(epoch, 0) for epoch in range(epochs)]
    params = sample_params(augment, preprocess, size, 0, keys)
    return preprocess.invert(
        transforms_gpu.apply(pixels.expand(epochs, size, size, 3), params, preprocess)
    )


def strengths(image: Image.Image, preprocess: Preprocess, name: str) -> dict[str, torch.Tensor]:
    """`changed` with a slider of STRENGTHS at its least, in the middle and at its most."""
    low, high, _ = STRENGTHS[name]
    return {
        f"{name} {value:g}": changed(image, preprocess, only(**{name: value}))
        for value in (low, (low + high) / 2, high)
    }


def augmentation(image: Image.Image, preprocess: Preprocess) -> ipywidgets.VBox:
    """A slider for each change, and eight previews of what training would see."""

    def preview(**strengths: float) -> None:
        images = changed(image, preprocess, Augment(flip=0.5, **strengths))
        plots.montage(images, columns=8, title="One image in eight epochs")

    sliders = {
        name: _slider(name, getattr(NOTHING, name), low, high, step)
        for name, (low, high, step) in STRENGTHS.items()
    }
    return _over(preview, **sliders)


def schedule_lr(
    schedule: str, epochs: int = 60, steps_per_epoch: int = 10, **settings: float
) -> list[float]:
    """The learning rate of each step of a run by a schedule of recipe.CHOICES.

    `settings` of the recipe: lr, warmup_epochs, restart_epochs, plateau_epochs. For
    "plateau", the dev accuracy of the imagined run rises for a third of the epochs, no longer.
    """
    recipe = Recipe(name="imagined", epochs=epochs, schedule=schedule, **settings)
    judged = [min(epoch, epochs // 3) for epoch in range(epochs)]
    return [
        schedules.lr_at(recipe, step, steps_per_epoch, judged[: step // steps_per_epoch])
        for step in range(epochs * steps_per_epoch)
    ]


def schedule(epochs: int = 60) -> ipywidgets.VBox:
    """A choice of schedule and sliders for its settings; the learning rate as they move."""

    def draw(**settings) -> None:
        plots.schedules({settings["schedule"]: schedule_lr(epochs=epochs, **settings)}, 10)

    return _over(
        draw,
        schedule=ipywidgets.Dropdown(options=CHOICES["schedule"], value="restarts"),
        warmup_epochs=_slider("warmup", 3, 0, 15, 1),
        restart_epochs=_slider("restart", 20, 1, epochs, 1),
        plateau_epochs=_slider("plateau", 5, 1, 20, 1),
    )


def runs(folder: Path) -> ipywidgets.VBox:
    """A choice of the runs below a folder (with Ctrl or Shift several); their table and curves."""
    table = ablations.runs(folder)
    known = list(table.index)

    def draw(names: Sequence[str], column: str) -> None:
        print(table.loc[list(names)].T.to_string() if names else f"{len(table)} runs; choose some")
        plots.lines(ablations.curves(folder, names, column), "Runs", column.replace("_", " "))

    return _over(
        draw,
        names=ipywidgets.SelectMultiple(options=known, value=known[:3], description="runs"),
        column=ipywidgets.Dropdown(
            options=ablations.CURVES, value="dev_accuracy", description="curve"
        ),
    )


def block_table(
    name: str, channels: int, out: int, stride: int, se: int, size: int
) -> pd.DataFrame:
    """The layers of a block of blocks.BLOCKS on a map of (channels, size, size).

    `se`: the reduction of a squeeze-excite, left out where the block has none.
    """
    make = blocks.BLOCKS[name]
    options = {}
    if "se" in signature(make).parameters:
        options["se"] = se
    return summary.describe_block(make(channels, out, stride, **options), channels, size)


def block(size: int = 28) -> ipywidgets.VBox:
    """A choice of block and sliders for its shape; its layers, parameters and work as they move."""

    def draw(name: str, **shape: int) -> None:
        table = block_table(name, size=size, **shape)
        counts = ("parameters", "multiply_adds")
        print(table.to_string(formatters=dict.fromkeys(counts, "{:,}".format)))
        plots.layers(table, f"A block {name!r}")

    return _over(
        draw,
        name=ipywidgets.Dropdown(options=list(blocks.BLOCKS), value="residual"),
        channels=_slider("channels", 64, 16, 256, 16),
        out=_slider("out", 64, 16, 256, 16),
        stride=_slider("stride", 1, 1, 2, 1),
        se=_slider("se", 0, 0, 16, 4),
    )


DEGREES = np.arange(0, 181, 2)
CORNERS = np.deg2rad([20, 80, 175, 275])  # where four people's class vectors point
REACH, SIDE = 1.3, 140  # of the map of a plane: half its side, and its pixels


class _AngularHead(NamedTuple):
    name: str
    head: heads.Head
    length: float = 1.0  # of an embedding that is drawn with length 1


def _angular_heads(share: float, scale: float, vectors: torch.Tensor) -> list[_AngularHead]:
    """A head without a margin and one of each kind, with these class vectors (C, 2).

    `share`, 0 ... 1: of the largest margin; `scale`: of the cosine heads, and the length of the
    embedding for L-Softmax.
    """
    people, angle, times = len(vectors), share * math.pi / 2, 1 + round(3 * share)
    found = [
        _AngularHead("no margin", heads.CosFace(2, people, scale, 0.0)),
        _AngularHead(f"ArcFace: angle + {angle:.2f}", heads.ArcFace(2, people, scale, angle)),
        _AngularHead(f"CosFace: cosine - {share:.2f}", heads.CosFace(2, people, scale, share)),
        _AngularHead(
            f"L-Softmax: angle x {times}",
            heads.LargeMarginSoftmax(2, people, times, lambda_start=0, lambda_floor=0),
            length=scale,
        ),
    ]
    for _, head, _ in found:
        head.double().weight.data.copy_(vectors)
    return found


def own_logits(share: float, scale: float) -> dict[str, np.ndarray]:
    """The logit of the own class at DEGREES, without a margin and with each head's.

    `share` and `scale` as in `margin_regions`.
    """
    angle = torch.deg2rad(torch.from_numpy(DEGREES).double())
    embedding = torch.stack([angle.cos(), angle.sin()], 1)
    labels = torch.zeros(len(angle), dtype=torch.int64)
    curves = {}
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
        owner = torch.full((len(points),), -1)
        sure = torch.zeros(len(points), dtype=torch.float64)
        for label in range(len(vectors)):
            with torch.no_grad():
                logits = head(length * points, torch.full((len(points),), label))
            right = logits.argmax(1) == label
            owner[right] = label
            sure[right] = logits.softmax(1)[right, label]
        found[name] = owner.view(SIDE, SIDE).numpy(), sure.view(SIDE, SIDE).numpy()
    return found


def margin() -> ipywidgets.VBox:
    """Sliders over margin and scale: the own logit over the angle, and a plane's regions."""

    def draw(share: float, scale: float) -> None:
        angle = pd.Index(DEGREES, name="angle to the class vector, degrees")
        curves = pd.DataFrame(own_logits(share, scale), angle)
        plots.lines(curves, "The own class's logit", "logit")
        plots.regions(margin_regions(share, scale), class_vectors(), REACH)

    return _over(
        draw,
        share=_slider("margin", 0.4, 0.0, 1.0, 0.05),
        scale=_slider("scale", 16.0, 1.0, 64.0, 1.0),
    )


def recogniser(enrolled: Recogniser, photographs: Sequence[Path]) -> ipywidgets.VBox:
    """Enrol, recognise, refuse: a photograph, whom it is most alike to, and a threshold.

    The button enrols who is on the photograph by the name in the field.
    """
    now = [enrolled]
    which = ipywidgets.Dropdown(options=[(path.name, path) for path in photographs])
    name = ipywidgets.Text(description="enrol as")
    button = ipywidgets.Button(description="Enrol")
    people = ipywidgets.Label(_enrolled(enrolled))
    value = enrolled.decision.threshold
    threshold = _slider("threshold", value, value - 1, value + 1, 0.01)

    def enrol(_: object) -> None:
        if not name.value.strip():
            return
        try:
            now.append(now[-1].with_person(name.value.strip(), which.value))
            people.value = _enrolled(now[-1])
        except FacekitError as error:  # no face, say; a callback's error is seen nowhere
            people.value = str(error)

    def draw(photograph: Path, threshold: float, people: str) -> None:
        answer = now[-1].ask([photograph])[0]._replace(photograph=Path(photograph.name))
        if answer.name:
            accepted = answer.score >= threshold
            answer = answer._replace(name=answer.nearest[0][0] if accepted else layout.NO_MATCH)
        say(answer)
        plots.montage([photograph], columns=1)

    button.on_click(enrol)
    shown = _over(draw, photograph=which, threshold=threshold, people=people)
    return ipywidgets.VBox([ipywidgets.HBox([name, button]), *shown.children])


def _enrolled(recogniser: Recogniser) -> str:
    return f"{len(recogniser.people)} people, {len(recogniser.evidence.gallery)} images enrolled"
