"""Where the faces come from: rendered ones, photographs, Kaggle, another course.

Built in notebook 01; courses with people held out, in notebook 06.

A plan says which image goes where (plans.py); then the files are made, in parallel (writers.py);
what they were made of is noted beside them (manifest.py).
"""

import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import facekit
from facekit import faces
from facekit.common import machine
from facekit.common.errors import DataError, say
from facekit.common.lock import only_one
from facekit.data.fingerprint import read_files
from facekit.data.images import check_readable
from facekit.data.layout import (
    PAIR_TERMS,
    CourseData,
    Term,
    class_names,
    get_term,
    image_files,
    is_stray,
)
from facekit.data.pairs import PairData, open_data
from facekit.sources import devices, foreign, kaggle, lfw, manifest, profiles, writers
from facekit.sources.copies import bring_back, keep_copy
from facekit.sources.manifest import MANIFEST, is_course, read_manifest
from facekit.sources.pair_plans import PairPlan, pair_plan
from facekit.sources.plans import ImageSource, Plan, folder_plan, held_out_plan, synthetic_plan
from facekit.sources.profiles import Profile

PUBLISHED = 7393118245901182213  # in docs/instructors.md up to 0.4
SOURCES = ("synthetic", "folder", "lfw", "kaggle", "held-out")


@dataclass(frozen=True)
class Request:
    """The course that is asked for. Raises DataError for what cannot be asked for."""

    source: str
    profile: Profile
    folder: Path | None
    seed: int
    term: Term
    people: int | None
    device: str = "auto"
    align: bool = False

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise DataError(f"no source {self.source!r}; choose one of: {', '.join(SOURCES)}")
        if self.seed == PUBLISHED:
            raise DataError(
                f"seed {self.seed} stood in the kit's own pages, so anybody can make its answers; "
                'choose one: python -c "import secrets; print(secrets.randbits(63))"'
            )
        if self.profile.difficulty not in faces.DIFFICULTIES:
            raise DataError(
                f"no difficulty {self.profile.difficulty!r}; choose one of: "
                f"{', '.join(faces.DIFFICULTIES)}"
            )
        if self.device not in devices.DEVICES:
            raise DataError(
                f"no device {self.device!r} to render on; choose one of: "
                f"{', '.join(devices.DEVICES)}"
            )
        if self.device == "cuda":
            machine.device(self.device)  # RecipeError where it cannot be used
        if self.term.name in PAIR_TERMS and self.source != "synthetic":
            raise DataError(
                f"term {self.term.name} has pairs: of these only rendered courses are made; what "
                "was handed out is used as it lies, by --data FOLDER"
            )
        if self.source == "folder" and not (self.folder and self.folder.is_dir()):
            raise DataError(f"source folder needs a folder of identities; {self.folder} is none")
        if self.source == "held-out" and not (self.takes_a_course() and self.people):
            raise DataError(
                "source held-out needs the folder of a course, and how many people to hold out: "
                "facekit data FOLDER --source held-out --people 500 --out ELSEWHERE"
            )
        if self.align and (self.source != "folder" or self.takes_a_course()):
            raise DataError(
                "only a folder of photographs, a folder for each person, can be aligned"
            )

    def takes_a_course(self) -> bool:
        """Whether the folder to read from is laid out as the course already."""
        return self.folder is not None and is_course(self.folder)

    def settings(self, progress: bool = False) -> dict[str, Any]:
        """What the course depends on. Of a folder that is what is in it, wherever it lies."""
        common = {
            "source": self.source,
            "term": self.term.name,
            "seed": self.seed,
            "version": facekit.__version__,
        }
        if self.source == "synthetic":
            return common | asdict(self.profile)
        if self.source == "kaggle":
            slugs = [kaggle.slug_of(self.term, task) for task in kaggle.PARTS]
            return common | {"competitions": slugs}
        files = self.files_read()
        if files:  # else the plan says what is wrong
            common["photographs"] = read_files(files, machine.cache().value, progress).content
        if self.source == "held-out":
            return common | {"people": self.people}
        if not self.takes_a_course():
            common["pixels"] = self.profile.pixels
        if self.source == "folder":
            common["aligned"] = self.align or None  # older courses say nothing of it
        return common

    def files_read(self) -> list[Path]:
        """The files in the folder that the course is made from."""
        if self.source == "held-out":
            course = CourseData(self.folder, self.term.name)
            return [*course.train.paths, *course.dev.paths]
        if self.takes_a_course():
            return [path for _, path in _inside(self.folder)]
        names = class_names(self.folder)
        return [path for name in names for path in image_files(self.folder / name)]

    def plan(self) -> Plan | PairPlan | None:
        """Which image goes where; None where what is read is laid out as the course already."""
        if self.term.name in PAIR_TERMS:
            return pair_plan(self.profile, self.seed)
        if self.source == "synthetic":
            return synthetic_plan(self.profile, self.seed)
        if self.source == "held-out":
            return held_out_plan(CourseData(self.folder, self.term.name), self.people, self.seed)
        if self.source == "kaggle" or self.takes_a_course():
            return None
        return folder_plan(self.folder, self.seed)

    def writer(self) -> Callable[[writers.Chunk], None]:
        """What makes a chunk of the course's files."""
        if self.source in ("kaggle", "held-out"):
            return partial(writers.copy_chunk, link=True)
        size = self.profile.pixels
        if self.source == "synthetic":
            difficulty = self.profile.difficulty
            return partial(writers.render_chunk, size=size, seed=self.seed, difficulty=difficulty)
        if self.takes_a_course():
            return writers.copy_chunk
        edge = lfw.EDGE if self.source == "lfw" else 0.0
        return partial(writers.convert_chunk, size=size, edge=edge)


