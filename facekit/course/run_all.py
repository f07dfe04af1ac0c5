"""The whole course in one go: every notebook top to bottom, then the two scores."""

import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from facekit.common import machine
from facekit.common.errors import FacekitError, say
from facekit.course import lesson
from facekit.sources import open_course
from facekit.submission import pipeline


class _PlainClient(NotebookClient):
    """nbclient without its stand-in for Output widgets, which now and then waits for ever.

    What a widget's callback prints or raises then lands in the cell's own output.
    """

    def handle_comm_msg(self, outs, msg, cell_index) -> None:
        return None


def run_all(folder: Path, out: Path | None = None) -> None:
    """Run every notebook of `folder` in order and print a line for each, then the scoreboard.

    Executed copies go to `out` (runs/notebooks). Raises FacekitError at the first that fails.
    """
    notebooks = sorted(Path(folder).glob("[0-9]*.ipynb"))
    if not notebooks:
        raise FacekitError(f"{folder}: no notebook here; start this in the kit's own folder")
    out = out or machine.runs().value / "notebooks"
    out.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(notebooks, start=1):
        print(f"[{number}/{len(notebooks)}] {path.stem} ...", end=" ", flush=True)
        began = time.monotonic()
        run_notebook(path, out / path.name)
        print(f"done in {time.monotonic() - began:.0f} s", flush=True)
    paths = {task: lesson.course_run() / name for task, name in pipeline.FILES.items()}
    say("", *pipeline.scoreboard(paths, open_course()))


def run_notebook(path: Path, copy: Path, timeout: float = 4 * 3600) -> None:
    """Run one notebook in its own folder and keep the executed copy, failed or not."""
    notebook = nbformat.read(path, as_version=4)
    client = _PlainClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise FacekitError(f"{path}: {error.ename}: {error.evalue}; see {copy}") from error
    finally:
        nbformat.write(notebook, copy)
    failed = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]
    if failed:
        raise FacekitError(f"{path}: {failed[0].ename}: {failed[0].evalue}; see {copy}")
