# %% [markdown]
# # 05 Losses
#
# **You will be able to**
#
# - write eight losses as formulas and find each formula again in the code
# - say what a margin, a center and a pair of faces do to an embedding
# - measure how tight the faces of one person lie, by angle and by distance
# - decide when a second loss is worth its trouble
#
# **Before this:** [03](03_model_building.ipynb) and [04](04_training.ipynb);
# the cosine of an angle, logarithms.
#
# **Minutes:** 3 without a GPU, 10 with one. Three more on a laptop, or up to an
# hour on Colab's GPU, where the network of 04 is not kept and is trained again.
#
# **Points:** 4, one for each exercise that says `right`.
#
# *Verification compares two embeddings by their angle. Does anything in the
# cross-entropy ask that two faces of one person have a small angle?*
#
# <details><summary>Answer</summary>
#
# Not directly. It asks that the own class gets the largest logit, and is content
# when that is so by enough. Two faces may both be right and still lie at the two
# ends of their person's region.
#
# </details>

# %%
import inspect

import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from facekit.course import baselines, lesson, plots, short_runs, widgets
from facekit.course.plane import Plane, faces, looseness
from facekit.evaluation import identification, statistics
from facekit.models import heads, losses
from facekit.sources import more_people, open_course
from facekit.submission import pipeline
from facekit.training import load_recipe

course = open_course()
run = lesson.trained_run(course)  # only read if finished
PEOPLE = 8

# %% [markdown]
# ## An embedding that one can see
#
# These are the eight people of this notebook. *Which two would you mix up?*
#
# <details><summary>Answer</summary>
#
# There is no right answer. Remember your pair, and look for its two numbers in
# the planes below: do these two people lie side by side?
#
# </details>

# %% alt="One face of each of eight people, numbered 0 to 7"
first = [course.train.paths[course.train.labels.index(p)] for p in range(8)]
plots.montage(first, list("01234567"), columns=8, title="Eight people");

# %% [markdown]
# The network of notebook 04 describes a face by a hundred numbers or more. Its
# head is a single linear layer, which can only draw straight borders: between
# any two people a line, or in more dimensions a plane. People whom such borders
# can tell apart are **linearly separable**. *Are these eight in the pixels? In
# the embedding? On training pictures, and on new ones?*
#
# <details><summary>Answer</summary>
#
# With more numbers than pictures, straight borders nearly always part the training
# pictures, even by their pixels. New pictures show whether the borders mean anything.
# To make people separable there is what all layers before the head are for.
#
# </details>

# %%
seen, new = faces(run, [course.train, course.dev], PEOPLE)
few = [[path for path, label in zip(split.paths, split.labels, strict=True)
        if label < PEOPLE] for split in (course.train, course.dev)]
pixels = [baselines.grey_vectors(paths) for paths in few]
for name, (old, fresh) in {"grey pixels": pixels, "embedding": (
        seen.features, new.features)}.items():
    line = LogisticRegression(C=100).fit(old, seen.labels)
    print(f"{name}: {old.shape[1]} numbers, train "
          f"{line.score(old, seen.labels):.0%} of {len(old)}, dev "
          f"{line.score(fresh, new.labels):.0%} of {len(fresh)}")

# %% [markdown]
# Here a small network, an MLP, squeezes the embedding to **two** numbers, so that
# a page can show them. Dots are training pictures, crosses are dev pictures,
# which the squeezing has never seen.

# %%

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
# For all losses below, $x_i$ is the embedding of face $i$ of $B$, $y_i$ is its
# person, $w_j$ is the class vector of person $j$, and $\theta_{ij}$ is the
# angle between $x_i$ and $w_j$. The head gives a logit $z_{ij}$ for each
# person, and the cross-entropy wants the own one to be the largest:
#
# $$L = -\frac{1}{B} \sum_{i=1}^{B}
# \log \frac{e^{z_{i y_i}}}{\sum_j e^{z_{ij}}},
# \qquad z_{ij} = w_j \cdot x_i + b_j
# = |w_j| \, |x_i| \cos\theta_{ij} + b_j$$
#
# In code this is `F.cross_entropy(x @ w.T + b, y)`.
#
# *Eight people, two numbers, a straight line between any two people. Where will
# the people lie? And how long will their embeddings become?*
#
# <details><summary>Answer</summary>
#
# Each person gets a direction. The embeddings grow longer and longer: with the
# same angle, a longer one has larger logits and so a smaller loss.
#
# </details>

