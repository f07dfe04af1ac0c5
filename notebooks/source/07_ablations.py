# %% [markdown]
# # 07 Ablations
#
# **You will** read a published table of twelve runs, find out what it can tell
# and what it cannot, and train some of its rows at this machine's scale.
#
# *An ablation changes one thing and looks at what happens. Twelve runs, and
# accuracies from 17 % to 87 %: how would you find out which change did it?*

# %%
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from facekit import models
from facekit.common import machine
from facekit.course import ablations, plots, widgets
from facekit.evaluation import classify, load_run, statistics
from facekit.models import specs
from facekit.sources import open_course, profiles
from facekit.training import Run, fit, schedules
from facekit.training.lr_finder import plain_batches, range_test

course = open_course()
table = ablations.published()
print(len(table), "published runs, and here", len(course.dev), "dev images")

# %%
# NBVAL_CHECK_OUTPUT
table

# %% [markdown]
# These are twelve runs on the homework's 7,001 people; notebook 03 has the
# networks, and rows 5 to 12 share one. *In which rows does the network know its
# training pictures by heart? Which of those is best on new ones? And what
# happened in row 6?*

# %% alt="Two bars a row: right on training images, right on dev images"
accuracies = table[["train_accuracy", "dev_accuracy"]]
plots.bars(accuracies, "The published table", "accuracy");

# %% [markdown]
# Rows 2, 3 and 9 to 12 are right on (nearly) all training pictures, and yet up
# to 18 points apart on new ones. **The training accuracy does not tell you
# which network to take.**
#
# ## What differs between two rows?
#
# To compare, everything else should be equal. *Row 6 is the worst, and its
# learning rate is ten times that of row 7. So it was the learning rate?*

# %%
# NBVAL_CHECK_OUTPUT
published = {row: ablations.recipe(row, ablations.FULL) for row in table.index}
print(ablations.differences(published["row06"], published["row07"]))
differ = pd.DataFrame({one: {two: len(ablations.differences(
    published[one], published[two])) for two in table.index}
    for one in table.index})
differ

# %% [markdown]
# They differ in *two* settings, and the table cannot tell which one it was: a
# row with the rate of the one and the restarts of the other is missing. *Which
# pairs differ in one setting alone?*
#
# Rows 7 and 8 do. Rows 1, 2 and 5 were trained alike, but their networks differ
# in blocks, channels, strides and dropout at once. All else in this table is at
# best a hint. *Which thirteenth row would you ask for?*

# %% [markdown]
# ### Exercise: what can be compared
#
# `rows` is a dict of dicts: the settings of each row by the row's name, all
# rows with the same settings. Return a list of the pairs `(one, two)` that
# differ in exactly one setting, the earlier row first, in the order of the
# rows. *What does a pair show that differs in none?*

# %%
from facekit.course import exercises


def one_change(rows):
    ### BEGIN SOLUTION
    names = list(rows)
    return [(one, two) for i, one in enumerate(names) for two in names[i + 1:]
            if sum(rows[one][key] != rows[two][key] for key in rows[one]) == 1]
    ### END SOLUTION


exercises.exercise("one_change", one_change)

# %% [markdown]
# ## Which rates did the rows see?
#
# With warm restarts the rate falls along a cosine and jumps up again every so
# many epochs. *Before you look: how often did rows 9, 10 and 11 restart?*

# %% alt="Learning rates: rows 5, 8 and 12 jump up again and again, 9 and 11 never"
rates = {row: [schedules.lr_at(published[row], step, 4)
               for step in range(4 * published[row].epochs)]
         for row in ("row05", "row08", "row09", "row11", "row12")}
plots.schedules(rates, 4);

# %% [markdown]
# Never: rows 9, 10 and 11 were over before the first restart. They are plain
# cosines, run almost to their end, and ahead of all others with that rate. Rows
# 5 to 8 were thrown back to the full rate every 20 to 60 epochs, and had to find
# again what it shook loose; row 8 stopped half-way down. *Row 12 restarts every
# 20 epochs and is the best of all. Does it contradict this? What about its
# rate? And does the table say where its weights began?*

# %% [markdown]
# ### Exercise: count the restarts
#
# Write how often the rate jumps up again in a run of `epochs` epochs with a
# restart every `restart_epochs`. A restart counts if an epoch is trained with
# it. *A run of 60 epochs, restarts every 20: two or three?*

# %%
from facekit.course import exercises


def restarts_seen(epochs, restart_epochs):
    ### BEGIN SOLUTION
    return (epochs - 1) // restart_epochs
    ### END SOLUTION


