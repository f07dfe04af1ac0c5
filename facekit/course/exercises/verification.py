"""The exercises of notebook 06: cosines, pairs, the open set, a threshold. Built in notebook 06."""

import numpy as np
from numpy.random import Generator

from facekit.course.exercises import Cases, add_exercise, but

NOBODY = -1  # as in evaluation.identification: the truth of a probe that is not in the gallery


def _vectors(rng: Generator) -> Cases:
    """Probes (P, D) and a gallery (G, D), of any length but none."""
    yield np.array([[3.0, 4.0]]), np.array([[4.0, 3.0], [-30.0, -40.0]])
    width = int(rng.integers(2, 6))
    probes, gallery = rng.normal(size=(7, width)), rng.normal(size=(4, width))
    yield 3 * probes, gallery * rng.uniform(0.5, 5, size=(4, 1))


def _unit(vectors: np.ndarray, axis: int = 1) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=axis, keepdims=True)


def gallery_cosines(probes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """The cosine of the angle between each probe (P, D) and each face of the gallery (G, D)."""
    return _unit(probes) @ _unit(gallery).T  # (P, G)


add_exercise(
    gallery_cosines,
    _vectors,
    "Twice as long a vector has the same direction, and should get the same cosine.",
    lambda probes, gallery: probes @ gallery.T,
    "The angle lies between two vectors: the length of neither may count.",
    lambda probes, gallery: _unit(probes) @ gallery.T,
    "Which axis holds the numbers of one face? You made the columns one long, not the rows.",
    lambda probes, gallery: _unit(probes, 0) @ _unit(gallery, 0).T,
    "Probes are rows and the gallery columns; yours is the other way round.",
    lambda probes, gallery: _unit(gallery) @ _unit(probes).T,
)


def _pairs(rng: Generator) -> Cases:
    """Scores (N,), whether each pair is of one person (N,), and the FAR to keep to."""
    yield np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([1, 0, 1, 0, 0], bool), 0.4
    same = rng.permutation(np.arange(60) < 20)
    scores = rng.normal(size=60) + same
    yield scores.round(1), same, float(rng.choice([0.1, 0.175, 0.25]))


def _far(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each distinct score as a threshold, rising, and the FAR there."""
    thresholds = np.append(np.unique(scores), np.inf)
    return thresholds, np.array([(scores[~same] >= line).mean() for line in thresholds])


def tar_at_far(scores: np.ndarray, same: np.ndarray, target: float) -> float:
    """TAR at the lowest threshold at which FAR is at most `target`."""
    thresholds, far = _far(scores, same)
    return float((scores[same] >= thresholds[far <= target].min()).mean())


def _wrong_side(scores, same, target):
    thresholds, far = _far(scores, same)
    return (scores[same] >= thresholds[far > target].max(initial=-np.inf)).mean()


def _wrong_pairs(scores, same, target):
    thresholds, far = _far(scores, ~same)
    return (scores[same] >= thresholds[far <= target].min()).mean()


add_exercise(
    tar_at_far,
    _pairs,
    "At your threshold FAR is already above the target: look on the other side of it.",
    _wrong_side,
    "FAR is a share of the pairs of two people, not of all pairs.",
    lambda scores, same, target: tar_at_far(scores, same, target / (~same).mean()),
    "Whose score counts for FAR, that of pairs of one person or of two?",
    _wrong_pairs,
    "FAR is small enough at your threshold, but a lower one would do and find more.",
    but(tar_at_far, target=lambda target: 0.0),
)


def _probes(rng: Generator, count: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Scores (P, 6), no two equal, and the truth of each probe; a third are strangers."""
    truth = rng.integers(6, size=count)
    scores = rng.normal(size=(count, 6))
    scores[np.arange(count), truth] += 1.2
    truth[rng.permutation(count)[: count // 3]] = NOBODY
    return scores, truth


def _judged(rng: Generator) -> Cases:
    """Scores, truth and a threshold: the best score of a probe with a match, then of one without.

    What is done with an equal score shows in both rates.
    """
    for known in (True, False):
        scores, truth = _probes(rng)
        right = scores.argmax(1) == truth
        rows = np.flatnonzero(right if known else truth == NOBODY)
        best = np.sort(scores[rows].max(1))
        yield scores, truth, float(best[len(best) // 2])


def both_rates(similarity: np.ndarray, truth: np.ndarray, threshold: float) -> tuple[float, float]:
    """DIR and FPIR at rank 1; truth (P,) is a column of similarity (P, G), or -1 for nobody."""
    named, right, known = _outcomes(similarity, truth, threshold)
    return float(right[known].mean()), float(named[~known].mean())


def _outcomes(similarity: np.ndarray, truth: np.ndarray, threshold: float) -> tuple:
    """Which probes (P,) get a name, which the right one, and which are known."""
    named = similarity.max(1) >= threshold
    return named, named & (similarity.argmax(1) == truth), truth != NOBODY


def _own_score(similarity, truth, threshold):
    own = similarity[np.arange(len(truth)), truth] >= threshold
    return own[truth != NOBODY].mean(), both_rates(similarity, truth, threshold)[1]


def _of_all_probes(similarity, truth, threshold):
    named, right, known = _outcomes(similarity, truth, threshold)
    return right.mean(), (named & ~known).mean()


def _of_the_known(similarity, truth, threshold):
    named, right, known = _outcomes(similarity, truth, threshold)
    return right[known].mean(), (named & ~right)[known].mean()


add_exercise(
    both_rates,
    _judged,
    "What is said of a score that is equal to the threshold?",
    but(both_rates, threshold=lambda threshold: np.nextafter(threshold, np.inf)),
    "A probe whose own face passes, while another's is ahead of it, is named wrong.",
    _own_score,
    "Each rate is a share of its own kind of probe: of the known, and of the strangers.",
    _of_all_probes,
    "FPIR asks for strangers who are named; you counted the known who are named wrong.",
    _of_the_known,
)


def _two_sets(rng: Generator) -> Cases:
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


def honest_accuracy(
    dev: np.ndarray, dev_truth: np.ndarray, test: np.ndarray, test_truth: np.ndarray
) -> float:
    """The accuracy on the test probes, at the best threshold for the dev probes."""
    return _share_right(test, test_truth, _best_line(dev, dev_truth))


def _tuned_on_both(dev, dev_truth, test, test_truth):
    both, truth = np.concatenate([dev, test]), np.concatenate([dev_truth, test_truth])
    return honest_accuracy(both, truth, test, test_truth)


add_exercise(
    honest_accuracy,
    _two_sets,
    "Whoever picks the threshold by the test probes no longer knows how good it is on new ones.",
    lambda dev, dev_truth, test, test_truth: honest_accuracy(test, test_truth, test, test_truth),
    "The test probes had a say in the threshold: a part of a leak is a leak.",
    _tuned_on_both,
    "That is the accuracy on the probes the threshold was chosen by, and flatters.",
    lambda dev, dev_truth, test, test_truth: honest_accuracy(dev, dev_truth, dev, dev_truth),
    "A best score below the threshold means nobody: strangers can be right, too.",
    lambda dev, dev_truth, test, test_truth: (test.argmax(1) == test_truth).mean(),
)
