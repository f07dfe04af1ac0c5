"""Random numbers that follow from what they are for, not from when they are asked for.

A generator with hidden state gives other numbers when a batch is cut differently, a thread more
works, or a run is interrupted. Here every number is a hash of a key (who, which photograph; or run
seed, epoch, image) and of a name ("nose_width"), so it can be drawn again anywhere, in any order.
"""

from __future__ import annotations

import hashlib
import math
import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

Table = dict[str, tuple[float, float]]

GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # the odd number nearest 2**64 / golden ratio, as int64
STIR_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
STIR_2 = 0x94D049BB133111EB - (1 << 64)


def shift_right(x: Tensor, bits: int) -> Tensor:
    """Shift int64 right and fill with zeros; `>>` alone would copy the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def scramble(x: Tensor) -> Tensor:
    """Hash int64 to int64 (splitmix64): inputs that differ in one bit give unrelated outputs."""
    x = x + GOLDEN
    x = (x ^ shift_right(x, 30)) * STIR_1
    x = (x ^ shift_right(x, 27)) * STIR_2
    return x ^ shift_right(x, 31)


def to_unit(bits: Tensor) -> Tensor:
    """Turn hashed int64 into float64 in [0, 1)."""
    return shift_right(bits, 11).double() * 2.0**-53


class Draws:
    """Named draws for N keys at once; every method returns one value per key, float64 (N,).

    In double precision, because the last digit of an exponential or a sine may depend on how a
    batch is cut into vectors; rounded to single in the end, what is drawn does not.
    """

    def __init__(self, seed: int, *keys: Tensor) -> None:
        """`keys`: int64 (N,) each, such as the person, or the person and the shot."""
        start = torch.tensor(seed % (1 << 63), device=keys[0].device)
        self.state = scramble(start)
        for key in keys:
            self.state = scramble(self.state ^ key)  # (N,)

    def bits(self, *names: str) -> Tensor:
        """64 random bits for each key and name, int64 (N, names)."""
        codes = [zlib.crc32(name.encode()) for name in names]
        return scramble(self.state[:, None] ^ torch.tensor(codes, device=self.state.device))

    def columns(self, table: Table) -> tuple[Tensor, Tensor]:
        """The two columns of a table, float64 (names,) each."""
        pairs = torch.tensor(list(table.values()), dtype=torch.float64, device=self.state.device)
        return pairs[:, 0], pairs[:, 1]

    def uniforms(self, ranges: Table) -> dict[str, Tensor]:
        """Evenly between the two numbers given for each name."""
        low, high = self.columns(ranges)
        values = low + (high - low) * to_unit(self.bits(*ranges))  # (N, names)
        return dict(zip(ranges, values.unbind(1), strict=True))

    def normals(self, bells: Table) -> dict[str, Tensor]:
        """Bell-shaped with the mean and deviation given for each name, within 3.5 deviations.

        The sum of four 16-bit numbers: nearly a bell, and exact on every machine, where a
        logarithm or an inverse error function may differ in the last digit.
        """
        bits = self.bits(*bells)
        total = sum((bits >> shift) & 0xFFFF for shift in (0, 16, 32, 48)) - 2 * 0xFFFF
        mean, spread = self.columns(bells)
        values = mean + spread * (total.double() * (math.sqrt(3.0) / 65536.0))
        return dict(zip(bells, values.unbind(1), strict=True))

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Evenly between `low` and `high`."""
        return self.uniforms({name: (low, high)})[name]

    def normal(self, name: str, mean: float = 0.0, spread: float = 1.0) -> Tensor:
        """Bell-shaped around `mean` with standard deviation `spread`."""
        return self.normals({name: (mean, spread)})[name]

    def chance(self, name: str, probability: float | Tensor) -> Tensor:
        """1.0 with the given probability, else 0.0."""
        return (self.uniform(name) < probability).double()

    def choice(self, name: str, weights: list[float]) -> Tensor:
        """An index, int64 (N,), drawn in proportion to `weights`."""
        steps = torch.tensor(weights, dtype=torch.float64).cumsum(0)
        steps = (steps / steps[-1])[:-1].to(self.state.device)
        return torch.bucketize(self.uniform(name), steps)

    def colour(self, name: str, low: float = 0.0, high: float = 1.0) -> Tensor:
        """A colour with independent channels, float64 (N, 3)."""
        return torch.stack(list(self.uniforms({name + c: (low, high) for c in "rgb"}).values()), 1)


def cells(bits: Tensor, height: int, width: int) -> Tensor:
    """A grid of random bits for each of `bits` (N,), int64 (N, 1, height, width)."""
    index = torch.arange(height * width, device=bits.device).view(1, 1, height, width)
    return scramble(bits.view(-1, 1, 1, 1) ^ index)


def stream(*key: object) -> int:
    """A number for one thing, the same in every process: a seed for (run seed, epoch, image)."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1  # torch takes 63 bits


def seed_gpu(device: torch.device, seed: int) -> None:
    """Let a GPU's random numbers follow from `seed`; of another kind of device nothing changes."""
    if device.type == "cuda":
        with torch.cuda.device(device):  # manual_seed is for the current one, which may be another
            torch.cuda.manual_seed(seed)


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


@contextmanager
def all_random_numbers(*key: int) -> Iterator[None]:
    """Like `random_numbers`, and those of `numpy.random` and of Python's `random`, too."""
    python_before = random.getstate()
    numpy_before = np.random.get_state()
    random.seed(stream(*key))
    np.random.seed(stream(*key) % 2**32)  # it takes 32 bits
    try:
        with random_numbers(*key):
            yield
    finally:
        random.setstate(python_before)
        np.random.set_state(numpy_before)
