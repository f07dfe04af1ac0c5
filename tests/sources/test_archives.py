"""A zip gives its files or one clear refusal, and never a file anywhere else."""

import os
import random
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from facekit.common.errors import DataError
from facekit.sources import archives

FILES = {"data/train/n000001/a.jpg": b"one" * 500, "data/train/n000002/b.jpg": os.urandom(3000),
         "data/list.csv": b"id,label\n0,n000001\n", "Büşra/ü.jpg": b"x"}  # fmt: skip


def pack(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as content:
        for name, data in files.items():
            content.writestr(name, data)
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return pack(tmp_path / "a.zip", FILES)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "deep" / "out"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".lock")
    }


def test_every_file_comes_out_as_it_went_in(archive, out):
    tops = archives.unpack(archive, out)
    assert tops == [out / "Büşra", out / "data"]
    assert everything(out) == FILES | {"mine.txt": b"mine"}


def test_the_folder_is_made_where_there_is_none(archive, tmp_path):
    archives.unpack(archive, tmp_path / "new" / "er")
    assert everything(tmp_path / "new" / "er") == FILES


def test_what_is_there_already_is_not_touched(archive, out):
    (out / "data").mkdir()
    (out / "data" / "list.csv").write_text("kept")
    before = everything(out)
    with pytest.raises(DataError, match=r"csv: is there already, and differs; nothing of .*a\.zip"):
        archives.unpack(archive, out)
    assert everything(out) == before


def with_info(path: Path, name: str, mode: int = 0, data: bytes = b"x") -> Path:
    info = zipfile.ZipInfo("good.txt")
    info.filename = name  # the constructor would mend some names
    info.external_attr = mode << 16
    with zipfile.ZipFile(path, "w") as content:
        content.writestr("fine.txt", b"fine")
        content.writestr(info, data)
    return path


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        ("../evil.txt", 0, "outside"),
        ("a/../../evil.txt", 0, "outside"),
        ("/tmp/facekit-evil.txt", 0, "outside"),
        ("C:/evil.txt", 0, "outside"),
        ("C:evil.txt", 0, "outside"),
        ("..\\evil.txt", 0, "outside"),
        ("a\nb.txt", 0, "control character"),
        ("a\x1b[31m.txt", 0, "control character"),
        ("link", stat.S_IFLNK | 0o777, "link or a device"),
        ("pipe", stat.S_IFIFO | 0o666, "link or a device"),
        ("disk", stat.S_IFBLK | 0o666, "link or a device"),
    ],
)
def test_members_that_could_hurt_are_refused_before_anything_is_written(
    tmp_path, out, name, mode, words
):
    archive = with_info(tmp_path / "bad.zip", name, mode)
    before = everything(tmp_path)
    with pytest.raises(DataError, match=words) as refused:
        archives.unpack(archive, out)
    assert str(archive) in str(refused.value)
    assert everything(tmp_path) == before
    assert not Path("/tmp/facekit-evil.txt").exists()
    assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize("second", ["a/b.txt", "A/B.txt", "a/B.TXT"])
def test_names_that_one_disk_would_merge_are_refused(tmp_path, out, second):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as content:
        content.writestr("a/b.txt", b"1")
        if second == "a/b.txt":
            with pytest.warns(UserWarning, match="Duplicate"):
                content.writestr(second, b"2")
        else:
            content.writestr(second, b"2")
    with pytest.raises(DataError, match=r"comes twice"):
        archives.unpack(tmp_path / "bad.zip", out)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["Train/x", "train/y"], "by case"),
        (["caf\u00e9/x", "cafe\u0301/y"], "by how an accent is written"),
        (["a./x", "a/y"], "by a dot at its end"),
        (["a/b. /x", "a/b/y"], "by a dot at its end"),
        (["aux/x"], "name of a device"),
        (["a/Com1.jpg"], "name of a device"),
        (["a", "a/b.jpg"], "'a' is a file and a folder"),
        (["manifest.json"], "the kit's own note"),
        (["./.facekit-setup.json"], "the kit's own note"),
    ],
)
def test_names_that_are_one_or_none_on_some_system_are_refused(tmp_path, out, names, words):
    with pytest.raises(DataError, match=words):
        archives.unpack(pack(tmp_path / "bad.zip", dict.fromkeys(names, b"1")), out)
    assert everything(out) == {"mine.txt": b"mine"}


