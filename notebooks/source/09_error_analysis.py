# %% [markdown]
# # 09 Error analysis
#
# **You will be able to**
#
# - find out which cause makes a network err, by changing one thing at a time
# - tell an effect from luck on pairs of pictures of the same people
# - see which part of a face an answer hangs on, and test the tool that says so
# - try a cure against a fair control, and state its price
#
# **Before this:** [04](04_training.ipynb) and [06](06_verification.ipynb);
# the error of a difference of [07](07_ablations.ipynb).
#
# **Minutes:** 3 without a GPU, 2 with one. Three more on a laptop, or up to an
# hour on Colab's GPU, where the network of 04 is not kept and is trained again.
#
# **Points:** 3, one for each exercise that says `right`.
#
# *Your network names nine faces of ten. A friend says: "It fails on people with
# hats." How would you find out whether that is true?*
#
# <details><summary>Answer</summary>
#
# Compare faces with a hat and faces without. But the two groups should differ in
# nothing else, and must be large enough. Both is hard with photographs.
#
# </details>

# %%
from functools import partial

import numpy as np
import pandas as pd
import torch

from facekit import faces
from facekit.course import error_analysis, lesson, plots, short_runs
from facekit.evaluation import classify
from facekit.faces import sheet
from facekit.training.recipe import load as load_recipe

course, run = error_analysis.rendered_course()  # trained if not yet
world = error_analysis.World(course)

# %% [markdown]
# ## One cause at a time
#
# In photographs causes come together. *Who wears a hat stands outside, say. What
# else is then different in the picture?*
#
# <details><summary>Answer</summary>
#
# The light comes from the sky, the background is another one, it may be winter, and
# the face is turned from the sun. A hat may get the blame for all of that.
#
# </details>
#
# The people of this course are made. The same person in the same shot can be
# rendered once more with one number changed: a turned head, or a hat, and all
# else as it was. We begin with a plain **portrait** and change one cause at a
# time. These are the numbers that each cause moves, of over a hundred (an older
# person differs in many):

# %%
# NBVAL_CHECK_OUTPUT
someone, shot = torch.tensor([1]), torch.tensor([0])
plain = sheet.portrait(someone)
who, how = faces.parameters(someone, shot, changes=plain)
for cause, changes in error_analysis.causes(someone, seed=0).items():
    after = faces.parameters(someone, shot, changes=plain | changes)
    moved = [name for before, now in zip((who, how), after, strict=True)
             for name in now if not now[name].equal(before[name])]
    print(f"{cause}:", *moved[:6], f"+{len(moved[6:])}" if moved[6:] else "")

# %% [markdown]
# And this is one person of the training set through all of them. **Write down
# three causes: the two that you expect to cost most, and one that should cost
# nothing.** *Would a person who knows this face be misled by the same ones?*
#
# <details><summary>Answer</summary>
#
# Keep your list until the plot below. People know a familiar face by its inner parts,
# so a hat or other hair misleads them little, and sunglasses more.
#
# </details>

# %% alt="One person eleven times: a portrait, then turned, lit, dressed otherwise"
one = world.through_causes(world.classes[:1])
plots.montage(torch.cat([*one.values()]), [*one], columns=6);

# %% [markdown]
# ## Two questions to the network
#
# - **Closed set**: new shots of people whom it was trained on. Which of its
#   classes is it? The figure is the accuracy.
# - **Open set**: people who are in no course. Half of them are known by one
#   portrait, the other half are strangers. The figure is DIR where one stranger
#   in ten is named (FPIR 10 %). The strangers are seen through the same cause.
#
# *Why is a new threshold chosen for each cause, and what would happen at a door
# whose threshold stays where it was?*
#
# <details><summary>Answer</summary>
#
# So that each figure stands for equally many false names. At a door with a fixed
# threshold both rates move: turned faces, say, may be less like anybody, so that
# people whom we know are refused; all faces in sunglasses may be more like each
# other, so that strangers get a name.
#
# </details>

