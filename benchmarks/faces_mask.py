"""Is there a shortcut past the face? Part of `faces.py mask`.

Two ways to cheat are tried. One looks at images in which the head is hidden: by a region that is
the same in all images and holds every pixel at which any of them shows a head: greying a single
head more would tell its outline. So that the region leaves something to look at, heads
are held still for these images; background, clothes, light and film are as drawn. The other is
told the drawn numbers of a shot, pose among them, but for those that are habits of a person (hair,
beard, glasses, make-up). Both should be at chance.
"""

import hashlib
import re
from pathlib import Path

import numpy as np
import torch
from faces_learn import accuracy_row, flat, linear_probe
from machine import Report, steps
from people import DIFFICULTY, numbers
from PIL import Image
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.feature_selection import f_classif
from torch.nn import functional

from facekit import faces, training
from facekit.data.layout import CourseData, get_term
from facekit.data.transforms import NOTHING
from facekit.training import recipe as recipes
from facekit.training.recipe import Recipe

GREY = 128
EDGE = 0.03  # of the image's width: blur carries a head's colour that far
STILL = {
    "yaw": 0, "pitch": 0, "roll": 0, "body_yaw": 0, "body_roll": 0, "zoom": 0.8, "shift_x": 0,
    "shift_y": 0, "distance": 150, "style_now": 0, "hat": 0, "object": 0,
}  # fmt: skip
HABITS = re.compile("hair|style|fringe|beard|^glasses|makeup")
SPLIT = {"train": range(20), "dev": range(20, 25), "test": range(25, 35)}
RECIPE = Recipe("masked", network="tiny", epochs=20, lr=3e-3, augment=NOTHING, weight_decay=0.05)


