"""Any class-per-folder tree: a folder's name is the class; train/, test/, fold1/ above or below it are splits."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cervicyte.base.files import printable
from cervicyte.base.wording import plural
from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import custom_system
from cervicyte.data.readers import grouping, herlev, table
from cervicyte.data.readers.base import (
    UNGROUPED,
    Dataset,
    Listing,
    examples,
    file_examples,
    left_out,
    list_files,
    not_images,
    nothing_here,
    passed_over,
    under_system,
)
from cervicyte.data.readers.folder_names import division, is_image_folder, split_name
from cervicyte.data.readers.rows import SUFFIXES
from cervicyte.errors import DataError

#: A table of this name in the data folder tells the groups where no option does.
GROUPS_FILE = "groups.csv"

#: Endings of files that may say which images are for training.
LISTS = frozenset({".csv", ".tsv", ".txt", ".json", ".lst", ".xlsx"})


def read(
    path: Path, *, group_from: str | None = None, groups_csv: Path | None = None, normal: Sequence[str] = ()
) -> CellTable:
    """Read ``<root>/<class>/...``, ``<root>/<split>/<class>/...`` or ``<root>/<class>/<split>/...``; a table as such.

    Splits are told by the names of their folders (`folder_names.split_name`, `folder_names.division`), segmentation
    masks by theirs.

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
        raise nothing_here(listing)
    layout = _layout(listing)
    cells, rootless = _cells(listing, layout)
    if not cells:
        raise classless(listing)
    notes = _layout_notes(listing, layout, cells)
    system = custom_system([c.label for c in cells], normal)
    cells, named = under_system(cells, system)
    cells, used, grouped = _grouped(cells, path, group_from, groups_csv)
    notes = [*notes, *named, *_one_class(cells, path), *grouped]
    masks = [path for path in rootless if herlev.is_mask(path)]
    notes += left_out(listing, masks, "that are Herlev's segmentations by their names")
    notes += left_out(listing, [path for path in rootless if path not in masks], "in no class folder")
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
    cells, _ = _cells(listing, _layout(listing))
    return "images in folders, which are taken for the classes" if cells else ""


@dataclass(frozen=True)
class _Layout:
    """Which of the folders above an image, counted from the root, names its class, and which its split (or None).

    ``parts`` is the split that each of these folders names.
    """

    label: int
    split: int | None = None
    parts: Mapping[str, str] = field(default_factory=dict)


def _folders(listing: Listing, image: Path) -> tuple[str, ...]:
    """Names of the folders above an image; one inside a folder of the same name, as archives unpack, is that folder."""
    folders = listing.folders(image)
    return tuple(name for k, name in enumerate(folders) if k == 0 or name != folders[k - 1])


def _layout(listing: Listing) -> _Layout:
    """See where the classes lie: below the folders of a division, above them, or below one folder "images"."""
    chains = [folders for image in listing.images if (folders := _folders(listing, image))]
    top = 0
    if chains and any(len(c) > 1 for c in chains):
        images = all(is_image_folder(c[0]) for c in chains)
        # One folder about the folders of a division, which have classes in them.
        about = len({c[0] for c in chains}) == 1 and all(len(c) > 2 and split_name(c[1]) for c in chains)
        top = int(images or about)
    names = {c[top] for c in chains if len(c) > top}
    parts = division(c[top:] for c in chains if len(c) > top) or {
        name: split for name in names if (split := split_name(name))
    }
    above = {parts[c[top]] for c in chains if len(c) > top + 1 and c[top] in parts}
    below = {c[top + 1]: split_name(c[top + 1]) for c in chains if len(c) > top + 1}
    # "train" and "test" with classes in them may stand beside folders of something else.
    if names and (len(parts) == len(names) or len(above) > 1):
        label = top + 1
        while all(len(c) > label + 1 and is_image_folder(c[label]) for c in chains):
            label += 1
        return _Layout(label=label, split=top, parts=parts)
    if chains and (
        (all(len(c) > top + 1 for c in chains) and all(below.values())) or len({s for s in below.values() if s}) > 1
    ):
        return _Layout(label=top, split=top + 1, parts=below)
    return _Layout(label=top)


