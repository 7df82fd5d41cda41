"""Fields with outlines in GeoJSON, as QuPath exports them; a cell is the box about its outline, the group its field."""

from __future__ import annotations

import json
import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cervicyte.base.files import printable
from cervicyte.base.wording import plural
from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import custom_system
from cervicyte.data.readers import grouping
from cervicyte.data.readers.base import (
    Dataset,
    Listing,
    examples,
    image_size,
    left_out,
    list_files,
    passed_over,
    under_system,
)
from cervicyte.errors import CervicyteError, DataError
from cervicyte.images.decoding import Box, read_bytes

#: Ending of the files with outlines.
ENDING = ".geojson"

#: Side of the box about a point, in pixels: as about CRIC's nuclei.
POINT_BOX = 90

#: Pixels by which rounding may put an outline beyond the edge of its image.
_ROUNDING = 1.0

#: QuPath's kinds of objects: single cells, and what is never one.
_CELLS, _NO_CELLS = {"cell", "detection"}, {"tile", "tma_core", "root"}


@dataclass(frozen=True, kw_only=True)
class Outline:
    """One annotated object of a field.

    Attributes
    ----------
    label : its class, "" where it has none
    kind : GeoJSON's type of its geometry; "" where it has none
    object_type : QuPath's word for it ("annotation", "detection", "cell"), or ""
    bounds : (left, top, right, bottom) of all its points, in pixels of the image; None without usable points
    rectangle : whether all its points are corners of its box
    """

    label: str
    kind: str
    object_type: str
    bounds: tuple[float, float, float, float] | None
    rectangle: bool = False

    @property
    def sides(self) -> tuple[float, float]:
        """Width and height of its box, in pixels; infinite where it has none."""
        if self.bounds is None:
            return math.inf, math.inf
        left, top, right, bottom = self.bounds
        return right - left, bottom - top

    @property
    def box(self) -> Box:
        """The smallest box of whole pixels that holds the outline; about a point, one of `POINT_BOX`."""
        assert self.bounds is not None
        left, top, right, bottom = self.bounds
        if self.kind == "Point":
            left, top = round(left - POINT_BOX / 2), round(top - POINT_BOX / 2)
            return left, top, left + POINT_BOX, top + POINT_BOX
        return math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)


