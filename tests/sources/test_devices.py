"""What renders a course: chosen by the machine, noted, and kept to after an interruption."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pretend_gpu import GPU, LAUNCH, Log, pretending

from facekit import faces, sources
from facekit.common import machine
from facekit.common.errors import DataError
from facekit.common.machine import Choice
from facekit.data.layout import CourseData
from facekit.faces import rendering
from facekit.sources import devices, manifest, writers
from facekit.sources.profiles import Profile

CPU = torch.device("cpu")
FEW, MANY = 5, 10_000  # images


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """A machine with a GPU."""
    monkeypatch.setattr(machine, "device", lambda wanted=None: Choice(GPU, "pretended"))
    with pretending() as log:
        yield log


def read(root: Path, name: str = manifest.MANIFEST) -> dict:
    return json.loads((root / name).read_text())


def begin(out: Path, kind: str | None) -> None:
    """Make a finished course one that was begun, on a device or by an earlier version."""
    note = read(out)
    note.pop(devices.KEY)
    if kind:
        note[devices.KEY] = kind
    (out / manifest.STARTED).write_text(json.dumps(note))
    (out / manifest.MANIFEST).unlink()


def finish_with(device: str, out: Path, profile: Profile) -> CourseData:
    return sources.set_up("synthetic", profile, out, progress=False, device=device)


# --- which device


def test_without_a_gpu_the_processor_renders(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        assert devices.choose(tmp_path, "auto", MANY, 112).value == "cpu"


def test_a_gpu_renders_more_than_it_makes_at_once(gpu: Log, tmp_path: Path) -> None:
    assert devices.choose(tmp_path, "auto", MANY, 112) == Choice("cuda", "pretended")
    few = devices.choose(tmp_path, "auto", FEW, 112)
    assert few == Choice("cpu", "so few images are not worth the start of a GPU")


def negative(images: torch.Tensor) -> torch.Tensor:
    return 255 - images


def no_kernel(images: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("no kernel image is available\nfor this one")


@pytest.mark.parametrize(
    ("broken", "reason"), [(negative, "makes other faces"), (no_kernel, "cannot: no kernel image")]
)
def test_a_gpu_that_renders_wrongly_is_left_alone(
    broken: Callable, reason: str, gpu: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = faces.render

    def render(*arguments: object, device: str = "cpu") -> torch.Tensor:
        images = plain(*arguments)
        return broken(images) if device == "cuda" else images

    monkeypatch.setattr(faces, "render", render)
    value, told = devices.choose(tmp_path, "auto", MANY, 112)
    assert value == "cpu"
    assert reason in told
    assert "\n" not in told


def test_what_is_made_at_once_fits_half_of_a_gpu_s_memory() -> None:
    size = 224
    for memory in (1 << 30, 4 << 30, 15 << 30, 80 << 30):
        with pretending(memory):
            many = devices.images_at_once(size, "cuda")
        assert 1 <= many * size**2 * 735 <= memory / 2
    with pretending(1 << 20):
        assert devices.images_at_once(1024, "cuda") == 1


# --- what the manifest says


def test_the_manifest_names_the_device(course: CourseData) -> None:
    assert read(course.root)[devices.KEY] == "cpu"


def test_a_gpu_renders_the_same_course_but_for_a_little(
    gpu: Log, course: CourseData, tiny_profile: Profile, tmp_path: Path
) -> None:
    there = finish_with("cuda", tmp_path, tiny_profile)
    assert gpu.count(LAUNCH) > 1000
    made, expected = read(tmp_path), read(course.root)
    assert made.pop(devices.KEY) == "cuda"
    assert expected.pop(devices.KEY) == "cpu"
    made.pop("sha256"), expected.pop("sha256")
    assert made == expected
    assert there.train.labels == course.train.labels
    for one, other in zip(there.train.paths, course.train.paths, strict=True):
        with Image.open(one) as image, Image.open(other) as wanted:
            off = np.abs(np.asarray(image, dtype=int) - np.asarray(wanted, dtype=int))
        assert off.mean() < 0.5


def test_it_goes_on_on_the_gpu_and_makes_nothing_twice(
    gpu: Log, tiny_profile: Profile, tmp_path: Path
) -> None:
    finish_with("cuda", tmp_path, tiny_profile)
    content = read(tmp_path)["sha256"]
    begin(tmp_path, "cuda")
    images = sorted(tmp_path.rglob("*.jpg"))
    images[3].unlink()
    before = {path: path.stat().st_mtime_ns for path in images if path.exists()}
    finish_with("auto", tmp_path, tiny_profile)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert read(tmp_path)["sha256"] == content
    assert read(tmp_path)[devices.KEY] == "cuda"


def test_a_gpu_without_memory_is_told_and_the_processor_may_go_on(
    gpu: Log, tiny_profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def render(person: torch.Tensor, *arguments: object) -> tuple[torch.Tensor, torch.Tensor]:
        if next(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return rendering.render_files(person, *arguments)

    calls = iter(range(9))
    monkeypatch.setattr(writers, "render_files", render)
    monkeypatch.setattr(writers, "images_at_once", lambda *_: 10)
    with pytest.raises(DataError, match=r"too little memory left; .* --device cpu"):
        finish_with("cuda", tmp_path, tiny_profile)
    assert len(list(tmp_path.rglob("*.jpg"))) <= 20
    finish_with("cpu", tmp_path, tiny_profile)
    assert read(tmp_path)[devices.KEY] == "cuda, cpu"


@pytest.mark.parametrize("kind", ["cpu", None])
def test_what_the_processor_began_it_finishes_where_there_is_a_gpu(
    kind: str | None, gpu: Log, course: CourseData, copy_of_course: Path, tiny_profile: Profile
) -> None:
    begin(copy_of_course, kind)
    next(copy_of_course.rglob("*.jpg")).unlink()
    with pytest.raises(DataError, match=r"begun on the processor.*--device cpu, or delete"):
        finish_with("cuda", copy_of_course, tiny_profile)
    finish_with("auto", copy_of_course, tiny_profile)
    assert gpu.count(LAUNCH) == 0
    assert read(copy_of_course) == read(course.root)


def test_a_finished_course_is_not_made_anew_on_another_device(
    gpu: Log, copy_of_course: Path, tiny_profile: Profile, unchanged: Callable
) -> None:
    with unchanged(copy_of_course):
        finish_with("auto", copy_of_course, tiny_profile)
        finish_with("cpu", copy_of_course, tiny_profile)
        with pytest.raises(DataError, match="rendered_on = cpu, and cuda is asked for"):
            finish_with("cuda", copy_of_course, tiny_profile)


@pytest.mark.parametrize("kind", ["mps", "", ["cuda"], 3, None, "cpu, cuda"])
def test_a_damaged_note_of_the_device_is_named(
    kind: object, copy_of_course: Path, tiny_profile: Profile
) -> None:
    for name in (manifest.MANIFEST, manifest.STARTED):
        path = copy_of_course / name
        if name == manifest.STARTED:
            (copy_of_course / manifest.MANIFEST).rename(path)
        path.write_text(json.dumps(read(copy_of_course, name) | {devices.KEY: kind}))
        with pytest.raises(DataError, match="damaged; delete"):
            finish_with("auto", copy_of_course, tiny_profile)


# --- the command


def test_what_a_gpu_began_goes_on_without_one_only_where_that_is_said(
    tmp_path: Path, run_cli: Callable, refused: Callable, unchanged: Callable, monkeypatch
) -> None:
    out = tmp_path / "data"
    arguments = ["data", "--profile", "smoke", "--out", str(out)]
    command = [sys.executable, "-m", "facekit", *arguments, "--device", "cpu"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    while len(list(out.rglob("*.jpg"))) < 20 and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    note = out / manifest.STARTED
    begun = read(out, note.name)
    assert begun[devices.KEY] == "cpu"
    note.write_text(json.dumps(begun | {devices.KEY: "cuda"}))
    monkeypatch.setattr(machine, "device", lambda wanted=None: Choice(CPU, "no GPU here"))
    with unchanged(*out.glob("11-785*")):
        assert re.search("begun on a GPU.*--device cpu goes on", refused(*arguments))
    for _ in range(2):  # then nothing is left to do
        assert run_cli(*arguments, "--device", "cpu").status == 0
        assert read(out)[devices.KEY] == "cuda, cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("device", "named"), [("cuda", "cannot be used here"), ("mps", "one of: auto, cpu, cuda")]
)
def test_a_device_that_cannot_render_is_refused_and_nothing_is_begun(
    device: str, named: str, tmp_path: Path, refused: Callable
) -> None:
    out = tmp_path / "data"
    assert named in refused("data", "--profile", "smoke", "--device", device, "--out", out)
    assert not out.exists()
