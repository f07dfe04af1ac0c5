"""The submission of a term with pairs: a score for each pair; written, checked, scored."""

import math
from pathlib import Path

import numpy as np

from facekit.common.errors import DataError
from facekit.common.files import read_table, refuse_link, write_table
from facekit.data.pairs import PairData
from facekit.evaluation import statistics
from facekit.evaluation.embed import TrainedRun, classify, pair_scores
from facekit.evaluation.verification import eer, pair_metrics
from facekit.submission.cutoffs import ON_PAIRS

COLUMNS = ["ID", "Label"]
FILES = {"verification": "pairs.csv"}


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
        missing = len(data.pairs_test) - len(scores)
        what = f"{missing} missing" if missing > 0 else f"{-missing} too many"
        return [f"{path}: {len(scores)} rows for {len(data.pairs_test)} test pairs, {what}"]
    distinct = len(set(scores))
    if distinct <= 2 < len(scores):
        return [f"{path}: only {distinct} different scores; hand in the scores, not 0 and 1"]
    return []


def judge(scores: np.ndarray, same: np.ndarray) -> dict[str, float]:
    """The figures of `pair_metrics`, how many pairs there are, the ends of the EER's interval."""
    low, high = statistics.eer_interval(scores, same)
    found = pair_metrics(scores, same)
    return found | {"pairs": len(same), "EER low": low, "EER high": high}


def score(path: str | Path, answers: str | Path) -> dict[str, float]:
    """`judge` for a submission. Raises DataError where it does not fit."""
    return judge(*beside_answers(path, answers))


def beside_answers(path: str | Path, answers: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """The scores of a submission, and whether each pair matches: (N,) both."""
    refuse_link(Path(path))
    mine, truth = read_scores(path), read_scores(answers)
    if len(mine) != len(truth):
        raise DataError(f"{path}: {len(mine)} rows for {len(truth)} answers")
    if Path(path).samefile(answers):
        raise DataError(f"{path}: the file of the answers itself, not one that was handed in")
    return np.array(mine), np.array(truth)


def read_scores(path: str | Path) -> list[float]:
    """The labels of a table whose ids count 0, 1, 2, ..."""
    table = read_table(Path(path), COLUMNS)
    wanted = [str(row) for row in range(len(table))]
    for row, (found, expected) in enumerate(zip(table["ID"], wanted, strict=True)):
        if found != expected:
            shuffled = "the rows are shuffled: " if sorted(table["ID"]) == sorted(wanted) else ""
            raise DataError(
                f"{path}: {shuffled}row {row} has the ID {found!r}, not {expected}; IDs count 0, "
                "1, 2, ... in the order of the pairs"
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


def evaluate(run: TrainedRun, data: PairData) -> list[str]:
    """What the run makes of the dev images and of the dev pairs, in words."""
    right = classify(run, data.dev.paths) == data.dev.labels
    found = judge(pair_scores(run, data.pairs_dev), np.array(data.pairs_dev.same))
    first = f"classification {right.mean():.2%} of the dev images"
    return [first, *report(found)]


def write_submissions(
    run: TrainedRun, data: PairData, threshold: float | None = None, rule: str | None = None
) -> dict[str, Path]:
    """Score the test pairs, write them into the run's folder and check the file; task -> path."""
    if threshold is not None or rule is not None:
        raise DataError(f"{data.root}: has pairs, whose scores are handed in: decide nothing")
    path = run.folder / FILES["verification"]
    write(path, pair_scores(run, data.pairs_test))
    problems = check(path, data)
    if problems:
        raise DataError("; ".join(problems))
    return {"verification": path}


def scores(paths: dict[str, Path], data: PairData) -> dict[str, float]:
    """The equal error rate of the submission, where the answers are known; else nothing."""
    if data.answers is None:
        return {}
    both = {task: beside_answers(path, data.answers.verification) for task, path in paths.items()}
    return {task: eer(*found)[0] for task, found in both.items()}


def chance(task: str, data: PairData) -> float:
    """The equal error rate of a coin."""
    return 0.5


def test_counts(data: PairData) -> dict[str, int]:
    """How many pairs it is judged by in the end."""
    return {"verification": len(data.pairs_test)}


def scoreboard(paths: dict[str, Path], data: PairData) -> list[str]:
    """Where the submission is and, where the answers are known, what it scores."""
    lines = [f"{task} submission: {path}" for task, path in paths.items()]
    if data.answers:
        lines += report(score(paths["verification"], data.answers.verification))
    return lines


def report(metrics: dict[str, float]) -> list[str]:
    """The figures of `judge` in two lines: the score, points, how sure both are; then the rest."""
    error, low, high = (metrics[name] for name in ("EER", "EER low", "EER high"))
    points = ON_PAIRS.describe_points(error, (low, high))
    rates = ", ".join(f"{name} {value:.1%}" for name, value in metrics.items() if "TPR" in name)
    return [
        f"verification EER {error:.2%} -> {ON_PAIRS.grade(error)} ({points}; the kit's {ON_PAIRS}, "
        f"chance 50 %; EER {low:.2%} to {high:.2%} on {metrics['pairs']} pairs)",
        f"ACC {metrics['ACC']:.1%}, AUC {metrics['AUC']:.3f}, EER at the nearest point "
        f"{metrics['EER, nearest point']:.2%}, {rates}",
    ]
