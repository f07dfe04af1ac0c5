"""With pairs, an epoch is judged by them, too, and they may choose the best network."""

import shutil
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from facekit import training
from facekit.common.errors import DataError, RecipeError
from facekit.data.pairs import PairData
from facekit.evaluation import embed, verification
from facekit.models import weights
from facekit.training import loop
from facekit.training import recipe as recipes
from facekit.training import run as runs
from facekit.training.history import HISTORY, ON_PAIRS


def small(*changes: str) -> recipes.Recipe:
    """Three epochs of three steps, the 24 images of the course by eights."""
    settings = ["epochs=3", "network=tiny", "image_size=32", "batch_size=8", "watch=false"]
    return recipes.load("smoke", [*settings, "precision=float32", *changes])


def fit(recipe: recipes.Recipe, data, out: Path) -> training.History:
    return training.fit(recipe, data, out, device="cpu", progress=False)


def test_the_epochs_figures_are_those_of_the_network_that_is_kept(pair_course, tmp_path):
    history = fit(small("best_by=eer", "ema_decay=0.5"), pair_course, tmp_path)
    assert history.best["dev_eer"] == pytest.approx(min(row["dev_eer"] for row in history.rows))
    pairs = pair_course.pairs_dev
    scores = embed.pair_scores(embed.load_run(tmp_path, "cpu"), pairs)
    found = verification.pair_metrics(scores, np.array(pairs.same))
    assert history.best["dev_eer"] == pytest.approx(found["EER"])
    assert history.best["dev_auc"] == pytest.approx(found["AUC"])
    table = pd.read_csv(tmp_path / "history.csv")
    assert list(table.columns) == HISTORY + ON_PAIRS
    pd.testing.assert_frame_equal(history.frame(), table)


@pytest.fixture
def scripted(monkeypatch):
    """Have dev accuracy rise and the EER of the dev pairs be lowest in the second epoch."""
    accuracies, rates = cycle([0.1, 0.2, 0.3, 0.4, 0.5]), cycle([0.3, 0.1, 0.2, 0.1, 0.4])
    monkeypatch.setattr(loop, "evaluate", lambda *arguments: (1.0, next(accuracies)))
    monkeypatch.setattr(
        runs, "dev_figures", lambda *arguments: {"dev_eer": next(rates), "dev_auc": 0.5}
    )


@pytest.mark.parametrize(("best_by", "best", "epochs"), [("accuracy", 5, 5), ("eer", 2, 4)])
def test_the_recipe_says_whether_accuracy_or_eer_chooses_and_ends(
    best_by, best, epochs, pair_course, tmp_path, scripted
):
    recipe = small("epochs=5", "patience=2", f"best_by={best_by}")
    history = fit(recipe, pair_course, tmp_path)
    assert (history.best["epoch"], len(history.rows)) == (best, epochs)
    assert weights.load(tmp_path / "best.pt")["progress"]["epoch"] == best
    assert fit(recipe, pair_course, tmp_path).best["epoch"] == best  # only read


def test_the_bar_says_the_eer(pair_course, tmp_path, scripted, capsys):
    training.fit(small("best_by=eer"), pair_course, tmp_path, device="cpu")
    assert "EER 20.0%, best EER 10.0%" in capsys.readouterr().err


def test_the_command_ends_with_what_chose_the_best(pair_course, tmp_path, scripted, run_cli):
    changes = [f"--set={text}" for text in ("epochs=3", "watch=false", "best_by=eer")]
    where = ["--data", pair_course.root, "--out", tmp_path / "run"]
    done = run_cli("train", "smoke", *where, *changes)
    assert "best EER of the dev pairs 10.00% in epoch 2" in done.stdout


def test_eer_chooses_nothing_where_there_are_no_pairs(course, tmp_path):
    with pytest.raises(RecipeError, match="best_by = eer needs pairs"):
        fit(small("best_by=eer"), course, tmp_path)


def test_a_pair_that_cannot_be_read_is_told_before_the_first_step(
    pair_course, tmp_path, monkeypatch
):
    root = shutil.copytree(pair_course.root, tmp_path / "data")
    data = PairData(root)
    data.pairs_dev.second[3].write_bytes(b"no image")
    monkeypatch.setattr(loop, "train_step", None)
    with pytest.raises(DataError, match=data.pairs_dev.second[3].name):
        fit(small(), data, tmp_path / "run")
