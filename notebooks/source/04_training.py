# %% [markdown]
# # 04 Training
#
# **You will be able to**
#
# - write the training loop in a dozen lines, and read a full one
# - try a run before you start it: one batch by heart, the learning rate
# - read the curves of a run: how much it overfits, and what would help
# - kill a run in the middle and continue it with nothing lost
#
# **Before this:** [02](02_augmentation_previews.ipynb) and
# [03](03_model_building.ipynb); what a gradient is.
#
# **Minutes:** 10 without a GPU, 5 with one.
#
# **Points:** 5, one for each exercise that says `right`.
#
# *Training takes minutes here and a night at full size. What would you want
# to know after the first ten seconds?*
#
# <details><summary>Answer</summary>
#
# That the loss falls at all, that it is a number, and that one batch can be
# learnt by heart. Each is tried below.
#
# </details>

# %%
import inspect
import os
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from facekit import models
from facekit.common import machine, refusal
from facekit.course import lesson, plots, widgets
from facekit.evaluation import classify
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
#
# <details><summary>Answer</summary>
#
# The precision of the products. Tensor cores are quick with numbers of 16 bits;
# without them there is little or nothing to gain.
#
# </details>

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
#
# <details><summary>Answer</summary>
#
# `float16` does the first two: it reaches from about 0.00000006 to 65,504.
# `bfloat16` does the third: it has only two or three digits.
#
# </details>

# %%
# NBVAL_CHECK_OUTPUT
numbers = torch.tensor([1e-8, 1.003, 1e5])
for kind in (torch.float32, torch.float16, torch.bfloat16):
    print(*(f"{x:12.4g}" for x in numbers.to(kind).tolist()), f"  {kind}")

# %% [markdown]
# `bfloat16` has the reach of 32 bits and two or three digits: enough for
# products, whose sums stay in 32 bits, as do the weights and the loss.
# `float16` has a digit more and a short reach. So its loss is multiplied by a
# large number before the way back, 65,536 to begin with, and the gradients are
# divided by it again (`run.scaler`).
#
# ## Can it learn one batch by heart?
#
# A network that cannot learn 16 pictures by heart has a fault: wrong labels, a
# broken loss, a learning rate of zero. It takes seconds to find out. Below, a
# sound run and one whose pictures were all black by mistake. *What loss do you
# expect before the first step? And what share of right answers on black
# pictures?*
#
# <details><summary>Answer</summary>
#
# With C classes and no idea the loss is about ln C. On black pictures one answer
# is as good as another; the best is to name the person whose picture comes most
# often among the 16. Where the recipe makes batches by people, these are four people
# with four pictures each, and that is a quarter.
#
# </details>

# %% alt="Share of right answers over steps: the sound batch is learnt, the black one is not"
few = next(lr_finder.plain_batches(run, 16))
black = few._replace(images=torch.zeros_like(few.images))
right = pd.DataFrame({name: lr_finder.overfit_one_batch(
    run.objective, run.optimizer, batch)["accuracy"]
    for name, batch in {"sound": few, "black images": black}.items()})
plots.lines(right.rename_axis("step"), "One batch of 16 images",
            "share of right answers")
by_heart = right["sound"].ge(0.9).idxmax()
print(f"sound: nine of ten are right at step {by_heart}")

# %% [markdown]
# *What would the second line look like in a run of a night? How long would it
# take you to notice?*
#
# <details><summary>Answer</summary>
#
# It stays near chance, and its loss near ln C. Nothing raises an error, so you
# would notice in the morning. This trial takes seconds.
#
# </details>
#
# ## Which learning rate?
#
# The range test takes a hundred steps, each with a higher rate than the last, and
# looks at the loss: of batches at random, and the cross-entropy alone. *Where on this
# curve would you want to train: at its lowest place, or before it? And why not
# batches of a few people with several pictures each, if the recipe has such?*
#
# <details><summary>Answer</summary>
#
# Before it. At the lowest place one more factor of two may be too much; where
# the loss falls most steeply, a step is worth most. A batch of few people raises
# the logits of those few; the next batch has others, who pay for it. The loss
# then goes up and down with whose turn it is, whatever the rate.
#
# </details>

# %% alt="Loss over the learning rate, with the suggested rate and the recipe's"
trial = Run(replace(recipe, images_per_class=0, auxiliary_loss=""), course,
            folder, run.device)
trial.prepare()
test = lr_finder.range_test(
    trial.objective, trial.optimizer, lr_finder.plain_batches(trial),
    low=1e-5, high=0.02, steps=100)
