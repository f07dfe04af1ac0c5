"""A world of people who do not exist, painted by code, photographed as often as you like.

A person is a number, and so is a photograph of that person: `render(person, shot)`. Three steps
lead to a picture: `person` says who somebody is, `shot` how the photograph was taken, and `head`,
`paint` and `film` turn both into pixels. All randomness comes from `draws`, which hashes
(seed, person, shot, name), so a picture never depends on what else is in its batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from facekit.faces import film, paint
from facekit.faces import person as people
from facekit.faces import shot as shots
from facekit.faces.draws import Draws
from facekit.faces.head import look_at

__all__ = ["parameters", "render"]

PIXELS_AT_ONCE = {"cpu": 1 << 17, "cuda": 1 << 23}  # what stays in cache; what fits in memory


def as_numbers(name: str, values: Tensor | Sequence[int], device: str) -> Tensor:
    """Return `values` as int64 (N,), or say which argument is wrong."""
    numbers = torch.as_tensor(values)
    if numbers.numel() == 0:
        numbers = numbers.long()
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise ValueError(f"{name} must hold integers, not {numbers.dtype}")
    if numbers.dim() != 1:
        raise ValueError(f"{name} must have one dimension, not shape {tuple(numbers.shape)}")
    if (numbers < 0).any():
        raise ValueError(f"{name} must not be negative, but holds {int(numbers.min())}")
    return numbers.to(device=device, dtype=torch.int64)


def parameters(person: Tensor, shot: Tensor, seed: int = 0) -> tuple[people.Traits, people.Traits]:
    """Return who is seen and how, two dicts of tensors (N,) or (N, 3), without painting."""
    who = people.describe(Draws(seed, person))
    return who, shots.describe(Draws(seed, person, shot), who["wears_glasses"])


def photograph(who: people.Traits, how: people.Traits, size: int, *keys: Draws) -> Tensor:
    """Render one batch that fits in memory: uint8 (N, 3, size, size)."""
    seen, taken = people.spread(who), people.spread(how)
    image = paint.portrait(look_at(seen, taken, size), seen, taken, *keys)
    return film.expose(image, taken, keys[-1])


def render(
    person: Tensor | Sequence[int],
    shot: Tensor | Sequence[int],
    size: int = 224,
    device: str = "cpu",
    seed: int = 0,
) -> Tensor:
    """Photograph people: `person` and `shot`, N integers each, give uint8 (N, 3, size, size).

    Equal arguments give equal parameters, and images equal within one grey level, whatever the
    batch, the number of threads or the device.
    """
    person, shot = as_numbers("person", person, device), as_numbers("shot", shot, device)
    if len(person) != len(shot):
        raise ValueError(f"person and shot differ in length: {len(person)} and {len(shot)}")
    if size < 16:
        raise ValueError(f"size must be at least 16 pixels, not {size}")
    batch = max(PIXELS_AT_ONCE.get(person.device.type, 1 << 20) // size**2, 1)
    who, how = parameters(person, shot, seed)
    pictures = []
    for start in range(0, max(len(person), 1), batch):
        part = slice(start, start + batch)
        keys = Draws(seed, person[part]), Draws(seed, person[part], shot[part])
        few = ({k: v[part] for k, v in traits.items()} for traits in (who, how))
        pictures.append(photograph(*few, size, *keys))
    return torch.cat(pictures)
