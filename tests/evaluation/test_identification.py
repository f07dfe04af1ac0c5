"""Open-set scoring against loops over probes, scikit-learn and the closed form of Wilson."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.metrics.pairwise import cosine_similarity, euclidean_distances

from facekit.common.errors import DataError
from facekit.evaluation import identification
from facekit.models.heads import LargeMarginGaussianMixture

thorough = settings(max_examples=100)

GRID = [np.float32(k / 4) for k in range(-4, 5)]
NEIGHBOURS = [np.nextafter(np.float32(0.5), np.float32(side)) for side in (-1, 1)]


@st.composite
def cases(draw) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties and neighbouring floats, and the truth: of any mixture."""
    probes, gallery = draw(st.integers(1, 8)), draw(st.integers(1, 4))
    score = st.sampled_from(GRID + NEIGHBOURS)
    if draw(st.booleans()):
        score = st.floats(-1, 1, width=32)
    rows = st.lists(score, min_size=gallery, max_size=gallery)
    similarity = draw(st.lists(rows, min_size=probes, max_size=probes))
    least = draw(st.sampled_from([-1, 0]))
    most = draw(st.sampled_from([least, gallery - 1]))
    truth = draw(st.lists(st.integers(least, most), min_size=probes, max_size=probes))
    return np.array(similarity, np.float32), np.array(truth)


def candidates(similarity: np.ndarray) -> list[float]:
    """Thresholds that show every way of accepting: the scores, between them, beyond them."""
    scores = sorted({float(row.max()) for row in similarity})
    middles = [(a + b) / 2 for a, b in itertools.pairwise(scores)]
    return [scores[0] - 1, *scores, *middles, scores[-1] + 1]


def answer(row: np.ndarray, threshold: float) -> int:
    """The gallery index that one probe is given, -1 for nobody: the rule in plain Python."""
    best = max(range(len(row)), key=lambda i: float(row[i]))  # the first of equals
    return best if float(row[best]) >= threshold else -1


def plain_accuracy(similarity: np.ndarray, truth: np.ndarray, threshold: float) -> float:
    answers = [answer(row, threshold) for row in similarity]
    return sum(a == t for a, t in zip(answers, truth, strict=True)) / len(truth)


def plain_rates(similarity, truth, threshold) -> tuple[float, float]:
    mated = right = unmated = false = 0
    for row, wanted in zip(similarity, truth, strict=True):
        given_ = answer(row, threshold)
        if wanted >= 0:
            mated, right = mated + 1, right + (given_ == wanted)
        else:
            unmated, false = unmated + 1, false + (given_ >= 0)
    return (right / mated if mated else math.nan), (false / unmated if unmated else math.nan)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson's bounds as the two roots of (share - p)^2 = z^2 p (1 - p) / count."""
    z2, share = 1.959964**2, hits / count
    a, b, c = 1 + z2 / count, -(2 * share + z2 / count), share**2
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def test_similarity_is_the_cosine():
    numbers = np.random.default_rng(0)
    probes, gallery = numbers.normal(size=(7, 16)), numbers.normal(size=(5, 16)) * 30
    found = identification.similarity(probes, gallery)
    assert found.shape == (7, 5)
    np.testing.assert_allclose(found, cosine_similarity(probes, gallery), atol=1e-6)
    by_hand = [[p @ g / math.sqrt((p @ p) * (g @ g)) for g in gallery] for p in probes]
    np.testing.assert_allclose(found, by_hand, atol=1e-6)


def test_a_vector_of_zeros_is_like_nobody():
    assert identification.similarity(np.zeros((1, 3)), np.eye(3)).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("probes", "gallery", "words"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), "equal length"),
        (np.ones(3), np.ones((2, 3)), "equal length"),
        (np.ones((2, 3)), np.ones((1, 2, 3)), "equal length"),
        (np.full((1, 3), np.nan), np.ones((2, 3)), "NaN"),
        (np.ones((2, 3)), np.full((1, 3), np.inf), "infinity"),
    ],
)
def test_embeddings_that_cannot_be_compared_are_refused(probes, gallery, words):
    with pytest.raises(DataError, match=words):
        identification.similarity(probes, gallery)


@given(cases())
@thorough
def test_rates_equal_a_loop_over_the_probes(case):
    similarity, truth = case
    thresholds = candidates(similarity)
    found, false = identification.dir_fpir(similarity, truth, np.array(thresholds))
    assert found.shape == false.shape == (len(thresholds),)
    expected = [plain_rates(similarity, truth, t) for t in thresholds]
    np.testing.assert_array_equal(np.column_stack([found, false]), expected)


