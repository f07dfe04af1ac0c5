"""Where the faces come from: rendered ones, photographs, Kaggle, another course.

Built in notebook 01; courses with people held out, in notebook 06.

A plan says which picture goes where; then the files are made, in parallel, each written whole or
not at all. An interrupted set-up goes on where it stopped and ends with the same bytes.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import PIL
import torch
from PIL import ImageOps
from tqdm.auto import tqdm

import facekit
from facekit import faces, kaggle, profiles, runtime
from facekit.errors import DataError
from facekit.images import check_readable, read_rgb
from facekit.layout import (
    SPLITS,
    TERMS,
    CourseData,
    Term,
    class_names,
    find_term,
    get_term,
    image_files,
    is_stray,
)
from facekit.plans import Picture, Plan, folder_plan, held_out_plan, synthetic_plan
from facekit.profiles import Profile
from facekit.tables import write_whole

SOURCES = ("synthetic", "folder", "lfw", "kaggle", "held-out")
MANIFEST = "manifest.json"
STARTED = ".facekit-setup.json"  # there while a set-up is not finished
CHUNK = 32  # pictures made together; fixed, so that a picture's neighbours never change
LONG = 1000  # pictures from which on one wants to know how long they take
QUALITY = 92  # JPEG, of photographs; a rendered shot brings its own
LFW_IMAGES = 13_233
LFW_EDGE = 0.2  # of each side, cut off: the face is in the middle of the photograph


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread: the processes share the cores, and sums keep their order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def render_chunk(files: list[tuple[str, Picture]], size: int, seed: int, difficulty: str) -> None:
    """Render and write pictures given as (path, (person, shot))."""
    person, shot = (torch.tensor(column) for column in zip(*(p for _, p in files), strict=True))
    with _one_thread():
        pictures = faces.render(person, shot, size, seed=seed, difficulty=difficulty)
        _, how = faces.parameters(person, shot, seed, difficulty)
    pictures = pictures.permute(0, 2, 3, 1).numpy()
    qualities = how["jpeg"].round().int().tolist()
    for (path, _), picture, quality in zip(files, pictures, qualities, strict=True):
        _write_jpeg(path, PIL.Image.fromarray(picture), quality)


def convert_chunk(files: list[tuple[str, Picture]], size: int, edge: float = 0.0) -> None:
    """Write photographs given as (path, photograph's path), cropped to a square and resized.

    `edge`: the share of each side that is cut off first.
    """
    for path, photograph in files:
        _write_jpeg(path, ImageOps.fit(read_rgb(photograph), (size, size), bleed=edge))


def link_chunk(files: list[tuple[str, Picture]]) -> None:
    """Give images of another course a second name; copied where the disk cannot do that."""
    for path, image in files:
        if Path(path).exists():
            continue
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(image, path)
        except OSError:
            write_whole(Path(path), Path(image).read_bytes())


def _write_jpeg(path: str, image: PIL.Image.Image, quality: int = QUALITY) -> None:
    if Path(path).exists():
        return  # whole, from before an interruption
    content = BytesIO()
    image.save(content, "JPEG", quality=quality)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_whole(Path(path), content.getvalue())


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
) -> CourseData:
    """Fill `out` with a course and return it; a finished course is returned as it is.

    `people`: of source "held-out", how many of the course in `folder` to hold out.
    Goes on where an interrupted set-up stopped. Raises DataError, touching nothing, when `out`
    holds anything else than the course that is asked for.
    """
    out, spec = Path(out), get_term(term)
    folder = fetch_lfw() if source == "lfw" else folder
    _check(source, profile, folder, people)
    settings = {"source": source, "term": term, "seed": seed, "version": facekit.__version__}
    settings |= _settings(source, profile, folder, people, term)
    if _finished(out, settings):
        return CourseData(out, term)
    if source == "kaggle":
        return _from_kaggle(out, spec, settings, progress)
    plan = _plan(source, profile, folder, seed, people, term)
    counts = plan.counts() if plan else _counts(CourseData(folder, term))
    if plan and source in ("folder", "lfw"):
        check_readable([photograph for _, photograph in plan.files(spec)], progress)
    _start(out, settings)
    if plan is None:
        _take_over(Path(folder), out, progress)
    else:
        _make(plan.files(spec), out, *_how(source, profile, seed), processes, progress)
        plan.write_tables(out, spec)
    _finish(out, settings, counts, progress)
    return CourseData(out, term)


def _from_kaggle(out: Path, term: Term, settings: dict, progress: bool) -> CourseData:
    """Fetch both competitions of a term; their files get a second name in `out`."""
    files = []
    for task in kaggle.PARTS:
        folder = getattr(term, task)
        for name, path in kaggle.fetch(term, task, progress).items():
            files.append((f"{folder}/{name}", path))
    _start(out, settings)
    _make(files, out, link_chunk, (), None, progress)
    course = CourseData(out, term.name)
    _finish(out, settings, _counts(course), progress)
    return course


def _how(source: str, profile: Profile, seed: int) -> tuple[Callable, tuple]:
    """What makes a chunk of pictures, and its arguments beside the chunk."""
    return {
        "synthetic": (render_chunk, (profile.pixels, seed, profile.difficulty)),
        "folder": (convert_chunk, (profile.pixels,)),
        "lfw": (convert_chunk, (profile.pixels, LFW_EDGE)),
        "held-out": (link_chunk, ()),
    }[source]


def _settings(
    source: str, profile: Profile, folder: str | Path | None, people: int | None, term: str
) -> dict[str, Any]:
    """What the course depends on, beside seed and term."""
    if source == "synthetic":
        return asdict(profile)
    if source == "kaggle":
        return {"competitions": [kaggle.slug_of(get_term(term), task) for task in kaggle.PARTS]}
    if source == "held-out":
        return {"folder": str(Path(folder).resolve()), "people": people}
    found = _photographs(Path(folder))
    return found if _is_course(Path(folder)) else found | {"pixels": profile.pixels}


def _check(source: str, profile: Profile, folder: str | Path | None, people: int | None) -> None:
    """Raise DataError for what cannot be asked for."""
    if source not in SOURCES:
        raise DataError(f"no source {source!r}; choose one of: {', '.join(SOURCES)}")
    if profile.difficulty not in faces.DIFFICULTIES:
        raise DataError(
            f"no difficulty {profile.difficulty!r}; choose one of: {', '.join(faces.DIFFICULTIES)}"
        )
    if source == "folder" and not (folder and Path(folder).is_dir()):
        raise DataError(f"source folder needs a folder of identities; {folder} is none")
    if source == "held-out" and not (folder and _is_course(Path(folder)) and people):
        raise DataError(
            "source held-out needs the folder of a course, and how many people to hold out: "
            "facekit data FOLDER --source held-out --people 500 --out ELSEWHERE"
        )


def open_course(progress: bool = True) -> CourseData:
    """The course in the workspace's data/, made there first where there is none.

    This is what every notebook begins with: rendered faces, in the size that suits the machine.
    """
    root = runtime.data().value
    if (root / MANIFEST).exists() or _is_course(root):
        return CourseData(root, find_term(root))
    return set_up("synthetic", profiles.profile().value, root, progress=progress)


def fetch_lfw() -> Path:
    """The photographs of Labelled Faces in the Wild, a folder for each person, in the cache.

    Fetched by scikit-learn's loader where they are not there yet (about 200 MB). They are
    published for research. Raises DataError that says what to do when they cannot be had.
    """
    from sklearn.datasets import fetch_lfw_people  # which a bare GPU machine lacks

    home = runtime.cache().value / "lfw"
    home.mkdir(parents=True, exist_ok=True)
    folder = home / "lfw_home" / "lfw_funneled"
    try:
        fetch_lfw_people(data_home=str(home), resize=0.04)
    except OSError as error:  # URLError is one
        raise DataError(
            f"{home}: cannot fetch Labelled Faces in the Wild ({str(error).splitlines()[0]}); look "
            f"after the network, or put lfw-funneled.tgz and its three lists into {folder.parent}"
        ) from error
    found = sum(1 for _ in folder.glob("*/*.jpg"))
    if found != LFW_IMAGES:
        raise DataError(
            f"{folder}: {found:,} photographs of {LFW_IMAGES:,}; delete {home} to fetch them anew"
        )
    return folder


def manifest(root: str | Path) -> dict[str, Any]:
    """What a finished course was made of; {} where the kit did not make it.

    Raises DataError when the file is damaged.
    """
    path = Path(root) / MANIFEST
    return _settings_in(path, "set the data up anew in another folder") if path.is_file() else {}


def _settings_in(path: Path, advice: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged; {advice}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: damaged; {advice}")
    return found


def more_people(course: CourseData, most: int = 1440, progress: bool = True) -> CourseData | None:
    """The open set of `course` once more, of other people, with ten times as many dev probes.

    They are rendered, `most` probes at most, and kept in the cache. None where the course was
    not rendered: of real people there are no more than were handed out.
    """
    made = manifest(course.root)
    if made.get("source") != "synthetic":
        return None
    try:
        profile = Profile(**{field.name: made[field.name] for field in fields(Profile)})
        seed, name = int(made["seed"]) + 1, str(made["sha256"])[:16]
        probes = max(profile.unknown_dev, min(10 * profile.unknown_dev, most))
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(f"{course.root / MANIFEST}: damaged; set the data up anew") from error
    few = {"classes": 2, "train": 1, "dev": 1, "test": 1, "unknown_test": 9}
    wanted = replace(profile, name="more", unknown_dev=probes, **few)
    out = runtime.cache().value / f"more-{name}-{probes}"
    return set_up("synthetic", wanted, out, seed=seed, progress=progress)


def _plan(
    source: str,
    profile: Profile,
    folder: str | Path | None,
    seed: int,
    people: int | None,
    term: str,
) -> Plan | None:
    """What to make; None where the folder is laid out as the course already."""
    if source == "synthetic":
        return synthetic_plan(profile, seed)
    if source == "held-out":
        return held_out_plan(CourseData(folder, term), people, seed)
    return None if _is_course(Path(folder)) else folder_plan(Path(folder), seed)


def _photographs(folder: Path) -> dict[str, str]:
    """What a course of photographs depends on: one more of them, and all are dealt out anew."""
    files = [
        f"{name}/{p.name}\n" for name in class_names(folder) for p in image_files(folder / name)
    ]
    listing = hashlib.sha256("".join(files).encode()).hexdigest()
    return {"folder": str(folder.resolve()), "photographs": listing}


def _counts(course: CourseData) -> dict[str, int]:
    """How much there is of each part of a course; DataError unless every part is there."""
    return {part: len(getattr(course, part)) for part in ("classes", *SPLITS)}


def _is_course(folder: Path) -> bool:
    """Whether a folder holds the course's tree already, of any term."""
    return not (folder / STARTED).exists() and any(
        (folder / term.classification).is_dir() for term in TERMS.values()
    )


def _finished(out: Path, settings: dict) -> bool:
    """Whether `out` is the finished course of these settings; DataError if it is another one."""
    found = next((p for p in (out / MANIFEST, out / STARTED) if p.is_file()), None)
    if found is None:
        others = [p.name for p in out.iterdir() if not is_stray(p.name)] if out.is_dir() else []
        if others:
            raise DataError(
                f"{out}: holds {others[0]}, which this command did not make; choose another --out"
            )
        return False
    there = _settings_in(found, f"delete {out} to make it anew")
    for key, wanted in settings.items():
        finished_by_another_version = key == "version" and found.name == MANIFEST
        if there.get(key) != wanted and not finished_by_another_version:
            raise DataError(
                f"{out}: holds a course with {key} = {there.get(key)}, and {wanted} is asked for; "
                f"choose another --out, or delete {out} first"
            )
    return found.name == MANIFEST


def _start(out: Path, settings: dict) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / STARTED, json.dumps(settings, indent=1).encode())


