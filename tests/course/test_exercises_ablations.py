"""The references of notebook 07's exercises agree with brute force, draws and the schedules."""

import itertools

import numpy as np
import pytest

from facekit.course import ablations, exercises
from facekit.course.ablations import FULL, PUBLISHED
from facekit.course.exercises.ablations import (
    difference_error,
    one_change,
    restarts_seen,
    standard_error,
)
from facekit.evaluation import statistics
from facekit.training import schedules
from facekit.training.recipe import Recipe

KNOWN = exercises.exercises()


def test_pairs_differ_in_one_setting():
    for (rows,) in KNOWN["one_change"].cases(seed=1):
        apart = {
            (one, two): len(set(rows[one].items()) - set(rows[two].items()))
            for one, two in itertools.product(rows, rows)
            if list(rows).index(one) < list(rows).index(two)
        }
        assert one_change(rows) == [pair for pair, count in apart.items() if count == 1]
        assert len(one_change(rows)) >= 1


def test_the_order_of_the_rows_is_kept():
    rows = {"second": {"lr": 1}, "first": {"lr": 2}}
    assert ablations.one_change(rows) == [("second", "first")]


def test_the_published_pairs_are_those_whose_recipes_differ_in_one_setting():
    recipes = {row: ablations.recipe(row, FULL) for row in PUBLISHED}
    pairs = [
        pair
        for pair in itertools.combinations(recipes, 2)
        if len(ablations.differences(*(recipes[row] for row in pair))) == 1
    ]
    settings = {row: recipe.as_dict() | {"name": ""} for row, recipe in recipes.items()}
    assert one_change(settings) == pairs
    assert ("row07", "row08") in pairs


@pytest.mark.parametrize("epochs", [1, 6, 7, 12, 13])
@pytest.mark.parametrize("between", [1, 3, 6, 40])
def test_a_restart_is_a_jump_of_the_rate(epochs, between):
    recipe = Recipe(
        name="r", epochs=epochs, schedule="restarts", restart_epochs=between, warmup_epochs=0
    )
    rates = [schedules.lr_at(recipe, step, 4) for step in range(4 * epochs)]
    assert restarts_seen(epochs, between) == sum(
        new > old for old, new in itertools.pairwise(rates)
    )


@pytest.mark.parametrize(("accuracy", "images"), [(0.5, 100), (0.9, 40), (0.0, 10), (1.0, 10)])
def test_the_standard_error_is_the_spread_of_many_dev_sets(accuracy, images):
    found = np.random.default_rng(0).binomial(images, accuracy, 200_000) / images
    assert standard_error(accuracy, images) == pytest.approx(found.std(), rel=0.01)


def test_the_error_of_a_difference_is_the_spread_over_drawn_images():
    rng = np.random.default_rng(0)
    for first, second in KNOWN["difference_error"].cases(seed=1)[:4]:
        rows = rng.integers(len(first), size=(20_000, len(first)))
        spread = (first[rows].mean(1) - second[rows].mean(1)).std()
        assert difference_error(first, second) == pytest.approx(spread, rel=0.03)


def test_beside_one_that_is_never_right_it_is_the_error_of_the_other():
    first = np.array([1.0] * 7 + [0.0] * 13)
    alone = statistics.standard_error(7 / 20, 20)
    assert statistics.difference_error(first, np.zeros(20)) == pytest.approx(alone)
    assert statistics.difference_error(first > 0, first > 0) == 0


def test_on_the_same_images_luck_is_partly_shared():
    for first, second in KNOWN["difference_error"].cases(seed=1):
        own = [standard_error(run.mean(), len(run)) for run in (first, second)]
        assert difference_error(first, second) < np.hypot(*own)
