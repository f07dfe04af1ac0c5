"""Open-set identification: who is it, if anybody we know? Built in notebook 06.

A probe is compared with every identity of a gallery. Its best score is either at or above the
threshold (the best identity is the answer) or below it (`n000000`). Two errors are possible, and
the homework's accuracy is a mixture of both; the terms are those of ISO/IEC 19795-1:

    DIR   detection and identification rate: probes with a match that are given the right one
    FNIR  false negative identification rate: those that are not, 1 - DIR
    FPIR  false positive identification rate: probes without a match that are given one

A score equal to the threshold is accepted, here and wherever else the kit decides. Scores are
(P, G), a row for each probe and a column for each identity, higher for more alike: similarities,
or what a rule of `facekit.evaluation.rules` makes of them. `truth` is (P,), the column of each
probe's identity, or -1 for none. Any threshold is allowed but NaN: beyond the scores it accepts all
or none. The functions raise DataError for scores or truths that do not fit or are not finite.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from facekit.common.errors import DataError
from facekit.data.layout import NO_MATCH

NOBODY = -1  # the truth of a probe that is not in the gallery
MEASURES = ("cosine", "euclidean")


class Outcomes(NamedTuple):
    """What became of each probe, whatever the threshold; all (P,)."""

    score: np.ndarray  # of its best identity, float64
    right: np.ndarray  # whether that identity is its own
    mated: np.ndarray  # whether its own is in the gallery


class Rates(NamedTuple):
    """DIR and FPIR at each threshold, in the shape of the thresholds."""

    dir: np.ndarray
    fpir: np.ndarray


class Threshold(NamedTuple):
    """A chosen threshold, the accuracy it gives there, and how sure that accuracy is."""

    value: float
    accuracy: float
    interval: tuple[float, float]  # 95 %, Wilson's


class Operating(NamedTuple):
    """One point of the DIR-FPIR curve."""

    threshold: float
    dir: float
    fpir: float  # reached, at most what was aimed at


class Curve(NamedTuple):
    """DIR and FPIR at every threshold that tells two probes apart, from none accepted to all."""

    thresholds: np.ndarray  # falling, the first infinite
    dir: np.ndarray  # rising
    fpir: np.ndarray  # rising


def similarity(probes: np.ndarray, gallery: np.ndarray, measure: str = "cosine") -> np.ndarray:
    """How alike every probe (P, D) and every gallery vector (G, D) are: float32 (P, G).

    "cosine" of the angle; or "euclidean", the negative distance.
    """
    probes = _vectors("probe", probes)
    gallery = _vectors("gallery vector", gallery)
    if probes.shape[1] != gallery.shape[1]:
        raise DataError(
            f"probes {probes.shape} and gallery {gallery.shape} must be rows of equal length"
        )
    if measure == "cosine":
        return _unit(probes) @ _unit(gallery).T
    if measure not in MEASURES:
        raise DataError(f"no measure {measure!r}; choose one of: {', '.join(MEASURES)}")
    # In float64 the small difference of large products keeps its digits.
    from sklearn.metrics.pairwise import euclidean_distances  # slow to import, seldom asked

    distances = euclidean_distances(probes.astype(np.float64), gallery.astype(np.float64))
    return -distances.astype(np.float32)


def _vectors(what: str, vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim != 2 or not vectors.size:
        raise DataError(f"{what}s must be rows of equal length, some of them, not {vectors.shape}")
    broken = ~np.isfinite(vectors).all(1)
    if broken.any():
        raise DataError(
            f"{what} {broken.argmax()} holds NaN or infinity ({broken.sum()} of {len(vectors)} "
            "such); the training went wrong"
        )
    return vectors


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)


def truth_indices(labels: Sequence[str], identities: Sequence[str]) -> np.ndarray:
    """The place of each label in the gallery's identities, -1 for n000000: int64 (P,)."""
    place = {identity: index for index, identity in enumerate(identities)}
    if len(place) < len(identities):
        twice = next(name for i, name in enumerate(identities) if place[name] != i)
        raise DataError(f"{twice} comes more than once in the gallery: one row for each identity")
    place[NO_MATCH] = NOBODY
    strangers = [label for label in labels if label not in place]
    if strangers:
        raise DataError(f"{strangers[0]} is no identity of the gallery")
    return np.array([place[label] for label in labels])


def identify(similarity: np.ndarray, identities: Sequence[str], threshold: float) -> list[str]:
    """The answer for each probe: the best identity if its score is >= threshold, else n000000."""
    threshold = float(_thresholds(threshold))
    best = similarity.argmax(1)
    accepted = similarity.max(1).astype(np.float64) >= threshold
    return [identities[i] if yes else NO_MATCH for i, yes in zip(best, accepted, strict=True)]


