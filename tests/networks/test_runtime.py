"""Export and engine: the same numbers as Keras, at any batch, in order, in the precision that is named."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from filelock import FileLock

from cervicyte.errors import DataError, MissingError, UsageError
from cervicyte.networks import onnx_graphs, registry, runtime
from cervicyte.networks.keras import export
from cervicyte.networks.quantisation import quantisation_error, quantise
from cervicyte.networks.registry import find_weights, get_backbone
from cervicyte.networks.runtime import Engine
from support.graphs import read_by_the_oldest_runtime
from support.paths import SHARED
from support.sharing import shared_folder

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

#: One network of each family; the larger ones of a family differ in depth only.
FAMILIES = [("ResNet50", 64), ("MobileNetV2", 64), ("ResNet50V2", 64), ("DenseNet121", 64), ("Xception", 75)]


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Export a network once for all tests of all workers: real weights where they are, else random ones."""
    folder = shared_folder(tmp_path_factory, "exports")
    done = {}

    def get(name: str, size: int):
        if name not in done:
            row = get_backbone(name, size=size)
            folder.mkdir(exist_ok=True)
            with FileLock(folder / f"{name}.lock"):
                done[name] = export.export_backbone(row, weights_of(name), folder)
        return done[name]

    return get


def weights_of(name: str):
    """ResNet50's real weights where they are; else random ones."""
    row, folder = get_backbone(name), SHARED / "weights"
    real = name == "ResNet50" and (folder / row.weights_file).is_file()
    return find_weights(row, folder if real else "random", seed=1)


def pixels(n: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def small_graph(channels_first: bool = True, pooled: bool = False, side: int | str = 16) -> onnx.ModelProto:
    """A user's tiny extractor: one convolution (and perhaps its mean)."""
    random = np.random.default_rng(5)
    kernel = numpy_helper.from_array(random.standard_normal((4, 3, 3, 3)).astype(np.float32), "kernel")
    nodes, source, shape = [], "image", ["N", 3, side, side] if channels_first else ["N", side, side, 3]
    if not channels_first:
        nodes.append(helper.make_node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2]))
        source = "first"
    nodes.append(helper.make_node("Conv", [source, "kernel"], ["map"], strides=[2, 2]))
    output, out_shape = "map", ["N", 4, 7, 7]
    if pooled:
        nodes += [
            helper.make_node("GlobalAveragePool", ["map"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
        ]
        output, out_shape = "flat", ["N", 4]
    elif not channels_first:
        nodes.append(helper.make_node("Transpose", ["map"], ["last"], perm=[0, 2, 3, 1]))
        output, out_shape = "last", ["N", 7, 7, 4]
    graph = helper.make_graph(
        nodes,
        "user",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, out_shape)],
        [kernel],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize(("name", "size"), FAMILIES)
def test_export_answers_as_keras_does(exported, name, size) -> None:
    path = exported(name, size)
    record = export.export_record(path)
    assert record["parity"]["float32"]["relative_error"] < 1e-4
    assert record["random_weights"] is weights_of(name).random
    assert record["source_sha256"] == weights_of(name).sha256
    assert record["dimension"] == get_backbone(name).dimension
    if runtime.has_bfloat16():
        assert record["parity"]["bfloat16"]["relative_error"] < export.PARITY_BFLOAT16
    assert read_by_the_oldest_runtime(path)
    model = onnx.load(path)
    assert sum(node.op_type == "Transpose" for node in model.graph.node) <= 4, "transposes were not sunk"
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)


def test_parity_is_checked_against_keras_own_preprocessing_and_weights(exported) -> None:
    """Not through the export's code: the network is built again and asked here."""
    path = exported("MobileNetV2", 64)
    row = get_backbone("MobileNetV2", size=64)
    network = export.build_network(row, find_weights(row, "random", seed=1))
    images = pixels(5, 64)
    keras = registry.import_keras()
    expected = network.predict(keras.applications.mobilenet_v2.preprocess_input(images.astype("float32")), verbose=0)
    found = Engine(path, ("features", "feature_map"), precision="float32").run(images)
    scale = np.abs(expected).max()
    assert found["feature_map"].shape == expected.shape
    assert np.abs(found["feature_map"] - expected).max() < 1e-4 * scale
    assert np.abs(found["features"] - expected.mean(axis=(1, 2))).max() < 1e-4 * scale
    assert np.ptp(found["features"], axis=0).max() > 0, "random features must differ between images"


def test_the_batch_axis_is_open(exported) -> None:
    engine = Engine(exported("ResNet50", 64), precision="float32")
    images = pixels(7, 64)
    together = engine.run(images)["features"]
    assert together.shape == (7, 2048)
    assert together.dtype == np.float32
    alone = np.concatenate([engine.run(images[i : i + 1])["features"] for i in range(7)])
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-4 * np.abs(together).max())


