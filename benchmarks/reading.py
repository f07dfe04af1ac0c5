"""How much of the package one has to read: lines by room, and what a call enters on its way.

    python benchmarks/reading.py DATA

DATA: a course of profile smoke; a run of two epochs is trained on it and thrown away.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import machine
import typer

import facekit

PACKAGE = Path(facekit.__file__).parent
PATH = ["training/loop.py", "models/net.py", "models/blocks.py", "models/heads.py"]


def count_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else "cli"


def rooms() -> dict[str, int]:
    """Lines of each room, docstrings and comments included; the files beside them are "cli"."""
    lines: dict[str, int] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        lines[room_of(path)] = lines.get(room_of(path), 0) + count_lines(path)
    return lines


def entered(call: Callable[[], object]) -> tuple[int, int, int]:
    """Modules, functions and their lines of this package that a call enters in this thread."""
    codes = set()

    def notice(frame, event, argument) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            codes.add(frame.f_code)

    sys.setprofile(notice)
    try:
        call()
    finally:
        sys.setprofile(None)
    named = {code for code in codes if not code.co_name.startswith("<")}
    lines = 0
    for code in named:
        numbers = [number for _, _, number in code.co_lines() if number]
        lines += max(numbers) - code.co_firstlineno + 1
    return len({code.co_filename for code in codes}), len(named), lines


def seconds_of_import(name: str) -> float:
    """The least of three fresh processes."""
    code = f"import time; t = time.perf_counter(); import {name}; print(time.perf_counter() - t)"
    taken = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        taken.append(float(done.stdout))
    return min(taken)


def main(data: Path) -> None:
    for name, lines in rooms().items():
        print(f"{name:12} {lines:6}")
    print(f"{'all':12} {sum(rooms().values()):6}")
    print(f"reading path {sum(count_lines(PACKAGE / name) for name in PATH):6}")
    for name in ("facekit", "facekit.models", "facekit.evaluation", "facekit.training"):
        print(f"import {name}: {seconds_of_import(name):.2f} s")

    from facekit.data import CourseData
    from facekit.evaluation import load_run
    from facekit.submission import pipeline
    from facekit.training import fit, load_recipe

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        recipe = load_recipe("smoke", ["epochs=2"])
        found = entered(lambda: fit(recipe, data, out, "cpu", progress=False, workers=0))
        print("fit enters {} modules, {} functions, {} lines".format(*found))
        run = load_run(out, "cpu")
        found = entered(lambda: pipeline.write_submissions(run, CourseData(data)))
        print("submit enters {} modules, {} functions, {} lines".format(*found))


if __name__ == "__main__":
    with machine.one_line_for_errors():
        typer.run(main)
