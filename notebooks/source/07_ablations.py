# %% [markdown]
# # 07 Ablations
#
# **You will be able to**
#
# - read a table of runs, and say which of its rows can be compared
# - see from epochs and restarts which learning rates a run has met
# - tell a difference from luck, on different pictures and on the same ones
# - plan runs that answer one question in the hours that you have
#
# **Before this:** [03](03_model_building.ipynb) and [04](04_training.ipynb);
# mean and standard deviation.
#
# **Minutes:** 4 without a GPU, 5 with one, where more rows are trained.
#
# **Points:** 4, one for each exercise that says `right`.
#
# *An ablation changes one thing and looks at what happens. Twelve runs, and
# accuracies from 17 % to 87 %: how would you find out which change did it?*
#
# <details><summary>Answer</summary>
#
# Look for two runs that differ in one setting alone, and ask how far two runs differ
# that differ in none.
#
# </details>

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
# These are twelve runs on the homework's 7,001 people. The published code stops
# a run after 30 epochs without a better dev accuracy (**early stopping**; 30 is
# the *patience*). Below are the networks of the rows, with a remark of ours:
# `squeeze_excite` counts the steps that have it, `dropout` is that of each
# step, and the activation is that between the blocks. Notebook 03 draws them.

# %%
# NBVAL_CHECK_OUTPUT
networks = ablations.networks()
with pd.option_context("display.max_colwidth", None, "display.width", 150):
    display(networks)

# %% [markdown]
# *In which rows does the network know its training pictures by heart? Which of
# those is best on new ones? And what happened in row 6?*
#
# <details><summary>Answer</summary>
#
# Rows 2, 3 and 9 to 12 are right on (nearly) all training pictures; of those row 12 is
# best on dev and row 3 worst, 18 points apart. Row 6 did not learn. Its rate is ten times
# that of the others; whether that was the reason, the table cannot tell.
#
# </details>

# %% alt="Two bars a row: right on training images, right on dev images"
accuracies = table[["train_accuracy", "dev_accuracy"]]
plots.bars(accuracies, "The published table", "accuracy");

# %% [markdown]
# **The training accuracy does not tell you which network to take.**
#
# ## What differs between two rows?
#
# To compare, everything else should be equal. *Row 6 is the worst, and its
# learning rate is ten times that of row 7. So it was the learning rate?*
#
# <details><summary>Answer</summary>
#
# Perhaps. They differ in two settings, and a row with the rate of the one and the
# restarts of the other is missing.
#
# </details>

# %%
# NBVAL_CHECK_OUTPUT
published = {row: ablations.recipe(row, ablations.FULL) for row in table.index}
print(ablations.differences(published["row06"], published["row07"]))

# %% alt="Heat map: in how many settings each row differs from each other row"
differ = pd.DataFrame({one: {two: len(ablations.differences(
    published[one], published[two])) for two in table.index}
    for one in table.index})
plots.heat_map(differ, "Settings that differ between two rows");

# %% [markdown]
# *Which pairs differ in one setting alone? Which thirteenth row would you ask
# for?*
#
# <details><summary>Answer</summary>
#
# Rows 7 and 8. Rows 1, 2 and 5, too, were trained alike, but their one setting is the
# network, which differs in blocks, channels, strides and dropout at once. All else in
# this table is at best a hint. A thirteenth row: row 6 with the rate of row 7.
#
# </details>

# %% [markdown]
# ### Exercise: what can be compared
#
# `rows` is a dict of dicts: the settings of each row by the row's name, all
# rows with the same settings. Return a list of the pairs `(one, two)` that
# differ in exactly one setting, the earlier row first, in the order of the
# rows. *What does a pair show that differs in none?*
#
# <details><summary>Answer</summary>
#
# How far two runs differ by luck alone: the seed is all that is left.
#
# </details>

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
#
# <details><summary>Answer</summary>
#
# Never: they were over before their first restart.
#
# </details>

