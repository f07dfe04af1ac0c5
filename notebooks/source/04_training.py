# %% [markdown]
# # 04 Training
#
# **You will** try a run before you start it, train the course's network and
# your own, read their curves, kill a run in the middle and see that nothing
# was lost.
#
# *Training takes minutes here and a night at full size. What would you want
# to know after the first ten seconds?*

# %%
import inspect
from itertools import islice

import pandas as pd
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from facekit import models
from facekit.common import machine, refusal
from facekit.course import lesson, plots, widgets
from facekit.models.weights import digest
from facekit.sources import open_course
from facekit.training import (CHOICES, FOLDER, Checkpoints, Run, fit,
                              load_recipe, loop, lr_finder, start_process,
                              wait_for_state)

course = open_course()
recipe = load_recipe(lesson.course_recipe(course))
print((FOLDER / f"{recipe.name}.toml").read_text())

# %% [markdown]
# A **recipe** is all that one decides (what it does not mention stays as it
# stands in `facekit.training.Recipe`); what depends on the machine, the kit chooses, and
# says why. *A GPU has tensor cores, or it has not. What should follow from
# that?*

# %%
folder = lesson.course_run()
run = Run(recipe, course, folder, machine.device().value)
run.prepare()
print(pd.DataFrame(run.choices, index=["value", "reason"]).T.to_string())

# %% [markdown]
# ## Why not always 32 bits?
#
# A product of shorter numbers is quicker, where the hardware has it, and moves
# less memory. What is lost depends on which bits are left out. *A gradient of
# 0.00000001: which format makes it zero? A loss of 100,000: which makes it
# infinite? And which cannot tell 1 from 1.003?*

# %%
# NBVAL_CHECK_OUTPUT
numbers = torch.tensor([1e-8, 1.003, 1e5])
for kind in (torch.float32, torch.float16, torch.bfloat16):
    print(*(f"{x:12.4g}" for x in numbers.to(kind).tolist()), f"  {kind}")

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

# %% alt="Share of right answers over steps: the sound batch is learnt, the black one is not"
few = next(lr_finder.plain_batches(run, 16))
black = few._replace(images=torch.zeros_like(few.images))
right = pd.DataFrame({name: lr_finder.overfit_one_batch(
    run.objective, run.optimizer, batch)["accuracy"]
    for name, batch in {"sound": few, "black images": black}.items()})
plots.lines(right.rename_axis("step"), "One batch of 16 images",
            "share of right answers");

# %% [markdown]
# The sound line is at 1 after some ten steps; on black pictures one answer is
# as good as another, and the best is the person whose picture comes most
# often. *What would the second line look like in a run of a night? How long
# would it take you to notice?*
#
# ## Which learning rate?
#
# The range test takes a hundred steps, each with a higher rate than the last, and
# looks at the loss. *Where on this curve would you want to train: at its
# lowest place, or before it?*

# %% alt="Loss over the learning rate, with the suggested rate and the recipe's"
test = lr_finder.range_test(
    run.objective, run.optimizer, lr_finder.plain_batches(run),
    low=1e-5, high=0.02, steps=100)
peak = lr_finder.suggest(test)
plots.lines(test.set_index("lr")[["loss", "smoothed"]],
            "Range test", "loss",
            {"suggested": peak, "recipe": recipe.lr}, log=True);

# %% [markdown]
# Hardly any change at first, then a fall, then a floor that shakes or a climb.
# At the lowest place one more factor of two may be too much; where the loss
# falls most steeply, a step is worth most. The suggestion lies a little below
# that. It is a place to start searching, not a promise. Both trials worked on
# copies: the run has not begun.
#
# ## The rate over a run
#
# *Why not start at the highest rate? Why not stay there?* Five schedules of
# 60 epochs, with a peak of 0.002. For `plateau`, which waits until the dev
# accuracy no longer rises, imagine that it rises for a third of the epochs.

