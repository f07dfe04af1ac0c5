"""Searching a large gallery, beside the bare matrix product and FAISS's flat index.

    python benchmarks/search.py [--gallery 1000000] [--probes 10000] [--k 10] [--device cuda]

All take turns on the same vectors and as many threads. The ceiling is the product of the same
blocks without looking at it: the fastest of some shapes, by PyTorch or NumPy. Memory is what each
adds to the vectors, measured in a process of its own with fewer probes.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import machine
import numpy as np
import torch

from facekit.common import machine as runtime
from facekit.evaluation import search

SHAPES = ((1024, 4096), (1024, 8192), (2048, 8192), (4096, 16384))  # probes x gallery
BAR = 0.5  # of the ceiling
MEMORY = 1_000, 100_000  # probes, gallery


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gallery", type=int, default=1_000_000)
    parser.add_argument("--probes", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device")
    parser.add_argument("--memory", help="of one way to search; used by this file itself")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory:
        print(grown(arguments.memory, arguments))
        return
    settings = {k: v for k, v in vars(arguments).items() if k not in ("out", "memory")}
    report = machine.Report("search", arguments.out, **settings)
    device = runtime.device(arguments.device).value
    report.table("seconds", speed_rows(arguments, device))
    report.table("memory", memory_rows(arguments))


def vectors(seed: int, rows: int, dim: int) -> np.ndarray:
    """Unit vectors, float32 (rows, dim)."""
    numbers = np.random.default_rng(seed)
    found = numbers.standard_normal((rows, dim), dtype=np.float32)
    for block in np.array_split(found, max(1, rows // 10_000)):  # in place, without a copy
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return found


def speed_rows(arguments: argparse.Namespace, device: torch.device) -> list[machine.Row]:
    gallery = vectors(0, arguments.gallery, arguments.dim)
    probes = vectors(1, arguments.probes, arguments.dim)
    by, shape = fastest(gallery, probes, device)
    ways = {
        f"product alone, {by}, blocks {shape[0]} x {shape[1]}": lambda: product(
            gallery, probes, shape, device, by
        ),
        "nearest": lambda: search.nearest(probes, gallery, arguments.k, device.type),
    }
    index = faiss_index(gallery, arguments.threads)
    if index is not None:
        ways["FAISS, IndexFlatIP"] = lambda: index.search(probes, arguments.k)
    taken = machine.time_rounds(ways, arguments.rounds, device, warm_up=0)
    work = 2 * len(gallery) * len(probes) * arguments.dim
    ceiling = np.median(next(iter(taken.values())).wall)
    rows = []
    for name, times in taken.items():
        seconds = float(np.median(times.wall))
        row = {"way": name, "seconds": seconds, "GFLOP/s": work / seconds / 1e9}
        row |= {"of the ceiling": ceiling / seconds, "rounds": len(times.wall)}
        rows.append(row | (machine.verdict(ceiling / seconds, BAR) if name == "nearest" else {}))
    return rows


def fastest(
    gallery: np.ndarray, probes: np.ndarray, device: torch.device
) -> tuple[str, tuple[int, int]]:
    """The library and the blocks whose product is quickest, tried on a part."""
    few = gallery[: 4 * SHAPES[-1][1]], probes[: SHAPES[-1][0]]
    libraries = ("torch", "numpy") if device.type == "cpu" else ("torch",)
    tried = [(by, shape) for by in libraries for shape in SHAPES]
    ways = {str(way): lambda way=way: product(*few, way[1], device, way[0]) for way in tried}
    taken = machine.time_rounds(ways, 3, device)
    return min(tried, key=lambda way: min(taken[str(way)].wall))


def product(
    gallery: np.ndarray,
    probes: np.ndarray,
    shape: tuple[int, int],
    device: torch.device,
    by: str = "torch",
) -> None:
    """Every product of probe and gallery vector, forgotten at once."""
    take = (lambda part: part) if by == "numpy" else lambda p: torch.from_numpy(p).to(device)
    x = take(probes)
    for first in range(0, len(gallery), shape[1]):
        block = take(gallery[first : first + shape[1]])
        for start in range(0, len(x), shape[0]):
            x[start : start + shape[0]] @ block.T


def faiss_index(gallery: np.ndarray, threads: int):
    """A flat index of the gallery; None where FAISS is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(gallery)
    return index


def memory_rows(arguments: argparse.Namespace) -> list[machine.Row]:
    probes, gallery = min(MEMORY[0], arguments.probes), min(MEMORY[1], arguments.gallery)
    rows = []
    for way in ("matrix", "nearest", "nearest, four times the probes"):
        many = probes * (4 if "four" in way else 1)
        command = [sys.executable, __file__, "--memory", way.split(",")[0], "--probes", str(many)]
        command += ["--gallery", str(gallery), "--dim", str(arguments.dim), "--k", str(arguments.k)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append({"way": way, "probes": many, "gallery": gallery, "MiB": float(done.stdout)})
    return rows


def grown(way: str, arguments: argparse.Namespace) -> float:
    """MiB that the peak of this process rises by while it searches."""
    gallery = vectors(0, arguments.gallery, arguments.dim)
    probes = vectors(1, arguments.probes, arguments.dim)
    few = probes[:8]
    search.nearest(few, gallery[:64], 1, "cpu")  # what the libraries need
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far; Linux only
    before = machine.memory()
    if way == "matrix":
        np.argpartition(-(probes @ gallery.T), arguments.k, axis=1)
    else:
        search.nearest(probes, gallery, arguments.k, "cpu")
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    return peak - before


if __name__ == "__main__":
    main()
