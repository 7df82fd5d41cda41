"""A CSV or Parquet table of cells: path, label, and perhaps group, split, original and a box in pixels."""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from cervicyte.base.files import printable
from cervicyte.base.wording import plural
from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import custom_system
from cervicyte.data.readers import grouping
from cervicyte.data.readers.base import UNGROUPED, Dataset, Listing, examples, under_system
from cervicyte.data.readers.folder_names import split_name
from cervicyte.data.readers.numbers import NumberFormat
from cervicyte.data.readers.places import Places
from cervicyte.data.readers.rows import SUFFIXES, Rows, read_notes, read_rows, require, rows_note
from cervicyte.data.spelling import ERRORS, MISSING
from cervicyte.errors import DataError
from cervicyte.images.decoding import Box, named_as_image

REQUIRED = ("path", "label")
BOX = ("left", "top", "right", "bottom")
#: What `cervicyte data augment` writes: its table, and a note that is there before the table.
AUGMENTED_TABLE, AUGMENTED_NOTE = "cells.csv", "augmented_set.json"
#: Its columns with the data set that the rows come from, whose groups theirs still are, and, instead of group,
#: with the file of each cell where nothing told the groups.
AUGMENTED_FROM, OWN_GROUP = "augmented_from", "own_group"
#: Names of columns that may hold splits, where there is no column "split".
_DIVIDING = ("subset", "set", "partition", "usage", "phase", "fold")
#: Numbers of folds; with a point where a program took a column with gaps for numbers.
_FOLD_NUMBER = re.compile(r"(\d+)(\.0)?")
#: How an original names its box in a field: "field.png#10,20,100,110".
_BOX_MARK = re.compile(r"#-?\d+(,-?\d+){3}$")


def read(
    path: Path, *, group_from: str | None = None, groups_csv: Path | None = None, normal: Sequence[str] = ()
) -> CellTable:
    """Read a table with the columns path and label, and perhaps group, split, original, left, top, right, bottom.

    Relative paths are relative to the table's folder. ``original`` names the file that a row is an augmented
    copy of; without groups, a copy belongs to the group of its original, whether that is here or not.
    Rows that cannot be used (no path, no label, a file that is not there, an impossible box, the same
    cell again) are kept out and counted in notes. Options are those of `folder.read`, and come before
    the column group.

    Raises
    ------
    DataError : a column is missing, no row can be used, a cell has two labels, some groups are empty, boxes are
        fractions of the image
    """
    path = find_table(Path(path))
    table = read_rows(path)
    require(table, (*REQUIRED, *(name for name in ("group", "split", "original") if name in table.columns)), path)
    some = [name for name in BOX if name in table.columns]
    if some:
        require(table, BOX, path)
    cells, notes = _cells(table, path, boxed=bool(some))
    notes = [*read_notes(table), *notes]
    system = custom_system([c.label for c in cells], normal)
    cells, named = under_system(cells, system)
    notes += named
    copied = [c for c in cells if c.original]
    if copied:
        whole = len({c.original for c in copied})
        notes.append(f"copies: {plural(len(copied), 'row')} of {len(cells)} are copies of {plural(whole, 'image')}")
    grouped = True
    if group_from:
        cells = grouping.by_pattern(cells, path.parent, group_from)
    elif groups_csv:
        cells, more = grouping.by_csv(cells, path.parent, groups_csv)
        notes += more
    elif "group" not in table.columns:
        of_herlev, more = grouping.by_herlev_names(cells)
        cells, grouped = of_herlev or cells, bool(of_herlev)
        notes += more or [UNGROUPED]
    else:
        empty = [c.path for c in cells if not c.group]
        if empty:
            raise DataError(
                f"{plural(len(empty), 'row')} of the table have no group, and others have one",
                examples(empty),
                "fill the column group, or remove it",
            )
    if len({c.label for c in cells}) == 1:
        notes.append(f"classes: one only, {cells[0].label!r}; nothing can be trained on it")
    return CellTable(cells=tuple(cells), system=system, name=path.stem, notes=tuple(notes), grouped=grouped)


