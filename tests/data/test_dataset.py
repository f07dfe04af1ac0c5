"""The course as a torchvision ImageFolder: the same images and labels, and the kit's reader."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset
from torchvision.datasets import FakeData, ImageFolder
from torchvision.transforms import v2

from facekit.common.errors import DataError, refusal
from facekit.data.dataset import content_of, labels_of, paths_of
from facekit.data.images import read_rgb
from facekit.data.layout import CourseData
from facekit.data.transforms import Preprocess

SMALL = Preprocess(16)


def contents(course: CourseData, transform) -> str:
    folder = course.train.dataset(transform)
    return content_of(folder, labels_of(folder))


# --- an ImageFolder


@pytest.mark.parametrize("split", ["train", "dev"])
def test_it_is_torchvisions_own_in_all_that_readers_know_of_it(course: CourseData, split: str):
    images = getattr(course, split)
    mine = images.dataset()
    theirs = ImageFolder(images.folder)
    assert isinstance(mine, ImageFolder)
    assert mine.classes == theirs.classes == course.classes
    assert mine.class_to_idx == theirs.class_to_idx
    assert mine.samples == mine.imgs == theirs.samples
    assert mine.targets == theirs.targets == list(images.labels)
    assert [Path(path) for path, _ in mine.samples] == list(images.paths)
    assert len(mine) == len(theirs)
    for index in (0, len(mine) - 1):
        image, label = mine[index]
        assert isinstance(image, Image.Image) and label == theirs[index][1]
        assert ImageChops.difference(image, theirs[index][0]).getbbox() is None


def test_strays_are_no_images_and_no_classes(copy_of_course: Path, course: CourseData):
    folder = CourseData(copy_of_course).train.folder
    shutil.copytree(folder / course.classes[0], folder / ".ipynb_checkpoints")
    photograph = next((folder / course.classes[0]).iterdir())
    shutil.copy(photograph, photograph.with_name("._hidden.jpg"))
    mine = CourseData(copy_of_course).train.dataset()
    assert mine.classes == course.classes
    assert len(mine) == len(course.train) < len(ImageFolder(folder))


def test_a_damaged_image_is_named(copy_of_course: Path):
    images = CourseData(copy_of_course).train
    images.paths[5].write_bytes(b"no image")
    folder = images.dataset(SMALL.transform())
    assert str(images.paths[5]) in refusal(folder.__getitem__, 5)
    with pytest.raises(DataError, match=images.paths[5].name):
        list(DataLoader(folder, batch_size=9, num_workers=1))


@pytest.mark.parametrize("split", ["test", "known", "unknown_dev", "unknown_test"])
def test_a_split_without_classes_is_refused(course: CourseData, split: str):
    images = getattr(course, split)
    told = refusal(images.dataset)
    assert str(images.folder) in told and "train and dev are" in told


@pytest.mark.parametrize("workers", [0, 2])
def test_a_plain_loop_trains_a_small_network(course: CourseData, workers: int):
    torch.manual_seed(0)
    folder = course.train.dataset(SMALL.transform())
    loader = DataLoader(folder, batch_size=12, shuffle=True, num_workers=workers)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, len(folder.classes)))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        total = 0.0
        for images, labels in loader:
            loss = nn.functional.cross_entropy(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() / len(loader)
        losses.append(total)
    assert losses[-1] < losses[0] / 2


# --- what a data set says of itself


def test_labels_and_files_are_found_in_parts_and_sums_of_data_sets(course: CourseData):
    folder = course.train.dataset()
    rows = [7, 3, 20]
    part = Subset(folder, rows)
    both = ConcatDataset([part, folder])
    chosen = [folder.targets[row] for row in rows]
    assert labels_of(folder).tolist() == folder.targets
    assert labels_of(part).tolist() == chosen
    assert labels_of(both).tolist() == chosen + folder.targets
    assert paths_of(part) == [course.train.paths[row] for row in rows]
    assert paths_of(both) == paths_of(part) + list(course.train.paths)
    tensors = TensorDataset(torch.zeros(4, 3, 8, 8), torch.tensor([1, 0, 2, 1]))
    assert labels_of(tensors).tolist() == [1, 0, 2, 1] and paths_of(tensors) == []
    assert paths_of(ConcatDataset([folder, tensors])) == []


class Listed(Dataset):
    def __init__(self, targets) -> None:
        self.targets = targets

    def __len__(self) -> int:
        return 3


@pytest.mark.parametrize("targets", [["a", "b", "c"], [1, 2], [0.5, 1.0, 2.0], [[1], [2], [3]]])
def test_labels_that_are_no_class_indices_are_refused(targets):
    assert "one class index (a whole number) for each of its 3" in refusal(
        labels_of, Listed(targets)
    )


def test_a_data_set_without_a_list_of_labels_is_told_how_to_have_one():
    assert "set self.targets = [...]" in refusal(labels_of, FakeData(3))
    assert "set self.targets = [...]" in refusal(
        labels_of, ConcatDataset([Listed([0, 1, 2]), FakeData(3)])
    )


def flipped(image: torch.Tensor) -> torch.Tensor:
    return image.flip(-1)


def swap(path: Path) -> None:
    """Put another file in its place, of the same name, size and time."""
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_content_tells_files_labels_and_transforms_apart(
    course: CourseData, copy_of_course: Path
):
    plain = contents(course, v2.RandomHorizontalFlip())
    assert plain == contents(course, v2.RandomHorizontalFlip())
    assert plain == contents(CourseData(copy_of_course), v2.RandomHorizontalFlip())
    assert plain != contents(course, v2.RandomHorizontalFlip(0.25))
    assert contents(course, v2.Lambda(flipped)) == contents(course, v2.Lambda(flipped))
    whole = course.train.dataset()
    labels = labels_of(whole)
    part = Subset(whole, range(1, len(whole)))
    assert content_of(part, labels_of(part)) != content_of(whole, labels)
    assert content_of(whole, labels) != content_of(whole, labels.flip(0))
    swap(CourseData(copy_of_course).train.paths[0])
    assert plain != contents(CourseData(copy_of_course), v2.RandomHorizontalFlip())


def test_the_reader_is_the_kits(course: CourseData):
    assert course.train.dataset().loader is read_rgb
