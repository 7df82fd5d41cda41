"""Crops of fields as single-cell images look: on a square of one size, and about as sharp.

A field shows a cell in a few dozen pixels. Enlarged as it is, it is far smoother than an image of one cell, and what a
network learns to see in it does not hold there: features learnt on such crops explained nothing of a large network's
features of single cells.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from cervicyte import settings
from cervicyte.base import fingerprints
from cervicyte.base.files import atomic_write, printable
from cervicyte.base.progress import say, track
from cervicyte.base.versions import opencv_version, version_of
from cervicyte.data.cells import Cell, CellTable
from cervicyte.errors import DataError, ImageError
from cervicyte.fields.crops import drawn
from cervicyte.images import decoding

#: Raised when the same crops would give other images.
FORMAT = 2

#: Side of the images, in pixels.
SIDE = 128

#: Standard deviation of an image's Laplacian in grey levels: (quantile, value). Measured on 733 Herlev cells (200 and
#: 224 px copies) at 128 px.
SHARPNESS = ((0.05, 3.7), (0.25, 5.1), (0.5, 6.7), (0.75, 8.9), (0.95, 12.8))

#: Of the Gaussian whose difference is enhanced, in pixels, and how often it is added at most.
_RADIUS, _MOST = 2.0, 6.0

#: Halvings in the search for how often.
_STEPS = 6


def write(crops: CellTable) -> CellTable:
    """Write the image of each crop, or find those that were written before.

    Parameters
    ----------
    crops : with boxes in fields; those of a field one after the other

    Returns
    -------
    the same crops as files of their own, in the same order; those that cannot be made are left out, with a message

    Raises
    ------
    DataError : not one can be made
    StorageError : the disk is full

    Notes
    -----
    They lie beside the exported networks, not in the bounded folder of working files: a training reads them again long
    after they were written, and must not lose them to what it writes meanwhile.
    """
    named = [f"{digest}|{c.box}" for digest, c in zip(crops.digests(), crops.cells, strict=True)]
    about = {"format": FORMAT, "crops": named, "side": SIDE, "sharpness": SHARPNESS, "by": [_RADIUS, _MOST, _STEPS]}
    about |= {
        "pixels": {
            "pillow": version_of("pillow"),
            "opencv-python-headless": opencv_version(),
            "numpy": version_of("numpy"),
        }
    }
    key = fingerprints.of_json(about)
    folder = settings.get_path("cache_dir") / "crops" / key[:40]
    made: list[Cell] = []
    lost: dict[str, str] = {}
    opened, field = "", np.empty(0)
    for name, crop in track(list(zip(named, crops.cells, strict=True)), "images of crops"):
        file = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.png"
        if not file.exists():
            try:
                if crop.path != opened:
                    field, opened = decoding.load(crop.path), crop.path
                _write(file, crisp(field if crop.box is None else decoding.crop(field, crop.box), level(name)))
            except ImageError as error:
                lost[f"{crop.path} {crop.box}"] = error.one_line
                continue
        made.append(Cell(path=str(file), label=crop.label, group=crop.group, source=crop.source))
    if lost:
        where, reason = next(iter(lost.items()))
        say(f"{len(lost)} crops cannot be made, the first of {printable(where)}: {reason}")
    if not made:
        raise DataError("no crop can be made of the fields", f"{len(lost)} crops", "look at the files of the fields")
    return crops.with_cells(made)


def level(name: str) -> float:
    """Draw how sharp a crop becomes, as `SHARPNESS` says: a float, the same each time for the same name."""
    return drawn(SHARPNESS, np.random.default_rng(list(hashlib.sha256(name.encode()).digest())))


def crisp(image: np.ndarray, wanted: float) -> np.ndarray:
    """Lay a crop on a square of its border's median colour, in one size, and sharpen it where it is too smooth.

    What is far too smooth becomes sharper, but not as sharp as wanted: detail is enhanced to a limit, not invented.

    Parameters
    ----------
    image : uint8 (h, w, 3)
    wanted : standard deviation of the Laplacian, in grey levels

    Returns
    -------
    uint8 (SIDE, SIDE, 3)
    """
    import cv2

    height, width = image.shape[:2]
    side = max(height, width)
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    square = np.tile(np.median(border, axis=0).astype(np.uint8), (side, side, 1))
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = image
    flat = decoding.resize(square, SIDE)
    if sharpness(flat) >= wanted:
        return flat
    detail = flat.astype(np.float32) - cv2.GaussianBlur(flat.astype(np.float32), (0, 0), _RADIUS)

    def sharpened(times: float) -> np.ndarray:
        return np.asarray(np.clip(flat + times * detail, 0, 255).astype(np.uint8))

    low, high = 0.0, _MOST
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if sharpness(sharpened(middle)) < wanted else (low, middle)
    return sharpened(high)


def sharpness(image: np.ndarray) -> float:
    """Measure the standard deviation of the Laplacian of the brightness of uint8 (h, w, 3), in grey levels."""
    import cv2

    return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), cv2.CV_32F).std())


def _write(path: Path, image: np.ndarray) -> None:
    import cv2

    with atomic_write(path, "wb") as stream:
        stream.write(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())
