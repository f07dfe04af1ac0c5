"""Curves of a run in TensorBoard or at Weights & Biases. Built in notebook 04."""

import math
import netrc
import os
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from facekit.common.errors import RecipeError
from facekit.common.files import write_whole
from facekit.common.kit import install_command
from facekit.common.redaction import hide_secrets
from facekit.training.callbacks import Callback
from facekit.training.run import Run


class TensorBoard:
    """Curves in `folder`/tensorboard; `tensorboard --logdir runs` shows those of all runs."""

    def __init__(self, folder: Path, name: str, settings: Mapping) -> None:
        self.make = import_module("torch.utils.tensorboard").SummaryWriter
        self.folder = folder / "tensorboard"
        self.writer = None

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


class Tracker(Callback):
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
        self.warn = warn
        self.trackers: dict[str, Any] = {}
        for kind in to:
            if kind not in TRACKERS:
                raise RecipeError(f"no tracker {kind!r}; there are: {', '.join(TRACKERS)}")
            try:
                self.trackers[kind] = TRACKERS[kind](Path(folder), name, settings or {})
            except ImportError as error:
                raise RecipeError(
                    f"tracker {kind}: not installed; {install_command('tracking')}"
                ) from error
            except Exception as error:
                self._leave_out(kind, error)

    def after_epoch(self, run: Run, row: dict) -> None:
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
