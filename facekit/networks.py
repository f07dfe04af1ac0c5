"""Whole networks from blocks: stem, stages, embedding, head. Built in notebook 03."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from inspect import signature
from itertools import pairwise

import pandas as pd
import torch
from torch import nn

from facekit import heads
from facekit.anatomy import check_limit as check_limit
from facekit.anatomy import count_parameters as count_parameters
from facekit.anatomy import describe as describe
from facekit.blocks import BLOCKS, CHOICES, ConvBlock
from facekit.errors import RecipeError

LEAST = {"channels": 1, "depth": 1, "stride": 1, "kernel": 1, "expansion": 1, "se": 0}
LEAST |= {"embedding": 0}
MOST = 0.99  # to drop everything would leave nothing to learn from
INITS = ("relu", "kaiming")


class Settings:
    """Plain data that prints what was said, without what was left at its default."""

    def __repr__(self) -> str:
        values = ((field, getattr(self, field.name)) for field in fields(self))
        said = [f"{field.name}={value!r}" for field, value in values if value != field.default]
        return f"{type(self).__name__}({', '.join(said)})"


@dataclass(frozen=True, repr=False)
class Stem(Settings):
    """The first look at the picture: one convolution, and a max pool to halve once more."""

    channels: int
    kernel: int = 3
    stride: int = 2
    pool: bool = False
    activation: str = "relu"
    norm: str = "batch"

    def __post_init__(self) -> None:
        _check(self, "a network's stem")


@dataclass(frozen=True, repr=False)
class Stage(Settings):
    """`depth` blocks of one kind and width; the first has the stride.

    What stands below `stride` are options of the block; None leaves the block's own default.
    """

    block: str  # a name in blocks.BLOCKS
    channels: int
    depth: int = 1
    stride: int = 1
    expansion: int | None = None
    kernel: int | None = None
    depthwise: bool | None = None
    shortcut: bool | None = None
    se: int | None = None  # the reduction of a squeeze-excite; 0: none
    se_norm: bool | None = None
    gate: str | None = None
    norm: str | None = None
    layer_scale: float | None = None
    activation: str | None = None
    dropout: float | None = None
    drop_path: float | None = None

    def __post_init__(self) -> None:
        _check(self, "a stage's")
        if self.block != "conv" and self.kernel is not None and self.kernel % 2 == 0:
            raise RecipeError(f"the kernel of a block {self.block!r} is odd, not {self.kernel}")
        known = signature(BLOCKS[self.block]).parameters
        for option in self.options:
            if option not in known:
                takes = ", ".join(name for name in known if name in OPTIONS)
                raise RecipeError(
                    f"the block {self.block!r} has no option {option!r}; it has: {takes}"
                )

    @property
    def options(self) -> dict:
        return {key: getattr(self, key) for key in OPTIONS if getattr(self, key) is not None}


OPTIONS = [field.name for field in fields(Stage)][4:]


@dataclass(frozen=True, repr=False)
class NetworkSpec(Settings):
    """A network in plain data, as it stands in a recipe's TOML."""

    stem: Stem
    stages: tuple[Stage, ...]
    embedding: int = 0  # its length, made by a linear layer; 0: the last stage's means as they are
    dropout: float = 0.0  # on the embedding, before the head
    drop_path: float = 0.0  # of the last block; it climbs to this from 0 at the first one
    head: str | Mapping = "linear"  # a name in heads.HEADS, or a table with a name and options
    init: str = "relu"  # "kaiming": every convolution and linear layer, as in the published table

    def __post_init__(self) -> None:
        if not self.stages:
            raise RecipeError("a network needs one stage at least")
        _check(self, "a network's")

    @property
    def stride(self) -> int:
        """How many pixels lie between two places of the last map."""
        stride = self.stem.stride * (2 if self.stem.pool else 1)
        for stage in self.stages:
            stride *= stage.stride
        return stride


