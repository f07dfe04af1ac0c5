"""What many students handed in, graded: scores, points, who is as good, what is there twice.

Zips are read by `zips.read`: nothing in them is run, unpickled or believed about scores, which
are counted anew from the CSVs. What a zip says of its network is what the student's kit wrote.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from facekit.common.errors import DataError, FacekitError, printable
from facekit.common.files import refuse_link
from facekit.data.layout import TermData, is_stray
from facekit.evaluation import statistics
from facekit.evaluation.identification import wilson_interval
from facekit.evaluation.verification import eer
from facekit.sources.manifest import made_for
from facekit.submission import csvs, pairs, zips
from facekit.submission.cutoffs import ON_PAIRS, Cutoffs, cutoffs_of
from facekit.submission.forms import form_of

LONGEST = 1 << 20  # bytes of a README or a picture that are shown
LONGEST_NOTE = 300  # letters
Part = Callable[[Sequence[str], np.ndarray], np.ndarray]  # ids, answers: true or false, (N,)
READY_MADE = {"torchvision", "timm", "transformers", "facenet_pytorch", "insightface"}  # packages


class Outcome(NamedTuple):
    """What one submission of a task came to."""

    figure: float  # an accuracy, or an equal error rate
    interval: tuple[float, float]  # of 95 %
    draws: np.ndarray  # what a comparison with another submission needs
    content: str  # a hash of the answers that were given


@dataclass
class Mark:
    """The outcome of a task beside those of all others."""

    figure: float
    interval: tuple[float, float]
    grade: str
    points: float
    points_interval: tuple[float, float]
    place: int
    places: tuple[int, int]  # where luck could have put it
    as_good: list[str]  # who cannot be told apart from it


@dataclass
class Entry:
    """One file of the folder, and all that is found out about it."""

    name: str
    reason: str = ""  # why it cannot be graded; "" where it can
    notes: list[str] = field(default_factory=list)  # for its student, too
    twins: list[str] = field(default_factory=list)  # who has the same; for the instructor alone
    parameters: int | None = None
    network: str = ""  # the text of its metadata
    readme: str = ""
    curves: bytes = b""  # a picture
    weights: str = ""  # their hash
    outcomes: dict[str, Outcome] = field(default_factory=dict)  # by task
    marks: dict[str, Mark] = field(default_factory=dict)  # by task

    @property
    def points(self) -> float:
        """The mean over the tasks."""
        return float(np.mean([mark.points for mark in self.marks.values()])) if self.marks else 0.0


@dataclass(frozen=True)
class Task:
    """One CSV of the term: how it is judged, and how two of them are compared."""

    name: str
    file: str
    judge: Callable[[Path], Outcome]
    told_apart: Callable[[np.ndarray, np.ndarray], bool]
    cutoffs: Cutoffs


def grade(folder: str | Path, data: TermData) -> list[Entry]:
    """An entry for each file in the folder, the most points first; those without a score last.

    Scores are counted by the answers of `data`. Raises DataError where it has none, and where the
    folder holds no file.
    """
    folder = Path(folder).resolve()
    tasks = tasks_of(data)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; put the zips of the students into one")
    paths = sorted(p for p in folder.iterdir() if not p.is_dir() and not is_stray(p.name))
    if not paths:
        raise DataError(f"{folder}: holds no file; put the zips of the students there")
    entries = [_entry(path, tasks, data) for path in paths]
    good = [entry for entry in entries if not entry.reason]
    for task in tasks:
        mark(good, task)
    _find_twins(good, tasks)
    return sorted(entries, key=_order)


def _order(entry: Entry) -> tuple:
    places = sum(mark.place for mark in entry.marks.values())
    return bool(entry.reason), -entry.points, places, entry.name


# ------------------------------------------------------------------ one zip


def all_rows(ids: Sequence[str], answers: np.ndarray) -> np.ndarray:
    """The part that is everything."""
    return np.ones(len(ids), bool)


def tasks_of(data: TermData, part: Part = all_rows) -> list[Task]:
    """The tasks of a term, judged by all rows of the answers or by a `part` of them.

    Raises DataError where the answers are not known.
    """
    if data.answers is None:
        raise DataError(f"{data.root}: has no answers that can be read; --data FOLDER names others")
    files = form_of(data).FILES
    if data.has_pairs:
        answers = data.answers.verification
        same = np.array(pairs.read_scores(answers))
        rows = part([str(row) for row in range(len(same))], same)
        times = statistics.draw_pairs(same[rows])
        judge = partial(_judge_pairs, answers, rows, times)
        return [Task("verification", files["verification"], judge, _drawn_apart, ON_PAIRS)]
    tasks = []
    for name, file in files.items():
        truth = csvs.read_answers(getattr(data.answers, name))
        judge = partial(_judge_labels, truth, part(truth.index, truth.to_numpy()))
        cutoffs, _ = cutoffs_of(name, made_for(data.root))
        tasks.append(Task(name, file, judge, statistics.told_apart, cutoffs))
    return tasks


def _judge_labels(truth: pd.Series, rows: np.ndarray, path: Path) -> Outcome:
    mine = csvs.beside_answers(path, truth)
    right = (mine == truth).to_numpy()[rows]
    interval = wilson_interval(right.sum(), len(right))
    return Outcome(float(right.mean()), interval, right.astype(float), _hash(mine.to_numpy()))


def _judge_pairs(answers: Path, rows: np.ndarray, times: np.ndarray, path: Path) -> Outcome:
    scores, truth = (column[rows] for column in pairs.beside_answers(path, answers))
    draws = statistics.eer_of_draws(scores, truth, times)
    low, high = statistics.interval(draws)
    ranks = np.unique(scores, return_inverse=True)[1]  # scores on another scale count as equal
    return Outcome(eer(scores, truth)[0], (float(low), float(high)), draws, _hash(ranks))


def _drawn_apart(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two rates differ in 95 % of the same draws in one direction or the other."""
    low, high = statistics.interval(first - second)
    return bool(low > 0 or high < 0)


