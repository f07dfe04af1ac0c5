# %% [markdown]
# # 06 Verification
#
# **You will be able to**
#
# - compare two faces by their embeddings, and one face with a whole gallery
# - choose the threshold of "nobody I know", by hand and exactly
# - name the two errors behind one accuracy, and what each of them costs
# - say how sure a result of 36 or of 360 probes is
#
# **Before this:** [04](04_training.ipynb) and [05](05_losses.ipynb); the cosine
# of an angle, NumPy arrays.
#
# **Minutes:** 1 without a GPU, 1 with one. Three more on a laptop, or up to an
# hour on Colab's GPU, where the network of 04 is not kept and is trained again.
#
# **Points:** 4, one for each exercise that says `right`.
#
# *The head knows only the training classes. What in the network could still
# be of use for strangers?*
#
# <details><summary>Answer</summary>
#
# All that comes before the head: the embedding describes any face.
#
# </details>

# %%
import numpy as np
import pandas as pd

from facekit.course import baselines, lesson, plots, score_plots, widgets
from facekit.evaluation import class_means, identification
from facekit.evaluation import statistics, verification
from facekit.evaluation.embed import embed, pair_scores
from facekit.sources import more_people, open_course
from facekit.submission import pipeline

course = open_course()
run = lesson.trained_run(course)  # only read if finished
many = more_people(course) or course

# %% [markdown]
# ## The task
#
# Each **probe** is a face of unknown name. The **gallery** holds one face of each
# person we know. Say for each probe who it is, or `n000000` for "nobody I know".
# The homework's dev set has 360 probes, 40 of them strangers. A course with fewer
# gets more, of other rendered people: `many`. So does a course with pairs, as the
# homework has them since F24: pairs are the first half of this lesson.
#
# ## One pair
#
# What the head gets is a description of the face: the embedding. Faces of one
# person should have alike embeddings, whoever that is. We compare two by the
# cosine of the angle between them: 1 is the same direction, 0 is a right angle.
#
# *Below are pairs of faces. Which show one person? Decide before you read the
# numbers.*
#
# <details><summary>Answer</summary>
#
# The first four do. The table below the picture says how alike the network finds
# them.
#
# </details>

# %% alt="Four probes, each above a known face of the same person, then above another's"
dev = pipeline.verify_dev(run, many, cohort=class_means(run, course))
similarity, truth = dev.similarity, dev.truth  # probes x gallery
probes, gallery = many.unknown_dev.paths, many.known.paths
rows, columns = verification.examples(similarity, truth)
plots.montage([probes[i] for i in rows] + [gallery[i] for i in columns],
              columns=8, title="Probe above, known face below");

# %%
own, other = np.split(similarity[rows, columns], 2)
print(f"{len(probes)} probes, {(truth < 0).sum()} of them strangers; "
      f"{len(gallery)} known faces")
print("the other is ahead in", (other > own).sum(), "of", len(own))
pd.DataFrame({"one person": truth[rows] == columns,
              "cosine": similarity[rows, columns].round(2)}).T

# %% [markdown]
# The first four are pairs of one person, and each probe stands once more above
# the other face that is most like it: the hardest wrong pair there is. Where the
# other face is ahead, that probe is named wrong.
#
# One product of two matrices compares every probe with every known face, if
# the vectors are brought to length 1 first. *What would the product be, if not?*
#
# <details><summary>Answer</summary>
#
# The cosine times both lengths: a long embedding would look like everybody.
#
# </details>

# %% [markdown]
# ### Exercise: the cosine of every pair
#
# Write the cosine of the angle between each probe and each face of the
# gallery. `probes` is an array (P, D) and `gallery` one (G, D), a row for each
# face, of any length. Return an array (P, G).

# %%
from facekit.course import exercises


def gallery_cosines(probes, gallery):
    ### BEGIN SOLUTION
    probes = probes / (probes**2).sum(1, keepdims=True) ** 0.5
    gallery = gallery / (gallery**2).sum(1, keepdims=True) ** 0.5
    return probes @ gallery.T
    ### END SOLUTION


