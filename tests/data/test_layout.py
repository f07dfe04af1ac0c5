"""The homework's tree: exactly F23's when it is made, forgiving and exact when it is read."""

import hashlib
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from facekit.common.errors import DataError
from facekit.common.files import read_table, write_table
from facekit.data.images import check_readable
from facekit.data.layout import IDENTITY, NO_MATCH, TERMS, CourseData, class_names, image_files
from facekit.evaluation import embed
from facekit.sources import set_up
from facekit.sources.profiles import Profile

CLASSIFICATION = "11-785-f23-hw2p2-classification"
VERIFICATION = "11-785-f23-hw2p2-verification"
FORMS = tuple(unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
STRAYS = (".ipynb_checkpoints", "__MACOSX")


def rows_of(path: Path) -> list[list[str]]:
    """A CSV read without the package: header and rows."""
    return [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def sums_of(paths: list[Path]) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def parts_of(data: CourseData) -> dict[str, tuple]:
    """All that the reader says about a course, apart from where it lies."""
    names = ("train", "dev", "test", "known", "unknown_dev", "unknown_test")
    sets = {name: getattr(data, name) for name in names}
    found = {
        name: ([p.relative_to(data.root) for p in part.paths], part.labels)
        for name, part in sets.items()
    }
    return found | {"classes": (data.classes, None)}


# --- the tree that is made


def test_the_made_tree_has_exactly_the_folders_of_f23(course: CourseData) -> None:
    folders = {p.relative_to(course.root).as_posix() for p in course.root.rglob("*") if p.is_dir()}
    people = {f"{CLASSIFICATION}/{split}/{c}" for split in ("train", "dev") for c in course.classes}
    people |= {f"{VERIFICATION}/known/{identity}" for identity in course.known.labels}
    parts = {f"{CLASSIFICATION}/{part}" for part in ("train", "dev", "test")}
    parts |= {f"{VERIFICATION}/{part}" for part in ("known", "unknown_dev", "unknown_test")}
    assert folders == people | parts | {CLASSIFICATION, VERIFICATION, "answers"}


def test_the_files_beside_the_images_are_those_of_f23(course: CourseData) -> None:
    others = {
        p.relative_to(course.root).as_posix()
        for p in course.root.rglob("*")
        if p.is_file() and p.suffix != ".jpg" and not p.name.startswith(".lock")
    }
    assert others == {
        "manifest.json",
        "answers/classification_test.csv",
        "answers/verification_test.csv",
        f"{CLASSIFICATION}/classification_sample_submission.csv",
        f"{VERIFICATION}/verification_dev.csv",
        f"{VERIFICATION}/verification_sample_submission.csv",
    }


def test_the_counts_are_those_of_the_profile(course: CourseData, tiny_profile: Profile) -> None:
    p = tiny_profile
    assert len(course.classes) == p.classes
    for part, each in ((course.train, p.train), (course.dev, p.dev)):
        assert [part.labels.count(label) for label in range(p.classes)] == [each] * p.classes
    assert len(course.test) == p.classes * p.test
    assert len(course.known) == p.known
    assert len(course.unknown_dev) == p.unknown_dev
    assert len(course.unknown_test) == p.unknown_test


def test_every_image_is_a_square_rgb_jpeg(course: CourseData, tiny_profile: Profile) -> None:
    for path in course.root.rglob("*.jpg"):
        with Image.open(path) as image:
            found = image.format, image.mode, image.size
        assert found == ("JPEG", "RGB", (tiny_profile.pixels, tiny_profile.pixels)), path


def test_test_images_are_numbered_with_six_digits(course: CourseData) -> None:
    assert course.test.names == [f"{row:06d}.jpg" for row in range(len(course.test))]


def test_identities_are_seven_characters_with_gaps(course: CourseData) -> None:
    people = [*course.classes, *course.known.labels]
    assert all(IDENTITY.fullmatch(person) for person in people)
    assert NO_MATCH not in people
    assert len(set(people)) == len(people)  # nobody is both a class and known
    numbers = [int(name[1:]) for name in course.classes]
    assert numbers != list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_known_person_has_exactly_one_image(course: CourseData) -> None:
    folders = (course.verification / "known").iterdir()
    assert {len(list(folder.iterdir())) for folder in folders} == {1}


def test_the_classification_tables_have_a_row_for_each_test_file(course: CourseData) -> None:
    sample = rows_of(course.classification / "classification_sample_submission.csv")
    answers = rows_of(course.answers.classification)
    for table in (sample, answers):
        assert table[0] == ["id", "label"]
        assert [row[0] for row in table[1:]] == names_in(course.classification / "test")
    labels = [int(row[1]) for row in answers[1:]]
    assert sorted(labels) == sorted([*range(len(course.classes))] * 2)


def test_the_verification_tables_count_the_sorted_files(course: CourseData) -> None:
    dev = rows_of(course.verification / "verification_dev.csv")
    sample = rows_of(course.verification / "verification_sample_submission.csv")
    answers = rows_of(course.answers.verification)
    for table, part in ((dev, "unknown_dev"), (sample, "unknown_test"), (answers, "unknown_test")):
        files = names_in(course.verification / part)
        assert table[0] == ["id", "label"]
        assert [row[0] for row in table[1:]] == [str(row) for row in range(len(files))]
    assert {label for _, label in sample[1:]} == {NO_MATCH}
    known = set(names_in(course.verification / "known"))
    assert {label for _, label in dev[1:] + answers[1:]} <= known | {NO_MATCH}


def test_one_ninth_of_the_unknown_faces_match_nobody(course: CourseData) -> None:
    truth = [row[1] for row in rows_of(course.answers.verification)[1:]]
    assert course.unknown_dev.labels.count(NO_MATCH) * 9 == len(course.unknown_dev)
    assert truth.count(NO_MATCH) * 9 == len(truth)


def test_no_two_images_of_a_course_are_the_same(course: CourseData) -> None:
    # So train, dev and test are apart, and no probe is the gallery's image of that person.
    sums = sums_of(list(course.root.rglob("*.jpg")))
    assert len(set(sums)) == len(sums)


def test_the_answers_lie_outside_what_is_handed_out(course: CourseData) -> None:
    handed_out = course.classification, course.verification
    for path in (course.answers.classification, course.answers.verification):
        assert path.is_file()
        assert not any(folder in path.parents for folder in handed_out)
    truth = rows_of(course.answers.verification)
    tables = [p for folder in handed_out for p in folder.rglob("*.csv")]
    assert all(rows_of(table) != truth for table in tables)


@pytest.mark.parametrize(
    ("term", "digits", "slug"),
    [
        ("S23", 5, "11-785-s23-hw2p2-classification"),
        ("F23", 6, "11-785-f23-hw2p2-classification"),
        ("S24", 6, "11785-hw2p2-face-recognition"),
    ],
)
def test_each_term_is_made_and_read_with_its_own_names(
    term: str, digits: int, slug: str, tmp_path: Path
) -> None:
    profile = Profile("dot", 2, 2, 1, 1, known=2, unknown_dev=9, unknown_test=9, pixels=16)
    set_up("synthetic", profile, tmp_path / "data", term=term, progress=False)
    folder = f"11-785-{term.lower()}-hw2p2-"
    made = {p.name for p in (tmp_path / "data").iterdir() if not p.name.startswith(".lock")}
    assert made == {f"{folder}classification", f"{folder}verification", "answers", "manifest.json"}
    data = CourseData(tmp_path / "data", term)
    assert data.test.names == ["0".zfill(digits) + ".jpg", "1".zfill(digits) + ".jpg"]
    assert rows_of(data.answers.classification)[1][0] == data.test.names[0]
    assert len(data.unknown_dev) == len(data.unknown_test) == 9
    assert data.term.classification_slug == slug


def test_only_s24_has_slugs_that_differ_from_its_folders() -> None:
    differ = {name for name, t in TERMS.items() if t.classification_slug != t.classification}
    assert differ == {"S24"}
    assert TERMS["S24"].verification_slug == "11785-hw2p2-face-verification"
    assert TERMS["S24"].verification == "11-785-s24-hw2p2-verification"


# --- reading


def test_a_class_index_is_the_place_among_the_sorted_folders(course: CourseData) -> None:
    assert course.classes == names_in(course.classification / "train")
    for part in (course.train, course.dev):
        for path, label in zip(part.paths, part.labels, strict=True):
            assert course.classes[label] == path.parent.name


@pytest.mark.parametrize("split", ["train", "dev"])
def test_labels_are_those_of_torchvision_on_a_clean_tree(course: CourseData, split: str) -> None:
    theirs = ImageFolder(str(course.classification / split))
    ours = getattr(course, split)
    assert theirs.classes == course.classes
    assert theirs.samples == [
        (str(path), label) for path, label in zip(ours.paths, ours.labels, strict=True)
    ]


def test_classes_are_the_folders_on_disk_not_a_range(copy_of_course: Path) -> None:
    before = CourseData(copy_of_course).classes
    gone = before[2]
    for split in ("train", "dev"):
        shutil.rmtree(copy_of_course / CLASSIFICATION / split / gone)
    data = CourseData(copy_of_course)
    assert data.classes == [name for name in before if name != gone]
    assert sorted(set(data.train.labels)) == list(range(len(before) - 1))


def test_folders_sort_as_strings(tmp_path: Path) -> None:
    for name in ("10", "9", "1", "n2", "N1"):
        (tmp_path / name).mkdir()
    assert class_names(tmp_path) == ["1", "10", "9", "N1", "n2"]


def test_endings_in_any_case_are_images(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.jpeg", "d.PNG", "ä b.jpg", "notes.txt", "c", "e.csv"):
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    assert [p.name for p in image_files(tmp_path)] == ["a.jpeg", "b.JPG", "d.PNG", "ä b.jpg"]


def test_row_i_of_the_truth_is_the_ith_sorted_file(copy_of_course: Path) -> None:
    folder = copy_of_course / VERIFICATION
    renamed = {f"{row:06d}.jpg": f"{(row * 5) % 9}_probe.jpg" for row in range(9)}
    for old, new in renamed.items():
        (folder / "unknown_dev" / old).rename(folder / "unknown_dev" / new)
    truth = [label for _, label in rows_of(folder / "verification_dev.csv")[1:]]
    unknown_dev = CourseData(copy_of_course).unknown_dev
    assert unknown_dev.names == sorted(renamed.values())
    assert list(unknown_dev.labels) == truth


@pytest.mark.parametrize("column", ["", "Unnamed: 0", "index", "ID", "file", None])
def test_the_first_column_of_the_truth_may_have_any_name(
    copy_of_course: Path, column: str | None
) -> None:
    path = copy_of_course / VERIFICATION / "verification_dev.csv"
    truth = [label for _, label in rows_of(path)[1:]]
    lines = ["label", *truth] if column is None else [f"{column},label"]
    if column is not None:
        lines += [f"{row},{label}" for row, label in enumerate(truth)]
    path.write_text("\n".join(lines) + "\n")
    assert list(CourseData(copy_of_course).unknown_dev.labels) == truth


@pytest.mark.parametrize("prefix", ["", "unknown_dev/"])
def test_the_truth_may_name_the_files(copy_of_course: Path, prefix: str) -> None:
    path = copy_of_course / VERIFICATION / "verification_dev.csv"
    truth = [label for _, label in rows_of(path)[1:]]
    rows = [(f"{prefix}{row:06d}.jpg", label) for row, label in enumerate(truth)]
    write_table(path, ["image", "label"], rows)
    assert list(CourseData(copy_of_course).unknown_dev.labels) == truth
    write_table(path, ["image", "label"], [*rows[1:], rows[0]])
    with pytest.raises(DataError, match=r"row 0 .* sorted order"):
        _ = CourseData(copy_of_course).unknown_dev


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(copy_of_course: Path) -> None:
    path = copy_of_course / VERIFICATION / "verification_dev.csv"
    before = CourseData(copy_of_course).unknown_dev.labels
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert CourseData(copy_of_course).unknown_dev.labels == before


@pytest.mark.parametrize("number", ["\u00b2", "\u2460", "9" * 900, "9" * 5000, "\u0661"])
def test_digits_that_make_no_number_end_in_no_traceback(copy_of_course: Path, number: str) -> None:
    path = copy_of_course / VERIFICATION / "verification_dev.csv"
    truth = [label for _, label in rows_of(path)[1:]]
    write_table(path, ["id", "label"], [(number, label) for label in truth])
    if number.isascii():
        with pytest.raises(DataError, match=r"verification_dev\.csv"):
            _ = CourseData(copy_of_course).unknown_dev
    else:  # a column of something else, which tells nothing about the order
        assert list(CourseData(copy_of_course).unknown_dev.labels) == truth


def test_an_identity_has_the_digits_of_folder_names(copy_of_course: Path) -> None:
    path = copy_of_course / VERIFICATION / "verification_dev.csv"
    odd = "n" + "\u0661" * 6
    write_table(path, ["id", "label"], [(0, odd)])
    with pytest.raises(DataError, match="is no identity"):
        _ = CourseData(copy_of_course).unknown_dev


def stray_files(root: Path) -> Iterator[tuple[Path, str]]:
    """Every folder of a course with a file that does not belong there."""
    folders = [root, *(p for p in root.rglob("*") if p.is_dir())]
    for folder in folders:
        for name in ("._x.jpg", ".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.png"):
            yield folder, name
        for stray in STRAYS:
            yield folder / stray, "0001_01-checkpoint.jpg"
            yield folder / stray / "n000001", "0001_01.jpg"


def test_stray_files_change_nothing(course: CourseData, copy_of_course: Path) -> None:
    image = course.train.paths[0].read_bytes()
    for folder, name in stray_files(copy_of_course):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(image)
    strewn = CourseData(copy_of_course)
    assert parts_of(strewn) == parts_of(course)


def loops(root: Path) -> None:
    """Links from folders to themselves, to those above, and to nowhere, in every folder."""
    for folder in [root, *(p for p in root.rglob("*") if p.is_dir())]:
        (folder / ".loop").symlink_to(folder)
        (folder / "self.txt").symlink_to(folder / "self.txt")
        (folder / "gone.txt").symlink_to(folder / "nowhere.txt")


def test_links_that_lead_in_circles_or_nowhere_change_nothing(
    course: CourseData, copy_of_course: Path, run_cli
) -> None:
    loops(copy_of_course)
    assert parts_of(CourseData(copy_of_course)) == parts_of(course)
    outcome = run_cli("doctor", "--data", copy_of_course)
    assert outcome.status == 0
    assert "6 classes" in outcome.stdout
    assert "unreadable" not in outcome.stdout


@pytest.mark.parametrize("split", ["train", "dev", "test", "known", "unknown_dev", "unknown_test"])
def test_an_image_that_is_a_link_to_nowhere_is_an_image_still(
    split: str, course: CourseData, copy_of_course: Path
) -> None:
    path = getattr(CourseData(copy_of_course), split).paths[2]
    path.unlink()
    path.symlink_to("/nowhere/a.jpg")
    assert parts_of(CourseData(copy_of_course)) == parts_of(course)
    with pytest.raises(DataError, match=f"{path.name}: a link to a file that is not there"):
        check_readable(getattr(CourseData(copy_of_course), split).paths)


@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_class_that_is_a_link_to_nowhere_is_named(split: str, copy_of_course: Path) -> None:
    folder = copy_of_course / CLASSIFICATION / split
    name = class_names(folder)[1]
    shutil.rmtree(folder / name)
    (folder / name).symlink_to("/nowhere/else", target_is_directory=True)
    with pytest.raises(DataError, match=f"{name}: a link to a folder that is not there"):
        _ = getattr(CourseData(copy_of_course), split)


@pytest.mark.parametrize("split", ["train", "dev", "test", "known", "unknown_dev", "unknown_test"])
@pytest.mark.parametrize("name", ["IMG_1.HEIC", "scan.tif", ".IMG_2.jpg.icloud"])
def test_a_photograph_that_is_not_read_is_not_left_out_in_silence(
    split: str, name: str, copy_of_course: Path
) -> None:
    first = getattr(CourseData(copy_of_course), split).paths[0]
    first.with_name(name).write_bytes(b"ftypheic")
    with pytest.raises(DataError, match=rf"{re.escape(name)}: a photograph .* cannot read"):
        _ = getattr(CourseData(copy_of_course), split)


@pytest.mark.parametrize("split", ["test", "unknown_dev", "unknown_test"])
@pytest.mark.parametrize("row", [1, 4])
def test_a_number_that_is_lost_is_named(split: str, row: int, copy_of_course: Path) -> None:
    lost = getattr(CourseData(copy_of_course), split).paths[row]
    lost.unlink()
    with pytest.raises(DataError, match=rf"{lost.name}: lost, for .* is there; put it back"):
        _ = getattr(CourseData(copy_of_course), split)


def test_numbers_may_begin_with_one_and_names_may_be_none(copy_of_course: Path) -> None:
    folder = copy_of_course / VERIFICATION / "unknown_test"
    before = CourseData(copy_of_course).unknown_test.names
    for name in reversed(before):
        (folder / name).rename(folder / f"{int(Path(name).stem) + 1:06d}.jpg")
    assert len(CourseData(copy_of_course).unknown_test) == len(before)
    for name in image_files(folder):
        name.rename(name.with_name(f"face {name.name}"))
    next(iter(image_files(folder))).unlink()
    assert len(CourseData(copy_of_course).unknown_test) == len(before) - 1


def test_a_probe_without_a_number_or_with_one_twice_is_named(copy_of_course: Path) -> None:
    folder = copy_of_course / VERIFICATION / "unknown_test"
    shutil.copy(folder / "000003.jpg", folder / "000003 (1).jpg")
    with pytest.raises(DataError, match=r"000003 \(1\)\.jpg: the other names there are numbers"):
        _ = CourseData(copy_of_course).unknown_test
    (folder / "000003 (1).jpg").rename(folder / "000003.png")
    with pytest.raises(DataError, match=r"000003\.(jpg|png): its number comes twice"):
        _ = CourseData(copy_of_course).unknown_test


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("Anna", "anna"), *((a, b) for a in FORMS for b in FORMS if a != b)],
    ids=ascii,
)
def test_classes_that_differ_in_their_spelling_alone_are_named_so(
    ours: str, theirs: str, copy_of_course: Path
) -> None:
    for split, name in (("train", ours), ("dev", theirs)):
        folder = copy_of_course / CLASSIFICATION / split
        (folder / class_names(folder)[0]).rename(folder / name)
    with pytest.raises(DataError, match=f"{theirs}: differs from {ours} in train by case"):
        _ = CourseData(copy_of_course).dev


@pytest.mark.parametrize("where", ["train", "train/n", "dev"])
def test_a_visible_link_to_a_folder_above_is_refused_and_not_followed(
    where: str, copy_of_course: Path, refused
) -> None:
    folder = copy_of_course / CLASSIFICATION / where.split("/")[0]
    if where.endswith("n"):  # inside a class it is no image, and nobody looks into it
        inside = folder / class_names(folder)[0]
        (inside / "loop").symlink_to(folder)
        assert len(CourseData(copy_of_course).train) == 36
        return
    (folder / "loop").symlink_to(copy_of_course, target_is_directory=True)
    said = refused("train", "smoke", "--data", copy_of_course, "--device", "cpu")
    assert "loop: holds no image" in said or "has loop, which train lacks" in said


def test_photographs_in_a_folder_with_loops_become_a_course(
    course: CourseData, tmp_path: Path, run_cli
) -> None:
    photographs = tmp_path / "photographs"
    for index in range(16):
        shutil.copytree(course.train.folder / course.classes[index % 6], photographs / f"p{index}")
    plain, strewn = tmp_path / "plain", tmp_path / "strewn"
    command = "data", photographs, "--source", "folder", "--profile", "smoke", "--out"
    assert run_cli(*command, plain).status == 0
    loops(photographs)
    for folder in [photographs, *(p for p in photographs.iterdir() if p.is_dir())]:
        for stray in STRAYS:
            (folder / stray).mkdir(exist_ok=True)
            (folder / stray / "a.jpg").write_bytes(course.train.paths[0].read_bytes())
    outcome = run_cli(*command, strewn)
    assert outcome.status == 0, outcome.stderr
    assert parts_of(CourseData(strewn)) == parts_of(CourseData(plain))


def test_names_of_any_script_and_with_spaces_are_read(copy_of_course: Path) -> None:
    first, second = CourseData(copy_of_course).train.paths[:2]
    first.rename(first.with_name("Büşra 张伟 (1).JPEG"))
    second.rename(second.with_name("z.jfif"))
    found = CourseData(copy_of_course).train
    assert {"Büşra 张伟 (1).JPEG", "z.jfif"} <= set(found.names)
    assert len(found) == 36


def test_test_images_in_two_places_are_refused(copy_of_course: Path) -> None:
    folder = copy_of_course / CLASSIFICATION / "test"
    (folder / "more").mkdir()
    (folder / "more" / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"more/a\.jpg: the other test images lie in .*test"):
        _ = CourseData(copy_of_course).test


def test_test_images_of_one_name_in_two_folders_are_refused(copy_of_course: Path) -> None:
    folder = copy_of_course / CLASSIFICATION / "test"
    for file in image_files(folder):
        (folder / file.stem).mkdir()
        file.rename(folder / file.stem / file.name)
    assert len(CourseData(copy_of_course).test) == 12
    shutil.copy(folder / "000000" / "000000.jpg", folder / "000001")
    with pytest.raises(DataError, match=r"000001/000000\.jpg: .*has the same name"):
        _ = CourseData(copy_of_course).test


def test_test_images_in_a_subfolder_are_found(copy_of_course: Path) -> None:
    folder = copy_of_course / CLASSIFICATION / "test"
    before = CourseData(copy_of_course).test.names
    (folder / "images").mkdir()
    for file in image_files(folder):
        file.rename(folder / "images" / file.name)
    assert CourseData(copy_of_course).test.names == before


def test_without_answers_there_are_none(copy_of_course: Path) -> None:
    (copy_of_course / "answers" / "verification_test.csv").unlink()
    assert CourseData(copy_of_course).answers is None


def test_a_second_image_of_a_known_person_is_named(copy_of_course: Path) -> None:
    folder = next((copy_of_course / VERIFICATION / "known").iterdir())
    shutil.copy(folder / "0001_01.jpg", folder / "0002_01.jpg")
    with pytest.raises(DataError, match=f"{folder.name}: more than one image"):
        _ = CourseData(copy_of_course).known


@pytest.mark.parametrize("split", ["train", "dev"])
def test_splits_of_other_classes_are_refused(copy_of_course: Path, split: str) -> None:
    folder = copy_of_course / CLASSIFICATION / split
    name = class_names(folder)[0]
    (folder / name).rename(folder / "n099999")
    with pytest.raises(DataError, match="n099999" if split == "dev" else name):
        _ = CourseData(copy_of_course).dev


# --- real photographs: FACEKIT_REAL_FACES names a course tree of them


@pytest.fixture
def real_faces() -> Path:
    folder = os.environ.get("FACEKIT_REAL_FACES")
    if not folder:
        pytest.skip("FACEKIT_REAL_FACES does not name a course tree of real photographs")
    return Path(folder)


def test_real_photographs_are_read_as_they_stand(real_faces: Path) -> None:
    data = CourseData(real_faces)
    train = real_faces / CLASSIFICATION / "train"
    assert data.classes == names_in(train)
    assert len(data.train) == sum(len(names_in(train / name)) for name in data.classes)
    assert data.train.labels[-1] == len(data.classes) - 1
    assert data.test.names == names_in(real_faces / CLASSIFICATION / "test")
    truth = rows_of(real_faces / VERIFICATION / "verification_dev.csv")[1:]
    assert list(data.unknown_dev.labels) == [label for _, label in truth]
    assert 0 < data.unknown_dev.labels.count(NO_MATCH) < len(data.unknown_dev)
    for path, part in (
        (data.answers.classification, data.test),
        (data.answers.verification, data.unknown_test),
    ):
        assert len(read_table(path, ["id", "label"])) == len(part)


def test_real_photographs_are_taken_over(real_faces: Path, tmp_path: Path, run_cli) -> None:
    out = tmp_path / "data"
    outcome = run_cli("data", real_faces, "--source", "folder", "--out", out)
    assert outcome.status == 0, outcome.stderr
    assert parts_of(CourseData(out)) == parts_of(CourseData(real_faces))
    for file in real_faces.rglob("*.jpg"):
        assert (out / file.relative_to(real_faces)).read_bytes() == file.read_bytes()


def test_real_photographs_train_and_are_judged(real_faces: Path, tmp_path: Path, run_cli) -> None:
    run = tmp_path / "run"
    settings = "--set", "epochs=1", "--set", "image_size=32", "--device", "cpu"
    outcome = run_cli("train", "smoke", "--data", real_faces, "--out", run, *settings)
    assert outcome.status == 0, outcome.stderr
    outcome = run_cli("submit", run)
    assert outcome.status == 0, outcome.stderr
    assert len(embed.load_run(run).classes) == len(CourseData(real_faces).classes)
