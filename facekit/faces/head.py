"""The head's geometry: skull, face, ears, neck and shoulders.

The head is a stack of superellipses from crown to neck, and the face is that surface pushed
forwards and back by some forty smooth hills. Expression moves the mouth's and the brows'
landmarks first; geometry here and paint in `skin` both read the moved ones.
"""

import math
from functools import cache

import torch
from torch import Tensor

from facekit.faces.surface import (
    Facts,
    Surface,
    bell,
    bump,
    hollowness,
    keep_outline,
    normals,
    outline,
    places,
    slices,
    spline,
    step,
    unevenly,
)

LEVELS = 16  # knots from the crown to the neck
FACE_EDGE = 1.5  # radians from the front where face and skull meet


def express(f: Facts) -> None:
    """Add the landmarks that move with expression to the facts: levels (cm) and widths."""
    grin = f.smile.clamp(min=0)
    f.old = (f.lines + f.years / 60).clamp(0, 1)
    f.nose_y = f.nose_base + 0.1 * grin
    f.lip_y = f.nose_y - f.lip_gap + 0.2 * grin
    parted = (f.mouth_open > 0.02).float().maximum(step(0.35, 0.75, grin))  # who smiles shows teeth
    f.gap_up = 0.26 * f.mouth_open + 0.14 * grin * parted
    f.gap_low = 1.05 * f.mouth_open + 0.42 * grin * parted
    f.drop = 0.9 * f.gap_low + 0.35 * f.jaw_open
    f.mouth_half = f.mouth_width * (
        1 + 0.26 * f.smile.clamp(min=-0.4) - 0.2 * f.pucker - 0.06 * f.mouth_open
    )
    f.corner = f.mouth_corner + 0.62 * f.smile - 0.15 * f.mouth_open * (1 - grin.clamp(max=1))
    f.lip_up = f.upper_lip * (1 - 0.25 * grin)
    f.lip_low = f.lower_lip * (1 - 0.12 * grin)
    f.fold_y = f.lip_y - f.chin_fold - f.drop
    f.chin_y = f.fold_y - 0.48 * f.chin_height
    f.menton_y = f.fold_y - f.chin_height
    f.brow_y = f.brow_level + 0.5 * f.brow_raise
    f.wing_y = f.nose_y + 0.5
    f.grin = grin


@cache
def head_rows(rows: int, device: str) -> tuple[Tensor, Tensor]:
    """Where the grid's rows lie on the 0..15 scale of the knots, and the spline's weights."""
    t = torch.linspace(0, LEVELS - 1, 4000, dtype=torch.float64)
    face = torch.sigmoid((t - 4.6) * 3) * torch.sigmoid((13.0 - t) * 3)
    density = 0.5 + 1.4 * face + 0.5 * bell(t - 7, 0.5) + 0.6 * bell(t - 10, 0.8)
    level = unevenly(density, 0, LEVELS - 1, rows)
    return level.float().to(device), spline(LEVELS, level).float().to(device)


@cache
def face_angles(columns: int, device: str) -> Tensor:
    """The angles of a face's columns, (columns,) radians, closer together in the middle."""
    u = torch.linspace(-1, 1, columns, dtype=torch.float64)
    return (0.72 * FACE_EDGE * u + 0.28 * FACE_EDGE * u**3).float().to(device)


@cache
def skull_angles(columns: int, device: str) -> Tensor:
    """The angles of the rest of the head, from the face's edge round the back to the other."""
    return torch.linspace(FACE_EDGE, 2 * math.pi - FACE_EDGE, columns).to(device)


# Where features lie: the first and last level of the knots, and radians to each side.
WINDOWS = {
    "brows": (4.2, 7.2, 1.05), "eyes": (4.4, 9.3, 1.05), "slits": (5.6, 8.6, 0.8),
    "nose": (4.6, 10.4, 0.62), "cheeks": (6.0, 13.6, 1.5), "mouth": (7.6, 14.2, 0.75),
    "lips": (8.8, 12.6, 0.62), "forehead": (3.6, 6.9, 0.8), "face": (0.0, 15.0, 1.5),
}  # fmt: skip


@cache
def window(name: str, rows: int, columns: int) -> tuple[slice, slice]:
    """The rows and columns of a face's grid in which a feature lies, so that work stays there."""
    top, bottom, reach = WINDOWS[name]
    level, _ = head_rows(rows, "cpu")
    angle = face_angles(columns, "cpu")
    down = torch.nonzero((level >= top) & (level <= bottom)).flatten()
    across = torch.nonzero(angle.abs() <= reach).flatten()
    return slice(int(down[0]), int(down[-1]) + 1), slice(int(across[0]), int(across[-1]) + 1)


