"""Splits: no group on both sides, every cell tested once, and an error where that cannot be."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from cervicyte.data import splits
from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import HERLEV
from cervicyte.data.splits import (
    PROTOCOLS,
    Folds,
    augmented,
    get_protocol,
    grouped_folds,
    holdout,
    make_folds,
    random_folds,
    shared_groups,
    unevenness,
)
from cervicyte.errors import CervicyteError, DataError, UsageError

quick = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def grouped_cells(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Class codes and groups of 2 to 3 classes; groups of 1 to 7 cells, of one class each or mixed."""
    classes = draw(st.integers(2, 3))
    sizes = draw(st.lists(st.integers(1, 7), min_size=6, max_size=25))
    mixed = draw(st.booleans())
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    codes = random.integers(0, classes, len(groups)) if mixed else random.integers(0, classes, len(sizes))[groups]
    order = random.permutation(len(groups))
    return codes[order], np.array([f"g{g}" for g in groups[order]])


def folds_or_none(codes: np.ndarray, groups: np.ndarray, n_folds: int, seed: int) -> Folds | None:
    try:
        return grouped_folds(codes, groups, n_folds, seed)
    except DataError:
        return None


def each_cell_is_tested_once(folds: Folds, n: int) -> None:
    assert sorted(np.concatenate(folds.test).tolist()) == list(range(n))
    for train, test in zip(folds.train, folds.test, strict=True):
        assert sorted([*train, *test]) == list(range(n))
        assert len(test)


