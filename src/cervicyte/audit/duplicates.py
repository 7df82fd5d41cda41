"""Duplicates in a table of cells: one table must not count, or test on, the same cell twice.

Signatures find near, rotated and flipped copies (also years later, against a stored model);
keypoints find augmented copies and overlapping views; file hashes find exact copies.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cervicyte.audit import keypoints
from cervicyte.audit.signatures import LENGTH, Match, match, match_within, readable, signature
from cervicyte.base import progress
from cervicyte.data.cells import CellTable
from cervicyte.data.images import each_image
from cervicyte.errors import ImageError
from cervicyte.images.decoding import Box

__all__ = [
    "KINDS",
    "DuplicatePair",
    "Gallery",
    "Match",
    "components",
    "declared",
    "find_duplicates",
    "match",
    "readable",
    "signatures",
]

#: Takes a pair: two rows, its kind and its score.
_Note = Callable[[int, int, str, float], None]

#: Kinds of pairs, from the surest to the loosest, with what they mean.
KINDS: dict[str, str] = {
    "exact": "the same bytes, or the same box of the same bytes",
    "declared": "copies of one image, as the data set itself says",
    "near": "the same picture, resized, recompressed or slightly shifted; or boxes that mostly overlap",
    "rotated": "the same picture turned by 90, 180 or 270 degrees",
    "flipped": "the same picture mirrored, perhaps also turned",
    "augmented": "the same content rotated, shifted or stretched by any amount; at least half of the view is common",
    "overlap": "views of one place that share less than half",
}

#: Boxes of one field with a larger intersection over union are one cell, counted twice.
MIN_IOU = 0.5

#: Share of the view in common from which a pair is called augmented, and below which it is not reported.
_AUGMENTED_FROM = 0.5
_OVERLAP_FROM = 0.1


@dataclass(frozen=True)
class DuplicatePair:
    """Rows ``first`` < ``second`` that show the same; ``kind`` is one of `KINDS`.

    ``score`` is in 0..1: 1 for exact, the correlation after alignment for near, rotated and flipped
    images, intersection over union for boxes of one field, the common share of the view otherwise.
    """

    first: int
    second: int
    kind: str
    score: float


@dataclass(frozen=True)
class Gallery:
    """What the search needs of every image; keypoints lie in temporary files, not in memory.

    Attributes
    ----------
    signatures : uint8 (n, 2307), all zero where there is no image
    histograms : float32 (n, 2048); points : float32 (n, 200, 2); descriptors : uint8 (n, 200, 128)
    counts : keypoints of each image, int64 (n,)
    """

    signatures: np.ndarray
    histograms: np.ndarray
    points: np.ndarray
    descriptors: np.ndarray
    counts: np.ndarray

    @classmethod
    def empty(cls, n: int) -> Gallery:
        """Room for n images."""
        return cls(
            np.zeros((n, LENGTH), np.uint8),
            _on_disk((n, keypoints.HISTOGRAM), np.float32),
            _on_disk((n, keypoints.MAX_POINTS, 2), np.float32),
            _on_disk((n, keypoints.MAX_POINTS, 128), np.uint8),
            np.zeros(n, np.int64),
        )

    def add(self, row: int, mark: np.ndarray, look: keypoints.Look) -> None:
        """Keep the signature and the look of the image of one row."""
        k = len(look.points)
        self.signatures[row], self.histograms[row], self.counts[row] = mark, look.histogram, k
        self.points[row, :k], self.descriptors[row, :k] = look.points, look.descriptors


def _on_disk(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    if not shape[0]:
        return np.zeros(shape, dtype)
    return np.memmap(tempfile.TemporaryFile(prefix="cervicyte-"), dtype=dtype, mode="w+", shape=shape)


def signatures(cells: CellTable) -> np.ndarray:
    """One signature per cell, uint8 (n, 2307); all zero where the cell could not be read (see `readable`)."""
    marks = np.zeros((len(cells), LENGTH), np.uint8)
    for row, mark in each_image(cells, lambda _, image: signature(image), "signatures"):
        if not isinstance(mark, ImageError):
            marks[row] = mark
    return marks


def gallery(cells: CellTable) -> Gallery:
    """Signature and keypoints of every readable cell."""
    looks = Gallery.empty(len(cells))
    work = each_image(cells, lambda _, image: (signature(image), keypoints.look(image)), "looking for duplicates")
    for row, look in work:
        if not isinstance(look, ImageError):
            looks.add(row, *look)
    return looks


def find_duplicates(cells: CellTable, looks: Gallery | None = None) -> list[DuplicatePair]:
    """All pairs of rows that show the same cell or the same place, each once, in order.

    Parameters
    ----------
    looks : the gallery of these cells where the caller has read them already

    Notes
    -----
    File names take no part, but what the table says of its copies (``Cell.original``) does. Two boxes
    of one field are a pair only where they mostly overlap. Of several identical files the first stands
    for all in the search; blank images match nothing unless they are the same bytes. Unreadable rows
    are left out (`cervicyte data audit` lists them), unless the table calls them copies.
    """
    looks = gallery(cells) if looks is None else looks
    pairs: dict[tuple[int, int], DuplicatePair] = {}

    def note(first: int, second: int, kind: str, score: float) -> None:
        pair = (min(first, second), max(first, second))
        pairs.setdefault(pair, DuplicatePair(*pair, kind, round(float(score), 4)))

    firsts = _note_exact(cells, note)
    _note_boxes(cells, note)
    rows = np.array(sorted(r for r in firsts if looks.signatures[r].any()), dtype=np.int64)
    for hit in match_within(looks.signatures[rows]):
        first, second = int(rows[hit.first]), int(rows[hit.second])
        if cells.cells[first].path != cells.cells[second].path:
            note(first, second, hit.kind, hit.score)
    _note_augmented(cells, looks, rows, note)
    for first_row, row in declared(cells):
        note(first_row, row, "declared", 1.0)
    return [pairs[pair] for pair in sorted(pairs)]


def declared(cells: CellTable) -> list[tuple[int, int]]:
    """Pairs of rows that the table itself calls copies of one image: the first row of each family with the others."""
    if not any(c.original for c in cells.cells):
        return []
    first: dict[tuple[str, Box | None], int] = {}
    pairs = ((first.setdefault((c.original or c.path, c.box), row), row) for row, c in enumerate(cells.cells))
    return [(leader, row) for leader, row in pairs if leader != row]


def _note_exact(cells: CellTable, note: _Note) -> list[int]:
    """Note rows of the same bytes and box; return the first row of each."""
    first: dict[tuple[str, Box | None], int] = {}
    for row, (cell, digest) in enumerate(zip(cells.cells, cells.digests(), strict=True)):
        if digest is None:
            continue
        leader = first.setdefault((digest, cell.box), row)
        if leader != row:
            same = cells.cells[leader].variant == cell.variant
            note(leader, row, "exact" if same else "augmented", 1.0)
    return [row for row in first.values() if cells.cells[row].variant == 0]


def _note_boxes(cells: CellTable, note: _Note) -> None:
    """Note boxes of one field that mostly overlap."""
    fields: defaultdict[str, list[int]] = defaultdict(list)
    for row, cell in enumerate(cells.cells):
        if cell.box is not None:
            fields[cell.path].append(row)
    for rows in fields.values():
        boxes = np.array([cells.cells[r].box for r in rows], dtype=np.float64)
        iou = _iou(boxes)
        for i, j in np.argwhere(np.triu(iou > MIN_IOU, 1)).tolist():
            note(rows[i], rows[j], "near", iou[i, j])


def _iou(boxes: np.ndarray) -> np.ndarray:
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=2)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.asarray(common / np.maximum(area[:, None] + area[None] - common, 1e-9))


def _note_augmented(cells: CellTable, looks: Gallery, rows: np.ndarray, note: _Note) -> None:
    pairs = list(keypoints.candidates(looks.histograms[rows], looks.descriptors[rows], looks.counts[rows]))
    for i, j in progress.track(pairs, "comparing look-alikes"):
        first, second = int(rows[i]), int(rows[j])
        if cells.cells[first].path == cells.cells[second].path:
            continue
        a, b = looks.counts[first], looks.counts[second]
        agreement = keypoints.agree(
            looks.points[first, :a],
            looks.descriptors[first, :a],
            looks.points[second, :b],
            looks.descriptors[second, :b],
        )
        if agreement is not None and agreement.overlap >= _OVERLAP_FROM:
            note(first, second, "augmented" if agreement.overlap >= _AUGMENTED_FROM else "overlap", agreement.overlap)


def components(n: int, pairs: Sequence[DuplicatePair]) -> np.ndarray:
    """Number of the connected component of each of n rows, int64 (n,): the smallest row in it."""
    parent = np.arange(n)

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = int(parent[row])
        return row

    for pair in pairs:
        a, b = sorted((root(pair.first), root(pair.second)))
        parent[b] = a
    return np.array([root(row) for row in range(n)], dtype=np.int64)
