"""A folded network gives what the network gives, without its batch norms."""

import copy

import pytest
import torch
from torch import nn

from facekit import models
from facekit.models import heads
from facekit.models.fold import fold_batch_norm
from facekit.models.zoo import OURS, REFERENCES, TABLE


def lived_in(net: nn.Module) -> nn.Module:
    """The network with batch norms as after a training: nothing at 0 or 1."""
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 2.0),
            ):
                tensor.data.uniform_(low, high, generator=generator)
    return net


def norms(net: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


@pytest.mark.parametrize("name", [*OURS, *REFERENCES, *list(TABLE)[:5]])
def test_every_network_gives_the_same_without_batch_norm(name):
    net = lived_in(models.build(name, 7)).double().to(memory_format=torch.channels_last)
    folded = fold_batch_norm(net.train())
    assert net.training
    assert not any(module.training for module in folded.modules())
    assert norms(folded) == 0
    assert norms(net) > 0 or name == "convnext"  # which has layer norms
    side = max(32, net.stride)
    x = torch.randn(2, 3, side, side, dtype=torch.float64).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        for mine, theirs in ((folded.embed(x), net.eval().embed(x)), (folded(x), net(x))):
            assert (mine - theirs).abs().max() < 1e-10 * theirs.abs().max()
    for conv in (module for module in folded.modules() if isinstance(module, nn.Conv2d)):
        assert conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_tables_later_rows_are_the_same_network():
    """So that the test above leaves none out."""
    assert len({repr(spec) for name, spec in TABLE.items() if name >= "row05"}) == 1


@pytest.mark.parametrize("head", heads.HEADS)
def test_the_head_and_the_network_stay_as_they_were(head):
    net = lived_in(models.build({"base": "tiny", "embedding": 8, "head": head}, 5))
    before = copy.deepcopy(net.state_dict())
    folded = fold_batch_norm(net)
    assert type(folded.head) is type(net.head)
    for name, value in net.head.state_dict().items():
        assert torch.equal(value, folded.head.state_dict()[name])
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.requires_grad for p in net.parameters())
    folded.head.weight.data.zero_()
    assert net.head.weight.any()  # nothing is shared


def test_a_copy_made_for_inference_is_as_good():
    net = lived_in(models.build("tiny", 5)).eval()
    with torch.inference_mode():
        x = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(fold_batch_norm(net)(x), net(x))
    net(torch.randn(2, 3, 32, 32)).sum().backward()  # the network can still be trained


def test_a_norm_that_follows_no_convolution_stays():
    apart = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))
    net = lived_in(apart)
    folded = fold_batch_norm(net)
    assert norms(folded) == 1
    x = torch.randn(2, 3, 5, 5)
    assert torch.equal(folded(x), net.eval()(x))


def test_squeeze_excite_with_norms_and_a_shortcut_is_folded():
    net = lived_in(models.build("row12", 5)).eval()
    block = net.stages[0][0]
    assert norms(block) == 5 + (0 if isinstance(block.shortcut, nn.Identity) else 1)
    x = torch.randn(2, 32, 9, 9)
    with torch.inference_mode():
        torch.testing.assert_close(fold_batch_norm(block)(x), block(x), rtol=1e-4, atol=1e-5)
