"""What a recipe can ask of a run beyond the plain loop, and what stops one with a reason."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from facekit import training
from facekit.common.errors import DataError, RecipeError, RunError
from facekit.common.lock import only_one
from facekit.data.images import read_rgb
from facekit.data.layout import CourseData
from facekit.data.loader import Batch
from facekit.evaluation import embed as predict
from facekit.evaluation import inference
from facekit.models import weights
from facekit.models.heads import ArcFace
from facekit.models.weights import digest
from facekit.training import bring_own, loop, margin_stage
from facekit.training import recipe as recipes
from facekit.training.checkpoint import Checkpoints
from facekit.training.lr_finder import plain_batches
from facekit.training.recipe import Recipe
from facekit.training.run import Run

CPU = torch.device("cpu")


def small(*changes: str) -> Recipe:
    """Two epochs of five steps, the last of four images."""
    settings = ["epochs=2", "batch_size=8", "image_size=32", "warmup_epochs=1"]
    return recipes.load("smoke", [*settings, "precision=float32", *changes])


def fit(recipe: Recipe, data: CourseData, out: Path, **keys) -> training.History:
    return training.fit(recipe, data, out, device="cpu", progress=False, **keys)


def last(out: Path) -> dict:
    return Checkpoints(out).load_latest()


def prepared(recipe: Recipe, course: CourseData) -> Run:
    run = Run(recipe, course, Path("nowhere"), CPU)
    run.prepare()
    return run


@pytest.fixture(scope="module")
def reference(course, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("reference") / "run"
    fit(small(), course, out)
    return out


@pytest.fixture
def at_step(monkeypatch) -> Callable:
    """Have something done instead of returning from the n-th step."""

    def plan(number: int, action: Callable) -> None:
        calls, step = 0, loop.train_step

        def counting(run, *arguments):
            nonlocal calls
            calls += 1
            result = step(run, *arguments)
            return action(run, result) if calls == number else result

        monkeypatch.setattr(loop, "train_step", counting)

    return plan


# ------------------------------------------------------------------ guards


def test_a_loss_that_is_no_number_stops_and_leaves_the_last_good_state(course, tmp_path, at_step):
    at_step(7, lambda run, totals: totals * math.nan)
    with pytest.raises(RunError, match=r"(?i)nan.*learning.rate"):
        fit(small(), course, tmp_path / "run")
    assert last(tmp_path / "run")["progress"]["epoch"] == 1
    assert all(w.isfinite().all() for w in last(tmp_path / "run")["net"].values())


def test_weights_that_are_no_numbers_are_never_saved(course, tmp_path, at_step):
    def poison(run, totals):
        next(run.net.parameters()).data.fill_(math.nan)
        return totals

    at_step(10, poison)  # the last step: the loss itself never shows it
    with pytest.raises(RunError, match=r"(?i)nan"):
        fit(small(), course, tmp_path / "run")
    assert last(tmp_path / "run")["progress"]["epoch"] == 1


def test_after_nan_a_lower_rate_goes_on_from_the_last_good_state(
    course, tmp_path, at_step, monkeypatch
):
    with monkeypatch.context():
        at_step(7, lambda run, totals: totals * math.nan)
        with pytest.raises(RunError):
            fit(small(), course, tmp_path / "run")
    monkeypatch.undo()
    fit(small("lr=0.0001", "grad_clip=1"), course, tmp_path / "run")
    state = last(tmp_path / "run")
    assert state["progress"]["done"]
    assert "from step 5 on: lr 0.0001, before 0.004" in state["progress"]["changes"]
    assert "from step 5 on: grad_clip 1.0, before 0.0" in state["progress"]["changes"]


def test_a_finished_run_asked_for_another_rate_is_refused(course, reference, unchanged):
    with unchanged(reference), pytest.raises(RunError, match=r"lr = 0\.004, .* 0\.1"):
        fit(small("lr=0.1"), course, reference)


def test_a_run_that_learns_nothing_is_stopped_with_the_reason(course, tmp_path):
    recipe = small("lr=1e-12", "epochs=40", "batch_size=36", "warmup_epochs=0")
    with pytest.raises(RunError, match=r"(?s)watch"):
        fit(recipe, course, tmp_path / "run")
    assert last(tmp_path / "run")["progress"]["epoch"] < 20


# ------------------------------------------------------------------ memory


class SmallMemory:
    """A network's forward pass that fails on more pictures than fit."""

    def __init__(self, forward: Callable, room: int) -> None:
        self.forward, self.room, self.seen = forward, room, []

    def __call__(self, images, *rest):
        self.seen.append(len(images))
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return self.forward(images, *rest)


