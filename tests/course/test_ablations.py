"""The published table at another scale, and tables of the runs that are there."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from facekit import models
from facekit.common.errors import DataError, FacekitError, RecipeError
from facekit.course import ablations
from facekit.course.ablations import FULL, PUBLISHED, SCALES, Colours
from facekit.data.transforms import only
from facekit.models import zoo
from facekit.models.blocks import SqueezeExcite
from facekit.sources.profiles import PROFILES
from facekit.training import recipe, schedules
from facekit.training.history import HISTORY


def test_the_table_has_the_rows_of_the_networks():
    table = ablations.published()
    assert list(table.index) == list(models.TABLE)
    assert table["dev_accuracy"].idxmin() == "row06"
    assert table["dev_accuracy"].idxmax() == "row12"
    assert (table["dev_accuracy"] <= table["train_accuracy"]).all()


def test_the_networks_in_words_are_those_that_are_built():
    found = ablations.networks()
    assert list(found.index) == list(PUBLISHED)
    for row, words in found.iterrows():
        net = models.build(models.TABLE[row], 5)
        blocks = sum(isinstance(module, SqueezeExcite) for module in net.modules())
        assert blocks == 2 * words["squeeze_excite"], "a block before and after each transition"
        channels = words["channels"].split()
        assert channels[0] == str(models.TABLE[row].stem.channels)
        assert channels[-1] == str(models.TABLE[row].stages[-1].channels)
        assert words["remark"]
    assert found["dropout"]["row03"] == "0.1 0.1 0.1"
    assert found["dropout"]["row02"] == "none"
    assert found["activation"].to_list() == ["relu"] * 3 + ["relu6"] * 9


@pytest.mark.parametrize("row", PUBLISHED)
def test_in_full_a_row_is_trained_as_published(row):
    made, of = ablations.recipe(row, FULL), PUBLISHED[row]
    assert zoo.as_spec(made.network) == models.TABLE[row]
    assert (made.epochs, made.schedule, made.optimizer) == (of.epochs, of.schedule, of.optimizer)
    assert (made.lr, made.momentum, made.weight_decay) == (of.lr, 0.99, 5e-4)
    assert (made.image_size, made.batch_size, made.warmup_epochs) == (224, 128, 0)
    assert (made.augment, made.patience) == (only(flip=0.5), 30)
    if of.schedule == "restarts":
        assert made.restart_epochs == of.restart_epochs


def test_a_row_sees_the_whole_image_or_its_mirror_normalised_by_its_colours():
    colours = Colours((0.25, 0.5, 0.75), (0.5, 0.25, 0.125))
    made = ablations.recipe("row01", FULL._replace(image_size=24), colours=colours)
    pixels = np.random.default_rng(0).integers(256, size=(24, 24, 3), dtype=np.uint8)
    wanted = torch.tensor((pixels / 255 - colours.mean) / colours.std).permute(2, 0, 1)
    both = {wanted.flip(-1).sign().numpy().tobytes(), wanted.sign().numpy().tobytes()}
    transform = made.preprocess().training(made.augment)
    seen = [transform(Image.fromarray(pixels)) for _ in range(40)]
    for image in seen:
        nearest = min((wanted, wanted.flip(-1)), key=lambda one: (one - image).abs().max())
        torch.testing.assert_close(image, nearest.float(), rtol=0, atol=1e-5)
    assert {image.double().sign().numpy().tobytes() for image in seen} == both


def test_without_others_the_colours_are_the_published_ones():
    found = ablations.recipe("row01", FULL).preprocess()
    published = [130.115, 102.367, 89.468], [69.057, 60.248, 56.763]
    assert (found.mean, found.std) == tuple(
        pytest.approx(np.array(part) / 255) for part in published
    )


def test_the_deviation_is_the_mean_of_each_images_own(course):
    found = ablations.colours_of(course)
    pixels = np.stack([np.asarray(Image.open(path)) for path in course.train.paths]) / 255
    np.testing.assert_allclose(found.mean, pixels.mean((0, 1, 2)))
    np.testing.assert_allclose(found.std, pixels.std((1, 2)).mean(0))
    assert (1.01 * np.array(found.std) < pixels.std((0, 1, 2))).all(), "which is another"


def test_colours_of_many_images_are_those_of_some_of_every_class(course, monkeypatch):
    monkeypatch.setattr(ablations, "ENOUGH", len(course.train) // 3)
    measured = []
    monkeypatch.setattr(
        ablations.images,
        "channel_statistics",
        lambda paths: measured.extend(paths) or {"mean": np.zeros(3), "std within": np.ones(3)},
    )
    ablations.colours_of(course)
    assert len(measured) == len(course.train) // 3
    assert len({path.parent for path in measured}) == len(course.classes)


@pytest.mark.parametrize("epochs", [3, 10, 17, 100])
def test_restarts_that_were_published_apart_stay_apart(epochs):
    scale = FULL._replace(epochs=epochs / 500)
    lengths = {}
    for row, of in PUBLISHED.items():
        if of.schedule == "restarts":
            made = ablations.recipe(row, scale)
            first = [schedules.lr_at(made, step, 63) for step in range(63 * made.epochs)]
            ups = [step for step in range(1, len(first)) if first[step] > first[step - 1]]
            lengths[row] = ups[0] if ups else len(first)
            restarts = (of.epochs - 1) // of.restart_epochs
            assert len(ups) == pytest.approx(restarts, rel=0.34, abs=0.5), "as many as published"
    assert lengths["row04"] < lengths["row05"]
    assert lengths["row06"] < lengths["row07"] < lengths["row08"]
    for row in ("row09", "row10", "row11"):
        assert lengths[row] == 63 * ablations.recipe(row, scale).epochs, "these never restart"


def test_a_narrowed_network_is_the_rows_with_fewer_channels():
    for row in ("row01", "row04", "row12"):
        made = ablations.recipe(row, FULL._replace(narrowed=4))
        spec, published = zoo.as_spec(made.network), models.TABLE[row]
        assert spec.stem.channels * 4 == published.stem.channels
        for mine, theirs in zip(spec.stages, published.stages, strict=True):
            assert dataclasses.replace(mine, channels=4 * mine.channels) == theirs


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


def test_the_table_that_comes_with_the_kit_has_every_row_and_the_control():
    accuracies = ablations.measured()["dev_accuracy"].unstack("seed")
    assert {*ablations.published().index, "row11-as-row05"} == {*accuracies.index}
    assert not accuracies.isna().any(axis=None) and accuracies.max(axis=None) <= 1


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
