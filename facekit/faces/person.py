"""Who a person is: what stays the same in every photograph.

Lengths are in head units: 1 is half the height of the head, about 11.5 cm. The origin lies
between the eyes; x points to the right of the picture, y down. Colours are sRGB in 0..1.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor

from facekit.faces.draws import Draws

Traits = dict[str, Tensor]  # name -> (N,) or, for colours, (N, 3)
Facts = SimpleNamespace  # the same as attributes, (N, 1, 1, 1) or (N, 3, 1, 1), to meet an image

# name: (mean, standard deviation)
SHAPE = {
    "face_width": (0.75, 0.05), "face_height": (1.0, 0.045), "head_depth": (0.92, 0.04),
    "jaw_width": (-0.02, 0.11), "chin_width": (0.0, 0.10), "cheek_width": (0.01, 0.05),
    "forehead_width": (0.03, 0.07), "chin_length": (1.0, 0.055), "cheek_bulge": (0.06, 0.025),
    "eye_level": (0.0, 0.035), "eye_spacing": (0.29, 0.026), "eye_width": (0.132, 0.014),
    "eye_height": (0.062, 0.013), "eye_tilt": (0.02, 0.11), "eye_depth": (0.05, 0.02),
    "iris_size": (0.058, 0.005), "lid_fold": (0.045, 0.014),
    "brow_gap": (0.165, 0.03), "brow_thickness": (0.033, 0.011), "brow_length": (0.17, 0.02),
    "brow_arch": (0.04, 0.028), "brow_tilt": (0.03, 0.09),
    "nose_length": (0.36, 0.05), "nose_width": (0.125, 0.026), "nose_bridge": (0.05, 0.014),
    "nose_height": (0.17, 0.04), "nose_bend": (0.0, 0.02),
    "lip_gap": (0.19, 0.03), "mouth_width": (0.22, 0.032), "upper_lip": (0.042, 0.014),
    "lower_lip": (0.06, 0.016), "cupid_bow": (0.35, 0.2), "mouth_curve": (0.012, 0.025),
    "ear_size": (0.18, 0.028), "ear_stick": (0.03, 0.025), "ear_level": (0.06, 0.05),
    "neck_width": (0.46, 0.05), "hairline": (0.6, 0.07), "widow_peak": (0.0, 0.05),
    "temple": (0.66, 0.09),
}  # fmt: skip

SKIN = [(252, 224, 206), (240, 204, 178), (224, 180, 146), (200, 152, 116), (174, 124, 90),
        (144, 99, 71), (116, 78, 57), (93, 62, 48)]  # fmt: skip
HAIR = [(24, 20, 20), (52, 34, 26), (92, 58, 36), (138, 92, 54), (204, 162, 98), (232, 208, 156),
        (156, 66, 30), (168, 166, 164), (226, 224, 220)]  # fmt: skip
HAIR_WEIGHTS = [0.24, 0.18, 0.14, 0.12, 0.1, 0.06, 0.07, 0.05, 0.04]
EYES = [(52, 30, 20), (92, 58, 30), (120, 94, 48), (84, 120, 70), (74, 118, 150), (126, 144, 156)]

# Hair above the head, beside it, how low it falls, fringe, cover of the ears, waves, bun.
STYLES = {
    "shaved":   (0.025, 0.01, -0.30, 0.00, 0.0, 0.00, 0.0),
    "short":    (0.11, 0.05, 0.10, 0.02, 0.0, 0.01, 0.0),
    "quiff":    (0.21, 0.04, 0.05, -0.04, 0.0, 0.03, 0.0),
    "fringe":   (0.13, 0.08, 0.20, 0.26, 0.0, 0.01, 0.0),
    "afro":     (0.38, 0.34, 0.30, 0.00, 1.0, 0.04, 0.0),
    "straight": (0.11, 0.10, 1.45, 0.00, 1.0, 0.00, 0.0),
    "wavy":     (0.17, 0.20, 1.25, 0.03, 1.0, 0.06, 0.0),
    "bob":      (0.14, 0.17, 0.66, 0.24, 1.0, 0.01, 0.0),
    "bun":      (0.08, 0.02, 0.00, 0.00, 0.0, 0.00, 1.0),
}  # fmt: skip
STYLE_COLUMNS = ("top", "side", "length", "fringe", "cover", "wave", "bun")


def blend(table: list[tuple[int, int, int]], position: Tensor) -> Tensor:
    """Look up a colour (N, 3) at a position 0..1 (N,) along a table of 8-bit colours."""
    colours = torch.tensor(table, device=position.device) / 255.0
    place = position * (len(table) - 1)
    below = place.floor().clamp(0, len(table) - 2)
    return torch.lerp(colours[below.long()], colours[below.long() + 1], (place - below)[:, None])


def skin_traits(draws: Draws) -> Traits:
    """Skin: the tone is uniform from light to dark, so that no tone is rare."""
    tone = draws.uniform("skin_tone")
    warmth = draws.normal("undertone", 0.0, 0.013)[:, None]
    shift = torch.tensor([1.0, 0.1, -1.2], device=tone.device)
    return {
        "skin_tone": tone,
        "skin": (blend(SKIN, tone) + warmth * shift).clamp(0.05, 0.98),
        "rosy": draws.uniform("rosy"),
        "freckles": draws.chance("freckled", 0.3) * draws.uniform("freckles", 0.4, 1.0),
        "age_lines": draws.uniform("age_lines") ** 2,
        "shine": draws.uniform("shine"),
        "lip_red": draws.uniform("lip_red"),
    } | {
        f"mole_{i}_{part}": value
        for i in range(3)
        for part, value in (
            ("x", draws.uniform(f"mole_x{i}", -0.5, 0.5)),
            ("y", draws.uniform(f"mole_y{i}", 0.15, 0.75)),
            ("size", draws.chance(f"mole{i}", 0.35) * draws.uniform(f"mole_r{i}", 0.014, 0.024)),
        )
    }


def hair_traits(draws: Draws) -> Traits:
    """Hair on the head, brows and chin: a style, loosened a little, and a colour."""
    index = draws.choice("hair_style", [0.08, 0.16, 0.12, 0.12, 0.1, 0.13, 0.12, 0.1, 0.07])
    rows = torch.tensor(list(STYLES.values()), device=index.device)[index]  # (N, 7)
    traits = {"hair_" + name: rows[:, i] for i, name in enumerate(STYLE_COLUMNS)}
    for name, loose in (("top", 0.2), ("side", 0.25), ("length", 0.1)):
        traits["hair_" + name] = traits["hair_" + name] * draws.normal("loose_" + name, 1.0, loose)
    colours = torch.tensor(HAIR, device=index.device) / 255.0
    hair = colours[draws.choice("hair_colour", HAIR_WEIGHTS)]
    hair = (hair * draws.normal("hair_depth", 1.0, 0.1)[:, None]).clamp(0.03, 0.95)
    beard = draws.choice("beard", [0.66, 0.1, 0.12, 0.12])  # none, full, goatee, moustache
    return traits | {
        "hair_style": index,
        "shaved": (index == 0).float(),
        "hair": hair,
        "strands": draws.uniform("strands", 14.0, 40.0),
        "part": draws.normal("part", 0.0, 0.16),
        "brow_dark": draws.uniform("brow_dark", 0.25, 0.75),
        "stubble": draws.chance("stubbly", 0.3) * draws.uniform("stubble", 0.2, 0.6),
        "full_beard": (beard == 1).float(),
        "goatee": (beard <= 2).float() * (beard >= 1).float(),
        "moustache": (beard >= 1).float(),
    }


def glasses_traits(draws: Draws) -> Traits:
    """Whether a person wears glasses as a rule, and which."""
    return {
        "wears_glasses": draws.chance("wears_glasses", 0.25),
        "lens_width": draws.uniform("lens_width", 0.18, 0.225),
        "lens_height": draws.uniform("lens_height", 0.11, 0.18),
        "lens_round": draws.uniform("lens_round", 0.03, 0.10),
        "rim_width": draws.uniform("rim_width", 0.010, 0.026),
        "rim": draws.colour("rim", 0.03, 0.5),
    }


def describe(draws: Draws) -> Traits:
    """Return every lasting trait of N people; `draws` must be keyed by the person alone."""
    traits = draws.normals(SHAPE)
    traits["eye_colour"] = blend(EYES, draws.uniform("eye_colour"))
    return traits | skin_traits(draws) | hair_traits(draws) | glasses_traits(draws)


def spread(traits: Traits) -> Facts:
    """Give every trait the shape (N, 1, 1, 1) or (N, 3, 1, 1)."""
    return Facts(
        **{k: v.reshape(len(v), v.shape[1] if v.dim() > 1 else 1, 1, 1) for k, v in traits.items()}
    )
