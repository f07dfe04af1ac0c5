# %% [markdown]
# # 02 Augmentation previews
#
# **You will** see every change that training makes to a picture, choose how
# strong it should be, and find out what it costs and how it is done quickly.
#
# *There are twenty pictures of a person. How could they become a thousand
# without another photograph, and without becoming another person?*

# %%
import time

import numpy as np
import pandas as pd
import torch
from torchvision.transforms import v2

from facekit import augment_cpu, augment_gpu, pipeline, plots, recipes, widgets
from facekit.augment import NOTHING, Augment, Preprocess, preview
from facekit.changes import draw
from facekit.feed import Feed
from facekit.images import read_rgb
from facekit.mixing import mix
from facekit.runtime import device
from facekit.sources import open_course
from facekit.store import fit_picture

# %config InlineBackend.figure_formats = ["jpeg"]  # photographs: small files

course = open_course()
recipe = recipes.load(pipeline.course_recipe(course))
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

# %%
x = preprocess.transform()(face)
print(tuple(x.shape), x.dtype, f"from {x.min():.2f} to {x.max():.2f}")
plots.rows_of_pictures({"drawn as it is": x[None],
                        "scaling undone": preprocess.invert(x[None])});

# %% [markdown]
# Half of its values lie below zero, and a plot clips them to black. A preview
# must undo the scaling first; many a student has debugged a picture that was
# only drawn wrong.
#
# ## One change at a time
#
# Each row has one change switched on, more strongly than usual, eight times.
# *Which rows could still be the same person? Which one would hurt a program
# that has to tell skin and hair colours apart?*

# %%
strong = {
    "crop": {"crop_scale": 0.3}, "flip": {"flip": 0.5},
    "rotation": {"rotation": 20.0}, "shift": {"shift": 0.2},
    "shear": {"shear": 20.0}, "jitter": {"jitter": 0.6},
    "grey": {"grey": 0.5}, "blur": {"blur": 1.0},
    "erasing": {"erasing": 1.0},
    "RandAugment": {"random_steps": 2, "random_strength": 0.5},
}
changes = {name: Augment(**vars(NOTHING) | setting)
           for name, setting in strong.items()}
rows = {name: preview(face, preprocess, change, 8)
        for name, change in changes.items()}
plots.rows_of_pictures(rows, "One change at a time");

# %% [markdown]
# **Why is there no vertical flip?** Augmentation tells the network which
# differences do not matter. Faces in the test set are never upside down, so
# the network would spend its strength on pictures that do not come.
#
# **RandAugment** (2020) draws some changes from a list of eleven, so that two
# numbers are left to choose: how many, and how strong. *Which of its pictures
# would you not let a network learn from?*
#
# ## Draw first, change later
#
# The rows above are the teaching path: torchvision's transforms draw a number
# and change the picture at once, one picture after the other. Training does it
# in two steps. `draw` makes the random numbers of a whole batch, from nothing
# but **the seed, the epoch and the picture's number**; somebody else carries
# them out on pictures that a `Feed` has decoded once and for all.

# %%
where = device().value
feed = Feed(course.train.paths, course.train.labels, preprocess, where,
            augment=usual)
