# %% [markdown]
# # 03 Model building
#
# **You will be able to**
#
# - read the code of six blocks, from a convolution to ConvNeXt, beside their
#   equations
# - write a residual block, a squeeze-excite and an inverted bottleneck yourself
# - tell the shape, the parameters and the work at every place of a network
# - write a network under the homework's limit of 21 million, and train it
#
# **Before this:** [01](01_data_exploration.ipynb); classes in Python, and what
# a convolution and a derivative are.
#
# **Minutes:** 2 without a GPU, 1 with one.
#
# **Points:** 6, one for each exercise that says `right`.
#
# *A picture has some ten thousand numbers and the answer is one person. Where
# do the parameters sit: near the picture, or near the answer?*
#
# <details><summary>Answer</summary>
#
# Near the answer. There the map is small but has many channels, and a
# convolution's weights grow with channels in times channels out, not with the
# map. The tables below count them.
#
# </details>

# %%
import inspect

import torch
from torch import nn

from facekit import models
from facekit.common import refusal
from facekit.course import diagrams, lesson, plots, widgets
from facekit.data import Preprocess, read_rgb
from facekit.models import blocks, summary, zoo
from facekit.sources import open_course
from facekit.training import fit, load_recipe

course = open_course()
recipe = load_recipe(lesson.course_recipe(course))
size = recipe.image_size
face = Preprocess(size).transform()(read_rgb(course.train.paths[0]))[None]
print("one image is", tuple(face.shape), "or", face.numel(), "numbers")

# %% [markdown]
# ## Why not an MLP?
#
# The plainest network is a **multilayer perceptron** (MLP): the numbers of the
# picture in one row, passed through linear layers with a ReLU between them. *How
# many weights has a first layer of 512 outputs for a picture of 224 x 224? And
# what does the layer see when the face moves three pixels to the right?*
#
# <details><summary>Answer</summary>
#
# 3 x 224 x 224 x 512 = 77 million, more than three times what is allowed. And
# quite other numbers: each pixel has weights of its own, so what was learned in
# one place is not known in the next. A convolution has the same few weights at
# all places.
#
# </details>

# %%
mlp = nn.Sequential(nn.Flatten(), nn.Linear(face.numel(), 512), nn.ReLU(),
                    nn.Linear(512, len(course.classes)))
print(f"at {size} pixels: {models.count_parameters(mlp):,} parameters")

# %% [markdown]
# ## A convolution block
#
# Three steps, from left to right:

# %% alt="x, then convolution 3x3, batch norm and ReLU, then y"
diagrams.block("x > convolution 3×3 > batch norm > ReLU > y");

# %% [markdown]
# $$y = \mathrm{ReLU}(\mathrm{BN}(W * x)), \qquad
# \mathrm{BN}(z) = \gamma\,\frac{z - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta$$
#
# $W * x$ is the convolution. Batch norm subtracts each channel's mean $\mu$ and
# divides by its spread $\sigma$; $\gamma$ and $\beta$ are learned. This is the
# kit's code. The checks in it refuse what cannot work; the layers stand in the
# last ten lines.

# %%
print(inspect.getsource(blocks.ConvBlock))

# %% [markdown]
# *Before you run the next cell: 3 channels in, 16 out, a 3 x 3 window, no bias.
# How many weights has the convolution? What is the side of the map when the
# stride is 2?*
#
# <details><summary>Answer</summary>
#
# Each of the 16 windows sees 3 channels of 3 x 3 numbers: 16 x 3 x 9 = 432. The
# side is halved, and rounded up.
#
# </details>

# %%
torch.manual_seed(0)
block = blocks.ConvBlock(3, 16, stride=2)
features = block(face)
print(block)
print("weights:", block[0].weight.numel(), " output:", tuple(features.shape))

# %% alt="One face as 16 small grey maps; some show edges, others areas"
plots.feature_maps(features[0].detach(), "16 channels of one face, untrained");

# %% [markdown]
# Even with random weights some channels show edges and others areas of one
# colour. Training finds the weights that are of use.

