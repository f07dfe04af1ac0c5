"""How one photograph was taken: everything a face classifier should learn to ignore.

Angles are in degrees, lengths in head units (see `person`), colours sRGB in 0..1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from facekit.faces.draws import Draws
from facekit.faces.person import Traits

# name: (mean, standard deviation)
BELL = {
    "yaw": (0.0, 17.0), "pitch": (1.0, 8.0), "roll": (0.0, 7.0),
    "scale": (0.70, 0.05), "offset_x": (0.0, 0.07), "offset_y": (0.0, 0.06),
    "gaze_x": (0.0, 0.018), "gaze_y": (0.0, 0.007), "brow_raise": (0.0, 0.018),
    "light_x": (0.0, 0.6), "light_y": (-0.35, 0.4), "light_warmth": (0.0, 0.06),
    "flush": (0.0, 0.25), "hair_volume": (1.0, 0.12), "part_shift": (0.0, 0.06),
    "fringe_shift": (0.0, 0.03), "exposure": (0.0, 0.16), "contrast": (1.0, 0.11),
    "cast_warm": (0.0, 0.03), "cast_green": (0.0, 0.014), "saturation": (1.0, 0.14),
}  # fmt: skip

# name: (low, high)
EVEN = {
    "light_strength": (0.2, 0.7), "ambient": (0.45, 0.7), "collar": (0.1, 0.5),
    "pattern_angle": (0.0, 180.0), "pattern_rate": (2.0, 9.0), "pattern_phase": (0.0, 6.28),
    "stripes": (-0.3, 0.3), "blobs": (0.0, 0.45), "slope": (-0.25, 0.25),
    "cloth_stripes": (-0.25, 0.2), "shoulder": (1.15, 1.35), "vignette": (0.0, 0.35),
    "object_angle": (0.0, 180.0), "object_size": (0.3, 0.5), "hat_line": (0.38, 0.55),
}  # fmt: skip


def expression(draws: Draws) -> Traits:
    """A mood, then how strongly the mouth and the eyes show it."""
    mood = draws.choice("mood", [0.4, 0.3, 0.2, 0.1])  # calm, smile, laugh, talk
    smile = torch.where(mood == 0, draws.uniform("calm", -0.1, 0.3), draws.uniform("smile"))
    laugh = (mood == 2) * draws.uniform("laugh", 0.3, 1.0)
    talk = (mood == 3) * draws.uniform("talk", 0.2, 0.9)
    blink = draws.chance("blink", 0.05) * draws.uniform("blink_depth", 0.6, 0.95)
    return {
        "smile": torch.where(mood == 3, 0.1 * smile, smile),
        "mouth_open": laugh + talk,
        "lid": (1.0 - blink) * draws.normal("lid", 1.0, 0.06) - 0.2 * laugh,
    }


def worn(draws: Draws, wears_glasses: Tensor) -> Traits:
    """What is in front of the face this time; habits hold only mostly."""
    return {
        "glasses": draws.chance("glasses", 0.04 + 0.82 * wears_glasses),
        "tinted": draws.chance("tinted", 0.12),
        "hat": draws.chance("hat", 0.06),
        "hat_colour": draws.colour("hat_colour", 0.1, 0.85),
        "object": draws.chance("object", 0.07),
        "object_colour": draws.colour("object_colour", 0.1, 0.9),
    }


def surroundings(draws: Draws) -> Traits:
    """Clothes and background."""
    grey = draws.uniform("background", 0.08, 0.92)[:, None]
    vivid = draws.uniform("background_vivid", 0.0, 0.5)[:, None]
    bright = draws.uniform("cloth_light", 0.4, 1.0)[:, None]
    return {
        "cloth": draws.colour("cloth", 0.05, 0.95) * bright,
        "back_near": torch.lerp(grey.expand(-1, 3), draws.colour("back_near"), vivid),
        "back_far": torch.lerp(grey.expand(-1, 3), draws.colour("back_far"), vivid),
    }


def describe(draws: Draws, wears_glasses: Tensor) -> Traits:
    """Return the circumstances of N photographs; `draws` keyed by the person and the shot."""
    traits = draws.normals(BELL)
    traits |= draws.uniforms(EVEN)
    traits["blur"] = draws.chance("blurred", 0.35) * draws.uniform("blur", 0.2, 0.9)
    traits["grain_level"] = 0.035 * draws.uniform("grain_level") ** 2
    traits["mono"] = draws.chance("mono", 0.04)
    return traits | expression(draws) | worn(draws, wears_glasses) | surroundings(draws)
