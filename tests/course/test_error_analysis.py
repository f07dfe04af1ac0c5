"""One cause at a time: nothing else moves, and a known difference is found and told from luck."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from facekit import faces
from facekit.course import error_analysis, plots
from facekit.course.error_analysis import REGIONS, World
from facekit.data.images import read_rgb
from facekit.evaluation import embed
from facekit.faces import sheet

PEOPLE = torch.arange(4)


@pytest.fixture(scope="module")
def world(course) -> World:
    return World(course)


def test_the_classes_are_the_people_whom_the_course_shows(world, course):
    number = torch.tensor([0])
    shown = faces.render(world.classes[:1], number, 32, difficulty="homework")[0]
    kept = np.asarray(read_rgb(course.train.paths[0])).transpose(2, 0, 1).astype(float)
    assert np.abs(kept - shown.numpy()).mean() < 6, "but for what JPEG takes"


EXPECTED = {  # what a cause may move; another style of hair brings its fringe along
    "portrait": set(),
    "turned 25°": {"yaw"},
    "turned 50°": {"yaw"},
    "light aside": {"key_x", "key_y", "key_z", "key", "sky", "fill"},
    "dim light": {"exposure"},
    "hat": {"hat", "hat_low"},
    "glasses changed": {"glasses"},
    "sunglasses": {"sunglasses", "glasses"},
    "other hair": {"style_now", "fringe_now", "hair_changed"},
    "30 years older": set(),  # of the circumstances: the person grows old
    "blur": {"blur"},
}


def test_a_cause_moves_its_own_numbers_for_everybody_and_no_other():
    shot = error_analysis.fresh_shots(PEOPLE)
    plain = sheet.portrait(PEOPLE)
    who, how = faces.parameters(PEOPLE, shot, changes=plain)
    found = error_analysis.causes(PEOPLE, seed=0)
    assert set(found) == set(EXPECTED)
    for cause, changes in found.items():
        same, after = faces.parameters(PEOPLE, shot, changes=plain | changes)
        grown = {name for name in who if not same[name].equal(who[name])}
        assert {"age", "nose_base"} <= grown if "age" in changes else not grown, cause
        assert not grown & {"tone", "sex", "eye_apart", "mole_x_0", "hair_style"}, cause
        moved = {name for name in how if not after[name].equal(how[name])}
        assert moved <= EXPECTED[cause], cause
        key = next(iter(changes), None)
        both = same | after, who | how
        assert not key or (both[0][key] != both[1][key]).all(), cause


def test_each_cause_can_be_seen(world):
    images = world.through_causes(PEOPLE)
    for cause, shots in images.items():
        assert shots.shape == (4, 3, 32, 32)
        seen = (shots.float() - images["portrait"].float()).abs().mean((1, 2, 3))
        if cause == "30 years older":  # whoever is over 70 already changes little
            seen = seen[:2]
        assert (seen > 0.5).all() or cause == "portrait", cause


def test_more_shots_are_of_their_class_and_none_that_the_course_has(world, course, cache):
    found = world.more_shots(2, "hard")
    assert found.folder.is_relative_to(cache)
    assert list(found.labels) == [label for label in range(6) for _ in range(2)]
    person, shot = world.classes[1:2], torch.tensor([error_analysis.MORE])
    wanted = faces.render(person, shot, 32, difficulty="hard")[0]
    kept = np.asarray(read_rgb(found.paths[2])).transpose(2, 0, 1).astype(float)
    assert np.abs(kept - wanted.numpy()).mean() < 8


def test_the_regions_are_the_renderers_parts_with_eyes_nose_and_mouth_in_the_face(world):
    shot = error_analysis.fresh_shots(PEOPLE)
    region = world.regions(PEOPLE, shot, 96)
    portrait = sheet.portrait(PEOPLE)
    part = faces.parts(PEOPLE, shot, 96, changes=portrait)
    points = dict(
        zip(
            faces.LANDMARKS,
            faces.landmarks(PEOPLE, shot, 96, changes=portrait).unbind(1),
            strict=True,
        )
    )
    for name in ("background", "hair"):
        assert ((region == REGIONS.index(name)) == (part == faces.PARTS.index(name))).all()
    for name, point in (("nose", "nose_tip"), ("eyes", "left_eye"), ("mouth", "mouth_left")):
        x, y = points[point].long().unbind(1)
        own = region == REGIONS.index(name)
        if name != "mouth":  # its corner lies on the edge
            assert own[torch.arange(4), y, x].all(), name
        assert (own.float().mean((1, 2)) > 0.005).all(), name
        assert (own.float().mean((1, 2)) < 0.12).all(), name
        assert (part[own] != faces.PARTS.index("hair")).all()


def test_a_tensor_of_images_is_answered_as_its_files_are(trained, course):
    run = embed.load_run(trained, "cpu")
    files = course.test.paths
    images = torch.stack(
        [torch.from_numpy(np.array(read_rgb(path))).permute(2, 0, 1) for path in files]
    )
    np.testing.assert_allclose(embed.embed(run, images), embed.embed(run, files), atol=1e-4)
    assert np.array_equal(embed.classify(run, images), embed.classify(run, files))


def test_a_run_is_asked_about_its_people_and_about_others(world, trained, monkeypatch):
    monkeypatch.setattr(error_analysis, "KNOWN", 10)
    some = {"portrait": {}, "dark": {"exposure": 0.3}}
    monkeypatch.setattr(error_analysis, "causes", lambda person, seed: some)
    asked = error_analysis.probes(world)
    assert len(asked.labels) == 96 and set(asked.labels) == set(range(6))
    assert list(asked.truth) == [*range(10), *[-1] * 10]
    answers = error_analysis.judge(embed.load_run(trained, "cpu"), asked)
    tables = error_analysis.compare(None, answers, asked)
    for table in tables.values():
        assert list(table.index) == ["portrait", "dark"]
        assert table.loc["portrait", ["change", "low", "high"]].tolist() == [0, 0, 0]
        assert table["told"]["portrait"] == "perhaps luck"
    right = answers.closed["dark"]
    assert tables["closed set: accuracy"]["after"]["dark"] == right.mean()


def changes_of(before, after, whose) -> pd.Series:
    table = error_analysis.changes(
        error_analysis.accuracy, {"x": before}, {"x": after}, np.array(whose)
    )
    return table.loc["x"]


def test_a_change_is_told_from_luck_by_people_and_not_by_probes():
    random = np.random.default_rng(0)
    before = random.random(200) < 0.5
    after = before | (random.random(200) < 0.3)
    sure = changes_of(before, after, range(200))
    assert sure["told"] == "more"
    assert sure["change"] == pytest.approx(after.mean() - before.mean())
    assert sure["low"] < sure["change"] < sure["high"]
    assert changes_of(after, before, range(200))["told"] == "less"
    person = np.arange(200) // 50  # four people, of whom one gains all
    gains = np.where(person == 0, True, before)
    assert changes_of(before, gains, person)["told"] == "perhaps luck"
    assert changes_of(before, gains, range(200))["told"] == "more"


def test_the_interval_of_a_change_is_that_of_pairs():
    """Half of the people are always wrong: on pairs that does not widen the interval."""
    before = np.arange(400) % 2 == 0
    after = before.copy()
    after[:40] = False  # 20 lost
    row = changes_of(before, after, range(400))
    assert row["high"] - row["low"] < 0.06
    assert row["told"] == "less"


def test_groups_have_their_own_accuracy_and_the_difference_an_interval():
    random = np.random.default_rng(1)
    group = np.repeat([0, 1, 2], 100)
    right = random.random(300) < np.array([0.9, 0.6, 0.6])[group]
    table = error_analysis.by_group(right, group, np.arange(300))
    wanted = [right[group == place].mean() for place in range(3)]
    np.testing.assert_allclose(table["accuracy"], [*wanted, wanted[2] - wanted[0]])
    assert table["high"].iloc[3] < 0, "a third of the people are worse by far"
    assert table["low"].iloc[1] < 0.6 < table["high"].iloc[1]
    width = (table["high"] - table["low"]).to_numpy()
    assert width[3] > width[:3].max(), "two groups, two lucks"


def test_photographs_are_answered_by_a_rendered_course_beside_them(
    course, tiny_profile, tmp_path, monkeypatch
):
    monkeypatch.setenv("FACEKIT_HOME", str(tmp_path))
    monkeypatch.setattr(error_analysis, "open_course", lambda: course)
    monkeypatch.setattr(error_analysis, "read_manifest", lambda root: {"source": "folder"})
    monkeypatch.setattr(error_analysis, "get_profile", lambda name: tiny_profile)
    monkeypatch.setattr(error_analysis, "fit", lambda recipe, data, out: None)
    monkeypatch.setattr(error_analysis, "load_run", lambda folder: folder)
    found, folder = error_analysis.rendered_course()
    assert found.root != course.root and found.classes == course.classes
    assert folder == tmp_path / "runs" / "rendered"


def test_intervals_are_drawn_in_points_the_first_name_on_top():
    parts = {"change": [0.1, -0.2], "low": [0.05, -0.3], "high": [0.2, -0.1]}
    table = pd.DataFrame(parts, index=["hat", "blur"])
    fig = plots.intervals({"one": table, "two": table}, "Costs", "points")
    (place,) = fig.axes
    names = dict(
        zip([t.get_text() for t in place.get_yticklabels()], place.get_yticks(), strict=True)
    )
    assert names["hat"] > names["blur"]
    assert [bars.get_label() for bars in place.containers] == ["one", "two"]
    for bars in place.containers:
        dots, _, (lines,) = bars
        np.testing.assert_allclose(dots.get_xdata(), [10, -20])
        ends = [segment[:, 0] for segment in lines.get_segments()]
        np.testing.assert_allclose(ends, [[5, 20], [-30, -10]])
    plt.close(fig)
