# %% [markdown]
# # 03 Model building
#
# **You will** walk from a convolution block to ConvNeXt, know the shape, the
# parameters and the work at every place, and build a network of your own under
# the homework's limit of 21 million.
#
# *A picture has some ten thousand numbers and the answer is one person. Where
# do the parameters sit: near the picture, or near the answer?*

# %%
import pandas as pd
import torch

from facekit import networks, pipeline, plots, recipes, widgets
from facekit.anatomy import describe_block
from facekit.augment import Preprocess
from facekit.blocks import ConvBlock, ResidualBlock, SqueezeExcite
from facekit.errors import RecipeError
from facekit.images import read_rgb
from facekit.sources import open_course

course = open_course()
recipe = recipes.load(pipeline.course_recipe(course))
size = recipe.image_size
face = Preprocess(size).transform()(read_rgb(course.train.paths[0]))[None]
print("one picture is", tuple(face.shape))

# %% [markdown]
# ## A convolution block
#
# Convolution, batch norm, ReLU. *Before you run it: 3 channels in, 16 out, a
# 3 x 3 window, no bias. How many weights? What is the shape when the stride
# is 2?*

# %%
torch.manual_seed(0)
block = ConvBlock(3, 16, stride=2)
features = block(face)
print(block)
print("weights:", block[0].weight.numel(), " output:", tuple(features.shape))

# %%
plots.feature_maps(features[0].detach(), "16 channels of one face, untrained");

# %% [markdown]
# Even with random weights some channels show edges and others areas of one
# colour. Training chooses which of them are worth having.

# %% [markdown]
# ### Exercise: the side of the next map
#
# A window of 3 fits on a side of 3 once. Write how many times a window fits
# on a side of `size` pixels with `padding` more at *each* end, when it moves
# `stride` pixels at a time. That is the side of the map that comes out.

# %%
from facekit import check


def output_side(size, window, stride, padding):
    ### BEGIN SOLUTION
    return (size + 2 * padding - window) // stride + 1
    ### END SOLUTION


check.exercise("output_side", output_side)

# %% [markdown]
# **In practice:** a bias before batch norm does nothing, because batch norm
# subtracts the mean. Leaving it out is not thrift but one thing less to wonder
# about.
#
# ## A residual block (2016)
#
# Deep stacks of convolutions are hard to train, because every layer has to
# pass on everything that later ones need. He et al. let the input through
# beside the convolutions, so that a block only learns what to *add*. *What
# should the block give when its convolutions give zero?*

# %%
residual = ResidualBlock(16, 16).eval()
torch.nn.init.zeros_(residual.residual[1].weight)
same = torch.allclose(residual(features), features)
print("with zero convolutions the block passes its input through:", same)

# %% [markdown]
# Where height and width halve, the shortcut needs a small convolution of its
# own, or the two sides could not be added.

# %%
down = ResidualBlock(16, 32, stride=2)
print(tuple(features.shape), "->", tuple(down(features).shape))
print(down.shortcut)

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
options = {"residual": {}, "bottleneck": {}, "inverted": {"se": 4},
           "fused": {}, "convnext": {}, "convnext_dense": {}}
made = {name: networks.BLOCKS[name](64, 64, **more)
        for name, more in options.items()}
cost = {name: describe_block(made[name], 64, 28).loc["all"] for name in made}
cost = pd.DataFrame(cost).T[["parameters", "multiply_adds"]].astype(int)
cost

# %%
plots.bars(cost["multiply_adds"].to_dict(),
           "Multiply-adds of one block, 64 channels at 28 x 28", "count");

# %% [markdown]
# The last one is the table's "ConvNeXt-style" block, whose 7 x 7 is *not*
# depthwise: twenty-five times the work. Few multiply-adds are no promise of
# speed, though. A depthwise window multiplies nine numbers for each one that
# it fetches from memory, and a GPU then waits for its memory. The kit's own
# `face-s` and `face-m` are dense for that reason.
#
# ## Squeeze and excite
#
# One look at the whole picture gives each channel a weight. *The input is all
# ones, and every channel goes in alike. What comes out?*

# %%
torch.manual_seed(3)
gate = SqueezeExcite(64, reduction=4).eval()
weights = gate(torch.ones(1, 64, 5, 5))[0].detach()  # (64, 5, 5)
alike = torch.allclose(weights, weights[:, :1, :1])
low, high = weights.min().item(), weights.max().item()
print(f"weights from {low:.2f} to {high:.2f}, alike at all places: {alike}")

