# %% [markdown]
# # 05 Losses
#
# **You will** see what cross-entropy leaves undone, what a margin, a center and
# a pair of faces each do to an embedding, and when a fancy loss is not worth it.
#
# *Verification compares two embeddings by their angle. Does anything in the
# cross-entropy ask that two faces of one person have a small angle?*

# %%
import pandas as pd
import torch
from torch import nn

from facekit.course import lesson, plots, widgets
from facekit.course.plane import Plane, faces, looseness
from facekit.models import heads, losses
from facekit.sources import open_course

course = open_course()
run = lesson.trained_run(course)  # only read if finished
PEOPLE = 8

# %% [markdown]
# ## An embedding that one can see
#
# These are the eight people of this notebook. *Which two would you mix up?*

# %% alt="One face of each of eight people, numbered 0 to 7"
first = [course.train.paths[course.train.labels.index(p)] for p in range(8)]
plots.montage(first, list("01234567"), columns=8, title="Eight people");

# %% [markdown]
# The network of notebook 04 describes a face by a hundred numbers or more. Here
# a small network squeezes them to **two**, so that a page can show them. Dots
# are training pictures, crosses are dev pictures, which the squeezing has
# never seen.

# %%
seen, new = faces(run, [course.train, course.dev], PEOPLE)
print(len(seen.labels), "faces, each", seen.features.shape[1], "numbers")


def learn(head="linear", auxiliary_loss=None, weight=1.0, seed=2):
    torch.manual_seed(seed)
    loss = None
    if auxiliary_loss:
        loss = losses.build(auxiliary_loss, 2, PEOPLE)
    net = Plane(seen.features.shape[1], head, PEOPLE)
    objective = losses.Objective(net, loss, weight)
    optimizer = torch.optim.Adam(objective.parameters(), 0.01)
    for _ in range(500):
        value, _ = objective(*seen)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return net.eval()


# %% [markdown]
# `Objective` holds the network, its head and the auxiliary loss, and the
# optimiser is made from *its* parameters.
#
# > **In practice.** This is where margin losses fail most often: the class
# > vectors live in the loss, the optimiser was made from the network, and they
# > never move. The starter code of one term made *new* class vectors of length
# > 1 at every step; its optimiser went on holding the old ones. Compare the
# > class vectors before and after an epoch.
#
# ## Cross-entropy alone
#
# *Eight people, two numbers, a straight line between any two people. Where will
# the people lie? And how long will their embeddings become?*

# %% alt="Eight people in a plane, each in a direction of their own"
plain = learn()
plots.embeddings({"cross-entropy": plain}, seen, new);

# %% [markdown]
# Everybody has a direction of their own, and the numbers are large: a longer
# embedding makes a right answer surer, so it pays to grow outwards, and how
# far says little about who it is. That is why verification compares angles.
#
# How tight is a person? We measure squared distances within people against
# those between people, once for the pictures that were trained on and once for
# dev. *Smaller is better; what is it if people are not told apart at all?*

# %%
def both(net):
    return looseness(net, seen), looseness(net, new)


print("cross-entropy: train {:.4f}, dev {:.4f}".format(*both(plain)))

# %% [markdown]
# Near 1 nobody would be told apart; here it is a few hundredths, and dev is some
# times looser than train, because the squeezing knows its training pictures.

# %% [markdown]
# ### Exercise: a table of cosines
#
# *Two embeddings point the same way, and one is ten times as long. What is
# their cosine?*
#
# Return the cosine of each of the embeddings `ones` (N, D) with each of
# `others` (M, D): a table (N, M), a row for each of the first. No embedding has
# length 0, and no loop is needed.

# %%
from torch.nn import functional as F

from facekit.course import exercises


def cosines(ones, others):
    ### BEGIN SOLUTION
    return F.normalize(ones) @ F.normalize(others).T
    ### END SOLUTION


exercises.exercise("cosines", cosines)

# %% [markdown]
# ## A center for each person (Wen et al., 2016)
#
# The center loss adds the squared distance of each embedding to the mean of its
# person. *What would happen with the center loss alone, without the
# cross-entropy?*

# %% alt="With the center loss each person's training images are one point"
center = learn(auxiliary_loss="center", weight=0.1)
plots.embeddings({"cross-entropy": plain, "+ center": center}, seen, new)
print("+ center: train {:.4f}, dev {:.4f}".format(*both(center)))

# %% [markdown]
# Alone it would draw everybody to one point, where the distance is nothing.
# And look at the crosses: the training pictures of a person are now almost one
# point, but new pictures of the same person are hardly nearer than before. A
# loss can only order what the network can see.

# %% [markdown]
# ### Exercise: the center loss
#
# *Should a batch of twice as many faces cost twice as much? Should an embedding
# of twice as many numbers?*
#
# For embeddings (B, D), `centers` (C, D), one of each person, and `labels` (B,),
# whose face each is: return half the squared distance from a face to its own
# person's center, in the mean over the batch.