exercises.exercise("gallery_cosines", gallery_cosines)

# %% [markdown]
# ## Angle or distance?
#
# The Euclidean distance of two embeddings depends on their lengths, too. For
# vectors of length 1 it says the same as the cosine, for
#
# $$|a - b|^2 = |a|^2 + |b|^2 - 2\,a \cdot b = 2 - 2\cos(a, b).$$
#
# *The network's head has plain products $w \cdot x$; triplets, where its recipe has
# them, look at directions alone. Do you expect the cosine or the distance of the
# embeddings, as long as they are, to be better?*
#
# <details><summary>Answer</summary>
#
# In most such networks the cosine: the length says how sure the network is (sharp or
# blurred, say) more than who it is. But look at the error of the difference before
# you believe a table of two rows.
#
# </details>

# %%
lengths = [embed(run, paths, unit=False) for paths in (probes, gallery)]
distance = identification.similarity(*lengths, "euclidean")  # less is alike
compared = {}
for name, scores in (("cosine", similarity), ("distance", distance)):
    pairs = verification.summary(*verification.all_pairs(scores, truth))
    best = identification.choose_threshold(scores, truth)
    compared[name] = {"AUC of pairs": pairs["auc"],
                      "rank 1": identification.rank_k(scores, truth, 1),
                      "accuracy": best.accuracy}
hits = [(scores.argmax(1) == truth)[truth >= 0].astype(float)
        for scores in (similarity, distance)]
print(f"rank 1, cosine less distance: {(hits[0] - hits[1]).mean():+.1%}, "
      f"standard error {statistics.difference_error(*hits):.1%}")
pd.DataFrame(compared).T.round(3)

# %% [markdown]
# **AUC**, **rank 1** and **accuracy** are explained below. From here on, it is
# the cosine.
#
# ## Every pair
#
# Each probe with each known face gives many pairs. *Where would you draw the
# line between one person and two?*
#
# <details><summary>Answer</summary>
#
# Where both kinds are equally frequent, if both errors cost the same. It depends on
# what an error costs.
#
# </details>
#
# Wherever you draw it, some pairs fall on the wrong side:
#
# - **FAR**, the false accept rate: two people taken for one;
# - **TAR**, the true accept rate: one person recognised.

# %% alt="Two overlapping histograms of cosines, of one person and of two people"
scores, same = verification.all_pairs(similarity, truth)
score_plots.pair_scores(scores, same, "Every probe with every known face");

# %% [markdown]
# *Two random directions in so many dimensions are nearly at a right angle. Are two
# people here? What in the network decides that, and what does it mean for a threshold
# of 0.5 that somebody recommends?*
#
# <details><summary>Answer</summary>
#
# If the embedding is a mean of what a ReLU left, no number in it is below 0: all
# embeddings lie in one corner, and strangers are far above 0. A linear layer and a batch
# norm after it (`embedding` in the network's spec) put them around 0. Either can tell
# people apart, but a threshold belongs to one network.
#
# </details>

# %% alt="TAR over FAR of the network, of grey pixels and of a coin"
pixels = baselines.grey_similarity(probes, gallery)
floor = verification.all_pairs(pixels, truth)
score_plots.roc({"network": verification.roc(scores, same),
                 "grey pixels": verification.roc(*floor)});

# %% [markdown]
# The curve of the network should lie well above that of the pixels. Three
# summaries: the area under it, AUC (how often a pair of one person scores above a
# pair of two), the equal error rate, EER (where both errors are alike), and TAR at
# a small FAR. The last one matters most here. *Why?*
#
# <details><summary>Answer</summary>
#
# Each probe meets the whole gallery, so there are many more wrong pairs than right
# ones: even a small FAR gives many false names.
#
# </details>

# %%
summary = pd.DataFrame({"network": verification.summary(scores, same),
                        "grey pixels": verification.summary(*floor)})
summary.round(3)

