"""The page that looks faces up in a browser: its folder, and what a reader sees of it."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import browser
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from facekit.common.errors import DataError
from facekit.data.images import read_rgb
from facekit.deploy import demo_page
from facekit.evaluation import embed, identification
from facekit.submission import pipeline

NOBODY = "nobody we know"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer((browser.HOST, 0), partial(Quiet, directory=folder))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{browser.HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def opened(folder: Path) -> Iterator[Page]:
    """The page, loaded; it may ask for nothing elsewhere and have no error."""
    faults = []
    with served(folder) as address, browser.open_browser(browser.here()) as context:
        page = context.new_page()
        page.on("request", lambda r: r.url.startswith((address, "blob:")) or faults.append(r.url))
        page.on("console", lambda m: m.type == "error" and faults.append(m.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(address)
        expect(page.locator("#state")).to_contain_text("Ready", timeout=browser.PATIENCE)
        yield page
    assert not faults


@pytest.fixture(scope="module")
def folder(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of `trained`, made by the command."""
    browser.here()
    if shutil.which("npm") is None and os.environ.get("FACEKIT_BROWSER") != "required":
        pytest.skip("no npm here, which brings what runs the network in a browser")
    out = tmp_path_factory.mktemp("page") / "page"
    command = [sys.executable, "-m", "facekit", "export", trained, "--page", out]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done
    return out


@pytest.fixture(scope="module")
def dev(trained: Path, course) -> pipeline.Verification:
    return pipeline.verify_dev(embed.load_run(trained, "cpu"), course)


def wait(page: Page) -> None:
    expect(page.locator("#state")).to_have_text("Done.", timeout=browser.PATIENCE)


def ranks(page: Page) -> tuple[list[str], list[float]]:
    """Names and scores of the table, best first."""
    rows = [row.locator("td").all_inner_texts() for row in page.locator("#ranks tr").all()]
    return [row[-3] for row in rows], [float(row[-2]) for row in rows]


def check_ranks(page: Page, scores: np.ndarray, identities: list[str]) -> None:
    order = np.argsort(-scores, kind="stable")[:5]
    names, shown = ranks(page)
    assert names == [identities[place] for place in order]
    np.testing.assert_allclose(shown, scores[order], atol=1e-3)


@pytest.mark.long
def test_the_page_ranks_probes_as_the_kit_does(folder, dev):
    known, strangers = np.flatnonzero(dev.truth >= 0)[:3], np.flatnonzero(dev.truth < 0)[:3]
    with opened(folder) as page:
        probes = page.locator("#probes button")
        assert probes.count() == len(known) + len(strangers)
        for place, row in enumerate((*known, *strangers)):
            probes.nth(place).click()
            wait(page)
            check_ranks(page, dev.scores[row], dev.identities)
            answer = identification.identify(
                dev.scores[[row]], dev.identities, dev.threshold.value
            )[0]
            said = page.locator("#said").inner_text()
            assert said.startswith(answer if answer in dev.identities else NOBODY)
        if pictures := os.environ.get("FACEKIT_SCREENSHOTS"):
            page.screenshot(path=Path(pictures, "demo_page.png"), full_page=True)


@pytest.mark.long
def test_the_threshold_turns_a_name_into_nobody_and_back(folder, dev):
    with opened(folder) as page:
        slider = page.get_by_label("Threshold")
        page.locator("#probes button").first.click()
        wait(page)
        shown = float(page.locator("#value").inner_text())
        assert shown == pytest.approx(dev.threshold.value, abs=1e-3)
        slider.press("End")
        expect(page.locator("#said")).to_contain_text(NOBODY)
        assert set(page.locator("#ranks tr td:last-child").all_inner_texts()) == {"no"}
        slider.press("Home")
        expect(page.locator("#said")).to_contain_text(ranks(page)[0][0])
        assert set(page.locator("#ranks tr td:last-child").all_inner_texts()) == {"yes"}


