"""Curved surfaces as grids of points, and the few tools that shape them.

Every part of a portrait is one grid: points (N, 3, V, U) in centimetres, row v running down and
column u across. Facts about a person or a shot are (N, 1, 1) so that they meet a grid (N, V, U);
the processor works them out, and then moves them to where the grids are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from math import prod
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from facekit.faces.person import Traits

Facts = SimpleNamespace  # traits as attributes: (N, 1, 1), colours (N, 3, 1, 1); scene.prepare


@dataclass
class Surface:
    """A grid with all that is needed to pose, light and paint it."""

    part: str
    points: Tensor  # (N, 3, V, U), head frame
    normals: Tensor  # (N, 3, V, U), unit length, outwards
    ambient: Tensor | float = 1.0  # light from all around that reaches it, 0..1, (N, V, U)
    keep: Tensor | float = 1.0  # there is something where this is positive, (N, V, U)
    follow: Tensor | float = 1.0  # 1 turns with the head, 0 with the body, (N, V, U)
    wrap: tuple[float, float, float] = (0.3, 0.3, 0.3)  # how far light creeps round, per channel
    pattern: int = 0  # a row of the texture bank, read at every pixel
    pattern_at: tuple[Tensor | float, Tensor | float] = (0.0, 0.0)  # (N, V, U) each
    pattern_strength: Tensor | float = 0.0  # what a deviation of it does to the brightness
    fray: Tensor | float | None = None  # how far the pattern eats into the edge of `keep`
    inside: Tensor | float = -1.0  # its back can be seen where this is positive, (N, V, U)
    marks: dict[str, Tensor] = field(default_factory=dict)  # what its painter wants to remember

    @property
    def shape(self) -> tuple[int, int]:
        return self.points.shape[2], self.points.shape[3]


SIDES = ("height", "width", "front", "back")  # knots of superellipses; width and depths are halves
LINEAR = {"key_colour", "sky_colour", "ground_colour", "cast"}  # light already, not sRGB


def facts(traits: Traits) -> Facts:
    """Traits as attributes, shaped to meet grids; colours are turned from sRGB into light."""
    shaped = Facts()
    for name, value in traits.items():
        is_colour = value.dim() == 2
        if is_colour and name not in LINEAR:
            value = value**2.2
        setattr(shaped, name, value[..., None, None])
    return shaped


def move(values: dict[str, Any], device: str) -> dict[str, Any]:
    """The same values, tensors (N, ...) among them on a device: one copy for each type of number.

    Each copy to a GPU makes the processor wait until all that was asked of it is done.
    """
    if torch.device(device).type == "cpu":
        return values
    moved = dict(values)
    for dtype in (torch.float32, torch.int64):
        kind = {k: v for k, v in values.items() if isinstance(v, Tensor) and v.dtype == dtype}
        rows = [v.reshape(len(v), prod(v.shape[1:])) for v in kind.values()]
        columns = torch.cat(rows, 1).to(device).split([row.shape[1] for row in rows], 1)
        for (name, value), column in zip(kind.items(), columns, strict=True):
            moved[name] = column.view(value.shape)
    return moved


@cache
def constant(numbers: tuple[float, ...], device: torch.device) -> Tensor:
    """Some numbers, float32, copied to a device once. Not to be changed."""
    return torch.tensor(numbers, dtype=torch.float32, device=device)


def triple(one: float, two: float, three: float, like: Tensor) -> Tensor:
    """A number for each channel or axis of grids (N, 3, V, U): (1, 3, 1, 1), where `like` is."""
    return constant((one, two, three), like.device)[None, :, None, None]


def step(low: Tensor | float, high: Tensor | float, x: Tensor) -> Tensor:
    """The smoothstep: 0 below `low`, 1 above `high`, smooth between; reversed where low > high."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * torch.rsub(t, 3, alpha=2)  # 3 - 2 t at once


def bell(x: Tensor, width: Tensor | float) -> Tensor:
    """A Gaussian of height 1: exp(-(x / width)^2)."""
    return torch.exp(-((x / width) ** 2))


def bump(x: Tensor, y: Tensor, wide: Tensor | float, tall: Tensor | float) -> Tensor:
    """A round hill of height 1 at x = y = 0."""
    return torch.exp(-((x / wide) ** 2) - (y / tall) ** 2)


def mix(below: Tensor, above: Tensor, cover: Tensor) -> Tensor:
    """Paint colour `above` over `below`, (N, 3, V, U), where `cover` (N, V, U) is 1."""
    return torch.lerp(below, above.expand_as(below), cover[:, None])


def knots(values: Sequence[Tensor | float]) -> Tensor:
    """Put numbers and facts (N, 1, 1), at least one of them, side by side: (N, K)."""
    like = next(value for value in values if isinstance(value, Tensor))[:, 0, 0]
    columns = []
    for value in values:
        if isinstance(value, Tensor):
            columns.append(value[:, 0, 0])
        else:
            columns.append(torch.full_like(like, value))
    return torch.stack(columns, dim=1)


