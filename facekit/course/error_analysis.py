"""Why a network errs: made people, one cause changed at a time. Built in notebook 09.

What is asked here has an answer because the people are made: the same person, the same shot, and
one number of it another one. So before and after are compared on pairs of images.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from facekit import faces
from facekit.common import machine
from facekit.course import lesson
from facekit.data.layout import CourseData, ImageSet
from facekit.evaluation import classify, identification, load_run, statistics
from facekit.evaluation.embed import TrainedRun, embed
from facekit.faces import sheet
from facekit.faces.person import STYLES
from facekit.sources import get_profile, open_course, set_up, writers
from facekit.sources.manifest import read_manifest
from facekit.training import fit

STRANGERS = 100_000  # the first person here whom no course has: those draw from 1 to 99,999
FRESH, MORE = 1_000_000, 2_000_000  # the first shots here to ask by, and to train on
CLASSES, KNOWN = 300, 96  # people who are asked about: of the training set at most, of others
TARGET = 0.1  # FPIR at which DIR is told
REGIONS = ("background", "clothes, neck", "rest of face", "ears", "hair", "eyes", "nose", "mouth")
OF_PARTS = (0, 1, 1, 2, 3, 4, 4, 2, 1)  # the region of each of faces.PARTS


def rendered_course() -> tuple[CourseData, TrainedRun]:
    """The workspace's course and its network, which is trained where it is not yet.

    Of photographs there are no more shots than were taken: then a rendered course of the size
    laptop, kept in the cache, takes their place.
    """
    course = open_course()
    if read_manifest(course.root).get("source") == "synthetic":
        return course, lesson.trained_run(course)
    course = set_up("synthetic", get_profile("laptop"), machine.cache().value / "rendered")
    folder = machine.runs().value / "rendered"
    fit(lesson.course_recipe(course), course, folder)
    return course, load_run(folder)


class World:
    """Where the people of a rendered course come from: more shots of them can be taken."""

    def __init__(self, course: CourseData) -> None:
        self.course = course
        self.made = read_manifest(course.root)
        self.seed: int = self.made["seed"]
        self.classes = torch.tensor([int(name[1:]) for name in course.classes])  # their people

    def portrait(self, person: Tensor, shot: Tensor, changes: Mapping | None = None) -> Tensor:
        """Plain portraits with these parameters changed: uint8 (N, 3, H, W), as the course's.

        person, shot: int64 (N,). Background and clothes are the shot's, all else is held still.
        """
        device = "cuda" if torch.cuda.is_available() else "cpu"
        changes = sheet.portrait(person, self.seed) | (changes or {})
        size = self.made["pixels"]
        return faces.render(person, shot, size, device, self.seed, changes=changes).cpu()

    def through_causes(self, person: Tensor) -> dict[str, Tensor]:
        """A fresh shot of each person (N,) through every cause: uint8 (N, 3, H, W) by cause."""
        shot, found = fresh_shots(person), causes(person, self.seed)
        return {cause: self.portrait(person, shot, changes) for cause, changes in found.items()}

    def more_shots(self, each: int, difficulty: str) -> ImageSet:
        """`each` new training images of every class, made as the course's; kept in the cache."""
        folder = machine.cache().value / f"more-{self.made['sha256'][:16]}-{difficulty}"
        files, labels = [], []
        for label, person in enumerate(self.classes.tolist()):
            for shot in range(each):
                files.append((f"{label}/{shot:04d}.jpg", (person, MORE + shot)))
                labels.append(label)
        settings = {"size": self.made["pixels"], "seed": self.seed, "difficulty": difficulty}
        render = partial(writers.render_chunk, **settings)
        writers.write_files(files, folder, render, processes=None, progress=False)
        return ImageSet(folder, tuple(folder / path for path, _ in files), tuple(labels))

    def regions(self, person: Tensor, shot: Tensor, size: int) -> Tensor:
        """What each pixel of a portrait shows: int64 (N, size, size), places in REGIONS.

        Skin, hair and clothes are exact, by `faces.parts`; eyes (with brows), nose and mouth are
        ellipses round the landmarks. Glasses count as what is behind them.
        """
        asked = {"size": size, "seed": self.seed, "changes": sheet.portrait(person, self.seed)}
        region = torch.tensor(OF_PARTS)[faces.parts(person, shot, **asked).long()]
        skin = region == REGIONS.index("rest of face")
        found = faces.landmarks(person, shot, **asked).unbind(1)
        for name, inside in ellipses(dict(zip(faces.LANDMARKS, found, strict=True)), size):
            region[inside & skin] = REGIONS.index(name)
        return region


