"""One photograph from start to end: build the surfaces, light them, paint them, expose the film."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.profiler import record_function

from facekit.faces import camera, hair, head, light, skin, textures, worn
from facekit.faces.film import background, expose
from facekit.faces.person import Traits
from facekit.faces.surface import Facts, Surface, bell, constant, facts, mix, step, triple

PARTS = ("background", "clothes", "neck", "face", "ear", "hair", "hat", "glasses", "held")


@dataclass
class Lighting:
    """What the painters need to know about the light on one surface."""

    light: Tensor  # (N, 3, V, U)
    glint: Tensor  # share of the key light that may shine, (N, V, U)
    half: Tensor  # cosine to the half-way vector, (N, V, U)
    follow: Tensor  # (N, V, U)


def detail(size: int) -> float:
    """How fine the grids are, against those for 224 pixels; small images keep enough for eyes."""
    return min(max(size / 224, 0.5), 4.0)


def prepare(traits: Traits) -> Facts:
    """All that can be worked out for each image before there is a grid or a pixel."""
    f = facts(traits)
    head.express(f)
    head.shape_skull(f)
    head.shape_body(f)
    hair.comb(f)
    hair.shape_shell(f)
    camera.pose(f)
    light.aim(f)
    worn.note_kinds(f)
    return f


def build(f: Facts, size: int) -> list[Surface]:
    """Every surface of a portrait, in the head's frame."""
    fine = detail(size)
    return build_person(f, fine) + build_worn(f, fine)


def count(at_224: int, fine: float) -> int:
    """So many rows or columns of a grid, given how many it has at 224 pixels."""
    return max(5, round(at_224 * fine))


def build_person(f: Facts, fine: float) -> list[Surface]:
    """Head, ears, neck, clothes and hair: what everybody has."""
    rows = count(168, fine)
    face = head.face(f, rows, count(152, fine))
    nape = head.nape(f, rows, count(40, fine))
    ears = [head.ear(f, side, count(22, fine), count(44, fine)) for side in (-1, 1)]
    for ear in ears:
        ear.keep = torch.where(f.hair_cover > 0.5, -1.0, 1.0)  # not under the hair
        ear.inside = 1.0
    body = head.body(f, count(56, fine), count(80, fine))
    clothes = worn.clothes(f, body)
    shell = hair.shell(f, count(80, fine), count(220, fine))
    return [hair.grow_beard(f, face), hair.grow_beard(f, nape), *ears, body, clothes, shell]


def build_worn(f: Facts, fine: float) -> list[Surface]:
    """Hats, glasses and things held: only the kinds that anybody in the batch has."""
    surfaces = []
    if f.any_hat:
        surfaces.append(worn.hat_crown(f, count(60, fine), count(140, fine)))
        surfaces.append(worn.hat_brim(f, count(30, fine), count(200, fine)))
    if f.any_rims:
        surfaces.append(worn.glasses(f, count(60, fine)))
    if f.any_sunglasses:
        for side in (-1, 1):
            surfaces.append(worn.dark_lens(f, side, count(12, fine), count(40, fine)))
    if f.any_object:
        surfaces.append(worn.held(f, count(40, fine), count(80, fine)))
    return surfaces


def illuminate(f: Facts, surfaces: list[Surface]) -> tuple[Tensor, list[Lighting]]:
    """Place all corners in the room and light them at once: (N, 3, M), and the light by surface."""
    follow = camera.flat(surfaces, [s.follow for s in surfaces])
    points = torch.cat([s.points.flatten(2) for s in surfaces], 2)
    normal = torch.cat([s.normals.flatten(2) for s in surfaces], 2)
    room = camera.place(f, points, follow)
    normal = camera.turn(f, normal, follow)
    solid = camera.flat(surfaces, [s.keep for s in surfaces]) > 0
    shadow = light.key_visibility(f, room, normal, solid)
    ambient = camera.flat(surfaces, [s.ambient for s in surfaces])
    wrap = torch.cat([
        constant(s.wrap, room.device)[:, None].expand(3, s.points[0, 0].numel())
        for s in surfaces
    ], 1)  # fmt: skip
    arrives, glint = light.irradiance(f, normal, shadow, ambient, wrap)
    half = light.highlight(f, normal)
    pieces = [camera.grids(surfaces, values) for values in (arrives, glint, half, follow)]
    return room, [Lighting(*values) for values in zip(*pieces, strict=True)]


def key_light(f: Facts) -> Tensor:
    """The key light's colour at its strength: (N, 3, 1, 1)."""
    return f.key_colour * f.key[:, None]


