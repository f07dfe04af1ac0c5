"""A folded network gives what the network gives, without its batch norms."""

import copy

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter

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
                if tensor is not None:
                    tensor.data.uniform_(low, high, generator=generator)
    return net


def norms(net: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


@torch.inference_mode()
def norms_called(net: nn.Module, x: torch.Tensor) -> int:
    """How many batch norms work on the way to the output."""
    called = []
    net = copy.deepcopy(net)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda *_: called.append(1))
    net(x)
    return len(called)


def convolutions_called(net: nn.Module, x: torch.Tensor) -> list[nn.Conv2d]:
    called = []
    hook = nn.modules.module.register_module_forward_hook(
        lambda module, *_: called.append(module) if isinstance(module, nn.Conv2d) else None
    )
    net(x)
    hook.remove()
    return called


@pytest.mark.parametrize("name", [*OURS, *REFERENCES, *list(TABLE)[:5]])
def test_every_network_gives_the_same_without_batch_norm(name):
    net = lived_in(models.build(name, 7)).double().to(memory_format=torch.channels_last)
    folded = fold_batch_norm(net.train())
    assert net.training
    assert not any(module.training for module in folded.modules())
    assert norms(net) > 0 or name == "convnext"  # which has layer norms
    side = max(32, net.stride)
    x = torch.randn(2, 3, side, side, dtype=torch.float64).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        for mine, theirs in ((folded.embed(x), net.eval().embed(x)), (folded(x), net(x))):
            assert (mine - theirs).abs().max() < 1e-10 * theirs.abs().max()
    # Three stages of it begin with a norm that no convolution stands before.
    assert norms_called(folded, x) == (3 if name == "lean-convnext" else 0)
    for conv in convolutions_called(folded, x):
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
    x = torch.randn(2, 3, 5, 5)
    assert norms_called(folded, x) == 1
    assert torch.equal(folded(x), net.eval()(x))


def test_squeeze_excite_with_norms_and_a_shortcut_is_folded():
    net = lived_in(models.build("row12", 5)).eval()
    block = net.stages[0][0]
    assert norms(block) == 5 + (0 if isinstance(block.shortcut, nn.Identity) else 1)
    x = torch.randn(2, 32, 9, 9)
    with torch.inference_mode():
        torch.testing.assert_close(fold_batch_norm(block)(x), block(x), rtol=1e-4, atol=1e-5)
    assert norms_called(fold_batch_norm(block), x) == 0


def pair(channels: int = 4, out: int = 4) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out)]


class Shared(nn.Module):
    """A convolution with a norm in one place, and without in another."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(*pair(3))
        self.features = nn.Sequential(*pair(), nn.ReLU())
        self.again = nn.Sequential(self.features[0], nn.ReLU())

    def forward(self, x):
        x = self.first(x)
        return self.again(self.features(x))


class TwoNorms(nn.Module):
    """A convolution with a norm for each of two kinds of images."""

    def __init__(self) -> None:
        super().__init__()
        conv, norm = pair(3)
        self.day = nn.Sequential(conv, norm)
        self.night = nn.Sequential(conv, nn.BatchNorm2d(4))

    def forward(self, x):
        return self.day(x) - self.night(x)


class Tied(nn.Module):
    """Two convolutions with one weight; one's weight is used by itself, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(*pair(3, 3))
        self.second = nn.Sequential(*pair(3, 3))
        self.second[0].weight = self.first[0].weight

    def forward(self, x):
        x = self.second(self.first(x))
        return F.conv2d(x, self.first[0].weight)


class InBetween(nn.Module):
    """Looks at what lies between a convolution and its norm, one layer after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*pair(3), nn.ReLU(), *pair())

    def forward(self, x):
        seen = []
        for layer in self.features:
            x = layer(x)
            seen.append(x)
        return torch.cat([*seen, self.features[:1](x[:, :3]), self.features[3](x)], 1)


class Skipping(nn.Sequential):
    """Adds what comes to what goes: no plain row of layers."""

    def forward(self, x):
        for layer in self:
            x = x + layer(x)
        return x


class Standardised(nn.Conv2d):
    """A convolution whose weights get mean 0 and deviation 1 before each use."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / weight.std((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias, padding=1)


class Doubling(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


def hooked(place: int) -> nn.Module:
    net = nn.Sequential(*pair(3))
    net[place].register_forward_hook(lambda module, given, output: output.relu())
    return net


def parametrised() -> nn.Module:
    conv, norm = pair(3)
    return nn.Sequential(nn.utils.parametrizations.weight_norm(conv), norm)


def own_forward() -> nn.Module:
    conv, norm = pair(3)
    conv.forward = lambda x: F.conv2d(x, conv.weight[:, :1].expand(4, 3, 3, 3), padding=1)
    return nn.Sequential(conv, norm)


ODD = {
    "shared": Shared,
    "two norms": TwoNorms,
    "tied": Tied,
    "in between": InBetween,
    "skipping": lambda: Skipping(*pair(3, 3), *pair(3, 3)),
    "standardised": lambda: nn.Sequential(Standardised(3, 4, 3), nn.BatchNorm2d(4)),
    "doubling": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), Doubling(4)),
    "hooked convolution": lambda: hooked(0),
    "hooked norm": lambda: hooked(1),
    "parametrised": parametrised,
    "own forward": own_forward,
    "reflecting": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(4)
    ),
    "of the batch": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)
    ),
    "not affine": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)),
    "called twice": lambda: nn.Sequential(*2 * [nn.Sequential(*pair(3, 3), nn.ReLU())]),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(4)),
    "resnet18": lambda: torchvision.models.resnet18(num_classes=5),
    "mobilenet": lambda: torchvision.models.mobilenet_v3_small(num_classes=5),
    "between": lambda: IntermediateLayerGetter(Shared().features, {"0": "conv", "1": "norm"}),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_module_gives_the_same_after_folding(name):
    net = lived_in(ODD[name]()).double()
    folded = fold_batch_norm(net)
    folded = fold_batch_norm(folded)  # to fold once more changes nothing
    channels = 4 if name == "between" else 3
    x = torch.randn(2, channels, 33, 33, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(folded(x), net.eval()(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["shared", "two norms", "tied", "called twice"])
def test_layers_used_in_several_places_are_folded_in_each(name):
    net = lived_in(ODD[name]())
    assert norms_called(fold_batch_norm(net), torch.randn(2, 3, 9, 9)) == 0


def test_a_row_of_torchvisions_is_folded():
    net = lived_in(torchvision.models.mobilenet_v3_small(num_classes=5))
    assert norms_called(fold_batch_norm(net), torch.randn(2, 3, 33, 33)) == 0


def test_a_network_that_keeps_tensors_of_its_last_training_step_is_folded():
    net = lived_in(nn.Sequential(*pair(3)))
    x = torch.randn(2, 3, 5, 5)
    net.last = net(x)
    net.kept = {"features": [net.last.relu(), (net.last,)]}
    folded = fold_batch_norm(net)
    assert not folded.kept["features"][0].requires_grad
    assert net.last.requires_grad and net.kept["features"][0].requires_grad
    with torch.inference_mode():
        torch.testing.assert_close(folded(x), net.eval()(x))
