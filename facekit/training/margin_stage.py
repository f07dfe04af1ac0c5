"""The last epochs of a run with a margin head, begun at the class means of the trained network."""

import math

import torch
from torch.nn import functional as F

from facekit.data.transforms import NOTHING
from facekit.models import heads
from facekit.training.callbacks import Callback
from facekit.training.optim import EMA
from facekit.training.run import Run


class MarginStage(Callback):
    """Puts the recipe's `margin_head` on the network for the last `margin_epochs`.

    From the class means it needs no long climb, on which margins so often get lost. The optimiser
    starts afresh, and so does the search for the best epoch: the heads are not to be compared.
    """

    def before_epoch(self, run: Run) -> None:
        recipe = run.recipe
        progress = run.progress
        is_due = progress.epoch >= recipe.epochs - recipe.margin_epochs
        if recipe.margin_head and is_due and not progress.margin_stage:
            begin(run)


def begin(run: Run) -> None:
    """Replace the head, the optimiser and the average; the network's other weights stay."""
    means = class_means(run)
    trained = run.net.state_dict()
    run.build(run.recipe.margin_head)
    kept = {key: value for key, value in trained.items() if not key.startswith("head.")}
    run.net.load_state_dict(kept, strict=False)
    run.net.head.start_from_means(means)
    if run.ema:
        run.ema = EMA(run.net, run.recipe.ema_decay)
    run.progress.margin_stage = True
    run.progress.best_accuracy = -1.0
    run.progress.untrained_loss = math.inf
    run.compile()


@torch.inference_mode()
def class_means(run: Run) -> torch.Tensor:
    """The mean embedding, of length 1, of each class: (C, D)."""
    run.net.eval()
    run.loader.augment = NOTHING
    embeddings = []
    labels = []
    for batch in run.loader.in_order(2 * run.recipe.batch_size):
        embeddings.append(run.net.embed(batch.images).float())
        labels.append(batch.labels)
    unit = F.normalize(torch.cat(embeddings))
    return heads.class_means(unit, torch.cat(labels), len(run.data.classes))
