"""The file that `facekit new` writes trains as it stands, with everything that is in it."""

import subprocess
import sys

from facekit.evaluation.embed import load_run

SETTINGS = ["epochs=1", "image_size=32", "batch_size=8", "precision=float32"]


def test_it_trains_and_is_handed_in_as_it_stands(run_cli, course, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = run_cli("new", "my_net.py")
    assert said.status == 0
    command = said.stdout.splitlines()[-1].split()[1:]
    assert command[:4] == ["train", "smoke", "--network", "my_net.py:Net"]
    sets = [word for setting in SETTINGS for word in ("--set", setting)]
    assert run_cli(*command, "--data", course.root, *sets).status == 0
    out = tmp_path / command[-1]
    assert load_run(out).net.dim == 256
    assert run_cli("submit", out, "--data", course.root).status == 0


def test_each_part_of_it_can_be_used(run_cli, course, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_cli("new", "mine.py")
    options = ["--network", "mine.py:Net", "--head", "mine.py:Head", "--transform",
               "mine.py:transform", "--set", "auxiliary_loss=mine.py:loss"]  # fmt: skip
    sets = [word for setting in SETTINGS for word in ("--set", setting)]
    trained = run_cli("train", "smoke", *options, "--data", course.root, "--out", "run", *sets)
    assert trained.status == 0, trained.stderr
    assert run_cli("evaluate", "run", "--data", course.root).status == 0


def test_it_is_written_as_the_kit_is(run_cli, tmp_path):
    run_cli("new", tmp_path / "mine.py")
    command = [sys.executable, "-m", "ruff", "check", "--select", "E,F,I,UP,B", "--line-length"]
    done = subprocess.run([*command, "100", str(tmp_path / "mine.py")], capture_output=True)
    assert done.returncode == 0, done.stdout


def test_nothing_that_is_there_is_overwritten(refused, run_cli, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("a week of work")
    assert "is there already; name another file" in refused("new", file)
    assert file.read_text() == "a week of work"
    assert "name a Python file that can be imported" in refused("new", tmp_path / "mine.txt")
    assert "name a Python file that can be imported" in refused("new", tmp_path / "my-net.py")
    assert "there is no folder" in refused("new", tmp_path / "nowhere" / "mine.py")
