# %% [markdown]
# # 01 Data exploration
#
# **You will** meet the people of this course and the pictures taken of them,
# learn which file of the homework means what, and measure how far one gets
# without learning anything. That last number is the floor which every network
# of this course has to beat.
#
# *How many people are there? How many pictures of each? What makes two
# pictures of one person differ? And what should a program answer when it is
# shown somebody it has never seen?*

# %% [markdown]
# The course's data lies in `data/`. Where there is none yet, the next line
# makes the embedded default: faces that facekit renders itself. Nobody was
# photographed for it, and since we made the test sets we know the answers.

# %%
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from facekit import faces, floors, health, images, openset, plots, runtime
from facekit.faces import sheet
from facekit.layout import NO_MATCH
from facekit.sources import open_course

# %config InlineBackend.figure_formats = ["jpeg"]  # photographs: small files

course = open_course()
print(course)
print("profile of this machine:", runtime.profile().value.name)

# %% [markdown]
# ## Look first
#
# One training picture of each of the first twenty people. *Which of them
# would you confuse?*

# %%
by_class = pd.Series(course.train.paths).groupby(list(course.train.labels))
first = by_class.first().head(20)
names = [course.classes[label] for label in first.index]
plots.montage(list(first), names, title="One picture of each person");

# %% [markdown]
# Now two people, ten pictures each, a row a person. *What changes from
# picture to picture, and what stays? A program must ignore the first and
# find the second.*

# %%
two = [*by_class.get_group(0)[:10], *by_class.get_group(1)[:10]]
plots.montage(two, columns=10, title=f"{names[0]} above, {names[1]} below");

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

# %%
world = 1  # the course's people live in world 0
portraits = sheet.people(24, size=112, seed=world)
plots.montage(portraits, columns=8);

# %% [markdown]
# Now the first four of them on eight occasions, a row a person. *Which words
# of your sentence still hold in every picture of the row? Would you have
# called it one person, without being told?*

# %%
occasions = sheet.shots(4, 8, size=112, seed=world)
plots.montage(occasions, columns=8);

# %% [markdown]
# We need not guess what stays, we can ask. Here are a few numbers behind the
# top row, a column a picture. *Before you run it: which of these eight lines
# will be constant?*

# %%
shot = torch.arange(8)
who, how = faces.parameters(torch.zeros_like(shot), shot, seed=world)
some = ["age", "tone", "jaw_width", "nose_tip",  # the person
        "yaw", "smile", "exposure", "blur"]  # the shot
print(f"{len(who)} numbers make a person, {len(how)} a shot")
pd.DataFrame({name: (who | how)[name] for name in some}).T.round(2)

# %% [markdown]
# Your turn: twelve pictures of four people, three of each, shuffled. *Sort
# them, and write your four groups of letters down, before you go on. What
# did you look at? What misled you?*

# %%
shuffle = torch.randperm(12, generator=torch.Generator().manual_seed(1))
person = torch.arange(24, 28).repeat_interleave(3)[shuffle]
shot = torch.arange(3).repeat(4)[shuffle]
puzzle = faces.render(person, shot, size=112, seed=world)
plots.montage(puzzle, list("ABCDEFGHIJKL"), columns=6, title="Who is who?");

# %% [markdown]
# A row a person:

# %%
rows = person.argsort(stable=True)
letters = ["ABCDEFGHIJKL"[row] for row in rows]
plots.montage(puzzle[rows], letters, columns=3);

# %% [markdown]
# ## One knob at a time
#
# In a photograph everything changes at once. Here we may turn one number and
# hold all the others. First some of the shot's: the head's turn, where the
# light stands, the exposure, smile and mouth. *All six pictures of a row
# show one person. In which row would a program that compares pixels find that
# hardest to believe?*

# %%
shot_knobs = ["yaw", "key_x", "exposure", "smile", "mouth_open"]
near = (..., slice(34, 142), slice(26, 134))  # cut out the head
turned = {knob: sheet.sweep(knob, 6, person=3, size=160, seed=world)[near]
          for knob in shot_knobs}
plots.rows_of_pictures(turned, "Always one person", side=1.4);

# %% [markdown]
# Now some of the person's, from one end of the range to the other; `nose_tip`
# is how far the nose stands out. *Where in a row does somebody else begin?
# Which of these numbers could you read off a photograph, and which not?*

# %%
person_knobs = ["age", "tone", "jaw_width", "mouth_width", "nose_tip"]
turned |= {knob: sheet.sweep(knob, 6, person=3, size=160, seed=world)[near]
           for knob in person_knobs}
plots.rows_of_pictures({knob: turned[knob] for knob in person_knobs},
                       "Somebody else at each end", side=1.4);

