"""Drawings of boxes and arrows: the two tasks, the blocks of a network. Built in notebook 03."""

from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.text import Text

from facekit import faces
from facekit.course.plots import PAGE, figure

LETTER = 0.085  # inches
WHITE, BLUE, GREEN, ORANGE = "white", "#cfe6f3", "#cdebe1", "#fbeccb"
SIGNS = ("+", "×")
TASKS = (  # below each other: what is worked out, and the answer
    ("1. classification", "a score for each\ntraining person", "who scores highest"),
    (
        "2. verification",
        "cosine with each\nknown face",
        "the most similar person, or\nn000000: none is similar enough",
    ),
)


def tasks() -> Figure:
    """From a face to the answers of both tasks, which share the network and the embedding."""
    fig, (place,) = figure(PAGE, 2.6)
    place.set(xlim=(0, 9.5), ylim=(-1.4, 1.4))
    place.set_axis_off()
    face = faces.render(person=[4], shot=[2], size=112)[0].permute(1, 2, 0).numpy()  # (H, W, 3)
    place.imshow(face, extent=(0, 1.4, -0.7, 0.7), aspect="auto")
    place.annotate("", (1.8, 0), (1.4, 0), arrowprops={"arrowstyle": "->"})
    network = _box(place, 2.2, 0, "network", BLUE)
    embedding = _box(place, 3.5, 0, "embedding:\na vector", GREEN)
    _arrow(place, network, embedding)
    for y, (name, *steps) in zip((0.7, -0.7), TASKS, strict=True):
        asked, answer = (
            _box(place, x, y, step, ORANGE) for x, step in zip((5.3, 7.9), steps, strict=True)
        )
        _box(place, 5.3, 1.75 * y, name, WHITE).set_weight("bold")
        _arrow(place, embedding, asked)
        _arrow(place, asked, answer)
    return fig


def block(steps: str, shortcut: str = "the input") -> Figure:
    """The steps of a block from left to right, such as "x > conv > BN > + > ReLU > y".

    To a "+" or a "×" the input comes along below, past the steps between; `shortcut` says what it
    is then. A comma in a step begins a new line.
    """
    names = [name.replace(", ", "\n") for name in steps.split(" > ")]
    widths = [4 + max(map(len, name.split("\n"))) for name in names]
    places = [sum(widths[:i]) + widths[i] / 2 for i in range(len(names))]
    low = -1.5 if set(names) & set(SIGNS) else -0.9
    fig, (place,) = figure(LETTER * sum(widths), 0.6 * (0.9 - low))
    place.set(xlim=(0, sum(widths)), ylim=(low, 0.9))
    place.set_axis_off()
    boxes = [
        _box(place, x, 0, name, WHITE if len(name) == 1 else BLUE)
        for x, name in zip(places, names, strict=True)
    ]
    for one, other in pairwise(boxes):
        _arrow(place, one, other)
    for sign in set(names) & set(SIGNS):
        first, last = places[0], places[names.index(sign)]
        place.plot([first, first, last], [-0.4, -1.2, -1.2], color="black", linewidth=1)
        place.annotate("", (last, -0.35), (last, -1.25), arrowprops={"arrowstyle": "->"})
        _box(place, (first + last) / 2, -1.2, shortcut, WHITE)
    return fig


def _box(place: Axes, x: float, y: float, words: str, colour: str) -> Text:
    """Words in a tinted box; without an edge where it is white, round for a sign."""
    frame = {"facecolor": colour, "edgecolor": WHITE if colour == WHITE else "black"}
    if words in SIGNS:
        frame = {"facecolor": WHITE, "edgecolor": "black"}
    frame["boxstyle"] = "circle" if words in SIGNS else "round"
    return place.text(x, y, words, ha="center", va="center", bbox=frame)


def _arrow(place: Axes, one: Text, other: Text) -> None:
    """From the edge of one box to that of the other, which are drawn first."""
    patches = {"patchA": one.get_bbox_patch(), "patchB": other.get_bbox_patch()}
    ends = one.get_position(), other.get_position()
    place.add_patch(FancyArrowPatch(*ends, arrowstyle="->", mutation_scale=12, zorder=4, **patches))