# %%
from facekit.course import exercises


def center_loss(embedding, centers, labels):
    ### BEGIN SOLUTION
    return (embedding - centers[labels]).square().sum(1).mean() / 2
    ### END SOLUTION


exercises.exercise("center_loss", center_loss)

# %% [markdown]
# ## A margin on the angle
#
# CosFace (2018) takes a little off the cosine of the own class, ArcFace (2019)
# adds a little to its angle, L-Softmax (2016) multiplies the angle. All say: be
# right *with something to spare*. *Which of them asks least of a face that is
# already close to its class vector?* Here is the own class's logit at five
# angles, in degrees:

# %%
# NBVAL_CHECK_OUTPUT
asked = pd.DataFrame(widgets.own_logits(0.2, 16), widgets.DEGREES)
asked.loc[[0, 30, 60, 90, 180]].round(2)

# %% [markdown]
# At 0 degrees L-Softmax asks nothing, ArcFace hardly anything, and CosFace the
# same 3.2 as everywhere.
#
# Four people have the class vectors 0 to 3. *Where may a face of person 0 lie,
# so that its logit is the largest in spite of the margin? And who has least
# room?* White is nobody's; each tint is a tenth surer:

# %% alt="Four maps of a plane; a margin leaves white wedges between people"
maps = widgets.margin_regions(share=0.2, scale=16)
plots.regions(maps, widgets.class_vectors(), widgets.REACH);

# %% [markdown]
# About a quarter of the plane is nobody's, and with L-Softmax more. Persons 0
# and 1 are neighbours, and the margin takes nearly as much from them as from
# those who have room. Training may help, by moving the class vectors apart.
#
# The slider begins with twice the margin. Move it to its end: *who has no place
# left at all?* And the scale to 1: *how sure can a face be that lies right on
# its class vector?*

# %% alt="Sliders for margin and scale; logits over the angle, and four maps"
widgets.margin()

# %% [markdown]
# Persons 0 and 1: ninety degrees of margin, between vectors sixty degrees
# apart, are more than there is. And with a scale of 1 even a face on its class
# vector is about half sure, so the cross-entropy would pull at it for ever.
#
# Without labels the head has no margin, so that dev accuracy is honest:

# %%
arc = learn({"name": "arcface", "scale": 12, "margin": 0.3})
cos = learn({"name": "cosface", "scale": 12, "margin": 0.2})
points = arc.embed(seen.features)
harder = arc.head(points, seen.labels) - arc.head(points)
own = nn.functional.one_hot(seen.labels, PEOPLE).bool()
print(f"labels change the own logit by {harder[own].mean():.2f}, "
      f"the others by {harder[~own].abs().max():.2f}")

# %% [markdown]
# > **In practice.** A head that only works with labels cannot be asked about a
# > dev picture; and a training accuracy counted on logits *with* the margin
# > looks like a network that has stopped learning. Both have been handed out.

# %% alt="Two planes: ArcFace and CosFace, each person tight in its direction"
plots.embeddings({"ArcFace": arc, "CosFace": cos}, seen, new);

# %% [markdown]
# ### Exercise: ArcFace
#
# *A face is 40 degrees from its own class vector and 60 from the next one. With
# a margin of 0.5 radians, which of the two logits is larger?*
#
# For embeddings (B, D), class `vectors` (C, D) and `labels` (B,): the cosine of
# each embedding with each class vector, but with the angle to a face's *own*
# class made larger by `margin`, in radians; all of it times `scale`. Return
# these logits, (B, C). Here every own angle is far from 0 and, with its margin,
# below 180 degrees, so that the arc cosine may be used.

# %%
import torch
from torch.nn import functional as F

from facekit.course import exercises


def arcface_logits(embedding, vectors, labels, scale, margin):
    ### BEGIN SOLUTION
    cosine = F.normalize(embedding) @ F.normalize(vectors).T  # (B, C)
    own = F.one_hot(labels, len(vectors)).bool()
    return scale * torch.where(own, (cosine.acos() + margin).cos(), cosine)
    ### END SOLUTION


exercises.exercise("arcface_logits", arcface_logits)

# %% [markdown]
# > **In practice.** The kit never computes the angle. The arc cosine has an
# > infinite slope at 1, exactly where a good face ends up, and one NaN ends the
# > night; it adds angles by the formula for cos(a + b). And a scale of 64, as
# > in the papers, is for a hundred thousand people: with few it is a cliff. Even
# > at 12 some starts end with several people in one place; try `learn({"name":
# > "arcface", "scale": 12, "margin": 0.3}, seed=1)`.
#
# ## Gaussians instead of rays (L-GM, 2018)
#
# Here the logits are distances to a mean, so people become round clouds, and
# the natural comparison is a distance.

