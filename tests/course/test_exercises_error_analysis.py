"""The exercises of notebook 09 against sums by hand and another library."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import sem

from facekit.course import exercises
from facekit.course.exercises import error_analysis
from facekit.evaluation import statistics

KNOWN = exercises.exercises()


def test_the_accuracy_of_a_group_is_that_of_its_images_and_its_error_the_kits():
    for right, group in KNOWN["accuracy_by_group"].cases(seed=1):
        table = error_analysis.accuracy_by_group(right, group)
        by_pandas = pd.Series(right).groupby(group).mean()
        np.testing.assert_allclose(table[:, 0], by_pandas)
        for (share, low, high), count in zip(table, np.bincount(group), strict=True):
            reach = 1.96 * statistics.standard_error(share, count)
            assert (low, high) == pytest.approx((share - reach, share + reach))


def test_the_gain_of_people_is_the_mean_of_means_and_its_error_theirs():
    for before, after, person in KNOWN["gain_by_person"].cases(seed=1):
        means = pd.Series(after - before).groupby(person).mean()
        gain, error = error_analysis.gain_by_person(before, after, person)
        assert gain == pytest.approx(means.mean())
        assert error == pytest.approx(sem(means, ddof=0))


def test_attention_is_measured_by_what_its_area_explains():
    for attention, parts, count in KNOWN["attention_per_area"].cases(seed=1):
        found = error_analysis.attention_per_area(attention, parts, count)
        for part in range(count):
            assert found[part] == pytest.approx(attention[parts == part].mean() / attention.mean())
        even = error_analysis.attention_per_area(np.ones_like(attention), parts, count)
        np.testing.assert_allclose(even, 1)