def outcomes(similarity: np.ndarray, truth: np.ndarray) -> Outcomes:
    """What is best for each probe, and whether that is right."""
    similarity = np.asarray(similarity)
    truth = np.asarray(truth)
    if similarity.ndim != 2 or not similarity.size:
        raise DataError(f"similarity {similarity.shape} must be probes x gallery, not empty")
    if truth.shape != similarity.shape[:1]:
        raise DataError(f"{len(similarity)} probes need as many truths, not {truth.shape}")
    if truth.min() < NOBODY or truth.max() >= similarity.shape[1]:
        raise DataError(f"a truth is neither -1 nor an index below {similarity.shape[1]}")
    if not np.isfinite(similarity).all():
        raise DataError("a similarity is NaN or infinite; the embeddings are broken")
    return Outcomes(
        # In float64 a threshold between two neighbouring float32 scores still parts them.
        score=similarity.max(1).astype(np.float64),
        right=similarity.argmax(1) == truth,
        mated=truth != NOBODY,
    )


def _need_both_kinds(found: Outcomes) -> None:
    if found.mated.all() or not found.mated.any():
        lacking = "without" if found.mated.all() else "with"
        raise DataError(f"no probe {lacking} a match: one of the two errors cannot be measured")


def dir_fpir(similarity: np.ndarray, truth: np.ndarray, thresholds: np.ndarray | float) -> Rates:
    """DIR and FPIR (rank 1) at each threshold, in the shape of `thresholds`.

    A rate without a single probe to measure it on is NaN.
    """
    score, right, mated = outcomes(similarity, truth)
    thresholds = _thresholds(thresholds)
    return Rates(
        dir=_accepted(score[right], thresholds, int(mated.sum())),
        fpir=_accepted(score[~mated], thresholds, int((~mated).sum())),
    )


def _thresholds(values: np.ndarray | float) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if np.isnan(values).any():
        raise DataError("a threshold is NaN; it must be a number")
    return values


def _accepted(scores: np.ndarray, thresholds: np.ndarray, total: int) -> np.ndarray:
    """How many of the scores are >= each threshold, as a share of `total`; NaN if that is 0."""
    if not total:
        return np.full(thresholds.shape, np.nan)
    below = np.searchsorted(np.sort(scores), thresholds, side="left")
    return (len(scores) - below) / total


def rank_k(similarity: np.ndarray, truth: np.ndarray, k: np.ndarray | int) -> np.ndarray:
    """The share of probes with a match whose own identity is among the k best, for each k.

    Of equal scores the first identity comes first, as in `identify`.
    """
    rows = np.flatnonzero(outcomes(similarity, truth).mated)
    if not len(rows):
        return np.full(np.shape(k), np.nan)
    scores = np.asarray(similarity)[rows]
    own = np.asarray(truth)[rows]
    mate = scores[np.arange(len(rows)), own][:, None]
    earlier = (scores == mate) & (np.arange(scores.shape[1]) < own[:, None])
    ahead = ((scores > mate) | earlier).sum(1)  # how many identities come before its own
    return np.searchsorted(np.sort(ahead), k, side="left") / len(rows)


def curve(similarity: np.ndarray, truth: np.ndarray) -> Curve:
    """The exact DIR-FPIR curve at rank 1. DataError unless there are probes of both kinds."""
    found = outcomes(similarity, truth)
    _need_both_kinds(found)
    thresholds = np.append(np.inf, np.unique(found.score)[::-1])
    rates = dir_fpir(similarity, truth, thresholds)
    return Curve(thresholds, rates.dir, rates.fpir)


def auc(similarity: np.ndarray, truth: np.ndarray) -> float:
    """The area under the DIR-FPIR curve at rank 1: how good the scores are at any threshold.

    It is how often a probe with a match is named right and scores above one without (equal
    scores count half), so at most the rank-1 rate. It is also called the area under OSCR.
    """
    found = outcomes(similarity, truth)
    _need_both_kinds(found)
    # By ranks: scikit-learn's takes nine times as long, and a bootstrap asks thousands of times.
    strangers = np.sort(found.score[~found.mated])
    named = found.score[found.right]
    below = np.searchsorted(strangers, named, side="left")
    not_above = np.searchsorted(strangers, named, side="right")
    return float((below + not_above).sum() / 2 / found.mated.sum() / len(strangers))


