"""The homework's layout since F24: classes by a list of names, and pairs to verify.

    <root>/cls_data/{train,dev,test}/images/*.jpg
                                     labels.txt      "NAME LABEL" a line, LABEL a class index
    <root>/ver_data/*.jpg
    <root>/val_pairs.txt                             "IMAGE IMAGE MATCH" a line, MATCH 1 or 0
    <root>/test_pairs.txt                            "IMAGE IMAGE" a line
    <root>/answers/verification_test.csv             only where the source of the data knows them

The two files of pairs may have other names: they are known by their two or three columns.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from facekit.common.errors import DataError
from facekit.common.files import LARGEST
from facekit.data.layout import (
    PAIR_TERMS,
    Answers,
    CourseData,
    ImageSet,
    TermData,
    find_term,
    get_term,
    is_stray,
)

LABELS = "labels.txt"
FORM = {2: "two images", 3: "two images and 1 or 0"}  # of a line, by its columns
LARGEST_LIST = 10 * LARGEST  # bytes: some five million images


@dataclass(frozen=True)
class Pairs:
    """Pairs of images in a fixed order: is it one person, or are they two?"""

    file: Path
    first: tuple[Path, ...]
    second: tuple[Path, ...]
    same: tuple[int, ...] | None  # 1 or 0 each; None where that is not handed out

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[tuple[Path, Path]]:
        return zip(self.first, self.second, strict=True)

    @cached_property
    def images(self) -> tuple[Path, ...]:
        """Every image once, in the order in which it first comes."""
        return tuple(dict.fromkeys((*self.first, *self.second)))


class PairData(TermData):
    """The course's data of a term with pairs, checked as it is read.

    What a network is trained on is as in `CourseData`: classes, train, dev. Raises DataError,
    naming the file and line, when something is missing, empty or not in step.
    """

    PARTS = ("classes", "train", "dev", "test", "pairs_dev", "pairs_test")

    def __init__(self, root: str | Path, term: str = "S26") -> None:
        self.root = Path(root)
        self.term = get_term(term)
        for folder in (self.root, self.classification, self.verification):
            if not folder.is_dir():
                raise DataError(f"{folder}: no such folder; is the data unpacked whole?")

    @cached_property
    def classes(self) -> list[str]:
        """The labels that train has, as texts: "0", "1", ... Every one has to be there."""
        labels = sorted({label for _, label in self._listed("train")})
        for wanted, label in enumerate(labels):
            if label != wanted:
                raise DataError(
                    f"{self._file('train')}: no image of class {wanted}, and one of class "
                    f"{labels[-1]}; labels count from 0 without a gap"
                )
        return [str(label) for label in labels]

    @cached_property
    def train(self) -> ImageSet:
        return self._split("train")

    @cached_property
    def dev(self) -> ImageSet:
        return self._split("dev")

    @cached_property
    def test(self) -> ImageSet:
        """With its labels, which are handed out: the competition is on pairs alone."""
        return self._split("test")

    @cached_property
    def pairs_dev(self) -> Pairs:
        """The pairs that say whether they match."""
        return self._pairs(columns=3)

    @cached_property
    def pairs_test(self) -> Pairs:
        return self._pairs(columns=2)

    @cached_property
    def answers(self) -> Answers | None:
        """Where the truth about the test pairs lies; None where nobody told, or it is private."""
        path = self.root / "answers" / "verification_test.csv"
        return Answers(None, path) if os.access(path, os.R_OK) else None

    def _file(self, split: str) -> Path:
        return self.classification / split / LABELS

    def _listed(self, split: str) -> list[tuple[str, int]]:
        """Name and label of each line of a split's list."""
        path = self._file(split)
        found = []
        for place, words in _lines(path):
            if len(words) != 2 or not _is_index(words[1]):
                raise DataError(
                    f"{path}, line {place}: {' '.join(words)!r} is not a name and a class index"
                )
            found.append((words[0], int(words[1])))
        ((name, count),) = Counter(name for name, _ in found).most_common(1)
        if count > 1:
            raise DataError(f"{path}: {name} comes {count} times; every image has one class")
        return found

    def _split(self, split: str) -> ImageSet:
        listed = self._listed(split)
        path = self._file(split)
        strange = [label for _, label in listed if label >= len(self.classes)]
        if strange:
            raise DataError(f"{path}: class {strange[0]} is none of train's {len(self.classes)}")
        folder = path.parent / "images"
        if not folder.is_dir():
            folder = path.parent  # where no folder `images` is, names count from here
        paths = _files(folder, [name for name, _ in listed], path)
        labels = tuple(label for _, label in listed)
        return ImageSet(folder, paths, labels, tuple(self.classes))

    def _pairs(self, columns: int) -> Pairs:
        """The only file of pairs in the data's folder with so many columns."""
        path = self._find(columns)
        lines = _lines(path)
        for place, words in lines:
            if len(words) != columns or words[2:] not in ([], ["0"], ["1"]):
                raise DataError(f"{path}, line {place}: {' '.join(words)!r} is not {FORM[columns]}")
        first, second = (
            _files(self.verification, [words[side] for _, words in lines], path) for side in (0, 1)
        )
        same = tuple(int(words[2]) for _, words in lines) if columns == 3 else None
        return Pairs(path, first, second, same)

    def _find(self, columns: int) -> Path:
        files = sorted(path for path in self.root.glob("*.txt") if not is_stray(path.name))
        fitting = [path for path in files if len(_first_line(path)) == columns]
        if len(fitting) == 1:
            return fitting[0]
        names = ", ".join(path.name for path in fitting or files) or "no .txt at all"
        raise DataError(
            f"{self.root}: {len(fitting)} files with {FORM[columns]} a line, where one is wanted "
            f"(there is {names})"
        )


def open_data(root: str | Path, term: str | None = None) -> CourseData | PairData:
    """The course's data of any term, by default of the one whose folders are in `root`."""
    name = term or find_term(root)
    return PairData(root, name) if name in PAIR_TERMS else CourseData(root, name)


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The words of each line that is not blank, with its number from 1."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; is the data unpacked whole?")
    if path.stat().st_size > LARGEST_LIST:
        raise DataError(f"{path}: more than {LARGEST_LIST:,} bytes, too large for a list")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text ({error})") from error
    found = [(place, line.split()) for place, line in enumerate(text.splitlines(), start=1)]
    found = [(place, words) for place, words in found if words]
    if not found:
        raise DataError(f"{path}: the file is empty")
    return found


def _first_line(path: Path) -> list[str]:
    try:
        return _lines(path)[0][1]
    except DataError:
        return []


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _files(folder: Path, names: Sequence[str], listed_in: Path) -> tuple[Path, ...]:
    """The files of these names; a list may name none that is missing or lies elsewhere."""
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(f"{listed_in}: {name} leads out of {folder}")
    paths = tuple(folder / name for name in names)
    missing = [path for path in dict.fromkeys(paths) if not os.path.exists(path)]
    if missing:
        raise DataError(
            f"{missing[0]}: no such file, though {listed_in} names it ({len(missing)} such in "
            "all); is the data unpacked whole?"
        )
    return paths
