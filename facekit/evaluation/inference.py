"""A network asked, not trained: its loss and accuracy on images, in parts that fit into memory."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import torch
from torch import nn
from torch.nn import functional as F

from facekit.common.errors import RunError
from facekit.data.loader import Batch
from facekit.models.fold import fold_batch_norm


def alone(totals: torch.Tensor) -> torch.Tensor:
    """The sum over one process."""
    return totals


@torch.no_grad()  # inference mode marks tensors made inside: compiled code would differ for them
def evaluate(
    net: nn.Module,
    batches: Iterable[Batch],
    precision: torch.dtype = torch.float32,
    all_reduce: Callable[[torch.Tensor], torch.Tensor] = alone,
) -> tuple[float, float]:
    """Mean cross-entropy and accuracy over all images, each counted once, seen from both sides.

    The logits are the mean of an image's and its mirror image's, as in predictions. A network in
    training mode is left so: a copy is judged. `all_reduce` sums over the processes that share the
    batches.
    """
    if net.training:
        net = fold_batch_norm(net)
    device = next((weights.device for weights in net.parameters()), torch.device("cpu"))
    # Losses, right answers, images: summed up where they are, for a GPU would be waited for.
    dtype = sum_dtype(device)
    totals = torch.zeros(3, dtype=dtype, device=device)

    def both_sides(images: torch.Tensor) -> torch.Tensor:
        with forward_precision(images.device, precision):
            return (net(images).float() + net(images.flip(-1)).float()) / 2

    for images, labels, *_ in batches:
        logits = in_parts(both_sides, images)  # (B, C)
        loss = F.cross_entropy(logits, labels, reduction="sum")
        correct = (logits.argmax(1) == labels).sum()
        count = torch.full_like(correct, len(labels))
        totals += torch.stack([loss.to(dtype), correct, count]).to(device)
    loss_sum, correct_sum, count = all_reduce(totals).tolist()
    return loss_sum / count, correct_sum / count


def sum_dtype(device: torch.device) -> torch.dtype:
    """What sums over many images are kept in: double precision, which Apple's GPUs lack."""
    return torch.float32 if device.type == "mps" else torch.float64


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or the processor's memory, is full."""
    words = "out of memory", "can't allocate", "ALLOC_FAILED"  # the last: cuBLAS, cuDNN
    return any(word in str(error) for word in words)


def in_parts(function: Callable, images: torch.Tensor) -> torch.Tensor:
    """`function` of the images (B, ...), which looks at each alone, in parts that fit into memory.

    Raises RunError where not even one does.
    """
    parts = 1
    while parts < 2 * len(images):
        try:
            return torch.cat([function(part) for part in images.chunk(parts)])
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        parts *= 2
        if images.device.type == "cuda":
            torch.cuda.empty_cache()
    raise RunError("not one image fits into memory; free some, or train a smaller network")


def forward_precision(device: torch.device, precision: torch.dtype) -> AbstractContextManager:
    """The context of a forward pass whose products are of that type."""
    if precision == torch.float32:
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, precision)