# %% alt="Learning rates: rows 5, 8 and 12 jump up again and again, 9 and 11 never"
rates = {row: [schedules.lr_at(published[row], step, 4)
               for step in range(4 * published[row].epochs)]
         for row in ("row05", "row08", "row09", "row11", "row12")}
plots.schedules(rates, 4);

# %% [markdown]
# Rows 9, 10 and 11 are plain cosines, run almost to their end, and ahead of all
# others with that rate. Rows 5 to 8 went back to the full rate every 20 to 60
# epochs, and had to find again what it shook loose; row 8 stopped half-way
# down. *Row 12 restarts every 20 epochs and is the best of all. Does it
# contradict this?*
#
# <details><summary>Answer</summary>
#
# It need not. Its rate is a tenth, so a restart shakes less; it is the longest of these
# runs; and the table does not say where its weights began: it may go on from another row.
#
# </details>

# %% [markdown]
# ### Exercise: count the restarts
#
# Write how often the rate jumps up again in a run of `epochs` epochs with a
# restart every `restart_epochs`. A restart counts if an epoch is trained with
# it. *A run of 60 epochs, restarts every 20: two or three?*
#
# <details><summary>Answer</summary>
#
# Two, at 20 and 40: at 60 the run is over.
#
# </details>

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
# standard error is $\sqrt{p (1 - p) / n}$: two of three times the true value
# lies no further off. *With 35,005 dev pictures: are rows 10, 11 and 12
# different? With the dev set of your course, how far apart must two runs be?*
#
# <details><summary>Answer</summary>
#
# The three rows lie within 0.3 points, and two standard errors of a difference are 0.5:
# no. For your course take the error below three times, for a difference has about 1.4 times
# the error of one run, and one wants two of them.
#
# </details>

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
#
# <details><summary>Answer</summary>
#
# Four times as many. And 0 by this formula, which is too sure of itself there: notebook
# 08 has an interval that is not.
#
# </details>

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
# ## Is 0.1 too much for this network?
#
# The published runs have a momentum of 0.99: a step goes on for a hundred
# more. Below, the first forty steps of row 6's network, a quarter as wide, with
# the rates of row 7 and of row 6. *A network that guesses has a loss of ln C.
# What does one do that has a higher loss?*
#
# <details><summary>Answer</summary>
#
# It is sure of wrong answers. A step that is too long undoes what the last one found.
# At the start even the smaller rate may do so for a while.
#
# </details>

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
plots.lines(first, "The first steps", "smoothed loss")
for rate in (0.01, 0.1):
    loss = first[f"rate {rate}"]
    above = (loss > first["guessing"]).sum()
    print(f"rate {rate}: above guessing in {above} of 40 steps, at worst "
          f"{loss.max():.1f}, at last {loss.iloc[-1]:.1f}")

# %% [markdown]
# In row 6 every restart brought the high rate back. *So what is your guess now:
# the rate, or the restarts? Or the momentum?*
#
# <details><summary>Answer</summary>
#
# A guess is all that you can have yet. The runs below change one of them at a time.
#
# </details>
#
# ## The table at this machine's scale
#
# The same schedules and optimisers, with smaller pictures and, on most machines, a
# small residual network in place of the published ones. As published, pictures
# are mirrored at random, changed in no other way, and normalised by their own
# colours. The published rows ran for 95 to 500 epochs; here **each gets the same
# number of epochs**, with restarts at the same share of its run. So rows 5, 7 and
# 11 differ in their restarts alone. Beside the rows, three that the table
# lacks: row 6 with the rate of row 7, row 6 with less momentum, and row 11 once
# more with another seed. **Write down your guess of the order before you run it.**

# %%
EPOCHS = 8
more = {"row06": ["lr=0.01", "momentum=0.9"], "row11": ["seed=1"]}
plan = {}
for row in scale.rows:
    equal = scale._replace(epochs=EPOCHS / table["epochs"][row])
    plan[row] = ablations.recipe(row, equal, [], colours)
    for change in more.get(row, []):
        plan[f"{row}-{change}"] = ablations.recipe(row, equal, [change],
                                                   colours)
