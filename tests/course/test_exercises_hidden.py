"""Exercises without references: digests judge as references do, and hold no answer."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facekit.common.errors import FacekitError
from facekit.course import exercises
from facekit.course.exercises import TOLERANCE, Exercise, Verdict, hidden, values

REPOSITORY = Path(__file__).parents[2]
KNOWN = exercises.exercises()


@pytest.fixture(scope="module", autouse=True)
def quick_digests():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hidden, "COST", 2)
        yield


def read_back(known: dict, folder: Path) -> dict:
    path = folder / "hidden.json"
    path.write_text(json.dumps(hidden.hide(known)))
    return hidden.read(path)


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> dict:
    return read_back(KNOWN, tmp_path_factory.mktemp("release"))


@pytest.mark.parametrize("name", KNOWN)
def test_without_references_the_same_is_right_and_mistakes_earn_their_hints(released, name):
    assert released[name].judge(KNOWN[name].reference) == Verdict("right")
    for hint, wrong in KNOWN[name].mistakes.items():
        assert released[name].judge(wrong) == Verdict("not yet", hint)
    assert released[name].reference is None and not released[name].mistakes


# --- one exercise


def _draw(rng):
    yield np.array([3.0, 4.0]), 2
    yield rng.normal(size=(3, int(rng.integers(2, 5)))), 3


def lengths(vectors, times):
    return np.sqrt((vectors**2).sum(-1)) * times, vectors.shape[-1], ["a", {"b": 1}]


def late(vectors, times):
    return lengths(vectors, times if vectors.ndim == 1 else times + 0.01)


def _with(place, value):
    """The right result but for one part."""

    def answer(vectors, times):
        result = list(lengths(vectors, times))
        result[place] = value
        return result

    return answer


@pytest.fixture
def one(tmp_path):
    wrong = {"Where is times?": lambda vectors, times: lengths(vectors, 1)}
    known = Exercise("lengths", lengths, _draw, wrong)
    return read_back({"lengths": known}, tmp_path)["lengths"]


@pytest.mark.parametrize(
    "answer, words",
    [
        (_with(0, "five"), "for (ndarray of shape (2,), 2) your result is a str, wanted are numb"),
        (_with(0, np.zeros(9)), "your result has the shape (9,), wanted is ()"),
        (_with(1, 2.4), "for (ndarray of shape (2,), 2) your result is another"),
        (_with(2, ["a", {"b": 2}]), "for (ndarray of shape (2,), 2) your result is another"),
        (_with(2, ("a",)), "your result is a tuple, wanted are 2 values"),
        (_with(2, ["a", 1]), "your result is another"),
        (late, "for (ndarray of shape (3, "),
        (lambda *a: 5, "your result is a int, wanted are 3 values"),
        (lambda vectors, times: 1 / 0, "it raises ZeroDivisionError"),
        (lambda vectors, times: lengths(vectors.__imul__(2), times / 2), "changes its arguments"),
        (lambda vectors, times: lengths(vectors, 1), "Where is times?"),
    ],
)
def test_what_is_wrong_is_said_without_the_answer(one, answer, words):
    state, said = one.judge(answer)
    assert state == "not yet" and words in said


def test_beyond_the_first_cases_only_that_something_is_wrong_is_said(one):
    drawn = iter(range(99))

    def worse_later(vectors, times):
        return lengths(vectors, times + (next(drawn) > 5))

    state, said = one.judge(worse_later)
    assert state == "not yet"
    assert said == "the first 2 cases are right; of the 16 in all some are not"


def test_a_right_answer_may_be_written_in_another_way(one):
    def other(vectors, times):
        found = torch.from_numpy(vectors).float().norm(dim=-1) * times
        return [found, float(vectors.shape[-1]) + 1e-6, ("a", {"b": 1})]

    assert one.judge(other) == Verdict("right")


def test_a_stub_is_not_begun(one):
    assert one.judge(lambda *arguments: None) == Verdict("not begun")


def test_every_release_has_other_arguments_and_other_digests(tmp_path):
    first, second = (hidden.hide({"output_side": KNOWN["output_side"]}) for _ in range(2))
    for part in ("salt", "arguments", "known", "first"):
        assert first["output_side"][part] != second["output_side"][part], part


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_kept_of_an_answer_is_its_form_and_digests(name):
    kept = hidden._hidden(KNOWN[name], 1)
    digests = [*(one["digest"] for one in kept["known"].values())]
    digests += [digest for first in kept["first"] for digest in first.values()]
    assert all(len(digest) == 32 and int(digest, 16) for digest in digests)

    def held(form):
        if isinstance(form, list):
            return {key for part in form for key in held(part)}
        return set(form) if isinstance(form, dict) else {form}

    assert held(kept["known"][""]["forms"]) <= {"shape", "shifts", "str", "bool", "dict"}


def test_an_exercise_whose_arguments_cannot_be_kept_is_refused():
    def draw(rng):
        yield (object(),)

    odd = Exercise("odd", lambda value: 1, draw, {"no": lambda value: 2})
    with pytest.raises(FacekitError, match="odd: its arguments cannot be kept"):
        hidden.hide({"odd": odd})


# --- numbers within the tolerance have one digest

FINITE = st.floats(-1e6, 1e6)


@given(FINITE, st.floats(-1, 1))
def test_numbers_fit_where_they_are_close_and_not_where_they_are_far(wanted, part):
    form = hidden.form_of(wanted)
    reach = TOLERANCE * (1 + abs(wanted))
    near, far = wanted + 0.9 * part * reach, wanted + np.copysign(1.2 + abs(part), part) * reach
    assert hidden.fit(near, form) == hidden.fit(wanted, form)
    assert hidden.fit(far, form) != hidden.fit(wanted, form)


@given(st.integers(-(10**9), 10**9))
def test_whole_numbers_need_no_shift_and_are_met_as_such(wanted):
    form = hidden.form_of(wanted)
    assert form == {"shape": [], "shifts": None}
    assert hidden.fit(float(wanted), form) == hidden.fit(np.int64(wanted), form)
    assert hidden.fit(wanted + 1, form) != hidden.fit(wanted, form)
    assert hidden.fit(wanted + 0.4 + abs(wanted) / 1000, form) != hidden.fit(wanted, form)


@pytest.mark.parametrize("one, other", [(np.nan, 0.0), (np.inf, -np.inf), (np.inf, 1e300)])
def test_what_is_no_finite_number_fits_itself_alone(one, other):
    form = hidden.form_of(np.array([one, 0.0]))
    assert hidden.fit([one, -0.0], form) == hidden.fit(np.array([one, 0.0]), form)
    assert hidden.fit([other, 0.0], form) != hidden.fit([one, 0.0], form)


@pytest.mark.parametrize("name", KNOWN)
def test_arguments_are_the_same_after_they_were_kept(name):
    for arguments in KNOWN[name].cases(7):
        back = values.decode(json.loads(json.dumps(values.encode(arguments))))
        assert _typed(back) == _typed(arguments)
        assert exercises.difference(back, arguments) == ""


def _typed(value):
    parts = map(_typed, value) if isinstance(value, list | tuple) else ()
    return type(value), str(getattr(value, "dtype", "")), tuple(parts)


def test_a_value_of_another_kind_comes_back_equal_to_nothing():
    back = values.decode(values.encode([object(), {1, 2}, 1j]))
    assert [exercises.difference(part, part) for part in back] == ["", "", ""]
    assert exercises.difference(back, [object(), {1, 2}, 1j])


# --- the release itself

SOLVED = """
import sys, nbformat
from facekit.course import exercises
for path in sys.argv[1:]:
    for cell in nbformat.read(path, as_version=4).cells:
        if "exercises.exercise(" in cell.source:
            exec(compile(cell.source, path, "exec"), {"__name__": "__main__"})
print(exercises.__file__)
"""


@pytest.mark.long
def test_a_release_that_hides_holds_no_reference_and_checks_the_solutions(tmp_path):
    command = [sys.executable, "notebooks/build.py", "--release", str(tmp_path), "--hidden"]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    texts = [path.read_text() for path in tmp_path.rglob("*.py")]
    for exercise in KNOWN.values():
        if exercise.reference.__module__.startswith("facekit.course.exercises"):
            body = inspect.getsource(exercise.reference).split('"""')[-1]
            assert not any(body in text for text in texts), exercise.name
    for folder, state in (("solutions", "right"), (".", "not begun")):
        books = map(str, (REPOSITORY / "notebooks" / folder).glob("0*.ipynb"))
        done = subprocess.run(
            [sys.executable, "-c", SOLVED, *books],
            cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path)},
        )  # fmt: skip
        *lines, where = done.stdout.splitlines()
        assert sorted(lines) == sorted(f"{name}: {state}" for name in KNOWN), done.stderr
        assert Path(where).is_relative_to(tmp_path)


def test_hiding_without_a_release_is_refused():
    done = subprocess.run(
        [sys.executable, "notebooks/build.py", "--hidden"],
        cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "--hidden belongs to --release" in done.stderr