def find_table(path: Path) -> Path:
    """The table itself, or the only one with the columns path and label in a folder.

    Raises
    ------
    DataError : not a table, or a folder with none or several
    """
    if path.is_file():
        if path.suffix.lower() in SUFFIXES:
            return path
        raise DataError("not a table", printable(path), f"a table ends in {', '.join(sorted(SUFFIXES))}")
    tables = _tables_in(sorted(path.iterdir()) if path.is_dir() else [])
    if len(tables) != 1:
        raise DataError(
            "the folder holds no table of cells" if not tables else "the folder holds several tables of cells",
            examples(p.name for p in tables) or printable(path),
            "give the path of a CSV or Parquet file with the columns path and label",
        )
    return tables[0]


def is_augmented(path: Path) -> bool:
    """Whether a folder is an augmented set, which only its table tells whole.

    Raises
    ------
    DataError : it is one that is not finished
    """
    if not (path / AUGMENTED_NOTE).is_file():
        return False
    if not (path / AUGMENTED_TABLE).is_file():
        raise DataError(
            "the folder holds an augmented set that is not finished",
            f"{printable(path)} without {AUGMENTED_TABLE}",
            "repeat the `cervicyte data augment` that began it; it goes on where it was",
        )
    return True


def recognise(listing: Listing) -> str:
    """Why a listing looks like a folder with a table, or ""."""
    tables = _tables_in(p for p in listing.others if p.parent == listing.root)
    return f"no class folders, but the table {printable(tables[0].name)} of path and label" if len(tables) == 1 else ""


def _tables_in(paths: Iterable[Path]) -> list[Path]:
    tables = []
    for path in paths:
        if path.is_file() and path.suffix.lower() in SUFFIXES:
            try:
                if set(REQUIRED) <= set(read_rows(path).columns):
                    tables.append(path)
            except DataError:
                continue  # another kind of file; if it is the one meant, naming it tells what is wrong
    return tables


def _cells(table: Rows, path: Path, boxed: bool) -> tuple[list[Cell], list[str]]:
    """Cells of the rows that can be used, and notes on the others."""
    cells: dict[tuple[str, Box | None], Cell] = {}
    unlabelled: list[int] = []
    pathless: list[int] = []
    boxless: list[int] = []
    again: list[int] = []
    absent: list[str] = []
    contrary: list[str] = []
    places = Places(path.parent)
    sides = [row[name].strip() for _, row in table.rows for name in BOX if boxed]
    numbers = NumberFormat(sides)
    _refuse_fractions([side for side in sides if side], numbers, path)
    split_column, split_notes = _split_column(table)
    unused = [c for c in table.columns if c != split_column and (c in _DIVIDING or split_name(c.removeprefix("is_")))]
    if unused:
        split_notes.append(f"split: the columns {examples(unused)} may divide the data set too, and are not read")
    for number, row in table.rows:
        label, place = _name(row["label"]), row["path"].strip()
        if not place:
            pathless.append(number)
            continue
        if not label:
            unlabelled.append(number)
            continue
        file = places.find(place)
        if file is None:
            absent.append(place)
            continue
        try:
            box = _box(row, numbers) if boxed else None
        except ValueError:
            boxless.append(number)
            continue
        original = _original(row.get("original", "").strip(), file, places)
        group = _name(row["group"] if "group" in row else row.get(OWN_GROUP, ""))
        if "group" not in row and not group:
            group = grouping.relative(original or file, path.parent)
        source = row.get(AUGMENTED_FROM, "").strip() or "folder"
        cell = Cell(
            path=file,
            label=label,
            group=group,
            box=box,
            source=source,
            split=_split(row.get(split_column, ""), number, path, split_column),
            original=original,
        )
        before = cells.setdefault((file, box), cell)
        if before is not cell:
            again.append(number)
            if before.label != label:
                contrary.append(place)
    if contrary:
        raise DataError("the table gives a cell two labels", examples(dict.fromkeys(contrary)), "keep the right row")
    notes = [
        *split_notes,
        *([numbers.words] if numbers.words else []),
        *rows_note(pathless, "without a path"),
        *rows_note(unlabelled, "without a label"),
        *rows_note(boxless, "whose box is not four whole numbers with left < right and top < bottom"),
        *rows_note(again, "that repeat a cell"),
    ]
    if places.by_case:
        named = f"{plural(len(places.by_case), 'file')} named in other capitals than on disk"
        notes.append(f"paths: {named} ({examples(places.by_case)})")
    if absent:
        notes.append(f"kept out: {plural(len(absent), 'row')} whose file is not there ({examples(absent)})")
    if not cells:
        raise DataError(
            "no row of the table can be used",
            "; ".join(notes) or f"{printable(path)} has no rows",
            "paths are relative to the table's folder; each row needs path and label",
        )
    return list(cells.values()), notes


