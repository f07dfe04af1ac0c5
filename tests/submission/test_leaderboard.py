"""All runs beside each other: the figures are those of score, and no damaged run hides the rest."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from facekit.common import files
from facekit.common.errors import DataError
from facekit.evaluation import embed
from facekit.submission import csvs, leaderboard, pipeline


@pytest.fixture(scope="module")
def runs(trained: Path, tmp_path_factory, course) -> Path:
    """Four runs: submitted, submitted as nobody, not submitted, damaged."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("good", "nobody", "silent", "broken"):
        shutil.copytree(trained, folder / name)
    for name, threshold in (("good", -2.0), ("nobody", 2.0)):
        run = embed.load_run(folder / name, "cpu")
        pipeline.keep_decision(run.folder, "gap" if name == "good" else "threshold", threshold)
        pipeline.write_submissions(run, course)
    (folder / "broken" / "best.pt").write_bytes(b"PK\x03\x04 no checkpoint")
    (folder / "notes").mkdir()
    return folder


def test_every_run_has_a_row_with_its_scores(runs, course, trained):
    table = leaderboard.leaderboard(runs)
    assert set(table.index) == {"good", "nobody", "silent", "broken"}
    history = files.read_table(trained / "history.csv", ["dev_accuracy"])
    best = history["dev_accuracy"].astype(float).max()
    for name in ("good", "nobody"):
        row = table.loc[name]
        assert row["dev"] == pytest.approx(best)
        for task, file in pipeline.FILES.items():
            assert row[task] == csvs.score(runs / name / file, getattr(course.answers, task))
        assert row["note"] == ""
    assert (table.loc["good", "rule"], table.loc["nobody", "rule"]) == ("gap", "threshold")


def test_the_best_sum_of_scores_comes_first_and_what_has_none_last(runs):
    table = leaderboard.leaderboard(runs)
    sums = table[["classification", "verification"]].fillna(0).sum(axis=1)
    assert list(sums) == sorted(sums, reverse=True)
    assert list(table.index[-2:]) == ["silent", "broken"]


def test_what_is_missing_is_told(runs):
    table = leaderboard.leaderboard(runs)
    assert np.isnan(table.loc["silent", "classification"])
    assert table.loc["silent", "note"] == f"facekit submit {runs / 'silent'}"
    assert str(runs / "broken" / "best.pt") in table.loc["broken", "note"]
    assert np.isnan(table.loc["broken", "dev"])


def test_a_submission_that_cannot_be_scored_hides_no_other(runs, tmp_path):
    copy = shutil.copytree(runs, tmp_path / "runs")
    (copy / "good" / "verification.csv").write_text("id,label\n0,n000001\n")
    table = leaderboard.leaderboard(copy)
    assert "1 rows for" in table.loc["good", "note"]
    assert table.loc["nobody", "note"] == ""


def test_the_command_prints_the_board(runs, run_cli, unchanged):
    with unchanged(runs):
        outcome = run_cli("score", "--all", "--runs", runs)
    assert outcome.status == 0, outcome.stderr
    table = leaderboard.leaderboard(runs)
    places = [outcome.stdout.index(f"\n{name} ") for name in table.index]
    assert places == sorted(places)
    assert f"{table.loc['nobody', 'classification']:.1%}" in outcome.stdout


def test_without_a_run_there_is_no_board(tmp_path, refused):
    with pytest.raises(DataError, match="holds no run; train one first"):
        leaderboard.leaderboard(tmp_path)
    assert "holds no run" in refused("score", "--all", "--runs", tmp_path)


@pytest.mark.parametrize("arguments", [[], ["a.csv"], ["--answers", "b.csv"]])
def test_score_says_what_it_needs(arguments, refused):
    assert "facekit score CSV --answers CSV, or facekit score --all" in refused("score", *arguments)


def test_a_score_tells_how_sure_it_is(runs, course, run_cli):
    lines = run_cli("submit", runs / "nobody").stdout.splitlines()
    count = len(course.unknown_test)
    share = csvs.score(runs / "nobody" / "verification.csv", course.answers.verification)
    error = math.sqrt(share * (1 - share) / count)
    assert f"standard error {error:.1%} on {count}" in lines[-1]
