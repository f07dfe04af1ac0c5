"""A loader serves the same pixels from every storage, with any threads, and leaves none behind."""

import gc
import shutil
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from facekit.common import machine
from facekit.common.errors import DataError, RecipeError
from facekit.data import mixing, transforms_cpu, transforms_gpu
from facekit.data.cache import open_cache
from facekit.data.images import read_rgb
from facekit.data.layout import CourseData
from facekit.data.loader import Batch, Loader, choose_workers
from facekit.data.pixels import STORAGES, CacheSettings, choose_storage, stored_side
from facekit.data.samplers import EpochSampler
from facekit.data.transform_params import sample_params
from facekit.data.transforms import Augment, Preprocess

EVERYTHING = Augment(shift=0.1, shear=5.0, random_steps=2, blur=0.5, mixup=0.3, cutmix=0.5)
ODD = Preprocess(24, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def make(
    course: CourseData,
    cache: Path | None,
    augment=EVERYTHING,
    *,
    storage: str | None = None,
    preprocess: Preprocess = ODD,
    device: torch.device = CPU,
    seed: int = 3,
    workers: int | None = None,
) -> Loader:
    return Loader(
        course.train.paths,
        course.train.labels,
        preprocess,
        device,
        augment=augment,
        seed=seed,
        workers=workers,
        cache=CacheSettings(cache, storage, progress=False),
    )


def keys(size: int = 8, epoch: int = 1) -> list[list[tuple[int, int]]]:
    return list(EpochSampler(36, size, seed=3, epoch=epoch))


def same(first: Batch, second: Batch) -> bool:
    """Bit for bit."""
    return all(
        (a is None and b is None) or torch.equal(a, b) for a, b in zip(first, second, strict=True)
    )


def threads() -> list[threading.Thread]:
    """Those of loaders, old ones collected."""
    gc.collect()
    return [thread for thread in threading.enumerate() if thread.name == "facekit"]


# --- what is served


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("size", [24, 32, 40])
def test_without_augmentation_it_is_the_teaching_path_to_the_bit(
    course: CourseData, cache: Path, storage: str, size: int
) -> None:
    preprocess = Preprocess(size, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    loader = make(course, cache, None, storage=storage, preprocess=preprocess)
    folder = ImageFolder(course.train.folder, preprocess.transform(), loader=read_rgb)
    count = 0
    for batch, (images, labels) in zip(
        loader.in_order(10), DataLoader(folder, batch_size=10), strict=True
    ):
        assert same(batch, Batch(images, labels, None, None))
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        count += len(labels)
    assert count == len(loader.paths) == 36


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_neither_storage_nor_workers_change_a_bit(
    course: CourseData, cache: Path, storage: str, workers: int
) -> None:
    expected = list(make(course, cache, workers=0, storage="memmap").batches(keys()))
    loader = make(course, cache, workers=workers, storage=storage)
    found = list(loader.batches(keys()))
    assert loader.storage == (storage, "asked for")
    assert len(found) == len(expected) == 5
    assert all(map(same, found, expected))
    assert any(batch.targets_b is not None for batch in found)


def test_a_batch_is_drawn_changed_and_mixed(course: CourseData, cache: Path) -> None:
    for batch, wanted in zip(make(course, cache).batches(keys()), keys(), strict=True):
        rows = [index for _, index in wanted]
        params = sample_params(EVERYTHING, ODD, 27, 3, wanted)
        stored = open_cache(course.train.paths, 27, cache, progress=False).images[rows]
        images = transforms_cpu.apply(stored, params, ODD)
        labels = torch.tensor(course.train.labels)[rows]
        assert same(batch, mixing.mix(images, labels, params))
        assert batch.images.shape == (len(rows), 3, 24, 24)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)


@given(size=st.integers(2, 36), epoch=st.integers(0, 9), workers=st.integers(0, 2))
@settings(max_examples=15)
def test_an_image_does_not_depend_on_the_cut_of_the_batches(
    course: CourseData, cache: Path, size: int, epoch: int, workers: int
) -> None:
    loader = make(course, cache, Augment(), workers=workers)
    (whole,) = loader.batches([[(epoch, index) for index in range(36)]])
    for batch, wanted in zip(loader.batches(keys(size, epoch)), keys(size, epoch), strict=True):
        rows = [index for _, index in wanted]
        assert torch.equal(batch.images, whole.images[rows])
        assert torch.equal(batch.labels, whole.labels[rows])


def test_epochs_and_seeds_differ(course: CourseData, cache: Path) -> None:
    first, later = make(course, cache).batches([[(0, 1), (0, 2)], [(1, 1), (1, 2)]])
    (other,) = make(course, cache, seed=4).batches([[(0, 1), (0, 2)]])
    assert not torch.equal(first.images, later.images)
    assert not torch.equal(first.images, other.images)


def test_the_augmentation_may_change_between_epochs(course: CourseData, cache: Path) -> None:
    loader, flipped = make(course, cache), Augment(1.0, 0.5, 0, 0, 0, 0)
    before = list(loader.batches(keys()))
    loader.augment = flipped
    expected = make(course, cache, flipped).batches(keys())
    found = list(loader.batches(keys()))
    assert all(map(same, found, expected))
    assert not any(map(same, found, before))


def test_unknown_labels_are_minus_one(course: CourseData, cache: Path) -> None:
    settings = CacheSettings(cache, progress=False)
    loader = Loader(course.test.paths, None, ODD, CPU, cache=settings)
    labels = torch.cat([batch.labels for batch in loader.in_order(5)])
    assert labels.tolist() == [-1] * len(course.test)


def test_loaders_serve_side_by_side(course: CourseData, cache: Path) -> None:
    train, judge = make(course, cache), make(course, cache, None)
    expected = [(a, b) for a, b in zip(train.batches(keys()), judge.batches(keys()), strict=True)]
    for found, (a, b) in zip(train.batches(keys()), expected, strict=True):
        judged = list(judge.batches(keys()))  # a whole evaluation within an epoch
        assert same(found, a)
        assert any(same(batch, b) for batch in judged)


def test_the_content_follows_the_data(copy_of_course: Path, cache: Path) -> None:
    data = CourseData(copy_of_course)
    contents = {make(data, cache, storage=storage).content for storage in ("memmap", "files")}
    assert len(contents) == 1
    shutil.copy(data.train.paths[0], data.train.paths[1])
    assert make(data, cache).content not in contents


def test_the_global_random_numbers_are_left_alone(course: CourseData, cache: Path) -> None:
    before = torch.get_rng_state()
    _ = list(make(course, cache, workers=0).batches(keys()))
    assert torch.equal(torch.get_rng_state(), before)


# --- what is chosen


def test_a_storage_is_chosen_by_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**9, 2 * 10**9))
    monkeypatch.setattr(machine, "free_memory", lambda: 10**12)
    fits = int(0.5 * 10**9 / (100 * 100 * 3))
    assert choose_storage(fits, 100, gpu).value == "gpu"
    assert choose_storage(fits + 1, 100, gpu).value == "memmap"
    assert "at most half of the 1.0 GB free" in choose_storage(fits, 100, gpu).reason
    assert choose_storage(1, 1, CPU).value == "memmap"
    assert choose_storage(1, 1, torch.device("mps")).value == "memmap"


