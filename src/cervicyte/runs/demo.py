"""The whole job on generated cells: what `cervicyte demo` and `make demo` show a newcomer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from cervicyte.base import progress
from cervicyte.bundle.folder import Bundle
from cervicyte.bundle.predictions import write_predictions
from cervicyte.data import readers, synthetic
from cervicyte.evaluation.results import Evaluation
from cervicyte.runs.train import train


def tour(out: Path, seed: int = 0, show: Callable[[Sequence[Evaluation]], None] = lambda _: None) -> None:
    """Generate cells, train with grouped and random folds, predict, and say what to open next."""
    images = out / "cells"
    progress.say(f"1. Generating synthetic cells in {images} (no real patient, no real slide)")
    synthetic.generate(images, seed=seed)
    cells = readers.load(images)
    progress.say(
        f"2. Training on {len(cells)} cells of {len(set(cells.groups))} slides, by what the network that ships sees, "
        "under two protocols"
    )
    run = train(cells, out, "cytonet-lr", compare=("random",), seed=seed, command=f"cervicyte demo --out {out}")
    show(run.evaluations)
    fresh = out / "new_cells"
    synthetic.generate(fresh, n_per_class=3, seed=seed + 1)
    progress.say(f"3. Predicting new cells of other slides, {fresh}, with the bundle")
    for prediction in write_predictions(run.bundle.stream([fresh]), run.bundle.classes, out / "demo_predictions.csv"):
        answer = prediction.error or f"{prediction.label:22}"
        answer += f" ({prediction.quality})" if prediction.refused else f" P(abnormal) {prediction.p_abnormal or 0:.2f}"
        progress.say(f"   {Path(prediction.path).name:24} {answer}")
    progress.say("4. The same cells before the network that ships, which was trained on real ones")
    counts = Counter(
        f"refused: {p.quality}" if p.refused else "uncertain" if p.uncertain else p.label
        for p in Bundle.load().stream([fresh])
    )
    progress.say("   " + ", ".join(f"{count} {words}" for words, count in counts.most_common()))
    progress.say(
        f"\nOpen {out / 'report.html'} in a browser. These cells are drawn by a program: the numbers say nothing of\n"
        "patients. On real data, for example the Herlev set:\n"
        f"   cervicyte predict CELLS --out predictions.csv        (the network that ships; no training)\n"
        f"   cervicyte data audit HERLEV --out audit\n"
        f"   cervicyte train HERLEV --recipe resnet50-lr --weights WEIGHTS --compare --out run\n"
        f"   cervicyte predict CELLS --model run --out predictions.csv"
    )
