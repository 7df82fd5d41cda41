"""Data sets: one reader a file, listed in one tuple; `load` picks the reader that fits and says why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cervicyte.base.files import printable
from cervicyte.data.cells import CellTable
from cervicyte.data.readers import cric, folder, geojson, grouping, herlev, lbc, rows, sipakmed, table
from cervicyte.data.readers.base import Dataset, list_files, nothing_here
from cervicyte.data.readers.names import name_notes
from cervicyte.data.splits import division_note
from cervicyte.errors import DataError, MissingError, UsageError, did_you_mean
from cervicyte.images.decoding import SUFFIXES as IMAGE_SUFFIXES

__all__ = ["DATASETS", "Dataset", "describe", "get", "load"]

#: All readers, in the order in which a folder is compared with them.
DATASETS: tuple[Dataset, ...] = (
    cric.DATASET,
    geojson.DATASET,
    sipakmed.DATASET,
    lbc.DATASET,
    herlev.DATASET,
    folder.DATASET,
    table.DATASET,
)


def get(name: str) -> Dataset:
    """A data set by name; an unknown one is answered with the nearest (UsageError)."""
    names = [row.name for row in DATASETS]
    for row in DATASETS:
        if row.name == name:
            return row
    raise UsageError("unknown reader", repr(name), f"{did_you_mean(name, names)}there are: {', '.join(names)}")


def describe() -> list[Dataset]:
    """The rows of ``cervicyte data list``; as text, each says its classes, counts, citation, licence and source."""
    return list(DATASETS)


def load(
    path: Path | str,
    reader: str | None = None,
    *,
    group_from: str | None = None,
    groups_csv: Path | str | None = None,
    normal: Sequence[str] = (),
) -> CellTable:
    """Read a data set into a CellTable; which reader was taken, and why, is its first note.

    Parameters
    ----------
    path : a folder, or a CSV or Parquet table
    reader : name of a row of `DATASETS`; None looks at the layout
    group_from : regular expression that finds the group in each path, relative to the folder,
        in its named group ``group`` or else its first group
    groups_csv : table with the columns path (relative to the folder) and group
    normal : which of the user's own classes are normal

    Raises
    ------
    MissingError : no such file or folder
    UsageError : an unknown reader, or options that cannot be used
    DataError : nothing here that the reader can read
    """
    path = Path(path)
    if group_from and groups_csv:
        raise UsageError("groups can come from one place only", "--group-from and --groups", "leave one out")
    if reader is not None:
        get(reader)  # a wrong name is told before a wrong path
    if not path.exists():
        raise MissingError("no such file or folder", printable(path), "check the name")
    row, why = (get(reader), "as asked") if reader is not None else _recognised(path)
    csv = None if groups_csv is None else Path(groups_csv)
    if row.system is None:
        cells = row.read(path, group_from=group_from, groups_csv=csv, normal=normal)
    elif normal:
        raise UsageError(
            f"the data set {row.name!r} says itself which classes are normal",
            f"--normal {','.join(normal)}",
            "leave it out, or use --reader folder",
        )
    else:
        cells = _regrouped(row.read(path), path, group_from, csv)
    division = division_note(cells)
    notes = (f"reader: {row.name} ({why})", *cells.notes, *name_notes(cells), *([division] if division else []))
    return replace(cells, notes=notes)


def _recognised(path: Path) -> tuple[Dataset, str]:
    """The reader that fits a path, and why; a DataError where none does."""
    if path.is_file():
        if cric.is_annotation(path):
            return cric.DATASET, "a file with CRIC's annotations"
        if path.suffix.lower() == geojson.ENDING:
            return geojson.DATASET, f"a file that ends in {geojson.ENDING}"
        if path.suffix.lower() in rows.SUFFIXES:
            return table.DATASET, f"a file that ends in {path.suffix.lower()}"
        image = path.suffix.lower() in IMAGE_SUFFIXES
        raise DataError(
            "a single image is not a data set" if image else "not a folder and not a table",
            printable(path),
            "give the folder with the classes; `cervicyte predict` takes single images"
            if image
            else f"give a folder with the classes, or a table that ends in {', '.join(sorted(rows.SUFFIXES))}; "
            "of a spreadsheet, save the sheet as CSV UTF-8",
        )
    if table.is_augmented(path):
        return table.DATASET, "an augmented set, whose table names the original of each copy"
    listing = list_files(path)
    for row in DATASETS:
        why = row.recognise(listing)
        if why:
            return row, why
    raise folder.classless(listing) if listing.images else nothing_here(listing)


def _regrouped(cells: CellTable, path: Path, group_from: str | None, groups_csv: Path | None) -> CellTable:
    """A public data set under the user's own groups, if any are given."""
    root = path if path.is_dir() else path.parent
    if group_from:
        grouped, notes = grouping.by_pattern(cells.cells, root, group_from), ["groups: from --group-from"]
    elif groups_csv:
        grouped, notes = grouping.by_csv(cells.cells, root, groups_csv)
        notes = [f"groups: from {printable(groups_csv.name)}", *notes]
    else:
        return cells
    return replace(cells, cells=tuple(grouped), notes=(*cells.notes, *notes), grouped=True)
