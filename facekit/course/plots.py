"""Figures for the notebooks: each function draws one and returns it."""

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from facekit.course.plane import Faces, Plane
from facekit.data.images import read_rgb
from facekit.training import History

# Okabe and Ito's colours, told apart by colour-blind readers too.
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
MANY = mpl.color_sequences["petroff10"]  # ten that are told apart, too
COLOURS = (BLUE, ORANGE, GREEN, RED, "black")
PAGE = 8.5  # inches: a wider figure would be shrunk to the page, and its words with it
FACE = 0.85  # inches of an image among others
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))  # for readers who see no colour at all


def grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """A white figure, readable on light and dark pages, and its axes (rows, columns); inches."""
    return plt.subplots(
        rows,
        columns,
        figsize=(width, height),
        squeeze=False,
        facecolor="white",
        layout="constrained",
    )


def figure(width: float = 7, height: float = 3.5, columns: int = 1) -> tuple[Figure, np.ndarray]:
    """A figure and its axes (columns,) beside each other."""
    fig, axes = grid(1, columns, width, height)
    return fig, axes[0]


def as_it_is(name: str) -> str:
    """A name of a folder or a run for a figure, in which two dollars would enclose mathematics."""
    return str(name).replace("$", r"\$")


def montage(
    images: Sequence[Path] | torch.Tensor,
    titles: Sequence[str] | None = None,
    columns: int = 10,
    title: str = "",
) -> Figure:
    """A grid of faces: paths of images, or a tensor (N, 3, H, W), uint8 or of values in 0 ... 1."""
    rows = math.ceil(len(images) / columns)
    side = min(FACE, PAGE / columns)
    fig, axes = grid(rows, columns, columns * side, rows * (side + 0.25 * bool(titles)))
    for place in axes.flat:
        place.set_axis_off()
    for i, (place, image) in enumerate(zip(axes.flat, images, strict=False)):
        place.imshow(_pixels(image))
        if titles:
            place.set_title(as_it_is(titles[i]), fontsize=8)
    fig.suptitle(as_it_is(title))
    return fig


def _pixels(image: Path | torch.Tensor) -> np.ndarray:
    if not isinstance(image, torch.Tensor):
        return np.asarray(read_rgb(image))
    if image.dtype != torch.uint8:
        image = image.clamp(0, 1)
    return image.permute(1, 2, 0).numpy()


def rows_of_images(rows: dict[str, torch.Tensor], title: str = "", side: float = FACE) -> Figure:
    """A row of images (N, 3, H, W), uint8 or in 0 ... 1, `side` inches at most, for each name."""
    count = max(len(images) for images in rows.values())
    side = min(side, (PAGE - 1.5) / count)
    fig, axes = grid(len(rows), count, count * side + 1.5, len(rows) * side)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for place, image in zip(line, images, strict=False):
            place.imshow(_pixels(image))
        for place in line:
            place.set(xticks=[], yticks=[])
        line[0].set_ylabel(as_it_is(name), rotation=0, ha="right", va="center")
    fig.suptitle(as_it_is(title))
    return fig


def answers(
    images: torch.Tensor, points: torch.Tensor, parts: torch.Tensor, names: Sequence[str]
) -> Figure:
    """Faces (N, 3, H, W) with their points (N, P, 2) above, and below what each pixel shows.

    parts: (N, H, W), places in `names`.
    """
    fig, axes = grid(2, len(images), 1.4 * len(images), 3.4)
    for place in axes.flat:
        place.set_axis_off()
    colours = plt.get_cmap("tab10", len(names))
    for above, below, image, dots, part in zip(*axes, images, points, parts, strict=True):
        above.imshow(_pixels(image))
        above.scatter(*dots.T, s=12, color=ORANGE, edgecolors="black", linewidths=0.5)
        above.set(xlim=(0, image.shape[2]), ylim=(image.shape[1], 0))
        below.imshow(part, colours, vmin=-0.5, vmax=len(names) - 0.5, interpolation="nearest")
    patches = [plt.Rectangle((0, 0), 1, 1, color=colours(i)) for i in range(len(names))]
    fig.legend(patches, names, loc="outside lower center", ncols=len(names), fontsize=8)
    return fig


