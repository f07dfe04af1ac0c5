# %% [markdown]
# # 02 Augmentation previews
#
# **You will** see every change that training makes to a picture, choose how
# strong it should be, and find out what it costs and how it is done quickly.
#
# *There are few pictures of a person. How could they become a thousand
# without another photograph, and without becoming another person?*

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
from facekit.data.cache import read_square
from facekit.sources import open_course
from facekit.training import load_recipe

# %config InlineBackend.figure_formats = ["jpeg"]  # photographs: small files

course = open_course()
recipe = load_recipe(lesson.course_recipe(course))
size, usual = recipe.image_size, recipe.augment
preprocess = Preprocess(size)
face = read_rgb(course.train.paths[0])
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

# %% alt="The tensor drawn as it is, mostly black, above the true colours"
x = preprocess.transform()(face)
print(tuple(x.shape), x.dtype, f"from {x.min():.2f} to {x.max():.2f}")
plots.rows_of_images({"drawn as it is": x[None],
                        "scaling undone": preprocess.invert(x[None])},
                       "One image, twice", side=1.4);

# %% [markdown]
# Half of its values lie below zero, and a plot clips them to black. A preview
# must undo the scaling first; many a student has debugged a picture that was
# only drawn wrong.

# %% [markdown]
# ### Exercise: true colours
#
# *Scaling subtracts the mean, then divides by the spread. What must be undone
# first?* `batch` is a normalised tensor (B, 3, H, W); `mean` and `std` are
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
# the network would spend its strength on pictures that do not come.
#
# **RandAugment** (2020) draws some changes from a list of eleven, so that two
# numbers are left to choose: how many, and how strong. *Which of its pictures
# would you not let a network learn from?*
#
# In training a picture meets several of them, each drawn by itself. *Flipped
# with a chance of 50 %, erased in part with 25 %, made grey with 10 %: does a
# third of all pictures escape all three, more, or fewer?* The chances of
# escaping multiply, 0.5 x 0.75 x 0.9: 34 %. But crop and rotation draw a
# strength for every picture, and hardly ever nothing.
#
# ## Draw first, change later
#
# The rows above are the teaching path: torchvision's transforms draw a number
# and change the picture at once, one picture after the other. Training does it
# in two steps. `sample_params` makes the random numbers of a whole batch, from
# nothing but **the seed, the epoch and the picture's number**; somebody else
# carries them out on pictures that a `Loader` has decoded once and for all.

# %%
loader = Loader(course.train.paths, course.train.labels, preprocess,
                device().value, augment=usual)
print("the images are kept in:", *loader.storage, sep=" | ")

# %%
# NBVAL_CHECK_OUTPUT
people = range(0, len(course.train), len(course.train) // 8)[:8]
keys = [(0, index) for index in people]  # (epoch, image)
drawn = sample_params(usual, preprocess, loader.side, seed=0, keys=keys)
print({name: tuple(part.shape) for name, part in drawn._asdict().items()})

# %% [markdown]
# So many numbers for each of eight pictures. Here is the first one's matrix:
# its two rows give the *x* and the *y* of the stored pixel which an output
# pixel (*x*, *y*, 1) is taken from. *Is this picture flipped? Is it turned?*

# %%
print(drawn.matrix[0].numpy().round(3))

# %% [markdown]
# Crop, flip, rotation, shift and shear are one 2 x 3 matrix together, so each
# pixel is looked up once. Brightness, contrast, saturation and grey are one
# 3 x 3 matrix. *Why is that quicker than one change after the other? Why are
# the pictures sharper, too?*
#
# Here the numbers are carried out twice: by OpenCV, which is quick on a
# processor, and by tensor operations, which run on any GPU. *How far may the
# two be apart, in grey levels of 255?*

# %% alt="Eight faces stored, changed by OpenCV and by tensors; difference grey"
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
# Apart by less than one grey level on average: OpenCV rounds to whole levels
# and to a 32nd of a pixel on the way. The network will not notice.
#
# ## The same draw, again
#
# *Tomorrow the run goes on after a power cut: with other batches, in another
# process. Will a picture of epoch 5 be changed as it would have been?* Here is
# what training sees of the fourth picture above in the first eight epochs.

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
# It will: nothing has to be drawn before it. That is why an interrupted run can
# be continued as if nothing had happened (notebook 04).
#
# ## A trap: one draw for the whole batch
#
# torchvision's `v2` transforms take a batch, too, and it is tempting to change
# all its pictures at once. Below, the same face eight times. *What is wrong in
# the second row, and would you see it in a loss curve?*

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
# *Which axis of a batch runs from left to right?* `images` is a tensor
# (B, C, H, W), and `chosen` a tensor of B truth values, one a picture. Return
# a new batch in which the chosen pictures are seen as in a mirror and the
# others as they were. `torch.where` saves you the loop.

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
# Both answers are right, each in its share (the table), and the loss is mixed
# like the picture. The network can no longer be sure of anything, which helps
# where it learns its pictures by heart. *Would you use it for an embedding
# that has to tell two people apart?* It is off unless a recipe asks for
# it, or you do: `--set augment.mixup=0.2`.

# %% [markdown]
# ### Exercise: MixUp
#
# *A picture is three parts Ada and one part Bob. What should the network
# say?* `images` is (B, C, H, W); `answers` is (B, K), a row for each
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

# %% alt="Groups of three bars, a group a change; the tallest are those of v2"
timed = {"none": NOTHING, **changes, "usual": usual}
costs = cost_table(face, preprocess, loader.side, timed)
plots.bars(costs, "Cost of an image", "ms of a core");

# %% [markdown]
# *How many pictures a second does the quickest way make on one core? And how
# many does the network take (notebook 04)?* If it takes more, the processor
# keeps it waiting; a GPU then changes the pictures itself, by the tensor way.
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
# Next: [03, what is inside the network](03_model_building.ipynb).