def test_out_of_memory_halves_the_parts_and_keeps_the_batch(course):
    run = prepared(small(), course)
    run.forward = memory = SmallMemory(run.forward, room=3)
    batch, whole = next(run.batches())
    loss, _, pictures = loop.train_step(run, batch, whole).tolist()
    assert memory.seen == [8, 4, 2, 2, 2, 2]
    assert run.progress.micro_batches == 4
    assert (pictures, loss > 0) == (8, True)


def test_the_gradient_of_parts_is_that_of_the_batch_where_pictures_do_not_meet(course):
    """Without batch norm, that is: with layer norm a picture's gradient is its own."""
    network = "network={stem={channels=8}, stages=[{block='convnext', channels=8}], embedding=8}"
    gradients = []
    for parts in (1, 4):
        run = prepared(small(network, f"micro_batches={parts}", "label_smoothing=0"), course)
        run.objective.train()
        batch, whole = next(run.batches())
        for module in run.net.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
        loop.forward_backward(run, batch, whole)
        gradients.append([p.grad.clone() for p in run.objective.parameters()])
    for one, four in zip(*gradients, strict=True):
        torch.testing.assert_close(one, four, rtol=1e-4, atol=1e-6)


def test_a_picture_too_large_for_any_memory_is_an_error_with_advice(course):
    run = prepared(small(), course)
    run.forward = SmallMemory(run.forward, room=1)
    with pytest.raises(RunError, match="2 images do not fit into memory; lower image_size"):
        loop.train_step(run, *next(run.batches()))


@pytest.mark.parametrize("room", [1, 3, 12])
def test_where_judging_alone_runs_out_of_memory_it_goes_on_in_parts(course, reference, room):
    """Batch norm is folded away there, so a picture's answer does not depend on its company."""
    run = prepared(small(), course)
    run.net.load_state_dict(last(reference)["net"])
    expected = inference.evaluate(run.eval_forward(), run.dev_batches())

    class Narrow(torch.nn.Module):
        training = False

        def forward(self, images):
            if len(images) > room:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            return run.net(images)

    run.net.eval()
    assert inference.evaluate(Narrow(), run.dev_batches()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("task", ["classify", "embed"])
def test_predictions_go_on_in_parts_too(course, reference, monkeypatch, task):
    trained = predict.load_run(reference, "cpu")
    expected = getattr(predict, task)(trained, course.test.paths)
    sizes, embed = [], type(trained.net).embed

    def narrow(net, images):
        sizes.append(len(images))
        if len(images) > 5:
            raise RuntimeError("MPS backend out of memory")
        return embed(net, images)

    monkeypatch.setattr(type(trained.net), "embed", narrow)
    found = getattr(predict, task)(trained, course.test.paths)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-4, atol=1e-5)
    assert sizes[:3] == [12, 6, 3]


def test_one_picture_too_large_to_judge_is_an_error():
    def full(images):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(RunError, match="not one image fits into memory"):
        inference.in_parts(full, torch.zeros(6, 3, 8, 8))
    with pytest.raises(RuntimeError, match="size of tensor"):
        inference.in_parts(lambda images: images @ torch.zeros(5, 5, 5), torch.zeros(6, 3, 8, 8))


def test_other_errors_are_not_taken_for_a_lack_of_memory(course, monkeypatch):
    run = prepared(small(), course)
    calls = []

    def broken(*arguments):
        calls.append(1)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    run.forward = broken
    with pytest.raises(RuntimeError, match="mat1"):
        loop.train_step(run, *next(run.batches()))
    assert len(calls) == 1


