"""What a data set looks like before anything is trained on it: counts, sizes, formats, images.

One pass over the files' headers gives the numbers; a contact sheet shows the eye what the
numbers cannot.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cervicyte.base.files import atomic_write
from cervicyte.base.progress import track
from cervicyte.data.cells import Cell, CellTable
from cervicyte.errors import CervicyteError, DataError
from cervicyte.images import decoding


@dataclass(frozen=True)
class Unreadable:
    """One file that cannot be used, and why."""

    path: str
    problem: str


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What `inspect` found.

    Attributes
    ----------
    name : the data set's name
    n : cells
    files : distinct image files
    counts : class -> (cells, groups)
    n_groups : distinct groups
    groups : group sizes as (smallest, median, largest), in cells
    width, height : (smallest, median, largest) of the cells' crops, in pixels as stored;
        None if no file was readable
    formats : file format and pixel mode, as "JPEG RGB" -> files
    unreadable : files that cannot be used
    unlisted : image files of the folder that the table does not name, as the reader of the
        data set passed them over; empty where no folder was given
    notes : the table's notes
    """

    name: str
    n: int
    files: int
    counts: dict[str, tuple[int, int]]
    n_groups: int
    groups: tuple[int, int, int]
    width: tuple[int, int, int] | None
    height: tuple[int, int, int] | None
    formats: dict[str, int]
    unreadable: tuple[Unreadable, ...]
    unlisted: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """A plain form for `write_json`."""
        return {
            "name": self.name,
            "n": self.n,
            "files": self.files,
            "counts": {label: {"cells": cells, "groups": groups} for label, (cells, groups) in self.counts.items()},
            "groups": self.n_groups,
            "cells_per_group": _range(self.groups),
            "width": self.width and _range(self.width),
            "height": self.height and _range(self.height),
            "formats": self.formats,
            "unreadable": [{"path": row.path, "problem": row.problem} for row in self.unreadable],
            "unlisted": list(self.unlisted),
            "notes": list(self.notes),
        }


def inspect(cells: CellTable, folder: Path | None = None) -> Inspection:
    """Count a table's cells and read the header of each of its files; pixels are not decoded.

    Parameters
    ----------
    cells : any table, the empty one included
    folder : where given, its image files that the table does not name are listed as well
    """
    headers: dict[str, decoding.Header] = {}
    unreadable = []
    for path in track(list(dict.fromkeys(cells.paths)), "headers"):
        try:
            headers[path] = decoding.read_header(decoding.read_bytes(path), path)
        except CervicyteError as error:
            unreadable.append(Unreadable(path, error.what))
    sizes = [_size(cell, headers[cell.path]) for cell in cells.cells if cell.path in headers]
    return Inspection(
        name=cells.name,
        n=len(cells),
        files=len(set(cells.paths)),
        counts=cells.counts(),
        n_groups=len(set(cells.groups.tolist())),
        groups=_spread(list(Counter(cells.groups.tolist()).values())) or (0, 0, 0),
        width=_spread([width for width, _ in sizes]),
        height=_spread([height for _, height in sizes]),
        formats=dict(Counter(f"{row.format} {row.mode}" for row in headers.values()).most_common()),
        unreadable=tuple(unreadable),
        unlisted=() if folder is None else tuple(_unlisted(cells, folder)),
        notes=cells.notes,
    )


#: Pixels of one image of the contact sheet, of the gap between two, and of the margin.
_TILE, _GAP, _MARGIN = 96, 6, 24

#: Height of the title, and width of the column with the names of the classes.
_TITLE, _NAMES = 44, 210

_INK, _FAINT, _PAPER, _BLANK, _ALARM = (31, 36, 46), (108, 116, 128), (255, 255, 255), (240, 241, 244), (160, 44, 44)


