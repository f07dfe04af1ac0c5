"""Training: stopped anywhere and called again it is the same run, bit for bit; sums are exact."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from torchvision.datasets import ImageFolder

from facekit import training
from facekit.common.errors import DataError, RecipeError, RunError
from facekit.data.images import read_rgb
from facekit.data.layout import CourseData
from facekit.data.transforms import Preprocess
from facekit.evaluation import inference
from facekit.models import weights
from facekit.models.weights import digest
from facekit.training import loop
from facekit.training import recipe as recipes
from facekit.training.checkpoint import Checkpoints
from facekit.training.history import HISTORY
from facekit.training.recipe import Recipe
from facekit.training.run import Run, build_objective
from facekit.training.schedules import warmup_cosine
from facekit.training.stopping import Interrupted

CPU = torch.device("cpu")
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def small(*changes: str) -> Recipe:
    """Two epochs of five steps, the last of four images: the 36 of the course by eights."""
    settings = ["epochs=2", "batch_size=8", "image_size=32", "warmup_epochs=1"]
    return recipes.load("smoke", [*settings, "precision=float32", *changes])


def fit(recipe: Recipe, data: CourseData, out: Path) -> training.History:
    return training.fit(recipe, data, out, device="cpu", progress=False)


def last(out: Path) -> dict:
    """The newest state of a run."""
    return Checkpoints(out).load_latest()


def fingerprint(out: Path) -> str:
    """All that a run has learned and noted: networks, optimiser, curves and tables."""
    best, state = weights.load(out / "best.pt"), last(out)
    tensors = [state[key] for key in ("net", "auxiliary_loss", "ema", "optimizer", "progress")]
    tables = [(out / name).read_text() for name in ("history.csv", "recipe.json")]
    return digest([best["net"], best["progress"], *tensors, *tables])


@pytest.fixture(scope="module")
def reference(course, tmp_path_factory) -> Path:
    """A short run that nobody disturbed."""
    out = tmp_path_factory.mktemp("reference") / "run"
    fit(small(), course, out)
    return out


def prepared(recipe: Recipe, course: CourseData) -> Run:
    """A run at its beginning, with its pictures, that keeps nothing."""
    run = Run(recipe, course, Path("nowhere"), CPU)
    run.prepare()
    return run


class Crash(BaseException):
    """The process ends here."""


@pytest.fixture
def at_step(monkeypatch) -> Callable:
    """Have something done after the forward and backward pass of the n-th step from here."""

    def plan(number: int, action: Callable[[], None]) -> None:
        calls = 0
        step = loop.train_step

        def counting(*arguments):
            nonlocal calls
            calls += 1
            result = step(*arguments)
            if calls == number:
                action()
            return result

        monkeypatch.setattr(loop, "train_step", counting)

    return plan


# ------------------------------------------------------------------ interruptions, in process


@pytest.mark.parametrize("number", range(1, 11))
def test_a_run_stopped_after_any_step_resumes_to_the_same_bits(
    number, course, tmp_path, reference, at_step, capsys
):
    at_step(number, lambda: os.kill(os.getpid(), STOPS[number % 3]))
    with pytest.raises(Interrupted, match=rf"after step {number} of 10; .*the same call"):
        fit(small(), course, tmp_path / "run")
    assert "stopping after this step" in capsys.readouterr().out
    progress = last(tmp_path / "run")["progress"]
    assert progress["epoch"] * 5 + progress["step"] == number
    assert not progress["done"]
    fit(small(), course, tmp_path / "run")
    assert fingerprint(tmp_path / "run") == fingerprint(reference)


def test_a_run_stopped_after_every_step_resumes_to_the_same_bits(
    course, tmp_path, reference, monkeypatch
):
    step = loop.train_step

    def stopped(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return step(*arguments)

    monkeypatch.setattr(loop, "train_step", stopped)
    for _ in range(10):
        with pytest.raises(Interrupted):
            fit(small(), course, tmp_path / "run")
    fit(small(), course, tmp_path / "run")  # only the last evaluation is left
    assert fingerprint(tmp_path / "run") == fingerprint(reference)


def test_a_crash_at_any_write_leaves_a_run_that_goes_on_to_the_same_bits(
    course, tmp_path, reference, monkeypatch
):
    replace, left, crashes = os.replace, 0, 0

    def counting(*arguments):
        nonlocal left
        left -= 1
        if left < 0:
            raise Crash
        replace(*arguments)

    for number in range(20):
        out, left = tmp_path / str(number), number
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", counting)
            try:
                fit(small(), course, out)
            except Crash:
                crashes += 1
        fit(small(), course, out)
        assert fingerprint(out) == fingerprint(reference), f"crash at write {number}"
        if left >= 0:
            break  # there are no more writes
    assert crashes == number >= 7


def test_a_second_ctrl_c_stops_at_once_and_spoils_nothing(course, tmp_path, reference, at_step):
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_step(7, twice)
    with pytest.raises(KeyboardInterrupt) as stop:
        fit(small(), course, tmp_path / "run")
    assert not isinstance(stop.value, Interrupted)
    assert last(tmp_path / "run")["progress"]["epoch"] == 1
    fit(small(), course, tmp_path / "run")
    assert fingerprint(tmp_path / "run") == fingerprint(reference)


@pytest.mark.parametrize("number", STOPS)
def test_signal_handlers_are_restored_after_an_interruption(number, course, tmp_path, at_step):
    before = [signal.getsignal(each) for each in STOPS]
    inside = []
    at_step(1, lambda: inside.extend(signal.getsignal(each) for each in STOPS))
    at_step(2, lambda: os.kill(os.getpid(), number))
    with pytest.raises(Interrupted):
        fit(small(), course, tmp_path)
    assert [signal.getsignal(each) for each in STOPS] == before
    assert not set(inside) & set(before)


def test_signal_handlers_are_restored_after_an_end_and_after_an_error(
    course, tmp_path, monkeypatch
):
    before = [signal.getsignal(each) for each in STOPS]
    fit(small("epochs=1"), course, tmp_path / "good")
    assert [signal.getsignal(each) for each in STOPS] == before

    def broken(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(loop, "train_step", broken)
    with pytest.raises(ZeroDivisionError):
        fit(small("epochs=1"), course, tmp_path / "bad")
    assert [signal.getsignal(each) for each in STOPS] == before


def test_a_run_in_another_thread_needs_no_signals_and_is_the_same(course, tmp_path, reference):
    thread = threading.Thread(target=fit, args=(small(), course, tmp_path / "run"))
    thread.start()
    thread.join()
    assert fingerprint(tmp_path / "run") == fingerprint(reference)


# ------------------------------------------------------------------ interruptions, from outside

LONG = ["epochs=12", "batch_size=2", "image_size=48", "lr=0.002", "watch=false"]


@pytest.fixture(scope="module")
def long_reference(course, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("long") / "run"
    fit(recipes.load("smoke", LONG), course, out)
    return out


def start(course: CourseData, out: Path) -> subprocess.Popen:
    changes = [word for change in LONG for word in ("--set", change)]
    where = ["--data", str(course.root), "--out", str(out), "--device", "cpu"]
    return subprocess.Popen(
        [sys.executable, "-m", "facekit", "train", "smoke", *where, *changes],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop_after_first_epoch(process: subprocess.Popen, out: Path, number: int) -> tuple[str, str]:
    """Send a signal as soon as the first epoch is on disk; what the process said."""
    deadline = time.monotonic() + 240
    while not Checkpoints(out).paths():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.01)
    process.send_signal(number)
    return process.communicate(timeout=240)


def test_a_killed_process_run_again_ends_with_the_same_bits(course, tmp_path, long_reference):
    out = tmp_path / "run"
    process = start(course, out)
    stop_after_first_epoch(process, out, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not last(out)["progress"]["done"]  # it landed in time
    again = start(course, out)
    said, complaints = again.communicate(timeout=240)
    assert again.returncode == 0, complaints
    assert "best dev accuracy" in said
    assert fingerprint(out) == fingerprint(long_reference)


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.long),
        pytest.param(signal.SIGUSR1, marks=pytest.mark.long),
    ],
)
def test_a_process_asked_to_stop_saves_says_how_to_go_on_and_does(
    number, course, tmp_path, long_reference
):
    out = tmp_path / "run"
    process = start(course, out)
    said, complaints = stop_after_first_epoch(process, out, number)
    assert process.returncode == 130
    assert "Traceback" not in complaints
    messages = complaints.splitlines()
    assert len(messages) == 1, complaints
    assert messages[0].startswith("facekit: stopped after step ")
    assert "saved in" in messages[0]
    assert "the same call goes on from there" in messages[0]
    assert "stopping after this step" in said
    progress = last(out)["progress"]
    assert not progress["done"]  # it landed in time
    assert progress["epoch"] >= 1
    assert 0 < progress["step"] <= 18
    fit(recipes.load("smoke", LONG), course, out)
    assert fingerprint(out) == fingerprint(long_reference)


# ------------------------------------------------------------------ what a run depends on


def test_the_same_recipe_gives_the_same_bits_whatever_the_ambient_random_numbers(
    course, tmp_path, reference
):
    torch.manual_seed(12345)
    fit(small(), course, tmp_path)
    assert fingerprint(tmp_path) == fingerprint(reference)


def test_another_seed_gives_another_run(course, tmp_path, reference):
    fit(small("seed=1"), course, tmp_path)
    mine, other = last(tmp_path), last(reference)
    assert digest(mine["net"]) != digest(other["net"])


PAIRS = ("images_per_class=2", "auxiliary_loss={name='triplet', mining='semi_hard'}")
OBJECTIVES = {
    "arcface": ("head={name='arcface', margin=0.1}",),
    "lsoftmax, which counts its steps": ("head=lsoftmax",),
    "gaussian": ("head={name='lgm', margin=0.2}",),
    "center, which keeps its centres": ("auxiliary_loss=center", "auxiliary_weight=0.1"),
    "pairs in batches by class": PAIRS,
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_any_head_and_loss_is_trained_and_resumed_exactly(course, tmp_path, at_step, objective):
    recipe = small(*OBJECTIVES[objective])
    begun = build_objective(recipe, len(course.classes), torch.float32).state_dict()
    fit(recipe, course, tmp_path / "whole")
    at_step(3, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted):
        fit(recipe, course, tmp_path / "run")
    fit(recipe, course, tmp_path / "run")
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")
    saved = last(tmp_path / "run")
    ended = {f"network.{k}": v for k, v in saved["net"].items()}
    ended |= {f"auxiliary_loss.{k}": v for k, v in saved["auxiliary_loss"].items()}
    assert ended.keys() == begun.keys()
    assert not [name for name in ended if torch.equal(ended[name], begun[name])]


def test_batches_by_class_hold_every_image_once_and_pairs(course):
    recipe, seen = small(*PAIRS), []
    for batch in Run(recipe, course, Path("nowhere"), CPU).sampler(3):
        labels = [course.train.labels[index] for _, index in batch]
        assert all(labels.count(label) >= 2 for label in labels)
        seen += [index for _, index in batch]
    assert sorted(seen) == list(range(len(course.train)))


def test_dropout_does_not_hinder_an_exact_resumption(course, tmp_path, at_step):
    network = "network={base='tiny', dropout=0.5}"
    fit(small(network), course, tmp_path / "whole")
    fit(small(network.replace("0.5", "0.0")), course, tmp_path / "without")
    at_step(3, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted):
        fit(small(network), course, tmp_path / "run")
    fit(small(network), course, tmp_path / "run")
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")
    losses = [
        pd.read_csv(tmp_path / name / "history.csv")["train_loss"][0]
        for name in ("whole", "without")
    ]
    assert losses[0] != losses[1]


def test_training_leaves_the_global_random_numbers_alone(course, tmp_path):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    fit(small("epochs=1"), course, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_in_the_loop_does_not_change_training(course, tmp_path, reference, monkeypatch):
    evaluate = inference.evaluate

    def thirsty(net, batches, *arguments):
        batches = list(batches)
        evaluate(net, batches, *arguments)
        torch.rand(17)
        return evaluate(net, batches, *arguments)

    monkeypatch.setattr(loop, "evaluate", thirsty)
    fit(small(), course, tmp_path)
    assert fingerprint(tmp_path) == fingerprint(reference)


def test_evaluate_draws_no_random_numbers(course):
    run = prepared(small(), course)
    before = torch.get_rng_state()
    first = inference.evaluate(run.net, run.dev_batches())
    assert torch.equal(torch.get_rng_state(), before)
    assert inference.evaluate(run.net, run.dev_batches()) == first
    assert not Path("nowhere").exists()


# ------------------------------------------------------------------ numbers


@pytest.mark.parametrize("batch_size", [1, 5, 7, 12, 100])
def test_evaluation_counts_every_image_once_however_short_the_last_batch(course, batch_size):
    run = prepared(small(f"batch_size={max(2, batch_size)}"), course)
    folder = ImageFolder(course.dev.folder, Preprocess(32).transform(), loader=read_rgb)
    assert len(folder) == 12
    net = run.net.eval()
    losses, right = [], 0
    with torch.no_grad():
        for image, label in folder:
            scores = net(torch.stack([image, image.flip(-1)])).double().mean(0)
            losses.append((scores.logsumexp(0) - scores[label]).item())
            right += scores.argmax().item() == label
    net.train()  # evaluate must switch it itself
    loss, accuracy = inference.evaluate(net, run.dev_batches())
    assert net.training
    assert accuracy == right / 12
    assert loss == pytest.approx(sum(losses) / 12, rel=1e-5)


def epoch_by_hand(course: CourseData, recipe: Recipe) -> tuple[float, float, int]:
    """The first epoch of a recipe with AdamW, in the plainest way: loss, accuracy, images."""
    run = prepared(recipe, course)
    net = run.net.train()
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": 0.05},
            {"params": [p for p in net.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
    )
    losses, right = [], []
    for step, ((images, labels, *_), _) in enumerate(run.batches()):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * (step + 1) / 5  # the first epoch warms up
        log = net(images).log_softmax(1)
        own = log[torch.arange(len(labels)), labels]
        smooth = recipe.label_smoothing
        loss = -(1 - smooth) * own - smooth * log.mean(1)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        losses += loss.tolist()
        right += (log.argmax(1) == labels).tolist()
    return sum(losses) / len(losses), sum(right) / len(right), len(right)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_training_loss_and_accuracy_are_means_over_images(course, tmp_path, smoothing):
    recipe = small(f"label_smoothing={smoothing}")
    loss, accuracy, images = epoch_by_hand(course, recipe)
    assert images == 36
    row = fit(recipe, course, tmp_path).rows[0]
    assert row["train_loss"] == pytest.approx(loss, rel=1e-4)
    assert row["train_accuracy"] == pytest.approx(accuracy, abs=1e-9)
    assert row["train_accuracy"] * 36 == pytest.approx(round(row["train_accuracy"] * 36))


def test_the_dev_loss_is_the_plain_cross_entropy_of_the_saved_network(course, reference):
    row = pd.read_csv(reference / "history.csv").iloc[-1]
    run = prepared(small("label_smoothing=0.9"), course)
    run.net.load_state_dict(last(reference)["net"])
    loss, accuracy = inference.evaluate(run.net, run.dev_batches())
    assert row["dev_loss"] == pytest.approx(loss, rel=1e-6)
    assert row["dev_accuracy"] == pytest.approx(accuracy)


def test_every_step_has_the_rate_of_the_schedule(course, tmp_path, monkeypatch):
    rates = []
    step = loop.train_step

    def noting(run, *batch):
        rates.append([group["lr"] for group in run.optimizer.param_groups])
        return step(run, *batch)

    monkeypatch.setattr(loop, "train_step", noting)
    rows = fit(small(), course, tmp_path).rows
    expected = [warmup_cosine(n, 10, 5, small().lr) for n in range(10)]
    assert rates == [[rate, rate] for rate in expected]
    assert [row["lr"] for row in rows] == [expected[0], expected[5]]


def test_every_epoch_shows_every_image_once_in_a_new_order(course):
    run = prepared(small(), course)
    orders = []
    for epoch in (0, 1):
        run.progress.epoch = epoch
        batches = [batch for batch, _ in run.batches()]
        assert [len(batch.labels) for batch in batches] == [8, 8, 8, 8, 4]
        orders.append(torch.cat([batch.labels for batch in batches]).tolist())
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(course.train.labels)
    assert orders[0] != orders[1]


def test_a_network_learns_its_training_pictures(course, tmp_path):
    """Twelve dev pictures say too little, and three epochs teach too little."""
    history = fit(small("epochs=16", "augment.erasing=0"), course, tmp_path).frame()
    assert history["train_accuracy"].iloc[-1] > 3 / 6  # chance is 1 / 6
    assert history["train_loss"].iloc[-1] < 0.7 * history["train_loss"].iloc[0]


# ------------------------------------------------------------------ the end of a run


@pytest.fixture
def scripted(monkeypatch) -> Callable:
    """Have the dev accuracies be these; the list of the networks' digests after each epoch."""

    def plan(accuracies: list[float]) -> list[str]:
        nets, coming = [], iter(accuracies)

        def evaluate(net, *arguments):
            nets.append(digest(net.state_dict()))
            return 1.0, next(coming)

        monkeypatch.setattr(loop, "evaluate", evaluate)
        return nets

    return plan


