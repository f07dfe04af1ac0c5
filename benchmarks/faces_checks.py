"""Are equal arguments equal images, and how alike are people? `faces.py same` and `variety`."""

from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from machine import Report, against, steps
from people import DIFFICULTY, numbers

from facekit import faces

BATCHES = (1, 7, 32)
THREADS = (1, 2)


def in_batches(function: Callable, count: int, batch: int) -> list:
    """The function's answers for people and shots cut into batches."""
    person = numbers(count)
    shot = numbers(count, 0)
    cuts = [slice(start, start + batch) for start in range(0, count, batch)]
    return [function(person[cut], shot[cut]) for cut in cuts]


def all_parameters(count: int, batch: int, seed: int) -> dict[str, torch.Tensor]:
    def drawn(person: torch.Tensor, shot: torch.Tensor) -> tuple:
        return faces.parameters(person, shot, seed=seed, difficulty=DIFFICULTY)

    pairs = in_batches(drawn, count, batch)
    joined = {}
    for side, name in enumerate(("who", "how")):
        for key in pairs[0][side]:
            joined[f"{name}.{key}"] = torch.cat([pair[side][key] for pair in pairs])
    return joined


def all_images(count: int, batch: int, seed: int, size: int) -> torch.Tensor:
    def rendered(person: torch.Tensor, shot: torch.Tensor) -> torch.Tensor:
        return faces.render(person, shot, size, seed=seed, difficulty=DIFFICULTY)

    return torch.cat(in_batches(rendered, count, batch)).int()


def measure_sameness(report: Report, count: int, size: int, seed: int) -> None:
    """Every batch size with every number of threads, against one batch and one thread."""
    before = torch.get_num_threads()
    rows = []
    guilty = set()
    torch.set_num_threads(1)
    numbers_wanted = all_parameters(count, count, seed)
    wanted = all_images(count, count, seed, size)
    for threads, batch in steps(list(product(THREADS, BATCHES)), "rendering"):
        torch.set_num_threads(threads)
        found = all_parameters(count, batch, seed)
        differing = [k for k, v in numbers_wanted.items() if not torch.equal(v, found[k])]
        away = (all_images(count, batch, seed, size) - wanted).abs()
        near = float((away <= 1).double().mean())
        guilty |= set(differing)
        line = {
            "threads": threads,
            "batch": batch,
            "parameters": f"{len(differing)} differ",
            "largest": int(away.max()),
            "off by more": int((away > 1).sum()),
            "within one": near,
        }
        rows.append(line | against(0.0 if differing else near, ">=", 0.999))
    torch.set_num_threads(before)
    report.table("sameness", rows)
    report.note(f"parameters that differ: {', '.join(sorted(guilty)) or 'none'}")


def standardised(traits: dict[str, torch.Tensor]) -> tuple[np.ndarray, int]:
    """People as rows: every trait with deviation one, kinds as one column each; and the traits.

    A colour is three columns. The columns of a kind (whole numbers) together vary by one, too.
    """
    columns = []
    used = 0
    for value in traits.values():
        if value.dtype in (torch.int64, torch.int32, torch.uint8):
            kinds = np.eye(int(value.max()) + 1)[value.numpy()]
            columns.append(kinds / np.sqrt(max(kinds.var(0).sum(), 1e-12)))
        else:
            numbers_ = value.double().numpy().reshape(len(value), -1)
            columns.append(numbers_ / np.maximum(numbers_.std(0), 1e-12))
        spread = columns[-1].std(0) > 1e-6
        columns[-1] = columns[-1][:, spread]
        used += bool(spread.any())
    return np.concatenate(columns, 1), used


def nearest_distances(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row: the Euclidean distance to its nearest neighbour, and which that is."""
    length = (rows**2).sum(1)
    distance = []
    neighbour = []
    for start in steps(range(0, len(rows), 500), "comparing"):
        part = rows[start : start + 500]
        squares = length[None] + length[start : start + 500, None] - 2 * part @ rows.T
        squares[np.arange(len(part)), start + np.arange(len(part))] = np.inf
        neighbour.append(squares.argmin(1))
        distance.append(np.sqrt(squares.min(1).clip(0)))
    return np.concatenate(distance), np.concatenate(neighbour)


def measure_variety(report: Report, people: int, seed: int) -> None:
    person = numbers(people)
    traits, _ = faces.parameters(person, person * 0, seed=seed, difficulty=DIFFICULTY)
    rows, used = standardised(traits)
    distance, neighbour = nearest_distances(rows)
    order = np.random.default_rng(0).permutation(people)
    anybody = np.sqrt(((rows - rows[order]) ** 2).sum(1))[order != np.arange(people)]
    closest = int(distance.argmin())
    figures = {
        "people": people, "traits": used, "columns": rows.shape[1],
        "nearest: least": float(distance.min()),
        "1st percentile": float(np.percentile(distance, 1)),
        "median": float(np.median(distance)),
        "anybody: median": float(np.median(anybody)),
    }  # fmt: skip
    report.table("distance to the most alike", [figures])
    pair = (int(person[closest]), int(person[neighbour[closest]]))
    report.note(f"the two most alike: {pair[0]} and {pair[1]}, seed {seed}")
