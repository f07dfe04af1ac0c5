"""No file and no name that is read can run code, fill the memory, or speak to the terminal."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import torch

from facekit.common import files
from facekit.common.errors import DataError, FacekitError, RunError, printable
from facekit.data import images
from facekit.data.layout import CourseData
from facekit.models import weights
from facekit.sources import health
from facekit.submission import csvs

REPOSITORY = Path(__file__).parents[1]
CODE = sorted(
    path
    for part in ("facekit", "benchmarks", "tests")
    for path in (REPOSITORY / part).rglob("*.py")
)
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
BANNED = {  # calls, by the end of their dotted name
    "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "shelve.open",
    "joblib.load", "pandas.read_pickle", "pd.read_pickle", "eval", "exec", "__import__",
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "yaml.load",
    "yaml.unsafe_load", "yaml.full_load", "extractall", "unpack_archive", "tempfile.mktemp",
    "tarfile.open", "HTTPServer", "TCPServer", "ThreadingHTTPServer",
}  # fmt: skip
# Attacks that show what would happen without care, and the trap works.
ALLOWED = {
    **{
        (f"tests/{name}.py", "pickle.loads"): "the malicious pickles do run if loaded so"
        for name in ("training/test_checkpoint", "models/test_weights")
    },
    ("tests/browser.py", "bind"): "asks for a free port of this machine, by a name for 127.0.0.1",
    ("facekit/deploy/demo_page.py", "tarfile.open"): "of a package whose hash has been compared",
    ("tests/deploy/test_demo_page.py", "tarfile.open"): "writes a package that is refused",
    ("tests/deploy/test_demo_page.py", "ThreadingHTTPServer"): "serves the page, on this machine",
    ("facekit/grading/attempts.py", "exec"): "of students' cells, in a process with limits",
    ("tests/test_graders.py", "exec"): "of the kit's own solutions",
    ("facekit/common/own.py", "exec"): "the file that the user has named: FILE.py:NAME",
    ("tests/test_docs.py", "exec"): "of the page's own examples",
    ("tests/course/test_exercises.py", "exec"): "of cells of the kit's own lessons",
    ("tests/models/test_specs.py", "eval"): "of the repr of a spec that the test has just made",
    ("tests/submission/test_csvs.py", "tarfile.open"): "makes what is refused in a table's place",
    ("tests/sources/test_course_data.py", "tarfile.open"): "writes what a fetch would bring",
    ("tests/test_security.py", "an address of all the world"): "the words that are looked for",
}
# What Jupyter adds to Python: nothing but these, and of programs git alone.
MAGICS = re.compile(r"\s*(%matplotlib inline|%config InlineBackend\..*|!git clone -q .*)")
CREDENTIALS = {
    "Kaggle's variable": r"KAGGLE_(KEY|API_TOKEN)\W{1,8}[\"']?\w{8,}",
    "Kaggle's file": r"\"key\"\s*:\s*\"[0-9a-f]{32}\"",
    "a token by its beginning": r"\b(hf|KGAT|wandb_v1|gh[pousr]|github_pat|sk|xox[bap])[_-]\w{16,}",
    "an access key": r"\bAKIA[0-9A-Z]{16}\b",
    "a bare key": r"(?<![0-9a-f-])[0-9a-f]{32}(?:[0-9a-f]{8})?(?![0-9a-f-])",
    "a signed token": r"\beyJ[\w-]{10,}\.[\w-]{10,}\.",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a password in an address": r"://[^/\s:@]+:[^/\s:@{]+@",
}


def dotted(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def dangers(source: str) -> Iterator[str]:
    """What in a program could run foreign code, or open a door."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and node.value == "0.0.0.0":
            yield "an address of all the world"
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        for banned in BANNED:
            whole = banned in ("eval", "exec")  # a network's eval() is another
            if name == banned or (not whole and name.endswith(f".{banned}")):
                yield banned
        settings = {k.arg: k.value for k in node.keywords}
        for word, safe in (("shell", False), ("allow_pickle", False), ("weights_only", True)):
            if word in settings and getattr(settings[word], "value", None) is not safe:
                yield word
        if name == "torch.load" and "weights_only" not in settings:
            yield "weights_only"
        if name.endswith(".bind") and not _is_local(node):
            yield "bind"


def _is_local(call: ast.Call) -> bool:
    where = call.args[0] if call.args else None
    if not isinstance(where, ast.Tuple) or not isinstance(where.elts[0], ast.Constant):
        return False
    return where.elts[0].value in ("127.0.0.1", "localhost")


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.stem)
def test_no_code_of_the_kit_is_dangerous(path):
    name = path.relative_to(REPOSITORY).as_posix()
    found = set(dangers(path.read_text(encoding="utf-8")))
    assert found == {what for where, what in ALLOWED if where == name}


