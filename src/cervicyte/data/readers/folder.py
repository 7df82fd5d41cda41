"""Any class-per-folder tree: the class is the folder's name; train/, test/ and val/ above the classes are splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cervicyte.base.files import printable
from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import LabelSystem, custom_system
from cervicyte.data.readers import grouping, table
from cervicyte.data.readers.base import SPLITS, UNGROUPED, Dataset, Listing, examples, left_out, list_files, passed_over
from cervicyte.data.readers.rows import SUFFIXES
from cervicyte.errors import DataError

#: A table of this name in the data folder tells the groups where no option does.
GROUPS_FILE = "groups.csv"


def read(
    path: Path, *, group_from: str | None = None, groups_csv: Path | None = None, normal: Sequence[str] = ()
) -> CellTable:
    """Read ``<root>/<class>/...`` or ``<root>/<train|test|val>/<class>/...``; a table file is read as such.

    Parameters
    ----------
    group_from : regular expression that finds the group in each path relative to the root
    groups_csv : table with the columns path and group; by default ``groups.csv`` in the root, if there
    normal : names of the normal classes, where the class names are the user's own

    Raises
    ------
    DataError : no image, no class folder, or files without a group
    UsageError : a regular expression that cannot be used
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return table.read(path, group_from=group_from, groups_csv=groups_csv, normal=normal)
    listing = list_files(path)
    if not listing.images:
        raise DataError(
            "no images in the folder",
            f"{printable(path)} with {len(listing.others)} other files",
            "put each class's images into a folder with the name of the class",
        )
    cells, rootless, notes = _cells(listing)
    if not cells:
        raise DataError(
            "the images have no class: they lie in no class folder",
            f"{len(rootless)} images directly in {printable(path)}",
            "put each class's images into a folder with the name of the class, or give a CSV table of path and label",
        )
    system = custom_system([c.label for c in cells], normal)
    cells, named = _renamed(cells, system)
    cells, used, grouped = _grouped(cells, path, group_from, groups_csv)
    notes = [*notes, *named, *_one_class(cells, path), *grouped]
    notes += left_out(listing, rootless, "in no class folder")
    notes += passed_over(listing, used)
    return CellTable(
        cells=tuple(cells),
        system=system,
        name=path.name or "folder",
        notes=tuple(notes),
        grouped=UNGROUPED not in grouped,
    )


def recognise(listing: Listing) -> str:
    """Why a listing looks like class folders, or ""."""
    divided = _divided(listing)
    classed = any(_class(listing.folders(image), divided) for image in listing.images)
    return "images in folders, which are taken for the classes" if classed else ""


def _divided(listing: Listing) -> bool:
    """True where all folders at the top are named like splits."""
    tops = {listing.folders(image)[0].lower() for image in listing.images if listing.folders(image)}
    return bool(tops) and tops <= set(SPLITS)


def _class(folders: tuple[str, ...], divided: bool) -> str:
    place = 1 if divided else 0
    return folders[place] if len(folders) > place else ""


def _cells(listing: Listing) -> tuple[list[Cell], list[Path], list[str]]:
    """Cells with their folders' names as labels and their paths as groups; images without a class; notes."""
    divided = _divided(listing)
    cells, rootless = [], []
    for image in listing.images:
        folders = listing.folders(image)
        label = _class(folders, divided)
        if not label:
            rootless.append(image)
            continue
        split = SPLITS[folders[0].lower()] if divided else ""
        group = grouping.relative(image, listing.root)
        # One constant source: a slide that two of the user's folders share is then seen as shared.
        cells.append(Cell(path=str(image), label=printable(label), group=group, source="folder", split=split))
    mixed = sorted({c.label for c in cells if c.label.lower() in SPLITS}) if not divided else []
    notes = [f"classes: {examples(mixed)} stand beside other folders and were taken for classes"] if mixed else []
    return cells, rootless, notes


def _renamed(cells: list[Cell], system: LabelSystem) -> tuple[list[Cell], list[str]]:
    """The cells under the names of their label system, and a note on the folders that got another name."""
    names = {label: system.canonical(label) for label in dict.fromkeys(c.label for c in cells)}
    other = [f"{printable(label)!r} as {name}" for label, name in names.items() if label != name]
    notes = [f"classes: read as the label system {system.name!r}, {', '.join(other)}"] if other else []
    return [replace(c, label=names[c.label]) for c in cells], notes


def _one_class(cells: list[Cell], path: Path) -> list[str]:
    found = {c.label for c in cells}
    if len(found) > 1:
        return []
    return [
        f"classes: one only, {found.pop()!r}; nothing can be trained on it. If the classes are the folders one level "
        f"deeper, give that folder instead of {printable(path)}"
    ]


def _grouped(
    cells: list[Cell], root: Path, group_from: str | None, groups_csv: Path | None
) -> tuple[list[Cell], set[Path], list[str]]:
    """The cells with their groups, the files used for it, and notes."""
    if group_from:
        return grouping.by_pattern(cells, root, group_from), set(), []
    csv = groups_csv or root / GROUPS_FILE
    if groups_csv is None and not csv.is_file():
        return cells, set(), [UNGROUPED]
    cells, notes = grouping.by_csv(cells, root, csv)
    return cells, {csv}, [f"groups: from {printable(csv.name)}", *notes]


DATASET = Dataset(
    name="folder",
    title="your own images, in one folder for each class (train/, test/ or val/ may stand above the classes)",
    system=None,
    groups=(
        "what --group-from REGEX finds in the path, or the column group of a groups.csv with the columns path and group"
    ),
    read=read,
    recognise=recognise,
)
