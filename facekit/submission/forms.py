"""Which form of hand-in belongs to which kind of data. Used in notebook 08."""

from types import ModuleType

from facekit.data.layout import TermData
from facekit.submission import pairs, pipeline


def form_of(data: TermData) -> ModuleType:
    """The module that evaluates a run on such data, writes, checks and scores what is handed in.

    `pairs`, or `pipeline` for two files with an open set: both have the same functions.
    """
    return pairs if data.has_pairs else pipeline
