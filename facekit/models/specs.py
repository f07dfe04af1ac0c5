"""A network as plain data: what stands in a recipe's TOML, checked. Built in notebook 03."""

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace

from facekit.common.errors import RecipeError
from facekit.models.blocks import BLOCKS
from facekit.models.checks import check_choice, check_drop_rate, check_flag, check_whole
from facekit.models.make import find_named, option_names

SHAPE = ("channels", "out", "stride")  # what every block is told first
MOST_BLOCKS = 1000  # of a network; to count the weights of more takes for ever
INITS = ("relu", "kaiming")  # how weights begin: see net.py


@dataclass(frozen=True)
class Stem:
    """The first look at the image: one convolution, and a max pool to halve once more.

    Kernel, activation and norm are checked by the ConvBlock that is made of it.
    """

    channels: int
    kernel: int = 3
    stride: int = 2
    pool: bool = False
    activation: str = "relu"
    norm: str = "batch"

    def __post_init__(self) -> None:
        check_whole("a network's stem channels", self.channels, 1)
        check_whole("a network's stem stride", self.stride, 1)
        check_flag("a network's stem pool", self.pool)


@dataclass(frozen=True)
class Stage:
    """`depth` blocks of one kind and width; the first has the stride.

    `options` are the block's own, {"se": 8}; it checks their values when it is built.
    """

    block: str  # a name in blocks.BLOCKS, or FILE.py:NAME
    channels: int
    depth: int = 1
    stride: int = 1
    options: Mapping = field(default_factory=dict)

    def __post_init__(self) -> None:
        make_block = find_named("block", self.block, BLOCKS)
        check_whole("a stage's channels", self.channels, 1)
        check_whole("a stage's depth", self.depth, 1)
        check_whole("a stage's stride", self.stride, 1)
        known = option_names(make_block, SHAPE)
        for option in self.options:
            if option not in known:
                raise RecipeError(
                    f"the block {self.block!r} has no option {option!r}; a stage of it has: "
                    f"block, channels, depth, stride, {', '.join(known)}"
                )


@dataclass(frozen=True)
class NetworkSpec:
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
        if sum(stage.depth for stage in self.stages) > MOST_BLOCKS:
            raise RecipeError(f"a network has {MOST_BLOCKS} blocks at most")
        check_whole("a network's embedding", self.embedding, 0)
        check_drop_rate("a network's dropout", self.dropout)
        check_drop_rate("a network's drop_path", self.drop_path)
        check_choice("init", self.init, INITS)

    @property
    def stride(self) -> int:
        """How many pixels lie between two places of the last map."""
        stride = self.stem.stride * (2 if self.stem.pool else 1)
        for stage in self.stages:
            stride *= stage.stride
        return stride


def spec_from_dict(settings: Mapping, base: NetworkSpec | None = None) -> NetworkSpec:
    """The spec that a table of settings says; what it leaves out is `base`'s, where there is one.

    Raises RecipeError for a setting that is missing, unknown or without sense.
    """
    settings = dict(settings)
    _check_names("a network", settings, NetworkSpec, needed=base is None)
    if "stem" in settings:
        _check_table("a network's stem", settings["stem"])
        _check_names("a network's stem", settings["stem"], Stem)
        settings["stem"] = Stem(**settings["stem"])
    if "stages" in settings:
        tables = settings["stages"]
        if not isinstance(tables, list | tuple):
            raise RecipeError(f"a network's stages are a list of tables, not {tables!r}")
        settings["stages"] = tuple(_stage(table) for table in tables)
    if base is None:
        return NetworkSpec(**settings)
    return replace(base, **settings)


def spec_as_dict(spec: NetworkSpec) -> dict:
    """Plain types, for a checkpoint or a TOML file; spec_from_dict reads them back."""
    plain = asdict(spec)
    for stage in plain["stages"]:
        stage.update(stage.pop("options"))
    plain["stages"] = list(plain["stages"])
    return plain


def _stage(table: object) -> Stage:
    """A stage and its block's options, which stand in one table."""
    _check_table("a stage", table)
    own = {field.name for field in fields(Stage)} - {"options"}
    settings = {name: value for name, value in table.items() if name in own}
    options = {name: value for name, value in table.items() if name not in own}
    _check_names("a stage", settings, Stage)
    return Stage(**settings, options=options)


def _check_table(what: str, table: object) -> None:
    if not isinstance(table, Mapping):
        raise RecipeError(f"{what} is a table of settings, not {table!r}")


def _check_names(what: str, settings: Mapping, kind: type, needed: bool = True) -> None:
    """Raise RecipeError for a setting that `kind` does not know, or `needed` and not there."""
    known = inspect.signature(kind).parameters
    for name in settings:
        if name not in known:
            raise RecipeError(f"{what} has no setting {name!r}; there are: {', '.join(known)}")
    for name, setting in known.items():
        if needed and setting.default is setting.empty and name not in settings:
            raise RecipeError(f"{what} needs a setting {name!r}")
