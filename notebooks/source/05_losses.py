# %% [markdown]
# # 05 Losses
#
# **You will** see what cross-entropy leaves undone, what a margin, a center and
# a pair of faces each do to an embedding, and when a fancy loss is not worth it.
#
# *Verification compares two embeddings by their angle. Does anything in the
# cross-entropy ask that two faces of one person have a small angle?*

# %%
import numpy as np
import pandas as pd
import torch
from torch import nn

from facekit import heads, losses, pipeline, plots, recipes, train, widgets
from facekit.predict import embed, load_run
from facekit.sources import open_course

course = open_course()
recipe = recipes.load(pipeline.course_recipe(course))
train.fit(recipe, course, pipeline.course_run())  # only read if finished
run = load_run(pipeline.course_run())
PEOPLE = 8


# %% [markdown]
# ## An embedding that one can see
#
# The network of notebook 04 describes a face by a hundred numbers or more. Here
# a small network squeezes them to **two**, so that a page can show them, for
# eight people. Dots are training pictures, crosses are dev pictures, which the
# squeezing has never seen.

# %%
def faces_of(images):
    few = [i for i, label in enumerate(images.labels) if label < PEOPLE]
    vectors = embed(run, [images.paths[i] for i in few])
    labels = torch.tensor([images.labels[i] for i in few])
    return torch.from_numpy(vectors).float(), labels


features, labels = faces_of(course.train)
dev_features, dev_labels = faces_of(course.dev)
scale = features.std()
features, dev_features = features / scale, dev_features / scale
print(len(features), "faces, each", features.shape[1], "numbers")


# %%
class Plane(nn.Module):
    """From the trained network's embedding to two numbers."""

    def __init__(self, head):
        super().__init__()
        self.embed = nn.Sequential(
            nn.Linear(features.shape[1], 64), nn.ReLU(), nn.Linear(64, 2))
        self.dropout = nn.Identity()
        self.head = heads.build(head, 2, PEOPLE)


