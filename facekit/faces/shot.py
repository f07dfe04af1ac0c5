"""How one photograph was taken: everything a face classifier should learn to ignore.

How far photographs of one person differ is a difficulty, a column of SPREAD. Angles are radians
(degrees in the table), lengths centimetres, colours sRGB in 0..1 unless said otherwise. Light,
lens, background, clothes and pose never ask who is seen; only hair, beard, glasses and make-up do,
as habits that hold mostly.
"""

import math

import torch
from torch import Tensor

from facekit.common.keyed_random import Draws
from facekit.faces.person import MEN, STYLE_COLUMNS, STYLES, WOMEN, Traits

DIFFICULTIES = ("easy", "homework", "hard")
SPREAD = {
    #                     easy   homework  hard
    # pose, degrees: most shots face the camera, some turn far
    "yaw":               (8.0,   15.0,  18.0),
    "far_chance":        (0.10,  0.30,  0.55),
    "far_yaw":           (20.0,  31.0,  38.0),
    "pitch":             (4.0,   7.5,   11.0),
    "roll":              (3.0,   5.0,   10.0),
    # framing
    "zoom":              (0.03,  0.10,  0.13),
    "shift":             (0.25,  1.0,   1.4),
    # expression, as a share of full strength
    "expression":        (0.6,   1.0,   1.2),
    "blink":             (0.02,  0.05,  0.08),
    # light
    "hard_light":        (0.08,  0.22,  0.35),
    "odd_light":         (0.00,  0.07,  0.20),
    "tint":              (0.4,   1.0,   1.5),
    # what changes on a person: chances
    "restyle":           (0.06,  0.25,  0.40),
    "hat":               (0.02,  0.09,  0.16),
    "sunglasses":        (0.01,  0.04,  0.09),
    "glasses_swap":      (0.05,  0.20,  0.40),
    "shave":             (0.05,  0.22,  0.35),
    "object":            (0.02,  0.06,  0.16),
    "years":             (1.0,   4.0,   7.0),
    "weight":            (0.1,   0.3,   0.5),
    # film: standard deviations of log exposure, log contrast, log saturation; chances; grain
    "exposure":          (0.12,  0.24,  0.42),
    "contrast":          (0.07,  0.14,  0.20),
    "saturation":        (0.10,  0.22,  0.32),
    "mono":              (0.01,  0.04,  0.06),
    "cast":              (0.15,  0.30,  0.55),
    "blurred":           (0.15,  0.30,  0.60),
    "blur":              (0.5,   0.8,   1.4),
    "shaken":            (0.02,  0.10,  0.18),
    "grain":             (0.012, 0.026, 0.055),
    "jpeg":              (25.0,  45.0,  75.0),
}  # fmt: skip
YAW_LIMIT = math.radians(60)


def spread_of(difficulty: str) -> dict[str, float]:
    """The column of SPREAD with this name."""
    column = DIFFICULTIES.index(difficulty)
    return {name: row[column] for name, row in SPREAD.items()}


def pose(draws: Draws, wide: dict[str, float]) -> Traits:
    """How head and body are turned, and where the camera stands."""
    far = draws.chance("far", wide["far_chance"])
    degrees = torch.where(far > 0, draws.normal("far_yaw", 0.0, wide["far_yaw"]),
                          draws.normal("yaw", 0.0, wide["yaw"]))  # fmt: skip
    yaw = torch.deg2rad(degrees).clamp(-YAW_LIMIT, YAW_LIMIT)
    bells = draws.normals({
        "pitch": (math.radians(1.5), math.radians(wide["pitch"])),
        "roll": (0.0, math.radians(wide["roll"])),
        "body_yaw": (0.0, 0.12), "body_roll": (0.0, 0.05),
        "zoom": (1.0, wide["zoom"]), "shift_x": (0.0, wide["shift"]),
        "shift_y": (0.0, wide["shift"]),
    })  # fmt: skip
    bells["body_yaw"] = bells["body_yaw"] + yaw * draws.uniform("body_follows", 0.1, 0.8)
    distance = torch.exp(draws.uniform("distance", math.log(60), math.log(260)))
    return bells | {"yaw": yaw, "distance": distance}