HOMEWORK = 7001 * 20  # training images
SIDES = 128, 224  # as they are stored for a run at 112, and at 224 pixels
MACHINES = [  # GB free on the GPU and in memory, and where the images of either run are then
    ("T4 on Colab", 14.7, 11.5, "gpu", "files"),
    ("one of two T4 on Kaggle", 14.7, 29, "gpu", "memmap"),  # if its disk has room for it
    ("a laptop of 8 GB", None, 6, "files", "files"),
    ("a server without a GPU", None, 60, "memmap", "memmap"),
    ("H100", 79, 120, "gpu", "gpu"),
]


@pytest.mark.parametrize(("name", "gpu", "memory", "small", "large"), MACHINES)
def test_the_homework_is_stored_by_what_a_machine_has(
    name: str, gpu: float | None, memory: float, small: str, large: str, monkeypatch
) -> None:
    free = int((gpu or 0) * 1e9)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    monkeypatch.setattr(machine, "free_memory", lambda: memory * 1e9)
    device = torch.device("cuda", 0) if gpu else CPU
    for side, wanted in zip(SIDES, (small, large), strict=True):
        chosen = choose_storage(HOMEWORK, side, device)
        assert chosen.value == wanted, (name, side, chosen.reason)


@pytest.mark.parametrize(
    ("storage", "device", "cores", "workers"),
    [
        ("memmap", "cpu", 1, 0),
        ("memmap", "cpu", 8, 1),
        ("files", "cpu", 8, 1),
        ("memmap", "cuda", 8, 1),
        ("gpu", "cuda", 1, 1),
        ("files", "cuda", 6, 6),
        ("files", "cuda", 64, 16),
    ],
)
def test_workers_are_chosen_by_the_cores(
    storage: str, device: str, cores: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facekit.data.loader.count_cores", lambda: cores)
    assert choose_workers(storage, torch.device(device)).value == workers


@pytest.mark.parametrize(
    ("side", "augment", "expected"),
    [(300, Augment(), 256), (230, Augment(), 230), (96, Augment(), 96), (300, None, 224)],
)
def test_training_images_are_stored_larger_but_not_larger_than_they_are(
    side: int, augment: Augment | None, expected: int, tmp_path: Path
) -> None:
    Image.new("RGB", (side + 9, side)).save(tmp_path / "face.png")
    (tmp_path / "broken.png").write_bytes(b"")
    paths = [tmp_path / "broken.png", tmp_path / "face.png"]
    assert stored_side(paths, 224, augment) == expected


@pytest.mark.parametrize("count", [3, 50])
def test_one_small_image_does_not_decide_for_all(count: int, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("RGB", (200, 200) if number else (20, 20)).save(path)
    assert stored_side(paths, 48, Augment()) == 55


def test_where_the_map_has_no_room_files_are_decoded_every_time(
    course: CourseData, tmp_path: Path, cache: Path
) -> None:
    (tmp_path / "full").write_text("no folder")
    loader = make(course, tmp_path / "full")
    assert loader.storage.value == "files"
    assert "no room for decoded images" in loader.storage.reason
    expected = make(course, cache)
    assert loader.content == expected.content
    assert all(map(same, loader.batches(keys()), expected.batches(keys())))


def test_the_cache_is_in_the_workspace_unless_named(
    course: CourseData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path / "here"))
    make(course, None)
    assert len(list((tmp_path / "here").glob("*.checksums.npy"))) == 1


def test_an_unknown_storage_is_refused(course: CourseData, cache: Path) -> None:
    with pytest.raises(RecipeError, match="no storage 'ram'; choose one of: gpu, memmap, files"):
        make(course, cache, storage="ram")


# --- how it ends


def leave_by(way: str, batches: Iterator[Batch]) -> Iterator[Batch] | None:
    for number, _ in enumerate(batches):
        if number == 1 and way == "close":
            batches.close()
        elif number == 1 and way == "held":  # as by a traceback that a notebook keeps
            return batches
        elif number == 1 and way == "break":
            break
        elif number == 1:
            raise {"error": ValueError, "interrupt": KeyboardInterrupt}[way]
    return None


@pytest.mark.parametrize("way", ["break", "close", "error", "interrupt", "held"])
@pytest.mark.parametrize("workers", [1, 3])
def test_whoever_leaves_early_leaves_no_thread(
    course: CourseData, cache: Path, way: str, workers: int
) -> None:
    asked: list[int] = []
    endless = (asked.append(0) or [(0, 1), (0, 2)] for _ in count())
    loader = make(course, cache, workers=workers)
    held = None
    with suppress(ValueError, KeyboardInterrupt):
        held = leave_by(way, loader.batches(endless))
    assert (held is not None) == (way == "held")
    del held  # until then, its threads are there and idle
    assert threads() == []
    assert len(asked) <= 2 + workers + 1


def test_an_error_in_the_background_arrives_as_it_was(copy_of_course: Path, cache: Path) -> None:
    data = CourseData(copy_of_course)
    for workers in (0, 1, 3):
        loader = make(data, cache, storage="files", workers=workers)
        path = data.train.paths[17]
        path.rename(path.with_suffix(".away"))
        with pytest.raises(DataError, match=rf"{path.name}: no such file"):
            list(loader.in_order(5))
        path.with_suffix(".away").rename(path)
        assert threads() == []
        assert len(list(loader.in_order(5))) == 8  # and the loader still serves


def test_an_error_in_the_order_arrives_as_it_was(course: CourseData, cache: Path) -> None:
    def order() -> Iterator:
        yield [(0, 1)]
        raise LookupError("no more")

    for workers in (0, 2):
        with pytest.raises(LookupError, match="no more"):
            list(make(course, cache, workers=workers).batches(order()))
        assert threads() == []


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_only_a_few_batches_are_alive_at_once(
    course: CourseData, cache: Path, workers: int
) -> None:
    loader = make(course, cache, workers=workers)
    most, seen = 0, []
    for epoch in range(4):
        for batch in loader.batches(keys(3, epoch)):
            seen.append(weakref.ref(batch.images))
            most = max(most, sum(ref() is not None for ref in seen))
    del batch
    assert most <= 2  # this one and, while it is replaced, the one before
    assert sum(ref() is not None for ref in seen) == 0


@pytest.mark.parametrize("augment", [Augment(), None])
def test_memory_is_used_again_when_nobody_holds_the_batch(
    course: CourseData, cache: Path, augment: Augment | None
) -> None:
    loader = make(course, cache, augment, workers=0)
    places = {b.images.data_ptr() for epoch in range(5) for b in loader.batches(keys(7, epoch))}
    assert len(places) <= 3
    held = [batch.images[1:, :2] for batch in loader.batches(keys(7))]  # views hold it as well
    copies = [images.clone() for images in held]
    _ = list(loader.batches(keys(7, epoch=2)))
    assert all(map(torch.equal, held, copies))


# --- on a GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("augment", [EVERYTHING, None])
def test_on_a_gpu_all_storages_serve_what_the_cpu_does(
    course: CourseData, cache: Path, augment: Augment | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_tensors(stored, params, preprocess, out):  # OpenCV rounds to whole levels
        return transforms_gpu.apply(torch.from_numpy(np.stack(stored)), params, preprocess)

    monkeypatch.setattr(transforms_cpu, "apply", by_tensors)
    expected = list(make(course, cache, augment).batches(keys()))
    first = None
    for storage in STORAGES:
        loader = make(course, cache, augment, storage=storage, device=torch.device("cuda"))
        found = list(loader.batches(keys()))
        first = first or found
        assert all(map(same, found, first))
        for batch, wanted in zip(found, expected, strict=True):
            assert batch.images.device.type == "cuda"
            assert torch.equal(batch.labels.cpu(), wanted.labels)
            assert torch.allclose(batch.images.cpu(), wanted.images, atol=1e-3)