# %% [markdown]
# ### Exercise: TAR at a FAR
#
# How many pairs of one person are recognised, if at most a share `target` of
# the pairs of two may be taken for one? `scores` (N,) are of all pairs, `same`
# (N,) is true for a pair of one person; a pair is accepted where its score is
# at or above the threshold. Find the lowest threshold at which FAR is at most
# `target` and return TAR there. *Which thresholds are worth trying?*
#
# <details><summary>Answer</summary>
#
# The scores that there are, and infinity, which refuses all: between two scores
# nothing changes.
#
# </details>

# %%
from facekit.course import exercises


def tar_at_far(scores, same, target):
    ### BEGIN SOLUTION
    kept = [line for line in [*scores, float("inf")]
            if (scores[~same] >= line).mean() <= target]
    return (scores[same] >= min(kept)).mean()
    ### END SOLUTION


exercises.exercise("tar_at_far", tar_at_far)

# %% [markdown]
# ## Since F24: pairs and nothing else
#
# A list has two images a line, their score is handed in, and the EER of all scores
# is what counts: nobody chooses a threshold. The homework looks at a few more
# figures, and says TPR for TAR and FPR for FAR. ACC is the accuracy at the best
# threshold of all. The table is of your dev pairs, if the course has such, and else
# of the pairs above.
#
# *What does a TPR at an FPR of 1e-4 say where there are 180 wrong pairs?*
#
# <details><summary>Answer</summary>
#
# Little: not one wrong pair may pass, so a single one, the worst, decides. The straight
# line between two points of the curve makes a number of it all the same.
#
# </details>

# %%
both, match = {"network": scores, "grey pixels": floor[0]}, same
if course.has_pairs:
    asked, match = course.pairs_dev, np.array(course.pairs_dev.same)
    both = {"network": pair_scores(run, asked),
            "grey pixels": baselines.grey_pairs(asked)}
on_pairs = pd.DataFrame({name: verification.pair_metrics(found, match)
                         for name, found in both.items()})
on_pairs.round(3)

# %% [markdown]
# "Nearest point" is the other way to take the EER: the mean of both errors where
# they are closest, instead of the straight line to where they meet.
#
# **With a course of pairs you may stop here**: notebook 08 hands the scores in. From
# here on it is about the terms up to S24, which ask for names: who is this, if
# anybody we know?
#
# ## One against many
#
# The homework asks more: *who of all known people is this?* One probe is
# compared with the whole gallery, and each comparison is one more chance to
# be wrong. *A lock that opens for one wrong pair in a thousand is a good lock.
# How often does it open for a stranger, if there are 960 people in the house?*
#
# <details><summary>Answer</summary>
#
# More often than not: a stranger has 960 chances. The next cell has the sum.
#
# </details>

# %%
# NBVAL_CHECK_OUTPUT
for people in (1, 24, 96, 960, 7001):
    print(f"{people:>5} known: a stranger is taken for one of them "
          f"{1 - (1 - 1 / 1000) ** people:.1%} of the time")

# %% [markdown]
# So the line that is best for pairs is far too low for a gallery. That sum
# supposes that the comparisons are independent of each other. *Are they?* To
# see it, take a line that one wrong pair in two hundred passes: there the sum
# says neither "all" nor "none".
#
# <details><summary>Answer</summary>
#
# No. All comparisons of one stranger share that stranger's face: one that looks
# like many people passes often, another never. Were they one and the same comparison,
# only one stranger in two hundred would be named. Your strangers are few, so look at
# the interval.
#
# </details>

# %%
strict = identification.lowest_threshold(scores[same == 0], "FAR", 1 / 200,
                                         "wrong pairs")
strangers = similarity[truth < 0].max(1) >= strict
passing = (scores[same == 0] >= strict).mean()
ends = identification.wilson_interval(strangers.sum(), len(strangers))
print(f"line {strict:.2f}: a wrong pair passes {passing:.2%}; if independent, "
      f"a\nstranger is named {1 - (1 - passing) ** len(gallery):.0%} of the "
      f"time; counted: {strangers.mean():.0%} "
      f"({ends[0]:.0%} to {ends[1]:.0%})")

