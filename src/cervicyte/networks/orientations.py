"""Averaging a network over flips and turns: a cell under the microscope has no up and no left.

The average is part of the graph, so that training, prediction and bundles cannot differ in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cervicyte.base.files import atomic_write
from cervicyte.errors import UsageError

#: How many orientations can be averaged: the image as it is, its four flips, or these and their mirror
#: images along the diagonal (all eight symmetries of the square).
COUNTS = (1, 4, 8)

#: Axes (batch 0, rows 1, columns 2, channels 3) along which each of the four flips reverses.
_FLIPS: tuple[tuple[int, ...], ...] = ((), (2,), (1,), (1, 2))


def oriented(image: np.ndarray, k: int) -> np.ndarray:
    """The ``k``-th orientation of an image (h, w, c), in the order in which the graphs average them."""
    turned = image.transpose(1, 0, 2) if k >= 4 else image
    for axis in _FLIPS[k % 4]:
        turned = np.flip(turned, axis - 1)
    return np.ascontiguousarray(turned)


def averaged_file(path: Path, count: int) -> Path:
    """The file of an exported backbone averaged over ``count`` orientations, made once beside it.

    Raises
    ------
    UsageError : a count that is not one of COUNTS
    StorageError : the folder cannot be written
    """
    if count not in COUNTS:
        raise UsageError("orientations must be one of " + ", ".join(map(str, COUNTS)), count)
    if count == 1:
        return path
    target = path.with_name(f"{path.stem}-{count}-orientations.onnx")
    if not target.is_file():
        with atomic_write(target, "wb") as stream:
            stream.write(averaged(path, count))
    return target


def averaged(path: Path, count: int) -> bytes:
    """Average ``features`` and ``feature_map`` of an exported backbone over flips and turns of its input.

    The maps are turned back before they are averaged, so that the mean of the averaged map over its
    places is still the averaged features. For the contract of the graph see `cervicyte.networks.onnx_graphs`.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(path))
    graph = model.graph
    outputs = [output.name for output in graph.output]
    network = list(graph.node)
    names = {"image": "oriented"} | {name: f"{name}_each" for name in outputs}
    for node in network:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    before, after = _Nodes("before"), _Nodes("after")
    upright = [before.reversed("image", axes) for axes in _FLIPS]
    mirrored = before.transposed("image") if count == 8 else ""
    turned = upright + [before.reversed(mirrored, axes) for axes in _FLIPS if mirrored]
    before.add("Concat", turned, "oriented", axis=0)
    for name in outputs:
        parts = after.split(names[name], count)
        if name == "feature_map":
            parts = [after.reversed(part, _FLIPS[i % 4]) for i, part in enumerate(parts)]
            parts[4:] = [after.transposed(part) for part in parts[4:]]
        after.add("Mean", parts, name)
    del graph.node[:]
    graph.node.extend([*before.nodes, *network, *after.nodes])
    constants = {**before.constants, **after.constants}
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    del graph.value_info[:]
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


class _Nodes:
    """ONNX nodes as they are written down, with their constants and fresh names."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = output or f"{self.prefix}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def transposed(self, name: str) -> str:
        """Rows become columns."""
        return self.add("Transpose", [name], perm=[0, 2, 1, 3])

    def reversed(self, name: str, axes: tuple[int, ...]) -> str:
        """The tensor reversed along the axes, or itself for none."""
        if not axes:
            return name
        # From the last element (-1) down past the first (the least integer), by steps of -1.
        starts, ends = [-1] * len(axes), [np.iinfo(np.int64).min] * len(axes)
        inputs = [name]
        for word, values in (("start", starts), ("end", ends), ("axes", axes), ("step", starts)):
            constant = f"{self.prefix}_{word}_{'_'.join(map(str, axes))}"
            self.constants[constant] = np.array(values, dtype=np.int64)
            inputs.append(constant)
        return self.add("Slice", inputs)

    def split(self, name: str, count: int) -> list[str]:
        """Equal parts along the batch."""
        from onnx import helper

        parts = [f"{name}_{i}" for i in range(count)]
        self.nodes.append(helper.make_node("Split", [name], parts, axis=0, num_outputs=count))
        return parts
