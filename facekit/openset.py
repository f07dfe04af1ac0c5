"""Open-set identification: who is it, if anybody we know? Built in notebook 06.

A probe is compared with every identity of a gallery. Its best score is either at or above the
threshold (the best identity is the answer) or below it (`n000000`). Two errors are possible, and
the homework's accuracy is a mixture of both; the terms are those of ISO/IEC 19795-1:

    DIR   detection and identification rate: probes with a match that are given the right one
    FNIR  false negative identification rate: those that are not, 1 - DIR
    FPIR  false positive identification rate: probes without a match that are given one

A score equal to the threshold is accepted, here and wherever else the kit decides. Scores are
(P, G), a row for each probe and a column for each identity, higher for more alike: similarities,
or what a rule of `facekit.rules` makes of them. `truth` is (P,), the column of each probe's
identity, or -1 for none. Any threshold is allowed but NaN: beyond the scores it accepts all or
none. The functions raise DataError for scores or truths that do not fit or are not finite.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from facekit.errors import DataError
from facekit.layout import NO_MATCH

NOBODY = -1  # the truth of a probe that is not in the gallery
MEASURES = ("cosine", "euclidean", "likelihood")


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


def similarity(
    probes: np.ndarray,
    gallery: np.ndarray,
    measure: str = "cosine",
    variance: float | np.ndarray = 1.0,
) -> np.ndarray:
    """How alike every probe (P, D) and every gallery vector (G, D) are: float32 (P, G).

    "cosine" of the angle; "euclidean", the negative distance; or "likelihood", the logarithm of
    the density at the probe of a Gaussian around the gallery vector with `variance` in every
    direction, one number or one for each gallery vector (Wan et al. 2018, arXiv 1803.02988).
    """
    probes, gallery = _vectors("probe", probes), _vectors("gallery vector", gallery)
    if probes.shape[1] != gallery.shape[1]:
        raise DataError(
            f"probes {probes.shape} and gallery {gallery.shape} must be rows of equal length"
        )
    if measure == "cosine":
        return _unit(probes) @ _unit(gallery).T
    if measure not in MEASURES:
        raise DataError(f"no measure {measure!r}; choose one of: {', '.join(MEASURES)}")
    squares = squared_distances(probes, gallery)
    if measure == "euclidean":
        return -np.sqrt(squares).astype(np.float32)
    variance = np.asarray(variance, np.float64)
    if not (np.isfinite(variance).all() and (variance > 0).all()):
        raise DataError("a variance must be a finite number above 0")
    volume = probes.shape[1] / 2 * np.log(2 * np.pi * variance)
    return (-squares / (2 * variance) - volume).astype(np.float32)


def squared_distances(probes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Float64 (P, G), in which the small difference of large products keeps its digits."""
    probes, gallery = probes.astype(np.float64), gallery.astype(np.float64)
    lengths = np.square(probes).sum(1)[:, None] + np.square(gallery).sum(1)
    return (lengths - 2 * probes @ gallery.T).clip(0)


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
    threshold, names = float(_thresholds(threshold)), list(identities)
    best = similarity.argmax(1)
    accepted = similarity.max(1).astype(np.float64) >= threshold
    return [names[i] if yes else NO_MATCH for i, yes in zip(best, accepted, strict=True)]


