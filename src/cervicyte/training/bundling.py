"""From a fitted model to its bundle: graphs, manifest, and the proof that the bundle says what the model says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cervicyte.audit import leakage
from cervicyte.base.progress import track
from cervicyte.bundle.folder import Bundle, save_bundle
from cervicyte.bundle.manifest import InputSpec, Manifest, MemberSpec
from cervicyte.data import splits
from cervicyte.data.cells import CellTable
from cervicyte.errors import BundleError, CervicyteError
from cervicyte.evaluation.results import Evaluation
from cervicyte.features import extraction
from cervicyte.training.fitting import Model
from cervicyte.training.judging import Judgement
from cervicyte.training.plan import Plan

#: Cells on which a new bundle is run once and compared with the head that it was made from.
_PROVED_ON = 32


def save(folder: Path, plan: Plan, judgement: Judgement) -> Bundle:
    """Write the bundle and prove on a few training cells that it says what the model says.

    The bundle speaks of the first evaluation that is honest, if there is one.

    Raises
    ------
    BundleError : it does not
    Exception : why the model could not be made
    """
    model = judgement.model
    if isinstance(model, Exception):
        raise model
    pairs = zip(model.members, model.temperatures, strict=True)
    graphs = [member.graph(temperature) for member, temperature in track(list(pairs), "Writing the model's graphs")]
    return save_bundle(
        folder,
        describe(plan, model, judgement.evaluations),
        graphs,
        leakage.training_cells(plan.cells),
        prove=lambda bundle: prove(bundle, model, plan.cells),
    )


def describe(plan: Plan, model: Model, evaluations: Sequence[Evaluation]) -> Manifest:
    """Compose the manifest of a fitted model."""
    members, recipe = plan.members, plan.recipe
    evaluation = honest(evaluations)
    specs: tuple[MemberSpec, ...] = ()
    if len(members) > 1:
        specs = tuple(MemberSpec(m.name, f"member-{i}.onnx", m.spec, m.precision) for i, m in enumerate(members, 1))
    training = {
        "facts": evaluation.facts,
        "recipe": recipe.to_json(),
        "seed": plan.seed,
        "temperature": model.temperatures[0] if len(members) == 1 else model.temperature,
        "weights": "; ".join(dict.fromkeys(m.weights for m in members)),
        "warnings": list(evaluation.warnings),
    }
    return Manifest(
        name=f"{recipe.name} on {plan.cells.name}",
        system=plan.cells.system,
        classes=model.classes,
        input=InputSpec("members") if specs else members[0].spec,
        limits=model.limits,
        precision=members[0].precision if len({m.precision for m in members}) == 1 else "mixed",
        training=training,
        scores=_scores(evaluations, evaluation),
        members=specs,
        combiner=model.combiner,
        temperature=model.temperature,
        quality=model.quality,
    )


def honest(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Choose the first evaluation whose protocol keeps groups apart, or the first where there is none."""
    kept_apart = (e for e in evaluations if splits.get_protocol(e.predictions.protocol).honest)
    return next(kept_apart, evaluations[0])


def _scores(evaluations: Sequence[Evaluation], shown: Evaluation) -> Mapping[str, Any]:
    """The scores that a bundle shows, and beside them those of the chosen protocol where these are others."""
    first = evaluations[0]
    if first is shown:
        return shown.metrics
    return {**shown.metrics, "compared": {first.predictions.protocol: first.metrics}}


def prove(bundle: Bundle, model: Model, cells: CellTable) -> None:
    """Run a bundle on a few cells and compare its vectors with those of the model that it was made from.

    Raises
    ------
    BundleError : they differ by more than the precision explains
    """
    rows = np.linspace(0, len(cells) - 1, min(_PROVED_ON, len(cells))).astype(int)
    some = cells.subset(rows)
    expected = model.votes(some).reshape(len(some), -1)
    if model.quality is not None and model.describer is not None:
        expected = np.concatenate([expected, np.nan_to_num(model.describer.of(some))], axis=1)
    extractor = bundle.extractor("float32" if bundle.manifest.precision == "float32" else None)
    worst = 0.0
    for i, vector in extraction.stream((c.image for c in some.cells), extractor, None):
        if isinstance(vector, CervicyteError):
            raise vector
        worst = max(worst, float((np.abs(vector - expected[i]) / np.maximum(np.abs(expected[i]), 1)).max()))
    bound = 1e-3 if bundle.manifest.precision == extractor.precision == "float32" else 0.05
    if worst > bound:
        raise BundleError(
            "the exported model does not say what the trained one says",
            f"probabilities differ by up to {worst:.4f}; the bound for {extractor.precision} is {bound}",
            "please report this",
        )
