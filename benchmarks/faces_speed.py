"""How fast faces are made, in how much memory, and which stage takes it: `faces.py speed`."""

import io
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch
from machine import Report
from people import DIFFICULTY, numbers
from PIL import Image
from torch.profiler import ProfilerActivity, profile

from facekit import faces
from facekit.sources.writers import QUALITY

BATCH = 32
BARS = {112: 40, 224: 10}  # images a second, JPEG included
MEMORY_AT = 112  # pixels
STAGE = "faces."


def make(count: int, size: int, first: int = 0) -> torch.Tensor:
    return faces.render(numbers(count), numbers(count, first), size, difficulty=DIFFICULTY)


def encode(images: torch.Tensor) -> int:
    """As JPEG, one by one, as a course's files are; how many bytes that was."""
    total = 0
    for image in images.permute(0, 2, 3, 1).numpy():
        content = io.BytesIO()
        Image.fromarray(image).save(content, "JPEG", quality=QUALITY)
        total += content.tell()
    return total


def speed_row(size: int, rounds: int) -> dict:
    """The median of some rounds, after one that is not counted."""
    count = BATCH if size < 200 else BATCH // 2
    render = []
    jpeg = []
    processor = []
    for round_ in range(rounds + 1):
        cpu = time.process_time()
        began = time.perf_counter()
        images = make(count, size, round_ * count)
        made = time.perf_counter()
        encode(images)
        processor.append((time.process_time() - cpu) / count)
        render.append((made - began) / count)
        jpeg.append((time.perf_counter() - made) / count)
        print(f"{size} px, round {round_} of {rounds}", file=sys.stderr)
    whole = [a + b for a, b in zip(render, jpeg, strict=True)]
    row = {
        "pixels": size,
        "images/s": 1 / median(whole[1:]),
        "render ms": 1e3 * median(render[1:]),
        "JPEG ms": 1e3 * median(jpeg[1:]),
        "images per CPU-second": 1 / median(processor[1:]),
    }
    if size in BARS:
        met = row["images/s"] >= BARS[size]
        row |= {"bar": f">= {BARS[size]}", "verdict": "PASS" if met else "missed"}
    return row


def high_water() -> float:
    """The most memory this process has held so far, MiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would begin with what the parent held
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def peak(count: int, size: int) -> dict:
    """The highest memory of a process that renders so many images at once; run in a fresh one."""
    torch.set_num_threads(1)
    make(1, size)
    before = high_water()
    result = make(count, size)
    row = {"images": count, "pixels": size, "after one MiB": before, "peak MiB": high_water()}
    row["result MiB"] = result.numel() / (1 << 20)
    row["beside it MiB"] = row["peak MiB"] - row["after one MiB"] - row["result MiB"]
    return row


def peak_rows(size: int) -> list[dict]:
    rows = []
    for count in (64, 1024):
        print(f"memory of {count} images", file=sys.stderr)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            rows.append(pool.submit(peak, count, size).result())
    return rows


def stage_rows(size: int) -> list[dict]:
    """Milliseconds an image in each range that the renderer names; inner ranges count once."""
    count = BATCH if size < 200 else BATCH // 2
    make(count, size)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        began = time.perf_counter()
        make(count, size, count)
        whole = (time.perf_counter() - began) * 1e3 / count
    spent: dict[str, float] = {}
    for event in found.events():
        if not event.name.startswith(STAGE):
            continue
        taken = event.cpu_time_total / 1e3 / count
        spent[event.name] = spent.get(event.name, 0.0) + taken
        outer = event.cpu_parent
        while outer is not None and not outer.name.startswith(STAGE):
            outer = outer.cpu_parent
        if outer is not None:
            spent[outer.name] = spent.get(outer.name, 0.0) - taken
    rest = whole - sum(spent.values())
    rows = [{"stage": name.removeprefix(STAGE), "ms/image": ms} for name, ms in spent.items()]
    rows = sorted(rows, key=lambda row: -row["ms/image"])
    rows += [{"stage": "(elsewhere)", "ms/image": rest}, {"stage": "(all)", "ms/image": whole}]
    return [row | {"share": row["ms/image"] / whole} for row in rows]


def measure(report: Report, sizes: list[int], rounds: int) -> None:
    report.table("speed", [speed_row(size, rounds) for size in sizes])
    for size in (112, 224):
        if size in sizes:
            report.table(f"stages at {size} px, profiled", stage_rows(size))
    report.table("memory", peak_rows(MEMORY_AT))
