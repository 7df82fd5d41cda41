"""A few dozen cheap descriptors by which an image of a single cell differs from every other kind of image.

They do not depend on classes and do not measure the cell. They describe the light, colour, detail and layout of an
image, so that `cervicyte.decision.quality` can decide whether it resembles the cells of a training set.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from cervicyte.images import segmentation

#: Longest side, in pixels, of the copy that is described, so that detail is relative to the crop.
SIDE = 96

#: Bins of the direction of edges, over half a turn.
_DIRECTIONS = 12

#: Least share of the image that a dark blob covers to be counted.
_BLOB = 0.004

#: Sides, in pixels of the copy, of the squares by which dark and light things are sized.
_SIZES = (5, 11, 23, 47)

#: Number of parts along each side between which the detail of an image is compared.
_PARTS = 4

#: Scanners, OpenSlide and tiffslide fill what lies beyond a slide with black; JPEG leaves values of up to this, of 255.
_BLACK = 4

#: Names of the descriptors, in the order of `describe`, which gives the share beyond the slide behind them.
NAMES: tuple[str, ...] = (
    *(f"lightness_{q}" for q in ("p5", "p25", "p50", "p75", "p95")),
    "lightness_spread",
    "lightness_skewness",
    "green_red",
    "green_red_spread",
    "blue_yellow",
    "blue_yellow_spread",
    "chroma",
    "chroma_p95",
    *(f"{part}_{c}" for part in ("darkest", "lightest") for c in ("green_red", "blue_yellow")),
    "lightness_green_red",
    "lightness_blue_yellow",
    "green_red_blue_yellow",
    "colours",
    "sharpness",
    "detail_fine",
    "detail_medium",
    "detail_coarse",
    "detail_large",
    "noise",
    "edge_peakedness",
    "directions",
    "upright",
    "commonest",
    "white",
    "black",
    "dark_separation",
    "dark_area",
    "dark_blobs",
    "dark_largest",
    "dark_compactness",
    "dark_offset",
    "dark_on_border",
    "dark_depth",
    "dark_green_red",
    "dark_blue_yellow",
    "centre_lightness",
    "centre_green_red",
    "centre_blue_yellow",
    "centre_detail",
    "patchiness",
    *(f"{kind}_within_{side}" for kind in ("dark", "light") for side in _SIZES),
)


def describe(image: np.ndarray) -> np.ndarray:
    """Describe one image as it was decoded, before any filter: `NAMES` and `beyond_slide`, always finite.

    For `NAMES`, flat margins, as padding to a square leaves them, are left out, and the rest is scaled to a longest
    side of 96 px.

    Parameters
    ----------
    image : uint8 (h, w, 3) RGB

    Returns
    -------
    float32 (len(NAMES) + 1,)
    """
    import cv2

    beyond = beyond_slide(image)
    if max(image.shape[:2]) > 4 * SIDE:  # shrink a whole field first
        image = segmentation.working_copy(image, (0, 0, image.shape[1], image.shape[0]), 2 * SIDE)
    small = segmentation.working_copy(image, segmentation.content_box(image), SIDE)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lightness, a, b = cv2.split(lab)
    grey = np.clip(lightness * 2.55, 0, 255).astype(np.uint8)
    values = _colours(lab, grey) | _extremes(small, grey)
    values |= _detail(lightness, values["lightness_spread"]) | _edges(lightness)
    values |= _sizes(lightness, values["lightness_spread"])
    values |= _dark(lab, grey) | _centre(lightness, a, b)
    # Each value is finite by its definition; this makes sure of it.
    described = np.array([*(values[name] for name in NAMES), beyond], dtype=np.float32)
    return np.nan_to_num(described, posinf=0.0, neginf=0.0)


def beyond_slide(image: np.ndarray) -> float:
    """Measure the share of an image that is black without any detail and reaches its border, 0 to 1.

    Readers of slides fill with black where a crop reaches over the edge of what was scanned, or lies on a part that was
    left out. Nothing under a microscope's lamp is that dark.
    """
    import cv2

    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    if (border.max(axis=1) > _BLACK).all():
        return 0.0
    black = cv2.inRange(image, (0, 0, 0), (_BLACK, _BLACK, _BLACK))
    _, parts, stats, _ = cv2.connectedComponentsWithStats(black, connectivity=4)
    touching = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    return float(stats[touching[touching > 0], cv2.CC_STAT_AREA].sum()) / black.size


def descriptor_code() -> str:
    """Return the SHA-256 of the code of the descriptors, because other code may give other values."""
    parts = (Path(__file__), Path(segmentation.__file__))
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()


def _colours(lab: np.ndarray, grey: np.ndarray) -> dict[str, float]:
    """Describe light and colour (CIELAB): their means, spreads and correlations."""
    import cv2

    below = np.cumsum(np.bincount(grey.ravel(), minlength=256)) / grey.size
    quantile = {q: int(np.searchsorted(below, q / 100)) for q in (5, 10, 25, 50, 75, 90, 95)}
    mean, spread = (x.ravel() for x in cv2.meanStdDev(lab))
    centred = (lab.reshape(-1, 3) - mean.astype(np.float32)) / (spread + 1).astype(np.float32)
    light = np.ascontiguousarray(centred[:, 0])
    together = centred.T @ centred / len(centred)
    chroma = np.sort(np.hypot(lab[..., 1], lab[..., 2]), axis=None)
    darkest, lightest = (cv2.mean(lab, mask.astype(np.uint8)) for mask in (grey <= quantile[10], grey >= quantile[90]))
    bins = np.clip((lab[..., 1:] + 64) / 8, 0, 15).astype(np.uint8)
    return {
        **{f"lightness_p{q}": quantile[q] / 2.55 for q in (5, 25, 50, 75, 95)},
        "lightness_spread": spread[0],
        "lightness_skewness": float((light * light * light).mean()),
        "green_red": mean[1],
        "green_red_spread": spread[1],
        "blue_yellow": mean[2],
        "blue_yellow_spread": spread[2],
        "chroma": float(chroma.mean()),
        "chroma_p95": float(chroma[95 * chroma.size // 100]),
        "darkest_green_red": darkest[1],
        "darkest_blue_yellow": darkest[2],
        "lightest_green_red": lightest[1],
        "lightest_blue_yellow": lightest[2],
        "lightness_green_red": float(together[0, 1]),
        "lightness_blue_yellow": float(together[0, 2]),
        "green_red_blue_yellow": float(together[1, 2]),
        "colours": _entropy(np.bincount((bins[..., 0] * np.uint8(16) + bins[..., 1]).ravel())),
    }


def _extremes(small: np.ndarray, grey: np.ndarray) -> dict[str, float]:
    """Compute the shares of pixels that are white, black, or of the commonest lightness."""
    import cv2

    return {
        "commonest": float(np.bincount(grey.ravel() >> 1).max()) / grey.size,
        "white": cv2.mean(cv2.inRange(small, (250, 250, 250), (255, 255, 255)))[0] / 255,
        "black": cv2.mean(cv2.inRange(small, (0, 0, 0), (7, 7, 7)))[0] / 255,
    }


def _detail(lightness: np.ndarray, spread: float) -> dict[str, float]:
    """Describe how detail is spread over scales, relative to the contrast, and how much is noise."""
    import cv2

    energies, finer = [], lightness
    for scale in (0.7, 1.4, 2.8, 5.6):
        coarser = cv2.GaussianBlur(lightness, (0, 0), scale)
        energies.append(float(np.square(finer - coarser).mean()))
        finer = coarser
    logs = np.log(np.array([*energies, spread**2]) + 1e-3)
    residual = np.abs(lightness - cv2.medianBlur(lightness, 3))
    names = ("fine", "medium", "coarse", "large")
    return {
        "sharpness": float(logs[0] - logs[-1]),
        **{f"detail_{name}": float(r) for name, r in zip(names, np.diff(logs), strict=True)},
        "noise": float(np.log(residual.mean() + 1e-2) - np.log(spread + 1e-1)),
    }


def _edges(lightness: np.ndarray) -> dict[str, float]:
    """Describe how few pixels hold the edges and in how few directions they run (upright in buildings and letters)."""
    import cv2

    dx = cv2.Sobel(lightness, cv2.CV_32F, 1, 0, scale=1 / 8)
    dy = cv2.Sobel(lightness, cv2.CV_32F, 0, 1, scale=1 / 8)
    size = np.sqrt(dx * dx + dy * dy)
    total = float(size.sum()) + 1e-3
    turn = (np.arctan2(dy, dx) / np.pi * _DIRECTIONS + 0.5).astype(np.intp) % _DIRECTIONS
    shares = np.bincount(turn.ravel(), size.ravel(), _DIRECTIONS) / total
    return {
        "edge_peakedness": float(np.log(np.square(size).mean() / (size.mean() ** 2 + 1e-3) + 1e-1)),
        "directions": _entropy(shares),
        "upright": float(shares[0] + shares[_DIRECTIONS // 2]),
    }


def _dark(lab: np.ndarray, grey: np.ndarray) -> dict[str, float]:
    """Describe the dark parts, by Otsu's threshold: their number, sizes, shape, place and colour."""
    import cv2

    _, mask = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)
    n = grey.size
    count, _, stats, centres = cv2.connectedComponentsWithStats(mask, connectivity=4)
    share = float(mask.mean())
    names = ("blobs", "largest", "compactness", "offset")
    values = {"dark_area": share} | {f"dark_{name}": 0.0 for name in names}
    inside, outside = np.array(cv2.mean(lab, mask)), np.array(cv2.mean(lab, 1 - mask))
    depth, depth_a, depth_b = (outside - inside)[:3] if 0 < share < 1 else (0.0, 0.0, 0.0)
    if count > 1:
        areas = stats[1:, cv2.CC_STAT_AREA]
        k = int(areas.argmax())
        width, height = stats[k + 1, cv2.CC_STAT_WIDTH], stats[k + 1, cv2.CC_STAT_HEIGHT]
        down, across = grey.shape
        x, y = centres[k + 1]
        values |= {
            "dark_blobs": float(np.log1p((areas >= _BLOB * n).sum())),
            "dark_largest": float(areas[k]) / float(areas.sum()),
            "dark_compactness": float(areas[k]) / float(width * height),
            "dark_offset": float(np.hypot(x / across - 0.5, y / down - 0.5)),
        }
    edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return values | {
        "dark_separation": share * (1 - share) * depth**2 / (float(lab[..., 0].var()) + 1.0),
        "dark_on_border": float(edge.mean()),
        "dark_depth": depth,
        "dark_green_red": depth_a,
        "dark_blue_yellow": depth_b,
    }


