"""Measures the rendered faces against their bars, on people who are in no course.

    python benchmarks/faces.py judge [--photographs FOLDER]    do detectors see faces?
    python benchmarks/faces.py learn [--people 400]            how hard are they to learn?
    python benchmarks/faces.py mask                            is there a shortcut beside the head?
    python benchmarks/faces.py speed                           images a second, memory, stages
    python benchmarks/faces.py model                           what bounds a GPU's speed, counted
    python benchmarks/faces.py same                            same arguments, same image?
    python benchmarks/faces.py variety                         how near are the two most alike?

Each prints tables and writes the same as JSON, with arguments and versions, into
results/faces_<command>.json or `--out FILE`. `--threads` goes before the command. `judge` needs
`pip install dlib-bin` and `pip install --no-deps facenet-pytorch`.
"""

from pathlib import Path
from typing import Annotated

import machine
import torch
import typer
from machine import Report

app = typer.Typer(add_completion=False, help=__doc__.splitlines()[0])
Out = Annotated[Path | None, typer.Option(help="Write the figures as JSON.")]
Work = Annotated[Path, typer.Option(help="Folder for courses and runs; finished ones are reused.")]


@app.callback()
def prepare(threads: int = 1) -> None:
    torch.set_num_threads(threads)


@app.command()
def judge(
    shots: int = 1000,
    seed: Annotated[list[int], typer.Option()] = [11, 12],  # noqa: B006
    size: int = 224,
    photographs: Annotated[Path | None, typer.Option(help="Folder of photographs.")] = None,
    photos: Annotated[int, typer.Option(help="Use at most so many of them.")] = 300,
    out: Out = None,
) -> None:
    """Outside detectors, by pose and slice, beside controls."""
    import faces_judge

    report = Report("faces_judge", out, shots=shots, seeds=seed, size=size, photos=photos)
    faces_judge.measure(report, shots, seed, size, photographs, photos)


@app.command()
def learn(
    people: int = 100,
    shots: Annotated[int, typer.Option(help="Training shots of each.")] = 30,
    seed: int = 1_000_001,
    size: int = 64,
    change: Annotated[list[str], typer.Option("--set", help="key=value of the recipe")] = [],  # noqa: B006
    work: Work = Path("runs/faces"),
    out: Out = None,
) -> None:
    """Nearest neighbour, linear probe and a network from scratch; then unseen people."""
    import faces_learn

    report = Report(
        "faces_learn", out, people=people, shots=shots, seed=seed, size=size, change=change
    )
    faces_learn.measure(report, people, shots, seed, size, change, work)


@app.command()
def mask(
    people: int = 100,
    seed: int = 21,
    size: int = 64,
    work: Work = Path("runs/faces"),
    out: Out = None,
) -> None:
    """Who is it, without the head? And from the drawn circumstances alone?"""
    import faces_mask

    report = Report("faces_mask", out, people=people, seed=seed, size=size)
    faces_mask.measure(report, people, seed, size, work)


@app.command()
def speed(
    size: Annotated[list[int], typer.Option()] = [48, 64, 96, 112, 224],  # noqa: B006
    rounds: int = 5,
    out: Out = None,
) -> None:
    """Images a second with JPEG, peak memory, and where the time goes."""
    import faces_speed

    report = Report("faces_speed", out, sizes=size, rounds=rounds)
    faces_speed.measure(report, size, rounds)


@app.command()
def model(
    size: Annotated[list[int], typer.Option()] = [112, 224],  # noqa: B006
    out: Out = None,
) -> None:
    """Operations and bytes of memory an image, and what they allow on two GPUs."""
    import faces_model

    report = Report("faces_model", out, sizes=size)
    faces_model.measure(report, size)


@app.command()
def same(count: int = 32, size: int = 64, seed: int = 31, out: Out = None) -> None:
    """Equal arguments, whatever the batch and the number of threads."""
    import faces_checks

    report = Report("faces_same", out, count=count, size=size, seed=seed)
    faces_checks.measure_sameness(report, count, size, seed)


@app.command()
def variety(people: int = 10_000, seed: int = 41, out: Out = None) -> None:
    """How far apart people are in standardised parameters."""
    import faces_checks

    report = Report("faces_variety", out, people=people, seed=seed)
    faces_checks.measure_variety(report, people, seed)


if __name__ == "__main__":
    with machine.one_line_for_errors():
        app()
