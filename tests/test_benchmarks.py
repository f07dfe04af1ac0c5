"""The measurements: their arithmetic, and that every command runs, the GPU's on a bare machine."""

import importlib.util
import json
import mmap
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import typer
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from facekit import training
from facekit.course import ablations
from facekit.training import recipe as recipes

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import costs
import faces_judge
import gpu
import gpu_page
import gpu_speed
import gpu_training
import kills
import machine
import page
import pretend_gpu
import real_faces
import table
import timm_race
import transfer
from faces_judge import Found
from gpu_job import Job
from machine import AGAIN, Report, Taken, compare, slope, time_rounds
from traffic import bytes_moved

FOLDER = Path(gpu.__file__).parent
COMMANDS = [
    "bring_own",
    "busy",
    "costs",
    "data",
    "faces",
    "faults",
    "gpu",
    "kills",
    "loop",
]
COMMANDS += [
    "networks",
    "page",
    "panel",
    "peers",
    "reading",
    "real_faces",
    "rules",
    "saving",
    "search",
    "speedrun",
]
COMMANDS += ["step", "table", "timm_race", "transfer"]
# Each way to call a script that its first lines name, without what may be left out.
CALL = re.compile(r"^    python benchmarks/(\w+\.py)([^\n\[]*?)(?: *\[.*|  .*)?$", re.M)
CALLS = [
    call
    for path in sorted(FOLDER.glob("*.py"))
    for call in CALL.findall(path.read_text().partition('"""\n\n')[0])
]
SECONDS = 20  # importing takes most of them on a busy machine
MISSING = ("typer", "sklearn", "cv2", "ipywidgets", "scipy")  # on a bare GPU machine


def start(*arguments: object, before: str = "") -> subprocess.CompletedProcess:
    """A script of `benchmarks` in a process of its own, after a line of Python."""
    script, *rest = map(str, arguments)
    code = f"import sys, runpy; sys.argv = {[script, *rest]!r}; sys.path[0] = {str(FOLDER)!r}\n"
    code += f"{before}\nrunpy.run_path({script!r}, run_name='__main__')"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


# --- arithmetic


def test_every_round_has_each_variant_once_and_begins_with_another():
    calls: list[str] = []
    variants = {name: lambda name=name: calls.append(name) for name in "abc"}
    taken = time_rounds(variants, rounds=3, warm_up=1)
    assert {name: len(times.wall) for name, times in taken.items()} == dict.fromkeys("abc", 3)
    rounds = [calls[at : at + 3] for at in range(0, 12, 3)]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert sorted(names[0] for names in rounds[1:]) == ["a", "b", "c"]


def test_ratios_are_taken_within_each_round():
    """A machine that is ten times slower in one round changes no ratio."""
    base = Taken([1.0, 10.0, 1.0], [1.0, 1.0, 1.0])
    twice = Taken([0.5, 5.0, 0.5], [1.0, 2.0, 4.0])
    wall = compare({"base": base, "twice": twice}, "base", 8)
    assert [row["ratio"] for row in wall] == [1.0, 2.0]
    assert wall[1]["from"] == wall[1]["to"] == 2.0
    assert wall[1]["images/s"] == 16.0
    cpu = compare({"base": base, "twice": twice}, "base", {"base": 8, "twice": 16}, "cpu")
    assert cpu[1]["ratio"] == 1.0


def test_the_page_of_results_is_what_its_script_writes():
    assert page.PAGE.read_text(encoding="utf-8") == page.render()


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(11282.1, 3, "11,300"), (0.43364, 3, "0.434"), (99.64, 3, "99.6"), (99.96, 3, "100"),
     (9.996, 3, "10.0"), (1146.4, 4, "1,146"), (-0.2333, 1, "-0.2"), (1.0, 3, "1.00")],
)  # fmt: skip
def test_figures_have_so_many_digits(value, digits, text):
    assert page.figures(value, digits) == text


def test_shares_are_written_in_per_cent():
    assert page.percent(0.80078) == "80.1"
    assert page.percent(0.4336, 0) == "43"
    assert page.points(-0.0311) == "-3.1"


