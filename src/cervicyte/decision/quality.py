"""Whether a picture is a cell like those that a model was trained on; if not, no verdict is given on it.

A classifier answers with a class whatever it is shown. The distance of a picture's descriptors from those of the
training cells tells a blank field, a letter or a cat from a cell, and the limit of what is still a cell comes from
training cells alone: from the distances of cells whose group was left out when the distance was learned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from cervicyte.errors import BundleError
from cervicyte.images.descriptors import NAMES

#: The share of cells like the training cells, of unseen groups, that the limits are set to refuse.
REFUSED = 0.02

#: Of these, the share given to the limit of focus; the rest is the distance's.
_BLURRED = 0.1

#: A picture is blank with less than this share of the contrast of the faintest training cells (their 1st percentile).
_BLANK = 0.5

#: Beyond this many times the limit of distance a picture is no cell, and not only an unusual one.
_FAR = 1.5

#: A picture of which more than this share is black up to its border reaches beyond the slide.
_BEYOND = 0.005

#: With fewer cells, or cells of a single group, no limit can be set.
FEWEST = 20

#: Standardised descriptors grow only logarithmically beyond this: one odd value must not outweigh all others.
_KNEE = 3.0

#: Spread of a descriptor that hardly varies among the training cells, such as the share of black pixels.
_LEAST_SPREAD = 0.01

_FOLDS = 5

#: Why a picture gets no verdict, in the order in which the reasons are looked for.
REASONS: tuple[str, ...] = ("blank", "reaches beyond the slide", "blurred", "not a cell", "unlike the training data")

#: What is said of a picture that a model answers for, and of one that a bundle without limits cannot judge.
GOOD, UNCHECKED = "good", "not checked"


@dataclass(frozen=True)
class QualityModel:
    """What cells look like, and where cells end.

    Attributes
    ----------
    centre, scale : of each descriptor, d numbers; medians and robust spreads
    mean : of the standardised descriptors, d numbers
    whitening : d rows of d; the standardised descriptors times it have a unit covariance (Mahalanobis)
    contrast_from : below this contrast a picture is blank
    focus_from : below this share of detail in its contrast it is blurred
    distance_to : beyond this root mean square deviation it is unlike the training cells
    far_from : beyond this it is no cell
    framed : the training cells lie on black themselves, so that black at the border says nothing
    """

    centre: tuple[float, ...]
    scale: tuple[float, ...]
    mean: tuple[float, ...]
    whitening: tuple[tuple[float, ...], ...]
    contrast_from: float
    focus_from: float
    distance_to: float
    far_from: float
    framed: bool = field(default=False, kw_only=True)

    def distance(self, descriptors: np.ndarray) -> np.ndarray:
        """How far pictures are from the training cells, in standard deviations: float (n, d) to float64 (n,)."""
        return self._arrays.distance(descriptors[:, : len(NAMES)])

    @cached_property
    def _arrays(self) -> _Shape:
        return _Shape(*(np.array(part) for part in (self.centre, self.scale, self.mean, self.whitening)))

    def to_json(self) -> dict[str, Any]:
        """A plain form for manifests; `from_json` reads it back."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        if not plain["framed"]:  # absent, as in models from before it was asked
            del plain["framed"]
        lists = {name: list(plain[name]) for name in ("centre", "scale", "mean")}
        return {"names": list(NAMES), **plain, **lists, "whitening": [list(row) for row in self.whitening]}

    @classmethod
    def from_json(cls, value: object) -> QualityModel:
        """Read the form that `to_json` wrote.

        Raises
        ------
        BundleError : another form, numbers that are not finite, or other descriptors than this version makes
        """
        try:
            if not isinstance(value, Mapping):
                raise TypeError(f"not an object but {type(value).__name__}")
            if value["names"] != list(NAMES):
                raise ValueError("other descriptors than this version makes; train it again with this version")
            limits = ("contrast_from", "focus_from", "distance_to", "far_from")
            model = cls(
                _vector(value["centre"]),
                _vector(value["scale"]),
                _vector(value["mean"]),
                tuple(_vector(row) for row in value["whitening"]),
                *(_number(value[name]) for name in limits),
            )
            model = replace(model, framed="framed" in value)
            if value.get("framed", True) is not True:
                raise ValueError("framed is not true")
            if len(model.whitening) != len(NAMES):
                raise ValueError(f"{len(model.whitening)} rows of the whitening for {len(NAMES)} descriptors")
            if not min(model.scale) > 0 or not 0 < model.distance_to <= model.far_from:
                raise ValueError("a spread or a limit of distance that is not above 0")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BundleError(
                "the limits of image quality are not of the form that cervicyte writes",
                str(error) if isinstance(error, ValueError) else repr(error),
                "copy the bundle again from its source",
            ) from error
        return model


