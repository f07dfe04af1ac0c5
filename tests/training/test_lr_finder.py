"""Trials before a run: they tell something, and change nothing."""

import copy
import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from facekit import models
from facekit.common.errors import BatchError, RecipeError, RunError
from facekit.models import losses
from facekit.training.lr_finder import overfit_one_batch, range_test, suggest
from facekit.training.optim import build_optimizer
from facekit.training.recipe import Recipe


class Batch(NamedTuple):
    images: torch.Tensor
    labels: torch.Tensor


def batches(count: int, size: int = 8, classes: int = 4) -> list[Batch]:
    """Noise with the class's own pattern in it."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(classes, 3, 32, 32, generator=generator)
    made = []
    for _ in range(count):
        labels = torch.randint(classes, (size,), generator=generator)
        noise = torch.randn(size, 3, 32, 32, generator=generator)
        made.append(Batch(patterns[labels] + noise, labels))
    return made


def begin(optimizer: str = "adamw", dropout: float = 0.0, precision=None, **settings):
    torch.manual_seed(0)
    net = models.build({"base": "tiny", "dropout": dropout}, 4)
    objective = losses.Objective(net, precision=precision)
    settings = {"optimizer": optimizer, "lr": 0.003, "weight_decay": 0.0} | settings
    return objective, build_optimizer(objective, Recipe("r", **settings))


def state(objective, optimizer) -> dict:
    """All that a trial might touch, copied."""
    return copy.deepcopy(
        {
            "weights": dict(objective.state_dict()),
            "gradients": [p.grad for p in objective.parameters()],
            "modes": [m.training for m in objective.modules()],
            "optimizer": optimizer.state_dict(),
            "numbers": torch.get_rng_state(),
        }
    )


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) and one.stride() == other.stride()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("training", [True, False])
def test_trials_leave_everything_as_it_was(optimizer, training):
    objective, made = begin(optimizer, dropout=0.5)
    for batch in batches(2):  # the optimiser remembers something
        objective(*batch)[0].backward()
        made.step()
    objective.train(training)
    before, kept = state(objective, made), [id(p) for p in objective.parameters()]
    range_test(objective, made, batches(6), high=10.0, steps=6)
    overfit_one_batch(objective, made, batches(1)[0], steps=3)
    assert same(state(objective, made), before)
    assert [id(p) for p in objective.parameters()] == kept
    held = {id(p) for group in made.param_groups for p in group["params"]}
    assert held == set(kept)


def test_a_trial_that_fails_leaves_everything_as_it_was():
    objective, made = begin(dropout=0.5)
    before = state(objective, made)
    broken = [*batches(2), Batch(torch.ones(2, 1, 32, 32), torch.zeros(2, dtype=torch.int64))]
    with pytest.raises(RecipeError):
        range_test(objective, made, broken, steps=3)
    assert same(state(objective, made), before)


def test_a_trial_is_the_same_each_time_whatever_was_drawn_before():
    tests = []
    for seed in (1, 2):
        objective, made = begin(dropout=0.5)
        torch.manual_seed(seed)
        objective.train(seed == 1)
        tests.append(range_test(objective, made, batches(5), steps=5))
    pd.testing.assert_frame_equal(*tests)


def test_a_range_test_takes_the_optimisers_own_steps_at_growing_rates():
    objective, made = begin("sgd")
    frame = range_test(objective, made, batches(6), low=1e-4, high=1e-2, steps=6)
    assert frame["lr"].to_list() == pytest.approx(np.logspace(-4, -2, 6))
    for (_, line), batch in zip(frame.iterrows(), batches(6), strict=True):
        for group in made.param_groups:
            group["lr"] = line["lr"]
        loss, _ = objective(*batch)
        assert line["loss"] == loss.item()
        made.zero_grad()
        loss.backward()
        made.step()
    weights = 0.8 ** np.arange(6)[::-1]
    for count in range(1, 7):
        smooth = np.average(frame["loss"][:count], weights=weights[-count:])
        assert frame["smoothed"][count - 1] == pytest.approx(smooth)


def test_it_stops_when_the_loss_explodes():
    objective, made = begin("sgd")
    frame = range_test(objective, made, batches(60), low=1e-3, high=1e6, steps=60)
    assert len(frame) < 60
    last, others = frame["smoothed"].iloc[-1], frame["smoothed"].iloc[:-1]
    assert not last <= 4 * frame["smoothed"].min()
    assert (others <= 4 * others.cummin()).all()


def test_it_stops_when_the_loss_is_no_number():
    objective, made = begin()
    broken = [
        b._replace(images=b.images * (math.nan if i == 4 else 1)) for i, b in enumerate(batches(9))
    ]
    frame = range_test(objective, made, broken, steps=9)
    assert len(frame) == 5
    assert math.isnan(frame["loss"].iloc[-1])
    assert suggest(frame) < frame["lr"].iloc[3]
    with pytest.raises(BatchError):  # not by the rate
        range_test(objective, made, broken[4:], steps=5)


def test_it_reads_no_more_batches_than_it_needs_and_says_when_they_are_too_few():
    objective, made = begin()
    stream = iter(batches(5))
    range_test(objective, made, stream, steps=3)
    assert len(list(stream)) == 2
    with pytest.raises(RunError, match="2 batches are too few for 3 steps"):
        range_test(objective, made, batches(2), steps=3)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_lower_precision_is_tried_as_it_will_be_trained(precision):
    objective, made = begin(precision=precision)
    losses = overfit_one_batch(objective, made, batches(1)[0], steps=25)["loss"].tolist()
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]


class Faint(torch.nn.Module):
    """A float16 product whose gradient is 0 in float16 unless it is scaled."""

    precision = torch.float16

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3, 4))

    def forward(self, images, labels):
        logits = images.mean((2, 3)).half().abs() @ self.weight.half()  # (B, 4)
        return logits.float().mean() * 1e-7, logits


def test_gradients_of_float16_are_scaled():
    objective = Faint()
    made = torch.optim.SGD(objective.parameters(), lr=1e7)
    first, second = overfit_one_batch(objective, made, batches(1)[0], steps=2)["loss"]
    assert second < first


def curve(loss) -> pd.DataFrame:
    rates = np.logspace(-6, 0, 100)
    return pd.DataFrame({"lr": rates, "loss": loss(rates), "smoothed": loss(rates)})


def test_the_suggestion_is_below_the_steepest_fall():
    # A logistic fall, steepest at 1e-3, and an explosion beyond 0.1.
    frame = curve(lambda rate: 4 - 3 / (1 + (1e-3 / rate) ** 2) + 50 * np.maximum(0, rate - 0.1))
    assert suggest(frame) == pytest.approx(1e-3 / 10 ** (1 / 3), rel=0.1)


def test_a_steeper_fall_after_the_lowest_loss_does_not_count():
    early = curve(lambda rate: 4 - 3 / (1 + (1e-4 / rate) ** 2) + 5 * (rate > 0.01))
    bounce = early["lr"] > 0.1
    early.loc[bounce, "smoothed"] -= 4.0  # falls from 6 to 2, not as low as before
    assert suggest(early) == pytest.approx(1e-4 / 10 ** (1 / 3), rel=0.1)


def test_a_loss_that_never_fell_suggests_nothing():
    with pytest.raises(RunError, match="never fell"):
        suggest(curve(lambda rate: 1 + rate))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_suggested_rate_trains_better_than_ones_far_from_it(optimizer):
    objective, made = begin(optimizer)
    rate = suggest(range_test(objective, made, batches(50), high=10.0, steps=50))
    mean = {}  # over the steps: a network that was thrown far off may know eight pictures at last
    for factor in (1e-3, 1, 1e3):
        trial = begin(optimizer, lr=rate * factor)
        mean[factor] = overfit_one_batch(*trial, batches(1)[0], steps=10)["loss"].mean()
    assert mean[1] < mean[1e-3]
    assert not mean[1] >= mean[1e3]


def test_one_batch_is_learned_by_heart_and_a_rate_of_nothing_learns_nothing():
    objective, made = begin()
    results = overfit_one_batch(objective, made, batches(1)[0])
    assert len(results) == 60
    assert results["accuracy"].iloc[-1] == 1.0
    assert results["loss"].iloc[-1] < 0.05 * results["loss"][0]
    idle = overfit_one_batch(*begin(lr=1e-12), batches(1)[0], steps=5)["loss"]
    assert idle[4] == pytest.approx(idle[0], rel=1e-3)
