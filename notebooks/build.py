"""Two forms of every lesson from one source: python notebooks/build.py [--run | --check].

    source/NN_name.py      what is written by hand: cells in jupytext's percent format
    NN_name.ipynb          the lesson to read and work in: outputs, and a stub for each exercise
    solutions/NN_name.ipynb  the same with the solutions, without outputs

Where the code of a lesson changed, its outputs are dropped, and `--run` runs it and keeps what it
shows. `--check` writes nothing and says what is out of step. `--release FOLDER` makes the copy
of the kit that students get, without sources and solutions; with `--hidden` its exercises check
themselves without references.

In a source, `### BEGIN SOLUTION` and `### END SOLUTION` stand round what a student has to write.
A heading `### Exercise: ...` gets its number. `alt="..."` in a cell's first line describes its
picture to those who do not see it.
"""

import argparse
import base64
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from jsonschema import ValidationError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell
from PIL import Image

from facekit.common.files import write_whole

HERE = Path(__file__).parent
REPOSITORY = HERE.parent
FORMS = {"lesson": "", "solutions": "solutions"}
SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n(.*?)^ *### END SOLUTION\n?", re.M | re.S)
STUB = "...  # your code\n"
WIDGET = "application/vnd.jupyter.widget-view+json"
KEPT = ("image/png", "image/jpeg", "text/html", "text/plain")
PLACE = "~/facekit"
BUDGET = 1_000_000  # bytes of a notebook with its outputs
SMALL = 30_000  # letters of a picture that is kept as it was drawn
FEW = 64  # colours, which lines and bars need
MANY = 5000  # colours, which photographs have and lines have not
QUALITY = 30  # of a JPEG with two pixels for one
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
STUDENTS_LACK = (
    *("notebooks/source", "notebooks/solutions", "notebooks/build.py", "notebooks/book.py"),
    "notebooks/graders.py",
    *("tests/", ".ci/", ".github/", "docs/instructors.md", "CONTRIBUTING.md"),
)
CLONE = re.compile(r"git clone \S+")
# In an address that is not filled in; GitHub lets nobody have a name with an underscore.
NOBODY = "YOUR_COURSE"
# What the first cell does where there is no kit: fetch it, once it is known from where.
FETCH = """\
    address = "{repository}"  # Colab, Kaggle
    !git clone -q --depth 1 -b {branch} $address facekit-kit
    kits = ["facekit-kit"]"""
NOWHERE = """\
    told = "put it into pyproject.toml, [tool.facekit]; run notebooks/build.py"
    raise ImportError(f"this copy does not say yet where it lives: {told}")"""
# Of the README: the section for instructors, the commands that run tests, and their folder.
NOT_FOR_STUDENTS = re.compile(
    r"^## For instructors\n.*?(?=^## )|^(make (test|book)|pytest|tests/)[^\n]*\n", re.M | re.S
)


def sources() -> list[Path]:
    return sorted((HERE / "source").glob("[0-9]*.py"))


def settings() -> dict[str, str]:
    """Where the course lives, from pyproject.toml: the one place for badges and first cell."""
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["facekit"]


def build(source: Path, form: str) -> NotebookNode:
    """The notebook of one form, without outputs."""
    book = jupytext.read(source, fmt="py:percent")
    number, cells = int(source.stem[:2]), []
    for cell in book.cells:
        cell.source = cell.source.rstrip("\n")
        if cell.cell_type == "markdown":
            cell.source = number_exercises(cell.source, number, cells)
            if FORMS[form]:  # one folder further down
                cell.source = cell.source.replace("](../", "](../../")
        elif "### BEGIN SOLUTION" in cell.source:
            cell.source = fill(cell.source, form)
        cells.append(cell)
    cells[1:1] = [new_markdown_cell(badges(source.stem, form)), new_code_cell(first_cell())]
    book.cells, book.metadata = cells, NotebookNode(METADATA)
    book.nbformat_minor = 5
    name_cells(book)
    return book


def number_exercises(text: str, number: int, before: list[NotebookNode]) -> str:
    """`### Exercise: ...` becomes `### Exercise 3.1: ...`."""
    heading = "### Exercise"
    if f"\n{heading}: " in text:
        raise ValueError(f"an exercise begins in the middle of a cell:\n{text}")
    count = 1 + sum(cell.source.startswith(f"{heading} ") for cell in before)
    return text.replace(f"{heading}: ", f"{heading} {number}.{count}: ", 1)


def fill(code: str, form: str) -> str:
    """An exercise's cell with its solution, or with a stub in its place."""
    if code.count("### BEGIN SOLUTION") != len(SOLUTION.findall(code)):
        raise ValueError(f"a solution without an end:\n{code}")
    stub = form == "lesson"
    return SOLUTION.sub(lambda m: m[1] + STUB if stub else m[2], code + "\n").rstrip("\n")


def name_cells(book: NotebookNode) -> None:
    """Ids that stay while the cell's text stays."""
    seen: dict[str, int] = {}
    for cell in book.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest + (f"-{seen[digest]}" if seen[digest] > 1 else "")


