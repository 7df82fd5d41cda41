"""How the cells of a run are read and divided: target labels, folds, and what a reader of the numbers must know."""

from __future__ import annotations

from dataclasses import replace

from cervicyte.data import splits
from cervicyte.data.cells import CellTable
from cervicyte.data.labels import LabelMap, find_map, get_map
from cervicyte.training.recipes import Recipe

#: Folds where the data set did not come divided into train and test.
DEFAULT_FOLDS = 5


def targeted(cells: CellTable, recipe: Recipe) -> CellTable:
    """Map the labels to the recipe's target system, with the reading of abnormal that the recipe asks for.

    Raises
    ------
    UsageError : there is no map from the cells' label system to the target
    """
    preferred = [get_map(name) for name in recipe.maps]
    usable = [m for m in preferred if m.origin.name == cells.system.name]
    if recipe.target == "native":
        binary = [m for m in usable if m.target.name == "binary"]
        return _with_abnormal_of(cells, binary[0]) if binary else cells
    if recipe.target == cells.system.name:
        return cells
    chosen = [m for m in usable if m.target.name == recipe.target]
    return cells.map_labels(chosen[0] if chosen else find_map(cells.system, recipe.target))


def _with_abnormal_of(cells: CellTable, label_map: LabelMap) -> CellTable:
    abnormal = frozenset(label for label, target in label_map.table.items() if target == "abnormal")
    return replace(cells, system=replace(cells.system, abnormal=abnormal))


def divide(
    cells: CellTable, protocol: str, folds: int | None, seed: int, holdout: bool, published_test: float = 0.0
) -> splits.Folds:
    """Divide cells by the protocol, or as the data set itself does where it does and no number of folds was given.

    Parameters
    ----------
    holdout : keep only the first fold
    published_test : share of the single random split that a recipe prescribes for the as-published protocol

    Raises
    ------
    DataError, UsageError : the cells cannot be divided so
    """
    if protocol == "as-published" and published_test and folds is None:
        return splits.random_split(cells.codes, published_test, seed, protocol)
    if folds is None and protocol == "grouped" and (own := splits.own_division(cells, protocol, seed)):
        return own
    division = splits.make_folds(cells, protocol, DEFAULT_FOLDS if folds is None else folds, seed)
    return splits.holdout(division) if holdout else division


def warnings_about(protocol: str, cells: CellTable, folds: int | None = None) -> tuple[str, ...]:
    """Say in words what a reader of the numbers must know of protocol, missing groups, and a division not used."""
    warnings = []
    if (folds is not None or protocol != "grouped") and len({c.split for c in cells.cells}) > 1:
        warnings.append("OWN DIVISION NOT USED: the data set came divided, and its cells were divided anew.")
    if splits.get_protocol(protocol).warning:
        warnings.append(splits.get_protocol(protocol).warning)
    if not cells.grouped:
        warnings.append(
            "NO GROUPS: nothing told which images come from one slide or patient, so each image counts as its own "
            "group. If siblings are among them, these numbers are optimistic. Use --group-from or --groups."
        )
    return tuple(warnings)
