"""What a network is made of: against torch's counter, torchvision, gradients and sums by hand."""

from dataclasses import replace

import pytest
import torch
import torchvision
from sample_networks import on_paper
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from facekit.common.errors import RecipeError
from facekit.models.blocks import BLOCKS, ConvBlock, ConvNeXtBlock
from facekit.models.build import build
from facekit.models.specs import NetworkSpec, Stage, Stem
from facekit.models.summary import (
    check_limit,
    compare,
    compare_blocks,
    count_multiply_adds,
    count_parameters,
    describe,
    describe_block,
)
from facekit.models.zoo import as_spec, residual


def flops(net: nn.Module, x: torch.Tensor) -> int:
    """torch counts a product and its addition as two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.eval()(x)
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("resnet18", torchvision.models.resnet18),
        ("resnet34", torchvision.models.resnet34),
        ("resnet50", torchvision.models.resnet50),
        ("mobilenetv2", torchvision.models.mobilenet_v2),
    ],
)
def test_references_have_the_arithmetic_of_torchvisions(name, theirs):
    with torch.device("meta"):
        x, net = torch.zeros(1, 3, 224, 224), theirs(num_classes=1000)
    assert 2 * count_multiply_adds(build(name, 1000), 224) == flops(net, x)


@pytest.mark.parametrize("head", ["linear", "arcface"])
@pytest.mark.parametrize("name", BLOCKS)
def test_multiply_adds_are_half_of_what_torch_counts(name, head):
    stages = (Stage(name, 8, depth=2), Stage(name, 12, stride=2))
    net = build(NetworkSpec(Stem(4), stages, embedding=6, head=head), 5)
    assert 2 * count_multiply_adds(net, 20) == flops(net, torch.zeros(1, 3, 20, 20))


def test_a_small_network_by_hand():
    stages = (Stage("inverted", 4, options={"expansion": 2}), Stage("conv", 6, stride=2))
    net = build(NetworkSpec(Stem(4), stages, embedding=5), 7)
    table = describe(net, 16)
    inverted = 4 * 8 + 9 * 8 + 8 * 4, 2 * 8 + 2 * 8 + 2 * 4
    expected = {
        "stem": ("4x8x8", 2, 3, 27 * 4 + 8, 27 * 4 * 64),
        "stage 1": ("4x8x8", 2, 7, sum(inverted), inverted[0] * 64),
        "stage 2": ("6x4x4", 4, 11, 36 * 6 + 12, 36 * 6 * 16),
        "embedding": ("5", "", "", 30, 30),
        "head": ("7", "", "", 42, 35),
    }
    for part, row in expected.items():
        assert tuple(table.loc[part]) == row
    whole = table.loc["all"]
    assert whole["parameters"] == sum(row[3] for row in expected.values()) == count_parameters(net)
    assert whole["multiply_adds"] == sum(row[4] for row in expected.values())
    assert (whole["stride"], whole["sees"]) == (4, 11)


def window(spec: NetworkSpec, size: int) -> tuple[int, int]:
    """How many rows and columns of pixels move the place in the middle of the last map.

    Every weight is the mean of what it looks at, so that nothing cancels and every ReLU is open;
    a max would let one place through only, so a mean stands for it.
    """
    net = build(spec, 2).double().eval()
    for module in list(net.modules()):
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel() / 4)
        if isinstance(module, ConvNeXtBlock):  # whose layer norm makes alike channels to 0
            module.residual[1] = nn.Identity()
            module.down = module.down[1:]
            nn.init.ones_(module.scale)
    if spec.stem.pool:
        net.stem[1] = nn.AvgPool2d(3, 2, padding=1)
    x = torch.ones(1, 3, size, size, dtype=torch.double, requires_grad=True)
    features = net.stages(net.stem(x))
    middle = features.shape[2] // 2
    features[0, 0, middle, middle].backward()
    touched = x.grad[0].abs().sum(0) > 0
    sides = [touched.any(axis).nonzero().flatten() for axis in (1, 0)]
    return tuple(int(side.max() - side.min()) + 1 for side in sides)


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("name", BLOCKS)
def test_the_receptive_field_is_what_moves_the_output(name, pool):
    options = {"kernel": 5} if name == "conv" else {}
    stages = (Stage(name, 4), Stage(name, 8, stride=2, options=options))
    spec = NetworkSpec(Stem(4, kernel=5, pool=pool), stages)
    sees = describe(build(spec, 2), 64).loc["all", "sees"]
    assert window(spec, 2 * sees + 40) == (sees, sees)


@pytest.mark.parametrize(("name", "sees"), [("resnet18", 435), ("resnet34", 899)])
def test_receptive_fields_of_the_literature(name, sees):
    assert describe(build(name, 2), 224).loc["all", "sees"] == sees


@pytest.mark.parametrize("size", [33, 64])
@pytest.mark.parametrize("name", ["medium", "row04", "convnext", "starter"])
def test_the_table_has_the_shapes_and_strides_of_the_network(name, size):
    size = max(size, as_spec(name).stride)
    net = build(name, 4)
    table, x = describe(net, size), torch.zeros(1, 3, size, size)
    net.eval()
    x = net.stem(x)
    for number, stage in enumerate(net.stages, start=1):
        x = stage(x)
        row = table.loc[f"stage {number}"]
        assert row["output"] == "x".join(map(str, x.shape[1:]))
        assert row["parameters"] == count_parameters(stage)
    assert table.loc["all", "stride"] == net.stride
    assert table.loc["all", "parameters"] == count_parameters(net)


def test_describing_leaves_the_network_as_it_was():
    net = build("tiny", 3).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    describe(net, 32)
    assert net.training and next(net.parameters()).device.type == "cpu"
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_squeeze_excite_and_shortcuts_do_not_widen_the_window():
    plain = residual((4, 8), (1, 1))
    stages = tuple(replace(stage, options={"se": 2}) for stage in plain.stages)
    for spec in (plain, replace(plain, stages=stages)):
        assert describe(build(spec, 2), 32).loc["all", "sees"] == 3 + 2 * 2 * 2 + 2 * 2 + 2 * 4


def test_an_image_smaller_than_the_stride_is_refused():
    with pytest.raises(RecipeError, match=r"8 x 8 pixels are smaller than .* stride of 16"):
        describe(build("tiny", 3), 8)


def test_the_table_fits_a_screen():
    text = describe(build("row12", 7001), 224).to_string()
    assert max(map(len, text.splitlines())) < 80


def test_any_module_can_be_counted():
    assert count_parameters(ConvBlock(3, 4)) == 3 * 4 * 9 + 8


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", BLOCKS)
def test_the_layers_of_a_block_add_up(name, stride):
    block = BLOCKS[name](16, 32, stride)
    table = describe_block(block, 16, 12)
    assert table["parameters"]["all"] == count_parameters(block)
    assert 2 * table["multiply_adds"]["all"] == flops(block, torch.zeros(1, 16, 12, 12))
    assert table["output"]["all"] == f"32x{12 // stride}x{12 // stride}"
    for column in ("parameters", "multiply_adds"):
        assert table[column].drop("all").sum() == table[column]["all"]
    idle = ("DropPath", "Identity", "Sequential")
    assert not any(kind in " ".join(table.index) for kind in idle)


def test_blocks_are_compared_by_the_last_row_of_their_tables():
    made = {name: block(8, 8) for name, block in BLOCKS.items()}
    table = compare_blocks(made, 8, 10)
    assert list(table.index) == list(BLOCKS)
    for name, block in made.items():
        assert table["parameters"][name] == count_parameters(block)
        assert 2 * table["multiply_adds"][name] == flops(block, torch.zeros(1, 8, 10, 10))


def test_networks_are_compared_by_the_last_row_of_their_tables():
    table = compare(["starter", "small"], num_classes=11, size=64)
    assert list(table.index) == ["starter", "small"]
    for name in table.index:
        net = build(name, 11)
        assert table["parameters"][name] == count_parameters(net)
        assert table["multiply_adds"][name] == count_multiply_adds(net, 64)
        assert table["stride"][name] == net.stride


def test_frozen_parameters_are_not_counted():
    net = build("tiny", 5)
    before = count_parameters(net)
    net.head.bias.requires_grad_(False)
    assert count_parameters(net) == before - 5


def test_the_limit_itself_is_allowed_and_one_more_is_not():
    net = build("tiny", 10)
    count = count_parameters(net)
    check_limit(net, count)
    check_limit(net, None)
    with pytest.raises(RecipeError, match=f"{count:,} parameters are 1 over .*{count - 1:,}"):
        check_limit(net, count - 1)


def test_a_network_over_the_limit_is_told_where_its_parameters_are():
    with pytest.raises(RecipeError) as error:
        check_limit(on_paper(build, "resnet50", 7001), 21_000_000)
    assert str(error.value) == (
        "37,853,081 parameters are 16,853,081 over the limit of 21,000,000; "
        "most are in stage 4 (14,964,736), head (14,345,049), stage 3 (7,098,368)"
    )
