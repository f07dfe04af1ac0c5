"""Faces, part by part: the geometry against exact shapes, and whether what is set can be seen."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from facekit.common.keyed_random import Draws
from facekit.faces import (
    LANDMARKS,
    PARTS,
    camera,
    film,
    landmarks,
    light,
    parameters,
    parts,
    render,
)
from facekit.faces.sheet import close_ups, portrait, puzzle, shots, sweep
from facekit.faces.skin import brow_colour
from facekit.faces.surface import Surface, box_mean, facts, normals, slices, spline, unit

EIGHT = torch.arange(8)
SIZE = 64
RANDOM = torch.Generator().manual_seed(0)


def plain(person: Tensor = EIGHT, **changes: float | Tensor) -> dict[str, Tensor | float]:
    """A portrait of bare faces with short hair, so that nothing hides what is looked at."""
    return portrait(person) | {"glasses": 0.0, "beard_now": 0, "style_now": 1} | changes


def photo(person: Tensor = EIGHT, size: int = SIZE, **changes: float | Tensor) -> Tensor:
    return render(person, 0 * person, size, changes=plain(person, **changes)).float()


def what(person: Tensor = EIGHT, size: int = SIZE, **changes: float | Tensor) -> Tensor:
    return parts(person, 0 * person, size, changes=plain(person, **changes))


def share(name: str, **changes: float | Tensor) -> Tensor:
    """How much of each image shows a part."""
    return (what(**changes) == PARTS.index(name)).float().mean((1, 2))


def points(
    person: Tensor = EIGHT, size: int = SIZE, **changes: float | Tensor
) -> dict[str, Tensor]:
    """Landmarks by name, (N, 2)."""
    found = landmarks(person, 0 * person, size, changes=plain(person, **changes))
    return dict(zip(LANDMARKS, found.unbind(1), strict=True))


def patch(images: Tensor, at: Tensor, wide: int = 1, tall: int = 1) -> Tensor:
    """The pixels (N, M) around a place in each image (N, H, W)."""
    x, y = at.floor().long().unbind(1)
    i = torch.arange(len(images))
    return torch.stack([
        images[i, y + down, x + across]
        for across in range(-wide, wide + 1) for down in range(-tall, tall + 1)
    ], 1)  # fmt: skip


def fact(value: float) -> Tensor:
    return torch.full((1, 1, 1), value)


# --- curves and grids


def test_a_spline_passes_through_its_knots_and_keeps_straight_lines() -> None:
    places = torch.linspace(0, 6, 241, dtype=torch.float64)
    weights = spline(7, places)
    assert torch.allclose(weights.sum(1), torch.ones(241, dtype=torch.float64))
    assert torch.allclose(spline(7, torch.arange(7.0)), torch.eye(7))
    inner = (places >= 1) & (places <= 5)
    line = weights @ torch.arange(7, dtype=torch.float64)
    assert torch.allclose(line[inner], places[inner])
    assert (weights @ torch.rand(7, dtype=torch.float64)).diff().abs().max() < 0.05  # no jumps


@pytest.mark.parametrize("power", [2.0, 2.6])
def test_slices_are_superellipses(power: float) -> None:
    angle = torch.linspace(-3.1, 3.1, 50)
    shape = [torch.tensor([row]) for row in ([4.0, 0.0], [3.0, 5.0], [6.0, 4.0], [2.0, 7.0])]
    x, y, z = slices(torch.eye(2), angle, shape, torch.full((1, 2, 1), power))
    for row, (height, width, front, back) in enumerate(
        [(4.0, 3.0, 6.0, 2.0), (0.0, 5.0, 4.0, 7.0)]
    ):
        depth = torch.where(z[0, row] > 0, front, back)
        on = (x[0, row].abs() / width) ** power + (z[0, row].abs() / depth) ** power
        assert torch.allclose(on, torch.ones_like(on), atol=1e-3)
        assert torch.allclose(torch.atan2(x[0, row], z[0, row]), angle, atol=1e-4)
        assert (y[0, row] == height).all()


def test_normals_of_a_sphere_point_away_from_its_middle() -> None:
    down = torch.linspace(0.4, 2.7, 80)[:, None]
    across = torch.linspace(-1.4, 1.4, 90)
    sphere = torch.stack([
        torch.sin(down) * torch.sin(across), torch.cos(down).expand(80, 90),
        torch.sin(down) * torch.cos(across),
    ])[None]  # fmt: skip
    found = normals(5 * sphere)
    assert torch.allclose(found.norm(dim=1), torch.ones(1, 80, 90), atol=1e-5)
    assert (found * sphere).sum(1)[:, 1:-1, 1:-1].min() > 0.9999


@pytest.mark.parametrize("reach", [1, 4])
def test_box_mean_is_an_average_pool(reach: int) -> None:
    values = torch.randn(2, 3, 20, 30, generator=RANDOM)
    padded = functional.pad(values, (reach,) * 4, mode="replicate")
    expected = functional.avg_pool2d(padded, 2 * reach + 1, 1)
    assert torch.allclose(box_mean(values, reach), expected, atol=1e-5)


def test_unit_vectors_have_length_1_and_their_direction() -> None:
    vectors = torch.randn(4, 3, 5, generator=RANDOM) * 100
    assert torch.allclose(unit(vectors).norm(dim=1), torch.ones(4, 5), atol=1e-5)
    assert torch.allclose(unit(vectors) * vectors.norm(dim=1, keepdim=True), vectors, atol=1e-3)
    assert unit(torch.zeros(1, 3, 1)).isfinite().all()


# --- the camera


def test_a_rotation_keeps_lengths_and_handedness() -> None:
    yaw, pitch, roll = torch.randn(3, 20, generator=RANDOM)
    turn = camera.rotation(yaw, pitch, roll)
    assert torch.allclose(turn @ turn.transpose(1, 2), torch.eye(3).expand(20, 3, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(turn), torch.ones(20), atol=1e-5)
    assert torch.allclose(camera.rotation(0 * yaw, 0 * yaw, 0 * yaw), torch.eye(3).expand(20, 3, 3))


def test_the_camera_looks_at_the_centre_from_its_distance() -> None:
    view = dict.fromkeys("yaw pitch roll body_yaw body_roll shift_x shift_y".split(), 0.0)
    for turned in (0.0, 0.7):
        numbers = view | {"distance": 120.0, "zoom": 1.1, "yaw": turned, "pitch": -turned}
        f = SimpleNamespace(**{name: fact(value) for name, value in numbers.items()})
        camera.pose(f)
        at = torch.tensor(camera.CENTRE)[None, :, None]
        x, y, depth = camera.project(f, camera.place(f, at, torch.ones(1, 1)), 200)[0, :, 0]
        assert (float(x), float(y), float(depth)) == pytest.approx((100.0, 100.0, 120.0), abs=1e-3)


def plane(
    size: int, half: float, turn: float, depth: float = 60.0, slope: float = 0.0
) -> tuple[Surface, Tensor]:
    """A square that lies on the film, turned and sloping, and where each sample lies on it."""
    down, across = torch.meshgrid(*[torch.linspace(-1, 1, 9)] * 2, indexing="ij")
    c = math.cos(turn)
    s = math.sin(turn)
    x = half * (c * across - s * down)
    y = half * (s * across + c * down)
    grid = torch.stack([x + size / 2, y + size / 2, depth + slope * across])[None]
    y, x = torch.meshgrid(*[torch.arange(size) + 0.5 - size / 2] * 2, indexing="ij")
    place = torch.stack([c * x + s * y, c * y - s * x]) / half
    return Surface("face", grid, grid, inside=1.0), place


@pytest.mark.parametrize("degrees", [0, 20, 30, 45, 80])
def test_a_surface_has_no_holes_and_no_fringe(degrees: int) -> None:
    """However it is turned, facets are cut so that points lie in every sample."""
    for half in torch.linspace(12, 40, 18).tolist():
        surface, place = plane(96, half, math.radians(degrees))
        nearest = camera.splat([surface], surface.points.flatten(2), 96).view(96, 96)
        seen = nearest < camera.NOTHING
        reach = place.abs().amax(0)
        assert seen[reach < 1 - 1.5 / half].all(), half
        assert not seen[reach > 1 + 1.5 / half].any(), half


def test_the_nearer_of_two_planes_is_seen_at_every_sample() -> None:
    size = 80
    half = 30.0
    one, at = plane(size, half, 0.0, 60.0, 3.0)
    two, at_2 = plane(size, half, 0.3, 60.5, -2.0)
    film_ = torch.cat([s.points.flatten(2) for s in (one, two)], 2)
    colour = torch.stack([film_[:, 0], film_[:, 1], torch.ones_like(film_[:, 0])], 1)
    nearest = camera.splat([one, two], film_, size)
    image, owner = camera.resolve([one, two], nearest, colour, size)
    depth = torch.stack([60.0 + 3.0 * at[0], 60.5 - 2.0 * at_2[0]])
    margin = 1.5 / half
    on = torch.stack([at.abs().amax(0), at_2.abs().amax(0)])
    depth[on > 1] = math.inf
    sure = ((on < 1 - margin) | (on > 1 + margin)).all(0)
    sure &= ~((depth[0] - depth[1]).abs() < 6 * margin)
    nobody = depth.isinf().all(0)
    expected = torch.where(nobody, -1, depth.argmin(0))
    assert set(expected[sure].tolist()) == {-1, 0, 1}
    assert torch.equal(owner[0][sure].long(), expected[sure])
    y, x = torch.meshgrid(*[torch.arange(size) + 0.5] * 2, indexing="ij")
    shown = owner[0] >= 0
    assert (image[0, 0] - x)[shown].abs().max() <= 0.51  # what is seen there lies there
    assert (image[0, 1] - y)[shown].abs().max() <= 0.51
    assert (image[0][:, ~shown] == 0).all()


@pytest.mark.parametrize("size", [48, 256, 1024])
def test_bodies_have_no_holes(size: int) -> None:
    """No background is seen through neck, face or clothes, at any size that is allowed."""
    person = torch.arange(1 if size == 1024 else 4)
    shown = what(person, size, zoom=1.1)
    body = sum((shown == PARTS.index(name)).float() for name in ("neck", "face", "clothes"))
    around = functional.avg_pool2d(body[:, None], 5, 1, 2)[:, 0]
    holes = (shown == PARTS.index("background")) & (around > 0.7)
    assert holes.sum() <= 0.0005 * body.sum()


def test_landmarks_follow_the_pose() -> None:
    middle = points()

    def moved(name: str, **changes: float) -> Tensor:
        return points(**changes)[name] - middle[name]

    nose = "nose_tip"
    assert (moved(nose, yaw=0.5)[:, 0] > 2).all()
    assert (moved(nose, yaw=-0.5)[:, 0] < -2).all()
    assert (moved(nose, pitch=0.3)[:, 1] < -1).all()
    assert (moved("left_eye", roll=0.3)[:, 1] < -1).all()
    assert (moved("right_eye", roll=0.3)[:, 1] > 1).all()
    pixel = torch.tensor(SIZE / 2 / camera.HALF_HEIGHT)
    right = points(shift_x=1.0)
    up = points(shift_y=1.0)
    for name in LANDMARKS:
        assert torch.allclose(right[name][:, 0] - middle[name][:, 0], pixel, atol=0.3)
        assert torch.allclose(up[name][:, 1] - middle[name][:, 1], -pixel, atol=0.3)
    wide = points(zoom=1.2)
    apart = [p["left_eye"][:, 0] - p["right_eye"][:, 0] for p in (middle, wide)]
    assert torch.allclose(apart[1], 1.2 * apart[0], atol=1e-3)
    assert (apart[0] > 0).all()  # a person's left is on the image's right


def test_a_head_without_skew_turned_left_mirrors_one_turned_right() -> None:
    skews = [name for name in parameters([0], [0])[0] if name.endswith("_skew")]
    assert len(skews) >= 3
    even = dict.fromkeys(skews, 0.0) | {"style_now": 0, "parting_now": 0.0}
    one = points(yaw=0.6, **even)
    two = points(yaw=-0.6, **even)
    for left, right in [("left_eye", "right_eye"), ("mouth_left", "mouth_right"), ("chin", "chin")]:
        mirrored = torch.stack([SIZE - two[right][:, 0], two[right][:, 1]], 1)
        assert torch.allclose(one[left], mirrored, atol=1e-3)
    bare = even | {"pattern": 0.0, "body_yaw": 0.0}
    shown = what(size=96, yaw=0.6, **bare)
    assert (shown == what(size=96, yaw=-0.6, **bare).flip(2)).float().mean() > 0.98


def test_landmarks_lie_on_the_face() -> None:
    person = torch.arange(40)
    for yaw in (0.0, 0.35):
        shown = what(person, yaw=yaw)
        at = points(person, yaw=yaw)
        for name in "left_eye right_eye nose_tip mouth_left mouth_right brow_left".split():
            found = patch(shown, at[name]) == PARTS.index("face")
            assert found.any(1).float().mean() > 0.95, (name, yaw)
            assert found.float().mean() > 0.8, (name, yaw)


# --- light


@pytest.mark.parametrize("towards", [(0.0, 0.2, 1.0), (0.5, 0.3, 0.8), (-0.4, 0.6, 0.7)])
def test_a_plate_shades_what_lies_behind_it(towards: tuple[float, float, float]) -> None:
    """Against rays cast at the plate one by one."""
    axis = torch.linspace(-10, 10, 101)
    wall = torch.stack(torch.meshgrid(axis, axis, torch.zeros(1), indexing="ij")).flatten(1)
    plate = 0.3 * wall + torch.tensor([[0.0], [0.0], [5.0]])
    room = torch.cat([wall, plate], 1)[None]
    normal = torch.zeros_like(room)
    normal[:, 2] = 1.0
    numbers = dict(zip(("key_x", "key_y", "key_z"), towards, strict=True)) | {"softness": 0.6}
    numbers |= {"fill_x": 0.0, "fill_y": 0.0, "fill_z": 1.0}
    f = SimpleNamespace(**{name: fact(value) for name, value in numbers.items()})
    light.aim(f)
    found = light.key_visibility(f, room, normal, torch.ones(room.shape[::2], dtype=torch.bool))[0]
    hits = wall[:2] + 5.0 * torch.tensor(towards)[:2, None] / towards[2]
    off = hits.abs().amax(0)
    assert found[: wall.shape[1]][off < 2.0].max() < 0.2
    inner = wall[:2].abs().amax(0) < 9
    assert found[: wall.shape[1]][(off > 5.5) & inner].min() > 0.8
    on_plate = plate[:2].abs().amax(0) < 2.5
    assert found[wall.shape[1] :][on_plate].min() > 0.8


def test_the_side_towards_the_light_is_brighter() -> None:
    off = {"key_y": 0.2, "key_z": 0.3, "sky": 0.3, "fill": 0.0}
    for side in (1.0, -1.0):
        image = photo(key_x=side, **off).mean(1)
        at = points(key_x=side)
        left = 0.5 * (at["cheek_left"] + at["nose_tip"])
        right = 0.5 * (at["cheek_right"] + at["nose_tip"])
        assert ((patch(image, left) - patch(image, right)).mean(1) * side > 3).all()


# --- what is set can be seen


def test_eyes_are_darker_than_cheeks_whoever_is_seen() -> None:
    """A guard against a group of people losing a feature: every third of the skin tones."""
    person = torch.arange(150)
    image = photo(person).mean(1)
    at = points(person)
    tone = parameters(person, person)[0]["tone"]
    eyes = torch.cat([patch(image, at[f"{side}_eye"], 5, 3) for side in ("left", "right")], 1)
    cheeks = torch.cat([
        patch(image, 0.5 * (at[f"cheek_{side}"] + at["nose_tip"])) for side in ("left", "right")
    ], 1)  # fmt: skip
    contrast = eyes.std(1) / eyes.mean(1)
    darkest = eyes.amin(1) / cheeks.mean(1)
    thirds = [((tone * 3).long() == third) for third in range(3)]
    for third in thirds:
        assert (darkest[third] < 0.85).float().mean() > 0.95
        assert (eyes.mean(1) < cheeks.mean(1))[third].float().mean() > 0.7
        assert contrast[third].quantile(0.05) > 0.06
    medians = [float(contrast[third].median()) for third in thirds]
    assert max(medians) < 2 * min(medians)


def test_brows_are_darker_than_the_skin_of_everybody() -> None:
    person = torch.arange(4000)
    who, how = parameters(person, person)
    f = facts(who | how)
    assert (brow_colour(f).mean(1) < 0.7 * f.skin.mean(1)).all()


def test_hats_things_and_glasses_show() -> None:
    for kind in (1.0, 2.0, 3.0):
        assert (share("hat", hat=kind) > 0.02).all()
    for kind in (1.0, 2.0):
        assert (share("held", object=kind, object_x=0.0, object_y=-8.0) > 0.02).all()
    assert (share("glasses", glasses=1.0) > 0.005).all()
    bare = what()
    for name in ("hat", "held", "glasses"):
        assert not (bare == PARTS.index(name)).any()


def inner(mask: Tensor) -> Tensor:
    """Where all neighbours are of the mask, too."""
    return functional.avg_pool2d(mask.float()[:, None], 3, 1, 1)[:, 0] > 0.99


@pytest.mark.parametrize("kind", [1.0, 2.0, 3.0])
def test_no_hair_comes_through_a_hat(kind: float) -> None:
    """What is hat on a shaved head is hat on a head of much hair, but for the lower edge."""
    for yaw in (0.0, 0.6):
        hat = inner(what(size=128, hat=kind, yaw=yaw, style_now=0) == PARTS.index("hat"))
        long = what(size=128, hat=kind, yaw=yaw, style_now=10, volume=1.6)
        assert (hat & (long == PARTS.index("hair"))).sum() < 0.02 * hat.sum()


def test_sunglasses_darken_the_eyes() -> None:
    bare = photo().mean(1)
    dark = photo(sunglasses=1.0).mean(1)
    for side in ("left_eye", "right_eye"):
        at = points()[side]
        assert (patch(dark, at, 2).mean(1) < 0.7 * patch(bare, at, 2).mean(1)).all()


def test_styles_change_how_much_hair_shows() -> None:
    shaved, cropped, curly, long = [share("hair", style_now=style) for style in (0, 1, 5, 6)]
    assert (shaved < 0.02).all()
    assert (cropped > shaved).all()
    assert (curly > cropped).all()
    assert (long > 1.5 * cropped).all()


def test_a_beard_shows_on_the_chin() -> None:
    skin = {"skin": 0.8, "brow": 0.1}
    bare = photo(beard_now=0, **skin).mean(1)
    full = photo(beard_now=2, **skin).mean(1)
    at = points()["chin"] - torch.tensor([0.0, 3.0])
    assert (patch(full, at).mean(1) < 0.7 * patch(bare, at).mean(1)).all()


def test_a_closed_lid_hides_the_iris() -> None:
    blue = torch.tensor([[0.2, 0.4, 1.0]])
    brown = torch.tensor([[0.3, 0.1, 0.0]])
    at = points()

    def difference(lid: float) -> float:
        pair = [photo(lid=lid, eye=eye.expand(8, 3))[:, 2] for eye in (blue, brown)]
        return float(patch(pair[0] - pair[1], at["left_eye"], 2, 2).abs().mean())

    awake = difference(1.0)
    assert awake > 10
    assert difference(0.05) < 0.2 * awake


def test_expressions_move_the_mouth() -> None:
    calm = points(smile=0.0)
    smiling = points(smile=1.0)
    talking = points(mouth_open=0.9)
    for side in ("mouth_left", "mouth_right"):
        assert (smiling[side][:, 1] < calm[side][:, 1]).all()
    wide = [p["mouth_left"][:, 0] - p["mouth_right"][:, 0] for p in (calm, smiling)]
    assert (wide[1] > wide[0]).all()
    assert (talking["chin"][:, 1] > calm["chin"][:, 1] + 0.5).all()
    assert (points(brow_raise=0.6)["brow_left"][:, 1] < calm["brow_left"][:, 1]).all()


def test_a_broad_smile_shows_teeth() -> None:
    calm, broad = [photo(smile=smile, skin=0.3, lipstick=0.1) for smile in (0.0, 1.0)]
    at = points(smile=1.0)
    middle = 0.5 * (at["mouth_left"] + at["mouth_right"])
    brightest = [patch(image.mean(1), middle, 2, 3).amax(1) for image in (calm, broad)]
    assert (brightest[1] > brightest[0] + 10).all()


def test_straight_hair_runs_down_and_curls_run_everywhere() -> None:
    def turbulence(curl: float) -> Tensor:
        """How much brightness changes down the hair, against across."""
        hair = inner(what(size=160, curl=curl, style_now=4) == PARTS.index("hair"))
        grey = photo(size=160, curl=curl, style_now=4).mean(1)
        down = (grey.diff(dim=1).abs() * hair[:, 1:]).sum((1, 2))
        return down / (grey.diff(dim=2).abs() * hair[:, :, 1:]).sum((1, 2))

    assert (turbulence(1.0) > 1.2 * turbulence(0.0)).all()


def test_causes_can_be_seen() -> None:
    for name, low, high in [("age", 20, 75), ("sex", 0, 1), ("build", -2, 2), ("tone", 0, 1)]:
        one = photo(**{name: float(low)})
        two = photo(**{name: float(high)})
        assert ((one - two).abs().mean((1, 2, 3)) > 1).all(), name
    at = points()
    for side in ("left", "right"):  # the last was the tone
        cheek = 0.5 * (at[f"cheek_{side}"] + at["nose_tip"])
        assert (patch(two.mean(1), cheek) < 0.8 * patch(one.mean(1), cheek)).all()


# --- the film


def test_blur_takes_fine_detail_and_keeps_the_mean() -> None:
    image = torch.rand(3, 3, SIZE, SIZE, generator=RANDOM)
    numbers = {"blur": (0.0, 3.0, 0.0), "shake": (0.0, 0.0, 4.0), "shake_angle": (0.0, 0.0, 0.0)}
    f = SimpleNamespace(**{k: torch.tensor(v)[:, None, None] for k, v in numbers.items()})
    soft = film.blur(image.clone(), f)
    assert torch.allclose(soft[0], image[0], atol=1e-6)
    assert torch.allclose(soft.mean((2, 3)), image.mean((2, 3)), atol=0.01)

    def rough(values: Tensor, along: int) -> Tensor:
        return values.diff(dim=along).square().mean((1, 2, 3))

    assert rough(soft, 2)[1] < 0.5 * rough(image, 2)[1]
    assert rough(soft, 3)[1] < 0.5 * rough(image, 3)[1]
    assert rough(soft, 3)[2] < 0.5 * rough(soft, 2)[2]  # shaken to the side alone


def test_grain_has_mean_0_and_deviation_1() -> None:
    bits = Draws(0, torch.arange(20), torch.arange(20)).bits("grain")
    noise = film.grain(bits, SIZE)
    assert noise.shape == (20, 3, SIZE, SIZE)
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    flat = noise.flatten(1)
    assert (torch.corrcoef(flat) - torch.eye(20)).abs().max() < 0.06
    assert abs((noise[..., 1:] * noise[..., :-1]).mean()) < 0.02


def test_grain_shows_as_strong_as_it_was_set() -> None:
    clean = photo()
    noisy = photo(grain=0.04)
    between = (clean > 50) & (clean < 200)
    assert (noisy - clean)[between].std() == pytest.approx(0.04 * 255, rel=0.05)


def test_exposure_is_monotone_and_mono_is_grey() -> None:
    light_ = torch.stack([photo(exposure=value).mean((1, 2, 3)) for value in (0.5, 0.8, 1.2, 1.8)])
    assert (light_.diff(dim=0) > 2).all()
    grey = photo(mono=1.0)
    coloured = photo()
    assert (grey.amax(1) - grey.amin(1)).max() <= 1
    assert (coloured.amax(1) - coloured.amin(1)).mean() > 5
    assert (photo(contrast=1.4).std((1, 2, 3)) > photo(contrast=0.7).std((1, 2, 3))).all()


def test_a_puzzle_is_the_shots_in_another_order_with_its_solution() -> None:
    images, person = puzzle(3, 2, first=5, size=32)
    whole = shots(3, 2, first=5, size=32).view(3, 2, -1)
    assert sorted(person.tolist()) == [0, 0, 1, 1, 2, 2] != person.tolist()
    for image, whom in zip(images.flatten(1), person, strict=True):
        assert (image == whole[whom]).all(1).any()
    assert len(images.flatten(1).unique(dim=0)) == 6
    assert torch.equal(puzzle(3, 2, first=5, size=32)[1], person)


def test_close_ups_are_sweeps_without_their_surroundings() -> None:
    found = close_ups(["yaw", "jaw_width"], person=2, steps=2)
    assert list(found) == ["yaw", "jaw_width"]
    for knob, images in found.items():
        whole = sweep(knob, 2, person=2, size=160)
        assert torch.equal(images, whole[..., 34:142, 26:134])
