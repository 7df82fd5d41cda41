"""How well two readers agree, or a reader and the model; numbers only, no database.

Cells of one case resemble each other, so they count for less than as many cells of different cases: every interval
here takes the case as the unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cervicyte.data.labels import BETHESDA
from cervicyte.evaluation.metrics import confusion, kappa_quadratic

#: The two-sided 95 % point of the normal distribution.
_Z = 1.959963984540054

#: Fewer cases give no interval of kappa: its standard error holds for many.
LEAST_CASES = 5


@dataclass(frozen=True)
class Kappa:
    """Agreement of two readers.

    Attributes
    ----------
    value : Cohen's kappa of all verdicts; None where both gave one and the same verdict to every cell, so that
        chance alone would do as well
    low, high : its 95 % interval; None from fewer than `LEAST_CASES` cases, or where no cell differs
    n, cases : cells that both read, and the cases they are of
    agreement : share of cells with the same verdict
    weighted : kappa with quadratic weights over the ordered categories; None where it is not defined
    weighted_n : cells that both placed on the order of the categories
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    cases: int
    agreement: float
    weighted: float | None
    weighted_n: int


@dataclass(frozen=True)
class Share:
    """A share of cells, its 95 % interval, the cells and the cases they are of."""

    value: float
    low: float
    high: float
    n: int
    cases: int


def kappa(
    first: Sequence[str], second: Sequence[str], cases: Sequence[str], order: Sequence[str] = BETHESDA.classes
) -> Kappa | None:
    """Cohen's kappa of two readers, plain and weighted by how far apart they are; None without a cell.

    Plain kappa takes all verdicts as names (Cohen 1960, A coefficient of agreement for nominal scales). Weighted kappa
    (Cohen 1968, Weighted kappa) needs an order. AGC is of another epithelium than the squamous categories and
    "unsatisfactory" is none: neither lies on their order (Nayar and Wilbur 2015, The Bethesda System), so cells to
    which either reader gave a verdict outside of it are left out of the weighted kappa, and only of that.

    The interval is from kappa's linear expansion, summed within each case (Yang and Zhou 2014, Kappa statistic for
    clustered matched-pair data); with one cell a case it is the interval of Fleiss, Cohen and Everitt 1969 (Large
    sample standard errors of kappa and weighted kappa), but for a factor m / (m - 1) of m cases in the variance.

    Parameters
    ----------
    first, second : verdicts of n cells
    cases : the case of each cell

    >>> found = kappa(["NILM", "NILM", "HSIL", "HSIL"], ["NILM", "NILM", "HSIL", "NILM"], ["a", "b", "c", "d"])
    >>> found.value, found.agreement
    (0.5, 0.75)
    """
    if not first:
        return None
    names = sorted({*first, *second})
    place = {name: k for k, name in enumerate(names)}
    a, b = (np.array([place[v] for v in verdicts]) for verdicts in (first, second))
    table = confusion(a, b, len(names)) / len(a)
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    observed, chance = float(np.trace(table)), float(rows @ columns)
    value, low, high = None, None, None
    if chance < 1:
        value = (observed - chance) / (1 - chance)
        pull = ((a == b) - observed - (1 - value) * (columns[a] + rows[b] - 2 * chance)) / (1 - chance)
        error = _clustered_error(pull, cases)
        if error is not None and len(set(cases)) >= LEAST_CASES:
            low, high = max(-1.0, value - _Z * error), min(1.0, value + _Z * error)
    weighted, weighted_n = _weighted(first, second, order)
    return Kappa(value, low, high, len(a), len(set(cases)), observed, weighted, weighted_n)


def share(right: Sequence[bool], cases: Sequence[str]) -> Share | None:
    """The share of cells that are right, with an interval that knows how alike the cells of a case are; None for none.

    Wilson's interval (Wilson 1927, Probable inference) with the number of cells divided by the design effect (Kish
    1965, Survey Sampling); where all cells are right or all wrong, each case counts as one cell.

    >>> found = share([True, True, False, True], ["a", "b", "c", "d"])
    >>> found.value, round(found.low, 2), round(found.high, 2)
    (0.75, 0.3, 0.95)
    """
    if not right:
        return None
    values = np.array(right, dtype=float)
    n, k, p = len(values), len(set(cases)), float(values.mean())
    effective = float(k)
    error = _clustered_error(values - p, cases)
    if error is not None:
        effective = min(float(n), n * p * (1 - p) / ((n - 1) * error**2))
    middle = (p + _Z**2 / (2 * effective)) / (1 + _Z**2 / effective)
    half = _Z / (1 + _Z**2 / effective) * math.sqrt(p * (1 - p) / effective + _Z**2 / (4 * effective**2))
    return Share(p, max(0.0, middle - half), min(1.0, middle + half), n, k)


def _weighted(first: Sequence[str], second: Sequence[str], order: Sequence[str]) -> tuple[float | None, int]:
    place = {name: k for k, name in enumerate(order)}
    pairs = [(place[a], place[b]) for a, b in zip(first, second, strict=True) if a in place and b in place]
    if not pairs:
        return None, 0
    a, b = np.array(pairs).T
    if (a == a[0]).all() and (b == a[0]).all():
        return None, len(pairs)
    return float(kappa_quadratic(confusion(a, b, len(order)))), len(pairs)


def _clustered_error(pull: np.ndarray, cases: Sequence[str]) -> float | None:
    """Standard error of a mean whose deviations are ``pull``, float (n,); None where there is nothing to tell it by."""
    _, code = np.unique(np.array(cases), return_inverse=True)
    sums = np.bincount(code, weights=pull)
    if len(sums) < 2:
        return None
    variance = float((sums**2).sum()) / len(pull) ** 2 * len(sums) / (len(sums) - 1)
    return math.sqrt(variance) if variance > 1e-18 else None
