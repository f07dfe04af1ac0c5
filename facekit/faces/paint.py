"""Paint a portrait from back to front, one soft-edged layer over another.

Every layer is a colour and a coverage (N, 1, size, size): how much of each pixel it hides. Paint
comes first, without light; then one lamp shines on everything that belongs to the person.
Both halves of a face are painted at once: `view.x.abs()` folds right onto left.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from facekit.faces.draws import Draws, to_unit
from facekit.faces.head import View, hump
from facekit.faces.person import Facts

WHITE = 0.93
DARK = 0.08


def noise(draws: Draws, name: str, cells: int) -> Tensor:
    """A grid of random numbers -1..1, (N, 1, cells, cells)."""
    return to_unit(draws.cells(name, cells, cells)).float() * 2.0 - 1.0


def lay(image: Tensor, colour: Tensor | float, coverage: Tensor) -> None:
    """Cover part of `image` (N, 3, size, size), in place; colour (N, 3, 1, 1) or one number."""
    if not isinstance(colour, Tensor):
        colour = image.new_tensor(colour)
    image.lerp_(colour, coverage)


def union(*distances: Tensor) -> Tensor:
    """The distance to whichever shape is nearest."""
    nearest = distances[0]
    for distance in distances[1:]:
        nearest = torch.minimum(nearest, distance)
    return nearest


def background(view: View, how: Facts, draws: Draws) -> Tensor:
    """A slope between two colours, soft blobs and stripes: a fresh image (N, 3, size, size)."""
    size = view.x.shape[-1]
    blobs = functional.interpolate(noise(draws, "blobs", 6), size=(size, size), mode="bicubic")
    angle = torch.deg2rad(how.pattern_angle)
    along = view.across * angle.cos() + view.down * angle.sin()
    stripes = torch.sin(along * how.pattern_rate + how.pattern_phase) * how.stripes.clamp(min=0.0)
    mixture = (0.5 + how.slope * along + how.blobs * blobs + stripes).clamp_(0.0, 1.0)
    return torch.lerp(how.back_near, how.back_far, mixture)


def body(image: Tensor, view: View, who: Facts, how: Facts) -> Tensor:
    """Neck and clothes; returns their coverage."""
    side = (view.across + 0.1 * view.turn).abs()
    neck = view.cover(torch.maximum(side - who.neck_width, 0.5 - view.down))
    lay(image, who.skin * (0.85 - 0.25 * hump(view.down - 0.95, 0.3)), neck)
    top = how.shoulder + 0.22 * (side - who.neck_width).clamp(min=0.0) - view.down
    collar = how.collar - (view.down - how.shoulder).clamp(min=0.0) - side
    cloth = view.cover(torch.maximum(top + 0.15 * hump(side, 0.45), 0.6 * collar))
    stripes = torch.sin(view.down * how.pattern_rate * 5.0) * how.cloth_stripes.clamp(min=0.0)
    lay(image, how.cloth * (1.0 + stripes), cloth)
    return torch.maximum(neck, cloth)


def ear(view: View, who: Facts, hand: int) -> tuple[Tensor, Tensor]:
    """Distance to the left (-1) or right (1) ear, and how far it faces us, (N, 1, 1, 1)."""
    cosine = (1.0 - view.turn**2).sqrt()
    middle = (hand * cosine - 0.08 * view.turn) * view.half_width
    dx = view.across - middle * (1.0 + who.ear_stick)
    dy = view.down - who.ear_level - 0.1
    distance = ((dx / 0.62) ** 2 + dy**2).sqrt() - who.ear_size
    return distance, -hand * view.turn


def ears(image: Tensor, view: View, who: Facts, in_front: bool) -> Tensor:
    """Paint the ears behind the head, or the one that yaw has brought in front of it."""
    shown = torch.zeros_like(view.x)
    for hand in (-1, 1):
        distance, facing = ear(view, who, hand)
        weight = (facing * 8.0).clamp(0.0, 1.0) if in_front else 1.0 - who.hair_cover
        coverage = view.cover(distance) * weight
        lay(image, who.skin * 0.9, coverage)
        lay(image, who.skin * 0.68, view.cover(distance + 0.08, 0.04) * weight)
        shown = torch.maximum(shown, coverage)
    return shown


def skin(view: View, who: Facts, how: Facts, marks: Tensor) -> Tensor:
    """The colour of the skin everywhere on the head, (N, 3, size, size)."""
    fold = view.x.abs()
    blush = hump(fold - 0.36, 0.2) * hump(view.y - 0.33, 0.17)
    red = view.x.new_tensor([0.06, -0.05, -0.04]).view(1, 3, 1, 1)
    tint = who.skin + red * (blush * (who.rosy + how.flush))
    grid = torch.cat([view.x / who.face_width, view.y], dim=1).permute(0, 2, 3, 1)
    spots = functional.grid_sample(marks, grid, align_corners=False)  # (N, 1, size, size)
    across_nose = hump(view.y - 0.28, 0.25) * who.freckles
    tint = tint * (1.0 - 0.7 * (spots - 0.5).clamp(min=0.0) * across_nose)
    lines = hump(view.y + 0.36, 0.015) + hump(view.y + 0.46, 0.015)
    smile_fold = hump(fold - 0.19 - 0.4 * (view.y - 0.35), 0.03) * hump(view.y - 0.42, 0.1)
    under_eye = hump(fold - who.eye_spacing, 0.1) * hump(view.y - who.eye_level - 0.13, 0.03)
    lines = lines * hump(view.x, 0.3) + smile_fold + under_eye
    return tint * (1.0 - 0.22 * who.age_lines * lines)


def moles(image: Tensor, view: View, who: Facts) -> None:
    """Up to three moles, each at its own place."""
    for i in range(3):
        x, y, size = (getattr(who, f"mole_{i}_{part}") for part in ("x", "y", "size"))
        distance = ((view.x - x) ** 2 + (view.y - y) ** 2).sqrt() - size
        lay(image, who.skin * 0.4, view.cover(distance) * view.front * (size > 0.0))


def beard(image: Tensor, view: View, who: Facts) -> None:
    """Stubble, full beard, goatee and moustache, thinned towards their edges."""
    mouth = who.eye_level + who.nose_length + who.lip_gap
    fold = view.x.abs()
    cheek = mouth - 0.7 * (fold - 0.2).clamp(min=0.0) - view.y
    full = view.cover(cheek, 0.07)
    chin = view.cover(torch.maximum(fold - 0.19, mouth + 0.08 - view.y), 0.07)
    above = (view.y - mouth + 0.085 - 0.25 * fold).abs() - 0.035
    lip = view.cover(torch.maximum(above, fold - 1.05 * who.mouth_width), 0.03)
    colour = who.hair * 0.85
    lay(image, colour, 0.5 * who.stubble * view.front * torch.maximum(full, lip))
    thick = torch.maximum(who.full_beard * full, who.goatee * chin)
    lay(image, colour, 0.88 * view.front * torch.maximum(thick, who.moustache * lip))


def eyes(image: Tensor, view: View, who: Facts, how: Facts) -> None:
    """White, iris, pupil, a glint, the lid's edge and its fold."""
    dx = view.x.abs() - who.eye_spacing
    dy = view.y - who.eye_level + who.eye_tilt * dx
    arch = 1.0 - (dx / who.eye_width) ** 2
    opening = who.eye_height * how.lid.clamp(0.08, 1.2)
    shape = dy.abs() - opening * arch
    inside = view.cover(shape) * view.front
    lay(image, WHITE, inside)
    gaze = view.x.sign() * how.gaze_x
    radius = ((dx - gaze) ** 2 + (dy - how.gaze_y) ** 2).sqrt()
    lay(image, who.eye_colour * 0.55, inside * view.cover(radius - who.iris_size))
    lay(image, who.eye_colour * 1.25, inside * view.cover(radius - 0.78 * who.iris_size, 0.01))
    lay(image, DARK, inside * view.cover(radius - 0.42 * who.iris_size))
    glint = (dx - gaze - 0.02 * view.x.sign()) ** 2 + (dy - how.gaze_y + 0.02) ** 2
    lay(image, 1.0, inside * view.cover(glint.sqrt() - 0.013))
    edge = view.cover((dy + opening * arch).abs() - 0.012) * view.cover(dx.abs() - who.eye_width)
    lay(image, who.skin * 0.25, 0.85 * edge * view.front)
    fold = view.cover((dy + opening * arch + who.lid_fold).abs() - 0.006, 0.01)
    lay(image, who.skin * 0.6, 0.6 * fold * view.cover(dx.abs() - who.eye_width) * view.front)


