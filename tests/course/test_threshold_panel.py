"""The panel counts what a loop counts, at every place of the slider, and shows it."""

import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # before pyplot

import ipywidgets
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facekit.common.errors import DataError
from facekit.course import threshold_panel
from facekit.evaluation import identification

EXACT = settings(derandomize=True, deadline=None, max_examples=40)


def some_scores(known: int, unknown: int, gallery: int = 6, seed: int = 0, steps: int = 0):
    """Scores of probes, most right; `steps`: rounded to as many a unit, so that some tie."""
    numbers = np.random.default_rng(seed)
    truth = np.concatenate([numbers.integers(0, gallery, known), np.full(unknown, -1)])
    scores = numbers.normal(0.2, 0.15, (known + unknown, gallery))
    scores[np.arange(known), truth[:known]] += 0.25
    return (np.round(scores * steps) / steps if steps else scores).astype(np.float32), truth


CASES = {
    "both": some_scores(40, 15),
    "ties": some_scores(40, 15, steps=10),
    "all known": some_scores(20, 0),
    "all strangers": some_scores(0, 20),
    "one probe": some_scores(1, 0),
    "a gallery of one": some_scores(9, 5, gallery=1),
    "equal scores": (np.full((4, 3), 0.5, np.float32), np.array([0, 1, -1, -1])),
    "far below zero": (some_scores(20, 9)[0] * 1e4 - 1e6, some_scores(20, 9)[1]),
}


DRAWN = ("both", "all known", "all strangers", "far below zero")  # an image takes its time


def sweep(low: float, high: float, count: int = 60) -> list[float]:
    """Thresholds over a range and far beyond it."""
    return [-np.inf, -1e30, *np.linspace(low - 1, high + 1, count).tolist(), 1e30, np.inf]


def by_hand(scores: np.ndarray, truth: np.ndarray, threshold: float) -> dict[str, list[int]]:
    """The probes of each kind, one after the other."""
    kinds = {kind: [] for kind in threshold_panel.Counts._fields}
    for row, (line, own) in enumerate(zip(scores.tolist(), truth.tolist(), strict=True)):
        answer = line.index(max(line)) if max(line) >= threshold else -1
        if own < 0:
            kind = "stranger_refused" if answer < 0 else "stranger_named"
        elif answer < 0:
            kind = "refused"
        else:
            kind = "named_right" if answer == own else "named_wrong"
        kinds[kind].append(row)
    return kinds


@pytest.fixture
def faces(tmp_path: Path):
    """Small images of one colour each, none like another."""

    def make(count: int, name: str) -> list[Path]:
        numbers = np.random.default_rng(count)
        paths = [tmp_path / f"{name}{i}.jpg" for i in range(count)]
        for path in paths:
            Image.new("RGB", (80, 70), tuple(numbers.integers(0, 256, 3).tolist())).save(path)
        return paths

    return make


# --- what is counted


@pytest.mark.parametrize("case", CASES)
def test_every_threshold_is_counted_as_by_hand(case):
    scores, truth = CASES[case]
    state = threshold_panel.prepare(scores, truth)
    rule = state.rules["threshold"]
    for threshold in [*sweep(rule.low, rule.high), *rule.best.tolist(), rule.start]:
        counts = threshold_panel.view(state, "threshold", threshold).counts
        expected = by_hand(scores, truth, threshold)
        assert counts._asdict() == {kind: len(rows) for kind, rows in expected.items()}


@EXACT
@given(
    known=st.integers(0, 12),
    strangers=st.integers(0, 8),
    seed=st.integers(0, 99),
    threshold=st.floats(-1, 2),
)
def test_the_rates_are_those_of_the_scoring(known, strangers, seed, threshold):
    if known + strangers == 0:
        known = 1
    scores, truth = some_scores(known, strangers, seed=seed, steps=20)
    counts = threshold_panel.view(
        threshold_panel.prepare(scores, truth), "threshold", threshold
    ).counts
    found, false = identification.dir_fpir(scores, truth, threshold)
    np.testing.assert_equal([counts.dir, counts.fpir], [found, false])
    assert counts.accuracy == identification.accuracy(scores, truth, threshold)
    if known and strangers:
        prior = known / (known + strangers)
        mixture = prior * counts.dir + (1 - prior) * (1 - counts.fpir)
        assert counts.accuracy == pytest.approx(mixture, abs=1e-12)


