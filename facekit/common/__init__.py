"""What every room stands on, and what knows nothing of faces or networks.

Read errors first, then files (tables and whole-or-nothing writing), lock (one process in a folder),
machine (device, cores, folders) and keyed_random (random numbers that are a hash of their key).
kit knows the kit's own folder and how to install more from it.
"""

from facekit.common.errors import (
    BatchError,
    DataError,
    FaceError,
    FacekitError,
    RecipeError,
    RunError,
    printable,
    refusal,
)

__all__ = [
    "BatchError",
    "DataError",
    "FaceError",
    "FacekitError",
    "RecipeError",
    "RunError",
    "printable",
    "refusal",
]
