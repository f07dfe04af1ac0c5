"""Faces: an image depends on its arguments alone, and a person on nothing but the number."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from facekit.common.errors import FaceError, FacekitError
from facekit.common.keyed_random import Draws
from facekit.faces import DIFFICULTIES, LANDMARKS, PARTS, landmarks, parameters, parts, render
from facekit.faces import person as people
from facekit.faces.person import LIMITS, TRAITS

PERSON = torch.tensor([0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 10**9, 7])
SHOT = torch.tensor([0, 0, 1, 4, 9, 16, 25, 36, 49, 64, 81, 100, 121, 144, 169, 10**9, 0])
CROWD = torch.arange(6000)
STRIDE = 20
# What a shot shows of a person's habits; nothing else about it may depend on the person.
HABITS = {"style_now", "fringe_now", "hair_changed", "beard_now", "glasses", "makeup_now"}
# `python tests/faces/test_faces.py` writes it
PINNED = Path(__file__).parents[1] / "pinned_faces.png"

Traits = dict[str, Tensor]


def sixteen() -> np.ndarray:
    """Sixteen faces in a row of rows: uint8 (192, 192, 3)."""
    images = render(torch.arange(16), torch.arange(16), size=48)
    return images.view(4, 4, 3, 48, 48).permute(0, 3, 1, 4, 2).reshape(192, 192, 3).numpy()


def same(first: Tensor, second: Tensor) -> bool:
    """Within one grey level on 99.9 % of the pixels, and no drift."""
    off = first.float() - second.float()
    return bool((off.abs() <= 1).float().mean() >= 0.999 and off.mean().abs() < 0.01)


def flat(traits: Traits) -> tuple[list[str], Tensor]:
    """Every number that varies, named, a column each: (N, K)."""
    columns = {}
    for name, value in traits.items():
        value = value.double().view(len(value), -1)
        for channel in range(value.shape[1]):
            if value[:, channel].std() > 0:
                columns[f"{name}.{channel}"] = value[:, channel]
    return list(columns), torch.stack(list(columns.values()), 1)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1])


@pytest.fixture(scope="module")
def images() -> Tensor:
    return render(PERSON, SHOT, size=64)


@pytest.fixture(scope="module")
def crowd() -> Traits:
    """The traits of some thousand people."""
    return parameters(CROWD, torch.zeros_like(CROWD))[0]


# --- what may be asked for


@pytest.mark.parametrize("size", [16, 49, 224])
def test_an_image_is_uint8_channels_first(size: int) -> None:
    image = render([1, 2], [3, 4], size)
    what = parts([1, 2], [3, 4], size)
    where = landmarks([1, 2], [3, 4], size)
    assert (image.shape, image.dtype) == ((2, 3, size, size), torch.uint8)
    assert (what.shape, what.dtype) == ((2, size, size), torch.uint8)
    assert (where.shape, where.dtype) == ((2, len(LANDMARKS), 2), torch.float32)
    assert image.float().std() > 15
    assert what.max() < len(PARTS)


def test_the_default_size_is_the_course_s() -> None:
    assert render([1], [2]).shape == (1, 3, 224, 224)


def test_nobody_gives_no_images() -> None:
    assert render([], [], 32).shape == (0, 3, 32, 32)
    assert parts([], [], 32).shape == (0, 32, 32)
    assert landmarks([], [], 32).shape == (0, len(LANDMARKS), 2)
    assert all(len(v) == 0 for traits in parameters([], []) for v in traits.values())


def test_lists_arrays_and_small_integers_mean_the_same() -> None:
    expected = render(torch.tensor([3, 4]), torch.tensor([5, 6]), 32)
    small = torch.tensor([3, 4], dtype=torch.int32)
    for person, shot in (([3, 4], [5, 6]), (small, small + 2), (small.numpy(), range(5, 7))):
        assert torch.equal(render(person, shot, 32), expected)


WRONG = [
    (([1], [1], 15), {}, "size must be 16 to 1024 pixels, not 15"),
    (([1], [1], 1025), {}, "size must be 16 to 1024 pixels, not 1025"),
    (([1, 2], [1], 32), {}, "person and shot differ in length: 2 and 1"),
    (([1.5], [1], 32), {}, "person must hold integers"),
    (([1], [0.5], 32), {}, "shot must hold integers"),
    (([True], [1], 32), {}, "person must hold integers"),
    (([-7], [1], 32), {}, "person must not be negative, but holds -7"),
    (([1], [-7], 32), {}, "shot must not be negative, but holds -7"),
    (([[1]], [1], 32), {}, r"person must have one dimension, not shape \(1, 1\)"),
    ((1, 1, 32), {}, r"person must have one dimension, not shape \(\)"),
    (([1], [1], 32), {"difficulty": "hart"}, "no difficulty 'hart'; .*easy, homework, hard"),
    (([1], [1], 32), {"device": "nonsense"}, "device 'nonsense' is not there"),
    (([1], [1], 32), {"changes": {"yow": 1.0}}, "no parameter 'yow'; there are: .*yaw"),
    (([1, 2], [1, 2], 32), {"changes": {"yaw": torch.zeros(3)}}, r"changes\['yaw'\] .*\(3,\)"),
    (([1, 2], [1, 2], 32), {"changes": {"skin": torch.zeros(2, 4)}}, r"changes\['skin'\] .*4\)"),
]


@pytest.mark.parametrize(("arguments", "more", "text"), WRONG, ids=[w[2][:40] for w in WRONG])
def test_what_cannot_be_is_named(arguments: tuple, more: dict, text: str) -> None:
    assert issubclass(FaceError, ValueError)
    assert issubclass(FaceError, FacekitError)
    for function in (render, parts, landmarks):
        with pytest.raises(FaceError, match=text):
            function(*arguments, **more)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(FaceError, match="device 'cuda' is not there"):
        render([1], [1], 32, device="cuda")


def test_every_parameter_can_be_set_to_what_it_was() -> None:
    drawn = parameters([5, 6], [7, 8])
    everything = drawn[0] | drawn[1]
    assert same(render([5, 6], [7, 8], 48, changes=everything), render([5, 6], [7, 8], 48))
    for start in range(STRIDE):  # each with few others, so that what depends on it is drawn
        names = list(everything)[start::STRIDE]
        changed = parameters([5, 6], [7, 8], changes={name: everything[name] for name in names})
        for one, two in zip(drawn, changed, strict=True):
            assert all(torch.allclose(one[k], two[k], atol=1e-4) for k in one), names
            assert all(one[k].dtype == two[k].dtype for k in one), names


# --- the same arguments, the same image


def test_same_arguments_same_bytes(images: Tensor) -> None:
    torch.manual_seed(1)  # must not matter
    assert torch.equal(render(PERSON, SHOT, 64), images)


def test_company_and_order_do_not_change_an_image(images: Tensor) -> None:
    order = torch.randperm(len(PERSON), generator=torch.Generator().manual_seed(0))
    assert same(render(PERSON[order], SHOT[order], 64), images[order])
    alone = [render(PERSON[i : i + 1], SHOT[i : i + 1], 64) for i in range(8)]
    assert same(torch.cat(alone), images[:8])


def test_parameters_are_equal_in_any_company_and_order() -> None:
    together = parameters(CROWD, CROWD + 1)
    for part in (slice(4, 5), slice(100, 107), slice(5, None, 997)):
        for many, few in zip(together, parameters(CROWD[part], CROWD[part] + 1), strict=True):
            assert all(torch.equal(many[name][part], few[name]) for name in many)
    backward = parameters(CROWD.flip(0), CROWD.flip(0) + 1)
    for many, turned in zip(together, backward, strict=True):
        assert all(torch.equal(many[name], turned[name].flip(0)) for name in many)


def test_threads_do_not_change_an_image(images: Tensor) -> None:
    drawn = parameters(CROWD, CROWD)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        image = render(PERSON[:3], SHOT[:3], 64)
        again = parameters(CROWD, CROWD)
    finally:
        torch.set_num_threads(before)
    assert same(image, images[:3])
    for one, two in zip(drawn, again, strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_two_processes_agree() -> None:
    code = (
        "import hashlib, torch; torch.set_num_threads(1); from facekit.faces import render;"
        "print(hashlib.sha256(render([1, 2, 3], [4, 5, 6], 48).numpy().tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    here = render([1, 2, 3], [4, 5, 6], 48)
    assert there.stdout.strip() == hashlib.sha256(here.numpy().tobytes()).hexdigest()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_same_images(images: Tensor) -> None:
    there = parameters(PERSON, SHOT, device="cuda")
    for one, two in zip(parameters(PERSON, SHOT), there, strict=True):
        assert all(torch.equal(one[name], two[name].cpu()) for name in one)
    assert same(render(PERSON, SHOT, 64, device="cuda").cpu(), images)


def test_the_images_are_those_that_were_pinned() -> None:
    """Not to the bit: processors differ in last digits, which JPEG's rounding makes a level."""
    with Image.open(PINNED) as pinned:
        off = np.abs(sixteen().astype(int) - np.asarray(pinned))
    assert (off <= 1).mean() > 0.995
    assert off.mean() < 0.05