def fit_quality(descriptors: np.ndarray, groups: np.ndarray) -> tuple[QualityModel | None, str]:
    """Learn from training cells what a cell looks like, and set the limits.

    The covariance is shrunk as by Ledoit and Wolf 2004, 10.1016/S0047-259X(03)00096-4. The limit of distance
    is a conformal quantile (Vovk et al. 2005, Algorithmic Learning in a Random World) of the distances of cells whose
    groups were left out, so that about `REFUSED` of cells like these from other slides are refused in all.

    Parameters
    ----------
    descriptors : of the training cells, float (n, d); rows with NaN are left out
    groups : group of each cell (n,)

    Returns
    -------
    the limits, or None where there are too few cells or groups to set any; and a note that says so
    """
    from sklearn.model_selection import GroupKFold

    known = np.isfinite(descriptors).all(axis=1)
    descriptors, groups = np.asarray(descriptors, dtype=np.float64)[known], np.asarray(groups, dtype=str)[known]
    beyond, descriptors = _beyond(descriptors), descriptors[:, : len(NAMES)]
    n_groups = len(np.unique(groups))
    if len(descriptors) < FEWEST or n_groups < 2:
        return None, (
            f"IMAGE QUALITY IS NOT CHECKED: {len(descriptors)} cells of {n_groups} group(s) are too few to say what a "
            f"cell looks like (at least {FEWEST} of 2 groups are needed), so the model will answer for any picture."
        )
    held = np.empty(len(descriptors))
    for train, test in GroupKFold(min(_FOLDS, n_groups)).split(descriptors, groups=groups):
        held[test] = _Shape.fit(descriptors[train]).distance(descriptors[test])
    distance_to = _limit(held, REFUSED * (1 - _BLURRED))
    contrast_from = _BLANK * float(np.percentile(contrast(descriptors), 1))
    focus_from = -_limit(-focus(descriptors), REFUSED * _BLURRED)
    shape = _Shape.fit(descriptors)
    model = QualityModel(
        _rounded(shape.centre),
        _rounded(shape.scale),
        _rounded(shape.mean),
        tuple(_rounded(row) for row in shape.whitening),
        *_rounded(np.array([contrast_from, focus_from, distance_to, _FAR * distance_to])),
    )
    return replace(model, framed=bool(beyond.mean() > REFUSED)), ""


def verdicts(model: QualityModel, descriptors: np.ndarray) -> np.ndarray:
    """The reason why each picture is refused, "" for a good one: float (n, d), as `describe` gives, to object (n,)."""
    descriptors = np.asarray(descriptors, dtype=np.float64)
    distance = model.distance(descriptors)
    signs = (
        contrast(descriptors) < model.contrast_from,
        _beyond(descriptors) & (not model.framed),
        focus(descriptors) < model.focus_from,
        ~(distance <= model.far_from),  # so that what cannot be described is refused too
        distance > model.distance_to,
    )
    reasons = np.full(len(descriptors), "", dtype=object)
    for reason, sign in zip(reversed(REASONS), reversed(signs), strict=True):
        reasons[sign] = reason
    return reasons


def _beyond(descriptors: np.ndarray) -> np.ndarray:
    """Whether each picture reaches beyond its slide; not where that was not described: bool (n,)."""
    return np.asarray((descriptors[:, len(NAMES) :] > _BEYOND).any(axis=1))


def contrast(descriptors: np.ndarray) -> np.ndarray:
    """How far lightness and colour spread over each picture, in CIELAB units: (n,)."""
    spreads = [_column(descriptors, f"{name}_spread") for name in ("lightness", "green_red", "blue_yellow")]
    return np.asarray(np.sqrt(np.square(spreads).sum(axis=0)))


def focus(descriptors: np.ndarray) -> np.ndarray:
    """How much of each picture's variance is detail of 1.4 to 2.8 of 96 pixels, as a natural logarithm: (n,)."""
    return np.asarray(-(_column(descriptors, "detail_coarse") + _column(descriptors, "detail_large")))


def _column(descriptors: np.ndarray, name: str) -> np.ndarray:
    return np.asarray(descriptors[:, NAMES.index(name)], dtype=np.float64)


def _standardised(descriptors: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    z = (np.asarray(descriptors, dtype=np.float64) - centre) / scale
    beyond = np.maximum(np.abs(z) - _KNEE, 0)
    return np.asarray(np.clip(z, -_KNEE, _KNEE) + np.sign(z) * _KNEE * np.log1p(beyond / _KNEE))


@dataclass(frozen=True)
class _Shape:
    """Centre, scale, mean and whitening as arrays."""

    centre: np.ndarray
    scale: np.ndarray
    mean: np.ndarray
    whitening: np.ndarray

    @classmethod
    def fit(cls, descriptors: np.ndarray) -> _Shape:
        from sklearn.covariance import ledoit_wolf

        low, centre, high = np.percentile(descriptors, (5, 50, 95), axis=0)
        scale = np.maximum((high - low) / 3.29, _LEAST_SPREAD)  # of a normal distribution: its standard deviation
        z = _standardised(descriptors, centre, scale)
        mean = z.mean(axis=0)
        covariance, _ = ledoit_wolf(z - mean, assume_centered=True)
        values, vectors = np.linalg.eigh(covariance)
        return cls(centre, scale, mean, vectors / np.sqrt(np.maximum(values, 1e-6)))

    def distance(self, descriptors: np.ndarray) -> np.ndarray:
        deviation = (_standardised(descriptors, self.centre, self.scale) - self.mean) @ self.whitening
        return np.asarray(np.sqrt(np.square(deviation).mean(axis=1)))


def _limit(values: np.ndarray, share: float) -> float:
    """The value that a further one exceeds with probability ``share`` at most."""
    ordered = np.sort(values)
    rank = int(np.ceil((len(ordered) + 1) * (1 - share)))
    if rank <= len(ordered):
        return float(ordered[rank - 1])
    # Too few cells to see one so rare: beyond the farthest by a part of its way from the middle.
    middle = float(np.median(ordered))
    return float(middle + 1.2 * (ordered[-1] - middle))


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    """Plain numbers of eight digits, which is more than any verdict hangs on."""
    return tuple(float(f"{value:.8g}") for value in values)


def _vector(value: object) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != len(NAMES):
        raise ValueError(f"not a list of {len(NAMES)} numbers")
    return tuple(_number(x) for x in value)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"not a finite number: {value!r:.40}")
    return float(value)
