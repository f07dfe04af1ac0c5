"""Runs that learn nothing are stopped with the reason; runs that learn are left alone."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekit.common.errors import RunError
from facekit.training.guards import LearningGuard, check_loss
from facekit.training.recipe import Recipe

UNTRAINED = math.log(100)


def row(epoch: int, loss: float = 3.0, dev: float = 0.5, train: float = 0.5) -> dict:
    return {"epoch": epoch, "train_loss": loss, "dev_accuracy": dev, "train_accuracy": train}


def watch(classes: int = 100, dev_images: int = 500, **changes) -> LearningGuard:
    recipe = Recipe("r", **{"warmup_epochs": 2.0, "epochs": 50} | changes)
    return LearningGuard(recipe, classes, dev_images)


@pytest.mark.parametrize(
    ("value", "name"), [(math.nan, "NaN"), (math.inf, "infinite"), (-math.inf, "infinite")]
)
def test_a_loss_that_is_no_number_stops_the_run_and_says_where(value, name):
    with pytest.raises(RunError) as error:
        check_loss(value, 812, 0.1, "float16")
    text = str(error.value)
    for word in (name, "step 812", "0.1", "float16", "lr", "grad_clip=1", "float32"):
        assert word in text
    assert "\n" not in text


def test_other_losses_pass_and_float32_is_not_advised_to_itself():
    check_loss(0.0, 1, 0.1, "float32")
    check_loss(1e30, 1, 0.1, "float32")
    with pytest.raises(RunError) as error:
        check_loss(math.nan, 1, 0.1, "float32")
    assert "precision=" not in str(error.value)


def test_a_loss_never_below_the_start_stops_the_run_after_ten_epochs():
    rows = [row(epoch, loss=UNTRAINED + 0.01 * epoch) for epoch in range(10)]
    for count in range(10):
        watch().check(rows[:count], UNTRAINED)
    with pytest.raises(RunError) as error:
        watch().check(rows, UNTRAINED)
    text = str(error.value)
    for word in (f"{UNTRAINED:.3f}", "10 epochs", "lr", "watch=false"):
        assert word in text


@pytest.mark.parametrize(("warmup", "epochs"), [(0.0, 10), (5.0, 10), (5.5, 11), (20.0, 25)])
def test_a_long_warm_up_gets_more_time(warmup, epochs):
    rows = [row(epoch, loss=9.0) for epoch in range(epochs)]
    watch(warmup_epochs=warmup).check(rows[:-1], UNTRAINED)
    with pytest.raises(RunError):
        watch(warmup_epochs=warmup).check(rows, UNTRAINED)


def test_accuracy_at_chance_stops_the_run_and_says_what_chance_is():
    rows = [row(epoch, dev=0.012, train=0.011) for epoch in range(10)]
    with pytest.raises(RunError) as error:
        watch(lr=0.5).check(rows, UNTRAINED)
    text = str(error.value)
    # Three standard errors of 1 % in 500 pictures: 3 sqrt(0.01 * 0.99 / 500) = 1.33 %.
    for word in ("1.20%", "1.00%", "2.33%", "100 classes", "lr=0.05", "watch=false"):
        assert word in text


def test_a_network_that_knows_its_own_pictures_alone_gets_other_advice():
    rows = [row(epoch, dev=0.012, train=0.9) for epoch in range(10)]
    with pytest.raises(RunError, match="train and dev"):
        watch().check(rows, UNTRAINED)


@pytest.mark.parametrize("good", [0, 4, 9])
def test_one_epoch_better_than_chance_is_enough(good):
    rows = [row(epoch, dev=0.03 if epoch == good else 0.01) for epoch in range(12)]
    watch().check(rows, UNTRAINED)
    rows = [row(epoch, loss=4.0 if epoch == good else 9.0) for epoch in range(12)]
    watch().check(rows, UNTRAINED)


def test_a_run_that_learned_once_and_fell_back_goes_on():
    rows = [row(0)] + [row(epoch, loss=99.0, dev=0.0) for epoch in range(1, 60)]
    watch().check(rows, UNTRAINED)


def test_the_watch_can_be_switched_off():
    rows = [row(epoch, loss=99.0, dev=0.0) for epoch in range(30)]
    watch(watch=False).check(rows, UNTRAINED)
    with pytest.raises(RunError):
        watch().check(rows, UNTRAINED)


@given(st.integers(2, 50), st.integers(1, 20))
@settings(max_examples=60)
def test_guesses_hardly_reach_the_limit(classes, each):
    """By the exact binomial distribution, of dev sets with some pictures of each class."""
    images, chance = classes * each, 1 / classes
    limit = watch(classes, images).limit
    assert math.isclose(limit - chance, 3 * math.sqrt(chance * (1 - chance) / images))
    over = math.floor(limit * images) + 1
    tail = sum(
        math.comb(images, k) * chance**k * (1 - chance) ** (images - k)
        for k in range(over, images + 1)
    )
    assert tail < 0.02
