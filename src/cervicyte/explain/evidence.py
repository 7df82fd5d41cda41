"""What speaks for an answer and what against it: the arithmetic of explanations, without a graph or a drawing.

Everything counts in log-odds of a *target*, a set of classes against all others: "abnormal" against normal,
or one class against the rest. With logits z and the target's classes A,

    log-odds = log sum_{c in A} exp z_c  -  log sum_{c not in A} exp z_c,

whose derivative by z_c is p_c / P(A) inside the target and -p_c / P(not A) outside. With these numbers as
weights, the classes' activation maps (Zhou et al. 2016, Learning deep features for discriminative
localization, CVPR) become one map; for two classes that is their difference and exact, for more it is the
first-order share of each class at this very image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cervicyte.bundle.predictions import Prediction
from cervicyte.decision.calibration import softmax
from cervicyte.decision.ensemble import Combiner
from cervicyte.errors import UsageError, did_you_mean
from cervicyte.images.segmentation import Segmentation

#: The target that sets all abnormal classes against all normal ones.
ABNORMAL = "abnormal"

#: Probabilities below it have no logarithm worth telling.
_LEAST = 1e-30

#: As `cervicyte.decision.ensemble` bounds the logarithms of stacking.
_LEAST_STACKED = 1e-6


@dataclass(frozen=True)
class Target:
    """A set of classes against all others.

    Attributes
    ----------
    name : "abnormal" or a class
    mask : bool (k,), which classes belong to it; some do and some do not
    """

    name: str
    mask: np.ndarray

    def log_odds(self, probabilities: np.ndarray) -> float:
        """Log-odds of the target, finite: probabilities (k,)."""
        p = np.asarray(probabilities, dtype=np.float64)
        inside, outside = p[self.mask].sum(), p[~self.mask].sum()
        return float(np.log(max(inside, _LEAST)) - np.log(max(outside, _LEAST)))

    def weights(self, logits: np.ndarray) -> np.ndarray:
        """Derivative of the log-odds by each logit: (k,) to float64 (k,), sum 1 inside and -1 outside."""
        weights = np.empty(len(self.mask))
        for part, sign in ((self.mask, 1.0), (~self.mask, -1.0)):
            weights[part] = sign * softmax(np.asarray(logits)[part][None])[0]
        return weights


def find_target(
    name: str | None, classes: tuple[str, ...], abnormal: np.ndarray | None, probabilities: np.ndarray
) -> Target:
    """The target that is meant: "abnormal", a class, or None for "abnormal" where that is defined.

    Where it is not, None means the most probable class.

    Raises
    ------
    UsageError : no such class, or "abnormal" where normal and abnormal are not both among the classes
    """
    both = abnormal is not None and abnormal.any() and not abnormal.all()
    if name is None:
        name = ABNORMAL if both else classes[int(np.argmax(probabilities))]
    if name == ABNORMAL and both:
        return Target(ABNORMAL, np.asarray(abnormal))
    if name in classes:
        return Target(name, np.array([c == name for c in classes]))
    known = [*([ABNORMAL] if both else []), *classes]
    hint = did_you_mean(name, known)
    raise UsageError("the bundle has no such class to explain", repr(name), f"{hint}there are: {', '.join(known)}")


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one member of a model makes of an image. A single model is its own only member.

    Attributes
    ----------
    name : of the member
    weight : with which it counts in the answer, as `member_weights` says
    log_odds : of the target, by this member alone
    grid : float32 (y, x), its activation map at the network's own resolution, in log-odds; its mean is
        ``log_odds``. None for measurements, and for a network without a feature map
    fit : how the image became the network's square, one of images.FITS
    contributions : measurement -> log-odds that its distance from the average training cell adds; None for
        networks. With ``baseline`` they sum to ``log_odds``
    values : measurement -> what was measured, after the member's own filters; None for networks
    baseline : the log-odds of the average training cell (with more than two classes: to first order, like the
        contributions, so that they differ from image to image)
    """

    name: str
    weight: float
    log_odds: float
    grid: np.ndarray | None = None
    fit: str = "stretch"
    contributions: Mapping[str, float] | None = None
    values: Mapping[str, float] | None = None
    baseline: float = 0.0


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a model answers as it does, for one image.

    Attributes
    ----------
    image : as it was given, uint8 (h, w, 3) RGB
    target : what is explained, "abnormal" or a class
    prediction : the verdict, as `Bundle.predict` gives it
    log_odds : of the target, by the whole model
    map : float32 (h, w), log-odds: above 0 where the place speaks for the target, below where against it.
        The weighted mean of the members' maps; None where no member has one
    members : the evidence of each
    measurements : the cell's measurements (see `cervicyte.images.morphology`), taken from the image as it is
    segmentation : nucleus and cytoplasm, as the measurements see them
    """

    image: np.ndarray
    target: str
    prediction: Prediction
    log_odds: float
    map: np.ndarray | None
    members: tuple[Evidence, ...]
    measurements: Mapping[str, float]
    segmentation: Segmentation

    @property
    def probability(self) -> float:
        """P(target), between 0 and 1."""
        return float(1 / (1 + np.exp(-self.log_odds)))

    @property
    def probabilities(self) -> dict[str, float]:
        """P(target), and P(abnormal) where it is defined."""
        probabilities = {self.target: self.probability}
        if self.prediction.p_abnormal is not None:
            probabilities[ABNORMAL] = self.prediction.p_abnormal
        return probabilities

    @property
    def member_maps(self) -> dict[str, np.ndarray]:
        """The map of each member that has one, float32 (h, w), in its own log-odds."""
        height, width = self.image.shape[:2]
        return {m.name: upsample(m.grid, height, width, m.fit) for m in self.members if m.grid is not None}

    @property
    def contributions(self) -> dict[str, float]:
        """Log-odds that each measurement adds, the largest first; the weighted mean over members of measurements."""
        parts = [m for m in self.members if m.contributions is not None]
        mean: dict[str, float] = {}
        for part, weight in zip(parts, shares(parts), strict=True):
            for name, value in (part.contributions or {}).items():
                mean[name] = mean.get(name, 0.0) + weight * value
        return dict(sorted(mean.items(), key=lambda row: -abs(row[1])))

    @property
    def baseline(self) -> float:
        """The log-odds of the average training cell, the weighted mean over members of measurements."""
        parts = [m for m in self.members if m.contributions is not None]
        return float(sum(weight * part.baseline for part, weight in zip(parts, shares(parts), strict=True)))


def place_map(activation: np.ndarray, target: Target, log_odds: float) -> np.ndarray:
    """Activation maps of all classes, float (y, x, k), to one of the target, float32 (y, x) with mean ``log_odds``.

    The weighted sum's own mean differs from the log-odds by a constant (how evenly the classes inside and
    outside the target share their probability, as entropies), which belongs to no place and is given to all.
    """
    maps = np.asarray(activation, dtype=np.float64)
    weighted = maps @ target.weights(maps.mean(axis=(0, 1)))
    return np.asarray(weighted - weighted.mean() + log_odds, dtype=np.float32)


def member_weights(combiner: Combiner | None, votes: np.ndarray, target: Target) -> np.ndarray:
    """How much each member counts: float64 (m,), their sizes summing to 1, from votes (m, k).

    - a weighted mean has weights;
    - stacking gets the derivative of its log-odds by each member's log-odds, the member's probabilities
      keeping their proportions inside and outside the target; below 0 where the rule turns an opinion round;
    - mean, vote and fuzzy-rank treat all members alike, and so does this.
    """
    m, k = votes.shape
    weights = np.full(m, 1 / m)
    if combiner is not None and combiner.weights:
        weights = np.array(combiner.weights)
    elif combiner is not None and combiner.matrix:
        logs = np.log(np.maximum(votes, _LEAST_STACKED))
        matrix = np.array(combiner.matrix)
        outer = target.weights(logs.reshape(-1) @ matrix + np.array(combiner.bias))
        p = votes[:, target.mask].sum(axis=1, keepdims=True)
        direction = np.where(target.mask, 1 - p, -p)
        weights = np.einsum("mc,mcd,d->m", direction, matrix.reshape(m, k, k), outer)
    total = np.abs(weights).sum()
    return np.asarray(weights / total) if total > 0 else np.full(m, 1 / m)


def shares(parts: list[Evidence]) -> list[float]:
    """The members' weights among each other, sizes summing to 1; all 0 where none of them counts."""
    total = sum(abs(part.weight) for part in parts)
    return [part.weight / total if total else 0.0 for part in parts]


