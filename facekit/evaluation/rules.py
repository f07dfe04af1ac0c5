"""Ways to decide, beyond one threshold for all cosines. Built in notebook 06.

A rule looks at the evidence, probes beside a gallery, and gives scores (P, G), higher for more
alike. Whatever the rule, the best identity is the answer if its score is at or above a threshold,
so every function of `facekit.evaluation.identification` judges rules as it judges similarities.
What a rule says of a probe never depends on the other probes: the homework's test set is no help in
answering it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from facekit.common.errors import DataError
from facekit.evaluation import identification

SMALL = 1e-6  # the least spread that a score is divided by
SHARPNESS = {"cosine": 16.0, "euclidean": 1.0}  # of top_k_softmax


@dataclass(frozen=True)
class Evidence:
    """All that a rule may look at.

    probes (P, D), gallery (I, D) with a row for each image; owner (I,), the identity 0 ... G - 1
    on it, None where there is one image of each; cohort (C, D), people who are surely neither in
    the gallery nor among the probes, such as the training classes' means.
    """

    probes: np.ndarray
    gallery: np.ndarray
    owner: np.ndarray | None = None
    cohort: np.ndarray | None = None
    measure: str = "cosine"

    def compare(self, probes: np.ndarray, others: np.ndarray) -> np.ndarray:
        """The similarity by the measure of this evidence."""
        return identification.similarity(probes, others, self.measure)

    @cached_property
    def templates(self) -> np.ndarray:
        """One vector for each identity (G, D): the mean of its images, each of length one first
        where only directions count."""
        vectors = np.asarray(self.gallery, np.float32)
        if self.owner is None:
            return vectors
        if self.measure == "cosine":
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
        return np.stack([vectors[self.owner == i].mean(0) for i in np.unique(self.owner)])

    @cached_property
    def similarity(self) -> np.ndarray:
        """Of every probe with every identity's template: float32 (P, G)."""
        return self.compare(self.probes, self.templates)

    def with_probes(self, probes: np.ndarray) -> "Evidence":
        """Other probes beside the same gallery."""
        return replace(self, probes=probes)


Rule = Callable[[Evidence], np.ndarray]


def threshold(evidence: Evidence) -> np.ndarray:
    """The plain rule: the similarity itself."""
    return evidence.similarity


def gap(evidence: Evidence) -> np.ndarray:
    """How far an identity is ahead of the best other one; who is alone in front is believed."""
    scores = evidence.similarity.astype(np.float64)
    if scores.shape[1] < 2:
        raise DataError("the gap to the second best needs two identities in the gallery")
    second, best = np.partition(scores, -2, axis=1)[:, -2:].T
    front = np.arange(scores.shape[1]) == scores.argmax(1)[:, None]
    return scores - np.where(front, second[:, None], best[:, None])


def top_k_softmax(evidence: Evidence, k: int = 16, sharpness: float | None = None) -> np.ndarray:
    """The logarithm of each identity's share among the k most alike.

    The neighbourhood-aware cosine of open-set face identification (2022): a probe that is like
    many is like nobody. In logarithms, so that scores near 1 are still told apart. `sharpness`
    multiplies the similarity: 16 for cosines, whose differences are small, and 1 for distances.
    """
    scores = evidence.similarity.astype(np.float64)
    if scores.shape[1] < 2:
        raise DataError("a share among the most alike needs two identities in the gallery")
    scores *= SHARPNESS[evidence.measure] if sharpness is None else sharpness
    best = scores.max(1, keepdims=True)
    others = np.sort(_highest(scores, k), axis=1)[:, :-1]
    return scores - best - np.log1p(np.exp(others - best).sum(1, keepdims=True))


def as_norm(evidence: Evidence, k: int = 100) -> np.ndarray:
    """The similarity in spreads above what either side has with the cohort (adaptive S-norm).

    Mean and deviation are those over the k cohort members most alike to the probe, and to the
    gallery vector; the score is the mean of both sides (Matejka et al. 2017). A gallery face that
    is like everybody must be more alike to count.
    """
    cohort = _cohort(evidence)
    of_probes = _highest(evidence.compare(evidence.probes, cohort).astype(np.float64), k)
    of_gallery = _highest(evidence.compare(evidence.templates, cohort).astype(np.float64), k)
    scores = evidence.similarity.astype(np.float64)
    by_probe = scores - of_probes.mean(1, keepdims=True)
    by_probe /= of_probes.std(1, keepdims=True).clip(SMALL)
    by_gallery = (scores - of_gallery.mean(1)) / of_gallery.std(1).clip(SMALL)
    return (by_probe + by_gallery) / 2


