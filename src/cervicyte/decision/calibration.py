"""From scores to verdicts: temperature, operating point, and the band in which we do not know.

All of it is fitted on out-of-fold predictions of training cells: no weight was fitted on the cell that it speaks of.
The same predictions did choose C or the epoch at which a training stopped, so the limits are a little optimistic. And
under the protocols that are not grouped, the weights were fitted on siblings or copies of these cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cervicyte.decision.thresholds import HIGHEST, operating_point, single


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities from logits: float64 (n, k) to float64 (n, k), each row summing to 1."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    exponential = np.exp(scaled)
    return np.asarray(exponential / exponential.sum(axis=1, keepdims=True))


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities sharpened (below 1) or softened (above 1): float (n, k) to float64 (n, k)."""
    return softmax(np.log(np.maximum(probabilities, 1e-12)), temperature)


@dataclass(frozen=True)
class Answers:
    """What a model says of cells.

    Attributes
    ----------
    probabilities : calibrated, float64 (n, k)
    unsure : bool (n,), cells that it cannot answer whatever their probabilities, since its members disagree
    votes : calibrated probabilities of each member, float64 (n, m, k); None for a single one
    refused : why a picture is no cell that the model can answer for, "" for a good one, object (n,); None where
        that was not checked
    """

    probabilities: np.ndarray
    unsure: np.ndarray
    votes: np.ndarray | None = None
    refused: np.ndarray | None = None

    def refusing(self, reasons: np.ndarray | None) -> Answers:
        """The same answers, none of them given where there is a reason to refuse the picture."""
        return self if reasons is None else replace(self, unsure=self.unsure | (reasons != ""), refused=reasons)


