"""Who a person is: what stays the same in every photograph.

Lengths are in centimetres, seen from the person's front: x to the right of the image, y up, z
towards the viewer, and the origin inside the head, level with the pupils. Colours are sRGB in
0..1. A shape is drawn in two steps, as in life: a few common causes (sex, age, build, ancestry)
move many traits together, and every trait has its own spread around that. The means follow the
head and face measures of Farkas, Anthropometry of the Head and Face (1994); the spreads are about
one and a half times those in life, so that 64 pixels can still tell people apart.

To add a trait, add one row to TRAITS and use it by its name where the head is built or painted.
"""

import torch
from torch import Tensor

from facekit.common.keyed_random import Draws

Traits = dict[str, Tensor]  # name -> (N,) or, for colours, (N, 3)

# name: mean, spread, and what each common cause adds: sex (-1 female, 1 male), age (0 young, 1
# old), build (in standard deviations), tone (-1 lightest skin, 1 darkest), east (1 East Asian).
TRAITS = {
    # the skull                mean  spread   sex    age   build   tone   east
    "head_width":            (7.40,  0.36,  0.14,  0.00,  0.12,  0.00,  0.08),
    "head_height":           (11.2,  0.45,  0.10,  0.00,  0.00,  0.00,  0.00),
    "forehead_slope":        (0.05,  0.36,  0.20,  0.00,  0.00,  0.00,  0.00),
    "forehead_round":        (2.35,  0.14,  0.00,  0.00,  0.00,  0.00,  0.00),
    "brow_ridge":            (0.26,  0.16,  0.17,  0.00,  0.00,  0.02,  -0.1),
    "midface":               (0.00,  0.24,  0.00,  0.00,  0.00,  0.00,  0.05),
    # cheeks, jaw and chin
    "cheek_width":           (6.80,  0.36,  0.12,  0.00,  0.20,  0.00,  0.22),
    "cheekbone":             (0.30,  0.26,  0.00,  0.00,  0.00,  0.03,  0.08),
    "cheekbone_level":       (-2.1,  0.45,  0.00,  0.00,  0.00,  0.00,  0.20),
    "cheek_full":            (0.28,  0.24,  0.00,  -0.1,  0.25,  0.00,  0.05),
    "cheek_hollow":          (0.18,  0.25,  0.00,  0.20,  -0.2,  0.00,  0.00),
    "jaw_width":             (5.55,  0.42,  0.28,  0.05,  0.30,  0.00,  0.05),
    "jaw_square":            (1.95,  0.42,  0.28,  0.00,  0.10,  0.00,  0.00),
    "jaw_lift":              (3.60,  0.60,  0.00,  -0.2,  -0.3,  0.00,  0.00),
    "jaw_round":             (1.92,  0.12,  0.00,  0.00,  0.06,  0.00,  0.00),
    "chin_width":            (0.05,  0.24,  0.12,  0.00,  0.02,  0.00,  0.00),
    "chin_forward":          (0.00,  0.42,  0.12,  0.00,  0.00,  -0.1,  -0.1),
    "chin_ball":             (0.32,  0.24,  0.12,  0.00,  0.00,  0.00,  0.00),
    "chin_height":           (2.85,  0.36,  0.20,  0.00,  0.00,  0.00,  0.00),
    "chin_cleft":            (-0.3,  0.45,  0.15,  0.00,  0.00,  0.00,  0.00),
    "chin_fold":             (1.50,  0.16,  0.03,  0.00,  0.00,  0.00,  0.00),
    # nose
    "nose_base":             (-4.2,  0.42,  -0.1,  -0.2,  0.00,  0.00,  0.05),
    "bridge_height":         (0.78,  0.22,  0.05,  0.00,  0.00,  -0.1,  -0.3),
    "bridge_width":          (0.66,  0.10,  0.02,  0.00,  0.00,  0.05,  0.05),
    "nose_tip":              (1.80,  0.30,  0.08,  0.10,  0.00,  -0.1,  -0.2),
    "nose_tip_width":        (0.84,  0.12,  0.03,  0.05,  0.03,  0.10,  0.03),
    "nose_hump":             (0.00,  0.19,  0.03,  0.03,  0.00,  -0.04, -0.05),
    "nose_rise":             (0.75,  0.22,  -0.05, -0.2,  0.00,  0.00,  0.05),
    "nose_wings":            (1.46,  0.17,  0.08,  0.05,  0.03,  0.20,  0.08),
    "nose_wing_round":       (0.85,  0.16,  0.00,  0.00,  0.00,  0.05,  0.00),
    "nose_skew":             (0.00,  0.11,  0.00,  0.00,  0.00,  0.00,  0.00),
    # eyes
    "eye_apart":             (3.15,  0.20,  0.04,  0.00,  0.00,  0.05,  0.06),
    "eye_width":             (1.62,  0.12,  0.00,  -0.03, 0.00,  0.00,  -0.03),
    "eye_open":              (1.10,  0.13,  -0.05, -0.1,  0.00,  0.03,  -0.17),
    "eye_tilt":              (0.05,  0.065, -0.01, -0.05, 0.00,  0.00,  0.05),
    "eye_depth":             (0.80,  0.28,  0.12,  0.10,  -0.05, 0.00,  -0.35),
    "iris_size":             (0.70,  0.03,  0.00,  0.00,  0.00,  0.00,  0.00),
    "lid_peak":              (-0.1,  0.14,  0.00,  0.00,  0.00,  0.00,  0.00),
    "lid_fold":              (0.34,  0.13,  -0.06, -0.1,  0.00,  0.00,  -0.2),
    "eye_bag":               (0.12,  0.18,  0.02,  0.35,  0.02,  0.00,  0.00),
    "eye_shadow":            (0.22,  0.20,  0.00,  0.10,  0.00,  0.06,  0.00),
    # brows
    "brow_level":            (2.10,  0.29,  -0.2,  -0.1,  0.00,  0.00,  0.12),
    "brow_arch":             (0.42,  0.25,  -0.14, 0.00,  0.00,  0.00,  0.00),
    "brow_peak":             (0.62,  0.09,  0.00,  0.00,  0.00,  0.00,  0.00),
    "brow_tilt":             (0.00,  0.26,  -0.08, 0.00,  0.00,  0.00,  0.00),
    "brow_thick":            (0.44,  0.12,  0.09,  0.00,  0.00,  0.00,  -0.03),
    "brow_start":            (1.25,  0.24,  -0.1,  0.00,  0.00,  0.00,  0.05),
    "brow_end":              (5.20,  0.28,  0.00,  0.00,  0.00,  0.00,  0.00),
    "brow_dense":            (0.88,  0.13,  0.04,  -0.1,  0.00,  0.00,  0.00),
    # mouth
    "lip_gap":               (1.90,  0.28,  0.10,  0.20,  0.00,  0.00,  0.00),
    "mouth_width":           (2.50,  0.24,  0.08,  0.05,  0.00,  0.08,  -0.05),
    "upper_lip":             (0.74,  0.18,  -0.07, -0.2,  0.00,  0.13,  0.02),
    "lower_lip":             (1.02,  0.19,  -0.06, -0.2,  0.00,  0.13,  0.02),
    "lip_bow":               (0.17,  0.08,  -0.02, -0.05, 0.00,  0.00,  0.00),
    "lip_forward":           (0.50,  0.15,  0.00,  -0.1,  0.00,  0.10,  0.02),
    "lip_red":               (0.50,  0.24,  -0.05, -0.1,  0.00,  -0.1,  0.00),
    "mouth_corner":          (0.14,  0.15,  0.00,  -0.1,  0.00,  0.00,  0.00),
    "mouth_forward":         (0.00,  0.25,  0.00,  0.00,  0.00,  0.22,  0.10),
    "mouth_skew":            (0.00,  0.12,  0.00,  0.00,  0.00,  0.00,  0.00),
    "philtrum":              (0.50,  0.25,  0.00,  -0.1,  0.00,  0.00,  0.00),
    "smile_fold":            (0.20,  0.14,  0.00,  0.45,  0.05,  0.00,  0.00),
    # ears and left-right differences
    "ear_level":             (-1.2,  0.32,  0.00,  0.00,  0.00,  0.00,  0.00),
    "ear_height":            (2.95,  0.28,  0.10,  0.25,  0.00,  0.00,  0.00),
    "ear_width":             (1.72,  0.17,  0.05,  0.00,  0.00,  0.00,  0.00),
    "ear_tilt":              (0.34,  0.15,  0.05,  0.00,  0.00,  0.00,  0.00),
    "ear_lobe":              (0.50,  0.28,  0.00,  0.10,  0.00,  0.00,  0.00),
    "eye_skew":              (0.00,  0.10,  0.00,  0.00,  0.00,  0.00,  0.00),
    "jaw_skew":              (0.00,  0.04,  0.00,  0.00,  0.00,  0.00,  0.00),
    # skin
    "undertone":             (0.00,  1.00,  0.00,  0.00,  0.00,  0.00,  -0.4),
    "rosy":                  (0.50,  0.28,  0.00,  0.05,  0.05,  -0.2,  0.00),
    "mottle":                (0.60,  0.22,  0.05,  0.25,  0.00,  0.00,  0.00),
    "shine":                 (0.60,  0.22,  0.05,  -0.1,  0.05,  0.12,  0.05),
    "lines":                 (-0.1,  0.15,  0.00,  1.00,  -0.05, -0.05, -0.05),
    # hair as it grows
    "hairline":              (6.20,  0.55,  0.05,  0.10,  0.00,  0.00,  0.00),
    "recede":                (0.00,  0.45,  0.30,  0.50,  0.00,  0.00,  -0.1),
    "widow_peak":            (0.00,  0.35,  0.00,  0.00,  0.00,  0.00,  0.00),
    "curl":                  (0.28,  0.22,  0.00,  0.00,  0.00,  0.35,  -0.3),
    "volume":                (1.00,  0.24,  -0.05, -0.2,  0.00,  0.00,  0.00),
    "length":                (0.50,  0.25,  -0.05, -0.1,  0.00,  0.00,  0.05),
    "parting":               (0.00,  0.55,  0.00,  0.00,  0.00,  0.00,  0.00),
}  # fmt: skip

