"""How long the threshold panel takes to answer a move, at the homework's size.

    python benchmarks/panel.py [--probes 720] [--gallery 960] [--out panel.json]

The slider goes to 200 places from end to end: what it costs until every part of the panel has its
new text and the text is JSON, as it is sent to the page. In the first sweep each face is read from
its file when it is first shown; in those after it the faces are remembered.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import machine
import numpy as np
import torch
from PIL import Image

from facekit.course import threshold_panel

PLACES = 200
BAR = 100.0  # milliseconds of the slowest move


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--probes", type=int, default=720)
    parser.add_argument("--gallery", type=int, default=960)
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--sweeps", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report = machine.Report("panel", **vars(arguments))
    scores, truth = random_scores(arguments.probes, arguments.gallery)
    with tempfile.TemporaryDirectory() as folder:
        probes = images(Path(folder), "probe", arguments.probes, arguments.pixels)
        gallery = images(Path(folder), "gallery", arguments.gallery, arguments.pixels)
        began = time.perf_counter()
        shown = threshold_panel.threshold(
            {"threshold": scores, "other": scores * 9}, truth, probes, gallery
        )
        built = milliseconds(began)
        began = time.perf_counter()
        shown.children[1].value = "other"
        switched = milliseconds(began)
        shown.children[1].value = "threshold"
        threshold_panel.thumbnail.cache_clear()
        rows = [sweep(shown, number) for number in range(arguments.sweeps)]
    report.table("milliseconds of a move", rows)
    report.table("milliseconds once", [{"panel": built, "another rule": switched}])


def random_scores(probes: int, gallery: int) -> tuple[np.ndarray, np.ndarray]:
    """Eight ninths with a match, whose own identity is a little more like them."""
    numbers = np.random.default_rng(0)
    truth = np.where(np.arange(probes) % 9 < 8, numbers.integers(0, gallery, probes), -1)
    scores = numbers.normal(0.1, 0.1, (probes, gallery)).astype(np.float32)
    known = np.flatnonzero(truth >= 0)
    scores[known, truth[known]] += 0.3
    return scores, truth


def images(folder: Path, name: str, count: int, pixels: int) -> list[Path]:
    """JPEG files of coarse random colours, as long to decode as photographs."""
    numbers = np.random.default_rng(count)
    paths = [folder / f"{name}{i}.jpg" for i in range(count)]
    for path in paths:
        coarse = Image.fromarray(numbers.integers(0, 256, (14, 14, 3), dtype=np.uint8))
        coarse.resize((pixels, pixels), Image.Resampling.BICUBIC).save(path, quality=90)
    return paths


def sweep(shown: threshold_panel.Panel, number: int) -> machine.Row:
    slider = shown.children[0]
    slider.value = (slider.min + slider.max) / 2
    taken, sent = [], 0
    for value in np.linspace(slider.min, slider.max, PLACES):
        began = time.perf_counter()
        slider.value = float(value)
        sent = max(sent, len(json.dumps([part.value for part in moved_parts(shown)])))
        taken.append(milliseconds(began))
    row = {"sweep": "faces read" if number == 0 else f"faces remembered, {number}"}
    row |= {"moves": PLACES, "median": float(np.median(taken)), "slowest": max(taken)}
    passed = "PASS" if max(taken) < BAR else "missed"
    return row | {"bar": f"< {BAR:g}", "verdict": passed, "largest, KiB": sent / 1024}


def moved_parts(shown: threshold_panel.Panel) -> list:
    """The parts of the panel whose text changes with a move."""
    return [shown.words, shown.table, shown.line, shown.faces]


def milliseconds(began: float) -> float:
    return 1000 * (time.perf_counter() - began)


if __name__ == "__main__":
    main()
