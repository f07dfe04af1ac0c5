"""The learning rate of a step: of the step alone, or ("plateau") of the dev accuracies, too.

There is no scheduler to save and to restore. Built in notebook 04.
"""

import math
from collections.abc import Sequence

from facekit.training.recipe import Recipe


def lr_at(
    recipe: Recipe, step: int, steps_per_epoch: int, dev_accuracies: Sequence[float] = ()
) -> float:
    """The learning rate of a step, counted over the whole run, by the recipe's schedule.

    `dev_accuracies` are those of the epochs done, which "plateau" looks at. A function of its
    arguments alone: there is no scheduler to save and to restore.
    """
    steps = recipe.epochs * steps_per_epoch
    peak = recipe.lr
    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    if recipe.schedule == "onecycle":
        return one_cycle(step, steps, peak)  # climbs by itself
    if recipe.schedule == "cosine" or step < warmup:
        return warmup_cosine(step, steps, warmup, peak)
    if recipe.schedule == "restarts":
        length = max(1, round(recipe.restart_epochs * steps_per_epoch))
        return warmup_cosine((step - warmup) % length, length, 0, peak)
    if recipe.schedule == "plateau":
        return peak * 0.5 ** plateaus(dev_accuracies, recipe.plateau_epochs)
    return peak


def warmup_cosine(step: int, steps: int, warmup: int, peak: float) -> float:
    """The rate of step 0 ... steps - 1: a straight climb to `peak`, then half a cosine to zero."""
    if step < warmup:
        return peak * ((step + 1) / warmup)  # exactly the peak at the end of the climb
    done = (step - warmup) / max(1, steps - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


def one_cycle(step: int, steps: int, peak: float) -> float:
    """From peak / 25 up to it in 30 % of the steps, and down to peak / 250,000, by half cosines
    (Smith and Topin 2018, arXiv 1708.07120)."""
    last = steps - 1
    top = 0.3 * steps - 1
    if step <= top:
        start = peak / 25
        end = peak
        done = step / top
    else:
        start = peak
        end = peak / 250_000
        done = (step - top) / (last - top)
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))


def plateaus(accuracies: Sequence[float], patience: int) -> int:
    """How often more than `patience` epochs in a row brought no better accuracy."""
    best = -math.inf
    waited = 0
    count = 0
    for accuracy in accuracies:
        waited = 0 if accuracy > best else waited + 1
        best = max(best, accuracy)
        if waited > patience:
            waited = 0
            count += 1
    return count
