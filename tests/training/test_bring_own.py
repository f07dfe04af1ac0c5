"""A reader's own objects train like the kit's: resumed to the bit, judged, handed in."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torchvision
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat.v4 import new_code_cell, new_notebook
from torch.utils.data import DataLoader, Subset
from torchvision.transforms import v2

from facekit import training
from facekit.common import own
from facekit.common.errors import DataError, RecipeError, RunError, refusal
from facekit.evaluation.embed import load_run
from facekit.models import blocks
from facekit.models.summary import describe
from facekit.models.weights import digest, load, save
from facekit.submission import csvs, pipeline
from facekit.training.checkpoint import Checkpoints

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS))

import own_objects as mine  # noqa: E402

FILE = TESTS / "own_objects.py"
SETTINGS = ["epochs=2", "batch_size=8", "image_size=32", "warmup_epochs=1", "watch=false"]


class PowerCut(training.Callback):
    """Ends the process's work after so many steps, as a cut would: nobody is asked."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def after_step(self, run: training.Run) -> None:
        if run.step == self.steps:
            raise ConnectionError("the power is gone")


def fit(course, out, *changes, **objects):
    recipe = training.load_recipe("smoke", [*SETTINGS, "precision=float32", *changes])
    return training.fit(recipe, course, out, device="cpu", progress=False, **objects)


def fingerprint(out: Path) -> str:
    """All that a run has learned and noted."""
    state = Checkpoints(out).load_latest()
    keys = ("net", "auxiliary_loss", "ema", "optimizer", "progress")
    return digest([load(out / "best.pt")["net"], *[state[key] for key in keys]])


OBJECTS = {
    "ten lines": {"network": mine.Ten},
    "embed, dropout, batch norm": {"network": mine.Embedding},
    "a dictionary": {"network": mine.Pair},
    "no linear layer": {"network": mine.Convolutional},
    "torchvision": {"network": mine.resnet18},
    "torchvision's own function": {"network": torchvision.models.resnet18},
    "an instance": {"network": torchvision.models.mobilenet_v3_small(num_classes=6)},
    "timm": {"network": mine.timm_resnet18},
    "timm's ConvNeXt": {"network": mine.timm_convnext},
    "ConvNeXt": {"network": mine.convnext},
    "from a file": {"network": f"{FILE}:Ten"},
    "a block in a spec": {"network": mine.SPEC},
    "a head": {"head": mine.Head},
    "a head on a network": {"network": mine.Ten, "head": mine.Head},
    "the kit's head on a network": {"network": mine.Pair, "head": "arcface"},
    "a changed head": {"network": mine.Embedding, "head": mine.MyArcFace},
    "a loss": {"auxiliary_loss": mine.Pull},
    "a function as loss": {"network": mine.Embedding, "auxiliary_loss": mine.spread},
    "the kit's loss": {"network": mine.Ten, "auxiliary_loss": "center"},
    "a transform": {"transform": mine.transform},
    "all": {
        "network": mine.Embedding,
        "head": mine.Head,
        "auxiliary_loss": mine.Pull,
        "transform": mine.transform,
    },
}


LARGE = ("torchvision", "torchvision's own function", "timm", "timm's ConvNeXt", "an instance")
SORTED = [pytest.param(name, marks=pytest.mark.long) if name in LARGE else name for name in OBJECTS]


@pytest.mark.parametrize("name", SORTED)
def test_cut_off_and_called_again_it_is_the_same_run_and_can_be_handed_in(name, course, tmp_path):
    objects = OBJECTS[name]
    changes = ["ema_decay=0.9", "grad_clip=1"] if name == "all" else []
    fit(course, tmp_path / "straight", *changes, **objects)
    cut = tmp_path / "cut"
    with pytest.raises(ConnectionError):
        fit(course, cut, *changes, **objects, save_minutes=0, callbacks=[PowerCut(7)])
    assert Checkpoints(cut).load_latest()["progress"]["step"], "in the middle of an epoch"
    history = fit(course, cut, *changes, **objects)

    assert len(history.rows) == 2
    assert fingerprint(cut) == fingerprint(tmp_path / "straight")
    run = load_run(cut)
    paths = pipeline.write_submissions(run, course)
    assert all(csvs.check(path, course) == [] for path in paths.values())
    assert describe(run.net, 32).loc["all", "multiply_adds"] > 0