WIDER = 1.4  # all spreads of TRAITS, so that faces tell people apart when hair does not

LIMITS = {
    "jaw_square": (1.2, 3.2), "eye_open": (0.72, 1.45), "lid_fold": (0.05, 0.65),
    "eye_depth": (0.1, 1.6), "bridge_height": (0.1, 1.5), "nose_tip": (1.1, 2.8),
    "nose_wings": (1.1, 2.2), "bridge_width": (0.42, 1.0), "upper_lip": (0.25, 1.2),
    "lower_lip": (0.45, 1.45), "brow_thick": (0.2, 0.8), "brow_dense": (0.55, 1.0),
    "chin_cleft": (0.0, 1.0), "cheek_full": (-0.2, 1.0), "lines": (0.0, 1.0),
    "curl": (0.0, 1.0), "eye_bag": (0.0, 1.0), "eye_shadow": (0.0, 1.0), "rosy": (0.0, 1.2),
    "mottle": (0.1, 1.2), "smile_fold": (0.0, 1.0), "recede": (-0.5, 2.4), "length": (0.0, 1.0),
    "parting": (-1.0, 1.0), "volume": (0.5, 1.6), "shine": (0.1, 1.2), "iris_size": (0.6, 0.8),
    "jaw_lift": (1.8, 4.4), "jaw_round": (1.65, 2.3), "ear_lobe": (0.0, 1.0),
    "lip_red": (0.0, 1.1), "brow_arch": (-0.15, 1.0),
}  # fmt: skip