def set_up(
    source: str,
    profile: Profile,
    out: str | Path,
    folder: str | Path | None = None,
    seed: int = 0,
    term: str = "F23",
    processes: int | None = None,
    progress: bool = True,
    people: int | None = None,
    device: str = "auto",
    align: bool = False,
) -> CourseData | PairData:
    """Fill `out` with a course and return it; a finished course is returned as it is.

    `people`: of source "held-out", how many of the course in `folder` to hold out. `device`: what
    renders source "synthetic": "cpu", "cuda" or, with "auto", what is faster here. `align`: of
    source "folder", find the face in each photograph and crop to it (`sources.align`).
    Goes on where an interrupted set-up stopped, and waits while another process fills `out`.
    Raises DataError, touching nothing, when it holds anything else than the course asked for.
    """
    out = Path(out)
    spec = get_term(term)
    read = Path(folder) if folder else None
    request = Request(source, profile, read, seed, spec, people, device, align)
    if source == "lfw":
        request = replace(request, folder=lfw.fetch())
    settings = request.settings(progress)
    if _is_finished(out, settings, request):
        return open_data(out, term)
    request, outcomes = _look_at_photographs(request, settings, progress)
    plan = request.plan()
    files = list(plan.files(spec)) if plan else _laid_out(request, progress)
    if plan and source in ("folder", "lfw"):
        check_readable([photograph for _, photograph in files], progress)
    with only_one(out, wait=True):
        if _is_finished(out, settings, request):  # by another process, in the meantime
            return open_data(out, term)
        settings = _make_files(files, out, request, settings, processes, progress)
        _write_tables(plan, out, spec, outcomes)
        course = open_data(out, term)
        manifest.finish(out, settings, _counts(course), progress)
    if align:
        shutil.rmtree(request.folder.parent, ignore_errors=True)
    return course


def _look_at_photographs(
    request: Request, settings: dict[str, Any], progress: bool
) -> tuple[Request, list]:
    """Say what of a folder is not taken, and align the rest where that is asked for."""
    if request.source == "folder" and not request.takes_a_course():
        _tell_left_out(request.folder)
    return _align(request, settings, progress) if request.align else (request, [])


def _write_tables(plan: Plan | PairPlan | None, out: Path, term: Term, outcomes: list) -> None:
    """What a plan hands out and keeps to itself, and what became of photographs."""
    if plan:
        plan.write_tables(out, term)
    if outcomes:
        from facekit.sources import align as alignment

        alignment.write_list(out / alignment.LIST, outcomes)
        say(f"{out / alignment.LIST}: what became of each photograph", file=sys.stderr)


def _align(request: Request, settings: dict[str, Any], progress: bool) -> tuple[Request, list]:
    """The request with crops for photographs, in the cache until the course is whole."""
    from facekit.sources import align as alignment  # OpenCV, which who only renders may lack
    from facekit.sources import detector

    detector.load()  # says what is missing before anything is made
    name = f"aligned-{settings.get('photographs', 'none')[:16]}-{request.profile.pixels}"
    folder = machine.cache().value / name / request.folder.resolve().name
    with only_one(folder.parent, wait=True):
        size = request.profile.pixels
        outcomes = alignment.align_folder(request.folder, folder, size, progress)
    alignment.write_list(folder.parent / alignment.LIST, outcomes)  # for an error that may follow
    alignment.tell(request.folder, outcomes)
    return replace(request, folder=folder, align=False), outcomes


def _is_finished(out: Path, settings: dict[str, Any], request: Request) -> bool:
    """Whether `out` is the finished course that is asked for; DataError if it is another one."""
    finished = manifest.is_finished(out, settings)
    if finished and request.source == "synthetic":
        devices.check_finished(out, request.device)
    return finished


