"""Whether the crops of a table show cells at all: a crop of one cell has its nucleus in the middle."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cervicyte.data.cells import CellTable
from cervicyte.data.images import each_image
from cervicyte.errors import ImageError
from cervicyte.images import segmentation

#: Cells that are looked at.
_SAMPLE = 300

#: Longest side, in pixels, of the copy that is segmented: half the time of the full working size.
_SIDE = 96

#: Middle of a crop, as the share of its sides, and how much of that a nucleus covers.
_MIDDLE, _COVERED = 0.2, 0.1


@dataclass(frozen=True)
class NucleiSeen:
    """How many of the crops that were looked at show a nucleus in their middle, and the rows that do not."""

    seen: int
    looked_at: int
    without: tuple[int, ...]


def nuclei_seen(cells: CellTable) -> NucleiSeen:
    """Segment a sample of the cells and look for a nucleus in the middle of each.

    Measured: 95 % of CRIC's crops of 90 px, 90 % of Herlev's cells, and 23 % of crops that were cut at the places of
    CRIC's nuclei out of other fields.
    """
    rows = [row for row, cell in enumerate(cells.cells) if cell.variant == 0]
    chosen = np.sort(np.random.default_rng(0).permutation(rows)[:_SAMPLE])
    table = replace(cells, cells=tuple(cells.cells[row] for row in chosen.tolist()))
    without, seen = [], 0
    for index, covered in each_image(table, _in_the_middle, "looking for nuclei"):
        if isinstance(covered, ImageError):
            continue
        seen += covered
        if not covered:
            without.append(int(chosen[index]))
    return NucleiSeen(seen, seen + len(without), tuple(sorted(without)))


def _in_the_middle(data: bytes, image: np.ndarray) -> bool:
    working = segmentation.working_copy(image, segmentation.content_box(image), _SIDE)
    nucleus = segmentation.find_nucleus(working)
    height, width = nucleus.shape
    top, left = round(height * (0.5 - _MIDDLE / 2)), round(width * (0.5 - _MIDDLE / 2))
    middle = nucleus[top : height - top, left : width - left]
    return bool(middle.mean() > _COVERED)
