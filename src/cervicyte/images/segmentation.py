"""Segmentation of a single-cell crop into nucleus and cytoplasm, without network weights.

The nucleus is the dark, compact, central region with the sharpest rim: many thresholds of
three channels each propose regions, and the one whose rim has the steepest colour gradient
(weighted by how convex and central it is) is taken. The idea is that of maximally stable
regions (Matas et al. 2002, 10.1016/S0262-8856(04)00006-4), with a score for how much a region
looks like a nucleus. The cell is what differs from the clear glass, the brightest part of the crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cervicyte.images.decoding import Box

#: Longest side, in pixels, of the copy that is segmented and measured.
WORKING_SIZE = 128

#: A row or column belongs to a flat margin if each channel spans no more than this (0..255).
_FLAT = 12

#: Thresholds tried on each channel.
_LEVELS = 20

#: Least and largest area of a nucleus, as fractions of the crop.
_SMALLEST, _LARGEST = 0.002, 0.7

#: Least score of a nucleus: for a round, central one, the mean gradient of its rim in grey
#: levels per pixel.
_LEAST_SCORE = 0.5

#: Least difference in colour (CIELAB distance) between glass and cell; below it the cell is taken to fill the crop.
_LEAST_CONTRAST = 5.0


@dataclass(frozen=True)
class Segmentation:
    """Masks of the nucleus and the cytoplasm of one crop.

    Attributes
    ----------
    nucleus : bool (h, w); all False where none was found
    cytoplasm : bool (h, w); the rest of the cell, never overlapping the nucleus
    content : the crop without flat margins (left, top, right, bottom); both masks lie inside
    """

    nucleus: np.ndarray
    cytoplasm: np.ndarray
    content: Box


def segment(image: np.ndarray) -> Segmentation:
    """Find the nucleus and the cytoplasm of the cell in a crop.

    Parameters
    ----------
    image : uint8 (h, w, 3) RGB

    Returns
    -------
    masks of the image's own height and width
    """
    import cv2

    box = content_box(image)
    left, top, right, bottom = box
    nucleus, cytoplasm = segment_working(working_copy(image, box))
    masks = []
    for mask in (nucleus, cytoplasm):
        full = np.zeros(image.shape[:2], dtype=bool)
        size = (right - left, bottom - top)
        full[top:bottom, left:right] = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        masks.append(full)
    return Segmentation(masks[0], masks[1], box)


def content_box(image: np.ndarray) -> Box:
    """Find the box of a crop without the flat margins that padding to a square leaves: (left, top, right, bottom).

    For a wholly flat image the box is the whole image.
    """
    import cv2

    top, bottom = _inner(cv2.transpose(image))
    left, right = _inner(image)
    if bottom - top < 2 or right - left < 2:
        return (0, 0, image.shape[1], image.shape[0])
    return (left, top, right, bottom)


def working_copy(image: np.ndarray, box: Box, side: int = WORKING_SIZE) -> np.ndarray:
    """Scale a box of the image so that its longest side is ``side`` pixels and its shortest at least 8: uint8."""
    import cv2

    left, top, right, bottom = box
    inner = np.ascontiguousarray(image[top:bottom, left:right])
    height, width = inner.shape[:2]
    scale = side / max(height, width)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    return cv2.resize(inner, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def segment_working(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Segment an image of working size into the masks of nucleus and cytoplasm."""
    nucleus = find_nucleus(image)
    cell = find_cell(image, nucleus)
    return nucleus, cell & ~nucleus


def find_nucleus(image: np.ndarray) -> np.ndarray:
    """Find the dark region that looks most like a nucleus: bool (h, w), all False if there is none."""
    import cv2

    mask: np.ndarray = np.zeros(image.shape[:2], dtype=np.uint8)
    smooth = cv2.GaussianBlur(image, (0, 0), 1.2)
    lightness = cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB)[..., 0]
    gradient = _gradient(smooth)
    # A rim along the border of the crop is no evidence of a nucleus: it counts as having no gradient.
    gradient[:2] = gradient[-2:] = gradient[:, :2] = gradient[:, -2:] = 0
    best_contour, best_score = None, _LEAST_SCORE
    for channel in (lightness, smooth[..., 0], smooth[..., 1]):
        low, high = np.percentile(channel, (0.5, 95))
        for level in np.unique(np.linspace(low, high, _LEVELS).astype(int)):
            darkness = (high - level) / max(high - low, 1.0)
            dark = (channel <= level).astype(np.uint8)
            contours, _ = cv2.findContours(dark, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            for contour in contours:
                score = _score(contour, gradient, darkness, best_score)
                if score > best_score:
                    best_contour, best_score = contour, score
    if best_contour is not None:
        cv2.drawContours(mask, [best_contour], -1, 1, cv2.FILLED)
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
        opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel)
        mask = opened if opened.any() else mask
    return mask.astype(bool)


