"""Figures of scores show the numbers of the scoring, and can be drawn for whatever there is."""

import itertools
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.offsetbox import AnnotationBbox
from PIL import Image
from sklearn.decomposition import PCA

from facekit.common.errors import DataError
from facekit.course import score_plots
from facekit.evaluation import comparison, identification, rules, verification

NUMBERS = np.random.default_rng(0)
SCORES = NUMBERS.normal(0.3, 0.2, (45, 9)).clip(-1, 1).round(2)
TRUTH = NUMBERS.integers(9, size=45)
SCORES[np.arange(45), TRUTH] += 0.3
TRUTH[::5] = identification.NOBODY
CASES = {
    "both": (SCORES, TRUTH),
    "all known": (SCORES[1:5], TRUTH[1:5]),
    "none known": (SCORES[::5], TRUTH[::5]),
    "one identity": (SCORES[:, :1], np.minimum(TRUTH, 0)),
    "equal scores": (np.full((4, 3), 0.5), np.array([0, 1, -1, -1])),
    "one probe": (SCORES[:1], TRUTH[:1]),
}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def lines_of(place) -> dict[str, plt.Line2D]:
    return {line.get_label().split(",")[0].split(":")[0]: line for line in place.lines}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("threshold", [-2.0, 2.0])
def test_the_trade_off_is_drawn_for_any_mixture_and_threshold(case, threshold):
    fig = score_plots.trade_off(*CASES[case], threshold)
    bars = sum(patch.get_height() for patch in fig.axes[0].patches)
    assert bars == len(CASES[case][1])  # every probe is in the histogram
    fig.canvas.draw()


def test_the_histogram_counts_each_kind():
    place = score_plots.trade_off(SCORES, TRUTH, 0.4).axes[0]
    counts = [sum(bar.get_height() for bar in group) for group in place.containers]
    right = (SCORES.argmax(1) == TRUTH).sum()
    assert counts == [right, (TRUTH >= 0).sum() - right, (TRUTH < 0).sum()]
    hatches = {group[0].get_hatch() for group in place.containers}
    assert len(hatches) == 3  # told apart without colours


def test_the_trade_off_draws_the_numbers_of_the_scoring_at_every_threshold():
    place = score_plots.trade_off(SCORES, TRUTH, 0.4).axes[1]
    lines = lines_of(place)
    styles = {lines[name].get_linestyle() for name in ("DIR", "FPIR", "accuracy")}
    assert len(styles) == 3
    best = identification.outcomes(SCORES, TRUTH)[0]
    path = lines["accuracy"].get_path()
    assert lines["accuracy"].get_drawstyle() == "steps-pre"
    assert path.vertices[:, 0].min() < best.min()
    for threshold in NUMBERS.uniform(best.min(), best.max(), 50):
        shown = {}
        for name in ("DIR", "FPIR", "accuracy"):
            x, y = lines[name].get_data()
            shown[name] = y[np.searchsorted(x, threshold, side="left")]  # holds up to x, with it
        found, false = identification.dir_fpir(SCORES, TRUTH, threshold)
        assert (shown["DIR"], shown["FPIR"]) == (found, false)
        assert shown["accuracy"] == identification.accuracy(SCORES, TRUTH, threshold)


def test_the_curve_of_known_and_strangers_is_the_exact_one():
    other = (SCORES[:, ::-1], np.where(TRUTH < 0, TRUTH, 8 - TRUTH))
    place = score_plots.dir_fpir({"one": (SCORES, TRUTH), "two": other}).axes[0]
    curve = identification.curve(SCORES, TRUTH)
    line = lines_of(place)["one"]
    least = 1 / (TRUTH < 0).sum()
    np.testing.assert_array_equal(line.get_xdata(), np.maximum(curve.fpir, least))
    np.testing.assert_array_equal(line.get_ydata(), curve.dir)
    assert f"AUC {identification.auc(SCORES, TRUTH):.3f}" in line.get_label()
    assert place.get_xlim() == pytest.approx((least, 1))
    assert place.get_xscale() == "log"
    first, second = place.lines
    assert first.get_linestyle() != second.get_linestyle()
    assert first.get_color() != second.get_color()


def test_the_det_curve_is_of_both_errors():
    place = score_plots.det({"one": (SCORES, TRUTH)}).axes[0]
    curve = identification.curve(SCORES, TRUTH)
    np.testing.assert_array_equal(place.lines[0].get_ydata(), 1 - curve.dir)
    assert (place.get_xscale(), place.get_yscale()) == ("log", "log")
    low, high = place.get_ylim()
    shown = 1 - curve.dir
    assert 0 < low < shown[shown > 0].min()
    assert high > 1


