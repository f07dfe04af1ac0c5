"""The learning rate range test, and one batch learnt by heart: two trials before a long run.

Both leave everything as it was. Built in notebook 04.
"""

import copy
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, count

import numpy as np
import pandas as pd
import torch
from torch import nn

from facekit.common.errors import RunError
from facekit.common.keyed_random import seed_gpu
from facekit.data.transforms import NOTHING
from facekit.training.optim import set_lr


class _Trial:
    """A copy of an objective and its optimiser, to take steps with."""

    def __init__(self, objective: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        # Copied together, so that the optimiser's copy holds the parameters of the objective's.
        self.objective, self.optimizer = copy.deepcopy((objective, optimizer))
        self.objective.train()
        device = next(objective.parameters()).device.type
        scaled = getattr(objective, "precision", None) == torch.float16
        self.scaler = torch.amp.GradScaler(device, enabled=scaled)

    def step(self, batch) -> tuple[float, float]:
        """One step on a mixing.Batch: the loss and the accuracy before it."""
        loss, logits = self.objective(*batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        right = logits.detach().argmax(1) == batch.labels
        return loss.item(), right.float().mean().item()


def plain_batches(run, size: int | None = None) -> Iterator:
    """The training batches of a prepared run.Run without augmentation, epoch after epoch.

    Of the first `size` images of each, where that is given. There is no end to them.
    """
    run.loader.augment = NOTHING  # until the run itself goes on: run.batches chooses anew
    batches = chain.from_iterable(map(run.sampler, count()))
    yield from run.loader.batches(keys[:size] for keys in batches)


@contextmanager
def _own_numbers(objective: nn.Module) -> Iterator[None]:
    """Random numbers for dropout, always the same; outside, those to come stay as they were."""
    device = next(objective.parameters()).device
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(gpus):
        torch.default_generator.manual_seed(0)
        seed_gpu(device, 0)
        yield


def range_test(
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable,
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 100,
) -> pd.DataFrame:
    """The loss while the learning rate grows from `low` to `high` by the same factor each step
    (Smith 2017, arXiv 1506.01186): columns lr, loss and smoothed.

    `batches` are mixing.Batch on the objective's device; give `steps` of them, going through the
    images again where an epoch has fewer. Ends early when the loss is no number or the smoothed
    loss 4 times its lowest. Works on copies; outside, nothing changes. Raises RunError when the
    batches run out.
    """
    rows: list[dict] = []
    best = math.inf
    trial = _Trial(objective, optimizer)
    lrs = np.geomspace(low, high, steps)
    with _own_numbers(objective):
        for row in _climb(trial, batches, lrs.tolist()):
            rows.append(row)
            best = min(best, row["smoothed"])
            if not row["smoothed"] <= 4 * best:  # true for NaN, too
                break
        else:
            if len(rows) < steps:
                raise RunError(f"range test: {len(rows)} batches are too few for {steps} steps")
    return pd.DataFrame(rows)


def _climb(trial: _Trial, batches: Iterable, lrs: list[float]) -> Iterator[dict]:
    """A row for each learning rate.

    The smoothed loss is an average in which each step weighs 0.8 of the next: it lags four steps
    behind, which is a quarter of a power of ten in 100 steps from 1e-6 to 1.
    """
    total = 0.0
    weights = 0.0
    for lr, batch in zip(lrs, batches, strict=False):
        set_lr(trial.optimizer, lr)
        loss, _ = trial.step(batch)
        total = 0.8 * total + loss
        weights = 0.8 * weights + 1
        yield {"lr": lr, "loss": loss, "smoothed": total / weights}


def suggest(frame: pd.DataFrame) -> float:
    """A learning rate from a range test: a third of a power of ten below the steepest fall.

    Steepest of the smoothed loss over the logarithm of the learning rate, up to its lowest place,
    without the first tenth of the steps, which smoothing needs to settle. There training is
    quickest, for a few steps; it is a peak to try, not a promise. The third makes up for the lag
    of smoothing, and for a little more where the test's range is short.
    Raises RunError when the loss never fell.
    """
    settled = frame.iloc[len(frame) // 10 :]
    fall = settled.loc[: settled["smoothed"].idxmin()]
    if len(fall) < 3:
        raise RunError(
            "range test: the loss never fell; begin at a lower rate, or look at the data"
        )
    slope = np.gradient(fall["smoothed"], np.log10(fall["lr"]))
    return float(fall["lr"].iloc[slope.argmin()] / 10 ** (1 / 3))


def overfit_one_batch(
    objective: nn.Module, optimizer: torch.optim.Optimizer, batch, steps: int = 60
) -> pd.DataFrame:
    """So many steps on one and the same batch, on copies: columns loss and accuracy.

    What cannot learn a batch by heart has a fault: in the labels, the loss or the network. The
    rate is the optimiser's; dropout is on, so the accuracy need not reach 1 with much of it.
    """
    trial = _Trial(objective, optimizer)
    with _own_numbers(objective):
        rows = [trial.step(batch) for _ in range(steps)]
    return pd.DataFrame(rows, columns=["loss", "accuracy"])
