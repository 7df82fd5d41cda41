"""Crops of fields as single-cell pictures look: on a square, enlarged, and as sharp.

A field shows a cell in a few dozen pixels. Enlarged as it is, it is far smoother than a picture of one cell, and what a
network learns to see in it does not hold there: features learnt on such crops explained nothing of a large network's
features of single cells.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

from cervicyte import images, shelf
from cervicyte.cells import Cell, CellTable
from cervicyte.errors import DataError, ImageError
from cervicyte.files import atomic_write
from cervicyte.progress import say, track

#: Raised when the same crops would give other pictures.
FORMAT = 1

#: Of the pictures, in pixels.
SIDE = 128

#: Standard deviation of a picture's Laplacian in grey levels: (quantile, value). Measured on 733 Herlev cells (200 and
#: 224 px copies) at 128 px.
SHARPNESS = ((0.05, 3.7), (0.25, 5.1), (0.5, 6.7), (0.75, 8.9), (0.95, 12.8))

#: Of the Gaussian whose difference is enhanced, in pixels, and how often it is added at most.
_RADIUS, _MOST = 2.0, 6.0

#: Halvings in the search for how often.
_STEPS = 6


def write(crops: CellTable) -> CellTable:
    """Write the picture of each crop, or find those that were written before.

    Parameters
    ----------
    crops : with boxes in fields; those of a field one after the other

    Returns
    -------
    the same crops as files of their own, in the same order; those of a field that cannot be read are left out, and said

    Raises
    ------
    DataError : no field can be read
    StorageError : the disk is full
    """
    digests = crops.digests()
    named = [f"{digest}|{c.box}" for digest, c in zip(digests, crops.cells, strict=True)]
    about = {"format": FORMAT, "crops": named, "side": SIDE, "sharpness": SHARPNESS, "by": [_RADIUS, _MOST, _STEPS]}
    about |= {"pixels": {name: version(name) for name in ("pillow", "opencv-python-headless", "numpy")}}
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    folder = shelf.folder() / "crisp" / key[:40]
    shelf.make_room(len(named) * 3 * SIDE**2)  # they take less: PNG packs them
    made: list[Cell] = []
    lost: dict[str, str] = {}
    rows = track(list(zip(named, crops.cells, strict=True)), "pictures of crops")
    for path, some in itertools.groupby(rows, key=lambda row: row[1].path):
        field: np.ndarray | None = None
        for name, crop in some:
            file = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.png"
            if not file.exists():
                try:
                    field = images.load(path) if field is None else field
                    _write(file, crisp(images.crop(field, crop.box or (0, 0, *field.shape[1::-1])), level(name)))
                except ImageError as error:
                    lost[path] = error.one_line
                    break
            shelf.used(file)
            made.append(Cell(str(file), crop.label, crop.group, source=crop.source))
    if lost:
        path, reason = next(iter(lost.items()))
        say(f"{len(lost)} fields cannot be read any more, the first of {path}: {reason}")
    if not made:
        raise DataError("no field can be read", f"{len(lost)} fields", "look at their files")
    return crops.with_cells(made)


def level(name: str) -> float:
    """How sharp a crop becomes: drawn as `SHARPNESS` tells, and the same each time for the same name."""
    quantiles, values = zip(*SHARPNESS, strict=True)
    drawn = np.random.default_rng(list(hashlib.sha256(name.encode()).digest())).uniform(quantiles[0], quantiles[-1])
    return float(np.exp(np.interp(drawn, quantiles, np.log(values))))


def crisp(image: np.ndarray, wanted: float) -> np.ndarray:
    """A crop on a square of its border's median colour, enlarged, and sharpened where it is smoother than wanted.

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
    flat = images.resize(square, SIDE)
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
    """Standard deviation of the Laplacian of the brightness of uint8 (h, w, 3), in grey levels."""
    import cv2

    return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), cv2.CV_32F).std())


def _write(path: Path, image: np.ndarray) -> None:
    import cv2

    with atomic_write(path, "wb") as stream:
        stream.write(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())
