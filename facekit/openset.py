"""Open-set identification: who is it, if anybody we know? Built in notebook 06.

A probe is compared with every identity of a gallery. Its best score is either at or above the
threshold (the best identity is the answer) or below it (`n000000`). Two errors are possible, and
the homework's accuracy is a mixture of both; the terms are those of ISO/IEC 19795-1:

    DIR   detection and identification rate: probes with a match that are given the right one
    FPIR  false positive identification rate: probes without a match that are given one
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from facekit.errors import DataError
from facekit.layout import NO_MATCH

NOBODY = -1  # the truth of a probe that is not in the gallery


class Threshold(NamedTuple):
    """A chosen threshold, the accuracy it gives there, and how sure that accuracy is."""

    value: float
    accuracy: float
    interval: tuple[float, float]  # 95 %, Wilson's


def similarity(probes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """The cosine of every probe (P, D) with every gallery vector (G, D): (P, G)."""
    probes, gallery = np.asarray(probes, np.float32), np.asarray(gallery, np.float32)
    if probes.ndim != 2 or gallery.ndim != 2 or probes.shape[1] != gallery.shape[1]:
        raise DataError(
            f"probes {probes.shape} and gallery {gallery.shape} must be rows of equal length"
        )
    if not (np.isfinite(probes).all() and np.isfinite(gallery).all()):
        raise DataError("an embedding holds NaN or infinity; the training went wrong")
    return _unit(probes) @ _unit(gallery).T


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)


def truth_indices(labels: Sequence[str], identities: Sequence[str]) -> np.ndarray:
    """The place of each label in the gallery's identities, -1 for n000000: int64 (P,)."""
    place = {identity: index for index, identity in enumerate(identities)} | {NO_MATCH: NOBODY}
    strangers = [label for label in labels if label not in place]
    if strangers:
        raise DataError(f"{strangers[0]} is no identity of the gallery")
    return np.array([place[label] for label in labels])


def identify(similarity: np.ndarray, identities: Sequence[str], threshold: float) -> list[str]:
    """The answer for each probe: the best identity if its score is >= threshold, else n000000."""
    best, names = similarity.argmax(1), list(identities)
    accepted = similarity.max(1).astype(np.float64) >= threshold
    return [names[i] if yes else NO_MATCH for i, yes in zip(best, accepted, strict=True)]


def dir_fpir(
    similarity: np.ndarray, truth: np.ndarray, thresholds: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """DIR and FPIR (rank 1) at each threshold, in the shape of `thresholds`.

    similarity: (P, G); truth: gallery index of each probe, -1 for none. A rate without a single
    probe to measure it on is NaN.
    """
    score, right, mated = _outcomes(similarity, truth)
    thresholds = np.asarray(thresholds, np.float64)
    return _rate(score[mated], thresholds, right[mated]), _rate(score[~mated], thresholds)


def _rate(
    score: np.ndarray, thresholds: np.ndarray, counts: np.ndarray | None = None
) -> np.ndarray:
    """The share of all scores that are >= each threshold and count."""
    if not len(score):
        return np.full(thresholds.shape, np.nan)
    counted = np.sort(score if counts is None else score[counts])
    return (len(counted) - np.searchsorted(counted, thresholds, side="left")) / len(score)


def accuracy(similarity: np.ndarray, truth: np.ndarray, threshold: float) -> float:
    """The homework's accuracy: p DIR + (1 - p)(1 - FPIR), p the share of probes with a match."""
    score, right, mated = _outcomes(similarity, truth)
    return float(np.where(mated, right & (score >= threshold), score < threshold).mean())


def choose_threshold(similarity: np.ndarray, truth: np.ndarray) -> Threshold:
    """The threshold with the highest accuracy on these probes, exactly, by one sort.

    Accuracy only changes where a probe's best score is passed, so it is constant between two
    neighbouring scores; the value is the middle of the best stretch, the widest if several are
    equally good, and lies just beyond the outermost score if all or none should be accepted.
    """
    score, right, mated = _outcomes(similarity, truth)
    order = np.argsort(score, kind="stable")
    gain = np.where(mated, -right.astype(int), 1)[order]  # of rejecting one more probe
    correct = right.sum() + np.concatenate([[0], np.cumsum(gain)])  # the k lowest rejected
    edges = np.concatenate([[score.min() - 1e-3], score[order], [score.max() + 1e-3]])
    width = np.diff(edges)  # no room between two equal scores: both go or stay
    allowed = np.where(width > 0, correct, -1)
    best = np.flatnonzero(allowed == allowed.max())
    k = best[np.argmax(width[best])]
    value = _between(edges[k], edges[k + 1])
    hits = int(correct[k])
    return Threshold(value, hits / len(score), wilson_interval(hits, len(score)))


def _between(low: float, high: float) -> float:
    """A number over `low` and at most `high`: >= accepts `high` and refuses `low`."""
    middle = (float(low) + float(high)) / 2
    return middle if low < middle <= high else float(high)


def wilson_interval(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), sensible for few probes and near 0 and 1."""
    share = hits / count
    centre = share + z * z / (2 * count)
    spread = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    low, high = (centre - spread) / scale, (centre + spread) / scale
    return float(max(0.0, min(low, share))), float(min(1.0, max(high, share)))  # rounding apart


def _outcomes(
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