# %% [markdown]
# ### Exercise: the side of the next map
#
# *A window of 3 fits on a side of 3 once. How often does it fit on a side of 9,
# two pixels at a time?*
#
# <details><summary>Answer</summary>
#
# Four times: it begins at 0, 2, 4 and 6. Count the steps that fit after the
# first place, then add that first place.
#
# </details>
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
# > subtracts the mean. So the convolution has none.
#
# ## A residual block (2016)
#
# The input goes two ways, which are added:

# %% alt="x through two convolutions, added to x by the shortcut, then ReLU, then y"
diagrams.block("x > conv 3×3, BN, ReLU > conv 3×3, BN > + > ReLU > y",
               shortcut="shortcut");

# %% [markdown]
# $$y = \mathrm{ReLU}(F(x) + S(x))$$
#
# Deep stacks of convolutions are hard to train, because every layer has to pass
# on everything that later ones need. He et al. let the input through beside the
# convolutions: the shortcut $S$ is the input itself, and the branch $F$ only
# learns what to *add*. Where the shape changes, $S$ is a 1 x 1 convolution.

# %%
print(inspect.getsource(blocks.ResidualBlock))
print(inspect.getsource(blocks.make_shortcut))
print(inspect.getsource(blocks.Residual.forward))

# %% [markdown]
# (`drop_path` leaves a branch out at random; it is 0 here.)
#
# *What does the block give when its convolutions give zero? Is that always the
# input?*
#
# <details><summary>Answer</summary>
#
# $y = \mathrm{ReLU}(0 + x)$. That is the input only where no number of the input
# is negative. The features come out of a ReLU, so none is. Of features with
# negative numbers the last ReLU cuts those off.
#
# </details>

# %%
block_2016 = blocks.ResidualBlock(16, 16).eval()
torch.nn.init.zeros_(block_2016.residual[1].weight)
same, below = (torch.allclose(block_2016(x), x)
               for x in (features, features - 1))
print("no input is negative:", same, " some are:", below)

# %% [markdown]
# Where height and width halve, the shortcut needs a small convolution of its
# own, or the two sides could not be added.

# %%
down = blocks.ResidualBlock(16, 32, stride=2)
print(tuple(features.shape), "->", tuple(down(features).shape))
print(down.shortcut)

# %% [markdown]
# ### Exercise: a residual block
#
# *Where does the ReLU belong: on the branch, or on the sum?*
#
# <details><summary>Answer</summary>
#
# One ReLU stands between the two convolutions, one after the sum. On the branch
# just before the sum it would allow the block to add, but never to take away.
#
# </details>
#
# Write the block as a module: `channels` in, `out` channels, and a `stride` for
# the first convolution. Both convolutions are 3 x 3 without a bias, each with a
# batch norm. The shortcut is the input itself; where the stride is not 1 or the
# channels change, it is a 1 x 1 convolution with that stride and a batch norm.
# Make the layers in the order in which the features meet them, the shortcut
# last: your block is given the weights of ours, and must then give the same
# output and the same gradients.

# %%
from torch import nn

from facekit.course import exercises


class ResidualBlock(nn.Module):  # (B, channels, H, W) -> (B, out, H/s, W/s)
    def __init__(self, channels, out, stride):
        super().__init__()
        ### BEGIN SOLUTION
        self.branch = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out), nn.ReLU(),
            nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out))
        self.shortcut = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False),
                nn.BatchNorm2d(out))
        ### END SOLUTION

    def forward(self, x):
        ### BEGIN SOLUTION
        return (self.branch(x) + self.shortcut(x)).relu()
        ### END SOLUTION


exercises.exercise("ResidualBlock", ResidualBlock)

# %% [markdown]
# ## Narrow in the middle, or wide?
#
# A **bottleneck** (2016) is narrow in the middle: a 1 x 1 convolution squeezes to
# a quarter of the channels, the 3 x 3 works there, another 1 x 1 widens again.

# %% alt="x through 1x1, 3x3 and 1x1 convolutions, narrow in the middle, added to x, then ReLU"
diagrams.block("x > 1×1 to C/4, BN, ReLU > 3×3, BN, ReLU > "
               "1×1 to C, BN > + > ReLU > y");

# %%
print(inspect.getsource(blocks.BottleneckBlock.__init__))

