"""CRIC Cervix: fields with a Bethesda label at each nucleus; a cell is a box about its nucleus, the group its field."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cervicyte.base.files import printable
from cervicyte.base.wording import plural
from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import BETHESDA
from cervicyte.data.readers import geojson
from cervicyte.data.readers.base import (
    EXAMPLES,
    Dataset,
    Listing,
    count_note,
    examples,
    image_size,
    left_out,
    list_files,
    passed_over,
)
from cervicyte.data.readers.rows import read_rows, require
from cervicyte.errors import CervicyteError, DataError
from cervicyte.images.decoding import read_bytes

#: Side of the box about a nucleus, in pixels of the original fields (1376 x 1020).
CROP = 90

#: Widths of the original fields, in pixels.
WIDTHS = (1376, 1384, 1388)

#: Side of the boxes in GeoJSON files, in pixels.
GEOJSON_BOX = 64

#: Names of the original's annotation file, the first one found is read.
ANNOTATIONS = ("classifications.json", "classifications.csv")

COUNTS = {"NILM": 6779, "ASC-US": 606, "LSIL": 1360, "ASC-H": 925, "HSIL": 1703, "SCC": 161}


@dataclass(frozen=True)
class Nucleus:
    """One annotated nucleus: the file name of its field, its label, and its place in pixels (NaN where unreadable)."""

    field: str
    label: str
    x: float
    y: float


def read(path: Path, crop: int = CROP) -> CellTable:
    """Read fields with ``classifications.json`` or ``.csv``, or with one GeoJSON beside each field.

    Parameters
    ----------
    path : the folder, or the annotation file (the fields are then searched in its folder)
    crop : side of the box about each nucleus, in pixels

    Raises
    ------
    DataError : no annotation can be read, or none belongs to an image
    """
    path = Path(path)
    listing = list_files(path.parent if path.is_file() else path)
    files = [path] if path.is_file() else _annotation_files(listing)
    notes: list[str] = []
    if files:
        nuclei, used = _parsed(files[0]), set(files)
        notes += [f"passed over: {printable(f.name)}, because {printable(files[0].name)} is read" for f in files[1:]]
    else:
        nuclei, used, notes = _beside(listing)
    cells, more = _cells(listing, nuclei, crop)
    if not cells:
        raise DataError(
            "no CRIC cells here",
            "; ".join(more) or printable(path),
            f"put the fields beside {ANNOTATIONS[0]} or {ANNOTATIONS[1]}, or one .geojson beside each field",
        )
    notes = [
        f"boxes: {crop} px about each nucleus; only annotated cells are here, others in the field are not negatives",
        *count_note("CRIC Cervix", COUNTS, cells),
        *notes,
        *more,
    ]
    return CellTable(cells=tuple(cells), system=BETHESDA, name="cric", notes=(*notes, *passed_over(listing, used)))


def parse_json(text: str, name: object = "classifications.json") -> list[Nucleus]:
    """Read the public JSON: images with a list ``classifications``, or flat rows like the CSV's.

    Raises
    ------
    DataError : not JSON, or of neither form
    """
    value = _json(text, name)
    nuclei = []
    for image in _list_of_objects(value, name):
        field = str(image.get("image_filename") or image.get("image_name") or image.get("image_id") or "")
        nested = image.get("classifications")
        for row in [image] if nested is None else _list_of_objects(nested, name):
            nuclei.append(_nucleus(field, row))
    return nuclei


def parse_geojson(text: str, field: str) -> list[Nucleus]:
    """Read the boxes of one field: each feature has the property ``label``, and a box of 64 px about its nucleus.

    A box that the edge of the field cut is taken for the part of 64 px that is left.

    Raises
    ------
    DataError : not GeoJSON
    """
    value = _json(text, field)
    features = value.get("features") if isinstance(value, dict) else None
    nuclei = []
    for feature in _list_of_objects(features, field):
        label = _entry(feature.get("properties"), "label")
        x, y = _centre(_entry(feature.get("geometry"), "coordinates"))
        nuclei.append(Nucleus(field, str(label), x, y))
    return nuclei


def recognise(listing: Listing) -> str:
    """Why a listing looks like CRIC Cervix, or ""."""
    files = _annotation_files(listing)
    if files and listing.images:
        return f"a file {printable(files[0].name)} beside images"
    stems = {p.with_suffix("") for p in listing.images}
    beside = [p for p in listing.others if p.suffix.lower() == ".geojson" and p.with_suffix("") in stems]
    boxes = any(map(_holds_boxes, beside[:EXAMPLES]))
    return f"{plural(len(beside), 'field')} with a .geojson of the same name, of boxes about nuclei" if boxes else ""


def _holds_boxes(file: Path) -> bool:
    """Whether a GeoJSON file holds boxes about nuclei as `parse_geojson` reads them, and not outlines of cells."""
    try:
        outlines = geojson.parse(_text(file), file)
    except CervicyteError:
        return False
    boxes = [o for o in outlines if o.rectangle and not o.object_type and max(o.sides) <= GEOJSON_BOX]
    return 0 < len(boxes) == len(outlines) and any(_label(o.label) for o in boxes)


def is_annotation(path: Path) -> bool:
    """True for a single file that holds CRIC annotations, by its name or its columns."""
    if path.name.lower() in ANNOTATIONS:
        return True
    if path.suffix.lower() != ".csv":
        return False
    try:
        return {"bethesda_system", "nucleus_x", "nucleus_y"} <= set(read_rows(path).columns)
    except DataError:
        return False


def _annotation_files(listing: Listing) -> list[Path]:
    by_name = {p.name.lower(): p for p in reversed(listing.others)}
    return [by_name[name] for name in ANNOTATIONS if name in by_name]


def _parsed(path: Path) -> list[Nucleus]:
    if path.suffix.lower() == ".json":
        return parse_json(_text(path), path)
    table = read_rows(path)
    require(table, ("bethesda_system", "nucleus_x", "nucleus_y"), path)
    names = ("image_filename", "image_name", "image_id")
    return [_nucleus(next((row[n] for n in names if row.get(n)), ""), row) for _, row in table.rows]


def _beside(listing: Listing) -> tuple[list[Nucleus], set[Path], list[str]]:
    """The nuclei of all GeoJSON files beside images; also the files used, and notes on unreadable ones."""
    fields = {p.with_suffix(""): p for p in listing.images}
    nuclei, used, problems = [], set(), []
    for file in listing.others:
        field = fields.get(file.with_suffix(""))
        if file.suffix.lower() != ".geojson" or field is None:
            continue
        used.add(file)
        try:
            nuclei += parse_geojson(_text(file), field.relative_to(listing.root).as_posix())
        except CervicyteError as error:
            problems.append(f"kept out: the annotations of {printable(field.name)}: {error.one_line}")
    return nuclei, used, problems


def _cells(listing: Listing, nuclei: Sequence[Nucleus], crop: int) -> tuple[list[Cell], list[str]]:
    """Cells of the nuclei that have an image, a known label and a place in it; notes on the others."""
    find = _finder(listing)
    sizes: dict[Path, tuple[int, int] | None] = {}
    cells: list[Cell] = []
    missing, unknown, unplaced, outside = [], [], 0, []
    for nucleus in nuclei:
        image = find(nucleus.field)
        label = _label(nucleus.label)
        if image is None:
            missing.append(nucleus.field)
        elif label is None:
            unknown.append(nucleus.label)
        elif not (math.isfinite(nucleus.x) and math.isfinite(nucleus.y)):
            unplaced += 1
        else:
            if image not in sizes:
                sizes[image] = image_size(image)
            if not _inside(nucleus.x, nucleus.y, sizes[image]):
                outside.append(nucleus)
                continue
            left, top = round(nucleus.x - crop / 2), round(nucleus.y - crop / 2)
            group = printable(image.relative_to(listing.root).with_suffix("").as_posix())
            box = (left, top, left + crop, top + crop)
            cells.append(
                Cell(path=str(image), label=label, group=group, box=box, source="cric", split=listing.split(image))
            )
    notes = _size_note(sizes.values())
    if missing:
        fields = sorted(set(missing))
        notes.append(f"kept out: {plural(len(missing), 'cell')} of {len(fields)} absent images ({examples(fields)})")
    if unknown:
        labels = examples(sorted(set(unknown)))
        notes.append(f"kept out: {plural(len(unknown), 'cell')} with a label that Bethesda does not know ({labels})")
    if unplaced:
        notes.append(f"kept out: {plural(unplaced, 'cell')} whose place is not two numbers")
    if outside:
        places = [f"{n.field} ({n.x:g}, {n.y:g})" for n in outside]
        notes.append(
            f"kept out: {plural(len(outside), 'cell')} whose nucleus lies outside its image ({examples(places)})"
        )
        notes.append(_other_places(nuclei, outside, find, sizes))
    unread = [p for p, size in sizes.items() if size is None]
    if unread:
        notes.append(f"unreadable: the size of {plural(len(unread), 'image')} ({examples(p.name for p in unread)})")
    bare = [p for p in listing.images if p not in sizes]
    return cells, notes + left_out(listing, bare, "without annotations")


def _size_note(sizes: Iterable[tuple[int, int] | None]) -> list[str]:
    """A note on fields of another size than the original's, or none."""
    other = [size for size in sizes if size is not None and size[0] not in WIDTHS]
    if not other:
        return []
    return [
        f"copy: {plural(len(other), 'field')} not as wide as the original's, {' or '.join(map(str, WIDTHS))} px "
        f"(such as {other[0][0]} x {other[0][1]}); annotations must be in pixels of these images, which "
        "`cervicyte data audit` checks"
    ]


