# %% [markdown]
# # 06 Verification
#
# **You will** go from one pair of faces to all the people of a gallery, choose
# the threshold of "nobody I know" by hand and exactly, see two errors behind
# one number, and learn how sure so few probes let you be.
#
# *The head knows only the training classes. What in the network could still
# be of use for strangers?*

# %%
import numpy as np
import pandas as pd

from facekit import (
    floors,
    openset,
    pairs,
    pipeline,
    plots,
    recipes,
    rules,
    score_plots,
    sources,
    train,
    widgets,
)
from facekit.predict import class_means, load_run

course = sources.open_course()
recipe = recipes.load(pipeline.course_recipe(course))
train.fit(recipe, course, pipeline.course_run())  # only read if finished
run = load_run(pipeline.course_run())
print(f"{run.folder.name}: {len(run.classes)} classes, {run.preprocess}")

# %% [markdown]
# ## One pair
#
# What the head gets is a description of the face: the embedding. Faces of one
# person should have alike embeddings, whoever that is. We compare two by the
# cosine of the angle between them: 1 is the same direction, 0 is a right angle.
#
# *Below are pairs of faces. Which show one person? Decide before you read the
# numbers.*

# %%
dev = pipeline.verify_dev(run, course, cohort=class_means(run, course))
similarity, truth = dev.similarity, dev.truth  # probes x gallery
known = np.flatnonzero(truth >= 0)[:4]
others = [similarity[row].argsort()[-2] for row in known]
columns = [*truth[known], *others]
plots.montage([*(course.unknown_dev.paths[row] for row in [*known] * 2),
               *(course.known.paths[column] for column in columns)],
              columns=8, title="Probe above, known face below");

# %%
for row, column in zip([*known] * 2, columns, strict=True):
    who = "one person" if truth[row] == column else "two people"
    print(f"cosine {similarity[row, column]:.2f}: {who}")

# %% [markdown]
# ## Every pair
#
# Each probe with each known face gives many pairs. *Where would you draw the
# line between one person and two?* Wherever you draw it, some pairs fall on
# the wrong side:
#
# - **FAR**, the false accept rate: two people taken for one;
# - **TAR**, the true accept rate: one person recognised.

# %%
scores, same = pairs.all_pairs(similarity, truth)
score_plots.pair_scores(scores, same,
                        "Every probe with every known face");

# %%
pixels = openset.similarity(floors.grey_vectors(course.unknown_dev.paths),
                            floors.grey_vectors(course.known.paths))
score_plots.roc({"network": pairs.roc(scores, same),
                 "grey pixels": pairs.roc(*pairs.all_pairs(pixels, truth))});

# %% [markdown]
# Three summaries of such a curve: the area under it (how often a pair of one
# person scores above a pair of two), the equal error rate (where both errors
# are alike), and TAR at a small FAR. The last one matters most here. *Why?*

# %%
auc = pairs.auc(scores, same)
floor = pairs.auc(*pairs.all_pairs(pixels, truth))
error, line = pairs.eer(scores, same)
strict = pairs.tar_at_far(scores, same, 0.01)
print(f"area {auc:.3f} (grey pixels {floor:.3f}), equal errors {error:.1%}")
print(f"TAR {strict.tar:.1%} at FAR {strict.far:.1%}")

# %% [markdown]
# ## One against many
#
# The homework asks more: *who of all known people is this?* One probe is
# compared with the whole gallery, and each comparison is one more chance to
# be wrong. A line that fails in few pairs fails almost always in a gallery.

# %%
false = pairs.roc_at(scores, same, line).far
_, named = openset.dir_fpir(similarity, truth, line)
guess = 1 - (1 - false) ** similarity.shape[1]
print(f"at the equal-error line {line:.2f} a wrong pair passes {false:.1%}")
print(f"so a stranger should find somebody 1 - (1 - {false:.3f})"
      f"^{similarity.shape[1]} = {guess:.0%} of the time; does: {named:.0%}")

# %%
places = np.arange(1, min(20, similarity.shape[1]) + 1)
found = pd.DataFrame({"network": openset.rank_k(similarity, truth, places),
                      "grey pixels": openset.rank_k(pixels, truth, places),
                      "chance": places / similarity.shape[1]},
                     pd.Index(places, name="k"))
rank_1 = found["network"].iloc[0]
plots.lines(found, "The right person is among the k best", "probes");

# %% [markdown]
# ## The threshold
#
# Below the threshold the answer is `n000000`. *If it is too low, who suffers?
# And if it is too high?* Two rates answer:
#
# - **DIR**: of the probes we know, the share named right;
# - **FPIR**: of the probes we do not know, the share named at all.
#
# Move it, with the mouse or the arrow keys. *Can you find a better accuracy
# than the one it starts with?*

# %%
chosen = dev.threshold
panel = widgets.threshold(similarity, truth, probes=course.unknown_dev.paths,
                          gallery=course.known.paths)
panel

# %% [markdown]
# You cannot: accuracy changes only where a probe's best score is passed, so
# one sort of these scores tries every threshold there is. Nor do probes whose
# best match is wrong have a say. *Why not?*

# %%
low, high = openset.plateau(similarity, truth)
print(f"every threshold from {low:.4f} to {high:.4f} decides alike; "
      f"the middle is {chosen.value:.4f}")
score_plots.trade_off(similarity, truth, chosen.value);

# %% [markdown]
# ## Two errors behind one number
#
# Eight ninths of the homework's probes are known, so
#
# accuracy = 8/9 DIR + 1/9 (1 - FPIR).
#
# *What would a network do that wants this number and nothing else?* A weak one
# refuses hardly anybody, which makes a poor lock for a door.