def learn(head="linear", extra=None, weight=1.0, steps=500, seed=2):
    torch.manual_seed(seed)
    loss = losses.build(extra, 2, PEOPLE) if extra else None
    objective = losses.Objective(Plane(head), loss, weight)
    optimizer = torch.optim.Adam(objective.parameters(), 0.01)
    for _ in range(steps):
        value, _ = objective(features, labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return objective.network.eval()


# %% [markdown]
# `Objective` holds the network, its head and the extra loss, and the optimiser
# is made from *its* parameters. **In practice** this is where margin losses
# fail most often: the class vectors live in the loss, the optimiser was made
# from the network, and they never move.
#
# ## Cross-entropy alone
#
# *Eight people, two numbers, a straight line between any two people. Where will
# the people lie? And how long will their embeddings become?*

# %%
def look(nets):
    both = torch.cat([features, dev_features])
    names = torch.cat([labels, dev_labels]).numpy()
    new = np.arange(len(both)) >= len(features)
    with torch.no_grad():
        clouds = {name: net.embed(both).numpy() for name, net in nets.items()}
    return plots.planes(clouds, names, new)


plain = learn()
look({"cross-entropy": plain});


# %% [markdown]
# Everybody has a direction of their own, and the numbers are large: a longer
# embedding makes a right answer surer, so it pays to grow outwards, and how
# far says little about who it is. That is why verification compares angles.
#
# How tight is a person? We measure distances within people against those
# between people, once for the pictures that were trained on and once for dev.
# *Smaller is better; what is it if people are not told apart at all?*

# %%
def looseness(net, x, y):
    """Mean squared distance within people over that between any two."""
    with torch.no_grad():
        points = net.embed(x)
    squared = torch.cdist(points, points).square()
    same = y[:, None] == y
    return (squared[same].mean() / squared[~same].mean()).item()


def both(net):
    return (looseness(net, features, labels),
            looseness(net, dev_features, dev_labels))


print("cross-entropy: train {:.4f}, dev {:.4f}".format(*both(plain)))

# %% [markdown]
# ## A center for each person (Wen et al., 2016)
#
# The center loss adds the squared distance of each embedding to the mean of its
# person. *What would happen with the center loss alone, without the
# cross-entropy?*

# %%
center = learn(extra="center", weight=0.1)
look({"cross-entropy": plain, "+ center": center})
print("+ center: train {:.4f}, dev {:.4f}".format(*both(center)))

# %% [markdown]
# Alone it would draw everybody to one point, where the distance is nothing.
# And look at the crosses: the training pictures of a person are now almost one
# point, but new pictures of the same person are hardly nearer than before. A
# loss can only order what the network can see.
#
# ## A margin on the angle
#
# CosFace (2018) takes a little off the cosine of the own class, ArcFace (2019)
# adds a little to its angle, L-Softmax (2016) multiplies the angle. All say: be
# right *with something to spare*. *Which of them asks least of a face that is
# already close to its class vector?*

# %%
widgets.margin()

# %% [markdown]
# A margin is for training only. Asked without labels the head has none, so that
# dev accuracy is honest:

# %%
arc = learn({"name": "arcface", "scale": 12, "margin": 0.3})
cos = learn({"name": "cosface", "scale": 12, "margin": 0.2})
points = arc.embed(features)
harder = arc.head(points, labels) - arc.head(points)
own = nn.functional.one_hot(labels, PEOPLE).bool()
print(f"labels change the own logit by {harder[own].mean():.2f}, "
      f"the others by {harder[~own].abs().max():.2f}")

# %%
look({"ArcFace": arc, "CosFace": cos})
print("ArcFace: train {:.4f}, dev {:.4f}".format(*both(arc)))
print("CosFace: train {:.4f}, dev {:.4f}".format(*both(cos)))

# %% [markdown]
# **In practice:** the angle is never computed. The arc cosine has an infinite
# slope at 1, exactly where a good face ends up, and one NaN ends the night; the
# kit adds angles by the formula for cos(a + b). And a scale of 64, as in the
# papers, is for a hundred thousand people: with few it is a cliff. Even at 12
# some starts end with several people in one place; try `learn({"name":
# "arcface", "scale": 12, "margin": 0.3}, seed=1)`.
#
# ## Gaussians instead of rays (L-GM, 2018)
#
# Here the logits are distances to a mean, so people become round clouds, and
# the natural comparison is a distance.

# %%
soft = learn({"name": "lsoftmax", "margin": 2})
gauss = learn({"name": "lgm", "margin": 0.3, "likelihood": 0.1})
look({"L-Softmax": soft, "L-GM": gauss})
print("compare with:", soft.head.similarity, "and", gauss.head.similarity)

# %% [markdown]
# ## Pairs and triplets
#
# The oldest idea needs no classes: pull two faces of one person together, push
# two people apart (contrastive, 2006), or ask only that the own be nearer than
# the other (triplet, 2015). *How many triplets do 64 faces make? Why does only
# the hardest one for each face count?*

# %%
pair = learn(extra="contrastive")
three = learn(extra={"name": "triplet", "margin": 0.3})
look({"+ contrastive": pair, "+ triplet": three})

# %% [markdown]
# Such losses see only what is in the batch. A batch of 64 random faces out of
# 7,001 people has hardly a pair, so the recipe's `images_per_class = 4` makes
# batches of 16 people with 4 faces each.
#
# ## Which one wins?

# %%
nets = {"cross-entropy": plain, "+ center": center, "L-Softmax": soft,
        "ArcFace": arc, "CosFace": cos, "L-GM": gauss,
        "+ contrastive": pair, "+ triplet": three}
spread = pd.DataFrame({name: both(net) for name, net in nets.items()},
                      index=["train", "dev"]).T
place = plots.bars(spread["dev"].to_dict(), "Dev pictures of eight people",
                   "within people / between").axes[0]
place.tick_params(axis="x", rotation=45)
spread.round(4)

# %% [markdown]
# Eight people in two numbers are a picture, not a measurement. This is one: 79
# people with 7 to 42 *photographs* each, the same small network, batches and
# number of epochs, three seeds (`benchmarks/losses.py`; 256 test photographs,
# 600 pairs of strangers). *Which would you choose for classification, which
# for verification? Seeds of one row differ by up to seven points of accuracy
# and nearly 0.02 of the area: which differences mean anything?*
#
# | from scratch | accuracy | area under the ROC |
# | --- | --- | --- |
# | cross-entropy | 54.6 % | 0.876 |
# | + center | 52.3 % | 0.881 |
# | L-Softmax | 50.3 % | 0.872 |
# | ArcFace | 44.1 % | 0.847 |
# | CosFace | 44.7 % | 0.838 |
# | L-GM | 45.1 % | 0.860 |
# | cross-entropy, 16 x 4 | 51.0 % | 0.882 |
# | + triplet, 16 x 4 | 51.6 % | 0.887 |
# | + contrastive, 16 x 4 | 48.8 % | 0.882 |
#
# Plain cross-entropy is hard to beat when data is scarce: a margin makes hard
# what was not yet easy. With thousands of people and a night on a GPU, margins
# win on most published tables. Measure, do not assume.

# %% [markdown]
# ## From one loss to the next
#
# Metric losses are best as a second step, from a network that knows something.
# A margin head can begin where cross-entropy ended: with the mean embedding of
# each person as its class vector. *How many of the faces does it know at once,
# without any training?*

# %%
head = heads.build("arcface", features.shape[1], PEOPLE)
unit = nn.functional.normalize(features)
head.start_from_means(heads.class_means(unit, labels, PEOPLE))
with torch.no_grad():
    known = (head(features).argmax(1) == labels).float().mean().item()
print(f"right at step 0: {known:.0%} of the training faces")

# %% [markdown]
# ## What you should have found

# %%
lengths = plain.embed(features).norm(dim=1)
assert lengths.max() > 1.5 * lengths.min(), "lengths say little"
assert 2 * spread["train"]["+ center"] < spread["train"]["cross-entropy"]
assert 2 * spread["train"]["L-GM"] < spread["train"]["cross-entropy"]
assert (spread["train"] < spread["dev"]).all(), "dev is always looser"
assert (spread < 0.5).all(axis=None), "all tell the people apart"
assert harder[own].max() < 0 and harder[~own].abs().max() < 1e-4
assert gauss.head.similarity == "euclidean"
assert known > 5 / PEOPLE, "class means know most faces at once"
assert all(torch.isfinite(p).all() for net in nets.values()
           for p in net.parameters())
host.took()

# %% [markdown]
# **To train with one of these:** `facekit train laptop --set head=cosface`, or
# `--set extra_loss=triplet --set images_per_class=4`.
# Next: [06, who is it?](06_verification.ipynb).