def _centre(lightness: np.ndarray, a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Compare the middle with the rim in light, colour and detail, and describe how unevenly detail is spread."""
    import cv2

    down, across = lightness.shape
    y, x = down // 4, across // 4
    inner = np.s_[y : down - y, x : across - x]
    values = {}
    for name, plane in (("lightness", lightness), ("green_red", a), ("blue_yellow", b)):
        middle, whole, share = float(plane[inner].mean()), float(plane.mean()), plane[inner].size / plane.size
        values[f"centre_{name}"] = (middle - whole) / (1 - share)
    step = np.abs(np.diff(lightness, axis=1))
    values["centre_detail"] = float(np.log(step[inner].mean() + 0.1) - np.log(step.mean() + 0.1))
    parts = np.log(cv2.resize(step, (_PARTS, _PARTS), interpolation=cv2.INTER_AREA) + 0.1)
    return values | {"patchiness": float(parts.std())}


def _sizes(lightness: np.ndarray, spread: float) -> dict[str, float]:
    """Measure how much of the dark and of the light parts is smaller than squares of several sizes (granulometry)."""
    import cv2

    values = {}
    for side in _SIZES:
        kernel = np.ones((side, side), np.uint8)
        closed, opened = (cv2.morphologyEx(lightness, way, kernel) for way in (cv2.MORPH_CLOSE, cv2.MORPH_OPEN))
        values[f"dark_within_{side}"] = float((closed - lightness).mean()) / (spread + 1)
        values[f"light_within_{side}"] = float((lightness - opened).mean()) / (spread + 1)
    return values


def _entropy(counts: np.ndarray) -> float:
    """Compute the entropy of a histogram in bits."""
    shares = counts[counts > 0] / max(float(counts.sum()), 1e-12)
    return float(-(shares * np.log2(shares)).sum())
