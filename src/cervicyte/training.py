"""From a table of cells and a recipe to a bundle and an honest account of how good it is."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import cervicyte
from cervicyte import audit, bundle, features, files, gate, metrics, modelgraph, progress, report, settings, splits
from cervicyte.calibration import Limits, fit_limits, fit_temperature, softmax
from cervicyte.cells import CellTable
from cervicyte.crossvalidation import cross_validate
from cervicyte.errors import BundleError, CervicyteError, DataError, UsageError
from cervicyte.files import printable, write_json
from cervicyte.heads import LinearHead, fit_head
from cervicyte.images import Picture
from cervicyte.recipes import Recipe, load_recipe
from cervicyte.results import Evaluation, Predictions
from cervicyte.taxonomy import LabelMap, find_map, get_map

#: Folds where the data set did not come divided into train and test.
DEFAULT_FOLDS = 5

Extractor = features.NetworkExtractor | features.MorphologyExtractor

#: Cells on which a new bundle is run once and compared with the head that it was made from.
_PROVED_ON = 32


@dataclass(frozen=True)
class Run:
    """What `train` made.

    Attributes
    ----------
    folder : where metrics.json, predictions.csv, report.html, figures and bundle lie
    bundle : the model, fitted on all cells
    evaluations : the chosen protocol's first, then those compared with it
    failed : path and reason of each cell that could not be used
    """

    folder: Path
    bundle: bundle.Bundle
    evaluations: tuple[Evaluation, ...]
    failed: Mapping[str, str]


@dataclass(frozen=True)
class FeatureTable:
    """Features of cells, found again by where their pixels are."""

    values: np.ndarray
    rows: Mapping[Picture, int]

    def of(self, cells: CellTable) -> np.ndarray:
        """float32 (n, d) of the given cells."""
        return self.values[[self.rows[c.picture] for c in cells.cells]]


@dataclass(frozen=True)
class LinearModel:
    """A calibrated linear classifier over a feature table; the predictor that cross-validation judges."""

    classes: tuple[str, ...]
    head: LinearHead
    temperature: float
    limits: Limits
    table: FeatureTable

    def probabilities(self, cells: CellTable) -> np.ndarray:
        """Calibrated probabilities, float64 (n, k)."""
        return softmax(self.head.logits(self.table.of(cells)), self.temperature)


def fit_linear(cells: CellTable, table: FeatureTable, recipe: Recipe, seed: int, protocol: str) -> LinearModel:
    """Fit scaler, logistic regression, temperature, operating point and uncertain band on these cells alone.

    Raises
    ------
    DataError : fewer than two classes, or a class with a single group
    """
    classes = cells.present
    codes = np.searchsorted([cells.system.classes.index(c) for c in classes], cells.codes)
    values, strength = table.of(cells), recipe.C or None
    try:
        fitted = fit_head(values, codes, cells.groups, len(classes), C=strength, seed=seed, protocol=protocol)
    except DataError as error:
        raise splits.named(error, classes) from error
    temperature = fit_temperature(fitted.oof_logits, codes)
    abnormal = None
    if cells.system.abnormal is not None:
        abnormal = np.array([c in cells.system.abnormal for c in classes])
    probabilities = softmax(fitted.oof_logits, temperature)
    limits = fit_limits(probabilities, codes, abnormal, recipe.sensitivity, recipe.max_risk)
    return LinearModel(classes, fitted.head, temperature, limits, table)


def train(
    cells: CellTable,
    out: Path | str,
    recipe: Recipe | str | Path = "morphology-lr",
    *,
    protocol: str = "grouped",
    folds: int | None = None,
    holdout: bool = False,
    compare: Sequence[str] = (),
    weights: str | None = None,
    precision: str | None = None,
    seed: int = 0,
    join_duplicates: bool = False,
    command: str = "",
) -> Run:
    """Cross-validate a recipe on cells, then fit it on all of them and write the bundle and the report.

    Parameters
    ----------
    cells : from `cervicyte.load`
    out : the run's folder; what an earlier run left there is replaced when the new one is done
    recipe : a recipe, the name of one that ships, or a TOML file
    protocol : "grouped" (honest), "random" or "as-published" (both marked in every output)
    folds : number of folds; None takes the data set's own train/test division if it has one, else 5
    holdout : judge only the first fold (with five folds: the 80/20 split)
    compare : other protocols to run beside the first
    weights : file or folder with pretrained weights, or "random"
    precision : "auto", "float32" or "bfloat16"; None takes the setting
    seed : of folds and augmentation
    join_duplicates : make one group of groups that share near duplicates, instead of refusing

    Raises
    ------
    LeakageError : an honest protocol's test cells share a group or a near duplicate with training cells
    DataError, UsageError, MissingError, StorageError : as their messages say
    """
    out = Path(out)
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    protocols = tuple(dict.fromkeys((protocol, *compare)))
    for name in protocols:
        splits.get_protocol(name)
    splits.check_seed(seed)
    settings.check_all()
    _check_options(recipe, precision)
    cells = targeted(cells, recipe)
    # What cannot be divided or written is told now, not after the features of a hundred thousand cells.
    files.check_folder(out)
    for name in protocols:
        if name != "as-published":
            divide(cells, name, folds, seed, holdout)
    extractor = features.make_extractor(
        recipe.backbone,
        weights=weights,
        size=recipe.size or None,
        fit=recipe.fit,
        chain=recipe.filters,
        layer=recipe.layer or None,
        orientations=recipe.orientations,
        precision=precision,
        preprocessing=recipe.preprocess or None,
        seed=seed,
    )
    everything = splits.augmented(cells, recipe.copies) if "as-published" in protocols else cells
    table, failed = extract_table(everything, extractor)
    cells = readable(cells, table)
    audited = audit.audit(cells)
    pairs = audited.pairs
    if join_duplicates:
        cells = gate.joined(cells, pairs)

    def fit_with(name: str) -> Any:
        return lambda training: fit_linear(training, table, recipe, seed, name)

    evaluations = []
    saved_folds = {}
    options = {"protocol": protocol, "folds": folds, "holdout": holdout, "compare": tuple(compare), "weights": weights}
    options |= {"precision": precision, "seed": seed, "join_duplicates": join_duplicates}
    command = command or _python_command(recipe, options)
    for name in protocols:
        pool = readable(splits.augmented(cells, recipe.copies), table) if name == "as-published" else cells
        division = divide(pool, name, folds, seed, holdout)
        leaks = gate.check(pool, division, pairs if pool is cells else [])
        predictions = cross_validate(pool, fit_with(name), division)
        facts = describe(cells, recipe, extractor, name, division, seed)
        warnings = (*warn(name, cells), *leaks)
        evaluations.append(Evaluation(predictions, _scored(predictions, warnings, seed), facts, warnings, command))
        saved_folds[name] = division.to_json()
        if pool is not cells:  # its rows are the originals and their copies
            saved_folds[name]["cells"] = [_cell_name(c.picture) for c in pool.cells]

    progress.say("Fitting on all cells")
    final = fit_linear(cells, table, recipe, seed, "grouped" if protocol == "grouped" else "random")
    made = save(out / "bundle", final, cells, recipe, extractor, evaluations[0], seed)
    write_json(out / "folds.json", {"cells": [_cell_name(c.picture) for c in cells.cells], "protocols": saved_folds})
    write_json(out / "recipe.json", recipe.to_json())
    write_failed(out, failed)
    notes = [*cells.notes, *(f"Not used: {path}: {reason}" for path, reason in failed.items())]
    report.write_report(evaluations, out, notes=notes, audit=audited.summary(), counts=cells.counts())
    return Run(out, made, tuple(evaluations), failed)


def write_failed(out: Path, failed: Mapping[str, str]) -> None:
    """Write failed.json, or remove the one of an earlier run where nothing failed now."""
    if failed:
        write_json(out / "failed.json", failed)
    else:
        (out / "failed.json").unlink(missing_ok=True)


def _check_options(recipe: Recipe, precision: str | None) -> None:
    """Refuse what would otherwise be ignored in silence."""
    if precision not in (None, "auto", "float32", "bfloat16"):
        raise UsageError("unknown precision", repr(precision), "there are: auto, float32, bfloat16")
    if recipe.backbone.lower() == "morphology" and (recipe.size or recipe.fit != "stretch" or recipe.orientations != 1):
        raise UsageError(
            "morphology measures a cell as it is; size, fit and orientations do nothing",
            f"size {recipe.size}, fit {recipe.fit}, orientations {recipe.orientations}",
            "leave them out",
        )


def targeted(cells: CellTable, recipe: Recipe) -> CellTable:
    """The cells under the recipe's target label system, in the reading of abnormal that it asks for."""
    preferred = [get_map(name) for name in recipe.maps]
    mine = [m for m in preferred if m.origin.name == cells.system.name]
    if recipe.target == "native":
        binary = [m for m in mine if m.target.name == "binary"]
        return _read_as(cells, binary[0]) if binary else cells
    if recipe.target == cells.system.name:
        return cells
    chosen = [m for m in mine if m.target.name == recipe.target]
    return cells.map_labels(chosen[0] if chosen else find_map(cells.system, recipe.target))


