"""What each head and loss is worth on photographs, beside cross-entropy alone.

    python benchmarks/losses.py FOLDER WORK [--seeds 3] [--set key=value ...] [--only NAME ...]

FOLDER is a course tree with answers, and with pairs/pairs.csv (a, b, same) for the AUC. Its
pictures are copied to WORK at 72 pixels first, so that decoding them takes no time from training;
finished runs in WORK are not repeated. Every row has the same network, batches, budget and seeds.
"""

import shutil
import time
from pathlib import Path
from typing import Annotated

import machine
import pandas as pd
import torch
import typer
from PIL import Image
from real_faces import named_right, pair_scores
from tqdm import tqdm

from facekit import training
from facekit.data.images import read_rgb
from facekit.data.layout import CourseData
from facekit.evaluation import embed
from facekit.training import recipe as recipes
from facekit.training.recipe import Recipe

SIDE = 72  # pixels of the copies; training crops from them
RECIPE = Recipe(
    name="losses",
    network={"base": "tiny", "embedding": 128},
    image_size=48,
    epochs=30,
    batch_size=64,
    lr=2e-3,
    warmup_epochs=3.0,
)
PAIRS = "images_per_class=4"
ROWS = {
    "cross-entropy": [],
    "+ center": ["auxiliary_loss=center", "auxiliary_weight=0.003"],
    "L-Softmax": ["head=lsoftmax"],
    "ArcFace": ["head=arcface", "label_smoothing=0"],
    "CosFace": ["head=cosface", "label_smoothing=0"],
    "L-GM": ["head=lgm", "label_smoothing=0"],
    "cross-entropy, 16 x 4": [PAIRS],
    "+ triplet, 16 x 4": ["auxiliary_loss=triplet", PAIRS],
    "+ contrastive, 16 x 4": ["auxiliary_loss=contrastive", PAIRS],
}


def shrink(folder: Path, out: Path) -> CourseData:
    """A copy of the tree with small pictures."""
    if not out.is_dir():
        half = out.with_name(out.name + ".part")
        shutil.rmtree(half, ignore_errors=True)
        everything = [path for path in folder.rglob("*") if path.is_file()]
        for path in tqdm(everything, "copying"):
            place = half / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".jpg":
                small = read_rgb(path).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
                small.save(place, quality=95)
            else:
                shutil.copy(path, place)
        half.rename(out)
    return CourseData(out)


def measure(data: CourseData, recipe: Recipe, out: Path) -> dict[str, float]:
    """Test accuracy and pair AUC of a trained run, and the minutes that it took."""
    began = time.process_time()
    training.fit(recipe, data, out, device="cpu", progress=False)
    minutes = (time.process_time() - began) / 60
    run = embed.load_run(out)
    right = named_right(data, embed.classify(run, data.test.paths))
    auc = pair_scores(data, lambda paths: embed.embed(run, paths)).get("pairs AUC", float("nan"))
    return {"accuracy": right, "AUC": auc, "minutes": minutes}


def main(
    folder: Path,
    work: Path,
    seeds: int = 3,
    changes: Annotated[list[str], typer.Option("--set")] = [],  # noqa: B006
    only: Annotated[list[str], typer.Option()] = [],  # noqa: B006
) -> None:
    torch.set_num_threads(1)
    data = shrink(folder, work / "pictures")
    table = work / "losses.csv"
    done = pd.read_csv(table) if table.is_file() else pd.DataFrame(columns=["row", "seed"])
    for seed in range(seeds):
        for row in only or ROWS:
            if ((done["row"] == row) & (done["seed"] == seed)).any():
                continue
            recipe = recipes.load(RECIPE, [*changes, *ROWS[row], f"seed={seed}"])
            scores = measure(data, recipe, work / f"{row}-{seed}")
            done = pd.concat([done, pd.DataFrame([{"row": row, "seed": seed, **scores}])])
            done.to_csv(table, index=False)
            print(f"{row}, seed {seed}: {scores}", flush=True)
    means = done.groupby("row", sort=False)[["accuracy", "AUC", "minutes"]]
    print(means.agg(["mean", "min", "max"]).round(4).to_string())


if __name__ == "__main__":
    with machine.one_line_for_errors():
        typer.run(main)