def upsample(grid: np.ndarray, height: int, width: int, fit: str) -> np.ndarray:
    """A map of the network's square laid over the image: float (y, x) to float32 (height, width).

    Quadratic B-splines: smooth, and without values that the grid does not have. The mean is kept where the
    image has a whole number of pixels for each place. A padded image gets the part that is not padding.
    """
    side = max(height, width) if fit == "pad" else 0
    down = _spline(height, grid.shape[0], side or height)
    across = _spline(width, grid.shape[1], side or width)
    return np.asarray(down @ grid.astype(np.float32) @ across.T, dtype=np.float32)


def _spline(pixels: int, places: int, span: int) -> np.ndarray:
    """Weights of each place at each pixel, float32 (pixels, places), rows summing to 1.

    The places divide ``span`` pixels, in whose middle the ``pixels`` lie; beyond the ends the grid is mirrored.
    """
    at = ((span - pixels) // 2 + np.arange(pixels) + 0.5) * places / span - 0.5
    nearest = np.round(at).astype(int)
    t = at - nearest
    weights = np.zeros((pixels, places), dtype=np.float32)
    for step, weight in ((-1, (0.5 - t) ** 2 / 2), (0, 0.75 - t**2), (1, (0.5 + t) ** 2 / 2)):
        place = nearest + step
        place = np.where(place < 0, -1 - place, np.where(place >= places, 2 * places - 1 - place, place))
        np.add.at(weights, (np.arange(pixels), np.clip(place, 0, places - 1)), weight)
    return weights
