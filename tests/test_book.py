"""The lessons as a site: made by its command, read in a browser, and no kernel anywhere."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import browser
import nbformat
import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright
from test_browser import BADGES
from test_browser import PROJECT as ABOUT
from test_notebooks import NOTEBOOKS, offline

from facekit.course import threshold_panel
from facekit.evaluation import identification

REPOSITORY = Path(__file__).parents[1]
PLACE = "ann/our-faces"  # the course's address in these tests
LESSONS = [path.stem for path in NOTEBOOKS]
LOOK = """() => ({
  links: [...document.querySelectorAll("a[href]")].map(link => link.href),
  ids: [...document.querySelectorAll("[id]")].map(part => part.id),
  pictures: [...document.images].map(i => ({src: i.src, alt: i.alt, width: i.naturalWidth})),
  text: document.querySelector("main").textContent,
})"""

GAPS = """() => {  // pixels between the texts of neighbouring cells
  const ends = cell => {
    const text = document.createRange();
    text.selectNodeContents(cell);
    return text.getBoundingClientRect();
  };
  const cells = [...document.querySelectorAll("table.dataframe :is(td, th)")];
  return cells.filter(cell => cell.textContent && cell.nextElementSibling?.textContent)
    .map(cell => ends(cell.nextElementSibling).left - ends(cell).right);
}"""


def two_panels() -> list[threshold_panel.State]:
    """One of three rules, whose scores lie elsewhere; one without strangers."""
    numbers = np.random.default_rng(0)
    truth = np.concatenate([numbers.integers(0, 30, 320), np.full(40, -1)])
    scores = numbers.normal(0.2, 0.15, (360, 30))
    scores[np.arange(320), truth[:320]] += 0.25
    rules = {"ties": np.round(scores, 1), "far <below> zero": scores * 1e4 - 1e6}
    first = threshold_panel.prepare({"threshold": scores.astype(np.float32)} | rules, truth)
    return [first, threshold_panel.prepare(scores[:50], truth[:50])]


# --- the site


def command(folder: Path, *arguments: str) -> None:
    """Run a script of the kit in this folder, which cannot reach any other machine."""
    paths = os.pathsep.join([str(offline(folder)), str(folder)])
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    shutil.rmtree(folder / "offline")
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def add_cells(lesson: Path) -> None:
    """Two panels as a lesson keeps them, and a cell that leaves a file where it is run."""
    book = nbformat.read(lesson, as_version=4)
    for state in two_panels():
        page = {"text/html": threshold_panel.without_kernel(state)}
        output = nbformat.v4.new_output("display_data", page)
        book.cells.append(nbformat.v4.new_code_cell("panel", outputs=[output]))
    book.cells.append(nbformat.v4.new_code_cell("open('it was run', 'w')"))
    nbformat.write(book, lesson)


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the kit that has an address, and the site in its folder build/book."""
    folder = tmp_path_factory.mktemp("site") / "my course kit"
    for name in ("benchmarks", "docs", "facekit", "notebooks", "pictures"):
        shutil.copytree(REPOSITORY / name, folder / name)
    for path in filter(Path.is_file, REPOSITORY.iterdir()):
        shutil.copy(path, folder)
    settings = folder / "pyproject.toml"
    settings.write_text(settings.read_text().replace(ABOUT["slug"], PLACE))
    command(folder, "notebooks/build.py")
    add_cells(folder / "notebooks" / f"{LESSONS[0]}.ipynb")
    command(folder, "notebooks/book.py")
    return folder


@pytest.fixture(scope="module")
def html(kit: Path) -> Path:
    return kit / "build" / "book" / "_build" / "html"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = browser.here()
        opened = playwright.chromium.launch(executable_path=path, args=browser.FLAGS)
        yield opened
        opened.close()


@dataclass
class Walk:
    """What was seen of the site; pages by their path in it."""

    pages: dict[str, dict] = field(default_factory=dict)
    outside: set[str] = field(default_factory=set)  # addresses that pages asked for
    errors: list[str] = field(default_factory=list)  # of scripts


