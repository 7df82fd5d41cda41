"""Whether a temperature, which reorders sums of classes, moves the order of P(abnormal): AUROC before and after.

A temperature keeps the order of each class's probability, but not that of a sum of several. Grouped 5-fold; the
temperature is fitted inside each training fold, as in training.

    python experiments/temperature_order.py DATA [--recipe morphology-lr ...] [--seeds 3]
"""

from __future__ import annotations

import argparse

import numpy as np

from cervicyte.data.readers import load
from cervicyte.decision.calibration import softmax
from cervicyte.evaluation.metrics import auroc
from cervicyte.training.fitting import fit_model
from cervicyte.training.plan import Options, make_plan
from cervicyte.training.recipes import load_recipe


def main() -> None:
    """Print a row for each recipe and seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--recipe", nargs="+", default=["morphology-lr"])
    parser.add_argument("--weights")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    cells = load(options.data)
    print(
        "| recipe | seed | temperatures | AUROC at 1 | AUROC at the temperature | rank correlation |\n| --- |"
        + " ---: |" * 5
    )
    for name in options.recipe:
        for seed in range(options.seeds):
            plan = make_plan(cells, load_recipe(name), Options(weights=options.weights, seed=seed))
            print(f"| {name} | {seed} | " + " | ".join(_compare(plan)) + " |", flush=True)


def _compare(plan) -> tuple[str, ...]:
    from scipy.stats import spearmanr

    trial = plan.trials[0]
    n = len(trial.cells)
    before, after, temperatures = np.empty(n), np.empty(n), []
    for train, test in zip(trial.division.train, trial.division.test, strict=True):
        model = fit_model(trial.cells.subset(train), trial.members, plan.recipe, plan.seed, "grouped")
        logits = model.members[0].logits(trial.cells.subset(test))
        temperatures.append(model.temperatures[0])
        for scores, temperature in ((before, 1.0), (after, temperatures[-1])):
            scores[test] = softmax(logits, temperature)[:, model.abnormal_classes].sum(axis=1)
    abnormal = np.array([label in trial.cells.system.abnormal for label in trial.cells.labels])
    spread = f"{min(temperatures):.2f} to {max(temperatures):.2f}"
    areas = [f"{float(auroc(abnormal, scores)):.4f}" for scores in (before, after)]
    return spread, *areas, f"{spearmanr(before, after).statistic:.4f}"


if __name__ == "__main__":
    main()