# %% [markdown]
# An **inverted bottleneck** (MobileNetV2, 2018) is wide in the middle. It can
# afford that because its 3 x 3 is *depthwise*: each channel has a window of its
# own and never looks at the others (`groups` = channels).

# %% alt="x through 1x1, depthwise 3x3 and 1x1 convolutions, wide in the middle, added to x"
diagrams.block("x > 1×1 to 4C, BN, ReLU6 > 3×3 depthwise, BN, ReLU6 > "
               "1×1 to C, BN > + > y");

# %% [markdown]
# $$y = x + W_3\,\mathrm{ReLU6}(D * \mathrm{ReLU6}(W_1 x))$$
#
# (batch norms left out). There is no activation at the end, and nothing is added
# where the shape changes.

# %%
print(inspect.getsource(blocks.InvertedBottleneck.__init__))

# %% [markdown]
# A **fused** one (EfficientNetV2, 2021) puts one dense 3 x 3 in the place of the
# first 1 x 1 and the depthwise 3 x 3.

# %% alt="x through a 3x3 and a 1x1 convolution, wide between them, added to x"
diagrams.block("x > 3×3 to 4C, BN, SiLU > 1×1 to C, BN > + > y");

# %%
print(inspect.getsource(blocks.FusedInvertedBottleneck.__init__))

# %% [markdown]
# **ConvNeXt** (2022) begins with a depthwise 7 x 7, normalises once, over the
# channels of each place (LN), and has one activation.

# %% alt="x through depthwise 7x7, LN, 1x1, GELU, 1x1 and a factor s, added to x"
diagrams.block("x > 7×7 depthwise > LN > 1×1 to 4C > GELU > "
               "1×1 to C > times s > + > y");

# %% [markdown]
# $$y = x + s \odot W_2\,\mathrm{GELU}(W_1\,\mathrm{LN}(D * x))$$
#
# $s$ is one learned number for each channel, and begins near zero.

# %%
print(inspect.getsource(blocks.ConvNeXtBlock.__init__))
print(inspect.getsource(blocks.ConvNeXtBlock.forward))

# %% [markdown]
# *All of them now keep 64 channels on a map of 28 x 28. Which has the most
# parameters? The fewest?*
#
# <details><summary>Answer</summary>
#
# The most: `convnext_dense`, whose 7 x 7 sees all channels. The fewest: the
# bottleneck, whose 3 x 3 has only 16 channels.
#
# </details>

# %%
# NBVAL_CHECK_OUTPUT
made = {name: block(64, 64) for name, block in blocks.BLOCKS.items()}
cost = summary.compare_blocks(made, 64, 28)
cost.map("{:,}".format)

# %% alt="Bars on a logarithmic axis: convnext_dense has most parameters, bottleneck fewest"
drawn = plots.bars(cost[["parameters"]], "Parameters of a block", "count")
drawn.axes[0].set_yscale("log")

# %% [markdown]
# `convnext_dense` is the published table's "ConvNeXt-style" block, whose 7 x 7 is
# *not* depthwise: more than twenty times the parameters and the work of
# ConvNeXt's own. (The axis is logarithmic: each line is ten times the one
# below.) Few multiply-adds do not promise speed, though. A depthwise 3 x 3
# multiplies nine numbers for each one that it fetches from memory, and a GPU
# then waits for its memory. The kit's own networks are dense for that reason.

# %% [markdown]
# ### Exercise: parameters of a convolution
#
# *A depthwise 7 x 7 on 64 channels has as many groups as channels. How many
# weights has it: more than a dense 1 x 1, or fewer?*
#
# <details><summary>Answer</summary>
#
# Fewer: 64 x 49 = 3,136 against 64 x 64 = 4,096. Each output channel sees only
# the input channels of its group.
#
# </details>
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
# ### Exercise: an inverted bottleneck
#
# *Which of its three convolutions has the stride, and when is the input added?*
#
# <details><summary>Answer</summary>
#
# The depthwise one has the stride. The input is added only where it has the
# output's shape: a stride of 1 and as many channels out as in.
#
# </details>
#
# Write the block with four times the channels in the middle: 1 x 1, depthwise
# 3 x 3, 1 x 1, none with a bias, each with a batch norm; ReLU6 after the first two
# only. Make the layers in this order.

