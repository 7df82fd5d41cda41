"""Our own small network: convolutions that turn and mirror with the cell, so that its answer does not depend on them.

A cell on a slide has no upright position. Each filter is used in its eight orientations, and what is averaged over
them and over the image at the end is the same, to rounding, for a cell that was turned by 90 degrees or mirrored:
Cohen and Welling 2016, Group equivariant convolutional networks, ICML; for tissue, Veeling et al. 2018, Rotation
equivariant CNNs for digital pathology, MICCAI. Initial weights are random; nothing comes from another network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, checker, helper, numpy_helper
from torch.nn import functional

from cervicyte.errors import UsageError
from cervicyte.networks.onnx_graphs import OPSET, wrap

#: The orientations of a square: four turns, and the same after mirroring.
ORIENTATIONS = 8

#: Of BatchNorm: the share of a batch in the running statistics, and what is added to a variance.
_MOMENTUM, _EPSILON = 0.05, 1e-5


@dataclass(frozen=True)
class Shape:
    """The size of a network.

    Attributes
    ----------
    side : of the square input in pixels; a multiple of 16, so that every stride falls on the same grid from all sides
    fields : filters in each of the four stages; each is used in eight orientations
    blocks : residual blocks in each stage
    dimension : number of features
    """

    side: int = 96
    fields: tuple[int, ...] = (3, 6, 12, 20)
    blocks: tuple[int, ...] = (1, 2, 2, 2)
    dimension: int = 192

    def __post_init__(self) -> None:
        if self.side < 16 or self.side % 16:
            raise UsageError("cytonet's input must be a multiple of 16 pixels", self.side, "for example 96")


def turned(kernel: torch.Tensor, g: int) -> torch.Tensor:
    """A kernel in orientation ``g``, over its last two axes: mirrored if g >= 4, then turned g % 4 times."""
    return torch.rot90(kernel.flip(-1) if g >= 4 else kernel, g % 4, (-2, -1))


def _products() -> np.ndarray:
    """Which orientation is inverse(g) times h: int (8, 8) indexed by g and h."""
    probe = torch.arange(9.0).reshape(3, 3)
    images = [turned(probe, g) for g in range(ORIENTATIONS)]

    def index(image: torch.Tensor) -> int:
        return next(i for i, other in enumerate(images) if torch.equal(other, image))

    table = np.array([[index(turned(turned(probe, h), g)) for h in range(ORIENTATIONS)] for g in range(ORIENTATIONS)])
    inverse = [int(np.flatnonzero(table[g] == 0)[0]) for g in range(ORIENTATIONS)]
    return table[inverse]


_RELATIVE = _products()


class _Lift(torch.nn.Module):
    """From an image to one map for each filter and orientation."""

    def __init__(self, channels: int, fields: int, side: int, stride: int, padding: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(
            torch.randn(fields, channels, side, side) * math.sqrt(2 / (channels * side**2))
        )
        self.stride, self.padding = stride, padding

    def kernel(self) -> torch.Tensor:
        """Every filter in every orientation: (fields * 8, channels, side, side)."""
        return torch.stack([turned(self.weight, g) for g in range(ORIENTATIONS)], 1).flatten(0, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, self.kernel(), None, self.stride, self.padding)


class _Convolution(torch.nn.Module):
    """From maps for filters and orientations to such maps."""

    def __init__(self, before: int, fields: int, side: int = 3, stride: int = 1, padding: int = 1) -> None:
        super().__init__()
        scale = math.sqrt(2 / (before * ORIENTATIONS * side**2))
        self.weight = torch.nn.Parameter(torch.randn(fields, before, ORIENTATIONS, side, side) * scale)
        self.stride, self.padding = stride, padding

    def kernel(self) -> torch.Tensor:
        """An ordinary kernel: (fields * 8, before * 8, side, side)."""
        turns = [turned(self.weight[:, :, _RELATIVE[g]], g) for g in range(ORIENTATIONS)]
        return torch.stack(turns, 1).flatten(0, 1).flatten(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, self.kernel(), None, self.stride, self.padding)


class _Norm(torch.nn.Module):
    """BatchNorm with one scale and shift for a filter, whatever its orientation."""

    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self, fields: int, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((fields,), gain))
        self.bias = torch.nn.Parameter(torch.zeros(fields))
        self.register_buffer("mean", torch.zeros(fields))
        self.register_buffer("variance", torch.ones(fields))
        self.momentum = _MOMENTUM

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # A filter's orientations one below the other: one image to BatchNorm.
        y = x.reshape(len(x), -1, ORIENTATIONS * x.shape[2], x.shape[3])
        y = functional.batch_norm(y, self.mean, self.variance, self.weight, self.bias, True, self.momentum, _EPSILON)
        return y.reshape(x.shape)


def folded(layer: _Lift | _Convolution, norm: _Norm) -> tuple[torch.Tensor, torch.Tensor]:
    """A convolution and its BatchNorm at prediction as one kernel and one shift, float32.

    The kernel holds numbers of float16, which halves the file. What judges the network and what ships both run these.
    """
    with torch.no_grad():
        scale = norm.weight / torch.sqrt(norm.variance + _EPSILON)
        shift = (norm.bias - norm.mean * scale).repeat_interleave(ORIENTATIONS)
        kernel = layer.kernel() * scale.repeat_interleave(ORIENTATIONS)[:, None, None, None]
        return kernel.half().float(), shift


def _normed(x: torch.Tensor, layer: _Lift | _Convolution, norm: _Norm) -> torch.Tensor:
    """A convolution and its BatchNorm."""
    if norm.training:
        y: torch.Tensor = norm(layer(x))
        return y
    return functional.conv2d(x, *folded(layer, norm), layer.stride, layer.padding)


class _Block(torch.nn.Module):
    """Two convolutions and a way around them; the first of a stage halves height and width."""

    def __init__(self, before: int, fields: int, halve: bool) -> None:
        super().__init__()
        # An even kernel under an even stride sees the same grid from all sides; an odd one does not.
        self.first = _Convolution(before, fields, 4, 2, 1) if halve else _Convolution(before, fields)
        self.first_norm = _Norm(fields)
        self.second = _Convolution(fields, fields)
        self.second_norm = _Norm(fields, 0.2)
        self.around = _Convolution(before, fields, 1, 1, 0) if halve else None
        self.around_norm = _Norm(fields) if halve else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(_normed(x, self.first, self.first_norm))
        y = _normed(y, self.second, self.second_norm)
        if self.around is not None and self.around_norm is not None:
            x = _normed(functional.avg_pool2d(x, 2), self.around, self.around_norm)
        return functional.relu(x + y)


class Cytonet(torch.nn.Module):
    """Pixels to a feature map that turns with the image, and features that do not change when it is turned.

    Takes float (n, 3, side, side), pixels / 127.5 - 1, and gives float (n, dimension, side / 16, side / 16); its mean
    over height and width are the features.
    """

    def __init__(self, shape: Shape, seed: int) -> None:
        super().__init__()
        self.shape = shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fields = shape.fields
            self.stem = _Lift(3, fields[0], 4, 2, 1)
            self.stem_norm = _Norm(fields[0])
            blocks, before = [], fields[0]
            for stage, (width, count) in enumerate(zip(fields, shape.blocks, strict=True)):
                for i in range(count):
                    blocks.append(_Block(before, width, halve=stage > 0 and i == 0))
                    before = width
            self.blocks = torch.nn.Sequential(*blocks)
            self.last = _Convolution(before, shape.dimension, 1, 1, 0)
            self.last_norm = _Norm(shape.dimension)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(_normed(x, self.stem, self.stem_norm))
        x = self.blocks(x)
        x = functional.relu(_normed(x, self.last, self.last_norm))
        y: torch.Tensor = x.unflatten(1, (-1, ORIENTATIONS)).mean(2)
        return y

    @contextmanager
    def statistics_kept(self) -> Iterator[None]:
        """What runs meanwhile leaves BatchNorm's running statistics as they are."""
        yield from self._with_momentum(0.0)

    @contextmanager
    def statistics_averaged(self) -> Iterator[None]:
        """BatchNorm's running statistics become the plain mean over the batches that run meanwhile."""
        norms = self._norms()
        sums = [(torch.zeros_like(n.mean), torch.zeros_like(n.variance)) for n in norms]
        count = 0

        def note(*_: Any) -> None:
            nonlocal count
            count += 1
            for norm, (mean, variance) in zip(norms, sums, strict=True):
                mean += norm.mean
                variance += norm.variance

        hook = self.register_forward_hook(note)
        try:
            yield from self._with_momentum(1.0)
        finally:
            hook.remove()
        with torch.no_grad():
            for norm, (mean, variance) in zip(norms, sums, strict=True):
                if count:
                    norm.mean.copy_(mean / count)
                    norm.variance.copy_(variance / count)

    def _with_momentum(self, momentum: float) -> Iterator[None]:
        for norm in self._norms():
            norm.momentum = momentum
        try:
            yield
        finally:
            for norm in self._norms():
                norm.momentum = _MOMENTUM

    def _norms(self) -> list[_Norm]:
        return [m for m in self.modules() if isinstance(m, _Norm)]

    def statistics(self) -> list[np.ndarray]:
        """Copies of BatchNorm's running statistics, in a fixed order."""
        return [t.detach().cpu().numpy().copy() for t in self.buffers()]

    def set_statistics(self, arrays: Sequence[np.ndarray]) -> None:
        """Take what `statistics` gave; raises ValueError for others."""
        with torch.no_grad():
            for t, a in zip(self.buffers(), arrays, strict=True):
                t.copy_(torch.from_numpy(a))

    def get_arrays(self) -> tuple[np.ndarray, ...]:
        """Copies of weights and statistics, float32, in a fixed order."""
        return tuple(t.detach().cpu().numpy().copy() for t in self.state_dict().values())

    def set_arrays(self, arrays: Sequence[np.ndarray]) -> None:
        """Take what `get_arrays` gave; raises ValueError for others."""
        with torch.no_grad():
            for t, a in zip(self.state_dict().values(), arrays, strict=True):
                t.copy_(torch.from_numpy(np.ascontiguousarray(a)))


