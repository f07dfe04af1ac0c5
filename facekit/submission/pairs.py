"""The submission of a term with pairs: a score for each pair; written, checked, scored."""

import math
from pathlib import Path

import numpy as np

from facekit.common.errors import DataError
from facekit.common.files import read_table, refuse_link, write_table
from facekit.data.pairs import PairData
from facekit.evaluation.embed import TrainedRun, pair_scores
from facekit.evaluation.verification import pair_metrics

COLUMNS = ["ID", "Label"]
FILE = "pairs.csv"
CHECKPOINT = 0.09  # the equal error rate that S26 wants early on


def is_pairs(path: str | Path) -> bool:
    """Whether a table has the header of a submission for pairs."""
    return list(read_table(Path(path), []).columns) == COLUMNS


def write(path: str | Path, scores: np.ndarray) -> None:
    """Write `ID,Label`: row i has the score of the i-th test pair, higher for more alike."""
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise DataError("a submission needs one finite score for each pair")
    write_table(Path(path), COLUMNS, list(enumerate(scores.tolist())))


def check(path: str | Path, data: PairData) -> list[str]:
    """What would be held against a submission; [] if nothing."""
    try:
        scores = read_scores(path)
    except DataError as error:
        return [str(error)]
    if len(scores) != len(data.pairs_test):
        return [f"{path}: {len(scores)} rows for {len(data.pairs_test)} test pairs"]
    distinct = len(set(scores))
    if distinct <= 2 < len(scores):
        return [f"{path}: only {distinct} different scores; hand in the scores, not 0 and 1"]
    return []


def score(path: str | Path, answers: str | Path) -> dict[str, float]:
    """The figures of `pair_metrics` for a submission. Raises DataError where it does not fit."""
    refuse_link(Path(path))
    mine, truth = read_scores(path), read_scores(answers)
    if len(mine) != len(truth):
        raise DataError(f"{path}: {len(mine)} rows for {len(truth)} answers")
    if Path(path).samefile(answers):
        raise DataError(f"{path}: the file of the answers itself, not one that was handed in")
    return pair_metrics(np.array(mine), np.array(truth))


def read_scores(path: str | Path) -> list[float]:
    """The labels of a table whose ids count 0, 1, 2, ..."""
    table = read_table(Path(path), COLUMNS)
    wanted = [str(row) for row in range(len(table))]
    for row, (found, expected) in enumerate(zip(table["ID"], wanted, strict=True)):
        if found != expected:
            raise DataError(
                f"{path}: row {row} has the ID {found!r}, not {expected}; IDs count 0, 1, 2, ... "
                "in the order of the pairs"
            )
    scores = []
    for row, text in enumerate(table["Label"]):
        try:
            scores.append(float(text))
        except ValueError:
            scores.append(math.nan)
        if not math.isfinite(scores[-1]):
            raise DataError(f"{path}: row {row} has {text!r} where a score (a number) is wanted")
    if not scores:
        raise DataError(f"{path}: has no rows")
    return scores


def write_submission(run: TrainedRun, data: PairData) -> Path:
    """Score the test pairs, write them into the run's folder, and check the file."""
    path = run.folder / FILE
    write(path, pair_scores(run, data.pairs_test))
    problems = check(path, data)
    if problems:
        raise DataError("; ".join(problems))
    return path


def report(metrics: dict[str, float], count: int) -> list[str]:
    """The figures in two lines: the score and how sure it is, then the rest."""
    error = metrics["EER"]
    # Of pairs of each kind about half: the rate is a share of either.
    about = math.sqrt(error * (1 - error) / (count / 2))
    rates = ", ".join(f"{name} {value:.1%}" for name, value in metrics.items() if "TPR" in name)
    return [
        f"verification EER {error:.2%} (standard error about {about:.1%} on {count} pairs; "
        f"checkpoint of S26 {CHECKPOINT:.0%}, chance 50 %)",
        f"ACC {metrics['ACC']:.1%}, AUC {metrics['AUC']:.3f}, EER at the nearest point "
        f"{metrics['EER, nearest point']:.2%}, {rates}",
    ]
