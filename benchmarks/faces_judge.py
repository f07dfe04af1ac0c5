"""Do outside detectors take the rendered faces for faces? Part of `faces.py judge`.

Needs `pip install dlib-bin` and `pip install --no-deps facenet-pytorch` (it asks for an old torch,
and works with the kit's). Both packages bring their weights.

A hit is a detection whose intersection over union with the box of the landmarks (forehead where
hair usually begins, cheeks, chin) is over 0.5; `score` is the median of the hits'. No detector is a
sure judge, so controls stand beside the figure: the same images upside down, with the eyes or eyes
and brows painted over, and photographs with the same settings. Photographs come without landmarks:
their box is the median of what the detector itself finds, and their eyes are where MTCNN finds
them. The table `frame` tells where MTCNN finds eyes and mouth in both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from machine import Report, against, steps
from people import DIFFICULTY, FRESH, numbers

from facekit import faces
from facekit.common.errors import FacekitError
from facekit.data.images import read_rgb
from facekit.data.layout import is_image
from facekit.evaluation.identification import wilson_interval

OVERLAP = 0.5
SURE = 0.99  # MTCNN's probability; at 0.95 it takes a quarter of faces upside down for faces
# Half axes of what is painted over, and how far above the eye, in distances between the eyes.
EYE = (0.34, 0.18, 0.0)
EYE_AND_BROW = (0.45, 0.36, 0.14)
FRAME = [faces.LANDMARKS.index(name) for name in "forehead cheek_left cheek_right chin".split()]


class Found(NamedTuple):
    """What a detector finds in an image."""

    boxes: np.ndarray  # (K, 4): left, top, right, bottom
    scores: np.ndarray  # (K,): the higher, the surer
    points: np.ndarray | None = None  # (K, 5, 2): eyes, nose, corners of the mouth; x and y


Judge = Callable[[np.ndarray], Found]  # of an RGB image (H, W, 3)


@dataclass
class Scene:
    """Images (N, size, size, 3), what is known about them, and each face's box (N, 4)."""

    images: np.ndarray
    eyes: np.ndarray  # (N, 2, 2): left and right in the image, x and y
    boxes: np.ndarray
    facts: dict[str, np.ndarray]


def hog() -> Judge:
    """dlib's frontal face detector: histograms of oriented gradients and a linear classifier."""
    import dlib

    detector = dlib.get_frontal_face_detector()

    def find(image: np.ndarray) -> Found:
        found, scores, _ = detector.run(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 1)
        boxes = [(r.left(), r.top(), r.right() + 1, r.bottom() + 1) for r in found]
        return Found(np.array(boxes, float).reshape(-1, 4), np.array(scores))

    return find


def mtcnn() -> Judge:
    """Three small convolutional networks in a row, trained on photographs; turned heads, too."""
    from facenet_pytorch import MTCNN

    detector = MTCNN(min_face_size=40, keep_all=True, device="cpu")

    def find(image: np.ndarray) -> Found:
        boxes, sure, points = detector.detect(image, landmarks=True)
        if boxes is None:
            return Found(np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2)))
        sure = sure.astype(float)
        kept = sure > SURE
        odds = np.log(sure[kept]) - np.log1p(-sure[kept].clip(max=1 - 1e-7))
        return Found(boxes[kept].astype(float), odds, points[kept].astype(float))

    return find


def judges(report: Report) -> dict[str, Judge]:
    try:
        made = {"HOG": hog(), "MTCNN": mtcnn()}
    except ImportError as error:
        raise FacekitError(
            f"judge: {error}; pip install dlib-bin, and pip install --no-deps facenet-pytorch"
        ) from error
    report.note(f"a hit overlaps the landmarks' box by more than {OVERLAP} (IoU)")
    report.note("HOG: dlib.get_frontal_face_detector, upsampled once; its score")
    report.note(f"MTCNN: facenet-pytorch's, probability over {SURE}; its log odds as the score")
    return made


def detections(judge: Judge, images: np.ndarray, title: str) -> list[Found]:
    return [judge(np.ascontiguousarray(image)) for image in steps(images, title)]


