"""Many zips graded: the figures are those of `facekit score`, and no bad zip hides the rest."""

import csv
import io
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facekit.common.errors import DataError
from facekit.data.layout import NO_MATCH
from facekit.grading import hand_ins, pages
from facekit.submission import csvs, cutoffs, pairs, zips

FILLED = "".join(f"## {name}\nSomething.\n" for name in zips.SECTIONS).encode()
MODEL = {"trainable_parameters": 1_000_000, "made_of": ["mine", "torch"], "begins_trained": False}
PNG = b"\x89PNG no picture"


def answered(answers: Path, wrong: int, first: int = 0) -> bytes:
    """The answers with so many rows wrong, from a row on."""
    header, *rows = answers.read_text().split()
    for row in range(first, min(first + wrong, len(rows))):
        number, label = rows[row].split(",")
        other = NO_MATCH if label.startswith("n") and label != NO_MATCH else "n000001"
        if not label.startswith("n"):
            other = "1" if label == "0" else "0"
        rows[row] = f"{number},{other}"
    return "\n".join([header, *rows, ""]).encode()


def hand_in(course, wrong: int = 0, first: int = 0, **changes: bytes) -> dict[str, bytes]:
    """The members of a zip, as many rows of both CSVs wrong."""
    return {
        "README.md": FILLED,
        "model_metadata.json": json.dumps(MODEL).encode(),
        "curves.png": PNG,
        "notebooks/mine.ipynb": b"{}",
        "classification.csv": answered(course.answers.classification, wrong, first),
        "verification.csv": answered(course.answers.verification, wrong, first),
    } | changes


@pytest.fixture
def folder(course, tmp_path) -> Path:
    """Three students: all right, two wrong, none right."""
    folder = tmp_path / "zips"
    folder.mkdir()
    for name, wrong in (("ada", 0), ("bob", 2), ("cleo", 99)):
        zips.pack(folder / f"{name}.zip", hand_in(course, wrong), name)
    return folder


def graded(folder: Path, data) -> dict[str, hand_ins.Entry]:
    return {entry.name: entry for entry in hand_ins.grade(folder, data)}


def test_scores_are_those_of_the_score_command_and_the_best_come_first(folder, course, tmp_path):
    entries = graded(folder, course)
    assert list(entries) == ["ada", "bob", "cleo"]
    for name, entry in entries.items():
        files = zips.read(folder / f"{name}.zip").files
        assert not (entry.reason or entry.notes or entry.twins), entry
        for task, mark in entry.marks.items():
            path = tmp_path / f"{task}.csv"
            path.write_bytes(files[path.name])
            wanted = csvs.score(path, getattr(course.answers, task))
            limits, _ = cutoffs.cutoffs_of(task)
            assert mark.figure == wanted
            assert mark.grade == limits.grade(wanted)
            assert mark.points == limits.points(wanted, 1.0)  # the bonus is by the class's best
            assert mark.interval[0] <= wanted <= mark.interval[1]
            assert mark.points_interval[0] <= mark.points <= mark.points_interval[1]
    assert entries["ada"].points == 95 and entries["cleo"].points == 0


def test_who_differs_by_luck_shares_places_and_who_differs_by_more_does_not(folder, course):
    marks = {name: entry.marks["verification"] for name, entry in graded(folder, course).items()}
    assert [mark.place for mark in marks.values()] == [1, 2, 3]
    assert marks["ada"].places == marks["bob"].places == (1, 2)
    assert marks["cleo"].places == (3, 3)
    assert (marks["ada"].as_good, marks["cleo"].as_good) == (["bob"], [])


def test_equal_answers_are_found_however_they_are_written_and_equal_weights(folder, course):
    windows = answered(course.answers.verification, 2).replace(b"\n", b"\r\n")
    zips.pack(folder / "dan.zip", hand_in(course, 3, 1, **{"verification.csv": windows}), "dan")
    zips.pack(folder / "eve.zip", hand_in(course, 2, 1), "ada")
    entries = graded(folder, course)
    assert entries["dan"].twins == ["the same answers (verification) as bob"]
    assert entries["eve"].twins == ["the same weights as ada"]
    assert entries["cleo"].twins == []


def test_what_the_rules_forbid_is_noted_as_far_as_the_zip_tells(course, tmp_path):
    def model(**changes) -> dict[str, bytes]:
        return {"model_metadata.json": json.dumps(MODEL | changes).encode()}

    made = {
        "large": (model(trainable_parameters=21_000_001), "21,000,001 parameters, over the limit"),
        "trained": (model(begins_trained=True), "comes with trained weights"),
        "timm": (model(made_of=["timm", "torch"]), "ready-made parts of timm"),
        "silent": ({"README.md": b"## Name\nx"}, "still empty in its README: Model, Training, "),
    }
    for name, (changes, _) in made.items():
        zips.pack(tmp_path / f"{name}.zip", hand_in(course, **changes), name)
    files = hand_in(course)
    del files["notebooks/mine.ipynb"]
    zips.pack(tmp_path / "empty.zip", files, "empty")
    entries = graded(tmp_path, course)
    for name, (_, note) in made.items():
        assert len(entries[name].notes) == 1 and note in entries[name].notes[0]
    assert entries["empty"].notes == ["no notebook"]
    free = replace(course.term, max_parameters=None)
    assert hand_ins._rules_broken(MODEL | {"trainable_parameters": 10**9}, course) != []
    course_without = type("Data", (), {"term": free})()
    assert hand_ins._rules_broken(MODEL | {"trainable_parameters": 10**9}, course_without) == []


