"""A data set with augmented copies, written out: each copy names its original, so that no split can lose it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cervicyte import settings
from cervicyte.base import files
from cervicyte.base.files import printable
from cervicyte.base.parallel import in_order
from cervicyte.base.progress import track
from cervicyte.base.system_files import own_entries
from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.readers.table import AUGMENTED_FROM, AUGMENTED_NOTE, AUGMENTED_TABLE, OWN_GROUP
from cervicyte.data.splits import check_seed
from cervicyte.errors import CervicyteError, DataError, ImageError, UsageError
from cervicyte.images import decoding
from cervicyte.images.augmentation import augmented_copy, get_augmentation

#: Files that could not be used, with the reasons.
FAILED = "failed.json"

#: Raised when the same options would give other files.
_FORMAT = 1
_MAX_COPIES = 1000


@dataclass(frozen=True, kw_only=True)
class AugmentedSet:
    """What was written.

    Attributes
    ----------
    table : the CSV file of all its cells, written last
    written, reused : image files made now, and taken over from an earlier run
    failed : file that could not be used -> why
    strangers : image files in the class folders that the table does not name
    """

    table: Path
    written: int
    reused: int
    failed: dict[str, str]
    strangers: tuple[str, ...]


@dataclass(frozen=True)
class _Copy:
    """One image of the set: its row of the table, and whether it was there already."""

    row: tuple[str, ...]
    reused: bool


def write_set(
    cells: CellTable,
    out: Path | str,
    copies: int,
    augmentation: str = "geometric",
    *,
    originals: bool = True,
    seed: int = 0,
    data: Path | str | None = None,
) -> AugmentedSet:
    """Write augmented copies as PNG files in class folders, with a table that `cervicyte.load` reads.

    The columns are path, label, group (own_group where nothing told the groups), split (if there are any), original
    (of which file a row is a copy; empty for originals), variant, augmentation, seed and augmented_from (the
    data set, whose groups these still are). A copy keeps the label, group and split of its original. It has the
    pixels that the as-published protocol gives the same variant with the same seed; the views that fine-tuning makes
    for itself are others, since they are named by the image after its filters. What an earlier run with the same
    options finished is kept.

    Parameters
    ----------
    cells : the cells, as stored (variant 0)
    out : a new folder, or one that this wrote before with the same options
    copies : of each cell, 1 to 1000
    augmentation : name of a preset
    originals : whether the cells themselves are written too
    data : the data set's folder, in which ``out`` must not lie, or its table; files are named after their
        places below it, so that it may be moved between two runs

    Raises
    ------
    UsageError : an unknown preset, a number outside its range, or a folder that must not be written to
    DataError : no cell could be used
    StorageError : the disk is full or not writable; what was written is kept
    """
    out = Path(out)
    get_augmentation(augmentation)
    check_seed(seed)
    if not 1 <= copies <= _MAX_COPIES:
        raise UsageError(f"the number of copies must lie between 1 and {_MAX_COPIES}", copies, "use --copies 10")
    made_with = {"format": _FORMAT, "copies": copies, "augmentation": augmentation, "originals": originals}
    _claim(out, made_with | {"seed": seed, "ranges": get_augmentation(augmentation).to_json()}, data)
    writer = _Writer(cells, _root(cells, data), out, range(0 if originals else 1, copies + 1), augmentation, seed)
    copies_of: dict[int, list[_Copy]] = {}
    failed: dict[str, str] = {}
    for row, answer in track(writer.each(), "augmenting", len(cells)):
        if isinstance(answer, CervicyteError):
            cell = cells.cells[row]
            failed[printable(cell.path) + (f" {cell.box}" if cell.box else "")] = answer.one_line
        else:
            copies_of[row] = answer
    if not copies_of:
        first = next(iter(failed.items()), ("a table without cells", "0 cells"))
        raise DataError("no cell could be used", ": ".join(first), "see `cervicyte data inspect`")
    images = [copy for row in sorted(copies_of) for copy in copies_of[row]]
    with files.atomic_write(out / AUGMENTED_TABLE) as stream:
        table = files.csv_writer(stream)
        table.writerow(writer.columns)
        table.writerows(copy.row for copy in images)
    if failed:
        files.write_json(out / FAILED, failed)
    else:
        (out / FAILED).unlink(missing_ok=True)
    reused = sum(copy.reused for copy in images)
    named = {copy.row[0] for copy in images}
    strangers = sorted({p.relative_to(out).as_posix() for p in out.glob("*/*.png")} - named)
    return AugmentedSet(
        table=out / AUGMENTED_TABLE,
        written=len(images) - reused,
        reused=reused,
        failed=failed,
        strangers=tuple(map(printable, strangers)),
    )


def _claim(out: Path, made_with: dict[str, Any], data: Path | str | None) -> None:
    """Take a folder for this set, or refuse it."""
    files.check_folder(out)
    if data is not None and Path(data).is_dir():
        inner, outer = out.resolve(), Path(data).resolve()
        if inner == outer or outer in inner.parents:
            raise UsageError(
                "the copies must not lie in the data set that they are made from: it would grow by them",
                f"--out {printable(out)} in {printable(data)}",
                "choose a folder elsewhere",
            )
    note = out / AUGMENTED_NOTE
    if note.is_file():
        try:
            before = json.loads(note.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot read what the folder holds ({error})", note, "choose another folder") from error
        other = before if not isinstance(before, dict) else {k for k in made_with if before.get(k) != made_with[k]}
        if other:
            words = ", ".join(sorted(map(str, other))) if isinstance(other, set) else "all"
            raise UsageError(
                "the folder holds a set that was made with other options",
                f"{printable(out)}: other {words}",
                "choose another folder, or repeat the options to go on",
            )
        for left in out.glob("*/.*.tmp"):  # of a killed run
            with contextlib.suppress(OSError):
                left.unlink()
    elif out.exists() and own_entries(out):
        raise UsageError("the folder holds something else", printable(out), "choose a new or an empty folder")
    else:
        files.write_json(note, made_with)


def _root(cells: CellTable, data: Path | str | None) -> str:
    if data is not None:
        return str(data) if Path(data).is_dir() else str(Path(data).parent)
    return os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in cells.paths] or ["."])


class _Writer:
    """Writes the images of a table's cells, each file read once, in several threads."""

    def __init__(self, cells: CellTable, root: str, out: Path, variants: range, augmentation: str, seed: int) -> None:
        self.cells, self.root, self.out, self.variants, self.seed = cells.cells, root, out, variants, seed
        self.name, self.augmentation = augmentation, get_augmentation(augmentation)
        self.divided = any(c.split for c in self.cells)
        where = ("group" if cells.grouped else OWN_GROUP, *(("split",) if self.divided else ()))
        self.columns = ("path", "label", *where, "original", "variant", "augmentation", "seed", AUGMENTED_FROM)

    def each(self) -> Iterator[tuple[int, list[_Copy] | CervicyteError]]:
        """Each row's images, or the reason why there are none."""
        rows: dict[str, list[int]] = {}
        for row, cell in enumerate(self.cells):
            rows.setdefault(cell.path, []).append(row)
        threads = settings.get_int("threads") or settings.available_threads()
        for answers in in_order(self._file, rows.items(), threads=threads, ahead=2 * threads + 1):
            yield from answers

    def _file(self, file: tuple[str, list[int]]) -> list[tuple[int, list[_Copy] | CervicyteError]]:
        import cv2

        path, rows = file
        try:
            content = decoding.read_bytes(path)
            image = decoding.decode(content, path)
        except CervicyteError as error:
            return [(row, error) for row in rows]
        digest = hashlib.sha256(content).hexdigest()
        results: list[tuple[int, list[_Copy] | CervicyteError]] = []
        for row in rows:
            try:
                results.append((row, self._cell(self.cells[row], image, digest)))
            except ImageError as error:
                results.append((row, error))
            except (cv2.error, MemoryError) as error:
                fault = f"no copy could be made of the cell ({type(error).__name__}: {error})"
                results.append((row, ImageError(fault, path, "look at the image")))
        return results

    def _cell(self, cell: Cell, image: np.ndarray, digest: str) -> list[_Copy]:
        """Write what is not there yet of one cell's images."""
        if cell.box is not None:
            image = decoding.crop(image, cell.box)
        folder = _safe(cell.label)
        # Files of one name lie in many folders, and one field holds many cells.
        mark = hashlib.sha256(f"{_place(cell.path, self.root)}|{cell.box}|{digest}".encode()).hexdigest()[:10]
        stem = f"{_safe(Path(cell.path).stem)}-{mark}"
        first = cell.original and _place(cell.original, self.out)  # of a cell that is a copy already
        first = first or (f"{folder}/{stem}-000.png" if 0 in self.variants else self._source(cell))
        made = []
        for variant in self.variants:
            name = f"{folder}/{stem}-{variant:03d}.png"
            place = self.out / name
            reused = place.is_file()
            if not reused:
                copy = augmented_copy(image, variant, digest, self.seed, self.augmentation)
                with files.atomic_write(place, "wb") as stream:
                    stream.write(_png(copy))
            original = first if variant or cell.original else ""
            where = (printable(cell.group), *((cell.split,) if self.divided else ()))
            used = (str(variant), self.name, str(self.seed)) if variant else ("0", "", "")
            made.append(_Copy((name, cell.label, *where, original, *used, cell.source), reused))
        return made

    def _source(self, cell: Cell) -> str:
        """Where the original lies, seen from the table; a box in a field is named with its field."""
        return _place(cell.path, self.out) + (f"#{','.join(map(str, cell.box))}" if cell.box else "")


def _place(path: str, root: str | Path) -> str:
    """Where a file lies, seen from a folder."""
    try:
        return printable(Path(os.path.relpath(path, root)).as_posix())
    except ValueError:  # on another drive of Windows
        return printable(os.path.abspath(path))


def _safe(name: str) -> str:
    """A name that every file system takes, of at most 160 bytes."""
    return re.sub(r"[^\w. -]", "_", printable(name))[:40].strip(". ") or "_"


def _png(image: np.ndarray) -> bytes:
    import cv2

    whole, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not whole:
        raise ImageError("the copy could not be written as PNG", image.shape, "leave the image out")
    return data.tobytes()
