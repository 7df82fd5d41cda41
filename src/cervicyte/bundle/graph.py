"""Composing the ONNX graph of a model: a feature extractor, and a head that ends in calibrated probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cervicyte.decision.linear import LinearHead

#: ONNX operator set and file version of the graphs that we write; old enough for every engine in use.
OPSET = 17
IR_VERSION = 8


def network_graph(backbone: Path, head: LinearHead, temperature: float) -> bytes:
    """Join an exported backbone (see `cervicyte.networks.onnx_graphs` for its contract) and a head into one ONNX graph.

    Outputs of the result:

    - ``probabilities`` float32 (n, k), calibrated
    - ``activation_map`` float32 (n, y, x, k), where the backbone has a feature map: the class
      activation map (Zhou et al. 2016); its mean over y and x is the calibrated logits exactly,
      since the head is linear
    """
    model = onnx.load(str(backbone))
    graph = model.graph
    mapped = "feature_map" in {output.name for output in graph.output}
    nodes, constants = _head_nodes(head, temperature, "features")
    if mapped:
        nodes += [
            helper.make_node("MatMul", ["feature_map", "head_weights"], ["map_product"]),
            helper.make_node("Add", ["map_product", "head_bias"], ["activation_map"]),
        ]
    del graph.output[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    k = head.weights.shape[1]
    graph.output.append(_float("probabilities", ["n", k]))
    if mapped:
        graph.output.append(_float("activation_map", ["n", "y", "x", k]))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def measurements_graph(head: LinearHead, temperature: float) -> bytes:
    """The graph of a model on measurements: ``measurements`` float32 (n, d) to ``probabilities`` (n, k).

    The training cells' mean is taken off first, so that a reader of the graph finds the average cell in
    ``head_centre``, its logits in ``head_bias``, and what each measurement adds to them in ``head_weights``.
    """
    d, k = head.weights.shape
    centre = np.zeros(d) if head.centre is None else head.centre
    around = LinearHead(head.weights, head.bias + centre @ head.weights, head.C)
    nodes, constants = _head_nodes(around, temperature, "centred")
    nodes.insert(0, helper.make_node("Sub", ["measurements", "head_centre"], ["centred"]))
    constants.append(numpy_helper.from_array(centre.astype(np.float32), "head_centre"))
    ends = [_float("measurements", ["n", d])], [_float("probabilities", ["n", k])]
    graph = helper.make_graph(nodes, "head", *ends, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _head_nodes(head: LinearHead, temperature: float, features: str) -> tuple[list[Any], list[Any]]:
    weights = (head.weights / temperature).astype(np.float32)
    bias = (head.bias / temperature).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", [features, "head_weights"], ["head_product"]),
        helper.make_node("Add", ["head_product", "head_bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    return nodes, [numpy_helper.from_array(weights, "head_weights"), numpy_helper.from_array(bias, "head_bias")]


def _float(name: str, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
