"""The exercises of notebook 06 against scikit-learn, plain loops and the package."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve
from sklearn.metrics.pairwise import cosine_similarity

from facekit.course import exercises
from facekit.course.exercises import verification
from facekit.evaluation import identification
from facekit.evaluation import verification as pairs

KNOWN = exercises.exercises()


def test_cosines_are_scikit_learns_and_the_packages():
    for probes, gallery in KNOWN["gallery_cosines"].cases(seed=1):
        found = verification.gallery_cosines(probes, gallery)
        np.testing.assert_allclose(found, cosine_similarity(probes, gallery), atol=1e-12)
        np.testing.assert_allclose(found, identification.similarity(probes, gallery), atol=1e-6)


def test_tar_at_far_is_the_highest_of_scikit_learns_curve_within_the_target():
    for scores, same, target in KNOWN["tar_at_far"].cases(seed=1):
        false, true, _ = roc_curve(same, scores, drop_intermediate=False)
        found = verification.tar_at_far(scores, same, target)
        assert found == pytest.approx(true[false <= target + 1e-12].max())
        assert found == pairs.tar_at_far(scores, same, target).tar


def test_both_rates_are_a_loops_and_the_packages():
    for similarity, truth, threshold in KNOWN["both_rates"].cases(seed=1):
        right = wrong = 0
        for row, own in zip(similarity.tolist(), truth.tolist(), strict=True):
            named = row.index(max(row)) if max(row) >= threshold else None
            right += own >= 0 and named == own
            wrong += own < 0 and named is not None
        expected = right / sum(truth >= 0), wrong / sum(truth < 0)
        assert verification.both_rates(similarity, truth, threshold) == pytest.approx(expected)
        assert identification.dir_fpir(similarity, truth, threshold) == pytest.approx(expected)


def test_the_honest_threshold_is_as_good_on_dev_as_any_and_judged_on_test():
    for dev, dev_truth, test, test_truth in KNOWN["honest_accuracy"].cases(seed=1):
        tried = sorted(dev.max(1))
        accuracies = [identification.accuracy(dev, dev_truth, line) for line in tried]
        best = tried[accuracies.index(max(accuracies))]
        found = verification.honest_accuracy(dev, dev_truth, test, test_truth)
        assert found == pytest.approx(identification.accuracy(test, test_truth, best))
        assert max(accuracies) == identification.choose_threshold(dev, dev_truth).accuracy


def test_the_test_probes_have_no_say_in_the_threshold():
    for dev, dev_truth, test, test_truth in KNOWN["honest_accuracy"].cases(seed=1):
        whole = verification.honest_accuracy(dev, dev_truth, test, test_truth)
        parts = [
            verification.honest_accuracy(dev, dev_truth, test[rows], test_truth[rows])
            for rows in np.arange(len(test)).reshape(-1, 1)
        ]
        assert whole == pytest.approx(np.mean(parts))