def _hash(values: np.ndarray) -> str:
    return hashlib.sha256("\n".join(map(str, values.tolist())).encode()).hexdigest()


def _entry(path: Path, tasks: Sequence[Task], data: TermData) -> Entry:
    """All that one file tells by itself; whatever is wrong with it is its reason."""
    entry = Entry(printable(path.name.removesuffix(".zip"), keep=""))
    try:
        refuse_link(path)
        read = zips.read(path)
        entry.weights = read.weights
        model = _model(read.files)
        entry.parameters = model["trainable_parameters"]
        entry.network = json.dumps(model, indent=1).replace("\\n", "\n")[:LONGEST]
        entry.readme = read.files.get(zips.README, b"")[:LONGEST].decode(errors="replace")
        entry.curves = read.files.get(zips.CURVES, b"")[:LONGEST]
        entry.outcomes = {task.name: _judge(task, read.files) for task in tasks}
        entry.notes = [*_held_against(read), *_rules_broken(model, data)]
    except (FacekitError, OSError) as error:
        entry.reason = str(error).replace(printable(f"{path}: "), "")
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        entry.reason = f"not written by the kit ({error!r})"
    return entry


def _judge(task: Task, files: Mapping[str, bytes]) -> Outcome:
    if task.file not in files:
        raise DataError(f"has no {task.file}")
    return with_file(task.judge, task.file, files[task.file])


def with_file(call: Callable[[Path], Any], name: str, content: bytes) -> Any:
    """What a call makes of such a file, which is written apart; its DataError says `name`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.csv"
        path.write_bytes(content)
        try:
            return call(path)
        except DataError as error:
            raise DataError(str(error).replace(str(path), name)) from error


def _model(files: Mapping[str, bytes]) -> dict[str, Any]:
    """What the zip says of the network."""
    model = json.loads(files.get(zips.METADATA, b"{}"))
    if not isinstance(model, dict) or not isinstance(model.get("trainable_parameters"), int):
        raise DataError(f"its {zips.METADATA} is missing or damaged; write the zip anew")
    return model


def _held_against(read: zips.HandIn) -> list[str]:
    """What is missing in a zip, or not as it was written."""
    notes = []
    if read.changed:
        some = printable(", ".join(read.changed[:9]), keep="")[:LONGEST_NOTE]
        notes.append(f"{len(read.changed)} files not as the kit wrote them: {some}")
    empty = zips.empty_sections(read.files.get(zips.README, b"").decode(errors="replace"))
    if empty:
        notes.append(f"still empty in its README: {', '.join(empty)}")
    if not any(name.startswith("notebooks/") for name in read.files):
        notes.append("no notebook")
    return notes


def _rules_broken(model: dict[str, Any], data: TermData) -> list[str]:
    """What the term's rules have against a network, as far as the student's kit wrote it down."""
    notes = []
    count, limit = model["trainable_parameters"], data.term.max_parameters
    if limit and count > limit:
        notes.append(f"{count:,} parameters, over the limit of {limit:,}")
    if model.get("begins_trained"):
        notes.append("its network comes with trained weights")
    ready = sorted(READY_MADE.intersection(map(str, model.get("made_of", []))))
    if ready:
        notes.append(f"its network has ready-made parts of {', '.join(ready)}")
    return notes


# ------------------------------------------------------------------ all of them


def mark(entries: Sequence[Entry], task: Task) -> None:
    """Grade, points and place of each entry in one task."""
    sign = task.cutoffs.sign
    figures = sign * np.array([entry.outcomes[task.name].figure for entry in entries])
    apart = _told_apart(entries, task)
    best = float(sign * figures.max()) if entries else None
    for place, entry in enumerate(entries):
        outcome, better = entry.outcomes[task.name], figures > figures[place]
        low, high = sorted(task.cutoffs.points(end, best) for end in outcome.interval)
        first = 1 + int((apart[place] & better).sum())
        last = len(entries) - int((apart[place] & ~better).sum())
        entry.marks[task.name] = Mark(
            outcome.figure,
            outcome.interval,
            task.cutoffs.grade(outcome.figure),
            task.cutoffs.points(outcome.figure, best),
            (low, high),
            1 + int(better.sum()),
            (first, last),
            [e.name for i, e in enumerate(entries) if i != place and not apart[place, i]],
        )


def _told_apart(entries: Sequence[Entry], task: Task) -> np.ndarray:
    """Which two entries differ by more than luck: true or false, (E, E)."""
    draws = [entry.outcomes[task.name].draws for entry in entries]
    apart = np.zeros((len(draws), len(draws)), bool)
    for i in range(len(draws)):
        for j in range(i):
            apart[i, j] = apart[j, i] = task.told_apart(draws[i], draws[j])
    return apart


def _find_twins(entries: Sequence[Entry], tasks: Sequence[Task]) -> None:
    """Tell of each entry who handed in a network of the same numbers, or the same answers."""
    keys = [("weights", [entry.weights for entry in entries])]
    for task in tasks:
        contents = [entry.outcomes[task.name].content for entry in entries]
        keys.append((f"answers ({task.name})", contents))
    for kind, values in keys:
        for place, entry in enumerate(entries):
            same = [i for i, value in enumerate(values) if value == values[place] and i != place]
            if same:
                names = ", ".join(entries[i].name for i in same)
                entry.twins.append(f"the same {kind} as {names}")
