"""Photographs with known answers: rendered people, pasted into larger images of shapes."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from facekit import faces
from facekit.sources.detector import PACKAGE

__all__ = ["PACKAGE", "Scene", "clutter", "made_people", "pasted", "write_album"]
EASY = {
    "yaw": 0,
    "pitch": 0,
    "roll": 0,
    "hat": 0,
    "glasses": 0,
    "object": 0,
}  # as passports want it
MARKS = [faces.LANDMARKS.index(n) for n in "right_eye left_eye mouth_right mouth_left".split()]


class Scene(NamedTuple):
    """An image (H, W, 3) and where in it eyes and mouth are: (4, 2), left ones first."""

    image: np.ndarray
    marks: np.ndarray


def made_people(people: list[int], shots: list[int], size: int = 160) -> list[Scene]:
    """One image of each person and shot, looking at the camera."""
    settings = {"size": size, "difficulty": "easy", "changes": EASY}
    images = faces.render(people, shots, **settings).permute(0, 2, 3, 1).numpy()
    marks = faces.landmarks(people, shots, **settings).numpy()[:, MARKS]
    return [Scene(image, mark) for image, mark in zip(images, marks, strict=True)]


def clutter(seed: int, width: int = 400, height: int = 320) -> np.ndarray:
    """Shapes of all colours on a gradient, where nobody is."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(15):
        colour = tuple(int(level) for level in rng.integers(0, 256, 3))
        corner = rng.integers(0, [width, height])
        cv2.rectangle(image, corner, corner + rng.integers(5, 90, 2), colour, -1)
    return image


def pasted(scene: Scene, onto: np.ndarray, scale: float, turn: float, middle: tuple) -> Scene:
    """A scene scaled, turned by degrees and put into a larger image, its middle at `middle`."""
    height, width = scene.image.shape[:2]
    move = cv2.getRotationMatrix2D((width / 2, height / 2), turn, scale)
    move[:, 2] += np.array(middle) - [width / 2, height / 2]
    sides = onto.shape[1::-1]
    laid = cv2.warpAffine(scene.image, move, sides, flags=cv2.INTER_AREA)
    where = cv2.warpAffine(np.ones((height, width), np.float32), move, sides)[..., None]
    image = (laid * where + onto * (1 - where)).astype(np.uint8)
    return Scene(image, scene.marks @ move[:, :2].T + move[:, 2])


def write_album(folder: Path, counts: list[int]) -> None:
    """A folder for each person, with so many photographs: each somewhere in an image of shapes."""
    pairs = [(person, shot) for person, count in enumerate(counts) for shot in range(count)]
    scenes = made_people([70_001 + person for person, _ in pairs], [shot for _, shot in pairs])
    for row, ((person, shot), scene) in enumerate(zip(pairs, scenes, strict=True)):
        turn, middle = 20 * np.sin(row), (150 + 10 * (row % 10), 150 + 2 * (row % 10))
        image = pasted(scene, clutter(row), 1.2 + 0.4 * (row % 2), turn, middle).image
        path = folder / f"Person {person}" / f"IMG {shot}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
