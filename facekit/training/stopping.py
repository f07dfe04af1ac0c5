"""Being asked to stop, and doing so between two steps. Built in notebook 04.

Saving inside a signal handler would catch the network half-way through a step, and what goes on
from there is another run. So the handler only notes the wish, and the loop looks at it.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGUSR1")  # Slurm sends the last before its limit
    if hasattr(signal, name)
]


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop, did so between two steps, and saved its state first."""


class HoursAreUp(Exception):
    """The hours that training was given are over; its state is saved."""


class Stop:
    """Whether training should stop at the next step, and why."""

    def __init__(self, max_hours: float | None = None) -> None:
        self.reason = ""  # the signal that asked
        self.max_hours = max_hours
        self.began = time.monotonic()

    @property
    def wanted(self) -> bool:
        """True from the moment somebody asked, or the time was up."""
        return bool(self.reason) or self.time_is_up

    @property
    def time_is_up(self) -> bool:
        limit = self.max_hours
        return limit is not None and time.monotonic() - self.began > limit * 3600


@contextmanager
def watching(max_hours: float | None = None, quiet: bool = False) -> Iterator[Stop]:
    """Inside, Ctrl-C, SIGTERM and SIGUSR1 ask the Stop that is yielded; a second Ctrl-C stops."""
    stop = Stop(max_hours)
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may catch signals
        return

    def ask(number: int, frame) -> None:
        if stop.reason and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.reason = signal.Signals(number).name
        if not quiet:
            print("\nstopping after this step ...", flush=True)

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
