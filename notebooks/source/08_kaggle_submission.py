# %% [markdown]
# # 08 Kaggle submission
#
# **You will be able to**
#
# - answer both test sets and write the two files that are handed in
# - find what is wrong with such a file before anybody else does
# - score and grade it, and say how sure the grade is
# - explain why the best of twenty hand-ins falls when the private part is opened
#
# **Before this:** [04](04_training.ipynb) and [06](06_verification.ipynb);
# the standard error of [07](07_ablations.ipynb).
#
# **Minutes:** 1 without a GPU, 1 with one. Five more on a laptop, or up to an
# hour on Colab's GPU, where the network of 04 is not kept and is trained again.
#
# **Points:** 4, one for each exercise that says `right`.
#
# *A submission with all the right answers can still score zero. How?*
#
# <details><summary>Answer</summary>
#
# Each right answer can stand beside the wrong id. And a file of the wrong form is not
# scored at all.
#
# </details>

# %%
import numpy as np
import pandas as pd

from facekit.course import lesson, plots
from facekit.evaluation import classify, identification, statistics
from facekit.evaluation.embed import embed
from facekit.sources import open_course
from facekit.submission import csvs, pipeline

course = open_course()
run = lesson.trained_run(course)  # only read if finished

# %% [markdown]
# ## Predict: classification
#
# The network looks at each test image and at its mirror image, and the class
# with the highest sum of both logits is the answer. *What is the label that is
# handed in: the name over the picture, or something else?*
#
# <details><summary>Answer</summary>
#
# The *index* of that name among all class names, sorted.
#
# </details>

# %% alt="Twenty test images, over each the name of the class that is handed in"
labels = pipeline.classify_test(run, course)
titles = [course.classes[label] for label in labels[:20]]
plots.montage(course.test.paths[:20], titles, title="What we hand in");

# %% [markdown]
# The id of a row is the *file name* of the test image, and the label is the
# index of the class among all classes, sorted. Both come from the files that
# are there, never from a range of numbers.

# %%
classification = run.folder / "classification.csv"
csvs.write_classification(classification, course.test.names, labels)
print(classification.read_text()[:60], "...")

# %% [markdown]
# ## Who is taken for whom?
#
# Nobody tells whether a test image is right. Of the dev images we know it, and
# they are others of the same classes. *Would you rather look at the mistakes
# on the test images, if you could? What would you do with what you see?*
#
# <details><summary>Answer</summary>
#
# Better not: whoever changes a network by what the test images show has trained on them,
# and their score says no more what new images would.
#
# </details>

# %% alt="Eight dev images, below each a training image of its class and of the answer"
truth, said = np.array(course.dev.labels), classify(run, course.dev.paths)
shown = np.argsort(said == truth, kind="stable")[:8]  # mistakes come first
first = np.searchsorted(course.train.labels, [truth[shown], said[shown]])
plots.montage([course.dev.paths[i] for i in shown]
              + [course.train.paths[i] for i in first.ravel()],
              columns=8, title="Dev image, its class, our answer");

# %% [markdown]
# Above the dev image, below it a training image of its own class, then one of our
# answer. Where the two lower faces are the same, the answer was right. These are
# the first mistakes in the order of the files. *What do the upper and the lowest
# face share: hair, hat, glasses, light? And are some people mistaken again and
# again?*
#
# <details><summary>Answer</summary>
#
# The first is for your eyes. The second: see the next cell. With a few dev images of each
# class no pair can be on top by more than a handful. If one person's pictures were *all*
# taken for another's, look at the folders: they may be of one person.
#
# </details>

# %%
confused = pd.DataFrame({"is": np.array(course.classes)[truth],
                         "taken for": np.array(course.classes)[said]})
print(f"{(truth == said).mean():.1%} of {len(truth)} dev images are right")
confused[truth != said].value_counts().head().reset_index()

# %% [markdown]
# ## Predict: verification
#
# Rule and threshold are those you kept in notebook 06, for this very network;
# else the plain rule at its best threshold on the dev probes. They are never
# chosen on the test probes. Row *i* is the *i*-th file of `unknown_test` in
# sorted order.

