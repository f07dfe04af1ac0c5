"""A reader's own transform or DataLoader: the same images each time, or one clear sentence."""

import multiprocessing
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    random_split,
)
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from facekit.common.errors import BatchError, DataError, FacekitError, RunError, refusal
from facekit.data import own_loader
from facekit.data.layout import CourseData
from facekit.data.loader import Loader
from facekit.data.mixing import Batch
from facekit.data.own_loader import OwnLoader, choose_processes
from facekit.data.pixels import CacheSettings
from facekit.data.samplers import EpochSampler, PKSampler
from facekit.data.transforms import Preprocess

ODD = Preprocess(24, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
CPU = torch.device("cpu")
USUAL = v2.Compose(
    [
        v2.RandomResizedCrop(24, scale=(0.6, 1.0)),
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(0.3, 0.3, 0.3),
    ]
)


def unchanged(image: torch.Tensor) -> torch.Tensor:
    return image


def noisy(image: torch.Tensor) -> torch.Tensor:
    """Draws of all three kinds of random numbers."""
    image = image.float() / 255
    image = image * random.uniform(0.5, 1) * float(np.random.uniform(0.5, 1))
    return image * (0.5 + 0.5 * torch.rand(3, 1, 1))


def own(course: CourseData, transform: Callable = noisy, workers: int = 0, seed=3) -> OwnLoader:
    return OwnLoader.from_transform(course.train, transform, ODD, CPU, seed, workers)


def keys(epoch: int = 1, skip: int = 0) -> list[list[tuple[int, int]]]:
    return list(EpochSampler(36, 8, seed=3, epoch=epoch, skip=skip))


def same(first: Batch, second: Batch) -> bool:
    """Bit for bit."""
    return torch.equal(first.images, second.images) and torch.equal(first.labels, second.labels)


def random_states() -> list:
    state = np.random.get_state()
    return [torch.get_rng_state().tolist(), random.getstate(), state[1].tolist(), state[2]]


# --- what is served


def test_without_a_change_it_is_the_kits_own_loader_to_the_bit(course: CourseData, cache: Path):
    train = course.train
    kit = Loader(train.paths, train.labels, ODD, CPU, cache=CacheSettings(cache, progress=False))
    mine = own(course, unchanged)
    assert torch.equal(mine.labels, kit.labels) and mine.labels.dtype == kit.labels.dtype
    assert list(mine.paths) == list(kit.paths)
    assert mine.device == kit.device and mine.bad == {}
    for batch, wanted in zip(mine.in_order(10), kit.in_order(10), strict=True):
        assert same(batch, wanted)
        assert batch.images.dtype == wanted.images.dtype
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.targets_b is None and batch.lam is None


@pytest.mark.parametrize("transform", [noisy, USUAL], ids=["function", "v2"])
def test_neither_workers_nor_order_nor_an_interruption_change_an_image(course, transform):
    whole = list(own(course, transform).batches(keys()))
    assert len(whole) == 5 and {batch.images.shape[1:] for batch in whole} == {(3, 24, 24)}
    assert all(map(same, own(course, transform, workers=2).batches(keys()), whole))
    rest = list(own(course, transform, workers=2).batches(keys(skip=2)))
    assert len(rest) == 3 and all(map(same, rest, whole[2:]))
    backwards = list(own(course, transform).batches([batch[::-1] for batch in keys()[::-1]]))
    for batch, wanted in zip(backwards, whole[::-1], strict=True):
        assert same(batch, Batch(wanted.images.flip(0), wanted.labels.flip(0)))


def test_epochs_seeds_and_images_have_random_numbers_of_their_own(course: CourseData):
    loader = own(course)
    (first,) = loader.batches([[(1, 0)]])
    (again,) = loader.batches([[(1, 0)]])
    (later,) = loader.batches([[(2, 0)]])
    (other,) = own(course, seed=4).batches([[(1, 0)]])
    assert same(first, again)
    assert not same(first, later) and not same(first, other)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_callers_random_numbers_stay_as_they_were(course: CourseData, workers: int):
    before = random_states()
    list(own(course, workers=workers).batches(keys()[:2]))
    assert random_states() == before


def test_batches_by_classes_come_as_asked(course: CourseData):
    loader = own(course)
    wanted = list(PKSampler(loader.labels.tolist(), 3, 2, seed=0, epoch=1))
    for batch, part in zip(loader.batches(iter(wanted)), wanted, strict=True):
        assert batch.labels.tolist() == [course.train.labels[index] for _, index in part]
    assert list(loader.batches([])) == []


@pytest.mark.parametrize(
    "transform",
    [v2.ToPILImage(), v2.ToDtype(torch.float32, scale=True), v2.ToDtype(torch.float64, True)],
    ids=["PIL", "float32", "float64"],
)
def test_other_kinds_of_images_are_taken(course: CourseData, transform):
    (plain,) = own(course, unchanged).batches(keys()[:1])
    (batch,) = own(course, transform).batches(keys()[:1])
    assert batch.images.dtype == torch.float32
    assert torch.allclose(batch.images, plain.images, atol=1e-5)


def test_whoever_stops_asking_leaves_no_process_behind(course: CourseData):
    batches = own(course, workers=2).batches(keys() * 5)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert not multiprocessing.active_children()


def test_an_interrupt_that_is_kept_keeps_no_process(course: CourseData):
    def interrupted():
        yield from keys()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as kept:
        list(own(course, workers=1).batches(interrupted()))
    assert kept.value and not multiprocessing.active_children()


# --- the reader's own DataLoader


def tensors(images: torch.Tensor, labels: list[int] | None = None) -> TensorDataset:
    return TensorDataset(images, torch.tensor(labels or [0, 1] * (len(images) // 2)))


def taken(dataloader: DataLoader) -> OwnLoader:
    return OwnLoader.from_dataloader(dataloader, ODD, CPU, seed=3)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataloader_gives_its_images_in_the_kits_order(course: CourseData, workers: int):
    transform = v2.Compose([v2.Resize(24), v2.CenterCrop(24), v2.ToImage(), noisy])
    folder = ImageFolder(course.train.folder, transform)
    dataloader = DataLoader(folder, batch_size=7, shuffle=True, num_workers=workers)
    loader = taken(dataloader)
    assert (loader.batch_size, loader.workers) == (7, workers)
    assert list(loader.paths) == list(course.train.paths)
    assert loader.labels.tolist() == list(course.train.labels)
    expected = own(course).batches(keys())
    assert all(map(same, loader.batches(keys()), expected))


def test_parts_of_data_sets_and_tensors_are_taken(course: CourseData):
    folder = course.train.dataset(ODD.resize())
    part, _ = random_split(folder, [10, 26], torch.Generator().manual_seed(0))
    batches = list(taken(DataLoader(part, 4)).in_order(4))
    labels = torch.cat([batch.labels for batch in batches]).tolist()
    assert labels == [folder.targets[index] for index in part.indices]
    images = torch.rand(6, 3, 8, 8)
    (batch,) = taken(DataLoader(tensors(images), 6)).in_order(6)
    assert torch.allclose(ODD.invert(batch.images), images, atol=1e-6)


def darkened(items: list) -> tuple:
    images, labels = default_collate(items)
    return images * torch.rand(()), labels


def test_a_collate_fn_draws_the_same_numbers_again(course: CourseData):
    def batches(workers: int) -> list[Batch]:
        folder = tensors(torch.rand(36, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
        dataloader = DataLoader(folder, 8, num_workers=workers, collate_fn=darkened)
        return list(taken(dataloader).batches(keys()))

    first = batches(0)
    assert all(map(same, batches(2), first))
    assert len({float(ODD.invert(batch.images).max()) for batch in first}) == len(first)


# --- refusals

NORMALIZED = v2.Compose(
    [v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.5,) * 3, (0.25,) * 3)]
)


def first_batch(loader: OwnLoader) -> Batch:
    return next(loader.batches(keys()))


def wider(image: torch.Tensor) -> torch.Tensor:
    return v2.functional.resize(image, [24, 24 + int(torch.randint(5, ()))])


def broken(image: torch.Tensor) -> torch.Tensor:
    raise ValueError("these are\ntoo many lines")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("transform", "told"),
    [
        (NORMALIZED, "leave Normalize out; the kit normalises"),
        (v2.ToDtype(torch.float32), "v2.ToDtype(torch.float32, scale=True)"),
        (v2.ToDtype(torch.int64), "values of type int64"),
        (v2.Grayscale(), "v2.Grayscale(3)"),
        (torch.flatten, "a tensor (3, height, width)"),
        (np.asarray, "gave a numpy.ndarray"),
        (print, "gave a NoneType"),
        (wider, "one size and type"),
        (broken, "raised ValueError: these are (in broken, line "),
        (lambda image: image / 0.0 * 0, "values from nan to nan"),
    ],
)
def test_a_transform_that_gives_no_image_gets_one_sentence(course, transform, told, workers):
    loader = own(course, transform, workers)
    with pytest.raises(BatchError) as error:
        first_batch(loader)
    assert told in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_named_and_no_process_stays(copy_of_course: Path, workers: int):
    course = CourseData(copy_of_course)
    course.train.paths[keys()[1][0][1]].write_bytes(b"no image")
    batches = own(course, USUAL, workers).batches(keys())
    next(batches)
    with pytest.raises(DataError) as error:
        next(batches)
    name = str(course.train.paths[keys()[1][0][1]])
    assert str(error.value).startswith(f"{name}: cannot read this image")
    assert len(str(error.value).splitlines()) == 1
    assert not multiprocessing.active_children()


def test_a_broken_transform_is_named_with_its_image(course: CourseData):
    told = refusal(first_batch, own(course, broken))
    assert told.startswith(str(course.train.paths[keys()[0][0][1]]))
    assert told.endswith(f"of {__file__})")


def test_a_worker_that_dies_is_told_of(course: CourseData):
    loader = own(course, sys.exit, workers=1)
    with pytest.raises(RunError, match="has died"):
        first_batch(loader)


def test_a_split_without_labels_and_no_transform_are_refused(course: CourseData):
    told = refusal(OwnLoader.from_transform, course.test, unchanged, ODD, CPU)
    assert "no class is known" in told
    told = refusal(OwnLoader.from_transform, course.train, "flip", ODD, CPU)
    assert "give a function or a v2.Compose" in told
    for workers in (-1, 1.5, True):
        assert "a whole number from 0 on" in refusal(own, course, unchanged, workers)


class Endless(IterableDataset):
    def __iter__(self):
        return iter([])


class Unlabelled(Dataset):
    def __len__(self) -> int:
        return 4


class Wrong(TensorDataset):
    """Lists other labels than it gives."""

    targets = (1, 1, 1, 1)


SOME = TensorDataset(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 2, 3]))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: SOME, "a torch.utils.data.DataLoader is wanted, not a TensorDataset"),
        (lambda: DataLoader(Endless()), "Endless has no data_set[index]"),
        (lambda: DataLoader(Unlabelled()), "set self.targets"),
        (lambda: DataLoader(Unlabelled(), batch_size=None), "has no batch_size"),
        (lambda: DataLoader(SOME, batch_sampler=[[0, 1]]), "has no batch_size"),
        (
            lambda: DataLoader(SOME, sampler=WeightedRandomSampler([1, 1], 2)),
            "WeightedRandomSampler would not be used",
        ),
        (lambda: DataLoader(tensors(torch.zeros(0, 3, 8, 8))), "TensorDataset has no item"),
    ],
)
def test_a_dataloader_that_cannot_be_taken_apart_is_refused(make: Callable, told: str):
    assert told in refusal(taken, make())


