"""A convolution that torch's CPU kernels cannot train gives what it should, by another way."""

import copy

import pytest
import torch
from torch import nn

from facekit.models.numerics import SlicedConv, make_safe


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("stride", [2, 3, (1, 2)])
def test_a_strided_1x1_convolution_of_few_channels_has_the_exact_gradient(channels, stride):
    net = nn.Sequential(nn.Conv2d(channels, 8, 1, stride=stride))
    exact = copy.deepcopy(net).double()  # another kernel, without the fault
    images = torch.rand(4, channels, 10, 12)
    make_safe(net).to(memory_format=torch.channels_last)
    net(images.contiguous(memory_format=torch.channels_last)).square().sum().backward()
    exact(images.double()).square().sum().backward()
    for mine, other in zip(net.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(mine.grad.double(), other.grad, rtol=1e-5, atol=1e-5)


def test_other_convolutions_stay_as_they_are():
    kept = [
        nn.Conv2d(16, 8, 1, stride=2),
        nn.Conv2d(3, 8, 1),
        nn.Conv2d(3, 8, 3, stride=2),
        nn.Conv2d(3, 8, 1, stride=2, padding=1),
    ]
    make_safe(nn.Sequential(*kept))
    assert [type(layer) for layer in kept] == [nn.Conv2d] * 4


def test_the_layer_keeps_its_weights_hooks_and_place():
    layer = nn.Conv2d(3, 8, 1, stride=2)
    seen = []
    layer.register_forward_hook(lambda *_: seen.append(1))
    net = make_safe(nn.ModuleDict({"shortcut": layer}))
    assert net["shortcut"] is layer and isinstance(layer, SlicedConv)
    assert list(net.state_dict()) == ["shortcut.weight", "shortcut.bias"]
    assert layer(torch.rand(1, 3, 5, 5)).shape == (1, 8, 3, 3) and seen == [1]