def test_seed_person_and_shot_each_change_the_image() -> None:
    base = render([5], [6], 48).float()
    for other in (render([6], [6], 48), render([5], [7], 48), render([5], [6], 48, seed=1)):
        assert (base - other.float()).abs().mean() > 3
    assert not torch.equal(render([5], [6], 48), render([6], [5], 48))


# --- draws


@pytest.mark.parametrize("name", ["nose", "yaw"])
def test_uniform_draws_are_uniform(name: str) -> None:
    numbers = torch.arange(4000)
    for draws in (Draws(0, numbers), Draws(3, numbers * 0 + 7, numbers)):
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
    forward = Draws(0, CROWD)
    backward = Draws(0, CROWD.flip(0))
    first = forward.uniform("a")
    second = forward.uniform("b")
    assert torch.equal(backward.uniform("b").flip(0), second)
    assert torch.equal(backward.uniform("a").flip(0), first)
    assert not torch.equal(Draws(1, CROWD).uniform("a"), first)


def test_draws_of_different_names_are_uncorrelated() -> None:
    """Over all pairs of names, seeds, people and shots."""
    even = dict.fromkeys(TRAITS, (0.0, 1.0))
    keys = Draws(0, CROWD), Draws(1, CROWD), Draws(0, CROWD + len(CROWD)), Draws(0, CROWD, CROWD)
    columns = [values for draws in keys for values in draws.uniforms(even).values()]
    table = torch.corrcoef(torch.stack(columns)) - torch.eye(len(columns))
    assert table.abs().max() < 6 / len(CROWD) ** 0.5


