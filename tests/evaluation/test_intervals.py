"""Intervals hold the truth as often as they say, with few groups too, or there is none."""

from __future__ import annotations

import numpy as np
import pytest

from cervicyte.evaluation import intervals, metrics
from cervicyte.evaluation.intervals import effective_groups, interval, of_no_failure, resamples


def _coverage(n_groups: int, repeats: int, n_boot: int = 300) -> float:
    """How often the interval of an accuracy of 0.8 holds it: 20 cells a group, intraclass correlation 0.2."""
    random = np.random.default_rng(n_groups)
    groups = np.repeat(np.arange(n_groups), 20)
    holds = []
    for repeat in range(repeats):
        right = random.uniform(size=len(groups)) < random.beta(3.2, 0.8, n_groups)[groups]
        drawn = np.concatenate([metrics.mean(right, w) for w in resamples(groups, n_boot, repeat)])
        value = float(right.mean())
        ends = of_no_failure(value, groups) if value in (0, 1) else interval(value, drawn, effective_groups(groups))
        assert ends is not None
        holds.append(ends[0] <= 0.8 <= ends[1])
    return float(np.mean(holds))


@pytest.mark.parametrize("n_groups", [3, 4, 6, 10, 30])
def test_the_interval_covers_the_truth_about_19_times_in_20(n_groups: int) -> None:
    assert 0.92 <= _coverage(n_groups, repeats=300) <= 0.995


def test_resamples_do_not_depend_on_the_order_or_number_of_cells() -> None:
    groups = np.array(["b", "a", "c"])
    few = np.concatenate(list(resamples(groups, 50, 3)))
    many = np.concatenate(list(resamples(np.repeat(groups[::-1], 15_000), 50, 3)))
    assert np.array_equal(few, many[:, ::15_000][:, ::-1])
    assert (few.sum(axis=1) == 3).all()


def test_one_great_group_beside_small_ones_counts_little_more_than_itself() -> None:
    assert effective_groups(np.repeat(["a", "b", "c", "d"], 5)) == 4
    assert effective_groups(np.repeat(["a", "b", "c", "d"], [97, 1, 1, 1])) < 1.1
    assert effective_groups(np.array([])) == 0


@pytest.mark.parametrize("within", [(0.0, 1.0), (-1.0, 1.0), (0.0, np.inf), (-np.inf, np.inf)])
def test_ends_stay_within_the_range_and_about_the_value(within: tuple[float, float]) -> None:
    drawn = np.random.default_rng(0).normal(0.9, 0.2, 500)
    ends = interval(0.9, drawn, 3, within)
    assert ends is not None
    assert within[0] <= ends[0] < 0.9 < ends[1] <= within[1]


def test_there_is_none_where_it_would_say_nothing() -> None:
    drawn = np.random.default_rng(0).uniform(0.7, 0.9, 500)
    assert interval(0.8, drawn, 2.9) is None
    assert interval(0.8, np.empty(0), 20) is None
    assert interval(0.8, np.where(np.arange(500) % 5, np.nan, drawn), 20) is None
    assert interval(1.0, drawn, 20) is None
    assert of_no_failure(1.0, np.array(["a", "b"])) is None
    assert of_no_failure(0.0, np.arange(30)) == [0.0, pytest.approx(1 - 0.025 ** (1 / 30))]
    assert intervals.FEWEST_GROUPS == 3
