# %% [markdown]
# # 01 Data exploration
#
# **You will be able to**
#
# - say what the two tasks ask for, how they are scored, and what each grade takes
# - find your way in the files, and read them with `ImageFolder` and `DataLoader`
# - check whether data can be trusted before a night is spent on it
# - measure how far one gets without learning: the floor for every network
#
# **Before this:** Python with NumPy and pandas. On Kaggle, switch the session's
# internet on first, or the first cell cannot fetch the kit.
#
# **Minutes:** 2 without a GPU, 2 with one; the first time some more, while the
# faces are rendered.
#
# **Points:** 4, one for each exercise that says `right`.
#
# *What makes two pictures of one person differ? And what should a program answer
# when it is shown somebody it has never seen?*
#
# <details><summary>Answer</summary>
#
# Pose, light, expression, hair, age, blur. And it should say that it knows nobody
# like that, which is harder than choosing the most similar one.
#
# </details>

# %% [markdown]
# ## The task
#
# From one picture of a face to the answers of two tasks:

# %% alt="A face, a network, its embedding; from there to a class, or to a known face or nobody"
from facekit.course import diagrams

diagrams.tasks();

# %% [markdown]
# 1. **Classification** (closed set): every face of `test` is one of the people of
#    the training set. You say which.
# 2. **Verification** (open set): `known` has *one* picture of each of some other
#    people. For a face of `unknown_test` you name one of them, or `n000000`:
#    nobody I know. These people are in no training picture.
#
# Both are scored by **accuracy**, the share of right answers:
#
# $$\mathrm{accuracy} = \frac{\text{right answers}}{\text{all answers}}$$
#
# In verification an answer is right if it is the right name, or `n000000` for a
# stranger.
#
# The data lies in `data/`. Where there is none yet, the next cell makes the
# embedded default: faces that facekit renders itself. Nobody was photographed for
# it, and since we made the test sets we know the answers.

# %%
from pathlib import Path

import numpy as np
import pandas as pd
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

from facekit import faces
from facekit.course import baselines, plots, widgets
from facekit.data import NO_MATCH, SPLITS, images
from facekit.faces import sheet
from facekit.sources import health, open_course, profiles
from facekit.submission import cutoffs

pd.set_option("display.max_colwidth", None)  # show sentences whole

course = open_course(pairs=False)
profile = profiles.profile().value
print(course, f"profile: {profile.name}", sep="\n")

# %% [markdown]
# A score earns a grade by these cut-offs. *Which task has the lower ones, and
# why?*
#
# <details><summary>Answer</summary>
#
# Verification. The network never saw these people, has one picture of each, and
# must also know when to say nobody.
#
# </details>

# %%
for task in cutoffs.CUTOFFS:
    print(f"{task:15}", *cutoffs.cutoffs_of(task, profile.name))

# %% [markdown]
# ## The files
#
# ```text
# data/
#   11-785-f23-hw2p2-classification/
#     train/  n000031/  0001_01.jpg ...     a folder for each person
#     dev/    n000031/  ...                 the same people, other pictures
#     test/   000000.jpg ...                the same people, no names
#     classification_sample_submission.csv
#   11-785-f23-hw2p2-verification/
#     known/         n000012/  ...          other people, one picture each
#     unknown_dev/   000000.jpg ...         who they are: verification_dev.csv
#     unknown_test/  000000.jpg ...         no names
#     verification_dev.csv
#     verification_sample_submission.csv
# ```
#
# (The names are examples.) Made data has the answers, too, in `answers/`, and a
# `manifest.json` that says how it was made. This is what is there:

# %%
for split in SPLITS:
    paths = getattr(course, split).paths
    print(f"{split:13}{len(paths):7,} images, such as",
          paths[0].relative_to(course.root))

# %%
per_class = pd.Series(course.train.labels).value_counts()
print(f"{len(course.classes)} classes, {per_class.min()} to "
      f"{per_class.max()} training images each")
print("label 0 is the folder", course.classes[0])

# %% [markdown]
# *What would PyTorch make of these folders?* torchvision's `ImageFolder` takes
# one folder a class; a `DataLoader` makes batches of it. `course.train` is the
# kit's own list of the same files.
#
# <details><summary>Answer</summary>
#
# The same: the names of the folders, sorted as text, are the classes, and the
# files of a class follow in sorted order. The cell below compares all of them.
#
# </details>