# %%
from torch import nn

from facekit.course import exercises


class InvertedBottleneck(nn.Module):  # shapes as in the residual block
    def __init__(self, channels, out, stride):
        super().__init__()
        ### BEGIN SOLUTION
        wide = 4 * channels
        self.branch = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False),
            nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out))
        self.adds = stride == 1 and channels == out
        ### END SOLUTION

    def forward(self, x):
        ### BEGIN SOLUTION
        return x + self.branch(x) if self.adds else self.branch(x)
        ### END SOLUTION


exercises.exercise("InvertedBottleneck", InvertedBottleneck)

# %% [markdown]
# ## How large should random weights be?
#
# A layer of 512 inputs adds up 512 products, half of which a ReLU then cuts off.
# He et al. (2015; the first author is Kaiming He) worked out that the spread of
# the features stays the same if the weights have a spread of
# $\sqrt{2 / \text{inputs}}$, here 0.0625: **Kaiming initialisation**. *And with
# half or twice of that, after 20 layers?*
#
# <details><summary>Answer</summary>
#
# Each layer halves the features, or doubles them. After 20 layers they are a
# million times too small, or too large, and so are the gradients.
#
# </details>

# %%
torch.manual_seed(0)
for scale in (0.03125, (2 / 512) ** 0.5, 0.125):
    x = torch.randn(256, 512)
    for _ in range(20):
        x = (x @ (scale * torch.randn(512, 512))).relu()
    print(f"weights of {scale:.4f}: features of {x.std():.1e}")

# %% [markdown]
# Batch norm brings the features back to a spread of 1 behind each convolution,
# so a network that has it forgives other weights. One without it does not. The
# kit's convolutions begin by the rule's twin, which counts outputs in place of inputs:
# it keeps the spread of the gradients on their way back.
#
# ## Squeeze and excite (2018)
#
# One look at the whole picture gives each channel a weight between 0 and 1.

# %% alt="x through a mean, two layers and a gate, whose weights x is multiplied by"
diagrams.block("x > mean over, places > C to C/r > ReLU > C/r to C > "
               "gate > × > y");

# %% [markdown]
# $$y_c = x_c \cdot g_c, \qquad g = h(W_2\,\mathrm{ReLU}(W_1 \bar{x} + b_1) + b_2)$$
#
# $\bar{x}$ is the mean of each channel over the map. The gate $h$ was a sigmoid in
# the paper; the kit has its cheaper form of straight lines,
# $h(z) = \mathrm{ReLU6}(z + 3) / 6$, the hard sigmoid.

# %%
print(inspect.getsource(blocks.SqueezeExcite))

# %% [markdown]
# *The input is all ones, and every channel goes in alike. What comes out?*
#
# <details><summary>Answer</summary>
#
# The weights themselves, because 1 x g = g. They differ from channel to channel,
# since $W_1$ and $W_2$ treat channels differently, and each is the same at all
# places of the map, since the gate saw only means.
#
# </details>

# %%
torch.manual_seed(3)
gate = blocks.SqueezeExcite(64, reduction=4).eval()
weights = gate(torch.ones(1, 64, 5, 5))[0].detach()  # (64, 5, 5)
alike = torch.allclose(weights, weights[:, :1, :1])
print(f"weights from {weights.min():.2f} to {weights.max():.2f}; "
      f"alike at all places: {alike}")

# %% [markdown]
# ### Exercise: a squeeze-excite
#
# *A gate opens between 0 and 1. Which functions take any number to there?*
#
# <details><summary>Answer</summary>
#
# The sigmoid, and the hard sigmoid, which is 0 below -3, 1 above 3 and a straight
# line between. A ReLU or a swish has no upper end.
#
# </details>
#
# Write it as a module: mean over height and width, a layer from `channels` to
# `channels // reduction`, ReLU, a layer back, `nn.Hardsigmoid`, and the product.
# Both layers have a bias; they may be 1 x 1 convolutions or linear layers.

# %%
from torch import nn

from facekit.course import exercises


