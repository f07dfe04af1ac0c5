"""Files written whole or not at all, and CSV files read with care: every fault one sentence."""

import csv
import errno
import io
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from facekit.common.errors import DataError

ADVICE = {
    errno.ENOSPC: "make room, or choose another folder",
    errno.EDQUOT: "make room, or choose another folder",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "choose a folder that can be written",
}
LARGEST = 20 * 2**20  # bytes of a table that is read: some 800,000 answers
MOST_ROWS = 1_000_000
WIDEST = 100  # columns
LONGEST = 1_000  # characters of a value
PACKED = {".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".tar", ".7z", ".rar", ".xlsx", ".xls"}


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The CSV file at `path`, values as strings; it must have these columns, in any order.

    A column without a name is called Unnamed: and its place. Raises DataError that names the file
    when it is missing, empty, too large, no table, or lacks a column.
    """
    path = Path(path)
    rows = _rows(path, _text(path))
    if not rows:
        raise DataError(f"{path}: the file is empty")
    header = [name or f"Unnamed: {place}" for place, name in enumerate(rows[0])]
    missing = [column for column in columns if column not in header]
    if missing:
        advice = ""
        if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
            advice = "; its columns are not separated by commas: save it as CSV with commas"
        raise DataError(
            f"{path}: no column {', '.join(missing)}; it has {', '.join(header)}{advice}"
        )
    if len(set(header)) < len(header):
        raise DataError(f"{path}: a column comes twice; it has {', '.join(header)}")
    return pd.DataFrame(rows[1:], columns=header, dtype=str)


def _text(path: Path) -> str:
    """What is in a table's file: never unpacked, and never more than a table can be."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.suffix.lower() in PACKED:
        raise DataError(
            f"{path}: a {path.suffix} file is no table; unpack it, or save the sheet as CSV"
        )
    size = path.stat().st_size
    if size > LARGEST:
        raise DataError(f"{path}: {size:,} bytes; a table has {LARGEST:,} at most")
    try:
        # utf-8-sig takes off the mark that spreadsheet programs put before the header.
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a CSV file ({error}); save it as CSV in UTF-8") from error
    if "\0" in text:
        raise DataError(f"{path}: not a CSV file (it holds zero bytes); save it as CSV in UTF-8")
    return text


def _rows(path: Path, text: str) -> list[list[str]]:
    """The values of each line that is not blank, as many as the header has."""
    rows: list[list[str]] = []
    # Not by pandas: that renames columns, and takes minutes for a header of 20,000.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if len(row) < 2 and not "".join(row).strip():
                continue
            fault = _row_fault(row, len(rows[0]) if rows else None, len(rows))
            if fault:
                raise DataError(f"{path}: not a CSV file: {fault} (line {reader.line_num})")
            rows.append(row + [""] * (len(rows[0]) - len(row) if rows else 0))
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file ({error}, line {reader.line_num})") from error
    return rows


def _row_fault(row: list[str], width: int | None, before: int) -> str:
    """What is wrong with a row of a table whose header has `width` columns; None: it is that."""
    if width is None and len(row) > WIDEST:
        return f"{len(row):,} columns; a table has {WIDEST} at most"
    if width is not None and len(row) > width:
        return "its rows have more values than its header has columns"
    if before > MOST_ROWS:
        return f"a table has {MOST_ROWS:,} rows at most"
    if any(len(value) > LONGEST for value in row):
        return f"a value of more than {LONGEST:,} characters"
    return ""


def refuse_link(path: Path) -> None:
    """Raise DataError where a file that was handed in, or the folder it lies in, is a link.

    It may lead to the answers, or to what somebody else has handed in.
    """
    for place in (path, path.parent):
        at_the_top = place.parent == Path(place.anchor)  # only the system's own: macOS has /tmp
        if place.is_symlink() and not at_the_top:
            raise DataError(f"{place}: a link, where the file itself is wanted; copy it there")


def write_table(
    path: Path, columns: Sequence[str], rows: Iterable[Sequence], private: bool = False
) -> None:
    """Write a CSV file without an index column; whoever reads it sees the old or the new whole.

    `private`: nobody else on this machine can read it.

    Raises DataError for a text that is no Unicode, such as the name of a file from another system.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = pd.DataFrame(list(rows), columns=list(columns)).to_csv(index=False, lineterminator="\n")
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        line = text[: error.start].rpartition("\n")[2] + text[error.start :].partition("\n")[0]
        raise DataError(f"{path}: {line} is no text (UTF-8); rename the file") from error
    write_whole(path, content, private)


def write_whole(
    path: Path, content: bytes, private: bool = False, sync_folder: bool = True
) -> None:
    """Write a file that is the old or the new whole, whatever happens.

    `private`: nobody else on this machine can read it.
    `sync_folder`: whether its name, too, is on the disk before this returns, which takes longer
    than all the rest; who writes many files does it once, at the end. Raises
    OSError that names the file and, for a full or read-only disk, says what to do.
    """
    try:
        with whole_file(path, private) as file:
            file.write(content)
        if sync_folder:
            sync(path.parent)
    except OSError as error:
        why = "; ".join(filter(None, (error.strerror, ADVICE.get(error.errno))))
        raise OSError(error.errno, why, str(path)) from error


@contextmanager
def whole_file(path: Path, private: bool = False) -> Iterator[BinaryIO]:
    """A file to write to that becomes `path` when the block ends well, and is removed otherwise.

    It lies beside `path` under a name that nobody can guess and lay a link at; the process in the
    name tells others whether its writer still lives. A link at `path` is replaced, not followed.
    """
    # The name is cut short: with its additions it may not be too long for the disk.
    part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.{os.getpid()}.part")
    try:
        part.touch(0o600 if private else 0o666, exist_ok=False)
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # a rename may reach the disk before the bytes do
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def sync(folder: Path) -> None:
    """Let the names in a folder reach the disk before anything else is done."""
    with suppress(OSError):  # not everywhere can folders be synced; the file itself is safe
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