# %%
folder = ImageFolder(course.train.paths[0].parent.parent, ToTensor())
batch, labels = next(iter(DataLoader(folder, batch_size=8)))
print(tuple(batch.shape), labels.tolist())
listed = tuple(Path(path) for path, _ in folder.samples)
same_order = listed == course.train.paths
same_labels = folder.targets == list(course.train.labels)
print("the same order:", same_order, " the same labels:", same_labels)

# %% [markdown]
# ### Exercise: from a folder to a label
#
# *Folders `n2` and `n10`: which is class 0?*
#
# <details><summary>Answer</summary>
#
# `n10`. As text, `1` comes before `2`.
#
# </details>
#
# Write the labels of some files. `paths` is a list of paths such as
# `train/n10/7.jpg`, in any order; a path's folder is named
# `path.parent.name`. The label is the place of that name among all the names
# that occur, sorted as text. Return a list of integers, one for each path.

# %%
from facekit.course import exercises


def class_indices(paths):
    ### BEGIN SOLUTION
    classes = sorted({path.parent.name for path in paths})
    return [classes.index(path.parent.name) for path in paths]
    ### END SOLUTION


exercises.exercise("class_indices", class_indices)

# %% [markdown]
# > **In practice.** Every network ends in numbers, and somebody must know
# > which number was whom. Homework code often takes names from the order of a
# > `glob`, test ids from a `range`, and an identity from `split("/")[-2]`.
# > That works until there is a gap in the numbers, an `.ipynb_checkpoints` in the
# > folder (`os.listdir` and `Path.glob` list it: it becomes class 0 and moves
# > every label by one; `glob.glob` leaves it out), or Windows
# > with its other slash. The loss curve looks healthy all the while; the
# > submission scores like chance. facekit reads names from the files that
# > are there and checks row *i* of each table against file *i*.

# %% [markdown]
# ## Look first
#
# One training picture of each of the first twenty people. *Which of them
# would you confuse?*
#
# <details><summary>Answer</summary>
#
# There is no right answer. Note whom you chose, and why: hair, age, glasses? A
# network may choose others.
#
# </details>

# %% alt="Twenty faces in two rows, each of another person, names above"
by_class = pd.Series(course.train.paths).groupby(list(course.train.labels))
first, names = by_class.first().head(20), course.classes[:20]
plots.montage(list(first), names, title="One image of each person");

# %% [markdown]
# Now two people, up to ten pictures each, a row a person. *What changes from
# picture to picture, and what stays?*
#
# <details><summary>Answer</summary>
#
# Turn of the head, light, expression and background change; the proportions of
# the face stay. A program must ignore the first and find the second.
#
# </details>

# %% alt="Two rows of faces: one person above, another below"
each = min(10, *by_class.size()[:2])
two = [*by_class.get_group(0)[:each], *by_class.get_group(1)[:each]]
plots.montage(two, columns=each, title=f"{names[0]} above, {names[1]} below");

# %% [markdown]
# The same for everybody: choose a split, then go through its people or its
# pages. For `train` and `dev` the number of a person is the *label* that a
# network will be asked for. *In which splits can you only go by page, and
# why? Who is person 0 of `unknown_dev`?* (Where sliders do not work, such as
# on GitHub, the picture above shows the first two people.)
#
# <details><summary>Answer</summary>
#
# In `test` and `unknown_test`: their names are not handed out. For `unknown_dev`
# they are, in a table.
#
# </details>

# %% alt="A page of faces of one person, chosen with a slider"
widgets.montages(course)

# %% [markdown]
# ## People who do not exist
#
# Where do such faces come from? facekit has a model of heads, hair, light and
# film, and a picture is `render(person, shot)`: two whole numbers, one for who
# it is and one for how the photograph was taken. The same numbers give the
# same picture on every machine.
#
# This part renders its own people, so it also works where `data/` holds
# photographs. They live in another *world* than the course's people: with
# `seed=0` we would be looking at the very people of the hidden test sets.
#
# Everybody as for a passport, with the same light and no smile. *Describe one
# of them in a sentence, so that somebody else can point at the right one.
# Which words did you need?*
#
# <details><summary>Answer</summary>
#
# Most sentences name hair, beard, glasses or a hat, of which some can change from
# day to day. Few name the distance of the eyes or the shape of the jaw.
#
# </details>

# %% alt="Twenty-four plain portraits, all from the front in the same light"
world = 1  # the course's people live in world 0
portraits = sheet.people(24, size=112, seed=world)
plots.montage(portraits, columns=8, title="As for a passport");