# %%
dev, decision = pipeline.decide(run, course)
print("\n".join(pipeline.decision_lines(dev, decision)))
answers = pipeline.identify_test(run, course, dev, decision.threshold)
verification = run.folder / "verification.csv"
csvs.write_verification(verification, answers)
print(verification.read_text()[:60], "...")
print("n000000:", answers.count("n000000"), "of", len(answers))

# %% [markdown]
# One ninth of the homework's probes are strangers. A weak network that wants
# nothing but accuracy refuses far fewer (notebook 06). *And what would it mean
# if it refused half of all probes?*
#
# <details><summary>Answer</summary>
#
# That the threshold is too high for accuracy: at least three of four refusals would be of
# people whom it knows.
#
# </details>

# %% [markdown]
# ### Exercise: the two files
#
# Write the text of both submissions. `names` are the file names of the test
# images and `predicted` the name of the class said of each; `classes` are all
# class names, sorted. `identities` are the answers for the sorted files of
# `unknown_test`. Return two strings, classification first: a line `id,label`
# and then a line for each answer, every line with `\n` at its end.

# %%
from facekit.course import exercises


def csv_texts(names, predicted, classes, identities):
    ### BEGIN SOLUTION
    labels = map(classes.index, predicted)
    files = zip(names, labels, strict=True), enumerate(identities)
    return tuple("id,label\n" + "".join(f"{i},{label}\n" for i, label in rows)
                 for rows in files)
    ### END SOLUTION


exercises.exercise("csv_texts", csv_texts)

# %% [markdown]
# ## Check before you send
#
# Kaggle says little about what is wrong with a file, and nothing at all when
# the answers are merely beside the wrong rows. No news is good news here:

# %%
csvs.check(classification, course) + csvs.check(verification, course)

# %% [markdown]
# *What would be found if the rows were shuffled, or one were missing?*
#
# <details><summary>Answer</summary>
#
# Both: the ids tell it. What no check can find are answers numbered in another order than
# they were computed in.
#
# </details>

# %%
spoilt = run.folder / "spoilt.csv"
table = pd.read_csv(verification)
table.iloc[:-1].to_csv(spoilt, index=False)
short = csvs.check(spoilt, course)
mixed = table.sample(frac=1, random_state=0)
mixed.to_csv(spoilt, index=False)
shuffled = csvs.check(spoilt, course)
for problem in short + shuffled:
    print(problem.partition("spoilt.csv: ")[2])

# %% [markdown]
# > **In practice.** The usual faults: a third column, because `to_csv` writes
# > the table's own index unless told `index=False`; ids counted from 1; ids from
# > a range and not from the file names; identities cut out of a path by
# > `split("/")`, which finds none on Windows; ids sorted as words, so that 10
# > comes before 2. One term's starter sent a file that it had never written. And
# > if all the rows are there, a wrong order earns no error, just the score of a
# > coin with 7,001 sides.

# %% [markdown]
# ### Exercise: what is wrong with these ids?
#
# `ids` are the ids of a submission, row by row, and `expected` those it should
# have. Return four values: how many ids are missing, how many are of no test
# image, how many come more than once, and whether (`True`, `False`) all are
# there exactly once but in another order.

# %%
from facekit.course import exercises


def faults(ids, expected):
    ### BEGIN SOLUTION
    missing, extra = set(expected) - set(ids), set(ids) - set(expected)
    twice = sum(ids.count(i) > 1 for i in set(ids))
    shuffled = ids != expected and sorted(ids) == sorted(expected)
    return len(missing), len(extra), twice, shuffled
    ### END SOLUTION


exercises.exercise("faults", faults)

# %% [markdown]
# ## The score
#
# For the embedded faces the answers lie in `data/answers/`. They are for this
# section only: whoever chooses anything by them no longer knows how good the
# network is. The real homework keeps them on Kaggle.

# %%
paths = {"classification": classification, "verification": verification}
reached, counts = pipeline.scores(paths, course), pipeline.test_counts(course)
chance = {task: pipeline.chance(task, course) for task in paths}
pd.DataFrame({"accuracy": reached, "chance": chance, "images": counts})

# %% [markdown]
# Chance is the best answer that is the same for all: one class of all, or always
# `n000000`. Nobody in the pictures of verification was in the training data. Your
# dev accuracy of notebook 04 should be close to the first score.
#
# *The shuffled file has every answer of the other one. What does it score?*
#
# <details><summary>Answer</summary>
#
# By id the same. Row by row a random name is compared with a random name: about one in
# as many as there are names, and a little more where both often say `n000000`.
#
# </details>

