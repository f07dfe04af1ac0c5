"""Rules against loops over probes and identities, and against worlds in which one must win."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from facekit.common.errors import DataError
from facekit.evaluation import comparison, identification, rules, statistics
from facekit.evaluation.rules import Evidence


def evidence(seed: int = 0, probes: int = 7, images: int = 5, size: int = 6, **keys) -> Evidence:
    numbers = np.random.default_rng(seed)
    cohort = numbers.normal(size=(9, size)) + 0.5
    return Evidence(
        numbers.normal(size=(probes, size)),
        numbers.normal(size=(images, size)),
        cohort=cohort,
        **keys,
    )


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def people(
    seed: int,
    skill: float,
    clusters: int = 0,
    varied: bool = False,
    known: int = 120,
    probes: int = 270,
    size: int = 48,
) -> tuple[Evidence, np.ndarray]:
    """A world of people around `clusters` kinds of face, in images of varied quality or not."""
    numbers = np.random.default_rng(seed)
    centres = numbers.normal(size=(max(1, clusters), size)) * (1.5 if clusters else 0.0)

    def somebody(count: int) -> np.ndarray:
        return centres[numbers.integers(len(centres), size=count)] + numbers.normal(
            size=(count, size)
        )

    def image(faces: np.ndarray) -> np.ndarray:
        noise = numbers.uniform(0.2, 2.5, len(faces)) if varied else np.ones(len(faces))
        return faces + numbers.normal(size=faces.shape) * noise[:, None] / skill

    faces, cohort = somebody(known), somebody(200)
    truth = numbers.integers(known, size=probes)
    shown = faces[truth]
    strangers = np.arange(probes) % 4 == 0
    shown[strangers] = somebody(strangers.sum())
    truth[strangers] = identification.NOBODY
    return Evidence(image(shown), image(faces), cohort=cohort), truth


# --- the evidence


def test_a_template_is_the_mean_of_an_identitys_images_of_length_one():
    owner = np.array([1, 0, 1, 2, 0])
    some = evidence(owner=owner)
    for identity in range(3):
        expected = unit(some.gallery[owner == identity]).mean(0)
        np.testing.assert_allclose(some.templates[identity], expected, rtol=1e-5)
    assert some.similarity.shape == (7, 3)
    plain = identification.similarity(some.probes, some.templates)
    np.testing.assert_array_equal(some.similarity, plain)


def test_where_distances_count_a_template_is_the_plain_mean():
    owner = np.array([1, 0, 1, 2, 0])
    some = evidence(owner=owner, measure="euclidean")
    expected = [some.gallery[owner == identity].mean(0) for identity in range(3)]
    np.testing.assert_allclose(some.templates, expected, rtol=1e-5)
    by_hand = [[-math.dist(p, t) for t in expected] for p in some.probes]
    np.testing.assert_allclose(some.similarity, by_hand, rtol=1e-5)


def test_probes_can_be_changed():
    some = evidence()
    other = some.with_probes(some.probes[:1] * 3)
    np.testing.assert_allclose(other.similarity, some.similarity[:1], rtol=1e-6)


# --- each rule against a loop


def test_the_gap_is_to_the_best_of_the_others():
    some = evidence()
    found = rules.gap(some)
    for row, scores in enumerate(some.similarity.astype(float)):
        for column, score in enumerate(scores):
            others = [s for i, s in enumerate(scores) if i != column]
            assert found[row, column] == pytest.approx(score - max(others), abs=1e-12)


def test_equal_scores_have_no_gap_and_the_first_stays_first():
    some = Evidence(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0]]))
    assert rules.gap(some).tolist() == [[-1, 0, 0]]
    assert rules.gap(some).argmax() == some.similarity.argmax()


@pytest.mark.parametrize("k", [1, 3, 5, 16])
def test_the_share_is_a_softmax_over_the_k_most_alike(k):
    some = evidence()
    found = rules.top_k_softmax(some, k, sharpness=4.0)
    for row, scores in enumerate(4 * some.similarity.astype(float)):
        whole = sum(math.exp(s) for s in sorted(scores)[-k:])
        expected = [math.log(math.exp(s) / whole) for s in scores]
        np.testing.assert_allclose(found[row], expected, atol=1e-10)


def test_shares_near_one_are_still_told_apart():
    some = Evidence(np.array([[1.0, 0.0], [1.0, 0.001]]), np.array([[1.0, 0.0], [-1.0, 0.0]]))
    found = rules.top_k_softmax(some).max(1)
    assert found[0] > found[1]
    assert np.isfinite(rules.top_k_softmax(some, sharpness=1e4)).all()


@pytest.mark.parametrize("k", [2, 4, 9, 100])
def test_the_normalised_score_is_a_loop_over_probes_and_identities(k):
    some = evidence()
    found = rules.as_norm(some, k)

    def near(vector: np.ndarray) -> np.ndarray:
        cosines = [v @ vector / math.sqrt((v @ v) * (vector @ vector)) for v in some.cohort]
        return np.sort(cosines)[::-1][:k]

    for row, probe in enumerate(some.probes):
        for column, vector in enumerate(some.gallery):
            cosine = probe @ vector / math.sqrt((probe @ probe) * (vector @ vector))
            sides = [(cosine - near(v).mean()) / near(v).std() for v in (probe, vector)]
            assert found[row, column] == pytest.approx(np.mean(sides), rel=1e-4, abs=1e-4)


def test_the_normalised_score_does_not_mind_the_unit_of_distances():
    some = evidence(measure="euclidean")
    scaled = replace(
        some, probes=some.probes * 40, gallery=some.gallery * 40, cohort=some.cohort * 40
    )
    np.testing.assert_allclose(rules.as_norm(scaled), rules.as_norm(some), rtol=1e-4)


def test_a_cohort_of_one_kind_gives_no_infinite_score():
    some = replace(evidence(), cohort=np.ones((4, 6)))
    assert np.isfinite(rules.as_norm(some)).all()
    assert np.isfinite(rules.whitened(some)).all()


def test_whitening_makes_the_cohort_a_ball():
    numbers = np.random.default_rng(0)
    cohort = numbers.normal(size=(500, 4)) @ np.diag([5.0, 1.0, 1.0, 0.1]) + 3
    some = Evidence(cohort[:40], cohort[40:60], cohort=cohort)
    middle = cohort.mean(0)
    inverse = np.linalg.inv(np.cov(cohort, rowvar=False, bias=True))
    found = rules.whitened(some, shrinkage=0.0)
    for row, probe in enumerate(some.probes - middle):
        for column, vector in enumerate(some.gallery - middle):
            lengths = math.sqrt((probe @ inverse @ probe) * (vector @ inverse @ vector))
            assert found[row, column] == pytest.approx(probe @ inverse @ vector / lengths, abs=1e-5)
    centred = identification.similarity(some.probes - middle, some.gallery - middle)
    np.testing.assert_allclose(rules.whitened(some, shrinkage=1e6), centred, atol=1e-4)


def test_the_closest_image_is_the_best_of_each_identity():
    owner = np.array([1, 0, 1, 2, 0])
    some = evidence(owner=owner)
    every = identification.similarity(some.probes, some.gallery)
    expected = np.stack([every[:, owner == identity].max(1) for identity in range(3)], 1)
    np.testing.assert_array_equal(rules.closest_image(some), expected)
    np.testing.assert_array_equal(rules.closest_image(evidence()), evidence().similarity)


@pytest.mark.parametrize("name", ["threshold", "gap", "top_k_softmax"])
def test_these_rules_never_change_who_is_best(name):
    some = evidence(probes=200, images=30)
    found = rules.RULES[name](some)
    assert np.array_equal(found.argmax(1), some.similarity.argmax(1))


@pytest.mark.parametrize("name", rules.NAMES)
def test_a_rule_says_of_a_probe_what_it_says_of_it_alone(name):
    some, truth = people(0, 1.0, probes=60, known=20)
    rule = rules.make(name, some, truth)
    together = rule(some)
    assert together.shape == (60, 20)
    assert np.isfinite(together).all()
    for row in (0, 17, 59):
        alone = rule(some.with_probes(some.probes[[row]]))
        np.testing.assert_allclose(alone[0], together[row], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", rules.NAMES)
def test_in_another_order_the_identities_score_the_same(name):
    some, truth = people(0, 1.0, probes=60, known=20)
    order = np.random.default_rng(0).permutation(20)
    rule = rules.make(name, some, truth)
    other = replace(some, gallery=some.gallery[order])
    np.testing.assert_allclose(rule(other), rule(some)[:, order], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("gap", {"gallery": np.ones((1, 6))}, "two identities"),
        ("top_k_softmax", {"gallery": np.ones((1, 6))}, "two identities"),
        ("as_norm", {"cohort": None}, "cohort of two or more"),
        ("whitened", {"cohort": np.ones((1, 6))}, "cohort of two or more"),
        ("threshold", {"probes": np.full((2, 6), np.nan)}, "probe 0 holds NaN"),
        ("as_norm", {"cohort": np.ones((3, 7))}, "equal length"),
    ],
)
def test_what_a_rule_cannot_use_is_refused(name, change, words):
    with pytest.raises(DataError, match=words):
        rules.RULES[name](replace(evidence(), **change))


def test_a_gallery_of_one_is_decided_by_the_plain_rule():
    some = replace(evidence(), gallery=np.ones((1, 6)))
    assert rules.threshold(some).shape == (7, 1)


def test_unknown_rules_are_refused_with_those_there_are():
    with pytest.raises(DataError, match=r"no rule 'best'.*threshold, gap.*logistic"):
        rules.make("best", evidence(), np.zeros(7))


# --- the rule that is fitted


def test_the_weights_are_those_of_scikit_learn():
    some, truth = people(1, 0.8)
    rule = rules.make("logistic", some, truth)
    features, best = rules.signs(some)
    assert np.array_equal(best, rules.as_norm(some).argmax(1))
    cohort = identification.similarity(some.probes, some.cohort).mean(1)
    rows = np.arange(len(best))
    plain = [some.similarity[rows, best], rules.gap(some)[rows, best], rules.as_norm(some).max(1)]
    np.testing.assert_allclose(features, np.stack([*plain, cohort], 1), rtol=1e-5)
    said = (best == truth) | (truth < 0)
    mean, spread = features[said].mean(0), features[said].std(0)
    model = LogisticRegression().fit((features[said] - mean) / spread, truth[said] >= 0)
    odds = model.decision_function((features - mean) / spread)
    np.testing.assert_allclose(rule(some).max(1), odds, atol=1e-6)
    assert np.array_equal(rule(some).argmax(1), best)


def test_without_a_cohort_it_weighs_what_there_is():
    some, truth = people(1, 0.8)
    some = replace(some, cohort=None)
    features, best = rules.signs(some)
    assert features.shape == (len(truth), 2)
    assert np.array_equal(best, some.similarity.argmax(1))
    assert rules.make("logistic", some, truth)(some).shape == some.similarity.shape


def test_log_odds_of_0_are_the_best_threshold():
    fitted, judged = people(2, 0.7, probes=2000), people(3, 0.7, probes=4000)
    scores = rules.make("logistic", *fitted)(judged[0])
    best = identification.choose_threshold(scores, judged[1]).accuracy
    assert identification.accuracy(scores, judged[1], 0.0) > best - 0.015
    shifted = [identification.accuracy(scores, judged[1], t) for t in (-4.0, 4.0)]
    assert identification.accuracy(scores, judged[1], 0.0) >= max(shifted) - 0.005


@pytest.mark.parametrize("truth", [np.zeros(7, int), np.full(7, -1)])
def test_weights_need_both_kinds_of_probes(truth):
    with pytest.raises(DataError, match="probes that are named right and probes without"):
        rules.make("logistic", evidence(), truth)


def test_a_calibrated_rule_brings_its_threshold():
    some, truth = people(1, 0.8)
    rule = rules.make("logistic", some, truth)
    scores = rule(some)
    value, share, (low, high) = rules.choose_threshold(rule, scores, truth)
    assert value == 0
    assert share == identification.accuracy(scores, truth, 0.0)
    assert low < share < high
    chosen = rules.choose_threshold(rules.threshold, some.similarity, truth)
    assert chosen == identification.choose_threshold(some.similarity, truth)


# --- comparing them


def few(some: Evidence, truth: np.ndarray, **settings) -> comparison.Comparison:
    return comparison.compare(some, truth, **{"repeats": 3, "count": 100} | settings)


def test_among_kinds_of_faces_and_bad_images_another_rule_is_recommended():
    found = few(*people(0, 0.9, clusters=6, varied=True, probes=540))
    assert found.recommended in ("as_norm", "logistic", "whitened")
    row = found.table.loc[found.recommended]
    assert 0 < row["gain low"] < row["gain"] < row["gain high"]
    assert found.table.loc["as_norm", "auc"] > found.table.loc["threshold", "auc"] + 0.02
    assert found.recommended in found.reason
    assert f"{100 * row['gain']:+.1f} points" in found.reason


def test_where_no_rule_is_better_the_plain_one_stays():
    kept = [few(*people(seed, 0.7)) for seed in range(5)]
    assert sum(one.recommended == "threshold" for one in kept) >= 4
    one = next(one for one in kept if one.recommended == "threshold")
    assert one.reason.startswith("keep the plain threshold")


def cross_validated(scores: np.ndarray, truth: np.ndarray) -> float:
    """The accuracy at the threshold that is best on the other folds, by a loop over probes."""
    right = 0
    for repeat in range(3):
        for fold in statistics.folds(truth, seed=repeat):
            rest = [row for row in range(len(truth)) if row not in set(fold.tolist())]
            value = identification.choose_threshold(scores[rest], truth[rest]).value
            for row in fold:
                best = scores[row].argmax()
                right += truth[row] == (best if scores[row, best] >= value else -1)
    return right / 3 / len(truth)


def test_the_table_holds_what_the_open_set_functions_say():
    some, truth = people(4, 0.7)
    found = few(some, truth)
    assert list(found.table.index) == [name for name in rules.NAMES if name != "closest_image"]
    for name in ("threshold", "gap", "as_norm"):
        scores = rules.RULES[name](some)
        row = found.table.loc[name]
        assert row["auc"] == pytest.approx(identification.auc(scores, truth))
        assert row["DIR"] == identification.dir_at_fpir(scores, truth, 0.1).dir
        assert row["accuracy"] == pytest.approx(cross_validated(scores, truth), abs=1e-9)
        for column in ("accuracy", "DIR", "auc"):
            assert row[f"{column} low"] <= row[column] <= row[f"{column} high"]
        gain = row["accuracy"] - found.table.loc["threshold", "accuracy"]
        assert row["gain"] == pytest.approx(gain, abs=1e-12)


def test_weights_are_fitted_on_the_other_folds():
    some, truth = people(4, 0.7)
    right = np.zeros(len(truth))
    for repeat in range(3):
        for fold in statistics.folds(truth, seed=repeat):
            rest = np.setdiff1d(np.arange(len(truth)), fold)
            rule = rules.make("logistic", some.with_probes(some.probes[rest]), truth[rest])
            scores = rule(some.with_probes(some.probes[fold]))
            answers = np.where(scores.max(1) >= 0, scores.argmax(1), -1)
            right[fold] += answers == truth[fold]
    found = few(some, truth).table.loc["logistic", "accuracy"]
    assert found == pytest.approx(right.mean() / 3, abs=1e-9)


def test_the_interval_of_a_gain_is_wider_for_the_number_of_rules():
    some, truth = people(4, 0.7)
    every = few(some, truth, count=200).table
    alone = few(replace(some, cohort=None), truth, count=200)
    assert list(alone.table.index) == ["threshold", "gap", "top_k_softmax", "logistic"]
    widths = [t.loc["gap", "gain high"] - t.loc["gap", "gain low"] for t in (every, alone.table)]
    assert widths[0] > widths[1]
    assert pd.isna(every.loc["threshold", "gain low"])


def test_nothing_is_learned_from_noise():
    """With truths dealt out at random, only what leaks could beat the constant answer."""
    came, tuned = [], []
    for seed in range(6):
        some, truth = people(seed, 0.7)
        truth = np.random.default_rng(seed).permutation(truth)
        found = few(some, truth)
        came.append(found.table["accuracy"].max())
        tuned.append(identification.choose_threshold(some.similarity, truth).accuracy)
    constant = np.mean(truth < 0)
    assert np.mean(came) < constant + 0.01
    assert np.mean(tuned) > constant


def test_with_one_identity_there_is_nobody_to_leave_out():
    some, truth = people(0, 1.0)
    with pytest.raises(DataError, match="two people of each kind"):
        few(replace(some, gallery=some.gallery[:1]), np.minimum(truth, 0))


def test_several_images_bring_the_closest_image_into_the_table():
    some, truth = people(0, 1.0)
    double = replace(
        some, gallery=np.concatenate([some.gallery, some.gallery]), owner=np.tile(np.arange(120), 2)
    )
    found = few(double, truth)
    assert list(found.table.index) == list(rules.NAMES)
    assert found.table.loc["closest_image", "auc"] == pytest.approx(
        found.table.loc["threshold", "auc"]
    )


def test_an_fpir_that_so_few_strangers_cannot_show_is_left_open():
    some, truth = people(0, 1.0, probes=80)
    found = few(some, truth, target=0.01)
    assert found.table["DIR"].isna().all()
    assert "FPIR 0.01 cannot be measured on 20 probes" in found.notes[0]
    assert few(some, truth).notes == ()


@pytest.mark.parametrize("kind", [True, False])
def test_rules_are_compared_on_both_kinds_only(kind):
    some, truth = people(0, 1.0)
    rows = np.flatnonzero((truth >= 0) == kind)
    with pytest.raises(DataError, match="need both"):
        few(some.with_probes(some.probes[rows]), truth[rows])


def test_broken_embeddings_stop_the_comparison():
    some, truth = people(0, 1.0)
    probes = some.probes.copy()
    probes[5, 2] = np.nan
    with pytest.raises(DataError, match=r"probe 5 holds NaN or infinity \(1 of 270"):
        few(some.with_probes(probes), truth)
