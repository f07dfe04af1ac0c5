"""The pieces a network is built of. Built in notebook 03.

Every block is made as Block(channels, out, stride, options ...) and takes (B, channels, H, W) to
(B, out, H / stride, W / stride), so that any of them can follow any other. Sides are rounded up,
and down where an image is cut into patches.
"""

import torch
from torch import nn

from facekit.common.errors import RecipeError
from facekit.models.checks import check_choice, check_drop_rate, check_flag, check_whole
from facekit.models.numerics import without_autocast


class LayerNorm(nn.LayerNorm):
    """Each place of (B, C, H, W) normalised over its channels (Ba et al., arXiv 1607.06450)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.permute(0, 2, 3, 1)  # (B, H, W, C): torch's layer norm is over the last axis
        return super().forward(x).permute(0, 3, 1, 2)


ACTIVATIONS = {
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "silu": nn.SiLU,
    "none": nn.Identity,
}
NORMS = {"batch": nn.BatchNorm2d, "layer": LayerNorm}


class DropPath(nn.Module):
    """Stochastic depth: an image goes without this branch (Huang et al. 2016, arXiv 1603.09382).

    In training each (C, H, W) of the batch is zero with probability `rate`; the others grow, so
    that the mean stays. In evaluation the identity.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        check_drop_rate("drop_path", rate)
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(1 - self.rate)  # 0 or 1 for each image
        return x * kept / (1 - self.rate)


class StridedDepthwise(nn.Conv2d):
    """A convolution in groups with a stride; on the processor in float32 whatever autocast says.

    oneDNN's backward pass of these in bfloat16 takes eight times as long as in float32, which made
    whole networks slower than without bfloat16.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        with without_autocast(x):
            return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class SqueezeExcite(nn.Module):
    """Each channel weighed by what the whole image holds (Hu et al. 2018, arXiv 1709.01507).

    (B, C, H, W) -> the same: mean over places, C -> C / reduction -> C, gate, product.
    `published`: with batch norm and no bias, as in the published table. Its gate is
    x * relu6(x + 3) / 6, a hard *swish*, which has no upper end; a hard sigmoid,
    relu6(x + 3) / 6, was meant.
    """

    def __init__(self, channels: int, reduction: int = 4, published: bool = False) -> None:
        super().__init__()
        check_whole("the reduction se", reduction, 1)
        if channels % reduction:
            raise RecipeError(f"{channels} channels cannot be divided by the reduction {reduction}")
        few = channels // reduction
        if published:
            squeeze, excite = conv_norm(channels, few), conv_norm(few, channels)
            gate = nn.Hardswish()
        else:
            squeeze, excite = [nn.Conv2d(channels, few, 1)], [nn.Conv2d(few, channels, 1)]
            gate = nn.Hardsigmoid()
        self.weigh = nn.Sequential(*squeeze, nn.ReLU(inplace=True), *excite, gate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        squeezed = x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        return x * self.weigh(squeezed)


def conv_norm(channels: int, out: int, kernel: int = 1, stride: int = 1) -> list[nn.Module]:
    """Convolution and batch norm without an activation: the end of a branch, or a shortcut."""
    conv = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(out)]


def make_shortcut(channels: int, out: int, stride: int) -> nn.Module:
    """What is added to a branch: the input, or where the shape changes a strided 1x1 convolution
    of it with batch norm (option B of He et al. 2016, arXiv 1512.03385)."""
    if stride == 1 and channels == out:
        return nn.Identity()
    return nn.Sequential(*conv_norm(channels, out, stride=stride))


class Residual(nn.Module):
    """activation(branch(x) + shortcut(x)); without a shortcut, where the shape changes,
    activation(branch(x))."""

    def __init__(
        self,
        branch: list[nn.Module],
        shortcut: nn.Module | None,
        drop_path: float,
        activation: nn.Module,
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(*branch)
        self.shortcut = shortcut
        self.drop_path = DropPath(drop_path)
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.residual(x)
        if self.shortcut is not None:
            y = self.drop_path(y) + self.shortcut(x)
        return self.activation(y)


class ConvBlock(nn.Sequential):
    """Convolution, norm, dropout of whole channels, activation.

    An odd kernel is padded, so that stride 1 keeps height and width; an even one has to be as
    large as the stride: it cuts the image into patches.
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
        check_whole("kernel", kernel, 1)
        check_whole("groups", groups, 1)
        check_choice("norm", norm, NORMS)
        check_choice("activation", activation, ACTIVATIONS)
        check_drop_rate("dropout", dropout)
        is_odd = kernel % 2 == 1
        if not is_odd and kernel != stride:
            raise RecipeError(f"a kernel is odd or as large as the stride {stride}, not {kernel}")
        if channels % groups or out % groups:
            raise RecipeError(f"{channels} and {out} channels cannot be divided by groups {groups}")
        padding = kernel // 2 if is_odd else 0
        # Batch norm subtracts each channel's mean, so a bias before it would do nothing.
        bias = norm != "batch"
        make_conv = StridedDepthwise if groups > 1 and stride > 1 else nn.Conv2d
        conv = make_conv(channels, out, kernel, stride, padding, groups=groups, bias=bias)
        parts = [conv, NORMS[norm](out)]
        if dropout:
            parts.append(nn.Dropout2d(dropout))
        if activation != "none":
            parts.append(ACTIVATIONS[activation]())
        super().__init__(*parts)


