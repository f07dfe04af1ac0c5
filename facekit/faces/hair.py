"""Hair: where it grows, how it is worn, and beards.

Hair is a shell round the skull, thick where there is much of it. Its lower edge is where hair
ends: at the hairline for short hair, far below for long hair; the pattern of strands eats into
that edge, sample by sample. The strands' direction, which their shine follows, runs from the crown
down, or from the parting sideways.
"""

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from facekit.faces import textures
from facekit.faces.head import LEVELS, lip_lines
from facekit.faces.person import STYLE_COLUMNS, STYLES
from facekit.faces.surface import (
    Facts,
    Surface,
    bell,
    constant,
    hollowness,
    keep_outline,
    knots,
    normals,
    outline,
    slices,
    spline,
    step,
    triple,
    unit,
)
from facekit.faces.worn import hat_edge

# Angles from the front, degrees, at which the hairline's height is given.
HAIRLINE = (0.0, 18.0, 36.0, 52.0, 66.0, 78.0, 92.0, 110.0, 140.0, 180.0)


def comb(f: Facts) -> None:
    """Add the numbers of the style of the day to the facts, one for each of STYLE_COLUMNS."""
    table = torch.tensor(list(STYLES.values()), device=f.tone.device)[f.style_now.flatten()]
    for name, column in zip(STYLE_COLUMNS, table.unbind(1), strict=True):
        setattr(f, "hair_" + name, column[:, None, None])
    f.thick = f.volume * f.volume_now
    f.fall = (f.length + f.length_now).clamp(0, 1)
    f.part_at = ((f.parting + f.parting_now) * f.parting_side).clamp(-1, 1)
    f.part_at = torch.where(f.part_at.abs() < 0.15, 0.5 * f.part_at, f.part_at)
    f.curly = torch.maximum(f.hair_curl, step(0.3, 0.65, f.curl))
    f.hairline_height = hairline_knots(f)


def hairline_weights(angle: Tensor) -> Tensor:
    """Weights (U, 10) that turn the heights at HAIRLINE into heights at `angle` (U,)."""
    degrees = torch.rad2deg(angle.abs()).double()
    places = constant(HAIRLINE, angle.device).double()
    right = torch.searchsorted(places, degrees).clamp(1, len(places) - 1)
    share = (degrees - places[right - 1]) / (places[right] - places[right - 1])
    return spline(len(places), right - 1 + share).float()


def hairline_knots(f: Facts) -> Tensor:
    """The height at which hair begins to grow, at each angle of HAIRLINE: (N, 10)."""
    line = f.hairline
    back = f.recede
    bald = f.bald
    return knots([
        line + 0.3 - 0.8 * f.widow_peak.clamp(min=0) + 3.6 * bald,
        line + 0.25 + 0.75 * back + 3.2 * bald,
        line - 0.1 + 1.15 * back + 2.0 * bald,
        line - 2.1 + 0.9 * back + bald,
        1.9 + 0.35 * back, -1.6, 0.9, -2.0, -4.2, -4.8,
    ])  # fmt: skip


def hairline(f: Facts, angle: Tensor) -> Tensor:
    """The height at which hair begins to grow, for each angle round the head: (N, 1, U)."""
    return (f.hairline_height @ hairline_weights(angle).T)[:, None, :]


@cache
def shell_rows(rows: int, device: str) -> tuple[Tensor, Tensor]:
    """Where the shell's rows lie among the head's knots, (rows, 1), and the spline's weights."""
    level = torch.linspace(0, 14.5, rows, dtype=torch.float64)
    return level.float().to(device)[:, None], spline(LEVELS, level).float().to(device)


@cache
def shell_angles(columns: int, device: str) -> Tensor:
    """The angles of the shell's columns, all round the head, closer together at the front."""
    u = torch.linspace(-1, 1, columns, dtype=torch.float64)
    return (math.pi * (0.8 * u + 0.2 * u**3)).float().to(device)


def shape_shell(f: Facts) -> None:
    """Add to the facts the skull's outline above the ears, and below them of a hanging curtain."""
    wide = f.head_width
    slope = f.forehead_slope
    tall = f.head_height / 11.4
    hang = (f.hair_down > 0).float()
    flare = hang * (0.5 + 0.5 * f.thick + 0.8 * f.hair_wave) - 2.0 * (1 - hang)
    height = [11.5 * tall, 10.9 * tall, 9.65 * tall, 8.0 * tall, 6.0 * tall, 3.9, 1.8, 0.0, -2.0,
              -4.5, -7.0, -10.0, -13.0, -16.0, -19.0, -22.0]  # fmt: skip
    width = [0 * wide, 0.44 * wide, 0.7 * wide, 0.89 * wide, 0.98 * wide, 1.0 * wide, 1.0 * wide,
             0.99 * wide, 0.98 * wide + 0.1 * flare, 0.98 * wide + 0.3 * flare,
             wide + 0.55 * flare, wide + 0.8 * flare, wide + flare, wide + 1.2 * flare,
             wide + 1.3 * flare, wide + 1.4 * flare]  # fmt: skip
    front = [0 * wide, 3.7, 6.0 - slope, 7.75 - slope, 8.75 - 0.6 * slope, 9.3 - 0.2 * slope, 9.6,
             9.6, 9.5, 9.3, 9.1, 9.0, 9.0, 9.0, 9.0, 9.0]  # fmt: skip
    back = [0 * wide, 4.0, 6.4, 8.6, 9.7, 10.1, 10.1, 9.8, 9.0 + 0.2 * hang, 7.9 + 0.4 * hang,
            6.2 + 1.4 * hang, 7.3, 7.8, 8.2, 8.2, 8.2]  # fmt: skip
    keep_outline(f, "shell", (height, width, front, back))


