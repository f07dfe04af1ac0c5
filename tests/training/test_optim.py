"""Optimisers, learning rates and averages, against torch's own and closed forms."""

import copy
import math
from io import BytesIO

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
)
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from facekit import models
from facekit.training.optim import EMA, build_optimizer, set_lr
from facekit.training.recipe import Recipe
from facekit.training.schedules import lr_at, warmup_cosine

KINDS = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
LAST = torch.channels_last


@pytest.fixture
def net() -> nn.Module:
    return models.build("tiny", 5)


def recipe(optimizer: str) -> Recipe:
    return Recipe("r", optimizer=optimizer, lr=0.1, weight_decay=0.5)


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
    made = build_optimizer(layer, Recipe("r", optimizer="sgd", lr=0.1, weight_decay=0.0))
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
    set_lr(made, 0.25)
    assert {group["lr"] for group in made.param_groups} == {0.25}


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
    mine = [warmup_cosine(step, steps, warmup, 0.3) for step in range(steps)]
    assert mine == pytest.approx(rates, rel=1e-9)


@st.composite
def schedules(draw) -> tuple[int, int, float]:
    steps = draw(st.integers(2, 400))
    return steps, draw(st.integers(0, steps - 1)), draw(st.floats(1e-6, 10))


@given(schedules())
def test_the_rate_climbs_to_its_peak_and_falls_to_almost_nothing(schedule):
    steps, warmup, peak = schedule
    rates = [warmup_cosine(step, steps, warmup, peak) for step in range(steps)]
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
def test_a_climb_is_straight_and_a_fall_is_symmetric_about_half_the_peak(schedule):
    steps, warmup, peak = schedule
    for step in range(warmup):
        assert warmup_cosine(step, steps, warmup, peak) * warmup == pytest.approx(peak * (step + 1))
    length = steps - warmup
    for step in range(length):
        there = warmup_cosine(warmup + step, steps, warmup, peak)
        back = warmup_cosine(warmup + length - step, steps, warmup, peak)
        assert there + back == pytest.approx(peak)


def test_a_warmup_longer_than_the_run_never_divides_by_zero():
    rates = [warmup_cosine(step, 4, 8, 1.0) for step in range(4)]
    assert rates == [0.125, 0.25, 0.375, 0.5]
    assert warmup_cosine(4, 4, 4, 1.0) == 1.0


def train(net, optimizer, steps, first=0) -> None:
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        loss = net(torch.randn(4, 3, 32, 32, generator=generator).to(memory_format=LAST)).square()
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()


@pytest.mark.parametrize("optimizer", KINDS)
@pytest.mark.parametrize("stored", ["as it is", "in rows"])
def test_a_restored_optimiser_goes_on_bit_for_bit(net, optimizer, stored):
    net = net.to(memory_format=LAST)
    whole, start = build_optimizer(net, recipe(optimizer)), copy.deepcopy(net)
    train(net, whole, 4)
    half = build_optimizer(start, recipe(optimizer))
    train(start, half, 2)
    state = copy.deepcopy(half.state_dict())
    if stored == "in rows":  # as formats without strides keep it
        for kept in state["state"].values():
            kept |= {key: value.contiguous() for key, value in kept.items() if value.ndim}
    rest = copy.deepcopy(start)
    resumed = build_optimizer(rest, recipe(optimizer))
    resumed.load_state_dict(torch.load(save(state), weights_only=True))
    train(rest, resumed, 2, first=2)
    for one, other in zip(net.parameters(), rest.parameters(), strict=True):
        assert torch.equal(one, other)