exercises.exercise("restarts_seen", restarts_seen)

# %% [markdown]
# ## How far can a difference be luck?
#
# The dev set is a sample, too. With `n` pictures and an accuracy of `p`, the
# standard error is the root of p (1 - p) / n: two of three times the true value
# lies no further off. *With 35,005 dev pictures: are
# rows 10, 11 and 12 different? With the dev set of your course, how far apart
# must two runs be?*

# %%
# NBVAL_CHECK_OUTPUT
theirs = statistics.standard_error(0.872, 35_005)
print(f"published: {theirs:.2%} at 87 % of 35,005 images")

# %%
ours = statistics.standard_error(0.5, len(course.dev))
print(f"here, with {len(course.dev)} images: {ours:.1%} at 50 %")

# %% [markdown]
# ### Exercise: the luck of the pictures
#
# Write the standard error of an `accuracy` (0 to 1) that was found on so many
# `images`. *How many pictures for half the error? And what is the error of a
# network that is always right?*

# %%
import math

from facekit.course import exercises


def standard_error(accuracy, images):
    ### BEGIN SOLUTION
    return math.sqrt(accuracy * (1 - accuracy) / images)
    ### END SOLUTION


exercises.exercise("standard_error", standard_error)

# %% [markdown]
# Two standard errors of a *difference* are nearly three of one row, or less on
# the same pictures: more of that below, with runs of your own. And that is only
# the luck of the pictures; another seed gives another network.
#
# ## Why 0.1 is too much for this network
#
# The published runs have a momentum of 0.99: a step goes on for a hundred
# more. Below, the first forty steps of row 6's network, a quarter as wide, with
# the rates of row 7 and of row 6. *A network that guesses has a loss of ln C.
# What does one do that has a higher loss?*

