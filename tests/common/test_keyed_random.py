"""Random numbers that follow from a key, on the device that is meant."""

from contextlib import contextmanager

import torch

from facekit.common import keyed_random


def test_the_gpu_that_is_seeded_is_the_one_that_is_named(monkeypatch):
    current = [torch.device("cuda", 0)]
    seeded = []

    @contextmanager
    def device(wanted):
        current.append(wanted)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: seeded.append((current[-1], seed)))
    keyed_random.seed_gpu(torch.device("cuda", 1), 7)
    keyed_random.seed_gpu(torch.device("cpu"), 8)
    assert seeded == [(torch.device("cuda", 1), 7)]