# %% alt="The learning rate over the epochs of a run by five schedules"
rates = {name: widgets.schedule_lr(name, warmup_epochs=3)
         for name in CHOICES["schedule"]}
plots.schedules(rates, 10);

# %% [markdown]
# `cosine` and `onecycle` end at zero, and `plateau` near it, halved every six
# epochs once nothing gets better; `restarts` has jumped up twice, and `constant`
# never falls. Choose one and move its sliders. *Which settings make `restarts`
# the same as `cosine`? And `plateau` the same as `constant`?*

# %% alt="The learning rate over 60 epochs with two warm restarts"
widgets.schedule()

# %% [markdown]
# ### Exercise: a rate for every step
#
# *Why should the first step have some rate, and the last one hardly any?*
# Write the rate of `step` in a run of `steps` steps, counted from 0. In the
# first `warmup` steps it climbs along a straight line, a little from the
# first step on, to the `peak` at the last of them; then it follows half a
# cosine from the peak (at step `warmup`) to zero (at step `steps`, which is no
# longer taken). `warmup` may be 0.

# %%
import math
from facekit.course import exercises


def scheduled_rate(step, steps, warmup, peak):
    ### BEGIN SOLUTION
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return peak * (1 + math.cos(math.pi * done)) / 2
    ### END SOLUTION


exercises.exercise("scheduled_rate", scheduled_rate)

# %% [markdown]
# ## The loop
#
# Here is all of it, and it is the one that runs below. Look for these five words
# in it: *batch, forward, loss, backward, update*. *Why are
# the gradients set to nothing first? What is done when memory is too small for
# a batch, and what does that not change? Who saves, who stops, who draws the
# bar, when none of them is named here?*

# %%
print(inspect.getsource(loop))

# %% [markdown]
# `run.forward` is the network, its head and its losses in one call (so that it
# can be compiled as one piece). What is no part of training hangs on the loop
# as a **callback**: it is told of every step and every epoch, and may end the
# run. `facekit/training/callbacks.py` has the guards, the saving and the bar.
#
# The same idea with nothing but torch: `course.train.dataset(transform)` is a
# torchvision `ImageFolder`, so that a `DataLoader` takes it. *Find the five
# words once more. What has the loop above that this one lacks?*

# %%
transform = v2.Compose([v2.Resize((64, 64)), v2.ToImage(),
                        v2.ToDtype(torch.float32, scale=True)])
loader = DataLoader(course.train.dataset(transform), batch_size=64,
                    shuffle=True)
