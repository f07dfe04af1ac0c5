# %% [markdown]
# # 02 Augmentation previews
#
# **You will be able to**
#
# - see what training sees, and undo the scaling before you draw it
# - choose changes that leave a face the same person, and say how strong
# - measure what augmentation is worth, and name overfitting in two curves
# - avoid the trap of one draw for a whole batch
#
# **Before this:** [01](01_data_exploration.ipynb); tensors in PyTorch.
#
# **Minutes:** 3 without a GPU, 2 with one.
#
# **Points:** 3, one for each exercise that says `right`.
#
# *There are few pictures of a person. How could they become a thousand
# without another photograph, and without becoming another person?*
#
# <details><summary>Answer</summary>
#
# Change each picture a little every time it is shown: crop, turn, mirror it, change
# its light. That is augmentation. It gives more pictures, less overfitting, and a
# network that ignores such changes (invariance).
#
# </details>

# %% alt="A training image: the face that is changed in all that follows"
import numpy as np
import pandas as pd
import torch
from torchvision.transforms import v2

from facekit.common.machine import device
from facekit.course import lesson, plots, widgets
from facekit.course.costs import cost_table
from facekit.data import (NOTHING, Loader, Preprocess, mix, only, preview,
                          read_rgb, sample_params, transforms_cpu,
                          transforms_gpu)
from facekit.course.short_runs import short_run
from facekit.data.cache import read_square
from facekit.sources import open_course
from facekit.training import load_recipe

course = open_course()
recipe = load_recipe(lesson.course_recipe(course))
size, usual = recipe.image_size, recipe.augment
preprocess = Preprocess(size)
person = course.train.labels.index(3)  # a first picture, of the fourth person
face = read_rgb(course.train.paths[person])
face.resize((192, 192))

# %% [markdown]
# ## From a picture to a tensor
#
# A network wants numbers around zero. `Preprocess` resizes the picture, scales
# it from 0 ... 255 to 0 ... 1, subtracts a mean and divides by a spread. The
# same object goes into the checkpoint later, so that nobody has to remember
# the numbers when the test images come.
#
# *What does a plot of that tensor look like?*
#
# <details><summary>Answer</summary>
#
# Too dark, with black areas: values below zero cannot be drawn.
#
# </details>

# %% alt="The tensor drawn as it is, mostly black, above the true colours"
x = preprocess.transform()(face)
print(tuple(x.shape), x.dtype, f"from {x.min():.2f} to {x.max():.2f}")
plots.rows_of_images({"drawn as it is": x[None],
                        "scaling undone": preprocess.invert(x[None])},
                       "One image, twice", side=1.4);

# %% [markdown]
# Values below zero are clipped to black. A preview must undo the scaling first;
# many a student has debugged a picture that was only drawn wrong.

# %% [markdown]
# ### Exercise: true colours
#
# *Scaling subtracts the mean, then divides by the spread. What must be undone
# first?*
#
# <details><summary>Answer</summary>
#
# The last step: multiply by the spread, then add the mean.
#
# </details>
#
# `batch` is a normalised tensor (B, 3, H, W); `mean` and `std` are
# tensors (3,), one number a channel. Return the batch as it was before, in
# 0 ... 1.

# %%
from facekit.course import exercises


def true_colours(batch, mean, std):
    ### BEGIN SOLUTION
    return batch * std[:, None, None] + mean[:, None, None]
    ### END SOLUTION


exercises.exercise("true_colours", true_colours)

# %% [markdown]
# > **In practice.** The homework's starter reads the verification pictures in
# > a cell of their own, with `ToTensor` and nothing else. Whoever adds
# > `Normalize` to the training transforms, far above, now trains on one kind
# > of numbers and verifies on another. No error is raised, the classification
# > score is fine, and the verification score drops for no visible reason. The
# > opposite happens, too: normalised in the data set *and* again in the
# > training loop. One object for all four uses, kept in the checkpoint, makes
# > both impossible.

# %% [markdown]
# ## One change at a time
#
# Each row has one change switched on, more strongly than usual, eight times.
# *Which rows could still be the same person? Which one would hurt a program
# that has to tell skin and hair colours apart?*
#
# <details><summary>Answer</summary>
#
# Crop, flip, rotation, shift and shear keep the person. Grey, strong jitter and some
# steps of RandAugment take colours away.
#
# </details>

