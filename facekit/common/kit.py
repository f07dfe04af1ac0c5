"""The folder of the kit itself, and the command that installs more from there."""

import importlib.metadata
import shlex
import sys
import tomllib
from pathlib import Path

from facekit import DISTRIBUTION

KIT = Path(__file__).parents[2]  # in a clone: where pyproject.toml is


def install_command(extra: str) -> str:
    """The shell command that installs an extra of pyproject.toml, such as "kaggle".

    It installs from the kit's own folder, because `facekit` on PyPI is somebody else's package.
    Where the kit's folder is not known, the text says to go there first.
    """
    if is_kit_folder(KIT):
        return f"{installer()} --editable {quoted(f'{KIT}[{extra}]')}"
    return f"in the folder of the kit: {installer()} {quoted(f'.[{extra}]')}"


def is_kit_folder(folder: Path) -> bool:
    """Whether the folder's pyproject.toml is the kit's; site-packages may hold a stranger's."""
    try:
        settings = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # there is none, or none that can be read
        return False
    return settings.get("project", {}).get("name") == DISTRIBUTION


def installer() -> str:
    """The command that installs into the Python that runs now, whatever is on the PATH."""
    if not has_pip():  # an environment that uv made
        return f"uv pip install --python {quoted(sys.executable)}"
    if sys.platform == "win32":  # PowerShell takes a quoted path for a text, not for a program
        return "python -m pip install"
    return f"{quoted(sys.executable)} -m pip install"


def has_pip() -> bool:
    """Asked of the list of packages: whoever looks for the module itself makes setuptools, and so
    torch's compiler, fail from then on in Python 3.11."""
    return any(importlib.metadata.distributions(name="pip"))


def quoted(text: str) -> str:
    """The text as one word of a command line: of PowerShell on Windows, of sh elsewhere."""
    if sys.platform == "win32":
        return f'"{text}"'  # no path there holds a quotation mark
    return shlex.quote(text)
