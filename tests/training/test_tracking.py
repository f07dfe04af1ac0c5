"""What a run leaves behind is complete and holds no secret, and trackers never stop a run."""

import json
import platform
import re
import socket
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

import facekit
from facekit.common.errors import RecipeError
from facekit.common.kit import install_command
from facekit.common.machine import Choice
from facekit.common.redaction import hide_secrets
from facekit.training.environment import environment, git_revision
from facekit.training.tracking import TRACKERS, Tracker

CPU = torch.device("cpu")
KEY = "0123456789abcdef0123456789abcdef01234567"
CHOICES = {"workers": Choice(2, "2 cores may read images"), "dtype": Choice(torch.float32, "plain")}


# ------------------------------------------------------------------ the environment


def test_the_environment_is_complete_and_plain():
    found = environment(CPU, CHOICES)
    assert json.loads(json.dumps(found)) == found
    assert found["versions"] == {
        "facekit": facekit.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__).partition("+")[0],
        "torchvision": found["versions"]["torchvision"],
        "numpy": np.__version__,
    }
    assert found["machine"]["gpu"] is None
    assert found["machine"]["processor"]
    assert found["threads"] == torch.get_num_threads()
    assert found["choices"]["workers"] == {"value": "2", "reason": "2 cores may read images"}
    assert found["choices"]["dtype"]["value"] == "torch.float32"
    assert found["date"].endswith("+00:00")


def test_the_environment_holds_no_variables_and_no_secrets(monkeypatch):
    monkeypatch.setenv("MY_API_TOKEN", "swordfish1234")
    monkeypatch.setenv("FACEKIT_PROFILE", "a-value-of-the-environment")
    found = environment(CPU, {"a": Choice(1, "b")})
    text = json.dumps(found)
    assert not [word for word in ("swordfish", "a-value-of") if word in text]


@pytest.mark.parametrize(
    "secret", [KEY, "hf_abcdefghijklmnop", "KGAT_0123456789abcdef", "ghp_abcdefgh12345678"]
)
def test_what_looks_like_a_key_is_hidden(secret):
    assert hide_secrets(f"login with {secret}: refused") == "login with ***: refused"


@pytest.mark.parametrize(
    "text", ["", "runs/cnn1", "11-785-f23-hw2p2-classification", "augment.flip=0.5", "n000001"]
)
def test_what_is_no_key_is_shown(text):
    assert hide_secrets(text) == text


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "a.txt").write_text("a")
    git(folder, "add", "a.txt")
    git(folder, "commit", "-q", "-m", "a")
    return folder


def test_the_revision_is_that_of_the_last_commit(repository):
    assert git_revision(repository) == git(repository, "rev-parse", "HEAD")


