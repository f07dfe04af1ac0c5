"""How hard the rendered people are to learn. Part of `faces.py learn`.

The images are a course that the kit itself makes, JPEG included, and the network is trained by
the kit's own loop: call it again after an interruption, and it goes on. A course's people come
from its seed, so another seed means people whom no other course shows. Every choice (the number
of components and C of the linear probe, the best epoch) is made on dev, every figure is of test.
"""

import hashlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from machine import Report, against
from people import DIFFICULTY, FRESH, numbers
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.preprocessing import StandardScaler

from facekit import faces, models, training
from facekit.course import baselines
from facekit.data.images import read_rgb
from facekit.data.layout import CourseData, get_term
from facekit.data.transforms import Augment
from facekit.evaluation import embed
from facekit.evaluation.identification import similarity, wilson_interval
from facekit.models import specs, zoo
from facekit.sources import plans, set_up
from facekit.sources.profiles import PROFILES, Profile
from facekit.training import recipe as recipes
from facekit.training.recipe import Recipe

RECIPE = Recipe(
    name="faces",
    network=specs.spec_as_dict(zoo.residual((16, 32, 64, 128, 256), (1,) * 5, dropout=0.2)),
    image_size=64,
    auxiliary_loss={"name": "triplet", "margin": 0.3},  # half of what is measured is verification
    images_per_class=4,
    epochs=100,
    batch_size=32,
    lr=3e-3,
    warmup_epochs=3.0,
    augment=Augment(crop_scale=0.6, erasing=0.5),
)
MANY = 200  # from so many people on, fewer epochs; and the hardest triplets of 32 images, which
FOR_MANY = (  # taught it that one point for all costs no more than the margin
    "epochs=45",
    "batch_size=64",
    'auxiliary_loss={name="triplet", margin=0.3, mining="semi_hard"}',
)
STANDARD = 100  # people for whom there are bars of classification
STRANGERS = 50  # people whom the network has never seen
SHOTS_OF_STRANGERS = 10


@dataclass
class Set:
    """Images of a course, with who is on them and in which shot."""

    paths: list[Path]
    person: np.ndarray
    shot: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        return np.unique(self.person, return_inverse=True)[1]


def profile(people: int, train_shots: int, dev: int, test: int, size: int) -> Profile:
    return replace(
        PROFILES["homework"], name="measured", classes=people, train=train_shots, dev=dev,
        test=test, known=2, unknown_dev=9, unknown_test=9, pixels=size,
    )  # fmt: skip


def fingerprint(seed: int) -> str:
    """Eight letters that change with the renderer, so that no stale course is measured."""
    images = faces.render(numbers(8), numbers(8, 0), 64, seed=seed, difficulty=DIFFICULTY)
    return hashlib.sha256(images.numpy().tobytes()).hexdigest()[:8]


def make_course(work: Path, wanted: Profile, seed: int) -> tuple[CourseData, dict[str, Set]]:
    """The course, and its classification images by split."""
    name = f"course-{wanted.classes}-{wanted.train}-{wanted.pixels}-{seed}-{fingerprint(seed)}"
    data = set_up("synthetic", wanted, work / name, seed=seed)
    term = get_term("F23")
    found = {"train": [], "dev": [], "test": []}
    for path, (person, shot) in plans.synthetic_plan(wanted, seed).files(term):
        folder, split, *_ = Path(path).parts
        if folder == term.classification:
            found[split].append((data.root / path, person, shot))
    sets = {}
    for split, rows in found.items():
        paths, person, shot = zip(*rows, strict=True)
        sets[split] = Set(list(paths), np.array(person), np.array(shot))
    check(sets["test"], wanted.pixels, seed)
    return data, sets


def check(images: Set, size: int, seed: int) -> None:
    """Stop unless the files show whom they should, up to what JPEG changes."""
    person = torch.from_numpy(images.person[:4])
    shot = torch.from_numpy(images.shot[:4])
    wanted = faces.render(person, shot, size, seed=seed, difficulty=DIFFICULTY).float()
    found = torch.from_numpy(pixels(images.paths[:4])).permute(0, 3, 1, 2).float()
    if (wanted - found).abs().mean() > 8:
        raise SystemExit("the files are not the images of the plan: check difficulty and seed")


def pixels(paths: list[Path]) -> np.ndarray:
    """uint8 (N, size, size, 3)."""
    return np.stack([np.asarray(read_rgb(path)) for path in paths])


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 255


