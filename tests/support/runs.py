"""The steps of `cervicyte.train` one by one, for tests that look at numbers or bundles and at no report."""

from __future__ import annotations

from pathlib import Path

from cervicyte.bundle.folder import Bundle
from cervicyte.data.cells import CellTable
from cervicyte.training import bundling
from cervicyte.training.judging import Judgement, judge_plan
from cervicyte.training.plan import Options, Plan, make_plan
from cervicyte.training.recipes import Recipe, load_recipe


def judged(cells: CellTable, recipe: Recipe | str = "morphology-lr", **options) -> tuple[Plan, Judgement]:
    """Plan and judge a run, and write nothing."""
    plan = make_plan(cells, recipe if isinstance(recipe, Recipe) else load_recipe(recipe), Options(**options))
    return plan, judge_plan(plan)


def bundled(folder: Path, cells: CellTable, recipe: Recipe | str = "morphology-lr", **options) -> Bundle:
    """Plan and judge a run, and write its bundle alone."""
    return bundling.save(folder, *judged(cells, recipe, **options))
