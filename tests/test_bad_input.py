"""What goes wrong at a student's desk: one clear line, status 2, and nothing on disk changed."""

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facekit.data.layout import NO_MATCH, CourseData
from facekit.sources import set_up
from facekit.sources.profiles import Profile

CLASSIFICATION = "11-785-f23-hw2p2-classification"
VERIFICATION = "11-785-f23-hw2p2-verification"
SHORT = "--set", "epochs=1", "--set", "image_size=32", "--device", "cpu"
AS_TRAINED = "--device=cpu", "--set=epochs=3", "--set=image_size=32", "--set=precision=float32"


@pytest.fixture
def train_refused(
    refused: Callable[..., str], unchanged: Callable, tmp_path: Path
) -> Callable[..., str]:
    """`facekit train` on some data must be refused, and leave neither a run nor any change."""

    def run(data: Path, *arguments: object) -> str:
        with unchanged(data):
            said = refused("train", "smoke", "--data", data, *SHORT, *arguments)
        assert not (tmp_path / "home").exists()
        return said

    return run


# --- the data folder


@pytest.mark.parametrize(
    "command",
    [
        ("train", "smoke"),
        ("evaluate", "RUN"),
        ("submit", "RUN"),
        ("check", "RUN/history.csv"),
    ],
)
def test_a_data_folder_that_is_missing_is_named(
    command: tuple[str, str], trained: Path, tmp_path: Path, refused, unchanged
) -> None:
    name, argument = command
    argument = argument.replace("RUN", str(trained))
    with unchanged(trained):
        said = refused(name, argument, "--data", tmp_path / "nowhere")
    assert f"{tmp_path / 'nowhere'}: no such folder; run ./data_setup.sh" in said
    assert not list(tmp_path.iterdir())


def test_without_data_the_default_folder_is_named(refused, tmp_path: Path) -> None:
    assert f"{tmp_path / 'home' / 'data'}: no such folder" in refused("train", "smoke")
    assert not list(tmp_path.iterdir())