def test_an_export_is_made_once(exported, monkeypatch) -> None:
    path = exported("MobileNetV2", 64)
    row = get_backbone("MobileNetV2", size=64)
    before = path.stat().st_mtime_ns
    monkeypatch.setattr(export, "_converted", lambda *_: pytest.fail("exported again"))
    assert export.export_backbone(row, weights_of("MobileNetV2"), path.parents[1]) == path
    assert path.stat().st_mtime_ns == before


def test_a_layer_can_be_tapped_by_name(exported) -> None:
    path = exported("MobileNetV2", 64)
    row = get_backbone("MobileNetV2", size=64)
    tapped = export.export_backbone(row, weights_of("MobileNetV2"), path.parents[1], layer="block_2_add")
    assert tapped != path
    assert Engine(tapped, ("feature_map",)).run(pixels(1, 64))["feature_map"].shape == (1, 16, 16, 24)


def test_a_damaged_export_is_made_again(tmp_path) -> None:
    onnx.save(small_graph(), tmp_path / "net.onnx")
    row = get_backbone(f"onnx:{tmp_path / 'net.onnx'}", "tf")
    path = export.export_backbone(row, None, tmp_path)
    good = path.read_bytes()
    path.write_bytes(good[:-10])
    assert export.export_backbone(row, None, tmp_path).read_bytes() == good
    path.with_suffix(".json").unlink()
    assert export.export_backbone(row, None, tmp_path) == path
    assert json.loads(path.with_suffix(".json").read_text())["parity"]["float32"]["relative_error"] < 1e-4


def test_a_wrong_layer_or_size_is_named(tmp_path) -> None:
    row = get_backbone("MobileNetV2", size=64)
    weights = find_weights(row, "random")
    with pytest.raises(UsageError, match="no such layer") as caught:
        export.export_backbone(row, weights, tmp_path, layer="block_13_expand_rel")
    assert "block_13_expand_relu" in str(caught.value)
    small = get_backbone("MobileNetV2", size=16)
    with pytest.raises(UsageError, match="input size"):
        export.export_backbone(small, weights, tmp_path)


def test_a_failing_parity_check_raises_and_leaves_nothing(tmp_path, monkeypatch) -> None:
    row = get_backbone(f"onnx:{tmp_path / 'net.onnx'}", "tf")
    onnx.save(small_graph(), tmp_path / "net.onnx")
    monkeypatch.setattr(export, "_preprocessed", lambda images, mode: images.astype(np.float32))
    with pytest.raises(DataError, match="does not answer as the original"):
        export.export_backbone(row, None, tmp_path / "cache")
    assert not list(tmp_path.glob("cache/exports/*.onnx"))


@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("preprocessing", registry.PREPROCESSING)
def test_any_onnx_extractor_gets_the_contract(tmp_path, channels_first, pooled, preprocessing) -> None:
    onnx.save(small_graph(channels_first, pooled), tmp_path / "net.onnx")
    row = get_backbone(f"onnx:{tmp_path / 'net.onnx'}", preprocessing)
    path = export.export_backbone(row, None, tmp_path)
    assert export.export_record(path)["dimension"] == 4
    assert Engine(path).run(pixels(3, 16))["features"].shape == (3, 4)


def test_an_open_size_must_be_stated(tmp_path) -> None:
    onnx.save(small_graph(side="S"), tmp_path / "net.onnx")
    name = f"onnx:{tmp_path / 'net.onnx'}"
    with pytest.raises(UsageError, match="size open"):
        export.export_backbone(get_backbone(name, "tf"), None, tmp_path)
    onnx.save(small_graph(), tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="takes 16 px"):
        export.export_backbone(get_backbone(name, "tf", 32), None, tmp_path)


def test_bad_onnx_files_are_refused(tmp_path) -> None:
    file = tmp_path / "net.onnx"
    row = get_backbone(f"onnx:{file}", "tf")
    with pytest.raises(MissingError):
        export.export_backbone(row, None, tmp_path)
    file.write_bytes(b"not a network")
    with pytest.raises(DataError):
        export.export_backbone(row, None, tmp_path)
    onnx.save(vector_graph(), file)
    with pytest.raises(DataError, match="not an image network"):
        export.export_backbone(row, None, tmp_path)


def vector_graph() -> onnx.ModelProto:
    """A head on measurements: float32 [N, 3] to [N, 2]."""
    weight = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(3, 2), "weight")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["measurements", "weight"], ["scores"])],
        "head",
        [helper.make_tensor_value_info("measurements", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 2])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("engine", runtime.ENGINES)
def test_measurements_run_too(engine) -> None:
    rows = np.eye(3, dtype=np.float32)
    found = Engine(vector_graph().SerializeToString(), ("scores",), engine=engine, precision="float32").run(rows)
    np.testing.assert_allclose(found["scores"], [[0, 1], [2, 3], [4, 5]])


