"""From a fitted model to its bundle: graphs, manifest, and the proof that the bundle says what the model says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cervicyte.audit import leakage
from cervicyte.base.progress import track
from cervicyte.bundle import folder as bundle
from cervicyte.data import splits
from cervicyte.data.cells import CellTable
from cervicyte.errors import BundleError, CervicyteError
from cervicyte.evaluation.results import Evaluation
from cervicyte.features import extraction
from cervicyte.training.fitting import Model
from cervicyte.training.members import Member
from cervicyte.training.recipes import Recipe

#: Cells on which a new bundle is run once and compared with the head that it was made from.
_PROVED_ON = 32


def save(
    folder: Path,
    model: Model,
    members: Sequence[Member],
    cells: CellTable,
    recipe: Recipe,
    evaluations: Sequence[Evaluation],
    seed: int,
) -> bundle.Bundle:
    """Write the bundle and prove on a few training cells that it says what the model says.

    Parameters
    ----------
    evaluations : the chosen protocol's first; the bundle speaks of the first that is honest, if there is one

    Raises
    ------
    BundleError : it does not
    """
    evaluation = honest(evaluations)
    pairs = zip(model.members, model.temperatures, strict=True)
    graphs = [member.graph(temperature) for member, temperature in track(list(pairs), "Writing the model's graphs")]
    specs: tuple[bundle.MemberSpec, ...] = ()
    if len(members) > 1:
        specs = tuple(
            bundle.MemberSpec(m.name, f"member-{i}.onnx", m.spec, m.precision) for i, m in enumerate(members, 1)
        )
    manifest = bundle.Manifest(
        f"{recipe.name} on {cells.name}",
        cells.system,
        model.classes,
        bundle.InputSpec("members") if specs else members[0].spec,
        model.limits,
        members[0].precision if len({m.precision for m in members}) == 1 else "mixed",
        {
            "facts": evaluation.facts,
            "recipe": recipe.to_json(),
            "seed": seed,
            "temperature": model.temperatures[0] if len(members) == 1 else model.temperature,
            "weights": "; ".join(dict.fromkeys(m.weights for m in members)),
            "warnings": list(evaluation.warnings),
        },
        _scores(evaluations, evaluation),
        specs,
        model.combiner,
        model.temperature,
        model.quality,
    )
    return bundle.save_bundle(
        folder, manifest, graphs, leakage.training_cells(cells), prove=lambda made: _prove(made, model, cells)
    )


def honest(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The first evaluation whose protocol keeps groups apart, or the first where there is none."""
    kept_apart = (e for e in evaluations if splits.get_protocol(e.predictions.protocol).honest)
    return next(kept_apart, evaluations[0])


def _scores(evaluations: Sequence[Evaluation], shown: Evaluation) -> Mapping[str, Any]:
    """The scores that a bundle shows, and beside them those of the chosen protocol where these are others."""
    first = evaluations[0]
    if first is shown:
        return shown.metrics
    return {**shown.metrics, "compared": {first.predictions.protocol: first.metrics}}


def _prove(made: bundle.Bundle, model: Model, cells: CellTable) -> None:
    rows = np.linspace(0, len(cells) - 1, min(_PROVED_ON, len(cells))).astype(int)
    some = cells.subset(rows)
    expected = model.votes(some).reshape(len(some), -1)
    if model.quality is not None and model.describer is not None:
        expected = np.concatenate([expected, np.nan_to_num(model.describer.of(some))], axis=1)
    extractor = made.extractor("float32" if made.manifest.precision == "float32" else None)
    worst = 0.0
    for i, found in extraction.stream((c.picture for c in some.cells), extractor, None):
        if isinstance(found, CervicyteError):
            raise found
        worst = max(worst, float((np.abs(found - expected[i]) / np.maximum(np.abs(expected[i]), 1)).max()))
    bound = 1e-3 if made.manifest.precision == extractor.precision == "float32" else 0.05
    if worst > bound:
        raise BundleError(
            "the exported model does not say what the trained one says",
            f"probabilities differ by up to {worst:.4f}; the bound for {extractor.precision} is {bound}",
            "please report this",
        )
