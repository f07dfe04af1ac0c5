"""Everything that only a GPU can show, in one command under nine minutes.

    python benchmarks/gpu.py [--minutes 9] [--out FILE] [--only checks ...]
    python benchmarks/gpu.py --tiny --device cpu

Whether the GPU is never waited for and computes what the processor does, whether training goes on
out of memory, compiled and in two processes; how fast faces are rendered, images augmented and
networks trained, per cent of what the memory's bandwidth allows, beside timm; a real run with its
curve, and how long an epoch of the full homework takes. It writes one JSON and, beside it, a page
(.md). Needs torch, torchvision, numpy, pandas, matplotlib, pillow and tqdm, no network; timm for
the comparison. A part that fails is noted, and the next begins; what no longer fits into the
minutes is skipped and named. Without a GPU it says so and ends with status 2.
"""

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # sums in one order, where asked for
sys.path.insert(1, str(Path(__file__).parents[1]))  # facekit need not be installed

import gpu_checks
import gpu_faces
import gpu_page
import gpu_speed
import gpu_timm
import gpu_training
import torch
from gpu_job import Job, give_back
from machine import Report, progress

# Title, what to do, and about how many seconds it takes: what tells most comes first.
PARTS: dict[str, tuple[Callable, int]] = {
    "ceilings": (gpu_speed.ceilings, 10),
    "checks: no waits": (gpu_training.no_waits, 10),
    "checks: out of memory": (gpu_training.out_of_memory, 10),
    "checks: pictures": (gpu_checks.pictures, 10),
    "checks: precisions": (gpu_checks.precisions, 15),
    "checks: two processes": (gpu_training.two_processes, 40),
    "checks: compiled epochs": (gpu_training.compiled_epochs, 40),
    "checks: faces": (gpu_checks.rendered, 20),
    "steps at 112": (lambda job: gpu_speed.steps(job, 112), 35),
    "faces": (gpu_faces.speed, 25),
    "a real run": (gpu_training.real_run, 125),
    "timm's loop beside ours": (gpu_timm.loops, 40),
    "epochs": (gpu_speed.epochs, 30),
    "augmentation": (gpu_speed.augmentation, 20),
    "checks: resumed": (gpu_checks.resumed, 20),
    "checks: evaluation": (gpu_checks.evaluation, 5),
    "checks: storages": (gpu_checks.storages, 5),
    "checks: search": (gpu_checks.searched, 5),
    "compiled at 112": (lambda job: gpu_speed.compiled(job, 112), 35),
    "gallery of a million": (gpu_speed.gallery, 20),
}
PATIENCE = 3  # times the seconds that a part should take: then it is stopped
GRACE = 15  # seconds after the end until the process is stopped by force


class Late(BaseException):
    """A part took longer than there was time."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Inside, an alarm raises Late when the time is up."""

    def ring(number: int, frame) -> None:
        raise Late(f"stopped after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(1.0, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def attempt(job: Job, title: str, part: Callable, needed: float) -> str:
    """Run one part and keep its rows; how it ended."""
    if job.left < needed:
        return f"skipped: {job.left:.0f} s left, about {needed} needed"
    began = time.monotonic()
    try:
        with limited(min(job.left, PATIENCE * needed)):
            job.report.table(title, part(job))
    except (Exception, Late) as error:  # whatever it is, the other parts are wanted
        lines = str(error).splitlines() or [""]
        return f"failed: {type(error).__name__}: {lines[0]}"[:500]
    finally:
        give_back(job)
    return f"done in {time.monotonic() - began:.0f} s"


def run(job: Job, chosen: list[str]) -> None:
    ended = []
    for title, (part, seconds) in PARTS.items():
        if chosen and not any(title.startswith(start) for start in chosen):
            continue
        progress(f"{title} ({job.left:.0f} s left)")
        ended.append({"part": title, "ended": attempt(job, title, part, seconds)})
        job.report.content["parts"] = ended
        job.report.write()
        page = gpu_page.page(job.report.content)
        job.report.path.with_suffix(".md").write_text(page, encoding="utf-8")
    job.report.table("parts", ended)


def watch(job: Job) -> None:
    """Stop the process where even the alarm is not heard, as deep inside a compiler."""

    def stop() -> None:
        job.report.note("stopped by force: out of time")
        os._exit(3)

    timer = threading.Timer(job.left + GRACE, stop)
    timer.daemon = True
    timer.start()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, to see that all parts run")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/gpu.json")
    parser.add_argument("--only", nargs="*", default=[], help="parts that begin with these words")
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    if chosen.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here: nothing measured", file=sys.stderr)
        sys.exit(2)
    settings = {"minutes": chosen.minutes, "tiny": chosen.tiny, "device": chosen.device}
    report = Report("gpu", chosen.out, **settings)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FACEKIT_CACHE"] = str(Path(folder, "cache"))
        ends = time.monotonic() + 60 * chosen.minutes - GRACE
        job = Job(torch.device(chosen.device), report, chosen.tiny, ends, Path(folder))
        watch(job)
        torch.backends.cudnn.benchmark = True  # as the kit has it
        run(job, chosen.only)


if __name__ == "__main__":
    main()