def test_no_name_is_drawn_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two parameters that share a name, or the hash of it, would move together."""
    drawn: list[list[str]] = []
    plain = Draws.__init__, Draws.bits

    def begin(self: Draws, *arguments: object) -> None:
        plain[0](self, *arguments)
        drawn.append([])

    def record(self: Draws, *names: str) -> Tensor:
        drawn[-1].extend(names)
        return plain[1](self, *names)

    monkeypatch.setattr(Draws, "__init__", begin)
    monkeypatch.setattr(Draws, "bits", record)
    parameters([1], [2])
    assert len(drawn) == 2
    for names in drawn:
        assert not [name for name, times in Counter(names).items() if times > 1]
        assert len({zlib.crc32(name.encode()) for name in names}) == len(names)


# --- who a person is


def test_a_person_stays_the_same_in_every_shot_and_difficulty() -> None:
    person = torch.arange(20).repeat_interleave(5)
    who, how = parameters(person, torch.arange(100))
    assert sum(len(v.unique(dim=0)) > 2 for v in who.values()) >= 60
    for value in who.values():
        by_person = value.view(20, 5, -1)
        assert torch.equal(by_person, by_person[:, :1].expand_as(by_person))
    for difficulty in DIFFICULTIES:
        other = parameters(person, torch.arange(100) + 1000, difficulty=difficulty)[0]
        assert all(torch.equal(other[name], who[name]) for name in who)
    assert len(who["nose_wings"].unique()) == 20
    assert len(how["roll"].unique()) == 100


def test_sexes_and_skin_tones_are_balanced(crowd: Traits) -> None:
    many = len(CROWD)
    man = (crowd["sex"] > 0.5).float()
    assert abs(man.mean() - 0.5) < 0.025
    thirds = torch.histc(crowd["tone"], bins=3, min=0.0, max=1.0) / many
    assert ((thirds - 1 / 3).abs() < 0.025).all()
    assert abs(correlation(man, crowd["tone"])) < 4 / many**0.5
    assert abs(correlation(man, crowd["age"])) < 4 / many**0.5
    assert abs(correlation(crowd["age"], crowd["tone"])) < 4 / many**0.5
    light = crowd["skin"].mean(1)
    assert correlation(light, crowd["tone"]) < -0.9
    assert light.min() < 0.35
    assert light.max() > 0.8
    assert crowd["age"].min() >= 18
    assert crowd["age"].max() <= 75


def test_the_causes_move_the_traits_as_the_table_says(crowd: Traits) -> None:
    """Least squares finds the table's weights again, for the traits that no limit cuts."""
    old = ((crowd["age"] - 30) / 40).clamp(0, 1)
    causes = [crowd["sex"] * 2 - 1, old, crowd["build"], crowd["tone"] * 2 - 1, crowd["east"]]
    table = torch.stack([torch.ones_like(old), *causes], 1).double()
    spread = torch.linalg.inv(table.T @ table).diagonal().sqrt()
    for name, (mean, own, *weights) in TRAITS.items():
        found = torch.linalg.lstsq(table, crowd[name].double()[:, None]).solution[:, 0]
        expected = torch.tensor([mean, *weights]).double()
        if name in LIMITS:
            clear = expected[1:].abs() > 0.4 * own
            assert torch.equal(found[1:].sign()[clear], expected[1:].sign()[clear]), name
        else:
            assert ((found - expected).abs() < 5 * own * spread).all(), name


