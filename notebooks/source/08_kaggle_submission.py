# %% [markdown]
# # 08 Kaggle submission
#
# **You will** answer both test sets, check the two files before anybody else
# does, score them where the answers are known, and send them.
#
# *A submission with all the right answers can still score zero. How?*

# %%
import pandas as pd

from facekit import leaderboard, pipeline, plots, recipes, submit, train
from facekit.predict import load_run
from facekit.sources import open_course

course = open_course()
recipe = recipes.load(pipeline.course_recipe(course))
train.fit(recipe, course, pipeline.course_run())  # only read if finished
run = load_run(pipeline.course_run())

# %% [markdown]
# ## Classification
#
# The id of a row is the *file name* of the test image, and the label is the
# index of the class. Both come from the files that are there.

# %%
labels = pipeline.classify_test(run, course)
classification = run.folder / "classification.csv"
submit.write_classification(classification, course.test.names, labels)
print(classification.read_text()[:60], "...")

# %%
titles = [course.classes[label] for label in labels[:20]]
plots.montage(course.test.paths[:20], titles, title="What we hand in");

# %% [markdown]
# ## Verification
#
# Rule and threshold are those you kept in notebook 06, for this very network;
# else the plain rule at its best threshold on the dev probes. They are never
# chosen on the test probes. Row *i* is the *i*-th file of `unknown_test` in
# sorted order.

# %%
dev, decision = pipeline.decide(run, course)
print("\n".join(pipeline.certainty_lines(dev, decision)))
answers = pipeline.identify_test(run, course, dev, decision.threshold)
verification = run.folder / "verification.csv"
submit.write_verification(verification, answers)
print(verification.read_text()[:60], "...")
print("n000000:", answers.count("n000000"), "of", len(answers))

# %% [markdown]
# ## Check before you send
#
# Kaggle says little about what is wrong with a file, and nothing at all when
# the rows are merely in the wrong order. No news is good news here:

# %%
submit.check(classification, course) + submit.check(verification, course)

# %% [markdown]
# *What would be found if the rows were shuffled, or one were missing?*

# %%
spoilt = run.folder / "spoilt.csv"
table = pd.read_csv(verification)
table.sample(frac=1, random_state=0).to_csv(spoilt, index=False)
shuffled = submit.check(spoilt, course)
table.iloc[:-1].to_csv(spoilt, index=False)
short = submit.check(spoilt, course)
spoilt.unlink()
print(*shuffled, *short, sep="\n")

# %% [markdown]
# ## The score
#
# For the embedded faces the answers lie in `data/answers/`. They are for this
# cell only: whoever chooses anything by them no longer knows how good the
# network is. The real homework keeps them on Kaggle.

# %%
paths = {"classification": classification, "verification": verification}
print("\n".join(pipeline.scoreboard(paths, course)))

# %% [markdown]
# The homework's cut-offs belong to its 7,001 people. Fewer people are easier
# and fewer pictures harder, so the small rendered courses have cut-offs of
# their own: what a simple network reaches, what a published one reaches in
# the same time, and what the kit's recipe reaches. Beat them.
#
# **All your runs beside each other.** Every run that you hand in stays in its
# folder with its two files. *Which change helped, and which is within the
# standard error of the line above?*

# %%
board = leaderboard.leaderboard(run.folder.parent)
board.round(3)

# %% [markdown]
# ## Send it
#
# Once you have joined the two competitions and accepted their rules, and your
# Kaggle token is in `KAGGLE_API_TOKEN` (never in a notebook), this sends both
# files:
#
# ```sh
# pip install 'facekit[kaggle]'     # from a clone: '.[kaggle]'
# facekit submit runs/course --kaggle
# ```
#
# ## What you should have found

# %%
reached = pipeline.scores(paths, course)
assert submit.check(classification, course) == []
assert submit.check(verification, course) == []
assert run.folder.name in board.index
assert "shuffled" in shuffled[0] and "missing" in short[0]
assert len(labels) == len(course.test)
assert len(answers) == len(course.unknown_test)
for task, accuracy in reached.items():
    assert accuracy > pipeline.chance(task, course), f"{task} beats chance"
if reached:
    assert reached["classification"] > 5 * pipeline.chance(
        "classification", course)
host.took()

# %% [markdown]
# That is the whole way, from a folder of faces to two scored submissions.
# Better networks, losses and rules are a recipe away: copy a file of
# `facekit/recipes/`, change it, `facekit train mine.toml`, and compare.
