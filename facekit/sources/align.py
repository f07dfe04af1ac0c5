"""A folder of photographs, each cropped to the face in it, where the course's images have theirs.

Built in no notebook.
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from facekit.common.errors import say
from facekit.common.files import write_table, write_whole
from facekit.data.background import on_all_cores
from facekit.data.images import check_readable, read_rgb
from facekit.data.layout import class_names, image_files
from facekit.sources.detector import Face, find_faces

LIST = "aligned.csv"  # what became of each photograph
NOTES = "notes.jsonl"  # the same, written as it happens
NAMED = 6  # photographs that are named on the screen
# Both eyes and both corners of the mouth, left ones first, in shares of the image's side: where
# rendered people have them on average (`faces.landmarks`, difficulty homework).
FRAME = np.array([[0.384, 0.471], [0.614, 0.471], [0.401, 0.699], [0.599, 0.699]])
MARKS = [0, 1, 3, 4]  # these of a face's points; a nose moves most when the head turns


class Outcome(NamedTuple):
    """What became of a photograph; of several faces the largest is taken."""

    photograph: str  # PERSON/FILE
    faces: int

    @property
    def words(self) -> str:
        if not self.faces:
            return "left out: no face found"
        return "cropped" if self.faces == 1 else f"the largest of {self.faces} faces cropped"


def crop(photograph: np.ndarray, face: Face, size: int) -> np.ndarray:
    """The photograph turned, scaled and moved until the face lies in FRAME: uint8 (size, size, 3).

    What lies beyond the photograph's edge repeats its edge.
    """
    move = similarity(face.points[MARKS], FRAME * size)
    scale = np.hypot(*move[0, :2])
    if scale < 1:  # first smaller, by areas: else fine patterns would make coarse ones
        sides = [max(1, round(side * scale)) for side in photograph.shape[1::-1]]
        move[:, :2] *= np.array(photograph.shape[1::-1]) / sides
        photograph = cv2.resize(photograph, sides, interpolation=cv2.INTER_AREA)
    border = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REPLICATE}
    return cv2.warpAffine(photograph, move, (size, size), **border)


def similarity(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The turn, scale and move that brings points (N, 2) nearest to their targets: (2, 3)."""
    here, there = (np.asarray(place) @ [1, 1j] for place in (points, targets))
    columns = np.stack([here, np.ones_like(here)], 1)
    (turn, move), *_ = np.linalg.lstsq(columns, there, rcond=None)
    return np.array([[turn.real, -turn.imag, move.real], [turn.imag, turn.real, move.imag]])


def crop_file(path: Path, size: int) -> tuple[np.ndarray | None, int]:
    """The largest face of an image file as `crop` makes it, None without one; how many there are.

    Raises DataError for a file that cannot be read, and where the detector is missing.
    """
    photograph = np.asarray(read_rgb(path))
    faces = find_faces(photograph)
    return (crop(photograph, faces[0], size) if faces else None), len(faces)


def align_folder(folder: Path, out: Path, size: int, progress: bool = False) -> list[Outcome]:
    """Crop an identity-per-folder tree into `out`, PERSON/0000.png ...; goes on where it stopped.

    Its notes lie beside `out`. Photographs without a face are left out; what became of each is
    returned, in their order. Raises DataError for images that cannot be read, and where the
    detector is missing.
    """
    photographs = {
        f"{name}/{path.name}": (path, out / name / f"{row:04d}.png")
        for name in class_names(folder)
        for row, path in enumerate(image_files(folder / name))
    }
    out.mkdir(parents=True, exist_ok=True)
    done = _read_notes(out.parent / NOTES)
    todo = [name for name in photographs if name not in done]
    check_readable([photographs[name][0] for name in todo], progress)
    work = partial(_crop_to, size=size)
    places = [photographs[name] for name in todo]
    with (out.parent / NOTES).open("a", encoding="utf-8") as notes:
        counts = on_all_cores(work, places, "finding faces", progress)
        for name, faces in zip(todo, counts, strict=True):
            done[name] = faces
            print(json.dumps([name, faces]), file=notes, flush=True)
    return [Outcome(name, done[name]) for name in photographs]


def _crop_to(places: tuple[Path, Path], size: int) -> int:
    """Write the crop of a photograph, if it has a face; how many it has."""
    photograph, target = places
    pixels, faces = crop_file(photograph, size)
    if pixels is not None:
        content = BytesIO()
        Image.fromarray(pixels).save(content, "PNG")
        target.parent.mkdir(exist_ok=True)
        write_whole(target, content.getvalue(), private=True, sync_folder=False)
    return faces


def _read_notes(path: Path) -> dict[str, int]:
    """The faces found in each photograph so far; a line that was cut short is none."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            name, faces = json.loads(line)
        except ValueError:
            continue
        found[name] = faces
    return found


def write_list(path: Path, outcomes: Sequence[Outcome]) -> None:
    """What became of each photograph, as a table that nobody else on this machine can read."""
    rows = [(one.photograph, one.faces, one.words) for one in outcomes]
    write_table(path, ["photograph", "faces", "result"], rows, private=True)


def tell(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Say on the screen what was left out, and whom nothing is left of."""
    lost = [one.photograph for one in outcomes if not one.faces]
    several = sum(one.faces > 1 for one in outcomes)
    left = Counter(one.photograph.split("/")[0] for one in outcomes if one.faces)
    gone = sorted({name.split("/")[0] for name in lost} - set(left))
    said = [f"faces found in {len(outcomes) - len(lost)} of {len(outcomes)} photographs"]
    if lost:
        said.append(f"left out without one are {_named(lost)}")
    if gone:
        said.append(f"nothing is left of {_named(gone)}")
    if several:
        said.append(f"{several} have several, of which the largest was taken")
    say(f"{folder}: {'; '.join(said)}", file=sys.stderr)


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