def test_a_row_of_a_report_has_to_be_the_only_one():
    assert page.row("kills", "kills", workers=0)["bad files"] == 0
    with pytest.raises(ValueError, match="2 rows"):
        page.row("kills", "kills")


@given(st.floats(-100, 100), st.floats(-5, 5), st.integers(2, 30))
def test_the_slope_is_that_of_a_line(start, step, count):
    found = slope([start + step * number for number in range(count)])
    assert found == pytest.approx(step, abs=1e-9)


def test_memory_grows_by_what_is_held():
    before = machine.memory()
    # Pages of its own: a tensor may lie in memory that the process already holds.
    with mmap.mmap(-1, 64 << 20) as held:
        for _ in range(64):
            held.write(b"x" * (1 << 20))
        assert 60 < machine.memory() - before < 80


def test_a_report_is_on_disk_after_every_table(tmp_path):
    report = Report("some", tmp_path / "new" / "some.json", size=3)
    report.table("first", [{"a": 1.23456, "b": "x|y"}, {"a": float("nan"), "c": None}])
    found = json.loads(report.path.read_text())
    assert found["tables"] == {"first": [{"a": 1.23456, "b": "x|y"}, {"a": None, "c": None}]}
    assert found["arguments"] == {"size": 3}
    assert {"processor", "cores", "threads", "load", "torch"} <= set(found["machine"])


def test_a_table_is_markdown():
    lines = machine.markdown([{"a": 1.23456, "b": "x|y"}, {"a": 12345.6, "c": None}]).splitlines()
    assert lines == [
        "| a | b | c |",
        "| --- | --- | --- |",
        "| 1.235 | x/y |  |",
        "| 12,346 |  |  |",
    ]


def test_the_outputs_of_convolutions_are_counted():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8))
    found = gpu_speed.conv_outputs(net, 16, torch.device("cpu"))
    assert found == (8 * 8 * 8 + 8 * 6 * 6, 8 * 8 * 8 * 27 + 8 * 6 * 6 * 9)
    assert net.training
    assert net[1].num_batches_tracked == 0


def test_bytes_are_those_that_operations_read_and_write():
    x = torch.ones(1000)
    row = torch.ones(1, 1000).expand(7, 1000)  # 28,000 bytes of numbers in 4,000 of memory
    assert bytes_moved(lambda: x.view(10, 100).t() + 1, 2) == 4000
    assert bytes_moved(lambda: x.add_(1), 1) == 8000
    assert bytes_moved(lambda: row.sum(), 1) == 4004
    assert bytes_moved(lambda: x.index_select(0, torch.tensor([3, 5])), 1) == 32  # indices, too
    assert bytes_moved(lambda: torch.empty_like(x), 1) == 0


def test_two_runs_that_nobody_disturbed_are_equal_to_the_kills(
    course, trained, trained_recipe, tmp_path
):
    training.fit(trained_recipe, course, tmp_path / "again", device="cpu", progress=False)
    assert kills.final(trained) == kills.final(tmp_path / "again") != "not done"


# --- the published table


def test_an_order_agrees_with_itself_and_not_with_its_reverse():
    accuracies = [0.1, 0.5, 0.2, 0.9, 0.7]
    same = table.agreement(accuracies, [value / 2 for value in accuracies])
    assert [same[key] for key in ("tau-b", "from", "to", "rows")] == pytest.approx([1, 1, 1, 5])
    turned = table.agreement(accuracies, [-value for value in accuracies])
    assert [turned[key] for key in ("tau-b", "from", "to")] == pytest.approx([-1, -1, -1])


def test_the_interval_of_an_agreement_is_wider_for_fewer_rows():
    numbers = np.random.default_rng(0)
    first = numbers.random(40)
    second = first + numbers.random(40)
    wide, narrow = (table.agreement(first[:rows], second[:rows]) for rows in (8, 40))
    assert wide["to"] - wide["from"] > 1.5 * (narrow["to"] - narrow["from"])
    assert narrow["from"] < narrow["tau-b"] < narrow["to"]


