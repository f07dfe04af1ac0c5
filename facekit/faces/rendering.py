"""What may be asked of the renderer: images, their parts, landmarks, and the numbers behind them.

All randomness is a hash of (seed, person, shot, name), so an image never depends on what else is in
its batch: here the work is checked, and cut into batches that suit the machine.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from facekit.common.errors import FaceError
from facekit.common.keyed_random import Draws
from facekit.faces import camera, head, scene
from facekit.faces import person as people
from facekit.faces import shot as shots
from facekit.faces.person import Traits
from facekit.faces.shot import DIFFICULTIES
from facekit.faces.surface import Facts, move

SIZES = (16, 1024)  # pixels
PIXELS_AT_ONCE = {"cpu": 3 << 16, "cuda": 1 << 24}  # what stays in cache; what keeps a GPU busy
BYTES_A_PIXEL = 735  # at the peak; half of a GPU's memory at most is taken
COLOURS = set(
    "skin hair brow eye rim_colour lipstick key_colour sky_colour ground_colour cast hat_colour "
    "object_colour back_1 back_2 back_3 cloth cloth_2".split()
)
CHOICES = {  # parameters that are places in a list, and the length of that list
    "hair_style": len(people.STYLES),
    "hair_style_2": len(people.STYLES),
    "style_now": len(people.STYLES),
    "beard": len(people.BEARDS),
    "beard_now": len(people.BEARDS),
}
Numbers = Tensor | Sequence[int]
Changes = Mapping[str, Tensor | float]


def as_numbers(name: str, values: Numbers) -> Tensor:
    """Return `values` as int64 (N,) on the processor, or say which argument is wrong."""
    try:
        numbers = torch.as_tensor(values).cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise FaceError(f"{name} must hold integers below 2**63, not {values!r:.60}") from None
    if numbers.numel() == 0:
        numbers = numbers.long()
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise FaceError(f"{name} must hold integers, not {numbers.dtype}")
    if numbers.dim() != 1:
        raise FaceError(f"{name} must have one dimension, not shape {tuple(numbers.shape)}")
    if (numbers < 0).any():
        raise FaceError(f"{name} must not be negative, but holds {int(numbers.min())}")
    return numbers.long()


def check_device(device: str) -> None:
    """Raise FaceError where the device is not there or cannot calculate in double."""
    try:
        torch.ones(1, device=device, dtype=torch.float64).item()  # Apple's has none: never tried
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise FaceError(
            f"device {device!r} is not there or cannot render, use cpu: {reason}"
        ) from None


def check(
    person: Numbers, shot: Numbers, seed: int, difficulty: str, device: str, size: int = SIZES[0]
) -> tuple[Tensor, Tensor]:
    """The people and the shots as int64 (N,) each, or one clear FaceError."""
    if type(size) is not int or not SIZES[0] <= size <= SIZES[1]:
        raise FaceError(f"size must be {SIZES[0]} to {SIZES[1]} pixels, not {size!r}")
    if type(seed) is not int:
        raise FaceError(f"seed must be an integer, not {seed!r}")
    if difficulty not in DIFFICULTIES:
        raise FaceError(f"no difficulty {difficulty!r}; choose one of: {', '.join(DIFFICULTIES)}")
    check_device(device)
    person = as_numbers("person", person)
    shot = as_numbers("shot", shot)
    if len(person) != len(shot):
        raise FaceError(f"person and shot differ in length: {len(person)} and {len(shot)}")
    return person, shot


def as_trait(name: str, value: Tensor | float, person: Tensor) -> Tensor:
    """A change as a tensor (N,), for a colour (N, 3), or a FaceError that says what is wrong.

    A colour is one number for grey, three, or three for each.
    """
    shape = [len(person)]
    wanted = "one number, or one for each image"
    if name in COLOURS:
        shape = [len(person), 3]
        wanted = "one number, or three, or three for each image"
    try:
        tensor = torch.as_tensor(value, dtype=torch.float64, device="cpu").expand(shape)
    except (TypeError, ValueError, RuntimeError):
        found = value
        if hasattr(value, "shape"):
            found = f"shape {tuple(torch.as_tensor(value).shape)}"
        raise FaceError(
            f"changes[{name!r}] is {found!r:.60} for {len(person)} images; give {wanted}"
        ) from None
    if not tensor.isfinite().all():
        raise FaceError(f"changes[{name!r}] must be finite")
    if name not in CHOICES:
        return tensor
    if not ((tensor >= 0) & (tensor < CHOICES[name])).all():
        raise FaceError(f"changes[{name!r}] must be 0 to {CHOICES[name] - 1}")
    return tensor.long()


def draw(
    person: Tensor, shot: Tensor, seed: int, difficulty: str, changes: Changes | None
) -> tuple[Traits, Traits]:
    """`parameters` of numbers that were checked."""
    given = {name: as_trait(name, value, person) for name, value in (changes or {}).items()}
    who = people.describe(Draws(seed, person), given)
    how = shots.describe(Draws(seed, person, shot), who, difficulty, given)
    unknown = given.keys() - who.keys() - how.keys()
    if unknown:
        names = ", ".join(sorted({**who, **how}))
        raise FaceError(f"no parameter {min(unknown)!r}; there are: {names}")
    return single(who), single(how)


def single(traits: Traits) -> Traits:
    """In single precision: what differs in a double's last digit no longer does."""
    return {k: v.float() if v.is_floating_point() else v for k, v in traits.items()}