def colour_face(f: Facts, surface: Surface, lit: Lighting, edge: float) -> Tensor:
    """What the skin of the head sends to the camera, eyes and mouth included."""
    paint = skin.bare(f, surface, edge)
    features = None
    if "front" in surface.marks:
        features = skin.paint_features(f, paint)
    hairy = skin.growth(f, surface, paint)
    gloss = paint.gloss * f.shine * (1 - 0.8 * hairy) * paint.shade
    shine = (0.35 * lit.half**14 + 0.5 * lit.half**44) * lit.glint * gloss * (0.15 + 0.10 * f.tone)
    out = paint.albedo * paint.shade.clamp(0.08, 1.2)[:, None] * lit.light
    out = out + key_light(f) * shine[:, None]
    if features is not None:
        put_eyes(f, out, lit, paint.window("slits"), features.eyeball, features.eye_cover)
        put_mouth(f, out, lit, paint.window("lips"), features.mouth_gap)
    return out


def put(out: Tensor, name: str, colour: Tensor, cover: Tensor) -> None:
    """Lay a colour over a window of a finished face."""
    down, across = head.window(name, *out.shape[2:])
    out[:, :, down, across] = mix(out[:, :, down, across], colour, cover)


def light_at(lit: Lighting, name: str) -> Tensor:
    """The light in a window of the face: (N, 3, rows, columns)."""
    down, across = head.window(name, *lit.light.shape[2:])
    return lit.light[:, :, down, across]


def put_eyes(
    f: Facts, out: Tensor, lit: Lighting, paint: skin.Paint, ball: Tensor, shows: Tensor
) -> None:
    """Eyes are wet and round: light from all sides, and a spark of the key light."""
    light = light_at(lit, "slits")
    even = 0.5 * light + 0.5 * light.mean(1, keepdim=True)
    sparkle = skin.catch_light(f, paint) * (0.35 + 0.45 * f.key)
    put(out, "slits", 1.08 * ball * even + sparkle[:, None], shows)


def put_mouth(f: Facts, out: Tensor, lit: Lighting, paint: skin.Paint, gap: Tensor) -> None:
    """The inside of the mouth, where less light comes."""
    dim = 0.4 * light_at(lit, "lips").mean(1, keepdim=True).clamp(min=0.25)
    dim = dim + 0.32 * (key_light(f) + f.sky_colour * f.sky[:, None])
    put(out, "lips", skin.mouth_inside(f, paint) * dim, gap)


def colour_plain_skin(f: Facts, surface: Surface, lit: Lighting, edge: float) -> Tensor:
    """Ears and hands: skin without features."""
    paint = skin.bare(f, surface, edge)
    paint.stain(0.45 * torch.ones_like(paint.x), skin.BLOOD)
    shine = 0.08 * lit.half**14 * lit.glint * f.shine
    return paint.albedo * lit.light + key_light(f) * shine[:, None]


def colour_neck(f: Facts, surface: Surface, lit: Lighting, edge: float) -> Tensor:
    """The skin of the neck, with the shadow of the cloth's edge."""
    paint = skin.bare(f, surface, edge)
    paint.stain(0.1 * torch.ones_like(paint.x), skin.BLOOD)
    hem = 1 - 0.35 * bell(surface.marks["hem"] + 0.18, 0.25)
    shine = 0.04 * lit.half**12 * lit.glint
    return paint.albedo * hem[:, None] * lit.light + key_light(f) * shine[:, None]


def colour_clothes(f: Facts, surface: Surface, lit: Lighting, edge: float) -> Tensor:
    """Cloth, plain or striped, darker at its edge, with folds."""
    x, y, _ = surface.points.unbind(1)
    across = torch.sin(2.6 * y) > 0
    down = torch.sin(2.2 * x + 0.3 * y) > 0.2
    second = torch.where(f.pattern > 0.82, down, across & (f.pattern > 0.7)).float()
    dye = mix(f.cloth.expand(-1, -1, *x.shape[1:]), f.cloth_2, second)
    folds = textures.texture(textures.CLOUDS, 0.035 * x + f.tousle, 0.03 * y + 2 * f.tousle)
    shade = 1 - 0.35 * bell(surface.marks["hem"] - 0.12, 0.16)
    return dye * (shade * (1 - 0.14 * folds.clamp(-1.5, 1.5)))[:, None] * lit.light