def dir_at_fpir(similarity: np.ndarray, truth: np.ndarray, target: float) -> Operating:
    """The lowest threshold at which FPIR is at most `target`, and both rates there.

    Raises DataError when the probes are too few: one false answer must be within the target.
    """
    found = outcomes(similarity, truth)
    _need_both_kinds(found)
    strangers = found.score[~found.mated]
    threshold = lowest_threshold(strangers, "FPIR", target, "probes without a match")
    rates = dir_fpir(similarity, truth, threshold)
    return Operating(threshold, float(rates.dir), float(rates.fpir))


def lowest_threshold(wrong: np.ndarray, rate: str, target: float, what: str) -> float:
    """The lowest threshold that at most a share `target` of these scores reach.

    Raises DataError, in terms of the `rate` and of `what` is scored, where not even one may.
    """
    if not 0 < target <= 1:
        raise DataError(f"a {rate} to aim at lies above 0 and is at most 1, not {target}")
    allowed = int(np.floor(target * len(wrong) + 1e-9))  # 0.1 * 30 should be 3
    if not allowed:
        raise DataError(
            f"{rate} {target:.3g} cannot be measured on {len(wrong)} {what}: "
            f"it takes {int(np.ceil(1 / target - 1e-9))} at the least"
        )
    if allowed >= len(wrong):
        return -np.inf
    falling = np.sort(wrong)[::-1]
    return float(np.nextafter(falling[allowed], np.inf))


def accuracy(similarity: np.ndarray, truth: np.ndarray, threshold: float) -> float:
    """The homework's accuracy: p DIR + (1 - p)(1 - FPIR), p the share of probes with a match."""
    score, right, mated = outcomes(similarity, truth)
    accepted = score >= _thresholds(threshold)
    return float(np.where(mated, right & accepted, ~accepted).mean())


def choose_threshold(similarity: np.ndarray, truth: np.ndarray) -> Threshold:
    """The threshold with the highest accuracy on these probes, and that accuracy."""
    return judge_threshold(similarity, truth, best_threshold(similarity, truth))


def judge_threshold(similarity: np.ndarray, truth: np.ndarray, value: float) -> Threshold:
    """A threshold with its accuracy on these probes, and the 95 % interval of that."""
    share = accuracy(similarity, truth, value)
    return Threshold(value, share, wilson_interval(share * len(truth), len(truth)))


def best_threshold(similarity: np.ndarray, truth: np.ndarray, prior: float | None = None) -> float:
    """The threshold with the highest accuracy on these probes, exactly, by one sort.

    Accuracy only changes where a probe's best score is passed, so it is constant between two
    neighbouring scores; the value is the middle of the best stretch, the widest if several are
    equally good, and lies just beyond the outermost score if all or none should be accepted.
    `prior`: another share of probes with a match than that of these, within 0 and 1.
    """
    found = outcomes(similarity, truth)
    weights = np.ones(len(found.score), int)
    if prior is not None:
        _need_both_kinds(found)
        known = found.mated.sum()
        weights = np.where(found.mated, prior / known, (1 - prior) / (len(truth) - known))
    low, high = _best_stretch(found, weights)
    middle = (low + high) / 2
    # Neighbouring floats have no middle: there `high` itself accepts `high` and refuses `low`.
    return middle if low < middle <= high else high


def plateau(similarity: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """The stretch around the best threshold: low < t <= high decide these probes alike."""
    found = outcomes(similarity, truth)
    low, high = _best_stretch(found, np.ones(len(found.score), int))
    if low < found.score.min():
        low = -np.inf
    if high > found.score.max():
        high = np.inf
    return low, high


def _best_stretch(found: Outcomes, weights: np.ndarray) -> tuple[float, float]:
    """The widest of the stretches between two neighbouring scores with the best accuracy."""
    order = np.argsort(found.score, kind="stable")
    score = found.score[order]
    # What is gained by refusing one probe more: a stranger, but not one that was named right.
    gain = np.where(found.mated, -found.right.astype(int), 1)[order] * weights[order]
    correct = np.concatenate([[0], np.cumsum(gain)])  # the k lowest refused, against none
    edges = np.concatenate([[score[0] - 1e-3], score, [score[-1] + 1e-3]])
    width = np.diff(edges)  # no room between two equal scores: both go or stay
    allowed = np.where(width > 0, correct, -np.inf)
    best = np.flatnonzero(allowed >= allowed.max() - 1e-12)  # sums of weights are rounded
    k = best[np.argmax(width[best])]
    return float(edges[k]), float(edges[k + 1])


def wilson_interval(hits: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), sensible for few probes and near 0 and 1.

    `hits` is a whole number of `count`, but for rounding.
    """
    from scipy.stats import binomtest  # slow to import; training needs none of it

    found = binomtest(round(hits), count).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)
