"""What a run leaves behind besides its weights: where it came from, and its curves elsewhere.

Built in notebook 04.
"""

import math
import netrc
import os
import platform
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import facekit
from facekit.errors import RecipeError
from facekit.redaction import SECRET, hide_secrets
from facekit.runtime import Choice
from facekit.tables import write_whole


def environment(device: torch.device, choices: Mapping[str, Choice]) -> dict[str, Any]:
    """What one must know to repeat a run: plain values, no secrets. It never fails."""
    package = Path(facekit.__file__).parents[1]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [hide_secrets(word) for word in _without_values(sys.argv)],
        "versions": {
            "facekit": facekit.__version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in ("torch", "torchvision", "numpy")},
        },
        "machine": {
            "platform": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        },
        "device": str(device),
        "threads": torch.get_num_threads(),
        "git": {
            # An installed package lies in an environment, and that perhaps in another repository.
            "facekit": git_state(package) if (package / ".git").exists() else None,
            "folder": git_state(Path.cwd()),
        },
        "choices": {
            name: {"value": str(choice.value), "reason": choice.reason}
            for name, choice in choices.items()
        },
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """The revision of the repository and whether files differ from it; None where there is none."""
    revision = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if revision is None or changes is None:
        return None
    return {"revision": revision.strip(), "dirty": bool(changes.strip())}


def _git(folder: Path, *words: str) -> str | None:
    # A repository may name programs of its own to watch files; none of them shall run.
    command = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout


def _without_values(words: Iterable[str]) -> list[str]:
    """A command line without the values of options that are named like secrets."""
    shown, hide = [], False
    for word in words:
        name, equals, _ = word.partition("=")
        named = bool(SECRET.search(name)) and (bool(equals) or name.startswith("-"))
        shown.append("***" if hide else name + equals + "***" * bool(equals) if named else word)
        hide = named and not equals
    return shown


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    with suppress(OSError):  # Linux; elsewhere Python knows more than "x86_64"
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        if found:
            return found[1]
    return platform.processor() or platform.machine()


class TensorBoard:
    """Curves in `folder`/tensorboard; `tensorboard --logdir runs` shows those of all runs."""

    def __init__(self, folder: Path, name: str, settings: Mapping) -> None:
        self.make = import_module("torch.utils.tensorboard").SummaryWriter
        self.folder, self.writer = folder / "tensorboard", None

    def epoch(self, row: Mapping[str, Any]) -> None:
        step = row["epoch"]
        if self.writer is None:  # what a killed run wrote from here on is not shown twice
            self.writer = self.make(str(self.folder), purge_step=step)
        for key, value in row.items():
            if key != "epoch" and isinstance(value, int | float) and math.isfinite(value):
                self.writer.add_scalar(key, value, step)
        self.writer.flush()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


class WandB:
    """Curves at Weights & Biases, or, without a key, in `folder`/wandb for `wandb sync`."""

    def __init__(self, folder: Path, name: str, settings: Mapping) -> None:
        wandb = import_module("wandb")
        self.run = wandb.init(
            project="facekit",
            name=name,
            id=_wandb_id(folder / "wandb-id.txt"),
            resume="allow",
            dir=str(folder),
            config=dict(settings),
            mode=os.environ.get("WANDB_MODE") or ("online" if _has_wandb_key() else "offline"),
            # What a notebook prints stays in it, and nobody waits long for a network.
            settings={"console": "off", "silent": True, "init_timeout": 30},
        )

    def epoch(self, row: Mapping[str, Any]) -> None:
        self.run.log(dict(row), step=row["epoch"])

    def close(self) -> None:
        self.run.finish()


def _wandb_id(file: Path) -> str:
    """The run's own name there, kept so that a resumed run goes on in the same curve."""
    with suppress(FileNotFoundError):
        known = file.read_text(encoding="utf-8").strip()
        if re.fullmatch(r"[\w-]+", known):
            return known
    new = secrets.token_hex(4)
    write_whole(file, new.encode())
    return new


def _has_wandb_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        logins = netrc.netrc(os.environ.get("NETRC") or None)
    except (OSError, netrc.NetrcParseError):
        return False
    return logins.authenticators("api.wandb.ai") is not None


TRACKERS = {"tensorboard": TensorBoard, "wandb": WandB}


class Tracker:
    """Sends each epoch to the trackers named in `to`; one that fails is left out, with a warning.

    Raises RecipeError for an unknown tracker and for one whose package is not installed.
    """

    def __init__(
        self,
        folder: str | Path,
        name: str,
        to: Iterable[str] = (),
        settings: Mapping | None = None,
        warn: Callable[[str], object] = print,
    ) -> None:
        self.warn, self.trackers = warn, {}
        for kind in to:
            if kind not in TRACKERS:
                raise RecipeError(f"no tracker {kind!r}; there are: {', '.join(TRACKERS)}")
            try:
                self.trackers[kind] = TRACKERS[kind](Path(folder), name, settings or {})
            except ImportError as error:
                raise RecipeError(
                    f"tracker {kind}: not installed; pip install 'facekit[tracking]'"
                ) from error
            except Exception as error:
                self._leave_out(kind, error)

    def step(self) -> None:
        """Within an epoch there is nothing to send."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Send a row of the history: its "epoch", counted from 1, and numbers by name."""
        self._each(lambda tracker: tracker.epoch(row))

    def close(self) -> None:
        self._each(lambda tracker: tracker.close())
        self.trackers = {}

    def _each(self, action: Callable[[Any], None]) -> None:
        for kind, tracker in list(self.trackers.items()):
            try:
                action(tracker)
            except Exception as error:  # whatever their networks and disks come up with
                self._leave_out(kind, error)

    def _leave_out(self, kind: str, error: Exception) -> None:
        self.trackers.pop(kind, None)
        reason = hide_secrets((str(error).splitlines() or [""])[0]) or type(error).__name__
        self.warn(f"tracker {kind} failed ({reason}); training goes on without it")
