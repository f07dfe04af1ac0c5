"""The threshold, in the reader's hand: a slider, and what it does to the probes as it moves.

What is shown is a pure function, `view`, of the scores and the threshold; the widget lays it out.
Nothing is drawn while the slider moves: the curves are one image for each rule and the
threshold a line over it, so that a move takes a few milliseconds. Where no kernel runs, as in a
lesson that is only read, `without_kernel` is shown instead. Built in notebook 06.
"""

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import ipywidgets
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from facekit.common.errors import DataError
from facekit.course import score_plots
from facekit.course.plots import BLUE, GREEN, ORANGE, RED, legend_beside
from facekit.data.images import read_rgb
from facekit.evaluation import identification

STEPS = 200  # of the slider, at the least
EXAMPLES = 4  # faces of each kind of error
SIDE = 64  # pixels of a face
COLOURS = 32  # of the image of the curves
LEFT, WIDTH = 0.07, 0.63  # of the image of the curves, where its x-axis runs


class Ink(NamedTuple):
    """How a kind of probe is shown."""

    words: str
    colour: str
    right: bool  # whether it was answered right


INK = {
    "named_right": Ink("known, named right", GREEN, True),
    "named_wrong": Ink("known, named wrong", ORANGE, False),
    "refused": Ink("known, refused", BLUE, False),
    "stranger_refused": Ink("stranger, refused", GREEN, True),
    "stranger_named": Ink("stranger, named", RED, False),
}
PAPER = (
    "background:#fff;color:#111;color-scheme:light;"  # on dark pages, too
    "padding:4px 8px;line-height:1.4;max-width:884px"
)
CELL = "padding:1px 10px;text-align:left"
TABLE = "border-collapse:collapse;font:inherit;color:#111;margin:0"
WORDS = (
    "threshold {threshold}: accuracy {accuracy} = {known} known x DIR {dir} "
    "+ {strangers} unknown x (1 - FPIR {fpir})"
)
SCRIPT = Path(__file__).with_suffix(".js")


class Choice(NamedTuple):
    """What the reader decided, for the submission."""

    rule: str
    threshold: float


class Counts(NamedTuple):
    """Of the probes, how many were answered how; the shares are NaN without such a probe."""

    named_right: int
    named_wrong: int
    refused: int
    stranger_refused: int
    stranger_named: int

    @property
    def known(self) -> int:
        return self.named_right + self.named_wrong + self.refused

    @property
    def strangers(self) -> int:
        return self.stranger_refused + self.stranger_named

    @property
    def dir(self) -> float:
        return _share(self.named_right, self.known)

    @property
    def fpir(self) -> float:
        return _share(self.stranger_named, self.strangers)

    @property
    def accuracy(self) -> float:
        return _share(self.named_right + self.stranger_refused, sum(self))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


class View(NamedTuple):
    """What the panel shows at a threshold; words, table and faces are HTML."""

    counts: Counts
    examples: dict[str, list[int]]  # probes of each kind of error, nearest to the threshold first
    line: float  # where the threshold lies in the slider's range, 0 ... 1
    words: str
    table: str
    faces: str  # empty without images


class Decisions:
    """What the panel needs of a rule's scores (P, G); the slider goes from `low` to `high`."""

    def __init__(self, name: str, scores: np.ndarray, truth: np.ndarray) -> None:
        self.name = name
        self.scores = np.asarray(scores)
        self.truth = np.asarray(truth)
        self.best, self.right, self.mated = identification.outcomes(self.scores, self.truth)
        self.answer = self.scores.argmax(1)
        self.start = identification.choose_threshold(self.scores, self.truth).value
        low = min(float(self.best.min()), self.start)
        high = max(float(self.best.max()), self.start)
        room = max(0.02 * (high - low), 1e-6 * max(1.0, abs(low), abs(high)))
        self.step = (high - low + 2 * room) / STEPS
        # A slider that answers as it moves puts its value on its own steps, which begin at its
        # lower end: off them, it would not begin at `start` on the page.
        self.low = float(self.start - self.step * np.ceil((self.start - low + room) / self.step))
        self.high = float(self.start + self.step * np.ceil((high + room - self.start) / self.step))

    def kinds(self, threshold: float) -> dict[str, np.ndarray]:
        """Which probes are of which kind, in the order of Counts."""
        if np.isnan(threshold):
            raise DataError("a threshold is NaN; it must be a number")
        accepted = self.best >= threshold
        return {
            "named_right": accepted & self.right,
            "named_wrong": accepted & self.mated & ~self.right,
            "refused": ~accepted & self.mated,
            "stranger_refused": ~accepted & ~self.mated,
            "stranger_named": accepted & ~self.mated,
        }

    def counts(self, threshold: float) -> Counts:
        return Counts(*(int(rows.sum()) for rows in self.kinds(threshold).values()))

    @cached_property
    def image(self) -> str:
        """The scores and the curves, drawn once: a PNG in base64."""
        fig = Figure(figsize=(9, 4), dpi=200, facecolor="white")
        above = fig.add_axes((LEFT, 0.56, WIDTH, 0.36))
        below = fig.add_axes((LEFT, 0.13, WIDTH, 0.36), sharex=above)
        score_plots.draw_outcomes(
            above, self.scores, self.truth, np.linspace(self.low, self.high, 41)
        )
        above.set(title=f"Best score of each probe (rule: {self.name})")
        above.tick_params(labelbottom=False)
        score_plots.draw_rates(below, self.scores, self.truth, self.low, self.high)
        label = f"best here: {self.start:.3f}"
        below.axvline(self.start, color="grey", linestyle=":", label=label)
        below.set(xlabel="threshold", xlim=(self.low, self.high), ylim=(-0.03, 1.03))
        for place in (above, below):
            legend_beside(place)
        return _png(fig)