print("the pictures are kept in:", *feed.tier, sep=" | ")
people = range(0, len(feed), len(feed) // 8)[:8]
keys = [(0, index) for index in people]  # (epoch, picture)
drawn = draw(usual, preprocess, feed.side, seed=0, keys=keys)
print({name: tuple(part.shape) for name, part in drawn._asdict().items()})
print("where an output pixel (x, y, 1) comes from:")
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

# %%
stored = np.stack([fit_picture(course.train.paths[index], feed.side)
                   for index in people])  # uint8 (8, side, side, 3)
by_cv = augment_cpu.apply(stored, drawn, preprocess)
by_tensors = augment_gpu.apply(torch.from_numpy(stored), drawn, preprocess)
apart = preprocess.invert(by_cv) - preprocess.invert(by_tensors)
levels = 255 * apart.abs()
plots.rows_of_pictures({
    "stored": torch.from_numpy(stored).permute(0, 3, 1, 2),
    "OpenCV": preprocess.invert(by_cv),
    "tensors": preprocess.invert(by_tensors),
    "20 x difference": 0.5 + 20 * apart,
})
print(f"apart by {levels.mean():.2f} grey levels on average, "
      f"{levels.max():.1f} at most")


# %% [markdown]
# OpenCV rounds to whole grey levels and to a 32nd of a pixel on the way. The
# network will not notice.
#
# ## The same draw, again
#
# *Tomorrow the run goes on after a power cut: with other batches, in another
# process. Will a picture of epoch 5 be changed as it would have been?*

# %%
def seen(keys, seed=0):
    """What training sees of pictures 0 ... 7 above, as (epoch, picture)."""
    change = draw(usual, preprocess, feed.side, seed, keys)
    rows = stored[[index for _, index in keys]]
    return preprocess.invert(augment_cpu.apply(rows, change, preprocess))


epochs = [(epoch, 3) for epoch in range(8)]
again = torch.cat([seen([key]) for key in epochs])  # batches of one
plots.rows_of_pictures({"epochs 0 to 7": seen(epochs),
                        "batches of one": again,
                        "another seed": seen(epochs, seed=1)});

# %% [markdown]
# It will: nothing has to be drawn before it. That is why an interrupted run can
# be continued as if nothing had happened (notebook 04).
#
# ## A trap: one draw for the whole batch
#
# torchvision's `v2` transforms take a batch, too, and it is tempting to change
# all its pictures at once. Below, the same face eight times. *What is wrong in
# the second row, and would you see it in a loss curve?*

# %%
both = Augment(**vars(NOTHING) | {"crop_scale": 0.3, "flip": 0.5})
crop = v2.Compose(both.on_picture(size))
copies = v2.functional.pil_to_tensor(face)[None].repeat(8, 1, 1, 1)
with torch.random.fork_rng():
    torch.manual_seed(0)
    single = torch.stack([crop(copy) for copy in copies])
    whole = crop(copies)
plots.rows_of_pictures({"one by one": single, "the whole batch": whole});

# %% [markdown]
# A transform draws once for each *call*, so every picture of a batch gets the
# same crop. Nothing fails; the network merely sees less variety, and learns
# less. That is why facekit draws for each picture by itself.
#
# ## Sliders
#
# Because a picture's draw stays, a stronger setting is the *same* change, only
# more of it. *At which strength do you yourself stop recognising the face?*
# (Where sliders do not work, such as on GitHub, the rows above show the same.)

# %%
panel = widgets.augmentation(face, preprocess)
panel

# %% [markdown]
# ## Two pictures in one
#
# **MixUp** (2018) lets the next picture of the batch shine through; **CutMix**
# (2019) shows a window of it. *What is the right answer for such a picture?*

# %%
alone = torch.from_numpy(stored).permute(0, 3, 1, 2) / 255
labels = torch.tensor(course.train.labels)[list(people)]
mixed = {}
for name in ("mixup", "cutmix"):
    change = draw(Augment(**{name: 1.0}), Preprocess(feed.side), feed.side,
                  0, keys)
    mixed[name] = mix(alone, labels, change)
plots.rows_of_pictures({"alone": alone} | {
    name: pictures for name, (pictures, *_) in mixed.items()})
pd.DataFrame({name: share for name, (*_, share) in mixed.items()}).T.round(2)

# %% [markdown]
# Both answers are right, each in its share (the table), and the loss is mixed
# like the picture. The network can no longer be sure of anything, which helps
# where it learns its pictures by heart. *Would you use it for an embedding
# that has to tell two people apart?* It is off unless a recipe asks for
# it, or you do: `--set augment.mixup=0.2`.
#
# ## What does it cost?
#
# Every picture is changed anew in every epoch, so each millisecond counts many
# thousandfold. *Which change do you expect to be the dearest? Which way of
# carrying it out the quickest?*

# %%
batch, many = np.tile(stored, (4, 1, 1, 1)), [(0, i) for i in range(32)]


def milliseconds(way, augment):
    took = []
    for _ in range(3):  # the first time is slow
        began = time.process_time()
        way(augment)
        took.append(time.process_time() - began)
    return 1000 * min(took) / len(batch)


def drawing(back_end, pictures):
    return lambda augment: back_end.apply(
        pictures, draw(augment, preprocess, feed.side, 0, many), preprocess)


ways = {"v2, one by one": lambda augment: preview(
            face, preprocess, augment, len(batch)),
        "OpenCV": drawing(augment_cpu, batch),
        "tensors": drawing(augment_gpu, torch.from_numpy(batch))}

# %%
costs = pd.DataFrame({
    name: {change: milliseconds(way, augment) for change, augment
           in {"none": NOTHING, **changes, "usual": usual}.items()}
    for name, way in ways.items()})
plots.bars(costs, "Cost of a picture", "ms of a core");

# %% [markdown]
# *How many pictures a second does the quickest way make on one core? And how
# many does the network take (notebook 04)?* If it takes more, the processor
# keeps it waiting; a GPU then changes the pictures itself, by the tensor way.
#
# ## What you should have found

# %%
original = preview(face, preprocess, NOTHING, 1)[0]
assert x.shape == (3, size, size) and x.dtype == torch.float32
assert x.min() < 0 < x.max(), "normalised values lie on both sides of zero"
assert torch.allclose(preprocess.invert(x[None])[0], original, atol=0.02)
for name, row in rows.items():
    assert (row - original).abs().mean() > 0.005, f"{name} does something"
assert levels.mean() < 1, "one draw, two back ends, the same picture"
assert torch.equal(seen(epochs), again), "in whatever batch"
assert not torch.equal(seen(epochs), seen(epochs, seed=1))
if where.type == "cpu":  # training sees just what was made by hand
    assert torch.equal(next(feed.batches([keys])).images, by_cv)
assert all(torch.equal(picture, whole[0]) for picture in whole), "the trap"
assert not torch.equal(single[0], single[1])
assert all(share.min() >= 0 and share.max() <= 1
           for *_, share in mixed.values())
assert costs["OpenCV"]["usual"] < costs["v2, one by one"]["usual"]
assert panel.children[0].value == NOTHING.crop_scale
host.took()

# %% [markdown]
# **On other machines.** Where the pictures fit into a GPU's memory, they stay
# there and nothing is copied; `facekit doctor` says what was chosen.
# Next: [03, what is inside the network](03_model_building.ipynb).
