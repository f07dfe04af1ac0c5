"""From a trained run to two scored submissions. Built in notebook 08."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facekit import openset, runtime, submit
from facekit.errors import DataError
from facekit.layout import NO_MATCH, CourseData
from facekit.openset import Threshold
from facekit.predict import TrainedRun, classify, embed
from facekit.profiles import PROFILES
from facekit.sources import MANIFEST

FILES = {"classification": "classification.csv", "verification": "verification.csv"}


@dataclass
class Verification:
    """The gallery and the dev probes as the network sees them, and the threshold they suggest."""

    gallery: np.ndarray  # (G, D)
    identities: list[str]  # of the gallery
    similarity: np.ndarray  # (P, G), dev probes x gallery
    truth: np.ndarray  # (P,), gallery index or -1
    threshold: Threshold


def course_run() -> Path:
    """The folder of the run that the notebooks share."""
    return runtime.runs().value / "course"


def course_recipe(data: CourseData) -> str:
    """The recipe for this data: that of the profile it was made for, else of this machine."""
    return made_for(data.root) or runtime.profile().value.name


def made_for(root: Path) -> str | None:
    """The profile that the course in `root` was rendered for, by its manifest; else None."""
    manifest = root / MANIFEST
    name = json.loads(manifest.read_text()).get("name") if manifest.is_file() else None
    return name if name in PROFILES else None


def report(task: str, accuracy: float, data: CourseData) -> str:
    """A score in one line, beside chance and the cut-offs that go with the data."""
    return submit.report(task, accuracy, chance(task, data), made_for(data.root))


def verify_dev(run: TrainedRun, data: CourseData) -> Verification:
    """Embed the known faces and the dev probes, and choose the threshold on the latter."""
    gallery, identities = embed(run, data.known.paths), list(data.known.labels)
    similarity = openset.similarity(embed(run, data.unknown_dev.paths), gallery)
    truth = openset.truth_indices(data.unknown_dev.labels, identities)
    chosen = openset.choose_threshold(similarity, truth)
    return Verification(gallery, identities, similarity, truth, chosen)


def write_submissions(
    run: TrainedRun, data: CourseData, threshold: float | None = None
) -> dict[str, Path]:
    """Write both CSVs into the run's folder and check them; task -> path.

    `threshold` is the one chosen on the dev probes unless given. Raises DataError with the
    problems when a file would be refused.
    """
    paths = {task: run.folder / name for task, name in FILES.items()}
    labels = classify(run, data.test.paths)
    dev = verify_dev(run, data)
    threshold = dev.threshold.value if threshold is None else threshold
    scores = openset.similarity(embed(run, data.unknown_test.paths), dev.gallery)
    answers = openset.identify(scores, dev.identities, threshold)
    submit.write_classification(paths["classification"], data.test.names, labels)
    submit.write_verification(paths["verification"], answers)
    problems = [problem for path in paths.values() for problem in submit.check(path, data)]
    if problems:
        raise DataError("; ".join(problems))
    return paths


def scores(paths: dict[str, Path], data: CourseData) -> dict[str, float]:
    """The accuracy of each submission, where the answers are known; else nothing."""
    if data.answers is None:
        return {}
    return {task: submit.score(path, getattr(data.answers, task)) for task, path in paths.items()}


def chance(task: str, data: CourseData) -> float:
    """What the best constant answer scores on average: one class of many, or always n000000."""
    if task == "classification":
        return 1 / len(data.classes)
    return sum(label == NO_MATCH for label in data.unknown_dev.labels) / len(data.unknown_dev)


def scoreboard(paths: dict[str, Path], data: CourseData) -> list[str]:
    """Where the two files are and, where the answers are known, what they score."""
    lines = [f"{task} submission: {path}" for task, path in paths.items()]
    for task, accuracy in scores(paths, data).items():
        lines.append(report(task, accuracy, data))
    return lines
