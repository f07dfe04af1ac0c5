"""Blocks and networks against torch's own functions, torchvision's ResNet and sums by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import resnet18
from torchvision.models.resnet import BasicBlock

from facekit import networks
from facekit.blocks import ConvBlock, ResidualBlock
from facekit.errors import RecipeError
from facekit.heads import Linear
from facekit.networks import NetworkSpec, build, check_limit, count_parameters

SHAPES = [(8, 8, 1), (8, 16, 2), (8, 16, 1), (8, 8, 2)]  # channels, out, stride


def conv_parameters(channels: int, out: int, kernel: int) -> int:
    """A convolution without bias and its batch norm's scale and shift."""
    return channels * out * kernel * kernel + 2 * out


def block_parameters(channels: int, out: int, stride: int) -> int:
    residual = conv_parameters(channels, out, 3) + conv_parameters(out, out, 3)
    changed = stride != 1 or channels != out
    return residual + (conv_parameters(channels, out, 1) if changed else 0)


def twins(channels: int, out: int, stride: int) -> tuple[ResidualBlock, BasicBlock]:
    """Our block and torchvision's, with equal random weights and batch norm statistics."""
    torch.manual_seed(0)
    mine = ResidualBlock(channels, out, stride)
    for norm in (m for m in mine.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    shortcut = None
    if stride != 1 or channels != out:
        conv = nn.Conv2d(channels, out, 1, stride, bias=False)
        shortcut = nn.Sequential(conv, nn.BatchNorm2d(out))
    theirs = BasicBlock(channels, out, stride, shortcut)
    first, conv2, bn2 = mine.residual
    pairs = [(theirs.conv1, first[0]), (theirs.bn1, first[1]), (theirs.conv2, conv2)]
    pairs += [(theirs.bn2, bn2)]
    if shortcut:
        pairs += [(shortcut, mine.shortcut)]
    for target, source in pairs:
        target.load_state_dict(source.state_dict())
    return mine, theirs


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("channels", "out", "stride"), SHAPES)
def test_residual_block_is_torchvisions_basic_block(channels, out, stride, training):
    mine, theirs = (block.train(training) for block in twins(channels, out, stride))
    x = torch.randn(4, channels, 10, 10)
    xs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    ours, expected = mine(xs[0]), theirs(xs[1])
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(expected)
    (ours * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(xs[0].grad, xs[1].grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        mine.residual[0][0].weight.grad, theirs.conv1.weight.grad, rtol=1e-4, atol=1e-3
    )
    torch.testing.assert_close(
        mine.residual[2].bias.grad, theirs.bn2.bias.grad, rtol=1e-4, atol=1e-3
    )
    for name, buffer in theirs.bn2.named_buffers():
        torch.testing.assert_close(dict(mine.residual[2].named_buffers())[name], buffer)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 2), (7, 2)])
