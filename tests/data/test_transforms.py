"""What the network sees, against plain Pillow and numpy; what augmentation may and may not do."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as nn_functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from facekit.common.keyed_random import random_numbers
from facekit.data import transforms_cpu, transforms_gpu
from facekit.data.transform_params import TransformParams, sample_params
from facekit.data.transforms import (
    GREY_LEVEL,
    MEAN,
    NOTHING,
    STD,
    Augment,
    Preprocess,
    only,
    preview,
)


def image(width: int = 48, height: int = 48) -> Image.Image:
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
    found = Preprocess(size).transform()(image(*sides))
    assert found.dtype == torch.float32
    assert found.shape == (3, size, size)
    np.testing.assert_allclose(found.numpy(), plain(image(*sides), size), atol=1e-3)


def test_the_transform_gives_the_same_every_time():
    transform = Preprocess(32).transform()
    first = transform(image())
    torch.manual_seed(1)
    assert torch.equal(transform(image()), first)
    assert torch.equal(Preprocess(32).transform()(image()), first)


def test_black_and_white_become_minus_two_and_two():
    transform = Preprocess(8).transform()
    assert (transform(Image.new("RGB", (8, 8), "black")) == -2).all()
    assert (transform(Image.new("RGB", (8, 8), "white")) == 2).all()


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
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
    training, expected = preprocess.training(NOTHING), preprocess.transform()(image(side, side))
    for seed in range(10):
        with random_numbers(seed):
            torch.testing.assert_close(training(image(side, side)), expected)


STRENGTHS = {
    "crop_scale": 0.6, "flip": 1.0, "rotation": 10.0, "jitter": 0.3, "grey": 1.0, "erasing": 1.0,
    "shift": 0.2, "shear": 15.0, "random_steps": 2, "blur": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("change", STRENGTHS)
def test_each_change_changes_the_image(change):
    preprocess = Preprocess(32)
    expected = preprocess.transform()(image())
    with random_numbers(3):
        seen = preprocess.training(only(**{change: STRENGTHS[change]}))(image())
    assert (seen - expected).abs().max() > 0.1


def test_a_certain_flip_is_the_mirror_image():
    preprocess = Preprocess(48)
    only_flip = Augment(crop_scale=1.0, flip=1.0, rotation=0, jitter=0, grey=0, erasing=0)
    seen = preprocess.training(only_flip)(image())
    torch.testing.assert_close(seen, preprocess.transform()(image()).flip(-1))


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


def test_grey_images_have_equal_channels():
    grey = Augment(crop_scale=1.0, flip=0, rotation=0, jitter=0, grey=1.0, erasing=0)
    seen = Preprocess(32).training(grey)(image())
    torch.testing.assert_close(seen[0], seen[1])
    torch.testing.assert_close(seen[1], seen[2])


@pytest.mark.parametrize("sides", [(48, 48), (64, 40), (17, 90)])
@pytest.mark.parametrize("size", [16, 33])
def test_training_images_are_float_squares_of_the_size(sides, size):
    transform = Preprocess(size).training(Augment(erasing=1.0, grey=0.5))
    for seed in range(5):
        with random_numbers(seed):
            seen = transform(image(*sides))
        assert seen.shape == (3, size, size)
        assert seen.dtype == torch.float32
        assert seen.isfinite().all()
        assert seen.abs().max() <= 2


def test_equal_random_numbers_give_equal_images_and_others_do_not():
    transform = Preprocess(32).training(Augment())
    seen = []
    for seed in (1, 1, 2):
        with random_numbers(seed):
            seen.append(transform(image()))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_a_preview_is_in_true_colours_and_repeatable():
    first, again = (preview(image(), Preprocess(24), Augment(), 6) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (6, 3, 24, 24)
    assert 0 <= first.min() < first.max() <= 1
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(preview(image(), Preprocess(24), Augment(), 6, seed=1), first)
    still = preview(image(), Preprocess(48), NOTHING, 2)
    true = torch.tensor(np.asarray(image())).permute(2, 0, 1) / 255
    torch.testing.assert_close(still, true.expand(2, -1, -1, -1), atol=1e-6, rtol=0)


# The two back ends. A smooth image: neighbours differ by few grey levels, so that places which
# are a fraction of a pixel off give nearly the same.

ALL = Augment(shift=0.1, shear=5, random_steps=2, blur=0.5)
COMMON = Augment(rotation=0, jitter=0.2, grey=0, erasing=0)
BOTH = (transforms_cpu, transforms_gpu)
GREY = (GREY_LEVEL,) * 3


def stored(count: int, side: int) -> np.ndarray:
    """Smooth images that are all different: uint8 (count, side, side, 3)."""
    waves = np.random.default_rng(2).uniform(0.5, 2.5, (count, 3, 2))
    y, x = np.mgrid[:side, :side] * (2 * np.pi / side)
    phase = waves[..., :1, None] * x + waves[..., 1:, None] * y  # (count, 3, side, side)
    return (128 + 100 * np.sin(phase)).round().astype(np.uint8).transpose(0, 2, 3, 1).copy()


def changed(back_end, images: np.ndarray, params: TransformParams, size: int) -> torch.Tensor:
    """In grey levels, (B, 3, size, size)."""
    seen = back_end.apply(torch.from_numpy(images), params, Preprocess(size))
    assert seen.dtype == torch.float32
    assert seen.shape == (len(images), 3, size, size)
    assert seen.is_contiguous(memory_format=torch.channels_last)
    return (seen * 0.25 + 0.5) * 255


def drawn(augment: Augment, count: int, side: int, size: int, seed: int = 0) -> TransformParams:
    keys = [(1, index) for index in range(count)]
    return sample_params(augment, Preprocess(size), side, seed, keys)


@pytest.mark.parametrize("back_end", BOTH)
@pytest.mark.parametrize("size", [16, 40])
def test_with_everything_off_both_give_the_stored_pixels(back_end, size):
    images = np.random.default_rng(0).integers(0, 256, (11, size, size, 3), dtype=np.uint8)
    found = changed(back_end, images, drawn(NOTHING, 11, size, size), size)
    expected = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("back_end", BOTH)
@pytest.mark.parametrize(("side", "size"), [(128, 112), (64, 32), (40, 39)])
def test_with_everything_off_a_larger_cache_is_resized(back_end, side, size):
    images = stored(5, side)
    found = changed(back_end, images, drawn(NOTHING, 5, side, size), size)
    planes = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    expected = nn_functional.interpolate(planes, (size, size), mode="bilinear")
    limit = 0.02 if back_end is transforms_gpu else max(map(opencv_limit, images))
    torch.testing.assert_close(found, expected, atol=limit, rtol=0)


def in_a_plain(image: np.ndarray) -> np.ndarray:
    """With as much grey around it as it is wide."""
    side = len(image)
    result = np.full((3 * side, 3 * side, 3), float(GREY_LEVEL))
    result[side : 2 * side, side : 2 * side] = image
    return result


def by_hand(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Bilinear sampling in a grey plain, one pixel after the other."""
    side, around = len(image), in_a_plain(image)
    result = np.full((size, size, 3), float(GREY_LEVEL))
    for row in range(size):
        for column in range(size):
            x, y = matrix.astype(float) @ (column, row, 1)
            if not (-1 < x < side and -1 < y < side):
                continue
            left, top = int(np.floor(x)), int(np.floor(y))
            weights = np.outer((1 - y + top, y - top), (1 - x + left, x - left))
            four = around[top + side : top + side + 2, left + side : left + side + 2]
            result[row, column] = (weights[..., None] * four).sum((0, 1))
    return result


