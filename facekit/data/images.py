"""Image files, read safely. Built in notebook 01."""

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from facekit.common.errors import DataError
from facekit.data.background import on_all_cores

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")  # decoders that may run; the name does not decide
MAX_PIXELS = 50_000_000
MAX_BYTES = 200_000_000  # of a file: more than so many pixels take up, uncompressed
MAX_ASPECT = 20  # longer side by shorter: a line of pixels would be resized to a huge image
ORIENTATION = 0x0112  # EXIF: how the camera was held
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow warns of large images from 90 million pixels on; here they are an error before that.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", message="Corrupt EXIF data")  # nothing else of it is used


def read_rgb(path: str | Path, content: bytes | None = None) -> Image.Image:
    """The image as upright 8-bit RGB, whatever it was: grey, CMYK, alpha, 16 bit, turned by EXIF.

    `content` are the bytes of the file, where they were read already. Transparent places become
    white. Of several images in a file it is the first. Raises DataError that names the file when
    it is empty, truncated, no image, or too large: 200 MB, 50 million pixels, or 20 times as long
    as wide (judged before it is decoded).
    """
    try:
        _check_bytes(Path(path).stat().st_size if content is None else len(content))
        file = path if content is None else BytesIO(content)
        with Image.open(file, formats=FORMATS) as image:
            _check_sides(image.width, image.height)
            image.load()  # first the pixels: a file cut short is no image with odd EXIF
            turn = _TURNS.get(orientation_of(image))
            upright = _as_rgb(image)
            return upright if turn is None else upright.transpose(turn)
    except FileNotFoundError as error:
        raise DataError(f"{path}: {missing_file(path)}") from error
    except Exception as error:  # Pillow's decoders raise almost anything on damaged bytes
        raise DataError(f"{path}: cannot read this image ({_reason(path, error)})") from error


def read_content(path: Path) -> bytes:
    """The bytes of an image file. Raises DataError when they are too many, or cannot be read."""
    try:
        _check_bytes(path.stat().st_size)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: {missing_file(path)}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot read this image ({_reason(path, error)})") from error


def missing_file(path: str | Path) -> str:
    """What to say of a file that is not there."""
    return "a link to a file that is not there" if Path(path).is_symlink() else "no such file"


def orientation_of(image: Image.Image) -> int:
    """How the camera was held, 1 ... 8; 1, which is upright, where the EXIF is damaged."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # it is no TIFF, say: the pixels are sound all the same
        return 1


def _check_bytes(count: int) -> None:
    if count > MAX_BYTES:
        raise ValueError(f"a file of {count / 1e6:,.0f} MB is too large")


def _check_sides(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} is too large")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ValueError(f"{width} x {height} is too long for a photograph")


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow would clip 16-bit grey to white
        levels = (np.asarray(image).astype(np.int32) + 128) // 257  # rounded
        image = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _reason(path: str | Path, error: Exception) -> str:
    if Path(path).is_file() and Path(path).stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image, or not of a kind this kit opens"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def fault_of(path: str | Path) -> str:
    """Why an image cannot be read, naming the file; "" where it can."""
    try:
        read_rgb(path)
    except DataError as error:
        return str(error)
    return ""


def find_unreadable(paths: Sequence[Path], progress: bool = False) -> dict[int, str]:
    """Decode every image once, on several threads: which cannot be read, by place, and why."""
    faults = on_all_cores(fault_of, paths, "checking images", progress)
    return {place: fault for place, fault in enumerate(faults) if fault}


def check_readable(paths: Sequence[Path], progress: bool = False) -> None:
    """Raise DataError, with the first bad file and the count, unless every image can be read."""
    refuse_faults(list(find_unreadable(paths, progress).values()))


def refuse_faults(faults: Sequence[str], most: float = 0) -> None:
    """Raise DataError about these errors of single images, if there are more than `most`."""
    if len(faults) > most:
        more = f"; {len(faults)} such images in all" if len(faults) > 1 else ""
        raise DataError(f"{faults[0]}; replace or remove it{more}")


def channel_statistics(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """Mean and spread of red, green and blue in 0 ... 1 over images of any size.

    "std" is that of all pixels, which normalisation wants; "std within" is the mean over images
    of each one's own, which is smaller and often mistaken for it.
    """
    rows = []
    for path in paths:
        pixels = np.asarray(read_rgb(path), np.float64).reshape(-1, 3) / 255
        rows.append((len(pixels), pixels.mean(0), (pixels**2).mean(0), pixels.std(0)))
    counts, means, squares, stds = (np.array(column) for column in zip(*rows, strict=True))
    mean, square = (np.average(part, axis=0, weights=counts) for part in (means, squares))
    return {"mean": mean, "std": np.sqrt(square - mean**2), "std within": stds.mean(0)}
