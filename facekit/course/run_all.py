"""The whole course in one go: every notebook top to bottom, then the two scores."""

import asyncio
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

from facekit.common import machine
from facekit.common.errors import FacekitError, say
from facekit.common.files import write_whole
from facekit.common.lock import only_one
from facekit.course import lesson
from facekit.sources import open_course
from facekit.submission import form_of

PATIENCE = 30  # seconds that a cell has, once interrupted, to save what it did


class _PlainClient(NotebookClient):
    """nbclient without its stand-in for Output widgets, which now and then waits for ever.

    What a widget's callback prints or raises then lands in the cell's own output.
    """

    stopped = False
    ready = False

    def handle_comm_msg(self, outs, msg, cell_index) -> None:
        return None

    async def async_start_new_kernel(self, **options) -> None:
        """Start it, with our own answer to Ctrl-C: nbclient's would end in "Kernel died"."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError, RuntimeError):  # Windows; not the main thread
                loop.add_signal_handler(number, self.stop, task)
        await super().async_start_new_kernel(**options)

    async def async_start_new_kernel_client(self):
        client = await super().async_start_new_kernel_client()
        self.ready = True
        if self.stopped:
            raise RuntimeError("stopped before the first cell")
        return client

    def stop(self, task: asyncio.Task) -> None:
        """Interrupt the cell, so that training saves; the second time end at once."""
        again = self.stopped
        self.stopped = True
        if not self.ready:  # a kernel that is only starting would complain at length
            return
        if again:
            task.cancel()
            return
        self.interruption = asyncio.ensure_future(self.km.interrupt_kernel())
        asyncio.get_running_loop().call_later(PATIENCE, task.cancel)


def run_all(folder: Path, out: Path | None = None) -> None:
    """Run every notebook of `folder` in order and print a line for each, then the scoreboard.

    Executed copies go to `out` (runs/notebooks). Raises FacekitError at the first that fails,
    and where another process runs them.
    """
    notebooks = sorted(Path(folder).glob("[0-9]*.ipynb"))
    if not notebooks:
        raise FacekitError(f"{folder}: no notebook here; start this in the kit's own folder")
    out = out or machine.runs().value / "notebooks"
    with only_one(out):  # their runs are in each other's way, too
        for number, path in enumerate(notebooks, start=1):
            print(f"[{number}/{len(notebooks)}] {path.stem} ...", end=" ", flush=True)
            began = time.monotonic()
            run_notebook(path, out / path.name)
            print(f"done in {time.monotonic() - began:.0f} s", flush=True)
    data = open_course()
    form = form_of(data)
    paths = {task: lesson.course_run() / name for task, name in form.FILES.items()}
    say("", *form.scoreboard(paths, data))


def run_notebook(path: Path, copy: Path, timeout: float = 4 * 3600) -> None:
    """Run one notebook in its own folder and keep the executed copy, failed or not."""
    machine.fix_folders()  # the kernel works in another folder than this process
    notebook = _read(path)
    client = _PlainClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        _end(client, f"{path}: {error.ename}: {error.evalue}; see {copy}", error)
    except CellTimeoutError as error:
        _end(client, f"{path}: a cell took more than {timeout / 3600:g} hours; see {copy}", error)
    except KeyError as error:  # jupyter's NoSuchKernel
        _end(client, f"{path}: no kernel python3 here; install ipykernel", error)
    except (RuntimeError, asyncio.CancelledError) as error:
        told = f"{path}: its kernel died ({error}), perhaps for lack of memory; see {copy}"
        _end(client, told, error)
    finally:
        write_whole(copy, nbformat.writes(notebook).encode())
    failed = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]
    if failed:
        raise FacekitError(f"{path}: {failed[0].ename}: {failed[0].evalue}; see {copy}")


def _read(path: Path) -> nbformat.NotebookNode:
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except OSError:
        raise
    except Exception as error:  # nbformat lets errors of many kinds through
        raise FacekitError(
            f"{path}: not a notebook (empty, half written, or with git's conflict marks?); "
            "take it anew from the kit"
        ) from error
    return notebook


def _end(client: _PlainClient, text: str, error: BaseException) -> NoReturn:
    """Say why a notebook did not come to its end: it was stopped, or `text`."""
    if client.stopped:
        raise KeyboardInterrupt from error
    raise FacekitError(text) from error
