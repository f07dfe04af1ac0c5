"""What is worn or held: clothes' cut, glasses, hats, and things before the face."""

import math
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from facekit.faces import textures
from facekit.faces.head import LEVELS
from facekit.faces.surface import (
    Facts,
    Surface,
    bell,
    bump,
    normals,
    outline,
    places,
    slices,
    spline,
    step,
    unit,
)

BEANIE = 1  # kinds of `hat`; 0 is none
CAP = 2
BRIM = 3


def note_kinds(f: Facts) -> None:
    """Add to the facts what anybody in the batch wears or holds."""
    f.any_hat = bool((f.hat > 0).any())
    f.any_rims = bool(((f.glasses > 0) | (f.sunglasses > 0)).any())
    f.any_sunglasses = bool((f.sunglasses > 0).any())
    f.any_object = bool((f.object > 0).any())


def neckline(f: Facts, x: Tensor, z: Tensor) -> Tensor:
    """The height of the cloth's edge at each point of the body: round, V, shirt or wide."""
    ax = x.abs()
    cut = f.collar
    round_ = -14.8 + 0.045 * ax**2
    vee = -13.4 - (4.6 - ax).clamp(min=0)
    shirt = -12.4 - (2.6 - 1.3 * ax).clamp(min=0)
    wide = -17.3 + 0.05 * ax**2
    front = torch.where(cut < 0.4, round_, torch.where(cut < 0.65, vee, shirt))
    front = torch.where(cut > 0.87, wide, front)
    return torch.where(z > 0, front, -13.2)


def clothes(f: Facts, body: Surface) -> Surface:
    """Dress a body: the cloth is the body's surface below the neckline, the neck what is left."""
    x, y, z = body.points.unbind(1)
    off = neckline(f, x, z) - y
    body.keep = -off
    body.marks = {"hem": off}
    return replace(body, part="clothes", keep=off, marks={"hem": off})


def tubes(curves: Tensor, radius: Tensor, around: int = 7) -> tuple[Tensor, Tensor]:
    """Round wires along curves (N, 3, C, P): points (N, 3, around, C * P), and where they hold."""
    turn = torch.linspace(0, 2 * math.pi, around, device=curves.device)[None, :, None]
    count, points = curves.shape[2:]
    line = curves.flatten(2)[:, :, None]  # (N, 3, 1, C * P)
    rim = torch.stack(torch.broadcast_tensors(0 * turn, torch.sin(turn), torch.cos(turn)), 1)
    ends = torch.ones(count, points, device=curves.device)
    ends[:, 0] = ends[:, -1] = -0.2
    return line + rim * radius[:, None], ends.flatten()[None, None].expand(1, around, -1)


def lens_outline(f: Facts, points: int) -> tuple[Tensor, Tensor]:
    """A lens seen from the front, x and y about its middle, wider above: (N, 1, P)."""
    turn = torch.linspace(0, 2 * math.pi, points, device=f.tone.device)[None, None]
    c = torch.cos(turn)
    s = torch.sin(turn)
    power = 2 + 2.5 * f.lens_square
    radius = (c.abs() ** power + s.abs() ** power) ** (-1 / power)
    tall = f.lens_height * torch.where(s > 0, 0.85, 1.0)
    return radius * c * f.lens_width * (1 + 0.1 * s), radius * s * tall * (1 - 0.08 * c)


def glasses_depth(f: Facts) -> Tensor:
    """How far glasses stand out at their middle, cm (N, 1, 1)."""
    return 9.5 + 0.75 * f.bridge_height


