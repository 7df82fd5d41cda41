"""ONNX files of others: weights in further files are read, named by the digest, or refused; versions are told."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from cervicyte.errors import DataError, MissingError
from cervicyte.networks import onnx_files
from cervicyte.networks.keras.export import export_backbone
from cervicyte.networks.registry import get_backbone, has_weights
from cervicyte.networks.runtime import Engine

WIDTH = 24


def network(seed: int = 0, opset: int = 17, ir_version: int = 8) -> onnx.ModelProto:
    random = np.random.default_rng(seed)

    def drawn(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((random.normal(size=shape) * 0.2).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], strides=[4, 4]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])],
        [drawn("w", WIDTH, 3, 4, 4), drawn("b", WIDTH)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def saved(folder: Path, seed: int = 0, location: str = "net.onnx.data", each: bool = False) -> Path:
    """A network whose weights lie in one further file, or each in a file of its own."""
    model = network(seed)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / location).parent.mkdir(parents=True)
    if each:
        onnx.external_data_helper.convert_model_to_external_data(model, False, size_threshold=0)
        onnx.save(model, folder / "net.onnx")
    else:
        options = {"save_as_external_data": True, "location": location, "size_threshold": 0}
        onnx.save(model, folder / "net.onnx", **options)
    return folder / "net.onnx"


@pytest.mark.parametrize(
    ("location", "each"), [("net.onnx.data", False), ("weights/all.bin", False), ("net.onnx.data", True)]
)
def test_other_weights_are_another_network_though_its_file_is_the_same(tmp_path, monkeypatch, location, each) -> None:
    monkeypatch.setenv("CERVICYTE_CACHE_DIR", str(tmp_path / "cache"))
    pixels = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    files, features = [], []
    for seed in (1, 2):
        path = saved(tmp_path / "net", seed, location, each)
        expected = onnxruntime.InferenceSession(path).run(
            None, {"x": pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255}
        )
        files.append(path.read_bytes())
        export = export_backbone(get_backbone(f"onnx:{path}", "0-1"))
        features.append(Engine(export, precision="float32").run(pixels)["features"])
        np.testing.assert_allclose(features[-1], expected[0], atol=1e-4)
        assert onnx_files.load(path)[1] != onnx_files.load(saved(tmp_path / "other", seed + 7, location, each))[1]
    assert files[0] == files[1]
    assert not np.allclose(features[0], features[1])


def test_a_network_in_one_file_is_named_by_that_file(tmp_path) -> None:
    import hashlib

    onnx.save(network(), tmp_path / "net.onnx")
    model, digest = onnx_files.load(tmp_path / "net.onnx")
    assert digest == hashlib.sha256((tmp_path / "net.onnx").read_bytes()).hexdigest()
    assert model == network()


def test_what_was_loaded_holds_its_weights(tmp_path) -> None:
    model, _ = onnx_files.load(saved(tmp_path / "net"))
    for got, expected in zip(model.graph.initializer, network().graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(got), numpy_helper.to_array(expected))
    onnx_files.check_whole(model.SerializeToString())


def test_weights_that_are_missing_or_cut_short_are_refused(tmp_path) -> None:
    path = saved(tmp_path / "net")
    data = path.with_name("net.onnx.data")
    data.write_bytes(data.read_bytes()[:-8])
    with pytest.raises(DataError, match="cut short") as raised:
        onnx_files.load(path)
    assert "net.onnx.data" in str(raised.value.received)
    assert raised.value.todo
    data.unlink()
    with pytest.raises(MissingError, match="is missing") as raised:
        onnx_files.load(path)
    assert "net.onnx.data" in str(raised.value.received)
    assert raised.value.todo


@pytest.mark.parametrize("location", ["../net.onnx.data", "/etc/hostname", "a/../../net.onnx.data", "", "..\\x"])
def test_weights_outside_the_folder_are_refused(tmp_path, location) -> None:
    path = saved(tmp_path / "net")
    shutil.copy(path.with_name("net.onnx.data"), tmp_path)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match="outside the folder") as raised:
        onnx_files.load(path)
    assert raised.value.todo


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_out_of_the_folder_is_refused(tmp_path) -> None:
    path = saved(tmp_path / "net")
    data = path.with_name("net.onnx.data")
    data.rename(tmp_path / "elsewhere")
    data.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="outside the folder"):
        onnx_files.load(path)


def test_more_than_two_gigabytes_are_refused_before_they_are_read(tmp_path) -> None:
    path = saved(tmp_path / "net")
    with path.with_name("net.onnx.data").open("r+b") as stream:
        stream.truncate(2**31)  # takes no room on the disk
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "length":
            entry.value = str(2**31 - 4096)
        if entry.key == "offset":
            entry.value = "0"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match="larger than one ONNX file") as raised:
        onnx_files.load(path)
    assert "2.00 GiB" in str(raised.value.received)


def test_engine_and_bundle_take_no_graph_with_weights_elsewhere(tmp_path) -> None:
    path = saved(tmp_path / "net")
    for model in (path, path.read_bytes()):
        with pytest.raises(DataError, match="in another file"):
            Engine(model, ("y",))


@pytest.mark.parametrize(("opset", "ir_version"), [(17, 99), (99, 8)])
def test_a_graph_that_is_too_new_says_which_runtime_is_too_old(tmp_path, monkeypatch, opset, ir_version) -> None:
    monkeypatch.setenv("CERVICYTE_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "net.onnx").write_bytes(network(0, opset, ir_version).SerializeToString())
    with pytest.raises(DataError, match=f"ONNX Runtime {onnxruntime.__version__} is too old") as raised:
        export_backbone(get_backbone(f"onnx:{tmp_path / 'net.onnx'}", "0-1"))
    assert f"IR version {ir_version}, opset {opset}" in str(raised.value.received)
    assert "pip install --upgrade onnxruntime" in str(raised.value.todo)
    assert "\n" not in raised.value.what


def test_a_graph_that_does_not_run_has_three_parts_as_well(tmp_path) -> None:
    model = network()
    model.graph.node[0].op_type = "Convoy"
    with pytest.raises(DataError, match="cannot load the graph") as raised:
        onnx_files.session(model.SerializeToString(), tmp_path / "net.onnx")
    assert raised.value.received
    assert raised.value.todo


def test_the_home_folder_may_be_written_short(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    onnx.save(network(), tmp_path / "net.onnx")
    assert has_weights("onnx:~/net.onnx")