with_patience = pytest.mark.parametrize(
    ("accuracies", "patience", "epochs", "best"),
    [
        ([0.2, 0.5, 0.4, 0.5, 0.6, 0.7], 2, 4, 2),  # as good is not better
        ([0.2, 0.5, 0.4, 0.6, 0.5, 0.5], 2, 6, 4),
        ([0.5, 0.4, 0.3, 0.2, 0.1, 0.0], 1, 2, 1),
        ([0.5, 0.4, 0.3, 0.2, 0.1, 0.9], 0, 6, 6),  # 0: never
        ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 3, 4, 1),
    ],
)


@with_patience
def test_a_history_shows_where_a_shorter_patience_would_have_ended(
    accuracies, patience, epochs, best
):
    rows = [{"epoch": i, "dev_accuracy": value} for i, value in enumerate(accuracies, start=1)]
    cut = training.History(rows).until(patience)
    assert cut.rows == rows[:epochs]
    assert cut.best["epoch"] == best
    assert cut.waited == epochs - best


def test_a_history_without_epochs_has_no_end():
    assert training.History().until(3).rows == []


@with_patience
def test_a_run_stops_after_patience_epochs_without_improvement(
    accuracies, patience, epochs, best, course, tmp_path, scripted
):
    nets = scripted(accuracies)
    recipe = small("epochs=6", f"patience={patience}", "batch_size=36")
    history = fit(recipe, course, tmp_path)
    assert [row["dev_accuracy"] for row in history.rows] == accuracies[:epochs]
    assert history.best == history.rows[best - 1]
    saved, newest = weights.load(tmp_path / "best.pt"), last(tmp_path)
    assert saved["progress"]["epoch"] == best
    assert digest(saved["net"]) == nets[best - 1]
    assert newest["progress"]["epoch"] == epochs
    assert newest["progress"]["done"]
    assert digest(newest["net"]) == nets[-1]
    assert fit(recipe, course, tmp_path).rows == history.rows
    assert len(nets) == epochs  # the second call was only read


