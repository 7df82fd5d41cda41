"""What fine-tuning, filters, NLM copies, test-time flips and the ensemble bring, on grouped folds.

    python experiments/system_a.py DATA --weights FOLDER --out DIR [--seeds 3] [--lines "NAME;NAME"]

Every line is a grouped 5-fold cross-validation for each seed; all that is fitted (heads, last blocks, when to stop,
temperatures, the rule's parameters, limits) is fitted inside the training fold. Metrics are means over the seeds; the
intervals resample acquisitions and keep the seeds together. Trainings are kept in the cache, so a run that was
killed goes on, and a line that shares members with another costs little.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cervicyte.base.files import write_json
from cervicyte.data.cells import CellTable
from cervicyte.data.readers import load
from cervicyte.data.splits import make_folds
from cervicyte.evaluation.cross_validation import cross_validate
from cervicyte.evaluation.results import Predictions
from cervicyte.training.fitting import fit_model
from cervicyte.training.members import Member, make_member
from cervicyte.training.parts import Finetune, Linear
from cervicyte.training.recipes import Recipe
from common import METRICS, format_row, make_parser, print_head, summarise


def _tuned(name: str, backbone: str = "ResNet50", **changes: Any) -> Finetune:
    return Finetune(name=name, backbone=backbone, orientations=4, **changes)


FROZEN = Linear(name="frozen", backbone="ResNet50")
FROZEN_FLIPS = Linear(name="frozen, flips", backbone="ResNet50", orientations=4)
FROZEN_CONV4 = Linear(name="frozen conv4, flips", backbone="ResNet50", layer="conv4_block6_out", orientations=4)
TUNED = _tuned("ResNet50")
TUNED_FILTERED = _tuned("ResNet50 normalise clahe median", filters=("normalise", "clahe", "median"))
TUNED_SEED = _tuned("ResNet50 seed 1", seed=1)
MOBILE = _tuned("MobileNetV2", "MobileNetV2")
MOBILE_LARGE = _tuned("MobileNetV2 288 px", "MobileNetV2", size=288)
MORPHOLOGY = Linear(name="morphology")
ENSEMBLE = (TUNED, MOBILE, FROZEN_CONV4, MORPHOLOGY)


@dataclass(frozen=True)
class Line:
    """One line of the table: its members, the rule, and whether test-time flips are averaged."""

    name: str
    members: tuple[Linear | Finetune, ...]
    rule: str = "mean"
    flips: bool = True


LINES: tuple[Line, ...] = (
    Line("frozen ResNet50 + LR", (FROZEN,)),
    Line("frozen ResNet50, flips + LR", (FROZEN_FLIPS,)),
    Line("frozen conv4, flips + LR", (FROZEN_CONV4,)),
    Line("fine-tuned ResNet50, no test-time flips", (TUNED,), flips=False),
    Line("fine-tuned ResNet50", (TUNED,)),
    Line("fine-tuned ResNet50, filters", (TUNED_FILTERED,)),
    Line("fine-tuned ResNet50, NLM copies", (_tuned("ResNet50, NLM copies", augmentation="system-a"),)),
    Line("fine-tuned MobileNetV2", (MOBILE,)),
    Line("fine-tuned MobileNetV2, 288 px", (MOBILE_LARGE,)),
    Line("two seeds of ResNet50, mean", (TUNED, TUNED_SEED)),
    *(Line(f"ensemble, {rule}", ENSEMBLE, rule) for rule in ("mean", "vote", "weighted", "stacked", "fuzzy-rank")),
)


def main() -> None:
    """Run the lines, print the table as it grows, keep it in table.json."""
    parser = make_parser(__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lines", help="names, separated by ';'; all if left out")
    options = parser.parse_args()
    wanted = options.lines.split(";") if options.lines else [line.name for line in LINES]
    unknown = set(wanted) - {line.name for line in LINES}
    if unknown:
        raise SystemExit(f"no such line: {unknown}; there are: {[line.name for line in LINES]}")
    cells = load(options.data)
    table: dict[str, Any] = {}
    print_head(["line", *METRICS])
    for line in LINES:
        if line.name not in wanted:
            continue
        runs = [predict(line, cells, options.weights, seed) for seed in range(options.seeds)]
        table[line.name] = summarise(runs)
        print(format_row(line.name, table[line.name]), flush=True)
        write_json(options.out / "table.json", table)
        for seed, run in enumerate(runs):
            run.to_csv(options.out / f"{line.name.replace(' ', '_').replace(',', '')}_{seed}.csv")


def predict(line: Line, cells: CellTable, weights: str, seed: int) -> Predictions:
    """Grouped 5-fold predictions of one line."""
    print(f"{line.name}, seed {seed}", file=sys.stderr, flush=True)
    recipe = Recipe(name="line", members=line.members, inner_folds=4, rule=line.rule)
    make = remembered if line.flips else _fresh  # without flips the same trainings answer otherwise
    members = [make(part, cells, weights, seed) for part in line.members]
    folds = make_folds(cells, "grouped", 5, seed)
    return cross_validate(cells, _fit(members, recipe, seed, line.flips), folds)


_KNOWN: dict[Any, Any] = {}


def remembered(part: Linear | Finetune, cells: CellTable, weights: str, seed: int) -> Member:
    """A member that has read the cells; what it was fitted on once is not fitted again for another rule."""
    if (part, seed) not in _KNOWN:
        _KNOWN[part, seed] = _Remembering(_fresh(part, cells, weights, seed))
    return _KNOWN[part, seed]


def _fresh(part: Linear | Finetune, cells: CellTable, weights: str, seed: int) -> Member:
    # What is frozen makes no copies, so no seed changes it.
    member = make_member(part, weights, None, seed if isinstance(part, Finetune) else 0, "geometric")
    if member.read(cells):
        raise SystemExit("unreadable cells")
    return member


class _Remembering:
    """A member in front of another one, whose fits and answers it keeps."""

    def __init__(self, member: Any) -> None:
        self.member = member
        self._fits: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.member, name)

    def fit(self, cells: CellTable, *rest: Any) -> Any:
        if cells.cells not in self._fits:
            self._fits[cells.cells] = _Kept(self.member.fit(cells, *rest))
        return self._fits[cells.cells]


class _Kept:
    """A fitted member whose answers are kept; the weights of trained blocks are let go after the first."""

    def __init__(self, fitted: Any) -> None:
        self.fitted, self.oof, self.curves = fitted, fitted.oof, fitted.curves
        self._logits: dict[Any, np.ndarray] = {}

    def logits(self, cells: CellTable) -> np.ndarray:
        if cells.cells not in self._logits:
            self._logits[cells.cells] = self.fitted.logits(cells)
            self.fitted = None
        return self._logits[cells.cells]


def _fit(members: Sequence[Member], recipe: Recipe, seed: int, flips: bool) -> Callable[[CellTable], Any]:
    def fit(training: CellTable) -> Any:
        model = fit_model(training, members, recipe, seed, "grouped")
        if not flips:
            for member in members:
                member.trainer.table = replace(member.table, orientations=1)  # type: ignore[attr-defined]
        return _Once(model, members, flips)

    return fit


@dataclass(frozen=True)
class _Once:
    """A model whose members look at the image as it is, and are put back afterwards."""

    model: Any
    members: Sequence[Member]
    flips: bool

    @property
    def classes(self) -> tuple[str, ...]:
        return self.model.classes

    @property
    def limits(self) -> Any:
        return self.model.limits

    def answers(self, cells: CellTable) -> Any:
        answers = self.model.answers(cells)
        if not self.flips:
            for member in self.members:
                member.trainer.table = member.table  # type: ignore[attr-defined]
        return answers


if __name__ == "__main__":
    main()
