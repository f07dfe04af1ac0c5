"""Every oddity that a folder of faces can have is found, and nothing else is."""

import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facekit.common.errors import DataError
from facekit.data.images import ORIENTATION
from facekit.data.layout import CourseData
from facekit.sources import health


@pytest.fixture
def root(copy_of_course: Path) -> Path:
    return copy_of_course


def train_images(root: Path) -> list[Path]:
    return sorted((CourseData(root).classification / "train").glob("*/*.jpg"))


def found(root: Path) -> dict[str, int]:
    table = health.examine(root)
    return dict(zip(table["what"], table["count"], strict=True))


def photograph(seed: int = 0, size: int = 48) -> Image.Image:
    """An image with large shapes, like nothing in the course."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def test_of_a_rendered_course_there_is_nothing_to_tell_but_its_size(root, run_cli):
    assert set(found(root)) <= {"tiny"}
    table = health.examine(root)
    assert list(table.columns) == ["severity", "what", "count", "example", "advice"]


@pytest.mark.parametrize(
    ("name", "make", "kinds"),
    [
        ("a.jpg", lambda p: p.write_bytes(b""), {"unreadable"}),
        ("a.jpg", lambda p: p.write_bytes(b"<html>quota</html>"), {"unreadable"}),
        ("a.jpg", lambda p: photograph().convert("L").save(p), {"grey"}),
        ("a.jpg", lambda p: photograph().convert("CMYK").save(p), {"unusual"}),
        ("a.png", lambda p: photograph().convert("RGBA").save(p), {"unusual"}),
        ("a.png", lambda p: photograph().convert("LA").save(p), {"unusual", "grey"}),
        ("a.jpg", lambda p: photograph(size=20).save(p), {"tiny"}),
        ("a.webp", lambda p: photograph().save(p), set()),
    ],
)
def test_odd_images_are_named_by_kind(root, name, make, kinds):
    before = found(root)
    path = train_images(root)[0].with_name(name)
    make(path)
    after = found(root)
    assert {what for what in after if after[what] != before.get(what)} == kinds
    table = health.examine(root).set_index("what")
    for what in kinds:
        assert str(path) in table.loc[what, "example"] or what in before


def test_sixteen_bits_are_told(root):
    levels = np.linspace(0, 65535, 48 * 48).reshape(48, 48).astype(np.uint16)
    Image.fromarray(levels).save(train_images(root)[0].with_name("deep.png"))
    assert {"unusual", "grey"} <= set(found(root))


def test_an_image_that_lies_on_its_side_is_told(root):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    photograph().save(train_images(root)[0].with_name("side.jpg"), exif=exif)
    assert found(root)["unusual"] == 1
    exif[ORIENTATION] = 1
    photograph().save(train_images(root)[0].with_name("side.jpg"), exif=exif)
    assert "unusual" not in found(root)


def test_a_truncated_and_a_huge_image_cannot_be_read(root):
    first, second = train_images(root)[:2]
    content = first.read_bytes()
    first.write_bytes(content[: len(content) // 2])
    Image.new("1", (20_000, 20_000)).save(second.with_suffix(".png"))
    assert found(root)["unreadable"] == 2
    examples = [health.look(path).fault for path in (first, second.with_suffix(".png"))]
    assert str(first) in examples[0]
    assert "20000 x 20000 is too large" in examples[1] or "exceeds limit" in examples[1]


def test_the_same_file_twice_is_a_duplicate_and_in_another_split_worse(root):
    first = train_images(root)[0]
    shutil.copy(first, first.with_name("again.jpg"))
    assert found(root)["duplicate"] == 1
    assert "in two splits" not in found(root)
    data = CourseData(root)
    shutil.copy(train_images(root)[5], data.dev.paths[0].with_name("leaked.jpg"))
    table = health.examine(root).set_index("what")
    assert table.loc["in two splits", "severity"] == "error"
    assert "leaked.jpg" in table.loc["in two splits", "example"]
    assert table.index[0] == "in two splits"  # the worst comes first


def test_an_image_saved_anew_is_a_near_duplicate(root):
    folder = train_images(root)[0].parent
    photo = photograph(3, 96)
    photo.save(folder / "one.png")
    photo.resize((64, 64), Image.Resampling.LANCZOS).save(folder / "two.jpg", quality=60)
    lighter = Image.eval(photo, lambda level: 20 + int(0.85 * level))
    lighter.save(folder / "three.jpg", quality=80)
    photograph(4, 96).save(folder / "other.png")
    table = health.examine(root).set_index("what")
    assert table.loc["near duplicate", "count"] == 3  # each with each, and not the other one
    assert "duplicate" not in table.index


def test_near_pairs_are_those_of_a_loop():
    numbers = np.random.default_rng(0)
    prints = list(np.where(numbers.random((30, 256)) < 0.5, -1, 1).astype(np.int8))
    for row, count in enumerate((0, 1, 10, 11, 40)):
        other = prints[row].copy()
        other[:count] *= -1
        prints.append(other)
    expected = [
        (i, j)
        for j in range(len(prints))
        for i in range(j)
        if (prints[i] != prints[j]).sum() <= health.NEAR
    ]
    assert health.near_pairs(prints) == sorted(expected)
    assert len(expected) == 3
    assert health.near_pairs(prints[:1]) == []


def test_folders_that_do_not_fit_are_told(root):
    train = CourseData(root).classification / "train"
    dev = CourseData(root).classification / "dev"
    names = sorted(path.name for path in train.iterdir())
    shutil.rmtree(dev / names[0])
    for path in (train / names[1]).iterdir():
        path.unlink()
    (train / names[1] / ".DS_Store").touch()
    (train / "notes.txt").write_text("hello")
    (train / names[2].upper()).mkdir()
    shutil.copy(train_images(root)[0], train / names[2].upper() / "b.png")
    counts = found(root)
    assert counts["empty class"] == 1
    assert counts["stray"] == 2
    assert counts["names differ by case"] == 1
    assert counts["class missing"] == 2  # dev lacks the first, and the upper-case one
    table = health.examine(root).set_index("what")
    assert "dev lacks" in table.loc["class missing", "example"]
    assert names[1] in table.loc["empty class", "example"]


def test_images_below_a_persons_folder_are_told(root):
    folder = train_images(root)[0].parent
    (folder / "thumbs").mkdir()
    photograph(9).save(folder / "thumbs" / "a.png")
    (folder / ".ipynb_checkpoints").mkdir()
    photograph(8).save(folder / ".ipynb_checkpoints" / "b.png")
    table = health.examine(root).set_index("what")
    assert table.loc["too deep", "count"] == 1
    assert "thumbs/a.png" in table.loc["too deep", "example"]


def test_half_a_course_can_be_examined_too(root):
    shutil.rmtree(CourseData(root).verification)
    assert "unreadable" not in found(root)


def test_the_images_of_pairs_are_looked_at_and_lists_are_nothing_odd(pair_course, tmp_path):
    root = shutil.copytree(pair_course.root, tmp_path / "pairs")
    assert "stray" not in found(root)
    (root / pair_course.pairs_dev.images[0].relative_to(pair_course.root)).write_bytes(b"")
    assert found(root)["unreadable"] == 1


def test_no_course_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"holds no course; run \./data_setup\.sh"):
        health.examine(tmp_path)


def test_doctor_looks_at_the_images_where_a_folder_is_named(root, run_cli):
    train_images(root)[0].write_bytes(b"")
    outcome = run_cli("doctor", "--data", root)
    assert outcome.status == 0, outcome.stderr
    line = next(line for line in outcome.stdout.splitlines() if "unreadable" in line)
    assert line.startswith("error ")
    assert str(train_images(root)[0]) in line
    assert "replace or remove it" in line


def test_doctor_says_when_nothing_is_odd(tmp_path):
    folder = tmp_path / "11-785-f23-hw2p2-classification" / "train" / "n000001"
    folder.mkdir(parents=True)
    photograph().save(folder / "a.jpg")
    (line,) = health.report(tmp_path)
    assert line == f"images        nothing is odd  (every one below {tmp_path} can be read)"


def test_every_finding_has_a_severity_and_an_advice():
    for what, (severity, advice) in health.FINDINGS.items():
        assert severity in ("error", "warning", "note"), what
        assert len(advice) > 10
    order = [severity for severity, _ in health.FINDINGS.values()]
    assert order == sorted(order, key=["error", "warning", "note"].index)


def test_the_demonstration_shows_what_was_spoilt_and_leaves_the_course_alone(course, unchanged):
    with unchanged(course.root):
        table = health.demonstrate(course)
    counts = dict(zip(table["what"], table["count"], strict=True))
    assert counts == {"unreadable": 1, "duplicate": 1, "grey": 1, "stray": 1}


def test_a_phones_jpeg_of_two_images_is_nothing_odd(root):
    path = train_images(root)[0].with_name("phone.jpg")
    photograph(1).save(path, "MPO", save_all=True, append_images=[photograph(2)])
    assert health.look(path).odd == ()
    assert "unreadable" not in found(root)


def test_damaged_exif_is_nothing_odd(root):
    path = train_images(root)[0].with_name("odd.png")
    photograph(1).save(path, exif=b"Exif\0\0no TIFF")
    assert health.look(path).odd == ()


def test_links_to_nowhere_cannot_be_read_and_a_class_that_is_one_is_empty(root):
    gone = train_images(root)[0]
    gone.unlink()
    gone.symlink_to("/nowhere/a.jpg")
    person = train_images(root)[-1].parent
    shutil.rmtree(person)
    person.symlink_to("/nowhere/person", target_is_directory=True)
    counts = found(root)
    assert (counts["unreadable"], counts["empty class"]) == (1, 1)


def test_photographs_that_are_not_read_and_images_of_nobody_are_told(root):
    folder = train_images(root)[0].parent
    (folder / "a.HEIC").write_bytes(b"ftypheic")
    photograph(5).save(folder.parent / "loose.jpg")
    table = health.examine(root).set_index("what")
    assert table.loc["not read", "example"] == str(folder / "a.HEIC")
    assert table.loc["loose", "example"] == str(folder.parent / "loose.jpg")


@pytest.mark.parametrize("count", [2, health.NAMED, health.NAMED + 5])
def test_every_unreadable_file_is_named(root, count, cache):
    broken = train_images(root)[:count]
    for path in broken:
        path.write_bytes(b"")
    said = "\n".join(health.report(root))
    assert sum(str(path) in said for path in broken) == min(count, health.NAMED)
    rest = cache / "unreadable.txt"
    if count > health.NAMED:
        assert f"and {count - health.NAMED} more: all are in {rest}" in said
        text = rest.read_text(encoding="utf-8")
        assert all(str(path) in text for path in broken)


def test_a_class_of_another_spelling_is_told_in_the_split_that_lacks_it(root):
    data = CourseData(root).classification
    for split, form in (("train", "NFC"), ("dev", "NFD")):
        first = min((data / split).iterdir())
        first.rename(first.with_name(unicodedata.normalize(form, "Zoë")))
    table = health.examine(root).set_index("what")
    assert "Unicode spelling" in table.loc["class missing", "example"]