# %%
asked = error_analysis.probes(world)
answers = error_analysis.judge(run, asked)
labels, right = asked.labels, answers.closed  # right: by cause, (N,)
print(f"{len(labels)} faces of {len(set(labels))} classes, {len(asked.truth)} "
      f"probes of others, each through {len(right)} causes")

# %% [markdown]
# ## What each cause costs
#
# Each row compares the same people with and without the cause. *What would
# happen to the intervals if portraits and hats were of different people?*
#
# <details><summary>Answer</summary>
#
# They would be wider: some people are hard in any picture, and with two groups the luck
# of who is in which would be added. On pairs it falls out.
#
# </details>

# %% alt="Change of accuracy and of DIR by cause, each with an interval of 95 %"
costs = error_analysis.compare(None, answers, asked)  # with the portraits
plots.intervals({name: table.drop("portrait")
                 for name, table in costs.items()},
                "What each cause costs", "change from the portrait, points");

# %% [markdown]
# Here is the same in words, made of the numbers. *Some intervals hold 0. Does the
# network not mind these causes?*
#
# <details><summary>Answer</summary>
#
# That is not shown. The interval holds all changes that go with what was seen, 0 is one
# of them, and so is its lower end. Where the interval is narrow, the change is small.
#
# </details>

# %%
for name, table in costs.items():
    print(f"{name}: {table['after']['portrait']:.1%} of the portraits; "
          f"{table['change'].idxmin()} costs most "
          f"({table['change'].min():+.1%})\n  surely less than these: "
          f"{', '.join(table.index[table['told'] == 'less']) or 'none'}")

# %% [markdown]
# *Compare with your list. Which of the causes has the network hardly ever met?*
#
# <details><summary>Answer</summary>
#
# Count them among its training pictures, which the next cell does. What was seldom
# there is seldom learned; but a cause that hides what the network needs costs even
# where it was frequent, and one that hides nothing at the network's few pixels costs
# nothing even where it never was.
#
# </details>

# %%
each = len(course.train) // len(course.classes)
_, how = faces.parameters(
    world.classes.repeat_interleave(each),
    torch.arange(each).repeat(len(course.classes)),
    world.seed, world.made["difficulty"])
met = {"turned by 25° or more": how["yaw"].abs() >= np.radians(25),
       "hat": how["hat"] > 0, "sunglasses": how["sunglasses"] > 0,
       "other hair": how["hair_changed"] > 0, "blur": how["blur"] > 1}
pd.Series({name: f"{which.float().mean():.1%}" for name, which in met.items()})

# %% [markdown]
# ### Exercise: the gain of a person
#
# `before` and `after` (N,) hold 1.0 where a probe is right and 0.0 where it is
# wrong; `person` (N,) says whose it is, 0 to P - 1, several probes each. Work
# out the mean gain of each person, and return the mean over people and its
# standard error: the standard deviation of these gains (divided by P inside the
# root, as `std()` does) over the root of P. *Why not over all N probes?*
#
# <details><summary>Answer</summary>
#
# Probes of one person are alike: ten of one person say less than one each of ten
# people. Counted as N independent ones they would promise too narrow an interval.
#
# </details>

# %%
import numpy as np

from facekit.course import exercises


def gain_by_person(before, after, person):
    ### BEGIN SOLUTION
    gains = np.array([(after - before)[person == one].mean()
                      for one in range(person.max() + 1)])
    return gains.mean(), gains.std() / len(gains) ** 0.5
    ### END SOLUTION


exercises.exercise("gain_by_person", gain_by_person)

# %% [markdown]
# ## Skin tone
#
# Tone belongs to a person, as the bones do: with another one it would be somebody
# else. So we compare people, in three groups of the same size, from the lightest to the
# darkest, over all causes together. *Will these intervals be wider or narrower
# than those above?*
#
# <details><summary>Answer</summary>
#
# Wider: these are different people, so their luck does not fall out, and each group
# has a third of them.
#
# </details>