def opencv_limit(image: np.ndarray) -> float:
    """OpenCV places a pixel to 1/32, at most 1/64 off along both axes, and gives whole levels."""
    step = max(np.abs(np.diff(in_a_plain(image), axis=axis)).max() for axis in (0, 1))
    return 2 * step / 64 + 0.51


@pytest.mark.parametrize("back_end", BOTH)
@pytest.mark.parametrize(("side", "size"), [(32, 24), (24, 32)])
def test_the_warp_is_bilinear_sampling(back_end, side, size):
    turned = Augment(0.5, 0.5, 30, 0, 0, 0, shift=0.2, shear=20)
    params, images = drawn(turned, 6, side, size), stored(6, side)
    found = changed(back_end, images, params, size).permute(0, 2, 3, 1).numpy()
    for number in range(6):
        expected = by_hand(images[number], params.matrix[number].numpy(), size)
        limit = 0.02 if back_end is transforms_gpu else opencv_limit(images[number])
        assert np.abs(found[number] - expected).max() < limit


@pytest.mark.parametrize("back_end", BOTH)
def test_crop_and_flip_are_torchvisions(back_end):
    side, size = 60, 32
    params, images = drawn(only(crop_scale=0.4, flip=0.5), 20, side, size), stored(20, side)
    found = changed(back_end, images, params, size)
    for number, matrix in enumerate(params.matrix.double()):
        width, height = (size * matrix[0, 0].abs()).item(), (size * matrix[1, 1]).item()
        first = matrix[0] @ torch.tensor([size - 1.0 if matrix[0, 0] < 0 else 0, 0, 1]).double()
        left, top = first + 0.5 - width / size / 2, matrix[1, 2] + 0.5 - height / size / 2
        box = [round(float(edge)) for edge in (top, left, height, width)]
        plane = torch.from_numpy(images[number]).permute(2, 0, 1).float()
        expected = F.resized_crop(plane, *box, [size, size], antialias=False)
        if matrix[0, 0] < 0:
            expected = F.horizontal_flip(expected)
        # Beyond its outermost pixels an image is grey here and goes on for torchvision.
        difference = (found[number] - expected).abs()[:, 1:-1, 1:-1].max()
        assert difference < (0.02 if back_end is transforms_gpu else opencv_limit(images[number]))