peak = lr_finder.suggest(test)
plots.lines(test.set_index("lr")[["loss", "smoothed"]], "Range test", "loss",
            {"suggested": peak, "recipe": recipe.lr}, log=True);

# %% [markdown]
# The suggestion lies a little below the steepest place of the smoothed loss. It
# is a place to start searching, not a promise, and the recipe's rate need not be
# the same: below, after the loop, both are tried. Both trials here worked on
# copies: the run has not begun.
#
# ## The rate over a run
#
# *Why not start at the highest rate? Why not stay there?* Five schedules of
# 60 epochs, with a peak of 0.002 and a warm-up of 3, as an example. For `plateau`,
# which waits until the dev accuracy no longer rises, imagine that it rises for a
# third of the epochs.
#
# <details><summary>Answer</summary>
#
# At first gradients point in very different directions and the sums that the
# optimiser remembers are of few steps: a high rate would throw the weights far
# off. At the end only small steps settle in a low place of the loss.
#
# </details>

# %% alt="The learning rate over the epochs of a run by five schedules"
rates = {name: widgets.schedule_lr(name, warmup_epochs=3)
         for name in CHOICES["schedule"]}
plots.schedules(rates, 10);

# %% [markdown]
# `cosine` and `onecycle` end at zero, and `plateau` near it, halved every six
# epochs once nothing gets better; `restarts` has jumped up twice, and `constant`
# never falls. Choose one and move its sliders. *Which settings make `restarts`
# the same as `cosine`? What does the slider of `plateau` change?*
#
# <details><summary>Answer</summary>
#
# A restart just as long as the run after its warm-up: 57 epochs of 60 with 3 of
# warm-up. The slider of `plateau` says how many epochs without a better one it
# waits before the rate is halved.
#
# </details>

# %% alt="The learning rate over 60 epochs with two warm restarts"
widgets.schedule()

# %% [markdown]
# ### Exercise: a rate for every step
#
# *Why should the first step have some rate, and the last one hardly any?*
#
# <details><summary>Answer</summary>
#
# A first step with a rate of 0 would change nothing and waste a batch. The last
# steps should only settle what was found.
#
# </details>
#
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
# Every training loop has five steps for each batch: *batch, forward, loss,
# backward, update*. In PyTorch they are
#
# ```text
# batch      for images, labels in loader
# forward    logits = network(images)                (B, C)
# loss       cross_entropy(logits, labels)           a number
# backward   clear the old gradients, then loss.backward()
# update     optimizer.step()
# ```

# %% [markdown]
# ### Exercise: an epoch in a dozen lines
#
# *Why are the gradients cleared? And what must be switched on before the first
# batch, if the network was judged just before?*
#
# <details><summary>Answer</summary>
#
# `backward` adds to the gradients that are there. And `network.train()`: after
# `eval()`, batch norm uses its stored means, and dropout is off.
#
# </details>
#
# Write one epoch: for each batch of `loader`, a pair of images and labels, one
# step of `optimizer` on the mean cross-entropy of `network`. Return the mean loss
# and the accuracy over all pictures, as two numbers. The last batch may be
# smaller than the others. What `network` answers to a batch counts as it was
# *before* that batch's step.

# %%
from torch.nn.functional import cross_entropy

from facekit.course import exercises


def train_epoch(network, loader, optimizer):
    ### BEGIN SOLUTION
    network.train()
    total, right, count = 0.0, 0, 0
    for images, labels in loader:
        logits = network(images)
        loss = cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
        right += (logits.argmax(1) == labels).sum().item()
        count += len(labels)
    return total / count, right / count
    ### END SOLUTION


exercises.exercise("train_epoch", train_epoch)

# %% [markdown]
# The five steps on the course's pictures, three batches long.
# `course.train.dataset(transform)` is a torchvision `ImageFolder`, so that a
# `DataLoader` takes it. *What do you expect of the loss?*
#
# <details><summary>Answer</summary>
#
# It begins near ln C, C people. Three steps change little, and every batch has
# other pictures: it need not fall each time.
#
# </details>

# %%
transform = v2.Compose([v2.Resize((64, 64)), v2.ToImage(),
                        v2.ToDtype(torch.float32, scale=True)])
loader = DataLoader(course.train.dataset(transform), 64, shuffle=True)
plain = models.build(recipe.network, len(course.classes)).train()
optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3)
for images, labels in islice(loader, 3):                         # batch
    logits = plain(images)                                       # forward
    loss = torch.nn.functional.cross_entropy(logits, labels)     # loss
    optimizer.zero_grad()
    loss.backward()                                              # backward
    optimizer.step()                                             # update
    print(f"{len(images)} images, loss {loss:.2f}")