def _check(settings: Settings, where: str) -> None:
    """Raise RecipeError unless every setting has a value that makes sense."""
    for field in fields(settings):
        name, value = field.name, getattr(settings, field.name)
        if value is None and field.default is None:
            continue
        if name in LEAST and (type(value) is not int or value < LEAST[name]):
            raise RecipeError(f"{where} {name} is whole and at least {LEAST[name]}, not {value!r}")
        if name in ("dropout", "drop_path", "layer_scale"):
            below = 1 if name == "layer_scale" else MOST
            if type(value) not in (int, float) or not 0 <= value <= below:
                raise RecipeError(f"{where} {name} is from 0 to {below}, not {value!r}")
        elif name in ("pool", "depthwise", "shortcut", "se_norm") and type(value) is not bool:
            raise RecipeError(f"{where} {name} is true or false, not {value!r}")
        choices = {"block": BLOCKS, "init": INITS, **CHOICES}.get(name)
        if choices and (not isinstance(value, str) or value not in choices):
            raise RecipeError(f"no {name} {value!r}; choose one of: {', '.join(choices)}")


class FaceNet(nn.Module):
    """A network that gives class logits, and before them the embedding used for verification."""

    def __init__(self, spec: NetworkSpec, num_classes: int) -> None:
        super().__init__()
        self.spec, self.num_classes, self.stride = spec, num_classes, spec.stride
        self.stem = _stem(spec.stem)
        self.stages = nn.Sequential(*_stages(spec))
        pooled = spec.stages[-1].channels
        self.dim = spec.embedding or pooled  # the embedding's length
        self.neck = nn.Sequential()
        if spec.embedding:
            # Centred and of one scale, as angles between embeddings want it; to learn a scale
            # would be idle before the head's own weights.
            norm = nn.BatchNorm1d(self.dim, affine=False)
            self.neck = nn.Sequential(nn.Linear(pooled, self.dim, bias=False), norm)
        self.dropout = nn.Dropout(spec.dropout)
        self.head = heads.build(spec.head, self.dim, num_classes)
        self.apply(_relu_init if spec.init == "relu" else _kaiming_init)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, D): the last map's mean over its places, through the neck."""
        self.check_pictures(x)
        features = self.stages(self.stem(x))  # (B, C, h, w)
        return self.neck(features.mean((2, 3)))

    def check_pictures(self, x: torch.Tensor) -> None:
        """Raise RecipeError unless x is (B, 3, H, W) and the last map has a place for it."""
        if x.ndim != 4 or x.shape[1] != 3:
            raise RecipeError(f"pictures are (B, 3, H, W), not {tuple(x.shape)}")
        if x.shape[2] < self.stride or x.shape[3] < self.stride:
            raise RecipeError(
                f"pictures of {x.shape[2]} x {x.shape[3]} pixels are smaller than the network's "
                f"stride of {self.stride}; take larger ones or fewer strides"
            )

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """(B, 3, H, W) -> logits (B, num_classes)."""
        return self.head(self.dropout(self.embed(x)), labels)


def _stem(stem: Stem) -> nn.Module:
    look = {"kernel": stem.kernel, "activation": stem.activation, "norm": stem.norm}
    conv = ConvBlock(3, stem.channels, stem.stride, **look)
    return nn.Sequential(conv, nn.MaxPool2d(3, 2, padding=1)) if stem.pool else conv


def _stages(spec: NetworkSpec) -> list[nn.Module]:
    stages, before, place = [], spec.stem.channels, 0
    last = max(1, sum(stage.depth for stage in spec.stages) - 1)
    for stage in spec.stages:
        block, options, blocks = BLOCKS[stage.block], stage.options, []
        drops = spec.drop_path and "drop_path" in signature(block).parameters
        for number in range(stage.depth):
            climb = {"drop_path": spec.drop_path * place / last} if drops else {}
            stride = 1 if number else stage.stride
            blocks.append(block(before, stage.channels, stride, **climb | options))
            before, place = stage.channels, place + 1
        stages.append(nn.Sequential(*blocks))
    return stages


