"""Tables of networks that are not the kit's: against torch's counter, torchvision and by hand."""

import copy
import random
from collections import OrderedDict

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from own_networks import (
    OWN_NETWORKS,
    Attending,
    Idle,
    Inside,
    Listed,
    Looking,
    Loose,
    Named,
    Paired,
    Plain,
    Twice,
    Wrapper,
)
from sample_networks import on_paper
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from facekit.common.errors import BatchError, RecipeError
from facekit.models.build import build
from facekit.models.parts import MOST, OWN
from facekit.models.summary import (
    check_limit,
    count_multiply_adds,
    count_parameters,
    describe,
    describe_block,
)

THEIRS = ["resnet18", "convnext_tiny", "mobilenet_v2", "mobilenet_v3_small", "vit_b_16", "vgg16"]
TIMMS = ["resnet18", "convnext_atto", "mobilenetv3_small_050", "vit_tiny_patch16_224"]


def flops(net: nn.Module, x: torch.Tensor) -> int:
    """torch counts a product and its addition as two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.eval()(x)
    return counter.get_total_flops()


def zeros_on_meta() -> torch.Tensor:
    return torch.zeros(1, 3, 224, 224, device="meta")


def check_sums(table: pd.DataFrame, net: nn.Module, work: int) -> None:
    assert table.index.is_unique
    parts, whole = table.drop("all"), table.loc["all"]
    assert parts["parameters"].sum() == whole["parameters"] == count_parameters(net)
    assert parts["multiply_adds"].sum() == whole["multiply_adds"] == work
    assert (parts[["parameters", "multiply_adds"]] >= 0).all(axis=None)


@pytest.mark.parametrize("name", OWN_NETWORKS)
def test_the_rows_add_up_to_what_torch_counts(name):
    net = OWN_NETWORKS[name]()
    device = "meta" if name == "attending" else "cpu"  # where torch's counter leaves nothing out
    x = torch.zeros(1, 3, 16, 16, dtype=next(net.parameters()).dtype, device=device)
    work = flops(copy.deepcopy(net).to(device), x) // 2
    table = describe(net, 16)
    check_sums(table, net, work)
    assert count_multiply_adds(net, 16) == work


@pytest.mark.parametrize("name", THEIRS)
def test_networks_of_torchvision(name):
    net = on_paper(getattr(torchvision.models, name), num_classes=100)
    table = describe(net, 224)
    check_sums(table, net, flops(net, zeros_on_meta()) // 2)
    assert table["parameters"]["all"] == sum(p.numel() for p in net.parameters())
    assert table["output"]["all"] == "100"
    assert 5 < len(table) <= MOST + 2
    largest = table["parameters"].drop("all").max()
    assert largest < 0.8 * table["parameters"]["all"]  # no row says it all


@pytest.mark.parametrize("name", TIMMS)
def test_networks_of_timm(name):
    timm = pytest.importorskip("timm")
    net = timm.create_model(name, num_classes=100)
    table = describe(net, 224)
    check_sums(table, net, flops(copy.deepcopy(net).to("meta"), zeros_on_meta()) // 2)
    assert 5 < len(table) <= MOST + 2


def test_the_stages_of_a_resnet_have_the_shapes_and_names_they_have_in_torchvision():
    net = torchvision.models.resnet18(num_classes=7)
    table, x = describe(net, 64), torch.zeros(1, 3, 64, 64)
    assert list(table.index) == [*(name for name, _ in net.named_children()), "all"]
    net.eval()
    for name, part in net.named_children():
        x = part(x.flatten(1) if name == "fc" else x)
        assert table.loc[name, "output"] == "x".join(map(str, x.shape[1:]))
        assert table.loc[name, "parameters"] == count_parameters(part)


def test_a_small_network_by_hand():
    table = describe(Plain(), 16)
    expected = {
        "conv1": ("4x16x16", 27 * 4 + 4, 27 * 4 * 16 * 16),
        "conv2": ("8x8x8", 36 * 8 + 8, 36 * 8 * 8 * 8),
        "fc": ("5", 8 * 5 + 5, 8 * 5),
    }
    assert list(table.index) == [*expected, "all"]  # in the order of their work
    for part, row in expected.items():
        assert tuple(table.loc[part]) == row


@pytest.mark.parametrize(("module", "output"), [(Named, "5, 8x8x8"), (Paired, "5, 8x8x8")])
def test_several_outputs_have_their_shapes_side_by_side(module, output):
    assert describe(module(), 16).loc["all", "output"] == output


def test_a_part_that_is_called_twice_works_twice_and_learns_once():
    table = describe(Twice(), 16)
    conv = nn.Conv2d(3, 3, 3)
    assert table.loc["conv1", "parameters"] == count_parameters(conv)
    assert table.loc["conv1", "multiply_adds"] == 2 * 27 * 3 * 16 * 16
    assert "conv2" not in table.index


def test_a_layer_two_parts_share_works_for_the_one_that_calls_it():
    table = describe(Inside(), 16)
    shared, other = 27 * 3 * 16 * 16, 3 * 3 * 16 * 16
    assert table.loc["left", "multiply_adds"] == shared
    assert table.loc["right", "multiply_adds"] == shared + other
    assert table.loc["right", "parameters"] == count_parameters(nn.Conv2d(3, 3, 1))
    assert table.loc["again", "parameters"] == 4  # its bias: the weight is another's


def test_a_part_that_is_never_called_is_said_to_be_so():
    net = Idle()
    table = describe(net, 16)
    spare = table.loc["spare"]
    assert (spare["output"], spare["multiply_adds"]) == ("not called", 0)
    assert spare["parameters"] == count_parameters(net.spare)
    assert table.loc["all (Identity)", "output"] == "3x16x16"


def test_what_is_in_no_part_has_a_row_of_its_own():
    net = Loose()
    row = describe(net, 16).loc[OWN]
    assert row["parameters"] == net.scale.numel() + net.classes.numel()
    assert row["multiply_adds"] == net.classes.numel()
    assert OWN not in describe(Plain(), 16).index


def test_layers_that_a_forward_goes_through_by_itself_are_counted():
    net = Listed()
    table = describe(net, 16)
    for name in ("blocks", "features"):  # too many for a row each
        part = getattr(net, name)
        assert table.loc[name, "output"] == "3x16x16"
        assert table.loc[name, "multiply_adds"] == sum(
            layer.weight.numel() * 16 * 16 for layer in part
        )
    assert table.loc["heads.people", "multiply_adds"] == 15
    assert table.loc["heads.poses", "output"] == "not called"


def test_a_wrapper_is_described_by_what_it_wraps():
    net = Plain()
    pd.testing.assert_frame_equal(describe(Wrapper(net), 16), describe(net, 16))
    pd.testing.assert_frame_equal(describe(nn.DataParallel(net), 16), describe(net, 16))
    pd.testing.assert_frame_equal(describe(Wrapper(Wrapper(net)), 16), describe(net, 16))
    table = describe(Wrapper(net, nn.Linear(5, 6)), 16)
    assert list(table.index) == ["conv1", "conv2", "fc", "head", "all"]


def test_names_that_meet_in_a_wrapper_stay_apart():
    net = nn.Sequential(OrderedDict(head=nn.Conv2d(3, 4, 1), fc=nn.Flatten()))
    table = describe(Wrapper(net, nn.Linear(4 * 9, 6)), 3)
    assert list(table.index) == ["module.head", "fc", "head", "all"]


def test_attention_counts_the_same_with_numbers_and_without():
    pd.testing.assert_frame_equal(describe(Attending(look=True), 32), describe(Attending(), 32))
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_network_that_looks_at_numbers_is_counted_like_one_that_does_not():
    pd.testing.assert_frame_equal(describe(Looking(), 16), describe(Plain(), 16))


def test_describing_leaves_the_module_as_it_was():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 5, 1)))
    net[1].eval()  # as those do who freeze a norm
    hook = net[0].register_forward_hook(lambda *_: None)
    before = copy.deepcopy(net.state_dict())
    describe(net, 16)
    describe_block(net, 3, 16)
    assert [module.training for module in net.modules()] == [True, True, False, True, True]
    assert all(p.device.type == "cpu" and p.requires_grad for p in net.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert list(net[0]._forward_hooks) == [hook.id]
    others = [module for module in net.modules() if module is not net[0]]
    assert not any(module._forward_hooks for module in others)
    assert not any(module._forward_pre_hooks for module in net.modules())


class Drawing(Plain):
    def forward(self, x):
        x = x + random.random() + float(np.random.rand()) + torch.rand(1).item()
        return super().forward(x * torch.rand(1).to(x))


def test_the_callers_random_numbers_stay_the_same():
    def draw() -> list[float]:
        return [random.random(), np.random.rand(), torch.rand(1).item()]

    nets = Drawing(), OWN_NETWORKS["dropping"]()
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = draw()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    for net in nets:
        describe(net, 16)
    assert draw() == expected


def test_it_is_described_as_it_evaluates():
    class Auxiliary(Plain):
        def forward(self, x):
            assert not self.training
            assert not torch.is_grad_enabled()
            return super().forward(x)

    assert describe(Auxiliary().train(), 16).equals(describe(Plain(), 16))


@pytest.mark.parametrize("wrap", [lambda net: net, Wrapper])
def test_a_forward_that_fails_is_told_in_one_sentence(wrap):
    net = wrap(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 14 * 14, 5)))
    assert describe(net, 16).loc["all", "output"] == "5"
    for call in (describe, count_multiply_adds):
        with pytest.raises(RecipeError) as error:
            call(net, 20)
        text = str(error.value)
        assert text.startswith("Sequential fails on an input of shape (1, 3, 20, 20): RuntimeErr")
        assert "mat1 and mat2 shapes cannot be multiplied" in text
        assert "\n" not in text


class Failing(Plain):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (AssertionError(), "AssertionError: no message"),
        (KeyError("feats"), "KeyError: 'feats'"),
        (ValueError("\n one\n two"), "ValueError: one"),
    ],
)
def test_what_a_failing_forward_says(error, text):
    with pytest.raises(RecipeError) as told:
        describe(Failing(error), 8)
    assert str(told.value) == f"Failing fails on an input of shape (1, 3, 8, 8): {text}"


def test_an_error_of_the_kits_own_is_not_told_twice():
    with pytest.raises(BatchError, match=r"^one class has no image$"):
        describe(Failing(BatchError("one class has no image")), 8)
    with pytest.raises(RecipeError, match=r"^images of 8 x 8 pixels are smaller"):
        describe(Wrapper(build("tiny", 3)), 8)


def test_tensors_kept_from_a_training_step_are_no_hindrance():
    net = Plain()
    net.last = net.conv1(torch.zeros(1, 3, 4, 4))  # with its graph
    assert describe(net, 8).equals(describe(Plain(), 8))
    assert net.last.requires_grad


def test_a_module_that_cannot_be_copied_is_refused():
    net = Plain()
    net.batches = (number for number in range(3))
    with pytest.raises(RecipeError, match=r"Plain fails .*generator"):
        describe(net, 8)


def test_lazy_layers_are_counted_once_they_know_their_shapes():
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(5))
    for call in (count_parameters, lambda net: describe(net, 8), lambda net: check_limit(net, 9)):
        with pytest.raises(RecipeError, match="Sequential has lazy layers"):
            call(net)
    net(torch.zeros(1, 3, 8, 8))
    check_sums(describe(net, 8), net, 27 * 4 * 36 + 4 * 36 * 5)


def test_the_limit_of_any_module_names_its_largest_parts():
    net = torchvision.models.resnet18(num_classes=7001)
    count = sum(p.numel() for p in net.parameters())
    check_limit(net, count)
    parts = {name: count_parameters(part) for name, part in net.named_children()}
    for wrapped in (net, Wrapper(net)):
        with pytest.raises(RecipeError) as error:
            check_limit(wrapped, count - 1)
        assert str(error.value).endswith(
            f"most are in layer4 ({parts['layer4']:,}), fc ({parts['fc']:,}), "
            f"layer3 ({parts['layer3']:,})"
        )


def test_the_limit_names_what_is_in_no_part():
    with pytest.raises(RecipeError, match=r"conv \(168\), the module's own \(36\)$"):
        check_limit(Loose(), 100)


class OwnBlock(nn.Module):
    """One activation for both places, a linear layer, and a norm that is never called."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.ReLU()
        self.gate = nn.Linear(channels, channels)
        self.spare = nn.BatchNorm2d(channels)

    def forward(self, x):
        y = self.conv2(self.act(self.conv1(x)))
        gate = self.gate(y.mean((2, 3)))[:, :, None, None]
        return self.act(x + y * gate.sigmoid())


def test_a_block_of_ones_own_is_described_by_its_layers():
    block = OwnBlock(6)
    table = describe_block(block, 6, 10)
    check_sums(table, block, flops(block, torch.zeros(1, 6, 10, 10)) // 2)
    layers = ["conv1 (Conv2d)", "act (ReLU)", "conv2 (Conv2d)", "gate (Linear)"]
    assert list(table.index) == [*layers, "spare (BatchNorm2d)", "all"]
    assert table.loc["gate (Linear)", "multiply_adds"] == 36
    assert table.loc["all", "output"] == "6x10x10"
    with pytest.raises(RecipeError, match=r"OwnBlock fails on an input of shape \(1, 5, 10, 10\)"):
        describe_block(block, 5, 10)


def test_a_layer_that_two_branches_of_a_block_share_has_one_row():
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            act = nn.ReLU()
            self.left = nn.Sequential(nn.Conv2d(4, 4, 1), act)
            self.right = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), act)

        def forward(self, x):
            return self.left(x) + self.right(x)

    layers = ["left.0 (Conv2d)", "left.1 (ReLU)", "right.0 (Conv2d)"]
    assert list(describe_block(Branches(), 4, 6).index) == [*layers, "all"]
