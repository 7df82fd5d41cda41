"""The unlabelled pool: crops about nuclei of whole fields, on which a small network learns what a large one says.

No label is read. A third of a field's crops are framed like single-cell images, from a nucleus that nearly fills the
frame to a small one in a wide cell. Fields show a cell in few pixels, so the others are wider: their detail is real.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from cervicyte import settings
from cervicyte.base import files, fingerprints, working_folder
from cervicyte.base.parallel import in_order
from cervicyte.base.progress import track
from cervicyte.base.versions import opencv_version, version_of
from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import LabelSystem
from cervicyte.errors import CervicyteError, DataError, ImageError
from cervicyte.fields import nuclei
from cervicyte.images import decoding
from cervicyte.images.decoding import Box

T = TypeVar("T")
R = TypeVar("R")

#: Raised when the same inputs would give other crops.
POOL_FORMAT = 3

#: Side of a single-cell image over the diameter of its nucleus: (quantile, value). Measured by
#: `cervicyte.images.segmentation` on 731 Herlev cells (200 and 224 px copies, each padded to a square).
FRAMING = ((0.05, 1.35), (0.1, 1.44), (0.25, 1.68), (0.5, 2.16), (0.75, 3.08), (0.9, 8.4), (0.95, 11.96))

#: A box with fewer pixels along its longer side shows nothing once it is enlarged.
LEAST_SIDE = 24

#: Share of the crops that are wider than most cells, and the side of these in pixels, drawn evenly in its logarithm. A
#: nucleus of more than 40 pixels, rare in the fields that this was made for, may fill or overfill such a box.
WIDE, WIDE_SIDES = 0.65, (56, 200)

#: Share of the crops that are square, and the spread of the logarithm of the others' width over height: single cells
#: are cut out tightly, and few of them are as wide as high.
SQUARE, ASPECT = 0.4, 0.4

#: Most crops of one field.
PER_FIELD = 64

#: Most of a box that may be smeared.
_MOST_SMEARED = 0.02

#: How Keras names augmented copies: prefix, index of the original (0, one at a time), a random number.
_VARIANT = re.compile(r"(.+)_0_\d+")


#: The labels of crops, of which no class is known.
UNLABELLED = LabelSystem(name="unlabelled", classes=("unlabelled",), abnormal=None)


@dataclass(frozen=True)
class _File:
    path: Path
    digest: str


@dataclass(frozen=True)
class _FieldBoxes:
    """The boxes of one field, in the order in which they are taken, and what could not be used."""

    file: _File | None
    boxes: tuple[Box, ...]
    problems: tuple[str, ...]


def cut(folders: Sequence[Path | str], most: int = 16_000, seed: int = 0) -> CellTable:
    """Cut crops about the nuclei of all fields in some folders, or find those that were cut before.

    Parameters
    ----------
    folders : folders, files or patterns of whole fields
    most : crops, spread evenly over the fields
    seed : of framing and choice, which follow from it and from a field's content

    Returns
    -------
    the crops as cells without labels, those of a field one after the other, whose group is their field's SHA-256;
    files that cannot be read are in the notes

    Raises
    ------
    DataError : not one crop could be cut
    StorageError : the disk is full

    Notes
    -----
    Copies of one field, by content or by the names that Keras gives augmented ones (``x_0_1234.jpg``), count as
    one field: the copy with the least smeared border is used. A killed run starts anew, for it takes minutes.
    """
    fields, problems = _distinct(folders)
    key = _key(fields, most, seed)
    paths = {f.digest: str(f.path) for copies in fields for f in copies}
    earlier = _read(key, paths)
    if earlier is not None:
        return earlier
    rows = list(_in_threads(lambda copies: _boxes(copies, seed), fields, "nuclei of fields"))
    problems += [problem for row in rows for problem in row.problems]
    used = [row for row in rows if row.file and row.boxes]
    allowed = _spread([len(row.boxes) for row in used], most)
    used = [replace(row, boxes=row.boxes[:n]) for row, n in zip(used, allowed, strict=True) if n]
    if not used:
        raise DataError(
            "no nucleus was found in the fields",
            f"{len(fields)} fields, {len(problems)} problems" + "".join(f"\n  {p}" for p in problems[:5]),
            "name folders of whole fields of stained cells, at most that large that a nucleus has 8 to 60 pixels",
        )
    copies = sum(len(f) for f in fields)
    notes = (
        f"{sum(len(row.boxes) for row in used)} crops of {len(used)} fields",
        f"{copies} files show {len(fields)} distinct fields; {len(fields) - len(used)} of them gave no crop",
        *problems,
    )
    boxes = {row.file.digest: row.boxes for row in used if row.file}
    files.write_json(_path(key), {"boxes": boxes, "notes": notes})
    return _table(boxes, notes, paths)


def _distinct(folders: Sequence[Path | str]) -> tuple[list[tuple[_File, ...]], list[str]]:
    """Group the files that are copies of one field, in the order of their content; and list what cannot be read."""
    results = {row.path: row.problem for row in decoding.find_images(folders)}
    problems = [_line(path, problem) for path, problem in results.items() if problem]
    paths = [path for path, problem in results.items() if problem is None]
    groups: dict[tuple[Path, str], list[_File]] = {}
    seen: set[str] = set()
    for path, digest in zip(paths, _in_threads(_digest, paths, "reading fields"), strict=True):
        if isinstance(digest, ImageError):
            problems.append(_line(path, digest))
        elif digest not in seen:
            seen.add(digest)
            variant = _VARIANT.fullmatch(path.stem)
            # A file that is no variant is a field by itself; "a.jpg" and "a.png" need not show the same.
            groups.setdefault((path.parent, f"{variant[1]}_0_" if variant else path.name), []).append(
                _File(path, digest)
            )
    fields = [tuple(sorted(group, key=lambda f: f.digest)) for group in groups.values()]
    return sorted(fields, key=lambda group: group[0].digest), problems


def _digest(path: Path) -> str | ImageError:
    try:
        return hashlib.sha256(decoding.read_bytes(path)).hexdigest()
    except ImageError as error:
        return error


def _key(fields: list[tuple[_File, ...]], most: int, seed: int) -> str:
    described = {
        "format": POOL_FORMAT,
        "fields": [[f.digest for f in copies] for copies in fields],
        "most": most,
        "seed": seed,
        "framing": [FRAMING, WIDE, WIDE_SIDES, SQUARE, ASPECT],
        "bounds": [LEAST_SIDE, PER_FIELD, _MOST_SMEARED],
        "search": {name: value for name, value in vars(nuclei).items() if name.isupper()},
        "pixels": {
            "pillow": version_of("pillow"),
            "opencv-python-headless": opencv_version(),
            "numpy": version_of("numpy"),
        },
    }
    return fingerprints.of_json(described)


def _boxes(copies: tuple[_File, ...], seed: int) -> _FieldBoxes:
    """Put boxes about the nuclei of one field, in its copy with the least smear."""
    problems = []
    best: tuple[float, _File, np.ndarray, np.ndarray] | None = None
    for file in copies:
        try:
            field = decoding.load(file.path)
        except ImageError as error:
            problems.append(_line(file.path, error))
            continue
        smear = nuclei.smeared(field)
        if best is None or smear.mean() < best[0]:
            best = (float(smear.mean()), file, field, smear)
    if best is None:
        return _FieldBoxes(None, (), tuple(problems))
    _, file, field, smear = best
    boxes = []
    for nucleus in nuclei.find_nuclei(field):
        name = f"{file.digest}|{nucleus.x:.1f}|{nucleus.y:.1f}|{seed}"
        left, top, right, bottom = box = frame(nucleus, np.random.default_rng(_number(f"framing|{name}")))
        inside = left >= 0 and top >= 0 and right <= field.shape[1] and bottom <= field.shape[0]
        if inside and smear[top:bottom, left:right].mean() <= _MOST_SMEARED:
            boxes.append((_fraction(f"order|{name}"), box))
    return _FieldBoxes(file, tuple(box for _, box in sorted(boxes)[:PER_FIELD]), tuple(problems))


def frame(nucleus: nuclei.Nucleus, random: np.random.Generator) -> Box:
    """Put a box about a nucleus, as wide as single-cell images are (`FRAMING`) or as `WIDE_SIDES` says.

    Returns
    -------
    left, top, right and bottom in pixels of the field; the box may reach outside it
    """
    factor = drawn(FRAMING, random)
    wide = float(np.exp(random.uniform(*np.log(WIDE_SIDES))))
    side = max(LEAST_SIDE, wide if random.random() < WIDE else factor * nucleus.diameter)
    stretch = 0.0 if random.random() < SQUARE else random.normal(0, ASPECT)
    width, height = (max(1, round(side * np.exp(min(0.0, turn)))) for turn in (stretch, -stretch))
    left, top = round(nucleus.x + 0.5 - width / 2), round(nucleus.y + 0.5 - height / 2)
    return (left, top, left + width, top + height)


def drawn(table: Sequence[tuple[float, float]], random: np.random.Generator) -> float:
    """Draw a positive number, spread as a table of (quantile, value) says and evenly in its logarithm in between."""
    quantiles, values = zip(*table, strict=True)
    return float(np.exp(np.interp(random.uniform(quantiles[0], quantiles[-1]), quantiles, np.log(values))))


def _number(text: str) -> int:
    """Make a whole number that follows from a text and looks drawn."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6])