# %% [markdown]
# Now the first four of them on eight occasions, a row a person. *Which words
# of your sentence still hold in every picture of the row? Would you have
# called it one person, without being told?*
#
# <details><summary>Answer</summary>
#
# Words about bones and skin hold. Words about light, expression and what is worn
# may not.
#
# </details>

# %% alt="Four rows of eight faces, a person a row, with varied pose and light"
occasions = sheet.shots(4, 8, size=112, seed=world)
plots.montage(occasions, columns=8, title="A row a person");

# %% [markdown]
# We need not guess what stays, we can ask. Here are a few numbers behind the
# top row, a column a picture. *Before you run it: which of these eight lines
# will be constant?*
#
# <details><summary>Answer</summary>
#
# The first four, which make the person. The last four make the shot.
#
# </details>

# %%
who, how = faces.parameters([0] * 8, range(8), seed=world)
some = ["age", "tone", "jaw_width", "nose_tip",  # the person
        "yaw", "smile", "exposure", "blur"]  # the shot
print(f"{len(who)} numbers make a person, {len(how)} a shot")
pd.DataFrame({name: (who | how)[name] for name in some}).T.round(2)

# %% [markdown]
# Your turn: twelve pictures of four people, three of each, shuffled. *Sort
# them, and write your four groups of letters down, before you go on. What
# did you look at? What misled you?* (The solution stands at the end of the next
# section.)
#
# <details><summary>Answer</summary>
#
# Most people look at hair, skin and light first, and light misleads. Your groups
# are checked below.
#
# </details>

# %% alt="Twelve faces, lettered A to L, four people in a shuffled order"
puzzle, person = sheet.puzzle(4, 3, first=24, size=112, seed=world)
plots.montage(puzzle, "ABCDEFGHIJKL", columns=6, title="Who is who?");

# %% [markdown]
# ## One knob at a time
#
# In a photograph everything changes at once. Here we may turn one number and
# hold all the others. First some of the shot's: the head's turn, where the
# light stands, the exposure, smile and mouth. *All six pictures of a row
# show one person. In which row would a program that compares pixels find that
# hardest to believe?*
#
# <details><summary>Answer</summary>
#
# Where most pixels change: in those of light, exposure and turn, not in those of
# the mouth. The bars below measure it.
#
# </details>

# %% alt="Five rows of six faces; in each row one thing about the shot changes"
knobs = ["yaw", "key_x", "exposure", "smile", "mouth_open"]
shots = sheet.close_ups(knobs, 3, seed=world)
plots.rows_of_images(shots, "Always one person");

# %% [markdown]
# Now some of the person's, from one end of the range to the other; `nose_tip`
# is how far the nose stands out. *Where in a row does somebody else begin?
# Which of these numbers could you read off a photograph, and which not?*
#
# <details><summary>Answer</summary>
#
# There is no border: it is we who decide how different two people are. Tone can
# be read only if the light is known, and how far a nose stands out not from the
# front.
#
# </details>

# %% alt="Five rows of six faces; in each row one trait of the person changes"
people = sheet.close_ups(
    ["age", "tone", "jaw_width", "mouth_width", "nose_tip"], 3, seed=world)
plots.rows_of_images(people, "Somebody else at each end");

# %% [markdown]
# How much does each knob change the *picture*? The bars compare the two ends
# of each row, pixel by pixel. *Guess first: will the person's knobs or the
# shot's have the longer bars? What does that mean for a program that compares
# pixels?*
#
# <details><summary>Answer</summary>
#
# Turn, light and exposure have long bars; of the person's knobs only tone has. So
# pixels mostly say how a picture was taken, not who is in it.
#
# </details>

# %% alt="Ten bars: tone, exposure, yaw and key_x long, the other six short"
moved = {knob: (row[-1].float() - row[0].float()).abs().mean().item()
         for knob, row in (shots | people).items()}
plots.bars(moved, "From one end of a knob to the other", "grey levels");

# %% [markdown]
# A jaw, a mouth or a nose changes few pixels, and a nose that stands out hardly
# shows from the front at all. That is the whole difficulty of this course: **most
# differences that matter are smaller than those that do not.** A network has to
# learn which are which.
#
# The skin's tone is the exception: it moves as many pixels as light does. *A
# dark picture: dark skin, or little light? What will a program do that cannot
# tell, and who pays for it?*
#
# <details><summary>Answer</summary>
#
# It confuses people of dark skin with each other, and with others in little
# light. So an accuracy must also be looked at for each skin tone.
#
# </details>

# %% [markdown]
# ### Who was who
#
# The solution of the puzzle above, a row a person:

