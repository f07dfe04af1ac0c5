"""A folder of somebody else's photographs: what of it is not read, and what shape it has.

Built in notebook 01.
"""

from collections import Counter
from pathlib import Path

from facekit.data.layout import IMAGE_ENDINGS, is_image, is_stray, is_unread_photograph

NAMED = 6  # endings that are named
FEW = 4  # folders that may each be meant


def left_out(folder: Path) -> str:
    """What below an identity-per-folder tree is no image of a person, by ending; "" if nothing.

    Hidden files, and those that an operating system leaves, are not counted.
    """
    counts: Counter[str] = Counter()
    for path in _files(folder):
        depth = len(path.relative_to(folder).parts)
        if not is_image(path):
            counts[path.suffix or "without an ending"] += 1
        elif depth != 2:
            counts["in no person's own folder"] += 1
    named = [f"{count} {kind}" for kind, count in counts.most_common(NAMED)]
    if len(counts) > NAMED:
        named.append(f"{len(counts) - NAMED} other kinds")
    return ", ".join(named)


def advice(folder: Path) -> str:
    """What a folder that makes no course looks like, and how it becomes one."""
    images = [path for path in _files(folder) if is_image(path)]
    flat = [path for path in images if path.parent == folder]
    deep = [path for path in images if len(path.relative_to(folder).parts) > 2]
    said = []
    if deep and 2 * len(deep) > len(images):
        said.append(_of_deep_images(folder, deep))
    elif flat:
        said.append(
            f"{len(flat)} images lie flat in it: make a folder for each person, and move them there"
        )
    others = left_out(folder)
    if others and not deep and not flat:
        endings = ", ".join(sorted(IMAGE_ENDINGS))
        said.append(f"not read are {others}: convert them to files that end in one of {endings}")
    return "; ".join(said)


def _of_deep_images(folder: Path, deep: list[Path]) -> str:
    """Which folder to name instead, if few can be meant; else what to move where."""
    holders = Counter(path.parent.parent for path in deep)
    example = min(deep).relative_to(folder)
    said = f"its images lie deeper, such as {example}: "
    if len(holders) <= FEW:
        named = [f"{holder} ({count} images)" for holder, count in holders.most_common()]
        return f"{said}name the folder that holds a folder for each person, {' or '.join(named)}"
    return f"{said}move the images of {min(deep).parent.name} and its like one folder up"


def _files(folder: Path) -> list[Path]:
    """All files that somebody put there; also those in a cloud, of which a hidden note is here."""
    found = []
    for path in sorted(folder.rglob("*")):
        folders = path.relative_to(folder).parts[:-1]
        wanted = is_unread_photograph(path) or not is_stray(path.name)
        if wanted and not path.is_dir() and not any(map(is_stray, folders)):
            found.append(path)
    return found
