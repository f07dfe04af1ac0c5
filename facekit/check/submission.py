"""The exercises of notebook 08: two files, what may be wrong, a score. Built in notebook 08."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from facekit.check import asked

HEADER = "id,label\n"


def _answers(rng: np.random.Generator) -> Iterator[tuple[list[str], list[str], list[str], list]]:
    """Names of test images and the class said of each, all classes, identities of the probes."""
    classes = [f"n{number:06d}" for number in np.sort(rng.permutation(999)[:9] + 1)]
    names = [f"{row:06d}.jpg" for row in range(int(rng.integers(3, 9)))]
    predicted = [classes[int(i)] for i in rng.integers(len(classes), size=len(names))]
    probes = rng.choice([*classes, "n000000"], size=int(rng.integers(11, 25)))
    yield names, predicted, classes, [str(name) for name in probes]


def _csv(ids: Sequence, labels: Sequence) -> str:
    return HEADER + "".join(f"{i},{label}\n" for i, label in zip(ids, labels, strict=True))


def _index_column(names, predicted, classes, identities):
    """A row has two values, and yours has three: that is the table's own index, written too."""
    files = csv_texts(names, predicted, classes, identities)
    return tuple(
        "".join(f"{'' if i == 0 else i - 1},{line}\n" for i, line in enumerate(text.splitlines()))
        for text in files
    )


def _class_names(names, predicted, classes, identities):
    """For classification a label is a number: the place of the class among all of them."""
    return _csv(names, predicted), _csv(range(len(identities)), identities)


def _as_words(names, predicted, classes, identities):
    """The ids of verification are numbers; sorted as words, 10 comes before 2."""
    rows = sorted((str(row), name) for row, name in enumerate(identities))
    return csv_texts(names, predicted, classes, identities)[0], _csv(*zip(*rows, strict=True))


def _from_one(names, predicted, classes, identities):
    """Which number has the first file? Counting begins elsewhere here."""
    first, _ = csv_texts(names, predicted, classes, identities)
    return first, _csv(range(1, len(identities) + 1), identities)


@asked(
    _answers,
    index_column=_index_column,
    class_names=_class_names,
    as_words=_as_words,
    from_one=_from_one,
)
def csv_texts(
    names: list[str], predicted: list[str], classes: list[str], identities: list[str]
) -> tuple[str, str]:
    """The text of both submissions: ids are file names in the first, row numbers in the second."""
    labels = [classes.index(name) for name in predicted]
    return _csv(names, labels), _csv(range(len(identities)), identities)


def _ids(rng: np.random.Generator) -> Iterator[tuple[list[str], list[str]]]:
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


def _by_length(ids, expected):
    """One row missing and one too many: the length is as it should be, and tells nothing."""
    missing, extra = (max(0, n) for n in (len(expected) - len(ids), len(ids) - len(expected)))
    return missing, extra, *faults(ids, expected)[2:]


def _rows_of_doubles(ids, expected):
    """An id that stands in three rows is one id that comes more than once."""
    missing, extra, _, shuffled = faults(ids, expected)
    return missing, extra, len(ids) - len(set(ids)), shuffled


def _order_forgotten(ids, expected):
    """The same ids in another order are a fault, and the one that nobody else will tell you."""
    return *faults(ids, expected)[:3], False


def _always_shuffled(ids, expected):
    """Rows are out of order only where each id is there once; here some are missing or too many."""
    return *faults(ids, expected)[:3], ids != expected


@asked(
    _ids,
    by_length=_by_length,
    rows_of_doubles=_rows_of_doubles,
    order_forgotten=_order_forgotten,
    always_shuffled=_always_shuffled,
)
def faults(ids: list[str], expected: list[str]) -> tuple[int, int, int, bool]:
    """How many ids are missing, of no image, more than once; whether the order alone is wrong."""
    missing, extra = set(expected) - set(ids), set(ids) - set(expected)
    twice = sum(count > 1 for count in Counter(ids).values())
    shuffled = ids != expected and sorted(ids) == sorted(expected)
    return len(missing), len(extra), twice, shuffled


