"""Pictures for the notebooks: each function draws one figure and returns it."""

import sys
import time
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from facekit.images import read_rgb
from facekit.plane import Faces, Plane
from facekit.training import History

# Okabe and Ito's colours, told apart by colour-blind readers too.
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
MANY = mpl.color_sequences["petroff10"]  # ten that are told apart, too
COLOURS = (BLUE, ORANGE, GREEN, RED, "black")
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))  # for readers who see no colour at all


def figure(width: float = 7, height: float = 3.5, columns: int = 1) -> tuple[Figure, np.ndarray]:
    """A white figure, readable on light and dark pages, and its axes as an array."""
    fig, axes = plt.subplots(
        1, columns, figsize=(width, height), squeeze=False, facecolor="white", layout="constrained"
    )
    return fig, axes[0]


def montage(
    pictures: Sequence[Path] | torch.Tensor,
    titles: Sequence[str] | None = None,
    columns: int = 10,
    title: str = "",
) -> Figure:
    """A grid of faces: paths of images, or a tensor (N, 3, H, W), uint8 or of values in 0 ... 1."""
    rows = -(-len(pictures) // columns)
    fig, axes = plt.subplots(
        rows,
        columns,
        figsize=(columns, rows * (1.25 if titles else 1)),
        squeeze=False,
        facecolor="white",
        layout="constrained",
    )
    for place in axes.flat:
        place.set_axis_off()
    for i, (place, picture) in enumerate(zip(axes.flat, pictures, strict=False)):
        place.imshow(_pixels(picture))
        if titles:
            place.set_title(titles[i], fontsize=8)
    fig.suptitle(title)
    return fig


def _pixels(picture: Path | torch.Tensor) -> np.ndarray:
    if isinstance(picture, torch.Tensor):
        picture = picture if picture.dtype == torch.uint8 else picture.clamp(0, 1)
        return picture.permute(1, 2, 0).numpy()
    return np.asarray(read_rgb(picture))


def rows_of_pictures(rows: dict[str, torch.Tensor], title: str = "", side: float = 1) -> Figure:
    """A row of pictures (N, 3, H, W), uint8 or in 0 ... 1, `side` inches each, for each name."""
    count = max(map(len, rows.values()))
    fig, axes = plt.subplots(
        len(rows),
        count,
        figsize=(count * side + 1.5, len(rows) * side),
        squeeze=False,
        facecolor="white",
        layout="constrained",
    )
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        for place, picture in zip(line, pictures, strict=False):
            place.imshow(_pixels(picture))
        for place in line:
            place.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    fig.suptitle(title)
    return fig


def answers(
    pictures: torch.Tensor, points: torch.Tensor, parts: torch.Tensor, names: Sequence[str]
) -> Figure:
    """Faces (N, 3, H, W) with their points (N, P, 2) above, and below what each pixel shows.

    parts: (N, H, W), places in `names`.
    """
    fig, axes = plt.subplots(
        2,
        len(pictures),
        figsize=(1.8 * len(pictures), 4.2),
        squeeze=False,
        facecolor="white",
        layout="constrained",
    )
    for place in axes.flat:
        place.set_axis_off()
    colours = plt.get_cmap("tab10", len(names))
    for above, below, picture, dots, part in zip(*axes, pictures, points, parts, strict=True):
        above.imshow(_pixels(picture))
        above.scatter(*dots.T, s=12, color=ORANGE, edgecolors="black", linewidths=0.5)
        above.set(xlim=(0, picture.shape[2]), ylim=(picture.shape[1], 0))
        below.imshow(part, colours, vmin=-0.5, vmax=len(names) - 0.5, interpolation="nearest")
    patches = [plt.Rectangle((0, 0), 1, 1, color=colours(i)) for i in range(len(names))]
    fig.legend(patches, names, loc="outside lower center", ncols=len(names), fontsize=8)
    return fig


def feature_maps(features: torch.Tensor, title: str = "") -> Figure:
    """The channels of one feature map (C, H, W), each scaled to its own range."""
    low, high = features.amin((1, 2), keepdim=True), features.amax((1, 2), keepdim=True)
    grey = (features - low) / (high - low).clamp(min=1e-6)
    return montage(grey[:, None].expand(-1, 3, -1, -1), title=title)


def planes(
    clouds: dict[str, np.ndarray], labels: np.ndarray, marks: np.ndarray | None = None
) -> Figure:
    """Embeddings (N, 2) of the same images by several ways, a colour and a number a class.

    Where `marks` is true, a cross: images that were not trained on, say.
    """
    fig, axes = figure(3.2 * len(clouds), 3.4, columns=len(clouds))
    marks = np.zeros(len(labels), bool) if marks is None else marks
    for place, (name, points) in zip(axes, clouds.items(), strict=True):
        for label in np.unique(labels):
            colour, own = MANY[label % len(MANY)], labels == label
            for kind, sign in ((own & ~marks, "."), (own & marks, "x")):
                place.plot(*points[kind].T, sign, color=colour, markersize=5)
            middle = points[own & ~marks].mean(0)
            place.annotate(
                str(label),
                middle,
                (7, 5),
                textcoords="offset points",
                weight="bold",
                path_effects=[withStroke(linewidth=3, foreground="white")],
            )
        place.plot(0, 0, "+", color="black")
        place.set(title=name, xlabel="first number", ylabel="second number")
        place.set_aspect("equal", "datalim")
    return fig


def embeddings(nets: Mapping[str, Plane], seen: Faces, new: Faces) -> Figure:
    """`planes` of several networks: a dot for each face of `seen`, a cross for each of `new`."""
    features, labels = (torch.cat(both) for both in zip(seen, new, strict=True))
    with torch.no_grad():
        clouds = {name: net.embed(features).numpy() for name, net in nets.items()}
    return planes(clouds, labels.numpy(), np.arange(len(labels)) >= len(seen.labels))


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
    for (name, values), colour, style in zip(
        frame.items(), cycle(COLOURS), cycle(STYLES), strict=False
    ):
        known = values.dropna()  # lines of unequal length share an index
        place.plot(known.index, known, color=colour, linestyle=style, label=name)
    for (name, value), style in zip((marks or {}).items(), cycle(STYLES[::-1]), strict=False):
        place.axvline(value, color="grey", linestyle=style, label=name)
    place.set(title=title, xlabel=frame.index.name, ylabel=label)
    if log:
        place.set_xscale("log")
    if place.get_legend_handles_labels()[1]:
        place.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return fig


def regions(
    maps: Mapping[str, tuple[np.ndarray, np.ndarray]], vectors: np.ndarray, reach: float
) -> Figure:
    """Where a face must lie to be right: a map for each head, and the class vectors (C, 2).

    A map is two arrays (side, side) over -reach ... reach in both directions, the first row below:
    the class for which a face there is right, -1 for none; and how sure that is, 0 ... 1.
    """
    fig, axes = figure(3.1 * len(maps), 3.6, columns=len(maps))
    extent = (-reach, reach, -reach, reach)
    colours = np.array([mpl.colors.to_rgb(colour) for colour in COLOURS[: len(vectors)]])
    for place, (name, (owner, sure)) in zip(axes, maps.items(), strict=True):
        paint = np.where(owner < 0, 0, sure.round(1))[..., None]  # ten tints, for a small file
        picture = 1 - paint * (1 - colours[owner])
        place.imshow(picture, origin="lower", extent=extent, interpolation="nearest")
        if (owner < 0).any():
            place.contour(owner < 0, [0.5], extent=extent, colors="black", linewidths=0.5)
        for number, (x, y) in enumerate(vectors):
            place.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "lw": 1.5})
            place.annotate(str(number), (1.13 * x, 1.13 * y), ha="center", va="center")
        nowhere = (owner < 0).mean()
        place.set_title(name, fontsize=10)
        place.set(xlabel=f"first number\nnobody's: {nowhere:.0%}")
        place.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    axes[0].set_ylabel("second number")
    return fig