def test_waiting_is_counted_across_an_interruption(course, tmp_path, scripted, at_step):
    scripted([0.5, 0.4, 0.3, 0.2, 0.1])
    recipe = small("epochs=5", "patience=2", "batch_size=36")
    at_step(2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted):
        fit(recipe, course, tmp_path)
    assert len(fit(recipe, course, tmp_path).rows) == 3


def test_a_finished_run_called_again_is_only_read(
    course, copy_of_run, trained_recipe, unchanged, monkeypatch
):
    monkeypatch.setattr(loop, "train_step", None)
    with unchanged(copy_of_run):
        history = fit(trained_recipe, course, copy_of_run)
    table = pd.read_csv(copy_of_run / "history.csv")
    assert list(table.columns) == HISTORY
    pd.testing.assert_frame_equal(history.frame(), table)
    assert table["epoch"].tolist() == [1, 2, 3]


def test_the_folder_holds_the_run_and_no_half_files(trained, trained_recipe):
    marks = (".lock", ".session")  # of who is at work there
    names = sorted(path.name for path in trained.iterdir() if not path.name.startswith(marks))
    *others, before, newest = names
    assert others == ["best.pt", "environment.json", "history.csv", "recipe.json"]
    assert newest == "step-00000006.pt"  # 36 images by 32, three epochs
    assert before in ("step-00000002.pt", "step-00000004.pt")  # whichever was the best
    assert json.loads((trained / "recipe.json").read_text()) == trained_recipe.as_dict()


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("change", "saved", "wanted"),
    [
        ("epochs=3", "epochs = 2", "says 3"),
        ("seed=5", "seed = 0", "says 5"),
        ("network=small", "network = tiny", "says small"),
        ("augment.flip=0", "'flip': 0.5", "'flip': 0.0"),
    ],
)
def test_a_folder_of_another_recipe_is_refused(change, saved, wanted, course, reference, unchanged):
    with unchanged(reference), pytest.raises(RunError) as error:
        fit(small(change), course, reference)
    assert str(reference) in str(error.value)
    assert saved in str(error.value)
    assert wanted in str(error.value)


