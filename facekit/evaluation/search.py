"""The k most alike of a gallery too large for one matrix. Built in notebook 06.

A million vectors beside ten thousand probes would be a matrix of 40 gigabytes. `nearest` goes
through the gallery block by block and keeps the k best so far, so that memory holds one block and
the answer. For galleries beyond one machine's memory see FAISS (Douze et al. 2024,
arXiv 2401.08281): its flat index gives the same answers, others trade exactness for speed.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from facekit.common import machine
from facekit.common.errors import DataError

BLOCK = 8192  # gallery vectors at a time, and
PROBES = 1024  # probes: their product stays in a processor's cache
Vectors = np.ndarray | torch.Tensor  # (N, D), floating; an array may be a map of a file


class Nearest(NamedTuple):
    """The k most alike of each probe, the best first."""

    cosines: np.ndarray  # (P, k) float32
    places: np.ndarray  # (P, k) int64, rows of the gallery


@torch.inference_mode()
def nearest(probes: Vectors, gallery: Vectors, k: int, device: str | None = None) -> Nearest:
    """The k vectors of the gallery (G, D) with the highest cosines, for each probe (P, D).

    A gallery on disk (`numpy.load(path, mmap_mode="r")`) is read once, a block at a time. Raises
    DataError for vectors that are not finite or do not fit, and for a k that there is not.
    """
    if probes.ndim != 2 or gallery.ndim != 2 or probes.shape[1] != gallery.shape[1]:
        raise DataError(
            f"probes {tuple(probes.shape)} and gallery {tuple(gallery.shape)} must be rows of "
            "equal length"
        )
    if not 1 <= k <= len(gallery):
        raise DataError(f"k = {k} of a gallery of {len(gallery)}; it must be from 1 to all")
    where = machine.device(device).value
    x = _unit("probe", probes, 0, where)
    cosines = torch.full((len(x), k), -torch.inf, device=where)
    places = torch.zeros((len(x), k), dtype=torch.int64, device=where)
    for first in range(0, len(gallery), BLOCK):
        block = _unit("gallery vector", gallery[first : first + BLOCK], first, where)
        for start in range(0, len(x), PROBES):
            rows = slice(start, start + PROBES)
            found, place = (x[rows] @ block.T).topk(min(k, len(block)))
            both = torch.cat([cosines[rows], found], dim=1)
            cosines[rows], best = both.topk(k)
            places[rows] = torch.cat([places[rows], place + first], dim=1).gather(1, best)
    return Nearest(cosines.cpu().numpy(), places.cpu().numpy())


def _unit(what: str, vectors: Vectors, first: int, device: torch.device) -> torch.Tensor:
    """Float32 vectors of length one on the device; `first` is the place of the first of them."""
    if not isinstance(vectors, torch.Tensor):
        vectors = torch.from_numpy(np.array(vectors, np.float32))  # a copy: a map is read-only
    vectors = vectors.to(device).float()
    broken = ~torch.isfinite(vectors).all(1)
    if broken.any():
        row = first + int(broken.nonzero()[0])
        raise DataError(f"{what} {row} holds NaN or infinity; the training went wrong")
    return F.normalize(vectors)
