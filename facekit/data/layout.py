"""The homework's folders and tables on disk, read and checked. Built in notebook 01.

    <root>/11-785-f23-hw2p2-classification/{train,dev}/<identity>/*.jpg
                                           test/000000.jpg ...
    <root>/11-785-f23-hw2p2-verification/known/<identity>/<one image>
                                         unknown_dev/*.jpg  unknown_test/*.jpg
                                         verification_dev.csv
    <root>/answers/*.csv                   only where the source of the data knows them

Names and numbers are always taken from the files that are there, never from a range.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from facekit.common.errors import DataError
from facekit.common.files import read_table

if TYPE_CHECKING:  # torchvision takes a while to import: not for whoever lists files
    from facekit.data.dataset import ClassFolders

NO_MATCH = "n000000"
SPLITS = ("train", "dev", "test", "known", "unknown_dev", "unknown_test")
IDENTITY = re.compile(r"n[0-9]{6}")  # not \d, which takes the digits of every script
IMAGE_ENDINGS = {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif"}
UNREAD_ENDINGS = {  # of photographs that this kit does not open; the last is a file in a cloud
    *(".heic", ".heif", ".avif", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".jp2", ".jxl"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".icloud"),
}
NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class Term:
    """What one term of the course calls its folders and how it counts.

    The folders are those the zips unpack to, which are not always the competition's slug.
    """

    name: str
    classification: str  # folder
    verification: str  # folder
    classification_slug: str  # Kaggle competition
    verification_slug: str
    classes: int
    test_digits: int  # 6: 000000.jpg
    max_parameters: int | None  # None: not published


def _term(name: str, classes: int, test_digits: int, limit: int | None, slugs=None) -> Term:
    folder = f"11-785-{name.lower()}-hw2p2-"
    folders = folder + "classification", folder + "verification"
    return Term(name, *folders, *(slugs or folders), classes, test_digits, limit)


TERMS = {
    term.name: term
    for term in (
        _term("S23", classes=7000, test_digits=5, limit=None),
        _term("F23", classes=7001, test_digits=6, limit=21_000_000),
        _term(
            "S24",
            classes=7001,
            test_digits=6,
            limit=18_000_000,
            slugs=("11785-hw2p2-face-recognition", "11785-hw2p2-face-verification"),
        ),
    )
}


# Since F24: classes by a list, and pairs instead of an open set (pairs.py). All share one layout,
# so the first stands for them where nobody says which; only that one's limit is published.
PAIR_TERMS = {
    name: Term(name, "cls_data", "ver_data", "", "", 8631, 6, limit)
    for name, limit in (("S26", 30_000_000), ("F25", None), ("S25", None), ("F24", None))
}


def all_terms() -> dict[str, Term]:
    """Those with an open set, then those with pairs."""
    return TERMS | PAIR_TERMS


def get_term(name: str) -> Term:
    """The spec of a term. Raises DataError that lists the terms there are."""
    known = all_terms()
    if name not in known:
        raise DataError(f"no term {name!r}; choose one of: {', '.join(known)}")
    return known[name]


def find_term(root: str | Path) -> str:
    """The name of the term whose folders are in `root`; F23 where there are none."""
    for term in all_terms().values():
        if (Path(root) / term.classification).is_dir():
            return term.name
    return "F23"


def is_stray(name: str) -> bool:
    """Whether a file or folder is no part of the data: hidden, or left by macOS or Windows."""
    return name.startswith((".", "__MACOSX")) or name.lower() in {"thumbs.db", "desktop.ini"}


def is_image(path: str | Path) -> bool:
    """Whether a file is taken for an image, by its name alone."""
    path = Path(path)
    return path.suffix.lower() in IMAGE_ENDINGS and not is_stray(path.name)


def is_unread_photograph(path: str | Path) -> bool:
    """Whether a file is a photograph by its name, of a kind that is not read."""
    path = Path(path)
    ending = path.suffix.lower()
    return ending in UNREAD_ENDINGS and (ending == ".icloud" or not is_stray(path.name))


def spelling(name: str) -> str:
    """The same text for names that differ in case, or in how Unicode puts letters together (NFC,
    NFD), alone: some systems take them for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def class_names(folder: Path) -> list[str]:
    """The identity folders in `folder`, sorted as strings: index in this list = class label.

    A link to a folder that is away is one of them: reading it is an error, and it does not vanish.
    """
    return sorted(p.name for p in _listing(folder) if _is_folder(p) and not is_stray(p.name))


