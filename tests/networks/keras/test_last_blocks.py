"""The last blocks of every network of the registry: cut, trained, joined, and predicting from a bundle."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cervicyte.bundle.folder import Bundle, InputSpec, Manifest, save_bundle
from cervicyte.bundle.graph import network_graph
from cervicyte.data.labels import BINARY
from cervicyte.decision.calibration import DecisionLimits, softmax
from cervicyte.decision.linear import LinearHead
from cervicyte.errors import DataError, UsageError
from cervicyte.features.activations import ActivationTable
from cervicyte.networks.keras import export, last_blocks
from cervicyte.networks.registry import BACKBONES, Backbone, find_weights, get_backbone, import_keras
from cervicyte.networks.runtime import Engine
from cervicyte.training.fine_tuning import TailTrainer
from cervicyte.training.schedule import Schedule
from support.generated_cells import make_cell, save
from support.graphs import read_by_the_oldest_runtime
from support.sharing import needs

pytestmark = needs("torch")


@dataclass(frozen=True)
class Row:
    """A network at a small input, and where design.md, section 5, cuts it.

    ``before`` is the cut's name, or what its name begins with where Keras counts it up by itself; ``shape`` that of
    its output; ``layers`` how many layers hang behind it.
    """

    name: str
    size: int
    before: str
    shape: tuple[int, int, int]
    layers: int


ROWS = (
    Row("ResNet50", 64, "conv5_block1_out", (2, 2, 2048), 20),
    Row("MobileNetV2", 64, "block_14_add", (2, 2, 160), 20),
    Row("ResNet50V2", 64, "conv5_block1_out", (2, 2, 2048), 24),
    Row("ResNet101", 64, "conv5_block1_out", (2, 2, 2048), 20),
    Row("ResNet152", 64, "conv5_block1_out", (2, 2, 2048), 20),
    Row("DenseNet121", 64, "conv5_block14_concat", (2, 2, 960), 16),
    Row("DenseNet169", 64, "conv5_block30_concat", (2, 2, 1600), 16),
    Row("Xception", 75, "add", (5, 5, 728), 16),
    Row("InceptionResNetV2", 107, "block8_8_ac", (2, 2, 2080), 34),
)
#: Names that Keras counts up by itself, and the activation behind a network's last BatchNorm.
UNNAMED = re.compile(r"(conv2d|batch_normalization|activation|add|custom_scale_layer)(_\d+)?|out_relu|post_relu|relu")


def each_network(test):
    return pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)(test)


def registered(row: Row) -> Backbone:
    return get_backbone(row.name, size=row.size)


def built(row: Row):
    """The network with random weights, and the part behind the cut, as Keras models."""
    keras = import_keras()
    network = export.build_network(registered(row), find_weights(registered(row), "random"))
    cut = network.get_layer(export.cut_layer(network, registered(row).tail))
    return network, cut, keras.Model(cut.output, network.output)


def test_the_table_is_the_registry() -> None:
    assert [row.name for row in ROWS] == [b.name for b in BACKBONES if b.kind == "keras"]
    assert all(b.tail for b in BACKBONES if b.kind == "keras")


@each_network
def test_the_cut_lies_before_the_last_two_blocks_and_the_tail_answers_as_keras_does(row) -> None:
    import torch

    from cervicyte.networks.keras.torch_blocks import TailNetwork

    network, cut, tail = built(row)
    assert cut.name == row.before or re.fullmatch(rf"{row.before}_\d+", cut.name)
    assert cut.output.shape[1:] == row.shape
    behind = [layer.name for layer in tail.layers[1:]]
    before = {layer.name for layer in import_keras().Model(network.input, cut.output).layers}
    assert len(behind) == row.layers
    assert not before & set(behind)
    assert before | set(behind) == {layer.name for layer in network.layers}
    blocks = re.compile("|".join(rf"{block}(_.*)?" for block in registered(row).tail))
    assert all(blocks.fullmatch(name) or UNNAMED.fullmatch(name) for name in behind)
    assert not [name for name in before if blocks.fullmatch(name)]
    for block in registered(row).tail:
        assert [name for name in behind if name == block or name.startswith(f"{block}_")]

    # BatchNorm of random networks does nothing; here it has something to do.
    random = np.random.default_rng(0)
    for layer in tail.layers:
        for variable in layer.weights if type(layer).__name__ == "BatchNormalization" else ():
            low = 0.5 if variable.name in ("gamma", "moving_variance") else -0.3
            variable.assign(random.uniform(low, low + 0.6, variable.shape).astype(np.float32))
    maps = torch.from_numpy(random.normal(size=(3, *row.shape)).astype(np.float32))
    plain = TailNetwork(tail)
    with torch.no_grad():
        expected = tail(maps, training=False).permute(0, 3, 1, 2)
        found = plain(maps.permute(0, 3, 1, 2))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5 * float(expected.abs().max()))
    assert float(found.std()) > 0
    # What Keras would train is trained, and nothing else.
    ours, theirs = sum(p.numel() for p in plain.parameters()), tail.count_params()
    statistics = sum(int(np.prod(w.shape)) for layer in tail.layers for w in layer.non_trainable_weights)
    assert ours == theirs - statistics


@each_network
def test_train_join_and_predict_from_a_bundle(row, tmp_path) -> None:
    network, weights = registered(row), find_weights(registered(row), "random")
    prefix = export.export_backbone(network, weights, layer=export.BEFORE_TAIL)
    assert export.export_record(prefix)["random_weights"]
    pictures = [make_cell(seed, row.size) for seed in range(8)]
    pixels = np.stack(pictures)
    before = Engine(prefix, ("feature_map",), precision="float32").run(pixels)["feature_map"]
    assert before.shape == (8, *row.shape)

    # One step: every trained weight gets a gradient and moves; the statistics of BatchNorm do not.
    scale = np.abs(before).max()  # random networks answer with tiny numbers
    table = ActivationTable((before[:, None] / scale).astype(np.float16), {}, 1, row.name, [str(i) for i in range(8)])
    trainer = TailTrainer(network, weights, table, Schedule(epochs=1, batch_size=8), "float32")
    statistics = [b.clone() for b in trainer.tail.buffers()]
    rows, codes = np.arange(8), np.arange(8) % 2
    trainer.train(rows, codes, rows[:4], codes[:4], 2, 0)
    assert all(p.grad is not None and bool(p.grad.any()) for p in trainer.tail.parameters())
    moved = trainer.tail.get_arrays()
    assert all((a != b).any() for a, b in zip(moved, trainer.initial, strict=True))
    assert statistics
    assert all(bool((a == b).all()) for a, b in zip(statistics, trainer.tail.buffers(), strict=True))

    # Both versions behind one prefix, with the contract of every graph here.
    joined = tmp_path / "joined.onnx"
    last_blocks.join(prefix, trainer.tail, [trainer.initial, moved], joined)
    assert read_by_the_oldest_runtime(joined)
    found = Engine(joined, ("features", "feature_map"), precision="float32").run(pixels)
    expected = []
    for arrays in (trainer.initial, moved):
        trainer.tail.set_arrays(arrays)
        expected.append(last_blocks.tail_features(trainer.tail, before))
    features = np.concatenate(expected, axis=1)
    assert found["features"].shape == (8, 2 * network.dimension)
    np.testing.assert_allclose(found["features"], features, atol=1e-3 * np.abs(features).max())
    np.testing.assert_allclose(
        found["feature_map"].mean(axis=(1, 2)), found["features"], atol=1e-4 * np.abs(features).max()
    )
    assert np.abs(features[:, : network.dimension] - features[:, network.dimension :]).max() > 0

    # And from a bundle on disk.
    random = np.random.default_rng(1)
    head = LinearHead(random.normal(size=(features.shape[1], 2)) / features.std() / 100, np.array([0.1, 0.0]), 1.0)
    limits = DecisionLimits(
        threshold=0.3, sensitivity=0.95, normal_below=0.1, abnormal_from=0.8, confidence_from=0.0, max_risk=0.05
    )
    spec = InputSpec("image", row.size)
    manifest = Manifest("tails", BINARY, BINARY.classes, spec, limits, "float32")
    save_bundle(tmp_path / "bundle", manifest, network_graph(joined, head, 2.0))
    files = [save(picture, tmp_path / f"{i}.png") for i, picture in enumerate(pictures)]
    answer = Bundle.load(tmp_path / "bundle").predict(files, cache=False)
    wanted = softmax(head.logits(features), 2.0)
    np.testing.assert_allclose(answer[[f"p_{c}" for c in BINARY.classes]], wanted, atol=2e-3)
    assert np.ptp(wanted[:, 0]) > 1e-3


def test_a_graph_that_does_not_answer_as_pytorch_is_refused_and_not_written(tmp_path, monkeypatch) -> None:
    row = get_backbone("MobileNetV2", size=64)
    weights = find_weights(row, "random")
    prefix = export.export_backbone(row, weights, layer=export.BEFORE_TAIL)
    tail = last_blocks.build_tail(row, weights)
    real = last_blocks.tail_features
    monkeypatch.setattr(last_blocks, "tail_features", lambda *args: real(*args) * np.float32(1.01))
    with pytest.raises(DataError, match="does not answer as the trained one"):
        last_blocks.join(prefix, tail, [tail.get_arrays()], tmp_path / "joined.onnx")
    assert not list(tmp_path.iterdir())


def test_a_layer_that_no_tail_has_is_refused() -> None:
    from cervicyte.networks.keras.torch_blocks import TailNetwork

    keras = import_keras()
    inputs = keras.Input((8, 8, 3))
    odd = {
        "LayerNormalization": keras.layers.LayerNormalization(),
        "dilation_rate": keras.layers.Conv2D(2, 3, dilation_rate=2),
        "activation": keras.layers.Conv2D(2, 3, activation="tanh"),
        "groups": keras.layers.Conv2D(3, 3, groups=3),
        "depth_multiplier": keras.layers.DepthwiseConv2D(3, depth_multiplier=2),
    }
    for what, layer in odd.items():
        with pytest.raises(UsageError, match="does not know") as raised:
            TailNetwork(keras.Model(inputs, layer(inputs)))
        assert what in str(raised.value)


def test_weights_of_another_tail_are_refused() -> None:
    row = get_backbone("MobileNetV2", size=64)
    tail = last_blocks.build_tail(row, find_weights(row, "random"))
    arrays = tail.get_arrays()
    with pytest.raises(ValueError, match="shorter"):
        tail.set_arrays(arrays[:-1])


def test_real_weights_run_behind_the_cut_as_in_keras(shared: Path) -> None:
    """MobileNetV2 as it was trained on ImageNet: whole in Keras against engine and tail."""
    row = get_backbone("MobileNetV2", size=96)
    if not (shared / "weights" / row.weights_file).is_file():
        pytest.skip(f"{row.weights_file} is not in shared/weights")
    import torch

    weights = find_weights(row, shared / "weights")
    network = export.build_network(row, weights)
    keras = import_keras()
    cut = network.get_layer(export.cut_layer(network, row.tail)).output
    pixels = np.stack([make_cell(seed, 96) for seed in range(4)]).astype(np.float32)
    prepared = torch.from_numpy(keras.applications.mobilenet_v2.preprocess_input(pixels))
    with torch.no_grad():
        before, after = keras.Model(network.input, [cut, network.output])(prepared, training=False)
    found = last_blocks.tail_features(last_blocks.build_tail(row, weights), before.numpy())
    expected = after.mean((1, 2)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
