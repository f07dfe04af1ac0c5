"""What people who do not exist teach about real ones.

    python benchmarks/transfer.py FOLDER [--people 100] [--pixels 48] [--aligned] [--out FILE]
    python benchmarks/transfer.py FOLDER --changes    # 400 made people, one thing otherwise

FOLDER is a course tree of photographs as in real_faces.py; every network is judged by it. The
recipe learns from made people alone, from FOLDER's photographs alone, and from these after the most
made people; of each kind it sees about `--seen` images. Beside it: its network untrained, grey
pixels, and histograms of gradients. With `--aligned` all images, made and real, are first brought
to one frame by eyes, nose and mouth; in photographs MTCNN finds them. Pairs are judged by the
embeddings as they are; `evened`, so that images of one person of those who were learnt from differ
alike in all directions; and `whitened`: less the mean of FOLDER's training photographs and half
whitened by them, for which nobody's name is used.

Needs `pip install scikit-image`, and for `--aligned` the kit with its extra `align`.
Runs in the file of an earlier call, and what the folder `--work` holds, are not made again.
"""

import importlib.util
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import typer
from faces_learn import fingerprint
from machine import Report, Row, one_line_for_errors, progress
from people import FRESH
from PIL import Image
from real_faces import Embed, pair_scores, scores, untrained
from real_faces import pixels as grey_pixels

from facekit import faces, training
from facekit.common.errors import DataError
from facekit.data.images import read_rgb
from facekit.data.layout import CourseData, get_term, is_image
from facekit.evaluation import embed as predict
from facekit.faces.rendering import render_files
from facekit.faces.shot import PASSPORT
from facekit.models import weights
from facekit.models.heads import class_means
from facekit.sources.align import similarity
from facekit.sources.detector import find_faces
from facekit.training import recipe as recipes
from facekit.training.callbacks import Callback
from facekit.training.run import Run

RENDERED = 112  # pixels; the recipe makes them smaller
PEOPLE = 400  # whose photographs are changed
DEV = 2  # images of each made person by which training judges its epochs
AT_ONCE = 32
SEED = 77  # of the made people: a world of their own
TERM = get_term("F23")
LEAST = 1e-3  # variance of a direction, as a share of the largest
DONE = "done"  # a file in a finished folder
# Eyes, nose and corners of the mouth, from the left of the image, and where they belong when
# aligned: x and y as shares of the side.
POINTS = [faces.LANDMARKS.index(f"{side}_eye") for side in ("right", "left")]
POINTS += [faces.LANDMARKS.index(name) for name in ("nose_tip", "mouth_right", "mouth_left")]
FRAME = np.array([[0.34, 0.46], [0.66, 0.46], [0.5, 0.64], [0.37, 0.82], [0.63, 0.82]])
GROUPS = {  # circumstances, to be those of a passport's portrait
    "pose": "yaw pitch roll body_yaw body_roll",
    "framing": "zoom shift_x shift_y distance",
    "expression": "smile mouth_open jaw_open pucker brow_raise frown lid gaze_x gaze_y",
    "light": "key sky key_x key_y key_z fill rim_light key_colour sky_colour ground_colour",
    "the film's colours": "cast exposure contrast saturation mono",
    "blur and grain": "blur shake grain haze",
    "hats, sunglasses, objects": "hat sunglasses object",
}
SETTINGS = ("grey=1", "grey=0.3", "jitter=0.4", "blur=0.3", "crop_scale=0.5", "erasing=0.5")


@dataclass(frozen=True)
class Made:
    """Made people, and how their photographs are taken."""

    people: int
    shots: int
    difficulty: str = "homework"
    calm: str = ""  # the one of GROUPS that never changes
    own_hair: bool = False  # on every photograph the hair that is usual


@dataclass(frozen=True)
class Lesson:
    """What a network learns from, one after another; None: the photographs of FOLDER's classes."""

    name: str
    teachers: tuple[Made | None, ...]
    pixels: int
    seed: int = 0
    setting: str = ""  # a change to the recipe's augmentation

    def key(self) -> Row:
        people = max(made.people if made else 0 for made in self.teachers)
        row = {"lesson": self.name, "made people": people, "pixels": self.pixels}
        return row | {"seed": self.seed}


def curve(people: Sequence[int], shots: int, sizes: Sequence[int], seed: int) -> Iterator[Lesson]:
    """Made people alone, photographs alone, and both."""
    for size in sizes:
        for count in sorted(people):
            yield Lesson("made people", (Made(count, shots),), size, seed)
        yield Lesson("photographs", (None,), size, seed)
        both = (Made(max(people), shots), None)
        yield Lesson("made people, then photographs", both, size, seed)


def one_change(base: Made, size: int, seed: int) -> Iterator[Lesson]:
    """The same people with one thing otherwise."""
    others = {"as they are": base}
    others |= {f"no changes of {group}": replace(base, calm=group) for group in GROUPS}
    others["always one's own hair"] = replace(base, own_hair=True)
    others |= {level: replace(base, difficulty=level) for level in ("easy", "hard")}
    for name, made in others.items():
        yield Lesson(name, (made,), size, seed)
    for setting in SETTINGS:
        yield Lesson(setting, (base,), size, seed, f"augment.{setting}")


