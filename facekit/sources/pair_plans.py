"""Which image goes where in a course with pairs, before any is made: the homework since F24.

A plan depends on its arguments alone: the same people and seed give the same course.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from facekit.common.errors import DataError
from facekit.common.files import write_table, write_whole
from facekit.data.layout import Term
from facekit.data.pairs import LABELS
from facekit.sources.plans import ImageSource, synthetic_plan
from facekit.sources.profiles import Profile

MadePair = tuple[int, int, int]  # places of two images, and whether they are of one person


@dataclass
class PairPlan:
    """As `Plan`, for `data.pairs.PairData`: labelled images, and pairs of other people's."""

    splits: dict[str, list[tuple[ImageSource, int]]]  # train, dev, test -> images with labels
    images: list[ImageSource]  # of ver_data
    dev: list[MadePair]
    test: list[MadePair]

    def files(self, term: Term) -> Iterator[tuple[str, ImageSource]]:
        """Every image with its path below the course's root."""
        for split, images in self.splits.items():
            for row, (image, _) in enumerate(images):
                yield f"{term.classification}/{split}/images/{_name(row)}", image
        for row, image in enumerate(self.images):
            yield f"{term.verification}/{_name(row)}", image

    def write_tables(self, root: Path, term: Term) -> None:
        """The lists that are handed out, and apart from them the answers."""
        for split, images in self.splits.items():
            lines = [f"{_name(row)} {label}" for row, (_, label) in enumerate(images)]
            _write_lines(root / term.classification / split / LABELS, lines)
        dev = [f"{_name(one)} {_name(two)} {same}" for one, two, same in self.dev]
        _write_lines(root / "val_pairs.txt", dev)
        _write_lines(root / "test_pairs.txt", [f"{_name(a)} {_name(b)}" for a, b, _ in self.test])
        answers = root / "answers"
        answers.mkdir(0o700, parents=True, exist_ok=True)
        rows = [(row, same) for row, (_, _, same) in enumerate(self.test)]
        write_table(answers / "verification_test.csv", ["ID", "Label"], rows, private=True)


def _name(row: int) -> str:
    return f"{row:08d}.jpg"


def _write_lines(path: Path, lines: list[str]) -> None:
    write_whole(path, "".join(f"{line}\n" for line in lines).encode())


def pair_plan(profile: Profile, seed: int = 0) -> PairPlan:
    """The classes of a rendered course, and pairs of the people that it would have in a gallery.

    Half of `known` is in the dev pairs, half in the test pairs; half of the pairs are of one
    person. There are `unknown_dev` and `unknown_test` of them, and no image is in two.
    """
    plan = synthetic_plan(profile, seed)
    label = {identity: index for index, identity in enumerate(sorted(plan.train))}
    splits = {
        split: [(image, label[who]) for who in label for image in getattr(plan, split)[who]]
        for split in ("train", "dev")
    }
    splits["test"] = sorted(((image, label[who]) for image, who in plan.test), key=itemgetter(1))
    people = [person for person, _ in plan.known.values()]
    if len(people) < 4:
        raise DataError(f"pairs need 4 people besides the classes; the profile has {len(people)}")
    rng = random.Random(f"pairs {seed}")
    rng.shuffle(people)
    half = len(people) // 2
    shots = dict.fromkeys(people, 0)  # how many of each are taken
    dev = _pairs(people[:half], profile.unknown_dev, shots, rng)
    test = _pairs(people[half:], profile.unknown_test, shots, rng)
    images = [image for one, two, _ in dev + test for image in (one, two)]
    rng.shuffle(images)
    place = {image: row for row, image in enumerate(images)}
    placed = [[(place[one], place[two], same) for one, two, same in pairs] for pairs in (dev, test)]
    return PairPlan(splits, images, *placed)


def _pairs(people: list[int], count: int, shots: dict[int, int], rng: random.Random) -> list:
    """So many pairs of fresh shots, in random order: every second of one person."""
    found = []
    for number in range(count):
        same = number % 2
        one, two = [rng.choice(people)] * 2 if same else rng.sample(people, 2)
        pair = []
        for person in (one, two):
            pair.append((person, shots[person]))
            shots[person] += 1
        found.append((*pair, same))
    rng.shuffle(found)
    return found
