"""The source of a class or function of the reader's own, with all that it needs beside it.

A run keeps its hash, to notice that the network it was trained with has changed since. Comments
and layout do not count; every class, function and number of the same file or notebook does that
the source mentions, directly or by way of others.
"""

import ast
import hashlib
import inspect
import linecache
import re
import sys
import sysconfig
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

PLAIN = (int, float, complex, str, bytes, bool, tuple, list, dict, set, type(None))
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def source_of(thing: Any) -> str:
    """Python text that defines `thing`: imports, then each definition after those it needs.

    Empty where there is no source to be found, as for a network that is made already.
    """
    return "\n\n".join(_collect(thing).values())


def digest_of(thing: Any) -> str:
    """SHA-256 of what `thing` is made of; of its layers, where it is an object and no class.

    Empty where nothing can be told.
    """
    found = _collect(thing)
    texts = [ast.unparse(ast.parse(text)) for text in found.values() if not _is_import(text)]
    if not texts:
        shown = repr(thing)
        if ADDRESS.search(shown):
            return ""
        texts = [shown]
    return hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()


def file_of(thing: Any) -> str:
    """The file, or notebook cell, that a class or function was written in; empty for others."""
    code = _code(thing)
    return code.co_filename if code else ""


def _collect(thing: Any) -> dict[str, str]:
    """The text of `thing` and of all that it mentions, by name, each after those it needs."""
    found: dict[str, str] = {}

    def add(name: str, value: Any, module: str) -> None:
        text = _definition(name, value, module)
        if not text or name in found:
            return
        found[name] = ""  # no second time, while those it needs are added
        home = getattr(value, "__module__", module)
        namespace = vars(sys.modules[home])
        for mentioned in _names(text):
            if mentioned in namespace:
                add(mentioned, namespace[mentioned], home)
        del found[name]
        found[name] = text

    if _has_source(thing):
        add(thing.__name__, thing, thing.__module__)
    return found


def is_library(module: str) -> bool:
    """Whether a module is installed, or Python's or the kit's own, and not written by the reader.

    A notebook's cells and a script are the module `__main__`.
    """
    if module == "__main__":
        return False
    if module.partition(".")[0] == "facekit":
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:  # built into Python
        return True
    folders = sysconfig.get_paths()
    return any(Path(folders[name]) in Path(file).parents for name in ("purelib", "stdlib"))


def _has_source(thing: Any) -> bool:
    is_code = inspect.isclass(thing) or inspect.isfunction(thing)
    return is_code and getattr(thing, "__module__", None) in sys.modules


def _definition(name: str, value: Any, module: str) -> str:
    """Python text that gives `name` the value, in a module; empty where there is none."""
    if inspect.ismodule(value):
        return f"import {value.__name__} as {name}"
    if inspect.isclass(value) or inspect.isroutine(value):
        if not is_library(value.__module__):
            return _text(value)
        return f"from {value.__module__} import {value.__name__} as {name}"
    if isinstance(value, PLAIN) and not ADDRESS.search(repr(value)):
        return f"{name} = {value!r}"
    return ""


def _is_import(text: str) -> bool:
    return text.startswith(("import ", "from "))


def _names(text: str) -> list[str]:
    """What a piece of Python mentions, in the order of the text."""
    nodes = ast.walk(ast.parse(text))
    return list(dict.fromkeys(node.id for node in nodes if isinstance(node, ast.Name)))


def _text(value: Any) -> str:
    """The source of a class or function, as it stands in its file or cell."""
    code = _code(value)
    if code is None:
        return ""
    if Path(code.co_filename).is_file():  # what is no file, a cell, would be forgotten
        linecache.checkcache(code.co_filename)
    whole = "".join(linecache.getlines(code.co_filename))
    try:
        tree = ast.parse(whole)
    except SyntaxError:  # a cell with %magic in it is kept as IPython has changed it
        return ""
    found = [node for node in ast.walk(tree) if _defines(node, value, code.co_firstlineno)]
    if not found:
        return ""
    start = min([found[-1].lineno, *(d.lineno for d in getattr(found[-1], "decorator_list", ()))])
    lines = whole.splitlines()[start - 1 : found[-1].end_lineno]
    return textwrap.dedent("\n".join(lines))


def _defines(node: ast.AST, value: Any, line: int) -> bool:
    """Whether a piece of a file is the definition of a class, or a function begun in that line."""
    if inspect.isclass(value):
        return isinstance(node, ast.ClassDef) and node.name == value.__name__
    if not isinstance(node, ast.FunctionDef) or node.name != value.__name__:
        return False
    return line in (node.lineno, *(d.lineno for d in node.decorator_list))


def _code(value: Any) -> Any:
    """The compiled code of a function, or of the first method of a class; None without any.

    Where a class from a notebook cell stands, only its methods know in every Python.
    """
    value = inspect.unwrap(value) if isinstance(value, Callable) else value
    if inspect.isfunction(value):
        return value.__code__
    methods = vars(value).values() if inspect.isclass(value) else ()
    for method in methods:
        if inspect.isfunction(method) and method.__qualname__.startswith(value.__qualname__):
            return method.__code__
    return None
