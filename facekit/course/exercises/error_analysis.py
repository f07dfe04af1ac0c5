"""The exercises of notebook 09: groups, pairs by person, attention. Built in notebook 09."""

import numpy as np
from numpy.random import Generator

from facekit.course.exercises import Cases, add_exercise


def _groups(rng: Generator) -> Cases:
    """Which images (N,) are right, and the group of each (N,), 0 ... G - 1; none is empty."""
    yield np.array([True, True, False, True]), np.array([0, 0, 1, 1])
    count = int(rng.integers(2, 5))
    sizes = 6 + rng.permutation(count) * 5  # no two alike
    group = rng.permutation(np.repeat(np.arange(count), sizes))
    yield rng.random(len(group)) < 0.5 + 0.1 * group, group


def _by_group(right: np.ndarray, group: np.ndarray, images) -> np.ndarray:
    """Accuracy and ends by group, (G, 3); `images(own)` is what the error is divided by."""
    rows = []
    for place in range(group.max() + 1):
        own = right[group == place]
        reach = 1.96 * np.sqrt(own.mean() * (1 - own.mean()) / images(own))
        rows.append([own.mean(), own.mean() - reach, own.mean() + reach])
    return np.array(rows)


def accuracy_by_group(right: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Of each group its accuracy and the ends of its interval of 95 %, (G, 3)."""
    return _by_group(right, group, len)


def _of_all_images(right, group):
    table = accuracy_by_group(right, group)
    return table * (np.bincount(group) / len(group))[:, None]


def _one_error_wide(right, group):
    table = accuracy_by_group(right, group)
    return table[:, :1] + (table - table[:, :1]) / 1.96


add_exercise(
    accuracy_by_group,
    _groups,
    "The error of a group has the number of that group's images in it, not of all images.",
    lambda right, group: _by_group(right, group, lambda own: len(right)),
    "Divide the right ones of a group by the images of that group, not by all images.",
    _of_all_images,
    "One standard error to either side holds 68 %; an interval of 95 % takes 1.96 of them.",
    _one_error_wide,
)


def _probes(rng: Generator) -> Cases:
    """Right before and after, as 0.0 or 1.0 (N,), and whose each probe is (N,), 0 ... P - 1."""
    before, after = np.array([0.0, 1.0, 0.0, 0.0]), np.array([1.0, 1.0, 1.0, 0.0])
    yield before, after, np.array([0, 0, 0, 1])
    person = rng.permutation(np.repeat(np.arange(8), 2 + rng.permutation(8) % 4))
    before = (rng.random(len(person)) < 0.4).astype(float)
    yield before, np.maximum(before, rng.random(8)[person] < 0.6).astype(float), person


def _by_person(values: np.ndarray, person: np.ndarray) -> np.ndarray:
    """The mean of each person's values, (P,)."""
    return np.bincount(person, values) / np.bincount(person)


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std() / np.sqrt(len(values)))


def gain_by_person(
    before: np.ndarray, after: np.ndarray, person: np.ndarray
) -> tuple[float, float]:
    """The mean gain of a person, and the standard error of that mean over people."""
    return _mean_and_error(_by_person(after - before, person))


def _two_errors(before, after, person):
    errors = [_mean_and_error(_by_person(part, person))[1] for part in (before, after)]
    return gain_by_person(before, after, person)[0], np.hypot(*errors)


def _spread(before, after, person):
    gain, error = gain_by_person(before, after, person)
    return gain, error * np.sqrt(person.max() + 1)


add_exercise(
    gain_by_person,
    _probes,
    "Probes of one person stand and fall together: first the mean gain of each person, then the "
    "mean and the error of these.",
    lambda before, after, person: _mean_and_error(after - before),
    "That is the error of two groups of other people. These are the same people twice: look at "
    "the difference, person by person.",
    _two_errors,
    "A gain is what comes after less what was before.",
    lambda before, after, person: gain_by_person(after, before, person),
    "That is how much one person's gain varies; the mean of many is surer.",
    _spread,
)


def _maps(rng: Generator) -> Cases:
    """A map of attention (H, W), none below 0, the part that each pixel shows, and how many."""
    yield np.array([[1.0, 3.0], [0.0, 0.0]]), np.array([[0, 1], [1, 1]]), 2
    count, shape = int(rng.integers(3, 6)), (6, int(rng.integers(5, 9)))
    parts = rng.permutation(np.arange(shape[0] * shape[1]) ** 2 % 7 % count).reshape(shape)
    parts[0, :count] = np.arange(count)
    yield rng.exponential(size=shape) * (1 + parts), parts, count


def attention_per_area(attention: np.ndarray, parts: np.ndarray, count: int) -> np.ndarray:
    """Each part's share of the attention over its share of the area, (count,)."""
    paid = np.bincount(parts.ravel(), attention.ravel(), count)
    area = np.bincount(parts.ravel(), minlength=count)
    return (paid / attention.sum()) / (area / parts.size)


def _share_alone(attention, parts, count):
    return np.bincount(parts.ravel(), attention.ravel(), count) / attention.sum()


def _upside_down(attention, parts, count):
    return 1 / attention_per_area(attention, parts, count)


add_exercise(
    attention_per_area,
    _maps,
    "A large part gets much attention by its size alone: divide by its share of the area.",
    _share_alone,
    "That is the mean of the map in each part. Shares have no unit: divide by the sum, or the "
    "mean, of the whole map.",
    lambda attention, parts, count: attention_per_area(attention, parts, count) * attention.mean(),
    "Above 1 should mean more attention than its size explains; yours is the other way round.",
    _upside_down,
)
