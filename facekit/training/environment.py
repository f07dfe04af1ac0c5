"""What one must know to repeat a run: versions, machine, revision, choices."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import facekit
from facekit.common.machine import Choice
from facekit.common.redaction import SECRET, hide_secrets

NO_PROGRAMS = ("-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
# Submodules have filters of their own.
CHANGES = ("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")


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
    """The revision of the repository and whether files differ from it; None where there is none.

    `dirty` is None where that cannot be told without running a program of the repository's.
    """
    revision = _git(folder, "rev-parse", "HEAD")
    if revision is None:
        return None
    settings = _git(folder, "config", "--null", "--name-only", "--list")
    changes = None
    keys = (settings or "").split("\0")
    odd = [key for key in keys if key.startswith("filter.") and "=" in key]  # -c cannot name them
    if settings is not None and not odd:
        changes = _git(folder, *_without_filters(keys), *CHANGES)
    dirty = None if changes is None else bool(changes.strip())
    return {"revision": revision.strip(), "dirty": dirty}


def _without_filters(settings: Iterable[str]) -> list[str]:
    """Options that switch off every filter: git would run it on each file that seems changed."""
    names = {re.sub(r"\.[^.]*$", "", key) for key in settings if key.startswith("filter.")}
    options: list[str] = []
    for name in sorted(names):
        for setting in ("clean=", "process=", "required=false"):
            options += ["-c", f"{name}.{setting}"]
    return options


def _git(folder: Path, *words: str) -> str | None:
    # A repository may name programs of its own, to watch files, say; none of them shall run.
    command = ["git", "-C", str(folder), *NO_PROGRAMS, *words]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            timeout=20,
            check=True,
            env=os.environ | {"GIT_ALLOW_PROTOCOL": "none", "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout


def _without_values(words: Iterable[str]) -> list[str]:
    """A command line without the values of options that are named like secrets."""
    shown: list[str] = []
    hide_next = False
    for word in words:
        name, equals, _ = word.partition("=")
        is_secret = bool(SECRET.search(name)) and (bool(equals) or name.startswith("-"))
        if hide_next:
            shown.append("***")
        elif is_secret and equals:
            shown.append(f"{name}=***")
        else:
            shown.append(word)
        hide_next = is_secret and not equals
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