# %%
person = world.classes[labels]
shot = error_analysis.fresh_shots(person)
tone = faces.parameters(person, shot, world.seed)[0]["tone"].numpy()
third = np.digitize(tone, np.quantile(tone, [1 / 3, 2 / 3]))  # 0, 1, 2
pooled = np.mean([*right.values()], axis=0)  # of each face, over all causes
tones = error_analysis.by_group(pooled, third, labels)
tones.index = ["lightest third", "middle", "darkest", "darkest less lightest"]
tones.round(3)

# %% [markdown]
# *If that may be luck: is the network fair? If not: is it unfair to people?*
#
# <details><summary>Answer</summary>
#
# Neither can be said. An interval that holds 0 also holds differences that would
# matter. And all of this is about this renderer and this training set.
#
# </details>
#
# The [model card](../facekit/faces/MODEL_CARD.md) says why. Tones are spread
# evenly here, as in no country, so that no group was rare in training. Skin is
# a simple model. Shape hangs on tone a little, by a crude rule of its authors.
# No camera chose its exposure by light faces. So **error rates by tone on these
# faces speak about this renderer; they are no evidence, for or against, about
# photographs of people.**
#
# > **In practice.** NIST tested 189 algorithms on millions of photographs of
# > real people in 2019. With many of them false matches were 10 to 100 times as
# > frequent in some groups as in others, and the differences in false refusals were
# > much smaller. So look at both errors by group, at the threshold that
# > will be used, on pictures of the people it will be used on. One accuracy over all
# > shows none of it.

# %% [markdown]
# ### Exercise: accuracy by group
#
# `right` (N,) is true where an image is right, and `group` (N,) its group, 0 to
# G - 1. Return an array (G, 3): of each group its accuracy `p`, and the ends of
# its interval, `p` less and plus 1.96 times $\sqrt{p (1 - p) / n}$.

# %%
import numpy as np

from facekit.course import exercises


def accuracy_by_group(right, group):
    ### BEGIN SOLUTION
    rows = []
    for one in range(group.max() + 1):
        own = right[group == one]
        p = own.mean()
        reach = 1.96 * (p * (1 - p) / len(own)) ** 0.5
        rows.append([p, p - reach, p + reach])
    return np.array(rows)
    ### END SOLUTION


exercises.exercise("accuracy_by_group", accuracy_by_group)

# %% [markdown]
# ## What does the network look at?
#
# Cover a part of the face and ask again: where the right answer gets less
# likely, there was something that the network needed. This is **occlusion**
# (Zeiler and Fergus 2014): a grey patch moves over the picture, and each
# pixel gets the mean of what the patches that covered it took away. *Grey is a
# change, too. Why may this network be less surprised by it than others?*
#
# <details><summary>Answer</summary>
#
# Its training erased such boxes from its pictures (notebook 02), and filled them
# with the same grey. A network that never saw one may err for the patch itself.
#
# </details>

# %%
@torch.inference_mode()
def attention(net, images, labels, patch, step):
    """By how much a patch lowers the own probability: (N, H, W)."""
    rows, side = range(len(images)), images.shape[-1]
    whole = net(images).softmax(1)[rows, labels]  # (N,)
    fall = torch.zeros(len(images), side, side, device=images.device)
    times = torch.zeros(side, side, device=images.device)
    for y in range(0, side - patch + 1, step):
        for x in range(0, side - patch + 1, step):
            box = ..., slice(y, y + patch), slice(x, x + patch)
            covered = images.clone()
            covered[box] = 0  # the mean grey
            lost = whole - net(covered).softmax(1)[rows, labels]
            fall[box] += lost[:, None, None]
            times[box] += 1
    return (fall / times.clamp(min=1)).clamp(min=0).cpu()

# %% [markdown]
# Test an instrument where the answer is known. This "network" looks at one
# corner of its picture and at nothing else. *What should the map show?*
#
# <details><summary>Answer</summary>
#
# Something in that corner, and 0 elsewhere. It also shows how coarse the map is: patches
# that only touch the corner count, so it reaches further than what is looked at.
#
# </details>

