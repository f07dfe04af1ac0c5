"""Thousands of damaged files: a clear error that names the file, or a sound result, no more."""

import json
import random
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facekit.common.errors import DataError, FacekitError, RunError
from facekit.common.files import read_table
from facekit.data.images import MAX_PIXELS, read_rgb
from facekit.data.layout import CourseData, class_names, image_files, is_stray, read_identities
from facekit.evaluation import embed
from facekit.models import weights, zoo
from facekit.sources import course_data, more_people, set_up
from facekit.sources.manifest import MANIFEST, made_for, read_manifest
from facekit.sources.profiles import PROFILES
from facekit.submission import csvs, pipeline
from facekit.training import recipe as recipes

IMAGES, TABLES, NOTES, RUNS, TREES = 10_000, 2_000, 1_000, 1_000, 300
# Of the two slowest, a tenth first.
how_many = pytest.mark.parametrize("share", [0.1, pytest.param(1, marks=pytest.mark.long)])
PARTS = "train", "dev", "test", "known", "unknown_dev", "unknown_test"


def damage(content: bytes, numbers: random.Random) -> bytes:
    """Bytes flipped, cut out, overwritten, doubled, or the end lost; one to four times."""
    spoilt = bytearray(content)
    for _ in range(numbers.randint(1, 4)):
        at, how = numbers.randrange(len(spoilt)), numbers.randrange(5)
        if how == 0:
            spoilt[at] ^= 1 << numbers.randrange(8)
        elif how == 1:
            del spoilt[at : at + numbers.randint(1, 40)]
        elif how == 2:
            spoilt[at : at + 6] = numbers.randbytes(6)
        elif how == 3:
            spoilt[at:at] = spoilt[at : at + 30]
        else:
            del spoilt[at:]
        if not spoilt:
            return b""
    return bytes(spoilt)


