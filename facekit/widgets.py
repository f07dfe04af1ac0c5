"""Sliders for the notebooks: each is a pure function of its values, with a slider over it."""

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from facekit import openset, plots
from facekit.augment import NOTHING, Augment, Preprocess, preview


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
        name: ipywidgets.FloatSlider(
            value=getattr(NOTHING, name), min=low, max=high, step=(high - low) / 20,
            description=name, continuous_update=False,
        )
        for name, (low, high) in STRENGTHS.items()
    }  # fmt: skip

    def show(**strengths: float) -> None:
        plots.montage(preview(picture, preprocess, Augment(flip=0.5, **strengths), 8), columns=8)
        plt.show()

    return ipywidgets.VBox([*sliders.values(), ipywidgets.interactive_output(show, sliders)])
