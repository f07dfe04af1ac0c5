"""Recipes: by name, from a file, with changes; every fault names the setting and what there is."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch

from facekit import models
from facekit.common.errors import RecipeError
from facekit.course.ablations import differences
from facekit.data.layout import TERMS
from facekit.data.transforms import Augment, Preprocess
from facekit.models import specs, zoo
from facekit.models.summary import check_size
from facekit.sources.profiles import PROFILES
from facekit.training import recipe as recipes
from facekit.training.recipe import RENAMED, Recipe
from facekit.training.run import build_objective


@pytest.mark.parametrize("name", recipes.names())
def test_a_shipped_recipe_loads_builds_and_bears_the_name_of_its_file(name):
    recipe = recipes.load(name)
    assert recipe.name == name
    assert models.build(recipe.network, 16).num_classes == 16
    assert recipe.warmup_epochs < recipe.epochs


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_every_profile_has_a_recipe_for_its_pictures(profile):
    recipe = recipes.load(recipes.for_profile(profile.name))
    assert recipe.image_size <= profile.pixels
    check_size(recipe.network, recipe.head, profile.classes, TERMS["F23"].max_parameters)


@pytest.mark.parametrize(
    ("name", "term"),
    [("high", "F23"), ("high-18m", "S24"), ("lean-convnext", "F23"), ("lean-convnext", "S24")],
)
def test_a_recipe_for_the_homework_obeys_the_limit_of_its_term(name, term):
    recipe, rules = recipes.load(name), TERMS[term]
    assert not recipe.margin_head  # which would have a size of its own
    check_size(recipe.network, recipe.head, rules.classes, rules.max_parameters)


def test_the_two_recipes_for_high_differ_in_the_network_alone():
    assert set(differences(recipes.load("high"), recipes.load("high-18m"))) == {"network"}
    with pytest.raises(RecipeError, match="over the limit of 18,000,000"):
        check_size(recipes.load("high").network, "", 7001, TERMS["S24"].max_parameters)


def test_a_file_is_named_after_itself_and_the_rest_is_the_default(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("epochs = 7\nlr = 1\n[augment]\nflip = 0\n")
    recipe = recipes.load(path)
    assert recipe == Recipe("mine", epochs=7, lr=1.0, augment=Augment(flip=0.0))
    assert recipes.load(str(path)) == recipe
    assert type(recipe.lr) is type(recipe.augment.flip) is float


@pytest.mark.parametrize("ending", ["toml", "json"])
def test_a_byte_order_mark_and_windows_line_ends_change_nothing(ending, tmp_path):
    wanted = recipes.load("smoke", ["epochs=2"])
    text = json.dumps(wanted.as_dict(), indent=1) if ending == "json" else "epochs = 2\nlr = 0.5\n"
    path = tmp_path / f"mine.{ending}"
    path.write_text(text)
    plain = recipes.load(path)
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert recipes.load(path) == plain
    assert plain.epochs == 2


def test_a_files_own_name_wins(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "yours"\n')
    assert recipes.load(path).name == "yours"


def test_a_network_may_be_a_table(tmp_path):
    path = tmp_path / "mine.toml"
    stages = '[[network.stages]]\nblock = "inverted"\nchannels = 16\nse = 4\n'
    path.write_text(f'[network]\nhead = "cosface"\nstem = {{channels = 8, pool = true}}\n{stages}')
    spec = zoo.as_spec(recipes.load(path).network)
    stem, stage = specs.Stem(8, pool=True), specs.Stage("inverted", 16, options={"se": 4})
    assert spec == specs.NetworkSpec(stem, (stage,), head="cosface")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("epochs=9", {"epochs": 9}),
        ("epochs = 9", {"epochs": 9}),
        ("lr=1e-4", {"lr": 1e-4}),
        ("lr=1", {"lr": 1.0}),
        ("optimizer=sgd", {"optimizer": "sgd"}),
        ('optimizer="sgd"', {"optimizer": "sgd"}),
        ("network=medium", {"network": "medium"}),
        (
            "network={base='small', embedding=64}",
            {"network": {"base": "small", "embedding": 64}},
        ),
        ("augment.flip=0", {"augment": Augment(0.7, 0.0, jitter=0.2, erasing=0.1)}),
    ],
)
def test_a_change_sets_one_setting_and_no_other(change, expected):
    plain = recipes.load("smoke")
    changed = recipes.load("smoke", [change])
    assert changed == dataclasses.replace(plain, **expected)
    assert changed != plain
    assert recipes.load(plain, [change]) == changed
    assert recipes.load("smoke") == plain


def test_images_are_prepared_as_the_recipe_says():
    plain = recipes.load("smoke")
    assert plain.preprocess() == Preprocess(plain.image_size)
    other = recipes.load("smoke", ["pixel_mean=[0, 0.25, 1]", "pixel_std=[1, 0.5, 0.25]"])
    found = other.preprocess()
    assert found == Preprocess(plain.image_size, (0.0, 0.25, 1.0), (1.0, 0.5, 0.25))
    assert {type(number) for number in (*found.mean, *found.std)} == {float}


def test_the_last_of_several_changes_wins():
    assert recipes.load("smoke", ["epochs=3", "seed=1", "epochs=4"]).epochs == 4


def test_a_recipe_is_taken_as_it_is_and_survives_a_dictionary():
    recipe = recipes.load("laptop", ["seed=3"])
    assert recipes.load(recipe) == recipe
    settings = recipe.as_dict()
    assert Recipe(**settings | {"augment": Augment(**settings["augment"])}) == recipe
    assert set(settings) == {field.name for field in dataclasses.fields(Recipe)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("epoch=3", r"no setting 'epoch'; there are: .*epochs"),
        ("augment.turn=3", r"no setting 'turn'; there are: .*rotation"),
        ("epochs=many", "epochs must be of type int, not 'many'"),
        ("epochs=1.5", "epochs must be of type int"),
        ("epochs=true", "epochs must be of type int"),
        ("augment.flip=no", "flip must be of type float"),
        ("name=3", "name must be of type str"),
        ("augment=3", "augment is a table"),
        ("epochs.first=3", "epochs is a value, not a table"),
        ("epochs", "write key=value"),
        ("epochs=0", "epochs must be over 0"),
        ("image_size=-1", "image_size must be over 0"),
        ("lr=0", "lr"),
        ("lr=nan", "lr"),
        ("lr=inf", "lr"),
        ("batch_size=1", "at least 2"),
        ("optimizer=adam", "adamw, sgd"),
        ("weight_decay=-1", "weight_decay"),
        ("warmup_epochs=-1", "warmup_epochs"),
        ("label_smoothing=1.5", "label_smoothing"),
        ("label_smoothing=-0.1", "label_smoothing"),
        ("patience=-1", "patience"),
        ("restart_epochs=0", "restart_epochs must be over 0"),
        ("pixel_mean=0.5", "pixel_mean is a list of three numbers from 0 to 1, .*not 0.5"),
        ("pixel_mean=[0.5, 0.5]", "pixel_mean is a list of three"),
        ("pixel_mean=[130, 102, 89]", "pixel_mean is a list of three numbers from 0 to 1"),
        ("pixel_mean=[0.5, 0.5, nan]", "pixel_mean is a list of three"),
        ("pixel_mean=[0.5, true, 0.5]", "pixel_mean is a list of three"),
        ("pixel_std=[0.5, 0.0, 0.5]", "pixel_std is a list of three numbers from 0.001 to 1"),
        ("pixel_std=[0.5, 'x', 0.5]", "pixel_std is a list of three"),
        ("augment.flip=2", "flip"),
        ("augment.grey=-1", "grey"),
        ("augment.erasing=1.1", "erasing"),
        ("augment.crop_scale=2", "crop_scale"),
        ("augment.rotation=-5", "rotation"),
        ("augment.jitter=-1", "jitter"),
    ],
)
def test_a_bad_change_is_refused_with_its_name(change, words):
    with pytest.raises(RecipeError, match=words):
        recipes.load("smoke", [change])


def test_an_unknown_name_lists_the_names_there_are():
    with pytest.raises(RecipeError) as error:
        recipes.load("huge")
    assert "'huge'" in str(error.value)
    assert all(name in str(error.value) for name in recipes.names())


@pytest.mark.parametrize("name", ["../recipes/smoke", "", "./smoke"])
def test_a_path_is_no_name(name):
    with pytest.raises(RecipeError, match="no recipe"):
        recipes.load(name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"epochs = ", "not a TOML file"),
        (b"epochs = 3\nepochs = 4\n", "not a TOML file"),
        (b"\xff\xfe", "not a TOML file"),
        (b"speed = 3\n", "no setting 'speed'"),
    ],
)
def test_a_bad_file_is_refused_with_its_name(tmp_path, content, words):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=words) as error:
        recipes.load(path)
    assert "mine" in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"none\.toml: no such recipe file"):
        recipes.load(tmp_path / "none.toml")


def test_the_recipe_in_the_page_of_networks_can_be_trained(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()
    text = re.search(r"```toml\n(# mine\.toml.*?)```", page, re.S)[1]
    path = tmp_path / "mine.toml"
    path.write_text(text)
    recipe = recipes.load(path)
    objective = build_objective(recipe, 10, torch.float32)
    labels = torch.arange(8) // 2
    loss, logits = objective(torch.randn(8, 3, 32, 32), labels)
    assert logits.shape == (8, 10) and loss.isfinite()
    assert type(objective.auxiliary_loss).__name__ == "TripletLoss"
    assert type(objective.network.head).__name__ == "ArcFace"


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_setting_of_version_0_3_is_refused_with_its_name_of_today(old, new):
    assert hasattr(Recipe("r"), new)
    with pytest.raises(RecipeError, match=f"{old} is called {new} since version 0.4; rename it"):
        recipes.load("smoke", [f"{old}=1"])


def number_settings() -> list[str]:
    """Every setting whose value is a number, by the name that a change gives it."""
    found = []
    for kind, table in ((Recipe, ""), (Augment, "augment.")):
        for field in dataclasses.fields(kind):
            if field.type in (int, float):
                found.append(table + field.name)
    return found


@pytest.mark.parametrize("setting", number_settings())
def test_every_number_has_a_limit_above_and_below(setting):
    assert len(number_settings()) > 20
    for number in ("1" + "0" * 18, "-1" + "0" * 18):
        if setting == "seed":
            number += "0"  # any number of 64 bits is a seed
        with pytest.raises(RecipeError, match=setting.rpartition(".")[2] + "|64 bits"):
            recipes.load("smoke", [f"{setting}={number}"])


@pytest.mark.parametrize("text", ["0x" + "F" * 5000, "[" + "0x" + "F" * 5000 + "]", "9" * 400])
def test_a_whole_number_of_thousands_of_digits_is_refused(text):
    for setting in ("lr", "seed", "network"):
        with pytest.raises(RecipeError, match="64 bits"):
            recipes.load("smoke", [f"{setting}={text}"])


@pytest.mark.parametrize("depth", [25, 5000])
def test_what_is_nested_too_deep_is_refused(tmp_path, depth):
    toml = tmp_path / "deep.toml"
    toml.write_text("network = " + "[" * depth + "]" * depth)
    notes = tmp_path / "deep.json"
    notes.write_text('{"network": ' + "[" * 20 * depth + "]" * 20 * depth + "}")
    for file in (toml, notes):
        with pytest.raises(RecipeError, match="nested too deep"):
            recipes.load(file)
    with pytest.raises(RecipeError, match="nested too deep"):
        recipes.load("smoke", ["head=" + "[" * depth + "]" * depth])
    with pytest.raises(RecipeError, match="nested too deep"):
        recipes.load("smoke", ["head." + "base." * depth + "margin=1"])


def test_a_file_of_megabytes_is_no_recipe(tmp_path):
    file = tmp_path / "long.toml"
    file.write_text("# " + "-" * recipes.MOST_BYTES)
    with pytest.raises(RecipeError, match=r"long\.toml: over 1,000,000 bytes"):
        recipes.load(file)
