"""Who one is to Kaggle: found where it is kept, handed on, never shown. Built in notebook 08."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from facekit.common.errors import FacekitError, say

TOKEN, USER, KEY = "KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"
PAGE = "https://www.kaggle.com/settings/api"  # where one makes a token


@dataclass(frozen=True)
class Credentials:
    """An access token, or a user name and a key, and where they were found; no text shows them."""

    place: str
    token: str = field(default="", repr=False)
    user: str = field(default="", repr=False)
    key: str = field(default="", repr=False)

    @property
    def kind(self) -> str:
        return "access token" if self.token else "user name and key"

    def environment(self) -> dict[str, str]:
        """The variables that make Kaggle's program use these and no others."""
        if self.token:
            return {TOKEN: self.token}
        # It prefers any token it can find; an empty file for one makes it stop looking.
        return {TOKEN: os.devnull, USER: self.user, KEY: self.key}

    def secrets(self) -> list[str]:
        """What must not be shown to anybody."""
        return [value for value in (self.token, self.key) if value]


def find() -> Credentials | None:
    """The first credentials there are; None where there are none.

    Looked for in the environment, among Colab's and Kaggle's secrets, then in the files that
    Kaggle's program knows. Of a file that others may read it is said; its mode is left as it is.
    Raises FacekitError for a file that should hold credentials and does not.
    """
    stores = (
        ("in the environment", _from_environment),
        ("among Colab's secrets", _from_colab),
        ("among this notebook's secrets", _from_kaggle),
    )
    for place, get in stores:
        found = _from_store(place, get)
        if found:
            return found
    return next(_from_files(), None)


def _from_store(place: str, get: Callable[[str], str]) -> Credentials | None:
    token = get(TOKEN)
    if token:
        return Credentials(f"{TOKEN} {place}", token=token)
    user, key = get(USER), get(KEY)
    if user and key:
        return Credentials(f"{USER} and {KEY} {place}", user=user, key=key)
    return None


def _from_environment(name: str) -> str:
    value = os.environ.get(name, "").strip()
    # The token's variable may name a file. os.path, for its answer to any text is yes or no.
    return _read(Path(value)) if name == TOKEN and os.path.isfile(value) else value  # noqa: PTH113


def _from_colab(name: str) -> str:
    try:
        from google.colab import userdata

        return (userdata.get(name) or "").strip()
    except Exception:  # not Colab, no such secret, not allowed: all the same here
        return ""


def _from_kaggle(name: str) -> str:
    try:
        from kaggle_secrets import UserSecretsClient

        return (UserSecretsClient().get_secret(name) or "").strip()
    except Exception:  # not Kaggle, no such secret, not attached
        return ""


def _from_files() -> Iterator[Credentials]:
    try:
        home = Path.home() / ".kaggle"
    except RuntimeError:  # a user whom this system does not know, as in some containers
        return
    for path in (home / "access_token", home / "access_token.txt"):
        if path.is_file() and (token := _read(path)):
            yield Credentials(str(path), token=token)
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or home.parent / ".config")
    for folder in (os.environ.get("KAGGLE_CONFIG_DIR"), home, settings / "kaggle"):
        if folder and Path(folder, "kaggle.json").is_file():
            yield _user_and_key(Path(folder, "kaggle.json"))


def _user_and_key(path: Path) -> Credentials:
    try:
        found = json.loads(_read(path))
        user, key = found["username"].strip(), found["key"].strip()
    except (ValueError, KeyError, TypeError, AttributeError):
        user = key = ""
    if not (user and key):
        raise FacekitError(f"{path}: holds no username and key; make a new one at {PAGE}")
    return Credentials(str(path), user=user, key=key)


def _read(path: Path) -> str:
    if os.name == "posix" and path.stat().st_mode & 0o777 & ~0o600:
        told = "holds a secret and is open to others; close it: chmod 600"
        say(f"facekit: {path}: {told} {path}", file=sys.stderr)
    return path.read_text(encoding="utf-8-sig", errors="replace").strip()