def _label(folders: tuple[str, ...], layout: _Layout) -> str:
    above = layout.split is not None and layout.split < layout.label
    if len(folders) <= layout.label or (above and not _split(folders, layout)):
        return ""
    return folders[layout.label]


def _split(folders: tuple[str, ...], layout: _Layout) -> str:
    """The split that an image's folders name, or ""."""
    return "" if layout.split is None or len(folders) <= layout.split else layout.parts.get(folders[layout.split], "")


def _cells(listing: Listing, layout: _Layout) -> tuple[list[Cell], list[Path]]:
    """Cells with their folders' names as labels and their paths as groups; images without a class."""
    cells, rootless = [], []
    for image in listing.images:
        folders = _folders(listing, image)
        label = "" if herlev.is_mask(image) else _label(folders, layout)
        if not label:
            rootless.append(image)
            continue
        # One constant source: a slide that two of the user's folders share is then seen as shared.
        cells.append(
            Cell(
                path=str(image),
                label=unicodedata.normalize("NFC", printable(label)),  # a Mac's decomposed name is the same name
                group=grouping.relative(image, listing.root),
                source="folder",
                split=_split(folders, layout),
            )
        )
    if cells and all(is_image_folder(c.label) for c in cells):
        return [], list(listing.images)  # "images" by itself is no class
    return cells, rootless


def classless(listing: Listing) -> DataError:
    """The error for images that lie in no class folder."""
    if listing.masks:
        return DataError(
            "a segmentation set: images beside their masks, and no class",
            f"{plural(len(listing.images), 'image')} and {plural(len(listing.masks), 'mask')} in "
            f"{printable(listing.root)} ({examples(p.relative_to(listing.root) for p in listing.masks)})",
            "put each class's images into a folder with the name of the class, or give a CSV table of path and label",
        )
    return DataError(
        "the images have no class: they lie in no class folder",
        f"{plural(len(listing.images), 'image')} in {printable(listing.root)} "
        + "; ".join([f"({file_examples(listing.images, listing.root)})", *not_images(listing)]),
        "put each class's images into a folder with the name of the class, or give a CSV table of path and label",
    )


def _layout_notes(listing: Listing, layout: _Layout, cells: list[Cell]) -> list[str]:
    """What was made of the folders' names, where something else might have been meant."""
    notes = []
    chains = [_folders(listing, Path(c.path)) for c in cells]
    if min(layout.label, layout.label if layout.split is None else layout.split):
        notes.append(f"classes: the folders inside {chains[0][0]!r}, which is no class by its name")
    if layout.split is not None:
        folders = sorted({printable(c[layout.split]) for c in chains if _split(c, layout)})
        notes.append(f"split: by the folders {examples(folders)}, which are no classes")
    else:
        mixed = sorted({c.label for c in cells if split_name(c.label)})
        if mixed:
            notes.append(f"classes: {examples(mixed)} stand beside other folders and were taken for classes")
    lists = [p for p in listing.others if p.parent == listing.root and split_name(p.stem) and p.suffix.lower() in LISTS]
    if lists:
        notes.append(
            f"split: {file_examples(lists, listing.root)} may hold the data set's own division and are not read; "
            "give a table with the columns path, label and split to use it"
        )
    return notes


def _one_class(cells: list[Cell], path: Path) -> list[str]:
    labels = {c.label for c in cells}
    if len(labels) > 1:
        return []
    return [
        f"classes: one only, {labels.pop()!r}; nothing can be trained on it. If the classes are the folders one level "
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
        named, notes = grouping.by_herlev_names(cells)
        return (named, set(), notes) if named else (cells, set(), [UNGROUPED])
    cells, notes = grouping.by_csv(cells, root, csv)
    return cells, {csv}, [f"groups: from {printable(csv.name)}", *notes]


DATASET = Dataset(
    name="folder",
    title="your own images, in one folder for each class (train/, test/, val/ or fold1/ may stand above or below)",
    system=None,
    groups=(
        "what --group-from REGEX finds in the path, or the column group of a groups.csv with the columns path and group"
    ),
    read=read,
    recognise=recognise,
)