def contact_sheet(cells: CellTable, path: Path | str, per_class: int = 12, seed: int = 0) -> Path:
    """Draw cells of each class, chosen at random, as one PNG; unreadable ones are shown as such.

    Parameters
    ----------
    cells : a table with at least one cell
    path : the PNG file to write
    per_class : images of each class, at least 1
    seed : another seed chooses other cells

    Returns
    -------
    the path

    Raises
    ------
    DataError : no cell to show
    StorageError : the file cannot be written
    """

    if not len(cells) or per_class < 1:
        raise DataError("no cell to show on a contact sheet", f"{len(cells)} cell(s), {per_class} per class")
    rows = [_chosen(cells, label, per_class, seed) for label in cells.present]
    columns = max(len(row) for row in rows)
    width = 2 * _MARGIN + _NAMES + columns * (_TILE + _GAP) - _GAP
    height = 2 * _MARGIN + _TITLE + len(rows) * (_TILE + _GAP) - _GAP
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    total = f"{len(cells):,} cells, {len(set(cells.groups.tolist())):,} groups"
    draw.text((_MARGIN, _MARGIN - 4), _fit(draw, cells.name, 20, width - 2 * _MARGIN), _INK, _font(20))
    draw.text((_MARGIN, _MARGIN + 20), _fit(draw, total, 12, width - 2 * _MARGIN), _FAINT, _font(12))
    counts = cells.counts()
    shown = track([(y, x, cell) for y, row in enumerate(rows) for x, cell in enumerate(row)], "contact sheet")
    for y, label in enumerate(cells.present):
        top = _MARGIN + _TITLE + y * (_TILE + _GAP)
        n, groups = counts[label]
        draw.text((_MARGIN, top + _TILE // 2 - 18), _fit(draw, label, 14, _NAMES - 12), _INK, _font(14))
        draw.text((_MARGIN, top + _TILE // 2 + 2), f"{n:,} cells, {groups:,} groups", _FAINT, _font(12))
    for y, x, cell in shown:
        corner = (_MARGIN + _NAMES + x * (_TILE + _GAP), _MARGIN + _TITLE + y * (_TILE + _GAP))
        sheet.paste(_tile(cell), corner)
    with atomic_write(path, "wb") as stream:
        sheet.save(stream, format="PNG", optimize=True)
    return Path(path)


def _tile(cell: Cell) -> Image.Image:
    """One image of the sheet, its proportions kept; of an unreadable cell, the word."""

    tile = Image.new("RGB", (_TILE, _TILE), _BLANK)
    try:
        image = Image.fromarray(decoding.load(cell.path, cell.box))
    except CervicyteError:
        draw = ImageDraw.Draw(tile)
        draw.rectangle((0, 0, _TILE - 1, _TILE - 1), outline=_ALARM)
        draw.line((0, 0, _TILE - 1, _TILE - 1), fill=(228, 200, 200))
        draw.line((0, _TILE - 1, _TILE - 1, 0), fill=(228, 200, 200))
        draw.text((_TILE // 2, _TILE // 2), "unreadable", _ALARM, _font(13), anchor="mm")
        return tile
    scale = _TILE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    tile.paste(image.resize(size, Image.Resampling.LANCZOS), ((_TILE - size[0]) // 2, (_TILE - size[1]) // 2))
    return tile


def _chosen(cells: CellTable, label: str, n: int, seed: int) -> list[Cell]:
    """At most n cells of a class: the same for the same seed, whatever the order of the table."""
    rows = sorted((c for c in cells.cells if c.label == label), key=lambda c: (c.path, c.box or (), c.variant))
    picked = np.random.default_rng(seed).permutation(len(rows))[:n]
    return [rows[i] for i in sorted(picked)]


def _fit(draw: ImageDraw.ImageDraw, text: str, size: int, width: int) -> str:
    """The text on one line, cut to a width in pixels."""
    text = " ".join(text.split())
    if draw.textlength(text, _font(size)) <= width:
        return text
    while text and draw.textlength(text + "...", _font(size)) > width:
        text = text[:-1]
    return text + "..."


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that comes with Pillow, which needs no font of the machine."""

    return ImageFont.load_default(size)


def _size(cell: Cell, header: decoding.Header) -> tuple[int, int]:
    """Width and height of a cell's crop."""
    if cell.box is None:
        return header.width, header.height
    left, top, right, bottom = cell.box
    return right - left, bottom - top


def _spread(numbers: list[int]) -> tuple[int, int, int] | None:
    """Smallest, median and largest; None of nothing."""
    return (min(numbers), int(np.median(numbers)), max(numbers)) if numbers else None


def _range(numbers: tuple[int, int, int]) -> dict[str, int]:
    return dict(zip(("min", "median", "max"), numbers, strict=True))


def _unlisted(cells: CellTable, folder: Path) -> list[str]:
    """Image files of a folder that no cell names, sorted."""
    named = {Path(path).resolve() for path in cells.paths}
    images = (row.path for row in decoding.find_images([folder]) if row.problem is None)
    return sorted(str(path) for path in images if path.resolve() not in named)