@pytest.fixture(scope="module")
def walk(html: Path, chromium: Browser) -> Walk:
    """Every page that is reached from the first by links."""
    seen, page = Walk(), chromium.new_page()
    here = html.as_uri() + "/"

    def note(url: str) -> None:
        if not url.startswith((here, "data:")):
            seen.outside.add(url)

    page.on("request", lambda request: note(request.url))
    page.on("pageerror", lambda error: seen.errors.append(f"{page.url}: {error}"))
    page.goto(f"{here}index.html")
    page.wait_for_url(f"{here}README.html")  # it leads there by itself
    ahead = ["README.html"]
    while ahead:
        path = ahead.pop()
        if path not in seen.pages:
            page.goto(here + path)
            seen.pages[path] = page.evaluate(LOOK)
            links = (urldefrag(link).url for link in seen.pages[path]["links"])
            inside = {unquote(link.removeprefix(here)) for link in links if link.startswith(here)}
            ahead += sorted(path for path in inside if path.endswith(".html"))
    page.close()
    return seen


@pytest.mark.long
def test_every_link_leads_to_a_page_and_a_place_on_it(walk, html):
    followed = 0
    for path, page in walk.pages.items():
        for link in page["links"]:
            url, fragment = urldefrag(link)
            target = unquote(urlsplit(url).path)
            if url.startswith("file:"):
                assert Path(target).is_file(), f"{path}: {link}"
                inside = Path(target).relative_to(html).as_posix()
                if fragment and inside in walk.pages:
                    assert unquote(fragment) in walk.pages[inside]["ids"], f"{path}: {link}"
                followed += 1
    assert followed > 500
    assert {f"notebooks/{lesson}.html" for lesson in LESSONS} < set(walk.pages)


@pytest.mark.long
def test_what_has_no_page_is_linked_in_the_repository(walk, kit):
    found = {}
    address = re.compile(rf"https://github.com/{PLACE}/(blob|tree)/main/([^#]+)")
    for page in walk.pages.values():
        for link in page["links"]:
            if match := address.match(link):
                found[match[2]] = match[1]
    assert found["LICENSE"] == "blob"
    for path, kind in found.items():
        kept = REPOSITORY / path
        assert kept.is_dir() if kind == "tree" else kept.is_file(), path


@pytest.mark.long
@pytest.mark.parametrize("lesson", LESSONS)
def test_each_lesson_has_badges_that_open_it_elsewhere(walk, lesson):
    links = walk.pages[f"notebooks/{lesson}.html"]["links"]
    colab = f"https://colab.research.google.com/github/{PLACE}/blob/main/notebooks/{lesson}.ipynb"
    assert colab in links


@pytest.mark.long
def test_pages_ask_for_nothing_elsewhere_but_badges_and_what_draws_formulas(walk):
    formulas = {address for address in walk.outside if "mathjax" in address}
    assert len(formulas) == 1
    assert walk.outside - formulas == set(BADGES)
    assert walk.errors == []


@pytest.mark.long
def test_every_picture_is_there_and_described(walk):
    pictures = [picture for page in walk.pages.values() for picture in page["pictures"]]
    for picture in pictures:
        assert picture["alt"], picture["src"][:200]
        assert picture["width"] or picture["src"] in BADGES, picture["src"][:200]
    stored = sum(path.read_text().count('"alt": ') for path in NOTEBOOKS)
    assert len(pictures) > stored / 3 > 20


@pytest.mark.long
@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_shows_the_outputs_that_are_committed_and_nothing_was_run(walk, kit, lesson):
    words = " ".join(walk.pages[f"notebooks/{lesson}.html"]["text"].split())
    book = nbformat.read(kit / "notebooks" / f"{lesson}.ipynb", as_version=4)
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    for output in outputs:
        if output.output_type == "stream":
            assert " ".join(output.text.split()) in words
    pictures = [out for out in outputs if {"image/png", "image/jpeg"} & set(out.get("data", {}))]
    shown = walk.pages[f"notebooks/{lesson}.html"]["pictures"]
    assert sum("jupyter_execute" in p["src"] or "/_images/" in p["src"] for p in shown) >= len(
        {next(iter(picture.data.values())) for picture in pictures}
    )
    assert not list(kit.rglob("it was run"))


@pytest.mark.long
def test_a_word_is_found(html, chromium):
    page = chromium.new_page()
    page.goto(f"{html.as_uri()}/search.html?q=cosine")
    page.locator("#search-results a[href*='06_verification']").first.wait_for()
    page.close()


@pytest.mark.long
@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_is_light_or_dark_as_the_reader_has_it_and_fits_on_a_phone(html, chromium, lesson):
    papers = []
    for scheme in ("light", "dark"):
        page = chromium.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
        page.goto(f"{html.as_uri()}/notebooks/{lesson}.html")
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        papers.append(sum(map(int, re.findall(r"\d+", colour)[:3])))
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        if folder := os.environ.get("FACEKIT_SCREENSHOTS"):
            page.screenshot(path=Path(folder, f"site-{lesson}-{scheme}.jpg"), quality=60)
        page.close()
    assert papers[0] > 600 > 150 > papers[1]