def _is_folder(path: Path) -> bool:
    return path.is_dir() or (path.is_symlink() and not path.exists() and not path.suffix)


def image_files(folder: Path) -> list[Path]:
    """The images directly in `folder`, sorted by name; links to files that are away, too."""
    images = [p for p in _listing(folder) if is_image(p) and (p.is_file() or not p.exists())]
    return sorted(images, key=lambda path: path.name)


def _listing(folder: Path) -> list[Path]:
    if Path(folder).is_symlink() and not Path(folder).exists():
        raise DataError(f"{folder}: a link to a folder that is not there; is its disk mounted?")
    if not Path(folder).is_dir():
        raise DataError(f"{folder}: no such folder; is the data set up whole? Run ./data_setup.sh")
    return list(Path(folder).iterdir())


@dataclass(frozen=True)
class ImageSet:
    """Some images in a fixed order, with a label each where the truth is handed out.

    `labels` are class indices (train, dev), identities such as n000012 (known, unknown_dev)
    or None (test, unknown_test).
    """

    folder: Path
    paths: tuple[Path, ...]
    labels: tuple[int, ...] | tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None  # their names, where folders are no classes

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Path]:
        return iter(self.paths)

    @property
    def names(self) -> list[str]:
        """The file names, without folders: the ids of a classification submission."""
        return [path.name for path in self.paths]

    def dataset(self, transform: Callable | None = None) -> "ClassFolders":
        """These images as torchvision's ImageFolder, for a loop of your own over a DataLoader.

            folder = course.train.dataset(course_transform)
            for images, labels in DataLoader(folder, batch_size=32, shuffle=True): ...

        It has the images of `paths` with the class indices of `labels`, in this order.
        `transform` is given the PIL image (upright RGB); without one, that is what you get.
        Raises DataError where the labels are no class indices: there is none but train and dev.
        """
        from facekit.data.dataset import ClassFolders

        if self.labels is None or not all(isinstance(label, int) for label in self.labels):
            raise DataError(
                f"{self.folder}: no class is known of these images, so they are no labelled data "
                "set; train and dev are (here, go through .paths with facekit.data.read_rgb)"
            )
        classes = self.classes or class_names(self.folder)
        return ClassFolders(self.folder, classes, self.paths, self.labels, transform)


@dataclass(frozen=True)
class Answers:
    """The truth about the two test sets, for scoring and never for choosing."""

    classification: Path | None  # None with pairs, whose test labels are handed out
    verification: Path


class TermData:
    """A term's data under `root`, in its two folders."""

    root: Path
    term: Term

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.root)!r}, term={self.term.name!r})"

    @property
    def has_pairs(self) -> bool:
        """Whether it has pairs of faces, and no open set: since F24."""
        return self.term.name in PAIR_TERMS

    @property
    def classification(self) -> Path:
        return self.root / self.term.classification

    @property
    def verification(self) -> Path:
        return self.root / self.term.verification


