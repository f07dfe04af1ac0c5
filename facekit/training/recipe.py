"""What to train and how, as plain data: TOML files in recipes/ or of the student's own."""

import dataclasses
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from facekit.common.errors import RecipeError
from facekit.data.transforms import MEAN, MOST_PIXELS, STD, Augment, Preprocess

FOLDER = Path(__file__).parent / "recipes"
MOST_BYTES = 1_000_000  # of a recipe's file
LEAST_STD = 0.001  # of pixels in 0 ... 1: a quarter of a grey level
MOST_LEVELS = 20  # of tables and lists in each other
TOO_DEEP = f"its tables and lists are nested too deep; {MOST_LEVELS} levels are read"
LIMITS = {  # of every number, both ends included
    "image_size": (1, MOST_PIXELS),
    "epochs": (1, 100_000),
    "batch_size": (1, 65_536),
    "micro_batches": (1, 65_536),
    "seed": (-(2**63), 2**63 - 1),
    "lr": (0, 1000),
    "weight_decay": (0, 1000),
    "warmup_epochs": (0, 100_000),
    "label_smoothing": (0, 1),
    "auxiliary_weight": (0, 1000),
    "images_per_class": (0, 1000),
    "patience": (0, 100_000),
    "momentum": (0, 0.9999),
    "restart_epochs": (0, 100_000),
    "plateau_epochs": (0, 100_000),
    "grad_clip": (0, 1e9),
    "ema_decay": (0, 0.99999),
    "margin_epochs": (0, 100_000),
    "augment.crop_scale": (0.01, 1),
    "augment.flip": (0, 1),
    "augment.rotation": (0, 180),
    "augment.jitter": (0, 10),
    "augment.grey": (0, 1),
    "augment.erasing": (0, 1),
    "augment.shift": (0, 1),
    "augment.shear": (0, 60),
    "augment.random_steps": (0, 10),
    "augment.random_strength": (0, 1),
    "augment.blur": (0, 1),
    "augment.mixup": (0, 100),
    "augment.cutmix": (0, 100),
}
FOR_PROFILE = {"homework": "high"}  # where a profile's recipe has another name
RENAMED = {  # settings of version 0.3
    "learning_rate": "lr",
    "parts": "micro_batches",
    "clip_norm": "grad_clip",
    "average": "ema_decay",
    "extra_loss": "auxiliary_loss",
    "extra_weight": "auxiliary_weight",
}
CHOICES = {
    "best_by": ("accuracy", "eer"),
    "optimizer": ("adamw", "sgd"),
    "schedule": ("cosine", "restarts", "plateau", "onecycle", "constant"),
    "precision": ("auto", "float32", "bfloat16", "float16"),
    "compile": ("auto", "yes", "no"),
}