# %% alt="The share of probes whose own face is among the k best, rising with k"
score_plots.rank_curves({"network": (similarity, truth),
                         "grey pixels": (pixels, truth)});

# %% [markdown]
# ## The threshold
#
# Below the threshold the answer is `n000000`. *If it is too low, who suffers?
# And if it is too high?*
#
# <details><summary>Answer</summary>
#
# Too low: strangers are taken for somebody. Too high: people we know are refused.
#
# </details>

# %% [markdown]
# Two rates tell it:
#
# - **DIR**: of the probes we know, the share named right;
# - **FPIR**: of the probes we do not know, the share named at all.
#
# Four probes, by hand. The rows are probes and the columns three known faces;
# the last probe is a stranger. *Which threshold would you choose? Which probe
# is never named right? What happens at exactly 0.8?*
#
# <details><summary>Answer</summary>
#
# The second probe is never named right: another face is most like it. For accuracy
# take just over 0.8: one right name is kept and the stranger is refused; at or below
# 0.5 there are two right names and a false one, which is as good. At exactly 0.8 the
# stranger still passes: a score equal to the threshold is accepted.
#
# </details>

# %%
# NBVAL_CHECK_OUTPUT
table = np.array([[.9, .2, .1], [.6, .7, .3], [.4, .3, .5], [.2, .8, .1]])
for value in (0.0, 0.5, 0.8, 0.9):
    found, named = identification.dir_fpir(table, np.array([0, 0, 2, -1]),
                                           value)
    print(f"threshold {value}: DIR {found:.0%}, FPIR {named:.0%}")

# %% [markdown]
# What matters most in a rate is what it is a share of:

# %% [markdown]
# ### Exercise: DIR and FPIR
#
# Write both rates at a threshold. `similarity` is an array (P, G); `truth` (P,)
# is the column of each probe's own face, or -1 for a stranger. A probe is named
# after the face that is most like it, if that score is at or above `threshold`.
# Return DIR and FPIR, two numbers.

# %%
from facekit.course import exercises


def both_rates(similarity, truth, threshold):
    ### BEGIN SOLUTION
    known, named = truth >= 0, similarity.max(1) >= threshold
    right = named & (similarity.argmax(1) == truth)
    return right[known].mean(), named[~known].mean()
    ### END SOLUTION


exercises.exercise("both_rates", both_rates)

# %% [markdown]
# ### Choose it by hand
#
# Now the real probes. Move it, with the mouse or the arrow keys. *Can you find
# a better accuracy than the one it starts with?*
#
# <details><summary>Answer</summary>
#
# No: it starts at the best one. Accuracy changes only where a probe's best score is
# passed, so one sort of these scores tries every threshold there is.
#
# </details>

# %%
chosen = dev.threshold
panel = widgets.threshold(similarity, truth, probes, gallery)
panel

# %% [markdown]
# Without a slider, the same is in the picture below: every threshold at once.
#
# Known people whose best match is wrong have no say in the choice. *Why not?*
#
# <details><summary>Answer</summary>
#
# They are wrong at every threshold: a wrong name below, refused above.
#
# </details>

# %% alt="Best scores by kind of probe; DIR, FPIR and accuracy at every threshold"
low, high = identification.plateau(similarity, truth)
print(f"every threshold from {low:.4f} to {high:.4f} decides alike")
score_plots.trade_off(similarity, truth, chosen.value);

# %% [markdown]
# On the left, strangers (dotted bars) should score low, and known people who are
# named right (plain bars) high. The more they overlap, the less a threshold can
# do: each stranger that it refuses costs some people whom we know. Accuracy is
# highest where the dotted line stands.
#
# > **In practice.** Many published solutions of the homework have a threshold
# > that somebody once guessed: 0.5, 0.4, 0.33, 0.3, 0.27, 0.25. It belongs to
# > *one* network and *one* way to prepare pictures. Its starter reads the
# > probes without the normalisation of training, so that whoever adds one there
# > compares embeddings of pictures the network has never seen the like of,
# > without any error. And some libraries squeeze scores that are not within 0
# > and 1 through a sigmoid before they look at your threshold. Keep the
# > preparation with the network (here it is in `best.pt`), and choose the
# > threshold anew for every one.

