"""One fold's model: members fitted on training cells, combined, calibrated, and limited to what it knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cervicyte.data import splits
from cervicyte.data.cells import CellTable
from cervicyte.data.splits import Folds
from cervicyte.decision import ensemble
from cervicyte.decision.calibration import Answers, DecisionLimits, fit_limits, fit_temperature, softmax, tempered
from cervicyte.decision.ensemble import Combiner, fit_combiner
from cervicyte.decision.linear import inner_folds
from cervicyte.decision.quality import QualityModel, fit_quality, verdicts
from cervicyte.errors import DataError
from cervicyte.features.descriptor_table import Describer
from cervicyte.training.members import Fitted, Member
from cervicyte.training.recipes import Recipe

_NO_PROMISE = (
    "A sensitivity of {:.0%} cannot be promised with so few abnormal cells or groups: the operating point "
    "keeps it on average only."
)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A calibrated classifier; the predictor that cross-validation judges.

    Attributes
    ----------
    classes : columns of the probabilities
    members : at least one
    temperatures : of each member's logits
    combiner : how several members become one answer; None for a single member
    temperature : of the combined answer; 1 for a single member
    limits : operating point and uncertain band
    abnormal_classes : bool (k,), or None where that is not defined
    notes : what a reader should know of the fit
    quality, describer : what cells look like, and the descriptors of all cells; None where that is not checked
    """

    classes: tuple[str, ...]
    members: tuple[Fitted, ...]
    temperatures: tuple[float, ...]
    combiner: Combiner | None
    temperature: float
    limits: DecisionLimits
    abnormal_classes: np.ndarray | None
    notes: tuple[str, ...] = ()
    quality: QualityModel | None = None
    describer: Describer | None = None

    def votes(self, cells: CellTable) -> np.ndarray:
        """Calibrated probabilities of each member, float64 (n, m, k)."""
        both = zip(self.members, self.temperatures, strict=True)
        return np.stack([softmax(member.logits(cells), t) for member, t in both], axis=1)

    def answers(self, cells: CellTable) -> Answers:
        """Calibrated probabilities, the cells on which members disagree too much, and those that are refused."""
        known = ensemble.answer(self.votes(cells), self.combiner, self.temperature, self.abnormal_classes, self.limits)
        if self.quality is None or self.describer is None:
            return known
        return known.refusing(verdicts(self.quality, self.describer.of(cells)))


def fit_model(
    cells: CellTable,
    members: Sequence[Member],
    recipe: Recipe,
    seed: int,
    protocol: str,
    describer: Describer | None = None,
) -> Model:
    """Fit members, combination, temperatures, operating point, uncertain band and image quality on these cells alone.

    Parameters
    ----------
    describer : knows the descriptors of all cells; None makes a model that answers for any image

    Raises
    ------
    DataError : fewer than two classes, or a class with a single group
    """
    classes = cells.present
    codes = np.searchsorted([cells.system.classes.index(c) for c in classes], cells.codes)
    try:
        folds = _inner(cells, codes, recipe, seed, protocol)
        fitted = tuple(member.fit(cells, codes, len(classes), seed, folds) for member in members)
        held = np.all([np.isfinite(f.oof).all(axis=1) for f in fitted], axis=0)
        truth, groups = codes[held], cells.groups[held]
        temperatures = tuple(fit_temperature(f.oof[held], truth) for f in fitted)
        votes = np.stack([softmax(f.oof[held], t) for f, t in zip(fitted, temperatures, strict=True)], axis=1)
        combiner, temperature, probabilities = None, 1.0, votes[:, 0]
        notes: tuple[str, ...] = ()
        if len(fitted) > 1:
            combination = fit_combiner(recipe.rule, votes, truth, groups, seed, protocol)
            combiner, notes = combination.combiner, (combination.note,) if combination.note else ()
            temperature = fit_temperature(np.log(combination.oof), truth)
            probabilities = tempered(combination.oof, temperature)
    except DataError as error:
        raise splits.named(error, classes) from error
    abnormal = None
    if cells.system.abnormal is not None:
        abnormal = np.array([c in cells.system.abnormal for c in classes])
    limits = fit_limits(probabilities, truth, abnormal, recipe.sensitivity, recipe.max_risk, groups=groups)
    if combiner is not None:  # the band is for the cells that the members' votes leave open
        unsure = ensemble.uncertain_by_disagreement(probabilities, votes, abnormal, limits)
        limits = fit_limits(probabilities, truth, abnormal, recipe.sensitivity, recipe.max_risk, unsure, groups)
    if abnormal is not None and limits.confidence is None:
        notes += (_NO_PROMISE.format(limits.sensitivity),)
    quality = None
    if describer is not None:
        quality, note = fit_quality(describer.of(cells), cells.groups)
        notes += (note,) if note else ()
    return Model(
        classes=classes,
        members=fitted,
        temperatures=temperatures,
        combiner=combiner,
        temperature=temperature,
        limits=limits,
        abnormal_classes=abnormal,
        notes=notes,
        quality=quality,
        describer=describer,
    )


def _inner(cells: CellTable, codes: np.ndarray, recipe: Recipe, seed: int, protocol: str) -> Folds:
    if protocol == "as-published" and recipe.published_validation:
        share = recipe.published_validation / (1 - recipe.published_test)
        return splits.random_split(codes, share, seed, protocol)
    return inner_folds(codes, cells.groups, seed, protocol, most=recipe.inner_folds)
