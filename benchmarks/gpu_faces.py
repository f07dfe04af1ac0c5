"""How many faces a second a GPU renders: a part of `gpu.py`."""

from collections.abc import Callable

import torch
from gpu_job import Job, of_bandwidth
from machine import AGAIN, Row, progress, time_rounds, verdict
from people import DIFFICULTY, numbers
from traffic import bytes_moved

from facekit import faces

BAR = 2000  # images a second at 224 pixels


def render(job: Job, size: int, count: int) -> Callable[[], torch.Tensor]:
    """Renders other people with every call."""
    calls = iter(range(1_000_000))
    device = job.device.type

    def once() -> torch.Tensor:
        shot = numbers(count, next(calls) * count)
        return faces.render(numbers(count), shot, size, device, difficulty=DIFFICULTY)

    return once


def speed(job: Job) -> list[Row]:
    """Images a second by size and number at once; the last of each size is timed twice."""
    rows: list[Row] = []
    sizes = (112, 224)
    counts = (256, 1024)
    if job.tiny:
        sizes = (16, 32)
        counts = (1, 2)
    for size in sizes:
        progress(f"faces at {size}")
        variants = {f"{count} at once": render(job, size, count) for count in counts}
        last = f"{counts[-1]} at once"
        variants[last + AGAIN] = render(job, size, counts[-1])
        taken = time_rounds(variants, job.size(7, 1), job.device)
        moved = bytes_moved(variants[last], counts[-1])
        for name, times in taken.items():
            middle = sorted(times.wall)[len(times.wall) // 2]
            count = int(name.split()[0])
            row = {"pixels": size, "images": name, "images/s": count / middle}
            row |= {"best": count / min(times.wall), "rounds": len(times.wall)}
            rows.append(row | of_bandwidth(job, moved, row["images/s"]))
    if not job.tiny:
        top = max((row for row in rows if row["pixels"] == size), key=lambda row: row["images/s"])
        top |= verdict(top["images/s"], BAR)
    return rows