SKIN = [(250, 219, 200), (241, 205, 180), (229, 186, 154), (209, 165, 133), (183, 137, 106),
        (152, 107, 82), (127, 87, 67), (104, 71, 56)]  # fmt: skip
HAIR = [(20, 17, 16), (38, 28, 22), (66, 45, 31), (98, 67, 43), (140, 100, 62), (184, 146, 97),
        (212, 186, 142)]  # fmt: skip
EYES = [(44, 27, 18), (72, 44, 24), (112, 78, 42), (104, 102, 62), (92, 118, 106), (98, 134, 160),
        (132, 150, 160)]  # fmt: skip
RED_HAIR = (134, 62, 28)
GREY_HAIR = (176, 174, 172)
MOLES = 4

# How hair is worn. Thickness above and beside the head (cm), how far down it falls (cm below the
# eyes, 0 for a haircut that ends at the hairline), fringe, how much it covers the ears and cheeks,
# parted, waves, curls, swept up at the front.
STYLES = {
    #              top   side  down fringe cover part  wave  curl  quiff
    "shaved":     (0.06, 0.04,  0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "cropped":    (0.75, 0.22,  0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3),
    "parted":     (1.25, 0.35,  0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.5),
    "swept":      (1.35, 0.30,  0.0, 0.0, 0.0, 0.0, 0.1, 0.0, 1.0),
    "fringe":     (1.20, 0.60,  0.0, 1.0, 0.2, 0.0, 0.0, 0.0, 0.0),
    "curly":      (2.10, 1.20,  0.0, 0.0, 0.2, 0.0, 0.0, 1.0, 0.3),
    "straight":   (0.95, 0.75, 17.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0),
    "wavy":       (1.25, 1.20, 16.0, 0.0, 0.9, 0.8, 1.0, 0.2, 0.0),
    "tied":       (0.45, 0.18,  0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "bob":        (1.15, 1.10,  8.5, 1.0, 1.0, 0.0, 0.1, 0.0, 0.0),
    "long curls": (2.00, 2.20, 13.0, 0.0, 0.8, 0.4, 0.6, 0.9, 0.2),
}  # fmt: skip
STYLE_COLUMNS = "top side down fringe cover part wave curl quiff".split()
#          shaved crop part swept fringe curly straight wavy tied bob long curls
MEN =     [0.12, 0.27, 0.23, 0.18, 0.05, 0.10, 0.02, 0.02, 0.01, 0.00, 0.00]  # fmt: skip
WOMEN =   [0.01, 0.05, 0.05, 0.05, 0.04, 0.06, 0.25, 0.21, 0.12, 0.08, 0.08]  # fmt: skip
BEARDS = ("none", "stubble", "full", "goatee", "moustache")


def along(table: list[tuple[int, int, int]], position: Tensor) -> Tensor:
    """Look up a colour (N, 3) at a position 0..1 (N,) along a table of 8-bit colours."""
    colours = torch.tensor(table, device=position.device).double() / 255
    place = position.clamp(0, 1) * (len(table) - 1)
    below = place.floor().clamp(0, len(table) - 2)
    return torch.lerp(colours[below.long()], colours[below.long() + 1], (place - below)[:, None])


def causes(draws: Draws) -> Traits:
    """What moves many traits at once. Skin tone is uniform and sex even, so that nobody is rare."""
    tone = draws.uniform("tone")
    sex = draws.chance("sex", 0.5)
    age = draws.uniform("age") ** 1.6
    between = (tone > 0.12) & (tone < 0.62)
    return {
        "tone": tone,
        "sex": (sex + draws.normal("sex_blend", 0.0, 0.13)).clamp(0, 1),
        "age": 18.0 + 57.0 * age,
        "build": draws.normal("build"),
        "east": draws.chance("east", 0.45) * between.double(),
    }


def shape(draws: Draws, cause: Traits) -> Traits:
    """Every row of TRAITS: its own draw, moved by the common causes, within its limits."""
    traits = draws.normals({name: (row[0], WIDER * row[1]) for name, row in TRAITS.items()})
    old = ((cause["age"] - 30) / 40).clamp(0, 1)
    pull = (cause["sex"] * 2 - 1, old, cause["build"], cause["tone"] * 2 - 1, cause["east"])
    for name, row in TRAITS.items():
        for weight, by in zip(row[2:], pull, strict=True):
            traits[name] = traits[name] + weight * by
        if name in LIMITS:
            low, high = LIMITS[name]
            traits[name] = traits[name].clamp(low, high)
    return traits


def skin(draws: Draws, cause: Traits, undertone: Tensor) -> Traits:
    """Skin colour and marks: freckles, moles."""
    warm = undertone[:, None] * torch.tensor([0.012, 0.0, -0.02], device=undertone.device)
    freckles = draws.chance("freckled", 0.3) * draws.uniform("freckles", 0.3, 1.0)
    traits = {
        "skin": (along(SKIN, cause["tone"]) + warm).clamp(0.05, 0.98),
        "freckles": freckles * (1.1 - cause["tone"]).clamp(0, 1),
    }
    for i in range(MOLES):
        size = draws.uniform(f"mole_size_{i}", 0.12, 0.24)
        traits[f"mole_x_{i}"] = draws.uniform(f"mole_x_{i}", -5.5, 5.5)
        traits[f"mole_y_{i}"] = draws.uniform(f"mole_y_{i}", -8.5, 5.0)
        traits[f"mole_size_{i}"] = draws.chance(f"mole_{i}", 0.4) * size
    return traits


def colours(draws: Draws, cause: Traits) -> Traits:
    """Hair, brows and eyes: all colours among the light-skinned, dark ones among the others."""
    light = ((0.62 - cause["tone"]) / 0.3).clamp(0.08, 1.0) * (1 - 0.85 * cause["east"])
    hair = along(HAIR, draws.uniform("hair_light") * light)
    red = draws.chance("red_hair", 0.12 * (light > 0.6))[:, None] * 0.85
    hair = torch.lerp(hair, torch.tensor(RED_HAIR).to(hair) / 255, red)
    onset = draws.normal("grey_onset", 54.0, 8.0)
    dyed = draws.chance("dyed", torch.where(cause["sex"] > 0.5, 0.1, 0.6))
    grey = ((cause["age"] - onset) / 18 + 0.3).clamp(0, 1) * (1 - dyed)
    silver = torch.tensor(GREY_HAIR).to(hair) / 255
    eyes = draws.uniform("eye_light") ** 0.9 * (light + 0.1).clamp(0, 1)
    return {
        "grey": grey,
        "hair": torch.lerp(hair, silver, 0.85 * grey[:, None]),
        "brow": torch.lerp(hair * 0.8, silver * 0.6, 0.45 * grey[:, None]),
        "eye": along(EYES, eyes),
    }


def worn_hair(draws: Draws, cause: Traits) -> Traits:
    """The usual hair style, a second one, baldness, and the beard as it is usually worn."""
    man = cause["sex"] > 0.5
    style = torch.where(man, draws.choice("style_1m", MEN), draws.choice("style_1w", WOMEN))
    style_2 = torch.where(man, draws.choice("style_2m", MEN), draws.choice("style_2w", WOMEN))
    bald = draws.chance("balding", 0.35 * man) * ((cause["age"] - 35) / 25).clamp(0, 1)
    beard = draws.choice("beard", [0.40, 0.24, 0.16, 0.12, 0.08])
    return {
        "hair_style": style,
        "hair_style_2": style_2,
        "bald": bald,
        "beard": torch.where(man, beard, torch.zeros_like(beard)),
        "beard_dense": draws.uniform("beard_dense", 0.6, 1.0),
        "beard_length": draws.uniform("beard_length", 0.2, 1.0),
        "strands": draws.uniform("strands", 0.0, 1.0),
    }


def habits(draws: Draws, cause: Traits) -> Traits:
    """What a person usually wears on the face: glasses, make-up."""
    woman = (cause["sex"] < 0.5).double()
    return {
        "wears_glasses": draws.chance("wears_glasses", 0.25),
        "lens_width": draws.uniform("lens_width", 2.2, 2.8),
        "lens_height": draws.uniform("lens_height", 1.5, 2.3),
        "lens_square": draws.uniform("lens_square"),
        "rim": draws.uniform("rim", 0.10, 0.28),
        "rim_colour": draws.colour("rim_colour", 0.03, 0.5) * draws.uniform("rim_v")[:, None],
        "makeup": woman * draws.chance("makeup", 0.65) * draws.uniform("makeup_strength", 0.3, 1.0),
        "lipstick": draws.colour("lipstick", 0.0, 0.3)
        * torch.tensor([0.6, 0.9, 1.0], device=woman.device)
        + torch.tensor([0.5, 0.06, 0.12], device=woman.device),
    }


def describe(draws: Draws, given: Traits | None = None) -> Traits:
    """Return every lasting trait of N people; `draws` must be keyed by the person alone.

    Traits in `given` are not drawn; those that depend on them follow.
    """
    given = given or {}
    traits = causes(draws)
    traits |= {name: given[name] for name in traits.keys() & given.keys()}
    traits |= shape(draws, traits)
    traits |= skin(draws, traits, traits["undertone"]) | colours(draws, traits)
    traits |= worn_hair(draws, traits) | habits(draws, traits)
    return traits | {name: given[name] for name in traits.keys() & given.keys()}
