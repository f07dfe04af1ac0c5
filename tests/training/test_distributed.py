"""Two processes are one: the same losses, each image judged once, stopped and resumed together."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import facekit
from facekit import training
from facekit.common.errors import RunError
from facekit.evaluation import inference
from facekit.models.weights import digest
from facekit.training import recipe as recipes
from facekit.training.checkpoint import Checkpoints
from facekit.training.distributed import ALONE, World, slices
from facekit.training.run import Run

SETTINGS = [
    "epochs=10", "batch_size=8", "image_size=32", "precision=float32", "watch=false",
]  # fmt: skip


def free_port() -> int:
    with socket.socket() as open_socket:
        open_socket.bind(("127.0.0.1", 0))
        return open_socket.getsockname()[1]


def words(course, out: Path, *changes: str) -> list[str]:
    """What follows `facekit` in a command that trains."""
    sets = [word for change in (*SETTINGS, *changes) for word in ("--set", change)]
    return ["train", "smoke", f"--data={course.root}", f"--out={out}", *sets, "--device=cpu"]


def start(course, out: Path, *options: str, launcher: Sequence[str] = ()) -> subprocess.Popen:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    torchrun += [f"--master-port={free_port()}", *launcher]
    return subprocess.Popen(
        [*torchrun, "-m", "facekit", *words(course, out), *options],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_and_see_a_state(course, out: Path) -> subprocess.Popen:
    process = start(course, out, "--save-minutes=0")
    see_a_state(process, out)
    return process


def see_a_state(process: subprocess.Popen, out: Path) -> None:
    deadline = time.monotonic() + 240
    while not Checkpoints(out).paths():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def last(out: Path) -> dict:
    return Checkpoints(out).load_latest()


@pytest.fixture(scope="module")
def pair(course, tmp_path_factory) -> Path:
    """A run of two processes that nobody disturbed: fifty steps."""
    out = tmp_path_factory.mktemp("pair") / "run"
    process = start(course, out)
    said, complaints = process.communicate(timeout=300)
    assert process.returncode == 0, complaints
    assert said.count("best dev accuracy") == 1  # of two processes one speaks
    return out


def test_two_processes_follow_the_curve_of_one_with_the_same_batches(course, pair, tmp_path):
    """Fifty steps: one process sends its batches through in two parts, as the two divide them."""
    recipe = recipes.load("smoke", [*SETTINGS, "micro_batches=2"])
    rows = training.fit(recipe, course, tmp_path / "one", device="cpu", progress=False).rows
    assert len(rows) * 5 == 50
    for mine, theirs in zip(rows, last(pair)["progress"]["rows"], strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-5)
        assert mine["train_accuracy"] == theirs["train_accuracy"]


def test_all_processes_judge_with_the_network_that_is_saved(course, pair, tmp_path):
    """Each judges some of the dev images: batch norm's averages must be the same in all."""
    state = last(pair)
    run = Run(recipes.load("smoke", SETTINGS), course, tmp_path, torch.device("cpu"))
    run.prepare()
    run.net.load_state_dict(state["net"])
    loss, accuracy = inference.evaluate(run.eval_forward(), run.dev_batches())
    row = state["progress"]["rows"][-1]
    assert row["dev_loss"] == pytest.approx(loss, rel=1e-5)
    assert row["dev_accuracy"] == accuracy


@pytest.mark.long
def test_the_lines_for_slurm_save_and_ask_for_the_job_again(course, tmp_path):
    page = (Path(facekit.__file__).parents[1] / "docs" / "training.md").read_text()
    (lines,) = (block for block in re.findall(r"```sh\n(.*?)```", page, re.S) if "SBATCH" in block)
    mine = shlex.join([*words(course, tmp_path / "run"), "--save-minutes=0"])
    script = lines.replace("torchrun", f"torchrun --master-port={free_port()}")
    script = script.replace("train high", mine)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "scontrol").write_text(f"#!/bin/sh\necho $@ > {tmp_path}/asked\n")
    (programs / "scontrol").chmod(0o755)
    path = [programs, Path(sys.executable).parent, os.environ["PATH"]]
    there = {"PATH": ":".join(map(str, path)), "SLURM_JOB_ID": "17", "CUDA_VISIBLE_DEVICES": ""}
    job = subprocess.Popen(["bash", "-c", script], env=os.environ | there)
    see_a_state(job, tmp_path / "run")
    job.send_signal(signal.SIGUSR1)
    job.wait(timeout=240)
    assert (tmp_path / "asked").read_text() == "requeue 17\n"
    saved = last(tmp_path / "run")["progress"]
    assert saved["step"] > 0 or saved["epoch"] > 0
    assert not saved["done"]


