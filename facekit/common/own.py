"""Classes and functions of the reader's own, by the names that a recipe has for them.

In Python the object itself is given, `fit(..., network=Net)`; on the command line and in TOML it is
FILE.py:NAME. In a recipe both are a text with a colon in it. A run remembers the file and a hash
of the source of each: only files that this user has named before are run again unasked, since a
run folder may come from anybody.
"""

import importlib
import json
import os
import sys
import types
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from facekit.common import source
from facekit.common.errors import RecipeError, RunError
from facekit.common.files import write_whole

OBJECTS: dict[str, Any] = {}  # by name in a recipe: those of this process
LIBRARIES = ("torchvision.models.", "timm.models.")  # whose networks are known by their names


@dataclass(frozen=True)
class Origin:
    """Where an object of the reader's own came from: all that a run remembers of it."""

    name: str  # such as Net
    place: str  # a file's absolute path, a library's module, or "" (a notebook, or nowhere)
    digest: str  # of its source, see source.digest_of; "" where there is none


def is_known(name: object) -> bool:
    """Whether a setting of a recipe names an object of the reader's own."""
    return isinstance(name, str) and (":" in name or name in OBJECTS)


def label(thing: Any) -> str:
    """What the reader calls an object: the name of a class or function, of another its class's."""
    return getattr(thing, "__name__", type(thing).__name__)


def name_of(thing: Any, kind: str) -> str:
    """The name that a recipe has for an object, which is known by it from now on.

    Such as "own network:Net", by its kind; of a text FILE.py:NAME without the file's folder.
    RecipeError when there is no such file or name.
    """
    if not isinstance(thing, str):
        name = f"own {kind}:{label(thing)}"
        OBJECTS[name] = thing
        return name
    path, _, called = thing.rpartition(":")
    name = f"{Path(path).name}:{called}"
    OBJECTS[name] = get(name) if path.startswith("own ") else from_file(Path(path), called)
    return name


def get(name: str) -> Any:
    """The object that a recipe calls so. RecipeError for one that this process does not know."""
    if name in OBJECTS:
        return OBJECTS[name]
    place, _, called = name.rpartition(":")
    if place.startswith("own "):
        kind = place.removeprefix("own ").replace(" ", "_")
        raise RecipeError(f"{called} was given as an object; give it again: {kind}={called}")
    return from_file(Path(place), called)


def settle(setting: Any, kind: str) -> Any:
    """A setting of a recipe with the name of each object of the reader's own in its place."""
    if setting is None or isinstance(setting, bool | int | float):
        return setting
    if isinstance(setting, str):
        return name_of(setting, kind) if ":" in setting else setting
    if isinstance(setting, Mapping):
        return {key: settle(value, kind) for key, value in setting.items()}
    if isinstance(setting, list | tuple):
        return [settle(value, kind) for value in setting]
    return name_of(setting, kind)


def from_file(path: Path, called: str) -> Any:
    """An object that a Python file defines. RecipeError for a file that fails or lacks it."""
    module = _load(path)
    _trust(path)
    if not hasattr(module, called):
        there = [
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", "") == module.__name__
        ]
        raise RecipeError(f"{path}: defines no {called!r}; it has: {', '.join(there) or 'nothing'}")
    return getattr(module, called)