def pictures() -> list[bytes]:
    """One of each format and mode that the kit opens."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((24, 20), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.arange(480, dtype=np.uint16).reshape(20, 24) * 100)
    made = []
    for image, settings in (
        (picture, {"format": "JPEG", "exif": exif}),
        (picture, {"format": "JPEG", "progressive": True}),
        (picture.convert("L"), {"format": "JPEG"}),
        (picture.convert("CMYK"), {"format": "JPEG"}),
        (picture, {"format": "PNG"}),
        (picture.convert("RGBA"), {"format": "PNG"}),
        (picture.convert("P"), {"format": "PNG"}),
        (deep, {"format": "PNG"}),
        (picture, {"format": "WEBP"}),
        (picture, {"format": "BMP"}),
        (picture, {"format": "GIF"}),
    ):
        content = BytesIO()
        image.save(content, **settings)
        made.append(content.getvalue())
    return made


def test_damaged_images_are_read_or_refused():
    whole, numbers = pictures(), random.Random(0)
    refused = 0
    for turn in range(IMAGES):
        content = damage(whole[turn % len(whole)], numbers)
        try:
            found = read_rgb(Path(f"faces/{turn}.jpg"), content)
        except DataError as error:
            refused += 1
            assert str(error).startswith(f"faces/{turn}.jpg: cannot read this image (")
            assert "\n" not in str(error)
        else:
            assert found.mode == "RGB"
            assert 0 < found.width * found.height <= MAX_PIXELS
    assert IMAGES / 4 < refused < IMAGES


def rows(path: Path) -> bytes:
    return path.read_bytes()


@pytest.fixture(scope="module")
def tables(course: CourseData) -> list[bytes]:
    verification = course.verification / "verification_dev.csv"
    return [
        rows(course.answers.classification),
        rows(course.answers.verification),
        rows(verification),
        b"\xef\xbb\xbf" + rows(course.answers.classification).replace(b"\n", b"\r\n"),
    ]


@how_many
def test_damaged_tables_are_read_or_refused(
    course: CourseData, tables, tmp_path: Path, share: float
):
    numbers, path = random.Random(0), tmp_path / "damaged.csv"
    files = course.unknown_dev.paths
    outcomes = {"read": 0, "refused": 0, "problems": 0}
    for turn in range(int(TABLES * share)):
        path.write_bytes(damage(tables[turn % len(tables)], numbers))
        for judge in (
            lambda: read_table(path, ["id", "label"]),
            lambda: read_identities(path, files),
            lambda: csvs.score(path, course.answers.classification),
            lambda: csvs.score(path, course.answers.verification),
        ):
            try:
                judge()
                outcomes["read"] += 1
            except DataError as error:
                outcomes["refused"] += 1
                assert str(path) in str(error)
                assert "\n" not in str(error)
        problems = csvs.check(path, course)
        outcomes["problems"] += bool(problems)
        assert all(str(path) in problem for problem in problems)
    assert min(outcomes.values()) > TABLES * share / 10
    assert [p.name for p in tmp_path.iterdir()] == ["damaged.csv"]


# --- what the kit has written itself


def damaged(path: Path, judge: Callable[[], object], turns: int) -> tuple[list, int]:
    """What is made of a file damaged in many ways, and how often it is refused by its name.

    No other error, and nothing is written beside it.
    """
    whole, numbers = path.read_bytes(), random.Random(0)
    beside = sorted(path.parent.iterdir())
    results, refused = [], 0
    for _ in range(turns):
        path.write_bytes(damage(whole, numbers))
        try:
            results.append(judge())
        except FacekitError as error:
            refused += 1
            assert path.name in str(error) or path.stem in str(error), error
    path.write_bytes(whole)
    assert sorted(path.parent.iterdir()) == beside
    assert refused > turns / 4
    return results, refused


def test_a_damaged_manifest_is_read_or_refused(copy_of_course: Path, tiny_profile):
    path = copy_of_course / MANIFEST

    def judge() -> str | None:
        assert isinstance(read_manifest(copy_of_course), dict)
        return made_for(copy_of_course)

    results, _ = damaged(path, judge, NOTES)
    assert set(results) <= {None, *PROFILES}
    whole = path.read_text()
    for name in ([], {}, None, 3):
        path.write_text(json.dumps(json.loads(whole) | {"name": name}))
        assert judge() is None
    path.write_text(whole)
    course = CourseData(copy_of_course)
    made = set_up("synthetic", tiny_profile, copy_of_course, progress=False)
    assert made.classes == course.classes  # the whole manifest is that of a finished course


def test_more_people_of_a_damaged_manifest_are_none_or_it_is_refused(
    copy_of_course: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = []
    monkeypatch.setattr(course_data, "set_up", lambda *where, **how: asked.append(where))
    course = CourseData(copy_of_course)
    path = copy_of_course / MANIFEST
    whole = json.loads(path.read_text())
    damaged(path, lambda: more_people(course, progress=False), NOTES)
    for key in whole:
        for value in (None, [], "x"):
            path.write_text(json.dumps(whole | {key: value}))
            try:
                more_people(course, progress=False)
            except DataError as error:
                assert str(path) in str(error)
        path.write_text(json.dumps({k: v for k, v in whole.items() if k != key}))
        try:
            more_people(course, progress=False)
        except DataError as error:
            assert str(path) in str(error)
    assert asked


def test_no_damaged_manifest_lets_a_set_up_overwrite_anything(
    copy_of_course: Path, tiny_profile, unchanged
):
    path = copy_of_course / MANIFEST
    inside = copy_of_course / CourseData(copy_of_course).term.classification

    def judge() -> CourseData:
        return set_up("synthetic", tiny_profile, copy_of_course, progress=False)

    with unchanged(inside):
        damaged(path, judge, NOTES)
        for content in ("[]", "3", "null", '"x"', "[" * 100_000):
            path.write_text(content)
            with pytest.raises(DataError, match="manifest"):
                judge()


def test_a_damaged_decision_is_a_decision_or_refused(copy_of_run: Path):
    run = embed.load_run(copy_of_run, "cpu")
    path = pipeline.keep_decision(run.folder, "as_norm", 0.375)
    results, _ = damaged(path, lambda: pipeline.kept_decision(run.folder), NOTES)
    for decision in results:  # None: of another network
        assert decision is None or decision.rule == "as_norm"
    for number in ("1" + "0" * 400, "[" * 100_000, "1e999", "-0.0"):
        path.write_text(path.read_text().replace("0.375", number))
        try:
            pipeline.kept_decision(run.folder)
        except DataError as error:
            assert str(path) in str(error)
        pipeline.keep_decision(run.folder, "as_norm", 0.375)


def test_a_damaged_recipe_is_a_recipe_or_refused(tmp_path: Path):
    path = tmp_path / "mine.toml"
    shutil.copy(recipes.FOLDER / "high.toml", path)
    results, _ = damaged(path, lambda: recipes.load(path), NOTES)
    assert all(isinstance(recipe, recipes.Recipe) for recipe in results)
    for recipe in results:
        try:
            zoo.as_spec(recipe.network)
        except FacekitError as error:
            assert "\n" not in str(error)


def test_a_damaged_network_is_the_network_or_refused(copy_of_run: Path):
    path = copy_of_run / "best.pt"
    expected = weights.digest(weights.load(path)["net"])

    def judge() -> str:
        return weights.digest(embed.load_run(copy_of_run, "cpu").net.state_dict())

    results, refused = damaged(path, judge, RUNS)
    assert set(results) <= {expected}
    assert refused > 0.9 * RUNS


# --- a tree that somebody moved things about in


def disturb(root: Path, numbers: random.Random) -> None:
    """One thing that happens to folders: lost, renamed, nested, doubled, linked, strewn."""
    places = sorted(p for p in root.rglob("*") if not p.is_symlink())
    path = numbers.choice(places)
    how = numbers.randrange(8)
    folder = path if path.is_dir() else path.parent
    if how == 0:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif how == 1:
        path.rename(path.with_name(path.name + numbers.choice(["x", ".JPG", " copy", ".bak"])))
    elif how == 2 and path.is_file():
        (folder / "deeper").mkdir(exist_ok=True)
        path.rename(folder / "deeper" / path.name)
    elif how == 3 and path.is_file():
        shutil.copy(path, folder / f"{numbers.randrange(10)}{path.name}")
    elif how == 4:
        link = folder / f"loop{numbers.randrange(1000)}"
        if not link.is_symlink():
            link.symlink_to(numbers.choice([folder, root, folder / "nowhere", link]))
    elif how == 5:
        (folder / ".ipynb_checkpoints").mkdir(exist_ok=True)
        shutil.copy(next(root.rglob("*.jpg")), folder / ".ipynb_checkpoints" / "a.jpg")
    elif how == 6:
        (folder / numbers.choice(["n000001", "N000001", "empty", "a\nb"])).mkdir(exist_ok=True)
    elif path.is_file():
        path.write_bytes(b"")


@pytest.fixture
def tree(course: CourseData, tmp_path: Path) -> Path:
    """The course's tree, its files mere names."""
    root = tmp_path / "tree"
    for path in course.root.rglob("*"):
        if path.is_file():
            copy = root / path.relative_to(course.root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes() if path.suffix == ".csv" else b"\xff")
    return root


