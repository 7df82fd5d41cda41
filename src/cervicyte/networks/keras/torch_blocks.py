"""The last blocks of a Keras network as a plain PyTorch module, which trains half again as fast on a processor.

Keras on PyTorch turns every tensor from channels-last to channels-first and back around each convolution and
spells BatchNorm out in single steps; here the layout is changed once, and each layer is one call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from cervicyte.errors import UsageError


class TailNetwork(torch.nn.Module):
    """The layers of a functional Keras model, run in PyTorch; BatchNorm statistics are constants.

    Takes float (n, c, h, w) and gives float (n, d, h', w').

    Parameters
    ----------
    model : keras.Model with one input and one output; its weights are copied

    Raises
    ------
    UsageError : a layer that no tail of the registry has
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._steps: list[tuple[str, Callable[..., torch.Tensor], list[str]]] = []
        names = {layer.name for layer in model.layers}
        for layer in model.layers:
            kind = type(layer).__name__
            if kind == "InputLayer":
                self._input = layer.name
                continue
            inputs = layer.input if isinstance(layer.input, list | tuple) else [layer.input]
            sources = [t._keras_history.operation.name for t in inputs]
            # The model's own input stands for the layer at which the whole network was cut.
            sources = [name if name in names else self._input for name in sources]
            make = _MAKERS.get(kind)
            if make is None:
                raise UsageError("a layer that fine-tuning does not know", f"{kind} {layer.name!r}")
            step = make(layer)
            if isinstance(step, torch.nn.Module):
                self.add_module(layer.name.replace(".", "_"), step)
            self._steps.append((layer.name, step, sources))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the layers in order."""
        known = {self._input: x}
        for name, step, sources in self._steps:
            x = step(*(known[source] for source in sources))
            known[name] = x
        return x

    def get_arrays(self) -> tuple[np.ndarray, ...]:
        """Copies of all trainable weights, float32, in a fixed order."""
        return tuple(p.detach().cpu().numpy().copy() for p in self.parameters())

    def set_arrays(self, arrays: Sequence[np.ndarray]) -> None:
        """Take weights that `get_arrays` gave; raises ValueError for others."""
        with torch.no_grad():
            for p, a in zip(self.parameters(), arrays, strict=True):
                p.copy_(torch.from_numpy(np.ascontiguousarray(a)))


class _Convolution(torch.nn.Module):
    """Conv2D and DepthwiseConv2D with Keras' padding."""

    def __init__(self, kernel: np.ndarray, bias: np.ndarray | None, layer: Any, groups: int = 1) -> None:
        super().__init__()
        self.kernel = torch.nn.Parameter(torch.from_numpy(np.ascontiguousarray(kernel)))
        self.bias = None if bias is None else torch.nn.Parameter(torch.from_numpy(bias.copy()))
        self.strides, self.groups = tuple(layer.strides), groups
        self.same = layer.padding == "same"
        _only(layer, dilation_rate=(1, 1), activation="linear")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padding: tuple[int, ...] = (0, 0)
        if self.same:
            left, right, top, bottom = _same(x, self.kernel.shape[2:], self.strides)
            if left == right and top == bottom:
                padding = (top, left)
            else:
                x = functional.pad(x, (left, right, top, bottom))
        return functional.conv2d(x, self.kernel, self.bias, self.strides, padding, 1, self.groups)


class _BatchNorm(torch.nn.Module):
    """BatchNormalization with its statistics frozen; scale and shift are trained, where the layer has them."""

    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self, layer: Any) -> None:
        super().__init__()
        mean, variance = np.asarray(_numpy(layer.moving_mean)), np.asarray(_numpy(layer.moving_variance))
        self.gamma = None if layer.gamma is None else torch.nn.Parameter(torch.from_numpy(_numpy(layer.gamma).copy()))
        self.beta = None if layer.beta is None else torch.nn.Parameter(torch.from_numpy(_numpy(layer.beta).copy()))
        self.register_buffer("mean", torch.from_numpy(mean.copy()))
        self.register_buffer("variance", torch.from_numpy(variance.copy()))
        self.epsilon = float(layer.epsilon)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.batch_norm(x, self.mean, self.variance, self.gamma, self.beta, False, 0.0, self.epsilon)