# %%
if course.answers:
    right = pd.read_csv(course.answers.verification)["label"].to_numpy()
    by_row = (mixed["label"] == right).mean()
    by_id = csvs.score(spoilt, course.answers.verification)
    print(f"by id {by_id:.1%}, row by row {by_row:.1%}")
spoilt.unlink()

# %% [markdown]
# Kaggle goes by the id, and so do we. That helps against a shuffled file, not
# against answers that were computed in one order and numbered in another.

# %% [markdown]
# ### Exercise: a score by id
#
# `mine` and `truth` are dicts from an id to a label. Return the share of the
# ids of `truth` for which `mine` has the right label. *Some ids may be missing
# in `mine`: should that pay?*
#
# <details><summary>Answer</summary>
#
# No: a missing answer counts as a wrong one, so divide by all ids of `truth`.
#
# </details>

# %%
from facekit.course import exercises


def score_by_id(mine, truth):
    ### BEGIN SOLUTION
    right = [mine.get(i) == label for i, label in truth.items()]
    return sum(right) / len(truth)
    ### END SOLUTION


exercises.exercise("score_by_id", score_by_id)

# %% [markdown]
# ## The grade
#
# A grade is a step: a little more accuracy earns nothing, until it earns all.
# *89.996 % prints as 90.00 %. Which grade is it?*
#
# <details><summary>Answer</summary>
#
# The one below: it is compared before it is rounded.
#
# </details>

# %%
# NBVAL_CHECK_OUTPUT
for task, cutoffs in csvs.CUTOFFS.items():
    print(f"{task}: {cutoffs}")
for accuracy in (0.90, 0.89996, 0.84, 0.82, 0.81):
    print(f"{accuracy:.2%}:", csvs.CUTOFFS["classification"].grade(accuracy))

# %% [markdown]
# The figures belong to the homework's 7,001 people; they were found in one
# student's report of fall 2023. The course without a GPU has fewer people and an
# easier camera, and is graded by the same cut-offs; only the smallest, of 16
# people, has its own.
#
# Other pictures of the same people would give another score. The standard error
# tells how far it strays, two thirds of the time. *The verification cut-offs
# are 6 points apart from MEDIUM to HIGH. Can 360 dev probes tell them apart?
# Can 720 test probes?*
#
# <details><summary>Answer</summary>
#
# Six points are two standard errors of 360 probes, and three of 720: barely, and yes.
# With 36 they would be less than one.
#
# </details>

# %%
# NBVAL_CHECK_OUTPUT
for task, accuracy, count in (("test images", 0.90, 35_005),
                              ("test probes", 0.55, 720),
                              ("dev probes", 0.55, 360),
                              ("dev, 36 only", 0.55, 36)):
    error = statistics.standard_error(accuracy, count)
    print(f"{count:>6} {task:<16} {accuracy:.0%} +- {error:.1%}")

# %% [markdown]
# The same for every number of pictures:

# %% alt="The standard error falls with the number of images, steeply at first"
sizes = pd.Index(np.geomspace(18, 35_005, 100), name="images")
errors = {f"at {share:.0%}": [100 * statistics.standard_error(share, size)
                              for size in sizes] for share in (0.5, 0.9)}
plots.lines(pd.DataFrame(errors, sizes), "How far a score strays",
            "standard error, points", log=True);

# %% [markdown]
# Four times the pictures, half the error. Here are your own two scores between
# the ends of their intervals of 95 %. *Is your grade the network's, or luck?*
#
# <details><summary>Answer</summary>
#
# Where both ends have the same grade, hardly luck. Where they differ, other pictures might
# have given the other grade.
#
# </details>

# %%
for task, accuracy in reached.items():
    cutoffs, whose = csvs.cutoffs_of(task, pipeline.made_for(course.root))
    ends = identification.wilson_interval(accuracy * counts[task],
                                          counts[task])
    low, own, high = (f"{share:.1%} {cutoffs.grade(share)}"
                      for share in (ends[0], accuracy, ends[1]))
    print(f"{task}: {own} ({low} to {high}; {whose} {cutoffs})")

