"""The draws: whose they are, how they are spread, and what they compose to."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms.functional import _get_inverse_affine_matrix
from torchvision.transforms.v2 import functional as F

from facekit.common.keyed_random import Draws
from facekit.data.transform_params import (
    STEPS,
    TransformParams,
    _ranges,
    _step,
    sample_params,
    symmetric_beta,
)
from facekit.data.transforms import NOTHING, Augment, Preprocess, only

ALL = Augment(shift=0.1, shear=5, random_steps=2, blur=0.5, mixup=0.3, cutmix=1.0)
SIZE = 40
MANY = [(1, index) for index in range(4000)]


def drawn(
    augment: Augment, keys=MANY, side: int = 48, size: int = SIZE, seed: int = 5
) -> TransformParams:
    return sample_params(augment, Preprocess(size), side, seed, keys)


def numbers(augment: Augment, keys, seed: int = 5) -> dict[str, torch.Tensor]:
    return Draws(seed, *torch.tensor(keys).unbind(1)).uniforms(_ranges(augment))


def uniform(values, low: float, high: float) -> bool:
    return stats.kstest(np.asarray(values), "uniform", (low, high - low)).pvalue > 1e-3


@given(st.permutations(range(12)), st.integers(1, 11))
@settings(max_examples=30)
def test_an_images_changes_do_not_depend_on_its_batch(order, cut):
    keys = [(epoch, 1000 * index) for epoch in (2, 3) for index in range(6)]
    whole = drawn(ALL, keys)
    shuffled = [keys[number] for number in order]
    parts = drawn(ALL, shuffled[:cut]), drawn(ALL, shuffled[cut:])
    for name, expected, first, second in zip(TransformParams._fields, whole, *parts, strict=True):
        assert torch.equal(torch.cat([first, second]), expected[list(order)]), name


@pytest.mark.parametrize("other", [(6, (1, 3)), (5, (2, 3)), (5, (1, 4))])
def test_another_seed_epoch_or_index_gives_other_changes(other):
    seed, key = other
    first, second = drawn(ALL, [(1, 3)]), drawn(ALL, [key], seed=seed)
    assert not torch.equal(first.matrix, second.matrix)
    assert not torch.equal(first.colour, second.colour)


@pytest.mark.parametrize(("side", "size"), [(48, 48), (128, 112), (48, 64), (33, 7)])
def test_everything_off_is_the_plain_resize(side, size):
    params = drawn(NOTHING, MANY[:9], side, size)
    scale = side / size
    matrix = torch.tensor([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2]])
    if side == size:
        assert torch.equal(params.matrix, torch.eye(2, 3).expand(9, 2, 3))
    torch.testing.assert_close(params.matrix, matrix.expand(9, 2, 3), atol=1e-6, rtol=0)
    assert torch.equal(params.colour, torch.eye(3).expand(9, 3, 3))
    for none in (params.of_mean, params.blur, params.erase, params.window):
        assert not none.any()
    assert (params.solarize == 256).all()
    assert (params.posterize == 8).all()
    assert (params.lam == 1).all()


def test_the_crop_is_a_box_of_whole_pixels_inside_the_image():
    side = 200
    matrix = drawn(only(crop_scale=0.5), side=side).matrix.double()
    width, height = SIZE * matrix[:, 0, 0], SIZE * matrix[:, 1, 1]
    left = matrix[:, 0, 2] + 0.5 - matrix[:, 0, 0] / 2
    top = matrix[:, 1, 2] + 0.5 - matrix[:, 1, 1] / 2
    for edge in (left, top, width, height):
        torch.testing.assert_close(edge, edge.round(), atol=1e-3, rtol=0)
    assert min(left.min(), top.min()) > -1e-3
    assert max((left + width).max(), (top + height).max()) < side + 1e-3
    ratio = width / height
    assert 0.84 < ratio.min() < 0.87
    assert 1.15 < ratio.max() < 1.19
    assert uniform(width * height / side**2, 0.5, 1.0)
    free = side - width >= 20
    assert uniform(left[free] / (side - width[free]), 0, 1)


def test_a_certain_crop_of_everything_is_the_whole_image_whatever_its_ratio():
    torch.testing.assert_close(drawn(only(flip=1.0)).matrix[:, 0, 0].unique(), torch.tensor([-1.2]))
    assert drawn(only(flip=1.0)).matrix[:, 1].unique(dim=0).shape == (1, 3)


def test_half_of_the_images_are_mirrored():
    mirrored = drawn(only(flip=0.5)).matrix[:, 0, 0] < 0
    assert abs(mirrored.float().mean() - 0.5) < 0.03


def test_the_rotation_is_even_to_both_sides_about_the_middle():
    matrix = drawn(only(rotation=20.0), side=SIZE).matrix
    assert uniform(torch.rad2deg(torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0])), -20, 20)
    middle = torch.tensor([(SIZE - 1) / 2, (SIZE - 1) / 2, 1])
    torch.testing.assert_close(matrix @ middle, middle[:2].expand(len(matrix), 2))


def test_shift_and_shear_are_even_to_both_sides():
    shift = drawn(only(shift=0.25), side=SIZE).matrix[:, :, 2] / SIZE
    assert uniform(shift[:, 0], -0.25, 0.25)
    assert uniform(shift[:, 1], -0.25, 0.25)
    assert abs(np.corrcoef(shift.T)[0, 1]) < 0.06
    shear = drawn(only(shear=15.0), side=SIZE).matrix[:, 0, 1]
    assert uniform(torch.rad2deg(shear.atan()), -15, 15)


def test_grey_blur_and_erasing_come_as_often_as_asked():
    params = drawn(only(grey=0.1, blur=0.3, erasing=0.25))
    grey = (params.colour[:, 0] == params.colour[:, 1]).all(1)
    assert abs(grey.float().mean() - 0.1) < 0.02
    sigma = params.blur[params.blur > 0]
    assert abs(len(sigma) / len(MANY) - 0.3) < 0.03
    assert uniform(sigma, 0.1, 2.0)
    erased = params.erase[params.erase.any(1)]
    assert abs(len(erased) / len(MANY) - 0.25) < 0.03


def test_the_erased_box_is_inside_and_as_large_as_torchvisions():
    size = 200
    box = drawn(only(erasing=1.0), size=size).erase.double()
    left, top, right, bottom = box.unbind(1)
    assert torch.equal(box, box.round())
    assert box.min() >= 0
    assert box.max() <= size
    area, ratio = (right - left) * (bottom - top) / size**2, (bottom - top) / (right - left)
    assert uniform(area, 0.02, 0.2)
    assert uniform(ratio.log(), math.log(0.3), math.log(3.3))
    assert uniform(left / (size - (right - left)), 0, 1)


def test_the_jitter_is_torchvisions_in_its_order():
    augment = only(jitter=0.4, grey=0.3)
    keys = MANY[:40]
    params, drew = drawn(augment, keys), numbers(augment, keys)
    assert uniform(numbers(augment, MANY)["contrast"], 0.6, 1.4)
    generator = torch.Generator().manual_seed(0)
    # About 0 nothing is clipped: torchvision's blends of floats end at 0 and 1.
    image = 0.4 + 0.1 * torch.rand(3, 9, 9, generator=generator)
    for number in range(len(keys)):
        expected = F.adjust_brightness(image, drew["brightness"][number].item())
        expected = F.adjust_contrast(expected, drew["contrast"][number].item())
        expected = F.adjust_saturation(expected, drew["saturation"][number].item())
        if drew["grey"][number] < augment.grey:
            expected = F.rgb_to_grayscale(expected, 3)
        colour, of_mean = params.colour[number], params.of_mean[number]
        found = colour @ image.flatten(1) + (of_mean @ image.mean((1, 2)))[:, None]
        torch.testing.assert_close(found.view_as(image), expected, atol=2e-4, rtol=0)


def test_random_augment_draws_each_of_its_steps_as_often_up_to_its_strength():
    augment = only(random_steps=1, random_strength=0.6)
    step = _step(Draws(5, *torch.tensor(MANY).unbind(1)), 0, augment)
    for name, most in STEPS.items():
        amounts = step[name][step[name] != 0]
        if name != "identity":
            assert abs(len(amounts) / len(MANY) - 1 / len(STEPS)) < 0.02, name
            assert uniform(amounts / most, -0.6, 0.6), name


def test_each_step_of_random_augment_moves_the_image_as_torchvision_does():
    augment, keys = only(random_steps=1, random_strength=0.9), MANY[:100]
    step = _step(Draws(5, *torch.tensor(keys).unbind(1)), 0, augment)
    params = drawn(augment, keys, side=SIZE)
    middle = torch.eye(3, dtype=torch.float64)
    middle[:2, 2] = (SIZE - 1) / 2
    for number, matrix in enumerate(params.matrix):
        of = {name: amounts[number].item() for name, amounts in step.items()}
        shear = [math.degrees(math.atan(of[name])) for name in ("shear x", "shear y")]
        shift = [SIZE * of["shift x"], SIZE * of["shift y"]]
        six = _get_inverse_affine_matrix([0.0, 0.0], -of["rotate"], shift, 1.0, shear)
        expected = torch.eye(3, dtype=torch.float64)
        expected[:2] = torch.tensor(six).view(2, 3)
        expected = (middle @ expected @ middle.inverse())[:2].float()
        torch.testing.assert_close(matrix, expected, atol=1e-4, rtol=0)


def test_solarize_and_posterize_follow_the_strength():
    params = drawn(only(random_steps=1, random_strength=1.0))
    inverted = params.solarize[params.solarize < 256]
    assert uniform(inverted, 0, 256)
    assert set(params.posterize.tolist()) == {4.0, 5.0, 6.0, 7.0, 8.0}
    mild = drawn(only(random_steps=3, random_strength=0.25))
    assert mild.solarize.min() >= 192
    assert mild.posterize.min() == 7


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 3.0, 100.0])
def test_the_symmetric_beta_is_one(alpha):
    generator = torch.Generator().manual_seed(1)
    first, second = torch.rand(2, 5000, generator=generator, dtype=torch.float64)
    found = symmetric_beta(torch.tensor(alpha, dtype=torch.float64), first, second)
    assert found.isfinite().all()
    assert stats.kstest(found, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_a_tiny_alpha_mixes_next_to_nothing():
    generator = torch.Generator().manual_seed(1)
    first, second = torch.rand(2, 5000, generator=generator, dtype=torch.float64)
    first[0] = 0  # the hash may give 0, never 1
    found = symmetric_beta(torch.tensor(1e-3, dtype=torch.float64), first, second)
    assert abs(found.mean() - 0.5) < 0.03
    assert ((found < 0.01) | (found > 0.99)).double().mean() > 0.98


def test_mixup_draws_its_share_from_the_beta():
    params = drawn(only(mixup=0.4))
    assert not params.window.any()
    assert stats.kstest(params.lam, stats.beta(0.4, 0.4).cdf).pvalue > 1e-3


def test_cutmixs_share_is_what_its_window_leaves():
    size = 50
    params = drawn(only(cutmix=1.0), size=size)
    left, top, right, bottom = params.window.unbind(1)
    assert torch.equal(params.window, params.window.round())
    assert params.window.min() >= 0
    assert params.window.max() <= size
    torch.testing.assert_close(params.lam, 1 - (right - left) * (bottom - top) / size**2)
    inner = (params.window[:, :2] > 0).all(1) & (params.window[:, 2:] < size).all(1)
    assert ((right - left) - (bottom - top))[inner].abs().max() <= 1  # as wide as high: rounding
    assert 0.05 < inner.float().mean() < 0.95


def test_both_mixings_share_the_images_between_them():
    params = drawn(only(mixup=1.0, cutmix=1.0))
    cut = params.window[:, 2] > params.window[:, 0]
    assert abs(cut.float().mean() - 0.5) < 0.03


def test_changes_move_in_one_piece():
    params = drawn(ALL, MANY[:7])
    for name, part, moved in zip(TransformParams._fields, params, params.to("cpu"), strict=True):
        assert torch.equal(part, moved), name
        assert part.dtype == torch.float32, name