def fit_temperature(logits: np.ndarray, codes: np.ndarray) -> float:
    """The temperature that minimises the log loss of out-of-fold logits.

    Guo et al. 2017, On calibration of modern neural networks, section 4.2.

    Parameters
    ----------
    logits : float (n, k), out of fold
    codes : class index of each row, int (n,)

    Returns
    -------
    temperature between 0.05 and 20; above 1 the classifier was overconfident
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(codes))

    def loss(log_temperature: float) -> float:
        p = softmax(logits, float(np.exp(log_temperature)))[rows, codes]
        return float(-np.log(np.maximum(p, 1e-12)).mean())

    least = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(least.x))


@dataclass(frozen=True, kw_only=True)
class DecisionLimits:
    """Where verdicts begin and end on P(abnormal), or on confidence where abnormal is not defined.

    Attributes
    ----------
    threshold : the operating point; at or above it a cell is flagged; None without normal/abnormal
    sensitivity : the sensitivity that the threshold was set for
    confidence : how sure that sensitivity is on new cells (`thresholds.operating_point`); None where it is not promised
    normal_below : a cell is called normal only below this; never above the threshold; 0 for never
    abnormal_from : a cell is called abnormal only from here on; never below the threshold; inf for never
    confidence_from : without normal/abnormal, a class is named only from this probability on; inf for never
    max_risk : the share of errors among answered cells that the band was set for
    """

    threshold: float | None
    sensitivity: float
    confidence: float | None = None
    normal_below: float
    abnormal_from: float
    confidence_from: float
    max_risk: float

    def uncertain(self, probabilities: np.ndarray, p_abnormal: np.ndarray | None) -> np.ndarray:
        """Which cells must be answered with "I do not know": bool (n,).

        A cell that is as probably abnormal as not is never normal without doubt, whatever the limits of a bundle say.
        """
        if p_abnormal is None:
            return np.asarray(probabilities.max(axis=1) < self.confidence_from)
        return np.asarray((p_abnormal >= min(self.normal_below, HIGHEST)) & (p_abnormal < self.abnormal_from))

    def to_json(self) -> dict[str, float | None]:
        """A plain form for manifests, with null for "never" and no ``confidence`` without a promise."""
        limits = {k: None if v is None or np.isinf(v) else float(v) for k, v in vars(self).items()}
        return limits if self.confidence is not None else {k: v for k, v in limits.items() if k != "confidence"}

    @classmethod
    def from_json(cls, value: Mapping[str, float | None]) -> DecisionLimits:
        """Read the form that `to_json` wrote; KeyError or TypeError if it is not of that form."""

        def number(name: str) -> float:
            limit = value[name]
            return float("inf") if limit is None else float(limit)

        def or_none(limit: float | None) -> float | None:
            return None if limit is None else float(limit)

        return cls(
            threshold=or_none(value["threshold"]),
            sensitivity=number("sensitivity"),
            confidence=or_none(value.get("confidence")),  # earlier builds promised nothing
            normal_below=number("normal_below"),
            abnormal_from=number("abnormal_from"),
            confidence_from=number("confidence_from"),
            max_risk=number("max_risk"),
        )

    def flagged(self, p_abnormal: np.ndarray | None) -> np.ndarray | None:
        """Which cells are at or above the operating point: bool (n,), or None."""
        return None if p_abnormal is None or self.threshold is None else np.asarray(p_abnormal >= self.threshold)


def fit_limits(
    probabilities: np.ndarray,
    codes: np.ndarray,
    abnormal_classes: np.ndarray | None,
    sensitivity: float = 0.95,
    max_risk: float = 0.05,
    unsure: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> DecisionLimits:
    """Set the operating point and the uncertain band from out-of-fold probabilities.

    The band is a risk-coverage rule (Geifman and El-Yaniv 2017, Selective classification for deep
    neural networks), applied to each verdict by itself: among the cells answered "normal" at most
    ``max_risk`` may be abnormal, and among those answered "abnormal" at most ``max_risk`` normal.
    A verdict that cannot keep this is not given at all. In the gap beyond the last cell that supports it, a verdict is
    given only where the probability itself keeps the risk. All limits are exact in float32, as a graph answers.

    Parameters
    ----------
    probabilities : calibrated, out of fold, (n, k)
    codes : class index of each row, int (n,)
    abnormal_classes : bool (k,), or None where normal and abnormal are not defined
    unsure : bool (n,), cells that are not answered whatever the band is; they count for the operating point only
    groups : slide or patient of each row, (n,); None where each is by itself
    """
    answered = np.ones(len(codes), dtype=bool) if unsure is None else ~unsure
    if abnormal_classes is None:
        confidence = single(probabilities.max(axis=1))[answered]
        wrong = (probabilities.argmax(axis=1) != codes)[answered]
        return DecisionLimits(
            threshold=None,
            sensitivity=sensitivity,
            normal_below=0.0,
            abnormal_from=0.0,
            confidence_from=float(_lowest_answer(confidence, wrong, max_risk)[0]),
            max_risk=max_risk,
        )
    p = single(probabilities[:, abnormal_classes].sum(axis=1))
    abnormal = abnormal_classes[codes]
    point = operating_point(p, abnormal, groups, sensitivity)
    # "normal" is answered from the low end upward, so its confidence is -p.
    below, above = (p < point.threshold) & answered, (p >= point.threshold) & answered
    normal_to, next_up = (-end for end in _lowest_answer(-p[below], abnormal[below], max_risk))
    abnormal_to, next_down = _lowest_answer(p[above], ~abnormal[above], max_risk)
    risk = np.float32(max_risk)
    return DecisionLimits(
        threshold=point.threshold,
        sensitivity=sensitivity,
        confidence=point.confidence,
        normal_below=0.0
        if np.isinf(normal_to)
        else min(point.threshold, float(max(_just_above(normal_to), min(risk, next_up)))),
        abnormal_from=max(point.threshold, float(min(abnormal_to, max(1 - risk, _just_above(next_down)))))
        if np.isfinite(abnormal_to)
        else float("inf"),
        confidence_from=0.0,
        max_risk=max_risk,
    )


def _just_above(value: np.float32) -> np.float32:
    return np.float32(np.nextafter(value, np.float32(np.inf)))


def _lowest_answer(confidence: np.ndarray, wrong: np.ndarray, max_risk: float) -> tuple[np.float32, np.float32]:
    """The lowest confidence, float32, down to which the share of wrong answers stays within max_risk, and the next one.

    The first is inf where no answer keeps the risk, the second -inf where no cell is left.
    """
    order = np.argsort(-confidence, kind="stable")
    risk = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    ordered = np.append(confidence[order], np.float32(-np.inf))
    # Equal confidences are answered together or not at all.
    last_of_tie = ordered[1:] != ordered[:-1]
    good = np.flatnonzero((risk <= max_risk) & last_of_tie)
    return (ordered[good[-1]], ordered[good[-1] + 1]) if len(good) else (np.float32(np.inf), ordered[0])


#: The label of a cell that the model does not answer for.
UNCERTAIN = "uncertain"


def name_cells(
    probabilities: np.ndarray,
    classes: Sequence[str],
    abnormal_classes: np.ndarray | None,
    limits: DecisionLimits,
    unsure: np.ndarray | None = None,
) -> list[str]:
    """The label of each cell, never at odds with its flag.

    An uncertain cell is called ``uncertain``. A cell at or above the operating point gets its most
    probable abnormal class, the others their most probable normal class, even where a class of the
    other kind is the single most probable one: many abnormal classes may share what one normal class
    has alone.

    Parameters
    ----------
    probabilities : calibrated (n, k)
    abnormal_classes : bool (k,), or None where normal and abnormal are not defined
    unsure : bool (n,), cells that are uncertain for another reason too, as members that disagree
    """
    names = np.asarray(classes, dtype=object)
    unsure = np.zeros(len(probabilities), dtype=bool) if unsure is None else unsure
    if abnormal_classes is None:
        labels = names[probabilities.argmax(axis=1)]
        labels[limits.uncertain(probabilities, None) | unsure] = UNCERTAIN
        return [str(x) for x in labels]
    p = probabilities[:, abnormal_classes].sum(axis=1)
    flagged = limits.flagged(p)
    assert flagged is not None
    allowed = np.where(flagged[:, None], abnormal_classes[None, :], ~abnormal_classes[None, :])
    labels = names[np.where(allowed, probabilities, -1.0).argmax(axis=1)]
    labels[limits.uncertain(probabilities, p) | unsure] = UNCERTAIN
    return [str(x) for x in labels]