def badges(stem: str, form: str) -> str:
    """Where else this notebook can be opened, and what its form is."""
    place = "/".join(filter(None, ("notebooks", FORMS[form], f"{stem}.ipynb")))
    where = settings() | {"place": place}
    links = " ".join(
        f"[![{host}]({address['badge']})]({address['open'].format(**where)})"
        for host, address in where["badges"].items()
    )
    if NOBODY in where["slug"]:  # badges would lead nowhere
        links = (
            f"{', '.join(where['badges'])}: this copy does not say yet where it lives. Write that "
            "into `pyproject.toml`, `[tool.facekit]`, then run `python notebooks/build.py`."
        )
    forms = {
        "lesson": "Read it, run it, and write your code where a cell says `# your code`: the line "
        "below that cell tells you whether it is right.",
        "solutions": f"These are the solutions of [the lesson](../{stem}.ipynb).",
    }
    return f"{links}\n\n{forms[form]}"


def first_cell() -> str:
    """The same in every notebook: fetch the kit where there is none, look where we are."""
    where = settings()
    fetch = NOWHERE if NOBODY in where["repository"] else FETCH.format(**where)
    text = (HERE / "source" / "first_cell.txt").read_text()
    return text.format(fetch=fetch).rstrip("\n")


def readme() -> str:
    """The README as it should stand on the disk: with the course's own address."""
    text = (REPOSITORY / "README.md").read_text()
    return CLONE.sub(f"git clone {settings()['repository']}", text)


def code_hash(book: NotebookNode) -> str:
    """Of all code but the first cell, which shows the same wherever the kit is fetched from."""
    code = "\0".join([cell.source for cell in book.cells if cell.cell_type == "code"][1:])
    return hashlib.sha256(code.encode()).hexdigest()


# --- outputs


def take_outputs(book: NotebookNode, done: NotebookNode) -> None:
    """Give the cells of `book` the outputs of the same cells in `done`."""
    run = [cell for cell in done.cells if cell.cell_type == "code"]
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    for count, (cell, other) in enumerate(zip(code, run, strict=True), start=1):
        cell.execution_count = count
        cell.outputs = [kept(out, count, cell) for out in other.outputs if is_kept(out)]
    book.metadata["facekit"] = {"code": code_hash(book)}


def is_kept(output: NotebookNode) -> bool:
    """Not errors, progress and warnings, or widgets that show nothing without a kernel."""
    if output.output_type == "stream":
        return output.name == "stdout"
    shown = set(output.get("data", {})) & set(KEPT)
    if WIDGET in output.get("data", {}):
        shown.discard("text/plain")  # its name
    return bool(shown)


def kept(output: NotebookNode, count: int, cell: NotebookNode) -> NotebookNode:
    output = NotebookNode(output)
    if "data" in output:
        widget = WIDGET in output.data
        drawn = [output.get("metadata", {}).get(kind, {}) for kind in KEPT]
        width = next((known["width"] for known in drawn if "width" in known), None)  # on the page
        output.data = lighter({kind: output.data[kind] for kind in KEPT if kind in output.data})
        pictures = [kind for kind in output.data if kind.startswith("image/")]
        if pictures or widget:
            output.data.pop("text/plain", None)
        alt = cell.metadata.get("alt", "")
        shown = {"alt": alt} | ({"width": width} if width else {})
        output.metadata = {kind: dict(shown) for kind in pictures}
    if "execution_count" in output:
        output.execution_count = count
    return output


def lighter(data: dict) -> dict:
    """An output's data with a large picture as a JPEG, or as a PNG of few colours if it has few."""
    drawn = data.get("image/png", "")
    if len(drawn) <= SMALL:
        return data
    image = Image.open(io.BytesIO(base64.b64decode(drawn)))
    if image.mode == "P":  # made small before
        return data
    image = image.convert("RGB")
    others = {kind: value for kind, value in data.items() if not kind.startswith("image/")}
    if image.getcolors(MANY) is None:
        return {"image/jpeg": encoded(image, "JPEG", quality=QUALITY, progressive=True)} | others
    flat = image.quantize(FEW, dither=Image.Dither.NONE)
    return {"image/png": encoded(flat, "PNG")} | others


def encoded(image: Image.Image, form: str, **options: Any) -> str:
    content = io.BytesIO()
    image.save(content, form, optimize=True, **options)
    return base64.b64encode(content.getvalue()).decode()


def run(source: Path) -> NotebookNode:
    """Run the lesson at this machine's profile in the course's workspace."""
    from facekit.common import machine
    from facekit.course import run_all
    from facekit.sources import manifest, open_course  # needs the notebooks' packages

    open_course()
    if manifest.read_manifest(machine.data().value).get("source") != "synthetic":
        sys.exit(
            f"{machine.data().value}: not rendered; outputs that are kept show made faces only"
        )
    with tempfile.TemporaryDirectory() as folder:
        plain, copy = HERE / f".{source.stem}.running.ipynb", Path(folder, "done.ipynb")
        try:
            nbformat.write(build(source, "lesson"), plain)
            run_all.run_notebook(plain, copy)
        finally:
            plain.unlink(missing_ok=True)
        return without_places(nbformat.read(copy, as_version=4), machine.workspace().value)


