"""How many faces a second the renderer makes, on one thread of this machine.

    python benchmarks/renderer.py
"""

import platform
import time

import torch

from facekit import faces

BATCH = 32


def main() -> None:
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, 1 thread, torch {torch.__version__}")
    for size in (48, 96, 112, 224):
        print(f"{size:>4} px {speed(size):6.0f} images/s")


def speed(size: int, rounds: int = 5) -> float:
    """The median of a few rounds, after one that is not counted."""
    person = torch.arange(BATCH)
    seconds = []
    for round_ in range(rounds + 1):
        began = time.perf_counter()
        faces.render(person, person + round_, size)
        seconds.append(time.perf_counter() - began)
    return BATCH / sorted(seconds[1:])[rounds // 2]


if __name__ == "__main__":
    main()
