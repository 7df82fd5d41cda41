"""A patient in two spellings is one patient: on both sides of a split it is a leak, and it can be joined."""

from __future__ import annotations

import numpy as np
import pytest

from cervicyte.audit import leakage
from cervicyte.audit.leaks import join_duplicates, leaks
from cervicyte.data import splits
from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import BINARY
from cervicyte.errors import LeakageError


def table(*groups: str, grouped: bool = True) -> CellTable:
    cells = (
        Cell(path=f"{k}.png", label=("normal", "abnormal")[k % 2], group=group, source="folder")
        for k, group in enumerate(groups)
    )
    return CellTable(cells=tuple(cells), system=BINARY, grouped=grouped)


TWINS = ("P012", "P1", "p12", "P2")


def test_a_patient_in_two_spellings_on_both_sides_is_a_leak():
    (leak,) = leaks(table(*TWINS), np.array([0, 1]), np.array([2, 3]), ())
    assert (leak.kind, leak.train_row, leak.test_row) == ("group", 0, 2)
    assert "'folder:P012'" in leak.message
    assert "'folder:p12'" in leak.message
    assert not leaks(table(*TWINS), np.array([0, 2]), np.array([1, 3]), ())
    assert not leaks(table(*TWINS, grouped=False), np.array([0, 1]), np.array([2, 3]), ())


def test_the_gate_holds_and_joining_opens_it():
    cells = table(*TWINS)
    folds = splits.Folds("grouped", 0, (np.array([0, 1]),), (np.array([2, 3]),))
    with pytest.raises(LeakageError, match="share a group") as raised:
        leakage.check(cells, folds, ())
    assert "in two spellings" in raised.value.todo
    assert [c.group for c in join_duplicates(cells, ()).cells] == ["P012", "P1", "P012", "P2"]


def test_an_external_test_of_a_trained_patient_in_another_spelling_is_known():
    cells = table(*TWINS)
    trained = {
        "digests": np.array(["0"]),
        "boxes": np.array(["None"]),
        "groups": np.array(["folder:P0001"]),
        "signatures": np.zeros((1, 0)),
    }
    assert leakage.known_cells(cells, trained) == {1: "its group 'P1' was trained on, spelt 'P0001'"}
