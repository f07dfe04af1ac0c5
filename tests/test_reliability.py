"""The table of faults in docs/reliability.md says what the tests show, and leaves nothing out."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PAGE = (REPOSITORY / "docs" / "reliability.md").read_text(encoding="utf-8")
WANTED = [  # every fault that the kit was designed against
    f"{letter}{number}"
    for letter, count in {"A": 25, "B": 17, "C": 9, "D": 15, "E": 14}.items()
    for number in range(1, count + 1)
]
LEFT_OUT = re.findall(r"^- \*\*([A-E]\d+)\*\*, ", PAGE, re.MULTILINE)
TEST = re.compile(r"`(tests/(?:\w+/)?test_\w+\.py)::((?:\w+::)?\w+)`")


def rows() -> dict[str, list[str]]:
    """The cells of each row: what happens, what facekit does, what one sees, shown by."""
    lines = re.findall(r"^\| ([A-E]\d+) \| (.*) \|$", PAGE, re.MULTILINE)
    assert len(dict(lines)) == len(lines), "a row comes twice"
    return {name: cells.split(" | ") for name, cells in lines}


ROWS = rows()


@cache
def names_of(path: Path) -> frozenset[str]:
    """The tests of a file as pytest calls them, those of its classes by Class::test."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), set()
    for group in [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]:
        inside = f"{group.name}::" if isinstance(group, ast.ClassDef) else ""
        functions = (node for node in group.body if isinstance(node, ast.FunctionDef))
        found |= {inside + node.name for node in functions if node.name.startswith("test_")}
    return frozenset(found)


@cache
def texts_of(path: Path) -> tuple[str, ...]:
    """Every text of a program as it would be said, … for what is put in."""
    return tuple(map(_said, ast.walk(ast.parse(path.read_text(encoding="utf-8")))))


def _said(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        parts = (p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
        return "".join(parts)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def shown_by(row: str) -> list[tuple[Path, str]]:
    return [(REPOSITORY / path, name) for path, name in TEST.findall(ROWS[row][3])]


def test_every_fault_has_a_row_or_a_reason_why_not():
    assert sorted([*ROWS, *LEFT_OUT]) == sorted(WANTED)
    assert list(ROWS) == [name for name in WANTED if name in ROWS]  # in order
    assert len(LEFT_OUT) < 5


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_whole_and_its_tests_exist(row):
    assert len(ROWS[row]) == 4
    assert all(len(cell) > 8 for cell in ROWS[row][:2])
    shown = ROWS[row][3]
    assert shown_by(row)
    assert not set(re.split(r",\s*", TEST.sub("", shown))) - {""}, "no test: " + shown
    for path, name in shown_by(row):
        assert name in names_of(path), f"{path.name} has no {name}"


@pytest.mark.parametrize("row", ROWS)
def test_what_one_sees_is_what_the_kit_says(row):
    cell = ROWS[row][2]
    quoted = re.findall(r"`([^`]+)`", cell)
    assert bool(quoted) == (cell != "–"), cell
    sources = [*sorted((REPOSITORY / "facekit").rglob("*.py")), *(p for p, _ in shown_by(row))]
    said = [text for path in sources for text in texts_of(path)]
    for text in quoted:
        for part in text.split("…"):
            part = part.strip().replace("\\x1b", "\x1b")
            assert any(part in one for one in said), f"{part!r} is said nowhere"


@pytest.mark.parametrize("wrong", ["the dog ate it", "training stops, sorry"])
def test_a_text_that_nobody_says_would_be_noticed(wrong):
    said = [t for path in (REPOSITORY / "facekit").rglob("*.py") for t in texts_of(path)]
    assert not any(wrong in one for one in said)
    assert any("training goes on" in one for one in said)


def test_the_readme_leads_to_the_page():
    assert "docs/reliability.md" in (REPOSITORY / "README.md").read_text(encoding="utf-8")