def test_words_and_table_hold_the_numbers():
    scores, truth = CASES["both"]
    seen = threshold_panel.view(threshold_panel.prepare(scores, truth), "threshold", 0.35)
    assert threshold_panel.describe_threshold(scores, truth, 0.35) in seen.words
    cells = r"<tr [^>]*><td[^>]*>(.*?)</td><td.*?>(.*?)</td>.*?>(\d+)</td>.*?>([^<]*)</td>"
    rows = re.findall(cells, seen.table)
    assert all(count > 0 for count in seen.counts)
    marks = {"named_right": "right", "stranger_refused": "right"}
    for (kind, count), (text, mark, number, share) in zip(
        seen.counts._asdict().items(), rows, strict=True
    ):
        group, name = (15, "strangers") if "stranger" in kind else (40, "known")
        assert text == threshold_panel.INK[kind].words
        assert mark.endswith(marks.get(kind, "error"))
        assert (int(number), share) == (count, f"{count / group:.1%} of {group} {name}")


def test_a_kind_without_probes_is_said_to_have_none():
    seen = threshold_panel.view(threshold_panel.prepare(*CASES["all known"]), "threshold", 0.3)
    assert seen.table.count("no strangers") == 2
    assert "FPIR nan%" in seen.words


# --- what is shown


@pytest.mark.parametrize("case", CASES)
def test_the_examples_are_the_errors_nearest_to_the_threshold(case):
    scores, truth = CASES[case]
    state = threshold_panel.prepare(scores, truth)
    rule = state.rules["threshold"]
    for threshold in np.linspace(rule.low, rule.high, 25):
        kinds = by_hand(scores, truth, threshold)
        shown = threshold_panel.view(state, "threshold", threshold).examples
        assert list(shown) == ["named_wrong", "refused", "stranger_named"]
        for kind, examples in shown.items():
            far = sorted(abs(float(scores[row].max()) - threshold) for row in kinds[kind])
            near = [abs(float(scores[probe].max()) - threshold) for probe in examples]
            assert near == far[: threshold_panel.EXAMPLES]
            assert set(examples) <= set(kinds[kind])


def test_each_pair_of_faces_is_the_probe_and_whom_it_is_most_like(faces):
    scores, truth = CASES["both"]
    probes, gallery = faces(55, "probe"), faces(6, "gallery")
    seen = threshold_panel.view(
        threshold_panel.prepare(scores, truth, probes, gallery), "threshold", 0.45
    )
    pairs = [probe for examples in seen.examples.values() for probe in examples]
    assert len(pairs) > 6
    sources = re.findall(r'base64,([^"]+)" alt="([^"]+)"', seen.faces)
    answers, expected = scores.argmax(1), []
    for probe in pairs:
        answer = answers[probe]
        expected.append((threshold_panel.thumbnail(probes[probe]), f"probe {probe}"))
        expected.append((threshold_panel.thumbnail(gallery[answer]), f"gallery face {answer}"))
    assert sources == expected
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", seen.faces)
    expected = [f"{scores[probe].max():.3f}" for probe in pairs]
    assert [caption.split(",")[0] for caption in captions] == expected
    right = answers == truth
    hints = [f"would be {'right' if right[probe] else 'wrong'}"
             for probe in seen.examples["refused"]]  # fmt: skip
    assert [caption.split(", ")[1] for caption in captions if "," in caption] == hints
    for kind, examples in seen.examples.items():
        count = getattr(seen.counts, kind)
        words = f"<b>{threshold_panel.INK[kind].words}</b> ({len(examples)} of {count}"
        assert words in seen.faces


def test_a_thumbnail_is_the_middle_of_the_image(tmp_path):
    image = Image.new("RGB", (256, 128), "red")
    image.paste((0, 0, 255), (64, 0, 192, 128))
    image.save(tmp_path / "wide.png")
    small = Image.open(BytesIO(b64decode(threshold_panel.thumbnail(tmp_path / "wide.png"))))
    assert (small.format, small.size) == ("JPEG", (threshold_panel.SIDE, threshold_panel.SIDE))
    middle = np.asarray(small)[2:-2, 2:-2]
    assert (middle[..., 2] > 240).all()
    assert (middle[..., 0] < 15).all()


