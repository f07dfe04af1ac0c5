"""Faces: who is shown must not depend on the company, and every person must stay themselves."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from facekit.faces import parameters, render
from facekit.faces.draws import Draws
from facekit.faces.paint import brow_colour
from facekit.faces.person import spread

PERSON = torch.tensor([0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 10**9, 7])
SHOT = torch.tensor([0, 0, 1, 4, 9, 16, 25, 36, 49, 64, 81, 100, 121, 144, 169, 10**9, 0])


def largest_difference(first: Tensor, second: Tensor) -> int:
    """In grey levels."""
    return int((first.int() - second.int()).abs().max())


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return render(PERSON, SHOT, size=64)


@pytest.mark.parametrize("size", [16, 48, 225])
def test_a_picture_is_uint8_channels_first(size: int) -> None:
    image = render([1, 2], [3, 4], size=size)
    assert image.shape == (2, 3, size, size)
    assert image.dtype == torch.uint8
    assert image.float().std() > 15


def test_nobody_gives_no_pictures() -> None:
    assert render([], [], size=32).shape == (0, 3, 32, 32)


def test_lists_arrays_and_small_integers_mean_the_same() -> None:
    expected = render(torch.tensor([3, 4]), torch.tensor([5, 6]), size=32)
    assert torch.equal(render([3, 4], [5, 6], size=32), expected)
    small = torch.tensor([3, 4], dtype=torch.int32)
    assert torch.equal(render(small, small + 2, size=32), expected)
    assert torch.equal(render(small.numpy(), [5, 6], size=32), expected)


def test_same_arguments_same_bytes(pictures: Tensor) -> None:
    torch.manual_seed(1)  # must not matter
    assert torch.equal(render(PERSON, SHOT, size=64), pictures)


def test_company_and_order_do_not_change_a_picture(pictures: Tensor) -> None:
    order = torch.randperm(len(PERSON), generator=torch.Generator().manual_seed(0))
    shuffled = render(PERSON[order], SHOT[order], size=64)
    assert largest_difference(shuffled, pictures[order]) <= 1
    for i in range(0, len(PERSON), 4):
        alone = render(PERSON[i : i + 1], SHOT[i : i + 1], size=64)
        assert largest_difference(alone, pictures[i : i + 1]) <= 1


def test_parameters_are_equal_in_any_company() -> None:
    together, alone = parameters(PERSON, SHOT), parameters(PERSON[4:5], SHOT[4:5])
    for many, one in zip(together, alone, strict=True):
        assert all(torch.equal(many[name][4:5], one[name]) for name in many)


def test_threads_do_not_change_a_picture(pictures: Tensor) -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert largest_difference(render(PERSON, SHOT, size=64), pictures) <= 1
    finally:
        torch.set_num_threads(before)


def test_two_processes_agree() -> None:
    code = (
        "import hashlib, torch; torch.set_num_threads(1); from facekit.faces import render;"
        "print(hashlib.sha256(render([1, 2, 3], [4, 5, 6], 48).numpy().tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    here = render([1, 2, 3], [4, 5, 6], 48)
    torch.set_num_threads(before)
    assert there.stdout.strip() == hashlib.sha256(here.numpy().tobytes()).hexdigest()


def test_seed_person_and_shot_each_change_the_picture() -> None:
    base = render([5], [6], size=48).float()
    for other in (render([6], [6], 48), render([5], [7], 48), render([5], [6], 48, seed=1)):
        assert (base - other.float()).abs().mean() > 3
    assert not torch.equal(render([5], [6], 48), render([6], [5], 48))


def test_a_person_stays_the_same_from_shot_to_shot() -> None:
    person = torch.arange(20).repeat_interleave(5)
    who, how = parameters(person, torch.arange(100))
    assert len(who) >= 30
    for value in who.values():
        by_person = value.view(20, 5, -1)
        assert torch.equal(by_person, by_person[:, :1].expand_as(by_person))
    assert len(who["nose_width"].unique()) == 20
    assert len(how["yaw"].unique()) == 100


def test_pictures_of_one_person_are_closer_than_those_of_two() -> None:
    person = torch.arange(30).repeat_interleave(6)
    image = render(person, torch.arange(6).repeat(30), size=32).float().flatten(1)
    distance = torch.cdist(image, image)
    same = person[:, None] == person[None, :]
    others = ~torch.eye(len(person), dtype=torch.bool)
    assert distance[same & others].mean() < 0.97 * distance[~same].mean()


def test_no_skin_tone_is_rare() -> None:
    who, _ = parameters(torch.arange(2000), torch.zeros(2000, dtype=torch.int64))
    quarters = torch.histc(who["skin_tone"], bins=4, min=0.0, max=1.0) / 2000
    assert ((quarters - 0.25).abs() < 0.04).all()
    light = who["skin"].mean(1)
    assert light.min() < 0.3
    assert light.max() > 0.85


def test_brows_can_be_told_from_the_skin() -> None:
    """A guard against one group of people losing a feature: brightness must differ for all."""
    who, _ = parameters(torch.arange(2000), torch.zeros(2000, dtype=torch.int64))
    brow, skin = brow_colour(spread(who)).mean(1).flatten(), who["skin"].mean(1)
    assert ((brow - skin).abs() > 0.04).float().mean() > 0.99


@pytest.mark.parametrize("name", ["nose", "yaw"])
def test_uniform_draws_are_uniform(name: str) -> None:
    people = torch.arange(4000)
    for draws in (Draws(0, people), Draws(3, people * 0 + 7, people)):
        values = draws.uniform(name, -1.0, 3.0).sort().values
        even = torch.linspace(-1.0, 3.0, 4000)
        assert (values - even).abs().max() / 4 < 1.63 / 4000**0.5  # Kolmogorov-Smirnov, 1 %


def test_normal_chance_and_choice_have_the_promised_shape() -> None:
    draws = Draws(0, torch.arange(20000))
    bell = draws.normal("a", 2.0, 0.5)
    assert abs(bell.mean() - 2.0) < 0.02
    assert abs(bell.std() - 0.5) < 0.01
    assert (bell - 2.0).abs().max() < 0.5 * 3.5
    assert abs(draws.chance("b", 0.2).mean() - 0.2) < 0.02
    shares = torch.bincount(draws.choice("c", [1.0, 2.0, 1.0])) / 20000
    assert torch.allclose(shares, torch.tensor([0.25, 0.5, 0.25]), atol=0.02)


def test_draws_depend_on_the_name_and_not_on_the_order() -> None:
    people = torch.arange(1000)
    forward, backward = Draws(0, people), Draws(0, people.flip(0))
    first, second = forward.uniform("a"), forward.uniform("b")
    assert torch.equal(backward.uniform("b").flip(0), second)
    assert torch.equal(backward.uniform("a").flip(0), first)
    assert torch.corrcoef(torch.stack([first, second]))[0, 1].abs() < 0.1
    assert not torch.equal(Draws(1, people).uniform("a"), first)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (([1, 2], [1]), "length"),
        (([1.5], [1]), "person"),
        (([1], [0.5]), "shot"),
        (([-1], [1]), "person"),
        (([1], [-1]), "shot"),
        (([[1]], [1]), "person"),
        (([True], [1]), "person"),
        (([1], [1], 15), "size"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        render(*arguments)
