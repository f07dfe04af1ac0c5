"""Exercises: every solution passes, every stub and every wrong answer is told from it."""

import base64
import importlib.util
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facekit.course import exercises
from facekit.course.exercises import Exercise, ExerciseError, Verdict, difference

REPOSITORY = Path(__file__).parents[2]
KNOWN = exercises.exercises()


def load_builder():
    """notebooks/build.py, which is a script."""
    path = REPOSITORY / "notebooks" / "build.py"
    spec = importlib.util.spec_from_file_location("build", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = load_builder()
SOURCES = build.sources()


def exercise_cells(source: Path, form: str) -> list[str]:
    cells = build.build(source, form).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    return [text for text in code if "exercises.exercise(" in text]


# --- from both sides


@pytest.mark.parametrize("name", KNOWN)
def test_the_reference_is_right(name):
    assert KNOWN[name].judge(KNOWN[name].reference) == Verdict("right")


@pytest.mark.parametrize("name", KNOWN)
def test_each_known_mistake_is_caught_and_earns_its_own_hint(name):
    mistakes = KNOWN[name].mistakes
    assert len(mistakes) >= 2
    for hint, wrong in mistakes.items():
        assert KNOWN[name].judge(wrong) == Verdict("not yet", hint)


def test_there_are_as_many_exercises_and_known_mistakes_as_the_course_promises():
    assert len(KNOWN) == 37
    assert sum(len(exercise.mistakes) for exercise in KNOWN.values()) == 168


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_solution_passes_in_a_cell_by_itself(source, capsys, monkeypatch):
    monkeypatch.setenv("FACEKIT_STRICT", "1")
    cells = exercise_cells(source, "solutions")
    assert len(cells) >= 3
    for cell in cells:
        exec(compile(cell, source.name, "exec"), {"__name__": "__main__"})
        assert capsys.readouterr().out.endswith(": right\n")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_stub_runs_and_is_not_begun(source, capsys, monkeypatch):
    monkeypatch.delenv("FACEKIT_STRICT", raising=False)
    for cell in exercise_cells(source, "lesson"):
        assert "SOLUTION" not in cell
        exec(compile(cell, source.name, "exec"), {"__name__": "__main__"})
        assert capsys.readouterr().out.endswith(": not begun\n")


def test_every_exercise_is_asked_for_in_one_place():
    text = "".join(cell for source in SOURCES for cell in exercise_cells(source, "lesson"))
    for name in KNOWN:
        assert text.count(f'exercises.exercise("{name}"') == 1, name
    assert text.count("exercises.exercise(") == len(KNOWN)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_an_exercise_stands_below_its_heading(source):
    cells = build.build(source, "lesson").cells
    asked = [i for i, cell in enumerate(cells) if cell.source.startswith("### Exercise ")]
    assert len(asked) == len(exercise_cells(source, "lesson"))
    assert all("exercises.exercise(" in cells[i + 1].source for i in asked)


# --- the machinery


def _pairs(rng):
    yield (np.array([3.0, 4.0]),)
    yield (rng.normal(size=(3, int(rng.integers(2, 5)))),)


def _unrooted(values):
    return (values**2).sum(-1)


def length(values):
    return np.sqrt((values**2).sum(-1))


LENGTH = Exercise("length", length, _pairs, {"You forgot the root.": _unrooted})


def test_a_right_answer_may_be_written_in_another_way():
    assert LENGTH.judge(lambda v: torch.from_numpy(v).norm(dim=-1)).state == "right"
    assert LENGTH.judge(lambda v: np.linalg.norm(v, axis=-1).tolist()).state == "right"


@pytest.mark.parametrize(
    "answer, words",
    [
        (_unrooted, "You forgot the root."),
        (lambda v: length(v) + 0.01, "is too large"),
        (lambda v: length(v) - 0.01, "is too small"),
        (lambda v: length(v)[None], "has the shape (1,), wanted is ()"),
        (lambda v: "five", "is a str, wanted are numbers"),
        (lambda v: length(v) * np.nan, "holds NaN"),
        (lambda v: 1 / 0, "raises ZeroDivisionError: division by zero"),
        (lambda v: length(v.__imul__(2)) / 2, "it changes its arguments"),
        (lambda v: length(v) if v.ndim == 1 else length(v) * [1, 1, 2], "of 3 values differ"),
    ],
)
def test_what_is_wrong_is_said(answer, words):
    state, said = LENGTH.judge(answer)
    assert state == "not yet"
    assert words in said


def test_arguments_are_told_by_what_they_are():
    batches = [torch.ones(3, 2), torch.ones(1, 2)]
    told = "([Tensor of shape (3, 2), Tensor of shape (1, 2)], [3, 1], ndarray of shape (4,), sum)"
    assert exercises.show((batches, [3, 1], np.zeros(4), sum)) == told


def not_implemented(values):
    raise NotImplementedError


@pytest.mark.parametrize("stub", [lambda v: None, lambda v: ..., not_implemented])
def test_a_stub_is_not_begun(stub):
    assert LENGTH.judge(stub) == Verdict("not begun")


def test_a_verdict_is_the_same_every_time():
    assert LENGTH.judge(lambda v: length(v) * 1.01) == LENGTH.judge(lambda v: length(v) * 1.01)


@pytest.mark.parametrize(
    "found, wanted, same",
    [
        (1, 1.00001, True),
        (1, 1.001, False),
        (True, 1, True),
        ([1, 2], (1, 2), True),
        (["a", [1, 2]], ["a", [1, 2]], True),
        (["a", [1, 2]], ["a", [1, 3]], False),
        ("a,b\n", "a,b\n", True),
        ("a,b", "a,b\n", False),
        (np.nan, np.nan, True),
        (None, None, True),
        ({"a", "b"}, {"b", "a"}, True),
        (torch.ones(2, 3), np.ones((2, 3)), True),
        (torch.ones(2, 3), np.ones((3, 2)), False),
        ((torch.ones(2), torch.zeros(3)), (np.ones(2), np.zeros(3)), True),
        ((torch.ones(2), torch.ones(3)), (np.ones(2), np.zeros(3)), False),
    ],
)
def test_results_are_compared_by_what_they_hold(found, wanted, same):
    assert (difference(found, wanted) == "") is same


def test_no_message_gives_the_answer_away():
    told = difference(np.array([1.0, 2.0]), np.array([1.0, 7.25]))
    assert "7.25" not in told
    assert "41" not in difference(40, 41)
    assert "secret" not in difference("open", "secret")


def test_a_mistake_that_no_arguments_tell_is_told():
    same = Exercise("length", length, _pairs, {"Root?": _unrooted, "Again?": _unrooted})
    with pytest.raises(ExerciseError, match="length: no arguments tell this mistake from all else"):
        same.telling_seed(3)


def test_strict_makes_an_error_of_it(monkeypatch, capsys):
    exercises.exercise("output_side", lambda *a: None)
    assert capsys.readouterr().out == "output_side: not begun\n"
    monkeypatch.setenv("FACEKIT_STRICT", "1")
    with pytest.raises(ExerciseError, match="output_side: not begun"):
        exercises.exercise("output_side", lambda *a: None)


def test_an_unknown_name_is_told_with_those_there_are():
    with pytest.raises(ExerciseError, match=r"no exercise 'side'; there are: .*output_side"):
        exercises.exercise("side", lambda *a: None)


def test_no_two_exercises_share_a_name():
    def output_side(size, window, stride, padding):
        return 0

    with pytest.raises(ValueError, match="two exercises are called output_side"):
        exercises.add_exercise(output_side, _pairs)


# --- the builder


def test_notebooks_are_in_step_with_their_sources():
    assert build.out_of_step() == []


def write_source(folder: Path, text: str) -> Path:
    path = folder / "03_made.py"
    path.write_text(text)
    return path


SOURCE = """# %% [markdown]
# # Made

# %% [markdown]
# ### Exercise: double it

# %%
def double(x):
    ### BEGIN SOLUTION
    y = x + x
    return y
    ### END SOLUTION


print(double(2))

# %% alt="A line"
1 + 1
"""


def test_two_forms_of_one_source(tmp_path):
    source = write_source(tmp_path, SOURCE)
    books = {form: build.build(source, form) for form in build.FORMS}
    code = {form: [c.source for c in book.cells if c.cell_type == "code"][1:]
            for form, book in books.items()}  # fmt: skip
    assert code["lesson"][0] == "def double(x):\n    ...  # your code\n\n\nprint(double(2))"
    assert code["solutions"][0] == (
        "def double(x):\n    y = x + x\n    return y\n\n\nprint(double(2))"
    )
    for book in books.values():
        assert any(c.source.startswith("### Exercise 3.1: double it") for c in book.cells)
        assert len({cell.id for cell in book.cells}) == len(book.cells)


@pytest.mark.parametrize(
    "text, words",
    [
        ("# %%\n### BEGIN SOLUTION\n1\n", "a solution without an end"),
        ("# %% [markdown]\n# One.\n# ### Exercise: two\n", "begins in the middle of a cell"),
    ],
)
def test_a_source_that_cannot_be_split_is_refused(tmp_path, text, words):
    source = write_source(tmp_path, SOURCE + "\n" + text)
    with pytest.raises(ValueError, match=words):
        build.build(source, "lesson")


def test_what_a_lesson_shows_is_kept_and_what_only_a_kernel_shows_is_not(tmp_path):
    new = build.nbformat.v4
    book = build.build(write_source(tmp_path, SOURCE), "lesson")
    done = build.build(write_source(tmp_path, SOURCE), "lesson")
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "VBox()"}
    image = {"image/png": "aGk=", "text/plain": "<Figure>", "text/latex": "x"}
    [first, _, second] = [cell for cell in done.cells if cell.cell_type == "code"]
    first.outputs = [
        new.new_output("stream", name="stdout", text="said\n"),
        new.new_output("stream", name="stderr", text="50 %"),
        new.new_output("display_data", data=view),
    ]
    second.outputs = [new.new_output("execute_result", data=image, execution_count=41)]
    build.take_outputs(book, done)
    [one, _, two] = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [output.get("text") for output in one.outputs] == ["said\n"]
    assert (one.execution_count, two.execution_count) == (1, 3)
    [output] = two.outputs
    assert output.data == {"image/png": "aGk="}
    assert output.metadata == {"image/png": {"alt": "A line"}}
    assert output.execution_count == 3


