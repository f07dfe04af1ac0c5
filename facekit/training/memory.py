"""A training step that does not fit into memory is taken again in smaller pieces."""

from collections.abc import Callable

import torch
from tqdm.auto import tqdm

from facekit.common.errors import RunError
from facekit.data.loader import Batch
from facekit.evaluation.inference import is_out_of_memory
from facekit.training import distributed
from facekit.training.run import Run


def halve_until_it_fits(
    forward_backward: Callable[[Run, Batch, int], torch.Tensor],
    run: Run,
    batch: Batch,
    batch_size: int,
) -> torch.Tensor:
    """What `forward_backward` returns, once it fits into memory.

    Where it does not, half as many images are sent through at once from there on, and the step is
    taken again. RunError when there is nothing left to halve. `batch` is this process's part of
    one of `batch_size` images.
    """
    if run.world.size > 1:
        _agree(forward_backward, run, batch, batch_size)
        return forward_backward(run, batch, batch_size)
    while True:
        totals = _attempt(forward_backward, run, batch, batch_size)
        if totals is not None:
            return totals
        _halve(run, len(batch.labels))


def _attempt(
    forward_backward: Callable, run: Run, batch: Batch, batch_size: int
) -> torch.Tensor | None:
    """What `forward_backward` returns; None where memory is short."""
    try:
        return forward_backward(run, batch, batch_size)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    return None


def _agree(forward_backward: Callable, run: Run, batch: Batch, batch_size: int) -> None:
    """Halve until a step of this size fits into the memory of every process.

    The first step of each size is tried by each process for itself, with nothing summed: one that
    ran out of memory in the middle would leave the others waiting for its gradients.
    """
    if (batch_size, run.progress.micro_batches) in run.fitting:
        return
    data_parallel, run.data_parallel = run.data_parallel, None
    short = True
    while short:
        buffers = {name: buffer.clone() for name, buffer in run.objective.named_buffers()}
        fits = _attempt(forward_backward, run, batch, batch_size) is not None
        for name, before in buffers.items():
            run.objective.get_buffer(name).copy_(before)
        (short,) = run.world.all_reduce_max(not fits)
        if short:
            _halve(run, len(batch.labels))
    run.fitting.add((batch_size, run.progress.micro_batches))
    trained = [weights for weights in run.objective.parameters() if weights.requires_grad]
    some_unused = any(weights.grad is None for weights in trained)
    run.data_parallel = data_parallel or distributed.data_parallel(run.forward, some_unused)


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
