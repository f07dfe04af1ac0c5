"""Skin and everything painted on it: eyes, brows, lips, lines, marks, make-up, stubble.

Colours here are albedos, the share of light that is sent back. Pigments darken by the law of
Beer and Lambert, as exp(-amount * absorption per channel): blood takes green and blue, melanin
takes blue most. `Paint` gathers the layers in the order in which they lie on the skin.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from facekit.faces import textures
from facekit.faces.head import fold_line, lip_lines, window
from facekit.faces.person import MOLES
from facekit.faces.surface import Facts, Surface, bell, bump, mix, step, triple

BLOOD = (0.10, 0.45, 0.38)
MELANIN = (0.35, 0.75, 1.00)
SHADOWED = (0.30, 0.45, 0.36)


@dataclass
class Paint:
    """A face being painted, (N, V, U) each, colours (N, 3, V, U). Painting happens in place."""

    x: Tensor
    y: Tensor
    edge: float  # width of the sharpest line this grid can carry, cm
    albedo: Tensor
    shade: Tensor  # 1, less in lines and creases
    gloss: Tensor

    def window(self, name: str) -> Self:
        """A part of the same face: what is painted there is painted here."""
        down, across = window(name, *self.x.shape[1:])
        return Paint(
            self.x[:, down, across],
            self.y[:, down, across],
            self.edge,
            self.albedo[:, :, down, across],
            self.shade[:, down, across],
            self.gloss[:, down, across],
        )

    def stain(self, amount: Tensor, absorption: tuple[float, float, float]) -> None:
        """Darken by so much (N, V, U) of a pigment with this absorption per channel."""
        self.albedo *= torch.exp(-amount[:, None] * triple(*absorption, amount))

    def lay(self, colour: Tensor, cover: Tensor) -> None:
        """Paint over what is there, where `cover` (N, V, U) is 1."""
        self.albedo.lerp_(colour.expand_as(self.albedo), cover[:, None].expand_as(self.albedo))

    def line(self, width: float, off: Tensor) -> Tensor:
        """1 on a line at off = 0; where the grid is too coarse for it, wider and as much paler."""
        shown = max(width, 0.7 * self.edge)
        return bell(off, shown) * (width / shown)

    def inside(self, off: Tensor, soft: float = 0.05) -> Tensor:
        """1 where off > 0, with an edge the grid can carry."""
        return torch.sigmoid(off / max(soft, 0.3 * self.edge))


def bare(f: Facts, surface: Surface, edge: float) -> Paint:
    """Skin with its own colour, blood and clouds."""
    x, y, _ = surface.points.unbind(1)
    angle = surface.marks.get("angle", x * 0.12)
    clouds = textures.texture(
        textures.CLOUDS, angle * 1.25 + 3 * f.strands, y * 0.15 + 5 * f.strands
    )
    albedo = f.skin * torch.exp(-6 * f.tan[:, None] * triple(0.5, 1.0, 1.4, x))
    albedo = albedo * (1 - 0.02 * f.mottle * clouds.clamp(-2, 2))[:, None]
    paint = Paint(x, y, edge, albedo, torch.ones_like(x), torch.full_like(x, 0.6))
    paint.stain(0.25 * f.flush + 0.10 * f.mottle * clouds, BLOOD)
    return paint


def marks(f: Facts, paint: Paint) -> None:
    """Blood in cheeks and nose, shadows round the eyes, freckles and moles."""
    x = paint.x
    y = paint.y
    ax = x.abs()
    tip = f.nose_y + f.nose_rise
    rosy = 0.8 * bump(ax - 3.9, y + 2.9, 1.8, 1.4) + 0.9 * bump(x, y - tip, 1.5, 0.9)
    rosy = f.rosy * (rosy + 0.35 * bump(x, y - f.chin_y, 1.6, 1.0))
    rosy = rosy + 0.6 * f.makeup_now * bump(ax - 4.6, y + 2.4, 1.5, 1.0)
    paint.stain(0.8 * rosy, BLOOD)
    dark = (0.5 * f.eye_shadow + 0.2 * f.eye_bag) * bump(ax - f.eye_apart + 0.2, y + 0.95, 1.1, 0.5)
    dark = dark + 0.38 * bump(ax - f.eye_apart, y - 0.15, 1.9, 1.0)
    paint.stain(0.9 * dark, SHADOWED)
    spots = textures.texture(textures.SPOTS, x * 0.14 + 3 * f.strands, y * 0.14)
    paint.stain(1.2 * f.freckles * spots * bell(y + 1.2, 3.2), MELANIN)
    mole = torch.zeros_like(x)
    for i in range(MOLES):
        size = getattr(f, f"mole_size_{i}")
        wide = size.clamp(min=0.7 * paint.edge)
        off = bump(x - getattr(f, f"mole_x_{i}"), y - getattr(f, f"mole_y_{i}"), wide, wide)
        mole = mole + off * (size / wide) ** 2
    paint.albedo *= (1 - 0.72 * mole.clamp(0, 1))[:, None]
    paint.gloss += 0.5 * bell(x, 2.2) + 0.3 * bell(y - 4.2, 1.8)
    paint.gloss += 0.25 * bump(ax - 4.3, y + 2.0, 1.3, 1.2)


def forehead_lines(f: Facts, paint: Paint) -> None:
    """Wrinkles of the forehead, and between the brows."""
    x = paint.x
    y = paint.y
    wave = textures.texture(textures.CLOUDS, x * 0.05 + f.strands, y * 0.05)
    ridges = torch.sin(y * 5.2 + 0.8 * wave + 0.25 * torch.cos(x * 0.7))
    across = bell(ridges - 1, 0.25) * bell(y - 4.6, 1.3) * torch.exp(-((x / 3.6) ** 4))
    frown = bump(x.abs() - 0.55, y - 1.7, 0.16, 0.75)
    paint.shade -= across * (0.22 * f.old + 0.35 * (f.brow_raise - 0.1).clamp(0, 1))
    paint.shade -= frown * (0.45 * f.frown.clamp(0, 1) + 0.16 * f.old)


def cheek_lines(f: Facts, paint: Paint) -> None:
    """The fold from nose to mouth."""
    line, down = fold_line(f, paint.y)
    off = (paint.x.abs() - line) / (1 + 1.5 * down.clamp(0, 1))  # it runs ever flatter
    fold = paint.line(0.15, off) * step(-0.1, 0.3, down) * step(1.0, 0.4, down)
    paint.shade -= fold * (0.25 * f.smile_fold + 0.1 * f.old + 0.06 * f.grin)


def crows_feet(f: Facts, paint: Paint) -> None:
    """Lines that fan out from the eyes' corners, with age and when smiling."""
    y = paint.y
    out = paint.x.abs() - f.eye_apart - f.eye_width
    rays = torch.sin((y - 0.1) * 7 / (1 + 0.25 * out.clamp(min=0)))
    feet = bell(rays - 1, 0.3) * bump(out - 0.85, y + 0.1, 0.5, 0.8)
    paint.shade -= feet * (0.2 * f.old + 0.2 * f.grin * (0.4 + f.old))


