"""What one must know to repeat a run: versions, machine, revision, choices."""

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import facekit
from facekit.common.machine import Choice


def environment(device: torch.device, choices: Mapping[str, Choice]) -> dict[str, Any]:
    """What one must know to repeat a run: plain values, no secrets. It never fails."""
    package = Path(facekit.__file__).parents[1]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
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
            "facekit": git_revision(package) if (package / ".git").exists() else None,
            "folder": git_revision(Path.cwd()),
        },
        "choices": {
            name: {"value": str(choice.value), "reason": choice.reason}
            for name, choice in choices.items()
        },
    }


def git_revision(folder: Path) -> str | None:
    """The commit that a repository's files come from; None where there is no repository."""
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", timeout=20, check=True
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


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
