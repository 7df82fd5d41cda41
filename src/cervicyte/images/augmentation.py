"""Augmented copies of a cell, made on the fly or written out; the same seed gives the same copies."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cervicyte.errors import UsageError, did_you_mean
from cervicyte.images.filters import apply_chain, parse_chain, to_rgb

#: Filter chain that a share of the copies goes through before it is moved.
_NLM = parse_chain("nlm")

#: How much stain differs between cells: the standard deviation of the mean of L, a and b (CIE LAB) of a crop, and
#: the relative one of their spread. Measured on crops of 90 px about the 209 annotated nuclei of nine fields of
#: CRIC Cervix.
_MEANS_DIFFER = (10.6, 10.5, 13.8)
_SPREADS_DIFFER = (0.21, 0.35, 0.32)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Limits of how far a copy may differ from its original; every number is drawn evenly between -x and x.

    Attributes
    ----------
    rotation : degrees, 0 to 180
    shift : share of the side, 0 to 0.5, along each axis
    shear : shift along x for each step along y, 0 to 0.5
    zoom : share by which a copy is enlarged or made smaller, 0 to 0.5
    flips : whether half of the copies are mirrored left to right, and half top to bottom
    transpose : whether half of the copies have height and width exchanged; with flips, all eight orientations
    stain : jitter of mean and spread in CIE LAB, 0 to 1; with 1 colours differ as much as those of the cells
        of several slides do
    nlm : share of the copies, 0 to 1, that are filtered by non-local means first

    Raises
    ------
    UsageError : a number outside its range
    """

    rotation: float = 0.0
    shift: float = 0.0
    shear: float = 0.0
    zoom: float = 0.0
    flips: bool = False
    transpose: bool = False
    stain: float = 0.0
    nlm: float = 0.0

    def __post_init__(self) -> None:
        limits = {"rotation": 180.0, "shift": 0.5, "shear": 0.5, "zoom": 0.5, "stain": 1.0, "nlm": 1.0}
        for name, most in limits.items():
            if not 0 <= getattr(self, name) <= most:
                raise UsageError(f"augmentation: {name} must lie between 0 and {most:g}", getattr(self, name))

    @property
    def chain(self) -> tuple[str, ...]:
        """The filters that a share of the copies goes through first."""
        return _NLM if self.nlm else ()

    @property
    def named(self) -> str:
        """All that the copies depend on besides image, number and seed, for names in caches."""
        return f"{self!r}{', '.join(self.chain)}"

    def to_json(self) -> dict[str, Any]:
        """Return the plain form that is stored with the copies."""
        return asdict(self)


@dataclass(frozen=True)
class Preset:
    """An augmentation with a name, and a line of help."""

    name: str
    augmentation: Augmentation
    help: str


#: Rotation, shift, zoom and flips; the default everywhere.
GEOMETRIC = Augmentation(rotation=45, shift=0.1, zoom=0.1, flips=True)

PRESETS: tuple[Preset, ...] = (
    Preset("geometric", GEOMETRIC, "turned, shifted, zoomed and flipped; colours as they are"),
    Preset(
        "system-a",
        Augmentation(rotation=45, shift=0.2, shear=0.2, zoom=0.2, flips=True, nlm=1),
        "as system A: filtered by non-local means, then turned, shifted, sheared, zoomed and flipped",
    ),
    Preset(
        "strong",
        Augmentation(rotation=45, shift=0.06, shear=0.1, zoom=0.18, flips=True, transpose=True, stain=0.3),
        "every orientation, mild shifts, and stain that differs as between slides; for training",
    ),
)


def get_augmentation(name: str) -> Augmentation:
    """Return an augmentation by the name of its preset; an unknown name raises UsageError with the nearest one.

    >>> get_augmentation("geometric").rotation
    45
    """
    for row in PRESETS:
        if row.name == name:
            return row.augmentation
    names = [row.name for row in PRESETS]
    raise UsageError("unknown augmentation", repr(name), f"{did_you_mean(name, names)}there are: {', '.join(names)}")


def augmented_copy(
    image: np.ndarray, variant: int, key: str, seed: int = 0, augmentation: Augmentation = GEOMETRIC
) -> np.ndarray:
    """Make the ``variant``-th copy of an image.

    Parameters
    ----------
    image : uint8 (h, w, 3)
    variant : 0 returns the image itself; k >= 1 the k-th copy
    key : content hash of the image, so that each image gets copies of its own
    seed : another seed gives other copies
    augmentation : how far the copies may differ from the image; all augmentations use the same random numbers, so
        that milder limits give the same copies, only nearer to the image

    Returns
    -------
    uint8 of the same shape, or with height and width exchanged where the copy is transposed; the border
    repeats where the copy reaches outside
    """
    if variant == 0:
        return image
    entropy = hashlib.sha256(f"{key}|{variant}|{seed}".encode()).digest()
    random = np.random.default_rng(np.frombuffer(entropy, dtype=np.uint32))
    # The order of the draws is part of the result. New ones may only be added at the end.
    angle = random.uniform(-augmentation.rotation, augmentation.rotation)
    scale = 1 + random.uniform(-augmentation.zoom, augmentation.zoom)
    shift = random.uniform(-augmentation.shift, augmentation.shift, size=2)
    mirrored, upended = random.random() < 0.5, random.random() < 0.5
    shear = random.uniform(-augmentation.shear, augmentation.shear)
    transposed = random.random() < 0.5
    filtered = random.random() < augmentation.nlm
    colours = random.uniform(-augmentation.stain, augmentation.stain, size=(2, 3))
    if filtered:
        image = apply_chain(image, augmentation.chain)
    if augmentation.stain:
        image = _restain(image, *colours)
    moved = _warp(image, angle, scale, shear, shift)
    if augmentation.flips and mirrored:
        moved = moved[:, ::-1]
    if augmentation.flips and upended:
        moved = moved[::-1]
    if augmentation.transpose and transposed:
        moved = moved.transpose(1, 0, 2)
    return np.ascontiguousarray(moved)


def _warp(image: np.ndarray, angle: float, scale: float, shear: float, shift: np.ndarray) -> np.ndarray:
    """Shear, zoom and turn the image about its middle, then shift it by shares of width and height."""
    import cv2

    height, width = image.shape[:2]
    centre = ((width - 1) / 2, (height - 1) / 2)
    matrix: np.ndarray = cv2.getRotationMatrix2D(centre, angle, scale)
    shear_column = matrix[:, 0] * shear  # what is added to the second column: x moves with y
    matrix[:, 1] += shear_column
    matrix[:, 2] -= shear_column * centre[1]
    matrix[:, 2] += shift * (width, height)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _restain(image: np.ndarray, means: np.ndarray, spreads: np.ndarray) -> np.ndarray:
    """Change the stain: even draws of +-1/sqrt(3) differ by one standard deviation of real cells."""
    import cv2

    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    mean = lab.mean(axis=(0, 1), dtype=np.float64)
    scale = 1 + math.sqrt(3) * spreads * _SPREADS_DIFFER
    moved = (lab - mean) * scale + mean + math.sqrt(3) * means * _MEANS_DIFFER
    return to_rgb(moved.astype(np.float32))
