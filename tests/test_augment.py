"""What the network sees, against plain Pillow and numpy; what augmentation may and may not do."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facekit.augment import GREY_LEVEL, MEAN, NOTHING, STD, Augment, Preprocess, preview
from facekit.images import random_numbers


def picture(width: int = 48, height: int = 48) -> Image.Image:
    """Smooth in both directions and different in every channel: no symmetry to hide behind."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    planes = (x, y**2, 0.5 + 0.5 * np.sin(5 * x + 3 * y))
    return Image.fromarray((np.stack(planes, axis=-1) * 255).round().astype(np.uint8))


def plain(image: Image.Image, size: int) -> np.ndarray:
    """Resize the shorter side, crop the middle, scale: Pillow and numpy alone."""
    scale = size / min(image.size)
    whole = image.resize(
        tuple(size if side == min(image.size) else int(side * scale) for side in image.size),
        Image.Resampling.BILINEAR,
    )
    left, top = (round((side - size) / 2) for side in whole.size)
    cropped = whole.crop((left, top, left + size, top + size))
    pixels = np.asarray(cropped, np.float64) / 255
    return ((pixels - 0.5) / 0.25).transpose(2, 0, 1)


@pytest.mark.parametrize("sides", [(48, 48), (64, 40), (40, 64), (33, 100), (20, 20)])
@pytest.mark.parametrize("size", [24, 32])
def test_the_transform_is_resize_crop_and_scale(sides, size):
    found = Preprocess(size).transform()(picture(*sides))
    assert found.dtype == torch.float32
    assert found.shape == (3, size, size)
    np.testing.assert_allclose(found.numpy(), plain(picture(*sides), size), atol=1e-3)


def test_the_transform_gives_the_same_every_time():
    transform = Preprocess(32).transform()
    first = transform(picture())
    torch.manual_seed(1)
    assert torch.equal(transform(picture()), first)
    assert torch.equal(Preprocess(32).transform()(picture()), first)


def test_black_and_white_become_minus_two_and_two():
    transform = Preprocess(8).transform()
    assert (transform(Image.new("RGB", (8, 8), "black")) == -2).all()
    assert (transform(Image.new("RGB", (8, 8), "white")) == 2).all()


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
@settings(deadline=None, derandomize=True)
def test_invert_gives_the_colour_back(red, green, blue):
    preprocess = Preprocess(4, mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.7))
    image = Image.new("RGB", (4, 4), (red, green, blue))
    seen = preprocess.transform()(image)
    expected = torch.tensor([red, green, blue]).view(3, 1, 1).expand(3, 4, 4) / 255
    torch.testing.assert_close(preprocess.invert(seen), expected, atol=1e-6, rtol=0)
    batch = seen.expand(2, 5, 3, 4, 4)
    assert preprocess.invert(batch).shape == batch.shape


def test_preprocess_survives_a_checkpoint():
    preprocess = Preprocess(40, mean=(0.1, 0.2, 0.3))
    assert Preprocess(**preprocess.as_dict()) == preprocess
    assert Preprocess(40).as_dict() == {"size": 40, "mean": MEAN, "std": STD}


@pytest.mark.parametrize(("side", "size"), [(48, 48), (48, 32), (32, 48), (225, 64)])
def test_with_everything_off_training_sees_only_the_resize(side, size):
    preprocess = Preprocess(size)
    training, expected = preprocess.training(NOTHING), preprocess.transform()(picture(side, side))
    for seed in range(10):
        with random_numbers(seed):
            torch.testing.assert_close(training(picture(side, side)), expected)


CHANGES = ["crop_scale", "flip", "rotation", "jitter", "grey", "erasing"]


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_changes_the_picture_at_its_default_strength(change):
    settings_ = {key: 1.0 if key == "crop_scale" else 0.0 for key in CHANGES}
    strength = {"flip": 1.0, "grey": 1.0, "erasing": 1.0}.get(change, getattr(Augment(), change))
    preprocess = Preprocess(32)
    expected = preprocess.transform()(picture())
    with random_numbers(3):
        seen = preprocess.training(Augment(**settings_ | {change: strength}))(picture())
    assert (seen - expected).abs().max() > 0.1


