"""kagglehub and Kaggle's program against a server on this machine, and a stub of the program.

What fails is told with what to do; what is interrupted goes on; no secret is in anything we say,
write or hand to anybody but those two.
"""

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import kaggle_server
import pytest
from kaggle_server import ALLOWANCE, KEY, RULES, TOKEN, USER, FakeKaggle
from kagglehub.exceptions import BackendError
from kagglesdk import kaggle_env

from facekit.common.errors import DataError, FacekitError
from facekit.common.kit import install_command
from facekit.data.layout import TERMS, CourseData, get_term
from facekit.sources import credentials, kaggle
from facekit.sources.credentials import Credentials
from facekit.sources.manifest import read_manifest

SLUGS = {task: f"11-785-f23-hw2p2-{task}" for task in kaggle.PARTS}
CLASSES, FACES = SLUGS.values()
FILLER = os.urandom(4 << 20)  # kagglehub writes a megabyte at a time: no course is so small
SECRETS = (TOKEN, KEY, base64.b64encode(f"{USER}:{KEY}".encode()).decode())
COMMAND = "data", "--source", "kaggle"


def names_in(folder: Path) -> set[str]:
    """What lies there, but for the lock of whoever fills it."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".lock")}


def put_program(folder: Path, script: str, name: str = "kaggle") -> None:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without credentials, and a cache of their own."""
    for name in list(os.environ):
        if name.startswith("KAGGLE") or name == "XDG_CONFIG_HOME":
            monkeypatch.delenv(name)
    folder = tmp_path / "user"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return folder


def send_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_KAGGLE", address)
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, address)


@pytest.fixture
def server(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKaggle]:
    """Who one talks to here and in every process that is started, logged in by a token."""
    put_program(tmp_path / "bin", f'exec "{sys.executable}" "{kaggle_server.__file__}" "$@"')
    tests, site = Path(__file__).parents[1], tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import kaggle_server; kaggle_server.redirect()\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (site, tests, tests.parent))))
    with kaggle_server.playing() as playing:
        send_to(playing.address, monkeypatch)
        monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
        yield playing


@pytest.fixture
def stub(home: Path, tmp_path: Path) -> Callable[..., Path]:
    """A `kaggle` that says what it is told to, and notes its variables and arguments."""

    def install(script: str) -> Path:
        noted = tmp_path / "noted"
        put_program(tmp_path / "bin", f"(env; printf 'ARG %s\\n' \"$@\") > '{noted}'\n{script}")
        return noted

    return install


def zipped(root: Path, prefix: str, more: dict[str, bytes] | None = None) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                archive.write(path, prefix + path.relative_to(root).as_posix())
        for name, data in (more or {}).items():
            archive.writestr(name, data)
    return content.getvalue()


@pytest.fixture
def zips(course: CourseData) -> dict[str, bytes]:
    """Both zips as Kaggle has them, each with one large file."""
    return {
        slug: zipped(course.root / slug, f"{slug}/", {f"{slug}/filler.bin": FILLER})
        for slug in SLUGS.values()
    }