@pytest.mark.parametrize("back_end", BOTH)
@pytest.mark.parametrize("augment", [only(rotation=40.0), only(shift=0.3), only(shear=30.0)])
def test_rotation_shift_and_shear_are_torchvisions(back_end, augment):
    side = 48
    params, images = drawn(augment, 12, side, side), stored(12, side)
    found = changed(back_end, images, params, side)
    for number, matrix in enumerate(params.matrix.double()):
        angle = torch.rad2deg(torch.atan2(matrix[1, 0], matrix[0, 0])).item()
        shear = torch.rad2deg(torch.atan(matrix[0, 1])).item() if augment.shear else 0.0
        moved = [-x for x in matrix[:, 2].tolist()] if augment.shift else [0.0, 0.0]
        expected = F.affine(
            torch.from_numpy(images[number]).permute(2, 0, 1).float(), -angle, moved, 1.0,
            [shear, 0.0], InterpolationMode.BILINEAR, list(GREY),
        )  # fmt: skip
        places = torch.stack(torch.meshgrid(*2 * [torch.arange(side)], indexing="xy"))
        places = torch.einsum("ij,jhw->ihw", matrix[:, :2], places.double()) + matrix[:, 2:, None]
        inside = ((places >= 0) & (places <= side - 1)).all(0)
        beyond = ((places < -1) | (places > side)).any(0)  # at the rim torchvision fades otherwise
        difference = (found[number] - expected).abs()
        limit = 0.05 if back_end is transforms_gpu else opencv_limit(images[number])
        assert inside.float().mean() > 0.3
        assert difference[:, inside].max() < limit
        assert not beyond.any() or difference[:, beyond].max() < 1e-3