# %% [markdown]
# ### Exercise: an honest accuracy
#
# The threshold is chosen on the dev probes and judged on the test probes. `dev`
# (P, G) and `test` (Q, G) are similarities, `dev_truth` and `test_truth` as
# above. Try the best score of each dev probe as a threshold, take that with the
# highest accuracy there (the lowest, if several are equally good), and return
# the accuracy on the test probes. `identification.accuracy(similarity, truth,
# threshold)` is at hand. *Who must have no say in it?*
#
# <details><summary>Answer</summary>
#
# The test probes: a threshold that has seen them is judged too well.
#
# </details>

# %%
from facekit.course import exercises
from facekit.evaluation import identification


def honest_accuracy(dev, dev_truth, test, test_truth):
    ### BEGIN SOLUTION
    best = max(sorted(dev.max(1)),
               key=lambda line: identification.accuracy(dev, dev_truth, line))
    return identification.accuracy(test, test_truth, best)
    ### END SOLUTION


exercises.exercise("honest_accuracy", honest_accuracy)

# %% [markdown]
# ## Two errors behind one number
#
# Eight ninths of the homework's probes are known, so
#
# accuracy = 8/9 DIR + 1/9 (1 - FPIR).
#
# *What would a weak network do that wants this number and nothing else?*
#
# <details><summary>Answer</summary>
#
# Refuse hardly anybody: there are eight known probes for each stranger. That makes a
# poor lock for a door.
#
# </details>

# %%
fair = identification.best_threshold(similarity, truth, prior=0.5)
for value in (-1, chosen.value, fair, 1.1):
    print(widgets.describe_threshold(similarity, truth, value))

# %% [markdown]
# Never refuse; the chosen one; the best one if every second face at the door were
# a stranger's; always refuse. The last earns one ninth for nothing. *By how much
# is the second better than the first? And which would you want on your door?*
#
# <details><summary>Answer</summary>
#
# The first question: compare the two accuracies, and the interval below. For a door the
# third: there a false name costs more than a second try. A weak network's third row can
# come close to the last one: it is then safe only where it refuses nearly all.
#
# </details>

# %% [markdown]
# ## How sure are we?
#
# The threshold was chosen on the very probes that it is judged by. *Draw the
# same number of probes again from people like these: how far would the accuracy
# move?* The bootstrap does that, person by person. Below, for the first 36
# probes, 4 of them strangers, and for all there are. *How much narrower will the
# interval of all be?*
#
# <details><summary>Answer</summary>
#
# By about the root of how many times more there are: ten times as many probes, an
# interval three times narrower. Only about: one of 36 probes is itself not well known.
#
# </details>

# %%
known, strange = (np.flatnonzero(who) for who in (truth >= 0, truth < 0))
part = np.concatenate([known[:32], strange[:4]])
tuned, wider = statistics.tuning(dev.scores[part], truth[part]), dev.tuning()
widths = [np.ptp(each.accuracy_interval) for each in (tuned, wider)]
print(f"accuracy: {widths[0]:.1%} wide with 36, {widths[1]:.1%} with all; "
      f"{widths[0] / widths[1]:.1f} times narrower\n(the root of "
      f"{len(truth)} / 36 is {(len(truth) / 36) ** 0.5:.1f})")
statistics.table({"36 probes": tuned, "all": wider}).T.round(3)

