"""What a trained run says about images: class labels and embeddings. Built in notebook 06."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from facekit import models
from facekit.common import machine, own
from facekit.common.errors import DataError, FacekitError, RunError, say
from facekit.data.layout import CourseData
from facekit.data.loader import Loader
from facekit.data.pairs import PairData, Pairs, open_data
from facekit.data.pixels import CacheSettings
from facekit.data.transforms import Preprocess
from facekit.evaluation.inference import forward_precision, in_parts
from facekit.models import weights
from facekit.models.fold import fold_batch_norm
from facekit.models.net import FaceNet
from facekit.models.own_net import OwnNet
from facekit.models.registered import own_parts
from facekit.models.summary import MOST_PARAMETERS, check_size

BATCH = 128
Images = Sequence[Path] | torch.Tensor  # files, or what they hold: uint8 (N, 3, H, W)
# What a file raises that is sound and holds something else than a network of this kit.
STRANGE = LookupError, TypeError, ValueError, AttributeError, RuntimeError, FacekitError


@dataclass
class TrainedRun:
    """A network with everything that was fixed when it was trained."""

    folder: Path
    net: FaceNet | OwnNet  # in evaluation mode, on `device`
    preprocess: Preprocess
    classes: list[str]  # the class of each logit
    data: Path  # what it was trained on
    term: str
    device: torch.device
    precision: torch.dtype  # of the products, as in training

    @property
    def measure(self) -> str:
        """How embeddings trained with this head are compared: see `identification.similarity`."""
        return self.net.head.similarity

    def course_data(self, root: str | Path | None = None) -> CourseData | PairData:
        """The data the run was trained on, or that at `root`, whose classes must be the same.

        Where it is gone, since the project was moved, say, the workspace's data is taken if it has
        the same classes, and that is printed; DataError where there is none.
        """
        data = open_data(root, self.term) if root else self._find_data()
        if data.classes != self.classes:
            raise RunError(
                f"{self.folder}: trained on {len(self.classes)} classes, and {data.root} has "
                f"{len(data.classes)} of other names; train a run on this data"
            )
        return data

    def _find_data(self) -> CourseData | PairData:
        if self.data.exists():
            return open_data(self.data, self.term)
        beside_runs = self.folder.absolute().parent.parent / "data"
        for root in (machine.data().value, beside_runs):
            try:
                data = open_data(root, self.term)
            except FacekitError:
                continue
            if data.classes == self.classes:
                say(f"{self.data} is gone; using {root}, which has the same classes")
                return data
        raise DataError(
            f"{self.data}: no such folder, on which {self.folder} was trained; if the data was "
            "moved, say where it is: --data FOLDER"
        )


def load_run(
    folder: str | Path, device: str | None = None, own_objects: Sequence = ()
) -> TrainedRun:
    """The best network of a run folder. Raises RunError when there is none or it is damaged.

    `own_objects`: a network or head of the reader's own that the run was trained with, where it is
    neither in this notebook nor in the file that it was in: the class, or FILE.py:NAME.
    """
    folder, where = Path(folder), machine.device(device).value
    saved = weights.load_run(folder / "best.pt")
    given = [own.get(thing) if isinstance(thing, str) else thing for thing in own_objects]
    try:
        own.restore(folder, saved.get("own", {}), given, own_parts(), saved["spec"])
        size = saved["preprocess"]["size"]
        check_size(saved["spec"], "", len(saved["classes"]), MOST_PARAMETERS)
        net = models.build(saved["spec"], len(saved["classes"]), size=size)
        net.load_state_dict(saved["net"])
        run = TrainedRun(
            folder=folder,
            net=net.eval(),
            preprocess=Preprocess(**saved["preprocess"]),
            classes=saved["classes"],
            data=Path(saved["data"]),
            term=saved["term"],
            device=where,
            precision=machine.precision(where, saved["recipe"]["precision"]).value,
        )
    except RunError:
        raise
    except STRANGE as error:
        reason = (str(error).splitlines() or [""])[0]
        raise RunError(
            f"{folder / 'best.pt'}: holds no network of this kit ({reason}); train the run again"
        ) from error
    run.net.to(where, memory_format=torch.channels_last)
    return run


def classify(run: TrainedRun, images: Images) -> np.ndarray:
    """The most likely class of each image, in their order: int64 (N,).

    By the mean of the logits of the image and its mirror image, as dev images are judged.
    """
    net = fold_batch_norm(run.net)
    logits = _outputs(run, images, lambda x: net(x) + net(x.flip(-1)))
    if not np.isfinite(logits).all():
        raise RunError(f"{run.folder}: the network answers with NaN; its training went wrong")
    return logits.argmax(1)


def embed(run: TrainedRun, images: Images, unit: bool = True) -> np.ndarray:
    """The embedding of each image, in their order: float32 (N, D).

    It is the mean over the image and its mirror image, who are the same person. Its length is one
    where the run's measure is the cosine, and as the network gave it where distances count, or
    where `unit` is False.
    """
    net = fold_batch_norm(run.net)
    vectors = _outputs(run, images, lambda x: (net.embed(x) + net.embed(x.flip(-1))) / 2)
    if run.measure != "cosine" or not unit:
        return vectors
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)


def pair_scores(run: TrainedRun, pairs: Pairs) -> np.ndarray:
    """How alike the two images of each pair are: float32 (N,); each image is embedded once.

    The cosine of the embeddings or, where the run's measure is Euclidean, the negative distance.
    """
    place = {path: row for row, path in enumerate(pairs.images)}
    vectors = embed(run, pairs.images)
    first, second = (
        vectors[[place[path] for path in side]] for side in (pairs.first, pairs.second)
    )  # (N, D) each
    if run.measure == "cosine":
        return (first * second).sum(1)
    return -np.linalg.norm(first - second, axis=1)


def class_means(run: TrainedRun, data: CourseData | PairData, images: int = 5) -> np.ndarray:
    """The mean embedding of each training class over its first `images`: float32 (C, D).

    Many people of whom one knows that they are neither in the gallery nor among the probes: the
    cohort that `rules.as_norm` measures a score against. Images that cannot be read are left out,
    as they are in training; DataError for a class that has no other.
    """
    order = np.argsort(data.train.labels, kind="stable")  # a list may have classes in any order
    labels = np.array(data.train.labels)[order]
    paths = [data.train.paths[row] for row in order]
    place = np.arange(len(labels)) - np.searchsorted(labels, labels)  # within its class
    rows = np.flatnonzero(place < images)
    bad = find_bad(run, [paths[row] for row in rows])
    rows = np.delete(rows, list(bad))
    counts = np.bincount(labels[rows], minlength=len(data.classes))
    if not counts.all():
        folder = data.train.folder / data.classes[counts.argmin()]
        raise DataError(f"{folder}: none of its first {images} images can be read; replace them")
    vectors = embed(run, [paths[row] for row in rows])
    starts = np.searchsorted(labels[rows], np.arange(len(data.classes)))
    return np.add.reduceat(vectors, starts) / counts[:, None].astype(np.float32)


def find_bad(run: TrainedRun, paths: Sequence[Path]) -> dict[int, str]:
    """Which of the images cannot be read, and why. Raises DataError where none can."""
    return _loader(run, paths, max_bad_fraction=1).bad


def _loader(run: TrainedRun, paths: Sequence[Path], max_bad_fraction: float = 0) -> Loader:
    cache = CacheSettings(max_bad_fraction=max_bad_fraction, progress=False)
    return Loader(paths, None, run.preprocess, run.device, cache=cache)


@torch.inference_mode()
def _outputs(run: TrainedRun, images: Images, function) -> np.ndarray:
    results = []

    def answer(images: torch.Tensor) -> torch.Tensor:
        with forward_precision(run.device, run.precision):
            return function(images).float().cpu()

    for batch in _batches(run, images):
        results.append(in_parts(answer, batch))
    return torch.cat(results).numpy()


def _batches(run: TrainedRun, images: Images) -> Iterator[torch.Tensor]:
    """The images as the network gets them, float32 (B, 3, H, W) on its device."""
    if not isinstance(images, torch.Tensor):
        yield from (batch.images for batch in _loader(run, images).in_order(BATCH))
        return
    transform = run.preprocess.transform()
    for part in images.split(BATCH):
        yield transform(part).to(run.device, memory_format=torch.channels_last)