class ResidualBlock(Residual):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016, arXiv 1512.03385, figure 2).

    `se`: the reduction of a squeeze-excite at the end of the branch; 0: none.
    """

    def __init__(
        self, channels: int, out: int, stride: int = 1, *, se: int = 0, drop_path: float = 0.0
    ) -> None:
        branch = [ConvBlock(channels, out, stride), *conv_norm(out, out, kernel=3)]
        if se:
            branch.append(SqueezeExcite(out, se))
        shortcut = make_shortcut(channels, out, stride)
        super().__init__(branch, shortcut, drop_path, nn.ReLU(inplace=True))


class BottleneckBlock(Residual):
    """1x1 to a quarter of the channels, 3x3, 1x1 back (He et al. 2016, arXiv 1512.03385, figure 5).

    The 3x3 has the stride, as everybody builds it since. `se` as in ResidualBlock.
    """

    def __init__(
        self, channels: int, out: int, stride: int = 1, *, se: int = 0, drop_path: float = 0.0
    ) -> None:
        if out % 4:
            raise RecipeError(f"{out} channels cannot be divided by 4, as a bottleneck does")
        few = out // 4
        branch = [
            ConvBlock(channels, few, kernel=1),
            ConvBlock(few, few, stride),
            *conv_norm(few, out),
        ]
        if se:
            branch.append(SqueezeExcite(out, se))
        shortcut = make_shortcut(channels, out, stride)
        super().__init__(branch, shortcut, drop_path, nn.ReLU(inplace=True))


class InvertedBottleneck(Residual):
    """1x1 to `expansion` times the channels, 3x3 depthwise, 1x1 to `out`
    (MobileNetV2, Sandler et al. 2018, arXiv 1801.04381, figure 4).

    There is no activation at the end, because the narrow ends carry all there is (section 3.2),
    and nothing is added where the shape changes. Expansion 1 leaves the first 1x1 out. `se`: a
    squeeze-excite before the last 1x1 (MobileNetV3, Howard et al. 2019, arXiv 1905.02244).
    `published`: as in the homework's table, with its squeeze-excite (see there), and with a
    shortcut also where the shape changes.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        stride: int = 1,
        *,
        expansion: int = 4,
        se: int = 0,
        published: bool = False,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        check_whole("expansion", expansion, 1)
        check_flag("published", published)
        wide = channels * expansion
        branch = []
        if expansion > 1:
            expand = ConvBlock(channels, wide, kernel=1, activation="relu6", dropout=dropout)
            branch.append(expand)
        depthwise = ConvBlock(wide, wide, stride, groups=wide, activation="relu6", dropout=dropout)
        branch.append(depthwise)
        if se:
            branch.append(SqueezeExcite(wide, se, published))
        branch += conv_norm(wide, out)
        shortcut = None
        if published or (stride == 1 and channels == out):
            shortcut = make_shortcut(channels, out, stride)
        super().__init__(branch, shortcut, drop_path, nn.Identity())


