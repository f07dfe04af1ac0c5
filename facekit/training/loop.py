"""The training loop, whole. Built in notebook 04.

In one column: batches, learning rate, forward, loss, backward, update; after an epoch, the dev
images. Whatever else a run does hangs on it by events (callbacks.py): guards, which also bring the
sums of an epoch together, saving, stopping, a margin head at the end, progress bar, curves. A step
that does not fit into memory is made smaller in memory.py.
"""

import torch
from torch import nn

from facekit.data.loader import Batch
from facekit.evaluation.inference import evaluate
from facekit.training.callbacks import Callbacks
from facekit.training.distributed import slices
from facekit.training.memory import halve_until_it_fits
from facekit.training.optim import set_lr
from facekit.training.run import Run, keyed_dropout


def train(run: Run, callbacks: Callbacks) -> None:
    """Epoch after epoch until the recipe or its patience ends the run, or a callback raises."""
    while not run.progress.done:
        callbacks.before_epoch(run)
        train_epoch(run, callbacks)
        loss, accuracy = evaluate(run.eval_forward(), run.dev_batches(), run.precision.value,
                                  run.world.all_reduce)  # fmt: skip
        row = run.end_epoch(loss, accuracy, **run.judge_pairs())
        callbacks.after_epoch(run, row)


def train_epoch(run: Run, callbacks: Callbacks) -> None:
    """One epoch, or what is left of it after an interruption."""
    run.objective.train()
    for batch, batch_size in run.batches():
        set_lr(run.optimizer, run.lr_at(run.step))
        run.totals += train_step(run, batch, batch_size)
        run.progress.step += 1
        callbacks.after_step(run)


def train_step(run: Run, batch: Batch, batch_size: int) -> torch.Tensor:
    """Change the weights once: the sum of the losses, right answers and images (3,).

    `batch` is this process's part of one of `batch_size` images over all processes.
    """
    totals = halve_until_it_fits(forward_backward, run, batch, batch_size)
    run.world.average_buffers(run.objective)
    run.scaler.unscale_(run.optimizer)
    if run.recipe.grad_clip:
        nn.utils.clip_grad_norm_(run.objective.parameters(), run.recipe.grad_clip)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    if run.ema:
        run.ema.update(run.net)
    return totals


def forward_backward(run: Run, batch: Batch, batch_size: int) -> torch.Tensor:
    """Leave the gradient of the batch's mean loss in the weights; totals as in `train_step`.

    The batch goes through in micro-batches where memory is short: their gradients add up to the
    batch's. Batch norm then sees fewer images at once. Of several processes, the last of these
    backward passes leaves the mean of all processes' gradients.
    """
    run.optimizer.zero_grad(set_to_none=True)
    totals = torch.zeros_like(run.totals)
    parts = slices(len(batch.labels), run.progress.micro_batches)
    for number, rows in enumerate(parts):
        images, labels, targets_b, lam = batch.rows(rows)  # (b, 3, H, W), (b,), (b,), (b,)
        forward = run.forward
        if run.data_parallel and rows is parts[-1]:
            forward = run.data_parallel
        with keyed_dropout(run, number):
            loss, logits = forward(images, labels, targets_b, lam)  # (), (b, C)
        run.scaler.scale(loss * (run.world.size * len(labels) / batch_size)).backward()
        # Against the margin, where the head has one, so it climbs later than dev's accuracy.
        correct = (logits.detach().argmax(1) == labels).sum()
        count = torch.full_like(correct, len(labels))
        totals += torch.stack([loss.detach().to(totals) * len(labels), correct, count])
    return totals
