"""What can be had without learning."""

import numpy as np
from PIL import Image, ImageOps

from facekit import floors


def test_grey_similarity_is_the_correlation_of_the_pixels(course):
    probes, gallery = course.unknown_dev.paths[:5], course.known.paths[:7]
    pixels = [
        np.asarray(ImageOps.fit(Image.open(path).convert("L"), (32, 32)), float).ravel()
        for path in (*probes, *gallery)
    ]
    expected = np.corrcoef(pixels)[:5, 5:]
    np.testing.assert_allclose(floors.grey_similarity(probes, gallery), expected, atol=1e-4)
