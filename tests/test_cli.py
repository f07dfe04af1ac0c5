"""The commands of the public contract, with their exit statuses, as a student types them."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from failing_disk import no_space
from PIL import Image

import facekit
from facekit import cli
from facekit.data.layout import CourseData
from facekit.sources import set_up
from facekit.training import recipe as recipes

SHORT = "--set", "epochs=2", "--set", "image_size=32", "--device", "cpu"


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


# --- in a process of its own


def facekit_in(workspace: Path, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "facekit", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=workspace,
        env=os.environ | {"FACEKIT_HOME": str(workspace)},
    )


def test_a_good_command_in_a_real_process_ends_with_status_0(
    copy_of_run: Path, course: CourseData, tmp_path: Path
) -> None:
    done = facekit_in(tmp_path, "submit", copy_of_run)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(rows_of(copy_of_run / "classification.csv")) == len(course.test) + 1


def test_a_bad_command_in_a_real_process_ends_with_status_2_and_one_line(
    copy_of_course: Path, tmp_path: Path, unchanged
) -> None:
    path = CourseData(copy_of_course).train.paths[7]
    path.write_bytes(path.read_bytes()[:700])
    with unchanged(copy_of_course):
        done = facekit_in(tmp_path, "train", "smoke", "--data", copy_of_course, "--out", "run")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"facekit: {re.escape(str(path))}: cannot read .*\n", done.stderr)
    assert not (tmp_path / "run").exists()


def test_an_image_too_large_is_one_line_without_warnings(
    copy_of_course: Path, tmp_path: Path
) -> None:
    path = CourseData(copy_of_course).dev.paths[0]
    Image.new("1", (10_000, 10_000)).save(path, "PNG")
    done = facekit_in(tmp_path, "train", "smoke", "--data", copy_of_course, "--out", "run")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert f"{path}: cannot read this image (10000 x 10000 is too large)" in done.stderr


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "not enough memory"),
        (RecursionError("deep"), "nested too deeply"),
        (KeyError("label"), "KeyError: 'label' (in "),
        (ValueError("odd"), "ValueError: odd (in "),
        (EOFError("short"), "EOFError: short (in "),
        (TimeoutError(), "TimeoutError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_whatever_is_raised_is_one_line(error, words: str, refused, monkeypatch) -> None:
    def fail(data):
        raise error

    monkeypatch.setattr(cli.examination, "examine", fail)
    assert words in refused("doctor")


def test_a_tilde_in_an_option_is_the_home_folder(run_cli, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert run_cli("new", "~/mine.py").status == 0
    assert (tmp_path / "mine.py").is_file()


# --- help


@pytest.mark.parametrize(
    "command", ["data", "train", "evaluate", "submit", "check", "score", "doctor", "course"]
)
def test_every_command_explains_itself(command: str, run_cli) -> None:
    overall, one = run_cli("--help"), run_cli(command, "--help")
    assert overall.status == one.status == 0
    assert re.search(rf"^  {command} +\w", overall.stdout, re.MULTILINE)
    assert f"facekit {command}" in one.stdout


def test_without_a_command_there_is_help(run_cli) -> None:
    assert run_cli() == run_cli("--help")


# --- data


def test_data_fills_the_workspace_and_a_second_call_does_nothing(
    run_cli, tmp_path: Path, unchanged, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_cli("data", "--profile", "smoke")
    root = tmp_path / "home" / "data"
    assert first.status == 0
    assert first.stdout == f"{root}: 16 classes, 192 training images\n"
    assert json.loads((root / "manifest.json").read_text())["name"] == "smoke"
    with unchanged(root):
        assert run_cli("data", "--profile", "smoke") == first
        monkeypatch.setenv("FACEKIT_PROFILE", "smoke")
        assert run_cli("data") == first


def test_data_takes_a_seed_and_a_term(
    run_cli, tmp_path: Path, tiny_profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.profiles, "get_profile", lambda name: tiny_profile)
    out = tmp_path / "data"
    arguments = "--profile", "smoke", "--out", out, "--seed", 4, "--term", "S23"
    assert run_cli("data", *arguments).status == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["seed"], manifest["term"]) == (4, "S23")
    assert CourseData(out, "S23").test.names[0] == "00000.jpg"


# --- train


def test_train_leaves_a_run_and_a_second_call_only_reads_it(
    course: CourseData, run_cli, tmp_path: Path, unchanged
) -> None:
    command = "train", "smoke", "--data", course.root, *SHORT
    with unchanged(course.root):
        first = run_cli(*command)
    run = tmp_path / "home" / "runs" / "smoke"
    assert first.status == 0, first.stderr
    assert re.fullmatch(rf"{run}: best dev accuracy [\d.]+% in epoch [12]\n", first.stdout)
    kept = {p.name for p in run.iterdir() if not p.name.startswith(("step-", "."))}
    assert kept == {"best.pt", "environment.json", "history.csv", "recipe.json"}
    assert len(list(run.glob("step-*.pt"))) == 2
    assert [row[0] for row in rows_of(run / "history.csv")] == ["epoch", "1", "2"]
    with unchanged(run):
        assert run_cli(*command) == first


def test_train_takes_settings_from_the_command_line(
    course: CourseData, run_cli, tmp_path: Path
) -> None:
    settings = "--set", "augment.flip=0", "--set", "optimizer=sgd", "--set", "lr=1"
    out = tmp_path / "run"
    outcome = run_cli("train", "smoke", "--data", course.root, "--out", out, *SHORT, *settings)
    assert outcome.status == 0, outcome.stderr
    recipe = json.loads((out / "recipe.json").read_text())
    assert (
        recipe
        == recipes.load(
            "smoke",
            [
                "epochs=2",
                "image_size=32",
                "augment.flip=0.0",
                'optimizer="sgd"',
                "lr=1.0",
            ],
        ).as_dict()
    )
    assert (recipe["augment"]["flip"], recipe["optimizer"], recipe["lr"]) == (
        0,
        "sgd",
        1,
    )


def test_train_takes_a_recipe_of_ones_own(course: CourseData, run_cli, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('network = "tiny"\nepochs = 1\nimage_size = 16\n[augment]\nflip = 0\n')
    outcome = run_cli("train", path, "--data", course.root, "--device", "cpu")
    assert outcome.status == 0, outcome.stderr
    assert (tmp_path / "home" / "runs" / "mine" / "best.pt").is_file()


# --- evaluate and submit


def test_evaluate_prints_both_accuracies_and_writes_nothing(
    trained: Path, course: CourseData, run_cli, unchanged
) -> None:
    with unchanged(trained, course.root):
        outcome = run_cli("evaluate", trained)
    assert outcome.status == 0, outcome.stderr
    classification, verification, rule, threshold = outcome.stdout.splitlines()
    best = max(float(row[5]) for row in rows_of(trained / "history.csv")[1:])
    assert classification.startswith(f"classification {best:.2%} -> ")
    assert "the homework's LOW 82%, MEDIUM 84%, HIGH 90%, chance 16.7%" in classification
    assert re.match(r"verification \d+\.\d\d% -> .*chance 11\.1%", verification)
    assert re.match(r"rule threshold, threshold -?\d\.\d{3}: DIR \d+\.\d%, FPIR \d+\.\d%", rule)
    assert re.match(r"best threshold -?\d\.\d{3}: \d+\.\d%", threshold)


def test_submit_writes_two_good_files_and_prints_what_score_prints(
    copy_of_run: Path, course: CourseData, run_cli
) -> None:
    outcome = run_cli("submit", copy_of_run)
    assert outcome.status == 0, outcome.stderr
    lines = outcome.stdout.splitlines()
    for place, task in enumerate(("classification", "verification")):
        path = copy_of_run / f"{task}.csv"
        assert lines[place] == f"{task} submission: {path}"
        assert run_cli("check", path, "--data", course.root) == (0, f"{path}: nothing wrong\n", "")
        truth = rows_of(getattr(course.answers, task))
        right = sum(mine == true for mine, true in zip(rows_of(path), truth, strict=True)) - 1
        scored = run_cli("score", path, "--answers", getattr(course.answers, task))
        assert scored.status == 0
        assert scored.stdout.startswith(f"{task} {right / (len(truth) - 1):.2%} -> ")
        assert scored.stdout.split(" (")[0] in lines[2 + place]


def test_submit_goes_without_answers_and_prints_no_score(
    copy_of_run: Path, copy_of_course: Path, run_cli
) -> None:
    shutil.rmtree(copy_of_course / "answers")
    outcome = run_cli("submit", copy_of_run, "--data", copy_of_course)
    assert outcome.status == 0, outcome.stderr
    assert len(outcome.stdout.splitlines()) == 2


def test_the_same_run_writes_the_same_bytes(copy_of_run: Path, run_cli) -> None:
    files = [copy_of_run / "classification.csv", copy_of_run / "verification.csv"]
    assert run_cli("submit", copy_of_run).status == 0
    first = [file.read_bytes() for file in files]
    assert run_cli("submit", copy_of_run).status == 0
    assert [file.read_bytes() for file in files] == first


def test_every_answer_goes_with_its_file_whatever_the_names(
    copy_of_run: Path, copy_of_course: Path, run_cli
) -> None:
    command = "submit", copy_of_run, "--data", copy_of_course
    assert run_cli(*command).status == 0
    before = dict(rows_of(copy_of_run / "classification.csv")[1:])
    test = CourseData(copy_of_course).classification / "test"
    (test.parent / "classification_sample_submission.csv").unlink()  # it names the old ones
    new_names = {name: f"{(7 * row) % 12}.jpg" for row, name in enumerate(sorted(before))}
    for old, new in new_names.items():
        (test / old).rename(test / new)
    shutil.rmtree(copy_of_course / "answers")
    assert run_cli(*command).status == 0
    after = dict(rows_of(copy_of_run / "classification.csv")[1:])
    assert after == {new_names[old]: label for old, label in before.items()}


@pytest.fixture
def kaggle_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a script in the place of Kaggle's program."""

    def put(script: str) -> None:
        program = tmp_path / "bin" / "kaggle"
        program.parent.mkdir()
        program.write_text(script)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    return put


