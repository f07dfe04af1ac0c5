"""Saving beside the training: the loop goes on, the state is of its step, and no fault is lost."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from pretend_gpu import GPU, WAIT, pretending

from facekit import training
from facekit.common.errors import RunError
from facekit.data import transforms
from facekit.data.layout import CourseData
from facekit.models import weights
from facekit.models.weights import digest
from facekit.training import loop, state
from facekit.training import recipe as recipes
from facekit.training.callbacks import Callback, Callbacks
from facekit.training.checkpoint import Checkpoints
from facekit.training.recipe import Recipe
from facekit.training.run import Run
from facekit.training.stopping import Interrupted

CPU = torch.device("cpu")
LONG = 60  # seconds until a test gives up


def small(*changes: str) -> Recipe:
    """Two epochs of five steps."""
    settings = ["epochs=2", "batch_size=8", "image_size=32", "warmup_epochs=1"]
    return recipes.load("smoke", [*settings, "precision=float32", *changes])


def fit(course: CourseData, out: Path, *changes: str, **keys) -> training.History:
    return training.fit(small(*changes), course, out, "cpu", progress=False, **keys)


def progress(out: Path) -> dict:
    return Checkpoints(out).load_latest()["progress"]


def let_it_write() -> None:
    """Until the thread that saves is done."""
    for thread in threading.enumerate():
        if thread.name.startswith("facekit-writer"):
            thread.join()


@pytest.fixture
def scripted(monkeypatch) -> Callable:
    """Have the dev accuracies be these."""

    def plan(*accuracies: float) -> None:
        coming = iter(accuracies)
        monkeypatch.setattr(loop, "evaluate", lambda *_: (1.0, next(coming)))

    return plan


class Steps(Callback):
    """Counts the steps; may be waited for, and may do something after one."""

    def __init__(self, at: int = 0, action: Callable = print) -> None:
        self.count = 0
        self.at = at
        self.action = action
        self.next = threading.Event()

    def after_step(self, run: Run) -> None:
        self.count += 1
        self.next.set()
        if self.count == self.at:
            self.action()


@pytest.fixture
def slow(monkeypatch) -> Callable:
    """Have each save wait before it begins; the list of the steps that were saved."""

    def plan(wait: Callable[[int], object]) -> list[int]:
        saved: list[int] = []
        save = state.save

        def waiting(checkpoints, step, *rest):
            wait(step)
            save(checkpoints, step, *rest)
            saved.append(step)

        monkeypatch.setattr(state, "save", waiting)
        return saved

    return plan


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """However a run ends, its thread has ended, too."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(5)  # it has told that it is done, and may have a moment to go
        assert not thread.is_alive(), thread.name


# ------------------------------------------------------------------ beside the training


def test_the_loop_goes_on_while_a_state_is_written_and_the_state_is_of_its_own_step(
    course, tmp_path, slow
):
    fit(course, tmp_path / "straight")
    steps = Steps()
    went_on = []

    def until_the_next_step(step: int) -> None:
        if step < 10:  # no other comes after the last
            steps.next.clear()
            went_on.append(steps.next.wait(LONG))

    slow(until_the_next_step)
    with pytest.raises(ZeroDivisionError):
        at_eight = Steps(8, lambda: 1 / 0)
        fit(course, tmp_path / "run", callbacks=[steps, at_eight])
    assert went_on == [True]
    assert progress(tmp_path / "run")["epoch"] == 1
    fit(course, tmp_path / "run")
    nets = [Checkpoints(tmp_path / name).load_latest()["net"] for name in ("straight", "run")]
    assert digest(nets[0]) == digest(nets[1])


ENGINES = {
    "plain": (),
    "averaged, in float16": ("ema_decay=0.9", "precision=float16"),
    "sgd with a loss that has weights": ("optimizer=sgd", "momentum=0.9", "auxiliary_loss=center"),
}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_snapshot_is_the_run_and_stays_as_it_is(engine, course):
    run = Run(small(*ENGINES[engine]), course, Path("nowhere"), CPU)
    run.prepare()
    loop.train_epoch(run, Callbacks([]))
    saved = state.snapshot(run)
    then = digest(state.state_of(run))
    assert digest(saved) == then
    run.progress.step = 0
    run.progress.rows.append({"dev_accuracy": 0.5})
    loop.train_epoch(run, Callbacks([]))
    assert digest(saved) == then != digest(state.state_of(run))
    judged = run.ema.module if run.ema else run.net
    assert digest(state.best_of(run, state.snapshot(run))["net"]) == digest(judged.state_dict())


def test_what_modules_note_beside_their_weights_is_copied_too(course):
    net = Run(small(), course, Path("nowhere"), CPU).net
    copied = state.on_processor(net.state_dict())
    assert type(copied) is OrderedDict
    assert copied._metadata == net.state_dict()._metadata


def test_a_gpu_is_waited_for_once_and_all_has_arrived_then(course):
    with pretending() as log:
        run = Run(small("ema_decay=0.9"), course, Path("nowhere"), GPU)
        run.prepare()
        loop.train_epoch(run, Callbacks([]))
        then = digest(state.state_of(run))
        log.clear()
        saved = state.snapshot(run)
        assert log.places(WAIT) == {"state.py:snapshot": 1}
        assert saved["net"]["head.weight"].device == CPU
        assert digest(saved) == then
    transforms._constant.cache_clear()  # a real GPU would get pretended ones


