"""The errors a user can mend. The command line prints them as one line, without a traceback."""

from collections.abc import Callable
from typing import TextIO


def printable(text: str, keep: str = "\n") -> str:
    """The text with what a terminal would obey, or could not show, spelt out: names may hold it."""
    return "".join(
        sign if sign.isprintable() or sign in keep else sign.encode("unicode_escape").decode()
        for sign in text
    )


def say(*lines: object, file: TextIO | None = None) -> None:
    """Print these lines, each as one line that no name in it can break or steer a terminal by."""
    for line in lines:
        print(printable(str(line), keep=""), file=file)


class FacekitError(Exception):
    """Something the user can put right; the text says where, what and what to do next."""

    def __str__(self) -> str:
        return printable(super().__str__())


class DataError(FacekitError):
    """A folder, an image or a table is missing or is not what it should be."""


class RecipeError(FacekitError):
    """A recipe, a profile or one of their settings does not exist or cannot be used."""


class RunError(FacekitError):
    """A run folder is missing, damaged, or was made for something else."""


class FaceError(FacekitError, ValueError):
    """A face was asked for that cannot be rendered."""


class BatchError(FacekitError, ValueError):
    """A batch of embeddings and labels that cannot be trained on."""


def refusal(call: Callable, *arguments, **options) -> str:
    """What a call is refused with: the text of its FacekitError, or "" where there is none."""
    try:
        call(*arguments, **options)
    except FacekitError as error:
        return str(error)
    return ""