def png(pixels: np.ndarray) -> str:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg"])
def test_a_large_picture_is_made_small_and_stays_as_wide_as_it_was_drawn(tmp_path, kind):
    colours = np.random.default_rng(0).integers(0, 256, (600, 800, 3))
    if kind == "image/png":  # few colours, as of lines
        colours = np.where(colours[:, :, :1] > 250, 0, [[[255, 255, 255]]])
    drawn = png(colours.astype(np.uint8))
    book, done = (build.build(write_source(tmp_path, SOURCE), "lesson") for _ in range(2))
    shown = {"image/png": {"width": 400, "height": 300}}
    output = build.nbformat.v4.new_output("display_data", {"image/png": drawn}, metadata=shown)
    done.cells[-1].outputs = [output]
    build.take_outputs(book, done)
    [output] = book.cells[-1].outputs
    assert output.metadata == {kind: {"alt": "A line", "width": 400}}
    image = Image.open(io.BytesIO(base64.b64decode(output.data[kind])))
    assert image.size == (800, 600) and len(output.data[kind]) < len(drawn)
    assert np.abs(np.asarray(image.convert("RGB")) - colours).mean() < 70
    again = build.build(write_source(tmp_path, SOURCE), "lesson")
    build.take_outputs(again, book)
    assert again == book, "what is kept stays as it is"