def test_a_run_with_a_setting_that_no_longer_exists_is_refused(course, reference, tmp_path):
    state = last(reference)
    state["recipe"]["mixup"] = 0.4
    Checkpoints(tmp_path).save(10, state)
    with pytest.raises(RunError, match=r"mixup = 0\.4, and the recipe says None"):
        fit(small(), course, tmp_path)


def test_a_run_from_before_a_setting_was_made_goes_on_with_the_usual_value(
    course, reference, tmp_path
):
    state = last(reference)
    del state["recipe"]["best_by"]
    Checkpoints(tmp_path).save(10, state)
    assert fit(small(), course, tmp_path).rows == state["progress"]["rows"]


def test_a_run_of_fewer_classes_is_refused(reference, copy_of_course, unchanged):
    for split in ("train", "dev"):
        folder = CourseData(copy_of_course).classification / split
        sorted(folder.iterdir())[0].rename(copy_of_course / f"removed_{split}")
    with unchanged(reference), pytest.raises(RunError, match=r"6 classes.* has 5"):
        fit(small(), CourseData(copy_of_course), reference)


def test_a_run_of_other_names_is_refused(reference, copy_of_course):
    for split in ("train", "dev"):
        folder = CourseData(copy_of_course).classification / split
        sorted(folder.iterdir())[0].rename(folder / "n999999")
    with pytest.raises(RunError, match=r"6 classes.* 6 of other names"):
        fit(small(), CourseData(copy_of_course), reference)


