"""A finished bundle tested on a labelled data set that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from cervicyte.audit import checks, leakage
from cervicyte.base import files
from cervicyte.base.files import printable
from cervicyte.base.versions import own_version
from cervicyte.bundle.folder import MANIFEST, TRAINING_CELLS, Bundle, Manifest
from cervicyte.data import splits
from cervicyte.data.cells import CellTable
from cervicyte.data.labels import BINARY, MAPS, LabelMap, LabelSystem, find_map
from cervicyte.decision.calibration import Answers, DecisionLimits
from cervicyte.decision.ensemble import uncertain_by_disagreement
from cervicyte.errors import CervicyteError, DataError, UsageError
from cervicyte.evaluation import metrics, report
from cervicyte.evaluation.cross_validation import judge
from cervicyte.evaluation.results import Evaluation
from cervicyte.features import extraction
from cervicyte.features.cache import FeatureCache
from cervicyte.runs.failures import failed_notes, write_failed


@dataclass(frozen=True)
class ExternalTest:
    """What `evaluate` made: the judgement, its folder, and the cells that could not be used."""

    folder: Path
    evaluation: Evaluation
    failed: Mapping[str, str]


@dataclass(frozen=True)
class BundleJudgement:
    """What `judge_bundle` says: the cells that could be read under comparable labels, the judgement, and the others."""

    cells: CellTable
    evaluation: Evaluation
    failed: Mapping[str, str]


@dataclass(frozen=True)
class _Fixed:
    """A predictor that already knows its answers, in the order of the table."""

    classes: tuple[str, ...]
    limits: DecisionLimits
    known: Answers

    def answers(self, cells: CellTable) -> Answers:
        return self.known


def evaluate(
    model: Bundle | Path | str,
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
    out = Path(out)
    files.check_folder(out)
    if (out / "bundle" / MANIFEST).is_file():
        raise UsageError("the folder holds the report of a training run", printable(out), "choose another --out")
    test = judge_bundle(model, cells, protocol=protocol, precision=precision, seed=seed, command=command)
    write_failed(out, test.failed)
    notes = [*test.cells.notes, *failed_notes(test.failed)]
    audit = checks.audit(test.cells).summary()
    report.write_report([test.evaluation], out, notes=notes, audit=audit, counts=test.cells.counts())
    return ExternalTest(out, test.evaluation, test.failed)


def judge_bundle(
    model: Bundle | Path | str,
    cells: CellTable,
    *,
    protocol: str = "grouped",
    precision: str | None = None,
    seed: int = 0,
    command: str = "",
) -> BundleJudgement:
    """Test a bundle on labelled cells of other slides, and write nothing; parameters and errors as for `evaluate`."""
    model = model if isinstance(model, Bundle) else Bundle.load(model)
    splits.get_protocol(protocol)
    splits.check_seed(seed)
    trained = leakage.load_training_cells(model.folder / TRAINING_CELLS)
    marks = leakage.check_external(cells, trained, protocol)
    extractor = model.extractor(precision)
    values, errors = extraction.extract(cells, extractor, FeatureCache(extractor.key))
    failed = {printable(cells.cells[i].path): e.one_line for i, e in sorted(errors.items())}
    good = np.array([i for i in range(len(cells)) if i not in errors], dtype=np.int64)
    if not len(good):
        raise DataError("no cell can be read", next(iter(failed.values()), "an empty table"))
    used, predictor = _comparable(cells.subset(good), model, model.answers(values[good]))
    # Another protocol was perhaps asked for, but cells that the model does not know make an honest test all the same.
    name = "external-leaking" if marks else "external"
    predictions = judge(predictor, used, name)
    warnings = (*_warnings(used, marks, predictor.classes), *_other_reading(cells, used))
    facts = _facts(used, model, extractor.precision, protocol, seed)
    scores = metrics.score(predictions, seed=seed) | {"warnings": list(warnings)}
    return BundleJudgement(used, Evaluation(predictions, scores, facts, warnings, command), failed)


def _comparable(cells: CellTable, model: Bundle, known: Answers) -> tuple[CellTable, _Fixed]:
    """Bring the labels to the model's system, or the model's probabilities to the labels' system."""
    m = model.manifest
    if set(cells.present) <= set(m.system.classes):
        # The same names, perhaps fewer or in another order. The model's reading of what is abnormal holds for
        # its operating point.
        return replace(cells, system=m.system), _Fixed(m.classes, m.limits, known)
    try:
        mapped = replace(cells.map_labels(_map_of(cells.system, model)), system=m.system)
        return mapped, _Fixed(m.classes, m.limits, known)
    except CervicyteError:
        pass
    if cells.system.abnormal is not None and cells.system.name not in {row.target.name for row in MAPS}:
        # Classes of the user's own: what both can say is normal or abnormal.
        cells = cells.map_labels(find_map(cells.system, BINARY.name))
    try:
        reached = _answers(m, cells.system.name)
    except CervicyteError as error:
        raise UsageError(
            "the labels of the data and those of the model cannot be compared",
            f"data: {cells.system.name} ({', '.join(cells.system.classes)}); model: {m.system.name}",
            "train a model with --target binary, or say with --normal which classes of the data are normal",
        ) from error
    columns = tuple(c for c in cells.system.classes if c in reached)
    return cells, _Fixed(columns, m.limits, _merged(known, reached, cells.system, columns, m.limits))


