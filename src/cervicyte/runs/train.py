"""From a table of cells and a recipe to a bundle and an honest account of how good it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cervicyte.base import files
from cervicyte.base.files import printable
from cervicyte.bundle.folder import Bundle
from cervicyte.data.cells import CellTable
from cervicyte.errors import CervicyteError
from cervicyte.evaluation.results import Evaluation
from cervicyte.runs.account import write_account
from cervicyte.training import bundling
from cervicyte.training.judging import Judgement, judge_plan
from cervicyte.training.plan import Options, Plan, make_plan
from cervicyte.training.recipes import Recipe, load_recipe


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
    bundle: Bundle
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
    command : how the run was started, for the report; empty names this function and its options

    Raises
    ------
    LeakageError : an honest protocol's test cells share a group or a near duplicate with training cells
    DataError, UsageError, MissingError, StorageError : as their messages say
    """
    out = Path(out)
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    options = Options(
        protocol=protocol,
        folds=folds,
        holdout=holdout,
        compare=None if compare is None else tuple(compare),
        weights=weights,
        precision=precision,
        seed=seed,
        join_duplicates=join_duplicates,
        crops=tuple(map(str, crops)),
    )
    files.check_folder(out)
    plan = make_plan(cells, recipe, options)
    judgement = judge_plan(plan, command or f"cervicyte.train(cells, out, {recipe.name!r}{options})")
    return finish(out, plan, judgement)


def finish(out: Path, plan: Plan, judgement: Judgement) -> Run:
    """Write the account of a run, then its bundle: a model that cannot be made, or fails its proof, takes no numbers
    with it.

    Raises
    ------
    BundleError : the bundle does not say what the model says
    StorageError : the disk is full, read-only or not permitted
    """
    write_account(out, plan, judgement)
    with _naming_the_report(out):
        bundle = bundling.save(out / "bundle", plan, judgement)
    return Run(out, bundle, judgement.evaluations, plan.failed)


@contextlib.contextmanager
def _naming_the_report(out: Path) -> Iterator[None]:
    """Add to an error where the numbers of this run are, and that the bundle beside them is not of this run."""
    try:
        yield
    except CervicyteError as error:
        where = f"the numbers and the report of this run are in {printable(out)}"
        where += ", but the bundle there is of an earlier run" if (out / "bundle").exists() else ", without a bundle"
        raise type(error)(error.what, error.received, f"{error.todo}; {where}" if error.todo else where) from error
