"""SIPaKMeD: cropped cells CROPPED/NNN_MM, or whole fields NNN with contours NNN_cytMM.dat; the group is the field."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from cervicyte.base.files import printable
from cervicyte.base.wording import plural
from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import SIPAKMED
from cervicyte.data.readers.base import (
    Dataset,
    Listing,
    class_folders,
    count_note,
    left_out,
    list_files,
    passed_over,
)
from cervicyte.errors import CervicyteError, DataError
from cervicyte.images.decoding import Box, read_bytes

_CROP = re.compile(r"(\d+)_(\d+)")
_FIELD = re.compile(r"\d+")
_CONTOUR = re.compile(r"(\d+)_cyt(\d+)", re.IGNORECASE)

COUNTS = {
    "Superficial-Intermediate": 831,
    "Parabasal": 787,
    "Koilocytotic": 825,
    "Dyskeratotic": 813,
    "Metaplastic": 793,
}


def read(path: Path) -> CellTable:
    """Read the cropped cells; a class without any is read from its fields and the contours of the cytoplasm.

    Raises
    ------
    DataError : neither crops nor contours are found
    """
    listing = list_files(Path(path))
    classes = class_folders(listing, SIPAKMED)
    crops, fields, other = [], [], []
    for image in listing.images:
        if image.parent not in classes:
            other.append(image)
        elif _is_crop(image):
            crops.append(image)
        elif _FIELD.fullmatch(image.stem):
            fields.append(image)
        else:
            other.append(image)
    cells = [_crop_cell(listing, image, classes[image.parent]) for image in crops]
    cropped = {cell.label for cell in cells}
    open_fields = [f for f in fields if classes[f.parent] not in cropped]
    contour_cells, contours, notes = _contour_cells(listing, open_fields, classes)
    cells += contour_cells
    if not cells:
        raise DataError(
            "no SIPaKMeD cells here",
            path,
            "folders im_<Class> must hold CROPPED/NNN_MM.bmp, or NNN.bmp with NNN_cytMM.dat; "
            "use --reader folder for other names",
        )
    if contour_cells:
        notes.append(
            f"boxes: {plural(len(contour_cells), 'cell')} without a CROPPED file, cut from the fields by their contours"
        )
    closed = len(fields) - len(open_fields)
    if closed:
        notes.append(f"passed over: {plural(closed, 'whole field')}, because their cells are in CROPPED")
    notes += left_out(listing, other, "outside the class folders or not named NNN or NNN_MM")
    return CellTable(
        cells=tuple(cells),
        system=SIPAKMED,
        name="sipakmed",
        notes=(*count_note("SIPaKMeD", COUNTS, cells), *notes, *passed_over(listing, contours)),
    )


def read_contour(text: str) -> np.ndarray:
    """Read a contour, one ``x,y`` a line, in pixels: float64 (n, 2).

    Raises
    ------
    DataError : a line that is not two numbers, or no line at all

    >>> read_contour("1,2\\n3.5,4\\n").tolist()
    [[1.0, 2.0], [3.5, 4.0]]
    """
    points = []
    for number, line in enumerate(text.splitlines(), start=1):
        parts = line.replace(",", " ").replace(";", " ").split()
        if not parts:
            continue
        try:
            x, y = (float(part) for part in parts)
        except ValueError:
            raise DataError(f"line {number} of a contour is not x,y", repr(line[:40]), "mend the file") from None
        if not (abs(x) < 1e6 and abs(y) < 1e6):  # also false for NaN
            raise DataError(f"line {number} of a contour is not a place in an image", repr(line[:40]), "mend the file")
        points.append((x, y))
    if not points:
        raise DataError("a contour without points", repr(text[:40]), "mend the file")
    return np.array(points, dtype=np.float64)


def contour_box(points: np.ndarray) -> Box:
    """The smallest box (left, top, right, bottom) that holds all points (n, 2)."""
    left, top = np.floor(points.min(axis=0))
    right, bottom = np.floor(points.max(axis=0)) + 1
    return int(left), int(top), int(right), int(bottom)


def recognise(listing: Listing) -> str:
    """Why a listing looks like SIPaKMeD, or ""."""
    classes = class_folders(listing, SIPAKMED)
    n = len(set(classes.values()))
    if any(p.parent in classes and _is_crop(p) for p in listing.images):
        return f"{n} of SIPaKMeD's 5 class folders, with files CROPPED/NNN_MM"
    if any(p.parent in classes and _CONTOUR.fullmatch(p.stem) for p in listing.others):
        return f"{n} of SIPaKMeD's 5 class folders, with contours NNN_cytMM.dat"
    return ""


def _is_crop(image: Path) -> bool:
    return image.parent.name.lower() == "cropped" and _CROP.fullmatch(image.stem) is not None


def _group(label: str, number: str) -> str:
    # The same field is "001" beside one copy's crops and "1" beside another's.
    return f"{label}-{int(number):03d}"


def _crop_cell(listing: Listing, image: Path, label: str) -> Cell:
    number = image.stem.split("_")[0]
    return Cell(
        path=str(image), label=label, group=_group(label, number), source="sipakmed", split=listing.split(image)
    )


def _contour_cells(
    listing: Listing, fields: list[Path], classes: dict[Path, str]
) -> tuple[list[Cell], set[Path], list[str]]:
    """Cells of fields by their contours; also the contour files used, and notes on those that could not be."""
    by_place = {(f.parent, f.stem): f for f in fields}
    cells, used, orphans, problems = [], set(), 0, []
    for contour in listing.others:
        match = _CONTOUR.fullmatch(contour.stem)
        if match is None or contour.suffix.lower() != ".dat" or contour.parent not in classes:
            continue
        field = by_place.get((contour.parent, match[1]))
        if field is None:
            orphans += 1
            continue
        used.add(contour)
        try:
            box = contour_box(read_contour(read_bytes(contour).decode("utf-8", "replace")))
        except CervicyteError as error:
            problems.append(f"{printable(contour.name)}: {error.one_line}")
            continue
        label = classes[field.parent]
        cells.append(
            Cell(
                path=str(field),
                label=label,
                group=_group(label, field.stem),
                box=box,
                source="sipakmed",
                split=listing.split(field),
            )
        )
    notes = []
    if problems:
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        notes.append(f"kept out: {plural(len(problems), 'cell')} with an unreadable contour ({shown})")
    if orphans and fields:
        notes.append(
            f"passed over: {plural(orphans, 'contour')} without its field, or of a class that has CROPPED files"
        )
    seen = {cell.path for cell in cells}
    empty = sum(str(field) not in seen for field in fields)
    if empty:
        notes.append(f"passed over: {plural(empty, 'field')} without a readable contour")
    return cells, used, notes


DATASET = Dataset(
    name="sipakmed",
    title="SIPaKMeD, single cells cut from 966 fields of conventional Pap smears, 5 classes",
    system=SIPAKMED,
    groups="field: the class and the number NNN of the field that the cell was cut from",
    read=read,
    recognise=recognise,
    counts=COUNTS,
    citation=(
        "Plissiti ME, Dimitrakopoulos P, Sfikas G, Nikou C, Krikoni O, Charchanti A. SIPAKMED: a new dataset for "
        "feature and image based classification of normal and pathological cervical cells in Pap smear images. IEEE "
        "ICIP, 2018, 10.1109/ICIP.2018.8451588"
    ),
    licence="public for experiments, with the request to cite; no formal licence is stated",
    homepage="https://www.cs.uoi.gr/~marina/sipakmed.html",
)
