"""Where a cell is flagged: a threshold on P(abnormal) whose sensitivity holds on cells that it was not chosen on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: How sure a promised sensitivity is: in this share of repetitions with other training cells it is kept.
CONFIDENCE = 0.95

#: A cell that is more probably abnormal than not is flagged, whatever the sensitivity asks for.
HIGHEST = 0.5


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on P(abnormal) and what it promises.

    Attributes
    ----------
    threshold : exact in float32, as a graph answers; at or above it a cell is flagged
    confidence : how sure its sensitivity is on new cells of new groups; None where so few cells or groups allow no
        promise, and it is kept on average only
    """

    threshold: float
    confidence: float | None


def operating_point(
    p_abnormal: np.ndarray, abnormal: np.ndarray, groups: np.ndarray | None = None, sensitivity: float = 0.95
) -> OperatingPoint:
    """Set the highest threshold of which a sensitivity can be promised for new cells.

    A threshold that keeps ``sensitivity`` on the very cells it was chosen on keeps less on others: of n abnormal cells
    the r-th lowest leaves r / (n + 1) of new ones below it on average. So r is a tolerance bound (Wilks 1941,
    10.1214/aoms/1177731788): with confidence 0.95 at most 1 - sensitivity of new abnormal cells lie below it. Cells of
    one group resemble each other and count as fewer independent ones (`effective_size`). Where even the lowest cell is
    no such bound (fewer than 59 independent ones for a sensitivity of 0.95), nothing is promised, and r / (n + 1) is
    kept to 1 - sensitivity: on average over training sets, new cells have the sensitivity asked for.

    The threshold then moves down as long as that flags no further normal cell, to the middle between the two cells
    about it, and never lies above one half.

    Parameters
    ----------
    p_abnormal : out-of-fold probabilities, float (n,)
    abnormal : bool (n,)
    groups : slide or patient of each cell, (n,); None where each cell is by itself
    sensitivity : share of abnormal cells to flag, 0 to 1

    Returns
    -------
    threshold 0 where there is no abnormal cell to learn from
    """
    p = single(p_abnormal)
    scores = np.sort(p[abnormal])
    if len(scores) == 0:
        return OperatingPoint(0.0, None)
    promised = _tolerance_rank(p, np.asarray(abnormal), groups, sensitivity)
    rank = promised or max(1, int((1 - sensitivity) * (len(scores) + 1) + 1e-9))
    threshold = _between(p[~abnormal], scores, scores[min(rank, len(scores)) - 1])
    return OperatingPoint(threshold, CONFIDENCE if promised else None)


def effective_size(missed: np.ndarray, groups: np.ndarray) -> float:
    """As how many independent cells the share of missed ones is known: bool (n,), groups (n,) to 0 < size <= n.

    The variance of the share between groups against that of independent cells, and few groups discounted by Student's
    t (Korn and Graubard 1998, Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data, Survey Methodology 24:193).
    """
    from scipy.stats import t

    n = len(missed)
    _, codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    n_groups = int(codes.max()) + 1
    share = float(missed.mean())
    if n_groups in (1, n):
        return float(n_groups)
    excess = np.bincount(codes, weights=missed - share)
    variance = n_groups / (n_groups - 1) * float((excess**2).sum()) / n**2
    size = min(n, share * (1 - share) / variance) if variance > 0 else n
    few = (t.ppf(CONFIDENCE, n - 1) / t.ppf(CONFIDENCE, n_groups - 1)) ** 2
    return float(size * min(1.0, few))


def _tolerance_rank(p: np.ndarray, abnormal: np.ndarray, groups: np.ndarray | None, sensitivity: float) -> int:
    """Which abnormal cell, counted from the lowest, is a tolerance bound; 0 for none."""
    from scipy.stats import binom

    scores = p[abnormal]
    n = size = len(scores)
    if groups is not None:
        nominal = np.sort(scores)[min(n - 1, int((1 - sensitivity) * n + 1e-9))]
        size = int(effective_size(scores < nominal, np.asarray(groups)[abnormal]))
    ranks = np.arange(1, size + 1)
    bounds = ranks[binom.sf(ranks - 1, size, 1 - sensitivity) >= CONFIDENCE]
    return int(bounds.max() * n // size) if len(bounds) else 0


def _between(normal: np.ndarray, abnormal: np.ndarray, highest: np.float32) -> float:
    """The middle of the gap that ends at the lowest abnormal cell with as few normal cells at or above it."""
    lower = normal[normal < highest]
    floor = lower.max() if len(lower) else np.float32(0)
    ceiling = abnormal[abnormal > floor].min() if (abnormal > floor).any() else highest
    return middle(float(floor), min(float(ceiling), float(highest)), at_most=HIGHEST)


def single(values: np.ndarray) -> np.ndarray:
    """The nearest float32 numbers that are not above these, so that a limit among them holds for both precisions."""
    nearest = np.asarray(values, dtype=np.float32)
    return np.asarray(np.where(nearest > values, np.nextafter(nearest, np.float32(-np.inf)), nearest))


def middle(low: float, high: float, at_most: float = 1.0) -> float:
    """The float32 number above ``low`` that is nearest to the middle, and not above ``high`` or ``at_most``."""
    value = np.float32((low + high) / 2)
    if value <= np.float32(low):
        value = np.nextafter(np.float32(low), np.float32(np.inf))
    return float(min(value, np.float32(high), np.float32(at_most)))
