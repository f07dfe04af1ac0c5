"""The published table of twelve runs, and the same table at this machine's scale.

Built in notebook 07.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from facekit import models
from facekit.common.errors import DataError, RecipeError
from facekit.common.files import read_table
from facekit.data import images
from facekit.data.layout import CourseData
from facekit.data.transforms import only
from facekit.models import specs, zoo
from facekit.models.specs import NetworkSpec, Stage
from facekit.training import recipe as recipes
from facekit.training.history import HISTORY
from facekit.training.recipe import Recipe

CURVES = HISTORY[1:]
MEASURED = Path(__file__).with_name("table.json")  # of benchmarks/table.py
SETTINGS = ["optimizer", "lr", "schedule", "restart_epochs", "seed"]


class Published(NamedTuple):
    """A row of the published table: how a network of models.TABLE was trained, and what it got.

    Accuracies are those of the homework's 7,001 people at 224 pixels, a batch of 128.
    """

    epochs: int
    schedule: str
    restart_epochs: int
    optimizer: str
    lr: float
    train_accuracy: float
    dev_accuracy: float


PUBLISHED = {
    f"row{number:02}": Published(*row)
    for number, row in enumerate(
        (
            (500, "restarts", 20, "sgd", 0.01, 0.918, 0.698),
            (500, "restarts", 20, "sgd", 0.01, 0.999, 0.792),
            (500, "plateau", 0, "adamw", 0.01, 0.999, 0.693),
            (500, "restarts", 5, "adamw", 0.01, 0.977, 0.654),
            (500, "restarts", 20, "sgd", 0.01, 0.805, 0.680),
            (150, "restarts", 20, "sgd", 0.1, 0.176, 0.174),
            (150, "restarts", 50, "sgd", 0.01, 0.730, 0.630),
            (150, "restarts", 60, "sgd", 0.01, 0.710, 0.605),
            (95, "restarts", 100, "sgd", 0.01, 1.0, 0.865),
            (145, "restarts", 150, "sgd", 0.01, 1.0, 0.871),
            (195, "restarts", 200, "sgd", 0.01, 1.0, 0.873),
            (478, "restarts", 20, "sgd", 0.001, 1.0, 0.874),
        ),
        start=1,
    )
}

REMARKS = {  # ours: what to look at
    "row01": "over the limit: 30 million parameters",
    "row02": "best of the first five",
    "row03": "AdamW; knows its training images, and few new ones",
    "row04": "AdamW, a restart every 5 epochs",
    "row05": "the network of all rows below",
    "row06": "ten times the rate; does not learn",
    "row07": "the rate of row 5, fewer restarts",
    "row08": "stopped half-way down its third cosine",
    "row09": "one cosine, no restart",
    "row10": "the same, longer",
    "row11": "the same, longer still",
    "row12": "a tenth of the rate; where it began is not told",
}


class Colours(NamedTuple):
    """Of red, green and blue, from 0 to 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


# As the published code has them. Its deviations are means over images of each one's own; those of
# all pixels are a seventh larger.
HOMEWORK = Colours(
    mean=(130.115 / 255, 102.367 / 255, 89.468 / 255),
    std=(69.057 / 255, 60.248 / 255, 56.763 / 255),
)
ENOUGH = 4000  # images to measure colours by: their mean is known to a grey level then


class Scale(NamedTuple):
    """How much smaller than published a machine's runs are, and which of them it has time for."""

    epochs: float  # share of the published epochs, and of those between two restarts
    narrowed: int  # the row's own network, its channels divided by so many; 0: a small one, with
    # squeeze-excite in as many of its stages
    image_size: int
    batch_size: int
    rows: tuple[str, ...]


ALL = tuple(PUBLISHED)
FULL = Scale(1.0, 1, 224, 128, ALL)  # as published
SCALES = {  # by profile
    "smoke": Scale(1 / 15, 0, 48, 16, ("row06", "row07", "row11")),
    "laptop": Scale(1 / 30, 0, 32, 32, ("row05", "row06", "row07", "row11")),
    "gpu": Scale(1 / 30, 0, 64, 128, ALL),
    "homework": Scale(1 / 30, 1, 112, 128, ALL),  # all rows in full: months of a T4
}


def published() -> pd.DataFrame:
    """The published table: the settings of each row, and its accuracies from 0 to 1."""
    return pd.DataFrame(PUBLISHED.values(), index=list(PUBLISHED))