@pytest.mark.long
def test_a_file_of_any_size_is_looked_up_and_a_bad_one_is_told(folder, trained, dev, tmp_path):
    content = np.random.default_rng(0).integers(0, 256, (90, 70, 4), np.uint8)
    Image.fromarray(content[..., :3]).save(tmp_path / "face.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    run = embed.load_run(trained, "cpu")
    small = run.preprocess.resize()(read_rgb(tmp_path / "face.png"))
    scores = identification.similarity(embed.embed(run, small[None]), dev.evidence.gallery)[0]
    with opened(folder) as page:
        page.locator("#file").set_input_files(tmp_path / "bad.png")
        expect(page.locator("#state")).to_contain_text("no image that the browser can open")
        page.locator("#file").set_input_files(tmp_path / "face.png")
        wait(page)
        check_ranks(page, scores, dev.identities)


@pytest.mark.long
def test_a_name_is_text_and_nothing_else(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "page")
    facts = json.loads((tmp_path / "page/gallery.json").read_text())
    facts["names"] = ["<img src=x onerror=\"document.title='run'\">"] * len(facts["names"])
    (tmp_path / "page/gallery.json").write_text(json.dumps(facts))
    with opened(tmp_path / "page") as page:
        page.locator("#probes button").first.click()
        wait(page)
        assert ranks(page)[0] == facts["names"][:5]
        assert page.title() != "run"


# --- the folder


@pytest.fixture
def without_npm(monkeypatch) -> None:
    monkeypatch.setattr(
        demo_page, "_runtime", lambda: dict.fromkeys(demo_page.RUNTIME_FILES, b"runtime")
    )


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_photographs_are_on_the_page_only_where_they_are_asked_for(
    copy_of_course, trained, tmp_path, without_npm
):
    run, out = embed.load_run(trained, "cpu"), tmp_path / "page"
    data = run.course_data(copy_of_course)
    demo_page.write(run, data, out, b"net")
    assert len(list((out / "images").glob("known-*"))) == len(data.known)  # of made people
    manifest = copy_of_course / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"source": "folder"}))
    demo_page.write(run, data, out, b"net")
    assert not any("images" in name for name in files_of(out))
    assert "images/" not in (out / "gallery.json").read_text()
    demo_page.write(run, data, out, b"net", photographs=True)
    assert len(list((out / "images").glob("known-*"))) == len(data.known)


def test_the_folder_holds_embeddings_and_the_threshold_that_was_kept(
    copy_of_run, course, tmp_path, without_npm
):
    run, out = embed.load_run(copy_of_run, "cpu"), tmp_path / "page"
    pipeline.keep_decision(copy_of_run, "threshold", 0.125)
    demo_page.write(run, course, out, b"net")
    facts = json.loads((out / "gallery.json").read_text())
    vectors = np.frombuffer((out / "gallery.bin").read_bytes(), "<f4").reshape(-1, facts["length"])
    np.testing.assert_allclose(vectors, embed.embed(run, course.known.paths), atol=1e-6)
    assert facts["names"] == list(course.known.labels)
    assert facts["threshold"] == 0.125
    pipeline.keep_decision(copy_of_run, "gap", 0.125)  # of another rule's scores
    demo_page.write(run, course, out, b"net")
    facts = json.loads((out / "gallery.json").read_text())
    assert facts["threshold"] == pipeline.verify_dev(run, course).threshold.value


def test_a_folder_of_something_else_stays_as_it_is(
    trained, course, tmp_path, without_npm, unchanged
):
    (tmp_path / "index.html").write_text("mine")
    with unchanged(tmp_path), pytest.raises(DataError, match="holds something else"):
        demo_page.write(embed.load_run(trained, "cpu"), course, tmp_path, b"net")


def test_data_with_pairs_has_no_gallery_to_show(trained, pair_course, tmp_path):
    with pytest.raises(DataError, match="has pairs and no gallery"):
        demo_page.write(embed.load_run(trained, "cpu"), pair_course, tmp_path / "page", b"net")
    assert not (tmp_path / "page").exists()


def test_a_runtime_that_is_not_the_known_one_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz"):
        pass
    monkeypatch.setattr(demo_page, "_packed", lambda path: packed.getvalue())
    with pytest.raises(DataError, match=r"not the onnxruntime-web@\S+ that this kit knows"):
        demo_page._runtime()
    assert not list(tmp_path.iterdir())


def test_without_npm_it_says_where_the_file_is_wanted(monkeypatch, tmp_path):
    monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"npm, .* is not here; .*onnxruntime-web-[\d.]+\.tgz"):
        demo_page._runtime()


def test_the_command_wants_something_to_write(trained, refused):
    assert "--onnx FILE, --page FOLDER" in refused("export", trained)
