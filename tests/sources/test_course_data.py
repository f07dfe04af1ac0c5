"""A course is the same bytes however it came about: processes, kills, second calls."""

import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from unittest import mock
from urllib.error import URLError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facekit import faces, sources
from facekit.common.errors import DataError
from facekit.common.files import read_table
from facekit.data.layout import IDENTITY, NO_MATCH, TERMS, CourseData, read_identities
from facekit.sources import course_data, lfw, manifest, writers
from facekit.sources.plans import Plan, folder_plan, held_out_plan, synthetic_plan
from facekit.sources.profiles import PROFILES, Profile

# Enough chunks for two processes, of images that take no time.
WIDE = Profile("wide", 20, 20, 3, 3, known=27, unknown_dev=9, unknown_test=18, pixels=16)


def manifest_of(root: Path) -> dict:
    return json.loads((root / "manifest.json").read_text())


def images_in(root: Path) -> dict[Path, int]:
    """Every finished image with the time it was written."""
    return {p: p.stat().st_mtime_ns for p in root.rglob("*.jpg")}


def plain_hash(root: Path) -> str:
    """The content hash, worked out without the package."""
    lines = []
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.name not in ("manifest.json", ".facekit-setup.json", ".lock", ".lock-holder"):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                lines.append((path.relative_to(root).as_posix(), digest))
    text = "".join(f"{path} {digest}\n" for path, digest in sorted(lines))
    return hashlib.sha256(text.encode()).hexdigest()


def make(profile: Profile, out: Path, **settings) -> str:
    """Set up a rendered course; its content hash."""
    sources.set_up("synthetic", profile, out, progress=False, **settings)
    return manifest_of(out)["sha256"]


