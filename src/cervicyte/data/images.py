"""Reading every image of a table once, in parallel, in flat memory, one bad file never stopping the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from cervicyte import settings
from cervicyte.base import progress
from cervicyte.base.parallel import in_order
from cervicyte.data.cells import CellTable
from cervicyte.errors import ImageError
from cervicyte.images import decoding

T = TypeVar("T")


def each_image(
    cells: CellTable, work: Callable[[bytes, np.ndarray], T], label: str
) -> Iterator[tuple[int, T | ImageError]]:
    """Apply ``work`` to every stored image and yield (row, its result or the reason why not).

    Each file is decoded once, however many boxes it holds; its rows follow each other. Rows that are
    augmented on the fly (variant >= 1) have no image of their own and are passed over.

    Parameters
    ----------
    work : takes the file's bytes and the cell's pixels, uint8 (h, w, 3) RGB; runs in threads
    label : says what is being done while one waits
    """
    files: dict[str, list[int]] = {}
    for row, cell in enumerate(cells.cells):
        if cell.variant == 0:
            files.setdefault(cell.path, []).append(row)

    def one(path: str) -> list[tuple[int, T | ImageError]]:
        try:
            data = decoding.read_bytes(path)
            image = decoding.decode(data, path)
        except ImageError as error:
            return [(row, error) for row in files[path]]
        results: list[tuple[int, T | ImageError]] = []
        for row in files[path]:
            box = cells.cells[row].box
            try:
                results.append((row, work(data, image if box is None else decoding.crop(image, box))))
            except ImageError as error:
                results.append((row, error))
        return results

    threads = settings.get_int("threads") or 4
    for answers in in_order(one, progress.track(files, label), threads=threads, ahead=2 * threads + 1):
        yield from answers