@pytest.mark.long
def test_the_line_for_kaggle_goes_on_in_the_next_session(course, pair, tmp_path):
    page = (Path(facekit.__file__).parents[1] / "docs" / "training.md").read_text()
    (line,) = re.findall(r"`!(torchrun [^`]* train gpu --max-hours 11\.5)`", page)
    line = line.replace("torchrun", f"torchrun --master-port={free_port()}")
    mine = line.replace("train gpu", shlex.join(words(course, tmp_path / "run")))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    there = os.environ | {"PATH": path, "CUDA_VISIBLE_DEVICES": ""}

    def session(line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line],
            env=there,
            timeout=240,
            text=True,
            capture_output=True,
            check=False,
        )
        return done.stdout + done.stderr

    assert "hours are up" in session(mine.replace("11.5", "0.0001"))
    assert not last(tmp_path / "run")["progress"]["done"]
    session(mine)
    assert digest(last(tmp_path / "run")["net"]) == digest(last(pair)["net"])


@pytest.mark.long
def test_two_processes_stopped_save_once_and_go_on_to_the_same_end(course, pair, tmp_path):
    out = tmp_path / "run"
    process = start_and_see_a_state(course, out)
    process.send_signal(signal.SIGTERM)  # torchrun passes it on to both
    _, complaints = process.communicate(timeout=240)
    assert process.returncode != 0
    assert "saved in" in complaints
    assert not last(out)["progress"]["done"]
    again = start(course, out)
    _, complaints = again.communicate(timeout=300)
    assert again.returncode == 0, complaints
    for key in ("net", "optimizer"):
        assert digest(last(out)[key]) == digest(last(pair)[key])


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_one_process_killed_ends_all_and_the_same_call_goes_on(course, pair, tmp_path):
    out = tmp_path / "run"
    process = start_and_see_a_state(course, out)
    os.kill(children(process.pid)[1], signal.SIGKILL)
    process.communicate(timeout=300)
    assert process.returncode != 0  # nobody waits for ever
    again = start(course, out)
    _, complaints = again.communicate(timeout=300)
    assert again.returncode == 0, complaints
    assert digest(last(out)["net"]) == digest(last(pair)["net"])


NARROW = """
import os
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.GroupNorm(2, 8), nn.ReLU())
        self.last = nn.Linear(8, classes)
        self.unused = nn.Linear(8, 8)

    def forward(self, x):
        if os.environ.get("RANK") == "1" and self.training and len(x) > 9:
            raise torch.OutOfMemoryError("out of memory")
        return self.last(self.layers(x).mean((2, 3)))
"""


