"""The places that the notebooks share."""

from facekit.course import lesson


def test_the_place_of_a_demonstration_is_empty_and_nothing_else_is_touched(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEKIT_RUNS", str(tmp_path))
    for name in ("killed", "course"):
        (tmp_path / name / "a").mkdir(parents=True)
    place = lesson.fresh_run("killed")
    assert place.parent == lesson.course_run().parent
    assert [path.name for path in tmp_path.iterdir()] == ["course"]
    assert (tmp_path / "course" / "a").is_dir()
    assert lesson.fresh_run("killed") == place, "there is nothing to remove"
