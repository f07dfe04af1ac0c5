"""What each epoch of a run gave, as a table. Built in notebook 04."""

from dataclasses import dataclass, field, replace

import pandas as pd

HISTORY = ["epoch", "lr", "train_loss", "train_accuracy", "dev_loss", "dev_accuracy"]
ON_PAIRS = ["dev_eer", "dev_auc"]  # after these, where a term has pairs


def accuracy_of(row: dict, best_by: str) -> float:
    """What the best epoch is chosen by: the dev images' accuracy, or that of the dev pairs.

    The latter is 1 - EER: at the threshold of the EER so many pairs of either kind are right.
    """
    return 1 - row["dev_eer"] if best_by == "eer" else row["dev_accuracy"]


@dataclass
class History:
    """What each epoch gave, one row an epoch with the columns of HISTORY, or more with pairs."""

    rows: list[dict] = field(default_factory=list)
    stopped: str = ""  # why the run is not done yet; "" where it is
    best_by: str = "accuracy"  # as the recipe says

    @property
    def best(self) -> dict:
        """The first epoch with the highest dev accuracy, or the lowest EER of the dev pairs."""
        return max(self.rows, key=lambda row: accuracy_of(row, self.best_by))

    @property
    def waited(self) -> int:
        """How many epochs ago the best one was."""
        return self.rows[-1]["epoch"] - self.best["epoch"]

    def until(self, patience: int) -> "History":
        """What a run would have been that waits so many epochs for a better one; 0: for ever."""
        if patience > 0:
            for end in range(1, len(self.rows) + 1):
                shorter = replace(self, rows=self.rows[:end], stopped="")
                if shorter.waited >= patience:
                    return shorter
        return replace(self, stopped="")

    @property
    def columns(self) -> list[str]:
        """Those of HISTORY, and of ON_PAIRS where the last epoch has them."""
        return HISTORY + [key for key in ON_PAIRS if self.rows and key in self.rows[-1]]

    def frame(self) -> pd.DataFrame:
        """The rows as a table."""
        return pd.DataFrame(self.rows, columns=self.columns)