# %% alt="Ten rows of eight faces, each row changed in one way, such as crop"
strong = {"crop_scale": 0.3, "flip": 0.5, "rotation": 20, "shift": 0.2,
          "shear": 20, "jitter": 0.6, "grey": 0.5, "blur": 1, "erasing": 1}
changes = {name: only(**{name: value}) for name, value in strong.items()}
changes["RandAugment"] = only(random_steps=2, random_strength=0.5)
rows = {name: preview(face, preprocess, change, 8)
        for name, change in changes.items()}
plots.rows_of_images(rows, "One change at a time");

# %% [markdown]
# **Why is there no vertical flip?** Augmentation tells the network which
# differences do not matter. Faces in the test set are never upside down, so
# the network would spend its strength on pictures that do not come. Below we
# measure what a network makes of such faces.
#
# **RandAugment** (2020) draws some changes from a list, so that two numbers are
# left to choose: how many, and how strong. (torchvision's list, used here, has
# 14; the kit's own engine carries out 11 of them.) *Which of its pictures would
# you not let a network learn from? And in training a picture meets several
# changes, each drawn by itself. Where a recipe says nothing else, it is flipped with
# a chance of 50 %, erased in part with 25 %, made grey with 10 %. What share escapes
# all three?*
#
# <details><summary>Answer</summary>
#
# Those on which you cannot recognise the face yourself. The chances of escaping
# multiply: see the next cell.
#
# </details>

# %%
# NBVAL_CHECK_OUTPUT
print(f"{(1 - 0.5) * (1 - 0.25) * (1 - 0.1):.1%} escape all three")

# %% [markdown]
# ## What is it worth?
#
# Three short runs of a tiny network on 40 people of the course (on all, where
# there are fewer): without augmentation, with the flip alone, and with the usual
# changes. First weights, order and learning rates are the same. After each epoch
# the network is judged on the *unchanged* training pictures and on the dev
# pictures. (An epoch shows every training picture once.)
#
# *In which run will train be highest? In which dev?*
#
# <details><summary>Answer</summary>
#
# Without augmentation the network sees the same pictures again and again, and soon
# knows them by heart: train is near 1 and dev far below. That distance is called
# **overfitting**. Augmentation slows the learning of training pictures, and usually
# lifts dev, if the run is long enough. The table tells what happened here.
#
# </details>

# %%
tried = {"none": NOTHING, "flip": only(flip=0.5), "usual": usual}
short = {name: short_run(course, change) for name, change in tried.items()}

# %% alt="Accuracy on training images over the epochs of three runs"
plots.lines(pd.DataFrame({name: run["train"] for name, run in short.items()}),
            "Training images, unchanged", "accuracy");

# %% alt="Accuracy on dev images over the epochs of three runs"
plots.lines(pd.DataFrame({name: run["dev"] for name, run in short.items()}),
            "Dev images", "accuracy");

# %%
ends = pd.DataFrame({name: run.iloc[-1] for name, run in short.items()}).T
ends["overfits by"] = ends["train"] - ends["dev"]
ends.map("{:.1%}".format)

# %%
gained = ends["dev"]["usual"] - ends["dev"]["none"]
less = ends["overfits by"]["none"] - ends["overfits by"]["usual"]
print(f"most overfit: {ends['overfits by'].idxmax()}; the usual changes move "
      f"dev by {100 * gained:+.0f} points, overfitting by {-100 * less:+.0f}")