def test_a_certain_flip_is_the_mirror_image():
    preprocess = Preprocess(48)
    only_flip = Augment(crop_scale=1.0, flip=1.0, rotation=0, jitter=0, grey=0, erasing=0)
    seen = preprocess.training(only_flip)(picture())
    torch.testing.assert_close(seen, preprocess.transform()(picture()).flip(-1))


def test_nobody_ever_stands_on_their_head():
    image = Image.new("RGB", (48, 48), "white")
    image.paste("black", (0, 24, 48, 48))  # dark below
    strong = Augment(crop_scale=0.9, flip=1.0, rotation=20, jitter=0.3, grey=0.5, erasing=0.5)
    transform = Preprocess(32).training(strong)
    for seed in range(200):
        with random_numbers(seed):
            seen = transform(image)
        assert seen[:, :16].mean() > seen[:, 16:].mean()


def test_the_left_and_the_right_change_places_in_about_half_of_the_draws():
    image = Image.new("RGB", (48, 48), "white")
    image.paste("black", (0, 0, 24, 48))
    transform = Preprocess(32).training(Augment(crop_scale=0.9))
    mirrored = 0
    for seed in range(300):
        with random_numbers(seed):
            seen = transform(image)
        mirrored += bool(seen[..., :16].mean() > seen[..., 16:].mean())
    assert 110 < mirrored < 190  # 150 +- 4.6 standard deviations


def test_rotation_uncovers_grey_corners():
    turned = Augment(crop_scale=1.0, flip=0, rotation=30, jitter=0, grey=0, erasing=0)
    preprocess = Preprocess(32)
    with random_numbers(1):
        seen = preprocess.invert(preprocess.training(turned)(Image.new("RGB", (32, 32), "white")))
    assert seen[:, 0, 0].tolist() == pytest.approx([GREY_LEVEL / 255] * 3, abs=1e-6)
    assert (seen[:, 16, 16] == 1).all()


def test_grey_pictures_have_equal_channels():
    grey = Augment(crop_scale=1.0, flip=0, rotation=0, jitter=0, grey=1.0, erasing=0)
    seen = Preprocess(32).training(grey)(picture())
    torch.testing.assert_close(seen[0], seen[1])
    torch.testing.assert_close(seen[1], seen[2])


@pytest.mark.parametrize("sides", [(48, 48), (64, 40), (17, 90)])
@pytest.mark.parametrize("size", [16, 33])
def test_training_pictures_are_float_squares_of_the_size(sides, size):
    transform = Preprocess(size).training(Augment(erasing=1.0, grey=0.5))
    for seed in range(5):
        with random_numbers(seed):
            seen = transform(picture(*sides))
        assert seen.shape == (3, size, size)
        assert seen.dtype == torch.float32
        assert seen.isfinite().all()
        assert seen.abs().max() <= 2


def test_equal_random_numbers_give_equal_pictures_and_others_do_not():
    transform = Preprocess(32).training(Augment())
    seen = []
    for seed in (1, 1, 2):
        with random_numbers(seed):
            seen.append(transform(picture()))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_a_preview_is_in_true_colours_and_repeatable():
    first, again = (preview(picture(), Preprocess(24), Augment(), 6) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (6, 3, 24, 24)
    assert 0 <= first.min() < first.max() <= 1
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(preview(picture(), Preprocess(24), Augment(), 6, seed=1), first)
    still = preview(picture(), Preprocess(48), NOTHING, 2)
    true = torch.tensor(np.asarray(picture())).permute(2, 0, 1) / 255
    torch.testing.assert_close(still, true.expand(2, -1, -1, -1), atol=1e-6, rtol=0)
