"""From grids in space to pixels: pose, perspective, and who hides whom.

Facets are cut into points finer than a pixel, as in the Reyes architecture (Cook, Carpenter and
Catmull 1987): each grid was lit and painted at its corners, so here it only has to be decided
which point is seen at each sample of the film. Nearest wins, by one scatter-minimum over numbers
that hold the depth above the point's own number; there are no ties, so no order can matter.
"""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from facekit.faces import textures
from facekit.faces.surface import Facts, Surface, constant

PIVOT = (0.0, -9.0, -1.0)  # where the head turns on the neck
CENTRE = (0.0, -0.6, 4.0)  # what the camera looks at
HALF_HEIGHT = 13.2  # cm from the image's middle to its edge, at CENTRE
SAMPLES = 2  # per pixel and direction
CUTS = (1, 2, 4, 8, 16)  # into how many points a facet may be cut, per direction
FINEST = CUTS[-1] ** 2
PAIRS = len(CUTS) ** 2  # of cuts down and across
SPACING = 0.95  # samples from point to point, at most
NOTHING = 1 << 62
NUMBER_BITS = 40  # for the number of a point; the depth stands above them
DEPTH_STEPS = 4096.0  # per cm; a power of two, so that nothing is rounded


def rotation(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Turn by yaw about y, after pitch about x and before roll about z: (N, 3, 3)."""
    y = yaw.flatten()
    x = -pitch.flatten()
    z = roll.flatten()
    zero = torch.zeros_like(y)
    one = torch.ones_like(y)
    about_y = [torch.cos(y), zero, torch.sin(y), zero, one, zero, -torch.sin(y), zero, torch.cos(y)]
    about_x = [one, zero, zero, zero, torch.cos(x), -torch.sin(x), zero, torch.sin(x), torch.cos(x)]
    about_z = [torch.cos(z), -torch.sin(z), zero, torch.sin(z), torch.cos(z), zero, zero, zero, one]
    return matrices(about_z) @ matrices(about_y) @ matrices(about_x)


def matrices(entries: list[Tensor]) -> Tensor:
    """Nine entries (N,), row by row, as matrices (N, 3, 3)."""
    return torch.stack(entries, 1).view(-1, 3, 3)


def column(point: Sequence[float], like: Tensor) -> Tensor:
    """A point as (1, 3, 1), on the device of `like`."""
    return constant(tuple(point), like.device)[None, :, None]


def pose(f: Facts) -> None:
    """Add to the facts how head and body are turned, (N, 3, 3), and where that puts the CENTRE."""
    f.turn_head = rotation(f.yaw, f.pitch, f.roll)
    f.turn_body = rotation(f.body_yaw, 0 * f.yaw, f.body_roll)
    f.middle = f.turn_head @ (column(CENTRE, f.yaw) - column(PIVOT, f.yaw))  # (N, 3, 1)


def turn(f: Facts, vectors: Tensor, follow: Tensor) -> Tensor:
    """Rotate vectors (N, 3, M) with the head where `follow` (N, M) is 1, with the body where 0."""
    return torch.lerp(f.turn_body @ vectors, f.turn_head @ vectors, follow[:, None])


def place(f: Facts, points: Tensor, follow: Tensor) -> Tensor:
    """Move points (N, 3, M) of the head's frame into the room, whose origin the camera faces."""
    return turn(f, points - column(PIVOT, points), follow) - f.middle


def project(f: Facts, room: Tensor, size: int) -> Tensor:
    """Perspective: points (N, 3, M) of the room to x, y in pixels and the distance in cm."""
    depth = (f.distance[:, 0] - room[:, 2]).clamp(5, 400)
    scale = f.distance[:, 0] / depth / HALF_HEIGHT * f.zoom[:, 0] * 0.5 * size
    x = (room[:, 0] + f.shift_x[:, 0]) * scale + 0.5 * size
    y = (-room[:, 1] - f.shift_y[:, 0]) * scale + 0.5 * size
    return torch.stack([x, y, depth], 1)


@cache
def facets(shapes: tuple[tuple[int, int], ...], device: str) -> tuple[Tensor, Tensor]:
    """Of every facet of these grids laid end to end its corners, int32 (F, 4), and its grid."""
    corners = []
    owner = []
    start = 0
    for number, (rows, columns) in enumerate(shapes):
        grid = start + torch.arange(rows * columns).view(rows, columns)
        square = [grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]]
        corners.append(torch.stack([c.reshape(-1) for c in square], 1))
        owner.append(torch.full((len(corners[-1]),), number))
        start += rows * columns
    return torch.cat(corners).int().to(device), torch.cat(owner).to(device)


