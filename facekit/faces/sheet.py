"""Contact sheets: many people, many shots of a few, or one knob turned at a time."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from facekit import faces
from facekit.common.errors import FaceError
from facekit.faces.person import TRAITS
from facekit.faces.shot import PASSPORT

# What a knob is turned through; every shape in TRAITS can be turned too, two spreads either way.
KNOBS = {
    "yaw": (-math.pi / 3, math.pi / 3), "pitch": (-0.4, 0.4), "roll": (-0.4, 0.4),
    "smile": (-0.3, 1.1), "mouth_open": (0.0, 1.0), "brow_raise": (-0.4, 0.7), "lid": (1.1, 0.1),
    "gaze_x": (-0.45, 0.45), "key_x": (-1.5, 1.5), "exposure": (0.5, 1.8), "blur": (0.0, 3.0),
    "distance": (45.0, 260.0), "tone": (0.0, 1.0), "sex": (0.0, 1.0), "age": (18.0, 75.0),
    "build": (-2.0, 2.0), "style_now": (0, 10), "beard_now": (0, 4), "hat": (0, 3),
}  # fmt: skip
USUAL_KNOBS = ("yaw", "smile", "key_x", "age")


def portrait(person: Tensor, seed: int = 0) -> dict[str, Tensor | float]:
    """Changes that make a shot a plain portrait, everybody with their usual hair and glasses."""
    who, _ = faces.parameters(person, torch.zeros_like(person), seed)
    usual = {"style_now": who["hair_style"], "beard_now": who["beard"]}
    return PASSPORT | usual | {"glasses": who["wears_glasses"], "makeup_now": who["makeup"]}


def people(count: int = 32, first: int = 0, size: int = 160, seed: int = 0) -> Tensor:
    """Plain portraits of `count` people: uint8 (count, 3, size, size)."""
    person = torch.arange(first, first + count)
    return faces.render(
        person, torch.zeros_like(person), size, seed=seed, changes=portrait(person, seed)
    )


def shots(
    count: int = 8,
    each: int = 10,
    first: int = 0,
    size: int = 160,
    seed: int = 0,
    difficulty: str = "homework",
) -> Tensor:
    """`each` shots of `count` people, a row a person: uint8 (count * each, 3, size, size)."""
    person = torch.arange(first, first + count).repeat_interleave(each)
    shot = torch.arange(each).repeat(count)
    return faces.render(person, shot, size, seed=seed, difficulty=difficulty)


def puzzle(
    count: int = 4, each: int = 3, first: int = 0, size: int = 160, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """`each` shots of `count` people, shuffled the same way every time, and who is in each.

    Returns uint8 (count * each, 3, size, size) and int64 (count * each,), 0 ... count - 1.
    """
    order = torch.randperm(count * each, generator=torch.Generator().manual_seed(1))
    return shots(count, each, first, size, seed)[order], order // each


def sweep(knob: str, steps: int = 9, person: int = 0, size: int = 160, seed: int = 0) -> Tensor:
    """One person while a knob of KNOBS or TRAITS is turned: uint8 (steps, 3, size, size).

    Raises FaceError for a knob that is not there.
    """
    if knob in KNOBS:
        low, high = KNOBS[knob]
    elif knob in TRAITS:
        mean, spread = TRAITS[knob][:2]
        low = mean - 2.5 * spread
        high = mean + 2.5 * spread
    else:
        raise FaceError(f"no knob {knob!r}; choose one of: {', '.join([*KNOBS, *TRAITS])}")
    whom = torch.full((steps,), person)
    values = torch.linspace(low, high, steps)
    if isinstance(low, int):
        values = torch.arange(low, high + 1)[torch.linspace(0, high - low, steps).round().long()]
    changes = portrait(whom, seed) | {knob: values}
    return faces.render(whom, torch.zeros_like(whom), size, seed=seed, changes=changes)


def close_ups(
    knobs: Sequence[str], person: int = 0, steps: int = 6, seed: int = 0
) -> dict[str, Tensor]:
    """A `sweep` of each knob, cut out round the head: uint8 (steps, 3, 108, 108) for each."""
    head = (..., slice(34, 142), slice(26, 134))
    return {knob: sweep(knob, steps, person, 160, seed)[head] for knob in knobs}


def grid(images: Tensor, columns: int) -> Tensor:
    """Lay images (N, 3, size, size) out in rows of `columns`: uint8 (height, width, 3)."""
    rows = -(-len(images) // columns)
    size = images.shape[-1]
    full = images.new_full((rows * columns, 3, size, size), 255)
    full[: len(images)] = images
    full = full.view(rows, columns, 3, size, size).permute(0, 3, 1, 4, 2)
    return full.reshape(rows * size, columns * size, 3)


def make(
    kind: str,
    rows: int = 4,
    columns: int = 8,
    first: int = 0,
    size: int = 160,
    seed: int = 0,
    difficulty: str = "homework",
    knobs: Sequence[str] = USUAL_KNOBS,
) -> Tensor:
    """One sheet, uint8 (height, width, 3): "people", "shots" (a row a person) or "sweep".

    Raises FaceError for another kind.
    """
    if kind == "people":
        return grid(people(rows * columns, first, size, seed), columns)
    if kind == "shots":
        return grid(shots(rows, columns, first, size, seed, difficulty), columns)
    if kind == "sweep":
        turned = [sweep(knob, columns, first, size, seed) for knob in knobs]
        return grid(torch.cat(turned), columns)
    raise FaceError(f"no sheet {kind!r}; choose one of: people, shots, sweep")
