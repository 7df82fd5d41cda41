"""
What speaks for an answer
=========================

A class activation map of one cell, computed inside the bundle's graph: no gradients, no PyTorch.
"""

# %%
# A small model of generated cells, as in the first example. An explainer is compiled once, for any number of images.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import cervicyte
from cervicyte.data import synthetic
from cervicyte.explain import Explainer, overlay

folder = Path(tempfile.mkdtemp())
synthetic.generate(folder / "cells", n_per_class=24, seed=0)
run = cervicyte.train(cervicyte.load(folder / "cells"), folder / "run", "cytonet-lr", folds=3)
explainer = Explainer(run.bundle)

# %%
# The map counts in log-odds of a target, here ``abnormal`` against normal: red speaks for it, blue against it. Its
# mean is the log-odds of the answer. What the model refuses as no cell is not explained.

synthetic.generate(folder / "new", n_per_class=1, seed=4)
answers = {prediction.path: prediction for prediction in run.bundle.stream([folder / "new"])}
paths = [Path(path) for path, prediction in answers.items() if not prediction.refused][:4]
figure, axes = plt.subplots(1, len(paths), figsize=(9, 2.6))
for axis, path in zip(axes, paths, strict=True):
    explanation = explainer.explain(path)
    axis.imshow(overlay(explanation, opacity=0.5))
    axis.set_title(f"{path.parent.name}\nlog-odds {explanation.log_odds:+.1f}", fontsize=7)
    axis.axis("off")
figure.tight_layout()
plt.show()