class CourseData(TermData):
    """The course's data under `root`, checked as it is read.

    Raises DataError, naming the folder or file, when something is missing, empty or not in step.
    """

    PARTS = ("classes", *SPLITS)

    def __init__(self, root: str | Path, term: str = "F23") -> None:
        self.root = Path(root)
        self.term = get_term(term)
        if term in PAIR_TERMS:
            raise DataError(f"{term} is a term with pairs: facekit.data.PairData reads it")
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; run ./data_setup.sh to make it")
        for folder in (self.term.classification, self.term.verification):
            if not (self.root / folder).is_dir():
                there = sorted(p.name for p in self.root.iterdir() if not is_stray(p.name))
                raise DataError(
                    f"{self.root}: no folder {folder} (it holds: "
                    f"{', '.join(there[:6]) or 'nothing'}); "
                    "is this the right folder, and is it unpacked whole?"
                )

    @cached_property
    def classes(self) -> list[str]:
        """The class folders of `train`, sorted: the label of a class is its place here."""
        folder = self.classification / "train"
        names = class_names(folder)
        if not names:
            raise DataError(f"{folder}: holds no identity folder; run ./data_setup.sh again")
        return names

    @cached_property
    def train(self) -> ImageSet:
        return self._labelled("train")

    @cached_property
    def dev(self) -> ImageSet:
        return self._labelled("dev")

    @cached_property
    def test(self) -> ImageSet:
        folder = self.classification / "test"
        files = _images(folder)
        # The writeup says that test has sub-folders, the starters read it flat: take both.
        inside = [f for name in class_names(folder) for f in _images(folder / name)]
        if files and inside:
            raise DataError(f"{inside[0]}: the other test images lie in {folder}; move it there")
        _check_names_differ(inside)
        _check_numbers(files or inside)
        return ImageSet(folder, tuple(_some(files or inside, folder)))

    @cached_property
    def known(self) -> ImageSet:
        """The gallery: one image of each known identity, sorted by identity."""
        folder = self.verification / "known"
        names = class_names(folder)
        files = [_some(_images(folder / name), folder / name) for name in names]
        _some(names, folder)
        several = [name for name, found in zip(names, files, strict=True) if len(found) > 1]
        if several:
            raise DataError(f"{folder / several[0]}: more than one image of a known identity")
        return ImageSet(folder, tuple(found[0] for found in files), tuple(names))

    @cached_property
    def unknown_dev(self) -> ImageSet:
        """The probes whose identities are handed out in verification_dev.csv."""
        folder = self.verification / "unknown_dev"
        files = _some(_images(folder), folder)
        _check_numbers(files, rows=True)
        labels = read_identities(self.verification / "verification_dev.csv", files)
        strangers = sorted(set(labels) - {*self.known.labels, NO_MATCH})
        if strangers:
            raise DataError(
                f"{self.verification / 'verification_dev.csv'}: {strangers[0]} is no known "
                f"identity ({len(strangers)} such in all)"
            )
        return ImageSet(folder, tuple(files), tuple(labels))

    @cached_property
    def unknown_test(self) -> ImageSet:
        folder = self.verification / "unknown_test"
        files = _some(_images(folder), folder)
        _check_numbers(files, rows=True)
        return ImageSet(folder, tuple(files))

    @cached_property
    def answers(self) -> Answers | None:
        """Where the truth about the test sets lies; None where nobody told, or it is private."""
        folder = self.root / "answers"
        found = Answers(folder / "classification_test.csv", folder / "verification_test.csv")
        readable = [os.access(path, os.R_OK) for path in (found.classification, found.verification)]
        return found if all(readable) else None

    def _labelled(self, split: str) -> ImageSet:
        folder = self.classification / split
        names = class_names(folder)
        _check_same_classes(names, self.classes, folder)
        paths: list[Path] = []
        labels: list[int] = []
        for label, name in enumerate(names):
            files = _some(_images(folder / name), folder / name)
            paths += files
            labels += [label] * len(files)
        return ImageSet(folder, tuple(paths), tuple(labels))


def _some(found: Sequence, folder: Path) -> Sequence:
    """`found` itself, or an error that names the folder when there is nothing in it."""
    if not found:
        raise DataError(f"{folder}: holds no image; set the data up again or remove the folder")
    return found


