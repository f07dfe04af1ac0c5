"""Pairs against loops and scikit-learn."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import det_curve

from facekit.common.errors import DataError
from facekit.evaluation import identification, verification

thorough = settings(max_examples=60)


@st.composite
def cases(draw) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, of both kinds of pairs."""
    score = st.sampled_from([-1, -0.5, 0.0, 0.25, 0.5, 0.75]) | st.floats(-1, 1)
    scores = draw(st.lists(score, min_size=2, max_size=14))
    same = draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    assume(any(same) and not all(same))
    return np.array(scores), np.array(same)


def rates(scores, same, threshold) -> tuple[float, float]:
    """TAR and FAR by a loop."""
    accepted = [score >= threshold for score in scores]
    one = [a for a, s in zip(accepted, same, strict=True) if s]
    two = [a for a, s in zip(accepted, same, strict=True) if not s]
    return sum(one) / len(one), sum(two) / len(two)


@given(cases())
@thorough
def test_the_curve_is_a_loops(case):
    scores, same = case
    ours = verification.roc(scores, same)
    assert ours.thresholds.tolist() == [np.inf, *sorted(set(scores), reverse=True)]
    for threshold, tar, far in zip(*ours, strict=True):
        assert (tar, far) == pytest.approx(rates(scores, same, threshold))


@given(cases())
@thorough
def test_the_auc_is_a_loop_over_both_kinds(case):
    scores, same = case
    wins = [(one > two) + (one == two) / 2 for one in scores[same] for two in scores[~same]]
    assert verification.auc(scores, same) == pytest.approx(np.mean(wins))
    curve = verification.roc(scores, same)
    assert verification.auc(scores, same) == pytest.approx(np.trapezoid(curve.tar, curve.far))


@given(cases())
@thorough
def test_the_equal_error_lies_on_the_curve_where_both_are_alike(case):
    scores, same = case
    rate, threshold = verification.eer(scores, same)
    curve = verification.roc(scores, same)
    assert 0 <= rate <= 1
    # A point of the curve's polyline: its TAR there is 1 - rate.
    steps = list(zip(curve.far, curve.tar, strict=True))
    on = any(
        abs((rate - a) * (d - b) - (1 - rate - b) * (c - a)) < 1e-9
        and min(a, c) - 1e-9 <= rate <= max(a, c) + 1e-9
        and min(b, d) - 1e-9 <= 1 - rate <= max(b, d) + 1e-9
        for (a, b), (c, d) in itertools.pairwise(steps)
    )
    assert on
    assert scores.min() <= threshold <= scores.max()


def test_the_equal_error_is_near_that_of_scikit_learns_det_curve():
    numbers = np.random.default_rng(0)
    scores = np.concatenate([numbers.normal(1, 1, 3000), numbers.normal(-1, 1, 5000)])
    same = np.arange(8000) < 3000
    rate, threshold = verification.eer(scores, same)
    accept, reject, thresholds = det_curve(same, scores)
    at = np.abs(accept - reject).argmin()
    assert rate == pytest.approx((accept[at] + reject[at]) / 2, abs=5e-4)
    assert threshold == pytest.approx(thresholds[at], abs=5e-3)
    assert rate == pytest.approx(0.1587, abs=0.01)  # of two normal curves two deviations apart
    assert threshold == pytest.approx(0, abs=0.05)


def test_pairs_that_are_parted_have_no_error():
    assert verification.eer(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1]))[0] == 0
    assert verification.eer(np.array([0.1, 0.2, 0.8, 0.9]), np.array([1, 1, 0, 0]))[0] == 1


@given(cases(), st.floats(0.01, 1))
@thorough
def test_tar_at_far_is_at_the_lowest_threshold_that_is_allowed(case, target):
    scores, same = case
    strangers = int((~same).sum())
    if int(np.floor(target * strangers + 1e-9)) == 0:
        with pytest.raises(DataError, match="cannot be measured"):
            verification.tar_at_far(scores, same, target)
        return
    found = verification.tar_at_far(scores, same, target)
    assert (found.tar, found.far) == pytest.approx(rates(scores, same, found.threshold))
    assert found.far <= target + 1e-9
    candidates = [-np.inf, *np.nextafter(scores, np.inf), *scores]
    allowed = [t for t in candidates if rates(scores, same, t)[1] <= target + 1e-9]
    assert found.threshold == min(allowed)


