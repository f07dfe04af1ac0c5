"""Exercises that check themselves: a function of yours beside a reference, on drawn arguments.

    exercises.exercise("output_side", output_side)

prints one line: not begun, right, or what differs and where to look, without the answer. With
FACEKIT_STRICT=1 anything but right raises ExerciseError. Each notebook's exercises are in the
module of this folder that is named after its subject. Built in all notebooks.
"""

import copy
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random import Generator

from facekit.common.errors import FacekitError

SUBJECTS = (  # modules of this folder, in the order of the notebooks
    "exploration",
    "augmentation",
    "building",
    "training",
    "losses",
    "verification",
    "ablations",
    "submission",
    "error_analysis",
)
TOLERANCE = 1e-4  # of values, beside their size: float32 sums in another order differ by less
ROUNDS = 8  # draws of arguments
Cases = Iterator[tuple]  # of arguments to try, the smallest first
_known: dict[str, "Exercise"] = {}


class ExerciseError(FacekitError, AssertionError):
    """An exercise is not right yet, and FACEKIT_STRICT asks for that to be an error."""


class Verdict(NamedTuple):
    """How an exercise stands: "right", "not begun" or "not yet", and what there is to say."""

    state: str
    words: str = ""


@dataclass(frozen=True)
class Exercise:
    """What is asked for: a reference, arguments to try, and the mistakes that are known."""

    name: str
    reference: Callable
    draw: Callable[[Generator], Cases]
    mistakes: Mapping[str, Callable]  # a hint, and the wrong answer that earns it

    def cases(self, seed: int = 0) -> list[tuple]:
        """Arguments to try; the same every time."""
        rng = np.random.default_rng(seed)
        return [case for _ in range(ROUNDS) for case in self.draw(rng)]

    def judge(self, answer: Callable) -> Verdict:
        """Compare `answer` with the reference on drawn arguments; the same every time."""
        cases = self.cases()
        for arguments in cases:
            fault = self._fault(answer, arguments)
            if fault is None:
                return Verdict("not begun")
            if fault:
                return Verdict("not yet", self._hint(answer, cases) or fault)
        return Verdict("right")

    def _fault(self, answer: Callable, arguments: tuple) -> str | None:
        """What is wrong with the answer to these arguments, "" for nothing; None: it gives none."""
        given = copy.deepcopy(arguments)
        try:
            found = self.run(answer, given)
        except NotImplementedError:
            return None
        except Exception as error:  # a student's code may raise anything
            return f"for {show(arguments)} it raises {type(error).__name__}: {error}"
        if found is None or found is ...:
            return None
        if difference(given, arguments):
            return f"it changes its arguments, {show(arguments)}; work on a copy"
        told = self.compare(found, self.run(self.reference, copy.deepcopy(arguments)))
        return f"for {show(arguments)} {told}" if told else ""

    def run(self, answer: Callable, arguments: tuple) -> Any:
        """What an answer gives for these arguments; exercises of other kinds try more of it."""
        return answer(*arguments)

    def compare(self, found: Any, wanted: Any) -> str:
        """How what an answer gave differs from what the reference gave, in words; "" if not."""
        return difference(found, wanted)

    def _hint(self, answer: Callable, cases: list[tuple]) -> str:
        """What is told to those whose answers are those of a known mistake."""
        for hint, wrong in self.mistakes.items():
            if all(self._alike(answer, wrong, arguments) for arguments in cases):
                return hint
        return ""

    def _alike(self, one: Callable, other: Callable, arguments: tuple) -> bool:
        try:
            found, wanted = (self.run(each, copy.deepcopy(arguments)) for each in (one, other))
            return not difference(found, wanted)
        except Exception:
            return False


