"""How much a recipe learns from real photographs, beside what grey pixels know already.

    python benchmarks/real_faces.py FOLDER [--recipe laptop] [--set key=value ...] [--out RUN]

FOLDER is a course tree with answers, and with pairs/pairs.csv (a, b, same) for the AUC. The
floor answers with the nearest neighbour in 32 x 32 grey pixels, its threshold chosen as ours is.
"""

import argparse
import platform
import tempfile
import time
from pathlib import Path

import machine
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from facekit import training
from facekit.common import files
from facekit.course import baselines
from facekit.data.layout import CourseData
from facekit.evaluation import embed as predict
from facekit.evaluation import identification
from facekit.submission import csvs, pipeline
from facekit.training import recipe as recipes


def main() -> None:
    arguments = _arguments()
    data = CourseData(arguments.folder)
    recipe = recipes.load(arguments.recipe, arguments.set)
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        began = time.monotonic()
        history = training.fit(recipe, data, out)
        seconds = time.monotonic() - began
        run = predict.load_run(out)
        rows = {"network": network_scores(run, data), "grey pixels": floor_scores(data)}
    rows["chance"] = chance_scores(data)
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}; {len(history.rows)} epochs in {seconds:.0f} s"
    )
    print(pd.DataFrame(rows).T.round(4).to_string())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", default="laptop")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def network_scores(run: predict.TrainedRun, data: CourseData) -> dict[str, float]:
    """The scores of the two submissions of a run, and the AUC of its embeddings on the pairs."""
    scores = pipeline.scores(pipeline.write_submissions(run, data), data)
    return scores | {"pairs AUC": pairs_auc(data, lambda paths: predict.embed(run, paths))}


def floor_scores(data: CourseData) -> dict[str, float]:
    """The same without learning anything."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {task: Path(folder) / name for task, name in pipeline.FILES.items()}
        labels = baselines.nearest_class(data, data.test.paths)
        csvs.write_classification(paths["classification"], data.test.names, labels)
        csvs.write_verification(paths["verification"], _floor_identities(data))
        scores = pipeline.scores(paths, data)
    return scores | {"pairs AUC": pairs_auc(data, baselines.grey_vectors)}


def _floor_identities(data: CourseData) -> list[str]:
    gallery, names = baselines.grey_vectors(data.known.paths), data.known.labels
    dev = identification.similarity(baselines.grey_vectors(data.unknown_dev.paths), gallery)
    truth = identification.truth_indices(data.unknown_dev.labels, names)
    threshold = identification.choose_threshold(dev, truth).value
    test = identification.similarity(baselines.grey_vectors(data.unknown_test.paths), gallery)
    return identification.identify(test, names, threshold)


def pairs_auc(data: CourseData, embed) -> float:
    """AUC over pairs/pairs.csv; NaN where the data has none."""
    file = data.root / "pairs" / "pairs.csv"
    if not file.is_file():
        return float("nan")
    pairs = files.read_table(file, ["a", "b", "same"])
    first, second = (embed([file.parent / name for name in pairs[side]]) for side in "ab")
    return roc_auc_score(pairs["same"].astype(int), (first * second).sum(1))


def chance_scores(data: CourseData) -> dict[str, float]:
    """The commonest training class, always n000000, and a coin."""
    commonest = np.bincount(data.train.labels).argmax()
    answers = files.read_table(data.answers.classification, ["label"])["label"].astype(int)
    nobody = files.read_table(data.answers.verification, ["label"])["label"] == "n000000"
    return {
        "classification": (answers == commonest).mean(),
        "verification": nobody.mean(),
        "pairs AUC": 0.5,
    }


if __name__ == "__main__":
    with machine.one_line_for_errors():
        main()
