"""Blocks against torchvision's with the same weights, and against sums by hand."""

import pytest
import torch
from sample_networks import carry, stir
from torch import nn
from torch.nn import functional as F
from torchvision.models.convnext import CNBlock
from torchvision.models.efficientnet import FusedMBConv, FusedMBConvConfig
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import SqueezeExcitation

from facekit.common.errors import RecipeError
from facekit.models.blocks import (
    BLOCKS,
    BottleneckBlock,
    ConvBlock,
    ConvNeXtBlock,
    DenseConvNeXtBlock,
    DropPath,
    FusedInvertedBottleneck,
    InvertedBottleneck,
    LayerNorm,
    ResidualBlock,
    SqueezeExcite,
    StridedDepthwise,
)

SHAPES = [(8, 8, 1), (8, 16, 2), (8, 16, 1), (8, 8, 2)]  # channels, out, stride
MODES = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def assert_twins(mine: nn.Module, theirs: nn.Module, channels: int, training: bool) -> None:
    """Same outputs, gradients and statistics from the same numbers."""
    torch.manual_seed(1)
    carry(stir(mine), theirs)
    mine.train(training)
    theirs.train(training)
    x = torch.randn(4, channels, 11, 11)
    xs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    ours, expected = mine(xs[0]), theirs(xs[1])
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(expected) / expected[0].numel()
    (ours * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(xs[0].grad, xs[1].grad, rtol=1e-4, atol=1e-6)
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad.reshape(b.shape), b.grad, rtol=1e-4, atol=1e-5)
    for a, b in zip(mine.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(a, b)


def downsample(channels: int, out: int, stride: int) -> nn.Module | None:
    if stride == 1 and channels == out:
        return None
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))


@MODES
@pytest.mark.parametrize(("channels", "out", "stride"), SHAPES)
def test_residual_block_is_torchvisions_basic_block(channels, out, stride, training):
    theirs = BasicBlock(channels, out, stride, downsample(channels, out, stride))
    assert_twins(ResidualBlock(channels, out, stride), theirs, channels, training)


@MODES
@pytest.mark.parametrize(("channels", "out", "stride"), SHAPES)
def test_bottleneck_block_is_torchvisions(channels, out, stride, training):
    theirs = Bottleneck(channels, out // 4, stride, downsample(channels, out, stride))
    assert_twins(BottleneckBlock(channels, out, stride), theirs, channels, training)


@MODES
@pytest.mark.parametrize("expansion", [1, 6])
@pytest.mark.parametrize(("channels", "out", "stride"), SHAPES)
def test_inverted_bottleneck_is_mobilenetv2s(channels, out, stride, expansion, training):
    theirs = InvertedResidual(channels, out, stride, expansion)
    mine = InvertedBottleneck(channels, out, stride, expansion=expansion)
    assert_twins(mine, theirs, channels, training)


@MODES
@pytest.mark.parametrize(("channels", "out", "stride"), SHAPES)
def test_fused_inverted_bottleneck_is_efficientnetv2s(channels, out, stride, training):
    config = FusedMBConvConfig(4, 3, stride, channels, out, 1)
    theirs = FusedMBConv(config, 0.0, nn.BatchNorm2d)
    assert_twins(FusedInvertedBottleneck(channels, out, stride), theirs, channels, training)


@MODES
def test_convnext_block_is_torchvisions(training):
    mine, theirs = ConvNeXtBlock(8, 8), CNBlock(8, 1e-6, 0.0)
    assert mine.scale.tolist() == theirs.layer_scale.flatten().tolist()
    assert_twins(mine, theirs, 8, training)


def test_a_convnext_block_may_have_batch_norm_in_both_places():
    block = ConvNeXtBlock(4, 8, 2, norm="batch")
    assert isinstance(block.down[0], nn.BatchNorm2d) and block.down[0].num_features == 4
    assert isinstance(block.residual[1], nn.BatchNorm2d) and block.residual[1].num_features == 8
    assert block(torch.randn(2, 4, 6, 6)).shape == (2, 8, 3, 3)


@MODES
def test_squeeze_excite_is_torchvisions(training):
    theirs = SqueezeExcitation(16, 4, scale_activation=nn.Hardsigmoid)
    assert_twins(SqueezeExcite(16, 4), theirs, 16, training)


def norm(x: torch.Tensor, training: bool, layer: nn.BatchNorm2d) -> torch.Tensor:
    statistics = layer.running_mean.clone(), layer.running_var.clone()
    return F.batch_norm(x, *statistics, layer.weight, layer.bias, training)


def published(block: InvertedBottleneck, x: torch.Tensor, training: bool) -> torch.Tensor:
    """The inverted bottleneck with squeeze-excite of the published table, written out."""
    expand, look, excite, conv, last = block.residual
    few, norm1, _, many, norm2, _ = excite.weigh
    y = F.relu6(norm(F.conv2d(x, expand[0].weight), training, expand[1]))
    stride, wide = look[0].stride, len(y[0])
    y = F.conv2d(y, look[0].weight, stride=stride, padding=1, groups=wide)
    y = F.relu6(norm(y, training, look[1]))
    s = F.adaptive_avg_pool2d(y, 1)
    s = F.relu(norm(F.conv2d(s, few.weight), training, norm1))
    s = norm(F.conv2d(s, many.weight), training, norm2)
    y = y * s * F.relu6(s + 3) / 6
    y = norm(F.conv2d(y, conv.weight), training, last)
    if stride != (1, 1):
        x = norm(F.conv2d(x, block.shortcut[0].weight, stride=stride), training, block.shortcut[1])
    return x + y


@MODES
@pytest.mark.parametrize("stride", [1, 2])
def test_the_published_inverted_bottleneck_written_out(stride, training):
    torch.manual_seed(0)
    block = stir(InvertedBottleneck(8, 8, stride, se=4, published=True)).train(training)
    x = torch.randn(4, 8, 9, 9)
    expected = published(block, x, training)
    torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)


