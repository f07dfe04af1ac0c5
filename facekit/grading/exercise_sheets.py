"""Exercises in many students' notebooks graded: what they give is compared with the references.

Students' code runs in a process of its own (attempts.py), on arguments that were drawn anew; only
what it gives for them comes back, as JSON. The first file to read of the two is this one.
"""

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import facekit
from facekit.common.errors import DataError, FacekitError, printable
from facekit.common.files import refuse_link, write_table
from facekit.course import exercises
from facekit.course.exercises import Attempt, Exercise, Verdict
from facekit.course.exercises.values import decode, encode
from facekit.grading.attempts import READY
from facekit.grading.pages import no_formula
from facekit.submission import zips

ALARM = 14  # the signal that ends an exercise which takes too long
START = 120  # seconds to begin in, at most
LARGEST = 50 * 2**20  # bytes of a notebook
LONGEST = 300  # signs of what is told of an exercise
KEPT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "LANG")  # of the environment: no secrets
ASKED = re.compile(r"exercises\.exercise\(\s*[\"'](\w+)[\"']")
MAGIC = re.compile(r"^([ \t]*)[%!].*$", re.M)  # what only Jupyter runs
DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Limits(NamedTuple):
    """What one exercise may take: seconds, and bytes of memory."""

    seconds: int = 30
    memory: int = 4 * 2**30  # torch takes half of one GB


LIMITS = Limits()


@dataclass
class Sheet:
    """What one student handed in: the code, then how each exercise stands, and what was wrong."""

    name: str
    before: list[str] = field(default_factory=list)  # imports and definitions of all cells
    cells: dict[str, str] = field(default_factory=dict)  # exercise -> its cell
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def points(self, worth: Mapping[str, float]) -> float:
        """The points of all exercises that are right."""
        right = (name for name, verdict in self.verdicts.items() if verdict.state == "right")
        return sum(worth[name] for name in right)


def grade(
    folder: str | Path,
    seed: int,
    worth: Mapping[str, float] | None = None,
    limits: Limits = LIMITS,
) -> tuple[list[Sheet], dict[str, float]]:
    """A sheet for each student, by name, and what each exercise is worth.

    A student is a folder of notebooks, one notebook, or a zip that `facekit hand-in` wrote. Without
    `worth` each exercise that somebody has counts one point. Raises DataError where there is no
    notebook, and FacekitError where this copy of the kit has no references.
    """
    if exercises.HIDDEN.is_file():
        raise FacekitError(f"{exercises.HIDDEN}: a students' copy, without references; use yours")
    known = exercises.exercises()
    sheets = read(folder, known)
    if worth is None:
        worth = {name: 1 for name in known if any(name in sheet.cells for sheet in sheets)}
    cases = {name: known[name].cases(known[name].telling_seed(seed)) for name in worth}
    for sheet in sheets:
        asked = {name: known[name] for name in worth if name in sheet.cells}
        sheet.verdicts = judge(sheet, asked, cases, limits)
    return sheets, dict(worth)


def read_worth(path: Path) -> dict[str, float]:
    """Points by exercise from a TOML file, `output_side = 2`. Raises DataError for a bad one."""
    try:
        worth = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); write lines such as 'a = 2'") from error
    known = exercises.exercises()
    for name, points in worth.items():
        if name not in known:
            raise DataError(f"{path}: no exercise {name}; there are: {', '.join(known)}")
        if isinstance(points, bool) or not isinstance(points, int | float) or not points >= 0:
            raise DataError(f"{path}: {name} = {points!r}; points are a number, 0 or more")
    return worth


def write(path: Path, sheets: list[Sheet], worth: Mapping[str, float]) -> None:
    """Write the table: a row for each student, a column for each exercise."""
    rows = []
    for sheet in sheets:
        told = [": ".join(filter(None, sheet.verdicts.get(name, ()))) for name in worth]
        points = [f"{sheet.points(worth):g}", f"{sum(worth.values()):g}"]
        rows.append([*map(no_formula, [sheet.name, *points, *told, "; ".join(sheet.notes)])])
    write_table(path, ["name", "points", "of", *worth, "notes"], rows, private=True)


# ------------------------------------------------------------------ notebooks


def read(folder: str | Path, known: Mapping[str, Exercise]) -> list[Sheet]:
    """The sheets of a folder, nothing run yet; what cannot be read is a note."""
    folder = Path(folder)
    sheets: dict[str, Sheet] = {}
    for path in _handed_in(folder):
        name = path.relative_to(folder).parts[0]
        name = printable(re.sub(r"\.(ipynb|zip)$", "", name), keep="")
        sheet = sheets.setdefault(name, Sheet(name))
        try:
            refuse_link(path)
            for content in _books(path):
                _take_cells(sheet, path, content, known)
        except (FacekitError, OSError) as error:
            sheet.notes.append(str(error).replace(printable(f"{folder}{os.sep}"), ""))
    if not sheets:
        raise DataError(f"{folder}: holds no notebook; put a folder for each student there")
    return list(sheets.values())


