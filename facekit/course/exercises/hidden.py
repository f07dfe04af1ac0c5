"""Exercises without answers: arguments, hints, and digests of what is wanted. In no notebook.

`notebooks/build.py --release FOLDER --hidden` keeps these in place of references and wrong answers.
A result that agrees within TOLERANCE must give the same digest, so numbers become cells of a
grid, first moved so that what is wanted lies in the middle of its cell. By how much is kept, to a
sixteenth of a cell, and tells nothing of the cell itself. Tuples and shapes are kept open.

All cases together have one digest, which nobody can find by trying; the first few have one each,
to say what is wrong. Those are small: what they give can be found by hand, or by trying.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facekit.common.errors import FacekitError
from facekit.course.exercises import (
    TOLERANCE,
    Attempt,
    Exercise,
    Verdict,
    difference,
    numbers,
    numeric,
    other_length,
    other_shape,
    show,
)
from facekit.course.exercises.modules import LoopExercise, ModuleExercise
from facekit.course.exercises.values import decode, encode

KINDS = {kind.__name__: kind for kind in (Exercise, ModuleExercise, LoopExercise)}
PARTS = 16  # of a cell, to which its middle is known
COST = 2**14  # of one digest: 16 MB of memory and some 50 ms


class Misfit(Exception):
    """A result of another form than what is wanted; the text is what is told."""


@dataclass(frozen=True)
class HiddenExercise(Exercise):
    """An exercise whose reference and mistakes are known by their digests alone."""

    arguments: list[tuple]
    known: Mapping[str, Mapping]  # hint, "" for the right one -> {"forms": ..., "digest": ...}
    first: list[Mapping[str, str]]  # of the first cases: part of the result -> digest
    salt: str

    def cases(self, seed: int = 0) -> list[tuple]:
        """The arguments that came with the release, whatever the seed."""
        return self.arguments

    def verdict(self, cases: list[tuple], attempts: list[Attempt]) -> Verdict:
        for arguments, (found, fault) in zip(cases, attempts, strict=True):
            if found is None and not fault:
                return Verdict("not begun")
            if fault:
                return Verdict("not yet", f"for {show(arguments)} {fault}")
        results = [attempt.found for attempt in attempts]
        for hint, one in self.known.items():
            if self._is(one["digest"], results, one["forms"]):
                return Verdict("not yet", hint) if hint else Verdict("right")
        return Verdict("not yet", self._where(results))

    def _is(self, wanted: str, result: Any, form: Any) -> bool:
        try:
            return digest(result, form, self.salt) == wanted
        except Misfit:
            return False

    def _where(self, results: list) -> str:
        """In words, the first case that is wrong."""
        forms = self.known[""]["forms"]
        for place, (arguments, found, form) in enumerate(
            zip(self.arguments, results, forms, strict=True)
        ):
            try:
                fit(found, form)
            except Misfit as misfit:
                return f"for {show(arguments)} {misfit}"
            digests = self.first[place] if place < len(self.first) else {}
            for part, (wanted, value, its_form) in _by_part(digests, found, form).items():
                if not self._is(wanted, value, its_form):
                    named = f"{part.replace('_', ' ')}: " if part else ""
                    return f"for {show(arguments)} {named}your result is another"
        few = len(self.first)
        return f"the first {few} cases are right; of the {len(results)} in all some are not"


def _by_part(digests: Mapping[str, str], found: Any, form: Any) -> dict[str, tuple]:
    """Digest, value and form of each part of a result; "" is the result as a whole."""
    if "" in digests:
        return {"": (digests[""], found, form)}
    return {part: (digests[part], *pair) for part, *pair in zip(digests, found, form, strict=False)}


def form_of(wanted: Any) -> Any:
    """What a result is without its values, and the shifts of its numbers: JSON."""
    if numeric(wanted):
        values = numbers(wanted)
        shifts = None if values.dtype.kind in "biu" else _shifts(values)
        return {"shape": list(values.shape), "shifts": shifts}
    if isinstance(wanted, tuple | list):
        return [form_of(part) for part in wanted]
    return type(wanted).__name__


def fit(found: Any, form: Any) -> Any:
    """A result as it is hashed: numbers by their cells. Raises Misfit for one of another form."""
    if isinstance(form, dict):
        if told := other_shape(found, tuple(form["shape"])):
            raise Misfit(told)
        return _cells(numbers(found).astype(float).ravel(), form["shifts"])
    if isinstance(form, list):
        if told := other_length(found, len(form)):
            raise Misfit(told)
        return [fit(*pair) for pair in zip(found, form, strict=True)]
    if type(found).__name__ != form:
        raise Misfit("your result is another")
    return repr(found)


def _stretched(values: np.ndarray) -> np.ndarray:
    """Numbers in cells: two that differ by TOLERANCE (1 + size) are half a cell apart."""
    return np.sign(values) * np.log1p(np.abs(values)) / (2 * TOLERANCE)


def _shifts(values: np.ndarray) -> str:
    """For each number the sixteenth of a cell that it lies in, as a hexadecimal digit."""
    with np.errstate(invalid="ignore"):
        parts = np.rint(_stretched(values.astype(float).ravel()) % 1 * PARTS) % PARTS
    return "".join(f"{int(part):x}" for part in np.nan_to_num(parts))


def _cells(values: np.ndarray, shifts: str | None) -> list[str]:
    """The cell of each number; None for `shifts`: they are whole numbers, and cells are these."""
    if shifts is None:
        cells = np.rint(values)
        far = ~(np.abs(values - cells) <= TOLERANCE * (1 + np.abs(cells)))
        cells[far] = np.nan
    else:
        middles = np.array([int(shift, PARTS) for shift in shifts]) / PARTS
        cells = np.rint(_stretched(values) - middles)
    return [str(cell) for cell in (cells + 0.0).tolist()]  # + 0.0: there is no minus zero


def digest(result: Any, form: Any, salt: str) -> str:
    """The slow, salted digest of a result of this form. Raises Misfit for one of another."""
    text = json.dumps([fit(result, form), form])
    return hashlib.scrypt(text.encode(), salt=salt.encode(), n=COST, r=8, p=1, dklen=16).hex()


def hide(exercises: Mapping[str, Exercise]) -> dict[str, Any]:
    """What is kept of exercises in a release that hides them, for json.dumps.

    Raises FacekitError for one with arguments that JSON cannot hold.
    """
    seed = secrets.randbits(63)
    return {name: _hidden(each, each.telling_seed(seed)) for name, each in exercises.items()}


def _hidden(exercise: Exercise, seed: int) -> dict[str, Any]:
    salt, cases = secrets.token_hex(16), exercise.cases(seed)
    kept = [encode(arguments) for arguments in cases]
    if difference(decode(kept), cases):
        raise FacekitError(
            f"{exercise.name}: its arguments cannot be kept; let it draw numbers, texts, arrays, "
            "tensors, and lists, tuples and dicts of these"
        )
    answers = {"": exercise.reference} | dict(exercise.mistakes)
    found = {
        hint: [exercise.attempt(answer, arguments).found for arguments in cases]
        for hint, answer in answers.items()
    }
    first = list(exercise.draw(np.random.default_rng(seed)))  # one round of arguments
    return {
        "kind": type(exercise).__name__,
        "salt": salt,
        "arguments": kept,
        "known": {hint: _known(results, salt) for hint, results in found.items()},
        "first": [_digests(result, salt) for result in found[""][: len(first)]],
    }


def _known(results: list, salt: str) -> dict[str, Any]:
    forms = [form_of(result) for result in results]
    return {"forms": forms, "digest": digest(results, forms, salt)}


def _digests(result: Any, salt: str) -> dict[str, str]:
    parts = result._asdict() if hasattr(result, "_asdict") else {"": result}
    return {part: digest(value, form_of(value), salt) for part, value in parts.items()}


def read(path: Path) -> dict[str, Exercise]:
    """The exercises that `hide` made this file of, by name."""
    kept = json.loads(path.read_text())
    return {name: _exercise(name, one) for name, one in kept.items()}


def _exercise(name: str, kept: Mapping[str, Any]) -> Exercise:
    kind = type("Hidden", (HiddenExercise, KINDS[kept["kind"]]), {})
    arguments = [decode(one) for one in kept["arguments"]]
    hidden = {key: kept[key] for key in ("known", "first", "salt")}
    return kind(name, None, None, {}, arguments, **hidden)