# %% alt="The same twelve faces in four rows, three of one person in each"
rows = person.argsort(stable=True)
letters = ["ABCDEFGHIJKL"[row] for row in rows]
plots.montage(puzzle[rows], letters, columns=3, title="Who was who");

# %% [markdown]
# ## What is known for free
#
# Somebody who labels photographs by hand needs minutes for what a renderer
# knows anyway: where the eyes, the nose, the mouth and the chin lie, and what
# each pixel shows. *One eye is hidden when a head is turned far. Where should
# its point be?*
#
# <details><summary>Answer</summary>
#
# Here it stays where the eye is in space, behind the nose. Another data set may
# leave hidden points out.
#
# </details>

# %% alt="Five faces with points on eyes, nose, mouth and chin; coloured parts"
which = {"person": [0, 0, 2, 3, 6], "shot": [2, 6, 4, 1, 3],
         "size": 112, "seed": world}
points, parts = faces.landmarks(**which), faces.parts(**which)
plots.answers(faces.render(**which), points, parts, faces.PARTS);

# %% [markdown]
# These are truths about the head, not about what can be seen. Such answers serve
# to cut faces out, to straighten them, or to ask what a network looks at. The
# homework hands out none of them, only names.

# %% [markdown]
# ## Can the files be trusted?
#
# A truncated file found now costs a second; found in epoch 37 it costs a
# night. A picture that is in train *and* dev costs more, because nobody
# notices: it makes the accuracy better than it is. *What else can be odd about
# an image file?*
#
# <details><summary>Answer</summary>
#
# It may be grey, have a fourth channel, be turned by a note in the file, be of
# another size, be no image at all, or be hidden.
#
# </details>

# %%
odd = health.examine(course.root)
odd

# %% [markdown]
# An empty table is a good one. To see what it would say, here are copies of
# four pictures: one is there twice, one is cut off after 500 bytes, one was
# saved as grey, and a text file lies beside them. That gives four lines. *Which
# would have stopped your training, and which would have slipped through?*
#
# <details><summary>Answer</summary>
#
# The unreadable one stops it, when it is read. The twin, the grey picture and the
# note slip through most loops.
#
# </details>

# %%
# NBVAL_CHECK_OUTPUT
spoilt = health.demonstrate(course)
spoilt.drop(columns="example")

# %% [markdown]
# ## Numbers for the normalisation
#
# Networks learn best from values around zero with a spread around one, so we
# need the mean and the standard deviation of each channel. There are two ways
# to average the latter, and they differ: the spread of *all pixels* is what
# normalisation wants; the mean of each picture's own spread leaves out that
# some pictures are dark and others bright.

# %%
statistics = images.channel_statistics(course.train.paths[:500])
pd.DataFrame(statistics, index=["red", "green", "blue"]).T.round(4)

# %% [markdown]
# ### Exercise: the spread of all pixels
#
# *A black picture and a white one: how large is the spread within each, and
# how large over both?*
#
# <details><summary>Answer</summary>
#
# Zero within each. Over both, half of the values are 0 and half are 1: 0.5.
#
# </details>
#
# `images` are `uint8` of shape (N, H, W, 3). Return
# the mean and the standard deviation of each channel over all pixels of all
# pictures, with grey levels scaled to 0 ... 1: two arrays of shape (3,).

# %%
from facekit.course import exercises


def channel_moments(images):
    ### BEGIN SOLUTION
    pixels = images.reshape(-1, 3) / 255
    return pixels.mean(0), pixels.std(0)
    ### END SOLUTION


exercises.exercise("channel_moments", channel_moments)

# %% [markdown]
# ## Nobody I know
#
# Twelve faces of `unknown_dev` with their truth. Row *i* of
# `verification_dev.csv` is about the *i*-th file in sorted order. *Roughly
# what share is `n000000`?*
#
# <details><summary>Answer</summary>
#
# Twelve are too few to tell. Over all it is one ninth, as the next cell counts.
#
# </details>

# %% alt="Twelve faces, above each its identity, n000000 for a stranger"
plots.montage(course.unknown_dev.paths[:12], course.unknown_dev.labels[:12],
              columns=6, title="Unknown faces and who they are");

# %%
# NBVAL_CHECK_OUTPUT
truth = np.array(course.unknown_dev.labels)
strangers = (truth == NO_MATCH).mean()
print(f"{strangers:.1%} of the unknown faces match nobody")

