"""Rows of a CSV or Parquet file as text, with the row number that a message can name."""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cervicyte.base.files import printable
from cervicyte.base.wording import plural
from cervicyte.data.readers.base import EXAMPLES
from cervicyte.errors import DataError

#: Endings of files that are read as tables; .txt is what Excel calls "Unicode text".
SUFFIXES = frozenset({".csv", ".tsv", ".txt", ".parquet"})

#: What separates values, the most usual first.
_DELIMITERS = ",;\t|"
#: Excel's own first line, which names the mark between values.
_SEP = re.compile(r"\"?sep=(.)\"?[,;\t|]* *(?:\r\n|\r|\n)", re.IGNORECASE)
#: How laboratory systems keep the zeros of "0012" in Excel: as a formula.
_FORMULA = re.compile(r'="((?:[^"]|"")*)"')


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A table of text.

    Attributes
    ----------
    columns : names in lower case, without spaces at their ends, each once
    rows : the number of each row as its file counts it, and its values; what is missing is ""
    repeated : names of columns that stood there more than once; their first is meant
    unnamed : columns without a name that hold something, and are not read
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]
    repeated: tuple[str, ...] = ()
    unnamed: int = 0


def read_rows(path: Path) -> Rows:
    """Read a CSV (comma, semicolon, tab or bar; UTF-8 or UTF-16) or Parquet file.

    Empty columns and rows, a first line "sep=;" and formulas that keep the zeros of ="0012" are read as Excel does.

    Raises
    ------
    DataError : it cannot be read, has no header, or a row with more values than the header
    """
    try:
        if path.suffix.lower() == ".parquet":
            return _parquet(path)
        return parse_csv(_text_of(path.read_bytes()), path)
    except OSError as error:
        raise DataError(
            f"cannot read the table: {error.strerror or error}", printable(path), "check the file"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError("the table is not UTF-8 or UTF-16 text", printable(path), "save it as CSV UTF-8") from error


def _text_of(data: bytes) -> str:
    """Decode as the first bytes say: a mark, or the zeros of ASCII letters in UTF-16."""
    if data.startswith(b"PK\x03\x04"):
        raise DataError("an Excel workbook under the name of a text file", "a ZIP archive", "save it as CSV UTF-8")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    if len(data) >= 4 and not data[1] and not data[3] and data[0]:
        return data.decode("utf-16-le")
    if len(data) >= 4 and not data[0] and not data[2] and data[1]:
        return data.decode("utf-16-be")
    return data.decode("utf-8-sig")


def parse_csv(text: str, name: object = "table") -> Rows:
    """Read the text of a CSV file; the first line that holds anything names the columns. Raises as `read_rows`."""
    text = text.removeprefix("\ufeff")
    skipped = 0
    if declared := _SEP.match(text):
        text, skipped = text[declared.end() :], 1
    delimiter = declared[1] if declared else max(_DELIMITERS, key=lambda mark: _width(text, mark))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next((values for values in reader if any(value.strip() for value in values)), [])
        columns = _columns(header, name)
        named = _first_places(columns)
        rows, unnamed = [], set()
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            number = reader.line_num + skipped
            if any(value.strip() for value in values[len(columns) :]):
                raise DataError(
                    f"line {number} of the table has more values than the header",
                    f"{len(values)} values for {len(columns)} columns in {printable(name)}",
                    f'put a value that holds a "{delimiter}" in "quotation marks"',
                )
            filled = values[: len(columns)] + [""] * (len(columns) - len(values))
            unnamed |= {k for k, value in enumerate(filled) if value and not columns[k]}
            rows.append((number, {columns[k]: _plain(filled[k]) for k in named}))
    except csv.Error as error:
        raise DataError(
            f"line {reader.line_num + skipped} of the table cannot be read ({error})",
            printable(name),
            "close each quotation mark, and write one within a value twice",
        ) from error
    return _rows(columns, rows, len(unnamed))


def _rows(columns: tuple[str, ...], rows: Iterable[tuple[int, dict[str, str]]], unnamed: int = 0) -> Rows:
    names = tuple(dict.fromkeys(column for column in columns if column))
    repeated = tuple(column for column in names if columns.count(column) > 1)
    return Rows(columns=names, rows=tuple(rows), repeated=repeated, unnamed=unnamed)


def _width(text: str, delimiter: str) -> int:
    """Values in the first row that holds any, if values are separated so."""
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        return len(next((values for values in reader if any(value.strip() for value in values)), []))
    except csv.Error:
        return 0


def _plain(value: str) -> str:
    formula = _FORMULA.fullmatch(value.strip())
    return formula[1].replace('""', '"') if formula else value


def read_notes(table: Rows) -> list[str]:
    """Notes on columns that were passed over: those without a name, and repeated ones."""
    notes = []
    if table.unnamed:
        notes.append(f"passed over: {plural(table.unnamed, 'column')} of the table without a name")
    if table.repeated:
        notes.append(f"passed over: the columns {', '.join(map(repr, table.repeated))} again, where they stand twice")
    return notes


def require(table: Rows, names: Iterable[str], path: Path) -> None:
    """Raise a DataError that names the columns that are missing, or that stand there twice."""
    twice = [name for name in names if name in table.repeated]
    if twice:
        raise DataError("the table has a column twice", ", ".join(map(repr, twice)), "rename one of them")
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
    columns = tuple(_plain(str(column)).strip(" \t\r\n\u00a0\u200b\ufeff").lower() for column in header)
    if not any(columns):
        raise DataError("the table is empty", printable(name), "the first line must name the columns")
    return columns


def _first_places(columns: tuple[str, ...]) -> list[int]:
    """Where each name stands first."""
    return [k for k, column in enumerate(columns) if column and columns.index(column) == k]


def _parquet(path: Path) -> Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, ValueError) as error:
        raise DataError(f"not a Parquet file that can be read ({error})", printable(path), "write it again") from error
    columns = _columns(table.column_names, path)
    values = zip(*(table.column(i).to_pylist() for i in range(len(columns))), strict=True)
    named = _first_places(columns)
    rows = ((n, {columns[k]: _text(row[k]) for k in named}) for n, row in enumerate(values, start=1))
    return _rows(columns, [(n, row) for n, row in rows if any(row.values())])


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
