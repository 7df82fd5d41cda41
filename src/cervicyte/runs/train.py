"""From a table of cells and a recipe to a bundle and an honest account of how good it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cervicyte import settings
from cervicyte.audit import checks, leakage
from cervicyte.base import files, progress, working_folder
from cervicyte.base.files import printable, write_json
from cervicyte.bundle import folder as bundle
from cervicyte.data import splits
from cervicyte.data.cells import CellTable
from cervicyte.data.labels import LabelMap, find_map, get_map
from cervicyte.errors import CervicyteError, UsageError
from cervicyte.evaluation import metrics, report
from cervicyte.evaluation.cross_validation import cross_validate
from cervicyte.evaluation.results import Evaluation
from cervicyte.features import activations
from cervicyte.features.descriptor_table import Describer
from cervicyte.images.decoding import Picture
from cervicyte.networks.registry import has_weights
from cervicyte.training import bundling, facts
from cervicyte.training.assembly import make_members
from cervicyte.training.fitting import Model, fit_model
from cervicyte.training.members import FinetunedMember, Member
from cervicyte.training.recipes import Part, Recipe, load_recipe

#: Folds where the data set did not come divided into train and test.
DEFAULT_FOLDS = 5


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
    options = {"protocol": protocol, "folds": folds, "holdout": holdout, "compare": compare, "weights": weights}
    options |= {"precision": precision, "seed": seed, "join_duplicates": join_duplicates}
    options |= {"crops": tuple(map(str, crops))}
    out = Path(out)
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    beside = (("grouped",) if protocol == "as-published" else ()) if compare is None else tuple(compare)
    protocols = tuple(dict.fromkeys((protocol, *beside)))
    _check_options(recipe, protocols, precision, seed, crops)
    cells = targeted(cells, recipe)
    files.check_folder(out)

    def divided(table: CellTable, name: str) -> splits.Folds:
        return divide(table, name, folds, seed, holdout, recipe.published_test)

    # What cannot be divided is told now, not after the features of a hundred thousand cells.
    for name in protocols:
        divided(splits.augmented(cells, recipe.copies) if name == "as-published" else cells, name)
    parts, replaced = _at_hand(recipe, weights)
    members = make_members(parts, weights, precision, seed, recipe.copies_by, crops)
    copiers: tuple[Member, ...] = ()
    if "as-published" in protocols:
        copiers = make_members(_without_views(parts), weights, precision, seed, recipe.copies_by)
    for table in facts.crops_of(members):
        leakage.check_crops(cells, table)
    shipped = any(part.method == "linear" and part.backbone.lower() == "cytonet" for part in parts)
    seen = {name: leakage.check_backbone(cells, name) if shipped else () for name in protocols}
    _check_room(((cells, members), (splits.augmented(cells, recipe.copies), copiers)))

    failed: dict[str, str] = {}
    cells = _read(cells, members, failed)
    audited = checks.audit(cells)
    if join_duplicates:
        cells = leakage.joined(cells, audited.pairs)
    describer = Describer(recipe.copies_by, seed)
    # Every division passes the gate before the first training starts, so that a refusal costs none.
    trials = []
    for name in protocols:
        table, judged, pairs = cells, members, audited.pairs
        if name == "as-published":
            table, judged, pairs = _read(splits.augmented(cells, recipe.copies), copiers, failed), copiers, ()
        division = divided(table, name)
        leaks = leakage.check(table, division, pairs)
        trials.append(_Trial(table, judged, division, (*warn(name, cells), *seen[name], *leaks, *replaced)))
        describer.read(table)
    command = command or _python_command(recipe, options)
    evaluations = tuple(_judge(trial, cells, recipe, seed, describer, command) for trial in trials)

    progress.say("Fitting on all cells")
    final = _fit_finally(cells, members, recipe, seed, "grouped" if "grouped" in protocols else "random", describer)
    # Written before the bundle: a model that cannot be made, or fails its proof, takes no numbers with it.
    _write_account(out, evaluations, trials, cells, recipe, members, final, failed, audited)
    with _naming_the_report(out):
        if isinstance(final, Exception):
            raise final
        made = bundling.save(out / "bundle", final, members, cells, recipe, evaluations, seed)
    return Run(out, made, evaluations, failed)


@dataclass(frozen=True)
class _Trial:
    """What one protocol judges: rows, members that have read them, folds that passed the gate, and warnings."""

    cells: CellTable
    members: tuple[Member, ...]
    division: splits.Folds
    warnings: tuple[str, ...]


def _judge(
    trial: _Trial, cells: CellTable, recipe: Recipe, seed: int, describer: Describer, command: str
) -> Evaluation:
    """Cross-validate under one protocol; ``cells`` are the data set's, without copies."""
    protocol = trial.division.protocol
    told: list[str] = []

    def fit(training: CellTable) -> Model:
        model = fit_model(training, trial.members, recipe, seed, protocol, describer)
        told.extend(model.notes)
        return model

    predictions = cross_validate(trial.cells, fit, trial.division)
    said = (*trial.warnings, *dict.fromkeys(told))
    known = facts.describe(cells, recipe, trial.members, protocol, trial.division, seed)
    scores = metrics.score(predictions, seed=seed) | {"warnings": list(said)}
    return Evaluation(predictions, scores, known, said, command)


