"""How sure a few hundred images let one be. Built in notebooks 06, 07 and 08.

Probes of one person stand and fall together, so people are drawn again and not probes (subject
bootstrap), those with a match and those without apart, which keeps the mixture. Who the strangers
are the homework does not tell: each of their probes counts as a person of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from facekit.common.errors import DataError
from facekit.evaluation import identification, verification
from facekit.evaluation.identification import Threshold

Statistic = Callable[[np.ndarray], float | Sequence[float]]  # of some rows


@dataclass(frozen=True)
class Tuning:
    """A chosen threshold, and how far to believe it and its accuracy."""

    probes: int  # on how many
    chosen: Threshold
    plateau: tuple[float, float]  # low < t <= high decide these probes alike
    threshold_interval: tuple[float, float]  # of what other people would have suggested, 95 %
    accuracy_interval: tuple[float, float]  # at the chosen threshold, over people, 95 %
    optimism: float  # by how much the accuracy flatters, having been tuned on the same probes

    @property
    def expected(self) -> float:
        """The accuracy to expect on new probes."""
        return self.chosen.accuracy - self.optimism


def standard_error(accuracy: float, images: int) -> float:
    """How far an accuracy on so many images lies from the true one: its standard deviation."""
    return float(np.sqrt(accuracy * (1 - accuracy) / images))


def difference_error(first: np.ndarray, second: np.ndarray) -> float:
    """The same of the difference of two accuracies on the same images.

    first, second: 1 or true where a run is right, (N,). Smaller than on images of their own, as
    far as both are right on the same ones.
    """
    difference = np.asarray(first, float) - np.asarray(second, float)
    return float(difference.std() / np.sqrt(len(difference)))


def told_apart(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two accuracies on the same images differ by more than luck lets them, at 95 %.

    first, second: as of `difference_error`.
    """
    difference = np.mean(first) - np.mean(second)
    return bool(abs(difference) > 1.96 * difference_error(first, second))


