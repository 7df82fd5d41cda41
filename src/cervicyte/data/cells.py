"""CellTable: the one table shape for all data. A row is a cell: where it is, what it is, whose it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from cervicyte.base import fingerprints
from cervicyte.base.files import sha256_file
from cervicyte.data.labels import LabelMap, LabelSystem
from cervicyte.data.spelling import spelling_key
from cervicyte.errors import DataError
from cervicyte.images.decoding import Box, CellImage


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a table.

    Attributes
    ----------
    path : the image file
    label : its class, one of the table's label system
    group : cells of one group (slide, patient, acquisition, field) never stand on both
        sides of a grouped split
    box : (left, top, right, bottom) in pixels where the image is a whole field, else None
    source : the data set it came from
    split : "train" or "test" where the data set came divided, else ""
    original : path of the image that this file is an augmented copy of, else ""
    variant : 0 for the image as stored, k >= 1 for its k-th copy augmented on the fly
    """

    path: str
    label: str
    group: str
    box: Box | None = None
    source: str = ""
    split: str = ""
    original: str = ""
    variant: int = 0

    @property
    def image(self) -> CellImage:
        """Where its pixels are."""
        return CellImage(self.path, self.box, self.variant)


@dataclass(frozen=True, kw_only=True)
class CellTable:
    """An immutable table of cells with one label system.

    Attributes
    ----------
    cells : the rows
    system : the label system of their labels
    name : the data set's name
    notes : what a reader noticed and the user should know (other counts, files passed over)
    grouped : False where nothing told the groups, so that each image is its own group
    """

    cells: tuple[Cell, ...]
    system: LabelSystem
    name: str = "cells"
    notes: tuple[str, ...] = ()
    grouped: bool = True
    _digests: dict[str, str | None] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        unknown = sorted({c.label for c in self.cells} - set(self.system.classes))
        if unknown:
            raise DataError(
                f"labels unknown to the label system {self.system.name!r}",
                ", ".join(map(repr, unknown)),
                f"it has: {', '.join(self.system.classes)}",
            )

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def paths(self) -> list[str]:
        """File of each cell."""
        return [c.path for c in self.cells]

    @cached_property
    def labels(self) -> np.ndarray:
        """Class name of each cell, object array of shape (n,)."""
        return np.array([c.label for c in self.cells], dtype=object)

    @cached_property
    def groups(self) -> np.ndarray:
        """Group of each cell, prefixed by its source so that two sets never share one."""
        return np.array([f"{c.source}:{c.group}" for c in self.cells], dtype=object)

    @cached_property
    def group_keys(self) -> np.ndarray:
        """`groups` without what is spelling only, so that P012 and p12 are one; `groups` where nothing told them."""
        if not self.grouped:
            return self.groups
        keys = {name: group_key(name) for name in set(self.groups.tolist())}
        return np.array([keys[name] for name in self.groups.tolist()], dtype=object)

    @cached_property
    def codes(self) -> np.ndarray:
        """Index of each cell's class in ``system.classes``, int64 of shape (n,)."""
        index = {name: i for i, name in enumerate(self.system.classes)}
        return np.array([index[c.label] for c in self.cells], dtype=np.int64)

    @property
    def present(self) -> tuple[str, ...]:
        """The classes that occur, in the system's order."""
        seen = {c.label for c in self.cells}
        return tuple(c for c in self.system.classes if c in seen)

    def counts(self) -> dict[str, tuple[int, int]]:
        """Cells and groups of each class of the system."""
        counts: dict[str, tuple[int, int]] = {}
        for name in self.system.classes:
            rows = self.labels == name
            counts[name] = (int(rows.sum()), len(set(self.groups[rows])))
        return counts

    def subset(self, rows: Sequence[int] | np.ndarray) -> CellTable:
        """The table of the given rows (indices or a boolean mask), in their order."""
        indices = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows, dtype=np.int64)
        return replace(self, cells=tuple(self.cells[i] for i in indices))

    def with_cells(self, cells: Iterable[Cell]) -> CellTable:
        """The same table with other rows."""
        return replace(self, cells=tuple(cells))

    def map_labels(self, label_map: LabelMap) -> CellTable:
        """The same cells under another label system."""
        labels = label_map([c.label for c in self.cells])
        cells = tuple(replace(c, label=label) for c, label in zip(self.cells, labels, strict=True))
        return replace(self, cells=cells, system=label_map.target)

    def digests(self) -> list[str | None]:
        """SHA-256 of each cell's file content; None where it cannot be read."""
        missing = [p for p in dict.fromkeys(self.paths) if p not in self._digests]
        if missing:
            with ThreadPoolExecutor(4) as pool:
                self._digests.update(zip(missing, pool.map(_digest, missing), strict=True))
        return [self._digests[p] for p in self.paths]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over every cell's content, box, label, group and variant; the order of rows does not matter."""
        lines = sorted(
            f"{digest}|{c.box}|{c.label}|{c.source}:{c.group}|{c.variant}"
            for digest, c in zip(self.digests(), self.cells, strict=True)
        )
        return fingerprints.of_lines(lines)


def group_key(name: str) -> str:
    """What the spellings of a group share that is named as `CellTable.groups` names it, "source:group".

    >>> group_key("folder:012.0") == group_key("folder:12")
    True
    """
    source, colon, group = name.partition(":")
    return source + colon + spelling_key(group)


def _digest(path: str) -> str | None:
    try:
        return sha256_file(Path(path))
    except OSError:
        return None
