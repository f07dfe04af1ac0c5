"""What a reader's own transform, data set and collate_fn gave: checked, and made one batch.

All of it runs where the images are read, in a worker process as a rule. Whatever is wrong is
raised as BatchError, in one sentence that names the image.
"""

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from facekit.common.errors import BatchError, FacekitError

# Float values so far outside 0 ... 1 pass: bicubic resizing overshoots by so much at sharp edges.
SLACK = 0.1
KIT = str(Path(__file__).parents[1])
WANTED = "a tensor (3, height, width), uint8 or float in 0 ... 1, is wanted"


def split_item(item: Any, name: str) -> tuple[Any, Any]:
    """Image and label of one item. Raises BatchError for anything but two things."""
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise BatchError(
            f"{name}: the data set gave {_kind(item)}; an image and its label are wanted"
        )
    return item[0], item[1]


def as_image(result: Any, name: str) -> Tensor:
    """What a transform made of an image, as a tensor (3, height, width). BatchError if it is none.

    A PIL image is turned into a tensor.
    """
    if isinstance(result, Image.Image):
        result = functional.to_image(result.convert("RGB"))
    if not isinstance(result, Tensor):
        raise BatchError(f"{name}: the transform gave {_kind(result)}; {WANTED} (v2.ToImage())")
    image = result.as_subclass(Tensor).detach().cpu()
    if image.ndim != 3 or image.shape[0] != 3:
        advice = ""
        if image.ndim == 3 and image.shape[0] == 1:
            advice = "; v2.Grayscale(3) keeps three channels"
        raise BatchError(f"{name}: the transform gave {_kind(image)}; {WANTED}{advice}")
    return image


def stack(images: Sequence[Tensor], names: Sequence[str]) -> Tensor:
    """Images as one tensor (B, 3, height, width). BatchError if they differ in size or type."""
    first = images[0]
    for image, name in zip(images, names, strict=True):
        if image.shape != first.shape or image.dtype != first.dtype:
            raise BatchError(
                f"{name}: the transform gave {_kind(image)}, and of {names[0]} {_kind(first)}; all "
                "images of a batch must have one size and type: end with "
                "v2.Resize((size, size)), say"
            )
    return torch.stack(list(images))


def check_images(images: Any, count: int) -> Tensor:
    """A batch of `count` images as it is before normalisation; BatchError if it is none.

    uint8, or float of about 0 ... 1, which becomes float32: (B, 3, height, width).
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[:2] != (count, 3):
        raise BatchError(
            f"a batch of {count} images came as {_kind(images)}; a tensor ({count}, 3, height, "
            "width) is wanted"
        )
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise BatchError(
            f"the transform gave values of type {_type(images)}; uint8 in 0 ... 255 or float in "
            "0 ... 1 is wanted"
        )
    low, high = (float(value) for value in images.aminmax())
    if low >= -SLACK and high <= 1 + SLACK:
        return images.float()
    if low >= 0 and high > 10:
        advice = "end with v2.ToDtype(torch.float32, scale=True), which brings them to 0 ... 1"
    else:
        advice = "leave Normalize out; the kit normalises, the same way for dev and test images"
    raise BatchError(f"the transform gave values from {low:.4g} to {high:.4g}: {advice}")


def check_labels(labels: Any, wanted: Tensor, names: Sequence[str]) -> None:
    """Raise BatchError unless a batch has the labels that the data set lists for these items."""
    if not isinstance(labels, Tensor | list | tuple):
        raise BatchError(f"the labels of a batch came as {_kind(labels)}; a tensor is wanted")
    try:
        labels = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        labels = torch.empty(0, 0)
    if labels.shape != wanted.shape or labels.is_floating_point():
        raise BatchError(
            f"the labels of a batch of {len(wanted)} came as {_kind(labels)}; one class index for "
            "each image is wanted (images are mixed by the recipe's mixup and cutmix, not here)"
        )
    for label, expected, name in zip(labels.tolist(), wanted.tolist(), names, strict=True):
        if label != expected:
            raise BatchError(
                f"{name}: came with label {label}, and the data set lists {expected} for it; both "
                "must be the same, and the order of a batch must stay"
            )


def guarded(call: Callable, argument: Any, name: str, what: str) -> Any:
    """`call(argument)`; any error in it becomes a BatchError that says in which line it happened.

    The kit's own errors, which name their file already, stay as they are.
    """
    try:
        return call(argument)
    except FacekitError:
        raise
    except Exception as error:  # the reader's own code may raise anything
        place = _line_of(error)
        said = str(error).splitlines() or [""]
        raise BatchError(
            f"{name}: {what} raised {type(error).__name__}: {said[0]} "
            f"(in {place.name}, line {place.lineno} of {place.filename})"
        ) from error


def _line_of(error: Exception) -> traceback.FrameSummary:
    """Where it happened in the reader's code; where that has no part in it, the very place."""
    places = traceback.extract_tb(error.__traceback__)
    theirs = []
    for place in places:
        if KIT not in place.filename and "site-packages" not in place.filename:
            theirs.append(place)
    return (theirs or places)[-1]


def _kind(thing: Any) -> str:
    if isinstance(thing, Tensor):
        return f"a tensor {tuple(thing.shape)} of {_type(thing)}"
    if isinstance(thing, tuple | list):
        return f"a {type(thing).__name__} of {len(thing)}"
    return f"a {type(thing).__module__}.{type(thing).__name__}".replace("a builtins.", "a ")


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