@pytest.mark.parametrize("draw", [score_plots.dir_fpir, score_plots.det])
@pytest.mark.parametrize("case", ["both", "one identity", "equal scores"])
def test_curves_are_drawn_where_there_are_both_kinds(draw, case):
    draw({"x": CASES[case]}).canvas.draw()


def test_a_perfect_run_has_a_det_curve_too():
    score_plots.det({"x": (np.array([[0.9], [0.1]]), np.array([0, -1]))}).canvas.draw()


def test_rank_curves_are_the_shares_within_k():
    place = score_plots.rank_curves({"one": (SCORES, TRUTH)}, deepest=6).axes[0]
    lines = lines_of(place)
    known = [row for row in range(45) if TRUTH[row] >= 0]
    for k in range(1, 7):
        within = [TRUTH[row] in np.argsort(-SCORES[row], kind="stable")[:k] for row in known]
        assert lines["one"].get_data()[0][k - 1] == k
        assert lines["one"].get_data()[1][k - 1] == pytest.approx(np.mean(within))
        assert lines["chance"].get_ydata()[k - 1] == pytest.approx(k / 9)


def test_rank_curves_go_no_further_than_the_gallery():
    place = score_plots.rank_curves({"one": (SCORES, TRUTH)}).axes[0]
    assert lines_of(place)["one"].get_xdata()[-1] == 9
    assert all(float(tick).is_integer() for tick in place.get_xticks())


@pytest.mark.parametrize("draw", [score_plots.dir_fpir, score_plots.det])
def test_logarithmic_axes_have_few_ticks_in_per_cent(draw):
    fig = draw({"one": (SCORES, TRUTH)})
    fig.canvas.draw()
    low, high = fig.axes[0].get_xlim()
    ticks = [
        label.get_text()
        for label in fig.axes[0].get_xticklabels(which="both")
        if low * (1 - 1e-9) <= label.get_position()[0] <= high * (1 + 1e-9) and label.get_text()
    ]
    assert ticks == ["20 %", "50 %", "100 %"]  # of nine strangers one is 11 %


@pytest.mark.parametrize("known, strangers", [(9, 9), (300, 9), (9, 300), (300, 300)])
@pytest.mark.parametrize("draw", [score_plots.dir_fpir, score_plots.det, score_plots.roc])
def test_ticks_on_logarithmic_axes_are_many_enough_and_stand_apart(draw, known, strangers):
    scores = np.random.default_rng(0).normal(size=(known + strangers, 9))
    truth = np.r_[np.arange(known) % 9, np.full(strangers, -1)]
    scores[np.arange(known), truth[:known]] += 1
    judged = (
        verification.roc(*verification.all_pairs(scores, truth))
        if draw is score_plots.roc
        else None
    )
    fig = draw({"one": judged or (scores, truth)})
    fig.canvas.draw()
    place = fig.axes[0]
    for axis, (low, high) in ((place.xaxis, place.get_xlim()), (place.yaxis, place.get_ylim())):
        low, high = low * (1 - 1e-9), high * (1 + 1e-9)
        ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        boxes = [tick.label1.get_window_extent() for tick in ticks]
        assert len(boxes) >= 3
        assert not any(one.overlaps(two) for one, two in itertools.combinations(boxes, 2))


def test_the_roc_is_the_pairs():
    curve = verification.roc(*verification.all_pairs(SCORES, TRUTH))
    place = score_plots.roc({"network": curve}).axes[0]
    line = lines_of(place)["network"]
    np.testing.assert_array_equal(line.get_ydata(), curve.tar)
    auc = verification.auc(*verification.all_pairs(SCORES, TRUTH))
    assert line.get_label() == f"network, AUC {auc:.3f}"
    assert place.get_xlim()[0] == pytest.approx(curve.far[curve.far > 0].min())


def test_pairs_are_drawn_by_kind():
    scores, same = verification.all_pairs(SCORES, TRUTH)
    place = score_plots.pair_scores(scores, same, "Pairs").axes[0]
    assert place.get_title() == "Pairs"
    width = np.diff(np.linspace(scores.min(), scores.max(), 40))[0]
    for group in place.containers:
        assert sum(bar.get_height() for bar in group) * width == pytest.approx(1)
    assert len({group[0].get_hatch() for group in place.containers}) == 2


# --- faces


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> list[Path]:
    """Grey images, each of a level of its own: nine of the gallery, then the probes."""
    folder = tmp_path_factory.mktemp("faces")
    paths = [folder / f"{i}.png" for i in range(54)]
    for level, path in enumerate(paths):
        Image.new("RGB", (8, 8), (4 * level,) * 3).save(path)
    return paths


