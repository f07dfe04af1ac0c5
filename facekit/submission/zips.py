"""The zip that a student hands in: packed, and read without running or writing anything of it.

It holds data alone: no weights, only their hash. `hand-in.json` has the hash of each other member.
Used by `facekit hand-in` and `facekit grade`.
"""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import facekit
from facekit.common.errors import DataError
from facekit.common.files import write_whole
from facekit.sources import archives

NOTE, README, METADATA, CURVES = "hand-in.json", "README.md", "model_metadata.json", "curves.png"
FORMAT = 1  # of such a zip
MOST_BYTES = 50 << 20  # of a zip, and of all that is in it
SECTIONS = {  # of the README: what the student writes there
    "Name": "Your name, and your user name and score on Kaggle.",
    "Model": "What is it built of, and why? model_metadata.json has its layers and sizes.",
    "Training": "What did you try, in which order, and what helped? recipe.json has the settings.",
    "Augmentation": "What is changed in the training images, and what did that gain?",
    "How to run": "The commands or cells, in their order, that lead to this hand-in.",
    "Acknowledgement": "Write: This is my own work, made by the rules of the course, without "
    "pretrained weights or other data; whom and what I asked for help is named here. Your name.",
}


class HandIn(NamedTuple):
    """What was in a zip."""

    files: dict[str, bytes]  # by name, without the note
    weights: str  # the hash of the network's numbers
    changed: list[str]  # members that are not as the kit wrote them, missing or added


def empty_sections(readme: str) -> list[str]:
    """The sections of a README that nobody has written anything into, or that are gone."""
    visible = re.sub(r"<!--.*?-->", "", readme, flags=re.DOTALL)
    _, *parts = re.split(r"^## +(.+?)\s*$", visible, flags=re.MULTILINE)
    bodies = dict(zip(parts[::2], parts[1::2], strict=True))
    return [name for name in SECTIONS if not bodies.get(name, "").strip()]


def pack(out: Path, files: Mapping[str, bytes], weights_hash: str) -> None:
    """Write a zip with these members and the note about them: the same input, the same bytes."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    note = {"format": FORMAT, "kit": facekit.__version__, "weights": weights_hash, "files": hashes}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in sorted({**files, NOTE: json.dumps(note, indent=1).encode()}.items()):
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system, member.external_attr = 3, 0o644 << 16  # as on Unix, everywhere
            archive.writestr(member, text, zipfile.ZIP_DEFLATED)
    if len(content.getvalue()) > MOST_BYTES or sum(map(len, files.values())) > MOST_BYTES:
        raise DataError(f"{out}: over {MOST_BYTES >> 20} MB; clear the outputs of your notebooks")
    write_whole(out, content.getvalue())


def read(path: Path) -> HandIn:
    """What is in a zip that was handed in; nothing of it is run or written.

    Raises DataError when it is damaged, too large, no hand-in, or when a member's name
    comes twice or leads elsewhere.
    """
    if path.stat().st_size > MOST_BYTES:
        raise DataError(f"{path}: more than {MOST_BYTES >> 20} MB; no hand-in is so large")
    with archives.opened(path) as content:
        members = archives.judge(path, content.infolist())
        if sum(member.file_size for member in members.values()) > MOST_BYTES:
            raise DataError(f"{path}: would unpack to more than {MOST_BYTES >> 20} MB")
        files = {name: content.read(member) for name, member in members.items()}
    if NOTE not in files:
        raise DataError(f"{path}: has no {NOTE}; hand in the zip as facekit hand-in writes it")
    try:
        note = json.loads(files.pop(NOTE))
        hashes, weights_hash = dict(note["files"]), str(note["weights"])
        supported = note["format"] == FORMAT
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: its {NOTE} is damaged; write the zip anew") from error
    if not supported:
        raise DataError(
            f"{path}: of another version of the kit; use the course's, and write it anew"
        )
    now = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    changed = sorted(name for name in now | hashes if now.get(name) != hashes.get(name))
    return HandIn(files, weights_hash, changed)