class FusedInvertedBottleneck(Residual):
    """A dense 3x3 in the place of the first 1x1 and the depthwise 3x3, four times as wide
    (EfficientNetV2, Tan and Le 2021, arXiv 2104.00298, figure 2).

    More arithmetic and less traffic to memory, which is the faster on a GPU where there are few
    channels. The input is added where the shape is the same.
    """

    def __init__(
        self, channels: int, out: int, stride: int = 1, *, se: int = 0, drop_path: float = 0.0
    ) -> None:
        wide = 4 * channels
        branch = [ConvBlock(channels, wide, stride, activation="silu")]
        if se:
            branch.append(SqueezeExcite(wide, se))
        branch += conv_norm(wide, out)
        shortcut = nn.Identity() if stride == 1 and channels == out else None
        super().__init__(branch, shortcut, drop_path, nn.Identity())


class ConvNeXtBlock(nn.Module):
    """7x7 depthwise, layer norm, 1x1 to four times the channels, GELU, 1x1 back
    (Liu et al. 2022, arXiv 2201.03545, figure 4).

    Where the shape changes, layer norm and a convolution of stride x stride patches come first:
    the paper's separate downsampling layer. `norm`: "batch" puts batch norm in both places.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        stride: int = 1,
        *,
        norm: str = "layer",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        check_choice("norm", norm, NORMS)
        self.down = nn.Sequential()
        if stride != 1 or channels != out:
            patches = nn.Conv2d(channels, out, stride, stride)
            self.down = nn.Sequential(NORMS[norm](channels), patches)
        self.residual = nn.Sequential(
            nn.Conv2d(out, out, 7, padding=3, groups=out),
            NORMS[norm](out),
            nn.Conv2d(out, 4 * out, 1),
            nn.GELU(),
            nn.Conv2d(4 * out, out, 1),
        )
        # Layer scale: a learned factor for each channel that begins small (Touvron et al. 2021,
        # arXiv 2103.17239). A vector, so that weight decay leaves it alone like any other scale.
        self.scale = nn.Parameter(torch.full((out,), 1e-6))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down(x)
        branch = self.residual(x) * self.scale[:, None, None]
        return x + self.drop_path(branch)


class DenseConvNeXtBlock(Residual):
    """The published table's ConvNeXt-style block, which is not depthwise: 7x7 to four times the
    channels, batch norm, 1x1 as wide, GELU, 1x1 back.

    The table never changes the shape inside it; here the shortcut is then that of ResidualBlock.
    """

    def __init__(self, channels: int, out: int, stride: int = 1, *, drop_path: float = 0.0) -> None:
        wide = 4 * channels
        branch = [
            *conv_norm(channels, wide, 7, stride),
            nn.Conv2d(wide, wide, 1, bias=False),
            nn.GELU(),
            nn.Conv2d(wide, out, 1, bias=False),
        ]
        super().__init__(branch, make_shortcut(channels, out, stride), drop_path, nn.Identity())


BLOCKS: dict[str, type[nn.Module]] = {
    "conv": ConvBlock,
    "residual": ResidualBlock,
    "bottleneck": BottleneckBlock,
    "inverted": InvertedBottleneck,
    "fused": FusedInvertedBottleneck,
    "convnext": ConvNeXtBlock,
    "convnext_dense": DenseConvNeXtBlock,
}
