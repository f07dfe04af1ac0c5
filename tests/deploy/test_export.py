"""The ONNX file of a run says what the kit says, from the pixels of a file on."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import example, given
from hypothesis import settings as of_test
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from facekit.common.errors import FacekitError, RunError
from facekit.data.images import read_rgb
from facekit.data.transforms import Preprocess
from facekit.deploy.export import Resize, to_onnx
from facekit.evaluation import embed
from facekit.models import build
from facekit.models.own_net import OwnNet


def pixels(paths) -> np.ndarray:
    return np.stack([np.asarray(read_rgb(path)) for path in paths])


@torch.inference_mode()
def kit_logits(run: embed.TrainedRun, images: torch.Tensor) -> np.ndarray:
    batch = torch.stack([run.preprocess.transform()(image) for image in images])
    return ((run.net(batch) + run.net(batch.flip(-1))) / 2).numpy()


def run_of(net: nn.Module) -> embed.TrainedRun:
    preprocess = Preprocess(24, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
    return embed.TrainedRun(
        folder=Path("a run"),
        net=net.eval(),
        preprocess=preprocess,
        classes=list("abcde"),
        data=Path("data"),
        term="F23",
        device=torch.device("cpu"),
        precision=torch.float32,
    )


@of_test(max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 64), st.integers(0, 9))
@example(224, 224, 112, 0)
@example(224, 224, 64, 0)
@example(300, 224, 96, 0)
def test_resizing_is_pillows_bit_by_bit(height, width, size, seed):
    height = min(height, 2 * width)  # above that Pillow's versions differ
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    expected = np.asarray(Preprocess(size).resize()(Image.fromarray(image)))
    found = Resize(size)(torch.from_numpy(image)[None])[0].numpy()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.long
def test_the_command_writes_a_file_that_says_what_the_kit_says(trained, course, tmp_path):
    file = tmp_path / "out" / "net.onnx"
    command = [sys.executable, "-m", "facekit", "export", trained, "--onnx", file]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert str(file) in done.stdout
    session = onnxruntime.InferenceSession(str(file))
    run = embed.load_run(trained, "cpu")
    meta = session.get_modelmeta().custom_metadata_map
    assert json.loads(meta["classes"]) == course.classes
    assert (meta["measure"], meta["size"]) == ("cosine", "32")
    paths = course.unknown_dev.paths
    for count in (1, 2, len(paths)):
        logits, embedding = session.run(["logits", "embedding"], {"images": pixels(paths[:count])})
        np.testing.assert_allclose(embedding, embed.embed(run, paths[:count]), atol=1e-4)
        images = [read_rgb(path) for path in paths[:count]]
        np.testing.assert_allclose(logits, kit_logits(run, images), atol=1e-4, rtol=1e-4)
    ops = {node.op_type for node in onnx.load(str(file)).graph.node}
    assert "BatchNormalization" not in ops


class Own(nn.Module):
    """A network as a student writes one, its embedding what the last linear layer gets."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.last = nn.Linear(8, 5)

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.pool(x))


class Feats(Own):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        feats = self.pool(x)
        return {"out": self.last(feats), "feats": 2 * feats}


class Embeds(Own):
    def embed(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(x) + 1


class Decides(Own):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        feats = self.pool(x)
        return self.last(2 * feats if feats.sum() > 0 else feats)


def own(module: type[nn.Module], head: str = "") -> OwnNet:
    return OwnNet(module(), "mine.py:Net", 5, 24, head)


NETWORKS = {
    "distances": lambda: build({"base": "tiny", "head": "lgm"}, 5),
    "last linear layer": lambda: own(Own),
    "a head on it": lambda: own(Own, "cosface"),
    "feats": lambda: own(Feats),
    "embed": lambda: own(Embeds),
}


@pytest.mark.long
@pytest.mark.parametrize("kind", NETWORKS)
def test_images_of_any_size_and_networks_of_any_kind_give_the_kits_numbers(kind):
    run = run_of(NETWORKS[kind]())
    session = onnxruntime.InferenceSession(to_onnx(run))
    assert session.get_modelmeta().custom_metadata_map["measure"] == run.measure
    generator = np.random.default_rng(0)
    for count, height, width in ((1, 24, 24), (3, 60, 50), (2, 20, 31)):
        images = generator.integers(0, 256, (count, height, width, 3), np.uint8)
        images = [Image.fromarray(image) for image in images]
        logits, embedding = session.run(None, {"images": np.stack(images)})
        wanted = kit_logits(run, images)
        np.testing.assert_allclose(logits, wanted, atol=1e-4, rtol=1e-4)
        small = torch.stack([run.preprocess.resize()(image) for image in images])
        wanted = embed.embed(run, small)
        np.testing.assert_allclose(embedding, wanted, atol=1e-4, rtol=1e-4)


def test_a_network_that_torch_cannot_follow_is_one_error_and_nothing_else(capfd):
    with pytest.raises(RunError, match=r"a run: its network cannot be exported .*forward"):
        to_onnx(run_of(own(Decides)))
    assert capfd.readouterr() == ("", "")


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(FacekitError, match=r"onnxscript is not installed: .*\[export\]"):
        to_onnx(run_of(own(Own)))