def parse(text: str, name: object = "outlines") -> list[Outline]:
    """Read a FeatureCollection, a list of features, or a single feature; each point of a MultiPoint is an outline.

    The class is the property ``classification`` (QuPath: its ``name``, or ``names`` joined by ": "), ``label``,
    ``class`` or ``category``.

    Raises
    ------
    DataError : not JSON, or none of these
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({error})", printable(name), "export the annotations again") from error
    if isinstance(value, dict):
        value = value.get("features") if value.get("type") != "Feature" else [value]
    if not isinstance(value, list) or not all(isinstance(feature, dict) for feature in value):
        raise DataError("not GeoJSON: a list of features is missing", printable(name), "export a FeatureCollection")
    return [outline for feature in value for outline in _outlines(feature)]


def read(
    path: Path, *, group_from: str | None = None, groups_csv: Path | None = None, normal: Sequence[str] = ()
) -> CellTable:
    """Read fields with a .geojson of the same name beside them or elsewhere below the folder; or one such file.

    Of a file with cells or detections, annotations are regions, and no cells. Options are those of `folder.read`.

    Raises
    ------
    DataError : no outline can be read or belongs to an image, or most lie beyond their images
    """
    path = Path(path)
    listing = list_files(path.parent if path.is_file() else path)
    fields = _fields(listing)
    if path.is_file():
        fields = {file: image for file, image in fields.items() if file == path}
    cells, notes = _cells(fields, listing.root)
    if not cells:
        raise DataError(
            "no cell with an outline here",
            "; ".join(notes) or f"{printable(path)}: no {ENDING} file with the name of an image",
            f"put field{ENDING} beside field.png, with the class of each outline as its classification",
        )
    system = custom_system([c.label for c in cells], normal)
    cells, named = under_system(cells, system)
    grouped = ["groups: each field is its own group; if a patient has several, give --group-from REGEX or --groups"]
    if group_from:
        cells, grouped = grouping.by_pattern(cells, listing.root, group_from), []
    elif groups_csv:
        cells, grouped = grouping.by_csv(cells, listing.root, groups_csv)
    notes = [*notes, *named, *grouped]
    if path.is_dir():
        bare = [image for image in listing.images if image not in set(fields.values())]
        notes += [*left_out(listing, bare, "without outlines"), *passed_over(listing, set(fields))]
    return CellTable(cells=tuple(cells), system=system, name=listing.root.name or "outlines", notes=tuple(notes))


def recognise(listing: Listing) -> str:
    """Why a listing looks like fields with outlines, or ""."""
    fields = _fields(listing)
    return f"{plural(len(fields), 'field')} with a {ENDING} of the same name" if fields else ""


def _fields(listing: Listing) -> dict[Path, Path]:
    """The image of each file with outlines: of the same name in its folder, or else the only one of that name."""
    places: defaultdict[object, list[Path]] = defaultdict(list)
    for image in listing.images:
        for name in (image.name, image.stem):
            places[image.parent, _composed(name)].append(image)
            places[_composed(name)].append(image)
    fields = {}
    for file in listing.others:
        if file.suffix.lower() == ENDING and not file.name.startswith("."):
            images = places.get((file.parent, _composed(file.stem))) or places.get(_composed(file.stem)) or []
            if len(images) == 1:
                fields[file] = images[0]
    return fields


def _cells(fields: dict[Path, Path], root: Path) -> tuple[list[Cell], list[str]]:
    """Cells of all outlines that can be used, and notes on the others."""
    cells: dict[tuple[Path, str, Box], Cell] = {}
    kinds: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    beyond, problems = [], []
    for file, image in fields.items():
        try:
            outlines = parse(read_bytes(file).decode("utf-8-sig"), file)
        except (CervicyteError, UnicodeDecodeError) as error:
            words = error.one_line if isinstance(error, CervicyteError) else "not UTF-8 text"
            problems.append(f"kept out: the annotations of {printable(image.name)}: {words}")
            continue
        size = image_size(image)
        single = any(o.object_type in _CELLS and o.label for o in outlines)
        for outline in outlines:
            reason = _reason(outline, single)
            if reason:
                reasons[reason] += 1
            elif not _inside(outline, size):
                beyond.append(f"{image.name} {outline.box}")
            elif (image, outline.label, outline.box) in cells:
                reasons["that repeat another"] += 1
            else:
                kinds[outline.kind] += 1
                cells[image, outline.label, outline.box] = Cell(
                    path=str(image),
                    label=outline.label,
                    group=printable(image.relative_to(root).with_suffix("").as_posix()),
                    box=outline.box,
                    source="folder",
                )
    if len(beyond) > len(cells):
        raise DataError(
            "the outlines reach beyond their images: they belong to images of another size",
            f"{plural(len(beyond), 'outline')} of {len(beyond) + len(cells)} ({examples(beyond)})",
            "export them at the size of these images, or get the images at the size of the annotations",
        )
    notes = []
    if shapes := ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()) if kind != "Point"):
        notes.append(f"boxes: each cell is the box about its outline ({shapes}); the outlines themselves are not used")
    if kinds["Point"]:
        notes.append(f"boxes: {POINT_BOX} px about each of {plural(kinds['Point'], 'point')}")
    if beyond:
        notes.append(f"kept out: {plural(len(beyond), 'outline')} beyond the image ({examples(beyond)})")
    notes += [f"kept out: {plural(n, 'outline')} {reason}" for reason, n in sorted(reasons.items())]
    return list(cells.values()), notes + problems


def _reason(outline: Outline, single: bool) -> str:
    """Why an outline is no cell, or ""; ``single`` where its file has cells or detections."""
    if outline.object_type in _NO_CELLS:
        return f"of QuPath's kind {outline.object_type!r}"
    if single and outline.object_type == "annotation":
        return "that are annotations beside cells or detections, and so regions"
    if not outline.label:
        return "without a class"
    if outline.bounds is None:
        return "that are no polygon or point with finite coordinates"
    return ""


def _inside(outline: Outline, size: tuple[int, int] | None) -> bool:
    assert outline.bounds is not None
    if size is None:  # the cells report that the image cannot be read, when they are used
        return True
    left, top, right, bottom = outline.bounds
    return (
        min(left, top) >= -_ROUNDING
        and right <= size[0] + _ROUNDING
        and bottom <= size[1] + _ROUNDING
        and (left < size[0] and top < size[1] and right > 0 and bottom > 0)
    )


def _outlines(feature: dict[str, Any]) -> Iterable[Outline]:
    properties = _object(feature.get("properties"))
    geometry = _object(feature.get("geometry"))
    kind = str(geometry.get("type", ""))
    coordinates = geometry.get("coordinates")
    label = _label(properties)
    object_type = str(properties.get("objectType", "") or "").lower()
    parts = coordinates if kind == "MultiPoint" and isinstance(coordinates, list) else [coordinates]
    for part in parts:
        points = list(_points(part)) if kind in ("Polygon", "MultiPolygon", "Point", "MultiPoint") else []
        bounds, rectangle = None, False
        if points and all(math.isfinite(v) and abs(v) < 1e9 for point in points for v in point):
            xs, ys = zip(*points, strict=True)
            bounds = min(xs), min(ys), max(xs), max(ys)
            if "Polygon" in kind and (bounds[0] == bounds[2] or bounds[1] == bounds[3]):
                bounds = None
            else:
                rectangle = kind == "Polygon" and {(x in bounds[::2]) and (y in bounds[1::2]) for x, y in points} == {
                    True
                }
        shape = "Point" if kind == "MultiPoint" else kind
        yield Outline(label=label, kind=shape, object_type=object_type, bounds=bounds, rectangle=rectangle)


def _points(value: object) -> Iterable[tuple[float, float]]:
    """All positions in nested lists, in the order in which they stand; a position may have more than two numbers."""
    stack = [value]
    while stack:
        item = stack.pop()
        if not isinstance(item, list):
            continue
        if len(item) >= 2 and all(isinstance(v, int | float) and not isinstance(v, bool) for v in item[:2]):
            yield float(item[0]), float(item[1])
        else:
            stack.extend(reversed(item))


def _label(properties: dict[str, Any]) -> str:
    for key in ("classification", "label", "class", "category"):
        value = properties.get(key)
        if isinstance(value, dict):
            names = value.get("names")
            value = ": ".join(map(str, names)) if isinstance(names, list) else value.get("name")
        if isinstance(value, str | int) and str(value).strip():
            return unicodedata.normalize("NFC", printable(str(value).strip()))
    return ""


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


DATASET = Dataset(
    name="geojson",
    title="your own fields, each with the outlines of its cells in a .geojson of the same name, as QuPath exports them",
    system=None,
    groups="the field, or what --group-from REGEX finds in the path, or the column group of --groups FILE.csv",
    read=read,
    recognise=recognise,
)
