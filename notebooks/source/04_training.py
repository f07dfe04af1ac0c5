# %% [markdown]
# # 04 Training
#
# **You will** try a run before you start it, train the course's network, read
# its curves while they grow, kill it in the middle and see that nothing was
# lost.
#
# *Training takes minutes here and a night at full size. What would you want
# to know after the first ten seconds?*

# %%
import inspect
import shutil
import time
from itertools import chain

import pandas as pd
import torch

from facekit import pipeline, plots, recipes, runtime, train, widgets
from facekit.augment import NOTHING
from facekit.checkpoint import Checkpoints, digest
from facekit.errors import RunError
from facekit.rehearsal import overfit_one_batch, range_test, suggest
from facekit.run import Run
from facekit.sources import open_course
from facekit.watch import Watch

course = open_course()
recipe = recipes.load(pipeline.course_recipe(course))
device = runtime.device().value
print((recipes.FOLDER / f"{recipe.name}.toml").read_text())

# %% [markdown]
# A **recipe** is all that one decides (what it does not mention stays as it
# stands in `recipes.Recipe`); what depends on the machine, the kit chooses, and
# says why. *A GPU has tensor cores, or it has not. What should follow from
# that?*

# %%
folder = pipeline.course_run()
run = Run(recipe, course, folder, device)
run.prepare()
choices = pd.DataFrame(run.choices, index=["value", "reason"]).T
print(choices.to_string())

# %% [markdown]
# ## Why not always 32 bits?
#
# A product of shorter numbers is quicker, where the hardware has it, and moves
# less memory. What is lost depends on which bits are left out. *A gradient of
# 0.00000001: which format makes it zero? A loss of 100,000: which makes it
# infinite? And which cannot tell 1 from 1.003?*

# %%
formats = torch.float32, torch.float16, torch.bfloat16
pd.DataFrame({str(kind): {
    "step after 1": torch.finfo(kind).eps,
    "largest": torch.finfo(kind).max,
    "1e-8 becomes": torch.tensor(1e-8).to(kind).item(),
    "1e5 becomes": torch.tensor(1e5).to(kind).item(),
    "1.003 becomes": torch.tensor(1.003).to(kind).item(),
} for kind in formats})

# %% [markdown]
# `bfloat16` has the reach of 32 bits and two or three digits: enough for
# products, whose sums stay in 32 bits, as do the weights and the loss.
# `float16` has a digit more and a short reach, so its loss is multiplied by
# some thousand before the way back, and the gradients divided again
# (`run.scaler`).
#
# ## Can it learn one batch by heart?
#
# A network that cannot learn 16 pictures by heart has a fault: wrong labels, a
# broken loss, a learning rate of zero. It takes seconds to find out. Below, a
# sound run and one whose pictures were all black by mistake. *What loss do you
# expect before the first step?* With `C` classes and no idea it is ln C.

# %%
batch, _ = next(run.batches())
few = batch._replace(images=batch.images[:16], labels=batch.labels[:16],
                     others=None, share=None)
black = few._replace(images=torch.zeros_like(few.images))
trials = {name: overfit_one_batch(run.objective, run.optimizer, b)
          for name, b in {"sound": few, "black pictures": black}.items()}
right = pd.DataFrame({name: [accuracy for _, accuracy in trial]
                      for name, trial in trials.items()})
plots.lines(right.rename_axis("step"), "One batch of 16 pictures",
            "share of right answers");

# %% [markdown]
# *What would the second line look like in a run of a night? How long would it
# take you to notice?*
#
# ## Which learning rate?
#
# The range test takes a hundred steps, each with a higher rate than the last, and
# looks at the loss. *Where on this curve would you want to train: at its
# lowest place, or before it?*

# %%
run.feed.augment = NOTHING  # pictures as they are: a smoother curve
batches = run.feed.batches(chain.from_iterable(map(run.order, range(99))))
test = range_test(run.objective, run.optimizer, batches,
                  low=1e-5, high=0.02, steps=100)
peak = suggest(test)
plots.lines(test.set_index("rate")[["loss", "smoothed"]],
            "Range test", "loss",
            {"suggested": peak, "recipe": recipe.learning_rate}, log=True);

# %% [markdown]
# At the lowest place one more factor of two may be too much; where the loss
# falls most steeply, a step is worth most. The suggestion lies a little below
# that. It is a place to start searching, not a promise. Both trials worked on
# copies: the run has not begun.
#
# ## The rate over a run
#
# *Why not start at the highest rate? Why not stay there?* Five schedules with
# the recipe's settings; for `plateau`, which waits until the dev accuracy no
# longer rises, imagine that it rises for a third of the epochs.

# %%
settings = {"learning_rate": recipe.learning_rate,
            "warmup_epochs": recipe.warmup_epochs, "restart_epochs": 10}
rates = {name: widgets.schedule_rates(name, recipe.epochs, **settings)
         for name in recipes.CHOICES["schedule"]}
plots.schedules(rates, 10);

# %% [markdown]
# Choose one and move its sliders. *Which settings make `restarts` the same as
# `cosine`? And `plateau` the same as `constant`?*

# %%
panel = widgets.schedule()
panel

# %% [markdown]
# ## One step
#
# This is all that training is: forward and backward (`_gradients`), update. The
# rest of `facekit.train` keeps count and keeps the state safe. *Why are the
# gradients set to nothing first? What is done when memory is too small for the
# batch, and what does it not change?*

