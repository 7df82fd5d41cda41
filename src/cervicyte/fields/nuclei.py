"""Nuclei in whole fields of view, found without weights or labels, and where a field's borders are smeared.

Haematoxylin, the stain of nuclei, absorbs red and green. Eosin and orange G let red pass and light green lets green
pass, so the lighter of the two channels is dark where haematoxylin is and hardly elsewhere (absorbances: Ruifrok and
Johnston 2001, PMID 11531144). Dark regions at many thresholds of it propose nuclei, and of those that overlap the one
with the sharpest, roundest rim and the darkest inside is taken: the choice among extremal regions of Arteta et al.
2012 (10.1007/978-3-642-33415-3_43), with `cervicyte.images.segmentation`'s idea of a score instead of a trained one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Nuclei of smaller or larger diameter, in pixels, are not looked for.
SMALLEST, LARGEST = 8.0, 60.0

#: Thresholds tried; they lie between the darkest pixels and this percentile of the field.
_LEVELS = 24
_LIGHTEST = 80

#: The least solidity (area over that of the convex hull), and the most that a nucleus is longer than wide.
_LEAST_SOLIDITY = 0.925
_LONGEST = 2.0

#: The rim must be steep nearly everywhere: this percentile of its gradient, in grey levels per pixel.
_RIM_PERCENTILE = 20
_LEAST_RIM = 2.0

#: A nucleus is this many grey levels darker than what surrounds it.
_LEAST_CONTRAST = 35.0

#: The least score. Chosen by eye: of 6,057 regions of 130 liquid-based fields 196 were looked at in the order of their
#: score and 196 in that of their solidity; what lies below either bound is mostly debris, folds and blur.
_LEAST_SCORE = 6.0

#: Of two nuclei whose centres are nearer than this share of the larger diameter, the better one is taken.
_APART = 0.6

#: What has less than this share of the median diameter in its field is debris.
_LEAST_SHARE = 0.5

#: Structure that has one direction only, in a window this large, is a smear where it reaches the border.
_WINDOW = 13
_LEAST_COHERENCE = 0.96
_LEAST_ENERGY = 0.3

#: How far, in pixels, the smear goes on beyond the windows that lie wholly in it.
_MARGIN = 9


@dataclass(frozen=True)
class Nucleus:
    """Centre and diameter of the circle of the same area, in pixels of the field."""

    x: float
    y: float
    diameter: float


@dataclass(frozen=True)
class _Region:
    nucleus: Nucleus
    score: float


def find_nuclei(field: np.ndarray) -> list[Nucleus]:
    """Find the nuclei of a field, best first, so that cells can be cut out where no one marked any.

    Parameters
    ----------
    field : uint8 (h, w, 3) RGB

    Returns
    -------
    nuclei of `SMALLEST` to `LARGEST` pixels in diameter that do not touch the border; none in a blank field
    """
    regions = sorted(_regions(_haematoxylin(field)), key=lambda r: (-r.score, r.nucleus.y, r.nucleus.x))
    rows = np.zeros((0, 3))
    for region in regions:
        row = np.array([[region.nucleus.x, region.nucleus.y, region.nucleus.diameter]])
        apart = np.hypot(*(rows[:, :2] - row[:, :2]).T)
        if (apart > _APART * np.maximum(rows[:, 2], row[0, 2])).all():
            rows = np.concatenate([rows, row])
    if len(rows):
        rows = rows[rows[:, 2] >= _LEAST_SHARE * np.median(rows[:, 2])]
    return [Nucleus(*map(float, row)) for row in rows]


def smeared(field: np.ndarray) -> np.ndarray:
    """Mark where a shift or rotation filled a field's border by repeating its last pixels: bool (h, w).

    There the image changes across the direction of the smear and not along it, so the structure tensor (Bigun and
    Granlund 1987) of a small window has one direction only. Blank corners have none and are not found.
    """
    import cv2

    smooth = cv2.GaussianBlur(field, (0, 0), 1.5)
    dx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8)
    dy = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)
    products = ((dx * dx).sum(axis=2), (dy * dy).sum(axis=2), (dx * dy).sum(axis=2))
    xx, yy, xy = (cv2.boxFilter(p, -1, (_WINDOW, _WINDOW)) for p in products)
    energy = xx + yy
    coherence = np.sqrt((xx - yy) ** 2 + 4 * xy**2) / np.maximum(energy, 1e-6)
    mask = ((coherence >= _LEAST_COHERENCE) & (energy >= _LEAST_ENERGY)).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask)
    height, width = mask.shape
    left, top, wide, high, area = stats.T
    wanted = (left <= 2) | (top <= 2) | (left + wide >= width - 2) | (top + high >= height - 2)
    # An edge that happens to meet the border is long and thin.
    wanted &= area >= _WINDOW**2
    wanted[0] = False
    kernel = np.ones((2 * _MARGIN + 1, 2 * _MARGIN + 1), np.uint8)
    return np.asarray(cv2.dilate(wanted[parts].astype(np.uint8), kernel) > 0, dtype=bool)


def _haematoxylin(field: np.ndarray) -> np.ndarray:
    """Measure how light a field is to haematoxylin: uint8 (h, w), about 230 on glass."""
    import cv2

    red_green = cv2.GaussianBlur(field, (0, 0), 0.8)[..., :2].astype(np.float32)
    glass = np.maximum(np.percentile(red_green[::4, ::4], 95, axis=(0, 1)), 1)
    return np.asarray(np.clip((red_green / glass.astype(np.float32)).max(axis=2) * 230, 0, 255).astype(np.uint8))


def _regions(light: np.ndarray) -> list[_Region]:
    """List all dark regions with the shape and the rim of a nucleus; those of several thresholds overlap."""
    import cv2

    dx, dy = cv2.Sobel(light, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(light, cv2.CV_32F, 0, 1, scale=1 / 8)
    gradient = np.hypot(dx, dy)
    height, width = light.shape
    low, high = np.percentile(light[::2, ::2], (0.2, _LIGHTEST))
    least_area = 0.8 * np.pi / 4 * SMALLEST**2
    regions = []
    for level in np.unique(np.linspace(low, high, _LEVELS).astype(int)):
        _, parts, stats, _ = cv2.connectedComponentsWithStats((light <= level).astype(np.uint8), connectivity=4)
        x, y, w, h, area = stats.T
        longest, shortest = np.maximum(w, h), np.minimum(w, h)
        likely = (area >= least_area) & (longest <= 1.5 * LARGEST) & (longest <= (_LONGEST + 0.2) * shortest)
        likely &= (area >= 0.5 * w * h) & (x > 0) & (y > 0) & (x + w < width) & (y + h < height)
        likely[0] = False
        for part in np.flatnonzero(likely):
            left, top, wide, high_, _ = (int(v) for v in stats[part])
            mask = (parts[top : top + high_, left : left + wide] == part).astype(np.uint8)
            region = _judged(mask, (left, top), light, gradient)
            if region is not None:
                regions.append(region)
    return regions


def _judged(mask: np.ndarray, corner: tuple[int, int], light: np.ndarray, gradient: np.ndarray) -> _Region | None:
    """Score a region as a nucleus; None where it cannot be one."""
    import cv2

    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=corner)
    contour = contours[0]
    area = cv2.contourArea(contour) + len(contour) / 2  # a contour runs through the centres of the outermost pixels
    diameter = 2 * float(np.sqrt(area / np.pi))
    if not SMALLEST <= diameter <= LARGEST or mask.sum() < 0.75 * area:
        return None
    hull = cv2.convexHull(contour)
    solidity = area / (cv2.contourArea(hull) + cv2.arcLength(hull, True) / 2)
    (x, y), sides, _ = cv2.minAreaRect(hull)
    longer = (max(sides) + 1) / (min(sides) + 1)
    if solidity < _LEAST_SOLIDITY or longer > _LONGEST:
        return None
    points = contour[:, 0]
    rim = float(np.percentile(gradient[points[:, 1], points[:, 0]], _RIM_PERCENTILE))
    if rim < _LEAST_RIM:
        return None
    inside = float(_along(light, points, (x, y), 0.5).mean())
    outside = float(np.median(_along(light, points, (x, y), 1.1 + 4 / diameter)))
    if outside - inside < _LEAST_CONTRAST:
        return None
    # A whole cell is larger and steeper than its nucleus, but lighter: darkness counts twice.
    darkness = (255 - inside) / 255
    score = rim * solidity**4 * darkness**2 * float(np.sqrt(diameter / longer))
    return _Region(Nucleus(float(x), float(y), diameter), score) if score >= _LEAST_SCORE else None


def _along(light: np.ndarray, points: np.ndarray, centre: tuple[float, float], scale: float) -> np.ndarray:
    """Read the values on a contour that is drawn out from, or in to, its centre."""
    moved = np.rint(np.asarray(centre) + scale * (points - np.asarray(centre))).astype(int)
    height, width = light.shape
    return np.asarray(light[moved[:, 1].clip(0, height - 1), moved[:, 0].clip(0, width - 1)])
