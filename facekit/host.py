"""Where a notebook runs, and what follows from it. Built in all notebooks."""

import time

_began = time.monotonic()


def start() -> None:
    """Begin a notebook: the first cell of each calls this."""
    global _began
    _began = time.monotonic()


def took() -> None:
    """Print how long this notebook took, from its first cell to here."""
    print(f"this notebook took {time.monotonic() - _began:.0f} s")
