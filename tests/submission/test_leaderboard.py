"""All runs beside each other: the figures are those of score, and no damaged run hides the rest."""

import math
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from facekit.common import files
from facekit.common.errors import DataError
from facekit.data.layout import CourseData
from facekit.evaluation import embed
from facekit.models import weights
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
    table = leaderboard.leaderboard(runs, course.root)
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


def test_the_best_sum_of_scores_comes_first_and_what_has_none_last(runs, course):
    table = leaderboard.leaderboard(runs, course.root)
    sums = table[["classification", "verification"]].fillna(0).sum(axis=1)
    assert list(sums) == sorted(sums, reverse=True)
    assert list(table.index[-2:]) == ["silent", "broken"]


def test_what_is_missing_is_told(runs, course):
    table = leaderboard.leaderboard(runs, course.root)
    assert np.isnan(table.loc["silent", "classification"])
    assert table.loc["silent", "note"] == f"facekit submit {runs / 'silent'}"
    assert str(runs / "broken" / "best.pt") in table.loc["broken", "note"]
    assert np.isnan(table.loc["broken", "dev"])


def test_a_submission_that_cannot_be_scored_hides_no_other(runs, course, tmp_path):
    copy = shutil.copytree(runs, tmp_path / "runs")
    (copy / "good" / "verification.csv").write_text("id,label\n0,n000001\n")
    table = leaderboard.leaderboard(copy, course.root)
    assert "1 rows for" in table.loc["good", "note"]
    assert table.loc["nobody", "note"] == ""


def test_the_command_prints_the_board(runs, course, run_cli, unchanged):
    with unchanged(runs):
        outcome = run_cli("score", "--all", "--runs", runs, "--data", course.root)
    assert outcome.status == 0, outcome.stderr
    table = leaderboard.leaderboard(runs, course.root)
    places = [outcome.stdout.index(f"\n{name} ") for name in table.index]
    assert places == sorted(places)
    assert f"{table.loc['nobody', 'classification']:.1%}" in outcome.stdout


# --- what was handed in is not believed


@pytest.fixture
def handed_in(runs, tmp_path):
    """A run that was submitted, and one beside it, both to be changed."""
    for name in ("good", "nobody"):
        shutil.copytree(runs / name, tmp_path / "runs" / name)
    return tmp_path / "runs"


def forge(run: Path, change) -> None:
    """Write the state of a run anew, as whoever owns it can."""
    state = weights.load(run / "best.pt")
    change(state)
    weights.save(run / "best.pt", state)


def test_the_answers_are_never_those_that_a_run_names(
    handed_in, copy_of_course, course, tmp_path, monkeypatch
):
    monkeypatch.setenv("FACEKIT_HOME", str(tmp_path / "home"))
    for task, file in pipeline.FILES.items():
        answers = getattr(CourseData(copy_of_course).answers, task)
        shutil.copyfile(handed_in / "nobody" / file, answers)
    forge(handed_in / "nobody", lambda state: state.update(data=str(copy_of_course)))
    honest = leaderboard.leaderboard(handed_in, course.root).loc["nobody"]
    for task, file in pipeline.FILES.items():
        mine, answers = handed_in / "nobody" / file, getattr(course.answers, task)
        assert honest[task] == csvs.score(mine, answers) < 1
    unnamed = leaderboard.leaderboard(handed_in).loc["nobody"]  # no data there
    assert np.isnan(unnamed["classification"])
    assert "no such folder" in unnamed["note"]


def test_data_made_anew_are_told_by_their_classes_and_by_their_age(
    handed_in, copy_of_course, course
):
    answers = CourseData(copy_of_course).answers
    later = time.time() + 60
    os.utime(answers.verification, (later, later))
    row = leaderboard.leaderboard(handed_in, copy_of_course).loc["good"]
    assert "older than the answers" in row["note"]
    for split in ("train", "dev"):
        folder = CourseData(copy_of_course).classification / split
        (folder / course.classes[0]).rename(folder / "n999999")
    row = leaderboard.leaderboard(handed_in, copy_of_course).loc["good"]
    assert np.isnan(row["classification"])
    assert "trained on other classes than those of" in row["note"]


@pytest.mark.parametrize("accuracy", [9.99, -1.0, float("nan"), "good", None, 10**400])
def test_an_accuracy_that_nobody_can_have_measured_is_told(accuracy, handed_in, course):
    def change(state):
        state["progress"]["rows"] = [{"dev_accuracy": accuracy}]

    forge(handed_in / "good", change)
    table = leaderboard.leaderboard(handed_in, course.root)
    assert np.isnan(table.loc["good", "dev"])
    assert str(handed_in / "good" / "best.pt") in table.loc["good", "note"]
    assert table.loc["nobody", "note"] == ""


def test_a_link_counts_for_nothing(handed_in, course):
    file = pipeline.FILES["classification"]
    (handed_in / "good" / file).unlink()
    (handed_in / "good" / file).symlink_to(course.answers.classification)
    (handed_in / "thief").symlink_to(handed_in / "nobody")
    table = leaderboard.leaderboard(handed_in, course.root)
    for name in ("good", "thief"):
        assert "a link, where the file itself is wanted" in table.loc[name, "note"]
        assert np.isnan(table.loc[name, "classification"])
    assert table.loc["nobody", "note"] == ""


def test_the_name_of_a_run_does_not_speak_to_the_terminal(handed_in, course):
    (handed_in / "good").rename(handed_in / "\x1b[2Jgood")
    text = "\n".join(leaderboard.lines(leaderboard.leaderboard(handed_in, course.root)))
    assert "\\x1b[2Jgood" in text and "\x1b" not in text


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
