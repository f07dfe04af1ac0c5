"""The leaderboard: two parts that nobody can guess, a limit, and no file that ends it."""

import csv
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import browser
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import sync_playwright

from facekit.common.errors import DataError
from facekit.grading import board, board_page
from facekit.submission import csvs, pairs

TASKS = ("classification", "verification")
NOON = datetime(2025, 11, 27, 12, tzinfo=UTC).timestamp()
DAY = 86_400


def answered(answers: Path, right: float, seed: int) -> str:
    """About this share of the answers, others' labels for the rest; by the seed, other rows."""
    table = pd.read_csv(answers, dtype=str)
    random = np.random.default_rng(seed)
    other = table["label"].to_numpy()[random.permutation(len(table))]
    kept = random.random(len(table)) < right
    return table.assign(label=np.where(kept, table["label"], other)).to_csv(index=False)


def hand_in(folder: Path, name: str, text: str, time: float = NOON) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    os.utime(path, (time, time))
    return path


@pytest.fixture
def folder(course, tmp_path) -> Path:
    """Three students; ada has handed in twice, and names the file that is not her best."""
    folder = tmp_path / "class"
    shares = {"ada": (0.9, 0.3), "bob": (0.6,), "cleo": (0.1,)}
    for seed, (student, tried) in enumerate(shares.items()):
        for count, share in enumerate(tried):
            for task in TASKS:
                text = answered(getattr(course.answers, task), share, seed)
                hand_in(folder / student, f"{task}{count}.csv", text, NOON + 60 * count)
    (folder / "ada" / "chosen.txt").write_text("verification1.csv\n")
    (folder / "ada" / "history.csv").write_text("epoch,loss\n1,2.5\n")  # as in a run's folder
    return folder


def kept(folder: Path, data, **options) -> board.Board:
    return board.keep(folder, data, folder.parent / "board.csv", **options)


def order(found: board.Board, task: str, part: str = "public") -> list[str]:
    return [place.student for place in board.standings(found, task, part)]


# --- the two parts


IDS = st.lists(st.text("abc0123456789", min_size=1), min_size=10, max_size=60, unique=True)


@given(ids=IDS, share=st.floats(0.2, 0.8), seed=st.integers(0, 99))
def test_the_parts_share_no_row_lack_none_and_do_not_depend_on_the_order(ids, share, seed):
    random = np.random.default_rng(seed)
    answers = np.array([str(place) for place in range(len(ids))])
    public = board.rows_of("public", share, ids, answers)
    assert (public ^ board.rows_of("private", share, ids, answers)).all()
    assert public.sum() == round(share * len(ids))
    mixed = random.permutation(len(ids))
    again = board.rows_of("public", share, [ids[place] for place in mixed], answers[mixed])
    assert (again == public[mixed]).all()


@given(changed=st.integers(0, 99))
def test_who_does_not_have_every_answer_cannot_tell_the_parts(changed):
    ids, answers = [str(place) for place in range(100)], np.arange(100).astype(str)
    public = board.rows_of("public", 0.4, ids, answers)
    answers[changed] = "another"
    guessed = board.rows_of("public", 0.4, ids, answers)
    assert 10 < (guessed & public).sum() < 25  # 16 by chance, of 40


@pytest.mark.parametrize("share", [0, 0.01, 0.99, 1, 2, -1, float("nan")])
def test_a_share_that_leaves_too_little_to_one_part_is_refused(share):
    with pytest.raises(DataError, match="--public"):
        board.rows_of("public", share, [str(row) for row in range(20)], np.arange(20))


def test_both_scores_together_are_the_score_of_the_whole_file(folder, course):
    found = kept(folder, course)
    for key, row in found.accepted.items():
        answers = getattr(course.answers, row.task)
        right, count = csvs.count_right(found.paths[key], answers)
        public = round(board.PUBLIC * count)
        assert row.public * public + row.private * (count - public) == pytest.approx(right)


# --- places


def test_the_best_public_one_counts_until_the_end_and_then_the_chosen_one(folder, course):
    found = kept(folder, course)
    assert order(found, "classification") == ["ada", "bob", "cleo"]
    public = board.standings(found, "verification", "public")[0]
    private = {p.student: p for p in board.standings(found, "verification", "private")}
    assert (public.submission.file, public.count, public.chosen) == ("verification0.csv", 2, False)
    assert private["ada"].submission.file == "verification1.csv" and private["ada"].chosen
    assert private["bob"].submission.file == "verification0.csv" and not private["bob"].chosen
    assert private["ada"].mark.figure == private["ada"].submission.private
    assert public.mark.figure == public.submission.public
    low, high = public.mark.interval
    assert low <= public.mark.figure <= high and public.mark.places[0] == 1