def test_without_a_repository_or_without_git_there_is_no_revision(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert environment(CPU, {})["git"]["folder"] is None
    assert git_revision(tmp_path / "missing") is None
    monkeypatch.setenv("PATH", "")
    assert environment(CPU, {})["git"] == {"facekit": None, "folder": None}


# ------------------------------------------------------------------ trackers


class Writer:
    """TensorBoard's writer, of which the events of steps from `purge_step` on are shown anew."""

    events: dict[str, list] = {}  # noqa: RUF012

    def __init__(self, folder: str, purge_step: int | None = None) -> None:
        self.mine = self.events.setdefault(folder, [])
        self.mine[:] = [event for event in self.mine if event[1] < (purge_step or 0)]

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.mine.append((name, step, value))

    def flush(self) -> None:
        pass

    close = flush


class Wandb(types.ModuleType):
    """The module with the few names that are used; runs by their id."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.calls, self.logged, self.finished = [], [], 0

    def init(self, **options):
        self.calls.append(options)
        return self

    def log(self, row: dict, step: int) -> None:
        self.logged.append((step, row))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def board(monkeypatch) -> dict[str, list]:
    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(Writer, "events", {})
    return Writer.events


@pytest.fixture
def wandb(monkeypatch, tmp_path) -> Wandb:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setitem(sys.modules, "wandb", module := Wandb())
    return module


def track(folder: Path, said: list, *to: str, epochs=()) -> Tracker:
    tracker = Tracker(folder, "cnn1", to, {"epochs": 3}, said.append)
    for epoch in epochs:
        row = {"epoch": epoch, "dev_accuracy": epoch / 10, "note": "x", "nan": np.nan}
        tracker.after_epoch(None, row)
    tracker.close()
    return tracker


def test_without_trackers_nothing_happens(tmp_path):
    said = []
    track(tmp_path, said, epochs=[1, 2])
    assert list(tmp_path.iterdir()) == said == []


def test_an_unknown_tracker_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(RecipeError, match="no tracker 'mlflow'; there are: tensorboard, wandb"):
        Tracker(tmp_path, "cnn1", ["mlflow"])


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb",) * 2]
)
def test_a_missing_package_is_named_with_the_command_that_helps(
    tmp_path, monkeypatch, name, module
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RecipeError, match=re.escape(install_command("tracking"))):
        Tracker(tmp_path, "cnn1", [name])


def test_tensorboard_gets_every_number_once_though_a_run_is_resumed(tmp_path, board):
    said = []
    track(tmp_path, said, "tensorboard", epochs=[1, 2, 3])
    track(tmp_path, said, "tensorboard", epochs=[3, 4])  # killed after epoch 3, before its state
    expected = [("dev_accuracy", epoch, epoch / 10) for epoch in (1, 2, 3, 4)]
    assert board == {str(tmp_path / "tensorboard"): expected}
    assert said == []


def test_wandb_goes_on_in_the_same_curve(tmp_path, wandb):
    said = []
    track(tmp_path, said, "wandb", epochs=[1])
    track(tmp_path, said, "wandb", epochs=[2])
    first, second = wandb.calls
    assert first == second
    assert first["id"] == (tmp_path / "wandb-id.txt").read_text()
    assert (first["resume"], first["dir"]) == ("allow", str(tmp_path))
    assert (first["project"], first["name"], first["config"]) == ("facekit", "cnn1", {"epochs": 3})
    assert [step for step, _ in wandb.logged] == [1, 2]
    assert wandb.finished == 2
    track(tmp_path / "..", said, "wandb")
    assert wandb.calls[2]["id"] != first["id"]
    assert said == []


@pytest.mark.parametrize(
    ("key", "mode", "expected"),
    [
        (None, None, "offline"),
        ("variable", None, "online"),
        ("file", None, "online"),
        ("variable", "offline", "offline"),
        ("variable", "disabled", "disabled"),
        (None, "online", "online"),
    ],
)
def test_wandb_is_online_where_there_is_a_key(tmp_path, wandb, monkeypatch, key, mode, expected):
    if key == "variable":
        monkeypatch.setenv("WANDB_API_KEY", KEY)
    if key == "file":
        (tmp_path / "netrc").write_text(f"machine api.wandb.ai\n login user\n password {KEY}\n")
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    (tmp_path / "run").mkdir()
    track(tmp_path / "run", [], "wandb", epochs=[1])
    assert wandb.calls[0]["mode"] == expected
    assert KEY not in str(wandb.calls)
    assert not any(KEY in path.read_text() for path in (tmp_path / "run").iterdir())


def test_a_damaged_file_of_logins_is_no_key(tmp_path, wandb):
    (tmp_path / "netrc").write_text("machine\n\0{")
    track(tmp_path, [], "wandb")
    assert wandb.calls[0]["mode"] == "offline"


@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_a_failing_tracker_is_named_once_without_its_key_and_the_other_goes_on(
    tmp_path, wandb, board, monkeypatch, where
):
    def fail(*arguments, **options):
        raise ConnectionError(f"no network for user:{KEY}@api\nTraceback")

    monkeypatch.setattr(wandb, where, fail)
    said = []
    track(tmp_path, said, "wandb", "tensorboard", epochs=[1, 2, 3])
    assert said == [
        "tracker wandb failed (no network for user:***@api); training goes on without it"
    ]
    assert len(board[str(tmp_path / "tensorboard")]) == 3


def test_a_full_disk_under_tensorboard_does_not_stop_a_run(tmp_path, board, monkeypatch):
    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Writer, "flush", full)
    said = []
    track(tmp_path, said, "tensorboard", epochs=[1, 2])
    assert said == [
        "tracker tensorboard failed ([Errno 28] No space left on device); "
        "training goes on without it"
    ]


def test_ctrl_c_in_a_tracker_is_not_swallowed(tmp_path, wandb, monkeypatch):
    def interrupt(**options):
        raise KeyboardInterrupt

    monkeypatch.setattr(wandb, "init", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Tracker(tmp_path, "cnn1", ["wandb"])


def test_the_trackers_are_the_packages_of_the_extra():
    project = (Path(facekit.__file__).parents[1] / "pyproject.toml").read_text()
    extra = project.partition("tracking = [")[2].partition("]")[0]
    assert all(f'"{name}>=' in extra for name in TRACKERS)


# ------------------------------------------------------------------ the real ones


def test_the_real_tensorboard_reads_back_every_epoch_once(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    said = []
    track(tmp_path, said, "tensorboard", epochs=[1, 2, 3])
    track(tmp_path, said, "tensorboard", epochs=[3, 4])
    found = reader.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    curve = [(event.step, round(event.value, 3)) for event in found.Scalars("dev_accuracy")]
    assert curve == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert said == []


def test_the_real_wandb_keeps_every_epoch_offline_for_wandb_sync(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(socket.socket, "connect", only_here(socket.socket.connect))
    said = []
    track(tmp_path, said, "wandb", epochs=[1, 2])
    track(tmp_path, said, "wandb", epochs=[3])
    wandb.teardown()  # as at the end of a process: its service writes late on a busy machine
    name = (tmp_path / "wandb-id.txt").read_text()
    kept = sorted((tmp_path / "wandb").glob(f"offline-run-*-{name}*/run-{name}*.wandb"))
    assert len(kept) == 2 and said == []
    first, second = (path.read_bytes() for path in kept)
    assert first.count(b"dev_accuracy") >= 2 and b"dev_accuracy" in second
    assert not any(KEY.encode() in path.read_bytes() for path in kept)


def only_here(connect):
    """Sockets of this process reach this machine alone."""

    def checked(self, address):
        assert isinstance(address, str) or address[0] in ("127.0.0.1", "::1", "localhost")
        return connect(self, address)

    return checked
