"""Reading every image of a table once, and keeping what the checks of an audit need of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cervicyte.audit import artefacts, duplicates, keypoints, signatures
from cervicyte.data.cells import CellTable
from cervicyte.data.images import each_image
from cervicyte.errors import ImageError
from cervicyte.images import decoding


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Measurements of every image of a table; rows that could not be read hold nan.

    ``features`` float64 (n, 20) as `artefacts.FEATURES`; ``darkness``, ``flatness``, ``contrast``
    float64 (n,); ``problems`` row -> reason; ``looks`` what the search for duplicates needs
    """

    looks: duplicates.Gallery
    features: np.ndarray
    darkness: np.ndarray
    flatness: np.ndarray
    contrast: np.ndarray
    problems: dict[int, str]


def survey(cells: CellTable) -> Survey:
    """Read every image once and keep what the checks need of it."""
    n = len(cells)
    nan = np.full(n, np.nan)
    seen = Survey(
        looks=duplicates.Gallery.empty(n),
        features=np.full((n, len(artefacts.FEATURES)), np.nan),
        darkness=nan,
        flatness=nan.copy(),
        contrast=nan.copy(),
        problems={},
    )
    for row, measured in each_image(cells, _measure, "audit"):
        if isinstance(measured, ImageError):
            seen.problems[row] = measured.one_line
            continue
        mark, look, features, numbers = measured
        seen.looks.add(row, mark, look)
        seen.features[row] = features
        seen.darkness[row], seen.flatness[row], seen.contrast[row] = numbers
    return seen


def _measure(
    data: bytes, image: np.ndarray
) -> tuple[np.ndarray, keypoints.Look, np.ndarray, tuple[float, float, float]]:
    import cv2

    grey = cv2.GaussianBlur(cv2.cvtColor(decoding.resize(image, 64), cv2.COLOR_RGB2GRAY), (0, 0), 1)
    bright, dark = np.percentile(grey, (75, 3))
    step = max(1, min(image.shape[:2]) // 200)
    coarse = (image[::step, ::step] >> 3).astype(np.int64) @ np.array([1024, 32, 1])
    shares = np.sort(np.unique(coarse, return_counts=True)[1])[::-1] / coarse.size
    contrast = float(image[::step, ::step].astype(np.float32).std(axis=(0, 1)).max())
    numbers = (float(bright - dark), float(shares[:6].sum()), contrast)
    return signatures.signature(image), keypoints.look(image), artefacts.measure(data, image), numbers
