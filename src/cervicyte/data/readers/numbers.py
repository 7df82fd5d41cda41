"""Numbers as spreadsheets write them: decimal commas, and marks between thousands."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable

#: Marks that stand between thousands and nowhere else: spaces of all widths, apostrophes.
_SPACES = re.compile("(?<=\\d)[ \u00a0\u2007\u2009\u202f'\u2019](?=\\d{3}(?!\\d))")
_THOUSANDS = {mark: re.compile(rf"[-+]?[1-9]\d{{0,2}}(?:{re.escape(mark)}\d{{3}})+") for mark in ",."}


class NumberFormat:
    """How one table writes its numbers, seen from all of them together.

    A comma or point is a mark between thousands where both occur in a number and it comes first, where it occurs
    twice in a number, or where all numbers with it have three digits behind it, and all others of the table are below
    1000. Else it is the decimal mark.

    Parameters
    ----------
    texts : all numbers of the table
    """

    def __init__(self, texts: Iterable[str]) -> None:
        values = [_SPACES.sub("", text.strip()) for text in texts if text.strip()]
        self.thousands = {mark for mark in ",." if _between_thousands(mark, values)}
        #: What a note says of the numbers, or "" where they are plain.
        self.words = ""
        for text in values:
            if "," in text or ("." in text and "." in self.thousands):
                with contextlib.suppress(ValueError):  # what is no number is told where it is used
                    self.words = f"numbers: {text!r} was read as {self.number(text):g}"
                    break

    def number(self, text: str) -> float:
        """Read one number; raises ValueError for what is none.

        >>> NumberFormat(["1.376,5", "10,0"]).number("1.376,5"), NumberFormat(["1,376", "90"]).number("1,376")
        (1376.5, 1376.0)
        >>> NumberFormat(["0,5", "1,376"]).number("1,376"), NumberFormat(["1 376"]).number("1 376")
        (1.376, 1376.0)
        """
        text = _SPACES.sub("", text.strip())
        if "_" in text:
            raise ValueError("not a number")
        for mark in self.thousands:
            if mark in text and not _THOUSANDS[mark].match(text):
                raise ValueError("marks that are not between thousands")
            text = text.replace(mark, "")
        return float(text.replace(",", "."))


def _between_thousands(mark: str, values: list[str]) -> bool:
    other = "." if mark == "," else ","
    marked = [value for value in values if mark in value]
    if not marked:
        return False
    if any(value.count(mark) > 1 or (other in value and value.index(mark) < value.index(other)) for value in marked):
        return True
    plain = [value for value in values if mark not in value and other not in value]
    return (
        bool(plain)
        and all(_THOUSANDS[mark].fullmatch(value) for value in marked)
        and all(re.fullmatch(r"[-+]?\d{1,3}", value) for value in plain)
    )
