"""Every epoch sees each image once; random numbers follow from their key alone."""

import math
from collections import Counter
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facekit.common.errors import RecipeError
from facekit.common.keyed_random import random_numbers
from facekit.data.samplers import EpochSampler, PKSampler, steps_per_epoch


def test_random_numbers_follow_from_their_key_alone() -> None:
    def draw(*key: int) -> torch.Tensor:
        with random_numbers(*key):
            return torch.rand(6)

    torch.manual_seed(1)
    first = draw(4, 5)
    torch.manual_seed(2)
    assert torch.equal(draw(4, 5), first)
    assert not torch.equal(draw(5, 4), first)
    assert not torch.equal(draw(45), first)


def test_random_numbers_leave_the_global_generator_alone_even_after_an_error() -> None:
    before = torch.get_rng_state()
    with random_numbers(0):
        torch.rand(5)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ZeroDivisionError), random_numbers(0):
        torch.rand(5)
        _ = 1 / 0
    assert torch.equal(torch.get_rng_state(), before)


SAMPLERS = {
    "size": st.integers(0, 300),
    "batch_size": st.integers(2, 70),
    "seed": st.integers(0, 2**31),
    "epoch": st.integers(0, 1000),
}


@given(**SAMPLERS)
def test_an_epoch_has_every_image_exactly_once(
    size: int, batch_size: int, seed: int, epoch: int
) -> None:
    batches = list(EpochSampler(size, batch_size, seed, epoch))
    seen = [index for batch in batches for _, index in batch]
    single = size % batch_size == 1  # a last batch of one image is dropped
    assert len(set(seen)) == len(seen) == size - single
    assert set(seen) <= set(range(size))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert all(1 < len(batch) <= batch_size for batch in batches)
    assert {e for batch in batches for e, _ in batch} <= {epoch}
    assert len(batches) == len(EpochSampler(size, batch_size, seed, epoch))
    assert len(batches) == steps_per_epoch(size, batch_size)


@given(**SAMPLERS, data=st.data())
def test_skip_leaves_exactly_the_tail(
    size: int, batch_size: int, seed: int, epoch: int, data: st.DataObject
) -> None:
    whole = list(EpochSampler(size, batch_size, seed, epoch))
    skip = data.draw(st.integers(0, len(whole)))
    tail = EpochSampler(size, batch_size, seed, epoch, skip)
    assert list(tail) == whole[skip:]
    assert len(tail) == len(whole) - skip


@given(**SAMPLERS, fewest=st.integers(2, 40))
def test_only_a_last_batch_too_small_for_all_processes_is_left_out(
    size: int, batch_size: int, seed: int, epoch: int, fewest: int
) -> None:
    whole = list(EpochSampler(size, batch_size, seed, epoch))
    found = list(EpochSampler(size, batch_size, seed, epoch, fewest=fewest))
    short = bool(whole) and len(whole[-1]) < min(fewest, batch_size)
    assert found == whole[: len(whole) - short]


def test_the_order_depends_on_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [i for _, i in chain(*EpochSampler(100, 10, seed, epoch))]

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


# --- P x K batches


def epoch_of(labels, classes, each, seed=0, epoch=0, skip=0) -> list[list[int]]:
    sampler = PKSampler(labels, classes, each, seed, epoch, skip)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert all(key == epoch for batch in batches for key, _ in batch)
    return [[index for _, index in batch] for batch in batches]


@given(
    counts=st.lists(st.integers(1, 23), max_size=12),
    classes=st.integers(2, 6),
    each=st.integers(2, 6),
    seed=st.integers(0, 99),
)
@settings(max_examples=400)
def test_an_epoch_has_every_image_once_in_groups_of_a_class(counts, classes, each, seed):
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    labels = [labels[index] for index in order.tolist()]
    batches = epoch_of(labels, classes, each, seed, epoch=3)
    assert sorted(index for batch in batches for index in batch) == list(range(len(labels)))
    groups = Counter()
    for batch in batches:
        found = Counter(labels[index] for index in batch)
        groups.update(found.keys())
        for label, images_of_class in found.items():
            assert images_of_class <= each + (each == 2)
            assert images_of_class >= min(2, counts[label])
    # As few groups as the counts allow, and no fewer classes in a batch than they must have.
    for label, count in enumerate(counts):
        assert groups[label] == min(math.ceil(count / each), max(1, count // 2))
    sizes = [len({labels[index] for index in batch}) for batch in batches]
    if batches:
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= classes + (classes == 2)
        most = max(groups.values())
        assert len(batches) == max(most, min(-(-sum(sizes) // classes), max(1, sum(sizes) // 2)))


def test_even_counts_give_full_batches_of_p_by_k():
    labels = [label for label in range(12) for _ in range(20)]
    batches = epoch_of(labels, 4, 5)
    assert len(batches) == 12
    for batch in batches:
        assert sorted(Counter(labels[index] for index in batch).values()) == [5] * 4


def test_batches_of_the_sampler_suit_losses_on_pairs():
    labels = torch.arange(10).repeat_interleave(7)
    for batch in epoch_of(labels.tolist(), 3, 3):
        same = labels[batch][:, None] == labels[batch]
        assert (same.sum(1) >= 2).all()
        assert (~same).any(1).all()


def test_batches_follow_from_seed_and_epoch_alone():
    labels = [label for label in range(9) for _ in range(7)]
    torch.manual_seed(1)
    first = epoch_of(labels, 4, 3, seed=5, epoch=2)
    state = torch.get_rng_state()
    assert epoch_of(labels, 4, 3, seed=5, epoch=2) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert epoch_of(labels, 4, 3, seed=5, epoch=3) != first
    assert epoch_of(labels, 4, 3, seed=6, epoch=2) != first
    for skip in range(len(first) + 1):
        assert epoch_of(labels, 4, 3, seed=5, epoch=2, skip=skip) == first[skip:]


def test_classes_meet_other_classes_and_images_others_in_each_epoch():
    labels = [label for label in range(8) for _ in range(8)]
    partners: dict[int, set[int]] = {index: set() for index in range(64)}
    for epoch in range(200):
        for batch in epoch_of(labels, 2, 4, epoch=epoch):
            for index in batch:
                partners[index].update(batch)
    assert all(len(found) == 64 for found in partners.values())


@pytest.mark.parametrize(
    ("classes", "each", "text"),
    [(1, 4, "2 classes or more, not 1"), (4, 1, "2 images of each class or more, not 1")],
)
def test_a_batch_that_has_no_pairs_is_refused(classes, each, text):
    with pytest.raises(RecipeError, match=text):
        PKSampler([0, 0, 1, 1], classes, each, seed=0, epoch=0)