# %%
rows = {"never refuse": -1.0, "chosen": chosen.value, "always refuse": 1.1}
for name, value in rows.items():
    said = widgets.describe_threshold(similarity, truth, value)
    print(f"{name:>13}:", said)
fair = openset.choose_threshold(similarity, truth, prior=0.5)
print("half strangers:",
      widgets.describe_threshold(similarity, truth, fair.value))

# %% [markdown]
# The curve of DIR over FPIR shows every threshold at once, and depends on no
# mixture. The area under it compares two networks whatever the threshold.

# %%
score_plots.dir_fpir({"network": (similarity, truth),
                      "grey pixels": (pixels, truth)});

# %% [markdown]
# ## How sure are we?
#
# The threshold was chosen on the very probes that it is judged by, and they
# are few. *Draw the same number of probes again from people like these: how
# far would the accuracy move?* The bootstrap does that, person by person.

# %%
tuned = dev.tuning()
print(f"accuracy {tuned.chosen.accuracy:.1%} on {len(truth)} probes, 95 % "
      "from {:.1%} to {:.1%}".format(*tuned.accuracy_interval))
print("threshold {:.2f}, anything from {:.2f} to {:.2f}".format(
    tuned.chosen.value, *tuned.threshold_interval))
print(f"optimism {tuned.optimism:.1%}: expect {tuned.expected:.1%} "
      "on new probes")

# %% [markdown]
# More probes are the only cure. Of rendered people there are as many as one
# likes; of real ones you can hold some out of training
# (`facekit data FOLDER --source held-out --people 500 --out ELSEWHERE`).

# %%
more = sources.more_people(course) or course
larger = pipeline.verify_dev(run, more, cohort=dev.evidence.cohort)
wider = larger.tuning()
for name, t, n in (("dev", tuned, len(truth)),
                   ("larger", wider, len(larger.truth))):
    low, high = t.accuracy_interval
    print(f"{name:>6}: {n:>5} probes, threshold {t.chosen.value:.2f}, "
          f"accuracy {t.chosen.accuracy:.1%} ({low:.1%} to {high:.1%})")

# %%
score_plots.dir_fpir({"dev": (similarity, truth),
                      "larger": (larger.similarity, larger.truth)});

# %% [markdown]
# ## Better rules?
#
# One threshold for all cosines is the simplest rule. Others ask how far the
# best is ahead of the second, how alike this probe is to people who are surely
# not in the gallery (the training classes), or weigh all of that. *Which would
# help against a face that looks like everybody?*
#
# Each is judged on people it was not fitted to, and its gain over the plain
# threshold comes with an interval. If that holds 0, keep the plain one.

# %%
comparison = larger.compare_rules()
print(comparison.reason)
comparison.table.round(3)

# %%
score_plots.rule_gains(comparison);

# %%
score_plots.det({
    name: (rules.make(name, larger.evidence, larger.truth)(larger.evidence),
           larger.truth) for name in ("threshold", "as_norm")});

# %% [markdown]
# ## Who is taken for whom?
#
# Look at mistakes before you believe a number. The probe is on the left, then
# its own known face, then the one it was taken for.

# %%
score_plots.worst_identities(
    similarity, truth, course.unknown_dev.paths, course.known.paths,
    dev.identities);

# %% [markdown]
# And the space itself, in two dimensions: PCA keeps the directions in which
# most varies, t-SNE keeps neighbours. *Do persons form islands?*

# %%
few = np.flatnonzero(larger.truth >= 0)
few = few[larger.truth[few] < 8]
for method in ("pca", "tsne"):
    score_plots.plane(larger.evidence.probes[few], larger.truth[few], method)

# %% [markdown]
# ## Decide
#
# The decision is kept beside the network, and notebook 08 hands in by it.
# Choose a rule and move its threshold; without a touch it is the recommended
# rule at its best threshold.

# %%
judged = {name: rules.make(name, dev.evidence, truth)(dev.evidence)
          for name in dict.fromkeys(["threshold", comparison.recommended,
                                     "as_norm", "logistic"])}
decision = widgets.threshold(
    judged, truth, probes=course.unknown_dev.paths,
    gallery=course.known.paths, rule=comparison.recommended)
decision

# %%
pipeline.keep_decision(run, *decision.choice)
print(pipeline.kept_decision(run))

# %% [markdown]
# ## What you should have found

# %%
share = (truth >= 0).mean()
found, named = openset.dir_fpir(similarity, truth, chosen.value)
mixed = share * found + (1 - share) * (1 - named)
tried = np.linspace(-1, 1, 2001)
assert abs(mixed - chosen.accuracy) < 1e-9, "one number, two errors"
assert chosen.accuracy >= max(
    openset.accuracy(similarity, truth, value) for value in tried)
assert auc > 0.6, "a coin would give one half"
assert len(truth) < 36 or auc > floor, "learning beats pixels"
assert rank_1 > 2 / similarity.shape[1], "and chance"
assert openset.area(similarity, truth) <= rank_1
assert openset.accuracy(similarity, truth, 1.1) == (truth < 0).mean()
assert panel.choice == ("threshold", chosen.value), "moved? run again"
assert pipeline.kept_decision(run) == decision.choice
assert len(larger.truth) <= len(truth) or (
    np.ptp(wider.accuracy_interval) < np.ptp(tuned.accuracy_interval))
host.took()

# %% [markdown]
# Next: [07, what made the difference](07_ablations.ipynb).