# %%
scale = ablations.SCALES[profiles.profile().value.name]
colours = ablations.colours_of(course)
spec = models.TABLE["row06"]
spec = replace(spec, stem=replace(spec.stem, channels=8, pool=False),
               stages=tuple(replace(stage, channels=stage.channels // 4)
                            for stage in spec.stages))
thin = replace(ablations.recipe("row06", scale, [], colours), image_size=48,
               batch_size=16, network=specs.spec_as_dict(spec))
run = Run(thin, course, Path("nowhere"), machine.device().value)
run.prepare()

# %% alt="Loss of forty steps: with rate 0.1 it climbs above that of guessing"
first = {"guessing": np.full(40, np.log(len(course.classes)))}
for rate in (0.01, 0.1):
    steps = range_test(run.objective, run.optimizer, plain_batches(run),
                       rate, rate, 40)
    first[f"rate {rate}"] = steps["smoothed"]
first = pd.DataFrame(first).rename_axis("step")
plots.lines(first, "The first steps", "smoothed loss");

# %% [markdown]
# It is sure of wrong answers. With steps so long each of them undoes what the
# last one found, and in row 6 every restart brought that rate back. *So what is
# your guess now: the rate, or the restarts? Or the momentum?*
#
# ## The table at this machine's scale
#
# The same schedules and optimisers, with fewer epochs and smaller pictures, and
# on most machines a small residual network in place of the published ones. As
# published, pictures are mirrored at random, changed in no other way, and
# normalised by their own colours.
# Beside the rows, three that the table lacks: row 6 with the rate of row 7, row
# 6 with less momentum, and row 11 once more with another seed. **Write down
# your guess of the order before you run it.**

# %%
more = {"row06": ["lr=0.01", "momentum=0.9"], "row11": ["seed=1"]}
plan = {row: ablations.recipe(row, scale, [], colours) for row in scale.rows}
plan |= {f"{row}-{change}": ablations.recipe(row, scale, [change], colours)
         for row, changes in more.items() for change in changes}
folder = machine.runs().value / "ablations"
for name, recipe in plan.items():
    fit(recipe, course, folder / name, progress=False)
    print(name, f"{recipe.epochs} epochs", sep=", ")

# %%
mine = ablations.runs(folder)
mine.drop(columns="schedule").round(3)

# %% [markdown]
# *Is row 6 the worst here, too? May one compare the heights of the two colours
# below?*

# %% alt="Dev accuracy of each row, published and here"
both = pd.DataFrame({"published": table["dev_accuracy"],
                     "here": mine["dev_accuracy"]}).loc[list(plan)]
plots.bars(both, "Accuracy on dev images", "accuracy");

# %% [markdown]
# Not the heights: there are fewer people here, chance is higher, and a run has
# hundreds of steps instead of a hundred thousand. At most the order, and even
# that only where it is clearer than luck: *compare the two seeds of row 11 with
# the difference of any other two bars.* A short run of a shallow network may
# stand a rate that ruins a long run of a deep one. **An ablation holds at the
# scale at which it was made.**
#
# ## The same recipe twice
#
# Two runs of row 11 differ in their seed alone. *How far apart will their
# accuracies be? Will they be wrong on the same pictures?*

# %%
twins = ["row11", "row11-seed=1"]
one, two = (classify(load_run(folder / name), course.dev.paths)
            == np.array(course.dev.labels) for name in twins)
print(f"right: {one.mean():.1%} and {two.mean():.1%}; "
      f"one right, one wrong: {(one != two).mean():.1%} of the images")
luck = statistics.difference_error(one, two)
alone = np.hypot(*(statistics.standard_error(run.mean(), len(run))
                   for run in (one, two)))
print(f"standard error of the difference: {luck:.1%}; on different images "
      f"it would be {alone:.1%}")

# %% [markdown]
# They disagree on more pictures than their accuracies tell. Where both are
# right or both wrong, nothing is learnt about which is better: only the
# pictures on which they disagree count. That is why two runs on the *same*
# pictures can be told apart sooner than on different ones, as the two errors
# show. *Is the difference of the two seeds more than twice its error?*

# %% [markdown]
# ### Exercise: the luck of a difference
#
# `first` and `second` are arrays of 1.0 (right) and 0.0 (wrong), of two runs on
# the same `n` pictures. Return the standard error of the difference of their
# accuracies: that difference is a mean over `n` pictures of what? Its error is
# the standard deviation of that (over all `n`, as numpy has it) by the root of
# `n`.

# %%
from facekit.course import exercises


def difference_error(first, second):
    ### BEGIN SOLUTION
    return (first - second).std() / len(first) ** 0.5
    ### END SOLUTION


exercises.exercise("difference_error", difference_error)

# %% [markdown]
# > **In practice.** A table is read for its best row, and the best of twelve
# > rows is partly the luckiest: choose on dev, and let the test set judge the
# > one that you chose, once. Train what you want to claim with three seeds. Two
# > settings changed at once, a run that was stopped early beside one that was
# > not, a row that was given a better start: each turns a comparison into a
# > story. And write the runs down when they end, also those that failed; a table
# > without failures was swept.
#
# ## Look at the runs
#
# Below, the rows by epoch; then choose runs and a curve yourself. Every run of
# your workspace is in the list, and each run's folder has the recipe that
# repeats it.

# %% alt="Dev accuracy over the epochs of this notebook's runs"
plots.lines(ablations.curves(folder, scale.rows), "Runs", "dev accuracy");

# %% alt="Dev accuracy over the epochs of the first runs in the list"
widgets.runs(machine.runs().value)

# %% [markdown]
# ## What you should have found

# %%
settings = {row: published[row].as_dict() | {"name": ""} for row in published}
assert ablations.one_change(settings) == [
    ("row01", "row02"), ("row01", "row05"), ("row02", "row05"),
    ("row07", "row08")]
never = table.index[table["epochs"] < table["restart_epochs"]]
assert list(never) == ["row09", "row10", "row11"]
best = accuracies["dev_accuracy"]
assert best["row12"] - best["row10"] < 2 * np.sqrt(2) * theirs, "luck"
assert best["row02"] - best["row03"] > 6 * theirs, "no luck"
worst = first.max()
assert worst["rate 0.1"] > worst["rate 0.01"], "the longer the step"
assert worst["rate 0.1"] > worst["guessing"], "worse than no answer"
assert set(plan) == set(mine.index)
assert mine["dev_accuracy"].max() > 3 / len(course.classes), "learnt"
assert (one != two).mean() >= abs(one.mean() - two.mean())
assert 0 < luck < alone, "what is hard for one is hard for the other"
again = fit(recipe, course, folder / name, progress=False)
assert len(again.rows) == recipe.epochs, "a finished run is only read"
host.took()

# %% [markdown]
# **On Colab, Kaggle, a laptop.** `ablations.SCALES` says how many rows each
# profile trains, and how much of them: three at `smoke`, five on a laptop, all
# twelve on a GPU; the homework's has the published networks. Runs that are done
# are only read when you come back, if `FACEKIT_HOME` is kept: a folder of your
# Drive on Colab, `/kaggle/working` on Kaggle.
#
# Next: [08, hand it in](08_kaggle_submission.ipynb).