def test_a_far_that_so_few_pairs_cannot_show_is_refused():
    scores, same = np.arange(100.0), np.arange(100) < 50
    with pytest.raises(DataError, match=r"FAR 0\.001 cannot be measured on 50 pairs.* 1000 at"):
        verification.tar_at_far(scores, same, 0.001)
    for target in (0, -1, 1.5, float("nan")):
        with pytest.raises(DataError, match="above 0 and is at most 1"):
            verification.tar_at_far(scores, same, target)


def test_every_probe_is_paired_with_every_identity():
    similarity = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.3]])
    scores, same = verification.all_pairs(similarity, np.array([0, 1, -1]))
    assert scores.tolist() == [0.9, 0.1, 0.2, 0.8, 0.4, 0.3]
    assert same.tolist() == [True, False, False, True, False, False]
    with pytest.raises(DataError, match="truth"):
        verification.all_pairs(similarity, np.array([0, 1, 2]))


@pytest.mark.parametrize("count", [1, 3, 99])
def test_examples_are_known_probes_with_their_own_and_with_the_most_alike_other(count):
    numbers = np.random.default_rng(0)
    similarity, truth = numbers.normal(size=(20, 5)), numbers.integers(-1, 5, size=20)
    rows, columns = verification.examples(similarity, truth, count)
    known = [row for row in range(20) if truth[row] >= 0][:count]
    assert rows.tolist() == known * 2
    assert columns[: len(known)].tolist() == truth[known].tolist()
    for row, column in zip(known, columns[len(known) :], strict=True):
        others = [score for i, score in enumerate(similarity[row]) if i != truth[row]]
        assert column != truth[row]
        assert similarity[row, column] == max(others)


def test_a_gallery_of_one_has_no_other_to_look_at():
    with pytest.raises(DataError, match="no other"):
        verification.examples(np.ones((3, 1)), np.zeros(3, int))


def test_the_summary_is_of_the_measures():
    numbers = np.random.default_rng(0)
    same = np.arange(300) < 60
    scores = numbers.normal(size=300) + same
    found = verification.summary(scores, same, 0.05)
    error, threshold = verification.eer(scores, same)
    assert found == {
        "auc": verification.auc(scores, same),
        "equal error rate": error,
        "threshold there": threshold,
        "TAR at FAR 5%": verification.tar_at_far(scores, same, 0.05).tar,
    }


def test_with_one_identity_pairs_and_probes_are_the_same():
    numbers = np.random.default_rng(1)
    scores, same = numbers.normal(size=50), np.arange(50) % 2 == 0
    truth = np.where(same, 0, identification.NOBODY)
    point = verification.tar_at_far(scores, same, 0.2)
    assert identification.dir_at_fpir(scores[:, None], truth, 0.2) == point
    assert identification.auc(scores[:, None], truth) == pytest.approx(
        verification.auc(scores, same)
    )


BROKEN = [
    ([0.1, np.nan], [0, 1], "NaN"),
    ([0.1, np.inf], [0, 1], "infinite"),
    ([0.1, 0.2], [1, 1], "pairs of one person and pairs of two"),
    ([0.1, 0.2], [0, 0], "pairs of one person and pairs of two"),
    ([], [], "pairs of one person and pairs of two"),
    ([0.1], [0, 1], "one each"),
    ([[0.1, 0.2]], [[0, 1]], "one each"),
    ([0.1, 0.2], [0, 2], "same is 1"),
]


@pytest.mark.parametrize(("scores", "same", "words"), BROKEN)
def test_pairs_that_cannot_be_judged_are_refused_by_every_judge(scores, same, words):
    for judge in (verification.roc, verification.auc, verification.eer):
        with pytest.raises(DataError, match=words):
            judge(np.array(scores), np.array(same))
    with pytest.raises(DataError, match=words):
        verification.tar_at_far(np.array(scores), np.array(same), 0.5)