def own_logits(curves: dict[str, np.ndarray], degrees: np.ndarray) -> Figure:
    """What several heads make of the angle between an embedding and its own class vector."""
    angle = pd.Index(degrees, name="angle to the class vector, degrees")
    return lines(pd.DataFrame(curves, angle), "The own class's logit", "logit")


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
        counts.plot.bar(ax=place, color=list(COLOURS), width=0.8)
        plt.setp(place.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
        place.set_xlabel("")
    else:
        place.bar(list(counts), list(counts.values()), color=BLUE)
        if len(counts) > 6:
            plt.setp(place.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    if place.get_legend_handles_labels()[1]:
        place.legend(loc="upper left", bbox_to_anchor=(1, 1))
    place.set(title=title, ylabel=label)
    return fig


def curves(history: History, chance: float) -> Figure:
    """Loss and accuracy of each epoch, on the training and the dev images; the best epoch."""
    frame, best = history.frame(), history.best
    fig, (losses, accuracies) = figure(9, 3.5, columns=2)
    for split, colour, style in (("train", ORANGE, "--"), ("dev", BLUE, "-")):
        look = {"color": colour, "linestyle": style, "label": split}
        losses.plot(frame["epoch"], frame[f"{split}_loss"], **look)
        accuracies.plot(frame["epoch"], frame[f"{split}_accuracy"], **look)
    accuracies.plot(best["epoch"], best["dev_accuracy"], "o", color=BLUE, label="best dev")
    accuracies.axhline(chance, color="black", linestyle=":", label="chance")
    losses.set(title="Cross-entropy", xlabel="epoch", ylabel="nats")
    accuracies.set(title="Accuracy", xlabel="epoch", ylabel="share of images", ylim=(0, 1))
    accuracies.legend()
    return fig


def layers(table: pd.DataFrame, title: str) -> Figure:
    """Where a block's parameters and multiply-adds are: a table of anatomy.describe_block."""
    rows = table.drop("all").iloc[::-1]  # the first layer on top
    fig, axes = figure(9, 1.3 + 0.22 * len(rows), columns=2)
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
    fig.suptitle(title)
    return fig


class LiveCurves:
    """The curves of a run while it goes on: one picture, redrawn in its place.

    Given to `train.fit` as `on_epoch`. Drawing takes a tenth of the time at most, so that quick
    epochs go by unseen: call `show` at the end. Outside of a notebook nothing is drawn.
    """

    def __init__(self, chance: float) -> None:
        self.chance, self.handle, self.next = chance, None, 0.0

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


def schedules(rates: Mapping[str, Sequence[float]], steps_per_epoch: int) -> Figure:
    """The learning rate of each step over runs of any length."""
    longest = max(map(len, rates.values()))
    epochs = pd.Index(np.arange(longest) / steps_per_epoch, name="epoch")
    frame = pd.DataFrame({name: pd.Series(values) for name, values in rates.items()})
    return lines(frame.set_index(epochs), "Learning rate", "rate")
