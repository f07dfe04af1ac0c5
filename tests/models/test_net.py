"""The network: stem, stages, embedding and head; sums by hand, compilers and exporters."""

import shutil
from dataclasses import replace

import onnxruntime
import pytest
import torch
from sample_networks import MIX, carry, stir
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from facekit.common.errors import RecipeError
from facekit.models import heads
from facekit.models.build import build
from facekit.models.specs import NetworkSpec, Stage, Stem
from facekit.models.summary import count_parameters
from facekit.models.zoo import halving_stages, residual


def conv_parameters(channels: int, out: int, kernel: int) -> int:
    """A convolution without bias and its batch norm's scale and shift."""
    return channels * out * kernel * kernel + 2 * out


def block_parameters(channels: int, out: int, stride: int) -> int:
    branch = conv_parameters(channels, out, 3) + conv_parameters(out, out, 3)
    changed = stride != 1 or channels != out
    return branch + (conv_parameters(channels, out, 1) if changed else 0)


def test_a_convnext_gives_torchvisions_feature_maps():
    torch.manual_seed(0)
    widths = (8, 16, 24)
    settings = [CNBlockConfig(8, 16, 2), CNBlockConfig(16, 24, 1), CNBlockConfig(24, None, 1)]
    theirs = stir(ConvNeXt(settings, num_classes=3)).eval().features
    stages = halving_stages("convnext", widths, (2, 1, 1))
    mine = build(NetworkSpec(Stem(8, 4, 4, activation="none", norm="layer"), stages), 3).eval()
    carry(theirs[0], mine.stem)
    for number, stage in enumerate(mine.stages):
        if number:
            carry(theirs[2 * number], stage[0].down)
        for block, source in zip(stage, theirs[2 * number + 1], strict=True):
            carry(source, block.residual, drop=1)
            block.scale.data = source.layer_scale.data.flatten()
    x = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        ours, expected = mine.stages(mine.stem(x)), theirs(x)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_published_convolutions_and_linear_layers_begin_kaiming_normal():
    torch.manual_seed(0)
    net = build("row03", 2000)
    for module in (net.stem[0][0], net.stages[4][0], net.head):  # 4: 3x3, 64 -> 128
        weight = module[0].weight if isinstance(module, nn.Sequential) else module.weight
        expected = (2 / weight[0].numel()) ** 0.5  # fan-in
        assert weight.std().item() == pytest.approx(expected, rel=0.03)


def test_other_convolutions_begin_with_the_spread_of_he_et_al():
    torch.manual_seed(0)
    conv = build(residual((64, 128), (1, 1)), 3).stages[1][0].residual[0][0]
    expected = (2 / (128 * 9)) ** 0.5  # fan-out: 128 channels of 3 x 3
    assert conv.weight.std().item() == pytest.approx(expected, rel=0.02)
    assert abs(conv.weight.mean().item()) < 0.02 * expected


def test_parameters_of_a_small_network_counted_by_hand():
    expected = conv_parameters(3, 4, 5)
    expected += block_parameters(4, 4, 1) + block_parameters(4, 4, 1)
    expected += block_parameters(4, 6, 2) + 6 * 7 + 7
    assert expected == 1_565  # 308 + 304 + 304 + 600 + 49
    spec = residual((4, 6), (2, 1), Stem(4, kernel=5))
    assert count_parameters(build(spec, 7)) == expected
    with_neck = replace(spec, embedding=5)
    assert count_parameters(build(with_neck, 7)) == expected + 6 * 5 - 7 * 6 + 7 * 5


@pytest.mark.parametrize("size", [16, 17, 48, 65])
def test_a_small_network_takes_any_size_from_its_stride_on(size):
    net = build("tiny", 3).eval()
    assert net(torch.zeros(1, 3, size, 24)).shape == (1, 3)
    assert net.stride == 16


def test_logits_are_the_head_over_the_embedding():
    net = build(MIX, 5).eval()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(net(x), net.head(net.embed(x)))


@pytest.mark.parametrize("head", ["linear", {"name": "arcface", "margin": 0.4, "scale": 20.0}])
def test_the_head_of_the_spec_gets_the_labels(head):
    torch.manual_seed(0)
    net = build({"base": "tiny", "embedding": 8, "head": head}, 4).eval()
    x, labels = torch.randn(3, 3, 32, 32), torch.tensor([0, 3, 1])
    name = head if isinstance(head, str) else head["name"]
    assert type(net.head) is heads.HEADS[name]
    embedding = net.embed(x)
    assert torch.equal(net(x, labels), net.head(embedding, labels))
    assert torch.equal(net(x, labels), net(x)) == (name == "linear")