# ------------------------------------------------------------------ how often


def test_the_best_epochs_are_saved_and_others_when_it_is_time_or_in_the_end(
    course, tmp_path, scripted, slow
):
    accuracies = [0.5, 0.4, 0.3, 0.6, 0.2, 0.1]
    changes = "epochs=6", "batch_size=36", "watch=false"
    saved = slow(lambda step: None)
    scripted(*accuracies)
    fit(course, tmp_path / "seldom", *changes)
    assert saved == [1, 4, 6]
    saved.clear()
    scripted(*accuracies)
    fit(course, tmp_path / "often", *changes, save_minutes=0)
    assert saved == [1, 2, 3, 4, 5, 6]


def test_what_ends_a_run_between_two_epochs_finds_the_last_on_the_disk(course, tmp_path, scripted):
    scripted(0.5, 0.4, 0.3)

    def leave(history: training.History) -> None:
        if len(history.rows) == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(course, tmp_path, "epochs=3", on_epoch=leave)
    assert progress(tmp_path)["epoch"] == 2


@pytest.mark.parametrize("hours", [None, 0])
def test_a_run_that_is_over_is_on_the_disk_however_slow_that_is(hours, course, tmp_path, slow):
    saved = slow(lambda step: threading.Event().wait(0.3))
    fit(course, tmp_path, max_hours=hours)
    assert saved[-1] == (10 if hours is None else 1)
    assert progress(tmp_path)["done"] == (hours is None)


# ------------------------------------------------------------------ faults


def test_a_disk_that_fails_three_times_ends_the_training_not_only_its_end(
    course, tmp_path, monkeypatch, capsys
):
    def full(path: Path, saved: dict) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(weights, "save", full)
    steps = Steps()
    with pytest.raises(RunError, match=r"no room to save step 3: .* 3rd time in a row"):
        fit(course, tmp_path, save_minutes=0, callbacks=[steps])
    assert steps.count == 3
    assert capsys.readouterr().out.count("training goes on, nothing is saved yet") == 2


def test_a_fault_of_the_thread_ends_the_training_at_the_next_step(course, tmp_path, monkeypatch):
    def broken(*arguments) -> None:
        raise RunError("broken")

    monkeypatch.setattr(state, "save", broken)
    steps = Steps(6, let_it_write)  # what the fifth gave away
    with pytest.raises(RunError, match="broken"):
        fit(course, tmp_path, callbacks=[steps])
    assert steps.count in (5, 6)


@pytest.mark.parametrize("minutes", [0, 5])
def test_a_state_that_could_not_be_read_again_ends_the_training(
    minutes, course, tmp_path, monkeypatch
):
    state_of = state.state_of
    monkeypatch.setattr(state, "state_of", lambda run: state_of(run) | {"x": np.float64(1)})
    with pytest.raises(RunError, match="could not be read again"):
        fit(course, tmp_path, "epochs=1", save_minutes=minutes)


def test_the_other_callbacks_are_closed_when_the_last_save_fails(course, tmp_path, monkeypatch):
    closed = []

    class Closed(Callback):
        def close(self) -> None:
            closed.append(True)

    def broken(*arguments) -> None:
        raise RunError("broken")

    monkeypatch.setattr(state, "save", broken)
    with pytest.raises(RunError, match="broken"):
        fit(course, tmp_path, max_hours=0, callbacks=[Closed()])
    assert closed == [True]


@pytest.mark.parametrize(("minutes", "asked", "kept"), [(5, 3, 4), (0, 1, 1)])
def test_a_second_ctrl_c_does_not_wait_for_the_disk(minutes, asked, kept, course, tmp_path, slow):
    """It falls into the last save, which is awaited in the end; or into that before the next."""
    interrupted = threading.Event()
    main = threading.get_ident()

    def interrupt(step: int) -> None:
        while sys._current_frames()[main].f_back.f_code.co_name != "result":
            time.sleep(0.01)  # until the training waits for this save
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupted.wait(LONG)

    saved = slow(interrupt)
    first = Steps(asked, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt) as stop:
        fit(course, tmp_path, save_minutes=minutes, callbacks=[first])
    assert not isinstance(stop.value, Interrupted)
    assert saved == []
    interrupted.set()
    let_it_write()
    assert progress(tmp_path)["step"] == kept


ENDS = """
import os, signal, sys, threading, time
from facekit import training
from facekit.training import state

main, save = threading.get_ident(), state.save

def late(*arguments):
    while sys._current_frames()[main].f_back.f_code.co_name != "result":
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)
    save(*arguments)

class Ask(training.Callback):
    def after_step(self, run):
        os.kill(os.getpid(), signal.SIGINT)

state.save = late
recipe = training.load_recipe("smoke", ["batch_size=8", "image_size=32"])
training.fit(recipe, sys.argv[1], sys.argv[2], "cpu", False, callbacks=[Ask()])
"""


def test_a_process_that_ends_lets_its_thread_write_first(course, tmp_path):
    command = [sys.executable, "-c", ENDS, str(course.root), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    # 1 where Python evaluates a text on its way out, as tabulate does if torch finds it.
    assert done.returncode in (-signal.SIGINT, 1), done.stderr
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert progress(tmp_path / "run")["step"] == 2
