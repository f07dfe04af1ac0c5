"""MixUp and CutMix against loops over pictures, and what they do to the loss."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from facekit.augment import NOTHING, Augment, Preprocess
from facekit.changes import draw
from facekit.mixing import mix

SIZE, COUNT = 24, 30


def drawn(mixup: float, cutmix: float):
    augment = Augment(**NOTHING.__dict__ | {"mixup": mixup, "cutmix": cutmix})
    return draw(augment, Preprocess(SIZE), SIZE, 3, [(0, index) for index in range(COUNT)])


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(COUNT, 3, SIZE, SIZE, generator=generator)
    return images.contiguous(memory_format=torch.channels_last), torch.arange(COUNT) % 7


def by_hand(images: np.ndarray, changes) -> np.ndarray:
    result = images.copy()
    for number in range(COUNT):
        other = images[(number + 1) % COUNT]
        left, top, right, bottom = changes.window[number].int().tolist()
        if right > left:
            result[number, :, top:bottom, left:right] = other[:, top:bottom, left:right]
        else:
            share = changes.share[number].item()
            result[number] = share * images[number] + (1 - share) * other
    return result


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.5, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_pixels_and_labels_are_mixed_as_by_hand(mixup, cutmix):
    changes = drawn(mixup, cutmix)
    images, labels = batch()
    before = images.clone()
    mixed, own, others, share = mix(images, labels, changes)
    np.testing.assert_allclose(mixed.numpy(), by_hand(images.numpy(), changes), atol=1e-5)
    assert torch.equal(images, before)
    assert torch.equal(own, labels)
    assert others.tolist() == [*labels.tolist()[1:], labels[0].item()]
    assert torch.equal(share, changes.share)
    assert mixed.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.5, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_the_share_of_the_labels_is_the_share_of_the_pixels(mixup, cutmix):
    changes = drawn(mixup, cutmix)
    # Each picture has a channel of its own, so that a channel's mean is that picture's share.
    images = torch.eye(COUNT)[:, :, None, None].expand(COUNT, COUNT, SIZE, SIZE).clone()
    mixed, labels, others, share = mix(images, torch.arange(COUNT), changes)
    own = F.one_hot(labels, COUNT) * share[:, None]
    expected = own + F.one_hot(others, COUNT) * (1 - share)[:, None]
    torch.testing.assert_close(mixed.mean((2, 3)), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(expected.sum(1), torch.ones(COUNT))


def test_without_mixing_the_batch_is_handed_on():
    images, labels = batch()
    mixed, own, others, share = mix(images, labels, drawn(0.0, 0.0))
    assert mixed is images
    assert own is labels
    assert others is None
    assert share is None
