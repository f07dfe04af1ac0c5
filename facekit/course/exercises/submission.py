"""The exercises of notebook 08: two files, what may be wrong, a score. Built in notebook 08."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator

from facekit.course.exercises import Cases, add_exercise, but

HEADER = "id,label\n"


def _answers(rng: Generator) -> Cases:
    """Names of test images and the class said of each, all classes, identities of the probes."""
    classes = [f"n{number:06d}" for number in np.sort(rng.permutation(999)[:9] + 1)]
    names = [f"{row:06d}.jpg" for row in range(int(rng.integers(3, 9)))]
    predicted = [classes[int(i)] for i in rng.integers(len(classes), size=len(names))]
    probes = rng.choice([*classes, "n000000"], size=int(rng.integers(11, 25)))
    yield names, predicted, classes, [str(name) for name in probes]


def _csv(ids: Sequence, labels: Sequence) -> str:
    return HEADER + "".join(f"{i},{label}\n" for i, label in zip(ids, labels, strict=True))


def csv_texts(
    names: list[str], predicted: list[str], classes: list[str], identities: list[str]
) -> tuple[str, str]:
    """The text of both submissions: ids are file names in the first, row numbers in the second."""
    labels = [classes.index(name) for name in predicted]
    return _csv(names, labels), _csv(range(len(identities)), identities)


def _index_column(names, predicted, classes, identities):
    def numbered(text):
        header, *rows = text.splitlines()
        return "".join([f",{header}\n", *(f"{i},{row}\n" for i, row in enumerate(rows))])

    first, second = csv_texts(names, predicted, classes, identities)
    return numbered(first), numbered(second)


def _as_words(names, predicted, classes, identities):
    first, _ = csv_texts(names, predicted, classes, identities)
    ids = sorted(range(len(identities)), key=str)
    return first, _csv(ids, [identities[i] for i in ids])


add_exercise(
    csv_texts,
    _answers,
    "A row has two values, and yours has three: that is the table's own index, written too.",
    _index_column,
    "For classification a label is a number: the place of the class among all of them.",
    lambda names, predicted, classes, identities: (
        _csv(names, predicted),
        _csv(range(len(identities)), identities),
    ),
    "The ids of verification are numbers; sorted as words, 10 comes before 2.",
    _as_words,
    "Which number has the first file? Counting begins elsewhere here.",
    lambda names, predicted, classes, identities: (
        csv_texts(names, predicted, classes, identities)[0],
        _csv(range(1, len(identities) + 1), identities),
    ),
)


def _ids(rng: Generator) -> Cases:
    """The ids of a submission and those expected: as they should be, then each fault, then all."""
    expected = [str(row) for row in range(int(rng.integers(12, 20)))]
    gone, twice, odd = (expected[int(i)] for i in rng.permutation(len(expected))[:3])
    shuffled = [expected[int(i)] for i in rng.permutation(len(expected))]
    yield list(expected), expected
    yield shuffled, expected
    yield sorted(expected), expected
    yield [i for i in expected if i != gone], expected
    yield [*expected, twice, twice], expected
    yield [twice if i == gone else i for i in shuffled], expected
    yield [f"{i}.jpg" if i in (gone, odd) else i for i in shuffled], expected


def faults(ids: list[str], expected: list[str]) -> tuple[int, int, int, bool]:
    """How many ids are missing, of no image, more than once; whether the order alone is wrong."""
    missing, extra = set(expected) - set(ids), set(ids) - set(expected)
    twice = sum(count > 1 for count in Counter(ids).values())
    shuffled = ids != expected and sorted(ids) == sorted(expected)
    return len(missing), len(extra), twice, shuffled


add_exercise(
    faults,
    _ids,
    "One row missing and one too many: the length is as it should be, and tells nothing.",
    lambda ids, expected: (
        max(0, len(expected) - len(ids)),
        max(0, len(ids) - len(expected)),
        *faults(ids, expected)[2:],
    ),
    "An id that stands in three rows is one id that comes more than once.",
    lambda ids, expected: (
        *faults(ids, expected)[:2],
        len(ids) - len(set(ids)),
        faults(ids, expected)[3],
    ),
    "The same ids in another order are a fault, and the one that nobody else will tell you.",
    lambda ids, expected: (*faults(ids, expected)[:3], False),
    "Rows are out of order only where each id is there once; here some are missing or too many.",
    lambda ids, expected: (*faults(ids, expected)[:3], ids != expected),
)


def _handed_in(rng: Generator) -> Cases:
    """Labels by id, of a submission and of the answers: all rows, then too few, then others."""
    ids = [f"{row:06d}.jpg" for row in range(20)]
    truth = {i: str(label) for i, label in zip(ids, rng.integers(5, size=20), strict=True)}
    said = {i: truth[i] if rng.random() < 0.6 else "9" for i in ids}
    order = [ids[int(i)] for i in rng.permutation(20)]
    yield {i: said[i] for i in order}, truth
    yield {i: said[i] for i in order[:13]}, truth
    yield {i: said[i] for i in order[:13]} | {"x.jpg": "1", "y.jpg": "2"}, truth


def score_by_id(mine: dict[str, str], truth: dict[str, str]) -> float:
    """The share of the answers' ids for which the submission has the right label."""
    return sum(mine.get(i) == label for i, label in truth.items()) / len(truth)


