"""Mendeley LBC: whole fields of liquid-based cytology in class folders; the group is the slide."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import BETHESDA
from cervicyte.data.readers.base import Dataset, Listing, class_folders, counted_note, left_out, list_files, passed_over
from cervicyte.errors import DataError

#: "NL_39_ (7)", "HSIL_1 (1)": slide, image.
_ORIGINAL = re.compile(r"[A-Za-z]+_(\d+)_?\s*\((\d+)\)")
#: "NL_39_7": the same without its brackets.
_PLAIN = re.compile(r"NL_(\d+)_(\d+)", re.IGNORECASE)
#: "HSIL_1010_0_4446": slide and image run together, then the mark of an augmented variant.
_AUGMENTED = re.compile(r"([A-Za-z]+_(\d+))_0_\d+")

#: Source of its cells, which are whole fields.
SOURCE = "lbc"

#: Fields of each class, as the file names of the data set count them.
COUNTS = {"NILM": 613, "LSIL": 113, "HSIL": 163, "SCC": 74}

_UNTRUSTED = (
    "labels: this copy was augmented class by class; {files} of {all} files are variants of {originals} fields, "
    "shifted and rotated with smeared borders, and {plain}. The smears tell the class, so a classifier must not be "
    "trained or judged on these labels"
)


def read(path: Path) -> CellTable:
    """Read the original folders, or the copy whose files are augmented variants.

    In that copy ``Cell.original`` is the stem that all variants of a field share, and they
    share a group. Its names ran slide and image together ("HSIL_1010" was "HSIL_10 (10)");
    images have no leading zero and slides go up to 10, so the slide can be told.

    Raises
    ------
    DataError : no field is found
    """
    listing = list_files(Path(path))
    classes = {f: c for f, c in class_folders(listing, BETHESDA).items() if c in COUNTS}
    cells, elsewhere, misnamed = [], [], []
    for image in listing.images:
        label = classes.get(image.parent)
        place = _place(image.stem)
        if label is None:
            elsewhere.append(image)
        elif place is None:
            misnamed.append(image)
        else:
            slide, stem = place
            original = str(image.parent / stem) if stem else ""
            cells.append(
                Cell(
                    path=str(image),
                    label=label,
                    group=f"{label}-{slide}",
                    box=None,
                    source=SOURCE,
                    split=listing.split(image),
                    original=original,
                )
            )
    if not cells:
        raise DataError(
            "no Mendeley LBC fields here",
            path,
            "class folders must hold files named like 'NL_39_ (7).jpg' or 'HSIL_1 (1).jpg'; "
            "use --reader folder for other names",
        )
    fields = {(c.label, c.original or c.path) for c in cells}
    notes = ["content: each image is a whole field with many cells, not a single cell"]
    notes += counted_note("Mendeley LBC", COUNTS, Counter(label for label, _ in fields), "field")
    notes += _variants_note(cells)
    notes += left_out(listing, misnamed, "in class folders whose names do not tell a slide")
    notes += left_out(listing, elsewhere, "outside the four class folders")
    return CellTable(cells=tuple(cells), system=BETHESDA, name="lbc", notes=(*notes, *passed_over(listing, ())))


def recognise(listing: Listing) -> str:
    """Why a listing looks like Mendeley LBC, or ""."""
    classes = {f: c for f, c in class_folders(listing, BETHESDA).items() if c in COUNTS}
    stems = [p.stem for p in listing.images if p.parent in classes]
    named = sum(_place(stem) is not None for stem in stems)
    if not stems or named * 2 <= len(stems):
        return ""
    return f"{len(set(classes.values()))} of Mendeley LBC's 4 class folders, with its file names"


def _place(stem: str) -> tuple[str, str] | None:
    """Slide number and, for an augmented variant, the stem of its original; None for another name."""
    if match := _AUGMENTED.fullmatch(stem):
        return _slide(match[2]), match[1]
    match = _ORIGINAL.fullmatch(stem) or _PLAIN.fullmatch(stem)
    return (match[1], "") if match else None


def _slide(digits: str) -> str:
    """The slide in slide-and-image run together: "115" is image 15 of slide 1, "1010" and "101" are of slide 10."""
    return "10" if digits.startswith("10") and len(digits) > 2 else digits[0]


def _variants_note(cells: list[Cell]) -> list[str]:
    variants = [c for c in cells if c.original]
    if not variants:
        return []
    plain = sorted({c.label for c in cells} - {c.label for c in variants})
    return [
        _UNTRUSTED.format(
            files=len(variants),
            all=len(cells),
            originals=len({c.original for c in variants}),
            plain=f"no file of {', '.join(plain)} is" if plain else "every class has some",
        )
    ]


DATASET = Dataset(
    name="lbc",
    title="Mendeley LBC, whole fields of liquid-based cytology, 4 classes",
    system=BETHESDA,
    groups="slide: the class and the slide number of the file name",
    read=read,
    recognise=recognise,
    counts=COUNTS,
    citation=(
        "Hussain E, Mahanta LB, Borah H, Das CR. Liquid based-cytology Pap smear dataset for automated multi-class "
        "diagnosis of pre-cancerous and cervical cancer lesions. Data in Brief 30, 2020, 10.1016/j.dib.2020.105589"
    ),
    licence="CC BY 4.0",
    homepage="https://data.mendeley.com/datasets/zddtpgzv63/4",
)
