"""
A first model
=============

Generate cells, train on what the network that ships sees of them, and predict cells of slides that were not there.
"""

# %%
# Cells and the slides they come from
# -----------------------------------
# A folder with one folder per class. The generator writes the slide into each name, so that the reader knows which
# cells belong together; on your own files, ``group_from`` says so.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

import cervicyte
from cervicyte.data import synthetic

folder = Path(tempfile.mkdtemp())
synthetic.generate(folder / "cells", n_per_class=24, seed=0)
cells = cervicyte.load(folder / "cells")
print(f"{len(cells)} cells of {len(set(cells.groups))} slides; classes: {', '.join(cells.system.classes)}")

# %%
# One cell of each class:

figure, axes = plt.subplots(1, len(cells.system.classes), figsize=(9, 2), squeeze=False)
for axis, name in zip(axes[0], cells.system.classes, strict=True):
    cell = next(cell for cell in cells.cells if cell.label == name)
    axis.imshow(Image.open(cell.path))
    axis.set_title(name.replace("_", "\n"), fontsize=7)
    axis.axis("off")
plt.show()

# %%
# Train
# -----
# ``cytonet-lr`` is logistic regression on the features of the network that ships; no other weights are needed. Three
# grouped folds judge it, then it is fitted on all cells and written as a bundle, with a report.

run = cervicyte.train(cells, folder / "run", "cytonet-lr", folds=3)
binary = run.evaluations[0].metrics["binary"]
for name in ("auroc", "accuracy"):
    value = binary[name]
    low, high = value["ci95"]
    print(f"{name}, normal/abnormal: {value['value']:.3f} ({low:.3f} to {high:.3f})")

# %%
# Predict
# -------
# A row an image: the label, its Bethesda category, the probability of every class, and whether the model answers at
# all.

synthetic.generate(folder / "new", n_per_class=2, seed=1)
table = run.bundle.predict(folder / "new")
print(table[["label", "bethesda", "p_abnormal", "uncertain", "quality"]].round(2).to_string(index=False))
