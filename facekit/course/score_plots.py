"""Figures of scores: who is accepted, and at what price. Each function draws one.

`scores` (P, G) and `truth` (P,) are as in `facekit.evaluation.identification`. Colours are told
apart by colour-blind readers, and never alone: hatches, line styles and markers say the same.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import LogLocator, NullFormatter
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import auc

from facekit.common.errors import DataError
from facekit.course.plots import (
    BLUE,
    GREEN,
    MANY,
    ORANGE,
    PAGE,
    RED,
    as_it_is,
    figure,
    grid,
    intervals,
    legend_beside,
    lines,
    styled,
)
from facekit.data.images import read_rgb
from facekit.evaluation import identification
from facekit.evaluation.comparison import Comparison
from facekit.evaluation.rules import PLAIN
from facekit.evaluation.verification import Roc

METHODS = {"pca": "PCA", "tsne": "t-SNE"}
Judged = tuple[np.ndarray, np.ndarray]  # scores and truth


def pair_scores(scores: np.ndarray, same: np.ndarray, title: str) -> Figure:
    """Scores of pairs of one person beside those of two; same (N,), 1 or 0."""
    fig, (place,) = figure()
    bins = np.linspace(scores.min(), scores.max(), 40)
    same = np.asarray(same, bool)
    for kind, colour, hatch, name in (
        (same, GREEN, "", "one person"),
        (~same, RED, "///", "two people"),
    ):
        place.hist(
            scores[kind], bins, density=True, alpha=0.6, color=colour, hatch=hatch, label=name
        )
    place.set(title=as_it_is(title), xlabel="cosine", ylabel="density")
    place.legend()
    return fig


def roc(curves: Mapping[str, Roc]) -> Figure:
    """TAR over FAR of pairs, from the smallest FAR that so many pairs can show."""
    least = min(curve.far[curve.far > 0].min() for curve in curves.values())
    named = {
        f"{name}, AUC {auc(curve.far, curve.tar):.3f}": (curve.far, curve.tar)
        for name, curve in curves.items()
    }
    place = _over_a_log_axis(named, least)
    chance = np.geomspace(least, 1, 100)
    place.plot(chance, chance, color="grey", linestyle=":", label="a coin")
    place.set(title="ROC over pairs", ylim=(0, 1))
    place.set(xlabel="FAR: two people taken for one", ylabel="TAR: one person recognised")
    legend_beside(place)
    return place.figure


def dir_fpir(curves: Mapping[str, Judged]) -> Figure:
    """DIR over FPIR at rank 1, from the smallest FPIR that so few strangers can show."""
    named = {}
    for name, judged in curves.items():
        curve = identification.curve(*judged)
        named[f"{name}, AUC {auc(curve.fpir, curve.dir):.3f}"] = curve.fpir, curve.dir
    place = _over_a_log_axis(named, _least_fpir(curves))
    place.set(title="Known and named right, at what price", ylim=(0, 1))
    place.set(xlabel="FPIR: strangers who are named", ylabel="DIR: known and named right")
    legend_beside(place)
    return place.figure


def det(curves: Mapping[str, Judged]) -> Figure:
    """Both errors against each other, FNIR over FPIR, on logarithmic axes: lower is better."""
    named = {}
    for name, judged in curves.items():
        curve = identification.curve(*judged)
        named[name] = curve.fpir, 1 - curve.dir
    place = _over_a_log_axis(named, _least_fpir(curves))
    lowest = min(fnir[fnir > 0].min(initial=1.0) for _, fnir in named.values())
    place.set(title="Two errors", yscale="log", ylim=(lowest / 1.2, 1.05))
    place.set(xlabel="FPIR: strangers who are named", ylabel="FNIR: known, not named right")
    _ticks_in_per_cent(place.yaxis)
    legend_beside(place)
    return place.figure


def _over_a_log_axis(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], least: float) -> Axes:
    """Each curve (x, y) in a style of its own, x in per cent from `least` to 1."""
    _, (place,) = figure(6, 4)
    for (name, (x, y)), colour, style in styled(curves):
        place.plot(x.clip(least), y, color=colour, linestyle=style, label=as_it_is(name))
    place.set(xscale="log", xlim=(least, 1))
    _ticks_in_per_cent(place.xaxis)
    return place


def _least_fpir(curves: Mapping[str, Judged]) -> float:
    return min(0.5, *(1 / (truth == identification.NOBODY).sum() for _, truth in curves.values()))


def _ticks_in_per_cent(axis: Axis) -> None:
    """Some five ticks on a logarithmic axis, whether its ends are a factor of 2 or 10,000 apart."""
    low, high = axis.get_view_interval()
    if high / low < 4:
        within = range(1, 10)
    elif high / low < 200:
        within = (1, 2, 5)
    else:
        within = (1,)
    axis.set_major_locator(LogLocator(subs=within))
    axis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    axis.set_minor_formatter(NullFormatter())


def rank_curves(curves: Mapping[str, Judged], deepest: int = 20) -> Figure:
    """The share of known probes whose own identity is among the k best, for k up to `deepest`."""
    identities = min(scores.shape[1] for scores, _ in curves.values())
    places = np.arange(1, min(deepest, identities) + 1)
    found = {name: identification.rank_k(*judged, places) for name, judged in curves.items()}
    found["chance"] = places / identities
    table = pd.DataFrame(found, pd.Index(places, name="k"))
    fig = lines(table, "The right person is among the k best", "share of known probes")
    fig.axes[0].xaxis.get_major_locator().set_params(integer=True)
    return fig


def trade_off(scores: np.ndarray, truth: np.ndarray, threshold: float) -> Figure:
    """How high the best scores are, and beside it what every threshold costs in either error."""
    fig, (left, right) = figure(PAGE, 3.5, columns=2)
    best, _, _ = identification.outcomes(scores, truth)
    low, high = min(best.min(), threshold), max(best.max(), threshold)
    draw_outcomes(left, scores, truth, np.linspace(low, high, 25))
    left.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:.2f}")
    left.set(title="Best score of each probe", xlabel="score")
    edge = 0.02 * max(np.ptp(best), 1e-3)
    draw_rates(right, scores, truth, best.min() - edge, best.max() + edge)
    right.axvline(threshold, color="black", linestyle=":")
    right.set(title="Every threshold", xlabel="threshold", ylim=(0, 1))
    for place in (left, right):
        place.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return fig


def draw_outcomes(place: Axes, scores: np.ndarray, truth: np.ndarray, edges: np.ndarray) -> None:
    """A histogram of the probes' best scores: right identity, wrong one, nobody known."""
    best, right, mated = identification.outcomes(scores, truth)
    kinds = [best[right], best[mated & ~right], best[~mated]]
    _, _, bars = place.hist(
        kinds,
        edges,
        stacked=True,
        color=[GREEN, ORANGE, RED],
        label=["best match is right", "best match is wrong", "nobody we know"],
        edgecolor="white",
        linewidth=0.5,
    )
    for group, hatch in zip(bars, ("", "///", "..."), strict=True):
        plt.setp(group.patches, hatch=hatch)
    place.set(ylabel="probes")
    place.yaxis.get_major_locator().set_params(integer=True)


