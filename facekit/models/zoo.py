"""Networks that have a name: ours, those of papers, and the homework's twelve rows.

Built in notebook 03.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from facekit.common.errors import RecipeError
from facekit.models.checks import check_choice
from facekit.models.specs import NetworkSpec, Stage, Stem, spec_from_dict


def as_spec(network: str | Mapping | NetworkSpec) -> NetworkSpec:
    """The spec meant by a name in NETWORKS, a table (as in a TOML file) or a spec itself.

    A table may begin with a network and change some of its settings:
    {"base": "small", "head": "arcface"}. Raises RecipeError when there is no such name or setting.
    """
    if isinstance(network, NetworkSpec):
        return network
    if isinstance(network, str):
        check_choice("network", network, NETWORKS)
        return NETWORKS[network]
    if not isinstance(network, Mapping):
        raise RecipeError(f"a network is a name or a table of settings, not {network!r}")
    if "base" not in network:
        return spec_from_dict(network)
    changes = {name: value for name, value in network.items() if name != "base"}
    return spec_from_dict(changes, base=as_spec(network["base"]))


def halving_stages(block: str, channels: tuple, depths: tuple) -> tuple[Stage, ...]:
    """Stage i has depths[i] blocks of channels[i] channels; all but the first halve both sides."""
    stages = [Stage(block, channels[0], depths[0])]
    for width, depth in zip(channels[1:], depths[1:], strict=True):
        stages.append(Stage(block, width, depth, stride=2))
    return tuple(stages)


def residual(
    channels: tuple, depths: tuple, stem: Stem | None = None, dropout: float = 0.0
) -> NetworkSpec:
    """A residual network of halving stages; its stem, if not given, is a 3x3 of stride 2."""
    stages = halving_stages("residual", channels, depths)
    return NetworkSpec(stem or Stem(channels[0]), stages, dropout=dropout)


def _row(block: str, channels: tuple, options: list[dict], activation: str) -> NetworkSpec:
    """A row of the published table. From each number of channels to the next it takes a step: a
    block, a 3x3 transition convolution, and the block again. `options`: the block's, and its
    stride, at each step; `activation`: of the stem and the transitions."""
    stages = []
    for (before, after), step in zip(pairwise(channels), options, strict=True):
        block_options = dict(step)
        stride = block_options.pop("stride", 1)
        stages += [
            Stage(block, before, 1, stride, block_options),
            Stage("conv", after, options={"activation": activation}),
            Stage(block, after, 1, stride, block_options),
        ]
    stem = Stem(channels[0], kernel=7, pool=True, activation=activation)
    return NetworkSpec(stem, tuple(stages), init="kaiming")


def _table() -> dict[str, NetworkSpec]:
    """The twelve networks of the published table; rows 5 to 12 differ in their training only."""
    widths = (32, 64, 128, 256, 512)
    row04, row12 = [], []
    for place, dropout in enumerate((0.2, 0.0, 0.2, 0.0)):
        late = place >= 2  # the second half has squeeze-excite in row 4, strides in the others
        options = {"published": True, "dropout": dropout}
        row04.append(options | {"se": 4 if late else 0})
        row12.append(options | {"se": 4, "stride": 2 if late else 1})
    table = {
        "row01": _row("convnext_dense", (32, 32, 64, 64, 128, 128, 128, 128), [{}] * 7, "relu"),
        "row02": _row("inverted", (32, 64, 64, 128, 128, 256), [{}] * 5, "relu"),
        "row03": _row("inverted", (32, 64, 128, 256), [{"dropout": 0.1}] * 3, "relu"),
        "row04": _row("inverted", widths, row04, "relu6"),
    }
    for number in range(5, 13):
        table[f"row{number:02}"] = _row("inverted", widths, row12, "relu6")
    return table


def _mobilenetv2() -> NetworkSpec:
    # Expansion, channels, depth, stride: table 2 of Sandler et al. 2018.
    rows = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)]
    rows += [(6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    stages = []
    for expansion, channels, depth, stride in rows:
        stages.append(Stage("inverted", channels, depth, stride, {"expansion": expansion}))
    stages.append(Stage("conv", 1280, options={"kernel": 1, "activation": "relu6"}))
    return NetworkSpec(Stem(32, activation="relu6"), tuple(stages), dropout=0.2)


def _lean_convnext() -> NetworkSpec:
    """A published network of F23: batch norm, depth in the early stages, no neck, 12.1 million
    parameters with the homework's head."""
    stages = halving_stages("convnext", (50, 175, 250, 400), (6, 5, 4, 4))
    stages = tuple(replace(stage, options={"norm": "batch"}) for stage in stages)
    return NetworkSpec(Stem(50, kernel=4, stride=4, activation="none"), stages)


