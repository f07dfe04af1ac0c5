"""What the measurements share: rounds, ratios, the machine, and the report.

Beside the kit only the standard library, torch, numpy and tqdm: it runs on a bare GPU machine.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

from facekit.common.errors import DataError, FacekitError
from facekit.common.files import write_whole

RESULTS = Path(__file__).parent / "results"
ROUNDS = 7  # at the least
AGAIN = " (again)"  # the second of an A/A pair: what it differs by is noise
Row = dict[str, Any]


class Taken(NamedTuple):
    """Seconds of one variant in each round."""

    wall: list[float]
    cpu: list[float]  # of all threads


@contextmanager
def one_line_for_errors() -> Iterator[None]:
    """What whoever starts a script can mend ends it in one line and status 2, as in the kit."""
    try:
        yield
    except FacekitError as error:
        print(f"{Path(sys.argv[0]).name}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def describe_machine() -> Row:
    """What every figure depends on."""
    affinity = getattr(os, "sched_getaffinity", None)
    found = {
        "processor": processor(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "time": time.strftime("%Y-%m-%d %H:%M"),
    }
    opencv = sys.modules.get("cv2")
    if opencv is not None:
        found["opencv"] = opencv.__version__
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        found["gpu"] = f"{gpu.name}, {gpu.total_memory / (1 << 30):.0f} GiB"
        found["capability"] = f"sm_{gpu.major}{gpu.minor}"
        found["cuda"], found["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
    return found


def wait(device: torch.device | None) -> None:
    """Until the GPU has done what it was asked to do."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def time_rounds(
    variants: Mapping[str, Callable[[], object]],
    rounds: int = ROUNDS,
    device: torch.device | None = None,
    warm_up: int = 1,
) -> dict[str, Taken]:
    """Seconds of every variant in each of the rounds, in which each has its turn.

    So whatever else the machine does hits all alike; every round begins with another one.
    """
    taken = {name: Taken([], []) for name in variants}
    names = list(variants)
    for number in range(-warm_up, rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            wait(device)
            wall, cpu = time.perf_counter(), time.process_time()
            variants[name]()
            wait(device)
            if number >= 0:
                taken[name].wall.append(time.perf_counter() - wall)
                taken[name].cpu.append(time.process_time() - cpu)
    return taken


def compare(
    taken: Mapping[str, Taken], base: str, images: int | Mapping[str, int], clock: str = "wall"
) -> list[Row]:
    """A row for each variant: images a second, and how many times the base's they are.

    The ratio is the median of the rounds' ratios, with their quartiles; `clock` says which time
    is compared. `images`: of one turn, of all variants alike or of each.
    """
    many = images if isinstance(images, Mapping) else dict.fromkeys(taken, images)
    first = np.array(getattr(taken[base], clock)) / many[base]
    rows = []
    for name, times in taken.items():
        each = np.array(getattr(times, clock)) / many[name]  # seconds of an image
        low, middle, high = np.quantile(first / each, [0.25, 0.5, 0.75]).tolist()
        row = {"variant": name, "images/s": float(1 / np.median(each))}
        row |= {"ratio": middle, "from": low, "to": high, "rounds": len(each)}
        rows.append(row)
    return rows


def verdict(value: float, bar: float) -> Row:
    """How a figure that should be high stands against its bar."""
    return {"bar": f">= {bar:g}", "verdict": "PASS" if value >= bar else "missed"}


def slope(values: list[float]) -> float:
    """By how much a value grows from one to the next: least squares."""
    return float(np.polyfit(np.arange(len(values)), values, 1)[0])


def memory(of: str = "VmRSS") -> float:
    """MiB of memory that this process holds, or held at most ("VmHWM"); NaN where none can tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(of))


def markdown(rows: list[Row]) -> str:
    """Rows as a table; a column is there when any row has it."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[plain(row.get(column)) for column in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plain(value: Any) -> str:
    """A value for people: four figures of a number, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value).replace("|", "/").replace("\n", " ")


class Report:
    """Tables printed as they come, and written as JSON after each, whole, so that none is lost."""

    def __init__(self, name: str, out: Path | None = None, **arguments: Any) -> None:
        self.path = Path(out or RESULTS / f"{name}.json")
        settings = {k: v if _is_plain(v) else str(v) for k, v in arguments.items()}
        self.content: Row = {"benchmark": name, "arguments": settings}
        self.content |= {"machine": describe_machine(), "notes": [], "tables": {}}
        told = ", ".join(f"{k} {v}" for k, v in self.content["machine"].items())
        print(f"# {name}\n\n{told}", flush=True)

    def go_on(self, **same: list[Row]) -> None:
        """Take over the tables that the report's file has from an earlier call.

        DataError where that was a call with other arguments, or where one of the tables in `same`
        is another: what a report is about.
        """
        if self.path.is_file():
            try:
                earlier = json.loads(self.path.read_text(encoding="utf-8"))
                alike = earlier["arguments"] == self.content["arguments"]
                tables = dict(earlier["tables"])
            except (ValueError, LookupError, TypeError) as error:
                raise DataError(f"{self.path}: no report of this script ({error!r})") from error
            if not alike or any(tables.get(title) != rows for title, rows in same.items()):
                raise DataError(f"{self.path} is of other settings or images; choose another --out")
            self.content["tables"] = tables
        self.content["tables"] |= same

    def rows(self, title: str) -> list[Row]:
        """A table's rows so far, to be added to."""
        return self.content["tables"].setdefault(title, [])

    def table(self, title: str, rows: list[Row]) -> None:
        self.content["tables"][title] = rows
        print(f"\n## {title}\n\n{markdown(rows)}", flush=True)
        self.write()

    def note(self, text: str) -> None:
        self.content["notes"].append(text)
        print(f"\n{text}", flush=True)
        self.write()

    def write(self) -> None:
        """NaN, which is no JSON, becomes null."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_finite(self.content), indent=1) + "\n"
        write_whole(self.path, text.encode())


def progress(text: str) -> None:
    """A line for whoever waits."""
    print(f"... {text}", file=sys.stderr, flush=True)


def steps(things: Iterable, title: str) -> tqdm:
    """The same things, with a bar of progress on standard error; seldom, where it is a file."""
    every = 0.1 if sys.stderr.isatty() else 15
    return tqdm(things, title, file=sys.stderr, mininterval=every, leave=False)


def against(value: float, sign: str, bar: float) -> Row:
    """How a share stands against its bar, such as (0.96, ">=", 0.97)."""
    met = value >= bar if sign == ">=" else value <= bar
    return {"bar": f"{sign} {100 * bar:.3g} %", "verdict": "PASS" if met else "missed"}


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | list | tuple | None)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    is_odd = isinstance(value, float) and not np.isfinite(value)
    return None if is_odd else value
