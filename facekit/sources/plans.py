"""Which image goes where in the course's tree, before any is made. Built in notebook 01.

A plan depends on its arguments alone: the same people and seed give the same course.
"""

import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from facekit.common.errors import DataError
from facekit.common.files import write_table
from facekit.data.layout import NO_MATCH, CourseData, Term, class_names, image_files
from facekit.sources import foreign
from facekit.sources.profiles import Profile

ImageSource = tuple[int, int] | Path  # (person, shot) to render, or a photograph


@dataclass
class Plan:
    """Which image goes where in the course's tree, before any is made."""

    train: dict[str, list[ImageSource]]  # identity -> its images
    dev: dict[str, list[ImageSource]]
    test: list[tuple[ImageSource, str]]  # with the identity that is the answer
    known: dict[str, ImageSource]
    unknown_dev: list[tuple[ImageSource, str]]  # with the identity, or n000000
    unknown_test: list[tuple[ImageSource, str]]

    def files(self, term: Term) -> Iterator[tuple[str, ImageSource]]:
        """Every image with its path below the course's root."""
        for split in ("train", "dev"):
            for identity, images in getattr(self, split).items():
                for number, image in enumerate(images, start=1):
                    yield f"{term.classification}/{split}/{identity}/{number:04d}_01.jpg", image
        for row, (image, _) in enumerate(self.test):
            yield f"{term.classification}/test/{self.test_name(row, term)}", image
        for identity, image in self.known.items():
            yield f"{term.verification}/known/{identity}/0001_01.jpg", image
        for split in ("unknown_dev", "unknown_test"):
            for row, (image, _) in enumerate(getattr(self, split)):
                yield f"{term.verification}/{split}/{row:06d}.jpg", image

    @staticmethod
    def test_name(row: int, term: Term) -> str:
        return f"{row:0{term.test_digits}d}.jpg"

    def write_tables(self, root: Path, term: Term) -> None:
        """The CSVs that are handed out, and apart from them the answers."""
        label = {identity: index for index, identity in enumerate(sorted(self.train))}
        names = [self.test_name(row, term) for row in range(len(self.test))]
        classes = [label[identity] for _, identity in self.test]
        dev = [who for _, who in self.unknown_dev]
        test = [who for _, who in self.unknown_test]
        cls, ver, answers = root / term.classification, root / term.verification, root / "answers"
        tables = {
            cls / "classification_sample_submission.csv": (names, [0] * len(names)),
            answers / "classification_test.csv": (names, classes),
            ver / "verification_sample_submission.csv": (range(len(test)), [NO_MATCH] * len(test)),
            ver / "verification_dev.csv": (range(len(dev)), dev),
            answers / "verification_test.csv": (range(len(test)), test),
        }
        answers.mkdir(0o700, parents=True, exist_ok=True)
        for path, (ids, labels) in tables.items():
            rows = zip(ids, labels, strict=True)
            write_table(path, ["id", "label"], rows, private=path.parent == answers)


def synthetic_plan(profile: Profile, seed: int = 0) -> Plan:
    """A course of rendered people; person k is the identity n<k>, so numbers have gaps."""
    rng = random.Random(f"plan {seed}")
    dev_strangers = profile.unknown_dev // 9
    test_strangers = profile.unknown_test // 9
    people = profile.classes + profile.known + dev_strangers + test_strangers
    numbers = rng.sample(range(1, 100_000), people)
    classes = sorted(numbers[: profile.classes])
    rest = numbers[profile.classes :]
    known = sorted(rest[: profile.known])
    strangers = rest[profile.known :]
    first_dev = profile.train
    first_test = first_dev + profile.dev
    per_class = first_test + profile.test

    def shots(low: int, high: int) -> dict[str, list[ImageSource]]:
        return {f"n{person:06d}": [(person, s) for s in range(low, high)] for person in classes}

    test = [(shot, who) for who, found in shots(first_test, per_class).items() for shot in found]
    rng.shuffle(test)

    def probes(count: int, strangers: list[int], first_shot: int) -> list[tuple[ImageSource, str]]:
        """Faces of known people, some of them more than once, and of strangers."""
        mated = [rng.choice(known) for _ in range(count - len(strangers))]
        found = [((p, first_shot + i), f"n{p:06d}") for i, p in enumerate(mated)]
        found += [((p, first_shot), NO_MATCH) for p in strangers]
        rng.shuffle(found)
        return found

    dev = probes(profile.unknown_dev, strangers[:dev_strangers], 1)
    return Plan(
        train=shots(0, first_dev),
        dev=shots(first_dev, first_test),
        test=test,
        known={f"n{person:06d}": (person, 0) for person in known},
        unknown_dev=dev,
        unknown_test=probes(profile.unknown_test, strangers[dev_strangers:], 1 + len(dev)),
    )