folder = machine.runs().value / f"ablations-{EPOCHS}"
for name, recipe in plan.items():
    fit(recipe, course, folder / name, progress=False)
print(f"{len(plan)} runs of {EPOCHS} epochs")

# %%
mine = ablations.runs(folder)
mine.drop(columns=["schedule", "epochs"]).round(3)

# %% [markdown]
# *Is row 6 the worst here, too? May one compare the heights of the two colours
# below?*
#
# <details><summary>Answer</summary>
#
# The first: look. Not the heights: there are fewer people here, chance is higher, and a
# run has hundreds of steps instead of a hundred thousand. At most the order.
#
# </details>

# %% alt="Dev accuracy of each row, published and here"
both = pd.DataFrame({"published": table["dev_accuracy"],
                     "here": mine["dev_accuracy"]}).loc[list(plan)]
plots.bars(both, "Accuracy on dev images", "accuracy");

# %% [markdown]
# Even the order counts only where it is clearer than luck: compare the two seeds
# of row 11 with the difference of any other two bars. A short run of a shallow
# network may stand a rate that ruins a long run of a deep one. **An ablation
# holds at the scale at which it was made.**
#
# ## All rows, trained ahead
#
# Eight epochs are few, and four rows are not twelve. So all rows were trained ahead,
# on the people of the `laptop` course: 50 epochs where 500 were published, restarts
# in proportion, and the small network in place of the published ones, so that rows 1
# and 2 become the same. (`python benchmarks/table.py --narrowed 0 --size 48
# --epochs 50 --out FILE` makes the table, in 40 minutes of one core.) *Rows 9 to 12
# are the best published ones. Will they be the best here?*
#
# <details><summary>Answer</summary>
#
# No. Rows 1 to 5 have 50 epochs here, and rows 9 to 11 have 10 to 20: with far too few
# steps the longer runs are ahead. Row 12 is long, too, but a tenth of the rate needs more
# steps still. Row 6 is last in both tables.
#
# </details>

# %% alt="Dev accuracy of all twelve rows, published and trained ahead"
ahead = ablations.measured()["dev_accuracy"].unstack("seed")
whole = pd.DataFrame({"published": table["dev_accuracy"],
                      "trained ahead": ahead.mean(axis=1)}).loc[table.index]
plots.bars(whole, "All rows on a small network", "accuracy")
order = whole.corr("spearman").iloc[0, 1]
print(f"rank correlation of the two orders: {order:.2f} (1: the same, "
      "0: unrelated, -1: reversed)")

# %% [markdown]
# Beside the twelve rows a **control** was trained that the table lacks: row 11,
# one cosine, once more with the restarts of row 5, and nothing else changed. *So
# what do restarts cost or gain here?*
#
# <details><summary>Answer</summary>
#
# They cost three points with either seed: each jump of the rate costs epochs, and a
# short run has few. That is of one network and one length.
#
# </details>

# %%
gain = ahead.loc["row11"] - ahead.loc["row11-as-row05"]
print("one cosine less the same with restarts:",
      *(f"{value:+.1%}" for value in gain))
apart = (ahead.max(axis=1) - ahead.min(axis=1)).drop("row06").max()
print(f"two seeds of a row are apart by {apart:.1%} at most")

# %% [markdown]
# ## The same recipe twice
#
# Two runs of row 11 differ in their seed alone. *How far apart will their
# accuracies be? Will they be wrong on the same pictures?*
#
# <details><summary>Answer</summary>
#
# The next cell counts. They are never wrong on quite the same pictures, so they disagree
# on at least as many as their accuracies differ by, and mostly on many more.
#
# </details>

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
# Where both are right or both wrong, nothing is learnt about which is better: only
# the pictures on which they disagree count. That is why two runs on the *same*
# pictures can be told apart sooner than on different ones, as the two errors
# show. *Is the difference of the two seeds more than twice its error?*
#
# <details><summary>Answer</summary>
#
# If so: this error is of the pictures alone. That two networks of one recipe differ is
# certain; the question is whether another *recipe* differs by more than another seed.
#
# </details>