def eye_frame(f: Facts, paint: Paint) -> tuple[Tensor, Tensor, Tensor]:
    """Both eyes in one frame: along the slit -1..1 from the nose, height in cm, cm from middle."""
    off = paint.x.abs() - f.eye_apart
    up = paint.y - f.eye_skew * paint.x.sign()
    c = torch.cos(f.eye_tilt)
    s = torch.sin(f.eye_tilt)
    return (off * c + up * s) / f.eye_width, up * c - off * s, off


def lids(f: Facts, along: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Heights of the upper lid, the lower lid and the wide-open upper lid: (N, V, U)."""
    arch = (1 - along * along).clamp(min=1e-4) ** 0.72
    high = f.eye_open * 0.54 * arch * (1 + f.lid_peak * along)
    low = -f.eye_open * 0.42 * arch * (1 + 0.18 * along) + 0.12 * f.grin * arch
    return low + (high - low) * f.lid.clamp(0.03, 1.25), low, high


def eyes(f: Facts, paint: Paint) -> tuple[Tensor, Tensor]:
    """Paint lids and lashes; return the eyes' colour and where they show."""
    along, up, off = eye_frame(f, paint)
    upper, lower, wide = lids(f, along)
    ends = paint.inside(1 - along.abs(), 0.03)
    shows = paint.inside(upper - up) * paint.inside(up - lower) * ends
    shows = shows * step(0.02, 0.12, f.lid)
    crease = wide + f.lid_fold * (1 - 0.25 * along * along) + 0.1 * f.brow_raise
    near = step(1.1, 0.8, along.abs()) * step(0.1, 0.3, f.lid_fold)
    paint.shade -= 0.42 * paint.line(0.085, up - crease) * near
    shadow = step(upper, upper + 0.12, up) * step(crease + 0.5, crease - 0.1, up)
    shadow = 0.55 * f.makeup_now * shadow * step(1.25, 0.8, along.abs())
    tint = torch.cat([0.7 + f.makeup_hue, 1.1 + 0 * f.makeup_hue, 0.9 - f.makeup_hue], 1)
    paint.albedo *= torch.exp(-shadow[:, None] * tint[:, :, None])
    paint_lashes(f, paint, along, up, upper, lower)
    return eyeball(f, paint, along, up, off, upper), shows


def paint_lashes(
    f: Facts, paint: Paint, along: Tensor, up: Tensor, upper: Tensor, lower: Tensor
) -> None:
    """The dark line of the lashes, stronger above and outside, and with make-up."""
    makeup = f.makeup_now
    above = paint.line(0.13, up - upper - 0.03) * step(1.12, 0.93, along.abs())
    above = above * (0.95 + 0.25 * along.clamp(-1, 1)) * (0.9 + 0.5 * makeup - 0.15 * f.sex)
    below = paint.line(0.07, up - lower + 0.05) * step(1.0, 0.8, along.abs())
    lash = above + below * (0.35 + 0.35 * makeup)
    paint.lay(torch.full_like(paint.albedo, 0.012), lash.clamp(0, 0.95))


def eyeball(
    f: Facts, paint: Paint, along: Tensor, up: Tensor, off: Tensor, upper: Tensor
) -> Tensor:
    """White, iris, pupil and the shadow of the upper lid: albedo (N, 3, V, U)."""
    across = off - f.gaze_x * paint.x.sign()
    height = up - 0.04 - f.gaze_y
    radius = torch.sqrt(across**2 + height**2 + 1e-6)
    under = torch.exp(-(upper - up).clamp(min=0) / 0.18)  # the lid's shadow
    ball = (
        triple(0.54, 0.50, 0.48, up)
        * (1 - 0.4 * f.tone)[:, None]
        * (1 - 0.28 * along**2 - 0.4 * under)[:, None]
    )
    ball = ball * torch.exp(-bell(along + 1.0, 0.2)[:, None] * triple(0.15, 0.8, 0.75, up))
    share = (radius / f.iris_size).clamp(0, 1)
    rays = 0.75 + 0.5 * (1 - share)
    rays = rays * (1 - 0.65 * step(0.72, 1.0, share)) * (1 - 0.4 * under)
    ball = mix(ball, f.eye * rays[:, None], paint.inside(f.iris_size - radius, 0.045))
    pupil = paint.inside(0.36 * f.iris_size - radius, 0.04)
    return ball * (1 - 0.94 * pupil)[:, None]


def catch_light(f: Facts, paint: Paint) -> Tensor:
    """The key light's reflection in the eyes: (N, V, U)."""
    _, up, off = eye_frame(f, paint)
    x = off * paint.x.sign() - f.gaze_x - 0.26 * f.key_x
    y = up - 0.06 - f.gaze_y - 0.24 * f.key_y
    wide = max(0.12, 0.8 * paint.edge)
    return bump(x, y, wide, wide) * (0.12 / wide) ** 2 * step(-0.1, 0.3, f.key_z)


def brow_colour(f: Facts) -> Tensor:
    """Brows are hair, but always darker than the skin they lie on: (N, 3, 1, 1)."""
    skin = f.skin.mean(1, keepdim=True)
    hair = f.brow.mean(1, keepdim=True)
    return f.brow * (0.42 * skin / hair.clamp(min=1e-3)).clamp(max=1.0)


def brows(f: Facts, paint: Paint) -> Tensor:
    """Brows; returns where they are, (N, V, U)."""
    x = paint.x.abs()
    y = paint.y
    along = (x - f.brow_start + 0.12 * f.frown) / (f.brow_end - f.brow_start)
    line = f.brow_level + 0.55 * f.brow_raise - 0.1 + f.brow_tilt * (along - 0.4)
    line = line + 0.8 * f.brow_arch * (1 - ((along - f.brow_peak) / 0.62) ** 2)
    line = line - 0.35 * f.frown * (1 - along.clamp(0, 1)) + f.eye_skew * paint.x.sign()
    thick = f.brow_thick * (0.6 + 0.4 * step(0.0, 0.3, along)) * (1 - 0.7 * step(0.35, 1.05, along))
    cover = paint.inside(thick - (y - line).abs(), 0.09) * step(-0.06, 0.12, along)
    cover = cover * step(1.06, 0.9, along)
    hairs = textures.texture(textures.STRANDS, x * 0.25 + 0.25 * y + f.strands, y * 0.05)
    cover = (cover * f.brow_dense * (0.92 + 0.1 * hairs.clamp(-2, 2))).clamp(0, 0.97)
    paint.lay(brow_colour(f), cover)
    return cover


def lips(f: Facts, paint: Paint) -> tuple[Tensor, Tensor]:
    """Lips and what lies round the mouth; returns where lips are and where the mouth is open."""
    x = paint.x + 2 * f.jaw_skew
    y = paint.y
    place, line, upper, lower = lip_lines(f, x)
    room = (1 - place**2).clamp(min=0)
    waved = -0.07 * torch.cos(place * 5) * room
    line = line + waved
    upper = upper + waved
    lower = lower + waved
    top = upper + f.lip_up * room**0.78 - f.lip_bow * bell(place, 0.13) + 0.03
    bottom = lower - f.lip_low * room**0.68
    ends = paint.inside(1 - place.abs(), 0.03)
    cover = paint.inside(top - y, 0.07) * paint.inside(y - bottom, 0.09) * ends
    opened = step(0.03, 0.12, upper - lower)
    gap = paint.inside(upper - y, 0.04) * paint.inside(y - lower, 0.04) * ends * opened
    own = torch.cat([0.12 + 0.1 * f.lip_red, 0.5 + 0.5 * f.lip_red, 0.42 + 0.38 * f.lip_red], 1)
    red = paint.albedo * torch.exp(-own[:, :, None])
    red = mix(red, f.lipstick, (0.7 * f.makeup_now).clamp(0, 0.85) + 0 * cover)
    paint.lay(red * (1 - 0.15 * (y > line).float())[:, None], cover)
    shut = paint.line(0.07, y - line) * step(1.06, 0.9, place.abs()) * (1 - opened)
    corner = bump(paint.x.abs() - f.mouth_half, y - line, 0.17, 0.15)
    under = bump(x / (0.7 * f.mouth_half), y - bottom + 0.22, 1.0, 0.22)
    paint.shade *= (1 - 0.66 * shut) * (1 - 0.45 * corner) * (1 - 0.18 * under)
    return cover, gap


def mouth_inside(f: Facts, paint: Paint) -> Tensor:
    """Teeth, tongue and the dark behind: albedo (N, 3, V, U)."""
    place, _, upper, lower = lip_lines(f, paint.x)
    teeth = paint.inside(paint.y - upper + 0.95, 0.06) * step(1.0, 0.8, 1.1 * place.abs())
    slits = 1 - 0.4 * bell(torch.sin(paint.x * math.pi / 0.8), max(0.12, paint.edge))
    depth = slits * (1 - 0.5 * place**2) * (0.7 + 0.3 * step(0.0, 0.3, upper - paint.y))
    tongue = bump(place / 0.55, paint.y - lower, 1.0, 0.5)[:, None]
    behind = 0.035 + tongue * triple(0.25, 0.06, 0.05, place)
    white = triple(0.74, 0.70, 0.61, place)
    return mix(behind.expand_as(paint.albedo), white * depth[:, None], teeth)


def nostrils(f: Facts, paint: Paint) -> None:
    """Nostrils and the crease behind the wings."""
    ax = paint.x.abs()
    y = paint.y
    x = (ax - 0.52 * f.nose_wings) / 0.34
    hole = torch.exp(-((x**2 + ((y - f.nose_y - 0.2 - 0.06 * ax) / 0.16) ** 2) ** 1.3))
    crease = bump(ax - 1.06 * f.nose_wings, y - f.wing_y + 0.1, 0.15, 0.42)
    paint.shade *= (1 - 0.8 * hole) * (1 - 0.3 * crease)


def growth(f: Facts, surface: Surface, paint: Paint) -> Tensor:
    """Shaved cheeks, stubble, beard, and the scalp under the hair; returns where hair covers."""
    scalp = surface.marks["scalp"]
    angle = surface.marks["angle"]
    pores = textures.texture(textures.PORES, angle * 1.5 + f.strands, paint.y * 0.2)
    man = (f.sex > 0.5).float()
    paint.stain(0.26 * man * (1 - 0.6 * f.tone) * surface.marks["shave"], (0.75, 0.6, 0.45))
    stubble = (f.beard_now == 1).float() * (0.36 + 0.12 * pores.clamp(-2, 2))
    full = (f.beard_now >= 2).float() * (0.92 + 0.08 * pores.clamp(-2, 2))
    dense = f.beard_dense * f.beard_grown
    beard = stubble * dense + full * (0.6 + 0.4 * dense)
    cover = (surface.marks["beard"] * beard).clamp(0, 0.97)
    curls = textures.texture(textures.CURLS, paint.x * 0.3 + f.strands, paint.y * 0.22)
    paint.lay(brow_colour(f) * (0.95 + 0.2 * curls.clamp(-1.5, 1.5))[:, None], cover)
    shaved = (f.style_now == 0).float()
    roots = torch.lerp(torch.full_like(scalp, 0.75), 0.42 + 0.12 * pores, shaved)
    roots = (scalp * roots * (1 - 0.5 * f.bald)).clamp(0, 0.95)
    paint.lay(0.8 * f.hair, roots)
    return torch.maximum(cover, roots)


class Features(NamedTuple):
    """What is laid over the skin when it is lit, eyes in the window "slits", mouth in "lips"."""

    eyeball: Tensor  # albedo (N, 3, V, U)
    eye_cover: Tensor  # where eyes show, (N, V, U)
    mouth_gap: Tensor  # where the mouth is open, (N, V, U)


def paint_features(f: Facts, paint: Paint) -> Features:
    """Paint everything that only the front of the head has."""
    marks(f, paint)
    forehead_lines(f, paint.window("forehead"))
    cheek_lines(f, paint.window("cheeks"))
    crows_feet(f, paint.window("eyes"))
    ball, shows = eyes(f, paint.window("slits"))
    brow = brows(f, paint.window("brows"))
    lip, gap = lips(f, paint.window("lips"))
    nostrils(f, paint.window("nose"))
    paint.window("brows").gloss.mul_(1 - 0.8 * brow)
    paint.window("lips").gloss.mul_(1 + lip * (0.5 + 1.5 * f.makeup_now))
    return Features(ball, shows, gap)
