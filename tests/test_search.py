"""Search in blocks against whole matrices, maps on disk, memory that stays, and FAISS."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facekit import openset, search
from facekit.errors import DataError


def vectors(seed: int, rows: int, size: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, size)).astype(np.float32)


def whole(probes: np.ndarray, gallery: np.ndarray, k: int, measure: str):
    """The answer from the whole matrix, in float64."""
    if measure == "cosine":
        p, g = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (probes, gallery))
        scores = p.astype(float) @ g.T.astype(float)
    else:
        scores = -np.linalg.norm(probes[:, None].astype(float) - gallery[None], axis=2)
    places = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, places, 1), places


@given(
    st.integers(1, 40), st.integers(1, 90), st.integers(1, 100), st.data(),
    st.sampled_from(search.MEASURES),
)  # fmt: skip
@settings(deadline=None, derandomize=True, max_examples=100)
def test_blocks_find_what_the_whole_matrix_holds(probes, gallery, block, data, measure):
    k = data.draw(st.integers(1, gallery))
    x, y = vectors(0, probes), vectors(1, gallery)
    scores, places = search.Flat(y, measure, "cpu", block).search(x, k)
    expected, best = whole(x, y, k, measure)
    assert scores.dtype == np.float32
    assert places.dtype == np.int64
    np.testing.assert_allclose(scores, expected, atol=2e-6)
    assert np.array_equal(places, best)


@pytest.mark.parametrize("measure", search.MEASURES)
def test_more_probes_than_a_block_and_a_gallery_that_no_block_divides(measure, monkeypatch):
    monkeypatch.setattr(search, "PROBES", 7)
    x, y = vectors(0, 40), vectors(1, 101)
    scores, places = search.Flat(y, measure, "cpu", 10).search(x, 15)
    expected, best = whole(x, y, 15, measure)
    np.testing.assert_allclose(scores, expected, atol=2e-6)
    assert np.array_equal(places, best)


@pytest.mark.parametrize("measure", search.MEASURES)
def test_the_scores_are_those_of_the_open_set(measure):
    x, y = vectors(0, 20), vectors(1, 30)
    scores, places = search.Flat(y, measure, "cpu", 8).search(x, 30)
    matrix = openset.similarity(x, y, measure)
    np.testing.assert_allclose(scores, np.take_along_axis(matrix, places, 1), atol=1e-6)


def test_of_equal_scores_the_first_place_comes_first():
    gallery = np.repeat(vectors(1, 5), 4, axis=0)
    _, places = search.Flat(gallery, device="cpu", block=3).search(vectors(0, 6), 20)
    for row in places:
        for group in row.reshape(5, 4):
            assert group.tolist() == sorted(group)
            assert len(set(group // 4)) == 1


def test_small_distances_keep_their_digits():
    gallery = vectors(1, 50) + 1000
    probes = gallery + np.float32(0.01)
    scores, places = search.Flat(gallery, "euclidean", "cpu").search(probes, 1)
    true = -np.linalg.norm(probes.astype(float) - gallery, axis=1)
    assert np.array_equal(places[:, 0], np.arange(50))
    np.testing.assert_allclose(scores[:, 0], true, rtol=1e-3)


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64])
def test_a_gallery_may_lie_on_disk(tmp_path: Path, kind):
    y = vectors(1, 70).astype(kind)
    np.save(tmp_path / "gallery.npy", y)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    found = search.Flat(mapped, device="cpu", block=16).search(vectors(0, 9), 5)
    expected, best = whole(vectors(0, 9), y.astype(np.float32), 5, "cosine")
    np.testing.assert_allclose(found.scores, expected, atol=2e-6)
    assert np.array_equal(found.places, best)


def test_tensors_are_taken_as_they_are():
    x, y = vectors(0, 9), vectors(1, 70)
    arrays = search.Flat(y, device="cpu").search(x, 3)
    tensors = search.Flat(torch.from_numpy(y), device="cpu").search(torch.from_numpy(x), 3)
    assert np.array_equal(arrays.places, tensors.places)
    assert np.array_equal(arrays.scores, tensors.scores)


def test_the_gallery_is_not_changed():
    x, y = vectors(0, 9), vectors(1, 70)
    before = x.copy(), y.copy()
    for gallery in (y, torch.from_numpy(y)):
        search.Flat(gallery, device="cpu").search(x, 3)
    assert np.array_equal(x, before[0])
    assert np.array_equal(y, before[1])


GROWTH = """
import resource, sys
import numpy as np, torch
from facekit import search
torch.set_num_threads(1)
gallery, probes = np.load(sys.argv[1], mmap_mode="r"), np.load(sys.argv[2])
search.Flat(gallery[:4096], device="cpu", block=1024).search(probes[:512], 10)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
search.Flat(gallery, device="cpu", block=1024).search(probes, 10)
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


