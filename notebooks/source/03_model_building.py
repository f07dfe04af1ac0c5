# %% [markdown]
# # 03 Model building
#
# **You will** walk from a convolution block to ConvNeXt, know the shape, the
# parameters and the work at every place, and write a network of your own under
# the homework's limit of 21 million, which later lessons train and hand in.
#
# *A picture has some ten thousand numbers and the answer is one person. Where
# do the parameters sit: near the picture, or near the answer?*

# %%
import torch
from torch import nn

from facekit import models
from facekit.common import refusal
from facekit.course import lesson, plots, widgets
from facekit.data import Preprocess, read_rgb
from facekit.models import blocks, summary, zoo
from facekit.sources import open_course
from facekit.training import load_recipe

course = open_course()
recipe = load_recipe(lesson.course_recipe(course))
size = recipe.image_size
face = Preprocess(size).transform()(read_rgb(course.train.paths[0]))[None]
print("one image is", tuple(face.shape), "or", face.numel(), "numbers")

# %% [markdown]
# ## A convolution block
#
# Convolution, batch norm, ReLU. *Before you run it: 3 channels in, 16 out, a
# 3 x 3 window, no bias. How many weights? What is the shape when the stride
# is 2?*

# %%
torch.manual_seed(0)
block = blocks.ConvBlock(3, 16, stride=2)
features = block(face)
print(block)
print("weights:", block[0].weight.numel(), " output:", tuple(features.shape))

# %% alt="One face as 16 small grey maps; some show edges, others areas"
plots.feature_maps(features[0].detach(), "16 channels of one face, untrained");

# %% [markdown]
# 432 weights, and a map of half the side. Even with random weights some
# channels show edges and others areas of one colour. Training chooses which of
# them are worth having.

# %% [markdown]
# ### Exercise: the side of the next map
#
# *A window of 3 fits on a side of 3 once. How often does it fit on a side of 9,
# two pixels at a time?*
#
# Return how many times a window fits on a side of `size` pixels with `padding`
# more at *each* end, when it moves `stride` pixels at a time; all are whole
# numbers. That is the side of the map that comes out.

# %%
from facekit.course import exercises


def output_side(size, window, stride, padding):
    ### BEGIN SOLUTION
    return (size + 2 * padding - window) // stride + 1
    ### END SOLUTION


exercises.exercise("output_side", output_side)

# %% [markdown]
# > **In practice.** A bias before batch norm does nothing, because batch norm
# > subtracts the mean. Leaving it out is not thrift but one thing less to
# > wonder about.
#
# ## A residual block (2016)
#
# Deep stacks of convolutions are hard to train, because every layer has to
# pass on everything that later ones need. He et al. let the input through
# beside the convolutions, so that a block only learns what to *add*. *What
# should the block give when its convolutions give zero?*

# %%
block_2016 = blocks.ResidualBlock(16, 16).eval()
torch.nn.init.zeros_(block_2016.residual[1].weight)
same = torch.allclose(block_2016(features), features)
print("with zero convolutions the block passes its input through:", same)

# %% [markdown]
# Where height and width halve, the shortcut needs a small convolution of its
# own, or the two sides could not be added.

# %%
down = blocks.ResidualBlock(16, 32, stride=2)
print(tuple(features.shape), "->", tuple(down(features).shape))
print(down.shortcut)

# %% [markdown]
# ### Exercise: side by side
#
# *Where does the ReLU belong: on the branch, or on the sum?*
#
# A residual block without its layers: you are given `features` (B, C, H, W) and
# two functions, `branch` and `shortcut`, that both take such features. Return
# what the block of 2016 gives: the sum of what the two make of the features,
# and the ReLU last.

# %%
from facekit.course import exercises


def residual(features, branch, shortcut):
    ### BEGIN SOLUTION
    return (branch(features) + shortcut(features)).relu()
    ### END SOLUTION


exercises.exercise("residual", residual)

# %% [markdown]
# ## Narrow in the middle, or wide?
#
# A **bottleneck** (2016) squeezes to a quarter of the channels before the
# 3 x 3. An **inverted bottleneck** (MobileNetV2, 2018) does the opposite, and
# can afford it because its 3 x 3 is *depthwise*: each channel has its own
# window and never looks at the others. A **fused** one (EfficientNetV2, 2021)
# goes back to a dense 3 x 3. **ConvNeXt** (2022) begins with a depthwise
# 7 x 7. *All keep 64 channels on a map of 28 x 28. Which has the most
# parameters? The fewest?*

# %%
# NBVAL_CHECK_OUTPUT
made = {name: block(64, 64) for name, block in blocks.BLOCKS.items()}
cost = summary.compare_blocks(made, 64, 28)
cost.map("{:,}".format)

# %% alt="Bars: the dense ConvNeXt block does many times the work of all others"
plots.bars(cost[["multiply_adds"]] / 1e6, "Multiply-adds", "millions");

