"""The `facekit` command. Exit status: 0 done, 2 bad input, 130 interrupted."""

import io
import os
import secrets
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
import typer.core
from PIL import Image

from facekit import submission, training
from facekit.common import machine
from facekit.common.errors import DataError, FacekitError, printable, say
from facekit.common.files import write_whole
from facekit.common.kit import install_command
from facekit.course import doctor as examination
from facekit.course import starting_file
from facekit.data.layout import CourseData
from facekit.data.pairs import PairData, open_data
from facekit.deploy import demo_page, export, recognise
from facekit.evaluation import embed
from facekit.faces import sheet as contact
from facekit.grading import board, board_page, exercise_sheets, hand_ins, pages
from facekit.sources import archives, health, profiles, set_up
from facekit.sources.manifest import made_for
from facekit.submission import (
    csvs,
    cutoffs,
    hand_in,
    leaderboard,
    pairs,
    pipeline,
)
from facekit.training import recipe as recipes


class _Commands(typer.core.TyperGroup):
    """The commands; typer takes an EOFError of theirs for the end of what one types."""

    def invoke(self, context: typer.Context) -> object:
        try:
            return super().invoke(context)
        except EOFError as error:
            raise FacekitError(_unforeseen(error)) from error


app = typer.Typer(
    cls=_Commands,
    help="From a folder of faces to two scored submissions.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


faces_app = typer.Typer(help="The people who do not exist.")
app.add_typer(faces_app, name="faces")


class Stopped(Exception):
    """What an interrupted command has to say: typer swallows a KeyboardInterrupt's words."""


DataOption = Annotated[Path | None, typer.Option(help="The course's data. [data/ here]")]
NetworkOption = Annotated[str | None, typer.Option(help="The recipe's, or your own: FILE.py:NAME.")]
HeadOption = Annotated[str | None, typer.Option(help="The network's, or your own: FILE.py:NAME.")]
TransformOption = Annotated[str | None, typer.Option(help="Your augmentation: FILE.py:NAME.")]
TermOption = Annotated[str | None, typer.Option(help="S23 ... S26. [by the folders' names]")]


def _data(path: Path | None, term: str | None) -> CourseData | PairData:
    return open_data(path or machine.data().value, term)


def _watched() -> bool:
    """Whether somebody looks on: bars are for them, and logs get one line for an error."""
    return sys.stderr.isatty()


@app.command()
def data(
    folder: Annotated[Path | None, typer.Argument(help="Photographs, or another course.")] = None,
    source: Annotated[
        str, typer.Option(help="synthetic, folder, lfw, kaggle or held-out.")
    ] = "synthetic",
    profile: Annotated[str | None, typer.Option(help="smoke, laptop, gpu or homework.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to. [data/ here]")] = None,
    seed: Annotated[
        int, typer.Option(help="Another seed, other people.", envvar="FACEKIT_SEED")
    ] = 0,
    term: Annotated[str, typer.Option(help="S23, F23, S24; with pairs F24 ... S26.")] = "F23",
    difficulty: Annotated[
        str | None, typer.Option(help="How far shots differ: easy, homework or hard.")
    ] = None,
    people: Annotated[int | None, typer.Option(help="For --source held-out: how many.")] = None,
    device: Annotated[
        str, typer.Option(help="What renders: cpu, cuda or auto, the faster of them.")
    ] = "auto",
    align: Annotated[
        bool, typer.Option("--align", help="For --source folder: find the faces, crop to them.")
    ] = False,
) -> None:
    """Fill a folder with the course's data; run it again to go on after an interruption."""
    chosen = profiles.get_profile(profile) if profile else profiles.profile().value
    if difficulty is not None:
        chosen = replace(chosen, difficulty=difficulty)
    target = out or machine.data().value
    course = set_up(
        source, chosen, target, folder, seed, term, None, _watched(), people, device, align
    )
    say(f"{target}: {len(course.classes)} classes, {len(course.train)} training images")


@app.command()
def unpack(
    zips: Annotated[list[Path], typer.Argument(help="The zips of a competition.")],
    out: Annotated[Path | None, typer.Option(help="Where to. [data/ here]")] = None,
) -> None:
    """Unpack downloaded zips; what could hurt is refused, and nothing there is overwritten."""
    target = out or machine.data().value
    for archive in zips:
        for top in archives.unpack(archive, target, _watched()):
            say(top)


@app.command("train")
def train_(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or TOML file.")],
    data: DataOption = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder. [runs/<recipe>]")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value")] = None,
    network: NetworkOption = None,
    head: HeadOption = None,
    transform: TransformOption = None,
    term: TermOption = None,
    device: Annotated[str | None, typer.Option(help="cuda, mps or cpu.")] = None,
    max_hours: Annotated[float | None, typer.Option(help="Save and stop after so long.")] = None,
    mirror: Annotated[Path | None, typer.Option(help="Folder of copies. [FACEKIT_MIRROR]")] = None,
    track: Annotated[list[str] | None, typer.Option(help="tensorboard or wandb.")] = None,
    save_minutes: Annotated[float, typer.Option(help="At most, between two saves.")] = 2.0,
    workers: Annotated[int | None, typer.Option(help="Threads that prepare batches.")] = None,
) -> None:
    """Train a recipe; run it again to go on after an interruption.

    Started by torchrun, several processes train it together, one for each GPU.
    """
    loaded = recipes.load(recipe, set_ or [])
    folder = out or machine.runs().value / loaded.name
    try:
        history = training.fit(
            loaded,
            _data(data, term),
            folder,
            device,
            progress=_watched(),
            network=network,
            head=head,
            transform=transform,
            max_hours=max_hours,
            mirror=mirror,
            track=track or (),
            save_minutes=save_minutes,
            workers=workers,
        )
    except training.Interrupted as stop:
        raise Stopped(str(stop)) from None
    _tell(folder, history)


