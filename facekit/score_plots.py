"""Pictures of scores: who is accepted, and at what price. Each function draws one figure.

`scores` (P, G) and `truth` (P,) are as in `facekit.openset`. Colours are told apart by colour-blind
readers, and never alone: hatches, line styles and markers say the same.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import auc

from facekit import openset
from facekit.comparison import Comparison
from facekit.errors import DataError
from facekit.images import read_rgb
from facekit.pairs import Roc
from facekit.plots import BLUE, COLOURS, GREEN, ORANGE, RED, STYLES, figure, lines
from facekit.rules import PLAIN

MARKERS = "osv^D*PXh<>d"
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
    place.set(title=title, xlabel="cosine", ylabel="density")
    place.legend()
    return fig


def roc(curves: Mapping[str, Roc]) -> Figure:
    """TAR over FAR of pairs, from the smallest FAR that so many pairs can show."""
    fig, (place,) = figure(6, 4)
    least = min(curve.far[curve.far > 0].min() for curve in curves.values())
    for (name, curve), colour, style in _styled(curves):
        label = f"{name}, AUC {auc(curve.far, curve.tar):.3f}"
        place.plot(curve.far.clip(least), curve.tar, color=colour, linestyle=style, label=label)
    chance = np.geomspace(least, 1, 100)
    place.plot(chance, chance, color="grey", linestyle=":", label="a coin")
    _log_shares(place, x=(least, 1))
    place.set(title="ROC over pairs", ylim=(0, 1))
    place.set(xlabel="FAR: two people taken for one", ylabel="TAR: one person recognised")
    _legend_beside(place)
    return fig


def dir_fpir(curves: Mapping[str, Judged]) -> Figure:
    """DIR over FPIR at rank 1, from the smallest FPIR that so few strangers can show."""
    fig, (place,) = figure(6, 4)
    least = _least_fpir(curves)
    for (name, judged), colour, style in _styled(curves):
        curve = openset.curve(*judged)
        label = f"{name}, AUC {auc(curve.fpir, curve.dir):.3f}"
        place.plot(curve.fpir.clip(least), curve.dir, color=colour, linestyle=style, label=label)
    _log_shares(place, x=(least, 1))
    place.set(title="Known and named right, at what price", ylim=(0, 1))
    place.set(xlabel="FPIR: strangers who are named", ylabel="DIR: known and named right")
    _legend_beside(place)
    return fig


def det(curves: Mapping[str, Judged]) -> Figure:
    """Both errors against each other, FNIR over FPIR, on logarithmic axes: lower is better."""
    fig, (place,) = figure(6, 4)
    least = _least_fpir(curves)
    lowest = 1.0
    for (name, judged), colour, style in _styled(curves):
        curve = openset.curve(*judged)
        fnir = 1 - curve.dir
        lowest = min(lowest, fnir[fnir > 0].min(initial=1.0))
        place.plot(curve.fpir.clip(least), fnir, color=colour, linestyle=style, label=name)
    _log_shares(place, x=(least, 1), y=(lowest / 1.2, 1.05))
    place.set(title="Two errors")
    place.set(xlabel="FPIR: strangers who are named", ylabel="FNIR: known, not named right")
    _legend_beside(place)
    return fig


def _least_fpir(curves: Mapping[str, Judged]) -> float:
    return min(0.5, *(1 / (truth == openset.NOBODY).sum() for _, truth in curves.values()))


def _styled(named: Mapping):
    """Each with a colour and a line style of its own."""
    return zip(named.items(), cycle(COLOURS), cycle(STYLES), strict=False)


def _log_shares(place: Axes, **limits: tuple[float, float]) -> None:
    """Make the axes x, y or both logarithmic, from one limit to the other, with ticks in per cent.

    There are some five ticks, whether the limits are a factor of two apart or of ten thousand.
    """
    for name, (low, high) in limits.items():
        place.set(**{f"{name}scale": "log", f"{name}lim": (low, high)})
        factor = high / low
        within = range(1, 10) if factor < 4 else (1, 2, 5) if factor < 200 else (1,)
        axis = getattr(place, f"{name}axis")
        axis.set_major_locator(LogLocator(subs=within))
        axis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        axis.set_minor_formatter(NullFormatter())


def _legend_beside(place: Axes) -> None:
    place.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


def rank_curves(curves: Mapping[str, Judged], deepest: int = 20) -> Figure:
    """The share of known probes whose own identity is among the k best, for k up to `deepest`."""
    identities = min(scores.shape[1] for scores, _ in curves.values())
    places = np.arange(1, min(deepest, identities) + 1)
    found = {name: openset.rank_k(*judged, places) for name, judged in curves.items()}
    found["chance"] = places / identities
    table = pd.DataFrame(found, pd.Index(places, name="k"))
    fig = lines(table, "The right person is among the k best", "share of known probes")
    fig.axes[0].xaxis.get_major_locator().set_params(integer=True)
    return fig


def outcomes(scores: np.ndarray, truth: np.ndarray, threshold: float) -> Figure:
    """How high the best score of a probe is: right identity, wrong one, nobody known."""
    fig, (place,) = figure()
    _draw_outcomes(place, scores, truth, threshold)
    return fig


def _draw_outcomes(place: Axes, scores: np.ndarray, truth: np.ndarray, threshold: float) -> None:
    best, right, mated = openset.outcomes(scores, truth)
    kinds = (
        ("best match is right", right, GREEN, ""),
        ("best match is wrong", mated & ~right, ORANGE, "///"),
        ("nobody we know", ~mated, RED, "..."),
    )
    _, _, bars = place.hist(
        [best[chosen] for _, chosen, *_ in kinds],
        np.linspace(min(best.min(), threshold), max(best.max(), threshold), 25),
        stacked=True,
        color=[colour for *_, colour, _ in kinds],
        label=[name for name, *_ in kinds],
        edgecolor="white",
        linewidth=0.5,
    )
    for group, (*_, hatch) in zip(bars, kinds, strict=True):
        plt.setp(group.patches, hatch=hatch)
    place.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:.2f}")
    place.set(title="Best score of each probe", xlabel="score", ylabel="probes")
    place.yaxis.get_major_locator().set_params(integer=True)
    _legend_below(place)


def trade_off(scores: np.ndarray, truth: np.ndarray, threshold: float) -> Figure:
    """Beside the scores: what every threshold costs in either error, exactly."""
    fig, (left, place) = figure(10, 3.5, columns=2)
    _draw_outcomes(left, scores, truth, threshold)
    best = openset.outcomes(scores, truth)[0]
    edge = 0.02 * max(np.ptp(best), 1e-3)
    # Between two scores nothing changes, and what a score decides holds up to the one below.
    thresholds = np.concatenate([[best.min() - edge], np.unique(best), [best.max() + edge]])
    found, false = openset.dir_fpir(scores, truth, thresholds)
    accuracy = np.array([openset.accuracy(scores, truth, value) for value in thresholds])
    for values, colour, style, name in (
        (found, GREEN, "--", "DIR: known and named right"),
        (false, RED, "-.", "FPIR: unknown but named"),
        (accuracy, BLUE, "-", "accuracy"),
    ):
        place.plot(
            thresholds, values, color=colour, linestyle=style, label=name, drawstyle="steps-pre"
        )
    place.axvline(threshold, color="black", linestyle=":")
    place.set(title="Every threshold", xlabel="threshold", ylabel="share", ylim=(0, 1))
    _legend_below(place)
    return fig


def _legend_below(place: Axes) -> None:
    place.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2))


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
    best, right, _ = openset.outcomes(scores, truth)
    wrong = np.flatnonzero(~right)
    wrong = wrong[np.argsort(-best[wrong], kind="stable")][:count]
    fig, axes = plt.subplots(
        3,
        max(1, len(wrong)),
        figsize=(1.7 * max(3, len(wrong)), 5.6),
        squeeze=False,
        facecolor="white",
        layout="constrained",
    )
    for place in axes.flat:
        place.set_axis_off()
    for column, row in zip(axes.T, wrong, strict=False):
        own, other = truth[row], int(scores[row].argmax())
        _face(column[0], probes[row], f"probe {row}")
        if own == openset.NOBODY:
            column[1].text(0.5, 0.5, "nobody\nwe know", ha="center", va="center")
        else:
            _face(column[1], gallery[own], f"is {identities[own]}\n{scores[row, own]:.3f}")
        _face(column[2], gallery[other], f"taken for {identities[other]}\n{best[row]:.3f}")
    fig.suptitle("Most alike, and not the same" if len(wrong) else "No best match is wrong")
    return fig


def _face(place: Axes, path: Path, title: str) -> None:
    place.imshow(np.asarray(read_rgb(path)))
    place.set_title(title, fontsize=8)


def plane(
    vectors: np.ndarray, labels: np.ndarray, method: str = "pca", marks: np.ndarray | None = None
) -> Figure:
    """Embeddings (N, D) in two dimensions, a colour and a marker for each label (N,).

    method "pca" keeps the two directions in which they vary most; "tsne" (van der Maaten and
    Hinton 2008) keeps neighbours, and distances across the page mean nothing. Label -1 is grey;
    `marks` (N,): those with a ring, such as gallery images.
    """
    vectors, labels = np.asarray(vectors, np.float64), np.asarray(labels)
    if len(vectors) < 3 or len(vectors) != len(labels):
        raise DataError(f"a plane needs three vectors and a label each, not {len(vectors)}")
    if method not in ("pca", "tsne"):
        raise DataError(f"no method {method!r}; choose pca or tsne")
    reduce = PCA(2) if method == "pca" else _tsne(len(vectors))
    points = reduce.fit_transform(vectors)
    fig, (place,) = figure(6, 4.5)
    for number, label in enumerate(np.unique(labels)):
        own, nobody = labels == label, label == openset.NOBODY
        colour = "lightgrey" if nobody else plt.colormaps["tab10"](number % 10)
        marker = "." if nobody else MARKERS[number % len(MARKERS)]
        place.plot(*points[own].T, marker, color=colour, markersize=6, alpha=0.8)
        if not nobody:
            place.annotate(str(label), np.median(points[own], axis=0), weight="bold")
    if marks is not None:
        place.plot(*points[np.asarray(marks, bool)].T, "o", mfc="none", mec="black", ms=11)
    place.set(title={"pca": "PCA", "tsne": "t-SNE"}[method], xticks=[], yticks=[])
    return fig


def _tsne(count: int) -> TSNE:
    return TSNE(2, init="pca", perplexity=min(30.0, (count - 1) / 3), random_state=0)


def rule_gains(found: Comparison) -> Figure:
    """By how many points of accuracy each rule beats the plain threshold, with its interval."""
    table = found.table.drop(index=PLAIN).iloc[::-1]
    fig, (place,) = figure(7, 1.2 + 0.4 * len(table))
    rows = np.arange(len(table))
    gain, low, high = (100 * table[name] for name in ("gain", "gain low", "gain high"))
    chosen = table.index == found.recommended
    for kind, marker, colour in ((~chosen, "o", BLUE), (chosen, "D", RED)):
        spread = np.stack([gain - low, high - gain])[:, kind].clip(0)
        place.errorbar(gain[kind], rows[kind], xerr=spread, fmt=marker, color=colour, capsize=4)
    place.axvline(0, color="black", linestyle="--")
    place.set_yticks(rows, table.index)
    for label, bold in zip(place.get_yticklabels(), chosen, strict=True):
        label.set_weight("bold" if bold else "normal")
    place.set(title=f"Recommended: {found.recommended}", ylim=(-0.7, len(table) - 0.3))
    place.set_xlabel("accuracy above the plain threshold's, points")
    return fig
