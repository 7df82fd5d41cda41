"""Honest judgement of a model: cross-validation, and tests of a finished bundle on other data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from cervicyte.base.progress import track
from cervicyte.data.cells import CellTable
from cervicyte.data.splits import Folds
from cervicyte.decision.calibration import Answers, DecisionLimits
from cervicyte.evaluation.results import Predictions


class Predictor(Protocol):
    """What `fit` returns: the classes it knows, its limits, and calibrated probabilities for cells."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Columns of the probabilities."""

    @property
    def limits(self) -> DecisionLimits:
        """Operating point and uncertain band, fitted on the training cells."""

    def answers(self, cells: CellTable) -> Answers:
        """Calibrated probabilities, and the cells that it cannot answer."""


#: Makes a model from training cells; all that is fitted happens inside and sees nothing else.
Fit = Callable[[CellTable], Predictor]


def cross_validate(cells: CellTable, fit: Fit, folds: Folds) -> Predictions:
    """Predict each fold's test cells with a model fitted on its training cells only.

    Parameters
    ----------
    cells : all cells
    fit : called once a fold with that fold's training cells
    folds : row indices, as `splits.make_folds` gives them

    Returns
    -------
    predictions of every cell that some fold tests, in the order of the table
    """
    parts = []
    for k, (train, test) in enumerate(
        track(list(zip(folds.train, folds.test, strict=True)), f"Cross-validating ({folds.protocol})")
    ):
        part = judge(fit(cells.subset(train)), cells.subset(test), folds.protocol)
        parts.append((test, replace(part, folds=np.full(len(test), k, dtype=np.int64))))
    return _in_table_order(parts)


def judge(predictor: Predictor, cells: CellTable, protocol: str) -> Predictions:
    """What one fitted model says of cells, beside what they are (fold 0)."""
    answers = predictor.answers(cells)
    probabilities = answers.probabilities
    system, n = cells.system, len(cells)
    p_abnormal = None
    if system.abnormal is not None:
        columns = [i for i, c in enumerate(predictor.classes) if c in system.abnormal]
        p_abnormal = np.clip(probabilities[:, columns].sum(axis=1), 0.0, 1.0)
    threshold = predictor.limits.threshold
    return Predictions(
        protocol,
        system,
        predictor.classes,
        tuple(cells.paths),
        tuple(c.box for c in cells.cells),
        np.array([c.variant for c in cells.cells], dtype=np.int64),
        cells.labels,
        cells.groups,
        np.zeros(n, dtype=np.int64),
        probabilities,
        p_abnormal,
        None if threshold is None or p_abnormal is None else np.full(n, threshold),
        predictor.limits.uncertain(probabilities, p_abnormal) | answers.unsure,
        answers.refused,
    )


def _in_table_order(parts: list[tuple[np.ndarray, Predictions]]) -> Predictions:
    order = np.argsort(np.concatenate([rows for rows, _ in parts]), kind="stable")
    first = parts[0][1]

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(p, name) for _, p in parts])[order]

    paths = [path for _, p in parts for path in p.paths]
    boxes = [box for _, p in parts for box in p.boxes]
    checked = all(p.quality is not None for _, p in parts)
    return replace(
        first,
        paths=tuple(paths[i] for i in order),
        boxes=tuple(boxes[i] for i in order),
        p_abnormal=None if first.p_abnormal is None else joined("p_abnormal"),
        operating_point=None if first.operating_point is None else joined("operating_point"),
        variants=joined("variants"),
        labels=joined("labels"),
        groups=joined("groups"),
        folds=joined("folds"),
        probabilities=joined("probabilities"),
        uncertain=joined("uncertain"),
        quality=joined("quality") if checked else None,
    )