def brow_colour(who: Facts) -> Tensor:
    """Colour of the brows, (N, 3, 1, 1): darker than the hair, and darker yet on skin like it."""
    colour = who.hair * (1.0 - who.brow_dark)
    close = hump(colour.mean(1, keepdim=True) - who.skin.mean(1, keepdim=True), 0.1)
    return colour * (1.0 - 0.75 * close)


def brows(image: Tensor, view: View, who: Facts, how: Facts) -> None:
    """Two arcs, thicker at the nose."""
    dx = view.x.abs() - who.eye_spacing
    along = dx / who.brow_length
    middle = who.eye_level - who.brow_gap - how.brow_raise + who.brow_tilt * dx
    distance = (view.y - middle + who.brow_arch * (1.0 - along**2)).abs()
    shape = distance - who.brow_thickness * (1.0 - 0.35 * along)
    coverage = view.cover(torch.maximum(shape, dx.abs() - who.brow_length), 0.012) * view.front
    lay(image, brow_colour(who), 0.9 * coverage)


def nose(image: Tensor, view: View, who: Facts) -> None:
    """Nostrils and the crease around the wings; the ridge itself comes from the light."""
    x, y = view.ahead(0.6 * who.nose_height)
    fold = x.abs()
    base = y - who.eye_level - who.nose_length
    hole = ((fold - 0.45 * who.nose_width) / 0.04) ** 2 + ((base + 0.01) / 0.02) ** 2
    lay(image, who.skin * 0.3, 0.8 * view.cover((hole.sqrt() - 1.0) * 0.025, 0.01) * view.front)
    wing = ((fold - who.nose_width + 0.035) ** 2 + (base + 0.04) ** 2).sqrt()
    crease = torch.maximum((wing - 0.05).abs() - 0.006, who.nose_width - 0.04 - fold)
    lay(image, who.skin * 0.6, 0.6 * view.cover(crease, 0.012) * view.front)
    under = hump(base - 0.035, 0.025) * hump(x, who.nose_width)
    lay(image, who.skin * 0.65, 0.45 * under * view.front)