def test_conv_block_is_convolution_batch_norm_and_relu(kernel, stride, training):
    torch.manual_seed(0)
    block = ConvBlock(3, 8, kernel, stride).train(training)
    conv, norm, _ = block
    x = torch.randn(4, 3, 12, 12)
    mean, var = norm.running_mean.clone(), norm.running_var.clone()
    y = functional.conv2d(x, conv.weight, stride=stride, padding=(kernel - 1) // 2)
    y = functional.batch_norm(y, mean, var, norm.weight, norm.bias, training, 0.1, 1e-5)
    expected = functional.relu(y)
    torch.testing.assert_close(block(x), expected)
    assert expected.shape == (4, 8, 12 // stride, 12 // stride)
    torch.testing.assert_close(norm.running_var, var)
    assert conv.bias is None


@pytest.mark.parametrize("stride", [1, 2])
def test_a_residual_block_with_a_zero_branch_is_its_shortcut(stride):
    block = ResidualBlock(4, 4, stride).eval()
    nn.init.zeros_(block.residual[2].weight)
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(block(x), block.shortcut(x).relu())


def test_four_stages_have_the_parameters_of_resnet18():
    spec = NetworkSpec((64, 128, 256, 512), (2, 2, 2, 2), 7, 2, stem_pool=True)
    assert count_parameters(build(spec, 1000)) == count_parameters(resnet18())


def test_another_stem_and_head_change_the_count_of_resnet18_by_their_own():
    spec = NetworkSpec((64, 128, 256, 512), (2, 2, 2, 2), 3, 2)
    stems = conv_parameters(3, 64, 3) - conv_parameters(3, 64, 7)
    heads = (512 + 1) * 7001 - (512 + 1) * 1000
    assert count_parameters(build(spec, 7001)) == count_parameters(resnet18()) + stems + heads


def test_resnet18s_weights_give_resnet18s_answers():
    torch.manual_seed(0)
    spec = NetworkSpec((64, 128, 256, 512), (2, 2, 2, 2), 7, 2, stem_pool=True)
    mine, theirs = build(spec, 10).eval(), resnet18(num_classes=10).eval()
    ours, source = mine.state_dict(), theirs.state_dict()
    same = [value.shape for value in ours.values()] == [value.shape for value in source.values()]
    assert same  # both list stem, stages and head in the order of the forward pass
    mine.load_state_dict(dict(zip(ours, source.values(), strict=True)))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(mine(x), theirs(x), rtol=1e-3, atol=1e-4)


def test_parameters_of_a_small_network_counted_by_hand():
    expected = conv_parameters(3, 4, 5)
    expected += block_parameters(4, 4, 1) + block_parameters(4, 4, 1)
    expected += block_parameters(4, 6, 2) + 6 * 7 + 7
    assert expected == 1_565  # 308 + 304 + 304 + 600 + 49
    assert count_parameters(build(NetworkSpec((4, 6), (2, 1), 5), 7)) == expected


def test_frozen_parameters_are_not_counted():
    net = build("tiny", 5)
    before = count_parameters(net)
    net.head.bias.requires_grad_(False)
    assert count_parameters(net) == before - 5


@pytest.mark.parametrize("size", [16, 32, 48, 65, 96])
@pytest.mark.parametrize("name", networks.SPECS)
def test_embeddings_and_logits_have_their_shapes(name, size):
    net = build(name, 11).eval()
    x = torch.zeros(2, 3, size, size)
    with torch.no_grad():
        assert net.embed(x).shape == (2, networks.SPECS[name].channels[-1])
        assert net(x).shape == (2, 11)


def test_an_oblong_picture_is_taken_too():
    assert build("tiny", 3).eval()(torch.zeros(1, 3, 40, 24)).shape == (1, 3)


@pytest.mark.parametrize(
    ("spec", "side"),
    [
        (NetworkSpec((4, 8), (1, 1)), 16),
        (NetworkSpec((4, 8), (1, 1), stem_pool=True), 8),
        (NetworkSpec((4, 8), (1, 1), stem_stride=1), 32),
        (NetworkSpec((4, 8, 8, 8), (1, 1, 1, 1)), 4),
    ],
)
def test_every_stage_but_the_first_halves_the_sides(spec, side):
    net = build(spec, 2)
    assert net.stages(net.stem(torch.zeros(1, 3, 64, 64))).shape[2:] == (side, side)


def test_logits_are_the_head_over_the_embedding():
    net = build("small", 5).eval()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(net(x), net.head(net.embed(x)))


def test_dropout_acts_on_the_embedding_in_training_only():
    net = build(NetworkSpec((4,), (1,), dropout=0.5), 3)
    x = torch.randn(8, 3, 16, 16)
    net.eval()
    assert torch.equal(net(x), net(x))
    net.train()
    assert not torch.equal(net(x), net(x))
    assert torch.equal(net.embed(x), net.embed(x))


def test_the_head_accepts_labels_and_ignores_them():
    head, x = Linear(4, 3), torch.randn(2, 4)
    expected = x @ head.weight.T + head.bias
    torch.testing.assert_close(head(x), expected)
    assert torch.equal(head(x, torch.tensor([0, 2])), head(x))
    net = build("tiny", 3).eval()
    pictures = torch.randn(2, 3, 32, 32)
    assert torch.equal(net(pictures, torch.tensor([0, 2])), net(pictures))


@pytest.mark.parametrize("name", networks.SPECS)
def test_name_mapping_and_spec_mean_the_same_network(name):
    spec = networks.SPECS[name]
    mapping = networks.spec_as_dict(spec)
    lists = {key: list(v) if isinstance(v, tuple) else v for key, v in mapping.items()}
    assert networks.as_spec(name) == networks.as_spec(mapping) == networks.as_spec(spec) == spec
    assert networks.as_spec(lists) == spec


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("resnet", "tiny, small, medium, large"),
        ({"channels": [8], "depths": [1], "depth": 3}, "'depth'"),
        ({"channels": [8]}, "depths"),
        ({"channels": 8, "depths": 1}, "lists"),
        ({"channels": [8, 16], "depths": [1]}, "as many depths"),
        ({"channels": [], "depths": []}, "one at least"),
        ({"channels": [8, 0], "depths": [1, 1]}, "channels"),
        ({"channels": [8], "depths": [0]}, "depths"),
        ({"channels": ["a"], "depths": [1]}, "channels"),
        ({"channels": [8], "depths": [1], "dropout": 1.5}, "dropout"),
        ({"channels": [8], "depths": [1], "stem_stride": 0}, "stem_stride"),
        ({"channels": [8], "depths": [1], "stem_kernel": "big"}, "stem_kernel"),
        (5, "name"),
    ],
)
def test_a_bad_spec_is_refused_with_the_reason(spec, words):
    with pytest.raises(RecipeError, match=words):
        build(spec, 3)


@pytest.mark.parametrize("classes", [0, -1])
def test_a_network_without_classes_is_refused(classes):
    with pytest.raises(RecipeError, match="at least one class"):
        build("tiny", classes)


def test_the_limit_itself_is_allowed_and_one_more_is_not():
    net = build("tiny", 10)
    count = count_parameters(net)
    check_limit(net, count)
    check_limit(net, None)
    with pytest.raises(RecipeError, match=f"{count:,} parameters are 1 over .*{count - 1:,}"):
        check_limit(net, count - 1)


@pytest.mark.parametrize("name", networks.SPECS)
def test_every_network_obeys_the_homeworks_limit(name):
    assert count_parameters(build(name, 7001)) < 21_000_000


def test_convolutions_begin_with_the_spread_of_he_et_al():
    torch.manual_seed(0)
    conv = build(NetworkSpec((64, 128), (1, 1)), 3).stages[1][0].residual[0][0]
    expected = (2 / (128 * 9)) ** 0.5  # fan-out: 128 channels of 3 x 3
    assert conv.weight.std().item() == pytest.approx(expected, rel=0.02)
    assert abs(conv.weight.mean().item()) < 0.02 * expected