def tree(root: Path, hidden: bool = False) -> dict[str, bytes]:
    """Every file of the two tasks below `root`; with `hidden`, all there is."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and (hidden or path.relative_to(root).parts[0] in SLUGS.values())
    }


def wanted(course: CourseData, filler: bool = True) -> dict[str, bytes]:
    more = {f"{slug}/filler.bin": FILLER for slug in SLUGS.values()} if filler else {}
    return tree(course.root) | more


# --- a course from Kaggle


WRAPPED = {
    "in its folder": "{slug}/",
    "bare": "",
    "in a folder of another name": "data/",
    "in two folders": "a/classification/",
}


@pytest.mark.parametrize("prefix", WRAPPED.values(), ids=WRAPPED)
def test_both_zips_become_a_course_however_they_are_wrapped(
    prefix: str, server: FakeKaggle, course: CourseData, run_cli, tmp_path: Path, unchanged
) -> None:
    for slug in SLUGS.values():
        server.files[slug] = zipped(course.root / slug, prefix.format(slug=slug))
    out = tmp_path / "home" / "data"
    outcome = run_cli(*COMMAND)
    assert outcome == (0, f"{out}: 6 classes, 36 training images\n", "")
    assert tree(out) == wanted(course, filler=False)
    made = json.loads((out / "manifest.json").read_text())
    assert (made["source"], made["term"], made["competitions"]) == (
        "kaggle",
        "F23",
        [*SLUGS.values()],
    )
    assert made["counts"] == read_manifest(course.root)["counts"]
    assert set(made["versions"]) == {"torch", "pillow"}
    assert names_in(out) == {*SLUGS.values(), "manifest.json"}
    asked = list(server.calls)
    with unchanged(out, tmp_path / "cache"):
        assert run_cli(*COMMAND) == outcome
    assert server.calls == asked, "a finished course asks nobody"


def test_a_list_beside_the_folder_and_what_a_mac_left_find_their_place(
    server: FakeKaggle, course: CourseData, run_cli, tmp_path: Path
) -> None:
    beside = {
        "classification_sample_submission.csv": b"mine",
        "extra.csv": b"a\n",
        "__MACOSX/x": b"",
    }
    for slug in SLUGS.values():
        server.files[slug] = zipped(course.root / slug, f"{slug}/", beside)
    out = tmp_path / "out"
    assert run_cli(*COMMAND, "--out", out).status == 0
    extra = {f"{slug}/extra.csv": b"a\n" for slug in SLUGS.values()}
    extra[f"{FACES}/classification_sample_submission.csv"] = b"mine"
    assert tree(out) == wanted(course, filler=False) | extra
    assert not (out / "__MACOSX").exists()


def test_another_term_has_other_competitions_and_folders(
    server: FakeKaggle, course: CourseData, run_cli, tmp_path: Path
) -> None:
    for task, slug in SLUGS.items():
        folder = getattr(TERMS["S24"], task)
        name = kaggle.slug_of(TERMS["S24"], task)
        server.files[name] = zipped(course.root / slug, f"{folder}/")
    assert run_cli(*COMMAND, "--term", "S24", "--out", tmp_path / "out").status == 0
    data = CourseData(tmp_path / "out", "S24")
    assert len(data.train) == len(course.train)
    assert [slug for slug, _ in server.downloads] == [
        "11785-hw2p2-face-recognition", "11785-hw2p2-face-verification",
    ]  # fmt: skip


def test_the_script_of_the_readme_does_it(
    server: FakeKaggle, zips: dict[str, bytes], course: CourseData, tmp_path: Path
) -> None:
    server.files = zips
    script = Path(__file__).parents[2] / "data_setup.sh"
    put_program(tmp_path / "bin", f'exec "{sys.executable}" "$@"', "python3")
    command = ["sh", script, "--source", "kaggle", "--term", "F23", "--out", tmp_path / "out"]
    environment = os.environ | {"FACEKIT_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "out") == wanted(course)


def test_what_is_in_the_folder_already_is_not_touched_and_nothing_is_fetched(
    server: FakeKaggle, refused, tmp_path: Path, unchanged
) -> None:
    (tmp_path / "out" / CLASSES).mkdir(parents=True)
    (tmp_path / "out" / CLASSES / "thesis.tex").write_text("mine")
    with unchanged(tmp_path):
        said = refused(*COMMAND, "--out", tmp_path / "out")
    assert "which this command did not make; choose another --out" in said
    assert server.calls == []


# --- interrupted


def start(tmp_path: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "facekit", *COMMAND, "--out", str(tmp_path / "out")]
    environment = os.environ | {"FACEKIT_HOME": str(tmp_path)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, cwd=tmp_path)


@pytest.mark.parametrize("during", [CLASSES, pytest.param(FACES, marks=pytest.mark.long)])
def test_killed_in_a_download_it_goes_on_with_the_bytes_it_has(
    during: str, server: FakeKaggle, zips, course: CourseData, run_cli, tmp_path: Path
) -> None:
    server.files, server.slow = zips, 0.01
    process = start(tmp_path)
    while not archived(tmp_path, during) and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    while server.busy:
        time.sleep(0.01)
    have = archived(tmp_path, during)
    assert 0 < have < len(zips[during])
    assert not (tmp_path / "out").exists()
    server.slow = 0
    server.downloads.clear()
    assert run_cli(*COMMAND, "--out", tmp_path / "out").status == 0
    assert tree(tmp_path / "out") == wanted(course)
    parts = [part for part in server.downloads if part[1]]
    assert parts == [(during, f"bytes={have}-")]


def archived(tmp_path: Path, slug: str) -> int:
    """The bytes of a competition's zip that are in the cache."""
    folder = tmp_path / "cache" / "kaggle" / slug
    return sum(path.stat().st_size for path in folder.rglob("*.archive"))


