"""Herlev (smear2005): single cells in class folders, file names <A>-<B>-<C>; the group is the acquisition A."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from cervicyte.base.files import printable
from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import HERLEV
from cervicyte.data.readers.base import Dataset, Listing, class_folders, count_note, left_out, list_files, passed_over
from cervicyte.errors import DataError

_CELL = re.compile(r"(\d+)-(\d+)-(\d+)")
#: A name that no other set has: acquisition and series of nine digits, and a running number.
_CERTAIN = re.compile(r"(\d{9})-\d{9}-\d{3}")

#: Other names of the class folders that are about; they mean these classes in this data set only.
_ALIASES = {
    "normal superficial": "normal_superficiel",
    "normal squamous": "normal_superficiel",
    "superficial": "normal_superficiel",
    "superficiel": "normal_superficiel",
    "nomal intermediate": "normal_intermediate",
    "intermediate": "normal_intermediate",
    "columnar": "normal_columnar",
    "normal columnar epithelial": "normal_columnar",
    "light dysplasia": "light_dysplastic",
    "mild dysplasia": "light_dysplastic",
    "mild dysplastic": "light_dysplastic",
    "moderate dysplasia": "moderate_dysplastic",
    "severe dysplasia": "severe_dysplastic",
    "carcinoma": "carcinoma_in_situ",
    "cis": "carcinoma_in_situ",
}
_FOLDERS = replace(HERLEV, aliases={**HERLEV.aliases, **_ALIASES})
_MASK = re.compile(r"\d+-\d+-\d+-d", re.IGNORECASE)

COUNTS = {
    "normal_superficiel": 74,
    "normal_intermediate": 70,
    "normal_columnar": 98,
    "light_dysplastic": 182,
    "moderate_dysplastic": 146,
    "severe_dysplastic": 197,
    "carcinoma_in_situ": 150,
}


def read(path: Path) -> CellTable:
    """Read the original or a copy of it; the path is any folder above the class folders.

    The segmentations ``<A>-<B>-<C>-d`` are not images and are passed over, with a count.

    Raises
    ------
    DataError : no cell is found
    """
    listing = list_files(Path(path))
    classes = class_folders(listing, _FOLDERS)
    cells, masks, misnamed, elsewhere = [], [], [], []
    for image in listing.images:
        label = classes.get(image.parent)
        match = _CELL.fullmatch(image.stem)
        if _MASK.fullmatch(image.stem):
            masks.append(image)
        elif label is None:
            elsewhere.append(image)
        elif match is None:
            misnamed.append(image)
        else:
            cells.append(
                Cell(path=str(image), label=label, group=match[1], source="herlev", split=listing.split(image))
            )
    if not cells:
        raise DataError(
            "no Herlev cells here",
            path,
            f"class folders ({', '.join(HERLEV.classes)}) must hold files named <A>-<B>-<C>.BMP; "
            "use --reader folder for other names",
        )
    notes = [*_renamed(classes), *count_note("Herlev", COUNTS, cells)]
    if masks:
        notes.append(f"passed over: {len(masks)} segmentation masks (names that end in -d); they are not images")
    notes += left_out(listing, misnamed, "in class folders whose names are not <A>-<B>-<C>, so their group is unknown")
    notes += left_out(listing, elsewhere, "outside the seven class folders")
    if any(not c.path.lower().endswith(".bmp") for c in cells):
        notes.append(
            "copy: not the original BMP files; if the crops were resized, the size of a cell in pixels has lost its "
            "meaning"
        )
    return CellTable(cells=tuple(cells), system=HERLEV, name="herlev", notes=(*notes, *passed_over(listing, ())))


def acquisition(path: str) -> str:
    """The acquisition in the name of a file, where it is surely one of Herlev's, else ""."""
    match = _CERTAIN.fullmatch(Path(path).stem)
    return match[1] if match else ""


def is_mask(path: Path) -> bool:
    """Whether a file is named as Herlev's segmentations are."""
    return _CERTAIN.fullmatch(path.stem.removesuffix("-d")) is not None and path.stem.endswith("-d")


def _renamed(classes: dict[Path, str]) -> list[str]:
    other = {(folder.name, label) for folder, label in classes.items() if folder.name.lower() != label}
    words = ", ".join(f"{printable(name)!r} as {label}" for name, label in sorted(other))
    return [f"classes: folders under other names, {words}"] if other else []


def recognise(listing: Listing) -> str:
    """Why a listing looks like Herlev, or ""."""
    classes = class_folders(listing, _FOLDERS)
    stems = [p.stem for p in listing.images if p.parent in classes and not _MASK.fullmatch(p.stem)]
    named = sum(_CELL.fullmatch(stem) is not None for stem in stems)
    if not stems or named * 2 <= len(stems):
        return ""
    return f"{len(set(classes.values()))} of Herlev's 7 class folders, with files named <A>-<B>-<C>"


DATASET = Dataset(
    name="herlev",
    title="Herlev (smear2005), single cells of conventional Pap smears, 7 classes",
    system=HERLEV,
    groups="acquisition: the first number of the file name",
    read=read,
    recognise=recognise,
    counts=COUNTS,
    citation="Jantzen J, Norup J, Dounias G, Bjerregaard B. Pap-smear benchmark data for pattern classification. "
    "Nature inspired Smart Information Systems (NiSIS), 2005",
    licence="public for research; no formal licence is stated",
    homepage="https://mde-lab.aegean.gr/index.php/downloads/",
)
