"""Networks so small that a test can afford them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

SIDE, WIDTH = 12, 5


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network that sees directions: one convolution with random weights, then the contract's outputs."""
    random = np.random.default_rng(0)
    weights = numpy_helper.from_array(random.normal(size=(WIDTH, 3, 3, 3)).astype(np.float32) / 255, "w")
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "w"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Transpose", ["relu"], ["feature_map"], perm=[0, 2, 3, 1]),
        helper.make_node("ReduceMean", ["feature_map", "axes"], ["features"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", WIDTH]),
            helper.make_tensor_value_info("feature_map", TensorProto.FLOAT, ["N", SIDE, SIDE, WIDTH]),
        ],
        [weights, numpy_helper.from_array(np.array([1, 2], dtype=np.int64), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path = tmp_path_factory.mktemp("backbone") / "tiny.onnx"
    onnx.save(model, str(path))
    return path