# %% [markdown]
# ## Your turn: the block explorer
#
# Choose a block and move the sliders (with the arrow keys, too). *What does
# doubling both channel counts do to the parameters? And what does a stride of
# 2 do to the work?*

# %%
widgets.block(size=28)

# %% [markdown]
# ## A whole network
#
# A **stem** halves the picture; **stages** of blocks halve it again while the
# channels double; the mean over the last map is the **embedding**, the
# network's description of the face; the **head** turns it into one score for
# each class. All of it is a few lines of data:

# %%
networks.as_spec(recipe.network)

# %%
net = networks.build(recipe.network, len(course.classes))
table = networks.describe(net, size)
table

# %% [markdown]
# `sees` is the side of the window of pixels that one place of the map depends
# on. *From which part on does one place see the whole face?*
#
# Now look at the last stage: *what share of all parameters does it hold?*
# Channels count twice, once going in and once coming out, so a stage of twice
# the width has four times the parameters, on a map of a quarter the size.

# %%
plots.bars(table["parameters"].drop("all").to_dict(),
           "Where the parameters are", "count");

# %% [markdown]
# ## The homework's limit, and the published table
#
# At most 21 million parameters with a head for 7,001 people, on pictures of
# 224 pixels. Five networks stand behind the table's twelve rows. *One of them
# is not allowed. Which, do you think?*

# %%
rows = {}
for name in ("starter", "row01", "row02", "row03", "row04", "row12",
             "face-s", "face-m", "resnet18"):
    rows[name] = networks.describe(networks.build(name, 7001), 224).loc["all"]
published = pd.DataFrame(rows).T[["stride", "sees"]]
for column, unit in (("parameters", 1e6), ("multiply_adds", 1e9)):
    published[column] = [rows[name][column] / unit for name in rows]
published.round(2)

# %%
millions = published["parameters"].to_dict()
place = plots.bars(millions, "With a head for 7,001 classes", "millions").axes
place[0].axhline(21, color="black", linestyle="--")
place[0].tick_params(axis="x", rotation=45);

# %%
try:
    networks.check_limit(networks.build("row01", 7001), 21_000_000)
    refused = ""
except RecipeError as error:
    refused = str(error)
print(refused)

# %% [markdown]
# **In practice:** the gate is here and not on the submission page, because a
# night of training a network that may not be handed in is a night lost.
#
# ## A network of your own
#
# Any block may follow any other. *Change something: what does it cost?*

# %%
mine = {
    "stem": {"channels": 32},
    "stages": [
        {"block": "fused", "channels": 32, "depth": 2},
        {"block": "residual", "channels": 96, "stride": 2, "se": 8},
        {"block": "inverted", "channels": 192, "stride": 2, "se": 4},
        {"block": "convnext", "channels": 256, "stride": 2, "depth": 2},
    ],
    "embedding": 256,
}
networks.describe(networks.build(mine, 7001), 112)

# %% [markdown]
# The same lines in a recipe's TOML file train it; `network = {base = "face-s",
# embedding = 128}` changes one setting of a network that has a name.
#
# ## From a face to an answer
#
# The untrained network already answers. *How sure should it be?*

# %%
net.eval()
with torch.no_grad():
    embedding, logits = net.embed(face), net(face)
probability = logits.softmax(1).max().item()
chance = 1 / len(course.classes)
print("embedding", tuple(embedding.shape), "logits", tuple(logits.shape))
print(f"highest probability {probability:.3f}, chance {chance:.3f}")

# %% [markdown]
# ## What you should have found

# %%
half = -(-size // 2)
assert block[0].weight.numel() == 3 * 16 * 3 * 3 == 432
assert features.shape == (1, 16, half, half)
assert same, "a residual block that adds nothing is the identity"
assert down(features).shape[1] == 32
assert cost["parameters"].idxmax() == "convnext_dense"
assert cost["parameters"].idxmin() == "bottleneck"
assert alike and 0 < low < high < 1
assert table["parameters"].drop("all").sum() == table["parameters"]["all"]
assert networks.count_parameters(net.head) == (net.dim + 1) * net.num_classes
assert rows["row12"]["parameters"] == 12_632_185
assert [name for name in millions if millions[name] > 21] == ["row01"]
assert "over the limit of 21,000,000" in refused
assert torch.allclose(net.head(embedding), logits, atol=1e-5)
host.took()

# %% [markdown]
# **On other machines.** The recipe of a GPU has a wider and deeper network of
# the same blocks; see `facekit/recipes/`.
# Next: [04, teach it](04_training.ipynb).