def test_both_engines_agree(exported) -> None:
    path, images = exported("ResNet50", 64), pixels(3, 64)
    one = Engine(path, precision="float32").run(images)["features"]
    other = Engine(path, engine="onnxruntime", precision="float32")
    assert (other.engine, other.precision) == ("onnxruntime", "float32")
    np.testing.assert_allclose(other.run(images)["features"], one, atol=1e-4 * np.abs(one).max())


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_stream_and_parallel_calls_keep_their_order(exported, precision) -> None:
    engine = Engine(exported("MobileNetV2", 64), precision=precision)
    batches = [pixels(2, 64, seed) for seed in range(9)]
    expected = [engine.run(batch)["features"] for batch in batches]
    streamed = [found["features"] for found in engine.stream(iter(batches))]
    with ThreadPoolExecutor(4) as pool:
        parallel = [found["features"] for found in pool.map(engine.run, batches)]
    for a, b, c in zip(expected, streamed, parallel, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_stream_reads_only_a_little_ahead(exported) -> None:
    engine = Engine(exported("MobileNetV2", 64))
    drawn = 0

    def endless():
        nonlocal drawn
        while True:
            drawn += 1
            yield pixels(1, 64)

    answers = engine.stream(endless())
    for _ in range(5):
        next(answers)
    answers.close()
    assert drawn <= 5 + engine.parallel + 1


def test_precision_is_what_really_runs(exported) -> None:
    path = exported("MobileNetV2", 64)
    native = runtime.has_bfloat16()
    assert Engine(path, precision="float32").precision == "float32"
    assert Engine(path, precision="auto").precision == ("bfloat16" if native else "float32")
    if not native:
        with pytest.raises(UsageError, match="bfloat16"):
            Engine(path, precision="bfloat16")


def test_what_cannot_be_had_is_refused(exported, tmp_path) -> None:
    path = exported("MobileNetV2", 64)
    with pytest.raises(UsageError, match="no bfloat16"):
        Engine(path, precision="bfloat16", engine="onnxruntime")
    with pytest.raises(UsageError, match="unknown precision"):
        Engine(path, precision="float16")
    with pytest.raises(UsageError, match="unknown engine"):
        Engine(path, engine="tensorrt")
    for engine in runtime.ENGINES:
        with pytest.raises(UsageError, match="no such output"):
            Engine(path, ("probabilities",), engine=engine, precision="float32")
    with pytest.raises(MissingError):
        Engine(tmp_path / "nothing.onnx")
    with pytest.raises(DataError, match="no engine can read"):
        Engine(b"not a network")


def test_onnxruntime_takes_over_where_openvino_is_not(exported, monkeypatch, capsys) -> None:
    monkeypatch.setenv("CERVICYTE_PROGRESS", "auto")
    monkeypatch.setattr(runtime, "_core", lambda: (_ for _ in ()).throw(ImportError("no openvino here")))
    engine = Engine(exported("MobileNetV2", 64), precision="auto")
    assert (engine.engine, engine.precision) == ("onnxruntime", "float32")
    assert "ONNX Runtime does" in capsys.readouterr().err
    assert engine.run(pixels(1, 64))["features"].shape == (1, 1280)


def test_openvino_never_loads_its_telemetry() -> None:
    import subprocess

    code = (
        "from cervicyte.networks import runtime; import sys; runtime.import_openvino();"
        "assert not [m for m in sys.modules if m.startswith('openvino_telemetry')], 'telemetry is loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_importing_the_package_is_light() -> None:
    import subprocess

    code = (
        "import sys, cervicyte.features.extraction, cervicyte.networks.quantisation, cervicyte.networks.onnx_graphs;"
        "heavy = {'torch', 'keras', 'openvino', 'onnx', 'onnxruntime', 'cv2'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_quantising_gives_a_graph_that_runs_in_int8_and_its_error_is_told(exported, tmp_path) -> None:
    path = exported("ResNet50", 64)
    out = quantise(path, (pixels(4, 64, seed) for seed in range(3)), tmp_path / "int8.onnx")
    assert read_by_the_oldest_runtime(out)
    engine = Engine(out)
    assert engine.precision == "int8"
    # Several streams gave other answers than one in OpenVINO 2026.4: the engines must agree.
    images = pixels(4, 64, 9)
    a = engine.run(images)["features"]
    b = Engine(out, engine="onnxruntime", precision="float32").run(images)["features"]
    assert np.linalg.norm(a - b) < 0.2 * np.linalg.norm(b)
    error = quantisation_error(path, out, [images])
    assert error.images == 4
    assert 0 < error.relative < 0.5
    assert 0.8 < error.cosine <= 1.0
    with pytest.raises(DataError, match="calibrate"):
        quantise(path, [], tmp_path / "none.onnx")


def test_input_layout_and_size_are_read_from_the_graph() -> None:
    assert onnx_graphs.input_layout(small_graph()) == "NCHW"
    assert onnx_graphs.input_layout(small_graph(channels_first=False)) == "NHWC"
    assert onnx_graphs.input_size(small_graph()) == 16
    assert onnx_graphs.input_size(small_graph(side="S")) == 0