def without_places(done: NotebookNode, workspace: Path) -> NotebookNode:
    """The workspace's and the kit's folder become PLACE in every text: where is nobody's matter."""
    folders = sorted({str(workspace.resolve()), str(REPOSITORY.resolve())}, key=len, reverse=True)

    def hide(text: str) -> str:
        for folder in folders:
            text = text.replace(folder, PLACE)
        return text

    for output in (output for cell in done.cells for output in cell.get("outputs", [])):
        if "text" in output:
            output.text = hide(output.text)
        for kind in [kind for kind in output.get("data", {}) if kind.startswith("text/")]:
            output.data[kind] = hide(output.data[kind])
    return done


# --- the command


def wanted(source: Path, form: str, again: bool = False) -> NotebookNode:
    """The notebook as it should stand on the disk."""
    book, path = build(source, form), place(source, form)
    if form != "lesson":
        return book
    done = run(source) if again else lesson_at(path)
    fresh = again or (done and done.metadata.get("facekit", {}).get("code") == code_hash(book))
    if fresh:
        take_outputs(book, done)
    return book


def lesson_at(path: Path) -> NotebookNode | None:
    """The lesson on the disk; None where there is none, or no whole one."""
    try:
        return nbformat.read(path, as_version=4)
    # What nbformat makes of damaged JSON.
    except (OSError, ValueError, AttributeError, KeyError, ValidationError):
        return None


def place(source: Path, form: str) -> Path:
    return HERE / FORMS[form] / f"{source.stem}.ipynb"


def out_of_step() -> list[str]:
    """What `--check` has to say of the notebooks on the disk; [] if nothing."""
    problems = []
    if (REPOSITORY / "README.md").read_text() != readme():
        problems.append(
            "README.md: has another address than pyproject.toml; run notebooks/build.py"
        )
    for source in sources():
        for form in FORMS:
            path, book = place(source, form), wanted(source, form)
            if not path.is_file() or path.read_bytes() != text_of(book).encode():
                problems.append(f"{path}: out of step with {source.name}; run notebooks/build.py")
            elif form == "lesson" and "facekit" not in book.metadata:
                problems.append(f"{path}: has no outputs; run notebooks/build.py --run")
            elif path.stat().st_size > BUDGET:
                problems.append(f"{path}: {path.stat().st_size:,} bytes, over {BUDGET:,}")
    return problems


def text_of(book: NotebookNode) -> str:
    return nbformat.writes(book) + "\n"


def release(folder: Path, hidden: bool = False) -> None:
    """What is handed to students: the files git knows, without sources, solutions and tests.

    `hidden`: without the exercises' references, too.
    """
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder}: is not empty; choose another folder, or empty it first")
    answers = hidden_exercises() if hidden else {}
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if name.startswith(STUDENTS_LACK) or name in answers:
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    write_whole(folder / "README.md", NOT_FOR_STUDENTS.sub("", readme()).encode())
    for name, content in answers.items():
        if content is not None:
            write_whole(folder / name, content)


def hidden_exercises() -> dict[str, bytes | None]:
    """The kit's files that differ where exercises are hidden, by name; None: left out."""
    from facekit.course import exercises  # needs torch
    from facekit.course.exercises import hidden

    within = "facekit/course/exercises"
    files: dict[str, bytes | None] = {f"{within}/{name}.py": None for name in exercises.SUBJECTS}
    digests = json.dumps(hidden.hide(exercises.exercises()), separators=(",", ":"))
    return files | {f"{within}/{exercises.HIDDEN.name}": digests.encode()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="numbers of lessons, such as 03 [all]")
    parser.add_argument("--run", action="store_true", help="run the lessons, keep what they show")
    parser.add_argument("--check", action="store_true", help="say what is out of step")
    parser.add_argument("--release", type=Path, metavar="FOLDER", help="the students' copy")
    parser.add_argument("--hidden", action="store_true", help="no answers in it, only digests")
    asked = parser.parse_args()
    if asked.hidden and not asked.release:
        parser.error("--hidden belongs to --release FOLDER")
    if asked.release:
        release(asked.release, asked.hidden)
    elif asked.check:
        problems = out_of_step()
        sys.exit("\n".join(problems) or 0)
    else:
        write_whole(REPOSITORY / "README.md", readme().encode())
        for source in sources():
            if asked.names and not source.stem.startswith(tuple(asked.names)):
                continue
            for form in FORMS:
                path = place(source, form)
                path.parent.mkdir(exist_ok=True)
                book = wanted(source, form, again=asked.run and form == "lesson")
                write_whole(path, text_of(book).encode())
                print(os.path.relpath(path))


if __name__ == "__main__":
    main()