# ------------------------------------------------------------------ what recipes can ask for

ENGINES = {
    "ema": ("ema_decay=0.9",),
    "micro-batches": ("micro_batches=3",),
    "clipped": ("grad_clip=0.5",),
    "bfloat16": ("precision=bfloat16",),
    "float16, with scaled gradients": ("precision=float16",),
    "sgd": ("optimizer=sgd", "momentum=0.99"),
    "restarts": ("schedule=restarts", "restart_epochs=1", "warmup_epochs=0"),
    "restarts within an epoch": ("schedule=restarts", "restart_epochs=0.4", "warmup_epochs=0"),
    "colours": ("pixel_mean=[0.3, 0.4, 0.5]", "pixel_std=[0.2, 0.3, 0.4]"),
    "plateau": ("schedule=plateau", "plateau_epochs=1"),
    "mixed": ("augment.mixup=0.4", "augment.cutmix=1"),
    "strong": ("augment.random_steps=2", "augment.blur=0.5", "augment.shear=5"),
    "two stages": ("margin_head=arcface", "margin_epochs=1", "ema_decay=0.5"),
}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_of_any_kind_stopped_in_either_epoch_resumes_to_the_same_bits(
    engine, course, tmp_path, at_step, monkeypatch
):
    recipe = small(*ENGINES[engine])

    def ask(run, totals):
        raise SystemExit

    fit(recipe, course, tmp_path / "whole", save_minutes=0)
    for number in (3, 5):
        with monkeypatch.context(), pytest.raises(SystemExit):
            at_step(number, ask)
            fit(recipe, course, tmp_path / "run", save_minutes=0)
        monkeypatch.undo()
        assert not last(tmp_path / "run")["progress"]["done"]
    fit(recipe, course, tmp_path / "run", save_minutes=0)
    states = [last(tmp_path / name) for name in ("whole", "run")]
    keys = "net", "auxiliary_loss", "ema", "optimizer", "scaler", "progress", "spec"
    for key in keys:
        assert digest(states[0][key]) == digest(states[1][key]), key
    assert all(row["train_loss"] > 0 for row in states[0]["progress"]["rows"])


def test_a_run_keeps_how_its_images_were_normalised(course, tmp_path):
    """What it was trained with is stored beside the network, and judges what it is shown."""
    recipe = small(*ENGINES["colours"], "epochs=1")
    fit(recipe, course, tmp_path)
    run = predict.load_run(tmp_path, "cpu")
    assert run.preprocess == recipe.preprocess() != small().preprocess()
    image = read_rgb(course.dev.paths[0]).resize((32, 32))
    pixels = torch.tensor(np.array(image) / 255, dtype=torch.float32)
    wanted = (pixels - torch.tensor([0.3, 0.4, 0.5])) / torch.tensor([0.2, 0.3, 0.4])
    judged = next(prepared(recipe, course).dev_batches()).images[0]
    torch.testing.assert_close(judged, wanted.permute(2, 0, 1), rtol=0, atol=1e-5)
    own = bring_own.images_of(recipe, course, CPU, lambda image: image, None, 0)
    assert own.preprocess == recipe.preprocess(), "with the reader's own transform, too"
    with pytest.raises(RunError, match=r"pixel_mean = \[0\.3, 0\.4, 0\.5\]"):
        fit(small("epochs=1"), course, tmp_path)


def test_the_running_average_is_what_is_judged_and_kept(course, tmp_path):
    fit(small("ema_decay=0.9", "epochs=1"), course, tmp_path)
    state, best = last(tmp_path), weights.load(tmp_path / "best.pt")
    assert digest(best["net"]) != digest(state["net"])
    run = prepared(small(), course)
    run.net.load_state_dict(best["net"])
    _, accuracy = inference.evaluate(run.eval_forward(), run.dev_batches())
    assert accuracy == state["progress"]["rows"][0]["dev_accuracy"]


