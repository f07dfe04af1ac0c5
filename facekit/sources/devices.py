"""What renders a course: the processor, or a GPU, whose images differ from it a little.

A course comes from one of them, as its manifest says; from both only where that was asked for.
Built in notebook 01.
"""

from pathlib import Path

from facekit import faces
from facekit.common import machine
from facekit.common.errors import DataError
from facekit.common.machine import Choice
from facekit.faces.rendering import images_at_once
from facekit.sources.manifest import read_note

DEVICES = ("auto", "cpu", "cuda")
KEY = "rendered_on"  # in a manifest
KINDS = ("cpu", "cuda", "cuda, cpu")  # the last: begun on a GPU, finished without
TRIED = range(8)  # people that a GPU has to render first
ALIKE = 0.99  # of their pixels, within one grey level; a last digit can move a fold of cloth


def rendered_on(out: Path) -> str:
    """Which of KINDS the course in `out` is, finished or not; "" where none is begun."""
    note = read_note(out)
    kind = note.get(KEY, "cpu") if note else ""  # up to 0.4 there was the processor alone
    if note and kind not in KINDS:
        raise DataError(f"{out}: its note of what it was made of is damaged; delete {out}")
    return kind


def check_finished(out: Path, wanted: str) -> None:
    """Raise DataError where a finished course was rendered on another device than asked for."""
    kind = rendered_on(out)
    if wanted != "auto" and not kind.endswith(wanted):
        raise DataError(
            f"{out}: holds a course with {KEY} = {kind}, and {wanted} is asked for; "
            f"choose another --out, or delete {out} first"
        )


def choose(out: Path, wanted: str, images: int, size: int) -> Choice:
    """The device to render `out` on, "cpu" or "cuda"; one that was begun goes on on its own.

    With the processor after a GPU only where it is `wanted`, and never the other way round.
    Raises DataError else.
    """
    begun = rendered_on(out)
    if not begun and wanted == "auto":
        return _best(images, size)
    device = begun.split(", ")[-1] if wanted == "auto" else wanted
    if device == "cuda" and begun.endswith("cpu"):
        raise DataError(
            f"{out}: was begun on the processor, and a GPU's images differ a little from its; "
            f"go on with --device cpu, or delete {out} to begin anew"
        )
    if device == "cuda" and wanted == "auto" and machine.device().value.type != "cuda":
        raise DataError(
            f"{out}: was begun on a GPU, and there is none here; facekit data --device cpu goes on "
            f"with images that differ a little from those, or delete {out} to begin anew"
        )
    return Choice(device, "as it was begun" if wanted == "auto" else "asked for")


def kind_with(out: Path, device: str) -> str:
    """Which of KINDS the course in `out` is once this device has finished it."""
    begun = rendered_on(out)
    if begun == "cuda" and device == "cpu":
        return "cuda, cpu"
    return begun or device


def _best(images: int, size: int) -> Choice:
    """A GPU, where it makes the processor's faces, and is asked for more than it makes at once.

    Else it would not be worth its start, which takes seconds.
    """
    found = machine.device()
    if found.value.type != "cuda":
        return Choice("cpu", found.reason)
    if images <= images_at_once(size, "cuda"):
        return Choice("cpu", "so few images are not worth the start of a GPU")
    expected = faces.render(TRIED, TRIED, 64)
    try:
        there = faces.render(TRIED, TRIED, 64, device="cuda").cpu()
    except RuntimeError as error:
        return Choice("cpu", f"this GPU cannot: {str(error).splitlines()[0]}")
    near = (there.int() - expected.int()).abs() <= 1
    if near.float().mean() < ALIKE:
        return Choice("cpu", "this GPU makes other faces than the processor")
    return Choice("cuda", found.reason)
