"""The references of notebook 03: against torch, the kit's blocks and gradients."""

import numpy as np
import pytest
import torch
from torch import nn

from facekit import models
from facekit.check import building
from facekit.models import specs, summary
from facekit.models.blocks import ResidualBlock, SqueezeExcite

SEEDS = range(12)


def drawn(draw, seed: int) -> list[tuple]:
    return list(draw(np.random.default_rng(seed)))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_side_is_that_of_torchs_convolution(seed):
    for size, window, stride, padding in drawn(building._convolutions, seed):
        conv = nn.Conv2d(1, 1, window, stride, padding)
        (side, _) = conv(torch.zeros(1, 1, size, size)).shape[2:]
        assert building.output_side(size, window, stride, padding) == side


@pytest.mark.parametrize("seed", SEEDS)
def test_the_parameters_are_those_of_torchs_convolution(seed):
    for channels, out, window, groups, bias in drawn(building._grouped, seed):
        conv = nn.Conv2d(channels, out, window, groups=groups, bias=bias)
        count = sum(p.numel() for p in conv.parameters())
        assert building.conv_parameters(channels, out, window, groups, bias) == count


def test_the_residual_sum_is_that_of_the_kits_block():
    torch.manual_seed(0)
    block, x = ResidualBlock(4, 8, stride=2).eval(), torch.randn(2, 4, 6, 6)
    expected = block(x)
    assert (expected > 0).any()
    torch.testing.assert_close(building.residual(x, block.residual, block.shortcut), expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_drawn_block_needs_its_shortcut_and_its_activation(seed):
    for x, branch, shortcut in drawn(building._branches, seed):
        assert branch(x).shape == shortcut(x).shape == x.shape
        assert not torch.allclose(shortcut(x), x, atol=0.1)
        assert (branch(x) < 0).any()
        assert (branch(x) + shortcut(x) < 0).any()


def test_the_gate_is_that_of_the_kits_squeeze_excite():
    torch.manual_seed(0)
    gate, x = SqueezeExcite(8, reduction=2, gate="sigmoid").eval(), torch.randn(3, 8, 5, 4)
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


@pytest.mark.parametrize("seed", SEEDS)
def test_the_receptive_field_is_what_has_a_slope(seed):
    for (layers,) in drawn(building._stacks, seed):
        assert building.receptive_field(layers) == reach(layers)


def test_the_receptive_field_is_that_of_the_anatomy():
    spec = specs.NetworkSpec(specs.Stem(4), (specs.Stage("conv", 4, 2, stride=2),))
    table = summary.describe(models.build(spec, 3), 16)
    assert building.receptive_field([(3, 2), (3, 2), (3, 1)]) == table["sees"]["all"]