# %% [markdown]
# `low` and `high` are the ends of an interval of 95 %. `expected` is what to
# expect on new probes: the accuracy less its optimism, for the threshold has
# seen these. Thresholds that a reader of one number would think far apart may
# do as well as each other.
#
# More probes are the only cure. Of rendered people there are as many as one
# likes; of real ones you can hold some out of training
# (`facekit data FOLDER --source held-out --people 500 --out ELSEWHERE`).
#
# The curve of DIR over FPIR shows every threshold at once, and depends on no
# mixture. The area under it compares two networks whatever the threshold. With
# four strangers it has four steps. *How far apart are the two curves, which are
# of one network? What does that say of a table in which one network is two
# points ahead?*
#
# <details><summary>Answer</summary>
#
# The distance between them is luck alone, for the network is the same. Where it is more
# than two points, a table of 36 probes cannot show a lead of two points.
#
# </details>

# %% alt="DIR over FPIR of few and of many probes, FPIR on a logarithmic axis"
score_plots.dir_fpir({"36 probes": (similarity[part], truth[part]),
                      "all": (similarity, truth)});

# %% [markdown]
# ## Better rules?
#
# One threshold for all cosines is the simplest rule. Others ask how far the
# best is ahead of the second, how alike this probe is to people who are surely
# not in the gallery (the training classes), or weigh all of that. *Which would
# help against a face that looks like everybody?*
#
# <details><summary>Answer</summary>
#
# The second and third: such a face is near many, so its lead is small, and it is near
# the training classes, too.
#
# </details>
#
# Each is judged on people it was not fitted to, and its gain over the plain
# threshold comes with an interval. If that holds 0, keep the plain one.

# %%
comparison = dev.compare_rules()
print(comparison.reason)
pipeline.rule_table(comparison)  # per cent

# %% alt="The gain in accuracy of each rule over the plain threshold, with its interval"
score_plots.rule_gains(comparison);

# %% [markdown]
# Both errors of two rules, at every threshold: a better rule lies lower and
# further left. Each step at the left end is *one* stranger, so the lines may
# cross there by luck. A rule is better only where it stays below.

# %% alt="FNIR over FPIR of two rules on logarithmic axes"
score_plots.det({name: (found, truth) for name, found in
                 dev.judged("threshold", "as_norm").items()});

# %% [markdown]
# ## Who is taken for whom?
#
# Look at mistakes before you believe a number. The probe is above, below it its
# own known face, then the one it was taken for. *Would you have known better?*
#
# <details><summary>Answer</summary>
#
# That is yours to say. Look at what the two lower faces share: hair, hat, glasses, light.
# If you cannot tell them apart either, a better network may not be able to, too.
#
# </details>

# %% alt="Five probes, below each its own known face and the one it was taken for"
names = dev.identities
score_plots.worst_identities(similarity, truth, probes, gallery, names);

# %% [markdown]
# ## Who is near whom?
#
# The faces most like a probe, from the gallery. Choose another probe: call
# `look` with a number of your own. *Which of them would you have chosen?*
#
# <details><summary>Answer</summary>
#
# `own` stands over the right one, if it is among them. A probe without it is a
# stranger, or its person is further down.
#
# </details>

# %% alt="A probe and the seven known faces most like it, with their cosines"
def look(probe):
    nearest = similarity[probe].argsort()[::-1][:7]
    titles = [f"{similarity[probe, face]:.2f}"
              + (" own" if face == truth[probe] else "") for face in nearest]
    faces = [probes[probe], *(gallery[face] for face in nearest)]
    plots.montage(faces, [f"probe {probe}", *titles], columns=8)


look(5)

# %% [markdown]
# And the space itself, on a page: the gallery's first 20 people and up to three
# probes of each. PCA keeps the directions in which most varies, t-SNE keeps
# neighbours; its long distances mean nothing. Frame and number are the person's.
# *Do persons form islands? What do neighbours of two people share?*
#
# <details><summary>Answer</summary>
#
# The better the network, the more of them do in the map by t-SNE. PCA shows two of over
# a hundred directions, so people overlap there who do not in the whole space.
# Neighbours often share what is not the person: a hat, a beard, the light.
#
# </details>

