"""Do outside detectors take the rendered faces for faces? Part of `faces.py judge`.

A hit is a detection whose intersection over union with the box of the landmarks (forehead where
hair usually begins, cheeks, chin) is over 0.5. How the judge's own boxes lie about the eyes is
printed below each table.

The detectors are weak judges, so controls stand beside the figure: the same images upside down,
with the eyes painted over, and photographs with the same settings. Photographs come without
landmarks; their box is the median of what the detector itself finds, and the eyes are where a
cascade for eyes finds them in the median, so that figure is for faces which lie alike in every
photograph.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from faces_report import DIFFICULTY, FRESH, Report, against, numbers, steps

from facekit import faces
from facekit.common.errors import FacekitError
from facekit.data.images import read_rgb
from facekit.data.layout import is_image
from facekit.evaluation.identification import wilson_interval

OVERLAP = 0.5
HAAR = {"scaleFactor": 1.1, "minNeighbors": 3}
CASCADES = ("haarcascade_frontalface_default.xml", "haarcascade_frontalface_alt2.xml")
# Half axes of what is painted over, and how far above the eye, in distances between the eyes.
EYE = (0.34, 0.18, 0.0)
EYE_AND_BROW = (0.45, 0.36, 0.14)
FRAME = [faces.LANDMARKS.index(name) for name in "forehead cheek_left cheek_right chin".split()]
Judge = Callable[[np.ndarray], np.ndarray]  # grey (H, W) -> boxes (K, 4): left, top, right, bottom


@dataclass
class Scene:
    """Images (N, size, size, 3), what is known about them, and each face's box (N, 4)."""

    images: np.ndarray
    eyes: np.ndarray  # (N, 2, 2): left and right, x and y
    boxes: np.ndarray
    facts: dict[str, np.ndarray]


def cascade(name: str) -> Any:
    """One of OpenCV's cascades. FacekitError where there are none, as in version 5."""
    if not hasattr(cv2, "CascadeClassifier"):
        raise FacekitError(
            f"judge: OpenCV {cv2.__version__} has no Haar cascades; "
            "pip install 'opencv-python-headless<5' in an environment for this"
        )
    return cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / name))


def haar() -> Judge:
    """Viola-Jones cascades: what either of the two finds."""
    cascades = [cascade(name) for name in CASCADES]

    def find(grey: np.ndarray) -> np.ndarray:
        found = [np.reshape(c.detectMultiScale(grey, **HAAR), (-1, 4)) for c in cascades]
        boxes = np.concatenate(found).astype(float)
        return np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])

    return find


def hog() -> Judge:
    """dlib's frontal face detector: histograms of oriented gradients and a linear classifier."""
    import dlib

    detector = dlib.get_frontal_face_detector()

    def find(grey: np.ndarray) -> np.ndarray:
        found = detector(np.ascontiguousarray(grey), 1)
        boxes = [(r.left(), r.top(), r.right() + 1, r.bottom() + 1) for r in found]
        return np.array(boxes, float).reshape(-1, 4)

    return find


def judges(report: Report) -> dict[str, Judge]:
    report.note(f"Haar: {' or '.join(CASCADES)}, {HAAR}, no equalisation; IoU over {OVERLAP}")
    if importlib.util.find_spec("dlib") is None:
        report.note("second judge left out; it needs: pip install dlib-bin")
        return {"Haar": haar()}
    report.note("HOG: dlib.get_frontal_face_detector, upsampled once")
    return {"Haar": haar(), "HOG": hog()}


def detections(judge: Judge, images: np.ndarray, title: str) -> list[np.ndarray]:
    return [judge(as_grey(image)) for image in steps(images, title)]


