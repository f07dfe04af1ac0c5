"""Whether a run's state survives every fault of the disk, and every damage to its files.

    python benchmarks/faults.py [--out FILE]

Every call that touches the disk while a checkpoint is saved, pruned and mirrored fails once, and
from then on; a process ends at it; Ctrl-C arrives at it. What is loaded afterwards must be the
state before or the state after, bit for bit. Then files are damaged, the newest and all of them.
"""

import errno
import os
import pickle
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
import typer
from machine import Report

from facekit.common.errors import RunError
from facekit.models.weights import FORMAT, digest
from facekit.training.checkpoint import Checkpoints

OLD, NEW = 200, 300  # steps; 100 is there as well


def state(step: int) -> dict:
    weights = torch.arange(400.0).view(20, 20) + step
    return {"format": FORMAT, "net": {"weight": weights}, "step": step, "rows": [0.1, None]}


DIGESTS = {digest(state(OLD)): "old", digest(state(NEW)): "new"}


def no_space() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def input_output() -> None:
    raise OSError(errno.EIO, "Input/output error")


def interrupt() -> None:
    raise KeyboardInterrupt


def crash() -> None:
    os._exit(9)


KINDS = {  # what happens, and whether to every later call, too
    "crash": (crash, False),
    "no space, once": (no_space, False),
    "no space, lasting": (no_space, True),
    "I/O error, once": (input_output, False),
    "I/O error, lasting": (input_output, True),
    "Ctrl-C": (interrupt, False),
}


class Calls:
    """Counts the calls that touch the disk; from the `at`-th, one or all of them fail."""

    def __init__(self, at: int = 0, fault: Callable[[], None] = crash, lasting: bool = False):
        self.at, self.fault, self.lasting, self.count = at, fault, lasting, 0

    def due(self) -> bool:
        self.count += 1
        return self.count == self.at or (self.lasting and 0 < self.at < self.count)

    def watch(self, function: Callable) -> Callable:
        def watched(*arguments, **options):
            if self.due():
                self.fault()
            return function(*arguments, **options)

        return watched

    @contextmanager
    def watching(self) -> Iterator[None]:
        opened = Path.open

        def open_(path, mode="r", *arguments, **options):
            if self.due():
                self.fault()
            file = opened(path, mode, *arguments, **options)
            return File(file, self) if mode[0] in "wx" else file

        names = ("fsync", "replace", "unlink", "open", "mkdir")
        patches = [patch.object(os, name, self.watch(getattr(os, name))) for name in names]
        for each in (patches := [*patches, patch.object(Path, "open", open_)]):
            each.start()
        try:
            yield
        finally:
            for each in patches:
                each.stop()