@pytest.mark.parametrize("name", ["embed, dropout, batch norm", "a head on a network"])
def test_in_bfloat16_it_resumes_to_the_bit_too(name, course, tmp_path):
    for out, callbacks in (("straight", []), ("cut", [PowerCut(7)])):
        try:
            fit(course, tmp_path / out, "precision=bfloat16", **OBJECTS[name], save_minutes=0,
                callbacks=callbacks)  # fmt: skip
        except ConnectionError:
            fit(course, tmp_path / out, "precision=bfloat16", **OBJECTS[name])
    assert fingerprint(tmp_path / "cut") == fingerprint(tmp_path / "straight")


@pytest.mark.long
@pytest.mark.parametrize("objects", [{"network": mine.Ten, "auxiliary_loss": "center"},
                                     {"network": mine.Pair, "head": mine.Head}])  # fmt: skip
def test_compiled_it_learns_the_same(objects, course, tmp_path):
    """Without dropout, for which compiled code has random numbers of its own."""
    plain = fit(course, tmp_path / "plain", **objects)
    compiled = fit(course, tmp_path / "compiled", "compile=yes", **objects)
    for one, other in zip(plain.rows, compiled.rows, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)


# ------------------------------------------------------------------ a data set of one's own


def test_a_dataloader_trains_and_resumes_to_the_bit(course, tmp_path):
    change = v2.Compose([v2.Resize(32), v2.RandomHorizontalFlip(), v2.ToImage()])
    folder = course.train.dataset(change)

    def loader(workers: int) -> DataLoader:
        return DataLoader(folder, batch_size=6, shuffle=True, num_workers=workers)

    straight = fit(course, tmp_path / "straight", network=mine.Ten, loader=loader(0))
    with pytest.raises(ConnectionError):
        fit(course, tmp_path / "cut", network=mine.Ten, loader=loader(2), save_minutes=0,
            callbacks=[PowerCut(8)])  # fmt: skip
    fit(course, tmp_path / "cut", network=mine.Ten, loader=loader(0))
    assert straight.rows[0]["epoch"] == 1
    assert Checkpoints(tmp_path / "cut").load_latest()["recipe"]["batch_size"] == 6
    assert fingerprint(tmp_path / "cut") == fingerprint(tmp_path / "straight")


def test_a_part_of_the_images_trains(course, tmp_path):
    folder = course.train.dataset(v2.Compose([v2.Resize(32), v2.ToImage()]))
    few = DataLoader(Subset(folder, range(0, len(folder), 2)), batch_size=6)
    fit(course, tmp_path / "run", network=mine.Ten, loader=few)
    assert Checkpoints(tmp_path / "run").load_latest()["progress"]["epoch"] == 2


def test_labels_that_are_no_classes_are_refused(course, tmp_path):
    folder = course.train.dataset(v2.Compose([v2.Resize(32), v2.ToImage()]))
    folder.targets = [label + 1 for label in folder.targets]
    with pytest.raises(DataError, match=r"label 6, and .*train has 6 classes"):
        fit(course, tmp_path / "run", loader=DataLoader(folder, batch_size=6))


def test_a_transform_that_normalises_is_told_not_to(course, tmp_path):
    twice = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.25] * 3)])
    with pytest.raises(RunError, match="leave Normalize out"):
        fit(course, tmp_path / "run", transform=twice)


def test_another_transform_is_another_run(course, tmp_path):
    fit(course, tmp_path / "run", network=mine.Ten, transform=mine.transform)
    max(Checkpoints(tmp_path / "run").paths()).unlink()  # back to the first epoch
    with pytest.raises(RunError, match="train images or their transform have changed"):
        fit(course, tmp_path / "run", network=mine.Ten, transform=v2.RandomHorizontalFlip())


# ------------------------------------------------------------------ finding a class again


def submit(run: Path, course, *options: object, home: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "facekit", "submit", str(run), "--data", str(course.root)]
    environment = os.environ | {"XDG_CACHE_HOME": str(home)}
    return subprocess.run([*command, *map(str, options)], capture_output=True, text=True,
                          env=environment, check=False)  # fmt: skip