# %% [markdown]
# How much does each knob change the *picture*? The bars compare the two ends
# of each row, pixel by pixel. *Guess first: will the person's knobs or the
# shot's have the longer bars? What does that mean for a program that compares
# pixels?*

# %%
moved = {knob: (row[-1].float() - row[0].float()).abs().mean().item()
         for knob, row in turned.items()}
figure = plots.bars(moved, "From one end of a knob to the other",
                    "grey levels")
figure.axes[0].tick_params(axis="x", rotation=45)

# %% [markdown]
# Turning the head changes far more pixels than another jaw or nose does, and
# a nose that stands out hardly shows from the front at all. That is the whole
# difficulty of this course: **most differences that matter are smaller than
# those that do not.** A network has to learn which are which.
#
# The skin's tone is the exception: it moves as many pixels as light does. *A
# dark picture: dark skin, or little light? What will a program do that cannot
# tell, and who pays for it?*
#
# ## What is known for free
#
# Somebody who labels photographs by hand needs minutes for what a renderer
# knows anyway: where the eyes, the nose, the mouth and the chin lie, and what
# each pixel shows. *One eye is hidden when a head is turned far. Where should
# its point be?*

# %%
which = {"person": [0, 0, 2, 3, 6], "shot": [2, 6, 4, 1, 3],
         "size": 112, "seed": world}
points, parts = faces.landmarks(**which), faces.parts(**which)
plots.answers(faces.render(**which), points, parts, faces.PARTS);

# %% [markdown]
# The point stays where the eye is in space, behind the nose: these are
# truths about the head, not about what can be seen. Such answers serve to cut
# faces out, to straighten them, or to ask what a network looks at. The
# homework hands out none of them, only names.

# %% [markdown]
# ## What was handed out
#
# - **Classification** (closed set): `train` and `dev` have a folder for each
#   person. `test` is flat: every face in it is one of those people, and you
#   say which. The label is the place of the folder in sorted order.
# - **Verification** (open set): `known` has *one* picture of each of some
#   other people. For a face of `unknown_dev` or `unknown_test` you name one
#   of them, or say `n000000`: nobody I know.

# %%
splits = ["train", "dev", "test", "known", "unknown_dev", "unknown_test"]
counts = {name: len(getattr(course, name)) for name in splits}
pd.Series(counts, name="images").to_frame().T

# %%
per_class = pd.Series(course.train.labels).value_counts()
print(f"{len(course.classes)} classes, {per_class.min()} to "
      f"{per_class.max()} training images each")
print("label 0 is the folder", course.classes[0])

# %% [markdown]
# ## Can the files be trusted?
#
# A truncated file found now costs a second; found in epoch 37 it costs a
# night. A picture that is in train *and* dev costs more, because nobody
# notices: it makes the accuracy better than it is. *What else can be odd about
# an image file?*

# %%
odd = health.examine(course.root)
odd

# %% [markdown]
# An empty table is a good one. Four pictures of one person, each spoilt in
# another way, show what it would say. *Which of these would have stopped your
# training, and which would have slipped through?*

# %%
folder = Path(tempfile.mkdtemp()) / course.classification.name / "train/n1"
folder.mkdir(parents=True)
for place, path in enumerate(course.train.paths[:4]):
    shutil.copy(path, folder / f"{place}.jpg")
shutil.copy(folder / "0.jpg", folder / "copy.jpg")
cut = (folder / "1.jpg").read_bytes()[:500]
(folder / "1.jpg").write_bytes(cut)
Image.open(folder / "2.jpg").convert("L").save(folder / "2.jpg")
(folder / "notes.txt").touch()
spoilt = health.examine(folder.parents[2], course.term.name)
shutil.rmtree(folder.parents[2])
spoilt[["severity", "what", "count", "advice"]]

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
# ## Nobody I know
#
# Twelve faces of `unknown_dev` with their truth. Row *i* of
# `verification_dev.csv` is about the *i*-th file in sorted order. *Roughly
# what share is `n000000`?*

# %%
plots.montage(course.unknown_dev.paths[:12], course.unknown_dev.labels[:12],
              columns=6, title="Unknown faces and who they are");

# %%
truth = np.array(course.unknown_dev.labels)
strangers = (truth == NO_MATCH).mean()
print(f"{strangers:.1%} of the unknown faces match nobody")

# %% [markdown]
# So a program that always says `n000000` scores about 11 %, and one that
# never says it cannot score over 89 %.
#
# ## How far does one get without learning?
#
# Shrink each picture to 32 x 32 grey pixels, take out brightness and
# contrast, and answer with the training picture that looks most alike. *Guess
# the accuracy before you run it: is it nearer to chance, or to 90 %?*

