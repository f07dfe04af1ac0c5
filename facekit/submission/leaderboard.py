"""All runs of a folder beside each other, best first. Built in notebook 08."""

from pathlib import Path

import numpy as np
import pandas as pd

from facekit.common.errors import DataError, FacekitError
from facekit.data.layout import CourseData
from facekit.evaluation.rules import PLAIN
from facekit.models import weights
from facekit.submission import pipeline

COLUMNS = ["dev", "classification", "verification", "rule", "note"]


def leaderboard(runs: str | Path) -> pd.DataFrame:
    """A row for each run in the folder `runs`, the best sum of both scores first.

    dev: the best dev accuracy; classification and verification: the accuracy of the run's
    submissions where they are written and the answers known, else NaN; rule: how the open set is
    decided; note: what could not be read. Raises DataError where there is no run.
    """
    folders = [path.parent for path in sorted(Path(runs).glob("*/best.pt"))]
    if not folders:
        raise DataError(f"{runs}: holds no run; train one first: facekit train laptop")
    table = pd.DataFrame({folder.name: _row(folder) for folder in folders}).T[COLUMNS]
    numbers = table[COLUMNS[:3]].astype(float)
    table[COLUMNS[:3]] = numbers
    total = numbers.iloc[:, 1:].fillna(0).sum(axis=1)
    order = np.lexsort((-numbers["dev"].fillna(0), -total))
    table.index.name = "run"
    return table.iloc[order]


def _row(folder: Path) -> dict[str, object]:
    """What is known of one run; a damaged one has a note and no figures."""
    row: dict[str, object] = dict.fromkeys(COLUMNS[:3], np.nan)
    row |= {"rule": "", "note": ""}
    try:
        saved = weights.load_run(folder / "best.pt")
        row["dev"] = max(line["dev_accuracy"] for line in saved["progress"]["rows"])
        data = CourseData(saved["data"], saved["term"])
        kept = pipeline.kept_decision(folder)
        row["rule"] = kept.rule if kept else PLAIN
        paths = {task: folder / name for task, name in pipeline.FILES.items()}
        written = {task: path for task, path in paths.items() if path.is_file()}
        row |= pipeline.scores(written, data)
        if len(written) < len(paths):
            row["note"] = f"facekit submit {folder}"
    except (FacekitError, ValueError, KeyError, TypeError) as error:
        row["note"] = str(error)
    return row


def lines(table: pd.DataFrame) -> list[str]:
    """The table as text, accuracies in per cent."""
    per_cent = dict.fromkeys(COLUMNS[:3], "{:.1%}".format)
    return table.to_string(formatters=per_cent, na_rep="-").splitlines()