def a_run(row: str, accuracy: float, seed: int = 0) -> dict:
    return {"row": row, "seed": seed, "dev_accuracy": accuracy}


def test_places_are_those_among_the_rows_that_were_trained():
    runs = [a_run("row06", 0.25), a_run("row12", 0.5), a_run("row06", 0.75, 1)]
    rows = table.order(
        [*runs, a_run("row12", 0.25, 1), a_run("row01", 0.1), a_run("row01", 0.1, 1)]
    )
    assert [row["row"] for row in rows] == ["row01", "row06", "row12"]
    assert [row["here"] for row in rows] == [0.1, 0.5, 0.375]
    assert [row["published place"] for row in rows] == [2, 3, 1]
    assert [row["place"] for row in rows] == [3, 1, 2]
    assert [row["seed 1"] for row in rows] == [0.1, 0.75, 0.25]


def test_row_6_collapses_where_it_gets_under_half_of_the_others():
    runs = [a_run("row06", 0.1), a_run("row07", 0.3), a_run("row08", 0.4), a_run(table.CONTROL, 0)]
    published, ours = table.collapse(runs, 0.01)
    assert published["collapsed"] == ours["collapsed"] == "yes"
    assert (ours["least of the others"], ours["chance"]) == (0.3, 0.01)
    assert table.collapse([a_run("row06", 0.1), a_run("row07", 0.19)], 0.01)[1]["collapsed"] == "no"


def test_a_gain_is_that_of_rows_that_differ_in_their_restarts_alone():
    runs = [a_run(row, number / 100) for number, row in enumerate(table.NAMES, start=1)]
    scale = table.Scale(0.1, 1, 64, 32, table.NAMES)
    rows = table.restarts(runs, scale, table.ablations.HOMEWORK)
    pairs = {(row["shorter"], row["longer"]): row["gain, seed 0"] for row in rows}
    assert pairs == {
        ("row07", "row08"): pytest.approx(0.01),
        (table.CONTROL, "row11"): pytest.approx(-0.02),
    }
    control, row5 = (table.made(name, scale, table.ablations.HOMEWORK) for name in
                     (table.CONTROL, "row05"))  # fmt: skip
    assert control.restart_epochs == pytest.approx(row5.restart_epochs, rel=0.03)


def test_a_run_that_ends_without_a_number_is_worth_a_guess(course, tmp_path, monkeypatch):
    scale = table.Scale(2 / 500, 0, 32, 8, table.NAMES)
    recipe = table.made("row12", scale, table.ablations.HOMEWORK)
    step = training.loop.train_step
    monkeypatch.setattr(training.loop, "train_step", lambda run, *rest: step(run, *rest) * np.nan)
    row = table.one_run(recipe, course, tmp_path / "run")
    assert row["dev_accuracy"] == row["last_dev_accuracy"] == 1 / 6
    assert row["epochs"] == 0
    assert row["ended"].startswith("the loss is NaN at step")


@pytest.fixture
def in_table(course, tmp_path, capsys):
    """The script with toy sizes: how it ended, its lines of progress, the rest, and the report."""
    out = tmp_path / "table.json"

    def call(rows: list[str], seeds: int, **more: float) -> tuple[int, list[str], str, dict]:
        small = {"epochs": 4, "narrowed": 0, "size": 32, "batch": 12} | more
        status = 0
        try:
            table.main(rows=rows, seeds=seeds, data=course.root, out=out, **small)
        except SystemExit as end:
            status = end.code
        told, errors = capsys.readouterr()
        begun = [line for line in errors.splitlines() if line.startswith("...")]
        return status, begun, told + errors, json.loads(out.read_text())

    return call