# %% alt="Faces of twenty people at their places in the plane, by PCA, by t-SNE"
people = range(min(20, len(gallery)))
few = np.concatenate([np.flatnonzero(truth == who)[:3] for who in people])
vectors = np.concatenate([dev.evidence.gallery[people],
                          dev.evidence.probes[few]])
whose = np.concatenate([people, truth[few]])
shown = [*(gallery[who] for who in people), *(probes[row] for row in few)]
for method in ("pca", "tsne"):
    score_plots.face_map(vectors, whose, shown, method)

# %% [markdown]
# ## Decide
#
# The decision is kept beside the network, and notebook 08 hands in by it.
# Choose a rule and move its threshold; without a touch it is the recommended
# rule at its best threshold.

# %%
judged = dev.judged(comparison.recommended, "threshold", "as_norm", "logistic")
decision = widgets.threshold(judged, truth, probes, gallery)
decision

# %% alt="The kept rule's scores by kind of probe, and its rates at every threshold"
pipeline.keep_decision(run.folder, *decision.choice)
print(pipeline.kept_decision(run.folder))
rule, value = decision.choice
score_plots.trade_off(judged[rule], truth, value);

# %% [markdown]
# The picture is of what you decided: the rule's own scores, whose range need not
# be that of a cosine, with the threshold as a dashed line.
#
# **On Colab, Kaggle, a laptop.** All of this looks at stored embeddings: once
# the pictures have gone through the network, nothing here asks for a GPU, and a
# gallery of 960 is a product of matrices. Where no kernel runs, the panels move,
# without their faces, but nothing is kept. Where the page shows no sliders, as on
# GitHub, the pictures under them hold the same, and
# `pipeline.keep_decision(run.folder, "threshold", 0.4)` decides without one.
#
# ## What you should have found

# %%
share, rank_1 = (truth >= 0).mean(), identification.rank_k(similarity, truth,
                                                           1)
found, named = identification.dir_fpir(similarity, truth, chosen.value)
auc = summary.loc["auc"]
assert abs(share * found + (1 - share) * (1 - named) - chosen.accuracy) < 1e-9
assert chosen.accuracy >= max(identification.accuracy(similarity, truth, value)
                              for value in np.linspace(-1, 1, 2001))
assert auc["network"] > 0.6, "a coin would give one half"
assert auc["network"] > auc["grey pixels"]
assert on_pairs.loc["AUC", "network"] > on_pairs.loc["AUC", "grey pixels"]
assert rank_1 > 2 / len(gallery), "chance"
assert identification.auc(similarity, truth) <= rank_1
assert panel.choice == ("threshold", chosen.value), "moved? run again"
assert pipeline.kept_decision(run.folder) == decision.choice
assert widths[1] < widths[0], "more probes, a narrower interval"
host.took()

# %% [markdown]
# ## Summary
#
# - The embedding serves strangers, too; two of them are compared by their cosine.
# - One against many is harder than one against one: each known face is a chance.
# - The threshold belongs to a network; it is chosen on dev and never on test.
# - One accuracy hides two errors: DIR and FPIR say what it is made of.
# - With 36 probes most differences are luck: give every figure its interval.
#
# ## Terms
#
# - **probe, gallery**: the face that is asked about, the faces that are known
# - **FAR, TAR**: the share of wrong pairs, and of right pairs, that is accepted
# - **EER**: the error where FAR and 1 - TAR are equal
# - **rank 1**: the share of known probes whose own face is the most alike
# - **DIR, FPIR**: known probes named right; strangers named at all
# - **bootstrap**: drawing people again, to see how far a figure moves by luck
#
# ## To read
#
# - Schroff, Kalenichenko and Philbin (2015), [FaceNet: a unified embedding for face recognition and clustering](https://arxiv.org/abs/1503.03832)
# - Günther et al. (2017), [Toward open-set face recognition](https://arxiv.org/abs/1705.01567)
# - Cao et al. (2018), [VGGFace2: a dataset for recognising faces across pose and age](https://arxiv.org/abs/1710.08092)
#
# Next: [07, what made the difference](07_ablations.ipynb).
