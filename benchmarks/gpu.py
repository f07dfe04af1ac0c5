"""How many faces a second a GPU renders, and whether it renders the same faces.

    python benchmarks/gpu.py [--out FILE] [--batch 256 --batch 1024] [--seconds 5]

Without a GPU it says so in one line and ends with status 2.
"""

import sys
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer
from faces_report import DIFFICULTY, Report, against, numbers

from facekit import faces

BAR = 2000  # images a second at 224 pixels


def render(count: int, size: int, first: int = 0, device: str = "cuda") -> torch.Tensor:
    keys = {"device": device, "difficulty": DIFFICULTY}
    return faces.render(numbers(count), numbers(count, first), size, **keys)


def seconds_of(count: int, size: int, first: int) -> float:
    torch.cuda.synchronize()
    began = time.perf_counter()
    render(count, size, first)
    torch.cuda.synchronize()
    return time.perf_counter() - began


def speed_row(count: int, size: int, limit: float) -> dict:
    """The median of rounds that fill about `limit` seconds, after two that are not counted."""
    for first in range(2):
        seconds_of(count, size, first)
    torch.cuda.reset_peak_memory_stats()
    taken: list[float] = []
    while len(taken) < 3 or (sum(taken) < limit and len(taken) < 50):
        taken.append(seconds_of(count, size, (len(taken) + 2) * count))
    row = {
        "pixels": size,
        "pictures at once": count,
        "images/s": count / median(taken),
        "best": count / min(taken),
        "rounds": len(taken),
        "peak MiB": torch.cuda.max_memory_allocated() / (1 << 20),
    }
    print(f"{size} px, {count} at once: {row['images/s']:.0f} images/s", file=sys.stderr)
    return row


def agreement_row(size: int, count: int = 64) -> dict:
    """The same pictures from both devices."""
    away = (render(count, size).cpu().int() - render(count, size, device="cpu").int()).abs()
    near = float((away <= 1).double().mean())
    row = {"pixels": size, "pictures": count, "largest difference": int(away.max())}
    return row | {"within one level": near} | against(near, ">=", 0.999)


def parameters_row(count: int = 64) -> dict:
    """Whether the drawn numbers are equal, where `parameters` takes a device."""
    keys = numbers(count), numbers(count, 0)
    try:
        pairs = [faces.parameters(*keys, difficulty=DIFFICULTY, device=d) for d in ("cpu", "cuda")]
    except TypeError:
        return {"parameters": "not to be asked for by device"}
    here, there = ({**who, **how} for who, how in pairs)
    differing = [name for name in here if not torch.equal(here[name], there[name].cpu())]
    return {"parameters": len(here), "differing": ", ".join(differing) or "none"}


def main(
    batch: Annotated[list[int], typer.Option()] = [64, 256, 1024, 4096],  # noqa: B006
    size: Annotated[list[int], typer.Option()] = [112, 224],  # noqa: B006
    seconds: Annotated[float, typer.Option(help="For each size and batch.")] = 5.0,
    out: Path | None = None,
) -> None:
    """Images a second by size and number at once, and agreement with the processor."""
    if not torch.cuda.is_available():
        print("no GPU here: nothing measured", file=sys.stderr)
        raise typer.Exit(2)
    report = Report("gpu", out, batch=batch, size=size, seconds=seconds)
    report.note(torch.cuda.get_device_name(0))
    rows = [speed_row(count, pixels, seconds) for pixels in size for count in batch]
    for pixels in set(size) & {224}:
        best = max((r for r in rows if r["pixels"] == pixels), key=lambda r: r["images/s"])
        best |= {"bar": f">= {BAR}", "verdict": "PASS" if best["images/s"] >= BAR else "missed"}
    report.table("speed", rows)
    report.table("agreement with the processor", [agreement_row(s) for s in size],
                 percent=("within one level",))  # fmt: skip
    report.table("drawn numbers", [parameters_row()])
    report.close()


if __name__ == "__main__":
    typer.run(main)
