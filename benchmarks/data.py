"""How many augmented batches a second of processor time makes, on one thread.

    python benchmarks/data.py [--folder DIR] [--count 512] [--rounds 7] [--out results/data.json]

Every row makes normalised float32 batches of the same JPEG files, one row after the other in every
round, so that whatever else the machine does hits all alike. A ratio is the median over the rounds
of a row's pictures a second by the teaching path's of the same round; the teaching path against
itself shows the noise. The pictures are rendered, or of any folder of class folders.
"""

import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sized
from importlib.util import find_spec
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import torch
import typer
from machine import Report, steps
from people import DIFFICULTY
from torch.utils.data import DataLoader
from torchvision import transforms as v1
from torchvision.datasets import ImageFolder

from facekit.data import transforms_cpu, transforms_gpu
from facekit.data.cache import open_cache
from facekit.data.pixels import stored_side
from facekit.data.transform_params import sample_params
from facekit.data.transforms import GREY_LEVEL, Augment, Preprocess
from facekit.sources.writers import render_chunk

BATCH = 128
PIXELS = 224  # of rendered pictures
SETS = {
    "the kit's": Augment(crop_scale=0.6, rotation=10, jitter=0.3, grey=0.1, erasing=0.25),
    "crop, flip, jitter": Augment(rotation=0, jitter=0.2, grey=0, erasing=0),
}
TEACHING, AGAIN = "ImageFolder, PIL, v2 (the teaching path)", "the same again (noise)"
MAP = "map, OpenCV"
FFCV = "ffcv, raw"
BARS = {112: 10.0, 224: 4.0}  # the map beside the teaching path
FFCV_BAR = 1.3
AT_LEAST = 0.4  # seconds that a row is measured in a round
Batches = Iterator[Sized]