@pytest.mark.parametrize("spell", ["./{}", "{}"])
def test_what_systems_add_is_left_out_and_their_spellings_are_read(tmp_path, out, spell):
    files = {spell.format(name): data for name, data in FILES.items()}
    added = {"__MACOSX/data/._list.csv": b"1", "data/list.csv:Zone.Identifier": b"2", "./": b""}
    archives.unpack(pack(tmp_path / "a.zip", files | added), out)
    assert everything(out) == FILES | {"mine.txt": b"mine"}


def test_back_slashes_part_folders(tmp_path, out):
    """As Windows PowerShell 5 writes them."""
    names = {name.replace("/", "\\"): data for name, data in FILES.items()}
    archives.unpack(pack(tmp_path / "a.zip", names | {"empty\\": b""}), out)
    assert everything(out) == FILES | {"mine.txt": b"mine"}


def test_two_zips_share_a_folder_and_a_second_call_finds_all_done(tmp_path, out, unchanged):
    halves = [dict(list(FILES.items())[part::2]) for part in range(2)]
    zips = [pack(tmp_path / f"{part}.zip", half) for part, half in enumerate(halves)]
    for path in zips:
        archives.unpack(path, out)
    assert everything(out) == FILES | {"mine.txt": b"mine"}
    with unchanged(out / "data"):
        archives.unpack(zips[0], out)


def test_it_goes_on_when_it_was_killed_between_two_moves(archive, out, monkeypatch):
    move, moved = Path.rename, []

    def stop(path: Path, target: Path) -> None:
        if moved:
            raise KeyboardInterrupt
        moved.append(move(path, target))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", stop)
        archives.unpack(archive, out)
    archives.unpack(archive, out)
    assert everything(out) == FILES | {"mine.txt": b"mine"}


def test_a_link_where_a_folder_belongs_is_not_followed(archive, out, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (out / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="data: is there already, and no folder"):
        archives.unpack(archive, out)
    assert everything(tmp_path / "elsewhere") == {}


def test_while_another_process_fills_the_folder_it_waits(archive, out, in_turn):
    in_turn(out, archives.unpack, archive, out)
    assert everything(out) == FILES | {"mine.txt": b"mine"}


@pytest.mark.parametrize(
    ("place", "value", "words"), [(10, 9, "Deflate64"), (8, 1, "is encrypted; ask for")]
)
def test_a_zip_that_python_cannot_read_is_refused_with_the_reason(
    tmp_path, out, place, value, words
):
    path = pack(tmp_path / "a.zip", {"a.jpg": b"1"})
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + place] = value
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        archives.unpack(path, out)


def test_a_bomb_is_refused_by_what_it_announces(tmp_path, out):
    archive = pack(tmp_path / "bomb.zip", {"zeros": bytes(archives.LARGE + 1)})
    assert archive.stat().st_size < 200_000
    with pytest.raises(DataError, match="would become"):
        archives.unpack(archive, out)
    assert everything(out) == {"mine.txt": b"mine"}


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [("MOST_MEMBERS", 3, "4 members"), ("MOST_BYTES", 4000, "would become"),
     ("ROOM", 1 << 62, "GB free; make room")],
)  # fmt: skip
def test_limits_hold(archive, out, monkeypatch, limit, value, words):
    monkeypatch.setattr(archives, limit, value)
    with pytest.raises(DataError, match=words):
        archives.unpack(archive, out)
    assert everything(out) == {"mine.txt": b"mine"}


