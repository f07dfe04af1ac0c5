"""Work done ahead by background threads, in order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")
R = TypeVar("R")


def count_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_ahead(work: Callable[[T], R], items: Iterable[T], threads: int, ahead: int) -> Iterator[R]:
    """The results of `work` on each item, in order, with `ahead` items under way.

    An error in `work` is raised here, in its turn. However the loop over the results ends (all
    done, `break`, an error, Ctrl-C), items not begun are dropped and no thread is left.
    """
    items = iter(items)
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="facekit")
    try:
        for item in islice(items, ahead):
            waiting.append(pool.submit(work, item))
        while waiting:
            result = waiting.popleft().result()
            for item in islice(items, 1):
                waiting.append(pool.submit(work, item))
            yield result
            del result  # or it would be kept in memory until the next one is there
    finally:
        pool.shutdown(cancel_futures=True)


def on_all_cores(
    work: Callable[[T], R], items: Sequence[T], name: str, progress: bool = False
) -> Iterator[R]:
    """The results of `work` on each item, in order, with a bar."""
    threads = count_cores()
    results = run_ahead(work, items, threads, 4 * threads)
    yield from tqdm(results, name, len(items), disable=not (progress and items))