def expression(draws: Draws, wide: dict[str, float], yaw: Tensor) -> Traits:
    """A mood, then how strongly mouth, brows and eyes show it."""
    strength = wide["expression"]
    mood = draws.choice("mood", [0.36, 0.30, 0.20, 0.14])  # calm, smile, laugh, talk
    smile = torch.where(mood == 0, draws.uniform("calm", -0.2, 0.2), draws.uniform("smile", 0.3, 1))
    smile = torch.where(mood == 3, 0.2 * smile, smile) * strength
    laugh = (mood == 2) * draws.uniform("laugh", 0.2, 0.7)
    talk = (mood == 3) * draws.uniform("talk", 0.1, 0.9)
    blink = draws.chance("blinks", wide["blink"]) * draws.uniform("blink", 0.6, 0.95)
    looks = draws.uniform("gaze_keeps") * 0.35 * torch.sin(yaw)
    return {
        "smile": smile,
        "mouth_open": (laugh + talk) * strength,
        "jaw_open": (laugh + talk) * draws.uniform("jaw", 0.3, 0.9) * strength,
        "pucker": (mood == 3) * draws.uniform("pucker", -0.1, 0.35) * strength,
        "brow_raise": (draws.normal("brow", 0.0, 0.22) + (mood == 3) * draws.normal("ask", 0, 0.3))
        * strength,
        "frown": draws.normal("frown", 0.0, 0.22).clamp(-0.2, 1.0) * strength,
        "lid": (1 - blink) * draws.normal("lid", 1.0, 0.05) - 0.18 * smile.clamp(0, 1),
        "gaze_x": draws.normal("gaze_x", 0.0, 0.2) - looks,
        "gaze_y": draws.normal("gaze_y", 0.0, 0.07),
    }


def tinted(draws: Draws, name: str, strength: float) -> Tensor:
    """A light's colour (N, 3), linear: between candle and blue sky, a little green or magenta."""
    warm = draws.normal(name + "_warm") * strength
    green = draws.normal(name + "_green") * strength * 0.5
    return torch.stack([torch.exp(0.2 * warm), torch.exp(0.07 * green), torch.exp(-0.25 * warm)], 1)


def light(draws: Draws, wide: dict[str, float]) -> Traits:
    """A key light, the sky around, a fill light opposite and a rim from behind."""
    hard = wide["hard_light"]
    odd = wide["odd_light"]
    kind = draws.choice("light", [0.42, 0.58 - hard - odd, hard, odd])  # soft, studio, hard, odd

    def by_kind(name: str, *ranges: tuple[float, float]) -> Tensor:
        low, high = torch.tensor(ranges, device=kind.device)[kind].unbind(1)
        return low + (high - low) * draws.uniform(name)

    side = draws.normal("light_side", 0.0, 0.8)
    height = draws.uniform("light_height", -0.1, 1.15)
    back = side + math.pi + draws.normal("fill_side", 0.0, 0.8)
    up = draws.uniform("fill_height", -0.1, 0.5)
    return {
        "key_x": torch.sin(side) * torch.cos(height),
        "key_y": torch.sin(height),
        "key_z": torch.cos(side) * torch.cos(height),
        "key": by_kind("key", (0.35, 0.85), (0.75, 1.25), (1.1, 1.9), (0.5, 1.5)),
        "sky": by_kind("sky", (0.45, 0.75), (0.28, 0.5), (0.20, 0.42), (0.14, 0.38)),
        "key_colour": tinted(draws, "key", wide["tint"]) ** (1.0 + (kind == 3).double())[:, None],
        "sky_colour": tinted(draws, "sky", wide["tint"] * 0.7),
        "ground_colour": tinted(draws, "ground", wide["tint"]),
        "fill_x": torch.sin(back),
        "fill_y": up,
        "fill_z": torch.cos(back) + 0.5,
        "fill": draws.uniform("fill", 0.0, 0.4),
        "rim_light": draws.chance("rim_lit", 0.2) * draws.uniform("rim_light", 0.3, 1.2),
        "ground": draws.uniform("ground", 0.1, 0.6),
        "softness": draws.uniform("softness", 0.6, 3.0),
    }


