"""Every image becomes upright 8-bit RGB or an error that names the file."""

import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facekit.common.errors import DataError
from facekit.data import images
from facekit.data.images import check_readable, find_unreadable, read_rgb
from facekit.data.layout import CourseData

RED, WHITE = (255, 0, 0), (255, 255, 255)


def corners() -> np.ndarray:
    """An image of 24 x 16 whose four quarters differ, so that any turn is seen."""
    image = np.zeros((16, 24, 3), np.uint8)
    image[:8, :12], image[:8, 12:] = (200, 30, 30), (30, 200, 30)
    image[8:, :12], image[8:, 12:] = (30, 30, 200), (210, 210, 60)
    return image


def ramp() -> np.ndarray:
    """All 256 levels of grey."""
    return np.arange(256, dtype=np.uint8).reshape(16, 16)


def largest_difference(image: Image.Image, expected: np.ndarray) -> int:
    """In levels; the image must be RGB and of the expected size."""
    assert image.mode == "RGB"
    found = np.asarray(image)
    assert found.shape == expected.shape
    assert found.dtype == np.uint8
    return int(np.abs(found.astype(int) - expected).max())


def repeat_grey(levels: np.ndarray) -> np.ndarray:
    return np.repeat(levels[..., None], 3, axis=2)


# --- kinds of images


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "WEBP"])
def test_the_content_decides_not_the_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "face.jpg"
    Image.fromarray(repeat_grey(ramp())).save(path, kind, lossless=True)
    assert largest_difference(read_rgb(path), repeat_grey(ramp())) == 0


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grey_is_repeated_in_three_channels(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "grey.jpg"
    Image.fromarray(ramp()).save(path, kind, quality=100)
    assert largest_difference(read_rgb(path), repeat_grey(ramp())) <= (0 if kind == "PNG" else 2)


@pytest.mark.parametrize("progressive", [False, True])
def test_jpegs_keep_their_colours(progressive: bool, tmp_path: Path) -> None:
    path = tmp_path / "face.jpg"
    settings = {"quality": 100, "subsampling": 0, "progressive": progressive}
    Image.fromarray(corners()).save(path, "JPEG", **settings)
    assert largest_difference(read_rgb(path), corners()) <= 3


def test_cmyk_is_read_in_its_true_colours(tmp_path: Path) -> None:
    path = tmp_path / "print.jpg"
    Image.fromarray(corners()).convert("CMYK").save(path, "JPEG", quality=100)
    with Image.open(path) as image:
        assert image.mode == "CMYK"
    assert largest_difference(read_rgb(path), corners()) <= 4


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    path = tmp_path / "bits.png"
    levels = np.where(ramp() > 100, 255, 0).astype(np.uint8)
    Image.fromarray(levels).convert("1", dither=Image.Dither.NONE).save(path)
    assert largest_difference(read_rgb(path), repeat_grey(levels)) == 0


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    image = Image.fromarray(corners()).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    image.save(path)
    assert largest_difference(read_rgb(path), np.asarray(image.convert("RGB"))) == 0
    assert largest_difference(read_rgb(path), corners()) <= 8


def half_transparent(mode: str) -> Image.Image:
    """Left transparent over hidden red or black, right opaque."""
    levels = np.zeros((8, 8, len(mode)), np.uint8)
    levels[..., 0], levels[:, 4:, -1] = 255 if mode == "RGBA" else 0, 255
    return Image.fromarray(levels, mode) if mode == "LA" else Image.fromarray(levels)


@pytest.mark.parametrize(("mode", "opaque"), [("RGBA", RED), ("LA", (0, 0, 0))])
def test_transparent_places_become_white(
    mode: str, opaque: tuple[int, int, int], tmp_path: Path
) -> None:
    path = tmp_path / "alpha.jpg"
    half_transparent(mode).save(path, "PNG")
    expected = np.full((8, 8, 3), WHITE, np.uint8)
    expected[:, 4:] = opaque
    assert largest_difference(read_rgb(path), expected) == 0


def test_a_veil_of_alpha_mixes_with_white(tmp_path: Path) -> None:
    path = tmp_path / "veil.png"
    Image.new("RGBA", (4, 4), (0, 0, 0, 128)).save(path)
    assert largest_difference(read_rgb(path), np.full((4, 4, 3), 127, np.uint8)) <= 1


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_becomes_white(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "palette.jpg"
    image = Image.new("P", (8, 8))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (4, 0, 8, 8))
    image.save(path, kind, transparency=0)
    expected = np.full((8, 8, 3), WHITE, np.uint8)
    expected[:, 4:] = (0, 0, 255)
    assert largest_difference(read_rgb(path), expected) == 0


def test_grey_of_16_bits_keeps_its_brightness(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    deep = (np.arange(256, dtype=np.uint32) * 257).astype(np.uint16).reshape(16, 16)
    Image.fromarray(deep).save(path)
    with Image.open(path) as image:
        assert image.mode.startswith("I")
    assert largest_difference(read_rgb(path), repeat_grey(ramp())) <= 1


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_exif_orientation_is_set_upright(turn: int, tmp_path: Path) -> None:
    upright = corners()
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[turn]
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = turn
    image = Image.fromarray(np.ascontiguousarray(stored))
    image.save(path, "JPEG", quality=100, subsampling=0, exif=exif)
    assert largest_difference(read_rgb(path), upright) <= 3


def test_of_two_images_in_a_phones_jpeg_the_first_is_read(tmp_path: Path) -> None:
    first, second = Image.fromarray(corners()), Image.new("RGB", (24, 16), "red")
    path = tmp_path / "phone.jpg"
    first.save(path, "MPO", save_all=True, append_images=[second], quality=100, subsampling=0)
    assert largest_difference(read_rgb(path), corners()) <= 3


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif", [b"no TIFF at all", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x09"]
)
def test_of_damaged_exif_the_pixels_are_read_as_they_lie(
    kind: str, exif: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "downloaded.jpg"
    Image.fromarray(corners()).save(path, kind, exif=b"Exif\0\0" + exif, lossless=True)
    assert largest_difference(read_rgb(path), corners()) == 0


# --- what cannot be read


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims to be large and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0" * 99))


def jpeg_bytes(course: CourseData) -> bytes:
    return course.train.paths[0].read_bytes()


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "zero bytes": lambda jpeg: b"",
    "the first bytes": lambda jpeg: jpeg[:200],
    "half": lambda jpeg: jpeg[: len(jpeg) // 2],
    "all but the last bytes": lambda jpeg: jpeg[:-60],
    "HTML": lambda jpeg: b"<!DOCTYPE html><html><body>quota exceeded</body></html>",
    "AppleDouble": lambda jpeg: b"\x00\x05\x16\x07\x00\x02\x00\x00" + bytes(60),
    "header of 7100 x 7100": lambda jpeg: png_header(7100, 7100),
    "header of 10000 x 10000": lambda jpeg: png_header(10_000, 10_000),
    "header of 65000 x 65000": lambda jpeg: png_header(65_000, 65_000),
    "postscript": lambda jpeg: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_image_is_an_error_that_names_the_file(
    fault: str, course: CourseData, tmp_path: Path
) -> None:
    path = tmp_path / "0007_01.jpg"
    path.write_bytes(BROKEN[fault](jpeg_bytes(course)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(DataError) as error:
            read_rgb(path)
    assert str(error.value).startswith(f"{path}: cannot read this image (")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("zero bytes", "empty"), ("HTML", "not an image"), ("header of 7100 x 7100", "too large")],
)
def test_the_error_says_what_is_wrong(
    fault: str, reason: str, course: CourseData, tmp_path: Path
) -> None:
    path = tmp_path / "0007_01.jpg"
    path.write_bytes(BROKEN[fault](jpeg_bytes(course)))
    with pytest.raises(DataError, match=reason):
        read_rgb(path)


def test_a_large_image_within_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (7000, 7000)).save(path)
    assert read_rgb(path).size == (7000, 7000)


@pytest.mark.parametrize("size", [(2000, 1), (3, 2000)])
def test_a_line_of_pixels_is_refused_before_it_is_resized(
    size: tuple[int, int], tmp_path: Path
) -> None:
    Image.new("RGB", size).save(tmp_path / "line.png")
    with pytest.raises(DataError, match=rf"{size[0]} x {size[1]} is too long for a photograph"):
        read_rgb(tmp_path / "line.png")


def test_a_file_too_large_is_refused_unread(
    course: CourseData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.jpg"
    path.write_bytes(jpeg_bytes(course))
    with path.open("r+b") as file:
        file.truncate(images.MAX_BYTES + 1)  # a hole, which takes up no room
    monkeypatch.setattr(Image, "open", None)
    for read in (read_rgb, images.read_content):
        with pytest.raises(DataError, match=r"long\.jpg: .*a file of 200 MB is too large"):
            read(path)


def test_a_link_to_nowhere_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: a link to a file that is not there"):
        read_rgb(tmp_path / "a.jpg")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nobody\.jpg: no such file"):
        read_rgb(tmp_path / "nobody.jpg")


def test_junk_after_the_image_does_no_harm(course: CourseData, tmp_path: Path) -> None:
    path = tmp_path / "long.jpg"
    path.write_bytes(jpeg_bytes(course) + b"junk" * 20)
    expected = np.asarray(read_rgb(course.train.paths[0]))
    assert largest_difference(read_rgb(path), expected) == 0


def test_all_broken_images_are_found_and_no_other(copy_of_course: Path) -> None:
    paths = CourseData(copy_of_course).train.paths
    paths[3].write_bytes(b"")
    paths[20].write_bytes(jpeg_bytes(CourseData(copy_of_course))[:300])
    faults = find_unreadable(paths)
    assert list(faults) == [3, 20]
    assert [fault.split(": ")[0] for fault in faults.values()] == [str(paths[3]), str(paths[20])]
    with pytest.raises(DataError, match=rf"{paths[3].name}: .*2 such images in all"):
        check_readable(paths)