def _read_as(cells: CellTable, label_map: LabelMap) -> CellTable:
    abnormal = frozenset(c for c, to in label_map.table.items() if to == "abnormal")
    return replace(cells, system=replace(cells.system, abnormal=abnormal))


def extract_table(cells: CellTable, extractor: Extractor) -> tuple[FeatureTable, dict[str, str]]:
    """Features of all cells that can be read, and the reason for each that cannot.

    Raises
    ------
    DataError : none can be read
    """
    values, errors = features.extract(cells, extractor, features.FeatureCache(extractor.key))
    good = [i for i in range(len(cells)) if i not in errors]
    failed = {printable(cells.cells[i].path): error.one_line for i, error in sorted(errors.items())}
    if not good:
        raise DataError("no cell can be read", f"{len(cells)} cells; the first: {next(iter(failed.values()), '')}")
    return FeatureTable(values, {cells.cells[i].picture: i for i in good}), failed


def readable(cells: CellTable, table: FeatureTable) -> CellTable:
    """The cells that have features."""
    return cells.subset(np.array([c.picture in table.rows for c in cells.cells], dtype=bool))


def divide(cells: CellTable, protocol: str, folds: int | None, seed: int, holdout: bool) -> splits.Folds:
    """Folds by the protocol, or the data set's own division if it has one and no number was given."""
    given = np.array([c.split for c in cells.cells], dtype=object)
    if folds is None and protocol == "grouped" and {"train", "test"} <= set(given):
        rows = np.arange(len(cells))
        return splits.Folds(protocol, seed, (rows[given != "test"],), (rows[given == "test"],))
    made = splits.make_folds(cells, protocol, DEFAULT_FOLDS if folds is None else folds, seed)
    return splits.holdout(made) if holdout else made


