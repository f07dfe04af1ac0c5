"""The exercises of notebook 06: cosines, pairs, the open set, a threshold. Built in notebook 06."""

from collections.abc import Iterator

import numpy as np

from facekit.check import asked

NOBODY = -1  # as in facekit.openset: the truth of a probe that is not in the gallery


def _vectors(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Probes (P, D) and a gallery (G, D), of any length but none."""
    yield np.array([[3.0, 4.0]]), np.array([[4.0, 3.0], [-30.0, -40.0]])
    width = int(rng.integers(2, 6))
    probes, gallery = rng.normal(size=(7, width)), rng.normal(size=(4, width))
    yield 3 * probes, gallery * rng.uniform(0.5, 5, size=(4, 1))


def _unit(vectors: np.ndarray, axis: int = 1) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=axis, keepdims=True)


def _lengths_kept(probes, gallery):
    """Twice as long a vector has the same direction, and should get the same cosine."""
    return probes @ gallery.T


def _one_side(probes, gallery):
    """The angle lies between two vectors: the length of neither may count."""
    return _unit(probes) @ gallery.T


def _wrong_axis(probes, gallery):
    """Which axis holds the numbers of one face? You made the columns one long, not the rows."""
    return _unit(probes, 0) @ _unit(gallery, 0).T


def _turned(probes, gallery):
    """Probes are rows and the gallery columns; yours is the other way round."""
    return _unit(gallery) @ _unit(probes).T


@asked(
    _vectors,
    lengths_kept=_lengths_kept,
    one_side=_one_side,
    wrong_axis=_wrong_axis,
    turned=_turned,
)
def gallery_cosines(probes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """The cosine of the angle between each probe (P, D) and each face of the gallery (G, D)."""
    return _unit(probes) @ _unit(gallery).T  # (P, G)


def _pairs(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """Scores (N,), whether each pair is of one person (N,), and the FAR to keep to."""
    yield np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([1, 0, 1, 0, 0], bool), 0.4
    same = rng.permutation(np.arange(60) < 20)
    scores = rng.normal(size=60) + same
    yield scores.round(1), same, float(rng.choice([0.1, 0.175, 0.25]))


def _far(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each distinct score as a threshold, rising, and the FAR there."""
    thresholds = np.append(np.unique(scores), np.inf)
    return thresholds, np.array([(scores[~same] >= line).mean() for line in thresholds])


def _wrong_side(scores, same, target):
    """At your threshold FAR is already above the target: look on the other side of it."""
    thresholds, far = _far(scores, same)
    return (scores[same] >= thresholds[far > target].max(initial=-np.inf)).mean()


def _of_all_pairs(scores, same, target):
    """FAR is a share of the pairs of two people, not of all pairs."""
    thresholds, far = _far(scores, same)
    few = far * (~same).mean()
    return (scores[same] >= thresholds[few <= target].min()).mean()


def _wrong_pairs(scores, same, target):
    """Whose score counts for FAR, that of pairs of one person or of two?"""
    thresholds, far = _far(scores, ~same)
    return (scores[same] >= thresholds[far <= target].min()).mean()


def _strictest(scores, same, target):
    """FAR is small enough at your threshold, but a lower one would do and find more."""
    thresholds, far = _far(scores, same)
    return (scores[same] >= thresholds[far == 0].min()).mean()


@asked(
    _pairs,
    wrong_side=_wrong_side,
    of_all_pairs=_of_all_pairs,
    wrong_pairs=_wrong_pairs,
    strictest=_strictest,
)
def tar_at_far(scores: np.ndarray, same: np.ndarray, target: float) -> float:
    """TAR at the lowest threshold at which FAR is at most `target`."""
    thresholds, far = _far(scores, same)
    return float((scores[same] >= thresholds[far <= target].min()).mean())


def _probes(rng: np.random.Generator, count: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Scores (P, 6), no two equal, and the truth of each probe; a third are strangers."""
    truth = rng.integers(6, size=count)
    scores = rng.normal(size=(count, 6))
    scores[np.arange(count), truth] += 1.2
    truth[rng.permutation(count)[: count // 3]] = NOBODY
    return scores, truth


def _judged(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """Scores, truth and a threshold: the best score of a probe with a match, then of one without.

    What is done with an equal score shows in both rates.
    """
    for known in (True, False):
        scores, truth = _probes(rng)
        right = scores.argmax(1) == truth
        rows = np.flatnonzero(right if known else truth == NOBODY)
        best = np.sort(scores[rows].max(1))
        yield scores, truth, float(best[len(best) // 2])


def _rates(named: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Both rates of the places in the gallery that were answered, NOBODY where refused."""
    known = truth != NOBODY
    return float((named == truth)[known].mean()), float((named != NOBODY)[~known].mean())


def _above(similarity, truth, threshold):
    """What is said of a score that is equal to the threshold?"""
    named = np.where(similarity.max(1) > threshold, similarity.argmax(1), NOBODY)
    return _rates(named, truth)


def _own_score(similarity, truth, threshold):
    """A probe whose own face passes, while another's is ahead of it, is named wrong."""
    own = similarity[np.arange(len(truth)), truth] >= threshold
    best = similarity.max(1) >= threshold
    return own[truth != NOBODY].mean(), best[truth == NOBODY].mean()


def _of_all_probes(similarity, truth, threshold):
    """Each rate is a share of its own kind of probe: of the known, and of the strangers."""
    accepted, known = similarity.max(1) >= threshold, truth != NOBODY
    right = accepted & (similarity.argmax(1) == truth)
    return right.mean(), (accepted & ~known).mean()


def _of_the_known(similarity, truth, threshold):
    """FPIR asks for strangers who are named; you counted the known who are named wrong."""
    accepted, known = similarity.max(1) >= threshold, truth != NOBODY
    right = accepted & (similarity.argmax(1) == truth)
    return right[known].mean(), (accepted & ~right)[known].mean()


@asked(
    _judged,
    above=_above,
    own_score=_own_score,
    of_all_probes=_of_all_probes,
    of_the_known=_of_the_known,
)
def both_rates(similarity: np.ndarray, truth: np.ndarray, threshold: float) -> tuple[float, float]:
    """DIR and FPIR at rank 1; truth (P,) is a column of similarity (P, G), or -1 for nobody."""
    named = np.where(similarity.max(1) >= threshold, similarity.argmax(1), NOBODY)
    return _rates(named, truth)


def _two_sets(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, ...]]:
    """Scores and truth of dev probes, then of test probes, whose scores lie lower."""
    dev, dev_truth = _probes(rng)
    test, test_truth = _probes(rng, 45)
    yield dev, dev_truth, test - rng.uniform(0.3, 0.9), test_truth


def _share_right(scores: np.ndarray, truth: np.ndarray, line: float) -> float:
    return float((np.where(scores.max(1) >= line, scores.argmax(1), NOBODY) == truth).mean())


def _best_line(scores: np.ndarray, truth: np.ndarray) -> float:
    """The best score of a probe that is the best threshold for all; of equally good the lowest."""
    lines = np.sort(scores.max(1))
    return float(lines[np.argmax([_share_right(scores, truth, line) for line in lines])])


def _tuned_on_test(dev, dev_truth, test, test_truth):
    """Whoever picks the threshold by the test probes no longer knows how good it is on new ones."""
    return _share_right(test, test_truth, _best_line(test, test_truth))


def _tuned_on_both(dev, dev_truth, test, test_truth):
    """The test probes had a say in the threshold: a part of a leak is a leak."""
    both = np.concatenate([dev, test]), np.concatenate([dev_truth, test_truth])
    return _share_right(test, test_truth, _best_line(*both))


def _judged_on_dev(dev, dev_truth, test, test_truth):
    """That is the accuracy on the probes the threshold was chosen by, and flatters."""
    return _share_right(dev, dev_truth, _best_line(dev, dev_truth))


def _never_refused(dev, dev_truth, test, test_truth):
    """A best score below the threshold means nobody: strangers can be right, too."""
    return (test.argmax(1) == test_truth).mean()


@asked(
    _two_sets,
    tuned_on_test=_tuned_on_test,
    tuned_on_both=_tuned_on_both,
    judged_on_dev=_judged_on_dev,
    never_refused=_never_refused,
)
def honest_accuracy(
    dev: np.ndarray, dev_truth: np.ndarray, test: np.ndarray, test_truth: np.ndarray
) -> float:
    """The accuracy on the test probes, at the best threshold for the dev probes."""
    return _share_right(test, test_truth, _best_line(dev, dev_truth))