def add_exercise(
    reference: Callable,
    draw: Callable[[Generator], Cases],
    *mistakes: str | Callable,
    kind: type[Exercise] = Exercise,
) -> None:
    """Make an exercise of a reference, which is named as the student's function.

    `draw` gives arguments to try from a random generator. `mistakes`: a hint and the wrong answer
    that earns it, in turn; of several that fit the first counts. `kind` says how answers are
    tried. Raises ValueError for a name that another module's exercise has.
    """
    name = reference.__name__
    if name in _known and _known[name].reference.__module__ != reference.__module__:
        raise ValueError(f"two exercises are called {name}")
    hints, answers = mistakes[::2], mistakes[1::2]
    _known[name] = kind(name, reference, draw, dict(zip(hints, answers, strict=True)))


def but(reference: Callable, **changes: Callable) -> Callable:
    """A wrong answer: the reference, but with something else made of the arguments so named."""
    names = list(signature(reference).parameters)

    def wrong(*arguments):
        given = dict(zip(names, arguments, strict=True))
        return reference(**given | {name: change(given[name]) for name, change in changes.items()})

    return wrong


def tensor(values: np.ndarray) -> torch.Tensor:
    """An array as a tensor of float32, as students' functions get them."""
    return torch.from_numpy(values).float()


def exercises() -> dict[str, Exercise]:
    """Every exercise of the course by its name."""
    for subject in SUBJECTS:
        import_module(f"facekit.course.exercises.{subject}")
    return dict(_known)


def exercise(name: str, answer: Callable) -> None:
    """Print how an answer stands; with FACEKIT_STRICT=1, raise ExerciseError unless it is right.

    Raises ExerciseError for a name that is no exercise.
    """
    known = exercises()
    if name not in known:
        raise ExerciseError(f"no exercise {name!r}; there are: {', '.join(known)}")
    state, words = known[name].judge(answer)
    line = f"{name}: {state}" + (f". {words[:1].upper()}{words[1:]}" if words else "")
    if state != "right" and os.environ.get("FACEKIT_STRICT") == "1":
        raise ExerciseError(line)
    print(line)


def difference(found: Any, wanted: Any) -> str:
    """How two results differ, in words that do not give away what was wanted; "" if they agree.

    Numbers, arrays and tensors agree within TOLERANCE, whatever holds them; tuples and lists part
    by part; all else by equality.
    """
    if _numeric(wanted):
        return _numeric_difference(found, wanted)
    if not isinstance(wanted, tuple | list):
        return "" if type(found) is type(wanted) and found == wanted else "your result is another"
    if not isinstance(found, tuple | list) or len(found) != len(wanted):
        return f"your result is {_kind(found)}, wanted are {len(wanted)} values"
    parts = (difference(*pair) for pair in zip(found, wanted, strict=True))
    return next(filter(None, parts), "")


def _numeric(value: Any) -> bool:
    try:
        return np.asarray(_plain(value)).dtype.kind in "biufc"
    except (ValueError, TypeError):  # rows of different lengths, parts that are tensors
        return False


def _plain(value: Any) -> Any:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value


def _numeric_difference(found: Any, wanted: Any) -> str:
    if not _numeric(found):
        return f"your result is {_kind(found)}, wanted are numbers"
    found, wanted = np.asarray(_plain(found)), np.asarray(_plain(wanted))
    if found.shape != wanted.shape:
        return f"your result has the shape {found.shape}, wanted is {wanted.shape}"
    far = ~np.isclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
    if not far.any():
        return ""
    if np.isnan(found).any() and not np.isnan(wanted).any():
        return "your result holds NaN"
    apart = np.abs(found.astype(float) - wanted.astype(float))
    if not apart.ndim:
        return f"your result is {'too large' if found > wanted else 'too small'}"
    return f"{far.sum()} of {far.size} values differ, by up to {np.nanmax(apart):.3g}"


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def show(arguments: tuple) -> str:
    """Arguments in a few words: small values as they are, arrays by their shape."""
    return "(" + ", ".join(_in_words(value) for value in arguments) + ")"


def _is_array(value: Any) -> bool:
    return isinstance(value, torch.Tensor | np.ndarray)


def _in_words(value: Any) -> str:
    if _is_array(value):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple) and any(map(_is_array, value)):
        return f"[{', '.join(map(_in_words, value))}]"
    if callable(value):
        return getattr(value, "__name__", _kind(value))
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