def test_clipping_bounds_the_gradient(course, monkeypatch):
    lengths = []
    for limit in (0.0, 0.01):
        run = prepared(small(f"grad_clip={limit}"), course)
        run.objective.train()
        loop.train_step(run, *next(run.batches()))
        squares = sum(p.grad.square().sum() for p in run.objective.parameters())
        lengths.append(math.sqrt(squares))
    assert lengths[0] > 0.1
    assert lengths[1] == pytest.approx(0.01, rel=1e-3)


def test_the_margin_head_starts_at_the_class_means_of_the_trained_network(
    course, tmp_path, monkeypatch
):
    begun = []
    begin = margin_stage.begin

    def noting(run):
        trained = digest({k: v for k, v in run.net.state_dict().items() if "head" not in k})
        means = margin_stage.class_means(run)
        begin(run)
        begun.append((trained, means, run))
        kept = digest({k: v for k, v in run.net.state_dict().items() if "head" not in k})
        assert kept == trained
        torch.testing.assert_close(run.net.head.weight.detach(), F.normalize(means))

    monkeypatch.setattr(margin_stage, "begin", noting)
    recipe = small("epochs=4", "margin_epochs=2", "margin_head={name='arcface', scale=16}")
    history = fit(recipe, course, tmp_path)
    ((_, _, run),) = begun
    assert isinstance(run.net.head, ArcFace)
    assert len(history.rows) == 4
    assert predict.load_run(tmp_path).net.head.scale == 16
    assert last(tmp_path)["progress"]["best_epoch"] > 2


def test_mixed_pictures_are_learned_with_both_labels(course):
    run = prepared(small("augment.mixup=1", "label_smoothing=0"), course)
    batch, _ = next(run.batches())
    assert batch.targets_b is not None
    run.net.eval()
    loss, _ = run.objective(*batch)
    logs = run.net(batch.images).log_softmax(1)
    each = torch.arange(len(logs))
    own, other = -logs[each, batch.labels], -logs[each, batch.targets_b]
    torch.testing.assert_close(loss, (batch.lam * own + (1 - batch.lam) * other).mean())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("optimizer=lion",), "optimizer is one of: adamw, sgd"),
        (("schedule=steps",), "schedule is one of: cosine"),
        (("precision=int8",), "precision is one of"),
        (("compile=true",), "compile must be of type str"),
        (("micro_batches=0",), "micro_batches must be from 1"),
        (("margin_head=arcface",), "margin_head and margin_epochs go together"),
        (("margin_head=arcface", "margin_epochs=9"), "margin_epochs are more than its 2 epochs"),
        (("augment.mixup=1", "auxiliary_loss=center"), "two labels"),
        (("watch=1",), "watch must be of type bool"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, said):
    with pytest.raises(RecipeError, match=said):
        small(*changes)


# ------------------------------------------------------------------ the end of a session


def test_when_the_hours_are_up_it_saves_says_so_and_goes_on_later(course, tmp_path, reference):
    history = fit(small(), course, tmp_path / "run", max_hours=0)
    assert "the 0 hours are up after step 1 of 10" in history.stopped
    assert "the same call goes on" in history.stopped
    assert last(tmp_path / "run")["progress"]["step"] == 1
    history = fit(small(), course, tmp_path / "run", max_hours=5)
    assert history.stopped == ""
    assert digest(last(tmp_path / "run")["net"]) == digest(last(reference)["net"])


def test_a_run_whose_folder_is_lost_goes_on_from_the_mirror(course, tmp_path, reference):
    (tmp_path / "drive").mkdir()
    fit(small(), course, tmp_path / "run", mirror=tmp_path / "drive", max_hours=0)
    shutil.rmtree(tmp_path / "run")
    fit(small(), course, tmp_path / "run", mirror=tmp_path / "drive")
    assert digest(last(tmp_path / "run")["net"]) == digest(last(reference)["net"])


def test_a_run_in_use_is_refused(course, tmp_path):
    (tmp_path / "run").mkdir()
    with only_one(tmp_path / "run"), pytest.raises(RunError, match="in use"):
        fit(small(), course, tmp_path / "run")