def shown(place) -> int | None:
    """Which of `faces` a place shows."""
    return int(place.images[0].get_array()[0, 0, 0]) // 4 if place.images else None


def test_the_worst_mistakes_come_first_with_both_faces(faces):
    identities = [f"n{i:06d}" for i in range(9)]
    draw = score_plots.worst_identities
    fig = draw(SCORES, TRUTH, faces[9:], faces[:9], identities, count=4)
    best, wrong = SCORES.max(1), SCORES.argmax(1) != TRUTH
    expected = sorted(np.flatnonzero(wrong), key=lambda row: -best[row])[:4]
    columns = np.array(fig.axes).reshape(3, 4).T
    for row, (probe, own, other) in zip(expected, columns, strict=True):
        assert shown(probe) == 9 + row
        assert shown(own) == (TRUTH[row] if TRUTH[row] >= 0 else None)
        assert shown(other) == SCORES[row].argmax()
        assert f"{best[row]:.3f}" in other.get_title()
        if TRUTH[row] < 0:
            assert "nobody" in own.texts[0].get_text()
        else:
            assert identities[TRUTH[row]] in own.get_title()


def test_without_mistakes_the_figure_says_so(faces):
    fig = score_plots.worst_identities(np.eye(3), np.arange(3), faces[:3], faces[3:6], "abc")
    assert fig.get_suptitle() == "No best match is wrong"
    fig.canvas.draw()


# --- the plane


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_every_face_stands_at_its_point_in_a_frame_of_its_person(method, faces):
    vectors, labels = NUMBERS.normal(size=(12, 6)), np.arange(12) % 3
    paths = [faces[i % len(faces)] for i in range(12)]
    place = score_plots.face_map(vectors, labels, paths, method).axes[0]
    boxes = [artist for artist in place.artists if isinstance(artist, AnnotationBbox)]
    np.testing.assert_allclose([box.xy for box in boxes], score_plots.in_two(vectors, method))
    frames = [box.patch.get_edgecolor() for box in boxes]
    assert [frames.index(frame) for frame in frames] == labels.tolist()
    assert [text.get_text() for text in place.texts] == [str(label) for label in labels]


def test_pca_is_that_of_scikit_learn():
    vectors = NUMBERS.normal(size=(40, 6))
    expected = PCA(2).fit_transform(vectors)
    np.testing.assert_allclose(score_plots.in_two(vectors, "pca"), expected, atol=1e-9)


def test_few_vectors_can_be_neighbours_too():
    assert score_plots.in_two(NUMBERS.normal(size=(4, 6)), "tsne").shape == (4, 2)


def test_islands_stay_islands():
    labels = np.repeat(np.arange(3), 20)
    vectors = 30 * np.eye(3)[labels] + NUMBERS.normal(size=(60, 3))
    for method in ("pca", "tsne"):
        points = score_plots.in_two(vectors, method)
        clouds = [points[labels == label] for label in range(3)]
        for i, cloud in enumerate(clouds):
            own = np.linalg.norm(cloud - cloud.mean(0), axis=1).max()
            others = [np.linalg.norm(cloud.mean(0) - c.mean(0)) for c in clouds[:i]]
            assert all(own < other for other in others)


def test_two_vectors_have_no_plane():
    with pytest.raises(DataError, match="three vectors, not 2"):
        score_plots.in_two(np.ones((2, 3)), "pca")


# --- rules beside each other


def test_gains_are_drawn_with_their_intervals():
    numbers = np.random.default_rng(1)
    gallery, truth = numbers.normal(size=(20, 12)), numbers.integers(20, size=120)
    probes = gallery[truth] + numbers.normal(size=(120, 12))
    probes[::4], truth[::4] = numbers.normal(size=(30, 12)), identification.NOBODY
    evidence = rules.Evidence(probes, gallery, cohort=numbers.normal(size=(30, 12)))
    found = comparison.compare(evidence, truth, repeats=2, count=50)
    for recommended in ("threshold", "gap"):
        shown = comparison.Comparison(found.table, recommended, "")
        place = score_plots.rule_gains(shown).axes[0]
        assert recommended in place.get_title()
        names = [label.get_text() for label in place.get_yticklabels()]
        name_at = dict(zip(place.get_yticks(), names, strict=True))
        drawn = {}
        for group in place.containers:
            middle, _, (bars,) = group
            points = zip(*middle.get_data(), bars.get_segments(), strict=True)
            for x, y, ((low, _), (high, _)) in points:
                drawn[name_at[y]] = (low, x, high)
        for name, row in found.table.drop(index="threshold").iterrows():
            expected = [100 * row[column] for column in ("gain low", "gain", "gain high")]
            assert drawn[name] == pytest.approx(expected)
        plt.close("all")
