"""States on their way to the disk, in a thread beside the training. Built in notebook 04."""

from concurrent.futures import Future, ThreadPoolExecutor

from facekit.training import state
from facekit.training.checkpoint import Checkpoints


class Writer:
    """Writes states in a thread, one at a time: the next waits for the one before.

    A state given away must not change any more (state.snapshot). What goes wrong in the thread is
    raised by the method that is called next.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self.writing: Future | None = None
        self.held: tuple[int, dict] | None = None

    def write(self, step: int, saved: dict, best: dict | None = None) -> None:
        """Begin to write the state after `step` steps, and `best` to best.pt before."""
        self.wait()
        self.held = None
        thread = ThreadPoolExecutor(1, "facekit-writer")
        self.writing = thread.submit(state.save, self.checkpoints, step, saved, best)
        thread.shutdown(wait=False)  # it ends with this save

    def hold(self, step: int, saved: dict) -> None:
        """Keep a state to be written in the end, unless a later one is there by then."""
        self.check()
        self.held = step, saved

    def check(self) -> None:
        """Raise what has gone wrong, if anything."""
        if self.writing and self.writing.done():
            self.wait()

    def wait(self) -> None:
        """Until the thread is done. Ctrl-C meanwhile leaves it to itself; it still writes all."""
        writing, self.writing = self.writing, None
        held, self.held = self.held, None  # nothing more is written where this does not end well
        if writing:
            writing.result()
        self.held = held

    def close(self) -> None:
        """Until all that was given is on the disk."""
        self.wait()
        if self.held:
            self.write(*self.held)
            self.wait()
