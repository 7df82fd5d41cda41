"""What each ingredient brings on a data set: features of many variants, the same head, the same grouped folds.

    python experiments/variants.py DATA --weights FOLDER --out variants.json

Each line is the mean over the seeds of a grouped 5-fold cross-validation, everything fitted inside the training
folds. Picking the best line by looking at this table would be tuning on test folds; the last line shows what an
honest pick gives: in each training fold the variant with the lowest inner out-of-fold log loss is taken.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from cervicyte.base.files import write_json
from cervicyte.data.cells import CellTable
from cervicyte.data.readers import load
from cervicyte.data.splits import make_folds
from cervicyte.features import extraction
from common import make_parser, predict_fold, print_head, score

#: Name, and what differs from ResNet50's last layer at 224 px.
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ResNet50", {}),
    ("4 orientations", {"orientations": 4}),
    ("layer conv4_block6_out", {"layer": "conv4_block6_out"}),
    ("conv4, 4 orientations", {"layer": "conv4_block6_out", "orientations": 4}),
    ("320 px", {"size": 320}),
    ("CLAHE", {"chain": ("clahe",)}),
    ("normalise", {"chain": ("normalise",)}),
    ("median", {"chain": ("median",)}),
    ("MobileNetV2", {"backbone": "MobileNetV2"}),
    ("morphology", {"backbone": "morphology"}),
)

#: Lines made by putting the features of others side by side.
JOINED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ResNet50 + morphology", ("ResNet50", "morphology")),
    ("4 orientations + morphology", ("4 orientations", "morphology")),
    ("conv4 + conv5, 4 orientations", ("4 orientations", "conv4, 4 orientations")),
)


def main() -> None:
    """Extract, cross-validate, print the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    cells = load(options.data)
    table = {name: extract(cells, options.weights, **kinds) for name, kinds in VARIANTS}
    for name, parts in JOINED:
        table[name] = np.hstack([table[part] for part in parts])
    print_head(["variant", "classes", "normal/abnormal", "AUROC"])
    fitted: dict[str, list[Any]] = {}
    lines = {}
    for name, values in table.items():
        fitted[name] = [
            [fold_of(values, cells, train, test, seed) for train, test in pairs(cells, seed)]
            for seed in range(options.seeds)
        ]
        lines[name] = line(name, cells, [[(test, p) for test, p, _ in folds] for folds in fitted[name]])
    picked = []
    for seed in range(options.seeds):
        folds = []
        for k in range(len(fitted["ResNet50"][seed])):
            best = min(table, key=lambda name: fitted[name][seed][k][2])
            print(f"seed {seed}, fold {k}: {best}", file=sys.stderr)
            folds.append(fitted[best][seed][k][:2])
        picked.append(folds)
    lines["picked inside each training fold"] = line("picked inside each training fold", cells, picked)
    if options.out:
        write_json(options.out, lines)


def extract(cells: CellTable, weights: str, backbone: str = "ResNet50", **kinds: Any) -> np.ndarray:
    """Features of all cells in float32; a data set with an unreadable cell is refused."""
    extractor = extraction.make_extractor(backbone, weights, precision="float32", **kinds)
    values, errors = extraction.extract(cells, extractor, extraction.FeatureCache(extractor.key))
    if errors:
        raise SystemExit(f"unreadable cells: {list(errors.items())[:3]}")
    return values


def pairs(cells: CellTable, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and test rows of five grouped folds."""
    folds = make_folds(cells, "grouped", 5, seed)
    return list(zip(folds.train, folds.test, strict=True))


def fold_of(values: np.ndarray, cells: CellTable, train: np.ndarray, test: np.ndarray, seed: int) -> Any:
    """Test rows, their calibrated probabilities, and the inner out-of-fold loss of the training rows."""
    p, fitted = predict_fold(values, cells, train, test, seed)
    return test, p, min(fitted.losses.values())


def line(name: str, cells: CellTable, runs: list[list[tuple[np.ndarray, np.ndarray]]]) -> dict[str, list[float]]:
    """One line of the table: mean and standard deviation over seeds."""
    scores = []
    for folds in runs:
        p = np.zeros((len(cells), len(cells.system.classes)))
        for test, probabilities in folds:
            p[test] = probabilities
        scores.append(score(p, cells))
    mean, spread = np.mean(scores, axis=0), np.std(scores, axis=0)
    shown = " | ".join(f"{m:.3f} ± {s:.3f}" for m, s in zip(mean, spread, strict=True))
    print(f"| {name} | {shown} |", flush=True)
    return {"mean": mean.tolist(), "sd": spread.tolist()}


if __name__ == "__main__":
    main()