def shape_skull(f: Facts) -> None:
    """Add the head's outline at LEVELS levels to the facts."""
    tall = f.head_height / 11.4
    wide = f.head_width
    slope = f.forehead_slope
    cheek = f.cheek_width + 0.12 * f.weight
    jaw = (f.jaw_width + 0.2 * f.weight).clamp(min=0.72 * cheek, max=cheek - 0.6)
    mouth = f.mouth_forward
    chin = f.chin_forward
    height = [11.5 * tall, 10.9 * tall, 9.65 * tall, 8.0 * tall, 6.0 * tall, 3.9, 1.8, 0.0, -2.0,
              f.nose_y + 0.1, f.lip_y, f.fold_y, f.chin_y, f.menton_y, f.menton_y - 0.45,
              f.menton_y + 0.2]  # fmt: skip
    side = jaw_line(f, height[8:15], cheek, jaw)
    width = [0.0 * wide, 0.44 * wide, 0.70 * wide, 0.89 * wide, 0.98 * wide, 1.0 * wide,
             0.985 * wide, 0.48 * wide + 0.51 * cheek, *side, jaw - 2.4]  # fmt: skip
    front = [0.0 * wide, 3.7, 6.0 - slope, 7.75 - slope, 8.75 - 0.6 * slope, 9.25 - 0.2 * slope,
             9.4, 8.95, 9.05 + f.midface, 9.25 + f.midface, 9.25 + 0.3 * mouth,
             9.1 + 0.2 * mouth + 0.3 * chin, 9.0 + 0.5 * chin, 8.4 + 0.6 * chin, 6.9 + 0.5 * chin,
             4.6]  # fmt: skip
    back = [0.0, 4.0, 6.4, 8.6, 9.7, 10.1, 10.1, 9.7, 8.9, 7.9, 6.7, 5.6, 4.5, 3.4, 2.5, 2.0]
    keep_outline(f, "skull", (height, width, front, [wide * 0 + b for b in back]))


def jaw_line(f: Facts, height: list[Tensor | float], cheek: Tensor, jaw: Tensor) -> list[Tensor]:
    """Half widths at heights from the cheekbones, past the mouth, to below the chin.

    One parabola, so that no ridge runs along the cheek, wherever a face has its nose and mouth.
    """
    top = height[0]
    down = [(top - level) / (top - f.menton_y) for level in height]
    mouth = (top - f.lip_y) / (top - f.menton_y)
    chin = jaw - 1.35 + 1.4 * f.chin_width
    bend = (jaw + 0.1 - torch.lerp(cheek, chin, mouth)) / (mouth * (1 - mouth))
    return [torch.lerp(cheek, chin, t) + bend * t * (1 - t) for t in down]


