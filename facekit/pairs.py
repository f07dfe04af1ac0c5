"""Are these two pictures of one person? Built in notebook 06.

Pairs have a score (N,), higher for more alike, and are of one person or of two, `same` (N,). A
pair is accepted where its score is at or above a threshold:

    TAR   true accept rate: pairs of one person that are accepted (1 - FNMR of ISO/IEC 19795-1)
    FAR   false accept rate: pairs of two that are (FMR)

The functions raise DataError for scores that are not finite, for lengths that differ, and unless
there are pairs of both kinds.
"""

from typing import NamedTuple

import numpy as np

from facekit import openset
from facekit.errors import DataError


class Point(NamedTuple):
    """What a threshold does to the pairs."""

    threshold: float
    tar: float
    far: float


class Roc(NamedTuple):
    """TAR and FAR at every threshold that tells two pairs apart, from none accepted to all."""

    thresholds: np.ndarray  # falling, the first infinite
    tar: np.ndarray  # rising
    far: np.ndarray  # rising


class TenFold(NamedTuple):
    """The accuracy of each fold at the threshold of the others, and of all."""

    accuracies: np.ndarray
    mean: float
    error: float  # standard error of the mean


def all_pairs(similarity: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every probe with every identity of the gallery: scores and same, both (P x G,)."""
    openset.outcomes(similarity, truth)  # refuses what does not fit
    same = np.asarray(truth)[:, None] == np.arange(np.shape(similarity)[1])
    return np.asarray(similarity).ravel(), same.ravel()


def examples(
    similarity: np.ndarray, truth: np.ndarray, count: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs to look at, as rows and columns of `similarity` (P, G).

    The first `count` probes with a match, each with its own identity; then the same probes, each
    with the other identity that is most like it.
    """
    _, _, mated = openset.outcomes(similarity, truth)
    rows = np.flatnonzero(mated)[:count]
    own = np.asarray(truth)[rows]
    others = np.array(similarity, np.float64)[rows]
    if others.shape[1] < 2:
        raise DataError("a gallery of one identity holds no other to look at")
    others[np.arange(len(rows)), own] = -np.inf
    return np.tile(rows, 2), np.concatenate([own, others.argmax(1)])


def roc(scores: np.ndarray, same: np.ndarray) -> Roc:
    """The exact curve, with a point for each distinct score."""
    one, two = _kinds(scores, same)
    thresholds = np.append(np.inf, np.unique(np.concatenate([one, two]))[::-1])
    return Roc(thresholds, _accepted(one, thresholds), _accepted(two, thresholds))


def roc_at(scores: np.ndarray, same: np.ndarray, threshold: float) -> Point:
    """Both rates at one threshold."""
    one, two = _kinds(scores, same)
    if np.isnan(threshold):
        raise DataError("a threshold is NaN; it must be a number")
    return Point(
        float(threshold), float(_accepted(one, threshold)), float(_accepted(two, threshold))
    )


def auc(scores: np.ndarray, same: np.ndarray) -> float:
    """How often a pair of one person scores above a pair of two; equal scores count half.

    It is the area under the ROC curve.
    """
    one, two = _kinds(scores, same)
    below, up_to = (np.searchsorted(two, one, side=side) for side in ("left", "right"))
    return float((below + up_to).sum() / 2 / len(one) / len(two))


def eer(scores: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    """The equal error rate, and the threshold there.

    FAR rises and the false reject rate 1 - TAR falls along the ROC curve; the rate is where they
    cross, on the straight line between the two neighbouring points, and so is the threshold.
    """
    thresholds, tar, far = roc(scores, same)
    ahead = far - (1 - tar)  # from -1 to 1, rising
    after = int(np.argmax(ahead >= 0))
    before = after - 1
    part = -ahead[before] / (ahead[after] - ahead[before])
    rate = far[before] + part * (far[after] - far[before])
    if not np.isfinite(thresholds[before]):
        return float(rate), float(thresholds[after])
    threshold = thresholds[before] + part * (thresholds[after] - thresholds[before])
    return float(rate), float(threshold)


def tar_at_far(scores: np.ndarray, same: np.ndarray, target: float) -> Point:
    """The lowest threshold at which FAR is at most `target`, and both rates there.

    Raises DataError when the pairs are too few: one false accept must be within the target.
    """
    _, two = _kinds(scores, same)
    allowed = openset.allowed_errors("FAR", target, len(two), "pairs of two people")
    falling = two[::-1]
    threshold = -np.inf if allowed >= len(two) else np.nextafter(falling[allowed], np.inf)
    return roc_at(scores, same, threshold)


def summary(scores: np.ndarray, same: np.ndarray, target: float = 0.01) -> dict[str, float]:
    """The curve in a few numbers: area, equal error rate and its threshold, TAR at a FAR."""
    error, threshold = eer(scores, same)
    strict = tar_at_far(scores, same, target)
    return {
        "area": auc(scores, same),
        "equal error rate": error,
        "threshold there": threshold,
        f"TAR at FAR {target:.0%}": strict.tar,
    }


def best_threshold(scores: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    """The threshold that decides most pairs rightly, exactly; and the share of these."""
    _kinds(scores, same)
    # A gallery of one: a pair of one person is a probe with a match, always ranked first.
    column = np.asarray(scores, np.float64)[:, None]
    value, accuracy, _ = openset.choose_threshold(column, np.where(same, 0, openset.NOBODY))
    return value, accuracy


def ten_fold(scores: np.ndarray, same: np.ndarray, folds: np.ndarray | None = None) -> TenFold:
    """Accuracy by the protocol of Labelled Faces in the Wild (Huang et al. 2007).

    The threshold that is best for nine folds decides the tenth; all in turn. `folds` (N,): which
    fold each pair is in; LFW's have no person in common. Without them the pairs of either kind
    are cut into ten parts in the order they are in.
    """
    _kinds(scores, same)
    scores, same = np.asarray(scores, np.float64), np.asarray(same, bool)
    folds = _ten_parts(same) if folds is None else np.asarray(folds)
    if folds.shape != same.shape:
        raise DataError(f"{len(same)} pairs need a fold each, not {folds.shape}")
    accuracies = []
    for fold in np.unique(folds):
        own = folds == fold
        if len(np.unique(same[~own])) < 2:
            raise DataError(f"the folds but {fold} have pairs of one kind only")
        value, _ = best_threshold(scores[~own], same[~own])
        accuracies.append(np.mean((scores[own] >= value) == same[own]))
    mean = float(np.mean(accuracies))
    error = float(np.std(accuracies, ddof=1) / np.sqrt(len(accuracies)))
    return TenFold(np.array(accuracies), mean, error)


def _ten_parts(same: np.ndarray) -> np.ndarray:
    folds = np.empty(len(same), int)
    for kind in (True, False):
        count = int((same == kind).sum())
        if count < 10:
            raise DataError(f"{count} pairs of a kind cannot be cut into ten folds")
        folds[same == kind] = np.arange(count) * 10 // count
    return folds


def _accepted(rising: np.ndarray, thresholds: np.ndarray | float) -> np.ndarray:
    """The share of scores, given in rising order, that are >= each threshold."""
    return (len(rising) - np.searchsorted(rising, thresholds, side="left")) / len(rising)


def _kinds(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The scores of pairs of one person and of two, each in rising order."""
    scores, same = np.asarray(scores, np.float64), np.asarray(same)
    if scores.ndim != 1 or scores.shape != same.shape:
        raise DataError(f"scores {scores.shape} and same {same.shape} must be one each for a pair")
    if not np.isin(same, (0, 1)).all():
        raise DataError("same is 1 for a pair of one person and 0 for a pair of two")
    if not np.isfinite(scores).all():
        raise DataError("a score is NaN or infinite; the embeddings are broken")
    same = same.astype(bool)
    if same.all() or not same.any():
        raise DataError("there must be pairs of one person and pairs of two")
    return np.sort(scores[same]), np.sort(scores[~same])