def test_a_member_that_lies_about_its_size_is_refused(tmp_path, out):
    """The directory says ten bytes, and a thousand follow."""
    archive = pack(tmp_path / "liar.zip", {"a": bytes(1000)}, zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    place = content.rindex(b"PK\x01\x02")
    content[place + 24 : place + 28] = (10).to_bytes(4, "little")
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"liar\.zip: "):
        archives.unpack(archive, out)
    assert everything(out) == {"mine.txt": b"mine"}


@pytest.mark.parametrize("content", [b"", b"PK", b"<html>quota exceeded</html>", bytes(500)])
def test_what_is_no_zip_says_so(tmp_path, out, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"damaged, encrypted or no zip .*download it once more"):
        archives.unpack(tmp_path / "a.zip", out)
    with pytest.raises(DataError, match="no such file"):
        archives.unpack(tmp_path / "none.zip", out)


def test_two_thousand_damaged_zips_give_the_files_or_one_clear_error(tmp_path):
    """Flipped, cut, doubled and overwritten bytes: never another error, never a file outside."""
    whole = pack(tmp_path / "whole.zip", FILES).read_bytes()
    numbers = random.Random(0)
    cage = tmp_path / "cage"
    refused = 0
    for turn in range(2000):
        damaged = bytearray(whole)
        for _ in range(numbers.randint(1, 4)):
            at = numbers.randrange(len(damaged))
            how = numbers.randrange(4)
            if how == 0:
                damaged[at] ^= 1 << numbers.randrange(8)
            elif how == 1:
                del damaged[at : at + numbers.randint(1, 40)]
            elif how == 2:
                damaged[at : at + 8] = numbers.randbytes(8)
            else:
                damaged[at:at] = damaged[at : at + 16]
            if not damaged:
                damaged = bytearray(b"P")
        path = tmp_path / "damaged.zip"
        path.write_bytes(damaged)
        target = cage / str(turn)
        try:
            archives.unpack(path, target)
        except DataError as error:
            refused += 1
            assert str(path) in str(error) or str(target) in str(error)
            assert not everything(target)
        else:
            contents = set(everything(target).values())
            assert contents <= set(FILES.values())  # names have no checksum, contents do
    assert {p.name for p in tmp_path.iterdir()} == {"whole.zip", "damaged.zip", "cage"}
    assert 1500 < refused < 2000


SLOW = """
import sys, time
from facekit.sources import archives
write = archives._write
def slow(*arguments):
    write(*arguments); print("one", flush=True); time.sleep(60)
archives._write = slow
archives.unpack(sys.argv[1], sys.argv[2])
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_it_leaves_nothing_under_a_real_name_and_the_same_call_begins_anew(
    archive, out, how
):
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW, archive, out],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    child.stdout.readline()
    child.send_signal(how)
    child.wait()
    assert [p.name for p in out.iterdir() if p.name[0] != "."] == ["mine.txt"]
    time.sleep(0.01)
    archives.unpack(archive, out)
    assert everything(out) == FILES | {"mine.txt": b"mine"}


def test_the_command_unpacks_several_into_one_folder(tmp_path, run_cli, refused):
    first = pack(tmp_path / "a.zip", {"one/a.txt": b"1"})
    second = pack(tmp_path / "b.zip", {"two/b.txt": b"2"})
    out = tmp_path / "data"
    outcome = run_cli("unpack", first, second, "--out", out)
    assert outcome == (0, f"{out / 'one'}\n{out / 'two'}\n", "")
    assert everything(out) == {"one/a.txt": b"1", "two/b.txt": b"2"}
    assert run_cli("unpack", first, "--out", out).status == 0
    (out / "one" / "a.txt").write_bytes(b"2")
    assert "is there already, and differs" in refused("unpack", first, "--out", out)
    assert "no such file" in refused("unpack", tmp_path / "none.zip", "--out", out)