# %%
# NBVAL_CHECK_OUTPUT
def corner(images):
    seen = images[:, :, :4, :4].mean((1, 2, 3))
    return torch.stack([seen, -seen], 1)  # (N, 2) logits


toy = attention(corner, torch.ones(1, 3, 8, 8), torch.tensor([0]), 4, 2)
print((toy[0] > 1e-6).int())

# %% [markdown]
# To say *where* the falls are, we need to know what each pixel shows. The
# renderer knows it: skin, hair, clothes and background are exact. Eyes (with
# the brows), nose and mouth are ellipses round its landmarks.

# %% alt="Five portraits above; below what each pixel shows, in colours"
named = np.flatnonzero(right["portrait"])[:24]
size = run.preprocess.size
shown = world.regions(person[named], shot[named], size)  # (24, H, W)
inputs = run.preprocess.transform()(asked.closed["portrait"][named])
pictures = run.preprocess.invert(inputs[:8])
plots.answers(pictures[:5], torch.empty(5, 0, 2), shown[:5],
              error_analysis.REGIONS);

# %% [markdown]
# **Guess before you look: which of these eight parts gets most attention for its
# size?** The patch is a sixth of the picture wide. Below, red is where covering
# costs most, on each face for itself. *Do all faces have their red in the same
# place?*
#
# <details><summary>Answer</summary>
#
# Seldom: what tells a person from the others is another part in each. Look at faces
# with something unusual, such as a beard or a high forehead.
#
# </details>