def test_a_table_that_was_cut_off_trains_what_it_lacks(in_table, tmp_path):
    status, begun, _, report = in_table(["row06", "row12"], 1)
    assert (status, begun) == (0, ["... row06, seed 0", "... row12, seed 0"])
    first = report["tables"]["runs"]
    assert [(run["row"], run["seed"]) for run in first] == [("row06", 0), ("row12", 0)]
    _, begun, _, report = in_table(["row12", "row07"], 2)
    assert begun == ["... row07, seed 0", "... row12, seed 1", "... row07, seed 1"]
    second = report["tables"]["runs"]
    assert second[:2] == first
    assert report["tables"]["agreement"][0]["rows"] == 3
    measured = ablations.measured(tmp_path / "table.json")
    assert list(measured.index) == [(run["row"], run["seed"]) for run in second]
    assert measured.loc[("row12", 1), "dev_accuracy"] == second[3]["dev_accuracy"]


def test_a_table_of_other_settings_is_left_alone(in_table, tmp_path):
    _, _, _, report = in_table(["row06"], 1)
    status, begun, told, after = in_table(["row06"], 1, batch=6)
    assert (status, begun, after) == (2, [], report)
    wanted = f"{tmp_path / 'table.json'} is of other settings or images; choose another --out\n"
    assert told.endswith(wanted)


def test_after_its_minutes_a_table_begins_no_run(in_table):
    _, _, _, report = in_table(["row06"], 1)
    _, begun, told, after = in_table(["row06", "row07"], 1, minutes=0)
    assert begun == []
    assert "row07, seed 0, and what follows is left for later" in told
    assert after["tables"]["runs"] == report["tables"]["runs"]


# --- the GPU's parts


@pytest.fixture
def job(tmp_path) -> Job:
    report = Report("gpu", tmp_path / "gpu.json")
    return Job(torch.device("cpu"), report, True, machine.time.monotonic() + 100, tmp_path)


def test_a_part_that_fails_is_noted_and_the_next_begins(job, monkeypatch):
    def fail(job: Job):
        raise ValueError("no such\nthing")

    parts = {"bad": (fail, 1), "good": (lambda job: [{"found": 1}], 1)}
    monkeypatch.setattr(gpu, "PARTS", parts)
    gpu.run(job, [])
    found = json.loads(job.report.path.read_text())
    assert found["parts"][0] == {"part": "bad", "ended": "failed: ValueError: no such"}
    assert found["tables"]["good"] == [{"found": 1}]


def test_a_part_that_no_longer_fits_is_skipped(job):
    assert gpu.attempt(job, "long", lambda job: [], 1000).startswith("skipped: ")


def test_a_part_that_lasts_too_long_is_stopped(job, monkeypatch):
    monkeypatch.setattr(gpu, "PATIENCE", 1)
    ended = gpu.attempt(job, "endless", lambda job: machine.time.sleep(60), 1)
    assert ended.startswith("failed: Late")


def test_a_network_that_fails_does_not_take_the_others_along(job):
    def fail(batch: int):
        raise RuntimeError("CUDA out of memory")

    class Quick:
        batch = 2

        def settle(self, tiny: bool) -> None:
            pass

    made = dict(gpu_speed.built(job, {"large": fail, "small": lambda batch: Quick()}, 8))
    assert list(made) == ["small"]
    assert len(job.report.content["notes"]) == 3  # with 8, 4 and 2 pictures


def test_the_parts_fit_into_nine_minutes():
    assert sum(seconds for _, seconds in gpu.PARTS.values()) + gpu.GRACE <= 9 * 60


def test_twenty_steps_do_not_wait_and_one_that_does_is_named(job, monkeypatch):
    """On the pretend GPU, where under "error" to wait is an error, as torch has it."""
    modes = ["default"]
    note = pretend_gpu.Log.note

    def raise_or_note(log, kind: str, what: str) -> None:
        if modes[-1] == "error" and kind in (pretend_gpu.WAIT, pretend_gpu.BLOCKING):
            raise RuntimeError("called a synchronizing CUDA operation")
        note(log, kind, what)

    monkeypatch.setattr(pretend_gpu.Log, "note", raise_or_note)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    job.course()
    job.device = pretend_gpu.GPU
    with pretend_gpu.pretending():
        (row,) = gpu_training.no_waits(job)
        assert row == {"check": "20 steps", "waits": "none", "verdict": "PASS"}
        step = gpu_training.loop.train_step
        monkeypatch.setattr(
            gpu_training.loop,
            "train_step",
            lambda run, *rest: step(run, *rest) * run.totals.sum().item(),
        )
        (row,) = gpu_training.no_waits(job)
    assert row["verdict"] == "FAIL"
    assert row["waits"].startswith("called a synchronizing CUDA operation in loop.py:")
    assert modes[-1] == "default"