def test_a_file_that_was_named_is_found_again_and_no_other_is_run(course, tmp_path, monkeypatch):
    file = shutil.copy(FILE, tmp_path / "mine.py")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    fit(course, tmp_path / "run", network=f"{file}:Ten")
    assert submit(tmp_path / "run", course, home=tmp_path / "home").returncode == 0

    stranger = submit(tmp_path / "run", course, home=tmp_path / "nobody")
    assert stranger.returncode == 2
    assert "trained with Ten of" in stranger.stderr and "--network FILE.py:Ten" in stranger.stderr
    named = submit(tmp_path / "run", course, "--network", tmp_path / "run" / "own.py:Ten",
                   home=tmp_path / "nobody")  # fmt: skip
    assert named.returncode == 0, named.stderr


@pytest.mark.parametrize("part", ["network", "head", "block", "remembered"])
def test_no_file_that_came_with_a_run_is_run_unasked(part, course, copy_of_run, monkeypatch):
    """Whatever the state of a run names, and even if this user has named the file before."""
    file = copy_of_run / "own.py"
    file.write_text(FILE.read_text() + "\nfrom pathlib import Path\nPath(__file__).rename('ran')\n")
    monkeypatch.chdir(copy_of_run.parent)
    monkeypatch.setenv("XDG_CACHE_HOME", str(copy_of_run / "home"))
    own._trust(file)
    saved = load(copy_of_run / "best.pt")
    name = f"{file}:Ten"
    if part == "head":
        saved["spec"]["head"] = {"name": name}
    elif part == "block":
        saved["spec"]["stages"][0]["block"] = name
    else:
        saved["spec"] = {"own": name, "head": ""}
    if part == "remembered":
        saved["own"] = {name: {"name": "Ten", "place": str(file), "digest": ""}}
    save(copy_of_run / "best.pt", saved)
    assert "came from" in (said := refusal(load_run, copy_of_run)) or "not known here" in said
    assert not Path("ran").exists()


def test_of_a_library_only_what_is_its_own_and_public_is_taken(course, copy_of_run):
    for place, name in (
        ("torchvision.models.resnet", "partial"),
        ("torchvision.models._api", "get_model"),
    ):
        saved = load(copy_of_run / "best.pt")
        origin = {"name": name, "place": place, "digest": ""}
        saved["own"] = {f"own network:{name}": origin}
        save(copy_of_run / "best.pt", saved)
        assert f"trained with {name} of {place}, which is not known here" in refusal(
            load_run, copy_of_run
        )


def test_a_file_that_ends_the_process_is_an_error(tmp_path):
    (tmp_path / "script.py").write_text("import sys\nsys.exit(0)\n")
    assert "SystemExit" in refusal(own.from_file, tmp_path / "script.py", "Net")


def test_a_source_that_changed_is_noticed_at_the_next_session_and_after_it(course, tmp_path):
    file = Path(shutil.copy(FILE, tmp_path / "changing.py"))
    with pytest.raises(ConnectionError):
        fit(course, tmp_path / "run", network=f"{file}:Ten", save_minutes=0,
            callbacks=[PowerCut(8)])  # fmt: skip
    file.write_text(file.read_text().replace("WIDTH = 8", "WIDTH = 8  # wide"))
    fit(course, tmp_path / "run", network=f"{file}:Ten", callbacks=[])  # a comment is no change

    file.write_text(file.read_text().replace("F.relu(self.conv1(x))", "F.gelu(self.conv1(x))"))
    said = refusal(fit, course, tmp_path / "run", network=f"{file}:Ten")
    assert "the source of Ten has changed since this run began" in said
    own.OBJECTS.clear()
    said = refusal(load_run, tmp_path / "run")
    assert "the source of Ten has changed since this run began" in said
    assert "own.py" in said
    kept = load_run(tmp_path / "run", own_objects=[f"{tmp_path / 'run' / 'own.py'}:Ten"])
    assert kept.net.dim == 16