def test_submit_kaggle_sends_both_files(
    copy_of_run: Path, run_cli, kaggle_is: Callable[[str], None]
) -> None:
    kaggle_is('#!/bin/sh\necho "sent $3 $5"\n')
    outcome = run_cli("submit", copy_of_run, "--kaggle")
    assert outcome.status == 0, outcome.stderr
    assert outcome.stdout.splitlines()[-2:] == [
        f"sent 11-785-f23-hw2p2-{task} {copy_of_run / task}.csv"
        for task in ("classification", "verification")
    ]


def test_a_refusal_by_kaggle_is_one_line(
    copy_of_run: Path, refused, kaggle_is: Callable[[str], None]
) -> None:
    kaggle_is("#!/bin/sh\nprintf '401\\nUnauthorized\\n'\nexit 1\n")
    assert "401 Unauthorized" in refused("submit", copy_of_run, "--kaggle")


# --- check and score


def test_check_knows_the_term(run_cli, course: CourseData, copy_of_course: Path) -> None:
    for part in ("classification", "verification"):
        old = copy_of_course / f"11-785-f23-hw2p2-{part}"
        old.rename(copy_of_course / f"11-785-s24-hw2p2-{part}")
    path = course.answers.classification
    good = run_cli("check", path, "--data", copy_of_course, "--term", "S24")
    assert (good.status, good.stderr) == (0, "")