# %% alt="Eight people in a plane, each in a direction of their own"
plain = learn()
plots.embeddings({"cross-entropy": plain}, seen, new);

# %% [markdown]
# Most people have a direction of their own, and the numbers are large: a longer
# embedding makes a right answer surer, so it pays to grow outwards, and the
# length says little about who it is. That is why verification compares angles.
#
# How loose is a person? We take the mean angle between two faces of one person,
# and divide it by the mean angle between faces of two people. We do the same
# with squared distances. Both are measured on the pictures of training and
# on dev. *Smaller is better. What is it if people are not told apart at all?*
#
# <details><summary>Answer</summary>
#
# About 1: two faces of one person are then as far apart as any two faces.
#
# </details>

# %%
def loose(net):
    return {f"{name} by {way}": looseness(net, faces, way)
            for way in ("angle", "distance")
            for name, faces in (("train", seen), ("dev", new))}


spread = pd.DataFrame({"cross-entropy": loose(plain)}).T
spread.round(4)

# %% [markdown]
# Dev is mostly looser than train: the squeezing knows its training pictures.

# %% [markdown]
# ### Exercise: a table of cosines
#
# *Two embeddings point the same way, and one is ten times as long. What is
# their cosine?*
#
# <details><summary>Answer</summary>
#
# 1: the cosine looks at directions alone. So both are brought to length 1 first;
# then it is a dot product.
#
# </details>
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
# The center loss adds the squared distance of each embedding to a center $c$ of
# its person. The centers follow the means of their people, batch by batch:
#
# $$L = L_{\text{cross-entropy}} + \lambda \,
# \frac{1}{2B} \sum_{i=1}^{B} |x_i - c_{y_i}|^2$$
#
# *What would happen with the center loss alone, without the cross-entropy?*
#
# <details><summary>Answer</summary>
#
# All people would go to one point: there every distance is 0, and so is the loss.
# The cross-entropy is what keeps them apart.
#
# </details>

# %% alt="With the center loss each person's training images are one point"
center = learn(auxiliary_loss="center", weight=0.1)
plots.embeddings({"cross-entropy": plain, "+ center": center}, seen, new)
spread.loc["+ center"] = loose(center)
gain = spread.loc["cross-entropy"] / spread.loc["+ center"]
for split in ("train", "dev"):
    print(f"{split}: {gain[f'{split} by distance']:.1f} times as tight")

# %% [markdown]
# Dots are training pictures: those of one person are now almost one point.
# Crosses are new pictures, and they gain far less. A loss can only order what
# the network can see in a new picture.

# %% [markdown]
# ### Exercise: the center loss
#
# *Should a batch of twice as many faces cost twice as much? Should an embedding
# of twice as many numbers?*
#
# <details><summary>Answer</summary>
#
# A batch: no, so take the mean over faces; else the learning rate would depend on
# the batch size. The numbers: yes, a squared distance is a sum over them.
#
# </details>
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
# right *with something to spare*. CosFace and ArcFace forget both lengths: each
# cosine is multiplied by a fixed scale $s$ in their place. Only the logit of the
# *own* class changes; here $\theta$ is its angle:
#
# | | own logit | other logits |
# | --- | --- | --- |
# | no margin | $s \cos\theta$ | $s \cos\theta_{ij}$ |
# | CosFace | $s\,(\cos\theta - m)$ | $s \cos\theta_{ij}$ |
# | ArcFace | $s \cos(\theta + m)$ | $s \cos\theta_{ij}$ |
# | L-Softmax | $\lvert w \rvert \lvert x \rvert\, \psi(\theta)$ | $\lvert w_j \rvert \lvert x \rvert \cos\theta_{ij}$ |
#
# For L-Softmax $\psi(\theta) = (-1)^k \cos(m\theta) - 2k$, where $k$ counts the
# whole times that $\theta$ has passed $\pi / m$, so that $\psi$ falls all the way
# from 0 to 180 degrees. This is how the kit writes these three lines:

# %%
for formula in (heads.CosFace.with_margin, heads.ArcFace.with_margin,
                heads.LargeMarginSoftmax.psi):
    print(inspect.getsource(formula))

