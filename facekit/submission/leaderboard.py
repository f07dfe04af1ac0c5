"""All runs of a folder beside each other, best first. Built in notebook 08."""

from pathlib import Path

import numpy as np
import pandas as pd

from facekit.common import machine
from facekit.common.errors import DataError, FacekitError, printable
from facekit.common.files import refuse_link
from facekit.data.layout import PAIR_TERMS, Answers, find_term
from facekit.data.pairs import open_data
from facekit.evaluation.rules import PLAIN
from facekit.models import weights
from facekit.submission import pipeline
from facekit.submission.forms import form_of

COLUMNS = ["dev", "classification", "verification", "rule", "note"]


def leaderboard(runs: str | Path, data: str | Path | None = None) -> pd.DataFrame:
    """A row for each run in the folder `runs`, the best sum of both scores first.

    dev: the best dev accuracy, as the run itself says; classification and verification: the
    accuracy of the run's submissions where they are written and the answers known, else NaN; rule:
    how the open set is decided; note: what could not be read, or is not to be trusted. With pairs
    verification is the equal error rate, and the lowest comes first.

    The answers are those of `data`, by default the workspace's, never of a place that a run names:
    a run may come from anybody. Raises DataError where there is no run.
    """
    root = Path(data or machine.data().value)
    folders = [path.parent for path in sorted(Path(runs).glob("*/best.pt"))]
    if not folders:
        raise DataError(f"{runs}: holds no run; train one first: facekit train laptop")
    table = pd.DataFrame({folder.name: _row(folder, root) for folder in folders}).T[COLUMNS]
    numbers = table[COLUMNS[:3]].astype(float)
    table[COLUMNS[:3]] = numbers
    total = numbers.iloc[:, 1:].fillna(0).sum(axis=1)
    if find_term(root) in PAIR_TERMS:  # error rates
        total = -numbers["verification"].fillna(1)
    order = np.lexsort((-numbers["dev"].fillna(0), -total))
    table.index.name = "run"
    return table.iloc[order]


def _row(folder: Path, root: Path) -> dict[str, object]:
    """What is known of one run; where something is wrong, a note has it in a figure's place."""
    row: dict[str, object] = dict.fromkeys(COLUMNS[:3], np.nan)
    row |= {"rule": "", "note": ""}
    try:
        refuse_link(folder / "best.pt")
        saved = weights.load_run(folder / "best.pt")
        row["dev"] = _dev_accuracy(saved, folder)
        data = open_data(root)
        form = form_of(data)
        paths = {task: folder / name for task, name in form.FILES.items()}
        for path in paths.values():
            refuse_link(path)
        if not data.has_pairs:
            kept = pipeline.kept_decision(folder)
            row["rule"] = kept.rule if kept else PLAIN
        if saved["classes"] != data.classes:
            raise DataError(f"trained on other classes than those of {root}; --data names its own")
        written = {task: path for task, path in paths.items() if path.is_file()}
        row |= form.scores(written, data)
        if len(written) < len(paths):
            row["note"] = f"facekit submit {folder}"
        elif data.answers and _older(written, data.answers):
            row["note"] = f"older than the answers of {root}; once more: facekit submit {folder}"
    except (FacekitError, OSError) as error:
        row["note"] = str(error)
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:
        row["note"] = f"{folder / 'best.pt'}: damaged, or not written by the kit ({error!r})"
    return row


def _dev_accuracy(saved: dict, folder: Path) -> float:
    """The best dev accuracy in a run's state, which whoever handed it in may have written."""
    best = float(max(line["dev_accuracy"] for line in saved["progress"]["rows"]))
    if not 0 <= best <= 1:
        raise DataError(f"{folder / 'best.pt'}: a dev accuracy of {best} was not measured")
    return best


def _older(written: dict[str, Path], answers: Answers) -> bool:
    """Whether a submission was written before its answers: the data may be made anew since."""
    return any(
        path.stat().st_mtime < getattr(answers, task).stat().st_mtime
        for task, path in written.items()
    )


def lines(table: pd.DataFrame) -> list[str]:
    """The table as text, accuracies in per cent; nothing in a name speaks to a terminal."""
    per_cent = dict.fromkeys(COLUMNS[:3], "{:.1%}".format)
    text = table.to_string(formatters=per_cent, na_rep="-")
    return [printable(line) for line in text.split("\n")]