# %% [markdown]
# The dev pictures of 40 people are few: differences of a few points are luck (07
# says how much). The column `upside down` is the dev accuracy on faces turned on
# their heads. *What does it say about the vertical flip?*
#
# <details><summary>Answer</summary>
#
# A network that has only seen upright faces knows fewer of them. It would have to
# learn them as well, from the same number of steps, and no test face would thank
# it.
#
# </details>
#
# ## Draw first, change later
#
# The rows above are the teaching path: torchvision's transforms draw a number
# and change the picture at once, one picture after the other. Training does it
# in two steps. `sample_params` makes the random numbers of a whole batch, from
# nothing but **the seed, the epoch and the picture's number**. Crop, flip,
# rotation, shift and shear become one 2 x 3 matrix, so that each pixel is looked
# up once; brightness, contrast, saturation and grey become one 3 x 3 matrix. That
# is quicker than one change after the other, and sharper, because pixels are
# mixed with their neighbours only once. Then somebody else carries the numbers
# out, on pictures that a `Loader` has decoded once and for all.
#
# Here the numbers are carried out twice: by OpenCV, which is quick on a
# processor, and by tensor operations, which run on any GPU. *How far may the
# two be apart, in grey levels of 255?*
#
# <details><summary>Answer</summary>
#
# By less than one on average. OpenCV rounds to whole levels and to a 32nd of a pixel
# on the way; a network will not notice.
#
# </details>

# %% alt="Eight faces stored, changed by OpenCV and by tensors; difference grey"
loader = Loader(course.train.paths, course.train.labels, preprocess,
                device().value, augment=usual)
