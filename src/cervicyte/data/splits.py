"""Protocols: how cells are divided into training and test sets, and what that makes of the numbers.

``grouped`` keeps every group on one side and is the default. ``random`` (system B) and
``as-published`` (system A: augment, then split) are here to reproduce published numbers,
and every output made with them says that it is optimistic or leaking.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cervicyte.data.cells import CellTable
from cervicyte.errors import DataError, UsageError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way to divide cells.

    Attributes
    ----------
    name : its name on the command line
    honest : False where test cells may have siblings or copies in the training set
    words : what was done, in plain words, for reports
    warning : what is wrong with the numbers; empty for an honest protocol
    why : two sentences on why they differ from grouped ones; empty for an honest protocol
    """

    name: str
    honest: bool
    words: str
    warning: str = ""
    why: str = ""


PROTOCOLS: tuple[Protocol, ...] = (
    Protocol(
        name="grouped",
        honest=True,
        words=(
            "Cells of one group (slide, patient, acquisition or field) were kept together: no group has cells in "
            "both the training and the test set of a fold. Everything that is fitted was fitted inside the training "
            "fold."
        ),
    ),
    Protocol(
        name="random",
        honest=False,
        words="Cells were divided at random, as system B did.",
        warning=(
            "OPTIMISTIC: siblings of the test cells (same slide, patient or acquisition) are in the training set, "
            "so these numbers are higher than on a new slide."
        ),
        why=(
            "Cells of one slide share stain, focus and patient, and a random split puts them on both sides, so the "
            "model is tested on company that it knows. Grouped folds test it on slides that it never met, as in use."
        ),
    ),
    Protocol(
        name="as-published",
        honest=False,
        words=(
            "Every cell was first copied by augmentation, then originals and copies were divided at random (system A)."
        ),
        warning=(
            "LEAKING: rotated and flipped copies of the test cells are in the training set, so these numbers "
            "measure recognition of known cells, not diagnosis of new ones."
        ),
        why=(
            "Copies of one cell stand on both sides of the split, so nearly every test image was in the training "
            "set, only turned, shifted or filtered, and the model need but recognise it. Grouped folds keep a cell, "
            "its copies and its siblings on one side, so the model must judge cells that it never met."
        ),
    ),
)


def get_protocol(name: str) -> Protocol:
    """Return a protocol by name; an unknown one is answered with those that exist."""
    for row in PROTOCOLS:
        if row.name == name:
            return row
    names = [p.name for p in PROTOCOLS]
    raise UsageError("unknown protocol", repr(name), f"{did_you_mean(name, names)}there are: {', '.join(names)}")


def check_seed(seed: int) -> None:
    """Refuse a seed that the generators of random numbers do not take; raises UsageError."""
    if not 0 <= seed < 2**32:
        raise UsageError("the seed must lie between 0 and 4294967295", seed, "use --seed 0")


