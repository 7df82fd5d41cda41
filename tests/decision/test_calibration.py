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
    limits = DecisionLimits(
        threshold=0.4, sensitivity=0.95, normal_below=0.2, abnormal_from=0.4, confidence_from=0.0, max_risk=0.05
    )
    p = np.array([[0.45, 0.19, 0.18, 0.18]])
    labels = name_cells(p, ("normal", "a", "b", "c"), np.array([False, True, True, True]), limits)
    assert labels == ["a"]


def test_cells_that_are_unsure_for_another_reason_are_uncertain_too() -> None:
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.75, 0.25], [0.1, 0.9]])
    unsure = np.array([True, False, False, False])
    limits = DecisionLimits(
        threshold=0.3, sensitivity=0.95, normal_below=0.2, abnormal_from=0.3, confidence_from=0.0, max_risk=0.05
    )
    assert name_cells(p, ("n", "a"), np.array([False, True]), limits, unsure) == [UNCERTAIN, "n", UNCERTAIN, "a"]
    no_verdict = DecisionLimits(
        threshold=None, sensitivity=0.95, normal_below=0.0, abnormal_from=0.0, confidence_from=0.8, max_risk=0.05
    )
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


def _single(value: float) -> float:
    """The nearest float32 number that is not above a value."""
    nearest = np.float32(value)
    return float(nearest if float(nearest) <= value else np.nextafter(nearest, np.float32(0)))


def test_limits_of_a_few_cells_are_those_computed_by_hand() -> None:
    """The lowest of six abnormal cells bounds a sensitivity of 0.6, as 0.6 ** 6 is below 0.05."""
    limits = fit_limits(PROBABILITIES, CODES, ABNORMAL, sensitivity=0.6, max_risk=0.2)
    between = float(np.float32((_single(0.10) + _single(0.15)) / 2))
    assert limits == DecisionLimits(
        threshold=between,  # the middle between 0.10, normal, and 0.15, abnormal
        sensitivity=0.6,
        confidence=0.95,
        normal_below=between,  # all below are normal
        abnormal_from=_single(0.80),  # none wrong of three; with the next one of four
        confidence_from=0.0,
        max_risk=0.2,
    )


def test_cells_at_the_operating_point_are_not_answered_normal() -> None:
    p = np.array([0.1, 0.2, 0.5])
    limits = fit_limits(np.stack([1 - p, p], axis=1), np.array([0, 0, 1]), np.array([False, True]), 1.0, 0.5)
    assert limits.threshold == _single(0.35)  # the middle between 0.2, normal, and 0.5, abnormal
    assert limits.normal_below == limits.threshold  # 0.5 would be a risk as asked for, and is flagged


def test_unsure_cells_count_for_the_operating_point_only() -> None:
    unsure = np.isin(P, (0.35, 0.62, 0.70))
    limits = fit_limits(PROBABILITIES, CODES, ABNORMAL, 0.6, 0.2, unsure)
    assert limits.threshold == limits.normal_below == pytest.approx(0.125)
    assert limits.abnormal_from == _single(0.40)  # one wrong of five; with the next two of six


def test_normal_is_answered_up_to_the_last_cell_that_keeps_the_risk() -> None:
    p = np.array([*np.linspace(0.01, 0.20, 20), 0.25, 0.30, 0.45, *np.linspace(0.46, 0.9, 77)])
    codes = np.array([0] * 20 + [1, 1, 0] + [1] * 77)
    limits = fit_limits(np.stack([1 - p, p], axis=1), codes, np.array([False, True]), 0.95, 0.05)
    assert limits.confidence is not None
    assert limits.threshold == pytest.approx(0.225)  # below the lowest of 79 abnormal cells, above the twenty normal
    assert 0.20 < limits.normal_below <= 0.20 + 1e-7


def test_limits_on_confidence_are_those_computed_by_hand() -> None:
    top = np.array([0.9, 0.8, 0.7, 0.6, 0.55])
    right, codes = np.array([True, False, True, True, False]), np.array([1, 1, 0, 1, 1])
    p = np.where((np.arange(2) == codes[:, None]) == right[:, None], top[:, None], 1 - top[:, None])
    limits = fit_limits(p, codes, None, 0.9, 0.25)
    assert (limits.threshold, limits.confidence_from, limits.max_risk) == (None, _single(0.6), 0.25)
    unsure = np.array([False, True, False, False, False])
    assert fit_limits(p, codes, None, 0.9, 0.25, unsure).confidence_from == _single(0.55)


@pytest.mark.parametrize(("max_risk", "lowest"), [(0.0, 0.9), (0.34, 0.6)])
@pytest.mark.parametrize("codes", [[0, 0, 1], [0, 1, 0]])
def test_equal_confidences_are_answered_together_or_not_at_all(codes, max_risk, lowest) -> None:
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    assert fit_limits(p, np.array(codes), None, max_risk=max_risk).confidence_from == _single(lowest)