def keep_outline(f: Facts, name: str, rows: Sequence[Sequence[Tensor | float]]) -> None:
    """Add stacked superellipses to the facts: a row of knots for each of SIDES."""
    for side, row in zip(SIDES, rows, strict=True):
        setattr(f, f"{name}_{side}", knots(row))  # (N, K)


def outline(f: Facts, name: str) -> list[Tensor]:
    """What `keep_outline` added, as `slices` wants it."""
    return [getattr(f, f"{name}_{side}") for side in SIDES]


def spline(count: int, places: Tensor) -> Tensor:
    """Weights (places, count) of a curve through `count` evenly spaced knots, place 0..count-1.

    Catmull and Rom 1974, "A class of local interpolating splines".
    """
    left = places.floor().clamp(0, count - 2)
    t = (places - left)[:, None]
    weights = torch.cat([
        ((-t + 2) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((-3 * t + 4) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    ], dim=1)  # fmt: skip
    index = (left[:, None].long() + torch.arange(-1, 3, device=places.device)).clamp(0, count - 1)
    return weights.new_zeros(len(places), count).scatter_add_(1, index, weights)


def unevenly(density: Tensor, low: float, high: float, count: int) -> Tensor:
    """`count` places from low to high, closer together where `density` (samples) is higher."""
    total = torch.cat([torch.zeros(1, dtype=density.dtype), density.cumsum(0)])
    total = total / total[-1]
    wanted = torch.linspace(0, 1, count, dtype=density.dtype)
    right = torch.searchsorted(total, wanted).clamp(1, len(total) - 1)
    share = (wanted - total[right - 1]) / (total[right] - total[right - 1])
    return low + (high - low) * (right - 1 + share) / len(density)


def slices(
    weights: Tensor, angle: Tensor, shape: Sequence[Tensor], power: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Stack superellipses: shape = knots (N, K) of height, half width, front and back depth.

    `weights` (V, K) from `spline`, `angle` (U,) from 0 at the front; returns x, y, z (N, V, U).
    """
    height, width, front, back = [(knots_ @ weights.T)[:, :, None] for knots_ in shape]
    sine = torch.sin(angle)
    cosine = torch.cos(angle)
    depth = torch.where(cosine > 0, front, back).clamp(min=0.02)
    reach = (cosine.abs() / depth + 1e-6) ** power + (sine.abs() / width.clamp(min=0.02)) ** power
    radius = reach ** (-1 / power)
    return radius * sine, height.expand_as(radius), radius * cosine


def normals(points: Tensor) -> Tensor:
    """Unit vectors (N, 3, V, U) across a grid; they point outwards when u runs to the right."""
    wide = functional.pad(points, (1, 1, 1, 1), mode="replicate")
    a = (wide[:, :, 2:, 1:-1] - wide[:, :, :-2, 1:-1]).unbind(1)
    b = (wide[:, :, 1:-1, 2:] - wide[:, :, 1:-1, :-2]).unbind(1)
    cross = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    return unit(torch.stack(cross, 1))


def unit(vectors: Tensor) -> Tensor:
    """Vectors (N, 3, ...) at length 1."""
    x, y, z = vectors.unbind(1)
    return vectors * torch.rsqrt(x * x + y * y + z * z + 1e-18)[:, None]


def box_mean(values: Tensor, reach: int) -> Tensor:
    """Mean over `reach` cells to each side, rows and columns, edges repeated: (N, 3, V, U)."""
    wide = 2 * reach + 1
    total = functional.pad(values, (reach + 1, reach, reach + 1, reach), mode="replicate")
    total = total.cumsum(2)
    total = (total[:, :, wide:] - total[:, :, :-wide]).cumsum(3)
    return (total[..., wide:] - total[..., :-wide]) / wide**2


def hollowness(points: Tensor, normal: Tensor, reach: int) -> Tensor:
    """How far a point lies outside (+) or inside (-) the mean of its neighbours, cm (N, V, U).

    A cheap stand-in for ambient occlusion: light from all around reaches hollows less.
    """
    rows, columns = points.shape[2:]
    reach = max(1, min(reach, rows // 2 - 1, columns // 2 - 1))
    mean = box_mean(points, reach)
    return ((points - mean) * normal).sum(1)


@cache
def places(rows: int, columns: int, device: str) -> tuple[Tensor, Tensor]:
    """Even coordinates 0..1 of a grid: down (1, V, 1) and across (1, 1, U)."""
    down = torch.linspace(0, 1, rows, device=device)[None, :, None]
    return down, torch.linspace(0, 1, columns, device=device)[None, None, :]
