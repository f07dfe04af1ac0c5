"""A world of people who do not exist, modelled by code, photographed as often as you like.

A person is a number, and so is a photograph of that person: `render(person, shot)`. `person` says
who somebody is and `shot` how the photograph was taken; `head`, `hair` and `worn` build that in
space, `light` lights it, `skin` paints it, `camera` finds what is seen, `film` develops it, and
`scene` calls them in order. All randomness comes from `draws`, which hashes (seed, person, shot,
name), so a picture never depends on what else is in its batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from facekit.errors import FaceError
from facekit.faces import camera, head, scene
from facekit.faces import person as people
from facekit.faces import shot as shots
from facekit.faces.draws import Draws
from facekit.faces.head import LANDMARKS
from facekit.faces.person import Traits
from facekit.faces.scene import PARTS
from facekit.faces.shot import DIFFICULTIES
from facekit.faces.surface import facts

__all__ = ["DIFFICULTIES", "LANDMARKS", "PARTS", "landmarks", "parameters", "parts", "render"]

SIZES = (16, 1024)  # pixels
PIXELS_AT_ONCE = {"cpu": 3 << 16, "cuda": 1 << 23}  # what stays in cache; what fits in memory
COLOURS = set(
    "skin hair brow eye rim_colour lipstick key_colour sky_colour ground_colour cast hat_colour "
    "object_colour back_1 back_2 back_3 cloth cloth_2".split()
)
LISTS = {"hair_style": len(people.STYLES), "beard": len(people.BEARDS)}  # numbers of a list
LISTS |= {"hair_style_2": LISTS["hair_style"], "style_now": LISTS["hair_style"]}
LISTS["beard_now"] = LISTS["beard"]
Numbers = Tensor | Sequence[int]
Changes = Mapping[str, Tensor | float]


def as_numbers(name: str, values: Numbers, device: str) -> Tensor:
    """Return `values` as int64 (N,), or say which argument is wrong."""
    try:
        numbers = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise FaceError(f"{name} must hold integers below 2**63, not {values!r:.60}") from None
    if numbers.numel() == 0:
        numbers = numbers.long()
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise FaceError(f"{name} must hold integers, not {numbers.dtype}")
    if numbers.dim() != 1:
        raise FaceError(f"{name} must have one dimension, not shape {tuple(numbers.shape)}")
    if (numbers < 0).any():
        raise FaceError(f"{name} must not be negative, but holds {int(numbers.min())}")
    return numbers.to(device=device, dtype=torch.int64)


def as_device(device: str) -> str:
    """The device, or one clear error where it is not there or cannot calculate in double."""
    try:
        torch.ones(1, device=device, dtype=torch.float64).item()  # what draws need
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise FaceError(
            f"device {device!r} is not there or cannot render, use cpu: {reason}"
        ) from None
    return device


def check(
    person: Numbers, shot: Numbers, device: str, difficulty: str, size: int = SIZES[0]
) -> tuple[Tensor, Tensor]:
    """The two numbers as tensors, or one clear error."""
    if type(size) is not int or not SIZES[0] <= size <= SIZES[1]:
        raise FaceError(f"size must be {SIZES[0]} to {SIZES[1]} pixels, not {size!r}")
    if difficulty not in DIFFICULTIES:
        raise FaceError(f"no difficulty {difficulty!r}; choose one of: {', '.join(DIFFICULTIES)}")
    device = as_device(device)
    person, shot = as_numbers("person", person, device), as_numbers("shot", shot, device)
    if len(person) != len(shot):
        raise FaceError(f"person and shot differ in length: {len(person)} and {len(shot)}")
    return person, shot


def parameters(
    person: Numbers,
    shot: Numbers,
    seed: int = 0,
    difficulty: str = "homework",
    changes: Changes | None = None,
    device: str = "cpu",
) -> tuple[Traits, Traits]:
    """Return who is seen and how, two dicts of tensors (N,) or (N, 3), without rendering.

    `changes` sets parameters by name after they were drawn: one number for all, or one for each.
    """
    person, shot = check(person, shot, device, difficulty)
    if type(seed) is not int:
        raise FaceError(f"seed must be an integer, not {seed!r}")
    given = {name: as_trait(name, value, person) for name, value in (changes or {}).items()}
    who = people.describe(Draws(seed, person), given)
    how = shots.describe(Draws(seed, person, shot), who, difficulty, given)
    unknown = given.keys() - who.keys() - how.keys()
    if unknown:
        names = ", ".join(sorted({**who, **how}))
        raise FaceError(f"no parameter {min(unknown)!r}; there are: {names}")
    return rounded(who), rounded(how)


def rounded(traits: Traits) -> Traits:
    return {k: v.float() if v.is_floating_point() else v for k, v in traits.items()}


def as_trait(name: str, value: Tensor | float, person: Tensor) -> Tensor:
    """A change as a tensor (N,), for a colour (N, 3), or say what is wrong with it.

    A colour is one number for grey, three, or three for each.
    """
    colour = [3] if name in COLOURS else []
    try:
        tensor = torch.as_tensor(value, dtype=torch.float64, device=person.device)
        full = tensor.expand(len(person), *colour)
    except (TypeError, ValueError, RuntimeError):
        shape = f"shape {tuple(torch.as_tensor(value).shape)}" if hasattr(value, "shape") else value
        wanted = f"one number, {'or three, ' if colour else ''}or one for each picture"
        raise FaceError(
            f"changes[{name!r}] is {shape!r:.60} for {len(person)} pictures; give {wanted}"
        ) from None
    limit = LISTS.get(name, 0)
    if not full.isfinite().all() or (limit and not ((full >= 0) & (full < limit)).all()):
        raise FaceError(f"changes[{name!r}] must be {f'0 to {limit - 1}' if limit else 'finite'}")
    return full.long() if limit else full


def batches(
    person: Tensor, shot: Tensor, size: int, seed: int, difficulty: str, changes: Changes | None
) -> Iterator[tuple[Traits, Traits, Draws]]:
    """Cut the work into pieces that fit the processor's cache or the GPU's memory."""
    who, how = parameters(person, shot, seed, difficulty, changes, str(person.device))
    many = max(PIXELS_AT_ONCE.get(person.device.type, 1 << 20) // max(size, 112) ** 2, 1)
    for start in range(0, len(person), many):
        part = slice(start, start + many)
        few = ({k: v[part] for k, v in traits.items()} for traits in (who, how))
        yield *few, Draws(seed, person[part], shot[part])


@torch.no_grad()
def render(
    person: Numbers,
    shot: Numbers,
    size: int = 224,
    device: str = "cpu",
    seed: int = 0,
    difficulty: str = "homework",
    changes: Changes | None = None,
) -> Tensor:
    """Photograph people: `person` and `shot`, N integers each, give uint8 (N, 3, size, size).

    Equal arguments give equal parameters, and images equal within one grey level, whatever the
    batch, the number of threads or the device. `difficulty` says how far photographs of one person
    differ, a name of DIFFICULTIES; `changes` sets parameters by name, see `parameters`.

    Raises FaceError, a ValueError, for a size, number, device, difficulty or name that cannot be.
    """
    person, shot = check(person, shot, device, difficulty, size)
    pictures = torch.empty(len(person), 3, size, size, dtype=torch.uint8, device=device)
    start = 0
    for who, how, draws in batches(person, shot, size, seed, difficulty, changes):
        few = scene.develop(*scene.photograph(who, how, size), draws)
        pictures[start : start + len(few)] = few
        start += len(few)
    return pictures


@torch.no_grad()
def parts(
    person: Numbers,
    shot: Numbers,
    size: int = 224,
    device: str = "cpu",
    seed: int = 0,
    difficulty: str = "homework",
    changes: Changes | None = None,
) -> Tensor:
    """What each pixel of `render`'s pictures shows: uint8 (N, size, size), index into PARTS."""
    person, shot = check(person, shot, device, difficulty, size)
    found = [torch.empty(0, size, size, dtype=torch.uint8, device=device)]
    for who, how, _ in batches(person, shot, size, seed, difficulty, changes):
        found.append(scene.photograph(who, how, size)[1].part)
    return torch.cat(found)


@torch.no_grad()
def landmarks(
    person: Numbers,
    shot: Numbers,
    size: int = 224,
    device: str = "cpu",
    seed: int = 0,
    difficulty: str = "homework",
    changes: Changes | None = None,
) -> Tensor:
    """Where the points LANDMARKS lie in `render`'s pictures: float32 (N, 11, 2), pixels (x, y)."""
    person, shot = check(person, shot, device, difficulty, size)
    who, how = parameters(person, shot, seed, difficulty, changes, device)
    f = facts(who | how)
    head.express(f)
    points = head.landmarks(f).flatten(2)
    room = camera.place(f, points, torch.ones_like(points[:, 0]))
    return camera.project(f, room, size)[:, :2].transpose(1, 2)