# %% [markdown]
# ArcFace's two last lines: beyond 180 degrees less the margin, $\cos(\theta + m)$
# would rise again, and a face that is further off would pay less. There the
# authors go on with $\cos\theta - m \sin m$, which lies lower: hence the small
# jump of its curve in the sliders below.
#
# *Which of the three asks least of a face that is already close to its class
# vector?* Here is the own class's logit at five angles, in degrees:
#
# <details><summary>Answer</summary>
#
# L-Softmax: a multiple of no angle is no angle. CosFace takes the same off at every
# angle.
#
# </details>

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
#
# <details><summary>Answer</summary>
#
# Nearer to vector 0 than to any other vector, by the margin: in the blue wedge.
# Persons 0 and 1 have least room: their vectors are neighbours, 60 degrees apart.
#
# </details>

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
#
# <details><summary>Answer</summary>
#
# Persons 0 and 1: for ArcFace the end is ninety degrees of margin, and their
# vectors are sixty degrees apart. With a scale of 1 even a face on its class
# vector is only about half sure, so the cross-entropy would pull at it for ever.
#
# </details>

# %% alt="Sliders for margin and scale; logits over the angle, and four maps"
widgets.margin()

# %% [markdown]
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
# <details><summary>Answer</summary>
#
# The other one. 0.5 radians are 29 degrees, so the own angle counts as 69, and 60 is
# less: the face still costs something, although it is right.
#
# </details>
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
# Large-margin Gaussian mixture: the class vector is the *mean* $\mu_j$ of a
# person's faces, each person is a round cloud around it, and the logit is the
# logarithm of how likely the cloud makes this face. The own squared distance
# counts $1 + \alpha$ times, which is the margin. A second term,
# the likelihood, asks each face to be near its mean; a classifier alone does
# not ask for that:
#
# $$z_{ij} = -\tfrac{1}{2}\,|x_i - \mu_j|^2 \;\; (j \ne y_i), \qquad
# z_{i y_i} = -\tfrac{1 + \alpha}{2}\,|x_i - \mu_{y_i}|^2$$
#
# $$L = L_{\text{cross-entropy}}(z) +
# \lambda\,\frac{1}{2B}\sum_{i=1}^{B} |x_i - \mu_{y_i}|^2$$
#
# *The likelihood term has the form of a loss that you have seen. Which one? And
# how should two such embeddings be compared: by an angle?*
#
# <details><summary>Answer</summary>
#
# The center loss; but here the means are class vectors, and learned as such. The
# logits are distances, so the natural comparison is a distance, too.
#
# </details>

# %%
print(inspect.getsource(heads.LargeMarginGaussianMixture.logits))
print(inspect.getsource(heads.LargeMarginGaussianMixture.own_distance))

# %% alt="Two planes: rays with L-Softmax, small round clouds with L-GM"
soft = learn({"name": "lsoftmax", "margin": 2})
gauss = learn({"name": "lgm", "margin": 0.3, "likelihood": 0.1})
plots.embeddings({"L-Softmax": soft, "L-GM": gauss}, seen, new)
print("compare with:", soft.head.similarity, "and", gauss.head.similarity)

# %% [markdown]
# ## Pairs and triplets
#
# The oldest idea needs no classes: pull two faces of one person together and push
# two people apart (contrastive, 2006), or ask only that the own face be nearer
# than the other one (triplet, 2015). With embeddings of length 1 and $d$ for
# the distance of two of them:
#
# $$L_{\text{contrastive}} = \tfrac{1}{2}\,\text{mean}_{\text{same}}\; d^2 +
# \tfrac{1}{2}\,\text{mean}_{\text{different},\, d < m}\; (m - d)^2$$
#
# $$L_{\text{triplet}} = \text{mean}_{a}\; \max(0,\; d(a, p) - d(a, n) + m)$$
#
# The anchor $a$ is a face, $p$ ("positive") another face of its person, $n$
# ("negative") a face of somebody else.
#
# *How many triplets do 64 faces make, 4 each of 16 people? And how many pairs
# of one person, if the 64 are drawn at random?*
#
# <details><summary>Answer</summary>
#
# Each of 64 anchors has 3 positives and 60 negatives. The number of pairs is
# computed in the next cell: mostly none.
#
# </details>

