"""What a figure earns: the grades of a term, and points. Built in notebook 08."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facekit.evaluation.identification import wilson_interval
from facekit.evaluation.statistics import standard_error

POINTS = {"HIGH": 90, "MEDIUM": 70, "LOW": 50, "VERY LOW": 30}  # as S26 gives them
BONUS = 5  # at most, between HIGH and the best of the class


@dataclass(frozen=True)
class Cutoffs:
    """The figures that earn each grade: accuracies, or error rates, of which less is better."""

    high: float
    medium: float
    low: float
    very_low: float | None = None  # None: the term is not known to have it

    @property
    def levels(self) -> dict[str, float]:
        """The cut-off of each grade, the highest grade first."""
        levels = dict(zip(POINTS, (self.high, self.medium, self.low, self.very_low), strict=True))
        return {name: level for name, level in levels.items() if level is not None}

    @property
    def sign(self) -> int:
        """1 of accuracies, -1 of error rates: the higher figure times sign is the better one."""
        return 1 if self.high > self.low else -1

    def grade(self, figure: float) -> str:
        for name, level in self.levels.items():
            if figure == level or (figure > level) == (self.high > self.low):
                return name
        return f"below {name}"

    def points(self, figure: float, best: float | None = None) -> float:
        """90 for HIGH, 70, 50, 30 and on straight lines between; 0 below the last cut-off.

        `best`: the best figure of the class, where it is known; up to 5 more from HIGH to there.
        """
        sign = self.sign  # np.interp wants places that rise
        places = [(sign * level, POINTS[name]) for name, level in self.levels.items()]
        if best is not None and sign * best > sign * self.high:
            places.append((sign * best, POINTS["HIGH"] + BONUS))
        return float(np.interp(sign * figure, *zip(*sorted(places), strict=True), left=0))

    def describe_points(self, figure: float, ends: Sequence[float] = ()) -> str:
        """The points in words; `ends` of the figure's interval of 95 % give the points' ends."""
        text = f"{self.points(figure):.1f} points"
        if not ends:
            return text
        low, high = sorted(map(self.points, ends))
        return f"{text}, 95 % interval {low:.1f} to {high:.1f}"

    def __str__(self) -> str:
        levels = reversed(self.levels.items())
        return ", ".join(f"{name} {100 * level:.3g}%" for name, level in levels)


CUTOFFS = {  # the homework's: F23's, the only ones that are known of a term with an open set
    "classification": Cutoffs(high=0.90, medium=0.84, low=0.82),
    "verification": Cutoffs(high=0.55, medium=0.49, low=0.30),
}
MADE = {  # of rendered courses with fewer people, by profile; how found: docs/results.md
    "smoke": {
        "classification": Cutoffs(high=0.89, medium=0.85, low=0.80),
        "verification": Cutoffs(high=0.45, medium=0.35, low=0.25),
    },
}
# Equal error rates. S26 has published 9 % alone, for its checkpoint; the others are the kit's, by
# what hand-ins of S25 to S26 reached: 2.4 to 3.4 %, the last on rank 177 of 266.
ON_PAIRS = Cutoffs(high=0.035, medium=0.05, low=0.07, very_low=0.09)


def cutoffs_of(task: str, profile: str | None = None) -> tuple[Cutoffs, str]:
    """The cut-offs of a task, and whose they are: a rendered profile's, or the homework's."""
    if profile in MADE:
        return MADE[profile][task], f"profile {profile}'s"
    return CUTOFFS[task], "the homework's"


def report(
    task: str,
    accuracy: float,
    chance: float | None = None,
    profile: str | None = None,
    count: int | None = None,
) -> str:
    """A score in one line, beside the cut-offs of the profile that the data was rendered for.

    `count`: on how many images it was measured, for what is not sure about it.
    """
    cutoffs, whose = cutoffs_of(task, profile)
    ends: Sequence[float] = ()
    beside = "" if chance is None else f", chance {chance:.1%}"
    if count:
        ends = wilson_interval(accuracy * count, count)
        beside += f", standard error {standard_error(accuracy, count):.1%} on {count}"
    points = cutoffs.describe_points(accuracy, ends)
    grade = cutoffs.grade(accuracy)
    return f"{task} {accuracy:.2%} -> {grade} ({points}; {whose} {cutoffs}{beside})"
