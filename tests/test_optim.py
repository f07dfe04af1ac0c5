"""The optimiser's groups and the learning rate, against torch's schedulers and closed forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

from facekit import networks
from facekit.optim import build_optimizer, learning_rate, set_learning_rate
from facekit.recipes import Recipe

KINDS = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


@pytest.fixture
def net() -> networks.FaceNet:
    return networks.build("tiny", 5)


def recipe(optimizer: str) -> Recipe:
    return Recipe("r", optimizer=optimizer, learning_rate=0.1, weight_decay=0.5)


@pytest.mark.parametrize("optimizer", KINDS)
def test_every_trainable_tensor_is_in_the_optimiser_once(net, optimizer):
    made = build_optimizer(net, recipe(optimizer))
    assert type(made) is KINDS[optimizer]
    held = [id(p) for group in made.param_groups for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in net.parameters()}


@pytest.mark.parametrize("optimizer", KINDS)
def test_weights_decay_and_biases_and_scales_do_not(net, optimizer):
    for group in build_optimizer(net, recipe(optimizer)).param_groups:
        sizes = {p.ndim for p in group["params"]}
        assert sizes
        assert sizes == {1} if group["weight_decay"] == 0 else 1 not in sizes
        assert group["weight_decay"] in (0.0, 0.5)
        assert group["lr"] == 0.1


# AdamW multiplies by 1 - rate x decay; nesterov's first step counts a gradient 1.9 times.
@pytest.mark.parametrize(("optimizer", "shrink"), [("adamw", 0.95), ("sgd", 0.905)])
def test_a_step_without_gradients_shrinks_the_weights_alone(net, optimizer, shrink):
    made = build_optimizer(net, recipe(optimizer))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    made.step()
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] * (shrink if p.ndim > 1 else 1.0))


def test_sgd_is_nesterov_with_momentum():
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    made = build_optimizer(layer, Recipe("r", optimizer="sgd", learning_rate=0.1, weight_decay=0.0))
    weight = velocity = 0.0
    for gradient in (1.0, 2.0, -1.0):
        layer.weight.grad = torch.full((1, 1), gradient)
        made.step()
        velocity = 0.9 * velocity + gradient
        weight -= 0.1 * (gradient + 0.9 * velocity)
    assert layer.weight.item() == pytest.approx(1 + weight, rel=1e-6)


@pytest.mark.parametrize("optimizer", KINDS)
def test_the_rate_reaches_every_group(net, optimizer):
    made = build_optimizer(net, recipe(optimizer))
    set_learning_rate(made, 0.25)
    assert [group["lr"] for group in made.param_groups] == [0.25, 0.25]


@pytest.mark.parametrize(("steps", "warmup"), [(100, 10), (37, 5), (20, 1), (50, 49)])
def test_the_schedule_is_torchs_linear_climb_and_half_a_cosine(steps, warmup):
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    climb = LinearLR(sgd, start_factor=1 / warmup, total_iters=warmup - 1) if warmup > 1 else None
    rates = []
    for _ in range(warmup):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        if climb:
            climb.step()
    cosine_sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    cosine = CosineAnnealingLR(cosine_sgd, T_max=steps - warmup)
    for _ in range(steps - warmup):
        rates.append(cosine_sgd.param_groups[0]["lr"])
        cosine_sgd.step()
        cosine.step()
    mine = [learning_rate(step, steps, warmup, 0.3) for step in range(steps)]
    assert mine == pytest.approx(rates, rel=1e-9)


@st.composite
def schedules(draw) -> tuple[int, int, float]:
    steps = draw(st.integers(2, 400))
    return steps, draw(st.integers(0, steps - 1)), draw(st.floats(1e-6, 10))


@given(schedules())
@settings(deadline=None, derandomize=True)
def test_the_rate_climbs_to_its_peak_and_falls_to_almost_nothing(schedule):
    steps, warmup, peak = schedule
    rates = [learning_rate(step, steps, warmup, peak) for step in range(steps)]
    climb, fall = rates[:warmup], rates[warmup:]
    assert max(rates) == pytest.approx(peak, rel=1e-12)
    assert fall[0] == peak
    assert climb == sorted(climb)
    assert len(set(climb)) == warmup
    assert fall == sorted(fall, reverse=True)
    assert min(rates) > 0
    # One step before the end of half a cosine of n steps: peak sin(pi / 2n) squared.
    assert rates[-1] == pytest.approx(peak * math.sin(math.pi / 2 / (steps - warmup)) ** 2)


@given(schedules())
@settings(deadline=None, derandomize=True)
def test_a_climb_is_straight_and_a_fall_is_symmetric_about_half_the_peak(schedule):
    steps, warmup, peak = schedule
    for step in range(warmup):
        assert learning_rate(step, steps, warmup, peak) * warmup == pytest.approx(peak * (step + 1))
    length = steps - warmup
    for step in range(length):
        there = learning_rate(warmup + step, steps, warmup, peak)
        back = learning_rate(warmup + length - step, steps, warmup, peak)
        assert there + back == pytest.approx(peak)


def test_a_warmup_longer_than_the_run_never_divides_by_zero():
    rates = [learning_rate(step, 4, 8, 1.0) for step in range(4)]
    assert rates == [0.125, 0.25, 0.375, 0.5]
    assert learning_rate(4, 4, 4, 1.0) == 1.0
