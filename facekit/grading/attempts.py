"""What a student's code gives, in a process of its own: python -m facekit.grading.attempts.

Reads the work as JSON from its input, and writes a line of JSON for each exercise. It judges
nothing, and the references cannot be imported here: the process that started it compares. Time and
memory are limited by the system, where that is Linux or macOS.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch

from facekit.course import exercises
from facekit.course.exercises import Attempt
from facekit.course.exercises.hidden import KINDS
from facekit.course.exercises.values import decode, encode

try:
    import resource
except ImportError:  # Windows
    resource = None

LARGEST = 64 * 2**20  # bytes of a file that it writes, its results too
READY = "ready"


def main() -> None:
    """Do the work that is given as JSON on standard input."""
    work = json.load(sys.stdin)
    torch.set_num_threads(1)
    for subject in exercises.SUBJECTS:
        sys.modules[f"{exercises.__name__}.{subject}"] = None  # an import of it is an error
    with os.fdopen(os.dup(1), "w") as results:
        print(READY, file=results, flush=True)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        limit_memory(work["memory"])
        for task in work["tasks"]:
            limit_time(work["seconds"])
            done = [_sent(attempt) for attempt in attempts(task, work["before"])]
            print(json.dumps(done), file=results, flush=True)


def _sent(attempt: Attempt) -> list:
    try:
        return [attempt.fault, encode(attempt.found)]
    except Exception as error:  # a list that holds itself
        return [f"its result cannot be read ({type(error).__name__})", None]


def limit_memory(most: int) -> None:
    """Let no more bytes be taken, and no large file be written; there is no way back."""
    if resource is None:
        return
    for kind, limit in (
        (resource.RLIMIT_DATA, most),
        (resource.RLIMIT_FSIZE, LARGEST),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(ValueError, OSError):  # a lower limit is there already
            resource.setrlimit(kind, (limit, limit))


def limit_time(seconds: int) -> None:
    """End this process unless it is called again in time; elsewhere than on POSIX do nothing."""
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)


def attempts(task: Mapping[str, Any], before: list[str]) -> list[Attempt]:
    """What the answer to one exercise gives for each of its arguments."""
    cases = [decode(arguments) for arguments in task["arguments"]]
    answer, fault = answer_of(task["name"], task["cell"], before)
    if answer is None:
        return [Attempt(None, fault or f"the cell defines no {task['name']}")] * len(cases)
    exercise = KINDS[task["kind"]](task["name"], None, None, {})
    return [exercise.attempt(answer, arguments) for arguments in cases]


def answer_of(name: str, cell: str, before: list[str]) -> tuple[Callable | None, str]:
    """What a cell hands to `exercises.exercise`, else what it calls so; and why it did not run."""
    space, handed = {"__name__": "__main__"}, {}
    exercises.exercise = handed.__setitem__
    for statement in before:
        with suppress(Exception):
            exec(statement, space)
    fault = ""
    try:
        exec(cell, space)
    except Exception as error:
        fault = f"its cell raises {type(error).__name__}: {error}"
    return handed.get(name, space.get(name)), fault


if __name__ == "__main__":
    main()