def _fit_finally(
    cells: CellTable, members: Sequence[Member], recipe: Recipe, seed: int, protocol: str, describer: Describer
) -> Model | Exception:
    """The model for use, or why it cannot be made, so that what was judged is written first."""
    try:
        return fit_model(cells, members, recipe, seed, protocol, describer)
    except Exception as error:  # noqa: BLE001, it is raised again once the numbers are written
        return error


def _write_account(
    out: Path,
    evaluations: Sequence[Evaluation],
    trials: Sequence[_Trial],
    cells: CellTable,
    recipe: Recipe,
    members: Sequence[Member],
    final: Model | Exception,
    failed: Mapping[str, str],
    audited: checks.Audit,
) -> None:
    """All that a run has to say besides its bundle."""
    names = [_cell_name(c.picture) for c in cells.cells]
    divisions = {}
    for trial in trials:
        divisions[trial.division.protocol] = trial.division.to_json()
        if trial.cells is not cells:  # its rows are the originals and their copies
            divisions[trial.division.protocol]["cells"] = [_cell_name(c.picture) for c in trial.cells.cells]
    write_json(out / "folds.json", {"cells": names, "protocols": divisions})
    write_json(out / "recipe.json", recipe.to_json())
    fitted = final.members if isinstance(final, Model) else ()
    curves = {m.name: f.curves for m, f in zip(members, fitted, strict=False) if f.curves}
    _write_or_remove(out / "training_curves.json", curves)
    write_failed(out, failed)
    notes = [*cells.notes, *(final.notes if isinstance(final, Model) else ())]
    notes += [f"Not used: {path}: {reason}" for path, reason in failed.items()]
    report.write_report(evaluations, out, notes=notes, audit=audited.summary(), counts=cells.counts(), curves=curves)


@contextlib.contextmanager
def _naming_the_report(out: Path) -> Iterator[None]:
    """Add to an error where the numbers of this run are, and that the bundle beside them is not of this run."""
    try:
        yield
    except CervicyteError as error:
        where = f"the numbers and the report of this run are in {printable(out)}"
        where += ", but the bundle there is of an earlier run" if (out / "bundle").exists() else ", without a bundle"
        raise type(error)(error.what, error.received, f"{error.todo}; {where}" if error.todo else where) from error


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


def _without_views(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Members for a table that holds the copies already: they make none of their own and average no flips."""
    return tuple(replace(p, variants=0, orientations=1) if p.method == "finetune" else p for p in parts)


def _check_room(tables: Iterable[tuple[CellTable, Sequence[Member]]]) -> None:
    """Refuse a run whose activations, which are in use all the time, are larger than their bound together."""
    wanted: dict[tuple[str, int], int] = {}
    for cells, members in tables:
        for member in members:
            seats = getattr(getattr(member, "teacher", None), "seats", ())  # of a student
            for one in (member, *(seat.member for seat in seats)):
                if isinstance(one, FinetunedMember):
                    wanted[one.extractor.key, len(cells)] = activations.needed(cells, one.extractor)
    working_folder.check(sum(wanted.values()))


def _read(cells: CellTable, members: Sequence[Member], failed: dict[str, str]) -> CellTable:
    """The cells that every member could read; the others go to ``failed``, each copy by its original and number."""
    reasons: dict[str, str] = {}
    for member in members:
        reasons |= member.read(cells)
    good = np.all([member.has(cells) for member in members], axis=0)
    for cell in cells.subset(~good).cells:
        failed[_cell_name(cell.picture)] = reasons.get(printable(cell.path), "it cannot be read")
    return cells.subset(good)


def write_failed(out: Path, failed: Mapping[str, str]) -> None:
    """Write failed.json, or remove the one of an earlier run where nothing failed now."""
    _write_or_remove(out / "failed.json", failed)


def _write_or_remove(path: Path, contents: Mapping[str, Any]) -> None:
    if contents:
        write_json(path, contents)
    else:
        path.unlink(missing_ok=True)


def _check_options(
    recipe: Recipe, protocols: Sequence[str], precision: str | None, seed: int, crops: Sequence[Path | str]
) -> None:
    """Refuse what cannot be done, and what would otherwise be ignored in silence."""
    for name in protocols:
        splits.get_protocol(name)
    splits.check_seed(seed)
    settings.check_all()
    if precision not in (None, "auto", "float32", "bfloat16"):
        raise UsageError("unknown precision", repr(precision), "there are: auto, float32, bfloat16")
    distilled = [p.name for m in recipe.parts for p in (m, m.stand_in) if p and p.method == "distil"]
    if distilled and "as-published" in protocols:
        raise UsageError(
            "a student is not taught on copies, so a recipe that distils has no as-published number",
            ", ".join(distilled),
            "use --protocol grouped, or random",
        )
    if crops and not distilled:
        raise UsageError(
            "no member of the recipe learns from crops without labels; --crops would do nothing",
            f"{len(crops)} folder(s), recipe {recipe.name}",
            "leave --crops out, or take a recipe that distils: --recipe cytonet",
        )
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


def _cell_name(picture: Picture) -> str:
    box = "" if picture.box is None else f"#{','.join(map(str, picture.box))}"
    return printable(picture.path) + box + (f" copy {picture.variant}" if picture.variant else "")


def _python_command(recipe: Recipe, options: Mapping[str, Any]) -> str:
    given = "".join(f", {name}={value!r}" for name, value in options.items() if value not in (None, False, ()))
    return f"cervicyte.train(cells, out, {recipe.name!r}{given})"
