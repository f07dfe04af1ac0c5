"""The references of notebook 04's exercises agree with torch, with loops and with the package."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from facekit.course import exercises
from facekit.course.exercises.training import (
    accuracy,
    scheduled_rate,
    sgd_step,
    train_epoch,
    when_to_stop,
)
from facekit.training import schedules
from facekit.training.recipe import Recipe

KNOWN = exercises.exercises()


@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_the_rate_is_torchs_linear_climb_and_cosine(warmup):
    steps, peak = 40, 0.7
    weights = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    down = torch.optim.lr_scheduler.CosineAnnealingLR(weights, steps - warmup)
    climb = [peak * number / warmup for number in range(1, warmup + 1)]
    fall = []
    for _ in range(steps - warmup):
        fall.append(weights.param_groups[0]["lr"])
        weights.step()
        down.step()
    found = [scheduled_rate(step, steps, warmup, peak) for step in range(steps)]
    np.testing.assert_allclose(found, climb + fall, atol=1e-12)


def test_the_rate_is_that_of_a_run():
    recipe = Recipe(name="r", epochs=9, warmup_epochs=2.0, lr=0.3)
    for step in range(9 * 5):
        wanted = schedules.lr_at(recipe, step, steps_per_epoch=5)
        assert scheduled_rate(step, 9 * 5, 2 * 5, 0.3) == wanted


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_steps_of_sgd_are_torchs(decay):
    rng = torch.Generator().manual_seed(0)
    weight, target = torch.randn(2, 6, generator=rng)
    parameter = torch.nn.Parameter(weight.clone())
    optimizer = torch.optim.SGD([parameter], 0.05, 0.9, weight_decay=decay, nesterov=True)
    velocity = torch.zeros_like(weight)
    for _ in range(12):
        parameter.grad = (parameter.detach() - target) ** 3
        optimizer.step()
        gradient = (weight - target) ** 3
        weight, velocity = sgd_step(weight, gradient, velocity, 0.05, 0.9, decay)
        torch.testing.assert_close(weight, parameter.detach())


def test_the_accuracy_counts_each_image_once():
    for right, sizes in KNOWN["accuracy"].cases(seed=1):
        images = np.concatenate(
            [np.arange(size) < known for known, size in zip(right, sizes, strict=True)]
        )
        assert accuracy(right, sizes) == pytest.approx(images.mean(), abs=1e-12)
        assert sizes[-1] < sizes[0], "or the mean of means would be right"


def stopped_by_hand(accuracies: list[float], patience: int) -> tuple[int, int]:
    """The first end after which nothing better came in the last `patience` epochs."""
    for end in range(1, len(accuracies) + 1):
        before, late = accuracies[: end - patience], accuracies[max(0, end - patience) : end]
        if end > patience and max(late) <= max(before):
            break
    return end, 1 + int(np.argmax(accuracies[:end]))


def test_a_run_stops_when_the_last_epochs_brought_nothing_better():
    cases = KNOWN["when_to_stop"].cases(seed=1)
    ends = [when_to_stop(*case) for case in cases]
    assert ends == [stopped_by_hand(*case) for case in cases]
    early = [end < len(accuracies) for (accuracies, _), (end, _) in zip(cases, ends, strict=True)]
    assert any(early)
    assert not all(early)


@pytest.mark.parametrize("name", ["scheduled_rate", "sgd_step", "accuracy", "when_to_stop"])
def test_another_way_to_write_it_is_right_too(name):
    def loop(right, sizes):
        return torch.tensor(right).sum() / torch.tensor(sizes).sum()

    def cosine(step, steps, warmup, peak):
        fall = np.cos(np.linspace(0, np.pi, steps - warmup + 1)) / 2 + 0.5
        return peak * np.concatenate([np.arange(1, warmup + 1) / max(1, warmup), fall])[step]

    def with_torch(weight, gradient, velocity, *settings):
        parameter = torch.nn.Parameter(weight.clone())
        lr, momentum, decay = settings
        one = partial(torch.optim.SGD, momentum=momentum, weight_decay=decay, nesterov=True)
        optimizer = one([parameter], lr)
        optimizer.state[parameter]["momentum_buffer"] = velocity.clone()
        parameter.grad = gradient.clone()
        optimizer.step()
        return [parameter.detach(), optimizer.state[parameter]["momentum_buffer"]]

    answers = {
        "scheduled_rate": cosine,
        "sgd_step": with_torch,
        "accuracy": loop,
        "when_to_stop": stopped_by_hand,
    }
    assert KNOWN[name].judge(answers[name]).state == "right"


def test_an_epoch_of_one_batch_is_one_step_of_the_optimiser_by_autograd():
    torch.manual_seed(0)
    layer, x, y = torch.nn.Linear(3, 4), torch.randn(5, 3), torch.tensor([0, 1, 2, 3, 0])
    before = layer.weight.detach().clone()
    correct = int((layer(x).argmax(1) == y).sum())
    loss = torch.nn.functional.cross_entropy(layer(x), y)
    (slope,) = torch.autograd.grad(loss, layer.weight)
    told, right = train_epoch(layer, [(x, y)], torch.optim.SGD(layer.parameters(), lr=0.3))
    torch.testing.assert_close(layer.weight.detach(), before - 0.3 * slope)
    assert told == pytest.approx(loss.item())
    assert right == correct / 5


def test_every_epoch_of_a_convex_problem_lowers_the_loss():
    torch.manual_seed(0)
    labels = torch.arange(40) % 2
    features = torch.randn(40, 3) + 3 * labels[:, None]
    batches = list(zip(features.split(10), labels.split(10), strict=True))
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    losses = [train_epoch(net, batches, optimizer)[0] for _ in range(10)]
    assert all(later < earlier for earlier, later in pairwise(losses))