# %% [markdown]
# ### Exercise: two bounds without a face
#
# *What does a program score that always says `n000000`? And how much can one
# score at best that never says it?*
#
# <details><summary>Answer</summary>
#
# The first is right about strangers only, the second at best about all others:
# the two shares add up to 1.
#
# </details>
#
# `truth` is a list of names. Return both accuracies, as shares of all faces.

# %%
from facekit.course import exercises


def bounds(truth):
    ### BEGIN SOLUTION
    strangers = truth.count("n000000") / len(truth)
    return strangers, 1 - strangers
    ### END SOLUTION


exercises.exercise("bounds", bounds)

# %% [markdown]
# One face in nine is a stranger, as in the homework. A score between the two
# bounds tells little until one knows which kind of mistake is behind it
# (notebook 06).
#
# ## How far does one get without learning?
#
# Shrink each picture to 32 x 32 grey pixels, take out brightness and
# contrast, and answer with the training picture that looks most alike. *Guess
# the accuracy before you run it: is it nearer to chance, or to 90 %?*
#
# <details><summary>Answer</summary>
#
# Above chance, since some pictures of a person are taken alike, and far from what
# a network can do.
#
# </details>

# %%
chance = 1 / len(course.classes)
guesses = baselines.nearest_class(course, course.dev.paths)
floor = (guesses == course.dev.labels).mean()
print(f"nearest neighbour {floor:.1%}, chance {chance:.1%}")

# %% [markdown]
# Pixels that look alike are mostly alike in light, pose and background, just
# as the bars above foretold. Here are some mistakes: each dev face above, a
# picture of the person that it was taken for below.

# %% alt="Ten dev faces above, below each the person it was taken for"
wrong = np.flatnonzero(guesses != course.dev.labels)[:10]
lookalike = [by_class.get_group(label).iloc[0] for label in guesses[wrong]]
asked = [course.dev.paths[row] for row in wrong]
plots.montage([*asked, *lookalike], columns=len(wrong),
              title="Asked above, an image of the answer below");

# %% [markdown]
# The same for the open set: pixels, one gallery picture a person.

# %%
right = baselines.nearest_known(course)
print(f"right identity first: {right.mean():.1%} of {len(right)} probes, "
      f"chance {1 / len(course.known):.1%}")

# %% [markdown]
# ## What makes it hard?
#
# How far the shots of one person differ is a choice. facekit has three, in a
# table of `facekit/faces/shot.py`; each profile names one. Below is the same
# person on the same eight occasions. *What is turned up from row to row?*
#
# <details><summary>Answer</summary>
#
# How far the head turns, how uneven the light is, how strong expression and blur
# are, and what covers the face.
#
# </details>

# %% alt="Three rows of eight faces of one person, harder from row to row"
print(f"profile {profile.name} is of the level {profile.difficulty}")
rows = {level: sheet.shots(1, 8, 3, 112, world, difficulty=level)
        for level in faces.DIFFICULTIES}
plots.rows_of_images(rows, "The same person, the same occasions");

# %% [markdown]
# Take ten people and eight shots of each, 32 x 32 grey pixels as before: how
# often is the most similar *other* picture one of the same person? This
# measure needs neither a training set nor labels before the last step, and
# you will need it for embeddings again.

# %% [markdown]
# ### Exercise: the nearest other
#
# *What is most similar to a picture, if you leave nothing out?*
#
# <details><summary>Answer</summary>
#
# The picture itself, so it must be left out.
#
# </details>
#
# `vectors` is
# an array (N, D). Return for each vector the index of the other vector at the
# smallest angle, an integer array (N,). The cosine of the angle between two
# vectors is their product after both were brought to length 1.

# %%
import numpy as np

from facekit.course import exercises


def nearest_other(vectors):
    ### BEGIN SOLUTION
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = (vectors / lengths) @ (vectors / lengths).T
    np.fill_diagonal(cosine, -np.inf)
    return cosine.argmax(1)
    ### END SOLUTION


exercises.exercise("nearest_other", nearest_other)

# %% [markdown]
# `baselines.rank_1` does that with the pixels and counts. *Sketch the three bars
# before you run it. Where is chance?*
#
# <details><summary>Answer</summary>
#
# Of the 79 other pictures 7 are right: chance is 7/79, about 9 %. The easy level
# has the highest bar.
#
# </details>

