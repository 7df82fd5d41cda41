"""Augmented copies of a cell, made on the fly and the same each time for the same seed."""

from __future__ import annotations

import hashlib

import numpy as np

#: The ranges of system A's geometric augmentation: degrees, and fractions of the side.
MAX_ROTATION = 45.0
MAX_SHIFT = 0.1
MAX_ZOOM = 0.1


def geometric_copy(image: np.ndarray, variant: int, key: str, seed: int = 0) -> np.ndarray:
    """The ``variant``-th copy of an image: rotated, shifted, zoomed and perhaps flipped.

    Parameters
    ----------
    image : uint8 (h, w, 3)
    variant : 0 returns the image itself; k >= 1 the k-th copy
    key : names the image (its content hash), so that each gets copies of its own
    seed : another seed gives other copies

    Returns
    -------
    uint8 of the same shape; the border repeats where the copy reaches outside
    """
    if variant == 0:
        return image
    import cv2

    entropy = hashlib.sha256(f"{key}|{variant}|{seed}".encode()).digest()
    random = np.random.default_rng(np.frombuffer(entropy, dtype=np.uint32))
    height, width = image.shape[:2]
    angle = random.uniform(-MAX_ROTATION, MAX_ROTATION)
    scale = 1 + random.uniform(-MAX_ZOOM, MAX_ZOOM)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, scale)
    matrix[:, 2] += random.uniform(-MAX_SHIFT, MAX_SHIFT, size=2) * (width, height)
    moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if random.random() < 0.5:
        moved = moved[:, ::-1]
    if random.random() < 0.5:
        moved = moved[::-1]
    return np.ascontiguousarray(moved)