def nearest(known: np.ndarray, labels: np.ndarray, probes: np.ndarray) -> np.ndarray:
    """The label of the nearest vector by Euclidean distance, for each probe."""
    length = (known**2).sum(1)
    return labels[(length[None] - 2 * probes @ known.T).argmin(1)]


def nearest_rows(sets: dict[str, Set]) -> list[dict]:
    known = pixels(sets["train"].paths)
    probes = pixels(sets["test"].paths)
    grey = [p.mean(3, dtype=np.float32) for p in (known, probes)]
    vectors = {
        "nearest, colour pixels": [flat(known), flat(probes)],
        "nearest, grey pixels": [flat(p) for p in grey],
        "nearest, grey 32 px, contrast out": [
            baselines.grey_vectors(sets[split].paths) for split in ("train", "test")
        ],
    }
    rows = []
    for name, (train_vectors, test_vectors) in vectors.items():
        right = nearest(train_vectors, sets["train"].labels, test_vectors) == sets["test"].labels
        rows.append(accuracy_row(name, right))
    if len(set(sets["train"].labels)) == STANDARD:
        best = max(rows, key=lambda r: r["accuracy"])
        best |= against(best["accuracy"], "<=", 0.12)
    return rows


def accuracy_row(name: str, right: np.ndarray, bar: tuple[str, float] | None = None) -> dict:
    if not len(right):
        return {"what": name, "images": 0}
    low, high = wilson_interval(int(right.sum()), len(right))
    line = {"what": name, "images": len(right), "accuracy": float(right.mean())}
    line |= {"low": low, "high": high}
    if bar is not None:
        line |= against(line["accuracy"], *bar)
    return line


def linear_probe(
    vectors: dict[str, np.ndarray], labels: dict[str, np.ndarray]
) -> tuple[np.ndarray, str]:
    """Whether logistic regression on principal components is right on test; its settings."""
    scale = StandardScaler().fit(vectors["train"])
    parts = {split: scale.transform(v) for split, v in vectors.items()}
    most = min(400, len(parts["train"]) - 1, parts["train"].shape[1])
    pca = PCA(most, svd_solver="randomized", random_state=0).fit(parts["train"])
    parts = {split: pca.transform(v).astype(np.float64) for split, v in parts.items()}
    best = (-1.0, None, "")
    for dims in sorted({min(d, most) for d in (100, 400)}):
        spread = parts["train"][:, :dims].std() or 1.0
        for c in (0.01, 0.1, 1.0, 10.0):
            few = {split: v[:, :dims] / spread for split, v in parts.items()}
            model = LogisticRegression(C=c, max_iter=1000).fit(few["train"], labels["train"])
            score = model.score(few["dev"], labels["dev"])
            if score > best[0]:
                right = model.predict(few["test"]) == labels["test"]
                best = (score, right, f"{dims} components, C = {c:g}")
    return best[1], best[2]


def recipe_for(people: int, size: int, changes: list[str]) -> Recipe:
    usual = FOR_MANY if people >= MANY else ()
    return recipes.load(RECIPE, [f"image_size={size}", *usual, *changes])


def epochs_done(out: Path) -> int:
    history = out / "history.csv"
    return len(history.read_text().splitlines()) - 1 if history.is_file() else 0


def fit(recipe: Recipe, data: CourseData, out: Path) -> dict[str, float]:
    """Train to the end; seconds of processor and clock, over all calls that it took."""
    file = out.with_suffix(".json")
    finished = epochs_done(out) == recipe.epochs
    spent = json.loads(file.read_text()) if file.is_file() else {"cpu": 0.0, "wall": 0.0}
    cpu = time.process_time()
    wall = time.monotonic()
    try:
        training.fit(recipe, data, out)
    finally:  # an interrupted run goes on from here, and so does the count
        if not finished:
            spent["cpu"] += time.process_time() - cpu
            spent["wall"] += time.monotonic() - wall
            file.write_text(json.dumps(spent))
    return spent


def trained(work: Path, recipe: Recipe, data: CourseData) -> tuple[embed.TrainedRun, dict]:
    code = hashlib.sha256(repr(sorted(recipe.as_dict().items())).encode()).hexdigest()[:6]
    out = work / f"run-{data.root.name.removeprefix('course-')}-{code}"
    spent = fit(recipe, data, out)
    return embed.load_run(out), spent


