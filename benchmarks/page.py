"""docs/results.md out of what the benchmarks wrote: no figure of theirs is typed by hand.

    python benchmarks/page.py            # writes docs/results.md
    python benchmarks/page.py --check    # says whether it is what would be written

benchmarks/results.md.j2 is the page with places for figures, in the language of Jinja2. There,
`report("loop")` is benchmarks/results/loop.json; `row("loop", "speed", variant="the loop")` is the
row of a table in it whose column `variant` says so; `value | percent` and `value | points` write
shares of one, `value | figures(3)` any number.
"""

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import typer
from machine import RESULTS, Row, one_line_for_errors

from facekit.common.errors import DataError
from facekit.data.layout import get_term
from facekit.submission.cutoffs import MADE

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "results.md"


@cache
def report(name: str) -> Row:
    """What a benchmark wrote: arguments, machine, notes and tables. DataError without it."""
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        raise DataError(f"{path}: no such file; its benchmark writes it")
    return json.loads(path.read_text(encoding="utf-8"))


def rows(name: str, table: str, **where: Any) -> list[Row]:
    """The rows of a report's table in which these columns have these values."""
    found = report(name)["tables"][table]
    return [row for row in found if all(row.get(key) == value for key, value in where.items())]


def row(name: str, table: str, **where: Any) -> Row:
    """The only such row. ValueError where there are none or several."""
    found = rows(name, table, **where)
    if len(found) != 1:
        raise ValueError(f"{name}, {table}: {len(found)} rows with {where}")
    return found[0]


def percent(share: float, digits: int = 1) -> str:
    """0.8008 -> 80.1"""
    return f"{100 * share:.{digits}f}"


def points(share: float) -> str:
    """A difference of shares with its sign: 0.039 -> +3.9"""
    return f"{100 * share:+.1f}"


def figures(value: float, digits: int = 3) -> str:
    """So many digits that count, and a comma at thousands: 11282 -> 11,300; 0.4336 -> 0.434"""
    rounded = float(f"{value:.{digits}g}")
    left = len(str(int(abs(rounded)))) if abs(rounded) >= 1 else 0
    return f"{rounded:,.{max(0, digits - left)}f}"


def render() -> str:
    """The page. Names that the template makes up are errors."""
    loader = jinja2.FileSystemLoader(HERE)
    settings: dict[str, Any] = {"undefined": jinja2.StrictUndefined, "keep_trailing_newline": True}
    world = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, **settings)
    world.globals |= {"report": report, "rows": rows, "row": row}
    world.globals |= {"smoke_cutoffs": MADE["smoke"], "limit": get_term("F23").max_parameters}
    world.filters |= {"percent": percent, "points": points, "figures": figures}
    return world.get_template("results.md.j2").render()


def main(check: bool = False) -> None:
    """Write the page, or compare it."""
    with one_line_for_errors():
        text = render()
    if not check:
        PAGE.write_text(text, encoding="utf-8")
    elif text != PAGE.read_text(encoding="utf-8"):
        print(f"{PAGE}: not what its script writes; python {sys.argv[0]}", file=sys.stderr)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
