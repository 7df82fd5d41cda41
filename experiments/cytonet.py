"""Our own network against its teacher and frozen ResNet50, cross-fitted on the same grouped folds.

    python experiments/cytonet.py DATA --weights FOLDER --crops FOLDER... --out DIR [--seeds 1] [--changes]

In each fold the teacher and the student see that fold's training cells only. Metrics and intervals are those of
`experiments/common.py`; differences are paired over acquisitions. ``--changes`` then tells how many test
cells keep their label when they are turned, mirrored, shifted, compressed or stained otherwise, each judged by the
student of its own fold. The same students as graphs in float32, bfloat16 and int8 (calibrated on 64 training cells of
the fold) tell what a precision costs; the band of uncertain cells set for 2 % error tells how many are still answered.
What was trained is kept in the cache: a run that was killed goes on.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import system_a
from cervicyte.base.files import write_json
from cervicyte.data.cells import CellTable
from cervicyte.data.readers import load
from cervicyte.data.splits import Folds, make_folds
from cervicyte.decision.calibration import name_cells, softmax
from cervicyte.evaluation.cross_validation import cross_validate
from cervicyte.evaluation.results import Predictions
from cervicyte.images import decoding
from cervicyte.networks.quantisation import quantise
from cervicyte.networks.runtime import Engine
from cervicyte.training.assembly import teachers_of
from cervicyte.training.fitting import Model, fit_model
from cervicyte.training.parts import Distil
from cervicyte.training.recipes import Recipe, load_recipe
from common import METRICS, difference, format_row, make_parser, print_head, read_student, summarise
from system_a import FROZEN, Line

#: Share of errors among answered cells that the stricter band is set for.
STRICT = 0.02

#: Training cells that set the ranges of the integers.
CALIBRATION = 64

#: How close P(abnormal) may be to the operating point for a cell to count as away from it.
AWAY = 0.1

#: Metrics whose differences are printed.
COMPARED = ("7 classes", "normal/abnormal", "AUROC")

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def main() -> None:
    """Run the lines, print the table, differences and changes, and keep them in cytonet.json."""
    parser = make_parser(__doc__, crops=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--changes", action="store_true")
    options = parser.parse_args()
    cells = load(options.data)
    recipe = load_recipe("cytonet")
    (student,) = recipe.members
    assert isinstance(student, Distil)
    lines = (Line("frozen ResNet50 + LR", (FROZEN,)), Line("teacher", teachers_of(student)))
    runs: dict[str, list[Predictions]] = {line.name: [] for line in lines} | {"cytonet": []}
    changes: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        for line in lines:
            runs[line.name].append(system_a.predict(line, cells, options.weights, seed))
        print(f"cytonet, seed {seed}", file=sys.stderr, flush=True)
        member = read_student(recipe, cells, options, seed)
        models: list[Model] = []
        fine: list[Model] = []
        fit = partial(fitted, member=member, recipe=recipe, seed=seed, models=models)
        folds = make_folds(cells, "grouped", 5, seed)
        runs["cytonet"].append(cross_validate(cells, fit, folds))
        strict = recipe.changed(max_risk=STRICT)
        refit = partial(fitted, member=member, recipe=strict, seed=seed, models=fine)
        runs.setdefault(f"cytonet, answers set for {STRICT:.0%} error", []).append(cross_validate(cells, refit, folds))
        for name, run in at_precisions(runs["cytonet"][-1], models, cells, folds).items():
            runs.setdefault(f"cytonet, {name} graph", []).append(run)
        if options.changes:
            for model, test in zip(models, folds.test, strict=True):
                for name, share in stability(model, cells.subset(test), seed).items():
                    changes.setdefault(name, []).extend(share)
    table = {name: summarise(some) for name, some in runs.items()}
    print_head(["line", *METRICS])
    for name, values in table.items():
        print(format_row(name, values))
    for name in runs:
        for seed, run in enumerate(runs[name]):
            run.to_csv(options.out / f"{re.sub(r'[^a-z0-9]+', '_', name.lower())}_{seed}.csv")
    differences: dict[str, dict[str, tuple[float, float, float]]] = {}
    for name in [name for name in runs if name != "cytonet"]:
        differences[name] = {m: difference(runs["cytonet"], runs[name], METRICS[m]) for m in COMPARED}
        for metric, (value, low, high) in differences[name].items():
            print(f"{metric} of cytonet minus that of {name}: {value:+.4f} ({low:+.4f} to {high:+.4f})")
    strictly = runs[f"cytonet, answers set for {STRICT:.0%} error"]
    wrong = [float((run.called_abnormal != run.abnormal)[~run.uncertain].mean()) for run in strictly]
    print(f"answers set for {STRICT:.0%} error: {np.mean(wrong):.1%} of the answered cells wrong")
    shares = {name: float(np.mean(some)) for name, some in changes.items()}
    for name, share in shares.items():
        print(f"{name}: {share:.1%}")
    write_json(options.out / "cytonet.json", {"table": table, "differences": differences, "changes": shares})


def fitted(training: CellTable, member: Any, recipe: Recipe, seed: int, models: list[Model]) -> Model:
    """One fold's model, also noted in ``models``."""
    models.append(fit_model(training, (member,), recipe, seed, "grouped"))
    return models[-1]


