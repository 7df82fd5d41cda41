"""Pictures of cells that no two seeds share, for tests."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image


def make_cell(seed: int, side: int = 120) -> np.ndarray:
    """A stained cell on a background, uint8 (side, side, 3): every blob and grain from the seed."""
    random = np.random.default_rng(seed)

    def grain(scale: float, strength: float) -> np.ndarray:
        noise = cv2.GaussianBlur(random.normal(size=(side, side)), (0, 0), scale)
        return (noise / noise.std() * strength)[..., None]

    base = np.array([215, 190, 205]) + random.normal(0, 8, 3)
    image = np.zeros((side, side, 3)) + base + grain(side / 10, 4)
    centre = side / 2 + random.normal(0, side / 14, 2)
    for low, high, depth, texture in ((0.28, 0.44, 40, 7), (0.09, 0.19, 75, 16)):
        mask = np.zeros((side, side), np.uint8)
        axes = tuple(int(v) for v in random.uniform(low, high, 2) * side)
        cv2.ellipse(mask, tuple(int(v) for v in centre), axes, random.uniform(0, 180), 0, 360, 1, -1)
        soft = cv2.GaussianBlur(mask.astype(float), (0, 0), 1.2)[..., None]
        image -= soft * (depth * np.array([1.0, 1.1, 0.6]) + grain(side / 40, texture) + grain(side / 16, texture))
    for _ in range(random.integers(2, 6)):
        spot = tuple(int(v) for v in random.uniform(5, side - 5, 2))
        cv2.circle(image, spot, int(random.integers(2, 6)), tuple(random.uniform(60, 150, 3)), -1)
    return np.clip(image, 0, 255).astype(np.uint8)


def save(image: np.ndarray, path: Path, **options: int) -> str:
    """Write a picture and return its path as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(image)).save(path, **options)
    return str(path)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """The picture after JPEG compression."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))