def _references() -> dict[str, NetworkSpec]:
    """Networks of the literature, with the parameters of their papers."""
    stem = Stem(64, kernel=7, pool=True)
    widths = (64, 128, 256, 512)
    starter = tuple(Stage("conv", width, stride=2) for width in (128, 256, 512, 1024))
    bottlenecks = halving_stages("bottleneck", (256, 512, 1024, 2048), (3, 4, 6, 3))
    patches = Stem(72, kernel=4, stride=4, activation="none", norm="layer")
    convnext = halving_stages("convnext", (72, 144, 288, 576), (3, 3, 9, 3))
    return {
        "starter": NetworkSpec(Stem(64, kernel=7, stride=4), starter),  # the homework's simple one
        "resnet18": residual(widths, (2, 2, 2, 2), stem),
        "resnet34": residual(widths, (3, 4, 6, 3), stem),
        "resnet50": NetworkSpec(stem, bottlenecks),
        "mobilenetv2": _mobilenetv2(),
        # Narrower than the paper's smallest, which is over the limit, and with a neck.
        "convnext": NetworkSpec(patches, convnext, embedding=512, drop_path=0.1),
        "lean-convnext": _lean_convnext(),
    }


def _ours(
    channels: tuple,
    depths: tuple,
    stem: Stem | None = None,
    se: int = 0,
    embedding: int = 0,
    dropout: float = 0.2,
) -> NetworkSpec:
    """A network of the kit's own family, meant for the most accuracy in a second of training.

    `channels`, `depths`: of its stages, each of which but the first halves the sides; `stem`: 3x3
    with a stride of 2, unless it is given; `se`: the reduction of squeeze-excite in the second half
    of the stages; `embedding`: the neck's length. At 0 there is none.

    A depthwise convolution reads and writes as much as a dense one and multiplies far less, so
    that a GPU mostly waits for its memory; two dense 3x3 convolutions do the most work on every
    number that is moved, so all blocks are residual blocks. An early map is large and dear to
    move; a late one has costly weights: a larger network has most blocks in the third stage.
    Squeeze-excite reads its map again, so only the late, small maps have it. Up to 128 pixels the
    stem halves the sides, and the last map is still up to 8 places wide; at 224 every step would
    then cost four times as much, so there the stem has a stride of 4. The neck puts embeddings
    around zero, to be compared by their angle: right after a ReLU they have no negative entry and
    all lie in one corner. One shorter than the last map is wide also spares the head weights.
    """
    spec = residual(channels, depths, stem, dropout)
    half = len(channels) // 2
    early, late = spec.stages[:half], spec.stages[half:]
    if se:
        late = tuple(replace(stage, options={"se": se}) for stage in late)
    return replace(spec, stages=early + late, embedding=embedding)


WIDE = (64, 128, 256, 512)
OURS = {
    "tiny": _ours((16, 32, 64, 128), (1, 1, 1, 1), dropout=0.0),
    # For a processor and 48 pixels: few channels on the large maps, and in multiples of 16, as many
    # as a processor multiplies at a time; the embedding is the last map's mean.
    "small": _ours((16, 48, 96, 192), (1, 1, 1, 1), dropout=0.0),
    # For 112 pixels and 1,000 people: as many blocks as ResNet-18, fewer of them on large maps.
    "medium": _ours(WIDE, (1, 2, 4, 1), se=16, embedding=256),
    # For 224 pixels and 7,001 people: ResNet-34 without its last block, which is over the limit.
    "large": _ours(WIDE, (3, 4, 6, 2), Stem(64, kernel=7, pool=True), se=16, embedding=512),
}
REFERENCES = _references()
TABLE = _table()
NETWORKS = OURS | REFERENCES | TABLE