def overlap(boxes: np.ndarray, box: np.ndarray) -> float:
    """The highest intersection over union of any of `boxes` (K, 4) with `box`; 0 without any."""
    if not len(boxes):
        return 0.0
    corner = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    shared = np.prod(corner.clip(0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return float((shared / (areas - shared)).max())


def hits(found: list[np.ndarray], boxes: np.ndarray) -> np.ndarray:
    """Which of the images have a detection where the face is: bool (N,)."""
    return np.array([overlap(*pair) for pair in zip(found, boxes, strict=True)]) > OVERLAP


def as_grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)


def upside_down(boxes: np.ndarray, size: int) -> np.ndarray:
    """The boxes of images that are turned by half a turn."""
    return size - boxes[:, [2, 3, 0, 1]]


def without_eyes(
    image: np.ndarray, eyes: np.ndarray, cover: tuple[float, float, float] = EYE
) -> np.ndarray:
    """The image with eyes and lids (or brows too) painted over from around them."""
    x, y = eyes[1] - eyes[0]
    apart = float(np.hypot(x, y))
    angle = float(np.degrees(np.arctan2(y, x)))
    mask = np.zeros(image.shape[:2], np.uint8)
    axes = tuple(max(1, round(share * apart)) for share in cover[:2])
    up = cover[2] * np.array([y, -x])
    for eye in eyes + up:
        cv2.ellipse(mask, tuple(int(v) for v in eye.round()), axes, angle, 0, 360, 255, -1)
    return cv2.inpaint(np.ascontiguousarray(image), mask, 3, cv2.INPAINT_TELEA)


def photograph(seed: int, shots: int, size: int) -> Scene:
    """As many different people, one shot of each, every nuisance on."""
    images = []
    points = []
    for start in steps(range(0, shots, 32), f"rendering, seed {seed}"):
        person = numbers(min(32, shots - start), FRESH + start)
        keys = {"size": size, "seed": seed, "difficulty": DIFFICULTY}
        images.append(faces.render(person, person - FRESH, **keys).permute(0, 2, 3, 1).numpy())
        points.append(faces.landmarks(person, person - FRESH, **keys).numpy())
    everybody = numbers(shots)
    who, how = faces.parameters(everybody, everybody - FRESH, seed, DIFFICULTY)
    facts = {name: value.numpy() for name, value in (who | how).items()}
    marks = np.concatenate(points).astype(float)
    frame = marks[:, FRAME]
    eyes = marks[:, [faces.LANDMARKS.index("left_eye"), faces.LANDMARKS.index("right_eye")]]
    return Scene(np.concatenate(images), eyes, np.hstack([frame.min(1), frame.max(1)]), facts)


def slices(scene: Scene) -> dict[str, tuple[np.ndarray, float | None]]:
    """Which shots belong to each row of the table, and the row's bar."""
    facts = scene.facts
    yaw = np.degrees(np.abs(facts["yaw"]))
    near = yaw < 20
    tone = facts["tone"]
    on = {
        name: near & (facts[name].astype(float) > 0.5)
        for name in ("fringe_now", "glasses", "sunglasses", "beard_now", "hat", "sex")
        if name in facts
    }
    rows = {
        "yaw under 20": (near, 0.97),
        "yaw 20 to 40": ((yaw >= 20) & (yaw <= 40), None),
        "yaw over 40": (yaw > 40, None),
        "  light third": (near & (tone < 1 / 3), 0.94),
        "  middle third": (near & (tone >= 1 / 3) & (tone < 2 / 3), 0.94),
        "  dark third": (near & (tone >= 2 / 3), 0.94),
        "  fringe": (on.get("fringe_now", near & False), 0.94),
        "  glasses": (on["glasses"] & ~on["sunglasses"], 0.94),
        "  sunglasses": (on["sunglasses"], None),
        "  beard": (on["beard_now"], 0.94),
        "  hat": (on["hat"], 0.94),
        "  women": (near & ~on["sex"], None),
        "  men": (on["sex"], None),
    }
    seeds = sorted(set(facts["seed"].tolist()))
    return rows | {f"  seed {seed}": (near & (facts["seed"] == seed), None) for seed in seeds}


def row(name: str, hit: np.ndarray, bar: tuple[str, float] | None = None) -> dict:
    """A line of the table; `bar`: such as (">=", 0.97)."""
    line = {"what": name, "shots": len(hit)}
    if not len(hit):
        return line
    low, high = wilson_interval(int(hit.sum()), len(hit))
    line |= {"hits": int(hit.sum()), "rate": float(hit.mean()), "low": low, "high": high}
    line |= against(line["rate"], *bar) if bar else {}
    return line


def judged(name: str, judge: Judge, scene: Scene) -> list[dict]:
    """All rows of one judge: by pose, by slice, and the controls."""
    found = detections(judge, scene.images, f"{name}: all")
    hit = hits(found, scene.boxes)
    rows = [
        row(what, hit[mask], (">=", bar) if bar else None)
        for what, (mask, bar) in slices(scene).items()
    ]
    near = slices(scene)["yaw under 20"][0]
    images = scene.images[near]
    boxes = scene.boxes[near]
    eyes = scene.eyes[near]
    pairs = list(zip(images, eyes, strict=True))
    size = images.shape[1]
    for what, seen, where, bar in (
        ("upside down", images[:, ::-1, ::-1], upside_down(boxes, size), ("<=", 0.2)),
        ("eyes removed", [without_eyes(*pair) for pair in pairs], boxes, ("<=", 0.5)),
        ("eyes, brows removed", [without_eyes(*p, EYE_AND_BROW) for p in pairs], boxes, None),
    ):
        found = detections(judge, seen, f"{name}: {what}")
        rows.append(row(f"control: {what}", hits(found, where), bar))
    return rows


def proportions(judge: Judge, images: np.ndarray, eyes: np.ndarray) -> str:
    """How the judge's boxes lie about the eyes, the median of at most 100 images."""
    found = []
    for image, (left, right) in list(zip(images, eyes, strict=True))[:100]:
        middle = (left + right) / 2
        apart = np.hypot(*(right - left))
        for box in judge(as_grey(image)):
            if (box[:2] < middle).all() and (middle < box[2:]).all():
                found.append([(box[2] - box[0]) / apart, (middle[1] - box[1]) / (box[3] - box[1])])
    wide, level = np.median(found, axis=0) if found else (np.nan, np.nan)
    return f"{wide:.2f} distances between the eyes wide, the eyes at {level:.2f} of its height"


def read_photographs(folder: Path, count: int, size: int) -> np.ndarray:
    """At most `count` photographs, evenly out of all below the folder: (N, size, size, 3)."""
    paths = sorted(p for p in folder.rglob("*") if is_image(p))
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)]
    images = (np.asarray(read_rgb(path)) for path in steps(chosen, "reading photographs"))
    return np.stack([cv2.resize(p, (size, size), interpolation=cv2.INTER_AREA) for p in images])