# --- images


def write_made(made: Made, root: Path, aligned: bool) -> None:
    """Render people into a course's folders for training and dev."""
    (root / TERM.verification).mkdir(parents=True)
    many = made.shots + DEV
    everything = [(person, shot) for person in range(made.people) for shot in range(many)]
    for start in range(0, len(everything), AT_ONCE):
        some = everything[start : start + AT_ONCE]
        person, shot = torch.tensor(some).unbind(1)
        images, points, quality = photograph(made, FRESH + person, shot)
        for number, (who, which) in enumerate(some):
            image = align(images[number], points[number]) if aligned else images[number]
            part = "train" if which < made.shots else "dev"
            file = root / TERM.classification / part / f"n{who:06}" / f"{which:03}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file, quality=int(quality[number]))


def photograph(
    made: Made, person: torch.Tensor, shot: torch.Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (N, size, size, 3), where POINTS are (N, 5, 2), and qualities of JPEG (N,)."""
    keys: dict[str, Any] = {"seed": SEED, "difficulty": made.difficulty}
    given: dict[str, Any] = {}
    if made.calm:
        given |= {name: PASSPORT[name] for name in GROUPS[made.calm].split()}
    if made.own_hair:
        given["style_now"] = faces.parameters(person, shot, **keys)[0]["hair_style"]
    images, quality = render_files(person, shot, RENDERED, changes=given, **keys)
    points = faces.landmarks(person, shot, RENDERED, changes=given, **keys)[:, POINTS]
    return images.permute(0, 2, 3, 1).numpy(), points.numpy(), quality.numpy()


def align(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Turn, scale and move an image (size, size, 3) so that its points (5, 2) lie as in FRAME."""
    size = len(image)
    moved = similarity(points, FRAME * size)
    return cv2.warpAffine(image, moved, (size, size), borderMode=cv2.BORDER_REPLICATE)


def write_aligned(folder: Path, out: Path) -> None:
    """The same tree, every photograph aligned; where no face is found, it stays as it is."""
    missed = 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        copy = out / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not is_image(path):
            shutil.copyfile(path, copy)
            continue
        image = np.asarray(read_rgb(path))
        found = find_faces(image)
        if found:
            image = align(image, found[0].points)
        missed += not found
        Image.fromarray(image).save(copy, quality=95)
    progress(f"no face was found in {missed} photographs")


def gradients(paths: Sequence[Path]) -> np.ndarray:
    """Histograms of the directions of edges in 8 x 8 pixels of 64 x 64: (N, 1764)."""
    from skimage.feature import hog

    small = (read_rgb(path).convert("L").resize((64, 64)) for path in paths)
    return np.stack([hog(np.asarray(image)) for image in small])


def rescaled(embed: Embed, centre: np.ndarray, spread: np.ndarray, power: float) -> Embed:
    """`embed` less `centre`, scaled in the directions of `spread` (N, D) by variance ** -power."""
    variances, directions = np.linalg.eigh(np.cov(spread.T))
    scale = directions / np.maximum(variances, LEAST * variances.max()) ** power
    return lambda paths: (embed(paths) - centre) @ scale


def whitened(embed: Embed, paths: Sequence[Path]) -> Embed:
    """`embed` less the mean of some images, whose names are not asked for, and half whitened.

    Directions in which these images differ much count less, by the square root of their deviation:
    a network taught by made people has some in which photographs differ for no good reason.
    """
    seen = embed(paths)
    return rescaled(embed, seen.mean(0), seen - seen.mean(0), 0.25)


def evened(embed: Embed, data: CourseData) -> Embed:
    """`embed`, scaled so that images of one person of `data` differ alike in all directions.

    Within-class covariance normalisation (Hatch, Kajarekar and Stolcke 2006): a direction in which
    light or pose move a person far counts less.
    """
    seen, labels = embed(data.train.paths), torch.tensor(data.train.labels)
    means = class_means(torch.from_numpy(seen), labels, len(data.classes)).numpy()
    return rescaled(embed, seen.mean(0), seen - means[labels], 0.5)


# --- runs


class StartFrom(Callback):
    """The first epoch begins with another run's weights; the head, of other people, is new."""

    def __init__(self, run: Path) -> None:
        self.weights = weights.load_run(run / "best.pt")["net"]

    def before_epoch(self, run: Run) -> None:
        if run.progress.step == 0:
            kept = {k: v for k, v in self.weights.items() if not k.startswith("head.")}
            run.net.load_state_dict(kept, strict=False)


def called(made: Made | None) -> str:
    """The part of a folder's name that says who teaches."""
    parts = vars(made).values() if made else ["photographs"]
    return "-".join(str(value).replace(" ", "_") for value in parts)


class School:
    """Makes images, teaches networks by them, and judges these by photographs.

    What is in the folder `work` already is not made again.
    """

    def __init__(self, judge: CourseData, work: Path, recipe: str, seen: int, aligned: bool):
        self.work, self.recipe, self.seen, self.aligned = work, recipe.split(), seen, aligned
        self.kind = f"{fingerprint(SEED)}{'-aligned' if aligned else ''}"  # of the renderer's day
        self.judge = judge
        if aligned:
            self.judge = self.once(f"aligned-{judge.root.name}", partial(write_aligned, judge.root))

    def once(self, name: str, write: Callable[[Path], None]) -> CourseData:
        """The course in a folder of this name, written unless it is there."""
        root = self.work / name
        if not (root / DONE).is_file():
            progress(name)
            shutil.rmtree(root, ignore_errors=True)
            write(root)
            (root / DONE).touch()
        return CourseData(root)

    def images(self, made: Made | None) -> CourseData:
        if made is None:
            return self.judge
        return self.once(
            f"{self.kind}-{called(made)}", partial(write_made, made, aligned=self.aligned)
        )

    def teach(self, lesson: Lesson) -> Row:
        """Let a network see about `seen` images of each teacher's, and score it.

        `seconds` are those of the last training, which may begin with a run that is there already.
        """
        name, *settings = self.recipe
        settings += [f"image_size={lesson.pixels}", f"seed={lesson.seed}", "patience=0"]
        settings += [lesson.setting] if lesson.setting else []
        parts = ["run", self.kind, name, self.seen, lesson.pixels, lesson.seed, lesson.setting]
        before: list[Callback] = []
        row: Row = {"images": 0}
        for made in lesson.teachers:
            data = self.images(made)
            parts.append(called(made))
            run = self.work / "-".join(map(str, parts))
            epochs = max(2, round(self.seen / len(data.train)))
            length = [f"epochs={epochs}", f"warmup_epochs={epochs / 20}"]
            began = time.perf_counter()
            training.fit(
                recipes.load(name, settings + length), data, run, progress=False, callbacks=before
            )
            row |= {"images": row["images"] + len(data.train), "epochs": epochs}
            row["seconds"] = time.perf_counter() - began
            before = [StartFrom(run)]
        embed = partial(predict.embed, predict.load_run(run))
        row |= scores(self.judge, embed)
        return row | self.changed_scores(embed, data)

    def changed_scores(self, embed: Embed, data: CourseData) -> Row:
        """Of the pairs by embeddings that are changed afterwards; `data`: learnt from last."""
        changed = {
            "evened": evened(embed, data),
            "whitened": whitened(embed, self.judge.train.paths),
        }
        return {
            f"{title}, {how}": value
            for how, other in changed.items()
            for title, value in pair_scores(self.judge, other).items()
        }

    def without(self, size: int) -> Row:
        """The untrained network, that has seen the photographs of FOLDER's classes once."""
        return untrained(" ".join([*self.recipe, f"image_size={size}"]), self.judge, self.judge)


def score(report: Report, key: Row, made: Callable[[], Row]) -> None:
    """A row of the table `runs`, unless it is there."""
    rows = report.rows("runs")
    if not any(key.items() <= row.items() for row in rows):
        progress(", ".join(map(str, key.values())))
        rows.append(key | made())
        report.table("runs", rows)


def main(
    folder: Path,
    people: Annotated[list[int], typer.Option(help="How many are made.")] = [100, 400, 1600],  # noqa: B006
    shots: Annotated[int, typer.Option(help="Training images of each.")] = 8,
    pixels: Annotated[list[int], typer.Option(help="The recipe's image_size.")] = [48],  # noqa: B006
    seen: Annotated[int, typer.Option(help="Images seen in training, again and again.")] = 100_000,
    changes: Annotated[bool, typer.Option("--changes", help="One thing otherwise.")] = False,
    aligned: bool = False,
    recipe: str = "laptop",
    seed: int = 0,
    threads: int = torch.get_num_threads(),
    work: Annotated[Path, typer.Option(help="Images and runs; kept.")] = Path("runs/transfer"),
    out: Path | None = None,
) -> None:
    """Scores on photographs of networks that learnt from made people, photographs, or both."""
    torch.set_num_threads(threads)
    settings = {"folder": folder.name, "recipe": recipe, "shots": shots, "seen": seen}
    with one_line_for_errors():
        if importlib.util.find_spec("skimage") is None:
            raise DataError("histograms of gradients need pip install scikit-image")
        judge = CourseData(folder)
        report = Report("transfer", out, **settings, threads=threads)
        report.go_on()
        school = School(judge, work, recipe, seen, aligned)
        frame = {"aligned": "yes" if aligned else "no"}
        score(report, frame | {"lesson": "none: grey pixels"}, partial(grey_pixels, school.judge))
        edges = partial(scores, school.judge, gradients)
        score(report, frame | {"lesson": "none: gradients"}, edges)
        for size in pixels:
            key = frame | {"lesson": "none: untrained", "pixels": size}
            score(report, key, partial(school.without, size))
        if changes:
            lessons = one_change(Made(PEOPLE, shots), pixels[0], seed)
        else:
            lessons = curve(people, shots, pixels, seed)
        for lesson in lessons:
            score(report, frame | lesson.key(), partial(school.teach, lesson))


if __name__ == "__main__":
    typer.run(main)