def skull(f: Facts, rows: int, angle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The bare head without features: x, y, z (N, V, U)."""
    level, weights = head_rows(rows, str(angle.device))
    low = step(6.5, 10.0, level)[:, None]  # from a round skull to a narrower jaw
    power = torch.lerp(f.forehead_round, f.jaw_round, low)
    x, y, z = slices(weights, angle, outline(f, "skull"), power)
    under = step(-1.0, -13.0, y + 0.7 * f.drop)
    side = torch.sin(angle).abs()
    y = y + f.jaw_lift * under * side**f.jaw_square
    temple = bump(angle.abs() - 1.0, y - 2.2, 0.35, 2.2)
    return x - x.sign() * 0.3 * temple + f.jaw_skew * (y + 4).clamp(max=0), y, z


def brow_and_sockets(f: Facts, x: Tensor, y: Tensor) -> Tensor:
    """Brow ridge, eye sockets, eyeballs behind their lids, lid folds and bags: cm forwards."""
    ax = x.abs()
    ridge = torch.exp(-(((ax - 2.6) / 3.0) ** 4) - ((y - f.brow_y + 0.25) / 0.75) ** 2)
    y = y - f.eye_skew * x.sign()
    x = ax - f.eye_apart
    sockets = bump(x + 0.15, y - 0.35, 1.75, 1.1) + 0.4 * bump(ax - 1.55, y - 0.3, 0.55, 0.85)
    ball = torch.exp(-(((x / 1.4) ** 2 + (y / 0.9) ** 2) ** 1.4))
    along = x / f.eye_width
    arch = (1 - along * along).clamp(min=0) ** 0.8
    within = step(1.35, 0.6, along.abs())
    fold = bell(y - f.eye_open * 0.52 * arch - f.lid_fold - 0.22, 0.26)
    rim = bell(y - f.eye_open * 0.55 * arch - 0.04, 0.12) + bell(y + f.eye_open * 0.45 * arch, 0.12)
    below = y + f.eye_open * 0.45 * arch + 0.45
    bag = 0.04 + 0.16 * f.eye_bag + 0.06 * f.grin
    lids = 0.14 * fold + 0.05 * rim + bag * bell(below, 0.28) - 0.7 * bag * bell(below + 0.5, 0.3)
    return f.brow_ridge * ridge - f.eye_depth * sockets + 0.45 * ball + lids * within


def nose(f: Facts, x: Tensor, y: Tensor) -> Tensor:
    """Bridge, tip, wings: cm forwards."""
    ax = x.abs()
    tip = f.nose_y + f.nose_rise
    up = (y - tip) / (0.25 - tip)  # 0 at the tip, 1 at the root
    along = up.clamp(0, 1)
    height = torch.lerp(f.nose_tip, f.bridge_height, along)
    height = height + f.nose_hump * torch.sin(math.pi * along) - 0.1 * bell(along - 0.16, 0.1)
    height = height * torch.where(up > 1, bell(y - 0.25, 1.35), 1.0)
    off = (x - f.nose_skew * (1 - along)).abs()
    bottom = f.nose_y - 0.12 + 0.12 * off
    top = tip + 0.25 + 0.2 * off
    under = ((top - y) / (top - bottom)).clamp(0, 1)
    height = height * (1 - under**2.3).clamp(min=1e-4) ** 0.62 * (under < 1)
    width = torch.lerp(f.nose_tip_width, f.bridge_width, step(0.05, 0.75, along))
    width = width + 0.25 * step(0.75, 1.15, up)
    ridge = 0.6 * bell(off, 0.95 * width) + 0.4 * bell(off, 2.0 * width)
    ball = 0.28 * bump(off, y - tip - 0.1, f.nose_tip_width * 0.85, 0.55)
    wing = f.nose_wings * (1 + 0.08 * f.grin)
    wings = f.nose_wing_round * bump(ax - 0.74 * wing, y - f.wing_y, 0.42, 0.47)
    wings = wings * step(f.nose_y - 0.1, f.wing_y - 0.1, y)
    crease = 0.2 * bump(ax - wing - 0.28, y - f.wing_y - 0.05, 0.26, 0.5)
    return height * ridge + ball + wings - crease


def fold_line(f: Facts, y: Tensor) -> tuple[Tensor, Tensor]:
    """The fold from nose to mouth: its x at each height, and how far along it that is, 0..1."""
    wing = f.nose_wings + 0.12
    down = (f.wing_y - y) / (f.wing_y - f.lip_y + 1.0)
    reach = f.mouth_half + 0.55 + 0.35 * f.grin - wing
    return wing + reach * down.clamp(0.001, 1.25) ** 0.85, down


def cheeks(f: Facts, x: Tensor, y: Tensor) -> Tensor:
    """Cheekbones, fullness, hollows and the fold beside the mouth: cm forwards."""
    ax = x.abs()
    bone = f.cheekbone * bump(ax - 5.0, y - f.cheekbone_level, 1.5, 1.2)
    full = f.cheek_full + 0.5 * f.grin + 0.12 * f.weight
    full = full * bump(ax - 3.7, y + 3.2 - 0.4 * f.grin, 1.6, 1.5)
    hollow = (f.cheek_hollow - 0.15 * f.grin - 0.1 * f.weight) * bump(ax - 4.6, y + 6.3, 1.2, 1.7)
    line, down = fold_line(f, y)
    deep = (0.5 * f.smile_fold + 0.2 * f.old + 0.3 * f.grin) * step(-0.15, 0.15, down)
    deep = deep * step(1.1, 0.6, down)
    wide = 0.22 + 0.3 * down.clamp(0, 1)
    fold = deep * (0.32 * bell(ax - line - 0.6, 0.55) - 0.2 * bell(ax - line, wide))
    return bone + full - hollow + fold


def lip_lines(f: Facts, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The mouth at each x: place -1..1, its middle line, and the gap's upper and lower edge."""
    place = x / f.mouth_half
    line = f.lip_y + f.corner * place**2 + 0.5 * f.mouth_skew * place
    room = (1 - place**2).clamp(min=0)
    return place, line, line + f.gap_up * room, line - f.gap_low * room


def mouth_and_chin(f: Facts, x: Tensor, y: Tensor) -> Tensor:
    """Lips, their parting, philtrum, the fold under the lip and the chin: cm forwards."""
    ax = x.abs()
    place, line, upper, lower = lip_lines(f, x)
    within = step(1.2, 0.75, place.abs())
    pout = f.lip_forward + 0.35 * f.pucker - 0.12 * f.grin
    lips = 0.85 * bell(y - upper - 0.42 * f.lip_up, 0.62 * f.lip_up + 0.08)
    lips = lips + bell(y - lower + 0.42 * f.lip_low, 0.62 * f.lip_low + 0.08)
    opened = upper - lower
    shut = 0.3 * bell(y - line, 0.16) * (opened < 0.15)
    inside = 0.5 * torch.sigmoid((upper - y) / 0.06) * torch.sigmoid((y - lower) / 0.06)
    lips = (pout * lips - shut) * within - inside * step(0.1, 0.35, opened)
    corner = 0.2 * bump(ax - f.mouth_half - 0.12, y - line, 0.35, 0.35) * (0.6 + f.grin)
    groove = y - f.nose_y + 0.45 * f.lip_gap
    groove = f.philtrum * (
        0.05 * bump(ax - 0.5, groove, 0.25, 0.5) - 0.11 * bump(x, groove, 0.28, 0.5)
    )
    under = 0.45 * bump(x, y - f.fold_y, 2.0, 0.55)
    chin = f.chin_ball * bump(x, y - f.chin_y, 1.7, 1.0)
    forward = (0.25 + 0.7 * f.mouth_forward) * bump(x, y - f.lip_y, 3.2, 2.2)
    forward = forward + 0.5 * f.chin_forward * bump(x, y - f.chin_y, 2.6, 1.8)
    cleft = 0.25 * f.chin_cleft * bump(x, y - f.chin_y + 0.2, 0.22, 0.7)
    return lips - corner + groove - under + chin - cleft + forward


FEATURES = {"eyes": brow_and_sockets, "nose": nose, "cheeks": cheeks, "mouth": mouth_and_chin}


def face(f: Facts, rows: int, columns: int) -> Surface:
    """The front of the head, dense where the features are."""
    angle = face_angles(columns, str(f.tone.device))
    x, y, z = skull(f, rows, angle)
    forwards = torch.zeros_like(x)
    for name, feature in FEATURES.items():
        down, across = window(name, rows, columns)
        part = (slice(None), down, across)
        forwards[part] += feature(f, x[part], y[part])
    z = z + forwards * step(0.08, 0.40, torch.cos(angle))
    points = torch.stack([x, y, z], 1)
    normal = normals(points)
    hollow = hollowness(points, normal, round(rows * 0.055))
    narrow = hollowness(points, normal, round(rows * 0.02))
    light = (1 + 0.9 * hollow.clamp(max=0) + 1.2 * narrow.clamp(max=0)).clamp(0.35, 1)
    light = light * (0.55 + 0.45 * step(-12.5, -8.5, y + 0.25 * z - 2))  # under the chin
    surface = Surface("face", points, normal, light, wrap=(0.40, 0.24, 0.18))
    surface.marks = {"angle": angle.expand_as(x), "front": torch.ones(1, device=x.device)}
    return surface


def nape(f: Facts, rows: int, columns: int) -> Surface:
    """The rest of the head, from temple round the back to temple."""
    angle = skull_angles(columns, str(f.tone.device))
    points = torch.stack(skull(f, rows, angle), 1)
    light = 0.55 + 0.45 * step(-12.5, -8.5, points[:, 1])
    surface = Surface("face", points, normals(points), light, wrap=(0.38, 0.22, 0.16))
    surface.marks = {"angle": (angle - 2 * math.pi * (angle > math.pi)).expand_as(points[:, 0])}
    return surface


def ear(f: Facts, side: int, rows: int, columns: int) -> Surface:
    """One ear, a bent disc with a rim and a bowl; `side` 1 is on the right of the image."""
    radius, turn = places(rows, columns, str(f.tone.device))
    c = torch.cos(turn * 2 * math.pi)
    s = torch.sin(turn * 2 * math.pi)
    lobe = 0.30 * (-s).clamp(min=0) ** 2 * (1.2 - 0.6 * f.ear_lobe)
    shape = 1 + 0.1 * s * c - lobe
    back = radius * c * shape * f.ear_width * (1 + 0.2 * s)
    up = radius * s * shape * f.ear_height
    rim = 0.45 * bell(radius - 0.86, 0.12) * step(-0.95, -0.5, s)
    bowl = 0.26 * bell(radius - 0.52, 0.14) * step(-0.9, -0.5, c) - 0.35 * bell(radius, 0.33)
    out = rim + bowl - 0.3 * step(0.93, 1.0, radius)
    away = back + 0.75 * f.ear_width
    c = torch.cos(f.ear_tilt)
    s = torch.sin(f.ear_tilt)
    x = 0.7 * f.cheek_width + 0.3 * f.head_width - 0.45 + away * s + out * c
    z = 0.6 - away * c + out * s - 0.12 * up
    points = torch.stack(torch.broadcast_tensors(side * x, f.ear_level + up, z), 1)
    normal = normals(points)
    normal = normal * (normal[:, :1] * side).mean((2, 3), keepdim=True).sign()
    hollow = hollowness(points, normal, max(2, rows // 5))
    light = 0.85 * (1 + 1.4 * hollow.clamp(max=0)).clamp(0.3, 1)
    return Surface("ear", points, normal, light, wrap=(0.5, 0.25, 0.18))


@cache
def body_rows(rows: int, device: str) -> Tensor:
    """The spline's weights (rows, 9) of a body."""
    return spline(9, torch.linspace(0, 8, rows, dtype=torch.float64)).float().to(device)


def shape_body(f: Facts) -> None:
    """Add the outline of neck and shoulders at 9 levels to the facts."""
    thick = 0.88 + 0.13 * f.sex + 0.03 * f.build + 0.02 * f.weight
    broad = 0.88 + 0.15 * f.sex + 0.02 * f.build
    height = [-4.5 + 0 * thick, -8.0, -11.0, -13.0, -14.6, -16.0, -18.0, -21.0, -27.0]
    under_jaw = thick * (f.jaw_width / 5.55).clamp(0.85, 1.05)
    width = [3.4 * under_jaw, 4.7 * under_jaw, 5.6 * under_jaw, 6.9 * thick, 10.2 * broad,
             14.5 * broad, 18.0 * broad, 19.5 * broad, 20.0 * broad]  # fmt: skip
    front = [1.6 * thick, 3.2 * thick, 4.2 * thick, 4.9, 5.8, 6.9, 8.2, 9.8, 11.0]
    back = [5.6 + 0 * thick, 6.5, 7.0, 7.6, 8.0, 8.5, 9.0, 9.0, 9.0]
    keep_outline(f, "body", (height, width, front, back))


def body(f: Facts, rows: int, columns: int) -> Surface:
    """Neck, shoulders and chest as far as a portrait shows them."""
    device = str(f.tone.device)
    angle = torch.linspace(-math.pi, math.pi, columns, device=device)
    power = torch.full((1, rows, 1), 2.1, device=device)
    x, y, z = slices(body_rows(rows, device), angle, outline(f, "body"), power)
    cords = 0.35 * bell(x.abs() - 1.4 - 0.2 * (y + 14), 0.8) * step(-14.6, -11, y) * (z > 0)
    points = torch.stack([x, y, z + cords], 1)
    light = 0.25 + 0.75 * step(-10.2, -15.5, y)  # the head shades the neck
    light = torch.maximum(light, 0.55 * step(4, 7, x.abs()))
    turns = step(-14.0, -8.0, y)
    return Surface("neck", points, normals(points), light, follow=turns, wrap=(0.35, 0.22, 0.16))


# Left and right are the person's own: a person's left is on the image's right. "forehead" is
# where hair usually begins.
LANDMARKS = (
    "left_eye right_eye nose_tip mouth_left mouth_right chin brow_left brow_right "
    "cheek_left cheek_right forehead"
).split()


def landmarks(f: Facts) -> Tensor:
    """Points on the head, (N, 3, 1, 11), in the order of LANDMARKS."""
    zero = 0 * f.tone
    round_ = (1 - (f.mouth_half / (f.jaw_width + 0.1)) ** 2).clamp(min=0.3).sqrt()
    corner_z = (9.25 + 0.3 * f.mouth_forward) * round_ + 0.1
    points = [
        (f.eye_apart, 0.0, 8.6), (-f.eye_apart, 0.0, 8.6),
        (0.0, f.nose_y + f.nose_rise, 9.3 + f.midface + 0.95 * f.nose_tip),
        (f.mouth_half, f.lip_y + f.corner, corner_z), (-f.mouth_half, f.lip_y + f.corner, corner_z),
        (0.0, f.menton_y, 8.6 + f.chin_forward),
        (3.0, f.brow_y + 0.3, 9.2), (-3.0, f.brow_y + 0.3, 9.2),
        (f.cheek_width, -2.0, 2.0), (-f.cheek_width, -2.0, 2.0),
        (0.0, 5.8 * f.head_height / 11.4, 8.9 - 0.6 * f.forehead_slope),
    ]  # fmt: skip
    columns = [torch.stack([zero + axis for axis in point], 1) for point in points]
    return torch.cat(columns, dim=3)  # (N, 3, 1, 11)
