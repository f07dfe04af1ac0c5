"""The published table at another scale, and tables of the runs that are there."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from facekit import models
from facekit.common.errors import DataError, FacekitError, RecipeError
from facekit.course import ablations
from facekit.course.ablations import FULL, PUBLISHED, SCALES
from facekit.models import zoo
from facekit.models.blocks import SqueezeExcite
from facekit.sources.profiles import PROFILES
from facekit.training import recipe
from facekit.training.history import HISTORY


def test_the_table_has_the_rows_of_the_networks():
    table = ablations.published()
    assert list(table.index) == list(models.TABLE)
    assert table["dev_accuracy"].idxmin() == "row06"
    assert table["dev_accuracy"].idxmax() == "row12"
    assert (table["dev_accuracy"] <= table["train_accuracy"]).all()


@pytest.mark.parametrize("row", PUBLISHED)
def test_in_full_a_row_is_trained_as_published(row):
    made, of = ablations.recipe(row, FULL), PUBLISHED[row]
    assert zoo.as_spec(made.network) == models.TABLE[row]
    assert (made.epochs, made.schedule, made.optimizer) == (of.epochs, of.schedule, of.optimizer)
    assert (made.lr, made.momentum, made.weight_decay) == (of.lr, 0.99, 5e-4)
    assert (made.image_size, made.batch_size, made.warmup_epochs) == (224, 128, 0)
    if of.schedule == "restarts":
        assert made.restart_epochs == of.restart_epochs


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_a_scale_whose_rows_can_be_built(profile):
    scale = SCALES[profile]
    assert set(scale.rows) <= set(PUBLISHED)
    for row in scale.rows:
        made = ablations.recipe(row, scale)
        assert zoo.as_spec(made.network).stride <= made.image_size
        assert made.epochs >= 1
        if row in ("row09", "row10", "row11"):
            assert made.epochs <= made.restart_epochs, "these never restarted"


SQUEEZED = {"row01": 0, "row03": 0, "row04": 2, "row12": 4}


@pytest.mark.parametrize(("row", "squeezed"), SQUEEZED.items())
def test_the_stand_in_has_squeeze_excite_where_the_row_has_it(row, squeezed):
    net = models.build(ablations.recipe(row, SCALES["smoke"]).network, 5)
    assert sum(isinstance(module, SqueezeExcite) for module in net.modules()) == squeezed


def test_changes_are_those_of_recipes():
    made = ablations.recipe("row06", SCALES["smoke"], ["lr=0.01", "seed=4"])
    assert (made.lr, made.seed) == (0.01, 4)
    with pytest.raises(RecipeError, match="learning_rat"):
        ablations.recipe("row06", SCALES["smoke"], ["learning_rat=0.01"])


def test_an_unknown_row_is_refused():
    with pytest.raises(RecipeError, match=r"row13.*row01"):
        ablations.recipe("row13", FULL)


def test_differences_name_the_settings_with_both_values():
    one = recipe.load("smoke")
    two = dataclasses.replace(one, name="other", lr=1.0, seed=3)
    expected = {"lr": (one.lr, 1.0), "seed": (0, 3)}
    assert ablations.differences(one, two) == expected
    assert ablations.differences(one, dataclasses.replace(one, name="b")) == {}


@pytest.fixture
def folder(copy_of_run: Path, tmp_path: Path) -> Path:
    """Runs "a" and "more/b", and one that has not finished an epoch."""
    place = tmp_path / "runs"
    for name in ("more/b", "a"):
        (place / name).mkdir(parents=True)
        for file in ("history.csv", "recipe.json"):
            (place / name / file).write_bytes((copy_of_run / file).read_bytes())
    (place / "begun").mkdir()
    (place / "begun" / "history.csv").write_text(",".join(HISTORY) + "\n")
    return place


def test_the_table_of_runs_has_their_settings_and_their_best_epoch(folder):
    table, history = ablations.runs(folder), pd.read_csv(folder / "a" / "history.csv")
    assert list(table.index) == ["a", "more/b"]
    best = history.loc[history["dev_accuracy"].idxmax()]
    row = table.loc["a"]
    assert row["best_epoch"] == best["epoch"]
    assert row["epochs"] == "3 of 3"
    for key in ("train_accuracy", "dev_accuracy"):
        assert row[key] == best[key]
    smoke = recipe.load("smoke").as_dict()
    assert all(row[key] == smoke[key] for key in ablations.SETTINGS)


def test_curves_are_the_columns_of_the_histories(folder):
    longer = folder / "a" / "history.csv"
    longer.write_text(longer.read_text() + "4,0.1,1.5,0.2,1.25,0.75\n")
    frame = ablations.curves(folder, ["more/b", "a"], "dev_loss")
    assert list(frame) == ["more/b", "a"]
    assert frame.index.tolist() == [1, 2, 3, 4]
    assert frame["a"][4] == 1.25
    assert frame["more/b"].isna().tolist() == [False] * 3 + [True]
    assert frame["a"][:3].tolist() == pd.read_csv(longer)["dev_loss"][:3].tolist()


def test_a_folder_without_runs_gives_an_empty_table(tmp_path):
    table = ablations.runs(tmp_path)
    assert len(table) == 0
    assert "dev_accuracy" in table


@pytest.mark.parametrize("file", ["history.csv", "recipe.json"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"[1, 2]"])
def test_a_damaged_run_is_named(folder, file, content):
    (folder / "a" / file).write_bytes(content)
    with pytest.raises(FacekitError, match=rf"a/{file}"):
        ablations.runs(folder)


def test_a_number_that_is_none_is_named(folder):
    (folder / "a" / "history.csv").write_text(",".join(HISTORY) + "\n1,2,3,x,5,6\n")
    with pytest.raises(DataError, match=r"a/history\.csv: not.*x"):
        ablations.runs(folder)
