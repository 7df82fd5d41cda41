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
from cervicyte import audit, bundle, features, files, gate, metrics, progress, report, settings, splits
from cervicyte.assembly import make_members
from cervicyte.backbones import get_backbone, has_weights
from cervicyte.cells import CellTable
from cervicyte.crossvalidation import cross_validate
from cervicyte.described import Describer
from cervicyte.ensemble import get_rule
from cervicyte.errors import BundleError, CervicyteError, UsageError
from cervicyte.files import printable, write_json
from cervicyte.fitting import Model, fit_model
from cervicyte.images import Picture
from cervicyte.members import Member
from cervicyte.progress import track
from cervicyte.recipes import Part, Recipe, load_recipe
from cervicyte.results import Evaluation, Predictions
from cervicyte.taxonomy import LabelMap, find_map, get_map

#: Folds where the data set did not come divided into train and test.
DEFAULT_FOLDS = 5

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


def train(
    cells: CellTable,
    out: Path | str,
    recipe: Recipe | str | Path = "morphology-lr",
    *,
    protocol: str = "grouped",
    folds: int | None = None,
    holdout: bool = False,
    compare: Sequence[str] | None = None,
    weights: str | None = None,
    precision: str | None = None,
    seed: int = 0,
    join_duplicates: bool = False,
    crops: Sequence[Path | str] = (),
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
    compare : other protocols to run beside the first; None runs "grouped" beside "as-published", so that the
        honest number is never missing there
    weights : file or folder with pretrained weights, or "random"
    precision : "auto", "float32" or "bfloat16"; None takes the setting
    seed : of folds and augmentation
    join_duplicates : make one group of groups that share near duplicates, instead of refusing
    crops : folders of whole fields of view, from which crops are cut, without labels, for a recipe that distils

    Raises
    ------
    LeakageError : an honest protocol's test cells share a group or a near duplicate with training cells
    DataError, UsageError, MissingError, StorageError : as their messages say
    """
    out = Path(out)
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    beside = (("grouped",) if protocol == "as-published" else ()) if compare is None else tuple(compare)
    protocols = tuple(dict.fromkeys((protocol, *beside)))
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
    parts, replaced = _at_hand(recipe, weights)
    members = make_members(parts, weights, precision, seed, recipe.copies_by, crops)
    failed: dict[str, str] = {}
    for member in members:
        failed |= member.read(cells)
    cells = _known(cells, members)
    describer = Describer(recipe.copies_by, seed)
    describer.read(cells)
    audited = audit.audit(cells)
    pairs = audited.pairs
    if join_duplicates:
        cells = gate.joined(cells, pairs)

    evaluations = []
    saved_folds = {}
    options = {"protocol": protocol, "folds": folds, "holdout": holdout, "compare": compare, "weights": weights}
    options |= {"precision": precision, "seed": seed, "join_duplicates": join_duplicates}
    options |= {"crops": tuple(map(str, crops))}
    command = command or _python_command(recipe, options)
    for name in protocols:
        pool, judged = cells, members
        if name == "as-published":
            pool, judged = _copied(cells, parts, recipe, weights, precision, seed, crops)
        division = divide(pool, name, folds, seed, holdout, recipe.published_test)
        leaks = gate.check(pool, division, pairs if pool is cells else [])
        told: list[str] = []
        describer.read(pool)
        predictions = cross_validate(pool, _fit_with(judged, recipe, seed, name, told, describer), division)
        facts = describe(cells, recipe, judged, name, division, seed)
        warnings = (*warn(name, cells), *leaks, *replaced, *dict.fromkeys(told))
        evaluations.append(Evaluation(predictions, _scored(predictions, warnings, seed), facts, warnings, command))
        saved_folds[name] = division.to_json()
        if pool is not cells:  # its rows are the originals and their copies
            saved_folds[name]["cells"] = [_cell_name(c.picture) for c in pool.cells]

    progress.say("Fitting on all cells")
    final = fit_model(cells, members, recipe, seed, "grouped" if "grouped" in protocols else "random", describer)
    made = save(out / "bundle", final, members, cells, recipe, evaluations[0], seed)
    write_json(out / "folds.json", {"cells": [_cell_name(c.picture) for c in cells.cells], "protocols": saved_folds})
    write_json(out / "recipe.json", recipe.to_json())
    curves = {m.name: f.curves for m, f in zip(members, final.members, strict=True) if f.curves}
    _write_or_remove(out / "training_curves.json", curves)
    write_failed(out, failed)
    notes = [*cells.notes, *final.notes, *(f"Not used: {path}: {reason}" for path, reason in failed.items())]
    report.write_report(evaluations, out, notes=notes, audit=audited.summary(), counts=cells.counts(), curves=curves)
    return Run(out, made, tuple(evaluations), failed)


def _at_hand(recipe: Recipe, weights: str | None) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """The recipe's members, stand-ins where weights are not at hand, and a warning for each of these."""
    parts, replaced = [], []
    for part in recipe.parts:
        if part.stand_in is not None and not has_weights(part.backbone, weights):
            replaced.append(
                f"STAND-IN: the pretrained weights of {part.backbone} are not at hand, so {part.stand_in.name!r} takes "
                f"the place of {part.name!r}."
            )
            part = part.stand_in
        parts.append(part)
    return tuple(parts), tuple(replaced)


def _copied(
    cells: CellTable,
    parts: Sequence[Part],
    recipe: Recipe,
    weights: str | None,
    precision: str | None,
    seed: int,
    crops: Sequence[Path | str],
) -> tuple[CellTable, tuple[Member, ...]]:
    """Every cell with its copies, and members that have read them all and make no copies of their own."""
    plain = [replace(p, variants=0, orientations=1) if p.method == "finetune" else p for p in parts]
    members = make_members(plain, weights, precision, seed, recipe.copies_by, crops)
    pool = splits.augmented(cells, recipe.copies)
    for member in members:
        member.read(pool)
    return _known(pool, members), members


def _known(cells: CellTable, members: Sequence[Member]) -> CellTable:
    """The cells that every member could read."""
    return cells.subset(np.all([member.has(cells) for member in members], axis=0))


def _fit_with(
    members: Sequence[Member], recipe: Recipe, seed: int, protocol: str, told: list[str], describer: Describer
) -> Any:
    """What cross-validation calls once a fold; what the fits have to say is gathered in ``told``."""

    def fit(training: CellTable) -> Model:
        model = fit_model(training, members, recipe, seed, protocol, describer)
        told.extend(model.notes)
        return model

    return fit


def write_failed(out: Path, failed: Mapping[str, str]) -> None:
    """Write failed.json, or remove the one of an earlier run where nothing failed now."""
    _write_or_remove(out / "failed.json", failed)


def _write_or_remove(path: Path, contents: Mapping[str, Any]) -> None:
    if contents:
        write_json(path, contents)
    else:
        path.unlink(missing_ok=True)


def _check_options(recipe: Recipe, precision: str | None) -> None:
    """Refuse what would otherwise be ignored in silence."""
    if precision not in (None, "auto", "float32", "bfloat16"):
        raise UsageError("unknown precision", repr(precision), "there are: auto, float32, bfloat16")
    for part in recipe.parts:
        if part.backbone.lower() == "morphology" and (part.size or part.fit != "stretch" or part.orientations != 1):
            raise UsageError(
                "morphology measures a cell as it is; size, fit and orientations do nothing",
                f"size {part.size}, fit {part.fit}, orientations {part.orientations}",
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


def divide(
    cells: CellTable, protocol: str, folds: int | None, seed: int, holdout: bool, published_test: float = 0.0
) -> splits.Folds:
    """Folds by the protocol, or the data set's own division if it has one and no number was given.

    ``published_test`` is the share of the single random split that a recipe prescribes for the as-published protocol.
    """
    if protocol == "as-published" and published_test and folds is None:
        return splits.random_split(cells.codes, published_test, seed, protocol)
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


def describe(
    cells: CellTable, recipe: Recipe, members: Sequence[Member], protocol: str, folds: splits.Folds, seed: int
) -> dict[str, str]:
    """The facts of a run, in the order in which the report shows them."""
    ways = [_words(member.part, member.weights) for member in members]
    if len(members) > 1:
        method = {f"Member {i}: {m.name}": _line(w) for i, (m, w) in enumerate(zip(members, ways, strict=True), 1)}
        method["Combined by"] = f"{recipe.rule}: {get_rule(recipe.rule).words}"
    else:
        method = ways[0]
    copies = {}
    if protocol == "as-published":
        copies["Copies"] = (
            f"{recipe.copies} {recipe.copies_by} copies of each cell, divided with the originals; "
            "here the members made no further views"
        )
        if recipe.published_validation:
            copies["Validation"] = f"{recipe.published_validation:.0%} of all images, to stop early and calibrate"
    return {
        "Data set": cells.name,
        "Cells": str(len(cells)),
        "Groups": str(len(set(cells.groups))) if cells.grouped else "unknown",
        "Label system": cells.system.name,
        "Protocol": protocol,
        "Folds": str(len(folds)),
        **copies,
        "Recipe": recipe.name,
        **method,
        "Operating point": f"set for {recipe.sensitivity:.0%} sensitivity on out-of-fold training cells",
        "Uncertain band": f"set for at most {recipe.max_risk:.0%} errors among answered training cells, out of fold",
        "Precision": ", ".join(dict.fromkeys(member.precision for member in members)),
        "Seed": str(seed),
        "Data fingerprint": cells.fingerprint,
        "cervicyte": cervicyte.__version__,
        "Python": platform.python_version(),
        "Made": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _words(part: Part, weights: str) -> dict[str, str]:
    """What a member is made of, in words."""
    words = {
        "Backbone": part.backbone,
        "Weights": weights,
        "Layer": part.layer or "last",
        "Orientations averaged": str(part.orientations),
        "Filters": ", ".join(part.filters) or "none",
    }
    if part.size:
        words["Input size"] = f"{part.size} px"
    if part.method == "linear":
        return words | {"C": f"fixed at {part.C:g}" if part.C else "chosen by inner folds of the training cells"}
    if part.method == "distil":
        return words | {
            "Distilled": f"{part.epochs} epochs on training cells and crops without labels",
            "Teacher": f"the members of the recipe {part.teacher}, fitted on the same training cells",
        }
    tail = ", ".join(get_backbone(part.backbone).tail)
    return words | {
        "Fine-tuned": f"{tail}; up to {part.epochs} epochs, stopped early on held-out training cells",
        "Training views": f"each cell, its orientations, and {part.variants} {part.augmentation} copies",
    }


def _line(words: Mapping[str, str]) -> str:
    told = ((name, value) for name, value in words.items() if value not in ("none", "last", "1"))
    return "; ".join(f"{name if name.isupper() else name.lower()} {value}" for name, value in told)


def save(
    folder: Path,
    model: Model,
    members: Sequence[Member],
    cells: CellTable,
    recipe: Recipe,
    evaluation: Evaluation,
    seed: int,
) -> bundle.Bundle:
    """Write the bundle and prove on a few training cells that it says what the model says.

    Raises
    ------
    BundleError : it does not
    """
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
        evaluation.metrics,
        specs,
        model.combiner,
        model.temperature,
        model.quality,
    )
    return bundle.save_bundle(
        folder, manifest, graphs, gate.training_cells(cells), prove=lambda made: _prove(made, model, cells)
    )


def _prove(made: bundle.Bundle, model: Model, cells: CellTable) -> None:
    rows = np.linspace(0, len(cells) - 1, min(_PROVED_ON, len(cells))).astype(int)
    some = cells.subset(rows)
    expected = model.votes(some).reshape(len(some), -1)
    if model.quality is not None and model.describer is not None:
        expected = np.concatenate([expected, np.nan_to_num(model.describer.of(some))], axis=1)
    extractor = made.extractor("float32" if made.manifest.precision == "float32" else None)
    worst = 0.0
    for i, found in features.stream((c.picture for c in some.cells), extractor, None):
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


def _scored(predictions: Predictions, warnings: Sequence[str], seed: int) -> dict[str, Any]:
    return metrics.score(predictions, seed=seed) | {"warnings": list(warnings)}


def _cell_name(picture: Picture) -> str:
    box = "" if picture.box is None else f"#{','.join(map(str, picture.box))}"
    return printable(picture.path) + box + (f" copy {picture.variant}" if picture.variant else "")


def _python_command(recipe: Recipe, options: Mapping[str, Any]) -> str:
    given = "".join(f", {name}={value!r}" for name, value in options.items() if value not in (None, False, ()))
    return f"cervicyte.train(cells, out, {recipe.name!r}{given})"
