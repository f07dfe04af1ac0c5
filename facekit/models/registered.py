"""Which blocks, heads and losses of the tables are the reader's own."""

from facekit.common.source import is_library
from facekit.models.blocks import BLOCKS
from facekit.models.heads import HEADS
from facekit.models.losses import LOSSES


def own_parts() -> dict[str, type]:
    """Those by their names in BLOCKS, HEADS and LOSSES that are not the kit's: a run that uses one
    has to remember where it came from."""
    found = {}
    for table in (BLOCKS, HEADS, LOSSES):
        for name, made_by in table.items():
            if not is_library(made_by.__module__):
                found[name] = made_by
    return found
