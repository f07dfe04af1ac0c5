"""The size of the course: FACEKIT_PROFILE decides, else the machine."""

import pytest
import torch

from facekit.common.errors import RecipeError
from facekit.common.machine import Choice
from facekit.sources import profiles
from facekit.sources.profiles import PROFILES


@pytest.fixture
def gpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.fixture
def no_gpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("name", PROFILES)
def test_the_environment_decides_the_profile_and_is_named(monkeypatch, gpu, name):
    monkeypatch.setenv("FACEKIT_PROFILE", name)
    assert profiles.profile() == Choice(PROFILES[name], "FACEKIT_PROFILE")


def test_a_wrong_profile_lists_those_there_are(monkeypatch):
    monkeypatch.setenv("FACEKIT_PROFILE", "enormous")
    with pytest.raises(RecipeError, match="smoke, laptop, gpu, homework"):
        profiles.profile()


def test_a_machine_with_a_gpu_gets_the_larger_profile(monkeypatch, gpu):
    monkeypatch.delenv("FACEKIT_PROFILE", raising=False)
    assert profiles.profile() == (PROFILES["gpu"], "there is a GPU")


def test_a_machine_without_a_gpu_gets_the_smaller_profile(monkeypatch, no_gpu):
    monkeypatch.delenv("FACEKIT_PROFILE", raising=False)
    assert profiles.profile() == (PROFILES["laptop"], "there is no GPU")


def test_an_empty_variable_is_as_good_as_none(monkeypatch, no_gpu):
    monkeypatch.setenv("FACEKIT_PROFILE", "")
    assert profiles.profile().value.name == "laptop"