def test_without_images_or_errors_no_faces_are_shown(faces):
    scores, truth = CASES["all known"]
    assert (
        threshold_panel.view(threshold_panel.prepare(scores, truth), "threshold", 0.3).faces == ""
    )
    state = threshold_panel.prepare(scores, truth, faces(20, "probe"), faces(6, "gallery"))
    assert threshold_panel.view(state, "threshold", 0.4).faces.count("(none)") == 1
    assert "<img" in threshold_panel.view(state, "threshold", 0.4).faces


@pytest.mark.parametrize("case", CASES)
def test_a_view_depends_on_its_arguments_alone(case, faces):
    scores, truth = CASES[case]
    paths = faces(scores.shape[0], "probe"), faces(scores.shape[1], "gallery")
    kept = scores.copy(), truth.copy()
    state = threshold_panel.prepare(scores, truth, *paths)
    rule = state.rules["threshold"]
    places = sweep(rule.low, rule.high, 15)
    first = [threshold_panel.view(state, "threshold", place) for place in places]
    threshold_panel.thumbnail.cache_clear()
    again = threshold_panel.prepare(scores, truth, *paths)
    assert [threshold_panel.view(again, "threshold", place) for place in reversed(places)] == first[
        ::-1
    ]
    np.testing.assert_array_equal(scores, kept[0])
    np.testing.assert_array_equal(truth, kept[1])
    assert len({seen.words for seen in first}) > 3


def test_every_part_brings_its_own_paper(faces):
    """On a dark page, dark text on nothing would not be seen; nor is a colour the only sign."""
    scores, truth = CASES["both"]
    state = threshold_panel.prepare(scores, truth, faces(55, "probe"), faces(6, "gallery"))
    seen = threshold_panel.view(state, "threshold", 0.35)
    for part in (seen.words, seen.table, seen.faces):
        assert part.startswith(f'<div style="{threshold_panel.PAPER}"')
        assert len(re.findall(r"<img", part)) == len(re.findall(r' alt="[^"]+', part))
    for ink in threshold_panel.INK.values():
        assert ink.words in seen.table


# --- the line over the image


@pytest.mark.parametrize("case", DRAWN)
def test_the_line_stands_where_the_image_has_the_threshold(case, monkeypatch):
    drawn, png = [], threshold_panel._png
    monkeypatch.setattr(threshold_panel, "_png", lambda fig: (drawn.append(fig), png(fig))[1])
    widget = threshold_panel.threshold(*CASES[case])
    (fig,) = drawn
    fig.canvas.draw()
    slider = widget.children[0]
    for value in np.linspace(slider.min, slider.max, 9):
        slider.value = float(value)
        left = float(re.search(r"left:([\d.]+)%", widget.line.value)[1])
        for place in fig.axes:
            pixel = place.transData.transform((slider.value, 0))[0]
            share = 100 * pixel / (fig.get_size_inches()[0] * fig.dpi)
            assert left == pytest.approx(share, abs=0.01)
    assert f".{widget.mark} " in widget.line.value
    assert widget.mark in widget._dom_classes
    assert 'class="facekit-line"' in widget.curves.value


def test_the_image_draws_every_probe_and_the_rates_of_the_scoring(monkeypatch):
    drawn = []
    monkeypatch.setattr(threshold_panel, "_png", lambda fig: drawn.append(fig) or "")
    scores, truth = CASES["both"]
    threshold_panel.prepare(scores, truth).rules["threshold"].image  # noqa: B018
    above, below = drawn[0].axes
    heights = [sum(bar.get_height() for bar in group) for group in above.containers]
    right = scores.argmax(1) == truth
    assert heights == [right.sum(), (~right & (truth >= 0)).sum(), (truth < 0).sum()]
    lines = {line.get_label().split(":")[0]: line for line in below.lines}
    places = lines["DIR"].get_xdata()
    found, false = identification.dir_fpir(scores, truth, places)
    np.testing.assert_array_equal(lines["DIR"].get_ydata(), found)
    np.testing.assert_array_equal(lines["FPIR"].get_ydata(), false)
    accuracy = [identification.accuracy(scores, truth, place) for place in places]
    np.testing.assert_allclose(lines["accuracy"].get_ydata(), accuracy, rtol=0, atol=1e-12)
    assert lines["best here"].get_xdata()[0] == identification.choose_threshold(scores, truth).value


