"""Named measurements of a single cell that a cytologist can read and that need no network weights.

They follow the features of the Herlev set (Jantzen et al. 2005, Pap-smear benchmark data for
pattern classification): size, shape and place of nucleus and cell, their colours, and the
chromatin. Sizes are relative to the crop, because crops are often stretched to one size, and
then pixels have no fixed length. Chromatin is measured on a patch scaled to the nucleus.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cervicyte.images.decoding import Box
from cervicyte.images.segmentation import content_box, segment_working, working_copy

_LAB = ("lightness", "green_red", "blue_yellow")
_RGB = ("red", "green", "blue")

#: Longest side, in pixels, of the copy on which the scales of detail are measured.
_FINE = 192

#: Longest side, in pixels, of the patch on which chromatin is measured.
_PATCH = 64

#: Grey levels of the co-occurrence matrix, over this many lightness units about the nucleus's mean.
_LEVELS, _RANGE = 32, 50.0

#: A chromatin spot is at least this much darker or lighter than its surroundings (lightness units).
_SPOT = 2.0


@dataclass(frozen=True)
class Measurement:
    """One number measured on a cell: its name, unit ("" for a ratio or count) and a line of help."""

    name: str
    unit: str
    help: str


MEASUREMENTS: tuple[Measurement, ...] = (
    Measurement("nucleus_found", "0 or 1", "1 where a nucleus was found; without one, see `measure`"),
    Measurement("nucleus_area", "of crop area", "area of the nucleus"),
    Measurement("cytoplasm_area", "of crop area", "area of the cell without its nucleus"),
    Measurement("background_area", "of crop area", "area that is not the cell"),
    Measurement("nc_ratio", "", "nucleus area over cell area"),
    Measurement("nucleus_perimeter", "of crop side", "length of the nucleus's outline"),
    Measurement("nucleus_major_axis", "of crop side", "long axis of the ellipse with the nucleus's moments"),
    Measurement("nucleus_minor_axis", "of crop side", "short axis of that ellipse"),
    Measurement("nucleus_elongation", "", "short over long axis; 1 for a disc"),
    Measurement("nucleus_circularity", "", "4 pi area over squared perimeter; 1 for a disc"),
    Measurement("nucleus_roundness", "", "area over that of the disc about the nucleus; 1 for a disc"),
    Measurement("nucleus_solidity", "", "area over that of the convex hull; 1 without dents"),
    Measurement("nucleus_irregularity", "of mean radius", "root mean square distance of the outline from the ellipse"),
    Measurement("nucleus_on_border", "of perimeter", "share of the nucleus's outline that the crop cuts off"),
    Measurement("cell_on_border", "of crop outline", "share of the crop's outline that the cell covers"),
    Measurement("nucleus_offset", "of cell diameter", "distance between the centres of nucleus and cell"),
    Measurement("cell_major_axis", "of crop side", "long axis of the ellipse with the cell's moments"),
    Measurement("cell_minor_axis", "of crop side", "short axis of that ellipse"),
    Measurement("cell_elongation", "", "short over long axis of the cell; 1 for a disc"),
    Measurement("cell_circularity", "", "4 pi area over squared perimeter of the cell"),
    Measurement("cell_solidity", "", "area of the cell over that of its convex hull"),
    Measurement("nucleus_lightness", "L* 0..100", "mean lightness of the nucleus"),
    Measurement("nucleus_green_red", "a*", "mean of a* (green to red) of the nucleus"),
    Measurement("nucleus_blue_yellow", "b*", "mean of b* (blue to yellow) of the nucleus"),
    Measurement("nucleus_saturation", "0..1", "mean saturation (HSV) of the nucleus"),
    Measurement("nucleus_lightness_sd", "L*", "standard deviation of lightness in the nucleus"),
    Measurement("nucleus_green_red_sd", "a*", "standard deviation of a* in the nucleus"),
    Measurement("nucleus_blue_yellow_sd", "b*", "standard deviation of b* in the nucleus"),
    Measurement("cytoplasm_lightness", "L* 0..100", "mean lightness of the cytoplasm"),
    Measurement("cytoplasm_green_red", "a*", "mean of a* of the cytoplasm"),
    Measurement("cytoplasm_blue_yellow", "b*", "mean of b* of the cytoplasm"),
    Measurement("cytoplasm_saturation", "0..1", "mean saturation (HSV) of the cytoplasm"),
    Measurement("cytoplasm_lightness_sd", "L*", "standard deviation of lightness in the cytoplasm"),
    Measurement("cytoplasm_green_red_sd", "a*", "standard deviation of a* in the cytoplasm"),
    Measurement("cytoplasm_blue_yellow_sd", "b*", "standard deviation of b* in the cytoplasm"),
    Measurement("nucleus_density_red", "", "mean optical density of the nucleus in red, the glass being clear"),
    Measurement("nucleus_density_green", "", "the same in green"),
    Measurement("nucleus_density_blue", "", "the same in blue"),
    Measurement("cytoplasm_density_red", "", "mean optical density of the cytoplasm in red"),
    Measurement("cytoplasm_density_green", "", "the same in green"),
    Measurement("cytoplasm_density_blue", "", "the same in blue"),
    Measurement("glass_lightness", "L* 0..100", "lightness of the glass: of the lightest 2 % of the crop"),
    Measurement("glass_green_red", "a*", "a* of the glass"),
    Measurement("glass_blue_yellow", "b*", "b* of the glass"),
    Measurement("hue_difference", "degrees 0..180", "angle between the hues (CIELAB) of nucleus and cytoplasm"),
    Measurement("contrast_cytoplasm", "CIELAB distance", "colour distance between nucleus and cytoplasm"),
    Measurement("halo_lightness", "L* 0..100", "mean lightness about the nucleus, to 0.6 of its radius"),
    Measurement("halo_green_red", "a*", "mean of a* there"),
    Measurement("halo_blue_yellow", "b*", "mean of b* there"),
    Measurement("halo_lightness_sd", "L*", "standard deviation of lightness there"),
    Measurement("crowding", "of crop area", "area outside the nucleus that is as dark as the nucleus"),
    Measurement("boundary_sharpness", "1/crop side", "mean lightness gradient on the nucleus's rim over its contrast"),
    Measurement("boundary_unevenness", "", "coefficient of variation of that gradient along the rim"),
    Measurement("cytoplasm_texture", "L* per pixel", "mean lightness gradient in the cytoplasm"),
    Measurement(
        "detail_fine", "log ratio", "lightness energy at 1.4/192 of the crop's side over that at half the scale"
    ),
    Measurement("detail_medium", "log ratio", "the same, one octave coarser"),
    Measurement("detail_coarse", "log ratio", "the same, two octaves coarser"),
    Measurement("detail_large", "log ratio", "the same, three octaves coarser"),
    Measurement("chromatin_gradient", "L* per pixel", "mean lightness gradient in the nucleus, on the patch"),
    Measurement("chromatin_contrast", "levels squared", "contrast of the grey-level co-occurrences in the nucleus"),
    Measurement("chromatin_homogeneity", "", "homogeneity of the co-occurrences"),
    Measurement("chromatin_energy", "", "energy of the co-occurrences"),
    Measurement("chromatin_correlation", "", "correlation of the co-occurrences"),
    Measurement("chromatin_coarseness", "", "correlation of the co-occurrences three times as far apart"),
    Measurement("chromatin_entropy", "bits", "entropy of the co-occurrences"),
    Measurement("chromatin_pattern_entropy", "bits", "entropy of the local binary patterns in the nucleus"),
    Measurement("chromatin_skewness", "", "skewness of lightness in the nucleus"),
    Measurement("chromatin_margination", "L*", "lightness of the nucleus's inner half minus that of its outer half"),
    Measurement("dark_spots", "", "number of dark spots in the nucleus"),
    Measurement("dark_spot_area", "of nucleus area", "area of the dark spots"),
    Measurement("light_spots", "", "number of light spots in the nucleus"),
    Measurement("light_spot_area", "of nucleus area", "area of the light spots"),
)

#: Names of the measurements, in the order of `measure`.
NAMES: tuple[str, ...] = tuple(row.name for row in MEASUREMENTS)


def measure(image: np.ndarray) -> np.ndarray:
    """Measure one cell: the values of `MEASUREMENTS`, always finite.

    Flat margins are left out; the rest is scaled to a working size. Where no nucleus is
    found, ``nucleus_found`` and all sizes, shapes and textures of the nucleus are 0, and
    the colours of the nucleus and its halo are those of the cell.

    Parameters
    ----------
    image : uint8 (h, w, 3) RGB

    Returns
    -------
    float32 (len(NAMES),)
    """
    box = content_box(image)
    small = working_copy(image, box)
    nucleus, cytoplasm = segment_working(small)
    cell = nucleus | cytoplasm
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    values = dict.fromkeys(NAMES, 0.0)
    values |= _areas(nucleus, cell)
    values |= _shape(cell, "cell")
    values |= _detail(image, box)
    inner, outer = nucleus if nucleus.any() else cell, cytoplasm if cytoplasm.any() else cell
    values |= _colours(small, lab, inner, outer)
    values |= _halo(lab, nucleus, cell)
    if nucleus.any():
        values |= _shape(nucleus, "nucleus")
        offset = np.linalg.norm(_ellipse(nucleus)[0] - _ellipse(cell)[0])
        values["nucleus_offset"] = float(offset / np.sqrt(4 * cell.sum() / np.pi))
        values |= _surroundings(lab[..., 0], nucleus, outer)
        values |= _chromatin(*_patch(image, box, nucleus))
    # Each value is finite by its definition; this makes sure of it.
    return np.nan_to_num(np.array([values[name] for name in NAMES], dtype=np.float32), posinf=0.0, neginf=0.0)


def _areas(nucleus: np.ndarray, cell: np.ndarray) -> dict[str, float]:
    """Measure the areas as fractions of the crop, and their ratio."""
    inner, whole = float(nucleus.mean()), float(cell.mean())
    edge = np.ones_like(cell)
    edge[1:-1, 1:-1] = False
    return {
        "cell_on_border": float(cell[edge].mean()),
        "nucleus_found": float(nucleus.any()),
        "nucleus_area": inner,
        "cytoplasm_area": whole - inner,
        "background_area": 1 - whole,
        "nc_ratio": inner / max(whole, 1e-6),
    }


def _shape(mask: np.ndarray, part: str) -> dict[str, float]:
    """Measure the outline and axes of one region; ``part`` is "nucleus" or "cell"."""
    contour = _outline(mask)
    side = float(np.sqrt(mask.size))
    area = float(mask.sum())
    perimeter = cv2.arcLength(contour, True)
    # A contour runs through pixel centres; hull and disc get the half pixel about it, as the area has it.
    hull = cv2.contourArea(cv2.convexHull(contour)) + perimeter / 2 + 1
    radius = cv2.minEnclosingCircle(contour)[1] + 0.5
    centre, axes, turn = _ellipse(mask)
    values = {
        "perimeter": perimeter / side,
        "major_axis": 4 * axes[0] / side,
        "minor_axis": 4 * axes[1] / side,
        "elongation": axes[1] / axes[0],
        "circularity": min(1.0, 4 * np.pi * area / (perimeter + np.pi) ** 2),
        "roundness": min(1.0, area / (np.pi * radius**2)),
        "solidity": min(1.0, area / hull),
    }
    if part == "nucleus":
        points = (contour[:, 0].astype(np.float64) - centre) @ turn
        reach = np.hypot(points[:, 0] / (2 * axes[0]), points[:, 1] / (2 * axes[1]))
        x, y = contour[:, 0, 0], contour[:, 0, 1]
        height, width = mask.shape
        values["on_border"] = float(((x < 2) | (y < 2) | (x >= width - 2) | (y >= height - 2)).mean())
        values["irregularity"] = float(np.sqrt(np.mean((reach - reach.mean()) ** 2)))
    return {f"{part}_{name}": float(value) for name, value in values.items() if f"{part}_{name}" in NAMES}


def _colours(image: np.ndarray, lab: np.ndarray, nucleus: np.ndarray, cytoplasm: np.ndarray) -> dict[str, float]:
    """Measure the mean and spread of colour in nucleus and cytoplasm, and the contrast between them."""
    lightness = lab[..., 0]
    glass = (lightness >= np.percentile(lightness, 98)).astype(np.uint8)
    clear = np.log10(np.add(cv2.mean(image, glass)[:3], 1))
    logs = cv2.LUT(image, np.log10(np.arange(256) + 1.0))
    most, least = image.max(axis=2).astype(np.float32), image.min(axis=2)
    saturation = (most - least) / np.maximum(most, 1)
    values: dict[str, float] = {}
    means = []
    for part, region in (("nucleus", nucleus), ("cytoplasm", cytoplasm)):
        mask = region.astype(np.uint8)
        mean, spread = (moment.ravel() for moment in cv2.meanStdDev(lab, mask=mask))
        means.append(mean)
        values |= {f"{part}_{name}": float(v) for name, v in zip(_LAB, mean, strict=True)}
        values |= {f"{part}_{name}_sd": float(v) for name, v in zip(_LAB, spread, strict=True)}
        density = clear - cv2.mean(logs, mask)[:3]
        values |= {f"{part}_density_{name}": float(v) for name, v in zip(_RGB, density, strict=True)}
        values[f"{part}_saturation"] = cv2.mean(saturation, mask)[0]
    inner, outer = means
    paper = cv2.mean(lab, glass)
    hues = np.arctan2(inner[2], inner[1]) - np.arctan2(outer[2], outer[1])
    return values | {
        **{f"glass_{name}": paper[k] for k, name in enumerate(_LAB)},
        "hue_difference": float(np.degrees(abs((hues + np.pi) % (2 * np.pi) - np.pi))),
        "contrast_cytoplasm": float(np.linalg.norm(inner - outer)),
    }


def _halo(lab: np.ndarray, nucleus: np.ndarray, cell: np.ndarray) -> dict[str, float]:
    """Measure the colour close about the nucleus, or that of the cell where there is no nucleus."""
    mask = nucleus.astype(np.uint8)
    radius = float(np.sqrt(nucleus.sum() / np.pi))
    near, far = (cv2.dilate(mask, _disc(share * radius)).astype(bool) for share in (0.12, 0.6))
    halo = far & ~near
    mean, spread = cv2.meanStdDev(lab, mask=(halo if halo.any() else cell).astype(np.uint8))
    values = {f"halo_{name}": float(mean[k, 0]) for k, name in enumerate(_LAB)}
    return values | {"halo_lightness_sd": float(spread[0, 0])}


def _surroundings(lightness: np.ndarray, nucleus: np.ndarray, cytoplasm: np.ndarray) -> dict[str, float]:
    """Measure the rim of the nucleus, the texture of the cytoplasm, and the other dark parts of the crop."""
    gradient = _gradient(lightness)
    inner = float(lightness[nucleus].mean())
    contrast = float(lightness[cytoplasm].mean()) - inner
    wide = cv2.dilate(nucleus.astype(np.uint8), _disc(3)).astype(bool)
    x, y = _outline(nucleus)[:, 0].T
    along = cv2.dilate(gradient, _disc(1))[y, x].astype(np.float64)
    dark = lightness <= inner + 0.25 * max(contrast, 0.0)
    plain = cytoplasm & ~wide
    return {
        "crowding": float((dark & ~wide).mean()),
        "boundary_sharpness": float(along.mean() / max(contrast, 5.0) * np.sqrt(nucleus.size)),
        "boundary_unevenness": float(along.std() / max(along.mean(), 1e-3)),
        "cytoplasm_texture": float(gradient[plain].mean()) if plain.any() else 0.0,
    }


def _detail(image: np.ndarray, box: Box) -> dict[str, float]:
    """Measure how the detail of a crop is spread over scales.

    The blur of a microscope has one width in micrometres, so where crops were stretched to one
    size this still tells something of their scale. It also depends on focus and on how the file
    was made.
    """
    lightness = cv2.cvtColor(working_copy(image, box, _FINE).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 0]
    energies, finer = [], lightness
    for scale in (0.7, 1.4, 2.8, 5.6, 11.2):
        coarser = cv2.GaussianBlur(lightness, (0, 0), scale)
        energies.append(float(np.square(finer - coarser).mean()))
        finer = coarser
    ratios = np.diff(np.log(np.array(energies) + 1e-3))
    return {f"detail_{name}": float(r) for name, r in zip(("fine", "medium", "coarse", "large"), ratios, strict=True)}


def _patch(image: np.ndarray, box: Box, nucleus: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut out the lightness (float32) and mask (bool) of the nucleus, its longest side scaled to the patch size."""
    left, top, right, bottom = box
    down, across = (bottom - top) / nucleus.shape[0], (right - left) / nucleus.shape[1]
    rows, columns = np.flatnonzero(nucleus.any(axis=1)), np.flatnonzero(nucleus.any(axis=0))
    y0, y1 = int(rows[0] * down), int(np.ceil((rows[-1] + 1) * down))
    x0, x1 = int(columns[0] * across), int(np.ceil((columns[-1] + 1) * across))
    patch = working_copy(image, (left + x0, top + y0, left + x1, top + y1), _PATCH)
    part = nucleus[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    mask = cv2.resize(part, patch.shape[1::-1], interpolation=cv2.INTER_LINEAR) >= 0.5
    return cv2.cvtColor(patch.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 0], mask


def _chromatin(lightness: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Measure the texture of the nucleus on its patch, without its blurred rim."""
    from skimage.feature import local_binary_pattern

    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    inner = depth > 4
    if inner.sum() < 64:
        inner = mask
    pixels = lightness[inner].astype(np.float64)
    spread = max(float(pixels.std()), 1e-3)
    middle = np.median(depth[inner])
    # The outside is filled with the mean of the nucleus, so that the lighter rim does not turn pixels beside it into
    # dark spots.
    filled = np.where(inner, lightness, pixels.mean()).astype(np.float32)
    local = cv2.GaussianBlur(filled, (0, 0), 1.5) - cv2.GaussianBlur(filled, (0, 0), 6)
    codes = local_binary_pattern((lightness * 2.55).astype(np.uint8), 8, 2, "uniform")[inner].astype(np.int64)
    centre, rim = inner & (depth >= middle), inner & (depth < middle)
    values = {
        "chromatin_gradient": float(_gradient(lightness)[inner].mean()),
        "chromatin_pattern_entropy": _entropy(np.bincount(codes)),
        "chromatin_skewness": float(np.mean(((pixels - pixels.mean()) / spread) ** 3)),
        "chromatin_margination": float(lightness[centre].mean() - lightness[rim].mean()) if rim.any() else 0.0,
    }
    for name, spots in (("dark", inner & (local < -_SPOT)), ("light", inner & (local > _SPOT))):
        values[f"{name}_spots"] = float(cv2.connectedComponents(spots.astype(np.uint8))[0] - 1)
        values[f"{name}_spot_area"] = float(spots.sum() / inner.sum())
    return values | _cooccurrence(lightness, inner, float(pixels.mean()))


def _cooccurrence(lightness: np.ndarray, mask: np.ndarray, mean: float) -> dict[str, float]:
    """Measure Haralick's textures (1973, 10.1109/TSMC.1973.4309314) over pixel pairs with both ends in the mask."""
    from skimage.feature import graycomatrix, graycoprops

    # The mean lies in the middle of a level, so that noise does not scatter it over two levels.
    steps = (lightness - mean) / _RANGE * _LEVELS + (_LEVELS + 1) / 2
    levels = np.clip(steps, 0, _LEVELS - 1).astype(np.uint8) + 1
    angles = (0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
    pairs = graycomatrix(np.where(mask, levels, 0).astype(np.uint8), (2, 6), angles, _LEVELS + 1, symmetric=True)
    # Level 0 marks the outside. Its pairs are dropped, then the four directions are added up.
    near = pairs[1:, 1:].astype(np.float64).sum(axis=3, keepdims=True)
    near /= np.maximum(near.sum(axis=(0, 1), keepdims=True), 1)
    names = ("contrast", "homogeneity", "energy")
    values = {f"chromatin_{name}": float(graycoprops(near, name)[0, 0]) for name in names}
    correlations = graycoprops(near, "correlation")[:, 0]
    return values | {
        "chromatin_correlation": float(correlations[0]),
        "chromatin_coarseness": float(correlations[1]),
        "chromatin_entropy": _entropy(near[..., 0, 0].ravel()),
    }


def _entropy(counts: np.ndarray) -> float:
    """Compute the entropy of a histogram in bits."""
    shares = counts[counts > 0] / max(counts.sum(), 1e-12)
    return float(-(shares * np.log2(shares)).sum())


def _outline(mask: np.ndarray) -> np.ndarray:
    """Find the longest outer contour of a mask that is not empty: int32 (n, 1, 2) of x, y."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return max(contours, key=len)


def _ellipse(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the centre (x, y), standard deviations along the long and short axis, and their directions (columns)."""
    moments = cv2.moments(mask.astype(np.uint8), binaryImage=True)
    area, across = moments["m00"], moments["mu11"]
    centre = np.array([moments["m10"], moments["m01"]]) / area
    # A pixel is a square of side 1, not a point; with its variance, thin regions keep a width.
    spread = np.array([[moments["mu20"], across], [across, moments["mu02"]]]) / area + np.eye(2) / 12
    variances, directions = np.linalg.eigh(spread)
    return centre, np.sqrt(variances[::-1]), directions[:, ::-1]


def _disc(radius: float) -> np.ndarray:
    """Make a disc to dilate with, at least one pixel in radius."""
    side = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def _gradient(lightness: np.ndarray) -> np.ndarray:
    """Compute the size of the lightness gradient, L* per pixel: float32 (h, w)."""
    dx = cv2.Sobel(lightness, cv2.CV_32F, 1, 0, scale=1 / 8)
    dy = cv2.Sobel(lightness, cv2.CV_32F, 0, 1, scale=1 / 8)
    return np.hypot(dx, dy)