# %% [markdown]
# ### Exercise: accuracy, error, grade
#
# `right` of `count` pictures are right; `cutoffs` is a dict from a grade to the
# least accuracy that earns it, the highest grade first, such as `{"HIGH": 0.9,
# "MEDIUM": 0.84, "LOW": 0.82}`. Return the accuracy, its standard error (the
# root of `accuracy (1 - accuracy) / count`), and the grade, `"below LOW"` where
# no cut-off is reached.

# %%
from facekit.course import exercises


def grade(right, count, cutoffs):
    ### BEGIN SOLUTION
    accuracy = right / count
    error = (accuracy * (1 - accuracy) / count) ** 0.5
    for name, least in cutoffs.items():
        if accuracy >= least:
            return accuracy, error, name
    return accuracy, error, "below LOW"
    ### END SOLUTION


exercises.exercise("grade", grade)

# %% [markdown]
# ## Your own network, handed in
#
# What does your own network of 03 score, after its four epochs in 04? It is read
# from its folder; where there is no run of it yet, it is trained now. *Above or
# below the course's? On which of the two tasks is the difference larger?*
#
# <details><summary>Answer</summary>
#
# It depends on your network. Four epochs are few, so below is no shame. A network that
# knows little still gets a ninth of the probes by refusing.
#
# </details>

# %%
own_run = lesson.trained_own_run(course)
own_paths = pipeline.write_submissions(own_run, course)
own_reached = pipeline.scores(own_paths, course)
print(*own_paths.values(), sep="\n")
pd.DataFrame({"yours": own_reached, "the course's": reached, "chance": chance})

# %% [markdown]
# `write_submissions` is all of this lesson in one call: predict, write, check.
# It raises an error where `csvs.check` finds anything.
#
# ## All your runs
#
# Every run that you hand in stays in its folder with its two files. `note` says
# what a run lacks. *Which change helped, and which is within the standard error
# of the line above?*
#
# <details><summary>Answer</summary>
#
# Compare the column `dev`: its differences are to be larger than two standard errors of a
# difference (notebook 07) before you believe them.
#
# </details>

# %%
from facekit.submission import leaderboard

board = leaderboard.leaderboard(run.folder.parent)
board.round(3)

# %% [markdown]
# ## Twenty hand-ins, and the hidden part
#
# Kaggle's board shows the score of a **public** part of the test rows; the
# **private** part is opened after the end and decides. One published solution of
# this homework speaks of a leaderboard "before 60 %" of the data was added.
#
# Let us hand in twenty times. Each of the twenty is our network with half of the
# numbers of its embedding, drawn at random, and a threshold chosen on dev. *None
# of them was made better than the others. Will the one that leads the public
# part lead the private part, too?*
#
# <details><summary>Answer</summary>
#
# Seldom. It leads because it is a little better *and* because the public rows suited it.
# The luck does not come back on other rows, so its private score is lower on average.
#
# </details>

# %%
if course.answers:
    rng = np.random.default_rng(0)
    half = dev.evidence.gallery.shape[1] // 2
    asked = embed(run, course.unknown_test.paths)
    known, dev_probes = embed(run, course.known.paths), dev.evidence.probes
    hits = []  # of each hand-in: which test rows are right
    for _ in range(20):
        kept = rng.permutation(known.shape[1])[:half]
        tried = identification.similarity(dev_probes[:, kept], known[:, kept])
        line = identification.choose_threshold(tried, dev.truth).value
        scores = identification.similarity(asked[:, kept], known[:, kept])
        named = identification.identify(scores, dev.identities, line)
        hits.append(np.array(named) == right)
    hits = np.array(hits)  # (20, rows)
    boards = []
    for _ in range(200):  # other public parts, each 40 % of the rows
        public = rng.permutation(len(right)) < 0.4 * len(right)
        leads = hits[:, public].mean(1).argmax()
        boards.append([part[leads].mean() for part in
                       (hits[:, public], hits[:, ~public])])
    boards = np.array(boards)

