"""How sure a threshold is: against plain loops, closed forms and whole matrices."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekit.common.errors import DataError
from facekit.evaluation import identification, statistics, verification

thorough = settings(max_examples=50)


def world(seed: int, probes: int = 60, gallery: int = 8, skill: float = 0.5):
    """Scores in which a mate stands out by `skill`, and the truth; one in four has no mate."""
    numbers = np.random.default_rng(seed)
    scores = numbers.normal(size=(probes, gallery)).round(2)
    truth = numbers.integers(gallery, size=probes)
    mated = np.arange(probes) % 4 > 0
    scores[mated, truth[mated]] += skill
    truth[~mated] = identification.NOBODY
    return scores, truth


@given(st.integers(0, 10_000), st.integers(1, 6), st.floats(-2, 2))
@thorough
def test_two_columns_decide_as_the_whole_matrix_does(seed, gallery, threshold):
    scores, truth = world(seed, probes=16, gallery=gallery)
    few, who = statistics.compact(scores, truth)
    assert few.shape == (16, 2)
    for judge in (identification.dir_fpir, identification.accuracy):
        assert judge(few, who, threshold) == judge(scores, truth, threshold)
    for judge in (identification.choose_threshold, identification.plateau, identification.auc):
        assert judge(few, who) == judge(scores, truth)
    assert identification.dir_at_fpir(few, who, 0.5) == identification.dir_at_fpir(
        scores, truth, 0.5
    )


def test_a_draw_takes_whole_people_and_keeps_the_mixture():
    truth = np.random.default_rng(0).integers(12, size=50) * 3
    truth[::4] = identification.NOBODY
    identities = np.unique(truth[truth >= 0])
    seen = []

    def look(rows: np.ndarray) -> float:
        taken = np.bincount(rows, minlength=50)
        drawn = 0
        for identity in identities:
            (times,) = set(taken[truth == identity])  # all probes of a person come along
            drawn += times
        assert drawn == len(identities)
        assert taken[truth < 0].sum() == (truth < 0).sum()  # every stranger is somebody else
        seen.append(taken)
        return 0.0

    assert statistics.bootstrap(look, truth, 30).shape == (30,)
    assert len({tuple(taken) for taken in seen}) > 25


def test_the_spread_of_a_share_is_the_binomials():
    right = np.arange(400) % 4 == 0
    samples = statistics.bootstrap(lambda rows: right[rows].mean(), np.arange(400), count=4000)
    assert samples.std() == pytest.approx(math.sqrt(0.25 * 0.75 / 400), rel=0.05)
    low, high = statistics.interval(samples)
    assert (low, high) == pytest.approx(identification.wilson_interval(100, 400), abs=0.006)


def test_people_whose_probes_fall_together_make_it_less_sure():
    right = np.repeat(np.arange(100) % 4 == 0, 4)

    def share(rows: np.ndarray) -> float:
        return right[rows].mean()

    alone = statistics.bootstrap(share, np.arange(400), count=2000).std()
    together = statistics.bootstrap(share, np.repeat(np.arange(100), 4), count=2000).std()
    assert together == pytest.approx(2 * alone, rel=0.1)


def test_the_same_seed_gives_the_same_samples():
    first, second, other = (
        statistics.bootstrap(lambda rows: [rows.mean(), 1.0], np.arange(30), count=5, seed=seed)
        for seed in (3, 3, 4)
    )
    assert first.shape == (5, 2)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_an_interval_is_the_middle_of_the_samples():
    samples = np.arange(1001.0)
    assert statistics.interval(samples) == pytest.approx((25, 975))
    assert statistics.interval(samples, 0.5) == pytest.approx((250, 750))
    low, high = statistics.interval(np.stack([samples, np.where(samples == 7, np.nan, 1)], 1))
    assert low[0] == pytest.approx(25)
    assert np.isnan([low[1], high[1]]).all()


@given(st.integers(0, 1000), st.integers(2, 6))
@thorough
def test_folds_part_the_people(seed, count):
    truth = np.random.default_rng(seed).integers(-1, 14, size=70)
    truth[:9] = identification.NOBODY
    parts = statistics.folds(truth, count, seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(70))
    known = [set(truth[part].tolist()) - {-1} for part in parts]
    assert sum(map(len, known)) == len(set().union(*known))
    for people in (list(map(len, known)), [(truth[part] < 0).sum() for part in parts]):
        assert max(people) - min(people) <= 1


def test_folds_are_drawn_by_the_seed():
    first, second, other = (statistics.folds(np.arange(40), seed=seed) for seed in (0, 0, 1))
    assert all(map(np.array_equal, first, second))
    assert not all(map(np.array_equal, first, other))


def test_the_optimism_is_that_of_whole_matrices():
    scores, truth = world(1)
    chosen = identification.choose_threshold(scores, truth)

    def study(rows: np.ndarray) -> list[float]:
        value, share, _ = identification.choose_threshold(scores[rows], truth[rows])
        return [
            value,
            identification.accuracy(scores[rows], truth[rows], chosen.value),
            share - identification.accuracy(scores, truth, value),
        ]

    values, shares, flattery = statistics.bootstrap(study, truth, 200, 3).T
    found = statistics.tuning(scores, truth, count=200, seed=3)
    assert found.chosen == chosen
    assert found.optimism == pytest.approx(flattery.mean(), abs=1e-12)
    assert found.expected == pytest.approx(chosen.accuracy - flattery.mean(), abs=1e-12)
    assert found.threshold_interval == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))
    assert found.accuracy_interval == pytest.approx(tuple(np.quantile(shares, [0.025, 0.975])))
    assert found.plateau == identification.plateau(scores, truth)


def test_what_was_tuned_on_noise_flatters_and_what_is_plain_does_not():
    noise = statistics.tuning(*world(2, probes=40, skill=0.0), count=200)
    assert noise.optimism > 0.005
    plain = statistics.tuning(*world(2, probes=400, skill=50.0), count=100)
    assert plain.chosen.accuracy == 1
    assert abs(plain.optimism) < 0.003
    low, high = plain.threshold_interval
    assert low <= plain.chosen.value <= high


def test_expected_is_nearer_to_new_probes_than_what_was_tuned():
    """Over many worlds: tune on 60 probes, look at 600 new ones."""
    said, expected, came = [], [], []
    for seed in range(40):
        tuned = statistics.tuning(*world(seed, skill=1.5), count=100)
        said.append(tuned.chosen.accuracy)
        expected.append(tuned.expected)
        came.append(
            identification.accuracy(*world(1000 + seed, 600, skill=1.5), tuned.chosen.value)
        )
    said, expected, came = map(np.mean, (said, expected, came))
    assert said > came + 0.01
    assert abs(expected - came) < (said - came) / 2


def test_without_strangers_all_are_accepted_and_all_is_known():
    scores, truth = world(3)
    mated = truth >= 0
    found = statistics.tuning(scores[mated], truth[mated], count=50)
    assert found.chosen.value < scores[mated].max(1).min()
    assert found.plateau[0] == -math.inf
    assert found.optimism == pytest.approx(0, abs=0.02)


def test_one_person_cannot_be_left_out():
    with pytest.raises(DataError, match="two people of each kind"):
        statistics.folds(np.array([4, 4, 4]))


def test_the_table_has_a_row_for_each_with_both_intervals():
    tunings = {name: statistics.tuning(*world(i)) for i, name in enumerate(("dev", "larger"))}
    table = statistics.table(tunings)
    assert list(table.index) == ["dev", "larger"]
    for name, found in tunings.items():
        row = table.loc[name]
        assert row["probes"] == 60
        assert (row["threshold"], row["accuracy"]) == found.chosen[:2]
        assert (row["threshold low"], row["threshold high"]) == found.threshold_interval
        assert (row["accuracy low"], row["accuracy high"]) == found.accuracy_interval
        assert row["expected"] == found.expected


def test_scores_of_nan_are_refused():
    with pytest.raises(DataError, match="NaN"):
        statistics.tuning(np.full((4, 2), np.nan), np.array([0, 1, -1, -1]))


@given(st.integers(0, 10_000), st.booleans())
@thorough
def test_the_eer_of_a_draw_is_that_of_its_pairs_written_out(seed, rounded):
    random = np.random.default_rng(seed)
    same = random.permutation(np.arange(40) % 3 == 0)
    scores = random.normal(same, 1.0).round(1 if rounded else 9)
    times = statistics.draw_pairs(same, count=3, seed=seed)
    found = statistics.eer_of_draws(scores, same, times)
    for sample, rate in zip(times, found, strict=True):
        rows = np.repeat(np.arange(40), sample)
        assert same[rows].sum() == same.sum() and len(rows) == 40
        assert rate == pytest.approx(verification.eer(scores[rows], same[rows])[0], abs=1e-9)


def test_two_accuracies_are_told_apart_by_the_images_on_which_they_differ():
    first, second = np.ones(200), np.ones(200)
    first[:2] = 0
    assert not statistics.told_apart(first, second)  # two images: luck
    first[:20] = 0
    assert statistics.told_apart(first, second)
    second[20:40] = 0  # now both are right on 180, each on others
    assert not statistics.told_apart(first, second)