def test_people_are_made_as_in_life(crowd: Traits) -> None:
    man = crowd["sex"] > 0.5
    for trait, cause, sign in [
        ("jaw_width", "sex", 1), ("jaw_width", "build", 1), ("brow_thick", "sex", 1),
        ("nose_wings", "tone", 1), ("upper_lip", "tone", 1), ("curl", "tone", 1),
        ("lines", "age", 1), ("grey", "age", 1), ("smile_fold", "age", 1), ("volume", "age", -1),
        ("lid_fold", "east", -1),
    ]:  # fmt: skip
        assert sign * correlation(crowd[trait], crowd[cause]) > 0.1, (trait, cause)
    assert (crowd["beard"][~man] == 0).all()
    assert (crowd["beard"][man] > 0).float().mean() > 0.3
    assert (crowd["makeup"][man] == 0).all()
    assert (crowd["bald"][~man] == 0).all()
    assert (crowd["grey"][crowd["age"] < 30] > 0.1).float().mean() < 0.01
    own = (crowd["grey"] == 0) & (crowd["east"] == 0)
    light_hair = crowd["hair"].mean(1) > 0.5
    assert (light_hair & own & (crowd["tone"] < 0.3)).any()
    assert not (light_hair & own & (crowd["tone"] > 0.7)).any()


def test_limits_are_respected(crowd: Traits) -> None:
    assert set(LIMITS) <= set(TRAITS)
    for name, (low, high) in LIMITS.items():
        assert crowd[name].min() >= low - 1e-6, name
        assert crowd[name].max() <= high + 1e-6, name
        assert ((crowd[name] > low) & (crowd[name] < high)).float().mean() > 0.2, name
    colours = torch.cat([v for v in crowd.values() if v.dim() == 2])
    assert colours.min() >= 0
    assert colours.max() <= 1


def test_no_two_people_are_close(crowd: Traits) -> None:
    """Among thousands the nearest two are still half as far apart as two strangers are."""
    shape = torch.stack([crowd[name] / row[1] for name, row in TRAITS.items()], 1)[:4000]
    distance = torch.cdist(shape, shape)
    strangers = distance[0, 1:].median()
    distance.fill_diagonal_(math.inf)
    assert distance.min() > 0.45 * strangers
    assert distance.min() > 4.0  # in spreads of the table


def test_a_changed_cause_moves_what_depends_on_it() -> None:
    person = torch.arange(200)

    def given(**changes: float) -> Traits:
        return parameters(person, person, changes=changes)[0]

    woman = given(sex=0.0)
    man = given(sex=1.0)
    assert (man["jaw_width"] > woman["jaw_width"]).all()
    assert (woman["beard"] == 0).all()
    assert (man["makeup"] == 0).all()
    young = given(age=20.0)
    old = given(age=75.0)
    assert (old["lines"] >= young["lines"]).all()
    assert (old["lines"] > young["lines"] + 0.3).float().mean() > 0.9
    assert (young["grey"] == 0).all()
    light = given(tone=0.0)
    dark = given(tone=1.0)
    assert (dark["skin"] < light["skin"]).all()
    assert (dark["nose_wings"] >= light["nose_wings"]).all()
    assert torch.equal(light["chin_fold"], dark["chin_fold"])
    assert (light["tone"] == 0).all()


def test_a_changed_shot_does_not_change_the_person() -> None:
    drawn, _ = parameters(PERSON, SHOT)
    changed, how = parameters(PERSON, SHOT, changes={"smile": 1.0})
    assert all(torch.equal(drawn[name], changed[name]) for name in drawn)
    assert (how["smile"] == 1).all()