def test_a_step_that_fits_is_no_step_that_was_halved(job, monkeypatch):
    assert gpu_training.out_of_memory(job)[0]["verdict"] == "PASS"
    monkeypatch.setattr(gpu_training, "limited_memory", lambda run, share: nullcontext())
    assert gpu_training.out_of_memory(job)[0]["verdict"] == "FAIL"


def test_a_graph_for_every_size_of_a_batch_is_noticed(job, monkeypatch):
    def compile_for_any(run) -> None:
        run.forward = torch.compile(run.objective)

    assert {row["verdict"] for row in gpu_training.compiled_epochs(job)} == {"PASS"}
    monkeypatch.setattr(gpu_training.Run, "compile", compile_for_any)
    assert gpu_training.compiled_epochs(job)[0]["verdict"] == "FAIL"


def test_two_processes_that_learn_something_else_are_noticed(job, monkeypatch):
    found = {"pair": [1.5, 1.2], "one": [1.5, 1.1]}
    monkeypatch.setattr(gpu_training, "losses_of", lambda job, name, *rest: found[name])
    rows = gpu_training.two_processes(job)
    assert [row["verdict"] for row in rows] == ["PASS", "FAIL"]


def test_a_short_epoch_is_as_short_as_it_says(job):
    run = gpu_speed.short_run(job, "small", 32, batch=4, length=3)
    assert run.steps == 3
    assert len(list(run.batches())) == 3


def test_the_page_has_the_verdict_first_and_names_what_was_missed(job):
    job.report.table("speeds", [{"variant": "a", "images/s": 3.0, "verdict": "missed"}])
    job.report.table("checks", [{"check": "b", "verdict": "PASS"}])
    job.report.table(gpu_page.CURVE, [{"seconds": 1.5, "dev accuracy": 0.25}])
    job.report.content["parts"] = [
        {"part": "speeds", "ended": "done in 1 s"}, {"part": "late", "ended": "skipped: 0 s left"},
    ]  # fmt: skip
    lines = gpu_page.page(job.report.content).splitlines()
    assert lines[2] == "**Not everything holds**: 1 of 2 bars met, 1 of 2 parts done."
    assert "- speeds, missed: variant a, images/s 3, verdict missed" in lines
    assert "- late, skipped: 0 s left" in lines
    assert f"     1.5   25.0% {10 * '#'}" in lines


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict:
    """What all parts find with toy sizes on the processor, without what a bare machine lacks."""
    out = tmp_path_factory.mktemp("gpu") / "gpu.json"
    block = f"sys.modules.update(dict.fromkeys({MISSING!r}))"
    arguments = FOLDER / "gpu.py", "--tiny", "--device", "cpu", "--out", out
    done = start(*arguments, before=block)
    assert done.returncode == 0, done.stderr
    page = out.with_suffix(".md").read_text()
    return json.loads(out.read_text()) | {"stdout": done.stdout, "page": page}


@pytest.mark.long
def test_every_part_runs_on_a_bare_machine(whole):
    ended = {row["part"]: row["ended"] for row in whole["parts"]}
    assert list(ended) == list(gpu.PARTS)
    assert all(text.startswith("done") for text in ended.values()), ended
    assert all(f"## {title}" in whole["stdout"] for title in gpu.PARTS)
    assert all(f"## {title}" in whole["page"] for title in gpu.PARTS)


@pytest.mark.long
def test_only_timm_may_be_missing(whole):
    missing = [note for note in whole["notes"] if "Error" in note]
    expected = 0 if importlib.util.find_spec("timm") else len(gpu_speed.TIMMS) + 1
    assert len(missing) == expected, missing
    assert all("No module named 'timm'" in note for note in missing)