def to_onnx(network: Cytonet) -> Any:
    """The network as ordinary convolutions in an ONNX graph with the contract of `cervicyte.networks.onnx_graphs`.

    Kernels are kept as float16; see `folded`.
    """
    network.eval()
    graph = _Graph()
    x = graph.convolution("pixels", network.stem, network.stem_norm, relu=True)
    for block in network.blocks:
        assert isinstance(block, _Block)
        y = graph.convolution(x, block.first, block.first_norm, relu=True)
        y = graph.convolution(y, block.second, block.second_norm)
        if block.around is not None:
            pooled = graph.node("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2])
            x = graph.convolution(pooled, block.around, block.around_norm)
        x = graph.node("Relu", [graph.node("Add", [x, y])])
    x = graph.convolution(x, network.last, network.last_norm, relu=True)
    shape = network.shape
    side = shape.side // 16
    apart = graph.constant(np.array([0, shape.dimension, ORIENTATIONS, side, side], dtype=np.int64))
    axes = graph.constant(np.array([2], dtype=np.int64))
    x = graph.node("ReduceMean", [graph.node("Reshape", [x, apart]), axes], keepdims=0)
    ends = (
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, shape.side, shape.side])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["N", shape.dimension, side, side])],
    )
    plain = helper.make_graph(graph.nodes, "cytonet", *ends, graph.constants)
    model = helper.make_model(plain, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    wrapped = wrap(model, "tf", shape.side)
    checker.check_model(wrapped)
    return wrapped


class _Graph:
    """Nodes and constants of an ONNX graph, named as they come."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, values: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def convolution(self, x: str, layer: Any, norm: _Norm | None, relu: bool = False) -> str:
        assert norm is not None
        kernel, shift = (t.cpu().numpy() for t in folded(layer, norm))
        weights = self.node("Cast", [self.constant(kernel.astype(np.float16))], to=TensorProto.FLOAT)
        inputs = [x, weights, self.constant(shift)]
        y = self.node("Conv", inputs, strides=[layer.stride] * 2, pads=[layer.padding] * 4)
        return self.node("Relu", [y]) if relu else y