def _images(folder: Path) -> list[Path]:
    """The images in `folder`. DataError where a photograph there would be left out in silence."""
    unread = sorted(filter(is_unread_photograph, _listing(folder)))
    if unread:
        raise DataError(
            f"{unread[0]}: a photograph that this kit cannot read ({len(unread)} such files "
            "there); convert it to JPEG or PNG, or move it away"
        )
    return image_files(folder)


def _check_numbers(files: Sequence[Path], rows: bool = False) -> None:
    """Raise DataError where the names of files are numbers and one is missing or comes twice.

    `rows`: the files are known by their place alone, so none may be among them without a number:
    with one too few or too many, all later rows would be about other images.
    """
    numbered = sorted(
        (path for path in files if NUMBER.fullmatch(path.stem)), key=lambda path: int(path.stem)
    )
    others = sorted(set(files) - set(numbered))
    if others and not (rows and len(numbered) > len(others)):
        return
    if others:
        raise DataError(
            f"{others[0]}: the other names there are numbers, and rows count them; move it away"
        )
    for wanted, path in enumerate(numbered, start=min(1, int(numbered[0].stem))):
        number = int(path.stem)
        if number > wanted:
            name = f"{wanted:0{len(path.stem)}d}{path.suffix}"
            raise DataError(f"{path.parent / name}: lost, for {path.name} is there; put it back")
        if number < wanted:
            raise DataError(f"{path}: its number comes twice; remove one of the two")


def _check_names_differ(files: Sequence[Path]) -> None:
    """The names are the ids of a submission: no two files may share one."""
    for other, path in pairwise(sorted(files, key=lambda path: path.name)):
        if other.name == path.name:
            raise DataError(f"{path}: {other} has the same name, and names are ids; rename one")


def _check_same_classes(names: list[str], classes: list[str], folder: Path) -> None:
    extra, missing = sorted(set(names) - set(classes)), sorted(set(classes) - set(names))
    spelt = {spelling(name): name for name in missing}
    for name in extra:
        if spelling(name) in spelt:
            raise DataError(
                f"{folder / name}: differs from {spelt[spelling(name)]} in train by case, or by "
                "how Unicode spells its letters (NFC, NFD), alone; rename one of the two"
            )
    if extra or missing:
        which = f"has {extra[0]}, which train lacks" if extra else f"lacks {missing[0]}"
        raise DataError(
            f"{folder}: {which}; train has {len(classes)} identities and this split {len(names)}"
        )


def read_identities(path: Path, files: Sequence[Path] | None = None) -> list[str]:
    """The `label` column of a verification table, row i for the i-th file in sorted order.

    With `files` it is checked that there is exactly one row a file, in that order: the other
    column, whatever its name, must hold 0, 1, 2, ... or the sorted file names. Raises DataError.
    """
    table = read_table(path, ["label"])
    labels = table["label"].tolist()
    bad = [label for label in labels if not IDENTITY.fullmatch(label)]
    if bad:
        raise DataError(f"{path}: {bad[0]!r} is no identity (n and six digits)")
    if files is None:
        return labels
    if len(labels) != len(files):
        raise DataError(f"{path}: {len(labels)} rows for {len(files)} images in {files[0].parent}")
    for column in table.columns.drop("label"):
        _check_order(path, table[column].tolist(), files)
    return labels


def _check_order(path: Path, ids: list[str], files: Sequence[Path]) -> None:
    """Numbers must count the rows, and file names must be the sorted ones; else rows are mixed."""
    if all(value.isascii() and value.isdigit() for value in ids):
        expected = [str(row) for row in range(len(ids))]
        ids = [value.lstrip("0") or "0" for value in ids]
    elif all(is_image(value) for value in ids):
        expected = [file.name for file in files]
        ids = [Path(value).name for value in ids]
    else:
        return
    for row, (value, wanted) in enumerate(zip(ids, expected, strict=True)):
        if value != wanted:
            raise DataError(
                f"{path}: row {row} is about {value}, not {wanted}; "
                "row i must be the i-th file in sorted order"
            )
