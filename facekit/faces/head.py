"""Where each pixel lies on the head: the pose, without any 3-D model.

Read from the picture inwards. A pixel is moved into the head's own frame (roll, scale, offset).
Dividing by the width of the outline at its height makes the head a unit ball, and a ball is easy
to turn: yaw and pitch rotate the point on its surface, and the result says which spot of the
face is seen there. Features that stand out from the ball, such as the nose, move further: `ahead`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from facekit.faces.person import Facts


@dataclass
class View:
    """One batch of pixels seen as places on heads; (N, 1, size, size) unless said otherwise."""

    across: Tensor  # in the plane of the picture, head units, right of the head's middle
    down: Tensor  # the same, below the head's middle
    ball_x: Tensor  # on the unit ball, as seen: right,
    ball_y: Tensor  # down,
    ball_z: Tensor  # and towards the camera
    x: Tensor  # on the face, as if it looked straight at us: head units right of the nose line
    y: Tensor  # head units below the eyes
    front: Tensor  # 1 on the front of the head, 0 at the back
    side: Tensor  # how far a spot faces forward: 1 at the nose, 0 at the ears, -1 behind
    outside: Tensor  # distance outside the outline, head units, negative inside
    half_width: Tensor  # of the turned head, (N, 1, 1, 1)
    turn: Tensor  # sine of yaw, (N, 1, 1, 1)
    nod: Tensor  # sine of pitch, (N, 1, 1, 1)
    pixel: Tensor  # the width of a pixel in head units, (N, 1, 1, 1)

    def cover(self, distance: Tensor, softness: float = 0.0) -> Tensor:
        """How much of a pixel a shape covers (0..1), from the distance to the shape's edge."""
        return (0.5 - distance / (1.5 * self.pixel + softness)).clamp_(0.0, 1.0)

    def ahead(self, depth: Tensor | float) -> tuple[Tensor, Tensor]:
        """Face coordinates for something `depth` in front of the skin, which parallax moves."""
        return self.x - depth * self.turn, self.y - depth * self.nod


def hump(value: Tensor, width: Tensor | float) -> Tensor:
    """A smooth bump: 1 where `value` is 0, about 1/3 one width away, 0 from two widths on.

    Much like a Gaussian, at a fifth of the time of an exponential.
    """
    half = value * (0.5 / width)
    return (1.0 - half * half).clamp_(min=0.0).square_().square_()


def outline(down: Tensor, who: Facts) -> Tensor:
    """Relative width of the head against a plain ball, by height; (N, 1, size, size)."""
    low, high = down.clamp(0.0, 1.0), down.clamp(-1.0, 0.0)
    low2 = low * low
    width = 1.0 + who.forehead_width * high * high + who.cheek_width * hump(down - 0.25, 0.35)
    return width + who.jaw_width * low2 + (who.chin_width - 0.1) * low2 * low2


def frame(how: Facts, size: int) -> tuple[Tensor, Tensor]:
    """Pixel centres in the upright head's frame, head units: across and down."""
    axis = (torch.arange(size, device=how.scale.device) + 0.5) * (2.0 / size) - 1.0
    u = (axis.view(1, 1, 1, size) - how.offset_x) / how.scale
    v = (axis.view(1, 1, size, 1) - how.offset_y) / how.scale
    roll = torch.deg2rad(how.roll)
    return u * roll.cos() + v * roll.sin(), v * roll.cos() - u * roll.sin()


def look_at(who: Facts, how: Facts, size: int) -> View:
    """Place every pixel of N photographs on the heads they show."""
    across, down = frame(how, size)
    yaw, pitch = torch.deg2rad(how.yaw), torch.deg2rad(how.pitch)
    turn, nod = yaw.sin(), pitch.sin()
    half_width = ((who.face_width * yaw.cos()) ** 2 + (who.head_depth * turn) ** 2).sqrt()
    ball_y = down / torch.where(down > 0.0, who.face_height * who.chin_length, who.face_height)
    lean = 0.16 * turn * ball_y.clamp(0.0, 1.0)  # the jaw hangs from the front of the skull
    ball_x = (across - lean) / (half_width * outline(ball_y, who))
    radius2 = ball_x * ball_x + ball_y * ball_y
    ball_z = (1.0 - radius2).clamp(min=1e-4).sqrt()
    forward = ball_x * turn + ball_z * yaw.cos()
    x = (ball_x * yaw.cos() - ball_z * turn) * who.face_width
    y = ball_y * pitch.cos() - forward * nod
    side = ball_y * nod + forward * pitch.cos()
    return View(
        across=across, down=down, ball_x=ball_x, ball_y=ball_y, ball_z=ball_z,
        x=x, y=y, front=(side * 6.0).clamp(0.0, 1.0), side=side,
        outside=(radius2.sqrt() - 1.0) * 0.85, half_width=half_width,
        turn=turn, nod=nod, pixel=2.0 / (size * how.scale),
    )  # fmt: skip
