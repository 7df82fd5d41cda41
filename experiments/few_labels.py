"""How well a few labels do: accuracy against labels a class, on features of our own network, ResNet50 and morphology.

    python experiments/few_labels.py DATA --weights FOLDER --crops FOLDER... [--repeats 20]

Our own network appears twice: as it learnt to see from crops without labels, when it has seen no cell of DATA and no
label; and as the student of each fold, which has learnt from all the labels of that fold's training cells, none of its
test cells. The second is what ships, but on other slides it has not learnt the user's own kind of cells: its line is
the most that may be hoped for, not what few labels alone give. Five grouped folds; from each training fold the labels
are drawn at random, a few of each class, a head is fitted on them alone, and the whole test fold is judged. Means over
repeats and folds; the spread is that of repeats.
"""

from __future__ import annotations

import numpy as np

from cervicyte.data.readers import load
from cervicyte.data.splits import make_folds
from cervicyte.decision.linear import fit_linear
from cervicyte.evaluation.metrics import auroc
from cervicyte.networks.cytonet import Cytonet
from cervicyte.training.cytonet.distillation import features_of
from cervicyte.training.fitting import fit_model
from cervicyte.training.members import make_member
from cervicyte.training.parts import Linear
from cervicyte.training.recipes import load_recipe
from common import abnormal_classes, make_parser, print_head, read_student

LABELS = (5, 10, 20, 50)

#: Inverse regularisation strength: a few labels cannot choose it, so it is one for all, stated and not tuned.
C = 1e-3


def main() -> None:
    """Print a table of accuracy and AUROC."""
    parser = make_parser(__doc__, crops=True)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    cells = load(options.data)
    abnormal = abnormal_classes(cells)
    folds = make_folds(cells, "grouped", 5, 0)
    print_head(["features", *(f"{n} labels a class" for n in LABELS)])
    for name, of_fold in tables(cells, folds, options):
        row = []
        for n in LABELS:
            scores = np.array([judged(of_fold, cells, folds, abnormal, n, seed) for seed in range(options.repeats)])
            accuracy, area = scores.mean(axis=0)
            row.append(f"{accuracy:.3f} ± {scores[:, 0].std():.3f}; AUROC {area:.3f}")
        print(f"| {name} | " + " | ".join(row) + " |", flush=True)


def tables(cells, folds, options):
    """Name, and for each fold the features of all cells, for each extractor."""
    recipe = load_recipe("cytonet")
    member = read_student(recipe, cells, options, 0)
    network = Cytonet(member.shape, 0)

    def features(arrays):
        network.set_arrays(arrays)
        return features_of(network, member.pixels.small(cells))

    yield "cytonet, before it saw a label", [features(member.foundation.arrays)] * len(folds)
    models = [fit_model(cells.subset(train), (member,), recipe, 0, "grouped") for train in folds.train]
    yield "cytonet, each fold's student", [features(model.members[0].student.arrays) for model in models]
    for name, part in (
        ("ResNet50", Linear(name="frozen", backbone="ResNet50")),
        ("ResNet50, flips", Linear(name="flips", backbone="ResNet50", orientations=4)),
        ("morphology", Linear(name="morphology")),
    ):
        frozen = make_member(part, options.weights, None, 0, "geometric")
        frozen.read(cells)
        yield name, [frozen.table.of(cells)] * len(folds)


def judged(of_fold, cells, folds, abnormal, count, seed):
    """Accuracy over all classes and AUROC of abnormal cells, over all test folds."""
    random = np.random.default_rng(seed)
    right, p, truth = [], [], []
    for features, train, test in zip(of_fold, folds.train, folds.test, strict=True):
        chosen = []
        for code in np.unique(cells.codes):
            of_class = train[cells.codes[train] == code]
            chosen.extend(random.choice(of_class, min(count, len(of_class)), replace=False))
        head = fit_linear(features[chosen], cells.codes[chosen], len(abnormal), C)
        logits = head.logits(features[test])
        logits = np.exp(logits - logits.max(axis=1, keepdims=True))
        right.append(logits.argmax(axis=1) == cells.codes[test])
        p.append((logits / logits.sum(axis=1, keepdims=True))[:, abnormal].sum(axis=1))
        truth.append(abnormal[cells.codes[test]])
    return np.concatenate(right).mean(), auroc(np.concatenate(truth), np.concatenate(p))


if __name__ == "__main__":
    main()