@quick
@given(grouped_cells(), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_grouped_folds_keep_groups_whole(cells: tuple[np.ndarray, np.ndarray], n_folds: int, seed: int) -> None:
    codes, groups = cells
    folds = folds_or_none(codes, groups, n_folds, seed)
    assume(folds is not None)
    assert folds is not None
    assert len(folds) == n_folds
    each_cell_is_tested_once(folds, len(codes))
    for train, test in zip(folds.train, folds.test, strict=True):
        assert shared_groups(groups[train], groups[test]) == []
        assert set(codes[train]) == set(codes)
        assert train.dtype == test.dtype == np.int64


@quick
@given(grouped_cells(), st.integers(2, 5), st.integers(0, 1000))
def test_grouped_folds_are_refused_only_for_a_reason(
    cells: tuple[np.ndarray, np.ndarray], n_folds: int, seed: int
) -> None:
    codes, groups = cells
    fewest = min(len(set(groups[codes == code])) for code in set(codes))
    possible = len(set(codes)) >= 2 and fewest >= n_folds
    # With twice as many groups as folds, no class can fall into one fold by accident.
    if possible and fewest >= 2 * n_folds:
        assert folds_or_none(codes, groups, n_folds, seed) is not None
    if not possible:
        with pytest.raises(DataError) as caught:
            grouped_folds(codes, groups, n_folds, seed)
        assert caught.value.received


@quick
@given(grouped_cells(), st.integers(0, 1000))
def test_the_same_seed_gives_the_same_folds_and_json_keeps_them(
    cells: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    folds = folds_or_none(*cells, 2, seed)
    assume(folds is not None)
    assert folds is not None
    again = folds_or_none(*cells, 2, seed)
    assert again is not None
    assert again.to_json() == folds.to_json()
    back = Folds.from_json(json.loads(json.dumps(folds.to_json())))
    assert (back.protocol, back.seed) == ("grouped", seed)
    for before, after in zip((*folds.train, *folds.test), (*back.train, *back.test), strict=True):
        np.testing.assert_array_equal(before, after)
        assert after.dtype == np.int64


@quick
@given(st.lists(st.integers(0, 2), min_size=10, max_size=60), st.integers(2, 4), st.integers(0, 1000))
def test_random_folds_test_each_cell_once(labels: list[int], n_folds: int, seed: int) -> None:
    codes = np.array(labels)
    counts = np.bincount(codes)
    assume(len(counts[counts > 0]) > 1 and counts[counts > 0].min() >= n_folds)
    folds = random_folds(codes, n_folds, seed)
    each_cell_is_tested_once(folds, len(codes))
    assert all(set(codes[train]) == set(codes) for train in folds.train)
    assert random_folds(codes, n_folds, seed).to_json() == folds.to_json()
    assert (folds.protocol, folds.seed) == ("random", seed)


def test_other_seeds_give_other_folds() -> None:
    codes, groups = np.arange(60) % 2, np.arange(60).astype(str)
    seen = {json.dumps(grouped_folds(codes, groups, 5, seed).to_json()["folds"]) for seed in range(5)}
    assert len(seen) == 5


def test_very_uneven_groups_still_leave_every_class_in_training() -> None:
    """Found by trying thousands of tables: a greedy deal can put all of a small class into one fold."""
    random = np.random.default_rng(0)
    tried = 0
    for seed in range(150):
        sizes = random.integers(1, 30, random.integers(4, 14))
        groups = np.repeat(np.arange(len(sizes)), sizes)
        codes = random.integers(0, 4, len(groups)) if seed % 2 else random.integers(0, 4, len(sizes))[groups]
        folds = folds_or_none(codes, groups.astype(str), 2, seed)
        if folds is not None:
            tried += 1
            assert all(set(codes[train]) == set(codes) for train in folds.train)
    assert tried > 60


def test_groups_that_cannot_be_divided_are_refused() -> None:
    """Each of three classes lies in two of three groups: two folds always leave one of them together."""
    groups = np.array(["1", "1", "2", "2", "3", "3"])
    codes = np.array([0, 1, 1, 2, 2, 0])
    with pytest.raises(DataError) as caught:
        grouped_folds(codes, groups, 2, 0)
    what, received, todo = parts(caught.value)
    assert "training set would lack a class" in what
    assert received == "3 groups, 2 folds"
    assert "use fewer folds" in todo


def _large_groups() -> tuple[np.ndarray, np.ndarray]:
    """Seven groups of twelve cells and a hundred of one to four, of three classes: codes and groups."""
    random = np.random.default_rng(0)
    sizes = np.r_[np.full(7, 12), random.integers(1, 5, 100)]
    groups = np.repeat(np.arange(len(sizes)), sizes)
    return random.choice(3, len(sizes), p=[0.2, 0.3, 0.5])[groups], groups


def test_seeds_deal_large_groups_too() -> None:
    codes, groups = _large_groups()
    divisions = [grouped_folds(codes, groups, 5, seed) for seed in range(20)]
    fold = np.array([[[(groups[t] == g).any() for t in d.test].index(True) for g in range(7)] for d in divisions])
    together = (fold[:, :, None] == fold[:, None, :]).mean(axis=0)[np.triu_indices(7, 1)]
    assert together.max() <= 0.6
    held_out = np.unique(np.concatenate([d.test[0] for d in divisions]))
    assert len(held_out) > 0.95 * len(codes)


@pytest.mark.parametrize("seed", range(5))
def test_folds_keep_class_shares(seed: int) -> None:
    codes, groups = _large_groups()
    folds = grouped_folds(codes, groups, 5, seed)
    shares = np.array([[(codes[t] == c).sum() / (codes == c).sum() for c in range(3)] for t in folds.test])
    assert np.abs(shares - 0.2).max() < 0.05
    assert unevenness(codes, folds) == pytest.approx(np.abs(shares - 0.2).max())


def table(counts: dict[str, int]) -> CellTable:
    """As many groups of two cells of each Herlev class as told."""
    cells = [
        Cell(path=f"{label}{g}-{k}.png", label=label, group=f"{label}{g}")
        for label, n in counts.items()
        for g in range(n)
        for k in (0, 1)
    ]
    return CellTable(cells=tuple(cells), system=HERLEV)


def parts(error: CervicyteError) -> tuple[str, str, str]:
    """The three parts, all there."""
    assert error.what
    assert error.received
    assert error.todo
    return error.what, error.received, error.todo


@pytest.mark.parametrize("protocol", [p.name for p in PROTOCOLS])
def test_every_protocol_divides_a_table(protocol: str) -> None:
    cells = table({"normal_columnar": 6, "severe_dysplastic": 8})
    folds = make_folds(cells, protocol, 3, seed=1)
    each_cell_is_tested_once(folds, len(cells))
    assert (folds.protocol, folds.seed) == (protocol, 1)
    assert make_folds(cells, protocol, 3, seed=1).to_json() == folds.to_json()
    first = holdout(folds)
    assert len(first.train) == len(first) == 1
    np.testing.assert_array_equal(first.test[0], folds.test[0])
    np.testing.assert_array_equal(first.train[0], folds.train[0])
    leaks = any(shared_groups(cells.groups[a], cells.groups[b]) for a, b in zip(folds.train, folds.test, strict=True))
    assert leaks is not get_protocol(protocol).honest
    assert bool(get_protocol(protocol).warning) is not get_protocol(protocol).honest


def test_a_class_with_fewer_groups_than_folds_is_named() -> None:
    with pytest.raises(DataError) as caught:
        make_folds(table({"normal_columnar": 6, "severe_dysplastic": 3}), "grouped", 5, 0)
    what, received, todo = parts(caught.value)
    assert "fewer groups than folds" in what
    assert "'severe_dysplastic' has 3 group(s) for 5 folds" in received
    assert "--folds 3" in todo
    with pytest.raises(DataError) as caught:
        make_folds(table({"normal_columnar": 6, "severe_dysplastic": 1}), "grouped", 2, 0)
    assert "add groups" in parts(caught.value)[2]
    two = table({"normal_columnar": 6, "severe_dysplastic": 2})
    with pytest.raises(DataError) as caught:
        make_folds(two, "grouped", 3, 0)
    assert "--folds 2" in parts(caught.value)[2]
    assert len(make_folds(two, "grouped", 2, 0)) == 2  # as many groups as folds are enough


@pytest.mark.parametrize("protocol", [p.name for p in PROTOCOLS])
def test_one_class_or_one_fold_is_refused(protocol: str) -> None:
    with pytest.raises(DataError) as caught:
        make_folds(table({"normal_columnar": 6}), protocol, 2, 0)
    parts(caught.value)
    with pytest.raises(DataError):
        make_folds(table({}), protocol, 2, 0)
    with pytest.raises(UsageError) as usage:
        make_folds(table({"normal_columnar": 6, "severe_dysplastic": 6}), protocol, 1, 0)
    parts(usage.value)


def test_a_class_with_fewer_cells_than_folds_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        random_folds(np.array([0] * 9 + [2]), 3, 0)
    assert "1 cell(s) for 3 folds" in parts(caught.value)[1]


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        get_protocol("groupd")
    _, received, todo = parts(caught.value)
    assert received == "'groupd'"
    assert "mean 'grouped'" in todo
    assert "there are: grouped, random, as-published" in todo


def test_augmented_copies_know_their_original() -> None:
    cells = table({"normal_columnar": 2})
    more = augmented(cells, 3)
    assert len(more) == 4 * len(cells)
    assert {c.variant for c in more.cells} == {0, 1, 2, 3}
    for cell in more.cells:
        assert cell.original == ("" if cell.variant == 0 else cell.path)
    assert augmented(cells, 0) == cells
    written = cells.with_cells(replace(c, original="first.png") for c in cells.cells)  # copies already
    assert {c.original for c in augmented(written, 2).cells} == {"first.png"}


@pytest.mark.parametrize(
    "value", [{}, {"protocol": "grouped", "seed": 0, "folds": [{"train": ["x"], "test": []}]}, {"folds": 3}]
)
def test_what_is_no_table_of_folds_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(DataError, match="not a table of folds") as caught:
        Folds.from_json(value)
    assert parts(caught.value)[1] == "dict"


def test_a_fold_without_cells_keeps_its_type() -> None:
    folds = Folds.from_json({"protocol": "random", "seed": 0, "folds": [{"train": [], "test": []}]})
    assert folds.train[0].dtype == folds.test[0].dtype == np.int64


# --- the division that a data set came with


def divided(*marks: str) -> CellTable:
    cells = (
        Cell(path=f"{k}.png", label=HERLEV.classes[k % 2], group=f"g{k}", split=mark) for k, mark in enumerate(marks)
    )
    return CellTable(cells=tuple(cells), system=HERLEV)


@pytest.mark.parametrize(
    ("marks", "tested", "words"),
    [
        (("train", "train", "test", "test"), [[2, 3]], "tests on test"),
        (("train", "train", "val", "val"), [[2, 3]], "tests on val"),
        (("", "", "", "test"), [[3]], "tests on test"),
        (("train", "val", "train", "test"), [[3]], "tests on test"),
        (("fold1", "fold1", "fold2", "fold2"), [[0, 1], [2, 3]], "each of these folds"),
    ],
)
def test_the_data_sets_own_division_is_used_and_told(marks, tested, words):
    folds = splits.own_division(divided(*marks), "grouped", 7)
    assert (folds.protocol, folds.seed) == ("grouped", 7)
    assert [test.tolist() for test in folds.test] == tested
    assert all(sorted([*a, *b]) == [0, 1, 2, 3] for a, b in zip(folds.train, folds.test, strict=True))
    assert words in splits.division_note(divided(*marks))


@pytest.mark.parametrize("marks", [("", ""), ("train", "train"), ("test", "test"), ("train", "")])
def test_one_mark_for_all_is_no_division(marks):
    assert splits.own_division(divided(*marks), "grouped", 0) is None
    assert "came divided" not in splits.division_note(divided(*marks)) or "" in marks


def test_a_division_that_leaves_a_class_out_of_training_is_refused():
    with pytest.raises(DataError, match="leaves a class out") as raised:
        splits.own_division(divided("train", "test", "train", "test"), "grouped", 0)
    assert HERLEV.classes[1] in raised.value.received
    assert "--folds" in parts(raised.value)[2]
