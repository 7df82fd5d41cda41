"""Rows of a CSV or Parquet file as text, with the row number that a message can name."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cervicyte.base.files import printable
from cervicyte.data.readers.base import EXAMPLES, plural
from cervicyte.errors import DataError

#: Endings of files that are read as tables.
SUFFIXES = frozenset({".csv", ".tsv", ".parquet"})


@dataclass(frozen=True)
class Rows:
    """A table of text.

    Attributes
    ----------
    columns : names in lower case, without spaces at their ends
    rows : the number of each row as its file counts it, and its values; what is missing is ""
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]


def read_rows(path: Path) -> Rows:
    """Read a CSV (comma, semicolon or tab, UTF-8) or Parquet file.

    Raises
    ------
    DataError : it cannot be read, has no header, a column twice, or a row with more values than the header
    """
    try:
        if path.suffix.lower() == ".parquet":
            return _parquet(path)
        return parse_csv(path.read_bytes().decode("utf-8-sig"), path)
    except OSError as error:
        raise DataError(
            f"cannot read the table: {error.strerror or error}", printable(path), "check the file"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError("the table is not UTF-8 text", printable(path), "save it as CSV UTF-8") from error


def parse_csv(text: str, name: object = "table") -> Rows:
    """Read the text of a CSV file; the first line names the columns. Raises as `read_rows`."""
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        columns = _columns(header, name)
        rows = []
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            if len(values) > len(columns):
                raise DataError(
                    f"line {reader.line_num} of the table has more values than the header",
                    f"{len(values)} values for {len(columns)} columns in {printable(name)}",
                    'put a value that holds a comma in "quotation marks"',
                )
            filled = values + [""] * (len(columns) - len(values))
            rows.append((reader.line_num, dict(zip(columns, filled, strict=True))))
    except csv.Error as error:
        raise DataError(f"line {reader.line_num} of the table cannot be read ({error})", printable(name)) from error
    return Rows(columns, tuple(rows))


def require(table: Rows, names: Iterable[str], path: Path) -> None:
    """Raise a DataError that names the columns that are missing."""
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise DataError(
            f"the table has no column {' and no column '.join(map(repr, missing))}",
            f"{printable(path)} with the columns {', '.join(map(repr, table.columns))}",
            "name the columns in the first line; see `cervicyte data list` for what a table needs",
        )


def rows_note(numbers: list[int], what: str) -> list[str]:
    """A note "3 rows <what> (rows 2, 5, 9)", or none for no rows."""
    if not numbers:
        return []
    more = f" and {len(numbers) - EXAMPLES} more" if len(numbers) > EXAMPLES else ""
    return [f"kept out: {plural(len(numbers), 'row')} {what} (row {', '.join(map(str, numbers[:EXAMPLES]))}{more})"]


def _columns(header: Iterable[object], name: object) -> tuple[str, ...]:
    columns = tuple(str(column).strip().lower() for column in header)
    if not any(columns):
        raise DataError("the table is empty", printable(name), "the first line must name the columns")
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise DataError("the table has a column twice", ", ".join(map(repr, twice)), "rename one of them")
    return columns


def _parquet(path: Path) -> Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, ValueError) as error:
        raise DataError(f"not a Parquet file that can be read ({error})", printable(path), "write it again") from error
    columns = _columns(table.column_names, path)
    values = zip(*(table.column(i).to_pylist() for i in range(len(columns))), strict=True)
    rows = ((n, dict(zip(columns, map(_text, row), strict=True))) for n, row in enumerate(values, start=1))
    return Rows(columns, tuple((n, row) for n, row in rows if any(row.values())))


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