@pytest.fixture(scope="module")
def wide_hash(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The content of WIDE, made in one process without any interruption."""
    return make(WIDE, tmp_path_factory.mktemp("wide"), processes=1)


# --- the same bytes


def test_the_same_seed_gives_the_same_bytes_in_another_folder(
    course: CourseData, tiny_profile: Profile, tmp_path: Path
) -> None:
    assert make(tiny_profile, tmp_path) == manifest_of(course.root)["sha256"]


def test_another_seed_gives_other_bytes(
    course: CourseData, tiny_profile: Profile, tmp_path: Path
) -> None:
    assert make(tiny_profile, tmp_path, seed=1) != manifest_of(course.root)["sha256"]
    sums = {hashlib.sha256(p.read_bytes()).hexdigest() for p in course.root.rglob("*.jpg")}
    others = {hashlib.sha256(p.read_bytes()).hexdigest() for p in tmp_path.rglob("*.jpg")}
    assert not sums & others


def test_seed_and_difficulty_reach_the_faces_themselves(tmp_path: Path) -> None:
    wanted = {"a": (0, "easy"), "b": (0, "easy"), "c": (1, "easy"), "d": (0, "hard")}
    for name, (seed, difficulty) in wanted.items():
        writers.render_chunk([(str(tmp_path / name), (5, 3))], 16, seed, difficulty)
    first, second, other, hard = ((tmp_path / name).read_bytes() for name in "abcd")
    assert first == second
    assert len({first, other, hard}) == 3


def test_a_shot_is_squeezed_as_hard_as_it_was_drawn(tmp_path: Path) -> None:
    files = [(str(tmp_path / f"{shot}.jpg"), (5, shot)) for shot in range(40)]
    writers.render_chunk(files, 64, 0, "hard")
    drawn = faces.parameters([5] * 40, range(40), 0, "hard")[1]["jpeg"]
    tables = [Image.open(path).quantization[0] for path, _ in files]
    coarse = [sum(table) for table in tables]
    assert np.corrcoef(drawn, coarse)[0, 1] < -0.8, "the lower the quality, the coarser the steps"


@pytest.mark.parametrize("difficulty", ["silly", ""])
def test_an_unknown_difficulty_is_named_and_nothing_is_begun(
    difficulty: str, tmp_path: Path, refused
) -> None:
    out = tmp_path / "data"
    said = refused("data", "--profile", "smoke", "--difficulty", difficulty, "--out", out)
    assert repr(difficulty) in said
    assert "easy, homework, hard" in said
    assert not out.exists()


def test_another_difficulty_is_another_course(tiny_profile: Profile, tmp_path: Path) -> None:
    hard = make(replace(tiny_profile, difficulty="hard"), tmp_path / "hard")
    assert hard != make(tiny_profile, tmp_path / "usual")
    with pytest.raises(DataError, match="difficulty"):
        make(tiny_profile, tmp_path / "hard")


@pytest.mark.long
def test_two_processes_make_the_same_bytes_as_one(
    wide_hash: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    class Pool(writers.ProcessPoolExecutor):
        def __init__(self, processes: int, **settings) -> None:
            started.append(processes)
            super().__init__(processes, **settings)

    monkeypatch.setattr(writers, "ProcessPoolExecutor", Pool)
    assert make(WIDE, tmp_path, processes=2) == wide_hash
    assert started == [2]


def test_the_manifest_holds_the_hash_of_what_is_there(course: CourseData) -> None:
    made = manifest_of(course.root)
    assert made["sha256"] == plain_hash(course.root) == manifest.content_hash(course.root)
    assert made["source"] == "synthetic"
    assert made["counts"] == {
        "classes": 6, "train": 36, "dev": 12, "test": 12,
        "known": 9, "unknown_dev": 9, "unknown_test": 18,
    }  # fmt: skip
    assert set(made["versions"]) == {"torch", "pillow"}


def test_a_changed_byte_a_new_name_and_a_lost_file_change_the_hash(copy_of_course: Path) -> None:
    path = next(copy_of_course.rglob("0001_01.jpg"))
    whole, content = manifest.content_hash(copy_of_course), path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    changed = manifest.content_hash(copy_of_course)
    path.write_bytes(content)
    assert manifest.content_hash(copy_of_course) == whole
    renamed = path.rename(path.with_name("0099_01.jpg"))
    moved = manifest.content_hash(copy_of_course)
    renamed.unlink()
    assert len({whole, changed, moved, manifest.content_hash(copy_of_course)}) == 4


# --- interrupted


def kill_when_some_images_are_there(command: list[str], out: Path, workspace: Path) -> None:
    """Start a set-up in a session of its own; kill it and its processes in the middle."""
    environment = os.environ | {"FACEKIT_HOME": str(workspace)}
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        while len(images_in(out)) < 20 and process.poll() is None:
            time.sleep(0.001)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL, f"it was not killed in time: {said.decode()}"


def count_of(profile: Profile) -> int:
    p = profile
    return p.classes * (p.train + p.dev + p.test) + p.known + p.unknown_dev + p.unknown_test


def assert_half_done(out: Path, profile: Profile) -> dict[Path, int]:
    """The images of an interrupted set-up: some and not all."""
    there = images_in(out)
    assert 0 < len(there) < count_of(profile)
    assert not (out / "manifest.json").exists()
    return there


def assert_whole(out: Path, before: dict[Path, int], profile: Profile) -> None:
    """Everything is there, nothing is left over, and no finished image was made twice."""
    after = images_in(out)
    assert len(after) == count_of(profile)
    assert {path: after[path] for path in before} == before
    assert not [p for p in out.rglob("*") if p.name.endswith(".part")]
    assert not (out / ".facekit-setup.json").exists()


def test_a_killed_facekit_data_goes_on_to_the_same_bytes(tmp_path: Path, run_cli) -> None:
    out = tmp_path / "data"
    arguments = ["data", "--profile", "smoke", "--out", str(out)]
    kill_when_some_images_are_there([sys.executable, "-m", "facekit", *arguments], out, tmp_path)
    before = assert_half_done(out, PROFILES["smoke"])
    next(out.rglob("*.jpg")).with_name(".0099_01.jpg.1.part").write_bytes(b"half a pic")
    outcome = run_cli(*arguments)
    assert outcome.status == 0, outcome.stderr
    assert_whole(out, before, PROFILES["smoke"])
    assert manifest_of(out)["sha256"] == make(PROFILES["smoke"], tmp_path / "uninterrupted")


def test_after_a_power_cut_no_image_is_believed_that_cannot_be_read(
    course: CourseData, tiny_profile: Profile, copy_of_course: Path
) -> None:
    """As the disk is then: named, and empty, or with zeros where the bytes were to come."""
    manifest_path = copy_of_course / "manifest.json"
    made = json.loads(manifest_path.read_text())
    manifest_path.rename(copy_of_course / manifest.STARTED)
    images = sorted(copy_of_course.rglob("*.jpg"))
    images[0].write_bytes(b"")
    images[40].write_bytes(images[40].read_bytes()[:300])
    images[-1].write_bytes(bytes(images[-1].stat().st_size))
    kept = {path: when for path, when in images_in(copy_of_course).items() if path in images[1:40]}
    assert make(tiny_profile, copy_of_course) == made["sha256"]
    after = images_in(copy_of_course)
    assert {path: after[path] for path in kept} == kept


def test_a_killed_unpacking_does_not_stop_a_set_up(tiny_profile: Profile, tmp_path: Path) -> None:
    left_over = tmp_path / "data" / ".course.zip.part"
    left_over.mkdir(parents=True)
    (left_over / "a.jpg").write_bytes(b"half")
    make(tiny_profile, tmp_path / "data")
    assert not left_over.exists()


def test_while_one_process_fills_a_folder_another_waits_and_has_the_same(
    tiny_profile: Profile, tmp_path: Path, in_turn: Callable
) -> None:
    in_turn(tmp_path, make, tiny_profile, tmp_path)
    assert images_in(tmp_path)
    assert manifest.read_manifest(tmp_path)["seed"] == 0


ORPHANS = """
import time
from multiprocessing import get_context
from facekit.sources import writers
if __name__ == "__main__":
    pool = writers.ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=writers._end_with_parent
    )
    pool.submit(time.sleep, 0).result()
    print(*pool._processes, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="asks whether a process lives")
