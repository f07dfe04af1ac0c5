"""Every choice the kit makes by itself is a value and a reason; the environment decides first."""

import math
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch

import facekit
from facekit.common import machine
from facekit.common.errors import DataError
from facekit.common.machine import Choice
from facekit.course import doctor

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch) -> None:
    for name in ("FACEKIT_PROFILE", "FACEKIT_HOME", "FACEKIT_RUNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def gpu(monkeypatch) -> None:
    """A machine that says it has an NVIDIA GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *a: "Big GPU")


@pytest.fixture
def no_gpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_an_empty_variable_is_as_good_as_none(monkeypatch, tmp_path):
    monkeypatch.setenv("FACEKIT_HOME", "")
    monkeypatch.chdir(tmp_path)
    assert machine.workspace().value == tmp_path


def test_the_environment_decides_the_workspace_and_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("FACEKIT_HOME", str(tmp_path / "home"))
    assert machine.workspace() == Choice(tmp_path / "home", "FACEKIT_HOME")
    assert machine.runs().value == tmp_path / "home" / "runs"


def test_the_environment_decides_the_folder_of_the_runs_and_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("FACEKIT_RUNS", str(tmp_path / "drive"))
    assert machine.runs() == Choice(tmp_path / "drive", "FACEKIT_RUNS")


@pytest.mark.parametrize("place", [".", "notebooks", "notebooks/solutions"])
def test_a_relative_home_is_the_same_folder_in_a_notebook(monkeypatch, tmp_path, place):
    (tmp_path / "notebooks" / "solutions").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / place)
    monkeypatch.setenv("FACEKIT_HOME", "smoke")
    assert machine.workspace().value == tmp_path / "smoke"


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("FACEKIT_HOME", "~/faces")
    assert machine.data().value == tmp_path / "faces" / "data"
    monkeypatch.setenv("FACEKIT_HOME", "~nobody-of-this-name/faces")
    with pytest.raises(DataError, match="no such home folder"):
        machine.workspace()


def test_the_workspace_is_the_current_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert machine.workspace() == Choice(tmp_path, "the current folder")


def test_the_workspace_of_a_notebook_is_the_folder_above(monkeypatch, tmp_path):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert machine.workspace() == Choice(tmp_path, "the folder above notebooks/")


def test_the_device_is_the_one_asked_for(gpu):
    assert machine.device("cpu") == Choice(CPU, "asked for")


def test_the_device_is_a_gpu_where_there_is_one(gpu):
    assert machine.device() == Choice(CUDA, "Big GPU")


def test_the_device_is_apples_gpu_where_there_is_one(no_gpu, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert machine.device().value == torch.device("mps")
    assert "Apple" in machine.device().reason


def test_the_device_is_the_processor_where_there_is_no_gpu(no_gpu):
    value, reason = machine.device()
    assert value == CPU
    assert "no GPU" in reason


@pytest.mark.parametrize(
    ("capability", "dtype", "word"),
    [
        ((6, 1), torch.float32, "no tensor cores"),
        ((7, 0), torch.float16, "gradients are scaled"),
        ((7, 5), torch.float16, "gradients are scaled"),
        ((8, 0), torch.bfloat16, "natively"),
        ((9, 0), torch.bfloat16, "natively"),
        ((10, 0), torch.bfloat16, "natively"),
    ],
)
def test_a_gpu_multiplies_what_its_generation_is_best_at(monkeypatch, capability, dtype, word):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *a: capability)
    assert machine.precision(CUDA).value == dtype
    assert word in machine.precision(CUDA).reason


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("avx2 avx512f avx512_bf16 vnni", torch.bfloat16),
        ("avx2 amx_bf16", torch.bfloat16),
        ("avx2 avx512f avx512_vnni", torch.float32),  # oneDNN would take it, and be slow
        ("avx2", torch.float32),
    ],
)
def test_a_processor_multiplies_bfloat16_where_it_has_the_instructions(
    monkeypatch, tmp_path, flags, dtype
):
    (tmp_path / "cpuinfo").write_text(f"model name\t: X\nflags\t\t: fpu {flags} sse\n")
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "cpuinfo")
    assert machine.precision(CPU).value == dtype


@pytest.mark.parametrize("where", ["cpu", "mps"])
def test_elsewhere_arithmetic_is_plain(monkeypatch, tmp_path, where):
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "missing")  # as on macOS and Windows
    value, reason = machine.precision(torch.device(where))
    assert value == torch.float32
    assert where in reason


@pytest.mark.parametrize("wanted", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("where", ["cpu", "mps", "cuda"])
def test_a_number_format_asked_for_is_taken(where, wanted):
    found = machine.precision(torch.device(where), wanted)
    assert found == Choice(getattr(torch, wanted), "asked for")


# 6 FLOP x 50 million x images / 20 TFLOP/s = 15 microseconds an image, a quarter of which is saved;
# 3 x 60 s are repaid by 48 million images.
def test_compiling_has_to_repay_its_cost_three_times(monkeypatch):
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: name == "triton")
    before = machine.compiling(CUDA, 50e6, 48e6 * 0.99)
    after = machine.compiling(CUDA, 50e6, 48e6 * 1.01)
    assert (before.value, after.value) == (False, True)
    for _, reason in (before, after):
        assert "s to gain, 60 s to compile" in reason


def test_nothing_is_compiled_without_triton_nor_on_other_devices(monkeypatch):
    for where in ("cpu", "mps"):
        assert not machine.compiling(torch.device(where), 1e12, 1e12).value
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    value, reason = machine.compiling(CUDA, 1e12, 1e12)
    assert not value
    assert "no triton" in reason


@pytest.mark.parametrize(("wanted", "value"), [("yes", True), ("no", False)])
def test_compiling_is_as_asked_for(wanted, value):
    assert machine.compiling(CPU, 1.0, 1.0, wanted) == Choice(value, "asked for")


def test_a_gpu_that_cannot_train_depthwise_convolutions_is_found_out():
    def fail(where: torch.device) -> None:
        raise RuntimeError("GET was unable to find an engine\nto execute this computation")

    assert machine.depthwise(CUDA, fail) == Choice(False, "GET was unable to find an engine")
    tried = []
    assert machine.depthwise(CUDA, tried.append).value
    assert tried == [CUDA]


def test_depthwise_convolutions_are_not_tried_without_cudnn():
    assert machine.depthwise(CPU, lambda where: 1 / 0).value


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_depthwise_convolutions_on_this_gpu():
    assert machine.depthwise(CUDA) == Choice(True, "tried one forward and backward")


def test_the_trial_trains_a_depthwise_convolution(monkeypatch):
    """The same lines, on the processor."""
    monkeypatch.setattr(torch.cuda, "synchronize", lambda where: None)
    real = torch.nn.functional.conv2d
    groups = []

    def conv2d(*arguments, **options):
        groups.append(options["groups"])
        return real(*arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "conv2d", conv2d)
    machine._train_depthwise(CPU)
    assert groups == [8]


def test_the_doctor_gives_a_value_and_a_reason_for_everything(course):
    findings = doctor.examine(course.root)
    for name in ("facekit", "python", "torch", "device", "precision", "profile", "data", "cache"):
        assert name in findings
    for value, reason in findings.values():
        assert str(value)
        assert reason
    assert str(torch.__version__).startswith(findings["torch"].value)
    assert findings["device"] == machine.device()
    assert findings["data"].value == "6 classes"
    for count in ("train 36", "dev 12", "test 12", "known 9", "unknown_dev 9", "unknown_test 18"):
        assert count in findings["data"].reason


def test_the_doctor_says_where_images_would_be_kept(monkeypatch, no_gpu):
    monkeypatch.setattr(machine, "free_memory", lambda: 12e9)
    findings = doctor.examine()
    value, reason = findings["images-laptop"]
    assert value == "memmap"
    assert reason.startswith("2,400 to train on, 55 px: 22 MB on disk")
    value, reason = findings["images-homework"]
    assert value == "files"
    assert reason.startswith("140,020 to train on, 224 px: 21.1 GB of images, 12.0 GB of memory")
    assert "; 35,005 dev, 224 px: memmap, 5269 MB on disk" in reason


def test_the_doctor_says_that_a_gpu_holds_the_images(monkeypatch, gpu):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *a: (9, 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *a: (79e9, 80e9))
    findings = doctor.examine()
    assert findings["images-gpu"].value == "gpu"
    assert findings["images-homework"].value == "gpu"
    assert (
        "21.1 GB of images, at most half of the 79.0 GB free" in findings["images-homework"].reason
    )


def test_the_doctor_names_the_variable_that_decided(monkeypatch, tmp_path):
    monkeypatch.setenv("FACEKIT_PROFILE", "smoke")
    monkeypatch.setenv("FACEKIT_HOME", str(tmp_path))
    findings = doctor.examine()
    assert findings["profile"] == ("smoke", "FACEKIT_PROFILE")
    assert findings["workspace"] == (Path(tmp_path), "FACEKIT_HOME")
    assert findings["data"].value == "not usable"
    assert str(tmp_path / "data") in findings["data"].reason


def test_the_doctor_notices_half_a_data_folder(copy_of_course):
    for image in (copy_of_course / "11-785-f23-hw2p2-verification" / "unknown_test").iterdir():
        image.unlink()
    value, reason = doctor.examine(copy_of_course)["data"]
    assert value == "not usable"
    assert "unknown_test" in reason


def test_a_missing_package_is_no_error_for_the_doctor(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("no-such-package",))
    assert doctor.examine()["no-such-package"] == ("none", "not installed")


@pytest.mark.parametrize(
    ("installed", "old"), [("2.10.1+cu126", True), ("2.9", True), ("2.11.0", False), ("3.0", False)]
)
def test_the_doctor_names_a_package_that_is_too_old(monkeypatch, installed, old):
    asked = {facekit.DISTRIBUTION: ["torch>=2.11", "pillow>=11.3"]}
    monkeypatch.setattr(doctor, "requires", lambda name: asked[name])
    monkeypatch.setattr(doctor, "version", lambda name: installed)
    value, reason = doctor.examine()["torch"]
    assert value == installed
    assert (reason == "installed") != old
    assert ("asks for 2.11 or later; pip install -U torch" in reason) == old
    # A build without CUDA stays one.
    monkeypatch.setattr(doctor, "version", lambda name: f"{installed}+cpu")
    _, reason = doctor.examine()["torch"]
    assert ("; uv pip install -U --torch-backend cpu torch" in reason) == old


def test_without_an_installed_facekit_no_package_is_too_old(monkeypatch):
    def nowhere(name):
        raise PackageNotFoundError

    monkeypatch.setattr(doctor, "requires", nowhere)
    assert doctor.examine()["torch"].reason == "installed"


def test_the_command_prints_every_finding_with_its_reason(run_cli, course):
    status, said, _ = run_cli("doctor", "--data", course.root)
    assert status == 0
    lines = said.splitlines()
    for name in doctor.examine(course.root):
        (line,) = [line for line in lines if line.split()[0] == name]
        assert line.endswith(")")
        assert " (" in line


def test_free_memory_is_the_machines_or_less_where_a_container_has_a_limit(tmp_path, monkeypatch):
    info, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    monkeypatch.setattr(machine, "MEMORY_INFO", info)
    monkeypatch.setattr(machine, "CONTAINER_LIMIT", limit)
    assert machine.free_memory() == math.inf  # no Linux
    info.write_text("MemTotal: 8 kB\nMemAvailable:    4 kB\n")
    assert machine.free_memory() == 4096
    limit.write_text("max\n")
    assert machine.free_memory() == 4096
    limit.write_text("1000\n")
    assert machine.free_memory() == 1000


def test_other_programs_are_told_where_they_are_as_many_as_the_cores(tmp_path, monkeypatch):
    load = tmp_path / "loadavg"
    monkeypatch.setattr(machine, "LOAD", load)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 4)
    assert machine.other_programs() == (0, "")  # no Linux
    for running, told in ((1, ""), (4, ""), (5, "2.0 times"), (13, "4.0 times")):
        load.write_text(f"9.99 9.99 9.99 {running}/300 4711\n")
        others, reason = machine.other_programs()
        assert others == running - 1
        assert told in reason
        assert bool(told) == bool(reason)


def test_what_only_ran_for_a_moment_is_no_busy_machine(monkeypatch):
    seen = iter([9, 9, 2, 9, 9])
    monkeypatch.setattr(machine, "_running", lambda: next(seen))
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 4)
    assert machine.other_programs() == (1, "")
