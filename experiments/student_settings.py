"""How settings of the recipe cytonet do on the inner folds of one training set, beside the teacher and frozen ResNet50.

    python experiments/student_settings.py DATA --weights FOLDER --crops FOLDER... [SETTINGS...]

SETTINGS are keys of the recipe, for example ``learning_rate=5e-3,epochs=40``; "" is the recipe as it is. Choosing among
recipes by their test folds would make a number of no worth. Here the test fold of a division is left alone: each cell
of its training set is judged by the version that was trained without the cell's inner fold, as it is for calibration.
What was trained is kept in the cache. Cells that are inner ones here are test cells in other folds: choose with one
seed, report with another, and say so.
"""

from __future__ import annotations

import numpy as np

from cervicyte.data.cells import CellTable
from cervicyte.data.readers import load
from cervicyte.data.splits import make_folds
from cervicyte.decision.calibration import softmax
from cervicyte.evaluation.metrics import auroc
from cervicyte.training.assembly import make_members
from cervicyte.training.fitting import Model, fit_model
from cervicyte.training.parts import Distil
from cervicyte.training.recipes import load_recipe, parse_recipe
from common import make_parser, print_head


def main() -> None:
    """Print a row for frozen ResNet50, the teacher and each of the settings."""
    parser = make_parser(__doc__, crops=True)
    parser.add_argument("settings", nargs="*", default=[""])
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--fold", type=int, default=0)
    options = parser.parse_args()
    cells = load(options.data)
    training = cells.subset(make_folds(cells, "grouped", 5, options.seed).train[options.fold])
    recipe = load_recipe("cytonet")
    (student,) = recipe.members
    assert isinstance(student, Distil)
    frozen = parse_recipe("frozen", {"backbone": "ResNet50"})
    lines = {"frozen ResNet50 + LR": frozen, "teacher": load_recipe(student.teacher)}
    lines |= {f"cytonet {text}".strip(): recipe.changed(**parsed(text)) for text in options.settings}
    print_head([f"{len(training)} cells, inner folds", "7 classes", "normal/abnormal", "AUROC", "log loss"])
    for name, one in lines.items():
        one = one.changed(inner_folds=recipe.inner_folds)
        members = make_members(one.members, options.weights, None, options.seed, one.copies_by, options.crops)
        for member in members:
            member.read(training)
        model = fit_model(training, members, one, options.seed, "grouped")
        print(f"| {name} | " + " | ".join(f"{value:.4f}" for value in scores(model, training)) + " |", flush=True)


def parsed(text: str) -> dict[str, float | int]:
    """Keys and numbers of "key=number,key=number"."""
    pairs = (pair.split("=") for pair in text.split(",") if pair)
    return {key: int(value) if value.isdigit() else float(value) for key, value in pairs}


def scores(model: Model, training: CellTable) -> tuple[float, float, float, float]:
    """Accuracy on the classes, of normal or abnormal, AUROC and log loss of out-of-fold votes, calibrated on them."""
    both = zip(model.members, model.temperatures, strict=True)
    votes = np.mean([softmax(member.oof, temperature) for member, temperature in both], axis=0)
    codes = np.searchsorted([training.system.classes.index(c) for c in model.classes], training.codes)
    if model.abnormal_classes is None:
        raise SystemExit(f"which classes of {training.system.name} are abnormal is not defined")
    abnormal, p_abnormal = model.abnormal_classes[codes], votes[:, model.abnormal_classes].sum(axis=1)
    p_true = votes[np.arange(len(codes)), codes]
    return (
        float((votes.argmax(axis=1) == codes).mean()),
        float(((p_abnormal >= 0.5) == abnormal).mean()),
        auroc(abnormal, p_abnormal),
        float(-np.log(np.maximum(p_true, 1e-12)).mean()),
    )


if __name__ == "__main__":
    main()