@how_many
def test_a_disturbed_tree_is_read_in_step_or_refused(tree: Path, tmp_path: Path, share: float):
    numbers, outcomes = random.Random(0), {"read": 0, "refused": 0}
    for turn in range(int(TREES * share)):
        root = shutil.copytree(tree, tmp_path / str(turn), symlinks=True)
        for _ in range(numbers.randint(1, 3)):
            disturb(root, numbers)
        for part in PARTS:
            try:
                found = getattr(CourseData(root), part)
            except DataError as error:
                outcomes["refused"] += 1
                assert root.name in str(error)
            else:
                outcomes["read"] += 1
                check_in_step(root, part, found)
        shutil.rmtree(root)
    assert min(outcomes.values()) > TREES * share / 10


def check_in_step(root: Path, part: str, found) -> None:
    """Every image once, in sorted order, none of a stray folder, labels by the folders' names."""
    assert len(found) == len(set(found.paths)) > 0
    assert not any(is_stray(word) for path in found for word in path.relative_to(root).parts)
    if part in ("train", "dev"):
        classes = class_names(found.folder)
        assert classes == CourseData(root).classes
        assert [path.parent.name for path in found] == [classes[label] for label in found.labels]
    elif found.labels is not None:
        assert len(found.labels) == len(found)
    if part.startswith("unknown") or (part == "test" and found.paths[0].parent == found.folder):
        assert list(found.paths) == image_files(found.folder)
    if part == "test":
        assert len(set(found.names)) == len(found)


def test_a_damaged_state_is_never_taken_up(copy_of_run: Path):
    path = sorted(copy_of_run.glob("step-*.pt"))[-1]
    expected = weights.digest(weights.load(path)["net"])
    whole, numbers = path.read_bytes(), random.Random(1)
    for _ in range(RUNS):
        path.write_bytes(damage(whole, numbers))
        try:
            state = weights.load_run(path)
        except RunError as error:
            assert str(path) in str(error)
        else:
            assert weights.digest(state["net"]) == expected