def test_outputs_do_not_tell_where_the_workspace_is(tmp_path):
    new, kit = build.nbformat.v4, build.REPOSITORY
    told = f"{tmp_path}/data and {kit}/notebooks"
    data = {"text/html": f"<td>{tmp_path}/runs</td>", "image/png": "aGk="}
    cell = new.new_code_cell(
        "1",
        outputs=[
            new.new_output("stream", name="stdout", text=told),
            new.new_output("display_data", data=data),
        ],
    )
    [done] = build.without_places(new.new_notebook(cells=[cell]), tmp_path).cells
    assert done.outputs[0].text == "~/facekit/data and ~/facekit/notebooks"
    assert done.outputs[1].data == {"text/html": "<td>~/facekit/runs</td>", "image/png": "aGk="}


def test_outputs_go_when_the_code_changes_and_stay_when_words_do(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "HERE", tmp_path)
    (tmp_path / "source").mkdir()
    (tmp_path / "source/first_cell.txt").write_text("import sys\n")
    source = write_source(tmp_path / "source", SOURCE)
    path = build.place(source, "lesson")
    book = build.build(source, "lesson")
    build.take_outputs(book, book)
    path.write_text(build.text_of(book))
    assert build.wanted(source, "lesson").cells[-1].execution_count == 3
    source.write_text(SOURCE.replace("# # Made", "# # Made anew"))
    assert build.wanted(source, "lesson").cells[-1].execution_count == 3
    assert len(build.out_of_step()) == 2
    source.write_text(SOURCE.replace("1 + 1", "1 + 2"))
    assert build.wanted(source, "lesson").cells[-1].execution_count is None


def test_the_builder_says_what_is_out_of_step_in_a_real_process():
    done = subprocess.run(
        [sys.executable, "notebooks/build.py", "--check"],
        cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