# %% [markdown]
# Now the loop of the kit, all of it: `training/loop.py`, which runs below. *Find
# the five steps once more. What does this loop have that yours has not? Who
# saves, who stops, who draws the bar, when none of them is named here?*
#
# <details><summary>Answer</summary>
#
# The steps are in `train_epoch` (batch) and `forward_backward` and `train_step`
# (the rest). The table below tells what is added. Saving, stopping and the bar
# are callbacks: they are told of every step and every epoch, and may end the run.
#
# </details>

# %%
print(inspect.getsource(loop))

# %% [markdown]
# | in the loop | what it adds to yours |
# | --- | --- |
# | `while not run.progress.done` | as many epochs as the recipe says, or until its patience is over |
# | `evaluate(...)` | the dev pictures after every epoch |
# | `set_lr(... run.lr_at(run.step))` | the schedule: a rate for every step |
# | `run.forward(...)` | network, head and losses in one call, so that they can be compiled as one piece |
# | `run.scaler` | the factor for `float16` gradients; does nothing elsewhere |
# | `clip_grad_norm_` | a limit to the gradient's length, if the recipe has one |
# | `run.ema` | a running mean of the weights, if the recipe has one |
# | `halve_until_it_fits`, `slices` | a batch in parts where memory is short: their gradients add up |
# | `world`, `data_parallel` | several GPUs, each with a part of the batch |
# | `keyed_dropout` | random numbers that depend on the step alone, so that a run can be continued |
# | `callbacks` | saving, guards, stopping, the bar, curves (`training/callbacks.py`) |
#
# A `DataLoader` of your own trains a whole run by `fit(..., loader=loader)`,
# which judges, saves and resumes as below.

# %% [markdown]
# ### Exercise: what the optimiser does
#
# *A ball rolls downhill: what does it remember?*
#
# <details><summary>Answer</summary>
#
# Its velocity. Steps that agree add up, and steps that change their direction
# cancel out.
#
# </details>
#
# Write one step of SGD with momentum as Nesterov proposed it, from tensors of
# one shape and three numbers; return the new weights and the new velocity as
# a tuple, and leave what you were given as it was. Decay pulls the weights to
# zero: add `decay` times the weights to the gradient. The new velocity is
# `momentum` times the old one, plus that gradient. The step goes against that
# gradient plus `momentum` times the *new* velocity, by `rate`.

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
# *Which curve will be higher in the end, train or dev?*
#
# <details><summary>Answer</summary>
#
# Two things work against each other. The network knows the training pictures,
# which lifts train. But train is counted while the network still learns, on
# pictures that are changed, and with dropout where the network has any, which lowers
# it. So the two curves alone do not say how much a run overfits; the next section
# measures it. Of the losses compare the course, not the height: that of train also
# holds label smoothing and the recipe's second loss, where it has one.
#
# </details>

# %% alt="Loss and accuracy of each epoch, training and dev"
chance = 1 / len(course.classes)
live = plots.LiveCurves(chance)
history = fit(recipe, course, folder, on_epoch=live)
live.show(history)

# %%
best = history.best
print(f"best: {best['dev_accuracy']:.1%} in epoch {best['epoch']:.0f}")

# %% [markdown]
# ## Reading the curves
#
# **Overfitting** is knowing the training pictures better than new ones. To see
# it, judge the trained network on both in the same way: unchanged pictures, no
# dropout. *Guess both accuracies first. What would bring them together?*
#
# <details><summary>Answer</summary>
#
# More pictures of each person, if there are any; then stronger augmentation (02),
# more dropout or weight decay, label smoothing, a smaller network. A longer run rather
# widens the gap. Whether dev gets *better* is another question: only a run tells.
#
# </details>