def _tell(folder: Path, history: training.History) -> None:
    """How far a run is; of torchrun's processes one speaks."""
    if history.stopped:
        raise Stopped(history.stopped)
    best = history.best
    if int(os.environ.get("RANK", "0")) == 0:
        text = f"best dev accuracy {best['dev_accuracy']:.2%}"
        if history.best_by == "eer":
            text = f"best EER of the dev pairs {best['dev_eer']:.2%}"
        say(f"{folder}: {text} in epoch {best['epoch']}")


@app.command()
def new(
    file: Annotated[Path, typer.Argument(help="The Python file to write.")] = Path("mine.py"),
) -> None:
    """Write a commented file to begin a network of your own with."""
    say(*starting_file.write(file).splitlines())


def _load_run(run: Path, network: str | None, head: str | None) -> embed.TrainedRun:
    """A run; its own classes from where they are now, if that is said."""
    return embed.load_run(run, own_objects=[thing for thing in (network, head) if thing])


@app.command()
def evaluate(
    run: Path, data: DataOption = None, network: NetworkOption = None, head: HeadOption = None
) -> None:
    """Judge a run on the dev images: classes, then the open set, or the pairs."""
    trained = _load_run(run, network, head)
    course = trained.course_data(data)
    say(*submission.form_of(course).evaluate(trained, course))


@app.command("rules")
def rules_(
    run: Path,
    data: DataOption = None,
    fpir: Annotated[float, typer.Option(help="Where DIR is compared.")] = 0.1,
    keep: Annotated[bool, typer.Option("--keep", help="Submit by the recommended one.")] = False,
    network: NetworkOption = None,
    head: HeadOption = None,
) -> None:
    """Compare ways to decide the open set, each on people it was not fitted to."""
    trained = _load_run(run, network, head)
    course = trained.course_data(data)
    if course.has_pairs:
        raise DataError(f"{course.root}: has pairs and no open set, so there is nothing to decide")
    dev = pipeline.verify_dev(trained, course, cohort=embed.class_means(trained, course))
    found = dev.compare_rules(fpir)
    say(*pipeline.rule_table(found).to_string().splitlines())
    say(*found.notes, found.reason)
    if keep:
        best = replace(dev, rule=found.recommended)
        say(pipeline.keep_decision(trained.folder, best.rule, best.threshold.value))