@dataclass(frozen=True)
class Recipe:
    """One training run. Every setting can be given in the TOML file or as `--set key=value`."""

    name: str
    network: str | dict = "small"  # a name in zoo.NETWORKS, or a spec's settings
    head: str | dict = ""  # a name in heads.HEADS, or a table with options; "": the network's own
    auxiliary_loss: str | dict = ""  # a name in losses.LOSSES, or a table, beside the cross-entropy
    auxiliary_weight: float = 1.0
    images_per_class: int = 0  # in a batch, as losses on pairs need; 0: batches at random
    image_size: int = 64  # pixels; images are resized to it
    pixel_mean: list[float] = field(default_factory=lambda: list(MEAN))  # red, green, blue: to 0
    pixel_std: list[float] = field(default_factory=lambda: list(STD))  # and their spread: to 1
    epochs: int = 30
    batch_size: int = 64
    micro_batches: int = 1  # a batch is sent through in so many parts where memory is short
    optimizer: str = "adamw"  # or "sgd" (nesterov)
    momentum: float = 0.9  # of sgd
    lr: float = 2e-3
    schedule: str = "cosine"  # or "restarts", "plateau", "onecycle", "constant"
    restart_epochs: float = 20.0  # of "restarts": epochs of one cosine, or a part of one
    plateau_epochs: int = 5  # of "plateau": epochs without a better dev accuracy before a cut
    weight_decay: float = 0.05
    warmup_epochs: float = 2.0
    grad_clip: float = 0.0  # the greatest length of the gradient; 0: any
    label_smoothing: float = 0.1
    ema_decay: float = 0.0  # decay of the weights' running average, which is judged; 0: none
    margin_head: str | dict = ""  # takes over from the class means for the last `margin_epochs`
    margin_epochs: int = 0
    best_by: str = "accuracy"  # of the dev images; or "eer", the lowest of the dev pairs
    patience: int = 0  # stop after so many epochs without a better one; 0: never
    watch: bool = True  # stop a run that learns nothing, with the reason
    precision: str = "auto"  # or "float32", "bfloat16", "float16": of the network's products
    compile: str = "auto"  # or "yes", "no"
    seed: int = 0
    augment: Augment = field(default_factory=Augment)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]*\w", self.name):
            raise RecipeError(f"recipe {self.name!r}: a name is letters, digits, and . _ - between")
        for key in ("image_size", "epochs", "batch_size", "lr", "restart_epochs"):
            if getattr(self, key) <= 0:
                raise RecipeError(f"recipe {self.name}: {key} must be over 0")
        for key, (low, high) in LIMITS.items():
            value = attrgetter(key)(self)
            if not low <= value <= high:  # true for NaN, too
                raise RecipeError(
                    f"recipe {self.name}: {key} must be from {low} to {high}, not {value}"
                )
        if self.batch_size < 2:
            raise RecipeError(f"recipe {self.name}: batch norm needs a batch_size of at least 2")
        if self.images_per_class and self.batch_size % self.images_per_class:
            raise RecipeError(
                f"recipe {self.name}: a batch_size of {self.batch_size} cannot be dealt out "
                f"by {self.images_per_class} images_per_class"
            )
        for key, known in CHOICES.items():
            if getattr(self, key) not in known:
                raise RecipeError(f"recipe {self.name}: {key} is one of: {', '.join(known)}")
        self._check_pixels()
        self._check_stages()

    def _check_pixels(self) -> None:
        """Raise RecipeError unless mean and deviation are three numbers of 0 ... 1 each."""
        for key, low in (("pixel_mean", 0), ("pixel_std", LEAST_STD)):
            value = getattr(self, key)
            numbers = isinstance(value, list) and all(type(x) in (int, float) for x in value)
            if not numbers or len(value) != 3 or not all(low <= x <= 1 for x in value):
                raise RecipeError(
                    f"recipe {self.name}: {key} is a list of three numbers from {low} to 1, for "
                    f"red, green and blue, not {value!r}"
                )

    def _check_stages(self) -> None:
        """Raise RecipeError unless the special epochs fit into the run and do not contradict."""
        where = f"recipe {self.name}"
        if self.margin_epochs > self.epochs:
            raise RecipeError(f"{where}: margin_epochs are more than its {self.epochs} epochs")
        if bool(self.margin_head) != bool(self.margin_epochs):
            raise RecipeError(f"{where}: margin_head and margin_epochs go together")
        if self.auxiliary_loss and (self.augment.mixup or self.augment.cutmix):
            raise RecipeError(f"{where}: a mixed image has two labels; auxiliary_loss needs one")

    def preprocess(self) -> Preprocess:
        """How this run's images become tensors, in training and ever after."""
        mean, std = (tuple(map(float, part)) for part in (self.pixel_mean, self.pixel_std))
        return Preprocess(self.image_size, mean, std)

    def as_dict(self) -> dict:
        """Plain types, for a checkpoint and for comparison."""
        return dataclasses.asdict(self)


