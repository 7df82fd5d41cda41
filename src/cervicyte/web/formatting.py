"""How values are shown on a page: what the templates may call, and what makes any text safe to look at.

Jinja escapes markup. It does not stop a file name from turning the rest of a line round or from hiding its ending;
`visible` does, and `prepare` lays it over every expression of every template.
"""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, date, datetime

from cervicyte.base.files import printable

#: Categories of characters that are not seen but change what is: controls, formats (the bidirectional ones among
#: them), surrogates, private use, line and paragraph separators.
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")

#: Those of them that text may hold: line ends, tabs, and the joiners without which some scripts are misspelt.
_ALLOWED = "\n\t\u200c\u200d"

#: What stands where there is no value.
NOTHING = "\N{EN DASH}"

#: Between a number and what belongs to it, so that no line ends there.
_SPACE = "\N{NO-BREAK SPACE}"

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def visible(text: object) -> str:
    r"""Text in which each character that is not seen but acts is named instead.

    >>> visible("cell\u202egpj.exe")
    'cell⟨U+202E⟩gpj.exe'
    """
    return "".join(_named(c) if _acts(c) else c for c in printable(text).replace("\r\n", "\n"))


def words(label: object) -> str:
    """A class or reason as words: underscores and a capital letter are for programs.

    >>> words("severe_dysplastic")
    'Severe dysplastic'
    """
    text = str(label).replace("nc_ratio", "N:C ratio").replace("_", " ").strip()
    return text[:1].upper() + text[1:]


def percent(share: float | None) -> str:
    r"""A probability as a percentage that never claims certainty.

    >>> [percent(share) for share in (0.634, 0.9991, 0.0004)]
    ['63\xa0%', '>\xa099\xa0%', '<\xa01\xa0%']
    """
    if share is None or math.isnan(share):
        return NOTHING
    if 0 < share < 0.01:
        return f"<{_SPACE}1{_SPACE}%"
    if 0.99 < share < 1:
        return f">{_SPACE}99{_SPACE}%"
    return f"{100 * share:.0f}{_SPACE}%"


def number(value: float | None, digits: int = 3) -> str:
    r"""A measured number with its significant digits.

    >>> [number(value) for value in (0.123456, 1234.5, 3.0)]
    ['0.123', '1\xa0234', '3']
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == int(value) or abs(value) >= 10**digits:
        return thousands(round(value))
    return f"{value:.{digits}g}"


def thousands(value: int) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}".replace(",", _SPACE)


def many(value: int, one: str, more: str = "") -> str:
    r"""A number and what is counted.

    >>> many(1, "cell"), many(0, "cell"), many(2, "category", "categories")
    ('1\xa0cell', '0\xa0cells', '2\xa0categories')
    """
    return f"{thousands(value)}{_SPACE}{one if value == 1 else more or one + 's'}"


def size(octets: int) -> str:
    r"""A number of bytes in the unit that fits.

    >>> size(999), size(2_500_000), size(31_400_000)
    ('999\xa0bytes', '2.5\xa0MB', '31\xa0MB')
    """
    value, unit = float(octets), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.{1 if unit and value < 9.95 else 0}f}{_SPACE}{_UNITS[unit]}"


def day(when: date | None) -> str:
    """A day: 3 Mar 2026."""
    return NOTHING if when is None else f"{when.day} {when:%b %Y}"


def short_day(when: date) -> str:
    """A day under a chart, where the year is known: 3 Mar."""
    return f"{when.day} {when:%b}"


def moment(when: datetime | None) -> str:
    """A day and time in UTC, which is said: readers of one case may sit in different zones."""
    if when is None:
        return NOTHING
    when = when.astimezone(UTC) if when.tzinfo else when
    return f"{day(when)}, {when:%H:%M}{_SPACE}UTC"


def iso(when: datetime | date) -> str:
    """A time for programs."""
    return when.isoformat()


def _acts(character: str) -> bool:
    return character not in _ALLOWED and unicodedata.category(character) in _UNSEEN


def _named(character: str) -> str:
    return f"\N{MATHEMATICAL LEFT ANGLE BRACKET}U+{ord(character):04X}\N{MATHEMATICAL RIGHT ANGLE BRACKET}"