def _other_places(
    nuclei: Sequence[Nucleus],
    outside: Sequence[Nucleus],
    find: Callable[[str], Path | None],
    sizes: Mapping[Path, tuple[int, int] | None],
) -> str:
    """What may be wrong where nuclei lie outside their images: exchanged coordinates, or images of another size."""
    images = {find(n.field) for n in outside}
    fields = [(n, size) for n in nuclei if (image := find(n.field)) in images and image and (size := sizes.get(image))]
    placed = [(n, size) for n, size in fields if math.isfinite(n.x) and math.isfinite(n.y)]
    if all(_inside(n.y, n.x, size) for n, size in placed):
        return (
            f"SWAPPED? {len(outside)} of these {len(outside)} would lie inside with x and y exchanged; if so, "
            "the cells that remain show wrong places too; `cervicyte data audit` looks"
        )
    far = max(max(n.x / size[0], n.y / size[1]) for n, size in placed)
    return (
        f"SCALE? the annotations may be those of larger images: some lie at {far:.2f} times the side of these; if so, "
        "the cells that remain show wrong places too; `cervicyte data audit` estimates the scale"
    )


def _finder(listing: Listing) -> Callable[[str], Path | None]:
    """Find an image by its path below the root, its file name, or its name without the ending."""
    table: dict[str, Path] = {}
    for image in reversed(listing.images):
        place = image.relative_to(listing.root).as_posix()
        for key in (image.stem, image.name, place):
            table[_key(key)] = image
    return lambda name: table.get(_key(name)) or table.get(_key(Path(name).stem))