def glasses(f: Facts, points: int) -> Surface:
    """Two rims, the bridge and two arms, as wires."""
    x, y = lens_outline(f, points)
    middle = f.eye_apart + 0.12
    front = glasses_depth(f)
    t = torch.linspace(0, 1, points, device=x.device)[None, None]
    curves = []
    for side in (-1, 1):
        across = middle + x
        curves.append((side * across, y - 0.2, front - 0.035 * across**2))
    between = (2 * t - 1) * (middle - f.lens_width)
    curves.append((between, f.lens_height * 0.35 + 0.12 * torch.sin(math.pi * t), front + 0 * t))
    hinge = middle + f.lens_width
    ear = torch.maximum(hinge + 0.4, f.head_width + 0.1)
    for side in (-1, 1):
        across = hinge + (ear - hinge) * t**0.6
        deep = front - 0.035 * hinge**2
        curves.append((side * across, f.lens_height * 0.5 + 0.2 * t, deep + (-0.5 - deep) * t))
    shape = torch.broadcast_shapes(*(part.shape for curve in curves for part in curve))
    lines = [torch.stack([part.expand(shape) for part in curve], 1) for curve in curves]
    grid, ends = tubes(torch.cat(lines, 2), 0.5 * f.rim.maximum(0.3 * f.sunglasses))
    normal = normals(grid)
    normal = normal * torch.where(normal[:, 2:] < 0, -1.0, 1.0)
    wears = torch.maximum(f.glasses, f.sunglasses)
    return Surface("glasses", grid, normal, keep=torch.minimum(ends, 2 * wears - 1), inside=1.0)


def dark_lens(f: Facts, side: int, rows: int, columns: int) -> Surface:
    """One lens of a pair of sunglasses, rounder than the rims."""
    x, y = lens_outline(f, columns)
    radius = places(rows, columns, str(x.device))[0]
    middle = f.eye_apart + 0.12
    across = middle + radius * x
    deep = glasses_depth(f) - 0.035 * across**2 + 0.25 * (1 - radius**2)
    grid = torch.stack(torch.broadcast_tensors(side * across, radius * y - 0.2, deep), 1)
    normal = torch.stack([0.14 * (grid[:, 0] - side * middle) + 0.07 * grid[:, 0],
                          0.14 * grid[:, 1], torch.ones_like(deep)], 1)  # fmt: skip
    keep = (2 * f.sunglasses - 1).expand(-1, rows, columns)
    eye = bump(across - f.eye_apart, grid[:, 1], 1.3, 0.7)
    marks = {"lens": grid[:, 1], "eye": eye}
    return Surface("glasses", grid, unit(normal), keep=keep, inside=1.0, marks=marks)


@cache
def crown_rows(rows: int, device: str) -> tuple[Tensor, Tensor]:
    """Where a hat's rows lie among the head's knots, (rows, 1), and the spline's weights."""
    level = torch.linspace(0, 6.6, rows, dtype=torch.float64)
    return level.float().to(device)[:, None], spline(LEVELS, level).float().to(device)


def hat_crown(f: Facts, rows: int, columns: int) -> Surface:
    """The part of a hat that holds the head."""
    angle = torch.linspace(-math.pi, math.pi, columns, device=f.tone.device)
    level, weights = crown_rows(rows, str(angle.device))
    x, y, z = slices(weights, angle, outline(f, "skull"), f.forehead_round)
    high = step(4.5, 0.0, level)
    above = y - hat_edge(f, angle)
    tall = 1.3 * (f.hat == BEANIE) + 0.7 * (f.hat == BRIM) + 0.5 * f.hair_top.clamp(max=1.2)
    panel = 0.8 * (f.hat == CAP) * bell(angle, 0.9) * bell(level - 2.8, 1.6)
    band = step(2.7, 2.4, above) * (f.hat == BEANIE)  # the turned-up edge of a knitted cap
    folds = textures.texture(textures.CLOUDS, angle * 0.3 + f.tousle, level * 0.1 + f.tousle)
    loose = 0.75 + tall * high + panel + 0.35 * band + 0.08 * folds
    points = torch.stack([x + torch.sin(angle) * loose, y + loose * high,
                          z + torch.cos(angle) * loose], 1)  # fmt: skip
    seam = 0.5 * bell(torch.sin(2.5 * angle), 0.12) * (f.hat == CAP)
    knit = (angle * 0.8, level * 0.02 + 0 * angle)
    return Surface(
        "hat", points, normals(points), 0.9, torch.where(f.hat > 0, above, -1.0), inside=1.0,
        pattern=textures.STRANDS, pattern_at=knit,
        pattern_strength=0.02 + 0.08 * (f.hat == BEANIE),
        marks={"band": band + seam + 2.0 * bell(above - 2.75, 0.2) * (f.hat == BEANIE)},
    )  # fmt: skip