# %%
print(inspect.getsource(train.train_step))

# %% [markdown]
# ## The run
#
# An epoch shows every training picture once, changed at random, and then
# judges the network on the dev pictures, unchanged. **Stop it whenever you
# like and run the cell again: it goes on.** A finished run is only read.

# %%
chance = 1 / len(course.classes)
live = plots.LiveCurves(chance)
history = train.fit(recipe, course, folder, on_epoch=live)
live.show(history)

# %%
best = history.best
print(f"best dev accuracy {best['dev_accuracy']:.1%} in epoch "
      f"{best['epoch']:.0f}; chance {chance:.1%}")
history.frame().tail(3).round(3)

# %% [markdown]
# *Is the dev accuracy still rising at the end? Is the training accuracy lower
# or higher than the dev accuracy, and why?* Training pictures are made harder
# by augmentation and their targets are smoothed; dev pictures are plain, and
# the network sees each of them from both sides.
#
# ## When to stop?
#
# `patience` ends a run after so many epochs without a better one. *What is
# lost with a patience of 1? What is gained?*

# %%
dev = history.frame().set_index("epoch")["dev_accuracy"]
best_at = dev.cummax().ne(dev.cummax().shift()).mul(dev.index).cummax()
stops = {}
for patience in (1, 3, 5, 10, 20):
    late = dev.index[dev.index - best_at >= patience]
    end = late[0] if len(late) else dev.index[-1]
    stops[patience] = {"stops after": end, "best so far": dev[:end].max()}
pd.DataFrame(stops).T.rename_axis("patience").round(3)

# %% [markdown]
# A cosine is meant to be run to its end: most is gained while the rate falls.
# Stop one early and you have paid for the noisy part alone.
#
# ## What the guards say
#
# A run can also fail. *What does the loss do when the learning rate is far too
# high? After how many epochs would you give up on a run that only guesses?*

# %%
hot = runtime.runs().value / "too-hot"
shutil.rmtree(hot, ignore_errors=True)
said = []
try:
    train.fit(recipes.load("smoke", ["optimizer=sgd", "learning_rate=1000",
                                 "warmup_epochs=0"]),
              course, hot, progress=False)
except RunError as error:
    said.append(str(error))
guessing = [row | {"dev_accuracy": chance, "train_accuracy": chance}
            for row in history.rows[:10]] * 5
try:
    Watch(recipe, len(course.classes), len(course.dev)).check(guessing, 9.0)
except RunError as error:
    said.append(str(error))
print(*said, sep="\n\n")

# %% [markdown]
# A network that has met one NaN is lost: every weight is NaN after the next
# step. So the run stops, and its last good state is kept.
#
# ## Kill it
#
# A short run in a process of its own, killed without warning after its first
# state is on disk; then the same call again, here. Beside it the same run,
# undisturbed. *Will the two agree to the last digit?*

# %%
settings = ["epochs=3", "seed=1"]
demo = runtime.runs().value / "killed"
shutil.rmtree(demo, ignore_errors=True)
process = train.start_process("smoke", course, demo / "a", settings)
while process.poll() is None and not list((demo / "a").glob("step-*.pt")):
    time.sleep(0.02)
process.kill()  # SIGKILL: nobody is asked
print("exit status", process.wait())
sorted(path.name for path in (demo / "a").iterdir())

# %%
short = recipes.load("smoke", settings)
resumed, straight = (train.fit(short, course, demo / name, progress=False)
                     for name in "ab")
nets = [digest(Checkpoints(demo / name).load_latest()["net"])
        for name in "ab"]
print("killed:  ", nets[0], "\nstraight:", nets[1])

# %% [markdown]
# Every weight is the same to the last bit. The order of the pictures and every
# random change depend on the seed, the epoch and the picture, and a state
# holds the rest: weights, the optimiser's memory, the sums of the running
# epoch. (On a GPU sums are added in no fixed order; the last digits may
# differ.)
#
# ## What you should have found

# %%
assert right["sound"].tail(10).mean() > 0.95, "one batch is learnt by heart"
assert right["black pictures"].tail(10).mean() < 0.5, "but not from black"
assert 1e-5 < peak < test["rate"].iloc[-1]
assert torch.tensor(1e-8).half() == 0 < torch.tensor(1e-8).bfloat16()
for name, values in rates.items():
    assert abs(max(values) / recipe.learning_rate - 1) < 0.02, name
assert rates["cosine"][-1] < 0.01 * recipe.learning_rate
assert 0 < len(history.rows) <= recipe.epochs
assert best["dev_accuracy"] > 5 * chance, "far better than chance"
assert history.rows[-1]["train_loss"] < history.rows[0]["train_loss"]
assert len(said) == 2 and all("learning_rate" in text for text in said)
assert process.returncode != 0, "it was killed before it was done"
if device.type == "cpu":
    assert resumed.rows == straight.rows and nets[0] == nets[1]
assert (folder / "best.pt").exists()
host.took()

# %% [markdown]
# **In practice.** On Colab the disk is lost with the session: mount your Drive
# and give `train.fit` a folder there as `mirror`. In a terminal, `facekit train
# laptop` does what `train.fit` did above, and with `--track tensorboard` the
# curves are drawn elsewhere.
# Next: [05, what a loss does](05_losses.ipynb).