@given(cases())
@thorough
def test_accuracy_is_the_mixture_of_both_rates(case):
    similarity, truth = case
    share = np.mean(truth >= 0)
    for threshold in candidates(similarity):
        found, false = identification.dir_fpir(similarity, truth, threshold)
        known = share * found if share else 0.0
        unknown = (1 - share) * (1 - false) if share < 1 else 0.0
        accuracy = identification.accuracy(similarity, truth, threshold)
        assert accuracy == plain_accuracy(similarity, truth, threshold)
        assert accuracy == pytest.approx(known + unknown, abs=1e-12)


def test_the_mixture_is_exact_where_fractions_are():
    similarity = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.6], [0.3, 0.1]], np.float32)
    truth = np.array([0, 1, -1, -1])
    for threshold, found, false in ((0.75, 1, 0), (0.5, 1, 0.5), (0.85, 0.5, 0), (0.0, 1, 1)):
        assert identification.dir_fpir(similarity, truth, threshold) == (found, false)
        mixture = 0.5 * found + 0.5 * (1 - false)
        assert identification.accuracy(similarity, truth, threshold) == mixture


@given(cases())
@thorough
def test_rates_only_fall_as_the_threshold_rises(case):
    similarity, truth = case
    rates = identification.dir_fpir(similarity, truth, np.array(sorted(candidates(similarity))))
    for rate in rates:
        assert np.isnan(rate).all() or (np.diff(rate) <= 0).all()


def test_a_score_equal_to_the_threshold_is_accepted():
    score = np.float32(0.3)
    similarity, above = np.array([[score]]), np.nextafter(float(score), 1)
    assert identification.identify(similarity, ["n000001"], float(score)) == ["n000001"]
    assert identification.identify(similarity, ["n000001"], above) == ["n000000"]
    assert identification.dir_fpir(similarity, np.array([0]), float(score))[0] == 1
    assert identification.dir_fpir(similarity, np.array([0]), above)[0] == 0
    assert identification.dir_fpir(similarity, np.array([-1]), float(score))[1] == 1
    assert identification.dir_fpir(similarity, np.array([-1]), above)[1] == 0


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3)])
def test_rates_have_the_shape_of_the_thresholds(shape):
    similarity, truth = np.array([[0.2, 0.4], [0.5, 0.1]]), np.array([1, -1])
    for rate in identification.dir_fpir(similarity, truth, np.full(shape, 0.3)):
        assert np.shape(rate) == shape


def test_rates_nobody_can_measure_are_nan():
    similarity = np.array([[0.2, 0.4]])
    found, false = identification.dir_fpir(similarity, np.array([-1]), 0.3)
    assert np.isnan(found)
    assert false == 1
    found, false = identification.dir_fpir(similarity, np.array([1]), 0.3)
    assert found == 1
    assert np.isnan(false)


def test_rates_are_those_of_scikit_learns_roc_when_every_best_match_is_right():
    numbers = np.random.default_rng(0)
    best = np.concatenate([numbers.normal(0.6, 0.2, 80), numbers.normal(0.3, 0.2, 40)]).round(2)
    truth = np.array([0] * 80 + [-1] * 40)
    similarity = np.stack([best, best - 1], axis=1)
    false, found, thresholds = roc_curve(truth >= 0, best, drop_intermediate=False)
    ours = identification.dir_fpir(similarity, truth, thresholds)
    np.testing.assert_array_equal(ours[0], found)
    np.testing.assert_array_equal(ours[1], false)


@given(cases())
@thorough
def test_the_chosen_threshold_is_as_good_as_any_and_gives_what_it_says(case):
    similarity, truth = case
    chosen = identification.choose_threshold(similarity, truth)
    best = max(plain_accuracy(similarity, truth, t) for t in candidates(similarity))
    assert chosen.accuracy == best
    assert type(chosen.value) is float
    assert plain_accuracy(similarity, truth, chosen.value) == best
    assert identification.accuracy(similarity, truth, chosen.value) == best
    names = [f"n{i + 1:06d}" for i in range(similarity.shape[1])]
    wanted = [names[t] if t >= 0 else "n000000" for t in truth]
    answers = identification.identify(similarity, names, chosen.value)
    assert sum(a == w for a, w in zip(answers, wanted, strict=True)) / len(truth) == best
    share = chosen.accuracy
    low, high = chosen.interval
    assert 0 <= low <= share <= high <= 1
    assert chosen.interval == pytest.approx(wilson(round(share * len(truth)), len(truth)), abs=1e-6)


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (0, 40), (700, 1001), (2000, 2000)])
def test_the_interval_is_wilsons_and_holds_the_share(hits, count):
    low, high = identification.wilson_interval(hits, count)
    assert 0 <= low <= hits / count <= high <= 1
    assert (low, high) == pytest.approx(wilson(hits, count), abs=1e-6)
    assert identification.wilson_interval(hits / count * count, count) == (low, high), (
        "rounding apart"
    )


