"""Random numbers that follow from a key, such as (run seed, epoch, image), and from nothing else.

So neither the number of threads nor an interruption changes what is drawn.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def stream(*key: int) -> int:
    """A seed for the random numbers of one thing, such as (run seed, epoch, image)."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1  # torch takes 63 bits


@contextmanager
def random_numbers(*key: int) -> Iterator[None]:
    """Inside, torch's random numbers on the CPU follow from `key`; outside, nothing changes."""
    # Not torch.manual_seed: it visits every kind of device, and took as long as an image itself.
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(stream(*key))
    try:
        yield
    finally:
        generator.set_state(before)