def test_workers_end_with_a_set_up_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "fill.py").write_text(ORPHANS)
    command = [sys.executable, tmp_path / "fill.py"]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    for _ in range(300):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its parent")


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_two_killed_processes_leave_what_one_can_finish(wide_hash: str, tmp_path: Path) -> None:
    out = tmp_path / "data"
    code = (
        "from facekit import sources; "
        "from facekit.sources.profiles import Profile; "
        f"sources.set_up('synthetic', {WIDE!r}, {str(out)!r}, processes=2)"
    )
    kill_when_some_images_are_there([sys.executable, "-c", code], out, tmp_path)
    before = assert_half_done(out, WIDE)
    assert make(WIDE, out, processes=1) == wide_hash
    assert_whole(out, before, WIDE)


def test_an_error_in_the_middle_leaves_what_a_second_call_finishes(
    course: CourseData, tiny_profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def full_disk(path: Path, content: bytes, **options: bool) -> None:
        written.append(path)
        if len(written) == 50:
            raise OSError(28, "No space left on device")
        path.write_bytes(content)

    with monkeypatch.context() as patch:
        patch.setattr(writers, "write_whole", full_disk)
        with pytest.raises(OSError, match="No space left"):
            make(tiny_profile, tmp_path)
    before = assert_half_done(tmp_path, tiny_profile)
    assert len(before) == 49
    assert make(tiny_profile, tmp_path) == manifest_of(course.root)["sha256"]
    assert_whole(tmp_path, before, tiny_profile)


# --- a folder that is not empty


def test_a_finished_set_up_does_nothing(
    copy_of_course: Path, tiny_profile: Profile, unchanged
) -> None:
    with unchanged(copy_of_course):
        again = sources.set_up("synthetic", tiny_profile, copy_of_course, progress=False)
    assert again.root == copy_of_course
    assert len(again.train) == 36


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"profile": PROFILES["smoke"]}, "name = tiny, and smoke"),
        ({"seed": 5}, "seed = 0, and 5"),
        ({"term": "S24"}, "term = F23, and S24"),
    ],
)
def test_another_course_in_the_same_folder_is_refused(
    change: dict, named: str, copy_of_course: Path, tiny_profile: Profile, unchanged
) -> None:
    with unchanged(copy_of_course), pytest.raises(DataError, match=named):
        sources.set_up(
            **{"source": "synthetic", "profile": tiny_profile, "out": copy_of_course} | change
        )


def test_another_course_in_a_half_made_folder_is_refused(
    copy_of_course: Path, tiny_profile: Profile, unchanged
) -> None:
    (copy_of_course / "manifest.json").rename(copy_of_course / ".facekit-setup.json")
    with unchanged(copy_of_course), pytest.raises(DataError, match="seed = 0, and 1"):
        sources.set_up("synthetic", tiny_profile, copy_of_course, seed=1)


