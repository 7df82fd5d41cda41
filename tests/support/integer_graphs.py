"""Quantised graphs computed in NumPy: integer convolutions exactly, or with sums that saturate in 16 bits.

Processors with AVX2 and without VNNI multiply by ``vpmaddubsw``, which adds the products of two neighbouring channels
(8 bits without sign times 8 bits with sign) in 16 bits and cuts what does not fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

LEAST, MOST = -(2**15), 2**15 - 1


def run(model: Path, images: np.ndarray, output: str, *, saturate: bool = False) -> np.ndarray:
    """Compute an output of a graph that `cervicyte.networks.quantisation.quantise` made, or of the float graph."""
    graph = onnx.load(model).graph
    constants = {value.name: numpy_helper.to_array(value) for value in graph.initializer}
    values: dict[str, Any] = {graph.input[0].name: images}
    quantised: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for node in graph.node:
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        if node.op_type == "DequantizeLinear":
            quantised[node.output[0]] = tuple((constants | values)[name] for name in node.input)
        if node.op_type == "Conv" and node.input[1] in quantised:
            bias = constants[node.input[2]]
            answer = _integer_convolution(quantised[node.input[0]], quantised[node.input[1]], attributes, saturate)
            values[node.output[0]] = answer + bias[None, :, None, None]
            continue
        inputs = [values[name] if name in values else constants[name] for name in node.input]
        values[node.output[0]] = _OPERATIONS[node.op_type](attributes, *inputs)
        if node.output[0] == output:
            break
    return values[output]


def most_in_16_bits(model: Path) -> int:
    """The largest sum, in absolute value, that two products of a convolution of the graph can have."""
    constants = {value.name: numpy_helper.to_array(value) for value in onnx.load(model).graph.initializer}
    kernels = [value for value in constants.values() if value.dtype == np.int8 and value.ndim == 4]
    assert kernels
    return max(
        255 * int(_pairs(kernel, 1).astype(np.int64).clip(*ends).sum(2).__abs__().max())
        for kernel in kernels
        for ends in ((0, None), (None, 0))
    )


def _pairs(values: np.ndarray, axis: int) -> np.ndarray:
    """Neighbours along the channels, (.., channels / 2, 2, ..); a channel of zeros is added to an odd number."""
    odd = values.shape[axis] % 2
    padded = np.pad(values, [(0, odd if i == axis else 0) for i in range(values.ndim)])
    return padded.reshape(*values.shape[:axis], -1, 2, *values.shape[axis + 1 :])


def _integer_convolution(
    pixels: tuple[np.ndarray, ...], weights: tuple[np.ndarray, ...], attributes: dict[str, Any], saturate: bool
) -> np.ndarray:
    (x, x_scale, x_zero), (kernel, w_scale, _) = pixels, weights
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    step = attributes.get("strides", [1, 1])[0]
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=x_zero)
    side = kernel.shape[2]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(2, 3))[:, :, ::step, ::step]
    n, channels, height, width = windows.shape[:4]
    # Float64 holds these integers exactly, and multiplies matrices fast.
    rows = windows.transpose(0, 2, 3, 4, 5, 1).reshape(n * height * width, side * side * channels).astype(np.float64)
    columns = kernel.transpose(2, 3, 1, 0).reshape(side * side * channels, -1).astype(np.float64)
    sums = rows @ columns
    if saturate:
        sums += _lost(rows.reshape(len(rows), side * side, channels), columns.reshape(side * side, channels, -1))
    sums -= int(x_zero) * columns.sum(0)
    scaled = sums * (x_scale.astype(np.float64) * w_scale.astype(np.float64))
    return scaled.reshape(n, height, width, -1).transpose(0, 3, 1, 2).astype(np.float32)


def _lost(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """What saturation adds to the exact sums; only pairs of weights that can saturate are looked at."""
    u, w = _pairs(rows, 2), _pairs(columns, 1)
    lost = np.zeros((len(rows), columns.shape[2]))
    reach = 255 * np.maximum(w.clip(0, None).sum(2), -w.clip(None, 0).sum(2))
    for place, pair in zip(*np.nonzero((reach > MOST).any(2)), strict=True):
        outputs = np.flatnonzero(reach[place, pair] > MOST)
        exact = u[:, place, pair] @ w[place, pair][:, outputs]
        lost[:, outputs] += exact.clip(LEAST, MOST) - exact
    return lost


def _quantised(_: Any, x: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    return (np.rint(x / scale) + zero.astype(np.float32)).clip(0, 255).astype(np.uint8)


def _dequantised(attributes: Any, x: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    if scale.ndim:
        shape = [-1 if i == attributes.get("axis", 1) else 1 for i in range(x.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return (x.astype(np.float32) - zero.astype(np.float32)) * scale


def _softmax(_: Any, x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _pool(_: Any, x: np.ndarray) -> np.ndarray:
    """The mean of squares of 2 x 2."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))


_OPERATIONS: dict[str, Any] = {
    "Cast": lambda _, x: x.astype(np.float32),
    "Div": lambda _, x, y: x / y,
    "Sub": lambda _, x, y: x - y,
    "Add": lambda _, x, y: x + y,
    "MatMul": lambda _, x, y: x @ y,
    "Relu": lambda _, x: x.clip(0, None),
    "Transpose": lambda attributes, x: x.transpose(attributes["perm"]),
    "QuantizeLinear": _quantised,
    "DequantizeLinear": _dequantised,
    "AveragePool": _pool,
    "Reshape": lambda _, x, shape: x.reshape(len(x) if shape[0] == 0 else shape[0], *shape[1:]),
    "ReduceMean": lambda attributes, x, axes: x.mean(tuple(axes), keepdims=bool(attributes.get("keepdims", 1))),
    "GlobalAveragePool": lambda _, x: x.mean((2, 3), keepdims=True),
    "Flatten": lambda _, x: x.reshape(len(x), -1),
    "Softmax": _softmax,
}
