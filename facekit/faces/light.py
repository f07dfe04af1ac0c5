"""How much light falls on a point: key, shadow, sky, ground, fill and rim.

Skin lets light through, so its shading goes softly round the edge of the shadow, red farthest:
wrapped diffuse light, one width per colour channel (Green 2004, "Real-time approximations to
subsurface scattering", GPU Gems 16). Shadows come from a depth map seen from the key light
(Williams 1978, "Casting curved shadows on curved surfaces"), its edge averaged over a few taps.
"""

import torch
from torch import Tensor
from torch.nn import functional

from facekit.faces.surface import Facts, constant, step, unit

MAP_SIDE = 80  # cells of the shadow map
MAP_REACH = 17.0  # cm it sees to each side
TAPS = ((0.0, 0.0), (0.9, 0.3), (-0.3, 0.9), (-0.9, -0.3), (0.3, -0.9))


def aim(f: Facts) -> None:
    """Add to the facts where the lights are: unit vectors (N, 3, 1), and the key light's frame."""
    towards = direction(f, "key")
    f.to_key = towards[:, :, None]
    f.to_fill = direction(f, "fill")[:, :, None]
    f.half_way = unit(towards + constant((0.0, 0.0, 1.0), towards.device))[:, :, None]
    f.key_frame = from_light(towards)


def direction(f: Facts, name: str) -> Tensor:
    """Unit vectors (N, 3) towards the light called `name`."""
    axes = [getattr(f, f"{name}_{axis}").flatten() for axis in "xyz"]
    return unit(torch.stack(axes, 1))


def from_light(towards: Tensor) -> Tensor:
    """Rotations (N, 3, 3) into a frame whose last axis points to the light."""
    up = constant((0.0, 1.0, 0.0), towards.device).expand_as(towards)
    side = unit(torch.cross(up, towards, dim=1))
    return torch.stack([side, torch.cross(towards, side, dim=1), towards], 1)


def shadow_map(seen: Tensor, solid: Tensor) -> Tensor:
    """How near to the light the nearest thing is: (N, 1, MAP_SIDE, MAP_SIDE), cm."""
    cell = ((seen[:, :2] / MAP_REACH * 0.5 + 0.5) * MAP_SIDE).long()
    inside = solid & (cell >= 0).all(1) & (cell < MAP_SIDE).all(1) & (seen[:, 0] > -MAP_REACH)
    place = torch.where(inside, cell[:, 1] * MAP_SIDE + cell[:, 0], MAP_SIDE**2)
    depth = torch.full((len(seen), MAP_SIDE**2 + 1), -100.0, device=seen.device)
    depth.scatter_reduce_(1, place, seen[:, 2].contiguous(), "amax")
    depth = depth[:, :-1].view(-1, 1, MAP_SIDE, MAP_SIDE)
    filled = functional.max_pool2d(depth, 3, 1, 1)  # closes holes between the grids' corners
    return -functional.max_pool2d(-filled, 3, 1, 1)


def key_visibility(f: Facts, room: Tensor, normal: Tensor, solid: Tensor) -> Tensor:
    """1 where the key light reaches a point, 0 in shadow, soft between: (N, M)."""
    depth = shadow_map(f.key_frame @ room, solid)
    seen = f.key_frame @ (room + 0.4 * normal)
    grid = seen[:, :2].permute(0, 2, 1)[:, :, None] / MAP_REACH  # (N, M, 1, 2)
    soft = f.softness.view(-1, 1, 1, 1)
    total = torch.zeros_like(seen[:, 2])
    for tap in TAPS:
        offset = constant(tap, room.device) * soft * (0.45 / MAP_REACH)
        blocker = functional.grid_sample(
            depth, grid + offset, align_corners=False, padding_mode="border"
        )[:, 0, :, 0]
        edge = 0.08 + 0.07 * f.softness[:, 0]
        total = total + torch.sigmoid((seen[:, 2] - blocker + 0.15) / edge)
    return total / len(TAPS)


def irradiance(
    f: Facts, normal: Tensor, shadow: Tensor, ambient: Tensor, wrap: Tensor
) -> tuple[Tensor, Tensor]:
    """Light that arrives (N, 3, M), and the share of it that can make a highlight (N, M).

    `shadow` (N, M): from `key_visibility`. `ambient` (N, M): how much of the light from all around
    reaches a point. `wrap` (3, M): how far round the key light creeps, per channel.
    """
    facing = (normal * f.to_key).sum(1, keepdim=True)  # (N, 1, M)
    shade = shadow[:, None]
    round_ = ((facing + wrap) / (1 + wrap)).clamp(min=0)
    round_ = round_ * (shade + (1 - shade) * wrap * 0.25)
    colour = (f.key_colour * f.key[:, None])[..., 0]  # (N, 3, 1)
    sky = (f.sky_colour * f.sky[:, None])[..., 0] * (0.62 + 0.38 * normal[:, 1:2])
    floor = (f.ground_colour * (f.ground * f.sky)[:, None])[..., 0]
    floor = floor * (0.5 - 0.5 * normal[:, 1:2])
    opposite = ((normal * f.to_fill).sum(1, keepdim=True) * 0.75 + 0.25).clamp(min=0)
    opposite = (f.sky_colour * f.fill[:, None])[..., 0] * opposite
    edge = (1 - normal[:, 2:3].clamp(0, 1)) ** 3 * f.rim_light
    light = colour * (round_ + 0.3 * edge) + (sky + floor + opposite) * ambient[:, None]
    return light, shadow * step(-0.05, 0.2, facing[:, 0])


def highlight(f: Facts, normal: Tensor) -> Tensor:
    """The cosine between the normal and the half-way vector (Blinn 1977), (N, M) in 0..1."""
    return (normal * f.half_way).sum(1).clamp(0, 1)


def strand_light(f: Facts, tangent: Tensor) -> Tensor:
    """The sine between a hair and the half-way vector (Kajiya and Kay 1989), (N, M)."""
    along = (tangent * f.half_way).sum(1)
    return (1 - along * along).clamp(0, 1).sqrt()