# %% [markdown]
# ### Exercise: the luck of a difference
#
# `first` and `second` are arrays of 1.0 (right) and 0.0 (wrong), of two runs on
# the same `n` pictures. Return the standard error of the difference of their
# accuracies. *That difference is a mean over `n` pictures: of what?* Its error is
# the standard deviation of that (over all `n`, as numpy has it) by the root of
# `n`.
#
# <details><summary>Answer</summary>
#
# Of `first - second`: 1 where only the first is right, -1 where only the second is, else
# 0.
#
# </details>

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
# ## Plan your own
#
# *You have some hours. Which three runs answer one question?*
#
# <details><summary>Answer</summary>
#
# A run to begin with; the same with one change; the first again with another seed, which
# says what is luck. All three equally long, and each one cosine to its end.
#
# </details>

# %%
def planned(hours, minutes_of_an_epoch, row="row11", change="lr=0.001"):
    epochs = int(60 * hours / minutes_of_an_epoch / 3)
    runs = [row, f"{row} with {change}", f"{row} with seed=1"]
    return pd.DataFrame({"epochs": epochs, "restarts after": epochs}, runs)


planned(hours=6, minutes_of_an_epoch=2)

# %% [markdown]
# The minutes of an epoch are those of one that you try, with a clock beside it. If
# an answer needs more epochs than fit, ask it of fewer people or smaller pictures,
# and say so beside the answer.
#
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
assert set(mine["epochs"]) == {f"{EPOCHS} of {EPOCHS}"}, "an equal budget"
assert set(plan) == set(mine.index)
assert order < 0.7 and (gain > 0).all(), "another order; restarts cost"
assert mine["dev_accuracy"].max() > 3 / len(course.classes), "learnt"
assert (one != two).mean() >= abs(one.mean() - two.mean())
assert 0 < luck < alone, "what is hard for one is hard for the other"
again = fit(recipe, course, folder / name, progress=False)
assert len(again.rows) == recipe.epochs, "a finished run is only read"
host.took()

# %% [markdown]
# **On Colab, Kaggle, a laptop.** `ablations.SCALES` says how many rows each
# profile trains and at which size: three at `smoke`, four on a laptop, all
# twelve on a GPU; the homework's has the published networks. `EPOCHS` is yours to
# raise: each number has its own folder. Runs that are done are only read when
# you come back, if `FACEKIT_HOME` is kept: a folder of your Drive on Colab,
# `/kaggle/working` on Kaggle.

# %% [markdown]
# ## Summary
#
# - Only two runs that differ in one setting say what that setting does.
# - Look at which rates a run has met, not at the name of its schedule.
# - A standard error says how far an accuracy strays by the luck of the pictures.
# - On the same pictures, only those count on which two runs disagree.
# - A second seed costs a run and tells what every other difference is worth.
#
# ## Terms
#
# - **ablation**: a run with one thing changed or left out, to see what it is worth
# - **warm restart**: the learning rate jumps back up and falls along a new cosine
# - **early stopping, patience**: to end a run after so many epochs without gain
# - **standard error**: how far a figure strays, two times in three
# - **paired comparison**: two runs judged on the same pictures
# - **seed**: the number from which all that is random in a run is drawn
#
# ## To read
#
# - Loshchilov and Hutter (2017), [SGDR: stochastic gradient descent with warm restarts](https://arxiv.org/abs/1608.03983)
# - Bouthillier et al. (2021), [Accounting for variance in machine learning benchmarks](https://arxiv.org/abs/2103.03098)
# - Wightman, Touvron and Jégou (2021), [ResNet strikes back: an improved training procedure in timm](https://arxiv.org/abs/2110.00476)
#
# Next: [08, hand it in](08_kaggle_submission.ipynb).
