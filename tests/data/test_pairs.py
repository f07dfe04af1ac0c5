"""The homework's layout since F24: read as it lies, made of rendered people, every fault named."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facekit import data
from facekit.common.errors import DataError
from facekit.data import CourseData, PairData, open_data
from facekit.data.layout import PAIR_TERMS
from facekit.sources import profiles, set_up
from facekit.sources.course_data import more_people, open_course
from facekit.sources.pair_plans import pair_plan

SMALL = profiles.Profile("own", 4, 3, 1, 1, 8, 12, 20, pixels=16, difficulty="easy")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("pairs") / "data"
    set_up("synthetic", SMALL, root, term="S26", progress=False)
    return root


@pytest.fixture
def course(made, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(made, tmp_path / "data"))


def by_hand(root: Path) -> Path:
    """The layout as a student finds it: other names for the pairs, names in other folders."""
    for split in ("train", "dev", "test"):
        folder = root / "cls_data" / split / "images" / "a"
        folder.mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8)).save(folder / f"{number}.png")
        lines = [f"a/{number}.png {number // 2}" for number in (2, 3, 0, 1)]
        (folder.parents[1] / "labels.txt").write_text("\r\n".join(lines) + "\r\n\r\n")
    (root / "ver_data").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8)).save(root / "ver_data" / f"{number}.png")
    (root / "verification_pairs_val.txt").write_text("0.png 1.png 1\n1.png 2.png 0\n")
    (root / "verification_pairs_test.txt").write_text("2.png 0.png\n")
    return root


def test_what_a_student_unpacks_is_read_by_its_columns(tmp_path):
    course = open_data(by_hand(tmp_path))
    assert isinstance(course, PairData)
    assert course.term.name == "S26"
    assert course.classes == ["0", "1"]
    assert course.train.names == ["2.png", "3.png", "0.png", "1.png"]
    assert course.train.labels == (1, 1, 0, 0)
    assert [path.name for path in course.pairs_dev.first] == ["0.png", "1.png"]
    assert course.pairs_dev.same == (1, 0)
    assert course.pairs_test.same is None
    assert [(a.name, b.name) for a, b in course.pairs_test] == [("2.png", "0.png")]
    assert [path.name for path in course.pairs_dev.images] == ["0.png", "1.png", "2.png"]
    assert course.answers is None


def test_its_images_are_a_data_set_for_a_loop_of_ones_own(tmp_path):
    folder = open_data(by_hand(tmp_path)).train.dataset()
    assert folder.classes == ["0", "1"]
    assert folder.targets == [1, 1, 0, 0]


@pytest.mark.parametrize("term", PAIR_TERMS)
def test_every_term_with_pairs_can_be_named_and_no_other_reader_takes_it(tmp_path, term):
    assert open_data(by_hand(tmp_path), term).term.name == term
    with pytest.raises(DataError, match=f"{term} is a term with pairs"):
        CourseData(tmp_path, term)


def test_a_rendered_course_is_whole_and_says_so(made):
    course = open_data(made)
    counts = {part: len(getattr(course, part)) for part in course.PARTS}
    assert counts == {"classes": 4, "train": 12, "dev": 4, "test": 4} | {
        "pairs_dev": 12,
        "pairs_test": 20,
    }
    assert course.train.labels == tuple(label for label in range(4) for _ in range(3))
    assert sum(course.pairs_dev.same) == 6
    answers = np.genfromtxt(course.answers.verification, delimiter=",", names=True)
    assert answers["Label"].sum() == 10
    assert not set(course.pairs_dev.images) & set(course.pairs_test.images)
    assert course.answers.verification.stat().st_mode & 0o077 == 0


def test_the_same_seed_gives_the_same_pairs_and_another_seed_others():
    assert pair_plan(SMALL, 1) == pair_plan(SMALL, 1)
    assert pair_plan(SMALL, 1).dev != pair_plan(SMALL, 2).dev


def test_pairs_are_of_one_person_where_they_say_so_and_no_image_is_in_two():
    plan = pair_plan(SMALL, 3)
    people = {}
    for name in ("dev", "test"):
        pairs = getattr(plan, name)
        for one, two, same in pairs:
            assert same == (plan.images[one][0] == plan.images[two][0])
        places = [place for pair in pairs for place in pair[:2]]
        assert len(set(places)) == len(places)
        people[name] = {plan.images[place][0] for place in places}
    assert not people["dev"] & people["test"]
    assert not people["dev"] & {image[0] for image, _ in plan.splits["train"]}


def test_only_rendered_people_are_laid_out_so(tmp_path):
    with pytest.raises(DataError, match="only rendered courses are made"):
        set_up("folder", SMALL, tmp_path / "out", folder=tmp_path, term="S26", progress=False)


def test_a_notebook_takes_either_kind_or_says_that_it_is_about_an_open_set(made, monkeypatch):
    monkeypatch.setenv("FACEKIT_HOME", str(made.parent))
    assert open_course(progress=False).pairs_dev.same
    with pytest.raises(DataError, match="has pairs of faces, and this lesson is about an open set"):
        open_course(progress=False, pairs=False)


def test_a_course_with_pairs_gets_an_open_set_of_other_rendered_people(made, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path))
    course = open_data(made)
    many = more_people(course, progress=False)
    assert not many.has_pairs
    assert len(many.known) == SMALL.known
    assert len(many.unknown_dev) == 10 * SMALL.unknown_dev
    theirs = {path.read_bytes() for path in many.known}
    assert not theirs & {path.read_bytes() for path in (*course.train, *course.pairs_dev.images)}


def test_photographs_in_pairs_get_one_of_this_machines_profile(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FACEKIT_PROFILE", "smoke")
    handed_out = open_data(by_hand(tmp_path / "data"))
    assert len(more_people(handed_out, most=20, progress=False).unknown_dev) == 20


FAULTS = {
    "a name without a class": ("labels", "00000000.jpg", "is not a name and a class index"),
    "a class that is no number": ("labels", "00000000.jpg one", "is not a name and a class index"),
    "a gap in the classes": ("labels", "00000002.jpg 9", "no image of class 4"),
    "a name that comes twice": ("labels", "00000001.jpg 0", "comes 2 times"),
    "a file that is not there": ("labels", "9.jpg 0", r"9\.jpg: no such file"),
    "a name that leads away": ("labels", "../../x.jpg 0", "leads out of"),
    "an absolute name": ("labels", "/etc/hosts 0", "leads out of"),
    "a match that is neither": ("pairs", "00000000.jpg 00000001.jpg 2", "two images and 1 or 0"),
    "a pair of a missing image": ("pairs", "00000000.jpg 9.jpg 1", r"9\.jpg: no such file"),
    "a pair that leads away": ("pairs", "../manifest.json 00000000.jpg 1", "leads out of"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_damaged_list_is_told_by_file_and_reason(course, name):
    which, line, reason = FAULTS[name]
    path = course / "cls_data/train/labels.txt" if which == "labels" else course / "val_pairs.txt"
    lines = path.read_text().splitlines()
    lines[2] = line
    path.write_text("\n".join(lines) + "\n")
    read = PairData(course)
    with pytest.raises(DataError, match=reason) as told:
        _ = read.train if which == "labels" else read.pairs_dev
    assert str(path) in str(told.value)


def test_files_of_pairs_that_cannot_be_told_apart_are_named(course):
    (course / "more.txt").write_text("a b\n")
    with pytest.raises(DataError, match=re.escape("more.txt, test_pairs.txt")):
        _ = PairData(course).pairs_test
    (course / "val_pairs.txt").unlink()
    with pytest.raises(DataError, match="0 files with two images and 1 or 0"):
        _ = PairData(course).pairs_dev


def test_other_files_beside_the_pairs_do_no_harm(course):
    (course / "README.txt").write_text("Read me first, please, before you begin.\n")
    (course / "empty.txt").write_text("")
    (course / "picture.txt").write_bytes(b"\xff\xd8\xff")
    assert len(PairData(course).pairs_test) == 20


def test_a_folder_that_lacks_a_part_is_named(course):
    shutil.rmtree(course / "ver_data")
    with pytest.raises(DataError, match="ver_data: no such folder"):
        PairData(course)
    (course / "cls_data/dev/labels.txt").unlink()
    (course / "ver_data").mkdir()
    with pytest.raises(DataError, match=r"dev/labels\.txt: no such file"):
        _ = PairData(course).dev


def test_the_room_shows_what_it_has():
    assert {"PairData", "Pairs", "open_data"} <= set(data.__all__)