def _merged(
    known: Answers, reached: Sequence[str], system: LabelSystem, columns: Sequence[str], limits: DecisionLimits
) -> Answers:
    """Answers and votes under the classes that are reached, and the guard once more by what is abnormal there."""
    into = np.array([[r == c for c in columns] for r in reached], dtype=np.float64)
    probabilities = known.probabilities @ into
    if known.votes is None or len(columns) < 2:
        return Answers(probabilities, known.unsure, refused=known.refused)
    votes = known.votes @ into
    abnormal = None if system.abnormal is None else np.array([c in system.abnormal for c in columns])
    unsure = known.unsure | uncertain_by_disagreement(probabilities, votes, abnormal, limits)
    return Answers(probabilities, unsure, votes, known.refused)


def _answers(manifest: Manifest, system: str) -> list[str]:
    """What each class of the model is called in another label system."""
    if system == BINARY.name and manifest.abnormal_classes is not None:
        # By the model's own reading, for which its operating point was set.
        return ["abnormal" if flag else "normal" for flag in manifest.abnormal_classes]
    return find_map(manifest.system, system)(manifest.classes)


def _map_of(origin: LabelSystem, model: Bundle) -> LabelMap:
    """The map by which the model's own training labels were read, where it names one, else the usual one."""
    recipe = model.manifest.training.get("recipe")
    named = recipe.get("maps", ()) if isinstance(recipe, Mapping) else ()
    for row in MAPS:
        if row.name in named and row.origin.name == origin.name and row.target.name == model.manifest.system.name:
            return row
    return find_map(origin, model.manifest.system.name)


def _other_reading(before: CellTable, after: CellTable) -> tuple[str, ...]:
    """A warning where data and model call different ones of the same classes abnormal."""
    of_data, of_model = before.system.abnormal, after.system.abnormal
    if of_data is None or before.present != after.present or of_model is None:
        return ()
    other = [c for c in before.present if (c in of_data) != (c in of_model)]
    if not other:
        return ()
    return (f"Data and model do not agree whether {', '.join(other)} is abnormal; the model's reading is used.",)


def _warnings(cells: CellTable, marks: tuple[str, ...], classes: tuple[str, ...]) -> tuple[str, ...]:
    warnings = list(marks)
    if not cells.grouped:
        warnings.append("NO GROUPS: each image counts as its own group, so the intervals are narrower than the truth.")
    unknown = [c for c in cells.present if c not in classes]
    if unknown:
        warnings.append(f"The model never saw these classes and gets all of their cells wrong: {', '.join(unknown)}.")
    return tuple(warnings)


def _facts(cells: CellTable, model: Bundle, precision: str, protocol: str, seed: int) -> dict[str, str]:
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
        "cervicyte": own_version(),
        "Made": datetime.now(UTC).isoformat(timespec="seconds"),
    }