@pytest.mark.parametrize("case", ["all known", "all strangers"])
def test_the_accuracy_of_one_kind_alone_is_drawn_too(case, monkeypatch):
    drawn = []
    monkeypatch.setattr(threshold_panel, "_png", lambda fig: drawn.append(fig) or "")
    threshold_panel.prepare(*CASES[case]).rules["threshold"].image  # noqa: B018
    (line,) = (line for line in drawn[0].axes[1].lines if line.get_label() == "accuracy")
    accuracy = [identification.accuracy(*CASES[case], place) for place in line.get_xdata()]
    np.testing.assert_allclose(line.get_ydata(), accuracy, rtol=0, atol=1e-12)


# --- the panel


def two_rules() -> dict[str, np.ndarray]:
    scores, _ = CASES["both"]
    return {"threshold": scores, "as_norm": scores * 30 - 200, "softmax": scores / 1000}


def test_moving_never_draws(monkeypatch, faces):
    _, truth = CASES["both"]
    widget = threshold_panel.threshold(two_rules(), truth, faces(55, "probe"), faces(6, "gallery"))
    for name in two_rules():
        widget.children[1].value = name
    monkeypatch.setattr(threshold_panel, "_png", lambda fig: pytest.fail("drawn"))
    slider = widget.children[0]
    for name in two_rules():
        widget.children[1].value = name
        for value in np.linspace(slider.min, slider.max, 7):
            slider.value = float(value)
    assert not plt.get_fignums()


def test_every_rule_has_its_own_range_and_begins_at_its_best_threshold():
    _, truth = CASES["both"]
    widget = threshold_panel.threshold(two_rules(), truth)
    slider, selector = widget.children[:2]
    assert list(selector.options) == ["threshold", "as_norm", "softmax"]
    for name in ["threshold", "as_norm", "softmax", "as_norm", "threshold", "softmax"]:
        selector.value = name
        scores = two_rules()[name]
        best = scores.max(1)
        chosen = identification.choose_threshold(scores, truth).value
        assert widget.choice == threshold_panel.Choice(name, chosen)
        assert slider.min < best.min() < best.max() < slider.max
        assert slider.max - slider.min < 1.2 * np.ptp(best) + 0.01 * np.ptp(best)
        assert threshold_panel.describe_threshold(scores, truth, chosen) in widget.words.value
        assert slider.step <= (slider.max - slider.min) / 200
        assert f"rule {name};" in widget.curves.value
        slider.value = slider.min


def test_the_choice_is_where_the_slider_and_the_selector_stand():
    scores, truth = CASES["both"]
    widget = threshold_panel.threshold(two_rules(), truth)
    widget.children[1].value = "as_norm"
    widget.children[0].value = -190.5
    assert widget.choice == ("as_norm", -190.5)
    widget.children[0].value += widget.children[0].step  # what an arrow key does
    value = widget.choice.threshold
    assert value == widget.children[0].value > -190.5
    told = threshold_panel.describe_threshold(two_rules()["as_norm"], truth, value)
    assert told in widget.words.value
    widget.children[1].value = "threshold"
    assert widget.choice == ("threshold", identification.choose_threshold(scores, truth).value)


@pytest.mark.parametrize("case", DRAWN)
def test_every_part_follows_the_slider(case, faces):
    scores, truth = CASES[case]
    paths = faces(scores.shape[0], "probe"), faces(scores.shape[1], "gallery")
    widget = threshold_panel.threshold(scores, truth, probes=paths[0], gallery=paths[1])
    state = threshold_panel.prepare(scores, truth, *paths)
    slider = widget.children[0]
    for value in [slider.value, *np.linspace(slider.min, slider.max, 12).tolist()]:
        slider.value = value
        seen = threshold_panel.view(state, "threshold", slider.value)
        shown = widget.words.value, widget.table.value, widget.faces.value
        assert shown == (seen.words, seen.table, seen.faces)