def render(folder: Path, count: int) -> None:
    """Faces of 16 people as JPEG files, in two class folders."""
    files = [
        (str(folder / f"class{number % 2}" / f"{number:05d}.jpg"), (number % 16, number // 16))
        for number in range(count)
    ]
    for start in steps(range(0, count, 32), "rendering"):
        render_chunk(files[start : start + 32], PIXELS, 0, DIFFICULTY)


def old_transform(augment: Augment, preprocess: Preprocess) -> v1.Compose:
    """The teaching path's changes in torchvision's first transforms."""
    size, jitter = preprocess.size, augment.jitter
    return v1.Compose([
        v1.RandomResizedCrop(size, (augment.crop_scale, 1.0), (0.85, 1.18)),
        *([v1.RandomRotation(augment.rotation, v1.InterpolationMode.BILINEAR, fill=GREY_LEVEL)]
          if augment.rotation else []),
        v1.RandomHorizontalFlip(augment.flip),
        v1.ColorJitter(jitter, jitter, jitter),
        *([v1.RandomGrayscale(augment.grey)] if augment.grey else []),
        v1.ToTensor(),
        v1.Normalize(preprocess.mean, preprocess.std),
        *([v1.RandomErasing(augment.erasing, (0.02, 0.2))] if augment.erasing else []),
    ])  # fmt: skip


def from_files(folder: Path, transform: Callable) -> Batches:
    """ImageFolder behind a DataLoader without workers, for ever."""
    loader = DataLoader(ImageFolder(folder, transform), BATCH, shuffle=True, drop_last=True)
    while True:
        for images, _ in loader:
            yield images


def orders(count: int) -> Iterator[list[tuple[int, int]]]:
    """Keys of batches in a random order, epoch after epoch."""
    for epoch in itertools.count():
        order = np.random.default_rng(epoch).permutation(count).tolist()
        for start in range(0, count - BATCH + 1, BATCH):
            yield [(epoch, index) for index in order[start : start + BATCH]]


def from_map(images: np.ndarray, augment: Augment, preprocess: Preprocess, end) -> Batches:
    """A map's pictures through one of the two back ends; drawing the changes is part of it."""
    # Memory of earlier batches is used again, as the loader does.
    out = torch.empty(BATCH, preprocess.size, preprocess.size, 3)
    for keys in orders(len(images)):
        params = sample_params(augment, preprocess, images.shape[1], 0, keys)
        stored = [images[index] for _, index in keys]
        if end is transforms_gpu:
            yield transforms_gpu.apply(torch.from_numpy(np.stack(stored)), params, preprocess)
        else:
            yield transforms_cpu.apply(stored, params, preprocess, out)


def from_ffcv(folder: Path, cache: Path, size: int, augment: Augment) -> Batches:
    """ffcv's raw format, at the map's side, with its own crop, flip and jitter."""
    from ffcv import fields, loader, transforms, writer
    from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder

    files = ImageFolder(folder)
    side = stored_side([Path(path) for path, _ in files.samples], size, augment)
    files.transform = v1.Compose([v1.Resize(side), v1.CenterCrop(side)])
    beton, preprocess, jitter = cache / f"{side}.beton", Preprocess(size), augment.jitter
    picture = fields.RGBImageField(write_mode="raw")
    kinds = {"image": picture, "label": fields.IntField()}
    writer.DatasetWriter(str(beton), kinds, num_workers=1).from_indexed_dataset(files)
    mean, std = (255 * np.array(values) for values in (preprocess.mean, preprocess.std))
    pipeline = [
        RandomResizedCropRGBImageDecoder((size, size), (augment.crop_scale, 1.0), (0.85, 1.18)),
        transforms.RandomHorizontalFlip(augment.flip),
        transforms.RandomBrightness(jitter, 1.0),
        transforms.RandomContrast(jitter, 1.0),
        transforms.RandomSaturation(jitter, 1.0),
        transforms.NormalizeImage(mean, std, np.float32),
        transforms.ToTensor(),
        transforms.ToTorchImage(),
    ]
    batches = loader.Loader(
        str(beton), BATCH, num_workers=1, order=loader.OrderOption.RANDOM, os_cache=True,
        indices=np.tile(np.arange(len(files)), 8),  # a long epoch: it has costs of its own
        drop_last=True, pipelines={"image": pipeline, "label": None},
    )  # fmt: skip
    while True:
        # A whole epoch: its threads work ahead, and would do so on the next row's time.
        yield range(sum(len(images) for (images,) in batches))


def rate(batches: Batches) -> float:
    """Pictures a second of processor time."""
    made, began = 0, time.process_time()
    while time.process_time() - began < AT_LEAST:
        made += len(next(batches))
    return made / (time.process_time() - began)


def rows_of(folder: Path, cache: Path, size: int, augment: Augment) -> dict[str, Batches]:
    preprocess = Preprocess(size)
    paths = [Path(path) for path, _ in ImageFolder(folder).samples]
    side = stored_side(paths, size, augment)
    images = np.asarray(open_cache(paths, side, cache).images)
    teaching = preprocess.training(augment)
    rows = {
        "ImageFolder, PIL, v1": from_files(folder, old_transform(augment, preprocess)),
        TEACHING: from_files(folder, teaching),
        AGAIN: from_files(folder, teaching),
        MAP: from_map(images, augment, preprocess, transforms_cpu),
        "map, tensors (the GPU's way)": from_map(images, augment, preprocess, transforms_gpu),
    }
    # ffcv has no rotation and no erasing with torchvision's numbers: only where neither is asked.
    if find_spec("ffcv") and not augment.rotation:
        rows[FFCV] = from_ffcv(folder, cache, size, augment)
    return rows


def measure(rows: dict[str, Batches], rounds: int, size: int) -> list[dict]:
    """The rates of all rows, and their ratios to the teaching path's of the same round."""
    rates: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(rounds + 1):  # the first round warms up
        for name, batches in rows.items():
            rates[name].append(rate(batches))
        print(f"{size} px, round {number} of {rounds}", file=sys.stderr)
    table = [_row(name, rates[name], rates[TEACHING]) for name in rows]
    table[list(rows).index(MAP)] |= _verdict(rates[MAP], rates[TEACHING], BARS[size])
    if FFCV in rows:
        name = f"{MAP}, beside ffcv's"
        against = _verdict(rates[MAP], rates[FFCV], FFCV_BAR)
        table.append(_row(name, rates[MAP], rates[FFCV]) | against)
    return table


def _ratios(rates: list[float], others: list[float]) -> list[float]:
    return [a / b for a, b in zip(rates[1:], others[1:], strict=True)]


def _row(name: str, rates: list[float], others: list[float]) -> dict:
    ratios = _ratios(rates, others)
    low, middle, high = quantiles(ratios, n=4)
    row = {"way": name, "pictures per CPU-second": median(rates[1:]), "ratio": middle}
    return row | {"quartiles": f"{low:.2f} ... {high:.2f}"}


def _verdict(rates: list[float], others: list[float], bar: float) -> dict[str, str]:
    met = median(_ratios(rates, others)) >= bar
    return {"bar": f">= {bar:g}", "verdict": "PASS" if met else "missed"}


def main(
    folder: Path | None = None,
    count: int = 512,
    rounds: int = 7,
    out: Path = Path(__file__).parent / "results" / "data.json",
) -> None:
    torch.set_num_threads(1)
    report = Report("data", out, folder=folder, count=count, rounds=rounds)
    with tempfile.TemporaryDirectory() as temporary:
        if folder is None:
            folder = Path(temporary) / "pictures"
            render(folder, count)
        for size, (name, augment) in itertools.product(BARS, SETS.items()):
            rows = rows_of(folder, Path(temporary) / "cache", size, augment)
            report.table(f"{size} px, {name}", measure(rows, rounds, size))
        if not find_spec("ffcv"):
            report.note("ffcv cannot be installed here: it needs OpenCV's and libjpeg's C files")


if __name__ == "__main__":
    typer.run(main)