def mouth(image: Tensor, view: View, who: Facts, how: Facts) -> None:
    """Lips around a line that smiles, opens and shows teeth."""
    x, y = view.ahead(0.05)
    width = who.mouth_width * (1.0 + 0.18 * how.smile - 0.1 * how.mouth_open)
    along2 = (x / width) ** 2
    arch = (1.0 - along2).clamp(min=-1.0)
    curve = 0.09 * how.smile + who.mouth_curve
    line = y - who.eye_level - who.nose_length - who.lip_gap + curve * along2
    gap = 0.11 * how.mouth_open * arch
    bow = 1.0 - who.cupid_bow * hump(x, 0.05)
    upper = -line - who.upper_lip * arch * bow
    lower = line - gap - who.lower_lip * arch
    lip = who.skin * (0.8 - 0.1 * who.lip_red)
    lip = lip + who.lip_red * lip.new_tensor([0.12, -0.08, -0.04]).view(1, 3, 1, 1)
    lay(image, lip * 0.9, view.cover(torch.maximum(upper, line)) * view.front)
    lay(image, lip, view.cover(torch.maximum(lower, -line)) * view.front)
    inside = view.cover(torch.maximum(-line, line - gap)) * view.front * (how.mouth_open > 0.0)
    lay(image, image.new_tensor([0.25, 0.08, 0.08]).view(1, 3, 1, 1), inside)
    lay(image, WHITE, inside * view.cover(line - 0.55 * gap))
    edge = view.cover(torch.maximum(line.abs() - 0.007, x.abs() - width)) * view.front
    lay(image, lip * 0.45, 0.8 * edge)


