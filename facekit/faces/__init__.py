"""People who do not exist, modelled by code and photographed as often as you like.

A person is a number, and so is a photograph of that person: `render(person, shot)`. To read: first
`rendering`; then `person` (who it is) and `shot` (how the photograph was taken); `scene`, which
calls the rest in order: `head`, `hair` and `worn` build surfaces, `light` lights them, `skin`
paints them, `camera` finds what is seen, `film` develops it. `sheet` makes contact sheets.
"""

from facekit.faces.head import LANDMARKS
from facekit.faces.rendering import landmarks, parameters, parts, render
from facekit.faces.scene import PARTS
from facekit.faces.shot import DIFFICULTIES

__all__ = ["DIFFICULTIES", "LANDMARKS", "PARTS", "landmarks", "parameters", "parts", "render"]