def test_an_empty_data_folder_is_said_to_hold_nothing(train_refused, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    said = train_refused(tmp_path / "data")
    assert f"no folder {CLASSIFICATION} (it holds: nothing)" in said


def test_a_folder_one_level_too_low_says_what_is_there(course: CourseData, train_refused) -> None:
    said = train_refused(course.classification)
    assert "it holds: classification_sample_submission.csv, dev, test, train" in said


def test_a_folder_one_level_too_high_says_what_is_there(
    copy_of_course: Path, train_refused, tmp_path: Path
) -> None:
    (tmp_path / "higher").mkdir()
    copy_of_course.rename(tmp_path / "higher" / "hw2p2")
    assert "it holds: hw2p2" in train_refused(tmp_path / "higher")


def test_the_wrong_term_says_what_is_there(course: CourseData, train_refused) -> None:
    said = train_refused(course.root, "--term", "S24")
    assert "no folder 11-785-s24-hw2p2-classification" in said
    assert CLASSIFICATION in said


@pytest.mark.parametrize(
    ("lost", "command"),
    [
        (VERIFICATION, "train"),
        (CLASSIFICATION, "train"),
        (f"{CLASSIFICATION}/train", "train"),
        (f"{CLASSIFICATION}/dev", "train"),
        (f"{CLASSIFICATION}/dev", "evaluate"),
        (f"{CLASSIFICATION}/test", "submit"),
        (f"{VERIFICATION}/known", "evaluate"),
        (f"{VERIFICATION}/known", "submit"),
        (f"{VERIFICATION}/unknown_dev", "evaluate"),
        (f"{VERIFICATION}/verification_dev.csv", "evaluate"),
        (f"{VERIFICATION}/verification_dev.csv", "submit"),
        (f"{VERIFICATION}/unknown_test", "submit"),
    ],
)
def test_a_tree_half_unpacked_names_what_is_lost(
    lost: str, command: str, copy_of_course: Path, copy_of_run: Path, refused, unchanged, tmp_path
) -> None:
    path = copy_of_course / lost
    path.rename(tmp_path / "lost")
    with unchanged(copy_of_course, copy_of_run):
        if command == "train":
            said = refused("train", "smoke", "--data", copy_of_course, *SHORT)
        else:
            said = refused(command, copy_of_run, "--data", copy_of_course)
    assert path.name in said
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("split", ["train", "dev"])
def test_an_empty_class_folder_is_named(split: str, copy_of_course: Path, train_refused) -> None:
    folder = copy_of_course / CLASSIFICATION / split / CourseData(copy_of_course).classes[2]
    for path in folder.iterdir():
        path.unlink()
    assert f"{folder}: holds no image" in train_refused(copy_of_course)


def test_an_extra_empty_class_folder_is_named(copy_of_course: Path, train_refused) -> None:
    for split in ("train", "dev"):
        (copy_of_course / CLASSIFICATION / split / "n000001").mkdir()
    assert "n000001: holds no image" in train_refused(copy_of_course)


def test_a_split_without_classes_is_named(copy_of_course: Path, train_refused) -> None:
    shutil.rmtree(copy_of_course / CLASSIFICATION / "train")
    (copy_of_course / CLASSIFICATION / "train").mkdir()
    assert "train: holds no identity folder" in train_refused(copy_of_course)


# --- images


@pytest.mark.parametrize("split", ["train", "dev"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[: len(content) // 2], "cannot read this image"),
        (lambda content: b"", "the file is empty"),
        (lambda content: b"<html>too many requests</html>", "not an image"),
    ],
    ids=["truncated", "zero bytes", "HTML"],
)
def test_train_names_a_broken_image_before_it_begins(
    split: str, damage: Callable, reason: str, copy_of_course: Path, train_refused
) -> None:
    path = getattr(CourseData(copy_of_course), split).paths[-1]
    path.write_bytes(damage(path.read_bytes()))
    said = train_refused(copy_of_course)
    assert str(path) in said
    assert reason in said


def test_many_broken_images_are_counted_and_the_first_named(
    copy_of_course: Path, train_refused
) -> None:
    paths = CourseData(copy_of_course).train.paths[4:9]
    for path in paths:
        path.write_bytes(b"")
    said = train_refused(copy_of_course)
    assert f"{paths[0]}: " in said
    assert "5 such images in all" in said


@pytest.mark.parametrize(
    ("part", "command"),
    [
        ("dev", "evaluate"),
        ("known", "evaluate"),
        ("unknown_dev", "evaluate"),
        ("known", "submit"),
    ],
)
def test_a_broken_image_is_never_skipped_in_judging(
    part: str, command: str, copy_of_course: Path, copy_of_run: Path, refused, unchanged
) -> None:
    path = getattr(CourseData(copy_of_course), part).paths[1]
    path.write_bytes(path.read_bytes()[:300])
    with unchanged(copy_of_course, copy_of_run):
        said = refused(command, copy_of_run, "--data", copy_of_course)
    assert f"{path}: cannot read this image" in said


KINDS: dict[str, Callable[[Image.Image, Path], None]] = {
    "PNG": lambda image, path: image.save(path, "PNG"),
    "grey": lambda image, path: image.convert("L").save(path, "JPEG"),
    "CMYK": lambda image, path: image.convert("CMYK").save(path, "JPEG"),
    "alpha": lambda image, path: image.convert("RGBA").save(path, "PNG"),
    "palette": lambda image, path: image.convert("P").save(path, "PNG"),
    "larger": lambda image, path: image.resize((50, 41)).save(path, "JPEG"),
    "16 bit": lambda image, path: Image.fromarray(
        np.asarray(image.convert("L")).astype(np.uint16) * 257
    ).save(path, "PNG"),
}


def test_odd_but_sound_images_called_jpg_are_trained_on_and_judged(
    copy_of_course: Path, run_cli, tmp_path: Path
) -> None:
    data = CourseData(copy_of_course)
    for part in (data.train, data.dev, data.test, data.known, data.unknown_dev):
        for path, save in zip(part.paths, KINDS.values(), strict=False):
            with Image.open(path) as image:
                image.load()
            save(image, path)
    outcome = run_cli("train", "smoke", "--data", copy_of_course, *SHORT)
    assert outcome.status == 0, outcome.stderr
    run = tmp_path / "home" / "runs" / "smoke"
    for command in ("evaluate", "submit"):
        outcome = run_cli(command, run)
        assert outcome.status == 0, outcome.stderr


# --- the table of the truth


def lines_shuffled(lines: list[str]) -> list[str]:
    return [lines[0], lines[2], lines[1], *lines[3:]]


TABLES: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "column missing": (lambda t: ["id,identity", *t[1:]], "no column label; it has id, identity"),
    "column in capitals": (lambda t: ["id,Label", *t[1:]], "no column label"),
    "semicolons": (lambda t: [line.replace(",", ";") for line in t], "no column label"),
    "a row missing": (lambda t: t[:-1], "8 rows for 9 images"),
    "a row doubled": (lambda t: [*t, t[-1]], "10 rows for 9 images"),
    "one row instead of another": (lambda t: [*t[:-1], t[-2]], "row 8 is about 7, not 8"),
    "shuffled": (lines_shuffled, "row 0 is about 1, not 0; row i must be the i-th file"),
    "counted from one": (
        lambda t: [t[0], *(f"{i + 1},{line.split(',')[1]}" for i, line in enumerate(t[1:]))],
        "row 0 is about 1, not 0",
    ),
    "header only": (lambda t: t[:1], "0 rows for 9 images"),
    "empty": (lambda t: [], "the file is empty"),
    "an unknown person": (lambda t: [*t[:-1], "8,n999999"], "n999999 is no known identity"),
    "an index for an identity": (lambda t: [*t[:-1], "8,3"], "'3' is no identity"),
    "a label empty": (lambda t: [*t[:-1], "8,"], "'' is no identity"),
    "a row cut short": (lambda t: [*t[:-1], "8"], "'' is no identity"),
    "a value too many": (lambda t: [*t[:-1], t[-1] + ",x"], "not a CSV file"),
    "a value too many in all": (
        lambda t: [t[0], *(line + ",x" for line in t[1:])],
        "more values than its header has columns",
    ),
    "no text": (lambda t: ["\0\udcff\udcfe"], "not a CSV file"),
}


@pytest.mark.parametrize("fault", TABLES)
def test_a_damaged_truth_is_named(
    fault: str, copy_of_course: Path, trained: Path, refused, unchanged
) -> None:
    path = copy_of_course / VERIFICATION / "verification_dev.csv"
    damage, named = TABLES[fault]
    text = "".join(line + "\n" for line in damage(path.read_text().splitlines()))
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with unchanged(copy_of_course, trained):
        said = refused("evaluate", trained, "--data", copy_of_course)
    assert said.startswith(f"facekit: {path}: ")
    assert named in said


def test_probes_of_strangers_alone_can_be_judged(
    copy_of_course: Path, trained: Path, run_cli
) -> None:
    path = copy_of_course / VERIFICATION / "verification_dev.csv"
    path.write_text("label\n" + f"{NO_MATCH}\n" * 9)
    outcome = run_cli("evaluate", trained, "--data", copy_of_course)
    assert outcome.status == 0, outcome.stderr
    assert "verification 100.00% -> HIGH" in outcome.stdout  # the strictest threshold is best


# --- names that do not exist


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("train", "huge"), "no recipe 'huge'; choose one of: gpu, high, high-18m, laptop"),
        (("data", "--profile", "big"), "no profile 'big'; choose one of: smoke, laptop, gpu"),
        (("data", "--source", "web"), "no source 'web'; choose one of: synthetic, folder"),
        (("data", "--profile", "smoke", "--term", "F99"), "no term 'F99'; choose one of: S23, F23"),
        (("data", "--source", "folder"), "needs a folder of identities"),
        (("data", "nowhere", "--source", "folder"), "nowhere is none"),
        (("train", "mine.toml"), "mine.toml: no such recipe file"),
        (("frobnicate",), "No such command 'frobnicate'"),
        (("train", "smoke", "--epochs", "3"), "No such option: --epochs"),
        (("data", "--seed", "x"), "Invalid value for '--seed'"),
        (("train",), "Missing argument"),
        (("evaluate",), "Missing argument"),
        (("score", "a.csv"), "what to score? facekit score CSV --answers CSV"),
        (("score", "a.csv", "--answers", "b.csv"), "a.csv: no such file"),
        (("evaluate", "nowhere"), "nowhere/best.pt: no such checkpoint; train the run first"),
        (("submit", "nowhere"), "nowhere/best.pt: no such checkpoint; train the run first"),
    ],
)
def test_what_does_not_exist_is_named_beside_what_does(
    arguments: tuple, named: str, refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert named in refused(*arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("network=vgg", "no network 'vgg'; choose one of: tiny, small"),
        ("network=3", "a network is a name or a table of settings"),
        ("network={stem={channels=8}}", "a network needs a setting 'stages'"),
        ("network={base='tiny', height=3}", "a network has no setting 'height'"),
        ("network={base='tiny', stages=[{block='vgg', channels=8}]}", "no block 'vgg'; choose"),
        ("head=arc", "no head 'arc'; choose one of: linear, arcface"),
        ("auxiliary_loss=circle", "no loss 'circle'; choose one of: center, triplet"),
        ("images_per_class=5", "batch_size of 32 cannot be dealt out by 5 images_per_class"),
        ("epoch=3", "no setting 'epoch'; there are: name, network, head, auxiliary_loss"),
        ("augment.flips=1", "no setting 'flips'; there are: crop_scale, flip"),
        ("augment=1", "augment is a table"),
        ("epochs.x=1", "epochs is a value, not a table"),
        ("epochs", "write key=value"),
        ("=3", "no setting ''"),
        ("epochs=many", "epochs must be of type int, not 'many'"),
        ("epochs=2.5", "epochs must be of type int, not 2.5"),
        ("epochs=true", "epochs must be of type int, not True"),
        ("lr=fast", "lr must be of type float"),
        ("epochs=0", "epochs must be over 0"),
        ("batch_size=1", "batch norm needs a batch_size of at least 2"),
        ("optimizer=adam", "optimizer is one of: adamw, sgd"),
        ("lr=nan", "lr must be from 0 to 1000, not nan"),
        ("lr=inf", "lr must be from 0"),
        ("lr=-1", "lr must be"),
        ("weight_decay=-1", "weight_decay must be from 0"),
        ("label_smoothing=2", "label_smoothing must be from 0 to 1, not 2.0"),
        ("warmup_epochs=-1", "warmup_epochs must be from 0"),
        ("patience=-1", "patience must be from 0"),
        ("augment.flip=2", "augment.flip must be from 0 to 1, not 2.0"),
        ("augment.crop_scale=0", "augment.crop_scale must be from"),
        ("augment.crop_scale=1.5", "augment.crop_scale must be from"),
        ("augment.rotation=-5", "augment.rotation must be from"),
        ("augment.jitter=-1", "augment.jitter must be from"),
        ("augment.grey=nan", "augment.grey must be from"),
        ("augment.erasing=7", "augment.erasing must be from"),
    ],
)
def test_an_impossible_setting_is_named(
    setting: str, named: str, course: CourseData, train_refused
) -> None:
    assert named in train_refused(course.root, "--set", setting)


