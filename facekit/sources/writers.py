"""A course's files, made chunk by chunk over the processes: rendered, converted, linked, copied.

Built in notebook 01. Each file is written whole or not at all, so an interrupted set-up goes on
where it stopped and ends with the same bytes. A file that is there is believed if it is an image
that can be read: after a power cut it may be there and empty.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from io import BytesIO
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

import numpy as np
import PIL
import torch
from PIL import ImageOps
from tqdm.auto import tqdm

from facekit.common import machine
from facekit.common.errors import DataError
from facekit.common.files import write_whole
from facekit.data.background import count_cores, run_ahead
from facekit.data.images import fault_of, find_unreadable, read_rgb
from facekit.faces.rendering import images_at_once, render_files
from facekit.sources.plans import ImageSource
from facekit.sources.profiles import Profile

CHUNK = 32  # images made together; fixed, so that an image's neighbours never change
MEMORY = 1 << 30  # bytes a process takes at most, torch included
QUALITY = 92  # JPEG, of photographs; a rendered shot brings its own
AHEAD = 512  # images of a GPU that wait to be written
WRITERS = 4  # threads a core that write them: most of them wait for the disk
Chunk = list[tuple[str, ImageSource]]  # where a file belongs, and what it is made from
Rendered = tuple[str, np.ndarray, int]  # where it belongs, uint8 (size, size, 3), JPEG's quality


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread: the processes share the cores, and sums keep their order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def render(files: Chunk, size: int, seed: int, difficulty: str, device: str) -> list[Rendered]:
    """Render images given as (path, (person, shot)); to be written with `write_rendered`."""
    people, shots = zip(*(shot for _, shot in files), strict=True)
    person = torch.tensor(people)
    shot = torch.tensor(shots)
    images, qualities = render_files(person, shot, size, device, seed, difficulty)
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()
    return list(zip([path for path, _ in files], pixels, qualities.tolist(), strict=True))


def write_rendered(rendered: Rendered) -> None:
    path, pixels, quality = rendered
    _write_jpeg(path, PIL.Image.fromarray(pixels), quality)


def render_chunk(files: Chunk, size: int, seed: int, difficulty: str) -> None:
    """Render and write images given as (path, (person, shot)), on the processor."""
    with _one_thread():
        images = render(files, size, seed, difficulty, "cpu")
    for image in images:
        write_rendered(image)


def convert_chunk(files: Chunk, size: int, edge: float = 0.0) -> None:
    """Write photographs given as (path, photograph's path), cropped to a square and resized.

    `edge`: the share of each side that is cut off first.
    """
    for path, photograph in files:
        image = ImageOps.fit(read_rgb(photograph), (size, size), bleed=edge)
        _write_jpeg(path, image, QUALITY)


def copy_chunk(files: Chunk, link: bool = False) -> None:
    """Copy files of another course byte for byte.

    `link`: give them a second name instead, which takes no room, where the disk can do that.
    """
    for path, file in files:
        if not fault_of(path):
            continue
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if not (link and _link(file, path)):
            write_whole(Path(path), Path(file).read_bytes(), sync_folder=False)


def _link(file: str | Path, path: str) -> bool:
    """Give a file a second name; False where that cannot be: another disk, or one without them."""
    try:
        Path(path).unlink(missing_ok=True)
        os.link(file, path)
    except OSError:
        return False
    return True


def _write_jpeg(path: str, image: PIL.Image.Image, quality: int) -> None:
    if not fault_of(path):
        return  # whole, from before an interruption
    content = BytesIO()
    image.save(content, "JPEG", quality=quality)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_whole(Path(path), content.getvalue(), sync_folder=False)


def write_files(
    files: Iterable[tuple[str, ImageSource]],
    out: Path,
    write_chunk: Callable[[Chunk], None],
    processes: int | None,
    progress: bool,
) -> None:
    """Make all files in chunks over the processes; a chunk that is whole already is left out."""
    todo, bar = _left_to_do(files, out, CHUNK, progress)
    # A process needs seconds to start: it should have some chunks to make.
    processes = min(processes or _most_processes(), len(todo) // 8)
    with bar:
        if processes > 1:
            _write_in_parallel(todo, write_chunk, processes, bar)
            return
        for chunk in todo:
            write_chunk(chunk)
            bar.update(len(chunk))


def write_from_gpu(
    files: Iterable[tuple[str, ImageSource]],
    out: Path,
    profile: Profile,
    seed: int,
    progress: bool,
) -> None:
    """Render all files, as many at once as the GPU holds; threads write them beside the next.

    Raises DataError where others leave it too little memory.
    """
    size = profile.pixels
    todo, bar = _left_to_do(files, out, images_at_once(size, "cuda"), progress)
    chunks = (render(chunk, size, seed, profile.difficulty, "cuda") for chunk in todo)
    images = (image for chunk in chunks for image in chunk)
    try:
        with bar:
            for _ in run_ahead(write_rendered, images, WRITERS * count_cores(), AHEAD):
                bar.update()
    except torch.OutOfMemoryError as error:
        raise DataError(
            f"{out}: the GPU has too little memory left; end what else runs on it, or go on with "
            "facekit data --device cpu"
        ) from error
    finally:
        torch.cuda.empty_cache()  # for others on this GPU


def _left_to_do(
    files: Iterable[tuple[str, ImageSource]], out: Path, many: int, progress: bool
) -> tuple[list[Chunk], tqdm]:
    """The chunks of `many` files that are not whole yet, and a bar that counts what is."""
    named = [(str(out / path), source) for path, source in files]
    chunks = [named[i : i + many] for i in range(0, len(named), many)]
    there = [Path(path) for path, _ in named if os.path.exists(path)]
    broken = find_unreadable(there, progress)
    whole = {str(path) for place, path in enumerate(there) if place not in broken}
    todo = [chunk for chunk in chunks if not all(path in whole for path, _ in chunk)]
    done = len(named) - sum(map(len, todo))
    bar = tqdm(total=len(named), initial=done, unit="image", disable=not progress)
    return todo, bar


def _most_processes() -> int:
    """As many as there are cores for this process, and as much free memory for each as it takes."""
    return max(1, int(min(count_cores(), machine.free_memory() / MEMORY)))


def _end_with_parent() -> None:
    """In a process of the pool: end when the parent is killed, else it would wait for ever."""

    def wait() -> None:
        parent_process().join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


def _write_in_parallel(
    todo: Sequence[Chunk], write_chunk: Callable[[Chunk], None], processes: int, bar: tqdm
) -> None:
    # Spawned, not forked: the same on every system, and safe beside torch's threads.
    settings = {"mp_context": get_context("spawn"), "initializer": _end_with_parent}
    with ProcessPoolExecutor(processes, **settings) as pool:
        jobs = {pool.submit(write_chunk, chunk): len(chunk) for chunk in todo}
        try:
            for job in as_completed(jobs):
                job.result()
                bar.update(jobs[job])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
