"""Who is on photographs of one's own, if anybody we know: enrol, recognise, refuse.

Built in no notebook. Enrolled are the course's known people, or those of a folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from facekit.common.errors import DataError
from facekit.data.images import read_rgb
from facekit.data.layout import NO_MATCH, CourseData, class_names, image_files
from facekit.evaluation import identification
from facekit.evaluation.embed import TrainedRun, embed
from facekit.evaluation.rules import Evidence
from facekit.sources.align import crop_file
from facekit.submission import pipeline
from facekit.submission.pipeline import Decision, Verification

SHOWN = 3  # people beside an answer


class Answer(NamedTuple):
    """What is said of one photograph."""

    photograph: Path
    name: str  # n000000: nobody we know; "" where there is nobody to ask about
    nearest: list[tuple[str, float]]  # the most alike by the rule, with their similarity
    faces: int | None  # that were found, of which the largest is meant; None: nobody looked
    score: float = float("nan")  # of the first of these by the rule, which the threshold is for

    def __str__(self) -> str:
        if not self.name:
            return f"{self.photograph}: no face found"
        who = "nobody we know" if self.name == NO_MATCH else self.name
        ranks = ", ".join(f"{name} {score:.3f}" for name, score in self.nearest)
        largest = f"; the largest of {self.faces} faces" if (self.faces or 0) > 1 else ""
        return f"{self.photograph}: {who}  (most alike: {ranks}{largest})"


@dataclass(frozen=True)
class Recogniser:
    """Those who are enrolled, and how it is decided whether a face is one of them."""

    run: TrainedRun
    dev: Verification  # whose rule is used
    evidence: Evidence  # the gallery; its probes do not count
    people: list[str]
    decision: Decision
    align: bool  # whether faces are looked for in photographs

    def ask(self, photographs: Sequence[Path]) -> list[Answer]:
        """Who is on each photograph. Raises DataError for one that cannot be read."""
        images = [_read(self.run, path, self.align) for path in photographs]
        rows = [row for row, (pixels, _) in enumerate(images) if pixels is not None]
        answers = [Answer(path, "", [], 0) for path in photographs]
        if not rows:
            return answers
        probes = embed(self.run, torch.stack([images[row][0] for row in rows]))
        evidence = self.evidence.with_probes(probes)
        scores = self.dev.judge(evidence)
        names = identification.identify(scores, self.people, self.decision.threshold)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :SHOWN]
        for place, row in enumerate(rows):
            alike = evidence.similarity[place]
            nearest = [(self.people[i], float(alike[i])) for i in order[place]]
            best = float(scores[place].max())
            answers[row] = Answer(photographs[row], names[place], nearest, images[row][1], best)
        return answers

    def with_person(self, name: str, photograph: Path) -> "Recogniser":
        """The same with one image more of a person. Raises DataError as `enrol` does."""
        pixels = _enrolled(self.run, photograph, self.align)
        people = self.people if name in self.people else [*self.people, name]
        old = self.evidence.owner
        owner = np.arange(len(self.evidence.gallery)) if old is None else old
        vectors = np.vstack([self.evidence.gallery, embed(self.run, pixels[None])])
        owner = np.append(owner, people.index(name))
        return replace(
            self, people=people, evidence=replace(self.evidence, gallery=vectors, owner=owner)
        )


def enrol(
    run: TrainedRun,
    data: CourseData,
    gallery: Path | None = None,
    align: bool = False,
    threshold: float | None = None,
) -> Recogniser:
    """Enrol the known people of the run's course, or of `gallery`: a folder for each, PERSON/FILE.

    The rule and threshold are those kept with the run, else the best on the dev probes. `align`:
    find the face in each photograph (`sources.align`); else it is taken as it is. Raises DataError
    where nobody is enrolled, and for photographs of the gallery that cannot be read or, with
    `align`, have no face.
    """
    dev, decision = pipeline.decide(run, data, threshold=threshold)
    if gallery is None:
        return Recogniser(run, dev, dev.evidence, dev.identities, decision, align)
    names = class_names(gallery) if gallery.is_dir() else []
    found = {name: image_files(gallery / name) for name in names}
    people = [name for name, files in found.items() if files]
    if not people or len(people) < len(found):
        empty = next((name for name in found if name not in people), "")
        raise DataError(
            f"{gallery / empty}: no image to enrol; a gallery has a folder for each person, with "
            "one image or more"
        )
    owner = [place for place, name in enumerate(people) for _ in found[name]]
    images = [_enrolled(run, path, align) for name in people for path in found[name]]
    vectors = embed(run, torch.stack(images))
    evidence = replace(dev.evidence, gallery=vectors, owner=np.array(owner))
    return Recogniser(run, dev, evidence, people, decision, align)


def _enrolled(run: TrainedRun, path: Path, align: bool) -> torch.Tensor:
    pixels, _ = _read(run, path, align)
    if pixels is None:
        raise DataError(f"{path}: no face found to enrol; replace it, or leave out --align")
    return pixels


def _read(run: TrainedRun, path: Path, align: bool) -> tuple[torch.Tensor | None, int | None]:
    """An image as the network wants it, uint8 (3, H, W); None where no face is found. How many."""
    faces = None
    if align:
        pixels, faces = crop_file(path, run.preprocess.size)
        if pixels is None:
            return None, 0
        image = Image.fromarray(pixels)
    else:
        image = read_rgb(path)
    return run.preprocess.resize()(image), faces