def hair_shell(view: View, who: Facts, how: Facts) -> Tensor:
    """Distance to the outline of the hair, around the skull and down to its length."""
    wobble = torch.sin(view.down * 9.0 + 4.0 * how.pattern_phase) * who.hair_wave
    side = who.hair_side * how.hair_volume + wobble
    top = who.hair_top * how.hair_volume
    up = (view.down + 0.05).clamp(max=0.0) / (who.face_height + top)
    low = (view.down - who.hair_length).clamp(min=0.0) / 0.3
    wide = (view.across + 0.12 * view.turn * view.ball_y) / (view.half_width * 1.0 + side)
    shell = ((wide * wide + up * up + low * low).sqrt() - 1.0) * 0.8
    bun_y = view.down + who.face_height + 0.12
    bun = ((view.across + 0.3 * view.turn) ** 2 + bun_y**2).sqrt() - 0.3 * how.hair_volume
    return union(shell, bun + 9.0 * (1.0 - who.hair_bun))


def strands(view: View, who: Facts) -> Tensor:
    """Light and dark streaks that follow the hair, a factor near 1."""
    fan = view.ball_x / (view.ball_y.clamp(min=-1.0) + 1.5)  # strands spread from the crown
    fan = fan * who.strands + who.hair_wave * 30.0 * torch.sin(view.down * 8.0)
    gloss = hump(view.ball_y + 0.62, 0.14)
    return 1.0 + 0.06 * torch.sin(fan) + 0.06 * torch.sin(2.63 * fan) + 0.22 * gloss


def hair_front(view: View, who: Facts, how: Facts, shell: Tensor) -> Tensor:
    """Coverage of the hair that lies in front of the head: above the hairline and at the sides."""
    x = view.x - who.part - how.part_shift
    line = -who.hairline + who.widow_peak * hump(x, 0.1) + 0.25 * x * x
    line = line + (who.hair_fringe + how.fringe_shift * (who.hair_fringe > 0.1))
    ends = torch.where(who.hair_cover > 0.0, who.hair_length, 0.02)
    forward = view.side - who.temple * view.x.abs() / who.face_width  # 0 at the temples
    sides = torch.maximum(0.5 * forward, view.y - ends)
    near = view.cover(torch.maximum(union(view.y - line, sides), shell), 0.025)
    return near * (1.0 - 0.4 * who.shaved)


def glasses(image: Tensor, view: View, who: Facts, how: Facts) -> None:
    """Rims with rounded corners, a bridge and temples, a little ahead of the eyes."""
    x, y = view.ahead(0.08)
    y = y - who.eye_level - 0.01
    fold = x.abs()
    dx = (fold - who.eye_spacing).abs() - who.lens_width + who.lens_round
    dy = y.abs() - who.lens_height + who.lens_round
    lens = (dx.clamp(min=0.0) ** 2 + dy.clamp(min=0.0) ** 2).sqrt() - who.lens_round
    lens = lens + torch.maximum(dx, dy).clamp(max=0.0)
    shown = how.glasses * view.front
    lay(image, DARK, view.cover(lens) * shown * (0.08 + 0.8 * how.tinted))
    bar = torch.maximum((y + 0.03).abs() - 0.7 * who.rim_width, view.outside)
    bar = torch.maximum(bar, -lens)
    lay(image, who.rim, view.cover(union(lens.abs() - who.rim_width, bar)) * shown)


def hat(image: Tensor, view: View, how: Facts, shell: Tensor) -> Tensor:
    """A knitted hat with a turned-up band; returns its coverage."""
    height = torch.maximum(view.y + how.hat_line, union(shell, view.outside) - 0.05)
    coverage = view.cover(height) * how.hat
    rows = 1.0 + 0.06 * torch.sin(view.ball_x * 40.0)
    lay(image, how.hat_colour * rows, coverage)
    band = (view.y + how.hat_line + 0.09).abs() - 0.09
    lay(image, how.hat_colour * 0.75, coverage * view.cover(band))
    return coverage


def stray_object(image: Tensor, view: View, how: Facts) -> None:
    """Something round and out of focus that happens to be in the way of the lower half."""
    angle = torch.deg2rad(how.object_angle)
    dx, dy = view.across - angle.cos(), view.down - 0.9 * angle.sin() - 0.1
    coverage = view.cover((dx * dx + dy * dy).sqrt() - how.object_size, 0.15)
    lay(image, how.object_colour, 0.95 * coverage * how.object)