def colour_hair(f: Facts, surface: Surface, lit: Lighting, edge: float) -> Tensor:
    """Hair: its own colour, darker at the roots, and two highlights along the strands."""
    root = surface.marks["root"]
    parted = surface.marks["parted"]
    tangent = camera.turn(f, surface.marks["tangent"].flatten(2), lit.follow.flatten(1))
    sine = light.strand_light(f, tangent).unflatten(-1, surface.shape)
    shine = (0.09 * sine**16 + 0.14 * sine**60) * lit.glint * (1 - 0.7 * f.curly)
    long = (f.hair_down > 0).float()
    dark = 0.72 + 0.28 * step(0.0, 2.5, root)
    dark = torch.lerp(dark, torch.ones_like(dark), 0.5 * long)
    albedo = torch.lerp(f.hair, 0.5 * f.skin, 0.6 * parted[:, None]) * dark[:, None]
    lights = key_light(f) * (0.25 + 1.4 * albedo)
    return albedo * lit.light + lights * shine[:, None]


def colour_hat(f: Facts, surface: Surface, lit: Lighting, edge: float) -> Tensor:
    """Cloth in one colour; bands, seams and brims are darker."""
    return f.hat_colour * (1 - 0.12 * surface.marks["band"])[:, None] * lit.light


def colour_glasses(f: Facts, surface: Surface, lit: Lighting, edge: float) -> Tensor:
    """Rims shine; dark lenses mirror the sky above, and show skin and eye through, more below."""
    above = f.sky_colour * f.sky[:, None] + key_light(f)
    if "lens" in surface.marks:
        up = step(-1.8, 1.6, surface.marks["lens"])
        skin = f.skin * (1 - 0.7 * surface.marks["eye"])[:, None] * triple(0.9, 0.75, 0.6, up)
        passes = f.lens_clear * (1 - 0.7 * up)
        mirror = 0.006 + 0.03 * up**2 + 0.3 * lit.half**200
        return (0.6 * skin * passes[:, None] + mirror[:, None]) * above
    shine = 1.2 * lit.half**30 * lit.glint
    rims = f.rim_colour * (1 - 0.8 * f.sunglasses[:, None])
    return rims * lit.light + 0.25 * key_light(f) * shine[:, None]


def colour_held(f: Facts, surface: Surface, lit: Lighting, edge: float) -> Tensor:
    """A hand or a thing."""
    hand = colour_plain_skin(f, surface, lit, edge)
    thing = f.object_colour * lit.light + 0.2 * key_light(f) * (lit.half**30 * lit.glint)[:, None]
    return torch.where((f.object == 1)[:, None], hand, thing)


PAINTERS: dict[str, Callable[[Facts, Surface, Lighting, float], Tensor]] = {
    "face": colour_face, "ear": colour_plain_skin, "neck": colour_neck,
    "clothes": colour_clothes, "hair": colour_hair, "hat": colour_hat,
    "glasses": colour_glasses, "held": colour_held,
}  # fmt: skip


@dataclass
class Exposure:
    """What falls on the film before it is developed."""

    light: Tensor  # (N, 3, size, size), of what is seen
    cover: Tensor  # (N, 1, size, size), share of each pixel that something covers
    part: Tensor  # (N, size, size), index into PARTS


def paint(f: Facts, surfaces: list[Surface], lit: list[Lighting], size: int) -> Tensor:
    """What every corner of all surfaces sends to the camera: (N, 3, M)."""
    edge = 0.13 / detail(size)  # cm between the corners of the face's grid
    colours = []
    for surface, light_on_it in zip(surfaces, lit, strict=True):
        colour = PAINTERS[surface.part](f, surface, light_on_it, edge)
        colours.append(colour.expand(-1, -1, *surface.shape).flatten(2))
    return torch.cat(colours, 2)


def photograph(f: Facts, size: int) -> Exposure:
    """Everything up to the film, for one batch of people and shots that fits in memory."""
    with record_function("faces.geometry"):
        surfaces = build(f, size)
    with record_function("faces.light"):
        room, lit = illuminate(f, surfaces)
    with record_function("faces.paint"):
        colour = paint(f, surfaces, lit, size)
    samples = size * camera.SAMPLES
    with record_function("faces.splat"):
        film = camera.project(f, room, samples)
        nearest = camera.splat(surfaces, film, samples)
    with record_function("faces.resolve"):
        seen, owner = camera.resolve(surfaces, nearest, colour, samples)
        # The last name is that of owner -1: the background.
        names = constant((*(PARTS.index(s.part) for s in surfaces), 0), owner.device)
        part = names[owner[:, :: camera.SAMPLES, :: camera.SAMPLES].long()]
        cover = camera.shrink((owner >= 0).float()[:, None])
        return Exposure(camera.shrink(seen), cover, part.to(torch.uint8))


def develop(f: Facts, exposure: Exposure) -> Tensor:
    """Put the background behind, and make a photograph of it: uint8 (N, 3, size, size)."""
    with record_function("faces.film"):
        behind = background(f, exposure.light.shape[-1])
        return expose(f, exposure.light + behind * (1 - exposure.cover))
