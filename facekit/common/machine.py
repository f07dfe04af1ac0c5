"""What this machine is and what follows from it: each answer is a value and a reason."""

import functools
import importlib.util
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from facekit.common.errors import DataError, RecipeError

CPU_INFO = Path("/proc/cpuinfo")
MEMORY_INFO = Path("/proc/meminfo")
LOAD = Path("/proc/loadavg")
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
FOLDERS = "FACEKIT_HOME", "FACEKIT_RUNS", "FACEKIT_CACHE", "FACEKIT_MIRROR"
# A training step on a GPU: FLOP a second, seconds to compile, and the share of the time that is
# expected to be saved.
GPU_STEP, TO_COMPILE, SAVED = 20e12, 60, 0.25


class Choice(NamedTuple):
    """A setting the kit chose by itself, and why."""

    value: Any
    reason: str


def free_memory() -> float:
    """Bytes that this process may still take, as the system sees it; infinite where it is silent.

    Of a container's own limit (cgroup) and what is free on the machine, the smaller.
    """
    found = [math.inf]
    with suppress(OSError, ValueError):  # not Linux; "max" for no limit
        found.append(int(CONTAINER_LIMIT.read_text()))
    with suppress(OSError):
        for line in MEMORY_INFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(1024 * int(line.split()[1]))
    return min(found)


def other_programs() -> Choice:
    """How many others compute here, and, where they are as many as the cores, what that means.

    What is seen running five times within 50 ms; 0 where the system does not say.
    The system's cores: a container with fewer of its own sees all programs.
    """
    seen = [1]
    with suppress(OSError):  # not Linux
        seen = [_running() for _ in range(5)]
    others, cores = min(seen) - 1, os.cpu_count() or 1
    if others < cores:
        return Choice(others, "")
    longer = (others + cores) / cores
    told = f"they compute, too, on {cores} cores: training takes {longer:.1f} times as long or more"
    if cores > 1:  # threads of one step wait for each other, and each of them for the others' turn
        return Choice(others, f"{told}; end them, or start with OMP_NUM_THREADS={cores // 2}")
    return Choice(others, f"{told}; end them, or wait for them")


def _running() -> int:
    """Threads that compute or could, this one among them."""
    time.sleep(0.01)
    return int(LOAD.read_text().split()[3].partition("/")[0])


def device(wanted: str | None = None) -> Choice:
    """The device to compute on: `wanted`, else the first of CUDA, Apple's MPS, the processor."""
    if wanted:
        try:
            torch.empty(0, device=wanted)
        except (RuntimeError, AssertionError) as error:  # no such device, no driver, no CUDA build
            reason = str(error).splitlines()[0]
            raise RecipeError(f"device {wanted!r} cannot be used here: {reason}") from error
        return Choice(torch.device(wanted), "asked for")
    if torch.cuda.is_available():
        return Choice(torch.device("cuda"), torch.cuda.get_device_name(0))
    if torch.backends.mps.is_available():
        return Choice(torch.device("mps"), "Apple GPU")
    return Choice(torch.device("cpu"), f"no GPU here; {torch.get_num_threads()} threads")


def precision(where: torch.device, wanted: str = "auto") -> Choice:
    """The number format of a network's products: a torch.dtype.

    By what the hardware says it has, never by a timing: a resumed run has to choose the same.
    """
    if wanted != "auto":
        return Choice(getattr(torch, wanted), "asked for")
    if where.type == "cuda":
        return _gpu_precision(torch.cuda.get_device_capability(where))
    if where.type == "cpu" and _multiplies_bfloat16(CPU_INFO):
        return Choice(torch.bfloat16, "this processor has instructions for bfloat16")
    return Choice(torch.float32, f"plain arithmetic on {where.type}")


def _gpu_precision(capability: tuple[int, int]) -> Choice:
    if capability >= (8, 0):
        return Choice(torch.bfloat16, "this GPU multiplies bfloat16 natively")
    if capability >= (7, 0):
        reason = "the tensor cores of this GPU multiply float16; gradients are scaled"
        return Choice(torch.float16, reason)
    return Choice(torch.float32, "this GPU has no tensor cores")


