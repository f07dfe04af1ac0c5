"""What a GPU's speed in making faces is bounded by, counted here: `faces.py model`.

A GPU works beside the processor, which hands it one operation after another. So there are two
bounds: how fast operations are handed over, and how fast memory is read and written for them.
Expect half of the lower one.
"""

from machine import Report
from people import DIFFICULTY, numbers
from traffic import Traffic

from facekit import faces
from facekit.faces import rendering

COUNT = 24  # images counted: enough that every kind of hat and every fineness is there
LAUNCH = 5e-6  # seconds an operation takes the processor, a fast one
GPUS = {  # bytes of memory, bytes a second, images a second aimed at with 224 pixels
    "H100": (80e9, 3.0e12, 2000),
    "T4": (15.8e9, 270e9, 400),
}


def count(size: int) -> tuple[int, float]:
    """Operations of a batch, the processor's own among them, and a GPU's bytes an image."""
    person = numbers(COUNT)
    shot = numbers(COUNT)
    faces.render(person, shot, size, difficulty=DIFFICULTY)  # constants are there
    at_once = rendering.PIXELS_AT_ONCE["cpu"]
    rendering.PIXELS_AT_ONCE["cpu"] = COUNT * max(size, 112) ** 2  # one batch
    try:
        drawn = Traffic()
        with drawn:  # by the processor, whatever renders
            who, how = rendering.draw(person, shot, 0, DIFFICULTY, None)
            list(rendering.batches(who | how, size, "cpu"))
        whole = Traffic()
        with whole:
            faces.render(person, shot, size, difficulty=DIFFICULTY)
    finally:
        rendering.PIXELS_AT_ONCE["cpu"] = at_once
    return whole.operations, (whole.bytes - drawn.bytes) / COUNT


def rows(size: int) -> list[dict]:
    operations, traffic = count(size)
    found = []
    for name, (memory, speed, aim) in GPUS.items():
        pixels = rendering.pixels_at_once("cuda", int(memory))
        images = max(pixels // max(size, 112) ** 2, 1)
        handed_over = images / (operations * LAUNCH)
        read = speed / traffic
        row = {
            "pixels": size,
            "GPU": name,
            "images at once": images,
            "operations": operations,
            "MB an image": traffic / 1e6,
            "images/s by operations": round(handed_over),
            "by memory": round(read),
        }
        if size == 224:
            met = min(handed_over, read) >= aim
            row |= {"bar": f">= {aim}", "verdict": "PASS" if met else "missed"}
        found.append(row)
    return found


def measure(report: Report, sizes: list[int]) -> None:
    report.table("bounds of a GPU", [row for size in sizes for row in rows(size)])