def _handed_in(rng: np.random.Generator) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Labels by id, of a submission and of the answers: all rows, then too few, then others."""
    ids = [f"{row:06d}.jpg" for row in range(20)]
    truth = {i: str(label) for i, label in zip(ids, rng.integers(5, size=20), strict=True)}
    said = {i: truth[i] if rng.random() < 0.6 else "9" for i in ids}
    order = [ids[int(i)] for i in rng.permutation(20)]
    yield {i: said[i] for i in order}, truth
    yield {i: said[i] for i in order[:13]}, truth
    yield {i: said[i] for i in order[:13]} | {"x.jpg": "1", "y.jpg": "2"}, truth


def _by_position(mine, truth):
    """Row by row, the files must be in one order, and nobody promised that. Look at the ids."""
    rows = zip(mine.values(), truth.values(), strict=False)
    return sum(a == b for a, b in rows) / len(truth)


def _of_those_handed_in(mine, truth):
    """Leaving out what is hard must not pay: a row that is missing is a wrong answer."""
    return sum(truth.get(i) == label for i, label in mine.items()) / len(mine)


def _of_those_in_both(mine, truth):
    """You count only ids that are in both files. What of an image that got no answer?"""
    both = set(mine) & set(truth)
    return sum(mine[i] == truth[i] for i in both) / len(both)


@asked(
    _handed_in,
    by_position=_by_position,
    of_those_handed_in=_of_those_handed_in,
    of_those_in_both=_of_those_in_both,
)
def score_by_id(mine: dict[str, str], truth: dict[str, str]) -> float:
    """The share of the answers' ids for which the submission has the right label."""
    return sum(mine.get(i) == label for i, label in truth.items()) / len(truth)


def _results(rng: np.random.Generator) -> Iterator[tuple[int, int, dict[str, float]]]:
    """How many are right of how many, and the cut-offs, highest first."""
    cutoffs = {"HIGH": 0.90, "MEDIUM": 0.84, "LOW": 0.82}
    yield 45, 50, cutoffs
    yield 896, 1000, cutoffs
    count = int(rng.integers(40, 400))
    yield int(count * rng.uniform(0.75, 0.99)), count, cutoffs


def _named(accuracy: float, cutoffs: dict[str, float]) -> str:
    return next((name for name, least in cutoffs.items() if accuracy >= least), "below LOW")


def _only_above(right, count, cutoffs):
    """Whoever reaches a cut-off exactly has earned the grade."""
    accuracy, error, _ = grade(right, count, cutoffs)
    return accuracy, error, _named(math.nextafter(accuracy, 0), cutoffs)


def _rounded_first(right, count, cutoffs):
    """89.6 % is not 90 %: the grade goes by what was reached, not by what is printed."""
    accuracy, error, _ = grade(right, count, cutoffs)
    return accuracy, error, _named(round(accuracy, 2), cutoffs)


def _variance(right, count, cutoffs):
    """You have the variance. In what unit is it? The error is in that of the accuracy."""
    accuracy, error, name = grade(right, count, cutoffs)
    return accuracy, error**2, name


def _of_one_picture(right, count, cutoffs):
    """That is how far one picture strays; the mean of many strays less."""
    accuracy, error, name = grade(right, count, cutoffs)
    return accuracy, error * math.sqrt(count), name


def _lowest_first(right, count, cutoffs):
    """Whoever reaches HIGH reaches LOW as well: which do you ask for first?"""
    accuracy, error, _ = grade(right, count, cutoffs)
    return accuracy, error, _named(accuracy, dict(reversed(cutoffs.items())))


@asked(
    _results,
    only_above=_only_above,
    rounded_first=_rounded_first,
    variance=_variance,
    of_one_picture=_of_one_picture,
    lowest_first=_lowest_first,
)
def grade(right: int, count: int, cutoffs: dict[str, float]) -> tuple[float, float, str]:
    """The accuracy, its standard error, and the highest grade whose cut-off it reaches."""
    accuracy = right / count
    return accuracy, math.sqrt(accuracy * (1 - accuracy) / count), _named(accuracy, cutoffs)