# %% alt="The leader's private score over its public score: mostly below the diagonal"
if course.answers:
    plots.leaders(boards, hits.mean())
    fall = boards[:, 0] - boards[:, 1]
    print(f"the leader of the public part: {boards[0, 0]:.1%}; its private "
          f"part: {boards[0, 1]:.1%}")
    print(f"in 200 draws it falls by {fall.mean():.1%} on average, and in "
          f"{(fall > 0).mean():.0%} of them; all twenty: {hits.mean():.1%}")

# %% [markdown]
# So choose by dev, hand in seldom, and expect the private score to be near the
# mean of what you tried. More rows make the fall smaller; more hand-ins make it
# larger. *By which number, then, would you choose among your own twenty runs?*
#
# <details><summary>Answer</summary>
#
# By dev accuracy: it has rows of its own, and Kaggle's public score adds little to it.
# Whoever tries much looks at dev often, too: then keep a part of dev for the end.
#
# </details>
#
# ## Send it
#
# Once you have joined the two competitions and accepted their rules on Kaggle's
# pages, and your token is in `KAGGLE_API_TOKEN` (never in a notebook: notebooks
# are handed on, and the token with them), this sends both files:
#
# ```sh
# pip install '.[kaggle]'     # in the kit's folder
# facekit submit runs/course --kaggle
# ```
#
# or, in the place of `runs/course`, the folder of your own run.
#
# It writes and checks both files once more, by your decision of notebook 06,
# and sends nothing that would be refused. If Kaggle says no, its words are
# shown: most often the rules were not accepted, or the day's submissions are
# used up, of which there are few. They are for the last question, not the
# first.
#
# **On Colab, Kaggle, a laptop.** On Colab and Kaggle the token belongs into the
# notebook's secrets (the key on the left; *Add-ons*, *Secrets*). They answer to
# the notebook's own cells and not to a command after `!`; there, send with
#
# ```python
# for task, path in paths.items():
#     print(csvs.send(path, task, course, "notebook 08"))
# ```
#
# The files vanish with such a machine: download them, or keep `runs/` on a
# mounted Drive or in Kaggle's output. Your network's cells of 03 go to the top of
# this notebook there, as in 04. Answering takes seconds here; at full size
# 35,005 images go through the network twice, once mirrored, and that asks for a
# GPU.
#
# ## What you should have found

# %%
assert not any(csvs.check(path, course) for path in paths.values())
assert {run.folder.name, own_run.folder.name} <= set(board.index)
assert not any(csvs.check(path, course) for path in own_paths.values())
assert "shuffled" in shuffled[0] and "missing" in short[0]
assert [len(labels), len(answers)] == [*counts.values()]
assert (truth == said).mean() > 5 / len(course.classes), "dev beats chance"
for task, accuracy in reached.items():
    assert accuracy > chance[task], f"{task} beats chance"
if reached:
    assert reached["classification"] > 5 * chance["classification"]
    assert own_reached["classification"] > chance["classification"]
    assert by_id == reached["verification"], "whatever the order"
    assert fall.mean() > 0, "the luck of the public part does not come back"
host.took()

# %% [markdown]
# That is the whole way, from a folder of faces to two scored submissions.
# Better networks, losses and rules are a recipe away: copy a file of
# `facekit/training/recipes/`, change it, `facekit train mine.toml`, and compare.

# %% [markdown]
# ## Summary
#
# - An id is a file's name, and a label is a place in the sorted list of classes.
# - Check a file before you send it: a wrong order earns no error, only a low score.
# - A score is compared with a cut-off before it is rounded.
# - A score has an interval; so has a grade.
# - The best of many hand-ins is partly the luckiest, and falls on hidden rows.
#
# ## Terms
#
# - **submission**: a file with a row `id,label` for each test image
# - **cut-off**: the least accuracy that earns a grade
# - **public, private part**: test rows whose score is shown at once, or at the end
# - **leaderboard**: all hand-ins, sorted by their score
# - **Wilson interval**: an interval of a share that is sensible near 0 and 1, too
#
# ## To read
#
# - Blum and Hardt (2015), [The Ladder: a reliable leaderboard for machine learning competitions](https://arxiv.org/abs/1502.04585)
# - Recht et al. (2019), [Do ImageNet classifiers generalize to ImageNet?](https://arxiv.org/abs/1902.10811)
# - Dwork et al. (2015), [Generalization in adaptive data analysis and holdout reuse](https://arxiv.org/abs/1506.02629)
