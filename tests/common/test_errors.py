"""What a call is refused with can be looked at."""

import pytest

from facekit.common.errors import DataError, RunError, refusal


def fails(error: Exception, *, again: bool = True) -> int:
    if again:
        raise error
    return 7


@pytest.mark.parametrize("kind", [DataError, RunError])
def test_a_refusal_is_its_text(kind):
    assert refusal(fails, kind("a.csv: no rows")) == "a.csv: no rows"


def test_what_is_not_refused_says_nothing():
    assert refusal(fails, RunError("never"), again=False) == ""


def test_errors_of_the_code_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        refusal(fails, ZeroDivisionError())
