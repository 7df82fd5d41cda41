"""Whether boxes fit the fields that they lie in: their centres must be where it is dark, for that is where nuclei are.

Annotations of images of another size, with x and y exchanged, or with y counted from below still lie inside their
images, mostly, and so nothing else tells that they show other cells than those that were labelled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cervicyte.data.cells import CellTable
from cervicyte.errors import ImageError
from cervicyte.images import decoding

#: Fields that are looked at, and boxes in each: more only make the estimate sharper than a pixel.
_FIELDS, _BOXES = 60, 60

#: Least number of boxes from which anything is said.
_LEAST_BOXES = 20

#: Side, in pixels, to which the longer side of a field is brought. On 60 CRIC fields of 1280 px the scale is then found
#: to 0.2 %; nuclei (of 8 um, some 35 px there) still are dark spots of a few pixels.
_SIDE = 640

#: Scales that are compared, and their step: less than the width of the peak, which is +-1.5 % on CRIC.
_SMALLEST, _LARGEST, _STEP = 0.25, 4.0, 1.008

#: Width over height of usual cameras, for annotations of images that were stretched to another shape.
_ASPECTS = (1376 / 1020, 4 / 3, 3 / 2, 16 / 9, 5 / 4, 1.0)

#: How much darker centres must be in another place, in standard deviations of their fields, and in standard errors.
#: On CRIC's fields the right scale has 2.6 to 4.0, a wrong one 0.2 to 1.5.
_DARKER, _SURE = 0.12, 5.0

#: Scales that are as good as 1.
_TOLERANCE = 0.005

_Place = Callable[["_Field"], np.ndarray]


@dataclass(frozen=True)
class _Field:
    """How dark a field is in each place, in its standard deviations, and the centres of its boxes (n, 2) in pixels."""

    darkness: np.ndarray
    centres: np.ndarray
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class BoxFit:
    """Where the boxes of a table fit better than where they are.

    Attributes
    ----------
    change : what must be done to x and y, in words
    scale : factors of x and y, (1, 1) where they are exchanged or mirrored
    before, after : how dark the centres are as they stand and after the change, in standard deviations of the field
    fields, boxes : how many were looked at
    """

    change: str
    scale: tuple[float, float]
    before: float
    after: float
    fields: int
    boxes: int


def better_fit(cells: CellTable) -> BoxFit | None:
    """Look for a scale, an exchange or a mirroring that lays the boxes on darker places; None where they fit.

    Files that cannot be read are passed over; other checks tell them.
    """
    fields = _fields(cells)
    n = sum(len(f.centres) for f in fields)
    if n < _LEAST_BOXES:
        return None
    before = _darkness(fields, _scaled(1.0, 1.0))
    candidates: list[tuple[str, tuple[float, float], np.ndarray]] = []
    for change, place in _MIRRORED.items():
        candidates.append((change, (1.0, 1.0), _darkness(fields, place)))
    scale = _best_scale(fields)
    if max(abs(scale[0] - 1), abs(scale[1] - 1)) > _TOLERANCE:
        candidates.append(("", scale, _darkness(fields, _scaled(*scale))))
    if not candidates:
        return None
    change, scale, after = max(candidates, key=lambda c: float(c[2].mean()))
    if not _darker(fields, before, after):
        return None
    return BoxFit(
        change=change or _words(scale, fields),
        scale=scale,
        before=float(before.mean()),
        after=float(after.mean()),
        fields=len(fields),
        boxes=n,
    )


def _fields(cells: CellTable) -> list[_Field]:
    import cv2

    centres: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for cell in cells.cells:
        if cell.box is not None and cell.variant == 0:
            left, top, right, bottom = cell.box
            centres[cell.path].append(((left + right) / 2, (top + bottom) / 2))
    paths = sorted(centres)
    random = np.random.default_rng(0)
    fields = []
    for k in sorted(random.permutation(len(paths))[:_FIELDS].tolist()):
        points = np.array(centres[paths[k]])
        try:
            image = decoding.load(paths[k])
        except ImageError:
            continue
        height, width = image.shape[:2]
        side = _SIDE / max(height, width)
        size = max(8, round(width * side)), max(8, round(height * side))
        grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
        dark = cv2.GaussianBlur(255 - grey, (0, 0), 4).astype(np.float32)
        dark = (dark - dark.mean()) / max(float(dark.std()), 1e-6)
        chosen = np.sort(random.permutation(len(points))[:_BOXES])
        fields.append(_Field(dark, points[chosen], width, height))
    return fields


def _scaled(x: float, y: float) -> _Place:
    return lambda field: field.centres * (x, y)


_MIRRORED: dict[str, _Place] = {
    "exchange x and y": lambda field: field.centres[:, ::-1],
    "count y from the other side (height - y)": lambda field: field.centres * (1, -1) + (0, field.height),
    "count x from the other side (width - x)": lambda field: field.centres * (-1, 1) + (field.width, 0),
}


def _darkness(fields: Sequence[_Field], place: _Place) -> np.ndarray:
    """How dark it is where a rule lays each centre, float64 (n,); outside its image, as light as can be told."""
    values = []
    for field in fields:
        height, width = field.darkness.shape
        x, y = np.floor(place(field).T * ([width / field.width], [height / field.height])).astype(np.int64)
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        dark = np.full(len(x), -1.0)
        dark[inside] = field.darkness[y[inside], x[inside]]
        values.append(dark)
    return np.concatenate(values)


def _best_scale(fields: Sequence[_Field]) -> tuple[float, float]:
    """The factors of x and y under which the centres lie darkest."""

    def mean(x: float, y: float) -> float:
        return float(_darkness(fields, _scaled(x, y)).mean())

    steps = np.arange(np.log(_SMALLEST), np.log(_LARGEST), np.log(_STEP))
    aspect = float(np.median([f.width / f.height for f in fields]))
    ratios = [1.0, *(shape / aspect for shape in _ASPECTS if abs(shape / aspect - 1) > _TOLERANCE)]
    _, x, ratio = max((mean(s, s * r), s, r) for s in np.exp(steps).tolist() for r in ratios)
    y = x * ratio
    for width in (0.01, 0.004, 0.001):
        offsets = 1 + width * np.arange(-4, 5)
        _, x, y = max((mean(x * a, y * a), x * a, y * a) for a in offsets.tolist())
        _, x = max((mean(x * a, y), x * a) for a in offsets.tolist())
        _, y = max((mean(x, y * a), y * a) for a in offsets.tolist())
    if abs(x / y - 1) < 2 * _TOLERANCE:  # one factor, unless two are clearly better
        middle = (x + y) / 2
        offsets = 1 + 0.001 * np.arange(-8, 9)
        _, x = max((mean(middle * a, middle * a), middle * a) for a in offsets.tolist())
        y = x
    return round(x, 4), round(y, 4)


def _darker(fields: Sequence[_Field], before: np.ndarray, after: np.ndarray) -> bool:
    """Whether the change is so large and so common to the fields that it is no chance."""
    difference = after - before
    if difference.mean() < _DARKER:
        return False
    ends = np.cumsum([len(f.centres) for f in fields])
    means = np.array([part.mean() for part in np.split(difference, ends[:-1])])
    values = means if len(means) >= 8 else difference
    return bool(values.mean() > _SURE * values.std() / np.sqrt(len(values)))


def _words(scale: tuple[float, float], fields: Sequence[_Field]) -> str:
    x, y = scale
    width, height = (float(np.median([getattr(f, side) for f in fields])) for side in ("width", "height"))
    factors = f"multiply x and y by {x:.3f}" if x == y else f"multiply x by {x:.3f} and y by {y:.3f}"
    return f"{factors} (they are those of images of about {width / x:.0f} x {height / y:.0f} px)"
