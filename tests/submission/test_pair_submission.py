"""Pairs scored by a run, handed in and judged, beside the homework's own arithmetic."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn import metrics
from torch import nn

from facekit import cli, training
from facekit.common.errors import DataError
from facekit.data import PairData
from facekit.evaluation import embed, verification
from facekit.submission import cutoffs, leaderboard, pairs

QUICK = ["epochs=2", "network=tiny", "image_size=32", "batch_size=8", "watch=false"]


class StarterNet(nn.Module):
    """As one writes it for the homework's starter: features and logits in a dictionary."""

    def __init__(self, num_classes: int = 8631) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Conv2d(64, 128, kernel_size=3, stride=2, padding=1),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 256, kernel_size=3, stride=2, padding=1),
            nn.BatchNorm2d(256),
            nn.ReLU(),
            nn.Conv2d(256, 512, kernel_size=3, stride=2, padding=1),
            nn.BatchNorm2d(512),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d((1, 1)),
            nn.Flatten(),
        )
        self.dropout = nn.Dropout(0.2)
        self.cls_layer = nn.Linear(512, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        feats = self.backbone(x)
        out = self.cls_layer(self.dropout(feats))
        return {"feats": feats, "out": out}


@pytest.fixture(scope="module")
def course(pair_course) -> PairData:
    return pair_course


@pytest.fixture(scope="module")
def run(course, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "own"
    recipe = training.recipe.load("smoke", QUICK)
    training.fit(recipe, course.root, out, "cpu", progress=False)
    return out


def starters_figures(scores: np.ndarray, same: np.ndarray) -> dict[str, float]:
    """The usual way by SciPy: a root of the interpolated curve."""
    far, tar, _ = metrics.roc_curve(same, scores, pos_label=1)
    curve = interp1d(far, tar)
    right = tar * same.sum() + (1 - far) * (1 - same).sum()
    return {
        "ACC": right.max() / len(same),
        "EER": brentq(lambda x: 1.0 - x - curve(x), 0.0, 1.0),
        "AUC": metrics.auc(far, tar),
        "TPR at FPR 0.05": float(curve(0.05)),
        "TPR at FPR 0.001": float(curve(0.001)),
    }


@settings(max_examples=60)
@given(st.integers(4, 400), st.integers(0, 2**32 - 1), st.booleans())
def test_the_figures_are_those_of_the_usual_way(count, seed, rounded):
    random = np.random.default_rng(seed)
    same = np.arange(count) % 2
    scores = random.normal(same, 1.0)
    scores = scores.round(1) if rounded else scores
    found = verification.pair_metrics(scores, same)
    for name, value in starters_figures(scores, same).items():
        assert found[name] == pytest.approx(value, abs=1e-6), name


def test_figures_of_six_pairs_by_hand():
    found = verification.pair_metrics(
        np.array([0.9, 0.8, 0.3, 0.7, 0.2, 0.1]), np.array([1, 1, 1, 0, 0, 0])
    )
    assert found["ACC"] == pytest.approx(5 / 6)
    assert found["AUC"] == pytest.approx(8 / 9)
    assert found["EER"] == pytest.approx(1 / 3)
    assert found["EER, nearest point"] == pytest.approx(1 / 3)
    assert found["TPR at FPR 0.0001"] == pytest.approx(2 / 3)


def test_a_pairs_score_is_the_cosine_of_its_images(run, course):
    trained = embed.load_run(run)
    scores = embed.pair_scores(trained, course.pairs_dev)
    first = embed.embed(trained, course.pairs_dev.first)
    second = embed.embed(trained, course.pairs_dev.second)
    wanted = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(first, second, strict=True)
    ]
    assert scores == pytest.approx(wanted, abs=1e-5)


def test_from_a_run_to_a_scored_submission(run, course, capsys, monkeypatch):
    def facekit(*words: object) -> str:
        monkeypatch.setattr("sys.argv", ["facekit", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        told = capsys.readouterr()
        assert end.value.code in (0, 2), told
        return told.out + told.err

    assert "verification EER" in facekit("evaluate", run, "--data", course.root)
    told = facekit("submit", run, "--data", course.root)
    path = run / pairs.FILES["verification"]
    assert str(path) in told
    assert "nothing wrong" in facekit("check", path, "--data", course.root)
    scored = facekit("score", path, "--answers", course.answers.verification)
    wanted = verification.pair_metrics(
        embed.pair_scores(embed.load_run(run), course.pairs_test),
        np.array(pairs.read_scores(course.answers.verification)),
    )
    grades = cutoffs.ON_PAIRS
    line = f"EER {wanted['EER']:.2%} -> {grades.grade(wanted['EER'])} ("
    assert line + f"{grades.points(wanted['EER']):.1f} points, 95 % interval" in scored
    assert scored.strip() in told
    assert "no open set" in facekit("rules", run, "--data", course.root)
    assert "decide nothing" in facekit("submit", run, "--data", course.root, "--rule", "gap")
    told = facekit("submit", run, "--data", course.root, "--kaggle")
    assert "not sent: no competition of S26 is known" in told


def test_a_network_written_for_the_starter_trains_as_it_stands(course, tmp_path):
    settings = [text for text in QUICK if "network" not in text and "epochs" not in text]
    recipe = training.recipe.load("smoke", [*settings, "epochs=6", "best_by=eer"])
    history = training.fit(recipe, course, tmp_path, "cpu", progress=False, network=StarterNet)
    losses = history.frame()["train_loss"]
    assert losses.iloc[-1] < 0.8 * losses.iloc[0]
    trained = embed.load_run(tmp_path, own_objects=[StarterNet])
    assert trained.net.embeds_by == "feats"
    scores = embed.pair_scores(trained, course.pairs_dev)
    found = verification.pair_metrics(scores, np.array(course.pairs_dev.same))
    assert history.best["dev_eer"] == pytest.approx(found["EER"])


def test_class_means_do_not_ask_for_a_sorted_list(run, course, tmp_path):
    trained = embed.load_run(run)
    means = embed.class_means(trained, course, images=6)
    root = shutil.copytree(course.root, tmp_path / "data")
    labels = root / "cls_data" / "train" / "labels.txt"
    labels.write_text("\n".join(reversed(labels.read_text().splitlines())))
    shuffled = PairData(root)
    assert list(shuffled.train.labels) != sorted(shuffled.train.labels)
    assert embed.class_means(trained, shuffled, images=6) == pytest.approx(means, abs=1e-5)


def test_runs_stand_beside_each_other_the_lowest_error_first(run, course, tmp_path):
    for name in ("good", "bad", "silent"):
        shutil.copytree(run, tmp_path / name, ignore=shutil.ignore_patterns("*.csv"))
    right = np.array(pairs.read_scores(course.answers.verification))
    noise = np.random.default_rng(0).normal(size=len(right))
    pairs.write(tmp_path / "good" / "pairs.csv", right + 0.1 * noise)
    pairs.write(tmp_path / "bad" / "pairs.csv", 0.5 * right + noise)
    table = leaderboard.leaderboard(tmp_path, course.root)
    assert list(table.index) == ["good", "bad", "silent"]
    bad = pairs.score(tmp_path / "bad" / "pairs.csv", course.answers.verification)["EER"]
    assert list(table["verification"])[:2] == [0, pytest.approx(bad)]
    assert 0 < bad < 1
    assert "facekit submit" in table.loc["silent", "note"]
    assert set(table["rule"]) == {""}


BAD = {
    "a row too few": (lambda rows: rows[:-1], "19 rows for 20 test pairs, 1 missing"),
    "two rows too many": (lambda rows: [*rows, "20,0", "21,0"], "22 rows for 20 test pairs, 2 too"),
    "rows in another order": (
        lambda rows: [rows[1], rows[0], *rows[2:]],
        "the rows are shuffled: row 0 has the ID '1'",
    ),
    "ids from 1": (
        lambda rows: [f"{i},{i / 9}" for i in range(1, 21)],
        "csv: row 0 has the ID '1'",
    ),
    "a word": (lambda rows: ["0,yes", *rows[1:]], "row 0 has 'yes' where a score"),
    "nothing": (lambda rows: ["0,", *rows[1:]], "row 0 has '' where a score"),
    "NaN": (lambda rows: [*rows[:-1], "19,nan"], "row 19 has 'nan'"),
    "zeros and ones": (lambda rows: [f"{i},{i % 2}" for i in range(20)], "only 2 different"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_submission_is_told_what_is_wrong(course, tmp_path, name):
    change, reason = BAD[name]
    path = tmp_path / "hand_in.csv"
    rows = change([f"{row},{row / 100}" for row in range(20)])
    path.write_text("\n".join(["ID,Label", *rows]) + "\n")
    (problem,) = pairs.check(path, course)
    assert str(path) in problem
    assert reason in problem


def test_the_answers_themselves_and_links_are_no_submissions(course, tmp_path):
    with pytest.raises(DataError, match="the file of the answers itself"):
        pairs.score(*[course.answers.verification] * 2)
    (tmp_path / "link.csv").symlink_to(course.answers.verification)
    with pytest.raises(DataError, match="a link"):
        pairs.score(tmp_path / "link.csv", course.answers.verification)


def test_scores_that_are_no_numbers_are_not_written(tmp_path):
    for scores in ([], [0.5, float("nan")], [[0.5]]):
        with pytest.raises(DataError, match="one finite score"):
            pairs.write(tmp_path / "x.csv", np.array(scores))
    assert not (tmp_path / "x.csv").exists()


def test_a_moved_course_is_found_by_its_classes(run, course, tmp_path, monkeypatch):
    moved = shutil.copytree(course.root, tmp_path / "data")
    monkeypatch.setenv("FACEKIT_HOME", str(tmp_path))
    trained = embed.load_run(run)
    trained.data = tmp_path / "gone"
    assert trained.course_data().root == Path(moved)
