"""One zip of a run: all of it is there, nothing secret, and what cannot be handed in is refused."""

import hashlib
import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from facekit import training
from facekit.common.errors import FacekitError
from facekit.common.files import write_whole
from facekit.course import plots
from facekit.evaluation import embed
from facekit.models import weights
from facekit.models.parts import count_parameters
from facekit.submission import hand_in, pairs, pipeline, zips

EVERYWHERE = {  # beside the CSVs and notebooks
    *("README.md", "curves.png", "environment.json", "hand-in.json", "history.csv"),
    *("model_metadata.json", "recipe.json"),
}
TOKENS = {
    "HF_TOKEN": "hf_plantedPLANTED123",
    "WANDB_API_KEY": "0123456789abcdef" * 2 + "01234567",
    "KAGGLE_KEY": "fedcba9876543210" * 2,
    "MY_PASSWORD": "correct horse battery staple",
}


@pytest.fixture(scope="module")
def submitted(trained, course, tmp_path_factory) -> Path:
    """A finished run with both CSVs, not to be changed."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("submitted") / "run")
    pipeline.write_submissions(embed.load_run(folder, "cpu"), course)
    return folder


@pytest.fixture
def run(submitted, tmp_path) -> Path:
    return shutil.copytree(submitted, tmp_path / "run")


@pytest.fixture
def notebook(tmp_path) -> Path:
    path = tmp_path / "mine.ipynb"
    cell = {"cell_type": "code", "source": ["x = 1\n", "x"], "outputs": [], "metadata": {}}
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4}))
    return path


def write(run: Path, course, out: Path, *notebooks: Path) -> list[str]:
    return hand_in.write(embed.load_run(run, "cpu"), course, out, notebooks, plots.curves)


def fill_in(run: Path) -> None:
    text = "".join(f"## {name}\nSomething.\n" for name in zips.SECTIONS)
    (run / "README.md").write_text(text)


def test_all_that_is_handed_in_is_there_with_its_hash(run, course, notebook, tmp_path):
    out = tmp_path / "a.zip"
    write(run, course, out, notebook)
    with zipfile.ZipFile(out) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    submissions = set(pipeline.FILES.values())
    assert set(content) == EVERYWHERE | submissions | {"notebooks/mine.ipynb"}
    for name in submissions:
        assert content[name] == (run / name).read_bytes()
    note = json.loads(content.pop("hand-in.json"))
    assert note["files"] == {n: hashlib.sha256(c).hexdigest() for n, c in content.items()}
    assert json.loads(content["notebooks/mine.ipynb"]) == json.loads(notebook.read_text())
    assert json.loads(content["recipe.json"]) == json.loads((run / "recipe.json").read_text())
    assert content["curves.png"].startswith(b"\x89PNG")
    assert len(content["history.csv"].splitlines()) == 1 + 3
    model, net = json.loads(content["model_metadata.json"]), embed.load_run(run).net
    assert model["trainable_parameters"] == count_parameters(net)
    assert model["multiply_adds"] > model["trainable_parameters"]
    assert model["module"] == str(net)
    assert model["made_of"] == ["facekit", "torch"] and model["begins_trained"] is False


def test_the_same_run_gives_the_same_bytes_and_another_network_another_hash(run, course, tmp_path):
    for name in ("a.zip", "b.zip"):
        write(run, course, tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    state = weights.load(run / "best.pt")
    next(iter(state["net"].values())).mul_(1.001)
    weights.save(run / "best.pt", state)
    for path in run.glob("*.csv"):
        path.touch()
    write(run, course, tmp_path / "c.zip")
    first, other = zips.read(tmp_path / "a.zip"), zips.read(tmp_path / "c.zip")
    assert first.weights != other.weights


def test_what_is_empty_is_named_until_it_is_filled_in(run, course, notebook, tmp_path):
    out = tmp_path / "a.zip"
    said = "\n".join(write(run, course, out))
    for name in zips.SECTIONS:
        assert name in said
    assert "acknowledgement" in said and "no notebook" in said
    readme = zips.read(out).files["README.md"].decode()
    assert readme.startswith("> Still empty: Name, Model,")
    assert zips.empty_sections(readme) == list(zips.SECTIONS)
    fill_in(run)
    (line,) = write(run, course, out, notebook)
    assert line.startswith(f"{out}: ")
    assert "empty" not in zips.read(out).files["README.md"].decode()


def test_a_section_with_a_comment_alone_is_empty_and_one_that_is_gone_too():
    text = (
        "## Name\nAda\n\n## Model\n<!-- what\n\nis it? -->\n\n## Training\n```\n# no heading\n```\n"
    )
    assert zips.empty_sections(text)[:2] == ["Model", "Augmentation"]


def test_nothing_secret_goes_in(run, course, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in TOKENS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle" / "kaggle.json").write_text('{"username": "ada", "key": "shortkey"}')
    monkeypatch.delenv("KAGGLE_KEY")
    planted = [*TOKENS.values(), "shortkey", "in.a.header", "in-an-address", "in-a-variable"]
    text = " ".join(TOKENS.values()) + " shortkey 'Bearer in.a.header' "
    text += 'https://example.org/?sign=in-an-address api_key="in-a-variable"'
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": [f"logged in: {text}\n", "done"]},
        {"output_type": "error", "ename": "E", "evalue": text, "traceback": [text, text]},
        {"output_type": "display_data", "metadata": {text: text}, "data": {"text/html": [text]}},
    ]
    cell = {"cell_type": "code", "source": [f"x = '''{text}'''"], "outputs": outputs}
    notebook = tmp_path / f"{TOKENS['HF_TOKEN']}.ipynb"
    notebook.write_text(json.dumps({"cells": [cell], "metadata": {"kernel": text}}))
    fill_in(run)
    (run / "README.md").write_text((run / "README.md").read_text() + text)
    (run / "train.log").write_text(text)
    (run / "wandb").mkdir()
    (run / "wandb" / "debug.log").write_text(text)
    (run / "own.py").write_text(f"KEY = '''{text}'''\n")
    for name in ("environment.json", "recipe.json"):
        changed = json.loads((run / name).read_text()) | {"command": [text], text: "x"}
        (run / name).write_text(json.dumps(changed))
    out = tmp_path / "a.zip"
    said = write(run, course, out, notebook)
    assert any(line.startswith("what looks like a key was replaced by ***") for line in said)
    with zipfile.ZipFile(out) as archive:
        names = archive.namelist()
        content = {name: archive.read(name) for name in names}
    assert not [name for name in names if name.endswith(".log")]
    for secret in planted:
        for name, held in content.items():
            assert secret not in name
            assert secret.encode() not in held, f"{secret} in {name}"
            assert json.dumps(secret)[1:-1].encode() not in held
    assert b"logged in: ***" in b"".join(content.values())
    environment = json.loads(content["environment.json"])
    assert environment["data"] == json.loads((run / "environment.json").read_text())["data"]


def without(name: str):
    return lambda run: (run / name).unlink()


def text_in(name: str, text: str):
    return lambda run: (run / name).write_text(text)


def shorter(run: Path) -> None:
    lines = (run / "history.csv").read_text().splitlines()
    (run / "history.csv").write_text("\n".join(lines[:-1]) + "\n")


def older(run: Path) -> None:
    os.utime(run / "verification.csv", (1e9, 1e9))


REFUSED = {
    "no CSV": (without("verification.csv"), "verification.csv: no such file; write it first"),
    "a CSV of few rows": (text_in("verification.csv", "id,label\n0,n000000\n"), "rows missing"),
    "a CSV of another network": (older, "older than best.pt"),
    "not finished": (shorter, r"not finished \(epoch 2 of 3\)"),
    "no curves": (text_in("history.csv", "epoch,dev_accuracy\n"), "no curves of this run"),
    "words in the curves": (text_in("history.csv", "epoch,dev_accuracy\n1,x\n"), "no curves"),
    "a damaged recipe": (text_in("recipe.json", "{"), "recipe.json: damaged, no JSON"),
    "no network": (without("best.pt"), "no such checkpoint"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_handed_in_is_refused_and_nothing_written(name, run, course, tmp_path):
    change, reason = REFUSED[name]
    change(run)
    with pytest.raises(FacekitError, match=reason):
        write(run, course, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_a_network_over_the_terms_limit_is_refused(run, course, tmp_path, monkeypatch):
    monkeypatch.setattr(course, "term", replace(course.term, max_parameters=1000))
    with pytest.raises(FacekitError, match="over the limit of 1,000"):
        write(run, course, tmp_path / "a.zip")


def test_a_run_that_ended_by_its_patience_is_finished(run):
    history = [{"epoch": e, "dev_accuracy": a} for e, a in ((1, 0.5), (2, 0.4), (3, 0.3))]
    rows = "\n".join(f"{row['epoch']},{row['dev_accuracy']}" for row in history)
    (run / "history.csv").write_text(f"epoch,dev_accuracy\n{rows}\n")
    found = hand_in.read_history(run, {"epochs": 9, "patience": 2})
    assert found.best["epoch"] == 1
    with pytest.raises(FacekitError, match="not finished"):
        hand_in.read_history(run, {"epochs": 9, "patience": 3})


def test_notebooks_that_are_none_or_share_a_name_are_refused(run, course, notebook, tmp_path):
    other = tmp_path / "other" / "mine.ipynb"
    other.parent.mkdir()
    shutil.copy(notebook, other)
    with pytest.raises(FacekitError, match="another notebook has this name"):
        write(run, course, tmp_path / "a.zip", notebook, other)
    for content in ("no json", '{"cells": 3}', "[]"):
        notebook.write_text(content)
        with pytest.raises(FacekitError, match=r"mine\.ipynb: (damaged|no Jupyter)"):
            write(run, course, tmp_path / "a.zip", notebook)
    assert not (tmp_path / "a.zip").exists()


def test_the_command_writes_the_zip_and_asks_for_the_acknowledgement(run, course, run_cli, refused):
    out = run.parent / "ada.zip"
    outcome = run_cli("hand-in", run, "--data", course.root, "--out", out)
    assert outcome.status == 0, outcome.stderr
    assert "still empty: Name" in outcome.stdout and "acknowledgement" in outcome.stdout
    assert zips.read(out).changed == []
    write_whole(run / "classification.csv", b"id,label\n")
    assert "classification.csv" in refused("hand-in", run, "--data", course.root, "--out", out)


def test_of_a_term_with_pairs_its_one_file_is_handed_in(pair_course, tmp_path):
    recipe = training.recipe.load(
        "smoke", ["epochs=1", "network=tiny", "image_size=32", "batch_size=8", "watch=false"]
    )
    training.fit(recipe, pair_course, tmp_path / "run", "cpu", progress=False)
    pairs.write_submissions(embed.load_run(tmp_path / "run", "cpu"), pair_course)
    write(tmp_path / "run", pair_course, tmp_path / "a.zip")
    files = zips.read(tmp_path / "a.zip").files
    assert set(files) == (EVERYWHERE - {"hand-in.json"}) | {"pairs.csv"}
    assert "dev_eer" in files["history.csv"].decode().splitlines()[0]