def ellipses(points: Mapping[str, Tensor], size: int) -> list[tuple[str, Tensor]]:
    """Which pixels are of the eyes, the nose and the mouth: bool (N, size, size); points (N, 2)."""
    eyes = points["left_eye"], points["right_eye"]
    apart = (eyes[0] - eyes[1]).norm(dim=1)[:, None]  # (N, 1), pixels
    nose = torch.lerp((eyes[0] + eyes[1]) / 2, points["nose_tip"], 0.7)
    mouth = (points["mouth_left"] + points["mouth_right"]) / 2
    pixel, found = torch.arange(size) + 0.5, []
    for name, middle, wide, high in (
        *(("eyes", eye, 0.4, 0.38) for eye in eyes),
        ("nose", nose, 0.28, 0.42),
        ("mouth", mouth, 0.5, 0.25),
    ):
        x = (pixel - middle[:, :1]) / (wide * apart)  # (N, size)
        y = (pixel - middle[:, 1:]) / (high * apart)
        found.append((name, x[:, None, :] ** 2 + y[:, :, None] ** 2 <= 1))
    return found


def fresh_shots(person: Tensor) -> Tensor:
    """For each of these people (N,) the number of a shot that no course has."""
    return FRESH + torch.arange(len(person))


def causes(person: Tensor, seed: int) -> dict[str, dict]:
    """What is changed of a plain portrait, by the name of the cause; the first changes nothing.

    person: int64 (N,). Values are numbers, or tensors (N,) where the change depends on the person.
    """
    who, _ = faces.parameters(person, torch.zeros_like(person), seed)
    aside = {"key_x": 1.0, "key_y": 0.15, "key_z": 0.1}
    return {
        "portrait": {},
        "turned 25°": {"yaw": math.radians(25)},
        "turned 50°": {"yaw": math.radians(50)},
        "light aside": aside | {"key": 1.6, "sky": 0.15, "fill": 0.0},
        "dim light": {"exposure": 0.4},
        "hat": {"hat": 1.0, "hat_low": 5.0},
        "glasses changed": {"glasses": 1 - who["wears_glasses"]},
        "sunglasses": {"sunglasses": 1.0, "glasses": 0.0},
        "other hair": {"style_now": (who["hair_style"] + 5) % len(STYLES)},
        "30 years older": {"age": (who["age"] + 30).clamp(max=75)},
        "blur": {"blur": 2.5},
    }


class Probes(NamedTuple):
    """Faces to ask a network about, each set through every cause."""

    closed: dict[str, Tensor]  # people it was trained on, uint8 (N, 3, H, W) each
    labels: np.ndarray  # (N,), their classes
    opened: dict[str, Tensor]  # people who are in no course, uint8 (P, 3, H, W) each
    truth: np.ndarray  # (P,), a place in the gallery, -1 for a stranger
    gallery: Tensor  # uint8 (G, 3, H, W)


class Answers(NamedTuple):
    """What a network makes of them, by cause."""

    closed: dict[str, np.ndarray]  # which faces are right, bool (N,)
    opened: dict[str, tuple[np.ndarray, np.ndarray]]  # of probes, as `statistics.compact` has it