def test_the_interval_of_seven_in_ten_is_the_published_one():
    low, high = identification.wilson_interval(7, 10)
    assert (low, high) == pytest.approx((0.3968, 0.8922), abs=5e-5)


def test_the_threshold_lies_in_the_middle_of_the_widest_best_stretch():
    similarity, truth = np.array([[0.1], [0.2], [0.8]]), np.array([-1, -1, 0])
    assert identification.choose_threshold(similarity, truth).value == pytest.approx(0.5)
    similarity, truth = np.array([[0.1], [0.2], [0.3], [0.9]]), np.array([-1, 0, -1, 0])
    assert identification.choose_threshold(similarity, truth).value == pytest.approx(0.6)


def test_with_nobody_unknown_all_are_accepted_and_with_nobody_known_none():
    similarity = np.array([[0.4, 0.1], [0.2, 0.3]])
    all_known = identification.choose_threshold(similarity, np.array([0, 1]))
    assert all_known.value < 0.3
    assert all_known.accuracy == 1
    none_known = identification.choose_threshold(similarity, np.array([-1, -1]))
    assert none_known.value > 0.4
    assert none_known.accuracy == 1


def test_neighbouring_float32_scores_are_told_apart():
    low = np.float32(0.7)
    high = np.nextafter(low, np.float32(1))
    similarity, truth = np.array([[low], [high]], np.float32), np.array([-1, 0])
    chosen = identification.choose_threshold(similarity, truth)
    assert chosen.accuracy == 1
    assert float(low) < chosen.value <= float(high)
    assert identification.identify(similarity, ["n000009"], chosen.value) == ["n000000", "n000009"]


def test_neighbouring_float64_scores_are_told_apart():
    low, high = 0.7, np.nextafter(0.7, 1)
    similarity, truth = np.array([[low], [high]]), np.array([-1, 0])
    chosen = identification.choose_threshold(similarity, truth)
    assert chosen.accuracy == identification.accuracy(similarity, truth, chosen.value) == 1


def test_equal_scores_are_accepted_or_refused_together():
    similarity, truth = np.full((5, 1), 0.5), np.array([-1, 0, 0, -1, -1])
    chosen = identification.choose_threshold(similarity, truth)
    assert chosen.accuracy == 0.6
    assert chosen.value > 0.5


def test_a_probe_whose_best_match_is_wrong_has_no_say():
    similarity = np.array([[0.3, 0.1], [0.6, 0.2], [0.9, 0.1]])
    truth = np.array([-1, 0, 1])
    alone = identification.choose_threshold(similarity[:2], truth[:2])
    chosen = identification.choose_threshold(similarity, truth)
    assert 0.3 < alone.value <= 0.6
    assert 0.3 < chosen.value <= 0.6
    assert chosen.accuracy == pytest.approx(2 / 3)


BROKEN = [
    (np.array([[0.1, np.nan]]), [0], "NaN"),
    (np.array([[0.1, np.inf]]), [0], "infinite"),
    (np.array([0.1, 0.2]), [0, 1], "probes x gallery"),
    (np.zeros((0, 3)), [], "probes x gallery"),
    (np.zeros((3, 0)), [-1, -1, -1], "probes x gallery"),
    (np.zeros((2, 2)), [0], "2 probes"),
    (np.zeros((2, 2)), [[0, 1]], "2 probes"),
    (np.zeros((2, 2)), [0, 2], "truth"),
    (np.zeros((2, 2)), [0, -2], "truth"),
]


@pytest.mark.parametrize(("similarity", "truth", "words"), BROKEN)
def test_scores_and_truth_that_do_not_fit_are_refused_by_every_judge(similarity, truth, words):
    for judge in (identification.dir_fpir, identification.accuracy):
        with pytest.raises(DataError, match=words):
            judge(similarity, np.array(truth), 0.5)
    with pytest.raises(DataError, match=words):
        identification.choose_threshold(similarity, np.array(truth))


def test_labels_become_places_in_the_gallery():
    found = identification.truth_indices(["n000007", "n000000", "n000002"], ["n000002", "n000007"])
    assert found.tolist() == [1, -1, 0]


def test_a_label_that_is_no_identity_is_named():
    with pytest.raises(DataError, match="n000005"):
        identification.truth_indices(["n000005"], ["n000002", "n000007"])