@pytest.mark.parametrize("name", ["hair_style", "hair_style_2", "beard"])
def test_a_changed_habit_shows_in_most_shots(name: str) -> None:
    men = people.causes(Draws(0, CROWD))["sex"] > 0.5
    person = CROWD[men][:300]
    who, how = parameters(person, person, changes={name: 2})
    now = how["beard_now" if name == "beard" else "style_now"]
    assert (who[name] == 2).all()
    assert (now == 2).float().mean() > (0.05 if name == "hair_style_2" else 0.5)


# --- how a shot is taken


def circumstances(how: Traits) -> tuple[list[str], Tensor]:
    return flat({name: value for name, value in how.items() if name not in HABITS})


def test_circumstances_do_not_know_who_is_seen() -> None:
    """The means of people over their shots differ by what chance alone gives: F-tests."""
    many = 400
    each = 40
    person = torch.arange(many).repeat_interleave(each)
    names, table = circumstances(parameters(person, torch.arange(each).repeat(many))[1])
    assert len(names) > 80
    by_person = table.view(many, each, -1)
    between = by_person.mean(1).var(0) * each
    within = by_person.var(1).mean(0)
    off = (between / within - 1) / math.sqrt(2 / (many - 1) + 2 / (many * (each - 1)))
    assert not [(n, float(z)) for n, z in zip(names, off, strict=True) if abs(z) > 4.5]


def test_circumstances_are_not_correlated_with_traits() -> None:
    person = torch.arange(20000)
    who, how = parameters(person, person % 7)
    _, traits = flat(who)
    names, table = circumstances(how)
    traits = (traits - traits.mean(0)) / traits.std(0)
    table = (table - table.mean(0)) / table.std(0)
    together = (table.T @ traits / len(person)).abs().amax(1)
    bound = 6.5 / len(person) ** 0.5  # some 14,000 pairs
    assert not [name for name, r in zip(names, together, strict=True) if r > bound]


def test_difficulty_widens_the_spreads() -> None:
    drawn = [parameters(CROWD, CROWD, difficulty=d)[1] for d in DIFFICULTIES]
    for name in "yaw pitch roll zoom shift_x shift_y smile brow_raise years weight".split():
        easy, homework, hard = (how[name].std() for how in drawn)
        assert easy < homework < hard, name
    for name in ("exposure", "contrast", "saturation"):
        easy, homework, hard = (how[name].log().std() for how in drawn)
        assert easy < homework < hard, name
    for name in "hat sunglasses object mono blur shake grain hair_changed".split():
        easy, homework, hard = (how[name].mean() for how in drawn)
        assert easy < homework < hard, name
    assert drawn[0]["jpeg"].mean() > drawn[1]["jpeg"].mean() > drawn[2]["jpeg"].mean()


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_circumstances_stay_within_bounds(difficulty: str) -> None:
    how = parameters(CROWD, CROWD, difficulty=difficulty)[1]
    assert how["yaw"].abs().max() <= math.radians(60) + 1e-6
    assert how["yaw"].abs().max() > math.radians(40)
    assert how["jpeg"].min() >= 5
    assert how["jpeg"].max() <= 95
    assert how["zoom"].min() > 0.5
    for name in ("exposure", "contrast", "saturation", "key", "sky", "distance"):
        assert how[name].min() > 0, name
    for name in "blur shake grain haze vignette hat object glasses sunglasses".split():
        assert how[name].min() >= 0, name
    assert not ((how["glasses"] > 0) & (how["sunglasses"] > 0)).any()
    assert all(v.isfinite().all() for v in how.values())


def test_habits_mostly_hold() -> None:
    who, how = parameters(CROWD, CROWD)
    assert 0.5 < (how["style_now"] == who["hair_style"]).float().mean() < 1
    assert torch.equal(how["hair_changed"] > 0, how["style_now"] != who["hair_style"])
    assert correlation(how["glasses"], who["wears_glasses"]) > 0.5
    assert correlation(how["beard_now"], who["beard"]) > 0.5
    assert (how["beard_now"][who["sex"] <= 0.5] == 0).all()


def test_images_of_one_person_are_closer_than_those_of_two() -> None:
    person = torch.arange(24).repeat_interleave(5)
    image = render(person, torch.arange(5).repeat(24), 32).float().flatten(1)
    distance = torch.cdist(image, image)
    alike = person[:, None] == person[None, :]
    others = ~torch.eye(len(person), dtype=torch.bool)
    assert distance[alike & others].mean() < 0.98 * distance[~alike].mean()


if __name__ == "__main__":
    Image.fromarray(sixteen()).save(PINNED)