# %% [markdown]
# The last one is the table's "ConvNeXt-style" block, whose 7 x 7 is *not*
# depthwise: more than twenty times the parameters and the work of ConvNeXt's.
# Few multiply-adds are no promise of speed, though. A depthwise 3 x 3 multiplies
# nine numbers for each one that it fetches from memory, and a GPU then waits
# for its memory. The kit's own networks are dense for that reason.

# %% [markdown]
# ### Exercise: parameters of a convolution
#
# *A depthwise 7 x 7 on 64 channels has as many groups as channels. How many
# weights has it: more than a dense 1 x 1, or fewer?*
#
# Return how many numbers a convolution learns that takes `channels` to `out`
# channels by a window of `window` x `window`, in `groups` groups, each of which
# sees only its share of the channels. `bias` is true or false: one number for
# each channel that comes out.

# %%
from facekit.course import exercises


def conv_parameters(channels, out, window, groups, bias):
    ### BEGIN SOLUTION
    return channels // groups * out * window**2 + bias * out
    ### END SOLUTION


exercises.exercise("conv_parameters", conv_parameters)

# %% [markdown]
# ## Squeeze and excite
#
# One look at the whole picture gives each channel a weight. *The input is all
# ones, and every channel goes in alike. What comes out?*

# %%
torch.manual_seed(3)
gate = blocks.SqueezeExcite(64, reduction=4).eval()
weights = gate(torch.ones(1, 64, 5, 5))[0].detach()  # (64, 5, 5)
alike = torch.allclose(weights, weights[:, :1, :1])
print(f"weights from {weights.min():.2f} to {weights.max():.2f}; "
      f"alike at all places: {alike}")

# %% [markdown]
# The 64 weights differ, and each is the same all over the map.

# %% [markdown]
# ### Exercise: excite
#
# *A gate opens between 0 and 1. Which function takes any number to there?*
#
# The second half of a squeeze-excite: `features` (B, C, H, W), and `scores`
# (B, C), one number of any size for each channel of each picture. Return the
# features, each channel weighed by the sigmoid of its score.

# %%
from facekit.course import exercises


def excite(features, scores):
    ### BEGIN SOLUTION
    return features * scores.sigmoid()[:, :, None, None]
    ### END SOLUTION


exercises.exercise("excite", excite)

# %% [markdown]
# > **In practice.** Names and code drift apart. In the published table the
# > gate of the squeeze-excite is `x * relu6(x + 3) / 6`, a hard *swish*, which
# > has no upper end, where a hard sigmoid was meant; a block "without
# > depthwise" is depthwise; and in one public solution a slip in a division
# > left stochastic depth at 0.3 % at the most. All of them trained, so nobody
# > noticed. Print a block's layers and look at what its gate gives.
#
# ## Your turn: the block explorer
#
# Two 3 x 3 convolutions that halve the map and double the channels, layer by
# layer. *The second has twice the parameters of the first. Why?*

# %% alt="Bars by layer: two 3x3 convolutions hold nearly all there is"
layers = widgets.block_table("residual", 64, 128, stride=2, se=0, size=28)
plots.layers(layers, "A residual block, 64 to 128 channels, stride 2");

# %% [markdown]
# The same with sliders: choose a block and move them (with the arrow keys,
# too). *What does doubling both channel counts do to the parameters? And what
# does a stride of 2 do to the work?*

# %% alt="Sliders for a block; below them its layers as a table and as bars"
widgets.block(size=28)

# %% [markdown]
# ## A whole network
#
# A **stem** halves the picture; **stages** of blocks halve it again while the
# channels double; the mean over the last map is the **embedding**, the
# network's description of the face; the **head** turns it into one score for
# each class. All of it is a few lines of data:

# %%
zoo.as_spec(recipe.network)

# %%
net = models.build(recipe.network, len(course.classes))
table = summary.describe(net, size)
table

# %% [markdown]
# `sees` is the side of the window of pixels that one place of the map depends
# on. *From which part on does one place see the whole face?*
#
# Now look at the last stage: *what share of all parameters does it hold?*
# Channels count twice, once going in and once coming out, so a stage of twice
# the width has four times the parameters, on a map of a quarter the size.

# %% alt="Bars: each stage has more parameters than the one before it"
plots.bars(table[["parameters"]].drop("all"), "Parameters by part", "count");

# %% [markdown]
# ### Exercise: what one place sees
#
# *Two windows of 3, one after the other: do they see 6 pixels, or 5? And if the
# first moves two pixels at a time?*
#
# `layers` is a list of pairs, (window, stride), the layer next to the picture
# first. Return the side of the window of pixels that one place after the last
# layer depends on. (A place of the picture itself sees 1.)

# %%
from facekit.course import exercises


def receptive_field(layers):
    ### BEGIN SOLUTION
    sees, step = 1, 1
    for window, stride in layers:
        sees += (window - 1) * step
        step *= stride
    return sees
    ### END SOLUTION


exercises.exercise("receptive_field", receptive_field)

# %% [markdown]
# ## The homework's limit, and the published table
#
# At most 21 million parameters with a head for 7,001 people, on pictures of
# 224 pixels. Five networks stand behind the table's twelve rows. *One of them
# is not allowed. Which, do you think?*

