"""A finished bundle tested on a labelled data set that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import cervicyte
from cervicyte import audit, bundle, features, gate, metrics, report, splits
from cervicyte.calibration import Limits
from cervicyte.cells import CellTable
from cervicyte.crossvalidation import judge
from cervicyte.errors import CervicyteError, DataError, UsageError
from cervicyte.files import printable, write_json
from cervicyte.results import Evaluation
from cervicyte.taxonomy import find_map


@dataclass(frozen=True)
class ExternalTest:
    """What `evaluate` made: the judgement, its folder, and the cells that could not be used."""

    folder: Path
    evaluation: Evaluation
    failed: Mapping[str, str]


@dataclass(frozen=True)
class _Fixed:
    """A predictor that already knows its answers, in the order of the table."""

    classes: tuple[str, ...]
    limits: Limits
    values: np.ndarray

    def probabilities(self, cells: CellTable) -> np.ndarray:
        return self.values


def evaluate(
    model: bundle.Bundle | Path | str,
    cells: CellTable,
    out: Path | str,
    *,
    protocol: str = "grouped",
    precision: str | None = None,
    seed: int = 0,
    command: str = "",
) -> ExternalTest:
    """Test a bundle on labelled cells of other slides, and write metrics, predictions and report.

    Labels of another system are mapped to the model's where a map exists, and the model's
    probabilities to theirs otherwise; what cannot be compared is refused.

    Raises
    ------
    LeakageError : the model knows some of these cells and the protocol is "grouped"
    UsageError : no map between the label systems
    DataError : none of the cells can be read
    """
    model = model if isinstance(model, bundle.Bundle) else bundle.Bundle.load(model)
    out = Path(out)
    splits.get_protocol(protocol)
    trained = gate.load_training_cells(model.folder / bundle.TRAINING_CELLS)
    marks = gate.check_external(cells, trained, protocol)
    extractor = model.extractor(precision)
    values, errors = features.extract(cells, extractor, features.FeatureCache(extractor.key))
    failed = {printable(cells.cells[i].path): e.one_line for i, e in sorted(errors.items())}
    good = np.array([i for i in range(len(cells)) if i not in errors], dtype=np.int64)
    if not len(good):
        raise DataError("no cell can be read", next(iter(failed.values()), "an empty table"))
    used = cells.subset(good)
    used, predictor = _comparable(used, model, values[good].astype(np.float64))
    name = "external" if splits.get_protocol(protocol).honest else protocol
    predictions = judge(predictor, used, name)
    warnings = _warnings(used, marks, protocol, model)
    facts = _facts(used, model, extractor.precision, protocol, seed)
    scores = metrics.score(predictions, seed=seed) | {"warnings": list(warnings)}
    evaluation = Evaluation(predictions, scores, facts, warnings, command)
    if failed:
        write_json(out / "failed.json", failed)
    notes = [*used.notes, *(f"Not used: {path}: {reason}" for path, reason in failed.items())]
    report.write_report([evaluation], out, notes=notes, audit=audit.audit(used).summary(), counts=used.counts())
    return ExternalTest(out, evaluation, failed)


def _comparable(cells: CellTable, model: bundle.Bundle, values: np.ndarray) -> tuple[CellTable, _Fixed]:
    """Bring the labels to the model's system, or the model's probabilities to the labels' system."""
    m = model.manifest
    if cells.system.classes == m.system.classes:
        # The model's reading of what is abnormal holds for its operating point.
        cells = CellTable(cells.cells, m.system, cells.name, cells.notes, cells.grouped)
        return cells, _Fixed(m.classes, m.limits, values)
    try:
        return cells.map_labels(find_map(cells.system, m.system.name)), _Fixed(m.classes, m.limits, values)
    except CervicyteError:
        pass
    try:
        label_map = find_map(m.system, cells.system.name)
    except CervicyteError as error:
        raise UsageError(
            "the labels of the data and those of the model cannot be compared",
            f"data: {cells.system.name} ({', '.join(cells.system.classes)}); model: {m.system.name}",
            "train a model with --target binary, or map the labels of the data",
        ) from error
    reached = label_map(m.classes)
    columns = tuple(c for c in label_map.target.classes if c in reached)
    merged = np.stack([values[:, [r == c for r in reached]].sum(axis=1) for c in columns], axis=1)
    return cells, _Fixed(columns, m.limits, merged)


def _warnings(cells: CellTable, marks: tuple[str, ...], protocol: str, model: bundle.Bundle) -> tuple[str, ...]:
    found = list(marks)
    if splits.get_protocol(protocol).warning and not marks:
        found.append(splits.get_protocol(protocol).warning)
    if not cells.grouped:
        found.append("NO GROUPS: each image counts as its own group, so the intervals are narrower than the truth.")
    unknown = [c for c in cells.present if c not in model.classes and cells.system.name == model.manifest.system.name]
    if unknown:
        found.append(f"The model never saw these classes and gets all of their cells wrong: {', '.join(unknown)}.")
    return tuple(found)


def _facts(cells: CellTable, model: bundle.Bundle, precision: str, protocol: str, seed: int) -> dict[str, str]:
    return {
        "Data set": cells.name,
        "Cells": str(len(cells)),
        "Groups": str(len(set(cells.groups))) if cells.grouped else "unknown",
        "Label system": cells.system.name,
        "Protocol": f"external test ({protocol})",
        "Model": model.manifest.name,
        "Model SHA-256": model.graph_sha256,
        "Precision": precision,
        "Seed": str(seed),
        "Data fingerprint": cells.fingerprint,
        "cervicyte": cervicyte.__version__,
        "Made": datetime.now(UTC).isoformat(timespec="seconds"),
    }
