"""The drawn changes carried out picture by picture with OpenCV. Built in notebook 02.

The quick way on a CPU: 8-bit pixels stay in the cache, and every loop over them is OpenCV's, which
lets other threads of Python go on meanwhile.
"""

import mmap
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from facekit.augment import BLUR_WIDTH, GREY_LEVEL, Preprocess
from facekit.changes import Changes

cv2.setNumThreads(1)  # the feed has threads of its own; more would wait for each other
BILINEAR = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
BORDER = (GREY_LEVEL,) * 3
LEVELS = np.arange(256)


def apply(
    pictures: Sequence[np.ndarray] | np.ndarray | Tensor,
    changes: Changes,
    preprocess: Preprocess,
    out: Tensor | None = None,
) -> Tensor:
    """uint8 (B, side, side, 3) -> float32 (B, 3, size, size), channels_last, normalised.

    `pictures` may be rows of a memory map, one by one. `out`: float32 (B, size, size, 3) to write
    to, which spares a large allocation; the result is a view of it. Safe in threads.
    """
    if isinstance(pictures, Tensor):
        pictures = pictures.numpy()
    size = preprocess.size
    if out is None:
        out = _room(len(pictures), size)
    work = _Work(changes, preprocess, len(pictures[0]))
    for number, (picture, target) in enumerate(zip(pictures, out.numpy(), strict=True)):
        pixels = work.colours(number, work.levels(number, work.warped(number, picture)))
        np.copyto(work.floats, pixels)
        cv2.transform(work.floats, work.scale, target)
        left, top, right, bottom = work.erase[number]
        target[top:bottom, left:right] = 0  # the mean colour
    return out.permute(0, 3, 1, 2)


def _room(count: int, size: int) -> Tensor:
    """float32 (count, size, size, 3) of any content.

    What is over 32 MB the C library fetches anew for every batch, by 4 KB: that took as long as all
    the changes of pictures of 224 pixels. Linux has larger pages, for who asks.
    """
    length = 4 * count * size * size * 3
    if length < 32 << 20 or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(count, size, size, 3)
    memory = mmap.mmap(-1, length, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.float32).view(count, size, size, 3)


class _Work:
    """The changes of a batch as OpenCV wants them, and room for one picture on its way."""

    def __init__(self, changes: Changes, preprocess: Preprocess, side: int) -> None:
        self.size = size = preprocess.size
        self.matrix = changes.matrix.numpy()
        self.still = (changes.matrix == torch.eye(2, 3)).all(2).all(1).tolist()
        self.solarize, self.posterize = changes.solarize.tolist(), changes.posterize.tolist()
        self.blur, self.erase = changes.blur.tolist(), changes.erase.int().tolist()
        plain = (changes.colour == torch.eye(3)).all(2).all(1) & ~changes.of_mean.any(2).any(1)
        self.plain = plain.tolist()
        # (B, 3, 4): the last column is what comes from the mean, once that is known
        self.colour = torch.nn.functional.pad(changes.colour, (0, 1)).numpy()
        self.of_mean = (changes.of_mean / size).numpy()
        mean, std = np.array(preprocess.mean), np.array(preprocess.std)
        self.scale = np.column_stack([np.diag(1 / (255 * std)), -mean / std]).astype(np.float32)
        self.near = np.empty((side, side, 3), np.uint8)
        self.room = np.empty((size, size, 3), np.uint8)
        self.floats = np.empty((size, size, 3), np.float32)

    def warped(self, number: int, picture: np.ndarray) -> np.ndarray:
        if self.still[number] and len(picture) == self.size:
            return picture
        # Read from end to end first: the warp's jumps through far memory took twice as long.
        np.copyto(self.near, picture)
        matrix, shape, border = self.matrix[number], (self.size, self.size), cv2.BORDER_CONSTANT
        return cv2.warpAffine(self.near, matrix, shape, self.room, BILINEAR, border, BORDER)

    def levels(self, number: int, pixels: np.ndarray) -> np.ndarray:
        solarize, posterize = self.solarize[number], self.posterize[number]
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