@pytest.mark.long
def test_neighbours_in_a_table_do_not_touch(html, chromium):
    page = chromium.new_page()
    page.goto(f"{html.as_uri()}/notebooks/01_data_exploration.html")
    gaps = page.evaluate(GAPS)
    page.close()
    assert len(gaps) > 50 and min(gaps) >= 8


# --- the panel


@pytest.fixture
def panels(html: Path, chromium: Browser) -> Iterator[Page]:
    page = chromium.new_page(viewport={"width": 1280, "height": 1000})
    page.goto(f"{html.as_uri()}/notebooks/{LESSONS[0]}.html")
    yield page
    page.close()


def panel_of(page: Page, state: threshold_panel.State) -> Locator:
    mark = re.search(r'<div id="(facekit-\w+)"', threshold_panel.without_kernel(state))[1]
    return page.locator(f"#{mark}")


def assert_shows(panel: Locator, state: threshold_panel.State, rule: str) -> float:
    """What the scoring says at the slider's threshold, which is returned."""
    decisions = state.rules[rule]
    place = int(panel.locator("input").input_value())
    threshold = decisions.low + place * decisions.step
    scores, truth = decisions.scores, decisions.truth
    words = panel.locator("[aria-live]").inner_text()
    assert words == threshold_panel.describe_threshold(scores, truth, threshold)
    found, named = identification.dir_fpir(scores, truth, threshold)
    accuracy = identification.accuracy(scores, truth, threshold)
    assert f"accuracy {accuracy:.1%} " in words
    assert f"DIR {found:.1%} " in words and f"FPIR {named:.1%})" in words
    seen = threshold_panel.view(state, rule, threshold)
    stored = re.findall(r">([^<>]+)</td>", seen.table)
    assert panel.locator("td").all_text_contents()[2::4] == stored[2::4], "counts"
    assert panel.locator("td").all_text_contents()[3::4] == stored[3::4], "shares"
    line = panel.locator(".facekit-line:visible").evaluate(
        "line => 100 * parseFloat(getComputedStyle(line).left) / line.parentElement.clientWidth"
    )
    expected = 100 * (threshold_panel.LEFT + threshold_panel.WIDTH * seen.line)
    assert line == pytest.approx(expected, abs=0.1), "where the image has the threshold"
    return threshold


@pytest.mark.long
def test_the_panel_moves_without_a_kernel_and_says_what_the_scoring_says(panels):
    state, _ = two_panels()
    panel = panel_of(panels, state)
    for rule in state.rules:
        panel.locator("select").select_option(rule)
        slider = panel.locator("input")
        begun = assert_shows(panel, state, rule)
        assert begun == pytest.approx(state.rules[rule].start, rel=1e-9)
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        middle = box["y"] + box["height"] / 2
        panels.mouse.move(box["x"] + box["width"] / 2, middle)
        panels.mouse.down()
        seen = set()
        for share in np.linspace(0.01, 0.99, 40):
            panels.mouse.move(box["x"] + share * box["width"], middle)
            seen.add(assert_shows(panel, state, rule))
        panels.mouse.up()
        assert len(seen) > 30, "it moved"
        slider.press("End")
        slider.press("ArrowLeft")
        assert_shows(panel, state, rule)


@pytest.mark.long
def test_two_panels_of_a_page_do_not_move_each_other(panels):
    first, second = two_panels()
    before = panel_of(panels, first).inner_text()
    panel = panel_of(panels, second)
    assert not panel.locator("select").is_visible(), "one rule needs no choice"
    for key in ("Home", "ArrowRight", "End"):
        panel.locator("input").press(key)
        assert_shows(panel, second, "threshold")
    assert panel_of(panels, first).inner_text() == before


@pytest.mark.long
def test_without_scripts_the_panel_stands_still_at_the_best_threshold(html, chromium):
    page = chromium.new_page(java_script_enabled=False)
    page.goto(f"{html.as_uri()}/notebooks/{LESSONS[0]}.html")
    state, _ = two_panels()
    panel, rule = panel_of(page, state), state.rules["threshold"]
    words = threshold_panel.describe_threshold(rule.scores, rule.truth, rule.start)
    assert words in panel.inner_text()
    assert panel.locator("img:visible").count() == 1
    assert not panel.locator("input").is_visible()
    page.close()