class State(NamedTuple):
    """All that `view` looks at."""

    rules: dict[str, Decisions]
    probes: Sequence[Path] | None
    gallery: Sequence[Path] | None


def prepare(
    scores: np.ndarray | Mapping[str, np.ndarray],
    truth: np.ndarray,
    probes: Sequence[Path] | None = None,
    gallery: Sequence[Path] | None = None,
) -> State:
    """What `view` needs, worked out once. The arguments are those of `threshold`."""
    scores = scores if isinstance(scores, Mapping) else {"threshold": scores}
    rules = {name: Decisions(name, matrix, truth) for name, matrix in scores.items()}
    for name, rule in rules.items():
        if probes is not None and (len(probes), len(gallery)) != rule.scores.shape:
            raise DataError(
                f"{name}: scores {rule.scores.shape} need an image for each row and column, "
                f"not {len(probes)} and {len(gallery)}"
            )
    return State(rules, probes, gallery)


def view(state: State, rule: str, threshold: float) -> View:
    """What the panel shows of a rule at any threshold but NaN; it looks at nothing else."""
    decisions = state.rules[rule]
    counts = decisions.counts(threshold)
    examples = {
        kind: _nearest(decisions, rows, threshold)
        for kind, rows in decisions.kinds(threshold).items()
        if not INK[kind].right
    }
    line = (threshold - decisions.low) / (decisions.high - decisions.low)
    return View(
        counts,
        examples,
        line=float(np.clip(line, 0, 1)),
        words=f'<div style="{PAPER}" aria-live="polite">{escape(_words(counts, threshold))}</div>',
        table=_table(counts),
        faces="" if state.probes is None else _faces(state, decisions, counts, examples),
    )


def _nearest(decisions: Decisions, rows: np.ndarray, threshold: float) -> list[int]:
    """The probes of `rows` whose best scores are closest to the threshold."""
    rows = np.flatnonzero(rows)
    far = np.abs(decisions.best[rows] - np.clip(threshold, decisions.low, decisions.high))
    return rows[np.argsort(far, kind="stable")[:EXAMPLES]].tolist()


def describe_threshold(similarity: np.ndarray, truth: np.ndarray, threshold: float) -> str:
    """In words, what a threshold does to these probes."""
    return _words(Decisions("threshold", similarity, truth).counts(threshold), threshold)


def _words(counts: Counts, threshold: float) -> str:
    return WORDS.format(
        threshold=f"{threshold:.3f}",
        accuracy=f"{counts.accuracy:.1%}",
        known=f"{counts.known / sum(counts):.0%}",
        dir=f"{counts.dir:.1%}",
        strangers=f"{counts.strangers / sum(counts):.0%}",
        fpir=f"{counts.fpir:.1%}",
    )


def _table(counts: Counts) -> str:
    rows = []
    for kind, count in counts._asdict().items():
        words, colour, right = INK[kind]
        group, name = counts.known, "known"
        if kind.startswith("stranger"):
            group, name = counts.strangers, "strangers"
        share = f"{count / group:.1%} of {group} {name}" if group else f"no {name}"
        rows.append(
            f'<tr data-kind="{kind}"><td style="{CELL};border-left:8px solid {colour}">{words}</td>'
            f'<td style="{CELL}">{"&#10003; right" if right else "&#10007; error"}</td>'
            f'<td style="{CELL};text-align:right">{count}</td>'
            f'<td style="{CELL};text-align:right">{share}</td></tr>'
        )
    head = "".join(f'<th style="{CELL}">{text}</th>' for text in ("probes", "", "count", "share"))
    return (
        f'<div style="{PAPER}"><table style="{TABLE}"><tr>{head}</tr>{"".join(rows)}</table></div>'
    )