def compact(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same decisions in two columns: all that rank 1 needs, and quick to draw rows from.

    Scores (P, 2), the best one first; truth 0 where it is right, 1 where it is wrong, -1 where
    there is no match.
    """
    score, right, mated = identification.outcomes(scores, truth)
    columns = np.stack([score, np.nextafter(score, -np.inf)], axis=1)
    return columns, np.where(mated, np.where(right, 0, 1), identification.NOBODY)


def bootstrap(
    statistic: Statistic, truth: np.ndarray, count: int = 1000, seed: int = 0
) -> np.ndarray:
    """A statistic of `count` samples of people: (count,), or (count, S) if it gives S numbers.

    truth (P,): whose each probe is, -1 for a stranger. People are drawn with replacement, as many
    as there are of either kind, and all probes of a person come along. `statistic` is called with
    the rows that were drawn.
    """
    people = _people(truth)
    random = np.random.default_rng(seed)
    return np.array([statistic(_draw(people, random)) for _ in range(count)])


def _draw(people: list[list[np.ndarray]], random: np.random.Generator) -> np.ndarray:
    drawn = []
    for kind in people:
        for person in random.integers(len(kind), size=len(kind)):
            drawn.append(kind[person])
    return np.concatenate(drawn)


def _people(truth: np.ndarray) -> list[list[np.ndarray]]:
    """The rows of each person: of every stranger, and of every identity; a kind may lack."""
    truth = np.asarray(truth)
    known = truth != identification.NOBODY
    strangers = list(np.flatnonzero(~known)[:, None])
    identities = [np.flatnonzero(truth == identity) for identity in np.unique(truth[known])]
    return [kind for kind in (strangers, identities) if kind]


def interval(samples: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The middle `level` of the samples (percentile bootstrap), of each column if there are some.

    A column that holds NaN has NaN for an interval.
    """
    tail = (1 - level) / 2
    low, high = np.quantile(samples, [tail, 1 - tail], axis=0)
    return low, high


def eer_interval(
    scores: np.ndarray, same: np.ndarray, count: int = 300, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of the equal error rate, as if every pair were of people of its own.

    Pairs are drawn again, those of one person and those of two apart. scores, same: (N,) each.
    """
    low, high = interval(eer_of_draws(scores, same, draw_pairs(same, count, seed)))
    return float(low), float(high)


def draw_pairs(same: np.ndarray, count: int = 300, seed: int = 0) -> np.ndarray:
    """How often each pair is in each of `count` samples: (count, N), of both kinds as many as are.

    The same draws for several runs make their differences paired.
    """
    random = np.random.default_rng(seed)
    same = np.asarray(same, bool)
    times = np.empty((count, len(same)), np.int64)
    for kind in (same, ~same):
        size = int(kind.sum())
        times[:, kind] = random.multinomial(size, np.full(size, 1 / max(size, 1)), count)
    return times


def eer_of_draws(scores: np.ndarray, same: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The equal error rate in each sample of `draw_pairs`, as `verification.eer` has it: (count,).

    All samples share one sorted list of scores, so that many take no longer than a few.
    """
    scores, same = verification.check_pairs(scores, same)
    falling = np.argsort(-scores, kind="stable")
    far_part = (~same / (~same).sum())[falling]  # what a pair adds to FAR when it is accepted
    both = far_part + (same / same.sum())[falling]  # or to FAR + TAR
    new = np.diff(scores[falling], prepend=np.inf, append=-np.inf) != 0  # equal ones fall together
    accepted = np.flatnonzero(new)  # how many pairs each threshold lets in, from none to all
    rates = []
    for drawn in times[:, falling]:
        ahead = np.concatenate([[0], np.cumsum(drawn * both)])[accepted] - 1  # FAR - FRR, rising
        after = int(np.argmax(ahead >= -1e-12))
        before = after - 1
        part = -ahead[before] / (ahead[after] - ahead[before])
        far = [drawn[:count] @ far_part[:count] for count in accepted[[before, after]]]
        rates.append(far[0] + part * (far[1] - far[0]))
    return np.array(rates)


def folds(truth: np.ndarray, count: int = 5, seed: int = 0) -> list[np.ndarray]:
    """The rows of each fold: people are never split, and every fold has its share of strangers.

    Raises DataError where there is one person of a kind only: nobody can be left out.
    """
    people = _people(truth)
    random = np.random.default_rng(seed)
    if min(map(len, people)) < 2 or count < 2:
        raise DataError("two people of each kind and two folds are the least to cross-validate by")
    parts: list[list[np.ndarray]] = [[] for _ in range(count)]
    for kind in people:
        first = random.integers(count)
        for turn, person in enumerate(random.permutation(len(kind))):
            parts[(first + turn) % count].append(kind[person])
    return [np.sort(np.concatenate(part)) for part in parts if part]


def tuning(scores: np.ndarray, truth: np.ndarray, count: int = 1000, seed: int = 0) -> Tuning:
    """The best threshold on these probes, with all that is unsure about it.

    The optimism is Efron and Gong's (1983): tune on a sample drawn from these people, and see by
    how much the accuracy there is above that of the same threshold on all of them; on average.
    """
    scores, place = compact(scores, truth)
    chosen = identification.choose_threshold(scores, place)

    def study(rows: np.ndarray) -> tuple[float, float, float]:
        value = identification.best_threshold(scores[rows], place[rows])
        here = identification.accuracy(scores[rows], place[rows], value)
        flattery = here - identification.accuracy(scores, place, value)
        return value, identification.accuracy(scores[rows], place[rows], chosen.value), flattery

    values, accuracies, flatteries = bootstrap(study, truth, count, seed).T
    return Tuning(
        probes=len(place),
        chosen=chosen,
        plateau=identification.plateau(scores, place),
        threshold_interval=interval(values),
        accuracy_interval=interval(accuracies),
        optimism=float(flatteries.mean()),
    )


def table(tunings: Mapping[str, Tuning]) -> pd.DataFrame:
    """Thresholds beside each other, a row for each name; low and high are the ends of 95 %."""
    rows = {
        name: {
            "probes": found.probes,
            "threshold": found.chosen.value,
            "threshold low": found.threshold_interval[0],
            "threshold high": found.threshold_interval[1],
            "accuracy": found.chosen.accuracy,
            "accuracy low": found.accuracy_interval[0],
            "accuracy high": found.accuracy_interval[1],
            "expected": found.expected,
        }
        for name, found in tunings.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")
