"""What a trained run says about images: class labels and embeddings. Built in notebook 06."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from facekit import checkpoint, networks, runtime
from facekit.augment import Preprocess
from facekit.errors import BatchError, RunError
from facekit.feed import Feed
from facekit.fold import fold_batch_norm
from facekit.layout import CourseData
from facekit.networks import FaceNet
from facekit.train import forward_precision

BATCH = 128


@dataclass
class TrainedRun:
    """A network with everything that was fixed when it was trained."""

    folder: Path
    net: FaceNet  # in evaluation mode, on `device`
    preprocess: Preprocess
    classes: list[str]  # the class of each logit
    data: Path  # what it was trained on
    term: str
    device: torch.device
    precision: torch.dtype  # of the products, as in training

    def course_data(self, root: str | Path | None = None) -> CourseData:
        """The data the run was trained on, or that at `root`, whose classes must be the same."""
        data = CourseData(root or self.data, self.term)
        if data.classes != self.classes:
            raise RunError(
                f"{self.folder}: trained on {len(self.classes)} classes, and {data.root} has "
                f"{len(data.classes)} of other names; train a run on this data"
            )
        return data


def load_run(folder: str | Path, device: str | None = None) -> TrainedRun:
    """The best network of a run folder. Raises RunError when there is none or it is damaged."""
    folder, where = Path(folder), runtime.device(device).value
    saved = checkpoint.load_run(folder / "best.pt")
    net = networks.build(saved["spec"], len(saved["classes"]))
    net.load_state_dict(saved["net"])
    return TrainedRun(
        folder=folder,
        net=net.to(where, memory_format=torch.channels_last).eval(),
        preprocess=Preprocess(**saved["preprocess"]),
        classes=saved["classes"],
        data=Path(saved["data"]),
        term=saved["term"],
        device=where,
        precision=runtime.precision(where, saved["recipe"]["precision"]).value,
    )


def classify(run: TrainedRun, paths: Sequence[Path]) -> np.ndarray:
    """The most likely class of each image, in the order of `paths`: int64 (N,).

    By the mean of the logits of the image and its mirror image, as dev images are judged.
    """
    net = fold_batch_norm(run.net)
    try:
        logits = _outputs(run, paths, lambda x: net(x) + net(x.flip(-1)))
    except BatchError as error:  # a head looks at its embeddings, where that is free
        raise RunError(f"{run.folder}: {error}") from error
    if not np.isfinite(logits).all():
        raise RunError(f"{run.folder}: the network answers with NaN; its training went wrong")
    return logits.argmax(1)


def embed(run: TrainedRun, paths: Sequence[Path]) -> np.ndarray:
    """The embedding of each image, in the order of `paths`, of length one: float32 (N, D).

    It is the mean over the image and its mirror image, which know the same person.
    """
    net = fold_batch_norm(run.net)
    vectors = _outputs(run, paths, lambda x: net.embed(x) + net.embed(x.flip(-1)))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)


@torch.inference_mode()
def _outputs(run: TrainedRun, paths: Sequence[Path], function) -> np.ndarray:
    results = []
    for images, *_ in Feed(paths, None, run.preprocess, run.device, progress=False).in_order(BATCH):
        with forward_precision(run.device, run.precision):
            results.append(function(images).float().cpu())
    return torch.cat(results).numpy()
