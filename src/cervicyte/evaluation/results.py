"""What a model said of cells it had not seen, in one shape for metrics, figures and reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cervicyte.base.files import atomic_write, csv_writer, printable
from cervicyte.data.labels import LabelSystem
from cervicyte.decision.quality import GOOD, UNCHECKED
from cervicyte.errors import DataError
from cervicyte.images.decoding import Box


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said of cells it had not seen, with what they are.

    Attributes
    ----------
    protocol : "grouped", "random", "as-published" or "external"
    system : label system of ``labels`` and of the columns of ``probabilities``
    classes : the classes that the model knows, in the system's order: the columns of ``probabilities``
    paths, boxes, variants : where the pixels of each cell are; variants is int (n,)
    labels : true class names, object (n,); a class that the model does not know counts as an error
    groups : group of each cell, object (n,)
    folds : which fold tested the cell, int64 (n,); 0 for an external test
    probabilities : calibrated, float64 (n, k), each row sums to 1
    p_abnormal : calibrated probability of an abnormal cell, float64 (n,); None when the
        system does not say what is abnormal
    operating_point : the threshold on ``p_abnormal`` in force for each cell, fitted in its
        training fold, float64 (n,); None when there is none
    uncertain : cells on which the model abstains, bool (n,)
    quality : why a picture was refused, "" for a good one, object (n,); None where that was not checked

    Raises
    ------
    DataError : arrays of different lengths, classes or labels outside the system, or
        probabilities that are not numbers between 0 and 1
    """

    protocol: str
    system: LabelSystem
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    boxes: tuple[Box | None, ...]
    variants: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    folds: np.ndarray
    probabilities: np.ndarray
    p_abnormal: np.ndarray | None
    operating_point: np.ndarray | None
    uncertain: np.ndarray
    quality: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = len(self.paths)
        if not n:
            raise DataError("no predictions to judge", "0 cells")
        columns = (self.boxes, self.variants, self.labels, self.groups, self.folds, self.uncertain, self.p_abnormal)
        others = (self.operating_point, self.probabilities, self.quality)
        lengths = {len(c) for c in (*columns, *others) if c is not None}
        if lengths != {n} or self.probabilities.shape != (n, len(self.classes)):
            shape = f"{n} paths, lengths {sorted(lengths)}, probabilities {self.probabilities.shape}"
            raise DataError("predictions whose columns differ in length", f"{shape}, {len(self.classes)} classes")
        strangers = sorted((set(self.classes) | set(map(str, self.labels))) - set(self.system.classes))
        if strangers:
            raise DataError(f"classes outside the label system {self.system.name!r}", ", ".join(map(repr, strangers)))
        if self.operating_point is not None and self.p_abnormal is None:
            raise DataError("an operating point without a probability of abnormal", self.system.name)
        for values in (self.probabilities, self.p_abnormal):
            if values is not None and not ((values >= -1e-6) & (values <= 1 + 1e-6)).all():
                raise DataError("probabilities that are not between 0 and 1", f"{values.min()} to {values.max()}")

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def predicted(self) -> np.ndarray:
        """The most probable class of each cell, object (n,)."""
        return np.asarray(np.array(self.classes, dtype=object)[self.probabilities.argmax(axis=1)])

    @cached_property
    def abnormal(self) -> np.ndarray | None:
        """True where the cell is abnormal, bool (n,); None when the system does not say."""
        if self.system.abnormal is None:
            return None
        return np.array([label in self.system.abnormal for label in self.labels], dtype=bool)

    @cached_property
    def called_abnormal(self) -> np.ndarray | None:
        """True where P(abnormal) reaches the operating point (0.5 where there is none), bool (n,)."""
        if self.p_abnormal is None:
            return None
        return np.asarray(self.p_abnormal >= (0.5 if self.operating_point is None else self.operating_point))

    def subset(self, rows: Sequence[int] | np.ndarray) -> Predictions:
        """The predictions of the given rows (indices or a boolean mask), in their order."""
        at = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows, dtype=np.int64)
        return Predictions(
            self.protocol,
            self.system,
            self.classes,
            tuple(self.paths[i] for i in at),
            tuple(self.boxes[i] for i in at),
            self.variants[at],
            self.labels[at],
            self.groups[at],
            self.folds[at],
            self.probabilities[at],
            None if self.p_abnormal is None else self.p_abnormal[at],
            None if self.operating_point is None else self.operating_point[at],
            self.uncertain[at],
            None if self.quality is None else self.quality[at],
        )

    def to_csv(self, path: Path | str) -> None:
        """Write one row per cell, atomically, as UTF-8.

        Columns: path, box, variant, fold, group, label, predicted, one ``p_<class>`` for each
        class, p_abnormal, above_operating_point, uncertain, quality ("good", why the picture was refused, or
        "not checked"). What does not exist is left empty.

        Raises
        ------
        StorageError : the disk is full, read-only or not permitted
        """
        columns: dict[str, Sequence[Any]] = {
            "path": [printable(p) for p in self.paths],
            "box": ["" if b is None else " ".join(map(str, b)) for b in self.boxes],
            "variant": self.variants.tolist(),
            "fold": self.folds.tolist(),
            "group": [printable(g) for g in self.groups],
            "label": [printable(c) for c in self.labels],
            "predicted": [printable(c) for c in self.predicted],
        }
        for name, column in zip(self.classes, self.probabilities.T, strict=True):
            columns[printable(f"p_{name}")] = [f"{p:.6f}" for p in column]
        none = [""] * len(self)
        columns["p_abnormal"] = none if self.p_abnormal is None else [f"{p:.6f}" for p in self.p_abnormal]
        above = None if self.operating_point is None else self.called_abnormal
        columns["above_operating_point"] = none if above is None else [str(bool(a)).lower() for a in above]
        columns["uncertain"] = [str(bool(u)).lower() for u in self.uncertain]
        columns["quality"] = [UNCHECKED] * len(self) if self.quality is None else [q or GOOD for q in self.quality]
        with atomic_write(path) as stream:
            writer = csv_writer(stream)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions with their metrics and everything needed to make them again.

    Attributes
    ----------
    predictions : what the model said
    metrics : the contents of metrics.json, as `cervicyte.evaluation.metrics.score` returns them
    facts : in order: data set, cells, groups, recipe, backbone, weights, filters, precision,
        seed, fingerprint, versions and so on
    warnings : what the reader must know before the numbers (the protocol's warning, missing groups)
    command : how to reproduce
    """

    predictions: Predictions
    metrics: dict[str, Any]
    facts: dict[str, str]
    warnings: tuple[str, ...]
    command: str


#: The fact that says what besides the division differs from a run under the grouped protocol.
DIFFERS = "Differs from grouped"
