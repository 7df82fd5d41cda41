"""Lists in pages."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

Row = TypeVar("Row")


@dataclass(frozen=True)
class Listing(Generic[Row]):
    """One page of a list; ``number`` counts from 1, ``pages`` is at least 1, ``total`` the rows of all pages."""

    rows: tuple[Row, ...]
    number: int
    pages: int
    total: int


def place(page: int, total: int, size: int) -> tuple[int, int]:
    """The nearest page that is there, and how many there are.

    >>> place(9, 45, 20), place(-1, 0, 20)
    ((3, 3), (1, 1))
    """
    pages = max(1, math.ceil(total / size))
    return min(max(1, page), pages), pages
