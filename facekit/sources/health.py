"""Whether a folder of faces can be trusted: all that is odd about its files. Built in notebook 01.

Every image is decoded once. What is found is told, never mended: whether twins are a fault, or
grey images, is for whoever knows where the data came from.
"""

import hashlib
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from facekit.common import machine
from facekit.common.errors import DataError, printable
from facekit.common.files import write_whole
from facekit.data import layout
from facekit.data.background import on_all_cores
from facekit.data.images import FORMATS, orientation_of, read_content, read_rgb
from facekit.data.layout import PAIR_TERMS, CourseData, Term
from facekit.data.pairs import LABELS
from facekit.sources.kaggle import PARTS

TINY = 32  # pixels of the shorter side, below which there is hardly a face
SIDE = 16  # of the print by which near duplicates are found: 256 signs
NEAR = 10  # signs in which the prints of two saves of one image differ at most
BLOCK = 256  # prints compared with all others at once

FINDINGS = {  # what: how bad, and what to do
    "unreadable": ("error", "replace or remove it: few are left out of training, all else stops"),
    "empty class": ("error", "put its images back, or remove the folder from every split"),
    "class missing": ("error", "every class of train must be in dev, and no other"),
    "names differ by case": ("error", "Windows and macOS make one folder of them: rename one"),
    "not read": ("error", "it is left out: convert the photograph to JPEG or PNG, or move it away"),
    "in two splits": ("error", "remove it from one: what was trained on tells nothing when tested"),
    "duplicate": (
        "warning",
        "one of them is enough, unless they are of two classes: then one lies",
    ),
    "near duplicate": ("warning", "look at them: the same photograph, saved twice or cut anew?"),
    "loose": ("warning", "it is left out: each image lies in the folder of its person"),
    "too deep": ("warning", "it is left out: images lie directly in their person's folder"),
    "tiny": ("warning", f"less than {TINY} pixels wide or high: look whether there is a face"),
    "stray": ("note", "it is left out: no image, hidden, or left by an operating system"),
    "grey": ("note", "it becomes RGB with three equal channels"),
    "unusual": ("note", "CMYK, 16 bit, transparent or on its side: it becomes RGB, upright"),
}


# Of these every file is named, not one alone.
NAMED_ALL = ("unreadable", "empty class", "class missing", "not read", "loose", "too deep", "stray")
NAMED = 20  # of a kind; the others are in a file


@dataclass(frozen=True)
class Look:
    """One image file: what is odd about it, and by what its twins are known."""

    path: Path
    odd: tuple[str, ...]
    fault: str = ""  # why it cannot be read
    content: str = ""  # SHA-256 of the file
    print: np.ndarray | None = None  # (SIDE * SIDE,), -1 or 1


def look(path: Path) -> Look:
    """Read and decode one image. Never raises: what is wrong is in the result."""
    try:
        content = read_content(path)
        rgb = read_rgb(path, content)
        with Image.open(path, formats=FORMATS) as image:
            odd = tuple(_oddities(image))
    except (DataError, OSError) as error:
        return Look(path, ("unreadable",), str(error))
    digest = hashlib.sha256(content).hexdigest()
    return Look(path, odd, "", digest, _print_of(rgb))


def _oddities(image: Image.Image) -> Iterator[str]:
    if min(image.size) < TINY:
        yield "tiny"
    if image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;16"):
        yield "grey"
    deep_or_cmyk = image.mode in ("I", "F", "CMYK", "YCCK") or image.mode.startswith("I;16")
    turned = orientation_of(image) not in (0, 1)
    if deep_or_cmyk or turned or image.has_transparency_data:
        yield "unusual"


def _print_of(image: Image.Image) -> np.ndarray:
    """Whether it gets lighter from each place to the next, in a coarse grid (difference hash)."""
    grey = image.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX)
    levels = np.asarray(grey, np.int16)
    return np.where(np.diff(levels, axis=1) > 0, 1, -1).astype(np.int8).ravel()


