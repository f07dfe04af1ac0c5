"""Sliders for the notebooks: each is a pure function of its values, with a slider over it."""

from inspect import signature

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from PIL import Image

from facekit import anatomy, blocks, heads, openset, plots
from facekit.augment import NOTHING, Augment, Preprocess, preview


def _slider(
    name: str, value: float, low: float, high: float, step: float
) -> ipywidgets.IntSlider | ipywidgets.FloatSlider:
    """A slider of whole numbers or of others, as `step` is; it answers when it is let go."""
    kind = ipywidgets.IntSlider if isinstance(step, int) else ipywidgets.FloatSlider
    return kind(
        value=value, min=low, max=high, step=step, description=name, continuous_update=False
    )


def describe_threshold(similarity: np.ndarray, truth: np.ndarray, threshold: float) -> str:
    """In words, what a threshold does to these probes."""
    found, false = openset.dir_fpir(similarity, truth, threshold)
    accuracy = openset.accuracy(similarity, truth, threshold)
    return (
        f"threshold {threshold:.3f}: accuracy {accuracy:.1%} "
        f"= {np.mean(truth >= 0):.0%} known x DIR {found:.1%} "
        f"+ {np.mean(truth < 0):.0%} unknown x (1 - FPIR {false:.1%})"
    )


def threshold(
    similarity: np.ndarray, truth: np.ndarray, start: float | None = None
) -> ipywidgets.VBox:
    """A slider over the threshold, with both errors and the accuracy as it moves.

    Its `children[0].value` is the threshold that was chosen last.
    """
    best = similarity.max(1)
    if start is None:
        start = openset.choose_threshold(similarity, truth).value
    low, high = min(float(best.min()), start) - 0.02, max(float(best.max()), start) + 0.02
    slider = ipywidgets.FloatSlider(
        value=start,
        min=low,
        max=high,
        step=(high - low) / 200,
        description="threshold",
        readout_format=".3f",
        continuous_update=False,
        layout={"width": "60%"},
    )

    def show(value: float) -> None:
        print(describe_threshold(similarity, truth, value))
        plots.trade_off(similarity, truth, value)
        plt.show()  # without it Colab appends pictures instead of replacing them

    return ipywidgets.VBox([slider, ipywidgets.interactive_output(show, {"value": slider})])


STRENGTHS = {  # setting: least, most
    "crop_scale": (0.2, 1.0),
    "rotation": (0.0, 45.0),
    "jitter": (0.0, 1.0),
    "grey": (0.0, 1.0),
    "erasing": (0.0, 1.0),
}


def augmentation(picture: Image.Image, preprocess: Preprocess) -> ipywidgets.VBox:
    """A slider for each change, and eight previews of what training would see."""
    sliders = {
        name: _slider(name, getattr(NOTHING, name), low, high, (high - low) / 20)
        for name, (low, high) in STRENGTHS.items()
    }

    def show(**strengths: float) -> None:
        plots.montage(preview(picture, preprocess, Augment(flip=0.5, **strengths), 8), columns=8)
        plt.show()

    return ipywidgets.VBox([*sliders.values(), ipywidgets.interactive_output(show, sliders)])


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
