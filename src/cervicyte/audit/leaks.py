"""Leaks: what stands on both sides of a split, and how groups are joined so that nothing does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cervicyte.audit import duplicates
from cervicyte.audit.duplicates import DuplicatePair
from cervicyte.data.cells import CellTable
from cervicyte.data.splits import shared_groups


@dataclass(frozen=True)
class Leak:
    """Training and test rows that are not strangers: ``kind`` is "group" or a kind of duplicate."""

    kind: str
    train_row: int
    test_row: int
    message: str


def leaks(cells: CellTable, train: np.ndarray, test: np.ndarray, pairs: Sequence[DuplicatePair]) -> list[Leak]:
    """Groups and duplicate pairs that stand on both sides of a split, groups first.

    Parameters
    ----------
    train, test : row indices, int (k,) and (m,)
    pairs : the duplicates of the whole table, from `duplicates.find_duplicates`
    """
    train, test = np.asarray(train, dtype=np.int64), np.asarray(test, dtype=np.int64)
    problems = []
    train_keys, test_keys = cells.group_keys[train].astype(str), cells.group_keys[test].astype(str)
    first_train = dict(zip(train_keys[::-1].tolist(), train[::-1].tolist(), strict=True))
    first_test = dict(zip(test_keys[::-1].tolist(), test[::-1].tolist(), strict=True))
    for key in shared_groups(train_keys, test_keys):
        a, b = first_train[key], first_test[key]
        one, other = cells.groups[a], cells.groups[b]
        words = f"the group {one!r} is in both sets" + ("" if one == other else f", in the test set spelt {other!r}")
        problems.append(Leak("group", a, b, f"{words} ({_name(cells, a)}, {_name(cells, b)})"))
    in_train, in_test = set(train.tolist()), set(test.tolist())
    for pair in pairs:
        for a, b in ((pair.first, pair.second), (pair.second, pair.first)):
            if a in in_train and b in in_test:
                words = f"{_name(cells, b)} (test) is a copy of {_name(cells, a)} (training): {pair.kind}"
                problems.append(Leak(pair.kind, a, b, words))
                break
    return problems


def join_duplicates(cells: CellTable, pairs: Sequence[DuplicatePair]) -> CellTable:
    """The same cells, with one group for all groups that duplicates, or spellings of one name, connect.

    The joined group takes the name of the first of them by row, and its source where they differ.
    """
    _, codes = np.unique(cells.groups.astype(str), return_inverse=True)
    _, keys = np.unique(cells.group_keys.astype(str), return_inverse=True)
    links = [replace(p, first=int(keys[p.first]), second=int(keys[p.second])) for p in pairs]
    families = duplicates.components(len(np.unique(keys)), links)[keys]
    leader: dict[int, int] = {}
    members: defaultdict[int, set[int]] = defaultdict(set)
    for row, (family, code) in enumerate(zip(families.tolist(), codes.tolist(), strict=True)):
        leader.setdefault(family, row)
        members[family].add(code)
    joined = []
    for cell, family in zip(cells.cells, families.tolist(), strict=True):
        first = cells.cells[leader[family]]
        alone = len(members[family]) == 1
        joined.append(cell if alone else replace(cell, group=first.group, source=first.source))
    return cells.with_cells(joined)


def _name(cells: CellTable, row: int) -> str:
    cell = cells.cells[row]
    return Path(cell.path).name + (f" {cell.box}" if cell.box else "")
