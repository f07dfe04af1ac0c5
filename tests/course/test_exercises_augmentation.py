"""The references of notebook 02's exercises against torchvision, and against the kit's own way."""

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from facekit.course import exercises
from facekit.course.exercises import augmentation
from facekit.data.mixing import mix
from facekit.data.transform_params import sample_params
from facekit.data.transforms import Preprocess, only

KNOWN = exercises.exercises()


@pytest.mark.parametrize("case", range(4))
def test_true_colours_undo_what_torchvision_does(case):
    batch, mean, std = KNOWN["true_colours"].cases()[case]
    found = augmentation.true_colours(batch, mean, std)
    torch.testing.assert_close(F.normalize(found, mean.tolist(), std.tolist()), batch)
    own = Preprocess(batch.shape[-1], tuple(mean.tolist()), tuple(std.tolist())).invert(batch)
    torch.testing.assert_close(found, own)


@pytest.mark.parametrize("case", range(4))
def test_a_flip_is_that_of_torchvision(case):
    images, chosen = KNOWN["flip_some"].cases()[case]
    assert chosen.any()
    assert not chosen.all()
    wanted = [
        F.horizontal_flip(image) if flip else image
        for image, flip in zip(images, chosen, strict=True)
    ]
    assert torch.equal(augmentation.flip_some(images, chosen), torch.stack(wanted))


@pytest.mark.parametrize("case", range(4))
def test_mixing_is_that_of_training(case):
    images, answers, share = KNOWN["mix_up"].cases()[case]
    images = images[..., :3, :3]  # training's are square
    params = sample_params(
        only(mixup=1.0), Preprocess(16), 16, 0, [(0, index) for index in range(len(share))]
    )
    labels = answers.argmax(1)
    mixed_images, labels, targets_b, _ = mix(images, labels, params._replace(lam=share))
    found, mixed = augmentation.mix_up(images, answers, share)
    torch.testing.assert_close(found, mixed_images)
    one_hot = torch.eye(answers.shape[1])
    wanted = share[:, None] * one_hot[labels] + (1 - share)[:, None] * one_hot[targets_b]
    torch.testing.assert_close(mixed, wanted)
    torch.testing.assert_close(mixed.sum(1), torch.ones(len(share)))