# --- FAISS, called alike


@pytest.mark.parametrize("measure", search.MEASURES)
def test_faiss_finds_the_same(measure):
    pytest.importorskip("faiss")
    x, y = vectors(0, 30), vectors(1, 500)
    ours = search.Flat(y, measure, "cpu").search(x, 10)
    theirs = search.Faiss(y, measure).search(x, 10)
    assert np.array_equal(ours.places, theirs.places)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)
    assert (theirs.scores.dtype, theirs.places.dtype) == (np.float32, np.int64)


def test_faiss_may_look_into_some_cells_of_a_gallery_on_disk(tmp_path: Path):
    faiss = pytest.importorskip("faiss")
    np.save(tmp_path / "gallery.npy", vectors(1, 3_000, 16))
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    cells = search.Faiss(mapped, description="IVF32,Flat")
    exact = search.Flat(mapped, device="cpu").search(vectors(0, 50, 16), 1)
    found = cells.search(vectors(0, 50, 16), 1)
    assert 0.05 < np.mean(found.places == exact.places) < 1  # of 32 cells one is looked into
    cells.index.nprobe = 32
    assert np.array_equal(cells.search(vectors(0, 50, 16), 1).places, exact.places)
    cells.save(tmp_path / "index")
    assert faiss.read_index(str(tmp_path / "index")).ntotal == 3_000


def test_what_faiss_does_not_find_has_no_place():
    pytest.importorskip("faiss")
    found = search.Faiss(vectors(1, 100), description="IVF10,Flat").search(vectors(0, 5), 100)
    assert (found.places[:, -1] == -1).all()
    assert (found.scores[:, -1] == -np.inf).all()
    assert (found.places[:, 0] >= 0).all()


def test_an_index_that_faiss_does_not_know_is_refused():
    pytest.importorskip("faiss")
    with pytest.raises(DataError, match="FAISS knows no index 'Tree'"):
        search.Faiss(vectors(1, 100), description="Tree")


def test_without_faiss_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(DataError, match=r"pip install 'facekit\[faiss\]'"):
        search.Faiss(vectors(1, 100))


# --- what cannot be searched


def broken(row: int) -> np.ndarray:
    spoilt = vectors(1, 50)
    spoilt[row, 3] = np.nan
    return spoilt


@pytest.mark.parametrize("kind", [search.Flat, search.Faiss])
@pytest.mark.parametrize(
    ("probes", "gallery", "k", "words"),
    [
        (vectors(0, 5, 7), vectors(1, 50), 1, "equal length"),
        (vectors(0, 5)[0], vectors(1, 50), 1, "equal length"),
        (vectors(0, 0), vectors(1, 50), 1, "equal length"),
        (vectors(0, 5), vectors(1, 0), 1, "some of them"),
        (vectors(0, 5), vectors(1, 50)[0], 1, "some of them"),
        (vectors(0, 5), vectors(1, 50), 0, "k = 0 of a gallery of 50"),
        (vectors(0, 5), vectors(1, 50), 51, "k = 51 of a gallery of 50"),
        (broken(17), vectors(1, 50), 1, "^probe 17 holds NaN"),
        (vectors(0, 5), broken(43), 1, "^gallery vector 43 holds NaN"),
    ],
)
def test_what_cannot_be_searched_is_refused(kind, probes, gallery, k, words):
    if kind is search.Faiss:
        pytest.importorskip("faiss")
    with pytest.raises(DataError, match=words):
        kind(gallery).search(probes, k)


def test_an_unknown_measure_is_refused():
    with pytest.raises(DataError, match="'likelihood'; choose one of: cosine, euclidean"):
        search.Flat(vectors(1, 5), "likelihood")
