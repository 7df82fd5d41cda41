"""What a spreadsheet may be given: CSV whose cells are data, whatever a user or a file calls itself."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

#: With these at its beginning, spreadsheets take text for a formula and run it
#: (https://owasp.org/www-community/attacks/CSV_Injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

CSV_TYPE = "text/csv; charset=utf-8"


@dataclass(frozen=True)
class Download:
    """A file that is made while it is sent: its name, its media type, and its bytes in parts."""

    name: str
    media_type: str
    chunks: Iterator[bytes] = field(repr=False)


def guarded(text: str) -> str:
    """Text that no spreadsheet runs: an apostrophe goes before what would begin a formula.

    >>> guarded('=HYPERLINK("https://lab.example")'), guarded("normal")
    ('\\'=HYPERLINK("https://lab.example")', 'normal')
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def as_cell(value: object) -> str:
    """A value as one cell: text guarded, times in UTC, truth as true and false, nothing as nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6f}"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds")
    return guarded(str(value)) if isinstance(value, str) else str(value)


def csv_bytes(rows: Iterable[Iterable[object]]) -> bytes:
    """Rows as CSV in UTF-8."""
    text = io.StringIO()
    writer = csv.writer(text)
    for row in rows:
        writer.writerow([as_cell(value) for value in row])
    return text.getvalue().encode("utf-8", "backslashreplace")
