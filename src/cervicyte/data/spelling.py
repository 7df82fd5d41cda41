"""Names that people typed: which differ by their spelling only, and which by a mark that changes what they mean."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

#: Cyrillic and Greek capitals that look like Latin ones, under keyboards that switch between them.
_LOOKALIKES = str.maketrans("АВЕКМНОРСТХУІЅЈΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEKMHOPCTXYISJABEZHIKMNOPTYX")
_WHOLE_NUMBER = re.compile(r"0*(\d+)[.,]0+")
_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
#: What Excel makes of a long number: its last digits are lost, so different patients become one.
_SHORTENED = re.compile(r"\d([.,]\d+)?E\+\d+", re.IGNORECASE)
#: Missing values as pandas, databases and Excel write them.
MISSING = frozenset({"nan", "null", "none", "n/a", "na", "nil", "<na>", "nat"})
#: Excel's errors, which never are a name.
ERRORS = frozenset({"#n/a", "#ref!", "#name?", "#value!", "#div/0!", "#null!", "#num!"})


def spelling_key(name: str) -> str:
    """What two spellings of one name share: case, spaces, kinds of dashes, zeros before and after a number.

    A space or underscore says nothing at an end and between a letter and a number; between two letters or two numbers
    it does.

    >>> {spelling_key(n) for n in ("P012", "p12", " P12 ", "P 12", "P_12")}
    {'p12'}
    >>> {spelling_key(n) for n in ("12", "012", "12.0", "12,00")}
    {'12'}
    >>> spelling_key("HSIL?") == spelling_key("HSIL") or spelling_key("1.1") == spelling_key("1.10")
    False
    """
    text = unicodedata.normalize("NFKC", name).upper().translate(_LOOKALIKES).casefold()
    text = "".join(_plain_dash(ch) for ch in text if unicodedata.category(ch) != "Cf")
    text = re.sub(r"(?<=\w)[\s_]+(?=\w)", "_", text.strip())
    text = re.sub(r"(?<=[^\W\d_])_(?=\d)|(?<=\d)_(?=[^\W\d_])", "", text)
    if whole := _WHOLE_NUMBER.fullmatch(text):
        return whole[1]
    return _ZEROS.sub("", text)


def label_key(label: str) -> str:
    """What spellings of one class share: letters and digits, and each mark that may change what they mean.

    Spaces, points, and underscores and dashes between letters are dropped; "+", "<", "?", "/" and a dash at an
    end are not: "ASC-US+" and "HSIL-" are other answers than "ASC-US" and "HSIL".

    >>> label_key("asc us") == label_key("ASC-US") != label_key("ASC-US+")
    True
    """
    text = "".join(map(_plain_dash, unicodedata.normalize("NFKC", label).casefold().strip()))
    text = re.sub(r"(?<=\w)[-_\s.]+(?=\w)", "", text)
    return "".join(ch for ch in text if not (ch.isspace() or ch in "_." or unicodedata.category(ch) in ("Cf", "Mn")))


def twins(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Names that are one name in several spellings, each set sorted."""
    families: defaultdict[str, set[str]] = defaultdict(set)
    for name in names:
        families[spelling_key(name)].add(name)
    return sorted(tuple(sorted(family)) for family in families.values() if len(family) > 1)


def label_twins(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Classes that differ by spelling only, each set sorted."""
    families: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for label in set(labels):
        families[_ZEROS.sub("", label_key(label)), ""].add(label)
        families[spelling_key(label), "key"].add(label)
    return sorted({tuple(sorted(family)) for family in families.values() if len(family) > 1})


def marked(labels: Iterable[str], known: Iterable[str]) -> list[tuple[str, str]]:
    """Labels that differ from another, or from a known class, by a mark only, each with that class.

    >>> marked(["HSIL?", "ASC-H/HSIL", "LSIL"], ["HSIL", "ASC-H"])
    [('ASC-H/HSIL', 'ASC-H and HSIL'), ('HSIL?', 'HSIL')]
    """
    names = list(dict.fromkeys([*labels, *known]))
    bare = {letters: name for name in reversed(names) if label_key(name) == (letters := _letters(name))}
    pairs = []
    for label in sorted(set(labels)):
        letters = _letters(label)
        parts = [bare.get(_letters(part), "") for part in re.split(r"[/,;|&]|\bor\b|\band\b", label)]
        if letters in bare and label_key(label) != letters:
            pairs.append((label, bare[letters]))
        elif len(parts) > 1 and all(parts):
            pairs.append((label, " and ".join(parts)))
    return pairs


def shortened(names: Iterable[str]) -> list[str]:
    """Names that Excel shortened to a number such as 1.23E+11."""
    return sorted({name for name in names if _SHORTENED.fullmatch(name.strip())})


def _letters(label: str) -> str:
    return "".join(ch for ch in label_key(label) if ch.isalnum())


def _plain_dash(ch: str) -> str:
    return "-" if unicodedata.category(ch) == "Pd" or ch == "\u2212" else ch
