"""What each epoch of a run gave, as a table. Built in notebook 04."""

from dataclasses import dataclass, field

import pandas as pd

HISTORY = ["epoch", "lr", "train_loss", "train_accuracy", "dev_loss", "dev_accuracy"]


@dataclass
class History:
    """What each epoch gave, one row an epoch with the columns of HISTORY."""

    rows: list[dict] = field(default_factory=list)
    stopped: str = ""  # why the run is not done yet; "" where it is

    @property
    def best(self) -> dict:
        """The first epoch with the highest dev accuracy."""
        return max(self.rows, key=lambda row: row["dev_accuracy"])

    @property
    def waited(self) -> int:
        """How many epochs ago the best one was."""
        return self.rows[-1]["epoch"] - self.best["epoch"]

    def until(self, patience: int) -> "History":
        """What a run would have been that waits so many epochs for a better one; 0: for ever."""
        if patience > 0:
            for end in range(1, len(self.rows) + 1):
                shorter = History(self.rows[:end])
                if shorter.waited >= patience:
                    return shorter
        return History(self.rows)

    def frame(self) -> pd.DataFrame:
        """The rows as a table."""
        return pd.DataFrame(self.rows, columns=HISTORY)
