"""What is compiled: seen by a backend that notes each graph and runs it as it is."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from facekit import training
from facekit.data.layout import CourseData
from facekit.training import loop
from facekit.training import recipe as recipes

TWO_STAGES = "margin_head=arcface", "margin_epochs=2"


class Graphs:
    """A backend for torch.compile."""

    def __init__(self) -> None:
        self.inputs: list[list] = []  # of each graph

    def __call__(self, graph: torch.fx.GraphModule, inputs: list) -> Callable:
        self.inputs.append(inputs)
        return graph.forward

    def batches(self) -> list[int]:
        """How many images each graph is for."""
        sizes = []
        for inputs in self.inputs:
            images = [i for i in inputs if isinstance(i, torch.Tensor) and i.shape[1:2] == (3,)]
            sizes += [len(batch) for batch in images if batch.shape[-1] == 32]
        return sizes


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Graphs]:
    found = Graphs()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=found))
    torch._dynamo.reset()
    yield found
    torch._dynamo.reset()


def fit(course: CourseData, out: Path, *changes: str) -> training.History:
    """Four epochs of steps of 10 images, and one of the rest; judged on 12 at once."""
    settings = ["epochs=4", "batch_size=10", "image_size=32", "warmup_epochs=1", "compile=yes"]
    recipe = recipes.load("smoke", [*settings, "precision=float32", *changes])
    return training.fit(recipe, course, out, "cpu", progress=False)


def test_every_shape_has_one_graph_of_its_own_over_all_epochs(course, tmp_path, graphs):
    fit(course, tmp_path / "run")
    left = len(course.train) % 10
    assert left > 1
    assert sorted(graphs.batches()) == [left, 10, 12]
    for inputs in graphs.inputs:
        assert not any(isinstance(value, torch.SymInt) for value in inputs)


def test_a_run_is_compiled_in_either_stage_and_after_it_was_resumed_there(
    course, tmp_path, graphs, monkeypatch
):
    fit(course, tmp_path / "whole", *TWO_STAGES)
    whole = sorted(graphs.batches())
    assert whole == sorted(2 * [len(course.train) % 10, 10, 12])

    class Enough(Exception):
        pass

    step = loop.train_step

    def stop(run, *rest):
        if run.progress.margin_stage and run.progress.step == 2:
            raise Enough
        return step(run, *rest)

    monkeypatch.setattr(loop, "train_step", stop)
    with pytest.raises(Enough):
        fit(course, tmp_path / "run", *TWO_STAGES, "patience=0")
    monkeypatch.setattr(loop, "train_step", step)
    torch._dynamo.reset()
    graphs.inputs.clear()
    fit(course, tmp_path / "run", *TWO_STAGES)
    assert sorted(graphs.batches()) == [len(course.train) % 10, 10, 12]
