"""A training step that does not fit into memory is taken again in smaller pieces."""

from collections.abc import Callable

import torch
from tqdm.auto import tqdm

from facekit.common.errors import RunError
from facekit.data.loader import Batch
from facekit.evaluation.inference import is_out_of_memory
from facekit.training.run import Run


def halve_until_it_fits(
    forward_backward: Callable[[Run, Batch, int], torch.Tensor],
    run: Run,
    batch: Batch,
    batch_size: int,
) -> torch.Tensor:
    """What `forward_backward` returns, once it fits into the memory of every process.

    Where one runs out, all send half as many images at once from there on, and take the step
    again: a process that went on alone would wait for the others' gradients for ever. RunError
    when there is nothing left to halve.
    """
    while True:
        try:
            totals = forward_backward(run, batch, batch_size)
            too_large = False
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            too_large = True
        (too_large_anywhere,) = run.world.all_reduce_max(too_large)
        if not too_large_anywhere:
            return totals
        _halve(run, len(batch.labels))


def _halve(run: Run, images: int) -> None:
    if run.progress.micro_batches * 2 > max(1, images // 2):
        fewest = -(-images // run.progress.micro_batches)
        raise RunError(
            f"{run.out}: even {fewest} images do not fit into memory; lower image_size or choose "
            "a smaller network"
        )
    run.progress.micro_batches *= 2
    if run.device.type == "cuda":
        torch.cuda.empty_cache()
    if run.world.is_main:
        count = run.progress.micro_batches
        tqdm.write(f"out of memory: batches now go through in {count} micro-batches")