class _Separable(torch.nn.Module):
    """SeparableConv2D: a convolution for each channel, then one over channels."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        _only(layer, depth_multiplier=1)
        self.each = _Convolution(_depthwise(layer.depthwise_kernel), None, layer, groups=layer.input.shape[-1])
        across = _numpy(layer.pointwise_kernel).transpose(3, 2, 0, 1)
        self.across = torch.nn.Parameter(torch.from_numpy(np.ascontiguousarray(across)))
        self.bias = torch.nn.Parameter(torch.from_numpy(_numpy(layer.bias).copy())) if layer.use_bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(self.each(x), self.across, self.bias)


def _convolution(layer: Any) -> _Convolution:
    _only(layer, groups=1)
    return _Convolution(
        _numpy(layer.kernel).transpose(3, 2, 0, 1), _numpy(layer.bias) if layer.use_bias else None, layer
    )


def _depthwise_convolution(layer: Any) -> _Convolution:
    _only(layer, depth_multiplier=1)
    bias = _numpy(layer.bias) if layer.use_bias else None
    return _Convolution(_depthwise(layer.kernel), bias, layer, groups=layer.input.shape[-1])


def _activation(layer: Any) -> Callable[..., torch.Tensor]:
    return {"relu": functional.relu, "linear": lambda x: x}[layer.activation.__name__]


def _relu(layer: Any) -> Callable[..., torch.Tensor]:
    if layer.max_value is None:
        return functional.relu
    most = float(layer.max_value)
    return lambda x: functional.hardtanh(x, 0.0, most)


def _zero_padding(layer: Any) -> Callable[..., torch.Tensor]:
    (top, bottom), (left, right) = layer.padding
    return lambda x: functional.pad(x, (left, right, top, bottom))


def _max_pooling(layer: Any) -> Callable[..., torch.Tensor]:
    size, strides, same = tuple(layer.pool_size), tuple(layer.strides), layer.padding == "same"

    def pool(x: torch.Tensor) -> torch.Tensor:
        if same:
            x = functional.pad(x, _same(x, size, strides), value=float("-inf"))
        return functional.max_pool2d(x, size, strides)

    return pool


def _average_pooling(layer: Any) -> Callable[..., torch.Tensor]:
    size, strides, same = tuple(layer.pool_size), tuple(layer.strides), layer.padding == "same"

    def pool(x: torch.Tensor) -> torch.Tensor:
        left, right, top, bottom = _same(x, size, strides) if same else (0, 0, 0, 0)
        if (left, top) != (right, bottom):
            raise UsageError("an average over a window that is not centred", f"{layer.name!r} on {tuple(x.shape)}")
        return functional.avg_pool2d(x, size, strides, (top, left), count_include_pad=False)

    return pool


def _scaled_sum(layer: Any) -> Callable[..., torch.Tensor]:
    scale = float(layer.scale)
    return lambda x, branch: x + branch * scale


#: What each kind of layer becomes: those that the tails of the registry hold.
_MAKERS: dict[str, Callable[[Any], Callable[..., torch.Tensor]]] = {
    "Conv2D": _convolution,
    "DepthwiseConv2D": _depthwise_convolution,
    "SeparableConv2D": _Separable,
    "BatchNormalization": _BatchNorm,
    "Activation": _activation,
    "ReLU": _relu,
    "ZeroPadding2D": _zero_padding,
    "MaxPooling2D": _max_pooling,
    "AveragePooling2D": _average_pooling,
    "Add": lambda layer: lambda *parts: torch.stack(parts).sum(0) if len(parts) > 2 else parts[0] + parts[1],
    "Concatenate": lambda layer: lambda *parts: torch.cat(parts, 1),
    "CustomScaleLayer": _scaled_sum,
}


def _numpy(variable: Any) -> np.ndarray:
    return np.asarray(variable.numpy(), dtype=np.float32)


def _depthwise(kernel: Any) -> np.ndarray:
    return _numpy(kernel).transpose(2, 3, 0, 1)


def _same(x: torch.Tensor, size: Sequence[int], strides: Sequence[int]) -> tuple[int, int, int, int]:
    """Left, right, top, bottom of "same" padding, the odd pixel at the end."""
    ends = []
    for length, k, s in zip(x.shape[2:], size, strides, strict=True):
        total = max((-(-int(length) // s) - 1) * s + k - int(length), 0)
        ends.append((total // 2, total - total // 2))
    return (*ends[1], *ends[0])


def _only(layer: Any, **wanted: Any) -> None:
    for name, value in wanted.items():
        actual = getattr(layer, name)
        actual = getattr(actual, "__name__", actual)
        if (tuple(actual) if isinstance(actual, list) else actual) != value:
            raise UsageError("a layer that fine-tuning does not know", f"{layer.name!r} with {name} {actual!r}")