def lens(draws: Draws, wide: dict[str, float]) -> Traits:
    """Exposure, colour, focus, shake, grain and how hard the file was squeezed."""
    bells = draws.normals({
        "exposure": (0.0, wide["exposure"]), "contrast": (0.03, wide["contrast"]),
        "saturation": (-0.04, wide["saturation"]),
    })  # fmt: skip
    return {name: torch.exp(value) for name, value in bells.items()} | {
        "mono": draws.chance("mono", wide["mono"]),
        "cast": tinted(draws, "cast", wide["cast"]),
        "blur": draws.chance("blurred", wide["blurred"])
        * draws.uniform("blur", 0.3, 1.8) * wide["blur"],
        "shake": draws.chance("shaken", wide["shaken"]) * draws.uniform("shake", 1.0, 2.5),
        "shake_angle": draws.uniform("shake_angle", 0.0, math.pi),
        "grain": draws.uniform("grain") ** 3 * wide["grain"],
        "vignette": draws.uniform("vignette", 0.0, 0.35),
        "haze": draws.chance("hazy", 0.12) * draws.uniform("haze", 0.0, 0.1),
        "jpeg": 95.0 - wide["jpeg"] * draws.uniform("jpeg") ** 2,
    }  # fmt: skip


def hair_now(draws: Draws, wide: dict[str, float], who: Traits) -> Traits:
    """The hair of the day: usually the usual, sometimes the other style or somebody else's idea."""
    changed = draws.chance("restyle", wide["restyle"])
    new = torch.where(who["sex"] > 0.5, draws.choice("new_m", MEN), draws.choice("new_w", WOMEN))
    other = torch.where(draws.uniform("which") < 0.6, who["hair_style_2"], new)
    style = torch.where(changed > 0, other, who["hair_style"])
    return {
        "style_now": style,
        "volume_now": torch.exp(draws.normal("volume_now", 0.0, 0.14)),
        "length_now": draws.normal("length_now", 0.0, 0.14),
        "parting_now": draws.normal("parting_now", 0.0, 0.15),
        "parting_side": 1 - 2 * draws.chance("parting_side", 0.1),
        "tousle": draws.uniform("tousle"),
    }


def dull(draws: Draws, name: str) -> Tensor:
    """A colour (N, 3) as cloth has it: mostly between grey and something."""
    grey = draws.uniform(name + "_grey", 0.05, 0.8)[:, None].expand(-1, 3)
    return torch.lerp(
        grey, draws.colour(name, 0.03, 0.8), 0.55 * draws.uniform(name + "_v")[:, None]
    )


def worn(draws: Draws, wide: dict[str, float], who: Traits) -> Traits:
    """Glasses, hats, beard and make-up of the day; habits hold only mostly."""
    swap = draws.chance("glasses_swap", wide["glasses_swap"] * (0.25 + 0.75 * who["wears_glasses"]))
    shaved = draws.choice("shave", [1 - wide["shave"], wide["shave"] * 0.6, wide["shave"] * 0.4])
    beard = torch.where(shaved == 1, torch.zeros_like(who["beard"]), who["beard"])
    grown = (who["beard"] != 1) & (who["sex"] > 0.5)  # three days without a razor, or only a trim
    dark = draws.chance("sunglasses", wide["sunglasses"])
    return {
        "glasses": (who["wears_glasses"] + swap - 2 * who["wears_glasses"] * swap) * (1 - dark),
        "sunglasses": dark,
        "lens_clear": draws.uniform("lens_clear", 0.05, 0.5),
        "beard_now": torch.where((shaved == 2) & grown, torch.ones_like(beard), beard),
        "beard_grown": draws.normal("beard_grown", 1.0, 0.25).clamp(0.3, 1.6),
        "hat": draws.chance("hat", wide["hat"]) * (1 + draws.choice("hat_kind", [0.5, 0.3, 0.2])),
        "hat_low": draws.uniform("hat_low", 4.4, 6.0),
        "hat_colour": dull(draws, "hat_colour"),
        "makeup_now": who["makeup"] * draws.uniform("makeup_now", 0.2, 1.2),
        "makeup_hue": draws.normal("makeup_hue", 0.0, 0.25),
        "flush": draws.normal("flush", 0.0, 0.18),
        "tan": draws.normal("tan", 0.0, 0.02),
        "years": draws.normal("years", 0.0, wide["years"]),
        "weight": draws.normal("weight", 0.0, wide["weight"]),
    }


