"""What was graded, as one table (CSV and HTML) and a page for each student."""

import base64
import hashlib
import html
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from facekit.common.files import write_table, write_whole
from facekit.grading.hand_ins import Entry, Mark

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: {width}; margin: 2rem auto;
  padding: 0 1rem; }}
table {{ border-collapse: collapse; }}
td, th {{ border-bottom: 1px solid #8888; padding: .3rem .6rem; text-align: left; }}
pre {{ border: 1px solid #8888; padding: 1rem; white-space: pre-wrap; overflow-wrap: anywhere; }}
img {{ background: white; max-width: 100%; }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def write(entries: Sequence[Entry], out: str | Path) -> Path:
    """Write grades.csv, index.html and pages/ into the folder `out`; the path of the index.

    A page of pages/ names no other student, so that it can be given to its own.
    """
    out = Path(out)
    (out / "pages").mkdir(parents=True, exist_ok=True)
    rows = [row(entry) for entry in entries]
    table = pd.DataFrame(rows, dtype=object).fillna("")
    safe = [[no_formula(value) for value in line] for line in table.to_numpy()]
    write_table(out / "grades.csv", table.columns, safe, private=True)
    links = []
    for entry in entries:
        name = _page_name(entry.name)
        page = page_of(entry.name, _student(entry), "50rem").encode()
        write_whole(out / "pages" / name, page, private=True, sync_folder=False)
        links.append(f'<a href="pages/{name}">{text_of(entry.name)}</a>')
    index = page_of(f"{len(entries)} hand-ins", _index(entries, links), "90rem").encode()
    write_whole(out / "index.html", index, private=True)
    return out / "index.html"


def row(entry: Entry) -> dict[str, object]:
    """What the table says of one hand-in, by column."""
    cells: dict[str, object] = {"name": entry.name, "points": round(entry.points, 1)}
    for task, mark in entry.marks.items():
        cells |= {
            task: f"{mark.figure:.2%}",
            f"{task}, 95 %": range_of(mark),
            f"{task}, grade": mark.grade,
            f"{task}, points": round(mark.points, 1),
            f"{task}, place": mark.place,
            f"{task}, could be": f"{mark.places[0]} to {mark.places[1]}",
            f"{task}, not told apart from": "; ".join(mark.as_good),
        }
    cells["parameters"] = entry.parameters
    cells["the same"] = "; ".join(entry.twins)
    cells["notes"] = "; ".join(entry.notes)
    cells["not graded, for"] = entry.reason
    return cells


def range_of(mark: Mark) -> str:
    low, high = mark.interval
    return f"{low:.2%} to {high:.2%}"


def no_formula(value: object) -> object:
    """A text that no spreadsheet takes for a formula: the names of files are the students'."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def _page_name(name: str) -> str:
    """A name that every system takes, the same each time, and of two students never one."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:60]
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.html"


def text_of(value: object) -> str:
    return html.escape(str(value))


def page_of(title: str, body: str, width: str) -> str:
    return PAGE.format(title=text_of(title), body=body, width=width)


def table_of(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are HTML already."""
    lines = ["".join(f"<th>{text_of(name)}</th>" for name in header)]
    lines += ["".join(f"<td>{cell}</td>" for cell in cells) for cells in rows]
    return "<table>" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _index(entries: Sequence[Entry], links: Sequence[str]) -> str:
    """A row for each; the long lists of who cannot be told apart are in grades.csv alone."""
    tasks = list(dict.fromkeys(task for entry in entries for task in entry.marks))
    rows = []
    for entry, link in zip(entries, links, strict=True):
        marks = [_in_short(entry.marks[task]) if task in entry.marks else "" for task in tasks]
        told = [*entry.twins, *entry.notes, *filter(None, [entry.reason])]
        count = "" if entry.parameters is None else f"{entry.parameters:,}"
        rows.append([link, f"{entry.points:.1f}", *marks, count, text_of("; ".join(told))])
    return table_of(["name", "points", *tasks, "parameters", "notes"], rows) + (
        "<p>A place could be any from that of the last one who is better beyond luck to that of "
        "the first one who is worse, each by a paired comparison at 95 %; of two who are equally "
        "good one in twenty is told apart all the same. Whom a score cannot be told apart from is "
        "in grades.csv.</p>"
    )


def _in_short(mark: Mark) -> str:
    """A task's cell: figure, grade and points, below them how sure the figure and the place are."""
    low, high = mark.places
    return (
        f"{mark.figure:.2%} {mark.grade}, {mark.points:.1f} points<br>"
        f"<small>{range_of(mark)}; place {mark.place}, by luck {low} to {high}</small>"
    )


def _student(entry: Entry) -> str:
    """The body of a student's own page; it names nobody else."""
    if entry.reason:
        return f"<p>Not graded: {text_of(entry.reason)}</p>"
    header = ["task", "score", "95 % interval", "grade", "points", "their interval", "place"]
    rows = [[text_of(cell) for cell in _mark(task, mark)] for task, mark in entry.marks.items()]
    parts = [f"<p>{entry.points:.1f} points</p>", table_of(header, rows)]
    if entry.notes:
        parts.append(
            "<ul>" + "".join(f"<li>{text_of(note)}</li>" for note in entry.notes) + "</ul>"
        )
    if entry.curves.startswith(b"\x89PNG"):
        coded = base64.b64encode(entry.curves).decode()
        parts.append(f'<img alt="Curves of the training" src="data:image/png;base64,{coded}">')
    for name, text in (("README", entry.readme), ("Network", entry.network)):
        parts.append(f"<h2>{name}</h2><pre>{text_of(text)}</pre>")
    return "\n".join(parts)


def _mark(task: str, mark: Mark) -> list[str]:
    low, high = mark.points_interval
    return [
        task,
        f"{mark.figure:.2%}",
        range_of(mark),
        mark.grade,
        f"{mark.points:.1f}",
        f"{low:.1f} to {high:.1f}",
        f"{mark.place}; by luck {mark.places[0]} to {mark.places[1]}",
    ]