@pytest.mark.long
def test_every_check_holds_on_the_processor(whole):
    rows = [
        row for title in gpu.PARTS if title.startswith("checks") for row in whole["tables"][title]
    ]
    assert len(rows) > 15
    assert not [row for row in rows if row.get("verdict", "PASS") != "PASS"]


@pytest.mark.long
def test_every_speed_has_its_pair_for_the_noise(whole):
    titles = "steps at 112", "augmentation", "epochs", "compiled at 112", "timm's loop beside ours"
    for title in titles:
        assert any(AGAIN in row["variant"] for row in whole["tables"][title]), title


@pytest.mark.parametrize("name", costs.RECIPES)
def test_the_costs_on_file_and_on_the_page_are_those_of_the_recipe(name):
    now = costs.recipe_row(name, costs.RECIPES[name])
    tables = json.loads((machine.RESULTS / "costs.json").read_text())["tables"]
    (kept,) = [row for rows in tables.values() for row in rows if row.get("recipe") == name]
    for row in (now, kept):
        row.pop("operations")  # torch's own affair
    assert kept == pytest.approx(now)
    told = [f"`{name}`", f"{now['parameters']:,}", f"{now['G multiply-adds']:.2f}"]
    told += [str(now["epochs"])]
    for card in ("H100", "T4"):
        told += [f"{now[f'{card}, images/s']:,.0f}", now[f"{card}, bound by"]]
        told += [f"{now[f'{card}, hours']:.1f}"]
    assert f"| {' | '.join(told)} |" in (FOLDER.parent / "docs" / "recipes.md").read_text()


def test_lesson_05_shows_the_heads_as_they_were_measured():
    lesson = (FOLDER.parent / "notebooks" / "source" / "05_losses.py").read_text()
    told = re.findall(r"^# \| [^|]+ \| ([\d.]+) % \| ([\d.]+) \|$", lesson, re.M)
    kept = json.loads((machine.RESULTS / "speedrun_heads.json").read_text())["tables"]["summary"]
    assert told == [
        (f"{100 * run['classification']:.1f}", f"{run['pairs AUC']:.3f}") for run in kept
    ]


def test_what_bounds_a_step_is_the_least_of_three():
    of = costs.Cost(parameters=1, outputs=1000, multiply_adds=10**6, operations=100)
    allowed = costs.bounds(of, "T4", 256)
    assert allowed["memory"] == pytest.approx(270e9 / 28_000)
    assert allowed["products"] == pytest.approx(40e12 / 6e6)
    assert allowed["processor"] == pytest.approx(256 / 500e-6)
    row = costs.speeds(of, 256)
    assert row["T4, bound by"] == "processor"
    assert row["T4, images/s"] == pytest.approx(128 / 500e-6)


# --- the commands


def test_every_command_has_a_help(tmp_path):
    """In one process: most of the time would go into importing torch."""
    script = tmp_path / "helps.py"
    lines = ["import runpy, sys", f"for name in {COMMANDS}:", "    try:"]
    lines += [f"        sys.argv = [{str(FOLDER)!r} + f'/{{name}}.py', '--help']"]
    lines += ["        runpy.run_path(sys.argv[0], run_name='__main__')"]
    lines += ["    except SystemExit as end:", "        print('ended', name, end.code or 0)"]
    script.write_text("\n".join(lines))
    done = start(script)
    ended = [line for line in done.stdout.splitlines() if line.startswith("ended")]
    assert ended == [f"ended {name} 0" for name in COMMANDS], done.stderr


def test_no_script_is_left_out():
    scripts = {script.removesuffix(".py") for script, _ in CALLS}
    assert scripts == set(COMMANDS)


