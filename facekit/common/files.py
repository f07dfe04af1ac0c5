"""Files written whole or not at all, and CSV files read with care: every fault one sentence."""

import errno
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


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The CSV file at `path`, values as strings; it must have these columns, in any order.

    Raises DataError that names the file when it is missing, empty, no table, or lacks a column.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        # utf-8-sig takes off the mark that spreadsheet programs put before the header.
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path}: the file is empty") from error
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a CSV file ({str(error).splitlines()[0]})") from error
    if len(table) and not isinstance(table.index, pd.RangeIndex):
        raise DataError(f"{path}: its rows have more values than its header has columns")
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(
            f"{path}: no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}"
        )
    return table


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Write a CSV file without an index column; whoever reads it sees the old or the new whole.

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
    write_whole(path, content)


def write_whole(path: Path, content: bytes, sync_folder: bool = True) -> None:
    """Write a file that is the old or the new whole, whatever happens.

    `sync_folder`: whether its name, too, is on the disk before this returns, which takes longer
    than all the rest; who writes many files does it once, at the end. Raises
    OSError that names the file and, for a full or read-only disk, says what to do.
    """
    try:
        with whole_file(path) as file:
            file.write(content)
        if sync_folder:
            sync(path.parent)
    except OSError as error:
        why = "; ".join(filter(None, (error.strerror, ADVICE.get(error.errno))))
        raise OSError(error.errno, why, str(path)) from error


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that becomes `path` when the block ends well, and is removed otherwise.

    It lies beside `path` under a name that nobody can guess and lay a link at; the process in the
    name tells others whether its writer still lives. A link at `path` is replaced, not followed.
    """
    # The name is cut short: with its additions it may not be too long for the disk.
    part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
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
