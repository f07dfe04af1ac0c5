"""JupyterLab in a browser without a window: run a notebook there and move its controls.

Nothing here knows a notebook: controls are found on the page, and what a control does is whatever
else changes in its cell, words or pictures. Nothing waits for a fixed time.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from playwright.sync_api import BrowserContext, ElementHandle, Page, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

NAMES = "chromium chromium-browser google-chrome google-chrome-stable chrome msedge".split()
HOST, TOKEN = "127.0.0.1", "facekit"
PATIENCE = 180_000  # ms for a page to show what it must: a slow machine is no failure
RUNNING = 900_000  # ms for a notebook to be run
SETTLE = 2_000  # ms for an answer on the page after the kernel is done; then other keys are tried
WIDTH, TALLEST = 1280, 16_000  # pixels of a picture of a notebook
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {HOST}",  # nothing outside can be reached
]
KINDS = {  # a kind of control: how it is found, and the keys that move it, by a step at first
    "slider": (".noUi-handle", ("ArrowRight", "ArrowLeft", "End", "Home")),
    # Chosen from as by mouse: JupyterLab takes the arrow keys of a focused <select> for itself.
    "selector": (".jupyter-widgets select", ()),
    "box": (".jupyter-widgets input[type=checkbox]", ("Space",)),
    "button": ("button.jupyter-button", ("Enter",)),
}
NEWS = {"fetchNews": "false", "checkForUpdates": False}  # JupyterLab's, from outside

SCRIPT = """
window.facekit = {
  errors: [], done: false,
  panel: () => window.jupyterapp?.shell.currentWidget,
  kernel: () => facekit.panel()?.sessionContext?.session?.kernel,
  run() {
    // Every error that the kernel reports, also where no cell shows it.
    facekit.panel().sessionContext.iopubMessage.connect((_, message) => {
      if (message.header.msg_type === "error")
        facekit.errors.push(`${message.content.ename}: ${message.content.evalue}`);
    });
    jupyterapp.commands.execute("runmenu:run-all").finally(() => { facekit.done = true; });
  },
  cell: control => [...document.querySelectorAll(".jp-Cell")].indexOf(control.closest(".jp-Cell")),
  name(control) {
    const box = control.closest(".widget-inline-hbox, .jupyter-button");
    const label = (box?.querySelector(".widget-label") ?? box)?.textContent.trim();
    return label || facekit.value(control);
  },
  value(control) {
    if (control.matches("select")) return [...control.selectedOptions].map(o => o.text).join();
    if (control.matches("input")) return String(control.checked);
    return control.getAttribute("aria-valuetext");
  },
  // What a control's cell shows besides its controls.
  answer(control) {
    const shown = control.closest(".jp-Cell-outputArea").cloneNode(true);
    const own = "select, input, button, .noUi-target, [contenteditable]";
    shown.querySelectorAll(own).forEach(part =>
      (part.closest(".widget-inline-hbox") ?? part).remove());
    return [shown.textContent, ...[...shown.querySelectorAll("img")].map(i => i.src)].join();
  },
  remember(control) {
    control.facekit = {answer: facekit.answer(control), value: facekit.value(control)};
  },
  moved: control =>
    control.matches("button") || facekit.value(control) !== control.facekit.value,
  changed: control => facekit.answer(control) !== control.facekit.answer,
  // Where the notebook ends, when it begins at the top: cells that were out of sight get drawn.
  async bottom() {
    for (const _ of "12") {
      document.querySelector(".jp-WindowedPanel-outer")?.scrollTo(0, 0);
      await new Promise(next => requestAnimationFrame(() => requestAnimationFrame(next)));
    }
    const cells = [...document.querySelectorAll(".jp-Cell")];
    return Math.ceil(Math.max(400, ...cells.map(c => c.getBoundingClientRect().bottom))) + 40;
  },
  // Twice, since a control that is moved while the kernel is busy sends its last value later.
  async settle() {
    for (const _ of "12") {
      const request = {code: "", silent: true, store_history: false};
      await facekit.kernel().requestExecute(request).done;
      await new Promise(next => requestAnimationFrame(() => requestAnimationFrame(next)));
    }
    return true;
  },
};
"""


def find() -> str | None:
    """The browser of this machine, if it has one that Playwright can drive as it stands."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def here() -> str:
    """The browser to use; without one the test ends here."""
    path = find()
    if path is None and os.environ.get("FACEKIT_BROWSER") != "required":
        pytest.skip("no browser here; with Chromium or Chrome on the PATH the pages are tried")
    assert path, f"FACEKIT_BROWSER=required, and on the PATH is none of {NAMES}"
    return path