class Edit(training.Callback):
    """Changes the network's file while the run trains."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def after_step(self, run: training.Run) -> None:
        text = self.file.read_text()
        self.file.write_text(text.replace("F.relu(self.conv1(x))", "self.conv1(x)"))


def test_a_source_edited_while_the_run_trains_is_not_taken_for_the_runs_own(course, tmp_path):
    file = Path(shutil.copy(FILE, tmp_path / "edited.py"))
    with pytest.raises(ConnectionError):
        fit(course, tmp_path / "run", network=f"{file}:Ten", save_minutes=0,
            callbacks=[Edit(file), PowerCut(8)])  # fmt: skip
    said = refusal(fit, course, tmp_path / "run", network=f"{file}:Ten")
    assert "the source of Ten has changed since this run began" in said


def test_a_registered_block_is_missed_by_name(course, tmp_path, monkeypatch):
    monkeypatch.setitem(blocks.BLOCKS, "mine", mine.Block)
    spec = {"stem": {"channels": 8}, "stages": [{"block": "mine", "channels": 16}]}
    fit(course, tmp_path / "run", network=spec)
    load_run(tmp_path / "run")
    monkeypatch.delitem(blocks.BLOCKS, "mine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nobody"))
    own.OBJECTS.clear()
    assert "trained with Block of" in refusal(load_run, tmp_path / "run")


def test_an_object_of_another_session_has_to_be_given_again(course, tmp_path):
    fit(course, tmp_path / "run", network=mine.Ten)
    own.OBJECTS.clear()
    said = refusal(training.fit, tmp_path / "run" / "recipe.json", course, tmp_path / "run")
    assert "Ten was given as an object; give it again: network=Ten" in said


# ------------------------------------------------------------------ refusals


class Wide(mine.Ten):
    def __init__(self, num_classes: int) -> None:
        super().__init__(1000)


class Flat(mine.Ten):
    def embed(self, x):
        return self.conv1(x)


class Nan(mine.Ten):
    def forward(self, x):
        return super().forward(x) * float("nan")


class Huge(mine.Ten):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.extra = nn_linear(5000, 5000)


def nn_linear(a: int, b: int) -> torch.nn.Linear:
    return torch.nn.Linear(a, b)


class Broken(mine.Ten):
    def forward(self, x):
        return self.classifier(x)


class Bursting(mine.Ten):
    """Finite at first, and NaN once its weights have moved."""

    def forward(self, x):
        logits = super().forward(x)
        return logits * float("inf") if self.training and len(x) > 2 else logits


def seven(embedding, labels):
    return embedding


REFUSED = {
    "logits": ({"network": Wide}, r"Wide gives logits \(2, 1000\) for 2 images of 6 classes"),
    "embedding": ({"network": Flat}, r"Flat gives embeddings \(2, 8, 16, 16\) .*\(B, D\)"),
    "NaN": ({"network": Nan}, "Nan gives NaN or infinite logits, untrained"),
    "limit": ({"network": Huge}, r"over the limit of 21,000,000; most are in extra \(25,005,000\)"),
    "forward": ({"network": Broken}, r"Broken fails for images \(2, 3, 32, 32\): RuntimeError"),
    "no module": ({"network": lambda classes: 7}, "gives a int, not a torch module"),
    "not made": ({"network": mine.Head}, r"Head cannot be made by Head\(num_classes=6\)"),
    "no file": ({"network": "nowhere.py:Net"}, "nowhere.py: no such Python file"),
    "no name": ({"network": f"{FILE}:Net"}, "defines no 'Net'; it has: Ten, Embedding"),
    "a loss": ({"auxiliary_loss": seven}, "the loss seven must give one number"),
    "a head": ({"head": torch.nn.Identity}, "the head Identity gives logits"),
    "both": ({"transform": mine.transform, "loader": 1}, "give a transform or a loader"),
    "a class as callback": ({"callbacks": [PowerCut]}, "is no object of a class of"),
    "no loader": ({"loader": [1, 2]}, "a torch.utils.data.DataLoader is wanted, not a list"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_refused_in_a_sentence(name, course, tmp_path):
    objects, words = REFUSED[name]
    with pytest.raises((RecipeError, DataError), match=words):
        fit(course, tmp_path / "run", **objects)
    assert not (tmp_path / "run").exists(), "nothing was begun"


def test_a_nan_on_the_way_stops_the_run(course, tmp_path):
    with pytest.raises(RunError, match="the loss is NaN at step 1"):
        fit(course, tmp_path / "run", network=Bursting)


def test_weights_that_have_learned_are_warned_of(course, tmp_path):
    learned = mine.resnet18(6)
    for layer in learned.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight)
    with pytest.warns(UserWarning, match="comes with trained weights, which the homework forbids"):
        fit(course, tmp_path / "run", "epochs=1", network=learned)


@pytest.mark.filterwarnings("error::UserWarning:facekit")
@pytest.mark.long
@pytest.mark.parametrize("name", LARGE)
def test_fresh_networks_are_not_warned_of(name, course, tmp_path):
    fit(course, tmp_path / "run", "epochs=1", **OBJECTS[name])


# ------------------------------------------------------------------ real processes


def train(course, out: Path, *options: object) -> list[str]:
    sets = [word for change in SETTINGS for word in ("--set", change)]
    command = [sys.executable, "-m", "facekit", "train", "smoke", "--data", str(course.root)]
    return [*command, "--out", str(out), *sets, *map(str, options)]


@pytest.mark.long
def test_from_a_file_by_the_command_line_killed_and_called_again(course, tmp_path):
    options = ["--network", f"{FILE}:Embedding", "--head", f"{FILE}:Head", "--transform",
               f"{FILE}:transform", "--set", f"auxiliary_loss={FILE}:Pull"]  # fmt: skip
    subprocess.run(train(course, tmp_path / "straight", *options), check=True)
    process = subprocess.Popen(train(course, tmp_path / "cut", *options, "--save-minutes", 0))
    deadline = time.monotonic() + 240
    while not Checkpoints(tmp_path / "cut").paths() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(train(course, tmp_path / "cut", *options), check=True)
    assert fingerprint(tmp_path / "cut") == fingerprint(tmp_path / "straight")


CELLS = """
import os, signal, torch
from torch import nn
from facekit import training
from facekit.data.layout import CourseData
torch.set_num_threads(1)
WIDTH = 8
-----
class Block(nn.Module):
    def __init__(self, out):
        super().__init__()
        self.conv = nn.Conv2d(3, out, 3, stride=4)
    def forward(self, x):
        return self.conv(x).relu().mean((2, 3))