def names() -> list[str]:
    """The recipes that come with the kit."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def for_profile(profile: str) -> str:
    """The name of the recipe that suits a profile's data: the profile's own, with one exception."""
    return FOR_PROFILE.get(profile, profile)


def load(recipe: str | Path | Recipe, changes: Iterable[str] = ()) -> Recipe:
    """A recipe by name, from a TOML file, or as it is; `changes` are "key=value" texts.

    Values are read as TOML ("0.1", "true", "[32, 64]"), else taken as a string; "augment.flip=0"
    reaches into a table. Raises RecipeError that names the file or setting.
    """
    settings = recipe.as_dict() if isinstance(recipe, Recipe) else _read(recipe)
    for change in changes:
        _apply(settings, change)
    return _recipe(settings)


def _read(recipe: str | Path) -> dict:
    path = Path(recipe)
    if path.suffix not in (".toml", ".json"):
        path = FOLDER / f"{recipe}.toml"
        if str(recipe) not in names():
            raise RecipeError(
                f"no recipe {str(recipe)!r}; choose one of: {', '.join(names())}, or a .toml file"
            )
    if not path.is_file():  # a pipe or a device, too: to read it could wait for ever
        raise RecipeError(f"{path}: no such recipe file")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise RecipeError(f"{path}: over {MOST_BYTES:,} bytes; no recipe is so long")
        read = tomllib.loads if path.suffix == ".toml" else json.loads  # a run's recipe.json
        settings = read(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # both decoders' errors, and Unicode's
        raise RecipeError(f"{path}: not a {path.suffix[1:].upper()} file ({error})") from error
    except RecursionError:
        raise RecipeError(f"{path}: {TOO_DEEP}") from None
    if not isinstance(settings, dict):
        raise RecipeError(f"{path}: a recipe is a table of settings")
    return {"name": path.stem} | settings


def _apply(settings: dict, change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals:
        raise RecipeError(f"--set {change}: write key=value, such as epochs=20")
    *tables, last = key.strip().split(".")
    for table in tables:
        settings = settings.setdefault(table, {})
        if not isinstance(settings, dict):
            raise RecipeError(f"--set {change}: {table} is a value, not a table")
    settings[last] = _value(text.strip())


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except ValueError:  # no TOML, or a number of thousands of digits
        return text
    except RecursionError:
        raise RecipeError(f"--set {text[:20]}...: {TOO_DEEP}") from None


def _check_values(settings: Mapping) -> None:
    """Raise RecipeError for tables nested too deep, and for whole numbers of over 64 bits."""
    values: list[Any] = [settings]
    for _ in range(MOST_LEVELS):
        inner: list[Any] = []
        for value in values:
            if isinstance(value, Mapping):
                inner.extend(value.values())
            elif isinstance(value, list | tuple):
                inner.extend(value)
            elif isinstance(value, int) and value.bit_length() > 63:
                raise RecipeError("the recipe has a whole number of over 64 bits; take a smaller")
        values = inner
    if values:
        raise RecipeError(f"the recipe: {TOO_DEEP}")


def _recipe(settings: Mapping) -> Recipe:
    _check_values(settings)
    name = settings.get("name", "recipe")
    augment = settings.get("augment", {})
    if not isinstance(augment, Mapping):
        raise RecipeError(f"recipe {name}: augment is a table of settings")
    typed = _typed(Recipe, settings, f"recipe {name}")
    return Recipe(**typed | {"augment": Augment(**_typed(Augment, augment, f"{name}, augment"))})


def _typed(kind: type, settings: Mapping, where: str) -> dict:
    """Settings with each value of its field's type; whole numbers may stand for decimals."""
    types = {f.name: f.type for f in fields(kind)}
    result = {}
    for key, value in settings.items():
        if key in RENAMED and kind is Recipe:
            new = RENAMED[key]
            raise RecipeError(f"{where}: {key} is called {new} since version 0.4; rename it")
        if key not in types:
            raise RecipeError(f"{where}: no setting {key!r}; there are: {', '.join(types)}")
        wanted = types[key]
        if wanted is float and type(value) is int:
            value = float(value)
        if wanted in (int, float, str, bool) and type(value) is not wanted:
            raise RecipeError(f"{where}: {key} must be of type {wanted.__name__}, not {value!r}")
        result[key] = value
    return result