def test_the_sample_submissions_are_accepted(run_cli, course: CourseData) -> None:
    for folder, task in (
        (course.classification, "classification"),
        (course.verification, "verification"),
    ):
        path = folder / f"{task}_sample_submission.csv"
        assert run_cli("check", path, "--data", course.root).status == 0
        scored = run_cli("score", path, "--answers", getattr(course.answers, task))
        share = {"classification": "16.67%", "verification": "11.11%"}[task]
        assert scored.stdout.startswith(f"{task} {share} -> below LOW (")


def test_check_says_every_problem_in_one_line(refused, course: CourseData, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("id,label\n000000.jpg,1\n000001.jpg,x\n")
    said = refused("check", path, "--data", course.root)
    assert "10 of 12 rows missing" in said
    assert "'x'" in said


# --- doctor


def test_doctor_prints_every_choice_with_its_reason(run_cli, course: CourseData) -> None:
    outcome = run_cli("doctor", "--data", course.root)
    assert outcome.status == 0
    lines = outcome.stdout.splitlines()
    assert all(re.fullmatch(r"[\w-]+ +\S.*\(.+\)", line) for line in lines)
    found = {line.split()[0]: line for line in lines}
    assert facekit.__version__ in found["facekit"]
    assert {"python", "torch", "device", "precision", "profile", "data"} <= set(found)
    assert "there is " in found["profile"]


def test_doctor_prints_who_chose_the_profile(run_cli, monkeypatch: pytest.MonkeyPatch) -> None:
    run_cli("doctor")
    monkeypatch.setenv("FACEKIT_PROFILE", "gpu")
    outcome = run_cli("doctor")
    (profile,) = (line for line in outcome.stdout.splitlines() if line.startswith("profile"))
    assert re.fullmatch(r"profile +gpu +\(FACEKIT_PROFILE\)", profile)


def test_doctor_says_that_there_is_no_data(run_cli, tmp_path: Path) -> None:
    outcome = run_cli("doctor", "--data", tmp_path / "nothing")
    assert outcome.status == 0
    assert "nothing: no such folder" in outcome.stdout


@pytest.mark.parametrize("term", ["S23", "S24"])
def test_the_term_of_the_data_is_found_by_its_folders(
    term: str, run_cli, tmp_path: Path, tiny_profile
) -> None:
    data = tmp_path / "data"
    set_up("synthetic", tiny_profile, data, term=term, progress=False)
    assert re.search(r"^data +6 classes", run_cli("doctor", "--data", data).stdout, re.MULTILINE)
    (sample,) = data.glob("*classification/classification_sample_submission.csv")
    assert run_cli("check", sample, "--data", data).status == 0


def test_a_course_tree_that_was_taken_over_belongs_to_no_profile(
    run_cli, course: CourseData, tmp_path: Path, unchanged
) -> None:
    take = "data", "--source", "folder", course.root, "--out", tmp_path / "mine"
    assert run_cli(*take, "--profile", "smoke").status == 0
    with unchanged(tmp_path / "mine"):
        assert run_cli(*take, "--profile", "laptop").status == 0


def test_the_name_of_a_recipe_cannot_lead_out_of_the_runs(
    refused, course: CourseData, tmp_path: Path
) -> None:
    change = "--set", "name=../../elsewhere"
    assert "a name is letters" in refused("train", "smoke", "--data", course.root, *change)
    assert not (tmp_path / "home").exists()


# --- faces


@pytest.mark.parametrize(
    ("kind", "more", "size"),
    [
        ("people", (), (96, 64)),
        ("shots", ("--difficulty", "hard"), (96, 64)),
        ("sweep", ("--knob", "yaw", "--knob", "jaw_width", "--knob", "style_now"), (96, 96)),
    ],
)
def test_faces_sheet_writes_an_image(
    kind: str, more: tuple[str, ...], size: tuple[int, int], run_cli, tmp_path: Path
) -> None:
    out = tmp_path / "sheet.png"
    layout = "--rows", 2, "--columns", 3, "--size", 32
    outcome = run_cli("faces", "sheet", kind, "--out", out, *layout, *more)
    assert outcome == (0, f"{out}: {size[0]} x {size[1]} pixels\n", "")
    with Image.open(out) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", size)
        assert len(image.getcolors(10_000)) > 500


def test_a_sheet_is_the_same_for_the_same_arguments_and_may_be_a_jpeg(
    run_cli, tmp_path: Path
) -> None:
    one, two, other, photo = (tmp_path / name for name in ("1.png", "2.png", "3.png", "4.jpg"))
    command = "faces", "sheet", "people", "--rows", 1, "--columns", 2, "--size", 16
    for path, more in ((one, ()), (two, ()), (other, ("--seed", 1)), (photo, ("--first", 9))):
        assert run_cli(*command, "--out", path, *more).status == 0
    assert one.read_bytes() == two.read_bytes() != other.read_bytes()
    with Image.open(photo) as image:
        assert (image.format, image.size) == ("JPEG", (32, 16))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("crowds",), "no sheet 'crowds'; choose one of: people, shots, sweep"),
        (("sweep", "--knob", "yow"), "no knob 'yow'; choose one of: yaw, "),
        (("people", "--size", 15), "size must be 16 to 1024 pixels, not 15"),
        (("people", "--size", 1025), "size must be 16 to 1024 pixels, not 1025"),
        (("people", "--first", -1), "person must not be negative"),
        (("people", "--rows", 0), "rows"),
        (("people", "--columns", "x"), "columns"),
        (("shots", "--difficulty", "hart"), "no difficulty 'hart'; choose one of: easy, "),
        (("people", "--colour", "red"), "No such option"),
    ],
)
def test_a_sheet_that_cannot_be_is_one_line(
    arguments: tuple, words: str, refused, tmp_path: Path, unchanged
) -> None:
    with unchanged(tmp_path):
        assert words in refused("faces", "sheet", *arguments, "--out", tmp_path / "sheet.png")


