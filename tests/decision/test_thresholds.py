"""The operating point keeps on new cells what it promises, and says where it promises nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from cervicyte.decision.thresholds import CONFIDENCE, effective_size, operating_point

scores = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=80)


@given(scores, scores, st.floats(0.5, 1.0))
def test_the_sensitivity_holds_on_the_cells_it_was_set_on(
    abnormal: list[float], normal: list[float], sensitivity: float
) -> None:
    p = np.array([*abnormal, *normal], dtype=np.float32)
    is_abnormal = np.arange(len(p)) < len(abnormal)
    point = operating_point(p, is_abnormal, None, sensitivity)
    n = len(abnormal)
    missed = int((p[is_abnormal] < point.threshold).sum())
    assert missed <= max(0, (1 - sensitivity) * (n + 1) - 1 + 1e-6)
    assert np.float32(point.threshold) == point.threshold <= 0.5


@given(scores, scores)
def test_a_lower_point_would_flag_a_further_normal_cell_and_none_is_flagged_for_nothing(
    abnormal: list[float], normal: list[float]
) -> None:
    p = np.array([*abnormal, *normal], dtype=np.float32)
    is_abnormal = np.arange(len(p)) < len(abnormal)
    threshold = operating_point(p, is_abnormal).threshold
    lower = p[p < threshold]
    if threshold < 0.5 and len(lower):
        assert lower.max() in p[~is_abnormal]


def test_without_abnormal_cells_everything_is_flagged() -> None:
    point = operating_point(np.array([0.1, 0.2]), np.zeros(2, dtype=bool))
    assert (point.threshold, point.confidence) == (0.0, None)


@pytest.mark.parametrize(("n", "promised"), [(58, False), (59, True)])
def test_fifty_nine_independent_cells_are_the_fewest_for_a_promise(n: int, promised: bool) -> None:
    p = np.linspace(0.01, 0.49, n)
    point = operating_point(p, np.ones(n, dtype=bool), np.arange(n))
    assert point.confidence == (CONFIDENCE if promised else None)


def test_a_promise_is_kept_in_nineteen_of_twenty_training_sets() -> None:
    random = np.random.default_rng(5)
    held = []
    for _ in range(400):
        p = random.uniform(0, 0.5, 150)
        point = operating_point(np.r_[p, random.uniform(0, 0.5, 300)], np.arange(450) < 150)
        held.append(1 - point.threshold / 0.5 >= 0.95)
    assert np.mean(held) >= 0.93  # 0.95 less two standard errors


def test_cells_of_one_group_are_fewer_than_cells_of_many() -> None:
    random = np.random.default_rng(2)
    groups = np.repeat(np.arange(30), 20)
    of_group = random.uniform(size=30)[groups] < 0.1
    of_cell = random.uniform(size=600) < 0.1
    assert effective_size(of_group, groups) < 60
    assert effective_size(of_cell, groups) > 300
    assert effective_size(of_cell, np.arange(600)) == 600
    assert effective_size(of_cell, np.zeros(600)) == 1


def test_many_cells_of_two_slides_promise_nothing() -> None:
    random = np.random.default_rng(2)
    p = random.uniform(0, 0.5, 400)
    groups = np.arange(400) % 2
    assert operating_point(p, np.ones(400, dtype=bool), groups).confidence is None
    assert operating_point(p, np.ones(400, dtype=bool), np.arange(400)).confidence == CONFIDENCE
