"""What 8-bit inference costs in accuracy and AUROC: grouped folds, calibrated on each fold's training images only.

    python experiments/int8_cost.py DATA --weights FOLDER --out int8.json

The same folds, head and choice of C for float32, bfloat16 and int8; the differences are paired, and their
intervals resample groups.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cervicyte.base.files import write_json
from cervicyte.data.cells import CellTable
from cervicyte.data.readers import load
from cervicyte.data.splits import make_folds
from cervicyte.evaluation.intervals import resamples
from cervicyte.evaluation.metrics import auroc
from cervicyte.features import extraction
from cervicyte.images import decoding
from cervicyte.networks.quantisation import quantise
from cervicyte.networks.runtime import Engine
from common import abnormal_classes, make_parser, predict_fold, print_head, score

BATCH, CALIBRATION = 16, 64


def main() -> None:
    """Cross-validate with each precision, print the table and the paired differences."""
    parser = make_parser(__doc__)
    parser.add_argument("--backbone", default="ResNet50")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    cells = load(options.data)
    plain = extraction.make_extractor(options.backbone, options.weights, precision="float32")
    pixels = np.stack([plain.prepare(decoding.load(c.path, c.box)) for c in cells.cells])
    folds = make_folds(cells, "grouped", 5, options.seed)
    fixed = {p: run(Engine(plain.onnx_path, precision=p), pixels) for p in ("float32", "bfloat16")}
    predictions = {name: np.zeros((len(cells), len(cells.system.classes))) for name in (*fixed, "int8")}
    with tempfile.TemporaryDirectory() as scratch:
        for k, (train, test) in enumerate(zip(folds.train, folds.test, strict=True)):
            chosen = np.random.default_rng(options.seed).permutation(train)[:CALIBRATION]
            small = quantise(plain.onnx_path, batches(pixels[chosen]), Path(scratch) / f"{k}.onnx")
            table = {**fixed, "int8": run(Engine(small), pixels)}
            for name, values in table.items():
                predictions[name][test], _ = predict_fold(values, cells, train, test, options.seed)
    report(predictions, cells, options.out)


def batches(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Slices of at most BATCH images."""
    for start in range(0, len(pixels), BATCH):
        yield pixels[start : start + BATCH]


def run(engine: Engine, pixels: np.ndarray) -> np.ndarray:
    """Features of all images."""
    return np.concatenate([answer["features"] for answer in engine.stream(batches(pixels))])


def report(predictions: dict[str, np.ndarray], cells: CellTable, out: Path | None) -> None:
    """The table, and the differences from float32 with 95 % intervals over groups."""
    abnormal = abnormal_classes(cells)
    truth = abnormal[cells.codes]
    weights = np.concatenate(list(resamples(cells.groups, 1000, 0)))
    drawn = {name: auroc(truth, p[:, abnormal].sum(axis=1), weights) for name, p in predictions.items()}
    scores = {name: score(p, cells) for name, p in predictions.items()}
    result = {}
    print_head(["precision", "classes", "normal/abnormal", "AUROC", "AUROC minus float32"])
    for name, (accuracy, binary, area) in scores.items():
        low, high = np.percentile(drawn[name] - drawn["float32"], (2.5, 97.5))
        difference = area - scores["float32"][2]
        print(
            f"| {name} | {accuracy:.4f} | {binary:.4f} | {area:.4f} | {difference:+.4f} ({low:+.4f} to {high:+.4f}) |"
        )
        result[name] = {"accuracy": accuracy, "binary": binary, "auroc": area, "difference": difference}
    if out:
        write_json(out, result)


if __name__ == "__main__":
    main()