@pytest.mark.long
@pytest.mark.parametrize(("script", "rest"), CALLS)
def test_the_first_seconds_of_every_call(script, rest, copy_of_course, copy_of_run, tmp_path):
    """It ends well, says what it lacks (status 2), or is still at work."""
    given = {"FOLDER": copy_of_course, "DATA": copy_of_course, "RUN": copy_of_run}
    given["WORK"] = tmp_path / "work"
    words = [str(given.get(word, word)) for word in rest.split()]
    copy = tmp_path / "benchmarks"  # else what some write would replace the published figures
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("results"))
    (copy / "results").mkdir()
    errors = tmp_path / "errors.txt"
    with errors.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, str(copy / script), *words],
            stdout=subprocess.DEVNULL, stderr=file, cwd=tmp_path, start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with what it has started
            process.wait()
            return
    assert process.returncode in (0, 2), errors.read_text()
    assert "Traceback" not in errors.read_text()


@pytest.mark.long
def test_a_speedrun_goes_on_where_an_earlier_call_stopped(tmp_path):
    """What is there is not trained again, and a rival can be added."""
    call = [FOLDER / "speedrun.py", "--profile", "smoke", "--target", 0.01, "--seeds", 1]
    call += ["--work", tmp_path, "--out", tmp_path / "runs.json", "--recipe", "smoke epochs=1"]
    tables = []
    for more in ([], ["--recipe", "smoke epochs=1 lr=1e-9"]):
        done = start(*call, *more)
        assert done.returncode == 0, done.stderr
        tables.append(json.loads((tmp_path / "runs.json").read_text())["tables"])
    first, second = tables
    assert second["runs"][:1] == first["runs"], "its seconds, too, are the earlier call's"
    assert [row["recipe"] for row in second["runs"]] == ["smoke epochs=1", "smoke epochs=1 lr=1e-9"]
    assert first["against the first"] == []
    found = {row["of"]: row["mean"] for row in second["against the first"]}
    assert found["dev"] == second["runs"][1]["dev"] - second["runs"][0]["dev"]


def test_ten_folds_judge_by_thresholds_of_the_others():
    """Where the two kinds lie apart all is right; where scores tell nothing, half."""
    random = np.random.default_rng(0)
    same = np.arange(2000) % 2 == 0
    apart = np.where(same, random.uniform(0.5, 1, 2000), random.uniform(-1, 0.4, 2000))
    assert real_faces.ten_fold(apart, same) == 1
    assert abs(real_faces.ten_fold(random.uniform(-1, 1, 2000), same) - 0.5) < 0.04


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "gpu.json")])
    with pytest.raises(SystemExit) as end:
        gpu.main()
    assert end.value.code == 2
    assert capsys.readouterr().err == "no GPU here: nothing measured\n"
    assert not (tmp_path / "gpu.json").exists()


def test_the_race_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(typer.Exit) as end:
        timm_race.main()
    assert end.value.exit_code == 2
    assert capsys.readouterr().err == "timm is not installed: pip install timm\n"


# --- detectors, and what made people teach


def test_a_face_is_found_where_it_is_by_the_surest_detection_there():
    face = np.array([10.0, 10, 50, 50])
    there, beside = [12.0, 12, 52, 52], [60.0, 60, 100, 100]
    found = [
        Found(np.array([there, there, beside]), np.array([1.0, 2.0, 9.0])),
        Found(np.array([beside]), np.array([5.0])),
        Found(np.empty((0, 4)), np.empty(0)),
    ]
    scores = faces_judge.hits(found, np.tile(face, (3, 1)))
    np.testing.assert_array_equal(scores, [2.0, np.nan, np.nan])
    assert faces_judge.row("some", scores)["rate"] == pytest.approx(1 / 3)


def test_boxes_upside_down_are_where_the_turned_image_has_them():
    image = np.zeros((20, 20))
    image[2:6, 3:9] = 1
    left, top, right, bottom = faces_judge.upside_down(np.array([[3, 2, 9, 6]]), 20)[0]
    turned = image[::-1, ::-1]
    assert turned[top:bottom, left:right].all()
    assert turned.sum() == (bottom - top) * (right - left)


