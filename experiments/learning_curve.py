"""Scores against the share of training groups used: how much would more cells bring?

    python experiments/learning_curve.py DATA --weights FOLDER

Frozen ResNet50 features, StandardScaler and logistic regression with C chosen by inner folds; grouped 5-fold.
"""

from __future__ import annotations

import numpy as np

from cervicyte.data.readers import load
from common import make_parser, print_head
from variants import extract, fold_of, line, pairs

SHARES = (0.4, 0.6, 0.8, 1.0)


def main() -> None:
    """Print one line for each share of the training groups."""
    parser = make_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    cells = load(options.data)
    values = extract(cells, options.weights)
    print_head(["training groups used", "classes", "normal/abnormal", "AUROC"])
    for share in SHARES:
        runs = []
        for seed in range(options.seeds):
            folds = []
            for train, test in pairs(cells, seed):
                groups = np.unique(cells.groups[train].astype(str))
                kept = np.random.default_rng(seed).permutation(groups)[: round(share * len(groups))]
                some = train[np.isin(cells.groups[train].astype(str), kept)]
                folds.append(fold_of(values, cells, some, test, seed)[:2])
            runs.append(folds)
        line(f"{share:.0%}", cells, runs)


if __name__ == "__main__":
    main()