@app.command("submit")
def submit_(
    run: Path,
    data: DataOption = None,
    rule: Annotated[str | None, typer.Option(help="How to decide. [as kept, or threshold]")] = None,
    threshold: Annotated[float | None, typer.Option(help="[as kept, or the best on dev]")] = None,
    kaggle: Annotated[bool, typer.Option("--kaggle", help="Send them to Kaggle.")] = False,
    message: Annotated[str | None, typer.Option(help="Beside it there. [the run's name]")] = None,
    network: NetworkOption = None,
    head: HeadOption = None,
) -> None:
    """Write and check the submissions of a run; score them where the answers are known."""
    trained = _load_run(run, network, head)
    course = trained.course_data(data)
    form = submission.form_of(course)
    paths = form.write_submissions(trained, course, threshold, rule)
    say(*form.scoreboard(paths, course))
    if kaggle:
        for task, path in paths.items():
            sent = csvs.send(path, task, course, message or f"facekit run {run.resolve().name}")
            say(*sent.splitlines())


@app.command("recognise")
def recognise_(
    run: Path,
    photographs: Annotated[list[Path], typer.Argument(help="Of whom one wants to know.")],
    gallery: Annotated[
        Path | None, typer.Option(help="Who is enrolled, a folder each. [the course's known]")
    ] = None,
    align: Annotated[bool, typer.Option("--align", help="Find the face in each first.")] = False,
    threshold: Annotated[float | None, typer.Option(help="[as kept, or the best on dev]")] = None,
    data: DataOption = None,
    network: NetworkOption = None,
    head: HeadOption = None,
) -> None:
    """Say who is on photographs, or that it is nobody the run knows."""
    trained = _load_run(run, network, head)
    course = trained.course_data(data)
    if course.has_pairs:
        raise DataError(f"{course.root}: has pairs, so nobody is known; take a run on an open set")
    recogniser = recognise.enrol(trained, course, gallery, align, threshold)
    rule, value = recogniser.decision
    say(f"{len(recogniser.people)} people enrolled; rule {rule}, threshold {value:.3f}")
    say(*recogniser.ask(photographs))


@app.command()
def check(csv: Path, data: DataOption = None, term: TermOption = None) -> None:
    """Say what would be held against a submission."""
    course = _data(data, term)
    problems = submission.form_of(course).check(csv, course)
    if problems:
        raise DataError("; ".join(problems))
    say(f"{csv}: nothing wrong")


@app.command()
def score(
    csv: Annotated[Path | None, typer.Argument(help="A submission.")] = None,
    answers: Annotated[Path | None, typer.Option(help="The CSV with the answers.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All runs of a folder, best first.")] = False,
    runs: Annotated[Path | None, typer.Option(help="With --all. [runs/ here]")] = None,
    data: DataOption = None,
) -> None:
    """Score a submission against answers, beside the cut-offs; or all runs beside each other."""
    if all_:
        table = leaderboard.leaderboard(runs or machine.runs().value, data)
        say(*leaderboard.lines(table))
        return
    if csv is None or answers is None:
        raise DataError("what to score? facekit score CSV --answers CSV, or facekit score --all")
    if pairs.is_pairs(csv):
        say(*pairs.report(pairs.score(csv, answers)))
        return
    profile = made_for(answers.absolute().parent.parent)  # answers stand in data/answers
    right, count = csvs.count_right(csv, answers)
    say(cutoffs.report(csvs.task_of(csv), right / count, profile=profile, count=count))


@app.command("export")
def export_(
    run: Path,
    onnx: Annotated[Path | None, typer.Option(help="The file to write.")] = None,
    page: Annotated[Path | None, typer.Option(help="Folder of a page that looks faces up.")] = None,
    photographs: Annotated[
        bool, typer.Option("--photographs", help="Show images of real people on the page, too.")
    ] = False,
    data: DataOption = None,
    network: NetworkOption = None,
    head: HeadOption = None,
) -> None:
    """Write a run for use without the kit: an ONNX file with preprocessing, or a whole page."""
    if onnx is None and page is None:
        raise DataError("what to write? facekit export RUN --onnx FILE, --page FOLDER, or both")
    trained = _load_run(run, network, head)
    content = export.to_onnx(trained)
    if onnx is not None:
        onnx.parent.mkdir(parents=True, exist_ok=True)
        write_whole(onnx, content)
        say(f"{onnx}: {len(content) / 1e6:.1f} MB; images in, logits and embedding out")
    if page is not None:
        course = trained.course_data(data)
        say(demo_page.write(trained, course, page, content, photographs))


