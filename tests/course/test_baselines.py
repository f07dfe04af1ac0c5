"""What pixels tell without learning, against loops."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from facekit.course import baselines


def test_grey_similarity_is_the_correlation_of_the_pixels(course):
    probes, gallery = course.unknown_dev.paths[:5], course.known.paths[:7]
    pixels = [
        np.asarray(ImageOps.fit(Image.open(path).convert("L"), (32, 32)), float).ravel()
        for path in (*probes, *gallery)
    ]
    expected = np.corrcoef(pixels)[:5, 5:]
    np.testing.assert_allclose(baselines.grey_similarity(probes, gallery), expected, atol=1e-4)


def test_the_nearest_other_is_that_of_a_loop():
    vectors = np.random.default_rng(0).normal(size=(12, 5)) * np.arange(1, 13)[:, None]
    for place, nearest in enumerate(baselines.nearest_other(vectors)):
        cosines = {
            other: vectors[place] @ vectors[other] / np.linalg.norm(vectors[other])
            for other in range(12)
            if other != place
        }
        assert nearest == max(cosines, key=cosines.get)


def test_twins_are_found_whatever_their_light():
    dark = torch.randint(0, 100, (4, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    images = torch.cat([dark, 2 * dark + 30])
    assert baselines.rank_1(images, [0, 1, 2, 3, 0, 1, 2, 3]) == 1
    assert baselines.rank_1(images, range(8)) == 0, "itself does not count"
    assert baselines.rank_1(images, [0, 1, 2, 3, 0, 1, 5, 6]) == 0.5


@pytest.mark.parametrize("size", [8, 16])
def test_brightness_and_contrast_are_taken_out(course, size):
    vectors = baselines.grey_vectors(course.train.paths[:5], size)
    assert vectors.shape == (5, size**2)
    np.testing.assert_allclose(vectors.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_the_nearest_known_is_right_where_a_loop_finds_it(course):
    gallery = baselines.grey_vectors(course.known.paths)
    right = []
    for path, name in zip(course.unknown_dev.paths, course.unknown_dev.labels, strict=True):
        scores = gallery @ baselines.grey_vectors([path])[0]
        if name in course.known.labels:
            right.append(course.known.labels[scores.argmax()] == name)
    assert baselines.nearest_known(course).tolist() == right


def test_training_images_are_told_as_what_they_are(course):
    assert (baselines.nearest_class(course, course.train.paths) == course.train.labels).all()


def test_the_pixels_of_pairs_are_compared_as_those_of_probes(pair_course):
    pairs = pair_course.pairs_dev
    wanted = baselines.grey_similarity(pairs.first, pairs.second).diagonal()
    assert baselines.grey_pairs(pairs) == pytest.approx(wanted, abs=1e-6)
