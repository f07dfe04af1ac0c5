"""What a change of an image costs, by each way of carrying it out. Built in notebook 02."""

import time
import timeit
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps

from facekit.data import transforms_cpu, transforms_gpu
from facekit.data.transform_params import sample_params
from facekit.data.transforms import Augment, Preprocess, preview

ROUNDS = 3  # the first time is slow, the quickest counts


def milliseconds(work: Callable[[], object]) -> float:
    """What one call costs of a core, on however many it runs."""
    return 1000 * min(timeit.repeat(work, timer=time.process_time, repeat=ROUNDS, number=1))


def ways(
    image: Image.Image, preprocess: Preprocess, side: int, count: int
) -> dict[str, Callable[[Augment], torch.Tensor]]:
    """Three ways to change `count` copies of an image, all on the processor.

    "v2, one by one" begins with the image as it was opened, the others with pixels that were
    brought to side x side before.
    """
    pixels = np.asarray(ImageOps.fit(image, (side, side)))
    stored = np.tile(pixels, (count, 1, 1, 1))  # uint8 (B, side, side, 3)
    keys = [(0, index) for index in range(count)]

    def at_once(module: ModuleType, images: np.ndarray | torch.Tensor) -> Callable:
        def work(augment: Augment) -> torch.Tensor:
            params = sample_params(augment, preprocess, side, 0, keys)
            return module.apply(images, params, preprocess)

        return work

    return {
        "v2, one by one": lambda augment: preview(image, preprocess, augment, count),
        "OpenCV": at_once(transforms_cpu, stored),
        "tensors": at_once(transforms_gpu, torch.from_numpy(stored)),
    }


def cost_table(
    image: Image.Image,
    preprocess: Preprocess,
    side: int,
    changes: Mapping[str, Augment],
    count: int = 32,
) -> pd.DataFrame:
    """Milliseconds of a core for one image: a row for each change, a column for each way."""
    return pd.DataFrame(
        {
            name: {
                change: milliseconds(partial(way, augment)) / count
                for change, augment in changes.items()
            }
            for name, way in ways(image, preprocess, side, count).items()
        }
    )