@dataclass(frozen=True)
class Folds:
    """A division of n cells into test sets, each with its training set.

    Attributes
    ----------
    protocol, seed : how it was made
    train, test : row indices of each fold, int64 arrays
    """

    protocol: str
    seed: int
    train: tuple[np.ndarray, ...]
    test: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.test)

    def to_json(self) -> dict[str, object]:
        """A plain form, saved with every run."""
        return {
            "protocol": self.protocol,
            "seed": self.seed,
            "folds": [{"train": a.tolist(), "test": b.tolist()} for a, b in zip(self.train, self.test, strict=True)],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Folds:
        """Read the form that `to_json` wrote; raises DataError if it is not of that form."""
        try:
            rows: Sequence[Mapping[str, Sequence[int]]] = value["folds"]  # type: ignore[assignment]
            return cls(
                str(value["protocol"]),
                int(value["seed"]),  # type: ignore[call-overload]
                tuple(np.array(r["train"], dtype=np.int64) for r in rows),
                tuple(np.array(r["test"], dtype=np.int64) for r in rows),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError("not a table of folds", type(value).__name__, "train again to write it anew") from error


#: Deals of which the most even one is taken.
_DEALS = 20

#: How much chance goes into the order of groups by size (standard deviation of its logarithm).
_SHUFFLE = 1.0


def grouped_folds(codes: np.ndarray, groups: np.ndarray, n_folds: int, seed: int) -> Folds:
    """Stratified k folds in which no group is divided.

    Parameters
    ----------
    codes : class index of each cell, int (n,)
    groups : group of each cell, (n,)
    n_folds : at least 2

    Raises
    ------
    DataError : fewer than two classes, a class with fewer groups than folds, or groups so
        uneven that some training set would lack a class
    """
    codes = np.asarray(codes)
    _check(codes, n_folds)
    _, group_codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    for code in np.unique(codes):
        n_groups = len(np.unique(group_codes[codes == code]))
        if n_groups < n_folds:
            raise DataError(
                "a class has fewer groups than folds, so some fold could not test it",
                f"class number {code} has {n_groups} group(s) for {n_folds} folds",
                f"use --folds {max(2, n_groups)} or less"
                if n_groups >= 2
                else "add groups of that class, or leave it out",
            )
    counts = np.zeros((group_codes.max() + 1, len(np.unique(codes))))
    np.add.at(counts, (group_codes, np.unique(codes, return_inverse=True)[1]), 1)
    rng = np.random.default_rng(seed)
    deals = [_deal(counts, n_folds, rng) for _ in range(_DEALS)]
    whole = [deal for deal in deals if _every_class_trains(counts, deal, n_folds)]
    if not whole:
        raise DataError(
            "the groups are so uneven that a training set would lack a class",
            f"{len(counts)} groups, {n_folds} folds",
            "use fewer folds, or add groups of the small classes",
        )
    fold = min(whole, key=lambda deal: _unevenness(counts, deal, n_folds))[group_codes]
    rows = np.arange(len(codes))
    return _folds("grouped", seed, [(rows[fold != k], rows[fold == k]) for k in range(n_folds)])


def _deal(counts: np.ndarray, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Deal groups to folds, one after the other to where class shares stay most even: (g, k) counts to int (g,).

    Large groups come first, since small ones can still even out what they leave, but in an order of chance: a greedy
    deal by size alone puts the same large groups together whatever the seed.
    """
    order = np.argsort(-counts.sum(axis=1) * np.exp(rng.normal(0, _SHUFFLE, len(counts))))
    share = counts / counts.sum(axis=0)
    filled = np.zeros((n_folds, counts.shape[1]))
    fold = np.zeros(len(counts), dtype=np.int64)
    for group in order:
        # What the sum of squares of all folds' shares would grow by, but for what is the same in each.
        cost = filled @ share[group]
        fold[group] = rng.choice(np.flatnonzero(cost <= cost.min() + 1e-12))
        filled[fold[group]] += share[group]
    return fold


def _every_class_trains(counts: np.ndarray, fold: np.ndarray, n_folds: int) -> bool:
    """Whether no fold holds all cells of a class."""
    return all((counts[fold != k].sum(axis=0) > 0).all() for k in range(n_folds))


def _unevenness(counts: np.ndarray, fold: np.ndarray, n_folds: int) -> float:
    """The largest distance of a class's share in a fold from an even one: 0 to 1."""
    share = counts / counts.sum(axis=0)
    return float(max(np.abs(share[fold == k].sum(axis=0) - 1 / n_folds).max() for k in range(n_folds)))


def unevenness(codes: np.ndarray, folds: Folds) -> float:
    """How far folds are from even: the largest distance of a class's share in a fold from 1 / folds, 0 to 1.

    ``codes`` is the class index of each cell, int (n,). For a single division, the distance from its share of
    all cells.
    """
    tested = np.concatenate(folds.test)
    distances = []
    for test in folds.test:
        for code in np.unique(codes):
            even = 1 / len(folds) if len(folds) > 1 else len(tested) / len(codes)
            distances.append(abs((codes[test] == code).sum() / (codes == code).sum() - even))
    return float(max(distances))


def random_folds(codes: np.ndarray, n_folds: int, seed: int, protocol: str = "random") -> Folds:
    """Stratified k folds at random, groups ignored: optimistic by construction.

    Raises
    ------
    DataError : fewer than two classes, or a class with fewer cells than folds
    """
    from sklearn.model_selection import StratifiedKFold

    codes = np.asarray(codes)
    _check(codes, n_folds)
    smallest = int(np.bincount(codes)[np.unique(codes)].min())
    if smallest < n_folds:
        raise DataError("a class has fewer cells than folds", f"{smallest} cell(s) for {n_folds} folds", "use fewer")
    splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    return _folds(protocol, seed, list(splitter.split(np.zeros(len(codes)), codes)))


def random_split(codes: np.ndarray, share: float, seed: int, protocol: str = "random") -> Folds:
    """One stratified division at random, ``share`` of the cells (0 to 1) to test: system A's way.

    Raises
    ------
    DataError : fewer than two classes, or too few cells to have every class on both sides
    """
    from sklearn.model_selection import StratifiedShuffleSplit

    codes = np.asarray(codes)
    _check(codes, 2)
    splitter = StratifiedShuffleSplit(1, test_size=share, random_state=seed)
    try:
        parts = list(splitter.split(np.zeros(len(codes)), codes))
    except ValueError as error:
        received = f"{len(codes)} cells, {share:.0%} to test ({error})"
        raise DataError("too few cells to divide", received, "add cells of the small classes") from error
    return _folds(protocol, seed, parts)


def holdout(folds: Folds) -> Folds:
    """Only the first fold: with five folds, the 80/20 split."""
    return replace(folds, train=folds.train[:1], test=folds.test[:1])


def augmented(cells: CellTable, copies: int) -> CellTable:
    """Every cell and ``copies`` augmented copies of it, made on the fly when they are read."""
    return cells.with_cells(
        replace(c, variant=k, original=(c.original or c.path) if k else c.original)
        for c in cells.cells
        for k in range(copies + 1)
    )


def own_division(cells: CellTable, protocol: str, seed: int) -> Folds | None:
    """The division that the data set came with: its folds, or its test cells against all others.

    Cells marked "test" are tested; where there are none, those marked "val". None where no cell, or every one, is.

    Raises
    ------
    DataError : some class is in no cell of a training set
    """
    marks = np.array([c.split for c in cells.cells], dtype=object)
    parts = sorted(set(marks.tolist()))
    if len(parts) < 2:
        return None
    tested = [p for p in parts if p.startswith("fold")]
    if tested != parts:
        tested = [part for part in ("test", "val") if part in parts][:1]
    if not tested:
        return None
    rows = np.arange(len(cells))
    folds = [(rows[marks != part], rows[marks == part]) for part in tested]
    for part, (train, _) in zip(tested, folds, strict=True):
        absent = [name for name in cells.present if not (cells.labels[train] == name).any()]
        if absent:
            raise DataError(
                "the data set's own division leaves a class out of a training set",
                f"no {', '.join(map(repr, absent))} outside {part!r}",
                "use --folds 5 to divide the cells anew",
            )
    return _folds(protocol, seed, folds)


def division_note(cells: CellTable) -> str:
    """One sentence on the division that the data set came with and on what is done with it, or ""."""
    marks = Counter(c.split for c in cells.cells)
    if set(marks) == {""} or not marks:
        return ""
    counts = ", ".join(f"{part or 'unmarked'} {n}" for part, n in sorted(marks.items()))
    if all(part.startswith("fold") for part in marks) and len(marks) > 1:
        use = "`train` tests each of these folds in turn"
    elif len(marks) > 1 and {"test", "val"} & set(marks):
        use = f"`train` tests on {'test' if 'test' in marks else 'val'} and trains on the rest"
    else:
        return f"split: the data set marks all its cells as {counts}, which is no division; `train` divides them itself"
    return (
        f"split: the data set came divided ({counts}); {use}, unless --folds or a published protocol divides the "
        "cells anew; `evaluate` takes all cells, whatever their part"
    )


def make_folds(cells: CellTable, protocol: str, n_folds: int, seed: int) -> Folds:
    """Divide a table by a named protocol (for ``as-published``, the table is already augmented).

    Raises
    ------
    UsageError : an unknown protocol
    DataError : the table cannot be divided so
    """
    if get_protocol(protocol).name == "grouped":
        try:
            return grouped_folds(cells.codes, cells.groups, n_folds, seed)
        except DataError as error:
            raise named(error, cells.system.classes) from error
    return random_folds(cells.codes, n_folds, seed, protocol)


def shared_groups(train: np.ndarray, test: np.ndarray) -> list[str]:
    """Groups that stand on both sides, sorted."""
    return sorted(set(map(str, train)) & set(map(str, test)))


def _folds(protocol: str, seed: int, parts: list[tuple[np.ndarray, np.ndarray]]) -> Folds:
    return Folds(
        protocol,
        seed,
        tuple(a.astype(np.int64) for a, _ in parts),
        tuple(b.astype(np.int64) for _, b in parts),
    )


def _check(codes: np.ndarray, n_folds: int) -> None:
    if n_folds < 2:
        raise UsageError("at least two folds are needed", n_folds, "use --folds 5")
    n_classes = len(np.unique(codes))
    if n_classes < 2:
        received = f"{n_classes} class(es), {len(codes)} cell(s)"
        raise DataError("a classifier needs at least two classes", received, "add cells of another class")


def named(error: DataError, classes: Sequence[str]) -> DataError:
    """The same error with the names of classes where it has their numbers."""
    received = error.received or ""
    for code, name in enumerate(classes):
        received = received.replace(f"class number {code} has", f"class {name!r} has")
    return DataError(error.what, received, error.todo)