def folder_plan(folder: Path, seed: int = 0) -> Plan:
    """A course of the photographs in an identity-per-folder tree, identities renamed n000001 ...

    Three quarters of the identities with at least six images become classes (two thirds of their
    images train, a sixth dev, a sixth test); of the others, those with two images or more become
    known people, and one in nine probes is of somebody who is not known.
    """
    rng = random.Random(f"plan {seed}")
    people = [image_files(folder / name) for name in class_names(folder)]
    people = [images for images in people if images]
    rng.shuffle(people)
    _shuffle_each(people, rng)
    able = [i for i, images in enumerate(people) if len(images) >= 6]
    classes = able[: math.ceil(len(able) * 3 / 4)]
    taken = set(classes)
    others = [i for i in range(len(people)) if i not in taken]
    found = [i for i in others if len(people[i]) > 1]
    singles = [i for i in others if len(people[i]) == 1]
    lacking = max(0, 2 - len(singles))  # a stranger for each of dev and test
    singles += found[:lacking]
    pairs = found[lacking:]
    if len(classes) < 2 or len(pairs) < 2:
        raise DataError(
            f"{folder}: too few people; a course needs 2 classes and, besides, 2 people to know, "
            f"with 2 images each, and 2 strangers. Three quarters of its {len(able)} identities "
            f"with 6 images or more are {len(classes)} classes; besides, {len(found)} have 2 "
            f"images or more and {len(others) - len(found)} have one. {foreign.advice(folder)}"
        )
    return _folder_plan(people, classes, pairs, singles, rng)


def _folder_plan(
    people: list[list[Path]],
    classes: list[int],
    pairs: list[int],
    singles: list[int],
    rng: random.Random,
) -> Plan:
    name = {i: f"n{i + 1:06d}" for i in range(len(people))}
    sixth = {i: len(people[i]) // 6 for i in sorted(classes)}
    train = {name[i]: people[i][2 * few :] for i, few in sixth.items()}
    dev = {name[i]: people[i][:few] for i, few in sixth.items()}
    test = [(p, name[i]) for i, few in sixth.items() for p in people[i][few : 2 * few]]
    mated = [(p, name[i]) for i in pairs for p in people[i][1:]]
    strangers = [(people[i][0], NO_MATCH) for i in singles][: max(2, len(mated) // 8)]
    _shuffle_each([test, mated, strangers], rng)
    cut = max(1, len(mated) // 3)
    cut_strangers = max(1, len(strangers) // 3)
    unknown_dev = mated[:cut] + strangers[:cut_strangers]
    unknown_test = mated[cut:] + strangers[cut_strangers:]
    _shuffle_each([unknown_dev, unknown_test], rng)
    known = {name[i]: people[i][0] for i in sorted(pairs)}
    return Plan(train, dev, test, known, unknown_dev, unknown_test)


def held_out_plan(course: CourseData, people: int, seed: int = 0) -> Plan:
    """A course in which `people` of the training identities are not trained on but looked for.

    The open set of the homework has few probes, hardly any of them of strangers. Here half of
    the people who are held out are known, with one gallery image and up to eight probes each,
    and the other half are strangers, with one probe for every eight of the known: the homework's
    mixture, with as many different strangers as there are. Probes of one person are all in
    unknown_dev or all in unknown_test. The other identities stay classes; every second of their
    dev images becomes a test image, since the course's own test images have no names.
    """
    rng = random.Random(f"held out {seed}")
    images = _images_by_identity(course)
    if not 4 <= people <= len(images) - 2:
        raise DataError(
            f"{course.root}: {people} of {len(images)} people cannot be held out; choose at least "
            f"4 and leave at least 2 to learn from (4 ... {len(images) - 2})"
        )
    held = rng.sample(sorted(images), people)
    lacking = [name for name in held if len(images[name]["train"] + images[name]["dev"]) < 2]
    if lacking:
        raise DataError(f"{course.root}: {lacking[0]} has one image; who is looked for needs two")
    known = sorted(held[: people // 2])
    strangers = held[people // 2 :]
    rest = {name: parts for name, parts in images.items() if name not in set(held)}
    test = [(path, name) for name, parts in rest.items() for path in parts["dev"][1::2]]
    if not test:
        raise DataError(f"{course.root}: one dev image an identity; there is none to test on")
    rng.shuffle(test)
    shots = {name: images[name]["train"] + images[name]["dev"] for name in held}
    _shuffle_each(shots.values(), rng)
    dev = _held_out_probes(shots, known[0::2], strangers[0::2], rng)
    final = _held_out_probes(shots, known[1::2], strangers[1::2], rng)
    return Plan(
        train={name: parts["train"] for name, parts in rest.items()},
        dev={name: parts["dev"][::2] for name, parts in rest.items()},
        test=test,
        known={name: shots[name][0] for name in known},
        unknown_dev=dev,
        unknown_test=final,
    )


def _shuffle_each(lists: Iterable[list], rng: random.Random) -> None:
    for one in lists:
        rng.shuffle(one)


def _images_by_identity(course: CourseData) -> dict[str, dict[str, list[Path]]]:
    found = {name: {"train": [], "dev": []} for name in course.classes}
    for split in ("train", "dev"):
        images = getattr(course, split)
        for path, label in zip(images.paths, images.labels, strict=True):
            found[course.classes[label]][split].append(path)
    return found


def _held_out_probes(
    shots: dict[str, list[Path]], known: list[str], strangers: list[str], rng: random.Random
) -> list[tuple[Path, str]]:
    """All probes of some known people and, one for every eight of them, of strangers in turn."""
    mated = [(path, name) for name in known for path in shots[name][1:9]]
    most = max(len(shots[name]) for name in strangers)
    turns = [shots[name][i] for i in range(most) for name in strangers if i < len(shots[name])]
    probes = mated + [(path, NO_MATCH) for path in turns[: max(1, len(mated) // 8)]]
    rng.shuffle(probes)
    return probes