def at_precisions(judged: Predictions, models: list[Model], cells: CellTable, folds: Folds) -> dict[str, Predictions]:
    """The test cells as judged by each fold's graph in several precisions; the limits are the fold's own."""
    probabilities = {name: judged.probabilities.copy() for name in ("float32", "bfloat16", "int8")}
    for model, train, test in zip(models, folds.train, folds.test, strict=True):
        (student,) = model.members
        table = student.member.pixels
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "whole.onnx"
            path.write_bytes(student.graph(model.temperatures[0]))
            chosen = np.random.default_rng(0).permutation(train)[:CALIBRATION]
            batches = np.array_split(table.small(cells.subset(chosen)), CALIBRATION // 16)
            small = quantise(path, batches, Path(scratch) / "int8.onnx")
            for name in probabilities:
                options = {} if name == "int8" else {"precision": name}
                engine = Engine(small if name == "int8" else path, ("probabilities",), **options)
                probabilities[name][test] = engine.run(table.small(cells.subset(test)))["probabilities"]
    columns = [i for i, c in enumerate(judged.classes) if c in (cells.system.abnormal or ())]
    return {
        name: replace(judged, probabilities=p, p_abnormal=np.clip(p[:, columns].sum(axis=1), 0, 1))
        for name, p in probabilities.items()
    }


def stability(model: Model, cells: CellTable, seed: int) -> dict[str, list[float]]:
    """For each change, which cells keep their side of the operating point and label, and how P(abnormal) moves."""
    (student,), side = model.members, model.members[0].member.shape.side
    random = np.random.default_rng(seed)
    images = [decoding.load(c.path, c.box) for c in cells.cells]

    def judged(change: Change | None) -> tuple[np.ndarray, np.ndarray]:
        changed = images if change is None else [change(p, random) for p in images]
        small = np.stack([decoding.resize(p, side, student.member.part.fit) for p in changed])
        p = softmax(student.member.trainer.logits(student.student, small), model.temperatures[0])
        labels = name_cells(p, model.classes, model.abnormal_classes, model.limits)
        return np.array(labels, dtype=object), p[:, model.abnormal_classes].sum(axis=1)

    labels, p = judged(None)
    away = np.abs(p - model.limits.threshold) >= AWAY
    shares: dict[str, list[float]] = {}
    for name, change in CHANGES.items():
        then, q = judged(change)
        flagged = (p >= model.limits.threshold) == (q >= model.limits.threshold)
        shares[f"{name}: same side of the operating point, away from it"] = list(flagged[away].astype(float))
        shares[f"{name}: same label, of all cells"] = list((labels == then).astype(float))
        shares[f"{name}: mean change of P(abnormal)"] = list(np.abs(p - q))
    return shares


def _shifted(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A crop that lies up to a tenth of the side elsewhere; what is missing repeats the border."""
    height, width = image.shape[:2]
    dx, dy = random.uniform(-0.1, 0.1, 2) * (width, height)
    matrix = np.array([[1, 0, dx], [0, 1, dy]])
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


def _compressed(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def _stained(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A mild change: mean colour by up to 8 grey levels a channel, contrast by up to a tenth."""
    moved = (image - image.mean(axis=(0, 1))) * random.uniform(0.9, 1.1) + image.mean(axis=(0, 1))
    return np.clip(moved + random.uniform(-8, 8, 3), 0, 255).astype(np.uint8)


CHANGES: Mapping[str, Change] = {
    "mirrored": lambda image, _: image[:, ::-1],
    "turned by 90 degrees": lambda image, _: np.rot90(image),
    "shifted by up to 10 %": _shifted,
    "JPEG 75": _compressed,
    "mild stain change": _stained,
}


if __name__ == "__main__":
    main()