def _relu_init(module: nn.Module) -> None:
    """He et al. 2015 (arXiv 1502.01852): keep the spread of activations through ReLUs."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _kaiming_init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)


def build(spec: str | Mapping | NetworkSpec, num_classes: int) -> FaceNet:
    """A fresh network from a spec, its settings as a mapping, or the name of one in NETWORKS.

    Raises RecipeError when there is no such name, setting or number of classes.
    """
    if num_classes < 1:
        raise RecipeError(f"a network needs at least one class, not {num_classes}")
    return FaceNet(as_spec(spec), num_classes)


def compare(names: Iterable[str], num_classes: int, size: int) -> pd.DataFrame:
    """Stride, what a place sees, parameters and multiply-adds of networks of NETWORKS, a row each.

    Of one picture of size x size, with a head for `num_classes`.
    """
    rows = {name: describe(build(name, num_classes), size).loc["all"] for name in names}
    return pd.DataFrame(rows).T.drop(columns="output").astype(int)


def as_spec(spec: str | Mapping | NetworkSpec) -> NetworkSpec:
    """The spec meant by a name, a mapping (as in a TOML file) or a spec itself.

    A mapping may begin with the name of a network and change some of its settings:
    {"base": "face-s", "head": "arcface"}.
    """
    if isinstance(spec, NetworkSpec):
        return spec
    if isinstance(spec, str):
        if spec not in NETWORKS:
            raise RecipeError(f"no network {spec!r}; choose one of: {', '.join(NETWORKS)}")
        return NETWORKS[spec]
    if not isinstance(spec, Mapping):
        raise RecipeError(f"a network is a name or a table of settings, not {spec!r}")
    settings = {key: value for key, value in spec.items() if key != "base"}
    if "stem" in settings:
        settings["stem"] = _part(Stem, settings["stem"], "a network's stem")
    if "stages" in settings:
        if not isinstance(settings["stages"], list | tuple):
            raise RecipeError(f"a network's stages are a list of tables, not {spec['stages']!r}")
        stages = [_part(Stage, stage, "a stage") for stage in settings["stages"]]
        settings["stages"] = tuple(stages)
    if "base" in spec:
        base = as_spec(spec["base"])
        settings = {field.name: getattr(base, field.name) for field in fields(base)} | settings
    return _part(NetworkSpec, settings, "a network")


def _part(kind: type, settings: object, where: str):
    if isinstance(settings, kind):
        return settings
    if not isinstance(settings, Mapping):
        raise RecipeError(f"{where} is a table of settings, not {settings!r}")
    for key in settings:
        if key not in kind.__dataclass_fields__:
            known = ", ".join(kind.__dataclass_fields__)
            raise RecipeError(f"{where} has no setting {key!r}; there are: {known}")
    for field in fields(kind):
        if field.default is MISSING and field.name not in settings:
            raise RecipeError(f"{where} needs a setting {field.name!r}")
    return kind(**settings)


def spec_as_dict(spec: NetworkSpec) -> dict:
    """Plain types, for a checkpoint or a TOML file; as_spec reads them back."""
    stages = [
        {key: value for key, value in asdict(stage).items() if value is not None}
        for stage in spec.stages
    ]
    head = spec.head if isinstance(spec.head, str) else dict(spec.head)
    return asdict(replace(spec, head="linear")) | {"stages": stages, "head": head}


def residual(channels: tuple, depths: tuple, stem: Stem | None = None, **settings) -> NetworkSpec:
    """A residual network: stage i has depths[i] blocks of channels[i] channels, and every stage but
    the first halves height and width. The stem is a 3x3 convolution of stride 2 if not said."""
    if not channels or len(channels) != len(depths):
        raise RecipeError(f"as many depths as channels are needed: {channels}, {depths}")
    stages = _halving("residual", channels, depths)
    return NetworkSpec(stem or Stem(channels[0]), stages, **settings)


def _halving(block: str, channels: tuple, depths: tuple, **options) -> tuple[Stage, ...]:
    sizes = enumerate(zip(channels, depths, strict=True))
    return tuple(Stage(block, c, n, min(i + 1, 2), **options) for i, (c, n) in sizes)


def _row(block: str, channels: tuple, activation: str = "relu", **options) -> NetworkSpec:
    """A row of the published table: for each step in channels a block, a transition convolution
    and another block; a list in `options` has an entry for each step."""
    stages = []
    for step, (before, after) in enumerate(pairwise(channels)):
        own = {key: v[step] if isinstance(v, list) else v for key, v in options.items()}
        first = Stage(block, before, **own)
        transition = Stage("conv", after, activation=activation)
        stages += [first, transition, replace(first, channels=after)]
    stem = Stem(channels[0], kernel=7, pool=True, activation=activation)
    return NetworkSpec(stem, tuple(stages), init="kaiming")


def _table() -> dict[str, NetworkSpec]:
    """The twelve networks of the published table; rows 5 to 12 differ in their training only."""
    plain = {"block": "inverted", "activation": "relu"}
    squeezed = {"block": "inverted", "channels": (32, 64, 128, 256, 512), "activation": "relu6"}
    squeezed |= {"dropout": [0.2, 0.0, 0.2, 0.0], "shortcut": True}
    squeezed |= {"se_norm": True, "gate": "hard_swish"}  # as published; see SqueezeExcite
    last = _row(**squeezed, se=4, stride=[1, 1, 2, 2])
    return {
        "row01": _row("convnext_dense", (32, 32, 64, 64, 128, 128, 128, 128)),
        "row02": _row(channels=(32, 64, 64, 128, 128, 256), **plain),
        "row03": _row(channels=(32, 64, 128, 256), dropout=0.1, **plain),
        "row04": _row(**squeezed, se=[0, 0, 4, 4]),
        **{f"row{number:02}": last for number in range(5, 13)},
    }


def _references() -> dict[str, NetworkSpec]:
    """Networks of the literature, with the parameters of their papers."""
    widths, stem = (64, 128, 256, 512), Stem(64, kernel=7, pool=True)
    wide = _halving("bottleneck", (256, 512, 1024, 2048), (3, 4, 6, 3))
    mobile = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)]
    mobile += [(6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    inverted = [Stage("inverted", c, n, s, expansion=t) for t, c, n, s in mobile]
    inverted.append(Stage("conv", 1280, kernel=1, activation="relu6"))
    next_stem = Stem(72, kernel=4, stride=4, activation="none", norm="layer")
    next_stages = _halving("convnext", (72, 144, 288, 576), (3, 3, 9, 3))
    starter = tuple(Stage("conv", c, stride=2) for c in (128, 256, 512, 1024))
    return {
        "starter": NetworkSpec(Stem(64, kernel=7, stride=4), starter),  # the homework's simple one
        "resnet18": residual(widths, (2, 2, 2, 2), stem),
        "resnet34": residual(widths, (3, 4, 6, 3), stem),
        "resnet50": NetworkSpec(stem, wide),
        "mobilenetv2": NetworkSpec(Stem(32, activation="relu6"), tuple(inverted), dropout=0.2),
        # Narrower than the paper's smallest, which is over the limit, and with a neck.
        "convnext": NetworkSpec(next_stem, next_stages, embedding=512, drop_path=0.1),
    }


def _ours() -> dict[str, NetworkSpec]:
    """Our own networks, meant for the most accuracy in a second of training.

    A depthwise convolution reads and writes as much as a dense one and multiplies far less, so
    that a GPU mostly waits for its memory; two dense 3x3 convolutions do the most work on every
    number that is moved, so all blocks are residual blocks. An early map is large and dear to
    move; a late one has costly weights, and 7,001 people leave 17 million for them: most blocks
    are in the third stage. Squeeze-excite reads its map again, so only the late, small maps have
    it. No max pool and a stride of 16 in all, for pictures of 96 to 128 pixels, where the last
    map is still 6 to 8 places wide; at 224 every step costs four times as much, unless the stem
    gets stride 4. The neck puts embeddings around zero, to be compared by their angle: right
    after a ReLU they have no negative entry and all lie in one corner.
    """
    small = [(32, 1, 1, 0), (64, 1, 2, 0), (128, 3, 2, 8), (256, 2, 2, 8)]
    middle = [(64, 1, 1, 0), (128, 2, 2, 0), (256, 6, 2, 16), (512, 2, 2, 16)]
    rows = {"face-s": (small, 256), "face-m": (middle, 512)}
    return {
        name: NetworkSpec(
            Stem(widths[0][0]),
            tuple(Stage("residual", c, n, s, se=se) for c, n, s, se in widths),
            embedding=length,
            dropout=0.2,
        )
        for name, (widths, length) in rows.items()
    }


SPECS = {
    "tiny": residual((16, 32, 64, 128), (1, 1, 1, 1)),
    "small": residual((32, 64, 128, 256), (1, 1, 1, 1), dropout=0.2),
    "medium": residual((64, 128, 256, 512), (2, 2, 2, 2), Stem(64, kernel=5), dropout=0.2),
    "large": residual(
        (64, 128, 256, 512), (3, 4, 6, 2), Stem(64, kernel=7, pool=True), dropout=0.2
    ),
    **_ours(),
}
REFERENCES = _references()
TABLE = _table()
NETWORKS = SPECS | REFERENCES | TABLE
