"""How much a recipe learns about real faces, from photographs or from people who do not exist.

    python benchmarks/real_faces.py FOLDER [--recipe laptop] [--seeds 3] [--out FILE]
    python benchmarks/real_faces.py FOLDER --teacher DATA   # trained on DATA, judged by FOLDER

FOLDER is a course tree with answers, and with pairs/pairs.csv (a, b, same), pairs of people who are
not among its classes. Beside the recipe: its network untrained, whose batch norm has seen the
images once, and the nearest neighbour in 32 x 32 grey pixels. Every threshold is chosen on FOLDER's
dev probes and judged on its test probes; the ten-fold accuracy of pairs has the threshold of the
other nine folds.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from machine import Report, Row, one_line_for_errors, progress

from facekit import training
from facekit.common import files
from facekit.common.errors import DataError
from facekit.course import baselines
from facekit.data.layout import CourseData
from facekit.evaluation import embed as predict
from facekit.evaluation import identification, verification
from facekit.training import recipe as recipes

Embed = Callable[[Sequence[Path]], np.ndarray]  # images -> (N, D)
REFUSE_NOBODY = -2.0  # below every cosine
FPIR = 0.1
FOLDS = 10


def one_run(recipe: str, seed: int, teacher: CourseData, judge: CourseData, out: Path) -> Row:
    """Train on the teacher's images, and score on the judge's."""
    name, *changes = recipe.split()
    began = time.perf_counter()
    training.fit(recipes.load(name, [*changes, f"seed={seed}"]), teacher, out, progress=False)
    row = {"recipe": recipe, "seed": seed, "seconds": time.perf_counter() - began}
    run = predict.load_run(out)
    if teacher is judge:
        row["classification"] = named_right(judge, predict.classify(run, judge.test.paths))
    return row | scores(judge, lambda paths: predict.embed(run, paths))


def untrained(recipe: str, teacher: CourseData, judge: CourseData) -> Row:
    """The recipe's network as it begins; batch norm has seen the images once."""
    name, *changes = recipe.split()
    with tempfile.TemporaryDirectory() as out:
        still = recipes.load(
            name, [*changes, "epochs=1", "lr=1e-12", "warmup_epochs=0", "watch=false"]
        )
        training.fit(still, teacher, out, progress=False)
        run = predict.load_run(out)
    return {"recipe": "untrained"} | scores(judge, lambda paths: predict.embed(run, paths))


def pixels(judge: CourseData) -> Row:
    """Without any network."""
    labels = baselines.nearest_class(judge, judge.test.paths)
    row = {"recipe": "grey pixels", "classification": named_right(judge, labels)}
    return row | scores(judge, baselines.grey_vectors)


def named_right(data: CourseData, labels: np.ndarray) -> float:
    answers = files.read_table(data.answers.classification, ["label"])["label"].astype(int)
    return float((np.asarray(labels) == answers.to_numpy()).mean())


def scores(data: CourseData, embed: Embed) -> Row:
    """The open set and the pairs of `data` by these embeddings.

    DIR is over the probes of dev and test together: each alone has few strangers. Pairs are those
    of pairs/pairs.csv; where there is none, each probe with each known face.
    """
    gallery, names = embed(data.known.paths), data.known.labels
    dev = identification.similarity(embed(data.unknown_dev.paths), gallery)
    test = identification.similarity(embed(data.unknown_test.paths), gallery)
    answers = files.read_table(data.answers.verification, ["label"])["label"]
    of_dev = identification.truth_indices(data.unknown_dev.labels, names)
    of_test = identification.truth_indices(answers, names)
    threshold = identification.choose_threshold(dev, of_dev).value
    right = identification.accuracy(test, of_test, threshold)
    both = np.concatenate([dev, test]), np.concatenate([of_dev, of_test])
    rate = float("nan")
    with suppress(DataError):  # too few strangers
        rate = identification.dir_at_fpir(*both, FPIR).dir
    row = {
        "verification": right,
        "gain of the threshold": right - identification.accuracy(test, of_test, REFUSE_NOBODY),
        f"DIR at FPIR {FPIR:.0%}": rate,
    }
    return row | (pair_scores(data, embed) or of_pairs(*verification.all_pairs(*both)))


def pair_scores(data: CourseData, embed: Embed) -> Row:
    """Of pairs/pairs.csv; nothing where the data has none."""
    file = data.root / "pairs" / "pairs.csv"
    if not file.is_file():
        return {}
    pairs = files.read_table(file, ["a", "b", "same"])
    sides = [embed([file.parent / name for name in pairs[side]]) for side in "ab"]
    first, second = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides)
    cosines, same = (first * second).sum(1), pairs["same"].astype(int).to_numpy() == 1
    return of_pairs(cosines, same) | {"ten-fold accuracy": ten_fold(cosines, same)}


def of_pairs(cosines: np.ndarray, same: np.ndarray) -> Row:
    return {
        "pairs AUC": verification.auc(cosines, same),
        "pairs EER": verification.eer(cosines, same)[0],
    }


def ten_fold(cosines: np.ndarray, same: np.ndarray) -> float:
    """The share of pairs that is judged right, each fold by the best threshold of the others."""
    fold = np.random.default_rng(0).permutation(len(same)) % FOLDS
    right = 0
    for number in range(FOLDS):
        here = fold == number
        scores = np.sort(cosines[~here])
        lines = (scores[1:] + scores[:-1]) / 2
        shares = [((cosines[~here] >= line) == same[~here]).mean() for line in lines]
        right += ((cosines[here] >= lines[np.argmax(shares)]) == same[here]).sum()
    return float(right / len(same))


def main(
    folder: Path,
    recipe: str = "laptop",
    teacher: Path | None = None,
    seeds: Annotated[int, typer.Option(help="Runs, each with a seed of its own.")] = 1,
    threads: int = torch.get_num_threads(),
    out: Path | None = None,
) -> None:
    """Scores on photographs of a recipe, of an untrained network, and of grey pixels."""
    torch.set_num_threads(threads)
    arguments = {"folder": folder.name, "recipe": recipe, "threads": threads}
    with one_line_for_errors(), tempfile.TemporaryDirectory() as scratch:
        judge = CourseData(folder)
        trained_on = CourseData(teacher) if teacher else judge
        arguments["people"] = len(trained_on.classes)
        arguments["images"] = len(trained_on.train)
        report = Report("real_faces", out, **arguments)
        rows = [pixels(judge), untrained(recipe, trained_on, judge)]
        for seed in range(seeds):
            progress(f"seed {seed}")
            rows.append(one_run(recipe, seed, trained_on, judge, Path(scratch) / str(seed)))
            report.table("scores", rows)


if __name__ == "__main__":
    typer.run(main)