def networks() -> pd.DataFrame:
    """The network of each published row in words, and a remark of ours."""
    rows = {}
    for row, remark in REMARKS.items():
        spec = models.TABLE[row]
        steps = spec.stages[::3]  # each step has its block before and after the transition
        dropout = [stage.options.get("dropout", 0) for stage in steps]
        channels = [spec.stem.channels, *(stage.channels for stage in spec.stages[1::3])]
        rows[row] = {
            "block": steps[0].block,
            "channels": " ".join(map(str, channels)),
            "squeeze_excite": sum(stage.options.get("se", 0) > 0 for stage in steps),
            "dropout": " ".join(map(str, dropout)) if any(dropout) else "none",
            "activation": spec.stem.activation,
            "remark": remark,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def colours_of(course: CourseData) -> Colours:
    """Mean and deviation of the course's training images, or of 4,000 of them.

    The deviation is, as published, the mean over images of each one's own.
    """
    every = math.ceil(len(course.train) / ENOUGH)  # of every class: they are sorted by class
    found = images.channel_statistics(course.train.paths[::every])
    return Colours(tuple(found["mean"].tolist()), tuple(found["std within"].tolist()))


def recipe(
    row: str, scale: Scale, changes: Iterable[str] = (), colours: Colours = HOMEWORK
) -> Recipe:
    """How to train a published row at this scale; `changes` are "key=value" texts.

    Images are mirrored at random, changed in no other way, and normalised by `colours`, which
    should be those of the images that are trained on. Restarts come at the published share of the
    run, in the middle of an epoch where it has few; so rows with other periods differ at every
    scale. The patience stays at 30 epochs: a part of it would be luck, and end most short runs.

    Raises RecipeError for a row that the table does not have.
    """
    if row not in PUBLISHED:
        raise RecipeError(f"no row {row!r} in the table; there are: {', '.join(PUBLISHED)}")
    of = PUBLISHED[row]
    epochs = max(1, round(of.epochs * scale.epochs))
    scaled = Recipe(
        name=row,
        network=specs.spec_as_dict(_network(models.TABLE[row], scale.narrowed)),
        image_size=scale.image_size,
        pixel_mean=list(colours.mean),
        pixel_std=list(colours.std),
        epochs=epochs,
        batch_size=scale.batch_size,
        optimizer=of.optimizer,
        momentum=0.99,  # in the published code
        lr=of.lr,
        schedule=of.schedule,
        restart_epochs=(of.restart_epochs or 1) * epochs / of.epochs,  # a plateau has none
        weight_decay=5e-4,
        warmup_epochs=0.0,
        label_smoothing=0.0,
        patience=30,
        watch=False,  # a row that learns nothing is a result too
        augment=only(flip=0.5),
    )
    return recipes.load(scaled, changes)


def _network(spec: NetworkSpec, narrowed: int) -> NetworkSpec:
    """The network of a row with its channels divided by `narrowed`, or for 0 a stand-in."""
    if not narrowed:
        return _stand_in(spec)
    stem = replace(spec.stem, channels=spec.stem.channels // narrowed)
    stages = [replace(stage, channels=stage.channels // narrowed) for stage in spec.stages]
    return replace(spec, stem=stem, stages=tuple(stages))


def _stand_in(spec: NetworkSpec) -> NetworkSpec:
    """Four residual stages, which a processor trains in seconds: depthwise ones take it minutes."""
    first_blocks = spec.stages[::3]  # of each step
    squeezed = [stage.options.get("se", 0) for stage in first_blocks]
    if len(squeezed) != 4:  # rows 1 to 3 have none
        squeezed = [0] * 4
    stages = tuple(
        Stage("residual", width, stride=1 if width == 16 else 2, options={"se": se})
        for width, se in zip((16, 32, 64, 128), squeezed, strict=True)
    )
    return replace(zoo.OURS["tiny"], stages=stages)


def measured(path: Path = MEASURED) -> pd.DataFrame:
    """The table as benchmarks/table.py trained it at its scale: a run of a row and a seed each.

    Accuracies from 0 to 1: `train_accuracy` and `dev_accuracy` of the best epoch, and
    `last_dev_accuracy`.
    """
    found = json.loads(path.read_text(encoding="utf-8"))["tables"]["runs"]
    return pd.DataFrame(found).set_index(["row", "seed"])


def differences(first: Recipe, second: Recipe) -> dict[str, tuple]:
    """The settings in which two recipes differ, with both values; names apart."""
    one, two = first.as_dict(), second.as_dict()
    return {key: (one[key], two[key]) for key in one if key != "name" and one[key] != two[key]}


def one_change(rows: Mapping[str, Mapping]) -> list[tuple[str, str]]:
    """The pairs of rows whose settings differ in exactly one, the earlier row first.

    `rows`: settings by the row's name, the same settings for each.
    """
    return [
        (one, two)
        for one, two in combinations(rows, 2)
        if sum(rows[one][key] != rows[two][key] for key in rows[one]) == 1
    ]


def restarts_seen(epochs: int, restart_epochs: int) -> int:
    """How often the rate jumps up again in a run of so many epochs: none waits at its end."""
    return (epochs - 1) // restart_epochs


def runs(folder: str | Path) -> pd.DataFrame:
    """All runs below a folder, one a row: settings, epochs done, and the best epoch's accuracies.

    The index is the run's folder. Raises DataError or RecipeError for a run's damaged files.
    """
    rows = {}
    for name, history in _histories(Path(folder)).items():
        made = recipes.load(Path(folder) / name / "recipe.json").as_dict()
        best = history.loc[history["dev_accuracy"].idxmax()]
        rows[name] = {key: made[key] for key in SETTINGS} | {
            "epochs": f"{len(history)} of {made['epochs']}",
            "best_epoch": int(best.name),
            "train_accuracy": best["train_accuracy"],
            "dev_accuracy": best["dev_accuracy"],
        }
    columns = [*SETTINGS, "epochs", "best_epoch", "train_accuracy", "dev_accuracy"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def curves(folder: str | Path, names: Sequence[str], column: str = "dev_accuracy") -> pd.DataFrame:
    """A column of CURVES by epoch, for each of the runs of these names below the folder."""
    histories = _histories(Path(folder))
    frame = pd.DataFrame({name: histories[name][column] for name in names})
    return frame.rename_axis("epoch")


def _histories(folder: Path) -> dict[str, pd.DataFrame]:
    """The curves of every run that has finished an epoch, by epoch."""
    found = {}
    for path in sorted(folder.rglob("history.csv")):
        try:
            table = read_table(path, HISTORY).astype(float)
        except ValueError as error:
            raise DataError(f"{path}: not a run's curves ({error})") from error
        if len(table):
            name = path.parent.relative_to(folder).as_posix()
            found[name] = table.set_index(table.pop("epoch").astype(int))
    return found