def shell_base(f: Facts, rows: int, angle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The shell before there is hair on it: x, y, z (N, V, U)."""
    _, weights = shell_rows(rows, str(angle.device))
    return slices(weights, angle, outline(f, "shell"), f.forehead_round)


def lower_edge(f: Facts, angle: Tensor, line: Tensor) -> Tensor:
    """How far down hair reaches at each angle: (N, 1, U), cm."""
    away = angle.abs()
    wavy = 0.35 * torch.sin(angle * 1.3 + 1.5 * f.part_at + 4 * f.tousle)
    lock = textures.texture(textures.STRANDS, angle * 0.7 + 3 * f.tousle, 5 * f.tousle + 0 * angle)
    fringe = 3.1 + 1.5 * (1 - f.fall) + wavy + 0.3 * lock
    front = step(1.05, 0.8, away) * f.hair_fringe
    edge = torch.lerp(line, torch.minimum(line, fringe), front)
    hanging = -f.hair_down * (0.65 + 0.6 * f.fall)
    side = 1.28 - 0.3 * f.hair_cover
    opening = 0.02 + 0.3 * f.tousle * (1 - f.part_at.abs())
    across = (((angle - 0.22 * f.part_at).abs() - opening) / (side + 0.1 - opening)).clamp(min=0)
    curtain = line + 0.3 - 8 * across**1.5 - 40 * (across - 0.75).clamp(min=0) ** 1.2
    long = torch.minimum(curtain, edge).maximum(torch.minimum(hanging, edge))
    return torch.where(f.hair_down > 0, long, edge)


def thickness(f: Facts, angle: Tensor, level: Tensor, y: Tensor, line: Tensor) -> Tensor:
    """How far the hair stands off the head, cm (N, V, U)."""
    top = step(6.0, 2.2, level)
    away = angle.abs()
    sides = torch.lerp(0.5 * f.hair_side, f.hair_side, step(-3.0, 3.5, y))
    sides = torch.where(f.hair_down > 0, f.hair_side, sides)
    amount = torch.lerp(sides, f.hair_top, top) * f.thick
    lean = torch.sin(angle - 0.6 * f.part_at) * f.part_at.sign()
    amount = amount * (1 + 0.3 * f.hair_part * lean * top)
    quiff = bell(away, 0.75) * bell(level - 3.7, 1.1) * 0.7 * f.hair_quiff * f.thick
    fringe = step(1.05, 0.8, away) * f.hair_fringe
    grows = torch.lerp(step(-0.1, 1.7, y - line), torch.full_like(y, 0.55), fringe)
    behind = step(0.05, 0.7, away) * (f.hair_down > 0)
    return (amount + quiff) * torch.lerp(grows, torch.ones_like(y), behind)


def curls(f: Facts, angle: Tensor, level: Tensor) -> Tensor:
    """Where a curl comes forwards, some 1.5 cm from one to the next: (N, V, U), deviation 1."""
    shift = 5 * f.tousle + 3 * f.strands
    return textures.texture(textures.CURLS, angle * 0.45 + shift, level * 0.085 + shift)


def bumps(f: Facts, angle: Tensor, level: Tensor, curl: Tensor) -> Tensor:
    """Curls, locks and waves that make the outline uneven, cm (N, V, U)."""
    shift = 5 * f.tousle + 3 * f.strands
    lock = textures.texture(textures.STRANDS, angle * 0.8 + shift, level * 0.05 + shift)
    wave = torch.sin(level * 1.55 + 9 * f.tousle + 2 * angle) * step(4, 8, level)
    long = (f.hair_down > 0).float()
    return (
        curl * (0.04 + 0.22 * f.curly)
        + lock * (0.10 + 0.05 * long) * step(0.2, 1.0, f.hair_top) * (1 - 0.7 * f.curly)
        + 0.35 * wave * f.hair_wave
    )


def shell(f: Facts, rows: int, columns: int) -> Surface:
    """All hair of the head but the beard."""
    angle = shell_angles(columns, str(f.tone.device))
    level, _ = shell_rows(rows, str(angle.device))
    x, y, z = shell_base(f, rows, angle)
    line = hairline(f, angle)
    edge = lower_edge(f, angle, line)
    amount = thickness(f, angle, level, y, line)
    curl = curls(f, angle, level)
    rough = bumps(f, angle, level, curl) * f.thick * step(0.0, 0.9, amount)
    under_hat = y - torch.where(f.hat > 0, hat_edge(f, angle), 99.0)
    pressed = step(-2.2, 0.0, under_hat)
    amount = torch.lerp(amount + rough, torch.full_like(y, 0.25), pressed) - 0.04
    up = step(4.5, 0.0, level)
    out = torch.sqrt(1 - 0.85 * up * up)
    middle = 3.4 * f.part_at
    parted = f.hair_part * step(-1.0, 2.0, z) * step(5.2, 4.0, level)
    amount = amount * (1 - 0.55 * parted * bell(x - middle, 0.3))
    moved = [x + torch.sin(angle) * amount * out, y + amount * up,
             z + torch.cos(angle) * amount * out]  # fmt: skip
    points = torch.stack(moved, 1)
    fade = torch.where(edge < line - 0.4, 0.55, 0.35)
    keep = torch.where(under_hat > 0.6, -9.0, (y - edge + 0.3 * f.curly * curl) / fade)
    surface = strands(f, points, angle, level, keep, curl * f.curly)
    surface.marks |= {"root": y - edge, "parted": parted * bell(x - middle, 0.16)}
    return surface


def strands(
    f: Facts, points: Tensor, angle: Tensor, level: Tensor, keep: Tensor, curl: Tensor
) -> Surface:
    """The shell with its normals, its strands, which wind round curls, and what paints it."""
    x, y, z = points.unbind(1)
    normal = normals(points)
    hollow = hollowness(points, normal, max(2, len(level) // 18))
    sideways = f.hair_part[:, None] > 0.5
    down = functional.pad(points, (0, 0, 1, 1), mode="replicate")
    down = unit(down[:, :, 2:] - down[:, :, :-2])
    front = triple(0.0, 0.0, 1.0, x)
    across = unit(torch.cross(normal, front.expand_as(normal), dim=1))
    shift = 3 * f.tousle + 7 * f.strands
    u = torch.where(sideways[:, 0], 0.12 * z + 0.01 * y, 1.1 * angle) + shift
    v = torch.where(sideways[:, 0], 0.03 * (x.abs() - y), 0.055 * level) + shift
    u = u + 0.03 * curl
    v = v + 0.05 * curl + 0.2 * f.curly * level
    return Surface(
        "hair", points, normal, (0.8 + (0.9 + 0.6 * f.curly) * hollow).clamp(0.25, 1.1),
        keep=torch.where(f.style_now == 0, -9.0, keep.clamp(-3, 3)),
        follow=torch.lerp(0.35 * torch.ones_like(y), torch.ones_like(y), step(-14.0, -6.0, y)),
        pattern=textures.STRANDS, pattern_at=(u, v), pattern_strength=0.26 + 0.1 * f.curly,
        fray=0.45 * torch.ones_like(y), inside=torch.where(y < 6.0, f.hair_down, -1.0),
        marks={"tangent": torch.where(sideways, across, down)},
    )  # fmt: skip


def beard(f: Facts, x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Where a beard would grow, and where the beard of the day is worn: (N, V, U) in 0..1."""
    away = angle.abs()
    ax = x.abs()
    top = -5.4 + 5.0 * ((away - 0.35).clamp(min=0) / 1.0) ** 2 + 0.5 * (f.beard_dense - 0.8)
    cheek = torch.sigmoid((top - y - 0.3 * f.drop) / 0.4) * torch.sigmoid((1.5 - away) / 0.06)
    _, line, upper, lower = lip_lines(f, x)
    room = (1 - (x / f.mouth_half) ** 2).clamp(min=0)
    on_lips = torch.sigmoid((upper + f.lip_up * room - y) / 0.07)
    on_lips = on_lips * torch.sigmoid((y - lower + f.lip_low * room) / 0.07)
    on_lips = on_lips * step(1.06, 0.95, ax / f.mouth_half)
    below_nose = torch.sigmoid((f.nose_y - 0.25 - y) / 0.12)
    middle = torch.sigmoid((1.12 * f.mouth_half - ax) / 0.18) * below_nose * (away < 1.4)
    grows = torch.maximum(cheek, middle) * (1 - on_lips)
    goatee = middle * (1 - on_lips)
    above = torch.sigmoid((y - line + 0.05) / 0.12)
    kind = f.beard_now
    worn = torch.where(kind <= 2, grows, torch.where(kind == 3, goatee, goatee * above))
    return grows, worn * (kind > 0)


def grow_beard(f: Facts, surface: Surface) -> Surface:
    """Push the face out under a full beard; remembers both masks for the painter."""
    angle = surface.marks["angle"]
    x, y, z = surface.points.unbind(1)
    grows, worn = beard(f, x, y, angle)
    surface.marks |= {"shave": grows, "beard": worn}
    long = (f.beard_now == 2) * f.beard_length * f.beard_grown
    out = worn * long * (0.3 + 0.85 * step(-5.5, -10.5, y))
    points = [x + torch.sin(angle) * out, y - 0.5 * out * step(-8.5, -10.5, y),
              z + torch.cos(angle) * out]  # fmt: skip
    surface.points = torch.stack(points, 1)
    surface.normals = normals(surface.points)
    surface.marks["scalp"] = torch.sigmoid((y - hairline(f, angle[0, 0])) / 0.4)
    return surface
