"""The package's rooms: which may import which, and that each has a front door."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "facekit"
# A room may import those before it; those of one line do not know each other.
FLOORS = (
    ("common",),
    ("models", "data", "faces"),
    ("sources",),
    ("evaluation",),
    ("training",),
    ("submission",),
    ("deploy",),
    ("course",),
    ("grading",),
    ("cli",),
)
HEIGHTS = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
ROOMS = [room for room in HEIGHTS if room != "cli"]
FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imported_names(tree: ast.AST) -> list[str]:
    """The dotted names that a file imports anywhere in it; `from a import b` gives a.b."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return [name for name in found if name.startswith("facekit.")]


def imports(module: str) -> set[str]:
    """The modules of facekit that a module imports."""
    found = set()
    for name in imported_names(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        found.add(name if name in MODULES else name.rpartition(".")[0])
    return found - {"facekit", module}


IMPORTS = {module: imports(module) for module in MODULES}


def room_of(module: str) -> str:
    return module.split(".")[1]


def test_every_file_stands_in_a_room():
    outside = {path.stem for path in PACKAGE.glob("*.py")}
    assert outside == {"__init__", "__main__", "cli"}
    assert sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")) == sorted(ROOMS)


@pytest.mark.parametrize("room", HEIGHTS)
def test_a_room_imports_only_what_stands_below_it(room):
    wrong = set()
    for module in MODULES:
        if not module.startswith(f"facekit.{room}"):
            continue
        for other in IMPORTS[module]:
            if room_of(other) != room and HEIGHTS[room_of(other)] >= HEIGHTS[room]:
                wrong.add((module, other))
    assert not wrong


@pytest.mark.parametrize("room", ROOMS)
def test_in_a_room_no_import_leads_back(room):
    """Imports of a module lead to an end: those that import nothing more are taken out first."""
    inside = {module for module in MODULES if module.startswith(f"facekit.{room}.")}
    left = {module: IMPORTS[module] & inside for module in inside}
    while left:
        ready = {module for module, needs in left.items() if not needs & set(left)}
        assert ready, f"these import each other: {sorted(left)}"
        left = {module: needs for module, needs in left.items() if module not in ready}


@pytest.mark.parametrize("room", ROOMS)
def test_modules_do_not_use_their_own_front_door(room):
    """It imports them; what faces/sheet draws is what everybody gets of faces."""
    door = f"facekit.{room}"
    inside = {module for module in MODULES if module.startswith(f"{door}.")}
    users = {module for module in inside if door in IMPORTS[module]}
    assert users <= {"facekit.faces.sheet"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_front_door_says_what_the_room_is_for_and_imports_from_it_alone(room):
    door = f"facekit.{room}"
    tree = ast.parse(MODULES[door].read_text(encoding="utf-8"))
    assert len(ast.get_docstring(tree).splitlines()) >= 3
    assert {room_of(other) for other in IMPORTS[door]} <= {room}
    assert not [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]


def rows_of_rooms() -> dict[str, str]:
    """The rows of the table in facekit/README.md, by room."""
    page = (PACKAGE / "README.md").read_text(encoding="utf-8")
    return {row.split("`")[1]: row for row in page.splitlines() if row.startswith("| `")}


def test_the_page_of_the_package_names_every_room_and_every_file():
    rows = rows_of_rooms()
    assert set(rows) == set(HEIGHTS)
    for room in ROOMS:
        named = set(rows[room].rpartition(" | ")[2].removesuffix(" |").split(", "))
        files = {path.stem for path in (PACKAGE / room).glob("*.py")}
        folders = {path.parent.name for path in (PACKAGE / room).glob("*/__init__.py")}
        assert named == (files | folders) - {"__init__"}, room


def test_the_tree_in_the_readme_has_a_line_for_each_room_in_the_order_of_imports():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^  (\w+)(?:/|\.py) +(\S.*)$", readme, re.M)
    assert sorted(room for room, _ in lines) == sorted(HEIGHTS)
    heights = [HEIGHTS[room] for room, _ in lines]
    assert heights == sorted(heights)
    rows = rows_of_rooms()
    for room, words in lines:
        assert f" | {words} | " in rows[room], f"{room}: the two pages say different things"


def test_the_tree_in_the_readme_has_a_line_for_each_folder_that_one_opens():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"^(\w+)/ +\S", readme, re.M)
    assert all((REPOSITORY / name).is_dir() for name in named)
    assert set(named) == {"facekit", "notebooks", "docs", "benchmarks", "tests"}


def count_lines(name: str) -> int:
    return len((PACKAGE / name).read_text(encoding="utf-8").splitlines())


def test_what_a_student_reads_first_stays_short():
    """The loop, printed whole in notebook 04, and with it the network, its blocks and heads."""
    assert count_lines("training/loop.py") <= 120
    assert count_lines("models/net.py") <= 120
    path = ["training/loop.py", "models/net.py", "models/blocks.py", "models/heads.py"]
    assert sum(count_lines(name) for name in path) <= 1000


@pytest.mark.parametrize(
    "source", sorted(REPOSITORY.glob("notebooks/source/*.py")), ids=lambda path: path.stem
)
def test_a_lesson_imports_from_at_most_eight_rooms_and_no_private_name(source):
    text = source.read_text(encoding="utf-8")
    plain = [line for line in text.splitlines() if not line.startswith(("%", "!"))]
    names = imported_names(ast.parse("\n".join(plain)))
    assert len({name.split(".")[1] for name in names}) <= 8
    assert not [name for name in names if "._" in name]