def splits(root: Path, term: Term) -> dict[str, list[Path]]:
    """The images of each split of a course that is there, broken or not."""
    found = {}
    for task, names in PARTS.items():
        for name in names:
            folder = root / getattr(term, task) / name
            if folder.is_dir():
                folders = [folder, *(folder / person for person in layout.class_names(folder))]
                there = [one for one in folders if one.is_dir()]
                found[name] = [path for one in there for path in layout.image_files(one)]
    folder = root / term.verification
    if term.name in PAIR_TERMS and folder.is_dir():
        found["pairs"] = [path for path in sorted(folder.rglob("*")) if layout.is_image(path)]
    return found


def examine(root: str | Path, term: str | None = None, progress: bool = False) -> pd.DataFrame:
    """Everything odd about a course's files: a row for each kind, the worst first.

    Columns: severity (error, warning, note), what, count, example, advice. An empty table says
    that nothing is. Raises DataError where there is no course at all.
    """
    return _table(_find_all(Path(root), term, progress))


def _find_all(root: Path, term: str | None, progress: bool) -> dict[str, list[str]]:
    """Everything odd, by kind."""
    spec = layout.get_term(term or layout.find_term(root))
    parts = splits(root, spec)
    if not parts:
        raise DataError(f"{root}: holds no course; run ./data_setup.sh to make one")
    paths = [path for part in parts.values() for path in part]
    looks = {one.path: one for one in on_all_cores(look, paths, "looking at images", progress)}
    found: dict[str, list[str]] = defaultdict(list)
    for one in looks.values():
        for what in one.odd:
            found[what].append(one.fault or str(one.path))
    _find_twins(parts, looks, found)
    _find_odd_folders(root, spec, found)
    return found


def demonstrate(data: CourseData) -> pd.DataFrame:
    """What `examine` says of copies of four training images, of which three are spoilt.

    One is there twice, one is cut off after 500 bytes, one is grey, and a note lies beside them.
    """
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, data.term.classification, "train", "n1")
        folder.mkdir(parents=True)
        twin, cut, grey, _ = (
            shutil.copy(path, folder / f"{place}{path.suffix}")
            for place, path in enumerate(data.train.paths[:4])
        )
        shutil.copy(twin, folder / "copy.jpg")
        cut.write_bytes(cut.read_bytes()[:500])
        read_rgb(grey).convert("L").save(grey)
        (folder / "notes.txt").touch()
        return examine(root, data.term.name)


def _find_twins(
    parts: dict[str, list[Path]], looks: dict[Path, Look], found: dict[str, list[str]]
) -> None:
    """Files of the same bytes, and images that are all but the same."""
    split = {path: name for name, part in parts.items() for path in part}
    same: dict[str, list[Path]] = defaultdict(list)
    for one in looks.values():
        if one.content:
            same[one.content].append(one.path)
    for paths in same.values():
        for other in paths[1:]:
            between = split[paths[0]] != split[other]
            found["in two splits" if between else "duplicate"].append(f"{paths[0]} = {other}")
    first = [looks[paths[0]] for paths in same.values()]
    for one, other in near_pairs([look.print for look in first]):
        found["near duplicate"].append(f"{first[one].path} ~ {first[other].path}")


def near_pairs(prints: Sequence[np.ndarray], near: int = NEAR) -> list[tuple[int, int]]:
    """Pairs of prints (of -1 and 1) that differ in `near` signs at most, of the four nearest."""
    if not prints:
        return []
    signs = torch.from_numpy(np.stack(prints)).float()
    least = signs.shape[1] - 2 * near  # each sign that differs takes two from the product
    pairs = set()
    for start in range(0, len(signs), BLOCK):
        products = signs[start : start + BLOCK] @ signs.T
        nearest = products.topk(min(5, len(signs)))  # one of them is the print itself
        for row, rank in (nearest.values >= least).nonzero().tolist():
            one = start + row
            other = int(nearest.indices[row, rank])
            if one != other:
                pairs.add((min(one, other), max(one, other)))
    return sorted(pairs)


