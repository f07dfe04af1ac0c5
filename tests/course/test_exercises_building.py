"""The references of notebook 03: against torch, the kit's blocks and gradients."""

import torch
from torch import nn

from facekit import models
from facekit.course import exercises
from facekit.course.exercises import building
from facekit.models import specs, summary
from facekit.models.blocks import ResidualBlock

KNOWN = exercises.exercises()


def test_the_side_is_that_of_torchs_convolution():
    for size, window, stride, padding in KNOWN["output_side"].cases(seed=1):
        conv = nn.Conv2d(1, 1, window, stride, padding)
        (side, _) = conv(torch.zeros(1, 1, size, size)).shape[2:]
        assert building.output_side(size, window, stride, padding) == side


def test_the_parameters_are_those_of_torchs_convolution():
    for channels, out, window, groups, bias in KNOWN["conv_parameters"].cases(seed=1):
        conv = nn.Conv2d(channels, out, window, groups=groups, bias=bias)
        count = sum(p.numel() for p in conv.parameters())
        assert building.conv_parameters(channels, out, window, groups, bias) == count


class InOtherWords(nn.Module):
    """A squeeze-excite with linear layers of other names: the same as the kit's 1x1 windows."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.down = nn.Linear(channels, channels // reduction)
        self.up = nn.Linear(channels // reduction, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = self.up(self.down(x.mean((2, 3))).relu())
        return x * (torch.clamp(score + 3, 0, 6) / 6)[:, :, None, None]


def test_a_module_may_have_other_names_and_other_layers_of_the_same_weights():
    assert KNOWN["SqueezeExcite"].judge(InOtherWords).state == "right"


class ThroughNumpy(InOtherWords):
    """Right numbers, but the gradient does not come through the gate."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (super().forward(x) / x).detach()


def test_right_outputs_with_wrong_gradients_are_not_right():
    state, words = KNOWN["SqueezeExcite"].judge(ThroughNumpy)
    assert state == "not yet"
    assert "the output is right; input gradient: " in words


class OneMore(ResidualBlock):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__(channels, out, stride)
        self.last = nn.Conv2d(out, out, 1)


def test_a_module_of_other_weights_is_told_how_many_there_are():
    words = KNOWN["ResidualBlock"].judge(OneMore).words
    assert "it has 12 weights and buffers, wanted are 10" in words


def test_layers_made_in_another_order_are_named():
    def backwards(channels: int, reduction: int) -> nn.Module:
        gate = InOtherWords(channels, reduction)
        gate._modules = dict(reversed(gate._modules.items()))
        return gate

    assert "number 1 has the shape" in KNOWN["SqueezeExcite"].judge(backwards).words


def test_drawn_modules_reach_every_branch_of_the_reference():
    cases = KNOWN["ResidualBlock"].cases(seed=1)
    assert any(channels == out and stride == 1 for channels, out, stride, _ in cases)
    assert any(channels != out for channels, out, _, _ in cases)
    for channels, out, stride, x in cases:
        assert (x < 0).any()
        assert ResidualBlock(channels, out, stride)(x).shape[1] == out


def test_an_exercise_leaves_the_random_numbers_of_the_notebook_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    KNOWN["ResidualBlock"].judge(ResidualBlock)
    torch.testing.assert_close(torch.rand(3), expected)


def reach(layers: list[tuple[int, int]]) -> int:
    """How many pixels a place in the middle depends on: those with a slope."""
    stack = nn.Sequential(*(nn.Conv1d(1, 1, w, s, bias=False) for w, s in layers))
    for layer in stack:
        nn.init.ones_(layer.weight)
    x = torch.zeros(1, 1, 2000, dtype=torch.float64, requires_grad=True)
    y = stack.double()(x)[0, 0]
    y[len(y) // 2].backward()
    touched = x.grad[0, 0].nonzero()
    return int(touched.max() - touched.min()) + 1


def test_the_receptive_field_is_what_has_a_slope():
    for (layers,) in KNOWN["receptive_field"].cases(seed=1):
        assert building.receptive_field(layers) == reach(layers)


def test_the_receptive_field_is_that_of_the_anatomy():
    spec = specs.NetworkSpec(specs.Stem(4), (specs.Stage("conv", 4, 2, stride=2),))
    table = summary.describe(models.build(spec, 3), 16)
    assert building.receptive_field([(3, 2), (3, 2), (3, 1)]) == table["sees"]["all"]
