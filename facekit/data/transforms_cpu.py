"""The sampled transforms carried out image by image with OpenCV. Built in notebook 02.

The quick way on a CPU: 8-bit pixels stay in the cache, and every loop over them is OpenCV's, which
lets other threads of Python go on meanwhile.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from facekit.data.transform_params import TransformParams
from facekit.data.transforms import BLUR_WIDTH, GREY_LEVEL, Preprocess

cv2.setNumThreads(1)  # the loader has threads of its own; more would wait for each other
BILINEAR = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
BORDER = (GREY_LEVEL,) * 3
LEVELS = np.arange(256)


def apply(
    stored: Sequence[np.ndarray] | np.ndarray | Tensor,
    params: TransformParams,
    preprocess: Preprocess,
    out: Tensor | None = None,
) -> Tensor:
    """uint8 (B, side, side, 3) -> float32 (B, 3, size, size), channels_last, normalised.

    `stored` may be rows of a memory map, one by one. `out`: float32 (B, size, size, 3) to write
    to, which spares a large allocation; the result is a view of it. Safe in threads.
    """
    if isinstance(stored, Tensor):
        stored = stored.numpy()
    size = preprocess.size
    if out is None:
        out = torch.empty(len(stored), size, size, 3)
    work = _Work(params, preprocess, len(stored[0]))
    for number, (image, target) in enumerate(zip(stored, out.numpy(), strict=True)):
        pixels = work.colours(number, work.levels(number, work.warped(number, image)))
        np.copyto(work.floats, pixels)
        cv2.transform(work.floats, work.scale, target)
        left, top, right, bottom = work.erase[number]
        target[top:bottom, left:right] = 0  # the mean colour
    return out.permute(0, 3, 1, 2)


class _Work:
    """The parameters of a batch as OpenCV wants them, and room for one image on its way."""

    def __init__(self, params: TransformParams, preprocess: Preprocess, side: int) -> None:
        self.size = size = preprocess.size
        self.matrix = params.matrix.numpy()
        self.still = (params.matrix == torch.eye(2, 3)).all(2).all(1).tolist()
        self.solarize = params.solarize.tolist()
        self.posterize = params.posterize.tolist()
        self.blur = params.blur.tolist()
        self.erase = params.erase.int().tolist()
        plain = (params.colour == torch.eye(3)).all(2).all(1) & ~params.of_mean.any(2).any(1)
        self.plain = plain.tolist()
        # (B, 3, 4): the last column is what comes from the mean, once that is known
        self.colour = torch.nn.functional.pad(params.colour, (0, 1)).numpy()
        self.of_mean = (params.of_mean / size).numpy()
        mean = np.array(preprocess.mean)
        std = np.array(preprocess.std)
        self.scale = np.column_stack([np.diag(1 / (255 * std)), -mean / std]).astype(np.float32)
        self.near = np.empty((side, side, 3), np.uint8)
        self.room = np.empty((size, size, 3), np.uint8)
        self.floats = np.empty((size, size, 3), np.float32)

    def warped(self, number: int, image: np.ndarray) -> np.ndarray:
        if self.still[number] and len(image) == self.size:
            return image
        # Read from end to end first: the warp's jumps through far memory took twice as long.
        np.copyto(self.near, image)
        return cv2.warpAffine(
            self.near,
            self.matrix[number],
            (self.size, self.size),
            dst=self.room,
            flags=BILINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=BORDER,
        )

    def levels(self, number: int, pixels: np.ndarray) -> np.ndarray:
        solarize = self.solarize[number]
        posterize = self.posterize[number]
        if solarize < 256 or posterize < 8:
            table = np.where(solarize <= LEVELS, 255 - LEVELS, LEVELS)
            table &= -(1 << (8 - round(posterize)))
            pixels = cv2.LUT(pixels, table.astype(np.uint8))
        if sigma := self.blur[number]:
            pixels = cv2.GaussianBlur(pixels, (BLUR_WIDTH, BLUR_WIDTH), sigma)
        return pixels

    def colours(self, number: int, pixels: np.ndarray) -> np.ndarray:
        """Clamped once, on the way back to 8 bits."""
        if self.plain[number]:
            return pixels
        colour = self.colour[number]
        columns = cv2.reduce(pixels, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32F)  # exact, and the quickest
        colour[:, 3] = self.of_mean[number] @ cv2.reduce(columns, 1, cv2.REDUCE_AVG).ravel()
        return cv2.transform(pixels, colour, self.room)