@pytest.mark.parametrize("name", ["thesis.tex", "11-785-f23-hw2p2-classification/train/a/b.jpg"])
def test_a_folder_of_other_files_is_refused(
    name: str, tiny_profile: Profile, tmp_path: Path, unchanged
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    with unchanged(tmp_path), pytest.raises(DataError, match=r"did not make; .*another --out"):
        sources.set_up("synthetic", tiny_profile, tmp_path)


def test_a_manifest_is_read_with_a_byte_order_mark(copy_of_course: Path) -> None:
    plain = manifest.read_manifest(copy_of_course)
    path = copy_of_course / "manifest.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert manifest.read_manifest(copy_of_course) == plain != {}


# --- what makes the answers, and the answers


@pytest.mark.skipif(os.name != "posix", reason="Windows has other rights")
def test_answers_and_seed_are_private_and_what_is_handed_out_is_not(
    tiny_profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()  # how open the notes of a set-up that goes on are

    def finish(out: Path, *arguments: object) -> None:
        seen.add((out / manifest.STARTED).stat().st_mode & 0o077)
        real(out, *arguments)

    real = manifest.finish
    monkeypatch.setattr(manifest, "finish", finish)
    before = os.umask(0o022)
    try:
        data = sources.set_up("synthetic", tiny_profile, tmp_path / "data", progress=False)
    finally:
        os.umask(before)
    private = [data.root / "manifest.json", data.root / "answers"]
    private += (data.root / "answers").iterdir()
    assert len(private) == 4
    assert {path.stat().st_mode & 0o077 for path in private} == seen == {0}
    handed_out = [path for path in data.classification.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o044 for path in handed_out} == {0o044}


def test_whoever_may_not_read_the_answers_has_a_course_without(
    copy_of_course: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    data = CourseData(copy_of_course)
    assert data.answers is None
    assert manifest.read_manifest(data.root) == {}


def test_the_seed_that_was_published_is_refused(
    tiny_profile: Profile, tmp_path: Path, refused
) -> None:
    out = tmp_path / "term"
    said = refused("data", "--seed", course_data.PUBLISHED, "--out", out)
    assert "anybody can make its answers; choose one" in said
    with pytest.raises(DataError, match="anybody can make its answers"):
        sources.set_up("synthetic", tiny_profile, out, seed=course_data.PUBLISHED)
    assert not out.exists()


def test_the_seed_can_come_from_where_others_do_not_see_it(
    tiny_profile: Profile, tmp_path: Path, run_cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facekit.cli.profiles.get_profile", lambda name: tiny_profile)
    monkeypatch.setenv("FACEKIT_SEED", "41")
    done = run_cli("data", "--profile", "tiny", "--out", tmp_path / "term")
    assert done.status == 0, done.stderr
    assert manifest_of(tmp_path / "term")["seed"] == 41


def test_a_damaged_manifest_is_named(
    copy_of_course: Path, tiny_profile: Profile, unchanged
) -> None:
    (copy_of_course / "manifest.json").write_text('{"source": "synth')
    with unchanged(copy_of_course), pytest.raises(DataError, match=r"manifest\.json: damaged"):
        sources.set_up("synthetic", tiny_profile, copy_of_course)


def test_a_course_is_whole_though_the_note_of_its_beginning_is_back(copy_of_course: Path) -> None:
    assert manifest.is_course(copy_of_course)
    (copy_of_course / manifest.STARTED).write_bytes((copy_of_course / "manifest.json").read_bytes())
    assert manifest.is_course(copy_of_course)  # a power cut brings a name back
    (copy_of_course / "manifest.json").unlink()
    assert not manifest.is_course(copy_of_course)


def test_hidden_files_do_not_stand_in_the_way(tiny_profile: Profile, tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    data = sources.set_up("synthetic", tiny_profile, tmp_path, progress=False)
    assert len(data.test) == 12


# --- a folder of photographs


def photograph(number: int, path: Path) -> None:
    """An image like no other, of a size, kind and name of its own."""
    rng = np.random.default_rng(number)
    low = rng.integers(0, 256, (4, 3, 3), dtype=np.uint8)
    size = 40 + number % 50, 70 - number % 30
    image = Image.fromarray(low).resize(size, Image.Resampling.BICUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    if number % 3 == 1:
        image.convert("RGBA").save(path.with_suffix(".png"))
    else:
        image.save(path.with_suffix(".JPG" if number % 3 else ".jpeg"), "JPEG", quality=95)


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder an identity, PNG and JPEG of mixed sizes: many of 4 people, few of 8."""
    folder = tmp_path_factory.mktemp("album")
    names = ["Ada L", "Büşra", "Chen", "Dana", *(f"person-{i}" for i in range(8))]
    for person, name in enumerate(names):
        for shot in range(9 if person < 4 else 1 + person % 3):
            photograph(20 * person + shot, folder / name / f"IMG {shot}")
    return folder


def set_up_album(album: Path, out: Path, **settings) -> CourseData:
    profile = Profile("any", 0, 0, 0, 0, known=0, unknown_dev=0, unknown_test=0, pixels=24)
    return sources.set_up("folder", profile, str(out), str(album), progress=False, **settings)


def test_a_folder_an_identity_becomes_a_course(album: Path, tmp_path: Path) -> None:
    data = set_up_album(album, tmp_path)
    for path in tmp_path.rglob("*.jpg"):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (24, 24))
    assert len(data.classes) == 3
    assert not set(data.classes) & set(data.known.labels)
    truth = read_table(data.answers.classification, ["id", "label"])
    assert truth["id"].tolist() == data.test.names
    assert set(truth["label"]) == {"0", "1", "2"}
    assert len(read_identities(data.answers.verification)) == len(data.unknown_test)
    assert manifest_of(tmp_path)["counts"]["train"] == len(data.train)


def test_photographs_are_dealt_out_by_the_seed(album: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        set_up_album(album, tmp_path / name, seed=seed)
    first, second, other = (manifest_of(tmp_path / name)["sha256"] for name in "abc")
    assert first == second != other


def test_a_photograph_is_cropped_in_the_middle_and_resized(album: Path, tmp_path: Path) -> None:
    data = set_up_album(album, tmp_path)
    with Image.open(data.known.paths[0]) as image:
        made = np.asarray(image).astype(int)
    differences = []
    for path in album.rglob("*.*"):
        with Image.open(path) as image:
            rgb = image.convert("RGB")
        side, (width, height) = min(rgb.size), rgb.size
        left, top = (width - side) / 2, (height - side) / 2
        box = left, top, left + side, top + side
        expected = rgb.resize((24, 24), Image.Resampling.BICUBIC, box)
        differences.append(np.abs(np.asarray(expected) - made).mean())
    nearest, second = sorted(differences)[:2]
    assert nearest < 6 < 30 < second  # levels: a strong JPEG of 24 pixels, and another image


def test_an_interrupted_folder_goes_on_only_with_the_same_photographs(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unchanged
) -> None:
    copy, out = tmp_path / "album", tmp_path / "data"
    for path in album.rglob("*.*"):
        (copy / path.parent.name).mkdir(parents=True, exist_ok=True)
        (copy / path.parent.name / path.name).write_bytes(path.read_bytes())

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(manifest, "finish", stop)
        set_up_album(copy, out)
    photograph(999, copy / "Chen" / "one more")
    with unchanged(out), pytest.raises(DataError, match="another --out, or delete"):
        set_up_album(copy, out)  # dealt out anew, people would get each other's names
    next((copy / "Chen").glob("one more*")).unlink()
    assert len(set_up_album(copy, out).classes) == 3


def swap(path: Path) -> None:
    """Put another file in its place, of the same name, size and time."""
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("source", ["album", "course", "held-out"])
def test_photographs_that_were_replaced_are_noticed_and_a_moved_folder_is_the_same(
    album: Path, wide: CourseData, tmp_path: Path, source: str, run_cli, refused
) -> None:
    here = shutil.copytree(album if source == "album" else wide.root, tmp_path / "here")
    keys = ["--source", "folder", "--out", tmp_path / "out"]
    if source == "held-out":
        keys = ["--source", "held-out", "--people", 8, "--out", tmp_path / "out"]
    assert run_cli("data", here, *keys).status == 0
    there = here.rename(tmp_path / "there")
    assert run_cli("data", there, *keys).status == 0
    swap(next(path for path in there.rglob("*.*") if source == "album" or "train" in path.parts))
    assert "another --out, or delete" in refused("data", there, *keys)


def test_a_broken_photograph_is_named_before_anything_is_made(
    album: Path, tmp_path: Path, run_cli, refused
) -> None:
    copy, out = tmp_path / "album", tmp_path / "data"
    for path in album.rglob("*.*"):
        (copy / path.parent.name).mkdir(parents=True, exist_ok=True)
        (copy / path.parent.name / path.name).write_bytes(path.read_bytes())
    broken = next((copy / "Dana").glob("*.JPG"))
    broken.write_bytes(broken.read_bytes()[:300])
    assert str(broken) in refused("data", copy, "--source", "folder", "--out", out)
    assert not out.exists()


def test_too_few_people_are_refused_with_the_numbers(tmp_path: Path) -> None:
    for person in range(3):
        for shot in range(7):
            photograph(9 * person + shot, tmp_path / "album" / f"p{person}" / f"{shot}")
    with pytest.raises(DataError, match=r"3 identities .* 3 classes; besides, 0 have 2"):
        set_up_album(tmp_path / "album", tmp_path / "data")
    assert not (tmp_path / "data").exists()


SHAPES = {  # where the images of twelve people lie, and what has to be said
    "one level up": ("lfw/person {p}/{i}.jpg", ["person 0/0.jpg", "name the folder", "/lfw (96"]),
    "split": ("{half}/n{p:06d}/{i}.jpg", ["/train (48 images)", "/test (48 images)"]),
    "sessions": ("person {p}/day {half}/{i}.jpg", ["move the images of day test", "one folder up"]),
    "flat": ("person {p} {i}.jpg", ["96 images lie flat", "a folder for each person"]),
    "not read": ("s{p}/{i}.pgm", ["not read are 96 .pgm", "convert them", ".jpg"]),
    "no ending": ("s{p}/{i}", ["not read are 96 without an ending"]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_folder_of_another_shape_is_described(shape: str, tmp_path: Path) -> None:
    pattern, said = SHAPES[shape]
    for person in range(12):
        for shot in range(8):
            half = "train" if person % 2 else "test"
            path = tmp_path / "photos" / pattern.format(p=person, i=shot, half=half)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    with pytest.raises(DataError) as error:
        folder_plan(tmp_path / "photos")
    assert [words for words in said if words not in str(error.value)] == []


def test_photographs_that_are_left_out_are_told(album: Path, tmp_path: Path, capsys) -> None:
    photos = shutil.copytree(album, tmp_path / "photos")
    set_up_album(photos, tmp_path / "plain")
    assert capsys.readouterr().err == ""
    for name in ("Ada L/a.HEIC", "Eve/b.HEIC", "Eve/.c.jpg.icloud", "Eve/d", "e.png"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(b"ftypheic")
    set_up_album(photos, tmp_path / "data")
    said = capsys.readouterr().err
    for words in ("2 .HEIC", "1 .icloud", "1 without an ending", "1 in no person's own folder"):
        assert words in said
    assert "1 people have no image" in said


def test_a_course_tree_is_taken_over_byte_for_byte(course: CourseData, tmp_path: Path) -> None:
    (course_copy := tmp_path / "theirs").mkdir()
    for path in course.root.rglob("*"):
        if path.is_file() and path.name != "manifest.json":
            target = course_copy / path.relative_to(course.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    for stray in ("._x.jpg", "__MACOSX/x.jpg", ".ipynb_checkpoints/x.jpg"):
        (course_copy / stray).parent.mkdir(exist_ok=True)
        (course_copy / stray).write_bytes(b"stray")
    data = set_up_album(course_copy, tmp_path / "ours")
    assert manifest_of(data.root)["sha256"] == manifest_of(course.root)["sha256"]
    assert manifest_of(data.root)["source"] == "folder"
    assert manifest_of(data.root)["counts"] == manifest_of(course.root)["counts"]


def test_an_interrupted_take_over_goes_on_where_it_stopped(
    course: CourseData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied, write = [], writers.write_whole

    def stop(path: Path, content: bytes, **options: bool) -> None:
        if len(copied) == 20:
            path.with_name(f".{path.name}.1.part").write_bytes(b"half an image")
            raise KeyboardInterrupt
        copied.append(write(path, content))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(writers, "write_whole", stop)
        set_up_album(course.root, tmp_path)
    before = images_in(tmp_path)
    assert 0 < len(before) < 96
    set_up_album(course.root, tmp_path)
    assert manifest_of(tmp_path)["sha256"] == manifest_of(course.root)["sha256"]
    assert {path: images_in(tmp_path)[path] for path in before} == before
    assert not [p for p in tmp_path.rglob("*") if p.name.endswith(".part")]


@pytest.mark.parametrize("lost", ["train", "dev", "test", "known", "unknown_dev", "unknown_test"])
def test_an_incomplete_course_tree_is_not_taken_over(
    lost: str, copy_of_course: Path, tmp_path: Path, refused
) -> None:
    (copy_of_course / "manifest.json").unlink()
    folder = next(p for p in copy_of_course.glob(f"*/{lost}") if p.is_dir())
    folder.rename(tmp_path / "lost")
    out = tmp_path / "data"
    assert lost in refused("data", copy_of_course, "--source", "folder", "--out", out)
    assert not out.exists()


def test_a_course_tree_of_another_term_is_not_taken_over(
    copy_of_course: Path, tmp_path: Path, refused
) -> None:
    out = tmp_path / "data"
    said = refused("data", copy_of_course, "--source", "folder", "--out", out, "--term", "S24")
    assert "11-785-s24-hw2p2-classification" in said
    assert not out.exists()


# --- plans


def touch_album(folder: Path, counts: list[int]) -> None:
    """Empty files: a plan looks at names alone."""
    for person, count in enumerate(counts):
        (folder / f"person {person}").mkdir()
        for shot in range(count):
            (folder / f"person {person}" / f"{shot}.jpg").touch()


def assert_sound(plan: Plan, counts: list[int]) -> None:
    """What must be true of any plan of photographs."""
    used = [image for _, image in plan.files(TERMS["F23"])]
    assert not [path for path, times in Counter(used).items() if times > 1]
    assert len(used) <= sum(counts)
    people = [*plan.train, *plan.known]
    assert all(IDENTITY.fullmatch(name) and name != NO_MATCH for name in people)
    assert set(plan.train) == set(plan.dev) == {who for _, who in plan.test}
    assert all(plan.train.values())
    assert all(plan.dev.values())

    def person(path: Path) -> str:
        return path.parent.name

    classes = {name: {person(p) for p in shots} for name, shots in plan.train.items()}
    for name, shots in plan.dev.items():
        assert {person(p) for p in shots} == classes[name]
    assert all({person(p)} == classes[who] for p, who in plan.test)
    assert all(len(who) == 1 for who in classes.values())
    known = {name: person(p) for name, p in plan.known.items()}
    assert not set(known.values()) & set.union(*classes.values())
    assert not set(known) & set(classes)
    answers = [who for _, who in (*plan.unknown_dev, *plan.unknown_test)]
    assert answers.count(NO_MATCH) <= max(2, len(answers) / 9)
    for probes in (plan.unknown_dev, plan.unknown_test):
        mated = [(p, who) for p, who in probes if who != NO_MATCH]
        strangers = {person(p) for p, who in probes if who == NO_MATCH}
        assert mated
        assert strangers
        assert all(person(p) == known[who] for p, who in mated)
        assert not strangers & (set(known.values()) | set.union(*classes.values()))


@settings(max_examples=50, deadline=None)
@given(
    able=st.lists(st.integers(6, 25), min_size=3, max_size=7),
    pairs=st.lists(st.integers(2, 5), min_size=4, max_size=7),
    rest=st.lists(st.integers(0, 1), max_size=6),
    seed=st.integers(0, 9),
)
def test_every_plan_of_photographs_is_sound(
    able: list[int], pairs: list[int], rest: list[int], seed: int
) -> None:
    counts = [*able, *pairs, *rest]
    random.Random(seed).shuffle(counts)
    with tempfile.TemporaryDirectory() as folder:
        touch_album(Path(folder), counts)
        plan = folder_plan(Path(folder), seed)
        assert plan == folder_plan(Path(folder), seed)
    assert_sound(plan, counts)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=9))
def test_any_other_folder_gives_a_sound_plan_or_a_reason(counts: list[int]) -> None:
    able, paired, there = (sum(n >= least for n in counts) for least in (6, 2, 1))
    classes = math.ceil(able * 3 / 4)
    enough = classes >= 2 and paired - classes >= 2 and there - classes >= 4
    with tempfile.TemporaryDirectory() as folder:
        touch_album(Path(folder), counts)
        try:
            plan = folder_plan(Path(folder))
        except DataError as error:
            assert not enough
            assert f"its {able} identities with 6" in str(error)
            assert f"{classes} classes; besides, {paired - classes} have 2" in str(error)
            assert f"and {there - paired} have one" in str(error)
            return
    assert enough
    assert_sound(plan, counts)


@given(st.sampled_from(["smoke", "laptop", "homework"]), st.integers(0, 1000))
@settings(max_examples=8, deadline=None)
def test_every_rendered_plan_is_sound(name: str, seed: int) -> None:
    profile = PROFILES[name]
    plan = synthetic_plan(profile, seed)
    images = [image for _, image in plan.files(TERMS["F23"])]
    assert len(set(images)) == len(images) == count_of(profile)
    people = {int(who[1:]) for who in (*plan.train, *plan.known)}
    assert len(people) == profile.classes + profile.known
    assert all(p == int(who[1:]) for (p, _), who in plan.test)
    for probes in (plan.unknown_dev, plan.unknown_test):
        strangers = [p for (p, _), who in probes if who == NO_MATCH]
        assert len(strangers) * 9 == len(probes)
        assert not set(strangers) & people
        assert all(p == int(who[1:]) for (p, _), who in probes if who != NO_MATCH)
        assert {who for _, who in probes} <= {NO_MATCH, *plan.known}


# --- people held out of another course


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> CourseData:
    """WIDE, for reading only."""
    out = tmp_path_factory.mktemp("whole")
    return sources.set_up("synthetic", WIDE, out, processes=1, progress=False)


def hold_out(wide: CourseData, out: Path, people: int = 8, **settings) -> CourseData:
    keys = {"people": people, "progress": False} | settings
    return sources.set_up("held-out", WIDE, out, wide.root, **keys)


def test_who_is_held_out_is_in_no_class_and_the_rest_is_as_before(
    wide: CourseData, tmp_path: Path
) -> None:
    held = hold_out(wide, tmp_path)
    assert len(held.classes) == 12
    assert set(held.classes) < set(wide.classes)
    assert len(held.known) == 4
    assert set(held.known.labels) < set(wide.classes) - set(held.classes)
    content = {p.read_bytes(): p.parent.name for p in (*wide.train.paths, *wide.dev.paths)}
    for path, label in zip(held.train.paths, held.train.labels, strict=True):
        assert content[path.read_bytes()] == held.classes[label] == path.parent.name
    for images in (held.dev, held.test, held.known, held.unknown_dev, held.unknown_test):
        assert all(path.read_bytes() in content for path in images.paths)
    assert (len(held.train), len(held.dev), len(held.test)) == (240, 24, 12)


def test_probes_are_of_whom_they_say_and_never_the_gallery_image(
    wide: CourseData, tmp_path: Path
) -> None:
    held = hold_out(wide, tmp_path)
    content = {p.read_bytes(): p.parent.name for p in (*wide.train.paths, *wide.dev.paths)}
    truth = read_identities(held.answers.verification, held.unknown_test.paths)
    shown: dict[str, set[str]] = {}
    for name, images, labels in (
        ("dev", held.unknown_dev, held.unknown_dev.labels),
        ("test", held.unknown_test, truth),
    ):
        for path, label in zip(images.paths, labels, strict=True):
            person = content[path.read_bytes()]
            assert person == label or (label == NO_MATCH and person not in held.known.labels)
            assert person not in held.classes
            shown.setdefault(name, set()).add(person)
        assert Counter(labels)[NO_MATCH] * 9 == len(labels)  # as in the homework
    assert not shown["dev"] & shown["test"]
    every = [*held.known.paths, *held.unknown_dev.paths, *held.unknown_test.paths]
    assert len({path.read_bytes() for path in every}) == len(every)


def test_test_answers_of_a_held_out_course_are_right(wide: CourseData, tmp_path: Path) -> None:
    held = hold_out(wide, tmp_path)
    content = {p.read_bytes(): p.parent.name for p in wide.dev.paths}
    table = read_table(held.answers.classification, ["id", "label"])
    for path, label in zip(held.test.paths, table["label"], strict=True):
        assert content[path.read_bytes()] == held.classes[int(label)]


def test_holding_out_takes_no_room_and_leaves_the_course_alone(
    wide: CourseData, tmp_path: Path, unchanged
) -> None:
    with unchanged(wide.root):
        held = hold_out(wide, tmp_path)
        again = hold_out(wide, tmp_path)
    assert again.root == held.root
    assert all(path.stat().st_nlink > 1 for path in held.train.paths)


def test_holding_out_goes_where_files_cannot_have_two_names(
    wide: CourseData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked = hold_out(wide, tmp_path / "linked")

    def refuse(*_: object) -> None:
        raise OSError("another disk")

    monkeypatch.setattr(os, "link", refuse)
    copied = hold_out(wide, tmp_path / "copied", processes=1)
    assert all(path.stat().st_nlink == 1 for path in copied.train.paths)
    assert manifest_of(copied.root)["sha256"] == manifest_of(linked.root)["sha256"]


def test_who_is_held_out_is_drawn_by_the_seed(wide: CourseData) -> None:
    known = [set(held_out_plan(wide, 8, seed).known) for seed in (0, 0, 1)]
    assert known[0] == known[1] != known[2]


@pytest.mark.parametrize("people", [1, 3, 19, 20, 100, -5])
def test_so_many_people_cannot_be_held_out(wide: CourseData, tmp_path: Path, people, refused):
    said = refused(
        "data", wide.root, "--source", "held-out", "--people", people, "--out", tmp_path / "out"
    )
    assert f"{people} of 20 people cannot be held out" in said
    assert "4 ... 18" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [[], ["--people", 8], ["nowhere", "--people", 8]])
def test_holding_out_needs_a_course_and_a_number(arguments, tmp_path: Path, refused) -> None:
    said = refused("data", *arguments, "--source", "held-out", "--out", tmp_path / "out")
    assert "needs the folder of a course, and how many people" in said


def test_a_course_with_people_held_out_can_be_trained_and_judged(
    wide: CourseData, tmp_path: Path, run_cli
) -> None:
    held = tmp_path / "held"
    keys = ["--source", "held-out", "--people", 8, "--out", held]
    assert run_cli("data", wide.root, *keys).status == 0
    run = tmp_path / "run"
    keys = ["--set", "epochs=1", "--set", "image_size=16", "--device", "cpu"]
    assert run_cli("train", "smoke", "--data", held, "--out", run, *keys).status == 0
    assert "verification" in run_cli("evaluate", run).stdout


# --- Labelled Faces in the Wild, from an archive of made faces


@pytest.fixture
def lfw_home(album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What scikit-learn's loader would download: three lists, and an archive of photographs."""
    monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path / "cache"))
    home = tmp_path / "cache" / "lfw" / "lfw_home"
    home.mkdir(parents=True)
    for name in ("pairs.txt", "pairsDevTrain.txt", "pairsDevTest.txt"):
        (home / name).touch()
    count = 0
    with tarfile.open(home / "lfw-funneled.tgz", "w:gz") as archive:
        for person, folder in enumerate(sorted(album.iterdir())):
            for shot, path in enumerate(sorted(folder.iterdir())):
                content = BytesIO()
                framed = Image.new("RGB", (250, 250), (0, 255, 0))
                with Image.open(path) as photo:
                    framed.paste(photo.convert("RGB").resize((150, 150)), (50, 50))
                framed.save(content, "JPEG", quality=95)
                info = tarfile.TarInfo(f"lfw_funneled/P{person}/P{person}_{shot:04d}.jpg")
                info.size = len(content.getvalue())
                archive.addfile(info, BytesIO(content.getvalue()))
                count += 1
    monkeypatch.setattr(lfw, "IMAGES", count)
    return home


def test_lfw_becomes_a_course_without_the_edges(lfw_home: Path, run_cli, tmp_path: Path) -> None:
    out = tmp_path / "faces"
    arguments = "data", "--source", "lfw", "--profile", "smoke", "--out", out
    outcome = run_cli(*arguments)
    assert outcome.status == 0, outcome.stderr
    data = CourseData(out)
    assert len(data.classes) == 3
    assert not set(data.classes) & set(data.known.labels)
    assert manifest_of(out)["source"] == "lfw"
    for path in out.rglob("*.jpg"):
        with Image.open(path) as image:
            pixels = np.asarray(image).astype(int)
        border = np.concatenate([pixels[1], pixels[-2], pixels[:, 1], pixels[:, -2]])
        green = (border[:, 1] > 200) & (border[:, 0] < 60) & (border[:, 2] < 60)
        assert green.mean() < 0.5, "the frame of 50 pixels is cut off"
    assert run_cli(*arguments).status == 0


def test_nothing_is_fetched_for_a_term_that_is_not_made_of_photographs(
    monkeypatch, refused, tmp_path: Path
) -> None:
    monkeypatch.setattr(lfw, "fetch", mock.Mock(side_effect=AssertionError))
    said = refused("data", "--source", "lfw", "--term", "S26", "--out", tmp_path / "out")
    assert "only rendered courses" in said


def test_lfw_that_was_unpacked_in_part_is_not_believed(
    lfw_home: Path, refused, tmp_path: Path
) -> None:
    part = lfw_home / "lfw_funneled" / "P0"
    part.mkdir(parents=True)
    Image.new("RGB", (250, 250)).save(part / "P0_0000.jpg")
    said = refused("data", "--source", "lfw", "--out", tmp_path / "out")
    assert "1 photographs of" in said
    assert "delete" in said
    assert not (tmp_path / "out").exists()


def test_without_a_network_lfw_says_what_to_do(
    tmp_path: Path, refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path / "cache"))

    def fail(**_: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("sklearn.datasets.fetch_lfw_people", fail)
    said = refused("data", "--source", "lfw", "--out", tmp_path / "out")
    assert "cannot fetch Labelled Faces in the Wild" in said
    assert "no route to host" in said
    assert "lfw-funneled.tgz" in said