class File:
    """An open file whose writes count; one that fails has written half."""

    def __init__(self, file, calls: Calls) -> None:
        self.file, self.calls = file, calls

    def write(self, content) -> int:
        if self.calls.due():
            self.file.write(memoryview(content)[: len(content) // 2])
            self.calls.fault()
        return self.file.write(content)

    def flush(self) -> None:
        if self.calls.due():
            self.calls.fault()
        self.file.flush()

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.file.close()

    def __getattr__(self, name: str):
        return getattr(self.file, name)


def prepare(work: Path) -> Path:
    """A folder of two checkpoints with its mirror, to be copied for every case."""
    template = work / "template"
    template.mkdir(parents=True)
    run = Checkpoints(template / "run", mirror=template / "mirror")
    for step in (100, OLD):
        run.save(step, state(step))
    return template


def opened(place: Path, said: list[str]) -> Checkpoints:
    return Checkpoints(place / "run", mirror=place / "mirror", warn=said.append)


def count_calls(template: Path) -> int:
    """How many places there are for a fault in one save."""
    place = shutil.copytree(template, template.with_name("counted"))
    calls = Calls()
    with calls.watching():
        opened(place, []).save(NEW, state(NEW))
    shutil.rmtree(place)
    return calls.count


def found(folder: Path) -> str:
    """What a new process finds in the folder alone: old, new or what is wrong."""
    try:
        loaded = Checkpoints(folder, warn=lambda text: None).load_latest()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing" if loaded is None else DIGESTS.get(digest(loaded), "another state")


def save_under(calls: Calls, place: Path) -> str:
    """Save with faults, in a process of its own where it is to end: how that went."""
    said: list[str] = []
    child = os.fork() if calls.fault is crash else None
    if child:
        return "crashed" if os.waitpid(child, 0)[1] else "saved"
    try:
        with calls.watching():
            opened(place, said).save(NEW, state(NEW))
        outcome = "warned" if said else "saved"
    except BaseException as error:
        outcome = type(error).__name__
    if child == 0:
        os._exit(0)
    return outcome


def inject(template: Path, kind: str, at: int) -> dict[str, str]:
    """One fault: what the save did, what the folder and the mirror hold, and what goes on."""
    place = shutil.copytree(template, template.with_name("case"))
    try:
        went = save_under(Calls(at, *KINDS[kind]), place)
        row = {"save": went, "mirror": found(place / "mirror"), "run": found(place / "run")}
        later = opened(place, [])
        later.claim()
        later.save(NEW, state(NEW))
        row["next save"] = found(place / "run")
        row["half files"] = str(len(list(place.glob("*/.*.part"))))
    finally:
        shutil.rmtree(place)
    return row


def sound(row: dict[str, str]) -> bool:
    states = {row["run"], row["mirror"]} <= {"old", "new"}
    return states and row["next save"] == "new" and row["half files"] == "0"


# ------------------------------------------------------------------ damage


class Touch:
    """A pickle that makes a file when it is loaded without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def largest(path: Path) -> tuple[int, int]:
    """Where the content of the largest record of an archive lies: start and length."""
    with zipfile.ZipFile(path) as archive:
        record = max(archive.infolist(), key=lambda each: each.file_size)
    content = path.read_bytes()
    at = record.header_offset
    lengths = [int.from_bytes(content[at + k : at + k + 2], "little") for k in (26, 28)]
    return at + 30 + sum(lengths), record.file_size


def cut(path: Path, length: int) -> None:
    os.truncate(path, length)


def overwrite(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def flip(path: Path) -> None:
    start, length = largest(path)
    at = start + length // 2
    overwrite(path, at, bytes([path.read_bytes()[at] ^ 16]))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut in half": lambda path: cut(path, path.stat().st_size // 2),
    "last byte gone": lambda path: cut(path, path.stat().st_size - 1),
    "0 bytes": lambda path: cut(path, 0),
    "all zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "one bit flipped": flip,
    "512 bytes zeroed": lambda path: overwrite(path, largest(path)[0], bytes(512)),
    "a web page": lambda path: path.write_bytes(b"<html>404 Not Found</html>"),
    "a git-lfs pointer": lambda path: path.write_bytes(POINTER),
    "a malicious archive": lambda path: torch.save({"net": Touch(trap(path))}, path),
    "a malicious pickle": lambda path: path.write_bytes(pickle.dumps(Touch(trap(path)))),
}


def trap(path: Path) -> Path:
    """The file that a malicious checkpoint makes if it is allowed to run."""
    return path.with_name("touched")


def damage(template: Path, name: str) -> dict[str, str]:
    """The newest file damaged, then both: what is loaded, and what is said."""
    place = shutil.copytree(template, template.with_name("damaged"))
    try:
        run = Checkpoints(place / "run", warn=(said := []).append)
        run.save(NEW, state(NEW))
        newest, older = run.paths()
        DAMAGES[name](newest)
        row = {"newest": found_by(run), "said": " ".join(said)}
        row["put aside"] = str(newest.with_name(f"{newest.name}.damaged").exists())
        DAMAGES[name](older)
        row |= {"both": found_by(run), "again": found_by(run), "ran": str(trap(newest).exists())}
    finally:
        shutil.rmtree(place)
    return row


def found_by(run: Checkpoints) -> str:
    try:
        loaded = run.load_latest()
    except RunError as error:
        return f"refused: {error}"
    return "nothing" if loaded is None else DIGESTS.get(digest(loaded), "another state")


def survived(row: dict[str, str]) -> bool:
    refused = row["both"].startswith("refused: all 2") and row["again"] == row["both"]
    return (
        row["newest"] == "old" and row["put aside"] == "True" and refused and row["ran"] == "False"
    )


def verdict(good: int, count: int) -> dict[str, str]:
    return {"verdict": "PASS" if good == count else "missed"}


def fault_row(template: Path, kind: str, calls: int) -> dict:
    rows = [inject(template, kind, at) for at in range(1, calls + 1)]
    states = Counter(row["run"] for row in rows)
    good = sum(sound(row) for row in rows)
    row = {"fault": kind, "injected": len(rows), "old state": states["old"]}
    row |= {"new state": states["new"], "anything else": len(rows) - good}
    return row | verdict(good, len(rows))


def damage_row(template: Path, name: str) -> dict:
    row = damage(template, name)
    both = row["both"].partition(":")[0]
    kept = {"damage": name, "of the newest": row["newest"], "of both": both, "code ran": row["ran"]}
    return kept | verdict(survived(row), True)


def main(out: Path | None = None) -> None:
    """Every fault at every call, then every damage."""
    torch.set_num_threads(1)
    report = Report("faults", out)
    with tempfile.TemporaryDirectory() as folder:
        template = prepare(Path(folder))
        calls = count_calls(template)
        report.note(f"{calls} calls touch the disk in one save with its mirror")
        report.table("faults", [fault_row(template, kind, calls) for kind in KINDS])
        report.table("damages", [damage_row(template, name) for name in DAMAGES])


if __name__ == "__main__":
    typer.run(main)