# --- the server


class Lab(NamedTuple):
    """A running JupyterLab and the folder of its notebooks."""

    port: int
    folder: Path

    def address(self, name: str) -> str:
        return f"http://{HOST}:{self.port}/lab/tree/{quote(name)}?token={TOKEN}&reset"

    def ask(self, path: str, method: str = "GET") -> bytes:
        headers = {"Authorization": f"token {TOKEN}"}
        request = Request(f"http://{HOST}:{self.port}/api/{path}", headers=headers, method=method)
        with build_opener(ProxyHandler({})).open(request) as answer:
            return answer.read()

    def end_kernels(self) -> None:
        for kernel in json.loads(self.ask("kernels")):
            self.ask(f"kernels/{kernel['id']}", "DELETE")


@contextmanager
def serve(folder: Path, state: Path, **environment: str) -> Iterator[Lab]:
    """JupyterLab on `folder`; all that it writes of its own goes below `state`."""
    lab = Lab(_free_port(), folder)
    flags = {
        "ip": HOST,
        "port": lab.port,
        "ServerApp.port_retries": 0,
        "IdentityProvider.token": TOKEN,
        "ServerApp.root_dir": folder,
        "LabApp.extension_manager": "readonly",
        "LabApp.expose_app_in_browser": True,
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--{name}={value}" for name, value in flags.items()]
    log = state / "server.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            command,
            env=os.environ | _own_folders(state) | environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
        try:
            _wait_for(lab, server, log)
            yield lab
        finally:
            _stop(server)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        return taken.getsockname()[1]


def _own_folders(state: Path) -> dict[str, str]:
    """Where Jupyter keeps what it keeps, and no way out for what a kernel would fetch."""
    news = state / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text(json.dumps(NEWS))
    nowhere = f"http://{HOST}:9"
    return {
        "JUPYTERLAB_SETTINGS_DIR": str(state / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(state / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(state / "config"),
        "JUPYTER_DATA_DIR": str(state / "data"),
        "JUPYTER_RUNTIME_DIR": str(state / "runtime"),
        "IPYTHONDIR": str(state / "ipython"),
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nowhere),
        **dict.fromkeys(("no_proxy", "NO_PROXY"), HOST),
    }


def _wait_for(lab: Lab, server: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + PATIENCE / 1000
    while server.poll() is None and time.monotonic() < end:
        try:
            lab.ask("status")
            return
        except URLError:
            time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


def _stop(server: subprocess.Popen) -> None:
    """Ask the server to end, its kernels with it; a deaf one is killed."""
    server.terminate()  # heeded even where SIGINT is ignored, as in jobs of a shell
    try:
        server.wait(15)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


# --- the browser


@contextmanager
def open_browser(path: str) -> Iterator[BrowserContext]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        context = browser.new_context(viewport={"width": WIDTH, "height": 1400})
        context.set_default_timeout(PATIENCE)
        context.add_init_script(SCRIPT)
        yield context
        browser.close()


@dataclass
class Visit:
    """What was seen of a notebook."""

    errors: list[str] = field(default_factory=list)  # of cells and of callbacks
    console: list[str] = field(default_factory=list)  # what the browser calls an error
    outside: list[str] = field(default_factory=list)  # addresses that the page asked for
    answered: list[str] = field(default_factory=list)  # controls that changed something
    silent: list[str] = field(default_factory=list)  # controls that did not, whatever was tried


class Control(NamedTuple):
    """A control on the page; `cell` is the place of its cell in the notebook."""

    kind: str
    name: str
    cell: int
    element: ElementHandle

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def visit(
    context: BrowserContext,
    lab: Lab,
    name: str,
    picture: Path,
    known: Collection[str] = (),
    settle: float = SETTLE,
) -> Visit:
    """Open a notebook, run it, move every control, keep a picture of it, end its kernel.

    `known`: addresses outside that the page may ask for; it gets no answer. `settle`: see SETTLE.
    """
    seen, page = Visit(), context.new_page()
    _watch(page, lab, seen, known)
    try:
        page.goto(lab.address(name))
        run(page)
        answered, silent = move_all(page, settle)
        seen.answered, seen.silent = list(map(str, answered)), list(map(str, silent))
        seen.errors = _errors(page)
    finally:
        photograph(page, picture)
        page.close()
        lab.end_kernels()
    return seen


def _watch(page: Page, lab: Lab, seen: Visit, known: Collection[str]) -> None:
    """Note what the page asks for elsewhere, and what its console calls an error."""
    here = re.compile(rf"(http|ws)://{re.escape(HOST)}:{lab.port}/|data:|blob:|about:")

    def note_address(url: str) -> None:
        if not here.match(url) and url not in known:
            seen.outside.append(url)

    def note_console(text: str, url: str = "") -> None:
        if url not in known:
            seen.console.append(f"{text} ({url})")

    page.on("request", lambda request: note_address(request.url))
    page.on("websocket", lambda socket: note_address(socket.url))
    page.on("pageerror", lambda error: note_console(str(error)))
    page.on(
        "console",
        lambda said: said.type == "error" and note_console(said.text, said.location["url"]),
    )


def run(page: Page) -> None:
    """Run all cells of the open notebook, as its menu does; that ends at the first error."""
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    page.wait_for_function("facekit.kernel()?.status === 'idle'")
    page.evaluate("facekit.run()")
    page.wait_for_function("facekit.done", timeout=RUNNING)
    wait_for_kernel(page)


def wait_for_kernel(page: Page) -> None:
    """Until it has handled what was sent to it, and the page shows what it answered."""
    page.wait_for_function("facekit.settle()")


def controls(page: Page) -> list[Control]:
    """All that a reader can move."""
    return [
        Control(kind, element.evaluate("facekit.name"), element.evaluate("facekit.cell"), element)
        for kind, (selector, _) in KINDS.items()
        for element in page.locator(f".jp-Notebook :is({selector})").element_handles()
        if element.is_visible()
    ]


def move_all(page: Page, settle: float) -> tuple[list[Control], list[Control]]:
    """Move every control; those that changed what their cell shows, and those that did not.

    Some count for one choice of a selector beside them only, as a plateau's length does: they are
    tried again at each of its options.
    """
    every = controls(page)
    silent = [control for control in every if not answers(page, control, settle)]
    for selector in (control for control in every if control.kind == "selector"):
        for choose in _moves(selector):
            beside = [control for control in silent if control.cell == selector.cell]
            if not beside:
                break
            choose()
            answering = [control for control in beside if answers(page, control, settle)]
            silent = [control for control in silent if control not in answering]
    return [control for control in every if control not in silent], silent


def answers(page: Page, control: Control, settle: float) -> bool:
    """Move a control, by a step at first: does its cell show anything else then?"""
    wait_for_kernel(page)
    control.element.evaluate("facekit.remember")
    for move in _moves(control):
        move()
        wait_for_kernel(page)
        if control.element.evaluate("facekit.moved") and _changed(page, control.element, settle):
            return True
    return False


def _moves(control: Control) -> list[Callable[[], object]]:
    """The ways to move a control, one after the other."""
    element = control.element
    if control.kind == "selector":
        options = range(element.evaluate("select => select.options.length"))
        return [partial(element.select_option, index=option) for option in options]
    return [partial(element.press, key) for key in KINDS[control.kind][1]]


def _changed(page: Page, element: ElementHandle, settle: float) -> bool:
    try:
        page.wait_for_function("facekit.changed", arg=element, timeout=settle, polling=100)
    except PlaywrightTimeout:
        return False
    return True


def _errors(page: Page) -> list[str]:
    shown = page.locator("[data-mime-type='application/vnd.jupyter.error']").all_inner_texts()
    return [*page.evaluate("facekit.errors"), *(text.splitlines()[-1] for text in shown)]


def photograph(page: Page, picture: Path) -> None:
    """The whole notebook, in a window as tall as it, as far as that goes."""
    page.set_viewport_size({"width": WIDTH, "height": TALLEST})
    bottom = page.evaluate("facekit.bottom()")
    picture.parent.mkdir(parents=True, exist_ok=True)
    part = {"x": 0, "y": 0, "width": WIDTH, "height": min(bottom, TALLEST)}
    page.screenshot(path=picture, clip=part, type="jpeg", quality=60)
