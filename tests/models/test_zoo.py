"""Networks that have a name: the parameters and answers of torchvision's, the published rows."""

from dataclasses import replace

import pytest
import torch
import torchvision
from sample_networks import carry, on_paper, stir

from facekit.models.build import build
from facekit.models.specs import Stem
from facekit.models.summary import count_parameters
from facekit.models.zoo import NETWORKS, OURS, TABLE, as_spec, residual

LIMIT = 21_000_000


TORCHVISION = {
    "resnet18": torchvision.models.resnet18,
    "resnet34": torchvision.models.resnet34,
    "resnet50": torchvision.models.resnet50,
    "mobilenetv2": torchvision.models.mobilenet_v2,
}


@pytest.mark.parametrize("classes", [1000, 7001])
@pytest.mark.parametrize("name", TORCHVISION)
def test_references_have_the_parameters_of_torchvisions(name, classes):
    theirs = on_paper(TORCHVISION[name], num_classes=classes)
    assert count_parameters(on_paper(build, name, classes)) == count_parameters(theirs)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenetv2"])
def test_torchvisions_weights_give_torchvisions_answers(name):
    torch.manual_seed(0)
    mine, theirs = build(name, 10).eval(), stir(TORCHVISION[name](num_classes=10)).eval()
    carry(theirs, mine)  # both list stem, stages and head in the order of the forward pass
    x = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        expected = theirs(x)
        scale = expected.abs().max().item()
        torch.testing.assert_close(mine(x), expected, rtol=1e-5, atol=1e-5 * scale)


def test_the_last_row_of_the_table_is_the_published_network():
    assert count_parameters(on_paper(build, "row12", 7001)) == 12_632_185
    assert list(TABLE) == [f"row{number:02}" for number in range(1, 13)]
    assert all(TABLE[f"row{number:02}"] == TABLE["row12"] for number in range(5, 12))


def test_a_published_stage_is_block_transition_block():
    stages = TABLE["row12"].stages
    kinds = [(stage.block, stage.channels, stage.stride) for stage in stages]
    expected = []
    for before, after, stride in [(32, 64, 1), (64, 128, 1), (128, 256, 2), (256, 512, 2)]:
        expected += [("inverted", before, stride), ("conv", after, 1), ("inverted", after, stride)]
    assert kinds == expected
    assert all(stage.options["published"] for stage in stages if stage.block == "inverted")
    assert [stage.options["se"] for stage in TABLE["row04"].stages[::3]] == [0, 0, 4, 4]
    assert [stage.options["dropout"] for stage in stages[2::3]] == [0.2, 0.0, 0.2, 0.0]


@pytest.mark.parametrize(
    "name", [*OURS, "resnet18", "mobilenetv2", "convnext", "lean-convnext", "starter"]
)
def test_networks_that_obey_the_homeworks_limit(name):
    assert count_parameters(on_paper(build, name, 7001)) < LIMIT


def test_our_networks_are_one_family_of_growing_size():
    sizes = [count_parameters(on_paper(build, name, 7001)) for name in OURS]
    assert sizes == sorted(sizes)
    for spec in OURS.values():
        assert {stage.block for stage in spec.stages} == {"residual"}
        squeezed = ["se" in stage.options for stage in spec.stages]
        assert squeezed in ([False] * len(squeezed), [False, False, True, True])


def test_the_lean_convnext_has_the_size_that_was_published():
    assert count_parameters(on_paper(build, "lean-convnext", 7001)) == pytest.approx(
        12.1e6, rel=5e-3
    )
    norms = [m for m in on_paper(build, "lean-convnext", 2).modules() if "Norm" in type(m).__name__]
    assert norms and all(isinstance(norm, torch.nn.BatchNorm2d) for norm in norms)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_gives_embeddings_and_logits(name):
    net = on_paper(build, name, 11).eval()
    x = torch.zeros(2, 3, 64, 96, device="meta")
    assert net.embed(x).shape == (2, net.dim)
    assert net.dim == (net.spec.embedding or net.spec.stages[-1].channels)
    assert net.stages(net.stem(x)).shape[2:] == (64 // net.stride, -(-96 // net.stride))
    assert net.num_classes == 11


@pytest.mark.parametrize(
    ("spec", "side"),
    [
        (residual((4, 8), (1, 1)), 16),
        (residual((4, 8), (1, 1), Stem(4, pool=True)), 8),
        (residual((4, 8), (1, 1), Stem(4, stride=1)), 32),
        (residual((4, 8, 8, 8), (1, 2, 1, 1)), 4),
    ],
)
def test_every_stage_but_the_first_halves_the_sides(spec, side):
    net = build(spec, 2)
    assert net.stages(net.stem(torch.zeros(1, 3, 64, 64))).shape[2:] == (side, side)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_name_means_its_spec(name):
    assert as_spec(name) is NETWORKS[name]


def test_a_table_may_change_a_named_network():
    spec = as_spec({"base": "small", "stem": {"channels": 32, "stride": 1}, "embedding": 64})
    assert spec == replace(OURS["small"], stem=Stem(32, stride=1), embedding=64)
    assert as_spec({"base": {"base": "tiny", "dropout": 0.5}, "embedding": 9}).dropout == 0.5
