"""How well images that are no cells are refused, and how many true cells with them.

    python experiments/foreign.py DATA --fields FOLDER... [--other DATA]

Grouped 5-fold: in each fold the limits come from its training cells alone; true cells are its test cells. The score of
an image is its distance. An AUROC is the mean over folds, with the lowest; the interval resamples groups.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cervicyte.base.progress import track
from cervicyte.data import splits
from cervicyte.data.cells import CellTable
from cervicyte.data.readers import load
from cervicyte.decision.quality import QualityModel, fit_quality, verdicts
from cervicyte.evaluation import intervals, metrics
from cervicyte.images import decoding
from cervicyte.images.descriptors import describe

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.foreign_inputs import KINDS, LATER, Kind, background, whole_fields

#: Images of each kind; of those made of test cells, in each fold.
COUNT = 120


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--fields", type=Path, nargs="+", required=True, help="folders of whole fields of view")
    parser.add_argument("--other", type=Path, help="labelled cells of another laboratory")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    cells = load(options.data)
    images = [decoding.load(c.path, c.box) for c in track(cells.cells, "Reading")]
    start = time.perf_counter()
    described = np.array([describe(p) for p in track(images, "Describing")])
    each = (time.perf_counter() - start) / len(images) * 1e3
    fields = [whole_fields([folder], COUNT, random) for folder in options.fields]
    fixed = {kind.name: kind.make([], COUNT, random) for kind in (*KINDS, *LATER) if not kind.of_cells}
    fixed |= {f"whole fields, {f.name}": some for f, some in zip(options.fields, fields, strict=True)}
    fixed["background of fields"] = background([field for some in fields for field in some], COUNT, random)
    if options.other is not None:
        fixed[f"(cells of another laboratory, {options.other.name})"] = _crops(load(options.other))
    foreign = {name: np.array([describe(p) for p in some]) for name, some in track(list(fixed.items()), "Foreign")}
    rows: dict[str, list[tuple[np.ndarray, float]]] = {}
    own = np.full(len(cells), "", dtype=object)
    folds = splits.make_folds(cells, "grouped", 5, 0)
    for train, test in track(list(zip(folds.train, folds.test, strict=True)), "Folds"):
        model, note = fit_quality(described[train], cells.groups[train])
        if model is None:
            raise SystemExit(note)
        own[test] = verdicts(model, described[test])
        kinds = foreign | _describe_kinds([images[i] for i in test], (*KINDS, *LATER), random)
        for name, values in kinds.items():
            rows.setdefault(name, []).append(_judged(model, described[test], values))
    print(f"{len(cells)} cells of {len(set(cells.groups))} groups; {each:.2f} ms an image\n")
    print("| image | AUROC, mean of folds (lowest) | refused | reasons |\n| --- | --- | --- | --- |")
    for name, judged in rows.items():
        reasons = Counter(str(reason) for part, _ in judged for reason in part)
        print(_line(name, [area for _, area in judged], reasons))
    weights = next(intervals.resamples(cells.groups, 1000, 0))
    size = intervals.effective_groups(cells.groups)
    low, high = intervals.interval(float((own != "").mean()), metrics.mean(own != "", weights), size) or (0.0, 1.0)
    why = Counter(str(reason) for reason in own if reason)
    print(f"\nTrue test cells refused: {(own != '').mean():.1%} ({low:.1%} to {high:.1%}); {dict(why)}")


def _crops(cells: CellTable) -> list[np.ndarray]:
    return [decoding.load(c.path, c.box) for c in cells.cells]


def _describe_kinds(
    some: list[np.ndarray], kinds: Sequence[Kind], random: np.random.Generator
) -> dict[str, np.ndarray]:
    """Descriptors of the kinds that are made of the fold's test cells."""
    of_cells = (kind for kind in kinds if kind.of_cells)
    return {kind.name: np.array([describe(p) for p in kind.make(some, COUNT, random)]) for kind in of_cells}


def _judged(model: QualityModel, cells: np.ndarray, foreign: np.ndarray) -> tuple[np.ndarray, float]:
    score = np.concatenate([model.distance(cells), model.distance(foreign)])
    return verdicts(model, foreign), float(metrics.auroc(np.arange(len(score)) >= len(cells), score))


def _line(name: str, areas: Sequence[float], reasons: Counter[str]) -> str:
    total = reasons.total()
    refused = total - reasons.pop("", 0)
    why = ", ".join(f"{reason} {count / total:.0%}" for reason, count in reasons.most_common())
    return f"| {name} | {np.mean(areas):.3f} ({min(areas):.3f}) | {refused / total:.1%} | {why} |"


if __name__ == "__main__":
    main()
