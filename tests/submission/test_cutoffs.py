"""What a figure earns: grades begin at their cut-offs, and points lie on lines between them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekit.evaluation import statistics, verification
from facekit.submission import csvs, cutoffs
from facekit.submission.cutoffs import CUTOFFS, Cutoffs

S26 = cutoffs.ON_PAIRS


@pytest.mark.parametrize(
    ("task", "accuracy", "grade"),
    [
        ("classification", 1.0, "HIGH"),
        ("classification", 0.90, "HIGH"),
        ("classification", 0.8999, "MEDIUM"),
        ("classification", 0.84, "MEDIUM"),
        ("classification", 0.8399, "LOW"),
        ("classification", 0.82, "LOW"),
        ("classification", 0.8199, "below LOW"),
        ("classification", 0.0, "below LOW"),
        ("verification", 0.55, "HIGH"),
        ("verification", 0.5499, "MEDIUM"),
        ("verification", 0.49, "MEDIUM"),
        ("verification", 0.4899, "LOW"),
        ("verification", 0.30, "LOW"),
        ("verification", 0.2999, "below LOW"),
    ],
)
def test_a_grade_begins_exactly_at_its_cut_off(task: str, accuracy: float, grade: str) -> None:
    assert CUTOFFS[task].grade(accuracy) == grade
    assert f"-> {grade} (" in cutoffs.report(task, accuracy)


@pytest.mark.parametrize(("right", "grade"), [(90, "HIGH"), (89, "MEDIUM"), (82, "LOW")])
def test_a_scored_file_gets_the_grade_of_its_share(right: int, grade: str, tmp_path: Path) -> None:
    names = [f"{row:06d}.jpg" for row in range(100)]
    csvs.write_classification(tmp_path / "truth.csv", names, [1] * 100)
    csvs.write_classification(tmp_path / "mine.csv", names, [1] * right + [0] * (100 - right))
    accuracy = csvs.score(tmp_path / "mine.csv", tmp_path / "truth.csv")
    assert CUTOFFS["classification"].grade(accuracy) == grade


def test_a_report_shows_score_cut_offs_and_chance() -> None:
    line = cutoffs.report("verification", 0.5123, chance=1 / 9)
    whose = "the homework's LOW 30%, MEDIUM 49%, HIGH 55%"
    assert line == f"verification 51.23% -> MEDIUM (77.4 points; {whose}, chance 11.1%)"


@pytest.mark.parametrize("profile", cutoffs.MADE)
@pytest.mark.parametrize("task", CUTOFFS)
def test_rendered_profiles_have_cut_offs_of_their_own(task: str, profile: str) -> None:
    own = cutoffs.MADE[profile][task]
    assert own != CUTOFFS[task]
    assert 0 < own.low < own.medium < own.high < 1
    grade = f"-> {own.grade(own.medium)} (70.0 points; profile {profile}'s {own}"
    assert grade in cutoffs.report(task, own.medium, profile=profile)
    assert cutoffs.report(task, 0.5, profile="gpu") == cutoffs.report(task, 0.5)


@pytest.mark.parametrize(
    ("grades", "figure", "points"),
    [
        (CUTOFFS["verification"], 0.55, 90),
        (CUTOFFS["verification"], 0.52, 80),  # half-way from MEDIUM to HIGH
        (CUTOFFS["verification"], 0.30, 50),
        (CUTOFFS["verification"], 0.2999, 0),
        (CUTOFFS["verification"], 1.0, 90),  # without the best of the class there is no bonus
        (S26, 0.09, 30),
        (S26, 0.08, 40),
        (S26, 0.0901, 0),
        (S26, 0.06, 60),
        (S26, 0.02, 90),
    ],
)
def test_points_lie_on_straight_lines_between_the_cut_offs(grades, figure, points):
    assert grades.points(figure) == pytest.approx(points)


@pytest.mark.parametrize(
    ("grades", "figure", "best", "points"),
    [
        (CUTOFFS["classification"], 0.94, 0.94, 95),
        (CUTOFFS["classification"], 0.92, 0.94, 92.5),
        (CUTOFFS["classification"], 0.90, 0.94, 90),
        (CUTOFFS["classification"], 0.85, 0.86, 70 + 20 / 6),  # nobody reached HIGH
        (S26, 0.025, 0.025, 95),
        (S26, 0.03, 0.025, 92.5),
    ],
)
def test_the_bonus_rises_from_high_to_the_best_of_the_class(grades, figure, best, points):
    assert grades.points(figure, best) == pytest.approx(points)


@given(st.floats(0, 1), st.floats(0, 1))
def test_who_is_better_never_has_fewer_points_or_a_lower_grade(one, other):
    worse, better = sorted((one, other))
    order = ["below VERY LOW", "below LOW", "VERY LOW", "LOW", "MEDIUM", "HIGH"]
    for grades, (low, high) in ((CUTOFFS["verification"], (worse, better)), (S26, (better, worse))):
        assert grades.points(low, best=high) <= grades.points(high, best=high)
        assert order.index(grades.grade(low)) <= order.index(grades.grade(high))


def test_points_are_as_sure_as_the_figure_they_are_of():
    line = cutoffs.report("verification", 0.50, count=360)
    low, high = 100 * np.array(statistics_ends(0.50, 360))
    assert 44 < low < 45 and 55 < high < 56
    least = 50 + 20 * (low - 30) / 19
    assert f"73.3 points, 95 % interval {least:.1f} to 90.0" in line


def statistics_ends(share: float, count: int) -> tuple[float, float]:
    """Wilson's interval by its formula."""
    z = 1.959964
    middle = (share + z**2 / 2 / count) / (1 + z**2 / count)
    half = z * (share * (1 - share) / count + z**2 / 4 / count**2) ** 0.5 / (1 + z**2 / count)
    return middle - half, middle + half


def test_error_rates_read_from_the_most_to_the_least():
    assert str(Cutoffs(0.035, 0.05, 0.07, 0.09)) == "VERY LOW 9%, LOW 7%, MEDIUM 5%, HIGH 3.5%"


def test_the_interval_of_an_eer_holds_the_true_one_about_as_often_as_it_says():
    """Scores of two normal distributions two apart: there the EER is that of one at z = -1."""
    truth, held, rng = 0.158655, 0, np.random.default_rng(0)
    same = np.arange(200) % 2
    for seed in range(60):
        scores = rng.normal(2.0 * same, 1.0)
        low, high = statistics.eer_interval(scores, same, count=100, seed=seed)
        assert low <= verification.eer(scores, same)[0] + 0.03
        held += low <= truth <= high
    assert 50 <= held <= 60