@app.command("hand-in")
def hand_in_(
    run: Path,
    notebook: Annotated[list[Path] | None, typer.Option(help="Yours; repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(help="The zip. [the run's name, here]")] = None,
    data: DataOption = None,
    network: NetworkOption = None,
    head: HeadOption = None,
) -> None:
    """Put what is handed in of a run into one zip; say what is missing."""
    from facekit.course import plots  # slow to import

    trained = _load_run(run, network, head)
    target = out or Path(f"{run.resolve().name}.zip")
    course = trained.course_data(data)
    say(*hand_in.write(trained, course, target, notebook or [], plots.curves))


@app.command("grade")
def grade_(
    folder: Annotated[Path, typer.Argument(help="The zips of all students.")],
    data: DataOption = None,
    out: Annotated[Path, typer.Option(help="Where the table and pages go.")] = Path("graded"),
) -> None:
    """Grade the zips of many students; nothing in them is run."""
    entries = hand_ins.grade(folder, _data(data, None))
    index = pages.write(entries, out)
    refused = sum(bool(entry.reason) for entry in entries)
    twins = sum(bool(entry.twins) for entry in entries)
    say(f"{index}: {len(entries)} hand-ins, {refused} not graded, {twins} with what another has")


@app.command("board")
def board_(
    folder: Annotated[Path, typer.Argument(help="A folder with the CSVs of each student.")],
    data: DataOption = None,
    out: Annotated[Path, typer.Option(help="The page; the log goes beside it.")] = Path(
        "board.html"
    ),
    public: Annotated[float, typer.Option(help="Share of the rows that is public.")] = board.PUBLIC,
    daily: Annotated[
        int, typer.Option(min=1, help="Submissions of a student and task in a day (UTC).")
    ] = board.DAILY,
    private: Annotated[
        bool, typer.Option("--private", help="A second page, with the private part.")
    ] = False,
) -> None:
    """Keep a leaderboard of many students' CSVs: a public part, a private one, a daily limit."""
    if out.suffix != ".html":
        raise DataError(f"{out}: the page is an .html; the log gets its name with .csv")
    kept = board.keep(folder, _data(data, None), out.with_suffix(".csv"), public, daily)
    written = board_page.write(kept, out, private)
    say(f"{', '.join(written)}: {len(kept.paths)} submissions, {len(kept.refused)} not scored")


@app.command("grade-exercises")
def grade_exercises_(
    folder: Annotated[Path, typer.Argument(help="A folder, notebook or zip for each student.")],
    points: Annotated[Path | None, typer.Option(help="TOML: points by exercise [1 each].")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the arguments to try [drawn].")] = None,
    seconds: Annotated[int, typer.Option(min=1, help="For one exercise.")] = 30,
    out: Annotated[Path, typer.Option(help="The table to write.")] = Path("exercises.csv"),
) -> None:
    """Run the exercises in many students' notebooks on other arguments, and count points."""
    seed = secrets.randbits(32) if seed is None else seed
    worth = exercise_sheets.read_worth(points) if points else None
    sheets, worth = exercise_sheets.grade(folder, seed, worth, exercise_sheets.Limits(seconds))
    exercise_sheets.write(out, sheets, worth)
    for one in sheets:
        notes = "".join(f"; {note}" for note in one.notes)
        say(f"{one.name}: {one.points(worth):g} of {sum(worth.values()):g}{notes}")
    say(f"{out}: {len(sheets)} students, seed {seed}")


@faces_app.command()
def sheet(
    kind: Annotated[str, typer.Argument(help="people, shots or sweep.")] = "people",
    out: Annotated[Path, typer.Option(help="The image to write.")] = Path("faces.jpg"),
    rows: Annotated[int, typer.Option(min=1)] = 4,
    columns: Annotated[int, typer.Option(min=1)] = 8,
    first: Annotated[int, typer.Option(help="The first person's number.")] = 0,
    size: Annotated[int, typer.Option(help="Pixels of one face.")] = 160,
    seed: Annotated[int, typer.Option(help="Another seed, other people.")] = 0,
    difficulty: Annotated[str, typer.Option(help="easy, homework or hard.")] = "homework",
    knob: Annotated[list[str] | None, typer.Option(help="What a sweep turns; repeatable.")] = None,
) -> None:
    """Write a contact sheet: many people, shots of some, or one knob turned at a time."""
    if out.suffix not in (".jpg", ".png"):
        raise DataError(f"{out}: a sheet is a .jpg or a .png")
    if not out.parent.is_dir():
        raise DataError(f"{out}: there is no folder {out.parent}")
    knobs = knob or contact.USUAL_KNOBS
    image = contact.make(kind, rows, columns, first, size, seed, difficulty, knobs)
    content = io.BytesIO()
    Image.fromarray(image.numpy()).save(content, "PNG" if out.suffix == ".png" else "JPEG")
    write_whole(out, content.getvalue())
    say(f"{out}: {image.shape[1]} x {image.shape[0]} pixels")


@app.command()
def doctor(data: DataOption = None) -> None:
    """Print what was found on this machine and what was chosen, each with its reason.

    With --data every image of that folder is decoded, and whatever is odd about them is told.
    """
    for name, (value, reason) in examination.examine(data).items():
        say(f"{name:<13} {value}  ({reason})")
    if data is not None and data.is_dir():
        say(*health.report(data, _watched()))


@app.command()
def course(
    notebooks: Annotated[Path, typer.Option(help="The notebooks' folder.")] = Path("notebooks"),
) -> None:
    """Run every notebook top to bottom; print where the submissions are and their scores."""
    try:
        from facekit.course import run_all as course_  # needs the notebooks' packages
    except ModuleNotFoundError as error:
        raise FacekitError(
            f"{error.name} is not installed: {install_command('notebooks')}"
        ) from error

    course_.run_all(notebooks)


def main() -> None:
    """Run the command line: a user's error is one line on standard error, never a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a pipe on Windows cannot write every letter
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = [_expanded(word) for word in sys.argv[1:]]
    if arguments in ([], ["faces"]):
        arguments = [*arguments, "--help"]
    try:
        status = app(arguments, prog_name="facekit", standalone_mode=False)
        if status == 130:  # what some versions of typer make of Ctrl-C
            raise KeyboardInterrupt
        sys.exit(status or 0)
    except (FacekitError, OSError) as error:  # OSError: no such place, no room, not allowed
        _end(2, str(error) or type(error).__name__)
    except Stopped as stop:
        _end(130, str(stop))
    except (KeyboardInterrupt, typer.Abort):
        _end(130, "stopped; the same command goes on")
    except Exception as error:
        # Typer's own errors (no such option, ...) have changed their class over its versions.
        if hasattr(error, "format_message"):
            _end(2, error.format_message())
        _end(2, _unforeseen(error))


def _expanded(word: str) -> str:
    """An argument with ~ replaced, which shells leave alone in --out=~/faces and in quotes."""
    option, equals, value = word.partition("=")
    if option.startswith("--") and equals:
        return f"{option}={os.path.expanduser(value)}"  # noqa: PTH111 (it never fails)
    return os.path.expanduser(word)  # noqa: PTH111


def _unforeseen(error: Exception) -> str:
    """What is said of an error that nobody has put into words, with where it arose."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for this; close other programs, or ask for less"
    if isinstance(error, RecursionError):
        return "something is nested too deeply, in a file or in a module of yours"
    at = traceback.extract_tb(error.__traceback__)[-1]
    told = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"{told} (in {at.filename}, line {at.lineno}); please report it with the command"


def _end(status: int, text: str) -> None:
    say(f"facekit: {' '.join(printable(text).split())}", file=sys.stderr)
    sys.exit(status)
