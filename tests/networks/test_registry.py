"""The registry, and where weights come from."""

from __future__ import annotations

import inspect
import socket
from pathlib import Path

import numpy as np
import pytest

from cervicyte.errors import DataError, MissingError, UsageError
from cervicyte.networks import registry
from cervicyte.networks.registry import BACKBONES, find_weights, get_backbone

NETWORKS = [row for row in BACKBONES if row.kind == "keras"]


@pytest.fixture(autouse=True)
def no_weights_setting(monkeypatch, tmp_path):
    monkeypatch.setenv("CERVICYTE_WEIGHTS", "")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


def test_the_registry_holds_what_the_design_names() -> None:
    assert [row.name for row in NETWORKS] == [
        "ResNet50",
        "MobileNetV2",
        "ResNet50V2",
        "ResNet101",
        "ResNet152",
        "DenseNet121",
        "DenseNet169",
        "Xception",
        "InceptionResNetV2",
    ]
    assert len({row.name.lower() for row in BACKBONES}) == len(BACKBONES)


@pytest.mark.parametrize("row", NETWORKS, ids=lambda row: row.name)
def test_a_row_agrees_with_keras(row) -> None:
    """Size, dimension, preprocessing and block names, asked of Keras itself."""
    keras = registry.import_keras()
    builder = getattr(keras.applications, row.name)
    network = builder(weights=None, include_top=True)
    assert network.input_shape == (None, row.size, row.size, 3)
    assert network.layers[-2].output.shape == (None, row.dimension)
    names = [layer.name for layer in network.layers]
    for block in row.tail:
        assert any(name.startswith(block) for name in names), block
    image = np.random.default_rng(0).uniform(0, 255, (1, 4, 4, 3))
    expected = inspect.getmodule(builder).preprocess_input(image.copy())
    shared_way = keras.applications.imagenet_utils.preprocess_input(image.copy(), mode=row.preprocessing)
    np.testing.assert_array_equal(shared_way, expected)
    assert row.keras_file.split("_weights")[0].replace("_", "") in row.name.lower()
    assert row.licence
    assert "doi:" in row.citation


def test_names_do_not_mind_their_case_and_sizes_can_be_chosen() -> None:
    assert get_backbone("resnet50").name == "ResNet50"
    assert get_backbone("ResNet50", size=160).size == 160
    assert get_backbone("morphology").kind == "morphology"


@pytest.mark.parametrize(
    ("wrong", "hint"), [("resnet5", "ResNet50"), ("mobilenet", "MobileNetV2"), ("Densenet-121", "DenseNet121")]
)
def test_a_wrong_name_is_answered_with_the_nearest(wrong, hint) -> None:
    with pytest.raises(UsageError) as caught:
        get_backbone(wrong)
    assert f"did you mean {hint!r}?" in str(caught.value)


def test_an_onnx_file_needs_its_preprocessing_stated() -> None:
    with pytest.raises(UsageError, match="preprocessing stated"):
        get_backbone("onnx:net.onnx")
    with pytest.raises(UsageError, match="unknown preprocessing"):
        get_backbone("onnx:net.onnx", "imagenet")
    row = get_backbone("onnx:a b/net.onnx", "torch", 64)
    assert (row.kind, row.size, row.onnx_file) == ("onnx", 64, Path("a b/net.onnx"))


@pytest.mark.parametrize(("preprocessing", "size"), [("tf", None), (None, 0), (None, -3)])
def test_contradictions_are_refused(preprocessing, size) -> None:
    with pytest.raises(UsageError):
        get_backbone("ResNet50", preprocessing, size)


@pytest.mark.parametrize("name", ["weights_file", "keras_file"])
def test_a_folder_is_searched_for_both_names(tmp_path, monkeypatch, name) -> None:
    row = get_backbone("DenseNet121")
    file = tmp_path / getattr(row, name)
    file.write_bytes(b"x")
    assert find_weights(row, tmp_path).path == file
    assert find_weights(row, str(file)).path == file
    monkeypatch.setenv("CERVICYTE_WEIGHTS", str(tmp_path))
    assert find_weights(row).path == file


def test_missing_weights_name_the_file_and_the_place(tmp_path) -> None:
    row = get_backbone("ResNet152")
    with pytest.raises(MissingError) as caught:
        find_weights(row, tmp_path)
    assert row.weights_file in str(caught.value)
    with pytest.raises(MissingError, match="no such file"):
        find_weights(row, tmp_path / "nowhere")


def test_offline_without_weights_is_an_error_that_helps(monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    row = get_backbone("DenseNet169")
    with pytest.raises(MissingError) as caught:
        find_weights(row)
    text = str(caught.value)
    assert row.keras_file in text
    assert "CERVICYTE_WEIGHTS" in text


def test_what_keras_downloaded_before_is_used(tmp_path) -> None:
    row = get_backbone("Xception")
    file = tmp_path / "keras" / "models" / row.keras_file
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    assert find_weights(row).path == file


def test_random_weights_only_by_that_word_and_marked() -> None:
    weights = find_weights(get_backbone("ResNet50"), "random", seed=3)
    assert weights.random
    assert weights.seed == 3
    assert "RANDOM" in weights.description
    assert weights.sha256 != find_weights(get_backbone("ResNet50"), "random", seed=4).sha256


def test_morphology_takes_no_weights() -> None:
    with pytest.raises(UsageError):
        find_weights(get_backbone("morphology"), "random")


def test_without_keras_the_error_names_the_extra(monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingError, match=r"not installed") as caught:
        registry.import_keras()
    assert "cervicyte[train]" in str(caught.value)


def test_a_file_of_another_network_is_refused(shared) -> None:
    from cervicyte.networks.keras.export import build_network

    row = get_backbone("ResNet50", size=64)
    other = shared / "weights" / get_backbone("MobileNetV2").weights_file
    if not other.is_file():
        pytest.skip(f"{other.name} is not in shared/weights")
    with pytest.raises(DataError, match="does not hold weights of ResNet50"):
        build_network(row, find_weights(row, other))