def test_a_member_that_was_changed_afterwards_is_named_and_what_is_there_is_scored(folder, course):
    with zipfile.ZipFile(folder / "bob.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["verification.csv"] = answered(course.answers.verification, 0)
    with zipfile.ZipFile(folder / "bob.zip", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    bob = graded(folder, course)["bob"]
    assert bob.notes == ["1 files not as the kit wrote them: verification.csv"]
    assert bob.marks["verification"].figure == 1


# --- what must not end the grading


def zipped(members: dict[str, bytes] | list[tuple[str, bytes]]) -> bytes:
    content = io.BytesIO()
    pairs_of = members.items() if isinstance(members, dict) else members
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in pairs_of:
            archive.writestr(name, text)
    return content.getvalue()


def broken(good: bytes) -> bytes:
    middle = len(good) // 2
    return good[:middle] + bytes(200) + good[middle + 200 :]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("reason", "make"),
    [
        ("no zip", lambda good, files: b"not a zip"),
        ("no zip", lambda good, files: b""),
        ("no zip", lambda good, files: good[:-30]),
        ("damaged", lambda good, files: broken(good)),
        ("would lie outside", lambda good, files: zipped({**files, "../../x": b"x"})),
        ("would lie outside", lambda good, files: zipped({**files, "/etc/x": b"x"})),
        ("comes twice", lambda good, files: zipped([*files.items(), ("README.md", b"x")])),
        ("more than 50 MB", lambda good, files: zipped({**files, "x": bytes(60 << 20)})),
        ("has no hand-in.json", lambda good, files: zipped(files)),
        ("hand-in.json is damaged", lambda good, files: zipped({**files, "hand-in.json": b"{"})),
        ("hand-in.json is damaged", lambda good, files: zipped({**files, "hand-in.json": b"[1]"})),
        ("another version", lambda good, files: zipped({**files, **note(format=99)})),
        ("has no verification.csv", lambda good, files: packed(files, "verification.csv", None)),
        (
            "1 rows for",
            lambda good, files: packed(files, "verification.csv", b"id,label\n0,n000000\n"),
        ),
        ("not a CSV", lambda good, files: packed(files, "classification.csv", b"\xff\xfe\0")),
        ("missing or damaged", lambda good, files: packed(files, "model_metadata.json", b"[]")),
        ("missing or damaged", lambda good, files: packed(files, "model_metadata.json", None)),
        ("not written by the kit", lambda good, files: packed(files, "model_metadata.json", b"{")),
        ("not written by the kit", lambda good, files: packed(files, "model_metadata.json", DEEP)),
    ],
)
def test_a_bad_zip_is_a_row_with_its_reason(reason, make, folder, course, tmp_path):
    files = hand_in(course)
    good = packed(files, "README.md", FILLED)
    (folder / "zoe.zip").write_bytes(make(good, files))
    entries = graded(folder, course)
    assert list(entries) == ["ada", "bob", "cleo", "zoe"]
    assert reason in entries["zoe"].reason
    assert str(tmp_path) not in entries["zoe"].reason and "/tmp" not in entries["zoe"].reason
    assert entries["ada"].marks["verification"].places == (1, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["zips"]


DEEP = b"[" * 100_000 + b"]" * 100_000


def note(**changes) -> dict[str, bytes]:
    return {
        "hand-in.json": json.dumps({"format": 1, "weights": "", "files": {}} | changes).encode()
    }


def packed(files: dict[str, bytes], name: str, content: bytes | None) -> bytes:
    """A zip as the kit writes it, with a member changed or left out."""
    files = {other: text for other, text in files.items() if other != name}
    if content is not None:
        files[name] = content
    return zipped(files | note())


def test_odd_texts_in_a_sound_zip_do_not_end_the_writing_of_the_pages(folder, course, tmp_path):
    """Half of a letter, values in values, a picture that is none: JSON may hold all of it."""
    nested = b'{"trainable_parameters": 1, "module": ' + b"[" * 600 + b"]" * 600 + b"}"
    half = note(files={"\ud800\x1b[2J" * 999: "x"}, weights="\ud800")
    (folder / "eve.zip").write_bytes(zipped(hand_in(course) | half))
    (folder / "zoe.zip").write_bytes(packed(hand_in(course), "model_metadata.json", nested))
    entries = hand_ins.grade(folder, course)
    assert [entry.name for entry in entries if entry.reason] in ([], ["zoe"])
    index = pages.write(entries, tmp_path / "graded").read_text()
    assert "files not as the kit wrote them" in index and "\x1b" not in index


def test_links_and_other_files_are_rows_too_and_folders_and_hidden_files_are_none(folder, course):
    (folder / "thief.zip").symlink_to(folder / "ada.zip")
    (folder / "zoe.rar").write_bytes(b"Rar!")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "graded").mkdir()
    entries = graded(folder, course)
    assert list(entries) == ["ada", "bob", "cleo", "thief", "zoe.rar"]
    assert "a link" in entries["thief"].reason and "no zip" in entries["zoe.rar"].reason
    assert entries["ada"].twins == []


def test_without_answers_or_zips_nothing_is_graded(copy_of_course, course, tmp_path, refused):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no file"):
        hand_ins.grade(tmp_path / "empty", course)
    shutil.rmtree(copy_of_course / "answers")
    assert "has no answers" in refused("grade", tmp_path, "--data", copy_of_course)
    assert "no such folder" in refused("grade", tmp_path / "away", "--data", course.root)


# --- pairs


def pair_csv(scores: np.ndarray) -> bytes:
    return "\n".join(["ID,Label", *(f"{i},{s}" for i, s in enumerate(scores)), ""]).encode()


def test_pairs_are_graded_by_their_equal_error_rate(pair_course, tmp_path):
    same = np.array(pairs.read_scores(pair_course.answers.verification))
    scores = same + np.random.default_rng(0).normal(0, 0.5, len(same))
    made = {"ada": same + 0.1, "bob": scores, "cleo": 1 - same, "dan": 3 * scores - 1}
    folder = tmp_path / "zips"
    folder.mkdir()
    for name, found in made.items():
        files = hand_in_of_pairs(pair_csv(found))
        zips.pack(folder / f"{name}.zip", files, name)
    entries = graded(folder, pair_course)
    assert list(entries) == ["ada", "bob", "dan", "cleo"]
    (tmp_path / "bob.csv").write_bytes(pair_csv(scores))
    wanted = pairs.score(tmp_path / "bob.csv", pair_course.answers.verification)
    mark = entries["bob"].marks["verification"]
    assert mark.figure == wanted["EER"]
    assert mark.interval == (wanted["EER low"], wanted["EER high"])
    assert entries["dan"].twins == ["the same answers (verification) as bob"]  # on another scale
    assert entries["ada"].marks["verification"].points == 95
    assert entries["cleo"].marks["verification"].places == (4, 4)


def hand_in_of_pairs(content: bytes) -> dict[str, bytes]:
    files = {"README.md": FILLED, "model_metadata.json": json.dumps(MODEL).encode()}
    return files | {"notebooks/mine.ipynb": b"{}", "pairs.csv": content}


# --- the table and the pages


def test_the_command_writes_a_table_and_a_page_for_each_that_names_nobody_else(
    folder, course, run_cli, tmp_path
):
    zips.pack(folder / "eve.zip", hand_in(course, 2), "ada")
    (folder / "zoe.zip").write_bytes(b"not a zip")
    out = tmp_path / "graded"
    outcome = run_cli("grade", folder, "--data", course.root, "--out", out)
    assert outcome.status == 0, outcome.stderr
    assert "5 hand-ins, 1 not graded, 3 with what another has" in outcome.stdout
    with (out / "grades.csv").open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert rows["ada"]["classification"] == "100.00%"
    assert rows["ada"]["verification, not told apart from"] == "bob; eve"
    assert rows["eve"]["the same"].startswith("the same weights as ada; ")
    assert "no zip" in rows["zoe"]["not graded, for"]
    index = (out / "index.html").read_text()
    names = ["ada", "bob", "eve", "cleo", "zoe"]
    assert len(list((out / "pages").iterdir())) == 5
    for name in names:
        (page,) = (out / "pages").glob(f"{name}-*.html")
        text = page.read_text()
        assert f'href="pages/{page.name}"' in index
        assert f"<h1>{name}</h1>" in text
        assert not [other for other in names if other != name and other in text]
    assert (out / "grades.csv").stat().st_mode & 0o077 == 0


def test_nothing_in_a_zip_or_its_name_becomes_markup_or_a_formula(course, tmp_path):
    evil = "<script>alert(1)</script>"
    folder = tmp_path / "zips"
    folder.mkdir()
    changes = {
        "README.md": f"## Name\n{evil}".encode(),
        "model_metadata.json": json.dumps(MODEL | {"module": evil}).encode(),
        f"notebooks/{evil.replace('/', '')}": b"{}",
    }
    zips.pack(folder / "=1+1&<b>.zip", hand_in(course, **changes), evil)
    entries = hand_ins.grade(folder, course)
    pages.write(entries, tmp_path / "graded")
    for page in (tmp_path / "graded").rglob("*.html"):
        text = page.read_text()
        assert "<script" not in text and "<b>" not in text
        assert "=1+1&amp;&lt;b&gt;" in text
    assert "\n'=1+1&<b>," in (tmp_path / "graded" / "grades.csv").read_text()