class SqueezeExcite(nn.Module):  # (B, channels, H, W) -> the same
    def __init__(self, channels, reduction):
        super().__init__()
        ### BEGIN SOLUTION
        few = channels // reduction
        self.gate = nn.Sequential(
            nn.Linear(channels, few), nn.ReLU(),
            nn.Linear(few, channels), nn.Hardsigmoid())
        ### END SOLUTION

    def forward(self, x):
        ### BEGIN SOLUTION
        return x * self.gate(x.mean((2, 3)))[:, :, None, None]
        ### END SOLUTION


exercises.exercise("SqueezeExcite", SqueezeExcite)

# %% [markdown]
# > **In practice.** Names and code drift apart. In the published table the
# > gate of the squeeze-excite is `x * relu6(x + 3) / 6`, a hard *swish*, which
# > has no upper end, where a hard sigmoid was meant; a block "without
# > depthwise" is depthwise; and in one public solution a slip in a division
# > left stochastic depth at 0.3 % at the most. All of them trained, so nobody
# > noticed. Print a block's layers and look at what its gate gives.
#
# ## The block explorer
#
# Two 3 x 3 convolutions that halve the map and double the channels, layer by
# layer. *The second has twice the parameters of the first. Why?*
#
# <details><summary>Answer</summary>
#
# Both have 128 channels out; the first has 64 channels in, the second 128.
#
# </details>

# %% alt="Bars by layer: two 3x3 convolutions hold nearly all there is"
layers = widgets.block_table("residual", 64, 128, stride=2, se=0, size=28)
plots.layers(layers, "A residual block, 64 to 128 channels, stride 2");

# %% [markdown]
# The same with sliders: choose a block and move them (with the arrow keys,
# too). *What does doubling both channel counts do to the parameters? And what
# does a stride of 2 do to the work?*
#
# <details><summary>Answer</summary>
#
# A dense convolution then has four times the parameters, a depthwise one twice.
# With a stride of 2 the map has a quarter of the places, so that each convolution
# behind the stride does about a quarter of the work.
#
# </details>

# %% alt="Sliders for a block; below them its layers as a table and as bars"
widgets.block(size=28)

# %% [markdown]
# ## A whole network
#
# A **stem** halves the picture; **stages** of blocks halve it again while the
# channels grow; the mean over the last map is the **embedding**, the
# network's description of the face; the **head** turns it into one score for
# each class. All of it is a few lines of data:

# %%
spec = zoo.as_spec(recipe.network)
print(spec.stem, *spec.stages, sep="\n")
print(f"embedding of {spec.embedding or spec.stages[-1].channels}, "
      f"dropout {spec.dropout}")

# %%
net = models.build(recipe.network, len(course.classes))
table = summary.describe(net, size)
table

# %% [markdown]
# `sees` is the side of the window of pixels that one place of the map depends
# on. *From which part on does one place see the whole face? And what share of
# all parameters does the last stage hold?*
#
# <details><summary>Answer</summary>
#
# The whole face: from the first part on whose `sees` is at least the side of the
# picture, as far as the place is not near an edge. Of the stages the last one holds
# the most. Channels count twice, once going in and once coming out, so a stage of
# twice the width has about four times the parameters, on a map of a quarter the
# size.
#
# </details>

# %% alt="Bars: each stage has more parameters than the one before it"
plots.bars(table[["parameters"]].drop("all"), "Parameters by part", "count");

# %% [markdown]
# ### Exercise: what one place sees
#
# *Two windows of 3, one after the other: do they see 6 pixels, or 5? And if the
# first moves two pixels at a time?*
#
# <details><summary>Answer</summary>
#
# 5: neighbours overlap. With a stride of 2 the places of the first map are two
# pixels apart, so three of them see 3 + 2 + 2 = 7.
#
# </details>
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
#
# <details><summary>Answer</summary>
#
# `row01`, with 30.5 million. Its dense 7 x 7 windows are the reason.
#
# </details>

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
#
# <details><summary>Answer</summary>
#
# The table says it for each part. More channels cost most in late stages (as
# parameters) and in early ones (as multiply-adds, on large maps).
#
# </details>

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
#
# <details><summary>Answer</summary>
#
# About as sure as chance, 1 / number of people. Its random weights may prefer
# somebody a little.
#
# </details>

# %%
net.eval()
with torch.no_grad():
    embedding, logits = net.embed(face), net(face)