def _make(
    files: Iterator[tuple[str, Picture]],
    out: Path,
    make: Callable,
    arguments: tuple,
    processes: int | None,
    progress: bool,
) -> None:
    """Make all files in chunks over the processes; a chunk that is whole already is left out."""
    named = [(str(out / path), picture) for path, picture in files]
    chunks = [named[i : i + CHUNK] for i in range(0, len(named), CHUNK)]
    todo = [chunk for chunk in chunks if not all(os.path.exists(path) for path, _ in chunk)]
    done = len(named) - sum(map(len, todo))
    # A process needs seconds to start: it should have some chunks to make.
    processes = min(processes or os.cpu_count() or 1, len(todo) // 8)
    if make is render_chunk and len(todo) > LONG // CHUNK:
        _say_how_long(sum(map(len, todo)), processes, *arguments)
    with tqdm(total=len(named), initial=done, unit="image", disable=not progress) as bar:
        if processes <= 1:
            for chunk in todo:
                make(chunk, *arguments)
                bar.update(len(chunk))
        else:
            _make_in_parallel(todo, make, arguments, processes, bar)


def _say_how_long(pictures: int, processes: int, size: int, *_: Any) -> None:
    """Time a few pictures, and tell how long all will take."""
    few = torch.arange(12)
    with _one_thread():
        faces.render(few[:1], few[:1], size)  # the first is slow
        began = time.perf_counter()
        faces.render(few, few, size)
    minutes = (time.perf_counter() - began) / len(few) * pictures / processes / 60
    print(
        f"rendering {pictures:,} pictures of {size} px with {processes} processes, "
        f"about {max(1, round(minutes)):,} min",
        file=sys.stderr,
    )


def _make_in_parallel(
    todo: Sequence[list], make: Callable, arguments: tuple, processes: int, bar: tqdm
) -> None:
    # Spawned, not forked: the same on every system, and safe beside torch's threads.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(make, chunk, *arguments): len(chunk) for chunk in todo}
        try:
            for job in as_completed(jobs):
                job.result()
                bar.update(jobs[job])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _take_over(folder: Path, out: Path, progress: bool) -> None:
    """Copy a tree that is laid out as the course already, byte for byte."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != MANIFEST]
    for path in tqdm(files, unit="file", disable=not progress):
        inside = path.relative_to(folder)
        if any(map(is_stray, inside.parts)) or (out / inside).exists():
            continue
        (out / inside).parent.mkdir(parents=True, exist_ok=True)
        part = (out / inside).with_name(f".{path.name}.{os.getpid()}.part")
        shutil.copyfile(path, part)
        os.replace(part, out / inside)


def _finish(out: Path, settings: dict, counts: dict, progress: bool) -> None:
    """Write the manifest, with a hash over every file's path and content, as the last thing."""
    versions = {"torch": str(torch.__version__), "pillow": PIL.__version__}
    for left_over in out.rglob(".*.part"):
        left_over.unlink()
    manifest = settings | {"counts": counts, "versions": versions}
    manifest["sha256"] = content_hash(out, progress)
    write_whole(out / MANIFEST, json.dumps(manifest, indent=1).encode())
    (out / STARTED).unlink()


def content_hash(root: Path, progress: bool = False) -> str:
    """One SHA-256 over the path and content of every file below `root` but the manifest."""
    total = hashlib.sha256()
    files = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    for name in tqdm(files, "hashing", unit="file", disable=not progress):
        if name not in (MANIFEST, STARTED):
            content = hashlib.sha256((root / name).read_bytes()).hexdigest()
            total.update(f"{name} {content}\n".encode())
    return total.hexdigest()