def _faces(
    state: State, decisions: Decisions, counts: Counts, examples: Mapping[str, list[int]]
) -> str:
    """A row of pairs for each kind of error: the probe, and whom it is most like."""
    rows = []
    for kind, probes in examples.items():
        count = getattr(counts, kind)
        of = f"{len(probes)} of {count}, nearest to the threshold" if count else "none"
        cells = "".join(_pair(state, decisions, probe, kind == "refused") for probe in probes)
        rows.append(
            f'<div style="border-left:8px solid {INK[kind].colour};padding-left:8px;margin:4px 0">'
            f"<b>{INK[kind].words}</b> ({of})<br>{cells}</div>"
        )
    note = "Each pair: the probe, then the gallery's face that is most like it, and the score."
    return f'<div style="{PAPER}">{note}{"".join(rows)}</div>'


def _pair(state: State, decisions: Decisions, probe: int, refused: bool) -> str:
    answer, hint = decisions.answer[probe], ""
    if refused:
        hint = ", would be right" if decisions.right[probe] else ", would be wrong"
    return (
        '<figure style="display:inline-block;margin:2px 12px 2px 0;text-align:center">'
        f"{_image(state.probes[probe], f'probe {probe}')}"
        f"{_image(state.gallery[answer], f'gallery face {answer}')}"
        f"<figcaption>{decisions.best[probe]:.3f}{hint}</figcaption></figure>"
    )


def _image(path: Path, alt: str) -> str:
    return (
        f'<img src="data:image/jpeg;base64,{thumbnail(path)}" alt="{alt}" '
        f'width="{SIDE}" height="{SIDE}" style="display:inline;margin:1px">'
    )


@lru_cache(maxsize=4096)  # about 10 MB
def thumbnail(path: Path) -> str:
    """The image's middle square, SIDE pixels wide: a JPEG in base64. DataError if unreadable."""
    content = BytesIO()
    ImageOps.fit(read_rgb(path), (SIDE, SIDE)).save(content, "JPEG", quality=80)
    return b64encode(content.getvalue()).decode()


def _png(fig: Figure) -> str:
    """In few colours, which lines and bars have: a fifth of the size."""
    drawn, content = BytesIO(), BytesIO()
    fig.savefig(drawn, format="png")
    flat = (
        Image.open(drawn, formats=["PNG"])
        .convert("RGB")
        .quantize(COLOURS, dither=Image.Dither.NONE)
    )
    flat.save(content, "PNG", optimize=True)
    return b64encode(content.getvalue()).decode()


class Panel(ipywidgets.VBox):
    """The panel of `threshold`; `choice` is what the reader decided, `children[0]` the slider."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.mark = f"facekit-{uuid4().hex[:12]}"
        self.slider = ipywidgets.FloatSlider(
            description="threshold", readout_format=".3f", layout={"width": "95%"}
        )
        self.selector = ipywidgets.Dropdown(options=list(state.rules), description="rule")
        if len(state.rules) == 1:
            self.selector.layout.display = "none"
        self.words = ipywidgets.HTML()
        self.table = ipywidgets.HTML()
        self.curves = ipywidgets.HTML()
        self.line = ipywidgets.HTML()
        self.faces = ipywidgets.HTML()
        self.problems = ipywidgets.Output()  # or a callback's error would be in no cell
        parts = [self.words, self.table, self.curves, self.line, self.faces, self.problems]
        super().__init__([self.slider, self.selector, *parts])
        self.add_class(self.mark)
        self._begin()
        self.slider.observe(self._moved, "value")
        self.selector.observe(self._switched, "value")

    @property
    def choice(self) -> Choice:
        """The rule and the threshold now."""
        return Choice(self.selector.value, self.slider.value)

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """What any widget shows, and for where no kernel runs a page of the same numbers."""
        return super()._repr_mimebundle_(**options) | {"text/html": without_kernel(self.state)}

    def _moved(self, change: Mapping[str, Any]) -> None:
        with self.problems:
            self._show()

    def _switched(self, change: Mapping[str, Any]) -> None:
        """Each rule has scores of its own: the slider begins anew where this one is best."""
        with self.problems:
            self._begin()

    def _begin(self) -> None:
        decisions = self.state.rules[self.choice.rule]
        # A page forces the old value into the new range and, live, would send that back.
        self.slider.continuous_update = False
        with self.slider.hold_sync():  # it sees all of this at once
            self.slider.max = max(decisions.high, self.slider.max)  # never turned round
            self.slider.min = decisions.low
            self.slider.max = decisions.high
            self.slider.step = decisions.step
            self.slider.value = decisions.start
        self.slider.continuous_update = True
        self.curves.value = _curves(decisions)
        self._show()

    def _show(self) -> None:
        seen = view(self.state, *self.choice)
        self.words.value = seen.words
        self.table.value = seen.table
        self.faces.value = seen.faces
        self.line.value = _line_at(f".{self.mark}", seen.line)
        self.problems.outputs = ()


def _line_at(panel: str, place: float) -> str:
    """A style that puts the line of a panel at a place of the slider's range, 0 ... 1."""
    return f"<style>{panel} .facekit-line {{left:{100 * (LEFT + WIDTH * place):.3f}%}}</style>"


