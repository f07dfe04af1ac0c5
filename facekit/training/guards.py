"""Guards that stop a run which learns nothing, and say what was seen. Built in notebook 04."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from facekit.common.errors import RunError
from facekit.training.recipe import Recipe

GO_ON = "; or set watch=false to go on"


def check_loss(value: float, step: int, rate: float, precision: str) -> None:
    """Raise RunError when the loss of a step is NaN or infinite: batch norm has seen it already,
    so the weights from before the step are the last good ones."""
    if math.isfinite(value):
        return
    name = "NaN" if math.isnan(value) else "infinite"
    other = " or precision=float32" if precision == "float16" else ""
    raise RunError(
        f"the loss is {name} at step {step} (learning rate {rate:g}, {precision}); the run is as "
        f"last saved, and goes on from there with a lower lr or grad_clip=1{other}"
    )


@dataclass(frozen=True)
class LearningGuard:
    """Says after each epoch whether a run still learns nothing.

    A function of the epochs' rows (columns HISTORY), so that a resumed run decides like one that
    was never stopped. Looks once the first max(10, warmup_epochs + 5) epochs are done; a run that
    was better than chance in any one of its epochs is left alone.
    """

    recipe: Recipe
    classes: int
    dev_images: int

    @property
    def epochs(self) -> int:
        """How many epochs a run has time to show that it learns."""
        return max(10, math.ceil(self.recipe.warmup_epochs) + 5)

    @property
    def chance(self) -> float:
        return 1 / self.classes

    @property
    def limit(self) -> float:
        """The dev accuracy that guesses hardly reach: chance and three standard errors of it."""
        return self.chance + 3 * math.sqrt(self.chance * (1 - self.chance) / self.dev_images)

    def check(self, rows: Sequence[Mapping], untrained: float) -> None:
        """Raise RunError when every epoch so far was at the level of an untrained network.

        `untrained`: the loss of the first batch before the first step.
        """
        if not self.recipe.watch or len(rows) < self.epochs:
            return
        if all(row["train_loss"] >= untrained for row in rows):
            raise RunError(self._high_loss(rows, untrained))
        if all(row["dev_accuracy"] <= self.limit for row in rows):
            raise RunError(self._flat_accuracy(rows))

    def _high_loss(self, rows: Sequence[Mapping], untrained: float) -> str:
        lowest = min(row["train_loss"] for row in rows)
        return (
            f"the train loss was {lowest:.3f} at best in {len(rows)} epochs, and {untrained:.3f} "
            f"before the first step: lower lr ({self.recipe.lr:g}), weaken "
            f"augmentation or the head's margin{GO_ON}"
        )

    def _flat_accuracy(self, rows: Sequence[Mapping]) -> str:
        best, own = (max(row[key] for row in rows) for key in ("dev_accuracy", "train_accuracy"))
        advice = f"try lr={self.recipe.lr / 10:g} or ten times more"
        if own > 2 * self.limit:
            advice = "compare the images of a class in train and dev, and augment more"
        return (
            f"the dev accuracy was {best:.2%} at best in {len(rows)} epochs, and guessing among "
            f"{self.classes} classes gives {self.chance:.2%}, by luck up to {self.limit:.2%}; the "
            f"train accuracy reached {own:.2%}: {advice}{GO_ON}"
        )