# %%
chance = 1 / len(course.classes)
guesses = floors.nearest_class(course, course.dev.paths)
floor = (guesses == course.dev.labels).mean()
print(f"nearest neighbour {floor:.1%}, chance {chance:.1%}")

# %% [markdown]
# Pixels that look alike are mostly alike in light, pose and background, just
# as the bars above foretold. Here are some mistakes: each dev face above, a
# picture of the person that it was taken for below.

# %%
wrong = np.flatnonzero(guesses != course.dev.labels)[:10]
lookalike = [by_class.get_group(label).iloc[0] for label in guesses[wrong]]
asked = [course.dev.paths[row] for row in wrong]
plots.montage([*asked, *lookalike], columns=len(wrong),
              title="Asked above, a picture of the answer below");

# %% [markdown]
# The same for the open set: pixels, one gallery picture a person.

# %%
alike = openset.similarity(floors.grey_vectors(course.unknown_dev.paths),
                           floors.grey_vectors(course.known.paths))
place = openset.truth_indices(truth, course.known.labels)
rank_1 = (alike.argmax(1) == place)[place >= 0].mean()
print(f"right identity first: {rank_1:.1%} of {np.sum(place >= 0)} probes, "
      f"chance {1 / len(course.known):.1%}")

# %% [markdown]
# ## What makes it hard?
#
# How far the shots of one person differ is a choice. facekit has three, in a
# table of `facekit/faces/shot.py`. The course's pictures are made with the
# middle one, those of the small profile `smoke` with the easy one. Below is
# the same person on the same eight occasions. *What is turned up from row to
# row?*

# %%
rows = {level: sheet.shots(1, 8, 3, 112, world, difficulty=level)
        for level in faces.DIFFICULTIES}
plots.rows_of_pictures(rows, "The same person, the same occasions");

# %% [markdown]
# Take ten people and eight shots of each, 32 x 32 grey pixels as before: how
# often is the most similar other picture one of the same person? *Sketch the
# three bars before you run it. Where is chance?*

# %%
person = torch.arange(10).repeat_interleave(8)
shot = torch.arange(8).repeat(10)
pixel_floor = {}
for level in faces.DIFFICULTIES:
    small = faces.render(person, shot, 32, seed=world, difficulty=level)
    alike = torch.corrcoef(small.float().mean(1).flatten(1))
    nearest = person[alike.fill_diagonal_(-1).argmax(1)]  # not with itself
    pixel_floor[level] = (nearest == person).float().mean().item()
figure = plots.bars(pixel_floor, "Right by pixels alone", "share of pictures")
figure.axes[0].axhline(7 / 79, color="black", linestyle=":");

# %% [markdown]
# The dotted line is chance: 7 of the 79 other pictures are right. The people
# are the same in all three bars, so **a floor belongs to the pictures, not to
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
# The [model card](../facekit/faces/MODEL_CARD.md) says more. *Read it, then
# write down one group of people whom it leaves out and does not mention.*

# %% [markdown]
# ## What you should have found
#
# These lines fail when your data is not what this notebook describes, or when
# the rendered people do not behave as it says.

# %%
assert len(course.classes) == len(set(course.classes)) >= 2
assert set(course.train.labels) == set(range(len(course.classes)))
assert len(course.known.labels) == len(set(course.known.labels))
assert set(truth) <= {*course.known.labels, NO_MATCH}
assert 0.05 < strangers < 0.2, "about one ninth match nobody"
assert not set(course.known.labels) & set(course.classes)
assert "error" not in set(odd["severity"]), "training would stop, or lie"
assert {"unreadable", "duplicate", "grey", "stray"} <= set(spoilt["what"])
assert (statistics["std"] >= statistics["std within"]).all()
assert floor > 1.5 * chance, "pixels should beat chance"
assert floor < 0.9, "and leave something to learn"
assert all((kept == kept[0]).all() for kept in who.values()), "one person"
assert (how["yaw"] != how["yaw"][0]).any(), "but not one picture"
assert moved["yaw"] > moved["nose_tip"] > 0, "the shot outweighs the person"
assert pixel_floor["easy"] > pixel_floor["hard"] > 0.5 * 7 / 79
assert points.shape == (5, len(faces.LANDMARKS), 2)
assert parts.max() < len(faces.PARTS)
host.took()

# %% [markdown]
# **On other machines.** A Colab T4 makes 1,000 people instead of a laptop's
# 100; `./data_setup.sh --profile homework` makes the full 7,001. With the
# real data of your class unpacked in `data/`, this notebook runs as it is.
# Next: [02, what training gets to see](02_augmentation_previews.ipynb).
