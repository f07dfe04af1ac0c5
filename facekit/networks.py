"""Whole networks from blocks: stem, stages, embedding, head. Built in notebook 03."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import pandas as pd
import torch
from torch import nn

from facekit.blocks import ConvBlock, ResidualBlock
from facekit.errors import RecipeError
from facekit.heads import Linear


@dataclass(frozen=True)
class NetworkSpec:
    """A residual network in plain data.

    Stage i has `depths[i]` blocks of `channels[i]` channels; every stage but the first halves
    height and width. The embedding is as long as the last entry of `channels`.
    """

    channels: tuple[int, ...]
    depths: tuple[int, ...]
    stem_kernel: int = 3
    stem_stride: int = 2
    stem_pool: bool = False  # halve once more, as the networks for 224 px do
    dropout: float = 0.0  # on the embedding, before the head

    def __post_init__(self) -> None:
        if not self.channels or len(self.channels) != len(self.depths):
            raise RecipeError(
                f"a network needs as many depths as channels, one at least; "
                f"got channels {self.channels} and depths {self.depths}"
            )
        for key in ("channels", "depths", "stem_kernel", "stem_stride"):
            value = getattr(self, key)
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(type(number) is int and number > 0 for number in numbers):
                raise RecipeError(f"a network's {key} must be whole and over 0, not {value!r}")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise RecipeError(f"a network's dropout must be in 0 ... 1, not {self.dropout!r}")


SPECS = {
    "tiny": NetworkSpec((16, 32, 64, 128), (1, 1, 1, 1)),
    "small": NetworkSpec((32, 64, 128, 256), (1, 1, 1, 1), dropout=0.2),
    "medium": NetworkSpec((64, 128, 256, 512), (2, 2, 2, 2), stem_kernel=5, dropout=0.2),
    "large": NetworkSpec((64, 128, 256, 512), (3, 4, 6, 2), 7, 2, stem_pool=True, dropout=0.2),
}


class FaceNet(nn.Module):
    """A network that gives class logits, and before them the embedding used for verification."""

    def __init__(self, spec: NetworkSpec, num_classes: int) -> None:
        super().__init__()
        self.spec, self.num_classes = spec, num_classes
        self.stem = _stem(spec)
        self.stages = nn.Sequential(*_stages(spec))
        self.dropout = nn.Dropout(spec.dropout)
        self.head = Linear(spec.channels[-1], num_classes)
        self.apply(_initialise)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, D): the mean of the last feature map over its places."""
        features = self.stages(self.stem(x))  # (B, D, h, w)
        return features.mean((2, 3))

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """(B, 3, H, W) -> logits (B, num_classes)."""
        return self.head(self.dropout(self.embed(x)), labels)


def _stem(spec: NetworkSpec) -> nn.Module:
    conv = ConvBlock(3, spec.channels[0], spec.stem_kernel, spec.stem_stride)
    return nn.Sequential(conv, nn.MaxPool2d(3, 2, padding=1)) if spec.stem_pool else conv


def _stages(spec: NetworkSpec) -> list[nn.Module]:
    stages = []
    before = spec.channels[0]
    for stage, (channels, depth) in enumerate(zip(spec.channels, spec.depths, strict=True)):
        blocks = [ResidualBlock(before, channels, stride=1 if stage == 0 else 2)]
        blocks += [ResidualBlock(channels, channels) for _ in range(depth - 1)]
        stages.append(nn.Sequential(*blocks))
        before = channels
    return stages


def _initialise(module: nn.Module) -> None:
    """He et al. 2015 (arXiv 1502.01852): keep the spread of activations through ReLUs."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def build(spec: str | Mapping | NetworkSpec, num_classes: int) -> FaceNet:
    """A fresh network from a spec, its settings as a mapping, or the name of one in SPECS.

    Raises RecipeError when there is no such name, setting or number of classes.
    """
    if num_classes < 1:
        raise RecipeError(f"a network needs at least one class, not {num_classes}")
    return FaceNet(as_spec(spec), num_classes)


def as_spec(spec: str | Mapping | NetworkSpec) -> NetworkSpec:
    """The spec meant by a name, a mapping (as in a TOML file) or a spec itself."""
    if isinstance(spec, NetworkSpec):
        return spec
    if isinstance(spec, str):
        if spec not in SPECS:
            raise RecipeError(f"no network {spec!r}; choose one of: {', '.join(SPECS)}")
        return SPECS[spec]
    if not isinstance(spec, Mapping):
        raise RecipeError(f"a network is a name or a table of settings, not {spec!r}")
    unknown = set(spec) - {field.name for field in fields(NetworkSpec)}
    if unknown:
        raise RecipeError(f"a network has no setting {sorted(unknown)[0]!r}")
    try:
        lists = {key: tuple(spec[key]) for key in ("channels", "depths")}
    except (KeyError, TypeError) as error:
        raise RecipeError("a network needs lists of channels and depths") from error
    return NetworkSpec(**{**spec, **lists})


def spec_as_dict(spec: NetworkSpec) -> dict:
    """Plain types, for a checkpoint."""
    return asdict(spec)


def count_parameters(net: nn.Module) -> int:
    """How many numbers the network learns."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def describe(net: FaceNet, size: int) -> pd.DataFrame:
    """Each part of the network: what it gives for a picture of size x size, and what it learns."""
    net = copy.deepcopy(net).cpu().eval()  # leave the caller's as it is
    x = torch.zeros(1, 3, size, size)
    rows = []
    with torch.inference_mode():
        for name, part in (("stem", net.stem), *_numbered(net.stages)):
            x = part(x)
            rows.append((name, "x".join(map(str, x.shape[1:])), count_parameters(part)))
    rows.append(("embedding", str(x.shape[1]), 0))
    rows.append(("head", str(net.num_classes), count_parameters(net.head)))
    rows.append(("all", "", count_parameters(net)))
    return pd.DataFrame(rows, columns=["part", "output", "parameters"]).set_index("part")


def _numbered(stages: nn.Sequential) -> list[tuple[str, nn.Module]]:
    return [(f"stage {number}", stage) for number, stage in enumerate(stages, start=1)]


def check_limit(net: nn.Module, limit: int | None) -> None:
    """Raise RecipeError when the network is over the homework's limit, saying by how much."""
    count = count_parameters(net)
    if limit is not None and count > limit:
        head = count_parameters(net.head) if hasattr(net, "head") else 0
        raise RecipeError(
            f"{count:,} parameters are {count - limit:,} over the limit of {limit:,}; "
            f"{head:,} of them are in the head"
        )
