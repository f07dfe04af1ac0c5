"""A disk that fails while a state is saved: what the tests put in the place of real writers."""

import errno
import os

import torch


def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def half_a_file(state, file):
    file.write(b"PK half of it")
    no_space()


def silent_damage(state, file, save=torch.save):
    save(state, file)
    file.seek(-600, os.SEEK_END)
    file.write(b"\xff" * 32)
