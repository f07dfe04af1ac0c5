"""A course's data in one file elsewhere, for machines whose disk is lost. Built in notebook 01."""

import shutil
import zipfile
from pathlib import Path

from facekit.common.errors import DataError, say
from facekit.common.files import whole_file
from facekit.sources.archives import unpack
from facekit.sources.manifest import MANIFEST

NOTE = "about.json"  # the manifest's name in a copy: zips that hold one are not unpacked


def keep_copy(folder: Path, copy: Path) -> None:
    """Write a course's folder as one zip, whole or not at all: a Drive is slow with many files.

    Where it cannot be written, that is said, and nothing else happens.
    """
    try:
        # Files as they are: images are packed already.
        with whole_file(copy) as file, zipfile.ZipFile(file, "w") as archive:
            for path in sorted(folder.rglob("*")):
                name = path.relative_to(folder).as_posix()
                if path.is_file() and not name.startswith("."):  # no locks
                    archive.write(path, NOTE if name == MANIFEST else name)
    except OSError as error:
        say(f"{copy}: the data has no copy there ({error.strerror})")


def bring_back(copy: Path, folder: Path) -> bool:
    """Unpack a copy as `folder`, if there is a whole copy and no such folder; whether it did."""
    if not copy.is_file() or (folder.is_dir() and any(folder.iterdir())):
        return False
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        unpack(copy, part)
        (part / NOTE).rename(part / MANIFEST)
    except (OSError, DataError) as error:
        say(f"{error}; the data is made anew")
        shutil.rmtree(part, ignore_errors=True)
        return False
    for private in [part / MANIFEST, *(part / "answers").glob("*")]:
        private.chmod(0o600)  # as they were: a zip does not say so
    shutil.rmtree(folder, ignore_errors=True)  # empty
    part.rename(folder)
    say(f"the data is back from {copy}")
    return True
