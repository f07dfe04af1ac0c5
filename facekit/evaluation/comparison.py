"""Rules beside each other, each judged on people it was not fitted to. Built in notebook 06."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from facekit.common.errors import DataError
from facekit.evaluation import identification, rules, statistics
from facekit.evaluation.rules import FITTED, PLAIN, Evidence

COLUMNS = ("accuracy", "DIR", "auc", "gain")


@dataclass(frozen=True)
class Comparison:
    """Rules beside each other.

    table: a row for each rule; accuracy, DIR at the FPIR aimed at, AUC (under the DIR-FPIR curve)
    and the gain in accuracy over the plain threshold, each with the ends of an interval over
    people: of 95 %, and for the gain wider, so that one lucky rule of many is not believed.
    """

    table: pd.DataFrame
    recommended: str
    reason: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Task:
    """What all rules are judged on alike."""

    truth: np.ndarray  # (P,)
    mated: np.ndarray  # (P,)
    folds: list[np.ndarray]  # rows, those of all repeats
    repeats: int
    target: float | None  # the FPIR for DIR, if so few strangers can show it


@dataclass(frozen=True)
class _Judged:
    """A rule on people that it was not fitted to."""

    scores: np.ndarray  # (P, 2), and `truth` (P,), as of statistics.compact
    truth: np.ndarray
    correct: np.ndarray  # (P,), the share of the repeats in which the answer was right


def compare(
    evidence: Evidence,
    truth: np.ndarray,
    target: float = 0.1,
    repeats: int = 10,
    count: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Every rule that can be used, each judged on people that it was not fitted to.

    Thresholds and weights are fitted on four fifths of the people and judged on the others, in
    turn, `repeats` times over. The plain threshold is recommended unless another rule gains more
    than the noise: the interval of its gain, at a level of 1 - 0.05 / (number of other rules), is
    above 0. Raises DataError unless there are probes of both kinds.
    """
    truth = np.asarray(truth)
    mated = truth != identification.NOBODY
    if mated.all() or not mated.any():
        raise DataError("rules are compared on probes with and probes without a match; need both")
    notes = ()
    try:
        identification.dir_at_fpir(evidence.similarity, truth, target)
    except DataError as error:  # so few strangers cannot show that FPIR
        notes = (str(error),)
    folds = []
    for repeat in range(repeats):
        folds += statistics.folds(truth, seed=seed + repeat)
    task = _Task(truth, mated, folds, repeats, None if notes else target)
    judged = {}
    for name in rules.NAMES:
        try:
            judged[name] = _judge(name, evidence, task)
        except DataError:  # such as a rule that asks for a cohort, where there is none
            if name == PLAIN:
                raise
    table = _table(judged, task, count, seed)
    return Comparison(table, *_recommend(table), notes)


def _judge(name: str, evidence: Evidence, task: _Task) -> _Judged:
    """Any rule: its threshold is chosen on the people of the other folds."""
    if name == FITTED:
        return _judge_fitted(evidence, task)
    if name == "closest_image" and evidence.owner is None:
        raise DataError("one image of each identity: no choice between them")
    scores, truth = statistics.compact(rules.RULES[name](evidence), task.truth)
    correct = np.zeros(len(truth))
    for fold in task.folds:
        rest = np.setdiff1d(np.arange(len(truth)), fold)
        value = identification.best_threshold(scores[rest], truth[rest])
        correct[fold] += _correct(scores[fold, 0], truth[fold], value)
    return _Judged(scores, truth, correct / task.repeats)


def _judge_fitted(evidence: Evidence, task: _Task) -> _Judged:
    """The rule whose weights are fitted on the people of the other folds."""
    features, best = rules.signs(evidence)
    right = best == task.truth
    truth = np.where(task.mated, np.where(right, 0, 1), identification.NOBODY)
    correct = np.zeros(len(truth))
    odds = np.zeros(len(truth))
    for fold in task.folds:
        rest = np.setdiff1d(np.arange(len(truth)), fold)
        rule = rules.fit_logistic(features[rest], right[rest], task.mated[rest])
        found = rule.odds(features[fold])
        odds[fold] += found / task.repeats
        correct[fold] += _correct(found, truth[fold], rule.threshold)
    return _Judged(np.stack([odds, odds - 1], axis=1), truth, correct / task.repeats)


def _correct(best: np.ndarray, truth: np.ndarray, value: float) -> np.ndarray:
    return np.where(truth == identification.NOBODY, best < value, (truth == 0) & (best >= value))


def _figures(one: _Judged, plain: _Judged, task: _Task, rows: np.ndarray) -> list[float]:
    """COLUMNS of some rows; DIR is NaN where so few strangers cannot show the FPIR aimed at."""
    scores, truth = one.scores[rows], one.truth[rows]
    found = np.nan
    if task.target is not None:
        found = identification.dir_at_fpir(scores, truth, task.target).dir
    accuracy = one.correct[rows].mean()
    gain = accuracy - plain.correct[rows].mean()
    return [accuracy, found, identification.auc(scores, truth), gain]


def _table(judged: dict[str, _Judged], task: _Task, count: int, seed: int) -> pd.DataFrame:
    """Every rule's figures, with intervals from the same draws of people."""
    plain = judged[PLAIN]
    others = len(judged) - 1
    rows = {}
    for name, one in judged.items():
        figures = partial(_figures, one, plain, task)
        values = figures(np.arange(len(task.mated)))
        samples = statistics.bootstrap(figures, task.truth, count, seed)
        rows[name] = {}
        for column, value, drawn in zip(COLUMNS, values, samples.T, strict=True):
            level = 1 - 0.05 / others if column == "gain" else 0.95
            low, high = statistics.interval(drawn, level)
            rows[name] |= {column: value, f"{column} low": low, f"{column} high": high}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "rule"
    table.loc[PLAIN, ["gain low", "gain high"]] = np.nan  # it is the measure itself
    return table


def _recommend(table: pd.DataFrame) -> tuple[str, str]:
    others = table.drop(index=PLAIN)
    sure = others[others["gain low"] > 0]
    candidates = others if sure.empty else sure
    best = candidates["gain"].idxmax()
    gain, low, high = (100 * others.loc[best, ["gain", "gain low", "gain high"]]).tolist()
    told = f"{best} gains {gain:+.1f} points ({low:+.1f} to {high:+.1f})"
    if sure.empty:
        return PLAIN, f"keep the plain threshold: the best other rule is within the noise ({told})"
    return str(best), f"use {best}: {told} over the plain threshold"