def test_of_equal_scores_the_first_identity_is_the_answer():
    assert identification.identify(np.array([[0.5, 0.5]]), ["n000001", "n000002"], 0.1) == [
        "n000001"
    ]


# --- other measures


def vectors(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_the_euclidean_measure_is_the_negative_distance():
    probes, gallery = vectors(0, 7, 16), vectors(1, 5, 16) * 3
    found = identification.similarity(probes, gallery, "euclidean")
    np.testing.assert_allclose(found, -euclidean_distances(probes, gallery), rtol=1e-5)
    near = probes + np.float32(1e-4)
    own = np.diag(identification.similarity(probes + 100, near + 100, "euclidean"))
    np.testing.assert_allclose(own, -4e-4, rtol=0.1)  # a small difference of large vectors


def test_the_euclidean_measure_ranks_as_the_gaussian_head_does():
    head = LargeMarginGaussianMixture(6, 5)
    x = torch.from_numpy(vectors(0, 7, 6))
    found = identification.similarity(x.numpy(), head.weight.detach().numpy(), head.similarity)
    logits = head(x).detach().numpy()
    np.testing.assert_allclose(-(found**2) / 2, logits, rtol=1e-4, atol=1e-5)


def test_an_unknown_measure_is_refused_with_those_there_are():
    with pytest.raises(DataError, match=r"'angle'; choose one of: cosine, euclidean"):
        identification.similarity(vectors(0, 2, 3), vectors(1, 2, 3), "angle")


def test_the_broken_embedding_is_named():
    broken = vectors(0, 5, 3)
    broken[3, 1] = np.nan
    broken[4, 1] = np.inf
    with pytest.raises(DataError, match=r"probe 3 holds NaN or infinity \(2 of 5 such\)"):
        identification.similarity(broken, vectors(1, 2, 3))
    with pytest.raises(DataError, match=r"gallery vector 3 holds"):
        identification.similarity(vectors(1, 2, 3), broken)


# --- ranks


@given(cases())
@thorough
def test_ranks_equal_a_loop(case):
    similarity, truth = case
    places = []
    for row, own in zip(similarity, truth, strict=True):
        if own >= 0:
            order = sorted(range(len(row)), key=lambda i: -float(row[i]))  # stable: first of equals
            places.append(order.index(own))
    for k in (1, 2, 4):
        share = np.mean([place < k for place in places]) if places else math.nan
        np.testing.assert_allclose(identification.rank_k(similarity, truth, k), share)


def test_rank_k_rises_to_one():
    similarity, truth = vectors(0, 40, 9), np.arange(40) % 9
    shares = identification.rank_k(similarity, truth, np.arange(1, 10))
    assert (np.diff(shares) >= 0).all()
    assert shares[-1] == 1
    assert shares[0] == np.mean(similarity.argmax(1) == truth)


# --- the curve of both errors


@st.composite
def mixed(draw) -> tuple[np.ndarray, np.ndarray]:
    similarity, truth = draw(cases())
    truth = np.concatenate([[-1, 0], truth])
    rows = draw(st.lists(st.integers(0, len(similarity) - 1), min_size=2, max_size=2))
    return np.concatenate([similarity[rows], similarity]), truth


@given(mixed())
@thorough
def test_the_curve_is_exact_and_its_auc_that_under_it(case):
    similarity, truth = case
    curve = identification.curve(similarity, truth)
    assert curve.thresholds[0] == np.inf
    assert (curve.dir[0], curve.fpir[0], curve.fpir[-1]) == (0, 0, 1)
    for threshold, found, false in zip(*curve, strict=True):
        assert (found, false) == plain_rates(similarity, truth, threshold)
    assert set(curve.thresholds[1:]) == {float(row.max()) for row in similarity}
    auc = identification.auc(similarity, truth)
    assert auc == pytest.approx(np.trapezoid(curve.dir, curve.fpir), abs=1e-12)
    right = (similarity.argmax(1) == truth) & (truth >= 0)
    told = right | (truth < 0)
    if right.any():
        roc = roc_auc_score(truth[told] >= 0, similarity.max(1)[told])
        assert auc == pytest.approx(right.sum() / (truth >= 0).sum() * roc)
    else:
        assert auc == 0
    assert auc <= identification.rank_k(similarity, truth, 1) + 1e-12


@given(mixed(), st.floats(0.01, 1))
@thorough
def test_dir_at_fpir_is_at_the_lowest_threshold_that_is_allowed(case, target):
    similarity, truth = case
    strangers = int((truth < 0).sum())
    if math.floor(target * strangers + 1e-9) == 0:
        with pytest.raises(DataError, match="cannot be measured"):
            identification.dir_at_fpir(similarity, truth, target)
        return
    threshold, found, false = identification.dir_at_fpir(similarity, truth, target)
    assert (found, false) == plain_rates(similarity, truth, threshold)
    assert false <= target + 1e-9
    best = [float(row.max()) for row in similarity]
    tried = [-math.inf, *best, *(float(np.nextafter(b, math.inf)) for b in best)]
    allowed = [t for t in tried if plain_rates(similarity, truth, t)[1] <= target + 1e-9]
    assert threshold == min(allowed)


def test_29_false_answers_of_a_hundred_are_29_per_cent():
    """As a float 0.29 * 100 is a little less than 29."""
    similarity = np.concatenate([np.arange(100.0), [99.0]])[:, None]
    truth = np.append(np.full(100, -1), 0)
    assert identification.dir_at_fpir(similarity, truth, 0.29).fpir == 0.29
    with pytest.raises(DataError, match=r"FPIR 0\.001 cannot be measured on 100 .*takes 1000 at"):
        identification.dir_at_fpir(similarity, truth, 0.001)


@pytest.mark.parametrize("truth", [[0, 0], [-1, -1]])
def test_a_curve_needs_probes_of_both_kinds(truth):
    similarity, truth = np.array([[0.1], [0.2]]), np.array(truth)
    lacking = "without" if truth[0] == 0 else "with"
    for judge in (
        identification.curve,
        identification.auc,
        lambda s, t: identification.dir_at_fpir(s, t, 0.5),
        lambda s, t: identification.best_threshold(s, t, prior=0.5),
    ):
        with pytest.raises(DataError, match=f"no probe {lacking} a match"):
            judge(similarity, truth)


# --- another mixture


@given(mixed(), st.floats(0.05, 0.95))
@thorough
def test_the_threshold_for_another_mixture_is_the_best_for_it(case, prior):
    similarity, truth = case

    def accuracy(threshold: float) -> float:
        found, false = plain_rates(similarity, truth, threshold)
        return prior * found + (1 - prior) * (1 - false)

    best = max(map(accuracy, candidates(similarity)))
    assert accuracy(identification.best_threshold(similarity, truth, prior)) == pytest.approx(best)


@given(mixed())
@thorough
def test_the_mixture_that_is_there_changes_nothing(case):
    similarity, truth = case
    plain = identification.best_threshold(similarity, truth)
    assert identification.best_threshold(similarity, truth, float(np.mean(truth >= 0))) == plain


# --- the plateau, and thresholds of any kind


@given(cases())
@thorough
def test_the_whole_plateau_is_as_good_as_any_and_ends_where_it_ends(case):
    similarity, truth = case
    low, high = identification.plateau(similarity, truth)
    chosen = identification.choose_threshold(similarity, truth)
    assert low < chosen.value <= high
    inside = [t for t in [*candidates(similarity), high, np.nextafter(low, 9)] if low < t <= high]
    for threshold in inside:
        assert plain_accuracy(similarity, truth, threshold) == chosen.accuracy
    scores = {float(row.max()) for row in similarity}
    assert low in scores | {-math.inf}
    assert high in scores | {math.inf}
    assert not any(low < score < high for score in scores)


def test_a_threshold_of_nan_is_refused_and_any_other_taken():
    similarity, truth = np.array([[0.1, 0.3], [0.2, 0.1]]), np.array([1, -1])
    for judge in (
        lambda t: identification.dir_fpir(similarity, truth, t),
        lambda t: identification.accuracy(similarity, truth, t),
        lambda t: identification.identify(similarity, ["n000001", "n000002"], t),
    ):
        with pytest.raises(DataError, match="NaN"):
            judge(float("nan"))
    for high, answers in (
        (-7.0, ["n000002", "n000001"]),
        (-math.inf, ["n000002", "n000001"]),
        (7.0, ["n000000"] * 2),
        (math.inf, ["n000000"] * 2),
    ):
        assert identification.identify(similarity, ["n000001", "n000002"], high) == answers


def test_an_identity_that_comes_twice_is_named():
    with pytest.raises(DataError, match="n000002 comes more than once"):
        identification.truth_indices(["n000001"], ["n000002", "n000001", "n000002"])


def test_a_gallery_of_one_can_be_judged():
    similarity, truth = np.array([[0.9], [0.8], [0.1], [0.2]]), np.array([0, 0, -1, -1])
    assert identification.choose_threshold(similarity, truth).accuracy == 1
    assert identification.auc(similarity, truth) == 1
    assert identification.rank_k(similarity, truth, 1) == 1