def kill_yourself(place: str, moment: int, out: Path) -> None:
    """Set the course up in a process that dies as it calls `place` for the so manieth time."""
    owner, name = place.rsplit(".", 1)
    code = (
        "import os, shutil, signal; from facekit import cli\n"
        f"real, count = {place}, iter(range(1, 10_000))\n"
        "def fatal(*arguments, **more):\n"
        f"    if next(count) == {moment}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*arguments, **more)\n"
        f"{owner}.{name} = fatal; cli.main()\n"
    )
    command = [sys.executable, "-c", code, *COMMAND, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    ("place", "moment"),
    [
        ("shutil.copyfileobj", 62),
        ("os.link", 62),
        *[
            pytest.param(place, moment, marks=pytest.mark.long)
            for place in ("shutil.copyfileobj", "os.link")
            for moment in (1, 80)
        ],
    ],
)
def test_killed_while_unpacking_it_goes_on(
    place: str, moment: int, server: FakeKaggle, course: CourseData, run_cli, tmp_path: Path
) -> None:
    for slug in SLUGS.values():
        server.files[slug] = zipped(course.root / slug, "", {"filler.bin": FILLER})
    out = tmp_path / "out"
    kill_yourself(place, moment, out)
    assert not (out / "manifest.json").exists()
    outcome = run_cli(*COMMAND, "--out", out)
    assert outcome.status == 0, outcome.stderr
    assert tree(out) == wanted(course)
    assert names_in(out) == {*SLUGS.values(), "manifest.json"}, "nothing half is left over"


def test_ctrl_c_stops_a_download(server: FakeKaggle, zips, tmp_path: Path) -> None:
    server.files, server.slow = zips, 0.01
    process = start(tmp_path)
    while not server.bytes_out and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)  # to this one process alone, as a notebook does
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert said.decode() == "facekit: stopped; the same command goes on\n"
    while server.busy:
        time.sleep(0.01)
    assert server.bytes_out < len(zips[CLASSES])