def feature_maps(features: torch.Tensor, title: str = "") -> Figure:
    """The channels of one feature map (C, H, W), each scaled to its own range."""
    low, high = features.amin((1, 2), keepdim=True), features.amax((1, 2), keepdim=True)
    grey = (features - low) / (high - low).clamp(min=1e-6)
    return montage(grey[:, None].expand(-1, 3, -1, -1), title=title)


def embeddings(nets: Mapping[str, Plane], seen: Faces, new: Faces) -> Figure:
    """Faces as points of two numbers by several networks, a colour and a number for each person.

    A dot for each face of `seen`, a cross for each of `new`.
    """
    fig, axes = figure(3.2 * len(nets), 3.4, columns=len(nets))
    for place, (name, net) in zip(axes, nets.items(), strict=True):
        for faces, sign in ((seen, "."), (new, "x")):
            with torch.no_grad():
                points = net.embed(faces.features).numpy()
            labels = faces.labels.numpy()
            for label in np.unique(labels):
                own = points[labels == label]
                colour = MANY[label % len(MANY)]
                place.plot(*own.T, sign, color=colour, markersize=5)
                if faces is seen:
                    _name(place, str(label), own.mean(0))
        place.plot(0, 0, "+", color="black")
        place.set(title=as_it_is(name), xlabel="first number", ylabel="second number")
        place.set_aspect("equal", "datalim")
    return fig


def _name(place: Axes, name: str, point: np.ndarray) -> None:
    """Write a name beside a point, in letters that stand out from the dots below."""
    place.annotate(
        name,
        point,
        (7, 5),
        textcoords="offset points",
        weight="bold",
        path_effects=[withStroke(linewidth=3, foreground="white")],
    )


def styled(named: Mapping) -> Iterator[tuple]:
    """Each (name, value) with a colour and a line style of its own."""
    return zip(named.items(), cycle(COLOURS), cycle(STYLES), strict=False)


def lines(
    frame: pd.DataFrame,
    title: str,
    label: str,
    marks: Mapping[str, float] | None = None,
    log: bool = False,
) -> Figure:
    """A line for each column over the index, whose name is the x-axis's.

    `marks`: values of the index with a name, each an upright line. `log`: of the x-axis.
    """
    fig, (place,) = figure()
    for (name, values), colour, style in styled(frame):
        known = values.dropna()  # lines of unequal length share an index
        place.plot(known.index, known, color=colour, linestyle=style, label=as_it_is(name))
    for (name, value), style in zip((marks or {}).items(), cycle(STYLES[::-1]), strict=False):
        place.axvline(value, color="grey", linestyle=style, label=name)
    place.set(title=as_it_is(title), xlabel=frame.index.name, ylabel=label)
    if log:
        place.set_xscale("log")
    legend_beside(place)
    return fig


def legend_beside(place: Axes) -> None:
    """A legend to the right of the axes, if anything has a label."""
    if place.get_legend_handles_labels()[1]:
        place.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


def regions(
    maps: Mapping[str, tuple[np.ndarray, np.ndarray]], vectors: np.ndarray, reach: float
) -> Figure:
    """Where a face must lie to be right: a map for each head, and the class vectors (C, 2).

    A map is two arrays (side, side) over -reach ... reach in both directions, the first row below:
    the class for which a face there is right, -1 for none; and how sure that is, 0 ... 1.
    """
    side = min(3.1, PAGE / len(maps))
    fig, axes = figure(side * len(maps), side + 0.5, columns=len(maps))
    extent = (-reach, reach, -reach, reach)
    colours = np.array([mpl.colors.to_rgb(colour) for colour in COLOURS[: len(vectors)]])
    for place, (name, (owner, sure)) in zip(axes, maps.items(), strict=True):
        paint = np.where(owner < 0, 0, sure.round(1))[..., None]  # ten tints, for a small file
        pixels = 1 - paint * (1 - colours[owner])
        place.imshow(pixels, origin="lower", extent=extent, interpolation="nearest")
        if (owner < 0).any():
            place.contour(owner < 0, [0.5], extent=extent, colors="black", linewidths=0.5)
        for number, (x, y) in enumerate(vectors):
            place.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "lw": 1.5})
            place.annotate(str(number), (1.13 * x, 1.13 * y), ha="center", va="center")
        nowhere = (owner < 0).mean()
        place.set_title(as_it_is(name), fontsize=10)
        place.set(xlabel=f"first number\nnobody's: {nowhere:.0%}")
        place.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    axes[0].set_ylabel("second number")
    return fig