def _make_files(
    files: list[tuple[str, ImageSource]],
    out: Path,
    request: Request,
    settings: dict[str, Any],
    processes: int | None,
    progress: bool,
) -> dict[str, Any]:
    """Note what is begun, and make all files; the note, which names the device that rendered."""
    device = "cpu"
    if request.source == "synthetic":
        device, reason = devices.choose(out, request.device, len(files), request.profile.pixels)
        settings = settings | {devices.KEY: devices.kind_with(out, device)}
        if progress and machine.device().value.type == "cuda":
            say(f"rendered on {device} ({reason})", file=sys.stderr)
    manifest.start(out, settings)
    if device == "cuda":
        writers.write_from_gpu(files, out, request.profile, request.seed, progress)
    else:
        writers.write_files(files, out, request.writer(), processes, progress)
    return settings


def _tell_left_out(folder: Path) -> None:
    """Say which files of a folder of photographs are not taken, and how many people have none."""
    others = foreign.left_out(folder)
    empty = sum(not image_files(folder / name) for name in class_names(folder))
    if others:
        say(
            f"{folder}: left out are {others}; {empty} people have no image that is read. To have "
            "them all, convert what is not JPEG, PNG, WebP, BMP or GIF",
            file=sys.stderr,
        )


def _laid_out(request: Request, progress: bool) -> list[tuple[str, Path]]:
    """The files of a course that somebody else laid out, with their paths in it."""
    if request.source == "kaggle":
        return [
            (f"{getattr(request.term, task)}/{name}", path)
            for task in kaggle.PARTS
            for name, path in kaggle.fetch(request.term, task, progress).items()
        ]
    _counts(CourseData(request.folder, request.term.name))  # raises where a part is missing
    return _inside(request.folder)


def _inside(folder: Path) -> list[tuple[str, Path]]:
    """Every file below a course's folder but the kit's note, with its path in it."""
    inside = [path.relative_to(folder) for path in sorted(folder.rglob("*"))]
    return [
        (path.as_posix(), folder / path)
        for path in inside
        if (folder / path).is_file()
        and path.name != MANIFEST
        and not any(map(is_stray, path.parts))
    ]


def _counts(course: CourseData | PairData) -> dict[str, int]:
    """How much there is of each part of a course; DataError unless every part is there."""
    return {part: len(getattr(course, part)) for part in course.PARTS}


def open_course(progress: bool = True, pairs: bool = True) -> CourseData | PairData:
    """The course in the workspace's data/, made there first where there is none.

    This is what every notebook begins with: rendered faces, in the size that suits the machine.
    Where there is a mirror (FACEKIT_MIRROR), they are kept there, too, and come back from there.
    Raises DataError for data of a term with pairs where they are no use: `pairs=False`.
    """
    root = machine.data().value
    if not (root / MANIFEST).exists() and not is_course(root):
        copy = machine.data_copy()
        if not (copy and bring_back(copy, root)):
            set_up("synthetic", profiles.profile().value, root, progress=progress)
            if copy:
                keep_copy(root, copy)
    course = open_data(root)
    if course.has_pairs and not pairs:
        raise DataError(
            f"{root}: has pairs of faces, and this lesson is about an open set; go on with "
            "the next, or move the data to another folder and run this again"
        )
    return course


def more_people(
    course: CourseData | PairData, most: int = 360, progress: bool = True
) -> CourseData | None:
    """The open set of `course` once more, of other people, with ten times as many dev probes.

    They are rendered, `most` probes at most, and kept in the cache. None where the course has as
    many, or was not rendered: of real people there are no more than were handed out. A course with
    pairs has no open set, so it gets one in any case.
    """
    made = read_manifest(course.root)
    if made.get("source") != "synthetic":
        if not course.has_pairs:
            return None
        made = asdict(profiles.profile().value) | {"seed": 0, "sha256": "real"}
    try:
        profile = Profile(**{field.name: made[field.name] for field in fields(Profile)})
        seed = int(made["seed"]) + 1
        name = str(made["sha256"])[:16]
        probes = min(10 * profile.unknown_dev, most)
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(f"{course.root / MANIFEST}: damaged; set the data up anew") from error
    if probes <= profile.unknown_dev and not course.has_pairs:
        return None
    few = {"classes": 2, "train": 1, "dev": 1, "test": 1, "unknown_test": 9}
    wanted = replace(profile, name="more", unknown_dev=probes, **few)
    out = machine.cache().value / f"more-{name}-{probes}"
    return set_up("synthetic", wanted, out, seed=seed, progress=progress)
