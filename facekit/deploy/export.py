"""A trained run as one ONNX file, which phones, browsers and other languages run without the kit.

From the pixels of a file to logits and embedding: resizing, normalising and the mirror image are
in it, so that nobody has to build them anew and get them a little wrong.
"""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import numpy as np
import torch
from torch import nn
from torch.export import Dim

from facekit.common.errors import FacekitError, RunError
from facekit.common.kit import install_command
from facekit.evaluation.embed import TrainedRun
from facekit.models.fold import evaluation_copy, fold_batch_norm

OUTPUTS = ["logits", "embedding"]
PARTS = 2.0**22  # Pillow keeps the weights of its filter as whole numbers of such parts
TRIALS = (2, 50, 40, 3), (3, 60, 70, 3)  # a batch to export with, and another to try the file with
TOLERANCE = 1e-3  # between the file's outputs and the network's own, relative or absolute


class Resize(nn.Module):
    """uint8 (B, H, W, 3) -> whole levels, float64 (B, 3, size, size), as `Preprocess` resizes.

    Bit by bit what Pillow makes of an image: bilinear, wider where it shrinks, across and then
    down, rounded to levels after both. Of images more than twice as tall as wide, which newer
    versions of Pillow take the other way round, some pixels may be one level off.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[1:3]
        shorter = torch.sym_min(height, width)
        pixels = images.permute(0, 3, 1, 2).double()  # in which these sums are exact
        pixels = _levels(pixels @ self._weights(width, shorter).T)  # (B, 3, H, size)
        return _levels(self._weights(height, shorter) @ pixels)

    def _weights(self, length: int, shorter: int) -> torch.Tensor:
        """How much of each place in a row is in each place of the crop: float64 (size, length)."""
        old = torch.scalar_tensor(length, dtype=torch.float64)  # a tensor: any length will do
        resized = torch.floor(self.size * old / shorter)
        start = torch.round((resized - self.size) / 2)  # of the crop in the middle
        scale = old / resized
        centres = (torch.arange(self.size, dtype=torch.float64) + start + 0.5) * scale
        places = torch.arange(length, dtype=torch.float64) + 0.5
        distances = (places - centres[:, None]) / scale.clamp(min=1)
        weights = (1 - distances.abs()).clamp(min=0)
        weights = weights / weights.sum(1, keepdim=True)
        return torch.floor(weights * PARTS + 0.5)


def _levels(sums: torch.Tensor) -> torch.Tensor:
    """Rounded to whole levels, 0 ... 255."""
    return torch.floor(sums / PARTS + 0.5).clamp(0, 255)


class Exported(nn.Module):
    """uint8 images (B, H, W, 3) -> logits (B, C) and embedding (B, D), as `embed` makes them.

    Both are means over the image and its mirror image.
    """

    def __init__(self, run: TrainedRun) -> None:
        super().__init__()
        self.net = fold_batch_norm(evaluation_copy(run.net).cpu())
        self.resize = Resize(run.preprocess.size)
        self.unit = run.measure == "cosine"
        mean, std = run.preprocess.scale(torch.device("cpu"))
        self.register_buffer("mean", mean.clone().view(3, 1, 1))
        self.register_buffer("std", std.clone().view(3, 1, 1))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = (self.resize(images).float() / 255 - self.mean) / self.std
        logits, embedding = self._ask(pixels)
        logits_mirrored, embedding_mirrored = self._ask(pixels.flip(-1))
        logits = (logits + logits_mirrored) / 2
        embedding = (embedding + embedding_mirrored) / 2
        if self.unit:
            embedding = embedding / embedding.norm(dim=1, keepdim=True).clamp(min=1e-12)
        return logits, embedding

    def _ask(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding, features = self.net.features(pixels)
        if embedding is None:  # a network of the reader's own may need a second pass
            embedding = self.net.embed(pixels)
        return self.net.head(features), embedding


def to_onnx(run: TrainedRun) -> bytes:
    """The run as the content of an ONNX file, which was tried with onnxruntime.

    Input `images`: RGB, uint8 (B, H, W, 3), of any size. Outputs `logits` (B, C) and `embedding`
    (B, D) of `Exported`. Its metadata say `classes` (a JSON list, by logit), `measure` (how
    embeddings are compared) and `size` (the pixels that the network sees). Raises FacekitError
    where a package is missing, RunError for a network that cannot be exported.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise FacekitError(f"{error.name} is not installed: {install_command('export')}") from error
    network = Exported(run).eval()
    generator = torch.Generator().manual_seed(0)
    first, other = (
        torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for shape in TRIALS
    )
    program = _exported(run, network, first)
    program.model.metadata_props.update(
        classes=json.dumps(run.classes), measure=run.measure, size=str(run.preprocess.size)
    )
    content = program.model_proto.SerializeToString()
    _try(run, network, content, other)
    return content


@torch.no_grad()
def _exported(run: TrainedRun, network: Exported, images: torch.Tensor) -> "torch.onnx.ONNXProgram":
    shapes = {"images": {0: Dim.DYNAMIC, 1: Dim.DYNAMIC, 2: Dim.DYNAMIC}}
    try:
        with _quiet():
            graph = torch.export.export(network, (images,), dynamic_shapes=shapes, strict=False)
            return torch.onnx.export(graph, dynamo=True, verbose=False, output_names=OUTPUTS)
    except Exception as error:  # a network of the reader's own may raise almost anything
        reason = (str(error).strip().splitlines() or [""])[0]
        raise RunError(
            f"{run.folder}: its network cannot be exported ({type(error).__name__}: {reason}); "
            "torch.export must be able to follow its forward: no decision by values of a tensor"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is printed: of a network that torch cannot follow, it prints pages."""
    logging.disable()
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


@torch.no_grad()
def _try(run: TrainedRun, network: Exported, content: bytes, images: torch.Tensor) -> None:
    """Raise RunError unless the file says the same as the network."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content)
    found = session.run(OUTPUTS, {"images": images.numpy()})
    for name, given, wanted in zip(OUTPUTS, found, network(images), strict=True):
        if not np.allclose(given, wanted, rtol=TOLERANCE, atol=TOLERANCE):
            raise RunError(
                f"{run.folder}: once exported, its network gives other {name}, or NaN; it does "
                "something that no ONNX file can hold"
            )
