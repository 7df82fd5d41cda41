"""All that a run has to say besides its bundle: numbers, predictions, folds, report, and what failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cervicyte.base.files import write_json
from cervicyte.evaluation import report
from cervicyte.runs.failures import failed_notes, write_failed, write_or_remove
from cervicyte.training.fitting import Model
from cervicyte.training.judging import Judgement
from cervicyte.training.plan import Plan, cell_name


def write_account(folder: Path, plan: Plan, judgement: Judgement) -> None:
    """Write metrics.json, predictions.csv, folds.json, recipe.json, report.html, figures, and where there are such
    training_curves.json and failed.json.

    Raises
    ------
    StorageError : the disk is full, read-only or not permitted
    """
    write_json(folder / "folds.json", folds_of(plan))
    write_json(folder / "recipe.json", plan.recipe.to_json())
    model = judgement.model if isinstance(judgement.model, Model) else None
    curves = {}
    if model is not None:
        curves = {m.name: f.curves for m, f in zip(plan.members, model.members, strict=True) if f.curves}
    write_or_remove(folder / "training_curves.json", curves)
    write_failed(folder, plan.failed)
    notes = [*plan.cells.notes, *(model.notes if model is not None else ()), *failed_notes(plan.failed)]
    report.write_report(
        judgement.evaluations,
        folder,
        notes=notes,
        audit=plan.audit.summary(),
        counts=plan.cells.counts(),
        curves=curves,
    )


def folds_of(plan: Plan) -> dict[str, Any]:
    """Give the contents of folds.json: the names of the cells, and each protocol's folds."""
    protocols = {}
    for trial in plan.trials:
        protocols[trial.division.protocol] = trial.division.to_json()
        if trial.cells is not plan.cells:  # its rows are the originals and their copies
            names = [cell_name(c.image) for c in trial.cells.cells]
            protocols[trial.division.protocol]["cells"] = names
    return {"cells": [cell_name(c.image) for c in plan.cells.cells], "protocols": protocols}
