"""The pieces a network is built of. Built in notebook 03.

Every block is made as Block(channels, out, stride, options ...) and takes (B, channels, H, W) to
(B, out, H / stride, W / stride), so that any of them can follow any other. Sides are rounded up,
and down where a picture is cut into patches.
"""

import torch
from torch import nn

from facekit.errors import RecipeError
from facekit.guards import full_precision


class LayerNorm(nn.LayerNorm):
    """Each place of (B, C, H, W) normalised over its channels (Ba et al., arXiv 1607.06450)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # channels last and back


CHOICES = {  # what an option may name
    "activation": {
        "relu": lambda: nn.ReLU(inplace=True),
        "relu6": lambda: nn.ReLU6(inplace=True),
        "gelu": nn.GELU,
        "silu": nn.SiLU,
        "hard_swish": nn.Hardswish,
        "none": nn.Identity,
    },
    "gate": {"hard_sigmoid": nn.Hardsigmoid, "sigmoid": nn.Sigmoid, "hard_swish": nn.Hardswish},
    "norm": {"batch": nn.BatchNorm2d, "layer": LayerNorm},
}


def choose(option: str, name: str, *arguments: int) -> nn.Module:
    """The activation, gate or norm of that name."""
    choices = CHOICES[option]
    if not isinstance(name, str) or name not in choices:
        raise RecipeError(f"no {option} {name!r}; choose one of: {', '.join(choices)}")
    return choices[name](*arguments)


class DropPath(nn.Module):
    """Stochastic depth: a picture goes without this branch (Huang et al. 2016, arXiv 1603.09382).

    In training each (C, H, W) of the batch is zero with probability `rate`; the others grow, so
    that the mean stays. In evaluation the identity.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(1 - self.rate)
        return x * kept / (1 - self.rate)

    def extra_repr(self) -> str:
        return f"{self.rate}"


class StridedDepthwise(nn.Conv2d):
    """A convolution in groups with a stride; on the processor in float32 whatever autocast says.

    oneDNN's backward pass of these in bfloat16 takes eight times as long as in float32, which made
    whole networks slower than without bfloat16.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        with full_precision(x):
            return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class ConvBlock(nn.Sequential):
    """Convolution, norm, dropout of whole channels, activation.

    An odd kernel is padded, so that stride 1 keeps height and width; an even one has to be as
    large as the stride: it cuts the picture into patches.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        stride: int = 1,
        *,
        kernel: int = 3,
        groups: int = 1,
        norm: str = "batch",
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        if kernel % 2 == 0 and kernel != stride:
            raise RecipeError(f"a kernel is odd or as large as the stride {stride}, not {kernel}")
        padding = kernel // 2 if kernel % 2 else 0
        # Batch norm subtracts each channel's mean, so a bias before it would do nothing.
        bias = norm != "batch"
        kind = StridedDepthwise if groups > 1 and stride > 1 else nn.Conv2d
        parts = [kind(channels, out, kernel, stride, padding, groups=groups, bias=bias)]
        parts.append(choose("norm", norm, out))
        if dropout:
            parts.append(nn.Dropout2d(dropout))
        if activation != "none":
            parts.append(choose("activation", activation))
        super().__init__(*parts)


def project(channels: int, out: int, kernel: int = 1, stride: int = 1) -> list[nn.Module]:
    """Convolution and batch norm without an activation: the end of a branch, or a shortcut."""
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(out)]


def unchanged(channels: int, out: int, stride: int) -> nn.Module | None:
    """A shortcut that is the input, or none where the shape changes."""
    return nn.Identity() if stride == 1 and channels == out else None


def option_b(channels: int, out: int, stride: int) -> nn.Module:
    """A shortcut that is the input, or where the shape changes a strided 1x1 convolution of it."""
    same = unchanged(channels, out, stride)
    return same or nn.Sequential(*project(channels, out, stride=stride))