def test_equal_scores_share_a_place_and_the_earlier_one_is_above(folder, course):
    text = (folder / "ada" / "verification0.csv").read_text()
    hand_in(folder / "aaron", "v.csv", text, NOON + 30)
    places = board.standings(kept(folder, course), "verification", "public")
    assert [(p.student, p.mark.place) for p in places[:3]] == [("ada", 1), ("aaron", 1), ("bob", 3)]


def test_of_pairs_the_lowest_equal_error_rate_leads(pair_course, tmp_path):
    same = np.array(pairs.read_scores(pair_course.answers.verification))
    for name, scores in {"ada": same, "bob": 1 - same, "cleo": same * 0}.items():
        pairs.write(tmp_path / "class" / name / "pairs.csv", scores.astype(float))
    found = kept(tmp_path / "class", pair_course)
    assert order(found, "verification") == order(found, "verification", "private")
    assert order(found, "verification") == ["ada", "cleo", "bob"]
    rates = [p.submission.public for p in board.standings(found, "verification", "public")]
    assert rates == [0, 0.5, 1]
    board_page.write(found, tmp_path / "board.html")
    page = (tmp_path / "board.html").read_text()
    assert "EER (less is better)" in page and "40 % of the pairs" in page


# --- the limit


def test_the_limit_is_of_a_day_in_utc_and_of_each_task(course, tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    midnight = datetime(2025, 11, 28, tzinfo=UTC).timestamp()
    times = [midnight - 3, midnight - 2, midnight - 1, midnight, midnight + 1]
    for seed, time in enumerate(times):
        text = answered(course.answers.verification, 0.5, seed)
        hand_in(tmp_path / "class" / "ada", f"v{seed}.csv", text, time)
    text = answered(course.answers.classification, 0.5, 0)
    hand_in(tmp_path / "class" / "ada", "c.csv", text, midnight - 1)
    found = kept(tmp_path / "class", course, daily=2)
    files = sorted(row.file for row in found.accepted.values())
    assert files == ["c.csv", "v0.csv", "v1.csv", "v3.csv", "v4.csv"]
    (refused,) = found.refused
    assert refused.file == "v2.csv" and "over the limit of 2 a day" in refused.reason
    assert "2025-11-27 UTC" in refused.reason


def test_who_deletes_a_file_gets_no_submission_back_and_may_hand_in_on_another_day(folder, course):
    kept(folder, course, daily=1)
    (folder / "bob" / "verification0.csv").unlink()
    text = answered(course.answers.verification, 1, 0)
    path = hand_in(folder / "bob", "late.csv", text, NOON + 300)
    found = kept(folder, course, daily=1)
    assert "over the limit" in next(r.reason for r in found.refused if r.student == "bob")
    assert "bob" not in order(found, "verification")
    os.utime(path, (NOON + DAY, NOON + DAY))
    assert order(kept(folder, course, daily=1), "verification")[0] == "bob"


def test_a_file_that_nothing_is_wrong_with_costs_one_submission_however_often_it_is_there(
    folder, course
):
    text = (folder / "bob" / "verification0.csv").read_text()
    for count in range(5):
        hand_in(folder / "bob", f"again{count}.csv", text, NOON + 60)
        hand_in(folder / "bob", f"bad{count}.csv", f"id,label\n{count},n000001\n", NOON - 60)
    later = answered(course.answers.verification, 0.7, 9)
    hand_in(folder / "bob", "second.csv", later, NOON + 120)
    found = kept(folder, course, daily=2)
    assert {"second.csv", "verification0.csv"} <= {row.file for row in found.accepted.values()}
    reasons = [row.reason for row in found.refused if row.student == "bob"]
    assert reasons.count("the same as verification0.csv") == 5 and len(reasons) == 10


# --- the log


def test_the_log_is_private_stays_as_it_is_and_can_be_made_again(folder, course):
    log = folder.parent / "board.csv"
    first = kept(folder, course)
    text = log.read_bytes()
    assert log.stat().st_mode & 0o077 == 0
    for path in folder.rglob("*[01].csv"):
        os.utime(path)  # handed in when it was first seen
    assert kept(folder, course).accepted == first.accepted and log.read_bytes() == text
    for path in folder.rglob("*[01].csv"):
        time = NOON + 60 * int(path.stem[-1])
        os.utime(path, (time, time))
    log.unlink()
    assert kept(folder, course).accepted == first.accepted and log.read_bytes() == text


def test_a_log_of_other_answers_or_shares_and_a_damaged_one_are_refused(folder, course):
    kept(folder, course)
    log = folder.parent / "board.csv"
    text = log.read_text()
    with pytest.raises(DataError, match="other answers or another --public"):
        kept(folder, course, share=0.5)
    log.write_text(re.sub(r",0\.\d+,", ",much,", text))
    with pytest.raises(DataError, match="damaged"):
        kept(folder, course)
    log.write_text("time,student\n")
    with pytest.raises(DataError, match="no column task"):
        kept(folder, course)


# --- what must not end it


def test_a_bad_file_is_a_row_with_its_reason_and_nothing_of_this_machine(folder, course, tmp_path):
    bad = {
        "empty.csv": b"",
        "zeros.csv": b"id,label\n\0",
        "latin.csv": b"id,label\n0,\xff\n",
        "short.csv": b"id,label\n0,n000001\n",
        "columns.csv": b"a,b\n1,2\n",
        "large.csv": b"x" * (board.LARGEST + 9),
        "=cmd.csv": b"id,label\n" + b"0,n000001\n" * 2,
        "\x1b[2J<script>.csv": b"no table",
        "half\udcff.csv": b"",
    }
    for name, content in bad.items():
        (folder / "bob" / name).write_bytes(content)
    (folder / "bob" / "link.csv").symlink_to(course.answers.verification)
    (folder / "bob" / "gone.csv").symlink_to(tmp_path / "nowhere")
    (folder / "bob" / "folder.csv").mkdir()
    os.mkfifo(folder / "bob" / "pipe.csv")
    far = hand_in(folder / "bob", "far.csv", answered(course.answers.verification, 1, 1))
    os.utime(far, (2**33, 2**33))
    (folder / "bob" / "chosen.txt").write_text("../ada/verification0.csv\nnone.csv\n")
    (folder / "ada" / "chosen.txt").write_bytes(b"\xff")
    (folder / "dan").symlink_to(folder / "ada")
    found = kept(folder, course)
    assert order(found, "verification") == ["ada", "bob", "cleo"]
    reasons = {row.file: row.reason for row in found.refused}
    assert len(found.refused) == len(bad) + 5 + 1 + 1 + 1
    assert "a link" in reasons["link.csv"] and "a link" in reasons[""]
    assert reasons["far.csv"] == "its time, 2242-03-16 12:56 UTC, lies ahead"
    assert "no file" in reasons["pipe.csv"] and "2 rows" not in reasons["short.csv"]
    assert "'=cmd.csv" in reasons and "none.csv: no scored file" in reasons.values()
    told = "".join(map(str, found.refused))
    assert str(tmp_path) not in told and "/tmp" not in told and "\x1b" not in told
    assert not [sign for sign in told if not sign.isprintable()]


def test_what_there_is_no_board_of_is_refused_in_one_line(
    copy_of_course, course, tmp_path, refused
):
    assert "no such folder" in refused("board", tmp_path / "away", "--data", course.root)
    (tmp_path / "empty").mkdir()
    assert "holds no folder" in refused("board", tmp_path / "empty", "--data", course.root)
    said = refused("board", tmp_path, "--data", course.root, "--out", tmp_path / "board.csv")
    assert "the page is an .html" in said
    (copy_of_course / "answers" / "verification_test.csv").unlink()
    assert "has no answers" in refused("board", tmp_path, "--data", copy_of_course)


# --- the page


def test_the_command_shows_private_scores_only_where_they_are_asked_for(
    folder, course, run_cli, tmp_path
):
    page, log = tmp_path / "class.html", tmp_path / "class.csv"
    outcome = run_cli("board", folder, "--data", course.root, "--out", page)
    assert (outcome.status, outcome.stdout) == (0, f"{page}: 8 submissions, 0 not scored\n")
    public = page.read_text()
    assert "private part</h2>" not in public
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    shown = {f"{float(row['public']):.2%}" for row in rows}
    hidden = {f"{float(row['private']):.2%}" for row in rows} - shown
    ends = re.sub(r"\S+% to \S+%", "", public)  # an end of an interval may equal any score
    assert hidden and not [score for score in hidden if f"<td>{score}</td>" in ends]
    run_cli("board", folder, "--data", course.root, "--out", page, "--private")
    second = tmp_path / "class-private.html"
    assert page.read_text() == public
    assert "<h2>verification, private part</h2>" in second.read_text()
    assert second.stat().st_mode & 0o077 == 0


def test_a_browser_reads_names_as_text_in_light_and_dark_and_asks_nobody(folder, course, tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    text = answered(course.answers.verification, 0.5, 3)
    hand_in(folder / evil, f"{evil}.csv", text)
    hand_in(folder / evil, "bad<b>.csv", "id,label\n")
    out = tmp_path / "board-private.html"
    board_page.write(kept(folder, course), tmp_path / "board.html", private=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser.here(), args=browser.FLAGS)
        colours = []
        for scheme in ("light", "dark"):
            page = chromium.new_page(color_scheme=scheme)
            asked = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.goto(out.as_uri())
            assert asked == [out.as_uri()]
            assert page.locator("td", has_text=evil).count() > 0
            assert page.locator("img, script, td b").count() == 0
            assert page.locator("h2").all_inner_texts() == [
                *(f"{task}, {part} part" for task in TASKS for part in ("private", "public")),
                "Not scored",
            ]
            colours.append(page.evaluate("getComputedStyle(document.body).color"))
            page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
        chromium.close()
    assert colours[0] != colours[1]
