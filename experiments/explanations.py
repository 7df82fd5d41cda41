"""Whether the maps of a bundle are faithful: deletion of what they mark, and maps after shuffling the weights.

    python experiments/explanations.py BUNDLE DATA --cells 120

Both tables are means over cells, the same number of each class, with 95 % intervals over groups. "Fall" is how
much the log-odds of the target fall when a share of the pixels is deleted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from cervicyte.bundle.folder import Bundle
from cervicyte.data.cells import CellTable
from cervicyte.data.readers import load
from cervicyte.errors import DataError, ImageError
from cervicyte.evaluation.intervals import effective_groups, interval, resamples
from cervicyte.evaluation.metrics import mean
from cervicyte.explain.explainer import Explainer
from cervicyte.explain.faithfulness import PARTS, agreement, correlation, deletion, elsewhere, randomised
from cervicyte.images import decoding


def main() -> None:
    """Choose the cells, run both tests, print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("data", type=Path)
    parser.add_argument("--reader")
    parser.add_argument("--target", help="a class or abnormal; left out: abnormal where that is defined")
    parser.add_argument("--cells", type=int, default=120)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    bundle = Bundle.load(options.bundle)
    cells = chosen(load(options.data, options.reader), options.cells, options.seed)
    explainer = Explainer(bundle)
    images, kept = [], []
    for row, cell in enumerate(cells.cells):
        image = decoding.load(cell.path, cell.box)
        try:
            explainer.explain(image, options.target)
        except ImageError as error:
            print(f"left out: {cell.path}: {error.one_line}", file=sys.stderr)
            continue
        images.append(image)
        kept.append(row)
    cells = cells.subset(np.array(kept, dtype=int))
    print(
        f"{len(cells)} cells, {len(set(cells.groups))} groups, precision {explainer.members[0].extractor.precision}\n"
    )

    deleted = deletion(explainer, images, options.target, draws=options.draws, seed=options.seed)
    print("| deleted | fall, marked | fall, same pieces elsewhere | difference | marked fell more | fall, centre |")
    print("| --- | --- | --- | --- | --- | --- |")
    for k, share in enumerate(deleted.shares):
        marked, other, central = deleted.marked[:, k], deleted.elsewhere[:, k], deleted.central[:, k]
        columns = [mean_ci(v, cells.groups) for v in (marked, other, marked - other, central)]
        columns.insert(3, f"{np.mean(marked > other):.0%}")
        print(f"| {share:.0%} | {' | '.join(columns)} |")

    print("\n| weights | rank correlation with the trained map | its size whatever the sign |\n| --- | --- | --- |")
    alone = chance(explainer, images, options.target, options.seed)
    print(
        f"| as trained, map put elsewhere | {mean_ci(alone, cells.groups)} | {mean_ci(np.abs(alone), cells.groups)} |"
    )
    for part in PARTS:
        rows = []
        for seed in range(3):
            with tempfile.TemporaryDirectory() as folder:
                other_model = Explainer(randomised(bundle, Path(folder) / "bundle", part, options.seed + seed))
                rows.append(agreement(explainer, other_model, images, options.target))
        each = np.array(rows)
        signed, size = (
            mean_ci(each.mean(axis=0), cells.groups),
            mean_ci(np.abs(each).mean(axis=0), cells.groups),
        )
        seeds = ", ".join(f"{row.mean():+.2f}" for row in each)
        print(f"| {part} shuffled | {signed}; seeds {seeds} | {size} |")


def chance(explainer: Explainer, images: list[np.ndarray], target: str | None, seed: int) -> np.ndarray:
    """What maps as smooth as these have in common by chance: each with itself, mirrored and shifted, (n,)."""
    random = np.random.default_rng(seed)
    maps = [explainer.explain(image, target).map for image in images]
    return np.array([correlation(values, elsewhere(values, random)) for values in maps if values is not None])


def chosen(cells: CellTable, count: int, seed: int) -> CellTable:
    """As many cells of each class, chosen at random."""
    random = np.random.default_rng(seed)
    labels = np.array([cell.label for cell in cells.cells])
    names = sorted(set(labels))
    each = max(1, count // max(1, len(names)))
    rows = [row for name in names for row in random.permutation(np.flatnonzero(labels == name))[:each]]
    if not rows:
        raise DataError("no cells to explain", "0 cells", "name a data set")
    return cells.subset(np.sort(rows))


def mean_ci(values: np.ndarray, groups: np.ndarray) -> str:
    """A mean with its 95 % interval over groups."""
    drawn = np.concatenate([mean(values, weights) for weights in resamples(groups, 1000, 0)])
    ends = interval(float(values.mean()), drawn, effective_groups(groups), (-np.inf, np.inf))
    return f"{values.mean():+.2f}" + (f" ({ends[0]:+.2f} to {ends[1]:+.2f})" if ends else "")


if __name__ == "__main__":
    main()