class SqueezeExcite(nn.Module):
    """Each channel weighed by what the whole picture holds (Hu et al. 2018, arXiv 1709.01507).

    (B, C, H, W) -> the same: mean over places, C -> C / reduction -> C, gate, product. `norm`:
    batch norm and no bias, as in the published table. Its gate is x * relu6(x + 3) / 6, a hard
    *swish*, which has no upper end; a hard sigmoid, relu6(x + 3) / 6, was meant.
    """

    def __init__(
        self, channels: int, reduction: int = 4, gate: str = "hard_sigmoid", norm: bool = False
    ) -> None:
        super().__init__()
        if channels % reduction:
            raise RecipeError(f"{channels} channels cannot be divided by the reduction {reduction}")
        few = channels // reduction
        self.weigh = nn.Sequential(
            nn.Conv2d(channels, few, 1, bias=not norm),
            *([nn.BatchNorm2d(few)] if norm else []),
            nn.ReLU(inplace=True),
            nn.Conv2d(few, channels, 1, bias=not norm),
            *([nn.BatchNorm2d(channels)] if norm else []),
            choose("gate", gate),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weigh(x.mean((2, 3), keepdim=True))  # (B, C, 1, 1)


class Residual(nn.Module):
    """act(x' + branch(x)), where x' is x or, in another shape, what the shortcut makes of it."""

    def __init__(
        self, branch: list[nn.Module], shortcut: nn.Module, drop_path: float, activation: str
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(*branch)
        self.shortcut = shortcut
        self.drop_path = DropPath(drop_path)
        self.activation = choose("activation", activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.drop_path(self.residual(x)) + self.shortcut(x))


class ResidualBlock(Residual):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016, arXiv 1512.03385, figure 2).

    Where the shape changes, the shortcut is a strided 1x1 convolution with batch norm (their
    option B). `se`: the reduction of a squeeze-excite at the end of the branch; 0: none.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        stride: int = 1,
        *,
        se: int = 0,
        activation: str = "relu",
        drop_path: float = 0.0,
    ) -> None:
        branch = [
            ConvBlock(channels, out, stride, activation=activation),
            *project(out, out, kernel=3),
        ]
        if se:
            branch.append(SqueezeExcite(out, se))
        super().__init__(branch, option_b(channels, out, stride), drop_path, activation)


class BottleneckBlock(Residual):
    """1x1 to a quarter of the channels, 3x3, 1x1 back (He et al. 2016, arXiv 1512.03385, figure 5).

    `expansion`: how many times wider the output is than the middle. The 3x3 has the stride, as
    everybody builds it since. Shortcut and `se` as in ResidualBlock.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        stride: int = 1,
        *,
        expansion: int = 4,
        se: int = 0,
        activation: str = "relu",
        drop_path: float = 0.0,
    ) -> None:
        if out % expansion:
            raise RecipeError(f"{out} channels cannot be divided by the expansion {expansion}")
        few = out // expansion
        branch = [
            ConvBlock(channels, few, kernel=1, activation=activation),
            ConvBlock(few, few, stride, activation=activation),
            *project(few, out),
        ]
        if se:
            branch.append(SqueezeExcite(out, se))
        super().__init__(branch, option_b(channels, out, stride), drop_path, activation)


class Inverted(nn.Module):
    """A branch wide in the middle, and the input added where the shape is the same: no activation
    after the sum, because the narrow ends carry all there is (Sandler et al., section 3.2)."""

    def __init__(
        self, branch: list[nn.Module], shortcut: nn.Module | None, drop_path: float
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(*branch)
        self.shortcut = shortcut
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = self.residual(x)
        return branch if self.shortcut is None else self.drop_path(branch) + self.shortcut(x)


class InvertedBottleneck(Inverted):
    """1x1 to `expansion` times the channels, 3x3 depthwise, 1x1 to `out`
    (MobileNetV2, Sandler et al. 2018, arXiv 1801.04381, figure 4).

    Where the shape changes nothing is added, as in the paper; with `shortcut`, a strided 1x1
    convolution with batch norm, as in the published table. Expansion 1 leaves the first 1x1 out.
    `depthwise=False` gives the block that a row of the table names, while its code is depthwise.
    `se`: a squeeze-excite before the last 1x1 (MobileNetV3, Howard et al. 2019, arXiv 1905.02244).
    """

    def __init__(
        self,
        channels: int,
        out: int,
        stride: int = 1,
        *,
        expansion: int = 4,
        kernel: int = 3,
        depthwise: bool = True,
        se: int = 0,
        se_norm: bool = False,
        gate: str = "hard_sigmoid",
        shortcut: bool = False,
        activation: str = "relu6",
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        wide = channels * expansion
        look = {"activation": activation, "dropout": dropout}
        branch = [ConvBlock(channels, wide, kernel=1, **look)] if expansion > 1 else []
        groups = wide if depthwise else 1
        branch.append(ConvBlock(wide, wide, stride, kernel=kernel, groups=groups, **look))
        if se:
            branch.append(SqueezeExcite(wide, se, gate, se_norm))
        branch += project(wide, out)
        beside = option_b if shortcut else unchanged
        super().__init__(branch, beside(channels, out, stride), drop_path)


class FusedInvertedBottleneck(Inverted):
    """A dense 3x3 in the place of the first 1x1 and the depthwise 3x3
    (EfficientNetV2, Tan and Le 2021, arXiv 2104.00298, figure 2).

    More arithmetic and less traffic to memory, which is the faster on a GPU where there are few
    channels. Expansion 1: the 3x3 alone. The input is added where the shape is the same.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        stride: int = 1,
        *,
        expansion: int = 4,
        kernel: int = 3,
        se: int = 0,
        activation: str = "silu",
        drop_path: float = 0.0,
    ) -> None:
        wide = channels * expansion if expansion > 1 else out
        branch = [ConvBlock(channels, wide, stride, kernel=kernel, activation=activation)]
        if se:
            branch.append(SqueezeExcite(wide, se))
        if expansion > 1:
            branch += project(wide, out)
        super().__init__(branch, unchanged(channels, out, stride), drop_path)