# %% alt="Eight portraits above; below the same with red where covering costs most"
maps = attention(run.net, inputs.to(run.device),
                 torch.tensor(labels[named], device=run.device),
                 size // 6, size // 12)
heat = maps[:8] / maps[:8].amax((1, 2), keepdim=True).clamp(min=1e-6)
red = torch.tensor([0.85, 0.1, 0.0]).view(3, 1, 1).expand_as(pictures)
plots.rows_of_images({"face": pictures, "attention": torch.lerp(
    pictures, red, 0.8 * heat[:, None])});

# %% alt="Two bars for each part of the picture: share of attention, share of area"
parts = pd.DataFrame({
    "part": np.array(error_analysis.REGIONS)[shown.flatten()],
    "attention": maps.flatten(), "area": 1.0}).groupby("part").sum()
parts = parts / parts.sum()
parts["times its area"] = parts["attention"] / parts["area"]
plots.bars(parts[["attention", "area"]], "Where covering costs", "share")
parts.sort_values("times its area", ascending=False).round(2)

# %% [markdown]
# *A part with little attention: does that mean that the network does not use it?*
#
# <details><summary>Answer</summary>
#
# No. If two parts say the same, either may be covered and nothing is lost. And patches
# reach beyond small parts, so that neighbours share what belongs to one of them.
#
# </details>

# %% [markdown]
# ### Exercise: attention for its area
#
# `attention` (H, W) is a map without negative values, and `parts` (H, W) holds
# the part that each pixel shows, 0 to `count` - 1. Return an array (count,): the
# share of all attention that falls on a part, over its share of all pixels.
# *What does a map that is the same everywhere give?*
#
# <details><summary>Answer</summary>
#
# 1 for each part: every part gets what its size explains.
#
# </details>

# %%
import numpy as np

from facekit.course import exercises


def attention_per_area(attention, parts, count):
    ### BEGIN SOLUTION
    return np.array([attention[parts == part].sum() / attention.sum()
                     / (parts == part).mean() for part in range(count)])
    ### END SOLUTION


exercises.exercise("attention_per_area", attention_per_area)

# %% [markdown]
# ## The cure
#
# Much of what the network errs on it has seldom met. So let it meet more: `hard`
# shots (heads turned far, hats, covered faces, odd light) of its people, four of
# each. The network goes on for a while at a small rate, with them and, for
# comparison, without. *Why not compare with the network as it was?*
#
# <details><summary>Answer</summary>
#
# More steps may help, whatever they are made on. The control has the same steps,
# the same batch size and the same rate, and lacks the hard shots alone.
#
# </details>

# %%
recipe = load_recipe(lesson.course_recipe(course))
hard = world.more_shots(4, "hard")
go_on = partial(short_runs.continued, run, course, "linear", recipe.augment)
control, cured = go_on(), go_on(more=hard)
without, cure = (error_analysis.judge(one, asked) for one in (control, cured))
gains = error_analysis.compare(without, cure, asked)

# %% alt="Gain of accuracy and of DIR by hard shots in training, by cause"
plots.intervals(gains, "What hard shots in training gain",
                "with hard shots less without, points");

# %% [markdown]
# Over all causes together, and on the course's own dev images; `told` says
# whether there are surely more right answers with hard shots. *By which of
# these would you decide whether to keep the cured network?*
#
# <details><summary>Answer</summary>
#
# By the pictures that it will meet. If these are like dev, dev decides; if faces will
# be turned and covered, the causes do. Where `told` says "perhaps luck", the cure is not
# shown to help. That is no proof that it cannot: this is a small dose. Try more
# steps and more shots, with the same in the control.
#
# </details>

# %%
over_all = error_analysis.changes(error_analysis.accuracy, *(
    {"all causes": np.mean([*one.closed.values()], axis=0)}
    for one in (without, cure)), labels)
on_dev = error_analysis.changes(error_analysis.accuracy, *(
    {"dev images": classify(net, course.dev.paths) == course.dev.labels}
    for net in (control, cured)), np.array(course.dev.labels))
verdicts = pd.concat([over_all, on_dev])
verdicts.round(3)

# %% [markdown]
# *The cured network has also seen more pictures of each person. How would you
# find out whether it was the hardness that helped?*
#
# <details><summary>Answer</summary>
#
# Give a second control as many ordinary shots:
# `world.more_shots(4, world.made["difficulty"])`. Then the two differ in the
# hardness alone.
#
# </details>
#
# **On Colab, Kaggle, a laptop.** Most of the time goes into rendering: some
# seven thousand shots on the processor, or on a GPU in seconds. The network
# comes from the folder of notebook 04's run. Where the course is of photographs, or
# was handed out without its seed, nobody can render its people again: a
# course of made people is then set up beside it, and a network trained on it, which
# takes some five minutes on a laptop.
#
# ## What you should have found

# %%
assert all((one[cause] != one["portrait"]).any() for cause in [*one][1:])
assert right["portrait"].mean() > 3 / len(course.classes), "beats chance"
assert (costs["closed set: accuracy"]["told"] == "less").any(), "no luck"
assert costs["closed set: accuracy"]["change"]["turned 50°"] < 0
assert len(hard) == 4 * len(course.classes)
assert not toy[0, 6:].any() and toy[0, :4, :4].min() > 0, "the corner alone"
assert parts["times its area"].drop("background").max() > 1, "on the person"
host.took()

# %% [markdown]
# ## Summary
#
# - Change one cause and hold the rest still: only then is it the cause.
# - Compare on the same people: their luck falls out, and intervals get narrow.
# - An interval that holds 0 does not show that there is no effect.
# - Test a tool that explains a network where you know the answer.
# - A cure needs a control with the same steps, and has a price to be measured.
#
# ## Terms
#
# - **confounder**: what comes together with a cause and takes its place
# - **paired comparison**: the same people before and after
# - **occlusion map**: by how much covering a place lowers the right answer
# - **control**: the same treatment without the one thing that is tested
# - **demographic differential**: an error rate that differs between groups
#
# ## To read
#
# - Zeiler and Fergus (2014), [Visualizing and understanding convolutional networks](https://arxiv.org/abs/1311.2901)
# - Selvaraju et al. (2017), [Grad-CAM: visual explanations from deep networks via gradient-based localization](https://arxiv.org/abs/1610.02391)
# - Grother, Ngan and Hanaoka (2019), [Face recognition vendor test, part 3: demographic effects](https://doi.org/10.6028/NIST.IR.8280)