@MODES
def test_the_published_convnext_block_written_out(training):
    torch.manual_seed(0)
    block = stir(DenseConvNeXtBlock(4, 4)).train(training)
    first, middle, *rest = block.residual
    second, _, third = rest
    x = torch.randn(3, 4, 9, 9)
    y = norm(F.conv2d(x, first.weight, padding=3), training, middle)
    expected = x + F.conv2d(F.gelu(F.conv2d(y, second.weight)), third.weight)
    torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)
    assert [conv.weight.shape for conv in (first, second, third)] == [
        (16, 4, 7, 7),
        (16, 16, 1, 1),
        (4, 16, 1, 1),
    ]


@MODES
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 2), (7, 2), (7, 4)])
def test_conv_block_is_convolution_batch_norm_and_relu(kernel, stride, training):
    torch.manual_seed(0)
    block = stir(ConvBlock(3, 8, stride, kernel=kernel)).train(training)
    x = torch.randn(4, 3, 12, 12)
    y = F.conv2d(x, block[0].weight, stride=stride, padding=(kernel - 1) // 2)
    expected = F.relu(norm(y, training, block[1]))
    torch.testing.assert_close(block(x), expected)
    assert expected.shape == (4, 8, 12 // stride, 12 // stride)
    assert block[0].bias is None


def test_patches_neither_overlap_nor_are_padded():
    block = ConvBlock(3, 8, 4, kernel=4, norm="layer", activation="none")
    x = torch.randn(2, 3, 10, 8)  # two rows are left over
    patches = F.unfold(x[:, :, :8], 4, stride=4)  # (B, 3 * 16, 4)
    y = block[0].weight.flatten(1) @ patches + block[0].bias[:, None]
    expected = F.layer_norm(y.mT, (8,), block[1].weight, block[1].bias, 1e-6).mT
    torch.testing.assert_close(block(x).flatten(2), expected, rtol=1e-5, atol=1e-5)


def test_layer_norm_gives_each_place_mean_0_and_spread_1_over_channels():
    y = LayerNorm(16)(5 + 3 * torch.randn(2, 16, 4, 5))
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 4, 5), rtol=0, atol=1e-5)
    torch.testing.assert_close(y.var(1, correction=0), torch.ones(2, 4, 5), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize(("channels", "out", "stride"), [*SHAPES, (8, 4, 3)])
def test_every_block_gives_the_shape_it_promises(name, channels, out, stride):
    block = BLOCKS[name](channels, out, stride)
    assert block(torch.randn(2, channels, 12, 24)).shape == (2, out, 12 // stride, 24 // stride)


@pytest.mark.parametrize("size", [(11, 13), (1, 1), (2, 1)])
@pytest.mark.parametrize("name", [name for name in BLOCKS if name != "convnext"])
def test_odd_sides_are_rounded_up(name, size):
    y = BLOCKS[name](8, 8, 2).eval()(torch.randn(2, 8, *size))
    assert y.shape[2:] == tuple(-(-side // 2) for side in size)


@pytest.mark.parametrize("name", ["residual", "bottleneck"])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_residual_block_with_a_zero_branch_is_its_shortcut(name, stride):
    block = BLOCKS[name](4, 4, stride).eval()
    nn.init.zeros_(block.residual[-1].weight)
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(block(x), block.shortcut(x).relu())


@pytest.mark.parametrize("name", ["inverted", "fused", "convnext", "convnext_dense"])
def test_a_block_of_one_shape_with_a_zero_branch_is_the_identity(name):
    block = BLOCKS[name](4, 4).eval()
    for parameter in block.residual[-1].parameters():
        nn.init.zeros_(parameter)
    if name == "convnext_dense":
        assert block.residual[-1].bias is None
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(block(x), x)


def test_a_depthwise_kernel_sees_one_channel():
    assert InvertedBottleneck(4, 4).residual[1][0].weight.shape == (16, 1, 3, 3)


@pytest.mark.parametrize("kind", [nn.ReLU, nn.ReLU6, nn.SiLU])
def test_a_convolution_has_the_activation_that_is_asked_for(kind):
    block = ConvBlock(3, 4, activation=kind.__name__.lower())
    assert type(block[-1]) is kind


def test_squeeze_excite_stands_where_the_papers_have_it():
    kinds = {
        name: [type(part) for part in BLOCKS[name](8, 8, se=4).residual]
        for name in ("residual", "bottleneck", "inverted", "fused")
    }
    assert kinds["residual"][-1] is kinds["bottleneck"][-1] is SqueezeExcite  # after the last norm
    assert kinds["inverted"].index(SqueezeExcite) == 2  # between depthwise and the last 1x1
    assert kinds["fused"].index(SqueezeExcite) == 1


def test_an_open_gate_changes_nothing_and_a_shut_one_gives_zero():
    excite, x = SqueezeExcite(8, 4), torch.randn(2, 8, 5, 5)
    for bias, expected in ((30.0, x), (-30.0, torch.zeros_like(x))):
        nn.init.constant_(excite.weigh[2].bias, bias)
        torch.testing.assert_close(excite(x), expected, rtol=0, atol=0)


def test_the_published_gate_has_no_upper_end():
    excite = SqueezeExcite(8, 4, published=True).eval()
    x = torch.randn(2, 8, 5, 5)
    nn.init.zeros_(excite.weigh[3].weight)
    nn.init.constant_(excite.weigh[4].bias, 30.0)
    torch.testing.assert_close(excite(x), 30 * x)


def test_dropout_takes_whole_channels_in_training_only():
    torch.manual_seed(0)
    block = ConvBlock(3, 64, dropout=0.5, activation="none")
    nn.init.constant_(block[1].bias, 10.0)  # far from zero
    x = torch.randn(16, 3, 6, 6)
    gone = (block(x) == 0).flatten(2)
    assert torch.equal(gone.all(2), gone.any(2))
    assert gone.any(2).float().mean().item() == pytest.approx(0.5, abs=0.06)
    assert not (block.eval()(x) == 0).any()


def test_stochastic_depth_drops_whole_images_and_keeps_the_mean():
    torch.manual_seed(0)
    rate, count = 0.3, 20_000
    y = DropPath(rate)(torch.ones(count, 2, 1, 2))
    rows = y.flatten(1)
    assert (rows == rows[:, :1]).all()  # an image as a whole
    torch.testing.assert_close(rows.unique(), torch.tensor([0, 1 / (1 - rate)]))
    dropped = (rows[:, 0] == 0).float().mean().item()
    assert abs(dropped - rate) < 4 * (rate * (1 - rate) / count) ** 0.5


def test_stochastic_depth_is_the_identity_in_evaluation_and_at_rate_0():
    x = torch.randn(8, 2, 3, 3)
    assert DropPath(0.9).eval()(x) is x
    assert DropPath(0.0).train()(x) is x


@pytest.mark.parametrize("name", [name for name in BLOCKS if name != "conv"])
def test_a_dropped_branch_leaves_the_shortcut(name):
    torch.manual_seed(0)
    block, x = BLOCKS[name](4, 4, drop_path=0.5), torch.rand(64, 4, 5, 5)  # ReLU leaves x alone
    if name == "convnext":
        nn.init.ones_(block.scale)
    same = (block(x) == x).flatten(1).all(1)
    assert 12 < same.sum() < 52  # 32 +- 5 standard deviations
    block.eval()
    assert not (block(x) == x).flatten(1).all(1).any()


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize(("channels", "out", "stride"), SHAPES[:2])
def test_every_block_learns_in_every_part(name, channels, out, stride):
    torch.manual_seed(0)
    # One hidden unit for each channel, or by chance none would be awake.
    options = {"se": 1} if name in ("residual", "bottleneck", "inverted", "fused") else {}
    block, x = BLOCKS[name](channels, out, stride, **options), torch.randn(4, channels, 9, 9)
    y = block(x)
    (y * torch.randn_like(y)).sum().backward()
    for parameter in block.parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any()


@pytest.mark.parametrize("name", BLOCKS)
def test_channels_last_stays_so_and_gives_the_same(name):
    torch.manual_seed(0)
    block, x = stir(BLOCKS[name](8, 16, 2)).eval(), torch.randn(4, 8, 10, 10)
    expected = block(x)
    block.to(memory_format=torch.channels_last)
    y = block(x.to(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SqueezeExcite(10, 4), "10 channels cannot be divided by the reduction 4"),
        (lambda: ResidualBlock(8, 12, se=8), "12 channels cannot be divided by the reduction 8"),
        (lambda: BottleneckBlock(8, 10), "10 channels cannot be divided by 4"),
        (lambda: ConvBlock(3, 8, kernel=4), "odd or as large as the stride 1, not 4"),
        (lambda: ConvBlock(3, 8, activation="swish"), "no activation 'swish'; .*relu, relu6"),
        (lambda: ConvBlock(3, 8, activation=None), "no activation None"),
        (lambda: ConvBlock(3, 8, norm="group"), "no norm 'group'; choose one of: batch, layer"),
        (lambda: ConvBlock(3, 8, groups=2), "3 and 8 channels cannot be divided by groups 2"),
    ],
)
def test_a_bad_option_is_refused_with_its_value(make, words):
    with pytest.raises(RecipeError, match=words):
        make()


@pytest.mark.parametrize("lower", [None, torch.bfloat16])
def test_a_strided_depthwise_convolution_is_torchs_and_keeps_full_precision(lower):
    """The products are float32's under autocast, too, and the gradients reach both."""
    torch.manual_seed(0)
    layer = StridedDepthwise(8, 8, 3, 2, 1, groups=8, bias=False)
    x = torch.randn(2, 8, 9, 9).to(torch.bfloat16).float().requires_grad_()  # nothing to round
    expected = F.conv2d(x, layer.weight, None, 2, 1, groups=8)
    with torch.autocast("cpu", torch.bfloat16, enabled=lower is not None):
        found = layer(x.to(lower) if lower else x)
    assert found.dtype == (lower or torch.float32)
    torch.testing.assert_close(found, expected.to(found.dtype), rtol=0, atol=0)
    found.float().square().sum().backward()
    assert x.grad.abs().max() > 0
    assert layer.weight.grad.abs().min() > 0