def test_two_processes_are_one_though_one_has_less_memory_and_some_weights_are_not_used(
    course, tmp_path
):
    """Without batch norm, an image's gradient is its own, however batches are divided."""
    source = tmp_path / "mine.py"
    source.write_text(NARROW)
    changes = ["batch_size=31", "optimizer=sgd", "lr=0.1"]
    assert len(course.train) % 31 == 5  # three for one, two for the other
    sets = [word for change in changes for word in ("--set", change)]
    both = start(course, tmp_path / "both", *sets, "--network", f"{source}:Net")
    said, complaints = both.communicate(timeout=300)
    assert both.returncode == 0, complaints
    assert "in 2 micro-batches" in said + complaints
    recipe = recipes.load("smoke", [*SETTINGS, *changes])
    network = f"{source}:Net"
    training.fit(recipe, course, tmp_path / "one", device="cpu", progress=False, network=network)
    two, one = last(tmp_path / "both"), last(tmp_path / "one")
    for key, weights in one["net"].items():
        torch.testing.assert_close(two["net"][key], weights, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_torchrun_starts_again_what_was_killed_and_it_ends_as_if_nothing_had_been(
    course, pair, tmp_path
):
    out = tmp_path / "run"
    process = start(course, out, "--save-minutes=0", launcher=["--max-restarts=1"])
    see_a_state(process, out)
    os.kill(children(process.pid)[1], signal.SIGKILL)
    _, complaints = process.communicate(timeout=300)
    assert process.returncode == 0, complaints
    assert digest(last(out)["net"]) == digest(last(pair)["net"])


TWO_RUNS = """
import sys
from facekit import training
from facekit.training import recipe as recipes

settings = ["epochs=1", "batch_size=8", "image_size=32", "precision=float32"]
for out in sys.argv[2:]:
    training.fit(recipes.load("smoke", settings), sys.argv[1], out, "cpu", progress=False)
"""


@pytest.mark.long
def test_a_script_of_the_readers_own_may_train_more_than_one_run(course, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(TWO_RUNS)
    outs = [tmp_path / "first", tmp_path / "second"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    torchrun += [f"--master-port={free_port()}"]
    command = [*torchrun, script, course.root, *outs]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert digest(last(outs[0])["net"]) == digest(last(outs[1])["net"])


def start_node(rank: int, course, out: Path, port: int, *changes: str) -> subprocess.Popen:
    """torchrun on one of two machines, which share nothing but a network."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=1"]
    launcher += ["--nnodes=2", f"--node-rank={rank}", f"--master-port={port}"]
    command = [*launcher, "-m", "facekit", *words(course, out, *changes), "--save-minutes=0"]
    there = {"CUDA_VISIBLE_DEVICES": "", "FACEKIT_CACHE": str(out.parent / f"cache-{rank}")}
    return subprocess.Popen(
        command, env=os.environ | there, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.long
@pytest.mark.parametrize("folders", [["run", "run"], ["run", "other"]])
def test_two_machines_with_one_folder_or_two_are_stopped_and_go_on(course, pair, tmp_path, folders):
    outs = [tmp_path / folder for folder in folders]

    def both() -> list[subprocess.Popen]:
        port = free_port()
        return [start_node(rank, course, out, port) for rank, out in enumerate(outs)]

    nodes = both()
    see_a_state(nodes[0], outs[0])
    nodes[1].send_signal(signal.SIGTERM)
    for node in nodes:
        node.communicate(timeout=240)
    assert not last(outs[0])["progress"]["done"]
    for node in both():
        _, complaints = node.communicate(timeout=300)
        assert node.returncode == 0, complaints
    assert digest(last(outs[0])["net"]) == digest(last(pair)["net"])


def test_a_process_with_another_recipe_is_refused(course, tmp_path):
    port = free_port()
    nodes = [start_node(r, course, tmp_path / "run", port, f"seed={r}") for r in range(2)]
    for node in nodes:
        _, complaints = node.communicate(timeout=240)
        assert "process 1 has another seed than process 0" in complaints
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.name == "nt", reason="a process there does not learn of its parent's end")
def test_when_torchrun_is_killed_its_processes_save_and_end(course, tmp_path):
    out = tmp_path / "run"
    process = start(course, out, "--set", "epochs=2000")
    see_a_state(process, out)
    process.kill()
    process.communicate(timeout=120)  # until both have ended, which hold the other end
    assert not last(out)["progress"]["done"]


# ------------------------------------------------------------------ the parts of a batch


@given(st.integers(1, 300), st.integers(1, 16))
def test_parts_are_even_runs_that_hold_everything_once(count, wanted):
    found = slices(count, wanted)
    assert len(found) == max(1, min(wanted, count // 2))
    indices = [list(range(count))[part] for part in found]
    assert list(chain(*indices)) == list(range(count))
    sizes = [len(each) for each in indices]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 2 or count == 1  # batch norm cannot train on one


@given(st.integers(0, 100), st.integers(1, 8))
def test_every_item_is_in_exactly_one_share(count, size):
    shares = [list(World(rank, size).share(range(count))) for rank in range(size)]
    assert sorted(chain(*shares)) == list(range(count))


@given(st.integers(1, 40), st.integers(1, 8))
def test_a_batch_too_small_for_all_processes_is_refused(count, size):
    batch = list(range(count))
    worlds = [World(rank, size) for rank in range(size)]
    if count >= 2 * size:
        assert list(chain(*(world.part_of(batch) for world in worlds))) == batch
        return
    for world in worlds:
        with pytest.raises(RunError, match=f"{count} images is too small for {size} processes"):
            world.part_of(batch)


def test_alone_there_is_nothing_to_agree_on():
    assert ALONE.all_reduce_max(True, 0) == [True, 0]
    assert ALONE.is_main
    values = torch.tensor([1.0, 2.0])
    assert torch.equal(ALONE.all_reduce(values.clone()), values)
