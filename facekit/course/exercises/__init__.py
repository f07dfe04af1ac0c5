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
from pathlib import Path
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
TRIES = 20  # seeds, of which one should tell all mistakes apart
HIDDEN = Path(__file__).with_name("hidden.json")  # in place of the subjects, in such a release
Cases = Iterator[tuple]  # of arguments to try, the smallest first
_known: dict[str, "Exercise"] = {}


class ExerciseError(FacekitError, AssertionError):
    """An exercise is not right yet, and FACEKIT_STRICT asks for that to be an error."""


class Verdict(NamedTuple):
    """How an exercise stands: "right", "not begun" or "not yet", and what there is to say."""

    state: str
    words: str = ""


class Attempt(NamedTuple):
    """What an answer gave for some arguments, None for nothing, and what else is wrong with it."""

    found: Any
    fault: str = ""


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

    def telling_seed(self, seed: int) -> int:
        """The first seed from this one on by which every known mistake earns its hint.

        Raises ExerciseError where none of the next TRIES does.
        """
        for one in range(seed, seed + TRIES):
            verdicts = {hint: self.judge(wrong, one) for hint, wrong in self.mistakes.items()}
            if all(told == Verdict("not yet", hint) for hint, told in verdicts.items()):
                return one
        told = next(hint for hint in self.mistakes if verdicts[hint] != Verdict("not yet", hint))
        raise ExerciseError(f"{self.name}: no arguments tell this mistake from all else: {told}")

    def judge(self, answer: Callable, seed: int = 0) -> Verdict:
        """Compare `answer` with the reference on drawn arguments; the same for the same seed."""
        cases = self.cases(seed)
        return self.verdict(cases, [self.attempt(answer, arguments) for arguments in cases])

    def attempt(self, answer: Callable, arguments: tuple) -> Attempt:
        """What `answer` does with a copy of these arguments."""
        given = copy.deepcopy(arguments)
        try:
            found = self.run(answer, given)
        except NotImplementedError:
            return Attempt(None)
        except Exception as error:  # a student's code may raise anything
            return Attempt(None, f"it raises {type(error).__name__}: {error}")
        if found is None or found is ...:
            return Attempt(None)
        if difference(given, arguments):
            return Attempt(found, "it changes its arguments; work on a copy")
        return Attempt(found)

    def verdict(self, cases: list[tuple], attempts: list[Attempt]) -> Verdict:
        """How an answer stands that did this with each of the cases."""
        for arguments, (found, fault) in zip(cases, attempts, strict=True):
            if found is None and not fault:
                return Verdict("not begun")
            wanted = self.run(self.reference, copy.deepcopy(arguments))
            fault = fault or self.compare(found, wanted)
            if fault:
                hint = self._hint(cases, [attempt.found for attempt in attempts])
                return Verdict("not yet", hint or f"for {show(arguments)} {fault}")
        return Verdict("right")

    def run(self, answer: Callable, arguments: tuple) -> Any:
        """What an answer gives for these arguments; exercises of other kinds try more of it."""
        return answer(*arguments)

    def compare(self, found: Any, wanted: Any) -> str:
        """How what an answer gave differs from what the reference gave, in words; "" if not."""
        return difference(found, wanted)

    def _hint(self, cases: list[tuple], found: list) -> str:
        """What is told to those whose answers are those of a known mistake."""
        for hint, wrong in self.mistakes.items():
            if all(self._alike(*pair, wrong) for pair in zip(cases, found, strict=True)):
                return hint
        return ""

    def _alike(self, arguments: tuple, found: Any, wrong: Callable) -> bool:
        try:
            return not difference(found, self.run(wrong, copy.deepcopy(arguments)))
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
    """Every exercise of the course by its name; in a release that hides them, by its digests."""
    if HIDDEN.is_file():
        return import_module(f"{__name__}.hidden").read(HIDDEN)
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
    if numeric(wanted):
        return _numeric_difference(found, wanted)
    if not isinstance(wanted, tuple | list):
        return "" if type(found) is type(wanted) and found == wanted else "your result is another"
    if told := other_length(found, len(wanted)):
        return told
    parts = (difference(*pair) for pair in zip(found, wanted, strict=True))
    return next(filter(None, parts), "")


def numeric(value: Any) -> bool:
    """Whether a result is numbers: one, or an array, tensor or nested list of them."""
    try:
        return numbers(value).dtype.kind in "biufc"
    except (ValueError, TypeError):  # rows of different lengths, parts that are tensors
        return False


def numbers(value: Any) -> np.ndarray:
    """A result that is numbers as an array."""
    return np.asarray(value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value)


def other_shape(found: Any, shape: tuple) -> str:
    """What is told of a result that is no numbers of this shape; "" if it is."""
    if not numeric(found):
        return f"your result is {_kind(found)}, wanted are numbers"
    if numbers(found).shape != shape:
        return f"your result has the shape {numbers(found).shape}, wanted is {shape}"
    return ""


def other_length(found: Any, count: int) -> str:
    """What is told of a result that is no list or tuple of `count` values; "" if it is."""
    if isinstance(found, tuple | list) and len(found) == count:
        return ""
    return f"your result is {_kind(found)}, wanted are {count} values"


def _numeric_difference(found: Any, wanted: Any) -> str:
    wanted = numbers(wanted)
    if told := other_shape(found, wanted.shape):
        return told
    found = numbers(found)
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
