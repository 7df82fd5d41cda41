"""Image filters in a named chain, stored with a model and applied the same way at prediction."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cervicyte.errors import UsageError


def normalise(image: np.ndarray) -> np.ndarray:
    """Stretch each channel so that its 1st and 99th percentiles become 0 and 255."""
    low, high = np.percentile(image, (1, 99), axis=(0, 1))
    span = np.maximum(high - low, 1.0)
    return np.clip((image - low) * (255.0 / span), 0, 255).astype(np.uint8)


def clahe(image: np.ndarray) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation of the lightness (clip limit 2, 8 x 8 tiles)."""
    import cv2

    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(np.ascontiguousarray(lab[..., 0]))
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def median(image: np.ndarray) -> np.ndarray:
    """Median of each 3 x 3 neighbourhood."""
    import cv2

    return cv2.medianBlur(image, 3)


def nlm(image: np.ndarray) -> np.ndarray:
    """Non-local means (h=10, hColor=10, template 7, search 21), the settings of system A."""
    import cv2

    return cv2.fastNlMeansDenoisingColored(image, None, 10, 10, 7, 21)


@dataclass(frozen=True)
class Filter:
    """One named filter: uint8 (h, w, 3) in, the same shape and dtype out."""

    name: str
    apply: Callable[[np.ndarray], np.ndarray]


FILTERS: tuple[Filter, ...] = (
    Filter("normalise", normalise),
    Filter("clahe", clahe),
    Filter("median", median),
    Filter("nlm", nlm),
)


def parse_chain(text: str) -> tuple[str, ...]:
    """Read ``"normalise,clahe"``; an unknown name is answered with the nearest right one.

    >>> parse_chain("normalise, clahe")
    ('normalise', 'clahe')
    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    known = [f.name for f in FILTERS]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UsageError("unknown filter", repr(name), f"{hint}there are: {', '.join(known)}")
    return names


def apply_chain(image: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Apply the named filters from left to right."""
    table = {f.name: f.apply for f in FILTERS}
    for name in names:
        image = table[name](image)
    return image