def test_a_neck_centres_the_embedding():
    torch.manual_seed(0)
    net = build({"base": "tiny", "embedding": 8}, 4)
    embedding = net.embed(torch.randn(64, 3, 16, 16))
    torch.testing.assert_close(embedding.mean(0), torch.zeros(8), rtol=0, atol=1e-5)
    assert (build("tiny", 4).embed(torch.randn(4, 3, 16, 16)) >= 0).all()  # without: after a ReLU


def test_dropout_acts_on_the_embedding_in_training_only():
    net = build(residual((4,), (1,), dropout=0.5), 3)
    x = torch.randn(8, 3, 16, 16)
    net.eval()
    assert torch.equal(net(x), net(x))
    net.train()
    assert not torch.equal(net(x), net(x))
    assert torch.equal(net.embed(x), net.embed(x))


def test_stochastic_depth_climbs_from_the_first_block_to_the_last():
    stages = (Stage("convnext", 4, depth=2), Stage("conv", 4), Stage("convnext", 4, depth=2))
    net = build(NetworkSpec(Stem(4), stages, drop_path=0.4), 2)
    blocks = [block for stage in net.stages for block in stage]
    rates = [block.drop_path.rate for block in blocks if hasattr(block, "drop_path")]
    assert rates == pytest.approx([0.0, 0.1, 0.3, 0.4])
    own = replace(net.spec, stages=(replace(stages[0], options={"drop_path": 0.2}),))
    assert [block.drop_path.rate for block in build(own, 2).stages[0]] == [0.2, 0.2]


def test_training_compiles_to_one_graph():
    """A network of every block, with stochastic depth and dropout."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    net = build(replace(MIX, dropout=0.2, head="arcface"), 5)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    x, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    nn.functional.cross_entropy(compiled(x, labels), labels).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    with torch.no_grad():
        net.eval()
        torch.testing.assert_close(compiled(x), net(x), rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler for inductor")
def test_inductor_gives_the_same_answers():
    torch._dynamo.reset()
    torch.manual_seed(0)
    spec = NetworkSpec(Stem(4), (Stage("residual", 4, options={"se": 2}),))
    net, x = build(spec, 3).eval(), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(net, fullgraph=True)(x), net(x))


@pytest.mark.parametrize("spec", [MIX, "medium", "convnext"], ids=["mix", "medium", "convnext"])
def test_channels_last_gives_the_same(spec):
    torch.manual_seed(0)
    # In double precision: what processors make of the last digits of float32 differs.
    net, x = stir(build(spec, 5)).eval().double(), torch.randn(2, 3, 32, 32).double()
    expected = net.embed(x)
    net.to(memory_format=torch.channels_last)
    x = x.to(memory_format=torch.channels_last)
    assert net.stages(net.stem(x)).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(net.embed(x), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_finite(dtype):
    torch.manual_seed(0)
    net, labels = build(MIX, 3), torch.tensor([0, 1, 2, 0])
    with torch.autocast("cpu", dtype):
        logits = net(torch.randn(4, 3, 32, 32), labels)
    nn.functional.cross_entropy(logits.float(), labels).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


class Embedder(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net.embed(x)


def test_an_exported_network_gives_the_same_embeddings(tmp_path):
    torch.manual_seed(0)
    net = Embedder(stir(build(MIX, 3))).eval()
    batch = {"x": {0: torch.export.Dim("batch", min=1, max=64)}}
    x, others = torch.randn(2, 3, 32, 32), torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        expected = net(others)
        exported = torch.export.export(net, (x,), dynamic_shapes=batch)
        torch.testing.assert_close(exported.module()(others), expected, rtol=1e-4, atol=1e-4)
        program = torch.onnx.export(net, (x,), dynamic_shapes=batch, dynamo=True, verbose=False)
    program.save(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    answer = torch.from_numpy(session.run(None, {"x": others.numpy()})[0])
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("classes", [0, -1])
def test_a_network_without_classes_is_refused(classes):
    with pytest.raises(RecipeError, match="at least one class"):
        build("tiny", classes)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3, 32, 32), r"\(B, 3, H, W\), not \(3, 32, 32\)"),
        ((2, 1, 32, 32), r"\(B, 3, H, W\), not \(2, 1, 32, 32\)"),
        ((2, 32, 32, 3), r"\(B, 3, H, W\), not \(2, 32, 32, 3\)"),
        ((2, 3, 15, 32), "15 x 32 pixels are smaller than the network's stride of 16"),
        ((2, 3, 32, 8), "32 x 8 pixels are smaller than the network's stride of 16"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_their_shape(shape, words):
    net = build("tiny", 3).eval()
    for call in (net, net.embed):
        with pytest.raises(RecipeError, match=words):
            call(torch.zeros(shape))