probability, chance = logits.softmax(1).max(), 1 / len(course.classes)
print("embedding", tuple(embedding.shape), "logits", tuple(logits.shape))
print(f"highest probability {probability:.3f}, chance {chance:.3f}")

# %% [markdown]
# ## A network of your own
#
# None of these blocks is needed. A network is any module that is made for a
# number of classes and gives logits for images. `embed` gives the embedding, by
# which verification compares faces. *The map halves four times while the
# channels double. Which convolution has the most weights? Which does the most
# work?*
#
# <details><summary>Answer</summary>
#
# The last has the most weights. The work of the last three is about the same:
# channels in times channels out grows four-fold while the places become a
# quarter. The first does less, because a picture has only 3 channels.
#
# </details>

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
#
# <details><summary>Answer</summary>
#
# It has 256 x 7,001 weights and 7,001 biases in the classifier, beside the
# convolutions: the number below. That is far under 21 million, so it may.
#
# </details>

# %%
summary.check_limit(Net(7001), 21_000_000)  # an error where it is too large
models.count_parameters(Net(7001))

# %% [markdown]
# Change it as you like, and run these cells again: put your `ResidualBlock` into
# it. The call below writes the class, with all that it mentions, to a file, and
# tries the file with two images. What you wrote into that file by hand is not
# lost: it gets another name.

# %%
lesson.keep_network(Net, course)

# %% [markdown]
# Now train it, for four epochs (epoch: every training picture once). How that is
# done is the subject of 04, which goes on from this run.
#
# *Which accuracy do you expect on the dev pictures, beside chance?*
#
# <details><summary>Answer</summary>
#
# Well above chance, and far from 1: four epochs are few. The number below is
# yours.
#
# </details>

# %%
own = fit(lesson.few_epochs(course), course, lesson.own_run(),
          network=lesson.own_network())
print(f"dev accuracy {own.best['dev_accuracy']:.1%}, chance {chance:.1%}")

# %% [markdown]
# **On Colab, Kaggle, a laptop.** All but the last training takes half a minute
# anywhere, and no GPU is needed. The shapes are worked out without numbers, so
# that a network of 30 million at 224 pixels can be described on a laptop that
# could not train it. What differs is `recipe.network`: a GPU's has wider and
# deeper stages of the same blocks, `load_recipe("gpu").network`.

# %% [markdown]
# ## What you should have found

# %%
assert block[0].weight.numel() == 3 * 16 * 3 * 3 == 432
assert features.shape == (1, 16, -(-size // 2), -(-size // 2))
assert same and not below, "identity where no input is negative"
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
assert table["parameters"].iloc[1:-3].is_monotonic_increasing, "by stage"
assert own.best["dev_accuracy"] > chance, "it has learned something"
host.took()

# %% [markdown]
# ## Summary
#
# - A block is a branch of convolutions, norms and activations; a residual block
#   adds its input to the branch.
# - A dense convolution has window x window x channels in x channels out weights;
#   a depthwise one has no factor of channels in.
# - Bottlenecks work where the map has few channels; inverted ones work where it
#   has many, but depthwise.
# - Parameters sit in the late stages, multiply-adds where maps are large.
# - A network is any module from images to logits, with the embedding just before.
#
# ## Terms
#
# - **stride**: by how many pixels a window moves; 2 halves the map
# - **shortcut**: the way past a branch, by which the input is added
# - **depthwise**: each channel has a window of its own
# - **batch norm**: each channel is normalised by mean and spread of the batch
# - **receptive field**: the pixels that one place of a map depends on (`sees`)
# - **embedding**: the vector that describes a face; **logits**: the scores of the
#   classes, before softmax
#
# ## To read
#
# - He, Zhang, Ren, Sun (2016), [Deep Residual Learning for Image
#   Recognition](https://arxiv.org/abs/1512.03385)
# - Sandler et al. (2018), [MobileNetV2: Inverted Residuals and Linear
#   Bottlenecks](https://arxiv.org/abs/1801.04381)
# - Liu et al. (2022), [A ConvNet for the 2020s](https://arxiv.org/abs/2201.03545)
#
# Next: [04, teach it](04_training.ipynb).