def probes(world: World) -> Probes:
    """New shots of the first classes, and of as many known people as strangers."""
    classes = np.arange(len(world.classes))[:CLASSES]
    labels = np.tile(classes, max(1, 96 // len(classes)))
    known = min(KNOWN, 3 * len(classes))
    people = STRANGERS + torch.arange(2 * known)
    gallery = world.portrait(people[:known], torch.zeros_like(people[:known]))
    truth = np.r_[:known, [identification.NOBODY] * known]
    closed = world.through_causes(world.classes[labels])
    return Probes(closed, labels, world.through_causes(people), truth, gallery)


def judge(run: TrainedRun, asked: Probes) -> Answers:
    """Which class is each face of the closed set, and how alike are probes and gallery."""
    closed, opened, gallery = {}, {}, embed(run, asked.gallery)
    for cause in asked.closed:
        closed[cause] = classify(run, asked.closed[cause]) == asked.labels
        vectors = embed(run, asked.opened[cause])
        similarity = identification.similarity(vectors, gallery, run.measure)
        opened[cause] = statistics.compact(similarity, asked.truth)
    return Answers(closed, opened)


def compare(before: Answers | None, after: Answers, asked: Probes) -> dict[str, pd.DataFrame]:
    """How accuracy, and DIR where one stranger in ten is named, change: `changes`, by cause.

    before: None for those of the portraits, in the place of every cause.
    """
    before = before or Answers(*(dict.fromkeys(part, part["portrait"]) for part in after))
    return {
        "closed set: accuracy": changes(accuracy, before.closed, after.closed, asked.labels),
        "open set: DIR": changes(dir_at_target, before.opened, after.opened, asked.truth),
    }


def accuracy(right: np.ndarray, rows: np.ndarray) -> float:
    """The share of these rows that are right."""
    return float(right[rows].mean())


def dir_at_target(judged: tuple[np.ndarray, np.ndarray], rows: np.ndarray) -> float:
    """DIR at FPIR 10 % of these rows of scores (P, 2) and truth (P,)."""
    scores, truth = judged
    return identification.dir_at_fpir(scores[rows], truth[rows], TARGET).dir


def changes(
    figure: Callable[[Any, np.ndarray], float], before: Mapping, after: Mapping, whose: np.ndarray
) -> pd.DataFrame:
    """By how much a figure changes, on the same people: a row for each name of `before`.

    Columns: before, after, change, low and high, the ends of the change's interval of 95 %, and
    told: "more", "less" or, where the interval holds 0, "perhaps luck". `figure` is of what
    stands under a name, and some rows; whose (N,): the person of each row, -1 for a stranger.
    People are drawn again, before and after the same ones: who is hard is so before and after.
    """

    def both(rows: np.ndarray) -> list[list[float]]:
        return [[figure(one[name], rows) for one in (before, after)] for name in before]

    table = pd.DataFrame(both(np.arange(len(whose))), list(before), ["before", "after"])
    drawn = statistics.bootstrap(both, whose, count=500)  # (500, names, 2)
    low, high = statistics.interval(drawn[..., 1] - drawn[..., 0])
    told = np.select([low > 0, high < 0], ["more", "less"], "perhaps luck")
    change = table["after"] - table["before"]
    return table.assign(change=change, low=low, high=high, told=told)


def by_group(right: np.ndarray, group: np.ndarray, whose: np.ndarray) -> pd.DataFrame:
    """The accuracy of each group, and of the last less the first, with intervals of 95 %.

    right, group (0 to G - 1) and whose: (N,). No person is in two groups.
    """
    values, drawn = [], []
    for place in np.unique(group):
        own = group == place
        values.append(right[own].mean())
        figure = partial(accuracy, right[own])
        drawn.append(statistics.bootstrap(figure, whose[own], seed=place))
    values, drawn = [*values, values[-1] - values[0]], [*drawn, drawn[-1] - drawn[0]]
    low, high = statistics.interval(np.transpose(drawn))
    return pd.DataFrame({"accuracy": values, "low": low, "high": high})