def warn(protocol: str, cells: CellTable) -> tuple[str, ...]:
    """What a reader of the numbers must know, in words."""
    found = []
    if splits.get_protocol(protocol).warning:
        found.append(splits.get_protocol(protocol).warning)
    if not cells.grouped:
        found.append(
            "NO GROUPS: nothing told which images come from one slide or patient, so each image counts as its own "
            "group. If siblings are among them, these numbers are optimistic. Use --group-from or --groups."
        )
    return tuple(found)


def weights_words(extractor: Extractor) -> str:
    """Where the features' weights come from, in words."""
    if isinstance(extractor, features.MorphologyExtractor):
        return "none needed"
    if extractor.weights is None:
        return f"{extractor.backbone.name} (SHA-256 {extractor.record['source_sha256'][:12]})"
    return extractor.weights.description


def describe(
    cells: CellTable,
    recipe: Recipe,
    extractor: Extractor,
    protocol: str,
    folds: splits.Folds,
    seed: int,
) -> dict[str, str]:
    """The facts of a run, in the order in which the report shows them."""
    fixed = f"fixed at {recipe.C:g}" if recipe.C else "chosen by inner folds of the training cells"
    return {
        "Data set": cells.name,
        "Cells": str(len(cells)),
        "Groups": str(len(set(cells.groups))) if cells.grouped else "unknown",
        "Label system": cells.system.name,
        "Protocol": protocol,
        "Folds": str(len(folds)),
        "Recipe": recipe.name,
        "Backbone": recipe.backbone,
        "Weights": weights_words(extractor),
        "Layer": recipe.layer or "last",
        "Orientations averaged": str(recipe.orientations),
        "Filters": ", ".join(recipe.filters) or "none",
        "C": fixed,
        "Operating point": f"set for {recipe.sensitivity:.0%} sensitivity on out-of-fold training cells",
        "Uncertain band": f"set for at most {recipe.max_risk:.0%} errors among answered training cells, out of fold",
        "Precision": extractor.precision,
        "Seed": str(seed),
        "Data fingerprint": cells.fingerprint,
        "cervicyte": cervicyte.__version__,
        "Python": platform.python_version(),
        "Made": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def save(
    folder: Path,
    model: LinearModel,
    cells: CellTable,
    recipe: Recipe,
    extractor: Extractor,
    evaluation: Evaluation,
    seed: int,
) -> bundle.Bundle:
    """Write the bundle and prove on a few training cells that it says what the model says.

    Raises
    ------
    BundleError : it does not
    """
    if isinstance(extractor, features.NetworkExtractor):
        graph = modelgraph.network_graph(extractor.onnx_path, model.head, model.temperature)
        spec = bundle.InputSpec("image", extractor.size, recipe.fit, recipe.filters)
    else:
        graph = modelgraph.measurements_graph(model.head, model.temperature)
        spec = bundle.InputSpec("measurements", 0, recipe.fit, recipe.filters, extractor.names)
    manifest = bundle.Manifest(
        f"{recipe.name} on {cells.name}",
        cells.system,
        model.classes,
        spec,
        model.limits,
        extractor.precision,
        {
            "facts": evaluation.facts,
            "recipe": recipe.to_json(),
            "seed": seed,
            "C": model.head.C,
            "temperature": model.temperature,
            "weights": weights_words(extractor),
            "warnings": list(evaluation.warnings),
        },
        evaluation.metrics,
    )
    return bundle.save_bundle(
        folder, manifest, graph, gate.training_cells(cells), prove=lambda made: _prove(made, model, cells)
    )


def _prove(made: bundle.Bundle, model: LinearModel, cells: CellTable) -> None:
    rows = np.linspace(0, len(cells) - 1, min(_PROVED_ON, len(cells))).astype(int)
    some = cells.subset(rows)
    expected = model.probabilities(some)
    extractor = made.extractor(made.manifest.precision)
    worst = 0.0
    for i, found in features.stream((c.picture for c in some.cells), extractor, None):
        if isinstance(found, CervicyteError):
            raise found
        worst = max(worst, float(np.abs(found - expected[i]).max()))
    bound = 0.05 if extractor.precision == "bfloat16" else 1e-3
    if worst > bound:
        raise BundleError(
            "the exported model does not say what the trained one says",
            f"probabilities differ by up to {worst:.4f}; the bound for {extractor.precision} is {bound}",
            "please report this",
        )


def _scored(predictions: Predictions, warnings: Sequence[str], seed: int) -> dict[str, Any]:
    return metrics.score(predictions, seed=seed) | {"warnings": list(warnings)}


def _cell_name(picture: Picture) -> str:
    box = "" if picture.box is None else f"#{','.join(map(str, picture.box))}"
    return printable(picture.path) + box + (f" copy {picture.variant}" if picture.variant else "")


def _python_command(recipe: Recipe, options: Mapping[str, Any]) -> str:
    given = "".join(f", {name}={value!r}" for name, value in options.items() if value not in (None, False, ()))
    return f"cervicyte.train(cells, out, {recipe.name!r}{given})"