def _find_odd_folders(root: Path, term: Term, found: dict[str, list[str]]) -> None:
    """Stray files, empty classes, names that only case tells apart, classes of one split alone."""
    for folder in (root / term.classification, root / term.verification):
        _find_odd_files(folder, found)
    classes: dict[Path, list[str]] = {}
    for split in ("train", "dev"):
        folder = root / term.classification / split
        if folder.is_dir():
            classes[folder] = layout.class_names(folder)
    for folder, names in classes.items():
        by_case: dict[str, list[str]] = defaultdict(list)
        for name in names:
            by_case[layout.spelling(name)].append(name)
            if not (folder / name).is_dir() or not layout.image_files(folder / name):
                found["empty class"].append(str(folder / name))
            for other in classes:
                if name not in classes[other]:
                    found["class missing"].append(
                        f"{other} lacks {_with_twin(name, classes[other])}"
                    )
        for group in by_case.values():
            if len(group) > 1:
                found["names differ by case"].append(f"{folder}: {', '.join(group)}")


def _with_twin(name: str, others: list[str]) -> str:
    """A name that the others lack; and whether they have it in another spelling."""
    twins = [other for other in others if layout.spelling(other) == layout.spelling(name)]
    if not twins:
        return name
    return f"{name} (it has {twins[0]}, of another case or Unicode spelling, NFC or NFD)"


def _find_odd_files(folder: Path, found: dict[str, list[str]]) -> None:
    """What is no image, and images that lie too deep or in no person's folder."""
    persons = ("train", "dev", "known")
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        known = path.suffix == ".csv" or path.name == LABELS or layout.is_image(path)
        other = path.is_file() and not known
        if layout.is_unread_photograph(path):
            found["not read"].append(str(path))
        elif layout.is_stray(path.name) or other:
            found["stray"].append(str(path))
        elif len(inside) == 2 and inside[0] in persons and layout.is_image(path):
            found["loose"].append(str(path))
        elif len(inside) > 3 and path.is_file() and not any(map(layout.is_stray, inside)):
            found["too deep"].append(str(path))


def _table(found: dict[str, list[str]]) -> pd.DataFrame:
    rows = [
        (severity, what, len(found[what]), printable(found[what][0], keep=""), advice)
        for what, (severity, advice) in FINDINGS.items()
        if found.get(what)
    ]
    return pd.DataFrame(rows, columns=["severity", "what", "count", "example", "advice"])


def report(root: str | Path, progress: bool = False) -> list[str]:
    """The findings of `examine` in lines, the worst first.

    Of what is left out or cannot be read all files are named: twenty here, the others of a kind
    in a file in the cache's folder, which the lines name.
    """
    found = _find_all(Path(root), None, progress)
    table = _table(found)
    if table.empty:
        return [f"images        nothing is odd  (every one below {root} can be read)"]
    lines = []
    for row in table.itertuples(index=False):
        lines.append(f"{row.severity:<7} {row[2]:>5} {row.what}: {row.example}  ({row.advice})")
        if row.what in NAMED_ALL:
            lines += _others(row.what, found[row.what])
    return lines


def _others(what: str, names: list[str]) -> list[str]:
    """All of a kind but the first, each in a line; where they are many, the rest is in a file."""
    names = [printable(name, keep="") for name in names]
    lines = [f"              {name}" for name in names[1:NAMED]]
    if len(names) > NAMED:
        rest = machine.cache().value / f"{what.replace(' ', '-')}.txt"
        rest.parent.mkdir(parents=True, exist_ok=True)
        write_whole(rest, "".join(f"{name}\n" for name in names).encode())
        lines.append(f"              and {len(names) - NAMED} more: all are in {rest}")
    return lines