-----
%matplotlib inline
class Net(nn.Module):  # a cell of a notebook
    def __init__(self, num_classes):
        super().__init__()
        self.block = Block(WIDTH)
        self.fc = nn.Linear(WIDTH, num_classes)
    def forward(self, x):
        return self.fc(self.block(x))
class Killer(training.Callback):
    def after_step(self, run):
        if run.step == 7:
            os.kill(os.getpid(), signal.SIGKILL)
-----
recipe = training.load_recipe("smoke", {settings} + ["precision=float32"])
training.fit(recipe, CourseData({root!r}), {out!r}, device="cpu", save_minutes=0, network=Net,
             callbacks={callbacks})
"""


def run_cells(course, out: Path, callbacks: str, replaced: tuple[str, str] = ("", "")) -> None:
    """The notebook, in a kernel of its own."""
    text = CELLS.replace(*replaced).replace("{settings}", repr(SETTINGS))
    text = text.replace("{root!r}", repr(str(course.root))).replace("{out!r}", repr(str(out)))
    cells = text.replace("{callbacks}", callbacks).split("-----")
    notebook = new_notebook(cells=[new_code_cell(cell.strip()) for cell in cells])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()


@pytest.mark.long
def test_a_class_in_a_notebook_killed_and_run_again(course, tmp_path):
    run_cells(course, tmp_path / "straight", "[]")
    cut = tmp_path / "cut"
    with pytest.raises(DeadKernelError):
        run_cells(course, cut, "[Killer()]")
    with pytest.raises(CellExecutionError, match="the source of Net has changed"):
        run_cells(course, cut, "[]", replaced=("relu()", "tanh()"))
    run_cells(course, cut, "[]", replaced=("# a cell of a notebook", ""))
    assert fingerprint(cut) == fingerprint(tmp_path / "straight")

    home = tmp_path / "home"
    elsewhere = submit(cut, course, home=home)
    assert "trained with Net of a notebook, which is not known here" in elsewhere.stderr
    assert submit(cut, course, "--network", cut / "own.py:Net", home=home).returncode == 0


def test_two_objects_of_one_name_do_not_stand_for_each_other(course, tmp_path):
    fit(course, tmp_path / "run", network=lambda classes: mine.Ten(classes),
        auxiliary_loss=lambda embedding, labels: embedding.mean())  # fmt: skip
    assert load_run(tmp_path / "run").net.dim == 16


@pytest.mark.long
def test_two_processes_train_it_together(course, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command = train(course, tmp_path / "pair", "--network", f"{FILE}:Ten", "--device=cpu")
    command[1:2] = [*launcher, "-m"]
    subprocess.run(command, check=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})
    fit(course, tmp_path / "one", "precision=auto", network=f"{FILE}:Ten")
    one = Checkpoints(tmp_path / "one").load_latest()["progress"]["rows"]
    two = Checkpoints(tmp_path / "pair").load_latest()["progress"]["rows"]
    for row, other in zip(one, two, strict=True):
        assert row["train_loss"] == pytest.approx(other["train_loss"], rel=0.02)
