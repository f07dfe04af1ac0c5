"""MixUp and CutMix against loops over images, and what they do to the loss."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from facekit.data.mixing import mix
from facekit.data.transform_params import sample_params
from facekit.data.transforms import NOTHING, Augment, Preprocess

SIZE, COUNT = 24, 30


def drawn(mixup: float, cutmix: float):
    augment = Augment(**NOTHING.__dict__ | {"mixup": mixup, "cutmix": cutmix})
    return sample_params(augment, Preprocess(SIZE), SIZE, 3, [(0, index) for index in range(COUNT)])


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(COUNT, 3, SIZE, SIZE, generator=generator)
    return images.contiguous(memory_format=torch.channels_last), torch.arange(COUNT) % 7


def by_hand(images: np.ndarray, params) -> np.ndarray:
    result = images.copy()
    for number in range(COUNT):
        other = images[(number + 1) % COUNT]
        left, top, right, bottom = params.window[number].int().tolist()
        if right > left:
            result[number, :, top:bottom, left:right] = other[:, top:bottom, left:right]
        else:
            lam = params.lam[number].item()
            result[number] = lam * images[number] + (1 - lam) * other
    return result


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.5, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_pixels_and_labels_are_mixed_as_by_hand(mixup, cutmix):
    params = drawn(mixup, cutmix)
    images, labels = batch()
    before = images.clone()
    mixed, own, targets_b, lam = mix(images, labels, params)
    np.testing.assert_allclose(mixed.numpy(), by_hand(images.numpy(), params), atol=1e-5)
    assert torch.equal(images, before)
    assert torch.equal(own, labels)
    assert targets_b.tolist() == [*labels.tolist()[1:], labels[0].item()]
    assert torch.equal(lam, params.lam)
    assert mixed.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.5, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_the_share_of_the_labels_is_the_share_of_the_pixels(mixup, cutmix):
    params = drawn(mixup, cutmix)
    # Each image has a channel of its own, so that a channel's mean is that image's share.
    images = torch.eye(COUNT)[:, :, None, None].expand(COUNT, COUNT, SIZE, SIZE).clone()
    mixed, labels, targets_b, lam = mix(images, torch.arange(COUNT), params)
    own = F.one_hot(labels, COUNT) * lam[:, None]
    expected = own + F.one_hot(targets_b, COUNT) * (1 - lam)[:, None]
    torch.testing.assert_close(mixed.mean((2, 3)), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(expected.sum(1), torch.ones(COUNT))


def test_without_mixing_the_batch_is_handed_on():
    images, labels = batch()
    mixed, own, targets_b, lam = mix(images, labels, drawn(0.0, 0.0))
    assert mixed is images
    assert own is labels
    assert targets_b is None
    assert lam is None