def slice_rows(images: Set, right: np.ndarray, seed: int) -> list[dict]:
    """Accuracy by circumstance."""
    keys = torch.from_numpy(images.person), torch.from_numpy(images.shot)
    who, how = faces.parameters(*keys, seed=seed, difficulty=DIFFICULTY)
    on = {k: how[k].numpy() > 0.5 for k in ("hat", "hair_changed", "sunglasses", "glasses")}
    turned = np.degrees(np.abs(how["yaw"].numpy())) > 30
    usual = who["wears_glasses"].numpy() > 0.5
    masks = {
        "hat or changed hair": on["hat"] | on["hair_changed"],
        "hat": on["hat"],
        "changed hair": on["hair_changed"] & ~on["hat"],
        "yaw over 30": turned,
        "sunglasses": on["sunglasses"],
        "glasses not as usual": on["glasses"] != usual,
    }
    masks["none of these"] = ~np.logical_or.reduce(list(masks.values()))
    bars = (
        {"hat or changed hair": (">=", 0.70)} if len(np.unique(images.person)) == STANDARD else {}
    )
    return [accuracy_row(name, right[mask], bars.get(name)) for name, mask in masks.items()]


def strangers_row(name: str, vectors: np.ndarray, person: np.ndarray) -> dict:
    """Pairs of all images, and one known image of each person, each shot in turn."""
    scores = similarity(vectors, vectors)
    first, second = np.triu_indices(len(scores), 1)
    same = person[first] == person[second]
    false, true, _ = roc_curve(same, scores[first, second], drop_intermediate=False)
    at = np.abs(false - (1 - true)).argmin()
    order = np.argsort(person, kind="stable").reshape(len(np.unique(person)), -1)
    ranks = []
    for shot in range(order.shape[1]):
        known = order[:, shot]
        probes = np.delete(order, shot, 1)
        found = scores[probes][:, :, known].argmax(2)
        ranks.append((found == np.arange(len(order))[:, None]).mean())
    return {
        "what": name,
        "pairs": len(same),
        "EER": float((false[at] + 1 - true[at]) / 2),
        "AUC": float(roc_auc_score(same, scores[first, second])),
        "rank 1": float(np.mean(ranks)),
    }


def strangers_rows(
    run: embed.TrainedRun, people: int, size: int, seed: int, work: Path
) -> list[dict]:
    """How well people are told apart whom the network has never seen."""
    shots = profile(STRANGERS, SHOTS_OF_STRANGERS - 2, 1, 1, size)
    _, sets = make_course(work, shots, seed + FRESH)
    paths = [path for part in sets.values() for path in part.paths]
    person = np.concatenate([part.person for part in sets.values()])
    rows = [
        strangers_row("colour pixels", flat(pixels(paths)) - 0.5, person),
        strangers_row("grey 32 px, contrast out", baselines.grey_vectors(paths), person),
        strangers_row(f"network of {people} people", embed.embed(run, paths), person),
    ]
    bars = {STANDARD: 0.15, 400: 0.10}
    if people in bars:
        rows[-1] |= against(rows[-1]["EER"], "<=", bars[people])
    return rows


def measure(
    report: Report, people: int, shots: int, seed: int, size: int, change: list[str], work: Path
) -> None:
    data, sets = make_course(work, profile(people, shots, 5, 10, size), seed)
    rows = []
    standard = people == STANDARD
    if people < MANY:
        rows = nearest_rows(sets)
        vectors = {split: flat(pixels(part.paths)) for split, part in sets.items()}
        labels = {split: part.labels for split, part in sets.items()}
        right, how = linear_probe(vectors, labels)
        rows.append(
            accuracy_row("linear probe", right, ("<=", 0.25) if standard else None) | {"note": how}
        )
    recipe = recipe_for(people, size, change)
    run, spent = trained(work, recipe, data)
    report.content |= {"seconds": spent, "recipe": recipe.as_dict()}
    right = embed.classify(run, sets["test"].paths) == sets["test"].labels
    bar = (">=", 0.85) if standard else None
    minutes = f"{spent['cpu'] / 60:.1f} CPU-minutes, {spent['wall'] / 60:.1f} by the clock"
    size_of = f"{models.count_parameters(run.net):,} parameters, {recipe.epochs} epochs, "
    rows.append(accuracy_row("network", right, bar) | {"note": size_of + minutes})
    report.table(f"{people} people, test", rows)
    report.table("network, by circumstance", slice_rows(sets["test"], right, seed))
    rows = strangers_rows(run, people, size, seed, work)
    report.table(f"{STRANGERS} unseen people", rows)
