"""What a course's folder was made of: noted when it is begun, and when it is finished.

Built in notebook 01.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import PIL
import torch
from tqdm.auto import tqdm

from facekit.common.errors import DataError
from facekit.common.files import sync, write_whole
from facekit.common.lock import HOLDER, LOCK
from facekit.data.layout import all_terms, is_stray
from facekit.sources.profiles import PROFILES

MANIFEST = "manifest.json"
STARTED = ".facekit-setup.json"  # there while a set-up is not finished


def read_manifest(root: str | Path) -> dict[str, Any]:
    """What a finished course was made of; {} where the kit did not make it, or it is private.

    Raises DataError when the file is damaged.
    """
    path = Path(root) / MANIFEST
    return _read(path, "set the data up anew in another folder") if os.access(path, os.R_OK) else {}


def made_for(root: Path) -> str | None:
    """The profile that the course in `root` was rendered for, by its manifest; else None."""
    name = read_manifest(root).get("name")
    return name if isinstance(name, str) and name in PROFILES else None


def read_note(out: Path) -> dict[str, Any]:
    """What a begun or finished course is made of; {} where none is begun. DataError if damaged."""
    for note in (out / MANIFEST, out / STARTED):
        if note.is_file():
            return _read(note, f"delete {out} to make it anew")
    return {}


def _read(path: Path, advice: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DataError(f"{path}: damaged; {advice}")
    return found


def is_course(folder: Path) -> bool:
    """Whether a folder holds a whole course of any term, whoever made it."""
    # After a power cut the first note may be there again, beside the last.
    unfinished = (folder / STARTED).exists() and not (folder / MANIFEST).exists()
    return not unfinished and any(
        (folder / term.classification).is_dir() for term in all_terms().values()
    )


def is_finished(out: Path, settings: dict) -> bool:
    """Whether `out` is the finished course of these settings; DataError if it is another one."""
    finished = (out / MANIFEST).is_file()
    if not finished and not (out / STARTED).is_file():
        others = [path.name for path in out.glob("*") if not is_stray(path.name)]
        if others:
            raise DataError(
                f"{out}: holds {others[0]}, which this command did not make; choose another --out"
            )
        return False
    there = read_note(out)
    for key, wanted in settings.items():
        finished_by_another_version = finished and key == "version"
        if there.get(key) != wanted and not finished_by_another_version:
            raise DataError(
                f"{out}: holds a course with {key} = {there.get(key)}, and {wanted} is asked for; "
                f"choose another --out, or delete {out} first"
            )
    return finished


def start(out: Path, settings: dict) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / STARTED, json.dumps(settings, indent=1).encode(), private=True)


def finish(out: Path, settings: dict, counts: dict[str, int], progress: bool) -> None:
    """Write the manifest, with a hash over every file's path and content, as the last thing."""
    for left_over in list(out.rglob(".*.part")):  # of killed set-ups, and of killed unpackings
        if left_over.is_dir() and not left_over.is_symlink():
            shutil.rmtree(left_over)
        else:
            left_over.unlink(missing_ok=True)
    for folder in [out, *(path for path in out.rglob("*") if path.is_dir())]:
        sync(folder)
    versions = {"torch": str(torch.__version__), "pillow": PIL.__version__}
    manifest = settings | {"counts": counts, "versions": versions}
    manifest["sha256"] = content_hash(out, progress)
    # Private, as the seed in it makes the answers.
    write_whole(out / MANIFEST, json.dumps(manifest, indent=1).encode(), private=True)
    (out / STARTED).unlink()


def content_hash(root: Path, progress: bool = False) -> str:
    """One SHA-256 over the path and content of every file below `root` but the kit's notes."""
    total = hashlib.sha256()
    files = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    for name in tqdm(files, "hashing", unit="file", disable=not progress):
        if name not in (MANIFEST, STARTED, LOCK, HOLDER):
            content = hashlib.sha256((root / name).read_bytes()).hexdigest()
            total.update(f"{name} {content}\n".encode())
    return total.hexdigest()