def _key(name: str) -> str:
    """A name without the difference of capitals, and of composed and decomposed letters."""
    return unicodedata.normalize("NFC", name).casefold()


def _label(text: str) -> str | None:
    try:
        return BETHESDA.canonical(text.strip())
    except DataError:
        return None


def _inside(x: float, y: float, size: tuple[int, int] | None) -> bool:
    return size is None or (0 <= x <= size[0] and 0 <= y <= size[1])


def _nucleus(field: str, row: dict[str, Any]) -> Nucleus:
    return Nucleus(
        field, str(row.get("bethesda_system", "")), _number(row.get("nucleus_x")), _number(row.get("nucleus_y"))
    )


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return math.nan


def _entry(value: object, key: str) -> object:
    return value.get(key, "") if isinstance(value, dict) else ""


def _centre(coordinates: object) -> tuple[float, float]:
    """The nucleus in the box about the outer ring of a polygon; NaN where there is none."""
    ring = coordinates[0] if isinstance(coordinates, list) and coordinates else None
    points = [p for p in ring if isinstance(p, list) and len(p) >= 2] if isinstance(ring, list) else []
    places = [(_number(x), _number(y)) for x, y, *_ in points]
    if not places or not all(math.isfinite(x) and math.isfinite(y) for x, y in places):
        return math.nan, math.nan
    xs, ys = zip(*places, strict=True)
    return _middle(min(xs), max(xs)), _middle(min(ys), max(ys))


def _middle(low: float, high: float) -> float:
    if high - low >= GEOJSON_BOX:
        return (low + high) / 2
    return high - GEOJSON_BOX / 2 if low <= 0 else low + GEOJSON_BOX / 2


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("not UTF-8 text", printable(path), "get the file again from its source") from error


def _json(text: str, name: object) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({error})", printable(name), "get the file again from its source") from error


def _list_of_objects(value: object, name: object) -> Iterable[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DataError("not CRIC annotations: a list of objects is missing", printable(name), "see the CRIC README")
    return value


DATASET = Dataset(
    name="cric",
    title="CRIC Cervix, annotated nuclei in 400 fields of conventional Pap smears, 6 Bethesda classes",
    system=BETHESDA,
    groups="image: the field that the cell is in",
    read=read,
    recognise=recognise,
    counts=COUNTS,
    citation=(
        "Rezende MT, Silva R, Bernardo FO, et al. Cric searchable image database as a public platform for "
        "conventional pap smear cytology data. Scientific Data 8:151, 2021, 10.1038/s41597-021-00933-8"
    ),
    licence="CC BY 4.0",
    homepage="https://doi.org/10.6084/m9.figshare.c.4960286",
)