@pytest.mark.parametrize("name", ["sheet.gif", "sheet", "sheet.png", "nowhere/sheet.png"])
def test_a_sheet_goes_only_where_an_image_can_be(
    name: str, refused, tmp_path: Path, unchanged
) -> None:
    small = "--rows", 1, "--columns", 1, "--size", 16
    (tmp_path / "sheet.png").mkdir()
    with unchanged(tmp_path):
        said = refused("faces", "sheet", "people", *small, "--out", f"{tmp_path}/{name}")
    assert str(tmp_path / name) in said
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_a_sheet_is_written_whole_and_through_no_link(
    run_cli, refused, tmp_path: Path, monkeypatch
) -> None:
    small = "--rows", 1, "--columns", 1, "--size", 16
    (tmp_path / "sheet.png").write_bytes(b"mine")
    (tmp_path / "link.png").symlink_to(tmp_path / "sheet.png")
    assert run_cli("faces", "sheet", *small, "--out", tmp_path / "link.png").status == 0
    assert (tmp_path / "sheet.png").read_bytes() == b"mine"
    monkeypatch.setattr(os, "fsync", no_space)
    assert "make room" in refused("faces", "sheet", *small, "--out", tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes() == b"mine"


def test_a_sheet_is_refused_before_it_is_rendered(
    refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody should wait for a large sheet to hear that its folder is not there."""
    monkeypatch.setattr("facekit.faces.render", lambda *_, **__: pytest.fail("rendered"))
    assert "nowhere" in refused("faces", "sheet", "people", "--out", tmp_path / "nowhere/sheet.png")


def test_faces_explains_itself(run_cli) -> None:
    overall, one = run_cli("faces", "--help"), run_cli("faces", "sheet", "--help")
    assert overall.status == one.status == 0
    assert re.search(r"^  sheet +\w", overall.stdout, re.MULTILINE)
    assert "facekit faces sheet" in one.stdout


def test_faces_without_a_command_is_help_as_people_read_it(run_cli) -> None:
    outcome = run_cli("faces")
    assert outcome.stdout == run_cli("faces", "--help").stdout
    assert not outcome.stderr
