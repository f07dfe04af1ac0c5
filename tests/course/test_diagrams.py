"""Drawings show every step in order, in boxes that do not overlap, and where the input goes."""

from itertools import combinations

import pytest
from matplotlib.figure import Figure

from facekit.course import diagrams

BLOCKS = (
    "x > convolution 3×3 > batch norm > ReLU > y",
    "x > 1×1 to C/4, BN, ReLU > 3×3, BN, ReLU > 1×1 to C, BN > + > ReLU > y",
    "x > 7×7 depthwise > LN > 1×1 to 4C > GELU > 1×1 to C > times s > + > y",
    "x > mean over, places > C to C/r > ReLU > C/r to C > gate > × > y",
)


def words(fig: Figure) -> list[str]:
    return [text.get_text() for text in fig.axes[0].texts if text.get_text()]


@pytest.mark.parametrize("steps", BLOCKS)
def test_every_step_stands_in_its_place_and_the_input_goes_to_the_sign_alone(steps):
    names = [name.replace(", ", "\n") for name in steps.split(" > ")]
    fig = diagrams.block(steps, shortcut="the way round")
    drawn = sorted(fig.axes[0].texts, key=lambda text: text.get_position()[0])
    in_a_row = [t.get_text() for t in drawn if t.get_position()[1] == 0 and t.get_text()]
    assert in_a_row == names
    assert ("the way round" in words(fig)) is bool({"+", "×"} & set(names))
    if lines := fig.axes[0].lines:
        ends = lines[0].get_xdata()[[0, -1]]
        sign = next(text for text in drawn if text.get_text() in "+×" and text.get_text())
        assert list(ends) == [drawn[0].get_position()[0], sign.get_position()[0]]


@pytest.mark.parametrize("steps", [*BLOCKS, None])
def test_no_box_lies_over_another_or_beyond_the_edge(steps):
    fig = diagrams.block(steps) if steps else diagrams.tasks()
    fig.canvas.draw()
    boxes = [t.get_bbox_patch().get_window_extent() for t in fig.axes[0].texts if t.get_text()]
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    for box in boxes:
        assert fig.bbox.x0 <= box.x0 and box.x1 <= fig.bbox.x1
        assert fig.bbox.y0 <= box.y0 and box.y1 <= fig.bbox.y1


def test_both_tasks_are_named():
    assert {"1. classification", "2. verification"} <= set(words(diagrams.tasks()))