def whitened(evidence: Evidence, shrinkage: float = 1.0) -> np.ndarray:
    """The cosine where the cohort is a ball: directions in which all people vary count less.

    The covariance is that of the cohort, with `shrinkage` times its mean variance added in every
    direction, since there are hardly more people than directions.
    """
    cohort = _cohort(evidence).astype(np.float64)
    middle = cohort.mean(0)
    covariance = np.cov(cohort, rowvar=False, bias=True)
    size = len(covariance)
    covariance += (shrinkage * np.trace(covariance) / size + SMALL**2) * np.eye(size)
    root = np.linalg.cholesky(np.linalg.inv(covariance))
    return identification.similarity(
        (evidence.probes - middle) @ root, (evidence.templates - middle) @ root
    )


def closest_image(evidence: Evidence) -> np.ndarray:
    """Of several images of an identity the one most alike, not their mean."""
    if evidence.owner is None:
        return evidence.similarity
    scores = evidence.compare(evidence.probes, evidence.gallery)
    owner = evidence.owner
    return np.stack([scores[:, owner == i].max(1) for i in np.unique(owner)], axis=1)


def _highest(scores: np.ndarray, k: int) -> np.ndarray:
    """The k highest of each row, or all, in any order."""
    k = min(k, scores.shape[1])
    return np.partition(scores, -k, axis=1)[:, -k:]


def _cohort(evidence: Evidence) -> np.ndarray:
    cohort = evidence.cohort
    if cohort is None or len(cohort) < 2:
        raise DataError("this rule needs a cohort of two or more, such as the class means")
    return np.asarray(cohort, np.float32)


@dataclass(frozen=True)
class Logistic:
    """Several scores of the best identity, weighed: the log-odds that it is right.

    Right against no match; a wrong identity has no say, since nothing is gained by accepting or
    by refusing it. 0 is the best threshold for the mixture that it was fitted on. The other
    identities score one less than the best.
    """

    model: Any  # a Pipeline of scikit-learn: standardised features, weighed
    threshold: float = 0.0

    def __call__(self, evidence: Evidence) -> np.ndarray:
        """Log-odds (P, G)."""
        features, best = signs(evidence)
        odds = self.odds(features)
        front = np.arange(len(evidence.templates)) == best[:, None]
        return np.where(front, odds[:, None], odds[:, None] - 1)

    def odds(self, features: np.ndarray) -> np.ndarray:
        """The log-odds of features (P, F)."""
        return self.model.decision_function(features)


def signs(evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """What `Logistic` weighs, (P, F), and the identity that it is about, (P,).

    The similarity, the gap to the second and, with a cohort, the normalised score and how alike
    the probe is to the cohort. The identity is the best by the normalised score where there is
    one.
    """
    scores = [evidence.similarity, gap(evidence)]
    best = evidence.similarity.argmax(1)
    if evidence.cohort is not None:
        scores.append(as_norm(evidence))
        best = scores[-1].argmax(1)
    features = [score[np.arange(len(best)), best] for score in scores]
    if evidence.cohort is not None:
        features.append(evidence.compare(evidence.probes, evidence.cohort).mean(1))
    return np.stack(features, 1).astype(np.float64), best


def fit_logistic(features: np.ndarray, right: np.ndarray, mated: np.ndarray) -> Logistic:
    """Weigh the features of `signs` (P, F) of probes whose truth is known.

    right, mated (P,): whether its identity is the probe's own, and whether it has a match. Raises
    DataError unless some probes are named right and some have no match.
    """
    if not right.any() or mated.all():
        raise DataError("weights need probes that are named right and probes without a match")
    counted = right | ~mated
    from sklearn.linear_model import LogisticRegression  # slow to import, for this rule alone
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression())
    return Logistic(model.fit(features[counted], right[counted]))


PLAIN = "threshold"
RULES: dict[str, Rule] = {
    PLAIN: threshold,
    "gap": gap,
    "top_k_softmax": top_k_softmax,
    "as_norm": as_norm,
    "whitened": whitened,
    "closest_image": closest_image,
}
FITTED = "logistic"
NAMES = (*RULES, FITTED)
WITH_COHORT = ("as_norm", "whitened", FITTED)  # those that need a cohort, or are better for one


def make(name: str, evidence: Evidence, truth: np.ndarray) -> Rule:
    """The rule of a name, fitted to this evidence if it is one that is fitted."""
    if name not in NAMES:
        raise DataError(f"no rule {name!r}; choose one of: {', '.join(NAMES)}")
    if name != FITTED:
        return RULES[name]
    features, best = signs(evidence)
    return fit_logistic(features, best == truth, truth != identification.NOBODY)


def choose_threshold(rule: Rule, scores: np.ndarray, truth: np.ndarray) -> identification.Threshold:
    """The threshold of a rule: its own if it is calibrated, else the best on these probes."""
    own = getattr(rule, "threshold", None)
    if own is None:
        return identification.choose_threshold(scores, truth)
    return identification.judge_threshold(scores, truth, own)