# %%
# NBVAL_CHECK_OUTPUT
print("16 x 4 faces:", 64 * 3 * (64 - 4), "triplets,", 64 * 3 // 2, "pairs")
print(f"64 of 7,001 x 20: {64 * 63 / 2 * 19 / (7001 * 20 - 1):.2f} pairs")

# %% [markdown]
# Such losses see only what is in the batch. A batch of 64 random faces out of
# 7,001 people mostly has no pair at all, so a recipe's `images_per_class = 4` makes
# a batch of 64 out of 16 people with 4 faces each (one of 32, as `laptop` has, out
# of eight). Of thousands of triplets nearly
# all are right already and cost nothing; the hardest one of each face does.

# %%
print(inspect.getsource(losses.TripletLoss.reduce))
print(inspect.getsource(losses.ContrastiveLoss.reduce))

# %% alt="Two planes: the contrastive loss beside the triplet loss"
pair = learn(auxiliary_loss="contrastive")
three = learn(auxiliary_loss={"name": "triplet", "margin": 0.3})
plots.embeddings({"+ contrastive": pair, "+ triplet": three}, seen, new);

# %% [markdown]
# ### Exercise: the hardest triplet of each face
#
# *Which of the own faces is the hardest: the nearest, or the furthest? And which
# of the strangers?*
#
# <details><summary>Answer</summary>
#
# The furthest of the own faces, and the nearest of the strangers'.
#
# </details>
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
#
# *By angle or by distance: does the order of the losses depend on it?*
#
# <details><summary>Answer</summary>
#
# It may: L-GM, for one, was trained on distances, and its clouds may lie behind each
# other, as seen from the origin. Compare embeddings as the loss did.
#
# </details>

# %% alt="Bars of eight losses: looseness by angle, on train and on dev"
nets = {"cross-entropy": plain, "+ center": center, "L-Softmax": soft,
        "ArcFace": arc, "CosFace": cos, "L-GM": gauss,
        "+ contrastive": pair, "+ triplet": three}
spread = pd.DataFrame({name: loose(net) for name, net in nets.items()}).T
plots.bars(spread[["train by angle", "dev by angle"]],
           "Eight people in two numbers", "angle: within people / between")
print("tightest on dev, by angle:", spread["dev by angle"].idxmin())
print("tightest on dev, by distance:", spread["dev by distance"].idxmin())
spread.round(4)

# %% [markdown]
# Eight people in two numbers are a picture, not a measurement. This is one: 79
# people with 7 to 42 *photographs* each, the network `tiny`, the same size of a batch
# and number of epochs, the middle one of three seeds (`benchmarks/recipes/heads.toml`;
# 256 test photographs, 600 pairs of strangers). *Which would you choose for
# classification, which for verification? Seeds of one row differ by up to seven points
# of accuracy and 0.03 of the area: which differences mean anything?*
#
# <details><summary>Answer</summary>
#
# For classification plain cross-entropy: ArcFace, CosFace, L-GM and contrastive lose
# with every seed, by more than their own seeds differ. For verification, cross-entropy,
# center, L-Softmax, triplet and contrastive differ by less than seeds do: take the
# simplest, or train more seeds.
#
# </details>
#
# | from scratch | accuracy | area under the ROC |
# | --- | --- | --- |
# | cross-entropy | 59.8 % | 0.886 |
# | + center | 59.4 % | 0.888 |
# | L-Softmax | 58.6 % | 0.881 |
# | ArcFace | 52.7 % | 0.860 |
# | CosFace | 51.2 % | 0.853 |
# | L-GM | 46.1 % | 0.860 |
# | cross-entropy, 16 x 4 | 57.4 % | 0.883 |
# | + triplet, 16 x 4 | 59.4 % | 0.893 |
# | + contrastive, 16 x 4 | 53.9 % | 0.889 |
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
#
# <details><summary>Answer</summary>
#
# Most of them. The class vectors are means of what the network says of these people
# already, and the nearest mean is a good classifier.
#
# </details>

# %%
unit = nn.functional.normalize(seen.features)
head = heads.build("arcface", unit.shape[1], PEOPLE)
head.start_from_means(heads.class_means(unit, seen.labels, PEOPLE))
known = (head(unit).argmax(1) == seen.labels).float().mean().item()
print(f"right at step 0: {known:.0%} of the training faces")

# %% [markdown]
# Nothing was trained: the margin only has to tighten what is there.
#
# Now carry two losses over to the task of 06: who, of a gallery of known people,
# is on each **probe**? Nobody in these pictures was in training. The network of 04,
# all of it, is trained on for four epochs on all training people: once with
# cross-entropy and once with ArcFace, which begins with the class means. *The
# network has had cross-entropy already. Why once more?*
#
# <details><summary>Answer</summary>
#
# It is the control: more epochs may help or harm whatever the loss. Only what
# ArcFace gains beyond that is due to ArcFace.
#
# </details>

# %%
print(inspect.getsource(short_runs.continued))

# %%
many = more_people(course) or course  # 360 probes or so
usual = load_recipe(lesson.course_recipe(course)).augment
both = {head: short_runs.continued(run, course, head, usual)
        for head in ("linear", "arcface")}

# %%
def right(run):
    dev = pipeline.verify_dev(run, many)
    alike = identification.similarity(dev.evidence.probes,
                                      dev.evidence.gallery)
    known = dev.truth >= 0  # a stranger has no right answer here
    return (alike.argmax(1) == dev.truth)[known], dev.truth[known]


hits, owner = right(run)
named = {"as it was": hits, "cross-entropy": right(both["linear"])[0],
         "ArcFace": right(both["arcface"])[0]}
print(pd.Series({name: hits.mean() for name, hits in named.items()}).round(3)
      .to_string())
gains = 1.0 * named["ArcFace"] - named["cross-entropy"]
low, high = statistics.interval(
    statistics.bootstrap(lambda rows: gains[rows].mean(), owner))
print(f"ArcFace less cross-entropy on the same {len(hits)} probes: "
      f"{100 * gains.mean():+.1f} points,\n95 % interval from "
      f"{100 * low:+.1f} to {100 * high:+.1f}:",
      "shows no difference" if low <= 0 <= high else "shows a difference")

# %% [markdown]
# The interval comes from drawing *people* again and again, with all probes of
# each: the probes of one person stand and fall together. *An interval that holds
# zero: does it show that both losses are equally good?*
#
# <details><summary>Answer</summary>
#
# No. It shows that so few probes cannot tell them apart. All values in it are
# possible, and one training with each leaves out the luck of another seed.
#
# </details>

# %% [markdown]
# **On Colab, Kaggle, a laptop.** The network comes from the folder of notebook
# 04's run. Where there is none (a new Colab session without a Drive, a Kaggle
# notebook without the last version's output) the second cell trains it first:
# some three minutes on a laptop, up to an hour on Colab's GPU, whose profile has
# three times the people. The planes of two numbers take seconds each, on any
# processor. The eight epochs at the end take half a minute on a laptop, and
# perhaps ten on a T4, whose people have more pictures.

# %% [markdown]
# ## What you should have found

# %%
lengths = plain.embed(seen.features).norm(dim=1)
assert lengths.max() > 1.5 * lengths.min(), "lengths say little"
tight = spread["train by distance"]
assert 2 * tight[["+ center", "L-GM"]].max() < tight["cross-entropy"]
middle = spread.median()
for way in ("by angle", "by distance"):
    assert middle[f"train {way}"] < middle[f"dev {way}"], "dev is looser"
assert gain["dev by distance"] < gain["train by distance"], "dev gains less"
assert (spread < 0.7).all(axis=None), "all tell the people apart"
assert harder[own].max() < 0 and harder[~own].abs().max() < 1e-4
assert [(who < 0).any() for who, _ in maps.values()] == [False] + 3 * [True]
assert gauss.head.similarity == "euclidean"
assert known > 5 / PEOPLE, "class means know most faces at once"
assert low <= gains.mean() <= high and len(gains) == len(owner) >= 16
assert all(torch.isfinite(p).all() for net in nets.values()
           for p in net.parameters())
host.took()

# %% [markdown]
# ## Summary
#
# - Cross-entropy asks for the right order of the logits, not for tight people.
# - A center loss tightens training pictures most; new pictures gain less.
# - A margin makes the own logit smaller in training, and only there.
# - Pairs and triplets need batches with several faces of each person.
# - With little data plain cross-entropy is hard to beat: measure, then decide.
#
# To train with one of these: `facekit train laptop --set head=cosface`, or
# `--set auxiliary_loss=contrastive`. `laptop` has triplets as it is;
# `--set auxiliary_loss=` leaves them out.
#
# ## Terms
#
# - **embedding**: the numbers by which the network describes a face
# - **class vector**: what the head compares an embedding with, one a person
# - **margin**: by how much a face must be more than just right
# - **scale**: what a cosine is multiplied by before the softmax
# - **anchor, positive, negative**: a face, one of the same person, one of another
# - **batch hard**: only the hardest positive and negative of each anchor count
#
# ## To read
#
# - Schroff, Kalenichenko and Philbin (2015), [FaceNet: a unified embedding for face recognition and clustering](https://arxiv.org/abs/1503.03832)
# - Deng et al. (2019), [ArcFace: additive angular margin loss for deep face recognition](https://arxiv.org/abs/1801.07698)
# - Wan et al. (2018), [Rethinking feature distribution for loss functions in image classification](https://arxiv.org/abs/1803.02988)
#
# Next: [06, who is it?](06_verification.ipynb).
