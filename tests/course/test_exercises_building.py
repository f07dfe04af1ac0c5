"""The references of notebook 03: against torch, the kit's blocks and gradients."""

import torch
from torch import nn

from facekit import models
from facekit.course import exercises
from facekit.course.exercises import building
from facekit.models import specs, summary
from facekit.models.blocks import ResidualBlock, SqueezeExcite

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


def test_the_residual_sum_is_that_of_the_kits_block():
    torch.manual_seed(0)
    block, x = ResidualBlock(4, 8, stride=2).eval(), torch.randn(2, 4, 6, 6)
    expected = block(x)
    assert (expected > 0).any()
    torch.testing.assert_close(building.residual(x, block.residual, block.shortcut), expected)


def test_a_drawn_block_needs_its_shortcut_and_its_activation():
    for x, branch, shortcut in KNOWN["residual"].cases(seed=1):
        assert branch(x).shape == shortcut(x).shape == x.shape
        assert not torch.allclose(shortcut(x), x, atol=0.1)
        assert (branch(x) < 0).any()
        assert (branch(x) + shortcut(x) < 0).any()


def test_the_gate_is_that_of_the_kits_squeeze_excite():
    torch.manual_seed(0)
    gate, x = SqueezeExcite(8, reduction=2), torch.randn(3, 8, 5, 4)
    gate.weigh[-1] = nn.Sigmoid()  # the kit's is a hard one
    scores = gate.weigh[:-1](x.mean((2, 3), keepdim=True))[:, :, 0, 0]
    torch.testing.assert_close(building.excite(x, scores), gate(x))


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