@pytest.mark.parametrize("back_end", BOTH)
def test_the_colours_are_torchvisions_without_clipping(back_end):
    params = drawn(only(jitter=0.3, grey=0.2), 20, 32, 32)
    images = (stored(20, 32) // 4 + 80).astype(np.uint8)
    found = changed(back_end, images, params, 32)
    planes = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    mean = planes.mean((2, 3))
    expected = torch.einsum("bij,bjhw->bihw", params.colour, planes)
    expected = expected + torch.einsum("bij,bj->bi", params.of_mean, mean)[:, :, None, None]
    assert 0 <= expected.min() < expected.max() <= 255
    limit = 0.9 if back_end is transforms_cpu else 1e-3  # 8 bits, and matrices of 10 bits
    torch.testing.assert_close(found, expected, atol=limit, rtol=0)


@pytest.mark.parametrize("back_end", BOTH)
def test_colours_stop_at_black_and_white(back_end):
    images = np.random.default_rng(1).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    found = changed(back_end, images, drawn(only(jitter=0.9), 9, 16, 16), 16)
    assert found.min() == 0
    assert found.max() == 255


@pytest.mark.parametrize("back_end", BOTH)
@pytest.mark.parametrize(("limit", "bits"), [(100.0, 8.0), (256.0, 4.0), (37.5, 5.0)])
def test_solarize_and_posterize_are_torchvisions(back_end, limit, bits):
    images = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    params = drawn(NOTHING, 2, 16, 16)
    params.solarize[0], params.posterize[0] = limit, bits
    found = changed(back_end, images, params, 16).round()
    planes = torch.from_numpy(images).permute(0, 3, 1, 2)
    expected = F.posterize(F.solarize(planes[0], limit) if limit < 256 else planes[0], int(bits))
    assert torch.equal(found, torch.stack([expected, planes[1]]).float())


@pytest.mark.parametrize("back_end", BOTH)
def test_the_blur_is_torchvisions(back_end):
    params, images = drawn(only(blur=0.6), 10, 40, 40), stored(10, 40)
    images[:, ::2] //= 2
    found = changed(back_end, images, params, 40)
    assert 0 < (params.blur > 0).sum() < 10
    for number, sigma in enumerate(params.blur.tolist()):
        plane = torch.from_numpy(images[number]).permute(2, 0, 1).float()
        expected = F.gaussian_blur(plane, [13, 13], [sigma, sigma]) if sigma else plane
        limit = 1.5 if back_end is transforms_cpu else 1e-2  # 8 bits and a kernel of 8 bits
        torch.testing.assert_close(found[number], expected, atol=limit, rtol=0)


@pytest.mark.parametrize("back_end", BOTH)
def test_what_is_erased_becomes_the_mean_colour(back_end):
    preprocess = Preprocess(32, (0.2, 0.4, 0.6), (0.1, 0.2, 0.3))
    images, keys = stored(12, 32), [(0, index) for index in range(12)]
    params = sample_params(only(erasing=0.7), preprocess, 32, 0, keys)
    seen = back_end.apply(torch.from_numpy(images), params, preprocess)
    for number, (left, top, right, bottom) in enumerate(params.erase.int().tolist()):
        assert (seen[number, :, top:bottom, left:right] == 0).all()
        expected = preprocess.transform()(Image.fromarray(images[number]))
        expected[:, top:bottom, left:right] = 0
        torch.testing.assert_close(seen[number], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("side", "size"), [(64, 56), (56, 56), (112, 56)])
@pytest.mark.parametrize("augment", [Augment(), COMMON, ALL, Augment(0.4, jitter=0.5, blur=1.0)])
def test_both_back_ends_give_the_same_image(augment, side, size):
    """Within what 8 bits leave: a warp that is 1.2 levels off (above), the rounding after each of
    three steps, and a contrast that multiplies what came before by at most 1.5 three times."""
    images = stored(60, side)
    params = drawn(augment, 60, side, size)
    first, second = (changed(end, images, params, size) for end in BOTH)
    difference = (first - second).abs()
    assert difference.mean() < 0.5
    steps = (params.solarize < 256) | (params.posterize < 8)  # one level off may become many
    assert difference[~steps].max() < 6
    assert (difference[steps] > 6).float().mean() < 0.05 or not steps.any()


@pytest.mark.parametrize("back_end", BOTH)
def test_an_image_does_not_depend_on_its_batch(back_end):
    images, params = stored(13, 40), drawn(ALL, 13, 40, 32)
    whole = changed(back_end, images, params, 32)
    parts = [
        changed(back_end, images[cut], TransformParams(*(part[cut] for part in params)), 32)
        for cut in (slice(0, 1), slice(1, 6), slice(6, 13))
    ]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-3, rtol=0)
    if back_end is transforms_cpu:
        assert torch.equal(torch.cat(parts), whole)


def test_the_processors_way_reads_a_memory_map_and_fills_the_given_batch(tmp_path):
    images, params, preprocess = stored(6, 40), drawn(ALL, 6, 40, 32), Preprocess(32)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    out = torch.full((6, 32, 32, 3), float("nan"))
    found = transforms_cpu.apply([mapped[number] for number in range(6)], params, preprocess, out)
    assert found.data_ptr() == out.data_ptr()
    assert torch.equal(found, transforms_cpu.apply(images, params, preprocess))
    assert np.array_equal(mapped, stored(6, 40))
    still = drawn(NOTHING, 6, 40, 40)
    assert transforms_cpu.apply(mapped, still, Preprocess(40)).isfinite().all()


def test_threads_do_not_disturb_each_other():
    images, preprocess = stored(16, 40), Preprocess(32)
    batches = [drawn(ALL, 16, 40, 32, seed) for seed in range(12)]
    expected = [transforms_cpu.apply(images, params, preprocess) for params in batches]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda params: transforms_cpu.apply(images, params, preprocess), batches)
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_processors_images():
    images, params, preprocess = stored(60, 64), drawn(ALL, 60, 64, 56), Preprocess(56)
    seen = transforms_gpu.apply(torch.from_numpy(images).cuda(), params, preprocess)
    expected = transforms_gpu.apply(torch.from_numpy(images), params, preprocess)
    difference = (seen.cpu() - expected).abs() * 0.25 * 255
    assert difference.mean() < 0.2  # TF32, where it is allowed


def test_true_colours_have_a_gradient_whoever_asked_for_the_mean_first():
    preprocess = Preprocess(8, mean=(0.31, 0.32, 0.33))
    with torch.inference_mode():
        preprocess.invert(torch.zeros(1, 3, 8, 8))
    batch = torch.zeros(1, 3, 8, 8, requires_grad=True)
    preprocess.invert(batch).sum().backward()
    assert torch.equal(batch.grad, torch.full_like(batch, STD[0]))
