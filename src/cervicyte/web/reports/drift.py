"""Whether the model's scores are spread as they were: two measures of how far two distributions lie apart.

Numbers only, no database. Cells of one case resemble each other, so what chance would do is found by exchanging
whole cases, never single cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Bins of P(abnormal), of equal width.
BINS = 10
EDGES: tuple[float, ...] = tuple(k / BINS for k in range(BINS + 1))

#: From which population stability index on scores are worth watching and have drifted: the rule of thumb of credit
#: scoring, where the index comes from (Siddiqi 2006, Credit Risk Scorecards).
WATCH, DRIFTED = 0.10, 0.25

#: Fewer cells or cases on either side are too few to say anything.
LEAST_CELLS, LEAST_CASES = 100, 8

#: How many exchanges of cases; the smallest p is one of one more.
_EXCHANGES = 999
#: Steps of the grid on which the Kolmogorov-Smirnov distance is taken.
_GRID = 200


@dataclass(frozen=True)
class Scores:
    """P(abnormal) of cells, n numbers from 0 to 1, and the case of each."""

    p: Sequence[float]
    cases: Sequence[str]

    @property
    def enough(self) -> bool:
        """There are enough cells and cases to compare."""
        return len(self.p) >= LEAST_CELLS and len(set(self.cases)) >= LEAST_CASES


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far recent scores lie from those of the reference.

    Attributes
    ----------
    psi : population stability index over ten bins
    ks : Kolmogorov-Smirnov distance, the greatest gap between the two cumulative distributions
    p : how often an exchange of whole cases gives a ``ks`` as large
    state : "stable", "watch" or "drifted"
    n, reference_n : cells on either side
    """

    psi: float
    ks: float
    p: float
    state: str
    n: int
    reference_n: int


def compare(recent: Scores, reference: Scores, seed: int = 0) -> Drift | None:
    """How far recent scores lie from a reference; None where there are too few to say.

    The population stability index of few cells is large by chance alone (Yurdakul and Naranjo 2020, Statistical
    properties of the population stability index), so the rule of thumb speaks only where the index is also larger
    than in 95 % of the exchanges of cases between the two sides.
    """
    if not (recent.enough and reference.enough):
        return None
    both = np.concatenate([np.asarray(recent.p, dtype=float), np.asarray(reference.p, dtype=float)])
    names = [f"r{c}" for c in recent.cases] + [f"b{c}" for c in reference.cases]
    cases, code = np.unique(np.array(names), return_inverse=True)
    grid = np.minimum((both * _GRID).astype(int), _GRID - 1)
    tables = np.zeros((len(cases), _GRID))
    np.add.at(tables, (code, grid), 1)
    is_recent = np.array([name[0] == "r" for name in cases])
    generator = np.random.default_rng(seed)
    sides = np.stack([is_recent, *(generator.permutation(is_recent) for _ in range(_EXCHANGES))]).astype(float)
    a, b = sides @ tables, (1 - sides) @ tables
    index, distance = _psi(_tenths(a), _tenths(b)), _ks(a, b)
    at = psi(recent.p, reference.p)
    by_chance = float(np.quantile(index[1:], 0.95))
    state = "stable" if at < WATCH or at <= by_chance else "watch" if at < DRIFTED else "drifted"
    larger = int((distance[1:] >= distance[0] - 1e-12).sum())
    return Drift(
        psi=at,
        ks=ks(recent.p, reference.p),
        p=(1 + larger) / (1 + _EXCHANGES),
        state=state,
        n=len(recent.p),
        reference_n=len(reference.p),
    )


def shares(p: Sequence[float]) -> list[float]:
    """The share of scores in each of the ten bins; the last bin holds 1 too.

    >>> shares([0.05, 0.05, 0.95, 1.0])
    [0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5]
    """
    counts = _counts(p)
    return [float(c) for c in counts / max(counts.sum(), 1)]


def psi(recent: Sequence[float], reference: Sequence[float]) -> float:
    """The population stability index: sum of (a - b) ln(a / b) over the ten bins' shares (Siddiqi 2006).

    Half a cell is added to every bin, so that an empty one gives a number.
    """
    return float(_psi(_counts(recent), _counts(reference)))


def ks(recent: Sequence[float], reference: Sequence[float]) -> float:
    """The two-sample Kolmogorov-Smirnov distance (Smirnov 1939), exact.

    >>> ks([0.1, 0.2], [0.2, 0.9])
    0.5
    """
    a, b = np.sort(np.asarray(recent, dtype=float)), np.sort(np.asarray(reference, dtype=float))
    both = np.concatenate([a, b])
    gaps = np.searchsorted(a, both, side="right") / len(a) - np.searchsorted(b, both, side="right") / len(b)
    return float(np.abs(gaps).max())


def _counts(p: Sequence[float]) -> np.ndarray:
    values = np.clip(np.asarray(p, dtype=float), 0, 1)
    return np.bincount(np.minimum((values * BINS).astype(int), BINS - 1), minlength=BINS).astype(float)


def _tenths(tables: np.ndarray) -> np.ndarray:
    return np.asarray(tables.reshape(*tables.shape[:-1], BINS, -1).sum(axis=-1))


def _psi(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a + 0.5, b + 0.5
    a, b = a / a.sum(axis=-1, keepdims=True), b / b.sum(axis=-1, keepdims=True)
    return np.asarray(((a - b) * np.log(a / b)).sum(axis=-1))


def _ks(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    below = [np.cumsum(side, axis=-1) / np.maximum(side.sum(axis=-1, keepdims=True), 1) for side in (a, b)]
    return np.asarray(np.abs(below[0] - below[1]).max(axis=-1))
