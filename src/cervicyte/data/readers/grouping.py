"""Groups that the user tells: a regular expression over the paths, or a groups.csv."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cervicyte.base.files import printable
from cervicyte.base.wording import plural
from cervicyte.data.cells import Cell
from cervicyte.data.readers import herlev
from cervicyte.data.readers.base import examples
from cervicyte.data.readers.places import Places
from cervicyte.data.readers.rows import read_rows, require
from cervicyte.data.spelling import ERRORS
from cervicyte.errors import DataError, UsageError


def relative(path: str | Path, root: Path) -> str:
    """A file's path below the root, with / between folders, as valid text."""
    path = Path(path)
    return printable((path.relative_to(root) if path.is_relative_to(root) else path).as_posix())


def by_pattern(cells: Sequence[Cell], root: Path, pattern: str) -> list[Cell]:
    """Groups from a regular expression, searched in each path relative to the root.

    The group is what the named group ``group`` matched, else the first group.

    Raises
    ------
    UsageError : not a regular expression, or one without a group
    DataError : files that it does not match
    """
    try:
        expression = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"--group-from is not a regular expression ({error})", repr(pattern)) from error
    if not expression.groups:
        raise UsageError(
            "--group-from has no group in round brackets",
            repr(pattern),
            r"put brackets about the part that names the group, for example '([^/]+)-\d+\.png$'",
        )
    key: str | int = "group" if "group" in expression.groupindex else 1
    places = {path: relative(path, root) for path in dict.fromkeys(c.path for c in cells)}
    groups = {path: match[key] for path, place in places.items() if (match := expression.search(place)) and match[key]}
    unmatched = [place for path, place in places.items() if path not in groups]
    if unmatched:
        raise DataError(
            f"--group-from {pattern!r} does not match {plural(len(unmatched), 'file')} of {len(places)}",
            examples(unmatched),
            "every file needs a group; the paths are relative to the data folder, with / between folders",
        )
    return [replace(cell, group=groups[cell.path]) for cell in cells]


def by_herlev_names(cells: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """Groups from file names that only Herlev's cells have, and a note; no cells where some have other names."""
    groups = {c.path: herlev.acquisition(c.original or c.path) for c in cells}
    if not cells or not all(groups.values()):
        return [], []
    n = len(set(groups.values()))
    note = f"groups: all file names are Herlev's <acquisition>-<series>-<number>; the {n} acquisitions are the groups"
    return [replace(c, group=groups[c.path], source="herlev") for c in cells], [note]


def by_csv(cells: Sequence[Cell], root: Path, path: Path) -> tuple[list[Cell], list[str]]:
    """Groups from a table with the columns path (relative to the root) and group; also notes.

    Raises
    ------
    DataError : the table cannot be read, gives one file two groups, or leaves a file without one
    """
    table = read_rows(path)
    require(table, ("path", "group"), path)
    groups: dict[str, str] = {}
    twice = []
    places = Places(root)
    for _, row in table.rows:
        group = unicodedata.normalize("NFC", row["group"].strip())
        group = "" if group.casefold() in ERRORS else group
        name = row["path"].strip()
        place = relative(places.find(name) or os.path.normpath(root / name), root)  # "./a.png" and "a.png" are one file
        if group and groups.setdefault(place, group) != group:
            twice.append(place)
    if twice:
        raise DataError(f"{printable(path)} gives a file two groups", examples(twice), "keep one row for each file")
    own = {c.path: relative(os.path.normpath(c.path), root) for c in cells}
    without = list(dict.fromkeys(place for place in own.values() if place not in groups))
    if without:
        raise DataError(
            f"{printable(path)} gives no group for {plural(len(without), 'file')} of {len(set(own.values()))}",
            examples(without),
            "every file needs a row; the paths are relative to the data folder, with / between folders",
        )
    unused = set(groups) - set(own.values())
    notes = [f"groups: {plural(len(unused), 'row')} of {path.name} name no cell ({examples(sorted(unused))})"]
    return [replace(c, group=groups[own[c.path]]) for c in cells], notes if unused else []