def photograph(people: int, shots: range, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, size, size, 3) of each person in each shot, held still, and their parts."""
    person, shot = keys(people, shots)
    images = []
    parts = []
    for start in steps(range(0, len(person), 64), "rendering"):
        who = person[start : start + 64]
        which = shot[start : start + 64]
        made = faces.render(who, which, size, "cpu", seed, DIFFICULTY, STILL)
        images.append(made.permute(0, 2, 3, 1).numpy())
        parts.append(faces.parts(who, which, size, "cpu", seed, DIFFICULTY, STILL).numpy())
    return np.concatenate(images), np.concatenate(parts)


def keys(people: int, shots: range) -> tuple[torch.Tensor, torch.Tensor]:
    """Every person with every shot, int64 (people * shots,) each."""
    shot = torch.tensor(list(shots))
    return numbers(people).repeat_interleave(len(shot)), shot.repeat(people)


def fixed_region(parts: np.ndarray, *beside: str) -> np.ndarray:
    """The places at which any image shows anything but `beside`: (size, size)."""
    return ~np.isin(parts, [faces.PARTS.index(name) for name in beside]).all(0)


def grown(masks: np.ndarray) -> np.ndarray:
    """Masks (N, size, size) with an edge around them."""
    edge = max(1, round(EDGE * masks.shape[-1]))
    found = torch.from_numpy(masks)[:, None].float()
    return functional.max_pool2d(found, 2 * edge + 1, 1, edge)[:, 0].numpy() > 0


def hide(images: np.ndarray, region: np.ndarray) -> np.ndarray:
    hidden = images.copy()
    hidden[:, grown(region[None])[0]] = GREY
    return hidden


def write_course(root: Path, images: dict[str, np.ndarray], people: int) -> CourseData:
    """The images in the homework's layout, for the kit's own training loop."""
    term = get_term("F23")
    (root / term.verification).mkdir(parents=True, exist_ok=True)
    for split, folder in (("train", "train"), ("test", "dev")):
        shots = len(SPLIT[split])
        for index, image in enumerate(steps(images[split], "writing")):
            place = root / term.classification / folder / f"n{index // shots + 1:06d}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{index % shots:04d}.png")
    return CourseData(root)


def network_row(root: Path, images: dict[str, np.ndarray], people: int, size: int) -> dict:
    """A small network on what is left: its accuracy after the last epoch."""
    data = write_course(root / "masked", images, people)
    recipe = recipes.load(RECIPE, [f"image_size={size}"])
    history = training.fit(recipe, data, root / "run")
    share = history.rows[-1]["dev_accuracy"]
    tests = people * len(SPLIT["test"])
    right = np.arange(tests) < round(share * tests)
    return accuracy_row("head hidden: small network", right, ("<=", 1 / people + 0.02))


def image_rows(report: Report, people: int, seed: int, size: int, work: Path) -> list[dict]:
    made = {split: photograph(people, shots, size, seed) for split, shots in SPLIT.items()}
    parts = np.concatenate([each for _, each in made.values()])
    head = fixed_region(parts, "background", "clothes")
    body = fixed_region(parts, "background")
    left = [1 - grown(region[None]).mean() for region in (head, body)]
    report.note(
        f"left beside all heads: {left[0]:.1%} of the image; beside all bodies: {left[1]:.1%}"
    )
    labels = {s: np.repeat(np.arange(people), len(shots)) for s, shots in SPLIT.items()}
    bar = ("<=", 1 / people + 0.02)
    rows = []
    for what, region in (("head and body", body), ("head", head)):
        hidden = {split: hide(images, region) for split, (images, _) in made.items()}
        right, settings = linear_probe({s: flat(p) for s, p in hidden.items()}, labels)
        row = accuracy_row(f"{what} hidden: linear probe", right, bar)
        rows.append(row | {"note": settings})
    code = hashlib.sha256(hidden["train"].tobytes()).hexdigest()[:8]
    return [*rows, network_row(work / f"masked-{people}-{size}-{code}", hidden, people, size)]


def circumstances(people: int, shots: range, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The drawn numbers of each shot, a column for each, and whose shot it is."""
    person, shot = keys(people, shots)
    _, how = faces.parameters(person, shot, seed=seed, difficulty=DIFFICULTY)
    columns = {}
    for name, value in how.items():
        for i, column in enumerate(value.reshape(len(person), -1).unbind(1)):
            columns[f"{name}.{i}" if value.dim() > 1 else name] = column.double().numpy()
    return columns, person.numpy() - int(person[0])


def draw_rows(report: Report, people: int, seed: int) -> list[dict]:
    """Classifiers that are told the draws of 60 shots of each person, tested on 30 others."""
    columns, label = circumstances(people, range(60), seed)
    tests, truth = circumstances(people, range(60, 90), seed)
    names = [n for n, v in columns.items() if not HABITS.search(n) and v.std() > 0]
    report.note(f"{len(names)} drawn numbers tested: {' '.join(names)}")
    report.note(f"habits left out: {' '.join(sorted(set(columns) - set(names)))}")
    known = np.stack([columns[name] for name in names], 1)
    probes = np.stack([tests[name] for name in names], 1)
    bar = ("<=", 1 / people + 0.02)
    rows = []
    trees = ExtraTreesClassifier(200, min_samples_leaf=3, random_state=0)
    for title, model in (("linear", LinearDiscriminantAnalysis()), ("trees", trees)):
        right = model.fit(known, label).predict(probes) == truth
        rows.append(accuracy_row(f"drawn circumstances: {title}", right, bar))
    chances = f_classif(known, label)[1] * len(names)  # Bonferroni's correction
    guilty = [f"{n} ({p:.1g})" for n, p in zip(names, chances, strict=True) if p < 0.01]
    report.note(f"draws whose mean differs by person (p < 0.01): {', '.join(guilty) or 'none'}")
    return rows


def measure(report: Report, people: int, seed: int, size: int, work: Path) -> None:
    rows = draw_rows(report, people, seed) + image_rows(report, people, seed, size, work)
    rows.append({"what": "chance", "accuracy": 1 / people})
    report.table("who is it, without the face?", rows)