def test_brows_above_the_eyes_are_painted_over_whichever_way_the_head_is_rolled():
    """A dark brow on a light face, 12 pixels above each eye, is gone."""
    for turn in range(4):
        image = np.full((100, 100, 3), 200, np.uint8)
        image[36:40, 25:36] = image[36:40, 65:76] = 0
        eyes = np.array([[30.0, 50], [70, 50]])
        for _ in range(turn):
            image = np.rot90(image)  # (x, y) comes to lie at (y, 99 - x)
            eyes = np.stack([eyes[:, 1], 99 - eyes[:, 0]], 1)
        kept = faces_judge.without_eyes(image, eyes)
        assert kept.min() == 0, "the eyes alone"
        assert faces_judge.without_eyes(image, eyes, faces_judge.EYE_AND_BROW).min() > 150


def test_made_people_are_aligned_by_their_landmarks():
    """Marks at a made face's points come to lie where FRAME has them, but for its own shape."""
    made = transfer.Made(people=1, shots=1, calm="pose")
    _, points, _ = transfer.photograph(made, torch.tensor([5]), torch.tensor([0]))
    away = []
    for (x, y), wanted in zip(points[0].round().astype(int), transfer.FRAME, strict=True):
        image = np.zeros((transfer.RENDERED, transfer.RENDERED, 3), np.uint8)
        image[y - 1 : y + 2, x - 1 : x + 2] = 255
        rows, columns = np.nonzero(transfer.align(image, points[0])[..., 0] > 100)
        away.append(np.array([columns.mean(), rows.mean()]) / transfer.RENDERED - wanted)
    assert np.abs(away).max() < 0.1
    assert np.abs(np.mean(away, axis=0)).max() < 0.01  # as least squares have it


def test_half_whitened_directions_differ_by_the_root_of_what_they_did():
    spread = np.array([4.0, 1.0, 0.25])
    vectors = np.random.default_rng(0).normal(size=(4000, 3)) * spread + 7
    found = transfer.whitened(lambda paths: vectors, [])([])
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(np.sort(found.std(0)), np.sort(vectors.std(0) ** 0.5), rtol=0.02)


def test_evened_embeddings_of_one_person_differ_alike_in_all_directions():
    """Two directions of which one moves a person far: who is who is told by the other."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(50), 40)
    inside = random.normal(size=(2000, 2)) * [5, 0.5]
    vectors = random.normal(size=(50, 2))[labels] + inside + 3
    train = SimpleNamespace(paths=[], labels=labels.tolist())
    data = SimpleNamespace(train=train, classes=[str(label) for label in range(50)])
    found = transfer.evened(lambda paths: vectors, data)([])
    means = np.stack([found[labels == label].mean(0) for label in range(50)])
    np.testing.assert_allclose(np.cov((found - means[labels]).T), np.eye(2), atol=1e-6)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-9)


def test_a_made_course_has_each_person_in_training_and_dev(tmp_path):
    transfer.write_made(transfer.Made(people=3, shots=2), tmp_path, aligned=False)
    data = transfer.CourseData(tmp_path)
    assert len(data.classes) == 3
    assert list(data.train.labels) == [0, 0, 1, 1, 2, 2]
    assert list(data.dev.labels) == [number for number in range(3) for _ in range(transfer.DEV)]


def test_no_two_lessons_have_the_same_key():
    made = transfer.Made(transfer.PEOPLE, 8)
    for lessons in (transfer.curve([100, 400], 8, [48, 64], 0), transfer.one_change(made, 48, 0)):
        keys = [tuple(lesson.key().items()) for lesson in lessons]
        assert len(set(keys)) == len(keys) > 6


def test_a_second_lesson_begins_with_what_the_first_taught(course, trained, tmp_path):
    still = ["epochs=1", "lr=1e-12", "warmup_epochs=0", "watch=false"]
    begun = recipes.load("smoke", still)
    start = transfer.StartFrom(trained)
    training.fit(begun, course, tmp_path / "new", progress=False, callbacks=[start])
    old, new = (
        transfer.weights.load_run(run / "best.pt")["net"] for run in (trained, tmp_path / "new")
    )
    same = [torch.allclose(old[name].float(), new[name].float(), atol=1e-6) for name in old
            if name.endswith("weight") and not name.startswith("head.")]  # fmt: skip
    assert len(same) > 5
    assert all(same)