@cache
def shares(device: str) -> Tensor:
    """Bilinear weights of a facet's corners at its points: (pairs of cuts, FINEST, 4)."""
    table = torch.zeros(PAIRS, FINEST, 4)
    for i, down in enumerate(CUTS):
        for j, across in enumerate(CUTS):
            v = ((torch.arange(down) + 0.5) / down)[:, None].expand(down, across).reshape(-1)
            u = ((torch.arange(across) + 0.5) / across).repeat(down)
            weights = torch.stack([(1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u], 1)
            table[i * len(CUTS) + j, : down * across] = weights
    return table.to(device)


def cutting(x: Tensor, y: Tensor, hidden: Tensor) -> Tensor:
    """Which pair of CUTS each facet of a grid needs, or -1 where it cannot be seen: int8 (N, F).

    Of each corner (N, rows, columns): where it is on the film, in samples, and why it is `hidden`.
    """
    # Steps across and down together: points on a slanted line would leave gaps otherwise.
    across = (x[..., 1:] - x[..., :-1]).abs_().add_((y[..., 1:] - y[..., :-1]).abs_())
    down = (x[:, 1:] - x[:, :-1]).abs_().add_((y[:, 1:] - y[:, :-1]).abs_())
    code = fineness(torch.maximum(down[..., 1:], down[..., :-1])) * len(CUTS)
    code += fineness(torch.maximum(across[:, 1:], across[:, :-1]))
    return code.masked_fill_(unseen(x, y, hidden), -1).flatten(1)


def why_hidden(x: Tensor, y: Tensor, keep: Tensor, back: Tensor, size: int) -> Tensor:
    """A bit for each reason why a corner cannot be seen: beside the film, cut away, a back."""
    reasons = (x <= 0, x >= size, y <= 0, y >= size, keep <= 0, back <= 0)
    return sum(reason.to(torch.int8) * (1 << bit) for bit, reason in enumerate(reasons))


def unseen(x: Tensor, y: Tensor, hidden: Tensor) -> Tensor:
    """Which facets of a grid are out of sight: bool (N, rows - 1, columns - 1).

    As Cohen and Sutherland clip lines: when all corners are, for one same reason.
    """
    why = hidden[:, 1:] & hidden[:, :-1]
    why = why[..., 1:] & why[..., :-1]
    area = (x[:, 1:, 1:] - x[:, :-1, :-1]) * (y[:, 1:, :-1] - y[:, :-1, 1:])
    area -= (y[:, 1:, 1:] - y[:, :-1, :-1]) * (x[:, 1:, :-1] - x[:, :-1, 1:])
    front = area > 0  # the last reason, bit 5, is for backs alone
    return torch.where(front, why & 31, why) > 0


def fineness(length: Tensor) -> Tensor:
    """Which of CUTS cuts so many samples finely enough: int8, its place in the list."""
    return sum((length > SPACING * cut).to(torch.int8) for cut in CUTS[:-1])


def full(surface: Surface, value: Tensor | float) -> Tensor:
    """One value per corner of a grid: (N, rows, columns)."""
    like = surface.points[:, 0]
    if not isinstance(value, Tensor):
        value = like.new_full((), value)
    return value.to(like.dtype).expand(len(like), *surface.shape)


def flat(surfaces: Sequence[Surface], values: Sequence[Tensor | float]) -> Tensor:
    """One value per corner of all grids laid end to end: (N, M)."""
    pairs = zip(surfaces, values, strict=True)
    return torch.cat([full(surface, value).flatten(1) for surface, value in pairs], 1)


def grids(surfaces: Sequence[Surface], values: Tensor) -> list[Tensor]:
    """Undo `flat`: values (..., M) of all corners as (..., rows, columns) of each surface."""
    pieces = values.split([s.shape[0] * s.shape[1] for s in surfaces], -1)
    return [piece.unflatten(-1, s.shape) for piece, s in zip(pieces, surfaces, strict=True)]


def pattern_places(surfaces: Sequence[Surface]) -> tuple[Tensor, Tensor]:
    """Where each corner of all grids reads its pattern: u and v, (N, M) each."""
    u = flat(surfaces, [surface.pattern_at[0] for surface in surfaces])
    v = flat(surfaces, [surface.pattern_at[1] for surface in surfaces])
    return u, v


def cut_all(
    surfaces: Sequence[Surface], film: Tensor, keep: Tensor, fray: Tensor, size: int
) -> Tensor:
    """`cutting` of all grids laid end to end, PAIRS more where the edge is frayed: int8 (N, F)."""
    inside = flat(surfaces, [surface.inside for surface in surfaces])
    hidden = why_hidden(film[:, 0], film[:, 1], keep + 2.5 * fray, inside, size)
    codes = []
    pieces = zip(surfaces, grids(surfaces, film), grids(surfaces, hidden), strict=True)
    for surface, on_film, why in pieces:
        code = cutting(on_film[:, 0], on_film[:, 1], why)
        if surface.fray is not None:
            code = torch.where(code >= 0, code + PAIRS, code)
        codes.append(code)
    return torch.cat(codes, 1)


def points_of(rows: Tensor, index: Tensor, code: int) -> Tensor:
    """Cut facets, whose corners are rows[index (M, 4)], into points: (columns, M, K)."""
    many = CUTS[code // len(CUTS)] * CUTS[code % len(CUTS)]
    corner = rows.index_select(0, index.flatten()).view(*index.shape, -1)
    corner = corner.permute(2, 0, 1).reshape(-1, 4)  # one product for all columns
    points = corner @ shares(str(rows.device))[code, :many].T
    return points.view(rows.shape[1], len(index), many)


def splat(surfaces: Sequence[Surface], film: Tensor, size: int) -> Tensor:
    """Which point is nearest at each sample: numbers (N, size * size), NOTHING where none is.

    `film` (N, 3, M): x, y in samples and depth of every corner of the surfaces.
    """
    images, _, many = film.shape
    corners, _ = facets(tuple(s.shape for s in surfaces), str(film.device))
    keep = flat(surfaces, [s.keep for s in surfaces])
    fray = flat(surfaces, [0.0 if s.fray is None else s.fray for s in surfaces])
    places = pattern_places(surfaces)
    x, y, depth = film.unbind(1)
    rows = torch.stack([x, y, depth * DEPTH_STEPS, keep, *places, fray], -1)
    rows = rows.flatten(0, 1)  # (N * M, 7)
    plain = rows[:, :4].contiguous()
    # With a border of one sample, where points fall that are not on the film.
    nearest = torch.full((images, size + 2, size + 2), NOTHING, device=film.device)
    codes = cut_all(surfaces, film, keep, fray, size).flatten()
    hidden, *counts = torch.bincount(codes.int() + 1, minlength=2 * PAIRS + 1).tolist()
    order = torch.argsort(codes, stable=True)[hidden:]
    image = order // len(corners)
    facet = order % len(corners)
    index = (image * many).int()[:, None] + corners.index_select(0, facet)  # (F, 4)
    first = image * (size + 2) ** 2 + size + 3
    number = facet * (FINEST * PAIRS)
    alike = zip(*(column.split(counts) for column in (index, first, number)), strict=True)
    for code, found in enumerate(alike):
        if counts[code]:
            write(nearest, *found, plain if code < PAIRS else rows, code % PAIRS)
    return nearest[:, 1:-1, 1:-1].reshape(images, size * size)


def write(
    nearest: Tensor, index: Tensor, first: Tensor, number: Tensor, rows: Tensor, code: int
) -> None:
    """Cut some facets alike and keep those of their points that are nearer than what is there.

    `nearest` (N, side, side): the film with its border. Of each facet: its corners' `index` (F, 4),
    in `nearest` its image's `first` sample, its first point's `number`. `rows`: x, y, depth and
    keep of all corners; for frayed edges also where the pattern of strands is to be read, and how
    much it matters.
    """
    side = nearest.shape[1]
    points = points_of(rows, index, code)
    _, _, depth, keep, *more = points
    if more:
        keep = keep + more[2] * textures.texture(textures.STRANDS, more[0], more[1])
    x, y = points[:2].floor_().clamp_(-1, side - 2)
    place = torch.add(x, y, alpha=side).long()  # exact: a film has fewer than 2^24 samples
    place += first[:, None]
    depth.masked_fill_(keep <= 0, NOTHING >> NUMBER_BITS)  # what was cut away
    key = torch.add(number[:, None] + code * FINEST, depth.long(), alpha=1 << NUMBER_BITS)
    key += torch.arange(key.shape[1], device=key.device)
    nearest.view(-1).scatter_reduce_(0, place.flatten(), key.flatten(), "amin")


def resolve(
    surfaces: Sequence[Surface], nearest: Tensor, colour: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """The colour seen at each sample, (N, 3, size, size), and its surface, -1 for none.

    `nearest`: from `splat`. `colour` (N, 3, M): what each corner sends to the camera.
    """
    device = str(nearest.device)
    corners, owner = facets(tuple(s.shape for s in surfaces), device)
    hit = torch.nonzero(nearest.flatten() < NOTHING)[:, 0]
    number = nearest.flatten()[hit] & ((1 << NUMBER_BITS) - 1)
    facet = number // (FINEST * PAIRS)
    weights = shares(device).flatten(0, 1).index_select(0, number % (FINEST * PAIRS))  # (H, 4)
    strength = flat(surfaces, [s.pattern_strength for s in surfaces])
    places = pattern_places(surfaces)
    rows = torch.stack([*colour.unbind(1), strength, *places], -1).flatten(0, 1)  # (N * M, 6)
    first = (hit // (size * size) * colour.shape[2]).int()
    index = first[:, None] + corners.index_select(0, facet)
    seen = functional.embedding_bag(index, rows, per_sample_weights=weights, mode="sum")  # (H, 6)
    owner = owner.index_select(0, facet)
    pattern = constant(tuple(s.pattern for s in surfaces), nearest.device)[owner].long()
    grain = textures.texture(pattern, seen[:, 4], seen[:, 5])
    light = seen[:, :3] * (1 + seen[:, 3] * grain).clamp(min=0.1)[:, None]
    image = torch.zeros(nearest.numel(), 3, device=device)
    image[hit] = light
    part = torch.full((nearest.numel(),), -1, dtype=torch.int16, device=device)
    part[hit] = owner.to(torch.int16)
    shape = (len(nearest), size, size)
    return image.view(*shape, 3).permute(0, 3, 1, 2), part.view(shape)


def shrink(samples: Tensor) -> Tensor:
    """Average the samples of each pixel: (N, C, size * SAMPLES, ...) to (N, C, size, size)."""
    return functional.avg_pool2d(samples, SAMPLES)