def _name(text: str) -> str:
    """A label or group as a row gives it; "" for an error of Excel's, which is none."""
    text = unicodedata.normalize("NFC", text.strip())
    return "" if text.casefold() in ERRORS else text


def _split_column(table: Rows) -> tuple[str, list[str]]:
    """The column that divides the cells: "split", or another usual name that holds splits only; and a note on it."""
    if "split" in table.columns:
        return "split", []
    for column in _DIVIDING:
        values = {_filled(row.get(column, "")) for _, row in table.rows} - {""}
        if len(values) > 1 and all(_split_value(value, column) for value in values):
            return column, [f"split: from the column {column!r}"]
    return "split", []


def _split_value(text: str, column: str) -> str:
    number = _FOLD_NUMBER.fullmatch(text) if column == "fold" else None
    return split_name(f"fold{number[1]}" if number else text)


def _filled(text: str) -> str:
    """A split as a row gives it; "" for what programs write where there is none."""
    text = text.strip()
    return "" if text.casefold() in MISSING | ERRORS else text


def _original(place: str, file: str, places: Places) -> str:
    """What a copy names as its original; nothing for a row that names itself.

    The original need not be there, but then its name must be an image's: a column of this name may mean
    something else ("yes"), and must not make copies of one image of all that it holds.
    """
    original = places.find(place) if place else ""
    if original is None:
        named = named_as_image(Path(_BOX_MARK.sub("", place)))
        original = os.path.normpath(places.folder / place) if named else ""
    return "" if original == file else original


def _box(row: dict[str, str], numbers: NumberFormat) -> Box | None:
    values = [row[name].strip() for name in BOX]
    if not any(values):
        return None
    sides = [numbers.number(value) for value in values]
    if not all(math.isfinite(n) and abs(n) < 1e9 for n in sides):
        raise ValueError("not a place in an image")
    left, top, right, bottom = (round(n) for n in sides)
    if left >= right or top >= bottom:
        raise ValueError("an empty box")
    return left, top, right, bottom


def _refuse_fractions(sides: Sequence[str], numbers: NumberFormat, path: Path) -> None:
    """Raise a DataError where all sides of boxes are shares of the image, as of YOLO: they would be single pixels."""
    try:
        values = [numbers.number(side) for side in sides]
    except ValueError:
        return  # rows that are no box are kept out, and counted
    if all(0 <= value <= 1 for value in values) and not all(map(float.is_integer, values)):
        raise DataError(
            "the boxes are fractions of the image, not pixels",
            f"{printable(path.name)}, {examples(sides)}",
            "multiply left and right by the image's width, top and bottom by its height",
        )


def _split(text: str, number: int, path: Path, column: str) -> str:
    text = _filled(text)
    split = _split_value(text, column)
    if text and not split:
        raise DataError(
            f"row {number} of {printable(path.name)} has a split that is none",
            repr(text),
            "use train, val, test or fold1, fold2 ..., or leave it empty",
        )
    return split


DATASET = Dataset(
    name="table",
    title=(
        "a CSV or Parquet table with the columns path and label, and perhaps group, split, original (of which a row "
        "is a copy), left, top, right, bottom"
    ),
    system=None,
    groups="the column group",
    read=read,
    recognise=recognise,
)