# %%
trained, every = lesson.trained_run(course), -(-len(course.train) // 3000)
answers = classify(trained, course.train.paths[::every])
known_train = np.mean(answers == course.train.labels[::every])
gap = known_train - best["dev_accuracy"]
epochs = history.frame().set_index("epoch")
least, last = epochs["dev_loss"].idxmin(), epochs.index[-1]
print(f"unchanged pictures: train {known_train:.1%}, "
      f"dev {best['dev_accuracy']:.1%}: overfits by {100 * gap:.1f} points")
print(f"lowest dev loss in epoch {least}, best accuracy in "
      f"{best['epoch']:.0f}, last epoch {last}")
last_row = epochs.loc[last]
print(f"last epoch, as the curves have it: train "
      f"{last_row['train_accuracy']:.1%}, dev {last_row['dev_accuracy']:.1%}")

# %% [markdown]
# A gap of a few points is normal and harmless. It is a fault where dev *loss*
# climbs for many epochs before the end while train loss still falls: then the
# later epochs only make the network surer of its mistakes. The second line says
# whether that is so here.
#
# ## The suggested rate, or the recipe's?
#
# Try both, for four epochs. *Which would you bet on?*
#
# <details><summary>Answer</summary>
#
# Smith's test ends after a hundred steps, from fresh weights, without warm-up and
# without a schedule. A run with warm-up and a falling rate can bear a higher peak
# than the test suggests. The curves below decide, and a whole run may decide
# otherwise than four epochs.
#
# </details>

# %% alt="Dev accuracy over four epochs at the suggested rate and at the recipe's"
quick, few_runs = lesson.few_epochs(course), folder.with_name("few")
at_peak = replace(quick, lr=float(f"{peak:.2g}"))
first_four = {
    f"recipe's {quick.lr:g}": fit(quick, course, few_runs / "course"),
    f"suggested {at_peak.lr:g}": fit(at_peak, course,
                                    few_runs / f"lr-{at_peak.lr:g}")}
dev = {name: done.frame().set_index("epoch")["dev_accuracy"]
       for name, done in first_four.items()}
plots.lines(pd.DataFrame(dev), "Four epochs at two rates", "dev accuracy")
print("after four epochs:", *(f"{name}: {values.iloc[-1]:.1%}"
                              for name, values in dev.items()))

# %% [markdown]
# ## One number for many batches
#
# Dev pictures come in batches, too, and the last batch has what is left. The
# homework has 35,005 of them. Suppose a network knows 90 % and you divide by
# the number of batches times their size, as many a loop does. *Which accuracy
# do you print? And what if a cut-off lies at 90 %?*
#
# <details><summary>Answer</summary>
#
# A little less than 90 %, because the last batch counts as a full one. A network
# that has reached the cut-off is then taken for one that has not.
#
# </details>

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
#
# <details><summary>Answer</summary>
#
# Only where all batches have the same size. Otherwise a picture of the small
# last batch counts more than the others.
#
# </details>

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
#
# <details><summary>Answer</summary>
#
# Epochs are gained, accuracy may be lost: the curve of dev accuracy shakes while
# the rate is high, and one worse epoch says nothing. Rows that are the same mean
# that the longer patience was never used up.
#
# </details>

# %%
cut = {patience: history.until(patience) for patience in (1, 3, 5, 10, 20)}
stops = pd.DataFrame([short.best | {"stops after": len(short.rows)}
                      for short in cut.values()], index=list(cut)).round(3)
stops[["stops after", "epoch", "dev_accuracy"]].rename_axis("patience")

# %% [markdown]
# A cosine is meant to be run to its end: its last, small steps settle. With it,
# rather choose fewer epochs from the start than stop early.

# %% [markdown]
# ### Exercise: patience
#
# Write the rule behind the table. `accuracies` are the dev accuracies of the
# epochs of a long run; with `patience` it ends after the first epoch that is
# `patience` epochs later than the best so far. As good is not better: of
# equal ones the first is the best. Return how many epochs the run takes, and
# which epoch's network is kept, counted from 1. *Which of the two epochs'
# networks would you hand in?*
#
# <details><summary>Answer</summary>
#
# That of the best epoch. The run ends `patience` epochs later.
#
# </details>

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
#
# <details><summary>Answer</summary>
#
# Each step jumps over the valley and lands higher than before, so it grows until
# no number holds it: infinity, then NaN ("not a number").
#
# </details>

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
#
# <details><summary>Answer</summary>
#
# On a processor, yes. On a GPU sums are added in no fixed order, so the last
# digits may differ.
#
# </details>

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
nets = [digest(Checkpoints(demo / n).load_latest()["net"]) for n in "ab"]
print("killed:  ", nets[0], "\nstraight:", nets[1])

# %% [markdown]
# The order of the pictures and every random change depend on the seed, the epoch
# and the picture, and a state holds the rest: weights, the optimiser's memory,
# the sums of the running epoch.
#
# ## The curves of many runs
#
# `history.csv` is enough for one run. For twenty there are trackers, which get
# every epoch: **TensorBoard** draws on your own machine, **Weights & Biases**
# (W&B) on a server. Offline W&B writes files only, and `wandb sync` sends them
# when you want that. *What should happen to a run whose tracker fails?*
#
# <details><summary>Answer</summary>
#
# It should go on without the tracker, and say so: the network takes a night, and
# its numbers stand in `history.csv` in any case.
#
# </details>

# %%
trackers = [name for name in ("tensorboard", "wandb") if find_spec(name)]
os.environ["WANDB_MODE"] = "offline"  # no account; nothing leaves this machine
tracked = lesson.fresh_run("tracked")
fit(short, course, tracked, progress=False, track=trackers)
print("tracked by", *trackers or ["nobody: pip install tensorboard wandb"])
print(*sorted(p.relative_to(tracked) for p in tracked.glob("*/*")), sep="\n")

# %%
# Remove the first "# " of both lines, and TensorBoard opens below:
# # %load_ext tensorboard
# # %tensorboard --logdir {tracked.parent}

# %% [markdown]
# Look at `dev_accuracy` of all runs of this notebook. To see them at W&B: make an
# account, then `wandb login` and `wandb sync` with the folder `offline-run-...`
# in a terminal. In a command it is `facekit train laptop --track wandb`.
#
# ## Your own network
#
# Now the network that you wrote at the end of 03, beside the course's, four epochs
# each; both runs are there already if you ran 03 and the cells above. Where 03 was
# not run, a small network to begin with stands in for yours. *Which will be ahead
# after the first epoch? After the last?*
#
# <details><summary>Answer</summary>
#
# That depends on yours. Four epochs do not show what a whole run would.
#
# </details>

# %% alt="Dev accuracy of four epochs: your own network and the course's"
network = lesson.own_network()
runs = {"yours": fit(quick, course, lesson.own_run(), network=network),
        "the course's": fit(quick, course, few_runs / "course")}
by_epoch = pd.concat({name: done.frame().set_index("epoch")["dev_accuracy"]
                      for name, done in runs.items()}, axis=1)
plots.lines(by_epoch, "The same four epochs", "dev accuracy")
print(network, lesson.own_run(), sep="\n")

# %% [markdown]
# The last two lines name the file with the class in it, and the folder of its
# run. Change the file, or the class in 03 and keep it again, and run the cell
# once more. *What would a run be worth whose network changed halfway?*
#
# <details><summary>Answer</summary>
#
# Nothing: nobody could say which network its numbers belong to.
#
# </details>
#
# A run
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
assert by_heart > 0 and 0 < known_train <= 1 and 1 <= least <= last
assert min(d.iloc[-1] for d in dev.values()) > chance, "both rates learn"
assert stops["dev_accuracy"].is_monotonic_increasing, "who waits finds more"
assert "lr" in said, "it says what to do"
assert by_epoch["yours"].max() > 2 * chance, "your own learns, too"
assert process.returncode != 0, "it was killed before it was done"
if run.device.type == "cpu":
    assert resumed.rows == straight.rows and nets[0] == nets[1]
host.took()

# %% [markdown]
# **On Colab, Kaggle, a laptop.** On Colab the disk is lost with the session; what
# is on your Drive comes back. On Kaggle `/kaggle/working` is kept with a saved
# version. With a GPU the recipe has a
# larger network and more people, and `precision` and `compile` are chosen for
# it; on a laptop set `FACEKIT_PROFILE=smoke` and this notebook takes a minute or
# two. In a terminal, `facekit train laptop` does what `fit` did above. Where
# each notebook has a disk of its own, `mine.py` is not there: copy the cells of
# your network from 03, with the call that keeps it, to the top of this one.

# %% [markdown]
# ## Summary
#
# - A step is batch, forward, loss, backward, update; gradients are cleared in
#   each.
# - One batch by heart and a range test take seconds, and find most faults.
# - The rate climbs at first and falls to the end; the suggested one is a start.
# - Overfitting is measured on unchanged pictures: train accuracy less dev
#   accuracy.
# - A run whose randomness depends on seed, epoch and picture can be killed and
#   continued with nothing lost.
#
# ## Terms
#
# - **epoch**: every training picture once; **step**: one batch, one update
# - **learning rate**: how far a step goes; **schedule**: its course over a run;
#   **warm-up**: its climb at the start
# - **overfitting**: knowing the training pictures better than new ones
# - **early stopping**: ending a run that no longer gets better; **patience**: how
#   many epochs it may take
# - **mixed precision**: products in 16 bits, sums and weights in 32
# - **checkpoint**: all that is needed to continue a run
# - **callback**: what is called by the loop at every step or epoch
#
# ## To read
#
# - Smith (2017), [Cyclical Learning Rates for Training Neural
#   Networks](https://arxiv.org/abs/1506.01186)
# - Loshchilov, Hutter (2017), [SGDR: Stochastic Gradient Descent with Warm
#   Restarts](https://arxiv.org/abs/1608.03983)
# - Micikevicius et al. (2018), [Mixed Precision
#   Training](https://arxiv.org/abs/1710.03740)
#
# Next: [05, what a loss does](05_losses.ipynb).