def test_a_name_of_two_lines_is_told_in_one(refused) -> None:
    assert "no where/best.pt: no such checkpoint" in refused("evaluate", "no\nwhere")


def test_a_recipe_that_is_no_toml_is_named(refused, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("epochs = = 3\n")
    assert f"{path}: not a TOML file" in refused("train", path)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there_is_named(
    device: str, course: CourseData, train_refused
) -> None:
    assert f"device '{device}' cannot be used here" in train_refused(
        course.root, "--device", device
    )


def test_an_unknown_profile_in_the_environment_is_named(
    refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEKIT_PROFILE", "big")
    for command in ("data", "doctor"):
        assert "no profile 'big'; choose one of: smoke" in refused(command)


@pytest.mark.parametrize("command", [("data", "--profile", "smoke"), ("train", "smoke", *SHORT)])
@pytest.mark.parametrize("inside", [False, True])
def test_a_file_where_a_folder_is_wanted_is_named(
    command: tuple, inside: bool, course: CourseData, refused, tmp_path: Path
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    data = ("--data", course.root) if command[0] == "train" else ()
    out = path / "deeper" if inside else path
    assert "notes.txt" in refused(*command, *data, "--out", out)
    assert path.read_text() == "mine"


def test_data_does_not_touch_a_folder_of_other_things(refused, tmp_path: Path, unchanged) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "main.tex").write_text("mine")
    with unchanged(tmp_path):
        said = refused("data", "--profile", "smoke", "--out", tmp_path / "thesis")
    assert "holds main.tex, which this command did not make" in said


def test_data_of_another_size_is_not_mixed_in(copy_of_course: Path, refused, unchanged) -> None:
    with unchanged(copy_of_course):
        said = refused("data", "--profile", "smoke", "--out", copy_of_course)
    assert "holds a course with name = tiny, and smoke is asked for" in said


# --- runs


def flip_a_byte(path: Path) -> None:
    """Of the longest record, so that it is a weight."""
    with zipfile.ZipFile(path) as archive:
        record = max(archive.infolist(), key=lambda info: info.file_size)
    content = bytearray(path.read_bytes())
    name_and_extra = content[record.header_offset + 26 : record.header_offset + 30]
    start = record.header_offset + 30 + sum(np.frombuffer(name_and_extra, "<u2").tolist())
    content[start + record.file_size // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "one flipped bit": flip_a_byte,
    "cut in half": lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]),
    "without its last byte": lambda p: p.write_bytes(p.read_bytes()[:-1]),
    "empty": lambda p: p.write_bytes(b""),
    "zeros": lambda p: p.write_bytes(bytes(p.stat().st_size)),
    "HTML": lambda p: p.write_bytes(b"<html>sign in</html>"),
    "a pickle": lambda p: p.write_bytes(pickle.dumps({"format": 1})),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("command", ["evaluate", "submit"])
def test_a_damaged_checkpoint_is_named(
    command: str, damage: str, copy_of_run: Path, refused, unchanged
) -> None:
    DAMAGES[damage](copy_of_run / "best.pt")
    with unchanged(copy_of_run):
        said = refused(command, copy_of_run)
    assert f"{copy_of_run / 'best.pt'}: the checkpoint is damaged" in said


def test_training_does_not_go_on_from_a_damaged_checkpoint(
    copy_of_run: Path, course: CourseData, refused
) -> None:
    states = sorted(copy_of_run.glob("step-*.pt"))
    for path in states:
        flip_a_byte(path)
    damaged = [path.read_bytes() for path in states]
    said = refused("train", "smoke", "--data", course.root, "--out", copy_of_run, *SHORT)
    assert f"all 2 checkpoints in {copy_of_run} are damaged" in said
    kept = sorted(copy_of_run.glob("step-*.pt*"))
    assert [path.read_bytes() for path in kept] == damaged  # nothing is deleted


@pytest.mark.parametrize("content", [{"net": {}}, {"format": 99}, [1, 2]])
def test_a_checkpoint_of_something_else_is_named(
    content: object, course: CourseData, refused, tmp_path: Path, unchanged
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("best.pt", "step-00000007.pt"):
        torch.save(content, run / name)
    with unchanged(run):
        assert "best.pt: no run of this version" in refused("evaluate", run)
        said = refused("train", "smoke", "--data", course.root, "--out", run, *SHORT)
        assert "step-00000007.pt: no run of this version" in said


class Trap:
    """Code that a checkpoint would run if it were read without care."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


def test_a_checkpoint_never_runs_code(copy_of_run: Path, refused, tmp_path: Path) -> None:
    torch.save({"format": 1, "net": Trap(tmp_path / "sprung")}, copy_of_run / "best.pt")
    assert "best.pt: the checkpoint is damaged" in refused("evaluate", copy_of_run)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("command", ["evaluate", "submit"])
def test_a_run_of_other_classes_is_not_used(
    command: str, copy_of_run: Path, tmp_path: Path, refused, unchanged
) -> None:
    profile = Profile("dot", 2, 2, 1, 1, known=2, unknown_dev=9, unknown_test=9, pixels=16)
    set_up("synthetic", profile, tmp_path / "data", progress=False)
    with unchanged(copy_of_run, tmp_path / "data"):
        said = refused(command, copy_of_run, "--data", tmp_path / "data")
    assert "trained on 6 classes, and" in said
    assert "has 2 of other names" in said


def test_a_run_whose_data_moved_says_where_it_was(
    copy_of_course: Path, run_cli, refused, tmp_path: Path
) -> None:
    run, moved = tmp_path / "run", tmp_path / "moved"
    assert run_cli("train", "smoke", "--data", copy_of_course, "--out", run, *SHORT).status == 0
    copy_of_course.rename(moved)
    assert f"{copy_of_course}: no such folder" in refused("evaluate", run)
    assert run_cli("evaluate", run, "--data", moved).status == 0


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("epochs=4", "epochs = 3, and the recipe says 4"),
        ("lr=0.5", "lr = 0.004, and the recipe says 0.5"),
        ("network=small", "network = tiny, and the recipe says small"),
        ("seed=7", "seed = 0, and the recipe says 7"),
    ],
)
def test_a_run_of_another_recipe_is_not_gone_on_with(
    setting: str, named: str, copy_of_run: Path, course: CourseData, refused, unchanged
) -> None:
    command = "train", "smoke", "--data", course.root, "--out", copy_of_run, *AS_TRAINED
    with unchanged(copy_of_run):
        assert f"this run has {named}" in refused(*command, "--set", setting)


def test_a_run_of_other_classes_is_not_gone_on_with(
    copy_of_run: Path, copy_of_course: Path, refused, unchanged
) -> None:
    for split in ("train", "dev"):
        folder = copy_of_course / CLASSIFICATION / split
        shutil.rmtree(folder / CourseData(copy_of_course).classes[0])
    with unchanged(copy_of_run, copy_of_course):
        said = refused(
            "train", "smoke", "--data", copy_of_course, "--out", copy_of_run, *AS_TRAINED
        )
    assert "this run has 6 classes, and the data has 5 of other names" in said


# --- submissions


def test_an_unusable_submission_is_refused_in_one_line(
    course: CourseData, refused, tmp_path: Path
) -> None:
    path = tmp_path / "mine.csv"
    for content, named in (
        ("", "the file is empty"),
        ("Id,Category\n0,n000001\n", "no column id, label; it has Id, Category"),
        (",id,label\n0,000000.jpg,1\n", "the header is"),
        ("id,label\n000000.jpg,1.0\n", "labels are no class index, such as '1.0'"),
    ):
        path.write_text(content)
        assert named in refused("check", path, "--data", course.root)


def test_a_score_of_other_rows_is_refused(course: CourseData, refused) -> None:
    first, second = course.answers.classification, course.answers.verification
    assert "is in only one" in refused("score", first, "--answers", second)
