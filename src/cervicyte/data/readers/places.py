"""The file that a name in a table means, however the table's program wrote it."""

from __future__ import annotations

import os
import unicodedata
from functools import lru_cache
from pathlib import Path


class Places:
    """Finds files by the names in a table, below the table's folder.

    A name may be written with \\ between folders. Composed and decomposed letters (a Mac writes é as two characters)
    are the same name; so are names that differ by case only, where no other file is meant, since Windows takes them
    for one: those are counted.

    Attributes
    ----------
    by_case : names that were found only by another case
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.by_case: list[str] = []
        self._entries = lru_cache(maxsize=None)(_entries)

    def find(self, name: str) -> str | None:
        """The file that a name means; None where there is none, or where it means two."""
        texts = dict.fromkeys((name, name.replace("\\", "/")))
        for text in texts:
            candidate = os.path.normpath(self.folder / text)
            if _is_file(candidate):
                return candidate
        for text in texts:
            for form in (_composed, _folded):
                similar = self._similar(os.path.normpath(self.folder / text), form is _folded)
                if similar is not None:
                    if form is _folded:
                        self.by_case.append(name)
                    return similar
        return None

    def _similar(self, path: str, fold: bool) -> str | None:
        """The one file whose path is the same but for the form of its letters; None where there is none or are two."""
        place, missing = Path(path), []
        while not os.path.isdir(place) and place != place.parent:
            missing.append(place.name)
            place = place.parent
        for name in reversed(missing):
            form = _folded if fold else _composed
            names = self._entries(str(place), fold).get(form(name), ())
            if len(names) != 1:
                return None
            place = place / names[0]
        return str(place) if missing and _is_file(str(place)) else None


def _entries(folder: str, fold: bool) -> dict[str, tuple[str, ...]]:
    entries: dict[str, tuple[str, ...]] = {}
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return {}
    for name in names:
        key = (_folded if fold else _composed)(name)
        entries[key] = (*entries.get(key, ()), name)
    return entries


def _is_file(path: str) -> bool:
    try:
        return os.path.isfile(path)
    except ValueError:  # a NUL in the name
        return False


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