@functools.cache
def _multiplies_bfloat16(cpu_info: Path) -> bool:
    # Not torch's own answer, which is yes for every AVX-512 processor: without these
    # instructions bfloat16 is computed by way of float32, and slower than that.
    try:
        flags = cpu_info.read_text().split()
    except OSError:  # not Linux
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def compiling(
    where: torch.device, multiply_adds: float, images: float, wanted: str = "auto"
) -> Choice:
    """Whether to compile a training step: on a GPU, when it saves three times what it costs.

    `multiply_adds` of one image's way through the network, `images` trained on in all. The speed
    without and the share that is saved are rough, and are not measured here: a resumed run has to
    choose the same. On a processor compiled steps were 11 % slower to 11 % faster, after up to
    two minutes of compiling.
    """
    if wanted != "auto":
        return Choice(wanted == "yes", "asked for")
    if where.type != "cuda":
        return Choice(False, f"pays on a GPU of NVIDIA or AMD only, not on {where.type}")
    gain = SAVED * 6 * multiply_adds * images / GPU_STEP  # forward 2 FLOP, backward twice that
    told = f"about {gain:,.0f} s to gain, {TO_COMPILE} s to compile"
    if gain < 3 * TO_COMPILE:
        return Choice(False, told)
    has_triton = importlib.util.find_spec("triton") is not None
    return Choice(has_triton, told if has_triton else f"{told}, but no triton here")


def depthwise(where: torch.device, attempt: Callable | None = None) -> Choice:
    """Whether cuDNN can train depthwise convolutions there: on some old GPUs it finds no way.

    `attempt(where)`, by default one of them forward and backward, raises RuntimeError if not.
    """
    if where.type != "cuda":
        return Choice(True, f"no cuDNN on {where.type}")
    try:
        (attempt or _train_depthwise)(where)
    except RuntimeError as error:
        return Choice(False, str(error).splitlines()[0])
    return Choice(True, "tried one forward and backward")


def _train_depthwise(where: torch.device) -> None:
    images = torch.ones(2, 8, 8, 8, device=where).to(memory_format=torch.channels_last)
    weight = torch.ones(8, 1, 3, 3, device=where, requires_grad=True)
    dtype = precision(where).value
    with torch.autocast(where.type, dtype, enabled=dtype != torch.float32):
        output = torch.nn.functional.conv2d(images.requires_grad_(), weight, groups=8)
    output.float().sum().backward()
    torch.cuda.synchronize(where)


def workspace() -> Choice:
    """The folder that holds data/ and runs/: FACEKIT_HOME, else the checkout one works in."""
    return _named("FACEKIT_HOME") or _checkout()


def _checkout() -> Choice:
    here = Path.cwd()
    notebooks = here.parent if here.name == "solutions" else here
    if notebooks.name == "notebooks":
        return Choice(notebooks.parent, "the folder above notebooks/")
    return Choice(here, "the current folder")


def _named(variable: str) -> Choice | None:
    """The absolute folder that a variable names, None where it names none.

    A relative one counts from the checkout, so that a command there and a kernel in notebooks/ mean
    the same folder.
    """
    wanted = os.environ.get(variable)
    if not wanted:
        return None
    try:
        folder = Path(wanted).expanduser()  # a ~ that no shell has replaced
    except RuntimeError as error:  # nobody of that name, or nobody at all
        raise DataError(f"{variable}={wanted}: no such home folder; write it out") from error
    return Choice(_checkout().value / folder, variable)


def fix_folders() -> None:
    """Make the variables that name folders absolute, for the processes that this one starts."""
    for variable in FOLDERS:
        found = _named(variable)
        if found:
            os.environ[variable] = str(found.value)


def cache() -> Choice:
    """The folder of decoded images: FACEKIT_CACHE, else cache/ in the workspace."""
    return _folder("cache", "FACEKIT_CACHE")


def data() -> Choice:
    """The folder of the course's data, where no other is named."""
    return Choice(workspace().value / "data", "in the workspace")


def runs() -> Choice:
    """The folder of the runs: FACEKIT_RUNS (a mounted Drive, say), else runs/ in the workspace."""
    return _folder("runs", "FACEKIT_RUNS")


def _folder(name: str, variable: str) -> Choice:
    return _named(variable) or Choice(workspace().value / name, "in the workspace")


def mirror() -> Choice:
    """The folder of copies of the runs: FACEKIT_MIRROR (in a mounted Drive, say), else None."""
    return _named("FACEKIT_MIRROR") or Choice(None, "FACEKIT_MIRROR is not set")


def data_copy() -> Path | None:
    """Where a copy of the course's data is kept: one file in the mirror; None without a mirror."""
    copies = mirror().value
    return copies and copies / "data.zip"


def copy_of(run: str | Path) -> Path | None:
    """Where copies of a run are kept: under its name in the mirror, for a run directly in runs/.

    None without a mirror, and for the trials in folders further down, which are made anew.
    """
    copies, run = mirror().value, Path(run).absolute()
    if copies is None or run.parent.resolve() != runs().value.resolve():
        return None
    return copies / run.name