# %% alt="Two planes: rays with L-Softmax, small round clouds with L-GM"
soft = learn({"name": "lsoftmax", "margin": 2})
gauss = learn({"name": "lgm", "margin": 0.3, "likelihood": 0.1})
plots.embeddings({"L-Softmax": soft, "L-GM": gauss}, seen, new)
print("compare with:", soft.head.similarity, "and", gauss.head.similarity)

# %% [markdown]
# ## Pairs and triplets
#
# The oldest idea needs no classes: pull two faces of one person together, push
# two people apart (contrastive, 2006), or ask only that the own be nearer than
# the other (triplet, 2015). *How many triplets do 64 faces make, 4 each of 16
# people? And how many pairs of one person, if the 64 are drawn at random?*

# %%
# NBVAL_CHECK_OUTPUT
print("16 x 4 faces:", 64 * 3 * (64 - 4), "triplets,", 64 * 3 // 2, "pairs")
print(f"64 of 7,001 x 20: {64 * 63 / 2 * 19 / (7001 * 20 - 1):.2f} pairs")

# %% [markdown]
# Such losses see only what is in the batch. A batch of 64 random faces out of
# 7,001 people mostly has no pair at all, so the recipe's `images_per_class = 4`
# makes batches of 16 people with 4 faces each. Of thousands of triplets nearly
# all are right already and cost nothing; the hardest one of each face does.

# %% alt="Two planes: pairs make clouds far apart, triplets narrow rays"
pair = learn(auxiliary_loss="contrastive")
three = learn(auxiliary_loss={"name": "triplet", "margin": 0.3})
plots.embeddings({"+ contrastive": pair, "+ triplet": three}, seen, new);

# %% [markdown]
# ### Exercise: the hardest triplet of each face
#
# *Which of the own faces is the hardest: the nearest, or the furthest? And which
# of the strangers?*
#
# `distance` (B, B) holds the distance of each face to each face, `labels` (B,)
# whose they are. For each face take the own person's *other* face that is the
# hardest, and the hardest face of anybody else; it costs the first distance
# less the second plus `margin`, but never less than 0. Return the mean over the
# faces whose person has another face in the batch.

# %%
import torch

from facekit.course import exercises


def batch_hard(distance, labels, margin):
    ### BEGIN SOLUTION
    same = labels[:, None] == labels
    other = same & ~torch.eye(len(labels), dtype=torch.bool)
    pull = distance.masked_fill(~other, 0).amax(1)
    push = distance.masked_fill(same, torch.inf).amin(1)
    return (pull - push + margin).relu()[other.any(1)].mean()
    ### END SOLUTION


exercises.exercise("batch_hard", batch_hard)

# %% [markdown]
# ## Which one wins?

# %% alt="Bars of eight losses: dev is always looser than train"
nets = {"cross-entropy": plain, "+ center": center, "L-Softmax": soft,
        "ArcFace": arc, "CosFace": cos, "L-GM": gauss,
        "+ contrastive": pair, "+ triplet": three}
spread = pd.DataFrame(map(both, nets.values()), list(nets), ["train", "dev"])
plots.bars(spread, "Eight people in two numbers", "within people / between")
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
unit = nn.functional.normalize(seen.features)
head = heads.build("arcface", unit.shape[1], PEOPLE)
head.start_from_means(heads.class_means(unit, seen.labels, PEOPLE))
known = (head(unit).argmax(1) == seen.labels).float().mean().item()
print(f"right at step 0: {known:.0%} of the training faces")

# %% [markdown]
# Most of them, and nothing was trained: the margin only has to tighten.
#
# **On Colab, Kaggle, a laptop.** The network comes from the folder of notebook
# 04's run. Where there is none (a new Colab session without a Drive, a Kaggle
# notebook without the last version's output) the second cell trains it first:
# some five minutes on a laptop, up to an hour on Colab's GPU, whose profile has
# three times the people. What is learned here are two numbers for eight people:
# seconds each, on any processor.

# %% [markdown]
# ## What you should have found

# %%
lengths = plain.embed(seen.features).norm(dim=1)
assert lengths.max() > 1.5 * lengths.min(), "lengths say little"
assert 2 * spread["train"]["+ center"] < spread["train"]["cross-entropy"]
assert 2 * spread["train"]["L-GM"] < spread["train"]["cross-entropy"]
assert (spread["train"] < spread["dev"]).all(), "dev is always looser"
assert (spread < 0.5).all(axis=None), "all tell the people apart"
assert harder[own].max() < 0 and harder[~own].abs().max() < 1e-4
assert [(who < 0).any() for who, _ in maps.values()] == [False] + 3 * [True]
assert gauss.head.similarity == "euclidean"
assert known > 5 / PEOPLE, "class means know most faces at once"
assert all(torch.isfinite(p).all() for net in nets.values()
           for p in net.parameters())
host.took()

# %% [markdown]
# **To train with one of these:** `facekit train laptop --set head=cosface`, or
# `--set auxiliary_loss=triplet --set images_per_class=4`.
# Next: [06, who is it?](06_verification.ipynb).