def test_changed_pictures_are_refused_and_nothing_is_lost(copy_of_course, tmp_path):
    data = CourseData(copy_of_course)
    fit(small(), data, tmp_path / "run", max_hours=0)
    shutil.copy(data.train.paths[1], data.train.paths[0])
    before = digest(last(tmp_path / "run"))
    with pytest.raises(RunError, match="the train images have changed"):
        fit(small(), CourseData(copy_of_course), tmp_path / "run")
    assert digest(last(tmp_path / "run")) == before


def test_the_newest_state_damaged_the_one_before_is_used(course, tmp_path, reference, capsys):
    fit(small("epochs=2"), course, tmp_path / "run")
    newest = Checkpoints(tmp_path / "run").newest()
    newest.write_bytes(newest.read_bytes()[:-500])
    fit(small(), course, tmp_path / "run")
    assert newest.with_name(newest.name + ".damaged").exists()
    assert digest(last(tmp_path / "run")["net"]) == digest(last(reference)["net"])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_run_says_that_other_programs_compute(course, tmp_path, capsys):
    others = [
        subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=-1)
        for _ in range(os.cpu_count())
    ]
    try:
        for other in others:
            other.stdout.readline()
        training.fit(small(), course, tmp_path / "run", device="cpu")
    finally:
        for other in others:
            other.kill()
            other.wait()
            other.stdout.close()
    assert re.search(r"^other programs: \d+ \(they compute, too, on", capsys.readouterr().out, re.M)


def test_a_run_says_what_it_was_asked_and_what_it_found(course, reference):
    found = json.loads((reference / "environment.json").read_text())
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert found["choices"]["precision"]["value"] == "torch.float32"
    assert found["data"] == last(reference)["content"]
    # Repeated from its own folder, it is the same run.
    asked = json.loads((reference / "recipe.json").read_text())
    assert recipes.load(reference / "recipe.json") == small()
    assert asked == small().as_dict()


def test_whoever_wants_to_know_is_told_after_each_epoch(course, tmp_path):
    told = []
    fit(small(), course, tmp_path, on_epoch=lambda history: told.append(len(history.rows)))
    assert told == [1, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_number_of_threads_changes_nothing(workers, course, tmp_path, reference):
    fit(small(), course, tmp_path, workers=workers)
    assert digest(last(tmp_path)["net"]) == digest(last(reference)["net"])


def test_batches_are_the_feeds_to_the_end_of_the_epoch(course):
    run = prepared(small(), course)
    whole = [batch for batch, _ in run.batches()]
    run.progress.step = 2
    rest = [batch for batch, _ in run.batches()]
    assert len(rest) == 3
    for mine, other in zip(rest, whole[2:], strict=True):
        assert isinstance(mine, Batch)
        assert torch.equal(mine.images, other.images)


def test_bad_pictures_are_named_before_training(copy_of_course, tmp_path):
    path = CourseData(copy_of_course).dev.paths[3]
    path.write_bytes(b"no image")
    with pytest.raises(DataError, match=path.name):
        fit(small(), CourseData(copy_of_course), tmp_path / "run")


def test_a_trials_batches_are_the_runs_own_without_augmentation_and_have_no_end(course):
    run, other = prepared(small("augment.crop_scale=0.3"), course), prepared(small(), course)
    steps = len(list(run.sampler(0)))
    for size in (None, 3):
        seen = [next(batches) for batches in [plain_batches(run, size)] for _ in range(2 * steps)]
        keys = [keys[:size] for epoch in (0, 1) for keys in run.sampler(epoch)]
        other.loader.augment = None  # judged as they are
        for batch, plain in zip(seen, other.loader.batches(keys), strict=True):
            torch.testing.assert_close(batch.images, plain.images)
            assert torch.equal(batch.labels, plain.labels)


def test_a_run_augments_again_after_a_trial(course):
    run = prepared(small("augment.crop_scale=0.3"), course)
    first, _ = next(run.batches())
    plain = next(plain_batches(run))
    again, _ = next(run.batches())
    assert torch.equal(first.images, again.images)
    assert not torch.allclose(first.images, plain.images)
