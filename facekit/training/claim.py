"""Whose a folder of states is: a session leaves its mark there, and looks for it before it saves.

A lock does not do for this: it stays with a folder that is renamed, and a Drive knows none.
"""

import os
import platform
import secrets
from pathlib import Path

from facekit.common.files import write_whole

MARK = ".session"


def new_mark() -> str:
    """A text that no other session has, and that says who it is."""
    return f"{secrets.token_hex(8)} (process {os.getpid()} on host {platform.node()})"


def leave(folder: Path, mark: str) -> None:
    """Mark the folder, which is made where there is none. Raises OSError."""
    folder.mkdir(exist_ok=True)  # its parent is missing where no Drive is mounted
    write_whole(folder / MARK, mark.encode())


def find(folder: Path) -> str:
    """The mark of the session that came last; "" where there is none. Raises OSError."""
    try:
        return (folder / MARK).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def who(mark: str) -> str:
    """The part of a mark that is for people."""
    return mark.partition(" ")[2].strip("()") or "another process"
