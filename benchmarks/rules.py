"""Which rule decides the open set best, on a run's own dev and test probes.

    python benchmarks/rules.py RUN [--data FOLDER] [--people FOLDER] [--out rules.json]
    python benchmarks/rules.py --rendered WORK        makes people, a course and a run; 15 minutes

Dev: every rule judged on people it was not fitted to. Test: rule and threshold are fitted on dev,
and the answers are looked at once. `--people`: a course of people whom the run has never seen,
to measure what several gallery images of a person are worth.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import faces_learn
import machine
import numpy as np
import torch

from facekit import training
from facekit.data.layout import CourseData, read_identities
from facekit.evaluation import embed, identification, rules
from facekit.evaluation import statistics as certainty
from facekit.evaluation.comparison import Comparison
from facekit.sources import set_up
from facekit.sources.profiles import PROFILES
from facekit.submission import pipeline

TARGET = 0.1  # FPIR
IMAGES = 3  # of each person in the larger gallery


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--rendered", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--people", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.rendered:
        rendered_run(arguments)
    if arguments.run is None:
        parser.error("which run? give its folder, or --rendered WORK")
    run = embed.load_run(arguments.run)
    data = run.course_data(arguments.data)
    report = machine.Report("rules", arguments.out, classes=len(run.classes), data=data.root.name)
    cohort = embed.class_means(run, data)
    dev = pipeline.verify_dev(run, data, cohort=cohort)
    found = dev.compare_rules(TARGET)
    report.table(f"{len(dev.truth)} dev probes, cross-fitted", table_rows(found))
    report.note(found.reason)
    tuned = dev.tuning()
    report.table("how sure the plain threshold is", [tuning_row(tuned)])
    if data.answers:
        truth = read_identities(data.answers.verification, data.unknown_test.paths)
        truth = identification.truth_indices(truth, dev.identities)
        report.table(f"{len(truth)} test probes", test_rows(run, data, dev, truth))
    if arguments.people:
        report.table("several images of each person", image_rows(run, arguments.people, cohort))


def rendered_run(arguments: argparse.Namespace) -> None:
    """400 people to learn, the homework's open set, and 480 others; call it again to go on."""
    work, small = arguments.rendered, {"pixels": 64, "dev": 5, "test": 2}
    course = replace(PROFILES["homework"], name="rules", classes=400, train=30, **small)
    more = {"classes": 480, "train": 8, "known": 480, "unknown_dev": 1080, "unknown_test": 9}
    people = replace(PROFILES["homework"], name="more", **more | small | {"dev": 1, "test": 1})
    arguments.data, arguments.people = work / "course", work / "people"
    set_up("synthetic", people, arguments.people, seed=5)
    data = set_up("synthetic", course, arguments.data)
    arguments.run = work / "run"
    training.fit(faces_learn.recipe_for(course.classes, course.pixels, []), data, arguments.run)


def table_rows(found: Comparison) -> list[machine.Row]:
    return found.table.reset_index(names="rule").to_dict("records")


def tuning_row(tuned: certainty.Tuning) -> machine.Row:
    return {
        "threshold": tuned.chosen.value,
        "accuracy": tuned.chosen.accuracy,
        "interval": share(*tuned.accuracy_interval),
        "plateau": " ... ".join(f"{edge:.3f}" for edge in tuned.plateau),
        "threshold's interval": " ... ".join(f"{edge:.3f}" for edge in tuned.threshold_interval),
        "optimism": tuned.optimism,
        "expected": tuned.expected,
    }


def share(low: float, high: float) -> str:
    return f"{low:.1%} ... {high:.1%}"


def test_rows(
    run: embed.TrainedRun, data: CourseData, dev: pipeline.Verification, truth: np.ndarray
) -> list[machine.Row]:
    """Each rule on the test probes, at the threshold that was best on dev."""
    evidence = dev.evidence.with_probes(embed.embed(run, data.unknown_test.paths))
    rows = []
    for name in rules.NAMES:
        fitted = replace(dev, rule=name)
        rows.append({"rule": name} | judge(fitted, fitted.judge(evidence), truth))
    return rows


def judge(dev: pipeline.Verification, scores: np.ndarray, truth: np.ndarray) -> machine.Row:
    threshold = dev.threshold.value
    found, false = identification.dir_fpir(scores, truth, threshold)
    right = identification.accuracy(scores, truth, threshold)
    samples = certainty.bootstrap(_statistics(scores, truth, threshold), truth)
    columns = {
        "accuracy": right,
        f"DIR at FPIR {TARGET:.0%}": identification.dir_at_fpir(scores, truth, TARGET).dir,
        "auc": identification.auc(scores, truth),
    }
    row = {}
    lows, highs = certainty.interval(samples)
    for (name, value), low, high in zip(columns.items(), lows, highs, strict=True):
        row |= {name: value, f"{name}, 95 %": share(low, high)}
    return row | {"DIR": float(found), "FPIR": float(false)}


def _statistics(scores: np.ndarray, truth: np.ndarray, threshold: float):
    """Accuracy, DIR at the target and AUC of some rows; on two columns, which is quick."""
    best, right, mated = identification.outcomes(scores, truth)
    few = np.stack([best, np.full_like(best, best.min() - 1)], axis=1)
    place = np.where(mated, np.where(right, 0, 1), identification.NOBODY)

    def statistics(rows: np.ndarray) -> list[float]:
        some, who = few[rows], place[rows]
        return [
            identification.accuracy(some, who, threshold),
            identification.dir_at_fpir(some, who, TARGET).dir,
            identification.auc(some, who),
        ]

    return statistics


def image_rows(run: embed.TrainedRun, folder: Path, cohort: np.ndarray) -> list[machine.Row]:
    """Half of the people known, by one image or by some, and the other half strangers."""
    data = CourseData(folder)
    labels = np.array(data.train.labels)
    vectors = embed.embed(run, data.train.paths)
    place = np.arange(len(labels)) - np.searchsorted(labels, labels)  # within the person
    known = labels % 2 == 0
    probe = (place >= IMAGES) & (known | (place == IMAGES))
    truth = np.where(known, labels // 2, identification.NOBODY)[probe]
    rows = []
    for images, rule in ((1, "threshold"), (IMAGES, "threshold"), (IMAGES, "closest_image")):
        shown = known & (place < images)
        evidence = rules.Evidence(
            vectors[probe], vectors[shown], labels[shown] // 2, cohort, run.measure
        )
        scores = rules.RULES[rule](evidence)
        dev = pipeline.Verification(evidence, [], truth, rule)
        row = {"gallery images": images, "rule": rule, "people": int(known[place == 0].sum())}
        rows.append(row | judge(dev, scores, truth))
    return rows


if __name__ == "__main__":
    with machine.one_line_for_errors():
        main()
