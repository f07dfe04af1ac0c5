"""Search in blocks against whole matrices and FAISS, maps on disk, and memory that stays."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facekit.common.errors import DataError
from facekit.evaluation import identification, search


def vectors(seed: int, rows: int, size: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, size)).astype(np.float32)


def whole(probes: np.ndarray, gallery: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The answer from the whole matrix."""
    cosines = identification.similarity(probes, gallery)
    places = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(cosines, places, 1), places


@given(st.integers(1, 40), st.integers(1, 90), st.integers(1, 100), st.integers(1, 50), st.data())
@settings(max_examples=50)
def test_blocks_find_what_the_whole_matrix_holds(probes, gallery, block, rows, data):
    k = data.draw(st.integers(1, gallery))
    x = vectors(0, probes)
    y = vectors(1, gallery)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "BLOCK", block)
        patch.setattr(search, "PROBES", rows)
        cosines, places = search.nearest(x, y, k, "cpu")
    expected, best = whole(x, y, k)
    assert cosines.dtype == np.float32
    assert places.dtype == np.int64
    np.testing.assert_allclose(cosines, expected, atol=2e-6)
    assert np.array_equal(places, best)


def test_faiss_finds_the_same():
    faiss = pytest.importorskip("faiss")
    x = vectors(0, 30)
    y = vectors(1, 500)
    index = faiss.IndexFlatIP(y.shape[1])
    index.add(y / np.linalg.norm(y, axis=1, keepdims=True))
    cosines, places = index.search(x / np.linalg.norm(x, axis=1, keepdims=True), 10)
    found = search.nearest(x, y, 10, "cpu")
    assert np.array_equal(found.places, places)
    np.testing.assert_allclose(found.cosines, cosines, atol=1e-5)


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64])
def test_a_gallery_may_lie_on_disk(tmp_path: Path, kind, monkeypatch):
    monkeypatch.setattr(search, "BLOCK", 16)
    y = vectors(1, 70).astype(kind)
    np.save(tmp_path / "gallery.npy", y)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    found = search.nearest(vectors(0, 9), mapped, 5, "cpu")
    expected, best = whole(vectors(0, 9), y.astype(np.float32), 5)
    np.testing.assert_allclose(found.cosines, expected, atol=2e-6)
    assert np.array_equal(found.places, best)


def test_tensors_are_taken_as_they_are_and_nothing_is_changed():
    x = vectors(0, 9)
    y = vectors(1, 70)
    arrays = search.nearest(x, y, 3, "cpu")
    tensors = search.nearest(torch.from_numpy(x), torch.from_numpy(y), 3, "cpu")
    assert np.array_equal(arrays.places, tensors.places)
    assert np.array_equal(arrays.cosines, tensors.cosines)
    assert np.array_equal(x, vectors(0, 9))
    assert np.array_equal(y, vectors(1, 70))


GROWTH = """
import resource, sys
import numpy as np, torch
from facekit.evaluation import search
torch.set_num_threads(1)
search.BLOCK = 1024
gallery, probes = np.load(sys.argv[1], mmap_mode="r"), np.load(sys.argv[2])
search.nearest(probes[:512], gallery[:4096], 10, "cpu")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
search.nearest(probes, gallery, 10, "cpu")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_probes_times_gallery(tmp_path: Path):
    """The whole matrix would take 400 MB more; the files on disk are 8 MB."""
    np.save(tmp_path / "gallery.npy", vectors(1, 50_000, 32))
    np.save(tmp_path / "probes.npy", vectors(0, 2_000, 32))
    command = [sys.executable, "-c", GROWTH, tmp_path / "gallery.npy", tmp_path / "probes.npy"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60_000, "KiB"  # the gallery's pages, and blocks of twice the probes


def broken(row: int) -> np.ndarray:
    spoilt = vectors(1, 50)
    spoilt[row, 3] = np.nan
    return spoilt


@pytest.mark.parametrize(
    ("probes", "gallery", "k", "words"),
    [
        (vectors(0, 5, 7), vectors(1, 50), 1, "equal length"),
        (vectors(0, 5)[0], vectors(1, 50), 1, "equal length"),
        (vectors(0, 5), vectors(1, 50)[0], 1, "equal length"),
        (vectors(0, 5), vectors(1, 0), 1, "k = 1 of a gallery of 0"),
        (vectors(0, 5), vectors(1, 50), 0, "k = 0 of a gallery of 50"),
        (vectors(0, 5), vectors(1, 50), 51, "k = 51 of a gallery of 50"),
        (broken(17), vectors(1, 50), 1, "^probe 17 holds NaN"),
        (vectors(0, 5), broken(43), 1, "^gallery vector 43 holds NaN"),
    ],
)
def test_what_cannot_be_searched_is_refused(probes, gallery, k, words):
    with pytest.raises(DataError, match=words):
        search.nearest(probes, gallery, k, "cpu")