# %% alt="Three bars, the highest for the easy level, and a dotted line of chance"
pixel_floor = {
    level: baselines.rank_1(sheet.shots(10, 8, 0, 32, world, level),
                         np.arange(80) // 8)
    for level in faces.DIFFICULTIES}
plots.bars(pixel_floor, "Right by pixels alone", "share", chance=7 / 79);

# %% [markdown]
# The people are the same in all three bars, so **a floor belongs to the pictures, not to
# the method alone.** Whoever reports an accuracy must say on what; whoever
# reads one should ask how far pixels get there. Eighty pictures are few: with
# other people the bars move by some hundredths, and the two harder levels may
# change places.
#
# ## What these people do not stand for
#
# Some day your network will be right about nearly all of these faces. *What
# may it then be used for? What can you say about how it treats real people?*
#
# <details><summary>Answer</summary>
#
# For learning how recognition works. About real people you can say nothing.
#
# </details>
#
# - The people come from a table of means and spreads and from the habits of
#   those who wrote it. They are no sample of any population. Skin tones are
#   spread evenly and the sexes are even so that nobody is rare, not because
#   any place on earth looks like that.
# - Nobody here is a child, has a scar or wears a headscarf; skin looks like
#   that of a computer game; few hair styles have to do for everybody.
# - So an accuracy on these faces, also one for each skin tone, says nothing
#   about photographs. A network that is fair here may be unfair out there,
#   and nothing here would tell you.
# - It is for learning how recognition works. It is not for recognising real
#   people, and least of all for deciding anything about them.
#
# The [model card](../facekit/faces/MODEL_CARD.md) says more. Read it, then
# write down one group of people whom it leaves out and does not mention.

# %% [markdown]
# **On Colab, Kaggle, a laptop.** Only the number of people and of pixels
# differs: with a GPU the course has 1,000 people of 112 pixels, without one
# 300 of 96, and rendering them takes minutes. `./data_setup.sh
# --profile homework` makes the full 7,001 anywhere; set
# `FACEKIT_PROFILE=homework` for the notebooks, too. With the real data of
# your class unpacked in `data/`, this notebook runs as it is, and looking at
# every file for oddities is what it spends its time on.
#
# ## What you should have found
#
# These lines fail when your data is not what this notebook describes, or when
# the rendered people do not behave as it says.

# %%
assert same_order and same_labels, "ImageFolder reads it the same way"
assert set(course.train.labels) == set(range(len(course.classes)))
assert 0.05 < strangers < 0.2, "about one ninth match nobody"
assert not set(course.known.labels) & set(course.classes)
assert "error" not in set(odd["severity"]), "training would stop, or lie"
assert {"unreadable", "duplicate", "grey", "stray"} <= set(spoilt["what"])
assert (statistics["std"] >= statistics["std within"]).all()
assert 1.5 * chance < floor < 0.9, "pixels help, and leave much to learn"
assert all((kept == kept[0]).all() for kept in who.values()), "one person"
assert (how["yaw"] != how["yaw"][0]).any(), "but not one image"
long = {"tone", "exposure", "yaw", "key_x"}
assert set(sorted(moved, key=moved.get)[-4:]) == long, "the long bars"
assert pixel_floor["easy"] > pixel_floor["hard"] > 0.5 * 7 / 79
assert points.shape == (5, len(faces.LANDMARKS), 2)
host.took()

# %% [markdown]
# ## Summary
#
# - Classification names one of the people of the training set; verification names
#   one of the known faces, or nobody.
# - The label of a person is the place of the folder's name in sorted order.
# - Look at every file before you train: damaged, double and grey ones cost time or
#   truth.
# - How a picture was taken changes more pixels than who is in it.
# - A floor without learning says what an accuracy is worth, on these pictures.
#
# ## Terms
#
# - **closed set**: every face is one of the people known; **open set**: it may be
#   a stranger
# - **gallery**: the known faces, here `known`; **probe**: a face that is asked about
# - **split**: a part of the data, such as `train`, `dev` and `test`
# - **embedding**: a vector that describes a face
# - **chance**: the accuracy of guessing
# - **cut-off**: the accuracy from which on a grade is given
#
# ## To read
#
# - Huang, Ramesh, Berg, Learned-Miller (2007), [Labeled Faces in the
#   Wild](https://vis-www.cs.umass.edu/lfw/)
# - Cao et al. (2018), [VGGFace2: A dataset for recognising faces across pose and
#   age](https://arxiv.org/abs/1710.08092)
# - Buolamwini, Gebru (2018), [Gender
#   Shades](https://proceedings.mlr.press/v81/buolamwini18a.html)
#
# Next: [02, what training gets to see](02_augmentation_previews.ipynb).