def test_the_second_of_two_at_once_waits(
    server: FakeKaggle, zips, course: CourseData, in_turn, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    server.files = zips
    monkeypatch.setenv("FACEKIT_HOME", str(tmp_path))
    cache = tmp_path / "cache" / "kaggle"
    files = in_turn(cache, kaggle.fetch, TERMS["F23"], "classification")
    assert {f"{CLASSES}/{name}" for name in files} < wanted(course).keys()
    assert len(files) > len(course.train.paths)


def test_what_was_fetched_is_not_fetched_again(
    server: FakeKaggle, zips, run_cli, course: CourseData, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    server.files = zips
    assert run_cli(*COMMAND, "--out", tmp_path / "out").status == 0
    server.bytes_out = 0
    assert run_cli(*COMMAND, "--out", tmp_path / "two").status == 0
    assert server.bytes_out < len(zips[CLASSES]) / 2, "but for what was under way at the hang-up"
    send_to("http://127.0.0.1:9", monkeypatch)
    assert run_cli(*COMMAND, "--out", tmp_path / "offline").status == 0
    assert tree(tmp_path / "two") == tree(tmp_path / "offline") == wanted(course)


# --- what comes is not what was asked for


def cached(tmp_path: Path) -> list[str]:
    folder = tmp_path / "cache" / "kaggle"
    found = (p for p in folder.rglob("*") if not p.name.startswith(".lock"))
    return sorted(p.relative_to(folder).as_posix() for p in found)


@pytest.mark.parametrize("where", ["DownloadDataFiles", "file"])
def test_a_web_page_is_no_zip(
    where: str, server: FakeKaggle, zips, refused, run_cli, course: CourseData, tmp_path: Path
) -> None:
    server.files, server.answer = zips, {where: "page"}
    said = refused(*COMMAND, "--out", tmp_path / "out")
    assert "no zip but a web page" in said
    assert f"https://www.kaggle.com/competitions/{CLASSES}/data" in said
    assert cached(tmp_path) == []
    assert not (tmp_path / "out").exists()
    server.answer = {}
    assert run_cli(*COMMAND, "--out", tmp_path / "out").status == 0
    assert tree(tmp_path / "out") == wanted(course)


def test_half_a_download_is_told_and_the_rest_comes_with_the_next_call(
    server: FakeKaggle, zips, refused, run_cli, course: CourseData, tmp_path: Path
) -> None:
    server.files, server.answer = zips, {"file": "half"}
    said = refused(*COMMAND, "--out", tmp_path / "out")
    assert "hung up half-way: look after the network, then run the same command again" in said
    have = archived(tmp_path, CLASSES)
    server.answer = {}
    server.downloads.clear()
    assert run_cli(*COMMAND, "--out", tmp_path / "out").status == 0
    assert (CLASSES, f"bytes={have}-") in server.downloads
    assert tree(tmp_path / "out") == wanted(course)


def damaged(content: bytes) -> bytes:
    place = content.index(FILLER) + 1000
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a bit": (damaged, "damaged"),
    "the end": (lambda content: content[: len(content) // 2], "damaged"),
    "all": (lambda content: b"\0" * 5000, "holds no train, dev, test but nothing"),
    "nothing there": (lambda content: b"", "damaged"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_zip_is_put_away_and_fetched_anew(
    damage: str, server: FakeKaggle, zips, refused, run_cli, course: CourseData, tmp_path: Path
) -> None:
    change, words = DAMAGE[damage]
    server.files = zips | {CLASSES: change(zips[CLASSES])}
    said = refused(*COMMAND, "--out", tmp_path / "out")
    assert words in said
    assert "fetches it anew" in said
    assert cached(tmp_path) == []
    server.files = zips
    assert run_cli(*COMMAND, "--out", tmp_path / "out").status == 0
    assert tree(tmp_path / "out") == wanted(course)


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a\\..\\evil.txt"])
def test_a_zip_that_leads_outside_stays_inside(
    name: str, server: FakeKaggle, course: CourseData, run_cli, tmp_path: Path
) -> None:
    for slug in SLUGS.values():
        server.files[slug] = zipped(course.root / slug, f"{slug}/", {name: b"evil"})
    assert run_cli(*COMMAND, "--out", tmp_path / "out").status == 0
    for path in tmp_path.rglob("*evil.txt"):
        assert {CLASSES, FACES} & set(path.relative_to(tmp_path).parts)


def test_a_zip_of_something_else_is_told(server: FakeKaggle, zips, refused, tmp_path: Path) -> None:
    server.files = {CLASSES: zips[FACES], FACES: zips[FACES]}
    said = refused(*COMMAND, "--out", tmp_path / "out")
    assert f"{CLASSES}: holds no train, dev, test but {FACES}; look whether it is F23's" in said
    assert cached(tmp_path) == []
    assert not (tmp_path / "out").exists()


# --- what Kaggle answers


REFUSALS = {  # what the server answers to which call -> what we say to do
    "rules": ({"DownloadDataFiles": f"403 {RULES}"}, "rules at https://www.kaggle.com/competitions/"),
    "403": ({"DownloadDataFiles": "403"}, f"/{CLASSES}/rules, then run the same command"),
    "404": ({"DownloadDataFiles": "404 Not found"}, "no such competition, or it is over"),
    "404, bare": ({"DownloadDataFiles": "404"}, "or choose another --term"),
    "401": ({"DownloadDataFiles": "401 Unauthenticated"}, "Kaggle does not know this access token"),
    "401, bare": ({"DownloadDataFiles": "401"}, "(KAGGLE_API_TOKEN in the environment): make"),
    "429": ({"DownloadDataFiles": "429"}, "enough requests for now: wait an hour"),
    "500": ({"DownloadDataFiles": "500"}, "Kaggle has a fault of its own: wait a while"),
    "hang up": ({"DownloadDataFiles": "hang up"}, "look after the network"),
    "address": ({"file": "403"}, "(403 Client Error: Forbidden"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_says_what_to_do(
    case: str, server: FakeKaggle, zips, refused, tmp_path: Path
) -> None:
    server.files = zips
    server.answer, words = REFUSALS[case]
    said = refused(*COMMAND, "--out", tmp_path / "out")
    assert words in said
    assert said.startswith(f"facekit: {CLASSES}: ")
    assert "Traceback" not in said
    assert "Signature=secret" not in said, "a signed address opens the file to anybody"
    assert not (tmp_path / "out").exists()


def test_an_answer_before_anything_came_is_told_as_it_is(
    home: Path, monkeypatch, tmp_path: Path
) -> None:
    fail = mock.Mock(side_effect=BackendError("the answer is no JSON"))
    monkeypatch.setattr("kagglehub.competition_download", fail)
    with pytest.raises(DataError, match="the answer is no JSON"):
        kaggle.fetch(get_term("F23"), "classification")


def test_offline_is_said_with_what_to_do(
    server: FakeKaggle, refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_to("http://127.0.0.1:9", monkeypatch)
    assert "Kaggle cannot be reached" in refused(*COMMAND, "--out", tmp_path / "out")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_said_with_what_to_do(
    server: FakeKaggle, zips, refused, tmp_path: Path
) -> None:
    server.files = zips
    archive = tmp_path / "cache" / "kaggle" / CLASSES / "competitions" / f"{CLASSES}.archive"
    archive.parent.mkdir(parents=True)
    archive.symlink_to("/dev/full")
    said = refused(*COMMAND, "--out", tmp_path / "out")
    assert "cannot be written: make room, then run the same command again" in said
    assert "[Errno 28] No space left on device" in said


def test_who_looks_on_sees_how_far_a_download_is(
    server: FakeKaggle, zips, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files = zips
    kaggle.fetch(TERMS["F23"], "classification", progress=True)
    shown = capsys.readouterr()
    assert "100%" in shown.err
    assert shown.out == ""


def test_without_credentials_it_is_said_where_to_put_them(
    server: FakeKaggle, refused, copy_of_run: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    words = "no credentials for Kaggle here: make a token at"
    assert words in refused(*COMMAND, "--out", tmp_path / "out")
    assert words in refused("submit", copy_of_run, "--kaggle")
    assert server.calls == []


def test_without_kagglehub_it_is_said_how_to_get_it(
    home: Path, refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    said = refused(*COMMAND, "--out", tmp_path / "out")
    assert said.endswith(install_command("kaggle"))


# --- what Kaggle's program says, by a stub: every stream, older versions too


def send() -> str:
    return kaggle.send("slug", Path("mine.csv"), "first try")


SAID = {  # status, stream, text -> what we say
    "on stdout": (1, 1, "403 - Forbidden", "(it said: 403 - Forbidden)"),
    "on stderr": (1, 2, ALLOWANCE, f"(it said: {ALLOWANCE})"),
    "in lines": (1, 2, "50%|===\rOne\n two", "(it said: One two)"),
    "a traceback": (1, 2, "Traceback (most recent call last):\n  File\nModuleNotFoundError: No "
                    "module named 'six'", "(it said: ModuleNotFoundError: No module named 'six')"),
    "not found, status 0": (0, 1, "Could not find competition - please verify", "Could not find"),
    "not sent, status 0": (0, 1, "Could not submit to competition", "Could not submit"),
    "stopped, status 0": (0, 1, "User cancelled operation", "User cancelled operation"),
    "silence": (3, 1, "", "it gave no reason"),
}  # fmt: skip


@pytest.mark.parametrize("case", SAID)
def test_whatever_stream_it_says_it_on_it_is_heard(
    case: str, stub: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    status, stream, text, words = SAID[case]
    stub(f"cat >&{stream} <<'END'\n{text}\nEND\nexit {status}")
    with pytest.raises(FacekitError) as error:
        send()
    said = str(error.value)
    assert words in said
    assert "look whether the competition at https://www.kaggle.com/competitions/slug is" in said
    assert "access token good (KAGGLE_API_TOKEN in the environment)" in said


def test_without_the_program_it_is_said_how_to_get_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(FacekitError, match=re.escape(install_command("kaggle"))):
        send()


def test_the_program_beside_this_python_is_found_without_a_path(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_program(tmp_path / "venv", "echo here")
    monkeypatch.setattr("sys.executable", str(tmp_path / "venv" / "python"))
    assert send() == "here"


def test_arguments_reach_the_client_as_they_are(stub: Callable, tmp_path: Path) -> None:
    noted = stub("echo ok")
    path = tmp_path / "my file; rm -rf $HOME.csv"
    kaggle.send("slug", path, "-x $(touch evil) 'é'")
    arguments = [line for line in noted.read_text().splitlines() if line.startswith("ARG ")]
    assert arguments[3:] == ["ARG -f", f"ARG {path}", "ARG --message=-x $(touch evil) 'é'"]


# --- credentials


def note_of(noted: Path) -> dict[str, str]:
    lines = [line.partition("=") for line in noted.read_text().splitlines()]
    return {name: value for name, _, value in lines if name.startswith(("KAGGLE", "VERBOSE"))}


def write_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


LOGIN = json.dumps({"username": USER, "key": KEY})


def in_environment(home: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("KAGGLE_API_TOKEN", TOKEN)


def as_a_path(home: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("KAGGLE_API_TOKEN", str(write_file(home / "token.txt", f"{TOKEN}\n")))


def user_in_environment(home: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("KAGGLE_USERNAME", USER)
    patch.setenv("KAGGLE_KEY", KEY)


def on_colab(home: Path, patch: pytest.MonkeyPatch) -> None:
    userdata = types.SimpleNamespace(get={"KAGGLE_API_TOKEN": TOKEN}.__getitem__)
    colab = types.ModuleType("google.colab")
    colab.userdata = userdata
    patch.setitem(sys.modules, "google", types.ModuleType("google"))
    patch.setitem(sys.modules, "google.colab", colab)


def on_kaggle(home: Path, patch: pytest.MonkeyPatch) -> None:
    class UserSecretsClient:
        def get_secret(self, name: str) -> str:
            return {"KAGGLE_USERNAME": USER, "KAGGLE_KEY": KEY}[name]

    module = types.ModuleType("kaggle_secrets")
    module.UserSecretsClient = UserSecretsClient
    patch.setitem(sys.modules, "kaggle_secrets", module)


def in_token_file(home: Path, patch: pytest.MonkeyPatch) -> None:
    write_file(home / ".kaggle" / "access_token", f"{TOKEN}\n")


def in_named_folder(home: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("KAGGLE_CONFIG_DIR", str(home / "elsewhere"))
    write_file(home / "elsewhere" / "kaggle.json", LOGIN)


def in_kaggle_json(home: Path, patch: pytest.MonkeyPatch) -> None:
    write_file(home / ".kaggle" / "kaggle.json", LOGIN)


def in_xdg(home: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("XDG_CONFIG_HOME", str(home / "xdg"))
    write_file(home / "xdg" / "kaggle" / "kaggle.json", LOGIN)


@pytest.mark.parametrize("put", [in_kaggle_json, in_token_file])
def test_a_byte_order_mark_is_no_part_of_a_secret(
    put: Callable, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(home, monkeypatch)
    plain = credentials.find()
    (file,) = (home / ".kaggle").iterdir()
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert credentials.find() == plain


PAIR = "KAGGLE_USERNAME and KAGGLE_KEY"
PLACES = {  # in the order in which they count
    in_environment: ("access token", "KAGGLE_API_TOKEN in the environment"),
    user_in_environment: ("user name and key", f"{PAIR} in the environment"),
    on_colab: ("access token", "KAGGLE_API_TOKEN among Colab's secrets"),
    on_kaggle: ("user name and key", f"{PAIR} among this notebook's secrets"),
    in_token_file: ("access token", ".kaggle/access_token"),
    in_named_folder: ("user name and key", "elsewhere/kaggle.json"),
    in_kaggle_json: ("user name and key", ".kaggle/kaggle.json"),
    in_xdg: ("user name and key", "xdg/kaggle/kaggle.json"),
}  # fmt: skip


@pytest.mark.parametrize("count", range(len(PLACES)), ids=[put.__name__ for put in PLACES])
def test_the_first_credentials_count_and_only_they_reach_the_client(
    count: int, home: Path, stub: Callable, run_cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for put in list(PLACES)[count:]:
        put(home, monkeypatch)
    kind, place = list(PLACES.values())[count]
    found = credentials.find()
    assert (found.kind, found.place.endswith(place)) == (kind, True)
    monkeypatch.setenv("VERBOSE", "1")  # would make the client print its headers
    monkeypatch.setenv("KAGGLE_API_V1_TOKEN", "/nowhere")
    noted = stub("echo ok")
    send()
    handed = note_of(noted)
    handed.pop("KAGGLE_CONFIG_DIR", None)
    if kind == "access token":
        assert handed == {"KAGGLE_API_TOKEN": TOKEN}
    else:
        user = {"KAGGLE_USERNAME": USER, "KAGGLE_KEY": KEY}
        assert handed == user | {"KAGGLE_API_TOKEN": os.devnull}
    doctor = run_cli("doctor").stdout
    (line,) = (line for line in doctor.splitlines() if line.startswith("kaggle-login"))
    assert line.startswith(f"kaggle-login  {kind}  (")
    assert line.endswith(f"{place})")


def test_a_token_may_be_given_by_its_path(
    home: Path, stub: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_a_path(home, monkeypatch)
    noted = stub("echo ok")
    send()
    assert note_of(noted) == {"KAGGLE_API_TOKEN": TOKEN}


def test_the_key_we_hand_on_counts_and_not_a_token_that_lies_about(
    home: Path, server: FakeKaggle, copy_of_run: Path, run_cli, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    user_in_environment(home, monkeypatch)
    write_file(home / ".kaggle" / "access_token", "KGAT_of_somebody_else")
    assert run_cli(*COMMAND, "--out", tmp_path / "out").status == 2
    assert run_cli("submit", copy_of_run, "--kaggle").status == 0
    basic = base64.b64encode(f"{USER}:{KEY}".encode()).decode()
    assert {authorization for _, authorization in server.calls} == {f"Basic {basic}"}
    assert "KAGGLE_API_TOKEN" not in os.environ


@pytest.mark.parametrize("put", [on_colab, on_kaggle])
def test_a_notebooks_secrets_reach_kagglehub(
    put: Callable, home: Path, server: FakeKaggle, zips, run_cli, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    put(home, monkeypatch)
    server.files = zips
    assert run_cli(*COMMAND, "--out", tmp_path / "out").status == 0
    assert all(authorization for _, authorization in server.calls)


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has modes")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o666, 0o700])
@pytest.mark.parametrize("name", ["kaggle.json", "access_token"])
def test_a_file_that_is_open_to_others_is_told_and_left_as_it_is(
    name: str, mode: int, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = LOGIN if name == "kaggle.json" else TOKEN
    path = write_file(home / ".kaggle" / name, text, mode)
    assert credentials.find().place == str(path)
    assert path.stat().st_mode & 0o777 == mode
    assert path.read_text() == text
    told = f"facekit: {path}: holds a secret and is open to others; close it: chmod 600 {path}"
    assert told in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has modes")
@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_closed_file_is_left_as_it_is(
    mode: int, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_file(home / ".kaggle" / "kaggle.json", LOGIN, mode)
    credentials.find()
    assert path.stat().st_mode & 0o777 == mode
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"username": "a"}', '{"username": 1, "key": 2}', "\udcff{",
             LOGIN.replace(USER, "")],
)  # fmt: skip
def test_a_broken_kaggle_json_is_named_and_not_shown(
    text: str, home: Path, refused, run_cli, tmp_path: Path
) -> None:
    path = home / ".kaggle" / "kaggle.json"
    path.parent.mkdir()
    path.write_bytes(text.encode(errors="surrogateescape"))
    path.chmod(0o600)
    said = refused(*COMMAND, "--out", tmp_path / "out")
    assert f"{path}: holds no username and key; make a new one at" in said
    assert KEY not in said
    assert f"not usable  ({path}: holds no" in run_cli("doctor").stdout


def test_doctor_says_where_there_are_none(home: Path, run_cli) -> None:
    assert "kaggle-login  none  (" in run_cli("doctor").stdout


# --- no secret anywhere


def test_no_text_of_credentials_shows_them() -> None:
    for found in (Credentials("here", token=TOKEN), Credentials("here", user=USER, key=KEY)):
        shown = f"{found} {found!r} {vars(found).keys()}"
        assert not any(secret in shown for secret in (*SECRETS, USER))


@pytest.mark.parametrize("status", [0, 1])
@pytest.mark.parametrize("put", [in_environment, as_a_path, user_in_environment, in_kaggle_json])
def test_what_the_client_says_is_shown_without_secrets(
    put: Callable, status: int, home: Path, stub: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(home, monkeypatch)
    stub(
        f'echo "at first $KAGGLE_KEY$KAGGLE_API_TOKEN then Authorization: Basic {SECRETS[2]}"\n'
        f'echo \'https://storage.test/a.zip?X-Goog-Signature=abc&k=1 "key": "{KEY}"\' >&2\n'
        f"exit {status}"
    )
    try:
        said = send()
    except FacekitError as error:
        said = f"{error} {error.__cause__} {error.__context__}"
    assert "at first ***" in said
    assert not any(secret in said for secret in (*SECRETS, "X-Goog-Signature"))


def test_a_secret_that_looks_like_none_is_hidden_too(home: Path, stub: Callable) -> None:
    login = {"username": USER, "key": "open-sesame"}
    write_file(home / ".kaggle" / "kaggle.json", json.dumps(login))
    stub('echo "it is $KAGGLE_KEY"')
    assert send() == "it is ***"


def contents(path: Path) -> Iterator[bytes]:
    """The bytes of a file and, where it is a zip (a checkpoint is one), of all in it."""
    yield path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())


def leaks(*folders: Path) -> list[Path]:
    return [
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and any(s.encode() in data for data in contents(path) for s in SECRETS)
    ]


def test_the_search_for_secrets_finds_them(tmp_path: Path) -> None:
    for name, text in (("a.txt", f"x{TOKEN}x"), ("b.txt", "x"), ("c.json", LOGIN)):
        (tmp_path / name).write_text(text)
    with zipfile.ZipFile(tmp_path / "d.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", SECRETS[2] * 3)
    assert sorted(path.name for path in leaks(tmp_path)) == ["a.txt", "c.json", "d.pt"]


@pytest.mark.parametrize("put", [in_environment, user_in_environment, in_kaggle_json])
def test_no_command_prints_or_writes_a_secret(
    put: Callable, home: Path, server: FakeKaggle, zips, run_cli, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    put(home, monkeypatch)
    server.files = zips
    out, run = tmp_path / "out", tmp_path / "run"
    short = "--set", "epochs=1", "--set", "image_size=16", "--device", "cpu"
    said = [
        run_cli("doctor", "--data", out),
        run_cli(*COMMAND, "--out", out),
        run_cli("train", "smoke", "--data", out, "--out", run, *short),
        run_cli("submit", run, "--kaggle"),
        run_cli("doctor", "--data", out),
    ]
    assert [outcome.status for outcome in said] == [0] * 5, said
    assert len(server.sent) == 2
    server.answer = {"*": f"403 no {TOKEN} {KEY} {USER}"}
    said += [run_cli("submit", run, "--kaggle"), run_cli(*COMMAND, "--out", tmp_path / "two")]
    assert [outcome.status for outcome in said[5:]] == [2, 2]
    text = " ".join(outcome.stdout + outcome.stderr for outcome in said)
    assert not any(secret in text for secret in SECRETS)
    assert (run / "best.pt").is_file()
    planted = {home / ".kaggle" / "kaggle.json"}
    assert set(leaks(tmp_path)) <= planted


# --- sending


def test_both_submissions_are_sent_with_the_runs_name(
    server: FakeKaggle, copy_of_run: Path, run_cli
) -> None:
    outcome = run_cli("submit", copy_of_run, "--kaggle")
    assert outcome.status == 0, outcome.stderr
    assert outcome.stdout.splitlines()[-2:] == [
        f"Submission ref: 7 9 submissions remaining today. Successfully submitted to {slug}"
        for slug in SLUGS.values()
    ]
    assert [(sent["competitionName"], sent["submissionDescription"]) for sent in server.sent] == [
        (slug, "facekit run copy_of_run") for slug in SLUGS.values()
    ]
    files = [(copy_of_run / f"{task}.csv").read_bytes() for task in SLUGS]
    assert [server.uploads[sent["blobFileTokens"]] for sent in server.sent] == files


def test_the_message_can_be_another(server: FakeKaggle, copy_of_run: Path, run_cli) -> None:
    message = "--message", '-1 % better; it\'s "good"'
    assert run_cli("submit", copy_of_run, "--kaggle", *message).status == 0
    assert {sent["submissionDescription"] for sent in server.sent} == {message[1]}


def test_what_would_be_refused_is_not_sent(
    server: FakeKaggle, copy_of_run: Path, copy_of_course: Path, refused
) -> None:
    sample = copy_of_course / CLASSES / "classification_sample_submission.csv"
    sample.write_text("".join(sample.read_text().splitlines(keepends=True)[:-1]))
    said = refused("submit", copy_of_run, "--data", copy_of_course, "--kaggle")
    assert f"{sample} is stale or another term's" in said
    assert server.calls == []


SENDING = {
    "rules": ({"CreateSubmission": f"403 {RULES}"}, "you may need to accept its rules"),
    "over": ({"StartSubmissionUpload": "404 Not found"}, "Not found"),
    "allowance": ({"CreateSubmission": f"400 {ALLOWANCE}"}, f"(it said: {ALLOWANCE})"),
    "401": ({"IntrospectToken": "401 Unauthenticated"}, "access token good (KAGGLE_API_TOKEN in"),
    "500": ({"CreateSubmission": "500"}, "500 Server Error"),
    "hang up": ({"*": "hang up"}, "whether the network is there"),
    "upload": ({"upload": "no"}, "Could not submit to competition"),
}


@pytest.mark.parametrize("case", SENDING)
def test_a_submission_that_is_not_taken_says_what_to_do(
    case: str, server: FakeKaggle, copy_of_run: Path, refused
) -> None:
    server.answer, words = SENDING[case]
    assert words in refused("submit", copy_of_run, "--kaggle")
    assert server.sent == []
    assert (copy_of_run / "verification.csv").is_file()
