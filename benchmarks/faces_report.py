"""What the measurements of `faces.py` share: tables on paper, bars, and the same as JSON."""

import json
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm.auto import tqdm

DIFFICULTY = "homework"
FRESH = 1_000_000  # people from this number on are in no course


def numbers(count: int, first: int = FRESH) -> torch.Tensor:
    """People or shots, one after another: int64 (count,)."""
    return first + torch.arange(count)


def steps(things: Iterable, title: str) -> tqdm:
    """The same things, with a bar of progress on standard error; seldom, where it is a file."""
    every = 0.1 if sys.stderr.isatty() else 15
    return tqdm(things, title, file=sys.stderr, mininterval=every, leave=False)


def against(value: float, sign: str, bar: float) -> dict[str, str]:
    """How a share stands against its bar, such as (0.96, ">=", 0.97)."""
    met = value >= bar if sign == ">=" else value <= bar
    return {"bar": f"{sign} {100 * bar:.3g} %", "verdict": "PASS" if met else "missed"}


class Report:
    """Tables that are printed as they come and, with `out`, written as JSON at the end."""

    def __init__(self, command: str, out: Path | None, **arguments: Any) -> None:
        self.out = out
        self.content: dict[str, Any] = {
            "command": command,
            "arguments": {k: str(v) if isinstance(v, Path) else v for k, v in arguments.items()},
            "versions": versions(),
            "machine": {
                "processor": platform.machine(),
                "cores": os.cpu_count(),
                "threads": torch.get_num_threads(),
            },
            "figures": {},
        }
        print(f"{command}: " + ", ".join(f"{k} {v}" for k, v in versions().items()))

    def table(self, title: str, rows: list[dict], percent: tuple[str, ...] = ()) -> None:
        """Print and keep rows; columns named in `percent` are shares."""
        self.content["figures"][title] = rows
        frame = pd.DataFrame(rows)
        for column in frame.columns:
            show = (lambda v: f"{v:.1%}") if column in percent else _plain
            frame[column] = ["" if _missing(v) else show(v) for v in frame[column].astype(object)]
        print(f"\n{title}\n{frame.to_string(index=False)}", flush=True)

    def note(self, text: str) -> None:
        self.content.setdefault("notes", []).append(text)
        print(text, flush=True)

    def close(self) -> None:
        if self.out:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self.out.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def versions() -> dict[str, str]:
    """Of what the figures depend on; OpenCV only where it is installed."""
    found = {"torch": str(torch.__version__)}
    try:
        import cv2

        found["opencv"] = cv2.__version__
    except ImportError:
        pass
    return found