def object_held(draws: Draws, wide: dict[str, float]) -> Traits:
    """A hand, or a thing held before the face."""
    angle = draws.uniform("object_angle", 0.85 * math.pi, 2.15 * math.pi)  # mostly from below
    far = draws.uniform("object_far", 8.5, 11.5)
    return {
        "object": draws.chance("object", wide["object"]) * (1 + draws.choice("held", [0.5, 0.5])),
        "object_x": torch.cos(angle) * far,
        "object_y": torch.sin(angle) * far * 0.9 - 3.0,
        "object_turn": draws.normal("object_turn", 0.0, 0.5),
        "object_size": draws.uniform("object_size", 0.8, 1.2),
        "object_colour": dull(draws, "object_colour"),
    }


def surroundings(draws: Draws) -> Traits:
    """Clothes and background."""
    grey = draws.uniform("back_grey", 0.05, 0.92)[:, None]

    def shade(name: str, contrast: float) -> Tensor:
        lightness = grey + draws.normal(name + "_light", 0.0, contrast)[:, None]
        vivid = draws.uniform(name + "_vivid")[:, None] ** 2 * 0.55
        return (lightness + vivid * (draws.colour(name) - 0.5)).clamp(0.01, 1.0)

    return draws.uniforms({
        "collar": (0.0, 1.0), "pattern": (0.0, 1.0), "back_kind": (0.0, 1.0),
        "back_scale": (0.5, 2.5), "back_x": (-1.0, 1.0), "back_y": (-1.0, 1.0),
        "back_angle": (0.0, math.pi), "back_sharp": (0.0, 1.0),
    }) | {
        "back_1": shade("back_1", 0.10), "back_2": shade("back_2", 0.2),
        "back_3": shade("back_3", 0.25),
        "cloth": dull(draws, "cloth"),
        "cloth_2": dull(draws, "cloth_2"),
    }  # fmt: skip


PASSPORT = {
    "yaw": 0.0, "pitch": 0.0, "roll": 0.0, "body_yaw": 0.0, "body_roll": 0.0, "zoom": 1.0,
    "shift_x": 0.0, "shift_y": 0.0, "distance": 150.0, "smile": 0.05, "mouth_open": 0.0,
    "jaw_open": 0.0, "pucker": 0.0, "brow_raise": 0.0, "frown": 0.0, "lid": 1.0, "gaze_x": 0.0,
    "gaze_y": 0.0, "key": 0.8, "sky": 0.5, "key_x": 0.45, "key_y": 0.5, "key_z": 0.75, "fill": 0.2,
    "rim_light": 0.0, "key_colour": 1.0, "sky_colour": 1.0, "ground_colour": 1.0, "cast": 1.0,
    "exposure": 1.0, "contrast": 1.03, "saturation": 1.0, "mono": 0.0, "blur": 0.0, "shake": 0.0,
    "grain": 0.0, "haze": 0.0, "hat": 0.0, "sunglasses": 0.0, "object": 0.0, "flush": 0.0,
    "tan": 0.0, "years": 0.0, "weight": 0.0,
}  # fmt: skip
"""Circumstances of a plain portrait, to be handed to `changes`."""


def describe(
    draws: Draws, who: Traits, difficulty: str = "homework", given: Traits | None = None
) -> Traits:
    """Return the circumstances of N photographs; `draws` keyed by the person and the shot.

    Circumstances in `given` take the place of those drawn.
    """
    given = given or {}
    wide = spread_of(difficulty)
    how = pose(draws, wide)
    how |= expression(draws, wide, how["yaw"]) | light(draws, wide) | lens(draws, wide)
    how |= hair_now(draws, wide, who) | worn(draws, wide, who) | object_held(draws, wide)
    how |= surroundings(draws)
    how |= {name: given[name] for name in how.keys() & given.keys()}
    fringe = torch.tensor([row[STYLE_COLUMNS.index("fringe")] for row in STYLES.values()])
    how["fringe_now"] = fringe.to(how["style_now"].device)[how["style_now"]]
    how["hair_changed"] = (how["style_now"] != who["hair_style"]).double()
    return how