def _by_position(mine, truth):
    rows = zip(mine.values(), truth.values(), strict=False)
    return sum(a == b for a, b in rows) / len(truth)


def _of_those_in_both(mine, truth):
    both = set(mine) & set(truth)
    return sum(mine[i] == truth[i] for i in both) / len(both)


add_exercise(
    score_by_id,
    _handed_in,
    "Row by row, the files must be in one order, and nobody promised that. Look at the ids.",
    _by_position,
    "Leaving out what is hard must not pay: a row that is missing is a wrong answer.",
    lambda mine, truth: sum(truth.get(i) == label for i, label in mine.items()) / len(mine),
    "You count only ids that are in both files. What of an image that got no answer?",
    _of_those_in_both,
)


def _results(rng: Generator) -> Cases:
    """How many are right of how many, and the cut-offs, highest first."""
    cutoffs = {"HIGH": 0.90, "MEDIUM": 0.84, "LOW": 0.82}
    yield 45, 50, cutoffs
    yield 896, 1000, cutoffs
    count = int(rng.integers(40, 400))
    yield int(count * rng.uniform(0.75, 0.99)), count, cutoffs


def grade(right: int, count: int, cutoffs: dict[str, float]) -> tuple[float, float, str]:
    """The accuracy, its standard error, and the highest grade whose cut-off it reaches."""
    accuracy = right / count
    error = math.sqrt(accuracy * (1 - accuracy) / count)
    return accuracy, error, _reached(accuracy, cutoffs)


def _reached(accuracy: float, cutoffs: dict[str, float]) -> str:
    """The first grade whose cut-off is reached."""
    return next((name for name, least in cutoffs.items() if accuracy >= least), "below LOW")


def _graded(seen: Callable = float, error: Callable = lambda error, count: error) -> Callable:
    """A wrong answer with the grade of `seen` of the accuracy, and `error` of the error."""

    def answer(right, count, cutoffs):
        accuracy, usual, _ = grade(right, count, cutoffs)
        return accuracy, error(usual, count), _reached(seen(accuracy), cutoffs)

    return answer


add_exercise(
    grade,
    _results,
    "Whoever reaches a cut-off exactly has earned the grade.",
    _graded(lambda accuracy: math.nextafter(accuracy, 0)),
    "89.6 % is not 90 %: the grade goes by what was reached, not by what is printed.",
    _graded(lambda accuracy: round(accuracy, 2)),
    "You have the variance. In what unit is it? The error is in that of the accuracy.",
    _graded(error=lambda error, count: error**2),
    "That is how far one image strays; the mean of many strays less.",
    _graded(error=lambda error, count: error * math.sqrt(count)),
    "Whoever reaches HIGH reaches LOW as well: which do you ask for first?",
    but(grade, cutoffs=lambda cutoffs: dict(reversed(cutoffs.items()))),
)