def _load(path: Path) -> Any:
    """Run a Python file as a module of its own, in which what lies beside it can be imported."""
    path = Path(path).expanduser()
    if path.suffix != ".py" or not path.is_file():
        raise RecipeError(f"{path}: no such Python file; write FILE.py:NAME (from {Path.cwd()})")
    whole = path.resolve()
    module = types.ModuleType(f"own_{path.stem}")
    module.__file__ = str(whole)
    sys.modules[module.__name__] = module
    sys.path.insert(0, str(whole.parent))
    try:
        # Not by importlib, which takes a file for unchanged that was saved twice in one second.
        code = compile(whole.read_bytes(), str(whole), "exec", dont_inherit=True)
        exec(code, vars(module))
    except (Exception, SystemExit) as error:  # SystemExit: a script that calls sys.exit
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise RecipeError(f"{path}{line}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(whole.parent))
    return module


# ------------------------------------------------------------------ what a run remembers


def origin_of(thing: Any) -> Origin:
    """Where an object came from."""
    module = getattr(thing, "__module__", "__main__")
    place = ""
    if module.startswith(LIBRARIES):
        place = module
    elif module != "__main__" and Path(source.file_of(thing)).is_file():
        place = str(Path(source.file_of(thing)).resolve())
    return Origin(label(thing), place, source.digest_of(thing))


def origins(settings: Any, more: Mapping[str, Any]) -> dict[str, dict]:
    """Of each object of the reader's own that stands anywhere in the settings, by its name.

    `more`: what else has a name there, such as blocks that the reader has put in their table.
    """
    known = {**OBJECTS, **more}
    return {text: asdict(origin_of(known[text])) for text in _texts(settings) if text in known}


def _texts(settings: Any) -> Iterable[str]:
    """Every text in nested tables and lists."""
    if isinstance(settings, str):
        yield settings
    elif isinstance(settings, Mapping):
        for value in settings.values():
            yield from _texts(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _texts(value)


def restore(
    folder: Path,
    remembered: Mapping[str, Mapping],
    given: Iterable[Any],
    more: Mapping[str, Any],
    spec: Any,
) -> None:
    """Know all objects again that a run in `folder` was trained with, and its `spec` is made of.

    They are `given`, or known in this process (`more`: by another name than here), or defined in
    this notebook, or in the file they came from. Raises RunError for one that is nowhere, or
    whose source has changed, and for one in the spec that the run does not remember: by its name
    alone, a file that was handed in would be run.
    """
    by_name = {origin_of(thing).name: thing for thing in given}
    for text, values in remembered.items():
        try:
            origin = Origin(**values)
        except TypeError:
            raise RunError(f"{folder}: does not say where its {text} came from") from None
        known = OBJECTS.get(text, more.get(text))
        thing = by_name.get(origin.name)
        if thing is None:
            thing = _find(known, origin, folder)
        if thing is None:
            raise RunError(
                f"{folder}: trained with {origin.name} of {origin.place or 'a notebook'}, which is "
                "not known here: run its cell again, or say where it is: --network "
                f"FILE.py:{origin.name} (its source is kept in {folder / 'own.py'})"
            )
        check_unchanged(folder, {text: values}, {text: asdict(origin_of(thing))})
        OBJECTS[text] = thing
    for text in _texts(spec):
        if is_known(text) and text not in OBJECTS and text not in more:
            raise RunError(f"{folder}: does not say where its {text} came from")


def check_unchanged(folder: Path, then: Mapping[str, Mapping], now: Mapping[str, Mapping]) -> None:
    """Raise RunError for an object whose source is not that of the run in `folder`."""
    for text, values in then.items():
        if text in now and values["digest"] != now[text]["digest"]:
            raise RunError(
                f"{folder}: the source of {values['name']} has changed since this run began; bring "
                f"the old one back (it is kept in {folder / 'own.py'}), or train into another "
                "folder"
            )


def source_of(remembered: Iterable[str], more: Mapping[str, Any]) -> str:
    """One Python file with the source of all these objects; empty where there is none."""
    known = {**OBJECTS, **more}
    return "\n\n".join(filter(None, [source.source_of(known[text]) for text in remembered]))


def _find(known: Any, origin: Origin, folder: Path) -> Any:
    """The object of that origin, or one of its name that may be another; None without any.

    Nothing in the run's own folder is run, whoever was named before: it comes with the run.
    """
    found = [known]
    if origin.digest:  # else a run folder could have anything called that is defined here
        found.append(getattr(sys.modules["__main__"], origin.name, None))
    for thing in found:
        if thing is not None and source.digest_of(thing) == origin.digest:
            return thing
    if origin.place.startswith(LIBRARIES):
        return _from_library(origin)
    inside = Path(origin.place).is_relative_to(folder.resolve())
    if Path(origin.place).is_file() and not inside and _is_trusted(origin.place):
        return from_file(Path(origin.place), origin.name)
    return next((thing for thing in found if thing is not None), None)


def _from_library(origin: Origin) -> Any:
    """A network of a library; not whatever else its modules have imported, or have to load files.

    None where this version of the library has none of that name, or the library is not here.
    """
    if "._" in origin.place:
        return None
    with suppress(ImportError):
        found = getattr(importlib.import_module(origin.place), origin.name, None)
        return found if getattr(found, "__module__", "") == origin.place else None
    return None


# ------------------------------------------------------------------ files that may be run


def _trusted() -> Path:
    """The list of Python files that this user has named."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "facekit", "own_files.json")


def _is_trusted(file: str) -> bool:
    try:
        return file in json.loads(_trusted().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # RuntimeError: a user without a home
        return False


def _trust(path: Path) -> None:
    """Remember that the user has named a file."""
    file = str(Path(path).expanduser().resolve())
    if _is_trusted(file):
        return
    with suppress(
        OSError, ValueError, RuntimeError
    ):  # where nothing can be kept, the next command asks
        kept = _trusted()
        kept.parent.mkdir(parents=True, exist_ok=True)
        files = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else []
        write_whole(kept, json.dumps([*files, file]).encode())
