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
# **Minutes:** 1 without a GPU, 1 with one. Three more on a laptop, or up to an
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
from facekit.evaluation.embed import embed, pair_scores
from facekit.evaluation.verification import eer
from facekit.sources import open_course
from facekit.submission import csvs, cutoffs, form_of, pairs, pipeline

course = open_course()
run = lesson.trained_run(course)  # only read if finished
form = form_of(course)  # of what is handed in: two files, or one of pairs

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
# are there, never from a range of numbers. (Terms with pairs do not ask for this
# file, and hand the labels of their test images out.)

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
first = [course.train.labels.index(label)
         for label in (*truth[shown], *said[shown])]
plots.montage([course.dev.paths[i] for i in shown]
              + [course.train.paths[i] for i in first],
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
#
# **With pairs** there is nothing to choose: row *i* is the *i*-th pair of the list,
# and its label is the score itself, the cosine. Not 0 or 1: the EER is found by
# moving a threshold through all scores, and two values leave it no room.

# %%
verification = run.folder / form.FILES["verification"]
if course.has_pairs:
    answers = pair_scores(run, course.pairs_test)
    pairs.write(verification, answers)
else:
    dev, decision = pipeline.decide(run, course)
    print("\n".join(pipeline.decision_lines(dev, decision)))
    answers = pipeline.identify_test(run, course, dev, decision.threshold)
    csvs.write_verification(verification, answers)
    print("n000000:", answers.count("n000000"), "of", len(answers))
print(verification.read_text()[:60], "...")

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
csvs.check(classification, course) + form.check(verification, course)

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
short = form.check(spoilt, course)
mixed = table.sample(frac=1, random_state=0)
mixed.to_csv(spoilt, index=False)
shuffled = form.check(spoilt, course)
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
paths = {task: run.folder / name for task, name in form.FILES.items()}
reached, counts = form.scores(paths, course), form.test_counts(course)
chance = {task: form.chance(task, course) for task in paths}
pd.DataFrame({"score": reached, "chance": chance, "rows": counts})

# %% [markdown]
# A score is an accuracy, and of pairs an equal error rate, of which less is better.
# Chance is the best answer that is the same for all: one class of all, or always
# `n000000`; with pairs a coin. Nobody in the pictures of verification was in the
# training data. Your dev accuracy of notebook 04 should be close to the score of
# classification.
#
# *The shuffled file has every answer of the other one. What does it score?*
#
# <details><summary>Answer</summary>
#
# By id the same. Row by row a random name is compared with a random name: about one in
# as many as there are names, and a little more where both often say `n000000`. Scores
# of pairs that say nothing about their rows are a coin: about one half.
#
# </details>

# %%
def share_right(answers, right):
    """The accuracy of names; of the scores of pairs, 1 - EER."""
    if course.has_pairs:
        return 1 - eer(answers, right)[0]
    return (answers == right).mean()


if course.answers:
    right = pd.read_csv(course.answers.verification).iloc[:, 1].to_numpy()
    by_row = share_right(mixed.iloc[:, 1].to_numpy(), right)
    by_id = share_right(mixed.sort_index().iloc[:, 1].to_numpy(), right)
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
for task, levels in cutoffs.CUTOFFS.items():
    print(f"{task}: {levels}")
levels = cutoffs.CUTOFFS["classification"]
for share in (0.90, 0.89996, 0.84, 0.82, 0.81):
    print(f"{share:.2%}: {levels.grade(share)}, {levels.points(share):.2f} "
          f"points, {levels.points(share, best=0.93):.2f} with a bonus")

# %% [markdown]
# **Points** are no steps, as the homework gives them today: 90 for HIGH, 70 for MEDIUM,
# 50 for LOW, 30 for VERY LOW where a term has it, straight lines between, and up to
# 5 more from HIGH to the best of the class (here one of 93 %). Only below the last
# cut-off there are none.
#
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
# Four times the pictures, half the error. Here are your own scores, their points, and
# the points at the ends of the score's interval of 95 %. (Of an EER the interval comes
# from drawing the pairs again, as in 06.) *Are your points the network's, or luck?*
#
# <details><summary>Answer</summary>
#
# As far as the interval is wide they are luck: other pictures of these people might have
# given any of the points in it.
#
# </details>

# %%
print("\n".join(form.scoreboard(paths, course)))

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
# What does your own network of 03 score, after its four epochs there? It is read
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
own_paths = form.write_submissions(own_run, course)
own_reached = form.scores(own_paths, course)
print(*own_paths.values(), sep="\n")
pd.DataFrame({"yours": own_reached, "the course's": reached, "chance": chance})

# %% [markdown]
# `write_submissions` is all of this lesson in one call: predict, write, check.
# It raises an error where `check` finds anything.
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
# numbers of its embedding, drawn at random, and a threshold chosen on dev (with pairs
# none, and a score is 1 - EER). *None of them was made better than the others. Will
# the one that leads the public part lead the private part, too?*
#
# <details><summary>Answer</summary>
#
# Seldom. It leads because it is a little better *and* because the public rows suited it.
# The luck does not come back on other rows, so its private score is lower on average.
#
# </details>

# %%
def hand_in(asked, known, probes=None):
    """The answers by these embeddings: names, or with pairs a score each."""
    scores = identification.similarity(asked, known)
    if course.has_pairs:
        return scores.diagonal()  # each first image with its second
    of_dev = identification.similarity(probes, known)
    line = identification.choose_threshold(of_dev, dev.truth).value
    return np.array(identification.identify(scores, dev.identities, line))

# %%
if course.answers:
    rng, tried, boards = np.random.default_rng(0), [], []
    sets = ([course.pairs_test.first, course.pairs_test.second]
            if course.has_pairs else
            [course.unknown_test, course.known, course.unknown_dev])
    faces = [embed(run, list(paths)) for paths in sets]
    for _ in range(20):
        kept = rng.permutation(faces[0].shape[1])[::2]
        tried.append(hand_in(*(part[:, kept] for part in faces)))
    for _ in range(200):  # other public parts, each 40 % of the rows
        public = rng.permutation(len(right)) < 0.4 * len(right)
        shown = [share_right(each[public], right[public]) for each in tried]
        best = tried[np.argmax(shown)][~public]
        boards.append([max(shown), share_right(best, right[~public])])
    boards = np.array(boards)
    mean = np.mean([share_right(each, right) for each in tried])

# %% alt="The leader's private score over its public score: mostly below the diagonal"
if course.answers:
    plots.leaders(boards, mean)
    fall = boards[:, 0] - boards[:, 1]
    print(f"the leader of the public part: {boards[0, 0]:.1%}; its private "
          f"part: {boards[0, 1]:.1%}")
    print(f"in 200 draws it falls by {fall.mean():.1%} on average, and in "
          f"{(fall > 0).mean():.0%} of them; all twenty: {mean:.1%}")

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
# first. (The competitions of the terms with pairs have no name that is known: upload
# `pairs.csv` on their page.)
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
assert not any(form.check(path, course) for path in paths.values())
assert {run.folder.name, own_run.folder.name} <= set(board.index)
assert not any(form.check(path, course) for path in own_paths.values())
assert "shuffled" in shuffled[0] and "missing" in short[0]
assert [len(labels), len(answers)] == [len(course.test),
                                       counts["verification"]]
assert (truth == said).mean() > 5 / len(course.classes), "dev beats chance"
better = np.less if course.has_pairs else np.greater
for task, score in reached.items():
    assert better(score, chance[task]), f"{task} beats chance"
if reached:
    first, last = next(iter(reached)), reached["verification"]
    assert better(own_reached[first], chance[first]), "yours, too"
    assert abs(by_id - (1 - last if course.has_pairs else last)) < 1e-9
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
#
# Next: [09, why it errs](09_error_analysis.ipynb).