def _curves(decisions: Decisions) -> str:
    """The image, and over it the line that a style moves."""
    alt = (
        f"Above, a histogram of the best scores by kind of probe; below, DIR, FPIR and accuracy "
        f"at every threshold of the rule {decisions.name}; an upright line is the threshold"
    )
    return (
        '<div style="position:relative;max-width:900px;background:#fff">'
        f'<img src="data:image/png;base64,{decisions.image}" alt="{escape(alt)}" '
        'style="display:block;width:100%;max-width:100%;margin:0">'
        '<div class="facekit-line" style="position:absolute;top:8%;bottom:13%;'
        'border-left:2px dashed #111;transform:translateX(-1px)"></div></div>'
    )


def without_kernel(state: State) -> str:
    """The panel as HTML that moves by a script of its own: no kernel, no library, no faces.

    Where no script runs either, it stands still at the first rule's best threshold.
    """
    rules = list(state.rules.values())
    numbers = {"left": LEFT, "width": WIDTH, "words": WORDS, "rules": list(map(_numbers, rules))}
    data = json.dumps(numbers, separators=(",", ":"))
    mark = f"facekit-{hashlib.sha256(data.encode()).hexdigest()[:12]}"
    seen = view(State(state.rules, None, None), rules[0].name, rules[0].start)
    options = "".join(f"<option>{escape(rule.name)}</option>" for rule in rules)
    alone = " hidden" if len(rules) == 1 else ""
    pictures = "".join(
        f'<div class="facekit-curves"{"" if rule is rules[0] else " hidden"}>{_curves(rule)}</div>'
        for rule in rules
    )
    return (
        f'<div id="{mark}"><div class="facekit-controls" style="{PAPER}" hidden>'
        '<label style="display:block">threshold <input type="range" style="width:80%"></label>'
        f"<label{alone}>rule <select>{options}</select></label></div>"
        f"{seen.words}{seen.table}{pictures}{_line_at(f'#{mark}', seen.line)}</div>"
        f"<script>{SCRIPT.read_text()}(document.getElementById({mark!r}), {data});</script>"
    )


def _numbers(decisions: Decisions) -> dict[str, Any]:
    """What the script needs of a rule."""
    letters = np.where(decisions.right, "r", np.where(decisions.mated, "w", "s"))
    return {
        "low": decisions.low,
        "step": decisions.step,
        "start": round((decisions.start - decisions.low) / decisions.step),
        "places": round((decisions.high - decisions.low) / decisions.step),
        "best": decisions.best.tolist(),
        "probes": "".join(letters),  # best identity right or wrong, or a stranger
    }


def threshold(
    scores: np.ndarray | Mapping[str, np.ndarray],
    truth: np.ndarray,
    probes: Sequence[Path] | None = None,
    gallery: Sequence[Path] | None = None,
) -> Panel:
    """A slider over the threshold, and what it does to the probes as it moves.

    `scores`: (P, G) of one rule, or of several by name, each with a range of its own; `truth` (P,)
    as in `identification`. It begins with the first rule, at the threshold with the best accuracy.
    `probes` and `gallery`: the images' paths, P and G of them, of which those next to the
    threshold are shown. The panel's `choice` is the rule and the threshold now. Raises DataError
    for scores, truths or images that do not fit.
    """
    return Panel(prepare(scores, truth, probes, gallery))