def draw_rates(place: Axes, scores: np.ndarray, truth: np.ndarray, low: float, high: float) -> None:
    """DIR, FPIR and accuracy at every threshold from `low` to `high`, exactly."""
    best, right, mated = identification.outcomes(scores, truth)
    # Between two scores nothing changes, and what a score decides holds up to the one below.
    thresholds = np.concatenate([[low], np.unique(best), [high]])
    found, false = identification.dir_fpir(scores, truth, thresholds)
    accepted = best >= thresholds[:, None]  # (thresholds, P)
    accuracy = np.where(accepted, right, ~mated).mean(1)
    for values, colour, style, name in (
        (found, GREEN, "--", "DIR: known and named right"),
        (false, RED, "-.", "FPIR: unknown but named"),
        (accuracy, BLUE, "-", "accuracy"),
    ):
        place.plot(
            thresholds, values, color=colour, linestyle=style, label=name, drawstyle="steps-pre"
        )
    place.set(ylabel="share")


def worst_identities(
    scores: np.ndarray,
    truth: np.ndarray,
    probes: Sequence[Path],
    gallery: Sequence[Path],
    identities: Sequence[str],
    count: int = 5,
) -> Figure:
    """The wrong best matches with the highest scores: the probe, its own face, the other's.

    probes (P paths), gallery and identities (G) belong to the rows and columns of the scores.
    """
    best, right, _ = identification.outcomes(scores, truth)
    wrong = np.flatnonzero(~right)
    wrong = wrong[np.argsort(-best[wrong], kind="stable")][:count]
    fig, axes = grid(3, max(1, len(wrong)), 1.7 * max(3, len(wrong)), 5.6)
    for place in axes.flat:
        place.set_axis_off()
    for column, row in zip(axes.T, wrong, strict=False):
        own, other = truth[row], int(scores[row].argmax())
        _face(column[0], probes[row], f"probe {row}")
        if own == identification.NOBODY:
            column[1].text(0.5, 0.5, "nobody\nwe know", ha="center", va="center")
        else:
            _face(column[1], gallery[own], f"is {identities[own]}\n{scores[row, own]:.3f}")
        _face(column[2], gallery[other], f"taken for {identities[other]}\n{best[row]:.3f}")
    fig.suptitle("Most alike, and not the same" if len(wrong) else "No best match is wrong")
    return fig


