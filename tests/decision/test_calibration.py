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


# --- by hand: few cells, and what the rules make of them

#: P(abnormal) of each cell, and whether it is abnormal.
CELLS = (
    *((0.05, False), (0.10, False), (0.15, True), (0.20, False), (0.30, False), (0.35, True), (0.40, False)),
    *((0.60, True), (0.62, False), (0.70, False), (0.80, True), (0.90, True), (0.95, True)),
)
P = np.array([p for p, _ in CELLS])
CODES = np.array([2 if abnormal else 0 for _, abnormal in CELLS])
PROBABILITIES = np.stack([1 - P, np.zeros(len(P)), P], axis=1)
ABNORMAL = np.array([False, True, True])


def test_limits_of_a_few_cells_are_those_computed_by_hand() -> None:
    """Two of six abnormal cells may be missed; of the cells answered normal, or abnormal, one in five may be wrong."""
    limits = fit_limits(PROBABILITIES, CODES, ABNORMAL, sensitivity=0.6, max_risk=0.2)
    up_to_30 = float(np.nextafter(0.30, 1))  # one wrong of five; with the next two of six, and two of seven
    assert limits == DecisionLimits(0.60, 0.6, up_to_30, 0.80, 0.0, 0.2)


def test_cells_at_the_operating_point_are_not_answered_normal() -> None:
    p = np.array([0.1, 0.2, 0.5])
    limits = fit_limits(np.stack([1 - p, p], axis=1), np.array([0, 0, 1]), np.array([False, True]), 1.0, 0.5)
    assert (limits.threshold, limits.normal_below) == (0.5, float(np.nextafter(0.2, 1)))


def test_unsure_cells_count_for_the_operating_point_only() -> None:
    unsure = np.isin(P, (0.35, 0.62, 0.70))
    limits = fit_limits(PROBABILITIES, CODES, ABNORMAL, 0.6, 0.2, unsure)
    assert limits == DecisionLimits(0.60, 0.6, float(np.nextafter(0.40, 1)), 0.60, 0.0, 0.2)


def test_limits_on_confidence_are_those_computed_by_hand() -> None:
    top = np.array([0.9, 0.8, 0.7, 0.6, 0.55])
    right, codes = np.array([True, False, True, True, False]), np.array([1, 1, 0, 1, 1])
    p = np.where((np.arange(2) == codes[:, None]) == right[:, None], top[:, None], 1 - top[:, None])
    assert fit_limits(p, codes, None, 0.9, 0.25) == DecisionLimits(None, 0.9, 0.0, 0.0, 0.6, 0.25)
    unsure = np.array([False, True, False, False, False])
    assert fit_limits(p, codes, None, 0.9, 0.25, unsure).confidence_from == 0.55


@pytest.mark.parametrize(("max_risk", "lowest"), [(0.0, 0.9), (0.34, 0.6)])
@pytest.mark.parametrize("codes", [[0, 0, 1], [0, 1, 0]])
def test_equal_confidences_are_answered_together_or_not_at_all(codes, max_risk, lowest) -> None:
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    assert fit_limits(p, np.array(codes), None, max_risk=max_risk).confidence_from == lowest


def test_one_abnormal_cell_in_twenty_is_missed_and_one_answer_in_twenty_wrong_unless_asked_otherwise() -> None:
    p = np.arange(20) / 20
    assert operating_point(p, np.ones(20, dtype=bool)) == p[1]
    limits = fit_limits(np.stack([1 - p, p], axis=1), np.ones(20, dtype=int), np.array([False, True]))
    assert (limits.threshold, limits.sensitivity, limits.max_risk) == (p[1], 0.95, 0.05)


def test_a_limit_belongs_to_the_verdict_above_it() -> None:
    limits, p = DecisionLimits(0.5, 0.95, 0.25, 0.75, 0.0, 0.05), np.array([0.24, 0.25, 0.5, 0.74, 0.75])
    assert limits.uncertain(np.stack([1 - p, p], axis=1), p).tolist() == [False, True, True, True, False]
    assert limits.flagged(p).tolist() == [False, False, True, True, True]


def test_without_an_operating_point_nothing_is_flagged_and_json_keeps_that() -> None:
    limits = DecisionLimits(None, 0.95, 0.0, 0.0, 0.8, 0.05)
    assert limits.flagged(np.array([0.9])) is None
    assert DecisionLimits.from_json(limits.to_json()) == limits


def test_a_cell_below_the_operating_point_gets_its_most_probable_normal_class() -> None:
    limits = DecisionLimits(0.5, 0.95, 0.5, 0.5, 0.0, 0.05)
    p = np.array([[0.1, 0.5, 0.4], [0.1, 0.3, 0.6]])
    assert name_cells(p, ("n1", "n2", "a"), np.array([False, False, True]), limits) == ["n2", "a"]


def test_probabilities_of_large_logits_are_finite_and_float64() -> None:
    p = softmax(np.array([[2000, 0], [-2000, 0], [-3000, -3000]], dtype=np.float32))
    assert p.dtype == np.float64
    assert p.tolist() == [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]
    assert softmax(np.array([[2.0, 0.0]], dtype=np.float32), 4.0)[0, 0] == pytest.approx(1 / (1 + np.exp(-0.5)))


def test_temperature_stays_within_its_bounds() -> None:
    logits = np.array([[0.3, 0.0], [0.0, 0.3]] * 10)
    right = np.array([0, 1] * 10)
    assert fit_temperature(logits, right) == pytest.approx(0.05, rel=0.01)
    assert fit_temperature(10 * logits, 1 - right) == pytest.approx(20, rel=0.01)