class ConvNeXtBlock(nn.Module):
    """7x7 depthwise, norm, 1x1 to `expansion` times the channels, GELU, 1x1 back
    (Liu et al. 2022, arXiv 2201.03545, figure 4).

    Where the shape changes, norm and a convolution of stride x stride patches come first: the
    paper's separate downsampling layer. `layer_scale` is where each channel's factor begins
    (Touvron et al. 2021, arXiv 2103.17239); 0: no factors.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        stride: int = 1,
        *,
        expansion: int = 4,
        kernel: int = 7,
        norm: str = "layer",
        layer_scale: float = 1e-6,
        activation: str = "gelu",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.down = nn.Sequential()
        if stride != 1 or channels != out:
            patches = nn.Conv2d(channels, out, stride, stride)
            self.down = nn.Sequential(choose("norm", norm, channels), patches)
        self.residual = nn.Sequential(
            nn.Conv2d(out, out, kernel, padding=kernel // 2, groups=out),
            choose("norm", norm, out),
            nn.Conv2d(out, expansion * out, 1),
            choose("activation", activation),
            nn.Conv2d(expansion * out, out, 1),
        )
        # A vector, so that weight decay leaves it alone like any other scale.
        self.scale = nn.Parameter(torch.full((out,), layer_scale)) if layer_scale else None
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down(x)
        branch = self.residual(x)
        if self.scale is not None:
            branch = branch * self.scale[:, None, None]
        return x + self.drop_path(branch)


class DenseConvNeXtBlock(Residual):
    """The published table's ConvNeXt-style block, which is not depthwise: 7x7 to `expansion` times
    the channels, batch norm, 1x1 as wide, GELU, 1x1 back.

    The table never changes the shape inside it; here the shortcut is then that of ResidualBlock.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        stride: int = 1,
        *,
        expansion: int = 4,
        kernel: int = 7,
        drop_path: float = 0.0,
    ) -> None:
        wide = channels * expansion
        branch = [
            *project(channels, wide, kernel, stride),
            nn.Conv2d(wide, wide, 1, bias=False),
            nn.GELU(),
            nn.Conv2d(wide, out, 1, bias=False),
        ]
        super().__init__(branch, option_b(channels, out, stride), drop_path, "none")


BLOCKS: dict[str, type[nn.Module]] = {
    "conv": ConvBlock,
    "residual": ResidualBlock,
    "bottleneck": BottleneckBlock,
    "inverted": InvertedBottleneck,
    "fused": FusedInvertedBottleneck,
    "convnext": ConvNeXtBlock,
    "convnext_dense": DenseConvNeXtBlock,
}