def _face(place: Axes, path: Path, title: str) -> None:
    place.imshow(np.asarray(read_rgb(path)))
    place.set_title(as_it_is(title), fontsize=8)


def face_map(
    vectors: np.ndarray, labels: np.ndarray, paths: Sequence[Path], method: str = "pca"
) -> Figure:
    """Embeddings (N, D) in two dimensions, at each point its face (N paths).

    A frame's colour and the number beside it are the person's, `labels` (N,). `method` as in
    `in_two`, and so are the errors.
    """
    points = in_two(vectors, method)
    fig, (place,) = figure(PAGE, 6.5)
    place.plot(*points.T, ",", alpha=0)  # so that the axes reach to all of them
    for point, label, path in zip(points, labels, paths, strict=True):
        face = OffsetImage(np.asarray(read_rgb(path).resize((26, 26))))
        frame = {"edgecolor": MANY[label % len(MANY)], "linewidth": 2}
        place.add_artist(AnnotationBbox(face, point, pad=0.1, bboxprops=frame))
        place.annotate(
            str(label), point, (16, 6), textcoords="offset points", fontsize=8, weight="bold"
        )
    place.set(title=METHODS[method], xticks=[], yticks=[])
    return fig


def in_two(vectors: np.ndarray, method: str) -> np.ndarray:
    """Vectors (N, D) as points of a page (N, 2).

    method "pca" keeps the two directions in which they vary most; "tsne" (van der Maaten and
    Hinton 2008) keeps neighbours, and distances across the page mean nothing. Raises DataError
    for fewer than three vectors.
    """
    vectors = np.asarray(vectors, np.float64)
    if len(vectors) < 3:
        raise DataError(f"a plane needs three vectors, not {len(vectors)}")
    reduce = PCA(2) if method == "pca" else _tsne(len(vectors))
    return reduce.fit_transform(vectors)


def _tsne(count: int) -> TSNE:
    return TSNE(2, init="pca", perplexity=min(30.0, (count - 1) / 3), random_state=0)


def rule_gains(found: Comparison) -> Figure:
    """By how many points of accuracy each rule beats the plain threshold, with its interval."""
    gains = found.table.drop(index=PLAIN)[["gain", "gain low", "gain high"]]
    table = gains.set_axis(["change", "low", "high"], axis=1)
    title = f"Recommended: {found.recommended}"
    return intervals({"": table}, title, "accuracy above the plain threshold's, points")