def pixels_at_once(kind: str, memory: int) -> int:
    """How many pixels a device of this kind renders at once, with so many bytes of its own."""
    pixels = PIXELS_AT_ONCE.get(kind, 1 << 20)
    return min(pixels, memory // (2 * BYTES_A_PIXEL)) if kind == "cuda" else pixels


def images_at_once(size: int, device: str) -> int:
    """How many images of so many pixels fit the processor's cache, or the GPU's memory."""
    kind = torch.device(device).type
    memory = torch.cuda.mem_get_info(device)[1] if kind == "cuda" else 0
    return max(pixels_at_once(kind, memory) // max(size, 112) ** 2, 1)


def batches(traits: Traits, size: int, device: str) -> Iterator[tuple[slice, Facts]]:
    """Cut the work into pieces that fit the processor's cache or the GPU's memory.

    Where each piece belongs, and what is known of its images: worked out by the processor, as it
    is the same on every device, and then moved.
    """
    count = len(traits["tone"])
    many = images_at_once(size, device)
    for start in range(0, count, many):
        batch = slice(start, start + many)
        f = scene.prepare({name: value[batch] for name, value in traits.items()})
        yield batch, Facts(**move(vars(f), device))


def parameters(
    person: Numbers,
    shot: Numbers,
    seed: int = 0,
    difficulty: str = "homework",
    changes: Changes | None = None,
    device: str = "cpu",
) -> tuple[Traits, Traits]:
    """Return who is seen and how, two dicts of tensors (N,) or (N, 3), without rendering.

    `changes` sets parameters by name after they were drawn: one number for all, or one for each.
    Raises FaceError as `render` does.
    """
    person, shot = check(person, shot, seed, difficulty, device)
    who, how = draw(person, shot, seed, difficulty, changes)
    return move(who, device), move(how, device)


def render(
    person: Numbers,
    shot: Numbers,
    size: int = 224,
    device: str = "cpu",
    seed: int = 0,
    difficulty: str = "homework",
    changes: Changes | None = None,
) -> Tensor:
    """Photograph people: `person` and `shot`, N integers each, give uint8 (N, 3, size, size).

    Equal arguments give equal parameters, and images equal within one grey level, but for a fold
    of cloth or a hair that a last digit moves, whatever the batch, the threads or the device.
    `difficulty` says how far photographs of one person differ, a name of DIFFICULTIES; `changes`
    sets parameters by name, see `parameters`.

    Raises FaceError, a ValueError, for a size, number, device, difficulty or name that cannot be.
    """
    return render_files(person, shot, size, device, seed, difficulty, changes)[0]


@torch.no_grad()
def render_files(
    person: Numbers,
    shot: Numbers,
    size: int,
    device: str = "cpu",
    seed: int = 0,
    difficulty: str = "homework",
    changes: Changes | None = None,
) -> tuple[Tensor, Tensor]:
    """What `render` returns, and beside it the quality of each image's JPEG, int32 (N,)."""
    person, shot = check(person, shot, seed, difficulty, device, size)
    who, how = draw(person, shot, seed, difficulty, changes)
    traits = who | how | {"grain_bits": Draws(seed, person, shot).bits("grain")[:, 0]}
    images = torch.empty(len(person), 3, size, size, dtype=torch.uint8, device=device)
    for batch, f in batches(traits, size, device):
        images[batch] = scene.develop(f, scene.photograph(f, size))
    return images, how["jpeg"].round().int()


@torch.no_grad()
def parts(
    person: Numbers,
    shot: Numbers,
    size: int = 224,
    device: str = "cpu",
    seed: int = 0,
    difficulty: str = "homework",
    changes: Changes | None = None,
) -> Tensor:
    """What each pixel of `render`'s images shows: uint8 (N, size, size), index into PARTS.

    Raises FaceError as `render` does.
    """
    person, shot = check(person, shot, seed, difficulty, device, size)
    who, how = draw(person, shot, seed, difficulty, changes)
    shown = torch.empty(len(person), size, size, dtype=torch.uint8, device=device)
    for batch, f in batches(who | how, size, device):
        shown[batch] = scene.photograph(f, size).part
    return shown


@torch.no_grad()
def landmarks(
    person: Numbers,
    shot: Numbers,
    size: int = 224,
    device: str = "cpu",
    seed: int = 0,
    difficulty: str = "homework",
    changes: Changes | None = None,
) -> Tensor:
    """Where the points LANDMARKS lie in `render`'s images: float32 (N, 11, 2), pixels (x, y).

    Raises FaceError as `render` does.
    """
    person, shot = check(person, shot, seed, difficulty, device, size)
    who, how = draw(person, shot, seed, difficulty, changes)
    f = scene.prepare(who | how)
    points = head.landmarks(f).flatten(2)
    room = camera.place(f, points, torch.ones_like(points[:, 0]))
    return camera.project(f, room, size)[:, :2].transpose(1, 2).to(device)
