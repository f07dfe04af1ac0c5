"""CSV files read and written with care: every value a string, every fault one clear sentence."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from facekit.common.errors import DataError


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


def write_whole(path: Path, content: bytes) -> None:
    """Write bytes to a temporary file beside `path`, then rename it: never half a file."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    os.replace(part, path)