def median_box(found: list[np.ndarray], size: int) -> np.ndarray:
    """The median, over images with any detection, of the one nearest the middle: (4,)."""
    central = []
    for boxes in found:
        if len(boxes):
            away = np.abs((boxes[:, :2] + boxes[:, 2:]) - size).sum(1)
            central.append(boxes[away.argmin()])
    return np.median(central, axis=0)


def median_eyes(images: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Where the eyes are as a rule: the median of each side's detections in the box, (2, 2)."""
    eye = cascade("haarcascade_eye.xml")
    left, top, right, bottom = box.round().astype(int)
    sides: tuple[list, list] = ([], [])
    for image in steps(images, "finding eyes"):
        upper = as_grey(image)[top : top + (bottom - top) * 6 // 10, left:right]
        for x, y, width, height in np.reshape(eye.detectMultiScale(upper, 1.1, 5), (-1, 4)):
            centre = x + width / 2 + left, y + height / 2 + top
            sides[int(centre[0] > (left + right) / 2)].append(centre)
    return np.array([np.median(side, axis=0) for side in sides])


def photograph_rows(name: str, judge: Judge, images: np.ndarray, eyes: np.ndarray) -> list[dict]:
    size = images.shape[1]
    found = detections(judge, images, f"{name}: photographs")
    boxes = np.tile(median_box(found, size), (len(images), 1))
    turned = detections(judge, images[:, ::-1, ::-1], f"{name}: photographs upside down")
    rows = []
    for what, cover in (("eyes", EYE), ("eyes, brows", EYE_AND_BROW)):
        blind = [without_eyes(image, eyes, cover) for image in images]
        hidden = detections(judge, blind, f"{name}: photographs without {what}")
        rows.append(row(f"photographs, {what} removed", hits(hidden, boxes)))
    return [
        row("photographs", hits(found, boxes)),
        row("photographs upside down", hits(turned, upside_down(boxes, size))),
        *rows,
    ]


def join(scenes: list[Scene], seeds: list[int]) -> Scene:
    for seed, scene in zip(seeds, scenes, strict=True):
        scene.facts["seed"] = np.full(len(scene.boxes), seed)
    parts = ([getattr(scene, name) for scene in scenes] for name in ("images", "eyes", "boxes"))
    facts = {name: np.concatenate([s.facts[name] for s in scenes]) for name in scenes[0].facts}
    return Scene(*(np.concatenate(part) for part in parts), facts)


def measure(
    report: Report, shots: int, seeds: list[int], size: int, folder: Path | None, photos: int
) -> None:
    cv2.setNumThreads(1)
    haar()  # before the faces are rendered: it may be missing
    scene = join([photograph(seed, shots, size) for seed in seeds], seeds)
    near = slices(scene)["yaw under 20"][0]
    if folder:
        images = read_photographs(folder, photos, size)
        some = detections(haar(), images[:200], "where photographs have their face")
        eyes = median_eyes(images[:200], median_box(some, size))
        everywhere = np.tile(eyes, (len(images), 1, 1))
    for name, judge in judges(report).items():
        rows = judged(name, judge, scene)
        said = f"{name}'s box, rendered: {proportions(judge, scene.images[near], scene.eyes[near])}"
        if folder:
            rows += photograph_rows(name, judge, images, eyes)
            said += f"; photographs: {proportions(judge, images, everywhere)}"
        if name != "Haar":  # the bars are for the first judge
            rows = [{k: v for k, v in r.items() if k not in ("bar", "verdict")} for r in rows]
        report.table(name, rows, percent=("rate", "low", "high"))
        report.note(said)
