"""Rules beside each other, each judged on people it was not fitted to. Built in notebook 06."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from facekit import certainty, openset, rules
from facekit.errors import DataError
from facekit.rules import FITTED, PLAIN, Evidence

COLUMNS = ("accuracy", "DIR", "area", "gain")


@dataclass(frozen=True)
class Comparison:
    """Rules beside each other.

    table: a row for each rule; accuracy, DIR at the FPIR aimed at, area under the DIR-FPIR curve
    and the gain in accuracy over the plain threshold, each with the ends of an interval over
    people: of 95 %, and for the gain wider, so that one lucky rule of many is not believed.
    """

    table: pd.DataFrame
    recommended: str
    reason: str
    left_out: dict[str, str]  # rule -> why it could not be used
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Judged:
    """A rule on people that it was not fitted to."""

    scores: np.ndarray  # (P, 2), and `who` (P,), as of certainty.compact
    who: np.ndarray
    correct: np.ndarray  # (P,), the share of the repeats in which the answer was right


def compare(
    evidence: Evidence,
    truth: np.ndarray,
    groups: np.ndarray | None = None,
    prior: float | None = None,
    target: float = 0.1,
    repeats: int = 10,
    count: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Every rule that can be used, each judged on people that it was not fitted to.

    Thresholds and weights are fitted on four fifths of the people and judged on the others, in
    turn, `repeats` times over. The plain threshold is recommended unless another rule gains more
    than the noise: the interval of its gain, at a level of 1 - 0.05 / (number of other rules), is
    above 0. groups (P,): whose each probe is, if more is known than `truth` tells; prior: the
    share of probes with a match, if another than here. Raises DataError unless there are probes
    of both kinds.
    """
    truth = np.asarray(truth)
    if (truth == openset.NOBODY).all() or not (truth == openset.NOBODY).any():
        raise DataError("rules are compared on probes with and probes without a match; need both")
    groups = certainty.groups_of(truth) if groups is None else np.asarray(groups)
    mated = truth != openset.NOBODY
    prior = float(mated.mean()) if prior is None else prior
    parts = [certainty.folds(groups, mated, seed=seed + repeat) for repeat in range(repeats)]
    judged, left_out = {}, {}
    for name in rules.NAMES:
        try:
            judged[name] = _judge(name, evidence, truth, parts, prior)
        except DataError as error:
            if name == PLAIN:
                raise
            left_out[name] = str(error)
    samples = _resample(judged, groups, mated, prior, target, count, seed)
    table = _table(judged, samples, mated, prior, target)
    best, reason = _recommend(table)
    return Comparison(table, best, reason, left_out, _notes(mated, target))


def _judge(
    name: str,
    evidence: Evidence,
    truth: np.ndarray,
    parts: list[list[np.ndarray]],
    prior: float,
) -> _Judged:
    if name == FITTED:
        return _judge_fitted(evidence, truth, parts, prior)
    if name == "closest_image" and evidence.owner is None:
        raise DataError("one image of each identity: no choice between them")
    few, who = certainty.compact(rules.RULES[name](evidence), truth)
    correct = np.zeros(len(who))
    for fold, rest in _turns(parts, len(who)):
        value = openset.choose_threshold(few[rest], who[rest], prior).value
        correct[fold] += _correct(few[fold, 0], who[fold], value)
    return _Judged(few, who, correct / len(parts))


def _judge_fitted(
    evidence: Evidence, truth: np.ndarray, parts: list[list[np.ndarray]], prior: float
) -> _Judged:
    features, best = rules.signs(evidence)
    right, mated = best == truth, truth != openset.NOBODY
    who = np.where(mated, np.where(right, 0, 1), openset.NOBODY)
    correct, odds = np.zeros(len(who)), np.zeros(len(who))
    for fold, rest in _turns(parts, len(who)):
        rule = rules.fit_signs(features[rest], right[rest], mated[rest], prior)
        found = rule.odds(features[fold])
        odds[fold] += found / len(parts)
        correct[fold] += _correct(found, who[fold], rule.threshold)
    return _Judged(np.stack([odds, odds - 1], 1), who, correct / len(parts))


def _turns(parts: list[list[np.ndarray]], size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each fold of each repeat, with the rows of all the others."""
    for repeat in parts:
        for fold in repeat:
            yield fold, np.setdiff1d(np.arange(size), fold)


def _correct(best: np.ndarray, who: np.ndarray, value: float) -> np.ndarray:
    return np.where(who == openset.NOBODY, best < value, (who == 0) & (best >= value))


def _figures(
    one: _Judged, plain: _Judged, rows: np.ndarray, mated: np.ndarray, prior: float, target: float
) -> list[float]:
    """COLUMNS of some rows."""
    kinds = mated[rows]

    def share(values: np.ndarray) -> float:
        few = values[rows]
        return prior * few[kinds].mean() + (1 - prior) * few[~kinds].mean()

    scores, who = one.scores[rows], one.who[rows]
    can = np.floor(target * (~kinds).sum() + 1e-9) >= 1
    found = openset.dir_at_fpir(scores, who, target).dir if can else np.nan
    gain = share(one.correct - plain.correct)
    return [share(one.correct), found, openset.area(scores, who), gain]


def _resample(
    judged: dict[str, _Judged],
    groups: np.ndarray,
    mated: np.ndarray,
    prior: float,
    target: float,
    count: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """COLUMNS of every rule on the same draws of people: (count, 4) each."""
    plain = judged[PLAIN]
    return {
        name: certainty.bootstrap(
            lambda rows, one=one: _figures(one, plain, rows, mated, prior, target),
            groups,
            mated,
            count,
            seed,
        )
        for name, one in judged.items()
    }


def _table(
    judged: dict[str, _Judged],
    samples: dict[str, np.ndarray],
    mated: np.ndarray,
    prior: float,
    target: float,
) -> pd.DataFrame:
    every, others = np.arange(len(mated)), max(1, len(judged) - 1)
    rows = {}
    for name, one in judged.items():
        values = _figures(one, judged[PLAIN], every, mated, prior, target)
        row = {}
        for place, (column, value) in enumerate(zip(COLUMNS, values, strict=True)):
            level = 1 - 0.05 / (others if column == "gain" else 1)
            low, high = certainty.interval(samples[name][:, place], level)
            row |= {column: value, f"{column} low": low, f"{column} high": high}
        rows[name] = row
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "rule"
    table.loc[PLAIN, ["gain low", "gain high"]] = np.nan  # it is the measure itself
    return table


def _recommend(table: pd.DataFrame) -> tuple[str, str]:
    others = table.drop(index=PLAIN)
    if others.empty:
        return PLAIN, "no other rule can be used here: keep the plain threshold"
    sure = others[others["gain low"] > 0]
    best = (others if sure.empty else sure)["gain"].idxmax()
    gain, low, high = (100 * others.loc[best, ["gain", "gain low", "gain high"]]).tolist()
    told = f"{best} gains {gain:+.1f} points ({low:+.1f} to {high:+.1f})"
    if sure.empty:
        return PLAIN, f"keep the plain threshold: the best other rule, {told}, is within the noise"
    return str(best), f"use {best}: {told} over the plain threshold"


def _notes(mated: np.ndarray, target: float) -> tuple[str, ...]:
    try:
        openset.allowed_errors("FPIR", target, int((~mated).sum()), "probes without a match")
    except DataError as error:
        return (str(error),)
    return ()