@pytest.mark.parametrize(
    ("source", "danger"),
    [
        ("pickle.load(file)", "pickle.load"),
        ("import pickle as p\nstd.pickle.loads(x)", "pickle.loads"),
        ("torch.load(path)", "weights_only"),
        ("torch.load(path, weights_only=False)", "weights_only"),
        ("torch.load(path, weights_only=careful)", "weights_only"),
        ("np.load(path, allow_pickle=True)", "allow_pickle"),
        ("eval(text)", "eval"),
        ("exec(text)", "exec"),
        ("subprocess.run(line, shell=True)", "shell"),
        ("os.system(line)", "os.system"),
        ("yaml.load(text)", "yaml.load"),
        ("zipped.extractall(out)", "extractall"),
        ("shutil.unpack_archive(path)", "unpack_archive"),
        ("door.bind(('', 80))", "bind"),
        ("door.bind(('0.0.0.0', 80))", "an address of all the world"),
        ("http.server.HTTPServer(where, handler)", "HTTPServer"),
    ],
)
def test_dangers_are_found(source, danger):
    assert danger in set(dangers(source))
    assert not set(dangers("net.eval(); x.unbind(1); torch.load(p, weights_only=True)"))


def test_images_are_opened_by_an_explicit_list_of_decoders():
    assert images.FORMATS == ("JPEG", "PNG", "WEBP", "BMP", "GIF")  # no FITS (CVE-2026-40192)
    for path in sorted((REPOSITORY / "facekit").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and dotted(node.func).endswith("Image.open"):
                assert "formats" in {keyword.arg for keyword in node.keywords}, path
            if isinstance(node, ast.Call):
                assert not dotted(node.func).endswith(("imread", "imdecode", "decode_image")), path


@pytest.mark.parametrize(
    "content",
    [
        b"SIMPLE  =                    T" + b" " * 2850 + b"\x1f\x8b",  # FITS
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"II*\x00\x08\x00\x00\x00\x00\x00",  # TIFF
        b"P6 9 9 255\n" + bytes(243),  # PPM
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    ],
    ids=["FITS", "EPS", "TIFF", "PPM", "SVG"],
)
def test_other_decoders_never_run(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match="not of a kind this kit opens"):
        images.read_rgb(tmp_path / "a.jpg")


def test_versions_with_known_holes_are_shut_out():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["notebooks"][:1]
    floors = dict(line.split(">=") for line in asked)
    floors = {name: tuple(map(int, floor.split("."))) for name, floor in floors.items()}
    assert floors["torch"] >= (2, 10)  # CVE-2025-32434, CVE-2026-24747
    assert floors["opencv-python-headless"] >= (4, 12)  # CVE-2025-53644
    assert floors["jupyterlab"] >= (4, 5, 9)
    assert floors["pillow"] >= (11, 3)  # CVE-2026-40192 is of the FITS decoder: shut out above


# --- notebooks


def texts(notebook: Path) -> Iterator[str]:
    """Sources, outputs and metadata, decoded; pictures are no text."""
    content = nbformat.read(notebook, as_version=4)
    yield json.dumps(content.metadata)
    for cell in content.cells:
        yield cell.source
        yield json.dumps(cell.metadata)
        for output in cell.get("outputs", ()):
            yield output.get("text", "")
            yield "\n".join(output.get("traceback", ()))
            for kind, data in output.get("data", {}).items():
                if not kind.startswith("image/") or kind == "image/svg+xml":
                    yield data if isinstance(data, str) else json.dumps(data)


def credentials(notebook: Path) -> list[str]:
    return [
        what
        for text in texts(notebook)
        for what, sign in CREDENTIALS.items()
        if re.search(sign, text)
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_notebook_holds_a_credential_or_a_danger(path):
    assert credentials(path) == []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            lines = cell.source.splitlines()
            python = [
                line if line.lstrip()[:1] not in ("!", "%") else _checked(line) for line in lines
            ]
            assert not set(dangers("\n".join(python)))


def _checked(line: str) -> str:
    assert MAGICS.fullmatch(line), line
    return " " * (len(line) - len(line.lstrip())) + "pass"


@pytest.mark.parametrize(
    "leak",
    [
        "KAGGLE_KEY=0123456789abcdef0123456789abcdef",
        "os.environ['KAGGLE_API_TOKEN'] = 'KGAT_" + "a" * 32 + "'",
        '{"username":"me","key":"' + "0a" * 16 + '"}',
        "hf_" + "A" * 34,
        "wandb: " + "0f" * 20,
        "https://me:secret@example.org/x",
    ],
)
@pytest.mark.parametrize("where", ["source", "stream", "html", "traceback"])
def test_a_leaked_credential_is_found_wherever_it_stands(tmp_path, leak, where):
    v4 = nbformat.v4
    outputs = {
        "stream": lambda: v4.new_output("stream", text=leak),
        "html": lambda: v4.new_output("display_data", {"text/html": f"<b>{leak}</b>"}),
        "traceback": lambda: v4.new_output("error", ename="E", evalue="", traceback=[leak]),
    }
    cell = v4.new_code_cell(leak if where == "source" else "1")
    cell.outputs = [outputs[where]()] if where in outputs else []
    nbformat.write(v4.new_notebook(cells=[cell]), tmp_path / "a.ipynb")
    assert credentials(tmp_path / "a.ipynb")


# --- names

ODD_NAMES = {
    "escape": "a\x1b[2J\x1b]0;owned\x07b",
    "markup": "<script>alert(1)<\u2215script>",
    "shell": "$(touch touched)`touch touched`;touch touched",
    "newline": "a\nerror: all is lost",
    "carriage return": "a\rb",
    "right to left": "a\u202egpj",
    "formula": '=cmd|"x"!A1, and "more',
    "no text": "a\udcff",
}
TELLING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u202e\ud800-\udfff]")


@pytest.fixture(params=list(ODD_NAMES))
def name(request, monkeypatch, tmp_path) -> Iterator[str]:
    """A file name; and the current folder, where it must run nothing."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    yield ODD_NAMES[request.param]
    assert not list(here.iterdir())


def train_folder(root: Path) -> Path:
    return min(path for path in (CourseData(root).classification / "train").iterdir())


def test_an_odd_name_is_shown_escaped_in_one_line(name, copy_of_course, refused):
    (train_folder(copy_of_course) / f"{name}.jpg").write_bytes(b"")
    said = refused("train", "smoke", "--data", copy_of_course, "--device", "cpu")
    assert "the file is empty" in said
    assert not TELLING.search(said)
    folder = copy_of_course / "11-785-f23-hw2p2-classification" / "dev" / name
    folder.mkdir()
    assert not TELLING.search(refused("train", "smoke", "--data", copy_of_course))
    assert not TELLING.search(refused("evaluate", copy_of_course / name))


def test_an_odd_name_is_shown_escaped_by_the_doctor(name, copy_of_course, run_cli):
    (train_folder(copy_of_course) / f"{name}.jpg").write_bytes(b"")
    outcome = run_cli("doctor", "--data", copy_of_course)
    assert outcome.status == 0
    assert not TELLING.search(outcome.stdout)
    assert not [line for line in outcome.stdout.splitlines() if line.startswith("error: all")]
    table = health.examine(copy_of_course)
    page = table.to_html()
    assert not TELLING.search(page)
    assert "<script>" not in page
    assert "<script>" not in (table._repr_html_() or "")


def test_an_odd_name_goes_into_a_submission_as_it_is_or_is_refused(
    name, copy_of_course, copy_of_run, run_cli, refused
):
    first = CourseData(copy_of_course).test.paths[0]
    odd = first.rename(first.with_name(f"{name}.jpg"))
    shutil.rmtree(copy_of_course / "answers")
    (first.parents[1] / "classification_sample_submission.csv").unlink()  # it names the old ones
    refusals = {
        "no text": "is no text (UTF-8); rename the file",
        "carriage return": "rows missing, such as a\\rb.jpg",
    }
    reason = next((words for kind, words in refusals.items() if ODD_NAMES[kind] == name), None)
    if reason:
        said = refused("submit", copy_of_run, "--data", copy_of_course)
        assert reason in said
        assert not TELLING.search(said)
        return
    outcome = run_cli("submit", copy_of_run, "--data", copy_of_course)
    assert outcome.status == 0, outcome.stderr
    table = files.read_table(copy_of_run / "classification.csv", ["id", "label"])
    assert odd.name in set(table["id"])
    assert csvs.check(copy_of_run / "classification.csv", CourseData(copy_of_course)) == []


# To a folder whose name is no text no submission can be written.
@pytest.mark.parametrize("name", [kind for kind in ODD_NAMES if kind != "no text"], indirect=True)
def test_no_command_prints_an_odd_name_as_it_is(name, copy_of_course, copy_of_run, run_cli):
    runs = copy_of_run.parent / name
    run = runs / name
    runs.mkdir()
    copy_of_run.rename(run)
    commands = (
        ("submit", run, "--data", copy_of_course),
        ("check", run / "classification.csv", "--data", copy_of_course),
        ("score", "--all", "--runs", runs),
        ("doctor", "--data", runs),
    )
    for command in commands:
        outcome = run_cli(*command)
        assert not TELLING.search(outcome.stdout + outcome.stderr), command
        assert not [line for line in outcome.stdout.splitlines() if line.startswith("error: all")]


def test_whoever_prints_a_name_does_so_in_one_place():
    tree = ast.parse((REPOSITORY / "facekit" / "cli.py").read_text(encoding="utf-8"))
    assert "print" not in {
        dotted(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)
    }


def test_a_pipe_that_cannot_write_a_letter_gets_it_spelt_out(copy_of_course):
    root = copy_of_course.rename(copy_of_course.with_name("データ"))
    command = [sys.executable, "-m", "facekit", "doctor", "--data", root]
    narrow = os.environ | {"PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, capture_output=True, env=narrow)
    assert done.returncode == 0, done.stderr
    assert ascii(root.name).strip("'") in done.stdout.decode("cp1252")


def test_every_error_is_printable_and_keeps_its_words():
    assert str(FacekitError("a\x1b[31m\nüb\u202e\udcff")) == "a\\x1b[31m\nüb\\u202e\\udcff"
    assert printable("Büşra 1.jpg") == "Büşra 1.jpg"
    assert printable("a\nb", keep="") == "a\\nb"


# --- files that announce more than they hold


def remake(path: Path, change, compression: int = zipfile.ZIP_STORED) -> None:
    """Write the archive anew, with right checksums, after changing its records."""
    with zipfile.ZipFile(path) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(name, change(name, content))


LOAD = """
    import sys
    from pathlib import Path
    from facekit.models import weights
    from facekit.common.errors import RunError

    def peak():
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

    before = peak()
    try:
        weights.load(sys.argv[1])
        print("loaded")
    except RunError as error:
        print("refused", error)
    print((peak() - before) / 1024)
"""


def load_elsewhere(path: Path) -> tuple[str, float]:
    """What loading says, and by how many MB the process grew."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LOAD), path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said, grown = done.stdout.splitlines()
    return said, float(grown)


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "step-00000001.pt"
    weights.save(path, {"format": weights.FORMAT, "net": {"w": torch.arange(300.0)}})
    return path


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures by /proc")


@needs_proc
def test_a_checkpoint_that_unpacks_to_a_gigabyte_is_refused_unread(saved):
    remake(
        saved,
        lambda name, content: bytes(1 << 30) if name.endswith("data/0") else content,
        zipfile.ZIP_DEFLATED,
    )
    assert saved.stat().st_size < 2_000_000
    said, grown = load_elsewhere(saved)
    assert said.startswith("refused")
    assert grown < 100


@needs_proc
def test_a_checkpoint_that_announces_a_huge_tensor_is_refused(saved):
    """300 numbers become two thousand million, in the storage and in the tensor's shape."""
    short, long = b"M\x2c\x01", b"J" + (2_000_000_000).to_bytes(4, "little")

    def swell(name: str, content: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return content
        assert content.count(short) == 2
        return content.replace(short, long)

    remake(saved, swell)
    said, grown = load_elsewhere(saved)
    assert said.startswith("refused")
    assert grown < 100


@needs_proc
def test_the_memory_of_a_large_checkpoint_is_seen(tmp_path):
    weights.save(tmp_path / "large.pt", {"w": torch.ones(50_000_000)})
    said, grown = load_elsewhere(tmp_path / "large.pt")
    assert said == "loaded"
    assert grown > 150


@pytest.mark.parametrize("key", ["net", "classes", "spec", "preprocess", "recipe", "data"])
@pytest.mark.parametrize("value", ["missing", None, [], {"stages": [{"block": "vgg"}]}])
def test_a_network_with_a_part_missing_or_wrong_is_named(copy_of_run, refused, key, value):
    path = copy_of_run / "best.pt"
    state = weights.load(path)
    if value == "missing":
        del state[key]
    else:
        state[key] = value
    weights.save(path, state)
    said = refused("evaluate", copy_of_run)
    assert f"{path}: holds no network of this kit" in said or "trained on 0 classes" in said


def test_a_run_error_is_raised_for_a_packed_archive(saved):
    remake(saved, lambda name, content: content, zipfile.ZIP_DEFLATED)
    with pytest.raises(RunError, match="damaged"):
        weights.load(saved)