def test_a_sensitivity_of_95_percent_and_one_wrong_answer_in_twenty_unless_asked_otherwise() -> None:
    p = np.arange(1, 61) / 100
    limits = fit_limits(np.stack([1 - p, p], axis=1), np.ones(60, dtype=int), np.array([False, True]))
    assert (limits.sensitivity, limits.max_risk, limits.confidence) == (0.95, 0.05, 0.95)


def test_a_limit_belongs_to_the_verdict_above_it() -> None:
    limits, p = (
        DecisionLimits(
            threshold=0.5, sensitivity=0.95, normal_below=0.25, abnormal_from=0.75, confidence_from=0.0, max_risk=0.05
        ),
        np.array([0.24, 0.25, 0.5, 0.74, 0.75]),
    )
    assert limits.uncertain(np.stack([1 - p, p], axis=1), p).tolist() == [False, True, True, True, False]
    assert limits.flagged(p).tolist() == [False, False, True, True, True]


def test_without_an_operating_point_nothing_is_flagged_and_json_keeps_that() -> None:
    limits = DecisionLimits(
        threshold=None, sensitivity=0.95, normal_below=0.0, abnormal_from=0.0, confidence_from=0.8, max_risk=0.05
    )
    assert limits.flagged(np.array([0.9])) is None
    assert DecisionLimits.from_json(limits.to_json()) == limits


def test_a_cell_below_the_operating_point_gets_its_most_probable_normal_class() -> None:
    limits = DecisionLimits(
        threshold=0.5, sensitivity=0.95, normal_below=0.5, abnormal_from=0.5, confidence_from=0.0, max_risk=0.05
    )
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


@pytest.mark.parametrize("sharpness", [12, 20, 60, 2000])
def test_limits_of_classes_told_apart_lie_between_the_clouds(sharpness: int) -> None:
    random = np.random.default_rng(sharpness)
    p = np.r_[random.beta(1, sharpness, 200), random.beta(sharpness, 1, 200)]
    if sharpness == 2000:  # what a low temperature makes of them
        p = 1 / (1 + np.exp(-3 * (np.log(p) - np.log1p(-p))))
    abnormal = np.arange(400) >= 200
    limits = fit_limits(np.c_[1 - p, p], abnormal.astype(int), np.array([False, True]))
    for limit in (limits.threshold, limits.normal_below):
        assert limit is not None
        assert p[~abnormal].max() < limit <= min(0.5, p[abnormal].min())
        assert np.float32(limit) == limit
    labels = name_cells(np.array([[1e-6, 1 - 1e-6]]), ("normal", "abnormal"), np.array([False, True]), limits)
    assert labels == ["abnormal"]


@given(st.integers(0, 10_000), st.integers(2, 60), st.floats(-8, 8), st.floats(0.01, 5))
def test_no_cell_at_or_above_one_half_is_normal_without_doubt(seed: int, n: int, shift: float, spread: float) -> None:
    random = np.random.default_rng(seed)
    codes = random.integers(0, 2, n)
    p = 1 / (1 + np.exp(-(random.normal(size=n) * spread + shift * codes)))
    limits = fit_limits(np.c_[1 - p, p], codes, np.array([False, True]))
    new = np.linspace(0.5, 1, 101)
    assert "normal" not in name_cells(np.c_[1 - new, new], ("normal", "abnormal"), np.array([False, True]), limits)


def test_limits_of_an_earlier_build_are_read_and_hold_at_one_half() -> None:
    limits = DecisionLimits.from_json(
        {
            "threshold": 0.99999999992,
            "sensitivity": 0.95,
            "normal_below": 0.79,
            "abnormal_from": 0.99999999992,
            "confidence_from": 0.0,
            "max_risk": 0.05,
        }
    )
    assert limits.confidence is None
    p = np.array([0.1, 0.499, 0.5, 0.69, 0.999999])
    assert limits.uncertain(np.c_[1 - p, p], p).tolist() == [False, False, True, True, True]


def test_a_verdict_goes_no_further_than_what_supports_it() -> None:
    p = np.r_[np.linspace(0.001, 0.01, 100), np.linspace(0.99, 0.999, 100)]
    limits = fit_limits(np.c_[1 - p, p], (np.arange(200) >= 100).astype(int), np.array([False, True]))
    between = np.array([0.03, 0.2, 0.8, 0.97])
    labels = name_cells(np.c_[1 - between, between], ("normal", "abnormal"), np.array([False, True]), limits)
    assert labels == ["normal", UNCERTAIN, UNCERTAIN, "abnormal"]
