"""Wall time of fine-tuning the last two blocks for the same epochs: activations kept, against Keras' `fit`.

    python benchmarks/fine_tuning.py DATA --weights FOLDER [--network ResNet50] [--cells 240] [--epochs 8]

Both ways start from the same head, see the same number of views of the same cells in the same batches, train the same
blocks with AdamW, the same cosine, label smoothing and class weights, and judge the held cells every second epoch, in
one run on one machine. The naive way is what most notebooks do: the whole network in `fit`, everything before the
last two blocks frozen, images augmented beforehand and kept in memory.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from cervicyte.data.cells import CellTable
from cervicyte.data.readers import load
from cervicyte.data.splits import make_folds
from cervicyte.decision.calibration import fit_temperature, softmax
from cervicyte.decision.linear import fit_linear
from cervicyte.evaluation.metrics import auroc
from cervicyte.images.decoding import load as load_image
from cervicyte.networks.keras.export import build_network, cut_layer
from cervicyte.networks.registry import import_keras
from cervicyte.training.fine_tuning import HEAD_C
from cervicyte.training.members import FinetunedMember, make_member
from cervicyte.training.parts import Finetune
from common import write_figures


def main() -> None:
    """Run both ways and print what they took and how well they told the held cells."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--network", default="ResNet50")
    parser.add_argument("--cells", type=int, default=240)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    everything = load(options.data)
    # Held cells are of other groups; the training set is of the size asked for.
    folds = make_folds(everything, "grouped", 5, 0)
    random = np.random.default_rng(0)
    train = random.permutation(folds.train[0])[: options.cells]
    held_out = random.permutation(folds.test[0])[: options.cells // 4]
    cells = everything.subset(np.concatenate([train, held_out]))
    n = len(train)
    part = Finetune(name="r", backbone=options.network, epochs=options.epochs, patience=999, averaging=0.0)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CERVICYTE_CACHE_DIR"] = cache  # nothing from an earlier run
        ways = {"kept": kept(part, options.weights, cells, n), "naive": naive(part, options.weights, cells, n)}
    ratio = ways["naive"]["seconds"] / ways["kept"]["seconds"]
    for name, values in ways.items():
        print(name, {k: round(v, 3) for k, v in values.items()})
    print(f"naive / kept, one training: {ratio:.1f}")
    trainings = 20  # a grouped 5-fold cross-validation with 4 inner folds
    cv = trainings * ways["naive"]["seconds"] / (ways["kept"]["prefix"] + trainings * ways["kept"]["training"])
    print(f"naive / kept, {trainings} trainings over the same cells: {cv:.1f}")
    write_figures(options.out, **ways, **{"ratio": ratio, "ratio of 20 trainings": cv})


def kept(part: Finetune, weights: str, cells: CellTable, n: int) -> dict[str, float]:
    """The way of cervicyte: activations once, then the last blocks alone."""
    member = make_member(part, weights, None, 0, "geometric")  # exports the network, which happens once for all
    assert isinstance(member, FinetunedMember)
    trainer_ready = time.perf_counter()
    member.read(cells)
    prefix = time.perf_counter() - trainer_ready
    rows = member.table.rows_of(cells)
    trainer = member.trainer
    start = time.perf_counter()
    trained = trainer.train(rows[:n], cells.codes[:n], rows[n:], cells.codes[n:], len(cells.system.classes), 0)
    training = time.perf_counter() - start
    # The last epoch, not the best one, to compare like with like.
    last = trained.history[-1]
    return {
        "seconds": prefix + training,
        "prefix": prefix,
        "training": training,
        "training loss": last["train_loss"] or math.nan,
        "held log loss": last["validation_loss"] or math.nan,
        "held accuracy": last["accuracy"] or math.nan,
    }


def naive(part: Finetune, weights: str, cells: CellTable, n: int) -> dict[str, float]:
    """The whole network in Keras' `fit`."""
    keras = import_keras()
    member = make_member(part, weights, None, 0, "geometric")
    assert isinstance(member, FinetunedMember)
    extractor = member.extractor
    start = time.perf_counter()
    views = np.stack([extractor.prepare(load_image(c.path)) for c in cells.cells])
    reading = time.perf_counter() - start
    backbone, k = extractor.backbone, len(cells.system.classes)
    network = build_network(backbone, extractor.weights)
    cut = cut_layer(network, backbone.tail)
    before = True
    for layer in network.layers:
        layer.trainable = not before
        before = before and layer.name != cut
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False  # statistics stay frozen
    mode = backbone.preprocessing

    def preprocessed(images: np.ndarray) -> np.ndarray:
        return keras.applications.imagenet_utils.preprocess_input(images.astype(np.float32), mode=mode)

    pooled = keras.layers.GlobalAveragePooling2D()(network.output)
    start = time.perf_counter()
    frozen = keras.Model(network.input, pooled).predict(preprocessed(views[:n, 0]), batch_size=32, verbose=0)
    head = fit_linear(frozen, cells.codes[:n], k, HEAD_C)
    mean, scale = frozen.mean(axis=0), frozen.std(axis=0) + 1e-6
    standard = keras.layers.Normalization(mean=mean, variance=scale**2)(pooled)
    dense = keras.layers.Dense(k)
    model = keras.Model(network.input, dense(standard))
    dense.set_weights([head.weights * scale[:, None], head.bias + mean @ head.weights])
    codes = cells.codes
    balanced = (n / k / np.bincount(codes[:n], minlength=k)) ** part.class_weight
    steps = math.ceil(n / part.batch_size)
    total = part.epochs * steps
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, total - total // 10, warmup_target=part.learning_rate, warmup_steps=max(1, total // 10)
    )
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=part.weight_decay),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=part.label_smoothing),
    )

    class Views(keras.utils.PyDataset):
        """One view of each cell an epoch."""

        epoch = 1

        def __len__(self) -> int:
            return steps

        def __getitem__(self, step: int) -> Any:
            random = np.random.default_rng([0, self.epoch])
            order = random.permutation(n)
            some = order[step::steps]
            seen = views[some, random.integers(0, views.shape[1], len(some))]
            return (
                preprocessed(seen),
                np.eye(k, dtype=np.float32)[codes[some]],
                balanced[codes[some]].astype(np.float32),
            )

        def on_epoch_end(self) -> None:
            self.epoch += 1

    data = Views()
    loss = math.nan
    for epoch in range(0, part.epochs, 2):  # the held cells are judged every second epoch
        history = model.fit(data, initial_epoch=epoch, epochs=min(epoch + 2, part.epochs), verbose=0)
        loss = history.history["loss"][-1]
        logits = model.predict(preprocessed(views[n:, 0]), batch_size=32, verbose=0)
    seconds = time.perf_counter() - start
    p = softmax(logits, fit_temperature(logits, codes[n:]))
    return {
        "seconds": reading + seconds,
        "prefix": reading,
        "training": seconds,
        "training loss": float(loss),
        "held log loss": float(-np.log(np.maximum(p[np.arange(len(p)), codes[n:]], 1e-12)).mean()),
        "held accuracy": float((logits.argmax(axis=1) == codes[n:]).mean()),
        "held AUROC": abnormal_auroc(p, cells, n),
    }


def abnormal_auroc(p: np.ndarray, cells: CellTable, n: int) -> float:
    """AUROC of P(abnormal) on the held cells."""
    abnormal = np.array([c in (cells.system.abnormal or ()) for c in cells.system.classes])
    return float(auroc(abnormal[cells.codes[n:]], p[:, abnormal].sum(axis=1)))


if __name__ == "__main__":
    main()
