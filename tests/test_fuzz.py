"""Thousands of damaged files: a clear error that names the file, or a sound result, no more."""

import random
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facekit import submit
from facekit.errors import DataError
from facekit.images import MAX_PIXELS, read_rgb
from facekit.layout import CourseData, read_identities
from facekit.tables import read_table

IMAGES, TABLES = 10_000, 2_000


def damage(content: bytes, numbers: random.Random) -> bytes:
    """Bytes flipped, cut out, overwritten, doubled, or the end lost; one to four times."""
    spoilt = bytearray(content)
    for _ in range(numbers.randint(1, 4)):
        at, how = numbers.randrange(len(spoilt)), numbers.randrange(5)
        if how == 0:
            spoilt[at] ^= 1 << numbers.randrange(8)
        elif how == 1:
            del spoilt[at : at + numbers.randint(1, 40)]
        elif how == 2:
            spoilt[at : at + 6] = numbers.randbytes(6)
        elif how == 3:
            spoilt[at:at] = spoilt[at : at + 30]
        else:
            del spoilt[at:]
        if not spoilt:
            return b""
    return bytes(spoilt)


def pictures() -> list[bytes]:
    """One of each format and mode that the kit opens."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((24, 20), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.arange(480, dtype=np.uint16).reshape(20, 24) * 100)
    made = []
    for image, settings in (
        (picture, {"format": "JPEG", "exif": exif}),
        (picture, {"format": "JPEG", "progressive": True}),
        (picture.convert("L"), {"format": "JPEG"}),
        (picture.convert("CMYK"), {"format": "JPEG"}),
        (picture, {"format": "PNG"}),
        (picture.convert("RGBA"), {"format": "PNG"}),
        (picture.convert("P"), {"format": "PNG"}),
        (deep, {"format": "PNG"}),
        (picture, {"format": "WEBP"}),
        (picture, {"format": "BMP"}),
        (picture, {"format": "GIF"}),
    ):
        content = BytesIO()
        image.save(content, **settings)
        made.append(content.getvalue())
    return made


def test_damaged_images_are_read_or_refused():
    whole, numbers = pictures(), random.Random(0)
    refused = 0
    for turn in range(IMAGES):
        content = damage(whole[turn % len(whole)], numbers)
        try:
            found = read_rgb(Path(f"faces/{turn}.jpg"), content)
        except DataError as error:
            refused += 1
            assert str(error).startswith(f"faces/{turn}.jpg: cannot read this image (")
            assert "\n" not in str(error)
        else:
            assert found.mode == "RGB"
            assert 0 < found.width * found.height <= MAX_PIXELS
    assert IMAGES / 4 < refused < IMAGES


def rows(path: Path) -> bytes:
    return path.read_bytes()


@pytest.fixture(scope="module")
def tables(course: CourseData) -> list[bytes]:
    verification = course.verification / "verification_dev.csv"
    return [
        rows(course.answers.classification),
        rows(course.answers.verification),
        rows(verification),
        b"\xef\xbb\xbf" + rows(course.answers.classification).replace(b"\n", b"\r\n"),
    ]


def test_damaged_tables_are_read_or_refused(course: CourseData, tables, tmp_path: Path):
    numbers, path = random.Random(0), tmp_path / "damaged.csv"
    files = course.unknown_dev.paths
    outcomes = {"read": 0, "refused": 0, "problems": 0}
    for turn in range(TABLES):
        path.write_bytes(damage(tables[turn % len(tables)], numbers))
        for judge in (
            lambda: read_table(path, ["id", "label"]),
            lambda: read_identities(path, files),
            lambda: submit.score(path, course.answers.classification),
            lambda: submit.score(path, course.answers.verification),
        ):
            try:
                judge()
                outcomes["read"] += 1
            except DataError as error:
                outcomes["refused"] += 1
                assert str(path) in str(error)
                assert "\n" not in str(error)
        problems = submit.check(path, course)
        outcomes["problems"] += bool(problems)
        assert all(str(path) in problem for problem in problems)
    assert min(outcomes.values()) > TABLES / 10
    assert [p.name for p in tmp_path.iterdir()] == ["damaged.csv"]