def _handed_in(folder: Path) -> Iterator[Path]:
    for path in sorted([*folder.rglob("*.ipynb"), *folder.rglob("*.zip")]):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden:  # .ipynb_checkpoints
            yield path


def _books(path: Path) -> list[bytes]:
    """The notebooks of a file that was handed in."""
    if path.suffix == ".zip":
        files = zips.read(path).files
        books = [files[name] for name in sorted(files) if name.endswith(".ipynb")]
        if not books:
            raise DataError(f"{path}: no notebook in it")
        return books
    if path.stat().st_size > LARGEST:
        raise DataError(f"{path}: {path.stat().st_size:,} bytes; a notebook has fewer")
    return [path.read_bytes()]


def _take_cells(sheet: Sheet, path: Path, content: bytes, known: Mapping[str, Exercise]) -> None:
    """Lay the cells of a notebook's exercises, and what they may need, into the sheet."""
    for code in _cells_of(path, content):
        statements = _statements(code)
        if not statements:
            code = MAGIC.sub(r"\1pass", code)
            statements = _statements(code)
        asked = set(ASKED.findall(code))
        for statement in statements:
            if isinstance(statement, DEFINITIONS):
                sheet.before.append(ast.unparse(statement))
                asked.add(getattr(statement, "name", ""))
        sheet.cells |= {name: code for name in asked if name in known}


def _cells_of(path: Path, content: bytes) -> list[str]:
    """The code of a notebook, cell by cell."""
    try:
        cells = json.loads(content)["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: not a notebook (empty, half written, or of an old format?)"
        ) from error


def _statements(code: str) -> list[ast.stmt]:
    try:
        return ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []  # told where the cell is run


# ------------------------------------------------------------------ running


def judge(
    sheet: Sheet,
    asked: Mapping[str, Exercise],
    cases: Mapping[str, list[tuple]],
    limits: Limits = LIMITS,
) -> dict[str, Verdict]:
    """How each of the exercises asked for stands, on these arguments."""
    found = attempts(sheet, asked, cases, limits)
    return {name: _verdict(asked[name], cases[name], found[name]) for name in asked}


def _verdict(exercise: Exercise, cases: list[tuple], found: list[Attempt]) -> Verdict:
    try:
        state, words = exercise.verdict(cases, found)
    except Exception:  # what comes back was made by a student's code
        state, words = "not yet", "its result cannot be compared"
    return Verdict(state, printable(words, keep="")[:LONGEST])


def attempts(
    sheet: Sheet,
    asked: Mapping[str, Exercise],
    cases: Mapping[str, list[tuple]],
    limits: Limits,
) -> dict[str, list[Attempt]]:
    """What the student's answers give; one that ends the process does not end the others."""
    found, left = {}, list(asked)
    while left:
        tasks = [
            {
                "name": name,
                "kind": type(asked[name]).__name__,
                "cell": sheet.cells[name],
                "arguments": [encode(arguments) for arguments in cases[name]],
            }
            for name in left
        ]
        lines, why = _run({"before": sheet.before, "tasks": tasks, **limits._asdict()})
        for line in lines[: len(left)]:
            name = left.pop(0)
            found[name] = _read(line, len(cases[name]))
        if left:
            name = left.pop(0)
            found[name] = [Attempt(None, why)] * len(cases[name])
    return found


def _read(line: str, count: int) -> list[Attempt]:
    try:
        found = [Attempt(decode(result), str(fault)) for fault, result in json.loads(line)]
    except Exception:  # not what attempts.py writes: a student's code did
        found = []
    return found if len(found) == count else [Attempt(None, "its result cannot be read")] * count


def _run(work: Mapping[str, Any]) -> tuple[list[str], str]:
    """The lines that a process wrote for this work, and why there are no more of them."""
    longest, late = START + work["seconds"] * len(work["tasks"]), False
    with tempfile.TemporaryDirectory(prefix="facekit-", ignore_cleanup_errors=True) as folder:
        home, results, errors = (Path(folder, name) for name in ("home", "results", "errors"))
        home.mkdir()
        with results.open("wb") as out, errors.open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "facekit.grading.attempts"],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                cwd=home,
                env=_environment(home),
                start_new_session=True,
            )
            try:
                process.communicate(json.dumps(work).encode(), longest)
            except subprocess.TimeoutExpired:
                late = True
            finally:
                _end(process)
        ready, *lines = results.read_text(errors="replace").split("\n")[:-1] or [""]
        if ready != READY:
            told = errors.read_text(errors="replace").strip().rpartition("\n")[2]
            raise FacekitError(f"no process for students' code can be started here: {told}")
    if late or process.returncode == -ALARM:
        return lines, f"it takes more than {work['seconds']} seconds"
    return lines, f"it ends its process (status {process.returncode}), perhaps for lack of memory"


def _environment(home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    own = {name: str(home) for name in ("HOME", "USERPROFILE", "TMPDIR", "TEMP", "FACEKIT_HOME")}
    kit = str(Path(facekit.__file__).parents[1])
    return kept | own | {"PYTHONPATH": kit, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}


def _end(process: subprocess.Popen) -> None:
    """End the process and, on POSIX, those that it started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
    else:
        process.kill()
    process.wait()
