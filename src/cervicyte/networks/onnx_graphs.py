"""Small surgery on ONNX graphs: pixels in front, pooling behind, transposes out of the way.

Every network that cervicyte runs has one contract:

- input ``image``: uint8 [N, size, size, 3], RGB, 0..255 (its preprocessing is in the graph);
- output ``features``: float32 [N, D], averaged over the last feature map;
- output ``feature_map``: float32 [N, h, w, D], where there is a map.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from cervicyte.errors import DataError
from cervicyte.networks import onnx_files

#: ImageNet means and standard deviations, as Keras Applications has them.
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
_TORCH_MEAN = (0.485, 0.456, 0.406)
_TORCH_STD = (0.229, 0.224, 0.225)

#: ONNX operator set of the exports.
OPSET = 18


def wrap(model: Any, preprocessing: str, size: int) -> Any:
    """Give a float network the contract above.

    Parameters
    ----------
    model : onnx.ModelProto with one float32 image input, NCHW or NHWC, and a first output that
        is a feature vector [N, D] or a feature map in the layout of the input
    preprocessing : one of `cervicyte.networks.registry.PREPROCESSING`
    size : side of the input in pixels

    Returns
    -------
    onnx.ModelProto, a changed copy

    Raises
    ------
    DataError : another input or output shape
    """
    import onnx

    wrapped = onnx.ModelProto()
    wrapped.CopyFrom(model)
    graph = wrapped.graph
    layout = input_layout(model)
    _prefix(graph, "cervicyte_")
    _prepend_pixels(graph, preprocessing, size, layout)
    _append_pooling(graph, layout)
    del graph.value_info[:]
    return wrapped


def input_layout(model: Any) -> str:
    """ "NCHW" or "NHWC": where the three channels of a network's image input are.

    Raises
    ------
    DataError : not one float32 input of four dimensions with three channels
    """
    from onnx import TensorProto

    inputs = _real_inputs(model.graph)
    shape = _shape(inputs[0]) if inputs else []
    element = inputs[0].type.tensor_type.elem_type if inputs else None
    todo = "export the network with one float32 image input, [N, 3, H, W] or [N, H, W, 3]"
    if len(inputs) != 1 or len(shape) != 4 or element != TensorProto.FLOAT:
        raise DataError("not an image network: its inputs", [(i.name, _shape(i)) for i in inputs], todo)
    if shape[1] == 3:
        return "NCHW"
    if shape[3] == 3:
        return "NHWC"
    raise DataError("the network's input has no axis of three channels", shape, todo)


def input_size(model: Any) -> int:
    """Side of the square input in pixels, or 0 where the graph leaves it open.

    Raises
    ------
    DataError : an input that is not square
    """
    layout = input_layout(model)
    shape = _shape(_real_inputs(model.graph)[0])
    height, width = (shape[2], shape[3]) if layout == "NCHW" else (shape[1], shape[2])
    if not isinstance(height, int) or not isinstance(width, int):
        return 0
    if height != width:
        raise DataError("the network's input is not square", shape, "export it with a square input")
    return height


def simplify(model: Any) -> Any:
    """Sink transposes and fold BatchNorms into convolutions, with ONNX Runtime's basic optimiser.

    Keras networks hold a pair of transposes around every convolution; without this step the
    engine runs them at a third of its speed (docs/architecture.md). The optimiser fuses
    additions but not subtractions, so the subtractions of constants become additions between
    two passes; a BatchNorm that no convolution can take in becomes one multiplication and one addition.
    """
    model = _optimised(model)
    _subtractions_to_additions(model)
    _norms_to_scales(model)
    model = _optimised(model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    del model.graph.value_info[:]
    return model


def widened(model: Any) -> Any:
    """A copy whose kernels are float32, where a graph keeps them as float16 and casts them when it is loaded."""
    import onnx
    from onnx import numpy_helper

    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    constants = {value.name: value for value in wide.graph.initializer}
    casts = [n for n in wide.graph.node if n.op_type == "Cast" and n.input[0] in constants]
    for node in casts:
        value = constants[node.input[0]]
        if value.data_type == onnx.TensorProto.FLOAT16 and node.attribute[0].i == onnx.TensorProto.FLOAT:
            numbers = numpy_helper.to_array(value).astype(np.float32)
            value.CopyFrom(numpy_helper.from_array(numbers, node.output[0]))
            wide.graph.node.remove(node)
    return wide


def _real_inputs(graph: Any) -> list[Any]:
    constants = {i.name for i in graph.initializer}
    return [i for i in graph.input if i.name not in constants]


def _shape(value: Any) -> list[int | str | None]:
    dims = value.type.tensor_type.shape.dim
    return [d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in dims]


def _prefix(graph: Any, prefix: str) -> None:
    """Rename what would clash with the names of the contract."""
    taken = {"image", "features", "feature_map"}

    def renamed(name: str) -> str:
        return prefix + name if name in taken else name

    for node in graph.node:
        node.input[:] = [renamed(n) for n in node.input]
        node.output[:] = [renamed(n) for n in node.output]
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = renamed(value.name)


def _prepend_pixels(graph: Any, preprocessing: str, size: int, layout: str) -> None:
    from onnx import TensorProto, helper, numpy_helper

    target = _real_inputs(graph)[0]
    nodes: list[Any] = []
    current = "image"

    def step(op: str, constant: np.ndarray | None = None, **attributes: Any) -> None:
        nonlocal current
        output = f"pixels_{len(nodes)}"
        inputs = [current]
        if constant is not None:
            graph.initializer.append(numpy_helper.from_array(constant, f"{output}_constant"))
            inputs.append(f"{output}_constant")
        nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        current = output

    def numbers(*values: float) -> np.ndarray:
        return np.asarray(values, dtype=np.float32)

    step("Cast", to=TensorProto.FLOAT)
    if preprocessing == "caffe":
        step("Gather", np.array([2, 1, 0], dtype=np.int64), axis=3)
        step("Sub", numbers(*_CAFFE_MEAN_BGR))
    elif preprocessing == "tf":
        step("Div", numbers(127.5))
        step("Sub", numbers(1.0))
    elif preprocessing == "torch":
        step("Div", numbers(255.0))
        step("Sub", numbers(*_TORCH_MEAN))
        step("Div", numbers(*_TORCH_STD))
    elif preprocessing == "0-1":
        step("Div", numbers(255.0))
    if layout == "NCHW":
        step("Transpose", perm=[0, 3, 1, 2])
    for node in graph.node:
        node.input[:] = [current if n == target.name else n for n in node.input]
    old = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *old])
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", size, size, 3]))


def _append_pooling(graph: Any, layout: str) -> None:
    from onnx import TensorProto, helper

    output = graph.output[0]
    shape = _shape(output)
    nodes: list[Any] = []
    if len(shape) == 2:
        nodes.append(helper.make_node("Identity", [output.name], ["features"]))
        outputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", shape[1]])]
    elif len(shape) == 4:
        channels_first = output.name
        if layout == "NHWC":
            nodes.append(helper.make_node("Identity", [output.name], ["feature_map"]))
            nodes.append(helper.make_node("Transpose", [output.name], ["map_first"], perm=[0, 3, 1, 2]))
            channels_first = "map_first"
            n_h, n_w, dimension = shape[1], shape[2], shape[3]
        else:
            nodes.append(helper.make_node("Transpose", [output.name], ["feature_map"], perm=[0, 2, 3, 1]))
            dimension, n_h, n_w = shape[1], shape[2], shape[3]
        nodes.append(helper.make_node("GlobalAveragePool", [channels_first], ["map_mean"]))
        nodes.append(helper.make_node("Flatten", ["map_mean"], ["features"], axis=1))
        outputs = [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", dimension]),
            helper.make_tensor_value_info("feature_map", TensorProto.FLOAT, ["N", n_h, n_w, dimension]),
        ]
    else:
        raise DataError(
            "the network's first output is neither features [N, D] nor a feature map of four dimensions",
            shape,
            "export the network without its classifier",
        )
    graph.node.extend(nodes)
    del graph.output[:]
    graph.output.extend(outputs)


def _optimised(model: Any) -> Any:
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        onnx_files.session(model.SerializeToString(), "the network with its preprocessing", options)
        return onnx.load(path)


def _subtractions_to_additions(model: Any) -> None:
    from onnx import numpy_helper

    constants = {i.name: i for i in model.graph.initializer}
    negative: dict[str, Any] = {}
    for node in model.graph.node:
        if node.op_type == "Sub" and node.input[1] in constants:
            name = f"{node.input[1]}_negative"
            if name not in negative:
                negative[name] = numpy_helper.from_array(-numpy_helper.to_array(constants[node.input[1]]), name)
            node.op_type = "Add"
            node.input[1] = name
    model.graph.initializer.extend(negative.values())


def _norms_to_scales(model: Any) -> None:
    from onnx import helper, numpy_helper

    constants = {i.name: i for i in model.graph.initializer}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type != "BatchNormalization" or not all(name in constants for name in node.input[1:]):
            model.graph.node.append(node)
            continue
        scale, bias, mean, variance = (numpy_helper.to_array(constants[n]).astype(np.float64) for n in node.input[1:])
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        factor = scale / np.sqrt(variance + epsilon)
        output = node.output[0]
        values = {f"{output}_factor": factor, f"{output}_shift": bias - mean * factor}
        for name, value in values.items():
            channels = value.astype(np.float32).reshape(-1, 1, 1)
            model.graph.initializer.append(numpy_helper.from_array(channels, name))
        factor_name, shift_name = values
        model.graph.node.append(helper.make_node("Mul", [node.input[0], factor_name], [f"{output}_scaled"]))
        model.graph.node.append(helper.make_node("Add", [f"{output}_scaled", shift_name], [output]))