def hat_edge(f: Facts, angle: Tensor) -> Tensor:
    """How low a hat sits at each angle: lower at the nape than over the brow."""
    return f.hat_low - 1.0 + 0.9 * torch.cos(angle)


def hat_brim(f: Facts, rows: int, columns: int) -> Surface:
    """A cap's visor, which lies before the forehead, or a brim all round, higher at the sides."""
    angle = torch.linspace(-math.pi, math.pi, columns, device=f.tone.device)
    out, _ = places(rows, columns, str(angle.device))
    front = torch.cos(angle)
    brim = out * 4.4 * (f.hat == BRIM)
    visor = out * 6.0 * step(0.1, 0.8, front) * (f.hat == CAP)
    x = (f.head_width + 0.7 + brim) * torch.sin(angle)
    z = (torch.where(front > 0, 9.3, 10.0) + 0.7 + brim) * front + visor
    y = hat_edge(f, angle) + 0.35 + brim * (0.12 - 0.3 * front**2)
    y = y - (0.06 + 0.004 * x**2) * visor
    points = torch.stack(torch.broadcast_tensors(x, y, z), 1)
    keep = torch.where((f.hat == BRIM) | ((f.hat == CAP) & (front > 0.1)), 1.0, -1.0)
    marks = {"band": 1.5 + 2.0 * bell(out - 1, 0.12)}
    keep = keep.expand(-1, rows, -1)
    return Surface("hat", points, normals(points), 0.7, keep, inside=1.0, marks=marks)


def hand(down: Tensor, across: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four fingers side by side over the back of a hand: x, y, z in cm, and where it is, > 0."""
    which = (4 * across).floor().clamp(max=3)
    side = 2 * (4 * across - which) - 1  # from one edge of a finger to the other
    tube = (1 - side**2).clamp(min=1e-4).sqrt()
    back = step(0.44, 0.62, down)
    length = 5.9 + 1.7 * torch.sin(math.pi * (which + 0.7) / 4)
    tip = step(0.2, 0.0, down) * (1 - tube) * 0.9
    x = (across - 0.5) * (7.4 - 1.6 * step(0.55, 1.0, down))
    y = torch.where(down < 0.5, (1 - 2 * down) * length, (1 - 2 * down) * 9.0) - tip
    knuckle = 0.35 * bell(down - 0.5, 0.05) + 0.1 * bell(down - 0.27, 0.03)
    z = torch.lerp(0.8 * tube, 0.75 - 1.2 * (across - 0.5) ** 2, back) + knuckle * tube
    return x, y, z, torch.maximum(0.93 - side.abs(), 2 * back - 0.3)


def held(f: Facts, rows: int, columns: int) -> Surface:
    """A hand, or a rounded thing, before the face."""
    down, across = places(rows, columns, str(f.tone.device))
    hand_x, hand_y, hand_z, hand_keep = hand(down, across)
    turn = (across - 0.5) * 2 * math.pi
    rise = (0.5 - down) * math.pi
    ring = torch.cos(rise).clamp(min=0).sqrt()
    is_hand = f.object == 1
    x = torch.where(is_hand, hand_x, 2.6 * ring * torch.sin(turn)) * f.object_size
    y = torch.where(is_hand, hand_y, 4.4 * torch.sin(rise)) * f.object_size
    z = torch.where(is_hand, hand_z, 2.6 * ring * torch.cos(turn)) * f.object_size
    c = torch.cos(f.object_turn)
    s = torch.sin(f.object_turn)
    points = torch.stack([x * c - y * s + f.object_x, x * s + y * c + f.object_y, z + 11.5], 1)
    keep = torch.where(is_hand, hand_keep, 1.0)
    keep = torch.where(f.object > 0, keep, -1.0).expand(-1, rows, columns)
    normal = normals(points)
    normal = normal * normal[:, 2:].mean((2, 3), keepdim=True).sign()
    return Surface("held", points, normal, keep=keep, inside=1.0, follow=0.0)