# %%
# NBVAL_CHECK_OUTPUT
names = "starter row01 row02 row03 row04 row12 medium large resnet18".split()
published = summary.compare(names, num_classes=7001, size=224)
published.map("{:,}".format)

# %% alt="Bars of nine networks; only row01 stands above the line at 21 million"
millions = published[["parameters"]] / 1e6
place = plots.bars(millions, "Head of 7,001 classes", "millions").axes[0]
place.axhline(21, color="black", linestyle="--");

# %% [markdown]
# Row 12 must have 12,632,185 parameters: it is that network, then, and not one
# like it. And row 1 is half as much again as is allowed.

# %%
# NBVAL_CHECK_OUTPUT
row01 = models.build("row01", 7001)
refused = refusal(summary.check_limit, row01, 21_000_000)
print(refused)

# %% [markdown]
# > **In practice.** The gate is here and not on the submission page, because a
# > night of training a network that may not be handed in is a night lost. The
# > kit looks before the first step, as soon as the data is the homework's.
#
# ## Other blocks in a row
#
# Any block may follow any other. *Change something: what does it cost?*

# %%
mixed = {"stem": {"channels": 32}, "embedding": 256, "stages": [
    {"block": "fused", "channels": 32, "depth": 2},
    {"block": "residual", "channels": 96, "stride": 2, "se": 8},
    {"block": "convnext", "channels": 256, "stride": 2, "depth": 2}]}
summary.describe(models.build(mixed, 7001), 112)

# %% [markdown]
# The same lines in a recipe's TOML file train it; `network = {base = "small",
# embedding = 128}` changes one setting of a network that has a name.
#
# ## From a face to an answer
#
# The untrained network already answers. *How sure should it be?*

# %%
net.eval()
with torch.no_grad():
    embedding, logits = net.embed(face), net(face)
probability, chance = logits.softmax(1).max(), 1 / len(course.classes)
print("embedding", tuple(embedding.shape), "logits", tuple(logits.shape))
print(f"highest probability {probability:.3f}, chance {chance:.3f}")

# %% [markdown]
# About as sure as chance: it has learned nothing. 04 changes that.
#
# ## A network of your own
#
# None of these blocks is needed. A network is any module that is made for a
# number of classes and gives logits for images. `embed` gives the embedding, by
# which verification compares faces. *The map halves four times while the
# channels double. Which convolution has the most weights? Which does the most
# work?*

# %%
def conv(channels, out):  # (B, channels, H, W) -> (B, out, H/2, W/2)
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(out), nn.ReLU())


# %%
class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.blocks = nn.Sequential(
            conv(3, 32), conv(32, 64), conv(64, 128), conv(128, 256))
        self.classifier = nn.Linear(256, num_classes)

    def embed(self, images):  # (B, 3, H, W) -> (B, 256)
        return self.blocks(images).mean((2, 3))

    def forward(self, images):  # (B, 3, H, W) -> (B, num_classes)
        return self.classifier(self.embed(images))


# %%
own_net = Net(len(course.classes))
own_table = summary.describe(own_net, size)
own_table

# %% [markdown]
# `describe` takes any module, the kit's or yours. *How many parameters would it
# have with a classifier for 7,001 people? May it be handed in?*

# %%
summary.check_limit(Net(7001), 21_000_000)  # an error where it is too large
models.count_parameters(Net(7001))

# %% [markdown]
# Change it as you like, and run these cells again. The call below writes the
# class, with all that it mentions, to a file, and tries the file with two
# images. 04 trains it from there, and 08 hands it in. What you wrote into
# that file by hand is not lost: it gets another name.

# %%
lesson.keep_network(Net, course)

# %% [markdown]
# **On Colab, Kaggle, a laptop.** Nothing is trained here: everything takes half
# a minute anywhere, and no GPU is needed. The shapes are worked out without
# numbers, so that a network of 30 million at 224 pixels can be described on a
# laptop that could not train it. What differs is `recipe.network`: a GPU's has
# wider and deeper stages of the same blocks, `load_recipe("gpu").network`.

# %% [markdown]
# ## What you should have found

# %%
assert block[0].weight.numel() == 3 * 16 * 3 * 3 == 432
assert features.shape == (1, 16, -(-size // 2), -(-size // 2))
assert same, "a residual block that adds nothing is the identity"
assert cost["parameters"].idxmax() == "convnext_dense"
assert cost["parameters"].idxmin() == "bottleneck"
assert alike and 0 < weights.min() < weights.max() < 1
assert layers["parameters"]["residual.1 (Conv2d)"] == 128 * 128 * 9
assert published["parameters"]["row12"] == 12_632_185
assert list(millions.index[millions["parameters"] > 21]) == ["row01"]
assert "over the limit of 21,000,000" in refused
assert own_net.eval()(face).shape == logits.shape, "your own answers, too"
assert own_table["parameters"]["all"] == models.count_parameters(own_net)
assert "class Net" in lesson.network_file().read_text()
host.took()

# %% [markdown]
# Next: [04, teach it](04_training.ipynb).
