"""Are these two images of one person? Built in notebook 06.

Pairs have a score (N,), higher for more alike, and are of one person or of two, `same` (N,). A
pair is accepted where its score is at or above a threshold:

    TAR   true accept rate: pairs of one person that are accepted (1 - FNMR of ISO/IEC 19795-1)
    FAR   false accept rate: pairs of two that are (FMR)

The functions raise DataError for scores that are not finite, for lengths that differ, and unless
there are pairs of both kinds.
"""

from typing import NamedTuple

import numpy as np

from facekit.common.errors import DataError
from facekit.evaluation import identification

RATES = (1e-4, 5e-4, 1e-3, 5e-3, 5e-2)  # false accept rates that the homework reports


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


def all_pairs(similarity: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every probe with every identity of the gallery: scores and same, both (P x G,)."""
    identification.outcomes(similarity, truth)  # refuses what does not fit
    same = np.asarray(truth)[:, None] == np.arange(np.shape(similarity)[1])
    return np.asarray(similarity).ravel(), same.ravel()


def examples(
    similarity: np.ndarray, truth: np.ndarray, count: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs to look at, as rows and columns of `similarity` (P, G).

    The first `count` probes with a match, each with its own identity; then the same probes, each
    with the other identity that is most like it.
    """
    rows = np.flatnonzero(identification.outcomes(similarity, truth).mated)[:count]
    own = np.asarray(truth)[rows]
    others = np.array(similarity, np.float64)[rows]
    if others.shape[1] < 2:
        raise DataError("a gallery of one identity holds no other to look at")
    others[np.arange(len(rows)), own] = -np.inf
    return np.tile(rows, 2), np.concatenate([own, others.argmax(1)])


def roc(scores: np.ndarray, same: np.ndarray) -> Roc:
    """The exact curve, with a point for each distinct score."""
    scores, same = check_pairs(scores, same)
    from sklearn.metrics import roc_curve  # slow to import; training needs none of it

    far, tar, thresholds = roc_curve(same, scores, drop_intermediate=False)
    return Roc(thresholds, tar, far)


def auc(scores: np.ndarray, same: np.ndarray) -> float:
    """How often a pair of one person scores above a pair of two; equal scores count half.

    It is the area under the ROC curve.
    """
    scores, same = check_pairs(scores, same)
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(same, scores))


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
    scores, same = check_pairs(scores, same)
    threshold = identification.lowest_threshold(scores[~same], "FAR", target, "pairs of two people")
    accepted = scores >= threshold
    return Point(threshold, float(accepted[same].mean()), float(accepted[~same].mean()))


def summary(scores: np.ndarray, same: np.ndarray, target: float = 0.01) -> dict[str, float]:
    """The curve in a few numbers: AUC, equal error rate and its threshold, TAR at a FAR."""
    error, threshold = eer(scores, same)
    strict = tar_at_far(scores, same, target)
    return {
        "auc": auc(scores, same),
        "equal error rate": error,
        "threshold there": threshold,
        f"TAR at FAR {target:.0%}": strict.tar,
    }


def pair_metrics(scores: np.ndarray, same: np.ndarray) -> dict[str, float]:
    """What the homework shows of pairs since F24, each from 0 to 1.

    ACC: the pairs judged right at the threshold that is best for them. EER: where FAR and 1 - TAR
    cross, on the straight line between two points of the ROC curve (as `eer`); "EER, nearest
    point" is the mean of both at the point where they differ least. AUC. TAR at five FAR, on the
    straight lines of the curve: with few pairs of two people that says little at the smallest.
    """
    scores, same = check_pairs(scores, same)
    curve = roc(scores, same)
    missed = 1 - curve.tar
    nearest = int(np.argmin(np.abs(curve.far - missed)))
    right = curve.tar * same.sum() + (1 - curve.far) * (~same).sum()
    return {
        "ACC": float(right.max() / len(same)),
        "EER": eer(scores, same)[0],
        "EER, nearest point": float((curve.far[nearest] + missed[nearest]) / 2),
        "AUC": auc(scores, same),
    } | {f"TPR at FPR {rate:g}": float(np.interp(rate, curve.far, curve.tar)) for rate in RATES}


def check_pairs(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 and same as bool, both (N,), that can be judged."""
    scores = np.asarray(scores, np.float64)
    same = np.asarray(same)
    if scores.ndim != 1 or scores.shape != same.shape:
        raise DataError(f"scores {scores.shape} and same {same.shape} must be one each for a pair")
    if not np.isin(same, (0, 1)).all():
        raise DataError("same is 1 for a pair of one person and 0 for a pair of two")
    if not np.isfinite(scores).all():
        raise DataError("a score is NaN or infinite; the embeddings are broken")
    same = same.astype(bool)
    if same.all() or not same.any():
        raise DataError("there must be pairs of one person and pairs of two")
    return scores, same
