"""What tests of networks share: a small network of every block, and weights to compare with."""

import torch
from torch import nn

from facekit.models.specs import NetworkSpec, Stage, Stem

MIX = NetworkSpec(  # every block, small
    Stem(8),
    (
        Stage("residual", 8, options={"se": 4}),
        Stage("fused", 12, stride=2, options={"se": 4}),
        Stage("conv", 16, options={"kernel": 1, "activation": "silu", "dropout": 0.1}),
        Stage("bottleneck", 16),
        Stage("inverted", 16, stride=2, options={"se": 4, "published": True}),
        Stage("inverted", 16),
        Stage("convnext", 16, depth=2),
        Stage("convnext_dense", 24),
    ),
    embedding=10,
    drop_path=0.2,
)


def on_paper(make, *arguments, **options) -> nn.Module:
    """A module without numbers, only shapes."""
    with torch.device("meta"):
        return make(*arguments, **options)


def carry(source: nn.Module, target: nn.Module, drop: int = 0) -> None:
    """Load numbers into a module that lists as many in the same order, without the first `drop`."""
    values = list(source.state_dict().values())[drop:]
    loaded = {}
    for (name, old), value in zip(target.state_dict().items(), values, strict=True):
        loaded[name] = value.reshape(old.shape)
    target.load_state_dict(loaded)


def stir(module: nn.Module) -> nn.Module:
    """Batch norm statistics and scales that are not as they begin."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.normal_(norm.running_mean, std=0.2)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
    for parameter in module.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.0)
    return module
