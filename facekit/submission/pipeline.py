"""From a trained run to two scored submissions. Built in notebook 08."""

import hashlib
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from facekit.common import machine
from facekit.common.errors import DataError
from facekit.common.files import write_whole
from facekit.data.layout import NO_MATCH, CourseData
from facekit.evaluation import comparison, identification, rules, statistics
from facekit.evaluation.embed import TrainedRun, class_means, classify, embed, find_bad
from facekit.evaluation.identification import Threshold
from facekit.evaluation.rules import Evidence, Rule
from facekit.sources.manifest import made_for
from facekit.submission import csvs, cutoffs
from facekit.submission.csvs import check

FILES = {"classification": "classification.csv", "verification": "verification.csv"}
DECISION = "decision.json"
NAMED = 10  # test images that cannot be read and are told one by one


class Decision(NamedTuple):
    """How the open set is decided: a rule (`evaluation.rules`), and the threshold of its scores."""

    rule: str
    threshold: float


@dataclass(frozen=True)
class Verification:
    """The dev probes beside the gallery, as the network sees them and as a rule judges them."""

    evidence: Evidence
    identities: list[str]  # of the gallery
    truth: np.ndarray  # (P,), gallery index or -1
    rule: str = rules.PLAIN

    @cached_property
    def judge(self) -> Rule:
        """The rule itself, fitted to these probes where it has to be."""
        return rules.make(self.rule, self.evidence, self.truth)

    @cached_property
    def scores(self) -> np.ndarray:
        """Of every probe with every identity, by the rule: (P, G)."""
        return self.judge(self.evidence)

    @cached_property
    def threshold(self) -> Threshold:
        """The threshold of the rule with which these probes come out best, or its own."""
        return rules.choose_threshold(self.judge, self.scores, self.truth)

    @property
    def similarity(self) -> np.ndarray:
        """Of every probe with every identity, before any rule: (P, G)."""
        return self.evidence.similarity

    def tuning(self) -> statistics.Tuning:
        """How sure the chosen threshold and its accuracy are."""
        return statistics.tuning(self.scores, self.truth)

    def judged(self, *names: str) -> dict[str, np.ndarray]:
        """What several rules make of these probes: the scores (P, G) of each by its name."""
        return {name: replace(self, rule=name).scores for name in names}

    def compare_rules(self, target: float = 0.1) -> comparison.Comparison:
        """Every rule on these probes, each judged on people it was not fitted to."""
        return comparison.compare(self.evidence, self.truth, target=target)


def report(task: str, accuracy: float, data: CourseData, count: int | None = None) -> str:
    """A score in one line, beside chance, the cut-offs of the data, and how sure it is."""
    return cutoffs.report(task, accuracy, chance(task, data), made_for(data.root), count)


def verify_dev(
    run: TrainedRun,
    data: CourseData,
    rule: str = rules.PLAIN,
    cohort: np.ndarray | None = None,
) -> Verification:
    """Embed the known faces and the dev probes of `data`.

    `cohort`: the class means of the run's training data; a rule that needs them makes its own.
    """
    if cohort is None and rule in rules.WITH_COHORT:
        cohort = class_means(run, data)
    evidence = Evidence(
        probes=embed(run, data.unknown_dev.paths),
        gallery=embed(run, data.known.paths),
        cohort=cohort,
        measure=run.measure,
    )
    identities = list(data.known.labels)
    truth = identification.truth_indices(data.unknown_dev.labels, identities)
    return Verification(evidence, identities, truth, rule)


def keep_decision(folder: Path, rule: str, threshold: float) -> Path:
    """Write how a run's open set is decided beside its network; `write_submissions` reads it.

    And into the mirror, where the run has a copy there.
    """
    if rule not in rules.NAMES:
        raise DataError(f"no rule {rule!r}; choose one of: {', '.join(rules.NAMES)}")
    if math.isnan(threshold):
        raise DataError("a threshold is NaN; it must be a number")
    path = folder / DECISION
    content = {"rule": rule, "threshold": float(threshold), "network": _network(folder)}
    written = json.dumps(content, indent=1).encode()
    write_whole(path, written)
    copies = machine.copy_of(folder)
    if copies and copies.is_dir():
        write_whole(copies / DECISION, written)
    return path


def kept_decision(folder: Path) -> Decision | None:
    """What `keep_decision` wrote for this very network; None where it is of another, or none.

    Raises DataError when the file is damaged.
    """
    path = folder / DECISION
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
        decision = Decision(str(found["rule"]), float(found["threshold"]))
        network = found["network"]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: damaged; delete it, or decide once more") from error
    if decision.rule not in rules.NAMES or math.isnan(decision.threshold):
        raise DataError(f"{path}: damaged; delete it, or decide once more")
    return decision if network == _network(folder) else None


def _network(folder: Path) -> str:
    return hashlib.sha256((folder / "best.pt").read_bytes()).hexdigest()


def decide(
    run: TrainedRun, data: CourseData, rule: str | None = None, threshold: float | None = None
) -> tuple[Verification, Decision]:
    """The dev probes, and how to decide: as is asked for, else as was kept, else by default.

    A threshold belongs to its rule, so a kept one counts only with the kept rule.
    """
    kept = kept_decision(run.folder)
    if rule is None:
        rule = kept.rule if kept else rules.PLAIN
    if threshold is None and kept and kept.rule == rule:
        threshold = kept.threshold
    dev = verify_dev(run, data, rule)
    if threshold is None:
        threshold = dev.threshold.value
    return dev, Decision(rule, threshold)