def find_cell(image: np.ndarray, nucleus: np.ndarray) -> np.ndarray:
    """Find the cell about a nucleus: bool (h, w); the whole crop where no clear glass is visible."""
    import cv2

    lab = cv2.cvtColor(cv2.GaussianBlur(image, (0, 0), 1.5).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    rim = 2 * max(2, round(0.25 * float(np.sqrt(nucleus.sum() / np.pi)))) + 1
    outside = ~cv2.dilate(nucleus.astype(np.uint8), np.ones((rim, rim), np.uint8)).astype(bool)
    if outside.sum() < 16:
        return np.ones_like(nucleus)
    glass = np.median(lab[outside & (lab[..., 0] >= np.percentile(lab[outside][:, 0], 95))], axis=0)
    distance = np.linalg.norm(lab - glass, axis=2)
    distance = np.minimum(distance, np.percentile(distance[outside], 90))
    scaled = np.clip(distance * 4, 0, 255).astype(np.uint8)
    level, _ = cv2.threshold(scaled[outside][None], 0, 255, cv2.THRESH_OTSU)
    cell = scaled > level
    if cell[outside].all() or not cell[outside].any():
        return np.ones_like(nucleus)
    contrast = distance[outside & cell].mean() - distance[outside & ~cell].mean()
    if contrast < _LEAST_CONTRAST:
        return np.ones_like(nucleus)
    return _main_part(cell | nucleus, nucleus)


def _main_part(cell: np.ndarray, nucleus: np.ndarray) -> np.ndarray:
    """Smooth a ragged mask and keep only the part that holds the nucleus (or the largest part), without holes."""
    import cv2

    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    mask = cv2.morphologyEx(cell.astype(np.uint8), cv2.MORPH_OPEN, kernel) | nucleus.astype(np.uint8)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask)
    label = np.bincount(parts[nucleus]).argmax() if nucleus.any() else 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
    part = (parts == label).astype(np.uint8)
    contours, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(part, contours, -1, 1, cv2.FILLED)
    return np.asarray(part.astype(bool))


def _score(contour: np.ndarray, gradient: np.ndarray, darkness: float, beat: float) -> float:
    """Score how much a dark region looks like a nucleus: the mean gradient on its rim, weighted by shape and place.

    Most regions cannot score more than ``beat``; for these the function returns 0 early.
    """
    import cv2

    height, width = gradient.shape
    if len(contour) < 2 * np.sqrt(_SMALLEST * height * width):
        return 0.0
    area = cv2.contourArea(contour)
    share = area / (height * width)
    if not _SMALLEST <= share <= _LARGEST:
        return 0.0
    x, y = contour[:, 0, 0], contour[:, 0, 1]
    score = float(gradient[y, x].sum()) / len(x) * darkness * share**0.25
    if score <= beat:
        return 0.0
    solidity = area / max(cv2.contourArea(cv2.convexHull(contour)), 1.0)
    circularity = min(1.0, 4 * np.pi * area / cv2.arcLength(contour, True) ** 2)
    off = float(np.hypot(x.mean() / width - 0.5, y.mean() / height - 0.5))
    return float(score * solidity**2 * circularity**0.5 * np.exp(-4 * off**2))


def _gradient(image: np.ndarray) -> np.ndarray:
    """Return the steepest gradient of the three channels, grey levels per pixel: float32 (h, w)."""
    import cv2

    floats = image.astype(np.float32)
    dx, dy = cv2.Sobel(floats, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(floats, cv2.CV_32F, 0, 1, scale=1 / 8)
    return np.asarray(np.hypot(dx, dy).max(axis=2))


def _inner(image: np.ndarray) -> tuple[int, int]:
    """Return the first column that is not a flat margin, and the one after the last."""
    import cv2

    plain = image.reshape(len(image), -1)
    low, high = (cv2.reduce(plain, 0, end).reshape(-1, 3) for end in (cv2.REDUCE_MIN, cv2.REDUCE_MAX))
    columns = np.flatnonzero((high - low).max(axis=1) > _FLAT)
    if not len(columns):
        return len(low), len(low)
    first, last = int(columns[0]), int(columns[-1]) + 1
    # The column next to a margin is a blend of both.
    return first + (first > 0), last - (last < len(low))