def dir_fpir(
    similarity: np.ndarray, truth: np.ndarray, thresholds: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """DIR and FPIR (rank 1) at each threshold, in the shape of `thresholds`.

    A rate without a single probe to measure it on is NaN.
    """
    score, right, mated = outcomes(similarity, truth)
    thresholds = _thresholds(thresholds)
    return _rate(score[mated], thresholds, right[mated]), _rate(score[~mated], thresholds)


def _thresholds(values: np.ndarray | float) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if np.isnan(values).any():
        raise DataError("a threshold is NaN; it must be a number")
    return values


def _rate(
    score: np.ndarray, thresholds: np.ndarray, counts: np.ndarray | None = None
) -> np.ndarray:
    """The share of all scores that are >= each threshold and count."""
    if not len(score):
        return np.full(thresholds.shape, np.nan)
    counted = np.sort(score if counts is None else score[counts])
    return (len(counted) - np.searchsorted(counted, thresholds, side="left")) / len(score)


def ranks(similarity: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of each probe with a match, in order: how many identities come before its own, int64.

    Of equal scores the first identity comes first, as in `identify`.
    """
    outcomes(similarity, truth)  # refuses what does not fit
    rows = np.flatnonzero(np.asarray(truth) != NOBODY)
    scores, own = np.asarray(similarity)[rows], np.asarray(truth)[rows]
    mate = scores[np.arange(len(rows)), own][:, None]
    earlier = (scores == mate) & (np.arange(scores.shape[1]) < own[:, None])
    return ((scores > mate) | earlier).sum(1)


def rank_k(similarity: np.ndarray, truth: np.ndarray, k: np.ndarray | int) -> np.ndarray:
    """The share of probes with a match whose own identity is among the k best, for each k."""
    found = ranks(similarity, truth)
    return _rate(-found.astype(float), 1.0 - np.asarray(k, float))


def fnir(
    similarity: np.ndarray, truth: np.ndarray, threshold: np.ndarray | float, rank: int = 1
) -> np.ndarray:
    """FNIR: probes whose own identity is not among the `rank` best, or below the threshold."""
    truth = np.asarray(truth)
    near = ranks(similarity, truth) < rank
    rows = np.flatnonzero(truth != NOBODY)
    own = np.asarray(similarity)[rows, truth[rows]].astype(np.float64)
    return 1 - _rate(own, _thresholds(threshold), near)


def curve(similarity: np.ndarray, truth: np.ndarray) -> Curve:
    """The exact DIR-FPIR curve at rank 1. DataError unless there are probes of both kinds."""
    score = _both_kinds(similarity, truth)[0]
    thresholds = np.append(np.inf, np.unique(score)[::-1])
    return Curve(thresholds, *dir_fpir(similarity, truth, thresholds))


def area(similarity: np.ndarray, truth: np.ndarray) -> float:
    """The area under the DIR-FPIR curve at rank 1: how good the scores are at any threshold.

    It is how often a probe with a match is named right and scores above one without (equal
    scores count half), so at most the rank-1 rate. It is also called the area under OSCR.
    """
    score, right, mated = _both_kinds(similarity, truth)
    strangers = np.sort(score[~mated])
    below = np.searchsorted(strangers, score[mated & right], side="left")
    not_above = np.searchsorted(strangers, score[mated & right], side="right")
    return float((below + not_above).sum() / 2 / mated.sum() / len(strangers))


def dir_at_fpir(similarity: np.ndarray, truth: np.ndarray, target: float) -> Operating:
    """The lowest threshold at which FPIR is at most `target`, and both rates there.

    Raises DataError when the probes are too few: one false answer must be within the target.
    """
    score, _, mated = _both_kinds(similarity, truth)
    strangers = np.sort(score[~mated])[::-1]
    allowed = allowed_errors("FPIR", target, len(strangers), "probes without a match")
    at_all = allowed >= len(strangers)
    threshold = -np.inf if at_all else float(np.nextafter(strangers[allowed], np.inf))
    found, false = dir_fpir(similarity, truth, threshold)
    return Operating(threshold, float(found), float(false))


def allowed_errors(rate: str, target: float, count: int, what: str) -> int:
    """How many of `count` may be wrong at a rate of `target`; DataError where not even one."""
    if not 0 < target <= 1:
        raise DataError(f"a {rate} to aim at lies above 0 and is at most 1, not {target}")
    allowed = int(np.floor(target * count + 1e-9))  # 0.1 * 30 should be 3
    if not allowed:
        raise DataError(
            f"{rate} {target:.3g} cannot be measured on {count} {what}: "
            f"it takes {int(np.ceil(1 / target - 1e-9))} at the least"
        )
    return allowed


def accuracy(
    similarity: np.ndarray, truth: np.ndarray, threshold: float, prior: float | None = None
) -> float:
    """The homework's accuracy: p DIR + (1 - p)(1 - FPIR), p the share of probes with a match.

    `prior`: another p than that of these probes.
    """
    weight, (score, right, mated) = _weighted(similarity, truth, prior)
    threshold = float(_thresholds(threshold))
    correct = np.where(mated, right & (score >= threshold), score < threshold)
    return float(correct.mean() if prior is None else (correct * weight).sum())


def choose_threshold(
    similarity: np.ndarray, truth: np.ndarray, prior: float | None = None
) -> Threshold:
    """The threshold with the highest accuracy on these probes, exactly, by one sort.

    Accuracy only changes where a probe's best score is passed, so it is constant between two
    neighbouring scores; the value is the middle of the best stretch, the widest if several are
    equally good, and lies just beyond the outermost score if all or none should be accepted.
    `prior`: another share of probes with a match than that of these.
    """
    weight, (score, right, mated) = _weighted(similarity, truth, prior)
    low, high = _best_stretch(score, right, mated, weight)
    value = _between(low, high)
    share = accuracy(similarity, truth, value, prior)
    if prior is None:
        return Threshold(value, share, wilson_interval(round(share * len(score)), len(score)))
    found, false = map(float, dir_fpir(similarity, truth, value))
    return Threshold(value, share, _mixed_interval(found, false, prior, mated))


def plateau(
    similarity: np.ndarray, truth: np.ndarray, prior: float | None = None
) -> tuple[float, float]:
    """The stretch around the chosen threshold: low < t <= high decide these probes alike."""
    weight, (score, right, mated) = _weighted(similarity, truth, prior)
    low, high = _best_stretch(score, right, mated, weight)
    return (low if low >= score.min() else -np.inf, high if high <= score.max() else np.inf)


def _best_stretch(
    score: np.ndarray, right: np.ndarray, mated: np.ndarray, weight: np.ndarray
) -> tuple[float, float]:
    """The widest of the stretches between two neighbouring scores with the best accuracy."""
    order = np.argsort(score, kind="stable")
    gain = (np.where(mated, -right.astype(int), 1) * weight)[order]  # of rejecting one more probe
    correct = np.concatenate([[0], np.cumsum(gain)])  # the k lowest rejected, against none
    edges = np.concatenate([[score.min() - 1e-3], score[order], [score.max() + 1e-3]])
    width = np.diff(edges)  # no room between two equal scores: both go or stay
    allowed = np.where(width > 0, correct, -np.inf)
    best = np.flatnonzero(allowed >= allowed.max() - 1e-12)  # sums of weights are rounded
    k = best[np.argmax(width[best])]
    return float(edges[k]), float(edges[k + 1])


def _between(low: float, high: float) -> float:
    """A number over `low` and at most `high`: >= accepts `high` and refuses `low`."""
    middle = (low + high) / 2
    return middle if low < middle <= high else high


def wilson_interval(hits: float, count: float, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), sensible for few probes and near 0 and 1."""
    share = hits / count
    centre = share + z * z / (2 * count)
    spread = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    low, high = (centre - spread) / scale, (centre + spread) / scale
    return float(max(0.0, min(low, share))), float(min(1.0, max(high, share)))  # rounding apart


def _mixed_interval(found: float, false: float, prior: float, mated: np.ndarray) -> tuple:
    """The 95 % interval of p DIR + (1 - p)(1 - FPIR), from Wilson's of both (Newcombe 1998)."""
    lows, highs, middle = 0.0, 0.0, prior * found + (1 - prior) * (1 - false)
    for weight, share, count in (
        (prior, found, mated.sum()),
        (1 - prior, 1 - false, (~mated).sum()),
    ):
        low, high = wilson_interval(share * count, count)
        lows += (weight * (share - low)) ** 2
        highs += (weight * (high - share)) ** 2
    return float(middle - np.sqrt(lows)), float(middle + np.sqrt(highs))


def _weighted(
    similarity: np.ndarray, truth: np.ndarray, prior: float | None
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What each probe counts for, 1 without a prior and else 1 in all; and the outcomes."""
    if prior is None:
        found = outcomes(similarity, truth)
        return np.ones(len(found[0]), int), found
    if not 0 < prior < 1:
        raise DataError(f"a prior is the share of probes with a match, within 0 and 1, not {prior}")
    found = _both_kinds(similarity, truth)
    mated = found[2]
    return np.where(mated, prior / mated.sum(), (1 - prior) / (~mated).sum()), found


def outcomes(
    similarity: np.ndarray, truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each probe: its best score, whether the best identity is right, whether it has one."""
    similarity, truth = np.asarray(similarity), np.asarray(truth)
    if similarity.ndim != 2 or not similarity.size:
        raise DataError(f"similarity {similarity.shape} must be probes x gallery, not empty")
    if truth.shape != similarity.shape[:1]:
        raise DataError(f"{len(similarity)} probes need as many truths, not {truth.shape}")
    if truth.min() < NOBODY or truth.max() >= similarity.shape[1]:
        raise DataError(f"a truth is neither -1 nor an index below {similarity.shape[1]}")
    if not np.isfinite(similarity).all():
        raise DataError("a similarity is NaN or infinite; the embeddings are broken")
    # In float64 a threshold between two neighbouring float32 scores still parts them.
    return similarity.max(1).astype(np.float64), similarity.argmax(1) == truth, truth != NOBODY


def _both_kinds(
    similarity: np.ndarray, truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The outcomes; DataError unless some probes have a match and some have none."""
    found = outcomes(similarity, truth)
    mated = found[2]
    if mated.all() or not mated.any():
        lacking = "without" if mated.all() else "with"
        raise DataError(f"no probe {lacking} a match: one of the two errors cannot be measured")
    return found
