"""The k most alike of a gallery too large for one matrix. Built in notebook 06.

A million vectors beside ten thousand probes would be a matrix of 40 gigabytes. `Flat` goes through
it block by block and keeps the k best so far, so that memory holds one block and the answer. A
gallery on disk (`numpy.load(path, mmap_mode="r")`) is read once, a block at a time. `Faiss` is
called alike and may trade exactness for speed or memory.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from facekit import runtime
from facekit.errors import DataError

BLOCK = 8192  # gallery vectors at a time, and
PROBES = 1024  # probes: their product stays in a processor's cache
SAMPLE = 100_000  # vectors that an index of FAISS learns its cells from
MEASURES = ("cosine", "euclidean")
Gallery = np.ndarray | torch.Tensor  # (G, D); an array may be a map of a file


class Found(NamedTuple):
    """The k most alike of each probe, the best first; of equal scores the first place first."""

    scores: np.ndarray  # (P, k) float32
    places: np.ndarray  # (P, k) int64, rows of the gallery


class Flat:
    """Exact search, by the measures "cosine" and "euclidean" of `openset.similarity`.

    gallery (G, D) of any floating type; nothing of it is copied but the block in hand, on
    `device`. Raises DataError for vectors that are not finite, when they are met.
    """

    def __init__(
        self,
        gallery: Gallery,
        measure: str = "cosine",
        device: str | None = None,
        block: int = BLOCK,
    ) -> None:
        self.gallery, self.measure, self.block = _check(gallery, measure), measure, block
        self.device = runtime.device(device).value

    def search(self, probes: Gallery, k: int) -> Found:
        """The k most alike of each probe (P, D). Raises DataError for a k that there is not."""
        x = _probes(probes, self.gallery, k, self.measure).to(self.device)
        best = torch.full((len(x), k), -torch.inf, device=self.device)
        places = torch.zeros((len(x), k), dtype=torch.int64, device=self.device)
        for first, block in _blocks(self.gallery, self.block, self.measure, self.device):
            self._merge(x, first, block, best, places)
        if self.measure == "euclidean":
            best = self._distances(x, places)
        return _in_order(best.cpu().numpy(), places.cpu().numpy())

    @torch.inference_mode()
    def _merge(
        self,
        x: torch.Tensor,
        first: int,
        block: torch.Tensor,
        best: torch.Tensor,
        places: torch.Tensor,
    ) -> None:
        """Take what the block has better than the best so far, in place."""
        k = best.shape[1]
        half = block.square().sum(1) / 2 if self.measure == "euclidean" else None
        for start in range(0, len(x), PROBES):
            rows = slice(start, start + PROBES)
            scores = _products(x[rows], block)  # (PROBES, block)
            if half is not None:
                scores -= half  # falls as the distance rises: |x|^2 is the same for all
            top, place = scores.topk(min(k, len(block)))
            both = torch.cat([best[rows], top], 1)
            best[rows], chosen = both.topk(k)
            places[rows] = torch.cat([places[rows], place + first], 1).gather(1, chosen)

    def _distances(self, x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Negative distances (P, k), from differences: products lose the digits of small ones."""
        rows = places.cpu().numpy()
        found = []
        few = max(1, 4 * BLOCK // rows.shape[1])
        for start in range(0, len(x), few):
            part = rows[start : start + few]
            near = _tensor(self.gallery[part.ravel()]).to(self.device).view(*part.shape, -1)
            found.append(-(x[start : start + few, None] - near).norm(dim=2))
        return torch.cat(found)


class Faiss:
    """The same through FAISS (Douze et al. 2024, arXiv 2401.08281), for what no machine holds.

    `description` as of FAISS's index factory: "Flat" is exact; "IVF4096,PQ64" looks into some
    cells of compressed vectors, 64 bytes each. What it does not find has place -1 and score
    -infinity. Raises DataError when FAISS is not installed.
    """

    def __init__(
        self, gallery: Gallery, measure: str = "cosine", description: str = "Flat"
    ) -> None:
        self.gallery, self.measure = _check(gallery, measure), measure
        faiss = _faiss()
        metric = faiss.METRIC_INNER_PRODUCT if measure == "cosine" else faiss.METRIC_L2
        try:
            self.index = faiss.index_factory(gallery.shape[1], description, metric)
        except RuntimeError as error:
            raise DataError(
                f"FAISS knows no index {description!r}: see its index factory"
            ) from error
        if not self.index.is_trained:
            self.index.train(self._sample())
        for _, block in _blocks(gallery, BLOCK, measure, torch.device("cpu")):
            self.index.add(block.numpy())

    def _sample(self) -> np.ndarray:
        rows = np.random.default_rng(0).permutation(len(self.gallery))[:SAMPLE]
        vectors = _tensor(self.gallery[np.sort(rows)])
        return (F.normalize(vectors) if self.measure == "cosine" else vectors).numpy()

    def search(self, probes: Gallery, k: int) -> Found:
        """As `Flat.search`."""
        x = _probes(probes, self.gallery, k, self.measure)
        scores, places = self.index.search(x.numpy(), k)
        if self.measure == "euclidean":
            scores = -np.sqrt(scores.clip(0))
        return _in_order(np.where(places < 0, -np.inf, scores).astype(np.float32), places)

    def save(self, path: str | Path) -> None:
        """Write the index to a file of FAISS's own format (`faiss.read_index` reads it)."""
        _faiss().write_index(self.index, str(path))


def _faiss():
    try:
        import faiss
    except ImportError as error:
        raise DataError("FAISS is not installed: pip install 'facekit[faiss]'") from error
    return faiss


def _check(gallery: Gallery, measure: str) -> Gallery:
    if measure not in MEASURES:
        raise DataError(f"no measure {measure!r}; choose one of: {', '.join(MEASURES)}")
    if gallery.ndim != 2 or not gallery.shape[0] or not gallery.shape[1]:
        raise DataError(f"a gallery is rows of equal length, some of them, not {gallery.shape}")
    return gallery


def _probes(probes: Gallery, gallery: Gallery, k: int, measure: str) -> torch.Tensor:
    """The probes as float32 (P, D), of length one for cosines."""
    if probes.ndim != 2 or probes.shape[1] != gallery.shape[1] or not len(probes):
        raise DataError(
            f"probes {tuple(probes.shape)} and gallery {tuple(gallery.shape)} must be rows of "
            "equal length"
        )
    if not 1 <= k <= len(gallery):
        raise DataError(f"k = {k} of a gallery of {len(gallery)}; it must be from 1 to all")
    x = _tensor(probes)
    _check_finite("probe", x, 0)
    return F.normalize(x) if measure == "cosine" else x


def _blocks(
    gallery: Gallery, size: int, measure: str, device: torch.device
) -> Iterator[tuple[int, torch.Tensor]]:
    """The gallery in blocks (size, D), each with its first row, of length one for cosines."""
    for first in range(0, len(gallery), size):
        block = _tensor(gallery[first : first + size]).to(device)
        _check_finite("gallery vector", block, first)
        yield first, F.normalize(block) if measure == "cosine" else block


def _products(x: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
    """Every row of one with every row of the other."""
    if x.device.type == "cpu":  # NumPy's library is the quicker one on many processors
        return torch.from_numpy(x.numpy() @ block.numpy().T)
    return x @ block.T


def _tensor(vectors: Gallery) -> torch.Tensor:
    if isinstance(vectors, torch.Tensor):
        return vectors.detach().float()
    return torch.from_numpy(np.array(vectors, np.float32))  # a copy: a map cannot be written to


def _check_finite(what: str, vectors: torch.Tensor, first: int) -> None:
    broken = ~torch.isfinite(vectors).all(1)
    if broken.any():
        row = first + int(broken.nonzero()[0])
        raise DataError(f"{what} {row} holds NaN or infinity; the training went wrong")


def _in_order(scores: np.ndarray, places: np.ndarray) -> Found:
    """The best first, and of equal ones the first of the gallery."""
    order = np.lexsort((places, -scores), axis=1)
    pick = np.take_along_axis
    return Found(pick(scores, order, 1), pick(places, order, 1))