def save(state: dict) -> BytesIO:
    file = BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_fused_steps_are_torchs_plain_steps(net, optimizer):
    net = net.to(memory_format=LAST)
    other = copy.deepcopy(net)
    fused = build_optimizer(net, recipe(optimizer))
    assert all(group["fused"] for group in fused.param_groups)
    plain = build_optimizer(other, recipe(optimizer))
    for group in plain.param_groups:
        group["fused"] = group["foreach"] = False
    for _ in range(4):
        for one, two in zip(net.parameters(), other.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            two.grad = one.grad.clone()
        fused.step()
        plain.step()
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("optimizer", KINDS)
def test_a_first_step_of_infinite_gradients_is_skipped_without_a_trace(optimizer):
    """As float16's scaled gradients have them often."""
    layers = [nn.Linear(3, 4) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    made = [build_optimizer(layer, recipe(optimizer)) for layer in layers]
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    scaler.scale(torch.ones(()))
    for value in (math.inf, 1.0, 2.0):
        for parameter in layers[0].parameters():
            parameter.grad = torch.full_like(parameter, value) * scaler.get_scale()
        scaler.step(made[0])
        scaler.update()
    for value in (1.0, 2.0):
        for parameter in layers[1].parameters():
            parameter.grad = torch.full_like(parameter, value)
        made[1].step()
    for one, other in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_sgd_without_momentum_is_the_gradient(net):
    layer = nn.Linear(2, 1, bias=False)
    before = layer.weight.detach().clone()
    settings = {"optimizer": "sgd", "momentum": 0.0, "lr": 0.1, "weight_decay": 0.0}
    made = build_optimizer(layer, Recipe("r", **settings))
    for _ in range(2):
        layer.weight.grad = torch.ones(1, 2)
        made.step()
    torch.testing.assert_close(layer.weight.detach(), before - 0.2)


def plan(schedule: str, **settings) -> Recipe:
    settings = {"warmup_epochs": 0.0, "lr": 0.3} | settings
    return Recipe("r", schedule=schedule, **settings)


def torchs(scheduler, steps: int, **settings) -> list[float]:
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    made, rates = scheduler(sgd, **settings), []
    for _ in range(steps):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        made.step()
    return rates


@pytest.mark.parametrize(("epochs", "restart", "each"), [(7, 2, 5), (3, 5, 4), (4, 1, 3)])
def test_restarts_are_torchs(epochs, restart, each):
    recipe = plan("restarts", epochs=epochs, restart_epochs=restart)
    mine = [lr_at(recipe, step, each) for step in range(epochs * each)]
    theirs = torchs(CosineAnnealingWarmRestarts, epochs * each, T_0=restart * each)
    assert mine == pytest.approx(theirs, rel=1e-9)
    late = plan("restarts", epochs=epochs + 1, restart_epochs=restart, warmup_epochs=1.0)
    assert [lr_at(late, each + step, each) for step in range(epochs * each)] == mine


@pytest.mark.parametrize(("restart", "steps"), [(0.4, 4), (1.5, 15), (0.26, 3), (0.01, 1)])
def test_a_cosine_may_be_a_part_of_an_epoch(restart, steps):
    recipe = plan("restarts", epochs=3, restart_epochs=restart)
    mine = [lr_at(recipe, step, 10) for step in range(30)]
    theirs = torchs(CosineAnnealingWarmRestarts, 30, T_0=steps)
    assert mine == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize(("epochs", "each"), [(10, 7), (1, 5), (3, 1), (2, 1), (20, 5)])
def test_one_cycle_is_torchs(epochs, each):
    recipe = plan("onecycle", epochs=epochs, warmup_epochs=5.0)  # it climbs by itself
    settings = {"max_lr": 0.3, "total_steps": epochs * each, "cycle_momentum": False}
    # One step fewer asked of torch, which refuses to go beyond the last.
    theirs = torchs(OneCycleLR, epochs * each - 1, **settings)
    mine = [lr_at(recipe, step, each) for step in range(epochs * each)]
    assert mine[:-1] == pytest.approx(theirs, rel=1e-9)
    assert mine[-1] == pytest.approx(0.3 / 25 / 1e4)


def test_one_cycle_of_a_single_step_is_defined():
    assert lr_at(plan("onecycle", epochs=1), 0, 1) == pytest.approx(0.3 / 25 / 1e4)


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.4]), max_size=40),
    st.integers(0, 5),
    st.integers(1, 4),
)
def test_the_rate_after_plateaus_is_torchs(accuracies, patience, each):
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    settings = {"factor": 0.5, "patience": patience, "threshold": 0.0, "eps": 0.0}
    oracle = ReduceLROnPlateau(sgd, mode="max", threshold_mode="abs", **settings)
    recipe = plan("plateau", epochs=100, plateau_epochs=patience)
    for done in range(len(accuracies) + 1):
        seen = accuracies[:done]
        for step in range(done * each, (done + 1) * each):
            assert lr_at(recipe, step, each, seen) == sgd.param_groups[0]["lr"]
        if done < len(accuracies):
            oracle.step(accuracies[done])


@pytest.mark.parametrize("schedule", ["cosine", "restarts", "plateau", "constant"])
def test_every_schedule_but_one_cycle_climbs_first(schedule):
    recipe = plan(schedule, epochs=6, warmup_epochs=1.5)
    rates = [lr_at(recipe, step, 4, [0.1] * 20) for step in range(7)]
    assert rates[:6] == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.25, 0.3])
    assert rates[6] == (0.3 * 0.5**3 if schedule == "plateau" else 0.3)


def test_the_cosine_and_the_constant_rate():
    cosine = plan("cosine", epochs=5, warmup_epochs=1.0)
    mine = [lr_at(cosine, step, 4) for step in range(20)]
    assert mine == [warmup_cosine(step, 20, 4, 0.3) for step in range(20)]
    assert {lr_at(plan("constant", epochs=5), step, 4) for step in range(20)} == {0.3}


def norm_net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))


@pytest.mark.parametrize("decay", [0.05, 0.5, 0.999])
def test_the_average_is_torchs_with_a_warm_up(decay):
    net = norm_net()
    average = EMA(net, decay)

    def average_like(mine, new, count):
        kept = min(decay, count.item() / (9 + count.item()))  # torch's first update is its copy
        get_ema_multi_avg_fn(kept)(mine, new, count)

    oracle = AveragedModel(net, multi_avg_fn=average_like)
    oracle.update_parameters(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(6):
        net(torch.randn(4, 3, 8, 8)).square().mean().backward()
        optimizer.step()
        average.update(net)
        oracle.update_parameters(net)
    assert not average.module.training
    for name, value in average.module.state_dict().items():
        torch.testing.assert_close(value, oracle.module.state_dict()[name])
    torch.testing.assert_close(average.module[1].running_mean, net[1].running_mean)
    assert not torch.equal(average.module[0].weight, net[0].weight)


def test_an_average_goes_on_from_its_state():
    nets = [norm_net() for _ in range(6)]
    whole, half = EMA(nets[0], 0.9), EMA(nets[0], 0.9)
    for net in nets[1:]:
        whole.update(net)
    for net in nets[1:3]:
        half.update(net)
    resumed = EMA(nets[5], 0.9)
    resumed.load_state_dict(torch.load(save(half.state_dict()), weights_only=True))
    for net in nets[3:]:
        resumed.update(net)
    for name, value in resumed.module.state_dict().items():
        assert torch.equal(value, whole.module.state_dict()[name])