def test_the_slider_answers_while_it_moves():
    assert threshold_panel.threshold(*CASES["both"]).children[0].continuous_update


def test_one_rule_needs_no_selector():
    assert threshold_panel.threshold(*CASES["both"]).children[1].layout.display == "none"
    assert (
        threshold_panel.threshold(two_rules(), CASES["both"][1]).children[1].layout.display is None
    )


def test_two_panels_do_not_move_each_others_line():
    first, second = (
        threshold_panel.threshold(*CASES["both"]),
        threshold_panel.threshold(*CASES["both"]),
    )
    assert first.mark != second.mark


# --- errors


def test_an_error_in_a_move_would_be_seen(monkeypatch):
    widget = threshold_panel.threshold(two_rules(), CASES["both"][1])

    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(threshold_panel, "view", broken)
    with pytest.raises(ZeroDivisionError):
        widget.children[0].value = widget.children[0].max
    with pytest.raises(ZeroDivisionError):
        widget.children[1].value = "as_norm"
    with pytest.raises(ZeroDivisionError):
        threshold_panel.threshold(*CASES["both"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"truth": np.zeros(3, int)}, "55 probes need as many truths"),
        ({"scores": np.full((55, 6), np.nan)}, "NaN or infinite"),
        ({"probes": [Path("a.jpg")] * 54, "gallery": [Path("a.jpg")] * 6}, "not 54 and 6"),
        ({"probes": [Path("a.jpg")] * 55, "gallery": [Path("a.jpg")] * 7}, "not 55 and 7"),
        ({"probes": [Path("a.jpg")] * 55, "gallery": [Path("a.jpg")] * 6}, "a.jpg: no such file"),
    ],
)
def test_what_does_not_fit_is_refused(change, says):
    scores, truth = CASES["both"]
    with pytest.raises(DataError, match=re.escape(says)):
        threshold_panel.threshold(**({"scores": scores, "truth": truth} | change))


def test_a_threshold_that_is_no_number_is_refused():
    with pytest.raises(DataError, match="NaN"):
        threshold_panel.view(threshold_panel.prepare(*CASES["both"]), "threshold", np.nan)
    with pytest.raises(DataError, match="NaN"):
        threshold_panel.describe_threshold(*CASES["both"], np.nan)


# --- without a kernel (that it moves there is tested in a browser, tests/test_book.py)


def test_what_is_kept_of_a_panel_is_the_page_that_needs_no_kernel(load_build):
    widget = threshold_panel.threshold(two_rules(), CASES["both"][1])
    page = threshold_panel.without_kernel(widget.state)
    build = load_build()
    view = {build.WIDGET: {}, "text/plain": "Panel(children=(...))"}
    for data, kept in [(view | {"text/html": page}, {"text/html": page}), (view, None)]:
        output = nbformat.v4.new_output("display_data", data)
        assert build.is_kept(output) == bool(kept)
        if kept:
            assert build.kept(output, 1, nbformat.v4.new_code_cell()).data == kept
    if hasattr(ipywidgets.Widget, "_repr_mimebundle_"):  # 7 cannot give two forms of a widget
        bundle = widget._repr_mimebundle_()
        assert bundle["text/html"] == page and build.WIDGET in bundle


def test_the_page_is_the_same_for_the_same_scores_and_asks_for_nothing():
    scores, truth = some_scores(320, 40, gallery=300)
    pages = [
        threshold_panel.without_kernel(threshold_panel.prepare(scores, truth)) for _ in range(2)
    ]
    assert pages[0] == pages[1]
    assert not re.search(r"https?:|src=\"(?!data:)", pages[0])
    assert len(pages[0]) < 80_000, "a lesson holds two, one of them of four rules"


def test_the_name_of_a_rule_is_text_on_the_page():
    scores, truth = CASES["both"]
    page = threshold_panel.without_kernel(threshold_panel.prepare({"<b>&": scores}, truth))
    assert "<option>&lt;b&gt;&amp;</option>" in page and "<b>" not in page