def evaluate(run: TrainedRun, data: CourseData) -> list[str]:
    """What the run makes of the dev images and of the dev probes, in words."""
    right = classify(run, data.dev.paths) == data.dev.labels
    dev, decision = decide(run, data)
    named = identification.accuracy(dev.scores, dev.truth, decision.threshold)
    scores = [report("classification", right.mean(), data), report("verification", named, data)]
    return scores + decision_lines(dev, decision)


def write_submissions(
    run: TrainedRun,
    data: CourseData,
    threshold: float | None = None,
    rule: str | None = None,
) -> dict[str, Path]:
    """Write both CSVs into the run's folder and check them; task -> path.

    Rule and threshold are those of `decide`. A test image that cannot be read keeps its row, with
    the answer that is right most often: the commonest class of train, or n000000. Raises DataError
    with the problems when a file would be refused.
    """
    paths = {task: run.folder / name for task, name in FILES.items()}
    labels = classify_test(run, data)
    dev, decision = decide(run, data, rule, threshold)
    answers = identify_test(run, data, dev, decision.threshold)
    csvs.write_classification(paths["classification"], data.test.names, labels)
    csvs.write_verification(paths["verification"], answers)
    problems = [problem for path in paths.values() for problem in check(path, data)]
    if problems:
        raise DataError("; ".join(problems))
    return paths


def classify_test(run: TrainedRun, data: CourseData) -> list[int]:
    """The class of each test image; the commonest of train for one that cannot be read."""
    commonest = int(np.bincount(data.train.labels).argmax())
    return _answer_all(run, data.test.paths, lambda paths: classify(run, paths), commonest)


def identify_test(
    run: TrainedRun, data: CourseData, dev: Verification, threshold: float
) -> list[str]:
    """The answer for each test probe, by the rule of the dev probes; n000000 for a bad image."""

    def answer(paths: Sequence[Path]) -> list[str]:
        evidence = dev.evidence.with_probes(embed(run, paths))
        return identification.identify(dev.judge(evidence), dev.identities, threshold)

    return _answer_all(run, data.unknown_test.paths, answer, NO_MATCH)


def _answer_all(
    run: TrainedRun, paths: Sequence[Path], answer: Callable, fallback: int | str
) -> list:
    """The answers in the order of `paths`, none left out; what cannot be read is told."""
    bad = find_bad(run, paths)
    good = [row for row in range(len(paths)) if row not in bad]
    answers = [fallback] * len(paths)
    for row, found in zip(good, answer([paths[row] for row in good]), strict=True):
        answers[row] = found
    for fault in list(bad.values())[:NAMED]:
        print(f"{fault}; its row says {fallback}", file=sys.stderr)
    if bad:
        print(
            f"{len(bad)} of {len(paths)} test images cannot be read: their rows are guesses; "
            "replace the files and submit again",
            file=sys.stderr,
        )
    return answers


def decision_lines(dev: Verification, decision: Decision) -> list[str]:
    """What the decision does to the dev probes, and how sure that is."""
    rates = identification.dir_fpir(dev.scores, dev.truth, decision.threshold)
    tuned = dev.tuning()
    low, high = tuned.accuracy_interval
    return [
        f"rule {decision.rule}, threshold {decision.threshold:.3f}: DIR {rates.dir:.1%}, "
        f"FPIR {rates.fpir:.1%} on {len(dev.truth)} probes",
        f"best threshold {tuned.chosen.value:.3f}: {tuned.chosen.accuracy:.1%} (95 % interval "
        f"{low:.1%} ... {high:.1%}); on new probes expect {tuned.expected:.1%}",
    ]


def rule_table(found: comparison.Comparison) -> pd.DataFrame:
    """A comparison in per cent, for reading: each figure with its interval."""
    table = pd.DataFrame(index=found.table.index)
    for name in comparison.COLUMNS:
        columns = 100 * found.table[[name, f"{name} low", f"{name} high"]]
        table[name] = [
            f"{value:.1f}" if np.isnan(low) else f"{value:.1f} ({low:.1f} ... {high:.1f})"
            for value, low, high in columns.to_numpy()
        ]
    return table


def scores(paths: dict[str, Path], data: CourseData) -> dict[str, float]:
    """The accuracy of each submission, where the answers are known; else nothing."""
    if data.answers is None:
        return {}
    return {task: csvs.score(path, getattr(data.answers, task)) for task, path in paths.items()}


def chance(task: str, data: CourseData) -> float:
    """What the best constant answer scores on average: one class of many, or always n000000."""
    if task == "classification":
        return 1 / len(data.classes)
    return sum(label == NO_MATCH for label in data.unknown_dev.labels) / len(data.unknown_dev)


def scoreboard(paths: dict[str, Path], data: CourseData) -> list[str]:
    """Where the two files are and, where the answers are known, what they score."""
    lines = [f"{task} submission: {path}" for task, path in paths.items()]
    for task, accuracy in scores(paths, data).items():
        lines.append(report(task, accuracy, data, test_counts(data)[task]))
    return lines


def test_counts(data: CourseData) -> dict[str, int]:
    """How many images each task is judged by in the end."""
    return {"classification": len(data.test), "verification": len(data.unknown_test)}