def soft(items: list) -> tuple:
    return v2.MixUp(num_classes=4)(*default_collate(items))


@pytest.mark.parametrize(
    ("data_set", "collate", "told"),
    [
        (Wrong(*SOME.tensors), None, "item 0: came with label 0, and the data set lists 1"),
        (SOME, soft, "mixed by the recipe's mixup and cutmix"),
        (SOME, lambda items: default_collate(items[1:]), "the labels of a batch of 4"),
        (SOME, lambda items: [1, 2, 3], "the data set gave a list of 3"),
        (SOME, lambda items: (None, SOME.tensors[1]), "came as a NoneType"),
        (SOME, lambda items: 1 / 0, "collate_fn raised ZeroDivisionError"),
        ([torch.zeros(3, 8, 8)], None, "has no list of its labels"),
    ],
)
def test_batches_that_are_none_are_refused(data_set, collate, told: str):
    def serve() -> None:
        list(taken(DataLoader(data_set, 4, collate_fn=collate)).in_order(4))

    assert told in refusal(serve)


# --- how many processes


def test_the_number_of_processes_is_chosen_and_told(course: CourseData, monkeypatch):
    assert own(course, workers=2).workers == 2
    assert "worker processes: 2 (asked for)" in own(course, workers=2).storage.reason
    monkeypatch.setattr(sys, "platform", "linux")
    cuda = torch.device("cuda")
    for cores, cpu, gpu in ((1, 0, 0), (2, 1, 2), (8, 4, 8), (64, 32, 16)):
        monkeypatch.setattr(own_loader, "count_cores", lambda cores=cores: cores)
        assert choose_processes(None, CPU).value == cpu
        assert choose_processes(None, cuda).value == gpu


def test_where_processes_begin_anew_this_one_prepares_the_batches(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    value, reason = choose_processes(2, CPU)
    assert value == 0 and "would not know what a notebook defines" in reason


def test_every_refusal_is_one_that_the_command_line_can_tell():
    assert issubclass(BatchError, FacekitError) and issubclass(RunError, FacekitError)