people = range(0, len(course.train), len(course.train) // 8)[:8]
keys = [(0, index) for index in people]  # (epoch, image)
drawn = sample_params(usual, preprocess, loader.side, seed=0, keys=keys)
stored = np.stack([read_square(course.train.paths[index], loader.side)
                   for index in people])  # uint8 (8, side, side, 3)
by_cv = transforms_cpu.apply(stored, drawn, preprocess)
by_tensors = transforms_gpu.apply(torch.from_numpy(stored), drawn, preprocess)
apart = preprocess.invert(by_cv) - preprocess.invert(by_tensors)
levels = 255 * apart.abs()
plots.rows_of_images({
    "stored": torch.from_numpy(stored).permute(0, 3, 1, 2),
    "OpenCV": preprocess.invert(by_cv),
    "tensors": preprocess.invert(by_tensors),
    "20 x difference": 0.5 + 20 * apart}, "One draw, carried out twice")
print(f"apart by {levels.mean():.2f} grey levels on average, "
      f"{levels.max():.1f} at most")


# %% [markdown]
# ## The same draw, again
#
# *Tomorrow the run goes on after a power cut: with other batches, in another
# process. Will a picture of epoch 5 be changed as it would have been?*
#
# <details><summary>Answer</summary>
#
# Yes: its numbers depend on seed, epoch and picture alone, so nothing has to be
# drawn before. That is why an interrupted run can be continued as if nothing had
# happened (notebook 04).
#
# </details>
#
# Here is what training sees of the fourth picture above in the first eight epochs.

# %% alt="Eight epochs of a face, the same in single batches; another seed"
def seen(epochs, seed=0):
    keys, rows = [(epoch, 3) for epoch in epochs], stored[[3] * len(epochs)]
    params = sample_params(usual, preprocess, loader.side, seed, keys)
    return preprocess.invert(transforms_cpu.apply(rows, params, preprocess))


again = torch.cat([seen([epoch]) for epoch in range(8)])  # batches of one
plots.rows_of_images({"epochs 0 to 7": seen(range(8)),
                        "batches of one": again,
                        "another seed": seen(range(8), seed=1)},
                       "One image in eight epochs");

# %% [markdown]
# ## A trap: one draw for the whole batch
#
# torchvision's `v2` transforms take a batch, too, and it is tempting to change
# all its pictures at once. Below, the same face eight times. *What is wrong in
# the second row, and would you see it in a loss curve?*
#
# <details><summary>Answer</summary>
#
# Its eight pictures are the same. The loss still falls, so you would not see it.
#
# </details>

# %% alt="Eight different crops of a face above eight equal ones"
crop = v2.Compose(only(crop_scale=0.3, flip=0.5).image_transforms(size))
copies = v2.functional.pil_to_tensor(face)[None].repeat(8, 1, 1, 1)
with torch.random.fork_rng():
    torch.manual_seed(0)
    single = torch.stack([crop(copy) for copy in copies])
    whole = crop(copies)
plots.rows_of_images({"one by one": single, "the whole batch": whole},
                       "The same face, eight times");

# %% [markdown]
# So many different pictures are in the first row, and in the second:

# %%
# NBVAL_CHECK_OUTPUT
print(len(single.unique(dim=0)), "against", len(whole.unique(dim=0)))

# %% [markdown]
# A transform draws once for each *call*, so every picture of a batch gets the
# same crop. Nothing fails; the network merely sees less variety, and learns
# less. That is why facekit draws for each picture by itself.

# %% [markdown]
# ### Exercise: flip some
#
# *Which axis of a batch runs from left to right?*
#
# <details><summary>Answer</summary>
#
# The last one, W: a batch is (B, C, H, W).
#
# </details>
#
# `images` is a tensor (B, C, H, W), and `chosen` a tensor of B truth values, one a
# picture. Return a new batch in which the chosen pictures are seen as in a mirror
# and the others as they were. `torch.where` saves you the loop.

# %%
import torch

from facekit.course import exercises


def flip_some(images, chosen):
    ### BEGIN SOLUTION
    which = chosen[:, None, None, None]
    return torch.where(which, images.flip(3), images)
    ### END SOLUTION


exercises.exercise("flip_some", flip_some)

# %% [markdown]
# ## Sliders
#
# Because a picture's draw stays, a stronger setting is the *same* change, only
# more of it. *At which strength do you yourself stop recognising the face?*
#
# <details><summary>Answer</summary>
#
# That strength is too much for training. Half of it is a good start.
#
# </details>
#
# First the slider for rotation at its least, in the middle and at its most, a
# column a draw; then all sliders. (Where these do not work, such as on
# GitHub, the rows must do.)

# %% alt="Eight faces unturned, turned a little, and turned far the same way"
plots.rows_of_images(widgets.strengths(face, preprocess, "rotation"),
                       "The same draws, and more of them");

# %% alt="Eight previews of a face, changed as ten sliders say"
widgets.augmentation(face, preprocess)

# %% [markdown]
# ## Two pictures in one
#
# **MixUp** (2018) lets the next picture of the batch shine through; **CutMix**
# (2019) shows a window of it. *What is the right answer for such a picture?*
#
# <details><summary>Answer</summary>
#
# Both people, each in its share: the loss is mixed like the picture.
#
# </details>

# %% alt="Eight faces alone, shining through each other, with windows"
alone = torch.from_numpy(stored).permute(0, 3, 1, 2) / 255
labels = torch.tensor(course.train.labels)[list(people)]
stored_size = Preprocess(loader.side)
mixed = {name: mix(alone, labels, sample_params(
    only(**{name: 1.0}), stored_size, loader.side, seed=0, keys=keys))
    for name in ("mixup", "cutmix")}
plots.rows_of_images({"alone": alone} | {
    name: batch.images for name, batch in mixed.items()},
    "Each image with the next")
pd.DataFrame({name: batch.lam for name, batch in mixed.items()}).T.round(2)

# %% [markdown]
# The table has the share of the picture that stays. The network can no longer be
# sure of anything, which helps where it learns its pictures by heart. *Would you
# use it for an embedding that has to tell two people apart?*
#
# <details><summary>Answer</summary>
#
# Rather not: half of one and half of another is nobody, and verification asks for
# one person. It is off unless a recipe asks for it, or you do:
# `--set augment.mixup=0.2`. With `laptop` leave its triplets out, too
# (`--set auxiliary_loss=`): they need one name for each picture.
#
# </details>

# %% [markdown]
# ### Exercise: MixUp
#
# *A picture is three parts Ada and one part Bob. What should the network
# say?*
#
# <details><summary>Answer</summary>
#
# 75 % Ada and 25 % Bob.
#
# </details>
#
# `images` is (B, C, H, W); `answers` is (B, K), a row for each
# picture with a 1 at its class; `share` is (B,), how much of each picture
# stays. Mix each picture with the *next* one of the batch, the last with the
# first, and its answer likewise. Return pictures and answers, in the shapes
# they came in.

# %%
from facekit.course import exercises


def mix_up(images, answers, share):
    ### BEGIN SOLUTION
    own = share[:, None, None, None]
    mixed = own * images + (1 - own) * images.roll(-1, 0)
    own = share[:, None]
    return mixed, own * answers + (1 - own) * answers.roll(-1, 0)
    ### END SOLUTION


exercises.exercise("mix_up", mix_up)

# %% [markdown]
# ## What does it cost?
#
# Every picture is changed anew in every epoch, so each millisecond counts many
# thousandfold. *Which change do you expect to be the dearest? Which way of
# carrying it out the quickest?*
#
# <details><summary>Answer</summary>
#
# The ways of one picture at a time are dear, since each change is a pass over all
# pixels. For the usual changes OpenCV on a whole batch is the quickest of the three
# on a processor.
#
# </details>

# %% alt="Groups of three bars, a group a change; the tallest are those of v2"
timed = {"none": NOTHING, **changes, "usual": usual}
costs = cost_table(face, preprocess, loader.side, timed)
plots.bars(costs, "Cost of an image", "ms of a core");

# %% [markdown]
# *How many pictures a second does the quickest way make on one core? And how
# many does the network take (notebook 04)?*
#
# <details><summary>Answer</summary>
#
# 1,000 divided by the milliseconds of a bar. How many the network takes, the bar of
# a run in 04 shows.
#
# </details>
#
# If the network takes more, the processor keeps it waiting; a GPU then changes the
# pictures itself, by the tensor way.
#
# **On Colab, Kaggle, a laptop.** Beside a quick GPU stand few processor cores,
# on Colab two, so pictures that fit into the GPU's memory stay in it and are
# changed there, nothing copied. A laptop without a GPU keeps them in a file
# and changes them by OpenCV while the network works. `facekit doctor` says
# what was chosen and why. The draws are the same everywhere; the times above
# are not.
#
# ## What you should have found

# %%
original = preview(face, preprocess, NOTHING, 1)[0]
assert x.shape == (3, size, size) and x.dtype == torch.float32
assert x.min() < 0 < x.max(), "normalised values lie on both sides of zero"
assert torch.allclose(preprocess.invert(x[None])[0], original, atol=0.02)
for name, row in rows.items():
    assert (row - original).abs().mean() > 0.005, f"{name} does something"
assert len(short) == 3 and ends.notna().all(axis=None)
assert ends["overfits by"]["none"] > 0, "it knows its pictures better"
assert ends["upside down"].max() < ends["dev"].min(), "never seen, not known"
assert levels.mean() < 1, "one draw, two back ends, the same image"
assert torch.equal(seen(range(8)), again), "in whatever batch"
assert not torch.equal(again, seen(range(8), seed=1))
if device().value.type == "cpu":  # training sees just what was made by hand
    assert torch.equal(next(loader.batches([keys])).images, by_cv)
assert len(whole.unique(dim=0)) == 1 < len(single.unique(dim=0)), "the trap"
assert all(0 <= b.lam.min() <= b.lam.max() <= 1 for b in mixed.values())
assert costs["OpenCV"]["usual"] < costs["v2, one by one"]["usual"]
host.took()

# %% [markdown]
# ## Summary
#
# - A tensor is scaled to values around zero; undo that before you draw it.
# - Augmentation changes each picture anew in every epoch, and must leave the
#   person the same.
# - It is worth what a run with and one without it say: compare train and dev.
# - Draw for each picture, never once for the whole batch.
# - Numbers drawn from seed, epoch and picture make runs that can be continued.
#
# ## Terms
#
# - **augmentation**: random changes of training pictures
# - **normalisation**: subtracting a mean and dividing by a spread
# - **overfitting**: knowing the training pictures better than new ones
# - **invariance**: answering the same whatever the change
# - **RandAugment**: a few changes drawn from a list, of one strength
# - **MixUp, CutMix**: two pictures in one, with both labels
#
# ## To read
#
# - Cubuk, Zoph, Shlens, Le (2020), [RandAugment: Practical Automated Data
#   Augmentation](https://arxiv.org/abs/1909.13719)
# - Zhang, Cisse, Dauphin, Lopez-Paz (2018), [mixup: Beyond Empirical Risk
#   Minimization](https://arxiv.org/abs/1710.09412)
# - Yun et al. (2019), [CutMix: Regularization Strategy to Train Strong
#   Classifiers](https://arxiv.org/abs/1905.04899)
#
# Next: [03, what is inside the network](03_model_building.ipynb).