plain = models.build(recipe.network, len(course.classes))
optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3)
for images, labels in islice(loader, 3):
    loss = torch.nn.functional.cross_entropy(plain(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"{len(images)} images, loss {loss:.2f}")

# %% [markdown]
# A `DataLoader` of your own trains a whole run by `fit(..., loader=loader)`,
# which judges, saves and resumes as below.

# %% [markdown]
# ### Exercise: what the optimiser does
#
# *A ball rolls downhill: what does it remember?* Write one step of SGD with
# momentum as Nesterov proposed it, from tensors of one shape and three
# numbers; return the new weights and the new velocity as a tuple, and leave
# what you were given as it was. Decay pulls the weights to zero: add `decay`
# times the weights to the gradient. The new velocity is `momentum` times the
# old one, plus that gradient. The step goes against that gradient plus
# `momentum` times the *new* velocity, by `rate`.

# %%
from facekit.course import exercises


def sgd_step(weight, gradient, velocity, rate, momentum, decay):
    ### BEGIN SOLUTION
    gradient = gradient + decay * weight
    velocity = momentum * velocity + gradient
    return weight - rate * (gradient + momentum * velocity), velocity
    ### END SOLUTION


exercises.exercise("sgd_step", sgd_step)

# %% [markdown]
# ## The run
#
# An epoch shows every training picture once, changed at random, and then
# judges the network on the dev pictures, unchanged. **Stop it whenever you
# like and run the cell again: it goes on.** A finished run is only read.
#
# *Which curve will be higher, train or dev? When will they cross?*

# %% alt="Loss and accuracy of each epoch, training and dev"
chance = 1 / len(course.classes)
live = plots.LiveCurves(chance)
history = fit(recipe, course, folder, on_epoch=live)
live.show(history)

# %%
best = history.best
print(f"best: {best['dev_accuracy']:.1%} in epoch {best['epoch']:.0f}")

# %% [markdown]
# *Is the dev accuracy still rising at the end? Is the training accuracy lower
# or higher than the dev accuracy, and why?* Training pictures are made harder
# by augmentation and their targets are smoothed; dev pictures are plain, and
# the network sees each of them from both sides. You should see a dev accuracy
# far above the dotted line of chance, and a best epoch late in the run.
#
# ## One number for many batches
#
# Dev pictures come in batches, too, and the last batch has what is left. The
# homework has 35,005 of them. Suppose a network knows 90 % and you divide by
# the number of batches times their size, as many a loop does. *Which accuracy
# do you print? And what if a cut-off lies at 90 %?*

# %%
# NBVAL_CHECK_OUTPUT
known, batches = 31_505, -(-35_005 // 128)
print(f"{known / 35_005:.2%} right, printed as {known / (batches * 128):.2%}")

# %% [markdown]
# ### Exercise: the accuracy of an epoch
#
# Write it from two lists: `right`, the right answers in each batch, and
# `sizes`, the pictures in each. Return the share of right answers over all
# pictures. *Is the mean of the batches' accuracies the same?*

# %%
from facekit.course import exercises


def accuracy(right, sizes):
    ### BEGIN SOLUTION
    return sum(right) / sum(sizes)
    ### END SOLUTION


exercises.exercise("accuracy", accuracy)

# %% [markdown]
# > **In practice.** The loop above lost a sixth of a point right at the
# > cut-off. Worse ones are as common: a "best" file that is written every
# > epoch, because one name is compared and another is set; a test file used
# > to choose the epoch; a checkpoint without the optimiser's memory, so that
# > every resumed night begins with a jump of the loss; a network left in
# > training mode while it is judged. None of them raises an error. Write down
# > what you expect *before* you look at a number.
#
# ## When to stop?
#
# `patience` ends a run after so many epochs without a better one. Below, where
# this run would have ended, and its best epoch until then. *What is lost with
# a patience of 1? What is gained?*

# %%
cut = {patience: history.until(patience) for patience in (1, 3, 5, 10, 20)}
stops = pd.DataFrame([short.best | {"stops after": len(short.rows)}
                      for short in cut.values()], index=list(cut)).round(3)
stops[["stops after", "epoch", "dev_accuracy"]].rename_axis("patience")

# %% [markdown]
# A cosine is meant to be run to its end: most is gained while the rate falls.
# Stop one early and you have paid for the noisy part alone.

# %% [markdown]
# ### Exercise: patience
#
# Write the rule behind the table. `accuracies` are the dev accuracies of the
# epochs of a long run; with `patience` it ends after the first epoch that is
# `patience` epochs later than the best so far. As good is not better: of
# equal ones the first is the best. Return how many epochs the run takes, and
# which epoch's network is kept, counted from 1. *Which of the two numbers
# would you hand in?*

# %%
from facekit.course import exercises


def when_to_stop(accuracies, patience):
    ### BEGIN SOLUTION
    best = 0
    for epoch, value in enumerate(accuracies):
        best = epoch if value > accuracies[best] else best
        if epoch - best == patience:
            break
    return epoch + 1, best + 1
    ### END SOLUTION


exercises.exercise("when_to_stop", when_to_stop)

# %% [markdown]
# ## What the guards say
#
# A run can also fail. *What does the loss do when the learning rate is far too
# high?*

# %%
wild = load_recipe("smoke", ["optimizer=sgd", "lr=1000", "warmup_epochs=0"])
said = refusal(fit, wild, course, lesson.fresh_run("too-hot"), progress=False)
print(said)

# %% [markdown]
# A network that has met one NaN is lost: every weight is NaN after the next
# step. So the run stops, and its last good state is kept. Another guard ends a
# run that goes on guessing.
#
# ## Kill it
#
# A short run in a process of its own, killed without warning after its first
# state is on disk; then the same call again, here. Beside it the same run,
# undisturbed. *Will the two agree to the last digit?*

# %%
settings = ["epochs=3", "seed=1"]
demo = lesson.fresh_run("killed")
process = start_process("smoke", course, demo / "a", settings)
wait_for_state(process, demo / "a")
process.kill()  # SIGKILL: nobody is asked
print("exit", process.wait(), *sorted(p.name for p in (demo / "a").iterdir()))

# %%
short = load_recipe("smoke", settings)
resumed, straight = (fit(short, course, demo / name, progress=False)
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
# ## Your own network
#
# Now the network that you wrote at the end of 03, for four epochs, and the
# course's recipe for as many; where 03 was not run, a small network to begin
# with stands in for yours. *Which will be ahead after the first epoch? After the
# last?*

# %% alt="Dev accuracy of four epochs: your own network and the course's"
quick, network = lesson.few_epochs(course), lesson.own_network()
runs = {"yours": fit(quick, course, lesson.own_run(), network=network),
        "the course's": fit(quick, course, folder.with_name("few") / "course")}
by_epoch = pd.concat({name: done.frame().set_index("epoch")["dev_accuracy"]
                      for name, done in runs.items()}, axis=1)
plots.lines(by_epoch, "The same four epochs", "dev accuracy")
print(network, lesson.own_run(), sep="\n")

# %% [markdown]
# The last two lines name the file with the class in it, and the folder of its
# run. Change the file, or the class in 03 and keep it again, and run the cell
# once more. *What would a run be worth whose network changed halfway?* A run
# keeps a hash of the network's source and refuses another. So another network
# has another folder here, and the old ones stay. For all of the recipe's epochs:
# `fit(recipe, course, folder.with_name("mine"), network=network)`.
#
# ## What you should have found

# %%
assert right["sound"].tail(10).mean() > 0.95, "one batch is learnt by heart"
assert right["black images"].tail(10).mean() < 0.5, "but not from black"
assert numbers.half()[0] == 0 < numbers.bfloat16()[0], "too short a reach"
assert numbers.bfloat16()[1] == 1 < numbers.half()[1], "too few digits"
assert rates["cosine"][-1] < 1e-5 < rates["plateau"][-1]
assert best["dev_accuracy"] > 5 * chance, "far better than chance"
assert stops["dev_accuracy"].is_monotonic_increasing, "who waits finds more"
assert "lr" in said, "it says what to do"
assert by_epoch["yours"].max() > 2 * chance, "your own learns, too"
assert process.returncode != 0, "it was killed before it was done"
if run.device.type == "cpu":
    assert resumed.rows == straight.rows and nets[0] == nets[1]
host.took()

# %% [markdown]
# **On Colab, Kaggle, a laptop.** On Colab the disk is lost with the session:
# write `host.start(drive=True)` in the first cell, and it comes back; on Kaggle
# `/kaggle/working` is kept with a saved version. With a GPU the recipe has a
# larger network and more people, and `precision` and `compile` are chosen for
# it; on a laptop set `FACEKIT_PROFILE=smoke` and this notebook takes about a
# minute. In a terminal, `facekit train laptop` does what `fit` did
# above, and with `--track tensorboard` the curves are drawn elsewhere. Where
# each notebook has a disk of its own, `mine.py` is not there: copy the cells of
# your network from 03, with the call that keeps it, to the top of this one.
#
# Next: [05, what a loss does](05_losses.ipynb).
