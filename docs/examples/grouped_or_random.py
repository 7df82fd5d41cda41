"""
Grouped or random?
==================

The same cells, the same method, judged by two protocols. Only the grouped one says what to expect of the next slide.
"""

# %%
# Divided at random, most test cells have a sibling of the same slide in the training set. `compare` judges by both
# protocols in one run; the random one is marked as optimistic in every output.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import cervicyte
from cervicyte.data import synthetic

folder = Path(tempfile.mkdtemp())
synthetic.generate(folder / "cells", n_per_class=24, seed=3)
cells = cervicyte.load(folder / "cells")
run = cervicyte.train(cells, folder / "run", "cytonet-lr", folds=3, compare=("random",))

# %%
# Each number comes with an interval that draws slides and not cells, since cells of one slide are not independent.

figure, axes = plt.subplots(1, 2, figsize=(8, 2.4), sharey=True)
questions = (("native", "accuracy", "accuracy, all classes"), ("binary", "auroc", "AUROC, normal/abnormal"))
for axis, (part, metric, words) in zip(axes, questions, strict=True):
    for row, evaluation in enumerate(run.evaluations):
        value = evaluation.metrics[part][metric]
        low, high = value["ci95"]
        axis.plot((low, high), (row, row), color="#2f6690", linewidth=2)
        axis.plot(value["value"], row, "o", color="#2f6690")
        print(f"{evaluation.predictions.protocol:8} {words}: {value['value']:.3f} ({low:.3f} to {high:.3f})")
    axis.set_title(words, fontsize=10)
    axis.set_yticks(range(len(run.evaluations)), [evaluation.predictions.protocol for evaluation in run.evaluations])
    axis.set_ylim(-0.5, len(run.evaluations) - 0.5)
figure.tight_layout()
plt.show()

# %%
# What else the protocol is warned of:

for evaluation in run.evaluations:
    for warning in evaluation.warnings:
        print(f"{evaluation.predictions.protocol}: {warning}")
