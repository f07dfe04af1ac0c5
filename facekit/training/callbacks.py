"""What hangs on the training loop by events. Built in notebook 04.

A callback overrides the events it wants. It may raise: guards and stopping end a run that way.
The order in which `session.fit` lists them matters: whoever may raise comes before whoever shows.
"""

import math
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from tqdm.auto import tqdm

from facekit.training import state
from facekit.training.checkpoint import Checkpoints
from facekit.training.distributed import Agreement
from facekit.training.guards import LearningGuard, check_loss
from facekit.training.history import History
from facekit.training.run import Run
from facekit.training.stopping import HoursAreUp, Interrupted, Stop
from facekit.training.writer import Writer

LOOK_EVERY = 50  # steps between two looks at the loss: to look, the GPU must be waited for


class Callback:
    """Told by the loop how far it is. Every event does nothing unless overridden."""

    def before_epoch(self, run: Run) -> None:
        """Before the first step of an epoch, or of what is left of it."""

    def after_step(self, run: Run) -> None:
        """The weights have changed; `run.progress.step` counts the step already."""

    def after_epoch(self, run: Run, row: dict) -> None:
        """The dev images are judged; `row` has the columns of HISTORY, and with pairs ON_PAIRS."""

    def close(self) -> None:
        """Training is over, for whatever reason."""


class Callbacks:
    """Passes each event on to all callbacks, in order."""

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self.callbacks = list(callbacks)

    def before_epoch(self, run: Run) -> None:
        for callback in self.callbacks:
            callback.before_epoch(run)

    def after_step(self, run: Run) -> None:
        for callback in self.callbacks:
            callback.after_step(run)

    def after_epoch(self, run: Run, row: dict) -> None:
        for callback in self.callbacks:
            callback.after_epoch(run, row)

    def close(self) -> None:
        with ExitStack() as stack:  # all of them, whatever one raises
            for callback in reversed(self.callbacks):
                stack.callback(callback.close)


class Guards(Callback):
    """Ends a run whose loss is no number, or that learns nothing, with a RunError."""

    def __init__(self, run: Run) -> None:
        self.learning = LearningGuard(run.recipe, len(run.data.classes), len(run.data.dev))

    def before_epoch(self, run: Run) -> None:
        self.learning.check(run.progress.rows, run.progress.untrained_loss)

    def after_step(self, run: Run) -> None:
        step = run.progress.step
        if step in (1, run.steps) or step % LOOK_EVERY == 0:
            look_at_loss(run)


def look_at_loss(run: Run) -> None:
    """Bring the sums of all processes to this one; RunError when they are no numbers."""
    progress = run.progress
    progress.totals = run.world.all_reduce(run.totals.clone()).tolist()
    loss_sum, _, count = progress.totals
    check_loss(loss_sum, run.step, run.lr_at(run.step), run.precision_name)
    if progress.untrained_loss == math.inf:
        progress.untrained_loss = loss_sum / count


class Saving(Callback):
    """Writes the run down: every few minutes, after a best epoch, and before it is left.

    The loop goes on meanwhile, so a kill costs the time since the last state that is whole.
    Whether to stop is decided here, too: all processes must agree on both.
    """

    def __init__(self, checkpoints: Checkpoints, stop: Stop, save_minutes: float) -> None:
        self.writer = Writer(checkpoints)
        self.stop = stop
        self.save_minutes = save_minutes
        self.last_save = time.monotonic()

    def before_epoch(self, run: Run) -> None:
        self.agreement = Agreement(run.world)

    def after_step(self, run: Run) -> None:
        self.writer.check()
        at_the_end = run.progress.step == run.steps  # the epoch's own save comes next
        due = self._is_due(run) and not at_the_end
        stopping, due = self.agreement.after_step(self.stop.wanted, due)
        if not stopping and not due:
            return
        look_at_loss(run)
        self._save(run)
        if stopping:
            self._leave(run)

    def after_epoch(self, run: Run, row: dict) -> None:
        is_best = run.progress.best_epoch == run.progress.epoch
        if is_best or self._is_due(run):
            self._save(run, is_best)
        elif run.world.is_main:
            self.writer.hold(run.step, state.snapshot(run))

    def close(self) -> None:
        self.writer.close()

    def _is_due(self, run: Run) -> bool:
        """The first process decides, as it saves for all."""
        minutes = (time.monotonic() - self.last_save) / 60
        return run.world.is_main and minutes >= self.save_minutes

    def _save(self, run: Run, is_best: bool = False) -> None:
        if not run.world.is_main:
            return
        self.writer.wait()  # before the copy: two would take up memory
        saved = state.snapshot(run)
        best = state.best_of(run, saved) if is_best else None
        self.writer.write(run.step, saved, best)
        self.last_save = time.monotonic()

    def _leave(self, run: Run) -> None:
        steps = run.recipe.epochs * run.steps
        text = f"after step {run.step} of {steps}; saved in {run.out}"
        text += "; the same call goes on from there"
        if self.stop.max_hours is not None and not self.stop.reason:
            raise HoursAreUp(f"the {self.stop.max_hours:g} hours are up {text}")
        raise Interrupted(f"stopped {text}")


class ProgressBar(Callback):
    """A step at a time, the last epoch's figures behind it."""

    def __init__(self, run: Run) -> None:
        steps = run.recipe.epochs * run.steps
        self.bar = tqdm(total=steps, initial=run.step, unit="step", mininterval=0.5)

    def after_step(self, run: Run) -> None:
        self.bar.update()

    def after_epoch(self, run: Run, row: dict) -> None:
        pairs, best = "", f"best {run.progress.best_accuracy:.1%}"
        if "dev_eer" in row:
            pairs = f"EER {row['dev_eer']:.1%}, "
        if run.recipe.best_by == "eer":
            best = f"best EER {1 - run.progress.best_accuracy:.1%}"
        self.bar.set_postfix_str(
            f"epoch {row['epoch']}: loss {row['train_loss']:.2f}, "
            f"train {row['train_accuracy']:.1%}, dev {row['dev_accuracy']:.1%}, {pairs}{best}"
        )

    def close(self) -> None:
        self.bar.close()


class OnEpoch(Callback):
    """A function of the caller's, called with the history after each epoch: live curves, say."""

    def __init__(self, function: Callable[[History], None]) -> None:
        self.function = function

    def after_epoch(self, run: Run, row: dict) -> None:
        self.function(run.history())