def _fraction(text: str) -> float:
    """Make a number in [0, 1) that follows from a text and looks drawn."""
    return _number(text) / 2**48


def _spread(counts: Sequence[int], most: int) -> list[int]:
    """Say how many crops of each field are taken: at most ``most`` together, as evenly as can be."""
    low, high = 0, max(counts, default=0)
    while low < high:  # the largest bound under which all fit
        middle = (low + high + 1) // 2
        low, high = (middle, high) if sum(min(n, middle) for n in counts) <= most else (low, middle - 1)
    taken = [min(n, low) for n in counts]
    left = most - sum(taken)
    for i, n in enumerate(counts):  # what is left goes to the first fields, which are in the order of their content
        if left > 0 and n > low:
            taken[i] += 1
            left -= 1
    return taken


def _table(boxes: Mapping[str, Sequence[Sequence[int]]], notes: Sequence[str], paths: Mapping[str, str]) -> CellTable:
    (label,) = UNLABELLED.classes
    cells = [
        Cell(path=paths[digest], label=label, group=digest, box=(box[0], box[1], box[2], box[3]), source="crops")
        for digest, some in boxes.items()
        for box in some
    ]
    return CellTable(cells=tuple(cells), system=UNLABELLED, name="crops", notes=tuple(notes))


def _read(key: str, paths: Mapping[str, str]) -> CellTable | None:
    """Read the crops of an earlier run by their key; None where the file is not there or not whole."""
    try:
        about = json.loads(_path(key).read_text(encoding="utf-8"))
        crops = _table(about["boxes"], about["notes"], paths)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None
    working_folder.used(_path(key))
    return crops


def _path(key: str) -> Path:
    return working_folder.folder() / "pool" / f"{key[:40]}.json"


def _line(path: Path, error: CervicyteError) -> str:
    return files.printable(f"{path.name}: {error.one_line}")


def _in_threads(function: Callable[[T], R], items: Sequence[T], label: str) -> Iterator[R]:
    """Apply a function in threads; its results come in the order of the items, few of them held at any time."""
    threads = settings.get_int("threads") or settings.available_threads()
    return in_order(function, track(items, label), threads=threads, ahead=2 * threads + 1)
