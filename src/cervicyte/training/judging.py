"""A plan carried out: each protocol cross-validated, then the model fitted on all cells."""

from __future__ import annotations

from dataclasses import dataclass

from cervicyte.base import progress
from cervicyte.data.cells import CellTable
from cervicyte.evaluation import metrics
from cervicyte.evaluation.cross_validation import cross_validate
from cervicyte.evaluation.results import Evaluation
from cervicyte.training import facts
from cervicyte.training.fitting import Model, fit_model
from cervicyte.training.plan import Plan, Trial


@dataclass(frozen=True)
class Judgement:
    """How good a recipe is, and the model for use.

    Attributes
    ----------
    evaluations : one for each trial of the plan, in its order
    model : fitted on all cells, or why it cannot be made, so that what was judged can be written first
    """

    evaluations: tuple[Evaluation, ...]
    model: Model | Exception


def judge_plan(plan: Plan, command: str = "") -> Judgement:
    """Cross-validate every trial of a plan, then fit the model on all cells.

    Parameters
    ----------
    command : how the run was started, for the report

    Raises
    ------
    DataError : a fold's training cells cannot be fitted
    """
    evaluations = tuple(evaluate_trial(plan, trial, command) for trial in plan.trials)
    progress.say("Fitting on all cells")
    return Judgement(evaluations, _fit_on_all(plan))


def evaluate_trial(plan: Plan, trial: Trial, command: str = "") -> Evaluation:
    """Cross-validate under one protocol."""
    protocol = trial.division.protocol
    notes: list[str] = []

    def fit(training: CellTable) -> Model:
        model = fit_model(training, trial.members, plan.recipe, plan.seed, protocol, plan.describer)
        notes.extend(model.notes)
        return model

    predictions = cross_validate(trial.cells, fit, trial.division)
    warnings = (*trial.warnings, *dict.fromkeys(notes))
    described = facts.describe(plan.cells, plan.recipe, trial.members, protocol, trial.division, plan.seed)
    scores = metrics.score(predictions, seed=plan.seed) | {"warnings": list(warnings)}
    return Evaluation(predictions, scores, described, warnings, command)


def _fit_on_all(plan: Plan) -> Model | Exception:
    protocols = [trial.division.protocol for trial in plan.trials]
    protocol = "grouped" if "grouped" in protocols else "random"
    try:
        return fit_model(plan.cells, plan.members, plan.recipe, plan.seed, protocol, plan.describer)
    except Exception as error:  # noqa: BLE001, it is raised again once the numbers are written
        return error
