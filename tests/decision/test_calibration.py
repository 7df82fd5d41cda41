"""Temperature, operating point and the uncertain band."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from cervicyte.decision.calibration import (
    UNCERTAIN,
    DecisionLimits,
    fit_limits,
    fit_temperature,
    name_cells,
    operating_point,
    softmax,
)


def _logits(n: int, k: int, seed: int, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(n, k)) * 2
    p = softmax(logits)
    codes = np.array([random.choice(k, p=row) for row in p])
    return logits * scale, codes


@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_temperature_undoes_a_known_overconfidence(scale: float) -> None:
    logits, codes = _logits(4000, 4, seed=1, scale=scale)
    assert fit_temperature(logits, codes) == pytest.approx(scale, rel=0.12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0.5, 1.0))
def test_operating_point_keeps_its_sensitivity_and_is_the_highest_that_does(scores: list[float], target: float) -> None:
    p = np.array(scores)
    threshold = operating_point(p, np.ones(len(p), dtype=bool), target)
    assert (p >= threshold).mean() >= target - 1e-9
    higher = p[p > threshold]
    if len(higher):
        assert (p >= higher.min()).mean() < target + 1e-9


def test_without_abnormal_cells_everything_is_flagged() -> None:
    assert operating_point(np.array([0.1, 0.2]), np.zeros(2, dtype=bool)) == 0.0


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.02, 0.05, 0.2]))
def test_band_keeps_the_risk_of_each_verdict_on_the_cells_it_was_fitted_on(seed: int, risk: float) -> None:
    logits, codes = _logits(150, 3, seed)
    p = softmax(logits)
    abnormal = np.array([False, True, True])
    limits = fit_limits(p, codes, abnormal, 0.95, risk)
    p_abnormal = p[:, 1:].sum(axis=1)
    said_normal = p_abnormal < limits.normal_below
    said_abnormal = p_abnormal >= limits.abnormal_from
    if said_normal.any():
        assert abnormal[codes][said_normal].mean() <= risk
    if said_abnormal.any():
        assert (~abnormal[codes])[said_abnormal].mean() <= risk
    assert limits.threshold is not None
    assert limits.normal_below <= limits.threshold <= limits.abnormal_from


@given(st.integers(0, 10_000))
def test_a_flagged_or_uncertain_cell_is_never_called_normal(seed: int) -> None:
    logits, codes = _logits(80, 4, seed)
    classes = ("n1", "n2", "a1", "a2")
    abnormal = np.array([False, False, True, True])
    p = softmax(logits)
    limits = fit_limits(p, codes, abnormal)
    p_abnormal = p[:, 2:].sum(axis=1)
    labels = name_cells(p, classes, abnormal, limits)
    uncertain = limits.uncertain(p, p_abnormal)
    flagged = limits.flagged(p_abnormal)
    assert flagged is not None
    for label, is_uncertain, is_flagged in zip(labels, uncertain, flagged, strict=True):
        assert (label == UNCERTAIN) == bool(is_uncertain)
        if is_flagged:
            assert label not in ("n1", "n2")


def test_abnormality_shared_by_many_classes_outweighs_one_normal_class() -> None:
    limits = DecisionLimits(0.4, 0.95, 0.2, 0.4, 0.0, 0.05)
    p = np.array([[0.45, 0.19, 0.18, 0.18]])
    labels = name_cells(p, ("normal", "a", "b", "c"), np.array([False, True, True, True]), limits)
    assert labels == ["a"]


def test_cells_that_are_unsure_for_another_reason_are_uncertain_too() -> None:
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.75, 0.25], [0.1, 0.9]])
    unsure = np.array([True, False, False, False])
    limits = DecisionLimits(0.3, 0.95, 0.2, 0.3, 0.0, 0.05)
    assert name_cells(p, ("n", "a"), np.array([False, True]), limits, unsure) == [UNCERTAIN, "n", UNCERTAIN, "a"]
    no_verdict = DecisionLimits(None, 0.95, 0.0, 0.0, 0.8, 0.05)
    assert name_cells(p, ("x", "y"), None, no_verdict, unsure) == [UNCERTAIN, "x", UNCERTAIN, "y"]


def test_without_normal_and_abnormal_the_band_is_on_confidence() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.55, 0.45], [0.51, 0.49]])
    limits = fit_limits(p, np.array([0, 0, 1, 1]), None, max_risk=0.0)
    assert limits.threshold is None
    assert name_cells(p, ("x", "y"), None, limits) == ["x", "x", UNCERTAIN, UNCERTAIN]
    assert limits.flagged(None) is None


def test_a_verdict_that_cannot_keep_its_risk_is_never_given_and_survives_json() -> None:
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
    limits = fit_limits(p, np.array([1, 0, 0, 1]), np.array([False, True]), max_risk=0.0)
    assert limits.normal_below == 0.0
    assert limits.abnormal_from == float("inf")
    assert limits.uncertain(p, p[:, 1]).all()
    assert DecisionLimits.from_json(limits.to_json()) == limits
    assert limits.to_json()["abnormal_from"] is None
