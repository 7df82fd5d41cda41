"""8-bit graphs answer as the float network does, in exact arithmetic and where sums of 16 bits are cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cervicyte import shipped
from cervicyte.cli import doctor
from cervicyte.images.decoding import resize
from cervicyte.networks import quantisation, runtime
from cervicyte.networks.runtime import Engine
from support import integer_graphs
from support.generated_cells import make_cell
from support.small_networks import SIDE

FLOAT, INT8 = (shipped.bundle_folder(name) / "model.onnx" for name in (shipped.NAME, shipped.INT8))


@pytest.fixture(scope="module")
def cells() -> np.ndarray:
    return np.stack([resize(make_cell(i, 90), 96) for i in range(4)])


@pytest.mark.parametrize("saturate", [False, True], ids=["exact", "saturating"])
def test_the_shipped_integers_answer_as_the_floats(cells, saturate) -> None:
    expected = Engine(FLOAT, ("probabilities",), precision="float32").run(cells)["probabilities"]
    answers = integer_graphs.run(INT8, cells, "probabilities", saturate=saturate)
    assert np.abs(answers - expected).max() < 0.1
    assert np.abs(answers[:, 3:].sum(1) - expected[:, 3:].sum(1)).max() < 0.07
    for engine in runtime.ENGINES:  # their own roundings, on the processor at hand
        found = Engine(INT8, ("probabilities",), engine=engine).run(cells)["probabilities"]
        assert np.abs(answers - found).max() < 0.06


def test_no_sum_of_what_we_quantise_can_be_cut(backbone: Path, tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE, 3), dtype=np.uint8)
    small = quantisation.quantise(backbone, [pixels], tmp_path / "small.onnx")
    for graph in (small, INT8):
        assert integer_graphs.most_in_16_bits(graph) <= integer_graphs.MOST
        assert quantisation.weight_bits(graph) == 7


def test_cut_sums_are_seen_where_weights_have_8_bits(tmp_path) -> None:
    arrays = {
        "scale": np.float32(1),
        "zero": np.uint8(0),
        "kernel": np.full((2, 4, 1, 1), 127, np.int8),
        "w_scale": np.ones(2, np.float32),
        "w_zero": np.zeros(2, np.int8),
        "bias": np.zeros(2, np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["kernel", "w_scale", "w_zero"], ["w"], axis=0),
        helper.make_node("Conv", ["d", "w", "bias"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", k, 2, 2]) for name, k in (("x", 4), ("y", 2))]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "g.onnx")
    brightest = np.full((1, 4, 2, 2), 255, np.float32)
    exact, cut = (integer_graphs.run(tmp_path / "g.onnx", brightest, "y", saturate=s) for s in (False, True))
    np.testing.assert_array_equal(exact, 4 * 255 * 127)
    np.testing.assert_allclose(cut / exact, 0.506, atol=1e-3)
    assert quantisation.weight_bits(tmp_path / "g.onnx") == 8


@pytest.mark.parametrize(
    ("flags", "cut", "status"),
    [
        ({"sse2", "avx2"}, True, "NOTE"),
        ({"avx2", "avx512_vnni"}, False, "OK"),
        ({"avx2", "avx_vnni"}, False, "OK"),
        ({"neon"}, False, "OK"),
        (set(), None, "OK"),
    ],
)
def test_doctor_says_whether_this_processor_cuts_sums(monkeypatch, flags, cut, status) -> None:
    monkeypatch.setattr(runtime, "processor_flags", lambda: frozenset(flags))
    assert quantisation.saturates() is cut
    (row,) = [row for row in doctor.check() if row.name == "8-bit graphs"]
    assert row.status == status
    assert ("7 bits" in row.message) == (cut is not False)
