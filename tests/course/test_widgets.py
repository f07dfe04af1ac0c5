"""Sliders never raise and say what the scoring says; figures have titles and labelled axes."""

import matplotlib as mpl

mpl.use("Agg")  # before pyplot

import itertools
import math
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.cbook import is_math_text
from matplotlib.text import Text
from PIL import Image

from facekit.course import ablations, plots, widgets
from facekit.data.layout import NO_MATCH, SPLITS, ImageSet
from facekit.data.transforms import Preprocess, only
from facekit.deploy import recognise
from facekit.evaluation import embed, identification
from facekit.models import blocks
from facekit.training import History
from facekit.training.recipe import CHOICES


def some_scores(known: int = 20, unknown: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Scores of probes against five identities; right for most that are known."""
    numbers = np.random.default_rng(0)
    truth = np.concatenate([np.arange(known) % 5, np.full(unknown, -1)])
    similarity = numbers.normal(0.2, 0.1, (known + unknown, 5))
    similarity[np.arange(known), truth[:known]] += 0.3
    return similarity.astype(np.float32), truth


CASES = {
    "both": some_scores(),
    "all known": some_scores(20, 0),
    "all unknown": some_scores(0, 10),
    "one probe": some_scores(1, 0),
    "equal scores": (np.full((4, 3), 0.5, np.float32), np.array([0, 1, -1, -1])),
}


@pytest.fixture(autouse=True)
def no_figures_left(monkeypatch):
    """A notebook's plt.show() draws and closes; here it only closes."""
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    yield
    plt.close("all")


@pytest.mark.parametrize("case", CASES)
def test_the_slider_goes_over_its_whole_range_and_says_what_the_scoring_says(case):
    similarity, truth = CASES[case]
    box = widgets.threshold(similarity, truth)
    slider, best = box.children[0], similarity.max(1)
    assert slider.min < best.min()
    assert slider.max > best.max()
    for value in np.linspace(slider.min, slider.max, 12):
        slider.value = float(value)
        said = widgets.describe_threshold(similarity, truth, float(value))
        assert any(said in getattr(part, "value", "") for part in box.children[2:])


@pytest.mark.parametrize("case", CASES)
def test_the_slider_begins_at_the_chosen_threshold(case):
    similarity, truth = CASES[case]
    chosen = identification.choose_threshold(similarity, truth)
    box = widgets.threshold(similarity, truth)
    assert box.children[0].value == box.choice.threshold == chosen.value
    assert f"accuracy {chosen.accuracy:.1%}" in box.words.value


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("threshold", [-1.0, 0.3, 0.5, 1.0])
def test_the_words_hold_the_numbers_of_the_scoring(case, threshold):
    similarity, truth = CASES[case]
    said = widgets.describe_threshold(similarity, truth, threshold)
    found, false = identification.dir_fpir(similarity, truth, threshold)
    accuracy = identification.accuracy(similarity, truth, threshold)
    numbers = re.findall(r"-?[\d.]+%|nan%", said)
    share = np.mean(truth >= 0)
    assert numbers == [
        f"{accuracy:.1%}",
        f"{share:.0%}",
        f"{found:.1%}",
        f"{1 - share:.0%}",
        f"{false:.1%}",
    ]
    assert f"threshold {threshold:.3f}" in said


def test_every_strength_can_be_moved_over_its_range(monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "montage", lambda images, **_: drawn.append(images))
    box = widgets.augmentation(Image.new("RGB", (32, 32), "teal"), Preprocess(24))
    *sliders, _ = box.children
    assert {slider.description for slider in sliders} == set(widgets.STRENGTHS)
    for slider in sliders:
        before = len(drawn)
        for value in (slider.min, (slider.min + slider.max) / 2, slider.max):
            slider.value = value
        assert len(drawn) > before + 1
    for images in drawn:
        assert images.shape == (8, 3, 24, 24)
        assert 0 <= images.min() <= images.max() <= 1


def some_image() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 24, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def changed(epochs: int = 8, **settings: float) -> torch.Tensor:
    return widgets.changed(some_image(), Preprocess(24), only(**settings), epochs)


def test_without_changes_every_epoch_shows_the_image():
    middle = torch.from_numpy(np.asarray(some_image())[3:27].copy()).permute(2, 0, 1) / 255
    torch.testing.assert_close(changed(), middle.expand(8, 3, 24, 24))


@pytest.mark.parametrize("name", ["crop_scale", "rotation", "erasing"])
def test_three_places_of_a_slider_can_be_seen_without_it(name):
    low, high, _ = widgets.STRENGTHS[name]
    rows = widgets.strengths(some_image(), Preprocess(24), name)
    for (label, row), value in zip(rows.items(), (low, (low + high) / 2, high), strict=True):
        assert label == f"{name} {value:g}"
        assert torch.equal(row, changed(**{name: value}))


def test_an_epochs_change_is_the_same_however_many_are_shown():
    assert torch.equal(changed(3, crop_scale=0.5), changed(8, crop_scale=0.5)[:3])
    assert not torch.equal(*changed(2, crop_scale=0.5))


def test_a_stronger_setting_is_the_same_change_and_more_of_it():
    plain, weak, strong = changed(60), changed(60, erasing=0.3), changed(60, erasing=0.8)
    erased = weak != plain
    assert 5 < erased.flatten(1).any(1).sum() < 30
    assert torch.equal(weak[erased], strong[erased])
    assert (strong != plain).flatten(1).any(1).sum() > 40
    weak, strong = changed(60, rotation=5.0), changed(60, rotation=20.0)
    assert ((weak - plain).abs().mean((1, 2, 3)) <= (strong - plain).abs().mean((1, 2, 3))).all()


@pytest.mark.parametrize("by", ["person", "page"])
@pytest.mark.parametrize("split", SPLITS)
def test_the_pages_of_a_split_show_every_image_once(course, split, by):
    pages = widgets.montage_pages(course, split, by)
    count = len(getattr(course, split))
    assert sorted(np.concatenate(pages)) == list(range(count))
    assert 1 <= min(map(len, pages)) <= max(map(len, pages)) <= widgets.EACH
    if by == "page" or split in ("test", "unknown_test"):
        assert len(pages) == -(-count // widgets.EACH)


def test_a_persons_page_shows_that_person_and_who_it_is(course):
    for number, name in enumerate(course.classes):
        paths, names, title = widgets.montage_page(course, "train", "person", number)
        assert {path.parent.name for path in paths} == set(names) == {name}
        assert f"person {number} " in title
    strangers, names, _ = widgets.montage_page(course, "unknown_dev", "person", 0)
    assert set(names) == {NO_MATCH}
    assert len(strangers) == course.unknown_dev.labels.count(NO_MATCH)


def test_where_nobody_is_named_the_files_are(course):
    paths, names, title = widgets.montage_page(course, "test", "person", 0)
    assert title.startswith("test: page 0")
    assert names == [path.name for path in paths]
    assert paths == list(course.test.paths[: widgets.EACH])


def test_a_person_of_many_images_has_one_page():
    paths = [Path(f"{number}.jpg") for number in range(50)]
    one = SimpleNamespace(
        train=ImageSet(Path(), tuple(paths), (0,) * 45 + (1,) * 5), classes=["a", "b"]
    )
    assert [len(page) for page in widgets.montage_pages(one, "train", "person")] == [20, 5]
    assert [len(page) for page in widgets.montage_pages(one, "train", "page")] == [20, 20, 10]


def test_the_montage_slider_goes_over_its_whole_range(course, monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "montage", lambda paths, _, title: shown.append((title, paths)))
    split, by, number, _ = widgets.montages(course).children
    for name, kind in itertools.product(split.options, by.options):
        split.value, by.value = name, kind
        assert number.max == len(widgets.montage_pages(course, name, kind)) - 1
        for place in range(number.max + 1):
            number.value = place
            one = "page" if "test" in name else kind
            assert shown[-1][0] == f"{name}: {one} {place} of 0 ... {number.max}"
    everything = {path for _, paths in shown for path in paths}
    assert everything == {path for name in SPLITS for path in getattr(course, name)}


def test_the_imagined_plateau_is_cut_from_a_third_on():
    lrs = np.array(widgets.schedule_lr("plateau", 30, 2, warmup_epochs=0, plateau_epochs=4))
    lrs = lrs.reshape(30, 2)
    assert (lrs[:, 0] == lrs[:, 1]).all()
    # Accuracies 0 ... 10, and 10 from then on: the fifth in a row without a better one cuts.
    assert list(np.flatnonzero(np.diff(lrs[:, 0])) + 1) == [16, 21, 26]
    np.testing.assert_allclose(lrs[-1] / lrs[0], 1 / 8)


@pytest.mark.parametrize("name", CHOICES["schedule"])
def test_every_schedule_is_shown_with_its_settings(name):
    settings = {"lr": 0.5, "warmup_epochs": 2, "restart_epochs": 5}
    lrs = widgets.schedule_lr(name, 12, 4, **settings)
    assert len(lrs) == 48
    assert max(lrs) == pytest.approx(0.5, rel=0.1)
    if name == "restarts":
        assert lrs[8 : 8 + 20] == lrs[28:48]
    if name == "cosine":
        done = np.arange(40) / 40
        np.testing.assert_allclose(lrs[8:], 0.25 * (1 + np.cos(math.pi * done)))


def drive(box, count: int) -> None:
    """Move every control over its range; a callback's error is raised right here."""
    *controls, _ = box.children
    assert len(controls) == count
    for control in controls:
        if hasattr(control, "options"):
            for option in control.options:
                control.value = (option,) if isinstance(control.value, tuple) else option
        else:
            for value in (control.min, control.max, (control.min + control.max) // 2):
                control.value = value


def test_the_schedules_sliders_go_over_their_whole_range(monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "schedules", lambda lrs, _: drawn.append(lrs))
    drive(widgets.schedule(20), 4)
    assert {name for lrs in drawn for name in lrs} == set(CHOICES["schedule"])
    assert all(len(values) == 200 for lrs in drawn for values in lrs.values())


@pytest.fixture
def two_runs(trained: Path, tmp_path: Path) -> Path:
    for name in ("first", "more/second"):
        shutil.copytree(trained, tmp_path / "runs" / name)
    return tmp_path / "runs"


def test_runs_can_be_picked_and_every_curve_seen(two_runs, monkeypatch, capsys):
    drawn, draw = [], plots.lines

    def noting(frame: pd.DataFrame, *texts: str) -> plt.Figure:
        drawn.append((frame, texts))
        return draw(frame, *texts)

    monkeypatch.setattr(plots, "lines", noting)
    box = widgets.runs(two_runs)
    assert list(drawn[0][0]) == ["first", "more/second"]
    assert drawn[0][1][1] == "dev accuracy"
    capsys.readouterr()
    drive(box, 2)
    assert {label for _, (_, label) in drawn} == {c.replace("_", " ") for c in ablations.CURVES}
    assert "more/second" in capsys.readouterr().out
    box.children[0].value = ()
    assert "2 runs; choose some" in capsys.readouterr().out


def test_a_folder_without_runs_can_be_looked_at(tmp_path, capsys):
    widgets.runs(tmp_path)
    assert "0 runs" in capsys.readouterr().out


ROWS = [
    dict(zip(("epoch", "lr", "train_loss", "train_accuracy", "dev_loss",
              "dev_accuracy"), row, strict=True))
    for row in ((1, 0.1, 2.0, 0.2, 2.1, 0.1), (2, 0.2, 1.0, 0.6, 1.5, 0.4))
]  # fmt: skip


def titles(fig: plt.Figure) -> list[str]:
    return [place.get_title() for place in fig.axes]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.bars({"n000001": 3, "n000002": 5}, "Images", "count"),
        lambda: plots.curves(History(ROWS), 0.1),
        lambda: plots.schedules({"up": [0.1, 0.2, 0.1], "flat": [0.1]}, 2),
        lambda: plots.bars(pd.DataFrame({"a": {"x": 1, "y": 2}, "b": {"x": 3}}), "Two", "count"),
    ],
    ids=["bars", "curves", "schedules", "bars of a table"],
)
def test_a_chart_is_a_figure_with_titles_and_labelled_axes(draw):
    fig = draw()
    assert isinstance(fig, plt.Figure)
    assert all(titles(fig))
    assert all(place.get_ylabel() for place in fig.axes)
    fig.canvas.draw()


def test_the_curves_are_those_of_the_history():
    losses, accuracies = plots.curves(History(ROWS), chance=0.25).axes
    for place, kind in ((losses, "loss"), (accuracies, "accuracy")):
        lines = {line.get_label(): line for line in place.lines}
        for split in ("train", "dev"):
            expected = [row[f"{split}_{kind}"] for row in ROWS]
            assert list(lines[split].get_xdata()) == [1, 2]
            assert list(lines[split].get_ydata()) == expected
    assert set(lines["chance"].get_ydata()) == {0.25}
    (best,) = (line for line in accuracies.lines if line.get_label() == "best dev")
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (2, 0.4)


def test_with_pairs_the_curves_have_their_accuracy_too():
    rows = [
        row | {"dev_eer": rate, "dev_auc": 0.9} for row, rate in zip(ROWS, (0.3, 0.2), strict=True)
    ]
    lines = plots.curves(History(rows), chance=0.25).axes[1].lines
    (pairs,) = (line for line in lines if line.get_label() == "pairs, 1 - EER")
    assert list(pairs.get_ydata()) == [0.7, 0.8]


def test_lines_may_be_of_unequal_length_and_have_marks():
    frame = pd.DataFrame({"long": [1.0, 2.0, 3.0], "short": [5.0, np.nan, np.nan]})
    place = plots.lines(frame.rename_axis("x"), "Two", "y", {"here": 1.5}, log=True).axes[0]
    lines = {line.get_label(): line for line in place.lines}
    assert list(lines["long"].get_ydata()) == [1, 2, 3]
    assert list(lines["short"].get_xdata()) == [0]
    assert set(lines["here"].get_xdata()) == {1.5}
    assert (place.get_xlabel(), place.get_ylabel(), place.get_xscale()) == ("x", "y", "log")


def test_the_rates_of_a_run_stand_at_their_epochs():
    (place,) = plots.schedules({"a": [3.0, 2.0, 1.0, 0.5], "b": [1.0]}, 2).axes
    first, second = place.lines
    assert list(first.get_xdata()) == [0, 0.5, 1, 1.5]
    assert list(first.get_ydata()) == [3, 2, 1, 0.5]
    assert list(second.get_xdata()) == [0]


def test_a_table_has_a_bar_for_each_number():
    frame = pd.DataFrame({"a": {"x": 1.0, "y": 2.0}, "b": {"x": 3.0, "y": 4.0}})
    (place,) = plots.bars(frame, "Two", "count").axes
    heights = [[bar.get_height() for bar in group] for group in place.containers]
    assert heights == [[1, 2], [3, 4]]
    assert [label.get_text() for label in place.get_xticklabels()] == ["x", "y"]


def test_chance_is_a_line_across_with_a_name():
    for counts in ({"x": 1.0, "y": 2.0}, pd.DataFrame({"a": {"x": 1.0, "y": 2.0}})):
        (place,) = plots.bars(counts, "Right", "share", chance=0.25).axes
        (line,) = place.lines
        assert set(line.get_ydata()) == {0.25}
        assert "chance" in [text.get_text() for text in place.get_legend().get_texts()]
    assert plots.bars({"x": 1.0}, "Right", "share").axes[0].get_legend() is None


def test_many_names_do_not_lie_on_each_other():
    names = [f"a rather long name {number}" for number in range(10)]
    fig = plots.bars(dict.fromkeys(names, 1.0), "Many", "count")
    fig.canvas.draw()
    angles = {label.get_rotation() for label in fig.axes[0].get_xticklabels()}
    assert angles == {45}


class Page:
    """What a notebook would show: each display with all the figures that it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: list[list[plt.Figure]] = []
        module = SimpleNamespace(get_ipython=object, display=SimpleNamespace(display=self.display))
        monkeypatch.setitem(sys.modules, "IPython", module)

    def display(self, fig: plt.Figure, display_id: bool) -> SimpleNamespace:
        assert display_id
        self.shown.append([fig])
        return SimpleNamespace(update=self.shown[-1].append)


def test_live_curves_are_one_figure_that_is_redrawn(monkeypatch):
    page, ticks = Page(monkeypatch), itertools.count()
    monkeypatch.setattr(plots.time, "monotonic", lambda: next(ticks))
    live = plots.LiveCurves(0.1)
    for _ in range(40):
        live(History(ROWS[:1]))
    (figures,) = page.shown
    assert 2 <= len(figures) <= 8, "drawing takes a tenth of the time"
    live.show(History(ROWS))
    assert list(figures[-1].axes[0].lines[0].get_ydata()) == [2.0, 1.0]
    assert not plt.get_fignums(), "or each would be shown again at the end of the cell"


def test_outside_of_a_notebook_nothing_is_drawn(monkeypatch, capsys):
    monkeypatch.setattr(plots, "curves", lambda *_: pytest.fail("drawn"))
    for module in (None, SimpleNamespace(get_ipython=lambda: None)):
        monkeypatch.setitem(sys.modules, "IPython", module)
        plots.LiveCurves(0.1)(History(ROWS))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("count", [1, 7, 12])
def test_a_montage_shows_every_image_once(count):
    images = torch.rand(count, 3, 8, 8)
    fig = plots.montage(images, [f"p{i}" for i in range(count)], columns=5, title="Faces")
    shown = [place for place in fig.axes if place.images]
    assert [place.get_title() for place in shown] == [f"p{i}" for i in range(count)]
    assert fig.get_suptitle() == "Faces"
    for place, image in zip(shown, images, strict=True):
        np.testing.assert_allclose(place.images[0].get_array(), image.permute(1, 2, 0))


@pytest.mark.parametrize("name", [r"$\frac{Ann$", "a$b$c", "_$", r"5\$"])
def test_names_with_dollars_are_shown_as_they_are(name):
    """Two of them would enclose mathematics, and what is none of that ends the figure."""
    images = torch.zeros(1, 3, 8, 8)
    for fig in (
        plots.montage(images, [name], title=name),
        plots.rows_of_images({name: images}, title=name),
        plots.bars({name: 1.0}, title=name, label="count"),
        plots.bars(pd.DataFrame({"runs": [1.0]}, index=[name]), title=name, label="count"),
    ):
        fig.canvas.draw()
        drawn = [text for text in fig.findobj(Text) if "$" in text.get_text()]
        assert drawn
        assert not any(is_math_text(text.get_text()) for text in drawn)


def test_a_montage_takes_files_too(course):
    paths = course.test.paths[:3]
    fig = plots.montage(paths, columns=3)
    for place, path in zip(fig.axes, paths, strict=True):
        assert np.array_equal(place.images[0].get_array(), np.asarray(Image.open(path)))


def test_rows_of_images_are_named():
    fig = plots.rows_of_images({"one": torch.rand(3, 3, 8, 8), "two": torch.rand(2, 3, 8, 8)})
    assert sum(bool(place.images) for place in fig.axes) == 5
    assert [place.get_ylabel() for place in fig.axes if place.get_ylabel()] == ["one", "two"]


def test_feature_maps_are_scaled_each_to_its_own_range():
    features = torch.stack([torch.rand(6, 6) * 100, torch.rand(6, 6) - 5, torch.full((6, 6), 3.0)])
    fig = plots.feature_maps(features, "Stage 1")
    shown = [place.images[0].get_array() for place in fig.axes if place.images]
    assert [(array.min(), array.max()) for array in shown] == [
        (0, pytest.approx(1)),
        (0, pytest.approx(1)),
        (0, 0),
    ]
    assert fig.get_suptitle() == "Stage 1"


def test_every_block_can_be_explored_over_the_whole_range(capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "layers", lambda table, title: drawn.append(title))
    *controls, output = widgets.block(8).children
    name, channels, out, stride, se = controls
    for choice in name.options:
        name.value = choice
        for control in (channels, out, stride, se):
            for value in (control.max, control.min, control.value):
                control.value = value
        assert not [o for o in output.outputs if o.output_type == "error"]
    assert {f"A block {choice!r}" for choice in name.options} == set(drawn)
    assert [type(c).__name__ for c in controls] == ["Dropdown"] + ["IntSlider"] * 4


@pytest.mark.parametrize("name", blocks.BLOCKS)
@pytest.mark.parametrize("se", [0, 8])
def test_the_explorer_shows_the_block_that_is_asked_for(name, se):
    table = widgets.block_table(name, 16, 32, 2, se, 8)
    assert table["output"]["all"] == "32x4x4"
    excited = any("weigh" in layer for layer in table.index)
    assert excited == (se > 0 and name in ("residual", "bottleneck", "inverted", "fused"))


def test_a_blocks_layers_are_drawn_in_their_order_with_their_counts():
    table = widgets.block_table("residual", 16, 32, 2, 8, 8)
    for place, column in zip(plots.layers(table, "A block").axes, table.columns[1:], strict=True):
        widths = [bar.get_width() for bar in place.patches]
        assert widths == list(table[column].drop("all"))[::-1]
        assert f"{table.loc['all', column]:,}" in place.get_title()
    assert "A block" in place.figure.get_suptitle()


SHARES = np.linspace(0, 1, 6)
SCALES = (1.0, 16.0, 64.0)


def test_the_margins_sliders_go_over_their_whole_range(monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "lines", lambda *_: None)
    monkeypatch.setattr(plots, "regions", lambda maps, *_: drawn.append(maps))
    drive(widgets.margin(), 2)
    assert len(drawn) >= 5
    for maps in drawn:
        assert len(maps) == 4
        for owner, sure in maps.values():
            assert owner.min() >= -1
            assert owner.max() <= 3
            assert ((sure >= 0) & (sure <= 1)).all()
            assert ((sure == 0) == (owner < 0)).all()


def test_the_own_logit_is_that_of_the_papers():
    share, scale = 0.4, 10.0
    angle = np.deg2rad(widgets.DEGREES)
    plain, arc, cos, soft = widgets.own_logits(share, scale).values()
    margin = share * np.pi / 2
    inside = angle <= np.pi - margin
    np.testing.assert_allclose(plain, scale * np.cos(angle), atol=1e-9)
    np.testing.assert_allclose(arc[inside], scale * np.cos(angle + margin)[inside], atol=1e-3)
    np.testing.assert_allclose(cos, scale * (np.cos(angle) - share), atol=1e-9)
    half = angle <= np.pi / 2
    np.testing.assert_allclose(soft[half], scale * np.cos(2 * angle)[half], atol=1e-9)


def away(degrees: np.ndarray) -> np.ndarray:
    """The angle to each class vector (..., C), 0 ... 180 degrees."""
    return abs((degrees[..., None] - np.rad2deg(widgets.CORNERS) + 180) % 360 - 180)


@pytest.mark.parametrize("share", SHARES)
def test_a_face_is_somebodys_where_its_angle_with_the_margin_is_the_least(share):
    ticks = np.linspace(-widgets.REACH, widgets.REACH, widgets.SIDE)
    angles = away(np.rad2deg(np.arctan2(ticks[:, None], ticks[None])))  # (SIDE, SIDE, C)
    nearest = angles.argmin(-1)
    own, second = np.sort(angles, -1)[..., :2].transpose(2, 0, 1)
    cosines = np.cos(np.deg2rad(own)), np.cos(np.deg2rad(second))
    room = {"no margin": second - own, "ArcFace": second - own - share * 90}
    room["CosFace"] = cosines[0] - share - cosines[1]
    maps = widgets.margin_regions(share, 16.0)
    for (head, gap), name in zip(room.items(), list(maps)[:3], strict=True):
        assert name.startswith(head)
        clear = abs(gap) > 1e-6  # off the borders, where rounding decides
        assert clear.mean() > 0.99
        assert (maps[name][0] == np.where(gap > 0, nearest, -1))[clear].all()


@pytest.mark.parametrize("scale", SCALES)
def test_a_larger_margin_leaves_less_room_and_a_scale_only_makes_surer(scale):
    rooms = []
    for share in SHARES:
        maps = list(widgets.margin_regions(share, scale).values())
        rooms.append([(owner >= 0).sum() for owner, _ in maps])
        other = list(widgets.margin_regions(share, 2 * scale).values())
        for (owner, sure), (again, surer) in zip(maps[:3], other[:3], strict=True):
            assert (owner == again).all()
            assert (surer >= sure - 1e-12).all()
    rooms = np.array(rooms)
    assert (np.diff(rooms, axis=0) <= 0).all()
    assert (rooms[0] == widgets.SIDE**2).all()
    assert (rooms[-1][1:3] < 0.2 * widgets.SIDE**2).all()


def test_a_heat_map_has_each_number_on_its_tint():
    table = pd.DataFrame([[0, 4], [1, 2]], ["a", "b"], ["c", "d"])
    (place,) = plots.heat_map(table, "t").axes
    assert (place.images[0].get_array() == table.to_numpy()).all()
    written = {text.get_position(): text.get_text() for text in place.texts}
    assert written == {(0, 0): "0", (1, 0): "4", (0, 1): "1", (1, 1): "2"}
    assert [label.get_text() for label in place.get_xticklabels()] == ["c", "d"]


def test_leaders_are_dots_in_per_cent():
    scores = np.array([[0.5, 0.4], [0.6, 0.35]])
    (place,) = plots.leaders(scores, 0.45).axes
    np.testing.assert_allclose(np.stack(place.lines[0].get_data(), 1), 100 * scores)


def test_regions_are_painted_in_their_owners_colour_and_white_where_there_is_none():
    owner, sure = np.array([[0, 1], [-1, 1]]), np.array([[1.0, 0.5], [0.0, 1.0]])
    fig = plots.regions({"a": (owner, sure)}, np.eye(2), 1.0)
    (place,) = fig.axes
    image = place.images[0].get_array()
    blue, orange = (np.array(mpl.colors.to_rgb(colour)) for colour in plots.COLOURS[:2])
    np.testing.assert_allclose(image[0], [blue, (1 + orange) / 2])
    np.testing.assert_allclose(image[1], [np.ones(3), orange])
    assert "25%" in place.get_xlabel()
    assert place.get_title() == "a"


def test_the_recogniser_enrols_recognises_and_refuses(trained, course, capsys):
    enrolled = recognise.enrol(embed.load_run(trained, "cpu"), course)
    probe, known = course.unknown_dev.paths[0], course.known.paths[0]
    box = widgets.recogniser(enrolled, [probe, known])
    field, button = box.children[0].children
    which, threshold, people, _ = box.children[1:]
    assert people.value == "9 people, 9 images enrolled"
    threshold.value = threshold.max
    assert "nobody we know" in capsys.readouterr().out.splitlines()[-1]
    button.click()  # without a name nobody is enrolled
    assert people.value == "9 people, 9 images enrolled"
    field.value, threshold.value = "Ann $ \x1b[31m", threshold.min
    button.click()
    assert people.value == "10 people, 10 images enrolled"
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith(f"{probe.name}: Ann $ ") and "\x1b" not in said
    which.value, field.value = known, "Ann $ \x1b[31m"
    button.click()
    assert people.value == "10 people, 11 images enrolled"
    plt.close("all")