def test_a_damaged_run_is_refused_and_left_alone(course, copy_of_run, trained_recipe):
    for path in Checkpoints(copy_of_run).paths():
        path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(RunError, match=r"damaged"):
        fit(trained_recipe, course, copy_of_run)


def test_one_image_is_too_few_to_train(copy_of_course, tmp_path):
    data = CourseData(copy_of_course)
    for split in ("train", "dev"):
        first, *others = sorted((data.classification / split).iterdir())
        for number, folder in enumerate(others):
            folder.rename(copy_of_course / f"{split}{number}")
        for image in sorted(first.iterdir())[1:]:
            image.unlink()
    with pytest.raises(DataError, match="1 images are too few"):
        fit(small(), CourseData(copy_of_course), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_broken_image_is_named_before_training_begins(copy_of_course, tmp_path, at_step):
    data = CourseData(copy_of_course)
    data.train.paths[20].write_bytes(b"no image")
    at_step(1, lambda: pytest.fail("training began"))
    with pytest.raises(DataError, match=data.train.paths[20].name):
        fit(small(), data, tmp_path / "run")


def test_a_network_over_the_limit_is_refused(course, tmp_path):
    network = "network={base='tiny', stages=[{block='residual', channels=2048}]}"
    with pytest.raises(RecipeError, match="over the limit of 21,000,000"):
        fit(small(network), course, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_recipe_and_data_may_be_given_by_name(course, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('network = "tiny"\nimage_size = 32\nepochs = 1\nbatch_size = 36\n')
    history = training.fit(str(path), str(course.root), str(tmp_path / "run"), "cpu", False)
    assert len(history.rows) == 1


def test_one_can_wait_for_the_first_state_of_a_process(course, tmp_path):
    process = training.start_process("smoke", course, tmp_path, ["epochs=400"])
    training.wait_for_state(process, tmp_path)
    assert process.poll() is None
    process.kill()
    process.wait()
    assert Checkpoints(tmp_path).paths()


def test_nobody_waits_for_a_process_that_is_over(course, tmp_path):
    process = training.start_process("smoke", course, tmp_path, ["epochs=0"])
    training.wait_for_state(process, tmp_path)
    assert process.returncode == 2