def relief(view: View, who: Facts) -> Tensor:
    """Height of the face above the ball, head units: nose, cheeks, sockets, brow, lips, chin."""
    fold = view.x.abs()
    y = view.y - who.eye_level
    x, ahead_y = view.ahead(0.6 * who.nose_height)
    along = ((ahead_y - who.eye_level) / who.nose_length).clamp(0.0, 1.0)
    width = who.nose_bridge + (0.75 * who.nose_width - who.nose_bridge) * along * along
    past = ((ahead_y - who.eye_level) / who.nose_length - 1.0).clamp(min=0.0)
    ridge = who.nose_height * (0.25 + 0.75 * along + who.nose_bend) * hump(x, width * 1.2)
    height = ridge * hump(past, 0.25) * hump((-y).clamp(min=0.0), 0.15)
    height = height + who.cheek_bulge * hump(fold - 0.38, 0.2) * hump(y - 0.33, 0.2)
    height = height - who.eye_depth * hump(fold - who.eye_spacing, 0.18) * hump(y, 0.11)
    chin = hump(view.x, 0.2) * hump(y - 0.88, 0.12)
    lips = hump(view.x, 0.2) * hump(y - who.nose_length - who.lip_gap, 0.08)
    return (height + 0.05 * chin + 0.03 * lips) * view.front


def light(view: View, who: Facts, how: Facts) -> tuple[Tensor, Tensor]:
    """Brightness of everything on the person, and shine on the skin, (N, 1, size, size)."""
    height = relief(view, who)
    slope_x = torch.diff(height, dim=3, append=height[..., -1:]) / view.pixel
    slope_y = torch.diff(height, dim=2, append=height[..., -1:, :]) / view.pixel
    length = (how.light_x**2 + how.light_y**2 + 1.0).sqrt()
    facing = view.ball_x * how.light_x + view.ball_y * how.light_y + view.ball_z
    facing = facing - 0.8 * (slope_x * how.light_x + slope_y * how.light_y).clamp(-0.8, 0.8)
    facing = (facing / length).clamp(-1.0, 1.0)
    brightness = how.ambient + how.light_strength * (0.25 + 0.75 * facing).clamp(min=0.0)
    shine = 0.1 * who.shine * how.light_strength * facing.clamp(min=0.0) ** 8
    return brightness, shine


def face(image: Tensor, view: View, who: Facts, how: Facts, marks: Tensor) -> Tensor:
    """The head without hair; returns its coverage."""
    coverage = view.cover(view.outside)
    painted = skin(view, who, how, marks)
    moles(painted, view, who)
    beard(painted, view, who)
    nose(painted, view, who)
    mouth(painted, view, who, how)
    eyes(painted, view, who, how)
    brows(painted, view, who, how)
    image.lerp_(painted, coverage)
    return torch.maximum(coverage, ears(image, view, who, in_front=True))


def portrait(view: View, who: Facts, how: Facts, lasting: Draws, fleeting: Draws) -> Tensor:
    """Paint N portraits, float (N, 3, size, size), about 0..1.

    `lasting` is keyed by the person and `fleeting` by the photograph; both are for textures.
    """
    image = background(view, how, fleeting)
    shell = hair_shell(view, who, how)
    behind = view.cover(shell, 0.02)
    hair = who.hair * strands(view, who)
    lay(image, hair * 0.6, behind)
    lit = torch.maximum(behind, body(image, view, who, how))
    lit = torch.maximum(lit, ears(image, view, who, in_front=False))
    bare = face(image, view, who, how, noise(lasting, "freckles", 64))
    over = hair_front(view, who, how, shell)
    lay(image, hair, over)
    glasses(image, view, who, how)
    lit = torch.maximum(torch.maximum(lit, bare), hat(image, view, how, shell))
    brightness, shine = light(view, who, how)
    warmth = torch.cat([how.light_warmth, 0.0 * how.light_warmth, -how.light_warmth], dim=1)
    image = image * (1.0 + lit * (brightness - 1.0)) * (1.0 + warmth)
    image = image + shine * bare * (1.0 - over)
    stray_object(image, view, how)
    return image