def overlap(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The intersection over union of each of `boxes` (K, 4) with `box`: (K,)."""
    corner = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    shared = np.prod(corner.clip(0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return shared / (areas - shared)


def hits(found: list[Found], boxes: np.ndarray) -> np.ndarray:
    """The score of the surest detection where the face is, NaN without one: float (N,)."""
    best = np.full(len(boxes), np.nan)
    for number, (one, box) in enumerate(zip(found, boxes, strict=True)):
        there = one.scores[overlap(one.boxes, box) > OVERLAP]
        if len(there):
            best[number] = there.max()
    return best


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
    eyes = marks[:, [faces.LANDMARKS.index("right_eye"), faces.LANDMARKS.index("left_eye")]]
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


def row(name: str, score: np.ndarray, bar: tuple[str, float] | None = None) -> dict:
    """A line of the table: the share of hits, their median score; `bar`: such as (">=", 0.97)."""
    line = {"what": name, "shots": len(score)}
    if not len(score):
        return line
    hit = ~np.isnan(score)
    low, high = wilson_interval(int(hit.sum()), len(hit))
    line |= {"hits": int(hit.sum()), "rate": float(hit.mean()), "low": low, "high": high}
    line |= {"score": float(np.median(score[hit])) if hit.any() else None}
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
        ("eyes removed", [without_eyes(*pair) for pair in pairs], boxes, None),
        ("eyes, brows removed", [without_eyes(*p, EYE_AND_BROW) for p in pairs], boxes, None),
    ):
        found = detections(judge, seen, f"{name}: {what}")
        rows.append(row(f"control: {what}", hits(found, where), bar))
    return rows


def lie(what: str, found: list[Found], size: int) -> dict:
    """Where eyes and mouth are by a judge's points, in hundredths of the image's side."""
    points = [one.points[middle(one, size)] for one in found if len(one.boxes)]
    at = np.array(points) * 100 / size  # (N, 5, 2): left eye, right eye, nose, mouth left, right
    eyes, mouth = at[:, :2].mean(1), at[:, 3:].mean(1)
    apart = np.linalg.norm(at[:, 1] - at[:, 0], axis=1)
    line = {"what": what, "shots": len(at)}
    for name, values in (
        ("eyes, across", eyes[:, 0]),
        ("eyes, down", eyes[:, 1]),
        ("eyes apart", apart),
        ("mouth below eyes", mouth[:, 1] - eyes[:, 1]),
    ):
        line |= {name: float(values.mean()), f"{name}, sd": float(values.std())}
    return line


def read_photographs(folder: Path, count: int, size: int) -> np.ndarray:
    """At most `count` photographs, evenly out of all below the folder: (N, size, size, 3)."""
    paths = sorted(p for p in folder.rglob("*") if is_image(p))
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)]
    images = (np.asarray(read_rgb(path)) for path in steps(chosen, "reading photographs"))
    return np.stack([cv2.resize(p, (size, size), interpolation=cv2.INTER_AREA) for p in images])


def middle(found: Found, size: int) -> int:
    """Which of the detections is nearest the middle of the image."""
    return int(np.abs((found.boxes[:, :2] + found.boxes[:, 2:]) - size).sum(1).argmin())


def photograph_rows(name: str, judge: Judge, images: np.ndarray, eyes: np.ndarray) -> list[dict]:
    size = images.shape[1]
    found = detections(judge, images, f"{name}: photographs")
    central = [one.boxes[middle(one, size)] for one in found if len(one.boxes)]
    boxes = np.tile(np.median(central, axis=0), (len(images), 1))
    turned = detections(judge, images[:, ::-1, ::-1], f"{name}: photographs upside down")
    rows = [
        row("photographs", hits(found, boxes)),
        row("photographs, upside down", hits(turned, upside_down(boxes, size))),
    ]
    for what, cover in (("eyes", EYE), ("eyes, brows", EYE_AND_BROW)):
        pairs = zip(images, eyes, strict=True)
        blind = [without_eyes(image, two, cover) for image, two in pairs]
        hidden = detections(judge, blind, f"{name}: photographs without {what}")
        rows.append(row(f"photographs, {what} removed", hits(hidden, boxes)))
    return rows


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
    both = judges(report)  # before the faces are rendered: they may be missing
    scene = join([photograph(seed, shots, size) for seed in seeds], seeds)
    near = slices(scene)["yaw under 20"][0]
    places = [lie("rendered", detections(both["MTCNN"], scene.images[near], "points"), size)]
    if folder:
        images = read_photographs(folder, photos, size)
        found = detections(both["MTCNN"], images, "points of photographs")
        places.append(lie("photographs", found, size))
        images = images[[len(one.boxes) > 0 for one in found]]
        eyes = np.stack([one.points[middle(one, size), :2] for one in found if len(one.boxes)])
    report.table("frame", places)
    for name, judge in both.items():
        rows = judged(name, judge, scene)
        if folder:
            rows += photograph_rows(name, judge, images, eyes)
        report.table(name, rows)