def bars(
    counts: Mapping[str, float] | pd.DataFrame,
    title: str,
    label: str,
    chance: float | None = None,
) -> Figure:
    """One bar for each name, or for each row of a table one beside the other for its columns.

    `chance`: where a dotted line is drawn across.
    """
    fig, (place,) = figure()
    if chance is not None:
        place.axhline(chance, color="black", linestyle=":", label="chance")
    if isinstance(counts, pd.DataFrame):
        counts.rename(index=as_it_is, columns=as_it_is).plot.bar(
            ax=place, color=list(COLOURS), width=0.8
        )
        place.set_xlabel("")
    else:
        place.bar([as_it_is(name) for name in counts], list(counts.values()), color=BLUE)
    if isinstance(counts, pd.DataFrame) or len(counts) > 6:
        plt.setp(place.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    legend_beside(place)
    place.set(title=as_it_is(title), ylabel=label)
    return fig


def heat_map(table: pd.DataFrame, title: str) -> Figure:
    """Whole numbers of a table (rows, columns) as tints, each with its number written on it."""
    fig, (place,) = figure(6, 5)
    values = table.to_numpy()
    place.imshow(values, cmap="Blues")
    for (row, column), value in np.ndenumerate(values):
        dark = value > values.max() / 2
        colour = "white" if dark else "black"
        place.text(column, row, str(value), ha="center", va="center", color=colour)
    place.set_xticks(range(len(table.columns)), map(as_it_is, table.columns), rotation=90)
    place.set_yticks(range(len(table)), map(as_it_is, table.index))
    place.set_title(as_it_is(title))
    return fig


def leaders(scores: np.ndarray, mean: float) -> Figure:
    """The leader's public and private score (draws, 2), a dot for each draw of a public part.

    `mean`: the score of all hand-ins on all rows, drawn as two dotted lines.
    """
    fig, (place,) = figure(4.5, 4.5)
    place.plot(*(100 * scores.T), "o", color=BLUE, alpha=0.3, label="a draw")
    place.axline((100 * mean, 100 * mean), slope=1, color="black", label="no fall")
    place.axvline(100 * mean, color="grey", linestyle=":")
    place.axhline(100 * mean, color="grey", linestyle=":", label="mean of all hand-ins")
    place.set(title="The leader of the public part", aspect="equal")
    place.set(xlabel="public score, %", ylabel="private score, %")
    place.legend(fontsize=8)
    return fig


def curves(history: History, chance: float) -> Figure:
    """Loss and accuracy of each epoch, on the training and the dev images; the best epoch.

    With pairs the accuracy of the dev pairs, too, at the threshold where both errors are alike.
    """
    frame, best = history.frame(), history.best
    fig, (losses, accuracies) = figure(PAGE, 3.5, columns=2)
    for split, colour, style in (("train", ORANGE, "--"), ("dev", BLUE, "-")):
        for place, kind in ((losses, "loss"), (accuracies, "accuracy")):
            values = frame[f"{split}_{kind}"]
            place.plot(frame["epoch"], values, color=colour, linestyle=style, label=split)
    accuracies.plot(best["epoch"], best["dev_accuracy"], "o", color=BLUE, label="best dev")
    if "dev_eer" in frame:
        accuracies.plot(frame["epoch"], 1 - frame["dev_eer"], color="grey", label="pairs, 1 - EER")
    accuracies.axhline(chance, color="black", linestyle=":", label="chance")
    losses.set(title="Loss", xlabel="epoch", ylabel="loss")
    accuracies.set(title="Accuracy", xlabel="epoch", ylabel="share of images", ylim=(0, 1))
    accuracies.legend()
    return fig


def layers(table: pd.DataFrame, title: str) -> Figure:
    """Where a block's parameters and multiply-adds are: a table of summary.describe_block."""
    rows = table.drop("all").iloc[::-1]  # the first layer on top
    fig, axes = figure(PAGE, 1.3 + 0.22 * len(rows), columns=2)
    for place, column, colour in zip(
        axes, ("parameters", "multiply_adds"), (BLUE, ORANGE), strict=True
    ):
        place.barh(range(len(rows)), rows[column], color=colour)
        total = f"{table.loc['all', column]:,}"
        place.set(title=f"{total} {column.replace('_', '-')}", xlabel="count", yticks=[])
        place.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        place.xaxis.get_major_locator().set_params(nbins=4)
    names = [f"{name}  {size}" for name, size in rows["output"].items()]
    axes[0].set_yticks(range(len(rows)), names, fontsize=8)
    fig.suptitle(as_it_is(title))
    return fig


class LiveCurves:
    """The curves of a run while it goes on: one figure, redrawn in its place.

    Given to `training.fit` as `on_epoch`. Drawing takes a tenth of the time at most, so that quick
    epochs go by unseen: call `show` at the end. Outside of a notebook nothing is drawn.
    """

    def __init__(self, chance: float) -> None:
        self.chance = chance
        self.handle = None  # of the one display that is redrawn
        self.next = 0.0  # not before this time

    def __call__(self, history: History) -> None:
        began = time.monotonic()
        if began >= self.next:
            self.show(history)
            self.next = time.monotonic() + 9 * (time.monotonic() - began)

    def show(self, history: History) -> None:
        """Draw the history now, where the last one was."""
        ipython = sys.modules.get("IPython")
        if ipython is None or ipython.get_ipython() is None:
            return
        fig = curves(history, self.chance)
        if self.handle:
            self.handle.update(fig)
        else:
            self.handle = ipython.display.display(fig, display_id=True)
        plt.close(fig)  # or the notebook would show it once more at the end of the cell


def schedules(lrs: Mapping[str, Sequence[float]], steps_per_epoch: int) -> Figure:
    """The learning rate of each step over runs of any length."""
    frame = pd.DataFrame({name: pd.Series(values) for name, values in lrs.items()})
    epochs = pd.Index(np.arange(len(frame)) / steps_per_epoch, name="epoch")
    return lines(frame.set_index(epochs), "Learning rate", "lr")


def intervals(tables: Mapping[str, pd.DataFrame], title: str, label: str) -> Figure:
    """Changes with their intervals, a row for each name and a mark for each table beside it.

    Tables have columns change, low and high, shares that are drawn in points, and the same index.
    """
    names = next(iter(tables.values())).index
    fig, (place,) = figure(7, 1.2 + 0.4 * len(names))
    rows = np.arange(len(names))[::-1]  # the first on top
    for number, (name, table) in enumerate(tables.items()):
        change, low, high = (100 * table[part].to_numpy() for part in ("change", "low", "high"))
        spread = ((change - low).clip(0), (high - change).clip(0))
        shift = 0.3 * (number - (len(tables) - 1) / 2)
        place.errorbar(
            change, rows - shift, xerr=spread, fmt="oDs^"[number], color=COLOURS[number],
            capsize=3, label=as_it_is(name),
        )  # fmt: skip
    place.axvline(0, color="black", linestyle="--")
    place.set_yticks(rows, map(as_it_is, names))
    place.set(title=as_it_is(title), xlabel=label)
    legend_beside(place)
    return fig
